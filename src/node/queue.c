/* SPDX-License-Identifier: Apache-2.0
 *
 * Queues of messages for handlers that must not, or need not, run on a loop.
 *
 * A queue has shards. Without threads it has one, which the application empties; with threads each has its own, and a member and
 * subject together always fall into the same, which keeps their order. An entry holds a copy of the message, its handler, and its peer.
 * The message is acknowledged when it is put here; the credit for it is given back when the last of its copies was handled, so what waits
 * is bounded by limits.window_bytes for each lane of each member. A legacy peer has no credit: what it sends beyond that is dropped.
 * Here they are emptied, and live; queue_put.c fills them.
 */
#include "node/queue_internal.h"

#include <stdio.h>
#include <string.h>

#define BATCH_MAX 256   /* taken out at once */
#define TOGETHER_MAX 32 /* handled before their credit is given back */

/* Handlers this thread is inside of: they may neither close their queue nor its node. */
struct handling {
    const struct cohort_queue *queue;
    const struct handling *outer;
};
static _Thread_local const struct handling *handling;

/* ---- emptying: the application's thread, or the shard's -------------------------------------------------------------- */

static size_t take_out(struct shard *shard, struct queued **out, size_t max)
{
    size_t count = 0;
    cohorti_mutex_lock(&shard->lock);
    while (count < max && !cohorti_list_empty(&shard->waiting)) {
        out[count++] = COHORTI_CONTAINER(cohorti_list_pop(&shard->waiting), struct queued, node);
    }
    if (shard->event != NULL && count > 0 && cohorti_list_empty(&shard->waiting)) {
        shard->queue->node->io->ops->event_set(shard->event, false);
    }
    cohorti_mutex_unlock(&shard->lock);
    return count;
}

static bool is_last_copy(struct queued *entry)
{
    if (entry->share == NULL) {
        return true;
    }
    bool last = atomic_fetch_sub(&entry->share->copies, 1) == 1;
    if (last) {
        cohorti_release(&entry->shard->queue->node->alloc, entry->share);
    }
    return last;
}

/* What was handled one after the other and has all in common: its memory, references and credit are given back at once. */
struct done {
    struct cohorti_slab *slab;
    struct cohorti_handler *handler;
    struct peer *peer;
    unsigned lane;
    uint32_t count;
    size_t credit_bytes;
};

static void give_back(struct done *done)
{
    struct done d = *done;
    *done = (struct done){.count = 0};
    if (d.credit_bytes > 0) {
        cohorti_session_consumed(d.peer, d.lane, d.credit_bytes);
    }
    if (d.count > 0) { /* in the order that lets the last user of each go */
        struct cohort_node *node = d.peer->owner;
        cohorti_slab_release(d.slab, d.count);
        cohorti_registry_unref(&node->registry, d.handler, d.count);
        cohorti_peer_unref_many(d.peer, d.count);
    }
}

static bool goes_with(const struct done *done, const struct queued *entry)
{
    return done->handler == entry->handler && done->peer == entry->peer && done->slab == entry->slab && done->lane == entry->lane &&
           done->count < TOGETHER_MAX && done->credit_bytes < COHORTI_ACK_BYTES / 4;
}

/* Before it is handled: what came before and is not of its kind is given back, so that nothing waits for a handler that takes its time but
 * what it has handled itself. */
static void begin(struct done *done, const struct queued *entry)
{
    if (done->count > 0 && !goes_with(done, entry)) {
        give_back(done);
    }
}

/* Nobody will look at it any more. */
static void finish(struct done *done, struct queued *entry)
{
    if (entry->message.call != NULL && !entry->call_taken) {
        cohorti_call_unqueue(entry->message.call);
    }
    if (entry->piece.slot != NULL) {
        cohorti_incoming_put(entry->piece.slot->stream);
    }
    bool last = is_last_copy(entry);
    if (last && entry->legacy) {
        atomic_fetch_sub(&entry->peer->waiting_bytes, entry->credit_bytes);
    }
    done->slab = entry->slab;
    done->handler = entry->handler;
    done->peer = entry->peer;
    done->lane = entry->lane;
    done->count++;
    done->credit_bytes += last && !entry->legacy ? entry->credit_bytes : 0;
}

/* Its handler, here and now. */
static void call_piece(struct queued *entry, bool broken)
{
    struct incoming_slot *slot = entry->piece.slot;
    struct cohorti_handler *h = entry->handler;
    void *own = NULL;
    if (slot != NULL) {
        slot->broken = slot->broken || broken;
        slot->begun = slot->begun || (entry->piece.begin && !broken);
        broken = slot->broken;
    }
    if (broken && (slot == NULL || !slot->begun || !entry->piece.end)) {
        return;
    }
    cohort_piece piece = {.from = entry->message.from,
                          .subject = entry->message.subject,
                          .offset = broken ? slot->seen : entry->piece.offset,
                          .total = broken ? slot->seen : entry->piece.total,
                          .data = broken ? NULL : entry->message.data,
                          .data_len = broken ? 0 : entry->message.data_len,
                          .begin = entry->piece.begin,
                          .end = entry->piece.end,
                          .status = broken ? COHORT_ECLOSED : entry->piece.status,
                          .state = slot == NULL ? &own : &slot->state};
    if (slot != NULL) {
        slot->seen = piece.offset + piece.data_len;
    }
    h->fn.piece(entry->shard->queue->node, &piece, h->arg);
}

static void call_handler(struct queued *entry, bool broken)
{
    struct cohorti_handler *h = entry->handler;
    struct cohort_queue *q = entry->shard->queue;
    struct handling here = {.queue = q, .outer = handling};
    handling = &here;
    if (entry->piece.is) {
        call_piece(entry, broken);
    } else {
        h->fn.message(q->node, &entry->message, h->arg);
    }
    handling = here.outer;
}

/* It was acknowledged, and no handler will see it; but one that has seen the beginning of a stream is told of its end. */
static void drop(struct done *done, struct queued *entry)
{
    begin(done, entry);
    if (entry->share == NULL && (!entry->piece.is || entry->piece.end)) {
        atomic_fetch_add(&entry->shard->queue->node->counters.messages_unhandled, 1);
    }
    bool closing = atomic_load(&entry->shard->queue->node->phase) == NODE_CLOSING; /* else its process is dead */
    if (entry->piece.is && closing && !atomic_load(&entry->handler->removed)) {
        call_handler(entry, true);
    }
    finish(done, entry);
}

static void handle(struct done *done, struct queued *entry)
{
    if (atomic_load(&entry->handler->removed)) {
        drop(done, entry);
        return;
    }
    begin(done, entry);
    call_handler(entry, false);
    finish(done, entry);
}

/* What waits for handlers that were taken back, and so keeps their release, and the queue, from ending. */
static void drop_removed(struct shard *shard)
{
    struct cohorti_list dropped, *it;
    struct done done = {.count = 0};
    cohorti_list_init(&dropped);
    cohorti_mutex_lock(&shard->lock);
    COHORTI_LIST_FOREACH_SAFE (waiting, &shard->waiting) {
        if (atomic_load(&COHORTI_CONTAINER(waiting, struct queued, node)->handler->removed)) {
            cohorti_list_remove(waiting);
            cohorti_list_append(&dropped, waiting);
        }
    }
    if (shard->event != NULL && !cohorti_list_empty(&dropped) && cohorti_list_empty(&shard->waiting)) {
        shard->queue->node->io->ops->event_set(shard->event, false);
    }
    cohorti_mutex_unlock(&shard->lock);
    while ((it = cohorti_list_pop(&dropped)) != NULL) {
        drop(&done, COHORTI_CONTAINER(it, struct queued, node));
    }
    give_back(&done);
}

static bool is_over(struct shard *shard)
{
    uint64_t deadline_ns = atomic_load_explicit(&shard->deadline_ns, memory_order_relaxed);
    return deadline_ns != 0 && cohorti_now(shard->queue->node) >= deadline_ns;
}

static size_t dispatch(struct shard *shard, size_t max)
{
    struct queued *batch[BATCH_MAX];
    size_t handled = 0;
    while (handled < max) {
        struct done done = {.count = 0};
        size_t count = take_out(shard, batch, max - handled < BATCH_MAX ? max - handled : BATCH_MAX);
        for (size_t i = 0; i < count; i++) {
            if (is_over(shard)) {
                drop(&done, batch[i]);
            } else {
                handle(&done, batch[i]);
            }
        }
        give_back(&done);
        handled += count;
        if (count == 0) {
            break;
        }
    }
    return handled;
}

static void on_wake(void *ctx)
{
    struct shard *shard = ctx;
    struct cohort_node *node = shard->queue->node;
    while (dispatch(shard, SIZE_MAX) > 0) {
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
    return queue->shards[0].loop != NULL ? 0 : dispatch(&queue->shards[0], max);
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
    struct queued *entry;
    struct done done = {.count = 0};
    size_t dropped = 0;
    while (take_out(shard, &entry, 1) == 1) {
        drop(&done, entry);
        dropped++;
    }
    give_back(&done);
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
    if (atomic_load(&node->phase) == NODE_CLOSING) {
        return COHORT_ECLOSED;
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
    cohorti_mutex_lock(&node->queues_lock);
    cohorti_list_append(&node->queues, &q->of_node);
    cohorti_mutex_unlock(&node->queues_lock);
    *out = q;
    return COHORT_OK;
}

int cohort_queue_close(cohort_queue *queue)
{
    if (queue == NULL) {
        return COHORT_OK;
    }
    for (const struct handling *h = handling; h != NULL; h = h->outer) {
        if (h->queue == queue) {
            return COHORT_ECALLBACK;
        }
    }
    if (atomic_load(&queue->node->phase) == NODE_CLOSING) {
        return COHORT_ECLOSED;
    }
    for (uint32_t i = 0; i < queue->shard_count; i++) {
        drop_removed(&queue->shards[i]);
    }
    if (atomic_load(&queue->handlers) > 0) {
        return COHORT_ESTATE;
    }
    cohorti_mutex_lock(&queue->node->queues_lock);
    cohorti_list_remove(&queue->of_node);
    cohorti_mutex_unlock(&queue->node->queues_lock);
    queue_free(queue, queue->shard_count);
    return COHORT_OK;
}

bool cohorti_queue_in_handler(const struct cohort_node *node)
{
    const struct handling *h = handling;
    while (h != NULL && h->queue->node != node) {
        h = h->outer;
    }
    return h != NULL;
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

void cohorti_queues_finish(struct cohort_node *node, uint64_t deadline_ns)
{
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
