/* SPDX-License-Identifier: Apache-2.0
 *
 * The seed's TLV frame, one at a time (cohort_frame_*) and out of a stream that arrives in pieces (frame_reader).
 *
 * States of a reader, told by partial_len and partial_need:
 *   between frames   partial_len == 0                        frames are views into the piece
 *   in its front     0 < partial_len < 32, partial_need == 0   its bytes are in front[]: the header, of a large one the lead too
 *   in a frame       partial_need > partial_len >= 16          its bytes are in partial; or the front in front[], the others placed
 *   frame given      partial_out                             the caller is looking at it
 *   failed           failed != 0                             for ever; deinit is all that is left
 *
 * Invariants: memory is held only in "in a frame" and "frame given", and is asked for only after marker and length passed;
 * when next() gives 0 the piece is used up. What a type means, and which lengths a type may have, is not known here.
 */
#include "wire/frame.h"

#include "base/alloc.h"
#include "base/big_endian.h"

#include <assert.h>
#include <string.h>

#define TYPE_AT 8
#define LENGTH_AT 12

#define LARGE_BYTES ((size_t)1024) /* data of a frame for which it is worth asking where it goes */

static const uint8_t marker[TYPE_AT] = {0xfe, 0xed, 0xca, 0xfe, 0xca, 0xfe, 0xfe, 0xed};

int cohort_frame_decode(const uint8_t *bytes, size_t len, size_t limit_bytes, cohort_frame *frame, size_t *consumed, size_t *needed)
{
    *consumed = 0;
    *needed = COHORT_FRAME_HEADER_BYTES;
    if (len < COHORT_FRAME_HEADER_BYTES) {
        bool differs = len > 0 && memcmp(bytes, marker, len < sizeof(marker) ? len : sizeof(marker)) != 0;
        return differs ? COHORT_EMARKER : COHORT_OK;
    }
    if (memcmp(bytes, marker, sizeof(marker)) != 0) { /* of a constant length: one comparison of words */
        return COHORT_EMARKER;
    }
    uint32_t frame_len = cohorti_load_u32(bytes + LENGTH_AT);
    /* A negative length of the seed is a very large one here, so one comparison covers both. */
    if (frame_len < COHORT_FRAME_HEADER_BYTES || frame_len > limit_bytes) {
        return COHORT_ELENGTH;
    }
    *needed = frame_len;
    if (len < frame_len) {
        return COHORT_OK;
    }
    frame->type = cohorti_load_u32(bytes + TYPE_AT);
    frame->data = bytes + COHORT_FRAME_HEADER_BYTES;
    frame->data_len = frame_len - COHORT_FRAME_HEADER_BYTES;
    *consumed = frame_len;
    return COHORT_OK;
}

void cohort_frame_encode_header(uint8_t out[COHORT_FRAME_HEADER_BYTES], uint32_t type, size_t data_len)
{
    assert(data_len <= UINT32_MAX - COHORT_FRAME_HEADER_BYTES);
    memcpy(out, marker, sizeof(marker));
    cohorti_store_u32(out + TYPE_AT, type);
    cohorti_store_u32(out + LENGTH_AT, (uint32_t)(data_len + COHORT_FRAME_HEADER_BYTES));
}

void cohorti_frame_reader_init(struct cohorti_frame_reader *r, const cohort_allocator *alloc, size_t limit_bytes)
{
    assert(limit_bytes >= COHORT_FRAME_HEADER_BYTES);
    memset(r, 0, sizeof(*r));
    r->alloc = alloc;
    r->limit_bytes = limit_bytes;
}

static void drop_partial(struct cohorti_frame_reader *r)
{
    cohorti_release(r->alloc, r->partial);
    r->partial = NULL;
    r->placed = NULL;
    r->partial_len = 0;
    r->partial_need = 0;
    r->partial_out = false;
}

void cohorti_frame_reader_deinit(struct cohorti_frame_reader *r)
{
    drop_partial(r);
    r->piece = NULL;
    r->piece_len = 0;
}

void cohorti_frame_reader_feed(struct cohorti_frame_reader *r, const void *bytes, size_t len)
{
    r->piece = bytes;
    r->piece_len = len;
}

/* Nothing is given after an error, so nothing is worth keeping either; but what it was is. */
static int fail(struct cohorti_frame_reader *r, int code)
{
    size_t len = r->partial_len;
    if (len == 0) { /* not gathered in front[]: it begins where the piece stands */
        len = r->piece_len < COHORT_FRAME_HEADER_BYTES ? r->piece_len : COHORT_FRAME_HEADER_BYTES;
        memcpy(r->front, r->piece, len);
    }
    r->failed_len = (uint8_t)(len < COHORT_FRAME_HEADER_BYTES ? len : COHORT_FRAME_HEADER_BYTES);
    drop_partial(r);
    r->failed = code;
    return code;
}

/* Move bytes of the piece to `at` until the frame in the making has `want` of them or the piece is used up. */
static void take(struct cohorti_frame_reader *r, uint8_t *at, size_t want)
{
    size_t missing = want - r->partial_len;
    size_t taken = r->piece_len < missing ? r->piece_len : missing;
    if (taken > 0) {
        memcpy(at, r->piece, taken);
        r->piece += taken;
        r->piece_len -= taken;
        r->partial_len += taken;
    }
}

/* The next frame lies whole in the piece: 1. Otherwise 0, with what to gather in partial_need, or an error. */
static int next_from_piece(struct cohorti_frame_reader *r, cohort_frame *out, size_t *needed)
{
    size_t consumed;
    int rc = cohort_frame_decode(r->piece, r->piece_len, r->limit_bytes, out, &consumed, needed);
    if (rc != COHORT_OK) {
        return rc;
    }
    r->piece += consumed;
    r->piece_len -= consumed;
    return consumed > 0 ? 1 : 0;
}

/* Gather the front of a straddling frame: 1 when it is there and passed. */
static int gather_front(struct cohorti_frame_reader *r, size_t *needed)
{
    cohort_frame ignored;
    size_t consumed;
    if (r->partial_len < COHORT_FRAME_HEADER_BYTES) {
        take(r, r->front + r->partial_len, COHORT_FRAME_HEADER_BYTES);
    }
    size_t header_len = r->partial_len < COHORT_FRAME_HEADER_BYTES ? r->partial_len : COHORT_FRAME_HEADER_BYTES;
    int rc = cohort_frame_decode(r->front, header_len, r->limit_bytes, &ignored, &consumed, needed);
    if (rc != COHORT_OK || r->partial_len < COHORT_FRAME_HEADER_BYTES) {
        return rc;
    }
    if (r->place == NULL || *needed - COHORT_FRAME_HEADER_BYTES < LARGE_BYTES) {
        return 1;
    }
    take(r, r->front + r->partial_len, sizeof r->front);
    return r->partial_len == sizeof r->front ? 1 : 0;
}

/* The front passed: make room for the rest of the frame, or hear where that goes. */
static int begin_partial(struct cohorti_frame_reader *r, size_t needed)
{
    const cohort_frame front = {.type = cohorti_load_u32(r->front + TYPE_AT),
                                .data = r->front + COHORT_FRAME_HEADER_BYTES,
                                .data_len = needed - COHORT_FRAME_HEADER_BYTES};
    if (r->partial_len == sizeof r->front) {
        r->placed = r->place(r->place_ctx, &front);
    }
    if (r->placed == NULL) {
        r->partial = cohorti_alloc(r->alloc, needed);
        if (r->partial == NULL) {
            return COHORT_ENOMEM;
        }
        memcpy(r->partial, r->front, r->partial_len);
    }
    r->partial_need = needed;
    return COHORT_OK;
}

bool cohorti_frame_reader_sink(const struct cohorti_frame_reader *r, struct cohorti_room *out)
{
    if (r->failed != 0 || r->partial_out || r->partial_need <= r->partial_len) {
        return false;
    }
    out->at = r->placed != NULL ? r->placed + (r->partial_len - sizeof r->front) : r->partial + r->partial_len;
    out->len = r->partial_need - r->partial_len;
    return true;
}

void cohorti_frame_reader_sunk(struct cohorti_frame_reader *r, size_t n)
{
    assert(r->piece_len == 0 && n <= r->partial_need - r->partial_len);
    r->partial_len += n;
}

static int next_straddling(struct cohorti_frame_reader *r, cohort_frame *out)
{
    if (r->partial_need == 0) {
        size_t needed;
        int rc = gather_front(r, &needed);
        if (rc == 1) {
            rc = begin_partial(r, needed);
        } else if (rc == 0) {
            return 0;
        }
        if (rc != COHORT_OK) {
            return rc;
        }
    }
    struct cohorti_room room;
    if (cohorti_frame_reader_sink(r, &room)) {
        take(r, room.at, r->partial_need);
    }
    if (r->partial_len < r->partial_need) {
        return 0;
    }
    const uint8_t *header = r->placed != NULL ? r->front : r->partial;
    *out = (cohort_frame){.type = cohorti_load_u32(header + TYPE_AT),
                          .data = header + COHORT_FRAME_HEADER_BYTES,
                          .data_len = r->partial_need - COHORT_FRAME_HEADER_BYTES};
    r->partial_out = true;
    return 1;
}

size_t cohorti_frame_reader_culprit(const struct cohorti_frame_reader *r, const uint8_t **bytes)
{
    *bytes = r->front;
    return r->failed_len;
}

int cohorti_frame_reader_next(struct cohorti_frame_reader *r, cohort_frame *out)
{
    if (r->failed != 0) {
        return r->failed;
    }
    if (r->partial_out) {
        drop_partial(r);
    }
    int rc = 0;
    if (r->piece_len > 0 || r->partial_need > 0) { /* what is missing may have been sunk */
        size_t needed;
        if (r->partial_len == 0) {
            rc = next_from_piece(r, out, &needed);
        }
        if (rc == 0) {
            rc = next_straddling(r, out);
        }
    }
    if (rc < 0) {
        return fail(r, rc);
    }
    if (rc == 1) {
        r->frames++;
        r->last_bytes = out->data_len;
    }
    return rc;
}

size_t cohorti_frame_reader_unread(const struct cohorti_frame_reader *r, const uint8_t **bytes)
{
    *bytes = r->piece;
    return r->piece_len;
}
