/* SPDX-License-Identifier: Apache-2.0
 *
 * The rules of a definition's values. Which values may not stand twice is for those who see all nodes.
 */
#include "definition/rules.h"

#include "base/name.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <string.h>

const char *cohorti_rule_id(const char *text)
{
    return cohorti_id_valid(text, strlen(text)) ? NULL : "is not an id (1 to 64 letters, digits, '.', '_' or '-')";
}

/* Write an address the one way inet_ntop() does, so that equal addresses are equal strings. */
static bool canonical_ip(const char *text, char out[COHORT_HOST_BYTES_MAX + 1], bool *unspecified)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, text, &v4) == 1) {
        *unspecified = v4.s_addr == INADDR_ANY;
        return inet_ntop(AF_INET, &v4, out, COHORT_HOST_BYTES_MAX + 1) != NULL;
    }
    if (inet_pton(AF_INET6, text, &v6) == 1) {
        *unspecified = memcmp(&v6, &in6addr_any, sizeof(v6)) == 0;
        return inet_ntop(AF_INET6, &v6, out, COHORT_HOST_BYTES_MAX + 1) != NULL;
    }
    return false;
}

const char *cohorti_rule_ip(const char *text, char out[COHORT_HOST_BYTES_MAX + 1])
{
    bool unspecified;
    if (canonical_ip(text, out, &unspecified)) {
        return unspecified ? "is not an address that others can connect to" : NULL;
    }
    if (!cohorti_hostname_valid(text, strlen(text)) || !cohorti_copy_string(out, COHORT_HOST_BYTES_MAX + 1, text)) {
        return "is not an IPv4 or IPv6 address, nor a host name";
    }
    for (char *at = out; *at != '\0'; at++) {
        *at = (char)(*at >= 'A' && *at <= 'Z' ? *at - 'A' + 'a' : *at);
    }
    return NULL;
}

const char *cohorti_rule_bind(const char *text, char out[COHORT_HOST_BYTES_MAX + 1])
{
    bool unspecified;
    return canonical_ip(text, out, &unspecified) ? NULL : "is not an IPv4 or IPv6 address to listen on";
}
