/* SPDX-License-Identifier: Apache-2.0
 *
 * Change a definition in memory: add, set and remove nodes, under the rules that reading has.
 *
 * Invariant: a definition that obeyed the rules obeys them afterwards, and a call that fails changes nothing. The text that was
 * read stays as it is beside the nodes: writing brings the two together by id.
 */
#include "definition/message.h"
#include "definition/rules.h"

#include <stdlib.h>
#include <string.h>

#define VALUE_SHOWN_BYTES_MAX 100

/* `key: "value" what` */
static int fail_value(cohort_error *error, int code, const char *key, const char *value, const char *what)
{
    struct cohorti_message m;
    cohorti_message_begin(&m, error, NULL);
    cohorti_text_add(&m.text, key);
    cohorti_text_add(&m.text, ": ");
    cohorti_text_add_quoted(&m.text, value, strlen(value), VALUE_SHOWN_BYTES_MAX);
    cohorti_text_add(&m.text, " ");
    cohorti_text_add(&m.text, what);
    return cohorti_message_end(&m, code);
}

static int done(cohort_error *error)
{
    if (error != NULL) {
        error->code = COHORT_OK;
        error->text[0] = '\0';
    }
    return COHORT_OK;
}

/* Of a struct of the caller's: does the text end within its array? */
static bool terminated(const char *text, size_t cap)
{
    return memchr(text, '\0', cap) != NULL;
}

static int check_node(const cohort_definition_node *node, cohort_definition_node *out, cohort_error *error)
{
    memset(out, 0, sizeof(*out));
    if (!terminated(node->id, sizeof(node->id)) || !terminated(node->ip, sizeof(node->ip)) ||
        !terminated(node->bind, sizeof(node->bind))) {
        return cohorti_message_file(error, NULL, COHORT_EDEFINITION, "a text does not end within its field", 0);
    }
    memcpy(out->id, node->id, sizeof(out->id));
    out->tcp_port = node->tcp_port == 0 ? COHORT_PORT_DEFAULT : node->tcp_port;
    const char *what = cohorti_rule_id(node->id);
    if (what != NULL) {
        return fail_value(error, COHORT_EDEFINITION, "id", node->id, what);
    }
    what = cohorti_rule_ip(node->ip, out->ip);
    if (what != NULL) {
        return fail_value(error, COHORT_EDEFINITION, "ip", node->ip, what);
    }
    what = node->bind[0] == '\0' ? NULL : cohorti_rule_bind(node->bind, out->bind);
    return what == NULL ? COHORT_OK : fail_value(error, COHORT_EDEFINITION, "bind", node->bind, what);
}

/* The address must not be that of another node. */
static int check_address(const cohort_definition *definition, const cohort_definition_node *node, cohort_error *error)
{
    for (size_t i = 0; i < definition->node_count; i++) {
        const cohort_definition_node *other = &definition->nodes[i];
        if (strcmp(other->id, node->id) == 0 || other->tcp_port != node->tcp_port || strcmp(other->ip, node->ip) != 0) {
            continue;
        }
        struct cohorti_message m;
        cohorti_message_begin(&m, error, NULL);
        cohorti_text_add(&m.text, "ip: \"");
        cohorti_text_add(&m.text, node->ip);
        cohorti_text_add(&m.text, "\" port ");
        cohorti_text_add_u64(&m.text, node->tcp_port);
        cohorti_text_add(&m.text, " is the address of ");
        cohorti_text_add(&m.text, other->id);
        return cohorti_message_end(&m, COHORT_EEXIST);
    }
    return COHORT_OK;
}

static cohort_definition_node *find(const cohort_definition *definition, const char *id)
{
    const cohort_definition_node *found = cohort_definition_find(definition, id);
    return found == NULL ? NULL : &definition->nodes[found - definition->nodes];
}

int cohort_definition_add(cohort_definition *definition, const cohort_definition_node *node, cohort_error *error)
{
    cohort_definition_node checked;
    int rc = check_node(node, &checked, error);
    if (rc == COHORT_OK && find(definition, checked.id) != NULL) {
        rc = fail_value(error, COHORT_EEXIST, "id", checked.id, "is the id of a node that is there");
    }
    if (rc == COHORT_OK) {
        rc = check_address(definition, &checked, error);
    }
    if (rc != COHORT_OK) {
        return rc;
    }
    if (definition->node_count >= COHORT_DEFINITION_NODES_MAX) {
        return cohorti_message_file(error, NULL, COHORT_ESIZE, "nodes: 1024 are there, and no more may be", 0);
    }
    cohort_definition_node *grown = realloc(definition->nodes, (definition->node_count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return cohorti_message_file(error, NULL, COHORT_ENOMEM, cohort_error_text(COHORT_ENOMEM), 0);
    }
    definition->nodes = grown;
    grown[definition->node_count++] = checked;
    return done(error);
}

int cohort_definition_set(cohort_definition *definition, const cohort_definition_node *node, cohort_error *error)
{
    cohort_definition_node checked;
    int rc = check_node(node, &checked, error);
    if (rc != COHORT_OK) {
        return rc;
    }
    cohort_definition_node *there = find(definition, checked.id);
    if (there == NULL) {
        return fail_value(error, COHORT_ENOPEER, "id", checked.id, "is not the id of a node that is there");
    }
    rc = check_address(definition, &checked, error);
    if (rc != COHORT_OK) {
        return rc;
    }
    *there = checked;
    return done(error);
}

int cohort_definition_remove(cohort_definition *definition, const char *id, cohort_error *error)
{
    cohort_definition_node *there = find(definition, id);
    if (there == NULL) {
        return fail_value(error, COHORT_ENOPEER, "id", id, "is not the id of a node that is there");
    }
    size_t behind = definition->node_count - (size_t)(there - definition->nodes) - 1;
    memmove(there, there + 1, behind * sizeof(*there));
    definition->node_count--;
    return done(error);
}
