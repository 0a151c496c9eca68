/* SPDX-License-Identifier: Apache-2.0
 *
 * The same with nng (libnng), over TCP.
 *
 * Settings, after nng's manual pages and its own tests/perf:
 * - send and receive buffers of a socket raised from none to 8192 messages, the most it takes (or 64 MiB worth of them);
 * - messages are built in place and handed over (nng_sendmsg), so nng copies no data of ours; no limit of size received;
 * - PAIR one way and for round trips: its queues are cheaper than PUSH/PULL's, and REQ/REP adds headers; sockets are thread-safe, so
 *   the four threads share one;
 * - the handlers row runs in aio callbacks, nng's form of a handler; the application-thread row blocks;
 * - broadcast: PUB and BUS drop what a peer cannot take, so eight PAIR sockets are written in turn;
 * - requests: a context and an aio for each one under way, at both ends, as nng_ctx(5) has it for asynchronous REQ and REP; raw mode,
 *   says the manual, is for devices. A thread that waits: blocking REQ and REP;
 * - the row that copies uses nng_send();
 * - idle: BUS, the mesh of nng, whose socket reaches many peers.
 */
#include "bench.h"

#include <nng/nng.h>
#include <nng/protocol/bus0/bus.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define QUEUE_BYTES ((size_t)64 * 1024 * 1024)
#define QUEUE_MESSAGES_MIN 64
#define QUEUE_MESSAGES_MAX 8192

static void check(int rc, const char *what)
{
    if (rc != 0) {
        bench_fail("%s: %s", what, nng_strerror(rc));
    }
}

static void set_options(nng_socket socket, size_t bytes)
{
    size_t messages = QUEUE_BYTES / bytes;
    messages = messages < QUEUE_MESSAGES_MIN ? QUEUE_MESSAGES_MIN : messages > QUEUE_MESSAGES_MAX ? QUEUE_MESSAGES_MAX : messages;
    check(nng_socket_set_int(socket, NNG_OPT_SENDBUF, (int)messages), NNG_OPT_SENDBUF);
    check(nng_socket_set_int(socket, NNG_OPT_RECVBUF, (int)messages), NNG_OPT_RECVBUF);
    check(nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, 0), NNG_OPT_RECVMAXSZ);
}

static void listen_on(nng_socket socket, const struct bench_options *o)
{
    char address[BENCH_HOST_BYTES_MAX + 32];
    snprintf(address, sizeof address, "tcp://%s:%u", o->host, o->ports[0]);
    check(nng_listen(socket, address, NULL, 0), "nng_listen");
    bench_ready();
}

static void dial(nng_socket socket, const struct bench_options *o, size_t i)
{
    char address[BENCH_HOST_BYTES_MAX + 32];
    snprintf(address, sizeof address, "tcp://%s:%u", o->host, o->ports[i]);
    check(nng_dial(socket, address, NULL, 0), "nng_dial");
}

static nng_socket pair_listening(const struct bench_options *o)
{
    nng_socket socket;
    check(nng_pair0_open(&socket), "nng_pair0_open");
    set_options(socket, o->bytes);
    listen_on(socket, o);
    return socket;
}

static nng_socket pair_dialled(const struct bench_options *o, size_t i)
{
    nng_socket socket;
    check(nng_pair0_open(&socket), "nng_pair0_open");
    set_options(socket, o->bytes);
    dial(socket, o, i);
    return socket;
}

static nng_msg *message_new(size_t bytes, struct bench_stamp stamp)
{
    nng_msg *msg = NULL;
    check(nng_msg_alloc(&msg, bytes), "nng_msg_alloc");
    bench_stamp_write(nng_msg_body(msg), bytes, stamp);
    return msg;
}

static nng_msg *message_wait(nng_socket socket)
{
    nng_msg *msg = NULL;
    check(nng_recvmsg(socket, &msg, 0), "nng_recvmsg");
    return msg;
}

/* ---- one way and broadcast ----------------------------------------------------------------------------------------- */

struct sender {
    nng_socket sockets[BENCH_PORTS_MAX];
    size_t socket_count;
    size_t bytes;
    uint8_t *message; /* the application's own, for the row that copies */
};

static void send_all(void *ctx, struct bench_stamp stamp)
{
    struct sender *s = ctx;
    for (size_t i = 0; i < s->socket_count; i++) {
        check(nng_sendmsg(s->sockets[i], message_new(s->bytes, stamp), 0), "nng_sendmsg");
    }
}

static void flood_send(const struct bench_options *o)
{
    static struct sender sender;
    void *ctxs[BENCH_STREAMS_MAX];
    sender.bytes = o->bytes;
    for (size_t i = 0; i < o->port_count; i++) {
        sender.sockets[sender.socket_count++] = pair_dialled(o, i);
    }
    for (size_t i = 0; i < BENCH_STREAMS_MAX; i++) {
        ctxs[i] = &sender;
    }
    if (o->threads == 1) {
        bench_flood(o, 0, send_all, &sender);
    } else {
        bench_flood_threads(o, send_all, ctxs);
    }
}

static void send_copied(void *ctx, struct bench_stamp stamp)
{
    struct sender *s = ctx;
    bench_stamp_write(s->message, s->bytes, stamp);
    check(nng_send(s->sockets[0], s->message, s->bytes, 0), "nng_send");
}

static void flood_send_copied(const struct bench_options *o)
{
    static struct sender sender;
    sender.sockets[0] = pair_dialled(o, 0);
    sender.bytes = o->bytes;
    sender.message = bench_alloc(o->bytes);
    bench_flood(o, 0, send_copied, &sender);
}

static void flood_receive(const struct bench_options *o)
{
    struct bench_meter meter;
    nng_socket socket = pair_listening(o);
    bool ended = false;
    bench_meter_init(&meter, o);
    while (!ended) {
        nng_msg *msg = message_wait(socket);
        ended = bench_meter_take(&meter, nng_msg_body(msg), nng_msg_len(msg));
        nng_msg_free(msg);
    }
    bench_meter_report(&meter);
}

/* ---- round trips in aio callbacks ---------------------------------------------------------------------------------- */

struct callback_end {
    const struct bench_options *options;
    nng_socket socket;
    nng_aio *send, *receive;
    struct bench_pinger pinger;
    bool pings;
};

static void send_stamp(struct callback_end *end, struct bench_stamp stamp)
{
    nng_aio_set_msg(end->send, message_new(end->options->bytes, stamp));
    nng_send_aio(end->socket, end->send);
}

static void on_sent(void *arg)
{
    struct callback_end *end = arg;
    check(nng_aio_result(end->send), "nng_send_aio");
}

static void on_received(void *arg)
{
    struct callback_end *end = arg;
    check(nng_aio_result(end->receive), "nng_recv_aio");
    nng_msg *msg = nng_aio_get_msg(end->receive);
    const void *data = nng_msg_body(msg);
    bool ended = false;
    nng_aio_wait(end->send); /* the answer to a message may overtake the news that it was sent */
    if (!end->pings) {
        send_stamp(end, bench_stamp_read(data, nng_msg_len(msg), end->options->bytes));
    } else if (!(ended = bench_pinger_take(&end->pinger, data, nng_msg_len(msg)))) {
        send_stamp(end, bench_pinger_next(&end->pinger));
    } else {
        bench_pinger_report(&end->pinger);
    }
    nng_msg_free(msg);
    if (!ended) {
        nng_recv_aio(end->socket, end->receive);
    }
}

static void run_callbacks(const struct bench_options *o, bool pings)
{
    static struct callback_end end;
    end.options = o;
    end.pings = pings;
    check(nng_aio_alloc(&end.send, on_sent, &end), "nng_aio_alloc");
    check(nng_aio_alloc(&end.receive, on_received, &end), "nng_aio_alloc");
    end.socket = pings ? pair_dialled(o, 0) : pair_listening(o);
    nng_recv_aio(end.socket, end.receive);
    if (pings) {
        bench_pinger_init(&end.pinger, o);
        send_stamp(&end, bench_pinger_next(&end.pinger));
    }
}

static void ping_handlers(const struct bench_options *o)
{
    run_callbacks(o, true);
}

static void pong_handlers(const struct bench_options *o)
{
    run_callbacks(o, false);
}

/* ---- round trips on application threads ---------------------------------------------------------------------------- */

static void ping_over(nng_socket socket, const struct bench_options *o)
{
    struct bench_pinger pinger;
    bool ended = false;
    bench_pinger_init(&pinger, o);
    while (!ended) {
        check(nng_sendmsg(socket, message_new(o->bytes, bench_pinger_next(&pinger)), 0), "nng_sendmsg");
        nng_msg *msg = message_wait(socket);
        ended = bench_pinger_take(&pinger, nng_msg_body(msg), nng_msg_len(msg));
        nng_msg_free(msg);
    }
    bench_pinger_report(&pinger);
}

static void pong_over(nng_socket socket, const struct bench_options *o)
{
    for (;;) {
        nng_msg *msg = message_wait(socket);
        (void)bench_stamp_read(nng_msg_body(msg), nng_msg_len(msg), o->bytes);
        check(nng_sendmsg(socket, msg, 0), "nng_sendmsg");
    }
}

static void ping_app(const struct bench_options *o)
{
    ping_over(pair_dialled(o, 0), o);
}

static void pong_app(const struct bench_options *o)
{
    pong_over(pair_listening(o), o);
}

/* ---- requests ------------------------------------------------------------------------------------------------------ */

static nng_socket req_dialled(const struct bench_options *o)
{
    nng_socket socket;
    check(nng_req0_open(&socket), "nng_req0_open");
    dial(socket, o, 0);
    return socket;
}

static void request_wait(const struct bench_options *o)
{
    ping_over(req_dialled(o), o);
}

static void reply_wait(const struct bench_options *o)
{
    nng_socket socket;
    check(nng_rep0_open(&socket), "nng_rep0_open");
    listen_on(socket, o);
    pong_over(socket, o);
}

/* Callbacks run on several threads: this is over what they share. */
static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static struct bench_caller caller;
static struct bench_replier replier;

struct slot {
    uint32_t number;
    nng_ctx ctx;
    nng_aio *aio;
    size_t bytes;
    bool receives; /* what the aio is doing */
};

static void slot_send(struct slot *s, nng_msg *msg)
{
    s->receives = false;
    nng_aio_set_msg(s->aio, msg);
    nng_ctx_send(s->ctx, s->aio);
}

static void slot_receive(struct slot *s)
{
    s->receives = true;
    nng_ctx_recv(s->ctx, s->aio);
}

static void on_call(void *arg)
{
    struct slot *s = arg;
    check(nng_aio_result(s->aio), s->receives ? "nng_ctx_recv" : "nng_ctx_send");
    if (!s->receives) {
        slot_receive(s);
        return;
    }
    uint32_t number = 0;
    nng_msg *msg = nng_aio_get_msg(s->aio);
    pthread_mutex_lock(&shared_lock);
    enum bench_then then = bench_caller_take(&caller, nng_msg_body(msg), nng_msg_len(msg), &number);
    struct bench_stamp stamp = bench_caller_next(&caller, s->number);
    pthread_mutex_unlock(&shared_lock);
    nng_msg_free(msg);
    if (number != s->number) {
        bench_fail("slot %u got the reply of slot %u", s->number, number);
    }
    if (then == BENCH_SEND) {
        slot_send(s, message_new(s->bytes, stamp));
    } else if (then == BENCH_END) {
        bench_caller_report(&caller);
    }
}

static void on_reply(void *arg)
{
    struct slot *s = arg;
    check(nng_aio_result(s->aio), s->receives ? "nng_ctx_recv" : "nng_ctx_send");
    if (!s->receives) {
        slot_receive(s);
        return;
    }
    nng_msg *msg = nng_aio_get_msg(s->aio);
    pthread_mutex_lock(&shared_lock);
    (void)bench_replier_take(&replier, nng_msg_body(msg), nng_msg_len(msg));
    pthread_mutex_unlock(&shared_lock);
    slot_send(s, msg);
}

static struct slot *slots_open(const struct bench_options *o, nng_socket socket, void (*fn)(void *))
{
    static struct slot slots[BENCH_DEPTH_MAX];
    for (uint32_t i = 0; i < o->depth; i++) {
        slots[i] = (struct slot){.number = i, .bytes = o->bytes};
        check(nng_ctx_open(&slots[i].ctx, socket), "nng_ctx_open");
        check(nng_aio_alloc(&slots[i].aio, fn, &slots[i]), "nng_aio_alloc");
    }
    return slots;
}

static void request_pipelined(const struct bench_options *o)
{
    bench_caller_init(&caller, o);
    struct slot *slots = slots_open(o, req_dialled(o), on_call);
    for (uint32_t i = 0; i < o->depth; i++) {
        slot_send(&slots[i], message_new(o->bytes, bench_caller_next(&caller, i)));
    }
}

static void reply_pipelined(const struct bench_options *o)
{
    nng_socket socket;
    check(nng_rep0_open(&socket), "nng_rep0_open");
    bench_replier_init(&replier, o);
    struct slot *slots = slots_open(o, socket, on_reply);
    for (uint32_t i = 0; i < o->depth; i++) {
        slot_receive(&slots[i]);
    }
    listen_on(socket, o);
}

/* ---- idle ---------------------------------------------------------------------------------------------------------- */

/* Every peer says one message, and all get one back; then all is quiet. */
static void idle_hub(const struct bench_options *o)
{
    nng_socket socket;
    check(nng_bus0_open(&socket), "nng_bus0_open");
    listen_on(socket, o);
    uint64_t before_bytes = bench_anonymous_bytes();
    for (uint32_t i = 0; i < o->peers; i++) {
        nng_msg_free(message_wait(socket));
    }
    check(nng_sendmsg(socket, message_new(64, (struct bench_stamp){0}), 0), "nng_sendmsg");
    bench_sleep_ns(o->window_ns);
    bench_memory_report(before_bytes, o->peers);
}

static void idle_peers(const struct bench_options *o)
{
    static nng_socket sockets[BENCH_PORTS_MAX];
    for (uint32_t i = 0; i < o->peers && i < BENCH_PORTS_MAX; i++) {
        check(nng_bus0_open(&sockets[i]), "nng_bus0_open");
        dial(sockets[i], o, 0);
        check(nng_sendmsg(sockets[i], message_new(64, (struct bench_stamp){0}), 0), "nng_sendmsg");
    }
}

int main(int argc, char **argv)
{
    static const struct bench_role roles[] = {
        {"flood-receive", flood_receive},
        {"flood-send", flood_send},
        {"flood-send-copied", flood_send_copied},
        {"broadcast-receive", flood_receive},
        {"broadcast-send", flood_send},
        {"ping-handlers", ping_handlers},
        {"pong-handlers", pong_handlers},
        {"ping-app", ping_app},
        {"pong-app", pong_app},
        {"request-pipelined", request_pipelined},
        {"reply-pipelined", reply_pipelined},
        {"request-wait", request_wait},
        {"reply-wait", reply_wait},
        {"idle-hub", idle_hub},
        {"idle-peers", idle_peers},
        {NULL, NULL},
    };
    bench_main(argc, argv, roles);
}
