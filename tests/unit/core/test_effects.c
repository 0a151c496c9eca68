/* SPDX-License-Identifier: Apache-2.0
 *
 * core/effects: first in, first out across growth, and room once reserved is there.
 */
#include "core/effects.h"

#include "support.h"

static void order_survives_wrapping_and_growing(void **state)
{
    struct unit_memory m;
    struct cohorti_effects e;
    struct cohorti_effect fx;
    uint64_t in = 0, out = 0;
    unit_memory_init(&m);
    cohorti_effects_init(&e, &m.alloc);
    for (unsigned round = 0; round < 200; round++) {
        unsigned more = round % 23;
        assert_int_equal(cohorti_effects_reserve(&e, more), COHORT_OK);
        for (unsigned i = 0; i < more; i++) {
            cohorti_effects_push(&e, COHORTI_EFFECT_CLOSE, in++)->code = COHORT_ERESET;
        }
        for (unsigned i = 0; i < round % 19 && cohorti_effects_pop(&e, &fx); i++) {
            assert_int_equal(fx.link, out++);
            assert_int_equal(fx.code, COHORT_ERESET);
        }
    }
    while (cohorti_effects_pop(&e, &fx)) {
        assert_int_equal(fx.link, out++);
    }
    assert_int_equal(in, out);
    cohorti_effects_deinit(&e);
    unit_memory_assert_empty(&m);
}

static void a_pushed_effect_is_zero_but_for_type_and_link(void **state)
{
    struct unit_memory m;
    struct cohorti_effects e;
    struct cohorti_effect fx, expected = {.type = COHORTI_EFFECT_GREET, .link = 9};
    unit_memory_init(&m);
    cohorti_effects_init(&e, &m.alloc);
    assert_int_equal(cohorti_effects_reserve(&e, 1), COHORT_OK);
    (void)cohorti_effects_push(&e, COHORTI_EFFECT_GREET, 9);
    assert_true(cohorti_effects_pop(&e, &fx));
    assert_int_equal(fx.type, expected.type);
    assert_int_equal(fx.link, expected.link);
    assert_int_equal(fx.code, 0);
    assert_int_equal(fx.u.greet.attempt, 0);
    assert_false(cohorti_effects_pop(&e, &fx));
    cohorti_effects_deinit(&e);
    unit_memory_assert_empty(&m);
}

static void without_memory_nothing_changes(void **state)
{
    struct unit_memory m;
    struct cohorti_effects e;
    struct cohorti_effect fx;
    unit_memory_init(&m);
    cohorti_effects_init(&e, &m.alloc);
    m.fail_at = 1;
    assert_int_equal(cohorti_effects_reserve(&e, 1), COHORT_ENOMEM);
    assert_int_equal(cohorti_effects_reserve(&e, 3), COHORT_OK);
    for (uint64_t i = 0; i < 3; i++) {
        (void)cohorti_effects_push(&e, COHORTI_EFFECT_GREET, i);
    }
    m.fail_at = m.calls + 1;
    assert_int_equal(cohorti_effects_reserve(&e, 1000), COHORT_ENOMEM);
    for (uint64_t i = 0; i < 3; i++) {
        assert_true(cohorti_effects_pop(&e, &fx));
        assert_int_equal(fx.link, i);
    }
    cohorti_effects_deinit(&e);
    unit_memory_assert_empty(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_survives_wrapping_and_growing),
        cmocka_unit_test(a_pushed_effect_is_zero_but_for_type_and_link),
        cmocka_unit_test(without_memory_nothing_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
