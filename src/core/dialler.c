/* SPDX-License-Identifier: Apache-2.0
 *
 * Arithmetic on times only: it does not know whether a link stands, and does not dial.
 */
#include "core/dialler.h"

#define SEED_FIRST_MS 1000
#define SEED_PERIOD_MS 5000
#define ABSENT_STEPS 3

/* The next tick of the custodian after `now`: one clock for all members, as in the original. */
static uint64_t seed_tick(uint64_t started_ns, uint64_t now_ns)
{
    uint64_t first = started_ns + SEED_FIRST_MS * COHORTI_NS_PER_MS;
    if (now_ns < first) {
        return first;
    }
    uint64_t period = SEED_PERIOD_MS * COHORTI_NS_PER_MS;
    return first + ((now_ns - first) / period + 1) * period;
}

static uint64_t backoff_ns(const struct cohorti_dialler *d, const cohort_dial_policy *policy, struct cohorti_prng *prng)
{
    uint64_t delay_ms = policy->delay_min_ms;
    for (uint32_t i = 1; i < d->failures && delay_ms < policy->delay_max_ms; i++) {
        delay_ms *= 2;
    }
    if (delay_ms > policy->delay_max_ms) {
        delay_ms = policy->delay_max_ms;
    }
    uint64_t delay_ns = delay_ms * COHORTI_NS_PER_MS;
    return delay_ns - cohorti_prng_below(prng, delay_ns / 2 + 1);
}

void cohorti_dialler_init(struct cohorti_dialler *d, const cohort_dial_policy *policy, uint64_t started_ns, uint64_t now_ns)
{
    d->failures = 0;
    d->failures_before = 0;
    d->next_ns = policy->mode == COHORT_DIAL_SEED ? seed_tick(started_ns, now_ns) : now_ns;
}

void cohorti_dialler_received(struct cohorti_dialler *d)
{
    d->failures_before = d->failures;
    d->failures = 0;
}

void cohorti_dialler_failed(struct cohorti_dialler *d, const cohort_dial_policy *policy, uint64_t started_ns, uint64_t now_ns,
                            struct cohorti_prng *prng)
{
    if (d->failures < UINT32_MAX) {
        d->failures++;
    }
    d->next_ns = policy->mode == COHORT_DIAL_SEED ? seed_tick(started_ns, now_ns) : now_ns + backoff_ns(d, policy, prng);
}

void cohorti_dialler_next_address(struct cohorti_dialler *d, const cohort_dial_policy *policy, uint64_t started_ns, uint64_t now_ns)
{
    d->next_ns = policy->mode == COHORT_DIAL_SEED ? seed_tick(started_ns, now_ns) : now_ns;
}

void cohorti_dialler_absent(struct cohorti_dialler *d, const cohort_dial_policy *policy, uint64_t started_ns, uint64_t now_ns,
                            struct cohorti_prng *prng)
{
    if (d->failures < ABSENT_STEPS) {
        d->failures = ABSENT_STEPS;
    }
    cohorti_dialler_failed(d, policy, started_ns, now_ns, prng);
}

void cohorti_dialler_refused(struct cohorti_dialler *d, const cohort_dial_policy *policy, uint64_t started_ns, uint64_t now_ns,
                             struct cohorti_prng *prng)
{
    if (d->failures < d->failures_before) {
        d->failures = d->failures_before;
    }
    cohorti_dialler_failed(d, policy, started_ns, now_ns, prng);
}

void cohorti_dialler_lost(struct cohorti_dialler *d, const cohort_dial_policy *policy, uint64_t started_ns, uint64_t now_ns,
                          struct cohorti_prng *prng)
{
    d->failures = 0;
    d->failures_before = 0;
    uint64_t spread_ns = policy->delay_min_ms * COHORTI_NS_PER_MS;
    d->next_ns = policy->mode == COHORT_DIAL_SEED ? seed_tick(started_ns, now_ns) : now_ns + cohorti_prng_below(prng, spread_ns + 1);
}
