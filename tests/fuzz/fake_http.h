/* SPDX-License-Identifier: Apache-2.0
 *
 * libmicrohttpd and the node as the agent's request handling sees them, without sockets or threads: fake_http.c defines the functions
 * of both that the agent calls, so that its real handlers run inside a fuzz target. The rules of libmicrohttpd that a handler can
 * break are checked: one response a request, none while suspended, no resume of what is not suspended, nothing left suspended.
 */
#ifndef COHORT_FUZZ_FAKE_HTTP_H
#define COHORT_FUZZ_FAKE_HTTP_H

#include "fuzz.h"

#include <cohort/cohort.h>
#include <microhttpd.h>

#define FAKE_ARGUMENTS_MAX 16

struct fake_argument {
    char *name;
    char *value; /* NULL: none was given */
    size_t value_len;
};

struct MHD_Connection {
    struct fake_argument arguments[FAKE_ARGUMENTS_MAX];
    size_t argument_count;
    const char *expect, *content_length, *host, *origin; /* header values or NULL */
    bool suspended;
    struct MHD_Response *response; /* queued */
    unsigned status;
};

struct MHD_Response {
    unsigned references;
    char *bytes; /* a response of a buffer; else read */
    size_t len;
    MHD_ContentReaderCallback read;
    MHD_ContentReaderFreeCallback end;
    void *arg;
};

struct MHD_Daemon {
    MHD_AccessHandlerCallback on_request;
    void *on_request_arg;
    MHD_RequestCompletedCallback on_completed;
    void *on_completed_arg;
    void *(*on_url)(void *arg, const char *url, struct MHD_Connection *connection);
    void *on_url_arg;
};

/** What stands behind the agent during one run. */
struct fake_world {
    struct fuzz_input *in; /* decides what calls of the node return */
    struct MHD_Daemon daemon;
    struct MHD_Connection connection;
    char *url;  /* of the request, as it came */
    void *slot; /* of the request, as MHD keeps it */
    bool completed;
    size_t body_bytes_max;
    cohort_echo_fn echo_fn; /* an echo that waits, or NULL */
    void *echo_arg;
    cohort_result_fn result_fn; /* the same for a request */
    cohort_results_fn results_fn;
    void *result_arg;
};
extern struct fake_world fake;

void fake_init(struct fuzz_input *in, size_t body_bytes_max);
/** The node completes what waits, if anything does: with `status` and, as a reply, `data`. */
void fake_answer(int status, const void *data, size_t data_len);
/** The connection is over, as MHD ends it: the response is released, then on_completed(). Harmless the second time. */
void fake_complete(void);
void fake_deinit(void);

#endif
