/* SPDX-License-Identifier: Apache-2.0
 *
 * base/timers: against a plain array searched from end to end, and a heap large and lopsided enough that recursion would show.
 */
#include "base/timers.h"

#include "base/prng.h"
#include "support.h"

#include <stdlib.h>

static void nothing_set(void **state)
{
    struct cohorti_timers t;
    struct cohorti_timer timer;
    cohorti_timers_init(&t);
    cohorti_timer_init(&timer);
    assert_true(cohorti_timers_deadline(&t) == COHORTI_NEVER);
    assert_null(cohorti_timers_pop(&t, COHORTI_NEVER));
    assert_false(cohorti_timer_is_set(&timer));
    cohorti_timer_cancel(&t, &timer);
    cohorti_timer_set(&t, &timer, COHORTI_NEVER);
    assert_false(cohorti_timer_is_set(&timer));
    assert_null(t.root);
}

static void fires_when_due_and_once(void **state)
{
    struct cohorti_timers t;
    struct cohorti_timer timer;
    cohorti_timers_init(&t);
    cohorti_timer_init(&timer);
    cohorti_timer_set(&t, &timer, 100);
    assert_true(cohorti_timer_is_set(&timer));
    assert_int_equal(cohorti_timers_deadline(&t), 100);
    assert_null(cohorti_timers_pop(&t, 99));
    assert_ptr_equal(cohorti_timers_pop(&t, 100), &timer);
    assert_false(cohorti_timer_is_set(&timer));
    assert_null(cohorti_timers_pop(&t, 1000));
    cohorti_timer_set(&t, &timer, 0); /* due at the beginning of time */
    assert_ptr_equal(cohorti_timers_pop(&t, 0), &timer);
}

static void equal_deadlines_in_order_of_setting(void **state)
{
    struct cohorti_timers t;
    struct cohorti_timer timers[50];
    cohorti_timers_init(&t);
    for (size_t i = 0; i < UNIT_COUNT(timers); i++) {
        cohorti_timer_init(&timers[i]);
        cohorti_timer_set(&t, &timers[i], 7);
    }
    cohorti_timer_set(&t, &timers[0], 7); /* moved to where it was: now the last set */
    for (size_t i = 1; i < UNIT_COUNT(timers); i++) {
        assert_ptr_equal(cohorti_timers_pop(&t, 7), &timers[i]);
    }
    assert_ptr_equal(cohorti_timers_pop(&t, 7), &timers[0]);
}

#define MODEL 200

struct model {
    struct cohorti_timers timers;
    struct cohorti_timer timer[MODEL];
    uint64_t deadline[MODEL]; /* COHORTI_NEVER: not set */
    uint64_t order[MODEL];
    uint64_t order_next;
};

/* Index of the timer that must fire next, or MODEL. */
static size_t model_first(const struct model *m)
{
    size_t first = MODEL;
    for (size_t i = 0; i < MODEL; i++) {
        if (m->deadline[i] == COHORTI_NEVER) {
            continue;
        }
        if (first == MODEL || m->deadline[i] < m->deadline[first] ||
            (m->deadline[i] == m->deadline[first] && m->order[i] < m->order[first])) {
            first = i;
        }
    }
    return first;
}

static void model_pop(struct model *m, uint64_t now)
{
    for (;;) {
        size_t first = model_first(m);
        struct cohorti_timer *popped = cohorti_timers_pop(&m->timers, now);
        if (first == MODEL || m->deadline[first] > now) {
            assert_null(popped);
            return;
        }
        assert_ptr_equal(popped, &m->timer[first]);
        m->deadline[first] = COHORTI_NEVER;
    }
}

static void random_use_agrees_with_model(void **state)
{
    static struct model m;
    struct cohorti_prng p;
    uint64_t now = 0;
    cohorti_prng_init(&p, 3);
    cohorti_timers_init(&m.timers);
    for (size_t i = 0; i < MODEL; i++) {
        cohorti_timer_init(&m.timer[i]);
        m.deadline[i] = COHORTI_NEVER;
    }
    for (int step = 0; step < 100000; step++) {
        size_t i = (size_t)cohorti_prng_below(&p, MODEL);
        switch (cohorti_prng_below(&p, 8)) {
        case 0:
            cohorti_timer_cancel(&m.timers, &m.timer[i]);
            m.deadline[i] = COHORTI_NEVER;
            break;
        case 1:
            now += cohorti_prng_below(&p, 20);
            model_pop(&m, now);
            break;
        default:
            m.deadline[i] = now + cohorti_prng_below(&p, 200);
            m.order[i] = m.order_next++;
            cohorti_timer_set(&m.timers, &m.timer[i], m.deadline[i]);
        }
        size_t first = model_first(&m);
        assert_true(cohorti_timers_deadline(&m.timers) == (first == MODEL ? COHORTI_NEVER : m.deadline[first]));
        assert_int_equal(cohorti_timer_is_set(&m.timer[i]), m.deadline[i] != COHORTI_NEVER);
    }
    model_pop(&m, COHORTI_NEVER - 1);
    assert_null(m.timers.root);
}

static void many_timers(void **state)
{
    enum {
        COUNT = 300000
    };
    struct cohorti_timers t;
    struct cohorti_timer *timers = malloc(sizeof(*timers) * COUNT);
    cohorti_timers_init(&t);
    for (int rising = 0; rising < 2; rising++) {
        for (uint64_t i = 0; i < COUNT; i++) {
            cohorti_timer_init(&timers[i]);
            cohorti_timer_set(&t, &timers[i], rising ? i : COUNT - i);
        }
        uint64_t last = 0;
        for (uint64_t i = 0; i < COUNT; i++) {
            uint64_t deadline = cohorti_timers_deadline(&t);
            assert_true(deadline >= last);
            last = deadline;
            assert_non_null(cohorti_timers_pop(&t, COUNT));
        }
        assert_null(t.root);
    }
    free(timers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_set),
        cmocka_unit_test(fires_when_due_and_once),
        cmocka_unit_test(equal_deadlines_in_order_of_setting),
        cmocka_unit_test(random_use_agrees_with_model),
        cmocka_unit_test(many_timers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
