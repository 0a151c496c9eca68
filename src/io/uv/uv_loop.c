/* SPDX-License-Identifier: Apache-2.0
 *
 * Loops, clock and entropy on libuv. A loop is one thread; stop is asked for through the same wake-up as everything else.
 */
#include "io/uv/uv_io.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define TURNS_MORE 3

static _Thread_local struct cohorti_loop *current_loop;

static uint64_t now_ns(struct cohorti_io *io)
{
    return uv_hrtime();
}

static uint64_t ns_of(const struct timespec *ts)
{
    return (uint64_t)ts->tv_sec * UINT64_C(1000000000) + (uint64_t)ts->tv_nsec;
}

/* The system's clock of its ticks was seen up to 1.7 of them behind (virtual machine, Linux 6.18): two ticks more are never before now, but
 * where the host holds up the processor that keeps the time. */
static uint64_t coarse_ns(struct cohorti_io *io)
{
    struct timespec last;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &last);
    return ns_of(&last) + 2 * ((struct uv_io *)io)->tick_ns;
}

static uint64_t wall_us(struct cohorti_io *io)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static int entropy(struct cohorti_io *io, void *out, size_t len)
{
    char *at = out;
    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);
        if (n < 0 && errno != EINTR) {
            return COHORT_EIO;
        }
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
    }
    return COHORT_OK;
}

static void yield_thread(struct cohorti_io *io)
{
    sched_yield();
}

static struct timespec after(uint64_t timeout_ns)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t limit_ns = UINT64_C(1000000000) * 86400 * 365;
    uint64_t ns = (uint64_t)until.tv_nsec + (timeout_ns > limit_ns ? limit_ns : timeout_ns);
    until.tv_sec += (time_t)(ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    return until;
}

/* Until a time, not for one: to be woken early, as by a signal, changes nothing. */
static int wait_for(struct cohorti_io *io, struct cohorti_waiter *w, uint64_t timeout_ns)
{
    bool bounded = timeout_ns != UINT64_MAX, over = false;
    struct timespec until = bounded ? after(timeout_ns) : (struct timespec){0};
    uint32_t idle = COHORTI_WAITER_IDLE;
    (void)atomic_compare_exchange_strong(&w->state, &idle, COHORTI_WAITER_SLEEPS);
    while (!cohorti_waiter_done(w) && !over) {
        long status = syscall(SYS_futex, &w->state, FUTEX_WAIT_BITSET_PRIVATE, COHORTI_WAITER_SLEEPS, bounded ? &until : NULL, NULL,
                              FUTEX_BITSET_MATCH_ANY);
        over = status != 0 && errno == ETIMEDOUT;
    }
    return cohorti_waiter_done(w) ? COHORT_OK : COHORT_ETIMEDOUT;
}

/* ---- loops --------------------------------------------------------------------------------------------------------- */

static void on_wake(uv_async_t *handle)
{
    struct cohorti_loop *loop = handle->data;
    if (atomic_load(&loop->stopping)) {
        uv_stop(&loop->uv);
        return;
    }
    loop->handler.on_wake(loop->ctx);
}

static void on_timer(uv_timer_t *handle)
{
    struct cohorti_loop *loop = handle->data;
    loop->handler.on_timer(loop->ctx);
}

static int loop_new(struct cohorti_io *io, const char *name, const struct cohorti_loop_handler *handler, void *ctx,
                    struct cohorti_loop **out)
{
    struct uv_io *uv = (struct uv_io *)io;
    struct cohorti_loop *loop = cohorti_alloc_zero(uv->alloc, sizeof *loop);
    if (loop == NULL) {
        return COHORT_ENOMEM;
    }
    loop->io = uv;
    loop->handler = *handler;
    loop->ctx = ctx;
    snprintf(loop->name, sizeof loop->name, "%s", name);
    int error = uv_loop_init(&loop->uv);
    if (error != 0) {
        cohorti_release(uv->alloc, loop);
        return cohorti_uv_status(-error);
    }
    error = uv_async_init(&loop->uv, &loop->wake, on_wake);
    if (error != 0) {
        uv_loop_close(&loop->uv);
        cohorti_release(uv->alloc, loop);
        return cohorti_uv_status(-error);
    }
    uv_timer_init(&loop->uv, &loop->timer);
    loop->wake.data = loop;
    loop->timer.data = loop;
    cohorti_waiter_init(&loop->started);
    *out = loop;
    return COHORT_OK;
}

/* The application's signals are none of ours: they go to its own threads. */
static void loop_main(void *arg)
{
    struct cohorti_loop *loop = arg;
    current_loop = loop;
    pthread_setname_np(pthread_self(), loop->name);
    cohorti_waiter_signal(&loop->started);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    current_loop = NULL;
}

static int loop_start(struct cohorti_loop *loop)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = uv_thread_create(&loop->thread, loop_main, loop);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        return cohorti_uv_status(-error);
    }
    loop->running = true;
    return wait_for(&loop->io->base, &loop->started, UINT64_MAX);
}

static void loop_stop(struct cohorti_loop *loop)
{
    if (loop->running) {
        assert(current_loop != loop);
        atomic_store(&loop->stopping, true);
        uv_async_send(&loop->wake);
        uv_thread_join(&loop->thread);
        loop->running = false;
    }
}

static void loop_free(struct cohorti_loop *loop)
{
    loop_stop(loop);
    uv_close((uv_handle_t *)&loop->wake, NULL);
    uv_close((uv_handle_t *)&loop->timer, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT); /* the closing handles, also those of sockets, finish here */
    int error = uv_loop_close(&loop->uv);
    assert(error == 0); /* a socket still attached */
    (void)error;
    cohorti_waiter_deinit(&loop->started);
    cohorti_release(loop->io->alloc, loop);
}

static void loop_wake(struct cohorti_loop *loop)
{
    uv_async_send(&loop->wake);
}

/* libuv counts in whole milliseconds of its own idea of now, rounded down. So it is the deadline that is rounded up, not the
 * distance to it: a timer is never early. */
static void loop_timer(struct cohorti_loop *loop, uint64_t deadline_ns)
{
    if (deadline_ns == UINT64_MAX) {
        uv_timer_stop(&loop->timer);
        return;
    }
    uint64_t deadline_ms = deadline_ns / 1000000 + (deadline_ns % 1000000 != 0);
    uv_update_time(&loop->uv);
    uint64_t now_ms = uv_now(&loop->uv);
    uv_timer_start(&loop->timer, on_timer, deadline_ms > now_ms ? deadline_ms - now_ms : 0, 0);
}

static bool loop_is_current(const struct cohorti_loop *loop)
{
    return current_loop == loop;
}

/* ---- a loop of somebody else's thread ------------------------------------------------------------------------------ */

static struct cohorti_loop *loop_enter(struct cohorti_loop *loop)
{
    struct cohorti_loop *before = current_loop;
    current_loop = loop;
    return before;
}

/* Watches that a callback asked for reach the kernel at the next turn only (uv_backend_timeout() says 0 then): take it at once, so that
 * who looks at the descriptor alone is told too. Bounded: callbacks may go on asking. */
static void loop_turn(struct cohorti_loop *loop, bool block)
{
    uv_run(&loop->uv, block ? UV_RUN_ONCE : UV_RUN_NOWAIT);
    for (int i = 0; i < TURNS_MORE && uv_backend_timeout(&loop->uv) == 0; i++) {
        uv_run(&loop->uv, UV_RUN_NOWAIT);
    }
}

static int loop_fd(const struct cohorti_loop *loop)
{
    return uv_backend_fd(&loop->uv);
}

static int loop_wait_ms(struct cohorti_loop *loop)
{
    uv_update_time(&loop->uv);
    return uv_backend_timeout(&loop->uv);
}

/* ---- the machine --------------------------------------------------------------------------------------------------- */

static const struct cohorti_io_ops uv_ops = {
    .now_ns = now_ns,
    .coarse_ns = coarse_ns,
    .wall_us = wall_us,
    .entropy = entropy,
    .yield = yield_thread,
    .wait = wait_for,
    .event_new = cohorti_uv_event_new,
    .event_set = cohorti_uv_event_set,
    .event_fd = cohorti_uv_event_fd,
    .event_free = cohorti_uv_event_free,
    .loop_new = loop_new,
    .loop_start = loop_start,
    .loop_stop = loop_stop,
    .loop_free = loop_free,
    .loop_wake = loop_wake,
    .loop_timer = loop_timer,
    .loop_is_current = loop_is_current,
    .loop_enter = loop_enter,
    .loop_turn = loop_turn,
    .loop_fd = loop_fd,
    .loop_wait_ms = loop_wait_ms,
    .listen = cohorti_uv_listen,
    .accept = cohorti_uv_accept,
    .connect = cohorti_uv_connect,
    .connect_result = cohorti_uv_connect_result,
    .attach = cohorti_uv_attach,
    .detach = cohorti_uv_detach,
    .watch = cohorti_uv_watch,
    .recv = cohorti_uv_recv,
    .recv_soon = cohorti_uv_recv_soon,
    .send = cohorti_uv_send,
    .shutdown = cohorti_uv_shutdown,
    .close = cohorti_uv_close,
    .peer_name = cohorti_uv_peer_name,
    .resolve = cohorti_uv_resolve,
    .resolve_cancel = cohorti_uv_resolve_cancel,
    .watch_file = cohorti_uv_watch_file,
    .unwatch_file = cohorti_uv_unwatch_file,
};

/* A process may have closed its standard input or output. What libuv opens must not get their place: it aborts when it is to close that, and
 * whoever prints would write into it. */
static void keep_standard_descriptors(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO) {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    }
    if (fd >= 0) {
        close(fd);
    }
}

int cohorti_io_uv_new(const cohort_allocator *alloc, struct cohorti_io **out)
{
    struct uv_io *io = cohorti_alloc_zero(alloc, sizeof *io);
    if (io == NULL) {
        return COHORT_ENOMEM;
    }
    keep_standard_descriptors();
    struct timespec tick = {0};
    clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
    io->base.ops = &uv_ops;
    io->alloc = alloc;
    io->tick_ns = ns_of(&tick);
    *out = &io->base;
    return COHORT_OK;
}

void cohorti_io_uv_free(struct cohorti_io *io)
{
    if (io != NULL) {
        cohorti_release(((struct uv_io *)io)->alloc, io);
    }
}
