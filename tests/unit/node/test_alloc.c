/* SPDX-License-Identifier: Apache-2.0
 *
 * The shell without memory: each allocation of open and start fails in turn, then each of a life with a peer. Opening fails
 * cleanly or succeeds; everything else goes on or tells; nothing leaks.
 */
#include "rig.h"

#define LIVES_MAX 400

static cohort_definition_node listed[] = {{"x", "192.0.2.1", 9876, ""}, {"y", "192.0.2.2", 9876, ""}, {"z", "192.0.2.3", 9876, ""}};
static const cohort_definition definition = {.nodes = listed, .node_count = 3};

/* True when the n-th allocation was reached. */
static bool open_and_start(uint64_t n)
{
    static struct rig_node r;
    cohort_error error;
    rig_begin(&r);
    cohort_config config = rig_config(&r, 0);
    config.id = "m";
    config.definition = &definition;
    r.memory.fail_at = n;
    int status = cohort_node_open(&config, &r.node, &error);
    assert_int_equal(error.code, status);
    if (status == COHORT_OK) {
        status = cohort_node_start(r.node, &error);
        assert_int_equal(error.code, status);
        assert_true(status == COHORT_OK || status == COHORT_ENOMEM);
        assert_int_equal(cohort_node_close(r.node, 1000), COHORT_OK);
    } else {
        assert_int_equal(status, COHORT_ENOMEM);
        assert_true(error.text[0] != '\0');
    }
    assert_int_equal(atomic_load(&r.memory.blocks), 0);
    return atomic_load(&r.memory.calls) >= n;
}

static void every_allocation_of_open_and_start_may_fail(void **state)
{
    uint64_t n = 1;
    while (open_and_start(n)) {
        n++;
    }
    assert_true(n > 20);
}

/* The node without memory once meets another that has it: they get together all the same. */
static void every_allocation_of_a_life_may_fail(void **state)
{
    static struct rig_node n[2];
    bool reached = true;
    rig_run(&n[1], 1);
    for (uint64_t fail = 1; reached && fail < LIVES_MAX; fail++) {
        cohort_handle_id ignored;
        unsigned before = atomic_load(&n[1].messages);
        rig_begin(&n[0]);
        cohort_config config = rig_config(&n[0], 0);
        rig_open(&n[0], &config);
        int handled = cohort_handle(n[0].node, NULL, rig_on_message, &n[0], rig_on_release, &ignored);
        assert_int_equal(handled, COHORT_OK);
        n[0].memory.fail_at = atomic_load(&n[0].memory.calls) + fail;
        if (cohort_node_start(n[0].node, NULL) == COHORT_OK) {
            while (cohort_node_add(n[0].node, address(1), address(1), PORT) != COHORT_OK) {
            }
            WAIT_FOR(cohort_broadcast(n[0].node, "t", "x", 1, NULL) == COHORT_OK);
            /* accepted is not delivered: the link may break for want of memory */
            WAIT_FOR(cohort_send(n[0].node, address(1), "s", "x", 1) == COHORT_OK && atomic_load(&n[1].messages) > before);
        }
        reached = atomic_load(&n[0].memory.calls) >= n[0].memory.fail_at;
        (void)rig_close(&n[0]);
    }
    assert_false(reached);
    assert_int_equal(rig_close(&n[1]), COHORT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(every_allocation_of_open_and_start_may_fail),
        node_test(every_allocation_of_a_life_may_fail),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
