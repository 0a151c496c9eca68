/* SPDX-License-Identifier: Apache-2.0
 *
 * Text and JSON output; see writer.h.
 *
 * Why not jansson here: a message stream writes one value for every message received, from bytes that may not be UTF-8.
 * Building a tree for each would cost several allocations, and refuse such bytes.
 */
#include "writer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CAPACITY_MIN = 256
};

/* Room for `more` bytes and a NUL behind them. */
static bool reserve(struct writer *w, size_t more)
{
    if (w->failed) {
        return false;
    }
    if (more < w->capacity - w->len) {
        return true;
    }
    if (more > SIZE_MAX / 4 || w->len > SIZE_MAX / 4) {
        w->failed = true;
        return false;
    }
    size_t capacity = w->capacity < CAPACITY_MIN ? CAPACITY_MIN : w->capacity;
    while (capacity - w->len <= more) {
        capacity *= 2;
    }
    char *bytes = realloc(w->bytes, capacity);
    if (bytes == NULL) {
        w->failed = true;
        return false;
    }
    w->bytes = bytes;
    w->capacity = capacity;
    return true;
}

void writer_free(struct writer *w)
{
    free(w->bytes);
    *w = WRITER_EMPTY;
}

void writer_raw(struct writer *w, const void *bytes, size_t len)
{
    if (!reserve(w, len)) {
        return;
    }
    if (len > 0) {
        memcpy(w->bytes + w->len, bytes, len);
    }
    w->len += len;
    w->bytes[w->len] = '\0';
}

void writer_text(struct writer *w, const char *text)
{
    writer_raw(w, text, strlen(text));
}

void writer_format(struct writer *w, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = NULL;
    int len = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (len < 0) {
        w->failed = true;
        return;
    }
    writer_raw(w, text, (size_t)len);
    free(text);
}

static void comma(struct writer *w)
{
    if (w->comma) {
        writer_raw(w, ",", 1);
    }
    w->comma = true;
}

void writer_begin(struct writer *w, char bracket)
{
    comma(w);
    writer_raw(w, &bracket, 1);
    w->comma = false;
}

void writer_end(struct writer *w, char bracket)
{
    writer_raw(w, &bracket, 1);
    w->comma = true;
}

void writer_key(struct writer *w, const char *key)
{
    writer_string(w, key);
    writer_raw(w, ":", 1);
    w->comma = false;
}

/* Length of the UTF-8 sequence at `p`, 0 if there is none. RFC 3629 section 4. */
static size_t sequence(const uint8_t *p, size_t len)
{
    if (p[0] < 0x80) {
        return 1;
    }
    size_t want = p[0] >= 0xc2 && p[0] <= 0xdf ? 2 : p[0] >= 0xe0 && p[0] <= 0xef ? 3 : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : 0;
    if (want == 0 || want > len) {
        return 0;
    }
    uint8_t low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    uint8_t high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < want; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return want;
}

bool utf8_valid(const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    while (len > 0) {
        size_t step = sequence(p, len);
        if (step == 0) {
            return false;
        }
        p += step;
        len -= step;
    }
    return true;
}

static void escape(struct writer *w, uint8_t byte)
{
    switch (byte) {
    case '"':
        writer_raw(w, "\\\"", 2);
        return;
    case '\\':
        writer_raw(w, "\\\\", 2);
        return;
    case '\n':
        writer_raw(w, "\\n", 2);
        return;
    case '\r':
        writer_raw(w, "\\r", 2);
        return;
    case '\t':
        writer_raw(w, "\\t", 2);
        return;
    default: {
        char text[8];
        int len = snprintf(text, sizeof(text), "\\u%04x", byte);
        writer_raw(w, text, (size_t)len);
    }
    }
}

static bool plain(uint8_t byte)
{
    return byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\';
}

void writer_string_n(struct writer *w, const void *value, size_t len)
{
    const uint8_t *p = value;
    comma(w);
    writer_raw(w, "\"", 1);
    while (len > 0) {
        size_t run = 0;
        while (run < len && plain(p[run])) {
            run++;
        }
        writer_raw(w, p, run);
        p += run;
        len -= run;
        if (len == 0) {
            break;
        }
        size_t step = sequence(p, len);
        if (step > 1) {
            writer_raw(w, p, step);
        } else if (step == 1) {
            escape(w, *p);
        } else {
            writer_raw(w, "\xef\xbf\xbd", 3);
        }
        p += step > 0 ? step : 1;
        len -= step > 0 ? step : 1;
    }
    writer_raw(w, "\"", 1);
}

void writer_string(struct writer *w, const char *value)
{
    writer_string_n(w, value, strlen(value));
}

void writer_base64(struct writer *w, const void *value, size_t len)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *p = value;
    comma(w);
    writer_raw(w, "\"", 1);
    for (size_t i = 0; i < len; i += 3) {
        size_t have = len - i < 3 ? len - i : 3;
        uint32_t bits = (uint32_t)p[i] << 16 | (have > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (have > 2 ? p[i + 2] : 0);
        char group[4] = {
            alphabet[bits >> 18],
            alphabet[bits >> 12 & 63],
            (char)(have > 1 ? alphabet[bits >> 6 & 63] : '='),
            (char)(have > 2 ? alphabet[bits & 63] : '='),
        };
        writer_raw(w, group, sizeof(group));
    }
    writer_raw(w, "\"", 1);
}

void writer_uint(struct writer *w, uint64_t value)
{
    char text[24];
    comma(w);
    int len = snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    writer_raw(w, text, (size_t)len);
}

void writer_bool(struct writer *w, bool value)
{
    comma(w);
    writer_text(w, value ? "true" : "false");
}

void writer_key_string(struct writer *w, const char *key, const char *value)
{
    writer_key(w, key);
    writer_string(w, value);
}

void writer_key_uint(struct writer *w, const char *key, uint64_t value)
{
    writer_key(w, key);
    writer_uint(w, value);
}

void writer_key_bool(struct writer *w, const char *key, bool value)
{
    writer_key(w, key);
    writer_bool(w, value);
}
