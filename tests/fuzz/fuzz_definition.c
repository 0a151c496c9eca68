/* SPDX-License-Identifier: Apache-2.0
 *
 * The cluster definition: what is accepted obeys every rule that the rest of the library relies on; what is not is explained in one
 * line; nothing is leaked either way.
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
    FUZZ_CHECK(cohorti_ipv4_valid(node->ip, strlen(node->ip)) || cohorti_ipv6_valid(node->ip, strlen(node->ip)));
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
    cohort_definition_free(&definition);
    cohort_definition_free(&definition);
    return 0;
}
