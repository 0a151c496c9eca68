/* SPDX-License-Identifier: Apache-2.0
 *
 * node/queue: messages that wait in one entry, since they came one after the other: handled in part, taken back in the middle, by several
 * threads. Order, count and credit are those of single ones.
 *
 * The receiver's loop is held by a handler until all has been written, so that it finds one batch: then it is known what waits in how many
 * entries.
 */
#include "gate.h"

#include "node/queue_internal.h"

#define SMALL 64
static void run_with_gate(struct rig_node *n, const cohort_limits *limits)
{
    run_limited(n, limits);
    handle_gate(&n[1]);
}

static void send_burst(struct rig_node *n, const char *subject, uint32_t first, uint32_t count, size_t len)
{
    hold_loop(n);
    for (uint32_t i = first; i < first + count; i++) {
        assert_int_equal(send_number(&n[0], 1, subject, i, len), COHORT_OK);
    }
    release_loop(n, count * FRAME(len));
}

/* What waits in a queue without threads. */
static unsigned count_waiting(cohort_queue *queue, unsigned *messages)
{
    struct shard *shard = &queue->shards[0];
    unsigned entries = 0;
    *messages = 0;
    cohorti_mutex_lock(&shard->lock);
    COHORTI_LIST_FOREACH (it, &shard->waiting) {
        *messages += COHORTI_CONTAINER(it, struct queued, node)->count;
        entries++;
    }
    cohorti_mutex_unlock(&shard->lock);
    return entries;
}

static void expect_waiting(cohort_queue *queue, unsigned messages)
{
    unsigned found = 0;
    unsigned entries = count_waiting(queue, &found);
    assert_int_equal(found, messages);
    assert_int_equal(entries > 0, messages > 0);
    assert_int_equal(is_readable(queue), messages > 0);
}

static void a_burst_waits_in_few_entries_and_comes_out_as_asked(void **state)
{
    static struct rig_node n[2];
    struct sink s = {0};
    run_with_gate(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 0);
    handle_in(&n[1], queue, "queued", take_in_order, &s, NULL);
    send_burst(n, "queued", 0, 1000, SMALL);
    unsigned left = 0;
    assert_true(count_waiting(queue, &left) <= 1000 / 20); /* not all of it may be there when the first is read */
    assert_int_equal(left, 1000);
    static const size_t parts[] = {1, 1, 31, 32, 33, 1, 256, 0, 255, 300};
    for (size_t i = 0; i < UNIT_COUNT(parts); i++) {
        size_t expected = parts[i] < left ? parts[i] : left;
        assert_int_equal(cohort_queue_dispatch(queue, parts[i]), expected);
        left -= (unsigned)expected;
        expect_waiting(queue, left);
    }
    assert_int_equal(cohort_queue_dispatch(queue, left), left); /* as many as there are: then it is empty, and says so */
    expect_waiting(queue, 0);
    assert_int_equal(cohort_queue_dispatch(queue, 1), 0);
    assert_int_equal(atomic_load(&s.handled), 1000);
    assert_int_equal(atomic_load(&s.wrong), 0);
    rig_close_pair(n);
}

/* One lane, so one order: whatever the subjects, the sizes, and who shares an entry. */
static void subjects_and_sizes_keep_their_order(void **state)
{
    static struct rig_node n[2];
    static const char *const subjects[] = {"a", "b", "b", "a", "a", "c"};
    static const size_t sizes[] = {4, 5, 64, 64, 64, 64, 1000, 16000, 17000, 64, 64, 70000, 7, 8, 9};
    struct sink s = {0};
    run_with_gate(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 0);
    for (size_t i = 0; i < 3; i++) {
        handle_in(&n[1], queue, (const char *[]){"a", "b", "c"}[i], take_in_order, &s, NULL);
    }
    hold_loop(n);
    for (uint32_t i = 0; i < 600; i++) {
        size_t turn = i < 300 ? i : i / 20;
        size_t size = sizes[i % UNIT_COUNT(sizes)];
        assert_int_equal(send_number(&n[0], 1, subjects[turn % UNIT_COUNT(subjects)], i, size < 20000 || i % 4 == 0 ? size : 6),
                         COHORT_OK);
    }
    release_loop(n, WRITTEN_MAX);
    while (atomic_load(&s.handled) < 600) {
        size_t handled = cohort_queue_dispatch(queue, 17);
        assert_int_equal(handled, atomic_load(&s.handled) < 600 ? 17 : 600 % 17);
    }
    expect_waiting(queue, 0);
    assert_int_equal(atomic_load(&s.wrong), 0);
    rig_close_pair(n);
}

/* A request does not share an entry, and a large one not even the memory. */
static void requests_between_runs_keep_their_order(void **state)
{
    static struct rig_node n[2];
    static struct asked asked[4];
    static uint8_t data[20000];
    struct sink s = {0};
    memset(asked, 0, sizeof asked);
    run_with_gate(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 0);
    handle_in(&n[1], queue, "queued", take_in_order, &s, NULL);
    hold_loop(n);
    for (uint32_t i = 0; i < 100; i++) {
        struct asked *a = &asked[i / 25];
        size_t len = i < 50 ? sizeof data : SMALL;
        memset(data, (uint8_t)i, len);
        memcpy(data, &i, sizeof i);
        int status = i % 25 == 10 ? cohort_request(n[0].node, address(1), "queued", data, len, 0, on_result, a, &a->id)
                                  : send_number(&n[0], 1, "queued", i, SMALL);
        assert_int_equal(status, COHORT_OK);
    }
    release_loop(n, 96 * FRAME(SMALL) + 2 * FRAME(sizeof data) + 2 * FRAME(SMALL));
    assert_int_equal(cohort_queue_dispatch(queue, SIZE_MAX), 100);
    assert_int_equal(atomic_load(&s.wrong), 0);
    for (unsigned i = 0; i < UNIT_COUNT(asked); i++) {
        expect_result(&asked[i], COHORT_ENOREPLY);
    }
    rig_close_pair(n);
}

/* What goes to several handlers does not share an entry; what goes to one before and after it does, and does not overtake it. */
static void several_handlers_between_runs(void **state)
{
    static struct rig_node n[2];
    struct sink queued = {0}, other = {0}, here = {0}, pool = {0};
    run_with_gate(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 0), *threads = new_queue(&n[1], 2);
    handle_in(&n[1], queue, "one", take_in_order, &queued, NULL);
    handle_in(&n[1], queue, "all", take_in_order, &queued, NULL);
    handle_in(&n[1], queue, "all", take_in_order, &other, NULL);
    handle_in(&n[1], NULL, "all", take_in_order, &here, NULL);
    handle_in(&n[1], threads, "all", take_in_order, &pool, NULL);
    uint32_t all = 0;
    atomic_store(&other.next, 0);
    hold_loop(n);
    for (uint32_t i = 0; i < 400; i++) {
        bool to_all = i % 50 == 49;
        assert_int_equal(send_number(&n[0], 1, to_all ? "all" : "one", i, SMALL), COHORT_OK);
        all += to_all;
    }
    release_loop(n, 400 * FRAME(SMALL));
    assert_int_equal(cohort_queue_dispatch(queue, SIZE_MAX), 400 + all);
    assert_int_equal(atomic_load(&queued.handled), 400);
    assert_int_equal(atomic_load(&queued.wrong), 0);
    WAIT_FOR(atomic_load(&pool.handled) == all);
    assert_int_equal(atomic_load(&other.handled), all);
    assert_int_equal(atomic_load(&here.handled), all);
    expect_waiting(queue, 0);
    rig_close_pair(n);
}

/* ---- in the middle ---------------------------------------------------------------------------------------------------- */

static void a_handler_taken_back_in_the_middle(void **state)
{
    static struct rig_node n[2];
    struct sink s = {0}, other = {0};
    run_with_gate(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 0), *closing = new_queue(&n[1], 0);
    cohort_handle_id id = handle_in(&n[1], queue, "queued", take_in_order, &s, on_sink_release);
    handle_in(&n[1], queue, "other", take_in_order, &other, NULL);
    send_burst(n, "queued", 0, 200, SMALL);
    send_burst(n, "other", 0, 10, SMALL);
    assert_int_equal(cohort_queue_dispatch(queue, 100), 100);
    assert_int_equal(cohort_unhandle(n[1].node, id), COHORT_OK);
    assert_int_equal(atomic_load(&s.released), 0);
    assert_int_equal(cohort_queue_dispatch(queue, 50), 50);
    assert_int_equal(totals(&n[1]).messages_unhandled, 50);
    assert_int_equal(cohort_queue_dispatch(queue, SIZE_MAX), 60);
    assert_int_equal(totals(&n[1]).messages_unhandled, 100);
    assert_int_equal(atomic_load(&s.handled), 100);
    assert_int_equal(atomic_load(&other.handled), 10);
    WAIT_FOR(atomic_load(&s.released) == 1);
    /* and the queue closed with what is left */
    id = handle_in(&n[1], closing, "queued", take_in_order, &s, on_sink_release);
    send_burst(n, "queued", 100, 200, SMALL);
    assert_int_equal(cohort_queue_dispatch(closing, 70), 70);
    assert_int_equal(cohort_unhandle(n[1].node, id), COHORT_OK);
    WAIT_FOR(cohort_queue_close(closing) == COHORT_OK);
    assert_int_equal(totals(&n[1]).messages_unhandled, 230);
    assert_int_equal(atomic_load(&s.handled), 170);
    assert_int_equal(atomic_load(&s.wrong) + atomic_load(&other.wrong), 0);
    rig_close_pair(n);
}

struct leaving {
    cohort_queue *queue;
    cohort_handle_id id;
    unsigned at;
    struct sink sink;
};

static void take_back_at(cohort_node *node, const cohort_message *message, void *arg)
{
    struct leaving *l = arg;
    take_in_order(node, message, &l->sink);
    if (atomic_load(&l->sink.handled) == l->at) {
        atomic_fetch_add(&l->sink.wrong, cohort_unhandle(node, l->id) != COHORT_OK);
        atomic_fetch_add(&l->sink.wrong, cohort_queue_close(l->queue) != COHORT_ECALLBACK);
    }
}

static void a_handler_takes_itself_back_in_the_middle(void **state)
{
    for (uint32_t threads = 0; threads < 2; threads++) {
        static struct rig_node n[2];
        run_with_gate(n, NULL);
        struct leaving l = {.queue = new_queue(&n[1], threads), .at = 37};
        l.id = handle_in(&n[1], l.queue, "queued", take_back_at, &l, NULL);
        send_burst(n, "queued", 0, 100, SMALL);
        (void)cohort_queue_dispatch(l.queue, SIZE_MAX);
        WAIT_FOR(totals(&n[1]).messages_unhandled == 63);
        assert_int_equal(atomic_load(&l.sink.handled), 37);
        assert_int_equal(atomic_load(&l.sink.wrong), 0);
        WAIT_FOR(cohort_queue_close(l.queue) == COHORT_OK);
        rig_close_pair(n);
    }
}

/* The handler of the first one returns when the node's time is over. */
struct late {
    struct sink sink;
    cohort_queue *queue;
};

static void outlast_the_node(cohort_node *node, const cohort_message *message, void *arg)
{
    struct late *l = arg;
    const struct shard *shard = &l->queue->shards[0];
    atomic_store(&l->sink.inside, true);
    uint64_t deadline_ns = 0;
    while (deadline_ns == 0 || cohorti_now(node) < deadline_ns) {
        deadline_ns = atomic_load(&shard->deadline_ns);
        sched_yield();
    }
    atomic_fetch_add(&l->sink.handled, 1);
}

static void the_time_to_close_ends_in_the_middle(void **state)
{
    static struct rig_node n[2];
    run_with_gate(n, NULL);
    struct late l = {.queue = new_queue(&n[1], 1)};
    handle_in(&n[1], l.queue, "queued", outlast_the_node, &l, on_sink_release);
    send_burst(n, "queued", 0, 200, SMALL);
    WAIT_FOR(atomic_load(&l.sink.inside));
    int status = cohort_node_close(n[1].node, 10);
    assert_true(status == COHORT_OK || status == COHORT_ETIMEDOUT);
    assert_int_equal(atomic_load(&l.sink.handled), 1);
    assert_int_equal(atomic_load(&l.sink.released), 1);
    assert_int_equal(atomic_load(&n[1].memory.blocks), 0);
    assert_int_equal(rig_close(&n[0]), COHORT_OK);
}

static void a_node_is_closed_in_the_middle(void **state)
{
    static struct rig_node n[2];
    struct sink s = {0};
    run_with_gate(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 0);
    handle_in(&n[1], queue, "queued", take_in_order, &s, on_sink_release);
    send_burst(n, "queued", 0, 200, SMALL);
    assert_int_equal(cohort_queue_dispatch(queue, 99), 99);
    assert_int_equal(rig_close(&n[1]), COHORT_OK);
    assert_int_equal(atomic_load(&s.handled), 99);
    assert_int_equal(atomic_load(&s.released), 1);
    assert_int_equal(rig_close(&n[0]), COHORT_OK);
}

/* ---- who empties ------------------------------------------------------------------------------------------------------ */

#define TAKEN_MAX 3000

struct taken {
    cohort_queue *queue;
    _Atomic unsigned times[TAKEN_MAX], handled, wrong;
    _Atomic bool nested;
};

static void take_once(cohort_node *node, const cohort_message *message, void *arg)
{
    struct taken *t = arg;
    uint32_t number = number_of(message->data, message->data_len);
    bool expected = number < TAKEN_MAX && is_intact(message->data, message->data_len);
    atomic_fetch_add(&t->wrong, !expected || atomic_fetch_add(&t->times[number], 1) != 0);
    if (atomic_fetch_add(&t->handled, 1) % 50 == 10 && !atomic_exchange(&t->nested, true)) {
        (void)cohort_queue_dispatch(t->queue, number % 100);
        atomic_store(&t->nested, false);
    }
}

static void *empty_in_parts(void *arg)
{
    struct taken *t = arg;
    for (size_t part = 1; atomic_load(&t->handled) < TAKEN_MAX; part = part % 300 + 7) {
        (void)cohort_queue_dispatch(t->queue, part);
        sched_yield();
    }
    return NULL;
}

/* By handlers from within, and by several threads: nobody promises an order then, but each comes once. */
static void each_is_handled_once_whoever_empties(void **state)
{
    static struct rig_node n[2];
    for (unsigned others = 0; others < 3; others += 2) {
        static struct taken t;
        pthread_t threads[2];
        memset(&t, 0, sizeof t);
        run_with_gate(n, NULL);
        t.queue = new_queue(&n[1], 0);
        handle_in(&n[1], t.queue, "queued", take_once, &t, NULL);
        for (unsigned i = 0; i < others; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, empty_in_parts, &t), 0);
        }
        for (uint32_t i = 0; i < TAKEN_MAX; i += 500) {
            send_burst(n, "queued", i, 500, SMALL);
        }
        (void)empty_in_parts(&t);
        for (unsigned i = 0; i < others; i++) {
            pthread_join(threads[i], NULL);
        }
        assert_int_equal(cohort_queue_dispatch(t.queue, SIZE_MAX), 0);
        expect_waiting(t.queue, 0);
        assert_int_equal(atomic_load(&t.handled), TAKEN_MAX);
        assert_int_equal(atomic_load(&t.wrong), 0);
        rig_close_pair(n);
    }
}

static void find_it_empty(cohort_node *node, const cohort_message *message, void *arg)
{
    struct taken *t = arg;
    atomic_fetch_add(&t->wrong, cohort_queue_dispatch(t->queue, SIZE_MAX) != 0);
    atomic_fetch_add(&t->handled, 1);
}

/* All of it is one entry, and in the hands of a call that handles some of it: to another the queue is empty, then it is not. */
static void what_is_put_back_is_told_of(void **state)
{
    static struct rig_node n[2];
    static struct taken t;
    memset(&t, 0, sizeof t);
    run_with_gate(n, NULL);
    t.queue = new_queue(&n[1], 0);
    handle_in(&n[1], t.queue, "queued", find_it_empty, &t, NULL);
    send_burst(n, "queued", 0, 50, SMALL);
    unsigned waiting = 0;
    assert_int_equal(count_waiting(t.queue, &waiting), 1);
    for (unsigned i = 1; i <= 50; i++) {
        assert_int_equal(cohort_queue_dispatch(t.queue, 1), 1);
        expect_waiting(t.queue, 50 - i);
    }
    assert_int_equal(atomic_load(&t.handled), 50);
    assert_int_equal(atomic_load(&t.wrong), 0);
    rig_close_pair(n);
}

static struct sink ordered[3];

static void take_ordered(cohort_node *node, const cohort_message *message, void *arg)
{
    take_in_order(node, message, &ordered[message->subject[0] - 'a']);
}

static void threads_keep_the_order_of_runs(void **state)
{
    static struct rig_node n[2];
    memset(ordered, 0, sizeof ordered);
    run_with_gate(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 3);
    handle_in(&n[1], queue, NULL, take_ordered, NULL, NULL); /* one handler of all, so that only their subjects tell them apart */
    for (uint32_t round = 0; round < 20; round++) {
        hold_loop(n);
        for (uint32_t i = 0; i < 900; i++) {
            static const char *const subjects[] = {"a", "b", "c"};
            size_t subject = round % 2 == 0 ? i / 300 : i % 3;
            uint32_t number = round * 300 + (round % 2 == 0 ? i % 300 : i / 3);
            assert_int_equal(send_number(&n[0], 1, subjects[subject], number, SMALL), COHORT_OK);
        }
        release_loop(n, 900 * FRAME(SMALL));
    }
    for (unsigned i = 0; i < 3; i++) {
        WAIT_FOR(atomic_load(&ordered[i].handled) == 6000);
        assert_int_equal(atomic_load(&ordered[i].wrong), 0);
    }
    rig_close_pair(n);
}

/* ---- credit ----------------------------------------------------------------------------------------------------------- */

/* In parts of every size, each round as much as the window holds: what were not given back, or given back twice, would add up. */
static void parts_give_back_exactly_what_they_took(void **state)
{
    static struct rig_node n[2];
    struct sink s = {0};
    cohort_limits limits = small_limits();
    run_with_gate(n, &limits);
    cohort_queue *queue = new_queue(&n[1], 0);
    handle_in(&n[1], queue, "queued", take_in_order, &s, NULL);
    uint32_t next = 0;
    for (size_t part = 1; part < 1500; part += 1 + part / 3) {
        uint32_t filled = fill_up(&n[0], 1, "queued", next, SMALL);
        unsigned waiting = 0;
        (void)count_waiting(queue, &waiting);
        assert_true(waiting * FRAME(SMALL) >= SMALL_LANE - FRAME(SMALL));
        assert_true(waiting * FRAME(SMALL) <= SMALL_LANE + RUN_BYTES);
        WAIT_FOR((cohort_queue_dispatch(queue, part), atomic_load(&s.next) == filled));
        next = filled;
    }
    WAIT_FOR(unacknowledged(&n[0], 1) == 0);
    struct peer *peer = cohorti_peer_find(n[1].node, address(0));
    assert_non_null(peer);
    assert_int_equal(rig_close(&n[0]), COHORT_OK);
    WAIT_FOR(cohort_node_state(n[1].node, address(0)) != COHORT_ACTIVE);
    uint64_t consumed = atomic_load(&peer->consumed[COHORT_LANE_NORMAL]);
    assert_int_equal(peer->inbound.lanes[COHORT_LANE_NORMAL].waiting, consumed); /* no link reads it any more */
    cohorti_peer_unref(peer);
    assert_int_equal(atomic_load(&s.wrong), 0);
    assert_int_equal(rig_close(&n[1]), COHORT_OK);
}

struct held {
    struct sink sink;
    struct peer *peer;
    uint64_t before, most; /* bytes of what was handled and not given back */
};

static uint64_t consumed(const struct held *h)
{
    return atomic_load(&h->peer->consumed[COHORT_LANE_NORMAL]) - h->before;
}

static void see_what_is_held(cohort_node *node, const cohort_message *message, void *arg)
{
    struct held *h = arg;
    uint64_t holds = atomic_load(&h->sink.handled) * FRAME(message->data_len) - consumed(h);
    h->most = holds > h->most ? holds : h->most;
    take_in_order(node, message, &h->sink);
}

/* However long an entry is, a handler that takes its time has but a little behind it that is not given back. */
static void credit_is_given_back_along_a_run(void **state)
{
    static struct rig_node n[2];
    static const size_t sizes[] = {SMALL, 1000};
    run_with_gate(n, NULL);
    cohort_queue *queue = new_queue(&n[1], 0);
    struct held h = {.peer = cohorti_peer_find(n[1].node, address(0))};
    handle_in(&n[1], queue, "queued", see_what_is_held, &h, NULL);
    for (size_t i = 0; i < UNIT_COUNT(sizes); i++) {
        atomic_store(&h.sink.handled, 0);
        atomic_store(&h.sink.next, 0);
        h.most = 0;
        send_burst(n, "queued", 0, 200, sizes[i]);
        hold_loop(n); /* so that nobody takes what is given back */
        h.before = atomic_load(&h.peer->consumed[COHORT_LANE_NORMAL]);
        assert_int_equal(cohort_queue_dispatch(queue, 150), 150);
        assert_int_equal(consumed(&h), 150 * FRAME(sizes[i]));
        assert_int_equal(cohort_queue_dispatch(queue, 150), 50);
        assert_int_equal(consumed(&h), 200 * FRAME(sizes[i]));
        assert_true(h.most <= 32 * FRAME(sizes[i]) && h.most <= COHORTI_ACK_BYTES / 4 + FRAME(sizes[i]));
        release_loop(n, 0);
    }
    cohorti_peer_unref(h.peer);
    assert_int_equal(atomic_load(&h.sink.wrong), 0);
    rig_close_pair(n);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        node_test(a_burst_waits_in_few_entries_and_comes_out_as_asked),
        node_test(subjects_and_sizes_keep_their_order),
        node_test(requests_between_runs_keep_their_order),
        node_test(several_handlers_between_runs),
        node_test(a_handler_taken_back_in_the_middle),
        node_test(a_handler_takes_itself_back_in_the_middle),
        node_test(the_time_to_close_ends_in_the_middle),
        node_test(a_node_is_closed_in_the_middle),
        node_test(each_is_handled_once_whoever_empties),
        node_test(what_is_put_back_is_told_of),
        node_test(threads_keep_the_order_of_runs),
        node_test(parts_give_back_exactly_what_they_took),
        node_test(credit_is_given_back_along_a_run),
    };
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL); /* one by name, in a debugger */
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
