/* SPDX-License-Identifier: Apache-2.0
 *
 * Life of a connection: begun by control, handed to a worker when open, ended once by the loop that owns it.
 *
 *   CONNECTING --> HANDSHAKE --> OPEN --> DRAINING --> ENDED        any --> ENDED
 *
 * Invariants: conn_end() takes effect once and control learns of it once (ended_mail), so the cluster hears closed() exactly
 * once for each link; the socket is closed by the owning loop under the peer's lock; the struct lives while control or a mail
 * refers to it.
 */
#include "node/node.h"
#include "node/stream.h"

#include <string.h>

static void run_attach(struct mail *mail);
static void run_close(struct mail *mail);
static void run_flush(struct mail *mail);
static void run_credit(struct mail *mail);
static void run_ended(struct mail *mail);

static uint64_t hash_of(uint64_t number)
{
    return cohorti_hash_u64(number);
}

static void init_core(struct conn *conn)
{
    struct cohort_node *node = conn->owner;
    const cohort_limits *limits = &node->limits;
    cohorti_link_init(&conn->link, &node->alloc);
    cohorti_sender_init(&conn->sender, &node->alloc,
                        &(struct cohorti_sender_limits){.queue_bytes_max = limits->peer_queue_bytes_max});
    cohorti_echoes_init(&conn->echoes, &node->alloc, limits->echoes_max);
}

struct conn *cohorti_conn_new(struct cohort_node *node, uint64_t number, struct cohorti_socket *socket)
{
    struct conn *conn = cohorti_alloc_zero(&node->alloc, sizeof *conn);
    if (conn == NULL) {
        return NULL;
    }
    conn->owner = node;
    conn->number = number;
    conn->socket = socket;
    conn->worker = &node->control;
    conn->channel = &cohorti_channel_plain;
    conn->phase = CONN_HANDSHAKE;
    cohorti_acking_init(&conn->acking, node->limits.window_bytes);
    conn->rest_due_ns = COHORTI_NEVER;
    atomic_init(&conn->refs, 1);
    init_core(conn);
    cohorti_look_init(&conn->look);
    cohorti_timer_init(&conn->timer);
    cohorti_list_init(&conn->of_peer);
    conn->attach_mail.run = run_attach;
    conn->close_mail.run = run_close;
    conn->flush_mail.run = run_flush;
    conn->credit_mail.run = run_credit;
    conn->ended_mail.run = run_ended;
    conn->attach_mail.conn = conn->close_mail.conn = conn->flush_mail.conn = conn->credit_mail.conn = conn->ended_mail.conn = conn;
    cohorti_map_insert(&node->conns, &conn->node, hash_of(number));
    cohorti_list_append(&node->conn_list, &conn->of_node);
    atomic_fetch_add(&node->counters.handshakes, 1);
    return conn;
}

void cohorti_conn_ref(struct conn *conn)
{
    atomic_fetch_add(&conn->refs, 1);
}

void cohorti_conn_unref(struct conn *conn)
{
    if (atomic_fetch_sub(&conn->refs, 1) == 1) {
        struct cohort_node *node = conn->owner;
        cohorti_link_deinit(&conn->link);
        cohorti_sender_deinit(&conn->sender);
        cohorti_peer_unref(conn->peer);
        cohorti_release(&node->alloc, conn);
    }
}

struct conn *cohorti_conn_find(struct cohort_node *node, uint64_t number)
{
    struct cohorti_map_node *it = cohorti_map_find(&node->conns, hash_of(number));
    while (it != NULL && COHORTI_CONTAINER(it, struct conn, node)->number != number) {
        it = cohorti_map_find_next(it, hash_of(number));
    }
    return it == NULL ? NULL : COHORTI_CONTAINER(it, struct conn, node);
}

void cohorti_conn_lock(struct conn *conn)
{
    if (conn->peer != NULL) {
        cohorti_mutex_lock(&conn->peer->lock);
    }
}

void cohorti_conn_unlock(struct conn *conn)
{
    if (conn->peer != NULL) {
        cohorti_mutex_unlock(&conn->peer->lock);
    }
}

void cohorti_conn_begin(struct conn *conn, bool connecting)
{
    const struct cohorti_io_ops *ops = conn->owner->io->ops;
    conn->phase = connecting ? CONN_CONNECTING : CONN_HANDSHAKE;
    if (!connecting) { /* else the system does not know yet, and we do */
        ops->peer_name(conn->socket, conn->remote, sizeof conn->remote);
    }
    int status = ops->attach(conn->socket, conn->worker->loop, cohorti_conn_on_event, conn);
    if (status != COHORT_OK) {
        cohorti_conn_end(conn, status);
        return;
    }
    conn->attached = true;
    cohorti_conn_watch(conn);
}

/* ---- open: from control to a worker -------------------------------------------------------------------------------- */

struct worker *cohorti_conn_least_used(struct cohort_node *node)
{
    struct worker *best = node->worker_count == 0 ? &node->control : &node->workers[0];
    for (uint32_t i = 1; i < node->worker_count; i++) {
        if (atomic_load(&node->workers[i].runner->load) < atomic_load(&best->runner->load)) {
            best = &node->workers[i];
        }
    }
    return best;
}

/* A legacy peer was refused something on `from`, and is sent to through `to` now: whoever waits for room is told of that one's. It is told
 * after a flush, which follows, as bytes wait wherever something was refused. When no other link is left nobody need be told: sends are
 * COHORT_EINACTIVE until the member is ACTIVE again. With the lock held. */
static bool pass_refusal(struct conn *from, struct conn *to)
{
    bool passes = from != NULL && to != NULL && from->sender.refused;
    if (passes) {
        from->sender.refused = false;
        to->sender.refused = true;
    }
    return passes;
}

/* From here on messages to the peer go out through this connection; it is read only after hand_over(). With a legacy peer there is no
 * session: what waits for one is lost. */
int cohorti_conn_open(struct conn *conn, struct peer *peer)
{
    struct cohort_node *node = conn->owner;
    bool legacy = !conn->link.peer.extended;
    conn->peer = peer; /* takes the reference */
    atomic_store(&conn->opened_ns, cohorti_now(node));
    if (legacy && !peer->legacy) { /* only we write it; who is told must not send into the next session */
        cohorti_mutex_lock(&peer->lock);
        peer->legacy = peer->ending = true;
        cohorti_mutex_unlock(&peer->lock);
        cohorti_session_end_here(peer, COHORT_ELEGACY);
    }
    cohorti_mutex_lock(&peer->lock);
    peer->legacy = legacy;
    cohorti_sender_open(&conn->sender, legacy);
    (void)pass_refusal(cohorti_current_conn(peer), conn); /* it is flushed when it is attached */
    cohorti_list_append(&peer->conns, &conn->of_peer);
    int status = legacy ? COHORT_OK : cohorti_session_begin(conn);
    cohorti_mutex_unlock(&peer->lock);
    atomic_fetch_add(&node->counters.links_opened, 1);
    atomic_fetch_add(&node->counters.links_open, 1);
    atomic_fetch_sub(&node->counters.handshakes, 1);
    return status;
}

void cohorti_conn_hand_over(struct conn *conn)
{
    if (conn->phase != CONN_HANDSHAKE) {
        return;
    }
    cohorti_mutex_lock(&conn->peer->lock);
    conn->owner->io->ops->detach(conn->socket);
    conn->attached = false;
    conn->worker = cohorti_conn_least_used(conn->owner);
    cohorti_mutex_unlock(&conn->peer->lock);
    cohorti_timer_cancel(&conn->owner->control.timers, &conn->timer);
    conn->phase = CONN_OPEN;
    atomic_fetch_add(&conn->worker->runner->load, 1);
    cohorti_conn_ref(conn);
    cohorti_worker_post(conn->worker, &conn->attach_mail);
}

static void run_attach(struct mail *mail)
{
    struct conn *conn = mail->conn;
    const struct cohorti_io_ops *ops = conn->owner->io->ops;
    if (conn->phase == CONN_OPEN) {
        cohorti_mutex_lock(&conn->peer->lock);
        int status = ops->attach(conn->socket, conn->worker->loop, cohorti_conn_on_event, conn);
        conn->attached = status == COHORT_OK;
        cohorti_mutex_unlock(&conn->peer->lock);
        if (status != COHORT_OK) {
            cohorti_conn_end(conn, status);
        } else {
            cohorti_link_open(&conn->link, &conn->peer->inbound);
            cohorti_watch_begin(conn, cohorti_now(conn->owner));
            cohorti_conn_pump(conn);
            cohorti_session_acknowledge(conn, false); /* RESUME may have come already: with it goes what queues gave back meanwhile */
            cohorti_conn_flush(conn);
        }
    }
    cohorti_conn_unref(conn);
}

/* ---- close --------------------------------------------------------------------------------------------------------- */

static void close_here(struct conn *conn, int code, bool leave)
{
    if (conn->phase == CONN_ENDED || (conn->phase == CONN_DRAINING && leave)) {
        return;
    }
    if (!leave || conn->phase != CONN_OPEN) {
        cohorti_conn_end(conn, code);
        return;
    }
    if (!conn->link.peer.extended) {
        cohorti_conn_drain(conn, code);
        return;
    }
    cohorti_conn_lock(conn);
    conn->leaving = true;
    conn->end_code = code;
    cohorti_conn_unlock(conn);
    cohorti_conn_flush(conn); /* says LEAVE once nothing is left to deliver */
}

void cohorti_conn_close(struct conn *conn, int code, bool leave)
{
    if (conn->worker == &conn->owner->control) {
        close_here(conn, code, leave);
        return;
    }
    cohorti_mutex_lock(&conn->peer->lock);
    bool post = !conn->close_posted;
    conn->close_posted = true;
    conn->close_code = code;
    conn->leave = leave;
    cohorti_mutex_unlock(&conn->peer->lock);
    if (post) {
        cohorti_conn_ref(conn);
        cohorti_worker_post(conn->worker, &conn->close_mail);
    }
}

void cohorti_conn_post_close(struct conn *conn, int code)
{
    if (!conn->close_posted) {
        conn->close_posted = true;
        conn->close_code = code;
        conn->leave = false;
        cohorti_conn_ref(conn);
        cohorti_worker_post(conn->worker, &conn->close_mail);
    }
}

static void run_close(struct mail *mail)
{
    struct conn *conn = mail->conn;
    cohorti_conn_lock(conn);
    struct worker *w = conn->worker;
    if (!conn->owner->io->ops->loop_is_current(w->loop)) { /* handed over since it was posted: it follows */
        cohorti_conn_unlock(conn);
        cohorti_worker_post(w, mail);
        return;
    }
    conn->close_posted = false;
    int code = conn->close_code;
    bool leave = conn->leave;
    cohorti_conn_unlock(conn);
    close_here(conn, code, leave);
    cohorti_conn_unref(conn);
}

/* It has come, and may be posted again; false: the link was handed over since it was posted, and the mail follows. */
static bool take_mail(struct mail *mail, _Atomic bool *posted)
{
    struct conn *conn = mail->conn;
    cohorti_conn_lock(conn);
    struct worker *w = conn->worker;
    bool here = conn->owner->io->ops->loop_is_current(w->loop);
    if (here) {
        atomic_store(posted, false);
    }
    cohorti_conn_unlock(conn);
    if (!here) {
        cohorti_worker_post(w, mail);
    }
    return here;
}

static void run_credit(struct mail *mail)
{
    struct conn *conn = mail->conn;
    if (take_mail(mail, &conn->credit_posted)) {
        cohorti_session_acknowledge(conn, false);
        cohorti_conn_unref(conn);
    }
}

void cohorti_conn_post_credit(struct conn *conn)
{
    if (!atomic_exchange(&conn->credit_posted, true)) {
        cohorti_conn_ref(conn);
        cohorti_worker_post(conn->worker, &conn->credit_mail);
    }
}

static void run_flush(struct mail *mail)
{
    struct conn *conn = mail->conn;
    if (!take_mail(mail, &conn->flush_posted)) {
        return;
    }
    if (conn->phase != CONN_ENDED) {
        cohorti_session_acknowledge(conn, false);
        if (conn->local) {
            cohorti_local_turn(conn);
        } else {
            cohorti_conn_flush(conn);
        }
    }
    cohorti_conn_unref(conn);
}

void cohorti_conn_drain(struct conn *conn, int code)
{
    if (conn->phase == CONN_ENDED) {
        return;
    }
    /* A member gets what is queued for it, however long that takes: the deadline of closing the node ends it. */
    conn->drain_until_ns = conn->phase == CONN_OPEN ? COHORTI_NEVER : cohorti_now(conn->owner) + COHORTI_DRAIN_NS;
    conn->phase = CONN_DRAINING;
    conn->end_code = code;
    if (conn->worker == &conn->owner->control) {
        conn->drains_on_control = true;
        conn->owner->draining_count++;
    }
    cohorti_link_close(&conn->link);
    cohorti_conn_lock(conn);
    conn->sender.open = false;
    cohorti_conn_unlock(conn);
    cohorti_conn_flush(conn);
}

void cohorti_conn_complete_echo(struct conn *conn, struct cohorti_echo *echo, int status, uint64_t rtt_ns)
{
    cohort_echo_fn fn;
    memcpy(&fn, &echo->fn, sizeof fn); /* no cast from an object pointer to a function */
    fn(conn->owner, conn->peer->id, status, rtt_ns, echo->arg);
    cohorti_echo_free(&conn->owner->alloc, echo);
}

/* Echoes still out end with the link. */
static void complete_echoes(struct conn *conn, int code)
{
    struct cohorti_echo *echo;
    while ((echo = cohorti_echoes_pop(&conn->echoes)) != NULL) {
        cohorti_conn_complete_echo(conn, echo, code, 0);
    }
}

void cohorti_conn_end(struct conn *conn, int code)
{
    if (conn->phase == CONN_ENDED) {
        return;
    }
    struct cohort_node *node = conn->owner;
    bool was_handed_over = conn->phase == CONN_OPEN || (conn->phase == CONN_DRAINING && conn->peer != NULL);
    conn->end_code = conn->phase == CONN_DRAINING ? conn->end_code : code;
    conn->phase = CONN_ENDED;
    cohorti_link_close(&conn->link);
    cohorti_timer_cancel(&conn->worker->timers, &conn->timer);
    cohorti_conn_lock(conn);
    cohorti_conn_wait_for_writer(conn);
    conn->sender.open = false;
    cohorti_list_remove(&conn->of_peer);
    bool ends_session = false;
    if (conn->peer != NULL && conn->link.peer.extended) {
        cohorti_outbound_link_ended(&conn->peer->outbound);
        if (code == COHORT_ELEFT) {
            cohorti_outbound_left(&conn->peer->outbound);
            (void)cohorti_streams_take_over(conn->peer, code);
        }
        cohorti_requests_want_timer(conn->peer, cohorti_outbound_expires_ns(&conn->peer->outbound));
        ends_session = (conn->peer->removed || code == COHORT_ESLOW) && cohorti_list_empty(&conn->peer->conns);
        conn->peer->ending = ends_session || conn->pumping;
        if (conn->pumping) { /* a handler that removes the member still reads from its session */
            conn->ends_session = true;
            ends_session = false;
        }
    } else {
        struct conn *rest = conn->peer == NULL ? NULL : cohorti_current_conn(conn->peer);
        if (pass_refusal(conn, rest)) {
            cohorti_conn_post_flush(rest);
        }
        size_t lost = cohorti_buffer_len(&conn->sender.out);
        atomic_fetch_add(&node->counters.bytes_dropped, lost);
        if (code == COHORT_ETIMEDOUT && lost > 0) {
            atomic_store(&node->close_cut, true);
        }
    }
    if (conn->socket != NULL) {
        node->io->ops->close(conn->socket);
        conn->socket = NULL;
    }
    cohorti_conn_unlock(conn);
    if (was_handed_over) {
        atomic_fetch_sub(&conn->worker->runner->load, 1);
    }
    complete_echoes(conn, conn->end_code);
    if (code == COHORT_ELEFT && conn->peer != NULL) {
        cohorti_streams_tell(conn->peer);
    }
    if (ends_session) {
        cohorti_stages_flush(&conn->worker->runner->stages);
        cohorti_session_end_here(conn->peer, code == COHORT_ESLOW ? code : COHORT_EREMOVED);
    }
    if (conn->pumping) {
        conn->tells_end = true;
    } else {
        cohorti_conn_tell_end(conn);
    }
}

/* Not while its events are handled: the link that follows would take over what they are handled with. */
void cohorti_conn_tell_end(struct conn *conn)
{
    conn->tells_end = false;
    cohorti_conn_ref(conn);
    cohorti_worker_post(&conn->owner->control, &conn->ended_mail);
}

static void run_ended(struct mail *mail)
{
    struct conn *conn = mail->conn;
    struct cohort_node *node = conn->owner;
    if (conn->peer == NULL) {
        atomic_fetch_sub(&node->counters.handshakes, 1);
    } else if (!conn->local) {
        atomic_fetch_sub(&node->counters.links_open, 1);
    }
    node->draining_count -= conn->drains_on_control;
    cohorti_map_remove(&node->conns, &conn->node);
    cohorti_list_remove(&conn->of_node);
    if (conn->local) {
        cohorti_local_ended(conn);
    } else {
        cohorti_control_conn_ended(conn);
    }
    cohorti_conn_unref(conn); /* control's */
    cohorti_conn_unref(conn); /* the mail's */
}

void cohorti_conn_abandon(struct conn *conn)
{
    struct cohort_node *node = conn->owner;
    struct cohorti_echo *echo;
    while ((echo = cohorti_echoes_pop(&conn->echoes)) != NULL) {
        cohorti_echo_free(&node->alloc, echo);
    }
    if (conn->socket != NULL) {
        node->io->ops->close(conn->socket);
        conn->socket = NULL;
    }
    cohorti_list_remove(&conn->of_peer);
    cohorti_list_remove(&conn->of_node);
    cohorti_map_remove(&node->conns, &conn->node);
    cohorti_conn_unref(conn);
}

/* ---- time ---------------------------------------------------------------------------------------------------------- */

static void expire_echoes(struct conn *conn, uint64_t now_ns)
{
    for (;;) {
        cohorti_conn_lock(conn);
        struct cohorti_echo *echo = cohorti_echoes_expire(&conn->echoes, now_ns);
        cohorti_conn_unlock(conn);
        if (echo == NULL) {
            return;
        }
        cohorti_conn_complete_echo(conn, echo, COHORT_ETIMEDOUT, 0);
    }
}

uint64_t cohorti_conn_idle_deadline(const struct conn *conn)
{
    uint64_t idle_ns = conn->phase == CONN_OPEN ? atomic_load(&conn->idle_ns) : 0;
    return idle_ns > 0 ? atomic_load(&conn->last_in_ns) + idle_ns : COHORTI_NEVER;
}

void cohorti_conn_on_timer(struct conn *conn, uint64_t now_ns)
{
    if (now_ns >= cohorti_conn_idle_deadline(conn)) {
        cohorti_conn_end(conn, COHORT_EIDLE);
        return;
    }
    if (conn->phase == CONN_DRAINING && now_ns >= conn->drain_until_ns) {
        cohorti_conn_end(conn, conn->end_code);
        return;
    }
    cohorti_conn_ref(conn); /* each of these may end it, and control may then be quicker than we are */
    expire_echoes(conn, now_ns);
    cohorti_session_rest(conn, now_ns);
    cohorti_session_acknowledge(conn, true);
    cohorti_conn_flush(conn); /* sets the next timer */
    cohorti_conn_unref(conn);
}
