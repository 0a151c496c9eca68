/* SPDX-License-Identifier: Apache-2.0
 * What queue.c and queue_put.c share: queues, and the entries in them. */
#ifndef COHORTI_QUEUE_INTERNAL_H
#define COHORTI_QUEUE_INTERNAL_H

#include "node/node.h"
#include "node/stream.h"

struct shard {
    struct cohort_queue *queue;
    struct cohorti_mutex lock;
    uint32_t index;               /* in its queue */
    struct cohorti_list waiting;  /* under lock, as the rest */
    struct cohorti_event *event;  /* readable while something waits; NULL with a thread */
    struct cohorti_loop *loop;    /* the thread; NULL without */
    _Atomic uint64_t deadline_ns; /* of a node that closes: what is not handled by then is dropped; 0: it does not */
    struct cohorti_waiter *empty; /* who closes it waits for that; under lock */
};

struct cohort_queue {
    struct cohort_node *node;
    struct cohorti_list of_node; /* node->queues, under life_lock */
    _Atomic uint32_t handlers;   /* registered for it */
    uint32_t shard_count;
    struct shard shards[];
};

/* What several copies of one message have in common. */
struct share {
    _Atomic size_t copies;
};

struct queued {
    struct cohorti_list node;
    struct cohorti_slab *slab; /* it is part of */
    struct runner *runner;     /* whose loop made it */
    struct shard *shard;
    struct cohorti_handler *handler;
    struct peer *peer;
    cohort_message message; /* pointers into what follows */
    struct {
        bool is, begin, end; /* it is a piece, of which `message` has the data */
        int status;
        uint64_t offset, total;
        struct incoming_slot *slot; /* named by us; NULL: it is all of its stream */
    } piece;
    bool call_taken;     /* its handler has kept message.call: not ours to look at any more */
    struct share *share; /* NULL: the only copy */
    bool legacy;
    unsigned lane;
    size_t credit_bytes;
    uint8_t bytes[];
};

#endif
