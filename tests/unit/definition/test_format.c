/* SPDX-License-Identifier: Apache-2.0
 *
 * format: the text a person sees, unknown keys and the order of all, and that formatting twice changes nothing.
 */
#include <cohort/definition.h>

#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cohort_definition parsed(const char *text)
{
    cohort_definition d;
    cohort_error error;
    if (cohort_definition_parse("c.json", text, strlen(text), &d, &error) != COHORT_OK) {
        fail_msg("%s", error.text);
    }
    return d;
}

/* The text, and the same again from what that text gives. */
static void formats(const cohort_definition *d, const char *expected)
{
    char *text = NULL, *again = NULL;
    size_t len = 0, again_len = 0;
    cohort_error error = {.code = 9, .text = "left over"};
    if (cohort_definition_format(d, &text, &len, &error) != COHORT_OK) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(error.code, COHORT_OK);
    assert_string_equal(error.text, "");
    if (len != strlen(expected) || memcmp(text, expected, len) != 0) {
        fail_msg("%.*s\nnot\n%s", (int)len, text, expected);
    }
    cohort_definition back;
    assert_int_equal(cohort_definition_parse("c.json", text, len, &back, NULL), COHORT_OK);
    assert_int_equal(cohort_definition_format(&back, &again, &again_len, NULL), COHORT_OK);
    assert_int_equal(again_len, len);
    assert_memory_equal(again, text, len);
    free(text);
    free(again);
    cohort_definition_free(&back);
}

static void a_definition_made_in_memory(void **state)
{
    cohort_definition d = {.cluster = "blue"};
    const cohort_definition_node a = {.id = "a", .ip = "10.0.0.1"}, b = {.id = "b", .ip = "h.example", .tcp_port = 7, .bind = "::"};
    assert_int_equal(cohort_definition_add(&d, &a, NULL), COHORT_OK);
    assert_int_equal(cohort_definition_add(&d, &b, NULL), COHORT_OK);
    formats(&d, "{\n"
                "  \"cluster\": \"blue\",\n"
                "  \"nodes\": [\n"
                "    {\n"
                "      \"id\": \"a\",\n"
                "      \"ip\": \"10.0.0.1\",\n"
                "      \"tcpPort\": 9876\n"
                "    },\n"
                "    {\n"
                "      \"id\": \"b\",\n"
                "      \"ip\": \"h.example\",\n"
                "      \"tcpPort\": 7,\n"
                "      \"bind\": \"::\"\n"
                "    }\n"
                "  ]\n"
                "}\n");
    cohort_definition_free(&d);
    formats(&d, "{\n  \"nodes\": []\n}\n");
}

static void unknown_keys_and_order_stay(void **state)
{
    cohort_definition d = parsed("{\"note\":{\"z\":1,\"a\":[0.1,1e300,3.0000000000000004,\"\xc3\xa4/\"]},\"nodes\":["
                                 "{\"rack\":null,\"ip\":\"0::1\",\"id\":\"z\",\"bind\":\"0.0.0.0\"},"
                                 "{\"id\":\"a\",\"ip\":\"10.0.0.1\",\"zone\":true}],\"cluster\":\"blue\",\"last\":[]}");
    cohort_definition_node z = d.nodes[0], n = {.id = "n", .ip = "10.0.0.9"};
    z.bind[0] = '\0';
    z.tcp_port = 5;
    assert_int_equal(cohort_definition_set(&d, &z, NULL), COHORT_OK);
    assert_int_equal(cohort_definition_add(&d, &n, NULL), COHORT_OK);
    formats(&d, "{\n"
                "  \"note\": {\n"
                "    \"z\": 1,\n"
                "    \"a\": [\n"
                "      0.10000000000000001,\n"
                "      1.0000000000000001e300,\n"
                "      3.0000000000000004,\n"
                "      \"\xc3\xa4/\"\n"
                "    ]\n"
                "  },\n"
                "  \"nodes\": [\n"
                "    {\n"
                "      \"rack\": null,\n"
                "      \"ip\": \"::1\",\n"
                "      \"id\": \"z\",\n"
                "      \"tcpPort\": 5\n"
                "    },\n"
                "    {\n"
                "      \"id\": \"a\",\n"
                "      \"ip\": \"10.0.0.1\",\n"
                "      \"zone\": true,\n"
                "      \"tcpPort\": 9876\n"
                "    },\n"
                "    {\n"
                "      \"id\": \"n\",\n"
                "      \"ip\": \"10.0.0.9\",\n"
                "      \"tcpPort\": 9876\n"
                "    }\n"
                "  ],\n"
                "  \"cluster\": \"blue\",\n"
                "  \"last\": []\n"
                "}\n");
    cohort_definition_free(&d);
}

static void reals_get_no_more_digits_than_they_need(void **state)
{
    cohort_definition d = parsed("{\"weight\":0.1,\"nodes\":[]}");
    formats(&d, "{\n  \"weight\": 0.1,\n  \"nodes\": []\n}\n");
    cohort_definition_free(&d);
}

static void a_removed_node_takes_its_keys_along(void **state)
{
    cohort_definition d = parsed(
        "{\"cluster\":\"x\",\"nodes\":[{\"id\":\"a\",\"ip\":\"10.0.0.1\",\"k\":1},{\"id\":\"b\",\"ip\":\"10.0.0.2\",\"k\":2}]}");
    assert_int_equal(cohort_definition_remove(&d, "a", NULL), COHORT_OK);
    d.cluster[0] = '\0';
    formats(&d, "{\n  \"nodes\": [\n    {\n      \"id\": \"b\",\n      \"ip\": \"10.0.0.2\",\n      \"k\": 2,\n"
                "      \"tcpPort\": 9876\n    }\n  ]\n}\n");
    cohort_definition_free(&d);
}

static void fails(cohort_definition_node *nodes, size_t count, const char *text)
{
    cohort_definition d = {.nodes = nodes, .node_count = count};
    char *out = NULL;
    size_t len = 0;
    cohort_error error;
    assert_int_equal(cohort_definition_format(&d, &out, &len, &error), COHORT_EDEFINITION);
    assert_string_equal(error.text, text);
    assert_null(out);
    assert_int_equal(cohort_definition_format(&d, &out, &len, NULL), COHORT_EDEFINITION);
}

static void what_was_changed_by_hand_is_checked(void **state)
{
    cohort_definition_node nodes[2] = {{.id = "a", .ip = "10.0.0.1", .tcp_port = 1}, {.id = "b", .ip = "10.0.0.2", .tcp_port = 1}};
    cohort_definition_node bad[2];
#define BAD(change, text)             \
    memcpy(bad, nodes, sizeof nodes); \
    change;                           \
    fails(bad, 2, text)
    BAD(bad[1].id[0] = '\0', "nodes[1] \"\": is not an id (1 to 64 letters, digits, '.', '_' or '-')");
    BAD(bad[1].ip[0] = '\0', "nodes[1] \"b\": is not an IPv4 or IPv6 address, nor a host name");
    BAD(bad[1].tcp_port = 0, "nodes[1] \"b\": tcpPort 0 is not a port (1 to 65535)");
    BAD(bad[1].bind[0] = 'x', "nodes[1] \"b\": is not an IPv4 or IPv6 address to listen on");
    BAD(bad[1].id[0] = 'a', "nodes[1] \"a\": an earlier node has its id");
    BAD(bad[1].ip[7] = '1', "nodes[1] \"b\": an earlier node has its address");
    BAD(memset(bad[1].ip, 'x', sizeof bad[1].ip), "nodes[1] \"b\": a text does not end within its field");
    cohort_definition named = {.cluster = "a b"};
    char *out = NULL;
    size_t len = 0;
    assert_int_equal(cohort_definition_format(&named, &out, &len, NULL), COHORT_EDEFINITION);
}

/* Indented, what is deep grows out of all proportion: it must neither be written nor eat the memory. */
static void the_text_is_limited(void **state)
{
    enum {
        DEPTH = 1500,
        COUNT = 100000
    };
    char *text = malloc(DEPTH * 2 + COUNT * 2 + 100), *at = text;
    at += sprintf(at, "{\"nodes\":[],\"x\":");
    memset(at, '[', DEPTH);
    at += DEPTH;
    for (int i = 0; i < COUNT; i++) {
        at += sprintf(at, "%s0", i == 0 ? "" : ",");
    }
    memset(at, ']', DEPTH);
    at[DEPTH] = '}';
    at[DEPTH + 1] = '\0';
    cohort_definition d = parsed(text);
    cohort_error error;
    char *out = NULL;
    size_t len = 0;
    assert_int_equal(cohort_definition_format(&d, &out, &len, &error), COHORT_ESIZE);
    assert_string_equal(error.text, "larger than a definition may be (1 MiB)");
    cohort_definition_free(&d);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_definition_made_in_memory),
        cmocka_unit_test(unknown_keys_and_order_stay),
        cmocka_unit_test(reals_get_no_more_digits_than_they_need),
        cmocka_unit_test(a_removed_node_takes_its_keys_along),
        cmocka_unit_test(what_was_changed_by_hand_is_checked),
        cmocka_unit_test(the_text_is_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
