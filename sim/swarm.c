/* SPDX-License-Identifier: Apache-2.0
 *
 * Every run is played twice and must give the same hash: a difference means that something outside the seed decides.
 *
 * Shortening is delta debugging over the list of actions (Zeller, Hildebrandt, "Simplifying and Isolating Failure-Inducing Input",
 * IEEE TSE 2002): leave out runs of actions, halving their length, as long as what is left still fails.
 */
#include "sim/swarm.h"

#include <stdio.h>
#include <string.h>

static int play(const struct scenario *s, uint64_t seed, struct run_result *out)
{
    struct run_result again;
    int status = run_scenario(s, seed, NULL, NULL, out);
    if (status == COHORT_OK) {
        status = run_scenario(s, seed, NULL, NULL, &again);
    }
    if (status == COHORT_OK && out->passed && again.hash != out->hash) {
        out->passed = false;
        snprintf(out->failure, sizeof out->failure, "two runs of one seed differ: %016llx and %016llx",
                 (unsigned long long)out->hash, (unsigned long long)again.hash);
    }
    return status;
}

static void leave_out(struct scenario *s, uint32_t at, uint32_t len)
{
    memmove(&s->actions[at], &s->actions[at + len], (s->action_count - at - len) * sizeof *s->actions);
    s->action_count -= len;
}

/* One pass with runs of `len` actions. *shorter says whether any could go. */
static int shorten_by(struct scenario *s, uint64_t seed, uint32_t len, bool *shorter)
{
    for (uint32_t at = 0; at + len <= s->action_count;) {
        struct scenario less;
        struct run_result result;
        int status = scenario_copy(&less, s);
        if (status != COHORT_OK) {
            return status;
        }
        leave_out(&less, at, len);
        status = run_scenario(&less, seed, NULL, NULL, &result);
        scenario_deinit(&less);
        if (status != COHORT_OK) {
            return status;
        }
        if (result.passed) {
            at += len;
        } else {
            leave_out(s, at, len);
            *shorter = true;
        }
    }
    return COHORT_OK;
}

int swarm_shorten(struct scenario *s, uint64_t seed)
{
    int status = COHORT_OK;
    for (uint32_t len = s->action_count / 2; len >= 1 && status == COHORT_OK;) {
        bool shorter = false;
        status = shorten_by(s, seed, len, &shorter);
        len = shorter && len == 1 ? 1 : len / 2;
    }
    return status;
}

int swarm(uint64_t first_seed, uint64_t count, struct swarm_result *out)
{
    memset(out, 0, sizeof *out);
    for (uint64_t seed = first_seed; seed < first_seed + count && out->failed == 0; seed++) {
        struct scenario s;
        struct run_result result;
        int status = scenario_random(&s, seed);
        if (status == COHORT_OK) {
            status = play(&s, seed, &result);
        }
        if (status != COHORT_OK) {
            scenario_deinit(&s);
            return status;
        }
        out->runs++;
        out->events += result.events;
        out->messages += result.messages;
        out->node_ns += result.virtual_ns * s.nodes;
        out->converged_ns_max = result.converged_ns > out->converged_ns_max ? result.converged_ns : out->converged_ns_max;
        if (result.passed) {
            scenario_deinit(&s);
            continue;
        }
        out->failed++;
        out->first_failed_seed = seed;
        out->first_failure = result;
        out->shortest = s;
        status = swarm_shorten(&out->shortest, seed);
        if (status != COHORT_OK) {
            return status;
        }
    }
    return COHORT_OK;
}
