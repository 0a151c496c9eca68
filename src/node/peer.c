/* SPDX-License-Identifier: Apache-2.0
 *
 * Peers: the members as other threads see them, and the handle through which they send.
 *
 * Written by the control loop only, so that what getState says and what the events said agree. A peer lives until the last
 * reference goes: a connection may outlast its membership by a moment.
 */
#include "node/node.h"
#include "node/stream.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct peer *cohorti_peer_new(struct cohort_node *node)
{
    uint64_t half = 0;
    if (cohorti_session_half(node, &half) != COHORT_OK) {
        return NULL;
    }
    struct peer *peer = cohorti_alloc_zero(&node->alloc, sizeof *peer);
    if (peer != NULL) {
        const cohort_limits *limits = &node->limits;
        cohorti_outbound_init(&peer->outbound, &node->alloc,
                              &(struct cohorti_outbound_limits){.lane_bytes_max = limits->peer_queue_bytes_max,
                                                                .message_bytes_max = limits->message_bytes_max,
                                                                .subjects_max = limits->subjects_max,
                                                                .quota = &node->quota},
                              half);
        cohorti_inbound_init(&peer->inbound, &node->alloc,
                             &(struct cohorti_inbound_limits){.message_bytes_max = limits->message_bytes_max,
                                                              .subjects_max = limits->subjects_max,
                                                              .window_bytes = limits->window_bytes});
        peer->owner = node;
        cohorti_requests_init(peer);
        atomic_init(&peer->refs, 1);
        cohorti_mutex_init(&peer->lock);
        cohorti_list_init(&peer->conns);
        cohorti_list_init(&peer->spare);
        cohorti_list_init(&peer->has_room);
        cohorti_list_init(&peer->waiting);
        cohorti_list_init(&peer->streams_over);
    }
    return peer;
}

void cohorti_peer_unref(struct peer *peer)
{
    cohorti_peer_unref_many(peer, 1);
}

void cohorti_peer_unref_many(struct peer *peer, uint32_t count)
{
    if (peer != NULL && atomic_fetch_sub(&peer->refs, count) == count) {
        cohorti_requests_deinit(peer);
        cohorti_incoming_forget_all(peer);
        cohorti_outbound_deinit(&peer->outbound);
        cohorti_inbound_deinit(&peer->inbound);
        cohorti_mutex_deinit(&peer->lock);
        cohorti_release(&peer->owner->alloc, peer);
    }
}

static struct peer *find_locked(struct cohort_node *node, const char *id)
{
    uint64_t hash = cohorti_hash_bytes(id, strlen(id));
    struct cohorti_map_node *it = cohorti_map_find(&node->peers, hash);
    while (it != NULL && strcmp(((struct peer *)it)->id, id) != 0) {
        it = cohorti_map_find_next(it, hash);
    }
    return (struct peer *)it;
}

struct peer *cohorti_peer_find(struct cohort_node *node, const char *id)
{
    if (id == NULL) {
        return NULL;
    }
    cohorti_mutex_lock(&node->peers_lock);
    struct peer *peer = find_locked(node, id);
    if (peer != NULL) {
        atomic_fetch_add(&peer->refs, 1);
    }
    cohorti_mutex_unlock(&node->peers_lock);
    return peer;
}

int cohorti_peer_to(struct cohort_node *node, const char *id, struct peer **out)
{
    *out = NULL;
    if (id == NULL) {
        return COHORT_EINVAL;
    }
    struct peer *peer = cohorti_peer_find(node, id);
    if (peer != NULL && peer->self && !node->deliver_local) {
        cohorti_peer_unref(peer);
        return COHORT_EINVAL;
    }
    *out = peer;
    return peer == NULL ? COHORT_ENOPEER : COHORT_OK;
}

static int compare_peers(const void *a, const void *b)
{
    const struct peer *const *left = a;
    const struct peer *const *right = b;
    return strcmp((*left)->id, (*right)->id);
}

void cohorti_peers_put(struct peers *all)
{
    if (all != NULL && atomic_fetch_sub(&all->refs, 1) == 1) {
        const cohort_allocator *alloc = all->alloc;
        for (size_t i = 0; i < all->count; i++) {
            cohorti_peer_unref(all->at[i]);
        }
        cohorti_release(alloc, all);
    }
}

/* With peers_lock held. */
static struct peers *list_peers(struct cohort_node *node)
{
    struct peers *all = cohorti_alloc(&node->alloc, sizeof *all + node->peer_count * sizeof(struct peer *));
    if (all == NULL) {
        return NULL;
    }
    all->alloc = &node->alloc;
    all->count = 0;
    atomic_init(&all->refs, 1);
    for (size_t b = 0; b < node->peers.bucket_count; b++) {
        for (struct cohorti_map_node *it = node->peers.buckets[b]; it != NULL; it = it->next) {
            atomic_fetch_add(&((struct peer *)it)->refs, 1);
            all->at[all->count++] = (struct peer *)it;
        }
    }
    qsort(all->at, all->count, sizeof(struct peer *), compare_peers); /* ids do not change */
    return all;
}

struct peers *cohorti_peers_get(struct cohort_node *node)
{
    cohorti_mutex_lock(&node->peers_lock);
    if (node->all == NULL) {
        node->all = list_peers(node);
    }
    struct peers *all = node->all;
    if (all != NULL) {
        atomic_fetch_add(&all->refs, 1);
    }
    cohorti_mutex_unlock(&node->peers_lock);
    return all;
}

void cohorti_peer_publish(struct cohort_node *node, const cohort_member *member, bool removed)
{
    struct peer *gone = NULL;
    struct peers *outdated = NULL;
    cohorti_mutex_lock(&node->peers_lock);
    struct peer *peer = find_locked(node, member->id);
    if ((peer == NULL) != removed) {
        outdated = node->all; /* made again when next asked for */
        node->all = NULL;
    }
    if (peer == NULL && !removed) {
        struct cohorti_list *spare = cohorti_list_pop(&node->spare_peers); /* made before the step that added the member */
        assert(spare != NULL);
        peer = COHORTI_CONTAINER(spare, struct peer, spare);
        memcpy(peer->id, member->id, sizeof peer->id);
        cohorti_map_insert(&node->peers, &peer->node, cohorti_hash_bytes(member->id, strlen(member->id)));
        node->peer_count++;
    }
    if (removed && peer != NULL) {
        cohorti_map_remove(&node->peers, &peer->node);
        node->peer_count--;
        gone = peer;
    } else if (peer != NULL) {
        peer->member = *member;
    }
    cohorti_mutex_unlock(&node->peers_lock);
    cohorti_peers_put(outdated);
    if (gone != NULL) {
        cohorti_requests_forget_timer(gone);
        cohorti_mutex_lock(&gone->lock);
        gone->removed = true;
        cohorti_full_wake(gone);
        bool linked = gone->ending || !cohorti_list_empty(&gone->conns);
        cohorti_mutex_unlock(&gone->lock);
        if (!linked) {
            (void)cohorti_session_end(gone, COHORT_EREMOVED);
        }
        cohorti_peer_unref(gone);
    }
}
