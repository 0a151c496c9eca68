/* SPDX-License-Identifier: Apache-2.0
 *
 * Events of the simulated world in order of time, those of one time in the order they were set.
 *
 * Timing wheels (Varghese, Lauck, "Hashed and hierarchical timing wheels", SOSP 1987), six of 4096 slots: an event stands on the
 * wheel of the highest twelve bits in which its time differs from that of the last event. A thousand nodes keep a million
 * retry timers far ahead; those are not touched until their slot comes, where a heap walks past them at every event.
 */
#ifndef COHORTI_SIM_QUEUE_H
#define COHORTI_SIM_QUEUE_H

#include "base/list.h"
#include "base/timers.h" /* COHORTI_NEVER */

#define SIM_DIGIT_BITS 12
#define SIM_WHEELS 6
#define SIM_SLOTS (1 << SIM_DIGIT_BITS)

struct sim_event {
    struct cohorti_list of_slot;
    uint64_t at_ns; /* COHORTI_NEVER when not set */
    void (*fire)(struct sim_event *event);
};

struct sim_queue {
    uint64_t last_ns; /* no event is earlier */
    uint64_t count;
    struct sim_wheel {
        uint64_t words;                /* a bit for each word of `used` that is not 0 */
        uint64_t used[SIM_SLOTS / 64]; /* a bit for each slot that is not empty */
        struct cohorti_list slots[SIM_SLOTS];
    } wheels[SIM_WHEELS];
};

void sim_queue_init(struct sim_queue *q);
void sim_event_init(struct sim_event *event, void (*fire)(struct sim_event *event));
static inline bool sim_event_is_set(const struct sim_event *event)
{
    return event->at_ns != COHORTI_NEVER;
}
/** Set or move; COHORTI_NEVER cancels. Not earlier than any `until_ns` that sim_queue_pop() has answered NULL to. */
void sim_queue_set(struct sim_queue *q, struct sim_event *event, uint64_t at_ns);
/** Take out and return the earliest that is due by until_ns, *at_ns being its time; else NULL. */
struct sim_event *sim_queue_pop(struct sim_queue *q, uint64_t until_ns, uint64_t *at_ns);

#endif
