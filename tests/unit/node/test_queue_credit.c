/* SPDX-License-Identifier: Apache-2.0
 *
 * node/queue and credit: what waits in queues is bounded, stops its lane and nothing else, and gives back exactly what it took; also when
 * memory fails.
 */
#include "machine.h"
#include "sink.h"

#define MESSAGE_BYTES 1000
#define ACCEPTED_MAX \
    ((SMALL_LANE + RUN_BYTES + SMALL_LANE) / MESSAGE_BYTES + 1) /* in the queue, and unacknowledged at the sender */

static uint32_t fill_queue(struct rig_node *n, const char *subject, uint32_t first)
{
    uint32_t next = fill_up(n, 1, subject, first, MESSAGE_BYTES);
    assert_true(next - first <= ACCEPTED_MAX);
    return next;
}

/* Both ends of the lane are empty, and it has all its credit: as much goes through again, three times over. */
static void expect_full_credit(struct rig_node *n, cohort_queue *queue, struct sink *s, const char *subject, uint32_t next)
{
    uint32_t filled = fill_queue(n, subject, next);
    assert_true((filled - next) * FRAME(MESSAGE_BYTES) >= 2 * SMALL_LANE - 2 * FRAME(MESSAGE_BYTES));
    for (uint32_t end = filled + 3 * ACCEPTED_MAX; filled < end;) {
        int status = send_number(n, 1, subject, filled, MESSAGE_BYTES);
        filled += status == COHORT_OK;
        assert_true(status == COHORT_OK || status == COHORT_EAGAIN);
        (void)cohort_queue_dispatch(queue, SIZE_MAX);
    }
    WAIT_FOR((cohort_queue_dispatch(queue, SIZE_MAX), unacknowledged(n, 1) == 0 && atomic_load(&s->next) == filled));
    assert_int_equal(atomic_load(&s->wrong), 0);
}

static void a_queue_nobody_empties_stops_its_lane_only(void **state)
{
    static struct rig_node n[2];
    struct sink s = {0}, control = {0};
    cohort_limits limits = small_limits();
    run_limited(n, &limits);
    set_options(&n[0], "control", COHORT_LANE_CONTROL, COHORT_FULL_FAIL, 0);
    cohort_queue *queue = new_queue(&n[1], 0);
    handle_in(&n[1], queue, "queued", take_in_order, &s, NULL);
    handle_in(&n[1], NULL, "control", take_in_order, &control, NULL);
    uint32_t next = fill_queue(&n[0], "queued", 0);
    for (uint32_t i = 0; i < 100; i++) {
        WAIT_FOR(send_number(&n[0], 1, "control", i, MESSAGE_BYTES) == COHORT_OK);
        WAIT_FOR(atomic_load(&control.handled) == i + 1);
    }
    round_trip(&n[0], 1);
    WAIT_FOR((cohort_queue_dispatch(queue, 10), unacknowledged(&n[0], 1) == 0 && atomic_load(&s.next) == next));
    expect_full_credit(&n[0], queue, &s, "queued", next);
    assert_int_equal(atomic_load(&control.wrong), 0);
    rig_close_pair(n);
}

/* Of two queues the one that is emptied must not let the other grow without end. */
static void the_slower_of_two_queues_is_bounded(void **state)
{
    static struct rig_node n[2];
    struct sink quick = {0}, slow = {0};
    cohort_limits limits = small_limits();
    run_limited(n, &limits);
    cohort_queue *threads = new_queue(&n[1], 1), *queue = new_queue(&n[1], 0);
    handle_in(&n[1], threads, "both", take_in_order, &quick, NULL);
    handle_in(&n[1], queue, "both", take_in_order, &slow, NULL);
    uint32_t next = fill_queue(&n[0], "both", 0);
    WAIT_FOR((cohort_queue_dispatch(queue, SIZE_MAX), atomic_load(&slow.next) == next));
    WAIT_FOR(atomic_load(&quick.handled) == next);
    expect_full_credit(&n[0], queue, &slow, "both", next);
    rig_close_pair(n);
    assert_int_equal(atomic_load(&quick.wrong), 0);
}

static void a_closed_queue_gives_its_credit_back(void **state)
{
    static struct rig_node n[2];
    struct sink s = {0};
    cohort_limits limits = small_limits();
    run_limited(n, &limits);
    uint32_t next = 0;
    for (unsigned round = 0; round < 3; round++) {
        cohort_queue *closing = new_queue(&n[1], 0);
        cohort_handle_id id = handle_in(&n[1], closing, "queued", take_in_order, &s, NULL);
        next = fill_queue(&n[0], "queued", next);
        assert_int_equal(cohort_unhandle(n[1].node, id), COHORT_OK);
        WAIT_FOR(cohort_queue_close(closing) == COHORT_OK);
        WAIT_FOR(unacknowledged(&n[0], 1) == 0);
    }
    assert_int_equal(atomic_load(&s.handled), 0);
    atomic_store(&s.next, next);
    cohort_queue *queue = new_queue(&n[1], 0);
    handle_in(&n[1], queue, "queued", take_in_order, &s, NULL);
    expect_full_credit(&n[0], queue, &s, "queued", next);
    rig_close_pair(n);
}

/* A link that comes while messages wait, and one that comes when they were handled while there was none, know the same. */
static void credit_outlives_links(void **state)
{
    static struct rig_node n[2];
    struct sink s = {0};
    cohort_limits limits = small_limits();
    run_limited(n, &limits);
    cohort_queue *queue = new_queue(&n[1], 0);
    handle_in(&n[1], queue, "queued", take_in_order, &s, NULL);
    uint32_t next = 0;
    for (unsigned round = 0; round < 10; round++) {
        next = fill_queue(&n[0], "queued", next);
        (void)cohort_queue_dispatch(queue, 1 + round * 7);
        (void)break_links();
        (void)cohort_queue_dispatch(queue, 10);
        WAIT_FOR(both_are_active(n));
        (void)break_links();
        WAIT_FOR((cohort_queue_dispatch(queue, SIZE_MAX), unacknowledged(&n[0], 1) == 0 && atomic_load(&s.next) == next));
    }
    WAIT_FOR(both_are_active(n));
    expect_full_credit(&n[0], queue, &s, "queued", next);
    rig_close_pair(n);
}

/* The session ends at one end while messages of it wait there; the peer's half goes on, and counts anew. What waits holds credit of the
 * session that follows, and gives it back once. */
static void what_waits_of_an_ended_session_holds_credit_of_the_next(void **state)
{
    static struct rig_node n[2];
    struct sink queued = {0}, stuck = {0};
    cohort_limits limits = small_limits();
    run_limited(n, &limits);
    set_options(&n[1], "stuck", COHORT_LANE_NORMAL, COHORT_FULL_DISCONNECT, 0);
    cohort_queue *queue = new_queue(&n[1], 0), *never = new_queue(&n[0], 0);
    handle_in(&n[1], queue, "queued", take_in_order, &queued, NULL);
    handle_in(&n[0], never, "stuck", take_in_order, &stuck, NULL);
    for (uint32_t i = 0; i < 40; i++) {
        assert_int_equal(send_number(&n[0], 1, "queued", i, MESSAGE_BYTES), COHORT_OK);
    }
    WAIT_FOR(unacknowledged(&n[0], 1) == 0);
    uint32_t out = 0;
    WAIT_FOR((out = fill(&n[1], 0, "stuck", out, MESSAGE_BYTES), totals(&n[1]).errors[-COHORT_ESLOW] > 0));
    WAIT_FOR(atomic_load(&n[0].activated) > 1 && atomic_load(&n[1].activated) > 1 && both_are_active(n));
    round_trip(&n[0], 1);
    assert_int_equal(cohort_queue_dispatch(queue, SIZE_MAX), 40);
    expect_full_credit(&n[0], queue, &queued, "queued", 40);
    close_whatever(n);
}

/* A 2014 node knows no credit: what it sends is at most once, and bounded by being dropped. */
static void a_legacy_peer_does_not_fill_memory(void **state)
{
    static struct rig_node n;
    struct sink s = {0};
    char body[MESSAGE_BYTES] = {0};
    cohort_limits limits = small_limits();
    run_without_handlers(&n, 0, &limits);
    cohort_queue *queue = new_queue(&n, 0);
    handle_in(&n, queue, "#77", take_in_order, &s, NULL);
    int fd = bare_connect(0, 3, 0);
    for (unsigned i = 0; i < 1000; i++) {
        bare_frame(fd, 77, body, sizeof body);
    }
    WAIT_FOR(totals(&n).frames_in >= 1001);
    size_t taken = cohort_queue_dispatch(queue, SIZE_MAX);
    assert_int_equal(taken, SMALL_LANE / FRAME(MESSAGE_BYTES));
    assert_int_equal(totals(&n).messages_dropped, 1000 - taken);
    bare_frame(fd, 77, body, sizeof body); /* there is room again */
    WAIT_FOR(cohort_queue_dispatch(queue, SIZE_MAX) == 1);
    close(fd);
    (void)rig_close(&n);
}

/* ---- memory --------------------------------------------------------------------------------------------------------- */

static void see_nothing(cohort_node *node, const cohort_message *message, void *arg)
{
    struct answerer *s = arg;
    atomic_fetch_add(&s->wrong, message->call != NULL);
    atomic_fetch_add(&s->handled, 1);
}

/* At each allocation of the receiver in turn: nothing is lost, nothing comes twice, requests have one result. */
static void without_memory_nothing_is_lost_or_doubled(void **state)
{
    static struct rig_node n[2];
    struct sink first = {0}, second = {0};
    struct answerer answers = {0};
    cohort_limits limits = small_limits();
    run_limited(n, &limits);
    cohort_queue *queue = new_queue(&n[1], 0);
    handle_in(&n[1], queue, "queued", take_in_order, &first, NULL);
    handle_in(&n[1], queue, "queued", take_in_order, &second, NULL);
    handle_in(&n[1], queue, "ask", reply_same, &answers, NULL);
    handle_in(&n[1], queue, "ask", see_nothing, &answers, NULL);
    uint32_t next = 0;
    unsigned asked_count = 0;
    for (uint64_t fail = 0; fail < 100; fail++) {
        struct asked a = {0};
        WAIT_FOR(both_are_active(n));
        atomic_store(&n[1].memory.fail_next, atomic_load(&n[1].memory.calls) + fail % 10 + 1);
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(send_number(&n[0], 1, "queued", next++, MESSAGE_BYTES), COHORT_OK);
        }
        ask(&n[0], 1, "ask", "hello", 0, &a);
        asked_count++;
        WAIT_FOR((cohort_queue_dispatch(queue, SIZE_MAX), atomic_load(&second.next) == next && atomic_load(&a.calls) > 0));
        expect_result(&a, COHORT_OK);
        atomic_store(&n[1].memory.fail_next, 0);
    }
    WAIT_FOR((cohort_queue_dispatch(queue, SIZE_MAX), atomic_load(&answers.handled) == 2 * asked_count));
    assert_int_equal(late_replies(&n[0]), 0);
    assert_int_equal(atomic_load(&first.next), next);
    assert_int_equal(atomic_load(&first.wrong) + atomic_load(&second.wrong) + atomic_load(&answers.wrong), 0);
    assert_true(totals(&n[1]).errors[-COHORT_ENOMEM] > 10);
    rig_close_pair(n);
}

static _Atomic bool sockets_stopped; /* they take nothing */

static int send_unless_stopped(struct cohorti_socket *s, const struct cohorti_bytes *runs, size_t count, size_t *n)
{
    return atomic_load(&sockets_stopped) ? COHORT_EAGAIN : real_ops->send(s, runs, count, n);
}

/* Many answers at once have used up the memory that is kept for what a link says, and there is none when the acknowledgement is due. */
static void what_there_was_no_memory_to_acknowledge_is_acknowledged_later(void **state)
{
    static const uint8_t much[32000];
    static struct rig_node n[2];
    struct sink s = {0};
    run_without_handlers(&n[0], 0, NULL);
    rig_begin(&n[1]);
    cohort_config config = rig_config(&n[1], 1);
    rig_open(&n[1], &config);
    replace_machine(&n[1])->send = send_unless_stopped;
    handle_in(&n[1], NULL, "s", take_in_order, &s, NULL);
    rig_start(&n[1]);
    meet(&n[0], &n[1], 1);
    for (uint32_t i = 0; i < 10; i++) {
        _Atomic unsigned back = 0;
        assert_int_equal(send_number(&n[0], 1, "s", 2 * i, 4), COHORT_OK);
        WAIT_FOR(unacknowledged(&n[0], 1) == 0);
        uint64_t before = totals(&n[1]).frames_in;
        atomic_store(&sockets_stopped, true);
        for (unsigned k = 0; k < 5; k++) {
            assert_int_equal(cohort_echo(n[0].node, address(1), much, sizeof much, 20000, on_echo_back, &back), COHORT_OK);
        }
        WAIT_FOR(totals(&n[1]).frames_in >= before + 5);
        atomic_store(&sockets_stopped, false);
        WAIT_FOR(atomic_load(&back) == 5);
        atomic_store(&n[1].memory.fail_next, atomic_load(&n[1].memory.calls) + 1);
        assert_int_equal(send_number(&n[0], 1, "s", 2 * i + 1, 4), COHORT_OK);
        WAIT_FOR(unacknowledged(&n[0], 1) == 0);
        assert_true(atomic_load(&n[1].memory.calls) >= n[1].memory.fail_next); /* it did fail */
    }
    atomic_store(&n[1].memory.fail_next, 0);
    assert_int_equal(atomic_load(&s.handled), 20);
    assert_int_equal(atomic_load(&s.wrong), 0);
    assert_int_equal(atomic_load(&n[1].activated), 1);
    rig_close_pair(n);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        node_test(a_queue_nobody_empties_stops_its_lane_only),
        node_test(the_slower_of_two_queues_is_bounded),
        node_test(a_closed_queue_gives_its_credit_back),
        node_test(credit_outlives_links),
        node_test(what_waits_of_an_ended_session_holds_credit_of_the_next),
        node_test(a_legacy_peer_does_not_fill_memory),
        node_test(without_memory_nothing_is_lost_or_doubled),
        node_test(what_there_was_no_memory_to_acknowledge_is_acknowledged_later),
    };
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL); /* one by name, in a debugger */
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
