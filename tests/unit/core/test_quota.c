/* SPDX-License-Identifier: Apache-2.0
 *
 * core/quota: two sending halves of one node share what it may hold; who is refused for the other is told once, and each keeps a little
 * of its own.
 */
#include "outbound_rig.h"

#define NORMAL 0U
#define BULK 2U
#define QUOTA_MAX (UINT64_C(1) << 20)

static const uint64_t none[COHORTI_LANE_COUNT];

/* Two halves with readers that are there, and their quota. */
struct pair {
    struct cohorti_quota quota;
    struct rig r[2];
};

static void pair_open_with(struct pair *p, size_t lane_bytes_max_of_second)
{
    memset(p, 0, sizeof *p);
    p->quota.max = QUOTA_MAX;
    for (unsigned i = 0; i < 2; i++) {
        struct cohorti_outbound_limits limits = rig_limits;
        limits.quota = &p->quota;
        limits.lane_bytes_max = i == 1 ? lane_bytes_max_of_second : limits.lane_bytes_max;
        rig_open(&p->r[i]);
        cohorti_outbound_deinit(&p->r[i].out);
        cohorti_outbound_init(&p->r[i].out, &p->r[i].memory.alloc, &limits, RIG_HALF);
        assert_int_equal(rig_resume(&p->r[i], RIG_READER, 0, none), COHORT_OK);
    }
}

static void pair_open(struct pair *p)
{
    pair_open_with(p, rig_limits.lane_bytes_max);
}

static void pair_close(struct pair *p)
{
    rig_close(&p->r[0]);
    rig_close(&p->r[1]);
    assert_int_equal(p->quota.used, 0);
}

static unsigned put_until_refused(struct rig *r, unsigned lane, size_t len)
{
    unsigned count = 0;
    int status;
    while ((status = rig_put(r, lane, "s", len, 1)) == COHORT_OK) {
        count++;
    }
    assert_int_equal(status, COHORT_EAGAIN);
    return count;
}

/* Everything is written, and the reader has taken all but `left` bytes of the lane. */
static void take(struct rig *r, unsigned lane, uint64_t left)
{
    (void)rig_write(r, SIZE_MAX, NULL);
    assert_int_equal(rig_ack(r, lane, r->out.lanes[lane].log.appended - left), COHORT_OK);
}

static void what_is_held_is_counted_in_steps_and_then_exactly(void **state)
{
    static struct pair p;
    pair_open(&p);
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(rig_put(&p.r[i % 2], i % 3, "s", 100 + i * 37, 1), COHORT_OK);
        uint64_t held = cohorti_outbound_len(&p.r[0].out) + cohorti_outbound_len(&p.r[1].out);
        assert_true(p.quota.used <= held && held - p.quota.used < 2 * COHORTI_QUOTA_STEP);
    }
    for (unsigned lane = 0; lane < COHORTI_LANE_COUNT; lane++) {
        take(&p.r[0], lane, 10);
        (void)cohorti_outbound_writable(&p.r[0].out);
        cohorti_outbound_count(&p.r[1].out);
        assert_int_equal(p.quota.used, cohorti_outbound_len(&p.r[0].out) + cohorti_outbound_len(&p.r[1].out));
    }
    pair_close(&p);
}

/* Without memory in the middle of a large message its pieces are taken back. */
static void what_failed_is_not_counted(void **state)
{
    static struct pair p;
    pair_open(&p);
    assert_int_equal(rig_put(&p.r[0], NORMAL, "s", 1000, 1), COHORT_OK);
    p.r[0].memory.fail_at = p.r[0].memory.calls + 3;
    assert_int_equal(rig_put(&p.r[0], NORMAL, "s", 300000, 1), COHORT_ENOMEM);
    p.r[0].memory.fail_at = 0;
    take(&p.r[0], NORMAL, 0);
    (void)cohorti_outbound_writable(&p.r[0].out);
    assert_int_equal(p.quota.used, 0);
    pair_close(&p);
}

static void each_lane_keeps_its_reserve(void **state)
{
    static struct pair p;
    pair_open(&p);
    unsigned most = put_until_refused(&p.r[0], NORMAL, 5000);
    assert_in_range(most * 5016, QUOTA_MAX - 5016 - COHORTI_QUOTA_STEP, QUOTA_MAX + COHORTI_QUOTA_STEP);
    for (unsigned lane = 0; lane < COHORTI_LANE_COUNT; lane++) {
        unsigned count = put_until_refused(&p.r[1], lane, 5000);
        assert_in_range(count * 5016, COHORTI_QUOTA_RESERVE - 100, COHORTI_QUOTA_RESERVE + 5016);
    }
    assert_int_equal(rig_put(&p.r[0], BULK, "s", 700000, 1), COHORT_OK); /* the lane was empty: it takes one of any size */
    assert_int_equal(rig_put(&p.r[0], BULK, "s", 1, 1), COHORT_EAGAIN);
    pair_close(&p);
}

/* Somebody waits for it: it may go as far as the lane lets it. */
static void a_reply_is_not_refused(void **state)
{
    static struct pair p;
    pair_open(&p);
    (void)put_until_refused(&p.r[0], NORMAL, 5000);
    (void)put_until_refused(&p.r[1], NORMAL, 5000);
    uint8_t prefix[8] = {0}, body[5000] = {0};
    struct cohorti_put put = {.kind = COHORTI_KIND_REPLY,
                              .lane = NORMAL,
                              .prefix = prefix,
                              .prefix_len = sizeof prefix,
                              .body = body,
                              .body_len = sizeof body,
                              .has_room = true};
    for (unsigned i = 0; i < 500; i++) {
        assert_int_equal(cohorti_outbound_put(&p.r[1].out, &put), COHORT_OK);
    }
    pair_close(&p);
}

/* The other makes room: half of the whole. It is told once; and again when it was refused again. */
static void the_refused_are_told_once_when_another_makes_room(void **state)
{
    static struct pair p;
    pair_open(&p);
    for (unsigned round = 0; round < 3; round++) {
        (void)put_until_refused(&p.r[0], NORMAL, 5000);
        (void)put_until_refused(&p.r[1], NORMAL, 5000);
        assert_false(cohorti_quota_take_room(&p.quota));
        assert_int_equal(cohorti_outbound_writable(&p.r[1].out), 0);
        take(&p.r[0], NORMAL, QUOTA_MAX * 2 / 3); /* not enough */
        assert_int_equal(cohorti_outbound_writable(&p.r[0].out), 0);
        assert_false(cohorti_quota_take_room(&p.quota));
        take(&p.r[0], NORMAL, 100);
        assert_int_equal(cohorti_outbound_writable(&p.r[0].out), 1U << NORMAL);
        assert_true(cohorti_quota_take_room(&p.quota));
        assert_false(cohorti_quota_take_room(&p.quota));
        assert_int_equal(cohorti_outbound_writable(&p.r[1].out), 1U << NORMAL);
        assert_int_equal(cohorti_outbound_writable(&p.r[1].out), 0);
        assert_int_equal(rig_put(&p.r[1], NORMAL, "s", 5000, 1), COHORT_OK);
        take(&p.r[0], NORMAL, 0);
        take(&p.r[1], NORMAL, 0);
        (void)(cohorti_outbound_writable(&p.r[0].out) | cohorti_outbound_writable(&p.r[1].out));
    }
    pair_close(&p);
}

/* Its own watermark has nothing to do with it, also when something larger was refused for that meanwhile: that is told again. */
static void a_lane_more_than_half_full_is_told_when_the_quota_has_room(void **state)
{
    static struct pair p;
    size_t max = QUOTA_MAX / 4;
    for (unsigned larger_too = 0; larger_too < 2; larger_too++) {
        pair_open_with(&p, max);
        while (cohorti_outbound_len(&p.r[1].out) < max * 6 / 10) {
            assert_int_equal(rig_put(&p.r[1], NORMAL, "s", 5000, 1), COHORT_OK);
        }
        (void)put_until_refused(&p.r[0], NORMAL, 5000);
        (void)put_until_refused(&p.r[1], NORMAL, 5000);
        assert_in_range(cohorti_outbound_len(&p.r[1].out), max * 6 / 10, max * 7 / 10);
        assert_true(larger_too == 0 || rig_put(&p.r[1], NORMAL, "s", max / 2, 1) == COHORT_EAGAIN);
        assert_int_equal(cohorti_outbound_writable(&p.r[1].out), 0);
        take(&p.r[0], NORMAL, 0);
        (void)cohorti_outbound_writable(&p.r[0].out);
        assert_true(cohorti_quota_take_room(&p.quota));
        assert_int_equal(cohorti_outbound_writable(&p.r[1].out), 1U << NORMAL);
        assert_int_equal(cohorti_outbound_writable(&p.r[1].out), 0);
        assert_int_equal(rig_put(&p.r[1], NORMAL, "s", 5000, 1), COHORT_OK);
        assert_int_equal(rig_put(&p.r[1], NORMAL, "s", max / 2, 1), COHORT_EAGAIN); /* now for the lane */
        take(&p.r[1], NORMAL, max / 2 + 1);
        assert_int_equal(cohorti_outbound_writable(&p.r[1].out), 0);
        take(&p.r[1], NORMAL, max / 2);
        assert_int_equal(cohorti_outbound_writable(&p.r[1].out), 1U << NORMAL);
        pair_close(&p);
    }
}

/* There is just room when the other says so, but what the refused one holds itself is counted only as it is asked: it is told later. */
static void who_is_asked_too_early_is_told_later(void **state)
{
    static struct pair p;
    pair_open(&p);
    (void)put_until_refused(&p.r[0], NORMAL, 5000);
    (void)put_until_refused(&p.r[1], NORMAL, 5000);
    assert_true(p.r[1].out.share.uncounted > 0);
    take(&p.r[0], NORMAL, QUOTA_MAX / 2 - p.r[1].out.share.counted);
    (void)cohorti_outbound_writable(&p.r[0].out);
    assert_true(cohorti_quota_take_room(&p.quota));
    assert_int_equal(cohorti_outbound_writable(&p.r[1].out), 0);
    take(&p.r[0], NORMAL, 0);
    (void)cohorti_outbound_writable(&p.r[0].out);
    assert_true(cohorti_quota_take_room(&p.quota));
    assert_int_equal(cohorti_outbound_writable(&p.r[1].out), 1U << NORMAL);
    pair_close(&p);
}

/* The other is dead and holds all: who drains its own little goes on. */
static void the_living_go_on(void **state)
{
    static struct pair p;
    pair_open(&p);
    (void)put_until_refused(&p.r[0], NORMAL, 5000);
    for (unsigned round = 0; round < 5; round++) {
        assert_true(put_until_refused(&p.r[1], NORMAL, 5000) > 6);
        take(&p.r[1], NORMAL, COHORTI_QUOTA_RESERVE / 2 + 1);
        assert_int_equal(cohorti_outbound_writable(&p.r[1].out), 0);
        take(&p.r[1], NORMAL, COHORTI_QUOTA_RESERVE / 2);
        assert_int_equal(cohorti_outbound_writable(&p.r[1].out), 1U << NORMAL);
    }
    assert_false(cohorti_quota_take_room(&p.quota));
    pair_close(&p);
}

/* What a session leaves behind is not waiting any more. */
static void an_ended_session_holds_nothing(void **state)
{
    static struct pair p;
    pair_open(&p);
    (void)put_until_refused(&p.r[0], NORMAL, 5000);
    cohorti_outbound_end(&p.r[0].out, RIG_HALF + 1, &p.r[0].lost);
    (void)cohorti_outbound_writable(&p.r[0].out);
    assert_int_equal(p.quota.used, cohorti_outbound_len(&p.r[0].out)); /* the names it announces again */
    assert_true(p.quota.used < 100);
    assert_true(cohorti_quota_take_room(&p.quota));
    pair_close(&p);
}

/* Of a large message that was taken back, for want of memory in its middle, nothing counts. */
static void what_was_taken_back_does_not_count(void **state)
{
    struct pair p;
    pair_open(&p);
    assert_int_equal(rig_put(&p.r[0], NORMAL, "s", 10, 1), COHORT_OK);
    p.r[0].memory.fail_at = p.r[0].memory.calls + 14;
    assert_int_equal(rig_put(&p.r[0], NORMAL, "s", 1 << 20, 1), COHORT_ENOMEM);
    assert_true(cohorti_outbound_len(&p.r[0].out) < 100);
    assert_true(p.quota.used <= cohorti_outbound_len(&p.r[0].out) + COHORTI_QUOTA_STEP);
    pair_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_held_is_counted_in_steps_and_then_exactly),
        cmocka_unit_test(what_failed_is_not_counted),
        cmocka_unit_test(each_lane_keeps_its_reserve),
        cmocka_unit_test(a_reply_is_not_refused),
        cmocka_unit_test(the_refused_are_told_once_when_another_makes_room),
        cmocka_unit_test(a_lane_more_than_half_full_is_told_when_the_quota_has_room),
        cmocka_unit_test(who_is_asked_too_early_is_told_later),
        cmocka_unit_test(the_living_go_on),
        cmocka_unit_test(an_ended_session_holds_nothing),
        cmocka_unit_test(what_was_taken_back_does_not_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
