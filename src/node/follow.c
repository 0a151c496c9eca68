/* SPDX-License-Identifier: Apache-2.0
 *
 * Definitions given to a running node: by a call, or by a file that is followed.
 *
 * What to do with one is decided in core/cluster_apply. Here it is read, and what came of it is said: in the log, counted, and in
 * a status that any thread may read. A file that cannot be used changes nothing. It is read on the control loop: a local file of at
 * most 1 MiB, and only when it has changed.
 */
#include "node/node.h"

#include <stdio.h>
#include <string.h>

#define POLL_MS 5000 /* for what the system does not tell */

/* ---- applying ------------------------------------------------------------------------------------------------------ */

/* One for each node that may become a member. */
static int make_spares(struct cohort_node *node, const cohort_definition *definition, struct cohorti_list *spares)
{
    for (size_t i = 0; i < definition->node_count; i++) {
        const char *id = definition->nodes[i].id;
        bool listed_id = memchr(id, '\0', sizeof definition->nodes[i].id) != NULL; /* else refused below */
        if (!listed_id || cohorti_cluster_has_member(&node->cluster, id)) {
            continue;
        }
        struct peer *peer = cohorti_peer_new(node);
        if (peer == NULL) {
            return COHORT_ENOMEM;
        }
        cohorti_list_append(spares, &peer->spare);
    }
    return COHORT_OK;
}

static int explain(struct cohort_node *node, const cohort_definition *definition, int status, size_t culprit, cohort_error *error)
{
    error->code = status;
    switch (status) {
    case COHORT_EINVAL:
        snprintf(error->text, sizeof error->text, "node %zu of the definition, \"%.64s\": malformed, or there twice", culprit,
                 definition->nodes[culprit].id);
        break;
    case COHORT_ECLUSTER:
        snprintf(error->text, sizeof error->text, "it is the definition of the cluster \"%.64s\", not of \"%s\"",
                 definition->cluster, node->cluster.listing.known ? node->cluster.listing.cluster : node->cluster.config.cluster);
        break;
    case COHORT_ELIMIT:
        snprintf(error->text, sizeof error->text,
                 "with the %zu nodes of the definition there are more members than limits.members_max, %u", definition->node_count,
                 node->limits.members_max);
        break;
    default:
        snprintf(error->text, sizeof error->text, "%s", cohort_error_text(status));
        break;
    }
    return status;
}

int cohorti_control_apply(struct cohort_node *node, const cohort_definition *definition, struct cohorti_applied *applied,
                          cohort_error *error)
{
    struct cohorti_list spares, *spare;
    cohorti_list_init(&spares);
    memset(applied, 0, sizeof *applied);
    int status = make_spares(node, definition, &spares);
    if (status == COHORT_OK) {
        status = cohorti_cluster_apply(&node->cluster, cohorti_now(node), definition, applied);
    }
    for (uint32_t i = 0; i < applied->added; i++) {
        cohorti_list_append(&node->spare_peers, cohorti_list_pop(&spares));
    }
    while ((spare = cohorti_list_pop(&spares)) != NULL) {
        cohorti_peer_unref(COHORTI_CONTAINER(spare, struct peer, spare));
    }
    if (status != COHORT_OK) {
        return explain(node, definition, status, applied->culprit, error);
    }
    if (applied->added + applied->removed + applied->changed > 0) {
        cohorti_log(node, COHORT_LOG_INFO, "definition", NULL, COHORT_OK, "applied: %u added, %u removed, %u with another address",
                    applied->added, applied->removed, applied->changed);
    }
    return COHORT_OK;
}

/* ---- following a file ---------------------------------------------------------------------------------------------- */

/* True when it is news. */
static bool set_status(struct cohort_node *node, const struct cohorti_applied *applied, const cohort_error *error)
{
    cohorti_mutex_lock(&node->definition_lock);
    cohort_definition_status *status = &node->definition_status;
    bool news = status->error.code != error->code || strcmp(status->error.text, error->text) != 0;
    status->failed += error->code != COHORT_OK;
    status->applied += applied->added + applied->removed + applied->changed > 0;
    status->error = *error;
    cohorti_mutex_unlock(&node->definition_lock);
    return news;
}

/* tell: listeners may be told at once. */
static void read_and_apply(struct cohort_node *node, bool tell)
{
    cohort_definition definition;
    cohort_error error = {.code = COHORT_OK};
    struct cohorti_applied applied = {.added = 0};
    int status = cohort_definition_read(node->definition_path, &definition, &error);
    if (status == COHORT_OK) {
        cohort_error why = {.code = COHORT_OK};
        status = cohorti_control_apply(node, &definition, &applied, &why);
        cohort_definition_free(&definition);
        if (status != COHORT_OK) {
            error.code = status;
            snprintf(error.text, sizeof error.text, "%.200s: %.300s", node->definition_path, why.text);
        }
    }
    if (tell) {
        cohorti_control_effects(node); /* who reads the status sees the members it speaks of */
    }
    bool news = set_status(node, &applied, &error);
    if (news && status != COHORT_OK) {
        cohorti_log(node, COHORT_LOG_ERROR, "definition", NULL, status, "not applied, the members stay: %s", error.text);
    } else if (news) {
        cohorti_log(node, COHORT_LOG_INFO, "definition", NULL, COHORT_OK, "%s can be used again", node->definition_path);
    }
}

static void on_change(void *ctx)
{
    struct cohort_node *node = ctx;
    read_and_apply(node, true);
    cohorti_worker_settle(&node->control);
}

void cohorti_follow_begin(struct cohort_node *node)
{
    if (node->definition_path == NULL) {
        return;
    }
    int status = node->io->ops->watch_file(node->control.loop, node->definition_path, POLL_MS, on_change, node, &node->file_watch);
    cohorti_mutex_lock(&node->definition_lock);
    node->definition_status.followed = status == COHORT_OK;
    cohorti_mutex_unlock(&node->definition_lock);
    if (status != COHORT_OK) {
        cohorti_log(node, COHORT_LOG_WARN, "definition", NULL, status, "changes of %s are not seen: %s", node->definition_path,
                    cohort_error_text(status));
    }
    read_and_apply(node, node->loops->threads); /* it may have changed since it was read first; without threads, dispatch tells */
}

void cohorti_follow_end(struct cohort_node *node)
{
    if (node->file_watch != NULL) {
        node->io->ops->unwatch_file(node->file_watch);
        node->file_watch = NULL;
    }
}

void cohort_node_definition_status(cohort_node *node, cohort_definition_status *out)
{
    cohorti_mutex_lock(&node->definition_lock);
    *out = node->definition_status;
    cohorti_mutex_unlock(&node->definition_lock);
}
