/* SPDX-License-Identifier: Apache-2.0
 *
 * io: what the shell needs of a machine: clock, entropy, event loops, sockets. One implementation runs on libuv (io/uv), one is
 * simulated (io/sim); the shell cannot tell which.
 *
 * Threads. A loop calls its handlers on its own thread, one at a time. "Loop thread" below means: only there, or while the loop
 * does not run. A socket belongs to the loop it is attached to; send() may be called from any thread as long as the owner's lock
 * keeps it apart from close(). Nothing here blocks except loop_start, loop_stop and wait (and a file system that hangs, in
 * watch_file).
 *
 * Status codes are those of cohort/error.h.
 */
#ifndef COHORTI_IO_H
#define COHORTI_IO_H

#include "base/bytes.h"
#include "io/sync.h"

#include <cohort/error.h>
#include <cohort/types.h>

struct cohorti_io;
struct cohorti_event;
struct cohorti_loop;
struct cohorti_socket;
struct cohorti_lookup;
struct cohorti_file_watch;

#define COHORTI_IO_RUNS_MAX 64

enum cohorti_io_events {
    COHORTI_IO_READ = 1,
    COHORTI_IO_WRITE = 2,
};

struct cohorti_loop_handler {
    void (*on_wake)(void *ctx);  /* at least once after the last loop_wake() */
    void (*on_timer)(void *ctx); /* the deadline of loop_timer() has passed; it is unset then */
};

/** `events` are ready (level-triggered while watched). A listener is readable when accept() has something; a connecting socket is
 * writable when connect_result() has. An error shows as READ and WRITE: the next call tells. */
typedef void (*cohorti_socket_fn)(void *ctx, unsigned events);

#define COHORTI_ADDRESSES_MAX 16     /* of one name; more are not looked at */
#define COHORTI_ADDRESS_BYTES_MAX 63 /* IPv6 text with a zone */

struct cohorti_addresses {
    size_t count;
    char at[COHORTI_ADDRESSES_MAX][COHORTI_ADDRESS_BYTES_MAX + 1]; /* numeric, in the order to be tried */
};

/** COHORT_OK and at least one address; or COHORT_ENORESOLVE, and `why` is what the resolver says. Both borrowed for the call. */
typedef void (*cohorti_resolved_fn)(void *ctx, int status, const struct cohorti_addresses *addresses, const char *why);

struct cohorti_io_ops {
    uint64_t (*now_ns)(struct cohorti_io *io);    /* monotonic; any thread */
    uint64_t (*coarse_ns)(struct cohorti_io *io); /* now_ns(), or up to 20 ms later, for a fifth of its price; monotonic; any thread */
    uint64_t (*wall_us)(struct cohorti_io *io); /* since 1970; any thread */
    int (*entropy)(struct cohorti_io *io, void *out, size_t len);
    void (*yield)(struct cohorti_io *io); /* let another thread go on that must finish first */
    /* Until `w` is signalled, or COHORT_ETIMEDOUT. Not on a loop thread. UINT64_MAX: no limit. */
    int (*wait)(struct cohorti_io *io, struct cohorti_waiter *w, uint64_t timeout_ns);

    /* A descriptor that is readable while it is set, for a poll(2) of the application. Any thread. COHORT_ENOMEM, COHORT_ELIMIT. */
    int (*event_new)(struct cohorti_io *io, struct cohorti_event **out);
    void (*event_set)(struct cohorti_event *event, bool set);
    int (*event_fd)(const struct cohorti_event *event); /* -1 where there are no descriptors */
    void (*event_free)(struct cohorti_event *event);

    int (*loop_new)(struct cohorti_io *io, const char *name, const struct cohorti_loop_handler *handler, void *ctx,
                    struct cohorti_loop **out);
    int (*loop_start)(struct cohorti_loop *loop); /* returns when it runs */
    void (*loop_stop)(struct cohorti_loop *loop); /* not on its thread; returns when no handler runs or will */
    void (*loop_free)(struct cohorti_loop *loop); /* stopped, or never started; its sockets are closed */
    void (*loop_wake)(struct cohorti_loop *loop); /* any thread */
    void (*loop_timer)(struct cohorti_loop *loop, uint64_t deadline_ns); /* loop thread; UINT64_MAX: none */
    bool (*loop_is_current)(const struct cohorti_loop *loop);            /* are we on its thread? */

    /* A loop that is not started, run by the caller's thread. NULL in a simulation. */
    struct cohorti_loop *(*loop_enter)(struct cohorti_loop *loop); /* be its thread from here on; NULL: of none. Gives the one before */
    void (*loop_turn)(struct cohorti_loop *loop, bool block); /* on its thread: call what is ready; block: wait for something first */
    int (*loop_fd)(const struct cohorti_loop *loop);          /* readable when something is ready */
    int (*loop_wait_ms)(struct cohorti_loop *loop);           /* until a turn is due all the same: 0 now, -1 never */

    /* host: numeric IPv4 or IPv6; "::" takes IPv4 as well. COHORT_EADDR, COHORT_EADDRINUSE, COHORT_EIO; `error` names it. Attached to the loop. */
    int (*listen)(struct cohorti_loop *loop, const char *host, uint16_t port, cohorti_socket_fn fn, void *ctx,
                  struct cohorti_socket **out, cohort_error *error);
    /* One connection, attached to nothing. COHORT_EAGAIN none there; COHORT_ELIMIT out of descriptors; others: this one failed. */
    int (*accept)(struct cohorti_socket *listener, struct cohorti_socket **out);
    /* Begin to connect; attached to nothing. COHORT_EADDR, COHORT_ELIMIT, or as connect_result(). */
    int (*connect)(struct cohorti_io *io, const char *host, uint16_t port, struct cohorti_socket **out);
    /* COHORT_OK, COHORT_EAGAIN (not yet), COHORT_EREFUSED, COHORT_EUNREACHABLE, COHORT_EIO. */
    int (*connect_result)(struct cohorti_socket *s);

    int (*attach)(struct cohorti_socket *s, struct cohorti_loop *loop, cohorti_socket_fn fn, void *ctx); /* loop thread */
    void (*detach)(struct cohorti_socket *s);                 /* its loop's thread; no call of fn follows */
    void (*watch)(struct cohorti_socket *s, unsigned events); /* its loop's thread */

    /* *n > 0 bytes, into one room after the other. Several: the first is the place of a piece of a large message.
     * COHORT_EAGAIN, COHORT_EPEERCLOSED (end of stream), COHORT_ERESET, COHORT_EUNREACHABLE, COHORT_EIO. */
    int (*recv)(struct cohorti_socket *s, const struct cohorti_room *rooms, size_t count, size_t *n);
    /* On the loop's thread, attached: the same, and when nothing is there, wait for it awake: at most for_ns, unless other threads, which get the processor in between, keep
     * it longer. COHORT_EAGAIN also as soon as anything else is ready for the loop. *took_ns: how long it was; 0: there at once. */
    int (*recv_soon)(struct cohorti_socket *s, const struct cohorti_room *rooms, size_t count, size_t *n, uint64_t for_ns,
                     uint64_t *took_ns);
    int (*send)(struct cohorti_socket *s, const struct cohorti_bytes *runs, size_t count, size_t *n); /* at most COHORTI_IO_RUNS_MAX */
    void (*shutdown)(struct cohorti_socket *s);                                                       /* no more from us */
    void (*close)(struct cohorti_socket *s);                            /* its loop's thread when attached; frees it */
    void (*peer_name)(struct cohorti_socket *s, char *out, size_t cap); /* "127.0.0.1:4711", for the log */

    /* Find the addresses of a host name. fn is called once, on the loop, unless it was cancelled. COHORT_ELIMIT: too many are under
     * way; COHORT_ENOMEM. Loop thread, both. */
    int (*resolve)(struct cohorti_loop *loop, const char *name, cohorti_resolved_fn fn, void *ctx, struct cohorti_lookup **out);
    void (*resolve_cancel)(struct cohorti_lookup *lookup); /* not once fn was called */

    /* Call fn on the loop when what is read at `path` may have changed: written, replaced, linked elsewhere, made, removed. Changes
     * close together are told once; one may be told that is none. Looked after at least every poll_ms, for what the system does
     * not tell. COHORT_ENOTSUP, COHORT_ENOMEM, COHORT_EIO. Loop thread, both. */
    int (*watch_file)(struct cohorti_loop *loop, const char *path, uint32_t poll_ms, void (*fn)(void *ctx), void *ctx,
                      struct cohorti_file_watch **out);
    void (*unwatch_file)(struct cohorti_file_watch *watch); /* also from fn, which is not called again */
};

struct cohorti_io {
    const struct cohorti_io_ops *ops;
};

/** The real machine. `alloc` is borrowed. COHORT_ENOMEM. */
COHORT_NODISCARD int cohorti_io_uv_new(const cohort_allocator *alloc, struct cohorti_io **out);
void cohorti_io_uv_free(struct cohorti_io *io);

#endif
