/* SPDX-License-Identifier: Apache-2.0
 *
 * core/undelivered: what is told is what was not acknowledged, oldest first, whole, with its kind and name, and never more certain
 * than the sender can be; whatever marks a peer made up.
 */
#include "outbound_rig.h"

#define ANNOUNCED FRAME(4 + 1) /* SUBJECT of a name of one letter */

static void expect_one(struct rig *r, unsigned lane, const char *subject, size_t len, int fill, bool maybe_handled)
{
    struct cohorti_lost one;
    assert_true(cohorti_undelivered_next(&r->lost, &r->out, &one));
    assert_int_equal(one.lane, lane);
    assert_int_equal(one.kind, COHORTI_KIND_MESSAGE);
    assert_false(one.raw);
    assert_string_equal(one.subject, subject);
    assert_int_equal(one.body_len, len);
    assert_int_equal(one.maybe_handled, maybe_handled);
    assert_non_null(one.body);
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(one.body[i], fill);
    }
}

static void expect_end(struct rig *r)
{
    struct cohorti_lost one;
    assert_false(cohorti_undelivered_next(&r->lost, &r->out, &one));
    assert_false(cohorti_undelivered_next(&r->lost, &r->out, &one));
}

static void an_end_without_messages_tells_nothing(void **state)
{
    struct rig r;
    rig_open(&r);
    expect_end(&r);
    cohorti_outbound_end(&r.out, 2, &r.lost);
    expect_end(&r);
    rig_close(&r);
}

/* Acknowledged, written to the end, written in part, not written: in the order of the lane. */
static void what_was_acknowledged_is_not_told_and_what_was_written_may_be_handled(void **state)
{
    for (uint64_t part = 0; part < FRAME(10); part++) {
        struct rig r;
        rig_open(&r);
        for (int i = 0; i < 5; i++) {
            assert_int_equal(rig_put(&r, 0, "s", 10, 'a' + i), COHORT_OK);
        }
        assert_int_equal(rig_resume(&r, RIG_READER, 0, NULL), COHORT_OK);
        size_t written = (size_t)(ANNOUNCED + 3 * FRAME(10) + part);
        assert_int_equal(rig_write(&r, written, NULL), written);
        assert_int_equal(rig_ack(&r, 0, ANNOUNCED + FRAME(10)), COHORT_OK);
        cohorti_outbound_end(&r.out, 2, &r.lost);
        expect_one(&r, 0, "s", 10, 'b', true);
        expect_one(&r, 0, "s", 10, 'c', true);
        expect_one(&r, 0, "s", 10, 'd', false);
        expect_one(&r, 0, "s", 10, 'e', false);
        expect_end(&r);
        rig_close(&r);
    }
}

/* What was written to an earlier link and taken back by RESUME may have been handled all the same: it was not said so. However much
 * of it has been written again. */
static void what_was_written_once_stays_written(void **state)
{
    const uint64_t marks[COHORTI_LANE_COUNT] = {ANNOUNCED, 0, 0};
    for (size_t again = 0; again <= 2 * FRAME(10); again++) {
        struct rig r;
        rig_open(&r);
        assert_int_equal(rig_put(&r, 0, "s", 10, 'a'), COHORT_OK);
        assert_int_equal(rig_put(&r, 0, "s", 10, 'b'), COHORT_OK);
        assert_int_equal(rig_resume(&r, RIG_READER, 0, NULL), COHORT_OK);
        (void)rig_write(&r, SIZE_MAX, NULL);
        cohorti_outbound_link_ended(&r.out);
        assert_int_equal(rig_resume(&r, RIG_READER, RIG_HALF, marks), COHORT_OK);
        assert_int_equal(rig_write(&r, again, NULL), again);
        cohorti_outbound_end(&r.out, 2, &r.lost);
        expect_one(&r, 0, "s", 10, 'a', true);
        expect_one(&r, 0, "s", 10, 'b', true);
        expect_end(&r);
        rig_close(&r);
    }
}

static void lanes_are_told_most_urgent_first(void **state)
{
    struct rig r;
    rig_open(&r);
    assert_int_equal(rig_put(&r, 2, "b", 3, 'b'), COHORT_OK);
    assert_int_equal(rig_put(&r, 0, "n", 2, 'n'), COHORT_OK);
    assert_int_equal(rig_put(&r, 1, "c", 1, 'c'), COHORT_OK);
    assert_int_equal(rig_put(&r, 1, "d", 0, 'd'), COHORT_OK);
    cohorti_outbound_end(&r.out, 2, &r.lost);
    expect_one(&r, 1, "c", 1, 'c', false);
    expect_one(&r, 1, "d", 0, 'd', false);
    expect_one(&r, 0, "n", 2, 'n', false);
    expect_one(&r, 2, "b", 3, 'b', false);
    expect_end(&r);
    rig_close(&r);
}

static void each_kind_is_told_as_what_it_was(void **state)
{
    static const struct {
        enum cohorti_kind kind;
        size_t prefix_len;
    } kinds[] = {{COHORTI_KIND_REQUEST, COHORTI_REQUEST_PREFIX_BYTES},
                 {COHORTI_KIND_REPLY, COHORTI_REPLY_PREFIX_BYTES},
                 {COHORTI_KIND_ERROR_REPLY, COHORTI_ERROR_PREFIX_BYTES}};
    static const size_t sizes[] = {0, 5, COHORTI_CHUNK_BYTES_MAX, 3 * COHORTI_CHUNK_BYTES_MAX};
    static uint8_t body[3 * COHORTI_CHUNK_BYTES_MAX];
    for (size_t i = 0; i < UNIT_COUNT(kinds) * UNIT_COUNT(sizes); i++) {
        const size_t kind = i / UNIT_COUNT(sizes), len = sizes[i % UNIT_COUNT(sizes)];
        struct rig r;
        struct cohorti_lost one;
        uint8_t prefix[COHORTI_PREFIX_BYTES_MAX];
        rig_open(&r);
        memset(prefix, 0x11, sizeof prefix);
        memset(body, 0x22, len);
        const struct cohorti_put put = {.kind = kinds[kind].kind,
                                        .subject = kinds[kind].kind == COHORTI_KIND_REQUEST ? "s" : NULL,
                                        .prefix = prefix,
                                        .prefix_len = kinds[kind].prefix_len,
                                        .body = body,
                                        .body_len = len};
        assert_int_equal(rig_put_either(&r, &put), COHORT_OK);
        cohorti_outbound_end(&r.out, 2, &r.lost);
        assert_true(cohorti_undelivered_next(&r.lost, &r.out, &one));
        assert_int_equal(one.kind, kinds[kind].kind);
        assert_string_equal(one.subject, put.subject == NULL ? "" : "s");
        assert_memory_equal(one.prefix, prefix, put.prefix_len);
        assert_int_equal(one.body_len, len);
        assert_memory_equal(one.body, body, len);
        expect_end(&r);
        rig_close(&r);
    }
}

static void raw_frames_keep_their_type(void **state)
{
    struct rig r;
    struct cohorti_lost one;
    rig_open(&r);
    assert_int_equal(cohorti_outbound_put_raw(&r.out, 0x1234567, "raw", 3), COHORT_OK);
    cohorti_outbound_end(&r.out, 2, &r.lost);
    assert_true(cohorti_undelivered_next(&r.lost, &r.out, &one));
    assert_true(one.raw && one.raw_type == 0x1234567 && one.lane == 0);
    assert_string_equal(one.subject, "");
    assert_int_equal(one.body_len, 3);
    assert_memory_equal(one.body, "raw", 3);
    expect_end(&r);
    rig_close(&r);
}

/* ---- large messages ------------------------------------------------------------------------------------------------ */

#define LARGE ((size_t)200000)
#define CHUNK FRAME(COHORTI_CHUNK_PREFIX_BYTES + COHORTI_CHUNK_BYTES_MAX)

static void a_large_message_is_told_once_and_whole(void **state)
{
    const uint64_t end = ANNOUNCED + 3 * CHUNK + FRAME(COHORTI_CHUNK_PREFIX_BYTES + LARGE - 3 * COHORTI_CHUNK_BYTES_MAX);
    for (int all = 0; all < 2; all++) {
        struct rig r;
        rig_open(&r);
        assert_int_equal(rig_put(&r, 0, "s", LARGE, 'a'), COHORT_OK);
        assert_int_equal(rig_put(&r, 0, "s", 1, 'b'), COHORT_OK);
        assert_int_equal(rig_resume(&r, RIG_READER, 0, NULL), COHORT_OK);
        assert_int_equal(rig_write(&r, (size_t)end - 1 + (size_t)all, NULL), end - 1 + (uint64_t)all);
        cohorti_outbound_end(&r.out, 2, &r.lost);
        expect_one(&r, 0, "s", LARGE, 'a', all == 1);
        expect_one(&r, 0, "s", 1, 'b', false);
        expect_end(&r);
        rig_close(&r);
    }
}

static void a_large_message_whose_beginning_is_gone_is_told_without_its_body(void **state)
{
    for (uint64_t chunks = 1; chunks <= 3; chunks++) {
        struct rig r;
        struct cohorti_lost one;
        rig_open(&r);
        assert_int_equal(rig_put(&r, 0, "s", LARGE, 'a'), COHORT_OK);
        assert_int_equal(rig_put(&r, 0, "t", 1, 'b'), COHORT_OK);
        assert_int_equal(rig_resume(&r, RIG_READER, 0, NULL), COHORT_OK);
        (void)rig_write(&r, SIZE_MAX, NULL);
        assert_int_equal(rig_ack(&r, 0, ANNOUNCED + chunks * CHUNK), COHORT_OK);
        cohorti_outbound_end(&r.out, 2, &r.lost);
        assert_true(cohorti_undelivered_next(&r.lost, &r.out, &one));
        assert_string_equal(one.subject, "s");
        assert_true((one.body != NULL) == rig_lends); /* what is lent is there as long as any of it is needed */
        assert_null(one.prefix);
        assert_int_equal(one.body_len, LARGE);
        assert_true(one.maybe_handled);
        expect_one(&r, 0, "t", 1, 'b', true);
        expect_end(&r);
        rig_close(&r);
    }
}

static void without_memory_a_large_message_is_told_without_its_body(void **state)
{
    struct rig r;
    struct cohorti_lost one;
    rig_open(&r);
    assert_int_equal(rig_put(&r, 0, "s", LARGE, 'a'), COHORT_OK);
    assert_int_equal(rig_put(&r, 0, "s", 1, 'b'), COHORT_OK);
    cohorti_outbound_end(&r.out, 2, &r.lost);
    r.memory.fail_at = r.memory.calls + 1;
    assert_true(cohorti_undelivered_next(&r.lost, &r.out, &one));
    assert_true((one.body != NULL) == rig_lends); /* which needs no memory to be put together */
    assert_int_equal(one.body_len, LARGE);
    assert_string_equal(one.subject, "s");
    expect_one(&r, 0, "s", 1, 'b', false);
    expect_end(&r);
    rig_close(&r);
}

static void a_report_may_be_let_go_at_any_point(void **state)
{
    for (int told = 0; told < 3; told++) {
        struct rig r;
        struct cohorti_lost one;
        rig_open(&r);
        assert_int_equal(rig_put(&r, 0, "s", 1, 'a'), COHORT_OK);
        assert_int_equal(rig_put(&r, 0, "s", LARGE, 'b'), COHORT_OK);
        cohorti_outbound_end(&r.out, 2, &r.lost);
        for (int i = 0; i < told; i++) {
            assert_true(cohorti_undelivered_next(&r.lost, &r.out, &one));
        }
        rig_close(&r);
    }
}

/* ---- marks that a peer made up ------------------------------------------------------------------------------------- */

static void fill_lane(struct rig *r)
{
    rig_open(r);
    assert_int_equal(rig_put(r, 0, "s", 10, 'a'), COHORT_OK);
    assert_int_equal(rig_put(r, 0, "s", LARGE, 'b'), COHORT_OK);
    assert_int_equal(rig_put(r, 0, "s", 10, 'c'), COHORT_OK);
    assert_int_equal(rig_resume(r, RIG_READER, 0, NULL), COHORT_OK);
    (void)rig_write(r, SIZE_MAX, NULL);
}

/* A mark inside a frame is nothing a reader of ours says. It may cost the peer messages; it must not end us, nor lose what is behind. */
static void a_mark_inside_a_frame_ends_nobody(void **state)
{
    const uint64_t end = ANNOUNCED + 2 * FRAME(10) + 4 * FRAME(COHORTI_CHUNK_PREFIX_BYTES) + LARGE;
    for (uint64_t at = 0; at <= end; at += at > 200 && at + 200 < end ? 997 : 1) {
        for (int how = 0; how < 3; how++) {
            struct rig r;
            const uint64_t marks[COHORTI_LANE_COUNT] = {at, 0, 0};
            struct cohorti_lost one;
            unsigned last = 0;
            fill_lane(&r);
            if (how == 0) {
                (void)!rig_ack(&r, 0, at);
            } else {
                cohorti_outbound_link_ended(&r.out);
                (void)!rig_resume(&r, RIG_READER, RIG_HALF, marks);
            }
            assert_int_equal(rig_put(&r, 0, "t", 7, 'd'), COHORT_OK);
            if (how < 2) {
                cohorti_outbound_end(&r.out, 2, &r.lost);
            } else {
                assert_int_equal(rig_resume(&r, RIG_READER + 1, 0, NULL), COHORT_OK);
            }
            while (cohorti_undelivered_next(&r.lost, &r.out, &one)) {
                last = one.body == NULL ? 0 : one.body[0];
                assert_true(one.body_len == 10 || one.body_len == LARGE || one.body_len == 7);
            }
            assert_int_equal(last, how < 2 ? 'd' : at == end ? 0 : 'c'); /* the new reader is still to get the last one */
            rig_close(&r);
        }
    }
}

static void what_expires_behind_such_a_mark_is_told(void **state)
{
    for (uint64_t at = 0; at < 400; at++) {
        struct rig r;
        struct cohorti_lost one;
        const uint64_t marks[COHORTI_LANE_COUNT] = {at, 0, 0};
        const struct cohorti_put put = {
            .kind = COHORTI_KIND_MESSAGE, .subject = "t", .body = "late", .body_len = 4, .deadline_ns = 10};
        fill_lane(&r);
        cohorti_outbound_link_ended(&r.out);
        assert_int_equal(rig_resume(&r, RIG_READER, RIG_HALF, marks), COHORT_OK);
        cohorti_outbound_link_ended(&r.out);
        assert_int_equal(cohorti_outbound_put(&r.out, &put), COHORT_OK);
        cohorti_outbound_expire(&r.out, 9, &r.lost);
        expect_end(&r);
        cohorti_outbound_expire(&r.out, 10, &r.lost);
        assert_true(cohorti_undelivered_next(&r.lost, &r.out, &one));
        assert_string_equal(one.subject, "t");
        assert_memory_equal(one.body, "late", 4);
        assert_false(one.maybe_handled);
        expect_end(&r);
        rig_close(&r);
    }
}

/* There was no memory to announce the names again, so they are forgotten, and their numbers serve for others before all is told. */
static void a_number_that_serves_again_does_not_name_what_was_lost(void **state)
{
    struct rig r;
    struct cohorti_lost one;
    rig_open(&r);
    assert_int_equal(rig_put(&r, 0, "order", 10, 'a'), COHORT_OK);
    assert_int_equal(rig_resume(&r, RIG_READER, 0, NULL), COHORT_OK);
    (void)rig_write(&r, SIZE_MAX, NULL);
    r.memory.fail_at = r.memory.calls + 1;
    cohorti_outbound_end(&r.out, 2, &r.lost);
    assert_int_equal(rig_put(&r, 0, "cancel", 1, 'b'), COHORT_OK); /* another thread, or the callback that is told */
    assert_true(cohorti_undelivered_next(&r.lost, &r.out, &one));
    assert_int_equal(one.body_len, 10);
    assert_string_not_equal(one.subject, "cancel");
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_end_without_messages_tells_nothing),
        cmocka_unit_test(what_was_acknowledged_is_not_told_and_what_was_written_may_be_handled),
        cmocka_unit_test(what_was_written_once_stays_written),
        cmocka_unit_test(lanes_are_told_most_urgent_first),
        cmocka_unit_test(each_kind_is_told_as_what_it_was),
        cmocka_unit_test(raw_frames_keep_their_type),
        cmocka_unit_test(a_large_message_is_told_once_and_whole),
        cmocka_unit_test(a_large_message_whose_beginning_is_gone_is_told_without_its_body),
        cmocka_unit_test(without_memory_a_large_message_is_told_without_its_body),
        cmocka_unit_test(a_report_may_be_let_go_at_any_point),
        cmocka_unit_test(a_mark_inside_a_frame_ends_nobody),
        cmocka_unit_test(what_expires_behind_such_a_mark_is_told),
        cmocka_unit_test(a_number_that_serves_again_does_not_name_what_was_lost),
    };
    return RIG_RUN_TWICE(tests);
}
