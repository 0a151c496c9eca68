/* SPDX-License-Identifier: Apache-2.0
 * What may stand in a definition, said once for files, for changes in memory, and for writing. Each rule gives NULL, or what is
 * wrong in words that follow the value: "is not an id (...)". */
#ifndef COHORTI_DEFINITION_RULES_H
#define COHORTI_DEFINITION_RULES_H

#include <cohort/definition.h>

#define COHORTI_RULE_CLUSTER "is not a cluster name (at most 64 letters, digits, '.', '_' or '-')"
#define COHORTI_RULE_PORT "is not a port (1 to 65535)"

const char *cohorti_rule_id(const char *text);
/** `out` is the one way to write this address: as inet_ntop() does, a host name in small letters. */
const char *cohorti_rule_ip(const char *text, char out[COHORT_HOST_BYTES_MAX + 1]);
/** The same for an address to listen on: no name, but "any" is allowed. */
const char *cohorti_rule_bind(const char *text, char out[COHORT_HOST_BYTES_MAX + 1]);

#endif
