/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COHORTI_CONFIG_H
#define COHORTI_CONFIG_H

#include "core/cluster.h"

#include <cohort/cohort.h>

/**
 * Check a configuration. `whole` becomes the full-sized struct with defaults filled in (pointers still borrowed), `out` the
 * core's part except incarnation 0 (to be taken from the clock) and the seed. COHORT_EINVAL: error names field and value.
 */
COHORT_NODISCARD int cohorti_config_read(const cohort_config *given, cohort_config *whole, struct cohorti_cluster_config *out,
                                         cohort_error *error);

#endif
