/* SPDX-License-Identifier: Apache-2.0
 * swarm: many random runs, each played twice; and the shortest scenario that still fails, of one that failed. */
#ifndef COHORTI_SIM_SWARM_H
#define COHORTI_SIM_SWARM_H

#include "sim/run.h"

struct swarm_result {
    uint64_t runs, failed, events, messages;
    uint64_t node_ns, converged_ns_max;
    uint64_t first_failed_seed;
    struct run_result first_failure;
    struct scenario shortest; /* of the first failure; to be released with scenario_deinit() */
};

/** Seeds first_seed .. first_seed + count - 1; stops after the first failure, made shortest. COHORT_ENOMEM. */
COHORT_NODISCARD int swarm(uint64_t first_seed, uint64_t count, struct swarm_result *out);

/** Take out of `s` what is not needed for it to fail under this seed. COHORT_ENOMEM. */
COHORT_NODISCARD int swarm_shorten(struct scenario *s, uint64_t seed);

#endif
