/* SPDX-License-Identifier: Apache-2.0
 *
 * Reloading; see reload.h.
 */
#include "reload.h"

#include <stdlib.h>
#include <string.h>

/* ---- the cluster definition ---- */

static void add_member(cohort_node *node, struct agent_log *log, const cohort_definition_node *listed, const char *what)
{
    int status = cohort_node_add(node, listed->id, listed->ip, listed->tcp_port);
    if (status == COHORT_OK) {
        log_say(log, COHORT_LOG_INFO, "definition: %s %s at %s:%u", what, listed->id, listed->ip, (unsigned)listed->tcp_port);
    } else {
        log_say(log, COHORT_LOG_ERROR, "definition: cannot add %s at %s:%u: %s", listed->id, listed->ip, (unsigned)listed->tcp_port,
                cohort_error_text(status));
    }
}

static void remove_member(cohort_node *node, struct agent_log *log, const char *id)
{
    int status = cohort_node_remove(node, id);
    if (status == COHORT_OK) {
        log_say(log, COHORT_LOG_INFO, "definition: removed %s", id);
    } else if (status != COHORT_ENOPEER) {
        log_say(log, COHORT_LOG_ERROR, "definition: cannot remove %s: %s", id, cohort_error_text(status));
    }
}

/* Peers know us by it: it stays as long as we run, and the next reload says so again. */
static void keep_cluster_name(struct agent_log *log, const cohort_definition *old, cohort_definition *new_definition)
{
    cohort_definition names = *new_definition; /* gcc 12 with -fsanitize=undefined takes a member of the pointer for NULL */
    if (strcmp(old->cluster, names.cluster) == 0) {
        return;
    }
    log_say(log, COHORT_LOG_WARN, "definition: the cluster name '%s' needs a restart, '%s' stays", names.cluster, old->cluster);
    memcpy(new_definition->cluster, old->cluster, sizeof(old->cluster));
}

void reload_definition(cohort_node *node, struct agent_log *log, cohort_definition *old, cohort_definition *new_definition)
{
    cohort_member local, member;
    cohort_node_local(node, &local);
    for (size_t i = 0; i < old->node_count; i++) {
        const char *id = old->nodes[i].id;
        if (strcmp(id, local.id) != 0 && cohort_definition_find(new_definition, id) == NULL) {
            remove_member(node, log, id);
        }
    }
    for (size_t i = 0; i < new_definition->node_count; i++) {
        const cohort_definition_node *listed = &new_definition->nodes[i];
        const cohort_definition_node *before = cohort_definition_find(old, listed->id);
        bool moved = before != NULL && (strcmp(before->ip, listed->ip) != 0 || before->tcp_port != listed->tcp_port);
        if (strcmp(listed->id, local.id) != 0 && (moved || cohort_node_member(node, listed->id, &member) != COHORT_OK)) {
            add_member(node, log, listed, moved ? "moved" : "added");
        }
    }
    keep_cluster_name(log, old, new_definition);
    cohort_definition_free(old);
    *old = *new_definition;
    memset(new_definition, 0, sizeof(*new_definition));
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
    case SET_CLUSTER:
        return settings_text(&plan->settings, SET_CLUSTER) != NULL; /* members without a definition: nobody would be listed */
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
    if (settings_text(&plan->settings, SET_CLUSTER) != NULL) {
        reload_definition(reload->node, reload->log, reload->definition, &plan->definition);
    }
    plan_free(plan);
}
