/* SPDX-License-Identifier: Apache-2.0
 *
 * What docs/threads.md promises of fork(): no descriptor survives exec, the parent goes on whatever the child does, and a child may
 * open a node of its own.
 */
#include "rig.h"

#include <fcntl.h>
#include <sys/wait.h>

/* Descriptors above those of standard input and output that an exec would hand on. */
static unsigned inherited(void)
{
    unsigned count = 0;
    for (int fd = 3; fd < 256; fd++) {
        int flags = fcntl(fd, F_GETFD);
        count += flags >= 0 && (flags & FD_CLOEXEC) == 0;
    }
    return count;
}

static void wait_for_child(pid_t child)
{
    int status = -1;
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void every_descriptor_is_close_on_exec(void **state)
{
    static struct rig_node n[2];
    unsigned before = inherited();
    rig_pair(n);
    assert_int_equal(cohort_send(n[0].node, address(1), "s", "x", 1), COHORT_OK);
    WAIT_FOR(atomic_load(&n[1].messages) == 1);
    assert_int_equal(inherited(), before);
    rig_close_pair(n);
}

static void the_parent_goes_on(void **state)
{
    static struct rig_node n[2];
    rig_pair(n);
    for (unsigned i = 1; i <= 20; i++) {
        pid_t child = fork();
        if (child == 0) {
            _exit(0);
        }
        assert_int_equal(cohort_send(n[0].node, address(1), "s", "x", 1), COHORT_OK);
        wait_for_child(child);
        WAIT_FOR(atomic_load(&n[1].messages) == i);
    }
    assert_int_equal(atomic_load(&n[0].deactivated), 0);
    rig_close_pair(n);
}

/* As a daemon does that closes what it does not need. In a child, which only opens and closes: no thread is started after fork. */
static void standard_descriptors_may_be_closed(void **state)
{
    pid_t child = fork();
    if (child == 0) {
        cohort_config config;
        cohort_node *node = NULL;
        for (int fd = 0; fd <= 2; fd++) {
            close(fd);
        }
        COHORT_CONFIG_INIT(&config);
        config.ip = address(2);
        config.tcp_port = PORT;
        config.log.write = quiet;
        bool opened = cohort_node_open(&config, &node, NULL) == COHORT_OK;
        bool kept = write(1, "nobody reads this", 17) == 17;
        _exit(opened && kept && cohort_node_close(node, 0) == COHORT_OK ? 0 : 1);
    }
    wait_for_child(child);
}

#ifndef __SANITIZE_THREAD__ /* it cannot start threads after fork */
/* In the child: a node of its own that tells the parent's node 0 one thing. Nothing of the rig or of cmocka is used. */
static int child_main(void)
{
    cohort_config config;
    cohort_node *node = NULL;
    COHORT_CONFIG_INIT(&config);
    config.ip = address(2);
    config.tcp_port = PORT;
    config.log.write = quiet;
    if (cohort_node_open(&config, &node, NULL) != COHORT_OK || cohort_node_start(node, NULL) != COHORT_OK ||
        cohort_node_add(node, address(0), address(0), PORT) != COHORT_OK) {
        return 1;
    }
    uint64_t until = clock_ms() + BOUND_MS;
    while (cohort_node_state(node, address(0)) != COHORT_ACTIVE && clock_ms() < until) { /* close dials nobody any more */
        sched_yield();
    }
    return cohort_send(node, address(0), "s", "x", 1) == COHORT_OK && cohort_node_close(node, 5000) == COHORT_OK ? 0 : 2;
}

static void a_child_may_have_a_node_of_its_own(void **state)
{
    static struct rig_node n;
    rig_run(&n, 0);
    pid_t child = fork();
    if (child == 0) {
        _exit(child_main());
    }
    wait_for_child(child);
    WAIT_FOR(atomic_load(&n.messages) == 1);
    WAIT_FOR(atomic_load(&n.deactivated) == 1);
    assert_int_equal(atomic_load(&n.last_reason), COHORT_ELEFT);
    assert_int_equal(rig_close(&n), COHORT_OK);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(every_descriptor_is_close_on_exec),
        node_test(the_parent_goes_on),
        node_test(standard_descriptors_may_be_closed),
#ifndef __SANITIZE_THREAD__
        node_test(a_child_may_have_a_node_of_its_own),
#endif
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
