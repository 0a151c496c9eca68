/* SPDX-License-Identifier: Apache-2.0
 *
 * The bytes of a message in a JSON object of docs/http.md: "data", or "data_base64" where they are no text.
 */
#ifndef COHORT_CLI_PAYLOAD_H
#define COHORT_CLI_PAYLOAD_H

#include "input.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/** False: no memory, or there is neither. */
bool payload_take(const json_t *item, struct input *out);

/** For people: control characters made visible, base64:... where it is no text. */
void payload_print(const json_t *item, FILE *out);

#endif
