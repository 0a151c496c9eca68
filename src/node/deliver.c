/* SPDX-License-Identifier: Apache-2.0
 *
 * A message to its handlers: those that run here, on the loop of its link, are called; for those in queues it is copied.
 *
 * It is delivered whole or not at all: what there was no memory for has been seen by no handler, is not acknowledged, and comes again.
 */
#include "node/node.h"

#include <stdio.h>

#define QUEUED_MAX 16 /* handlers of one message that have queues */

/* In queues, for another message of a legacy peer. */
static bool has_room(const struct conn *conn, size_t bytes)
{
    uint64_t waiting = atomic_load(&conn->peer->waiting_bytes);
    return waiting == 0 || waiting + bytes <= conn->owner->limits.window_bytes;
}

/* Copies for the queues are made first: without memory for one, none has seen the message, and it comes again. The call of a request is
 * the first queue's then: all others see the message without it, since nobody could say when the last of them has returned. */
static int call_handlers(struct conn *conn, const struct cohorti_handlers *handlers, const cohort_message *given,
                         const struct cohorti_delivery *taken, bool *consumed)
{
    cohort_message message = *given;
    struct queued *queued[QUEUED_MAX];
    size_t count = 0;
    struct cohorti_origin origin = {.conn = conn, .legacy = taken == NULL, .bytes = COHORT_FRAME_HEADER_BYTES + message.data_len};
    if (taken != NULL) {
        origin.lane = taken->lane;
        origin.bytes = taken->credit_bytes;
    }
    bool room = taken != NULL || has_room(conn, origin.bytes), dropped = false;
    for (size_t i = 0; i < handlers->count && count < QUEUED_MAX; i++) {
        struct cohorti_handler *h = handlers->at[i];
        if (h->queue == NULL || atomic_load(&h->removed)) {
            continue;
        }
        if (!room) {
            dropped = true;
            break;
        }
        queued[count] = cohorti_queue_make(h, &message, &origin);
        if (queued[count] == NULL) {
            while (count > 0) {
                cohorti_queue_forget(queued[--count]);
            }
            return COHORT_ENOMEM;
        }
        message.call = NULL;
        count++;
    }
    if (count > 0 && cohorti_queue_put(queued, count) != COHORT_OK) {
        return COHORT_ENOMEM;
    }
    *consumed = count == 0;
    if (dropped) {
        atomic_fetch_add(&conn->owner->counters.messages_dropped, 1);
    }
    for (size_t i = 0; i < handlers->count; i++) {
        struct cohorti_handler *h = handlers->at[i];
        if (h->queue == NULL && !atomic_load(&h->removed)) {
            cohorti_stages_flush(&conn->worker->runner->stages); /* nothing waits for what runs here */
            h->fn.message(conn->owner, &message, h->arg);
        }
    }
    return COHORT_OK;
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
static struct cohorti_handlers *pin_handlers(struct conn *conn, struct cohorti_inbound_subject *subject)
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

int cohorti_conn_deliver(struct conn *conn, cohort_message *message, const struct cohorti_delivery *taken, bool *consumed)
{
    struct cohort_node *node = conn->owner;
    struct cohorti_inbound_subject *subject = taken == NULL ? NULL : taken->subject;
    char raw[16];
    message->from = conn->peer->id;
    message->legacy = !conn->link.peer.extended;
    *consumed = true;
    if (message->raw) {
        snprintf(raw, sizeof raw, "#%d", (int)message->type);
        message->subject = raw;
    }
    struct cohorti_handlers *handlers = subject != NULL ? pin_handlers(conn, subject) : find_handlers(node, message->subject);
    int status = COHORT_ENOHANDLER;
    if (handlers == NULL) {
        atomic_fetch_add(&node->counters.messages_unhandled, 1);
    } else {
        status = call_handlers(conn, handlers, message, taken, consumed);
        if (subject == NULL) {
            cohorti_registry_put(&node->registry, handlers);
        }
    }
    if (message->raw) {
        message->subject = NULL; /* it was ours */
    }
    return status;
}
