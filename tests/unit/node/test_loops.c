/* SPDX-License-Identifier: Apache-2.0
 *
 * node/loops: several nodes on shared loops; nodes without threads, run by the test's own poll(2).
 */
#include "sink.h"

static unsigned threads_running(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    closedir(dir);
    return count;
}

/* ---- a loop of our own --------------------------------------------------------------------------------------------- */

static bool in_dispatch; /* the tests without threads have one thread that dispatches */

static void only_inside(struct rig_node *n, const cohort_event *event)
{
    atomic_fetch_add(&n->wrong, !in_dispatch);
}

static void only_inside_message(struct rig_node *n, const cohort_message *message)
{
    atomic_fetch_add(&n->wrong, !in_dispatch);
}

static void dispatch(struct rig_node *n)
{
    in_dispatch = true;
    assert_int_equal(cohort_node_dispatch(n->node), COHORT_OK);
    in_dispatch = false;
}

/* One round of an application's loop: wait as long as the nodes say, for what they say, and dispatch those that are due. */
static void turn(struct rig_node *n, unsigned count, uint64_t until_ms)
{
    struct pollfd fds[NODES_MAX];
    int wait_ms = BOUND_MS, timeouts[NODES_MAX];
    for (unsigned i = 0; i < count; i++) {
        fds[i] = (struct pollfd){.fd = cohort_node_fd(n[i].node), .events = POLLIN};
        assert_true(fds[i].fd >= 0);
        timeouts[i] = cohort_node_next_timeout_ms(n[i].node);
        wait_ms = timeouts[i] >= 0 && timeouts[i] < wait_ms ? timeouts[i] : wait_ms;
    }
    assert_true(poll(fds, count, wait_ms) >= 0);
    assert_true(clock_ms() < until_ms);
    for (unsigned i = 0; i < count; i++) {
        if (fds[i].revents != 0 || (timeouts[i] >= 0 && timeouts[i] <= wait_ms)) {
            dispatch(&n[i]);
        }
    }
}

#define TURN_UNTIL(n, count, condition)          \
    do {                                         \
        uint64_t bound_ = clock_ms() + BOUND_MS; \
        while (!(condition)) {                   \
            turn(n, count, bound_);              \
        }                                        \
    } while (0)

static void open_own(struct rig_node *n, unsigned i, cohort_loops *loops)
{
    cohort_handle_id ignored;
    rig_begin(n);
    cohort_config config = rig_config(n, i);
    config.threads = loops == NULL ? COHORT_THREADS_NONE : COHORT_THREADS_OWN;
    config.loops = loops;
    n->on_event = only_inside;
    n->on_message = only_inside_message;
    rig_open(n, &config);
    assert_int_equal(cohort_handle(n->node, NULL, rig_on_message, n, rig_on_release, &ignored), COHORT_OK);
}

static int close_own(struct rig_node *n)
{
    in_dispatch = true; /* close runs the loop itself */
    int status = rig_close(n);
    in_dispatch = false;
    return status;
}

static void own_pair(struct rig_node *n)
{
    open_own(&n[0], 0, NULL);
    open_own(&n[1], 1, NULL);
    rig_start(&n[0]);
    rig_start(&n[1]);
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    TURN_UNTIL(n, 2, atomic_load(&n[0].activated) == 1 && atomic_load(&n[1].activated) == 1);
}

/* Nothing is left that only the other's loop, which nobody turns while we close, could acknowledge. */
static bool all_acknowledged(struct rig_node *n)
{
    cohort_link_stats a, b;
    return cohort_link_stats_get(n[0].node, address(1), &a) == COHORT_OK &&
           cohort_link_stats_get(n[1].node, address(0), &b) == COHORT_OK && a.queued_bytes == 0 && b.queued_bytes == 0;
}

static void a_node_without_threads(void **state)
{
    static struct rig_node n[2];
    unsigned before = threads_running();
    own_pair(n);
    WAIT_FOR(threads_running() == before); /* one that was joined is listed a moment longer */
    for (unsigned round = 1; round <= 100; round++) {
        assert_int_equal(cohort_send(n[0].node, address(1), "s", "to", 2), COHORT_OK);
        assert_int_equal(cohort_send(n[1].node, address(0), "s", "fro", 3), COHORT_OK);
        if (round % 10 == 0) {
            TURN_UNTIL(n, 2, atomic_load(&n[0].messages) == round && atomic_load(&n[1].messages) == round);
        }
    }
    TURN_UNTIL(n, 2, all_acknowledged(n));
    assert_int_equal(close_own(&n[0]), COHORT_OK);
    TURN_UNTIL(n + 1, 1, atomic_load(&n[1].deactivated) == 1);
    assert_int_equal(atomic_load(&n[1].last_reason), COHORT_ELEFT);
    assert_int_equal(close_own(&n[1]), COHORT_OK);
    WAIT_FOR(threads_running() == before); /* one that was joined is listed a moment longer */
}

/* Nothing but the descriptor says that there is something to do, and when there is nothing it is silent. */
static void the_descriptor_is_level_triggered_and_quiet(void **state)
{
    static struct rig_node n[2];
    own_pair(n);
    struct pollfd p = {.fd = cohort_node_fd(n[1].node), .events = POLLIN};
    struct pollfd both[2] = {{.fd = cohort_node_fd(n[0].node), .events = POLLIN}, p};
    while (poll(both, 2, 0) > 0) { /* also what follows the handshake */
        dispatch(&n[0]);
        dispatch(&n[1]);
    }
    assert_int_not_equal(cohort_node_next_timeout_ms(n[1].node), 0);
    assert_int_equal(cohort_send(n[0].node, address(1), "s", "x", 1), COHORT_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(poll(&p, 1, BOUND_MS), 1);
    }
    assert_int_equal(atomic_load(&n[1].messages), 0);
    TURN_UNTIL(n, 2, atomic_load(&n[1].messages) == 1);
    TURN_UNTIL(n, 2, all_acknowledged(n));
    assert_int_equal(close_own(&n[0]), COHORT_OK);
    assert_int_equal(close_own(&n[1]), COHORT_OK);
}

static void a_timeout_alone_dials_again(void **state)
{
    static struct rig_node n[2];
    open_own(&n[0], 0, NULL);
    rig_start(&n[0]);
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    cohort_node_stats stats = {0};
    TURN_UNTIL(n, 1, (cohort_node_stats_get(n[0].node, &stats), stats.links_dialled >= 3));
    open_own(&n[1], 1, NULL);
    rig_start(&n[1]);
    TURN_UNTIL(n, 2, atomic_load(&n[0].activated) == 1 && atomic_load(&n[1].activated) == 1);
    assert_int_equal(close_own(&n[0]), COHORT_OK);
    assert_int_equal(close_own(&n[1]), COHORT_OK);
}

/* ---- other threads ------------------------------------------------------------------------------------------------- */

static _Atomic unsigned other_wrong;

static void *send_some(void *arg)
{
    struct rig_node *n = arg;
    for (int i = 0; i < 1000; i++) {
        atomic_fetch_add(&other_wrong, cohort_send(n->node, address(1), "s", "x", 1) != COHORT_OK);
    }
    return NULL;
}

static void *change_members(void *arg)
{
    struct rig_node *n = arg;
    cohort_member member;
    atomic_fetch_add(&other_wrong, cohort_node_add(n->node, "later", address(5), PORT) != COHORT_OK);
    atomic_fetch_add(&other_wrong, cohort_node_member(n->node, "later", &member) != COHORT_OK);
    atomic_fetch_add(&other_wrong, cohort_node_remove(n->node, "later") != COHORT_OK);
    return NULL;
}

static void other_threads_may_call(void **state)
{
    static struct rig_node n[2];
    pthread_t sending, changing;
    own_pair(n);
    assert_int_equal(pthread_create(&sending, NULL, send_some, &n[0]), 0);
    assert_int_equal(pthread_create(&changing, NULL, change_members, &n[0]), 0);
    TURN_UNTIL(n, 2, atomic_load(&n[1].messages) == 1000 && atomic_load(&n[0].removed) == 1); /* each of which wakes us */
    pthread_join(sending, NULL);
    pthread_join(changing, NULL);
    assert_int_equal(atomic_load(&other_wrong), 0);
    TURN_UNTIL(n, 2, all_acknowledged(n));
    assert_int_equal(close_own(&n[0]), COHORT_OK);
    assert_int_equal(close_own(&n[1]), COHORT_OK);
}

static void members_change_between_dispatches(void **state)
{
    static struct rig_node n[2];
    own_pair(n);
    assert_int_equal(cohort_node_add(n[0].node, "x", address(5), PORT), COHORT_OK);
    assert_int_equal(atomic_load(&n[0].added), 1); /* that of own_pair(): this one is told in a dispatch */
    dispatch(&n[0]);
    assert_int_equal(atomic_load(&n[0].added), 2);
    assert_int_equal(cohort_node_remove(n[0].node, "x"), COHORT_OK);
    assert_int_equal(cohort_node_remove(n[0].node, "x"), COHORT_ENOPEER);
    TURN_UNTIL(n, 2, atomic_load(&n[0].removed) == 1);
    assert_int_equal(close_own(&n[1]), COHORT_OK);
    assert_int_equal(close_own(&n[0]), COHORT_OK);
}

static void define(const char *path, const char *more)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fprintf(f, "{\"nodes\": [{\"id\": \"%s\", \"ip\": \"%s\"}%s]}", address(0), address(0), more) > 0);
    assert_int_equal(fclose(f), 0);
}

/* The definition has changed since it was read. */
static void nothing_is_told_inside_start(void **state)
{
    static struct rig_node n;
    char path[] = "/tmp/cohort-loops-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    define(path, "");
    rig_begin(&n);
    cohort_config config = rig_config(&n, 0);
    config.threads = COHORT_THREADS_NONE;
    config.definition_path = path;
    n.on_event = only_inside;
    rig_open(&n, &config);
    define(path, ", {\"id\": \"x\", \"ip\": \"127.0.0.9\"}");
    rig_start(&n);
    unsigned before = atomic_load(&n.added);
    TURN_UNTIL(&n, 1, atomic_load(&n.added) == 1);
    unlink(path);
    (void)close_own(&n);
    assert_int_equal(before, 0);
}

/* ---- misuse -------------------------------------------------------------------------------------------------------- */

static void *dispatch_elsewhere(void *arg)
{
    static int status;
    status = cohort_node_dispatch(((struct rig_node *)arg)->node);
    return &status;
}

static void misuse_inside(struct rig_node *n, const cohort_message *message)
{
    pthread_t other;
    void *status = NULL;
    unsigned wrong = cohort_node_dispatch(n->node) != COHORT_ECALLBACK;
    wrong += cohort_node_close(n->node, 0) != COHORT_ECALLBACK;
    wrong += cohort_node_start(n->node, NULL) != COHORT_ECALLBACK;
    wrong += pthread_create(&other, NULL, dispatch_elsewhere, n) != 0;
    wrong += pthread_join(other, &status) != 0 || *(int *)status != COHORT_EBUSY;
    atomic_fetch_add(&n->wrong, wrong);
}

static void misuse_is_refused(void **state)
{
    static struct rig_node n[3];
    own_pair(n);
    n[1].on_message = misuse_inside;
    assert_int_equal(cohort_send(n[0].node, address(1), "s", "x", 1), COHORT_OK);
    TURN_UNTIL(n, 2, atomic_load(&n[1].messages) == 1 && all_acknowledged(n));
    rig_run(&n[2], 2); /* with threads */
    assert_int_equal(cohort_node_dispatch(n[2].node), COHORT_ESTATE);
    assert_int_equal(cohort_node_fd(n[2].node), COHORT_ESTATE);
    assert_int_equal(cohort_node_next_timeout_ms(n[2].node), -1);
    assert_int_equal(rig_close(&n[2]), COHORT_OK);
    open_own(&n[2], 2, NULL);
    assert_int_equal(cohort_node_dispatch(n[2].node), COHORT_ESTATE); /* not started */
    assert_int_equal(close_own(&n[2]), COHORT_OK);
    assert_int_equal(close_own(&n[0]), COHORT_OK);
    assert_int_equal(close_own(&n[1]), COHORT_OK);
}

static void what_contradicts_itself_is_refused(void **state)
{
    static struct rig_node n;
    cohort_loops *loops = NULL;
    cohort_node *node = NULL;
    cohort_error error;
    rig_begin(&n);
    assert_int_equal(cohort_loops_open(COHORT_LOOPS_MAX + 1, NULL, &loops), COHORT_EINVAL);
    assert_int_equal(cohort_loops_open(1, &(cohort_allocator){0}, &loops), COHORT_EINVAL);
    assert_int_equal(cohort_loops_open(1, NULL, &loops), COHORT_OK);
    cohort_config config = rig_config(&n, 0);
    config.loops = loops;
    config.threads = COHORT_THREADS_NONE;
    assert_int_equal(cohort_node_open(&config, &node, &error), COHORT_EINVAL);
    assert_non_null(strstr(error.text, "config.threads"));
    assert_int_equal(cohort_loops_close(loops), COHORT_OK);
    assert_int_equal(cohort_loops_close(NULL), COHORT_OK);
}

/* ---- shared loops -------------------------------------------------------------------------------------------------- */

static void run_shared(struct rig_node *n, unsigned i, cohort_loops *loops)
{
    cohort_handle_id ignored;
    rig_begin(n);
    cohort_config config = rig_config(n, i);
    config.loops = loops;
    rig_open(n, &config);
    assert_int_equal(cohort_handle(n->node, NULL, rig_on_message, n, rig_on_release, &ignored), COHORT_OK);
    rig_start(n);
}

static void add_all(struct rig_node *n, unsigned from, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (i != from) {
            assert_int_equal(cohort_node_add(n[from].node, address(i), address(i), PORT), COHORT_OK);
        }
    }
}

static void nodes_share(uint32_t loop_count)
{
    static struct rig_node n[NODES_MAX];
    struct counting memory;
    cohort_loops *loops = NULL;
    unsigned before = threads_running();
    counting_init(&memory);
    assert_int_equal(cohort_loops_open(loop_count, &memory.alloc, &loops), COHORT_OK);
    for (unsigned i = 0; i < NODES_MAX; i++) {
        run_shared(&n[i], i, loops);
        add_all(n, i, NODES_MAX);
    }
    assert_int_equal(threads_running(), before + loop_count);
    for (unsigned i = 0; i < NODES_MAX; i++) {
        WAIT_FOR(atomic_load(&n[i].activated) == NODES_MAX - 1);
        assert_int_equal(cohort_broadcast(n[i].node, "s", "x", 1, NULL), COHORT_OK);
    }
    for (unsigned i = 0; i < NODES_MAX; i++) {
        WAIT_FOR(atomic_load(&n[i].messages) == NODES_MAX - 1);
    }
    for (unsigned round = 1; round <= 5; round++) { /* one goes and comes while the others stay */
        assert_int_equal(rig_close(&n[0]), COHORT_OK);
        assert_int_equal(cohort_loops_close(loops), COHORT_ESTATE);
        run_shared(&n[0], 0, loops);
        add_all(n, 0, NODES_MAX);
        for (unsigned i = 0; i < NODES_MAX; i++) {
            WAIT_FOR(atomic_load(&n[i].activated) >= NODES_MAX - 1 + (i == 0 ? 0 : round));
        }
    }
    for (unsigned i = 0; i < NODES_MAX; i++) {
        assert_int_equal(rig_close(&n[i]), COHORT_OK);
    }
    assert_int_equal(cohort_loops_close(loops), COHORT_OK);
    assert_int_equal(atomic_load(&memory.blocks), 0);
    WAIT_FOR(threads_running() == before); /* one that was joined is listed a moment longer */
}

static void nodes_share_one_loop(void **state)
{
    nodes_share(1);
}

static void nodes_share_two_loops(void **state)
{
    nodes_share(2);
}

static void nodes_share_a_loop_of_ours(void **state)
{
    static struct rig_node n[2];
    cohort_loops *loops = NULL;
    unsigned before = threads_running();
    assert_int_equal(cohort_loops_open(0, NULL, &loops), COHORT_OK);
    open_own(&n[0], 0, loops);
    open_own(&n[1], 1, loops);
    rig_start(&n[0]);
    rig_start(&n[1]);
    assert_int_equal(cohort_node_fd(n[0].node), cohort_node_fd(n[1].node));
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    TURN_UNTIL(n, 1, atomic_load(&n[0].activated) == 1 && atomic_load(&n[1].activated) == 1);
    assert_int_equal(cohort_send(n[1].node, address(0), "s", "x", 1), COHORT_OK);
    TURN_UNTIL(n, 1, atomic_load(&n[0].messages) == 1);
    WAIT_FOR(threads_running() == before); /* one that was joined is listed a moment longer */
    assert_int_equal(close_own(&n[0]), COHORT_OK);
    TURN_UNTIL(n + 1, 1, atomic_load(&n[1].deactivated) == 1);
    assert_int_equal(cohort_loops_close(loops), COHORT_ESTATE);
    assert_int_equal(close_own(&n[1]), COHORT_OK);
    assert_int_equal(cohort_loops_close(loops), COHORT_OK);
}

static void a_start_that_fails_leaves_shared_loops_to_others(void **state)
{
    static struct rig_node n[2];
    cohort_loops *loops = NULL;
    assert_int_equal(cohort_loops_open(2, NULL, &loops), COHORT_OK);
    run_shared(&n[0], 0, loops);
    for (int round = 0; round < 50; round++) {
        rig_begin(&n[1]);
        cohort_config config = rig_config(&n[1], 0);
        config.id = "other";
        config.loops = loops;
        rig_open(&n[1], &config);
        assert_int_equal(cohort_node_start(n[1].node, NULL), COHORT_EADDRINUSE);
        assert_int_equal(cohort_node_add(n[1].node, "a", "127.0.0.1", 1), COHORT_ECLOSED);
        assert_int_equal(rig_close(&n[1]), COHORT_OK);
    }
    run_shared(&n[1], 1, loops);
    assert_int_equal(cohort_node_add(n[1].node, address(0), address(0), PORT), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].activated) == 1 && atomic_load(&n[1].activated) == 1);
    rig_close_pair(n);
    assert_int_equal(cohort_loops_close(loops), COHORT_OK);
}

static struct rig_node *neighbour;
static cohort_loops *neighbourhood;

static void call_the_neighbour(struct rig_node *n, const cohort_message *message)
{
    unsigned wrong = cohort_node_add(neighbour->node, "x", address(5), PORT) != COHORT_OK;
    wrong += cohort_node_remove(neighbour->node, "x") != COHORT_OK;
    wrong += cohort_node_close(neighbour->node, 0) != COHORT_ECALLBACK;
    wrong += cohort_loops_close(neighbourhood) != COHORT_ECALLBACK;
    atomic_fetch_add(&n->wrong, wrong);
}

/* What its last members leave makes room in its quota, of which nobody is left to tell. */
static void a_node_closed_while_full_leaves_nothing_on_shared_loops(void **state)
{
    static struct rig_node n, other;
    cohort_loops *loops = NULL;
    assert_int_equal(cohort_loops_open(0, NULL, &loops), COHORT_OK);
    open_own(&other, 1, loops);
    rig_start(&other);
    rig_begin(&n);
    cohort_config config = rig_config(&n, 0);
    config.loops = loops;
    config.limits.node_queue_bytes_max = 64UL * 1024;
    rig_open(&n, &config);
    rig_start(&n);
    for (unsigned i = 4; i < 6; i++) { /* who never comes */
        assert_int_equal(cohort_node_add(n.node, address(i), address(i), PORT), COHORT_OK);
        dispatch(&other);
        assert_true(fill(&n, i, "s", 0, 4000) > 0);
    }
    assert_int_equal(rig_close(&n), COHORT_ETIMEDOUT);
    dispatch(&other);
    assert_int_equal(close_own(&other), COHORT_OK);
    assert_int_equal(cohort_loops_close(loops), COHORT_OK);
}

#define EARLY 200

/* Requests with a time limit before the node is started, while members change: the loops, which run, leave it alone. */
static void *ask_early(void *arg)
{
    struct rig_node *n = arg;
    static struct asked asked[EARLY];
    memset(asked, 0, sizeof asked);
    for (unsigned i = 0; i < EARLY; i++) {
        ask(n, 5, "s", "x", 1, &asked[i]);
        assert_int_equal(atomic_load(&asked[i].calls), 0);
    }
    return asked;
}

static void what_is_asked_before_the_start_waits_for_it(void **state)
{
    for (unsigned starts = 0; starts < 2; starts++) {
        static struct rig_node n;
        cohort_loops *loops = NULL;
        pthread_t thread;
        void *result = NULL;
        assert_int_equal(cohort_loops_open(1, NULL, &loops), COHORT_OK);
        rig_begin(&n);
        cohort_config config = rig_config(&n, 0);
        config.loops = loops;
        rig_open(&n, &config);
        assert_int_equal(cohort_node_add(n.node, address(5), address(5), PORT), COHORT_OK);
        assert_int_equal(pthread_create(&thread, NULL, ask_early, &n), 0);
        for (unsigned i = 0; i < EARLY; i++) {
            assert_int_equal(cohort_node_add(n.node, address(6), address(6), PORT), COHORT_OK);
            assert_int_equal(cohort_node_remove(n.node, address(6)), COHORT_OK);
        }
        assert_int_equal(pthread_join(thread, &result), 0);
        struct asked *asked = result;
        if (starts == 1) {
            rig_start(&n);
            for (unsigned i = 0; i < EARLY; i++) {
                expect_result(&asked[i], COHORT_ETIMEDOUT);
            }
        }
        (void)rig_close(&n);
        for (unsigned i = 0; i < EARLY; i++) {
            expect_result(&asked[i], starts == 1 ? COHORT_ETIMEDOUT : COHORT_ECLOSED);
        }
        assert_int_equal(cohort_loops_close(loops), COHORT_OK);
    }
}

static void a_callback_may_call_another_node_of_its_loop(void **state)
{
    static struct rig_node n[3];
    assert_int_equal(cohort_loops_open(1, NULL, &neighbourhood), COHORT_OK);
    for (unsigned i = 0; i < 3; i++) {
        run_shared(&n[i], i, neighbourhood);
    }
    neighbour = &n[2];
    n[1].on_message = call_the_neighbour;
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].activated) == 1);
    assert_int_equal(cohort_send(n[0].node, address(1), "s", "x", 1), COHORT_OK);
    WAIT_FOR(atomic_load(&n[1].messages) == 1);
    WAIT_FOR(atomic_load(&n[2].added) == 1 && atomic_load(&n[2].removed) == 1);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(rig_close(&n[i]), COHORT_OK);
    }
    assert_int_equal(cohort_loops_close(neighbourhood), COHORT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(a_node_without_threads),
        node_test(the_descriptor_is_level_triggered_and_quiet),
        node_test(a_timeout_alone_dials_again),
        node_test(other_threads_may_call),
        node_test(members_change_between_dispatches),
        node_test(nothing_is_told_inside_start),
        node_test(misuse_is_refused),
        node_test(what_contradicts_itself_is_refused),
        node_test(nodes_share_one_loop),
        node_test(nodes_share_two_loops),
        node_test(nodes_share_a_loop_of_ours),
        node_test(a_start_that_fails_leaves_shared_loops_to_others),
        node_test(a_callback_may_call_another_node_of_its_loop),
        node_test(a_node_closed_while_full_leaves_nothing_on_shared_loops),
        node_test(what_is_asked_before_the_start_waits_for_it),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
