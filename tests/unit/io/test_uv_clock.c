/* SPDX-License-Identifier: Apache-2.0
 *
 * The clocks of io/uv, and its entropy.
 */
#include "loop_rig.h"

static void clocks_and_entropy(void **state)
{
    struct rig r;
    uint8_t a[64] = {0}, b[64] = {0};
    rig_open(&r);
    uint64_t first = r.ops->now_ns(r.io);
    assert_true(r.ops->now_ns(r.io) >= first);
    assert_true(r.ops->wall_us(r.io) > UINT64_C(1700000000000000));
    assert_int_equal(r.ops->entropy(r.io, a, sizeof a), COHORT_OK);
    assert_int_equal(r.ops->entropy(r.io, b, sizeof b), COHORT_OK);
    assert_memory_not_equal(a, b, sizeof a);
    rig_close(&r);
}

static void the_coarse_clock_is_two_ticks_ahead_at_most_and_goes_on(void **state)
{
    struct rig r;
    rig_open(&r);
    uint64_t begun_ns = r.ops->now_ns(r.io), last_ns = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t coarse_ns = r.ops->coarse_ns(r.io);
        assert_true(coarse_ns >= last_ns);
        assert_true(coarse_ns <= r.ops->now_ns(r.io) + 20 * MS);
        last_ns = coarse_ns;
    }
    WAIT_FOR(&r, r.ops->coarse_ns(r.io) > begun_ns + 40 * MS);
    rig_close(&r);
}

/* A time that begins with it does not end early. Seldom, a host may hold up the processor that keeps it. */
static void the_coarse_clock_is_not_behind(void **state)
{
    struct rig r;
    rig_open(&r);
    unsigned looks = 0, behind = 0;
    uint64_t now_ns, until_ns = r.ops->now_ns(r.io) + 200 * MS;
    while ((now_ns = r.ops->now_ns(r.io)) < until_ns) {
        behind += r.ops->coarse_ns(r.io) < now_ns;
        looks++;
    }
    assert_in_range(behind, 0, looks / 4);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clocks_and_entropy),
        cmocka_unit_test(the_coarse_clock_is_two_ticks_ahead_at_most_and_goes_on),
        cmocka_unit_test(the_coarse_clock_is_not_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
