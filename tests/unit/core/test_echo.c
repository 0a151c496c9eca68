/* SPDX-License-Identifier: Apache-2.0
 *
 * core/echo: matched by data, the oldest first; limit, expiry, nothing left behind.
 */
#include "core/echo.h"

#include "support.h"

#include <string.h>

struct rig {
    struct unit_memory memory;
    struct cohorti_echoes e;
};

static void rig_open(struct rig *r, uint32_t max)
{
    unit_memory_init(&r->memory);
    cohorti_echoes_init(&r->e, &r->memory.alloc, max);
}

static struct cohorti_echo *add(struct rig *r, uint64_t sent_ns, uint64_t deadline_ns, const char *data)
{
    struct cohorti_echo *echo = NULL;
    assert_int_equal(cohorti_echoes_add(&r->e, sent_ns, deadline_ns, data, strlen(data), &echo), COHORT_OK);
    return echo;
}

static void rig_close(struct rig *r)
{
    struct cohorti_echo *echo;
    while ((echo = cohorti_echoes_pop(&r->e)) != NULL) {
        cohorti_echo_free(&r->memory.alloc, echo);
    }
    assert_int_equal(r->e.count, 0);
    unit_memory_assert_empty(&r->memory);
}

static struct cohorti_echo *match(struct rig *r, const void *data, size_t len)
{
    bool late = true;
    struct cohorti_echo *echo = cohorti_echoes_match(&r->e, data, len, &late);
    assert_false(late);
    return echo;
}

static void an_answer_matches_by_its_whole_data(void **state)
{
    struct rig r;
    rig_open(&r, 4);
    (void)add(&r, 1, 100, "ab");
    assert_null(match(&r, "a", 1));
    assert_null(match(&r, "abc", 3));
    assert_null(match(&r, "ax", 2));
    assert_null(match(&r, NULL, 0));
    struct cohorti_echo *echo = match(&r, "ab", 2);
    assert_non_null(echo);
    assert_int_equal(echo->sent_ns, 1);
    assert_null(match(&r, "ab", 2)); /* once */
    cohorti_echo_free(&r.memory.alloc, echo);
    rig_close(&r);
}

static void empty_data_matches_empty_data(void **state)
{
    struct rig r;
    struct cohorti_echo *echo = NULL;
    rig_open(&r, 4);
    assert_int_equal(cohorti_echoes_add(&r.e, 1, 2, NULL, 0, &echo), COHORT_OK);
    assert_ptr_equal(match(&r, NULL, 0), echo);
    cohorti_echo_free(&r.memory.alloc, echo);
    rig_close(&r);
}

static void of_equal_ones_the_oldest_is_answered_first(void **state)
{
    struct rig r;
    rig_open(&r, 4);
    struct cohorti_echo *first = add(&r, 1, 100, "same");
    struct cohorti_echo *second = add(&r, 2, 50, "same");
    assert_ptr_equal(match(&r, "same", 4), first);
    assert_ptr_equal(match(&r, "same", 4), second);
    cohorti_echo_free(&r.memory.alloc, first);
    cohorti_echo_free(&r.memory.alloc, second);
    rig_close(&r);
}

static void the_limit_holds_and_dropping_makes_room(void **state)
{
    struct rig r;
    struct cohorti_echo *echo = NULL;
    rig_open(&r, 2);
    (void)add(&r, 1, 9, "a");
    struct cohorti_echo *b = add(&r, 1, 9, "b");
    assert_int_equal(cohorti_echoes_add(&r.e, 1, 9, "c", 1, &echo), COHORT_ELIMIT);
    cohorti_echoes_drop(&r.e, b);
    (void)add(&r, 1, 9, "c");
    rig_close(&r);
}

static void they_expire_at_their_deadline(void **state)
{
    struct rig r;
    rig_open(&r, 4);
    assert_int_equal(cohorti_echoes_deadline(&r.e), UINT64_MAX);
    struct cohorti_echo *late = add(&r, 1, 200, "late");
    struct cohorti_echo *soon = add(&r, 1, 100, "soon");
    assert_int_equal(cohorti_echoes_deadline(&r.e), 100);
    assert_null(cohorti_echoes_expire(&r.e, 99));
    assert_ptr_equal(cohorti_echoes_expire(&r.e, 100), soon);
    assert_null(cohorti_echoes_expire(&r.e, 199));
    assert_int_equal(cohorti_echoes_deadline(&r.e), 200);
    assert_ptr_equal(cohorti_echoes_expire(&r.e, 1000), late);
    cohorti_echo_free(&r.memory.alloc, soon);
    cohorti_echo_free(&r.memory.alloc, late);
    rig_close(&r);
}

static void expire(struct rig *r, uint64_t now_ns)
{
    struct cohorti_echo *echo = cohorti_echoes_expire(&r->e, now_ns);
    assert_non_null(echo);
    cohorti_echo_free(&r->memory.alloc, echo);
}

/* Answered as if it were a question, it would go round for ever. */
static void an_answer_that_comes_too_late_is_swallowed_once(void **state)
{
    struct rig r;
    bool late = false;
    rig_open(&r, 4);
    (void)add(&r, 1, 100, "x");
    expire(&r, 100);
    struct cohorti_echo *again = add(&r, 101, 200, "x"); /* the late answer is not the answer to this one */
    assert_null(cohorti_echoes_match(&r.e, "x", 1, &late));
    assert_true(late);
    assert_ptr_equal(match(&r, "x", 1), again);
    cohorti_echo_free(&r.memory.alloc, again);
    assert_null(match(&r, "x", 1));
    rig_close(&r);
}

static void so_many_late_ones_are_remembered_and_no_more(void **state)
{
    struct rig r;
    bool late = false;
    rig_open(&r, 2);
    for (const char *data = "abc"; *data != '\0'; data++) {
        struct cohorti_echo *echo = NULL;
        assert_int_equal(cohorti_echoes_add(&r.e, 1, 2, data, 1, &echo), COHORT_OK);
        expire(&r, 2);
    }
    assert_int_equal(r.e.ghost_count, 2);
    assert_null(match(&r, "a", 1)); /* forgotten */
    assert_null(cohorti_echoes_match(&r.e, "c", 1, &late));
    assert_true(late);
    rig_close(&r);
}

static void without_memory_nothing_is_added(void **state)
{
    struct rig r;
    struct cohorti_echo *echo = NULL;
    rig_open(&r, 4);
    r.memory.fail_at = 1;
    assert_int_equal(cohorti_echoes_add(&r.e, 1, 9, "a", 1, &echo), COHORT_ENOMEM);
    assert_int_equal(r.e.count, 0);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_matches_by_its_whole_data),
        cmocka_unit_test(empty_data_matches_empty_data),
        cmocka_unit_test(of_equal_ones_the_oldest_is_answered_first),
        cmocka_unit_test(the_limit_holds_and_dropping_makes_room),
        cmocka_unit_test(they_expire_at_their_deadline),
        cmocka_unit_test(an_answer_that_comes_too_late_is_swallowed_once),
        cmocka_unit_test(so_many_late_ones_are_remembered_and_no_more),
        cmocka_unit_test(without_memory_nothing_is_added),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
