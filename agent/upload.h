/* SPDX-License-Identifier: Apache-2.0
 *
 * The body of an HTTP request as a stream to a member (POST /v1/stream): what comes is written at once, what there is no room for stays in
 * the client's socket. An upload is suspended while there is none, and when the body is over, until the member has acknowledged all of it.
 */
#ifndef COHORT_AGENT_UPLOAD_H
#define COHORT_AGENT_UPLOAD_H

#include "desk.h"

enum {
    UPLOAD_IDLE_MS_DEFAULT = 60000,
    UPLOAD_IDLE_MS_MAX = 86400000
};

struct upload;

struct upload_plan {
    const char *to, *subject;
    uint64_t total;   /* COHORT_TOTAL_UNKNOWN: the body's end says */
    uint32_t idle_ms; /* given up when nothing is taken for so long */
};

/** On COHORT_OK `out` must be released; otherwise the error of cohort_stream_open(), or COHORT_ELIMIT. */
COHORT_NODISCARD int upload_begin(struct desk *desk, cohort_node *node, const struct upload_plan *plan, struct upload **out);

/** Take what there is room for of *len bytes, and leave in *len what there was not: the connection is suspended then. Of a stream that is lost
 * everything is taken, and dropped. Thread: HTTP, as the next. */
void upload_take(struct upload *upload, struct MHD_Connection *connection, const void *bytes, size_t *len);

/** The body is over. False: suspended. Else how it ended, and how many bytes were written. */
bool upload_ended(struct upload *upload, struct MHD_Connection *connection, int *status, uint64_t *bytes);

/** The connection is done with it; one that is not over is given up. */
void upload_release(struct upload *upload);

/** A member has room; argument: the desk. Thread: any. */
void upload_on_writable(cohort_node *node, const char *id, cohort_lane lane, void *desk);

#endif
