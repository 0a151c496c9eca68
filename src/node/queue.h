/* SPDX-License-Identifier: Apache-2.0
 * Handlers that do not run on the loops: in a queue that the application empties, or on threads of the library (queue.c). */
#ifndef COHORTI_QUEUE_H
#define COHORTI_QUEUE_H

#include "base/list.h"
#include "io/sync.h"

#include <cohort/cohort.h>
#include <stdatomic.h>

struct cohorti_handler;
struct conn;
struct queued;

/* Where the message came from, for what follows when it was handled. */
struct cohorti_origin {
    struct conn *conn;
    uint64_t half; /* of the peer's process that sent it */
    unsigned lane;
    size_t frame_bytes; /* credit to give back; 0 when another queue does */
};

/** A copy of the message, to be put() or forgotten. NULL without memory. */
struct queued *cohorti_queue_make(struct cohorti_handler *handler, const cohort_message *message,
                                  const struct cohorti_origin *origin);
void cohorti_queue_forget(struct queued *entry);
void cohorti_queue_put(struct queued *entry);

/** A handler was registered for it (1), or is gone (-1). `queue` may be NULL. */
void cohorti_queue_count(struct cohort_queue *queue, int change);
/** The node ends: threads stop, what waits is dropped. The queues are there until no handler names them any more. */
void cohorti_queues_end(struct cohort_node *node);
void cohorti_queues_free(struct cohort_node *node);

#endif
