/* SPDX-License-Identifier: Apache-2.0
 *
 * TCP between two simulated hosts.
 *
 * Sequence numbers count bytes from 0; a FIN is one more. `out` holds what is not acknowledged, so a segment under way carries no
 * bytes: they are taken from the sender's buffer when it arrives, and if the sender is gone by then the segment is lost with it.
 * A segment that meets a closed path is lost; the sender notices by its retry timer, goes back to what is acknowledged, and doubles
 * the timer, until the user timeout ends the connection (30 s, as io/uv sets it).
 */
#include "io/sim/sim_world.h"

#include <string.h>

#define RETRY_FIRST_NS (200 * SIM_MS)
#define RETRY_MAX_NS (30 * SIM_S)
#define SYN_RETRY_NS (1 * SIM_S)
#define USER_TIMEOUT_NS (30 * SIM_S)
#define KEEPALIVE_IDLE_NS (10 * SIM_S)
#define KEEPALIVE_INTERVAL_NS (5 * SIM_S)
#define ORPHAN_NS (60 * SIM_S)
#define BACKLOG 4096

enum packet_kind {
    PACKET_SYN,
    PACKET_SYN_ACK,
    PACKET_SYN_DONE,
    PACKET_DATA,
    PACKET_ACK,
    PACKET_RESET
};

struct packet {
    struct sim_event event;
    enum packet_kind kind;
    struct sim_host *from, *to;
    uint64_t src, dst; /* endpoint ids */
    uint16_t port;
    uint64_t seq, len, ack, window;
    bool fin, probe;
};

static void on_packet(struct sim_event *event);
static void on_retry(struct sim_event *event);

struct sim_endpoint *sim_endpoint_find(const struct sim_world *w, uint64_t id)
{
    return id < w->endpoint_next ? w->endpoints[id] : NULL;
}

static bool room_for_id(struct sim_world *w)
{
    if (w->endpoint_next < w->endpoint_cap) {
        return true;
    }
    uint64_t cap = w->endpoint_cap == 0 ? 64 : w->endpoint_cap * 2;
    struct sim_endpoint **grown = cohorti_realloc(w->alloc, w->endpoints, cap * sizeof(struct sim_endpoint *));
    if (grown == NULL) {
        return false;
    }
    w->endpoints = grown;
    w->endpoint_cap = cap;
    w->endpoints[0] = NULL; /* no endpoint has id 0 */
    return true;
}

static struct sim_endpoint *endpoint_new(struct sim_world *w, struct sim_host *host, struct sim_host *peer, uint16_t port)
{
    struct sim_endpoint *e = room_for_id(w) ? cohorti_alloc_zero(w->alloc, sizeof *e) : NULL;
    if (e == NULL) {
        return NULL;
    }
    e->world = w;
    e->id = w->endpoint_next++;
    e->host = host;
    e->peer_host = peer;
    e->port = port;
    e->peer_window = w->conditions.window_bytes;
    e->retry_ns = RETRY_FIRST_NS;
    e->silent_since_ns = w->now_ns;
    sim_event_init(&e->retry, on_retry);
    cohorti_list_init(&e->of_accepted);
    cohorti_buffer_init(&e->out, w->alloc, w->conditions.window_bytes);
    cohorti_buffer_init(&e->in, w->alloc, w->conditions.window_bytes);
    w->endpoints[e->id] = e;
    cohorti_list_append(&host->endpoints, &e->of_host);
    return e;
}

void sim_endpoint_free(struct sim_endpoint *e, int error)
{
    struct sim_world *w = e->world;
    sim_event_set(w, &e->retry, COHORTI_NEVER);
    w->endpoints[e->id] = NULL;
    cohorti_list_remove(&e->of_host);
    if (!cohorti_list_empty(&e->of_accepted)) {
        cohorti_list_remove(&e->of_accepted);
        e->listener->accepted_count--;
    }
    if (e->socket != NULL) {
        e->socket->endpoint = NULL;
        e->socket->error = error;
        sim_socket_notify(e->socket);
    }
    cohorti_buffer_deinit(&e->out);
    cohorti_buffer_deinit(&e->in);
    cohorti_release(w->alloc, e);
}

/* ---- packets ------------------------------------------------------------------------------------------------------- */

static uint64_t travel_ns(struct sim_world *w)
{
    uint64_t ns = sim_between(w, w->conditions.latency_min_ns, w->conditions.latency_max_ns);
    if (w->conditions.loss_ppm > 0 && cohorti_prng_below(&w->prng, 1000000) < w->conditions.loss_ppm) {
        bool fast = cohorti_prng_below(&w->prng, 5) != 0; /* most losses are repaired by duplicate ACKs within a round trip */
        ns += fast ? 2 * w->conditions.latency_max_ns : RETRY_FIRST_NS;
    }
    return ns;
}

static void send_packet(struct sim_world *w, const struct packet *like, uint64_t *not_before_ns)
{
    if (!sim_path_open(w, like->from, like->to)) {
        return;
    }
    struct cohorti_list *spare = cohorti_list_pop(&w->spare_packets);
    struct packet *p = spare != NULL ? COHORTI_CONTAINER(spare, struct packet, event.of_slot) : cohorti_alloc(w->alloc, sizeof *p);
    if (p == NULL) {
        return; /* lost */
    }
    *p = *like;
    sim_event_init(&p->event, on_packet);
    uint64_t at_ns = w->now_ns + travel_ns(w);
    if (not_before_ns != NULL) {
        at_ns = at_ns > *not_before_ns ? at_ns : *not_before_ns;
        *not_before_ns = at_ns;
    }
    sim_event_set(w, &p->event, at_ns);
}

static void send_from(struct sim_endpoint *e, struct packet like)
{
    if (e->adrift) {
        return;
    }
    like.from = e->host;
    like.to = e->peer_host;
    like.src = e->id;
    like.dst = e->peer_id;
    like.port = e->port;
    send_packet(e->world, &like, &e->last_arrival_ns);
}

static void send_reset(const struct packet *cause)
{
    struct sim_world *w = cause->to->world;
    const struct sim_endpoint *sender = sim_endpoint_find(w, cause->src);
    if (sender != NULL && sender->adrift) {
        return; /* nor did that packet come through */
    }
    sim_trace(w, SIM_TRACE_RESET, cause->dst, cause->src, 0);
    send_packet(
        w, &(struct packet){.kind = PACKET_RESET, .from = cause->to, .to = cause->from, .src = cause->dst, .dst = cause->src}, NULL);
}

static uint64_t room(const struct sim_endpoint *e)
{
    return e->world->conditions.window_bytes - cohorti_buffer_len(&e->in);
}

static void send_ack(struct sim_endpoint *e)
{
    send_from(e, (struct packet){.kind = PACKET_ACK, .ack = e->received, .window = room(e)});
}

void sim_endpoint_window(struct sim_endpoint *e)
{
    if (e->state == SIM_ESTABLISHED) {
        send_ack(e);
    }
}

/* ---- sending ------------------------------------------------------------------------------------------------------- */

static uint64_t end_of_stream(const struct sim_endpoint *e)
{
    return e->written + (e->fin_wanted ? 1 : 0);
}

static void retry_after(struct sim_endpoint *e, uint64_t wait_ns)
{
    e->retry_at_ns = e->world->now_ns + wait_ns;
    if (!sim_event_is_set(&e->retry) || e->retry.at_ns > e->retry_at_ns) {
        sim_event_set(e->world, &e->retry, e->retry_at_ns);
    }
}

static void arm_retry(struct sim_endpoint *e)
{
    retry_after(e, e->acked < end_of_stream(e) ? e->retry_ns : KEEPALIVE_IDLE_NS);
}

void sim_endpoint_transmit(struct sim_endpoint *e)
{
    struct sim_world *w = e->world;
    if (e->state != SIM_ESTABLISHED) {
        return;
    }
    uint64_t allowed = e->acked + e->peer_window;
    while (e->sent < e->written && e->sent < allowed) {
        uint64_t most = e->written - e->sent;
        most = most < allowed - e->sent ? most : allowed - e->sent;
        uint64_t len = sim_between(w, 1, w->conditions.segment_bytes_max);
        len = len < most ? len : most;
        send_from(e, (struct packet){.kind = PACKET_DATA, .seq = e->sent, .len = len});
        e->sent += len;
    }
    if (e->fin_wanted && e->sent == e->written) {
        send_from(e, (struct packet){.kind = PACKET_DATA, .seq = e->sent, .fin = true});
        e->sent++;
    }
    if (!sim_event_is_set(&e->retry) || e->acked < end_of_stream(e)) {
        arm_retry(e);
    }
}

static void time_out(struct sim_endpoint *e)
{
    sim_trace(e->world, SIM_TRACE_TIMEOUT, e->id, e->peer_id, 0);
    if (e->state == SIM_ESTABLISHED && e->acked == end_of_stream(e)) { /* keep-alive gives up with a RST, a retransmission does not */
        send_from(e, (struct packet){.kind = PACKET_RESET});
    }
    sim_endpoint_free(e, COHORT_EUNREACHABLE);
}

static void retry_syn(struct sim_endpoint *e)
{
    enum packet_kind kind = e->state == SIM_SYN_SENT ? PACKET_SYN : PACKET_SYN_ACK;
    send_from(e, (struct packet){.kind = kind, .probe = true});
    e->retry_ns = e->retry_ns < SYN_RETRY_NS ? SYN_RETRY_NS : e->retry_ns * 2;
    retry_after(e, e->retry_ns);
}

/* Nothing was acknowledged in time: go back and send it again; or, with nothing to send, ask whether the peer is there. */
static void on_retry(struct sim_event *event)
{
    struct sim_endpoint *e = COHORTI_CONTAINER(event, struct sim_endpoint, retry);
    uint64_t now_ns = e->world->now_ns;
    if (now_ns < e->retry_at_ns) {
        sim_event_set(e->world, &e->retry, e->retry_at_ns);
        return;
    }
    uint64_t limit_ns = e->socket == NULL && e->fin_acked ? ORPHAN_NS : USER_TIMEOUT_NS;
    if (now_ns - e->silent_since_ns >= limit_ns) {
        time_out(e);
        return;
    }
    if (e->state != SIM_ESTABLISHED) {
        retry_syn(e);
        return;
    }
    if (e->acked < end_of_stream(e)) {
        e->retry_ns = e->retry_ns * 2 < RETRY_MAX_NS ? e->retry_ns * 2 : RETRY_MAX_NS;
        e->sent = e->acked;
        if (e->peer_window == 0) { /* a probe of the closed window: the answer carries the window */
            send_from(e, (struct packet){.kind = PACKET_DATA, .seq = e->acked, .probe = true});
        }
        sim_endpoint_transmit(e);
        return;
    }
    send_from(e, (struct packet){.kind = PACKET_DATA, .seq = e->sent, .probe = true});
    retry_after(e, KEEPALIVE_INTERVAL_NS);
}

/* ---- connecting ---------------------------------------------------------------------------------------------------- */

struct sim_endpoint *sim_endpoint_connect(struct cohorti_socket *s, struct sim_host *to, uint16_t port)
{
    struct sim_world *w = s->machine->world;
    struct sim_endpoint *e = endpoint_new(w, s->machine->host, to, port);
    if (e != NULL) {
        e->state = SIM_SYN_SENT;
        e->socket = s;
        sim_trace(w, SIM_TRACE_CONNECT, e->id, s->machine->host->number, to->number);
        send_from(e, (struct packet){.kind = PACKET_SYN});
        retry_after(e, SYN_RETRY_NS);
        e->retry_ns = SYN_RETRY_NS;
    }
    return e;
}

static struct cohorti_socket *find_listener(const struct sim_host *host, uint16_t port)
{
    COHORTI_LIST_FOREACH (it, &host->listeners) {
        struct cohorti_socket *s = COHORTI_CONTAINER(it, struct cohorti_socket, of_host);
        if (s->port == port) {
            return s;
        }
    }
    return NULL;
}

static bool is_half_open(const struct sim_host *host, uint64_t peer_id)
{
    COHORTI_LIST_FOREACH (it, &host->endpoints) {
        const struct sim_endpoint *e = COHORTI_CONTAINER(it, struct sim_endpoint, of_host);
        if (e->peer_id == peer_id && e->state == SIM_SYN_RECEIVED) {
            return true;
        }
    }
    return false;
}

static void on_syn(const struct packet *p)
{
    struct sim_world *w = p->to->world;
    struct cohorti_socket *listener = find_listener(p->to, p->port);
    if (listener == NULL) {
        sim_trace(w, SIM_TRACE_REFUSE, p->src, p->to->number, p->port);
        send_reset(p);
        return;
    }
    if (listener->accepted_count >= BACKLOG || (p->probe && is_half_open(p->to, p->src))) {
        return;
    }
    struct sim_endpoint *e = endpoint_new(w, p->to, p->from, p->port);
    if (e == NULL) {
        return;
    }
    e->peer_id = p->src;
    e->state = SIM_SYN_RECEIVED;
    e->listener = listener;
    e->listener_number = listener->number;
    e->retry_ns = SYN_RETRY_NS;
    send_from(e, (struct packet){.kind = PACKET_SYN_ACK});
    retry_after(e, SYN_RETRY_NS);
}

static void established(struct sim_endpoint *e)
{
    e->state = SIM_ESTABLISHED;
    e->retry_ns = RETRY_FIRST_NS;
    e->silent_since_ns = e->world->now_ns;
    arm_retry(e);
}

static void on_syn_ack(struct sim_endpoint *e, const struct packet *p)
{
    if (e->state == SIM_SYN_SENT) {
        e->peer_id = p->src;
        established(e);
        sim_socket_notify(e->socket);
    }
    if (e->peer_id == p->src) {
        send_from(e, (struct packet){.kind = PACKET_SYN_DONE});
        sim_endpoint_transmit(e);
    } else {
        send_reset(p); /* an earlier SYN of ours made another half there */
    }
}

/* The third step: it may come with the first data when it was lost itself. */
static bool complete_accept(struct sim_endpoint *e)
{
    if (e->state != SIM_SYN_RECEIVED) {
        return true;
    }
    struct cohorti_socket *listener = find_listener(e->host, e->port);
    if (listener == NULL || listener->number != e->listener_number) {
        return false;
    }
    established(e);
    cohorti_list_append(&listener->accepted, &e->of_accepted);
    listener->accepted_count++;
    sim_trace(e->world, SIM_TRACE_ACCEPT, e->id, e->peer_id, 0);
    sim_socket_notify(listener);
    return true;
}

/* ---- receiving ----------------------------------------------------------------------------------------------------- */

/* Bytes of the segment that are new and fit. */
static uint64_t take_bytes(struct sim_endpoint *e, const struct sim_endpoint *from, const struct packet *p)
{
    uint64_t end = p->seq + p->len;
    if (from == NULL || p->seq > e->received || end <= e->received || e->received < from->acked) {
        return 0;
    }
    uint64_t len = end - e->received;
    len = len < room(e) ? len : room(e);
    uint64_t available = from->written - e->received;
    len = len < available ? len : available;
    if (len == 0 || cohorti_buffer_append(&e->in, cohorti_buffer_data(&from->out) + (e->received - from->acked), len) != COHORT_OK) {
        return 0;
    }
    e->received += len;
    return len;
}

static void on_data(struct sim_endpoint *e, const struct packet *p)
{
    struct sim_world *w = e->world;
    if (e->socket == NULL && cohorti_list_empty(&e->of_accepted) && p->len > 0) {
        send_reset(p); /* an orphan takes no more data */
        sim_endpoint_free(e, COHORT_ERESET);
        return;
    }
    uint64_t taken = take_bytes(e, sim_endpoint_find(w, p->src), p);
    if (p->fin && p->seq == e->received && !e->eof) {
        e->eof = true;
        e->received++;
        sim_trace(w, SIM_TRACE_FIN, e->id, p->src, 0);
    } else if (taken > 0) {
        sim_trace(w, SIM_TRACE_SEGMENT, e->id, p->seq, taken);
    }
    send_ack(e);
    if (e->socket != NULL && (taken > 0 || e->eof)) {
        sim_socket_notify(e->socket);
    }
    if (e->socket == NULL && e->eof && e->fin_acked && cohorti_list_empty(&e->of_accepted)) {
        sim_endpoint_free(e, COHORT_EPEERCLOSED);
    }
}

static void on_ack(struct sim_endpoint *e, const struct packet *p)
{
    e->peer_window = p->window;
    if (p->ack > e->acked && p->ack <= end_of_stream(e)) {
        uint64_t bytes_end = p->ack < e->written ? p->ack : e->written;
        uint64_t had = cohorti_buffer_len(&e->out);
        uint64_t keep = e->written - bytes_end;
        sim_consume(&e->out, had - keep);
        e->acked = p->ack;
        e->sent = e->sent < e->acked ? e->acked : e->sent;
        e->fin_acked = e->fin_wanted && e->acked == e->written + 1;
        e->retry_ns = RETRY_FIRST_NS;
        arm_retry(e);
        if (e->socket != NULL) {
            sim_socket_notify(e->socket);
        }
    }
    if (e->socket == NULL && e->eof && e->fin_acked && cohorti_list_empty(&e->of_accepted)) {
        sim_endpoint_free(e, COHORT_EPEERCLOSED);
        return;
    }
    sim_endpoint_transmit(e);
}

static void on_reset(struct sim_endpoint *e)
{
    sim_endpoint_free(e, e->state == SIM_SYN_SENT ? COHORT_EREFUSED : COHORT_ERESET);
}

static void deliver(const struct packet *p)
{
    struct sim_world *w = p->to->world;
    if (p->kind == PACKET_SYN) {
        on_syn(p);
        return;
    }
    struct sim_endpoint *e = sim_endpoint_find(w, p->dst);
    bool accepted = e != NULL && (p->kind == PACKET_RESET || p->kind == PACKET_SYN_ACK || complete_accept(e));
    if (!accepted) {
        if (e != NULL) {
            sim_endpoint_free(e, COHORT_ERESET);
        }
        if (p->kind != PACKET_RESET) {
            send_reset(p);
        }
        return;
    }
    e->silent_since_ns = w->now_ns;
    switch (p->kind) {
    case PACKET_SYN_ACK:
        on_syn_ack(e, p);
        break;
    case PACKET_DATA:
        on_data(e, p);
        break;
    case PACKET_ACK:
        on_ack(e, p);
        break;
    case PACKET_RESET:
        on_reset(e);
        break;
    case PACKET_SYN:
    case PACKET_SYN_DONE:
        break;
    }
}

static void on_packet(struct sim_event *event)
{
    struct packet *p = COHORTI_CONTAINER(event, struct packet, event);
    struct sim_world *w = p->to->world;
    if (sim_path_open(w, p->from, p->to)) {
        deliver(p);
    }
    sim_packet_discard(w, event);
}

void sim_packet_discard(struct sim_world *w, struct sim_event *event)
{
    cohorti_list_append(w->spare_packets.next, &event->of_slot); /* in front: the memory used last is the warmest */
}

void sim_packets_free(struct sim_world *w)
{
    struct cohorti_list *spare;
    while ((spare = cohorti_list_pop(&w->spare_packets)) != NULL) {
        cohorti_release(w->alloc, COHORTI_CONTAINER(spare, struct packet, event.of_slot));
    }
}

/* ---- closing ------------------------------------------------------------------------------------------------------- */

void sim_endpoint_close(struct sim_endpoint *e)
{
    e->socket = NULL;
    sim_trace(e->world, SIM_TRACE_CLOSE, e->id, e->peer_id, cohorti_buffer_len(&e->in));
    bool unread = cohorti_buffer_len(&e->in) > 0;
    if (e->state != SIM_ESTABLISHED || unread) {
        if (e->state != SIM_SYN_SENT) {
            send_from(e, (struct packet){.kind = PACKET_RESET});
        }
        sim_endpoint_free(e, COHORT_ERESET);
        return;
    }
    e->fin_wanted = true;
    if (e->eof && e->fin_acked) {
        sim_endpoint_free(e, COHORT_EPEERCLOSED);
        return;
    }
    sim_endpoint_transmit(e);
}

uint32_t sim_endpoint_count(const struct sim_host *a, const struct sim_host *b)
{
    uint32_t count = 0;
    COHORTI_LIST_FOREACH (it, &a->endpoints) {
        const struct sim_endpoint *e = COHORTI_CONTAINER(it, struct sim_endpoint, of_host);
        count += e->peer_host == b && e->state == SIM_ESTABLISHED && e->socket != NULL;
    }
    return count;
}
