/* SPDX-License-Identifier: Apache-2.0
 *
 * node/node and conn: closing with peers that read, read slowly, or do not read; closing from where it is not allowed; release.
 */
#include "rig.h"

static void close_inside(struct rig_node *n)
{
    atomic_fetch_add(&n->wrong, cohort_node_close(n->node, 0) != COHORT_ECALLBACK);
}

static void close_on_event(struct rig_node *n, const cohort_event *event)
{
    close_inside(n);
}

static void close_on_message(struct rig_node *n, const cohort_message *message)
{
    close_inside(n);
}

static void close_on_echo(cohort_node *node, const char *id, int status, uint64_t rtt_ns, void *arg)
{
    struct rig_node *n = arg;
    close_inside(n);
    atomic_fetch_add(&n->messages, 1);
}

static void closing_inside_a_callback_is_refused(void **state)
{
    static struct rig_node n[2];
    rig_pair(n);
    n[1].on_message = close_on_message;
    assert_int_equal(cohort_send(n[0].node, address(1), "s", "x", 1), COHORT_OK);
    WAIT_FOR(atomic_load(&n[1].messages) == 1);
    assert_int_equal(cohort_echo(n[0].node, address(1), NULL, 0, 10000, close_on_echo, &n[0]), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].messages) == 1);
    n[0].on_event = close_on_event;
    assert_int_equal(cohort_node_add(n[0].node, "a", address(6), PORT), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].added) == 2);
    rig_close_pair(n);
    assert_int_equal(atomic_load(&n[0].released), 2);
}

/* Queue `bytes` of raw frames beyond what the kernel takes. */
static unsigned queue_bytes(struct rig_node *n, const char *to, size_t bytes)
{
    static uint8_t data[30000];
    cohort_link_stats stats = {0};
    unsigned sent = 0;
    while (stats.queued_bytes < bytes) {
        assert_int_equal(cohort_send(n->node, to, "#7", data, sizeof data), COHORT_OK);
        assert_int_equal(cohort_link_stats_get(n->node, to, &stats), COHORT_OK);
        sent++;
    }
    return sent;
}

static void a_peer_that_does_not_read_is_cut_at_the_timeout(void **state)
{
    static struct rig_node n;
    rig_run(&n, 0);
    int fd = bare_connect(0, 5, 4096);
    WAIT_FOR(atomic_load(&n.activated) == 1);
    (void)queue_bytes(&n, address(5), 4 * 1024 * 1024);
    uint64_t start = clock_ms();
    assert_int_equal(cohort_node_close(n.node, 1200), COHORT_ETIMEDOUT);
    assert_in_range(clock_ms() - start, 1200, BOUND_MS);
    assert_int_equal(atomic_load(&n.memory.blocks), 0);
    assert_int_equal(atomic_load(&n.released), 2);
    close(fd);
}

struct slow_reader {
    int fd;
    unsigned expected;
    _Atomic unsigned read;
    pthread_t thread;
};

/* Takes one frame now and then, so that all of it takes longer than last words may. */
static void *read_slowly(void *arg)
{
    static uint8_t data[40000];
    struct slow_reader *r = arg;
    size_t len = 0;
    uint64_t next = clock_ms() + 900;
    while (clock_ms() < next) {
        sched_yield();
    }
    while (bare_next(r->fd, data, sizeof data, &len) == 7) {
        atomic_fetch_add(&r->read, 1);
    }
    close(r->fd);
    return NULL;
}

static void a_slow_peer_gets_all_within_the_timeout(void **state)
{
    static struct rig_node n;
    struct slow_reader r = {0};
    rig_run(&n, 0);
    r.fd = bare_connect(0, 5, 4096);
    WAIT_FOR(atomic_load(&n.activated) == 1);
    r.expected = queue_bytes(&n, address(5), 2 * 1024 * 1024);
    assert_int_equal(pthread_create(&r.thread, NULL, read_slowly, &r), 0);
    assert_int_equal(cohort_node_close(n.node, BOUND_MS), COHORT_OK);
    pthread_join(r.thread, NULL);
    assert_int_equal(atomic_load(&r.read), r.expected);
    assert_int_equal(atomic_load(&n.memory.blocks), 0);
}

static void connections_in_every_phase_are_closed(void **state)
{
    static struct rig_node n;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    cohort_node_stats stats;
    int fd[4];
    rig_run(&n, 0);
    inet_pton(AF_INET, address(0), &sa.sin_addr);
    for (unsigned i = 0; i < 4; i++) { /* strangers that say nothing, or half a HELLO */
        fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd[i], (struct sockaddr *)&sa, sizeof sa), 0);
        bare_write(fd[i], "\xfe\xed\xca\xfe\xca", i);
    }
    int legacy = bare_connect(0, 5, 0);
    assert_int_equal(cohort_node_add(n.node, "away", "192.0.2.1", PORT), COHORT_OK); /* a dial that hangs, or fails */
    do {
        cohort_node_stats_get(n.node, &stats);
        sched_yield();
    } while (stats.links_accepted < 5 || atomic_load(&n.activated) < 1);
    (void)rig_close(&n);
    for (unsigned i = 0; i < 4; i++) {
        close(fd[i]);
    }
    close(legacy);
}

static void closing_at_once_after_start(void **state)
{
    for (unsigned round = 0; round < 20; round++) {
        static struct rig_node n[2];
        rig_run(&n[0], 0);
        rig_run(&n[1], 1);
        assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
        assert_int_equal(cohort_node_add(n[1].node, address(0), address(0), PORT), COHORT_OK);
        (void)rig_close(&n[round % 2]);
        (void)rig_close(&n[!(round % 2)]);
    }
}

/* Both ends go at once, while both send. */
struct flood {
    struct rig_node *n;
    const char *to;
    _Atomic bool stop;
    pthread_t thread;
};

static void *send_all_the_time(void *arg)
{
    struct flood *f = arg;
    while (!atomic_load(&f->stop)) {
        (void)!cohort_send(f->n->node, f->to, "flood", "0123456789", 10);
    }
    return NULL;
}

static void *close_one(void *arg)
{
    (void)rig_close(arg);
    return NULL;
}

static void both_ends_close_under_load(void **state)
{
    for (unsigned round = 0; round < 10; round++) {
        static struct rig_node n[2];
        struct flood f[2] = {{&n[0], address(1), false, 0}, {&n[1], address(0), false, 0}};
        pthread_t closer;
        rig_pair(n);
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(pthread_create(&f[i].thread, NULL, send_all_the_time, &f[i]), 0);
        }
        WAIT_FOR(atomic_load(&n[0].messages) > 100 && atomic_load(&n[1].messages) > 100);
        for (unsigned i = 0; i < 2; i++) {
            atomic_store(&f[i].stop, true);
            pthread_join(f[i].thread, NULL);
        }
        assert_int_equal(pthread_create(&closer, NULL, close_one, &n[1]), 0);
        (void)rig_close(&n[0]);
        pthread_join(closer, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(closing_inside_a_callback_is_refused),
        node_test(a_peer_that_does_not_read_is_cut_at_the_timeout),
        node_test(a_slow_peer_gets_all_within_the_timeout),
        node_test(connections_in_every_phase_are_closed),
        node_test(closing_at_once_after_start),
        node_test(both_ends_close_under_load),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
