/* SPDX-License-Identifier: Apache-2.0
 * Timers of one owner in order of deadline: a pairing heap with intrusive nodes, so that setting one cannot fail
 * (Fredman et al., "The pairing heap", Algorithmica 1986). Equal deadlines fire in the order they were set. */
#ifndef COHORTI_TIMERS_H
#define COHORTI_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

#define COHORTI_NEVER UINT64_MAX

struct cohorti_timer {
    uint64_t deadline_ns; /* COHORTI_NEVER when not set */
    uint64_t order;
    uint8_t kind;                              /* the owner's, to tell its timers apart; not looked at */
    struct cohorti_timer *child, *next, *prev; /* prev: the parent for a first child */
};

struct cohorti_timers {
    struct cohorti_timer *root;
    uint64_t order_next;
};

void cohorti_timers_init(struct cohorti_timers *t);
void cohorti_timer_init(struct cohorti_timer *timer);
/** Set or move. A deadline of COHORTI_NEVER cancels. */
void cohorti_timer_set(struct cohorti_timers *t, struct cohorti_timer *timer, uint64_t deadline_ns);
void cohorti_timer_cancel(struct cohorti_timers *t, struct cohorti_timer *timer);
bool cohorti_timer_is_set(const struct cohorti_timer *timer);
/** Earliest deadline, COHORTI_NEVER when there is none. */
uint64_t cohorti_timers_deadline(const struct cohorti_timers *t);
/** Take out and return the earliest timer with deadline <= now, or NULL. */
struct cohorti_timer *cohorti_timers_pop(struct cohorti_timers *t, uint64_t now_ns);

#endif
