/* SPDX-License-Identifier: Apache-2.0
 *
 * echoes: questions of ours that wait for their answer on one link: PING to a cohort peer, which PONG answers; ECHO to a legacy
 * peer, where question and answer look the same.
 *
 * An ECHO that arrives is the answer to ours when its data equals that of one outstanding, the oldest first; otherwise it is a
 * question, and we answer with the same data. An answer that comes too late must not be taken for a question, or it goes round
 * for ever: so an echo that timed out stays, as a ghost that swallows its answer, until the link ends or room is needed.
 */
#ifndef COHORTI_CORE_ECHO_H
#define COHORTI_CORE_ECHO_H

#include "base/list.h"

#include <cohort/error.h>
#include <cohort/types.h>

struct cohorti_echo {
    struct cohorti_list node;
    uint64_t sent_ns;
    uint64_t deadline_ns;
    void *fn; /* of the caller; not looked at */
    void *arg;
    size_t data_len;
    uint8_t data[];
};

struct cohorti_echoes {
    const cohort_allocator *alloc;
    struct cohorti_list waiting; /* oldest first */
    struct cohorti_list ghosts;  /* oldest first; at most max */
    uint32_t count, ghost_count, max;
};

void cohorti_echoes_init(struct cohorti_echoes *e, const cohort_allocator *alloc, uint32_t max);

/** Remember one. COHORT_ELIMIT, COHORT_ENOMEM. *out is set on success, for cohorti_echoes_drop() if it could not be sent. */
COHORT_NODISCARD int cohorti_echoes_add(struct cohorti_echoes *e, uint64_t now_ns, uint64_t deadline_ns, const void *data,
                                        size_t len, struct cohorti_echo **out);
void cohorti_echoes_drop(struct cohorti_echoes *e, struct cohorti_echo *echo);

/* Each takes one out of the set, or gives NULL; the caller completes it and frees it with cohorti_echo_free(). */

/** The one this data answers. A ghost is freed here: *late says that the answer came too late for anybody. */
struct cohorti_echo *cohorti_echoes_match(struct cohorti_echoes *e, const void *data, size_t len, bool *late);
/** One that is due. Its ghost stays when there is memory for it. */
struct cohorti_echo *cohorti_echoes_expire(struct cohorti_echoes *e, uint64_t now_ns);
/** Any, when the link has ended; ghosts are freed. */
struct cohorti_echo *cohorti_echoes_pop(struct cohorti_echoes *e);
void cohorti_echo_free(const cohort_allocator *alloc, struct cohorti_echo *echo);

/** Earliest deadline, UINT64_MAX when none waits. */
uint64_t cohorti_echoes_deadline(const struct cohorti_echoes *e);

#endif
