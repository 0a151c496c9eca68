/* SPDX-License-Identifier: Apache-2.0
 *
 * Numeric addresses of io/uv: read and written back, refused, and told to be loopback or not.
 */
#include "io/uv/uv_io.h"

#include "support.h"

static void addresses_are_read_and_written_back(void **state)
{
    static const struct {
        const char *host, *text;
    } cases[] = {{"127.0.0.1", "127.0.0.1:7"},
                 {"::1", "[::1]:7"},
                 {"2001:db8:0:0::5", "[2001:db8::5]:7"},
                 {"::ffff:10.0.0.127", "10.0.0.127:7"}};
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        struct sockaddr_storage address;
        socklen_t len;
        char text[64];
        assert_int_equal(cohorti_uv_address(cases[i].host, 7, &address, &len), COHORT_OK);
        cohorti_uv_address_text(&address, text, sizeof text);
        assert_string_equal(text, cases[i].text);
    }
}

static void what_is_no_address_is_refused(void **state)
{
    static const char *const bad[] = {"", "host", "127.0.0.256", "127.0.0.1/32", "::g", "fe80::1%nowhere"};
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        struct sockaddr_storage address;
        socklen_t len;
        assert_int_equal(cohorti_uv_address(bad[i], 1, &address, &len), COHORT_EADDR);
    }
}

static void loopback_is_told_from_all_else(void **state)
{
    static const struct {
        const char *host;
        bool loopback;
    } cases[] = {{"127.0.0.1", true},
                 {"127.255.3.4", true},
                 {"::1", true},
                 {"::ffff:127.0.0.1", true},
                 {"126.255.255.255", false},
                 {"128.0.0.1", false},
                 {"0.0.0.0", false},
                 {"1.0.0.127", false},
                 {"::", false},
                 {"::2", false},
                 {"::ffff:10.0.0.127", false}};
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        struct sockaddr_storage address;
        socklen_t len;
        assert_int_equal(cohorti_uv_address(cases[i].host, 1, &address, &len), COHORT_OK);
        assert_int_equal(cohorti_uv_is_loopback(&address), cases[i].loopback);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read_and_written_back),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(loopback_is_told_from_all_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
