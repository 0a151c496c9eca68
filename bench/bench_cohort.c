/* SPDX-License-Identifier: Apache-2.0
 *
 * The same with cohort, by its public API and with its defaults.
 *
 * Receivers are nodes that admit whoever greets; the sender adds each of them as a member, waits until all are ACTIVE, and sends
 * with a named subject. Every process keeps the default number of loops.
 *
 * One way, messages go over a route, as the others have a socket for the peer. Small ones are built in
 * place, as with the others; from 64 KiB on they are lent (cohort_route_send_ref) out of a pool; rows that copy send from the application's memory. When a lane is full we sleep until the writable
 * event; a broadcast leaves that to the library (COHORT_FULL_BLOCK), as only the members that had no room may get it again.
 */
#include "bench_cohort.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define CLAIM_BYTES_MAX ((size_t)64 * 1024)
#define BLOCK_MS 10000

void bench_check(int status, const char *what)
{
    if (status != COHORT_OK) {
        bench_fail("%s: %s", what, cohort_error_text(status));
    }
}

/* ---- nodes --------------------------------------------------------------------------------------------------------- */

static pthread_mutex_t active_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t active_changed = PTHREAD_COND_INITIALIZER;
static uint32_t active;
static atomic_bool may_end;

void bench_may_end(void)
{
    atomic_store(&may_end, true);
}

static void on_event(cohort_node *node, const cohort_event *event, void *arg)
{
    if (event->type == COHORT_MEMBER_DEACTIVATED && !atomic_load(&may_end)) {
        bench_fail("the link to %s ended: %s", event->member.id, cohort_error_text(event->reason));
    }
    if (event->type == COHORT_MEMBER_ACTIVATED) {
        pthread_mutex_lock(&active_lock);
        active++;
        pthread_cond_signal(&active_changed);
        pthread_mutex_unlock(&active_lock);
    }
}

static void wait_active(uint32_t count)
{
    pthread_mutex_lock(&active_lock);
    while (active < count) {
        pthread_cond_wait(&active_changed, &active_lock);
    }
    pthread_mutex_unlock(&active_lock);
}

struct node_spec {
    const char *id, *ip;
    uint16_t port;
    bool one_thread;
    cohort_message_fn fn;
    void *arg;
};

static cohort_node *node_open(const struct bench_options *o, struct node_spec spec)
{
    cohort_config config;
    cohort_error error = {0};
    cohort_node *node = NULL;
    cohort_handle_id handle = 0;
    COHORT_CONFIG_INIT(&config);
    config.id = spec.id;
    config.ip = spec.ip;
    config.tcp_port = spec.port;
    config.admission = COHORT_ADMIT_OPEN;
    if (spec.one_thread) {
        config.loop_count = 0;
    }
    if (cohort_node_open(&config, &node, &error) != COHORT_OK) {
        bench_fail("%s", error.text);
    }
    bench_check(cohort_listen(node, on_event, NULL, NULL, &handle), "cohort_listen");
    if (spec.fn != NULL) {
        bench_check(cohort_handle(node, SUBJECT, spec.fn, spec.arg, NULL, &handle), "cohort_handle");
    }
    if (cohort_node_start(node, &error) != COHORT_OK) {
        bench_fail("%s", error.text);
    }
    return node;
}

void bench_receiver_id(const struct bench_options *o, size_t i, char out[32])
{
    snprintf(out, 32, "receiver-%u", o->ports[i]);
}

cohort_node *bench_receiver_start(const struct bench_options *o, cohort_message_fn fn, void *arg)
{
    char id[32];
    bench_receiver_id(o, 0, id);
    return node_open(o, (struct node_spec){.id = id, .ip = o->host, .port = o->ports[0], .fn = fn, .arg = arg});
}

cohort_node *bench_receiver_open(const struct bench_options *o, cohort_message_fn fn, void *arg)
{
    cohort_node *node = bench_receiver_start(o, fn, arg);
    bench_ready();
    return node;
}

cohort_node *bench_sender_open(const struct bench_options *o, cohort_message_fn fn, void *arg)
{
    cohort_node *node =
        node_open(o, (struct node_spec){.id = "sender", .ip = o->own_host, .port = o->own_port, .fn = fn, .arg = arg});
    for (size_t i = 0; i < o->port_count; i++) {
        char id[32];
        bench_receiver_id(o, i, id);
        bench_check(cohort_node_add(node, id, o->host, o->ports[i]), "cohort_node_add");
    }
    wait_active((uint32_t)o->port_count);
    return node;
}

/* ---- one way and broadcast ----------------------------------------------------------------------------------------- */

/* A lane to a peer was full and has room again. */
static pthread_mutex_t room_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t room_made = PTHREAD_COND_INITIALIZER;
static uint64_t rooms;

static void on_writable(cohort_node *node, const char *id, cohort_lane lane, void *arg)
{
    pthread_mutex_lock(&room_lock);
    rooms++;
    pthread_cond_broadcast(&room_made);
    pthread_mutex_unlock(&room_lock);
}

static uint64_t rooms_made(void)
{
    pthread_mutex_lock(&room_lock);
    uint64_t made = rooms;
    pthread_mutex_unlock(&room_lock);
    return made;
}

static void wait_for_room(uint64_t since)
{
    pthread_mutex_lock(&room_lock);
    while (rooms == since) {
        pthread_cond_wait(&room_made, &room_lock);
    }
    pthread_mutex_unlock(&room_lock);
}

void bench_wait_writable(cohort_node *node)
{
    cohort_handle_id handle = 0;
    bench_check(cohort_on_writable(node, on_writable, NULL, NULL, &handle), "cohort_on_writable");
}

int bench_send_waiting(int (*try)(void *ctx, struct bench_stamp stamp), void *ctx, struct bench_stamp stamp)
{
    int status = try(ctx, stamp);
    while (status == COHORT_EAGAIN) {
        uint64_t since = rooms_made(); /* before we try again: room that is made from here on ends the wait */
        status = try(ctx, stamp);
        if (status == COHORT_EAGAIN) {
            wait_for_room(since);
            status = try(ctx, stamp);
        }
    }
    return status;
}

struct sender {
    cohort_node *node;
    cohort_route *route;
    uint8_t *message; /* the application's own, for messages that are not built in place */
    size_t bytes;
    bool in_place;
    size_t peer_count;
    struct bench_pool pool;
};

static int try_one(void *ctx, struct bench_stamp stamp)
{
    struct sender *s = ctx;
    void *room = NULL;
    if (!s->in_place) {
        bench_stamp_write(s->message, s->bytes, stamp);
        return cohort_route_send(s->route, s->message, s->bytes);
    }
    int status = cohort_route_claim(s->route, s->bytes, &room);
    if (status == COHORT_OK) {
        bench_stamp_write(room, s->bytes, stamp);
        cohort_route_commit(s->route, s->bytes);
    }
    return status;
}

static int try_lent(void *ctx, struct bench_stamp stamp)
{
    struct sender *s = ctx;
    struct bench_lent *one = bench_pool_take(&s->pool);
    bench_stamp_write(one->bytes, s->bytes, stamp);
    int status = cohort_route_send_ref(s->route, one->bytes, s->bytes, bench_pool_give_back, one);
    if (status != COHORT_OK) {
        bench_pool_give_back(one);
    }
    return status;
}

static void send_lent(void *ctx, struct bench_stamp stamp)
{
    bench_check(bench_send_waiting(try_lent, ctx, stamp), "sending over a route");
}

static void send_one(void *ctx, struct bench_stamp stamp)
{
    bench_check(bench_send_waiting(try_one, ctx, stamp), "sending over a route");
}

static void flood(const struct bench_options *o, bench_send_fn send, bool in_place)
{
    static struct sender senders[BENCH_STREAMS_MAX];
    void *ctxs[BENCH_STREAMS_MAX];
    char id[32];
    cohort_node *node = bench_sender_open(o, NULL, NULL);
    bench_wait_writable(node);
    bench_receiver_id(o, 0, id);
    for (size_t i = 0; i < o->threads; i++) {
        senders[i] = (struct sender){.node = node, .message = bench_alloc(o->bytes), .bytes = o->bytes, .in_place = in_place};
        bench_check(cohort_route_open(node, id, SUBJECT, &senders[i].route), "cohort_route_open");
        if (send == send_lent) {
            bench_pool_init(&senders[i].pool, o->bytes);
        }
        ctxs[i] = &senders[i];
    }
    if (o->threads == 1) {
        bench_flood(o, 0, send, ctxs[0]);
    } else {
        bench_flood_threads(o, send, ctxs);
    }
    bench_may_end();
}

static void flood_send(const struct bench_options *o)
{
    if (o->bytes >= BENCH_LENT_BYTES_MIN) {
        flood(o, send_lent, false);
    } else {
        flood(o, send_one, o->bytes <= CLAIM_BYTES_MAX);
    }
}

static void flood_send_copied(const struct bench_options *o)
{
    flood(o, send_one, false);
}

static void send_to_all(void *ctx, struct bench_stamp stamp)
{
    struct sender *s = ctx;
    size_t sent = 0;
    bench_stamp_write(s->message, s->bytes, stamp);
    bench_check(cohort_broadcast(s->node, SUBJECT, s->message, s->bytes, &sent), "cohort_broadcast");
    if (sent != s->peer_count) {
        bench_fail("broadcast to %zu of %zu members", sent, s->peer_count);
    }
}

static void broadcast_send(const struct bench_options *o)
{
    static struct sender sender;
    cohort_subject_options options;
    sender = (struct sender){.message = bench_alloc(o->bytes), .bytes = o->bytes, .peer_count = o->port_count};
    sender.node = bench_sender_open(o, NULL, NULL);
    COHORT_SUBJECT_OPTIONS_INIT(&options);
    options.when_full = COHORT_FULL_BLOCK;
    options.block_ms = BLOCK_MS;
    bench_check(cohort_subject_set(sender.node, SUBJECT, &options), "cohort_subject_set");
    bench_flood(o, 0, send_to_all, &sender);
    bench_may_end();
}

static void on_flood(cohort_node *node, const cohort_message *message, void *arg)
{
    struct bench_meter *meter = arg;
    if (bench_meter_take(meter, message->data, message->data_len)) {
        bench_may_end();
        bench_meter_report(meter);
    }
}

static void flood_receive(const struct bench_options *o)
{
    static struct bench_meter meter;
    bench_meter_init(&meter, o);
    (void)bench_receiver_open(o, on_flood, &meter);
}

/* The handler runs in a queue: emptied by the application's thread, which polls, or by one of the library. */
static cohort_queue *queue_open(const struct bench_options *o, uint32_t threads)
{
    static struct bench_meter meter;
    cohort_queue *queue = NULL;
    cohort_handle_id handle = 0;
    bench_meter_init(&meter, o);
    cohort_node *node = bench_receiver_start(o, NULL, NULL);
    bench_check(cohort_queue_open(node, threads, &queue), "cohort_queue_open");
    bench_check(cohort_handle_in(node, queue, SUBJECT, on_flood, &meter, NULL, &handle), "cohort_handle_in");
    bench_ready();
    return queue;
}

static void flood_receive_queued(const struct bench_options *o)
{
    cohort_queue *queue = queue_open(o, 0);
    struct pollfd waits = {.fd = cohort_queue_fd(queue), .events = POLLIN};
    for (;;) {
        if (poll(&waits, 1, -1) == 1) {
            (void)cohort_queue_dispatch(queue, SIZE_MAX);
        }
    }
}

static void flood_receive_pool(const struct bench_options *o)
{
    (void)queue_open(o, 1);
}

/* ---- round trips --------------------------------------------------------------------------------------------------- */

struct pinging {
    cohort_node *node;
    char id[32];
    uint8_t *message;
    struct bench_pinger pinger;
    bool in_handler; /* the answer's handler sends the next one; else the application thread does */
    pthread_mutex_t lock;
    pthread_cond_t answered;
    bool answer, ended;
};

static void send_ping(struct pinging *p)
{
    size_t bytes = p->pinger.options->bytes;
    bench_stamp_write(p->message, bytes, bench_pinger_next(&p->pinger));
    bench_check(cohort_send(p->node, p->id, SUBJECT, p->message, bytes), "cohort_send");
}

static void on_answer(cohort_node *node, const cohort_message *message, void *arg)
{
    struct pinging *p = arg;
    if (p->in_handler) {
        if (!bench_pinger_take(&p->pinger, message->data, message->data_len)) {
            send_ping(p);
            return;
        }
        bench_may_end();
        bench_pinger_report(&p->pinger);
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->ended = bench_pinger_take(&p->pinger, message->data, message->data_len);
    p->answer = true;
    pthread_cond_signal(&p->answered);
    pthread_mutex_unlock(&p->lock);
}

static struct pinging *ping_open(const struct bench_options *o, bool in_handler)
{
    static struct pinging p = {.lock = PTHREAD_MUTEX_INITIALIZER, .answered = PTHREAD_COND_INITIALIZER};
    p.message = bench_alloc(o->bytes);
    p.in_handler = in_handler;
    bench_receiver_id(o, 0, p.id);
    bench_pinger_init(&p.pinger, o);
    p.node = bench_sender_open(o, on_answer, &p);
    return &p;
}

static void ping_handlers(const struct bench_options *o)
{
    send_ping(ping_open(o, true));
}

static void ping_app(const struct bench_options *o)
{
    struct pinging *p = ping_open(o, false);
    while (!p->ended) {
        send_ping(p);
        pthread_mutex_lock(&p->lock);
        while (!p->answer) {
            pthread_cond_wait(&p->answered, &p->lock);
        }
        p->answer = false;
        pthread_mutex_unlock(&p->lock);
    }
    bench_may_end();
    bench_pinger_report(&p->pinger);
}

static void on_ping(cohort_node *node, const cohort_message *message, void *arg)
{
    const struct bench_options *o = arg;
    (void)bench_stamp_read(message->data, message->data_len, o->bytes);
    bench_check(cohort_send(node, message->from, SUBJECT, message->data, message->data_len), "cohort_send");
}

static void pong(const struct bench_options *o)
{
    static struct bench_options kept;
    kept = *o;
    bench_may_end(); /* the end that pings knows when */
    (void)bench_receiver_open(o, on_ping, &kept);
}

/* ---- idle ---------------------------------------------------------------------------------------------------------- */

static atomic_uint answered;

/* Every peer says one message and gets it back; then all is quiet. */
static void on_greeting(cohort_node *node, const cohort_message *message, void *arg)
{
    bench_check(cohort_send(node, message->from, SUBJECT, message->data, message->data_len), "cohort_send");
    atomic_fetch_add(&answered, 1);
}

static void idle_hub(const struct bench_options *o)
{
    (void)bench_receiver_open(o, on_greeting, NULL);
    uint64_t before_bytes = bench_anonymous_bytes();
    while (atomic_load(&answered) < o->peers) {
        bench_sleep_ns(BENCH_NS_PER_MS);
    }
    bench_may_end();
    bench_sleep_ns(o->window_ns);
    bench_memory_report(before_bytes, o->peers);
}

/* Many nodes in this process, with one thread each; all listen on one port, each on a loopback address of its own. */
static void idle_peers(const struct bench_options *o)
{
    uint8_t message[64] = {0};
    char hub[32];
    bench_receiver_id(o, 0, hub);
    for (uint32_t i = 0; i < o->peers; i++) {
        char id[32], ip[32];
        snprintf(id, sizeof id, "peer-%u", i);
        snprintf(ip, sizeof ip, "127.0.1.%u", 1 + i % 250);
        cohort_node *node = node_open(o, (struct node_spec){.id = id, .ip = ip, .port = o->own_port, .one_thread = true});
        bench_check(cohort_node_add(node, hub, o->host, o->ports[0]), "cohort_node_add");
        wait_active(i + 1);
        bench_check(cohort_send(node, hub, SUBJECT, message, sizeof message), "cohort_send");
    }
}

int main(int argc, char **argv)
{
    static const struct bench_role roles[] = {
        {"flood-receive", flood_receive},
        {"flood-receive-queued", flood_receive_queued},
        {"flood-receive-pool", flood_receive_pool},
        {"flood-send", flood_send},
        {"flood-send-copied", flood_send_copied},
        {"broadcast-receive", flood_receive},
        {"broadcast-send", broadcast_send},
        {"ping-handlers", ping_handlers},
        {"pong-handlers", pong},
        {"ping-app", ping_app},
        {"pong-app", pong},
        {"request-pipelined", bench_request_pipelined},
        {"reply-pipelined", bench_reply},
        {"request-wait", bench_request_wait},
        {"reply-wait", bench_reply},
        {"ping-beside", bench_ping_beside},
        {"pong-beside", bench_pong_beside},
        {"idle-hub", idle_hub},
        {"idle-peers", idle_peers},
        {NULL, NULL},
    };
    bench_count_allocations();
    bench_main(argc, argv, roles);
}
