/* SPDX-License-Identifier: Apache-2.0
 *
 * Roles of the cohort program: requests, and round trips beside a stream.
 *
 * Requests carry a time limit, as a program should give one, and go over a route, as the others have a socket for the peer; those that are
 * waited for have no route. The reply is sent in the request's handler, the next request in the completion of the one before. Beside a
 * stream, pings and their answers travel in the control lane, the stream in the bulk lane of the same session, and so over the same
 * connection.
 */
#include "bench_cohort.h"

#define TIMEOUT_MS 10000

static void check_bytes(const struct bench_options *o)
{
    if (o->bytes > BENCH_REQUEST_BYTES_MAX) {
        bench_fail("more than %d bytes", BENCH_REQUEST_BYTES_MAX);
    }
}

/* ---- requests ------------------------------------------------------------------------------------------------------ */

struct calling {
    cohort_route *route;
    size_t bytes;
    struct bench_caller caller;
};

static void on_result(cohort_node *node, const cohort_result *result, void *arg);

static void call_one(struct calling *c, uint32_t slot)
{
    uint8_t message[BENCH_REQUEST_BYTES_MAX] = {0}; /* on the stack: the first are sent by another thread than the others */
    bench_stamp_write(message, c->bytes, bench_caller_next(&c->caller, slot));
    bench_check(cohort_route_request(c->route, message, c->bytes, TIMEOUT_MS, on_result, c, NULL), "cohort_route_request");
}

static void on_result(cohort_node *node, const cohort_result *result, void *arg)
{
    struct calling *c = arg;
    uint32_t slot = 0;
    bench_check(result->status, "request");
    switch (bench_caller_take(&c->caller, result->data, result->data_len, &slot)) {
    case BENCH_SEND:
        call_one(c, slot);
        break;
    case BENCH_END:
        bench_may_end();
        bench_caller_report(&c->caller);
        break;
    case BENCH_REST:
        break;
    }
}

void bench_request_pipelined(const struct bench_options *o)
{
    static struct calling calling;
    char id[32];
    check_bytes(o);
    calling.bytes = o->bytes;
    bench_caller_init(&calling.caller, o);
    bench_receiver_id(o, 0, id);
    bench_check(cohort_route_open(bench_sender_open(o, NULL, NULL), id, SUBJECT, &calling.route), "cohort_route_open");
    for (uint32_t slot = 0; slot < o->depth; slot++) {
        call_one(&calling, slot);
    }
}

void bench_request_wait(const struct bench_options *o)
{
    struct bench_pinger pinger;
    uint8_t message[BENCH_REQUEST_BYTES_MAX] = {0};
    char id[32];
    bool ended = false;
    check_bytes(o);
    bench_receiver_id(o, 0, id);
    cohort_node *node = bench_sender_open(o, NULL, NULL);
    bench_pinger_init(&pinger, o);
    while (!ended) {
        cohort_answer answer;
        bench_stamp_write(message, o->bytes, bench_pinger_next(&pinger));
        bench_check(cohort_request_wait(node, id, SUBJECT, message, o->bytes, TIMEOUT_MS, &answer), "cohort_request_wait");
        ended = bench_pinger_take(&pinger, answer.data, answer.data_len);
        cohort_answer_free(&answer);
    }
    bench_may_end();
    bench_pinger_report(&pinger);
}

static void on_request(cohort_node *node, const cohort_message *message, void *arg)
{
    (void)bench_replier_take(arg, message->data, message->data_len);
    if (message->call == NULL) {
        bench_fail("a message that is no request");
    }
    bench_check(cohort_reply(message->call, message->data, message->data_len), "cohort_reply");
}

void bench_reply(const struct bench_options *o)
{
    static struct bench_replier replier;
    bench_replier_init(&replier, o);
    bench_may_end(); /* the end that asks knows when */
    (void)bench_receiver_open(o, on_request, &replier);
}

/* ---- round trips beside a stream ------------------------------------------------------------------------------------ */

static void set_lane(cohort_node *node, const char *subject, cohort_lane lane)
{
    cohort_subject_options options;
    COHORT_SUBJECT_OPTIONS_INIT(&options);
    options.lane = lane;
    bench_check(cohort_subject_set(node, subject, &options), "cohort_subject_set");
}

static void handle(cohort_node *node, const char *subject, cohort_message_fn fn, void *arg)
{
    cohort_handle_id id = 0;
    bench_check(cohort_handle(node, subject, fn, arg, NULL, &id), "cohort_handle");
}

struct beside {
    cohort_node *node;
    char id[32];
    size_t bytes;
    uint8_t *bulk;
    struct bench_beside beside;
};

static int try_bulk(void *ctx, struct bench_stamp stamp)
{
    struct beside *b = ctx;
    return cohort_send(b->node, b->id, SUBJECT_BULK, b->bulk, BENCH_BULK_BYTES);
}

static void send_bulk(void *ctx, struct bench_stamp stamp)
{
    struct beside *b = ctx;
    bench_stamp_write(b->bulk, BENCH_BULK_BYTES, stamp);
    bench_check(bench_send_waiting(try_bulk, b, stamp), "cohort_send");
}

static void ping_one(struct beside *b)
{
    uint8_t message[BENCH_REQUEST_BYTES_MAX] = {0};
    bench_stamp_write(message, b->bytes, bench_beside_next(&b->beside));
    bench_check(cohort_send(b->node, b->id, SUBJECT_PING, message, b->bytes), "cohort_send");
}

static void on_pong(cohort_node *node, const cohort_message *message, void *arg)
{
    struct beside *b = arg;
    if (!bench_beside_take(&b->beside, message->data, message->data_len)) {
        ping_one(b);
        return;
    }
    bench_may_end();
    bench_beside_report(&b->beside);
}

void bench_ping_beside(const struct bench_options *o)
{
    static struct beside b;
    check_bytes(o);
    b.bytes = o->bytes;
    b.bulk = bench_alloc(BENCH_BULK_BYTES);
    bench_beside_init(&b.beside, o, send_bulk, &b);
    bench_receiver_id(o, 0, b.id);
    b.node = bench_sender_open(o, NULL, NULL);
    bench_wait_writable(b.node);
    set_lane(b.node, SUBJECT_PING, COHORT_LANE_CONTROL);
    set_lane(b.node, SUBJECT_BULK, COHORT_LANE_BULK);
    handle(b.node, SUBJECT_PING, on_pong, &b);
    ping_one(&b);
}

static struct bench_sink sink;

static void on_bulk(cohort_node *node, const cohort_message *message, void *arg)
{
    bench_sink_take(&sink, message->data, message->data_len);
}

static void on_ping(cohort_node *node, const cohort_message *message, void *arg)
{
    uint8_t answer[BENCH_REQUEST_BYTES_MAX] = {0};
    bench_stamp_write(answer, message->data_len, bench_sink_answer(&sink, message->data, message->data_len));
    bench_check(cohort_send(node, message->from, SUBJECT_PING, answer, message->data_len), "cohort_send");
}

void bench_pong_beside(const struct bench_options *o)
{
    check_bytes(o);
    bench_sink_init(&sink, o);
    bench_may_end(); /* the end that pings knows when */
    cohort_node *node = bench_receiver_start(o, NULL, NULL);
    set_lane(node, SUBJECT_PING, COHORT_LANE_CONTROL);
    handle(node, SUBJECT_PING, on_ping, NULL);
    handle(node, SUBJECT_BULK, on_bulk, NULL);
    bench_ready();
}
