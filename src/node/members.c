/* SPDX-License-Identifier: Apache-2.0
 *
 * Members, as the public API has them: looked at by any thread, changed by control (node.c).
 */
#include "node/node.h"

#include <assert.h>

static void read_peer(struct peer *peer, cohort_member *out)
{
    cohorti_mutex_lock(&peer->owner->peers_lock);
    *out = peer->member;
    cohorti_mutex_unlock(&peer->owner->peers_lock);
}

int cohort_node_member(cohort_node *node, const char *id, cohort_member *out)
{
    struct peer *peer = cohorti_peer_find(node, id);
    if (peer == NULL) {
        return COHORT_ENOPEER;
    }
    read_peer(peer, out);
    cohorti_peer_unref(peer);
    return COHORT_OK;
}

void cohort_node_local(cohort_node *node, cohort_member *out)
{
    int status = cohort_node_member(node, node->id, out);
    assert(status == COHORT_OK);
    (void)status;
}

cohort_member_state cohort_node_state(cohort_node *node, const char *id)
{
    cohort_member member;
    return cohort_node_member(node, id, &member) == COHORT_OK ? member.state : COHORT_INACTIVE;
}

void cohort_node_members(cohort_node *node, cohort_member *out, size_t capacity, size_t *count)
{
    struct peers *all = cohorti_peers_get(node);
    size_t n = all == NULL ? 0 : all->count;
    for (size_t i = 0; i < n && i < capacity; i++) {
        read_peer(all->at[i], &out[i]);
    }
    cohorti_peers_put(all);
    *count = n;
}

struct member_args {
    const char *id, *ip;
    uint16_t tcp_port;
};

static int call_add(struct cohort_node *node, void *arg)
{
    const struct member_args *args = arg;
    return cohorti_control_add(node, args->id, args->ip, args->tcp_port);
}

static int call_remove(struct cohort_node *node, void *arg)
{
    const struct member_args *args = arg;
    return cohorti_cluster_remove(&node->cluster, args->id);
}

struct apply_args {
    const cohort_definition *definition;
    cohort_error *error;
};

static int call_apply(struct cohort_node *node, void *arg)
{
    const struct apply_args *args = arg;
    struct cohorti_applied ignored;
    return cohorti_control_apply(node, args->definition, &ignored, args->error);
}

int cohort_node_add(cohort_node *node, const char *id, const char *ip, uint16_t tcp_port)
{
    if (id == NULL || ip == NULL) {
        return COHORT_EINVAL;
    }
    struct member_args args = {.id = id, .ip = ip, .tcp_port = tcp_port};
    return cohorti_node_change(node, call_add, &args);
}

int cohort_node_remove(cohort_node *node, const char *id)
{
    if (id == NULL) {
        return COHORT_EINVAL;
    }
    struct member_args args = {.id = id};
    return cohorti_node_change(node, call_remove, &args);
}

int cohort_node_apply_definition(cohort_node *node, const cohort_definition *definition, cohort_error *error)
{
    cohort_error ignored;
    error = error == NULL ? &ignored : error;
    error->text[0] = '\0';
    struct apply_args args = {.definition = definition, .error = error};
    return cohorti_explain(error, cohorti_node_change(node, call_apply, &args));
}
