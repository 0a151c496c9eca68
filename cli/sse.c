/* SPDX-License-Identifier: Apache-2.0
 *
 * Server-sent events; see sse.h. Of the standard's fields we need `event` and `data`; comments and the rest are skipped.
 */
#include "sse.h"

#include <stdlib.h>
#include <string.h>

static bool add(char **text, size_t *len, size_t *capacity, const char *bytes, size_t more)
{
    if (more > SSE_EVENT_BYTES_MAX || *len > SSE_EVENT_BYTES_MAX - more) {
        return false;
    }
    if (*len + more + 1 > *capacity) {
        size_t wanted = (*len + more + 1) * 2;
        char *grown = realloc(*text, wanted);
        if (grown == NULL) {
            return false;
        }
        *text = grown;
        *capacity = wanted;
    }
    memcpy(*text + *len, bytes, more);
    *len += more;
    (*text)[*len] = '\0';
    return true;
}

static const char *field(const char *line, const char *name)
{
    size_t len = strlen(name);
    if (strncmp(line, name, len) != 0 || line[len] != ':') {
        return NULL;
    }
    return line + len + (line[len + 1] == ' ' ? 2 : 1);
}

static bool on_line(struct sse *sse, sse_fn fn, void *arg)
{
    const char *line = sse->line != NULL ? sse->line : "";
    if (line[0] == '\0') {
        bool more = sse->data_len == 0 || fn(arg, sse->event, sse->data, sse->data_len);
        sse->data_len = 0;
        sse->event[0] = '\0';
        return more;
    }
    const char *value = field(line, "event");
    if (value != NULL) {
        size_t len = strnlen(value, sizeof(sse->event) - 1);
        memcpy(sse->event, value, len);
        sse->event[len] = '\0';
        return true;
    }
    value = field(line, "data");
    if (value == NULL) {
        return true;
    }
    if (sse->data_len > 0 && !add(&sse->data, &sse->data_len, &sse->data_capacity, "\n", 1)) {
        return false;
    }
    return add(&sse->data, &sse->data_len, &sse->data_capacity, value, strlen(value));
}

bool sse_feed(struct sse *sse, const char *bytes, size_t len, sse_fn fn, void *arg)
{
    while (len > 0) {
        const char *end = memchr(bytes, '\n', len);
        size_t part = end != NULL ? (size_t)(end - bytes) : len;
        if (!add(&sse->line, &sse->line_len, &sse->line_capacity, bytes, part)) {
            return false;
        }
        if (end == NULL) {
            return true;
        }
        if (!on_line(sse, fn, arg)) {
            return false;
        }
        sse->line_len = 0;
        sse->line[0] = '\0';
        bytes += part + 1;
        len -= part + 1;
    }
    return true;
}

void sse_free(struct sse *sse)
{
    free(sse->line);
    free(sse->data);
    memset(sse, 0, sizeof(*sse));
}
