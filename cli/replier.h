/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort listen --reply: a command is run for each request, and replies to it.
 */
#ifndef COHORT_CLI_REPLIER_H
#define COHORT_CLI_REPLIER_H

#include "client.h"

struct replier {
    const char *command;  /* of the shell */
    const char *control;  /* as given, or NULL */
    const char *complain; /* begins each complaint */
    uint64_t jobs;        /* commands at once */
    uint64_t count;       /* 0: no end */
    bool ready;           /* say so once subscribed */
    uint64_t running;
};

/** Until `count` requests were taken (EXIT_FINE) or the stream breaks. Waits for the commands that run. */
int replier_run(struct replier *replier, struct client *client, const char *subject);

#endif
