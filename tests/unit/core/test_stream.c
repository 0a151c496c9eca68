/* SPDX-License-Identifier: Apache-2.0
 *
 * core/stream: what a stream puts into its lane, how far it fills it, what it leaves for the reader when it is given up, and what becomes
 * of it when links break and readers change: each ends once, done or lost.
 */
#include "core/stream.h"

#include "core/inbound.h"
#include "outbound_rig.h"
#include "wire/frame.h"

#include <stdio.h>

#define BYTES ((size_t)4 << 20)
#define CHUNK FRAME(COHORTI_CHUNK_PREFIX_BYTES + COHORTI_CHUNK_BYTES_MAX)
#define PIECE(len) FRAME(COHORTI_CHUNK_PREFIX_BYTES + (len))
#define NAMED FRAME(5)
#define UNKNOWN COHORTI_TOTAL_UNKNOWN

static uint8_t wire[BYTES], data[BYTES];
static char text[4096];

/* Messages as "M10", pieces as "1:0+100/300", the last of a stream with a dot, an abort as "1!", what is withdrawn as "v"; names not. */
static void say(const cohort_frame *frame)
{
    size_t len = strlen(text), left = sizeof text - len;
    struct cohorti_chunk c;
    if (cohorti_type_class(frame->type) != COHORTI_TYPE_SUBJECT) {
        return;
    }
    enum cohorti_kind kind = (enum cohorti_kind)cohorti_type_kind(frame->type);
    if (!cohorti_kind_is_chunk(kind)) {
        snprintf(text + len, left, kind == COHORTI_KIND_VOID ? "v " : "M%zu ", frame->data_len);
        return;
    }
    assert_int_equal(cohorti_chunk_decode(frame, &c), COHORT_OK);
    if (c.aborts) {
        snprintf(text + len, left, "%u! ", c.stream);
    } else if (c.total == UNKNOWN) {
        snprintf(text + len, left, "%u:%llu+%zu ", c.stream, (unsigned long long)c.at, c.data_len);
    } else {
        snprintf(text + len, left, "%u:%llu+%zu/%llu%s ", c.stream, (unsigned long long)c.at, c.data_len,
                 (unsigned long long)c.total, c.last ? "." : "");
    }
}

static const char *written(struct rig *r)
{
    size_t len = rig_write(r, BYTES, wire);
    text[0] = '\0';
    for (const uint8_t *at = wire; at < wire + len;) {
        cohort_frame frame;
        at = rig_frame(at, (size_t)(wire + len - at), &frame);
        say(&frame);
    }
    return text;
}

static void open_resumed(struct rig *r)
{
    rig_open(r);
    assert_int_equal(rig_resume(r, RIG_READER, 0, NULL), COHORT_OK);
}

static void open_stream(struct rig *r, struct cohorti_stream *s, uint64_t total)
{
    assert_int_equal(cohorti_stream_open(&r->out, s, 0, "s", total), COHORT_OK);
}

static void write_all(struct rig *r, struct cohorti_stream *s, size_t len)
{
    size_t taken = 0;
    assert_int_equal(cohorti_stream_write(&r->out, s, data, len, &taken), COHORT_OK);
    assert_int_equal(taken, len);
}

static int finish(struct rig *r, struct cohorti_stream *s)
{
    return cohorti_stream_finish(&r->out, s);
}

/* What is over is `expected`, once: done, or lost. */
static void expect_over(struct rig *r, struct cohorti_stream *expected, bool lost)
{
    assert_ptr_equal(cohorti_stream_next_over(&r->out), expected);
    assert_int_equal(expected->lost, lost);
    assert_null(cohorti_stream_next_over(&r->out));
}

static size_t told(struct rig *r)
{
    struct cohorti_lost one;
    size_t count = 0;
    while (cohorti_undelivered_next(&r->lost, &r->out, &one)) {
        count++;
    }
    return count;
}

/* ---- what is appended ---------------------------------------------------------------------------------------------- */

static void streams_and_messages_go_between_each_other(void **state)
{
    struct cohorti_stream a, b;
    struct rig r;
    open_resumed(&r);
    open_stream(&r, &a, 300);
    open_stream(&r, &b, UNKNOWN);
    write_all(&r, &a, 100);
    write_all(&r, &b, 10);
    assert_int_equal(rig_put(&r, 0, "s", 7, 'x'), COHORT_OK);
    write_all(&r, &b, 20);
    write_all(&r, &a, 200);
    assert_int_equal(finish(&r, &b), COHORT_OK);
    assert_int_equal(finish(&r, &a), COHORT_OK);
    assert_string_equal(written(&r), "1:0+100/300 2:0+10 M7 2:10+20 1:100+200/300. 2:30+0/30. ");
    assert_null(cohorti_stream_next_over(&r.out));
    assert_int_equal(rig_ack(&r, 0, r.out.lanes[0].log.appended - 1), COHORT_OK);
    expect_over(&r, &a, false);
    assert_int_equal(rig_ack(&r, 0, r.out.lanes[0].log.appended), COHORT_OK);
    expect_over(&r, &b, false);
    rig_close(&r);
}

static void a_stream_of_one_piece_or_none(void **state)
{
    struct cohorti_stream s[3];
    struct rig r;
    open_resumed(&r);
    open_stream(&r, &s[0], 5);
    open_stream(&r, &s[1], 0);
    open_stream(&r, &s[2], UNKNOWN);
    write_all(&r, &s[0], 5);
    for (size_t i = 0; i < 3; i++) {
        write_all(&r, &s[i], 0);
        assert_int_equal(finish(&r, &s[i]), COHORT_OK);
    }
    assert_string_equal(written(&r), "1:0+5/5. 2:0+0/0. 3:0+0/0. ");
    rig_close(&r);
}

static void large_writes_are_cut(void **state)
{
    struct cohorti_stream s;
    struct rig r;
    open_resumed(&r);
    open_stream(&r, &s, UNKNOWN);
    write_all(&r, &s, 2 * COHORTI_CHUNK_BYTES_MAX + 1);
    assert_string_equal(written(&r), "1:0+65552 1:65552+65552 1:131104+1 ");
    rig_close(&r);
}

static void what_was_announced_is_kept_to(void **state)
{
    struct cohorti_stream s;
    struct rig r;
    size_t taken = 9;
    open_resumed(&r);
    open_stream(&r, &s, 10);
    assert_int_equal(cohorti_stream_write(&r.out, &s, data, 11, &taken), COHORT_ESIZE);
    assert_int_equal(taken, 0);
    write_all(&r, &s, 9);
    assert_int_equal(finish(&r, &s), COHORT_ESIZE);
    assert_int_equal(cohorti_stream_write(&r.out, &s, data, 2, &taken), COHORT_ESIZE);
    write_all(&r, &s, 1);
    assert_int_equal(cohorti_stream_write(&r.out, &s, data, 1, &taken), COHORT_ESIZE);
    assert_int_equal(finish(&r, &s), COHORT_OK);
    assert_string_equal(written(&r), "1:0+9/10 1:9+1/10. ");
    rig_close(&r);
}

static void numbers_are_few_and_serve_again(void **state)
{
    struct cohorti_stream s[COHORTI_STREAMS_MAX], more, other;
    struct rig r;
    open_resumed(&r);
    for (size_t i = 0; i < COHORTI_STREAMS_MAX; i++) {
        open_stream(&r, &s[i], UNKNOWN);
        assert_int_equal(s[i].number, i + 1);
    }
    assert_int_equal(cohorti_stream_open(&r.out, &more, 0, "s", 1), COHORT_ELIMIT);
    assert_int_equal(cohorti_stream_open(&r.out, &other, 2, "s", 1), COHORT_OK); /* each lane has its own */
    assert_int_equal(finish(&r, &s[4]), COHORT_OK);
    (void)written(&r);
    assert_int_equal(cohorti_stream_open(&r.out, &more, 0, "s", 1), COHORT_ELIMIT);
    assert_int_equal(rig_ack(&r, 0, r.out.lanes[0].log.sent), COHORT_OK);
    expect_over(&r, &s[4], false);
    open_stream(&r, &more, 1);
    assert_int_equal(more.number, 5);
    rig_close(&r);
}

/* ---- back-pressure ------------------------------------------------------------------------------------------------- */

static void a_stream_fills_its_lane_but_for_a_quarter(void **state)
{
    struct cohorti_stream s;
    struct rig r;
    size_t taken = 0;
    open_resumed(&r);
    open_stream(&r, &s, UNKNOWN);
    assert_int_equal(cohorti_stream_write(&r.out, &s, data, BYTES, &taken), COHORT_EAGAIN);
    size_t queued = cohorti_outbound_len(&r.out), most = rig_limits.lane_bytes_max / 4 * 3;
    assert_true(queued <= most && queued > most - 8192);
    assert_int_equal(rig_put(&r, 0, "s", rig_limits.message_bytes_max / 2, 'x'), COHORT_OK);
    assert_int_equal(cohorti_outbound_writable(&r.out), 0);
    (void)rig_write(&r, BYTES, NULL);
    assert_int_equal(rig_ack(&r, 0, rig_limits.lane_bytes_max / 4), COHORT_OK);
    assert_int_equal(cohorti_outbound_writable(&r.out), 0);
    assert_int_equal(rig_ack(&r, 0, r.out.lanes[0].log.sent - rig_limits.lane_bytes_max / 2), COHORT_OK);
    assert_int_equal(cohorti_outbound_writable(&r.out), 1);
    assert_int_equal(cohorti_outbound_writable(&r.out), 0);
    assert_int_equal(cohorti_stream_write(&r.out, &s, data, 1000, &taken), COHORT_OK);
    rig_close(&r);
}

/* Refused only while something is outstanding whose acknowledgement makes room: else it would wait for ever. */
static void the_smallest_lane_takes_something(void **state)
{
    const struct cohorti_outbound_limits limits = {.lane_bytes_max = 1024, .message_bytes_max = 1024, .subjects_max = 4};
    struct rig r;
    rig_open(&r);
    cohorti_outbound_deinit(&r.out);
    cohorti_outbound_init(&r.out, &r.memory.alloc, &limits, RIG_HALF);
    assert_int_equal(rig_resume(&r, RIG_READER, 0, NULL), COHORT_OK);
    struct cohorti_stream s;
    open_stream(&r, &s, 20000);
    for (size_t rounds = 0; s.len < 20000; rounds++) {
        size_t taken = 0;
        int status = cohorti_stream_write(&r.out, &s, data, 20000 - (size_t)s.len, &taken);
        assert_true(taken > 0 && rounds < 100);
        assert_true(status == COHORT_OK || r.out.lanes[0].full);
        assert_true(cohorti_outbound_len(&r.out) <= limits.lane_bytes_max);
        (void)rig_write(&r, BYTES, NULL);
        assert_int_equal(rig_ack(&r, 0, r.out.lanes[0].log.sent), COHORT_OK);
        assert_int_equal(cohorti_outbound_writable(&r.out), status == COHORT_OK ? 0 : 1);
    }
    rig_close(&r);
}

/* ---- giving up ----------------------------------------------------------------------------------------------------- */

static void an_abort_is_told_to_who_has_read(void **state)
{
    struct cohorti_stream s, again;
    struct rig r;
    open_resumed(&r);
    open_stream(&r, &s, 100);
    cohorti_stream_abort(&r.out, &s); /* nothing of it was appended */
    assert_string_equal(written(&r), "");
    open_stream(&r, &s, 100);
    write_all(&r, &s, 10);
    cohorti_stream_abort(&r.out, &s);
    open_stream(&r, &again, 3);
    assert_int_equal(again.number, s.number);
    write_all(&r, &again, 3);
    cohorti_stream_abort(&r.out, &again); /* all of it is under way */
    assert_string_equal(written(&r), "1:0+10/100 1! 1:0+3/3. ");
    assert_int_equal(rig_ack(&r, 0, r.out.lanes[0].log.sent), COHORT_OK);
    assert_null(cohorti_stream_next_over(&r.out));
    rig_close(&r);
}

static void an_abort_without_memory_is_told_later(void **state)
{
    struct cohorti_stream s, next;
    struct rig r;
    open_resumed(&r);
    open_stream(&r, &s, UNKNOWN);
    while (r.out.lanes[0].log.last == NULL || r.out.lanes[0].log.last->cap - r.out.lanes[0].log.last->len >= FRAME(16)) {
        size_t left = r.out.lanes[0].log.last == NULL ? 0 : r.out.lanes[0].log.last->cap - r.out.lanes[0].log.last->len;
        write_all(&r, &s, left > FRAME(16) + 1 ? left - FRAME(16) : 1);
    }
    r.memory.fail_at = r.memory.calls + 1;
    cohorti_stream_abort(&r.out, &s);
    open_stream(&r, &next, 1);
    assert_int_equal(next.number, 2); /* the number is not free yet */
    assert_null(strstr(written(&r), "!"));
    r.memory.fail_at = 0;
    assert_int_equal(rig_ack(&r, 0, r.out.lanes[0].log.sent), COHORT_OK);
    assert_string_equal(written(&r), "1! ");
    rig_close(&r);
}

/* No acknowledgement comes then, at which it would be tried again: the owner is told that it is to be. */
static void an_abort_without_memory_and_nothing_outstanding(void **state)
{
    struct cohorti_stream s, next;
    struct rig r;
    open_resumed(&r);
    open_stream(&r, &s, UNKNOWN);
    write_all(&r, &s, 10000);
    (void)written(&r);
    assert_int_equal(rig_ack(&r, 0, r.out.lanes[0].log.sent), COHORT_OK);
    while (cohorti_outbound_rest(&r.out)) { /* until no block is left */
    }
    assert_false(cohorti_streams_owe(&r.out));
    r.memory.fail_at = r.memory.calls + 1;
    r.memory.fail_from = true;
    cohorti_stream_abort(&r.out, &s);
    assert_true(cohorti_streams_owe(&r.out));
    cohorti_streams_retry(&r.out);
    assert_true(cohorti_streams_owe(&r.out));
    assert_string_equal(written(&r), "");
    r.memory.fail_at = 0;
    cohorti_streams_retry(&r.out);
    assert_false(cohorti_streams_owe(&r.out));
    open_stream(&r, &next, 1);
    assert_int_equal(next.number, 1);
    assert_string_equal(written(&r), "1! ");
    rig_close(&r);
}

static void a_write_without_memory_takes_what_it_says(void **state)
{
    bool failed = true;
    for (size_t n = 1; failed; n++) {
        struct cohorti_stream s;
        struct rig r;
        size_t taken = 0, again = 0;
        open_resumed(&r);
        open_stream(&r, &s, 200000);
        r.memory.fail_at = r.memory.calls + n;
        int status = cohorti_stream_write(&r.out, &s, data, 200000, &taken);
        failed = r.memory.calls >= r.memory.fail_at;
        assert_int_equal(status, failed ? COHORT_ENOMEM : COHORT_OK);
        assert_true(s.len == taken && (taken == 200000) == !failed);
        assert_int_equal(cohorti_stream_write(&r.out, &s, data + taken, 200000 - taken, &again), COHORT_OK);
        assert_int_equal(finish(&r, &s), COHORT_OK);
        assert_non_null(strstr(written(&r), "/200000. "));
        rig_close(&r);
        assert_true(n < 50);
    }
}

/* ---- readers change ------------------------------------------------------------------------------------------------ */

/* What its first reader has begun to read is lost with it; what it has not, goes on with the next one. */
static void another_reader_gets_whole_streams_only(void **state)
{
    const size_t first = NAMED + PIECE(10), second = PIECE(20);
    const struct {
        size_t written;
        bool lost_a, lost_b;
        const char *next;
    } cases[] = {{0, false, false, "1:0+10/100 2:0+20 M5 1:10+30/100 "},
                 {first - 1, false, false, "1:0+10/100 2:0+20 M5 1:10+30/100 "},
                 {first, true, false, "2:0+20 M5 "},
                 {first + second, true, true, "M5 "},
                 {first + second + FRAME(5) + PIECE(30), true, true, ""}};
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        struct cohorti_stream a, b, *over;
        struct rig r;
        open_resumed(&r);
        open_stream(&r, &a, 100);
        open_stream(&r, &b, UNKNOWN);
        write_all(&r, &a, 10);
        write_all(&r, &b, 20);
        assert_int_equal(rig_put(&r, 0, "s", 5, 'x'), COHORT_OK);
        write_all(&r, &a, 30);
        (void)rig_write(&r, cases[i].written, NULL);
        assert_int_equal(rig_resume(&r, RIG_READER + 1, 0, NULL), COHORT_OK);
        unsigned lost = 0;
        while ((over = cohorti_stream_next_over(&r.out)) != NULL) {
            assert_true(over->lost);
            lost++;
        }
        assert_int_equal(a.lost, cases[i].lost_a);
        assert_int_equal(b.lost, cases[i].lost_b);
        assert_int_equal(lost, cases[i].lost_a + cases[i].lost_b);
        assert_string_equal(written(&r), cases[i].next);
        assert_int_equal(told(&r), i == 4 ? 1 : 0); /* the message; never a piece */
        size_t taken = 0;
        assert_int_equal(cohorti_stream_write(&r.out, &a, data, 60, &taken), a.lost ? COHORT_ESTATE : COHORT_OK);
        assert_int_equal(finish(&r, &a), a.lost ? COHORT_ESTATE : COHORT_OK);
        assert_string_equal(written(&r), a.lost ? "" : "1:40+60/100. ");
        assert_int_equal(rig_ack(&r, 0, r.out.lanes[0].log.sent), COHORT_OK);
        if (!a.lost) {
            expect_over(&r, &a, false);
        }
        rig_close(&r);
    }
}

/* Given up before its reader left: neither the pieces nor the abort mean anything to the next one, and its number is free. */
static void what_was_given_up_does_not_go_over(void **state)
{
    for (int written_before = 0; written_before < 2; written_before++) {
        struct cohorti_stream s;
        struct rig r;
        open_resumed(&r);
        open_stream(&r, &s, 100);
        write_all(&r, &s, 10);
        if (written_before == 1) {
            (void)rig_write(&r, BYTES, NULL);
        }
        cohorti_stream_abort(&r.out, &s);
        assert_int_equal(rig_resume(&r, RIG_READER + 1, 0, NULL), COHORT_OK);
        assert_string_equal(written(&r), "");
        assert_int_equal(told(&r), 0);
        open_stream(&r, &s, 4);
        assert_int_equal(s.number, 1);
        rig_close(&r);
    }
}

/* All of it was acknowledged before its owner said that it is all. */
static void what_was_acknowledged_whole_is_not_lost(void **state)
{
    for (int how = 0; how < 3; how++) {
        struct cohorti_stream s;
        struct rig r;
        open_resumed(&r);
        open_stream(&r, &s, 100);
        write_all(&r, &s, 100);
        (void)rig_write(&r, BYTES, NULL);
        assert_int_equal(rig_ack(&r, 0, r.out.lanes[0].log.sent), COHORT_OK);
        if (how == 0) {
            assert_int_equal(rig_resume(&r, RIG_READER + 1, 0, NULL), COHORT_OK);
        } else if (how == 1) {
            cohorti_outbound_end(&r.out, RIG_HALF + 1, &r.lost);
        } else {
            cohorti_outbound_left(&r.out);
        }
        assert_null(cohorti_stream_next_over(&r.out));
        assert_int_equal(finish(&r, &s), COHORT_OK);
        expect_over(&r, &s, false);
        rig_close(&r);
    }
}

static void a_reader_that_leaves_takes_what_it_acknowledged_along(void **state)
{
    struct cohorti_stream a, b;
    struct rig r;
    open_resumed(&r);
    open_stream(&r, &a, 100);
    open_stream(&r, &b, 50);
    write_all(&r, &a, 10);
    write_all(&r, &b, 50);
    assert_int_equal(finish(&r, &b), COHORT_OK);
    (void)rig_write(&r, BYTES, NULL);
    assert_int_equal(rig_ack(&r, 0, NAMED + PIECE(10)), COHORT_OK);
    cohorti_outbound_left(&r.out);
    expect_over(&r, &a, true);
    assert_int_equal(rig_resume(&r, RIG_READER + 1, 0, NULL), COHORT_OK);
    assert_string_equal(written(&r), "2:0+50/50. ");
    assert_int_equal(rig_ack(&r, 0, r.out.lanes[0].log.sent), COHORT_OK);
    expect_over(&r, &b, false);
    rig_close(&r);
}

static void a_session_that_ends_loses_them_all(void **state)
{
    struct cohorti_stream s[3];
    struct rig r;
    open_resumed(&r);
    for (size_t i = 0; i < 3; i++) {
        open_stream(&r, &s[i], 100);
    }
    write_all(&r, &s[1], 10);
    write_all(&r, &s[2], 100);
    assert_int_equal(finish(&r, &s[2]), COHORT_OK);
    cohorti_outbound_end(&r.out, RIG_HALF + 1, &r.lost);
    assert_int_equal(told(&r), 0);
    for (size_t i = 0; i < 3; i++) {
        assert_non_null(cohorti_stream_next_over(&r.out));
        assert_true(s[i].lost);
    }
    assert_null(cohorti_stream_next_over(&r.out));
    cohorti_stream_abort(&r.out, &s[0]); /* harmless */
    assert_int_equal(r.out.lanes[0].stream_numbers, 0);
    rig_close(&r);
}

/* Whatever memory there is: each is carried over or lost, and one that is carried is whole. */
static void another_reader_without_memory(void **state)
{
    bool failed = true;
    for (size_t n = 1; failed; n++) {
        struct cohorti_stream s[4];
        struct rig r;
        open_resumed(&r);
        for (size_t i = 0; i < 4; i++) {
            open_stream(&r, &s[i], 50000);
            write_all(&r, &s[i], 40000);
        }
        (void)rig_write(&r, NAMED + PIECE(40000), NULL);
        r.memory.fail_at = r.memory.calls + n;
        assert_int_equal(rig_resume(&r, RIG_READER + 1, 0, NULL), COHORT_OK);
        failed = r.memory.calls >= r.memory.fail_at;
        r.memory.fail_at = 0;
        unsigned lost = 0;
        while (cohorti_stream_next_over(&r.out) != NULL) {
            lost++;
        }
        assert_true(s[0].lost && lost == (failed ? 4 : 1));
        assert_string_equal(written(&r), failed ? "" : "2:0+40000/50000 3:0+40000/50000 4:0+40000/50000 ");
        rig_close(&r);
        assert_true(n < 50);
    }
}

/* A message that is withdrawn while a link stands leaves the places of a stream alone. */
static void what_expires_between_pieces(void **state)
{
    struct cohorti_put put = {.kind = COHORTI_KIND_MESSAGE, .subject = "s", .body = data, .body_len = 9, .deadline_ns = 5};
    struct cohorti_stream s;
    struct rig r;
    rig_open(&r);
    assert_int_equal(cohorti_outbound_put(&r.out, &put), COHORT_OK);
    open_stream(&r, &s, 20);
    write_all(&r, &s, 10);
    assert_int_equal(cohorti_outbound_put(&r.out, &put), COHORT_OK);
    write_all(&r, &s, 10);
    assert_int_equal(finish(&r, &s), COHORT_OK);
    assert_int_equal(rig_resume(&r, RIG_READER, 0, NULL), COHORT_OK);
    cohorti_outbound_expire(&r.out, 5, &r.lost);
    assert_int_equal(told(&r), 2);
    assert_string_equal(written(&r), "v 1:0+10/20 v 1:10+10/20. ");
    assert_int_equal(rig_ack(&r, 0, r.out.lanes[0].log.sent - 1), COHORT_OK);
    assert_null(cohorti_stream_next_over(&r.out));
    assert_int_equal(rig_ack(&r, 0, r.out.lanes[0].log.sent), COHORT_OK);
    expect_over(&r, &s, false);
    rig_close(&r);
}

/* ---- both halves, and a link that breaks at every byte --------------------------------------------------------------- */

static void read_frames(struct cohorti_inbound *in, struct cohorti_frame_reader *reader, const uint8_t *bytes, size_t len,
                        uint8_t *out, size_t *got, unsigned *ends)
{
    struct unit_bytes copy = unit_bytes_copy(bytes, len);
    cohort_frame frame;
    cohorti_frame_reader_feed(reader, copy.bytes, len);
    while (cohorti_frame_reader_next(reader, &frame) == 1) {
        struct cohorti_delivery d;
        const char *why = "";
        assert_int_equal(cohorti_inbound_take(in, &frame, &d, &why), COHORT_OK);
        if (d.partial != NULL) {
            d.partial->reader = d.chunk.last ? NULL : out;
            assert_int_equal(d.chunk.at, *got);
            memcpy(out + *got, d.chunk.data, d.chunk.data_len);
            *got += d.chunk.data_len;
            *ends += d.chunk.last;
        }
        cohorti_inbound_commit(in, &d, true);
    }
    unit_bytes_free(&copy);
}

static void a_link_breaks_at_every_byte_of_a_stream(void **state)
{
    static const struct cohorti_inbound_limits limits = {.message_bytes_max = 10, .subjects_max = 4, .window_bytes = 100000};
    const size_t all = NAMED + PIECE(100) + PIECE(0) + PIECE(150) + FRAME(3) + PIECE(0);
    for (size_t i = 0; i < 500; i++) {
        data[i] = (uint8_t)(i * 13);
    }
    for (size_t cut = 0; cut <= all; cut++) {
        struct cohorti_stream s;
        struct cohorti_frame_reader reader;
        struct cohorti_resume marks;
        struct cohorti_inbound in;
        struct rig r;
        uint8_t out[500];
        size_t got = 0;
        unsigned ends = 0;
        open_resumed(&r);
        cohorti_inbound_init(&in, &r.memory.alloc, &limits);
        cohorti_inbound_marks(&in, RIG_READER, &marks);
        assert_true(cohorti_inbound_resume(&in, RIG_HALF));
        open_stream(&r, &s, UNKNOWN);
        write_all(&r, &s, 100);
        size_t taken = 0;
        assert_int_equal(cohorti_stream_write(&r.out, &s, data + 100, 150, &taken), COHORT_OK);
        assert_int_equal(rig_put(&r, 0, "s", 3, 'x'), COHORT_OK);
        assert_int_equal(finish(&r, &s), COHORT_OK);
        cohorti_frame_reader_init(&reader, &r.memory.alloc, 100000);
        read_frames(&in, &reader, wire, rig_write(&r, cut, wire), out, &got, &ends);
        cohorti_frame_reader_deinit(&reader);
        cohorti_outbound_link_ended(&r.out);
        cohorti_frame_reader_init(&reader, &r.memory.alloc, 100000);
        cohorti_inbound_marks(&in, RIG_READER, &marks);
        assert_int_equal(cohorti_outbound_resume(&r.out, &marks, &r.lost), COHORT_OK);
        read_frames(&in, &reader, wire, rig_write(&r, BYTES, wire), out, &got, &ends);
        assert_true(got == 250 && ends == 1 && memcmp(out, data, 250) == 0);
        struct cohorti_ack ack;
        if (cohorti_inbound_ack(&in, &ack)) {
            cohorti_inbound_told(&in, &ack);
            assert_int_equal(cohorti_outbound_ack(&r.out, &ack), COHORT_OK);
        }
        expect_over(&r, &s, false);
        cohorti_frame_reader_deinit(&reader);
        cohorti_inbound_deinit(&in);
        rig_close(&r);
    }
}

/* Its owner has not finished it yet. Its place was in a log that is gone: another stream may stand there now. */
static void a_place_in_a_log_that_is_gone_is_no_place(void **state)
{
    struct rig r;
    struct cohorti_stream a, b;
    open_resumed(&r);
    open_stream(&r, &a, 100);
    write_all(&r, &a, 100);
    (void)written(&r);
    assert_int_equal(rig_ack(&r, 0, r.out.lanes[0].log.sent), COHORT_OK); /* all of it */
    cohorti_outbound_link_ended(&r.out);
    assert_int_equal(rig_resume(&r, RIG_READER + 1, 0, NULL), COHORT_OK);
    (void)written(&r); /* the name */
    assert_int_equal(rig_ack(&r, 0, r.out.lanes[0].log.sent), COHORT_OK);
    cohorti_outbound_link_ended(&r.out);
    open_stream(&r, &b, 300);
    write_all(&r, &b, 200); /* while nobody is there */
    assert_int_equal(rig_resume(&r, RIG_READER + 2, 0, NULL), COHORT_OK);
    assert_false(b.lost);
    assert_string_equal(written(&r), "2:0+200/300 ");
    assert_null(cohorti_stream_next_over(&r.out));
    cohorti_stream_abort(&r.out, &b);
    assert_string_equal(written(&r), "2! ");
    assert_int_equal(cohorti_stream_finish(&r.out, &a), COHORT_OK);
    assert_ptr_equal(cohorti_stream_next_over(&r.out), &a);
    rig_close(&r);
}

/* It is open, perhaps for hours, and has no place in the lane: what was withdrawn need not stay for it. Here the lane is full of it. */
static void a_stream_that_was_not_begun_keeps_nothing_in_its_lane(void **state)
{
    struct rig r;
    struct cohorti_stream s;
    struct cohorti_put put = {.subject = "m", .body = data, .body_len = 60000, .deadline_ns = 50};
    size_t taken = 0;
    rig_open(&r);
    while (cohorti_outbound_put(&r.out, &put) == COHORT_OK) { /* nobody is there */
    }
    open_stream(&r, &s, UNKNOWN);
    assert_int_equal(cohorti_stream_write(&r.out, &s, data, 100, &taken), COHORT_EAGAIN);
    cohorti_outbound_expire(&r.out, 50, &r.lost);
    assert_true(cohorti_outbound_len(&r.out) < 100); /* the name */
    assert_int_equal(cohorti_outbound_writable(&r.out), 1);
    assert_int_equal(cohorti_outbound_put(&r.out, &put), COHORT_OK);
    cohorti_stream_abort(&r.out, &s);
    rig_close(&r);
}

/* Its pieces stand between messages that were withdrawn. It goes to the reader that comes, and to the next if that one had nothing. */
static void a_stream_moves_up_with_its_lane(void **state)
{
    for (int readers = 1; readers <= 2; readers++) {
        struct rig r;
        struct cohorti_stream s;
        struct cohorti_put put = {.subject = "m", .body = data, .body_len = 1000, .deadline_ns = 50};
        rig_open(&r);
        open_stream(&r, &s, 300);
        assert_int_equal(cohorti_outbound_put(&r.out, &put), COHORT_OK);
        write_all(&r, &s, 200);
        assert_int_equal(cohorti_outbound_put(&r.out, &put), COHORT_OK);
        write_all(&r, &s, 100);
        assert_int_equal(rig_put(&r, 0, "m", 10, 1), COHORT_OK);
        cohorti_outbound_expire(&r.out, 50, &r.lost);
        assert_int_equal(cohorti_outbound_len(&r.out), 2 * NAMED + PIECE(200) + PIECE(100) + FRAME(10));
        for (int reader = 0; reader < readers; reader++) {
            cohorti_undelivered_deinit(&r.lost);
            assert_int_equal(rig_resume(&r, RIG_READER + (uint64_t)reader, 0, NULL), COHORT_OK);
            if (reader + 1 < readers) {
                cohorti_outbound_link_ended(&r.out);
            }
        }
        assert_string_equal(written(&r), "1:0+200/300 1:200+100/300. M10 ");
        assert_int_equal(cohorti_stream_finish(&r.out, &s), COHORT_OK);
        uint64_t behind = r.out.lanes[0].log.appended - FRAME(10);
        assert_int_equal(rig_ack(&r, 0, behind - 1), COHORT_OK);
        assert_null(cohorti_stream_next_over(&r.out));
        assert_int_equal(rig_ack(&r, 0, behind), COHORT_OK);
        assert_ptr_equal(cohorti_stream_next_over(&r.out), &s);
        assert_false(s.lost);
        rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_and_messages_go_between_each_other),
        cmocka_unit_test(a_stream_of_one_piece_or_none),
        cmocka_unit_test(large_writes_are_cut),
        cmocka_unit_test(what_was_announced_is_kept_to),
        cmocka_unit_test(numbers_are_few_and_serve_again),
        cmocka_unit_test(a_stream_fills_its_lane_but_for_a_quarter),
        cmocka_unit_test(the_smallest_lane_takes_something),
        cmocka_unit_test(an_abort_is_told_to_who_has_read),
        cmocka_unit_test(an_abort_without_memory_is_told_later),
        cmocka_unit_test(an_abort_without_memory_and_nothing_outstanding),
        cmocka_unit_test(a_write_without_memory_takes_what_it_says),
        cmocka_unit_test(another_reader_gets_whole_streams_only),
        cmocka_unit_test(what_was_given_up_does_not_go_over),
        cmocka_unit_test(what_was_acknowledged_whole_is_not_lost),
        cmocka_unit_test(a_reader_that_leaves_takes_what_it_acknowledged_along),
        cmocka_unit_test(a_session_that_ends_loses_them_all),
        cmocka_unit_test(another_reader_without_memory),
        cmocka_unit_test(what_expires_between_pieces),
        cmocka_unit_test(a_link_breaks_at_every_byte_of_a_stream),
        cmocka_unit_test(a_place_in_a_log_that_is_gone_is_no_place),
        cmocka_unit_test(a_stream_that_was_not_begun_keeps_nothing_in_its_lane),
        cmocka_unit_test(a_stream_moves_up_with_its_lane),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
