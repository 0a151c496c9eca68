/* SPDX-License-Identifier: Apache-2.0
 *
 * Members and traffic as tables; messages as text that cannot harm a terminal.
 */
#ifndef COHORT_CLI_TABLE_H
#define COHORT_CLI_TABLE_H

#include <jansson.h>
#include <stdio.h>

/** {"members":[...]}, one line each under a heading, columns aligned. */
void table_members(const json_t *root, FILE *out);

/** {"node":{...},"links":[...]} of counters and rates: a line each under a heading, columns aligned; "node" may be absent. */
void table_traffic(const json_t *root, FILE *out);

/** Control characters as \n, \t, \xNN; the rest as it is. */
void print_visible(const char *text, size_t len, FILE *out);

#endif
