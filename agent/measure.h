/* SPDX-License-Identifier: Apache-2.0
 *
 * Measuring the way to a member: round trips, and then how much of messages it takes. It runs in the agent, on a thread of its own, one at
 * a time; an HTTP request waits for it at a desk.
 *
 * Round trips are echoes, which every cohort node answers. Messages go to the subject MEASURE_SUBJECT, for which every agent has a handler
 * that counts and drops; a node of something else counts them as unhandled. The end is a request to the same subject in the same lane:
 * when that is answered, with whatever, all before it were handled.
 */
#ifndef COHORT_AGENT_MEASURE_H
#define COHORT_AGENT_MEASURE_H

#include "desk.h"
#include "writer.h"

#include <cohort/cohort.h>

#define MEASURE_SUBJECT "cohort.bench"

enum {
    MEASURE_MS_MAX = 60000,
    MEASURE_MS_DEFAULT = 2000,
    MEASURE_DEPTH_MAX = 64,
    MEASURE_BYTES_DEFAULT = 16384,
    MEASURE_BYTES_MAX = 16777216,
};

struct measure;
struct measure_wait;

struct measure_ask {
    const char *to;
    size_t bytes;   /* of a message */
    uint32_t ms;    /* of each of the two */
    uint32_t depth; /* echoes under way */
    cohort_lane lane;
};

/** What was taken of measurements of other agents. */
struct measure_taken {
    uint64_t messages, bytes;
};

/** NULL: out of memory. */
struct measure *measure_new(void);
/** Take what others measure with. Before the node starts. */
COHORT_NODISCARD int measure_serve(struct measure *measure, cohort_node *node);
void measure_taken(struct measure *measure, struct measure_taken *out);
/** End what runs and whoever waits for it; the node still stands. Then wait until they are answered, but no longer than this. */
void measure_close(struct measure *measure);
void measure_drain(struct measure *measure, uint32_t timeout_ms);
/** After that, and before the node is closed: no thread of it uses the node any more. */
void measure_join(struct measure *measure);
void measure_free(struct measure *measure);

/**
 * Begin. On COHORT_OK `out` must be released.
 *
 *   COHORT_ENOPEER, COHORT_EINACTIVE, COHORT_ELEGACY: of the member.
 *   COHORT_ELIMIT: another one runs. COHORT_ENOMEM, COHORT_ECLOSED.
 */
COHORT_NODISCARD int measure_begin(struct measure *measure, cohort_node *node, const struct measure_ask *ask,
                                   struct measure_wait **out);
/** False: it runs; the connection is suspended and MHD calls its handler again later. With COHORT_OK there is a document. Thread: HTTP. */
bool measure_answered(struct measure_wait *wait, struct MHD_Connection *connection, int *status, struct writer **document);
void measure_release(struct measure_wait *wait);

#endif
