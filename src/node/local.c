/* SPDX-License-Identifier: Apache-2.0
 *
 * The link to ourselves (config.deliver_local): a connection without a socket, whose loop reads what was written to it. So all that holds
 * between two nodes holds here too, and by the same code: order within a lane, watermarks and credit, acknowledgement, queues,
 * requests, what is told when it ends.
 *
 * Calling the handlers where the message is sent was rejected: they would run inside the sender, which may hold locks of its own, and a
 * handler that sends to its own subject would never return to anybody.
 *
 * It is begun by control when the node starts, and again after a pause when it has ended before the node did: without memory to queue a
 * message, or by COHORT_FULL_DISCONNECT. Each turn moves at most what a read would, then the loop serves others.
 */
#include "node/node.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define LOCAL_SLICES 16
#define LOCAL_NUMBER UINT64_MAX /* the cluster does not know of it, and counts its own from 1 */
#define PAUSE_NS (UINT64_C(100) * 1000000)

/* ---- bytes ---------------------------------------------------------------------------------------------------------- */

static size_t take_own(struct conn *conn, uint8_t *out, size_t room)
{
    const struct cohorti_buffer *own = &conn->sender.out;
    size_t len = cohorti_buffer_len(own);
    len = len < room ? len : room;
    if (len > 0) {
        memcpy(out, cohorti_buffer_data(own), len);
        cohorti_sender_written(&conn->sender, len);
    }
    return len;
}

/* What a write and a read would have brought here; in the order of conn_io.c: the link's own frames first, but for the rest of a block that
 * was begun. With the lock held. */
static size_t take_written(struct conn *conn, uint8_t *out, size_t room)
{
    struct cohorti_outbound *ob = &conn->peer->outbound;
    struct cohorti_slice slices[LOCAL_SLICES];
    size_t count = cohorti_outbound_gather(ob, slices, LOCAL_SLICES, room);
    size_t n = 0, first_own = cohorti_outbound_cut_count(ob, slices, count);
    for (size_t i = 0; i <= count && n < room; i++) {
        if (i == first_own) {
            n += take_own(conn, out + n, room - n);
        }
        if (i < count && n < room) {
            size_t len = slices[i].len < room - n ? slices[i].len : room - n;
            memcpy(out + n, slices[i].bytes, len);
            cohorti_outbound_advance(ob, &slices[i], 1, len);
            n += len;
        }
    }
    conn->bytes_out += n;
    atomic_fetch_add(&conn->owner->counters.bytes_out, n);
    cohorti_conn_count_frames(conn);
    cohorti_outbound_written(ob, cohorti_now(conn->owner));
    return n;
}

void cohorti_local_turn(struct conn *conn)
{
    cohorti_conn_lock(conn);
    size_t n = take_written(conn, conn->worker->receive, COHORTI_RECEIVE_BYTES);
    cohorti_conn_unlock(conn);
    if (n > 0) {
        cohorti_conn_on_bytes(conn, 0, conn->worker->receive, n);
        cohorti_session_acknowledge(conn, false);
    }
    if (conn->phase == CONN_ENDED) {
        return;
    }
    cohorti_conn_lock(conn);
    const struct cohorti_outbound *ob = &conn->peer->outbound;
    bool leave = conn->leaving && cohorti_outbound_len(ob) == 0;
    uint64_t echo_deadline_ns = cohorti_echoes_deadline(&conn->echoes);
    if (cohorti_outbound_wants_write(ob) || cohorti_buffer_len(&conn->sender.out) > 0) {
        cohorti_conn_post_flush(conn);
    }
    cohorti_conn_unlock(conn);
    if (leave) {
        cohorti_conn_end(conn, conn->end_code);
        return;
    }
    cohorti_conn_set_timer(conn, echo_deadline_ns);
}

/* ---- life: control -------------------------------------------------------------------------------------------------- */

static int join(struct conn *conn, struct peer *peer)
{
    struct cohort_node *node = conn->owner;
    conn->peer = peer; /* takes the reference */
    conn->local = conn->got_bytes = true;
    conn->worker = cohorti_conn_least_used(node);
    conn->phase = CONN_OPEN;
    snprintf(conn->remote, sizeof conn->remote, "this node");
    atomic_store(&conn->opened_ns, cohorti_now(node));
    atomic_fetch_add(&conn->worker->runner->load, 1);
    cohorti_link_open_local(&conn->link, node->id, &peer->inbound);
    cohorti_mutex_lock(&peer->lock);
    cohorti_sender_open(&conn->sender, false);
    cohorti_list_append(&peer->conns, &conn->of_peer);
    int status = cohorti_session_begin(conn);
    conn->attached = status == COHORT_OK;
    if (status == COHORT_OK) {
        cohorti_conn_post_flush(conn);
    }
    cohorti_mutex_unlock(&peer->lock);
    return status;
}

static void pause_local(struct cohort_node *node)
{
    cohorti_timer_set(&node->control.timers, &node->local_pause, cohorti_now(node) + PAUSE_NS);
}

void cohorti_local_begin(struct cohort_node *node)
{
    if (!node->deliver_local || node->local != NULL || atomic_load(&node->phase) == NODE_CLOSING) {
        return;
    }
    struct conn *conn = cohorti_conn_new(node, LOCAL_NUMBER, NULL);
    if (conn == NULL) {
        pause_local(node);
        return;
    }
    node->local = conn;
    atomic_fetch_sub(&node->counters.handshakes, 1);
    int status = join(conn, cohorti_peer_find(node, node->id));
    if (status != COHORT_OK) { /* no loop has heard of it: it ends here */
        conn->phase = CONN_ENDED;
        cohorti_mutex_lock(&conn->peer->lock);
        cohorti_list_remove(&conn->of_peer);
        cohorti_mutex_unlock(&conn->peer->lock);
        atomic_fetch_sub(&conn->worker->runner->load, 1);
        cohorti_conn_tell_end(conn);
    }
}

void cohorti_local_ended(struct conn *conn)
{
    struct cohort_node *node = conn->owner;
    node->local = NULL;
    if (node->closed_waiter == NULL) {
        pause_local(node);
    }
    cohorti_control_check_idle(node);
}

void cohorti_local_close(struct cohort_node *node)
{
    cohorti_timer_cancel(&node->control.timers, &node->local_pause);
    if (node->local != NULL) {
        cohorti_conn_close(node->local, COHORT_ECLOSED, true);
    }
}

/* Of ourselves we need not guess: what was not taken was certainly not handled. */
void cohorti_local_settle(struct peer *self)
{
    struct cohorti_outbound *ob = &self->outbound;
    struct cohorti_undelivered none;
    struct cohorti_resume marks;
    cohorti_undelivered_init(&none);
    cohorti_mutex_lock(&self->lock);
    if (ob->reader == ob->half && self->inbound.peer_half == ob->half) {
        cohorti_inbound_marks(&self->inbound, ob->half, &marks);
        int status = cohorti_outbound_resume(ob, &marks, &none);
        assert(status == COHORT_OK && none.alloc == NULL); /* it goes on where it stands */
        (void)status;
        cohorti_outbound_left(ob);
    }
    cohorti_mutex_unlock(&self->lock);
}
