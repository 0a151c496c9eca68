/* SPDX-License-Identifier: Apache-2.0
 * What is known of frames where the log knows only of blocks: that each block holds whole ones, and that one with a tail holds one. */
#include "core/log_frame.h"

#include <assert.h>
#include <string.h>

void cohorti_log_frame_at(const struct cohorti_log *log, uint64_t offset, struct cohorti_log_frame *out)
{
    cohorti_log_frame_after(log, NULL, offset, out);
}

void cohorti_log_frame_after(const struct cohorti_log *log, struct cohorti_block *from, uint64_t offset, struct cohorti_log_frame *out)
{
    struct cohorti_block *block = cohorti_log_block(log, from, offset);
    assert(block != NULL);
    size_t at = (size_t)(offset - block->offset), consumed = 0;
    uint8_t *bytes = block->bytes + at;
    size_t run = block->len - at + block->tail_len;
    memset(out, 0, sizeof *out);
    int status = cohort_frame_decode(bytes, run, run, &out->frame, &consumed, &out->len); /* looks at the header only */
    assert(status == COHORT_OK && consumed == out->len);
    (void)status;
    out->header = bytes;
    out->body = block->body;
    out->tail = block->tail;
    out->tail_len = block->tail_len;
    out->head_len = out->frame.data_len - out->tail_len;
    out->block = block;
}

uint64_t cohorti_log_frame_from(const struct cohorti_log *log, uint64_t offset)
{
    uint64_t at = cohorti_log_begin(log);
    struct cohorti_log_frame frame = {0};
    while (at < offset) {
        cohorti_log_frame_after(log, frame.block, at, &frame);
        at += frame.len;
    }
    return at;
}

int cohorti_log_append_frame(struct cohorti_log *log, uint32_t type, const void *head, size_t head_len, const void *rest,
                             size_t rest_len, struct cohorti_body *body)
{
    uint8_t *at = NULL;
    size_t own = COHORT_FRAME_HEADER_BYTES + head_len + (body == NULL ? rest_len : 0);
    int status =
        body == NULL ? cohorti_log_reserve(log, own, &at) : cohorti_log_append_reference(log, own, body, rest, rest_len, &at);
    if (status != COHORT_OK) {
        return status;
    }
    cohort_frame_encode_header(at, type, head_len + rest_len);
    at += COHORT_FRAME_HEADER_BYTES;
    if (head_len > 0) {
        memcpy(at, head, head_len);
    }
    if (body == NULL) {
        if (rest_len > 0) {
            memcpy(at + head_len, rest, rest_len);
        }
        cohorti_log_commit(log, own);
    }
    return COHORT_OK;
}

int cohorti_log_append_again(struct cohorti_log *log, const struct cohorti_log_frame *frame)
{
    return cohorti_log_append_frame(log, frame->frame.type, frame->frame.data, frame->head_len, frame->tail, frame->tail_len,
                                    frame->body);
}
