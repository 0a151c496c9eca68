/* SPDX-License-Identifier: Apache-2.0
 *
 * wire/frame against the bytes of the real 2014 node: every file read and written again, every segmentation, every early
 * check, every allocation failing.
 */
#include "wire/frame.h"

#include "base/prng.h"
#include "support.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT ((size_t)COHORT_FRAME_LEGACY_BYTES_MAX)

/* ---- whole files ---- */

/* Read `file` frame by frame and write each again: the bytes must come out the same. */
static size_t read_and_write(const struct unit_bytes *file)
{
    size_t at = 0, frames = 0;
    while (at < file->len) {
        cohort_frame frame;
        size_t consumed, needed;
        uint8_t header[COHORT_FRAME_HEADER_BYTES];
        assert_int_equal(cohort_frame_decode(file->bytes + at, file->len - at, LIMIT, &frame, &consumed, &needed), COHORT_OK);
        assert_true(consumed >= sizeof(header) && consumed == needed);
        assert_int_equal(frame.data_len, consumed - sizeof(header));
        cohort_frame_encode_header(header, frame.type, frame.data_len);
        assert_memory_equal(header, file->bytes + at, sizeof(header));
        assert_ptr_equal(frame.data, file->bytes + at + sizeof(header));
        at += consumed;
        frames++;
    }
    return frames;
}

static void every_legacy_file(void **state)
{
    int files = 0;
    DIR *dir = opendir(VECTOR_DIR "/legacy");
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        size_t len = strlen(entry->d_name);
        char path[512];
        if (len < 4 || strcmp(entry->d_name + len - 4, ".bin") != 0) {
            continue;
        }
        (void)snprintf(path, sizeof(path), "legacy/%s", entry->d_name);
        struct unit_bytes file = unit_vector(path);
        size_t frames = read_and_write(&file);
        size_t expected = strstr(path, "all-frames") != NULL ? 8 : strstr(path, "20x48") != NULL ? 20 : 1;
        assert_int_equal(frames, expected);
        unit_bytes_free(&file);
        files++;
    }
    (void)closedir(dir);
    assert_true(files >= 17);
}

static void data_is(const cohort_frame *frame, size_t len)
{
    assert_int_equal(frame->data_len, len);
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(frame->data[i], i & 0xff);
    }
}

/* What its README says is in it. */
static void check_all_frames(size_t index, const cohort_frame *frame)
{
    static const uint32_t types[] = {1, 2, 2, UINT32_MAX, INT32_MAX, 2, 2, 2};
    assert_true(index < UNIT_COUNT(types));
    assert_int_equal(frame->type, types[index]);
    switch (index) {
    case 0:
        assert_int_equal(frame->data_len, 24);
        assert_memory_equal(frame->data, "127.0.1.1:127.0.1.1:9876", 24);
        break;
    case 1:
        assert_int_equal(frame->data_len, 0);
        break;
    case 2:
        assert_int_equal(frame->data_len, 4);
        assert_memory_equal(frame->data, "ping", 4);
        break;
    case 3:
        assert_int_equal(frame->data_len, 4);
        assert_memory_equal(frame->data, "\x00\x01\x02\xff", 4);
        break;
    default:
        data_is(frame, (const size_t[]){48, 1024, 16384, 32752}[index - 4]);
    }
}

/* ---- decode, one buffer ---- */

static void decode_tells_what_is_needed(void **state)
{
    struct unit_bytes file = unit_vector("legacy/tlv-echo-ping.bin");
    for (size_t len = 0; len <= file.len; len++) {
        struct unit_bytes prefix = unit_bytes_copy(file.bytes, len);
        cohort_frame frame;
        size_t consumed = 99, needed = 99;
        assert_int_equal(cohort_frame_decode(prefix.bytes, len, LIMIT, &frame, &consumed, &needed), COHORT_OK);
        assert_int_equal(needed, len < 16 ? 16 : 20);
        assert_int_equal(consumed, len < 20 ? 0 : 20);
        unit_bytes_free(&prefix);
    }
    unit_bytes_free(&file);
}

static void header_of_largest_frame(void **state)
{
    uint8_t header[COHORT_FRAME_HEADER_BYTES];
    cohort_frame_encode_header(header, 0, UINT32_MAX - 16);
    assert_memory_equal(header, "\xfe\xed\xca\xfe\xca\xfe\xfe\xed\0\0\0\0\xff\xff\xff\xff", 16);
}

/* ---- the reader ---- */

struct run {
    struct unit_memory m;
    struct cohorti_frame_reader r;
    size_t frames;
    int rc; /* of the last next() */
};

static void run_begin(struct run *run, size_t limit)
{
    unit_memory_init(&run->m);
    cohorti_frame_reader_init(&run->r, &run->m.alloc, limit);
    run->frames = 0;
    run->rc = 0;
}

static void run_end(struct run *run)
{
    assert_int_equal(run->r.frames, run->frames);
    cohorti_frame_reader_deinit(&run->r);
    unit_memory_assert_empty(&run->m);
}

/* Feed one piece, as a copy that is gone afterwards, and check the frames that come out. */
static void run_feed(struct run *run, const uint8_t *bytes, size_t len)
{
    struct unit_bytes piece = unit_bytes_copy(bytes, len);
    cohort_frame frame;
    cohorti_frame_reader_feed(&run->r, piece.bytes, piece.len);
    while ((run->rc = cohorti_frame_reader_next(&run->r, &frame)) == 1) {
        check_all_frames(run->frames++, &frame);
    }
    if (run->rc == 0) {
        const uint8_t *left;
        assert_int_equal(cohorti_frame_reader_unread(&run->r, &left), 0);
        assert_int_equal(cohorti_frame_reader_next(&run->r, &frame), 0); /* asking again does no harm */
    }
    unit_bytes_free(&piece);
}

static void all_at_once_copies_nothing(void **state)
{
    struct unit_bytes file = unit_vector("legacy/tlv-all-frames.bin");
    struct run run;
    run_begin(&run, LIMIT);
    run_feed(&run, file.bytes, file.len);
    assert_int_equal(run.frames, 8);
    assert_int_equal(run.m.calls, 0);
    run_end(&run);
    unit_bytes_free(&file);
}

static void byte_by_byte(void **state)
{
    struct unit_bytes file = unit_vector("legacy/tlv-all-frames.bin");
    struct run run;
    run_begin(&run, LIMIT);
    for (size_t i = 0; i < file.len; i++) {
        run_feed(&run, file.bytes + i, 1);
        assert_int_equal(run.rc, 0);
        run_feed(&run, NULL, 0);
    }
    assert_int_equal(run.frames, 8);
    assert_int_equal(run.m.bytes, 0); /* idle between frames: nothing held */
    assert_int_equal(run.m.largest, LIMIT);
    run_end(&run);
    unit_bytes_free(&file);
}

/* The five short frames, 160 bytes, cut at every two places. */
static void every_two_cuts(void **state)
{
    struct unit_bytes file = unit_vector("legacy/tlv-all-frames.bin");
    const size_t len = 40 + 16 + 20 + 20 + 64;
    for (size_t a = 0; a <= len; a++) {
        for (size_t b = a; b <= len; b++) {
            struct run run;
            run_begin(&run, LIMIT);
            run_feed(&run, file.bytes, a);
            run_feed(&run, file.bytes + a, b - a);
            run_feed(&run, file.bytes + b, len - b);
            assert_int_equal(run.frames, 5);
            assert_int_equal(run.m.bytes, 0);
            assert_true(run.m.calls <= 2); /* one straddling frame a cut */
            run_end(&run);
        }
    }
    unit_bytes_free(&file);
}

static void random_cuts(void **state)
{
    struct unit_bytes file = unit_vector("legacy/tlv-all-frames.bin");
    struct cohorti_prng p;
    cohorti_prng_init(&p, 9876);
    for (int round = 0; round < 400; round++) {
        struct run run;
        uint64_t longest = UINT64_C(1) << cohorti_prng_below(&p, 16);
        run_begin(&run, LIMIT);
        for (size_t at = 0; at < file.len;) {
            size_t len = (size_t)cohorti_prng_below(&p, longest + 1);
            len = len < file.len - at ? len : file.len - at;
            run_feed(&run, file.bytes + at, len);
            assert_int_equal(run.rc, 0);
            at += len;
        }
        assert_int_equal(run.frames, 8);
        assert_int_equal(run.m.bytes, 0);
        run_end(&run);
    }
    unit_bytes_free(&file);
}

/* A prefix of any length, then the end: everything is given back. */
static void stopped_anywhere_leaks_nothing(void **state)
{
    struct unit_bytes file = unit_vector("legacy/tlv-all-frames.bin");
    for (size_t len = 0; len < file.len; len += len < 200 ? 1 : 997) {
        struct run run;
        run_begin(&run, LIMIT);
        run_feed(&run, file.bytes, len / 2);
        run_feed(&run, file.bytes + len / 2, len - len / 2);
        assert_int_equal(run.rc, 0);
        run_end(&run);
    }
    unit_bytes_free(&file);
}

/* ---- what is wrong is found at once ---- */

static const uint8_t good_header[16] = {0xfe, 0xed, 0xca, 0xfe, 0xca, 0xfe, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 20};

static void failed_for_ever(struct run *run, int code)
{
    cohort_frame frame;
    assert_int_equal(run->rc, code);
    cohorti_frame_reader_feed(&run->r, good_header, sizeof(good_header));
    assert_int_equal(cohorti_frame_reader_next(&run->r, &frame), code);
    assert_int_equal(cohorti_frame_reader_next(&run->r, &frame), code);
}

static void marker_is_checked_byte_by_byte(void **state)
{
    for (size_t wrong = 0; wrong < 8; wrong++) {
        for (size_t cut = 0; cut <= wrong; cut++) {
            uint8_t header[16];
            struct run run;
            memcpy(header, good_header, sizeof(header));
            header[wrong] ^= 1;
            run_begin(&run, LIMIT);
            run_feed(&run, header, cut);
            assert_int_equal(run.rc, 0);
            run_feed(&run, header + cut, wrong - cut);
            assert_int_equal(run.rc, 0);
            run_feed(&run, header + wrong, 1);
            failed_for_ever(&run, COHORT_EMARKER);
            const uint8_t *culprit = NULL;
            assert_int_equal(cohorti_frame_reader_culprit(&run.r, &culprit), wrong + 1);
            assert_memory_equal(culprit, header, wrong + 1);
            assert_int_equal(run.m.calls, 0);
            run_end(&run);
        }
    }
}

static void http_is_not_a_frame(void **state)
{
    struct run run;
    run_begin(&run, LIMIT);
    run_feed(&run, (const uint8_t *)"GET / HTTP/1.1\r\n", 16);
    failed_for_ever(&run, COHORT_EMARKER);
    run_end(&run);
}

static void length_is_checked_before_memory_is_asked_for(void **state)
{
    static const uint32_t lengths[] = {0, 1, 15, UINT32_MAX, UINT32_C(0x80000000), INT32_MAX, LIMIT + 1};
    for (size_t i = 0; i < UNIT_COUNT(lengths); i++) {
        for (size_t cut = 0; cut < 16; cut++) {
            uint8_t header[16];
            struct run run;
            memcpy(header, good_header, sizeof(header));
            for (int byte = 0; byte < 4; byte++) {
                header[12 + byte] = (uint8_t)(lengths[i] >> (24 - 8 * byte));
            }
            run_begin(&run, LIMIT);
            run_feed(&run, header, cut);
            assert_int_equal(run.rc, 0);
            run_feed(&run, header + cut, 16 - cut);
            failed_for_ever(&run, COHORT_ELENGTH);
            const uint8_t *culprit = NULL;
            assert_int_equal(cohorti_frame_reader_culprit(&run.r, &culprit), 16);
            assert_memory_equal(culprit, header, 16);
            assert_int_equal(run.m.calls, 0);
            run_end(&run);
        }
    }
}

static void good_frames_before_a_bad_one_are_given(void **state)
{
    struct unit_bytes file = unit_vector("legacy/tlv-all-frames.bin");
    uint8_t bytes[40 + 16];
    struct run run;
    memcpy(bytes, file.bytes, 40); /* HELLO, then a length of 0: the 2014 node lost the HELLO */
    memcpy(bytes + 40, good_header, 16);
    bytes[55] = 0;
    run_begin(&run, LIMIT);
    run_feed(&run, bytes, sizeof(bytes));
    assert_int_equal(run.frames, 1);
    failed_for_ever(&run, COHORT_ELENGTH);
    run_end(&run);
    unit_bytes_free(&file);
}

static void limit_is_inclusive_and_may_be_raised(void **state)
{
    struct unit_bytes file = unit_vector("legacy/tlv-all-frames.bin");
    struct run run;
    cohort_frame frame;
    run_begin(&run, 40);
    cohorti_frame_reader_feed(&run.r, file.bytes, file.len);
    for (; run.frames < 4; run.frames++) {
        assert_int_equal(cohorti_frame_reader_next(&run.r, &frame), 1);
    }
    run.r.limit_bytes = 64;
    assert_int_equal(cohorti_frame_reader_next(&run.r, &frame), 1);
    run.frames++;
    run.rc = cohorti_frame_reader_next(&run.r, &frame);
    failed_for_ever(&run, COHORT_ELENGTH);
    run_end(&run);
    unit_bytes_free(&file);
}

/* ---- memory ---- */

static void every_allocation_fails_once(void **state)
{
    struct unit_bytes file = unit_vector("legacy/tlv-all-frames.bin");
    const size_t step = 10; /* every frame straddles */
    size_t n = 1;
    for (bool failed = true; failed; n++) {
        struct run run;
        run_begin(&run, LIMIT);
        run.m.fail_at = n;
        for (size_t at = 0; at < file.len && run.rc == 0; at += step) {
            run_feed(&run, file.bytes + at, file.len - at < step ? file.len - at : step);
        }
        failed = run.rc != 0;
        if (failed) {
            assert_int_equal(run.frames, n - 1); /* all before it came out whole */
            assert_int_equal(run.m.bytes, 0);
            failed_for_ever(&run, COHORT_ENOMEM);
        } else {
            assert_int_equal(run.frames, 8);
        }
        run_end(&run);
    }
    assert_int_equal(n, 8 + 2);
    unit_bytes_free(&file);
}

/* A header alone makes the reader ask for its frame and no more. */
static void block_is_sized_from_header(void **state)
{
    struct run run;
    run_begin(&run, LIMIT);
    run_feed(&run, good_header, 15);
    assert_int_equal(run.m.calls, 0);
    run_feed(&run, good_header + 15, 1);
    assert_int_equal(run.m.bytes, 20);
    run_end(&run);
}

/* ---- stopping in the middle ---- */

static void unread_gives_the_rest(void **state)
{
    struct unit_bytes file = unit_vector("legacy/tlv-all-frames.bin");
    for (size_t cut = 0; cut <= 40; cut += 20) {
        struct run run;
        cohort_frame frame;
        const uint8_t *rest;
        run_begin(&run, LIMIT);
        run_feed(&run, file.bytes, cut == 40 ? 0 : cut); /* HELLO whole in the piece, or straddling */
        size_t at = cut == 40 ? 0 : cut;
        cohorti_frame_reader_feed(&run.r, file.bytes + at, file.len - at);
        assert_int_equal(cohorti_frame_reader_unread(&run.r, &rest), file.len - at);
        assert_int_equal(cohorti_frame_reader_next(&run.r, &frame), 1);
        check_all_frames(run.frames++, &frame);
        assert_int_equal(cohorti_frame_reader_unread(&run.r, &rest), file.len - 40);
        assert_ptr_equal(rest, file.bytes + 40);
        struct unit_bytes kept = unit_bytes_copy(rest, file.len - 40); /* another reader goes on where this one stopped */
        run_end(&run);
        struct run next;
        run_begin(&next, LIMIT);
        next.frames = 1;
        next.r.frames = 1;
        run_feed(&next, kept.bytes, kept.len);
        assert_int_equal(next.frames, 8);
        run_end(&next);
        unit_bytes_free(&kept);
    }
    unit_bytes_free(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_legacy_file),
        cmocka_unit_test(decode_tells_what_is_needed),
        cmocka_unit_test(header_of_largest_frame),
        cmocka_unit_test(all_at_once_copies_nothing),
        cmocka_unit_test(byte_by_byte),
        cmocka_unit_test(every_two_cuts),
        cmocka_unit_test(random_cuts),
        cmocka_unit_test(stopped_anywhere_leaks_nothing),
        cmocka_unit_test(marker_is_checked_byte_by_byte),
        cmocka_unit_test(http_is_not_a_frame),
        cmocka_unit_test(length_is_checked_before_memory_is_asked_for),
        cmocka_unit_test(good_frames_before_a_bad_one_are_given),
        cmocka_unit_test(limit_is_inclusive_and_may_be_raised),
        cmocka_unit_test(every_allocation_fails_once),
        cmocka_unit_test(block_is_sized_from_header),
        cmocka_unit_test(unread_gives_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
