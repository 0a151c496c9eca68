/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes of a connection: read, cut into events, handed to handlers; written when there is something to write.
 *
 * Who writes: a thread that queues onto a connection that has been idle for a few microseconds writes at once; in a burst, on the
 * connection's own loop, and when bytes wait already, the loop writes, all that has gathered in one call. Invariant, under the
 * lock: if bytes wait, then a flush is posted, or the loop watches for WRITE, or the connection is not attached yet and its
 * attaching will flush.
 */
#include "node/node.h"

#include <stdio.h>
#include <string.h>

#define IDLE_NS 3000 /* a message so soon after another is one of a burst */

/* ---- events of an open link ---------------------------------------------------------------------------------------- */

static void call_handlers(struct cohort_node *node, struct cohorti_handlers *handlers, const cohort_message *message)
{
    for (size_t i = 0; i < handlers->count; i++) {
        struct cohorti_handler *h = handlers->at[i];
        if (!atomic_load(&h->removed)) {
            h->fn.message(node, message, h->arg);
        }
    }
}

static void deliver(struct conn *conn, const struct cohorti_link_event *event)
{
    struct cohort_node *node = conn->owner;
    char raw[16];
    cohort_message message = {.from = conn->peer->id,
                              .subject = event->subject,
                              .type = event->raw_type,
                              .raw = event->type == COHORTI_LINK_EVENT_RAW,
                              .legacy = !conn->link.peer.extended,
                              .data = event->data,
                              .data_len = event->data_len};
    if (message.raw) {
        snprintf(raw, sizeof raw, "#%d", (int)event->raw_type);
        message.subject = raw;
    }
    struct cohorti_handlers *handlers = cohorti_registry_get(&node->registry, message.subject);
    if (handlers == NULL) {
        handlers = cohorti_registry_get(&node->registry, COHORTI_KEY_DEFAULT);
    }
    if (handlers == NULL) {
        atomic_fetch_add(&node->counters.messages_unhandled, 1);
        return;
    }
    call_handlers(node, handlers, &message);
    cohorti_registry_put(&node->registry, handlers);
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

static void on_event_open(struct conn *conn, const struct cohorti_link_event *event)
{
    switch (event->type) {
    case COHORTI_LINK_EVENT_ECHO:
    case COHORTI_LINK_EVENT_PING:
    case COHORTI_LINK_EVENT_PONG:
        on_echo(conn, event);
        break;
    case COHORTI_LINK_EVENT_RAW:
    case COHORTI_LINK_EVENT_MESSAGE:
        deliver(conn, event);
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
        cohorti_log(conn->owner, COHORT_LOG_WARN, "link", conn->peer->id, event->code, "%s from %s%s%s",
                    cohort_error_text(event->code), conn->remote, conn->link.detail[0] == '\0' ? "" : ": ", conn->link.detail);
        cohorti_conn_end(conn, event->code);
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

void cohorti_conn_pump(struct conn *conn)
{
    struct cohorti_link_event event;
    while (conn->phase != CONN_ENDED && cohorti_link_poll(&conn->link, &event)) {
        if (conn->phase == CONN_OPEN) {
            on_event_open(conn, &event);
        } else {
            cohorti_control_conn_event(conn, &event);
        }
    }
    publish_counters(conn);
}

/* ---- reading ------------------------------------------------------------------------------------------------------- */

static bool wants_read(const struct conn *conn)
{
    bool waits = conn->link.state == COHORTI_LINK_GREETED || conn->link.state == COHORTI_LINK_WELCOMED;
    return conn->phase == CONN_DRAINING || (!waits && conn->phase != CONN_CONNECTING);
}

static void on_bytes(struct conn *conn, const uint8_t *bytes, size_t len)
{
    const uint8_t *plain = NULL;
    size_t plain_len = 0;
    if (conn->phase == CONN_DRAINING) {
        return;
    }
    atomic_store(&conn->last_in_ns, cohorti_now(conn->owner));
    if (!conn->got_bytes) {
        conn->got_bytes = true;
        cohorti_cluster_received(&conn->owner->cluster, conn->number); /* in the handshake: we are on control */
    }
    int status = conn->channel->ops->received(conn->channel, bytes, len, &plain, &plain_len);
    if (status != COHORT_OK) {
        cohorti_conn_end(conn, status);
        return;
    }
    cohorti_link_feed(&conn->link, plain, plain_len);
    cohorti_conn_pump(conn);
}

static void read_some(struct conn *conn)
{
    struct worker *w = conn->worker;
    for (int i = 0; i < COHORTI_BATCH_READS && conn->phase != CONN_ENDED && wants_read(conn) && conn->worker == w; i++) {
        size_t room = conn->phase == CONN_OPEN ? COHORTI_RECEIVE_BYTES : COHORTI_HANDSHAKE_PIECE_BYTES;
        size_t n = 0;
        int status = conn->owner->io->ops->recv(conn->socket, w->receive, room, &n);
        if (status == COHORT_EAGAIN) {
            return;
        }
        if (status != COHORT_OK) {
            cohorti_conn_end(conn, status);
            return;
        }
        on_bytes(conn, w->receive, n);
        if (n < room) {
            return; /* level-triggered: if more has come since, we are called again */
        }
    }
}

/* ---- writing ------------------------------------------------------------------------------------------------------- */

/* Write until nothing waits or the socket takes no more. With the lock held. */
static int write_locked(struct conn *conn)
{
    const struct cohorti_io_ops *ops = conn->owner->io->ops;
    struct cohorti_sender *s = &conn->sender;
    atomic_fetch_add(&conn->owner->counters.frames_out, s->frames_out - conn->frames_counted);
    conn->frames_counted = s->frames_out;
    while (cohorti_buffer_len(&s->out) > 0) {
        const uint8_t *wire = NULL;
        size_t wire_len = 0, n = 0;
        int status =
            conn->channel->ops->to_write(conn->channel, cohorti_buffer_data(&s->out), cohorti_buffer_len(&s->out), &wire, &wire_len);
        if (status == COHORT_OK) {
            status = ops->send(conn->socket, wire, wire_len, &n);
        }
        if (status != COHORT_OK) {
            return status;
        }
        cohorti_sender_written(s, conn->channel->ops->written(conn->channel, n));
        atomic_fetch_add(&conn->owner->counters.bytes_out, n);
    }
    return COHORT_OK;
}

void cohorti_conn_watch(struct conn *conn)
{
    unsigned events = wants_read(conn) ? COHORTI_IO_READ : 0;
    if (conn->phase == CONN_CONNECTING || conn->watching_write) {
        events |= COHORTI_IO_WRITE;
    }
    conn->owner->io->ops->watch(conn->socket, events);
}

static void set_timer(struct conn *conn, uint64_t echo_deadline_ns)
{
    uint64_t deadline = conn->phase == CONN_DRAINING ? conn->drain_until_ns : COHORTI_NEVER;
    deadline = echo_deadline_ns < deadline ? echo_deadline_ns : deadline;
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
    if (!conn->attached) {
        cohorti_conn_unlock(conn);
        return;
    }
    int status = write_locked(conn);
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
    cohorti_conn_unlock(conn);
    if (status != COHORT_OK && !waiting) {
        cohorti_conn_end(conn, status);
        return;
    }
    set_timer(conn, echo_deadline_ns);
}

void cohorti_conn_kick(struct conn *conn)
{
    bool needs_loop = conn->echoes.count > 0; /* for its timer, also while the socket has no room */
    if (!conn->attached || conn->flush_posted || (conn->watching_write && !needs_loop)) {
        return; /* who attaches, the flush under way, or the loop when the socket has room, will write */
    }
    uint64_t now_ns = cohorti_now(conn->owner);
    bool idle = now_ns - conn->queued_ns > IDLE_NS;
    conn->queued_ns = now_ns;
    if (idle && !conn->owner->io->ops->loop_is_current(conn->worker->loop) && write_locked(conn) == COHORT_OK && !needs_loop) {
        return;
    }
    conn->flush_posted = true;
    cohorti_conn_ref(conn);
    cohorti_worker_post(conn->worker, &conn->flush_mail);
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
