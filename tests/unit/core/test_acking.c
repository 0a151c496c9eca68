/* SPDX-License-Identifier: Apache-2.0
 *
 * core/acking: when what was received is said: at once, gathered for a moment, or with what is written anyway; and that gathering ends where
 * nothing comes of it.
 */
#include "core/acking.h"

#include "base/timers.h"
#include "support.h"

#include <string.h>

#define KB ((size_t)1024)
#define US UINT64_C(1000)
#define WINDOW (4096 * KB)
#define SOME COHORTI_ACK_BYTES
#define MUCH COHORTI_ACK_MUCH_BYTES
#define FIRST_REST 15 /* times that nothing is gathered at first */

struct rig {
    struct unit_memory memory;
    struct cohorti_inbound in;
    struct cohorti_acking acking;
    uint64_t now_ns;
};

static void rig_open(struct rig *r, size_t window_bytes)
{
    const struct cohorti_inbound_limits limits = {.message_bytes_max = 1024 * KB, .subjects_max = 3, .window_bytes = window_bytes};
    struct cohorti_resume told;
    memset(r, 0, sizeof *r);
    unit_memory_init(&r->memory);
    cohorti_inbound_init(&r->in, &r->memory.alloc, &limits);
    cohorti_inbound_marks(&r->in, 1, &told);
    assert_true(cohorti_inbound_resume(&r->in, 50));
    cohorti_acking_init(&r->acking, window_bytes);
    r->now_ns = 1000 * US;
}

static void rig_close(struct rig *r)
{
    cohorti_inbound_deinit(&r->in);
    unit_memory_assert_empty(&r->memory);
}

/* Of a lane, and that nobody waits for. */
static void receive_in(struct rig *r, unsigned lane, size_t bytes)
{
    const struct cohorti_delivery d = {.lane = lane, .frame_bytes = bytes, .credit_bytes = bytes};
    cohorti_inbound_commit(&r->in, &d, true);
}

static void say(struct rig *r)
{
    struct cohorti_ack ack;
    assert_true(cohorti_inbound_ack(&r->in, &ack));
    cohorti_inbound_told(&r->in, &ack);
    cohorti_acking_said(&r->acking, true, r->now_ns);
    assert_int_equal(r->acking.due_ns, COHORTI_NEVER);
}

/* All that came was read, `bytes` in the normal lane. Whether that is said now. */
static bool reads_all(struct rig *r, size_t bytes)
{
    receive_in(r, COHORT_LANE_NORMAL, bytes);
    bool due = cohorti_acking_is_due(&r->acking, &r->in, true, r->now_ns);
    if (due) {
        say(r);
    }
    return due;
}

/* So often that the next time it would gather. */
static void rest(struct rig *r, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        assert_true(reads_all(r, SOME));
    }
}

static void little_waits_five_milliseconds(void **state)
{
    struct rig r;
    rig_open(&r, WINDOW);
    assert_false(cohorti_acking_is_due(&r.acking, &r.in, false, r.now_ns));
    assert_int_equal(r.acking.due_ns, COHORTI_NEVER);
    assert_false(reads_all(&r, 1));
    uint64_t due_ns = r.acking.due_ns;
    assert_int_equal(due_ns, r.now_ns + 5000 * US);
    r.now_ns += 4999 * US;
    assert_false(reads_all(&r, SOME - 2)); /* more does not put it off */
    assert_int_equal(r.acking.due_ns, due_ns);
    r.now_ns += 1 * US;
    assert_true(cohorti_acking_is_due(&r.acking, &r.in, true, r.now_ns));
    rig_close(&r);
}

static void what_goes_with_other_bytes_is_not_gathered(void **state)
{
    struct rig r;
    rig_open(&r, WINDOW);
    rest(&r, FIRST_REST);
    for (int i = 0; i < 100; i++) {
        receive_in(&r, COHORT_LANE_NORMAL, SOME);
        assert_true(cohorti_acking_is_due(&r.acking, &r.in, false, r.now_ns));
        say(&r);
    }
    assert_false(reads_all(&r, SOME));
    assert_true(cohorti_acking_is_due(&r.acking, &r.in, false, r.now_ns)); /* begun, and then something is written */
    say(&r);
    r.now_ns += 700 * US;
    assert_false(reads_all(&r, SOME)); /* and begun anew */
    assert_int_equal(r.acking.due_ns, r.now_ns + 1000 * US);
    rig_close(&r);
}

/* A stream that comes in pieces of 64 KiB each 20 us: as long as that goes on those of 1 MiB are said together. */
static void a_stream_is_gathered(void **state)
{
    struct rig r;
    rig_open(&r, WINDOW);
    rest(&r, FIRST_REST);
    unsigned said = 0;
    for (unsigned i = 1; i <= 8000; i++) {
        r.now_ns += 20 * US;
        assert_int_equal(cohorti_acking_is_much(&r.acking, &r.in), false);
        said += reads_all(&r, 64 * KB);
        assert_int_equal(said, i / (MUCH / (64 * KB)));
        assert_true(r.acking.due_ns == COHORTI_NEVER || r.acking.due_ns - r.now_ns <= 1000 * US);
    }
    rig_close(&r);
}

/* The peer sends 64 KiB and waits until that is acknowledged: each time in vain makes it half as likely, down to one in 256. */
static void who_waits_for_it_is_not_held_up(void **state)
{
    struct rig r;
    rig_open(&r, WINDOW);
    uint64_t begun_ns = r.now_ns;
    for (unsigned i = 0; i < 25600; i++) {
        if (!reads_all(&r, 64 * KB)) {
            assert_int_equal(r.acking.due_ns, r.now_ns + 1000 * US);
            r.now_ns = r.acking.due_ns;
            assert_true(cohorti_acking_is_due(&r.acking, &r.in, true, r.now_ns));
            say(&r);
        }
    }
    assert_in_range(r.now_ns - begun_ns, 99 * 1000 * US, 106 * 1000 * US);
    rig_close(&r);
}

static void much_is_said_while_more_is_there(void **state)
{
    struct rig r;
    rig_open(&r, WINDOW);
    receive_in(&r, COHORT_LANE_NORMAL, MUCH - 1);
    assert_false(cohorti_acking_is_much(&r.acking, &r.in));
    receive_in(&r, COHORT_LANE_NORMAL, 1);
    assert_true(cohorti_acking_is_much(&r.acking, &r.in));
    assert_true(cohorti_acking_is_due(&r.acking, &r.in, true, r.now_ns));
    rig_close(&r);
}

/* A quarter of the window is much: the peer is not to stand still because of what it is not told. */
static void a_small_window_is_told_of_in_quarters(void **state)
{
    struct rig r;
    rig_open(&r, 256 * KB);
    rest(&r, FIRST_REST);
    assert_false(reads_all(&r, 63 * KB));
    assert_true(reads_all(&r, 1 * KB));
    rig_close(&r);
}

static void the_bulk_lane_is_not_gathered(void **state)
{
    struct rig r;
    rig_open(&r, WINDOW);
    rest(&r, FIRST_REST);
    for (int i = 0; i < 100; i++) {
        receive_in(&r, COHORT_LANE_BULK, SOME);
        assert_true(cohorti_acking_is_due(&r.acking, &r.in, true, r.now_ns));
        say(&r);
    }
    rig_close(&r);
}

/* Said at once, however little it is; and what comes after it is gathered again. */
static void the_end_of_a_large_message_is_not_gathered(void **state)
{
    struct rig r;
    rig_open(&r, WINDOW);
    rest(&r, FIRST_REST);
    r.in.whole_untold = true; /* as commit() has it: inbound's tests */
    assert_true(reads_all(&r, 1));
    assert_false(r.in.whole_untold);
    assert_false(reads_all(&r, SOME));
    rig_close(&r);
}

static void what_could_not_be_said_is_tried_again(void **state)
{
    struct rig r;
    rig_open(&r, WINDOW);
    receive_in(&r, COHORT_LANE_NORMAL, 1);
    assert_false(cohorti_acking_is_due(&r.acking, &r.in, true, r.now_ns));
    for (unsigned i = 0; i < 3; i++) {
        r.now_ns = r.acking.due_ns;
        assert_true(cohorti_acking_is_due(&r.acking, &r.in, true, r.now_ns));
        cohorti_acking_said(&r.acking, false, r.now_ns);
        assert_int_equal(r.acking.due_ns, r.now_ns + 5000 * US);
        assert_false(cohorti_acking_is_due(&r.acking, &r.in, true, r.now_ns + 4999 * US));
    }
    rig_close(&r);
}

/* It began when little that came before was nearly due: it says nothing of whether more would have come. */
static void one_that_is_cut_short_is_not_in_vain(void **state)
{
    struct rig r;
    rig_open(&r, WINDOW);
    rest(&r, FIRST_REST);
    uint32_t vain = r.acking.worth.vain;
    assert_false(reads_all(&r, 1));
    r.now_ns += 4900 * US;
    assert_false(reads_all(&r, SOME));
    assert_true(r.acking.since_ns != 0);
    r.now_ns += 100 * US;
    assert_true(reads_all(&r, 0));
    assert_int_equal(r.acking.worth.vain, vain);
    assert_false(reads_all(&r, SOME));
    r.now_ns += 1000 * US;
    assert_true(reads_all(&r, 0));
    assert_int_equal(r.acking.worth.vain, vain + 1); /* but that was */
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(little_waits_five_milliseconds),
        cmocka_unit_test(what_goes_with_other_bytes_is_not_gathered),
        cmocka_unit_test(a_stream_is_gathered),
        cmocka_unit_test(who_waits_for_it_is_not_held_up),
        cmocka_unit_test(much_is_said_while_more_is_there),
        cmocka_unit_test(a_small_window_is_told_of_in_quarters),
        cmocka_unit_test(the_bulk_lane_is_not_gathered),
        cmocka_unit_test(the_end_of_a_large_message_is_not_gathered),
        cmocka_unit_test(what_could_not_be_said_is_tried_again),
        cmocka_unit_test(one_that_is_cut_short_is_not_in_vain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
