/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests to members made over HTTP, at a desk: to one, or to all.
 */
#ifndef COHORT_AGENT_ASK_H
#define COHORT_AGENT_ASK_H

#include "desk.h"
#include "writer.h"

struct ask_wait;

enum {
    ASK_TIMEOUT_MS_MAX = 600000,
    ASK_TIMEOUT_MS_DEFAULT = 5000,
};

struct ask {
    const char *to; /* NULL: every active member */
    const char *subject;
    const void *data;
    size_t data_len;
    uint32_t timeout_ms;
};

/** Send it. On COHORT_OK `out` must be released; otherwise the error of cohort_request(), or COHORT_ELIMIT. */
COHORT_NODISCARD int ask_begin(struct desk *desk, cohort_node *node, const struct ask *ask, struct ask_wait **out);

/** What came of it. */
struct ask_result {
    int status;              /* of one member; COHORT_OK for all */
    char text[256];          /* with an error: of the member, or the table's */
    struct writer *document; /* with COHORT_OK: {"from","data"}, or {"results":[...]} */
};

/** False: it has not ended; the connection is suspended and MHD calls its handler again later. Thread: HTTP. */
bool ask_answered(struct ask_wait *wait, struct MHD_Connection *connection, struct ask_result *out);

/** The connection is done with it; the completion may still come. */
void ask_release(struct ask_wait *wait);

#endif
