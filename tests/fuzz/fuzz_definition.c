/* SPDX-License-Identifier: Apache-2.0
 *
 * The cluster definition: what is accepted obeys every rule that the rest of the library relies on; what is not is explained in one
 * line; what is formatted reads as the same and formats as the same; a change and its reverse leave nothing; nothing is leaked.
 */
#include "fuzz.h"

#include "base/name.h"

#include <cohort/definition.h>
#include <stdlib.h>
#include <string.h>

static void check_node(const cohort_definition *definition, size_t i)
{
    const cohort_definition_node *node = &definition->nodes[i];
    FUZZ_CHECK(cohorti_id_valid(node->id, strlen(node->id)));
    FUZZ_CHECK(cohorti_host_valid(node->ip, strlen(node->ip)));
    FUZZ_CHECK(node->bind[0] == '\0' || cohorti_ipv4_valid(node->bind, strlen(node->bind)) ||
               cohorti_ipv6_valid(node->bind, strlen(node->bind)));
    FUZZ_CHECK(node->tcp_port != 0);
    FUZZ_CHECK(cohort_definition_find(definition, node->id) == node);
    for (size_t j = 0; j < i; j++) {
        const cohort_definition_node *other = &definition->nodes[j];
        FUZZ_CHECK(strcmp(other->id, node->id) != 0);
        FUZZ_CHECK(strcmp(other->ip, node->ip) != 0 || other->tcp_port != node->tcp_port);
    }
}

static void check_error(int status, const cohort_error *error)
{
    FUZZ_CHECK(status == COHORT_ESYNTAX || status == COHORT_EDEFINITION || status == COHORT_ESIZE);
    FUZZ_CHECK(error->code == status && strncmp(error->text, "fuzz.json", 9) == 0);
    for (const char *c = error->text; *c != '\0'; c++) {
        FUZZ_CHECK((unsigned char)*c >= 0x20 && *c != 0x7f);
    }
}

/* The text; NULL when it would be too large: indenting what is deep can make it so. */
static char *format(const cohort_definition *definition, size_t *len)
{
    char *text = NULL;
    cohort_error error;
    int status = cohort_definition_format(definition, &text, len, &error);
    FUZZ_CHECK(status == COHORT_OK || status == COHORT_ESIZE);
    return status == COHORT_OK ? text : NULL;
}

static void check_same(const cohort_definition *a, const cohort_definition *b)
{
    FUZZ_CHECK(strcmp(a->cluster, b->cluster) == 0 && a->node_count == b->node_count);
    for (size_t i = 0; i < a->node_count; i++) {
        const cohort_definition_node *left = &a->nodes[i], *right = &b->nodes[i];
        FUZZ_CHECK(strcmp(left->id, right->id) == 0 && strcmp(left->ip, right->ip) == 0 && left->tcp_port == right->tcp_port &&
                   strcmp(left->bind, right->bind) == 0);
    }
}

static void check_round_trip(const cohort_definition *definition)
{
    size_t len = 0, again_len = 0;
    char *text = format(definition, &len);
    if (text == NULL) {
        return;
    }
    cohort_definition back;
    FUZZ_CHECK(cohort_definition_parse("fuzz.json", text, len, &back, NULL) == COHORT_OK);
    check_same(definition, &back);
    char *again = format(&back, &again_len);
    FUZZ_CHECK(again != NULL && again_len == len && memcmp(again, text, len) == 0);
    free(again);
    free(text);
    cohort_definition_free(&back);
}

static void check_changes(cohort_definition *definition)
{
    const cohort_definition_node added = {.id = "fuzz-added", .ip = "fuzz-added.example", .bind = "::"};
    size_t count = definition->node_count;
    int status = cohort_definition_add(definition, &added, NULL);
    FUZZ_CHECK(status == COHORT_OK || status == COHORT_ESIZE || status == COHORT_EEXIST);
    if (status == COHORT_OK) {
        check_node(definition, count);
        FUZZ_CHECK(cohort_definition_add(definition, &added, NULL) == COHORT_EEXIST);
        FUZZ_CHECK(cohort_definition_remove(definition, added.id, NULL) == COHORT_OK);
    }
    FUZZ_CHECK(definition->node_count == count);
    for (size_t i = 0; i < count; i++) {
        cohort_definition_node same = definition->nodes[i];
        FUZZ_CHECK(cohort_definition_set(definition, &same, NULL) == COHORT_OK);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    cohort_definition definition = {.node_count = 77};
    cohort_error error = {.code = 0};
    uint8_t *copy = fuzz_copy(data, len);
    int status = cohort_definition_parse("fuzz.json", (const char *)copy, len, &definition, &error);
    free(copy);
    if (status != COHORT_OK) {
        FUZZ_CHECK(definition.node_count == 77 && definition.nodes == NULL);
        check_error(status, &error);
        return 0;
    }
    FUZZ_CHECK(definition.node_count <= COHORT_DEFINITION_NODES_MAX);
    FUZZ_CHECK(cohorti_cluster_valid(definition.cluster, strlen(definition.cluster)));
    for (size_t i = 0; i < definition.node_count; i++) {
        check_node(&definition, i);
    }
    check_changes(&definition);
    check_round_trip(&definition);
    cohort_definition_free(&definition);
    cohort_definition_free(&definition);
    return 0;
}
