/* SPDX-License-Identifier: Apache-2.0
 *
 * Counters, read from any thread: each is exact, together they are of about the same moment.
 *
 * Rates are made of two readings when somebody asks (cohort_rates says of which). The rejected alternative, an average kept up to
 * date as bytes go through, would cost every batch for a figure that is hardly ever read, and a timer to let it fall.
 */
#include "node/node.h"

#include <string.h>

#define RATE_WINDOW_MIN_NS UINT64_C(500000000) /* half of what is promised to a reader each second, who is never quite on time */

static uint64_t per_second(uint64_t now, uint64_t before, uint64_t window_ns)
{
    return (uint64_t)((double)(now - before) * 1e9 / (double)window_ns + 0.5);
}

/* Whoever calls holds the lock of the window. The counters never go back. */
static void rates(struct rate_window *w, uint64_t now_ns, const struct traffic *now, cohort_rates *out)
{
    if (w->mark_ns != 0 && now_ns - w->mark_ns >= RATE_WINDOW_MIN_NS) {
        w->base_ns = w->mark_ns;
        w->base = w->mark;
        w->mark_ns = 0;
    }
    if (w->mark_ns == 0) {
        w->mark_ns = now_ns;
        w->mark = *now;
    }
    uint64_t window_ns = now_ns - w->base_ns < RATE_WINDOW_MIN_NS ? RATE_WINDOW_MIN_NS : now_ns - w->base_ns;
    out->bytes_in_per_s = per_second(now->bytes_in, w->base.bytes_in, window_ns);
    out->bytes_out_per_s = per_second(now->bytes_out, w->base.bytes_out, window_ns);
    out->frames_in_per_s = per_second(now->frames_in, w->base.frames_in, window_ns);
    out->frames_out_per_s = per_second(now->frames_out, w->base.frames_out, window_ns);
}

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
        if (conn->rates.base_ns == 0) {
            conn->rates.base_ns = atomic_load(&conn->opened_ns);
        }
        rates(&conn->rates, now_ns, &(struct traffic){out->bytes_in, out->bytes_out, out->frames_in, out->frames_out}, &out->rates);
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
    out->handlers_slow = atomic_load(&c->handlers_slow);
    out->queued_bytes = atomic_load(&node->quota.used);
    out->decode_failures = atomic_load(&node->codecs.failures);
    for (size_t i = 0; i < sizeof out->errors / sizeof out->errors[0]; i++) {
        out->errors[i] = atomic_load(&c->errors[i]);
    }
    cohorti_mutex_lock(&node->rates_lock);
    const struct traffic now = {atomic_load(&c->bytes_in), atomic_load(&c->bytes_out), atomic_load(&c->frames_in),
                                atomic_load(&c->frames_out)}; /* under the lock: not below what another reader marked */
    rates(&node->rates, cohorti_now(node), &now, &out->rates);
    cohorti_mutex_unlock(&node->rates_lock);
}
