/* SPDX-License-Identifier: Apache-2.0
 *
 * core/outbound: what is written, in which order and how far; what is refused. Streams are narrated frame by frame. What the reader
 * says is test_outbound_reader.c; what becomes of messages over many links test_session.c; what is told of them test_undelivered.c.
 */
#include "outbound_text.h"

#include "base/prng.h"

/* ---- frames -------------------------------------------------------------------------------------------------------- */

static void a_name_is_announced_once_in_each_lane(void **state)
{
    struct rig r;
    open_resumed(&r);
    assert_int_equal(rig_put(&r, 0, "s", 3, 'x'), COHORT_OK);
    assert_int_equal(rig_put(&r, 0, "s", 0, 'x'), COHORT_OK);
    assert_int_equal(rig_put(&r, 0, "t", 1, 'x'), COHORT_OK);
    assert_int_equal(rig_put(&r, 2, "t", 2, 'x'), COHORT_OK);
    assert_int_equal(cohorti_outbound_put_raw(&r.out, 7, "raw", 3), COHORT_OK);
    assert_string_equal(written(&r), "0:0=s MESSAGE 0:0 3 MESSAGE 0:0 0 0:1=t MESSAGE 0:1 1 RAW 7 3 2:0=t MESSAGE 2:0 2 ");
    assert_int_equal(r.out.frames, 8);
    rig_close(&r);
}

static void the_bytes_of_a_message(void **state)
{
    static const char expected[] = "\xfe\xed\xca\xfe\xca\xfe\xfe\xed\xc0\0\0\4\0\0\0\x15\4\0\0\0s"
                                   "\xfe\xed\xca\xfe\xca\xfe\xfe\xed\x84\0\0\0\0\0\0\x13xxx";
    struct rig r;
    open_resumed(&r);
    assert_int_equal(rig_put(&r, 2, "s", 3, 'x'), COHORT_OK);
    assert_int_equal(rig_write(&r, STREAM_BYTES, stream), sizeof expected - 1);
    assert_memory_equal(stream, expected, sizeof expected - 1);
    rig_close(&r);
}

static void each_kind_goes_out_as_its_kind(void **state)
{
    struct rig r;
    struct cohorti_put put = {.kind = COHORTI_KIND_REQUEST, .lane = 1, .subject = "s", .prefix = (const uint8_t *)"123456789012"};
    open_resumed(&r);
    put.prefix_len = COHORTI_REQUEST_PREFIX_BYTES;
    assert_int_equal(cohorti_outbound_put(&r.out, &put), COHORT_OK);
    put.subject = NULL;
    put.kind = COHORTI_KIND_REPLY;
    put.prefix_len = COHORTI_REPLY_PREFIX_BYTES;
    put.body = "yes";
    put.body_len = 3;
    assert_int_equal(cohorti_outbound_put(&r.out, &put), COHORT_OK);
    put.kind = COHORTI_KIND_ERROR_REPLY;
    put.prefix_len = COHORTI_ERROR_PREFIX_BYTES;
    assert_int_equal(cohorti_outbound_put(&r.out, &put), COHORT_OK);
    assert_string_equal(written(&r), "1:0=s REQUEST 1:0 12 REPLY 1:0 11 ERROR 1:0 15 ");
    rig_close(&r);
}

static void types_that_are_not_the_applications_are_refused(void **state)
{
    struct rig r;
    open_resumed(&r);
    assert_int_equal(cohorti_outbound_put_raw(&r.out, 1, "x", 1), COHORT_ETYPE);
    assert_int_equal(cohorti_outbound_put_raw(&r.out, 2, "x", 1), COHORT_ETYPE);
    assert_int_equal(cohorti_outbound_put_raw(&r.out, UINT32_C(0x80000000), "x", 1), COHORT_ETYPE);
    assert_int_equal(cohorti_outbound_put_raw(&r.out, UINT32_C(0xffffffff), "x", 1), COHORT_ETYPE);
    assert_int_equal(cohorti_outbound_put_raw(&r.out, 0, stream, rig_limits.message_bytes_max + 1), COHORT_ESIZE);
    assert_int_equal(cohorti_outbound_len(&r.out), 0);
    assert_int_equal(cohorti_outbound_put_raw(&r.out, 0, "x", 1), COHORT_OK);
    assert_int_equal(cohorti_outbound_put_raw(&r.out, INT32_MAX, "", 0), COHORT_OK);
    assert_string_equal(written(&r), "RAW 0 1 RAW 2147483647 0 ");
    rig_close(&r);
}

static void names_are_limited_in_each_lane(void **state)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    struct rig r;
    open_resumed(&r);
    for (size_t i = 0; i < UNIT_COUNT(names); i++) {
        assert_int_equal(rig_put(&r, 0, names[i], 1, 'x'), COHORT_OK);
    }
    size_t len = cohorti_outbound_len(&r.out);
    assert_int_equal(rig_put(&r, 0, "e", 1, 'x'), COHORT_ELIMIT);
    assert_int_equal(cohorti_outbound_len(&r.out), len);
    assert_int_equal(rig_put(&r, 0, "a", 1, 'x'), COHORT_OK);
    assert_int_equal(rig_put(&r, 1, "e", 1, 'x'), COHORT_OK);
    assert_int_equal(cohorti_outbound_put_raw(&r.out, 7, "x", 1), COHORT_OK);
    rig_close(&r);
}

/* Around each multiple of the largest chunk: together the pieces are what one frame would have held. */
static void large_messages_are_cut_into_chunks(void **state)
{
    for (size_t i = 0; i < 3 * 5; i++) {
        const size_t pieces = i / 5 + 1, total = pieces * COHORTI_CHUNK_BYTES_MAX - 2 + i % 5;
        const size_t expected = (total + COHORTI_CHUNK_BYTES_MAX - 1) / COHORTI_CHUNK_BYTES_MAX;
        const struct cohorti_put put = {.kind = COHORTI_KIND_REQUEST,
                                        .subject = "s",
                                        .prefix = (const uint8_t *)"prefix-of-12",
                                        .prefix_len = COHORTI_REQUEST_PREFIX_BYTES,
                                        .body = stream + STREAM_BYTES / 2,
                                        .body_len = total - COHORTI_REQUEST_PREFIX_BYTES};
        struct rig r;
        open_resumed(&r);
        memset(stream + STREAM_BYTES / 2, 'b', put.body_len);
        assert_int_equal(rig_put_either(&r, &put), COHORT_OK);
        size_t len = rig_write(&r, STREAM_BYTES / 2, stream), at = 0, count = 0;
        cohort_frame frame;
        for (const uint8_t *next = rig_frame(stream, len, &frame); next < stream + len; count++) {
            next = rig_frame(next, (size_t)(stream + len - next), &frame);
            struct cohorti_chunk chunk = {
                .kind = COHORTI_KIND_REQUEST, .total = total, .data = frame.data, .data_len = frame.data_len};
            if (expected > 1) {
                assert_int_equal(cohorti_chunk_decode(&frame, &chunk), COHORT_OK);
            }
            assert_int_equal(chunk.kind, COHORTI_KIND_REQUEST);
            assert_int_equal(chunk.total, total);
            assert_int_equal(chunk.at, at);
            assert_true(chunk.data_len <= COHORTI_CHUNK_BYTES_MAX);
            for (size_t b = 0; b < chunk.data_len; b++, at++) {
                assert_int_equal(chunk.data[b], at < put.prefix_len ? put.prefix[at] : 'b');
            }
        }
        assert_int_equal(at, total);
        assert_int_equal(count, expected);
        rig_close(&r);
    }
}

static void the_bulk_lane_cuts_smaller(void **state)
{
    static const size_t sizes[] = {COHORTI_CHUNK_BYTES_MAX, COHORTI_CHUNK_BYTES_MAX + 1, 5 * COHORTI_BULK_CHUNK_BYTES,
                                   5 * COHORTI_BULK_CHUNK_BYTES + 1};
    static const size_t frames[] = {1, 3, 5, 6}; /* what fits into one frame stays in one */
    for (size_t i = 0; i < UNIT_COUNT(sizes); i++) {
        struct rig r;
        open_resumed(&r);
        assert_int_equal(rig_put(&r, COHORT_LANE_BULK, "s", sizes[i], 'b'), COHORT_OK);
        size_t len = rig_write(&r, STREAM_BYTES, stream), count = 0;
        cohort_frame frame;
        for (const uint8_t *next = rig_frame(stream, len, &frame); next < stream + len; count++) {
            next = rig_frame(next, (size_t)(stream + len - next), &frame);
            assert_true(frames[i] == 1 || frame.data_len <= COHORTI_CHUNK_PREFIX_BYTES + COHORTI_BULK_CHUNK_BYTES);
        }
        assert_int_equal(count, frames[i]);
        rig_close(&r);
    }
}

/* What is lent has filled no memory. */
static void what_waits_and_is_lent_counts_for_an_eighth(void **state)
{
    struct rig r;
    open_resumed(&r);
    assert_int_equal(rig_put(&r, 0, "s", 65536, 'x'), COHORT_OK);
    size_t len = cohorti_outbound_len(&r.out);
    assert_int_equal(cohorti_outbound_waiting(&r.out), rig_lends ? len / 8 : len);
    assert_int_equal(rig_put(&r, 1, "s", 100, 'x'), COHORT_OK); /* too small to be lent */
    size_t other = cohorti_outbound_len(&r.out) - len;
    assert_int_equal(cohorti_outbound_waiting(&r.out), (rig_lends ? len / 8 : len) + other);
    (void)rig_write(&r, SIZE_MAX, NULL);
    assert_int_equal(cohorti_outbound_waiting(&r.out), 0);
    rig_close(&r);
}

/* ---- filled in place ----------------------------------------------------------------------------------------------- */

static void what_is_claimed_counts_once_committed(void **state)
{
    struct rig r;
    struct cohorti_name_hint hint = {0};
    struct cohorti_put put = {.kind = COHORTI_KIND_MESSAGE, .lane = 1, .subject = "s", .body_len = 100, .hint = &hint};
    uint8_t *body = NULL;
    open_resumed(&r);
    assert_int_equal(cohorti_outbound_claim(&r.out, &put, &body), COHORT_OK);
    memset(body, 'n', 100);
    assert_int_equal(cohorti_outbound_claim(&r.out, &put, &body), COHORT_OK);
    memcpy(body, "used", 4);
    cohorti_outbound_commit(&r.out, &put, body, 4);
    assert_int_equal(cohorti_outbound_claim(&r.out, &put, &body), COHORT_OK); /* and left alone */
    assert_int_equal(rig_put(&r, 1, "s", 2, 'x'), COHORT_OK);
    assert_string_equal(written(&r), "1:0=s MESSAGE 1:0 4 MESSAGE 1:0 2 ");
    assert_memory_equal(stream + FRAME(5) + COHORT_FRAME_HEADER_BYTES, "used", 4);
    put.body_len = 64 * 1024;
    assert_int_equal(cohorti_outbound_claim(&r.out, &put, &body), COHORT_OK);
    put.body_len++;
    assert_int_equal(cohorti_outbound_claim(&r.out, &put, &body), COHORT_ESIZE);
    put.body_len = rig_limits.message_bytes_max + 1;
    assert_int_equal(cohorti_outbound_claim(&r.out, &put, &body), COHORT_ESIZE);
    rig_close(&r);
}

/* A number remembered is not used any more once names were forgotten. */
static void a_hint_is_good_for_as_long_as_its_number(void **state)
{
    struct rig r;
    struct cohorti_name_hint hint = {0};
    const struct cohorti_put put = {.kind = COHORTI_KIND_MESSAGE, .subject = "t", .hint = &hint};
    open_resumed(&r);
    assert_int_equal(rig_put(&r, 0, "s", 0, 'x'), COHORT_OK);
    assert_int_equal(cohorti_outbound_put(&r.out, &put), COHORT_OK);
    assert_int_equal(cohorti_outbound_put(&r.out, &put), COHORT_OK);
    assert_string_equal(written(&r), "0:0=s MESSAGE 0:0 0 0:1=t MESSAGE 0:1 0 MESSAGE 0:1 0 ");
    r.memory.fail_at = r.memory.calls + 1; /* names cannot be announced again */
    assert_int_equal(rig_resume(&r, RIG_READER + 1, 0, NULL), COHORT_OK);
    assert_int_equal(cohorti_outbound_put(&r.out, &put), COHORT_OK);
    assert_string_equal(written(&r), "0:0=t MESSAGE 0:0 0 ");
    assert_int_equal(rig_resume(&r, RIG_READER + 2, 0, NULL), COHORT_OK);
    assert_int_equal(cohorti_outbound_put(&r.out, &put), COHORT_OK);
    assert_string_equal(written(&r), "0:0=t MESSAGE 0:0 0 ");
    rig_close(&r);
}

/* ---- order and credit ---------------------------------------------------------------------------------------------- */

static void urgent_lanes_go_first(void **state)
{
    struct rig r;
    rig_open(&r);
    assert_int_equal(rig_put(&r, 2, "b", 1, 'x'), COHORT_OK);
    assert_int_equal(rig_put(&r, 0, "n", 1, 'x'), COHORT_OK);
    assert_int_equal(rig_put(&r, 1, "c", 1, 'x'), COHORT_OK);
    assert_string_equal(written(&r), ""); /* no RESUME, nothing to write */
    assert_false(cohorti_outbound_wants_write(&r.out));
    assert_int_equal(rig_resume(&r, RIG_READER, 0, NULL), COHORT_OK);
    assert_true(cohorti_outbound_wants_write(&r.out));
    assert_string_equal(written(&r), "1:0=c MESSAGE 1:0 1 0:0=n MESSAGE 0:0 1 2:0=b MESSAGE 2:0 1 ");
    assert_false(cohorti_outbound_wants_write(&r.out));
    cohorti_outbound_link_ended(&r.out);
    assert_int_equal(rig_put(&r, 0, "n", 1, 'x'), COHORT_OK);
    assert_false(cohorti_outbound_wants_write(&r.out));
    assert_string_equal(written(&r), "");
    rig_close(&r);
}

static void every_slice_ends_with_a_frame(void **state)
{
    struct cohorti_slice slices[64];
    struct cohorti_prng prng;
    struct rig r;
    open_resumed(&r);
    cohorti_prng_init(&prng, 1);
    for (int i = 0; i < 1000; i++) {
        unsigned lane = (unsigned)cohorti_prng_below(&prng, 3);
        assert_int_equal(rig_put(&r, lane, "s", (size_t)cohorti_prng_below(&prng, 3000), 'x'), COHORT_OK);
    }
    size_t count = cohorti_outbound_gather(&r.out, slices, UNIT_COUNT(slices), SIZE_MAX), len = 0;
    for (size_t i = 0; i < count; i++) {
        cohort_frame frame;
        len += slices[i].len;
        for (const uint8_t *at = slices[i].bytes; at < slices[i].bytes + slices[i].len;) {
            at = rig_frame(at, (size_t)(slices[i].bytes + slices[i].len - at), &frame);
        }
    }
    assert_int_equal(len, cohorti_outbound_len(&r.out));
    assert_int_equal(cohorti_outbound_gather(&r.out, slices, 2, SIZE_MAX), 2);
    assert_int_equal(cohorti_outbound_gather(&r.out, slices, 64, 1), 1);
    assert_int_equal(cohorti_outbound_gather(&r.out, slices, 0, SIZE_MAX), 0);
    rig_close(&r);
}

/* Whatever more urgent comes meanwhile: a frame is not torn apart. */
static void what_was_begun_is_finished_first(void **state)
{
    struct rig r;
    open_resumed(&r);
    assert_int_equal(rig_put(&r, 2, "b", 50, 'x'), COHORT_OK);
    size_t whole = cohorti_outbound_len(&r.out);
    for (size_t cut = 1; cut < whole; cut++) {
        if (cut > 1) {
            rig_close(&r);
            open_resumed(&r);
            assert_int_equal(rig_put(&r, 2, "b", 50, 'x'), COHORT_OK);
        }
        size_t len = rig_write(&r, cut, stream);
        assert_true(cohorti_outbound_is_cut(&r.out));
        assert_int_equal(rig_put(&r, 1, "c", 1, 'x'), COHORT_OK);
        assert_int_equal(rig_put(&r, 2, "b", 1, 'x'), COHORT_OK);
        len += rig_write(&r, STREAM_BYTES - len, stream + len);
        assert_false(cohorti_outbound_is_cut(&r.out));
        assert_string_equal(narrate(stream, len), "2:0=b MESSAGE 2:0 50 MESSAGE 2:0 1 1:0=c MESSAGE 1:0 1 ");
    }
    rig_close(&r);
}

/* Also when its head was written to the end and its body, which may lie elsewhere, was not. */
static void nothing_comes_between_a_head_and_its_body(void **state)
{
    static const size_t cuts[] = {1, COHORT_FRAME_HEADER_BYTES - 1, COHORT_FRAME_HEADER_BYTES, COHORT_FRAME_HEADER_BYTES + 1, 5000};
    for (size_t i = 0; i < UNIT_COUNT(cuts); i++) {
        struct rig r;
        struct cohorti_slice slices[4];
        open_resumed(&r);
        assert_int_equal(rig_put(&r, 2, "b", 5000, 'x'), COHORT_OK);
        size_t len = rig_write(&r, FRAME(5) + cuts[i], stream);
        assert_int_equal(len, FRAME(5) + cuts[i]);
        assert_true(cohorti_outbound_is_cut(&r.out));
        assert_int_equal(rig_put(&r, 1, "c", 1, 'x'), COHORT_OK);
        size_t count = cohorti_outbound_gather(&r.out, slices, UNIT_COUNT(slices), SIZE_MAX), rest = 0;
        size_t of_cut = cohorti_outbound_cut_count(&r.out, slices, count);
        for (size_t s = 0; s < of_cut; s++) {
            assert_int_equal(slices[s].lane, 2);
            rest += slices[s].len;
        }
        assert_int_equal(rest, FRAME(5000) - cuts[i]);
        len += rig_write(&r, STREAM_BYTES - len, stream + len);
        assert_string_equal(narrate(stream, len), "2:0=b MESSAGE 2:0 5000 1:0=c MESSAGE 1:0 1 ");
        rig_close(&r);
    }
}

/* A lane that is half empty takes any message there may be; then it is full until half of its limit is left. */
static void a_message_may_be_larger_than_its_lane(void **state)
{
    const struct cohorti_outbound_limits small = {.lane_bytes_max = 100000, .message_bytes_max = 1 << 20, .subjects_max = 4};
    struct rig r;
    rig_open(&r);
    cohorti_outbound_deinit(&r.out);
    cohorti_outbound_init(&r.out, &r.memory.alloc, &small, RIG_HALF);
    assert_int_equal(rig_resume(&r, RIG_READER, 0, NULL), COHORT_OK);
    assert_int_equal(rig_put(&r, 0, "s", 40000, 'x'), COHORT_OK);
    assert_int_equal(rig_put(&r, 0, "s", 1 << 20, 'x'), COHORT_OK);
    assert_int_equal(rig_put(&r, 0, "s", 1, 'x'), COHORT_EAGAIN);
    (void)rig_write(&r, SIZE_MAX, NULL);
    assert_int_equal(rig_ack(&r, 0, r.out.lanes[0].log.appended - 50001), COHORT_OK);
    assert_int_equal(cohorti_outbound_writable(&r.out), 0);
    assert_int_equal(rig_put(&r, 0, "s", 60000, 'x'), COHORT_EAGAIN);
    assert_int_equal(rig_ack(&r, 0, r.out.lanes[0].log.appended - 50000), COHORT_OK);
    assert_int_equal(cohorti_outbound_writable(&r.out), 1);
    assert_int_equal(rig_put(&r, 0, "s", 1 << 20, 'x'), COHORT_OK);
    rig_close(&r);
}

/* A link that begins anew begins with a frame. */
static void nothing_is_cut_on_a_new_link(void **state)
{
    const uint64_t marks[COHORTI_LANE_COUNT] = {0, 0, FRAME(5)};
    struct rig r;
    open_resumed(&r);
    assert_int_equal(rig_put(&r, 2, "b", 50, 'x'), COHORT_OK);
    (void)rig_write(&r, FRAME(5) + 20, stream);
    assert_true(cohorti_outbound_is_cut(&r.out));
    cohorti_outbound_link_ended(&r.out);
    assert_int_equal(rig_put(&r, 1, "c", 1, 'x'), COHORT_OK);
    assert_int_equal(rig_resume(&r, RIG_READER, RIG_HALF, marks), COHORT_OK);
    assert_false(cohorti_outbound_is_cut(&r.out));
    assert_string_equal(written(&r), "1:0=c MESSAGE 1:0 1 MESSAGE 2:0 50 ");
    rig_close(&r);
}

/* No run is begun at or beyond the limit; one begun before goes to its end, which is within COHORTI_RUN_BYTES_MAX of it. */
static void credit_is_kept_to(void **state)
{
    struct cohorti_resume resume = {.half = RIG_READER};
    struct rig r;
    rig_open(&r);
    assert_int_equal(cohorti_outbound_resume(&r.out, &resume, &r.lost), COHORT_OK);
    assert_int_equal(rig_put(&r, 0, "s", 700, 'x'), COHORT_OK);
    assert_int_equal(rig_write(&r, STREAM_BYTES, stream), 0);
    assert_false(cohorti_outbound_wants_write(&r.out));
    for (int i = 0; i < 3000; i++) {
        assert_int_equal(rig_put(&r, 0, "s", 700, 'x'), COHORT_OK);
    }
    struct cohorti_ack ack = {.present = 1};
    for (uint64_t limit = 1; limit < 1500000; limit = limit * 5 / 4 + 1) {
        ack.lanes[0].limit = limit;
        assert_int_equal(cohorti_outbound_ack(&r.out, &ack), COHORT_OK);
        assert_int_equal(cohorti_outbound_wants_write(&r.out), r.out.lanes[0].log.sent < limit);
        (void)rig_write(&r, STREAM_BYTES, stream);
        assert_false(cohorti_outbound_wants_write(&r.out));
        assert_true(r.out.lanes[0].log.sent >= limit && r.out.lanes[0].log.sent < limit + 65536);
    }
    ack.lanes[0].limit = 1; /* is not taken back */
    assert_int_equal(cohorti_outbound_ack(&r.out, &ack), COHORT_OK);
    assert_true(r.out.lanes[0].limit > 1000000);
    rig_close(&r);
}

static void appending_leaves_alone_what_was_gathered(void **state)
{
    struct cohorti_slice slices[32];
    struct rig r;
    open_resumed(&r);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(rig_put(&r, 0, "s", 700, 'x'), COHORT_OK);
    }
    size_t count = cohorti_outbound_gather(&r.out, slices, 32, SIZE_MAX), len = 0;
    for (size_t i = 0; i < count; i++) {
        memcpy(stream + len, slices[i].bytes, slices[i].len);
        len += slices[i].len;
    }
    cohorti_outbound_hold(&r.out, slices, count);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(rig_put(&r, 0, "s", 700, 'y'), COHORT_OK);
    }
    for (size_t i = 0, at = 0; i < count; at += slices[i++].len) {
        assert_memory_equal(slices[i].bytes, stream + at, slices[i].len);
    }
    cohorti_outbound_advance(&r.out, slices, count, len);
    assert_int_equal(cohorti_outbound_waiting(&r.out), 300 * FRAME(700));
    rig_close(&r);
}

/* ---- the watermark ------------------------------------------------------------------------------------------------- */

static void a_full_lane_says_so_and_then_that_it_has_room_once(void **state)
{
    struct rig r;
    int accepted = 0, status;
    open_resumed(&r);
    assert_int_equal(cohorti_outbound_writable(&r.out), 0);
    while ((status = rig_put(&r, 2, "s", 10000, 'x')) == COHORT_OK) {
        accepted++;
    }
    assert_int_equal(status, COHORT_EAGAIN);
    assert_true(accepted > 400 && cohorti_log_len(&r.out.lanes[2].log) <= rig_limits.lane_bytes_max + FRAME(5));
    assert_int_equal(rig_put(&r, 0, "s", 10000, 'x'), COHORT_OK); /* other lanes are not concerned */
    assert_int_equal(rig_put(&r, 2, "t", 10000, 'x'), COHORT_EAGAIN);
    (void)rig_write(&r, STREAM_BYTES * 2, NULL);
    assert_int_equal(cohorti_outbound_writable(&r.out), 0); /* written is not taken */
    uint64_t half = r.out.lanes[2].log.appended - rig_limits.lane_bytes_max / 2;
    assert_int_equal(rig_ack(&r, 2, half - 1), COHORT_OK);
    assert_int_equal(cohorti_outbound_writable(&r.out), 0);
    assert_int_equal(rig_ack(&r, 2, half), COHORT_OK);
    assert_int_equal(cohorti_outbound_writable(&r.out), 1U << 2);
    assert_int_equal(cohorti_outbound_writable(&r.out), 0);
    assert_int_equal(rig_put(&r, 2, "t", 10000, 'x'), COHORT_OK);
    rig_close(&r);
}

/* The end of a session makes room as well: whoever was told EAGAIN is told. */
static void what_was_refused_is_told_of_room_after_the_end(void **state)
{
    struct rig r;
    open_resumed(&r);
    while (rig_put(&r, 1, "s", 100000, 'x') == COHORT_OK) {
    }
    cohorti_outbound_end(&r.out, 2, &r.lost);
    assert_int_equal(cohorti_outbound_writable(&r.out), 1U << 1);
    rig_close(&r);
}

static void who_is_waited_for_has_as_much_room_again(void **state)
{
    struct cohorti_put put = {.kind = COHORTI_KIND_REPLY, .prefix = (const uint8_t *)"12345678", .prefix_len = 8, .has_room = true};
    struct rig r;
    open_resumed(&r);
    while (rig_put(&r, 0, "s", 10000, 'x') == COHORT_OK) {
    }
    put.body = stream;
    put.body_len = 10000;
    int status;
    while ((status = cohorti_outbound_put(&r.out, &put)) == COHORT_OK) {
        assert_true(cohorti_outbound_len(&r.out) <= 2 * rig_limits.lane_bytes_max);
    }
    assert_int_equal(status, COHORT_EAGAIN);
    assert_true(cohorti_outbound_len(&r.out) > 2 * rig_limits.lane_bytes_max - 20000);
    rig_close(&r);
}

static void the_largest_message_fits_and_a_larger_one_does_not(void **state)
{
    struct rig r;
    open_resumed(&r);
    assert_int_equal(rig_put(&r, 0, "s", rig_limits.message_bytes_max + 1, 'x'), COHORT_ESIZE);
    assert_int_equal(cohorti_outbound_len(&r.out), 0);
    assert_int_equal(rig_put(&r, 0, "s", rig_limits.message_bytes_max, 'x'), COHORT_OK);
    rig_close(&r);
}

/* ---- memory -------------------------------------------------------------------------------------------------------- */

/* Each message that was accepted is there, whole; of one that was not, nothing but perhaps its name. */
static void a_message_is_appended_whole_or_not_at_all(void **state)
{
    static const size_t sizes[] = {10, 200000, 3000, 65553, 0, 70000};
    static const char *const names[] = {"a", "b", "c", "d"};
    bool failed = true;
    for (size_t n = 1; failed; n++) {
        struct rig r;
        char expected[4096] = "";
        open_resumed(&r);
        r.memory.fail_at = r.memory.calls + n;
        for (size_t i = 0; i < 24; i++) {
            uint64_t frames = r.out.frames;
            int status = rig_put(&r, 0, names[i % 4], sizes[i % 6], 'x');
            assert_true(status == COHORT_OK || status == COHORT_ENOMEM);
            if (status == COHORT_OK) {
                size_t len = strlen(expected);
                (void)snprintf(expected + len, sizeof expected - len, "%s %zu;", names[i % 4], sizes[i % 6]);
            } else {
                assert_true(r.out.frames - frames <= 1);
            }
        }
        failed = r.memory.calls >= r.memory.fail_at;
        r.memory.fail_at = 0;
        char got[4096] = "";
        struct cohorti_lost one;
        assert_string_not_equal(written(&r), ""); /* whole frames */
        cohorti_outbound_end(&r.out, 2, &r.lost);
        while (cohorti_undelivered_next(&r.lost, &r.out, &one)) {
            size_t len = strlen(got);
            assert_non_null(one.body);
            (void)snprintf(got + len, sizeof got - len, "%s %zu;", one.subject, one.body_len);
        }
        assert_string_equal(got, expected);
        rig_close(&r);
        assert_true(n < 200);
    }
}

static void a_deadline_that_cannot_be_remembered_is_not_accepted(void **state)
{
    const struct cohorti_put put = {.kind = COHORTI_KIND_MESSAGE, .subject = "s", .deadline_ns = 5};
    bool failed = true;
    for (size_t n = 1; failed; n++) {
        struct rig r;
        struct cohorti_lost one;
        unsigned accepted = 0, told = 0;
        rig_open(&r);
        r.memory.fail_at = n;
        for (int i = 0; i < 20; i++) {
            accepted += rig_put_either(&r, &put) == COHORT_OK;
        }
        failed = r.memory.calls >= n;
        r.memory.fail_at = 0;
        assert_true(accepted == 20 || (failed && accepted == 19));
        assert_int_equal(cohorti_outbound_expires_ns(&r.out), 5);
        cohorti_outbound_expire(&r.out, 5, &r.lost);
        while (cohorti_undelivered_next(&r.lost, &r.out, &one)) {
            told++;
        }
        assert_int_equal(told, accepted);
        assert_true(cohorti_outbound_expires_ns(&r.out) == UINT64_MAX);
        rig_close(&r);
    }
}

static void a_steady_exchange_allocates_nothing(void **state)
{
    struct rig r;
    open_resumed(&r);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(rig_put(&r, 0, "s", 100, 'x'), COHORT_OK);
        (void)rig_write(&r, STREAM_BYTES, NULL);
        assert_int_equal(rig_ack(&r, 0, r.out.lanes[0].log.sent), COHORT_OK);
        if (i == 0) {
            r.memory.calls = 0;
        }
    }
    assert_int_equal(r.memory.calls, 0);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_announced_once_in_each_lane),
        cmocka_unit_test(the_bytes_of_a_message),
        cmocka_unit_test(each_kind_goes_out_as_its_kind),
        cmocka_unit_test(types_that_are_not_the_applications_are_refused),
        cmocka_unit_test(names_are_limited_in_each_lane),
        cmocka_unit_test(large_messages_are_cut_into_chunks),
        cmocka_unit_test(the_bulk_lane_cuts_smaller),
        cmocka_unit_test(what_waits_and_is_lent_counts_for_an_eighth),
        cmocka_unit_test(what_is_claimed_counts_once_committed),
        cmocka_unit_test(a_hint_is_good_for_as_long_as_its_number),
        cmocka_unit_test(urgent_lanes_go_first),
        cmocka_unit_test(every_slice_ends_with_a_frame),
        cmocka_unit_test(what_was_begun_is_finished_first),
        cmocka_unit_test(nothing_comes_between_a_head_and_its_body),
        cmocka_unit_test(a_message_may_be_larger_than_its_lane),
        cmocka_unit_test(nothing_is_cut_on_a_new_link),
        cmocka_unit_test(credit_is_kept_to),
        cmocka_unit_test(appending_leaves_alone_what_was_gathered),
        cmocka_unit_test(a_full_lane_says_so_and_then_that_it_has_room_once),
        cmocka_unit_test(what_was_refused_is_told_of_room_after_the_end),
        cmocka_unit_test(who_is_waited_for_has_as_much_room_again),
        cmocka_unit_test(the_largest_message_fits_and_a_larger_one_does_not),
        cmocka_unit_test(a_message_is_appended_whole_or_not_at_all),
        cmocka_unit_test(a_deadline_that_cannot_be_remembered_is_not_accepted),
        cmocka_unit_test(a_steady_exchange_allocates_nothing),
    };
    return RIG_RUN_TWICE(tests);
}
