/* SPDX-License-Identifier: Apache-2.0
 *
 * frame_reader against cohort_frame_decode(): whatever the pieces, the same frames and the same error at the same place; memory only
 * for a frame that straddles pieces, none while between frames; and a failed allocation ends the stream and loses nothing else.
 */
#include "fuzz.h"

#include "wire/frame.h"

#include <stdlib.h>
#include <string.h>

/* The one-shot decoder walks the stream as a whole, in step with the reader that gets it in pieces. */
struct oracle {
    const uint8_t *at;
    size_t left;
    size_t limit_bytes;
};

/* As cohorti_frame_reader_next(): 1, 0 or an error. */
static int oracle_next(struct oracle *o, cohort_frame *frame)
{
    size_t consumed = 0, needed = 0;
    int status = cohort_frame_decode(o->at, o->left, o->limit_bytes, frame, &consumed, &needed);
    if (status != COHORT_OK) {
        FUZZ_CHECK(status == COHORT_EMARKER || status == COHORT_ELENGTH);
        FUZZ_CHECK(consumed == 0);
        return status;
    }
    FUZZ_CHECK(consumed <= o->left && needed >= COHORT_FRAME_HEADER_BYTES && needed <= o->limit_bytes);
    if (consumed == 0) {
        FUZZ_CHECK(needed > o->left || o->left < COHORT_FRAME_HEADER_BYTES);
        return 0;
    }
    FUZZ_CHECK(consumed == needed && frame->data_len == consumed - COHORT_FRAME_HEADER_BYTES);
    uint8_t header[COHORT_FRAME_HEADER_BYTES];
    cohort_frame_encode_header(header, frame->type, frame->data_len);
    FUZZ_CHECK(memcmp(header, o->at, sizeof(header)) == 0);
    o->at += consumed;
    o->left -= consumed;
    return 1;
}

static void check_frame(const cohort_frame *got, const cohort_frame *expected)
{
    FUZZ_CHECK(got->type == expected->type && got->data_len == expected->data_len);
    FUZZ_CHECK(got->data_len == 0 || memcmp(got->data, expected->data, got->data_len) == 0);
}

/* Read the frames of one piece. False once the reader failed. */
static bool read_piece(struct cohorti_frame_reader *r, struct oracle *oracle, struct fuzz_memory *m)
{
    for (;;) {
        cohort_frame got, expected;
        const uint8_t *unread = NULL;
        int status = cohorti_frame_reader_next(r, &got);
        FUZZ_CHECK(m->bytes <= r->limit_bytes && m->blocks <= 1);
        if (status == COHORT_ENOMEM) {
            FUZZ_CHECK(m->failures == 1 && m->blocks == 0);
            FUZZ_CHECK(cohorti_frame_reader_next(r, &got) == COHORT_ENOMEM);
            return false;
        }
        if (status == 0) {
            FUZZ_CHECK(cohorti_frame_reader_unread(r, &unread) == 0);
            FUZZ_CHECK(r->partial_len > 0 || m->blocks == 0);
            return true;
        }
        FUZZ_CHECK(oracle_next(oracle, &expected) == status);
        if (status < 0) {
            FUZZ_CHECK(m->blocks == 0);
            FUZZ_CHECK(cohorti_frame_reader_next(r, &got) == status);
            return false;
        }
        check_frame(&got, &expected);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_input in;
    struct fuzz_memory m;
    struct cohorti_frame_reader r;
    fuzz_input_split(&in, data, len);
    fuzz_memory_init(&m);
    size_t limit_bytes = COHORT_FRAME_HEADER_BYTES + ((size_t)(uint8_t)~fuzz_choice(&in) << 7 | 0x7f); /* 32783 down to 143 */
    m.fail_in = fuzz_choice(&in);
    struct oracle oracle = {in.stream, in.stream_len, limit_bytes};
    cohorti_frame_reader_init(&r, &m.alloc, limit_bytes);

    bool alive = true;
    size_t at = 0;
    uint64_t frames = 0;
    while (alive && at < in.stream_len) {
        size_t left = in.stream_len - at;
        size_t want = fuzz_choices_left(&in) ? fuzz_choice(&in) : left; /* an empty piece is a piece too */
        size_t piece_len = want < left ? want : left;
        uint8_t *piece = fuzz_copy(in.stream + at, piece_len);
        cohorti_frame_reader_feed(&r, piece, piece_len);
        alive = read_piece(&r, &oracle, &m);
        free(piece); /* nothing may point into it from here on */
        FUZZ_CHECK(r.frames >= frames);
        frames = r.frames;
        at += piece_len;
    }
    cohort_frame rest;
    FUZZ_CHECK(!alive || oracle_next(&oracle, &rest) == 0);
    cohorti_frame_reader_deinit(&r);
    fuzz_memory_check_empty(&m);
    return 0;
}
