/* SPDX-License-Identifier: Apache-2.0
 *
 * Log lines of the agent and of the node in it, to stderr: text for people, or one JSON object a line for machines.
 */
#ifndef COHORT_AGENT_LOG_H
#define COHORT_AGENT_LOG_H

#include "writer.h"

#include <cohort/types.h>
#include <pthread.h>
#include <stdatomic.h>

enum log_format {
    LOG_TEXT = 0,
    LOG_JSON = 1
};

struct agent_log {
    enum log_format format;
    _Atomic int level;                  /* a cohort_log_level; a reload changes it */
    char node[COHORT_ID_BYTES_MAX + 1]; /* who speaks in lines of the agent itself */
    pthread_mutex_t lock;
    bool holding;
    struct writer held;
};

/**
 * Lines are held back, within a limit, until log_release(): an agent that cannot start says why in one line, not among those
 * of the parts that did.
 */
void log_init(struct agent_log *log, enum log_format format, cohort_log_level level);
void log_release(struct agent_log *log);

/** What is still held back is thrown away. */
void log_deinit(struct agent_log *log);

/** Sink for cohort_config.log with a struct agent_log as context. Thread: any. */
void log_write(void *ctx, const cohort_log_record *record);

/** A line of the agent itself. */
__attribute__((format(printf, 3, 4))) void log_say(struct agent_log *log, cohort_log_level level, const char *format, ...);

#endif
