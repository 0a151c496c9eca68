/* SPDX-License-Identifier: Apache-2.0
 *
 * core/calls: each is taken once by whoever comes first, deadlines in order, the limit, what is kept for later, and no memory.
 */
#include "core/calls.h"

#include "support.h"

#define FIRST_ID UINT64_C(0xfffffffffffffff0) /* numbers wrap in the middle of a test */

struct rig {
    struct unit_memory memory;
    struct cohorti_calls calls;
};

static void rig_open(struct rig *r, uint32_t max)
{
    unit_memory_init(&r->memory);
    cohorti_calls_init(&r->calls, &r->memory.alloc, max, FIRST_ID);
}

static void rig_close(struct rig *r)
{
    assert_int_equal(r->calls.count, 0);
    cohorti_calls_deinit(&r->calls);
    unit_memory_assert_empty(&r->memory);
}

static uint64_t add(struct rig *r, uint64_t deadline_ns)
{
    struct cohorti_call *call = NULL;
    assert_int_equal(cohorti_calls_add(&r->calls, deadline_ns, &call), COHORT_OK);
    assert_null(call->fn);
    return call->id;
}

/* Taken, as `id`, and given back. */
static void expect(struct rig *r, struct cohorti_call *call, uint64_t id)
{
    assert_non_null(call);
    assert_int_equal(call->id, id);
    cohorti_calls_recycle(&r->calls, call);
}

static void each_is_taken_once(void **state)
{
    struct rig r;
    rig_open(&r, 100);
    uint64_t a = add(&r, 10), b = add(&r, 20), c = add(&r, COHORTI_NEVER);
    assert_true(a != b && b != c && a != c);
    expect(&r, cohorti_calls_take(&r.calls, b), b);
    assert_null(cohorti_calls_take(&r.calls, b));
    expect(&r, cohorti_calls_expire(&r.calls, 1000), a);
    assert_null(cohorti_calls_take(&r.calls, a));
    assert_null(cohorti_calls_expire(&r.calls, COHORTI_NEVER - 1)); /* c has no deadline */
    expect(&r, cohorti_calls_pop(&r.calls, r.calls.next_id), c);
    assert_null(cohorti_calls_take(&r.calls, c));
    assert_null(cohorti_calls_pop(&r.calls, r.calls.next_id));
    rig_close(&r);
}

/* A number is not used again, though its memory is: a late reply must not find another's call. */
static void numbers_are_not_used_again(void **state)
{
    struct rig r;
    rig_open(&r, 1);
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t id = add(&r, COHORTI_NEVER);
        assert_int_equal(id, FIRST_ID + i);
        expect(&r, cohorti_calls_take(&r.calls, id), id);
        assert_null(cohorti_calls_take(&r.calls, id));
    }
    rig_close(&r);
}

static void deadlines_pass_in_order(void **state)
{
    static const uint64_t deadlines[] = {50, 10, 40, 10, 30, 20, COHORTI_NEVER, 60};
    static const unsigned order[] = {1, 3, 5, 4, 2, 0, 7}; /* of the same deadline, the older first */
    uint64_t ids[UNIT_COUNT(deadlines)];
    struct rig r;
    rig_open(&r, 100);
    assert_int_equal(cohorti_calls_deadline(&r.calls), COHORTI_NEVER);
    for (size_t i = 0; i < UNIT_COUNT(deadlines); i++) {
        ids[i] = add(&r, deadlines[i]);
    }
    for (size_t i = 0; i < UNIT_COUNT(order); i++) {
        uint64_t due_ns = deadlines[order[i]];
        assert_int_equal(cohorti_calls_deadline(&r.calls), due_ns);
        assert_null(cohorti_calls_expire(&r.calls, due_ns - 1));
        expect(&r, cohorti_calls_expire(&r.calls, due_ns), ids[order[i]]);
    }
    assert_int_equal(cohorti_calls_deadline(&r.calls), COHORTI_NEVER);
    expect(&r, cohorti_calls_take(&r.calls, ids[6]), ids[6]);
    rig_close(&r);
}

/* A call whose reply came is not due any more. */
static void a_taken_call_has_no_deadline(void **state)
{
    struct rig r;
    rig_open(&r, 100);
    uint64_t early = add(&r, 10), late = add(&r, 20);
    expect(&r, cohorti_calls_take(&r.calls, early), early);
    assert_int_equal(cohorti_calls_deadline(&r.calls), 20);
    assert_null(cohorti_calls_expire(&r.calls, 19));
    expect(&r, cohorti_calls_expire(&r.calls, 20), late);
    rig_close(&r);
}

static void those_of_a_session_are_taken_oldest_first(void **state)
{
    struct rig r;
    uint64_t ids[40], newer[40];
    rig_open(&r, 100);
    for (size_t i = 0; i < UNIT_COUNT(ids); i++) {
        ids[i] = add(&r, i % 3 == 0 ? COHORTI_NEVER : 1000 - i);
    }
    uint64_t end_id = r.calls.next_id;
    for (size_t i = 0; i < UNIT_COUNT(ids); i++) {
        newer[i] = add(&r, 5); /* made while they are completed: not one of them */
        expect(&r, cohorti_calls_pop(&r.calls, end_id), ids[i]);
    }
    assert_null(cohorti_calls_pop(&r.calls, end_id));
    for (size_t i = 0; i < UNIT_COUNT(newer); i++) {
        expect(&r, cohorti_calls_pop(&r.calls, r.calls.next_id), newer[i]);
    }
    rig_close(&r);
}

static void the_limit_counts_what_waits(void **state)
{
    struct rig r;
    struct cohorti_call *call = NULL;
    rig_open(&r, 2);
    uint64_t a = add(&r, COHORTI_NEVER), b = add(&r, 5);
    assert_int_equal(cohorti_calls_add(&r.calls, 5, &call), COHORT_ELIMIT);
    expect(&r, cohorti_calls_take(&r.calls, a), a);
    uint64_t c = add(&r, 7);
    assert_int_equal(cohorti_calls_add(&r.calls, 5, &call), COHORT_ELIMIT);
    expect(&r, cohorti_calls_take(&r.calls, b), b);
    expect(&r, cohorti_calls_take(&r.calls, c), c);
    rig_close(&r);
}

static void a_steady_exchange_allocates_nothing(void **state)
{
    struct rig r;
    rig_open(&r, 1000);
    for (unsigned round = 0; round < 50; round++) {
        uint64_t ids[64];
        size_t before = r.memory.calls;
        for (size_t i = 0; i < UNIT_COUNT(ids); i++) {
            ids[i] = add(&r, round + i);
        }
        for (size_t i = 0; i < UNIT_COUNT(ids); i++) {
            expect(&r, cohorti_calls_take(&r.calls, ids[i]), ids[i]);
        }
        assert_true(round == 0 || r.memory.calls == before);
    }
    rig_close(&r);
}

/* What is kept for later has a bound: a burst does not stay in memory. */
static void a_burst_is_given_back(void **state)
{
    static uint64_t ids[2000];
    struct rig r;
    rig_open(&r, UNIT_COUNT(ids));
    for (size_t i = 0; i < UNIT_COUNT(ids); i++) {
        ids[i] = add(&r, COHORTI_NEVER);
    }
    for (size_t i = 0; i < UNIT_COUNT(ids); i++) {
        expect(&r, cohorti_calls_take(&r.calls, ids[i]), ids[i]);
    }
    assert_true(r.memory.blocks <= 257); /* and the map's */
    rig_close(&r);
}

static void without_memory_nothing_waits(void **state)
{
    size_t failed = 0;
    for (size_t n = 1; n < 100; n++) {
        uint64_t ids[40];
        size_t made = 0;
        struct rig r;
        rig_open(&r, 100);
        r.memory.fail_at = n;
        for (size_t i = 0; i < UNIT_COUNT(ids); i++) {
            struct cohorti_call *call = NULL;
            int status = cohorti_calls_add(&r.calls, i + 1, &call);
            assert_true(status == COHORT_OK || status == COHORT_ENOMEM);
            if (status == COHORT_OK) {
                ids[made++] = call->id;
            }
            failed += status != COHORT_OK;
            assert_int_equal(r.calls.count, made);
        }
        for (size_t i = 0; i < made; i++) { /* found also when the map could not grow */
            expect(&r, cohorti_calls_take(&r.calls, ids[i]), ids[i]);
        }
        rig_close(&r);
    }
    assert_int_equal(failed, 40); /* each call's own memory, once */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_taken_once),
        cmocka_unit_test(numbers_are_not_used_again),
        cmocka_unit_test(deadlines_pass_in_order),
        cmocka_unit_test(a_taken_call_has_no_deadline),
        cmocka_unit_test(those_of_a_session_are_taken_oldest_first),
        cmocka_unit_test(the_limit_counts_what_waits),
        cmocka_unit_test(a_steady_exchange_allocates_nothing),
        cmocka_unit_test(a_burst_is_given_back),
        cmocka_unit_test(without_memory_nothing_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
