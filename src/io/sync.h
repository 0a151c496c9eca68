/* SPDX-License-Identifier: Apache-2.0
 * Locks and the one way to wait, so that nothing above src/io names a thread library. */
#ifndef COHORTI_IO_SYNC_H
#define COHORTI_IO_SYNC_H

#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

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

/**
 * One thread waits (through cohorti_io_wait(), which a simulation replaces), any other signals, once. A futex(2): with a mutex and a
 * condition the one that is woken first meets the mutex of the one that wakes it, and that may not be let go before, as the waiter may
 * be gone as soon as it knows. The call that wakes may come when it is gone: it wakes who waits at that address, and touches nothing.
 */
struct cohorti_waiter {
    _Atomic uint32_t state;
};

enum {
    COHORTI_WAITER_IDLE,
    COHORTI_WAITER_SLEEPS, /* or is about to */
    COHORTI_WAITER_DONE,
};

static inline void cohorti_waiter_init(struct cohorti_waiter *w)
{
    atomic_init(&w->state, COHORTI_WAITER_IDLE);
}

static inline void cohorti_waiter_deinit(struct cohorti_waiter *w)
{
}

static inline void cohorti_waiter_signal(struct cohorti_waiter *w)
{
    if (atomic_exchange(&w->state, COHORTI_WAITER_DONE) == COHORTI_WAITER_SLEEPS) {
        syscall(SYS_futex, &w->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

static inline bool cohorti_waiter_done(struct cohorti_waiter *w)
{
    return atomic_load(&w->state) == COHORTI_WAITER_DONE;
}

#endif
