/* SPDX-License-Identifier: Apache-2.0
 *
 * What of a URL is refused before anybody looks at it: libmicrohttpd takes an escape that is none as it stands, ends a text at %00, and gives
 * the first of two values. Each of them would be another request than was meant.
 */
#ifndef COHORT_AGENT_QUERY_H
#define COHORT_AGENT_QUERY_H

#include <stdbool.h>

enum {
    QUERY_KEYS_MAX = 32,
    QUERY_WHY_MAX = 128
};

/** `uri` as it came, with its escapes. False: `why` says what is wrong, and with which key. */
bool query_check(const char *uri, char why[QUERY_WHY_MAX]);

#endif
