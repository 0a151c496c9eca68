/* SPDX-License-Identifier: Apache-2.0
 *
 * wire/hello: what the 2014 node sends, our extension both ways against golden bytes, and everything a peer may get wrong.
 */
#include "wire/hello.h"

#include "base/prng.h"
#include "support.h"

#include <cohort/frame.h>
#include <stdlib.h>
#include <string.h>

static int decode(const char *text, size_t len, struct cohorti_hello *out, char *why, size_t why_cap)
{
    struct unit_bytes copy = unit_bytes_copy(text, len);
    struct cohorti_text t;
    cohorti_text_init(&t, why, why_cap);
    int rc = cohorti_hello_decode(copy.bytes, len, out, &t);
    unit_bytes_free(&copy);
    return rc;
}

static void decodes(const char *text, struct cohorti_hello *out)
{
    char why[256];
    if (decode(text, strlen(text), out, why, sizeof(why)) != COHORT_OK) {
        fail_msg("%s: %s", text, why);
    }
    assert_string_equal(why, "");
}

static void is_legacy(const struct cohorti_hello *h)
{
    assert_false(h->extended);
    assert_int_equal(h->version_min, 0);
    assert_int_equal(h->version_max, 0);
    assert_true(h->incarnation == 0);
    assert_string_equal(h->cluster, "");
    assert_int_equal(h->attempt, 0);
    assert_true(h->caps == 0);
}

static void encodes_to(const struct cohorti_hello *h, const void *expected, size_t expected_len)
{
    for (size_t cap = 0; cap <= expected_len + 1; cap++) {
        struct unit_bytes out = unit_bytes_copy(NULL, 0);
        out.bytes = realloc(out.bytes, cap + 1);
        size_t len = 777;
        int rc = cohorti_hello_encode(h, out.bytes, cap, &len);
        if (cap < expected_len) {
            assert_int_equal(rc, COHORT_ESIZE);
            assert_int_equal(len, 777);
        } else {
            assert_int_equal(rc, COHORT_OK);
            assert_int_equal(len, expected_len);
            assert_memory_equal(out.bytes, expected, expected_len);
        }
        unit_bytes_free(&out);
    }
}

static bool same(const struct cohorti_hello *a, const struct cohorti_hello *b)
{
    return strcmp(a->id, b->id) == 0 && strcmp(a->ip, b->ip) == 0 && a->tcp_port == b->tcp_port && a->extended == b->extended &&
           a->version_min == b->version_min && a->version_max == b->version_max && a->incarnation == b->incarnation &&
           strcmp(a->cluster, b->cluster) == 0 && a->attempt == b->attempt && a->caps == b->caps;
}

static void golden_both_ways(const char *path, bool hex, const struct cohorti_hello *expected)
{
    struct unit_bytes file = hex ? unit_vector_hex(path) : unit_vector(path);
    cohort_frame frame;
    size_t consumed, needed;
    struct cohorti_hello h;
    assert_int_equal(cohort_frame_decode(file.bytes, file.len, 32768, &frame, &consumed, &needed), COHORT_OK);
    assert_int_equal(consumed, file.len);
    assert_int_equal(frame.type, COHORT_TYPE_HELLO);
    assert_int_equal(cohorti_hello_decode(frame.data, frame.data_len, &h, NULL), COHORT_OK);
    assert_true(same(&h, expected));
    encodes_to(expected, frame.data, frame.data_len);
    unit_bytes_free(&file);
}

static void legacy_files(void **state)
{
    struct cohorti_hello one = {.id = "127.0.1.1", .ip = "127.0.1.1", .tcp_port = 9876};
    struct cohorti_hello two = {.id = "127.0.1.2", .ip = "127.0.1.2", .tcp_port = 9876};
    golden_both_ways("legacy/tlv-hello-127.0.1.1.bin", false, &one);
    golden_both_ways("legacy/oneway-A127.0.1.1-dials-B127.0.1.2.dialer-to-acceptor.bin", false, &one);
    golden_both_ways("legacy/oneway-A127.0.1.1-dials-B127.0.1.2.acceptor-to-dialer.bin", false, &two);
    golden_both_ways("legacy/mutual-conn0-A127.0.1.1-dials-B127.0.1.2.dialer-to-acceptor.bin", false, &one);
    golden_both_ways("legacy/mutual-conn0-A127.0.1.1-dials-B127.0.1.2.acceptor-to-dialer.bin", false, &two);
    golden_both_ways("legacy/mutual-conn1-B127.0.1.2-dials-A127.0.1.1.dialer-to-acceptor.bin", false, &two);
    golden_both_ways("legacy/mutual-conn1-B127.0.1.2-dials-A127.0.1.1.acceptor-to-dialer.bin", false, &one);
}

static void golden_files(void **state)
{
    struct cohorti_hello full = {.id = "n1.example",
                                 .ip = "10.0.0.1",
                                 .tcp_port = 9876,
                                 .extended = true,
                                 .version_min = 1,
                                 .version_max = 3,
                                 .incarnation = UINT64_C(1700000000000001),
                                 .cluster = "prod",
                                 .attempt = 7,
                                 .caps = 0xa5};
    struct cohorti_hello least = {
        .id = "127.0.1.1", .ip = "127.0.1.1", .tcp_port = 9876, .extended = true, .version_min = 1, .version_max = 1};
    struct cohorti_hello ipv6 = {.id = "node-6",
                                 .ip = "2001:db8::6",
                                 .tcp_port = 65535,
                                 .extended = true,
                                 .version_min = 1,
                                 .version_max = 1,
                                 .incarnation = COHORTI_INCARNATION_MAX,
                                 .attempt = UINT32_MAX,
                                 .caps = UINT64_MAX};
    golden_both_ways("cohort/hello-extended.hex", true, &full);
    golden_both_ways("cohort/hello-extended-least.hex", true, &least);
    golden_both_ways("cohort/hello-extended-ipv6.hex", true, &ipv6);
}

static void ipv6_needs_the_extension(void **state)
{
    struct cohorti_hello h = {.id = "node-6", .ip = "::1", .tcp_port = 1};
    uint8_t out[COHORTI_HELLO_BYTES_MAX];
    size_t len;
    assert_int_equal(cohorti_hello_encode(&h, out, sizeof(out), &len), COHORT_EADDR);
}

/* What a 2014 node may send besides, or ignores. */
static void legacy_variants(void **state)
{
    static const char *const texts[] = {"b:10.0.0.2:1",          "b:10.0.0.2:1:",           "b:10.0.0.2:1:anything",
                                        "b:10.0.0.2:1:cohort",   "b:10.0.0.2:1:x:cohort/1", "b:10.0.0.2:1:Cohort/1-1;inc=1",
                                        "b:10.0.0.2:1: cohort/", "b:10.0.0.2:00001"};
    for (size_t i = 0; i < UNIT_COUNT(texts); i++) {
        struct cohorti_hello h;
        decodes(texts[i], &h);
        assert_string_equal(h.id, "b"); /* an id different from the ip is fine */
        assert_string_equal(h.ip, "10.0.0.2");
        assert_int_equal(h.tcp_port, 1);
        is_legacy(&h);
    }
}

static void extension_variants(void **state)
{
    struct cohorti_hello h;
    decodes("b:10.0.0.2:1:cohort/1-65535;inc=5;future=a:b=c;;flag;caps=AbC;attempt=0;cluster=;zzz", &h);
    assert_true(h.extended);
    assert_int_equal(h.version_max, 65535);
    assert_true(h.incarnation == 5);
    assert_true(h.caps == 0xabc);
    assert_string_equal(h.cluster, "");
    assert_string_equal(h.ip, "10.0.0.2");
    decodes("b:0.0.0.0:1:cohort/2-2;addr=host-1.example.org;inc=0;", &h);
    assert_string_equal(h.ip, "host-1.example.org");
    decodes("b:10.0.0.2:1:cohort/2-2;addr=fe80::1%eth0;inc=0", &h);
    assert_string_equal(h.ip, "fe80::1%eth0");
    decodes("b:10.0.0.2:1:cohort/1-1;inc=0;future=1;future=1", &h); /* only keys we know may not repeat */
}

static void malformed(void **state)
{
    static const struct {
        const char *text;
        const char *why; /* part of it: the offending value is shown */
    } bad[] = {
        {"", "empty"},
        {"127.0.1.1", "\"127.0.1.1\" has no ':'"},
        {"a:127.0.1.1", "port, is missing"},
        {":127.0.1.1:9876", "\"\" is not an id"},
        {"a b:127.0.1.1:9876", "\"a b\" is not an id"},
        {"\xff\n:127.0.1.1:9876", "\"\\xff\\x0a\" is not an id"},
        {"a::9876", "\"\" is not an IPv4"},
        {"a:127.0.1.1/32:9876", "\"127.0.1.1/32\" is not an IPv4"},
        {"a:host:9876", "\"host\" is not an IPv4"},
        {"a:::1:9876", "not an IPv4"},
        {"a:1.2.3.4:", "\"\" is not a port"},
        {"a:1.2.3.4:0", "\"0\" is not a port"},
        {"a:1.2.3.4:65536", "\"65536\" is not a port"},
        {"a:1.2.3.4:-1", "\"-1\" is not a port"},
        {"a:1.2.3.4:+1", "\"+1\" is not a port"},
        {"a:1.2.3.4:9876 ", "\"9876 \" is not a port"},
        {"a:1.2.3.4:1:cohort/", "\"\" is not a range"},
        {"a:1.2.3.4:1:cohort/1;inc=1", "\"1\" is not a range"},
        {"a:1.2.3.4:1:cohort/0-1;inc=1", "\"0-1\" is not a range"},
        {"a:1.2.3.4:1:cohort/2-1;inc=1", "\"2-1\" is not a range"},
        {"a:1.2.3.4:1:cohort/1-65536;inc=1", "\"1-65536\" is not a range"},
        {"a:1.2.3.4:1:cohort/1-;inc=1", "\"1-\" is not a range"},
        {"a:1.2.3.4:1:cohort/-1;inc=1", "\"-1\" is not a range"},
        {"a:1.2.3.4:1:cohort/1-1", "lacks inc="},
        {"a:1.2.3.4:1:cohort/1-1;attempt=1", "lacks inc="},
        {"a:1.2.3.4:1:cohort/1-1;inc", "\"inc\" is not a valid"},
        {"a:1.2.3.4:1:cohort/1-1;inc=", "\"inc=\" is not a valid"},
        {"a:1.2.3.4:1:cohort/1-1;inc=-1", "\"inc=-1\" is not a valid"},
        {"a:1.2.3.4:1:cohort/1-1;inc=9007199254740992", "\"inc=9007199254740992\" is not a valid"},
        {"a:1.2.3.4:1:cohort/1-1;inc=1;inc=1", "\"inc=1\" comes a second time"},
        {"a:1.2.3.4:1:cohort/1-1;inc=1;caps=;caps=1", "\"caps=\" is not a valid"},
        {"a:1.2.3.4:1:cohort/1-1;inc=1;caps=1;x;caps=1", "\"caps=1\" comes a second time"},
        {"a:1.2.3.4:1:cohort/1-1;inc=1;caps=g", "\"caps=g\" is not a valid"},
        {"a:1.2.3.4:1:cohort/1-1;inc=1;caps=0x1", "\"caps=0x1\" is not a valid"},
        {"a:1.2.3.4:1:cohort/1-1;inc=1;caps=10000000000000000", "\"caps=10000000000000000\" is not a valid"},
        {"a:1.2.3.4:1:cohort/1-1;inc=1;attempt=4294967296", "\"attempt=4294967296\" is not a valid"},
        {"a:1.2.3.4:1:cohort/1-1;inc=1;cluster=a b", "\"cluster=a b\" is not a valid"},
        {"a:1.2.3.4:1:cohort/1-1;inc=1;cluster=a=b", "\"cluster=a=b\" is not a valid"},
        {"a:1.2.3.4:1:cohort/1-1;inc=1;addr=", "\"addr=\" is not a valid"},
        {"a:1.2.3.4:1:cohort/1-1;inc=1;addr=0.0.0.0", "\"addr=0.0.0.0\" is not a valid"},
        {"a:1.2.3.4:1:cohort/1-1;inc=1;addr=a b", "\"addr=a b\" is not a valid"},
        {"a:1.2.3.4:1:cohort/1-1;inc=1;addr=1:2", "\"addr=1:2\" is not a valid"},
    };
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        struct cohorti_hello h;
        char why[256];
        int rc = decode(bad[i].text, strlen(bad[i].text), &h, why, sizeof(why));
        if (rc != COHORT_EHELLO || strstr(why, bad[i].why) == NULL) {
            fail_msg("%s: %s, \"%s\" instead of \"%s\"", bad[i].text, cohort_error_name(rc), why, bad[i].why);
        }
        assert_null(strchr(why, '\n'));
        assert_int_equal(cohorti_hello_decode(bad[i].text, strlen(bad[i].text), &h, NULL), COHORT_EHELLO);
    }
}

static void fields_at_their_longest(void **state)
{
    char text[COHORTI_HELLO_BYTES_MAX + 2];
    char why[256];
    struct cohorti_hello h;
    memset(text, 'i', sizeof(text));
    memcpy(text + 64, ":1.2.3.4:1", 11);
    decodes(text, &h);
    assert_int_equal(strlen(h.id), 64);
    memset(text, 'i', sizeof(text));
    memcpy(text + 65, ":1.2.3.4:1", 11);
    assert_int_equal(decode(text, strlen(text), &h, why, sizeof(why)), COHORT_EHELLO);
    memset(text, 'i', sizeof(text)); /* a fourth field as long as it may be, and one byte longer */
    memcpy(text, "a:1.2.3.4:1:", 12);
    assert_int_equal(decode(text, COHORTI_HELLO_BYTES_MAX, &h, why, sizeof(why)), COHORT_OK);
    assert_int_equal(decode(text, COHORTI_HELLO_BYTES_MAX + 1, &h, why, sizeof(why)), COHORT_EHELLO);
    assert_int_equal(decode("a\0:1.2.3.4:1", 12, &h, why, sizeof(why)), COHORT_EHELLO);
    assert_int_equal(decode("a:1.2.3.4:1\0", 12, &h, why, sizeof(why)), COHORT_EHELLO);
}

static void largest_hello_fits(void **state)
{
    struct cohorti_hello h = {.tcp_port = 65535,
                              .extended = true,
                              .version_min = 65535,
                              .version_max = 65535,
                              .incarnation = COHORTI_INCARNATION_MAX,
                              .attempt = UINT32_MAX,
                              .caps = UINT64_MAX};
    struct cohorti_hello back;
    uint8_t out[COHORTI_HELLO_BYTES_MAX];
    size_t len;
    memset(h.id, 'i', sizeof(h.id) - 1);
    memset(h.ip, 'h', sizeof(h.ip) - 1);
    memset(h.cluster, 'c', sizeof(h.cluster) - 1);
    assert_int_equal(cohorti_hello_encode(&h, out, sizeof(out), &len), COHORT_OK);
    assert_int_equal(cohorti_hello_decode(out, len, &back, NULL), COHORT_OK);
    assert_true(same(&h, &back));
}

/* Whatever bytes come: no crash, a reason for a refusal, and what is accepted can be sent on and reads the same. */
static void mutations(void **state)
{
    static const char seed[] = "n1:10.0.0.1:9876:cohort/1-3;inc=17;cluster=prod;attempt=7;addr=2001:db8::6;caps=a5";
    static const char alphabet[] = ":;=-./0123456789abcdefgincluster \n\0\xff%";
    struct cohorti_prng p;
    int accepted = 0, refused = 0;
    cohorti_prng_init(&p, 2014);
    for (int round = 0; round < 100000; round++) {
        char text[sizeof(seed)];
        char why[200];
        struct cohorti_hello h, back;
        uint8_t out[COHORTI_HELLO_BYTES_MAX];
        memcpy(text, seed, sizeof(seed));
        size_t len = sizeof(seed) - 1 - (cohorti_prng_below(&p, 4) == 0 ? (size_t)cohorti_prng_below(&p, sizeof(seed)) : 0);
        for (uint64_t i = 1 + cohorti_prng_below(&p, 3); i > 0; i--) {
            text[cohorti_prng_below(&p, sizeof(seed) - 1)] = alphabet[cohorti_prng_below(&p, sizeof(alphabet) - 1)];
        }
        if (decode(text, len, &h, why, sizeof(why)) != COHORT_OK) {
            assert_string_not_equal(why, "");
            refused++;
            continue;
        }
        size_t out_len;
        assert_int_equal(cohorti_hello_encode(&h, out, sizeof(out), &out_len), COHORT_OK);
        assert_int_equal(cohorti_hello_decode(out, out_len, &back, NULL), COHORT_OK);
        assert_true(same(&h, &back));
        accepted++;
    }
    assert_true(accepted > 1000 && refused > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(legacy_files),
        cmocka_unit_test(golden_files),
        cmocka_unit_test(ipv6_needs_the_extension),
        cmocka_unit_test(legacy_variants),
        cmocka_unit_test(extension_variants),
        cmocka_unit_test(malformed),
        cmocka_unit_test(fields_at_their_longest),
        cmocka_unit_test(largest_hello_fits),
        cmocka_unit_test(mutations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
