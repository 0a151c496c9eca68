/* SPDX-License-Identifier: Apache-2.0
 * One chunk frame read and checked by itself; whether it is the one to come next, its lane's reader knows. */
#include "core/chunk.h"

#include "base/big_endian.h"
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

static bool is_possible(const struct cohorti_chunk *c, enum cohorti_kind frame_kind)
{
    if (c->kind == COHORTI_KIND_VOID) {
        return frame_kind == COHORTI_KIND_CHUNK_LAST && c->stream != 0 && c->total == 0 && c->at == 0 && c->data_len == 0;
    }
    if (c->kind > COHORTI_KIND_ERROR_REPLY || c->at > c->total || c->data_len > c->total - c->at) {
        return false;
    }
    if (c->kind != COHORTI_KIND_MESSAGE && c->total == COHORTI_TOTAL_UNKNOWN) { /* of calls, it is known */
        return false;
    }
    bool reaches_end = c->at + c->data_len == c->total;
    switch (frame_kind) {
    case COHORTI_KIND_CHUNK_FIRST:
        return c->at == 0 && c->data_len > 0 && !reaches_end;
    case COHORTI_KIND_CHUNK_MIDDLE:
        return c->at > 0 && c->data_len > 0 && !reaches_end;
    default:
        return reaches_end && c->total != COHORTI_TOTAL_UNKNOWN && (c->at > 0 || c->stream != 0); /* else it would be a frame */
    }
}

int cohorti_chunk_decode(const cohort_frame *frame, struct cohorti_chunk *out)
{
    struct cohorti_reader r;
    cohorti_reader_init(&r, frame->data, frame->data_len);
    uint64_t what = cohorti_read_u64(&r);
    uint64_t where = cohorti_read_u64(&r);
    size_t len = cohorti_reader_left(&r);
    enum cohorti_kind frame_kind = (enum cohorti_kind)cohorti_type_kind(frame->type);
    *out = (struct cohorti_chunk){.kind = (enum cohorti_kind)(what >> 56),
                                  .stream = (uint16_t)(where >> 48),
                                  .total = what & COHORTI_TOTAL_UNKNOWN,
                                  .at = where & COHORTI_OFFSET_MAX,
                                  .data = cohorti_read_bytes(&r, len),
                                  .data_len = len};
    if (r.failed || !is_possible(out, frame_kind)) {
        return COHORT_EPROTOCOL;
    }
    out->aborts = out->kind == COHORTI_KIND_VOID;
    out->first = out->at == 0 && !out->aborts;
    out->last = frame_kind == COHORTI_KIND_CHUNK_LAST && !out->aborts;
    return COHORT_OK;
}

void cohorti_chunk_encode_prefix(uint8_t *out, const struct cohorti_chunk *chunk)
{
    enum cohorti_kind kind = chunk->aborts ? COHORTI_KIND_VOID : chunk->kind;
    cohorti_store_u64(out, (uint64_t)kind << 56 | (chunk->aborts ? 0 : chunk->total));
    cohorti_store_u64(out + 8, (uint64_t)chunk->stream << 48 | (chunk->aborts ? 0 : chunk->at));
}
