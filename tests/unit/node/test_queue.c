/* SPDX-License-Identifier: Apache-2.0
 *
 * node/queue: handlers that run where the application polls, or on threads of the library: order, copies, requests, what becomes of
 * what waits. What a queue does to credit is in test_queue_credit.c.
 */
#include "sink.h"

#include "node/registry.h"

#define MESSAGE_BYTES 1000

static void send_numbers(struct rig_node *n, const char *subject, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        assert_int_equal(send_number(n, 1, subject, i, MESSAGE_BYTES), COHORT_OK);
    }
}

static void all_has_arrived(struct rig_node *n)
{
    WAIT_FOR(unacknowledged(n, 1) == 0);
}

static void readable_exactly_while_something_waits(void **state)
{
    static struct rig_node n[2];
    struct sink s = {0};
    run_limited(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 0);
    handle_in(&n[1], queue, "queued", take_in_order, &s, on_sink_release);
    assert_true(cohort_queue_fd(queue) >= 0);
    assert_false(is_readable(queue));
    send_numbers(&n[0], "queued", 0, 100);
    all_has_arrived(&n[0]);
    assert_int_equal(atomic_load(&s.handled), 0); /* acknowledged, and nobody's thread but ours runs it */
    assert_true(is_readable(queue));
    assert_int_equal(cohort_queue_dispatch(queue, 0), 0);
    assert_int_equal(cohort_queue_dispatch(queue, 30), 30);
    assert_true(is_readable(queue));
    assert_int_equal(cohort_queue_dispatch(queue, 1000), 70);
    assert_false(is_readable(queue));
    assert_int_equal(cohort_queue_dispatch(queue, 1000), 0);
    assert_int_equal(atomic_load(&s.handled), 100);
    assert_int_equal(atomic_load(&s.wrong), 0);
    rig_close_pair(n);
    assert_int_equal(atomic_load(&s.released), 1);
}

/* Entries of every size class, the large ones sent in pieces; they outlive the link that brought them. */
static void copies_survive_the_link(void **state)
{
    static struct rig_node n[2];
    struct sink s = {0};
    static const size_t lens[] = {4, 505, 506, 4096, 65552, 65553, 300000};
    run_limited(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 0);
    handle_in(&n[1], queue, NULL, take_in_order, &s, NULL);
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < UNIT_COUNT(lens); i++) {
            assert_int_equal(send_number(&n[0], 1, "queued", round * UNIT_COUNT(lens) + i, lens[i]), COHORT_OK);
        }
        all_has_arrived(&n[0]);
        unsigned before = atomic_load(&n[0].activated);
        assert_true(break_links() > 0);
        WAIT_FOR(atomic_load(&n[0].activated) > before && both_are_active(n));
        assert_int_equal(cohort_queue_dispatch(queue, SIZE_MAX), UNIT_COUNT(lens));
    }
    assert_int_equal(atomic_load(&s.wrong), 0);
    rig_close_pair(n);
}

/* ---- threads -------------------------------------------------------------------------------------------------------- */

#define SUBJECTS 5
#define EACH 1500

static struct sink ordered[2][SUBJECTS]; /* by sender and subject */

static void take_ordered(cohort_node *node, const cohort_message *message, void *arg)
{
    unsigned subject = (unsigned)(message->subject[1] - '0');
    unsigned from = strcmp(message->from, address(0)) == 0 ? 0 : 1;
    take_in_order(node, message, &ordered[from][subject]);
}

static bool all_ordered(void)
{
    unsigned count = 0;
    for (unsigned i = 0; i < 2 * SUBJECTS; i++) {
        count += atomic_load(&ordered[i / SUBJECTS][i % SUBJECTS].handled);
    }
    return count == 2 * SUBJECTS * EACH;
}

static void threads_keep_the_order_of_a_member_and_subject(void **state)
{
    static struct rig_node n[3];
    memset(ordered, 0, sizeof ordered);
    run_without_handlers(&n[1], 1, NULL);
    run_without_handlers(&n[0], 0, NULL);
    run_without_handlers(&n[2], 2, NULL);
    cohort_queue *queue = new_queue(&n[1], 8);
    assert_int_equal(cohort_queue_fd(queue), -1);
    assert_int_equal(cohort_queue_dispatch(queue, 10), 0);
    handle_in(&n[1], queue, NULL, take_ordered, NULL, NULL);
    meet(&n[0], &n[1], 1);
    meet(&n[2], &n[1], 1);
    for (uint32_t i = 0; i < EACH; i++) {
        for (unsigned j = 0; j < SUBJECTS; j++) {
            char subject[] = {'s', (char)('0' + j), '\0'};
            assert_int_equal(send_number(&n[0], 1, subject, i, 100), COHORT_OK);
            assert_int_equal(send_number(&n[2], 1, subject, i, 100), COHORT_OK);
        }
    }
    WAIT_FOR(all_ordered());
    for (unsigned i = 0; i < 2 * SUBJECTS; i++) {
        assert_int_equal(atomic_load(&ordered[i / SUBJECTS][i % SUBJECTS].wrong), 0);
    }
    assert_int_equal(rig_close(&n[0]), COHORT_OK);
    assert_int_equal(rig_close(&n[2]), COHORT_OK);
    assert_int_equal(rig_close(&n[1]), COHORT_OK);
}

/* ---- several handlers ----------------------------------------------------------------------------------------------- */

static void queued_and_inline_handlers_of_one_subject(void **state)
{
    static struct rig_node n[2];
    struct sink here = {0}, first = {0}, second = {0}, pool = {0};
    run_limited(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 0), *other = new_queue(&n[1], 0), *threads = new_queue(&n[1], 2);
    handle_in(&n[1], queue, "all", take_in_order, &first, NULL);
    handle_in(&n[1], NULL, "all", take_in_order, &here, NULL);
    handle_in(&n[1], other, "all", take_in_order, &second, NULL);
    handle_in(&n[1], threads, "all", take_in_order, &pool, NULL);
    send_numbers(&n[0], "all", 0, 200);
    WAIT_FOR(atomic_load(&here.handled) == 200 && atomic_load(&pool.handled) == 200);
    assert_int_equal(cohort_queue_dispatch(other, SIZE_MAX), 200);
    assert_int_equal(cohort_queue_dispatch(queue, SIZE_MAX), 200);
    unsigned wrong = atomic_load(&here.wrong) + atomic_load(&first.wrong) + atomic_load(&second.wrong) + atomic_load(&pool.wrong);
    assert_int_equal(wrong, 0);
    rig_close_pair(n);
}

/* So many handlers of a subject have queues, and all of them run; one more is refused, not forgotten. */
static void as_many_as_may_have_queues_are_called(void **state)
{
    static struct rig_node n[2];
    struct sink sinks[COHORTI_HANDLERS_QUEUED_MAX] = {0}, more = {0};
    cohort_handle_id ids[COHORTI_HANDLERS_QUEUED_MAX], id = 0;
    run_limited(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 0);
    for (size_t i = 0; i < UNIT_COUNT(sinks); i++) {
        ids[i] = handle_in(&n[1], queue, "all", take_in_order, &sinks[i], NULL);
    }
    assert_int_equal(cohort_handle_in(n[1].node, queue, "all", take_in_order, &more, on_sink_release, &id), COHORT_ELIMIT);
    handle_in(&n[1], queue, "other", take_in_order, &more, NULL);
    handle_in(&n[1], NULL, "all", take_in_order, &more, NULL);
    send_numbers(&n[0], "all", 0, 10);
    WAIT_FOR(atomic_load(&more.handled) == 10);
    assert_int_equal(cohort_queue_dispatch(queue, SIZE_MAX), 10 * UNIT_COUNT(sinks));
    for (size_t i = 0; i < UNIT_COUNT(sinks); i++) {
        assert_int_equal(atomic_load(&sinks[i].handled), 10);
        assert_int_equal(atomic_load(&sinks[i].wrong), 0);
    }
    assert_int_equal(cohort_unhandle(n[1].node, ids[3]), COHORT_OK);
    handle_in(&n[1], queue, "all", take_in_order, &sinks[3], NULL);
    rig_close_pair(n);
}

static void a_queue_belongs_to_its_node(void **state)
{
    static struct rig_node n[2];
    struct sink s = {0};
    cohort_handle_id id = 0;
    run_limited(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 0), *none = NULL;
    assert_int_equal(cohort_handle_in(n[0].node, queue, "x", take_in_order, &s, on_sink_release, &id), COHORT_EINVAL);
    assert_int_equal(cohort_queue_open(n[0].node, COHORT_QUEUE_THREADS_MAX + 1, &none), COHORT_EINVAL);
    assert_int_equal(cohort_queue_close(NULL), COHORT_OK);
    rig_close_pair(n);
    assert_int_equal(atomic_load(&s.released), 0);
}

/* ---- requests ------------------------------------------------------------------------------------------------------- */

static void keep_for_later(cohort_node *node, const cohort_message *message, void *arg)
{
    struct answerer *s = arg;
    s->kept[0] = cohort_call_keep(message->call);
    atomic_fetch_add(&s->wrong, s->kept[0] == NULL);
}

static void requests_are_answered_from_a_queue(void **state)
{
    static struct rig_node n[2];
    struct asked same = {0}, later = {0}, silent = {0};
    struct answerer s = {0};
    run_limited(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 0);
    handle_in(&n[1], queue, "same", reply_same, &s, NULL);
    handle_in(&n[1], queue, "silent", say_nothing, &s, NULL);
    handle_in(&n[1], queue, "later", keep_for_later, &s, NULL);
    ask(&n[0], 1, "same", "hello", 20000, &same);
    ask(&n[0], 1, "silent", "", 20000, &silent);
    WAIT_FOR(cohort_queue_dispatch(queue, 1) == 1);
    expect_result(&same, COHORT_OK);
    assert_memory_equal(same.data, "hello", 5);
    assert_true(atomic_load(&s.left_ms) > 0 && atomic_load(&s.left_ms) <= 20000);
    WAIT_FOR(cohort_queue_dispatch(queue, 1) == 1);
    expect_result(&silent, COHORT_ENOREPLY);
    ask(&n[0], 1, "later", "", 20000, &later);
    WAIT_FOR(cohort_queue_dispatch(queue, 1) == 1);
    assert_int_equal(atomic_load(&later.calls), 0);
    assert_int_equal(cohort_reply(s.kept[0], "kept", 4), COHORT_OK);
    expect_result(&later, COHORT_OK);
    assert_int_equal(atomic_load(&s.wrong), 0);
    rig_close_pair(n);
}

/* A call is replied to by one: of several handlers in queues the first has it, the others see the message. */
static void see_no_call(cohort_node *node, const cohort_message *message, void *arg)
{
    struct answerer *s = arg;
    atomic_fetch_add(&s->wrong, message->call != NULL || message->data_len != 5);
    atomic_fetch_add(&s->handled, 1);
}

static void a_request_with_several_handlers(void **state)
{
    static struct rig_node n[2];
    struct asked a = {0};
    struct answerer first = {0}, others = {0};
    run_limited(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 0), *threads = new_queue(&n[1], 1);
    handle_in(&n[1], NULL, "ask", see_no_call, &others, NULL);
    handle_in(&n[1], queue, "ask", reply_same, &first, NULL);
    handle_in(&n[1], threads, "ask", see_no_call, &others, NULL);
    handle_in(&n[1], queue, "ask", see_no_call, &others, NULL);
    ask(&n[0], 1, "ask", "hello", 10000, &a);
    WAIT_FOR((cohort_queue_dispatch(queue, 10), atomic_load(&others.handled) == 3) || totals(&n[1]).links_closed > 0);
    assert_int_equal(totals(&n[1]).links_closed, 0);
    expect_result(&a, COHORT_OK);
    assert_int_equal(atomic_load(&first.handled), 1);
    assert_int_equal(atomic_load(&first.wrong) + atomic_load(&others.wrong), 0);
    rig_close_pair(n);
}

/* ---- the end of handlers, queues and nodes ----------------------------------------------------------------------------- */

static void a_handler_taken_back_runs_no_more(void **state)
{
    static struct rig_node n[2];
    struct sink s = {0};
    struct asked a = {0};
    run_limited(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 0);
    cohort_handle_id id = handle_in(&n[1], queue, "queued", take_in_order, &s, on_sink_release);
    send_numbers(&n[0], "queued", 0, 10);
    ask(&n[0], 1, "queued", "?", 20000, &a);
    all_has_arrived(&n[0]);
    assert_int_equal(cohort_queue_dispatch(queue, 4), 4);
    assert_int_equal(cohort_unhandle(n[1].node, id), COHORT_OK);
    assert_int_equal(atomic_load(&s.released), 0); /* its messages hold it */
    assert_int_equal(cohort_queue_dispatch(queue, 100), 7);
    assert_int_equal(atomic_load(&s.handled), 4);
    expect_result(&a, COHORT_ENOREPLY);
    WAIT_FOR(atomic_load(&s.released) == 1);
    assert_int_equal(totals(&n[1]).messages_unhandled, 7);
    WAIT_FOR(cohort_queue_close(queue) == COHORT_OK);
    rig_close_pair(n);
}

static void a_queue_is_closed_with_what_waits(void **state)
{
    static struct rig_node n[2];
    struct sink s = {0};
    struct asked a = {0};
    run_limited(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 0);
    cohort_handle_id id = handle_in(&n[1], queue, "queued", take_in_order, &s, on_sink_release);
    send_numbers(&n[0], "queued", 0, 10);
    ask(&n[0], 1, "queued", "?", 20000, &a);
    all_has_arrived(&n[0]);
    assert_int_equal(cohort_queue_close(queue), COHORT_ESTATE);
    assert_true(is_readable(queue));
    assert_int_equal(cohort_unhandle(n[1].node, id), COHORT_OK);
    WAIT_FOR(cohort_queue_close(queue) == COHORT_OK);
    assert_int_equal(atomic_load(&s.released), 1);
    assert_int_equal(atomic_load(&s.handled), 0);
    assert_int_equal(totals(&n[1]).messages_unhandled, 11);
    expect_result(&a, COHORT_ENOREPLY);
    rig_close_pair(n);
}

static void a_node_is_closed_with_what_waits(void **state)
{
    static struct rig_node n[2];
    struct sink s = {0};
    struct asked a = {0};
    run_limited(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 0);
    handle_in(&n[1], queue, "queued", take_in_order, &s, on_sink_release);
    send_numbers(&n[0], "queued", 0, 10);
    ask(&n[0], 1, "queued", "?", 0, &a);
    all_has_arrived(&n[0]);
    assert_int_equal(rig_close(&n[1]), COHORT_OK);
    assert_int_equal(atomic_load(&s.released), 1);
    assert_int_equal(atomic_load(&s.handled), 0);
    assert_int_equal(rig_close(&n[0]), COHORT_OK);
    assert_int_equal(atomic_load(&a.calls), 1); /* the process is gone, and so are we */
}

/* What threads have acknowledged they handle, while there is time. */
static void a_node_that_closes_lets_its_threads_finish(void **state)
{
    static struct rig_node n[2];
    struct sink s = {0};
    run_limited(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 2);
    handle_in(&n[1], queue, "queued", take_in_order, &s, on_sink_release);
    atomic_store(&s.hold, true);
    send_numbers(&n[0], "queued", 0, 500);
    all_has_arrived(&n[0]);
    assert_int_equal(rig_close(&n[0]), COHORT_OK);
    WAIT_FOR(atomic_load(&s.inside));
    atomic_store(&s.hold, false);
    assert_int_equal(rig_close(&n[1]), COHORT_OK);
    assert_int_equal(atomic_load(&s.handled), 500);
    assert_int_equal(atomic_load(&s.wrong), 0);
    assert_int_equal(atomic_load(&s.released), 1);
}

/* Each takes longer than the time the node has to close. */
static void take_long(cohort_node *node, const cohort_message *message, void *arg)
{
    struct sink *s = arg;
    uint64_t until = clock_ms() + 20;
    atomic_store(&s->inside, true);
    while (clock_ms() < until) {
        sched_yield();
    }
    atomic_fetch_add(&s->handled, 1);
}

static void a_node_that_closes_waits_for_its_threads_no_longer_than_it_should(void **state)
{
    static struct rig_node n[2];
    struct sink s = {0};
    run_limited(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 1);
    handle_in(&n[1], queue, "queued", take_long, &s, on_sink_release);
    send_numbers(&n[0], "queued", 0, 1000);
    all_has_arrived(&n[0]);
    WAIT_FOR(atomic_load(&s.inside));
    int status = cohort_node_close(n[1].node, 10);
    assert_true(status == COHORT_OK || status == COHORT_ETIMEDOUT);
    assert_int_equal(atomic_load(&n[1].memory.blocks), 0);
    assert_true(atomic_load(&s.handled) < 1000);
    assert_int_equal(atomic_load(&s.released), 1);
    assert_int_equal(rig_close(&n[0]), COHORT_OK);
}

static void close_from_inside(cohort_node *node, const cohort_message *message, void *arg)
{
    struct sink *s = arg;
    atomic_fetch_add(&s->wrong, cohort_node_close(node, 0) != COHORT_ECALLBACK);
    atomic_fetch_add(&s->handled, 1);
}

static void a_node_is_not_closed_by_a_handler_in_a_queue(void **state)
{
    static struct rig_node n[2];
    struct sink polled = {0}, pool = {0};
    run_limited(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 0), *threads = new_queue(&n[1], 1);
    handle_in(&n[1], queue, "close", close_from_inside, &polled, NULL);
    handle_in(&n[1], threads, "close", close_from_inside, &pool, NULL);
    send_numbers(&n[0], "close", 0, 1);
    WAIT_FOR(cohort_queue_dispatch(queue, 1) == 1);
    WAIT_FOR(atomic_load(&pool.handled) == 1);
    assert_int_equal(atomic_load(&polled.wrong) + atomic_load(&pool.wrong), 0);
    rig_close_pair(n);
}

struct reentrant {
    cohort_queue *queue;
    cohort_handle_id id;
    struct sink sink;
};

/* A handler takes itself back and asks to close its queue; its node still stands and sends. */
static void take_back_and_close(cohort_node *node, const cohort_message *message, void *arg)
{
    struct reentrant *r = arg;
    atomic_fetch_add(&r->sink.wrong, cohort_unhandle(node, r->id) != COHORT_OK);
    atomic_fetch_add(&r->sink.wrong, cohort_queue_close(r->queue) != COHORT_ECALLBACK);
    atomic_fetch_add(&r->sink.wrong, cohort_send(node, message->from, "back", "x", 1) != COHORT_OK);
    atomic_fetch_add(&r->sink.handled, 1);
}

static void on_reentrant_release(void *arg)
{
    struct reentrant *r = arg;
    atomic_fetch_add(&r->sink.released, 1);
}

static void a_handler_takes_itself_back(void **state)
{
    for (uint32_t threads = 0; threads < 2; threads++) {
        static struct rig_node n[2];
        run_limited(n, NULL);
        struct reentrant r = {.queue = new_queue(&n[1], threads)};
        r.id = handle_in(&n[1], r.queue, "queued", take_back_and_close, &r, on_reentrant_release);
        send_numbers(&n[0], "queued", 0, 5);
        WAIT_FOR((cohort_queue_dispatch(r.queue, 1), atomic_load(&r.sink.handled) > 0));
        all_has_arrived(&n[0]);
        WAIT_FOR((cohort_queue_dispatch(r.queue, SIZE_MAX), atomic_load(&r.sink.released) == 1));
        assert_int_equal(atomic_load(&r.sink.handled), 1);
        assert_int_equal(atomic_load(&r.sink.wrong), 0);
        WAIT_FOR(cohort_queue_close(r.queue) == COHORT_OK);
        rig_close_pair(n);
    }
}

/* Members come and go, handlers and queues too, while messages flow: nothing is used after its end. */
static void queues_and_members_come_and_go(void **state)
{
    static struct rig_node n[2];
    static struct sink s; /* not in order: sessions end */
    memset(&s, 0, sizeof s);
    run_limited(n, NULL);
    for (unsigned round = 0; round < 30; round++) {
        cohort_queue *queue = new_queue(&n[1], round % 3);
        cohort_handle_id id = handle_in(&n[1], queue, "queued", take_in_order, &s, on_sink_release);
        for (uint32_t i = 0; i < 50; i++) {
            int status = send_number(&n[0], 1, "queued", i, MESSAGE_BYTES);
            assert_true(status == COHORT_OK || status == COHORT_ENOPEER);
        }
        if (round % 2 == 0) {
            assert_int_equal(cohort_node_remove(n[round / 2 % 2].node, address(1 - round / 2 % 2)), COHORT_OK);
        } else {
            (void)break_links();
        }
        (void)cohort_queue_dispatch(queue, round);
        assert_int_equal(cohort_unhandle(n[1].node, id), COHORT_OK);
        WAIT_FOR(cohort_queue_close(queue) == COHORT_OK);
        assert_int_equal(atomic_load(&s.released), round + 1);
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(cohort_node_add(n[i].node, address(1 - i), address(1 - i), PORT), COHORT_OK);
        }
        WAIT_FOR(both_are_active(n));
    }
    close_whatever(n);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        node_test(readable_exactly_while_something_waits),
        node_test(copies_survive_the_link),
        node_test(threads_keep_the_order_of_a_member_and_subject),
        node_test(queued_and_inline_handlers_of_one_subject),
        node_test(as_many_as_may_have_queues_are_called),
        node_test(a_queue_belongs_to_its_node),
        node_test(requests_are_answered_from_a_queue),
        node_test(a_request_with_several_handlers),
        node_test(a_handler_taken_back_runs_no_more),
        node_test(a_queue_is_closed_with_what_waits),
        node_test(a_node_is_closed_with_what_waits),
        node_test(a_node_that_closes_lets_its_threads_finish),
        node_test(a_node_that_closes_waits_for_its_threads_no_longer_than_it_should),
        node_test(a_node_is_not_closed_by_a_handler_in_a_queue),
        node_test(a_handler_takes_itself_back),
        node_test(queues_and_members_come_and_go),
    };
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL); /* one by name, in a debugger */
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
