/* SPDX-License-Identifier: Apache-2.0
 *
 * node/local: a node that sends to itself. The same promises as between two: order, limits, requests, what becomes of what waits; and
 * besides, that nothing is handled inside the call that sends it, and that a handler that always sends again holds up nobody.
 */
#include "sink.h"

#define MESSAGE_BYTES 1000

static void run_local(struct rig_node *n, const cohort_limits *limits)
{
    rig_begin(n);
    cohort_config config = rig_config(n, 0);
    config.deliver_local = true;
    if (limits != NULL) {
        config.limits = *limits;
    }
    rig_open(n, &config);
    rig_start(n);
}

static void handle_sink(struct rig_node *n, const char *subject, struct sink *s)
{
    cohort_handle_id ignored;
    assert_int_equal(cohort_handle(n->node, subject, take_in_order, s, on_sink_release, &ignored), COHORT_OK);
}

static void not_unless_it_is_asked_for(void **state)
{
    static struct rig_node n;
    cohort_route *route = NULL;
    size_t sent = 0;
    run_without_handlers(&n, 0, NULL);
    assert_int_equal(cohort_send(n.node, address(0), "s", "x", 1), COHORT_EINVAL);
    assert_int_equal(cohort_route_open(n.node, address(0), "s", &route), COHORT_EINVAL);
    assert_int_equal(cohort_request(n.node, address(0), "s", "x", 1, 0, on_result, NULL, NULL), COHORT_EINVAL);
    assert_int_equal(cohort_echo(n.node, address(0), NULL, 0, 1000, on_echo_back, NULL), COHORT_EINVAL);
    assert_int_equal(cohort_broadcast_all(n.node, "s", "x", 1, &sent), COHORT_EINVAL);
    assert_int_equal(rig_close(&n), COHORT_OK);
}

/* Before the start too; small, in pieces, raw, and of each kind of sending. */
static void what_is_sent_arrives_once_and_in_order(void **state)
{
    static struct rig_node n;
    struct sink s = {0}, raw = {0};
    static const size_t lens[] = {4, 100, 65552, 65553, 300000, 1000000};
    cohort_route *route = NULL;
    uint32_t next = 0;
    rig_begin(&n);
    cohort_config config = rig_config(&n, 0);
    config.deliver_local = true;
    rig_open(&n, &config);
    handle_sink(&n, "s", &s);
    handle_sink(&n, "#77", &raw);
    assert_int_equal(send_number(&n, 0, "s", next++, 100), COHORT_OK);
    rig_start(&n);
    assert_int_equal(cohort_route_open(n.node, address(0), "s", &route), COHORT_OK);
    for (unsigned round = 0; round < 300; round++) {
        uint32_t number = next++;
        void *at = NULL;
        while (round % 2 == 0 && cohort_route_claim(route, 4, &at) != COHORT_OK) {
            sched_yield();
        }
        if (round % 2 == 0) {
            memcpy(at, &number, 4);
            cohort_route_commit(route, 4);
        } else {
            WAIT_FOR(send_number(&n, 0, "s", number, lens[round % UNIT_COUNT(lens)]) == COHORT_OK);
        }
    }
    for (uint32_t i = 0; i < 5; i++) {
        WAIT_FOR(send_number(&n, 0, "#77", i, COHORT_RAW_BYTES_MAX) == COHORT_OK); /* each in one frame */
    }
    WAIT_FOR(atomic_load(&s.handled) == next && atomic_load(&raw.handled) == 5);
    assert_int_equal(atomic_load(&s.wrong) + atomic_load(&raw.wrong), 0);
    WAIT_FOR(unacknowledged(&n, 0) == 0);
    round_trip(&n, 0);
    cohort_node_stats stats = totals(&n);
    assert_int_equal(stats.links_open + stats.links_opened + stats.handshakes_pending, 0); /* it is no link */
    cohort_route_close(route);
    assert_int_equal(rig_close(&n), COHORT_OK);
    assert_int_equal(atomic_load(&s.released), 1);
}

/* ---- threads -------------------------------------------------------------------------------------------------------- */

#define THREADS 4
#define EACH 20000

static _Thread_local bool sending;

struct crowd {
    struct rig_node *n;
    uint32_t number;
    pthread_t thread;
};

struct counts {
    _Atomic unsigned handled, wrong;
    uint32_t next[THREADS];
};

static void count_each(cohort_node *node, const cohort_message *message, void *arg)
{
    struct counts *c = arg;
    uint32_t m[2];
    memcpy(m, message->data, sizeof m);
    bool right = !sending && m[0] < THREADS && c->next[m[0]] == m[1] && strcmp(message->from, address(0)) == 0 && !message->legacy;
    atomic_fetch_add(&c->wrong, !right);
    c->next[m[0] % THREADS]++;
    atomic_fetch_add(&c->handled, 1);
}

static void *send_many(void *arg)
{
    struct crowd *crowd = arg;
    sending = true;
    for (uint32_t i = 0; i < EACH; i++) {
        uint32_t m[2] = {crowd->number, i};
        while (cohort_send(crowd->n->node, address(0), "s", m, sizeof m) == COHORT_EAGAIN) {
            sched_yield();
        }
    }
    return NULL;
}

static void each_thread_keeps_its_order(void **state)
{
    static struct rig_node n;
    static struct counts counts;
    struct crowd crowd[THREADS];
    cohort_handle_id ignored;
    run_local(&n, NULL);
    assert_int_equal(cohort_handle(n.node, "s", count_each, &counts, NULL, &ignored), COHORT_OK);
    for (uint32_t i = 0; i < THREADS; i++) {
        crowd[i] = (struct crowd){.n = &n, .number = i};
        assert_int_equal(pthread_create(&crowd[i].thread, NULL, send_many, &crowd[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        pthread_join(crowd[i].thread, NULL);
    }
    WAIT_FOR(atomic_load(&counts.handled) == THREADS * EACH);
    assert_int_equal(atomic_load(&counts.wrong), 0);
    assert_int_equal(rig_close(&n), COHORT_OK);
}

struct again {
    _Atomic unsigned handled, wrong;
    _Atomic bool stop;
};

static void send_again(cohort_node *node, const cohort_message *message, void *arg)
{
    struct again *a = arg;
    atomic_fetch_add(&a->wrong, sending);
    sending = true;
    if (!atomic_load(&a->stop)) {
        atomic_fetch_add(&a->wrong, cohort_send(node, message->from, "again", message->data, message->data_len) != COHORT_OK);
    }
    sending = false;
    atomic_fetch_add(&a->handled, 1);
}

/* One loop for all: a member is still answered, and times still pass. */
static void who_always_sends_again_holds_up_nobody(void **state)
{
    static struct rig_node n[2];
    struct again again = {0};
    struct asked asked = {0};
    cohort_handle_id ignored;
    rig_begin(&n[0]);
    cohort_config config = rig_config(&n[0], 0);
    config.deliver_local = true;
    config.loop_count = 0;
    rig_open(&n[0], &config);
    assert_int_equal(cohort_handle(n[0].node, "again", send_again, &again, NULL, &ignored), COHORT_OK);
    rig_start(&n[0]);
    assert_int_equal(cohort_send(n[0].node, address(0), "again", "x", 1), COHORT_OK);
    WAIT_FOR(atomic_load(&again.handled) > 100);
    run_without_handlers(&n[1], 1, NULL);
    meet(&n[0], &n[1], 1);
    round_trip(&n[1], 0);
    cohort_queue *queue = new_queue(&n[0], 0);
    handle_in(&n[0], queue, "never", take_in_order, NULL, NULL);
    ask(&n[0], 0, "never", "", 30, &asked);
    expect_result(&asked, COHORT_ETIMEDOUT);
    atomic_store(&again.stop, true);
    WAIT_FOR(unacknowledged(&n[0], 0) == 0);
    assert_int_equal(atomic_load(&again.wrong), 0);
    rig_close_pair(n);
}

/* ---- limits --------------------------------------------------------------------------------------------------------- */

static void on_writable(cohort_node *node, const char *id, cohort_lane lane, void *arg)
{
    bool expected = lane == COHORT_LANE_NORMAL && strcmp(id, address(0)) == 0;
    atomic_fetch_add((_Atomic unsigned *)arg, expected ? 1 : 1000);
}

static void a_full_lane_is_told_writable_once(void **state)
{
    static struct rig_node n;
    struct sink s = {0};
    _Atomic unsigned writable = 0;
    cohort_limits limits = small_limits();
    cohort_handle_id ignored;
    run_local(&n, &limits);
    cohort_queue *queue = new_queue(&n, 0);
    handle_in(&n, queue, "s", take_in_order, &s, NULL);
    assert_int_equal(cohort_on_writable(n.node, on_writable, &writable, NULL, &ignored), COHORT_OK);
    uint32_t next = fill_up(&n, 0, "s", 0, MESSAGE_BYTES);
    assert_true(next >= (SMALL_LANE + SMALL_LANE) / FRAME(MESSAGE_BYTES) - 2);
    assert_true(next <= (SMALL_LANE + SMALL_LANE + RUN_BYTES) / FRAME(MESSAGE_BYTES) + 1);
    assert_true(is_readable(queue));
    unsigned before = atomic_load(&writable);
    assert_int_equal(send_number(&n, 0, "s", next, MESSAGE_BYTES), COHORT_EAGAIN);
    WAIT_FOR((cohort_queue_dispatch(queue, SIZE_MAX), unacknowledged(&n, 0) == 0));
    WAIT_FOR((cohort_queue_dispatch(queue, SIZE_MAX), atomic_load(&s.handled) == next));
    WAIT_FOR(atomic_load(&writable) == before + 1);
    assert_int_equal(send_number(&n, 0, "s", next, MESSAGE_BYTES), COHORT_OK);
    WAIT_FOR(cohort_queue_dispatch(queue, SIZE_MAX) == 1);
    assert_int_equal(atomic_load(&s.wrong), 0);
    assert_int_equal(rig_close(&n), COHORT_OK);
    assert_int_equal(atomic_load(&writable), before + 1);
}

struct losses {
    _Atomic unsigned count, wrong;
    _Atomic int reason;
};

static void on_loss(cohort_node *node, const cohort_undelivered *lost, void *arg)
{
    struct losses *l = arg;
    atomic_fetch_add(&l->wrong, lost->maybe_handled || strcmp(lost->to, address(0)) != 0 || lost->data_len != MESSAGE_BYTES);
    atomic_store(&l->reason, lost->reason);
    atomic_fetch_add(&l->count, 1);
}

/* We part with ourselves as with any member: it is told, and goes on. */
static void disconnect_tells_all_and_works_again(void **state)
{
    static struct rig_node n;
    struct sink s = {0};
    struct losses lost = {0};
    cohort_limits limits = small_limits();
    cohort_handle_id ignored;
    run_local(&n, &limits);
    cohort_queue *queue = new_queue(&n, 0);
    handle_in(&n, queue, NULL, take_in_order, &s, NULL);
    assert_int_equal(cohort_on_undelivered(n.node, on_loss, &lost, NULL, &ignored), COHORT_OK);
    uint32_t next = fill_up(&n, 0, "plain", 0, MESSAGE_BYTES);
    set_options(&n, "full", COHORT_LANE_NORMAL, COHORT_FULL_DISCONNECT, 0);
    assert_int_equal(send_number(&n, 0, "full", next, MESSAGE_BYTES), COHORT_EAGAIN);
    WAIT_FOR(atomic_load(&lost.count) > 0 && unacknowledged(&n, 0) < FRAME(MESSAGE_BYTES));
    assert_int_equal(atomic_load(&lost.reason), COHORT_ESLOW);
    assert_int_equal(atomic_load(&lost.wrong), 0);
    WAIT_FOR((cohort_queue_dispatch(queue, SIZE_MAX), atomic_load(&s.handled) + atomic_load(&lost.count) == next));
    assert_int_equal(atomic_load(&s.wrong), 0);
    atomic_store(&s.next, next);
    assert_int_equal(send_number(&n, 0, "full", next, MESSAGE_BYTES), COHORT_OK);
    WAIT_FOR(cohort_queue_dispatch(queue, SIZE_MAX) == 1);
    assert_int_equal(atomic_load(&s.wrong), 0);
    assert_int_equal(rig_close(&n), COHORT_OK);
}

/* Without memory to queue a message none of its handlers has seen it, and it comes again. */
static void without_memory_it_comes_again(void **state)
{
    static struct rig_node n;
    struct sink s = {0};
    run_local(&n, NULL);
    cohort_queue *queue = new_queue(&n, 0);
    handle_in(&n, queue, "s", take_in_order, &s, NULL);
    assert_int_equal(send_number(&n, 0, "s", 0, MESSAGE_BYTES), COHORT_OK);
    WAIT_FOR(cohort_queue_dispatch(queue, 1) == 1);
    WAIT_FOR(unacknowledged(&n, 0) == 0);
    for (uint32_t i = 1; i < 8; i++) {
        atomic_store(&n.memory.fail_next, atomic_load(&n.memory.calls) + i);
        int status = COHORT_ENOMEM;
        while (status == COHORT_ENOMEM) {
            status = send_number(&n, 0, "s", i, MESSAGE_BYTES);
        }
        assert_int_equal(status, COHORT_OK);
        WAIT_FOR(cohort_queue_dispatch(queue, 1) == 1);
    }
    WAIT_FOR(unacknowledged(&n, 0) == 0);
    assert_int_equal(cohort_queue_dispatch(queue, SIZE_MAX), 0);
    assert_int_equal(atomic_load(&s.handled), 8);
    assert_int_equal(atomic_load(&s.wrong), 0);
    assert_int_equal(rig_close(&n), COHORT_OK);
}

/* ---- requests ------------------------------------------------------------------------------------------------------- */

static void reply_with_error(cohort_node *node, const cohort_message *message, void *arg)
{
    struct answerer *s = arg;
    atomic_fetch_add(&s->wrong, cohort_reply_error(message->call, COHORT_EHANDLER, "no") != COHORT_OK);
    atomic_fetch_add(&s->handled, 1);
}

static void requests_end_once_in_every_way(void **state)
{
    static struct rig_node n;
    struct answerer s = {0};
    struct asked replied = {0}, failed = {0}, nobody = {0}, silent = {0}, late = {0}, cancelled = {0};
    cohort_answer answer;
    run_local(&n, NULL);
    handle(&n, "same", reply_same, &s);
    handle(&n, "error", reply_with_error, &s);
    handle(&n, "silent", say_nothing, &s);
    handle(&n, "keep", keep_call, &s);
    ask(&n, 0, "same", "hello", 0, &replied);
    ask(&n, 0, "error", "", 0, &failed);
    ask(&n, 0, "nobody", "", 0, &nobody);
    ask(&n, 0, "silent", "", 0, &silent);
    ask(&n, 0, "keep", "", 20, &late);
    ask(&n, 0, "keep", "", 0, &cancelled);
    expect_result(&replied, COHORT_OK);
    assert_int_equal(replied.data_len, 5);
    assert_memory_equal(replied.data, "hello", 5);
    assert_string_equal(replied.from, address(0));
    expect_result(&failed, COHORT_EHANDLER);
    assert_string_equal(failed.text, "no");
    expect_result(&nobody, COHORT_ENOHANDLER);
    expect_result(&silent, COHORT_ENOREPLY);
    expect_result(&late, COHORT_ETIMEDOUT);
    assert_int_equal(cohort_cancel(n.node, address(0), cancelled.id), COHORT_OK);
    expect_result(&cancelled, COHORT_ECANCELLED);
    WAIT_FOR(atomic_load(&s.kept_count) == 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(cohort_reply(s.kept[i], "x", 1), COHORT_OK);
    }
    WAIT_FOR(late_replies(&n) == 2);
    assert_int_equal(cohort_request_wait(n.node, address(0), "same", "wait", 4, 0, &answer), COHORT_OK);
    assert_memory_equal(answer.data, "wait", 4);
    cohort_answer_free(&answer);
    assert_int_equal(atomic_load(&s.wrong), 0);
    assert_int_equal(rig_close(&n), COHORT_OK);
}

/* In a pool a handler may wait for another one of its own node. */
static void ask_ourselves(cohort_node *node, const cohort_message *message, void *arg)
{
    struct answerer *s = arg;
    cohort_answer answer;
    bool asked = cohort_request_wait(node, message->from, "same", message->data, message->data_len, 0, &answer) == COHORT_OK;
    atomic_fetch_add(&s->wrong, !asked || cohort_reply(message->call, answer.data, answer.data_len) != COHORT_OK);
    cohort_answer_free(&answer);
    atomic_fetch_add(&s->handled, 1);
}

static void handlers_in_a_pool_ask_again(void **state)
{
    static struct rig_node n;
    static struct asked asked[50];
    struct answerer s = {0};
    memset(asked, 0, sizeof asked);
    run_local(&n, NULL);
    cohort_queue *pool = new_queue(&n, 2);
    handle(&n, "same", reply_same, &s);
    handle_in(&n, pool, "outer", ask_ourselves, &s, NULL);
    for (unsigned i = 0; i < UNIT_COUNT(asked); i++) {
        ask(&n, 0, "outer", "through", 0, &asked[i]);
    }
    for (unsigned i = 0; i < UNIT_COUNT(asked); i++) {
        expect_result(&asked[i], COHORT_OK);
        assert_memory_equal(asked[i].data, "through", 7);
    }
    assert_int_equal(atomic_load(&s.handled), 2 * UNIT_COUNT(asked));
    assert_int_equal(atomic_load(&s.wrong), 0);
    assert_int_equal(rig_close(&n), COHORT_OK);
}

/* ---- broadcast ------------------------------------------------------------------------------------------------------ */

static void a_broadcast_reaches_us_when_it_is_to(void **state)
{
    static struct rig_node n[2];
    struct sink here = {0}, there = {0};
    size_t sent = 0;
    uint32_t number = 0;
    run_local(&n[0], NULL);
    run_without_handlers(&n[1], 1, NULL);
    handle_sink(&n[0], "b", &here);
    handle_sink(&n[1], "b", &there);
    assert_int_equal(cohort_broadcast_all(n[0].node, "b", &number, sizeof number, &sent), COHORT_OK); /* alone as well */
    assert_int_equal(sent, 1);
    meet(&n[0], &n[1], 1);
    assert_int_equal(cohort_broadcast(n[0].node, "b", &number, sizeof number, &sent), COHORT_OK);
    assert_int_equal(sent, 1);
    number = 1;
    assert_int_equal(cohort_broadcast_all(n[0].node, "b", &number, sizeof number, &sent), COHORT_OK);
    assert_int_equal(sent, 2);
    WAIT_FOR(atomic_load(&here.handled) == 2 && atomic_load(&there.handled) == 2);
    assert_int_equal(atomic_load(&here.wrong) + atomic_load(&there.wrong), 0);
    rig_close_pair(n);
}

/* ---- the end -------------------------------------------------------------------------------------------------------- */

/* What an inline handler can take is handled before the node is gone; what nobody takes out of a queue stops it, and is told. */
static void closing_delivers_or_tells(void **state)
{
    static struct rig_node n;
    struct sink s = {0}, queued = {0};
    struct losses lost = {0};
    cohort_limits limits = small_limits();
    cohort_handle_id ignored;
    run_local(&n, NULL);
    handle_sink(&n, "s", &s);
    for (uint32_t i = 0; i < 5000; i++) {
        assert_int_equal(send_number(&n, 0, "s", i, MESSAGE_BYTES), COHORT_OK);
    }
    assert_int_equal(rig_close(&n), COHORT_OK);
    assert_int_equal(atomic_load(&s.handled), 5000);
    assert_int_equal(atomic_load(&s.wrong), 0);

    run_local(&n, &limits);
    cohort_queue *queue = new_queue(&n, 0);
    handle_in(&n, queue, NULL, take_in_order, &queued, NULL);
    assert_int_equal(cohort_on_undelivered(n.node, on_loss, &lost, NULL, &ignored), COHORT_OK);
    uint32_t next = fill_up(&n, 0, "s", 0, MESSAGE_BYTES);
    size_t taken = cohort_queue_dispatch(queue, 7);
    uint64_t waiting = unacknowledged(&n, 0);
    assert_int_equal(cohort_node_close(n.node, 50), COHORT_ETIMEDOUT);
    assert_int_equal(atomic_load(&n.memory.blocks), 0);
    assert_int_equal(taken, 7);
    assert_int_equal(atomic_load(&lost.reason), COHORT_ECLOSED);
    assert_int_equal(atomic_load(&lost.wrong), 0);
    assert_true(atomic_load(&lost.count) <= waiting / FRAME(MESSAGE_BYTES) + 1 && atomic_load(&lost.count) < next);
}

static void a_request_under_way_ends_with_the_node(void **state)
{
    static struct rig_node n;
    struct answerer s = {0};
    struct asked asked = {0};
    run_local(&n, NULL);
    handle(&n, "keep", keep_call, &s);
    ask(&n, 0, "keep", "", 0, &asked);
    WAIT_FOR(atomic_load(&s.kept_count) == 1);
    assert_int_equal(cohort_reply_error(s.kept[0], COHORT_EHANDLER, NULL), COHORT_OK);
    expect_result(&asked, COHORT_EHANDLER);
    memset(&asked, 0, sizeof asked);
    cohort_queue *queue = new_queue(&n, 0);
    handle_in(&n, queue, "never", take_in_order, NULL, NULL);
    ask(&n, 0, "never", "", 0, &asked);
    assert_int_equal(rig_close(&n), COHORT_OK);
    assert_int_equal(atomic_load(&asked.calls), 1);
    assert_int_equal(asked.status, COHORT_ECLOSED);
}

/* ---- without threads ------------------------------------------------------------------------------------------------ */

static bool turn(struct rig_node *n)
{
    assert_int_equal(cohort_node_dispatch(n->node), COHORT_OK);
    return true;
}

static void in_the_loop_of_the_application(void **state)
{
    static struct rig_node n;
    struct sink s = {0};
    rig_begin(&n);
    cohort_config config = rig_config(&n, 0);
    config.deliver_local = true;
    config.threads = COHORT_THREADS_NONE;
    rig_open(&n, &config);
    handle_sink(&n, "s", &s);
    rig_start(&n);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(send_number(&n, 0, "s", i, MESSAGE_BYTES), COHORT_OK);
    }
    assert_int_equal(atomic_load(&s.handled), 0);
    struct pollfd p = {.fd = cohort_node_fd(n.node), .events = POLLIN};
    int timeout_ms = cohort_node_next_timeout_ms(n.node);
    assert_int_equal(poll(&p, 1, timeout_ms < 0 ? BOUND_MS : timeout_ms) == 1 || timeout_ms == 0, 1);
    WAIT_FOR(turn(&n) && atomic_load(&s.handled) == 1000 && unacknowledged(&n, 0) == 0);
    while (poll(&p, 1, 0) == 1) {
        turn(&n);
    }
    assert_int_equal(send_number(&n, 0, "s", 1000, MESSAGE_BYTES), COHORT_OK);
    assert_int_equal(poll(&p, 1, BOUND_MS), 1); /* readable as long as something waits */
    WAIT_FOR(turn(&n) && atomic_load(&s.handled) == 1001);
    assert_int_equal(send_number(&n, 0, "s", 1001, MESSAGE_BYTES), COHORT_OK);
    assert_int_equal(rig_close(&n), COHORT_OK);
    assert_int_equal(atomic_load(&s.handled), 1002);
    assert_int_equal(atomic_load(&s.wrong), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        node_test(not_unless_it_is_asked_for),        node_test(what_is_sent_arrives_once_and_in_order),
        node_test(each_thread_keeps_its_order),       node_test(who_always_sends_again_holds_up_nobody),
        node_test(a_full_lane_is_told_writable_once), node_test(disconnect_tells_all_and_works_again),
        node_test(without_memory_it_comes_again),     node_test(requests_end_once_in_every_way),
        node_test(handlers_in_a_pool_ask_again),      node_test(a_broadcast_reaches_us_when_it_is_to),
        node_test(closing_delivers_or_tells),         node_test(a_request_under_way_ends_with_the_node),
        node_test(in_the_loop_of_the_application),
    };
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL); /* one by name, in a debugger */
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
