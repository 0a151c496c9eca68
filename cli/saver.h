/* SPDX-License-Identifier: Apache-2.0
 * cohort listen SUBJECT --save DIR: each stream becomes a file. */
#ifndef COHORT_CLI_SAVER_H
#define COHORT_CLI_SAVER_H

#include "client.h"

struct saver {
    const char *directory;
    uint64_t count; /* end after so many files; 0: no end */
    bool ready;     /* say so on stderr */
};

/** Save the streams of a subject; returns what to exit with. */
int saver_run(struct saver *saver, struct client *client, const char *subject);

#endif
