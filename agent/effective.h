/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration that is in effect, and the one that was read last: they differ in what waits for a restart. The main thread changes
 * them, the HTTP thread shows them.
 */
#ifndef COHORT_AGENT_EFFECTIVE_H
#define COHORT_AGENT_EFFECTIVE_H

#include "settings.h"
#include "writer.h"

#include <pthread.h>

struct effective {
    pthread_mutex_t lock;
    const char *file; /* NULL: none */
    struct settings running;
    struct settings wanted;
};

void effective_init(struct effective *e, const char *file);
void effective_deinit(struct effective *e);

/** Both become a copy of `s`. COHORT_ENOMEM. */
COHORT_NODISCARD int effective_start(struct effective *e, const struct settings *s);

/** {"file":PATH or null,"settings":[{"key","value","from","reload"[,"restart_for"]}, ...]} */
void effective_document(struct effective *e, struct writer *w);

#endif
