/* SPDX-License-Identifier: Apache-2.0
 *
 * A pairing heap of timers: every node is no later than its children. Children hang as a list from `child` through `next`;
 * `prev` of a first child is its parent, of any other its left sibling, of the root NULL.
 *
 * Timers are told apart by (deadline, order), order being taken anew at every set, so that the heap's shape never decides
 * which of two equal deadlines fires first: runs replay. Setting costs O(1), taking out O(log n) amortised, nothing recurses
 * and nothing allocates. It reads no clock.
 */
#include "base/timers.h"

#include <assert.h>
#include <stddef.h>

void cohorti_timers_init(struct cohorti_timers *t)
{
    t->root = NULL;
    t->order_next = 0;
}

void cohorti_timer_init(struct cohorti_timer *timer)
{
    timer->deadline_ns = COHORTI_NEVER;
    timer->order = 0;
    timer->child = timer->next = timer->prev = NULL;
}

static bool earlier(const struct cohorti_timer *a, const struct cohorti_timer *b)
{
    return a->deadline_ns != b->deadline_ns ? a->deadline_ns < b->deadline_ns : a->order < b->order;
}

/* Join two heaps, either of which may be NULL; the later root becomes the first child of the earlier. */
static struct cohorti_timer *meld(struct cohorti_timer *a, struct cohorti_timer *b)
{
    if (a == NULL || b == NULL) {
        return a == NULL ? b : a;
    }
    if (earlier(b, a)) {
        struct cohorti_timer *swap = a;
        a = b;
        b = swap;
    }
    b->prev = a;
    b->next = a->child;
    if (a->child != NULL) {
        a->child->prev = b;
    }
    a->child = b;
    return a;
}

/* Make one heap of a list of siblings: pairs from left to right, then the pairs from right to left. */
static struct cohorti_timer *meld_siblings(struct cohorti_timer *first)
{
    struct cohorti_timer *pairs = NULL; /* linked by `next`, the last pair first */
    while (first != NULL) {
        struct cohorti_timer *a = first;
        struct cohorti_timer *b = a->next;
        first = b == NULL ? NULL : b->next;
        a->next = a->prev = NULL;
        if (b != NULL) {
            b->next = b->prev = NULL;
        }
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    struct cohorti_timer *root = NULL;
    while (pairs != NULL) {
        struct cohorti_timer *pair = pairs;
        pairs = pair->next;
        pair->next = NULL;
        root = meld(root, pair);
    }
    return root;
}

bool cohorti_timer_is_set(const struct cohorti_timer *timer)
{
    return timer->deadline_ns != COHORTI_NEVER;
}

void cohorti_timer_cancel(struct cohorti_timers *t, struct cohorti_timer *timer)
{
    if (!cohorti_timer_is_set(timer)) {
        return;
    }
    struct cohorti_timer *below = meld_siblings(timer->child);
    if (t->root == timer) {
        t->root = below;
    } else {
        assert(timer->prev != NULL); /* set in another heap */
        if (timer->prev->child == timer) {
            timer->prev->child = timer->next;
        } else {
            timer->prev->next = timer->next;
        }
        if (timer->next != NULL) {
            timer->next->prev = timer->prev;
        }
        t->root = meld(t->root, below);
    }
    cohorti_timer_init(timer);
}

void cohorti_timer_set(struct cohorti_timers *t, struct cohorti_timer *timer, uint64_t deadline_ns)
{
    cohorti_timer_cancel(t, timer);
    if (deadline_ns == COHORTI_NEVER) {
        return;
    }
    timer->deadline_ns = deadline_ns;
    timer->order = t->order_next++;
    t->root = meld(t->root, timer);
}

uint64_t cohorti_timers_deadline(const struct cohorti_timers *t)
{
    return t->root == NULL ? COHORTI_NEVER : t->root->deadline_ns;
}

struct cohorti_timer *cohorti_timers_pop(struct cohorti_timers *t, uint64_t now_ns)
{
    struct cohorti_timer *first = t->root;
    if (first == NULL || first->deadline_ns > now_ns) {
        return NULL;
    }
    cohorti_timer_cancel(t, first);
    return first;
}
