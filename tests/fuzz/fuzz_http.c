/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's request handling: the real handlers, hub, echo desk and JSON writer, behind a libmicrohttpd and a node that the input
 * plays (fake_http.c). Whatever is asked, the answer is one status with valid JSON or whole server-sent events, and nothing leaks or
 * stays suspended.
 *
 * The stream of the input is  METHOD PATH?QUERY newline body;  the body also serves as the data of messages that arrive.
 */
#include "fake_http.h"
#include "fuzz.h"

#include "http.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define BODY_BYTES_MAX 300
#define STREAM_BYTES_MAX 65536

struct span {
    const uint8_t *at;
    size_t len;
};

static struct span take_until(struct span *rest, uint8_t separator)
{
    struct span taken = *rest;
    const uint8_t *end = rest->len == 0 ? NULL : memchr(rest->at, separator, rest->len);
    if (end == NULL) {
        *rest = (struct span){rest->at + rest->len, 0};
        return taken;
    }
    taken.len = (size_t)(end - rest->at);
    rest->at = end + 1;
    rest->len -= taken.len + 1;
    return taken;
}

static int hex(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

/* %XX as libmicrohttpd does it; a zero byte may come out. */
static char *decode(struct span s, size_t *len)
{
    char *out = fuzz_copy_string(s.at, s.len);
    size_t at = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] == '%' && i + 2 < s.len && hex(s.at[i + 1]) >= 0 && hex(s.at[i + 2]) >= 0) {
            out[at++] = (char)(hex(s.at[i + 1]) << 4 | hex(s.at[i + 2]));
            i += 2;
        } else {
            out[at++] = (char)s.at[i];
        }
    }
    out[at] = '\0';
    *len = at;
    return out;
}

static void parse_query(struct span query)
{
    while (query.len > 0 && fake.connection.argument_count < FAKE_ARGUMENTS_MAX) {
        struct span value = take_until(&query, '&');
        bool has_value = memchr(value.at, '=', value.len) != NULL;
        struct fake_argument *argument = &fake.connection.arguments[fake.connection.argument_count++];
        size_t name_len = 0;
        argument->name = decode(take_until(&value, '='), &name_len);
        argument->value = has_value ? decode(value, &argument->value_len) : NULL;
    }
}

/* ---- answers ------------------------------------------------------------------------------------------------------- */

static void check_json(const char *text, size_t len)
{
    json_error_t error;
    json_t *json = json_loadb(text, len, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
    FUZZ_CHECK(json_is_object(json));
    json_decref(json);
}

static void check_answer(const struct MHD_Response *response, unsigned status)
{
    FUZZ_CHECK(response->len > 0 && response->bytes[response->len - 1] == '\n');
    check_json(response->bytes, response->len);
    bool error = strncmp(response->bytes, "{\"error\":", 9) == 0;
    FUZZ_CHECK(error == (status != 200));
}

/* Whole events: lines of the three kinds, each event ended by an empty line, and JSON as data. */
static void check_events(const char *text, size_t len)
{
    struct span rest = {(const uint8_t *)text, len};
    FUZZ_CHECK(len == 0 || (len >= 2 && memcmp(text + len - 2, "\n\n", 2) == 0));
    while (rest.len > 0) {
        struct span line = take_until(&rest, '\n');
        const char *at = (const char *)line.at;
        if (line.len >= 6 && memcmp(at, "data: ", 6) == 0) {
            check_json(at + 6, line.len - 6);
        } else {
            FUZZ_CHECK(line.len == 0 || at[0] == ':' || (line.len > 7 && memcmp(at, "event: ", 7) == 0));
        }
    }
}

static void produce(struct hub *hub, struct fuzz_input *in, struct span body)
{
    uint8_t how = fuzz_choice(in);
    const cohort_message message = {.from = "b",
                                    .subject = how % 3 == 0 ? "#7" : "news",
                                    .type = how % 3 == 0 ? 7 : 0,
                                    .raw = how % 3 == 0,
                                    .legacy = how % 2 == 0,
                                    .data = body.at,
                                    .data_len = body.len};
    cohort_event event = {.type = (cohort_event_type)(1 + how % 4), .member = {.id = "b", .ip = "127.0.0.1"}, .reason = -(how % 64)};
    const cohort_undelivered lost = {.to = "b", .subject = "news", .reason = -(how % 64), .data = body.at, .data_len = body.len};
    if (how % 8 == 7) {
        hub_keep_alive(hub);
    } else if (how % 8 == 5) {
        hub_on_undelivered(NULL, &lost, hub);
    } else if (how % 2 == 0) {
        hub_on_message(NULL, &message, hub);
    } else {
        hub_on_event(NULL, &event, hub);
    }
}

/* Read a stream to its end, with things happening meanwhile. */
static void read_stream(struct hub *hub, struct fuzz_input *in, struct span body)
{
    static char text[STREAM_BYTES_MAX];
    size_t len = 0;
    struct MHD_Response *response = fake.connection.response;
    bool closed = false;
    for (;;) {
        size_t want = 1 + (size_t)(uint8_t)~fuzz_choice(in) * 16;
        FUZZ_CHECK(sizeof(text) - len >= want);
        ssize_t got = fake.connection.suspended ? 0 : response->read(response->arg, len, text + len, want);
        FUZZ_CHECK(got == MHD_CONTENT_READER_END_OF_STREAM || (got >= 0 && (size_t)got <= want));
        FUZZ_CHECK(got != 0 || fake.connection.suspended); /* else MHD would ask again at once */
        if (got == MHD_CONTENT_READER_END_OF_STREAM) {
            break;
        }
        len += (size_t)got;
        if (fuzz_choices_left(in) && len < sizeof(text) / 2) {
            produce(hub, in, body);
        } else if (!closed) {
            closed = true;
            hub_close(hub, 0);
        }
    }
    FUZZ_CHECK(closed);
    check_events(text, len);
}

/* ---- requests ------------------------------------------------------------------------------------------------------ */

static enum MHD_Result call(const char *path, const char *method, const uint8_t *body, size_t len)
{
    size_t left = len;
    uint8_t *piece = fuzz_copy(body, len);
    enum MHD_Result result = fake.daemon.on_request(fake.daemon.on_request_arg, &fake.connection, path, method, "HTTP/1.1",
                                                    (const char *)piece, &left, &fake.slot);
    free(piece);
    FUZZ_CHECK(left == 0);
    return result;
}

/* What libmicrohttpd gives the first of only one of. */
static bool has_argument_twice(void)
{
    bool twice = false;
    for (size_t i = 0; i < fake.connection.argument_count; i++) {
        for (size_t k = 0; k < i; k++) {
            const struct fake_argument *a = &fake.connection.arguments[i], *b = &fake.connection.arguments[k];
            twice = twice || (strcmp(a->name, b->name) == 0 && (a->name[0] != '\0' || a->value != NULL));
        }
    }
    return twice;
}

/* As libmicrohttpd calls its handler. False: the connection is cut. */
static bool ask(const struct agent_service *service, struct fuzz_input *in, const char *path, const char *method, struct span body)
{
    fake.slot = fake.daemon.on_url(fake.daemon.on_url_arg, fake.url, &fake.connection);
    FUZZ_CHECK(fake.slot != NULL);
    if (call(path, method, NULL, 0) != MHD_YES) {
        return false;
    }
    for (size_t at = 0; at < body.len && fake.connection.response == NULL;) {
        size_t want = fuzz_choices_left(in) ? fuzz_choice(in) + 1u : body.len;
        size_t len = want < body.len - at ? want : body.len - at;
        if (call(path, method, body.at + at, len) != MHD_YES) {
            return false;
        }
        at += len;
    }
    while (fake.connection.response == NULL) {
        if (call(path, method, NULL, 0) != MHD_YES) {
            return false;
        }
        FUZZ_CHECK(fake.connection.suspended == (fake.connection.response == NULL));
        if (fake.connection.suspended && fuzz_choice(in) % 4 != 3) {
            FUZZ_CHECK(fake.echo_fn != NULL || fake.result_arg != NULL);
            fake_answer(-(int)(fuzz_choice(in) % 64), body.at, body.len);
        } else if (fake.connection.suspended) {
            desk_close(service->echoes);
            desk_close(service->asks);
        }
        FUZZ_CHECK(!fake.connection.suspended);
    }
    return true;
}

static void serve(struct fuzz_input *in, const char *path, const char *method, struct span body)
{
    uint8_t how = fuzz_choice(in);
    fake.connection.expect = (how & 1) != 0 ? "100-continue" : NULL;
    fake.connection.host = (how & 2) != 0 ? "evil.example" : "127.0.0.1:1";
    fake.connection.origin = (how & 4) != 0 ? "http://127.0.0.1:1" : NULL;
    fake.connection.content_length = (how & 2) != 0 ? "99999999999999999999" : (how & 4) != 0 ? "300" : NULL;
    const struct hub_limits limits = {.streams_max = (how & 8) != 0 ? 0 : 1, .requests_max = 2, .backlog_bytes_max = 1024};
    struct hub *hub = hub_new(&limits);
    uint32_t waits_max = (how & 16) != 0 ? 0 : 1;
    struct desk *echoes = desk_new(waits_max), *asks = desk_new(waits_max), *uploads = desk_new(waits_max);
    struct downloads *downloads = downloads_new(waits_max);
    struct effective effective;
    struct settings settings;
    effective_init(&effective, (how & 32) != 0 ? NULL : "/a/\"file\"");
    settings_init(&settings);
    FUZZ_CHECK(effective_start(&effective, &settings) == COHORT_OK);
    settings_free(&settings);
    const struct agent_service service = {.local_id = "a",
                                          .hub = hub,
                                          .echoes = echoes,
                                          .asks = asks,
                                          .uploads = uploads,
                                          .downloads = downloads,
                                          .effective = &effective,
                                          .body_bytes_max = BODY_BYTES_MAX};
    const struct http_listener listener = {.fd = -1, .tcp = (how & 64) != 0, .loopback = (how & 128) != 0};
    struct http *http = http_start(&service, &listener, 1, 4);
    FUZZ_CHECK(hub != NULL && echoes != NULL && asks != NULL && uploads != NULL && downloads != NULL && http != NULL);
    if (ask(&service, in, path, method, body)) {
        FUZZ_CHECK(!has_argument_twice() || fake.connection.status >= 400);
        if (fake.connection.response->read != NULL) {
            FUZZ_CHECK(fake.connection.status == 200);
            read_stream(hub, in, body);
        } else {
            check_answer(fake.connection.response, fake.connection.status);
        }
    }
    struct hub_stats stats;
    fake_complete();
    http_stop(http, 0);
    fake_answer(COHORT_ECLOSED, NULL, 0); /* the node completes what it took, whoever still wants to know */
    hub_stats_get(hub, &stats);
    FUZZ_CHECK(stats.streams_open == 0);
    hub_free(hub);
    desk_free(echoes);
    desk_free(asks);
    desk_free(uploads);
    downloads_free(downloads);
    effective_deinit(&effective);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_input in;
    fuzz_input_split(&in, data, len);
    fake_init(&in, BODY_BYTES_MAX);
    struct span body = {in.stream, in.stream_len};
    struct span query = take_until(&body, '\n');
    struct span method_text = take_until(&query, ' ');
    query.len = query.len == 0 ? 0 : strnlen((const char *)query.at, query.len); /* libmicrohttpd has strings */
    fake.url = fuzz_copy_string(query.at, query.len);
    struct span path_text = take_until(&query, '?');
    size_t ignored = 0;
    char *method = fuzz_copy_string(method_text.at, method_text.len);
    char *path = decode(path_text, &ignored);
    parse_query(query);
    serve(&in, path, method, body);
    fake_deinit();
    free(fake.url);
    free(path);
    free(method);
    return 0;
}
