/* SPDX-License-Identifier: Apache-2.0
 *
 * The sending half of streams, in the shell: the handle of the application, waiting for room, and telling how each ended, once.
 *
 *   held    the application has the handle: finish() and abort() give it back
 *   over    it is acknowledged, lost or aborted: `status` is final; it waits in peer->streams_over until somebody tells
 *
 * Freed when it is not held and was told. Everything is under the peer's lock but the call of fn.
 */
#include "node/stream.h"

#include "core/stream.h"

#include <cohort/stream.h>
#include <string.h>

struct cohort_stream {
    struct cohorti_stream core;
    struct cohorti_list of_node; /* node->streams: all there are; under its lock */
    struct cohorti_list node;    /* peer->streams_over, while it waits to be told */
    struct peer *peer;
    cohort_stream_fn fn;
    void *arg;
    cohort_subject_options options;
    int status;
    bool held, over, told;
    char subject[];
};

static void free_stream(struct cohort_stream *s)
{
    struct peer *peer = s->peer;
    cohorti_mutex_lock(&peer->owner->streams_lock);
    cohorti_list_remove(&s->of_node);
    cohorti_mutex_unlock(&peer->owner->streams_lock);
    cohorti_release(&peer->owner->alloc, s);
    cohorti_peer_unref(peer);
}

/* ---- the end ------------------------------------------------------------------------------------------------------- */

static void end_locked(struct cohort_stream *s, int status)
{
    if (status == COHORT_ECLOSED && s->core.finished) { /* its owner was told that all of it is taken */
        atomic_store(&s->peer->owner->close_cut, true);
    }
    s->status = status;
    s->over = true;
    cohorti_list_append(&s->peer->streams_over, &s->node);
}

bool cohorti_streams_take_over(struct peer *peer, int reason)
{
    struct cohorti_stream *core;
    bool lost = false;
    while ((core = cohorti_stream_next_over(&peer->outbound)) != NULL) {
        end_locked(COHORTI_CONTAINER(core, struct cohort_stream, core), core->lost ? reason : COHORT_OK);
        lost = lost || core->lost;
    }
    if (lost) {
        cohorti_full_wake(peer);
    }
    return !cohorti_list_empty(&peer->streams_over);
}

/* Whoever takes it out tells it. */
static void tell(struct cohort_stream *s)
{
    struct peer *peer = s->peer;
    const cohort_stream_result result = {.to = peer->id, .subject = s->subject, .status = s->status, .bytes = s->core.len};
    if (s->fn != NULL) {
        s->fn(peer->owner, &result, s->arg);
    }
    cohorti_mutex_lock(&peer->lock);
    s->told = true;
    bool last = !s->held;
    cohorti_mutex_unlock(&peer->lock);
    if (last) {
        free_stream(s);
    }
}

void cohorti_streams_tell(struct peer *peer)
{
    for (;;) {
        cohorti_mutex_lock(&peer->lock);
        struct cohorti_list *it = cohorti_list_pop(&peer->streams_over);
        cohorti_mutex_unlock(&peer->lock);
        if (it == NULL) {
            return;
        }
        tell(COHORTI_CONTAINER(it, struct cohort_stream, node));
    }
}

/* With the lock held: why nothing can be written any more, or COHORT_OK. */
static int check(const struct cohort_stream *s)
{
    return s->over                                               ? s->status
           : atomic_load(&s->peer->owner->phase) == NODE_CLOSING ? COHORT_ECLOSED
           : s->peer->removed                                    ? COHORT_EREMOVED
           : s->peer->legacy                                     ? COHORT_ELEGACY
                                                                 : COHORT_OK;
}

/* Its reader is told; without memory now, later. With the lock held. */
static void abort_locked(struct cohort_stream *s)
{
    cohorti_stream_abort(&s->peer->outbound, &s->core);
    if (cohorti_streams_owe(&s->peer->outbound)) {
        cohorti_requests_owe(s->peer);
    }
}

/* Before peer->lock; nobody takes them the other way round. */
static void abort_open(struct cohort_node *node)
{
    cohorti_mutex_lock(&node->streams_lock);
    COHORTI_LIST_FOREACH (it, &node->streams) {
        struct cohort_stream *s = COHORTI_CONTAINER(it, struct cohort_stream, of_node);
        cohorti_mutex_lock(&s->peer->lock);
        if (!s->over && !s->core.finished) {
            abort_locked(s);
            end_locked(s, COHORT_ECLOSED);
            cohorti_kick(s->peer);
        }
        cohorti_mutex_unlock(&s->peer->lock);
    }
    cohorti_mutex_unlock(&node->streams_lock);
}

void cohorti_streams_close(struct cohort_node *node)
{
    abort_open(node);
    struct peers *all = cohorti_peers_get(node); /* without memory it is told with the end of their sessions */
    for (size_t i = 0; all != NULL && i < all->count; i++) {
        cohorti_streams_tell(all->at[i]);
    }
    cohorti_peers_put(all);
}

void cohorti_streams_forget(struct cohort_node *node)
{
    while (!cohorti_list_empty(&node->streams)) {
        cohort_stream *s = COHORTI_CONTAINER(node->streams.next, struct cohort_stream, of_node);
        cohorti_list_remove(&s->node);
        cohorti_list_remove(&s->core.node);
        free_stream(s);
    }
}

/* ---- the public calls ---------------------------------------------------------------------------------------------- */

int cohort_stream_open(cohort_node *node, const char *id, const char *subject, uint64_t total, cohort_stream_fn fn, void *arg,
                       cohort_stream **out)
{
    struct outgoing message;
    int status = cohorti_check_message(node, subject, NULL, 0, &message);
    if (status != COHORT_OK || message.raw) {
        return status != COHORT_OK ? status : COHORT_EINVAL;
    }
    if (total != COHORT_TOTAL_UNKNOWN && total > COHORTI_OFFSET_MAX) {
        return COHORT_ESIZE;
    }
    struct peer *peer = NULL;
    status = cohorti_peer_to(node, id, &peer);
    if (status != COHORT_OK) {
        return status;
    }
    size_t size = strlen(subject) + 1;
    cohort_stream *s = cohorti_alloc_zero(&node->alloc, sizeof *s + size);
    if (s == NULL) {
        cohorti_peer_unref(peer);
        return COHORT_ENOMEM;
    }
    s->peer = peer;
    s->fn = fn;
    s->arg = arg;
    s->options = message.options;
    s->held = true;
    cohorti_list_init(&s->node);
    cohorti_list_init(&s->of_node);
    memcpy(s->subject, subject, size);
    cohorti_mutex_lock(&node->streams_lock); /* both: who closes the node sees it open, or not at all */
    cohorti_mutex_lock(&peer->lock);
    status = peer->removed ? COHORT_ENOPEER : check(s);
    if (status == COHORT_OK) {
        status = cohorti_stream_open(&peer->outbound, &s->core, message.put.lane, s->subject,
                                     total == COHORT_TOTAL_UNKNOWN ? COHORTI_TOTAL_UNKNOWN : total);
    }
    if (status == COHORT_OK) {
        cohorti_list_append(&node->streams, &s->of_node);
    }
    cohorti_mutex_unlock(&peer->lock);
    cohorti_mutex_unlock(&node->streams_lock);
    if (status != COHORT_OK) {
        free_stream(s);
        return status;
    }
    *out = s;
    return COHORT_OK;
}

/* What is left to write, and how it goes. */
struct writing {
    struct cohort_stream *stream;
    const uint8_t *data;
    size_t len, taken;
};

static int write_some(struct peer *peer, void *arg)
{
    struct writing *w = arg;
    size_t taken = 0;
    int status = check(w->stream);
    if (status != COHORT_OK) {
        return status;
    }
    status = cohorti_stream_write(&peer->outbound, &w->stream->core, w->data + w->taken, w->len - w->taken, &taken);
    w->taken += taken;
    if (taken > 0) {
        cohorti_kick(peer);
    }
    return status;
}

/* The same for who waits: some progress is enough, since it puts off giving up. */
static int write_any(struct peer *peer, void *arg)
{
    struct writing *w = arg;
    size_t before = w->taken;
    int status = write_some(peer, arg);
    return status == COHORT_EAGAIN && w->taken > before ? COHORT_OK : status;
}

uint64_t cohort_stream_acked(cohort_stream *stream)
{
    struct peer *peer = stream->peer;
    cohorti_mutex_lock(&peer->lock);
    uint64_t acked = peer->outbound.lanes[stream->core.lane].log.acked;
    cohorti_mutex_unlock(&peer->lock);
    return acked;
}

/* As long as something goes on: pieces are taken, or the member acknowledges what will make room. */
int cohorti_stream_write_waiting(cohort_stream *stream, const void *data, size_t len, uint64_t wait_ns, size_t *taken)
{
    struct writing w = {.stream = stream, .data = data, .len = len};
    struct cohort_node *node = stream->peer->owner;
    int status = COHORT_OK;
    do {
        uint64_t now_ns = cohorti_now(node), acked = cohort_stream_acked(stream);
        uint64_t until_ns = wait_ns > COHORTI_NEVER - now_ns ? COHORTI_NEVER : now_ns + wait_ns;
        status = cohorti_full_wait(stream->peer, &(struct attempt){.make = write_any, .ctx = &w}, until_ns);
        status = status == COHORT_ETIMEDOUT && cohort_stream_acked(stream) != acked ? COHORT_OK : status;
    } while (status == COHORT_OK && w.taken < len);
    *taken = w.taken;
    return status;
}

int cohort_stream_write(cohort_stream *stream, const void *data, size_t len, size_t *taken)
{
    struct peer *peer = stream->peer;
    struct writing w = {.stream = stream, .data = data, .len = len};
    *taken = 0;
    if (data == NULL && len > 0) {
        return COHORT_EINVAL;
    }
    cohorti_mutex_lock(&peer->lock);
    int status = write_some(peer, &w);
    cohorti_mutex_unlock(&peer->lock);
    *taken = w.taken;
    if (status == COHORT_EAGAIN && stream->options.when_full == COHORT_FULL_BLOCK) {
        if (cohorti_node_in_callback(peer->owner) || !peer->owner->loops->threads) {
            return COHORT_ECALLBACK;
        }
        size_t more = 0;
        status = cohorti_stream_write_waiting(stream, w.data + w.taken, len - w.taken, stream->options.block_ms * COHORTI_NS_PER_MS,
                                              &more);
        *taken += more;
    }
    return status;
}

/* The application has no handle any more; true when nothing else holds the stream. With the lock held. */
static bool give_back(struct cohort_stream *s)
{
    s->held = false;
    return s->told;
}

static int finish(cohort_stream *stream, bool gives_back)
{
    struct peer *peer = stream->peer;
    bool last = false;
    atomic_fetch_add(&peer->refs, 1); /* the stream may be freed by who tells */
    cohorti_mutex_lock(&peer->lock);
    int status = check(stream);
    if (status == COHORT_OK) {
        status = cohorti_stream_finish(&peer->outbound, &stream->core);
        cohorti_kick(peer);
    }
    if (status != COHORT_ESIZE && status != COHORT_ENOMEM) {
        if (status != COHORT_OK && !stream->over) { /* the session ends, and has not come to it yet */
            abort_locked(stream);
            end_locked(stream, status);
        }
        last = gives_back && give_back(stream);
    }
    bool tells = cohorti_streams_take_over(peer, COHORT_OK); /* all of it may be acknowledged already */
    cohorti_mutex_unlock(&peer->lock);
    if (last) {
        free_stream(stream);
    }
    if (tells) {
        cohorti_streams_tell(peer);
    }
    cohorti_peer_unref(peer);
    return status;
}

int cohort_stream_finish(cohort_stream *stream)
{
    return finish(stream, true);
}

int cohort_stream_end(cohort_stream *stream)
{
    return finish(stream, false);
}

void cohort_stream_abort(cohort_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    struct peer *peer = stream->peer;
    cohorti_mutex_lock(&peer->lock);
    bool over = stream->over;
    if (!over) {
        abort_locked(stream);
        stream->status = COHORT_ECANCELLED;
        stream->over = true;
        cohorti_kick(peer);
        cohorti_requests_want_timer(peer, cohorti_outbound_expires_ns(&peer->outbound)); /* it may have kept void frames in its lane */
    }
    bool last = give_back(stream);
    cohorti_mutex_unlock(&peer->lock);
    if (!over) {
        tell(stream);
    } else if (last) {
        free_stream(stream);
    }
}
