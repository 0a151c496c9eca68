/* SPDX-License-Identifier: Apache-2.0
 *
 * TCP sockets of our own, watched with uv_poll_t: uv_write would cost 3-5 us more a round trip, and a send must be possible
 * from any thread.
 *
 * A link that carries members is never closed for idleness; a dead path shows through keep-alive, and through
 * TCP_USER_TIMEOUT where data is under way.
 *
 * The system takes no more than unsent_max ahead of what it has sent: what waits in its buffer, up to 4 MiB otherwise, can no longer be
 * overtaken by a more urgent lane. What is under way is not limited by this, so a long path is still filled. On a path that sends it
 * sooner than a loop is woken to add more, so little would leave the path idle each time; so it is as much as goes out in a fraction of
 * a millisecond: it doubles and halves with the time that half of it took.
 */
#include "io/uv/uv_io.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define KEEPALIVE_IDLE_S 10
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_PROBES 4
#define USER_TIMEOUT_MS 30000
#define OTHERS_LOOKS 4 /* one in so many looks at the loop's other descriptors too */
#define UNSENT_BYTES_MIN ((uint32_t)128 * 1024)
#define UNSENT_BYTES_MAX ((uint32_t)1024 * 1024)
#define LARGE_PIECE_BYTES ((size_t)48 * 1024)
#define LOOPBACK_WINDOW_BYTES (352 * 1024) /* the system doubles it, for what its own buffers take */
#define DRAINED_SOON_NS 100000             /* half of what waited went out so soon: there may be more */
#define DRAINED_LATE_NS 400000             /* or so late: there must be less */

static int socket_new(struct uv_io *io, int fd, struct cohorti_socket **out)
{
    struct cohorti_socket *s = cohorti_alloc_zero(io->alloc, sizeof *s);
    if (s == NULL) {
        close(fd);
        return COHORT_ENOMEM;
    }
    s->io = io;
    s->fd = fd;
    s->unsent_max = UNSENT_BYTES_MIN;
    *out = s;
    return COHORT_OK;
}

static void set_option(int fd, int level, int name, int value)
{
    (void)setsockopt(fd, level, name, &value, sizeof value); /* each only improves on the default */
}

/* On a listener too: what it accepts inherits them (Linux), which saves a crowd of connections six calls each. */
static void set_link_options(int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS);
    set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES_MIN);
}

/* On loopback nothing is congested, and a congestion control that paces what it sends (BBR) only slows it down. Reno is in every Linux,
 * allowed to everybody, and does not pace. To be called before the connection is made: pacing that has begun does not end. */
static void set_loopback_options(int fd, const struct sockaddr_storage *address)
{
    if (cohorti_uv_is_loopback(address)) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", strlen("reno"));
    }
}

/* ---- listen, accept, connect --------------------------------------------------------------------------------------- */

static int fail_listen(const char *host, uint16_t port, int os_error, cohort_error *error)
{
    int status = cohorti_uv_status(os_error);
    if (status != COHORT_EADDRINUSE && status != COHORT_EADDR && status != COHORT_ENOMEM) {
        status = COHORT_EIO;
    }
    error->code = status;
    snprintf(error->text, sizeof error->text, "cannot listen on %s port %u: %s", host, port, strerror(os_error));
    return status;
}

static int listening_fd(const struct sockaddr_storage *address, socklen_t len)
{
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set_link_options(fd);
    set_loopback_options(fd, address);
    if (address->ss_family == AF_INET6) { /* "::" is all addresses of the machine, whatever the system's default */
        bool any = IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)address)->sin6_addr);
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, any ? 0 : 1);
    }
    /* listen() clips the backlog to the system's maximum */
    if (bind(fd, (const struct sockaddr *)address, len) != 0 || listen(fd, 65535) != 0) {
        int os_error = errno;
        close(fd);
        return -os_error;
    }
    return fd;
}

int cohorti_uv_listen(struct cohorti_loop *loop, const char *host, uint16_t port, cohorti_socket_fn fn, void *ctx,
                      struct cohorti_socket **out, cohort_error *error)
{
    struct sockaddr_storage address;
    socklen_t len;
    if (cohorti_uv_address(host, port, &address, &len) != COHORT_OK) {
        return fail_listen(host, port, EADDRNOTAVAIL, error);
    }
    int fd = listening_fd(&address, len);
    if (fd < 0) {
        return fail_listen(host, port, -fd, error);
    }
    struct cohorti_socket *s = NULL;
    int status = socket_new(loop->io, fd, &s);
    if (status != COHORT_OK) {
        return fail_listen(host, port, ENOMEM, error);
    }
    status = cohorti_uv_attach(s, loop, fn, ctx);
    if (status != COHORT_OK) {
        cohorti_uv_close(s);
        return fail_listen(host, port, ENOMEM, error);
    }
    cohorti_uv_watch(s, COHORTI_IO_READ);
    *out = s;
    return COHORT_OK;
}

int cohorti_uv_accept(struct cohorti_socket *listener, struct cohorti_socket **out)
{
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return cohorti_uv_status(errno);
    }
    return socket_new(listener->io, fd, out);
}

int cohorti_uv_connect(struct cohorti_io *io, const char *host, uint16_t port, struct cohorti_socket **out)
{
    struct sockaddr_storage address;
    socklen_t len;
    int status = cohorti_uv_address(host, port, &address, &len);
    if (status != COHORT_OK) {
        return status;
    }
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return cohorti_uv_status(errno);
    }
    set_loopback_options(fd, &address);
    if (connect(fd, (struct sockaddr *)&address, len) != 0 && errno != EINPROGRESS) {
        status = cohorti_uv_status(errno);
        close(fd);
        return status == COHORT_EAGAIN ? COHORT_ELIMIT : status; /* EAGAIN of connect(2): no local port is free */
    }
    return socket_new((struct uv_io *)io, fd, out);
}

/* getsockopt says 0 also while the connect is under way: ask for the peer too. */
int cohorti_uv_connect_result(struct cohorti_socket *s)
{
    int os_error = 0;
    socklen_t len = sizeof os_error;
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &os_error, &len) != 0) {
        os_error = errno;
    }
    if (os_error != 0) {
        return cohorti_uv_status(os_error);
    }
    struct sockaddr_storage peer;
    len = sizeof peer;
    if (getpeername(s->fd, (struct sockaddr *)&peer, &len) != 0) {
        return COHORT_EAGAIN;
    }
    set_link_options(s->fd); /* only now: most dials into a cluster that is starting are refused */
    return COHORT_OK;
}

/* ---- watching ------------------------------------------------------------------------------------------------------ */

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct cohorti_socket *s = handle->data;
    unsigned ready = 0;
    if (status < 0) { /* an error is pending, and libuv no longer watches; there may be bytes to read before it */
        unsigned events_watched = s->watched;
        s->watched = 0;
        cohorti_uv_watch(s, events_watched);
        ready = COHORTI_IO_READ | COHORTI_IO_WRITE;
    }
    if ((events & (UV_READABLE | UV_DISCONNECT)) != 0) {
        ready |= COHORTI_IO_READ;
    }
    if ((events & UV_WRITABLE) != 0) {
        ready |= COHORTI_IO_WRITE;
    }
    s->fn(s->ctx, ready);
}

int cohorti_uv_attach(struct cohorti_socket *s, struct cohorti_loop *loop, cohorti_socket_fn fn, void *ctx)
{
    assert(s->poll == NULL);
    uv_poll_t *poll = cohorti_alloc_zero(s->io->alloc, sizeof *poll);
    if (poll == NULL) {
        return COHORT_ENOMEM;
    }
    if (uv_poll_init(&loop->uv, poll, s->fd) != 0) {
        cohorti_release(s->io->alloc, poll);
        return COHORT_EIO;
    }
    s->watched = 0;
    poll->data = s;
    poll->loop->data = s->io;
    s->poll = poll;
    s->fn = fn;
    s->ctx = ctx;
    return COHORT_OK;
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct uv_io *io = handle->loop->data;
    cohorti_release(io->alloc, handle);
}

void cohorti_uv_detach(struct cohorti_socket *s)
{
    if (s->poll != NULL) {
        uv_close((uv_handle_t *)s->poll, on_poll_closed);
        s->poll = NULL;
    }
}

void cohorti_uv_watch(struct cohorti_socket *s, unsigned events)
{
    int wanted = 0;
    if (events == s->watched) {
        return; /* libuv would take it out of epoll and put it in again */
    }
    s->watched = events;
    wanted |= (events & COHORTI_IO_READ) != 0 ? UV_READABLE : 0;
    wanted |= (events & COHORTI_IO_WRITE) != 0 ? UV_WRITABLE : 0;
    if (wanted == 0) {
        uv_poll_stop(s->poll);
    } else {
        uv_poll_start(s->poll, wanted, on_poll);
    }
}

/* Of the loop: the descriptor of an epoll is readable when one that it watches is ready. */
static bool is_ready(const uv_loop_t *loop)
{
    struct pollfd backend = {.fd = uv_backend_fd(loop), .events = POLLIN};
    return poll(&backend, 1, 0) > 0;
}

/* What SO_RCVBUF is given may be less; but then it has to be tried on a socket that is not needed, as it cannot be taken back. */
static bool is_window_allowed(int family)
{
    int bytes = 0;
    socklen_t len = sizeof bytes;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return false;
    }
    set_option(fd, SOL_SOCKET, SO_RCVBUF, LOOPBACK_WINDOW_BYTES);
    bool allowed = getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, &len) == 0 && bytes >= 2 * LOOPBACK_WINDOW_BYTES;
    close(fd);
    return allowed;
}

/* Large messages come. On loopback the receive window that the system finds by itself is often too small for them: what waits in the sender's
 * buffer is then sent whenever the receiver opens the window, on the receiver's processor, which is the busier one. With twice as much they
 * are slower again. It stays as it is from here on, so it is not for other streams, whose best is smaller, nor for paths that may need more; and
 * where the system has found a larger one, or allows less (net.core.rmem_max), it is left alone. */
static void widen_window(struct cohorti_socket *s)
{
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    int bytes = 0;
    socklen_t len = sizeof peer, bytes_len = sizeof bytes;
    s->window_seen = true;
    if (getpeername(s->fd, (struct sockaddr *)&peer, &len) == 0 && cohorti_uv_is_loopback(&peer) &&
        getsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &bytes, &bytes_len) == 0 && bytes < 2 * LOOPBACK_WINDOW_BYTES &&
        is_window_allowed(peer.ss_family)) {
        set_option(s->fd, SOL_SOCKET, SO_RCVBUF, LOOPBACK_WINDOW_BYTES);
        set_option(s->fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, 2 * LOOPBACK_WINDOW_BYTES); /* older Linux leaves it at the window before */
    }
}

/* ---- bytes --------------------------------------------------------------------------------------------------------- */

int cohorti_uv_recv(struct cohorti_socket *s, const struct cohorti_room *rooms, size_t count, size_t *n)
{
    struct iovec iov[COHORTI_IO_RUNS_MAX];
    assert(count <= COHORTI_IO_RUNS_MAX);
    for (size_t i = 0; i < count; i++) {
        iov[i] = (struct iovec){.iov_base = rooms[i].at, .iov_len = rooms[i].len};
    }
    if (count > 1 && rooms[0].len >= LARGE_PIECE_BYTES && !s->window_seen) { /* a piece of a large message has its own place */
        widen_window(s);
    }
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
    ssize_t got = count == 1 ? recv(s->fd, rooms[0].at, rooms[0].len, 0) : recvmsg(s->fd, &message, 0);
    if (got < 0) {
        return cohorti_uv_status(errno);
    }
    *n = (size_t)got;
    return got == 0 ? COHORT_EPEERCLOSED : COHORT_OK;
}

/* A thread that is to run on this processor gets it in between: it may be the one that sends. What else is ready is looked at from the second
 * time on, and not each time, since most often it is the socket that has something, soon. */
int cohorti_uv_recv_soon(struct cohorti_socket *s, const struct cohorti_room *rooms, size_t count, size_t *n, uint64_t for_ns,
                         uint64_t *took_ns)
{
    int status = cohorti_uv_recv(s, rooms, count, n);
    *took_ns = 0;
    if (status != COHORT_EAGAIN) {
        return status;
    }
    uint64_t begun_ns = uv_hrtime();
    bool ready = false;
    for (uint32_t look = 1; status == COHORT_EAGAIN && !ready && *took_ns < for_ns; look++) {
        sched_yield();
        status = cohorti_uv_recv(s, rooms, count, n);
        if (status == COHORT_EAGAIN && look % OTHERS_LOOKS == 1 && is_ready(s->poll->loop)) {
            ready = true;
            status = cohorti_uv_recv(s, rooms, count, n); /* it may have been this one, just now */
        }
        *took_ns = uv_hrtime() - begun_ns;
    }
    return status;
}

uint32_t cohorti_uv_unsent_next(uint32_t unsent_max, uint64_t drained_ns)
{
    if (drained_ns <= DRAINED_SOON_NS && unsent_max < UNSENT_BYTES_MAX) {
        return unsent_max * 2;
    }
    return drained_ns >= DRAINED_LATE_NS && unsent_max > UNSENT_BYTES_MIN ? unsent_max / 2 : unsent_max;
}

/* It had no room, `since_ns`, and has some: the system says so when half of unsent_max has gone out. */
static void on_room(struct cohorti_socket *s, uint64_t since_ns, uint64_t now_ns)
{
    uint32_t next = cohorti_uv_unsent_next(s->unsent_max, now_ns - since_ns);
    if (next != s->unsent_max) {
        s->unsent_max = next;
        set_option(s->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, (int)next);
    }
}

int cohorti_uv_send(struct cohorti_socket *s, const struct cohorti_bytes *runs, size_t count, size_t *n)
{
    struct iovec iov[COHORTI_IO_RUNS_MAX];
    size_t len = 0;
    assert(count <= COHORTI_IO_RUNS_MAX);
    for (size_t i = 0; i < count; i++) {
        iov[i] = (struct iovec){.iov_base = (void *)(uintptr_t)runs[i].at, .iov_len = runs[i].len};
        len += runs[i].len;
    }
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
    uint64_t since_ns = s->full_ns, now_ns = since_ns == 0 ? 0 : uv_hrtime();
    ssize_t put = count == 1 ? send(s->fd, runs[0].at, len, MSG_NOSIGNAL) : sendmsg(s->fd, &message, MSG_NOSIGNAL);
    if (put < 0) {
        return cohorti_uv_status(errno);
    }
    if (since_ns != 0) {
        on_room(s, since_ns, now_ns);
    }
    s->full_ns = (size_t)put < len ? uv_hrtime() : 0;
    *n = (size_t)put;
    return COHORT_OK;
}

void cohorti_uv_shutdown(struct cohorti_socket *s)
{
    (void)shutdown(s->fd, SHUT_WR);
}

void cohorti_uv_close(struct cohorti_socket *s)
{
    cohorti_uv_detach(s);
    close(s->fd);
    cohorti_release(s->io->alloc, s);
}

void cohorti_uv_peer_name(struct cohorti_socket *s, char *out, size_t cap)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    if (getpeername(s->fd, (struct sockaddr *)&peer, &len) != 0) {
        memset(&peer, 0, sizeof peer);
    }
    cohorti_uv_address_text(&peer, out, cap);
}
