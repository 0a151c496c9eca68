/* SPDX-License-Identifier: Apache-2.0
 *
 * core/inbound: what each frame means, which may not stand where they do, what is counted and when, what is said to the peer, and
 * that a frame which failed for lack of memory is taken when it comes again. Messages in chunks are put together here as the shell does
 * for handlers that take messages; test_inbound_streams.c has the rest.
 */
#include "core/inbound.h"

#include "support.h"

#include <cohort/frame.h>
#include <stdlib.h>
#include <string.h>

#define SUBJECT UINT32_C(0xc0000004)
#define HEADER COHORT_FRAME_HEADER_BYTES
#define WINDOW 100000

struct rig {
    struct unit_memory memory;
    struct cohorti_inbound in;
    struct cohorti_delivery got;
    const char *why;
};

static const struct cohorti_inbound_limits limits = {.message_bytes_max = 50000, .subjects_max = 3, .window_bytes = WINDOW};

static void rig_open(struct rig *r)
{
    struct cohorti_resume told;
    memset(r, 0, sizeof *r);
    unit_memory_init(&r->memory);
    cohorti_inbound_init(&r->in, &r->memory.alloc, &limits);
    cohorti_inbound_marks(&r->in, 1, &told);
    assert_true(cohorti_inbound_resume(&r->in, 50));
}

static void rig_close(struct rig *r)
{
    cohorti_inbound_deinit(&r->in);
    unit_memory_assert_empty(&r->memory);
}

/* Data in memory of its own, gone afterwards: of what was given, only what is the lane's stays. */
static int look(struct rig *r, uint32_t type, const void *data, size_t len)
{
    struct unit_bytes copy = unit_bytes_copy(data, len);
    const cohort_frame frame = {.type = type, .data = copy.bytes, .data_len = len};
    int status = cohorti_inbound_take(&r->in, &frame, &r->got, &r->why);
    if (status == COHORT_OK && r->got.chunk.first && r->got.kind == COHORTI_KIND_MESSAGE) {
        assert_false(r->got.nothing);
        status = cohorti_inbound_collect(&r->in, &r->got);
        r->got.nothing = !r->got.whole;
    }
    unit_bytes_free(&copy);
    return status;
}

static uint64_t received(const struct rig *r)
{
    return r->in.lanes[0].received + r->in.lanes[1].received + r->in.lanes[2].received;
}

static int take(struct rig *r, uint32_t type, const void *data, size_t len)
{
    uint64_t before = received(r);
    int status = look(r, type, data, len);
    assert_true(received(r) == before); /* nothing counts before commit */
    if (status == COHORT_OK) {
        assert_int_equal(r->got.frame_bytes, HEADER + len);
        cohorti_inbound_commit(&r->in, &r->got, true);
        assert_true(received(r) == before + HEADER + len);
    }
    return status;
}

static int name(struct rig *r, unsigned lane, unsigned number, const char *text)
{
    uint8_t data[4 + 300] = {(uint8_t)(lane << 1), 0, 0, (uint8_t)number};
    memcpy(data + 4, text, strlen(text));
    return take(r, SUBJECT, data, 4 + strlen(text));
}

static uint32_t type_of(enum cohorti_kind kind, unsigned lane, uint32_t number)
{
    return cohorti_type_subject(kind, lane, number);
}

static void put_u64(uint8_t *at, uint64_t v)
{
    for (int i = 7; i >= 0; i--, v >>= 8) {
        at[i] = (uint8_t)v;
    }
}

struct piece {
    enum cohorti_kind kind, of;
    size_t total, at, len;
};

static int chunk_of(struct rig *r, unsigned lane, uint32_t number, const struct piece *p, bool commit)
{
    uint8_t *data = malloc(16 + p->len);
    assert_non_null(data);
    put_u64(data, (uint64_t)p->of << 56 | p->total);
    put_u64(data + 8, p->at);
    for (size_t i = 0; i < p->len; i++) {
        data[16 + i] = (uint8_t)(p->at + i);
    }
    uint32_t type = type_of(p->kind, lane, number);
    int status = commit ? take(r, type, data, 16 + p->len) : look(r, type, data, 16 + p->len);
    free(data);
    return status;
}

#define FIRST COHORTI_KIND_CHUNK_FIRST
#define MIDDLE COHORTI_KIND_CHUNK_MIDDLE
#define LAST COHORTI_KIND_CHUNK_LAST

static int chunk(struct rig *r, enum cohorti_kind kind, size_t total, size_t at, size_t len)
{
    return chunk_of(r, 0, 0, &(struct piece){kind, COHORTI_KIND_MESSAGE, total, at, len}, true);
}

/* Of the message of number 0 that has begun in lane 0. */
static size_t put_together(const struct rig *r)
{
    return r->in.lanes[0].partials == NULL ? 0 : (size_t)r->in.lanes[0].partials->len;
}

/* ---- what frames mean ---------------------------------------------------------------------------------------------- */

static void a_message_has_the_name_of_its_number_in_its_lane(void **state)
{
    struct rig r;
    rig_open(&r);
    assert_int_equal(name(&r, 0, 0, "a"), COHORT_OK);
    assert_true(r.got.nothing);
    assert_int_equal(name(&r, 0, 1, "b"), COHORT_OK);
    assert_int_equal(name(&r, 2, 0, "c"), COHORT_OK);
    assert_int_equal(take(&r, type_of(COHORTI_KIND_MESSAGE, 0, 1), "xyz", 3), COHORT_OK);
    assert_false(r.got.nothing || r.got.raw);
    assert_string_equal(r.got.subject->name, "b");
    assert_int_equal(r.got.body_len, 3);
    assert_int_equal(take(&r, type_of(COHORTI_KIND_MESSAGE, 2, 0), "", 0), COHORT_OK);
    assert_string_equal(r.got.subject->name, "c");
    assert_int_equal(r.got.lane, 2);
    r.got.subject->cache = &r;
    assert_int_equal(take(&r, type_of(COHORTI_KIND_MESSAGE, 2, 0), "x", 1), COHORT_OK);
    assert_ptr_equal(r.got.subject->cache, &r);
    rig_close(&r);
}

static void calls_have_their_prefix(void **state)
{
    static const uint8_t data[20] = "123456789012body";
    struct rig r;
    rig_open(&r);
    assert_int_equal(name(&r, 1, 0, "a"), COHORT_OK);
    const cohort_frame request = {.type = type_of(COHORTI_KIND_REQUEST, 1, 0), .data = data, .data_len = 16};
    const cohort_frame reply = {.type = type_of(COHORTI_KIND_REPLY, 1, 0), .data = data, .data_len = 16};
    assert_int_equal(cohorti_inbound_take(&r.in, &request, &r.got, &r.why), COHORT_OK);
    assert_string_equal(r.got.subject->name, "a");
    assert_ptr_equal(r.got.prefix, data);
    assert_ptr_equal(r.got.body, data + COHORTI_REQUEST_PREFIX_BYTES);
    assert_int_equal(r.got.body_len, 4);
    assert_int_equal(cohorti_inbound_take(&r.in, &reply, &r.got, &r.why), COHORT_OK);
    assert_null(r.got.subject);
    assert_ptr_equal(r.got.body, data + COHORTI_REPLY_PREFIX_BYTES);
    assert_int_equal(take(&r, type_of(COHORTI_KIND_REQUEST, 1, 0), data, COHORTI_REQUEST_PREFIX_BYTES - 1), COHORT_EPROTOCOL);
    assert_int_equal(take(&r, type_of(COHORTI_KIND_REPLY, 1, 0), data, COHORTI_REPLY_PREFIX_BYTES - 1), COHORT_EPROTOCOL);
    assert_int_equal(take(&r, type_of(COHORTI_KIND_ERROR_REPLY, 1, 0), data, COHORTI_ERROR_PREFIX_BYTES - 1), COHORT_EPROTOCOL);
    assert_int_equal(take(&r, type_of(COHORTI_KIND_ERROR_REPLY, 1, 0), data, COHORTI_ERROR_PREFIX_BYTES), COHORT_OK);
    assert_int_equal(r.got.body_len, 0);
    rig_close(&r);
}

static void what_was_withdrawn_is_counted_and_not_looked_at(void **state)
{
    struct rig r;
    rig_open(&r);
    assert_int_equal(take(&r, type_of(COHORTI_KIND_VOID, 2, 777), "whatever", 8), COHORT_OK);
    assert_true(r.got.nothing);
    assert_true(r.in.lanes[2].received == HEADER + 8);
    rig_close(&r);
}

static void raw_frames_are_of_the_normal_lane(void **state)
{
    static const uint8_t data[60000];
    struct rig r;
    rig_open(&r);
    assert_int_equal(take(&r, 7, "raw", 3), COHORT_OK);
    assert_true(r.got.raw && r.got.raw_type == 7 && r.got.lane == 0 && r.got.subject == NULL);
    assert_int_equal(take(&r, 7, data, limits.message_bytes_max), COHORT_OK);
    assert_int_equal(take(&r, 7, data, limits.message_bytes_max + 1), COHORT_ELENGTH);
    rig_close(&r);
}

/* ---- what may not come --------------------------------------------------------------------------------------------- */

/* Refused, with a reason, and nothing has changed. */
static void expect_refused(struct rig *r, int expected, int status)
{
    assert_int_equal(status, expected);
    assert_true(strlen(r->why) > 5);
}

static void names_come_in_order_and_keep_their_numbers(void **state)
{
    struct rig r;
    rig_open(&r);
    expect_refused(&r, COHORT_EPROTOCOL, take(&r, type_of(COHORTI_KIND_MESSAGE, 0, 0), "x", 1));
    expect_refused(&r, COHORT_EPROTOCOL, name(&r, 0, 1, "b"));
    assert_int_equal(name(&r, 0, 0, "a"), COHORT_OK);
    expect_refused(&r, COHORT_EPROTOCOL, name(&r, 0, 0, "b"));
    assert_int_equal(name(&r, 0, 0, "a"), COHORT_OK); /* again: carried over */
    expect_refused(&r, COHORT_EPROTOCOL, take(&r, type_of(COHORTI_KIND_MESSAGE, 0, 1), "x", 1));
    expect_refused(&r, COHORT_EPROTOCOL, take(&r, type_of(COHORTI_KIND_MESSAGE, 1, 0), "x", 1));
    expect_refused(&r, COHORT_EPROTOCOL, name(&r, 3, 0, "a"));
    expect_refused(&r, COHORT_EPROTOCOL, take(&r, SUBJECT, "\0\0\0\1#7", 6));
    expect_refused(&r, COHORT_EPROTOCOL, take(&r, SUBJECT, "\0\0\0", 3));
    assert_int_equal(name(&r, 0, 1, "b"), COHORT_OK);
    assert_int_equal(name(&r, 0, 2, "c"), COHORT_OK);
    expect_refused(&r, COHORT_ELIMIT, name(&r, 0, 3, "d"));
    assert_int_equal(name(&r, 1, 0, "d"), COHORT_OK);
    assert_int_equal(take(&r, type_of(COHORTI_KIND_MESSAGE, 0, 2), "x", 1), COHORT_OK);
    rig_close(&r);
}

static void a_lane_nobody_knows(void **state)
{
    struct rig r;
    rig_open(&r);
    expect_refused(&r, COHORT_EPROTOCOL, take(&r, type_of(COHORTI_KIND_MESSAGE, 3, 0), "x", 1));
    expect_refused(&r, COHORT_EPROTOCOL, take(&r, type_of(COHORTI_KIND_VOID, 3, 0), "x", 1));
    rig_close(&r);
}

static void messages_are_limited(void **state)
{
    static const uint8_t data[60000];
    struct rig r;
    rig_open(&r);
    assert_int_equal(name(&r, 0, 0, "a"), COHORT_OK);
    assert_int_equal(take(&r, type_of(COHORTI_KIND_MESSAGE, 0, 0), data, limits.message_bytes_max), COHORT_OK);
    expect_refused(&r, COHORT_ESIZE, take(&r, type_of(COHORTI_KIND_MESSAGE, 0, 0), data, limits.message_bytes_max + 1));
    assert_int_equal(take(&r, type_of(COHORTI_KIND_REQUEST, 0, 0), data, limits.message_bytes_max + COHORTI_REQUEST_PREFIX_BYTES),
                     COHORT_OK);
    rig_close(&r);
}

/* ---- large messages ------------------------------------------------------------------------------------------------ */

static void pieces_are_put_together(void **state)
{
    static const size_t cuts[] = {1, 2, 24999, 49998, 49999};
    for (size_t i = 0; i + 1 < UNIT_COUNT(cuts); i++) {
        struct rig r;
        rig_open(&r);
        assert_int_equal(name(&r, 0, 0, "a"), COHORT_OK);
        assert_int_equal(chunk(&r, FIRST, 50000, 0, cuts[i]), COHORT_OK);
        assert_true(r.got.nothing);
        assert_int_equal(chunk(&r, MIDDLE, 50000, cuts[i], cuts[i + 1] - cuts[i]), COHORT_OK);
        assert_true(r.got.nothing);
        assert_int_equal(
            chunk_of(&r, 0, 0, &(struct piece){LAST, COHORTI_KIND_MESSAGE, 50000, cuts[i + 1], 50000 - cuts[i + 1]}, false),
            COHORT_OK);
        assert_false(r.got.nothing);
        assert_int_equal(r.got.kind, COHORTI_KIND_MESSAGE);
        assert_string_equal(r.got.subject->name, "a");
        assert_int_equal(r.got.body_len, 50000);
        for (size_t b = 0; b < 50000; b++) {
            assert_int_equal(r.got.body[b], (uint8_t)b);
        }
        cohorti_inbound_commit(&r.in, &r.got, true);
        assert_int_equal(take(&r, type_of(COHORTI_KIND_MESSAGE, 0, 0), "x", 1), COHORT_OK);
        assert_true(r.memory.bytes < 1000); /* it was given back */
        rig_close(&r);
    }
}

static void each_lane_puts_its_own_together(void **state)
{
    struct rig r;
    rig_open(&r);
    for (unsigned lane = 0; lane < COHORTI_LANE_COUNT; lane++) {
        assert_int_equal(name(&r, lane, 0, "a"), COHORT_OK);
        assert_int_equal(chunk_of(&r, lane, 0, &(struct piece){FIRST, COHORTI_KIND_REQUEST, 100 + lane, 0, 50}, true), COHORT_OK);
    }
    for (unsigned lane = 0; lane < COHORTI_LANE_COUNT; lane++) {
        assert_int_equal(chunk_of(&r, lane, 0, &(struct piece){LAST, COHORTI_KIND_REQUEST, 100 + lane, 50, 50 + lane}, true),
                         COHORT_OK);
        assert_int_equal(r.got.lane, lane);
        assert_int_equal(r.got.kind, COHORTI_KIND_REQUEST);
        assert_int_equal(r.got.body_len, 100 + lane - COHORTI_REQUEST_PREFIX_BYTES);
    }
    rig_close(&r);
}

static void malformed_chunks(void **state)
{
    static const struct piece bad[] = {
        {FIRST, COHORTI_KIND_MESSAGE, 100, 0, 0},      /* empty */
        {FIRST, COHORTI_KIND_MESSAGE, 100, 0, 100},    /* a message of one chunk */
        {FIRST, COHORTI_KIND_MESSAGE, 100, 0, 101},    /* beyond its end */
        {FIRST, COHORTI_KIND_MESSAGE, 100, 10, 10},    /* a first that is not at the beginning */
        {MIDDLE, COHORTI_KIND_MESSAGE, 100, 0, 10},    /* a middle that is */
        {LAST, COHORTI_KIND_MESSAGE, 100, 50, 10},     /* a last that does not reach the end */
        {MIDDLE, COHORTI_KIND_MESSAGE, 100, 50, 50},   /* a middle that does */
        {MIDDLE, COHORTI_KIND_MESSAGE, 100, 101, 1},   /* behind the end */
        {FIRST, COHORTI_KIND_CHUNK_FIRST, 100, 0, 10}, /* a chunk of chunks */
        {FIRST, COHORTI_KIND_VOID, 100, 0, 10},        /* of nothing */
    };
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        struct rig r;
        rig_open(&r);
        assert_int_equal(name(&r, 0, 0, "a"), COHORT_OK);
        expect_refused(&r, COHORT_EPROTOCOL, chunk_of(&r, 0, 0, &bad[i], true));
        assert_int_equal(put_together(&r), 0);
        rig_close(&r);
    }
    struct rig r;
    rig_open(&r);
    expect_refused(&r, COHORT_EPROTOCOL, take(&r, type_of(FIRST, 0, 0), "short", 5));
    rig_close(&r);
}

/* They come in order, and are of one message; anything else may come between them. */
static void pieces_out_of_turn(void **state)
{
    const size_t half = 50;
    struct rig r;
    rig_open(&r);
    assert_int_equal(name(&r, 0, 0, "a"), COHORT_OK);
    assert_int_equal(name(&r, 0, 1, "b"), COHORT_OK);
    assert_int_equal(name(&r, 1, 0, "a"), COHORT_OK);
    expect_refused(&r, COHORT_EPROTOCOL, chunk(&r, MIDDLE, 100, 10, 10));
    expect_refused(&r, COHORT_EPROTOCOL, chunk(&r, LAST, 100, half, half));
    assert_int_equal(chunk(&r, FIRST, 100, 0, half), COHORT_OK);
    expect_refused(&r, COHORT_EPROTOCOL, chunk(&r, FIRST, 100, 0, half));
    expect_refused(&r, COHORT_EPROTOCOL, chunk(&r, LAST, 100, half + 1, half - 1));
    expect_refused(&r, COHORT_EPROTOCOL, chunk(&r, MIDDLE, 100, half - 1, 10));
    expect_refused(&r, COHORT_EPROTOCOL, chunk(&r, LAST, 101, half, half + 1));
    expect_refused(&r, COHORT_EPROTOCOL, chunk_of(&r, 0, 1, &(struct piece){LAST, COHORTI_KIND_MESSAGE, 100, half, half}, true));
    expect_refused(&r, COHORT_EPROTOCOL, chunk_of(&r, 0, 0, &(struct piece){LAST, COHORTI_KIND_REQUEST, 100, half, half}, true));
    expect_refused(&r, COHORT_EPROTOCOL, chunk_of(&r, 1, 0, &(struct piece){LAST, COHORTI_KIND_MESSAGE, 100, half, half}, true));
    assert_int_equal(take(&r, type_of(COHORTI_KIND_MESSAGE, 0, 0), "x", 1), COHORT_OK);
    assert_int_equal(take(&r, type_of(COHORTI_KIND_VOID, 0, 0), "x", 1), COHORT_OK);
    assert_int_equal(take(&r, 7, "x", 1), COHORT_OK);
    assert_int_equal(name(&r, 0, 2, "c"), COHORT_OK);
    assert_int_equal(take(&r, type_of(COHORTI_KIND_MESSAGE, 1, 0), "x", 1), COHORT_OK);
    assert_int_equal(chunk(&r, LAST, 100, half, half), COHORT_OK);
    rig_close(&r);
}

static void large_messages_are_limited_before_memory_is_taken(void **state)
{
    struct rig r;
    rig_open(&r);
    assert_int_equal(name(&r, 0, 0, "a"), COHORT_OK);
    size_t before = r.memory.bytes;
    assert_int_equal(chunk(&r, FIRST, limits.message_bytes_max + 1, 0, 10), COHORT_ESIZE);
    assert_int_equal(chunk(&r, FIRST, ((size_t)1 << 56) - 2, 0, 10), COHORT_ESIZE);
    assert_true(r.memory.bytes - before < 200);
    const struct piece reply = {FIRST, COHORTI_KIND_REPLY, limits.message_bytes_max + COHORTI_REPLY_PREFIX_BYTES + 1, 0, 10};
    expect_refused(&r, COHORT_ESIZE, chunk_of(&r, 0, 0, &reply, true));
    assert_int_equal(chunk(&r, FIRST, limits.message_bytes_max, 0, 40000), COHORT_OK);
    assert_int_equal(chunk(&r, LAST, limits.message_bytes_max, 40000, limits.message_bytes_max - 40000), COHORT_OK);
    rig_close(&r);
}

/* Taken, the link ends before it was delivered, and it comes again. */
static void what_was_not_committed_is_taken_again(void **state)
{
    struct rig r;
    rig_open(&r);
    assert_int_equal(name(&r, 0, 0, "a"), COHORT_OK);
    const struct piece pieces[] = {{FIRST, COHORTI_KIND_MESSAGE, 300, 0, 100},
                                   {MIDDLE, COHORTI_KIND_MESSAGE, 300, 100, 100},
                                   {LAST, COHORTI_KIND_MESSAGE, 300, 200, 100}};
    for (size_t i = 0; i < UNIT_COUNT(pieces); i++) {
        for (int again = 0; again < 3; again++) {
            assert_int_equal(chunk_of(&r, 0, 0, &pieces[i], false), COHORT_OK);
            assert_int_equal(put_together(&r), i * 100);
        }
        cohorti_inbound_commit(&r.in, &r.got, true);
    }
    assert_int_equal(put_together(&r), 0);
    assert_true(r.in.lanes[0].received == HEADER + 5 + 3 * (HEADER + 16 + 100));
    rig_close(&r);
}

static void without_memory_a_frame_comes_again(void **state)
{
    static const char *const names[] = {"a", "b", "c"};
    bool failed = true;
    for (size_t n = 1; failed; n++) {
        struct rig r;
        unsigned refused = 0;
        rig_open(&r);
        r.memory.fail_at = r.memory.calls + n;
        for (unsigned lane = 0; lane < COHORTI_LANE_COUNT; lane++) {
            for (unsigned i = 0; i < 3; i++) {
                int status;
                while ((status = name(&r, lane, i, names[i])) == COHORT_ENOMEM) {
                    assert_int_equal(r.in.lanes[lane].subject_count, i);
                    refused++;
                }
                assert_int_equal(status, COHORT_OK);
            }
            const struct piece first = {FIRST, COHORTI_KIND_MESSAGE, 300, 0, 100}, last = {LAST, COHORTI_KIND_MESSAGE, 300, 100, 200};
            int status = chunk_of(&r, lane, 2, &first, true);
            if (status == COHORT_ENOMEM) {
                refused++;
                status = chunk_of(&r, lane, 2, &first, true);
            }
            assert_int_equal(status, COHORT_OK);
            assert_int_equal(chunk_of(&r, lane, 2, &last, true), COHORT_OK);
            assert_int_equal(r.got.body_len, 300);
        }
        failed = r.memory.calls >= r.memory.fail_at;
        assert_int_equal(refused, failed ? 1 : 0);
        rig_close(&r);
    }
}

/* ---- what is said to the peer -------------------------------------------------------------------------------------- */

static bool tell(struct cohorti_inbound *in, struct cohorti_ack *ack)
{
    bool some = cohorti_inbound_ack(in, ack);
    cohorti_inbound_told(in, ack);
    return some;
}

/* What could not be said is to be said still. */
static void what_is_not_said_stays_untold(void **state)
{
    struct cohorti_ack first, ack;
    struct rig r;
    rig_open(&r);
    assert_int_equal(take(&r, 7, "x", 1), COHORT_OK);
    assert_true(cohorti_inbound_ack(&r.in, &first));
    assert_int_equal(cohorti_inbound_untold(&r.in), HEADER + 1);
    assert_true(cohorti_inbound_ack(&r.in, &ack));
    assert_memory_equal(&ack, &first, sizeof ack);
    assert_int_equal(take(&r, 7, "x", 1), COHORT_OK);
    cohorti_inbound_told(&r.in, &first);
    assert_int_equal(cohorti_inbound_untold(&r.in), HEADER + 1);
    rig_close(&r);
}

/* The bulk lane, whose pace is measured by what is told; and the end of what came in chunks. */
static void what_the_peer_waits_for_is_known(void **state)
{
    static const uint8_t data[40000];
    struct cohorti_ack ack;
    struct rig r;
    rig_open(&r);
    assert_int_equal(name(&r, 0, 0, "a"), COHORT_OK);
    assert_int_equal(name(&r, 2, 0, "b"), COHORT_OK);
    assert_int_equal(take(&r, type_of(COHORTI_KIND_MESSAGE, 0, 0), data, sizeof data), COHORT_OK);
    assert_false(cohorti_inbound_is_awaited(&r.in, 40000));
    assert_int_equal(take(&r, type_of(COHORTI_KIND_MESSAGE, 2, 0), data, sizeof data), COHORT_OK);
    assert_true(cohorti_inbound_is_awaited(&r.in, 40000));
    assert_true(tell(&r.in, &ack));
    assert_false(cohorti_inbound_is_awaited(&r.in, 40000));
    assert_int_equal(chunk(&r, FIRST, 40000, 0, 39990), COHORT_OK);
    assert_false(cohorti_inbound_is_awaited(&r.in, 40000));
    const struct piece last = {COHORTI_KIND_CHUNK_LAST, COHORTI_KIND_MESSAGE, 40000, 39990, 10};
    assert_int_equal(chunk_of(&r, 0, 0, &last, true), COHORT_OK);
    assert_true(cohorti_inbound_is_awaited(&r.in, 40000));
    assert_true(tell(&r.in, &ack));
    assert_false(cohorti_inbound_is_awaited(&r.in, 40000));
    assert_int_equal(chunk(&r, FIRST, 40000, 0, 39990), COHORT_OK);
    assert_int_equal(chunk_of(&r, 0, 0, &last, true), COHORT_OK);
    cohorti_inbound_marks(&r.in, 1, &(struct cohorti_resume){0}); /* told with RESUME */
    assert_false(cohorti_inbound_is_awaited(&r.in, 40000));
    rig_close(&r);
}

static void what_was_taken_is_told_once(void **state)
{
    struct cohorti_ack ack;
    struct rig r;
    rig_open(&r);
    assert_int_equal(cohorti_inbound_untold(&r.in), 0);
    assert_false(tell(&r.in, &ack));
    assert_int_equal(name(&r, 1, 0, "a"), COHORT_OK);
    assert_int_equal(take(&r, type_of(COHORTI_KIND_MESSAGE, 1, 0), "x", 1), COHORT_OK);
    assert_int_equal(cohorti_inbound_untold(&r.in), 2 * HEADER + 5 + 1);
    assert_true(tell(&r.in, &ack));
    assert_int_equal(ack.present, 1U << 1);
    assert_true(ack.lanes[1].received == 2 * HEADER + 6 && ack.lanes[1].limit == 2 * HEADER + 6 + WINDOW);
    assert_int_equal(cohorti_inbound_untold(&r.in), 0);
    assert_false(tell(&r.in, &ack));
    assert_int_equal(take(&r, 7, "x", 1), COHORT_OK);
    assert_int_equal(take(&r, type_of(COHORTI_KIND_MESSAGE, 1, 0), "x", 1), COHORT_OK);
    assert_true(tell(&r.in, &ack));
    assert_int_equal(ack.present, 3);
    rig_close(&r);
}

/* Delivered to a queue: acknowledged, so that the peer need not keep it; but it gives no credit until the queue was emptied. */
static void credit_follows_what_was_consumed(void **state)
{
    static const uint8_t data[1000];
    struct cohorti_ack ack;
    struct rig r;
    rig_open(&r);
    assert_int_equal(look(&r, 7, data, 1000), COHORT_OK);
    cohorti_inbound_commit(&r.in, &r.got, false);
    assert_true(tell(&r.in, &ack));
    assert_true(ack.lanes[0].received == HEADER + 1000 && ack.lanes[0].limit == WINDOW);
    cohorti_inbound_consumed(&r.in, 0, 500);
    assert_int_equal(cohorti_inbound_untold(&r.in), 500);
    assert_true(tell(&r.in, &ack));
    assert_true(ack.lanes[0].limit == WINDOW + 500);
    cohorti_inbound_consumed(&r.in, 0, HEADER + 500);
    assert_true(tell(&r.in, &ack));
    assert_true(ack.lanes[0].limit == WINDOW + HEADER + 1000 && ack.lanes[0].received == HEADER + 1000);
    rig_close(&r);
}

/* Its pieces gave their credit back while it was put together, or one larger than the window could never come; as it waits, it holds
 * what all of it is. What was told before stands. */
static void a_large_message_that_waits_holds_credit_for_all_of_it(void **state)
{
    const uint64_t frames = HEADER + 1 + 2 * HEADER + 2 * 16 + 40000; /* SUBJECT, and two pieces */
    struct cohorti_ack ack;
    struct rig r;
    rig_open(&r);
    assert_int_equal(name(&r, 0, 0, "a"), COHORT_OK);
    for (int i = 0; i < 2; i++) {
        uint64_t before = i == 0 ? 0 : frames;
        assert_int_equal(chunk(&r, FIRST, 40000, 0, 39990), COHORT_OK);
        assert_true(tell(&r.in, &ack));
        uint64_t told = ack.lanes[0].limit;
        const struct piece last = {COHORTI_KIND_CHUNK_LAST, COHORTI_KIND_MESSAGE, 40000, 39990, 10};
        assert_int_equal(chunk_of(&r, 0, 0, &last, false), COHORT_OK);
        cohorti_inbound_commit(&r.in, &r.got, false);
        assert_true(tell(&r.in, &ack));
        assert_true(ack.lanes[0].received > before && ack.lanes[0].limit == told);
        assert_true(r.in.lanes[0].waiting == (uint64_t)40000 * (unsigned)(i + 1));
    }
    cohorti_inbound_consumed(&r.in, 0, 80000);
    assert_true(tell(&r.in, &ack) && ack.lanes[0].limit == ack.lanes[0].received + WINDOW);
    rig_close(&r);
}

/* A peer that is restarted again and again does not fill a queue that nobody empties: what its earlier halves left there holds credit. */
static void what_an_earlier_half_left_waiting_holds_credit(void **state)
{
    static const uint8_t data[1000 - HEADER];
    struct cohorti_resume marks;
    struct cohorti_ack ack;
    struct rig r;
    rig_open(&r);
    uint64_t taken = 0;
    for (uint64_t half = 51; half < 60; half++) {
        while (look(&r, 7, data, sizeof data) == COHORT_OK) {
            cohorti_inbound_commit(&r.in, &r.got, false);
            taken += 1000;
        }
        cohorti_inbound_marks(&r.in, 1, &marks);
        assert_true(cohorti_inbound_resume(&r.in, half));
        assert_false(tell(&r.in, &ack)); /* no credit */
    }
    assert_true(taken >= WINDOW && taken < WINDOW + COHORTI_RUN_BYTES_MAX + 1000);
    cohorti_inbound_consumed(&r.in, 0, taken - 500);
    assert_true(tell(&r.in, &ack) && ack.lanes[0].received == 0 && ack.lanes[0].limit == WINDOW - 500);
    assert_int_equal(look(&r, 7, data, sizeof data), COHORT_OK);
    rig_close(&r);
}

/* A frame may begin at most a run beyond the limit; it is counted, and the next marks are still such that limit >= received. */
static void a_frame_beyond_the_credit_is_refused(void **state)
{
    static const uint8_t data[1000 - HEADER];
    struct cohorti_resume marks;
    struct rig r;
    rig_open(&r);
    uint64_t taken = 0;
    int status;
    while ((look(&r, 7, data, sizeof data)) == COHORT_OK) {
        cohorti_inbound_commit(&r.in, &r.got, false);
        taken += 1000;
        assert_true(taken < 2 * WINDOW);
    }
    status = look(&r, 7, data, sizeof data);
    expect_refused(&r, COHORT_EPROTOCOL, status);
    assert_true(taken - 1000 < WINDOW + COHORTI_RUN_BYTES_MAX && taken >= WINDOW + COHORTI_RUN_BYTES_MAX);
    assert_true(r.in.lanes[0].received == taken);
    cohorti_inbound_marks(&r.in, 1, &marks);
    assert_true(marks.lanes[0].limit >= marks.lanes[0].received);
    assert_int_equal(name(&r, 1, 0, "a"), COHORT_OK); /* each lane has its own */
    rig_close(&r);
}

static void a_session_goes_on_with_the_same_half_and_begins_anew_with_another(void **state)
{
    struct cohorti_resume marks;
    struct cohorti_ack ack;
    struct rig r;
    rig_open(&r);
    assert_int_equal(name(&r, 0, 0, "a"), COHORT_OK);
    assert_int_equal(chunk(&r, FIRST, 300, 0, 100), COHORT_OK);
    cohorti_inbound_marks(&r.in, 9, &marks);
    assert_true(marks.half == 9 && marks.known == 50 && marks.lanes[0].received == 2 * HEADER + 5 + 116);
    assert_true(marks.lanes[1].received == 0 && marks.lanes[1].limit == WINDOW);
    assert_false(cohorti_inbound_resume(&r.in, 50));
    assert_false(tell(&r.in, &ack)); /* RESUME has told */
    assert_int_equal(chunk(&r, MIDDLE, 300, 100, 100), COHORT_OK);
    assert_true(cohorti_inbound_resume(&r.in, 51));
    assert_int_equal(r.memory.blocks, 0);
    assert_false(tell(&r.in, &ack));
    expect_refused(&r, COHORT_EPROTOCOL, take(&r, type_of(COHORTI_KIND_MESSAGE, 0, 0), "x", 1));
    assert_int_equal(name(&r, 0, 0, "b"), COHORT_OK);
    assert_true(tell(&r.in, &ack));
    assert_true(ack.lanes[0].received == HEADER + 5);
    cohorti_inbound_marks(&r.in, 9, &marks);
    assert_true(marks.known == 51 && marks.lanes[0].received == HEADER + 5);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_has_the_name_of_its_number_in_its_lane),
        cmocka_unit_test(calls_have_their_prefix),
        cmocka_unit_test(what_was_withdrawn_is_counted_and_not_looked_at),
        cmocka_unit_test(raw_frames_are_of_the_normal_lane),
        cmocka_unit_test(names_come_in_order_and_keep_their_numbers),
        cmocka_unit_test(a_lane_nobody_knows),
        cmocka_unit_test(messages_are_limited),
        cmocka_unit_test(pieces_are_put_together),
        cmocka_unit_test(each_lane_puts_its_own_together),
        cmocka_unit_test(malformed_chunks),
        cmocka_unit_test(pieces_out_of_turn),
        cmocka_unit_test(large_messages_are_limited_before_memory_is_taken),
        cmocka_unit_test(what_was_not_committed_is_taken_again),
        cmocka_unit_test(without_memory_a_frame_comes_again),
        cmocka_unit_test(what_the_peer_waits_for_is_known),
        cmocka_unit_test(what_was_taken_is_told_once),
        cmocka_unit_test(what_is_not_said_stays_untold),
        cmocka_unit_test(credit_follows_what_was_consumed),
        cmocka_unit_test(a_large_message_that_waits_holds_credit_for_all_of_it),
        cmocka_unit_test(what_an_earlier_half_left_waiting_holds_credit),
        cmocka_unit_test(a_frame_beyond_the_credit_is_refused),
        cmocka_unit_test(a_session_goes_on_with_the_same_half_and_begins_anew_with_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
