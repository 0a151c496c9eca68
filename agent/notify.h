/* SPDX-License-Identifier: Apache-2.0
 *
 * What the service manager is told: sd_notify(3) as a protocol, a datagram to the socket that $NOTIFY_SOCKET names. Without one nothing
 * is sent. libsystemd would be a dependency for these few lines.
 */
#ifndef COHORT_AGENT_NOTIFY_H
#define COHORT_AGENT_NOTIFY_H

#include <sys/socket.h>
#include <sys/un.h>

struct notify {
    struct sockaddr_un address;
    socklen_t address_len; /* 0: nobody is to be told */
};

/** Read $NOTIFY_SOCKET and take it out of the environment. */
void notify_init(struct notify *notify);

/** We listen; also: a reload is over. `status` is one line for people. */
void notify_ready(const struct notify *notify, const char *status);

/** A reload begins. */
void notify_reloading(const struct notify *notify);

/** We are about to end. */
void notify_stopping(const struct notify *notify);

#endif
