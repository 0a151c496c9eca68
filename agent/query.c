/* SPDX-License-Identifier: Apache-2.0
 *
 * URLs; see query.h. Keys are compared as they are meant: %74o is `to`.
 */
#include "query.h"

#include <stdio.h>
#include <string.h>

enum {
    KEY_SHOWN_MAX = 40
};

struct span {
    const char *begin, *end;
};

static int digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    char lower = (char)(c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
    const char *at = c != '\0' ? strchr(digits, lower) : NULL;
    return at != NULL ? (int)(at - digits) : -1;
}

/* The next byte that is meant, and behind it. -1: at an escape that is none, or of a zero byte. */
static int next_byte(struct span *text)
{
    if (*text->begin != '%') {
        char c = *text->begin++;
        return (unsigned char)(c == '+' ? ' ' : c);
    }
    int high = text->end - text->begin > 2 ? digit(text->begin[1]) : -1;
    int low = high >= 0 ? digit(text->begin[2]) : -1;
    text->begin += low >= 0 ? 3 : 1;
    return low < 0 || (high == 0 && low == 0) ? -1 : high * 16 + low;
}

static bool is_well_formed(struct span text)
{
    bool good = true;
    while (text.begin < text.end && good) {
        good = next_byte(&text) >= 0;
    }
    return good;
}

static bool is_same(struct span a, struct span b)
{
    bool same = true;
    while (a.begin < a.end && b.begin < b.end && same) {
        same = next_byte(&a) == next_byte(&b);
    }
    return same && a.begin == a.end && b.begin == b.end;
}

/* As it came, but for what could not be printed. */
static bool refuse(char why[QUERY_WHY_MAX], struct span key, const char *what)
{
    char shown[KEY_SHOWN_MAX + 1];
    size_t len = 0;
    for (; key.begin < key.end && len < KEY_SHOWN_MAX; key.begin++) {
        shown[len++] = (char)(*key.begin > 0x20 && *key.begin < 0x7f ? *key.begin : '?');
    }
    snprintf(why, QUERY_WHY_MAX, "the argument %.*s%s %s", (int)len, shown, key.begin < key.end ? "..." : "", what);
    return false;
}

static bool check_argument(struct span argument, struct span *keys, int count, char why[QUERY_WHY_MAX])
{
    const char *equals = memchr(argument.begin, '=', (size_t)(argument.end - argument.begin));
    struct span key = {argument.begin, equals != NULL ? equals : argument.end};
    if (!is_well_formed(argument)) {
        return refuse(why, key, "has a % that begins no escape, or %00");
    }
    for (int i = 0; i < count; i++) {
        if (is_same(keys[i], key)) {
            return refuse(why, key, "is there twice");
        }
    }
    keys[count] = key;
    return true;
}

bool query_check(const char *uri, char why[QUERY_WHY_MAX])
{
    struct span keys[QUERY_KEYS_MAX];
    int count = 0;
    const char *at = uri + strcspn(uri, "?");
    if (!is_well_formed((struct span){uri, at})) {
        snprintf(why, QUERY_WHY_MAX, "the path has a %% that begins no escape, or %%00");
        return false;
    }
    while (*at != '\0') {
        struct span argument = {at + 1, at + 1 + strcspn(at + 1, "&")};
        at = argument.end;
        if (argument.begin == argument.end) {
            continue; /* && */
        }
        if (count == QUERY_KEYS_MAX) {
            snprintf(why, QUERY_WHY_MAX, "there are more than %d arguments", (int)QUERY_KEYS_MAX);
            return false;
        }
        if (!check_argument(argument, keys, count++, why)) {
            return false;
        }
    }
    return true;
}
