/* SPDX-License-Identifier: Apache-2.0
 *
 * edit: nodes are added, set and removed under the rules of reading; a call that fails changes nothing and says why.
 */
#include <cohort/definition.h>

#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cohort_definition_node node(const char *id, const char *ip, uint16_t port, const char *bind)
{
    cohort_definition_node n = {.tcp_port = port};
    (void)snprintf(n.id, sizeof n.id, "%s", id);
    (void)snprintf(n.ip, sizeof n.ip, "%s", ip);
    (void)snprintf(n.bind, sizeof n.bind, "%s", bind);
    return n;
}

static void adds(cohort_definition *d, const char *id, const char *ip, uint16_t port, const char *bind)
{
    cohort_definition_node n = node(id, ip, port, bind);
    cohort_error error = {.code = 9, .text = "left over"};
    assert_int_equal(cohort_definition_add(d, &n, &error), COHORT_OK);
    assert_int_equal(error.code, COHORT_OK);
    assert_string_equal(error.text, "");
}

/* add or set */
static void fails(int (*fn)(cohort_definition *d, const cohort_definition_node *n, cohort_error *error), cohort_definition *d,
                  cohort_definition_node n, int code, const char *text)
{
    size_t count = d->node_count, bytes = count * sizeof *d->nodes;
    cohort_definition_node *before = malloc(bytes + 1);
    cohort_error error;
    memcpy(before, d->nodes, bytes);
    assert_int_equal(fn(d, &n, &error), code);
    assert_string_equal(error.text, text);
    assert_int_equal(error.code, code);
    assert_int_equal(fn(d, &n, NULL), code);
    assert_int_equal(d->node_count, count);
    assert_memory_equal(d->nodes, before, bytes);
    free(before);
}

static void nodes_are_added_at_the_end(void **state)
{
    cohort_definition d = {0};
    adds(&d, "b", "10.0.0.2", 0, "");
    adds(&d, "a", "0::1", 7, "::0");
    adds(&d, "c", "Host.Example", 7, "0.0.0.0");
    assert_int_equal(d.node_count, 3);
    assert_string_equal(d.nodes[0].id, "b");
    assert_int_equal(d.nodes[0].tcp_port, COHORT_PORT_DEFAULT);
    assert_string_equal(d.nodes[1].ip, "::1");
    assert_string_equal(d.nodes[1].bind, "::");
    assert_string_equal(d.nodes[2].ip, "host.example");
    assert_ptr_equal(cohort_definition_find(&d, "c"), &d.nodes[2]);
    cohort_definition_free(&d);
    assert_int_equal(d.node_count, 0);
}

static void what_breaks_a_rule_is_not_added(void **state)
{
    cohort_definition d = {0};
    adds(&d, "a", "10.0.0.1", 0, "");
    fails(cohort_definition_add, &d, node("a b", "10.0.0.2", 0, ""), COHORT_EDEFINITION,
          "id: \"a b\" is not an id (1 to 64 letters, digits, '.', '_' or '-')");
    fails(cohort_definition_add, &d, node("b", "300.1.1.1", 0, ""), COHORT_EDEFINITION,
          "ip: \"300.1.1.1\" is not an IPv4 or IPv6 address, nor a host name");
    fails(cohort_definition_add, &d, node("b", "0.0.0.0", 0, ""), COHORT_EDEFINITION,
          "ip: \"0.0.0.0\" is not an address that others can connect to");
    fails(cohort_definition_add, &d, node("b", "h", 0, "h"), COHORT_EDEFINITION,
          "bind: \"h\" is not an IPv4 or IPv6 address to listen on");
    fails(cohort_definition_add, &d, node("a", "10.0.0.2", 0, ""), COHORT_EEXIST, "id: \"a\" is the id of a node that is there");
    fails(cohort_definition_add, &d, node("b", "10.0.0.1", 9876, ""), COHORT_EEXIST,
          "ip: \"10.0.0.1\" port 9876 is the address of a");
    cohort_definition_node endless = node("b", "10.0.0.2", 0, "");
    memset(endless.id, 'x', sizeof endless.id);
    fails(cohort_definition_add, &d, endless, COHORT_EDEFINITION, "a text does not end within its field");
    cohort_definition_free(&d);
}

static void nodes_are_limited(void **state)
{
    cohort_definition d = {0};
    for (int i = 0; i < COHORT_DEFINITION_NODES_MAX; i++) {
        char id[16], ip[16];
        (void)snprintf(id, sizeof id, "n%d", i);
        (void)snprintf(ip, sizeof ip, "10.0.%d.%d", i / 250, i % 250 + 1);
        adds(&d, id, ip, 0, "");
    }
    fails(cohort_definition_add, &d, node("more", "10.1.0.1", 0, ""), COHORT_ESIZE, "nodes: 1024 are there, and no more may be");
    cohort_definition_free(&d);
}

static void a_node_is_set_in_its_place(void **state)
{
    cohort_definition d = {0};
    adds(&d, "a", "10.0.0.1", 0, "");
    adds(&d, "b", "10.0.0.2", 0, "");
    cohort_definition_node n = node("a", "10.0.0.3", 5, "0.0.0.0");
    assert_int_equal(cohort_definition_set(&d, &n, NULL), COHORT_OK);
    assert_string_equal(d.nodes[0].ip, "10.0.0.3");
    assert_int_equal(d.nodes[0].tcp_port, 5);
    assert_string_equal(d.nodes[0].bind, "0.0.0.0");
    assert_int_equal(cohort_definition_set(&d, &n, NULL), COHORT_OK); /* its own address is free to it */
    fails(cohort_definition_set, &d, node("c", "10.0.0.4", 0, ""), COHORT_ENOPEER, "id: \"c\" is not the id of a node that is there");
    fails(cohort_definition_set, &d, node("a", "10.0.0.2", 0, ""), COHORT_EEXIST, "ip: \"10.0.0.2\" port 9876 is the address of b");
    fails(cohort_definition_set, &d, node("a", "", 0, ""), COHORT_EDEFINITION,
          "ip: \"\" is not an IPv4 or IPv6 address, nor a host name");
    cohort_definition_free(&d);
}

static void a_node_is_removed_and_the_others_close_up(void **state)
{
    cohort_definition d = {0};
    cohort_error error;
    adds(&d, "a", "10.0.0.1", 0, "");
    adds(&d, "b", "10.0.0.2", 0, "");
    adds(&d, "c", "10.0.0.3", 0, "");
    assert_int_equal(cohort_definition_remove(&d, "x", &error), COHORT_ENOPEER);
    assert_string_equal(error.text, "id: \"x\" is not the id of a node that is there");
    assert_int_equal(cohort_definition_remove(&d, "b", &error), COHORT_OK);
    assert_int_equal(error.code, COHORT_OK);
    assert_int_equal(d.node_count, 2);
    assert_string_equal(d.nodes[1].id, "c");
    assert_int_equal(cohort_definition_remove(&d, "c", NULL), COHORT_OK);
    assert_int_equal(cohort_definition_remove(&d, "a", NULL), COHORT_OK);
    assert_int_equal(cohort_definition_remove(&d, "a", NULL), COHORT_ENOPEER);
    assert_int_equal(d.node_count, 0);
    adds(&d, "b", "10.0.0.2", 0, "");
    cohort_definition_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_are_added_at_the_end),
        cmocka_unit_test(what_breaks_a_rule_is_not_added),
        cmocka_unit_test(nodes_are_limited),
        cmocka_unit_test(a_node_is_set_in_its_place),
        cmocka_unit_test(a_node_is_removed_and_the_others_close_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
