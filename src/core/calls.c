/* SPDX-License-Identifier: Apache-2.0
 * A map by number, a heap by deadline and a list by age over the same entries. It sends nothing and calls nobody. */
#include "core/calls.h"

#include "base/alloc.h"

#define SPARES_MAX 256

void cohorti_calls_init(struct cohorti_calls *c, const cohort_allocator *alloc, uint32_t max, uint64_t first_id)
{
    *c = (struct cohorti_calls){.alloc = alloc, .max = max, .next_id = first_id};
    cohorti_map_init(&c->by_id, alloc);
    cohorti_timers_init(&c->timers);
    cohorti_list_init(&c->by_age);
}

static struct cohorti_call *of_spare(struct cohorti_calls *c)
{
    struct cohorti_map_node *node = c->spare;
    if (node != NULL) {
        c->spare = node->next;
        c->spare_count--;
    }
    return (struct cohorti_call *)node;
}

void cohorti_calls_deinit(struct cohorti_calls *c)
{
    struct cohorti_call *call;
    while ((call = of_spare(c)) != NULL) {
        cohorti_release(c->alloc, call);
    }
    cohorti_map_deinit(&c->by_id);
}

int cohorti_calls_add(struct cohorti_calls *c, uint64_t deadline_ns, struct cohorti_call **out)
{
    if (c->count >= c->max) {
        return COHORT_ELIMIT;
    }
    struct cohorti_call *call = of_spare(c);
    if (call == NULL) {
        call = cohorti_alloc(c->alloc, sizeof *call);
    }
    if (call == NULL) {
        return COHORT_ENOMEM;
    }
    *call = (struct cohorti_call){.id = c->next_id++};
    cohorti_timer_init(&call->timer);
    cohorti_timer_set(&c->timers, &call->timer, deadline_ns);
    cohorti_map_insert(&c->by_id, &call->node, cohorti_hash_u64(call->id));
    cohorti_list_append(&c->by_age, &call->by_age);
    c->count++;
    *out = call;
    return COHORT_OK;
}

static struct cohorti_call *take(struct cohorti_calls *c, struct cohorti_call *call)
{
    if (call != NULL) {
        cohorti_timer_cancel(&c->timers, &call->timer);
        cohorti_map_remove(&c->by_id, &call->node);
        cohorti_list_remove(&call->by_age);
        c->count--;
    }
    return call;
}

struct cohorti_call *cohorti_calls_take(struct cohorti_calls *c, uint64_t id)
{
    uint64_t hash = cohorti_hash_u64(id);
    struct cohorti_map_node *node = cohorti_map_find(&c->by_id, hash);
    while (node != NULL && ((struct cohorti_call *)node)->id != id) {
        node = cohorti_map_find_next(node, hash);
    }
    return take(c, (struct cohorti_call *)node);
}

struct cohorti_call *cohorti_calls_expire(struct cohorti_calls *c, uint64_t now_ns)
{
    struct cohorti_timer *due = cohorti_timers_pop(&c->timers, now_ns);
    return due == NULL ? NULL : take(c, (struct cohorti_call *)((char *)due - offsetof(struct cohorti_call, timer)));
}

/* Numbers may wrap. */
struct cohorti_call *cohorti_calls_pop(struct cohorti_calls *c, uint64_t end_id)
{
    struct cohorti_list *first = c->by_age.next;
    struct cohorti_call *call = first == &c->by_age ? NULL : COHORTI_CONTAINER(first, struct cohorti_call, by_age);
    return call == NULL || end_id - call->id - 1 > UINT64_MAX / 2 ? NULL : take(c, call);
}

void cohorti_calls_recycle(struct cohorti_calls *c, struct cohorti_call *call)
{
    if (c->spare_count >= SPARES_MAX) {
        cohorti_release(c->alloc, call);
        return;
    }
    call->node.next = c->spare;
    c->spare = &call->node;
    c->spare_count++;
}

uint64_t cohorti_calls_deadline(const struct cohorti_calls *c)
{
    return cohorti_timers_deadline(&c->timers);
}
