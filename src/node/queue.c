/* SPDX-License-Identifier: Apache-2.0
 *
 * Queues of messages for handlers that must not, or need not, run on a loop.
 *
 * A queue has shards. Without threads it has one, which the application empties; with threads each has its own, and a member and
 * subject together always fall into the same, which keeps their order. An entry holds a copy of the message, its handler, and its peer.
 * The message is acknowledged when it is put here; the credit for it is given back when the last of its copies was handled, so what waits
 * is bounded by limits.window_bytes for each lane of each member. A legacy peer has no credit: what it sends beyond that is dropped.
 */
#include "node/queue.h"

#include "node/node.h"
#include "node/stream.h"

#include <stdio.h>
#include <string.h>

#define SMALL_BYTES ((size_t)512) /* entries up to this size are kept and used again */
#define SPARES_MAX 1024
#define BATCH_MAX 64 /* taken out at once */

/* Handlers this thread is inside of: they may neither close their queue nor its node. */
struct handling {
    const struct cohort_queue *queue;
    const struct handling *outer;
};
static _Thread_local const struct handling *handling;

struct shard {
    struct cohort_queue *queue;
    struct cohorti_mutex lock;
    struct cohorti_list waiting; /* under lock, as the rest */
    struct cohorti_list spare;
    uint32_t spare_count;
    struct cohorti_event *event;  /* readable while something waits; NULL with a thread */
    struct cohorti_loop *loop;    /* the thread; NULL without */
    _Atomic uint64_t deadline_ns; /* of a node that closes: what is not handled by then is dropped; 0: it does not */
    struct cohorti_waiter *empty; /* who closes it waits for that; under lock */
};

struct cohort_queue {
    struct cohort_node *node;
    struct cohorti_list of_node; /* node->queues, under life_lock */
    _Atomic uint32_t handlers;   /* registered for it */
    uint32_t shard_count;
    struct shard shards[];
};

/* What several copies of one message have in common. */
struct share {
    _Atomic size_t copies;
};

struct queued {
    struct cohorti_list node;
    struct shard *shard;
    struct cohorti_handler *handler;
    struct peer *peer;
    cohort_message message; /* pointers into what follows */
    struct {
        bool is, begin, end; /* it is a piece, of which `message` has the data */
        int status;
        uint64_t offset, total;
        struct incoming_slot *slot; /* named by us; NULL: it is all of its stream */
    } piece;
    bool call_taken;     /* its handler has kept message.call: not ours to look at any more */
    struct share *share; /* NULL: the only copy */
    bool legacy;
    unsigned lane;
    size_t credit_bytes;
    size_t cap; /* of bytes */
    uint8_t bytes[];
};

/* ---- putting: the loop of the link ---------------------------------------------------------------------------------- */

static struct shard *shard_for(struct cohort_queue *q, const struct peer *peer, const char *subject)
{
    if (q->shard_count == 1) {
        return &q->shards[0];
    }
    uint64_t hash = peer->node.hash ^ cohorti_hash_bytes(subject, strlen(subject));
    return &q->shards[cohorti_hash_u64(hash) % q->shard_count];
}

static struct queued *new_entry(struct shard *shard, size_t need)
{
    struct queued *entry = NULL;
    if (need <= SMALL_BYTES) {
        cohorti_mutex_lock(&shard->lock);
        struct cohorti_list *spare = cohorti_list_pop(&shard->spare);
        shard->spare_count -= spare != NULL;
        cohorti_mutex_unlock(&shard->lock);
        entry = spare == NULL ? NULL : COHORTI_CONTAINER(spare, struct queued, node);
    }
    if (entry == NULL) {
        size_t cap = need < SMALL_BYTES ? SMALL_BYTES : need;
        entry = cohorti_alloc(&shard->queue->node->alloc, sizeof *entry + cap);
        if (entry != NULL) {
            entry->cap = cap;
        }
    }
    return entry;
}

struct queued *cohorti_queue_make(struct cohorti_handler *handler, const cohort_message *message, const struct cohorti_origin *origin)
{
    struct peer *peer = origin->conn->peer;
    struct shard *shard = shard_for(handler->queue, peer, message->subject);
    size_t subject_size = strlen(message->subject) + 1;
    struct queued *entry = new_entry(shard, message->data_len + subject_size);
    if (entry == NULL) {
        return NULL;
    }
    cohort_call *call = NULL;
    entry->call_taken = false;
    if (message->call != NULL) {
        call = cohorti_call_queue(message->call, &entry->call_taken);
        if (call == NULL) {
            cohorti_release(&shard->queue->node->alloc, entry);
            return NULL;
        }
    }
    entry->shard = shard;
    entry->handler = handler;
    entry->peer = peer;
    entry->share = NULL;
    memset(&entry->piece, 0, sizeof entry->piece);
    entry->legacy = origin->legacy;
    entry->lane = origin->lane;
    entry->credit_bytes = origin->bytes;
    entry->message = *message;
    entry->message.call = call;
    memcpy(entry->bytes, message->subject, subject_size);
    if (message->data_len > 0) {
        memcpy(entry->bytes + subject_size, message->data, message->data_len);
    }
    entry->message.from = peer->id;
    entry->message.subject = (const char *)entry->bytes;
    entry->message.data = entry->bytes + subject_size;
    atomic_fetch_add(&handler->refs, 1);
    atomic_fetch_add(&peer->refs, 1);
    return entry;
}

static void name_slot(struct queued *entry, struct incoming_slot *slot)
{
    entry->piece.slot = slot;
    if (slot != NULL) {
        cohorti_incoming_ref(slot->stream);
    }
}

struct queued *cohorti_queue_make_piece(struct cohorti_handler *handler, const cohort_piece *piece, struct incoming_slot *slot,
                                        const struct cohorti_origin *origin)
{
    const cohort_message message = {.subject = piece->subject, .data = piece->data, .data_len = piece->data_len};
    struct queued *entry = cohorti_queue_make(handler, &message, origin);
    if (entry != NULL) {
        entry->piece.is = true;
        entry->piece.begin = piece->begin;
        entry->piece.end = piece->end;
        entry->piece.status = piece->status;
        entry->piece.offset = piece->offset;
        entry->piece.total = piece->total;
        name_slot(entry, slot);
    }
    return entry;
}

static void recycle(struct queued *entry)
{
    struct shard *shard = entry->shard;
    bool kept = false;
    cohorti_mutex_lock(&shard->lock);
    if (entry->cap == SMALL_BYTES && shard->spare_count < SPARES_MAX) {
        cohorti_list_append(&shard->spare, &entry->node);
        shard->spare_count++;
        kept = true;
    }
    cohorti_mutex_unlock(&shard->lock);
    if (!kept) {
        cohorti_release(&shard->queue->node->alloc, entry);
    }
}

/* Everything the entry holds, in the order that lets the last user of each go. */
static void let_go(struct queued *entry)
{
    struct cohort_node *node = entry->shard->queue->node;
    struct cohorti_handler *handler = entry->handler;
    struct peer *peer = entry->peer;
    if (entry->piece.slot != NULL) {
        cohorti_incoming_put(entry->piece.slot->stream);
    }
    recycle(entry);
    cohorti_registry_unref(&node->registry, handler);
    cohorti_peer_unref(peer);
}

void cohorti_queue_forget(struct queued *entry)
{
    if (entry->message.call != NULL) {
        cohorti_call_forget(entry->message.call);
    }
    let_go(entry);
}

static void put(struct queued *entry)
{
    struct shard *shard = entry->shard;
    struct cohorti_io *io = shard->queue->node->io;
    cohorti_mutex_lock(&shard->lock);
    bool first = cohorti_list_empty(&shard->waiting);
    cohorti_list_append(&shard->waiting, &entry->node);
    if (first && shard->event != NULL) {
        io->ops->event_set(shard->event, true);
    }
    cohorti_mutex_unlock(&shard->lock);
    if (first && shard->loop != NULL) {
        io->ops->loop_wake(shard->loop);
    }
}

int cohorti_queue_put(struct queued **copies, size_t count)
{
    struct share *share = NULL;
    if (count > 1) {
        share = cohorti_alloc(&copies[0]->shard->queue->node->alloc, sizeof *share);
        if (share == NULL) {
            for (size_t i = 0; i < count; i++) {
                cohorti_queue_forget(copies[i]);
            }
            return COHORT_ENOMEM;
        }
        atomic_init(&share->copies, count);
    }
    if (count > 0 && copies[0]->legacy) {
        atomic_fetch_add(&copies[0]->peer->waiting_bytes, copies[0]->credit_bytes);
    }
    for (size_t i = 0; i < count; i++) {
        copies[i]->share = share;
        put(copies[i]);
    }
    return COHORT_OK;
}

void cohorti_queue_put_end(struct queued *entry, struct incoming_slot *slot, uint64_t came, int status)
{
    entry->piece.status = status;
    entry->piece.offset = entry->piece.total = came;
    name_slot(entry, slot);
    put(entry);
}

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

/* Nobody will look at it any more. */
static void finish(struct queued *entry)
{
    if (entry->message.call != NULL && !entry->call_taken) {
        cohorti_call_unqueue(entry->message.call);
    }
    if (is_last_copy(entry)) {
        if (entry->legacy) {
            atomic_fetch_sub(&entry->peer->waiting_bytes, entry->credit_bytes);
        } else {
            cohorti_session_consumed(entry->peer, entry->lane, entry->credit_bytes);
        }
    }
    let_go(entry);
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
static void drop(struct queued *entry)
{
    if (entry->share == NULL && (!entry->piece.is || entry->piece.end)) {
        atomic_fetch_add(&entry->shard->queue->node->counters.messages_unhandled, 1);
    }
    bool closing = atomic_load(&entry->shard->queue->node->phase) == NODE_CLOSING; /* else its process is dead */
    if (entry->piece.is && closing && !atomic_load(&entry->handler->removed)) {
        call_handler(entry, true);
    }
    finish(entry);
}

static void handle(struct queued *entry)
{
    if (atomic_load(&entry->handler->removed)) {
        drop(entry);
        return;
    }
    call_handler(entry, false);
    finish(entry);
}

/* What waits for handlers that were taken back, and so keeps their release, and the queue, from ending. */
static void drop_removed(struct shard *shard)
{
    struct cohorti_list dropped, *it;
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
        drop(COHORTI_CONTAINER(it, struct queued, node));
    }
}

static bool is_over(struct shard *shard)
{
    uint64_t deadline_ns = atomic_load_explicit(&shard->deadline_ns, memory_order_relaxed);
    return deadline_ns != 0 && cohorti_now(shard->queue->node) >= deadline_ns;
}

static size_t dispatch(struct shard *shard, size_t max)
{
    struct queued *batch[BATCH_MAX];
    size_t done = 0;
    while (done < max) {
        size_t count = take_out(shard, batch, max - done < BATCH_MAX ? max - done : BATCH_MAX);
        for (size_t i = 0; i < count; i++) {
            if (is_over(shard)) {
                drop(batch[i]);
            } else {
                handle(batch[i]);
            }
        }
        done += count;
        if (count == 0) {
            break;
        }
    }
    return done;
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
    cohorti_list_init(&shard->waiting);
    cohorti_list_init(&shard->spare);
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

static void free_list(struct cohort_node *node, struct cohorti_list *list)
{
    struct cohorti_list *it;
    while ((it = cohorti_list_pop(list)) != NULL) {
        cohorti_release(&node->alloc, COHORTI_CONTAINER(it, struct queued, node));
    }
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
    size_t dropped = 0;
    while (take_out(shard, &entry, 1) == 1) {
        drop(entry);
        dropped++;
    }
    if (shard->event != NULL) {
        io->ops->event_free(shard->event);
    }
    free_list(shard->queue->node, &shard->spare);
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
