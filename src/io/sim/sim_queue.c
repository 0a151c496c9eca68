/* SPDX-License-Identifier: Apache-2.0
 *
 * Wheel w has a slot for each value of bits 12w .. 12w+11. With d the highest of these digits in which the time of an event differs
 * from last_ns, the event stands on wheel d, in the slot of its own digit there.
 *
 * Invariants: so everything on a lower wheel is earlier than everything on a higher one, and on a wheel the lower slot is earlier;
 * a slot of wheel 0 holds one time only. When last_ns enters a slot of a higher wheel, all wheels below are empty, and what the slot
 * held moves down in order: equal times stay in the order they were set. last_ns never passes until_ns, which time has reached.
 */
#include "io/sim/sim_queue.h"

#include <assert.h>
#include <string.h>

void sim_queue_init(struct sim_queue *q)
{
    memset(q, 0, sizeof *q);
    for (int wheel = 0; wheel < SIM_WHEELS; wheel++) {
        for (int slot = 0; slot < SIM_SLOTS; slot++) {
            cohorti_list_init(&q->wheels[wheel].slots[slot]);
        }
    }
}

void sim_event_init(struct sim_event *event, void (*fire)(struct sim_event *event))
{
    cohorti_list_init(&event->of_slot);
    event->at_ns = COHORTI_NEVER;
    event->fire = fire;
}

static int wheel_of(const struct sim_queue *q, uint64_t at_ns)
{
    return at_ns == q->last_ns ? 0 : (63 - __builtin_clzll(at_ns ^ q->last_ns)) / SIM_DIGIT_BITS;
}

static int slot_of(int wheel, uint64_t at_ns)
{
    return (int)(at_ns >> (wheel * SIM_DIGIT_BITS)) & (SIM_SLOTS - 1);
}

static void clear(struct sim_wheel *wheel, int slot)
{
    wheel->used[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    if (wheel->used[slot / 64] == 0) {
        wheel->words &= ~(UINT64_C(1) << slot / 64);
    }
}

static int first_used(const struct sim_wheel *wheel)
{
    int word = __builtin_ctzll(wheel->words);
    return word * 64 + __builtin_ctzll(wheel->used[word]);
}

static void put(struct sim_queue *q, struct sim_event *event)
{
    int number = wheel_of(q, event->at_ns);
    int slot = slot_of(number, event->at_ns);
    struct sim_wheel *wheel = &q->wheels[number];
    cohorti_list_append(&wheel->slots[slot], &event->of_slot);
    wheel->used[slot / 64] |= UINT64_C(1) << slot % 64;
    wheel->words |= UINT64_C(1) << slot / 64;
}

static void take(struct sim_queue *q, struct sim_event *event)
{
    int number = wheel_of(q, event->at_ns);
    int slot = slot_of(number, event->at_ns);
    cohorti_list_remove(&event->of_slot);
    if (cohorti_list_empty(&q->wheels[number].slots[slot])) {
        clear(&q->wheels[number], slot);
    }
    event->at_ns = COHORTI_NEVER;
    q->count--;
}

void sim_queue_set(struct sim_queue *q, struct sim_event *event, uint64_t at_ns)
{
    if (sim_event_is_set(event)) {
        take(q, event);
    }
    if (at_ns != COHORTI_NEVER) {
        assert(at_ns >= q->last_ns);
        event->at_ns = at_ns;
        put(q, event);
        q->count++;
    }
}

/* When the slot begins. */
static uint64_t start_of(const struct sim_queue *q, int wheel, int slot)
{
    int above = (wheel + 1) * SIM_DIGIT_BITS;
    uint64_t base = above >= 64 ? 0 : q->last_ns >> above << above;
    return base | (uint64_t)slot << (wheel * SIM_DIGIT_BITS);
}

static void move_down(struct sim_queue *q, int wheel, int slot)
{
    struct cohorti_list *head = &q->wheels[wheel].slots[slot];
    struct cohorti_list *node = head->next;
    cohorti_list_init(head);
    clear(&q->wheels[wheel], slot);
    while (node != head) {
        struct cohorti_list *next = node->next;
        put(q, COHORTI_CONTAINER(node, struct sim_event, of_slot));
        node = next;
    }
}

/* Of a million events under way the next is in no cache; it may come while this one is handled. */
static void fetch_next(const struct sim_queue *q)
{
    if (q->wheels[0].words != 0) {
        const char *next = (const char *)q->wheels[0].slots[first_used(&q->wheels[0])].next;
        __builtin_prefetch(next);
        __builtin_prefetch(next + 64);
    }
}

struct sim_event *sim_queue_pop(struct sim_queue *q, uint64_t until_ns, uint64_t *at_ns)
{
    while (q->count > 0) {
        int wheel = 0;
        while (q->wheels[wheel].words == 0) {
            wheel++;
        }
        int slot = first_used(&q->wheels[wheel]);
        uint64_t start_ns = start_of(q, wheel, slot);
        if (start_ns > until_ns) {
            return NULL;
        }
        q->last_ns = start_ns;
        if (wheel == 0) {
            struct sim_event *event = COHORTI_CONTAINER(q->wheels[0].slots[slot].next, struct sim_event, of_slot);
            *at_ns = event->at_ns;
            take(q, event);
            fetch_next(q);
            return event;
        }
        move_down(q, wheel, slot);
    }
    return NULL;
}
