/* SPDX-License-Identifier: Apache-2.0
 *
 * node/watchdog: a handler that blocks its loop is named and counted; one that does not, or that runs in a queue, is not.
 */
#include "sink.h"

#define LIMIT_MS 50

/* Lines of the log about handlers: of those that returned, and of those that had not yet. */
struct lines {
    pthread_mutex_t lock;
    unsigned count, running;
    char last[256], last_running[256], peer[COHORT_ID_BYTES_MAX + 1];
};

static void take_line(void *ctx, const cohort_log_record *record)
{
    struct lines *l = ctx;
    if (strcmp(record->component, "handler") == 0) {
        bool running = strstr(record->text, "has not returned") != NULL;
        pthread_mutex_lock(&l->lock);
        (void)snprintf(running ? l->last_running : l->last, sizeof l->last, "%s", record->text);
        (void)snprintf(l->peer, sizeof l->peer, "%s", record->peer);
        running ? l->running++ : l->count++;
        pthread_mutex_unlock(&l->lock);
    }
}

static struct lines line_of(struct lines *l)
{
    pthread_mutex_lock(&l->lock);
    struct lines copy = *l;
    pthread_mutex_unlock(&l->lock);
    return copy;
}

static void run_watched_on(struct rig_node *n, struct lines *l, uint32_t limit_ms, uint32_t loop_count)
{
    rig_begin(&n[1]);
    cohort_config config = rig_config(&n[1], 1);
    config.loop_count = loop_count;
    config.limits.handler_ms = limit_ms;
    config.log = (cohort_log_sink){.level = COHORT_LOG_WARN, .write = take_line, .ctx = l};
    rig_open(&n[1], &config);
    rig_start(&n[1]);
    run_without_handlers(&n[0], 0, NULL);
    meet(&n[0], &n[1], 1);
}

static void run_watched(struct rig_node *n, struct lines *l, uint32_t limit_ms)
{
    run_watched_on(n, l, limit_ms, 1);
}

/* For as many ms as the message is long. */
static void spend(cohort_node *node, const cohort_message *message, void *arg)
{
    uint64_t until = clock_ms() + message->data_len;
    while (clock_ms() < until) {
        sched_yield();
    }
    atomic_fetch_add((_Atomic unsigned *)arg, 1);
}

static void say(struct rig_node *n, const char *subject, size_t len)
{
    static const uint8_t body[1000];
    assert_int_equal(cohort_send(n->node, address(1), subject, body, len), COHORT_OK);
}

static unsigned ms_of(const char *line)
{
    unsigned ms = 0;
    const char *at = strstr(line, "loop for ");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "loop for %u ms", &ms), 1);
    return ms;
}

static void a_handler_that_blocks_is_named(void **state)
{
    static struct rig_node n[2];
    struct lines l = {.lock = PTHREAD_MUTEX_INITIALIZER};
    _Atomic unsigned done = 0;
    run_watched(n, &l, LIMIT_MS);
    handle_in(&n[1], NULL, "slow", spend, &done, NULL);
    say(&n[0], "slow", 2 * LIMIT_MS);
    WAIT_FOR(totals(&n[1]).handlers_slow == 1);
    WAIT_FOR(line_of(&l).count == 1);
    struct lines line = line_of(&l);
    assert_non_null(strstr(line.last, "a handler of slow blocked its loop for "));
    assert_string_equal(line.peer, address(0));
    assert_true(ms_of(line.last) >= 2 * LIMIT_MS - 1);                              /* of a clock in whole ms */
    assert_int_equal(cohort_send(n[0].node, address(1), "#77", "x", 1), COHORT_OK); /* nobody handles it: quick */
    round_trip(&n[0], 1);
    assert_int_equal(totals(&n[1]).handlers_slow, 1);
    rig_close_pair(n);
}

/* The first of a burst is named by the last message, since nobody timed them; the next by the one it was. */
static void of_many_the_slow_one_is_found(void **state)
{
    static struct rig_node n[2];
    struct lines l = {.lock = PTHREAD_MUTEX_INITIALIZER};
    _Atomic unsigned done = 0, quick = 0;
    run_watched(n, &l, LIMIT_MS);
    handle_in(&n[1], NULL, "slow", spend, &done, NULL);
    handle_in(&n[1], NULL, "quick", spend, &quick, NULL);
    say(&n[0], "slow", 3 * LIMIT_MS);
    for (unsigned i = 0; i < 5; i++) { /* these gather behind it, and are one batch, timed */
        say(&n[0], i == 2 ? "slow" : "quick", i == 2 ? 2 * LIMIT_MS : 0);
    }
    WAIT_FOR(atomic_load(&quick) == 4 && atomic_load(&done) == 2);
    round_trip(&n[0], 1);
    round_trip(&n[0], 1); /* the first ping may have been in the same batch */
    WAIT_FOR(totals(&n[1]).handlers_slow == line_of(&l).count);
    assert_in_range(line_of(&l).count, 1, 2); /* one, if all came at once */
    struct lines line = line_of(&l);
    assert_true(ms_of(line.last) >= 2 * LIMIT_MS - 1); /* of a clock in whole ms */
    if (line.count == 2) {
        assert_non_null(strstr(line.last, "a handler of slow blocked its loop for "));
    } else {
        assert_non_null(strstr(line.last, "handlers of 6 messages blocked their loop for "));
    }
    rig_close_pair(n);
}

struct gate {
    _Atomic bool open;
    _Atomic unsigned inside, passed;
};

static void pass(cohort_node *node, const cohort_message *message, void *arg)
{
    struct gate *gate = arg;
    atomic_fetch_add(&gate->inside, 1);
    while (!atomic_load(&gate->open)) {
        sched_yield();
    }
    atomic_fetch_add(&gate->passed, 1);
}

static void a_handler_that_does_not_return_is_named(void **state)
{
    static struct rig_node n[2];
    struct lines l = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct gate gate = {0};
    run_watched(n, &l, LIMIT_MS);
    handle_in(&n[1], NULL, "stuck", pass, &gate, NULL);
    say(&n[0], "stuck", 1);
    WAIT_FOR(line_of(&l).running == 1);
    struct lines line = line_of(&l);
    assert_non_null(strstr(line.last_running, "a handler of stuck has blocked its loop for "));
    assert_true(ms_of(line.last_running) >= LIMIT_MS);
    assert_string_equal(line.peer, address(0));
    assert_int_equal(line.count, 0);
    assert_int_equal(totals(&n[1]).handlers_slow, 1);
    uint64_t until = clock_ms() + 4 * LIMIT_MS; /* it is said once */
    WAIT_FOR(clock_ms() >= until);
    assert_int_equal(line_of(&l).running, 1);
    atomic_store(&gate.open, true);
    WAIT_FOR(line_of(&l).count == 1);
    assert_non_null(strstr(line_of(&l).last, "a handler of stuck blocked its loop for "));
    round_trip(&n[0], 1);
    assert_int_equal(totals(&n[1]).handlers_slow, 1); /* and counted once */
    atomic_store(&gate.open, false);
    say(&n[0], "stuck", 1); /* it is watched again */
    WAIT_FOR(line_of(&l).running == 2);
    atomic_store(&gate.open, true);
    WAIT_FOR(line_of(&l).count == 2);
    assert_int_equal(totals(&n[1]).handlers_slow, 2);
    rig_close_pair(n);
}

static void in_the_middle_of_a_batch_too(void **state)
{
    static struct rig_node n[2];
    struct lines l = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct gate first = {0}, gate = {0};
    _Atomic unsigned quick = 0;
    run_watched(n, &l, LIMIT_MS);
    handle_in(&n[1], NULL, "first", pass, &first, NULL);
    handle_in(&n[1], NULL, "quick", spend, &quick, NULL);
    handle_in(&n[1], NULL, "stuck", pass, &gate, NULL);
    say(&n[0], "first", 1);
    WAIT_FOR(atomic_load(&first.inside) == 1);
    say(&n[0], "quick", 0); /* these gather behind it, and are one batch */
    say(&n[0], "stuck", 1);
    atomic_store(&first.open, true);
    WAIT_FOR(atomic_load(&gate.inside) == 1);
    WAIT_FOR(strstr(line_of(&l).last_running, "a handler of stuck has blocked its loop for ") != NULL);
    atomic_store(&gate.open, true);
    WAIT_FOR(atomic_load(&gate.passed) == 1 && atomic_load(&quick) == 1);
    rig_close_pair(n);
}

/* Nobody else is there to see it: it is named when it returns. */
static void on_the_only_loop_it_is_named_when_it_returns(void **state)
{
    static struct rig_node n[2];
    struct lines l = {.lock = PTHREAD_MUTEX_INITIALIZER};
    _Atomic unsigned done = 0;
    run_watched_on(n, &l, LIMIT_MS, 0);
    handle_in(&n[1], NULL, "slow", spend, &done, NULL);
    say(&n[0], "slow", 4 * LIMIT_MS);
    WAIT_FOR(line_of(&l).count == 1);
    round_trip(&n[0], 1);
    assert_int_equal(line_of(&l).running, 0);
    assert_int_equal(totals(&n[1]).handlers_slow, 1);
    rig_close_pair(n);
}

static void who_does_not_block_is_not(void **state)
{
    static struct rig_node n[2];
    struct lines l = {.lock = PTHREAD_MUTEX_INITIALIZER};
    _Atomic unsigned done = 0;
    run_watched(n, &l, 10000);
    cohort_queue *threads = new_queue(&n[1], 1);
    handle_in(&n[1], threads, "queued", spend, &done, NULL);
    handle_in(&n[1], NULL, "inline", spend, &done, NULL);
    say(&n[0], "queued", 30);
    say(&n[0], "inline", 30);
    WAIT_FOR(atomic_load(&done) == 2);
    round_trip(&n[0], 1);
    assert_int_equal(totals(&n[1]).handlers_slow, 0);
    rig_close_pair(n);
    assert_int_equal(line_of(&l).count + line_of(&l).running, 0);
}

static void it_can_be_turned_off(void **state)
{
    static struct rig_node n[2];
    struct lines l = {.lock = PTHREAD_MUTEX_INITIALIZER};
    _Atomic unsigned done = 0;
    run_watched(n, &l, 0);
    handle_in(&n[1], NULL, "slow", spend, &done, NULL);
    say(&n[0], "slow", 300);
    WAIT_FOR(atomic_load(&done) == 1);
    round_trip(&n[0], 1);
    assert_int_equal(totals(&n[1]).handlers_slow, 0);
    rig_close_pair(n);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        node_test(a_handler_that_blocks_is_named),
        node_test(of_many_the_slow_one_is_found),
        node_test(a_handler_that_does_not_return_is_named),
        node_test(in_the_middle_of_a_batch_too),
        node_test(on_the_only_loop_it_is_named_when_it_returns),
        node_test(who_does_not_block_is_not),
        node_test(it_can_be_turned_off),
    };
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL); /* one by name, in a debugger */
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
