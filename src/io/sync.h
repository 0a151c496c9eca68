/* SPDX-License-Identifier: Apache-2.0
 * Locks and the one way to wait, so that nothing above src/io names a thread library. */
#ifndef COHORTI_IO_SYNC_H
#define COHORTI_IO_SYNC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct cohorti_mutex {
    pthread_mutex_t m;
};

static inline void cohorti_mutex_init(struct cohorti_mutex *mutex)
{
    pthread_mutex_init(&mutex->m, NULL);
}

static inline void cohorti_mutex_deinit(struct cohorti_mutex *mutex)
{
    pthread_mutex_destroy(&mutex->m);
}

static inline void cohorti_mutex_lock(struct cohorti_mutex *mutex)
{
    pthread_mutex_lock(&mutex->m);
}

static inline void cohorti_mutex_unlock(struct cohorti_mutex *mutex)
{
    pthread_mutex_unlock(&mutex->m);
}

/** One thread waits (through cohorti_io_wait(), which a simulation replaces), any other signals, once. */
struct cohorti_waiter {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool done;
};

static inline void cohorti_waiter_init(struct cohorti_waiter *w)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->cond, &attr);
    pthread_condattr_destroy(&attr);
    w->done = false;
}

static inline void cohorti_waiter_deinit(struct cohorti_waiter *w)
{
    pthread_cond_destroy(&w->cond);
    pthread_mutex_destroy(&w->mutex);
}

static inline void cohorti_waiter_signal(struct cohorti_waiter *w)
{
    pthread_mutex_lock(&w->mutex);
    w->done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->mutex);
}

static inline bool cohorti_waiter_done(struct cohorti_waiter *w)
{
    pthread_mutex_lock(&w->mutex);
    bool done = w->done;
    pthread_mutex_unlock(&w->mutex);
    return done;
}

#endif
