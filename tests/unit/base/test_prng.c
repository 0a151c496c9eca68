/* SPDX-License-Identifier: Apache-2.0
 *
 * base/prng: the published sequences, so that a seed written down today replays anywhere and later; and the range of below().
 */
#include "base/prng.h"

#include "support.h"

/* State 1, 2, 3, 4: the reference sequence of xoshiro256** 1.0. */
static void reference_sequence(void **state)
{
    static const uint64_t expected[] = {UINT64_C(11520),
                                        UINT64_C(0),
                                        UINT64_C(1509978240),
                                        UINT64_C(1215971899390074240),
                                        UINT64_C(1216172134540287360),
                                        UINT64_C(607988272756665600),
                                        UINT64_C(16172922978634559625),
                                        UINT64_C(8476171486693032832),
                                        UINT64_C(10595114339597558777),
                                        UINT64_C(2904607092377533576)};
    struct cohorti_prng p = {{1, 2, 3, 4}};
    for (size_t i = 0; i < UNIT_COUNT(expected); i++) {
        assert_true(cohorti_prng_next(&p) == expected[i]);
    }
}

/* The reference sequence of splitmix64 for this seed. */
static void seeding(void **state)
{
    struct cohorti_prng p;
    cohorti_prng_init(&p, 1234567);
    assert_true(p.s[0] == UINT64_C(6457827717110365317));
    assert_true(p.s[1] == UINT64_C(3203168211198807973));
    assert_true(p.s[2] == UINT64_C(9817491932198370423));
    assert_true(p.s[3] == UINT64_C(4593380528125082431));
}

static void below_stays_below(void **state)
{
    static const uint64_t bounds[] = {1, 2, 3, 10, 1000, UINT64_C(1) << 32, UINT64_MAX / 2 + 2, UINT64_MAX};
    struct cohorti_prng p;
    cohorti_prng_init(&p, 0);
    assert_int_equal(cohorti_prng_below(&p, 0), 0);
    for (size_t i = 0; i < UNIT_COUNT(bounds); i++) {
        for (int n = 0; n < 1000; n++) {
            assert_true(cohorti_prng_below(&p, bounds[i]) < bounds[i]);
        }
    }
}

static void below_is_even(void **state)
{
    struct cohorti_prng p;
    int seen[7] = {0};
    cohorti_prng_init(&p, 42);
    for (int n = 0; n < 70000; n++) {
        seen[cohorti_prng_below(&p, 7)]++;
    }
    for (int i = 0; i < 7; i++) {
        assert_in_range(seen[i], 9500, 10500);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_sequence),
        cmocka_unit_test(seeding),
        cmocka_unit_test(below_stays_below),
        cmocka_unit_test(below_is_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
