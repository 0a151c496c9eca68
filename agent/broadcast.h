/* SPDX-License-Identifier: Apache-2.0
 *
 * A broadcast that knows whom it did not reach: cohort_broadcast() says how many it was queued for and the first error, not whose that was.
 */
#ifndef COHORT_AGENT_BROADCAST_H
#define COHORT_AGENT_BROADCAST_H

#include <cohort/cohort.h>

enum {
    BROADCAST_NAMED_MAX = 4, /* of those it was not queued for; the rest is counted */
    BROADCAST_WHOM_MAX = BROADCAST_NAMED_MAX * (COHORT_ID_BYTES_MAX + 2) + 32
};

struct broadcast {
    const char *subject;
    const void *data;
    size_t data_len;
    const char *local_id; /* of the agent, which gets it with `local` only */
    bool local;
    /* What became of it. */
    size_t sent, missed;
    char whom[BROADCAST_WHOM_MAX]; /* missed: "b", "b, c", "b, c, d, e and 3 more" */
};

/** As cohort_broadcast() to those of `members` that are active, and as that when there is none. */
COHORT_NODISCARD int broadcast_to(struct broadcast *b, cohort_node *node, const cohort_member *members, size_t count);

#endif
