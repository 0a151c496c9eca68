/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes of a connection: read, cut into events, handed to handlers; written when there is something to write.
 *
 * Who writes: a thread that queues onto a connection that has been idle for a few microseconds writes at once; in a burst, on the
 * connection's own loop, and when bytes wait already, the loop writes, all that has gathered in one call; unless it has become so
 * much that the sender does it, which keeps both on one processor from taking turns for every few messages. What handlers queue while a
 * batch is read goes out at its end, and in the middle of a long one (write_early()). Invariant, under the
 * lock: if bytes wait, then a flush is posted, or the loop watches for WRITE, or somebody is writing and will look again, or the
 * connection is not attached yet and its attaching will flush.
 */
#include "node/node.h"
#include "node/stream.h"

#include <stdio.h>
#include <string.h>

#define WRITE_BYTES_MAX ((size_t)512 * 1024) /* begun in one call */
#define MUCH_BYTES ((size_t)64 * 1024)       /* waiting; then the sending thread writes, whatever the loop does */
#define IDLE_NS 3000                         /* a message so soon after another is one of a burst */
#define EARLY_MESSAGES 16 /* with something to be written, in the first half of a batch, for a write in its middle */
#define BATCHES 4096      /* whose largest is remembered: twice as many at the most */
#define EARLY_NS 50000    /* or so long since */
#define LOOK_MESSAGES 4   /* the clock is looked at after so many */
#define AGAIN_MESSAGES 8  /* the same in a whole batch, to look for another at once */

static int write_out(struct conn *conn);

/* ---- events of an open link ---------------------------------------------------------------------------------------- */

/* A frame of the session: it counts as taken when its handlers have returned or it waits for them, also when they ended the link. */
static void on_taken(struct conn *conn)
{
    struct cohorti_delivery *taken = &conn->link.delivery;
    bool consumed = true;
    int status = COHORT_OK;
    uint64_t begun_ns = cohorti_watch_message(conn, taken->subject, taken->raw_type, taken->raw);
    if (taken->partial != NULL && taken->kind == COHORTI_KIND_MESSAGE) {
        status = cohorti_incoming_take(conn, taken, &consumed);
    } else if (taken->raw || taken->kind == COHORTI_KIND_MESSAGE) {
        cohort_message message = {.subject = taken->subject == NULL ? NULL : taken->subject->name,
                                  .type = taken->raw_type,
                                  .raw = taken->raw,
                                  .data = taken->body,
                                  .data_len = taken->body_len};
        status = cohorti_conn_deliver(conn, &message, taken, &consumed);
    } else if (taken->kind == COHORTI_KIND_REQUEST) {
        status = cohorti_requests_deliver(conn, taken, &consumed);
    } else {
        cohorti_stages_flush(&conn->worker->runner->stages);
        cohorti_requests_complete(conn, taken);
    }
    if (begun_ns != 0) {
        cohorti_watch_measure(conn, begun_ns);
    }
    if (status == COHORT_ENOMEM || status == COHORT_ESIZE) {
        cohorti_conn_fail(conn, status, status == COHORT_ENOMEM ? "no memory to queue a message" : "large message over the limit");
        return;
    }
    cohorti_inbound_commit(&conn->peer->inbound, taken, consumed);
}

static void on_legacy_message(struct conn *conn, const struct cohorti_link_event *event)
{
    bool consumed = true;
    cohort_message message = {.type = event->raw_type, .raw = true, .data = event->data, .data_len = event->data_len};
    uint64_t begun_ns = cohorti_watch_message(conn, NULL, event->raw_type, true);
    int status = cohorti_conn_deliver(conn, &message, NULL, &consumed);
    if (begun_ns != 0) {
        cohorti_watch_measure(conn, begun_ns);
    }
    (void)status; /* at most once: what cannot be queued is lost, as what nobody handles is */
}

static void answer_echo(struct conn *conn, const struct cohorti_link_event *event)
{
    bool ping = event->type == COHORTI_LINK_EVENT_PING;
    int status = ping ? cohorti_sender_pong(&conn->sender, event->data, event->data_len)
                      : cohorti_sender_echo(&conn->sender, event->data, event->data_len);
    if (status == COHORT_OK) {
        cohorti_conn_kick(conn);
    } else {
        atomic_fetch_add(&conn->owner->counters.echoes_dropped, 1);
    }
}

static void on_echo(struct conn *conn, const struct cohorti_link_event *event)
{
    uint64_t now_ns = cohorti_now(conn->owner);
    struct cohorti_echo *ours = NULL;
    bool late = false;
    cohorti_conn_lock(conn);
    if (event->type != COHORTI_LINK_EVENT_PING) {
        ours = cohorti_echoes_match(&conn->echoes, event->data, event->data_len, &late);
    }
    if (ours == NULL && !late && event->type != COHORTI_LINK_EVENT_PONG) {
        answer_echo(conn, event);
    }
    cohorti_conn_unlock(conn);
    if (ours != NULL) {
        cohorti_conn_complete_echo(conn, ours, COHORT_OK, now_ns - ours->sent_ns);
    }
}

void cohorti_conn_fail(struct conn *conn, int code, const char *detail)
{
    cohorti_log(conn->owner, COHORT_LOG_WARN, "link", conn->peer->id, code, "%s from %s%s%s", cohort_error_text(code), conn->remote,
                detail[0] == '\0' ? "" : ": ", detail);
    cohorti_conn_end(conn, code);
}

static void on_event_open(struct conn *conn, const struct cohorti_link_event *event)
{
    switch (event->type) {
    case COHORTI_LINK_EVENT_ECHO:
    case COHORTI_LINK_EVENT_PING:
    case COHORTI_LINK_EVENT_PONG:
        on_echo(conn, event);
        break;
    case COHORTI_LINK_EVENT_RAW:
        on_legacy_message(conn, event);
        break;
    case COHORTI_LINK_EVENT_TAKEN:
        on_taken(conn);
        break;
    case COHORTI_LINK_EVENT_RESUME:
        if (cohorti_session_on_resume(conn) != COHORT_OK) {
            cohorti_conn_fail(conn, COHORT_EPROTOCOL, "RESUME claims more than was sent");
        }
        break;
    case COHORTI_LINK_EVENT_ACK:
        if (cohorti_session_on_ack(conn) != COHORT_OK) {
            cohorti_conn_fail(conn, COHORT_EPROTOCOL, "ACK claims more than was sent");
        }
        break;
    case COHORTI_LINK_EVENT_REFUSE:
        if (event->code != COHORT_EDUPLICATE) {
            cohorti_log(conn->owner, COHORT_LOG_WARN, "link", conn->peer->id, event->code, "ended by the peer: %s%s%s",
                        cohort_error_text(event->code), event->refuse.text[0] == '\0' ? "" : ": ", event->refuse.text);
        }
        cohorti_conn_end(conn, COHORT_EREMOTE);
        break;
    case COHORTI_LINK_EVENT_LEAVE:
        cohorti_conn_end(conn, COHORT_ELEFT);
        break;
    case COHORTI_LINK_EVENT_FAILED:
        cohorti_conn_fail(conn, event->code, conn->link.detail);
        break;
    case COHORTI_LINK_EVENT_HELLO:
    case COHORTI_LINK_EVENT_WELCOME:
        break; /* cannot come on an open link */
    }
}

static void publish_counters(struct conn *conn)
{
    struct node_counters *total = &conn->owner->counters;
    uint64_t bytes = conn->link.bytes_in;
    uint64_t frames = conn->link.reader.frames;
    atomic_fetch_add(&total->bytes_in, bytes - atomic_load(&conn->bytes_in));
    atomic_fetch_add(&total->frames_in, frames - atomic_load(&conn->frames_in));
    atomic_store(&conn->bytes_in, bytes);
    atomic_store(&conn->frames_in, frames);
}

/* A socket that fails here the flush that follows will meet as well. */
static void write_now(struct conn *conn)
{
    cohorti_conn_lock(conn);
    if (conn->attached && !conn->local && !conn->writing && !conn->watching_write) {
        (void)write_out(conn);
    }
    cohorti_conn_unlock(conn);
    conn->early.since_ns = cohorti_now(conn->owner);
}

static bool has_queued(const struct conn *conn)
{
    return conn->phase == CONN_OPEN && atomic_load_explicit(&conn->flush_posted, memory_order_relaxed);
}

/* Half of the batch was handled, and it is a large one. How large batches are when all is in one of them, the largest of late tells. */
static bool is_worth_splitting(const struct conn *conn)
{
    uint32_t most = conn->early.most > conn->early.most_before ? conn->early.most : conn->early.most_before;
    return conn->early.messages >= EARLY_MESSAGES && conn->early.messages >= most / 8 * 3;
}

static void note_batch(struct conn *conn)
{
    if (++conn->early.batches == BATCHES) {
        conn->early.batches = 0;
        conn->early.most_before = conn->early.most;
        conn->early.most = 0;
    }
    conn->early.most = conn->early.messages > conn->early.most ? conn->early.messages : conn->early.most;
}

/* Handlers have queued something, and the batch goes on. It is written once half of the batch was handled, if all that is under way seems to
 * be in it: then the peer is at work on the one half while we are on the other, instead of each sleeping while the other works. A half is
 * not halved again, as each write costs as much as ten messages. And it is written when it has taken long: a slow handler does not hold
 * up what was said before it. */
static void write_early(struct conn *conn)
{
    if (!has_queued(conn)) {
        return;
    }
    conn->early.messages++;
    bool half = conn->early.half > 0 && conn->link.reader.piece_len <= conn->early.half;
    bool looks = conn->early.messages % LOOK_MESSAGES == 0;
    conn->early.half = half ? 0 : conn->early.half;
    if ((half && is_worth_splitting(conn)) || (looks && cohorti_now(conn->owner) - conn->early.since_ns >= EARLY_NS)) {
        write_now(conn);
    }
}

void cohorti_conn_pump(struct conn *conn)
{
    struct cohorti_link_event event;
    conn->pumping = true;
    conn->early.messages = 0;
    conn->early.half = conn->link.reader.piece_len / 2;
    conn->early.since_ns = atomic_load(&conn->last_in_ns);
    while (conn->phase != CONN_ENDED && cohorti_link_poll(&conn->link, &event)) {
        if (conn->phase == CONN_OPEN) {
            on_event_open(conn, &event);
            write_early(conn);
        } else {
            cohorti_control_conn_event(conn, &event);
        }
    }
    cohorti_stages_flush(&conn->worker->runner->stages);
    conn->pumping = false;
    note_batch(conn);
    cohorti_watch_end(conn);
    cohorti_conn_unpin(conn);
    publish_counters(conn);
    if (conn->phase == CONN_ENDED && conn->ends_session) {
        cohorti_session_settle(conn);
    }
    if (conn->tells_end) {
        cohorti_conn_tell_end(conn);
    }
}

/* ---- reading ------------------------------------------------------------------------------------------------------- */

static bool wants_read(const struct conn *conn)
{
    bool waits = conn->link.state == COHORTI_LINK_GREETED || conn->link.state == COHORTI_LINK_WELCOMED;
    return conn->phase == CONN_DRAINING || (!waits && conn->phase != CONN_CONNECTING);
}

/* `sunk` bytes were read to where the link wanted them, and `len` behind them. */
void cohorti_conn_on_bytes(struct conn *conn, size_t sunk, const uint8_t *bytes, size_t len)
{
    const uint8_t *plain = NULL;
    size_t plain_len = 0;
    if (conn->phase == CONN_DRAINING) {
        return;
    }
    uint64_t now_ns = cohorti_now(conn->owner);
    atomic_store(&conn->last_in_ns, now_ns);
    cohorti_watch_begin(conn, now_ns);
    if (!conn->got_bytes) {
        conn->got_bytes = true;
        cohorti_cluster_received(&conn->owner->cluster, conn->number); /* in the handshake: we are on control */
    }
    int status = conn->channel->ops->received(conn->channel, bytes, len, &plain, &plain_len);
    if (status != COHORT_OK) {
        cohorti_conn_end(conn, status);
        return;
    }
    if (sunk > 0) {
        cohorti_link_sunk(&conn->link, sunk);
    }
    cohorti_link_feed(&conn->link, plain, plain_len);
    cohorti_conn_pump(conn);
}

/* When many messages have come, more are likely to come soon: those who answer what we are about to write. So it is written, and looked
 * after them a few times, before the loop is left, which would cost as much as some messages, and to be woken again as much as many. */
static bool expects_more(struct conn *conn)
{
    bool many = conn->early.messages >= AGAIN_MESSAGES && has_queued(conn);
    if (many) {
        write_now(conn);
    }
    return many;
}

/* Where to read to: what is missing of a large frame goes where it belongs, and behind it only the front of the next one is taken, so that
 * the rest of that can go where it belongs as well. */
static size_t rooms_for(struct conn *conn, struct cohorti_room rooms[2])
{
    size_t room = conn->phase == CONN_OPEN ? COHORTI_RECEIVE_BYTES : COHORTI_HANDSHAKE_PIECE_BYTES;
    size_t count = 0;
    if (conn->phase == CONN_OPEN && conn->channel->ops->transparent) {
        size_t front = cohorti_link_front_missing(&conn->link);
        count = cohorti_link_sink(&conn->link, &rooms[0]) ? 1 : 0;
        room = front > 0 ? front : room;
    }
    rooms[count] = (struct cohorti_room){.at = conn->worker->receive, .len = room};
    return count + 1;
}

enum came {
    CAME_NOTHING,
    CAME_LESS,
    CAME_ALL
}; /* less than there was room for: the system has no more just now */

static enum came read_once(struct conn *conn, bool soon)
{
    const struct cohorti_io_ops *ops = conn->owner->io->ops;
    struct cohorti_room rooms[2];
    size_t count = rooms_for(conn, rooms), n = 0;
    size_t place = count == 2 ? rooms[0].len : 0, room = place + rooms[count - 1].len;
    int status = (soon ? ops->recv_soon : ops->recv)(conn->socket, rooms, count, &n);
    if (status == COHORT_EAGAIN) {
        return CAME_NOTHING;
    }
    if (status != COHORT_OK) {
        cohorti_conn_end(conn, status);
        return CAME_NOTHING;
    }
    size_t sunk = n < place ? n : place;
    cohorti_conn_on_bytes(conn, sunk, conn->worker->receive, n - sunk);
    return n == room ? CAME_ALL : CAME_LESS;
}

static void read_some(struct conn *conn)
{
    struct worker *w = conn->worker;
    bool soon = false;
    for (int i = 0; i < COHORTI_BATCH_READS && conn->phase != CONN_ENDED && wants_read(conn) && conn->worker == w; i++) {
        enum came came = read_once(conn, soon);
        cohorti_session_acknowledge_much(conn); /* each costs the peer a wake-up; more of it may come with the next read */
        soon = came == CAME_LESS;
        if (came == CAME_NOTHING || (soon && !expects_more(conn))) {
            break; /* level-triggered: if more has come since, we are called again */
        }
    }
    if (conn->worker == w) {
        cohorti_session_acknowledge(conn);
    }
}

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
        cohorti_outbound_written(&conn->peer->outbound, cohorti_now(conn->owner));
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
    unsigned events = wants_read(conn) ? COHORTI_IO_READ : 0;
    if (conn->phase == CONN_CONNECTING || conn->watching_write) {
        events |= COHORTI_IO_WRITE;
    }
    conn->owner->io->ops->watch(conn->socket, events);
}

void cohorti_conn_set_timer(struct conn *conn, uint64_t echo_deadline_ns)
{
    uint64_t deadline = conn->phase == CONN_DRAINING ? conn->drain_until_ns : COHORTI_NEVER;
    deadline = echo_deadline_ns < deadline ? echo_deadline_ns : deadline;
    deadline = conn->ack_due_ns < deadline ? conn->ack_due_ns : deadline;
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

/* So much waits that writing it here costs the sender less than filling memory for the loop. */
static bool is_much(const struct conn *conn)
{
    return conn->peer != NULL && conn->link.peer.extended && cohorti_outbound_unsent(&conn->peer->outbound) >= MUCH_BYTES &&
           cohorti_outbound_wants_write(&conn->peer->outbound);
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
    if (conn->flush_posted || conn->writing) {
        if (conn->writing) {
            cohorti_conn_post_flush(conn);
        } else if (is_much(conn) && !conn->socket_full && !conn->owner->io->ops->loop_is_current(conn->worker->loop)) {
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
            read_some(conn);
        }
        if ((events & COHORTI_IO_WRITE) != 0 && conn->phase != CONN_ENDED) {
            cohorti_conn_flush(conn);
        }
        if (conn->phase == CONN_HANDSHAKE && !wants_read(conn)) {
            cohorti_conn_watch(conn);
        }
    }
    cohorti_conn_unref(conn);
    cohorti_worker_settle(w);
}
