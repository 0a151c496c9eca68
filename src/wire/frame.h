/* SPDX-License-Identifier: Apache-2.0
 *
 * frame_reader: a byte stream cut into frames, whatever the segmentation.
 *
 * Bytes are fed in pieces and frames are taken out one at a time, as views into the piece where possible. Only a frame that
 * straddles two pieces is copied, into a block sized from its header once marker and length have been checked; an idle stream
 * holds no memory.
 *
 * Protocol of use: feed(piece); next() until it gives 0 or fails; feed(next piece). A piece must stay valid until then.
 */
#ifndef COHORTI_WIRE_FRAME_H
#define COHORTI_WIRE_FRAME_H

#include <cohort/frame.h>
#include <cohort/types.h>

struct cohorti_frame_reader {
    const cohort_allocator *alloc;
    size_t limit_bytes; /* largest frame accepted, header included; may be changed between frames */

    const uint8_t *piece; /* what was fed and is not consumed; borrowed */
    size_t piece_len;

    uint8_t header[COHORT_FRAME_HEADER_BYTES]; /* of the frame in the making, while its header is incomplete */
    uint8_t *partial;                          /* the frame in the making, header included, once the header is known */
    size_t partial_len;                        /* bytes of it present, in header[] or partial[] */
    size_t partial_need;                       /* its whole length; 0 while the header is incomplete */
    bool partial_out;                          /* the frame given last lives in partial; free it at the next call */
    uint64_t frames;                           /* given so far */
    int failed;                                /* the error given; sticky */
    uint8_t failed_len;                        /* bytes in header[] of the frame that was it */
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

/** After COHORT_EMARKER or COHORT_ELENGTH: what the frame begins with, at most its header, as far as it had come. For messages. */
size_t cohorti_frame_reader_culprit(const struct cohorti_frame_reader *r, const uint8_t **bytes);

/** Bytes of the piece not yet consumed: what a reader that stops in the middle must keep. */
size_t cohorti_frame_reader_unread(const struct cohorti_frame_reader *r, const uint8_t **bytes);

#endif
