/* SPDX-License-Identifier: Apache-2.0
 *
 * base/text: building, cutting at every capacity, quoting what a peer sent, reading numbers, copying.
 */
#include "base/text.h"

#include "support.h"

#include <stdlib.h>
#include <string.h>

static void builds(void **state)
{
    char buffer[200];
    struct cohorti_text t;
    cohorti_text_init(&t, buffer, sizeof(buffer));
    assert_string_equal(buffer, "");
    cohorti_text_add(&t, "a");
    cohorti_text_add_bytes(&t, "bcd", 2);
    cohorti_text_add_bytes(&t, NULL, 0);
    cohorti_text_add(&t, " ");
    cohorti_text_add_u64(&t, 0);
    cohorti_text_add(&t, " ");
    cohorti_text_add_u64(&t, UINT64_MAX);
    cohorti_text_add(&t, " ");
    cohorti_text_add_i64(&t, INT64_MIN);
    cohorti_text_add(&t, " ");
    cohorti_text_add_i64(&t, -1);
    cohorti_text_add(&t, " ");
    cohorti_text_add_i64(&t, INT64_MAX);
    assert_string_equal(buffer, "abc 0 18446744073709551615 -9223372036854775808 -1 9223372036854775807");
    assert_int_equal(t.len, strlen(buffer));
    assert_false(t.cut);
}

static void cut_at_every_capacity(void **state)
{
    const char *whole = "0123456789";
    for (size_t cap = 1; cap <= 12; cap++) {
        char *buffer = malloc(cap); /* exact, for the sanitizer */
        struct cohorti_text t;
        cohorti_text_init(&t, buffer, cap);
        cohorti_text_add(&t, "01234");
        cohorti_text_add(&t, "56789");
        cohorti_text_add(&t, "");
        bool cut = cap < 11;
        assert_int_equal(t.cut, cut);
        assert_int_equal(strlen(buffer), t.len);
        assert_int_equal(t.len, cut ? t.len : 10);
        if (cut && cap >= 4 && cap != 6) {
            assert_string_equal(buffer + t.len - 3, "...");
            assert_memory_equal(buffer, whole, t.len - 3);
        }
        char before[16];
        memcpy(before, buffer, t.len + 1);
        if (cut) {
            cohorti_text_add(&t, "x"); /* nothing follows a cut */
            assert_string_equal(buffer, before);
        }
        free(buffer);
    }
}

static void quotes_what_came_from_outside(void **state)
{
    char buffer[100];
    struct cohorti_text t;
    cohorti_text_init(&t, buffer, sizeof(buffer));
    cohorti_text_add_quoted(&t, "a \"b\"\\\n\0\xff", 9, 100);
    assert_string_equal(buffer, "\"a \\x22b\\x22\\x5c\\x0a\\x00\\xff\"");
    cohorti_text_init(&t, buffer, sizeof(buffer));
    cohorti_text_add_quoted(&t, "abcdef", 6, 4);
    cohorti_text_add_quoted(&t, "abcd", 4, 4);
    cohorti_text_add_quoted(&t, NULL, 0, 4);
    assert_string_equal(buffer, "\"abcd\"...\"abcd\"\"\"");
    cohorti_text_init(&t, buffer, 8);
    cohorti_text_add_quoted(&t, "\n\n\n\n\n\n", 6, 100);
    assert_true(t.cut);
    assert_string_equal(buffer, "\"\\x0...");
}

static void numbers(void **state)
{
    static const char *const bad[] = {"",  " 1", "1 ", "+1", "-1", "0x1", "1.0", "18446744073709551616", "99999999999999999999",
                                      "1a"};
    uint64_t v;
    assert_true(cohorti_parse_u64("0", 1, 0, &v) && v == 0);
    assert_true(cohorti_parse_u64("18446744073709551615", 20, UINT64_MAX, &v) && v == UINT64_MAX);
    assert_true(cohorti_parse_u64("0000000000000000000000065535", 28, 65535, &v) && v == 65535);
    assert_true(cohorti_parse_u64("123x", 3, 1000, &v) && v == 123);
    v = 7;
    assert_false(cohorti_parse_u64("65536", 5, 65535, &v));
    assert_false(cohorti_parse_u64("1", 1, 0, &v));
    assert_false(cohorti_parse_u64("10", 2, 9, &v));
    assert_false(cohorti_parse_u64("1\0", 2, 9, &v));
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        assert_false(cohorti_parse_u64(bad[i], strlen(bad[i]), UINT64_MAX, &v));
    }
    assert_int_equal(v, 7);
}

static void copies(void **state)
{
    char out[4] = "xxx";
    assert_true(cohorti_copy_string(out, sizeof(out), "abc"));
    assert_string_equal(out, "abc");
    assert_false(cohorti_copy_string(out, sizeof(out), "abcd"));
    assert_string_equal(out, "");
    assert_true(cohorti_copy_counted(out, sizeof(out), "abcdef", 3));
    assert_string_equal(out, "abc");
    assert_false(cohorti_copy_counted(out, sizeof(out), "a\0b", 3));
    assert_string_equal(out, "");
    assert_true(cohorti_copy_counted(out, sizeof(out), NULL, 0));
    assert_false(cohorti_copy_counted(out, sizeof(out), "abcd", 4));
    assert_false(cohorti_copy_string(out, 1, "a"));
    assert_true(cohorti_copy_string(out, 1, ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(builds),
        cmocka_unit_test(cut_at_every_capacity),
        cmocka_unit_test(quotes_what_came_from_outside),
        cmocka_unit_test(numbers),
        cmocka_unit_test(copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
