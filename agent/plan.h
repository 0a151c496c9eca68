/* SPDX-License-Identifier: Apache-2.0
 *
 * A plan: everything that configuration file, command line, environment and cluster definition say together, read and checked, before
 * any of it is carried out. The agent starts from one, and each reload makes another.
 */
#ifndef COHORT_AGENT_PLAN_H
#define COHORT_AGENT_PLAN_H

#include "agent.h"
#include "control.h"

struct plan {
    struct settings settings; /* resolved */
    cohort_definition definition;
    cohort_config config; /* borrows from both */
    struct control_access access;
};

/**
 * Read it all anew and check it as far as that is possible without opening anything. False: error->text is one line, and there is nothing
 * to free.
 */
bool plan_make(struct plan *plan, const struct agent_options *options, cohort_error *error);
void plan_free(struct plan *plan);

#endif
