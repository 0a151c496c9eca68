/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests, both ways: ours that wait for a reply (core/calls.h), and those of peers that we owe one.
 *
 * Ours are kept with the peer, under its lock, where the request is queued. Their deadlines, and those of messages with a time to live,
 * are one timer a peer on the control loop, which
 * is told only when an earlier one appears: a caller that always gives the same time wakes it once.
 * A call of a peer lives on the handler's stack until somebody keeps it.
 * An answer that the library gives for a handler, and that finds no memory or room, is owed: the call waits in peer->owed until it can be
 * sent, for the caller may have set no time limit. Room for that is there before a handler sees the request, else it is not taken.
 * What was aborted of our streams and found no memory is owed in the same way, and tried again by the same timer.
 */
#include "node/node.h"

#include "base/cursor.h"
#include "core/stream.h"

#include <stdio.h>
#include <string.h>

struct cohort_call {
    struct cohort_node *node;
    struct peer *peer;
    uint64_t id;
    uint64_t reader; /* the half of the process that asked */
    uint64_t deadline_ns;
    unsigned lane;
    bool kept, replied;
    bool *taken;              /* kept for a handler in a queue, which says here that it has kept it itself; NULL when it has */
    struct cohort_call *copy; /* when it was kept */
    struct cohorti_list owed; /* peer->owed, under its lock: `code` is to be sent */
    int code;
};

#define LONG_MS 1000                           /* and longer: a request's time may end a hundredth late */
#define OWED_RETRY_NS (UINT64_C(20) * 1000000) /* memory tells nobody that it is there again */

void cohorti_requests_init(struct peer *peer)
{
    cohorti_calls_init(&peer->calls, &peer->owner->alloc, peer->owner->limits.requests_max, peer->outbound.half);
    cohorti_timer_init(&peer->calls_timer);
    peer->calls_timer.kind = COHORTI_TIMER_CALLS;
    peer->calls_armed_ns = peer->owed_due_ns = COHORTI_NEVER;
    cohorti_list_init(&peer->owed);
}

void cohorti_requests_deinit(struct peer *peer)
{
    struct cohorti_caller caller;
    while (cohorti_calls_pop(&peer->calls, peer->calls.next_id, &caller)) { /* of a process that was killed: nobody is told */
    }
    cohorti_calls_deinit(&peer->calls);
    struct cohorti_list *owed;
    while ((owed = cohorti_list_pop(&peer->owed)) != NULL) { /* to a member that is gone */
        cohorti_release(&peer->owner->alloc, COHORTI_CONTAINER(owed, struct cohort_call, owed));
    }
    cohorti_release(&peer->owner->alloc, peer->owed_room);
}

/* ---- completing ours ------------------------------------------------------------------------------------------------ */

static void complete(struct peer *peer, const struct cohorti_caller *caller, cohort_result *result)
{
    cohort_result_fn fn;
    memcpy(&fn, &caller->fn, sizeof fn); /* no cast from an object pointer to a function */
    result->from = peer->id;
    fn(peer->owner, result, caller->arg);
}

static void complete_with(struct peer *peer, const struct cohorti_caller *caller, int status)
{
    complete(peer, caller, &(cohort_result){.status = status, .text = ""});
}

static bool take(struct peer *peer, uint64_t id, struct cohorti_caller *caller)
{
    cohorti_mutex_lock(&peer->lock);
    bool taken = cohorti_calls_take(&peer->calls, id, caller);
    cohorti_mutex_unlock(&peer->lock);
    return taken;
}

void cohorti_requests_complete(struct conn *conn, const struct cohorti_delivery *taken)
{
    struct cohorti_reader r;
    struct cohorti_caller caller;
    cohorti_reader_init(&r, taken->prefix, cohorti_kind_prefix_bytes(taken->kind));
    if (!take(conn->peer, cohorti_read_u64(&r), &caller)) {
        atomic_fetch_add(&conn->owner->counters.replies_late, 1);
        return;
    }
    if (taken->kind == COHORTI_KIND_REPLY) {
        complete(conn->peer, &caller, &(cohort_result){.text = "", .data = taken->body, .data_len = taken->body_len});
        return;
    }
    char text[256];
    uint32_t number = cohorti_read_u32(&r);
    bool known = number < 65536 && cohort_error_scope_of(-(int)number) != COHORT_SCOPE_NONE;
    snprintf(text, sizeof text, "%.*s", (int)(taken->body_len < 255 ? taken->body_len : 255), (const char *)taken->body);
    complete(conn->peer, &caller, &(cohort_result){.status = known ? -(int)number : COHORT_EHANDLER, .text = text});
}

void cohorti_requests_end(struct peer *peer, uint64_t end_id, int reason)
{
    for (;;) {
        struct cohorti_caller caller;
        cohorti_mutex_lock(&peer->lock);
        bool taken = cohorti_calls_pop(&peer->calls, end_id, &caller);
        cohorti_mutex_unlock(&peer->lock);
        if (!taken) {
            return;
        }
        complete_with(peer, &caller, reason);
    }
}

/* ---- deadlines ------------------------------------------------------------------------------------------------------ */

/* Control loop. */
static void arm(struct peer *peer)
{
    cohorti_mutex_lock(&peer->lock);
    uint64_t calls_ns = cohorti_calls_deadline(&peer->calls), expires_ns = cohorti_outbound_expires_ns(&peer->outbound);
    uint64_t soonest_ns = calls_ns < expires_ns ? calls_ns : expires_ns;
    soonest_ns = peer->owed_due_ns < soonest_ns ? peer->owed_due_ns : soonest_ns;
    peer->calls_armed_ns = peer->removed ? COHORTI_NEVER : soonest_ns;
    uint64_t deadline_ns = peer->calls_armed_ns;
    cohorti_mutex_unlock(&peer->lock);
    cohorti_timer_set(&peer->owner->control.timers, &peer->calls_timer, deadline_ns);
}

void cohorti_requests_on_timer(struct peer *peer, uint64_t now_ns)
{
    atomic_fetch_add(&peer->refs, 1); /* who is told may remove the member, which takes effect at once */
    for (;;) {
        struct cohorti_caller caller;
        cohorti_mutex_lock(&peer->lock);
        bool taken = cohorti_calls_expire(&peer->calls, now_ns, &caller);
        cohorti_mutex_unlock(&peer->lock);
        if (!taken) {
            break;
        }
        complete_with(peer, &caller, COHORT_ETIMEDOUT);
    }
    cohorti_session_expire(peer, now_ns);
    cohorti_mutex_lock(&peer->lock);
    cohorti_requests_pay(peer);
    cohorti_mutex_unlock(&peer->lock);
    arm(peer);
    cohorti_peer_unref(peer);
}

void cohorti_requests_begin(struct cohort_node *node)
{
    cohorti_mutex_lock(&node->peers_lock);
    for (size_t b = 0; b < node->peers.bucket_count; b++) {
        for (struct cohorti_map_node *it = node->peers.buckets[b]; it != NULL; it = it->next) {
            arm((struct peer *)it);
        }
    }
    cohorti_mutex_unlock(&node->peers_lock);
}

void cohorti_requests_forget_timer(struct peer *peer)
{
    cohorti_timer_cancel(&peer->owner->control.timers, &peer->calls_timer);
}

static void run_arm(struct mail *mail)
{
    struct peer *peer = mail->peer;
    cohorti_mutex_lock(&peer->lock);
    peer->calls_posted = false;
    cohorti_mutex_unlock(&peer->lock);
    arm(peer);
    cohorti_peer_unref(peer);
}

void cohorti_requests_want_timer(struct peer *peer, uint64_t deadline_ns)
{
    if (deadline_ns >= peer->calls_armed_ns || cohorti_node_is_early(peer->owner)) {
        return;
    }
    peer->calls_armed_ns = deadline_ns;
    if (!peer->calls_posted) {
        peer->calls_posted = true;
        peer->calls_mail.run = run_arm;
        peer->calls_mail.peer = peer;
        atomic_fetch_add(&peer->refs, 1);
        cohorti_worker_post(&peer->owner->control, &peer->calls_mail);
    }
}

/* ---- asking --------------------------------------------------------------------------------------------------------- */

/* When the time of a request begins. It is looked up for each: for a long one, with whose end a tick more or less makes no difference,
 * where that costs less. */
static uint64_t begun_ns(const struct cohort_node *node, uint32_t timeout_ms)
{
    if (timeout_ms == 0) {
        return 0;
    }
    return timeout_ms < LONG_MS ? cohorti_now(node) : node->io->ops->coarse_ns(node->io);
}

static int ask_locked(struct peer *peer, void *ctx)
{
    struct asking *asking = ctx;
    uint64_t now_ns = begun_ns(peer->owner, asking->timeout_ms), deadline_ns = COHORTI_NEVER;
    struct cohorti_caller caller = {.arg = asking->arg};
    memcpy(&caller.fn, &asking->fn, sizeof asking->fn);
    if (peer->removed || peer->legacy) {
        return peer->removed ? COHORT_ENOPEER : COHORT_ELEGACY;
    }
    if (atomic_load(&peer->owner->phase) == NODE_CLOSING) { /* the session may have ended, and with it all requests there were */
        return COHORT_ECLOSED;
    }
    int status = cohorti_calls_add(&peer->calls, &caller, now_ns, asking->timeout_ms, &asking->id, &deadline_ns);
    if (status != COHORT_OK) {
        return status;
    }
    struct cohorti_writer w;
    cohorti_writer_init(&w, asking->prefix, sizeof asking->prefix);
    cohorti_write_u64(&w, asking->id);
    cohorti_write_u32(&w, asking->timeout_ms);
    asking->put.kind = COHORTI_KIND_REQUEST;
    asking->put.prefix = asking->prefix;
    asking->put.prefix_len = sizeof asking->prefix;
    status = cohorti_outbound_put(&peer->outbound, &asking->put);
    if (status != COHORT_OK) {
        (void)cohorti_calls_take(&peer->calls, asking->id, &caller);
        return status;
    }
    cohorti_requests_want_timer(peer, deadline_ns);
    cohorti_kick(peer);
    return COHORT_OK;
}

int cohorti_requests_ask(struct peer *peer, struct asking *asking, const cohort_subject_options *options, cohort_request_id *out)
{
    cohorti_mutex_lock(&peer->lock);
    int status = ask_locked(peer, asking);
    cohorti_mutex_unlock(&peer->lock);
    if (status == COHORT_EAGAIN) {
        status = cohorti_full(peer, options, &(struct attempt){.make = ask_locked, .ctx = asking});
    }
    if (status == COHORT_OK && out != NULL) {
        *out = asking->id;
    }
    return status;
}

int cohort_request(cohort_node *node, const char *id, const char *subject, const void *data, size_t data_len, uint32_t timeout_ms,
                   cohort_result_fn fn, void *arg, cohort_request_id *out)
{
    struct outgoing message;
    struct peer *peer = NULL;
    int status = cohorti_check_message(node, subject, data, data_len, &message);
    if (status == COHORT_OK && (message.raw || fn == NULL)) {
        status = COHORT_EINVAL;
    }
    status = status != COHORT_OK ? status : cohorti_peer_to(node, id, &peer);
    if (status != COHORT_OK) {
        return status;
    }
    struct asking asking = {.put = message.put, .timeout_ms = timeout_ms, .fn = fn, .arg = arg};
    status = cohorti_requests_ask(peer, &asking, &message.options, out);
    cohorti_peer_unref(peer);
    return status;
}

int cohort_cancel(cohort_node *node, const char *id, cohort_request_id request)
{
    struct peer *peer = cohorti_peer_find(node, id);
    struct cohorti_caller caller;
    bool taken = peer != NULL && take(peer, request, &caller);
    if (taken) {
        complete_with(peer, &caller, COHORT_ECANCELLED);
    }
    cohorti_peer_unref(peer);
    return taken ? COHORT_OK : COHORT_EINVAL;
}

/* ---- requests of peers ---------------------------------------------------------------------------------------------- */

/* With the lock of its peer held. */
static int send_reply(const cohort_call *call, enum cohorti_kind kind, uint32_t code, const void *body, size_t body_len)
{
    struct peer *peer = call->peer;
    uint8_t prefix[COHORTI_ERROR_PREFIX_BYTES];
    struct cohorti_writer w;
    cohorti_writer_init(&w, prefix, sizeof prefix);
    cohorti_write_u64(&w, call->id);
    if (kind == COHORTI_KIND_ERROR_REPLY) {
        cohorti_write_u32(&w, code);
    }
    struct cohorti_put put = {.kind = kind,
                              .lane = call->lane,
                              .prefix = prefix,
                              .prefix_len = cohorti_writer_len(&w),
                              .body = body,
                              .body_len = body_len,
                              .has_room = true};
    bool gone = peer->removed || peer->legacy || peer->outbound.reader != call->reader;
    int status = gone ? COHORT_ENOPEER : cohorti_outbound_put(&peer->outbound, &put);
    if (status == COHORT_OK) {
        cohorti_kick(peer);
    }
    return status;
}

static bool may_come_to_be(int status)
{
    return status == COHORT_EAGAIN || status == COHORT_ENOMEM;
}

void cohorti_requests_owe(struct peer *peer)
{
    peer->owed_due_ns = cohorti_now(peer->owner) + OWED_RETRY_NS;
    cohorti_requests_want_timer(peer, peer->owed_due_ns);
}

/* False: there is no memory. */
static bool pay_aborts(struct peer *peer)
{
    if (cohorti_streams_owe(&peer->outbound)) {
        cohorti_streams_retry(&peer->outbound);
        cohorti_kick(peer);
    }
    return !cohorti_streams_owe(&peer->outbound);
}

/* A call is in no list while it is answered: what is sent may be written without the lock, and another thread may pay meanwhile. One that
 * cannot be sent was not written, and is the first again. */
static bool pay_one(struct peer *peer)
{
    struct cohorti_list *first = cohorti_list_pop(&peer->owed);
    cohort_call *call = COHORTI_CONTAINER(first, struct cohort_call, owed);
    if (may_come_to_be(send_reply(call, COHORTI_KIND_ERROR_REPLY, (uint32_t)-call->code, NULL, 0))) {
        cohorti_list_prepend(&peer->owed, first);
        return false;
    }
    atomic_fetch_sub(&peer->calls_kept, 1);
    cohorti_release(&peer->owner->alloc, call);
    return true;
}

void cohorti_requests_pay(struct peer *peer)
{
    while (pay_aborts(peer) && !cohorti_list_empty(&peer->owed) && pay_one(peer)) {
    }
    peer->owed_due_ns = COHORTI_NEVER;
    if (cohorti_streams_owe(&peer->outbound) || !cohorti_list_empty(&peer->owed)) {
        cohorti_requests_owe(peer);
    }
}

/* The call goes over to the peer: a kept one itself, else it is copied to the room made for that. Nothing of it was sent. */
static void owe(cohort_call *call, int code)
{
    struct peer *peer = call->peer;
    cohort_call *owed = call;
    if (!call->kept) { /* on the loop of the link */
        owed = peer->owed_room;
        peer->owed_room = NULL;
        *owed = *call;
        call->replied = true;
        atomic_fetch_add(&peer->calls_kept, 1);
    }
    owed->code = code;
    cohorti_mutex_lock(&peer->lock);
    cohorti_list_append(&peer->owed, &owed->owed);
    cohorti_requests_owe(peer);
    cohorti_mutex_unlock(&peer->lock);
    if (owed == call) {
        cohorti_peer_unref(peer); /* what the peer holds does not hold the peer */
    }
}

/* Room to owe an answer, for the loop of the link. Of requests beyond the limit, which are all answered with COHORT_ELIMIT, as many may be
 * owed as there may be others: a member that sends more and takes no replies loses its link. */
static bool can_owe(struct peer *peer, uint32_t kept)
{
    if (kept / 2 >= peer->owner->limits.requests_max) {
        return false;
    }
    if (peer->owed_room == NULL) {
        peer->owed_room = cohorti_alloc(&peer->owner->alloc, sizeof *peer->owed_room);
    }
    return peer->owed_room != NULL;
}

static void give_back(cohort_call *call)
{
    call->replied = true;
    if (!call->kept) {
        return;
    }
    atomic_fetch_sub(&call->peer->calls_kept, 1);
    if (call->taken == NULL) {
        struct cohort_node *node = call->node;
        cohorti_peer_unref(call->peer);
        cohorti_release(&node->alloc, call);
    }
}

static int reply(cohort_call *call, enum cohorti_kind kind, uint32_t code, const void *body, size_t body_len)
{
    if (body == NULL && body_len > 0) {
        return COHORT_EINVAL;
    }
    if (call->replied || call->copy != NULL) {
        return COHORT_ESTATE;
    }
    int status = COHORT_ECLOSED;
    if (atomic_load(&call->node->phase) != NODE_CLOSING) {
        cohorti_mutex_lock(&call->peer->lock);
        status = send_reply(call, kind, code, body, body_len);
        cohorti_mutex_unlock(&call->peer->lock);
    }
    if (status == COHORT_OK || status == COHORT_ENOPEER || status == COHORT_ECLOSED) {
        give_back(call);
    }
    return status;
}

int cohort_reply(cohort_call *call, const void *data, size_t data_len)
{
    return reply(call, COHORTI_KIND_REPLY, 0, data, data_len);
}

int cohort_reply_error(cohort_call *call, int status, const char *text)
{
    if (status >= 0 || cohort_error_scope_of(status) == COHORT_SCOPE_NONE) {
        return COHORT_EINVAL;
    }
    size_t len = text == NULL ? 0 : strlen(text);
    return reply(call, COHORTI_KIND_ERROR_REPLY, (uint32_t)-status, text, len < 255 ? len : 255);
}

cohort_call *cohort_call_keep(cohort_call *call)
{
    bool kept = call->copy != NULL || (call->kept && call->taken == NULL);
    if (call->replied || kept) {
        return NULL;
    }
    if (call->kept) { /* for its handler, which now keeps it itself */
        *call->taken = true;
        call->taken = NULL;
        return call;
    }
    cohort_call *copy = cohorti_alloc(&call->node->alloc, sizeof *copy);
    if (copy != NULL) {
        *copy = *call;
        copy->kept = true;
        atomic_fetch_add(&copy->peer->refs, 1);
        atomic_fetch_add(&copy->peer->calls_kept, 1);
        call->copy = copy;
    }
    return copy;
}

cohort_call *cohorti_call_queue(cohort_call *call, bool *taken)
{
    cohort_call *copy = cohort_call_keep(call);
    if (copy != NULL) {
        copy->taken = taken;
    }
    return copy;
}

void cohorti_call_forget(cohort_call *call)
{
    struct cohort_node *node = call->node;
    if (!call->replied) {
        atomic_fetch_sub(&call->peer->calls_kept, 1);
    }
    cohorti_peer_unref(call->peer);
    cohorti_release(&node->alloc, call);
}

uint32_t cohort_call_time_left_ms(const cohort_call *call)
{
    if (call->deadline_ns == COHORTI_NEVER) {
        return UINT32_MAX;
    }
    uint64_t now_ns = cohorti_now(call->node);
    return call->deadline_ns <= now_ns ? 0 : (uint32_t)((call->deadline_ns - now_ns) / COHORTI_NS_PER_MS);
}

/* The handler said nothing and kept nothing. */
static void answer_for(cohort_call *call, int code)
{
    if (may_come_to_be(cohort_reply_error(call, code, NULL))) {
        owe(call, code);
    }
}

void cohorti_call_unqueue(cohort_call *call)
{
    call->taken = NULL;
    if (call->replied) {
        cohorti_call_forget(call);
    } else {
        answer_for(call, COHORT_ENOREPLY);
    }
}

int cohorti_requests_deliver(struct conn *conn, const struct cohorti_delivery *taken, bool *consumed)
{
    struct cohort_node *node = conn->owner;
    struct cohorti_reader r;
    cohorti_reader_init(&r, taken->prefix, COHORTI_REQUEST_PREFIX_BYTES);
    cohort_call call = {.node = node, .peer = conn->peer, .id = cohorti_read_u64(&r), .lane = taken->lane};
    uint32_t left_ms = cohorti_read_u32(&r);
    uint64_t came_ns = atomic_load(&conn->last_in_ns);
    call.deadline_ns = left_ms == 0 ? COHORTI_NEVER : came_ns + left_ms * COHORTI_NS_PER_MS;
    call.reader = conn->link.resume.half;
    int status = COHORT_ELIMIT;
    uint32_t kept = atomic_load(&conn->peer->calls_kept);
    if (!can_owe(conn->peer, kept)) {
        status = COHORT_ENOMEM;
    } else if (kept < node->limits.requests_max) {
        cohort_message message = {.subject = taken->subject->name, .data = taken->body, .data_len = taken->body_len, .call = &call};
        status = cohorti_conn_deliver(conn, &message, taken, consumed);
    }
    if (status == COHORT_ENOMEM) {
        return status;
    }
    if (!call.replied && call.copy == NULL) {
        answer_for(&call, status == COHORT_OK ? COHORT_ENOREPLY : status);
    }
    return COHORT_OK;
}
