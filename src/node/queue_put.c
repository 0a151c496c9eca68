/* SPDX-License-Identifier: Apache-2.0
 *
 * What a loop puts into queues. Entries are made one by one while a batch of messages is handled, and put into their queues together, at the
 * end of it or before a handler runs on the loop: one lock, one wake-up, and references taken ahead, instead of each for every message.
 * Messages of one member about one subject come in runs: one that follows another of its kind is put behind it, into its entry.
 */
#include "node/queue_internal.h"

#include <string.h>

#define STAGED_MAX 4096 /* messages put in at once: more than are read at once, unless they are tiny */
#define RUN_MAX 256     /* messages of an entry */
#define REFERENCES 64   /* taken at once, to a handler and a peer */

static struct shard *shard_for(struct cohort_queue *q, const struct peer *peer, const char *subject)
{
    if (q->shard_count == 1) {
        return &q->shards[0];
    }
    uint64_t hash = peer->node.hash ^ cohorti_hash_bytes(subject, strlen(subject));
    return &q->shards[cohorti_hash_u64(hash) % q->shard_count];
}

/* ---- staging --------------------------------------------------------------------------------------------------------- */

void cohorti_stages_init(struct cohorti_stages *stages)
{
    *stages = (struct cohorti_stages){.used = 0};
    for (unsigned i = 0; i < COHORTI_STAGES; i++) {
        cohorti_list_init(&stages->at[i].waiting);
    }
}

/* Whoever empties it is told when the lock is free: what is woken may run at once, in our place, and would find it taken. Until then a
 * handler keeps the queue from being closed. */
static void flush_stage(struct cohorti_stage *stage)
{
    struct shard *shard = stage->shard;
    struct cohort_node *node = shard->queue->node;
    struct cohorti_event *event = shard->event;
    struct cohorti_loop *loop = shard->loop;
    struct cohorti_handler *handler = COHORTI_CONTAINER(stage->waiting.prev, struct queued, node)->handler;
    cohorti_mutex_lock(&shard->lock);
    bool tell = !shard->told;
    if (tell) {
        shard->told = true;
        atomic_fetch_add(&handler->refs, 1);
    }
    cohorti_list_move_all(&shard->waiting, &stage->waiting);
    cohorti_mutex_unlock(&shard->lock);
    stage->count = 0;
    if (tell && event != NULL) {
        node->io->ops->event_set(event, true);
    }
    if (tell && loop != NULL) {
        node->io->ops->loop_wake(loop);
    }
    if (tell) {
        cohorti_registry_unref(&node->registry, handler, 1);
    }
}

static void give_back_references(struct cohorti_stages *stages)
{
    struct cohorti_handler *handler = stages->handler;
    struct peer *peer = stages->peer;
    uint32_t handler_refs = stages->handler_refs, peer_refs = stages->peer_refs;
    stages->handler = NULL;
    stages->peer = NULL;
    stages->handler_refs = stages->peer_refs = 0;
    if (handler_refs > 0) {
        cohorti_registry_unref(&stages->node->registry, handler, handler_refs);
    }
    if (peer_refs > 0) {
        cohorti_peer_unref_many(peer, peer_refs);
    }
}

void cohorti_stages_flush(struct cohorti_stages *stages)
{
    stages->run.handler = NULL;
    while (stages->used != 0) {
        unsigned i = (unsigned)__builtin_ctz(stages->used);
        stages->used &= stages->used - 1;
        flush_stage(&stages->at[i]);
    }
    if (stages->handler != NULL || stages->peer != NULL) {
        give_back_references(stages);
    }
}

/* Nothing more is put into the last entry. */
static void end_run(struct cohorti_stages *stages)
{
    if (stages->run.handler != NULL) {
        stages->run.handler = NULL;
        stages->run.stage->count += stages->run.entry->count - 1;
    }
}

/* Returns where it is now; or was: it may have been put into its queue at once. */
static struct cohorti_stage *stage(struct cohorti_stages *stages, struct queued *entry)
{
    unsigned i = entry->shard->index % COHORTI_STAGES;
    struct cohorti_stage *at = &stages->at[i];
    end_run(stages);
    if (at->count > 0 && (at->shard != entry->shard || at->count >= STAGED_MAX)) { /* or: whoever empties it may begin */
        flush_stage(at);
    }
    at->shard = entry->shard;
    at->count++;
    cohorti_list_append(&at->waiting, &entry->node);
    stages->used |= 1U << i;
    return at;
}

static void take_references(struct cohorti_stages *stages, struct cohorti_handler *handler, struct peer *peer)
{
    if (stages->handler != handler || stages->peer != peer) {
        give_back_references(stages);
        stages->node = peer->owner;
        stages->handler = handler;
        stages->peer = peer;
    }
    if (stages->handler_refs == 0) {
        stages->handler_refs = REFERENCES;
        atomic_fetch_add(&handler->refs, REFERENCES);
    }
    if (stages->peer_refs == 0) {
        stages->peer_refs = REFERENCES;
        atomic_fetch_add(&peer->refs, REFERENCES);
    }
    stages->handler_refs--;
    stages->peer_refs--;
}

/* ---- putting: the loop of the link ---------------------------------------------------------------------------------- */

static void fill(struct record *record, const cohort_message *message, size_t credit)
{
    record->len = (uint32_t)message->data_len;
    record->credit = (uint32_t)credit;
    if (message->data_len > 0) {
        memcpy(record->data, message->data, message->data_len);
    }
}

struct queued *cohorti_queue_make(struct cohorti_handler *handler, const cohort_message *message, const struct cohorti_origin *origin)
{
    struct peer *peer = origin->conn->peer;
    struct runner *runner = origin->conn->worker->runner;
    size_t subject_size = strlen(message->subject) + 1;
    size_t records_at = cohorti_round_up(sizeof(struct queued) + subject_size, COHORTI_SLAB_STEP);
    struct cohorti_slab *slab = NULL;
    struct queued *entry = cohorti_slab_take(&runner->slabs, records_at + cohorti_record_bytes(message->data_len), &slab);
    if (entry == NULL) {
        return NULL;
    }
    cohort_call *call = NULL;
    if (message->call != NULL) {
        call = cohorti_call_queue(message->call, &entry->call_taken);
        if (call == NULL) {
            cohorti_slab_release(slab, 1);
            return NULL;
        }
    }
    *entry = (struct queued){.slab = slab,
                             .shard = shard_for(handler->queue, peer, message->subject),
                             .handler = handler,
                             .peer = peer,
                             .next = (struct record *)(void *)((uint8_t *)entry + records_at),
                             .count = 1,
                             .message = *message,
                             .legacy = origin->legacy,
                             .lane = origin->lane};
    cohorti_list_init(&entry->node);
    memcpy(entry->bytes, message->subject, subject_size);
    fill(entry->next, message, origin->bytes);
    entry->message.from = peer->id;
    entry->message.subject = (const char *)entry->bytes;
    entry->message.call = call;
    take_references(&runner->stages, handler, peer);
    return entry;
}

/* The first of its kind. */
static __attribute__((noinline)) int begin_run(struct cohorti_handler *handler, const cohort_message *message,
                                               const struct cohorti_delivery *taken, struct conn *conn)
{
    struct cohorti_stages *stages = &conn->worker->runner->stages;
    const struct cohorti_origin origin = {.conn = conn, .lane = taken->lane, .bytes = taken->credit_bytes};
    struct queued *entry = cohorti_queue_make(handler, message, &origin);
    if (entry == NULL) {
        return COHORT_ENOMEM;
    }
    stages->run.stage = stage(stages, entry);
    stages->run.handler = handler;
    stages->run.subject = taken->subject;
    stages->run.entry = entry;
    stages->run.end = (uint8_t *)entry->next + cohorti_record_bytes(message->data_len);
    return COHORT_OK;
}

int cohorti_queue_message(struct cohorti_handler *handler, const cohort_message *message, const struct cohorti_delivery *taken,
                          struct conn *conn)
{
    struct runner *runner = conn->worker->runner;
    struct cohorti_run *run = &runner->stages.run;
    struct record *record = NULL;
    if (run->handler == handler && run->subject == taken->subject && run->entry->count < RUN_MAX) {
        record = cohorti_slab_extend(&runner->slabs, run->end, cohorti_record_bytes(message->data_len));
    }
    if (record == NULL) {
        return begin_run(handler, message, taken, conn);
    }
    run->end += cohorti_record_bytes(message->data_len);
    run->entry->count++;
    fill(record, message, taken->credit_bytes);
    return COHORT_OK;
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

void cohorti_queue_forget(struct queued *entry)
{
    struct cohorti_handler *handler = entry->handler;
    struct peer *peer = entry->peer;
    if (entry->piece.slot != NULL) {
        cohorti_incoming_put(entry->piece.slot->stream);
    }
    if (entry->message.call != NULL) {
        cohorti_call_forget(entry->message.call);
    }
    cohorti_slab_release(entry->slab, 1);
    cohorti_registry_unref(&peer->owner->registry, handler, 1);
    cohorti_peer_unref(peer);
}

int cohorti_queue_put(struct cohorti_stages *stages, struct queued **copies, size_t count)
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
        atomic_fetch_add(&copies[0]->peer->waiting_bytes, copies[0]->next->credit);
    }
    for (size_t i = 0; i < count; i++) {
        copies[i]->share = share;
        (void)stage(stages, copies[i]);
    }
    return COHORT_OK;
}

/* On whatever thread the session ends. Pieces that came before are in the queue: a batch is over, or was flushed. */
void cohorti_queue_put_end(struct queued *entry, struct incoming_slot *slot, uint64_t came, int status)
{
    entry->piece.status = status;
    entry->piece.offset = entry->piece.total = came;
    name_slot(entry, slot);
    struct cohorti_stage alone = {.shard = entry->shard};
    cohorti_list_init(&alone.waiting);
    cohorti_list_append(&alone.waiting, &entry->node);
    flush_stage(&alone);
}
