/* SPDX-License-Identifier: Apache-2.0
 *
 * A table by number, lists by deadline and a list by age over the same entries. It sends nothing and calls nobody.
 *
 * The slot of a call is the low bits of its number; a number whose slot is taken is passed over, so no two ever meet, and they do not when
 * the table is doubled. Programs give few different times, so most calls stand in the list of a class, at whose end a new one belongs:
 * nothing is sorted for a deadline that nearly never comes. A time for which no class is free goes into a heap.
 *
 * Invariants: slot_count is a power of two or 0; a call with a deadline is in a class or in the heap; a class whose list is empty is free.
 */
#include "core/calls.h"

#include "base/alloc.h"

#define SPARES_MAX 256
#define FIRST_SLOTS 8U

struct cohorti_call {
    struct cohorti_list by_age;
    struct cohorti_list in_class; /* alone: it is in none */
    struct cohorti_timer timer;   /* set: it is in the heap */
    struct cohorti_call *next;    /* spare */
    uint64_t id, deadline_ns;
    struct cohorti_caller caller;
};

static struct cohorti_call *first_of(const struct cohorti_call_class *class)
{
    struct cohorti_list *first = class->waiting.next;
    return first == &class->waiting ? NULL : COHORTI_CONTAINER(first, struct cohorti_call, in_class);
}

void cohorti_calls_init(struct cohorti_calls *c, const cohort_allocator *alloc, uint32_t max, uint64_t first_id)
{
    *c = (struct cohorti_calls){.alloc = alloc, .max = max, .next_id = first_id};
    cohorti_timers_init(&c->others);
    cohorti_list_init(&c->by_age);
    for (unsigned i = 0; i < COHORTI_CALL_CLASSES; i++) {
        cohorti_list_init(&c->classes[i].waiting);
    }
}

static struct cohorti_call *of_spare(struct cohorti_calls *c)
{
    struct cohorti_call *call = c->spare;
    if (call != NULL) {
        c->spare = call->next;
        c->spare_count--;
    }
    return call;
}

void cohorti_calls_deinit(struct cohorti_calls *c)
{
    struct cohorti_call *call;
    while ((call = of_spare(c)) != NULL) {
        cohorti_release(c->alloc, call);
    }
    cohorti_release(c->alloc, c->slots);
    c->slots = NULL;
    c->slot_count = 0;
}

/* ---- adding --------------------------------------------------------------------------------------------------------- */

static struct cohorti_call **slot_of(const struct cohorti_calls *c, uint64_t id)
{
    return &c->slots[id & (c->slot_count - 1)];
}

/* Half of it stays free, so that few numbers are passed over. Without memory it fills up, and then there is no room. */
static bool has_slot(struct cohorti_calls *c)
{
    if (c->count < c->slot_count / 2) {
        return true;
    }
    uint32_t old_count = c->slot_count, count = old_count == 0 ? FIRST_SLOTS : old_count * 2;
    const size_t slot_bytes = sizeof *c->slots; /* NOLINT(bugprone-sizeof-expression): slots are pointers */
    struct cohorti_call **old = c->slots, **slots = cohorti_alloc_zero(c->alloc, count * slot_bytes);
    if (slots == NULL) {
        return c->count < old_count;
    }
    c->slots = slots;
    c->slot_count = count;
    for (uint32_t i = 0; i < old_count; i++) {
        if (old[i] != NULL) {
            *slot_of(c, old[i]->id) = old[i];
        }
    }
    cohorti_release(c->alloc, old);
    return true;
}

static struct cohorti_call_class *class_for(struct cohorti_calls *c, uint32_t timeout_ms)
{
    struct cohorti_call_class *found = NULL;
    for (unsigned i = 0; i < COHORTI_CALL_CLASSES; i++) {
        struct cohorti_call_class *class = &c->classes[i];
        if (class->timeout_ms == timeout_ms) {
            return class;
        }
        found = cohorti_list_empty(&class->waiting) ? class : found;
    }
    if (found != NULL) {
        found->timeout_ms = timeout_ms;
    }
    return found;
}

static void set_deadline(struct cohorti_calls *c, struct cohorti_call *call, uint64_t now_ns, uint32_t timeout_ms)
{
    cohorti_list_init(&call->in_class);
    cohorti_timer_init(&call->timer);
    call->deadline_ns = COHORTI_NEVER;
    if (timeout_ms == 0) {
        return;
    }
    call->deadline_ns = now_ns + timeout_ms * UINT64_C(1000000);
    struct cohorti_call_class *class = class_for(c, timeout_ms);
    if (class != NULL) {
        cohorti_list_append(&class->waiting, &call->in_class);
    } else {
        cohorti_timer_set(&c->others, &call->timer, call->deadline_ns);
    }
}

int cohorti_calls_add(struct cohorti_calls *c, const struct cohorti_caller *caller, uint64_t now_ns, uint32_t timeout_ms,
                      uint64_t *id, uint64_t *deadline_ns)
{
    if (c->count >= c->max) {
        return COHORT_ELIMIT;
    }
    if (!has_slot(c)) {
        return COHORT_ENOMEM;
    }
    struct cohorti_call *call = of_spare(c);
    if (call == NULL) {
        call = cohorti_alloc(c->alloc, sizeof *call);
    }
    if (call == NULL) {
        return COHORT_ENOMEM;
    }
    while (*slot_of(c, c->next_id) != NULL) {
        c->next_id++;
    }
    call->id = c->next_id++;
    call->caller = *caller;
    *slot_of(c, call->id) = call;
    set_deadline(c, call, now_ns, timeout_ms);
    cohorti_list_append(&c->by_age, &call->by_age);
    c->count++;
    *id = call->id;
    *deadline_ns = call->deadline_ns;
    return COHORT_OK;
}

/* ---- taking --------------------------------------------------------------------------------------------------------- */

static bool take(struct cohorti_calls *c, struct cohorti_call *call, struct cohorti_caller *out)
{
    if (call == NULL) {
        return false;
    }
    *out = call->caller;
    *slot_of(c, call->id) = NULL;
    cohorti_timer_cancel(&c->others, &call->timer);
    cohorti_list_remove(&call->in_class);
    cohorti_list_remove(&call->by_age);
    c->count--;
    if (c->spare_count >= SPARES_MAX) {
        cohorti_release(c->alloc, call);
    } else {
        call->next = c->spare;
        c->spare = call;
        c->spare_count++;
    }
    return true;
}

bool cohorti_calls_take(struct cohorti_calls *c, uint64_t id, struct cohorti_caller *out)
{
    struct cohorti_call *call = c->slot_count == 0 ? NULL : *slot_of(c, id);
    return take(c, call == NULL || call->id != id ? NULL : call, out);
}

/* Of equal deadlines one of the heap comes last, and of classes the first. */
static struct cohorti_call *earliest(const struct cohorti_calls *c)
{
    struct cohorti_call *found = NULL;
    for (unsigned i = 0; i < COHORTI_CALL_CLASSES; i++) {
        struct cohorti_call *first = first_of(&c->classes[i]);
        found = found == NULL || (first != NULL && first->deadline_ns < found->deadline_ns) ? first : found;
    }
    bool other = c->others.root != NULL && (found == NULL || cohorti_timers_deadline(&c->others) < found->deadline_ns);
    return other ? COHORTI_CONTAINER(c->others.root, struct cohorti_call, timer) : found;
}

bool cohorti_calls_expire(struct cohorti_calls *c, uint64_t now_ns, struct cohorti_caller *out)
{
    struct cohorti_call *call = earliest(c);
    return take(c, call == NULL || call->deadline_ns > now_ns ? NULL : call, out);
}

/* Numbers may wrap. */
bool cohorti_calls_pop(struct cohorti_calls *c, uint64_t end_id, struct cohorti_caller *out)
{
    struct cohorti_list *first = c->by_age.next;
    struct cohorti_call *call = first == &c->by_age ? NULL : COHORTI_CONTAINER(first, struct cohorti_call, by_age);
    return take(c, call == NULL || end_id - call->id - 1 > UINT64_MAX / 2 ? NULL : call, out);
}

uint64_t cohorti_calls_deadline(const struct cohorti_calls *c)
{
    const struct cohorti_call *call = earliest(c);
    return call == NULL ? COHORTI_NEVER : call->deadline_ns;
}
