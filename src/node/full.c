/* SPDX-License-Identifier: Apache-2.0
 *
 * What becomes of a message for a lane that is full, as its subject's options say: refuse it, wait, drop it, or part with the member.
 *
 * A thread that waits hangs a waiter on the peer, under its lock, and tries again when the lane is told writable or the session
 * ends; the lane is told writable to everybody at once, and whoever comes late waits again.
 */
#include "node/node.h"

struct waiting {
    struct cohorti_list node; /* peer->waiting, under its lock */
    struct cohorti_waiter waiter;
};

void cohorti_full_wake(struct peer *peer)
{
    COHORTI_LIST_FOREACH_SAFE (it, &peer->waiting) {
        cohorti_list_remove(it);
        cohorti_waiter_signal(&COHORTI_CONTAINER(it, struct waiting, node)->waiter);
    }
}

/* With the lock held, which is let go: until there may be room, or for `left_ns`. */
static void wait_for_room(struct peer *peer, uint64_t left_ns)
{
    struct cohorti_io *io = peer->owner->io;
    struct waiting waiting;
    cohorti_waiter_init(&waiting.waiter);
    cohorti_list_init(&waiting.node);
    cohorti_list_append(&peer->waiting, &waiting.node);
    cohorti_mutex_unlock(&peer->lock);
    (void)io->ops->wait(io, &waiting.waiter, left_ns);
    cohorti_mutex_lock(&peer->lock);
    cohorti_list_remove(&waiting.node);
    cohorti_mutex_unlock(&peer->lock);
    cohorti_waiter_deinit(&waiting.waiter);
}

int cohorti_full_wait(struct peer *peer, const struct attempt *attempt, uint64_t deadline_ns)
{
    struct cohort_node *node = peer->owner;
    for (;;) {
        uint64_t now_ns = cohorti_now(node);
        if (now_ns >= deadline_ns) {
            return COHORT_ETIMEDOUT;
        }
        cohorti_mutex_lock(&peer->lock);
        bool closing = atomic_load(&node->phase) == NODE_CLOSING;
        int status = closing ? COHORT_ECLOSED : attempt->make(peer, attempt->ctx); /* it may have got room since */
        if (status == COHORT_EAGAIN) {
            wait_for_room(peer, deadline_ns - now_ns);
            continue;
        }
        if (status != COHORT_OK || !attempt->keeps_lock) {
            cohorti_mutex_unlock(&peer->lock);
        }
        return status;
    }
}

void cohorti_full_close(struct cohort_node *node)
{
    cohorti_mutex_lock(&node->peers_lock);
    for (size_t b = 0; b < node->peers.bucket_count; b++) {
        for (struct cohorti_map_node *it = node->peers.buckets[b]; it != NULL; it = it->next) {
            struct peer *peer = (struct peer *)it;
            cohorti_mutex_lock(&peer->lock);
            cohorti_full_wake(peer);
            cohorti_mutex_unlock(&peer->lock);
        }
    }
    cohorti_mutex_unlock(&node->peers_lock);
}

/* Without a link nobody is slow: what is queued is kept for a member that is away, whatever the policy of what finds no room. Nor is a member slow
 * whose lane has room, but not the node for all its lanes. */
static int part(struct peer *peer, cohort_lane lane)
{
    cohorti_mutex_lock(&peer->lock);
    struct conn *conn = cohorti_current_conn(peer);
    if (conn != NULL && peer->outbound.lanes[lane].full) {
        cohorti_conn_post_close(conn, COHORT_ESLOW);
    }
    cohorti_mutex_unlock(&peer->lock);
    return COHORT_EAGAIN;
}

int cohorti_full(struct peer *peer, const cohort_subject_options *options, const struct attempt *attempt)
{
    struct cohort_node *node = peer->owner;
    switch (options->when_full) {
    case COHORT_FULL_BLOCK:
        if (cohorti_node_in_callback(node) || !node->loops->threads) {
            return COHORT_ECALLBACK;
        }
        return cohorti_full_wait(peer, attempt, cohorti_now(node) + options->block_ms * COHORTI_NS_PER_MS);
    case COHORT_FULL_DROP:
        if (!attempt->can_drop) {
            return COHORT_EAGAIN;
        }
        atomic_fetch_add(&node->counters.messages_dropped, 1);
        return COHORT_OK;
    case COHORT_FULL_DISCONNECT:
        return part(peer, options->lane);
    default:
        return COHORT_EAGAIN;
    }
}

static int send_again(struct peer *peer, void *ctx)
{
    return cohorti_send_locked(peer, ctx);
}

int cohorti_full_send(struct peer *peer, struct outgoing *m)
{
    return cohorti_full(peer, &m->options, &(struct attempt){.make = send_again, .ctx = m, .can_drop = true});
}
