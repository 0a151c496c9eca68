/* SPDX-License-Identifier: Apache-2.0
 *
 * The rules of ids, cluster names, subjects and addresses, over counted strings that need no NUL. Written out by hand: the C
 * library's isalnum() asks the locale, and its inet_pton() wants a terminated string and is not for code that must replay.
 * Nothing here resolves, canonicalises or compares addresses.
 */
#include "base/name.h"

#include "base/text.h"

#include <cohort/types.h>
#include <string.h>

#define HOST_LABEL_BYTES_MAX 63 /* RFC 1035 2.3.4 */
#define HOST_NAME_BYTES_MAX 253

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_id_char(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '_' || c == '-';
}

static bool all_id_chars(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!is_id_char(s[i])) {
            return false;
        }
    }
    return true;
}

bool cohorti_id_valid(const char *s, size_t len)
{
    return len >= 1 && len <= COHORT_ID_BYTES_MAX && all_id_chars(s, len);
}

bool cohorti_cluster_valid(const char *s, size_t len)
{
    return len <= COHORT_CLUSTER_BYTES_MAX && all_id_chars(s, len);
}

bool cohorti_subject_valid(const char *s, size_t len)
{
    if (len < 1 || len > COHORT_SUBJECT_BYTES_MAX || s[0] == '#') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (s[i] <= ' ' || s[i] > '~') {
            return false;
        }
    }
    return true;
}

bool cohorti_subject_raw(const char *s, size_t len, uint32_t *type)
{
    if (len < 2 || s[0] != '#') {
        return false;
    }
    bool negative = s[1] == '-';
    const char *digits = s + (negative ? 2 : 1);
    size_t digits_len = len - (negative ? 2 : 1);
    uint64_t v;
    if (!cohorti_parse_u64(digits, digits_len, negative ? UINT64_C(0x80000000) : UINT32_MAX, &v)) {
        return false;
    }
    /* One type, one spelling: the subject is a key in tables and metrics. */
    if (digits[0] == '0' && (digits_len > 1 || negative)) {
        return false;
    }
    *type = negative ? (uint32_t)(UINT64_C(0) - v) : (uint32_t)v;
    return true;
}

bool cohorti_ipv4_valid(const char *s, size_t len)
{
    size_t at = 0;
    for (int part = 0; part < 4; part++) {
        if (part > 0 && (at >= len || s[at++] != '.')) {
            return false;
        }
        size_t start = at;
        while (at < len && is_digit(s[at])) {
            at++;
        }
        uint64_t v;
        if (!cohorti_parse_u64(s + start, at - start, 255, &v) || (s[start] == '0' && at - start > 1)) {
            return false;
        }
    }
    return at == len;
}

/* The 16-bit groups of one side of "::" (or of an address without it): how many, or -1. A dotted quad may end the last side. */
static int ipv6_groups(const char *s, size_t len, bool last_side)
{
    int groups = 0;
    size_t at = 0;
    if (len == 0) {
        return 0;
    }
    for (;;) {
        if (last_side && cohorti_ipv4_valid(s + at, len - at)) {
            return groups + 2;
        }
        size_t start = at;
        while (at < len && is_hex(s[at])) {
            at++;
        }
        if (at == start || at - start > 4) {
            return -1;
        }
        groups++;
        if (at == len) {
            return groups;
        }
        if (s[at++] != ':') {
            return -1;
        }
    }
}

bool cohorti_ipv6_valid(const char *s, size_t len)
{
    const char *percent = len == 0 ? NULL : memchr(s, '%', len);
    if (percent != NULL) {
        size_t address_len = (size_t)(percent - s);
        size_t zone_len = len - address_len - 1;
        if (zone_len == 0 || !all_id_chars(percent + 1, zone_len)) {
            return false;
        }
        len = address_len;
    }
    for (size_t i = 0; i + 1 < len; i++) {
        if (s[i] == ':' && s[i + 1] == ':') {
            int before = ipv6_groups(s, i, false);
            int after = ipv6_groups(s + i + 2, len - i - 2, true);
            return before >= 0 && after >= 0 && before + after <= 7;
        }
    }
    return ipv6_groups(s, len, true) == 8;
}

/* What inet_aton() takes for a part of an address. */
static bool is_number(const char *s, size_t len)
{
    bool hex = len >= 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X');
    for (size_t i = hex ? 2 : 0; i < len; i++) {
        if (hex ? !is_hex(s[i]) : !is_digit(s[i])) {
            return false;
        }
    }
    return true;
}

static bool label_valid(const char *s, size_t len)
{
    if (len < 1 || len > HOST_LABEL_BYTES_MAX || s[0] == '-' || s[len - 1] == '-') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!is_id_char(s[i]) || s[i] == '.') {
            return false;
        }
    }
    return true;
}

bool cohorti_hostname_valid(const char *s, size_t len)
{
    if (len > 1 && s[len - 1] == '.') {
        len--; /* absolute */
    }
    if (len < 1 || len > HOST_NAME_BYTES_MAX) {
        return false;
    }
    size_t start = 0;
    for (size_t at = 0; at <= len; at++) {
        if (at < len && s[at] != '.') {
            continue;
        }
        if (!label_valid(s + start, at - start) || (at == len && is_number(s + start, at - start))) {
            return false;
        }
        start = at + 1;
    }
    return true;
}

bool cohorti_host_valid(const char *s, size_t len)
{
    return len <= COHORT_HOST_BYTES_MAX &&
           (cohorti_ipv4_valid(s, len) || cohorti_ipv6_valid(s, len) || cohorti_hostname_valid(s, len));
}
