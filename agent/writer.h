/* SPDX-License-Identifier: Apache-2.0
 *
 * A growing text with JSON values in it: answers, stream items and log lines are made with this.
 *
 * Commas are put where they belong. Running out of memory is remembered in `failed` and checked once, at the end; until
 * then every call is harmless. Output is always valid UTF-8: bytes of a string that are not become U+FFFD.
 */
#ifndef COHORT_AGENT_WRITER_H
#define COHORT_AGENT_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct writer {
    char *bytes;
    size_t len;
    size_t capacity;
    bool failed;
    bool comma; /* a value was written at this level: the next one needs a comma before it */
};

/** An empty writer; holds no memory until something is written. */
#define WRITER_EMPTY ((struct writer){.bytes = NULL})

void writer_free(struct writer *w);

/** Bytes as they are, outside of any JSON. */
void writer_raw(struct writer *w, const void *bytes, size_t len);
void writer_text(struct writer *w, const char *text);
__attribute__((format(printf, 2, 3))) void writer_format(struct writer *w, const char *format, ...);

/** Bracket is '{' or '[', and '}' or ']' at its end. */
void writer_begin(struct writer *w, char bracket);
void writer_end(struct writer *w, char bracket);
void writer_key(struct writer *w, const char *key);

void writer_string(struct writer *w, const char *value);
void writer_string_n(struct writer *w, const void *value, size_t len);
void writer_base64(struct writer *w, const void *value, size_t len);
void writer_uint(struct writer *w, uint64_t value);
void writer_bool(struct writer *w, bool value);

/** A key with its value. */
void writer_key_string(struct writer *w, const char *key, const char *value);
void writer_key_uint(struct writer *w, const char *key, uint64_t value);
void writer_key_bool(struct writer *w, const char *key, bool value);

/** Is it UTF-8 as RFC 3629 has it: shortest forms only, no surrogates, nothing above U+10FFFF? */
bool utf8_valid(const void *bytes, size_t len);

#endif
