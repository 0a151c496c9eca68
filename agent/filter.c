/* SPDX-License-Identifier: Apache-2.0
 *
 * Which messages a stream wants: "*", a subject, or "#TYPE". The rules are those of cohort_handle(); the hub does not pass
 * them on to the library because one handler for everything serves all streams, and "*" must see also what another stream
 * asked for by name.
 */
#include "hub.h"

#include <cohort/frame.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool parse_type(const char *digits, int32_t *out)
{
    const char *first = digits[0] == '-' ? digits + 1 : digits;
    size_t len = strspn(first, "0123456789");
    if (len == 0 || len > 10 || first[len] != '\0') {
        return false;
    }
    errno = 0;
    long long value = strtoll(digits, NULL, 10);
    if (errno != 0 || value < INT32_MIN || value > INT32_MAX) {
        return false;
    }
    if (value == (long long)COHORT_TYPE_HELLO || value == (long long)COHORT_TYPE_ECHO) {
        return false;
    }
    *out = (int32_t)value;
    return true;
}

bool stream_filter_parse(const char *text, struct stream_filter *out)
{
    *out = (struct stream_filter){.all = false};
    if (strcmp(text, "*") == 0) {
        out->all = true;
        return true;
    }
    if (text[0] == '#') {
        out->raw = true;
        return parse_type(text + 1, &out->type);
    }
    size_t len = strlen(text);
    if (len == 0 || len > COHORT_SUBJECT_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] <= 0x20 || text[i] >= 0x7f) {
            return false;
        }
    }
    memcpy(out->subject, text, len + 1);
    return true;
}
