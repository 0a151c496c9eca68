/* SPDX-License-Identifier: Apache-2.0
 *
 * The cluster definition: the 2014 system's JSON file, {"nodes":[{"id","ip","tcpPort"}]}, extended by an optional "cluster" name, and an
 * optional "bind" of a node: the address it listens on when that is not its ip. tcpPort defaults to 9876. Keys we do not know
 * are ignored on reading and kept on writing. docs/definition.md is the page about it, cluster.schema.json its JSON Schema.
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
    char ip[COHORT_HOST_BYTES_MAX + 1]; /* what peers connect to: IPv4 or IPv6 text in canonical form, or a host name in small letters */
    uint16_t tcp_port;
    char bind[COHORT_HOST_BYTES_MAX + 1]; /* what it listens on, "0.0.0.0" or "::" for all addresses; "": its ip */
} cohort_definition_node;

/** A cluster definition in memory. Zero it before first use ({0} is an empty definition), change the nodes by the functions below, and
 * release it with cohort_definition_free(). */
typedef struct cohort_definition {
    char cluster[COHORT_CLUSTER_BYTES_MAX + 1]; /* "" when the file names none */
    cohort_definition_node *nodes;              /* in file order */
    size_t node_count;
    void *source; /* the library's: what was read, with the keys it does not know */
} cohort_definition;

/**
 * Read a definition file.
 *
 * out     filled on success; release with cohort_definition_free(). Untouched on failure.
 * error   may be NULL; on failure one line that names the place, "FILE:LINE:COLUMN: ...", and except for syntax errors the
 *         value: "FILE:4:40: $.nodes[2].ip: "300.1.1.1" is not ...".
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

/**
 * Add a node at the end. tcp_port 0 means COHORT_PORT_DEFAULT; ip and bind are brought into canonical form.
 *
 * error   may be NULL; names the key and the value: `ip: "300.1.1.1" is not ...`.
 *
 *   COHORT_EEXIST       a node with this id, or with this ip and port, is there.
 *   COHORT_EDEFINITION  id, ip or bind malformed.
 *   COHORT_ESIZE        COHORT_DEFINITION_NODES_MAX nodes are there.
 *   COHORT_ENOMEM       out of memory.
 *
 * On failure of this and of the next two the definition is as it was. Thread: any, one at a time for one definition.
 */
COHORT_API COHORT_NODISCARD int cohort_definition_add(cohort_definition *definition, const cohort_definition_node *node,
                                                      cohort_error *error);

/** Give the node with this id another ip, port and bind. COHORT_ENOPEER: there is none; others as cohort_definition_add(). */
COHORT_API COHORT_NODISCARD int cohort_definition_set(cohort_definition *definition, const cohort_definition_node *node,
                                                      cohort_error *error);

/** Remove the node with this id; the others keep their order. COHORT_ENOPEER: there is none. */
COHORT_API COHORT_NODISCARD int cohort_definition_remove(cohort_definition *definition, const char *id, cohort_error *error);

/**
 * The text of the file: JSON, indented by two spaces, a newline at its end. Keys that were read and are not ours are in it, of the
 * whole and of each node that was read, and the order is that of what was read. tcpPort is always written: the 2014 reader needs it.
 * Formatting what was read from a formatted text gives the same text.
 *
 * text    to be released with free().
 *
 *   COHORT_EDEFINITION  the definition breaks a rule (it was changed by hand); error names node, key and value.
 *   COHORT_ESIZE        the text would be larger than COHORT_DEFINITION_BYTES_MAX.
 *   COHORT_ENOMEM       out of memory.
 */
COHORT_API COHORT_NODISCARD int cohort_definition_format(const cohort_definition *definition, char **text, size_t *text_len,
                                                         cohort_error *error);

/**
 * Write a definition to a file: who reads it meanwhile, also after a crash of the machine, finds the whole old file or the whole new
 * one. It is written beside the old file, forced to disk, and renamed over it. Mode, and where permitted owner, of the old file are
 * kept; a symbolic link is followed and stays.
 *
 * error   may be NULL; "FILE: cannot be written: No space left on device".
 *
 *   COHORT_EFILE  cannot be written, or is not a regular file. The old file is as it was; only when the text says "cannot be
 *                 synchronised" is the new one in its place, and may be gone after a crash of the machine.
 *   COHORT_EDEFINITION, COHORT_ESIZE, COHORT_ENOMEM: as cohort_definition_format(). The old file is as it was.
 *
 * Two that read, change and write one file at once lose the change of one: that needs a lock of yours, as `cohort definition` has.
 * Thread: any. Blocks on file I/O.
 */
COHORT_API COHORT_NODISCARD int cohort_definition_write(const char *path, const cohort_definition *definition, cohort_error *error);

/** Release what reading and adding allocated and zero the struct. Safe on a zeroed struct, and twice. */
COHORT_API void cohort_definition_free(cohort_definition *definition);

#ifdef __cplusplus
}
#endif
#endif
