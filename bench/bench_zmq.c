/* SPDX-License-Identifier: Apache-2.0
 *
 * The same with ZeroMQ (libzmq), over TCP.
 *
 * Settings, after zmq_setsockopt(3), zmq_ctx_set(3) and the guide's chapter on performance:
 * - high watermarks raised from 1000 messages to 64 MiB worth of them (64 .. 100 000), so that neither end stalls for a full queue;
 * - one I/O thread, as advised below a gigabyte per second a context, and there is one CPU a process here;
 * - messages are built in place (zmq_msg_init_size) and handed over, so libzmq copies no data of ours; from 512 KiB on it is faster to lend
 *   them from a pool (zmq_msg_init_data), at 64 KiB it is not;
 * - PAIR one way and for round trips: it proved faster than the PUSH/PULL of libzmq's own local_thr (by 10 to 25 %) and than REQ/REP;
 * - from four threads PUSH/PULL, a PUSH socket a thread, since sockets are not thread-safe and a PAIR has one peer;
 * - broadcast: PUB drops what a subscriber cannot take, so ZMQ_XPUB_NODROP makes it wait instead; XPUB, which is PUB that lets us
 *   read the subscriptions, tells when all eight are there;
 * - requests: DEALER and ROUTER, the guide's pair for many under way at once, without the empty frame that only REQ and REP need; one
 *   thread a side takes what is there and sends. A thread that waits: REQ and REP;
 * - beside a stream: a socket more for the stream, each socket with a thread of its own, as one socket has one queue, and a second I/O
 *   thread, which ZMQ_AFFINITY gives to the stream alone;
 * - the row that copies uses zmq_send();
 * - idle: ROUTER, the socket that can write to each of its peers by name.
 */
#include "bench.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

#define QUEUE_BYTES ((size_t)64 * 1024 * 1024)
#define QUEUE_MESSAGES_MIN 64
#define LENT_BYTES_MIN ((size_t)512 * 1024)
#define QUEUE_MESSAGES_MAX 100000

static void *context;

static void check(int rc, const char *what)
{
    if (rc < 0) {
        bench_fail("%s: %s", what, zmq_strerror(errno));
    }
}

static void set(void *socket, int option, int value)
{
    check(zmq_setsockopt(socket, option, &value, sizeof value), "zmq_setsockopt");
}

static void *socket_new(int type, const struct bench_options *o)
{
    size_t messages = QUEUE_BYTES / o->bytes;
    messages = messages < QUEUE_MESSAGES_MIN ? QUEUE_MESSAGES_MIN : messages > QUEUE_MESSAGES_MAX ? QUEUE_MESSAGES_MAX : messages;
    context = context == NULL ? zmq_ctx_new() : context;
    void *socket = context == NULL ? NULL : zmq_socket(context, type);
    if (socket == NULL) {
        bench_fail("zmq_socket: %s", zmq_strerror(errno));
    }
    set(socket, ZMQ_SNDHWM, (int)messages);
    set(socket, ZMQ_RCVHWM, (int)messages);
    return socket;
}

static void *bound(int type, const struct bench_options *o)
{
    char address[BENCH_HOST_BYTES_MAX + 32];
    void *socket = socket_new(type, o);
    snprintf(address, sizeof address, "tcp://%s:%u", o->host, o->ports[0]);
    if (type == ZMQ_SUB) {
        check(zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "", 0), "ZMQ_SUBSCRIBE");
    }
    check(zmq_bind(socket, address), "zmq_bind");
    bench_ready();
    return socket;
}

static void connect_to(void *socket, const struct bench_options *o, uint16_t port)
{
    char address[BENCH_HOST_BYTES_MAX + 32];
    snprintf(address, sizeof address, "tcp://%s:%u", o->host, port);
    check(zmq_connect(socket, address), "zmq_connect");
}

static void *connected(int type, const struct bench_options *o)
{
    void *socket = socket_new(type, o);
    connect_to(socket, o, o->ports[0]);
    return socket;
}

static void send_stamp(void *socket, size_t bytes, struct bench_stamp stamp)
{
    zmq_msg_t msg;
    check(zmq_msg_init_size(&msg, bytes), "zmq_msg_init_size");
    bench_stamp_write(zmq_msg_data(&msg), bytes, stamp);
    check(zmq_msg_send(&msg, socket, 0), "zmq_msg_send");
}

/* ---- one way and broadcast ----------------------------------------------------------------------------------------- */

struct sender {
    void *socket;
    size_t bytes;
    uint8_t *message; /* the application's own, for the row that copies */
    struct bench_pool pool;
};

static void send_one(void *ctx, struct bench_stamp stamp)
{
    struct sender *s = ctx;
    send_stamp(s->socket, s->bytes, stamp);
}

static void give_back(void *data, void *hint)
{
    (void)data;
    bench_pool_give_back(hint);
}

static void send_lent(void *ctx, struct bench_stamp stamp)
{
    struct sender *s = ctx;
    struct bench_lent *lent = bench_pool_take(&s->pool);
    zmq_msg_t msg;
    bench_stamp_write(lent->bytes, s->bytes, stamp);
    check(zmq_msg_init_data(&msg, lent->bytes, s->bytes, give_back, lent), "zmq_msg_init_data");
    check(zmq_msg_send(&msg, s->socket, 0), "zmq_msg_send");
}

static void flood_send_lent(const struct bench_options *o)
{
    static struct sender sender;
    sender = (struct sender){.socket = connected(ZMQ_PAIR, o), .bytes = o->bytes};
    bench_pool_init(&sender.pool, o->bytes);
    bench_flood(o, 0, send_lent, &sender);
}

static void flood_send(const struct bench_options *o)
{
    if (o->bytes >= LENT_BYTES_MIN) {
        flood_send_lent(o);
        return;
    }
    static struct sender senders[BENCH_STREAMS_MAX];
    void *ctxs[BENCH_STREAMS_MAX];
    for (size_t i = 0; i < o->threads; i++) {
        senders[i] = (struct sender){.socket = connected(o->threads == 1 ? ZMQ_PAIR : ZMQ_PUSH, o), .bytes = o->bytes};
        ctxs[i] = &senders[i];
    }
    if (o->threads == 1) {
        bench_flood(o, 0, send_one, ctxs[0]);
    } else {
        bench_flood_threads(o, send_one, ctxs);
    }
}

static void send_copied(void *ctx, struct bench_stamp stamp)
{
    struct sender *s = ctx;
    bench_stamp_write(s->message, s->bytes, stamp);
    check(zmq_send(s->socket, s->message, s->bytes, 0), "zmq_send");
}

static void flood_send_copied(const struct bench_options *o)
{
    static struct sender sender;
    sender = (struct sender){.socket = connected(ZMQ_PAIR, o), .bytes = o->bytes, .message = bench_alloc(o->bytes)};
    bench_flood(o, 0, send_copied, &sender);
}

static void receive(void *socket, const struct bench_options *o)
{
    struct bench_meter meter;
    zmq_msg_t msg;
    bool ended = false;
    bench_meter_init(&meter, o);
    check(zmq_msg_init(&msg), "zmq_msg_init");
    while (!ended) {
        check(zmq_msg_recv(&msg, socket, 0), "zmq_msg_recv");
        ended = bench_meter_take(&meter, zmq_msg_data(&msg), zmq_msg_size(&msg));
    }
    bench_meter_report(&meter);
}

static void flood_receive(const struct bench_options *o)
{
    receive(bound(o->threads == 1 ? ZMQ_PAIR : ZMQ_PULL, o), o);
}

static void broadcast_receive(const struct bench_options *o)
{
    receive(bound(ZMQ_SUB, o), o);
}

static void broadcast_send(const struct bench_options *o)
{
    static struct sender sender;
    char subscription[16];
    sender = (struct sender){.socket = socket_new(ZMQ_XPUB, o), .bytes = o->bytes};
    set(sender.socket, ZMQ_XPUB_NODROP, 1);
    set(sender.socket, ZMQ_XPUB_VERBOSE, 1); /* tell of each subscriber, not of the first only */
    for (size_t i = 0; i < o->port_count; i++) {
        connect_to(sender.socket, o, o->ports[i]);
    }
    for (size_t i = 0; i < o->port_count; i++) {
        check(zmq_recv(sender.socket, subscription, sizeof subscription, 0), "subscription");
    }
    bench_flood(o, 0, send_one, &sender);
}

/* ---- round trips --------------------------------------------------------------------------------------------------- */

static void ping_over(void *socket, const struct bench_options *o)
{
    struct bench_pinger pinger;
    zmq_msg_t msg;
    bool ended = false;
    bench_pinger_init(&pinger, o);
    check(zmq_msg_init(&msg), "zmq_msg_init");
    while (!ended) {
        send_stamp(socket, o->bytes, bench_pinger_next(&pinger));
        check(zmq_msg_recv(&msg, socket, 0), "zmq_msg_recv");
        ended = bench_pinger_take(&pinger, zmq_msg_data(&msg), zmq_msg_size(&msg));
    }
    bench_pinger_report(&pinger);
}

static void pong_over(void *socket, const struct bench_options *o)
{
    zmq_msg_t msg;
    check(zmq_msg_init(&msg), "zmq_msg_init");
    for (;;) {
        check(zmq_msg_recv(&msg, socket, 0), "zmq_msg_recv");
        send_stamp(socket, o->bytes, bench_stamp_read(zmq_msg_data(&msg), zmq_msg_size(&msg), o->bytes));
    }
}

static void ping(const struct bench_options *o)
{
    ping_over(connected(ZMQ_PAIR, o), o);
}

static void pong(const struct bench_options *o)
{
    pong_over(bound(ZMQ_PAIR, o), o);
}

/* ---- requests ------------------------------------------------------------------------------------------------------ */

static void request_wait(const struct bench_options *o)
{
    ping_over(connected(ZMQ_REQ, o), o);
}

static void reply_wait(const struct bench_options *o)
{
    pong_over(bound(ZMQ_REP, o), o);
}

static void request_pipelined(const struct bench_options *o)
{
    static struct bench_caller caller;
    void *socket = connected(ZMQ_DEALER, o);
    enum bench_then then = BENCH_SEND;
    zmq_msg_t msg;
    bench_caller_init(&caller, o);
    check(zmq_msg_init(&msg), "zmq_msg_init");
    for (uint32_t slot = 0; slot < o->depth; slot++) {
        send_stamp(socket, o->bytes, bench_caller_next(&caller, slot));
    }
    while (then != BENCH_END) {
        uint32_t slot = 0;
        check(zmq_msg_recv(&msg, socket, 0), "zmq_msg_recv");
        then = bench_caller_take(&caller, zmq_msg_data(&msg), zmq_msg_size(&msg), &slot);
        if (then == BENCH_SEND) {
            send_stamp(socket, o->bytes, bench_caller_next(&caller, slot));
        }
    }
    bench_caller_report(&caller);
}

static void reply_pipelined(const struct bench_options *o)
{
    static struct bench_replier replier;
    void *socket = bound(ZMQ_ROUTER, o);
    zmq_msg_t from, msg;
    bench_replier_init(&replier, o);
    check(zmq_msg_init(&from), "zmq_msg_init");
    check(zmq_msg_init(&msg), "zmq_msg_init");
    for (;;) {
        check(zmq_msg_recv(&from, socket, 0), "zmq_msg_recv");
        check(zmq_msg_recv(&msg, socket, 0), "zmq_msg_recv");
        struct bench_stamp stamp = bench_replier_take(&replier, zmq_msg_data(&msg), zmq_msg_size(&msg));
        check(zmq_msg_send(&from, socket, ZMQ_SNDMORE), "zmq_msg_send");
        send_stamp(socket, o->bytes, stamp);
    }
}

/* ---- round trips beside a stream ------------------------------------------------------------------------------------ */

#define IO_PINGS 1 /* bits of ZMQ_AFFINITY */
#define IO_BULK 2

/* The second socket is for messages of BENCH_BULK_BYTES. */
static void beside_sockets(const struct bench_options *o, bool binds, void *sockets[2])
{
    static const uint64_t affinity[2] = {IO_PINGS, IO_BULK};
    uint16_t ports[2] = {o->ports[0], o->own_port};
    struct bench_options of_bulk = *o;
    of_bulk.bytes = BENCH_BULK_BYTES;
    context = zmq_ctx_new();
    check(context == NULL ? -1 : zmq_ctx_set(context, ZMQ_IO_THREADS, 2), "ZMQ_IO_THREADS");
    for (int i = 0; i < 2; i++) {
        char address[BENCH_HOST_BYTES_MAX + 32];
        sockets[i] = socket_new(ZMQ_PAIR, i == 0 ? o : &of_bulk);
        check(zmq_setsockopt(sockets[i], ZMQ_AFFINITY, &affinity[i], sizeof affinity[i]), "ZMQ_AFFINITY");
        snprintf(address, sizeof address, "tcp://%s:%u", o->host, ports[i]);
        check(binds ? zmq_bind(sockets[i], address) : zmq_connect(sockets[i], address), address);
    }
}

static void ping_beside(const struct bench_options *o)
{
    static struct bench_beside beside;
    static struct sender bulk = {.bytes = BENCH_BULK_BYTES};
    void *sockets[2];
    zmq_msg_t msg;
    bool ended = false;
    beside_sockets(o, false, sockets);
    bulk.socket = sockets[1];
    bench_beside_init(&beside, o, send_one, &bulk);
    check(zmq_msg_init(&msg), "zmq_msg_init");
    while (!ended) {
        send_stamp(sockets[0], o->bytes, bench_beside_next(&beside));
        check(zmq_msg_recv(&msg, sockets[0], 0), "zmq_msg_recv");
        ended = bench_beside_take(&beside, zmq_msg_data(&msg), zmq_msg_size(&msg));
    }
    bench_beside_report(&beside);
}

static struct bench_sink sink;

static void *take_bulk(void *socket)
{
    zmq_msg_t msg;
    check(zmq_msg_init(&msg), "zmq_msg_init");
    for (;;) {
        check(zmq_msg_recv(&msg, socket, 0), "zmq_msg_recv");
        bench_sink_take(&sink, zmq_msg_data(&msg), zmq_msg_size(&msg));
    }
    return NULL;
}

static void pong_beside(const struct bench_options *o)
{
    void *sockets[2];
    pthread_t thread;
    zmq_msg_t msg;
    bench_sink_init(&sink, o);
    beside_sockets(o, true, sockets);
    if (pthread_create(&thread, NULL, take_bulk, sockets[1]) != 0) {
        bench_fail("cannot start a thread");
    }
    bench_ready();
    check(zmq_msg_init(&msg), "zmq_msg_init");
    for (;;) {
        check(zmq_msg_recv(&msg, sockets[0], 0), "zmq_msg_recv");
        send_stamp(sockets[0], o->bytes, bench_sink_answer(&sink, zmq_msg_data(&msg), zmq_msg_size(&msg)));
    }
}

/* ---- idle ---------------------------------------------------------------------------------------------------------- */

/* Every peer says one message and gets it back; then all is quiet. */
static void idle_hub(const struct bench_options *o)
{
    char name[64], data[BENCH_MESSAGE_BYTES_MIN + 64];
    void *socket = bound(ZMQ_ROUTER, o);
    uint64_t before_bytes = bench_anonymous_bytes();
    for (uint32_t i = 0; i < o->peers; i++) {
        int name_len = zmq_recv(socket, name, sizeof name, 0);
        check(name_len, "zmq_recv");
        int len = zmq_recv(socket, data, sizeof data, 0);
        check(len, "zmq_recv");
        check(zmq_send(socket, name, (size_t)name_len, ZMQ_SNDMORE), "zmq_send");
        check(zmq_send(socket, data, (size_t)len, 0), "zmq_send");
    }
    bench_sleep_ns(o->window_ns);
    bench_memory_report(before_bytes, o->peers);
}

static void idle_peers(const struct bench_options *o)
{
    char data[BENCH_MESSAGE_BYTES_MIN + 64] = {0};
    for (uint32_t i = 0; i < o->peers; i++) {
        void *socket = connected(ZMQ_DEALER, o);
        check(zmq_send(socket, data, 64, 0), "zmq_send");
        check(zmq_recv(socket, data, sizeof data, 0), "zmq_recv");
    }
}

int main(int argc, char **argv)
{
    static const struct bench_role roles[] = {
        {"flood-receive", flood_receive},
        {"flood-send", flood_send},
        {"flood-send-copied", flood_send_copied},
        {"broadcast-receive", broadcast_receive},
        {"broadcast-send", broadcast_send},
        {"ping-handlers", ping},
        {"pong-handlers", pong},
        {"ping-app", ping},
        {"pong-app", pong},
        {"request-pipelined", request_pipelined},
        {"reply-pipelined", reply_pipelined},
        {"request-wait", request_wait},
        {"reply-wait", reply_wait},
        {"ping-beside", ping_beside},
        {"pong-beside", pong_beside},
        {"idle-hub", idle_hub},
        {"idle-peers", idle_peers},
        {NULL, NULL},
    };
    bench_main(argc, argv, roles);
}
