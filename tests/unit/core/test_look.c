/* SPDX-License-Identifier: Apache-2.0
 *
 * core/look: who is answered soon is waited for; who is not, ever less; and what both cost.
 */
#include "core/look.h"

#include "support.h"

#define LIMIT UINT64_C(50000)

/* Of `times`, how often it looked, each time with the same outcome. */
static unsigned looks_of(struct cohorti_look *look, unsigned times, bool came, uint64_t took_ns)
{
    unsigned looks = 0;
    for (unsigned i = 0; i < times; i++) {
        uint64_t for_ns = cohorti_look_begin(look, LIMIT);
        assert_true(for_ns == 0 || for_ns == LIMIT);
        if (for_ns > 0) {
            looks++;
            cohorti_look_ended(look, LIMIT, came, took_ns);
        }
    }
    return looks;
}

static void who_says_little_is_not_waited_for(void **state)
{
    struct cohorti_look look;
    cohorti_look_init(&look);
    assert_int_equal(looks_of(&look, 15, true, 1000), 0);
    assert_int_equal(looks_of(&look, 1, true, 1000), 1);
}

static void who_is_answered_soon_looks_each_time(void **state)
{
    struct cohorti_look look;
    cohorti_look_init(&look);
    (void)looks_of(&look, 15, true, 1000);
    assert_int_equal(looks_of(&look, 1000, true, LIMIT - 1), 1000);
}

static void in_vain_it_looks_half_as_often_each_time(void **state)
{
    struct cohorti_look look;
    cohorti_look_init(&look);
    (void)looks_of(&look, 15 + 100, true, 1000);
    for (unsigned times = 1; times <= 256; times *= 2) { /* one of them in vain, and then so many to pass over */
        assert_int_equal(looks_of(&look, 1, false, LIMIT), 1);
        unsigned rest = times < 256 ? times * 2 - 1 : 255;
        assert_int_equal(looks_of(&look, rest, false, LIMIT), 0);
    }
    assert_in_range(looks_of(&look, 256 * 100, false, LIMIT), 99, 101);
}

static void it_comes_back_when_it_is_worth_while_again(void **state)
{
    struct cohorti_look look;
    cohorti_look_init(&look);
    (void)looks_of(&look, 256 * 20, false, LIMIT);
    unsigned looks = looks_of(&look, 1000, true, 1000);
    assert_in_range(looks, 1000 - 256, 999);
    assert_int_equal(look.vain, 0);
}

/* Ten of them in turn, `soon` of which are answered soon: of a hundred thousand, how many are looks. */
static unsigned looks_of_mixed(unsigned soon)
{
    struct cohorti_look look;
    unsigned looks = 0;
    cohorti_look_init(&look);
    for (unsigned i = 0; i < 100000; i++) {
        if (cohorti_look_begin(&look, LIMIT) > 0) {
            bool came = i * 7 % 10 < soon;
            looks++;
            cohorti_look_ended(&look, LIMIT, came, came ? 1000 : LIMIT);
        }
    }
    return looks;
}

static void most_of_them_must_be_worth_it(void **state)
{
    assert_true(looks_of_mixed(8) > 50000);
    assert_true(looks_of_mixed(3) < 2000);
}

/* Others had the processor for long: to sleep would have left it to them as well. */
static void what_comes_much_too_late_is_in_vain(void **state)
{
    struct cohorti_look look;
    cohorti_look_init(&look);
    (void)looks_of(&look, 15, true, 1000);
    assert_int_equal(looks_of(&look, 100, true, LIMIT * COHORTI_LOOK_LATE), 100);
    assert_int_equal(looks_of(&look, 1, true, LIMIT * COHORTI_LOOK_LATE + 1), 1);
    assert_int_equal(looks_of(&look, 1, true, 1000), 0);
}

static void what_was_there_at_once_says_nothing(void **state)
{
    struct cohorti_look look;
    cohorti_look_init(&look);
    (void)looks_of(&look, 256 * 20, false, LIMIT);
    struct cohorti_look before = look;
    cohorti_look_ended(&look, LIMIT, true, 0);
    assert_int_equal(look.vain, before.vain);
    assert_int_equal(look.rest, before.rest);
}

static void without_a_limit_it_never_looks(void **state)
{
    struct cohorti_look look;
    cohorti_look_init(&look);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(cohorti_look_begin(&look, 0), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_says_little_is_not_waited_for),
        cmocka_unit_test(who_is_answered_soon_looks_each_time),
        cmocka_unit_test(in_vain_it_looks_half_as_often_each_time),
        cmocka_unit_test(it_comes_back_when_it_is_worth_while_again),
        cmocka_unit_test(most_of_them_must_be_worth_it),
        cmocka_unit_test(what_comes_much_too_late_is_in_vain),
        cmocka_unit_test(what_was_there_at_once_says_nothing),
        cmocka_unit_test(without_a_limit_it_never_looks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
