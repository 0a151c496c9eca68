/* SPDX-License-Identifier: Apache-2.0
 *
 * How a file's name travels: `cohort send-file` puts one line before the bytes of the file,
 *
 *   cohort-file NAME\n
 *
 * and `cohort listen --save` takes it off. A stream that begins otherwise is saved as it is, under a name of our own.
 */
#ifndef COHORT_CLI_FILENAME_H
#define COHORT_CLI_FILENAME_H

#include <stdbool.h>
#include <stddef.h>

enum {
    FILENAME_BYTES_MAX = 200,
    FILENAME_LINE_MAX = FILENAME_BYTES_MAX + 16
};

/** The line for a path's last part; 0: that is no name to save under. */
size_t filename_line(const char *path, char out[FILENAME_LINE_MAX]);

/** May a file be saved under it, in a directory of ours? No separator, no control character, no dot in front. */
bool filename_is_safe(const char *name, size_t len);

enum filename_found {
    FILENAME_MORE, /* not enough bytes to tell */
    FILENAME_NONE, /* there is no such line */
    FILENAME_THERE
};

/** Look for the line in the first bytes of a stream. THERE: `line_len` bytes are it, and `name` is the name, "" if it is not safe. */
enum filename_found filename_find(const char *bytes, size_t len, bool all, size_t *line_len, char name[FILENAME_BYTES_MAX + 1]);

#endif
