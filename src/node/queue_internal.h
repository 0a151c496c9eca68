/* SPDX-License-Identifier: Apache-2.0
 * What queue.c and queue_put.c share: queues, and the entries in them. */
#ifndef COHORTI_QUEUE_INTERNAL_H
#define COHORTI_QUEUE_INTERNAL_H

#include "node/node.h"
#include "node/stream.h"

struct shard {
    struct cohort_queue *queue;
    struct cohorti_mutex lock;
    uint32_t index;              /* in its queue */
    struct cohorti_list waiting; /* under lock, as the rest */
    bool told; /* who empties it was told that something waits, or is about to be, and has not found it empty since */
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

/* A message in an entry, and behind it the next one. */
struct record {
    uint32_t len, credit; /* credit to give back, in bytes; of a legacy peer, what is counted for it */
    uint8_t data[];
};

static inline size_t cohorti_record_bytes(size_t len)
{
    return cohorti_round_up(sizeof(struct record) + len, COHORTI_SLAB_STEP);
}

/* A run of messages to one handler, of one member, about one subject; or a single one, if it is a request, a piece, one of several copies, or
 * of a legacy peer. */
struct queued {
    struct cohorti_list node;
    struct cohorti_slab *slab; /* it is part of */
    struct shard *shard;
    struct cohorti_handler *handler;
    struct peer *peer;
    struct record *next;    /* of those that are left */
    uint32_t count;         /* how many these are */
    cohort_message message; /* what its messages have in common */
    struct {
        bool is, begin, end; /* it is a piece, of which the record has the data */
        int status;
        uint64_t offset, total;
        struct incoming_slot *slot; /* named by us; NULL: it is all of its stream */
    } piece;
    bool call_taken; /* its handler has kept message.call: not ours to look at any more */
    bool legacy;
    unsigned lane;
    struct share *share; /* NULL: the only copy */
    uint8_t bytes[];     /* the subject, then the records */
};

/* queue_take.c */
/** Handle what waits in a shard, up to `max` messages; returns how many. */
size_t cohorti_shard_dispatch(struct shard *shard, size_t max);
/** Drop what waits; `removed`: for handlers that were taken back only. Returns how many messages. */
size_t cohorti_shard_drop(struct shard *shard, bool removed);
/** This thread is inside a handler in that queue. */
bool cohorti_queue_in_handler_of(const struct cohort_queue *queue);

#endif
