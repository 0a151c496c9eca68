/* SPDX-License-Identifier: Apache-2.0
 *
 * calls: requests of ours to one peer that wait for their reply. Each is taken out exactly once: by its reply, its deadline, its caller,
 * or the end of the session; whoever takes it completes it. Numbers are not used again within a process, so a reply that comes
 * late finds nothing.
 */
#ifndef COHORTI_CORE_CALLS_H
#define COHORTI_CORE_CALLS_H

#include "base/list.h"
#include "base/timers.h"

#include <cohort/error.h>
#include <cohort/types.h>

/** Whose call it is; not looked at. */
struct cohorti_caller {
    void *fn;
    void *arg;
};

#define COHORTI_CALL_CLASSES 4

struct cohorti_call;

/* Those with the same time for a reply, which is over in the order in which they were made. */
struct cohorti_call_class {
    uint32_t timeout_ms;
    struct cohorti_list waiting;
};

struct cohorti_calls {
    const cohort_allocator *alloc;
    struct cohorti_call **slots; /* by the low bits of the number */
    uint32_t slot_count;         /* a power of two, or 0 */
    uint32_t count, max, spare_count;
    struct cohorti_call *spare; /* used ones, kept so that a steady exchange allocates nothing */
    struct cohorti_list by_age; /* the oldest first */
    struct cohorti_call_class classes[COHORTI_CALL_CLASSES];
    struct cohorti_timers others; /* times for which there was no class */
    uint64_t next_id;
};

/** Must stay where it was initialised. first_id: where numbers begin; of a process that came before, others must have been used. */
void cohorti_calls_init(struct cohorti_calls *c, const cohort_allocator *alloc, uint32_t max, uint64_t first_id);
/** None may wait. */
void cohorti_calls_deinit(struct cohorti_calls *c);

/** `id`: its number, higher than all before. timeout_ms 0: no deadline; *deadline_ns is COHORTI_NEVER then. COHORT_ELIMIT, COHORT_ENOMEM. */
COHORT_NODISCARD int cohorti_calls_add(struct cohorti_calls *c, const struct cohorti_caller *caller, uint64_t now_ns,
                                       uint32_t timeout_ms, uint64_t *id, uint64_t *deadline_ns);

/* Each takes one out, or returns false. The caller then completes it. */

bool cohorti_calls_take(struct cohorti_calls *c, uint64_t id, struct cohorti_caller *out);
bool cohorti_calls_expire(struct cohorti_calls *c, uint64_t now_ns, struct cohorti_caller *out);
/** The oldest of those made before `end_id`, which was next_id then. Of another session are those that are made while these end. */
bool cohorti_calls_pop(struct cohorti_calls *c, uint64_t end_id, struct cohorti_caller *out);

/** Earliest deadline, COHORTI_NEVER when none waits. */
uint64_t cohorti_calls_deadline(const struct cohorti_calls *c);

#endif
