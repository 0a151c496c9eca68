/* SPDX-License-Identifier: Apache-2.0
 *
 * limits.legacy_idle_ms: a legacy peer that came by itself and says nothing goes; one that talks, or is listed, stays.
 */
#include "rig.h"

#define IDLE_MS 200

static void run_with_idle_limit(struct rig_node *n, uint32_t idle_ms)
{
    cohort_handle_id ignored;
    rig_begin(n);
    cohort_config config = rig_config(n, 0);
    config.limits.legacy_idle_ms = idle_ms;
    rig_open(n, &config);
    assert_int_equal(cohort_handle(n->node, NULL, rig_on_message, n, rig_on_release, &ignored), COHORT_OK);
    rig_start(n);
}

static void a_silent_stranger_goes_and_nobody_else(void **state)
{
    static struct rig_node n[2];
    char byte;
    run_with_idle_limit(&n[0], IDLE_MS);
    rig_run(&n[1], 1); /* a cohort peer that is not listed either, and says nothing */
    assert_int_equal(cohort_node_add(n[1].node, address(0), address(0), PORT), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].activated) == 1);
    assert_int_equal(cohort_node_add(n[0].node, address(2), address(2), PORT), COHORT_OK);
    int listed = bare_connect(0, 2, 0);
    int stranger = bare_connect(0, 3, 0);
    uint64_t begun_ms = clock_ms();
    WAIT_FOR(atomic_load(&n[0].activated) == 3);
    assert_false(bare_read(stranger, &byte, 1)); /* the end of the stream, within the bound */
    assert_true(clock_ms() - begun_ms >= IDLE_MS - 50);
    WAIT_FOR(atomic_load(&n[0].deactivated) == 1);
    assert_int_equal(atomic_load(&n[0].last_reason), COHORT_EIDLE);
    assert_int_equal(cohort_node_state(n[0].node, address(1)), COHORT_ACTIVE);
    assert_int_equal(cohort_node_state(n[0].node, address(2)), COHORT_ACTIVE);
    assert_int_equal(cohort_node_state(n[0].node, address(3)), COHORT_INACTIVE);
    close(stranger);
    close(listed);
    rig_close_pair(n);
}

static void a_stranger_that_talks_stays(void **state)
{
    static struct rig_node n;
    run_with_idle_limit(&n, IDLE_MS);
    int fd = bare_connect(0, 3, 0);
    uint64_t until_ms = clock_ms() + UINT64_C(3) * IDLE_MS;
    unsigned sent = 0;
    while (clock_ms() < until_ms) { /* longer than the limit, never silent for as long */
        bare_frame(fd, 77, "x", 1);
        sent++;
        WAIT_FOR(atomic_load(&n.messages) == sent);
    }
    assert_int_equal(atomic_load(&n.deactivated), 0);
    close(fd);
    WAIT_FOR(atomic_load(&n.deactivated) == 1);
    assert_int_equal(atomic_load(&n.last_reason), COHORT_EPEERCLOSED);
    assert_int_equal(rig_close(&n), COHORT_OK);
}

/* Listed while its link stands, by a call or by a definition: the link is not a stranger's any more. */
static void a_stranger_that_is_listed_stays(void **state)
{
    static struct rig_node n;
    char byte;
    run_with_idle_limit(&n, 1000); /* time enough to list them */
    int added = bare_connect(0, 3, 0);
    int defined = bare_connect(0, 2, 0);
    WAIT_FOR(atomic_load(&n.activated) == 2);
    assert_int_equal(cohort_node_add(n.node, address(3), address(3), PORT), COHORT_OK);
    cohort_definition_node listed = {.tcp_port = PORT};
    (void)snprintf(listed.id, sizeof listed.id, "%s", address(2));
    (void)snprintf(listed.ip, sizeof listed.ip, "%s", address(2));
    cohort_definition definition = {.nodes = &listed, .node_count = 1};
    assert_int_equal(cohort_node_apply_definition(n.node, &definition, NULL), COHORT_OK);
    int stranger = bare_connect(0, 4, 0); /* silent for less long than the two */
    assert_false(bare_read(stranger, &byte, 1));
    WAIT_FOR(atomic_load(&n.deactivated) == 1);
    assert_int_equal(cohort_node_state(n.node, address(2)), COHORT_ACTIVE);
    assert_int_equal(cohort_node_state(n.node, address(3)), COHORT_ACTIVE);
    close(stranger);
    close(added);
    close(defined);
    assert_int_equal(rig_close(&n), COHORT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(a_silent_stranger_goes_and_nobody_else),
        node_test(a_stranger_that_talks_stays),
        node_test(a_stranger_that_is_listed_stays),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
