/* SPDX-License-Identifier: Apache-2.0
 *
 * core/calls: each is taken once by whoever comes first, deadlines in order, the limit, what is kept for later, and no memory.
 */
#include "core/calls.h"

#include "base/prng.h"
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

#define MS UINT64_C(1000000)

/* Whose it is, is its number here. */
static uint64_t add_at(struct rig *r, uint64_t now_ns, uint32_t timeout_ms)
{
    struct cohorti_caller caller = {.fn = r, .arg = NULL};
    uint64_t id = 0, deadline_ns = 0;
    assert_int_equal(cohorti_calls_add(&r->calls, &caller, now_ns, timeout_ms, &id, &deadline_ns), COHORT_OK);
    assert_true(deadline_ns == (timeout_ms == 0 ? COHORTI_NEVER : now_ns + timeout_ms * MS));
    return id;
}

static uint64_t add(struct rig *r, uint32_t timeout_ms)
{
    return add_at(r, 0, timeout_ms);
}

/* Those who ask are told apart by what they gave. */
static int add_as(struct rig *r, void *arg, uint32_t timeout_ms, uint64_t *id)
{
    uint64_t deadline_ns = 0;
    return cohorti_calls_add(&r->calls, &(struct cohorti_caller){.fn = r, .arg = arg}, 0, timeout_ms, id, &deadline_ns);
}

static void take(struct rig *r, uint64_t id)
{
    struct cohorti_caller caller = {0};
    assert_true(cohorti_calls_take(&r->calls, id, &caller));
    assert_ptr_equal(caller.fn, r);
}

static bool is_taken(struct rig *r, uint64_t id)
{
    struct cohorti_caller caller;
    return !cohorti_calls_take(&r->calls, id, &caller);
}

/* The one with the argument `arg` is the next whose time is over at now_ns, in ms. */
static void expect_expired(struct rig *r, uint64_t now_ms, const void *arg)
{
    struct cohorti_caller caller = {0};
    assert_true(cohorti_calls_expire(&r->calls, now_ms * MS, &caller));
    assert_ptr_equal(caller.arg, arg);
}

static bool nothing_expires(struct rig *r, uint64_t now_ms)
{
    struct cohorti_caller caller;
    return !cohorti_calls_expire(&r->calls, now_ms * MS, &caller);
}

static void expect_popped(struct rig *r, uint64_t end_id, const void *arg)
{
    struct cohorti_caller caller = {0};
    assert_true(cohorti_calls_pop(&r->calls, end_id, &caller));
    assert_ptr_equal(caller.arg, arg);
}

static bool nothing_pops(struct rig *r, uint64_t end_id)
{
    struct cohorti_caller caller;
    return !cohorti_calls_pop(&r->calls, end_id, &caller);
}

static void each_is_taken_once(void **state)
{
    struct rig r;
    int a_arg, c_arg;
    uint64_t a = 0, c = 0;
    rig_open(&r, 100);
    assert_int_equal(add_as(&r, &a_arg, 10, &a), COHORT_OK);
    uint64_t b = add(&r, 20);
    assert_int_equal(add_as(&r, &c_arg, 0, &c), COHORT_OK);
    assert_true(a != b && b != c && a != c);
    take(&r, b);
    assert_true(is_taken(&r, b));
    expect_expired(&r, 1000, &a_arg);
    assert_true(is_taken(&r, a));
    assert_true(nothing_expires(&r, 1000000)); /* c has no deadline */
    expect_popped(&r, r.calls.next_id, &c_arg);
    assert_true(is_taken(&r, c));
    assert_true(nothing_pops(&r, r.calls.next_id));
    rig_close(&r);
}

/* A number is not used again, though its memory is: a late reply must not find another's call. */
static void numbers_are_not_used_again(void **state)
{
    struct rig r;
    rig_open(&r, 1);
    assert_true(is_taken(&r, FIRST_ID));
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t id = add(&r, 0);
        assert_int_equal(id, FIRST_ID + i);
        take(&r, id);
        assert_true(is_taken(&r, id));
    }
    rig_close(&r);
}

/* Some wait while many come and go: numbers whose place is taken are passed over, and everyone finds its own. */
static void some_wait_while_many_come_and_go(void **state)
{
    struct rig r;
    uint64_t waiting[30], last = FIRST_ID - 1;
    rig_open(&r, 100);
    for (size_t i = 0; i < UNIT_COUNT(waiting); i++) {
        for (unsigned n = 0; n < 7 * i; n++) {
            uint64_t id = add(&r, 1000);
            assert_true(id - last < 64); /* higher than all before, and not far */
            last = id;
            take(&r, id);
        }
        waiting[i] = last = add(&r, i % 2 == 0 ? 0 : 1000);
    }
    for (unsigned n = 0; n < 1000; n++) {
        uint64_t id = add(&r, 1000);
        assert_true(id - last - 1 < 64);
        last = id;
        take(&r, id);
    }
    for (size_t i = 0; i < UNIT_COUNT(waiting); i++) {
        assert_true(is_taken(&r, waiting[i] + r.calls.slot_count)); /* the same place, another number */
        take(&r, waiting[i]);
    }
    rig_close(&r);
}

/* More different times than there are classes. */
static void deadlines_pass_in_order(void **state)
{
    static const uint32_t times[] = {50, 10, 40, 10, 30, 20, 0, 60, 35, 25, 20};
    static const unsigned order[] = {1, 3, 5, 10, 9, 4, 8, 2, 0, 7};
    uint64_t ids[UNIT_COUNT(times)];
    struct rig r;
    rig_open(&r, 100);
    assert_int_equal(cohorti_calls_deadline(&r.calls), COHORTI_NEVER);
    for (size_t i = 0; i < UNIT_COUNT(times); i++) {
        assert_int_equal(add_as(&r, &ids[i], times[i], &ids[i]), COHORT_OK);
    }
    for (size_t i = 0; i < UNIT_COUNT(order); i++) {
        uint64_t due_ms = times[order[i]];
        assert_int_equal(cohorti_calls_deadline(&r.calls), due_ms * MS);
        assert_true(nothing_expires(&r, due_ms - 1));
        struct cohorti_caller caller = {0};
        assert_true(cohorti_calls_expire(&r.calls, due_ms * MS, &caller));
        assert_int_equal(times[(uint64_t *)caller.arg - ids], due_ms);
    }
    assert_int_equal(cohorti_calls_deadline(&r.calls), COHORTI_NEVER);
    take(&r, ids[6]);
    rig_close(&r);
}

/* Against a plain search: times that change, so that classes become free and serve others, and replies in between. */
static void deadlines_of_any_mixture_pass_in_order(void **state)
{
    static struct {
        uint64_t id, deadline_ms;
    } model[4000];
    struct rig r;
    struct cohorti_prng prng;
    size_t made = 0;
    cohorti_prng_init(&prng, 7);
    rig_open(&r, UNIT_COUNT(model));
    for (uint64_t now_ms = 0; made < UNIT_COUNT(model); now_ms += cohorti_prng_below(&prng, 3)) {
        uint32_t timeout_ms = 1 + (uint32_t)cohorti_prng_below(&prng, 1 + (now_ms / 100 % 3) * 20);
        model[made].id = add_at(&r, now_ms * MS, timeout_ms);
        model[made++].deadline_ms = now_ms + timeout_ms;
        size_t one = (size_t)cohorti_prng_below(&prng, made);
        if (model[one].deadline_ms != 0 && cohorti_prng_below(&prng, 2) == 0) {
            take(&r, model[one].id);
            model[one].deadline_ms = 0;
        }
        uint64_t earliest_ms = UINT64_MAX;
        for (size_t i = 0; i < made; i++) {
            bool due = model[i].deadline_ms != 0 && model[i].deadline_ms <= now_ms;
            struct cohorti_caller caller;
            if (due) {
                assert_true(cohorti_calls_expire(&r.calls, now_ms * MS, &caller));
                model[i].deadline_ms = 0; /* which of those that are due does not matter here */
            } else if (model[i].deadline_ms != 0 && model[i].deadline_ms < earliest_ms) {
                earliest_ms = model[i].deadline_ms;
            }
        }
        assert_true(nothing_expires(&r, now_ms));
        assert_true(cohorti_calls_deadline(&r.calls) == (earliest_ms == UINT64_MAX ? COHORTI_NEVER : earliest_ms * MS));
    }
    while (!nothing_pops(&r, r.calls.next_id)) {
    }
    rig_close(&r);
}

/* A call whose reply came is not due any more. */
static void a_taken_call_has_no_deadline(void **state)
{
    struct rig r;
    int late;
    uint64_t id = 0;
    rig_open(&r, 100);
    uint64_t early = add(&r, 10);
    assert_int_equal(add_as(&r, &late, 20, &id), COHORT_OK);
    take(&r, early);
    assert_int_equal(cohorti_calls_deadline(&r.calls), 20 * MS);
    assert_true(nothing_expires(&r, 19));
    expect_expired(&r, 20, &late);
    rig_close(&r);
}

static void those_of_a_session_are_taken_oldest_first(void **state)
{
    struct rig r;
    uint64_t ids[40], newer[40];
    rig_open(&r, 100);
    for (uint32_t i = 0; i < UNIT_COUNT(ids); i++) {
        assert_int_equal(add_as(&r, &ids[i], i % 3 == 0 ? 0 : 1000 - i, &ids[i]), COHORT_OK);
    }
    uint64_t end_id = r.calls.next_id;
    for (size_t i = 0; i < UNIT_COUNT(ids); i++) { /* some are made while they are completed: not of them */
        assert_int_equal(add_as(&r, &newer[i], 5, &newer[i]), COHORT_OK);
        expect_popped(&r, end_id, &ids[i]);
    }
    assert_true(nothing_pops(&r, end_id));
    for (size_t i = 0; i < UNIT_COUNT(newer); i++) {
        expect_popped(&r, r.calls.next_id, &newer[i]);
    }
    rig_close(&r);
}

static void the_limit_counts_what_waits(void **state)
{
    struct rig r;
    uint64_t id = 0;
    rig_open(&r, 2);
    uint64_t a = add(&r, 0), b = add(&r, 5);
    assert_int_equal(add_as(&r, NULL, 5, &id), COHORT_ELIMIT);
    take(&r, a);
    uint64_t c = add(&r, 7);
    assert_int_equal(add_as(&r, NULL, 5, &id), COHORT_ELIMIT);
    take(&r, b);
    take(&r, c);
    rig_close(&r);
}

static void a_steady_exchange_allocates_nothing(void **state)
{
    struct rig r;
    rig_open(&r, 1000);
    for (unsigned round = 0; round < 50; round++) {
        uint64_t ids[64];
        size_t before = r.memory.calls;
        for (uint32_t i = 0; i < UNIT_COUNT(ids); i++) {
            ids[i] = add(&r, round + i);
        }
        for (size_t i = 0; i < UNIT_COUNT(ids); i++) {
            take(&r, ids[i]);
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
        ids[i] = add(&r, 0);
    }
    for (size_t i = 0; i < UNIT_COUNT(ids); i++) {
        take(&r, ids[i]);
    }
    assert_true(r.memory.blocks <= 257); /* and the table */
    rig_close(&r);
}

static void without_memory_nothing_waits(void **state)
{
    size_t failed = 0;
    for (size_t n = 1; n < 100; n++) {
        uint64_t ids[40];
        uint32_t made = 0;
        struct rig r;
        rig_open(&r, 100);
        r.memory.fail_at = n;
        for (uint32_t i = 0; i < UNIT_COUNT(ids); i++) {
            int status = add_as(&r, NULL, i + 1, &ids[made]);
            assert_true(status == COHORT_OK || status == COHORT_ENOMEM);
            made += status == COHORT_OK;
            failed += status != COHORT_OK;
            assert_int_equal(r.calls.count, made);
        }
        for (size_t i = 0; i < made; i++) {
            take(&r, ids[i]);
        }
        rig_close(&r);
    }
    assert_int_equal(failed, 41); /* each call's own memory, once, and the first table; a later one only makes it fuller */
}

/* With a table that can never grow all its places are used, and no more. */
static void a_table_that_cannot_grow_fills_up(void **state)
{
    struct rig r;
    uint64_t ids[16];
    size_t made = 0;
    rig_open(&r, 100);
    for (unsigned i = 0; i < 8; i++) { /* memory for calls there is */
        ids[i] = add(&r, 10);
    }
    for (unsigned i = 0; i < 8; i++) {
        take(&r, ids[i]);
    }
    r.memory.fail_at = r.memory.calls + 1;
    r.memory.fail_from = true;
    size_t places = r.calls.slot_count;
    while (made < UNIT_COUNT(ids) && add_as(&r, NULL, 10, &ids[made]) == COHORT_OK) {
        made++;
    }
    assert_int_equal(made, places < 8 ? places : 8);
    for (size_t i = 0; i < made; i++) {
        take(&r, ids[i]);
        ids[i] = add(&r, 10);
    }
    for (size_t i = 0; i < made; i++) {
        take(&r, ids[i]);
    }
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_taken_once),
        cmocka_unit_test(numbers_are_not_used_again),
        cmocka_unit_test(some_wait_while_many_come_and_go),
        cmocka_unit_test(deadlines_pass_in_order),
        cmocka_unit_test(deadlines_of_any_mixture_pass_in_order),
        cmocka_unit_test(a_taken_call_has_no_deadline),
        cmocka_unit_test(those_of_a_session_are_taken_oldest_first),
        cmocka_unit_test(the_limit_counts_what_waits),
        cmocka_unit_test(a_steady_exchange_allocates_nothing),
        cmocka_unit_test(a_burst_is_given_back),
        cmocka_unit_test(without_memory_nothing_waits),
        cmocka_unit_test(a_table_that_cannot_grow_fills_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
