/* SPDX-License-Identifier: Apache-2.0
 *
 * Every scenario that comes with the library under several seeds and sizes; every scenario that once failed (regressions/, the seed
 * in its first line); and that the simulator itself is deterministic and its checks can fail.
 */
#include <cohort/sim.h>
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect_passed(const char *scenario, uint32_t nodes, uint64_t seed)
{
    cohort_sim_report report;
    cohort_error error = {.text = ""};
    int status = cohort_sim_play(scenario, nodes, seed, NULL, NULL, &report, &error);
    if (status != COHORT_OK) {
        fail_msg("%s: %s", cohort_error_name(status), error.text);
    }
    if (!report.passed) {
        fail_msg("scenario %.60s, %u nodes, seed %llu: %s", scenario, nodes, (unsigned long long)seed, report.failure);
    }
}

static void scenarios_of_the_library_hold(void **state)
{
    for (size_t i = 0; cohort_sim_scenario_name(i) != NULL; i++) {
        for (uint64_t seed = 1; seed <= 10; seed++) {
            expect_passed(cohort_sim_scenario_name(i), (uint32_t)(3 + seed % 4), seed);
        }
    }
}

static void what_once_failed_holds(void **state)
{
    const char *folder = getenv("REGRESSIONS");
    assert_non_null(folder);
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    unsigned played = 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        char path[512], text[65536] = "";
        unsigned long long seed = 0;
        if (entry->d_name[0] == '.') {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        size_t len = fread(text, 1, sizeof text - 1, file);
        fclose(file);
        text[len] = '\0';
        assert_int_equal(sscanf(text, "# seed %llu", &seed), 1);
        expect_passed(text, 0, seed);
        played++;
    }
    closedir(dir);
    assert_true(played > 0);
}

static void equal_seeds_give_equal_runs(void **state)
{
    cohort_sim_report a, b, c;
    assert_int_equal(cohort_sim_play("random", 0, 42, NULL, NULL, &a, NULL), COHORT_OK);
    assert_int_equal(cohort_sim_play("random", 0, 42, NULL, NULL, &b, NULL), COHORT_OK);
    assert_int_equal(cohort_sim_play("calm", 3, 43, NULL, NULL, &c, NULL), COHORT_OK);
    assert_true(a.hash == b.hash && a.events == b.events);
    assert_true(a.hash != c.hash);
}

static void wrong_texts_are_named(void **state)
{
    cohort_sim_report report;
    cohort_error error;
    assert_int_equal(cohort_sim_play("nodes 3\nat 5 fly 1\n", 0, 1, NULL, NULL, &report, &error), COHORT_ESYNTAX);
    assert_non_null(strstr(error.text, "scenario:2:"));
    assert_int_equal(cohort_sim_play("at 5 kill 3\n", 3, 1, NULL, NULL, &report, &error), COHORT_ESYNTAX);
    assert_int_equal(cohort_sim_play("calm", 1001, 1, NULL, NULL, &report, &error), COHORT_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scenarios_of_the_library_hold),
        cmocka_unit_test(what_once_failed_holds),
        cmocka_unit_test(equal_seeds_give_equal_runs),
        cmocka_unit_test(wrong_texts_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
