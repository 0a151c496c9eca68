/* SPDX-License-Identifier: Apache-2.0
 *
 * HELLO: three fields of the seed, then our extension where the seed's parser stops looking.
 *
 * What may stand in each field is decided here and nowhere else, so that a HELLO that decoded can be used without a second
 * look: id, cluster and ip are valid and short, the port is not 0, min <= max. Whether we want this peer is for the link.
 */
#include "wire/hello.h"

#include "base/name.h"

#include <assert.h>
#include <string.h>

#define EXTENSION_START "cohort/"
#define SHOWN_BYTES_MAX 64 /* of an offending value */

/* A run of bytes of the input. */
struct span {
    const char *at;
    size_t len;
};

static bool span_is(struct span s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.at, text, s.len) == 0;
}

/* Take what precedes `separator` off the front of `rest`, and the separator; all of it when there is none, which is told by
 * `rest` becoming NULL. */
static struct span take_until(struct span *rest, char separator)
{
    struct span taken = *rest;
    const char *end = rest->len == 0 ? NULL : memchr(rest->at, separator, rest->len);
    if (end == NULL) {
        *rest = (struct span){NULL, 0};
        return taken;
    }
    taken.len = (size_t)(end - rest->at);
    rest->at = end + 1;
    rest->len -= taken.len + 1;
    return taken;
}

static int bad(struct cohorti_text *why, struct span value, const char *what)
{
    if (why != NULL) {
        cohorti_text_add_quoted(why, value.at, value.len, SHOWN_BYTES_MAX);
        cohorti_text_add(why, what);
    }
    return COHORT_EHELLO;
}

static int bad_whole(struct cohorti_text *why, const char *what)
{
    if (why != NULL) {
        cohorti_text_add(why, what);
    }
    return COHORT_EHELLO;
}

/* IPv4, IPv6, or something a resolver may be asked for. */
static bool host_valid(struct span s)
{
    if (s.len < 1 || s.len > COHORT_HOST_BYTES_MAX) {
        return false;
    }
    if (cohorti_ipv6_valid(s.at, s.len)) {
        return true;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (!cohorti_id_valid(&s.at[i], 1)) {
            return false;
        }
    }
    return true;
}

static bool parse_hex(struct span s, uint64_t *out)
{
    uint64_t v = 0;
    if (s.len < 1 || s.len > 16) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        char c = s.at[i];
        if (c >= '0' && c <= '9') {
            v = v << 4 | (uint64_t)(c - '0');
        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            v = v << 4 | (uint64_t)((c | 0x20) - 'a' + 10);
        } else {
            return false;
        }
    }
    *out = v;
    return true;
}

static void add_hex(struct cohorti_text *t, uint64_t v)
{
    char digits[16];
    size_t at = sizeof(digits);
    do {
        digits[--at] = "0123456789abcdef"[v & 0xf];
        v >>= 4;
    } while (v > 0);
    cohorti_text_add_bytes(t, digits + at, sizeof(digits) - at);
}

static void add_extension(struct cohorti_text *t, const struct cohorti_hello *hello, bool with_addr)
{
    assert(hello->version_min >= 1 && hello->version_min <= hello->version_max);
    assert(cohorti_cluster_valid(hello->cluster, strlen(hello->cluster)));
    cohorti_text_add(t, ":" EXTENSION_START);
    cohorti_text_add_u64(t, hello->version_min);
    cohorti_text_add(t, "-");
    cohorti_text_add_u64(t, hello->version_max);
    cohorti_text_add(t, ";inc=");
    cohorti_text_add_u64(t, hello->incarnation);
    if (hello->cluster[0] != '\0') {
        cohorti_text_add(t, ";cluster=");
        cohorti_text_add(t, hello->cluster);
    }
    if (hello->attempt != 0) {
        cohorti_text_add(t, ";attempt=");
        cohorti_text_add_u64(t, hello->attempt);
    }
    if (with_addr) {
        cohorti_text_add(t, ";addr=");
        cohorti_text_add(t, hello->ip);
    }
    if (hello->caps != 0) {
        cohorti_text_add(t, ";caps=");
        add_hex(t, hello->caps);
    }
}

int cohorti_hello_encode(const struct cohorti_hello *hello, uint8_t *out, size_t cap, size_t *len)
{
    char buffer[COHORTI_HELLO_BYTES_MAX + 1];
    struct cohorti_text t;
    struct span ip = {hello->ip, strlen(hello->ip)};
    bool ipv4 = cohorti_ipv4_valid(ip.at, ip.len);
    assert(cohorti_id_valid(hello->id, strlen(hello->id)) && hello->tcp_port != 0 && host_valid(ip));
    if (!ipv4 && !hello->extended) {
        return COHORT_EADDR;
    }
    cohorti_text_init(&t, buffer, sizeof(buffer));
    cohorti_text_add(&t, hello->id);
    cohorti_text_add(&t, ":");
    cohorti_text_add(&t, ipv4 ? hello->ip : COHORTI_IPV4_PLACEHOLDER);
    cohorti_text_add(&t, ":");
    cohorti_text_add_u64(&t, hello->tcp_port);
    if (hello->extended) {
        add_extension(&t, hello, !ipv4);
    }
    assert(!t.cut); /* every field has a bound, and their sum is below the limit */
    if (t.len > cap) {
        return COHORT_ESIZE;
    }
    memcpy(out, buffer, t.len);
    *len = t.len;
    return COHORT_OK;
}

/* The keys of the extension. Each takes its value, or says that it cannot. */

static bool take_inc(struct cohorti_hello *out, struct span value)
{
    return cohorti_parse_u64(value.at, value.len, COHORTI_INCARNATION_MAX, &out->incarnation);
}

static bool take_cluster(struct cohorti_hello *out, struct span value)
{
    return cohorti_cluster_valid(value.at, value.len) &&
           cohorti_copy_counted(out->cluster, sizeof(out->cluster), value.at, value.len);
}

static bool take_attempt(struct cohorti_hello *out, struct span value)
{
    uint64_t v;
    if (!cohorti_parse_u64(value.at, value.len, UINT32_MAX, &v)) {
        return false;
    }
    out->attempt = (uint32_t)v;
    return true;
}

static bool take_addr(struct cohorti_hello *out, struct span value)
{
    return host_valid(value) && !span_is(value, COHORTI_IPV4_PLACEHOLDER) &&
           cohorti_copy_counted(out->ip, sizeof(out->ip), value.at, value.len);
}

static bool take_caps(struct cohorti_hello *out, struct span value)
{
    return parse_hex(value, &out->caps);
}

static const struct key {
    const char *name;
    bool (*take)(struct cohorti_hello *out, struct span value);
} keys[] = {{"inc", take_inc}, {"cluster", take_cluster}, {"attempt", take_attempt}, {"addr", take_addr}, {"caps", take_caps}};

#define KEY_COUNT (sizeof(keys) / sizeof(keys[0]))
#define KEY_INC 0u

/* One "key=value". `seen` has a bit for each known key met so far. */
static int decode_key(struct span item, unsigned *seen, struct cohorti_hello *out, struct cohorti_text *why)
{
    struct span value = item;
    struct span name = take_until(&value, '=');
    for (unsigned i = 0; i < KEY_COUNT; i++) {
        if (!span_is(name, keys[i].name)) {
            continue;
        }
        if ((*seen & 1u << i) != 0) {
            return bad(why, item, " comes a second time in the extension");
        }
        *seen |= 1u << i;
        if (value.at == NULL || !keys[i].take(out, value)) {
            return bad(why, item, " is not a valid part of the extension");
        }
    }
    return COHORT_OK; /* a key of a later version */
}

static int decode_versions(struct span range, struct cohorti_hello *out, struct cohorti_text *why)
{
    uint64_t min, max;
    struct span rest = range;
    struct span first = take_until(&rest, '-');
    if (rest.at == NULL || !cohorti_parse_u64(first.at, first.len, UINT16_MAX, &min) ||
        !cohorti_parse_u64(rest.at, rest.len, UINT16_MAX, &max) || min < 1 || min > max) {
        return bad(why, range, " is not a range of protocol versions");
    }
    out->version_min = (uint16_t)min;
    out->version_max = (uint16_t)max;
    return COHORT_OK;
}

static int decode_extension(struct span rest, struct cohorti_hello *out, struct cohorti_text *why)
{
    unsigned seen = 0;
    out->extended = true;
    int rc = decode_versions(take_until(&rest, ';'), out, why);
    while (rc == COHORT_OK && rest.at != NULL) {
        rc = decode_key(take_until(&rest, ';'), &seen, out, why);
    }
    if (rc == COHORT_OK && (seen & 1u << KEY_INC) == 0) {
        rc = bad_whole(why, "the extension lacks inc=");
    }
    return rc;
}

static int decode_fields(struct span rest, struct cohorti_hello *out, struct cohorti_text *why)
{
    uint64_t port;
    struct span id = take_until(&rest, ':');
    if (rest.at == NULL) {
        return bad(why, id, " has no ':'");
    }
    struct span ip = take_until(&rest, ':');
    if (rest.at == NULL) {
        return bad_whole(why, "the third field, the port, is missing");
    }
    struct span port_text = take_until(&rest, ':');
    if (!cohorti_id_valid(id.at, id.len) || !cohorti_copy_counted(out->id, sizeof(out->id), id.at, id.len)) {
        return bad(why, id, " is not an id");
    }
    if (!cohorti_ipv4_valid(ip.at, ip.len) || !cohorti_copy_counted(out->ip, sizeof(out->ip), ip.at, ip.len)) {
        return bad(why, ip, " is not an IPv4 address");
    }
    if (!cohorti_parse_u64(port_text.at, port_text.len, UINT16_MAX, &port) || port == 0) {
        return bad(why, port_text, " is not a port");
    }
    out->tcp_port = (uint16_t)port;
    size_t start_len = strlen(EXTENSION_START);
    if (rest.len < start_len || memcmp(rest.at, EXTENSION_START, start_len) != 0) {
        return COHORT_OK; /* whatever else is there, the 2014 parser does not look at it either */
    }
    return decode_extension((struct span){rest.at + start_len, rest.len - start_len}, out, why);
}

int cohorti_hello_decode(const void *data, size_t len, struct cohorti_hello *out, struct cohorti_text *why)
{
    memset(out, 0, sizeof(*out));
    if (len == 0) {
        return bad_whole(why, "it is empty");
    }
    if (len > COHORTI_HELLO_BYTES_MAX) {
        return bad_whole(why, "it is longer than a HELLO may be");
    }
    return decode_fields((struct span){data, len}, out, why);
}
