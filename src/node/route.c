/* SPDX-License-Identifier: Apache-2.0
 *
 * Routes: what cohort_send() looks up for every message (the member, the subject, its lane and number), looked up once.
 *
 * A route holds a reference to its peer and so may outlive the membership, of which it then tells. The peer's lock is held from a claim
 * to its commit: that is what makes the room safe to write to, and why a claim must be short.
 */
#include "node/node.h"

#include <string.h>

struct cohort_route {
    struct peer *peer;
    struct outgoing message;
    struct cohorti_name_hint hint; /* under the peer's lock, as all below */
    uint8_t *claimed;
    char subject[];
};

int cohort_route_open(cohort_node *node, const char *id, const char *subject, cohort_route **out)
{
    struct outgoing message;
    int status = cohorti_check_message(node, subject, NULL, 0, &message);
    struct peer *peer = NULL;
    status = status != COHORT_OK ? status : cohorti_peer_to(node, id, &peer);
    if (status != COHORT_OK) {
        return status;
    }
    size_t size = strlen(subject) + 1;
    cohort_route *route = cohorti_alloc(&node->alloc, sizeof *route + size);
    if (route == NULL) {
        cohorti_peer_unref(peer);
        return COHORT_ENOMEM;
    }
    *route = (cohort_route){.peer = peer, .message = message};
    memcpy(route->subject, subject, size);
    route->message.put.subject = route->subject;
    route->message.put.hint = &route->hint;
    *out = route;
    return COHORT_OK;
}

void cohort_route_close(cohort_route *route)
{
    if (route != NULL) {
        struct cohort_node *node = route->peer->owner;
        cohorti_peer_unref(route->peer);
        cohorti_release(&node->alloc, route);
    }
}

static int check(const cohort_route *route)
{
    return atomic_load_explicit(&route->peer->owner->phase, memory_order_relaxed) == NODE_CLOSING ? COHORT_ECLOSED : COHORT_OK;
}

int cohort_route_send(cohort_route *route, const void *data, size_t data_len)
{
    struct peer *peer = route->peer;
    if (data == NULL && data_len > 0) {
        return COHORT_EINVAL;
    }
    int status = check(route);
    if (status != COHORT_OK) {
        return status;
    }
    cohorti_mutex_lock(&peer->lock);
    route->message.put.body = data;
    route->message.put.body_len = data_len;
    status = cohorti_send_locked(peer, &route->message);
    struct outgoing message;
    if (status == COHORT_EAGAIN) {
        message = route->message; /* another thread may use the route from here on */
    }
    cohorti_mutex_unlock(&peer->lock);
    return status == COHORT_EAGAIN ? cohorti_full_send(peer, &message) : status;
}

int cohort_route_request(cohort_route *route, const void *data, size_t data_len, uint32_t timeout_ms, cohort_result_fn fn,
                         void *arg, cohort_request_id *out)
{
    struct peer *peer = route->peer;
    if (fn == NULL || route->message.raw || (data == NULL && data_len > 0)) {
        return COHORT_EINVAL;
    }
    int status = check(route);
    if (status != COHORT_OK) {
        return status;
    }
    struct asking asking = {.timeout_ms = timeout_ms, .fn = fn, .arg = arg};
    asking.put = (struct cohorti_put){
        .lane = route->message.put.lane, .subject = route->subject, .body = data, .body_len = data_len, .hint = &route->hint};
    return cohorti_requests_ask(peer, &asking, &route->message.options, out);
}

struct claiming {
    cohort_route *route;
    size_t data_len;
};

static int claim_locked(struct peer *peer, void *ctx)
{
    const struct claiming *claiming = ctx;
    cohort_route *route = claiming->route;
    if (peer->removed || peer->legacy) {
        return peer->removed ? COHORT_ENOPEER : COHORT_ELEGACY;
    }
    route->message.put.body_len = claiming->data_len;
    return cohorti_outbound_claim(&peer->outbound, &route->message.put, &route->claimed);
}

int cohort_route_send_ref(cohort_route *route, const void *data, size_t data_len, cohort_release_fn release, void *arg)
{
    struct peer *peer = route->peer;
    struct cohort_node *node = peer->owner;
    const struct loan loan = {.release = release, .arg = arg};
    if (data == NULL && data_len > 0) {
        return COHORT_EINVAL;
    }
    int status = check(route);
    if (status != COHORT_OK) {
        return status;
    }
    cohorti_mutex_lock(&peer->lock);
    struct outgoing message = route->message; /* a copy: another thread may use the route once the lock is released */
    message.put.body = data;
    message.put.body_len = data_len;
    status = cohorti_lend(node, &message, &loan);
    bool lent = status == COHORT_OK;
    if (lent) {
        status = cohorti_send_locked(peer, &message);
    }
    cohorti_mutex_unlock(&peer->lock);
    if (status == COHORT_EAGAIN) {
        status = cohorti_full_send(peer, &message);
    }
    if (lent) {
        cohorti_lend_end(node, &message, &loan, status == COHORT_OK);
    }
    return status;
}

int cohort_route_claim(cohort_route *route, size_t data_len, void **data)
{
    struct peer *peer = route->peer;
    struct claiming claiming = {.route = route, .data_len = data_len};
    int status = check(route);
    if (status != COHORT_OK || route->message.raw) {
        return status != COHORT_OK ? status : COHORT_EINVAL;
    }
    cohorti_mutex_lock(&peer->lock);
    status = claim_locked(peer, &claiming);
    if (status != COHORT_OK) {
        cohorti_mutex_unlock(&peer->lock);
    }
    if (status == COHORT_EAGAIN) {
        status = cohorti_full(peer, &route->message.options,
                              &(struct attempt){.make = claim_locked, .ctx = &claiming, .keeps_lock = true});
    }
    if (status == COHORT_OK) {
        *data = route->claimed;
    }
    return status;
}

void cohort_route_commit(cohort_route *route, size_t data_len)
{
    struct peer *peer = route->peer;
    cohorti_outbound_commit(&peer->outbound, &route->message.put, route->claimed, data_len);
    cohorti_kick(peer);
    cohorti_mutex_unlock(&peer->lock);
}

void cohort_route_abort(cohort_route *route)
{
    cohorti_mutex_unlock(&route->peer->lock);
}
