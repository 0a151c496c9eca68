/* SPDX-License-Identifier: Apache-2.0
 * Until when to wait, for pthread_cond_timedwait() on conditions of CLOCK_MONOTONIC. */
#ifndef COHORT_AGENT_DEADLINE_H
#define COHORT_AGENT_DEADLINE_H

#include <stdint.h>
#include <time.h>

static inline struct timespec deadline_after(uint32_t timeout_ms)
{
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    uint64_t nsec = (uint64_t)deadline.tv_nsec + (uint64_t)timeout_ms % 1000 * 1000000;
    deadline.tv_sec += (time_t)(timeout_ms / 1000 + nsec / 1000000000);
    deadline.tv_nsec = (long)(nsec % 1000000000);
    return deadline;
}

#endif
