/* SPDX-License-Identifier: Apache-2.0
 *
 * Queues of messages for handlers that must not, or need not, run on a loop.
 *
 * A queue has shards. Without threads it has one, which the application empties; with threads each has its own, and a member and
 * subject together always fall into the same, which keeps their order. An entry holds a copy of the message, its handler, and its peer.
 * The message is acknowledged when it is put here; the credit for it is given back when the last of its copies was handled, so what waits
 * is bounded by limits.window_bytes for each lane of each member. A legacy peer has no credit: what it sends beyond that is dropped.
 * Here they live; queue_put.c fills them, queue_take.c empties them.
 */
#include "node/queue_internal.h"

#include <stdio.h>

/* ---- emptying: the application's thread, or the shard's -------------------------------------------------------------- */

static void on_wake(void *ctx)
{
    struct shard *shard = ctx;
    struct cohort_node *node = shard->queue->node;
    while (cohorti_shard_dispatch(shard, SIZE_MAX) > 0) {
    }
    cohorti_mutex_lock(&shard->lock);
    if (shard->empty != NULL && cohorti_list_empty(&shard->waiting)) {
        cohorti_waiter_signal(shard->empty);
        shard->empty = NULL;
        if (!node->loops->threads) { /* the thread that waits turns the node's loop meanwhile */
            node->io->ops->loop_wake(node->control.loop);
        }
    }
    cohorti_mutex_unlock(&shard->lock);
}

static void on_timer(void *ctx)
{
}

size_t cohort_queue_dispatch(cohort_queue *queue, size_t max)
{
    return queue->shards[0].loop != NULL ? 0 : cohorti_shard_dispatch(&queue->shards[0], max);
}

int cohort_queue_fd(const cohort_queue *queue)
{
    return queue->shards[0].event == NULL ? -1 : queue->node->io->ops->event_fd(queue->shards[0].event);
}

/* ---- life ----------------------------------------------------------------------------------------------------------- */

static int init_shard(struct cohort_queue *q, struct shard *shard, uint32_t index)
{
    static const struct cohorti_loop_handler handler = {.on_wake = on_wake, .on_timer = on_timer};
    struct cohorti_io *io = q->node->io;
    shard->queue = q;
    cohorti_mutex_init(&shard->lock);
    shard->index = index;
    cohorti_list_init(&shard->waiting);
    if (q->shard_count == 0) {
        return io->ops->event_new(io, &shard->event);
    }
    char name[32];
    snprintf(name, sizeof name, "cohort-pool-%u", index);
    int status = io->ops->loop_new(io, name, &handler, shard, &shard->loop);
    if (status == COHORT_OK) {
        status = io->ops->loop_start(shard->loop);
    }
    return status;
}

/* Returns how many messages nobody will handle. */
static size_t deinit_shard(struct shard *shard)
{
    struct cohorti_io *io = shard->queue->node->io;
    if (shard->loop != NULL) {
        io->ops->loop_stop(shard->loop);
        io->ops->loop_free(shard->loop);
    }
    size_t dropped = cohorti_shard_drop(shard, false);
    if (shard->event != NULL) {
        io->ops->event_free(shard->event);
    }
    cohorti_mutex_deinit(&shard->lock);
    return dropped;
}

static void queue_free(struct cohort_queue *q, uint32_t shards)
{
    struct cohort_node *node = q->node;
    for (uint32_t i = 0; i < shards; i++) {
        (void)deinit_shard(&q->shards[i]);
    }
    cohorti_release(&node->alloc, q);
}

int cohort_queue_open(cohort_node *node, uint32_t threads, cohort_queue **out)
{
    if (threads > COHORT_QUEUE_THREADS_MAX) {
        return COHORT_EINVAL;
    }
    uint32_t count = threads == 0 ? 1 : threads;
    struct cohort_queue *q = cohorti_alloc_zero(&node->alloc, sizeof *q + count * sizeof q->shards[0]);
    if (q == NULL) {
        return COHORT_ENOMEM;
    }
    q->node = node;
    q->shard_count = threads;
    for (uint32_t i = 0; i < count; i++) {
        int status = init_shard(q, &q->shards[i], i);
        if (status != COHORT_OK) {
            queue_free(q, i + 1);
            return status;
        }
    }
    q->shard_count = count;
    cohorti_mutex_lock(&node->queues_lock); /* who closes the node takes it after phase was set: cohorti_queues_finish() */
    bool closing = atomic_load(&node->phase) == NODE_CLOSING;
    if (!closing) {
        cohorti_list_append(&node->queues, &q->of_node);
    }
    cohorti_mutex_unlock(&node->queues_lock);
    if (closing) {
        queue_free(q, count);
        return COHORT_ECLOSED;
    }
    *out = q;
    return COHORT_OK;
}

int cohort_queue_close(cohort_queue *queue)
{
    if (queue == NULL) {
        return COHORT_OK;
    }
    if (cohorti_queue_in_handler_of(queue)) {
        return COHORT_ECALLBACK;
    }
    if (atomic_load(&queue->node->phase) == NODE_CLOSING) {
        return COHORT_ECLOSED;
    }
    for (uint32_t i = 0; i < queue->shard_count; i++) {
        (void)cohorti_shard_drop(&queue->shards[i], true);
    }
    if (atomic_load(&queue->handlers) > 0) {
        return COHORT_ESTATE;
    }
    cohorti_mutex_lock(&queue->node->queues_lock);
    bool closing = atomic_load(&queue->node->phase) == NODE_CLOSING; /* meanwhile: it is the node's now */
    if (!closing) {
        cohorti_list_remove(&queue->of_node);
    }
    cohorti_mutex_unlock(&queue->node->queues_lock);
    if (closing) {
        return COHORT_ECLOSED;
    }
    queue_free(queue, queue->shard_count);
    return COHORT_OK;
}

bool cohorti_queue_is_of(const struct cohort_queue *queue, const struct cohort_node *node)
{
    return queue->node == node;
}

static void finish_shard(struct shard *shard)
{
    struct cohort_node *node = shard->queue->node;
    struct cohorti_waiter empty;
    if (shard->loop == NULL) {
        return;
    }
    cohorti_waiter_init(&empty);
    cohorti_mutex_lock(&shard->lock);
    shard->empty = &empty;
    cohorti_mutex_unlock(&shard->lock);
    node->io->ops->loop_wake(shard->loop);
    cohorti_node_await(node, &empty);
    cohorti_waiter_deinit(&empty);
    node->io->ops->loop_stop(shard->loop);
}

/* The list stays as it is from here on: whoever opens or closes a queue looks at the phase with the lock held. */
void cohorti_queues_finish(struct cohort_node *node, uint64_t deadline_ns)
{
    cohorti_mutex_lock(&node->queues_lock);
    cohorti_mutex_unlock(&node->queues_lock);
    COHORTI_LIST_FOREACH (it, &node->queues) {
        struct cohort_queue *q = COHORTI_CONTAINER(it, struct cohort_queue, of_node);
        for (uint32_t i = 0; i < q->shard_count; i++) {
            atomic_store(&q->shards[i].deadline_ns, deadline_ns);
        }
    }
    COHORTI_LIST_FOREACH (it, &node->queues) {
        struct cohort_queue *q = COHORTI_CONTAINER(it, struct cohort_queue, of_node);
        for (uint32_t i = 0; i < q->shard_count; i++) {
            finish_shard(&q->shards[i]);
        }
    }
}

void cohorti_queues_end(struct cohort_node *node)
{
    size_t dropped = 0;
    COHORTI_LIST_FOREACH (it, &node->queues) {
        struct cohort_queue *q = COHORTI_CONTAINER(it, struct cohort_queue, of_node);
        for (uint32_t i = 0; i < q->shard_count; i++) {
            dropped += deinit_shard(&q->shards[i]);
        }
        q->shard_count = 0;
    }
    if (dropped > 0 && atomic_load(&node->phase) == NODE_CLOSING) {
        cohorti_log(node, COHORT_LOG_WARN, "queue", NULL, COHORT_ECLOSED, "%zu messages waited in queues and were not handled",
                    dropped);
    }
}

void cohorti_queues_free(struct cohort_node *node)
{
    struct cohorti_list *it;
    while ((it = cohorti_list_pop(&node->queues)) != NULL) {
        cohorti_release(&node->alloc, COHORTI_CONTAINER(it, struct cohort_queue, of_node));
    }
}

void cohorti_queue_count(struct cohort_queue *queue, int change)
{
    if (queue != NULL) {
        atomic_fetch_add(&queue->handlers, (uint32_t)change);
    }
}
