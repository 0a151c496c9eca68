/* SPDX-License-Identifier: Apache-2.0
 * Streams in the shell: those that are sent (stream.c, file.c), and those that come (incoming.c). Private to src/node. */
#ifndef COHORTI_NODE_STREAM_H
#define COHORTI_NODE_STREAM_H

#include "node/node.h"

#include <cohort/stream.h>

/* ---- sent ---------------------------------------------------------------------------------------------------------- */

/** Those acknowledged or lost are over: lost because of `reason`. With the lock held; true: there is something to tell(). */
bool cohorti_streams_take_over(struct peer *peer, int reason);
/** Tell of those that are over. No lock held; the peer must stay. */
void cohorti_streams_tell(struct peer *peer);
/** The node closes: what is not finished is aborted, and told (ECLOSED). Who closes. */
void cohorti_streams_close(struct cohort_node *node);
/** cohort_stream_write() that waits for room: ETIMEDOUT when nothing was taken for wait_ns. */
COHORT_NODISCARD int cohorti_stream_write_waiting(cohort_stream *stream, const void *data, size_t len, uint64_t wait_ns,
                                                  size_t *taken);
/** The node is gone, or ends: free what the application has not given back, without a word. */
void cohorti_streams_forget(struct cohort_node *node);

/* ---- coming -------------------------------------------------------------------------------------------------------- */

/** A stream that has begun, and to whom its pieces are given. */
struct incoming;

/** One handler's part in it. */
struct incoming_slot {
    struct incoming *stream;
    struct cohorti_handler *handler;
    void *state;        /* the handler's own; on its thread */
    bool begun, broken; /* it has seen the first piece; it has not seen all since. On its thread */
    uint64_t seen;      /* bytes, by a handler in a queue. On its thread */
    struct queued *end; /* reserved, so that it can be told of the end without memory; NULL on a loop */
};

/** A chunk of a message: to its handlers, as a piece, or as the message it completes. As cohorti_conn_deliver(), and COHORT_ESIZE: the link is to end. */
COHORT_NODISCARD int cohorti_incoming_take(struct conn *conn, struct cohorti_delivery *taken, bool *consumed);
void cohorti_incoming_ref(struct incoming *in);
void cohorti_incoming_put(struct incoming *in);
/** The slot of a handler, or NULL when it has none. */
struct incoming_slot *cohorti_incoming_slot(struct incoming *in, const struct cohorti_handler *handler);
/** The handlers it was begun with. */
struct cohorti_handlers *cohorti_incoming_handlers(struct incoming *in);
/** All of a peer end because of `status`; by who owns its receiving half. */
void cohorti_incoming_end_all(struct peer *peer, int status);
/** The same without a word: the process is dead. */
void cohorti_incoming_forget_all(struct peer *peer);
/** No link is left and the node closes: all end (ECLOSED). */
void cohorti_incoming_close(struct cohort_node *node);

#endif
