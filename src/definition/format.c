/* SPDX-License-Identifier: Apache-2.0
 *
 * From a definition to the text of its file.
 *
 * What was read is taken as it is, and our keys are set in it, so that all others and the order of all stay. The text is parsed
 * again and compared: real numbers among the unknown keys get as many digits as they need and no more.
 */
#include "definition/message.h"
#include "definition/rules.h"

#include "base/name.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static int fail_node(cohort_error *error, const cohort_definition_node *node, size_t index, const char *what)
{
    struct cohorti_message m;
    cohorti_message_begin(&m, error, NULL);
    cohorti_text_add(&m.text, "nodes[");
    cohorti_text_add_u64(&m.text, index);
    cohorti_text_add(&m.text, "] ");
    cohorti_text_add_quoted(&m.text, node->id, strnlen(node->id, sizeof(node->id)), sizeof(node->id));
    cohorti_text_add(&m.text, ": ");
    cohorti_text_add(&m.text, what);
    return cohorti_message_end(&m, COHORT_EDEFINITION);
}

/* Whoever filled the struct may have done so without the functions that check. */
static const char *node_fault(const cohort_definition *definition, size_t index)
{
    const cohort_definition_node *node = &definition->nodes[index];
    char canonical[COHORT_HOST_BYTES_MAX + 1];
    if (memchr(node->id, '\0', sizeof(node->id)) == NULL || memchr(node->ip, '\0', sizeof(node->ip)) == NULL ||
        memchr(node->bind, '\0', sizeof(node->bind)) == NULL) {
        return "a text does not end within its field";
    }
    const char *what = cohorti_rule_id(node->id);
    what = what != NULL ? what : cohorti_rule_ip(node->ip, canonical);
    what = what == NULL && node->bind[0] != '\0' ? cohorti_rule_bind(node->bind, canonical) : what;
    if (what == NULL && node->tcp_port == 0) {
        what = "tcpPort 0 " COHORTI_RULE_PORT;
    }
    for (size_t i = 0; what == NULL && i < index; i++) {
        const cohort_definition_node *other = &definition->nodes[i];
        if (strcmp(other->id, node->id) == 0) {
            what = "an earlier node has its id";
        } else if (other->tcp_port == node->tcp_port && strcmp(other->ip, node->ip) == 0) {
            what = "an earlier node has its address";
        }
    }
    return what;
}

static int check(const cohort_definition *definition, cohort_error *error)
{
    size_t cluster_len = strnlen(definition->cluster, sizeof(definition->cluster));
    if (cluster_len == sizeof(definition->cluster) || !cohorti_cluster_valid(definition->cluster, cluster_len)) {
        return cohorti_message_file(error, NULL, COHORT_EDEFINITION, "cluster " COHORTI_RULE_CLUSTER, 0);
    }
    if (definition->node_count > COHORT_DEFINITION_NODES_MAX) {
        return cohorti_message_file(error, NULL, COHORT_ESIZE, "more than 1024 nodes", 0);
    }
    for (size_t i = 0; i < definition->node_count; i++) {
        const char *what = node_fault(definition, i);
        if (what != NULL) {
            return fail_node(error, &definition->nodes[i], i, what);
        }
    }
    return COHORT_OK;
}

/* ---- the tree ------------------------------------------------------------------------------------------------------ */

/* The object that was read for this id. */
static json_t *source_of(const cohort_definition *definition, const char *id)
{
    size_t index;
    json_t *object;
    json_array_foreach(json_object_get(definition->source, "nodes"), index, object)
    {
        const char *read = json_string_value(json_object_get(object, "id"));
        if (read != NULL && strcmp(read, id) == 0) {
            return object;
        }
    }
    return NULL;
}

static json_t *object_from(json_t *source)
{
    return source == NULL ? json_object() : json_copy(source);
}

static json_t *node_tree(const cohort_definition *definition, const cohort_definition_node *node)
{
    json_t *object = object_from(source_of(definition, node->id));
    int failed = json_object_set_new(object, "id", json_string(node->id));
    failed |= json_object_set_new(object, "ip", json_string(node->ip));
    failed |= json_object_set_new(object, "tcpPort", json_integer(node->tcp_port));
    if (node->bind[0] != '\0') {
        failed |= json_object_set_new(object, "bind", json_string(node->bind));
    } else {
        (void)json_object_del(object, "bind");
    }
    if (failed != 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *tree(const cohort_definition *definition)
{
    json_t *root = object_from(definition->source);
    json_t *nodes = json_array();
    int failed = 0;
    const char *before = json_string_value(json_object_get(root, "cluster"));
    if (strcmp(before == NULL ? "" : before, definition->cluster) != 0) {
        failed = definition->cluster[0] == '\0' ? json_object_del(root, "cluster")
                                                : json_object_set_new(root, "cluster", json_string(definition->cluster));
    }
    for (size_t i = 0; i < definition->node_count && failed == 0; i++) {
        failed = json_array_append_new(nodes, node_tree(definition, &definition->nodes[i]));
    }
    if (failed != 0 || json_object_set(root, "nodes", nodes) != 0) {
        json_decref(root);
        root = NULL;
    }
    json_decref(nodes);
    return root;
}

/* ---- the text ------------------------------------------------------------------------------------------------------ */

struct sink {
    char *text;
    size_t len;
    bool too_large;
};

static int take(const char *bytes, size_t len, void *arg)
{
    struct sink *sink = arg;
    if (len > COHORT_DEFINITION_BYTES_MAX - 1 - sink->len) { /* a newline follows */
        sink->too_large = true;
        return -1;
    }
    memcpy(sink->text + sink->len, bytes, len);
    sink->len += len;
    return 0;
}

/* Does the text say what the tree does? Only reals can be written with too few digits. */
static bool says(const struct sink *sink, const json_t *root)
{
    json_t *back = json_loadb(sink->text, sink->len, 0, NULL);
    bool equal = back != NULL && json_equal(back, root);
    json_decref(back);
    return equal;
}

static int print(const json_t *root, struct sink *sink, cohort_error *error)
{
    bool printed = false, said = false;
    for (size_t digits = 15; digits <= 17 && !said && !sink->too_large; digits++) {
        sink->len = 0;
        printed = json_dump_callback(root, take, sink, JSON_INDENT(2) | JSON_REAL_PRECISION(digits)) == 0;
        said = printed && says(sink, root);
    }
    if (sink->too_large) {
        return cohorti_message_file(error, NULL, COHORT_ESIZE, "larger than a definition may be (1 MiB)", 0);
    }
    if (!printed) {
        return cohorti_message_file(error, NULL, COHORT_ENOMEM, cohort_error_text(COHORT_ENOMEM), 0);
    }
    sink->text[sink->len++] = '\n';
    return COHORT_OK;
}

int cohort_definition_format(const cohort_definition *definition, char **text, size_t *text_len, cohort_error *error)
{
    int rc = check(definition, error);
    if (rc != COHORT_OK) {
        return rc;
    }
    struct sink sink = {.text = malloc(COHORT_DEFINITION_BYTES_MAX)};
    json_t *root = sink.text == NULL ? NULL : tree(definition);
    rc = root == NULL ? cohorti_message_file(error, NULL, COHORT_ENOMEM, cohort_error_text(COHORT_ENOMEM), 0)
                      : print(root, &sink, error);
    json_decref(root);
    if (rc != COHORT_OK) {
        free(sink.text);
        return rc;
    }
    char *exact = realloc(sink.text, sink.len);
    *text = exact != NULL ? exact : sink.text;
    *text_len = sink.len;
    if (error != NULL) {
        error->code = COHORT_OK;
        error->text[0] = '\0';
    }
    return COHORT_OK;
}
