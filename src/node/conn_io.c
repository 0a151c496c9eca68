/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes of a connection written when there is something to write; and what its loop calls. Reading is conn_read.c.
 *
 * Who writes: a thread that queues onto a connection that has been idle for a few microseconds writes at once; in a burst, on the
 * connection's own loop, and when bytes wait already, the loop writes, all that has gathered in one call; unless it has become so
 * much that the sender does it, which keeps both on one processor from taking turns for every few messages. What handlers queue while a
 * batch is read goes out at its end, and in the middle of a long one (conn_read.c). Invariant, under the
 * lock: if bytes wait, then a flush is posted, or the loop watches for WRITE, or somebody is writing and will look again, or the
 * connection is not attached yet and its attaching will flush. A flush that is posted while the loop waits awake for the peer comes late:
 * who queues meanwhile writes.
 */
#include "node/node.h"

#include <stdio.h>
#include <string.h>

/* Begun in one call: in one of 16 buffers of 64 KiB Linux stops to work off what came meanwhile, at a high price. */
#define WRITE_BYTES_MAX ((size_t)960 * 1024)
#define MUCH_BYTES ((size_t)64 * 1024) /* waiting; then the sending thread writes, whatever the loop does */
#define IDLE_NS 3000                   /* a message so soon after another is one of a burst */

/* ---- writing ------------------------------------------------------------------------------------------------------- */

uint64_t cohorti_conn_frames_out(const struct conn *conn)
{
    bool session = conn->peer != NULL && conn->link.peer.extended;
    return conn->sender.frames_out + (session ? conn->peer->outbound.frames - conn->frames_before : 0);
}

/* What goes out next: the link's own frames first, but for the rest of a lane's block that was begun. */
struct batch {
    struct cohorti_slice slices[COHORTI_IO_RUNS_MAX - 1];
    struct cohorti_bytes runs[COHORTI_IO_RUNS_MAX];
    size_t slice_count, run_count;
    size_t own_at; /* index of the run that is the link's own; run_count when there is none */
};

static void gather(const struct conn *conn, struct batch *batch)
{
    const struct cohorti_buffer *own = &conn->sender.out;
    const struct cohorti_outbound *ob = conn->peer == NULL || !conn->link.peer.extended ? NULL : &conn->peer->outbound;
    batch->slice_count = ob == NULL ? 0 : cohorti_outbound_gather(ob, batch->slices, COHORTI_IO_RUNS_MAX - 1, WRITE_BYTES_MAX);
    size_t cut = ob == NULL ? 0 : cohorti_outbound_cut_count(ob, batch->slices, batch->slice_count);
    batch->own_at = COHORTI_IO_RUNS_MAX;
    batch->run_count = 0;
    for (size_t i = 0; i <= batch->slice_count; i++) {
        if (i == cut && cohorti_buffer_len(own) > 0) {
            batch->own_at = batch->run_count;
            batch->runs[batch->run_count++] = (struct cohorti_bytes){cohorti_buffer_data(own), cohorti_buffer_len(own)};
        }
        if (i < batch->slice_count) {
            batch->runs[batch->run_count++] = (struct cohorti_bytes){batch->slices[i].bytes, batch->slices[i].len};
        }
    }
}

/* `n` bytes of the batch went out. */
static void account(struct conn *conn, const struct batch *batch, size_t n)
{
    conn->bytes_out += n;
    atomic_fetch_add(&conn->owner->counters.bytes_out, n);
    size_t first = 0;
    for (size_t i = 0; i < batch->run_count && n > 0; i++) {
        size_t taken = n < batch->runs[i].len ? n : batch->runs[i].len;
        if (i == batch->own_at) {
            cohorti_sender_written(&conn->sender, taken);
        } else {
            cohorti_outbound_advance(&conn->peer->outbound, &batch->slices[first++], 1, taken);
        }
        n -= taken;
    }
}

static int send_batch(struct conn *conn, const struct batch *batch, size_t *n)
{
    struct cohorti_bytes wire[COHORTI_IO_RUNS_MAX];
    size_t wire_count = 0;
    int status = conn->channel->ops->to_write(conn->channel, batch->runs, batch->run_count, wire, &wire_count);
    if (status == COHORT_OK) {
        status = conn->owner->io->ops->send(conn->socket, wire, wire_count, n);
    }
    *n = status == COHORT_OK ? conn->channel->ops->written(conn->channel, *n) : 0;
    return status;
}

void cohorti_conn_count_frames(struct conn *conn)
{
    uint64_t frames = cohorti_conn_frames_out(conn);
    atomic_fetch_add(&conn->owner->counters.frames_out, frames - conn->frames_counted);
    conn->frames_counted = frames;
}

/* The lock is not held during the call to the system, in which others may queue: a lane's bytes stay where they are until they are
 * acknowledged. The link's own frames may move when one is added, so with one of them in the batch it is kept. */
static int write_batch(struct conn *conn, const struct batch *batch)
{
    size_t n = 0;
    uint64_t begun_ns = batch->slice_count > 0 ? cohorti_now(conn->owner) : 0;
    bool unlocked = conn->peer != NULL && batch->own_at == COHORTI_IO_RUNS_MAX;
    if (unlocked) {
        cohorti_outbound_hold(&conn->peer->outbound, batch->slices, batch->slice_count);
        conn->writing = true;
        cohorti_conn_unlock(conn);
    }
    int status = send_batch(conn, batch, &n);
    if (unlocked) {
        cohorti_conn_lock(conn);
        conn->writing = false;
        cohorti_outbound_advance(&conn->peer->outbound, NULL, 0, 0);
    }
    cohorti_conn_count_frames(conn); /* those too that were queued meanwhile: the next batch takes them along */
    account(conn, batch, n);
    if (batch->slice_count > 0) {
        cohorti_outbound_written(&conn->peer->outbound, begun_ns);
    }
    return status;
}

/* Write until nothing waits or the socket takes no more. With the lock held, and nobody writing. */
static int write_out(struct conn *conn)
{
    struct batch batch;
    cohorti_conn_count_frames(conn);
    for (gather(conn, &batch); batch.run_count > 0; gather(conn, &batch)) {
        int status = write_batch(conn, &batch);
        conn->socket_full = status == COHORT_EAGAIN;
        if (status != COHORT_OK) {
            return status;
        }
    }
    return COHORT_OK;
}

/* A socket that fails here the flush that follows will meet as well. */
bool cohorti_conn_write_now(struct conn *conn)
{
    cohorti_conn_lock(conn);
    bool may = conn->attached && !conn->local && !conn->writing && !conn->watching_write;
    bool written = may && write_out(conn) == COHORT_OK;
    cohorti_conn_unlock(conn);
    conn->early.since_ns = cohorti_now(conn->owner);
    return written;
}

void cohorti_conn_wait_for_writer(struct conn *conn)
{
    while (conn->writing) { /* in a call that does not block */
        cohorti_conn_unlock(conn);
        conn->owner->io->ops->yield(conn->owner->io);
        cohorti_conn_lock(conn);
    }
}

void cohorti_conn_watch(struct conn *conn)
{
    unsigned events = cohorti_conn_wants_read(conn) ? COHORTI_IO_READ : 0;
    if (conn->phase == CONN_CONNECTING || conn->watching_write) {
        events |= COHORTI_IO_WRITE;
    }
    conn->owner->io->ops->watch(conn->socket, events);
}

void cohorti_conn_set_timer(struct conn *conn, uint64_t echo_deadline_ns)
{
    uint64_t deadline = conn->phase == CONN_DRAINING ? conn->drain_until_ns : COHORTI_NEVER;
    deadline = echo_deadline_ns < deadline ? echo_deadline_ns : deadline;
    deadline = conn->acking.due_ns < deadline ? conn->acking.due_ns : deadline;
    deadline = conn->rest_due_ns < deadline ? conn->rest_due_ns : deadline;
    uint64_t idle_ns = cohorti_conn_idle_deadline(conn); /* bytes that come do not move the timer: it looks again when it fires */
    deadline = idle_ns < deadline ? idle_ns : deadline;
    cohorti_timer_set(&conn->worker->timers, &conn->timer, deadline);
}

void cohorti_conn_flush(struct conn *conn)
{
    if (conn->phase == CONN_ENDED || conn->phase == CONN_CONNECTING) {
        return;
    }
    cohorti_conn_lock(conn);
    if (!conn->attached || conn->local) {
        if (conn->local) {
            cohorti_conn_post_flush(conn);
        }
        cohorti_conn_unlock(conn);
        return;
    }
    if (conn->writing) { /* by a sender's thread, which then sees that we come again */
        conn->flush_again = true;
        cohorti_conn_unlock(conn);
        return;
    }
    int status = write_out(conn);
    bool waiting = status == COHORT_EAGAIN;
    conn->watching_write = waiting;
    if (!waiting && conn->phase == CONN_DRAINING) {
        conn->owner->io->ops->shutdown(conn->socket);
        if (conn->drain_until_ns == COHORTI_NEVER) {
            conn->drain_until_ns = cohorti_now(conn->owner) + COHORTI_DRAIN_NS;
        }
    }
    cohorti_conn_watch(conn);
    uint64_t echo_deadline_ns = cohorti_echoes_deadline(&conn->echoes);
    bool leave = conn->leaving && conn->phase == CONN_OPEN && cohorti_outbound_len(&conn->peer->outbound) == 0;
    bool has_room = cohorti_sender_take_room(&conn->sender) && !conn->peer->removed;
    cohorti_conn_unlock(conn);
    if (status != COHORT_OK && !waiting) {
        cohorti_conn_end(conn, status);
        return;
    }
    if (leave) {
        cohorti_session_leave(conn);
        return;
    }
    cohorti_conn_set_timer(conn, echo_deadline_ns);
    if (has_room) {
        cohorti_session_tell_writable(conn->peer, 1U << COHORT_LANE_NORMAL);
    }
}

void cohorti_conn_post_flush(struct conn *conn)
{
    if (!conn->flush_posted) {
        conn->flush_posted = true;
        cohorti_conn_ref(conn);
        if (conn->local) {
            cohorti_worker_post_later(conn->worker, &conn->flush_mail);
        } else {
            cohorti_worker_post(conn->worker, &conn->flush_mail);
        }
    }
}

/* So much waits that writing it here costs the sender less than filling memory for the loop. What is lent fills none: it is written in the
 * largest pieces the system takes at once. */
static bool is_much(const struct conn *conn)
{
    return conn->peer != NULL && conn->link.peer.extended && cohorti_outbound_waiting(&conn->peer->outbound) >= MUCH_BYTES &&
           cohorti_outbound_wants_write(&conn->peer->outbound);
}

/* The flush that was posted comes when the loop has waited awake for the peer. */
static bool is_looked_for(const struct conn *conn)
{
    return atomic_load_explicit(&conn->looking, memory_order_relaxed);
}

/* Write here and now. The time is taken after it, since it may take longer than a message is kept for: else a sender that does nothing
 * but send would look idle to itself each time, and make a call for every message. */
static bool write_here(struct conn *conn)
{
    bool written = write_out(conn) == COHORT_OK;
    conn->queued_ns = cohorti_now(conn->owner);
    if (conn->flush_again) {
        conn->flush_again = false;
        cohorti_conn_post_flush(conn);
    }
    return written;
}

void cohorti_conn_kick(struct conn *conn)
{
    if (conn->local) {
        cohorti_conn_post_flush(conn);
        return;
    }
    bool needs_loop = conn->echoes.count > 0; /* for its timer, also while the socket has no room */
    if (!conn->attached || ((conn->watching_write || conn->writing) && !needs_loop)) {
        return; /* who attaches, the loop when the socket has room, or who is writing, will write */
    }
    if (conn->writing) {
        cohorti_conn_post_flush(conn);
        return;
    }
    if (conn->flush_posted) {
        bool may = (is_much(conn) || is_looked_for(conn)) && !conn->socket_full;
        if (may && !conn->owner->io->ops->loop_is_current(conn->worker->loop)) {
            (void)write_here(conn); /* a socket that failed the flush under way will meet as well */
        }
        return;
    }
    uint64_t now_ns = cohorti_now(conn->owner);
    bool idle = now_ns - conn->queued_ns > IDLE_NS;
    conn->queued_ns = now_ns;
    if (idle && !conn->owner->io->ops->loop_is_current(conn->worker->loop) && write_here(conn) && !needs_loop) {
        return;
    }
    cohorti_conn_post_flush(conn);
}

void cohorti_conn_kick_later(struct conn *conn)
{
    if (conn->attached && !conn->watching_write && !conn->writing) {
        cohorti_conn_post_flush(conn);
    }
}

/* ---- the loop calls ------------------------------------------------------------------------------------------------ */

static void on_connect(struct conn *conn)
{
    struct cohort_node *node = conn->owner;
    int status = node->io->ops->connect_result(conn->socket);
    if (status == COHORT_EAGAIN) {
        return;
    }
    if (status != COHORT_OK) {
        cohorti_conn_end(conn, status);
        return;
    }
    conn->phase = CONN_HANDSHAKE;
    node->io->ops->peer_name(conn->socket, conn->remote, sizeof conn->remote);
    cohorti_conn_watch(conn);
    cohorti_cluster_connected(&node->cluster, cohorti_now(node), conn->number);
}

void cohorti_conn_on_event(void *ctx, unsigned events)
{
    struct conn *conn = ctx;
    struct worker *w = conn->worker;
    cohorti_conn_ref(conn);
    if (conn->phase == CONN_CONNECTING) {
        on_connect(conn);
    } else {
        if ((events & COHORTI_IO_READ) != 0) {
            cohorti_conn_read(conn);
        }
        if ((events & COHORTI_IO_WRITE) != 0 && conn->phase != CONN_ENDED) {
            cohorti_conn_flush(conn);
        }
        if (conn->phase == CONN_HANDSHAKE && !cohorti_conn_wants_read(conn)) {
            cohorti_conn_watch(conn);
        }
    }
    cohorti_conn_unref(conn);
    cohorti_worker_settle(w);
}
