/* SPDX-License-Identifier: Apache-2.0
 *
 * node/peer and the member calls: add and remove at run time, from threads and from inside callbacks, and their errors.
 */
#include "asking.h"

static void members_are_asked_for(void **state)
{
    static struct rig_node n;
    cohort_member m, two[2];
    size_t count = 0;
    rig_run(&n, 0);
    cohort_node_local(n.node, &m);
    assert_string_equal(m.id, address(0));
    assert_true(m.local);
    assert_int_equal(m.state, COHORT_ACTIVE);
    assert_int_equal(cohort_node_member(n.node, "nobody", &m), COHORT_ENOPEER);
    assert_int_equal(cohort_node_state(n.node, "nobody"), COHORT_INACTIVE);
    assert_int_equal(cohort_node_add(n.node, "a", address(6), PORT), COHORT_OK);
    assert_int_equal(cohort_node_add(n.node, "b", address(6), PORT + 1), COHORT_OK);
    assert_int_equal(cohort_node_member(n.node, "a", &m), COHORT_OK); /* published when add returns */
    assert_int_equal(m.tcp_port, PORT);
    assert_int_equal(cohort_node_add(n.node, "a", address(7), 7), COHORT_OK);
    assert_int_equal(cohort_node_member(n.node, "a", &m), COHORT_OK);
    assert_int_equal(m.tcp_port, 7);
    cohort_node_members(n.node, two, 2, &count);
    assert_int_equal(count, 3);
    cohort_node_members(n.node, NULL, 0, &count);
    assert_int_equal(count, 3);
    assert_int_equal(rig_close(&n), COHORT_OK);
}

static void errors_of_add_and_remove(void **state)
{
    static struct rig_node n;
    cohort_member m;
    size_t count = 0;
    rig_begin(&n);
    cohort_config config = rig_config(&n, 0);
    config.limits.members_max = 2;
    rig_open(&n, &config);
    for (int started = 0; started < 2; started++) {
        assert_int_equal(cohort_node_add(n.node, NULL, address(1), PORT), COHORT_EINVAL);
        assert_int_equal(cohort_node_add(n.node, "a", NULL, PORT), COHORT_EINVAL);
        assert_int_equal(cohort_node_add(n.node, "a b", address(1), PORT), COHORT_EINVAL);
        assert_int_equal(cohort_node_add(n.node, "a", "10.0.0.256", PORT), COHORT_EINVAL);
        assert_int_equal(cohort_node_add(n.node, "a", address(1), 0), COHORT_EINVAL);
        assert_int_equal(cohort_node_add(n.node, address(0), address(1), PORT), COHORT_EINVAL);
        assert_int_equal(cohort_node_remove(n.node, NULL), COHORT_EINVAL);
        assert_int_equal(cohort_node_remove(n.node, address(0)), COHORT_EINVAL);
        assert_int_equal(cohort_node_remove(n.node, "a"), COHORT_ENOPEER);
        assert_int_equal(cohort_node_add(n.node, "a", address(6), PORT), COHORT_OK);
        assert_int_equal(cohort_node_add(n.node, "b", address(6), PORT), COHORT_ELIMIT);
        assert_int_equal(cohort_node_remove(n.node, "a"), COHORT_OK);
        assert_int_equal(cohort_node_state(n.node, "a"), COHORT_INACTIVE);
        assert_int_equal(cohort_node_member(n.node, "a", &m), COHORT_ENOPEER);
        assert_int_equal(cohort_send(n.node, "a", "s", "x", 1), COHORT_ENOPEER);
        cohort_node_members(n.node, NULL, 0, &count);
        assert_int_equal(count, 1);
        if (!started) {
            rig_start(&n);
        }
    }
    assert_int_equal(rig_close(&n), COHORT_OK);
}

static void a_removed_member_is_told_of_and_stays_away(void **state)
{
    static struct rig_node n[2];
    cohort_node_stats stats;
    rig_pair(n);
    assert_int_equal(atomic_load(&n[0].added), 1);
    assert_int_equal(atomic_load(&n[1].added), 1); /* open admission: by its greeting */
    assert_int_equal(cohort_node_remove(n[0].node, address(1)), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].removed) == 1);
    assert_int_equal(atomic_load(&n[0].deactivated), 1);
    assert_int_equal(atomic_load(&n[0].last_reason), COHORT_EREMOVED);
    WAIT_FOR(atomic_load(&n[1].deactivated) == 1);
    do { /* it dials again, and is refused */
        cohort_node_stats_get(n[0].node, &stats);
        sched_yield();
    } while (stats.errors[-COHORT_EREMOVED] < 2);
    assert_int_equal(atomic_load(&n[0].activated), 1);
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].activated) == 2 && atomic_load(&n[1].activated) == 2);
    rig_close_pair(n);
}

/* ACTIVATED removes the member, REMOVED adds it again: forty events of nothing but that. */
static void turn_round(struct rig_node *n, const cohort_event *event)
{
    int status = COHORT_OK;
    if (atomic_load(&n->removed) >= 10) {
        return;
    }
    if (event->type == COHORT_MEMBER_ACTIVATED) {
        status = cohort_node_remove(n->node, event->member.id);
        atomic_fetch_add(&n->wrong, cohort_node_remove(n->node, event->member.id) != COHORT_ENOPEER); /* took effect */
    } else if (event->type == COHORT_MEMBER_REMOVED) {
        status = cohort_node_add(n->node, event->member.id, event->member.ip, event->member.tcp_port);
    }
    atomic_fetch_add(&n->wrong, status != COHORT_OK);
}

static void members_change_inside_callbacks(void **state)
{
    static struct rig_node n[2];
    cohort_handle_id ignored;
    rig_run(&n[1], 1);
    rig_begin(&n[0]);
    cohort_config config = rig_config(&n[0], 0);
    n[0].on_event = turn_round;
    rig_open(&n[0], &config);
    assert_int_equal(cohort_handle(n[0].node, NULL, rig_on_message, &n[0], rig_on_release, &ignored), COHORT_OK);
    rig_start(&n[0]);
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].removed) >= 10);
    rig_close_pair(n);
}

static void add_another(struct rig_node *n, const cohort_event *event)
{
    if (event->type == COHORT_MEMBER_ADDED && strcmp(event->member.id, "a") == 0) {
        int status = cohort_node_add(n->node, "b", address(6), PORT);
        atomic_fetch_add(&n->wrong, status != COHORT_OK);
        atomic_fetch_add(&n->wrong, cohort_node_close(n->node, 0) != COHORT_ECALLBACK);
        atomic_fetch_add(&n->wrong, cohort_node_start(n->node, NULL) != COHORT_ECALLBACK);
    }
}

static void members_change_inside_callbacks_before_start(void **state)
{
    static struct rig_node n;
    rig_begin(&n);
    cohort_config config = rig_config(&n, 0);
    n.on_event = add_another;
    rig_open(&n, &config);
    assert_int_equal(cohort_node_add(n.node, "a", address(6), PORT), COHORT_OK);
    assert_int_equal(atomic_load(&n.added), 2);
    assert_int_equal(rig_close(&n), COHORT_OK);
}

static void *add_and_remove(void *arg)
{
    struct rig_node *n = arg;
    static _Atomic unsigned next;
    char id[16];
    (void)snprintf(id, sizeof id, "t%u", atomic_fetch_add(&next, 1));
    for (unsigned i = 0; i < 200; i++) {
        int added = cohort_node_add(n->node, id, address(6), (uint16_t)(1 + i));
        int removed = cohort_node_remove(n->node, id);
        atomic_fetch_add(&n->wrong, added != COHORT_OK || removed != COHORT_OK);
    }
    return NULL;
}

static void members_change_from_many_threads(void **state)
{
    static struct rig_node n;
    pthread_t threads[4];
    rig_run(&n, 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, add_and_remove, &n), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&n.added), 800);
    assert_int_equal(atomic_load(&n.removed), 800);
    assert_int_equal(rig_close(&n), COHORT_OK);
}

/* ---- two who change members at the same time, each where the other's change may have to be made ----------------------------- */

static struct {
    struct rig_node n[NODES_MAX];
    _Atomic pthread_t control[2]; /* who runs the listeners of the first two */
    _Atomic unsigned inside, elsewhere, changed;
} both;

/* Returns when both are inside a callback, so that neither can serve the other. */
static void add_when_both_are_inside(struct rig_node *n)
{
    uint64_t until = clock_ms() + BOUND_MS;
    atomic_fetch_add(&both.inside, 1);
    while (atomic_load(&both.inside) < 2 && clock_ms() < until) {
        sched_yield();
    }
    atomic_fetch_add(&both.changed, cohort_node_add(n->node, "x", address(5), PORT) == COHORT_OK);
}

static void note_control(struct rig_node *n, const cohort_event *event)
{
    atomic_store(&both.control[n - both.n], pthread_self());
}

static void add_from_handler(struct rig_node *n, const cohort_message *message)
{
    atomic_fetch_add(&both.elsewhere, !pthread_equal(atomic_load(&both.control[n - both.n]), pthread_self()));
    add_when_both_are_inside(n);
}

static void handlers_on_shared_loops_change_members(void **state)
{
    struct rig_node *n = both.n;
    cohort_loops *loops = NULL;
    memset(&both, 0, sizeof both);
    assert_int_equal(cohort_loops_open(2, NULL, &loops), COHORT_OK);
    for (unsigned i = 0; i < 2; i++) {
        cohort_handle_id ignored;
        rig_begin(&n[i]);
        cohort_config config = rig_config(&n[i], i);
        config.loops = loops;
        n[i].on_event = note_control;
        n[i].on_message = add_from_handler;
        rig_open(&n[i], &config);
        assert_int_equal(cohort_handle(n[i].node, NULL, rig_on_message, &n[i], rig_on_release, &ignored), COHORT_OK);
        rig_start(&n[i]);
    }
    run_without_handlers(&n[2], 2, NULL);
    run_without_handlers(&n[3], 3, NULL);
    for (unsigned i = 0; i < 2; i++) { /* each goes to the loop with fewer: of both nodes, 2 to one and 3 to the other */
        meet(&n[i], &n[2], 2);
        meet(&n[i], &n[3], 3);
    }
    assert_int_equal(cohort_send(n[3].node, address(0), "s", "x", 1), COHORT_OK);
    assert_int_equal(cohort_send(n[2].node, address(1), "s", "x", 1), COHORT_OK);
    WAIT_FOR(atomic_load(&both.changed) == 2);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(rig_close(&n[i]), COHORT_OK);
    }
    assert_int_equal(cohort_loops_close(loops), COHORT_OK);
    assert_true(atomic_load(&both.elsewhere) > 0);
}

static void add_to_the_other(struct rig_node *n, const cohort_event *event)
{
    if (strcmp(event->member.id, "go") == 0) {
        add_when_both_are_inside(&both.n[n == both.n]);
    }
}

static void *add_go(void *arg)
{
    struct rig_node *n = arg;
    atomic_fetch_add(&n->wrong, cohort_node_add(n->node, "go", address(6), PORT) != COHORT_OK);
    return NULL;
}

static void listeners_of_two_nodes_change_the_others_members(void **state)
{
    pthread_t threads[2];
    memset(&both, 0, sizeof both);
    for (unsigned i = 0; i < 2; i++) {
        run_without_handlers(&both.n[i], i, NULL);
        both.n[i].on_event = add_to_the_other;
    }
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, add_go, &both.n[i]), 0);
    }
    WAIT_FOR(atomic_load(&both.changed) == 2);
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        WAIT_FOR(atomic_load(&both.n[i].added) == 2);
        assert_int_equal(rig_close(&both.n[i]), COHORT_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(members_are_asked_for),
        node_test(errors_of_add_and_remove),
        node_test(a_removed_member_is_told_of_and_stays_away),
        node_test(members_change_inside_callbacks),
        node_test(members_change_inside_callbacks_before_start),
        node_test(members_change_from_many_threads),
        node_test(handlers_on_shared_loops_change_members),
        node_test(listeners_of_two_nodes_change_the_others_members),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
