/* SPDX-License-Identifier: Apache-2.0
 *
 * node/route: what a route sends is as if cohort_send() had; claims built in place, given up, and in order with the rest; members that go.
 */
#include "asking.h"

#define CLAIM_MAX (64 * 1024)

static cohort_route *open_route(struct rig_node *n, unsigned to, const char *subject)
{
    cohort_route *route = NULL;
    assert_int_equal(cohort_route_open(n->node, address(to), subject, &route), COHORT_OK);
    return route;
}

/* ---- what arrives --------------------------------------------------------------------------------------------------- */

/* Messages count up in their first bytes, whichever way they were sent; their length follows from it. */
static void expect_next(struct rig_node *n, const cohort_message *message)
{
    uint32_t sequence = UINT32_MAX;
    memcpy(&sequence, message->data, message->data_len < sizeof sequence ? 0 : sizeof sequence);
    bool right = sequence == n->next[0] && message->data_len == 4 + sequence % 600 && strcmp(message->subject, "counted") == 0;
    atomic_fetch_add(&n->wrong, !right);
    n->next[0]++;
}

static void claim_one(cohort_route *route, uint32_t sequence)
{
    void *at = NULL;
    size_t len = 4 + sequence % 600;
    assert_int_equal(cohort_route_claim(route, len + sequence % 50, &at), COHORT_OK); /* not all of it is used */
    memset(at, 0xee, len);
    memcpy(at, &sequence, sizeof sequence);
    cohort_route_commit(route, len);
}

static void every_way_of_sending_keeps_one_order(void **state)
{
    static struct rig_node n[2];
    static uint8_t data[4 + 600];
    rig_pair(n);
    n[1].on_message = expect_next;
    cohort_route *a = open_route(&n[0], 1, "counted"), *b = open_route(&n[0], 1, "counted");
    for (uint32_t i = 0; i < 5000; i++) {
        size_t len = 4 + i % 600;
        void *unused = NULL;
        memcpy(data, &i, sizeof i);
        switch (i % 5) {
        case 0:
            assert_int_equal(cohort_route_send(a, data, len), COHORT_OK);
            break;
        case 1:
            assert_int_equal(cohort_send(n[0].node, address(1), "counted", data, len), COHORT_OK);
            break;
        case 2:
            assert_int_equal(cohort_route_claim(b, 2000, &unused), COHORT_OK);
            memset(unused, 0xff, 2000);
            cohort_route_abort(b); /* as if it had never been */
            assert_int_equal(cohort_route_send(b, data, len), COHORT_OK);
            break;
        default:
            claim_one(i % 2 == 0 ? a : b, i);
        }
    }
    WAIT_FOR(atomic_load(&n[1].messages) == 5000);
    cohort_route_close(a);
    cohort_route_close(b);
    cohort_route_close(NULL);
    rig_close_pair(n);
}

static void from_the_smallest_to_the_largest(void **state)
{
    static struct rig_node n[2];
    static uint8_t large[1024 * 1024 + 1];
    void *at = NULL;
    rig_pair(n);
    cohort_route *route = open_route(&n[0], 1, "sized");
    assert_int_equal(cohort_route_claim(route, CLAIM_MAX + 1, &at), COHORT_ESIZE);
    assert_int_equal(cohort_route_claim(route, CLAIM_MAX, &at), COHORT_OK);
    memset(at, 1, CLAIM_MAX);
    cohort_route_commit(route, CLAIM_MAX);
    assert_int_equal(cohort_route_claim(route, CLAIM_MAX, &at), COHORT_OK);
    cohort_route_commit(route, 0);
    assert_int_equal(cohort_route_claim(route, 0, &at), COHORT_OK);
    cohort_route_commit(route, 0);
    assert_int_equal(cohort_route_send(route, NULL, 0), COHORT_OK);
    assert_int_equal(cohort_route_send(route, large, sizeof large - 1), COHORT_OK);
    assert_int_equal(cohort_route_send(route, large, sizeof large), COHORT_ESIZE);
    assert_int_equal(cohort_route_send(route, NULL, 1), COHORT_EINVAL);
    WAIT_FOR(atomic_load(&n[1].messages) == 5);
    cohort_route_close(route);
    rig_close_pair(n);
}

/* ---- several threads ------------------------------------------------------------------------------------------------ */

struct sender {
    struct rig_node *n;
    cohort_route *shared, *own;
    uint32_t number;
    unsigned wrong;
    pthread_t thread;
};

static void count_each(struct rig_node *n, const cohort_message *message)
{
    uint32_t m[2];
    memcpy(m, message->data, sizeof m);
    atomic_fetch_add(&n->wrong, message->data_len != 8 + m[1] % 100 || n->next[m[0]] != m[1]);
    n->next[m[0]] = m[1] + 1;
}

static void *send_both_ways(void *arg)
{
    struct sender *s = arg;
    for (uint32_t i = 0; i < 4000; i++) {
        uint8_t data[128] = {0};
        uint32_t m[2] = {s->number, i};
        size_t len = 8 + i % 100;
        void *at = NULL;
        int status;
        memcpy(data, m, sizeof m);
        if (i % 2 == 0) {
            status = cohort_route_send(s->shared, data, len);
        } else if ((status = cohort_route_claim(s->own, len, &at)) == COHORT_OK) {
            memcpy(at, data, len);
            cohort_route_commit(s->own, len);
        }
        s->wrong += status != COHORT_OK;
    }
    return NULL;
}

static void several_threads_send_over_one_route(void **state)
{
    static struct rig_node n[2];
    struct sender senders[4];
    rig_pair(n);
    n[1].on_message = count_each;
    cohort_route *shared = open_route(&n[0], 1, "s");
    for (uint32_t i = 0; i < UNIT_COUNT(senders); i++) {
        senders[i] = (struct sender){.n = &n[0], .shared = shared, .own = open_route(&n[0], 1, "s"), .number = i};
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_both_ways, &senders[i]), 0);
    }
    for (unsigned i = 0; i < UNIT_COUNT(senders); i++) {
        pthread_join(senders[i].thread, NULL);
        assert_int_equal(senders[i].wrong, 0);
        cohort_route_close(senders[i].own);
    }
    WAIT_FOR(atomic_load(&n[1].messages) == UNIT_COUNT(senders) * 4000);
    cohort_route_close(shared);
    rig_close_pair(n);
}

/* ---- a full lane ---------------------------------------------------------------------------------------------------- */

struct writable {
    const char *to;
    _Atomic unsigned calls, wrong;
    _Atomic int lane;
};

static void on_writable(cohort_node *node, const char *id, cohort_lane lane, void *arg)
{
    struct writable *w = arg;
    atomic_fetch_add(&w->wrong, strcmp(id, w->to) != 0);
    atomic_store(&w->lane, (int)lane);
    atomic_fetch_add(&w->calls, 1);
}

static void *fill_shared(void *arg)
{
    static uint8_t data[10000];
    struct sender *s = arg;
    int status;
    while ((status = cohort_route_send(s->shared, data, sizeof data)) == COHORT_OK) {
    }
    s->wrong += status != COHORT_EAGAIN;
    return NULL;
}

/* To a member that is away, by several threads: full for all of them, and told once when it has come and taken half. */
static void a_full_lane_is_told_writable_once(void **state)
{
    static struct rig_node n[2];
    struct writable w = {.to = address(1)};
    struct sender senders[3];
    cohort_handle_id ignored;
    cohort_subject_options options;
    cohort_link_stats stats;
    void *at = NULL;
    run_without_handlers(&n[0], 0, NULL);
    assert_int_equal(cohort_on_writable(n[0].node, on_writable, &w, NULL, &ignored), COHORT_OK);
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    COHORT_SUBJECT_OPTIONS_INIT(&options);
    options.lane = COHORT_LANE_BULK;
    assert_int_equal(cohort_subject_set(n[0].node, "filled", &options), COHORT_OK);
    cohort_route *route = open_route(&n[0], 1, "filled"), *other = open_route(&n[0], 1, "normal");
    for (unsigned i = 0; i < UNIT_COUNT(senders); i++) {
        senders[i] = (struct sender){.shared = route};
        assert_int_equal(pthread_create(&senders[i].thread, NULL, fill_shared, &senders[i]), 0);
    }
    for (unsigned i = 0; i < UNIT_COUNT(senders); i++) {
        pthread_join(senders[i].thread, NULL);
        assert_int_equal(senders[i].wrong, 0);
    }
    assert_int_equal(cohort_route_claim(route, 10000, &at), COHORT_EAGAIN);
    assert_int_equal(cohort_route_send(other, "x", 1), COHORT_OK); /* another lane has room */
    assert_int_equal(cohort_link_stats_get(n[0].node, address(1), &stats), COHORT_OK);
    assert_true(stats.queued_bytes <= 8 * 1024 * 1024 + 1000);
    assert_int_equal(atomic_load(&w.calls), 0);
    rig_run(&n[1], 1);
    WAIT_FOR(atomic_load(&w.calls) == 1);
    assert_int_equal(atomic_load(&w.lane), COHORT_LANE_BULK);
    do {
        assert_int_equal(cohort_link_stats_get(n[0].node, address(1), &stats), COHORT_OK);
        sched_yield();
    } while (stats.queued_bytes > 0);
    assert_int_equal(cohort_route_send(route, "x", 1), COHORT_OK);
    cohort_route_close(route);
    cohort_route_close(other);
    rig_close_pair(n);
    assert_int_equal(atomic_load(&w.calls), 1);
    assert_int_equal(atomic_load(&w.wrong), 0);
}

/* A lane that drops what does not fit says so in a counter, over a route as over cohort_send(). */
static void a_route_keeps_to_the_policy_of_its_subject(void **state)
{
    static struct rig_node n;
    static uint8_t data[100000];
    cohort_subject_options options;
    cohort_node_stats stats;
    run_without_handlers(&n, 0, NULL);
    assert_int_equal(cohort_node_add(n.node, address(1), address(1), PORT), COHORT_OK);
    COHORT_SUBJECT_OPTIONS_INIT(&options);
    options.when_full = COHORT_FULL_DROP;
    assert_int_equal(cohort_subject_set(n.node, "dropped", &options), COHORT_OK);
    cohort_route *route = open_route(&n, 1, "dropped");
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(cohort_route_send(route, data, sizeof data), COHORT_OK);
    }
    cohort_node_stats_get(n.node, &stats);
    assert_in_range(stats.messages_dropped, 200 - 84, 200 - 82); /* 8 MiB of them fit */
    cohort_route_close(route);
    (void)rig_close(&n);
}

/* A burst takes memory, and a while after it is acknowledged that is gone. */
static void memory_of_a_burst_goes(void **state)
{
    static struct rig_node n[2];
    static const char data[1000];
    rig_pair(n);
    cohort_route *route = open_route(&n[0], 1, "burst");
    assert_int_equal(cohort_route_send(route, data, sizeof data), COHORT_OK);
    WAIT_FOR(atomic_load(&n[1].messages) == 1);
    int64_t before = atomic_load(&n[0].memory.blocks), most = before;
    for (unsigned i = 0; i < 5000; i++) {
        assert_int_equal(cohort_route_send(route, data, sizeof data), COHORT_OK);
        int64_t now = atomic_load(&n[0].memory.blocks);
        most = now > most ? now : most;
    }
    assert_true(most > before + 1);
    WAIT_FOR(atomic_load(&n[1].messages) == 5001);
    WAIT_FOR(atomic_load(&n[0].memory.blocks) <= before);
    cohort_route_close(route);
    rig_close_pair(n);
}

/* ---- members and errors --------------------------------------------------------------------------------------------- */

static void a_route_ends_with_the_membership(void **state)
{
    static struct rig_node n[2];
    void *at = NULL;
    rig_pair(n);
    cohort_route *before = open_route(&n[0], 1, "s");
    assert_int_equal(cohort_route_send(before, "x", 1), COHORT_OK);
    WAIT_FOR(atomic_load(&n[1].messages) == 1);
    assert_int_equal(cohort_node_remove(n[0].node, address(1)), COHORT_OK);
    assert_int_equal(cohort_route_send(before, "x", 1), COHORT_ENOPEER);
    assert_int_equal(cohort_route_claim(before, 1, &at), COHORT_ENOPEER);
    WAIT_FOR(atomic_load(&n[0].deactivated) == 1);
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].activated) == 2);
    assert_int_equal(cohort_route_send(before, "x", 1), COHORT_ENOPEER); /* for good */
    cohort_route *after = open_route(&n[0], 1, "s");
    assert_int_equal(cohort_route_send(after, "x", 1), COHORT_OK);
    WAIT_FOR(atomic_load(&n[1].messages) == 2);
    cohort_route_close(before);
    cohort_route_close(after);
    rig_close_pair(n);
}

/* However often links break, and when the member's process is another one, whose numbers of names begin anew. */
static void a_route_outlives_links_and_processes(void **state)
{
    static struct rig_node n[2];
    void *at = NULL;
    rig_pair(n);
    cohort_route *named = open_route(&n[0], 1, "named"), *other = open_route(&n[0], 1, "other");
    for (unsigned round = 1; round <= 4; round++) {
        assert_int_equal(cohort_route_send(other, "x", 1), COHORT_OK);
        assert_int_equal(cohort_route_claim(named, 3, &at), COHORT_OK);
        memcpy(at, "abc", 3);
        cohort_route_commit(named, 3);
        WAIT_FOR(atomic_load(&n[1].messages) == 2 * round);
        assert_true(break_links() > 0);
        WAIT_FOR(atomic_load(&n[0].deactivated) >= 1);
    }
    (void)rig_close(&n[1]);
    rig_run(&n[1], 1);
    WAIT_FOR(atomic_load(&n[1].activated) >= 1);
    assert_int_equal(cohort_route_send(other, "x", 1), COHORT_OK);
    assert_int_equal(cohort_route_send(named, "x", 1), COHORT_OK);
    WAIT_FOR(atomic_load(&n[1].messages) == 2);
    cohort_route_close(named);
    cohort_route_close(other);
    rig_close_pair(n);
}

static void a_legacy_member_takes_raw_frames_over_a_route(void **state)
{
    static struct rig_node n;
    uint8_t data[64];
    size_t len = 0;
    void *at = NULL;
    rig_run(&n, 0);
    int fd = bare_connect(0, 5, 0);
    WAIT_FOR(atomic_load(&n.activated) == 1);
    cohort_route *named = open_route(&n, 5, "named"), *raw = open_route(&n, 5, "#7");
    assert_int_equal(cohort_route_send(named, "x", 1), COHORT_ELEGACY);
    assert_int_equal(cohort_route_claim(named, 1, &at), COHORT_ELEGACY);
    assert_int_equal(cohort_route_claim(raw, 1, &at), COHORT_EINVAL);
    assert_int_equal(cohort_route_send(raw, "raw", 3), COHORT_OK);
    assert_int_equal(bare_next(fd, data, sizeof data, &len), 7);
    assert_int_equal(len, 3);
    close(fd);
    WAIT_FOR(atomic_load(&n.deactivated) == 1);
    assert_int_equal(cohort_route_send(raw, "raw", 3), COHORT_EINACTIVE);
    cohort_route_close(named);
    cohort_route_close(raw);
    (void)rig_close(&n);
}

static void routes_that_are_not_to_be(void **state)
{
    static struct rig_node n;
    cohort_route *route = NULL;
    run_without_handlers(&n, 0, NULL);
    assert_int_equal(cohort_node_add(n.node, address(1), address(1), PORT), COHORT_OK);
    assert_int_equal(cohort_route_open(n.node, NULL, "s", &route), COHORT_EINVAL);
    assert_int_equal(cohort_route_open(n.node, address(1), NULL, &route), COHORT_EINVAL);
    assert_int_equal(cohort_route_open(n.node, address(1), "a b", &route), COHORT_EINVAL);
    assert_int_equal(cohort_route_open(n.node, address(1), "", &route), COHORT_EINVAL);
    assert_int_equal(cohort_route_open(n.node, address(0), "s", &route), COHORT_EINVAL);
    assert_int_equal(cohort_route_open(n.node, "nobody", "s", &route), COHORT_ENOPEER);
    assert_null(route);
    (void)rig_close(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(every_way_of_sending_keeps_one_order),
        node_test(from_the_smallest_to_the_largest),
        node_test(several_threads_send_over_one_route),
        node_test(a_full_lane_is_told_writable_once),
        node_test(a_route_keeps_to_the_policy_of_its_subject),
        node_test(memory_of_a_burst_goes),
        node_test(a_route_ends_with_the_membership),
        node_test(a_route_outlives_links_and_processes),
        node_test(a_legacy_member_takes_raw_frames_over_a_route),
        node_test(routes_that_are_not_to_be),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
