/* SPDX-License-Identifier: Apache-2.0
 *
 * What a reload does to a running agent: changes what can be changed, and names in the log what needs a restart. All or nothing as
 * far as reading goes: a plan that could not be made changes nothing.
 */
#ifndef COHORT_AGENT_RELOAD_H
#define COHORT_AGENT_RELOAD_H

#include "control.h"
#include "effective.h"
#include "log.h"
#include "plan.h"

struct reload {
    cohort_node *node;
    struct agent_log *log;
    const struct control *control;
    struct effective *effective;
};

/** Carry out `plan`, which is consumed. Logs what it did, line by line. Another path of the definition needs a restart; the same is applied. */
void reload_apply(const struct reload *reload, struct plan *plan);

#endif
