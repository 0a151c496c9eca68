/* SPDX-License-Identifier: Apache-2.0
 *
 * The HTTP server; see http.h.
 *
 * libmicrohttpd runs one epoll thread of its own. It calls on_request() first when the headers are there, then for pieces
 * of the body, then with nothing more to come, when the route answers; and once more after a resume. Whatever is suspended
 * must be resumed before the daemon is stopped (it aborts otherwise): http_stop() closes the hub and the echo desk first,
 * which resume all and let nothing suspend again.
 */
#include "http.h"

#include "request.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum {
    CONNECTION_TIMEOUT_S = 30,       /* of silence, streams and waiting echoes excepted */
    BODY_EXCESS_BYTES_MAX = 8 << 20, /* read and thrown away before the connection is cut, so that most clients see the 413 */
};

struct http {
    struct MHD_Daemon *daemon;
    struct agent_service service;
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

static enum MHD_Result route(struct request *request, const char *method, const char *path)
{
    const char *allow;
    if (request->body_excess > 0) {
        return answer_error(request, COHORT_ESIZE, "the body is larger than the limit of a message");
    }
    if (strcmp(method, MHD_HTTP_METHOD_HEAD) == 0) {
        method = MHD_HTTP_METHOD_GET; /* libmicrohttpd leaves the body out */
    }
    const struct route *found = route_find(method, path, &request->rest, &allow);
    if (found != NULL) {
        return found->answer(request);
    }
    if (allow != NULL) {
        return answer_refusal(request, MHD_HTTP_METHOD_NOT_ALLOWED, "EMETHOD", "this path takes another method", allow);
    }
    return answer_refusal(request, MHD_HTTP_NOT_FOUND, "ENOPATH", "no such path", NULL);
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *path, const char *method,
                                  const char *version, const char *upload, size_t *upload_len, void **slot)
{
    (void)version;
    struct request *request = *slot;
    if (request == NULL) {
        struct http *http = arg;
        request = calloc(1, sizeof(*request));
        if (request == NULL) {
            return MHD_NO;
        }
        request->service = &http->service;
        request->connection = connection;
        *slot = request;
        return refused_early(request) ? answer_error(request, COHORT_ESIZE, "the body is larger than the limit of a message")
                                      : MHD_YES;
    }
    if (*upload_len > 0) {
        enum MHD_Result result = take_body(request, upload, *upload_len);
        *upload_len = 0;
        return result;
    }
    return route(request, method, path);
}

struct http *http_start(const struct agent_service *service, int listen_fd, unsigned connections_max)
{
    struct http *http = calloc(1, sizeof(*http));
    if (http == NULL) {
        return NULL;
    }
    http->service = *service;
    http->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
                                    on_request, http, MHD_OPTION_LISTEN_SOCKET, (MHD_socket)listen_fd, MHD_OPTION_CONNECTION_LIMIT,
                                    connections_max, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)CONNECTION_TIMEOUT_S,
                                    MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_END);
    if (http->daemon == NULL) {
        free(http);
        return NULL;
    }
    return http;
}

void http_stop(struct http *http, uint32_t timeout_ms)
{
    if (http == NULL) {
        return;
    }
    MHD_socket listen_fd = MHD_quiesce_daemon(http->daemon);
    echo_desk_close(http->service.echoes);
    hub_close(http->service.hub, timeout_ms);
    MHD_stop_daemon(http->daemon);
    if (listen_fd != MHD_INVALID_SOCKET) {
        close(listen_fd);
    }
    free(http);
}
