/* SPDX-License-Identifier: Apache-2.0
 *
 * node/node: opening, starting, a cluster of three in one process, handlers and their release, loops.
 */
#include "rig.h"

static void greet_the_new_member(struct rig_node *n, const cohort_event *event)
{
    if (event->type == COHORT_MEMBER_ACTIVATED) {
        int status = cohort_send(n->node, event->member.id, "hello", "hi", 2);
        atomic_fetch_add(&n->wrong, status != COHORT_OK); /* ACTIVATED: it can be sent to */
    }
}

static void cluster_of_three(uint32_t loop_count)
{
    static struct rig_node n[3];
    cohort_definition_node nodes[3];
    cohort_definition definition = {.cluster = "three", .nodes = nodes, .node_count = 3};
    for (unsigned i = 0; i < 3; i++) {
        nodes[i] = (cohort_definition_node){.tcp_port = PORT};
        (void)snprintf(nodes[i].id, sizeof nodes[i].id, "%.64s", address(i));
        (void)snprintf(nodes[i].ip, sizeof nodes[i].ip, "%s", address(i));
    }
    for (unsigned i = 0; i < 3; i++) {
        cohort_handle_id ignored;
        rig_begin(&n[i]);
        cohort_config config = rig_config(&n[i], i);
        config.definition = &definition;
        config.loop_count = loop_count;
        n[i].on_event = greet_the_new_member;
        rig_open(&n[i], &config);
        assert_int_equal(cohort_handle(n[i].node, "hello", rig_on_message, &n[i], rig_on_release, &ignored), COHORT_OK);
        rig_start(&n[i]);
    }
    for (unsigned i = 0; i < 3; i++) {
        cohort_member members[4];
        size_t count = 0;
        WAIT_FOR(atomic_load(&n[i].messages) >= 2 && atomic_load(&n[i].activated) >= 2);
        assert_int_equal(atomic_load(&n[i].added), 0); /* they were there from the beginning */
        cohort_node_members(n[i].node, members, 4, &count);
        assert_int_equal(count, 3);
        for (unsigned j = 0; j < 3; j++) {
            assert_int_equal(members[j].local, strcmp(members[j].id, address(i)) == 0);
            assert_true(j == 0 || strcmp(members[j - 1].id, members[j].id) < 0);
            assert_true(members[j].incarnation > 0);
        }
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(rig_close(&n[i]), COHORT_OK);
        assert_int_equal(atomic_load(&n[i].released), 2);
    }
}

static void three_nodes_form_a_cluster(void **state)
{
    cluster_of_three(2);
}

static void control_may_carry_all(void **state)
{
    cluster_of_three(0);
}

static void a_node_opened_and_never_started_is_closed(void **state)
{
    static struct rig_node n;
    rig_begin(&n);
    cohort_config config = rig_config(&n, 0);
    rig_open(&n, &config);
    assert_int_equal(cohort_node_add(n.node, "a", "127.0.0.1", 1), COHORT_OK);
    assert_int_equal(cohort_send(n.node, "a", "s", "x", 1), COHORT_OK);
    assert_int_equal(atomic_load(&n.added), 1);
    assert_int_equal(rig_close(&n), COHORT_ETIMEDOUT); /* what was accepted will not be delivered */
    assert_int_equal(atomic_load(&n.released), 1);
    assert_int_equal(cohort_node_close(NULL, 0), COHORT_OK);
}

static void an_address_in_use_is_named_and_nothing_stays(void **state)
{
    static struct rig_node n[2];
    cohort_error error;
    rig_run(&n[0], 0);
    unsigned before = open_descriptors();
    rig_begin(&n[1]);
    cohort_config config = rig_config(&n[1], 0);
    config.id = "other";
    rig_open(&n[1], &config);
    assert_int_equal(cohort_node_start(n[1].node, &error), COHORT_EADDRINUSE);
    assert_int_equal(error.code, COHORT_EADDRINUSE);
    assert_non_null(strstr(error.text, address(0)));
    assert_int_equal(cohort_node_start(n[1].node, NULL), COHORT_ESTATE);
    assert_int_equal(cohort_node_add(n[1].node, "a", "127.0.0.1", 1), COHORT_ECLOSED);
    assert_int_equal(rig_close(&n[1]), COHORT_OK);
    assert_int_equal(open_descriptors(), before);
    assert_int_equal(rig_close(&n[0]), COHORT_OK);
}

static void an_address_of_another_machine_is_refused(void **state)
{
    static struct rig_node n;
    cohort_error error;
    rig_begin(&n);
    cohort_config config = rig_config(&n, 0);
    config.ip = "192.0.2.1";
    rig_open(&n, &config);
    assert_int_equal(cohort_node_start(n.node, &error), COHORT_EADDR);
    assert_int_equal(rig_close(&n), COHORT_OK);
}

static void *add_until_closed(void *arg)
{
    struct rig_node *n = arg;
    int status = COHORT_OK;
    while (status == COHORT_OK) {
        status = cohort_node_add(n->node, "a", "127.0.0.1", 1);
    }
    atomic_fetch_add(&n->wrong, status != COHORT_ECLOSED);
    return NULL;
}

/* A call that came between the start of the loops and their end is answered too. */
static void calls_beside_a_start_that_fails_return(void **state)
{
    static struct rig_node n;
    for (int round = 0; round < 200; round++) {
        pthread_t adding;
        rig_begin(&n);
        cohort_config config = rig_config(&n, 0);
        config.ip = "192.0.2.1";
        rig_open(&n, &config);
        assert_int_equal(pthread_create(&adding, NULL, add_until_closed, &n), 0);
        WAIT_FOR(atomic_load(&n.added) == 1);
        assert_int_equal(cohort_node_start(n.node, NULL), COHORT_EADDR);
        pthread_join(adding, NULL);
        assert_int_equal(rig_close(&n), COHORT_OK);
    }
}

static void a_node_starts_once(void **state)
{
    static struct rig_node n;
    cohort_error error;
    rig_run(&n, 0);
    assert_int_equal(cohort_node_start(n.node, &error), COHORT_ESTATE);
    assert_int_equal(error.code, COHORT_ESTATE);
    assert_int_equal(rig_close(&n), COHORT_OK);
}

static void a_bad_configuration_opens_nothing(void **state)
{
    cohort_config config;
    cohort_node *node = NULL;
    cohort_error error;
    COHORT_CONFIG_INIT(&config);
    config.id = "a b";
    assert_int_equal(cohort_node_open(&config, &node, &error), COHORT_EINVAL);
    assert_non_null(strstr(error.text, "config.id"));
    assert_int_equal(cohort_node_open(&config, &node, NULL), COHORT_EINVAL);
    assert_null(node);
}

static void handlers_and_listeners(void **state)
{
    static struct rig_node n;
    cohort_handle_id id = 0;
    rig_begin(&n);
    cohort_config config = rig_config(&n, 0);
    config.limits.handlers_max = 3;
    rig_open(&n, &config); /* takes one */
    assert_int_equal(cohort_listen(n.node, NULL, &n, rig_on_release, &id), COHORT_EINVAL);
    assert_int_equal(cohort_handle(n.node, "s", NULL, &n, rig_on_release, &id), COHORT_EINVAL);
    static const char *const bad[] = {"", "a b", "#1", "#2", "#", "#x", "#07", "#4294967296", "\x7f"};
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        assert_int_equal(cohort_handle(n.node, bad[i], rig_on_message, &n, rig_on_release, &id), COHORT_EINVAL);
    }
    assert_int_equal(cohort_handle(n.node, "#-1", rig_on_message, &n, rig_on_release, &id), COHORT_OK);
    assert_int_equal(cohort_listen(n.node, rig_on_event, &n, rig_on_release, NULL), COHORT_OK);
    assert_int_equal(cohort_handle(n.node, "s", rig_on_message, &n, rig_on_release, &id), COHORT_ELIMIT);
    assert_int_equal(cohort_listen(n.node, rig_on_event, &n, rig_on_release, &id), COHORT_ELIMIT);
    assert_int_equal(atomic_load(&n.released), 0);
    assert_int_equal(cohort_unhandle(n.node, id), COHORT_OK);
    assert_int_equal(atomic_load(&n.released), 1);
    assert_int_equal(cohort_unhandle(n.node, id), COHORT_EINVAL);
    assert_int_equal(cohort_unhandle(n.node, 0), COHORT_EINVAL);
    assert_int_equal(rig_close(&n), COHORT_OK);
}

static void a_restarted_node_comes_back(void **state)
{
    static struct rig_node n[2];
    rig_pair(n);
    for (unsigned round = 1; round <= 3; round++) {
        assert_int_equal(rig_close(&n[1]), COHORT_OK);
        WAIT_FOR(atomic_load(&n[0].deactivated) == round);
        assert_int_equal(atomic_load(&n[0].last_reason), COHORT_ELEFT);
        rig_run(&n[1], 1);
        WAIT_FOR(atomic_load(&n[0].activated) == round + 1 && atomic_load(&n[1].activated) == 1); /* who leaves earlier never came */
    }
    rig_close_pair(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(three_nodes_form_a_cluster),
        node_test(control_may_carry_all),
        node_test(a_node_opened_and_never_started_is_closed),
        node_test(an_address_in_use_is_named_and_nothing_stays),
        node_test(an_address_of_another_machine_is_refused),
        node_test(calls_beside_a_start_that_fails_return),
        node_test(a_node_starts_once),
        node_test(a_bad_configuration_opens_nothing),
        node_test(handlers_and_listeners),
        node_test(a_restarted_node_comes_back),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
