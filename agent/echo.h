/* SPDX-License-Identifier: Apache-2.0
 *
 * Echoes asked for over HTTP, at a desk.
 */
#ifndef COHORT_AGENT_ECHO_H
#define COHORT_AGENT_ECHO_H

#include "desk.h"

struct echo_wait;

enum {
    ECHO_BYTES_MAX = 32752,
    ECHO_TIMEOUT_MS_MAX = 60000,
};

/**
 * Send an echo. On COHORT_OK `out` must be released; otherwise the error of cohort_echo(), or COHORT_ELIMIT.
 */
COHORT_NODISCARD int echo_begin(struct desk *desk, cohort_node *node, const char *id, size_t size, uint32_t timeout_ms,
                                struct echo_wait **out);

/**
 * False: the answer is not there; the connection is suspended and MHD calls its handler again later. True: `status` and
 * `rtt_ns` are filled. Thread: HTTP.
 */
bool echo_answered(struct echo_wait *wait, struct MHD_Connection *connection, int *status, uint64_t *rtt_ns);

/** The connection is done with it; the completion may still come. */
void echo_release(struct echo_wait *wait);

#endif
