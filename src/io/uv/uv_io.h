/* SPDX-License-Identifier: Apache-2.0
 * Shared by the files of io/uv only. */
#ifndef COHORTI_IO_UV_H
#define COHORTI_IO_UV_H

#include "base/alloc.h"
#include "io/io.h"

#include <stdatomic.h>
#include <sys/socket.h>
#include <uv.h>

struct uv_io {
    struct cohorti_io base;
    const cohort_allocator *alloc;
    uint64_t tick_ns; /* of the coarse clock */
};

struct cohorti_loop {
    struct uv_io *io;
    uv_loop_t uv;
    uv_async_t wake;
    uv_timer_t timer;
    uv_thread_t thread;
    struct cohorti_waiter started;
    struct cohorti_loop_handler handler;
    void *ctx;
    char name[16];
    _Atomic bool stopping;
    bool running;
};

struct cohorti_socket {
    struct uv_io *io;
    int fd;
    uv_poll_t *poll;     /* NULL while attached to nothing; owned by libuv from its close on */
    unsigned watched;    /* events of the last watch() */
    uint32_t unsent_max; /* what the system takes ahead of what it has sent */
    uint64_t full_ns;    /* since when it takes no more; 0: it does */
    bool window_seen;    /* large messages have come, and its receive window was seen to */
    cohorti_socket_fn fn;
    void *ctx;
};

/* What a socket's unsent_max is to be, after it took `drained_ns` until half of what it is had gone out. */
uint32_t cohorti_uv_unsent_next(uint32_t unsent_max, uint64_t drained_ns);

/* uv_event.c */
int cohorti_uv_event_new(struct cohorti_io *io, struct cohorti_event **out);
void cohorti_uv_event_set(struct cohorti_event *event, bool set);
int cohorti_uv_event_fd(const struct cohorti_event *event);
void cohorti_uv_event_free(struct cohorti_event *event);

/* address.c */
int cohorti_uv_address(const char *host, uint16_t port, struct sockaddr_storage *out, socklen_t *len);
void cohorti_uv_address_text(const struct sockaddr_storage *address, char *out, size_t cap);
bool cohorti_uv_is_loopback(const struct sockaddr_storage *address);
int cohorti_uv_status(int os_error);

/* uv_socket.c */
int cohorti_uv_listen(struct cohorti_loop *loop, const char *host, uint16_t port, cohorti_socket_fn fn, void *ctx,
                      struct cohorti_socket **out, cohort_error *error);
int cohorti_uv_accept(struct cohorti_socket *listener, struct cohorti_socket **out);
int cohorti_uv_connect(struct cohorti_io *io, const char *host, uint16_t port, struct cohorti_socket **out);
int cohorti_uv_connect_result(struct cohorti_socket *s);
int cohorti_uv_attach(struct cohorti_socket *s, struct cohorti_loop *loop, cohorti_socket_fn fn, void *ctx);
void cohorti_uv_detach(struct cohorti_socket *s);
void cohorti_uv_watch(struct cohorti_socket *s, unsigned events);
int cohorti_uv_recv(struct cohorti_socket *s, const struct cohorti_room *rooms, size_t count, size_t *n);
int cohorti_uv_recv_soon(struct cohorti_socket *s, const struct cohorti_room *rooms, size_t count, size_t *n, uint64_t for_ns,
                         uint64_t *took_ns);
int cohorti_uv_send(struct cohorti_socket *s, const struct cohorti_bytes *runs, size_t count, size_t *n);
void cohorti_uv_shutdown(struct cohorti_socket *s);
void cohorti_uv_close(struct cohorti_socket *s);
void cohorti_uv_peer_name(struct cohorti_socket *s, char *out, size_t cap);

/* uv_resolve.c */
int cohorti_uv_resolve(struct cohorti_loop *loop, const char *name, cohorti_resolved_fn fn, void *ctx, struct cohorti_lookup **out);
void cohorti_uv_resolve_cancel(struct cohorti_lookup *lookup);

/* uv_file.c */
int cohorti_uv_watch_file(struct cohorti_loop *loop, const char *path, uint32_t poll_ms, void (*fn)(void *ctx), void *ctx,
                          struct cohorti_file_watch **out);
void cohorti_uv_unwatch_file(struct cohorti_file_watch *watch);

#endif
