/* SPDX-License-Identifier: Apache-2.0
 *
 * The control loop: feeds the cluster with what connections report, and carries out what it wants.
 *
 * Effects are carried out in one place, control_effects(), after the step that caused them has returned; a callback in there
 * may cause more, which are appended. No decision is taken here.
 */
#include "node/node.h"

#include <assert.h>
#include <string.h>

#define ACCEPT_BATCH 64
#define ACCEPT_PAUSE_NS (UINT64_C(100) * 1000000)

/* ---- steps that may add a member: the peer that will show it is made first ------------------------------------------ */

static struct peer *prepare_peer(struct cohort_node *node, size_t *members_before)
{
    *members_before = node->cluster.member_count;
    return cohorti_peer_new(node);
}

static void keep_if_added(struct cohort_node *node, struct peer *peer, size_t members_before)
{
    if (node->cluster.member_count > members_before) {
        cohorti_list_append(&node->spare_peers, &peer->spare);
    } else {
        cohorti_peer_unref(peer);
    }
}

int cohorti_control_add(struct cohort_node *node, const char *id, const char *ip, uint16_t tcp_port)
{
    size_t before = 0;
    struct peer *peer = prepare_peer(node, &before);
    if (peer == NULL) {
        return COHORT_ENOMEM;
    }
    int status = cohorti_cluster_add(&node->cluster, cohorti_now(node), id, ip, tcp_port);
    keep_if_added(node, peer, before);
    return status;
}

/* ---- what connections report --------------------------------------------------------------------------------------- */

/* Who it says it is; until then whom we dialled, or where it comes from. */
static const char *peer_label(const struct conn *conn)
{
    const char *dialled = conn->link.peer.id[0] != '\0' ? NULL : cohorti_cluster_dialled(&conn->owner->cluster, conn->number);
    return conn->link.peer.id[0] != '\0' ? conn->link.peer.id : dialled != NULL ? dialled : conn->remote;
}

void cohorti_control_conn_event(struct conn *conn, const struct cohorti_link_event *event)
{
    struct cohort_node *node = conn->owner;
    uint64_t now_ns = cohorti_now(node);
    size_t before = 0;
    switch (event->type) {
    case COHORTI_LINK_EVENT_HELLO: {
        struct peer *peer = prepare_peer(node, &before);
        if (peer == NULL) {
            cohorti_conn_end(conn, COHORT_ENOMEM);
            break;
        }
        cohorti_cluster_hello(&node->cluster, now_ns, conn->number, &conn->link.peer);
        keep_if_added(node, peer, before);
        break;
    }
    case COHORTI_LINK_EVENT_WELCOME:
        cohorti_cluster_welcome(&node->cluster, now_ns, conn->number);
        break;
    case COHORTI_LINK_EVENT_REFUSE:
        if (event->code != COHORT_EDUPLICATE && event->code != COHORT_ESUPERSEDED) {
            cohorti_log(node, COHORT_LOG_WARN, "link", peer_label(conn), event->code, "refused by %s: %s%s%s", conn->remote,
                        cohort_error_text(event->code), event->refuse.text[0] == '\0' ? "" : ": ", event->refuse.text);
        }
        cohorti_cluster_refused(&node->cluster, now_ns, conn->number, &event->refuse);
        break;
    case COHORTI_LINK_EVENT_FAILED:
        cohorti_log(node, COHORT_LOG_WARN, "link", peer_label(conn), event->code, "%s from %s%s%s", cohort_error_text(event->code),
                    conn->remote, conn->link.detail[0] == '\0' ? "" : ": ", conn->link.detail);
        cohorti_conn_end(conn, event->code);
        break;
    case COHORTI_LINK_EVENT_LEAVE:
        cohorti_conn_end(conn, COHORT_ELEFT);
        break;
    case COHORTI_LINK_EVENT_ECHO:
    case COHORTI_LINK_EVENT_PING:
    case COHORTI_LINK_EVENT_PONG:
    case COHORTI_LINK_EVENT_RAW:
    case COHORTI_LINK_EVENT_RESUME:
    case COHORTI_LINK_EVENT_ACK:
    case COHORTI_LINK_EVENT_TAKEN:
        break; /* only on an open link */
    }
}

void cohorti_control_conn_ended(struct conn *conn)
{
    struct cohort_node *node = conn->owner;
    int code = conn->end_code;
    atomic_fetch_add(&node->counters.links_closed, 1);
    size_t slot = (size_t)-code;
    if (slot < sizeof node->counters.errors / sizeof node->counters.errors[0]) {
        atomic_fetch_add(&node->counters.errors[slot], 1);
    }
    cohorti_log(node, COHORT_LOG_DEBUG, "link", peer_label(conn), code, "link %llu %s ended: %s", (unsigned long long)conn->number,
                conn->remote, cohort_error_text(code));
    cohorti_cluster_closed(&node->cluster, cohorti_now(node), conn->number, code);
}

/* ---- the listener -------------------------------------------------------------------------------------------------- */

static bool accept_one(struct cohort_node *node)
{
    const struct cohorti_io_ops *ops = node->io->ops;
    struct cohorti_socket *socket = NULL;
    int status = ops->accept(node->listener, &socket);
    if (status == COHORT_ELIMIT || status == COHORT_ENOMEM) {
        cohorti_log(node, COHORT_LOG_ERROR, "node", NULL, status,
                    "cannot accept: out of descriptors or memory; trying again in 100 ms");
        ops->watch(node->listener, 0);
        cohorti_timer_set(&node->control.timers, &node->accept_pause, cohorti_now(node) + ACCEPT_PAUSE_NS);
        return false;
    }
    if (status != COHORT_OK) {
        return status != COHORT_EAGAIN; /* this one was gone before we took it */
    }
    uint64_t number = 0;
    status = cohorti_cluster_accepted(&node->cluster, cohorti_now(node), &number);
    struct conn *conn = status == COHORT_OK ? cohorti_conn_new(node, number, socket) : NULL;
    if (conn == NULL) {
        ops->close(socket);
        if (status == COHORT_OK) {
            cohorti_cluster_closed(&node->cluster, cohorti_now(node), number, COHORT_ENOMEM);
        }
        return true;
    }
    atomic_fetch_add(&node->counters.links_accepted, 1);
    cohorti_conn_begin(conn, false);
    cohorti_control_effects(node);
    return true;
}

static void on_listener(void *ctx, unsigned events)
{
    struct cohort_node *node = ctx;
    for (int i = 0; i < ACCEPT_BATCH && node->listener != NULL && accept_one(node); i++) {
    }
    cohorti_worker_settle(&node->control);
}

static int listen_on(struct cohort_node *node, const char *address, cohort_error *error)
{
    return node->io->ops->listen(node->control.loop, address, node->cluster.config.tcp_port, on_listener, node, &node->listener,
                                 error);
}

int cohorti_control_listen(struct cohort_node *node, cohort_error *error)
{
    if (node->bind[0] != '\0') {
        return listen_on(node, node->bind, error);
    }
    int status = listen_on(node, "::", error);                                  /* IPv4 too */
    return status == COHORT_EADDR ? listen_on(node, "0.0.0.0", error) : status; /* no IPv6 on this machine */
}

void cohorti_control_on_timer(struct cohort_node *node, struct cohorti_timer *timer, uint64_t now_ns)
{
    if (timer == &node->accept_pause && node->listener != NULL) {
        node->io->ops->watch(node->listener, COHORTI_IO_READ);
    }
    if (timer == &node->watchdog) {
        cohorti_watch_look(node, now_ns);
    }
    if (timer == &node->local_pause) {
        cohorti_local_begin(node);
    }
    if (timer == &node->close_deadline) {
        COHORTI_LIST_FOREACH_SAFE (it, &node->conn_list) {
            cohorti_conn_close(COHORTI_CONTAINER(it, struct conn, of_node), COHORT_ETIMEDOUT, false);
        }
    }
}

/* ---- closing the node ---------------------------------------------------------------------------------------------- */

void cohorti_control_begin_close(struct cohort_node *node, uint64_t deadline_ns, struct cohorti_waiter *closed)
{
    node->closed_waiter = closed;
    cohorti_follow_end(node);
    if (node->listener != NULL) {
        node->io->ops->close(node->listener);
        node->listener = NULL;
    }
    cohorti_timer_cancel(&node->control.timers, &node->accept_pause);
    cohorti_timer_set(&node->control.timers, &node->close_deadline, deadline_ns);
    cohorti_cluster_stop(&node->cluster);
    cohorti_local_close(node);
    cohorti_control_effects(node);
    cohorti_control_check_idle(node);
}

void cohorti_control_check_idle(struct cohort_node *node)
{
    if (node->closed_waiter != NULL && cohorti_cluster_is_idle(&node->cluster) && cohorti_list_empty(&node->conn_list)) {
        struct cohorti_waiter *waiter = node->closed_waiter;
        node->closed_waiter = NULL;
        cohorti_timer_cancel(&node->control.timers, &node->close_deadline);
        cohorti_waiter_signal(waiter);
    }
}

/* ---- effects ------------------------------------------------------------------------------------------------------- */

static void do_greet(struct cohort_node *node, struct conn *conn, const struct cohorti_effect *fx)
{
    struct cohorti_hello hello;
    cohorti_cluster_greeting(&node->cluster, fx->u.greet.attempt, &hello);
    int status = cohorti_sender_hello(&conn->sender, &hello);
    if (status != COHORT_OK) {
        cohorti_conn_end(conn, status);
        return;
    }
    cohorti_conn_flush(conn);
}

static void do_admit(struct cohort_node *node, struct conn *conn, const struct cohorti_effect *fx)
{
    int status = fx->u.admit.version == 0 ? COHORT_OK : cohorti_sender_welcome(&conn->sender, fx->u.admit.version);
    if (status != COHORT_OK) {
        cohorti_conn_end(conn, status);
        return;
    }
    cohorti_link_admit(&conn->link);
    cohorti_conn_flush(conn);
    cohorti_conn_pump(conn);
}

static void do_open(struct cohort_node *node, struct conn *conn, const struct cohorti_effect *fx)
{
    struct peer *peer = cohorti_peer_find(node, fx->u.open.id);
    assert(peer != NULL); /* the event that added the member was carried out before */
    conn->idle_ns = fx->u.open.idle_ns;
    int status = cohorti_conn_open(conn, peer);
    if (status != COHORT_OK) {
        cohorti_conn_end(conn, status);
        return;
    }
    cohorti_log(node, COHORT_LOG_INFO, "link", fx->u.open.id, COHORT_OK, "%s %s",
                fx->u.open.legacy ? "legacy link with" : "link with", conn->remote);
}

static void do_refuse(struct cohort_node *node, struct conn *conn, const struct cohorti_effect *fx)
{
    if (fx->code != COHORT_EDUPLICATE) {
        cohorti_log(node, COHORT_LOG_WARN, "link", peer_label(conn), fx->code, "refused %s: %s%s%s", conn->remote,
                    cohort_error_text(fx->code), fx->u.refuse.text[0] == '\0' ? "" : ": ", fx->u.refuse.text);
    }
    struct cohorti_refuse refuse = {.reason = fx->code, .value = fx->u.refuse.value};
    memcpy(refuse.text, fx->u.refuse.text, sizeof fx->u.refuse.text);
    bool told = !fx->u.refuse.legacy && cohorti_sender_refuse(&conn->sender, &refuse) == COHORT_OK;
    if (told && node->draining_count < node->limits.handshakes_max) {
        cohorti_conn_drain(conn, fx->code);
    } else {
        cohorti_conn_end(conn, fx->code);
    }
}

static void do_event(struct cohort_node *node, const cohort_event *event)
{
    cohorti_peer_publish(node, &event->member, event->type == COHORT_MEMBER_REMOVED);
    cohorti_log(node, COHORT_LOG_INFO, "member", event->member.id, event->reason, "%s%s%s", cohort_event_name(event->type),
                event->reason == COHORT_OK ? "" : ": ", event->reason == COHORT_OK ? "" : cohort_error_text(event->reason));
    struct cohorti_handlers *listeners = cohorti_registry_get(&node->registry, COHORTI_KEY_EVENTS);
    for (size_t i = 0; listeners != NULL && i < listeners->count; i++) {
        struct cohorti_handler *h = listeners->at[i];
        if (!atomic_load(&h->removed)) {
            h->fn.event(node, event, h->arg);
        }
    }
    cohorti_registry_put(&node->registry, listeners);
}

static void do_link_effect(struct cohort_node *node, struct conn *conn, const struct cohorti_effect *fx)
{
    switch (fx->type) {
    case COHORTI_EFFECT_GREET:
        do_greet(node, conn, fx);
        break;
    case COHORTI_EFFECT_ADMIT:
        do_admit(node, conn, fx);
        break;
    case COHORTI_EFFECT_OPEN:
        do_open(node, conn, fx);
        break;
    case COHORTI_EFFECT_RECEIVE:
        cohorti_conn_hand_over(conn);
        break;
    case COHORTI_EFFECT_KEEP:
        atomic_store(&conn->idle_ns, 0); /* its timer fires once more, and finds nothing */
        break;
    case COHORTI_EFFECT_REFUSE:
        do_refuse(node, conn, fx);
        break;
    case COHORTI_EFFECT_LEAVE:
        cohorti_conn_close(conn, fx->code, true);
        break;
    default:
        cohorti_conn_close(conn, fx->code, false);
        break;
    }
}

static void do_effect(struct cohort_node *node, const struct cohorti_effect *fx)
{
    switch (fx->type) {
    case COHORTI_EFFECT_DIAL:
        cohorti_dial(node, fx);
        break;
    case COHORTI_EFFECT_EVENT:
        do_event(node, &fx->u.event);
        break;
    case COHORTI_EFFECT_UPDATE:
        cohorti_peer_publish(node, &fx->u.event.member, false);
        break;
    case COHORTI_EFFECT_NOTE:
        cohorti_log(node, COHORT_LOG_WARN, "member", fx->u.note.id, fx->code, "%s", fx->u.note.text);
        break;
    default: {
        struct conn *conn = cohorti_conn_find(node, fx->link);
        if (conn == NULL && cohorti_dial_cancel(node, fx->link, fx->code)) {
            break;
        }
        bool ended = conn == NULL || (conn->worker == &node->control && conn->phase == CONN_ENDED);
        if (!ended) {
            do_link_effect(node, conn, fx);
        }
        break;
    }
    }
}

void cohorti_control_effects(struct cohort_node *node)
{
    if (node->settling) {
        return; /* we are inside a callback of an effect: the loop below goes on with what was added */
    }
    node->settling = true;
    struct cohorti_effect fx;
    while (cohorti_cluster_poll(&node->cluster, &fx)) {
        do_effect(node, &fx);
    }
    node->settling = false;
    cohorti_control_check_idle(node);
}
