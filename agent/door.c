/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP at a TCP address; see door.h.
 */
#include "door.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BACKLOG = 128
};

struct place {
    struct sockaddr_storage address;
    socklen_t len;
};

__attribute__((format(printf, 2, 3))) static bool refuse(char *why, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, DOOR_WHY_MAX, format, arguments);
    va_end(arguments);
    return false;
}

static bool parse(const char *text, struct place *out, char *why)
{
    char host[64] = "127.0.0.1";
    const char *colon = strrchr(text, ':');
    size_t len = colon != NULL ? (size_t)(colon - text) : 0;
    bool bracketed = len >= 2 && text[0] == '[' && text[len - 1] == ']';
    const char *port = colon != NULL ? colon + 1 : "";
    size_t digits = strspn(port, "0123456789");
    bool fits = colon != NULL && len < sizeof(host) && digits > 0 && digits <= 5 && port[digits] == '\0' &&
                strtoul(port, NULL, 10) <= 65535;
    if (fits && len > 0) {
        snprintf(host, sizeof(host), "%.*s", (int)(bracketed ? len - 2 : len), text + (bracketed ? 1 : 0));
    }
    const struct addrinfo hints = {.ai_family = bracketed ? AF_INET6 : AF_INET,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *found = NULL;
    if (!fits || getaddrinfo(host, port, &hints, &found) != 0) {
        return refuse(why, "http: '%.64s' is not IP:PORT, [IP6]:PORT or :PORT", text);
    }
    memcpy(&out->address, found->ai_addr, found->ai_addrlen);
    out->len = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

static bool is_loopback(const struct place *place)
{
    const struct sockaddr_in *four = (const struct sockaddr_in *)&place->address;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)&place->address;
    return place->address.ss_family == AF_INET ? ntohl(four->sin_addr.s_addr) >> 24 == 127 : IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
}

static bool allowed(const char *address, bool insecure, struct place *place, char *why)
{
    if (!parse(address, place, why)) {
        return false;
    }
    return insecure || is_loopback(place) ||
           refuse(why,
                  "http: %s can be reached from other machines and asks nobody who they are; if that is meant, say --http-insecure",
                  address);
}

bool door_check(const char *address, bool insecure, char *why)
{
    struct place place = {.len = 0};
    return allowed(address, insecure, &place, why);
}

static void print_place(int fd, char out[DOOR_TEXT_MAX])
{
    struct place place = {.len = sizeof(place.address)};
    char host[64] = "?", port[8] = "?";
    if (getsockname(fd, (struct sockaddr *)&place.address, &place.len) == 0) {
        (void)getnameinfo((struct sockaddr *)&place.address, place.len, host, sizeof(host), port, sizeof(port),
                          NI_NUMERICHOST | NI_NUMERICSERV);
    }
    snprintf(out, DOOR_TEXT_MAX, place.address.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

bool door_open(struct door *door, const char *address, bool insecure, char *why)
{
    struct place place = {.len = 0};
    int on = 1;
    *door = (struct door){.listen_fd = -1};
    if (!allowed(address, insecure, &place, why)) {
        return false;
    }
    int fd = socket(place.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        (place.address.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) != 0) ||
        bind(fd, (const struct sockaddr *)&place.address, place.len) != 0 || listen(fd, BACKLOG) != 0) {
        refuse(why, "http: cannot listen at %s: %s", address, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    door->listen_fd = fd;
    door->loopback = is_loopback(&place);
    print_place(fd, door->text);
    return true;
}

/* An address, or the one name that cannot be pointed elsewhere. */
static bool is_literal(const char *host)
{
    unsigned char ignored[sizeof(struct in6_addr)];
    char name[64];
    size_t len = host[0] == '[' ? strcspn(host, "]") : strcspn(host, ":");
    size_t skip = host[0] == '[' ? 1 : 0;
    if (len - skip >= sizeof(name) || len < skip) {
        return false;
    }
    memcpy(name, host + skip, len - skip);
    name[len - skip] = '\0';
    return strcasecmp(name, "localhost") == 0 || inet_pton(skip == 1 ? AF_INET6 : AF_INET, name, ignored) == 1;
}

bool door_admits(bool loopback, const char *host, const char *origin)
{
    static const char scheme[] = "http://";
    if (loopback && host != NULL && !is_literal(host)) {
        return false;
    }
    if (origin == NULL) {
        return true;
    }
    return host != NULL && strncasecmp(origin, scheme, sizeof(scheme) - 1) == 0 && strcasecmp(origin + sizeof(scheme) - 1, host) == 0;
}
