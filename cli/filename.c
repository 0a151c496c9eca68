/* SPDX-License-Identifier: Apache-2.0
 * Names of files in streams; see filename.h. */
#include "filename.h"

#include <stdio.h>
#include <string.h>

static const char intro[] = "cohort-file ";
#define INTRO_BYTES (sizeof(intro) - 1)

bool filename_is_safe(const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (name[i] == '/' || (unsigned char)name[i] < 0x20 || name[i] == 0x7f) {
            return false;
        }
    }
    return len > 0 && len <= FILENAME_BYTES_MAX && name[0] != '.';
}

size_t filename_line(const char *path, char out[FILENAME_LINE_MAX])
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    if (!filename_is_safe(name, strlen(name))) {
        return 0;
    }
    return (size_t)snprintf(out, FILENAME_LINE_MAX, "%s%s\n", intro, name);
}

enum filename_found filename_find(const char *bytes, size_t len, bool all, size_t *line_len, char name[FILENAME_BYTES_MAX + 1])
{
    size_t known = len < INTRO_BYTES ? len : INTRO_BYTES;
    if (memcmp(bytes, intro, known) != 0) {
        return FILENAME_NONE;
    }
    const char *end = memchr(bytes, '\n', len < FILENAME_LINE_MAX ? len : FILENAME_LINE_MAX);
    if (end == NULL) {
        return all || len >= FILENAME_LINE_MAX ? FILENAME_NONE : FILENAME_MORE;
    }
    size_t name_len = (size_t)(end - bytes) - INTRO_BYTES;
    bool safe = filename_is_safe(bytes + INTRO_BYTES, name_len);
    *line_len = (size_t)(end - bytes) + 1;
    snprintf(name, FILENAME_BYTES_MAX + 1, "%.*s", safe ? (int)name_len : 0, bytes + INTRO_BYTES);
    return FILENAME_THERE;
}
