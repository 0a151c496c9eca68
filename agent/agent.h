/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent: a node of a cluster as a process of its own, served over HTTP on a Unix socket. See docs/cli.md, docs/http.md,
 * docs/operations.md.
 */
#ifndef COHORT_AGENT_AGENT_H
#define COHORT_AGENT_AGENT_H

#include "settings.h"

struct agent_options {
    const char *config_path; /* NULL: no configuration file */
    struct settings given;   /* what the command line says, and nothing else */
};

/**
 * Run until SIGTERM or SIGINT; SIGHUP reads the configuration and the cluster definition again. 0: ran and closed. 1: could not; said on
 * stderr in one line.
 */
int agent_run(const struct agent_options *options);

#endif
