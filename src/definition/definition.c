/* SPDX-License-Identifier: Apache-2.0
 *
 * Read the cluster definition, the seed's JSON file, and say precisely what is wrong with one that is not.
 *
 * Invariants: what a successful read gives needs no second look (ids valid and unique, addresses canonical and unique, ports
 * not 0); a failed read leaves *out alone. Reading stops at the first defect in file order. A file is written by a person, so
 * every defect is reported as one line with its place and the value found there; nothing is repaired or guessed.
 *
 * Keys we do not know are skipped, and kept for writing: the seed's files and later versions of ours must both be readable. This
 * file does not resolve host names, write definitions or watch them.
 */
#include <cohort/definition.h>

#include "definition/message.h"
#include "definition/place.h"
#include "definition/rules.h"

#include "base/name.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define VALUE_SHOWN_BYTES_MAX 100
#define NO_INDEX SIZE_MAX

/* What a reading carries along: where its errors go, and what it has so far. */
struct reading {
    const char *name;
    const char *text;
    size_t text_len;
    cohort_error *error;
    cohort_definition definition;
};

static int fail_file(const struct reading *r, int code, const char *what, int saved_errno)
{
    return cohorti_message_file(r->error, r->name, code, what, saved_errno);
}

static int fail_memory(const struct reading *r)
{
    return fail_file(r, COHORT_ENOMEM, cohort_error_text(COHORT_ENOMEM), 0);
}

static void add_place(struct cohorti_message *m, size_t line, size_t column)
{
    cohorti_text_add_u64(&m->text, line);
    cohorti_text_add(&m->text, ":");
    cohorti_text_add_u64(&m->text, column);
    cohorti_text_add(&m->text, ": ");
}

/* "FILE:LINE:COLUMN: $.nodes[index].key: value", either of index and key left out when NO_INDEX or NULL. */
static void defect_begin(struct cohorti_message *m, const struct reading *r, size_t index, const char *key, const json_t *value)
{
    struct cohorti_place place = cohorti_place_find(r->text, r->text_len, index, key);
    cohorti_message_begin(m, r->error, r->name);
    add_place(m, place.line, place.column);
    cohorti_text_add(&m->text, "$");
    if (index != NO_INDEX) {
        cohorti_text_add(&m->text, ".nodes[");
        cohorti_text_add_u64(&m->text, index);
        cohorti_text_add(&m->text, "]");
    }
    if (key != NULL) {
        cohorti_text_add(&m->text, ".");
        cohorti_text_add(&m->text, key);
    }
    cohorti_text_add(&m->text, ": ");
    if (value == NULL) {
        return;
    }
    char *shown = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15));
    if (shown != NULL) { /* else out of memory: the message does without */
        size_t len = strlen(shown);
        cohorti_text_add_bytes(&m->text, shown, len < VALUE_SHOWN_BYTES_MAX ? len : VALUE_SHOWN_BYTES_MAX);
        cohorti_text_add(&m->text, len > VALUE_SHOWN_BYTES_MAX ? "... " : " ");
        free(shown);
    }
}

static int defect(const struct reading *r, size_t index, const char *key, const json_t *value, const char *what)
{
    struct cohorti_message m;
    defect_begin(&m, r, index, key, value);
    cohorti_text_add(&m.text, what);
    return cohorti_message_end(&m, COHORT_EDEFINITION);
}

/* The same for a value that an earlier node has already. */
static int defect_twice(const struct reading *r, size_t index, const char *key, const json_t *value, const char *what, size_t earlier)
{
    struct cohorti_message m;
    defect_begin(&m, r, index, key, value);
    cohorti_text_add(&m.text, what);
    cohorti_text_add(&m.text, " $.nodes[");
    cohorti_text_add_u64(&m.text, earlier);
    cohorti_text_add(&m.text, "] too");
    return cohorti_message_end(&m, COHORT_EDEFINITION);
}

static int fail_syntax(const struct reading *r, const json_error_t *error)
{
    struct cohorti_message m;
    if (json_error_code(error) == json_error_out_of_memory) {
        return fail_memory(r);
    }
    cohorti_message_begin(&m, r->error, r->name);
    add_place(&m, error->line > 0 ? (size_t)error->line : 1, error->column > 0 ? (size_t)error->column : 1);
    /* jansson's own words for this one speak of the flags it was called with. */
    bool nul = json_error_code(error) == json_error_null_character;
    cohorti_text_add(&m.text, nul ? "a string may not contain \\u0000" : error->text);
    return cohorti_message_end(&m, COHORT_ESYNTAX);
}

static int read_id(const struct reading *r, size_t index, const json_t *object, cohort_definition_node *node)
{
    const json_t *value = json_object_get(object, "id");
    if (value == NULL) {
        return defect(r, index, "id", NULL, "is missing");
    }
    if (!json_is_string(value)) {
        return defect(r, index, "id", value, "is not a string");
    }
    const char *what = cohorti_rule_id(json_string_value(value));
    if (what != NULL) {
        return defect(r, index, "id", value, what);
    }
    (void)cohorti_copy_string(node->id, sizeof(node->id), json_string_value(value));
    for (size_t i = 0; i < index; i++) {
        if (strcmp(r->definition.nodes[i].id, node->id) == 0) {
            return defect_twice(r, index, "id", value, "is the id of", i);
        }
    }
    return COHORT_OK;
}

static int read_ip(const struct reading *r, size_t index, const json_t *object, cohort_definition_node *node)
{
    const json_t *value = json_object_get(object, "ip");
    if (value == NULL) {
        return defect(r, index, "ip", NULL, "is missing");
    }
    if (!json_is_string(value)) {
        return defect(r, index, "ip", value, "is not a string");
    }
    const char *what = cohorti_rule_ip(json_string_value(value), node->ip);
    return what == NULL ? COHORT_OK : defect(r, index, "ip", value, what);
}

static int read_bind(const struct reading *r, size_t index, const json_t *object, cohort_definition_node *node)
{
    const json_t *value = json_object_get(object, "bind");
    if (value == NULL) {
        return COHORT_OK;
    }
    if (!json_is_string(value)) {
        return defect(r, index, "bind", value, "is not a string");
    }
    const char *what = cohorti_rule_bind(json_string_value(value), node->bind);
    return what == NULL ? COHORT_OK : defect(r, index, "bind", value, what);
}

static int read_port(const struct reading *r, size_t index, const json_t *object, cohort_definition_node *node)
{
    const json_t *value = json_object_get(object, "tcpPort");
    node->tcp_port = COHORT_PORT_DEFAULT;
    if (value == NULL) {
        return COHORT_OK;
    }
    if (!json_is_integer(value)) {
        return defect(r, index, "tcpPort", value, "is not a whole number");
    }
    if (json_integer_value(value) < 1 || json_integer_value(value) > UINT16_MAX) {
        return defect(r, index, "tcpPort", value, COHORTI_RULE_PORT);
    }
    node->tcp_port = (uint16_t)json_integer_value(value);
    return COHORT_OK;
}

static int read_node(const struct reading *r, size_t index, const json_t *object, cohort_definition_node *node)
{
    if (!json_is_object(object)) {
        return defect(r, index, NULL, object, "is not an object");
    }
    int rc = read_id(r, index, object, node);
    if (rc == COHORT_OK) {
        rc = read_ip(r, index, object, node);
    }
    if (rc == COHORT_OK) {
        rc = read_port(r, index, object, node);
    }
    if (rc == COHORT_OK) {
        rc = read_bind(r, index, object, node);
    }
    /* Quadratic, and at the limit of nodes still below a millisecond. */
    for (size_t i = 0; rc == COHORT_OK && i < index; i++) {
        const cohort_definition_node *other = &r->definition.nodes[i];
        if (other->tcp_port == node->tcp_port && strcmp(other->ip, node->ip) == 0) {
            rc = defect_twice(r, index, NULL, object, "has the address of", i);
        }
    }
    return rc;
}

static int read_cluster(struct reading *r, const json_t *root)
{
    const json_t *value = json_object_get(root, "cluster");
    if (value == NULL) {
        return COHORT_OK;
    }
    if (!json_is_string(value)) {
        return defect(r, NO_INDEX, "cluster", value, "is not a string");
    }
    if (!cohorti_cluster_valid(json_string_value(value), json_string_length(value))) {
        return defect(r, NO_INDEX, "cluster", value, COHORTI_RULE_CLUSTER);
    }
    (void)cohorti_copy_string(r->definition.cluster, sizeof(r->definition.cluster), json_string_value(value));
    return COHORT_OK;
}

static int fail_node_count(const struct reading *r, size_t count)
{
    struct cohorti_message m;
    defect_begin(&m, r, NO_INDEX, "nodes", NULL);
    cohorti_text_add_u64(&m.text, count);
    cohorti_text_add(&m.text, " nodes, where at most ");
    cohorti_text_add_u64(&m.text, COHORT_DEFINITION_NODES_MAX);
    cohorti_text_add(&m.text, " may be");
    return cohorti_message_end(&m, COHORT_ESIZE);
}

static int read_root(struct reading *r, const json_t *root)
{
    if (!json_is_object(root)) {
        return defect(r, NO_INDEX, NULL, root, "is not an object");
    }
    int rc = read_cluster(r, root);
    if (rc != COHORT_OK) {
        return rc;
    }
    const json_t *nodes = json_object_get(root, "nodes");
    if (nodes == NULL) {
        return defect(r, NO_INDEX, "nodes", NULL, "is missing");
    }
    if (!json_is_array(nodes)) {
        return defect(r, NO_INDEX, "nodes", nodes, "is not an array");
    }
    size_t count = json_array_size(nodes);
    if (count > COHORT_DEFINITION_NODES_MAX) {
        return fail_node_count(r, count);
    }
    if (count == 0) {
        return COHORT_OK; /* a node alone; others may be added while it runs */
    }
    r->definition.nodes = calloc(count, sizeof(*r->definition.nodes));
    if (r->definition.nodes == NULL) {
        return fail_memory(r);
    }
    r->definition.node_count = count;
    for (size_t i = 0; rc == COHORT_OK && i < count; i++) {
        rc = read_node(r, i, json_array_get(nodes, i), &r->definition.nodes[i]);
    }
    return rc;
}

int cohort_definition_parse(const char *name, const char *text, size_t text_len, cohort_definition *out, cohort_error *error)
{
    struct reading r = {.name = name, .text = text, .text_len = text_len, .error = error};
    json_error_t json_error;
    if (text_len > COHORT_DEFINITION_BYTES_MAX) {
        return fail_file(&r, COHORT_ESIZE, "larger than a definition may be (1 MiB)", 0);
    }
    /* DECODE_ANY, so that a lone value is called what it is: JSON, but not an object. */
    json_t *root = json_loadb(text_len == 0 ? "" : text, text_len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &json_error);
    if (root == NULL) {
        return fail_syntax(&r, &json_error);
    }
    r.definition.source = root;
    int rc = read_root(&r, root);
    if (rc != COHORT_OK) {
        cohort_definition_free(&r.definition);
        return rc;
    }
    *out = r.definition;
    if (error != NULL) {
        error->code = COHORT_OK;
        error->text[0] = '\0';
    }
    return COHORT_OK;
}

/* Read to the end or until `cap` is full. */
static int read_all(const struct reading *r, int fd, char *to, size_t cap, size_t *len)
{
    *len = 0;
    while (*len < cap) {
        ssize_t got = read(fd, to + *len, cap - *len);
        if (got == 0) {
            break;
        }
        if (got < 0 && errno != EINTR) {
            return fail_file(r, COHORT_EFILE, "cannot be read", errno);
        }
        *len += got > 0 ? (size_t)got : 0;
    }
    return COHORT_OK;
}

static int read_fd(const struct reading *r, int fd, cohort_definition *out)
{
    struct stat st;
    size_t len;
    if (fstat(fd, &st) != 0) {
        return fail_file(r, COHORT_EFILE, "cannot be read", errno);
    }
    if (!S_ISREG(st.st_mode)) {
        return fail_file(r, COHORT_EFILE, S_ISDIR(st.st_mode) ? "is a directory" : "is not a regular file", 0);
    }
    /* The size the file says it has is not to be relied on: read one byte beyond the limit and let parsing refuse that. */
    size_t cap = (size_t)COHORT_DEFINITION_BYTES_MAX + 1;
    char *text = malloc(cap);
    if (text == NULL) {
        return fail_memory(r);
    }
    int rc = read_all(r, fd, text, cap, &len);
    if (rc == COHORT_OK) {
        rc = cohort_definition_parse(r->name, text, len, out, r->error);
    }
    free(text);
    return rc;
}

int cohort_definition_read(const char *path, cohort_definition *out, cohort_error *error)
{
    struct reading r = {.name = path, .error = error};
    /* NONBLOCK: opening a pipe that nobody writes to would wait for ever. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return fail_file(&r, COHORT_EFILE, "cannot be opened", errno);
    }
    int rc = read_fd(&r, fd, out);
    (void)close(fd);
    return rc;
}

const cohort_definition_node *cohort_definition_find(const cohort_definition *definition, const char *id)
{
    for (size_t i = 0; i < definition->node_count; i++) {
        if (strcmp(definition->nodes[i].id, id) == 0) {
            return &definition->nodes[i];
        }
    }
    return NULL;
}

void cohort_definition_free(cohort_definition *definition)
{
    free(definition->nodes);
    json_decref(definition->source);
    memset(definition, 0, sizeof(*definition));
}
