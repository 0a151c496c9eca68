/* SPDX-License-Identifier: Apache-2.0
 *
 * io/uv against the contract of io.h: loops, wake-ups, timers, waiting; listening, accepting, connecting, being refused;
 * sockets that change loops.
 */
#include "io/io.h"
#include "io/uv/uv_io.h"

#include "support.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define BOUND_NS (30000 * MS)

struct rig;

struct loop {
    struct rig *rig;
    struct cohorti_loop *loop;
    _Atomic unsigned wakes, timers;
    _Atomic uint64_t timer_ns;
    void (*job)(struct loop *l); /* run on the loop by run_on() */
    struct cohorti_waiter done;
};

struct rig {
    struct unit_memory memory;
    struct cohorti_mutex memory_lock;
    cohort_allocator alloc; /* memory, from several loops */
    struct cohorti_io *io;
    const struct cohorti_io_ops *ops;
    struct loop loops[2];
    struct cohorti_socket *listener, *accepted, *dialled;
    uint16_t port;
    _Atomic bool readable;
    _Atomic uint64_t received;
    int status;
};

static const char *host(void)
{
    static char text[16];
    (void)snprintf(text, sizeof text, "127.%d.%d.9", 64 + (getpid() >> 8) % 128, getpid() % 256);
    return text;
}

static void *locked_allocate(void *ctx, size_t size)
{
    struct rig *r = ctx;
    cohorti_mutex_lock(&r->memory_lock);
    void *block = r->memory.alloc.allocate(r->memory.alloc.ctx, size);
    cohorti_mutex_unlock(&r->memory_lock);
    return block;
}

static void *locked_reallocate(void *ctx, void *ptr, size_t size)
{
    struct rig *r = ctx;
    cohorti_mutex_lock(&r->memory_lock);
    void *block = r->memory.alloc.reallocate(r->memory.alloc.ctx, ptr, size);
    cohorti_mutex_unlock(&r->memory_lock);
    return block;
}

static void locked_release(void *ctx, void *ptr)
{
    struct rig *r = ctx;
    cohorti_mutex_lock(&r->memory_lock);
    r->memory.alloc.release(r->memory.alloc.ctx, ptr);
    cohorti_mutex_unlock(&r->memory_lock);
}

static void on_wake(void *ctx)
{
    struct loop *l = ctx;
    atomic_fetch_add(&l->wakes, 1);
    if (l->job != NULL) {
        void (*job)(struct loop *) = l->job;
        l->job = NULL;
        job(l);
        cohorti_waiter_signal(&l->done);
    }
}

static void on_timer(void *ctx)
{
    struct loop *l = ctx;
    atomic_store(&l->timer_ns, l->rig->ops->now_ns(l->rig->io));
    atomic_fetch_add(&l->timers, 1);
}

static const struct cohorti_loop_handler handler = {.on_wake = on_wake, .on_timer = on_timer};

static void rig_open(struct rig *r)
{
    memset(r, 0, sizeof *r);
    unit_memory_init(&r->memory);
    cohorti_mutex_init(&r->memory_lock);
    r->alloc = (cohort_allocator){locked_allocate, locked_reallocate, locked_release, r};
    assert_int_equal(cohorti_io_uv_new(&r->alloc, &r->io), COHORT_OK);
    r->ops = r->io->ops;
    r->port = 9876;
    for (int i = 0; i < 2; i++) {
        r->loops[i].rig = r;
        assert_int_equal(r->ops->loop_new(r->io, "test", &handler, &r->loops[i], &r->loops[i].loop), COHORT_OK);
    }
}

static void rig_close(struct rig *r)
{
    for (int i = 0; i < 2; i++) {
        r->ops->loop_stop(r->loops[i].loop);
        r->ops->loop_free(r->loops[i].loop);
    }
    cohorti_io_uv_free(r->io);
    cohorti_mutex_deinit(&r->memory_lock);
    unit_memory_assert_empty(&r->memory);
}

static void start_loops(struct rig *r)
{
    for (int i = 0; i < 2; i++) {
        assert_int_equal(r->ops->loop_start(r->loops[i].loop), COHORT_OK);
    }
}

/* One loop at a time works on the rig, handed over through the waiter. */
static void run_on(struct loop *l, void (*job)(struct loop *l))
{
    cohorti_waiter_init(&l->done);
    l->job = job;
    l->rig->ops->loop_wake(l->loop);
    assert_int_equal(l->rig->ops->wait(l->rig->io, &l->done, BOUND_NS), COHORT_OK);
    cohorti_waiter_deinit(&l->done);
}

#define WAIT_FOR(r, condition)                                  \
    do {                                                        \
        uint64_t until_ = (r)->ops->now_ns((r)->io) + BOUND_NS; \
        while (!(condition)) {                                  \
            assert_true((r)->ops->now_ns((r)->io) < until_);    \
            sched_yield();                                      \
        }                                                       \
    } while (0)

/* ---- the machine --------------------------------------------------------------------------------------------------- */

static void waiting_ends_in_time_and_not_before(void **state)
{
    struct rig r;
    struct cohorti_waiter w;
    rig_open(&r);
    cohorti_waiter_init(&w);
    uint64_t start = r.ops->now_ns(r.io);
    assert_int_equal(r.ops->wait(r.io, &w, 30 * MS), COHORT_ETIMEDOUT);
    assert_true(r.ops->now_ns(r.io) - start >= 30 * MS);
    assert_false(cohorti_waiter_done(&w));
    cohorti_waiter_signal(&w);
    assert_true(cohorti_waiter_done(&w));
    assert_int_equal(r.ops->wait(r.io, &w, UINT64_MAX), COHORT_OK);
    assert_int_equal(r.ops->wait(r.io, &w, 0), COHORT_OK);
    cohorti_waiter_deinit(&w);
    rig_close(&r);
}

static void a_loop_never_started_is_freed(void **state)
{
    struct rig r;
    rig_open(&r);
    r.ops->loop_wake(r.loops[0].loop);
    rig_close(&r);
    assert_int_equal(atomic_load(&r.loops[0].wakes), 0);
}

static void check_current(struct loop *l)
{
    l->rig->status = l->rig->ops->loop_is_current(l->loop) && !l->rig->ops->loop_is_current(l->rig->loops[1].loop);
}

static void wake_ups_reach_the_loop_on_its_thread(void **state)
{
    struct rig r;
    rig_open(&r);
    start_loops(&r);
    run_on(&r.loops[0], check_current);
    assert_int_equal(r.status, true);
    assert_false(r.ops->loop_is_current(r.loops[0].loop));
    for (unsigned i = 0; i < 1000; i++) {
        unsigned before = atomic_load(&r.loops[1].wakes);
        r.ops->loop_wake(r.loops[1].loop);
        WAIT_FOR(&r, atomic_load(&r.loops[1].wakes) > before);
    }
    rig_close(&r);
}

static uint64_t wanted_ns, ahead_ns;

static void set_timer(struct loop *l)
{
    wanted_ns = l->rig->ops->now_ns(l->rig->io) + ahead_ns;
    l->rig->ops->loop_timer(l->loop, wanted_ns);
}

static void set_timer_in_the_past(struct loop *l)
{
    l->rig->ops->loop_timer(l->loop, 1);
}

static void set_and_unset_timer(struct loop *l)
{
    l->rig->ops->loop_timer(l->loop, l->rig->ops->now_ns(l->rig->io) + MS);
    l->rig->ops->loop_timer(l->loop, UINT64_MAX);
}

static void timers_are_never_early_and_fire_once(void **state)
{
    struct rig r;
    rig_open(&r);
    start_loops(&r);
    for (unsigned i = 1; i <= 50; i++) { /* fractions of a millisecond too, which is all that libuv knows */
        ahead_ns = i * 37 * MS / 500 + i;
        run_on(&r.loops[0], set_timer);
        WAIT_FOR(&r, atomic_load(&r.loops[0].timers) == i);
        assert_true(atomic_load(&r.loops[0].timer_ns) >= wanted_ns);
    }
    run_on(&r.loops[0], set_timer_in_the_past);
    WAIT_FOR(&r, atomic_load(&r.loops[0].timers) == 51);
    run_on(&r.loops[0], set_and_unset_timer);
    run_on(&r.loops[0], set_timer);
    WAIT_FOR(&r, atomic_load(&r.loops[0].timers) >= 52);
    rig_close(&r);
    assert_int_equal(atomic_load(&r.loops[0].timers), 52);
}

/* ---- sockets ------------------------------------------------------------------------------------------------------- */

static void on_ready(void *ctx, unsigned events)
{
    struct rig *r = ctx;
    atomic_store(&r->readable, true);
    (void)events;
}

static void on_accept(void *ctx, unsigned events)
{
    struct rig *r = ctx;
    r->ops->watch(r->listener, 0);
    atomic_store(&r->readable, true);
    (void)events;
}

static void open_listener(struct loop *l)
{
    struct rig *r = l->rig;
    cohort_error error;
    r->status = r->ops->listen(l->loop, host(), r->port, on_accept, r, &r->listener, &error);
}

static void close_listener(struct loop *l)
{
    l->rig->ops->close(l->rig->listener);
}

static void accept_one(struct loop *l)
{
    struct rig *r = l->rig;
    r->status = r->ops->accept(r->listener, &r->accepted);
    r->ops->watch(r->listener, COHORTI_IO_READ);
}

static void read_all(void *ctx, unsigned events)
{
    struct rig *r = ctx;
    uint8_t bytes[64];
    size_t n = 0;
    const struct cohorti_room rooms[] = {{bytes, 20}, {bytes + 20, 1}, {bytes + 21, sizeof bytes - 21}};
    int status = r->ops->recv(r->accepted, rooms, UNIT_COUNT(rooms), &n);
    if (status == COHORT_OK) {
        atomic_fetch_add(&r->received, n);
    } else if (status != COHORT_EAGAIN) {
        r->status = status;
        r->ops->watch(r->accepted, 0);
        atomic_store(&r->readable, true);
    }
    (void)events;
}

static void attach_accepted(struct loop *l)
{
    struct rig *r = l->rig;
    r->status = r->ops->attach(r->accepted, l->loop, read_all, r);
    r->ops->watch(r->accepted, COHORTI_IO_READ);
}

static void detach_accepted(struct loop *l)
{
    l->rig->ops->detach(l->rig->accepted);
}

static void close_accepted(struct loop *l)
{
    l->rig->ops->close(l->rig->accepted);
}

static void dial(struct rig *r)
{
    assert_int_equal(r->ops->connect(r->io, host(), r->port, &r->dialled), COHORT_OK);
    int status;
    while ((status = r->ops->connect_result(r->dialled)) == COHORT_EAGAIN) {
        sched_yield();
    }
    assert_int_equal(status, COHORT_OK);
}

static void open_pair(struct rig *r)
{
    struct cohorti_socket *none = NULL;
    rig_open(r);
    start_loops(r);
    run_on(&r->loops[0], open_listener);
    assert_int_equal(r->status, COHORT_OK);
    assert_int_equal(r->ops->accept(r->listener, &none), COHORT_EAGAIN);
    dial(r);
    WAIT_FOR(r, atomic_load(&r->readable));
    atomic_store(&r->readable, false);
    run_on(&r->loops[0], accept_one);
    assert_int_equal(r->status, COHORT_OK);
}

/* In two runs where there are two bytes or more. */
static int write_runs(const struct cohorti_io_ops *ops, struct cohorti_socket *s, const void *bytes, size_t len, size_t *n)
{
    const uint8_t *at = bytes;
    const struct cohorti_bytes runs[] = {{at, len / 2}, {at + len / 2, len - len / 2}};
    return len < 2 ? ops->send(s, runs + 1, 1, n) : ops->send(s, runs, 2, n);
}

static void send_bytes(struct rig *r, size_t len)
{
    static const uint8_t bytes[64];
    size_t n = 0;
    assert_int_equal(write_runs(r->ops, r->dialled, bytes, len, &n), COHORT_OK);
    assert_int_equal(n, len);
}

static void a_socket_moves_between_loops_and_loses_nothing(void **state)
{
    struct rig r;
    char name[64];
    open_pair(&r);
    r.ops->peer_name(r.dialled, name, sizeof name);
    assert_non_null(strstr(name, host()));
    assert_non_null(strstr(name, ":9876"));
    uint64_t sent = 0;
    for (unsigned i = 0; i < 50; i++) { /* also back to the loop it came from */
        send_bytes(&r, 10);
        run_on(&r.loops[(i / 2) % 2], attach_accepted);
        assert_int_equal(r.status, COHORT_OK);
        send_bytes(&r, 7);
        sent += 17;
        WAIT_FOR(&r, atomic_load(&r.received) == sent);
        run_on(&r.loops[(i / 2) % 2], detach_accepted);
    }
    r.ops->close(r.accepted);
    r.ops->close(r.dialled);
    run_on(&r.loops[0], close_listener);
    rig_close(&r);
}

/* Of the connected sockets of the process, those whose option begins with these bytes. */
static int count_with_option(int level, int name, const void *wanted, size_t wanted_len)
{
    int count = 0;
    for (int fd = 3; fd < 256; fd++) {
        struct sockaddr_storage peer;
        socklen_t len = sizeof peer;
        char value[16] = "";
        if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0 && peer.ss_family == AF_INET) {
            len = sizeof value;
            assert_int_equal(getsockopt(fd, level, name, value, &len), 0);
            count += memcmp(value, wanted, wanted_len) == 0;
        }
    }
    return count;
}

static int count_with_number(int level, int name, int wanted)
{
    return count_with_option(level, name, &wanted, sizeof wanted);
}

static void both_ends_of_a_link_watch_the_path(void **state)
{
    struct rig r;
    rig_open(&r);
    start_loops(&r);
    run_on(&r.loops[0], open_listener);
    assert_int_equal(r.status, COHORT_OK);
    dial(&r);
    WAIT_FOR(&r, atomic_load(&r.readable));
    run_on(&r.loops[0], accept_one);
    assert_int_equal(r.status, COHORT_OK);
    assert_int_equal(count_with_number(IPPROTO_TCP, TCP_NODELAY, 1), 2);
    assert_int_equal(count_with_number(SOL_SOCKET, SO_KEEPALIVE, 1), 2);
    assert_int_equal(count_with_number(IPPROTO_TCP, TCP_KEEPIDLE, 10), 2);
    assert_int_equal(count_with_number(IPPROTO_TCP, TCP_USER_TIMEOUT, 30000), 2);
    assert_int_equal(count_with_number(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 128 * 1024), 2);
    assert_int_equal(count_with_option(IPPROTO_TCP, TCP_CONGESTION, "reno", sizeof "reno"), 2); /* nothing paces on loopback */
    run_on(&r.loops[0], close_accepted);
    r.ops->close(r.dialled);
    run_on(&r.loops[0], close_listener);
    rig_close(&r);
}

static void count_wake(struct loop *l)
{
    l->rig->status = l->rig->ops->loop_is_current(l->loop);
}

static void a_loop_without_a_thread_is_run_by_the_caller(void **state)
{
    struct rig r;
    rig_open(&r);
    struct cohorti_loop *loop = r.loops[0].loop;
    struct pollfd p = {.fd = r.ops->loop_fd(loop), .events = POLLIN};
    assert_null(r.ops->loop_enter(loop));
    assert_true(r.ops->loop_is_current(loop));
    r.ops->loop_turn(loop, false);
    assert_int_equal(r.ops->loop_wait_ms(loop), -1);
    assert_int_equal(poll(&p, 1, 0), 0);
    cohorti_waiter_init(&r.loops[0].done);
    r.loops[0].job = count_wake;
    r.ops->loop_wake(loop);
    assert_int_equal(poll(&p, 1, 30000), 1);
    r.ops->loop_turn(loop, false);
    assert_int_equal(r.status, true);
    cohorti_waiter_deinit(&r.loops[0].done);
    r.ops->loop_timer(loop, r.ops->now_ns(r.io) + 5 * MS);
    assert_in_range(r.ops->loop_wait_ms(loop), 1, 6);
    while (atomic_load(&r.loops[0].timers) == 0) {
        r.ops->loop_turn(loop, true);
    }
    assert_ptr_equal(r.ops->loop_enter(NULL), loop);
    assert_false(r.ops->loop_is_current(loop));
    rig_close(&r);
}

static void the_end_of_the_stream_and_a_reset_are_told(void **state)
{
    struct rig r;
    size_t n = 0;
    uint8_t byte;
    open_pair(&r);
    run_on(&r.loops[1], attach_accepted);
    send_bytes(&r, 5);
    r.ops->shutdown(r.dialled);
    WAIT_FOR(&r, atomic_load(&r.readable));
    assert_int_equal(r.status, COHORT_EPEERCLOSED);
    assert_int_equal(atomic_load(&r.received), 5);
    assert_int_equal(r.ops->recv(r.dialled, &(const struct cohorti_room){&byte, 1}, 1, &n), COHORT_EAGAIN);
    assert_int_equal(write_runs(r.ops, r.accepted, "x", 1, &n), COHORT_OK); /* left unread by the one that closes: a reset */
    r.ops->close(r.dialled);
    int status;
    WAIT_FOR(&r, (status = write_runs(r.ops, r.accepted, "x", 1, &n)) != COHORT_OK);
    assert_int_equal(status, COHORT_ERESET);
    run_on(&r.loops[1], close_accepted);
    run_on(&r.loops[0], close_listener);
    rig_close(&r);
}

static void a_full_socket_says_again(void **state)
{
    static const uint8_t bytes[65536];
    struct rig r;
    size_t n = 0, taken = 0;
    int status;
    open_pair(&r);
    while ((status = write_runs(r.ops, r.dialled, bytes, sizeof bytes, &n)) == COHORT_OK) {
        taken += n;
    }
    assert_int_equal(status, COHORT_EAGAIN);
    assert_true(taken < (size_t)768 * 1024); /* what the system holds, more urgent bytes cannot overtake */
    r.ops->close(r.dialled);
    r.ops->close(r.accepted);
    run_on(&r.loops[0], close_listener);
    rig_close(&r);
}

/* By the time that half of it takes: so much that a loop comes in time to add more, and no more than waits a fraction of a millisecond. */
static void what_the_system_takes_ahead_follows_the_path(void **state)
{
    static const struct {
        uint64_t bytes_per_ms;
        uint32_t low, high;
    } paths[] = {
        {5000000, 1 << 20, 1 << 20}, {1250000, 256 << 10, 512 << 10}, {125000, 128 << 10, 128 << 10}, {1250, 128 << 10, 128 << 10}};
    uint32_t unsent = 128 << 10;
    for (size_t i = 0; i < UNIT_COUNT(paths); i++) {
        uint32_t before = 0;
        for (int step = 0; step < 10; step++) {
            before = unsent;
            unsent = cohorti_uv_unsent_next(unsent, unsent / 2 * UINT64_C(1000000) / paths[i].bytes_per_ms);
        }
        assert_int_equal(unsent, before); /* it comes to rest */
        assert_in_range(unsent, paths[i].low, paths[i].high);
    }
}

static void a_port_nobody_listens_on_refuses(void **state)
{
    struct rig r;
    rig_open(&r);
    int status = r.ops->connect(r.io, host(), 9877, &r.dialled);
    if (status == COHORT_OK) {
        while ((status = r.ops->connect_result(r.dialled)) == COHORT_EAGAIN) {
            sched_yield();
        }
        r.ops->close(r.dialled);
    }
    assert_int_equal(status, COHORT_EREFUSED);
    assert_int_equal(r.ops->connect(r.io, "host", 1, &r.dialled), COHORT_EADDR);
    rig_close(&r);
}

static void listening_fails_with_a_name(void **state)
{
    struct rig r;
    cohort_error error;
    struct cohorti_socket *other = NULL;
    rig_open(&r); /* no loop runs: this thread may */
    open_listener(&r.loops[0]);
    assert_int_equal(r.status, COHORT_OK);
    assert_int_equal(r.ops->listen(r.loops[1].loop, host(), r.port, on_accept, &r, &other, &error), COHORT_EADDRINUSE);
    assert_int_equal(error.code, COHORT_EADDRINUSE);
    assert_non_null(strstr(error.text, host()));
    assert_int_equal(r.ops->listen(r.loops[1].loop, "192.0.2.1", r.port, on_accept, &r, &other, &error), COHORT_EADDR);
    assert_int_equal(r.ops->listen(r.loops[1].loop, "nowhere", r.port, on_accept, &r, &other, &error), COHORT_EADDR);
    for (size_t n = 1; n <= 2; n++) {
        r.memory.fail_at = r.memory.calls + n;
        assert_int_equal(r.ops->listen(r.loops[1].loop, host(), 9878, on_accept, &r, &other, &error), COHORT_ENOMEM);
    }
    r.ops->close(r.listener);
    rig_close(&r);
}

static void without_memory_nothing_is_left(void **state)
{
    struct rig r;
    struct cohorti_loop *loop = NULL;
    struct cohorti_io *io = NULL;
    rig_open(&r);
    r.memory.fail_at = r.memory.calls + 1;
    assert_int_equal(r.ops->loop_new(r.io, "test", &handler, &r, &loop), COHORT_ENOMEM);
    r.memory.fail_at = r.memory.calls + 1;
    assert_int_equal(cohorti_io_uv_new(&r.alloc, &io), COHORT_ENOMEM);
    open_listener(&r.loops[0]);
    r.memory.fail_at = r.memory.calls + 1;
    assert_int_equal(r.ops->connect(r.io, host(), r.port, &r.dialled), COHORT_ENOMEM);
    dial(&r);
    r.memory.fail_at = r.memory.calls + 1;
    assert_int_equal(r.ops->attach(r.dialled, r.loops[0].loop, on_ready, &r), COHORT_ENOMEM);
    r.memory.fail_at = r.memory.calls + 1;
    int status;
    while ((status = r.ops->accept(r.listener, &r.accepted)) == COHORT_ERESET || status == COHORT_EAGAIN) {
    }
    assert_int_equal(status, COHORT_ENOMEM);
    r.ops->close(r.dialled);
    r.ops->close(r.listener);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waiting_ends_in_time_and_not_before),
        cmocka_unit_test(a_loop_never_started_is_freed),
        cmocka_unit_test(wake_ups_reach_the_loop_on_its_thread),
        cmocka_unit_test(timers_are_never_early_and_fire_once),
        cmocka_unit_test(a_socket_moves_between_loops_and_loses_nothing),
        cmocka_unit_test(both_ends_of_a_link_watch_the_path),
        cmocka_unit_test(a_loop_without_a_thread_is_run_by_the_caller),
        cmocka_unit_test(the_end_of_the_stream_and_a_reset_are_told),
        cmocka_unit_test(a_full_socket_says_again),
        cmocka_unit_test(what_the_system_takes_ahead_follows_the_path),
        cmocka_unit_test(a_port_nobody_listens_on_refuses),
        cmocka_unit_test(listening_fails_with_a_name),
        cmocka_unit_test(without_memory_nothing_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
