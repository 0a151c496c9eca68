/* SPDX-License-Identifier: Apache-2.0
 *
 * The HTTP server on the control socket: one thread of libmicrohttpd, which never waits for anything but its sockets.
 */
#ifndef COHORT_AGENT_HTTP_H
#define COHORT_AGENT_HTTP_H

#include "echo.h"
#include "hub.h"

#include <cohort/cohort.h>

/** What requests are answered from. */
struct agent_service {
    cohort_node *node;
    const char *local_id;
    const char *definition_path; /* NULL: none */
    struct hub *hub;
    struct echo_desk *echoes;
    size_t body_bytes_max;
};

struct http;

/**
 * Serve `service` on a listening socket. Takes the socket on success only. NULL: it could not be started.
 */
struct http *http_start(const struct agent_service *service, int listen_fd, unsigned connections_max);

/** End every stream and waiting request, then the server. The hub and the desk are closed by this, not freed. */
void http_stop(struct http *http, uint32_t timeout_ms);

#endif
