/* SPDX-License-Identifier: Apache-2.0
 *
 * base/name: each rule at its edges, and the address rules against inet_pton() over random text made of the right letters.
 */
#include "base/name.h"

#include "base/prng.h"
#include "support.h"

#include <arpa/inet.h>
#include <cohort/types.h>
#include <stdio.h>
#include <string.h>

/* Through an exact heap copy, so that reading beyond `len` is seen. */
static bool holds(bool (*rule)(const char *, size_t), const char *s, size_t len)
{
    struct unit_bytes copy = unit_bytes_copy(s, len);
    bool result = rule((const char *)copy.bytes, len);
    unit_bytes_free(&copy);
    return result;
}

static void ids(void **state)
{
    static const char *const good[] = {"a", "127.0.1.1", "A-Z_a.z-09", ".", "-"};
    static const char *const bad[] = {"", " ", "a b", "a:b", "a/b", "\xc3\xa4", "a\n", "n;1", "a%b"};
    char longest[COHORT_ID_BYTES_MAX + 1];
    memset(longest, 'x', sizeof(longest));
    for (size_t i = 0; i < UNIT_COUNT(good); i++) {
        assert_true(holds(cohorti_id_valid, good[i], strlen(good[i])));
        assert_true(holds(cohorti_cluster_valid, good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        assert_false(holds(cohorti_id_valid, bad[i], strlen(bad[i])));
        assert_int_equal(holds(cohorti_cluster_valid, bad[i], strlen(bad[i])), bad[i][0] == '\0');
    }
    assert_true(cohorti_id_valid(longest, COHORT_ID_BYTES_MAX));
    assert_false(cohorti_id_valid(longest, COHORT_ID_BYTES_MAX + 1));
    assert_false(cohorti_cluster_valid(longest, COHORT_CLUSTER_BYTES_MAX + 1));
    assert_false(cohorti_id_valid("a\0b", 3));
}

static void subjects(void **state)
{
    char longest[COHORT_SUBJECT_BYTES_MAX + 1];
    memset(longest, '~', sizeof(longest));
    assert_true(holds(cohorti_subject_valid, "orders/new", 10));
    assert_true(holds(cohorti_subject_valid, "a#1", 3));
    assert_true(holds(cohorti_subject_valid, "!", 1));
    assert_true(cohorti_subject_valid(longest, COHORT_SUBJECT_BYTES_MAX));
    assert_false(cohorti_subject_valid(longest, COHORT_SUBJECT_BYTES_MAX + 1));
    assert_false(holds(cohorti_subject_valid, "", 0));
    assert_false(holds(cohorti_subject_valid, "#1", 2));
    assert_false(holds(cohorti_subject_valid, "a b", 3));
    assert_false(holds(cohorti_subject_valid, "a\x7f", 2));
    assert_false(holds(cohorti_subject_valid, "a\xff", 2));
    assert_false(holds(cohorti_subject_valid, "a\0", 2));
}

static void raw_subjects(void **state)
{
    static const struct {
        const char *text;
        uint32_t type;
    } good[] = {{"#0", 0},
                {"#1", 1},
                {"#7", 7},
                {"#4294967295", UINT32_MAX},
                {"#-1", UINT32_MAX},
                {"#-2147483648", UINT32_C(0x80000000)},
                {"#2147483647", INT32_MAX}};
    static const char *const bad[] = {"",    "#",   "#-",  "#4294967296", "#-2147483649", "#1 ", "# 1", "#+1",
                                      "#00", "#01", "#-0", "#-01",        "#a",           "1",   "##1", "#18446744073709551616",
                                      "#--1"};
    uint32_t type;
    for (size_t i = 0; i < UNIT_COUNT(good); i++) {
        assert_true(cohorti_subject_raw(good[i].text, strlen(good[i].text), &type));
        assert_int_equal(type, good[i].type);
    }
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        type = 77;
        assert_false(cohorti_subject_raw(bad[i], strlen(bad[i]), &type));
        assert_int_equal(type, 77);
    }
}

static void ipv4(void **state)
{
    static const char *const good[] = {"0.0.0.0", "127.0.1.1", "255.255.255.255", "1.20.3.40"};
    static const char *const bad[] = {"",          "1.2.3",    "1.2.3.4.5",    "1.2.3.256", "01.2.3.4", "1.2.3.00",     "1..3.4",
                                      ".1.2.3.4",  "1.2.3.4.", " 1.2.3.4",     "1.2.3.4 ",  "1.2.3.-4", "127.0.1.1/32", "0x1.2.3.4",
                                      "1.2.3.4\n", "::1",      "1.2.3.999999", "300.1.1.1"};
    for (size_t i = 0; i < UNIT_COUNT(good); i++) {
        assert_true(holds(cohorti_ipv4_valid, good[i], strlen(good[i])));
        assert_false(holds(cohorti_ipv6_valid, good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        assert_false(holds(cohorti_ipv4_valid, bad[i], strlen(bad[i])));
    }
    assert_false(cohorti_ipv4_valid("1.2.3.4\0", 8));
}

static void ipv6(void **state)
{
    static const char *const good[] = {"::",
                                       "::1",
                                       "1::",
                                       "2001:db8::6",
                                       "1:2:3:4:5:6:7:8",
                                       "1:2:3:4:5:6:7::",
                                       "::2:3:4:5:6:7:8",
                                       "::ffff:1.2.3.4",
                                       "1:2:3:4:5:6:1.2.3.4",
                                       "FE80::aBcD",
                                       "::1.2.3.4",
                                       "fe80::1%eth0",
                                       "fe80::1%2"};
    static const char *const bad[] = {"",
                                      ":",
                                      ":::",
                                      "1:2:3:4:5:6:7",
                                      "1:2:3:4:5:6:7:8:9",
                                      "1::2:3:4:5:6:7:8",
                                      "1::2::3",
                                      "12345::",
                                      "g::",
                                      "1:2:3:4:5:6:7:",
                                      ":1:2:3:4:5:6:7",
                                      "::1.2.3",
                                      "1.2.3.4::",
                                      "::1.2.3.4:5",
                                      "1:2:3:4:5:6:7:1.2.3.4",
                                      "::1 ",
                                      "[::1]",
                                      "::1/128",
                                      "fe80::1%",
                                      "%eth0",
                                      "fe80::1%eth 0",
                                      "fe80::1%a%b"};
    for (size_t i = 0; i < UNIT_COUNT(good); i++) {
        assert_true(holds(cohorti_ipv6_valid, good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        assert_false(holds(cohorti_ipv6_valid, bad[i], strlen(bad[i])));
    }
}

static void agrees_with_inet_pton(void **state)
{
    static const char *const parts[] = {"0", "1", "9", "25", "255", "256", ".", ".", ".", ":", ":", ":", "::", "f", "abcd", "0000"};
    struct cohorti_prng p;
    int good4 = 0, good6 = 0;
    cohorti_prng_init(&p, 6);
    for (int round = 0; round < 400000; round++) {
        char text[128] = "";
        bool dotted = cohorti_prng_below(&p, 2) == 0;
        uint64_t count = 1 + cohorti_prng_below(&p, 17);
        for (uint64_t i = 0; i < count; i++) {
            /* Mostly digits and separators by turns, else hardly any text would be an address. */
            bool separator = cohorti_prng_below(&p, 20) == 0 ? cohorti_prng_below(&p, 2) == 0 : i % 2 == 1;
            uint64_t part = separator ? (dotted ? 6 : 9 + cohorti_prng_below(&p, 4)) : cohorti_prng_below(&p, dotted ? 6 : 16);
            strcat(text, parts[part]);
        }
        uint8_t address[16];
        bool is4 = inet_pton(AF_INET, text, address) == 1;
        bool is6 = inet_pton(AF_INET6, text, address) == 1;
        if (holds(cohorti_ipv4_valid, text, strlen(text)) != is4 || holds(cohorti_ipv6_valid, text, strlen(text)) != is6) {
            fail_msg("\"%s\": inet_pton says %d, %d", text, is4, is6);
        }
        good4 += is4;
        good6 += is6;
    }
    assert_true(good4 > 1000 && good6 > 1000); /* the test would prove nothing without them */
}

static void hostnames(void **state)
{
    char label[65], name[300] = "";
    static const char *const good[] = {"a",  "localhost", "a.b",          "db-1.example.org", "my_host", "a.", "x.y.z.",
                                       "1a", "1.2.3.a",   "xn--nxasmq6b", "_srv.a",           "a--b",    "A"};
    static const char *const bad[] = {"",       ".",   "..",       "a..b", ".a",          "-a",    "a-",
                                      "a.-b",   "a b", "1",        "a.1",  "300.1.1.1",   "127.1", "0x7f",
                                      "a.0xAf", "a/b", "\xc3\xa4", "a:b",  "10.0.0.1/32", "1.",    "a,b"};
    for (size_t i = 0; i < UNIT_COUNT(good); i++) {
        assert_true(holds(cohorti_hostname_valid, good[i], strlen(good[i])));
        assert_true(holds(cohorti_host_valid, good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        assert_false(holds(cohorti_hostname_valid, bad[i], strlen(bad[i])));
    }
    memset(label, 'x', sizeof label - 1);
    label[64] = '\0';
    assert_false(holds(cohorti_hostname_valid, label, 64));
    assert_true(holds(cohorti_hostname_valid, label, 63));
    for (int i = 0; i < 4; i++) { /* 63 + 1 four times is 256, of which the last is cut */
        (void)snprintf(name + 64 * (size_t)i, sizeof name - 64 * (size_t)i, "%.63s.", label);
    }
    assert_false(holds(cohorti_hostname_valid, name, 254));
    assert_true(holds(cohorti_hostname_valid, name, 253));
    assert_true(holds(cohorti_host_valid, "10.0.0.1", 8));
    assert_true(holds(cohorti_host_valid, "fe80::1%eth0", 12));
    assert_false(holds(cohorti_host_valid, "10.0.0.256", 10));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids),       cmocka_unit_test(subjects), cmocka_unit_test(raw_subjects),
        cmocka_unit_test(ipv4),      cmocka_unit_test(ipv6),     cmocka_unit_test(agrees_with_inet_pton),
        cmocka_unit_test(hostnames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
