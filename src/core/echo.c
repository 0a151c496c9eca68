/* SPDX-License-Identifier: Apache-2.0
 *
 * The set is short (limits.echoes_max), so a list searched in order serves; deadlines are not sorted.
 */
#include "core/echo.h"

#include "base/alloc.h"

#include <string.h>

void cohorti_echoes_init(struct cohorti_echoes *e, const cohort_allocator *alloc, uint32_t max)
{
    e->alloc = alloc;
    e->count = 0;
    e->max = max;
    cohorti_list_init(&e->waiting);
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

static struct cohorti_echo *take(struct cohorti_echoes *e, struct cohorti_list *node)
{
    cohorti_list_remove(node);
    e->count--;
    return COHORTI_CONTAINER(node, struct cohorti_echo, node);
}

void cohorti_echoes_drop(struct cohorti_echoes *e, struct cohorti_echo *echo)
{
    cohorti_echo_free(e->alloc, take(e, &echo->node));
}

struct cohorti_echo *cohorti_echoes_match(struct cohorti_echoes *e, const void *data, size_t len)
{
    COHORTI_LIST_FOREACH(it, &e->waiting)
    {
        struct cohorti_echo *echo = COHORTI_CONTAINER(it, struct cohorti_echo, node);
        if (echo->data_len == len && (len == 0 || memcmp(echo->data, data, len) == 0)) {
            return take(e, it);
        }
    }
    return NULL;
}

struct cohorti_echo *cohorti_echoes_expire(struct cohorti_echoes *e, uint64_t now_ns)
{
    COHORTI_LIST_FOREACH(it, &e->waiting)
    {
        if (COHORTI_CONTAINER(it, struct cohorti_echo, node)->deadline_ns <= now_ns) {
            return take(e, it);
        }
    }
    return NULL;
}

struct cohorti_echo *cohorti_echoes_pop(struct cohorti_echoes *e)
{
    return cohorti_list_empty(&e->waiting) ? NULL : take(e, e->waiting.next);
}

void cohorti_echo_free(const cohort_allocator *alloc, struct cohorti_echo *echo)
{
    cohorti_release(alloc, echo);
}

uint64_t cohorti_echoes_deadline(const struct cohorti_echoes *e)
{
    uint64_t earliest = UINT64_MAX;
    COHORTI_LIST_FOREACH(it, &e->waiting)
    {
        uint64_t deadline = COHORTI_CONTAINER(it, struct cohorti_echo, node)->deadline_ns;
        earliest = deadline < earliest ? deadline : earliest;
    }
    return earliest;
}
