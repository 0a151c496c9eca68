/* SPDX-License-Identifier: Apache-2.0
 *
 * A broadcast that says whom it did not reach.
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
    bool local; /* also to the agent itself */
    /* What became of it. */
    size_t sent, missed;
    char whom[BROADCAST_WHOM_MAX]; /* missed: "b", "b, c", "b, c, d, e and 3 more" */
};

/** As cohort_broadcast_each(). */
COHORT_NODISCARD int broadcast_to_all(struct broadcast *b, cohort_node *node);

#endif
