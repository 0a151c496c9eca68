/* SPDX-License-Identifier: Apache-2.0
 *
 * The HTTP server; see http.h.
 *
 * libmicrohttpd runs an epoll thread of its own for each socket. It calls on_url() and then on_request(), first when the headers are there, then for pieces
 * of the body, then with nothing more to come, when the route answers; and once more after a resume. Whatever is suspended
 * must be resumed before its daemon is stopped (it aborts otherwise): http_stop() closes the hub and the echo desk first,
 * which resume all and let nothing suspend again.
 */
#include "http.h"

#include "door.h"
#include "request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum {
    CONNECTION_TIMEOUT_S = 30,       /* of silence, streams and waiting echoes excepted */
    BODY_EXCESS_BYTES_MAX = 8 << 20, /* read and thrown away before the connection is cut, so that most clients see the 413 */
};

struct http_server {
    struct http *http;
    struct http_listener listener;
    struct MHD_Daemon *daemon;
};

struct http {
    struct agent_service service;
    struct http_server servers[HTTP_LISTENERS_MAX];
    int server_count;
};

static void on_completed(void *arg, struct MHD_Connection *connection, void **slot, enum MHD_RequestTerminationCode code)
{
    (void)arg;
    (void)connection;
    (void)code;
    struct request *request = *slot;
    if (request == NULL) {
        return;
    }
    if (request->echo != NULL) {
        echo_release(request->echo);
    }
    if (request->ask != NULL) {
        ask_release(request->ask);
    }
    if (request->measuring != NULL) {
        measure_release(request->measuring);
    }
    if (request->upload != NULL) {
        upload_release(request->upload);
    }
    writer_free(&request->body);
    free(request);
    *slot = NULL;
}

/* A client that asks whether it may send a body too large is told not to. */
static bool refused_early(struct request *request)
{
    const char *expects = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_EXPECT);
    const char *length = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (expects == NULL || length == NULL || strcasecmp(expects, "100-continue") != 0) {
        return false;
    }
    return strtoull(length, NULL, 10) > request->service->body_bytes_max;
}

static bool admitted(struct request *request, bool loopback)
{
    return door_admits(loopback, MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST),
                       MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_ORIGIN));
}

static enum MHD_Result take_body(struct request *request, const char *bytes, size_t len)
{
    size_t room = request->service->body_bytes_max - request->body.len;
    size_t part = request->body_excess > 0 || len > room ? 0 : len;
    if (part == 0) {
        request->body_excess += len;
        return request->body_excess > BODY_EXCESS_BYTES_MAX ? MHD_NO : MHD_YES;
    }
    writer_raw(&request->body, bytes, part);
    return request->body.failed ? MHD_NO : MHD_YES;
}

static enum MHD_Result answer_too_large(struct request *request)
{
    char text[160];
    snprintf(text, sizeof(text),
             "the data is larger than a message may be, %zu bytes; a stream may be larger: cohort send-file, POST /v1/stream",
             request->service->body_bytes_max);
    return answer_error(request, COHORT_ESIZE, text);
}

static enum MHD_Result route(struct request *request, const char *method, const char *path)
{
    char allow[ROUTE_ALLOW_MAX];
    if (request->body_excess > 0) {
        return answer_too_large(request);
    }
    if (strcmp(method, MHD_HTTP_METHOD_HEAD) == 0) {
        method = MHD_HTTP_METHOD_GET; /* libmicrohttpd leaves the body out */
    }
    const struct route *found = route_find(method, path, &request->rest, allow);
    if (found != NULL) {
        return found->answer(request);
    }
    if (allow[0] != '\0') {
        return answer_refusal(request, MHD_HTTP_METHOD_NOT_ALLOWED, "EMETHOD", "this path takes another method", allow);
    }
    return answer_refusal(request, MHD_HTTP_NOT_FOUND, "ENOPATH", "no such path", NULL);
}

/* The first that is heard of a request, its URL as it came; what this gives is in *slot from then on. */
static void *on_url(void *arg, const char *url, struct MHD_Connection *connection)
{
    struct http_server *server = arg;
    struct request *request = calloc(1, sizeof(*request));
    if (request != NULL) {
        request->service = &server->http->service;
        request->connection = connection;
        (void)query_check(url, request->wrong);
    }
    return request;
}

/* The headers are there. */
static enum MHD_Result begin(struct request *request, const struct http_server *server, const char *method, const char *path)
{
    request->begun = true;
    if (server->listener.tcp && !admitted(request, server->listener.loopback)) {
        return answer_refusal(request, MHD_HTTP_FORBIDDEN, "EORIGIN", "requests of web pages from elsewhere are refused", NULL);
    }
    if (request->wrong[0] != '\0') {
        return answer_error(request, COHORT_EINVAL, request->wrong);
    }
    if (route_uploads(method, path)) {
        return route_upload(request);
    }
    return refused_early(request) ? answer_too_large(request) : MHD_YES;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *path, const char *method,
                                  const char *version, const char *upload, size_t *upload_len, void **slot)
{
    (void)version;
    struct request *request = *slot;
    if (request == NULL) {
        return MHD_NO; /* no memory for it */
    }
    if (!request->begun) {
        return begin(request, arg, method, path);
    }
    if (*upload_len > 0 && request->upload != NULL) {
        upload_take(request->upload, connection, upload, upload_len);
        return MHD_YES;
    }
    if (*upload_len > 0) {
        enum MHD_Result result = take_body(request, upload, *upload_len);
        *upload_len = 0;
        return result;
    }
    return route(request, method, path);
}

static bool start_server(struct http_server *server, unsigned connections_max)
{
    server->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
                                      on_request, server, MHD_OPTION_LISTEN_SOCKET, (MHD_socket)server->listener.fd,
                                      MHD_OPTION_CONNECTION_LIMIT, connections_max, MHD_OPTION_CONNECTION_TIMEOUT,
                                      (unsigned)CONNECTION_TIMEOUT_S, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
                                      MHD_OPTION_URI_LOG_CALLBACK, on_url, server, MHD_OPTION_END);
    return server->daemon != NULL;
}

struct http *http_start(const struct agent_service *service, const struct http_listener *listeners, int count,
                        unsigned connections_max)
{
    struct http *http = calloc(1, sizeof(*http));
    if (http == NULL) {
        return NULL;
    }
    http->service = *service;
    for (; http->server_count < count; http->server_count++) {
        struct http_server *server = &http->servers[http->server_count];
        *server = (struct http_server){.http = http, .listener = listeners[http->server_count]};
        if (!start_server(server, connections_max)) {
            break;
        }
    }
    if (http->server_count == count) {
        return http;
    }
    for (int i = 0; i < http->server_count; i++) { /* the sockets stay with the caller, who closes them */
        (void)MHD_quiesce_daemon(http->servers[i].daemon);
        MHD_stop_daemon(http->servers[i].daemon);
    }
    free(http);
    return NULL;
}

void http_stop(struct http *http, uint32_t timeout_ms)
{
    if (http == NULL) {
        return;
    }
    MHD_socket listen_fds[HTTP_LISTENERS_MAX];
    for (int i = 0; i < http->server_count; i++) {
        listen_fds[i] = MHD_quiesce_daemon(http->servers[i].daemon);
    }
    desk_close(http->service.echoes);
    desk_close(http->service.asks);
    desk_close(http->service.uploads);
    downloads_close(http->service.downloads);
    measure_close(http->service.measure);
    hub_close(http->service.hub, timeout_ms);
    desk_drain(http->service.echoes, timeout_ms);
    desk_drain(http->service.asks, timeout_ms);
    desk_drain(http->service.uploads, timeout_ms);
    downloads_drain(http->service.downloads, timeout_ms);
    measure_drain(http->service.measure, timeout_ms);
    for (int i = 0; i < http->server_count; i++) {
        MHD_stop_daemon(http->servers[i].daemon);
        if (listen_fds[i] != MHD_INVALID_SOCKET) {
            close(listen_fds[i]);
        }
    }
    free(http);
}
