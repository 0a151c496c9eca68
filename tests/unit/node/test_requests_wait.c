/* SPDX-License-Identifier: Apache-2.0
 *
 * node/requests_wait: a thread waits for a result, many do, none may inside a callback; all members are asked, and all of it is collected.
 */
#include "asking.h"

static void run_pair(struct rig_node *n)
{
    run_without_handlers(&n[1], 1, NULL);
    run_without_handlers(&n[0], 0, NULL);
    meet(&n[0], &n[1], 1);
}

/* ---- a thread waits ------------------------------------------------------------------------------------------------- */

static int wait_for(struct rig_node *n, const char *subject, const char *data, uint32_t timeout_ms, cohort_answer *out)
{
    int status = cohort_request_wait(n->node, address(1), subject, data, strlen(data), timeout_ms, out);
    assert_int_equal(status, out->status);
    return status;
}

static void reply_no(cohort_node *node, const cohort_message *message, void *arg)
{
    struct answerer *s = arg;
    atomic_fetch_add(&s->wrong, cohort_reply_error(message->call, COHORT_EHANDLER, "no") != COHORT_OK);
}

static void waiting_gives_what_a_callback_would_get(void **state)
{
    static struct rig_node n[2];
    struct answerer s = {0};
    cohort_answer answer;
    run_pair(n);
    handle(&n[1], "same", reply_same, &s);
    handle(&n[1], "no", reply_no, &s);
    handle(&n[1], "later", keep_call, &s);
    assert_int_equal(wait_for(&n[0], "same", "hello", 0, &answer), COHORT_OK);
    assert_int_equal(answer.data_len, 5);
    assert_memory_equal(answer.data, "hello", 5);
    assert_string_equal(answer.text, "");
    cohort_answer_free(&answer);
    cohort_answer_free(&answer); /* again: nothing is left to free */
    assert_int_equal(wait_for(&n[0], "same", "", 10000, &answer), COHORT_OK);
    assert_null(answer.data);
    assert_int_equal(answer.data_len, 0);
    cohort_answer_free(&answer);
    assert_int_equal(wait_for(&n[0], "no", "", 10000, &answer), COHORT_EHANDLER);
    assert_string_equal(answer.text, "no");
    cohort_answer_free(&answer);
    assert_int_equal(wait_for(&n[0], "nobody", "", 10000, &answer), COHORT_ENOHANDLER);
    cohort_answer_free(&answer);
    uint64_t begun_ms = clock_ms();
    assert_int_equal(wait_for(&n[0], "later", "", 100, &answer), COHORT_ETIMEDOUT);
    assert_in_range(clock_ms() - begun_ms, 99, BOUND_MS);
    cohort_answer_free(&answer);
    WAIT_FOR(atomic_load(&s.kept_count) == 1);
    assert_int_equal(cohort_reply(s.kept[0], NULL, 0), COHORT_OK);
    assert_int_equal(atomic_load(&s.wrong), 0);
    rig_close_pair(n);
}

static void what_is_not_sent_is_not_waited_for(void **state)
{
    static struct rig_node n[2];
    cohort_answer answer;
    run_pair(n);
    assert_int_equal(wait_for(&n[0], "#7", "x", 0, &answer), COHORT_EINVAL);
    assert_null(answer.data);
    assert_string_equal(answer.text, "");
    cohort_answer_free(&answer);
    assert_int_equal(cohort_request_wait(n[0].node, "nobody", "s", NULL, 0, 0, &answer), COHORT_ENOPEER);
    cohort_answer_free(&answer);
    assert_int_equal(cohort_request_wait(n[0].node, NULL, "s", NULL, 0, 0, &answer), COHORT_EINVAL);
    cohort_answer_free(&answer);
    assert_int_equal(cohort_request_wait(n[0].node, address(1), "s", NULL, 1, 0, &answer), COHORT_EINVAL);
    cohort_answer_free(&answer);
    rig_close_pair(n);
}

/* Nobody could wake it: in a handler, and in a result. */
static void wait_inside(cohort_node *node, const cohort_message *message, void *arg)
{
    struct answerer *s = arg;
    cohort_answer answer;
    atomic_fetch_add(&s->wrong, cohort_request_wait(node, message->from, "same", NULL, 0, 0, &answer) != COHORT_ECALLBACK ||
                                    answer.status != COHORT_ECALLBACK || answer.data != NULL);
    cohort_answer_free(&answer);
    atomic_fetch_add(&s->wrong, cohort_reply(message->call, "refused", 7) != COHORT_OK);
}

static void wait_in_result(cohort_node *node, const cohort_result *result, void *arg)
{
    struct asked *a = arg;
    cohort_answer answer;
    a->status = cohort_request_wait(node, result->from, "inside", NULL, 0, 0, &answer);
    cohort_answer_free(&answer);
    atomic_fetch_add(&a->calls, 1);
}

static void waiting_inside_a_callback_is_refused(void **state)
{
    static struct rig_node n[2];
    struct answerer s = {0};
    struct asked a = {0};
    cohort_answer answer;
    run_pair(n);
    handle(&n[1], "inside", wait_inside, &s);
    assert_int_equal(wait_for(&n[0], "inside", "", 10000, &answer), COHORT_OK);
    assert_int_equal(answer.data_len, 7);
    cohort_answer_free(&answer);
    assert_int_equal(cohort_request(n[0].node, address(1), "inside", NULL, 0, 10000, wait_in_result, &a, NULL), COHORT_OK);
    expect_result(&a, COHORT_ECALLBACK);
    assert_int_equal(atomic_load(&s.wrong), 0);
    rig_close_pair(n);
}

struct waiter {
    struct rig_node *n;
    unsigned number, wrong;
    pthread_t thread;
};

static void *wait_often(void *arg)
{
    struct waiter *w = arg;
    for (unsigned i = 0; i < 300; i++) {
        char data[32];
        cohort_answer answer;
        (void)snprintf(data, sizeof data, "%u of %u", i, w->number);
        bool refused = i % 3 == 0; /* an error must not be lost when it comes before the call has begun to wait */
        int status = cohort_request_wait(w->n->node, address(1), refused ? "no" : "same", data, strlen(data), i % 2 * 20000, &answer);
        if (refused) {
            w->wrong += status != COHORT_EHANDLER || answer.status != status || strcmp(answer.text, "no") != 0;
        } else {
            w->wrong += status != COHORT_OK || answer.data_len != strlen(data) || memcmp(answer.data, data, strlen(data)) != 0;
        }
        cohort_answer_free(&answer);
    }
    return NULL;
}

static void many_threads_wait_each_for_its_own(void **state)
{
    static struct rig_node n[2];
    struct waiter waiters[8];
    struct answerer s = {0};
    run_pair(n);
    handle(&n[1], "same", reply_same, &s);
    handle(&n[1], "no", reply_no, &s);
    for (unsigned i = 0; i < UNIT_COUNT(waiters); i++) {
        waiters[i] = (struct waiter){.n = &n[0], .number = i};
        assert_int_equal(pthread_create(&waiters[i].thread, NULL, wait_often, &waiters[i]), 0);
    }
    for (unsigned i = 0; i < UNIT_COUNT(waiters); i++) {
        pthread_join(waiters[i].thread, NULL);
        assert_int_equal(waiters[i].wrong, 0);
    }
    assert_int_equal(atomic_load(&s.handled), UNIT_COUNT(waiters) * 200);
    rig_close_pair(n);
}

static void *wait_until_it_ends(void *arg)
{
    struct waiter *w = arg;
    cohort_answer answer;
    w->wrong = cohort_request_wait(w->n->node, address(1), "later", NULL, 0, 0, &answer) != COHORT_EREMOVED;
    cohort_answer_free(&answer);
    return NULL;
}

static void who_waits_is_woken_by_a_removal(void **state)
{
    static struct rig_node n[2];
    struct waiter w = {.n = &n[0]};
    struct answerer s = {0};
    run_pair(n);
    handle(&n[1], "later", keep_call, &s);
    assert_int_equal(pthread_create(&w.thread, NULL, wait_until_it_ends, &w), 0);
    WAIT_FOR(atomic_load(&s.kept_count) == 1);
    assert_int_equal(cohort_node_remove(n[0].node, address(1)), COHORT_OK);
    pthread_join(w.thread, NULL);
    assert_int_equal(w.wrong, 0);
    assert_int_equal(cohort_reply_error(s.kept[0], COHORT_EHANDLER, "too late"), COHORT_OK);
    rig_close_pair(n);
}

/* ---- all are asked -------------------------------------------------------------------------------------------------- */

struct collected {
    _Atomic unsigned calls; /* counted last */
    size_t count;
    struct asked results[8];
};

static void on_results(cohort_node *node, const cohort_result *results, size_t count, void *arg)
{
    struct collected *c = arg;
    c->count = count;
    for (size_t i = 0; i < count && i < UNIT_COUNT(c->results); i++) {
        on_result(node, &results[i], &c->results[i]);
    }
    atomic_fetch_add(&c->calls, 1);
}

static int ask_all(struct rig_node *n, const char *subject, const char *data, uint32_t timeout_ms, struct collected *c)
{
    memset(c, 0, sizeof *c);
    return cohort_request_all(n->node, subject, data, strlen(data), timeout_ms, on_results, c);
}

static void with_nobody_to_ask_it_ends_at_once(void **state)
{
    static struct rig_node n;
    struct collected c;
    run_without_handlers(&n, 0, NULL);
    assert_int_equal(ask_all(&n, "s", "x", 0, &c), COHORT_OK);
    assert_int_equal(atomic_load(&c.calls), 1);
    assert_int_equal(c.count, 0);
    assert_int_equal(cohort_node_add(n.node, address(6), address(6), PORT), COHORT_OK); /* not ACTIVE */
    assert_int_equal(ask_all(&n, "s", "x", 0, &c), COHORT_OK);
    assert_int_equal(atomic_load(&c.calls), 1);
    assert_int_equal(c.count, 0);
    assert_int_equal(ask_all(&n, "#7", "x", 0, &c), COHORT_EINVAL);
    assert_int_equal(ask_all(&n, "a b", "x", 0, &c), COHORT_EINVAL);
    assert_int_equal(cohort_request_all(n.node, NULL, "x", 1, 0, on_results, &c), COHORT_EINVAL);
    assert_int_equal(cohort_request_all(n.node, "s", NULL, 1, 0, on_results, &c), COHORT_EINVAL);
    assert_int_equal(cohort_request_all(n.node, "s", "x", 1, 0, NULL, &c), COHORT_EINVAL);
    assert_int_equal(atomic_load(&c.calls), 0);
    (void)rig_close(&n);
}

/* Four that are asked, each with another end; a legacy member and one that is away are left out. */
static void each_member_has_its_result_in_order_of_id(void **state)
{
    static struct rig_node n[5];
    struct collected c;
    struct answerer s = {0};
    for (unsigned i = 1; i < 5; i++) {
        run_without_handlers(&n[i], i, NULL);
    }
    handle(&n[1], "all", reply_same, &s);
    handle(&n[2], "all", reply_no, &s);
    handle(&n[3], "all", keep_call, &s);
    run_without_handlers(&n[0], 0, NULL);
    for (unsigned i = 4; i > 0; i--) {
        meet(&n[0], &n[i], i);
    }
    int fd = bare_connect(0, 5, 0);
    WAIT_FOR(cohort_node_state(n[0].node, address(5)) == COHORT_ACTIVE);
    assert_int_equal(cohort_node_add(n[0].node, address(6), address(6), PORT), COHORT_OK);
    assert_int_equal(ask_all(&n[0], "all", "hello", 300, &c), COHORT_OK);
    WAIT_FOR(atomic_load(&c.calls) == 1);
    static const int expected[] = {COHORT_OK, COHORT_EHANDLER, COHORT_ETIMEDOUT, COHORT_ENOHANDLER};
    assert_int_equal(c.count, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_string_equal(c.results[i].from, address(i + 1));
        assert_int_equal(c.results[i].status, expected[i]);
        assert_string_equal(c.results[i].text, i == 1 ? "no" : "");
        assert_int_equal(c.results[i].data_len, i == 0 ? 5 : 0);
    }
    assert_memory_equal(c.results[0].data, "hello", 5);
    assert_int_equal(cohort_reply(s.kept[0], "late", 4), COHORT_OK);
    WAIT_FOR(late_replies(&n[0]) == 1);
    assert_int_equal(atomic_load(&c.calls), 1);
    close(fd);
    for (unsigned i = 0; i < 5; i++) {
        (void)rig_close(&n[i]);
    }
}

/* One of them has no room for another request: it is among the results, and the other is asked all the same. */
static void one_that_cannot_be_asked_is_told_of(void **state)
{
    static struct rig_node n[3];
    struct collected c;
    struct asked waits = {0};
    struct answerer s = {0};
    cohort_limits few = default_limits();
    few.requests_max = 1;
    run_without_handlers(&n[1], 1, NULL);
    run_without_handlers(&n[2], 2, NULL);
    run_without_handlers(&n[0], 0, &few);
    handle(&n[1], "later", keep_call, &s);
    handle(&n[2], "all", reply_same, &s);
    meet(&n[0], &n[1], 1);
    meet(&n[0], &n[2], 2);
    ask(&n[0], 1, "later", "", 0, &waits);
    assert_int_equal(ask_all(&n[0], "all", "x", 20000, &c), COHORT_OK);
    WAIT_FOR(atomic_load(&c.calls) == 1);
    assert_int_equal(c.count, 2);
    assert_int_equal(c.results[0].status, COHORT_ELIMIT);
    assert_int_equal(c.results[1].status, COHORT_OK);
    WAIT_FOR(atomic_load(&s.kept_count) == 1);
    assert_int_equal(cohort_reply(s.kept[0], NULL, 0), COHORT_OK);
    expect_result(&waits, COHORT_OK);
    for (unsigned i = 0; i < 3; i++) {
        (void)rig_close(&n[i]);
    }
}

static void closing_ends_what_was_asked_of_all(void **state)
{
    static struct rig_node n[3];
    struct collected c;
    struct answerer s = {0};
    run_without_handlers(&n[1], 1, NULL);
    run_without_handlers(&n[2], 2, NULL);
    run_without_handlers(&n[0], 0, NULL);
    handle(&n[1], "all", keep_call, &s);
    handle(&n[2], "all", reply_same, &s);
    meet(&n[0], &n[1], 1);
    meet(&n[0], &n[2], 2);
    assert_int_equal(ask_all(&n[0], "all", "x", 0, &c), COHORT_OK);
    WAIT_FOR(atomic_load(&s.handled) == 2);
    assert_int_equal(atomic_load(&c.calls), 0);
    (void)rig_close(&n[0]);
    assert_int_equal(atomic_load(&c.calls), 1);
    assert_int_equal(c.count, 2);
    assert_int_equal(c.results[0].status, COHORT_ECLOSED);
    assert_int_equal(cohort_reply(s.kept[0], "late", 4), COHORT_OK); /* it may come back */
    (void)rig_close(&n[1]);
    (void)rig_close(&n[2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(waiting_gives_what_a_callback_would_get),   node_test(what_is_not_sent_is_not_waited_for),
        node_test(waiting_inside_a_callback_is_refused),      node_test(many_threads_wait_each_for_its_own),
        node_test(who_waits_is_woken_by_a_removal),           node_test(with_nobody_to_ask_it_ends_at_once),
        node_test(each_member_has_its_result_in_order_of_id), node_test(one_that_cannot_be_asked_is_told_of),
        node_test(closing_ends_what_was_asked_of_all),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
