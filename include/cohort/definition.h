/* SPDX-License-Identifier: Apache-2.0
 *
 * The cluster definition: the seed's JSON file, {"nodes":[{"id","ip","tcpPort"}]}, extended by an optional "cluster" name.
 * tcpPort defaults to 9876. Keys we do not know are ignored on reading.
 */
#ifndef COHORT_DEFINITION_H
#define COHORT_DEFINITION_H

#include <cohort/error.h>
#include <cohort/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define COHORT_DEFINITION_NODES_MAX 1024
#define COHORT_DEFINITION_BYTES_MAX 1048576

/** One node of a definition. */
typedef struct cohort_definition_node {
    char id[COHORT_ID_BYTES_MAX + 1];
    char ip[COHORT_HOST_BYTES_MAX + 1]; /* IPv4 or IPv6 text, in canonical form */
    uint16_t tcp_port;
} cohort_definition_node;

/** A cluster definition in memory; fill by reading, release with cohort_definition_free(). */
typedef struct cohort_definition {
    char cluster[COHORT_CLUSTER_BYTES_MAX + 1]; /* "" when the file names none */
    cohort_definition_node *nodes;              /* in file order */
    size_t node_count;
} cohort_definition;

/**
 * Read a definition file.
 *
 * out     filled on success; release with cohort_definition_free(). Untouched on failure.
 * error   may be NULL; on failure one line that names the place: "FILE:LINE:COLUMN: ..." for syntax,
 *         "FILE: $.nodes[2].ip: ..." with the offending value for the rest.
 *
 *   COHORT_EFILE        cannot be opened or read, or is not a regular file.
 *   COHORT_ESYNTAX      not JSON.
 *   COHORT_EDEFINITION  JSON, but not a definition: a wrong type, a missing or duplicate id, a bad ip or port, one address twice.
 *   COHORT_ESIZE        more than COHORT_DEFINITION_BYTES_MAX bytes or COHORT_DEFINITION_NODES_MAX nodes.
 *   COHORT_ENOMEM       out of memory.
 *
 * Thread: any. Blocks on file I/O.
 */
COHORT_API COHORT_NODISCARD int cohort_definition_read(const char *path, cohort_definition *out, cohort_error *error);

/** The same from memory; `name` stands for the file in messages. */
COHORT_API COHORT_NODISCARD int cohort_definition_parse(const char *name, const char *text, size_t text_len, cohort_definition *out,
                                                        cohort_error *error);

/** Find a node by id; NULL if there is none. Borrowed from the definition. */
COHORT_API const cohort_definition_node *cohort_definition_find(const cohort_definition *definition, const char *id);

/** Release what reading allocated and zero the struct. Safe on a zeroed struct, and twice. */
COHORT_API void cohort_definition_free(cohort_definition *definition);

#ifdef __cplusplus
}
#endif
#endif
