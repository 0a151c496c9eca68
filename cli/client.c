/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests to the agent; see client.h.
 */
#include "client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    ANSWER_BYTES_MAX = 64 << 20,
    ANSWER_TIMEOUT_MS = 10000,
    SILENCE_S = 30, /* a stream carries a keep-alive every few seconds */
};

__attribute__((format(printf, 2, 3))) static int complain(const struct client *client, const char *format, ...)
{
    if (!client->quiet) {
        va_list arguments;
        va_start(arguments, format);
        fprintf(stderr, "cohort %s: ", client->command);
        vfprintf(stderr, format, arguments);
        fprintf(stderr, "\n");
        va_end(arguments);
    }
    return EXIT_FAILED;
}

/* In a directory where others may create files, somebody could wait for our messages under our name. */
static bool is_ours(const struct client *client)
{
    struct stat found;
    return lstat(client->path, &found) != 0 || found.st_uid == geteuid();
}

/* Nothing at the default place, but the service of this machine runs: it is meant. $COHORT_CONTROL names a place as --control does. */
static void prefer_service(struct client *client)
{
    const char *given = getenv("COHORT_CONTROL");
    if ((given == NULL || given[0] == '\0') && access(client->path, F_OK) != 0 && access(CONTROL_SERVICE_PATH, F_OK) == 0) {
        memcpy(client->path, CONTROL_SERVICE_PATH, sizeof(CONTROL_SERVICE_PATH));
    }
}

int client_open(struct client *client, const char *command, const char *control)
{
    char why[CONTROL_WHY_MAX];
    bool shared = false;
    memset(client, 0, sizeof(*client));
    client->command = command;
    if (control != NULL) {
        if (strlen(control) > CONTROL_PATH_MAX || control[0] == '\0') {
            return complain(client, "the control path must have 1 to %d bytes: %s", (int)CONTROL_PATH_MAX, control);
        }
        memcpy(client->path, control, strlen(control) + 1);
    } else if (!control_default_path(client->path, &shared, why)) {
        return complain(client, "%s", why);
    }
    if (control == NULL) {
        prefer_service(client);
    }
    if (shared && !is_ours(client)) {
        return complain(client, "%s belongs to another user", client->path);
    }
    client->curl = curl_easy_init();
    return client->curl != NULL ? EXIT_FINE : complain(client, "out of memory");
}

void client_close(struct client *client)
{
    curl_easy_cleanup(client->curl);
    free(client->body);
    memset(client, 0, sizeof(*client));
}

/* ---- urls ---- */

struct text {
    char *bytes;
    size_t len;
    bool failed;
};

static void append(struct text *text, const char *more)
{
    size_t len = strlen(more);
    char *grown = text->failed ? NULL : realloc(text->bytes, text->len + len + 1);
    if (grown == NULL) {
        text->failed = true;
        return;
    }
    memcpy(grown + text->len, more, len + 1);
    text->bytes = grown;
    text->len += len;
}

static void append_escaped(struct text *text, CURL *curl, const char *value)
{
    char *escaped = curl_easy_escape(curl, value, (int)strlen(value));
    if (escaped == NULL) {
        text->failed = true;
        return;
    }
    append(text, escaped);
    curl_free(escaped);
}

char *client_url(struct client *client, const char *path, const char *rest, ...)
{
    struct text text = {.bytes = NULL};
    append(&text, "http://cohort");
    append(&text, path);
    if (rest != NULL) {
        append_escaped(&text, client->curl, rest);
    }
    va_list arguments;
    va_start(arguments, rest);
    const char *separator = "?";
    for (const char *name; (name = va_arg(arguments, const char *)) != NULL; separator = "&") {
        append(&text, separator);
        append(&text, name);
        append(&text, "=");
        append_escaped(&text, client->curl, va_arg(arguments, const char *));
    }
    va_end(arguments);
    if (text.failed) {
        free(text.bytes);
        return NULL;
    }
    return text.bytes;
}

/* ---- requests ---- */

static size_t on_body(char *bytes, size_t size, size_t count, void *arg)
{
    struct client *client = arg;
    size_t len = size * count;
    if (client->body_len + len > ANSWER_BYTES_MAX) {
        client->body_too_large = true;
        return 0;
    }
    char *grown = realloc(client->body, client->body_len + len + 1);
    if (grown == NULL) {
        return 0;
    }
    memcpy(grown + client->body_len, bytes, len);
    client->body = grown;
    client->body_len += len;
    client->body[client->body_len] = '\0';
    return len;
}

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Asked on a connection of its own: with whatever it answers, it is there. */
static bool agent_lives(const struct client *client)
{
    struct client other;
    if (client_open(&other, client->command, client->path) != EXIT_FINE) {
        return false;
    }
    other.quiet = true;
    bool lives = client_get(&other, client_url(&other, "/v1/health", NULL, NULL)) == EXIT_FINE || other.status != 0;
    client_close(&other);
    return lives;
}

/* Called by curl about once a second. That nothing moves says nothing by itself: a member may be slow to acknowledge what its agent has
 * taken from us, and the agent has limits of its own for that. So it is asked, rather than given up after a while. */
static int on_progress(void *arg, curl_off_t in_total, curl_off_t in, curl_off_t out_total, curl_off_t out)
{
    (void)in_total;
    (void)in;
    (void)out_total;
    struct client *client = arg;
    if (out != client->sent) {
        client->sent = out;
        client->moved_ms = now_ms();
    } else if (now_ms() - client->moved_ms >= client->patience_ms) {
        client->hung = !agent_lives(client);
        client->moved_ms = now_ms();
    }
    return client->hung ? 1 : 0;
}

static void prepare(struct client *client, const char *url)
{
    CURL *curl = client->curl;
    curl_easy_reset(curl);
    free(client->body);
    client->body = NULL;
    client->body_len = 0;
    client->status = 0;
    client->body_too_large = false;
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, client->path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L); /* an id may be ".." */
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, client);
    if (client->patience_ms > 0) {
        client->moved_ms = now_ms();
        client->sent = 0;
        client->hung = false;
        curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(curl, CURLOPT_XFERINFODATA, client);
        curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    }
}

/* Say what the agent refused: {"error":{"code","text"}}. */
static int complain_refused(struct client *client)
{
    json_t *root = client->body != NULL ? json_loadb(client->body, client->body_len, 0, NULL) : NULL;
    json_t *error = json_object_get(root, "error");
    const char *code = json_string_value(json_object_get(error, "code"));
    const char *text = json_string_value(json_object_get(error, "text"));
    if (code != NULL && text != NULL) {
        const char *about = client->about == NULL ? "" : client->about[0] == '\0' ? "''" : client->about;
        complain(client, "%s%s%s (%s)", about, client->about != NULL ? ": " : "", text, code);
    } else {
        complain(client, "the agent at %s answered with HTTP status %ld", client->path, client->status);
    }
    json_decref(root);
    return EXIT_FAILED;
}

static int complain_unreached(struct client *client)
{
    struct stat found;
    long failed = 0; /* curl does not always know */
    curl_easy_getinfo(client->curl, CURLINFO_OS_ERRNO, &failed);
    if (stat(client->path, &found) == 0 && !S_ISSOCK(found.st_mode)) {
        return complain(client, "no agent at %s: it is not a socket", client->path);
    }
    return complain(client, "no agent at %s%s%s", client->path, failed != 0 ? ": " : "", failed != 0 ? strerror((int)failed) : "");
}

static int complain_transport(struct client *client, CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_CONNECT:
        return complain_unreached(client);
    case CURLE_OPERATION_TIMEDOUT:
        return complain(client, "the agent at %s does not answer", client->path);
    case CURLE_OUT_OF_MEMORY:
        return complain(client, "out of memory");
    case CURLE_ABORTED_BY_CALLBACK:
        return client->hung ? complain(client, "the agent at %s does not answer", client->path)
                            : EXIT_FAILED; /* who stopped it has said why */
    case CURLE_WRITE_ERROR:
        return complain(client, "an answer of the agent at %s is too large", client->path);
    default:
        return complain(client, "talking to the agent at %s failed: %s", client->path, curl_easy_strerror(code));
    }
}

static int perform(struct client *client, char *url)
{
    CURLcode code = curl_easy_perform(client->curl);
    free(url);
    if (code != CURLE_OK) {
        return complain_transport(client, code);
    }
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &client->status);
    return client->status / 100 == 2 ? EXIT_FINE : complain_refused(client);
}

int client_get(struct client *client, char *url)
{
    if (url == NULL) {
        return complain(client, "out of memory");
    }
    prepare(client, url);
    curl_easy_setopt(client->curl, CURLOPT_TIMEOUT_MS, (long)ANSWER_TIMEOUT_MS);
    return perform(client, url);
}

int client_post(struct client *client, char *url, const void *data, size_t len, uint32_t timeout_ms)
{
    if (url == NULL) {
        return complain(client, "out of memory");
    }
    prepare(client, url);
    curl_easy_setopt(client->curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms + ANSWER_TIMEOUT_MS);
    curl_easy_setopt(client->curl, CURLOPT_POST, 1L);
    curl_easy_setopt(client->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
    curl_easy_setopt(client->curl, CURLOPT_POSTFIELDS, len > 0 ? data : "");
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/octet-stream");
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
    int result = perform(client, url);
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    return result;
}

struct body {
    struct client *client;
    const struct client_source *source;
};

/* Waiting for what is to be sent is not waiting for the agent. */
static size_t on_source(char *buffer, size_t size, size_t count, void *arg)
{
    const struct body *body = arg;
    size_t got = body->source->read(buffer, size, count, body->source->arg);
    body->client->moved_ms = now_ms();
    return got;
}

int client_upload(struct client *client, char *url, const struct client_source *source)
{
    struct body body = {.client = client, .source = source};
    if (url == NULL) {
        return complain(client, "out of memory");
    }
    prepare(client, url);
    curl_easy_setopt(client->curl, CURLOPT_POST, 1L);
    curl_easy_setopt(client->curl, CURLOPT_READFUNCTION, on_source);
    curl_easy_setopt(client->curl, CURLOPT_READDATA, &body);
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/octet-stream");
    if (source->len >= 0) {
        curl_easy_setopt(client->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)source->len);
    } else {
        headers = curl_slist_append(headers, "Transfer-Encoding: chunked");
    }
    headers = curl_slist_append(headers, "Expect: 100-continue"); /* what is refused is not read first */
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
    int result = perform(client, url);
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    return result;
}

/* A request with no body, of another method than GET. */
static int without_body(struct client *client, char *url, const char *method)
{
    if (url == NULL) {
        return complain(client, "out of memory");
    }
    prepare(client, url);
    curl_easy_setopt(client->curl, CURLOPT_TIMEOUT_MS, (long)ANSWER_TIMEOUT_MS);
    curl_easy_setopt(client->curl, CURLOPT_CUSTOMREQUEST, method);
    return perform(client, url);
}

int client_put(struct client *client, char *url)
{
    return without_body(client, url, "PUT");
}

int client_delete(struct client *client, char *url)
{
    return without_body(client, url, "DELETE");
}

json_t *client_json(struct client *client)
{
    json_t *root = json_loadb(client->body != NULL ? client->body : "", client->body_len, JSON_ALLOW_NUL, NULL);
    if (!json_is_object(root)) {
        json_decref(root);
        complain(client, "the agent at %s gave an answer that is not understood", client->path);
        return NULL;
    }
    return root;
}

/* ---- streams ---- */

/* Headers are there when the subscription stands; an answer that is an error is kept as a body instead. */
static size_t on_header(char *bytes, size_t size, size_t count, void *arg)
{
    struct client_stream *stream = arg;
    size_t len = size * count;
    bool last = len == 2 && memcmp(bytes, "\r\n", 2) == 0;
    if (!last) {
        return len;
    }
    curl_easy_getinfo(stream->client->curl, CURLINFO_RESPONSE_CODE, &stream->client->status);
    if (stream->client->status == 200 && !stream->ready) {
        stream->ready = true;
        if (stream->on_ready != NULL) {
            stream->on_ready(stream->arg);
        }
    }
    return len;
}

static bool on_event(void *arg, const char *event, const char *data, size_t len)
{
    struct client_stream *stream = arg;
    stream->enough = !stream->on_event(stream->arg, event, data, len);
    return !stream->enough;
}

static size_t on_stream(char *bytes, size_t size, size_t count, void *arg)
{
    struct client_stream *stream = arg;
    if (stream->client->status != 200) {
        return on_body(bytes, size, count, stream->client);
    }
    return sse_feed(&stream->sse, bytes, size * count, on_event, stream) ? size * count : 0;
}

/* ---- bytes ---- */

static size_t on_bytes(char *bytes, size_t size, size_t count, void *arg)
{
    struct client_sink *sink = arg;
    if (sink->client->status != 200) {
        return on_body(bytes, size, count, sink->client);
    }
    sink->enough = !sink->take(sink->arg, bytes, size * count);
    return sink->enough ? 0 : size * count;
}

static size_t on_sink_header(char *bytes, size_t size, size_t count, void *arg)
{
    struct client_sink *sink = arg;
    if (size * count == 2 && memcmp(bytes, "\r\n", 2) == 0) {
        curl_easy_getinfo(sink->client->curl, CURLINFO_RESPONSE_CODE, &sink->client->status);
        if (sink->client->status == 200) {
            sink->on_ready(sink->arg);
        }
    }
    return size * count;
}

/* ---- answers without an end ---- */

/* Both callbacks get `arg`. */
static void prepare_endless(struct client *client, char *url, curl_write_callback take, curl_write_callback header, void *arg)
{
    prepare(client, url);
    curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, arg);
    curl_easy_setopt(client->curl, CURLOPT_HEADERFUNCTION, header);
    curl_easy_setopt(client->curl, CURLOPT_HEADERDATA, arg);
    curl_easy_setopt(client->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(client->curl, CURLOPT_LOW_SPEED_TIME, (long)SILENCE_S);
    free(url);
}

static int end_endless(struct client *client, CURLcode code, bool enough)
{
    if (enough) {
        return EXIT_FINE;
    }
    if (client->status != 0 && client->status != 200) {
        return complain_refused(client);
    }
    if (code == CURLE_OK || code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR) {
        return complain(client, "the agent at %s closed the stream", client->path);
    }
    return complain_transport(client, code);
}

int client_download(struct client *client, char *url, struct client_sink *sink)
{
    if (url == NULL) {
        return complain(client, "out of memory");
    }
    sink->client = client;
    prepare_endless(client, url, on_bytes, on_sink_header, sink);
    CURLcode code = curl_easy_perform(client->curl);
    return end_endless(client, code, sink->enough);
}

bool client_stream_prepare(struct client *client, char *url, struct client_stream *stream)
{
    if (url == NULL) {
        complain(client, "out of memory");
        return false;
    }
    stream->client = client;
    prepare_endless(client, url, on_stream, on_header, stream);
    return true;
}

void client_stream_end(struct client_stream *stream)
{
    sse_free(&stream->sse);
}

int client_stream_run(struct client *client, char *url, struct client_stream *stream)
{
    if (!client_stream_prepare(client, url, stream)) {
        return EXIT_FAILED;
    }
    CURLcode code = curl_easy_perform(client->curl);
    sse_free(&stream->sse);
    return end_endless(client, code, stream->enough);
}
