/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages to the service manager; see notify.h. One that cannot be sent is lost: the service must not end for it.
 */
#include "notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

void notify_init(struct notify *notify)
{
    const char *path = getenv("NOTIFY_SOCKET");
    size_t len = path != NULL ? strlen(path) : 0;
    *notify = (struct notify){.address = {.sun_family = AF_UNIX}};
    if (len > 1 && len < sizeof(notify->address.sun_path) && (path[0] == '/' || path[0] == '@')) {
        memcpy(notify->address.sun_path, path, len);
        notify->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (path[0] == '/' ? 1 : 0));
        if (path[0] == '@') {
            notify->address.sun_path[0] = '\0'; /* an abstract name: all of it counts, no NUL ends it */
        }
    }
    unsetenv("NOTIFY_SOCKET");
}

__attribute__((format(printf, 2, 3))) static void send_lines(const struct notify *notify, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    int fd = notify->address_len > 0 ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
    if (fd < 0) {
        return;
    }
    size_t size = (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1;
    ssize_t ignored = sendto(fd, text, size, MSG_NOSIGNAL, (const struct sockaddr *)&notify->address, notify->address_len);
    (void)ignored;
    close(fd);
}

void notify_ready(const struct notify *notify, const char *status)
{
    send_lines(notify, "READY=1\nSTATUS=%.400s\n", status);
}

void notify_reloading(const struct notify *notify)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    send_lines(notify, "RELOADING=1\nMONOTONIC_USEC=%llu\n",
               (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000);
}

void notify_stopping(const struct notify *notify)
{
    send_lines(notify, "STOPPING=1\n");
}
