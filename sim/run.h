/* SPDX-License-Identifier: Apache-2.0
 *
 * run: one scenario, played on a simulated cluster and checked throughout: while it lasts (safety), and after all faults are healed
 * (liveness). docs/simulation.md lists the checks.
 */
#ifndef COHORTI_SIM_RUN_H
#define COHORTI_SIM_RUN_H

#include "sim/scenario.h"

struct run_result {
    bool passed;
    char failure[512]; /* the first check that failed, with time and nodes */
    uint64_t hash;     /* of the whole run */
    uint64_t events;
    uint64_t virtual_ns;   /* how long the cluster lived */
    uint64_t converged_ns; /* after the faults ended, until every pair was ACTIVE */
    uint64_t messages;     /* handled */
};

/** trace may be NULL. COHORT_ENOMEM: the machine that simulates has no memory; a check that fails is not an error of this call. */
COHORT_NODISCARD int run_scenario(const struct scenario *s, uint64_t seed,
                                  void (*trace)(void *ctx, uint64_t now_ns, const char *line), void *trace_ctx,
                                  struct run_result *out);

#endif
