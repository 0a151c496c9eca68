/* SPDX-License-Identifier: Apache-2.0
 *
 * A walk over a text that a JSON parser has accepted before, so that only the shape of values matters here, not their rules.
 * It never goes beyond the end, whatever the text. A key written with escapes is not found: its holder's place has to do.
 */
#include "definition/place.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct walk {
    const char *at, *end;
};

static void skip_blanks(struct walk *w)
{
    while (w->at < w->end && (*w->at == ' ' || *w->at == '\t' || *w->at == '\n' || *w->at == '\r')) {
        w->at++;
    }
}

static void skip_string(struct walk *w)
{
    w->at++;
    while (w->at < w->end && *w->at != '"') {
        w->at += *w->at == '\\' && w->at + 1 < w->end ? 2 : 1;
    }
    w->at += w->at < w->end;
}

static void skip_value(struct walk *w)
{
    size_t depth = 0;
    do {
        if (w->at >= w->end) {
            return;
        }
        char c = *w->at;
        if (c == '"') {
            skip_string(w);
            continue;
        }
        if (depth == 0 && c != '{' && c != '[') { /* a number, true, false or null */
            while (w->at < w->end && strchr(",]} \t\r\n", *w->at) == NULL) {
                w->at++;
            }
            return;
        }
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
        w->at++;
    } while (depth > 0);
}

/* From the bracket to the first member; false when there is none. */
static bool enter(struct walk *w, char bracket)
{
    if (w->at >= w->end || *w->at != bracket) {
        return false;
    }
    w->at++;
    skip_blanks(w);
    return w->at < w->end && *w->at != ']' && *w->at != '}';
}

/* From behind a member to the next. */
static bool next(struct walk *w)
{
    skip_blanks(w);
    if (w->at >= w->end || *w->at != ',') {
        return false;
    }
    w->at++;
    skip_blanks(w);
    return w->at < w->end;
}

/* To the value of a key of the object at hand; stays there when it has no such key. */
static bool to_key(struct walk *w, const char *key)
{
    struct walk at = *w;
    size_t len = strlen(key);
    for (bool more = enter(&at, '{'); more; more = next(&at)) {
        const char *name = at.at + 1;
        skip_string(&at);
        bool found = at.at - name == (ptrdiff_t)len + 1 && memcmp(name, key, len) == 0;
        skip_blanks(&at);
        at.at += at.at < at.end; /* ':' */
        skip_blanks(&at);
        if (found) {
            *w = at;
            return true;
        }
        skip_value(&at);
    }
    return false;
}

static bool to_index(struct walk *w, size_t index)
{
    struct walk at = *w;
    for (bool more = enter(&at, '['); more; more = next(&at)) {
        if (index-- == 0) {
            *w = at;
            return true;
        }
        skip_value(&at);
    }
    return false;
}

struct cohorti_place cohorti_place_find(const char *text, size_t text_len, size_t index, const char *key)
{
    struct walk w = {.at = text, .end = text + text_len};
    struct cohorti_place place = {.line = 1, .column = 1};
    skip_blanks(&w);
    bool found = index == SIZE_MAX || (to_key(&w, "nodes") && to_index(&w, index));
    if (found && key != NULL) {
        (void)to_key(&w, key);
    }
    for (const char *at = text; at < w.at; at++) {
        bool newline = *at == '\n';
        place.line += newline;
        place.column = newline ? 1 : place.column + (((unsigned char)*at & 0xc0) != 0x80);
    }
    return place;
}
