/* SPDX-License-Identifier: Apache-2.0
 * Numeric addresses to and from sockaddr, and errno to the library's codes. No name is resolved here. */
#include "io/uv/uv_io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int ipv6_address(const char *host, uint16_t port, struct sockaddr_in6 *out)
{
    char plain[INET6_ADDRSTRLEN];
    const char *zone = strchr(host, '%');
    size_t len = zone == NULL ? strlen(host) : (size_t)(zone - host);
    if (len >= sizeof plain) {
        return COHORT_EADDR;
    }
    memcpy(plain, host, len);
    plain[len] = '\0';
    if (inet_pton(AF_INET6, plain, &out->sin6_addr) != 1) {
        return COHORT_EADDR;
    }
    if (zone != NULL) {
        out->sin6_scope_id = if_nametoindex(zone + 1);
        if (out->sin6_scope_id == 0) {
            return COHORT_EADDR;
        }
    }
    out->sin6_family = AF_INET6;
    out->sin6_port = htons(port);
    return COHORT_OK;
}

int cohorti_uv_address(const char *host, uint16_t port, struct sockaddr_storage *out, socklen_t *len)
{
    memset(out, 0, sizeof *out);
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        *len = sizeof *v4;
        return COHORT_OK;
    }
    *len = sizeof(struct sockaddr_in6);
    return ipv6_address(host, port, (struct sockaddr_in6 *)out);
}

void cohorti_uv_address_text(const struct sockaddr_storage *address, char *out, size_t cap)
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
        bool mapped = IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr); /* an IPv4 peer of a listener on "::" */
        if (mapped) {
            inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], host, sizeof host);
        } else {
            inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        }
        snprintf(out, cap, mapped ? "%s:%u" : "[%s]:%u", host, ntohs(v6->sin6_port));
    } else if (address->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(out, cap, "%s:%u", host, ntohs(v4->sin_port));
    } else {
        snprintf(out, cap, "?");
    }
}

bool cohorti_uv_is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET6) {
        const struct in6_addr *v6 = &((const struct sockaddr_in6 *)address)->sin6_addr;
        return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == IN_LOOPBACKNET);
    }
    uint32_t v4 = ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr);
    return address->ss_family == AF_INET && v4 >> IN_CLASSA_NSHIFT == IN_LOOPBACKNET;
}

int cohorti_uv_status(int os_error)
{
    switch (os_error) {
    case 0:
        return COHORT_OK;
    case EAGAIN:
    case EINPROGRESS:
    case EINTR:
        return COHORT_EAGAIN;
    case ECONNREFUSED:
        return COHORT_EREFUSED;
    case ECONNRESET:
    case EPIPE:
    case ECONNABORTED:
        return COHORT_ERESET;
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
        return COHORT_EUNREACHABLE;
    case EADDRINUSE:
        return COHORT_EADDRINUSE;
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
    case EINVAL:
        return COHORT_EADDR;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
        return COHORT_ELIMIT;
    case ENOMEM:
        return COHORT_ENOMEM;
    default:
        return COHORT_EIO;
    }
}
