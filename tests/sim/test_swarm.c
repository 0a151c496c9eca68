/* SPDX-License-Identifier: Apache-2.0
 *
 * A part of the swarm: FIRST_SEED COUNT. Each seed is played twice with equal hashes; a failure prints the shortest scenario.
 */
#include <cohort/sim.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t first_seed, count;

static void every_run_holds(void **state)
{
    static char shortest[64 * 1024];
    cohort_sim_report report;
    assert_int_equal(cohort_sim_swarm(first_seed, count, &report, shortest, sizeof shortest), COHORT_OK);
    if (!report.passed) {
        fail_msg("seed %llu: %s\n%s", (unsigned long long)report.seed, report.failure, shortest);
    }
    assert_int_equal(report.runs, count);
    assert_true(report.messages > count); /* something happened */
    printf("%llu runs, %llu events, converged after %.1f s at the longest\n", (unsigned long long)report.runs,
           (unsigned long long)report.events, (double)report.converged_ns / 1e9);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s FIRST_SEED COUNT\n", argv[0]);
        return 2;
    }
    first_seed = strtoull(argv[1], NULL, 10);
    count = strtoull(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_run_holds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
