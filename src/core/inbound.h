/* SPDX-License-Identifier: Apache-2.0
 *
 * inbound: the receiving half of a session with one peer. It outlives links.
 *
 * It counts, per lane, the bytes of the frames that were taken: that number is what RESUME tells the peer, so a frame counts when
 * its message was delivered (or its piece put away, or its name learnt), and not before. Then the peer need not keep it.
 *
 *   received   bytes taken. A frame that could not be taken is not counted and comes again over the next link.
 *   waiting    bytes of messages taken that handlers are not done with, since they wait in a queue of the application; of a large one all
 *              of it. Also of what an earlier half of the peer sent: a peer that comes again and again fills no more than its window.
 *   limit      received + window - waiting: up to where the peer may write; what was told once stands.
 *
 * Owned by the loop of the link that stands; by the control loop while none does.
 */
#ifndef COHORTI_CORE_INBOUND_H
#define COHORTI_CORE_INBOUND_H

#include "core/chunk.h"
#include "wire/control.h"

/* How far a peer may write beyond a limit: what it began before it, docs/protocol.md. A block of its log, or a frame. */
#define COHORTI_RUN_BYTES_MAX COHORTI_FRAME_BYTES_MAX

struct cohorti_inbound_limits {
    size_t message_bytes_max; /* body of one message, put together */
    uint32_t subjects_max;    /* names in one lane */
    uint32_t window_bytes;    /* credit of one lane */
};

/** A name the peer announced. `cache` is the shell's: what it found for the name. */
struct cohorti_inbound_subject {
    void *cache;
    char name[];
};

/** What comes in chunks: put together in `bytes`, given on piece by piece, both, or neither: then it is skipped. */
struct cohorti_partial {
    struct cohorti_partial *next;
    uint16_t stream;
    enum cohorti_kind kind;
    uint32_t number; /* of the subject */
    uint64_t total;  /* COHORTI_TOTAL_UNKNOWN: its last chunk says */
    uint64_t len;    /* committed; 0: its first chunk is not yet, and may come again */
    uint8_t *bytes;
    size_t cap;     /* of bytes: `total`, unless that is unknown */
    bool too_large; /* bytes were given up: it has grown over the limit */
    void *reader;   /* the shell's: to whom the pieces are given. To be taken back before the partial ends */
};

struct cohorti_inbound_lane {
    uint64_t received, waiting;
    uint64_t told_received, told_limit; /* in the last RESUME or ACK */
    struct cohorti_inbound_subject **subjects;
    uint32_t subject_count, subject_cap;
    struct cohorti_partial *partials; /* begun and not ended: at most COHORTI_STREAMS_MAX, and the one of number 0 */
    uint32_t partial_count;
};

struct cohorti_inbound {
    const cohort_allocator *alloc;
    struct cohorti_inbound_limits limits;
    uint64_t peer_half; /* whose bytes are counted; 0: none yet */
    bool whole_untold;  /* a message in chunks has ended since the peer was told */
    struct cohorti_inbound_lane lanes[COHORTI_LANE_COUNT];
};

void cohorti_inbound_init(struct cohorti_inbound *in, const cohort_allocator *alloc, const struct cohorti_inbound_limits *limits);
void cohorti_inbound_deinit(struct cohorti_inbound *in);

/** What RESUME says of it, for our half `half`; told from here on. */
void cohorti_inbound_marks(struct cohorti_inbound *in, uint64_t half, struct cohorti_resume *out);
/** RESUME of the peer came: if its half is another one, all begins anew. Returns whether it did. */
bool cohorti_inbound_resume(struct cohorti_inbound *in, uint64_t peer_half);

/** A frame of a lane, as what it means. */
struct cohorti_delivery {
    enum cohorti_kind kind;
    bool raw;
    bool nothing; /* nothing to deliver: a name, a piece nobody reads, a withdrawn message. To be committed all the same */
    uint32_t raw_type;
    unsigned lane;
    struct cohorti_inbound_subject *subject; /* NULL for raw frames and replies */
    const uint8_t *prefix;
    const uint8_t *body;
    size_t body_len;
    size_t frame_bytes;              /* what commit() is to count */
    size_t credit_bytes;             /* what it holds of the peer's credit while it waits: of one put together all of it */
    struct cohorti_partial *partial; /* a chunk's; it ends at commit when `last` or `aborts`. NULL: a frame by itself */
    struct cohorti_chunk chunk;      /* of a partial: this piece, valid as the frame is */
    bool whole;                      /* body is all of it, put together */
    bool too_large;                  /* it was not put together, being over the limit */
};

/**
 * Look at a frame of a lane: of a raw type, about a subject, or SUBJECT. Unless it fails, the caller delivers and then commits.
 *
 *   COHORT_EPROTOCOL  out of place, or beyond the credit of its lane; `why` says what.
 *   COHORT_ESIZE      a message, or a call in chunks, larger than limits.message_bytes_max.
 *   COHORT_ELIMIT     too many names.
 *   COHORT_ENOMEM     nothing changed: it comes again over the next link.
 */
COHORT_NODISCARD int cohorti_inbound_take(struct cohorti_inbound *in, const cohort_frame *frame, struct cohorti_delivery *out,
                                          const char **why);
/**
 * The first chunk of a message was taken: put all of it together. Not called, it is given piece by piece to partial->reader, or skipped.
 * COHORT_ESIZE: it is larger than limits.message_bytes_max; nothing changed. COHORT_ENOMEM: it is to come again.
 */
COHORT_NODISCARD int cohorti_inbound_collect(struct cohorti_inbound *in, struct cohorti_delivery *d);
/** Take back one reader of those whose stream has not ended, before resume() or deinit() ends it; NULL when there is none. */
void *cohorti_inbound_take_reader(struct cohorti_inbound *in);
/** The same, of a chunk whose data behind its prefix are at `placed`; NULL: where frame->data say. */
COHORT_NODISCARD int cohorti_inbound_take_placed(struct cohorti_inbound *in, const cohort_frame *frame, const uint8_t *placed,
                                                 struct cohorti_delivery *out, const char **why);
/** Of a frame only the header and COHORTI_CHUNK_PREFIX_BYTES are here: where the rest of it belongs, in a message that is put together.
 * NULL: nowhere, or that is not known yet. It stays so until the frame was taken, or another one. */
uint8_t *cohorti_inbound_place(struct cohorti_inbound *in, const cohort_frame *front);
/** It was delivered: count it. consumed: and its handlers are done with it; else consumed() gives its credit_bytes back. */
void cohorti_inbound_commit(struct cohorti_inbound *in, const struct cohorti_delivery *d, bool consumed);
/** Handlers are done with `bytes` more of what was committed before. */
void cohorti_inbound_consumed(struct cohorti_inbound *in, unsigned lane, size_t bytes);

/** Bytes taken that the peer has not been told of, or credit it lacks: what decides how soon to tell. */
size_t cohorti_inbound_untold(const struct cohorti_inbound *in);
/** So much of the bulk lane is untold, or a large message has ended: the peer probably waits for it. */
bool cohorti_inbound_is_awaited(const struct cohorti_inbound *in, size_t bulk_bytes);
/** Fill in all that the peer does not know. False when there is nothing. */
bool cohorti_inbound_ack(const struct cohorti_inbound *in, struct cohorti_ack *out);
/** It is under way: told from here on. */
void cohorti_inbound_told(struct cohorti_inbound *in, const struct cohorti_ack *ack);

#endif
