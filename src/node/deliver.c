/* SPDX-License-Identifier: Apache-2.0
 *
 * A message to its handlers: those that run here, on the loop of its link, are called; for those in queues it is copied.
 *
 * It is delivered whole or not at all: what there was no memory for has been seen by no handler, is not acknowledged, and comes again.
 */
#include "node/node.h"
#include "node/stream.h"

#include <stdio.h>

/* In queues, for another message of a legacy peer. */
static bool has_room(const struct conn *conn, size_t bytes)
{
    uint64_t waiting = atomic_load(&conn->peer->waiting_bytes);
    return waiting == 0 || waiting + bytes <= conn->owner->limits.window_bytes;
}

/* What there is for the handlers of a subject. */
struct given {
    struct cohorti_handlers *handlers;
    cohort_message message; /* for those who take messages, if has_message */
    bool has_message;
    const cohort_piece *piece; /* for those who take pieces; NULL: nothing */
    struct incoming *stream;   /* of the piece; NULL: the message is the one piece */
    struct cohorti_origin origin;
    bool room;
};

static bool is_for(const struct given *given, const struct cohorti_handler *h)
{
    if (atomic_load(&h->removed)) {
        return false;
    }
    return h->stream ? given->piece != NULL && (given->stream == NULL || cohorti_incoming_slot(given->stream, h) != NULL)
                     : given->has_message;
}

static struct queued *make_copy(struct given *given, struct cohorti_handler *h)
{
    if (h->stream) {
        struct incoming_slot *slot = given->stream == NULL ? NULL : cohorti_incoming_slot(given->stream, h);
        return cohorti_queue_make_piece(h, given->piece, slot, &given->origin);
    }
    struct queued *copy = cohorti_queue_make(h, &given->message, &given->origin);
    if (copy != NULL) {
        given->message.call = NULL;
    }
    return copy;
}

/* Copies for the queues are made first: without memory for one, none has seen the message, and it comes again. The call of a request is
 * the first queue's then: all others see the message without it, since nobody could say when the last of them has returned. */
static int fill_queues(struct conn *conn, struct given *given, size_t *count)
{
    struct queued *queued[COHORTI_HANDLERS_QUEUED_MAX];
    *count = 0;
    for (size_t i = 0; i < given->handlers->count; i++) {
        struct cohorti_handler *h = given->handlers->at[i];
        if (h->queue == NULL || !is_for(given, h)) {
            continue;
        }
        if (!given->room) {
            atomic_fetch_add(&conn->owner->counters.messages_dropped, 1);
            break;
        }
        queued[*count] = make_copy(given, h);
        if (queued[*count] == NULL) {
            while (*count > 0) {
                cohorti_queue_forget(queued[--*count]);
            }
            return COHORT_ENOMEM;
        }
        ++*count;
    }
    return *count == 0 ? COHORT_OK : cohorti_queue_put(&conn->worker->runner->stages, queued, *count);
}

static void call_here(struct conn *conn, const struct given *given, struct cohorti_handler *h)
{
    if (!h->stream) {
        h->fn.message(conn->owner, &given->message, h->arg);
        return;
    }
    void *own = NULL;
    cohort_piece piece = *given->piece;
    piece.state = given->stream == NULL ? &own : &cohorti_incoming_slot(given->stream, h)->state;
    h->fn.piece(conn->owner, &piece, h->arg);
}

/* COHORT_ENOHANDLER: none of them takes it. */
static int call_handlers(struct conn *conn, struct given *given, const struct cohorti_delivery *taken, bool *consumed)
{
    size_t in_queues = 0, here = 0;
    given->origin =
        (struct cohorti_origin){.conn = conn, .legacy = taken == NULL, .bytes = COHORT_FRAME_HEADER_BYTES + given->message.data_len};
    if (taken != NULL) {
        given->origin.lane = taken->lane;
        given->origin.bytes = taken->credit_bytes;
    }
    given->room = taken != NULL || has_room(conn, given->origin.bytes);
    if (fill_queues(conn, given, &in_queues) != COHORT_OK) {
        return COHORT_ENOMEM;
    }
    *consumed = in_queues == 0;
    for (size_t i = 0; i < given->handlers->count; i++) {
        struct cohorti_handler *h = given->handlers->at[i];
        if (h->queue == NULL && is_for(given, h)) {
            cohorti_stages_flush(&conn->worker->runner->stages); /* nothing waits for what runs here */
            call_here(conn, given, h);
            here++;
        }
    }
    return in_queues + here > 0 || !given->room ? COHORT_OK : COHORT_ENOHANDLER;
}

/* All of them run here and take whole messages, as most do: nothing to prepare. */
static bool are_plain(const struct cohorti_handlers *handlers)
{
    bool plain = true;
    for (size_t i = 0; i < handlers->count; i++) {
        plain = plain && handlers->at[i]->queue == NULL && !handlers->at[i]->stream;
    }
    return plain;
}

static int call_plain(struct conn *conn, const struct cohorti_handlers *handlers, const cohort_message *message)
{
    int status = COHORT_ENOHANDLER;
    for (size_t i = 0; i < handlers->count; i++) {
        struct cohorti_handler *h = handlers->at[i];
        if (!atomic_load(&h->removed)) {
            h->fn.message(conn->owner, message, h->arg);
            status = COHORT_OK;
        }
    }
    return status;
}

/* The message is for those who take pieces as well: the only one. */
static int call_others(struct conn *conn, struct cohorti_handlers *handlers, const cohort_message *message,
                       const struct cohorti_delivery *taken, bool *consumed)
{
    const cohort_piece piece = {.from = message->from,
                                .subject = message->subject,
                                .total = message->data_len,
                                .data = message->data,
                                .data_len = message->data_len,
                                .begin = true,
                                .end = true};
    struct given given = {.handlers = handlers, .message = *message, .has_message = true};
    given.piece = message->raw || message->call != NULL ? NULL : &piece;
    return call_handlers(conn, &given, taken, consumed);
}

static struct cohorti_handlers *find_handlers(struct cohort_node *node, const char *subject)
{
    struct cohorti_handlers *handlers = cohorti_registry_get(&node->registry, subject);
    return handlers != NULL ? handlers : cohorti_registry_get(&node->registry, COHORTI_KEY_DEFAULT);
}

void cohorti_conn_unpin(struct conn *conn)
{
    for (uint32_t i = 0; i < conn->pinned_count; i++) {
        cohorti_registry_put(&conn->owner->registry, conn->pinned[i]->cache);
        conn->pinned[i]->cache = NULL;
    }
    conn->pinned_count = 0;
}

/* Messages come in bursts about few subjects, and a look-up costs more than all else a message needs. So what was found is kept until
 * the batch ends, or some handler is registered or taken back; not longer, since it would put off the release of a handler. */
struct cohorti_handlers *cohorti_conn_handlers(struct conn *conn, struct cohorti_inbound_subject *subject)
{
    struct cohort_node *node = conn->owner;
    uint32_t generation = atomic_load(&node->registry.generation);
    if (generation != conn->pinned_generation || (subject->cache == NULL && conn->pinned_count == COHORTI_PINS_MAX)) {
        cohorti_conn_unpin(conn);
        conn->pinned_generation = generation;
    }
    if (subject->cache == NULL) {
        subject->cache = find_handlers(node, subject->name);
        if (subject->cache != NULL) {
            conn->pinned[conn->pinned_count++] = subject;
        }
    }
    return subject->cache;
}

/* Its only handler, as most have. */
static int deliver_to(struct conn *conn, struct cohorti_handler *h, const cohort_message *message,
                      const struct cohorti_delivery *taken, bool *consumed)
{
    if (atomic_load(&h->removed)) {
        return COHORT_ENOHANDLER;
    }
    if (h->queue == NULL) {
        h->fn.message(conn->owner, message, h->arg);
        return COHORT_OK;
    }
    *consumed = false;
    return cohorti_queue_message(h, message, taken, conn);
}

/* Whatever it is, whoever takes it. */
static __attribute__((noinline)) int deliver_any(struct conn *conn, cohort_message *message, const struct cohorti_delivery *taken,
                                                 bool *consumed)
{
    struct cohort_node *node = conn->owner;
    struct cohorti_inbound_subject *subject = taken == NULL ? NULL : taken->subject;
    char raw[16];
    if (message->raw) {
        snprintf(raw, sizeof raw, "#%d", (int)message->type);
        message->subject = raw;
    }
    struct cohorti_handlers *handlers =
        subject != NULL ? cohorti_conn_handlers(conn, subject) : find_handlers(node, message->subject);
    int status = COHORT_ENOHANDLER;
    if (handlers != NULL) {
        status = are_plain(handlers) ? call_plain(conn, handlers, message) : call_others(conn, handlers, message, taken, consumed);
        if (subject == NULL) {
            cohorti_registry_put(&node->registry, handlers);
        }
    }
    if (message->raw) {
        message->subject = NULL; /* it was ours */
    }
    return status;
}

int cohorti_conn_deliver(struct conn *conn, cohort_message *message, const struct cohorti_delivery *taken, bool *consumed)
{
    struct cohorti_handlers *handlers = NULL;
    message->from = conn->peer->id;
    message->legacy = !conn->link.peer.extended;
    *consumed = true;
    if (taken != NULL && taken->subject != NULL && message->call == NULL) {
        handlers = cohorti_conn_handlers(conn, taken->subject);
    }
    bool one = handlers != NULL && handlers->count == 1 && !handlers->at[0]->stream;
    int status = one ? deliver_to(conn, handlers->at[0], message, taken, consumed) : deliver_any(conn, message, taken, consumed);
    if (status == COHORT_ENOHANDLER) {
        atomic_fetch_add(&conn->owner->counters.messages_unhandled, 1);
    }
    return status;
}

int cohorti_conn_deliver_piece(struct conn *conn, struct incoming *stream, const cohort_piece *piece, cohort_message *message,
                               const struct cohorti_delivery *taken, bool *consumed)
{
    struct given given = {
        .handlers = cohorti_incoming_handlers(stream), .has_message = message != NULL, .piece = piece, .stream = stream};
    if (message != NULL) {
        message->from = piece->from;
        given.message = *message;
    }
    *consumed = true;
    return call_handlers(conn, &given, taken, consumed);
}
