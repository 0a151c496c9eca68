/* SPDX-License-Identifier: Apache-2.0
 *
 * core/outbound: what the reader's marks do, which are refused, and what another reader gets.
 */
#include "outbound_text.h"

/* ---- marks --------------------------------------------------------------------------------------------------------- */

static void an_acknowledgement_is_of_what_was_sent(void **state)
{
    struct rig r;
    rig_open(&r);
    assert_int_equal(rig_ack(&r, 0, 0), COHORT_EPROTOCOL); /* before RESUME */
    assert_int_equal(rig_resume(&r, RIG_READER, 0, NULL), COHORT_OK);
    assert_int_equal(rig_put(&r, 0, "s", 10, 'x'), COHORT_OK);
    assert_int_equal(rig_put(&r, 0, "s", 10, 'x'), COHORT_OK);
    (void)rig_write(&r, FRAME(5) + FRAME(10), stream);
    assert_int_equal(rig_ack(&r, 0, FRAME(5) + FRAME(10) + 1), COHORT_EPROTOCOL);
    assert_int_equal(rig_ack(&r, 1, 1), COHORT_EPROTOCOL);
    assert_int_equal(rig_ack(&r, 0, FRAME(5) + FRAME(10)), COHORT_OK);
    assert_int_equal(cohorti_outbound_len(&r.out), FRAME(10));
    assert_int_equal(rig_ack(&r, 0, FRAME(5)), COHORT_EPROTOCOL); /* takes back what it said */
    assert_int_equal(rig_ack(&r, 0, FRAME(5) + FRAME(10)), COHORT_OK);
    cohorti_outbound_link_ended(&r.out);
    assert_int_equal(rig_ack(&r, 0, FRAME(5) + FRAME(10)), COHORT_EPROTOCOL);
    rig_close(&r);
}

static void an_acknowledgement_may_overtake_who_writes(void **state)
{
    struct cohorti_slice slice;
    struct rig r;
    open_resumed(&r);
    assert_int_equal(rig_put(&r, 0, "s", 10, 'x'), COHORT_OK);
    assert_int_equal(cohorti_outbound_gather(&r.out, &slice, 1, SIZE_MAX), 1);
    struct cohorti_ack ack = {.present = 1, .lanes = {{.received = slice.len, .limit = RIG_WINDOW}}};
    assert_false(cohorti_outbound_ack_is_early(&r.out, &ack)); /* it is false */
    cohorti_outbound_hold(&r.out, &slice, 1);
    assert_true(cohorti_outbound_ack_is_early(&r.out, &ack));
    ack.lanes[0].received++;
    assert_false(cohorti_outbound_ack_is_early(&r.out, &ack));
    cohorti_outbound_advance(&r.out, &slice, 1, slice.len);
    ack.lanes[0].received--;
    assert_false(cohorti_outbound_ack_is_early(&r.out, &ack));
    assert_int_equal(cohorti_outbound_ack(&r.out, &ack), COHORT_OK);
    rig_close(&r);
}

/* Beyond what was ever written, or before what was acknowledged: refused, and as if it had not come. */
static void a_resume_that_claims_too_much_changes_nothing(void **state)
{
    const uint64_t acked = FRAME(5) + FRAME(10), sent = acked + FRAME(10);
    const struct {
        uint64_t mark;
        int status;
    } cases[] = {
        {sent + 1, COHORT_EPROTOCOL}, {acked - 1, COHORT_EPROTOCOL}, {0, COHORT_EPROTOCOL}, {acked, COHORT_OK}, {sent, COHORT_OK}};
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        struct rig r;
        struct cohorti_lost one;
        uint64_t marks[COHORTI_LANE_COUNT] = {cases[i].mark, 0, 0};
        open_resumed(&r);
        for (int k = 0; k < 3; k++) {
            assert_int_equal(rig_put(&r, 0, "s", 10, 'x'), COHORT_OK);
        }
        (void)rig_write(&r, (size_t)sent, stream);
        assert_int_equal(rig_ack(&r, 0, acked), COHORT_OK);
        cohorti_outbound_link_ended(&r.out);
        assert_int_equal(rig_resume(&r, RIG_READER, RIG_HALF, marks), cases[i].status);
        assert_false(cohorti_undelivered_next(&r.lost, &r.out, &one));
        assert_int_equal(r.out.resumed, cases[i].status == COHORT_OK);
        if (cases[i].status != COHORT_OK) {
            marks[0] = acked;
            assert_int_equal(rig_resume(&r, RIG_READER, RIG_HALF, marks), COHORT_OK);
        }
        assert_string_equal(written(&r), marks[0] == acked ? "MESSAGE 0:0 10 MESSAGE 0:0 10 " : "MESSAGE 0:0 10 ");
        rig_close(&r);
    }
}

/* ---- another reader ------------------------------------------------------------------------------------------------ */

static size_t told(struct rig *r)
{
    struct cohorti_lost one;
    size_t count = 0;
    while (cohorti_undelivered_next(&r->lost, &r->out, &one)) {
        count++;
    }
    return count;
}

static void another_reader_gets_names_again_and_what_was_not_written(void **state)
{
    struct rig r;
    open_resumed(&r);
    assert_int_equal(rig_put(&r, 0, "s", 10, 'x'), COHORT_OK);
    assert_int_equal(rig_put(&r, 0, "t", 20, 'x'), COHORT_OK);
    assert_int_equal(rig_put(&r, 0, "s", 30, 'x'), COHORT_OK);
    assert_int_equal(rig_put(&r, 0, "s", 40, 'x'), COHORT_OK);
    (void)rig_write(&r, 2 * FRAME(5) + FRAME(10) + FRAME(20) + FRAME(30) - 1, stream); /* all but one byte of the third */
    assert_int_equal(rig_ack(&r, 0, FRAME(5) + FRAME(10)), COHORT_OK);
    assert_int_equal(rig_resume(&r, RIG_READER + 1, 0, NULL), COHORT_OK);
    assert_string_equal(written(&r), "0:0=s 0:1=t MESSAGE 0:0 30 MESSAGE 0:0 40 ");
    assert_int_equal(told(&r), 1);
    assert_int_equal(rig_put(&r, 0, "t", 50, 'x'), COHORT_OK);
    assert_string_equal(written(&r), "MESSAGE 0:1 50 ");
    rig_close(&r);
}

static void a_large_message_goes_over_whole_or_is_told(void **state)
{
    for (size_t chunks = 0; chunks < 4; chunks++) {
        struct rig r;
        open_resumed(&r);
        assert_int_equal(rig_put(&r, 0, "s", 200000, 'x'), COHORT_OK);
        assert_int_equal(rig_put(&r, 0, "s", 1, 'x'), COHORT_OK);
        (void)rig_write(&r, FRAME(5) + chunks * FRAME(COHORTI_CHUNK_PREFIX_BYTES + COHORTI_CHUNK_BYTES_MAX) + 100, stream);
        assert_int_equal(rig_resume(&r, RIG_READER + 1, 0, NULL), COHORT_OK);
        assert_string_equal(written(&r),
                            chunks == 0 ? "0:0=s FIRST 0:0 65568 MIDDLE 0:0 65568 MIDDLE 0:0 65568 LAST 0:0 3360 MESSAGE 0:0 1 "
                                        : "0:0=s MESSAGE 0:0 1 ");
        assert_int_equal(told(&r), chunks == 0 ? 0 : 1);
        rig_close(&r);
    }
}

/* A call is between two processes. */
static void requests_and_replies_are_not_for_another_reader(void **state)
{
    struct cohorti_put put = {.kind = COHORTI_KIND_REQUEST, .subject = "s", .prefix = (const uint8_t *)"123456789012"};
    struct rig r;
    open_resumed(&r);
    put.prefix_len = COHORTI_REQUEST_PREFIX_BYTES;
    assert_int_equal(cohorti_outbound_put(&r.out, &put), COHORT_OK);
    put.body = stream;
    put.body_len = 100000;
    assert_int_equal(cohorti_outbound_put(&r.out, &put), COHORT_OK);
    assert_int_equal(rig_put(&r, 0, "s", 1, 'x'), COHORT_OK);
    put.subject = NULL;
    put.kind = COHORTI_KIND_REPLY;
    put.prefix_len = COHORTI_REPLY_PREFIX_BYTES;
    put.body_len = 0;
    assert_int_equal(cohorti_outbound_put(&r.out, &put), COHORT_OK);
    assert_int_equal(rig_resume(&r, RIG_READER + 1, 0, NULL), COHORT_OK);
    assert_string_equal(written(&r), "0:0=s MESSAGE 0:0 1 ");
    rig_close(&r);
}

/* Its first RESUME may have been lost with its link: as long as it took nothing, nothing is repeated or told. */
static void the_same_reader_may_begin_twice(void **state)
{
    struct rig r;
    open_resumed(&r);
    assert_int_equal(rig_put(&r, 0, "s", 10, 'x'), COHORT_OK);
    assert_string_equal(written(&r), "0:0=s MESSAGE 0:0 10 ");
    cohorti_outbound_link_ended(&r.out);
    assert_int_equal(rig_resume(&r, RIG_READER, 0, NULL), COHORT_OK);
    assert_string_equal(written(&r), "0:0=s MESSAGE 0:0 10 ");
    assert_int_equal(told(&r), 0);
    rig_close(&r);
}

/* Marks are believed about the half that is ours. */
static void marks_about_another_half_are_not_marks(void **state)
{
    struct rig r;
    const uint64_t marks[COHORTI_LANE_COUNT] = {FRAME(5) + FRAME(10), 0, 0};
    open_resumed(&r);
    assert_int_equal(rig_put(&r, 0, "s", 10, 'x'), COHORT_OK);
    assert_int_equal(rig_put(&r, 0, "s", 20, 'x'), COHORT_OK);
    (void)rig_write(&r, FRAME(5) + FRAME(10) + FRAME(20), stream);
    assert_int_equal(rig_ack(&r, 0, marks[0]), COHORT_OK);
    assert_int_equal(rig_put(&r, 0, "s", 30, 'x'), COHORT_OK);
    assert_int_equal(rig_resume(&r, RIG_READER, RIG_HALF + 1, marks), COHORT_OK);
    assert_string_equal(written(&r), "0:0=s MESSAGE 0:0 30 ");
    assert_int_equal(told(&r), 1);
    rig_close(&r);
}

/* They are of a numbering that ended when another reader came; one that has taken nothing of it may begin. */
static void an_earlier_reader_does_not_go_on(void **state)
{
    struct rig r;
    const uint64_t marks[COHORTI_LANE_COUNT] = {FRAME(5) + FRAME(10), 0, 0}, none[COHORTI_LANE_COUNT] = {0};
    open_resumed(&r);
    assert_int_equal(rig_put(&r, 0, "s", 10, 'x'), COHORT_OK);
    assert_string_equal(written(&r), "0:0=s MESSAGE 0:0 10 ");
    assert_int_equal(rig_ack(&r, 0, marks[0]), COHORT_OK);
    cohorti_outbound_link_ended(&r.out);
    assert_int_equal(rig_resume(&r, RIG_READER + 1, 0, NULL), COHORT_OK);
    assert_int_equal(rig_put(&r, 0, "s", 20, 'x'), COHORT_OK);
    assert_string_equal(written(&r), "0:0=s MESSAGE 0:0 20 ");
    cohorti_outbound_link_ended(&r.out);
    assert_int_equal(rig_resume(&r, RIG_READER, RIG_HALF, marks), COHORT_EPROTOCOL); /* though so much was written, to the other */
    assert_false(r.out.resumed);
    assert_int_equal(told(&r), 0);
    assert_int_equal(rig_resume(&r, RIG_READER, RIG_HALF, none), COHORT_OK);
    assert_string_equal(written(&r), "0:0=s ");
    assert_int_equal(told(&r), 1);
    rig_close(&r);
}

static void credit_of_a_reader_that_counts_something_else(void **state)
{
    const struct cohorti_resume resume = {.half = RIG_READER, .known = 77, .lanes = {{.received = 5000, .limit = 5100}}};
    struct rig r;
    rig_open(&r);
    assert_int_equal(cohorti_outbound_resume(&r.out, &resume, &r.lost), COHORT_OK);
    assert_true(r.out.lanes[0].limit == 100 && r.out.lanes[1].limit == 0);
    rig_close(&r);
}

/* Whatever memory there is: each message is told, or written to the new reader, once. */
static void another_reader_without_memory(void **state)
{
    bool failed = true;
    for (size_t n = 1; failed; n++) {
        struct rig r;
        open_resumed(&r);
        for (int i = 0; i < 40; i++) {
            assert_int_equal(rig_put(&r, 0, i % 2 == 0 ? "s" : "t", 5000, 'x'), COHORT_OK);
        }
        (void)rig_write(&r, 30000, stream);
        r.memory.fail_at = r.memory.calls + n;
        assert_int_equal(rig_resume(&r, RIG_READER + 1, 0, NULL), COHORT_OK);
        failed = r.memory.calls >= r.memory.fail_at;
        r.memory.fail_at = 0;
        size_t count = 0, all = told(&r);
        for (const char *at = written(&r); (at = strstr(at, "MESSAGE")) != NULL; at++) {
            count++;
        }
        assert_int_equal(count + all, 40);
        assert_true(failed || all < 10);
        assert_int_equal(rig_put(&r, 0, "t", 1, 'x'), COHORT_OK); /* it goes on */
        assert_non_null(strstr(written(&r), "MESSAGE"));
        rig_close(&r);
        assert_true(n < 100);
    }
}

static void what_is_held_does_not_expire(void **state)
{
    const struct cohorti_put put = {.kind = COHORTI_KIND_MESSAGE, .subject = "s", .deadline_ns = 5, .body = "x", .body_len = 1};
    struct cohorti_slice slice;
    struct rig r;
    open_resumed(&r);
    assert_int_equal(rig_put(&r, 0, "s", 1, 'x'), COHORT_OK);
    assert_int_equal(cohorti_outbound_put(&r.out, &put), COHORT_OK);
    assert_int_equal(cohorti_outbound_gather(&r.out, &slice, 1, SIZE_MAX), 1);
    cohorti_outbound_hold(&r.out, &slice, 1);
    cohorti_outbound_expire(&r.out, 5, &r.lost);
    assert_int_equal(told(&r), 0);
    assert_true(cohorti_outbound_expires_ns(&r.out) != UINT64_MAX);
    cohorti_outbound_advance(&r.out, &slice, 1, 3);
    cohorti_undelivered_deinit(&r.lost);
    cohorti_outbound_expire(&r.out, cohorti_outbound_expires_ns(&r.out), &r.lost);
    assert_int_equal(told(&r), 1);
    size_t len = rig_write(&r, STREAM_BYTES, stream + 3);
    memcpy(stream, slice.bytes, 3);
    assert_string_equal(narrate(stream, len + 3), "0:0=s MESSAGE 0:0 1 VOID 0:0 1 ");
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_acknowledgement_is_of_what_was_sent),
        cmocka_unit_test(an_acknowledgement_may_overtake_who_writes),
        cmocka_unit_test(a_resume_that_claims_too_much_changes_nothing),
        cmocka_unit_test(another_reader_gets_names_again_and_what_was_not_written),
        cmocka_unit_test(a_large_message_goes_over_whole_or_is_told),
        cmocka_unit_test(requests_and_replies_are_not_for_another_reader),
        cmocka_unit_test(the_same_reader_may_begin_twice),
        cmocka_unit_test(marks_about_another_half_are_not_marks),
        cmocka_unit_test(an_earlier_reader_does_not_go_on),
        cmocka_unit_test(credit_of_a_reader_that_counts_something_else),
        cmocka_unit_test(another_reader_without_memory),
        cmocka_unit_test(what_is_held_does_not_expire),
    };
    return RIG_RUN_TWICE(tests);
}
