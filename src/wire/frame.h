/* SPDX-License-Identifier: Apache-2.0
 *
 * frame_reader: a byte stream cut into frames, whatever the segmentation.
 *
 * Bytes are fed in pieces and frames are taken out one at a time, as views into the piece where possible. Only a frame that
 * straddles two pieces is copied, into a block sized from its header once marker and length have been checked; an idle stream
 * holds no memory. What is missing of such a frame may also be written to where it belongs, instead of being fed: sink().
 *
 * Protocol of use: feed(piece); next() until it gives 0 or fails; feed(next piece). A piece must stay valid until then.
 */
#ifndef COHORTI_WIRE_FRAME_H
#define COHORTI_WIRE_FRAME_H

#include "base/bytes.h"

#include <cohort/frame.h>
#include <cohort/types.h>

/* Data at the front of a straddling frame that are looked at before it is decided where the others go. */
#define COHORTI_FRAME_LEAD_BYTES 16
/* What must be fed of a large frame before the others can be sunk. */
#define COHORTI_FRAME_FRONT_BYTES (COHORT_FRAME_HEADER_BYTES + COHORTI_FRAME_LEAD_BYTES)

/* So large that a call to the system for each costs less than copying those that straddle. */
#define COHORTI_FRAME_SINK_BYTES ((size_t)32 * 1024)

/** Where the data behind the lead of a large frame that straddles are to be, until it was given; NULL: in the reader's own memory. */
typedef uint8_t *(*cohorti_place_fn)(void *ctx, const cohort_frame *front);

struct cohorti_frame_reader {
    const cohort_allocator *alloc;
    size_t limit_bytes; /* largest frame accepted, header included; may be changed between frames */

    const uint8_t *piece; /* what was fed and is not consumed; borrowed */
    size_t piece_len;

    uint8_t front[COHORTI_FRAME_FRONT_BYTES]; /* of the frame in the making, while it is not decided where it goes, or placed */
    uint8_t *partial;                         /* the frame in the making, header included */
    uint8_t *placed;                          /* its data behind the lead, when they go elsewhere; then there is no partial */
    size_t partial_len;                       /* bytes of it present, in front[], partial[] and placed */
    size_t partial_need;                      /* its whole length; 0 while it is not decided where it goes */
    bool partial_out;                         /* it was given; to be dropped at the next call */
    cohorti_place_fn place;                   /* may be NULL; asked once for a frame */
    void *place_ctx;
    uint64_t frames;    /* given so far */
    size_t last_bytes;  /* data of the one given last */
    int failed;         /* the error given; sticky */
    uint8_t failed_len; /* bytes in front[] of the frame that was it, at most its header */
};

void cohorti_frame_reader_init(struct cohorti_frame_reader *r, const cohort_allocator *alloc, size_t limit_bytes);
void cohorti_frame_reader_deinit(struct cohorti_frame_reader *r);

/** Hand over the next piece. The previous one must have been used up (next() gave 0), else the rest of it is lost. */
void cohorti_frame_reader_feed(struct cohorti_frame_reader *r, const void *bytes, size_t len);

/**
 * Take the next frame.
 *   1               *out is a frame, valid until the next call on this reader (and while the piece is).
 *   0               no whole frame left; the piece is used up and may be reused.
 *   COHORT_EMARKER, COHORT_ELENGTH   checked at once; nothing was allocated for it; sticky.
 *   COHORT_ENOMEM   no room for a straddling frame; sticky.
 */
COHORT_NODISCARD int cohorti_frame_reader_next(struct cohorti_frame_reader *r, cohort_frame *out);

/** What is missing of the frame in the making: where it goes and how much it is. False: it is not known. To be called when next() gave 0. */
bool cohorti_frame_reader_sink(const struct cohorti_frame_reader *r, struct cohorti_room *out);
/** `n` bytes were written there. What is fed next comes behind them. */
void cohorti_frame_reader_sunk(struct cohorti_frame_reader *r, size_t n);
/** How much to feed, behind what is sunk, so that the next frame can be sunk as well if it is as large. 0: any. */
static inline size_t cohorti_frame_reader_front_missing(const struct cohorti_frame_reader *r)
{
    if (r->partial_need > 0) {
        return r->partial_need >= COHORTI_FRAME_SINK_BYTES ? COHORTI_FRAME_FRONT_BYTES : 0;
    }
    bool expected = r->last_bytes >= COHORTI_FRAME_SINK_BYTES && r->partial_len < COHORTI_FRAME_FRONT_BYTES;
    return expected ? COHORTI_FRAME_FRONT_BYTES - r->partial_len : 0;
}

/** Data behind the lead of the frame given last, when place() said where; else NULL, and they are where its data say. */
static inline const uint8_t *cohorti_frame_reader_placed(const struct cohorti_frame_reader *r)
{
    return r->partial_out ? r->placed : NULL;
}

/** After COHORT_EMARKER or COHORT_ELENGTH: what the frame begins with, at most its header, as far as it had come. For messages. */
size_t cohorti_frame_reader_culprit(const struct cohorti_frame_reader *r, const uint8_t **bytes);

/** Bytes of the piece not yet consumed: what a reader that stops in the middle must keep. */
size_t cohorti_frame_reader_unread(const struct cohorti_frame_reader *r, const uint8_t **bytes);

#endif
