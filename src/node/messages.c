/* SPDX-License-Identifier: Apache-2.0
 *
 * The sending half of the public API, and the registration of handlers.
 */
#include "node/node.h"

#include "base/name.h"

#include <stdio.h>
#include <string.h>

/* ---- handlers ------------------------------------------------------------------------------------------------------ */

int cohort_listen(cohort_node *node, cohort_event_fn fn, void *arg, cohort_release_fn release, cohort_handle_id *out)
{
    if (fn == NULL) {
        return COHORT_EINVAL;
    }
    return cohorti_registry_add(&node->registry, COHORTI_KEY_EVENTS,
                                &(struct cohorti_handler){.fn.event = fn, .arg = arg, .release = release}, out);
}

int cohort_handle(cohort_node *node, const char *subject, cohort_message_fn fn, void *arg, cohort_release_fn release,
                  cohort_handle_id *out)
{
    return cohort_handle_in(node, NULL, subject, fn, arg, release, out);
}

/* The key of a subject; `raw` has room for one of a raw type, in its one spelling: "#4294967295" is "#-1". */
static int key_of(const char *subject, char raw[16], const char **key)
{
    uint32_t type = 0;
    *key = subject == NULL ? COHORTI_KEY_DEFAULT : subject;
    if (subject != NULL && cohorti_subject_raw(subject, strlen(subject), &type)) {
        snprintf(raw, 16, "#%d", (int)type);
        *key = raw;
        return type == COHORT_TYPE_HELLO || type == COHORT_TYPE_ECHO ? COHORT_EINVAL : COHORT_OK;
    }
    return subject != NULL && !cohorti_subject_valid(subject, strlen(subject)) ? COHORT_EINVAL : COHORT_OK;
}

int cohort_handle_in(cohort_node *node, cohort_queue *queue, const char *subject, cohort_message_fn fn, void *arg,
                     cohort_release_fn release, cohort_handle_id *out)
{
    const char *key = NULL;
    char raw[16];
    if (fn == NULL || (queue != NULL && !cohorti_queue_is_of(queue, node)) || key_of(subject, raw, &key) != COHORT_OK) {
        return COHORT_EINVAL;
    }
    return cohorti_registry_add(&node->registry, key,
                                &(struct cohorti_handler){.fn.message = fn, .arg = arg, .release = release, .queue = queue}, out);
}

int cohort_handle_stream(cohort_node *node, cohort_queue *queue, const char *subject, cohort_piece_fn fn, void *arg,
                         cohort_release_fn release, cohort_handle_id *out)
{
    const char *key = NULL;
    char raw[16];
    if (fn == NULL || (queue != NULL && !cohorti_queue_is_of(queue, node)) || key_of(subject, raw, &key) != COHORT_OK || key == raw) {
        return COHORT_EINVAL;
    }
    return cohorti_registry_add(
        &node->registry, key,
        &(struct cohorti_handler){.fn.piece = fn, .stream = true, .arg = arg, .release = release, .queue = queue}, out);
}

int cohort_on_undelivered(cohort_node *node, cohort_undelivered_fn fn, void *arg, cohort_release_fn release, cohort_handle_id *out)
{
    if (fn == NULL) {
        return COHORT_EINVAL;
    }
    return cohorti_registry_add(&node->registry, COHORTI_KEY_UNDELIVERED,
                                &(struct cohorti_handler){.fn.undelivered = fn, .arg = arg, .release = release}, out);
}

int cohort_on_writable(cohort_node *node, cohort_writable_fn fn, void *arg, cohort_release_fn release, cohort_handle_id *out)
{
    if (fn == NULL) {
        return COHORT_EINVAL;
    }
    return cohorti_registry_add(&node->registry, COHORTI_KEY_WRITABLE,
                                &(struct cohorti_handler){.fn.writable = fn, .arg = arg, .release = release}, out);
}

int cohort_subject_set(cohort_node *node, const char *subject, const cohort_subject_options *options)
{
    if (subject == NULL || options == NULL || !cohorti_subject_valid(subject, strlen(subject)) ||
        options->size < sizeof options->size + sizeof options->lane || options->size > 4096) {
        return COHORT_EINVAL;
    }
    cohort_subject_options whole;
    cohort_subject_options_init(&whole, sizeof whole);
    memcpy(&whole, options, options->size < sizeof whole ? options->size : sizeof whole);
    whole.size = sizeof whole;
    if ((unsigned)whole.lane >= COHORTI_LANE_COUNT || (unsigned)whole.when_full > COHORT_FULL_DISCONNECT) {
        return COHORT_EINVAL;
    }
    return cohorti_subjects_set(&node->subjects, subject, &whole);
}

int cohort_unhandle(cohort_node *node, cohort_handle_id id)
{
    return cohorti_registry_remove(&node->registry, id);
}

/* ---- sending ------------------------------------------------------------------------------------------------------- */

/* The connection to send through, or NULL. With peer->lock held. */
struct conn *cohorti_current_conn(struct peer *peer)
{
    return cohorti_list_empty(&peer->conns) ? NULL : COHORTI_CONTAINER(peer->conns.prev, struct conn, of_peer);
}

static int put_legacy(const struct conn *conn, struct cohorti_sender *sender, const struct outgoing *m)
{
    if (!m->raw) {
        return COHORT_ELEGACY;
    }
    return conn == NULL ? COHORT_EINACTIVE : cohorti_sender_raw(sender, m->type, m->put.body, m->put.body_len);
}

/* With the lock held; nothing is written yet. */
static int append_locked(struct peer *peer, struct conn *conn, const struct outgoing *m)
{
    if (peer->removed) {
        return COHORT_ENOPEER;
    }
    if (peer->legacy) {
        return put_legacy(conn, conn == NULL ? NULL : &conn->sender, m);
    }
    if (m->raw) {
        return cohorti_outbound_put_raw(&peer->outbound, m->type, m->put.body, m->put.body_len);
    }
    if (m->options.ttl_ms == 0) {
        return cohorti_outbound_put(&peer->outbound, &m->put);
    }
    struct cohorti_put put = m->put;
    put.deadline_ns = cohorti_now(peer->owner) + m->options.ttl_ms * COHORTI_NS_PER_MS;
    int status = cohorti_outbound_put(&peer->outbound, &put);
    if (status == COHORT_OK) {
        cohorti_requests_want_timer(peer, put.deadline_ns);
    }
    return status;
}

int cohorti_send_locked(struct peer *peer, const struct outgoing *m)
{
    struct conn *conn = cohorti_current_conn(peer);
    int status = append_locked(peer, conn, m);
    if (status == COHORT_OK && conn != NULL) {
        cohorti_conn_kick(conn);
    }
    return status;
}

void cohorti_kick(struct peer *peer)
{
    struct conn *conn = cohorti_current_conn(peer);
    if (conn != NULL) {
        cohorti_conn_kick(conn);
    }
}

static int send_to(struct peer *peer, struct outgoing *m)
{
    cohorti_mutex_lock(&peer->lock);
    int status = cohorti_send_locked(peer, m);
    cohorti_mutex_unlock(&peer->lock);
    return status == COHORT_EAGAIN ? cohorti_full_send(peer, m) : status;
}

int cohorti_check_message(struct cohort_node *node, const char *subject, const void *data, size_t data_len, struct outgoing *out)
{
    if (subject == NULL || (data == NULL && data_len > 0)) {
        return COHORT_EINVAL;
    }
    size_t subject_len = strlen(subject);
    *out = (struct outgoing){.put = {.kind = COHORTI_KIND_MESSAGE, .subject = subject, .body = data, .body_len = data_len}};
    out->raw = cohorti_subject_raw(subject, subject_len, &out->type);
    if (!out->raw && !cohorti_subject_valid(subject, subject_len)) {
        return COHORT_EINVAL;
    }
    if (atomic_load(&node->phase) == NODE_CLOSING) {
        return COHORT_ECLOSED;
    }
    if (!out->raw) {
        cohorti_subjects_get(&node->subjects, subject, &out->options);
        out->put.lane = (unsigned)out->options.lane;
    }
    if (out->raw && data_len > COHORT_RAW_BYTES_MAX) {
        return COHORT_ESIZE;
    }
    return data_len > node->limits.message_bytes_max && data_len > COHORT_FRAME_LEGACY_BYTES_MAX ? COHORT_ESIZE : COHORT_OK;
}

int cohorti_send(struct cohort_node *node, const char *id, struct outgoing *m)
{
    struct peer *peer = NULL;
    int status = cohorti_peer_to(node, id, &peer);
    if (status != COHORT_OK) {
        return status;
    }
    status = send_to(peer, m);
    cohorti_peer_unref(peer);
    return status;
}

int cohort_send(cohort_node *node, const char *id, const char *subject, const void *data, size_t data_len)
{
    struct outgoing message;
    int status = cohorti_check_message(node, subject, data, data_len, &message);
    return status == COHORT_OK ? cohorti_send(node, id, &message) : status;
}

size_t cohort_send_many(cohort_node *node, const char *const *ids, size_t id_count, const char *subject, const void *data,
                        size_t data_len, int *results)
{
    size_t sent = 0;
    for (size_t i = 0; i < id_count; i++) {
        int status = cohort_send(node, ids[i], subject, data, data_len);
        sent += status == COHORT_OK;
        if (results != NULL) {
            results[i] = status;
        }
    }
    return sent;
}

/* To members with a link only: a broadcast is for who is there. The loops write: one call here for each member would take longer than
 * all else, and more may follow. */
static int broadcast_to(struct peer *peer, struct outgoing *m)
{
    cohorti_mutex_lock(&peer->lock);
    struct conn *conn = cohorti_current_conn(peer);
    int status = conn == NULL && !peer->self ? COHORT_EINACTIVE : append_locked(peer, conn, m);
    if (status == COHORT_OK && conn != NULL) {
        cohorti_conn_kick_later(conn);
    }
    cohorti_mutex_unlock(&peer->lock);
    return status == COHORT_EAGAIN ? cohorti_full_send(peer, m) : status;
}

/* ENOPEER: it was removed since the peers were listed, so it is none that the message is for. */
static bool is_left_out(int status)
{
    return status == COHORT_EINACTIVE || status == COHORT_ELEGACY || status == COHORT_ENOPEER;
}

int cohorti_broadcast(struct cohort_node *node, struct outgoing *m, struct broadcast *b)
{
    int first_error = COHORT_OK;
    struct peers *all = cohorti_peers_get(node);
    if (all == NULL) {
        return COHORT_ENOMEM;
    }
    for (size_t i = 0; i < all->count; i++) {
        if (all->at[i]->self && !b->to_self) {
            continue;
        }
        int status = broadcast_to(all->at[i], m);
        if (is_left_out(status)) {
            continue;
        }
        b->sent += status == COHORT_OK;
        first_error = first_error == COHORT_OK ? status : first_error;
        if (b->fn != NULL) {
            b->fn(node, all->at[i]->id, status, b->arg);
        }
    }
    cohorti_peers_put(all);
    return first_error;
}

static int broadcast(cohort_node *node, const char *subject, const void *data, size_t data_len, struct broadcast *b, size_t *sent)
{
    struct outgoing message;
    int status = b->to_self && !node->deliver_local ? COHORT_EINVAL : cohorti_check_message(node, subject, data, data_len, &message);
    if (status == COHORT_OK) {
        status = cohorti_broadcast(node, &message, b);
    }
    if (sent != NULL) {
        *sent = b->sent;
    }
    return status;
}

int cohort_broadcast(cohort_node *node, const char *subject, const void *data, size_t data_len, size_t *sent)
{
    return broadcast(node, subject, data, data_len, &(struct broadcast){.to_self = false}, sent);
}

int cohort_broadcast_all(cohort_node *node, const char *subject, const void *data, size_t data_len, size_t *sent)
{
    return broadcast(node, subject, data, data_len, &(struct broadcast){.to_self = true}, sent);
}

int cohort_broadcast_each(cohort_node *node, const char *subject, const void *data, size_t data_len, bool to_local,
                          cohort_sent_fn fn, void *arg)
{
    if (fn == NULL) {
        return COHORT_EINVAL;
    }
    return broadcast(node, subject, data, data_len, &(struct broadcast){.to_self = to_local, .fn = fn, .arg = arg}, NULL);
}

/* ---- echo ---------------------------------------------------------------------------------------------------------- */

static int echo_on(struct cohort_node *node, struct conn *conn, const void *data, size_t data_len, uint32_t timeout_ms,
                   cohort_echo_fn fn, void *arg)
{
    uint64_t now_ns = cohorti_now(node);
    struct cohorti_echo *echo = NULL;
    if (!conn->sender.open) {
        return COHORT_EINACTIVE;
    }
    int status = cohorti_echoes_add(&conn->echoes, now_ns, now_ns + timeout_ms * COHORTI_NS_PER_MS, data, data_len, &echo);
    if (status != COHORT_OK) {
        return status;
    }
    memcpy(&echo->fn, &fn, sizeof fn);
    echo->arg = arg;
    status = cohorti_sender_ping(&conn->sender, data, data_len);
    if (status != COHORT_OK) {
        cohorti_echoes_drop(&conn->echoes, echo);
        return status;
    }
    cohorti_conn_kick(conn);
    return COHORT_OK;
}

int cohort_echo(cohort_node *node, const char *id, const void *data, size_t data_len, uint32_t timeout_ms, cohort_echo_fn fn,
                void *arg)
{
    uint8_t own[16];
    struct peer *peer = NULL;
    if (id == NULL || fn == NULL || (data == NULL && data_len > 0)) {
        return COHORT_EINVAL;
    }
    if (data_len > COHORT_FRAME_LEGACY_BYTES_MAX - COHORT_FRAME_HEADER_BYTES) {
        return COHORT_ESIZE;
    }
    if (atomic_load(&node->phase) == NODE_CLOSING) {
        return COHORT_ECLOSED;
    }
    if (data_len == 0) {
        int drawn = node->io->ops->entropy(node->io, own, sizeof own);
        if (drawn != COHORT_OK) {
            return drawn;
        }
        data = own;
        data_len = sizeof own;
    }
    int status = cohorti_peer_to(node, id, &peer);
    if (status != COHORT_OK) {
        return status;
    }
    cohorti_mutex_lock(&peer->lock);
    struct conn *conn = cohorti_current_conn(peer);
    status = conn == NULL ? COHORT_EINACTIVE : echo_on(node, conn, data, data_len, timeout_ms, fn, arg);
    cohorti_mutex_unlock(&peer->lock);
    cohorti_peer_unref(peer);
    return status;
}
