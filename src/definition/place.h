/* SPDX-License-Identifier: Apache-2.0
 * Where in a JSON text a value stands: jansson tells that of a syntax error only. */
#ifndef COHORTI_DEFINITION_PLACE_H
#define COHORTI_DEFINITION_PLACE_H

#include <stddef.h>

struct cohorti_place {
    size_t line, column; /* from 1; columns count characters of UTF-8 */
};

/**
 * The place of $.nodes[index].key in a text that is valid JSON. key NULL: of the node; index SIZE_MAX: of $.key, or of $.
 * What is not there has the place of that which should hold it.
 */
struct cohorti_place cohorti_place_find(const char *text, size_t text_len, size_t index, const char *key);

#endif
