/* SPDX-License-Identifier: Apache-2.0
 * Handlers that do not run on the loops: in a queue that the application empties, or on threads of the library (queue.c). */
#ifndef COHORTI_QUEUE_H
#define COHORTI_QUEUE_H

#include "base/list.h"
#include "io/sync.h"

#include <cohort/cohort.h>
#include <cohort/stream.h>
#include <stdatomic.h>

struct cohorti_handler;
struct conn;
struct queued;
struct incoming_slot;
struct cohorti_delivery;
struct cohorti_inbound_subject;

/* The last entry made, if another message may be put into it. */
struct cohorti_run {
    struct cohorti_handler *handler; /* NULL: it may not */
    const struct cohorti_inbound_subject *subject;
    struct queued *entry;
    struct cohorti_stage *stage; /* where it is the last */
    uint8_t *end;
};

/* What a loop has made for queues during a batch of messages: put there at the end of it, with one lock and one wake-up for all. */
#define COHORTI_STAGES 8
struct cohorti_stages {
    struct cohorti_stage {
        struct shard *shard;
        struct cohorti_list waiting;
        uint32_t count; /* messages, but of the run its first only */
    } at[COHORTI_STAGES];
    uint32_t used; /* a bit for each that holds something */
    struct cohorti_run run;
    /* References taken ahead, many at once: for the next entries of the same handler, from the same peer. */
    struct cohort_node *node;
    struct cohorti_handler *handler;
    struct peer *peer;
    uint32_t handler_refs, peer_refs;
};
struct runner;
void cohorti_stages_init(struct cohorti_stages *stages);
/** Into their queues with them: the batch ends, or a handler runs here that may take its time. Loop thread. */
void cohorti_stages_flush(struct cohorti_stages *stages);

/* Where the message came from, for what follows when it was handled. */
struct cohorti_origin {
    struct conn *conn;
    bool legacy; /* a peer without credit */
    unsigned lane;
    size_t bytes; /* credit to give back; of a legacy peer, what is counted for it */
};

/** A message about a subject, for one handler and no other: into its queue, behind what came before. COHORT_ENOMEM. */
COHORT_NODISCARD int cohorti_queue_message(struct cohorti_handler *handler, const cohort_message *message,
                                           const struct cohorti_delivery *taken, struct conn *conn);
/** A copy of the message, and of its call, to be put() or forgotten. NULL without memory. */
struct queued *cohorti_queue_make(struct cohorti_handler *handler, const cohort_message *message,
                                  const struct cohorti_origin *origin);
/** The same of a piece. slot: of a stream of several, named by the copy until it is done with; NULL: the piece is all of it, or it is put() by put_end(). */
struct queued *cohorti_queue_make_piece(struct cohorti_handler *handler, const cohort_piece *piece, struct incoming_slot *slot,
                                        const struct cohorti_origin *origin);
/** A copy made beforehand says that the stream ended early. Cannot fail. */
void cohorti_queue_put_end(struct queued *entry, struct incoming_slot *slot, uint64_t came, int status);
void cohorti_queue_forget(struct queued *entry);
/** Put the copies of one message into their queues; the last to be handled gives the credit back. COHORT_ENOMEM: all were forgotten. */
COHORT_NODISCARD int cohorti_queue_put(struct cohorti_stages *stages, struct queued **copies, size_t count);

/** A handler was registered for it (1), or is gone (-1). `queue` may be NULL. */
void cohorti_queue_count(struct cohort_queue *queue, int change);
/** This thread is inside a handler in a queue of the node. */
bool cohorti_queue_in_handler(const struct cohort_node *node);
bool cohorti_queue_is_of(const struct cohort_queue *queue, const struct cohort_node *node);
/** No link is left: the threads handle what waits, until deadline_ns, and stop. The loops still run, for what handlers call. */
void cohorti_queues_finish(struct cohort_node *node, uint64_t deadline_ns);
/** The node ends: what still waits is dropped. The queues are there until no handler names them any more. */
void cohorti_queues_end(struct cohort_node *node);
void cohorti_queues_free(struct cohort_node *node);

#endif
