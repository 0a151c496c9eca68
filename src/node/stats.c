/* SPDX-License-Identifier: Apache-2.0
 * Counters, read from any thread: each is exact, together they are of about the same moment. */
#include "node/node.h"

#include <string.h>

int cohort_link_stats_get(cohort_node *node, const char *id, cohort_link_stats *out)
{
    memset(out, 0, sizeof *out);
    struct peer *peer = cohorti_peer_find(node, id);
    if (peer == NULL) {
        return COHORT_ENOPEER;
    }
    cohorti_mutex_lock(&peer->lock);
    uint64_t now_ns = cohorti_now(node); /* under the lock: not earlier than the opening of the link found */
    if (!cohorti_list_empty(&peer->conns)) {
        struct conn *conn = COHORTI_CONTAINER(peer->conns.prev, struct conn, of_peer);
        uint64_t last_in_ns = atomic_load(&conn->last_in_ns);
        out->bytes_in = atomic_load(&conn->bytes_in);
        out->frames_in = atomic_load(&conn->frames_in);
        out->bytes_out = conn->bytes_out;
        out->frames_out = cohorti_conn_frames_out(conn);
        out->queued_bytes = cohorti_buffer_len(&conn->sender.out);
        out->open_ns = now_ns - atomic_load(&conn->opened_ns);
        out->idle_ns = now_ns > last_in_ns ? now_ns - last_in_ns : 0;
    }
    out->queued_bytes += cohorti_outbound_len(&peer->outbound);
    cohorti_mutex_unlock(&peer->lock);
    cohorti_peer_unref(peer);
    return COHORT_OK;
}

void cohort_node_stats_get(cohort_node *node, cohort_node_stats *out)
{
    struct node_counters *c = &node->counters;
    memset(out, 0, sizeof *out);
    out->links_open = atomic_load(&c->links_open);
    out->handshakes_pending = atomic_load(&c->handshakes);
    out->links_accepted = atomic_load(&c->links_accepted);
    out->links_dialled = atomic_load(&c->links_dialled);
    out->links_opened = atomic_load(&c->links_opened);
    out->links_closed = atomic_load(&c->links_closed);
    out->bytes_in = atomic_load(&c->bytes_in);
    out->bytes_out = atomic_load(&c->bytes_out);
    out->frames_in = atomic_load(&c->frames_in);
    out->frames_out = atomic_load(&c->frames_out);
    out->messages_unhandled = atomic_load(&c->messages_unhandled);
    out->messages_undelivered = atomic_load(&c->messages_undelivered);
    out->messages_dropped = atomic_load(&c->messages_dropped);
    out->replies_late = atomic_load(&c->replies_late);
    out->bytes_dropped = atomic_load(&c->bytes_dropped);
    out->echoes_dropped = atomic_load(&c->echoes_dropped);
    out->decode_failures = atomic_load(&node->codecs.failures);
    for (size_t i = 0; i < sizeof out->errors / sizeof out->errors[0]; i++) {
        out->errors[i] = atomic_load(&c->errors[i]);
    }
}
