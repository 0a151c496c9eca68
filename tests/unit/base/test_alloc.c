/* SPDX-License-Identifier: Apache-2.0
 *
 * base/alloc: zeroed memory, release of NULL, and argument order through the function pointers.
 */
#include "base/alloc.h"

#include "support.h"

static void zeroed(void **state)
{
    struct unit_memory m;
    unit_memory_init(&m);
    uint8_t *bytes = cohorti_alloc_zero(&m.alloc, 100);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(bytes[i], 0);
    }
    assert_int_equal(m.bytes, 100);
    cohorti_release(&m.alloc, bytes);
    cohorti_release(&m.alloc, NULL);
    unit_memory_assert_empty(&m);
}

static void failure_gives_null(void **state)
{
    struct unit_memory m;
    unit_memory_init(&m);
    m.fail_at = 1;
    assert_null(cohorti_alloc_zero(&m.alloc, 100));
    unit_memory_assert_empty(&m);
}

static void reallocate_keeps_contents(void **state)
{
    struct unit_memory m;
    unit_memory_init(&m);
    char *s = cohorti_realloc(&m.alloc, NULL, 3);
    s[0] = 'a', s[1] = 'b', s[2] = '\0';
    s = cohorti_realloc(&m.alloc, s, 300);
    assert_string_equal(s, "ab");
    cohorti_release(&m.alloc, s);
    unit_memory_assert_empty(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeroed),
        cmocka_unit_test(failure_gives_null),
        cmocka_unit_test(reallocate_keeps_contents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
