/* SPDX-License-Identifier: Apache-2.0
 *
 * log_frame: frames in a log, whether a frame lies there in one piece or ends in a body.
 */
#ifndef COHORTI_CORE_LOG_FRAME_H
#define COHORTI_CORE_LOG_FRAME_H

#include "core/log.h"

#include <cohort/frame.h>

struct cohorti_log_frame {
    cohort_frame frame; /* of its data the first `head_len` bytes are at frame.data; the others are the tail */
    size_t len;         /* of all, with the header */
    size_t head_len;
    uint8_t *header;           /* to be encoded anew when it was never written */
    struct cohorti_body *body; /* NULL: all data are at frame.data */
    const uint8_t *tail;
    size_t tail_len;
    struct cohorti_block *block; /* that it lies in */
};

/** The frame that begins at `offset`, where one must: before what was appended last. */
void cohorti_log_frame_at(const struct cohorti_log *log, uint64_t offset, struct cohorti_log_frame *out);
/** The same, not before `from`, which is NULL or the block of one before: who walks a log does not begin at its front each time. */
void cohorti_log_frame_after(const struct cohorti_log *log, struct cohorti_block *from, uint64_t offset,
                             struct cohorti_log_frame *out);
/** Where the first frame begins that does not begin before `offset`, or the log ends. `offset` is not before what the log holds. */
uint64_t cohorti_log_frame_from(const struct cohorti_log *log, uint64_t offset);

/** Append one whose data are `head`, then `rest`: copied when `body` is NULL, else referred to. COHORT_ENOMEM. */
COHORT_NODISCARD int cohorti_log_append_frame(struct cohorti_log *log, uint32_t type, const void *head, size_t head_len,
                                              const void *rest, size_t rest_len, struct cohorti_body *body);
/** The same frame again, in another log. Not in its own. */
COHORT_NODISCARD int cohorti_log_append_again(struct cohorti_log *log, const struct cohorti_log_frame *frame);

#endif
