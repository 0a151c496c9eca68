/* SPDX-License-Identifier: Apache-2.0
 *
 * Short texts in a caller's array, and strict reading of numbers.
 *
 * Invariants: len < cap; start[len] is NUL; once cut, a text takes nothing more, so that what follows the cut cannot appear as
 * though it belonged to what precedes it. No locale, no stdio, no allocation.
 */
#include "base/text.h"

#include <assert.h>
#include <string.h>

#define CUT_MARK "..."
#define CUT_MARK_LEN (sizeof(CUT_MARK) - 1)

void cohorti_text_init(struct cohorti_text *t, char *buffer, size_t cap)
{
    assert(cap >= 1);
    t->start = buffer;
    t->len = 0;
    t->cap = cap;
    t->cut = false;
    buffer[0] = '\0';
}

void cohorti_text_add_bytes(struct cohorti_text *t, const void *bytes, size_t len)
{
    if (t->cut || len == 0) {
        return;
    }
    size_t room = t->cap - 1 - t->len;
    size_t taken = len <= room ? len : room;
    memcpy(t->start + t->len, bytes, taken);
    t->len += taken;
    if (taken < len) {
        t->cut = true;
        if (t->len >= CUT_MARK_LEN) {
            memcpy(t->start + t->len - CUT_MARK_LEN, CUT_MARK, CUT_MARK_LEN);
        }
    }
    t->start[t->len] = '\0';
}

void cohorti_text_add(struct cohorti_text *t, const char *s)
{
    cohorti_text_add_bytes(t, s, strlen(s));
}

void cohorti_text_add_quoted(struct cohorti_text *t, const void *bytes, size_t len, size_t max_shown)
{
    static const char hex[] = "0123456789abcdef";
    const uint8_t *at = bytes;
    size_t shown = len <= max_shown ? len : max_shown;
    cohorti_text_add(t, "\"");
    for (size_t i = 0; i < shown && !t->cut; i++) {
        if (at[i] >= 0x20 && at[i] < 0x7f && at[i] != '"' && at[i] != '\\') {
            cohorti_text_add_bytes(t, &at[i], 1);
        } else {
            char escape[4] = {'\\', 'x', hex[at[i] >> 4], hex[at[i] & 0xf]};
            cohorti_text_add_bytes(t, escape, sizeof(escape));
        }
    }
    cohorti_text_add(t, shown < len ? "\"..." : "\"");
}

void cohorti_text_add_u64(struct cohorti_text *t, uint64_t v)
{
    char digits[20]; /* of UINT64_MAX */
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    cohorti_text_add_bytes(t, digits + at, sizeof(digits) - at);
}

void cohorti_text_add_i64(struct cohorti_text *t, int64_t v)
{
    if (v < 0) {
        cohorti_text_add(t, "-");
        cohorti_text_add_u64(t, UINT64_C(0) - (uint64_t)v);
    } else {
        cohorti_text_add_u64(t, (uint64_t)v);
    }
}

bool cohorti_parse_u64(const char *s, size_t len, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    if (len == 0) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9') {
            return false;
        }
        uint64_t digit = (uint64_t)(s[i] - '0');
        if (v > max / 10 || digit > max - v * 10) {
            return false;
        }
        v = v * 10 + digit;
    }
    *out = v;
    return true;
}

bool cohorti_copy_string(char *out, size_t cap, const char *s)
{
    return cohorti_copy_counted(out, cap, s, strlen(s));
}

bool cohorti_copy_counted(char *out, size_t cap, const void *s, size_t len)
{
    assert(cap >= 1);
    out[0] = '\0';
    if (len >= cap || (len > 0 && memchr(s, '\0', len) != NULL)) {
        return false;
    }
    if (len > 0) {
        memcpy(out, s, len);
    }
    out[len] = '\0';
    return true;
}
