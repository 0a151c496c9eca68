/* SPDX-License-Identifier: Apache-2.0
 *
 * node/route, node/requests: requests over routes are as those of cohort_request(), cost no memory in steady state, and what was said early
 * in a batch is on its way before the batch is over.
 */
#include "asking.h"

static cohort_route *open_route(struct rig_node *n, unsigned to, const char *subject)
{
    cohort_route *route = NULL;
    assert_int_equal(cohort_route_open(n->node, address(to), subject, &route), COHORT_OK);
    return route;
}

static void ask_over(cohort_route *route, const char *data, uint32_t timeout_ms, struct asked *a)
{
    assert_int_equal(cohort_route_request(route, data, strlen(data), timeout_ms, on_result, a, &a->id), COHORT_OK);
}

static void run_pair(struct rig_node *n)
{
    run_without_handlers(&n[1], 1, NULL);
    run_without_handlers(&n[0], 0, NULL);
    meet(&n[0], &n[1], 1);
}

/* ---- as cohort_request() -------------------------------------------------------------------------------------------- */

static void a_reply_belongs_to_its_request(void **state)
{
    static struct rig_node n[2];
    static struct asked asked[600];
    struct answerer s = {0};
    char data[16];
    memset(asked, 0, sizeof asked);
    run_pair(n);
    handle(&n[1], "same", reply_same, &s);
    handle(&n[1], "other", reply_same, &s);
    cohort_route *same = open_route(&n[0], 1, "same"), *other = open_route(&n[0], 1, "other");
    for (unsigned i = 0; i < UNIT_COUNT(asked); i++) { /* in turns, with times of every kind */
        (void)snprintf(data, sizeof data, "%u", i);
        uint32_t timeout_ms = i % 2 == 0 ? 0 : 20000 + i % 11;
        if (i % 3 == 0) {
            ask(&n[0], 1, "same", data, timeout_ms, &asked[i]);
        } else {
            ask_over(i % 3 == 1 ? same : other, data, timeout_ms, &asked[i]);
        }
    }
    for (unsigned i = 0; i < UNIT_COUNT(asked); i++) {
        (void)snprintf(data, sizeof data, "%u", i);
        expect_result(&asked[i], COHORT_OK);
        assert_int_equal(asked[i].data_len, strlen(data));
        assert_memory_equal(asked[i].data, data, strlen(data));
        assert_string_equal(asked[i].from, address(1));
        assert_true(i == 0 || asked[i].id > asked[i - 1].id);
    }
    assert_int_equal(cohort_route_request(same, NULL, 0, 0, on_result, &asked[0], NULL), COHORT_OK); /* nothing, and no number */
    WAIT_FOR(atomic_load(&asked[0].calls) == 2);
    assert_int_equal(asked[0].data_len, 0);
    cohort_route_close(same);
    cohort_route_close(other);
    assert_int_equal(atomic_load(&s.wrong), 0);
    rig_close_pair(n);
}

static void it_ends_in_every_other_way(void **state)
{
    static struct rig_node n[2];
    struct asked nobody = {0}, late = {0}, cancelled = {0}, removed = {0};
    struct answerer s = {0};
    run_pair(n);
    handle(&n[1], "kept", keep_call, &s);
    cohort_route *kept = open_route(&n[0], 1, "kept"), *unheard = open_route(&n[0], 1, "unheard");
    ask_over(unheard, "", 20000, &nobody);
    expect_result(&nobody, COHORT_ENOHANDLER);
    ask_over(kept, "", 20, &late);
    ask_over(kept, "", 20000, &cancelled);
    ask_over(kept, "", 20000, &removed);
    assert_int_equal(cohort_cancel(n[0].node, address(1), cancelled.id), COHORT_OK);
    expect_result(&cancelled, COHORT_ECANCELLED);
    assert_int_equal(cohort_cancel(n[0].node, address(1), cancelled.id), COHORT_EINVAL);
    expect_result(&late, COHORT_ETIMEDOUT);
    WAIT_FOR(atomic_load(&s.kept_count) == 3);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(cohort_reply(s.kept[i], "x", 1), COHORT_OK);
    }
    WAIT_FOR(late_replies(&n[0]) == 2);
    assert_int_equal(cohort_node_remove(n[0].node, address(1)), COHORT_OK);
    expect_result(&removed, COHORT_EREMOVED);
    assert_int_equal(cohort_route_request(kept, "x", 1, 0, on_result, &removed, NULL), COHORT_ENOPEER); /* for good */
    int given_back = cohort_reply(s.kept[2], "x", 1);
    assert_true(given_back == COHORT_OK || given_back == COHORT_ENOPEER);
    cohort_route_close(kept);
    cohort_route_close(unheard);
    assert_int_equal(atomic_load(&s.wrong), 0);
    (void)rig_close(&n[0]);
    (void)rig_close(&n[1]);
    assert_int_equal(atomic_load(&removed.calls), 1);
}

static void what_is_refused(void **state)
{
    static struct rig_node n;
    static uint8_t large[1024 * 1024 + 1];
    struct asked a = {0};
    rig_run(&n, 0);
    int fd = bare_connect(0, 5, 0);
    WAIT_FOR(atomic_load(&n.activated) == 1);
    assert_int_equal(cohort_node_add(n.node, address(1), address(1), PORT), COHORT_OK); /* is never there */
    cohort_route *legacy = open_route(&n, 5, "s"), *raw = open_route(&n, 1, "#7"), *route = open_route(&n, 1, "s");
    assert_int_equal(cohort_route_request(legacy, "x", 1, 0, on_result, &a, NULL), COHORT_ELEGACY);
    assert_int_equal(cohort_route_request(raw, "x", 1, 0, on_result, &a, NULL), COHORT_EINVAL);
    assert_int_equal(cohort_route_request(route, "x", 1, 0, NULL, &a, NULL), COHORT_EINVAL);
    assert_int_equal(cohort_route_request(route, NULL, 1, 0, on_result, &a, NULL), COHORT_EINVAL);
    assert_int_equal(cohort_route_request(route, large, sizeof large, 0, on_result, &a, NULL), COHORT_ESIZE);
    for (unsigned i = 0; i < 8; i++) { /* 8 MiB, less what stands around them, is the limit */
        int status = cohort_route_request(route, large, sizeof large - 1, 0, on_result, &a, NULL);
        assert_int_equal(status, i < 7 ? COHORT_OK : COHORT_EAGAIN);
    }
    assert_int_equal(atomic_load(&a.calls), 0);
    cohort_route_close(legacy);
    cohort_route_close(raw);
    cohort_route_close(route);
    close(fd);
    (void)rig_close(&n);
    assert_int_equal(atomic_load(&a.calls), 7); /* COHORT_ECLOSED, each once */
}

/* Each allocation on either side fails in turn: the request is refused, or ends, once. */
static void without_memory(void **state)
{
    static struct rig_node n[2];
    struct answerer s = {0};
    run_pair(n);
    handle(&n[1], "same", reply_same, &s);
    cohort_route *route = open_route(&n[0], 1, "same");
    for (unsigned i = 0; i < 60; i++) {
        struct counting *memory = &n[i % 2].memory;
        static struct asked asked[24];
        bool sent[UNIT_COUNT(asked)];
        memset(asked, 0, sizeof asked);
        atomic_store(&memory->fail_next, atomic_load(&memory->calls) + 1 + i / 2);
        for (unsigned k = 0; k < UNIT_COUNT(asked); k++) {
            int status = cohort_route_request(route, "x", 1, 20000 + k, on_result, &asked[k], NULL);
            assert_true(status == COHORT_OK || status == COHORT_ENOMEM);
            sent[k] = status == COHORT_OK;
        }
        for (unsigned k = 0; k < UNIT_COUNT(asked); k++) {
            WAIT_FOR(!sent[k] || atomic_load(&asked[k].calls) == 1);
            assert_true(!sent[k] || asked[k].status == COHORT_OK);
        }
        atomic_store(&memory->fail_next, 0);
    }
    cohort_route_close(route);
    rig_close_pair(n);
}

/* ---- memory --------------------------------------------------------------------------------------------------------- */

struct asking_on {
    cohort_route *route;
    _Atomic unsigned results, wrong;
    unsigned until;
};

static void ask_again(cohort_node *node, const cohort_result *result, void *arg)
{
    struct asking_on *a = arg;
    unsigned done = atomic_fetch_add(&a->results, 1) + 1;
    atomic_fetch_add(&a->wrong, result->status != COHORT_OK);
    if (done + 63 < a->until) { /* 64 are under way */
        atomic_fetch_add(&a->wrong, cohort_route_request(a->route, "x", 1, 20000, ask_again, a, NULL) != COHORT_OK);
    }
}

static uint64_t run_pipelined(struct rig_node *n, struct asking_on *a)
{
    uint64_t before = atomic_load(&n[0].memory.calls) + atomic_load(&n[1].memory.calls);
    atomic_store(&a->results, 0);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(cohort_route_request(a->route, "x", 1, 20000, ask_again, a, NULL), COHORT_OK);
    }
    WAIT_FOR(atomic_load(&a->results) == a->until);
    return atomic_load(&n[0].memory.calls) + atomic_load(&n[1].memory.calls) - before;
}

static void a_steady_exchange_allocates_nothing(void **state)
{
    static struct rig_node n[2];
    struct asking_on a = {.until = 20000};
    struct answerer s = {0};
    run_pair(n);
    handle(&n[1], "same", reply_same, &s);
    a.route = open_route(&n[0], 1, "same");
    (void)run_pipelined(n, &a);
    uint64_t calls = run_pipelined(n, &a);
    assert_true(calls <= 20); /* a block now and then, when the machine held up one end: 1 for 1000, as bench/ has it */
    assert_int_equal(atomic_load(&a.wrong), 0);
    cohort_route_close(a.route);
    rig_close_pair(n);
}

/* ---- early ---------------------------------------------------------------------------------------------------------- */

#define BATCH 100

/* The first waits until all others are sent, so that they are read together; a later one waits for the reply to the second. */
struct batch {
    _Atomic bool all_sent;
    _Atomic unsigned results, wrong;
    unsigned handled, waits_at;
    uint64_t slow_ms;
};

static void reply_in_a_batch(cohort_node *node, const cohort_message *message, void *arg)
{
    struct batch *b = arg;
    uint64_t begun_ms = clock_ms(), until_ms = begun_ms + BOUND_MS;
    b->handled++;
    while (b->handled == 1 && !atomic_load(&b->all_sent) && clock_ms() < until_ms) {
        sched_yield();
    }
    while (b->handled == 2 && clock_ms() < begun_ms + b->slow_ms) { /* a handler that takes its time */
    }
    while (b->handled == b->waits_at && atomic_load(&b->results) < 2 && clock_ms() < until_ms) {
        sched_yield();
    }
    atomic_fetch_add(&b->wrong, b->handled == b->waits_at && atomic_load(&b->results) < 2);
    atomic_fetch_add(&b->wrong, cohort_reply(message->call, "x", 1) != COHORT_OK);
}

static void on_batch_result(cohort_node *node, const cohort_result *result, void *arg)
{
    struct batch *b = arg;
    atomic_fetch_add(&b->wrong, result->status != COHORT_OK);
    atomic_fetch_add(&b->results, 1);
}

static void what_is_said_early_is_heard_early(void **state)
{
    static const struct batch cases[] = {{.waits_at = 60}, {.waits_at = 7, .slow_ms = 2}};
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        static struct rig_node n[2];
        struct batch b = cases[i];
        cohort_handle_id ignored;
        run_pair(n);
        assert_int_equal(cohort_handle(n[1].node, "batch", reply_in_a_batch, &b, NULL, &ignored), COHORT_OK);
        cohort_route *route = open_route(&n[0], 1, "batch");
        for (unsigned k = 0; k < BATCH; k++) {
            assert_int_equal(cohort_route_request(route, "x", 1, 0, on_batch_result, &b, NULL), COHORT_OK);
        }
        cohort_link_stats stats;
        do { /* written, so that one read brings all but the first */
            assert_int_equal(cohort_link_stats_get(n[0].node, address(1), &stats), COHORT_OK);
        } while (stats.bytes_out < (uint64_t)BATCH * (COHORT_FRAME_HEADER_BYTES + 1));
        atomic_store(&b.all_sent, true);
        WAIT_FOR(atomic_load(&b.results) == BATCH);
        assert_int_equal(atomic_load(&b.wrong), 0);
        cohort_route_close(route);
        rig_close_pair(n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(a_reply_belongs_to_its_request),
        node_test(it_ends_in_every_other_way),
        node_test(what_is_refused),
        node_test(without_memory),
        node_test(a_steady_exchange_allocates_nothing),
        node_test(what_is_said_early_is_heard_early),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
