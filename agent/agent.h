/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent: a node of a cluster as a process of its own, served over HTTP on a Unix socket. See docs/cli.md, docs/http.md.
 */
#ifndef COHORT_AGENT_AGENT_H
#define COHORT_AGENT_AGENT_H

#include "log.h"

#include <cohort/cohort.h>

struct agent_options {
    const char *cluster_path; /* NULL: no definition */
    const char *id;           /* NULL: the ip */
    bool no_watch;            /* do not follow changes of the definition */
    const char *ip;           /* NULL: the definition's, else $COHORT_IP, else COHORT_IP_DEFAULT */
    const char *bind;         /* NULL: the definition's, else the ip */
    uint16_t tcp_port;        /* 0: the definition's, else COHORT_PORT_DEFAULT */
    const char *control_path; /* NULL: control_default_path() */
    cohort_log_level log_level;
    enum log_format log_format;
    cohort_admission admission;
    cohort_dial_mode dial;
    uint32_t loop_count; /* AGENT_LOOPS_DEFAULT: the library's */
};

#define AGENT_LOOPS_DEFAULT UINT32_MAX

/** Run until SIGTERM, SIGINT or SIGHUP. 0: ran and closed. 1: could not; said on stderr in one line. */
int agent_run(const struct agent_options *options);

#endif
