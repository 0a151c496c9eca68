/* SPDX-License-Identifier: Apache-2.0
 *
 * The session with a peer, in the shell: when an open link joins it, what the peer acknowledges, when we acknowledge, and telling what was
 * lost when it ends. The decisions are core/outbound.h and core/inbound.h.
 *
 * The receiving half has no lock: it belongs to the loop of the link that stands. A link is opened only when the one before is gone, so
 * control may look at it in between. Only the end of its names is under the peer's lock: watchdog.c reads them.
 */
#include "node/node.h"
#include "node/stream.h"

#include <stdio.h>
#include <string.h>

#define CONSUMED_NS UINT64_C(1000000)

int cohorti_session_half(struct cohort_node *node, uint64_t *out)
{
    int status = COHORT_OK;
    *out = 0;
    while (status == COHORT_OK && *out == 0) {
        status = node->io->ops->entropy(node->io, out, sizeof *out);
    }
    return status;
}

/* ---- telling -------------------------------------------------------------------------------------------------------- */

static void call_listeners(struct cohort_node *node, struct cohorti_handlers *listeners, const cohort_undelivered *report)
{
    for (size_t i = 0; listeners != NULL && i < listeners->count; i++) {
        struct cohorti_handler *h = listeners->at[i];
        if (!atomic_load(&h->removed)) {
            h->fn.undelivered(node, report, h->arg);
        }
    }
}

static bool next_lost(struct peer *peer, struct cohorti_undelivered *lost, struct cohorti_lost *out)
{
    cohorti_mutex_lock(&peer->lock);
    bool there = cohorti_undelivered_next(lost, &peer->outbound, out);
    cohorti_mutex_unlock(&peer->lock);
    return there;
}

uint64_t cohorti_session_tell(struct peer *peer, struct cohorti_undelivered *lost, int reason)
{
    struct cohort_node *node = peer->owner;
    struct cohorti_handlers *listeners = cohorti_registry_get(&node->registry, COHORTI_KEY_UNDELIVERED);
    struct cohorti_lost one;
    uint64_t count = 0;
    while (next_lost(peer, lost, &one)) {
        char raw[16];
        snprintf(raw, sizeof raw, "#%d", (int)one.raw_type);
        cohort_undelivered report = {.to = peer->id,
                                     .subject = one.raw ? raw : one.subject,
                                     .type = one.raw_type,
                                     .raw = one.raw,
                                     .lane = (cohort_lane)one.lane,
                                     .maybe_handled = one.maybe_handled,
                                     .reason = reason,
                                     .data = one.body,
                                     .data_len = one.body_len};
        if (one.kind == COHORTI_KIND_MESSAGE) {
            count++;
            call_listeners(node, listeners, &report);
        }
    }
    if (count > 0) {
        atomic_fetch_add(&node->counters.messages_undelivered, count);
        cohorti_log(node, listeners == NULL ? COHORT_LOG_WARN : COHORT_LOG_INFO, "session", peer->id, reason,
                    "%llu messages may not have been handled: %s", (unsigned long long)count, cohort_error_text(reason));
    }
    cohorti_registry_put(&node->registry, listeners);
    cohorti_undelivered_deinit(lost);
    return count;
}

void cohorti_session_find_room(struct cohort_node *node)
{
    if (!atomic_exchange(&node->room_posted, true)) {
        cohorti_worker_post(&node->control, &node->room_mail);
    }
}

/* Lanes that have room again; whoever waits for it wakes. With the lock held. What made room in this one may have made it in the node's
 * quota, and so for lanes of others; who closes the node ends those as well. */
static unsigned take_writable(struct peer *peer)
{
    struct cohort_node *node = peer->owner;
    unsigned lanes = cohorti_outbound_writable(&peer->outbound);
    bool early = cohorti_node_is_early(node), closing = atomic_load(&node->phase) == NODE_CLOSING;
    if (!early && !closing && cohorti_quota_take_room(&node->quota)) {
        cohorti_session_find_room(node);
    }
    if (lanes != 0) {
        cohorti_full_wake(peer);
    }
    return lanes;
}

void cohorti_session_tell_writable(struct peer *peer, unsigned lanes)
{
    struct cohort_node *node = peer->owner;
    struct cohorti_handlers *listeners = lanes == 0 ? NULL : cohorti_registry_get(&node->registry, COHORTI_KEY_WRITABLE);
    for (unsigned lane = 0; listeners != NULL && lane < COHORTI_LANE_COUNT; lane++) {
        for (size_t i = 0; (lanes >> lane & 1U) != 0 && i < listeners->count; i++) {
            struct cohorti_handler *h = listeners->at[i];
            if (!atomic_load(&h->removed)) {
                h->fn.writable(node, peer->id, (cohort_lane)lane, h->arg);
            }
        }
    }
    cohorti_registry_put(&node->registry, listeners);
}

void cohorti_session_room(struct mail *mail)
{
    struct cohort_node *node = COHORTI_CONTAINER(mail, struct cohort_node, room_mail);
    struct cohorti_list found, *it;
    cohorti_list_init(&found);
    atomic_store(&node->room_posted, false);
    cohorti_mutex_lock(&node->peers_lock);
    for (size_t b = 0; b < node->peers.bucket_count; b++) {
        for (struct cohorti_map_node *at = node->peers.buckets[b]; at != NULL; at = at->next) {
            struct peer *peer = (struct peer *)at;
            cohorti_mutex_lock(&peer->lock);
            peer->room_lanes = take_writable(peer);
            cohorti_mutex_unlock(&peer->lock);
            if (peer->room_lanes != 0) {
                atomic_fetch_add(&peer->refs, 1);
                cohorti_list_append(&found, &peer->has_room);
            }
        }
    }
    cohorti_mutex_unlock(&node->peers_lock);
    while ((it = cohorti_list_pop(&found)) != NULL) {
        struct peer *peer = COHORTI_CONTAINER(it, struct peer, has_room);
        cohorti_session_tell_writable(peer, peer->room_lanes);
        cohorti_peer_unref(peer);
    }
}

/* ---- a link joins --------------------------------------------------------------------------------------------------- */

/* On the loop that owns the receiving half. */
static void take_consumed(struct peer *peer)
{
    atomic_store(&peer->has_consumed, false);
    for (unsigned lane = 0; lane < COHORTI_LANE_COUNT; lane++) {
        cohorti_inbound_consumed(&peer->inbound, lane, (size_t)atomic_exchange(&peer->consumed[lane], 0));
    }
}

int cohorti_session_begin(struct conn *conn)
{
    struct cohorti_resume resume;
    conn->frames_before = conn->peer->outbound.frames;
    take_consumed(conn->peer);
    cohorti_inbound_marks(&conn->peer->inbound, conn->peer->outbound.half, &resume);
    return cohorti_sender_resume(&conn->sender, &resume);
}

int cohorti_session_on_resume(struct conn *conn)
{
    struct peer *peer = conn->peer;
    struct cohorti_undelivered lost;
    cohorti_undelivered_init(&lost);
    cohorti_conn_unpin(conn);
    if (conn->link.resume.half != peer->inbound.peer_half) {
        cohorti_incoming_end_all(peer, COHORT_ERESTARTED);
    }
    cohorti_mutex_lock(&peer->lock);
    (void)cohorti_inbound_resume(&peer->inbound, conn->link.resume.half); /* names end under the lock: watchdog.c reads them */
    int status = cohorti_outbound_resume(&peer->outbound, &conn->link.resume, &lost);
    uint64_t calls_end = peer->calls.next_id;
    unsigned writable = status == COHORT_OK ? take_writable(peer) : 0;
    cohorti_requests_want_timer(peer, cohorti_outbound_expires_ns(&peer->outbound));
    struct cohorti_body *unreferenced = cohorti_outbound_take_unreferenced(&peer->outbound);
    (void)cohorti_streams_take_over(peer, COHORT_ERESTARTED);
    cohorti_mutex_unlock(&peer->lock);
    cohorti_bodies_release(unreferenced);
    if (lost.alloc != NULL) {
        cohorti_requests_end(peer, calls_end, COHORT_ERESTARTED);
    }
    (void)cohorti_session_tell(peer, &lost, COHORT_ERESTARTED);
    cohorti_streams_tell(peer);
    cohorti_session_tell_writable(peer, writable);
    if (status == COHORT_OK) {
        cohorti_conn_flush(conn);
    }
    return status;
}

/* The timer is set anew when it fires, and at each flush. */
static void bring_timer_forward(struct conn *conn, uint64_t deadline_ns)
{
    if (conn->timer.deadline_ns > deadline_ns) {
        cohorti_timer_set(&conn->worker->timers, &conn->timer, deadline_ns);
    }
}

int cohorti_session_on_ack(struct conn *conn)
{
    struct peer *peer = conn->peer;
    cohorti_mutex_lock(&peer->lock);
    if (cohorti_outbound_ack_is_early(&peer->outbound, &conn->link.ack)) { /* the peer was faster than the thread that wrote */
        cohorti_conn_wait_for_writer(conn);
    }
    int status = cohorti_outbound_ack(&peer->outbound, &conn->link.ack);
    cohorti_outbound_acked(&peer->outbound, cohorti_now(peer->owner));
    unsigned writable = status == COHORT_OK ? take_writable(peer) : 0;
    if (!cohorti_list_empty(&peer->owed)) {
        cohorti_requests_pay(peer);
    }
    bool more = cohorti_outbound_wants_write(&peer->outbound) || conn->leaving;
    bool keeps = cohorti_outbound_keeps(&peer->outbound);
    bool over = cohorti_streams_take_over(peer, COHORT_OK);
    struct cohorti_body *unreferenced = cohorti_outbound_take_unreferenced(&peer->outbound);
    cohorti_mutex_unlock(&peer->lock);
    cohorti_bodies_release(unreferenced);
    if (over) {
        cohorti_streams_tell(peer);
    }
    if (keeps && conn->rest_due_ns == COHORTI_NEVER) {
        conn->rest_due_ns = cohorti_now(conn->owner) + COHORTI_REST_NS;
        bring_timer_forward(conn, conn->rest_due_ns);
    }
    cohorti_session_tell_writable(peer, writable);
    if (status == COHORT_OK && more && conn->phase != CONN_ENDED) {
        cohorti_conn_flush(conn);
    }
    return status;
}

/* ---- acknowledging -------------------------------------------------------------------------------------------------- */

/* Without memory, or room in a queue of what the peer does not read, it is said a moment later. Returns whether it is said. */
static bool send_ack(struct conn *conn, uint64_t now_ns)
{
    struct cohorti_ack ack;
    int status = COHORT_OK;
    if (cohorti_inbound_ack(&conn->peer->inbound, &ack)) {
        cohorti_conn_lock(conn);
        status = cohorti_sender_ack(&conn->sender, &ack);
        cohorti_conn_unlock(conn);
    }
    if (status == COHORT_OK) {
        cohorti_inbound_told(&conn->peer->inbound, &ack);
    }
    cohorti_acking_said(&conn->acking, status == COHORT_OK, now_ns);
    return status == COHORT_OK;
}

void cohorti_session_acknowledge(struct conn *conn, bool may_gather)
{
    if (conn->phase != CONN_OPEN || !conn->link.resumed) {
        return;
    }
    if (atomic_load(&conn->peer->has_consumed)) {
        take_consumed(conn->peer);
    }
    const struct cohorti_inbound *in = &conn->peer->inbound;
    if (cohorti_inbound_untold(in) == 0) {
        return;
    }
    uint64_t now_ns = cohorti_now(conn->owner);
    if (cohorti_acking_is_due(&conn->acking, in, may_gather, now_ns)) {
        (void)send_ack(conn, now_ns);
        cohorti_conn_flush(conn); /* sets the timer */
    } else {
        bring_timer_forward(conn, conn->acking.due_ns);
    }
}

void cohorti_session_acknowledge_much(struct conn *conn)
{
    if (conn->phase == CONN_OPEN && conn->link.resumed && cohorti_acking_is_much(&conn->acking, &conn->peer->inbound)) {
        cohorti_session_acknowledge(conn, true);
    }
}

void cohorti_session_rest(struct conn *conn, uint64_t now_ns)
{
    if (now_ns >= conn->rest_due_ns) {
        cohorti_conn_lock(conn);
        bool keeps = cohorti_outbound_rest(&conn->peer->outbound);
        cohorti_conn_unlock(conn);
        conn->rest_due_ns = keeps ? now_ns + COHORTI_REST_NS : COHORTI_NEVER;
    }
}

/* LEAVE says that what was not acknowledged was not handled, so not without the acknowledgement: then the link just ends. */
void cohorti_session_leave(struct conn *conn)
{
    bool told = !conn->link.resumed || send_ack(conn, cohorti_now(conn->owner));
    cohorti_conn_lock(conn);
    if (told) {
        int queued = cohorti_sender_leave(&conn->sender);
        (void)queued; /* when the queue is full, the end of the stream says it too */
    }
    cohorti_conn_unlock(conn);
    cohorti_conn_drain(conn, conn->end_code);
}

/* It may be the loop's turn: who waits for the credit is told. A wake-up costs as much as a hundred small messages, or on one processor each
 * of the two threads its turn. So while handlers are quick the loop is left alone until much was handled, for it comes by anyway when more
 * messages come; a peer that has used up its window waits CONSUMED_NS longer. */
static bool is_to_be_told(struct peer *peer, uint64_t before, uint64_t after)
{
    size_t enough = peer->owner->limits.window_bytes / 4;
    size_t step = enough < COHORTI_ACK_BYTES ? enough : COHORTI_ACK_BYTES;
    if (before / step == after / step) {
        return false;
    }
    uint64_t now_ns = cohorti_now(peer->owner);
    bool tell = (before < enough && after >= enough) || now_ns - atomic_load(&peer->consumed_told_ns) >= CONSUMED_NS;
    if (tell) {
        atomic_store(&peer->consumed_told_ns, now_ns);
    }
    return tell;
}

void cohorti_session_consumed(struct peer *peer, unsigned lane, size_t bytes)
{
    uint64_t before = atomic_fetch_add(&peer->consumed[lane], bytes);
    if (!atomic_load(&peer->has_consumed)) {
        atomic_store(&peer->has_consumed, true);
    }
    if (is_to_be_told(peer, before, before + bytes)) {
        cohorti_mutex_lock(&peer->lock);
        struct conn *conn = cohorti_current_conn(peer);
        if (conn != NULL) {
            cohorti_conn_post_credit(conn);
        }
        cohorti_mutex_unlock(&peer->lock);
    }
}

/* ---- the end -------------------------------------------------------------------------------------------------------- */

void cohorti_session_expire(struct peer *peer, uint64_t now_ns)
{
    struct cohorti_undelivered lost;
    cohorti_undelivered_init(&lost);
    cohorti_mutex_lock(&peer->lock);
    cohorti_outbound_expire(&peer->outbound, now_ns, &lost);
    unsigned writable = take_writable(peer);
    struct cohorti_body *unreferenced = cohorti_outbound_take_unreferenced(&peer->outbound);
    cohorti_mutex_unlock(&peer->lock);
    (void)cohorti_session_tell(peer, &lost, COHORT_ETIMEDOUT);
    cohorti_bodies_release(unreferenced);
    cohorti_session_tell_writable(peer, writable);
}

static int end_reason(const struct conn *conn)
{
    return conn->end_code == COHORT_ESLOW ? COHORT_ESLOW : conn->disagrees ? COHORT_ERESTARTED : COHORT_EREMOVED;
}

void cohorti_session_settle(struct conn *conn)
{
    struct peer *peer = conn->peer;
    cohorti_mutex_lock(&peer->lock);
    conn->ends_session = false;
    bool ends = (peer->removed || conn->end_code == COHORT_ESLOW || conn->disagrees) && cohorti_list_empty(&peer->conns);
    peer->ending = ends;
    cohorti_mutex_unlock(&peer->lock);
    if (ends) {
        cohorti_session_end_here(peer, end_reason(conn));
    }
}

void cohorti_session_end_here(struct peer *peer, int reason)
{
    bool again;
    do {
        (void)cohorti_session_end(peer, reason);
        cohorti_mutex_lock(&peer->lock);
        again = peer->removed && reason != COHORT_EREMOVED; /* meanwhile, and left to us */
        peer->ending = again;
        cohorti_mutex_unlock(&peer->lock);
        reason = COHORT_EREMOVED;
    } while (again);
}

uint64_t cohorti_session_end(struct peer *peer, int reason)
{
    struct cohorti_undelivered lost;
    uint64_t half = 0;
    cohorti_undelivered_init(&lost);
    if (cohorti_session_half(peer->owner, &half) != COHORT_OK || half == peer->outbound.half) {
        half = peer->outbound.half == UINT64_MAX ? 1 : peer->outbound.half + 1; /* any other than before */
    }
    cohorti_incoming_end_all(peer, reason);
    if (peer->self) {
        cohorti_local_settle(peer);
    }
    cohorti_mutex_lock(&peer->lock);
    cohorti_inbound_deinit(&peer->inbound);
    cohorti_outbound_end(&peer->outbound, half, &lost);
    uint64_t calls_end = peer->calls.next_id;
    unsigned writable = take_writable(peer);
    (void)cohorti_streams_take_over(peer, reason);
    struct cohorti_body *unreferenced = cohorti_outbound_take_unreferenced(&peer->outbound);
    cohorti_mutex_unlock(&peer->lock);
    cohorti_bodies_release(unreferenced);
    cohorti_streams_tell(peer);
    cohorti_session_tell_writable(peer, writable);
    cohorti_requests_end(peer, calls_end, reason);
    return cohorti_session_tell(peer, &lost, reason);
}
