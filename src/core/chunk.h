/* SPDX-License-Identifier: Apache-2.0
 *
 * What is larger than a frame should be, or is not there whole yet, travels as chunks: pieces of the data that one frame would have held,
 * each with where it belongs and the number of its stream. Chunks of several streams, and other frames, may stand between each other.
 */
#ifndef COHORTI_CORE_CHUNK_H
#define COHORTI_CORE_CHUNK_H

#include "wire/control.h"

#include <cohort/frame.h>
#include <cohort/types.h>

/* Data of one frame of a subject: a body of 64 KiB and what its kind puts before it. What is larger is cut into chunks, between which a more
 * urgent lane may go first. */
#define COHORTI_CHUNK_BYTES_MAX ((size_t)64 * 1024 + 16)
_Static_assert(COHORTI_PREFIX_BYTES_MAX == 16, "what a kind puts before a body");

/* What is cut up in the bulk lane is cut smaller: while a more urgent lane is in use, frame by frame is all that is under way. */
#define COHORTI_BULK_CHUNK_BYTES ((size_t)32 * 1024)

static inline size_t cohorti_lane_chunk_bytes(unsigned lane)
{
    return lane == COHORT_LANE_BULK ? COHORTI_BULK_CHUNK_BYTES : COHORTI_CHUNK_BYTES_MAX;
}

/* Of a block of a lane's log: room for a largest frame, or for the largest chunk of the bulk lane, so that whoever writes may turn to another lane
 * behind it. With its head and malloc's just within a whole number of KiB. */
static inline size_t cohorti_lane_block_bytes(unsigned lane)
{
    return cohorti_lane_chunk_bytes(lane) / 1024 * 1024 + 1024 - 64;
}

/* The largest frame of an open link, header included; with room for what chunks may say of themselves one day. */
#define COHORTI_FRAME_BYTES_MAX ((size_t)65 * 1024)

#define COHORTI_STREAMS_MAX 16U /* that one end has begun and not ended in one lane, but for number 0: docs/protocol.md */
#define COHORTI_TOTAL_UNKNOWN ((UINT64_C(1) << 56) - 1)
#define COHORTI_OFFSET_MAX ((UINT64_C(1) << 48) - 1)

struct cohorti_chunk {
    enum cohorti_kind kind; /* of the whole */
    bool first, last;       /* both: a stream of one piece */
    bool aborts;            /* nothing follows, and what came is void */
    uint16_t stream;        /* 0: of a message appended whole */
    uint64_t total;         /* data of the whole; COHORTI_TOTAL_UNKNOWN: its last chunk says */
    uint64_t at;            /* where this piece begins */
    const uint8_t *data;
    size_t data_len;
};

static inline bool cohorti_kind_is_chunk(enum cohorti_kind kind)
{
    return kind == COHORTI_KIND_CHUNK_FIRST || kind == COHORTI_KIND_CHUNK_MIDDLE || kind == COHORTI_KIND_CHUNK_LAST;
}

/** What stands before the body in a frame of this kind, or in the data that was cut into chunks. */
size_t cohorti_kind_prefix_bytes(enum cohorti_kind kind);

/** The frame must be of a chunk kind. COHORT_EPROTOCOL: its numbers contradict each other or its kind. */
COHORT_NODISCARD int cohorti_chunk_decode(const cohort_frame *frame, struct cohorti_chunk *out);

/** The prefix of a chunk, COHORTI_CHUNK_PREFIX_BYTES: kind, stream, total and at of `chunk`, or, if it aborts, that. */
void cohorti_chunk_encode_prefix(uint8_t *out, const struct cohorti_chunk *chunk);

#endif
