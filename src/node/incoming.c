/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams that come: which handlers get the pieces of one, giving them on, and telling each handler of the end, once.
 *
 * A stream is given to the handlers its subject had when it began. It is named by its partial in the receiving half (partial->reader)
 * and by the pieces of it that wait in queues; the last of these lets it go. What tells a queue of an early end is allocated at the
 * beginning, so that it cannot fail. Everything but what is in queues belongs to the loop of the link, as the receiving half does.
 */
#include "node/stream.h"

#include <string.h>

struct incoming {
    _Atomic uint32_t refs;
    struct cohort_node *owner;
    struct cohorti_handlers *handlers;
    uint64_t came;
    bool given; /* the first piece was: so each handler has seen, or will see, a beginning */
    size_t count;
    struct incoming_slot slots[];
};

void cohorti_incoming_ref(struct incoming *in)
{
    atomic_fetch_add(&in->refs, 1);
}

static void forget_end(struct incoming_slot *slot)
{
    if (slot->end != NULL) {
        cohorti_queue_forget(slot->end);
        slot->end = NULL;
    }
}

void cohorti_incoming_put(struct incoming *in)
{
    if (atomic_fetch_sub(&in->refs, 1) == 1) {
        cohorti_registry_put(&in->owner->registry, in->handlers);
        cohorti_release(&in->owner->alloc, in);
    }
}

struct cohorti_handlers *cohorti_incoming_handlers(struct incoming *in)
{
    return in->handlers;
}

struct incoming_slot *cohorti_incoming_slot(struct incoming *in, const struct cohorti_handler *handler)
{
    for (size_t i = 0; i < in->count; i++) {
        if (in->slots[i].handler == handler) {
            return &in->slots[i];
        }
    }
    return NULL;
}

/* The partial does not name it any more. */
static void let_go(struct incoming *in)
{
    for (size_t i = 0; i < in->count; i++) {
        forget_end(&in->slots[i]);
    }
    cohorti_incoming_put(in);
}

static struct incoming *incoming_new(struct conn *conn, struct cohorti_handlers *handlers, const char *subject)
{
    struct cohort_node *node = conn->owner;
    struct incoming *in = cohorti_alloc_zero(&node->alloc, sizeof *in + handlers->count * sizeof in->slots[0]);
    if (in == NULL) {
        return NULL;
    }
    const struct cohorti_origin origin = {.conn = conn};
    const cohort_piece end = {.from = conn->peer->id, .subject = subject, .end = true};
    atomic_init(&in->refs, 1);
    in->owner = node;
    in->handlers = handlers;
    atomic_fetch_add(&handlers->refs, 1);
    for (size_t i = 0; i < handlers->count; i++) {
        struct cohorti_handler *h = handlers->at[i];
        if (!h->stream) {
            continue;
        }
        struct incoming_slot *slot = &in->slots[in->count++];
        *slot = (struct incoming_slot){.stream = in, .handler = h};
        if (h->queue != NULL) {
            slot->end = cohorti_queue_make_piece(h, &end, NULL, &origin);
            if (slot->end == NULL) {
                let_go(in);
                return NULL;
            }
        }
    }
    return in;
}

/* ---- the end ------------------------------------------------------------------------------------------------------- */

static void end_slot(struct peer *peer, struct incoming *in, struct incoming_slot *slot, const char *subject, int status)
{
    struct cohorti_handler *h = slot->handler;
    if (atomic_load(&h->removed)) {
        return;
    }
    if (slot->end != NULL) {
        cohorti_queue_put_end(slot->end, slot, in->came, status);
        slot->end = NULL;
        return;
    }
    const cohort_piece piece = {
        .from = peer->id, .subject = subject, .offset = in->came, .total = in->came, .end = true, .status = status, .state = &slot->state};
    h->fn.piece(peer->owner, &piece, h->arg);
}

/* No handler is called for what none has begun to read. */
static void end_early(struct peer *peer, struct incoming *in, const char *subject, int status)
{
    for (size_t i = 0; i < in->count && in->given; i++) {
        end_slot(peer, in, &in->slots[i], subject, status);
    }
    let_go(in);
}

void cohorti_incoming_end_all(struct peer *peer, int status)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        struct cohorti_inbound_lane *lane = &peer->inbound.lanes[i];
        for (struct cohorti_partial *p = lane->partials; p != NULL; p = p->next) {
            if (p->reader != NULL) {
                struct incoming *in = p->reader;
                p->reader = NULL;
                end_early(peer, in, lane->subjects[p->number]->name, status);
            }
        }
    }
}

void cohorti_incoming_forget_all(struct peer *peer)
{
    void *reader;
    while ((reader = cohorti_inbound_take_reader(&peer->inbound)) != NULL) {
        let_go(reader);
    }
}

static int close_incoming(struct cohort_node *node, void *arg)
{
    struct peers *all = cohorti_peers_get(node); /* without memory they end with their sessions, a little later */
    for (size_t i = 0; all != NULL && i < all->count; i++) {
        cohorti_incoming_end_all(all->at[i], COHORT_ECLOSED);
    }
    cohorti_peers_put(all);
    return COHORT_OK;
}

void cohorti_incoming_close(struct cohort_node *node)
{
    (void)cohorti_node_call(node, close_incoming, NULL);
}

/* ---- pieces -------------------------------------------------------------------------------------------------------- */

static void say_too_large(struct conn *conn, const struct cohorti_delivery *taken)
{
    atomic_fetch_add(&conn->owner->counters.messages_dropped, 1);
    cohorti_log(conn->owner, COHORT_LOG_WARN, "message", conn->peer->id, COHORT_ESIZE,
                "a stream of subject %s is larger than limits.message_bytes_max, and its handler takes messages: dropped",
                taken->subject->name);
}

/* What becomes of a message whose first chunk came: given on to those who take pieces, put together for those who do not. */
static int begin(struct conn *conn, struct cohorti_delivery *taken)
{
    struct cohorti_handlers *handlers = cohorti_conn_handlers(conn, taken->subject);
    bool whole = false, pieces = false;
    for (size_t i = 0; handlers != NULL && i < handlers->count; i++) {
        pieces = pieces || handlers->at[i]->stream;
        whole = whole || !handlers->at[i]->stream;
    }
    if (handlers == NULL) {
        atomic_fetch_add(&conn->owner->counters.messages_unhandled, 1);
    }
    if (whole) {
        int status = cohorti_inbound_collect(&conn->peer->inbound, taken);
        if (status == COHORT_ESIZE && taken->chunk.stream != 0) {
            say_too_large(conn, taken);
        } else if (status != COHORT_OK) {
            return status;
        }
    }
    if (pieces) {
        taken->partial->reader = incoming_new(conn, handlers, taken->subject->name);
    }
    return pieces && taken->partial->reader == NULL ? COHORT_ENOMEM : COHORT_OK;
}

static int give(struct conn *conn, struct incoming *in, struct cohorti_delivery *taken, bool *consumed)
{
    const struct cohorti_chunk *chunk = &taken->chunk;
    cohort_message message = {.subject = taken->subject->name, .data = taken->body, .data_len = taken->body_len};
    const cohort_piece piece = {.from = conn->peer->id,
                                .subject = taken->subject->name,
                                .offset = chunk->at,
                                .total = chunk->total == COHORTI_TOTAL_UNKNOWN ? COHORT_TOTAL_UNKNOWN : chunk->total,
                                .data = chunk->data,
                                .data_len = chunk->data_len,
                                .begin = chunk->first,
                                .end = chunk->last};
    int status = cohorti_conn_deliver_piece(conn, in, &piece, taken->whole ? &message : NULL, taken, consumed);
    if (status == COHORT_OK) {
        in->given = true;
        in->came = chunk->at + chunk->data_len;
    }
    return status;
}

int cohorti_incoming_take(struct conn *conn, struct cohorti_delivery *taken, bool *consumed)
{
    struct cohorti_partial *partial = taken->partial;
    int status = taken->chunk.first ? begin(conn, taken) : COHORT_OK;
    if (status == COHORT_OK && taken->too_large) {
        say_too_large(conn, taken);
    }
    struct incoming *in = partial->reader;
    if (status == COHORT_OK && in != NULL && !taken->chunk.aborts) {
        status = give(conn, in, taken, consumed);
    } else if (status == COHORT_OK && in == NULL && taken->whole) {
        cohort_message message = {.subject = taken->subject->name, .data = taken->body, .data_len = taken->body_len};
        status = cohorti_conn_deliver(conn, &message, taken, consumed);
    }
    bool over = status == COHORT_OK ? taken->chunk.last : taken->chunk.first || status == COHORT_ENOHANDLER;
    if (status == COHORT_OK && in != NULL && taken->chunk.aborts) {
        partial->reader = NULL;
        cohorti_stages_flush(&conn->worker->runner->stages); /* the stream may have begun on another loop */
        end_early(conn->peer, in, taken->subject->name, COHORT_ECANCELLED);
    } else if (in != NULL && over) {
        partial->reader = NULL; /* or it comes again from its beginning; or all its handlers were taken back */
        let_go(in);
    }
    return status == COHORT_ENOHANDLER ? COHORT_OK : status;
}
