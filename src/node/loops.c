/* SPDX-License-Identifier: Apache-2.0
 *
 * The loops nodes run on: one node's own, several nodes' of a process, or none with a thread, which the application then runs itself.
 *
 * Without threads, whoever dispatches is the loop's thread for as long as it is inside. `driven` lets one in at a time; `driver`
 * remembers who was there last, so that this thread's calls between two dispatches act at once, and those of others by mail.
 */
#include "node/node.h"

#include <stdio.h>

static _Thread_local char thread_mark; /* its address names the thread */

static int make_runners(struct cohort_loops *loops)
{
    for (uint32_t i = 0; i < loops->count; i++) {
        char name[32];
        if (loops->shared) {
            snprintf(name, sizeof name, "cohort-loop-%u", i);
        } else if (i == 0) {
            snprintf(name, sizeof name, "cohort-control");
        } else {
            snprintf(name, sizeof name, "cohort-io-%u", i - 1);
        }
        int status = cohorti_runner_init(&loops->runners[i], loops, name);
        if (status != COHORT_OK) {
            return status;
        }
        loops->ready++;
    }
    return COHORT_OK;
}

int cohorti_loops_new(struct cohorti_io *io, const cohort_allocator *alloc, uint32_t count, bool shared, struct cohort_loops **out)
{
    bool threads = count > 0;
    count = threads ? count : 1;
    struct cohort_loops *loops = cohorti_alloc_zero(alloc, sizeof *loops + count * sizeof loops->runners[0]);
    if (loops == NULL) {
        return COHORT_ENOMEM;
    }
    loops->alloc = *alloc;
    loops->io = io;
    loops->owns_io = io == NULL;
    loops->threads = threads;
    loops->shared = shared;
    loops->count = count;
    int status = loops->owns_io ? cohorti_io_uv_new(&loops->alloc, &loops->io) : COHORT_OK;
    if (status == COHORT_OK) {
        status = make_runners(loops);
    }
    if (status != COHORT_OK) {
        cohorti_loops_free(loops);
        return status;
    }
    *out = loops;
    return COHORT_OK;
}

void cohorti_loops_free(struct cohort_loops *loops)
{
    for (uint32_t i = 0; i < loops->ready; i++) {
        cohorti_runner_deinit(&loops->runners[i]);
    }
    if (loops->owns_io) {
        cohorti_io_uv_free(loops->io);
    }
    cohort_allocator alloc = loops->alloc;
    cohorti_release(&alloc, loops);
}

int cohorti_loops_start(struct cohort_loops *loops)
{
    int status = COHORT_OK;
    for (uint32_t i = 0; loops->threads && i < loops->count && status == COHORT_OK; i++) {
        status = loops->io->ops->loop_start(loops->runners[i].loop);
    }
    return status;
}

void cohorti_loops_stop(struct cohort_loops *loops)
{
    for (uint32_t i = 0; i < loops->ready; i++) {
        loops->io->ops->loop_stop(loops->runners[i].loop);
    }
}

bool cohorti_loops_current(const struct cohort_loops *loops)
{
    bool current = false;
    for (uint32_t i = 0; i < loops->ready; i++) {
        current = current || loops->io->ops->loop_is_current(loops->runners[i].loop);
    }
    return current;
}

/* ---- without threads ----------------------------------------------------------------------------------------------- */

bool cohorti_loops_mine(const struct cohort_loops *loops)
{
    return !loops->threads && atomic_load(&loops->driver) == (uintptr_t)&thread_mark;
}

int cohorti_loops_enter(struct cohort_loops *loops, struct cohorti_loop **before)
{
    if (cohorti_loops_current(loops)) {
        return COHORT_ECALLBACK;
    }
    if (atomic_exchange(&loops->driven, true)) {
        return COHORT_EBUSY;
    }
    atomic_store(&loops->driver, (uintptr_t)&thread_mark);
    *before = loops->io->ops->loop_enter(loops->runners[0].loop);
    return COHORT_OK;
}

void cohorti_loops_leave(struct cohort_loops *loops, struct cohorti_loop *before)
{
    (void)loops->io->ops->loop_enter(before);
    atomic_store(&loops->driven, false);
}

/* ---- the public API ------------------------------------------------------------------------------------------------ */

int cohort_loops_open(uint32_t count, const cohort_allocator *allocator, cohort_loops **out)
{
    bool whole = allocator == NULL || (allocator->allocate != NULL && allocator->reallocate != NULL && allocator->release != NULL);
    if (count > COHORT_LOOPS_MAX || !whole) {
        return COHORT_EINVAL;
    }
    struct cohort_loops *loops = NULL;
    int status = cohorti_loops_new(NULL, allocator == NULL ? &cohorti_malloc : allocator, count, true, &loops);
    if (status != COHORT_OK) {
        return status;
    }
    status = cohorti_loops_start(loops);
    if (status != COHORT_OK) {
        cohorti_loops_stop(loops);
        cohorti_loops_free(loops);
        return status;
    }
    *out = loops;
    return COHORT_OK;
}

int cohort_loops_close(cohort_loops *loops)
{
    if (loops == NULL) {
        return COHORT_OK;
    }
    if (cohorti_loops_current(loops)) {
        return COHORT_ECALLBACK;
    }
    if (atomic_load(&loops->node_count) > 0) {
        return COHORT_ESTATE;
    }
    cohorti_loops_stop(loops);
    cohorti_loops_free(loops);
    return COHORT_OK;
}

/* The loops of a node without threads, or NULL. */
static struct cohort_loops *own_loops(const struct cohort_node *node)
{
    return node->loops->threads ? NULL : node->loops;
}

int cohort_node_fd(cohort_node *node)
{
    struct cohort_loops *loops = own_loops(node);
    return loops == NULL ? COHORT_ESTATE : loops->io->ops->loop_fd(loops->runners[0].loop);
}

int cohort_node_next_timeout_ms(cohort_node *node)
{
    struct cohort_loops *loops = own_loops(node);
    return loops == NULL ? -1 : loops->io->ops->loop_wait_ms(loops->runners[0].loop);
}

int cohort_node_dispatch(cohort_node *node)
{
    struct cohort_loops *loops = own_loops(node);
    struct cohorti_loop *before = NULL;
    if (loops == NULL || atomic_load(&node->phase) == NODE_OPEN) {
        return COHORT_ESTATE;
    }
    int status = cohorti_loops_enter(loops, &before);
    if (status == COHORT_OK) {
        loops->io->ops->loop_turn(loops->runners[0].loop, false);
        cohorti_loops_leave(loops, before);
    }
    return status;
}
