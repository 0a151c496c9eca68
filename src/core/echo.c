/* SPDX-License-Identifier: Apache-2.0
 *
 * The sets are short (limits.echoes_max each), so lists searched in order serve; deadlines are not sorted.
 */
#include "core/echo.h"

#include "base/alloc.h"

#include <string.h>

void cohorti_echoes_init(struct cohorti_echoes *e, const cohort_allocator *alloc, uint32_t max)
{
    e->alloc = alloc;
    e->count = 0;
    e->ghost_count = 0;
    e->max = max;
    cohorti_list_init(&e->waiting);
    cohorti_list_init(&e->ghosts);
}

int cohorti_echoes_add(struct cohorti_echoes *e, uint64_t now_ns, uint64_t deadline_ns, const void *data, size_t len,
                       struct cohorti_echo **out)
{
    if (e->count >= e->max) {
        return COHORT_ELIMIT;
    }
    struct cohorti_echo *echo = cohorti_alloc(e->alloc, sizeof *echo + len);
    if (echo == NULL) {
        return COHORT_ENOMEM;
    }
    *echo = (struct cohorti_echo){.sent_ns = now_ns, .deadline_ns = deadline_ns, .data_len = len};
    if (len > 0) {
        memcpy(echo->data, data, len);
    }
    cohorti_list_append(&e->waiting, &echo->node);
    e->count++;
    *out = echo;
    return COHORT_OK;
}

static struct cohorti_echo *at(struct cohorti_list *node)
{
    return COHORTI_CONTAINER(node, struct cohorti_echo, node);
}

static struct cohorti_echo *take(struct cohorti_echoes *e, struct cohorti_list *node)
{
    cohorti_list_remove(node);
    e->count--;
    return at(node);
}

static void drop_ghost(struct cohorti_echoes *e, struct cohorti_list *node)
{
    cohorti_list_remove(node);
    e->ghost_count--;
    cohorti_echo_free(e->alloc, at(node));
}

void cohorti_echoes_drop(struct cohorti_echoes *e, struct cohorti_echo *echo)
{
    cohorti_echo_free(e->alloc, take(e, &echo->node));
}

static struct cohorti_list *find(struct cohorti_list *head, const void *data, size_t len)
{
    COHORTI_LIST_FOREACH (it, head) {
        const struct cohorti_echo *echo = at(it);
        if (echo->data_len == len && (len == 0 || memcmp(echo->data, data, len) == 0)) {
            return it;
        }
    }
    return NULL;
}

struct cohorti_echo *cohorti_echoes_match(struct cohorti_echoes *e, const void *data, size_t len, bool *late)
{
    struct cohorti_list *ghost = find(&e->ghosts, data, len); /* the older question first */
    *late = ghost != NULL;
    if (ghost != NULL) {
        drop_ghost(e, ghost);
        return NULL;
    }
    struct cohorti_list *found = find(&e->waiting, data, len);
    return found == NULL ? NULL : take(e, found);
}

static void leave_ghost(struct cohorti_echoes *e, const struct cohorti_echo *echo)
{
    struct cohorti_echo *ghost = cohorti_alloc(e->alloc, sizeof *ghost + echo->data_len);
    if (ghost == NULL) {
        return; /* its answer, should it come, will be answered: once more round, no more than that costs */
    }
    if (e->ghost_count >= e->max) {
        drop_ghost(e, e->ghosts.next);
    }
    *ghost = (struct cohorti_echo){.data_len = echo->data_len};
    memcpy(ghost->data, echo->data, echo->data_len);
    cohorti_list_append(&e->ghosts, &ghost->node);
    e->ghost_count++;
}

struct cohorti_echo *cohorti_echoes_expire(struct cohorti_echoes *e, uint64_t now_ns)
{
    COHORTI_LIST_FOREACH (it, &e->waiting) {
        if (at(it)->deadline_ns <= now_ns) {
            struct cohorti_echo *echo = take(e, it);
            leave_ghost(e, echo);
            return echo;
        }
    }
    return NULL;
}

struct cohorti_echo *cohorti_echoes_pop(struct cohorti_echoes *e)
{
    while (!cohorti_list_empty(&e->ghosts)) {
        drop_ghost(e, e->ghosts.next);
    }
    return cohorti_list_empty(&e->waiting) ? NULL : take(e, e->waiting.next);
}

void cohorti_echo_free(const cohort_allocator *alloc, struct cohorti_echo *echo)
{
    cohorti_release(alloc, echo);
}

uint64_t cohorti_echoes_deadline(const struct cohorti_echoes *e)
{
    uint64_t earliest = UINT64_MAX;
    COHORTI_LIST_FOREACH (it, &e->waiting) {
        uint64_t deadline = at(it)->deadline_ns;
        earliest = deadline < earliest ? deadline : earliest;
    }
    return earliest;
}
