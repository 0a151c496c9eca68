/* SPDX-License-Identifier: Apache-2.0
 *
 * The HTTP server on the control socket, and on a TCP address if asked: a thread of libmicrohttpd each, which waits for nothing but its
 * sockets and, to change members, for one turn of the node's control loop.
 */
#ifndef COHORT_AGENT_HTTP_H
#define COHORT_AGENT_HTTP_H

#include "ask.h"
#include "download.h"
#include "echo.h"
#include "effective.h"
#include "hub.h"
#include "measure.h"
#include "upload.h"

#include <cohort/cohort.h>

/** What requests are answered from. */
struct agent_service {
    cohort_node *node;
    const char *local_id;
    const char *definition_path; /* NULL: none */
    struct hub *hub;
    struct desk *echoes;
    struct desk *asks;           /* requests to members */
    struct desk *uploads;        /* streams to members */
    struct downloads *downloads; /* and from them */
    struct measure *measure;
    struct effective *effective; /* the configuration */
    size_t body_bytes_max;
};

struct http;

/** A listening socket. Where it is TCP, requests must pass door_admits(). */
struct http_listener {
    int fd;
    bool tcp;
    bool loopback;
};

/**
 * Serve `service` on listening sockets, at most HTTP_LISTENERS_MAX. Takes the sockets on success only. NULL: it could not be started.
 *
 * connections_max   on each of them.
 */
struct http *http_start(const struct agent_service *service, const struct http_listener *listeners, int count,
                        unsigned connections_max);

enum {
    HTTP_LISTENERS_MAX = 2
};

/** End every stream and waiting request, then the server. The hub and the desk are closed by this, not freed. */
void http_stop(struct http *http, uint32_t timeout_ms);

#endif
