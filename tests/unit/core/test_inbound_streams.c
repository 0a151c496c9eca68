/* SPDX-License-Identifier: Apache-2.0
 *
 * core/inbound: chunks of several streams between each other, given on piece by piece, put together, both, or neither; what ends them;
 * how many there may be; and that of a total nobody knows no more is kept than the limit.
 */
#include "core/inbound.h"

#include "support.h"

#include <cohort/frame.h>
#include <stdlib.h>
#include <string.h>

#define HEADER COHORT_FRAME_HEADER_BYTES
#define UNKNOWN COHORTI_TOTAL_UNKNOWN
#define FIRST COHORTI_KIND_CHUNK_FIRST
#define MIDDLE COHORTI_KIND_CHUNK_MIDDLE
#define LAST COHORTI_KIND_CHUNK_LAST

struct rig {
    struct unit_memory memory;
    struct cohorti_inbound in;
    struct cohorti_delivery got;
    const char *why;
    bool reads, collects; /* what becomes of a message that begins */
    int collected;        /* what collecting said */
};

static const struct cohorti_inbound_limits limits = {.message_bytes_max = 1000, .subjects_max = 3, .window_bytes = 1000000};

static void rig_open(struct rig *r, bool reads, bool collects)
{
    struct cohorti_resume told;
    memset(r, 0, sizeof *r);
    r->reads = reads;
    r->collects = collects;
    unit_memory_init(&r->memory);
    cohorti_inbound_init(&r->in, &r->memory.alloc, &limits);
    cohorti_inbound_marks(&r->in, 1, &told);
    assert_true(cohorti_inbound_resume(&r->in, 50));
    const cohort_frame name = {.type = 0xc0000004, .data = (const uint8_t *)"\0\0\0\0a", .data_len = 5};
    assert_int_equal(cohorti_inbound_take(&r->in, &name, &r->got, &r->why), COHORT_OK);
    cohorti_inbound_commit(&r->in, &r->got, true);
}

static void rig_close(struct rig *r)
{
    while (cohorti_inbound_take_reader(&r->in) != NULL) {
    }
    cohorti_inbound_deinit(&r->in);
    unit_memory_assert_empty(&r->memory);
}

static int take(struct rig *r, enum cohorti_kind kind, const struct cohorti_chunk *c, size_t len, bool commit)
{
    uint8_t *data = malloc(16 + len);
    assert_non_null(data);
    cohorti_chunk_encode_prefix(data, c);
    for (size_t i = 0; i < len; i++) {
        data[16 + i] = (uint8_t)(c->stream + c->at + i);
    }
    const cohort_frame frame = {.type = cohorti_type_subject(kind, 0, 0), .data = data, .data_len = 16 + len};
    int status = cohorti_inbound_take(&r->in, &frame, &r->got, &r->why);
    if (status == COHORT_OK && r->got.chunk.first) {
        assert_string_equal(r->got.subject->name, "a");
        r->got.partial->reader = r->reads && commit ? r : NULL;
        r->collected = r->collects ? cohorti_inbound_collect(&r->in, &r->got) : COHORT_OK;
    }
    if (status == COHORT_OK && commit) {
        if (r->got.chunk.last || r->got.chunk.aborts) {
            r->got.partial->reader = NULL;
        }
        cohorti_inbound_commit(&r->in, &r->got, true);
    }
    free(data);
    return status;
}

static int piece(struct rig *r, enum cohorti_kind kind, unsigned stream, uint64_t total, uint64_t at, size_t len)
{
    return take(r, kind, &(struct cohorti_chunk){.stream = (uint16_t)stream, .total = total, .at = at}, len, true);
}

static int gives_up(struct rig *r, unsigned stream)
{
    return take(r, LAST, &(struct cohorti_chunk){.stream = (uint16_t)stream, .aborts = true}, 0, true);
}

/* ---- pieces -------------------------------------------------------------------------------------------------------- */

static void streams_come_between_each_other(void **state)
{
    struct rig r;
    rig_open(&r, true, false);
    assert_int_equal(piece(&r, FIRST, 1, 100, 0, 10), COHORT_OK);
    assert_false(r.got.nothing);
    assert_int_equal(piece(&r, FIRST, 2, UNKNOWN, 0, 20), COHORT_OK);
    assert_int_equal(piece(&r, FIRST, 0, 30, 0, 20), COHORT_OK);
    assert_int_equal(piece(&r, MIDDLE, 1, 100, 10, 50), COHORT_OK);
    assert_true(!r.got.nothing && !r.got.whole && r.got.chunk.at == 10 && r.got.chunk.data_len == 50 && r.got.subject != NULL);
    assert_int_equal(piece(&r, LAST, 0, 30, 20, 10), COHORT_OK);
    assert_int_equal(piece(&r, MIDDLE, 2, UNKNOWN, 20, 1), COHORT_OK);
    assert_int_equal(piece(&r, LAST, 2, 21, 21, 0), COHORT_OK);
    assert_true(r.got.chunk.last && r.got.chunk.total == 21);
    assert_int_equal(piece(&r, LAST, 1, 100, 60, 40), COHORT_OK);
    assert_int_equal(r.in.lanes[0].partial_count, 0);
    assert_true(r.memory.bytes < 100);
    rig_close(&r);
}

static void a_stream_of_one_piece(void **state)
{
    struct rig r;
    rig_open(&r, false, true);
    assert_int_equal(piece(&r, LAST, 1, 10, 0, 10), COHORT_OK);
    assert_true(r.got.whole && r.got.body_len == 10);
    assert_int_equal(piece(&r, LAST, 1, 0, 0, 0), COHORT_OK);
    assert_true(r.got.whole && r.got.body_len == 0);
    assert_int_equal(piece(&r, LAST, 0, 10, 0, 10), COHORT_EPROTOCOL); /* it would be a frame */
    rig_close(&r);
}

static void nobody_reads(void **state)
{
    struct rig r;
    rig_open(&r, false, false);
    assert_int_equal(piece(&r, FIRST, 1, 100000, 0, 60000), COHORT_OK);
    assert_int_equal(piece(&r, MIDDLE, 1, 100000, 60000, 10), COHORT_OK);
    assert_true(r.got.nothing);
    assert_int_equal(piece(&r, LAST, 1, 100000, 60010, 39990), COHORT_OK);
    assert_true(r.got.nothing);
    assert_int_equal(piece(&r, FIRST, 1, 100, 0, 60), COHORT_OK);
    assert_int_equal(gives_up(&r, 1), COHORT_OK);
    assert_true(r.got.nothing && r.got.chunk.aborts);
    rig_close(&r);
}

static void read_and_put_together(void **state)
{
    struct rig r;
    rig_open(&r, true, true);
    assert_int_equal(piece(&r, FIRST, 3, 100, 0, 60), COHORT_OK);
    assert_true(!r.got.nothing && !r.got.whole);
    const struct cohorti_chunk last = {.stream = 3, .total = 100, .at = 60};
    assert_int_equal(take(&r, LAST, &last, 40, false), COHORT_OK);
    assert_true(r.got.whole && r.got.body_len == 100 && r.got.chunk.data_len == 40);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(r.got.body[i], (uint8_t)(3 + i));
    }
    rig_close(&r);
}

static void given_up(void **state)
{
    struct rig r;
    rig_open(&r, true, true);
    assert_int_equal(gives_up(&r, 1), COHORT_EPROTOCOL); /* what never began */
    assert_int_equal(piece(&r, FIRST, 1, 100, 0, 60), COHORT_OK);
    assert_int_equal(gives_up(&r, 2), COHORT_EPROTOCOL);
    assert_int_equal(gives_up(&r, 1), COHORT_OK);
    assert_true(!r.got.nothing && !r.got.whole && r.got.chunk.aborts && !r.got.chunk.first && !r.got.chunk.last);
    assert_int_equal(piece(&r, LAST, 1, 100, 60, 40), COHORT_EPROTOCOL);
    assert_int_equal(piece(&r, FIRST, 1, 50, 0, 20), COHORT_OK); /* the number serves again */
    rig_close(&r);
}

static void malformed(void **state)
{
    static const struct {
        enum cohorti_kind kind;
        struct cohorti_chunk chunk;
        size_t len;
    } bad[] = {
        {LAST, {.stream = 1, .total = UNKNOWN, .at = 0}, 5},                        /* the last says how much */
        {FIRST, {.stream = 1, .aborts = true}, 0},                                  /* not by a first */
        {MIDDLE, {.stream = 1, .aborts = true}, 0},                                 /* nor by a middle */
        {LAST, {.stream = 0, .aborts = true}, 0},                                   /* a message appended whole is not given up */
        {LAST, {.stream = 1, .aborts = true}, 1},                                   /* with data */
        {LAST, {.stream = 1, .kind = COHORTI_KIND_VOID, .total = 7}, 0},            /* with a total */
        {LAST, {.stream = 1, .kind = COHORTI_KIND_VOID, .at = 7}, 0},               /* and a place */
        {FIRST, {.stream = 1, .kind = COHORTI_KIND_REQUEST, .total = UNKNOWN}, 20}, /* of a call it is known */
        {FIRST, {.stream = 1, .total = 0}, 0},                                      /* empty */
        {FIRST, {.stream = 1, .kind = COHORTI_KIND_CHUNK_LAST, .total = 10}, 5},    /* a chunk of chunks */
    };
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        struct rig r;
        rig_open(&r, true, false);
        assert_int_equal(take(&r, bad[i].kind, &bad[i].chunk, bad[i].len, true), COHORT_EPROTOCOL);
        assert_true(strlen(r.why) > 5 && r.in.lanes[0].partial_count == 0);
        rig_close(&r);
    }
}

static void totals_do_not_change(void **state)
{
    struct rig r;
    rig_open(&r, true, false);
    assert_int_equal(piece(&r, FIRST, 1, UNKNOWN, 0, 10), COHORT_OK);
    assert_int_equal(piece(&r, MIDDLE, 1, 100, 10, 10), COHORT_EPROTOCOL);
    assert_int_equal(piece(&r, FIRST, 2, 100, 0, 10), COHORT_OK);
    assert_int_equal(piece(&r, MIDDLE, 2, UNKNOWN, 10, 10), COHORT_EPROTOCOL);
    assert_int_equal(piece(&r, LAST, 2, 20, 10, 10), COHORT_EPROTOCOL);
    rig_close(&r);
}

/* ---- limits -------------------------------------------------------------------------------------------------------- */

static void so_many_at_once(void **state)
{
    struct rig r;
    rig_open(&r, true, false);
    for (unsigned i = 1; i <= COHORTI_STREAMS_MAX; i++) {
        assert_int_equal(piece(&r, FIRST, 1000 + i, 100, 0, 10), COHORT_OK);
    }
    assert_int_equal(piece(&r, FIRST, 1, 100, 0, 10), COHORT_EPROTOCOL);
    assert_int_equal(piece(&r, FIRST, 0, 100, 0, 10), COHORT_OK); /* it has a place of its own */
    assert_int_equal(piece(&r, FIRST, 1, 100, 0, 10), COHORT_EPROTOCOL);
    assert_int_equal(gives_up(&r, 1007), COHORT_OK);
    assert_int_equal(piece(&r, FIRST, 1, 100, 0, 10), COHORT_OK);
    rig_close(&r);
}

static void of_a_total_nobody_knows_as_much_is_kept_as_may_be(void **state)
{
    for (size_t over = 0; over < 2; over++) {
        struct rig r;
        rig_open(&r, false, true);
        const size_t total = limits.message_bytes_max + over;
        size_t peak = 0;
        assert_int_equal(piece(&r, FIRST, 1, UNKNOWN, 0, 10), COHORT_OK);
        for (size_t at = 10; at < total; at++) {
            assert_int_equal(piece(&r, MIDDLE, 1, UNKNOWN, at, 1), COHORT_OK);
            peak = r.memory.bytes > peak ? r.memory.bytes : peak;
        }
        assert_true(peak < limits.message_bytes_max + 300);
        const struct cohorti_chunk last = {.stream = 1, .total = total, .at = total};
        assert_int_equal(take(&r, LAST, &last, 0, false), COHORT_OK);
        assert_true(r.got.whole == (over == 0) && r.got.too_large == (over == 1) && !r.got.nothing);
        assert_true(over == 1 || r.got.body_len == total);
        rig_close(&r);
    }
    struct rig r;
    rig_open(&r, false, true);
    assert_int_equal(piece(&r, FIRST, 1, limits.message_bytes_max + 1, 0, 10), COHORT_OK);
    assert_int_equal(r.collected, COHORT_ESIZE);
    rig_close(&r);
}

static void without_memory_it_comes_again(void **state)
{
    bool failed = true;
    for (size_t n = 1; failed; n++) {
        struct rig r;
        unsigned refused = 0;
        rig_open(&r, false, true);
        r.memory.fail_at = r.memory.calls + n;
        const struct cohorti_chunk first = {.stream = 1, .total = UNKNOWN};
        int status = take(&r, FIRST, &first, 10, false);
        if (status == COHORT_OK && r.collected == COHORT_OK) {
            cohorti_inbound_commit(&r.in, &r.got, true);
        } else {
            assert_int_equal(status == COHORT_OK ? r.collected : status, COHORT_ENOMEM);
            assert_int_equal(piece(&r, FIRST, 1, UNKNOWN, 0, 10), COHORT_OK);
            refused++;
        }
        for (size_t at = 10; at < 400; at += 10) {
            status = piece(&r, MIDDLE, 1, UNKNOWN, at, 10);
            refused += status == COHORT_ENOMEM;
            status = status == COHORT_ENOMEM ? piece(&r, MIDDLE, 1, UNKNOWN, at, 10) : status;
            assert_int_equal(status, COHORT_OK);
        }
        const struct cohorti_chunk last = {.stream = 1, .total = 400, .at = 400};
        assert_int_equal(take(&r, LAST, &last, 0, false), COHORT_OK);
        assert_true(r.got.whole && r.got.body_len == 400);
        failed = r.memory.calls >= r.memory.fail_at;
        assert_int_equal(refused, failed ? 1 : 0);
        rig_close(&r);
    }
}

/* ---- another half of the peer -------------------------------------------------------------------------------------- */

static void readers_are_taken_back_before_all_begins_anew(void **state)
{
    struct rig r;
    unsigned readers = 0;
    rig_open(&r, true, false);
    for (unsigned i = 1; i < 5; i++) {
        assert_int_equal(piece(&r, FIRST, i, 100, 0, 10), COHORT_OK);
    }
    assert_int_equal(gives_up(&r, 3), COHORT_OK);
    while (cohorti_inbound_take_reader(&r.in) != NULL) {
        readers++;
    }
    assert_int_equal(readers, 3);
    assert_true(cohorti_inbound_resume(&r.in, 51));
    assert_int_equal(r.in.lanes[0].partial_count, 0);
    assert_int_equal(r.memory.blocks, 0);
    rig_close(&r);
}

/* docs/protocol.md: "with number 0, and for calls, the link ends with ESIZE". */
static void a_message_of_number_0_of_unknown_total_has_the_limit(void **state)
{
    struct rig r;
    rig_open(&r, false, true);
    struct cohorti_chunk c = {.total = UNKNOWN};
    assert_int_equal(take(&r, FIRST, &c, 900, true), COHORT_OK);
    c.at = 900;
    assert_int_equal(take(&r, MIDDLE, &c, 900, true), COHORT_ESIZE);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_come_between_each_other),
        cmocka_unit_test(a_stream_of_one_piece),
        cmocka_unit_test(nobody_reads),
        cmocka_unit_test(read_and_put_together),
        cmocka_unit_test(given_up),
        cmocka_unit_test(malformed),
        cmocka_unit_test(totals_do_not_change),
        cmocka_unit_test(so_many_at_once),
        cmocka_unit_test(of_a_total_nobody_knows_as_much_is_kept_as_may_be),
        cmocka_unit_test(without_memory_it_comes_again),
        cmocka_unit_test(readers_are_taken_back_before_all_begins_anew),
        cmocka_unit_test(a_message_of_number_0_of_unknown_total_has_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
