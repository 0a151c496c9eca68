/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's other door: HTTP at a TCP address, for what cannot open a Unix socket. There is no authentication, so the door opens to
 * this machine only unless the operator says the word, and it does not let web pages in that a browser here has loaded from elsewhere.
 */
#ifndef COHORT_AGENT_DOOR_H
#define COHORT_AGENT_DOOR_H

#include <stdbool.h>

enum {
    DOOR_TEXT_MAX = 80,
    DOOR_WHY_MAX = 512
};

struct door {
    int listen_fd;            /* -1: none */
    bool loopback;            /* nobody else can reach it */
    char text[DOOR_TEXT_MAX]; /* address and port as they are, "127.0.0.1:8080" */
};

/** Is it IP:PORT, [IP6]:PORT or :PORT (127.0.0.1)? Port 0: the system chooses. `why` has DOOR_WHY_MAX bytes. */
bool door_check(const char *address, bool insecure, char *why);

/** Listen there. False: nothing is open, `why` says what is wrong. */
bool door_open(struct door *door, const char *address, bool insecure, char *why);

/**
 * Is a request one that a program made, or a page of ours? `host` and `origin` are its headers or NULL. Browsers put the page's own
 * origin on what a page sends elsewhere; a name in Host may be one that a hostile name server has pointed at us.
 */
bool door_admits(bool loopback, const char *host, const char *origin);

#endif
