/* SPDX-License-Identifier: Apache-2.0
 *
 * Reloading; see reload.h.
 */
#include "reload.h"

#include <stdlib.h>
#include <string.h>

/* ---- the cluster definition ---- */

/* The node logs what it changed. */
static void apply_definition(const struct reload *reload, const cohort_definition *definition)
{
    cohort_error error;
    if (cohort_node_apply_definition(reload->node, definition, &error) != COHORT_OK) {
        log_say(reload->log, COHORT_LOG_ERROR, "reload: definition: %s; the members stay", error.text);
    }
}

/* ---- settings ---- */

static void apply_log_level(const struct reload *reload, const struct plan *plan)
{
    cohort_log_level level = (cohort_log_level)settings_number(&plan->settings, SET_LOG_LEVEL);
    atomic_store(&reload->log->level, (int)level);
    cohort_node_log_level_set(reload->node, level);
}

/* False: it stays as it was, and the log says so. */
static bool apply_one(const struct reload *reload, const struct plan *plan, enum setting_id id)
{
    char why[CONTROL_WHY_MAX];
    switch (id) {
    case SET_LOG_LEVEL:
        apply_log_level(reload, plan);
        return true;
    case SET_CONTROL_MODE:
    case SET_CONTROL_GROUP:
        if (!control_set_access(reload->control, &plan->access, why)) {
            log_say(reload->log, COHORT_LOG_ERROR, "%s", why);
            return false;
        }
        return true;
    default:
        return false;
    }
}

static int copy_value(struct settings *to, const struct settings *from, enum setting_id id)
{
    const struct setting_value *value = &from->values[id];
    if (value->text != NULL) {
        return settings_set_text(to, id, value->origin, value->text);
    }
    free(to->values[id].text);
    to->values[id] = *value;
    return COHORT_OK;
}

/* One setting: compare, carry out, tell. */
static void apply_setting(const struct reload *reload, const struct plan *plan, enum setting_id id)
{
    struct effective *e = reload->effective;
    const struct setting *setting = &settings_table[id];
    char before[256], after[256];
    setting_print(&e->running, id, before, sizeof(before));
    setting_print(&plan->settings, id, after, sizeof(after));
    bool same = settings_equal(&e->running, &plan->settings, id);
    bool applied = same || (setting->live && apply_one(reload, plan, id));
    pthread_mutex_lock(&e->lock);
    int status = copy_value(&e->wanted, &plan->settings, id);
    if (applied && status == COHORT_OK) {
        status = copy_value(&e->running, &plan->settings, id);
    }
    pthread_mutex_unlock(&e->lock);
    if (status != COHORT_OK) {
        log_say(reload->log, COHORT_LOG_ERROR, "reload: %s: out of memory", setting->key);
    } else if (!applied) {
        log_say(reload->log, COHORT_LOG_WARN, "reload: %s '%s' needs a restart, '%s' stays", setting->key, after, before);
    } else if (!same) {
        log_say(reload->log, COHORT_LOG_INFO, "reload: %s '%s', was '%s'", setting->key, after, before);
    }
}

void reload_apply(const struct reload *reload, struct plan *plan)
{
    for (int i = 0; i < SETTING_COUNT; i++) {
        apply_setting(reload, plan, (enum setting_id)i);
    }
    const struct settings *running = &reload->effective->running; /* nobody else changes it */
    if (settings_text(running, SET_CLUSTER) != NULL && settings_equal(running, &plan->settings, SET_CLUSTER)) {
        apply_definition(reload, &plan->definition);
    }
    plan_free(plan);
}
