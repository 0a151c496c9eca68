/* SPDX-License-Identifier: Apache-2.0
 * One chunk frame read and checked by itself; whether it is the one to come next, its lane's reader knows. */
#include "core/chunk.h"

#include "base/cursor.h"

size_t cohorti_kind_prefix_bytes(enum cohorti_kind kind)
{
    switch (kind) {
    case COHORTI_KIND_REQUEST:
        return COHORTI_REQUEST_PREFIX_BYTES;
    case COHORTI_KIND_REPLY:
        return COHORTI_REPLY_PREFIX_BYTES;
    case COHORTI_KIND_ERROR_REPLY:
        return COHORTI_ERROR_PREFIX_BYTES;
    default:
        return 0;
    }
}

int cohorti_chunk_decode(const cohort_frame *frame, struct cohorti_chunk *out)
{
    struct cohorti_reader r;
    cohorti_reader_init(&r, frame->data, frame->data_len);
    uint64_t what = cohorti_read_u64(&r);
    uint64_t at = cohorti_read_u64(&r);
    uint64_t total = what & ((UINT64_C(1) << 56) - 1);
    unsigned whole = (unsigned)(what >> 56);
    size_t len = cohorti_reader_left(&r);
    if (r.failed || len == 0 || whole > COHORTI_KIND_ERROR_REPLY || total > SIZE_MAX || at > total || len > total - at) {
        return COHORT_EPROTOCOL;
    }
    unsigned kind = cohorti_type_kind(frame->type);
    bool first = at == 0, last = at + len == total;
    if (first != (kind == COHORTI_KIND_CHUNK_FIRST) || last != (kind == COHORTI_KIND_CHUNK_LAST)) {
        return COHORT_EPROTOCOL; /* a message of one chunk would be a frame */
    }
    *out = (struct cohorti_chunk){.kind = (enum cohorti_kind)whole,
                                  .total = (size_t)total,
                                  .at = (size_t)at,
                                  .data = cohorti_read_bytes(&r, len),
                                  .data_len = len};
    return COHORT_OK;
}
