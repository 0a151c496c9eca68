/* SPDX-License-Identifier: Apache-2.0
 *
 * calls: requests of ours to one peer that wait for their reply. Each is taken out exactly once: by its reply, its deadline, its caller,
 * or the end of the session; whoever takes it completes it. Numbers are not used again within a process, so a reply that comes
 * late finds nothing.
 */
#ifndef COHORTI_CORE_CALLS_H
#define COHORTI_CORE_CALLS_H

#include "base/list.h"
#include "base/map.h"
#include "base/timers.h"

#include <cohort/error.h>
#include <cohort/types.h>

struct cohorti_call {
    struct cohorti_map_node node;
    struct cohorti_timer timer;
    struct cohorti_list by_age;
    uint64_t id;
    void *fn; /* of the caller; not looked at */
    void *arg;
};

struct cohorti_calls {
    const cohort_allocator *alloc;
    struct cohorti_map by_id;
    struct cohorti_timers timers;
    struct cohorti_list by_age;     /* the oldest first */
    struct cohorti_map_node *spare; /* used ones, kept so that a steady exchange allocates nothing */
    uint32_t count, max, spare_count;
    uint64_t next_id;
};

/** Must stay where it was initialised. first_id: where numbers begin; of a process that came before, others must have been used. */
void cohorti_calls_init(struct cohorti_calls *c, const cohort_allocator *alloc, uint32_t max, uint64_t first_id);
/** None may wait. */
void cohorti_calls_deinit(struct cohorti_calls *c);

/** deadline_ns COHORTI_NEVER: none. COHORT_ELIMIT, COHORT_ENOMEM. */
COHORT_NODISCARD int cohorti_calls_add(struct cohorti_calls *c, uint64_t deadline_ns, struct cohorti_call **out);

/* Each takes one out, or gives NULL. The caller completes it and then gives it back with cohorti_calls_recycle(). */

struct cohorti_call *cohorti_calls_take(struct cohorti_calls *c, uint64_t id);
struct cohorti_call *cohorti_calls_expire(struct cohorti_calls *c, uint64_t now_ns);
/** The oldest of those made before `end_id`, which was next_id then. Of another session are those that are made while these end. */
struct cohorti_call *cohorti_calls_pop(struct cohorti_calls *c, uint64_t end_id);

void cohorti_calls_recycle(struct cohorti_calls *c, struct cohorti_call *call);

/** Earliest deadline, COHORTI_NEVER when none waits. */
uint64_t cohorti_calls_deadline(const struct cohorti_calls *c);

#endif
