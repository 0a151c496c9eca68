/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COHORTI_CONFIG_H
#define COHORTI_CONFIG_H

#include "core/cluster.h"

#include <cohort/cohort.h>

/** The full-sized struct, with defaults for what the caller's does not have. COHORT_EINVAL: its size is none of ours. */
COHORT_NODISCARD int cohorti_config_widen(const cohort_config *given, cohort_config *whole, cohort_error *error);

/**
 * Check a configuration. `whole` becomes the full-sized struct with defaults filled in (pointers still borrowed), `out` the
 * core's part, and whole->bind what is to be listened on ("": all addresses); except incarnation 0 (to be taken from the clock) and the seed. COHORT_EINVAL: error names field and value.
 */
COHORT_NODISCARD int cohorti_config_read(const cohort_config *given, cohort_config *whole, struct cohorti_cluster_config *out,
                                         cohort_error *error);

#endif
