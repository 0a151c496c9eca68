/* SPDX-License-Identifier: Apache-2.0
 *
 * Plans; see plan.h.
 */
#include "plan.h"

#include "door.h"

#include <stdio.h>
#include <string.h>

_Static_assert(DOOR_WHY_MAX <= sizeof(((cohort_error *)0)->text) && CONTROL_WHY_MAX <= sizeof(((cohort_error *)0)->text),
               "a complaint fits into an error");

static bool gather(struct plan *plan, const struct agent_options *options, cohort_error *error)
{
    struct settings *s = &plan->settings;
    settings_init(s);
    if (options->config_path != NULL && settings_read_file(s, options->config_path, error) != COHORT_OK) {
        return false;
    }
    if (settings_overlay(s, &options->given) != COHORT_OK) {
        *error = (cohort_error){.code = COHORT_ENOMEM, .text = "out of memory"};
        return false;
    }
    const char *cluster = settings_text(s, SET_CLUSTER);
    if (cluster != NULL && cohort_definition_read(cluster, &plan->definition, error) != COHORT_OK) {
        return false;
    }
    return settings_resolve(s, &plan->definition, error) == COHORT_OK;
}

/* The library's own checks: a node that is opened and never started touches nothing outside. */
static bool check_node(struct plan *plan, cohort_error *error)
{
    cohort_node *node = NULL;
    settings_to_config(&plan->settings, &plan->definition, &plan->config);
    plan->config.log.level = COHORT_LOG_OFF;
    if (cohort_node_open(&plan->config, &node, error) != COHORT_OK) {
        return false;
    }
    cohort_node_close(node, 0);
    return true;
}

static bool check_doors(struct plan *plan, cohort_error *error)
{
    const struct settings *s = &plan->settings;
    const char *http = settings_text(s, SET_HTTP_LISTEN);
    error->code = COHORT_EINVAL;
    if (http != NULL && !door_check(http, settings_number(s, SET_HTTP_INSECURE) != 0, error->text)) {
        return false;
    }
    return control_access_parse(&plan->access, (mode_t)settings_number(s, SET_CONTROL_MODE), settings_text(s, SET_CONTROL_GROUP),
                                error->text);
}

bool plan_make(struct plan *plan, const struct agent_options *options, cohort_error *error)
{
    memset(plan, 0, sizeof(*plan));
    *error = (cohort_error){.code = COHORT_OK};
    if (gather(plan, options, error) && check_doors(plan, error) && check_node(plan, error)) {
        return true;
    }
    plan_free(plan);
    return false;
}

void plan_free(struct plan *plan)
{
    settings_free(&plan->settings);
    cohort_definition_free(&plan->definition);
    memset(plan, 0, sizeof(*plan));
}
