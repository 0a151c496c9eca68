/* SPDX-License-Identifier: Apache-2.0
 *
 * node/requests: every way in which a request ends, each exactly once; replies inline, later and late; limits; what is refused.
 */
#include "sink.h"

static void run_pair(struct rig_node *n, const cohort_limits *asker, const cohort_limits *answerer)
{
    run_without_handlers(&n[1], 1, answerer);
    run_without_handlers(&n[0], 0, asker);
    meet(&n[0], &n[1], 1);
}

static void close_pair(struct rig_node *n, struct answerer *s)
{
    assert_int_equal(atomic_load(&s->wrong), 0);
    rig_close_pair(n);
}

/* ---- replies -------------------------------------------------------------------------------------------------------- */

static void a_reply_belongs_to_its_request(void **state)
{
    static struct rig_node n[2];
    static struct asked asked[500];
    struct answerer s = {0};
    char data[16];
    memset(asked, 0, sizeof asked);
    run_pair(n, NULL, NULL);
    handle(&n[1], "same", reply_same, &s);
    for (unsigned i = 0; i < UNIT_COUNT(asked); i++) {
        (void)snprintf(data, sizeof data, "%u", i);
        ask(&n[0], 1, "same", data, i % 2 == 0 ? 0 : 10000, &asked[i]);
    }
    for (unsigned i = 0; i < UNIT_COUNT(asked); i++) {
        (void)snprintf(data, sizeof data, "%u", i);
        expect_result(&asked[i], COHORT_OK);
        assert_int_equal(asked[i].data_len, strlen(data));
        assert_memory_equal(asked[i].data, data, strlen(data));
        assert_string_equal(asked[i].from, address(1));
        assert_string_equal(asked[i].text, "");
        assert_true(i == 0 || asked[i].id != asked[i - 1].id);
    }
    close_pair(n, &s);
}

static void reply_with_errors(cohort_node *node, const cohort_message *message, void *arg)
{
    struct answerer *s = arg;
    cohort_call *call = message->call;
    atomic_fetch_add(&s->wrong, cohort_reply_error(call, COHORT_OK, "x") != COHORT_EINVAL);
    atomic_fetch_add(&s->wrong, cohort_reply_error(call, 1, "x") != COHORT_EINVAL);
    atomic_fetch_add(&s->wrong, cohort_reply_error(call, -9999, "x") != COHORT_EINVAL);
    atomic_fetch_add(&s->wrong, cohort_reply(call, NULL, 1) != COHORT_EINVAL);
    static const char text[] = "no thanks";
    bool own = message->data_len == 3;
    atomic_fetch_add(&s->wrong, cohort_reply_error(call, own ? COHORT_EHANDLER : COHORT_ESTATE, own ? text : NULL) != COHORT_OK);
    atomic_fetch_add(&s->wrong, cohort_reply(call, "x", 1) != COHORT_ESTATE);
    atomic_fetch_add(&s->wrong, cohort_reply_error(call, COHORT_EHANDLER, NULL) != COHORT_ESTATE);
    atomic_fetch_add(&s->wrong, cohort_call_keep(call) != NULL);
}

static void errors_of_the_handler(void **state)
{
    static struct rig_node n[2];
    struct asked own = {0}, named = {0}, silent = {0}, nobody = {0};
    struct answerer s = {0};
    run_pair(n, NULL, NULL);
    handle(&n[1], "error", reply_with_errors, &s);
    handle(&n[1], "silent", say_nothing, &s);
    ask(&n[0], 1, "error", "own", 10000, &own);
    ask(&n[0], 1, "error", "named", 10000, &named);
    ask(&n[0], 1, "silent", "", 10000, &silent);
    ask(&n[0], 1, "nobody", "", 10000, &nobody);
    expect_result(&own, COHORT_EHANDLER);
    assert_string_equal(own.text, "no thanks");
    assert_int_equal(own.data_len, 0);
    expect_result(&named, COHORT_ESTATE);
    assert_string_equal(named.text, "");
    expect_result(&silent, COHORT_ENOREPLY);
    expect_result(&nobody, COHORT_ENOHANDLER);
    close_pair(n, &s);
}

static void answer_all(struct rig_node *n, const cohort_message *message)
{
    atomic_fetch_add(&n->wrong, message->call == NULL || cohort_reply(message->call, "default", 7) != COHORT_OK);
}

static void the_handler_of_everything_takes_requests_too(void **state)
{
    static struct rig_node n[2];
    struct asked a = {0};
    rig_pair(n);
    n[1].on_message = answer_all;
    ask(&n[0], 1, "whatever", "", 10000, &a);
    expect_result(&a, COHORT_OK);
    assert_memory_equal(a.data, "default", 7);
    rig_close_pair(n);
}

/* The first handler that replies is the one that counts. */
static void reply_first(cohort_node *node, const cohort_message *message, void *arg)
{
    struct answerer *s = arg;
    atomic_fetch_add(&s->wrong, cohort_reply(message->call, "first", 5) != COHORT_OK);
}

static void reply_second(cohort_node *node, const cohort_message *message, void *arg)
{
    struct answerer *s = arg;
    atomic_fetch_add(&s->wrong, cohort_reply(message->call, "second", 6) != COHORT_ESTATE);
}

static void of_two_handlers_one_replies(void **state)
{
    static struct rig_node n[2];
    struct asked a = {0};
    struct answerer s = {0};
    run_pair(n, NULL, NULL);
    handle(&n[1], "two", reply_first, &s);
    handle(&n[1], "two", reply_second, &s);
    ask(&n[0], 1, "two", "", 10000, &a);
    expect_result(&a, COHORT_OK);
    assert_memory_equal(a.data, "first", 5);
    close_pair(n, &s);
}

struct replier {
    cohort_call *call;
    int status;
};

static void *reply_from_a_thread(void *arg)
{
    struct replier *r = arg;
    r->status = cohort_reply(r->call, "later", 5);
    return NULL;
}

static void a_kept_call_is_replied_to_by_another_thread(void **state)
{
    static struct rig_node n[2];
    struct asked asked[10] = {0};
    struct answerer s = {0};
    run_pair(n, NULL, NULL);
    handle(&n[1], "later", keep_call, &s);
    for (unsigned i = 0; i < UNIT_COUNT(asked); i++) {
        ask(&n[0], 1, "later", "", i == 0 ? 0 : 20000, &asked[i]);
    }
    WAIT_FOR(atomic_load(&s.kept_count) == UNIT_COUNT(asked));
    for (unsigned i = UNIT_COUNT(asked); i-- > 0;) { /* not in the order they came */
        struct replier r = {.call = s.kept[i]};
        pthread_t thread;
        uint32_t left = cohort_call_time_left_ms(r.call);
        assert_true(i == 0 ? left == UINT32_MAX : left > 0 && left <= 20000);
        assert_int_equal(atomic_load(&asked[i].calls), 0);
        assert_int_equal(pthread_create(&thread, NULL, reply_from_a_thread, &r), 0);
        pthread_join(thread, NULL);
        assert_int_equal(r.status, COHORT_OK);
        expect_result(&asked[i], COHORT_OK);
        assert_memory_equal(asked[i].data, "later", 5);
    }
    close_pair(n, &s);
}

static void reply_and_keep(cohort_node *node, const cohort_message *message, void *arg)
{
    struct answerer *s = arg;
    atomic_fetch_add(&s->wrong, cohort_reply(message->call, "now", 3) != COHORT_OK);
    atomic_fetch_add(&s->wrong, cohort_call_keep(message->call) != NULL);
    atomic_fetch_add(&s->wrong, cohort_reply(message->call, "twice", 5) != COHORT_ESTATE);
}

static void keep_again(cohort_node *node, const cohort_message *message, void *arg)
{
    struct answerer *s = arg;
    s->kept[0] = cohort_call_keep(message->call);
    atomic_fetch_add(&s->wrong,
                     s->kept[0] == NULL || cohort_call_keep(message->call) != NULL || cohort_call_keep(s->kept[0]) != NULL);
    atomic_fetch_add(&s->kept_count, 1);
}

/* Else who has it twice would reply twice. Wherever the handler runs. */
static void a_call_is_kept_once_and_before_its_reply(void **state)
{
    for (int in_queue = 0; in_queue < 2; in_queue++) {
        static struct rig_node n[2];
        struct asked now = {0}, later = {0};
        struct answerer s = {0};
        run_pair(n, NULL, NULL);
        cohort_queue *queue = in_queue == 1 ? new_queue(&n[1], 1) : NULL;
        handle_in(&n[1], queue, "now", reply_and_keep, &s, NULL);
        handle_in(&n[1], queue, "later", keep_again, &s, NULL);
        ask(&n[0], 1, "now", "", 0, &now);
        expect_result(&now, COHORT_OK);
        assert_memory_equal(now.data, "now", 3);
        ask(&n[0], 1, "later", "", 0, &later);
        WAIT_FOR(atomic_load(&s.kept_count) == 1);
        assert_null(cohort_call_keep(s.kept[0]));
        assert_int_equal(cohort_reply(s.kept[0], "later", 5), COHORT_OK);
        expect_result(&later, COHORT_OK);
        assert_memory_equal(later.data, "later", 5);
        close_pair(n, &s);
    }
}

/* ---- large ---------------------------------------------------------------------------------------------------------- */

struct large {
    _Atomic unsigned calls;
    int status;
    bool same;
};

static uint8_t pattern[1024 * 1024 + 1];

static void on_large(cohort_node *node, const cohort_result *result, void *arg)
{
    struct large *l = arg;
    l->status = result->status;
    l->same = result->data_len == sizeof pattern - 1 && memcmp(result->data, pattern, sizeof pattern - 1) == 0;
    atomic_fetch_add(&l->calls, 1);
}

static void reply_large(cohort_node *node, const cohort_message *message, void *arg)
{
    struct answerer *s = arg;
    atomic_fetch_add(&s->wrong, message->data_len != sizeof pattern - 1 || memcmp(message->data, pattern, message->data_len) != 0);
    atomic_fetch_add(&s->wrong, cohort_reply(message->call, pattern, sizeof pattern) != COHORT_ESIZE); /* and is kept */
    atomic_fetch_add(&s->wrong, cohort_reply(message->call, pattern, sizeof pattern - 1) != COHORT_OK);
}

static void both_ways_as_large_as_a_message(void **state)
{
    static struct rig_node n[2];
    struct large l[4] = {0};
    struct answerer s = {0};
    for (size_t i = 0; i < sizeof pattern; i++) {
        pattern[i] = (uint8_t)(i * 7 + i / 251);
    }
    run_pair(n, NULL, NULL);
    handle(&n[1], "large", reply_large, &s);
    assert_int_equal(cohort_request(n[0].node, address(1), "large", pattern, sizeof pattern, 0, on_large, &l[0], NULL), COHORT_ESIZE);
    for (unsigned i = 0; i < UNIT_COUNT(l); i++) {
        assert_int_equal(cohort_request(n[0].node, address(1), "large", pattern, sizeof pattern - 1, 30000, on_large, &l[i], NULL),
                         COHORT_OK);
    }
    for (unsigned i = 0; i < UNIT_COUNT(l); i++) {
        WAIT_FOR(atomic_load(&l[i].calls) == 1);
        assert_int_equal(l[i].status, COHORT_OK);
        assert_true(l[i].same);
    }
    close_pair(n, &s);
}

/* ---- time ----------------------------------------------------------------------------------------------------------- */

static void the_handler_sees_how_much_time_is_left(void **state)
{
    static struct rig_node n[2];
    struct asked a = {0}, b = {0};
    struct answerer s = {0};
    run_pair(n, NULL, NULL);
    handle(&n[1], "same", reply_same, &s);
    ask(&n[0], 1, "same", "", 0, &a);
    expect_result(&a, COHORT_OK);
    assert_int_equal(atomic_load(&s.left_ms), UINT32_MAX);
    ask(&n[0], 1, "same", "", 15000, &b);
    expect_result(&b, COHORT_OK);
    assert_in_range(atomic_load(&s.left_ms), 1, 15000);
    close_pair(n, &s);
}

/* The deadlines of one member are one timer: a longer one before, and a shorter one after, must not keep each other up. */
static void time_runs_out_once_and_the_late_reply_is_counted(void **state)
{
    static const uint32_t timeouts[] = {20000, 150, 50, 100, 50};
    static struct rig_node n[2];
    struct asked asked[UNIT_COUNT(timeouts)] = {0};
    struct answerer s = {0};
    run_pair(n, NULL, NULL);
    handle(&n[1], "later", keep_call, &s);
    uint64_t begun_ms = clock_ms();
    for (unsigned i = 0; i < UNIT_COUNT(timeouts); i++) {
        ask(&n[0], 1, "later", "", timeouts[i], &asked[i]);
    }
    for (unsigned i = 1; i < UNIT_COUNT(timeouts); i++) {
        expect_result(&asked[i], COHORT_ETIMEDOUT);
        assert_string_equal(asked[i].text, "");
    }
    assert_in_range(clock_ms() - begun_ms, 149, 15000);
    WAIT_FOR(atomic_load(&s.kept_count) == UNIT_COUNT(timeouts));
    WAIT_FOR(cohort_call_time_left_ms(s.kept[1]) == 0); /* it may have come late */
    for (unsigned i = 1; i < UNIT_COUNT(timeouts); i++) {
        assert_int_equal(cohort_reply(s.kept[i], "late", 4), COHORT_OK);
    }
    WAIT_FOR(late_replies(&n[0]) == UNIT_COUNT(timeouts) - 1);
    assert_int_equal(atomic_load(&asked[0].calls), 0);
    assert_int_equal(cohort_reply(s.kept[0], "in time", 7), COHORT_OK);
    for (unsigned i = 0; i < UNIT_COUNT(timeouts); i++) {
        expect_result(&asked[i], i == 0 ? COHORT_OK : COHORT_ETIMEDOUT);
    }
    close_pair(n, &s);
}

static void a_member_never_seen_is_asked_when_it_comes(void **state)
{
    static struct rig_node n[2];
    struct asked waits = {0}, impatient = {0};
    struct answerer s = {0};
    run_without_handlers(&n[0], 0, NULL);
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    ask(&n[0], 1, "same", "hello", 0, &waits);
    ask(&n[0], 1, "same", "hello", 50, &impatient);
    expect_result(&impatient, COHORT_ETIMEDOUT);
    assert_int_equal(atomic_load(&waits.calls), 0);
    rig_begin(&n[1]);
    cohort_config config = rig_config(&n[1], 1);
    rig_open(&n[1], &config);
    handle(&n[1], "same", reply_same, &s);
    rig_start(&n[1]);
    expect_result(&waits, COHORT_OK);
    WAIT_FOR(late_replies(&n[0]) == 1);
    expect_result(&impatient, COHORT_ETIMEDOUT);
    close_pair(n, &s);
}

/* ---- cancelling ----------------------------------------------------------------------------------------------------- */

static void a_cancelled_request_has_ended_when_cancel_returns(void **state)
{
    static struct rig_node n[2];
    struct asked a = {0};
    struct answerer s = {0};
    run_pair(n, NULL, NULL);
    handle(&n[1], "later", keep_call, &s);
    ask(&n[0], 1, "later", "", 0, &a);
    WAIT_FOR(atomic_load(&s.kept_count) == 1);
    assert_int_equal(cohort_cancel(n[0].node, NULL, a.id), COHORT_EINVAL);
    assert_int_equal(cohort_cancel(n[0].node, "nobody", a.id), COHORT_EINVAL);
    assert_int_equal(cohort_cancel(n[0].node, address(1), a.id + 1), COHORT_EINVAL);
    assert_int_equal(atomic_load(&a.calls), 0);
    assert_int_equal(cohort_cancel(n[0].node, address(1), a.id), COHORT_OK);
    assert_int_equal(atomic_load(&a.calls), 1);
    assert_int_equal(a.status, COHORT_ECANCELLED);
    assert_int_equal(cohort_cancel(n[0].node, address(1), a.id), COHORT_EINVAL);
    assert_int_equal(cohort_reply(s.kept[0], "late", 4), COHORT_OK);
    WAIT_FOR(late_replies(&n[0]) == 1);
    assert_int_equal(atomic_load(&a.calls), 1);
    close_pair(n, &s);
}

static void a_reply_and_a_cancel_race_for_each_request(void **state)
{
    static struct rig_node n[2];
    static struct asked asked[4000];
    struct answerer s = {0};
    unsigned cancelled = 0, told_cancelled = 0, replied = 0;
    memset(asked, 0, sizeof asked);
    run_pair(n, NULL, NULL);
    handle(&n[1], "same", reply_same, &s);
    for (unsigned i = 0; i < UNIT_COUNT(asked); i++) {
        ask(&n[0], 1, "same", "x", 20000, &asked[i]);
        unsigned old = i - (i < 50 ? 0 : i % 50); /* from just asked to replied to long ago */
        cancelled += cohort_cancel(n[0].node, address(1), asked[old].id) == COHORT_OK;
    }
    for (unsigned i = 0; i < UNIT_COUNT(asked); i++) {
        WAIT_FOR(atomic_load(&asked[i].calls) == 1);
        told_cancelled += asked[i].status == COHORT_ECANCELLED;
        replied += asked[i].status == COHORT_OK;
    }
    assert_true(cancelled > 0);
    assert_int_equal(told_cancelled, cancelled);
    assert_int_equal(replied + cancelled, UNIT_COUNT(asked));
    WAIT_FOR(atomic_load(&s.handled) == UNIT_COUNT(asked));
    WAIT_FOR(late_replies(&n[0]) == cancelled);
    for (unsigned i = 0; i < UNIT_COUNT(asked); i++) {
        assert_int_equal(atomic_load(&asked[i].calls), 1);
    }
    close_pair(n, &s);
}

/* ---- limits and refusals -------------------------------------------------------------------------------------------- */

static void who_asks_is_limited(void **state)
{
    static struct rig_node n[2];
    struct asked asked[4] = {0};
    struct answerer s = {0};
    cohort_limits few = default_limits();
    few.requests_max = 3;
    run_pair(n, &few, NULL);
    handle(&n[1], "later", keep_call, &s);
    for (unsigned i = 0; i < 3; i++) {
        ask(&n[0], 1, "later", "", 0, &asked[i]);
    }
    assert_int_equal(cohort_request(n[0].node, address(1), "later", NULL, 0, 0, on_result, &asked[3], NULL), COHORT_ELIMIT);
    assert_int_equal(cohort_cancel(n[0].node, address(1), asked[1].id), COHORT_OK);
    ask(&n[0], 1, "later", "", 0, &asked[3]);
    WAIT_FOR(atomic_load(&s.kept_count) == 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(cohort_reply(s.kept[i], NULL, 0), COHORT_OK);
        expect_result(&asked[i], i == 1 ? COHORT_ECANCELLED : COHORT_OK);
    }
    close_pair(n, &s);
}

static void who_answers_is_limited(void **state)
{
    static struct rig_node n[2];
    struct asked asked[4] = {0};
    struct answerer s = {0};
    cohort_limits few = default_limits();
    few.requests_max = 2;
    run_pair(n, NULL, &few);
    handle(&n[1], "later", keep_call, &s);
    for (unsigned i = 0; i < 3; i++) {
        ask(&n[0], 1, "later", "", 0, &asked[i]);
    }
    expect_result(&asked[2], COHORT_ELIMIT);
    assert_int_equal(cohort_reply(s.kept[0], NULL, 0), COHORT_OK);
    expect_result(&asked[0], COHORT_OK);
    ask(&n[0], 1, "later", "", 0, &asked[3]);
    WAIT_FOR(atomic_load(&s.kept_count) == 3);
    assert_int_equal(cohort_reply(s.kept[1], NULL, 0), COHORT_OK);
    assert_int_equal(cohort_reply_error(s.kept[2], COHORT_EHANDLER, "enough"), COHORT_OK);
    expect_result(&asked[1], COHORT_OK);
    expect_result(&asked[3], COHORT_EHANDLER);
    close_pair(n, &s);
}

static void what_cannot_be_asked_is_refused(void **state)
{
    static struct rig_node n[2];
    struct asked a = {0};
    struct answerer s = {0};
    run_pair(n, NULL, NULL);
    cohort_node *node = n[0].node;
    int fd = bare_connect(0, 5, 0);
    WAIT_FOR(cohort_node_state(node, address(5)) == COHORT_ACTIVE);
    const struct {
        const char *id, *subject, *data;
        size_t data_len;
        cohort_result_fn fn;
        int expected;
    } cases[] = {
        {NULL, "s", "x", 1, on_result, COHORT_EINVAL},        {address(1), NULL, "x", 1, on_result, COHORT_EINVAL},
        {address(1), "", "x", 1, on_result, COHORT_EINVAL},   {address(1), "a b", "x", 1, on_result, COHORT_EINVAL},
        {address(1), "#7", "x", 1, on_result, COHORT_EINVAL}, {address(1), "s", NULL, 1, on_result, COHORT_EINVAL},
        {address(1), "s", "x", 1, NULL, COHORT_EINVAL},       {address(0), "s", "x", 1, on_result, COHORT_EINVAL},
        {"nobody", "s", "x", 1, on_result, COHORT_ENOPEER},   {address(5), "s", "x", 1, on_result, COHORT_ELEGACY},
    };
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        int status =
            cohort_request(node, cases[i].id, cases[i].subject, cases[i].data, cases[i].data_len, 50, cases[i].fn, &a, &a.id);
        assert_int_equal(status, cases[i].expected);
    }
    ask(&n[0], 1, "nobody", "", 0, &a); /* and a whole round trip later none of them was called */
    expect_result(&a, COHORT_ENOHANDLER);
    close(fd);
    close_pair(n, &s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(a_reply_belongs_to_its_request),
        node_test(errors_of_the_handler),
        node_test(the_handler_of_everything_takes_requests_too),
        node_test(of_two_handlers_one_replies),
        node_test(a_kept_call_is_replied_to_by_another_thread),
        node_test(a_call_is_kept_once_and_before_its_reply),
        node_test(both_ways_as_large_as_a_message),
        node_test(the_handler_sees_how_much_time_is_left),
        node_test(time_runs_out_once_and_the_late_reply_is_counted),
        node_test(a_member_never_seen_is_asked_when_it_comes),
        node_test(a_cancelled_request_has_ended_when_cancel_returns),
        node_test(a_reply_and_a_cancel_race_for_each_request),
        node_test(who_asks_is_limited),
        node_test(who_answers_is_limited),
        node_test(what_cannot_be_asked_is_refused),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
