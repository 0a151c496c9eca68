/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP requests that wait for the node: the connection is suspended until the result is there, the HTTP thread never waits.
 *
 * A wait is the first member of what its kind keeps with it. It has two holders: the HTTP request, and the completion the library owes us.
 * It goes when both are done, in either order: at shutdown the request ends first, and after a quick answer the completion is first.
 */
#ifndef COHORT_AGENT_DESK_H
#define COHORT_AGENT_DESK_H

#include <cohort/cohort.h>
#include <microhttpd.h>

struct desk;

struct desk_wait {
    struct desk_wait *next, *previous; /* among the waits of the desk */
    struct desk *desk;
    struct MHD_Connection *connection; /* valid while suspended */
    int holders;
    bool suspended;
    bool completed; /* what the completion wrote may be read */
    bool closed;    /* the desk was, before */
    bool woken;     /* since it was looked at */
};

enum desk_state {
    DESK_WAITS, /* the connection is suspended, and MHD calls its handler again later */
    DESK_WOKEN, /* it is not suspended: try again what it waits for */
    DESK_COMPLETED,
    DESK_CLOSED,
};

/** waits_max: at once. NULL: out of memory. */
struct desk *desk_new(uint32_t waits_max);
/** After the node is closed: then no completion can follow. */
void desk_free(struct desk *desk);
/** Everything that waits is DESK_CLOSED, now, and everything asked later too. */
void desk_close(struct desk *desk);
/** After that: wait until all HTTP requests that waited are answered, but no longer than this. */
void desk_drain(struct desk *desk, uint32_t timeout_ms);

/** One more, all zero, with two holders. COHORT_ELIMIT, COHORT_ECLOSED. */
COHORT_NODISCARD int desk_enter(struct desk *desk, struct desk_wait *wait);
/** The completion has written its result. Thread: any. */
void desk_complete(struct desk_wait *wait);
/** Everything that waits and is not completed is called again. Thread: any. */
void desk_wake(struct desk *desk);
/** Thread: HTTP. */
enum desk_state desk_look(struct desk_wait *wait, struct MHD_Connection *connection);
/** The completion, or the HTTP request, is done with it; or neither was. True: that was the last; it is to be freed. */
bool desk_leave_completed(struct desk_wait *wait);
bool desk_leave_answered(struct desk_wait *wait);
void desk_leave_unasked(struct desk_wait *wait); /* always the last */

#endif
