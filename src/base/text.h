/* SPDX-License-Identifier: Apache-2.0
 * Building and reading short texts without stdio: what decides may not link printf. A text that does not fit is cut and
 * marked (it ends in "..." where there is room for that), never overrun; it is always NUL-terminated. */
#ifndef COHORTI_TEXT_H
#define COHORTI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cohorti_text {
    char *start;
    size_t len;
    size_t cap; /* with the NUL */
    bool cut;
};

/** cap >= 1. Makes the text empty. */
void cohorti_text_init(struct cohorti_text *t, char *buffer, size_t cap);
void cohorti_text_add(struct cohorti_text *t, const char *s);
void cohorti_text_add_bytes(struct cohorti_text *t, const void *bytes, size_t len);
/** Bytes from outside, between double quotes which this adds: everything but printable ASCII, the double quote and the backslash
 * become \xNN; at most `max_shown` bytes of input are shown, and "..." follows the closing quote when there are more. */
void cohorti_text_add_quoted(struct cohorti_text *t, const void *bytes, size_t len, size_t max_shown);
void cohorti_text_add_u64(struct cohorti_text *t, uint64_t v);
void cohorti_text_add_i64(struct cohorti_text *t, int64_t v);

/** Decimal digits only, the whole of it, no leading '+' or blank; false when empty, other characters, or above `max`. */
bool cohorti_parse_u64(const char *s, size_t len, uint64_t max, uint64_t *out);

/** Copy a NUL-terminated string into a fixed array; false (and out empty) when it does not fit. */
bool cohorti_copy_string(char *out, size_t cap, const char *s);
/** The same from a counted string. A NUL inside makes it fail. */
bool cohorti_copy_counted(char *out, size_t cap, const void *s, size_t len);

#endif
