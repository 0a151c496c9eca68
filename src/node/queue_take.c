/* SPDX-License-Identifier: Apache-2.0
 *
 * What comes out of queues: handlers are called by whoever empties them, the application's thread or the shard's own.
 *
 * Entries are taken out of the shard before they are handled, so that several threads, or a handler that empties its own queue, may take:
 * each message is handled once, in order if there is one such thread. One of which only a part was to be handled goes back to the front.
 * What was handled together, and has all in common, is given back together: credit, memory, references.
 */
#include "node/queue_internal.h"

#define BATCH_MAX 256   /* messages taken out at once, and the rest of their entry */
#define TOGETHER_MAX 32 /* messages handled before their credit is given back */

/* Handlers this thread is inside of: they may neither close their queue nor its node. */
struct handling {
    const struct cohort_queue *queue;
    const struct handling *outer;
};
static _Thread_local const struct handling *handling;

bool cohorti_queue_in_handler(const struct cohort_node *node)
{
    const struct handling *h = handling;
    while (h != NULL && h->queue->node != node) {
        h = h->outer;
    }
    return h != NULL;
}

bool cohorti_queue_in_handler_of(const struct cohort_queue *queue)
{
    const struct handling *h = handling;
    while (h != NULL && h->queue != queue) {
        h = h->outer;
    }
    return h != NULL;
}

/* ---- what is given back ----------------------------------------------------------------------------------------------- */

struct done {
    struct cohorti_slab *slab;
    struct cohorti_handler *handler;
    struct peer *peer;
    unsigned lane;
    uint32_t messages; /* since credit was given back */
    uint32_t entries;  /* nobody looks at any more */
    size_t credit;
};

static void give_back(struct done *done)
{
    struct done d = *done;
    done->messages = done->entries = 0;
    done->credit = 0;
    if (d.credit > 0) {
        cohorti_session_consumed(d.peer, d.lane, d.credit);
    }
    if (d.entries > 0) { /* in the order that lets the last user of each go */
        struct cohort_node *node = d.peer->owner;
        cohorti_slab_release(d.slab, d.entries);
        cohorti_registry_unref(&node->registry, d.handler, d.entries);
        cohorti_peer_unref_many(d.peer, d.entries);
    }
}

/* Before an entry is handled: what came before and is not of its kind is given back, so that nothing waits for a handler that takes its
 * time but what it has handled itself; and of that no more than is given back at once. */
static void begin(struct done *done, const struct queued *entry)
{
    bool same = done->peer != NULL && done->peer == entry->peer && done->handler == entry->handler && done->slab == entry->slab &&
                done->lane == entry->lane;
    if (!same) {
        give_back(done);
        done->slab = entry->slab;
        done->handler = entry->handler;
        done->peer = entry->peer;
        done->lane = entry->lane;
    }
}

static inline bool is_full(const struct done *done)
{
    return done->messages >= TOGETHER_MAX || done->credit >= COHORTI_ACK_BYTES / 4;
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

/* Nobody will look at this message any more. */
static void count_done(struct done *done, struct queued *entry, uint32_t credit)
{
    done->messages++;
    if (!is_last_copy(entry)) {
        return;
    }
    if (entry->legacy) {
        atomic_fetch_sub(&entry->peer->waiting_bytes, credit);
    } else {
        done->credit += credit;
    }
}

/* Nor at the entry. */
static void finish(struct done *done, struct queued *entry)
{
    if (entry->message.call != NULL && !entry->call_taken) {
        cohorti_call_unqueue(entry->message.call);
    }
    if (entry->piece.slot != NULL) {
        cohorti_incoming_put(entry->piece.slot->stream);
    }
    done->entries++;
}

/* ---- handling --------------------------------------------------------------------------------------------------------- */

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

/* It was acknowledged, and no handler will see it; but one that has seen the beginning of a stream is told of its end. */
static void drop_one(struct queued *entry)
{
    struct cohort_node *node = entry->shard->queue->node;
    if (entry->share == NULL && (!entry->piece.is || entry->piece.end)) {
        atomic_fetch_add(&node->counters.messages_unhandled, 1);
    }
    bool closing = atomic_load(&node->phase) == NODE_CLOSING; /* else its process is dead */
    if (entry->piece.is && closing && !atomic_load(&entry->handler->removed)) {
        call_piece(entry, true);
    }
}

static bool is_over(const struct shard *shard)
{
    uint64_t deadline_ns = atomic_load_explicit(&shard->deadline_ns, memory_order_relaxed);
    return deadline_ns != 0 && cohorti_now(shard->queue->node) >= deadline_ns;
}

static struct record *after(struct record *record)
{
    return (struct record *)(void *)((uint8_t *)record + cohorti_record_bytes(record->len));
}

/* Most are: of such a one only the handler is called. */
static bool is_plain(const struct queued *entry)
{
    return !entry->piece.is && entry->share == NULL && !entry->legacy && entry->message.call == NULL;
}

/* Messages of a plain entry, while its handler and its node stand. Returns how many. */
static size_t call_run(struct done *done, struct queued *entry, size_t max)
{
    struct cohorti_handler *h = entry->handler;
    struct cohort_node *node = entry->shard->queue->node;
    size_t count = 0;
    max = max < entry->count ? max : entry->count;
    while (count < max && !atomic_load_explicit(&h->removed, memory_order_acquire) &&
           atomic_load_explicit(&entry->shard->deadline_ns, memory_order_relaxed) == 0) {
        struct record *record = entry->next;
        entry->next = after(record);
        entry->message.data = record->data;
        entry->message.data_len = record->len;
        if (is_full(done)) {
            give_back(done);
        }
        h->fn.message(node, &entry->message, h->arg);
        done->messages++;
        done->credit += record->credit;
        count++;
    }
    entry->count -= (uint32_t)count;
    return count;
}

/* The next message of an entry, whatever it is. */
static void handle_next(struct done *done, struct queued *entry, bool drop)
{
    struct cohorti_handler *h = entry->handler;
    struct record *record = entry->next;
    entry->next = after(record);
    entry->count--;
    entry->message.data = record->data;
    entry->message.data_len = record->len;
    if (is_full(done)) {
        give_back(done);
    }
    if (drop || atomic_load(&h->removed) || is_over(entry->shard)) {
        drop_one(entry);
    } else if (entry->piece.is) {
        call_piece(entry, false);
    } else {
        h->fn.message(entry->shard->queue->node, &entry->message, h->arg);
    }
    count_done(done, entry, record->credit);
}

/* Up to `max` messages of an entry, which may be gone then; all of them are dropped, or those that come too late. Returns how many. */
static size_t handle(struct done *done, struct queued *entry, size_t max, bool drop)
{
    const struct handling here = {.queue = entry->shard->queue, .outer = handling};
    begin(done, entry);
    handling = &here;
    size_t count = drop || !is_plain(entry) ? 0 : call_run(done, entry, max);
    for (; count < max && entry->count > 0; count++) {
        handle_next(done, entry, drop);
    }
    handling = here.outer;
    if (entry->count == 0) {
        finish(done, entry);
    }
    return count;
}

/* ---- the shard -------------------------------------------------------------------------------------------------------- */

/* Nothing waits: whoever empties it is to be told again. With the lock held. Who has put in what is gone already may be about to tell of it:
 * then the event is set though nothing waits, until somebody looks. */
static void rest(struct shard *shard)
{
    shard->told = false;
    if (shard->event != NULL) {
        shard->queue->node->io->ops->event_set(shard->event, false);
    }
}

/* Entries with `max` messages, or a few more. */
static void take_out(struct shard *shard, struct cohorti_list *out, size_t max)
{
    size_t count = 0;
    cohorti_list_init(out);
    cohorti_mutex_lock(&shard->lock);
    while (count < max && !cohorti_list_empty(&shard->waiting)) {
        struct cohorti_list *it = cohorti_list_pop(&shard->waiting);
        count += COHORTI_CONTAINER(it, struct queued, node)->count;
        cohorti_list_append(out, it);
    }
    if (count == 0) {
        rest(shard);
    }
    cohorti_mutex_unlock(&shard->lock);
}

/* What of it is left is the next to be handled. */
static void put_back(struct shard *shard, struct queued *entry)
{
    cohorti_mutex_lock(&shard->lock);
    cohorti_list_prepend(&shard->waiting, &entry->node);
    if (!shard->told && shard->event != NULL) { /* another thread has found it empty */
        shard->told = true;
        shard->queue->node->io->ops->event_set(shard->event, true);
    }
    cohorti_mutex_unlock(&shard->lock);
}

static size_t handle_all(struct shard *shard, struct cohorti_list *batch, size_t max, bool drop)
{
    struct done done = {.messages = 0};
    struct cohorti_list *it;
    size_t handled = 0;
    while ((it = cohorti_list_pop(batch)) != NULL) {
        struct queued *entry = COHORTI_CONTAINER(it, struct queued, node);
        handled += handle(&done, entry, max - handled, drop);
        if (entry->count > 0) {
            give_back(&done); /* while the entry holds its peer */
            put_back(shard, entry);
        }
    }
    give_back(&done);
    return handled;
}

size_t cohorti_shard_dispatch(struct shard *shard, size_t max)
{
    size_t handled = 0;
    while (handled < max) {
        struct cohorti_list batch;
        take_out(shard, &batch, max - handled < BATCH_MAX ? max - handled : BATCH_MAX);
        if (cohorti_list_empty(&batch)) {
            return handled;
        }
        handled += handle_all(shard, &batch, max - handled, false);
    }
    cohorti_mutex_lock(&shard->lock);
    if (shard->told && cohorti_list_empty(&shard->waiting)) {
        rest(shard);
    }
    cohorti_mutex_unlock(&shard->lock);
    return handled;
}

size_t cohorti_shard_drop(struct shard *shard, bool removed)
{
    struct cohorti_list dropped;
    cohorti_list_init(&dropped);
    cohorti_mutex_lock(&shard->lock);
    COHORTI_LIST_FOREACH_SAFE (waiting, &shard->waiting) {
        if (!removed || atomic_load(&COHORTI_CONTAINER(waiting, struct queued, node)->handler->removed)) {
            cohorti_list_remove(waiting);
            cohorti_list_append(&dropped, waiting);
        }
    }
    if (shard->told && cohorti_list_empty(&shard->waiting)) {
        rest(shard);
    }
    cohorti_mutex_unlock(&shard->lock);
    return handle_all(shard, &dropped, SIZE_MAX, true);
}
