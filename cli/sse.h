/* SPDX-License-Identifier: Apache-2.0
 *
 * Server-sent events, read piece by piece.
 */
#ifndef COHORT_CLI_SSE_H
#define COHORT_CLI_SSE_H

#include <stdbool.h>
#include <stddef.h>

enum {
    SSE_EVENT_BYTES_MAX = 16 << 20
};

struct sse {
    char *line; /* not yet ended */
    size_t line_len, line_capacity;
    char *data;
    size_t data_len, data_capacity;
    char event[32];
};

/** Called for each event; data is NUL-terminated. False: stop. */
typedef bool (*sse_fn)(void *arg, const char *event, const char *data, size_t len);

/** False: stopped, out of memory, or an event larger than SSE_EVENT_BYTES_MAX. */
bool sse_feed(struct sse *sse, const char *bytes, size_t len, sse_fn fn, void *arg);

void sse_free(struct sse *sse);

#endif
