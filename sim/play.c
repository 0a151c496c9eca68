/* SPDX-License-Identifier: Apache-2.0
 * Scenarios and swarms behind the public header. */
#include "sim/run.h"
#include "sim/scenario.h"
#include "sim/swarm.h"

#include <stdio.h>
#include <string.h>

const char *cohort_sim_scenario_name(size_t i)
{
    return scenario_name(i);
}

static void report_run(const struct scenario *s, uint64_t seed, const struct run_result *result, cohort_sim_report *report)
{
    *report = (cohort_sim_report){.passed = result->passed,
                                  .seed = seed,
                                  .runs = 1,
                                  .hash = result->hash,
                                  .events = result->events,
                                  .messages = result->messages,
                                  .node_ns = result->virtual_ns * s->nodes,
                                  .converged_ns = result->converged_ns};
    memcpy(report->failure, result->failure, sizeof report->failure);
}

int cohort_sim_play(const char *scenario, uint32_t nodes, uint64_t seed, void (*trace)(void *ctx, uint64_t now_ns, const char *line),
                    void *trace_ctx, cohort_sim_report *report, cohort_error *error)
{
    cohort_error ignored;
    struct scenario s = {.nodes = nodes};
    struct run_result result;
    if (nodes > SCENARIO_NODES_MAX) {
        return COHORT_EINVAL;
    }
    const char *text = scenario_text(scenario);
    int status = strcmp(scenario, "random") == 0 ? scenario_random(&s, seed)
                                                 : scenario_parse(&s, text == NULL ? "scenario" : scenario,
                                                                  text == NULL ? scenario : text, error == NULL ? &ignored : error);
    if (status != COHORT_OK) {
        return status;
    }
    status = run_scenario(&s, seed, trace, trace_ctx, &result);
    if (status == COHORT_OK) {
        report_run(&s, seed, &result, report);
    }
    scenario_deinit(&s);
    return status;
}

static void print_into(const struct scenario *s, char *out, size_t cap)
{
    FILE *file = fmemopen(out, cap, "w");
    if (file != NULL) {
        scenario_print(s, file);
        fclose(file);
        out[cap - 1] = '\0';
    }
}

int cohort_sim_swarm(uint64_t first_seed, uint64_t count, cohort_sim_report *report, char *shortest, size_t shortest_cap)
{
    struct swarm_result result;
    int status = swarm(first_seed, count, &result);
    if (status != COHORT_OK) {
        return status;
    }
    *report = (cohort_sim_report){.passed = result.failed == 0,
                                  .seed = result.failed == 0 ? first_seed + count - 1 : result.first_failed_seed,
                                  .runs = result.runs,
                                  .hash = result.failed == 0 ? 0 : result.first_failure.hash,
                                  .events = result.events,
                                  .messages = result.messages,
                                  .node_ns = result.node_ns,
                                  .converged_ns = result.converged_ns_max};
    if (result.failed != 0) {
        memcpy(report->failure, result.first_failure.failure, sizeof report->failure);
        if (shortest != NULL && shortest_cap > 0) {
            print_into(&result.shortest, shortest, shortest_cap);
        }
        scenario_deinit(&result.shortest);
    }
    return COHORT_OK;
}
