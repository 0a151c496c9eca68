/* SPDX-License-Identifier: Apache-2.0
 *
 * base/buffer: a queue of bytes against the plainest model of one, its limit, its memory, and its failures.
 */
#include "base/buffer.h"

#include "base/prng.h"
#include "support.h"

#include <string.h>

static void empty_buffer(void **state)
{
    struct unit_memory m;
    struct cohorti_buffer b;
    uint8_t *to;
    unit_memory_init(&m);
    cohorti_buffer_init(&b, &m.alloc, 10);
    assert_int_equal(cohorti_buffer_len(&b), 0);
    assert_int_equal(cohorti_buffer_append(&b, NULL, 0), COHORT_OK);
    assert_int_equal(cohorti_buffer_reserve(&b, 0, &to), COHORT_OK);
    cohorti_buffer_commit(&b, 0);
    cohorti_buffer_consume(&b, 0);
    (void)cohorti_buffer_data(&b);
    assert_int_equal(m.calls, 0);
    cohorti_buffer_deinit(&b);
    cohorti_buffer_deinit(&b);
}

static void limit_counts_queued_bytes(void **state)
{
    struct unit_memory m;
    struct cohorti_buffer b;
    unit_memory_init(&m);
    cohorti_buffer_init(&b, &m.alloc, 10);
    assert_int_equal(cohorti_buffer_append(&b, "0123456789", 10), COHORT_OK);
    assert_int_equal(cohorti_buffer_append(&b, "x", 1), COHORT_EAGAIN);
    cohorti_buffer_consume(&b, 4);
    assert_int_equal(cohorti_buffer_append(&b, "abcd", 4), COHORT_OK);
    assert_int_equal(cohorti_buffer_append(&b, "x", 1), COHORT_EAGAIN);
    assert_int_equal(cohorti_buffer_len(&b), 10);
    assert_memory_equal(cohorti_buffer_data(&b), "456789abcd", 10);
    b.limit = 3; /* lowered below what is queued */
    assert_int_equal(cohorti_buffer_append(&b, "x", 1), COHORT_EAGAIN);
    assert_int_equal(cohorti_buffer_append(&b, "x", SIZE_MAX), COHORT_EAGAIN);
    cohorti_buffer_deinit(&b);
    unit_memory_assert_empty(&m);
}

static void large_block_is_given_back(void **state)
{
    static const uint8_t zeros[100 * 1024];
    struct unit_memory m;
    struct cohorti_buffer b;
    unit_memory_init(&m);
    cohorti_buffer_init(&b, &m.alloc, SIZE_MAX);
    assert_int_equal(cohorti_buffer_append(&b, zeros, sizeof(zeros)), COHORT_OK);
    cohorti_buffer_consume(&b, sizeof(zeros) - 1);
    assert_int_equal(m.blocks, 1);
    cohorti_buffer_consume(&b, 1);
    unit_memory_assert_empty(&m);
    assert_int_equal(cohorti_buffer_append(&b, zeros, 1000), COHORT_OK);
    cohorti_buffer_consume(&b, 1000);
    assert_int_equal(m.blocks, 1); /* small: kept */
    cohorti_buffer_deinit(&b);
    unit_memory_assert_empty(&m);
}

static void out_of_memory_changes_nothing(void **state)
{
    struct unit_memory m;
    struct cohorti_buffer b;
    uint8_t bytes[1000];
    memset(bytes, 'y', sizeof(bytes));
    unit_memory_init(&m);
    cohorti_buffer_init(&b, &m.alloc, SIZE_MAX);
    m.fail_at = 1;
    assert_int_equal(cohorti_buffer_append(&b, "abc", 3), COHORT_ENOMEM);
    assert_int_equal(cohorti_buffer_append(&b, "abc", 3), COHORT_OK);
    m.fail_at = m.calls + 1;
    assert_int_equal(cohorti_buffer_append(&b, bytes, sizeof(bytes)), COHORT_ENOMEM);
    assert_int_equal(cohorti_buffer_len(&b), 3);
    assert_memory_equal(cohorti_buffer_data(&b), "abc", 3);
    assert_int_equal(cohorti_buffer_append(&b, bytes, sizeof(bytes)), COHORT_OK);
    assert_int_equal(cohorti_buffer_len(&b), 1003);
    cohorti_buffer_deinit(&b);
    unit_memory_assert_empty(&m);
}

/* Where there is no memory to grow into but room in front, that room is used, however dear. */
static void room_in_front_serves_when_memory_fails(void **state)
{
    struct unit_memory m;
    struct cohorti_buffer b;
    uint8_t *to;
    unit_memory_init(&m);
    cohorti_buffer_init(&b, &m.alloc, SIZE_MAX);
    assert_int_equal(cohorti_buffer_reserve(&b, 1, &to), COHORT_OK);
    size_t cap = b.cap;
    assert_int_equal(cohorti_buffer_reserve(&b, cap, &to), COHORT_OK);
    for (size_t i = 0; i < cap; i++) {
        to[i] = (uint8_t)i;
    }
    cohorti_buffer_commit(&b, cap);
    cohorti_buffer_consume(&b, 10);
    m.fail_at = 1;
    m.fail_from = true;
    assert_int_equal(cohorti_buffer_append(&b, "0123456789", 10), COHORT_OK);
    assert_int_equal(cohorti_buffer_append(&b, "x", 1), COHORT_ENOMEM);
    assert_int_equal(cohorti_buffer_len(&b), cap);
    assert_int_equal(cohorti_buffer_data(&b)[0], 10);
    assert_memory_equal(cohorti_buffer_data(&b) + cap - 10, "0123456789", 10);
    cohorti_buffer_deinit(&b);
    unit_memory_assert_empty(&m);
}

/* Moving nearly all for a byte of room, again at the next byte, would make appending quadratic: it grows instead. */
static void little_room_in_front_is_left_alone(void **state)
{
    static const uint8_t zeros[4096];
    struct unit_memory m;
    struct cohorti_buffer b;
    uint8_t *to;
    unit_memory_init(&m);
    cohorti_buffer_init(&b, &m.alloc, SIZE_MAX);
    assert_int_equal(cohorti_buffer_reserve(&b, 1, &to), COHORT_OK);
    size_t cap = b.cap;
    assert_true(cap <= sizeof(zeros));
    assert_int_equal(cohorti_buffer_append(&b, zeros, cap), COHORT_OK);
    cohorti_buffer_consume(&b, 1);
    assert_int_equal(cohorti_buffer_append(&b, zeros, 1), COHORT_OK);
    assert_true(b.cap > cap);
    cohorti_buffer_deinit(&b);
    unit_memory_assert_empty(&m);
}

/* Random appends and consumes: the bytes come out as a counter, and the block stays within twice the limit. */
static void behaves_as_a_queue(void **state)
{
    struct unit_memory m;
    struct cohorti_buffer b;
    struct cohorti_prng p;
    unsigned char in = 0, out = 0;
    const size_t limit = 5000;
    unit_memory_init(&m);
    cohorti_prng_init(&p, 1);
    cohorti_buffer_init(&b, &m.alloc, limit);
    for (int step = 0; step < 20000; step++) {
        size_t len = (size_t)cohorti_prng_below(&p, 600);
        uint8_t bytes[600];
        if (cohorti_prng_below(&p, 100) < 50) {
            for (size_t i = 0; i < len; i++) {
                bytes[i] = (uint8_t)(in + i);
            }
            size_t before = cohorti_buffer_len(&b);
            int rc = cohorti_buffer_append(&b, bytes, len);
            assert_int_equal(rc, before + len > limit ? COHORT_EAGAIN : COHORT_OK);
            in = (unsigned char)(in + (rc == COHORT_OK ? len : 0));
        } else {
            len = len < cohorti_buffer_len(&b) ? len : cohorti_buffer_len(&b);
            for (size_t i = 0; i < len; i++) {
                assert_int_equal(cohorti_buffer_data(&b)[i], (uint8_t)(out + i));
            }
            out = (unsigned char)(out + len);
            cohorti_buffer_consume(&b, len);
        }
        assert_true(m.bytes <= 2 * limit);
    }
    assert_true(m.calls < 100); /* grown or moved now and then, not at every step */
    cohorti_buffer_deinit(&b);
    unit_memory_assert_empty(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_buffer),
        cmocka_unit_test(limit_counts_queued_bytes),
        cmocka_unit_test(large_block_is_given_back),
        cmocka_unit_test(out_of_memory_changes_nothing),
        cmocka_unit_test(room_in_front_serves_when_memory_fails),
        cmocka_unit_test(little_room_in_front_is_left_alone),
        cmocka_unit_test(behaves_as_a_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
