/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes of a connection read, cut into events, and handed to handlers; all on its loop's thread.
 */
#include "node/node.h"
#include "node/stream.h"

#include <stdio.h>

#define EARLY_MESSAGES 16                /* with something to be written, in the first half of a batch, for a write in its middle */
#define BATCHES 4096                     /* whose largest is remembered: twice as many at the most */
#define EARLY_NS 50000                   /* or so long since */
#define LOOK_MESSAGES 4                  /* the clock is looked at after so many */
#define STREAM_BYTES ((size_t)32 * 1024) /* come with one read: there is more under way than somebody says now and then */

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
        publish_counters(conn); /* who is answered sees it counted */
        cohorti_conn_complete_echo(conn, ours, COHORT_OK, now_ns - ours->sent_ns);
    }
}

void cohorti_conn_fail(struct conn *conn, int code, const char *detail)
{
    cohorti_log(conn->owner, COHORT_LOG_WARN, "link", conn->peer->id, code, "%s from %s%s%s", cohort_error_text(code), conn->remote,
                detail[0] == '\0' ? "" : ": ", detail);
    cohorti_conn_end(conn, code);
}

/* The two ends do not mean the same session: they begin another, with a new half of ours, and what is not acknowledged is told. */
static void fail_session(struct conn *conn, const char *detail)
{
    conn->disagrees = true;
    cohorti_conn_fail(conn, COHORT_EPROTOCOL, detail);
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
            fail_session(conn, "RESUME is not about what was sent");
        }
        break;
    case COHORTI_LINK_EVENT_ACK:
        if (cohorti_session_on_ack(conn) != COHORT_OK) {
            fail_session(conn, "ACK claims more than was sent");
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
        cohorti_conn_write_now(conn);
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

bool cohorti_conn_wants_read(const struct conn *conn)
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

static uint64_t look_limit_ns(const struct conn *conn)
{
    return conn->owner->look_us * UINT64_C(1000);
}

/* Handlers have answered what was read, and the peer may say more as soon as it has that: so it is written, and, if it has been worth while of
 * late (core/look.h), waited for awake, which costs less than to sleep and be woken. The same for the rest of a stream that is read faster
 * than it comes: there each wake-up would take the sender longer than it takes us. Not while the loop has anything else to do, and not in
 * a loop without a thread of its own: that time is the application's. How long; 0: not at all. */
static uint64_t begin_look(struct conn *conn, size_t read_len)
{
    struct runner *r = conn->worker->runner;
    bool queued = has_queued(conn), answers = queued && conn->early.messages > 0;
    if (conn->phase != CONN_OPEN || (!answers && read_len < STREAM_BYTES) || !r->owner->threads) {
        return 0;
    }
    uint64_t for_ns = cohorti_look_begin(&conn->look, look_limit_ns(conn));
    if (for_ns == 0) {
        return 0;
    }
    /* Before what waits is written: what others queue from here on they see to themselves. */
    atomic_store_explicit(&conn->looking, true, memory_order_relaxed);
    bool looks = (!queued || cohorti_conn_write_now(conn)) && cohorti_runner_begin_look(r, &conn->flush_mail);
    atomic_store_explicit(&conn->looking, looks, memory_order_relaxed);
    return looks ? for_ns : 0;
}

static int receive(struct conn *conn, const struct cohorti_room *rooms, size_t count, size_t *n, uint64_t look_ns)
{
    const struct cohorti_io_ops *ops = conn->owner->io->ops;
    if (look_ns == 0) {
        return ops->recv(conn->socket, rooms, count, n);
    }
    uint64_t took_ns = 0;
    int status = ops->recv_soon(conn->socket, rooms, count, n, look_ns, &took_ns);
    cohorti_runner_end_look(conn->worker->runner);
    atomic_store_explicit(&conn->looking, false, memory_order_relaxed);
    cohorti_look_ended(&conn->look, look_limit_ns(conn), status != COHORT_EAGAIN, took_ns);
    return status;
}

static enum came read_once(struct conn *conn, uint64_t look_ns, size_t *len)
{
    struct cohorti_room rooms[2];
    size_t count = rooms_for(conn, rooms), n = 0;
    size_t place = count == 2 ? rooms[0].len : 0, room = place + rooms[count - 1].len;
    int status = receive(conn, rooms, count, &n, look_ns);
    *len = n;
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

void cohorti_conn_read(struct conn *conn)
{
    struct worker *w = conn->worker;
    uint64_t look_ns = 0;
    for (int i = 0; i < COHORTI_BATCH_READS && conn->phase != CONN_ENDED && cohorti_conn_wants_read(conn) && conn->worker == w; i++) {
        size_t len = 0;
        enum came came = read_once(conn, look_ns, &len);
        if (came == CAME_LESS && conn->worker == w) {
            cohorti_session_acknowledge(conn, !has_queued(conn)); /* before a look, which may be one of many */
        } else {
            cohorti_session_acknowledge_much(conn); /* each costs the peer a wake-up; more of it may come with the next read */
        }
        bool more = i + 1 < COHORTI_BATCH_READS;
        look_ns = came == CAME_LESS && more ? begin_look(conn, len) : 0;
        if (came != CAME_ALL && look_ns == 0) {
            break; /* level-triggered: if more has come since, we are called again */
        }
    }
    if (conn->worker == w) {
        cohorti_session_acknowledge(conn, !has_queued(conn));
    }
}
