/* SPDX-License-Identifier: Apache-2.0
 *
 * The baseline: what plain TCP sockets give a program written for exactly one purpose.
 *
 * Frames are cohort's, 16 header bytes and the data. One way, frames are packed into writes of 64 KiB and the reader takes
 * as much as there is, so the cost of a system call is spread over hundreds of messages; a frame that is larger than that goes
 * out straight from the application's memory. There is no flow control but TCP's, no queue, no peer table and no handler: a
 * library cannot be expected to be faster, only to come near. Sockets block, except in the epoll roles, which are those of an event
 * loop. Messages are built in the pack itself, but in the row that copies. Requests are 16 header bytes and the data each way, all that a
 * read brought answered by one write. Beside a stream there are two connections, each with a thread of its own at either end.
 */
#include "bench.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define MARKER UINT64_C(0xfeedcafecafefeed)
#define HEADER_BYTES 16
#define PACK_BYTES ((size_t)64 * 1024)
#define RECEIVE_BYTES ((size_t)256 * 1024)
#define LARGE_BYTES ((size_t)16 * 1024) /* a frame above is read to its end and no further: nothing has to be moved */

/* ---- sockets ------------------------------------------------------------------------------------------------------- */

static struct sockaddr_in address_of(const char *host, uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        bench_fail("not an IPv4 address: %s", host);
    }
    return address;
}

/* As cohort's: no delay, and on loopback a congestion control that does not pace. An accepted socket inherits both from its listener. */
static int socket_for(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)) != 0) {
        bench_fail("socket: %s", strerror(errno));
    }
    bool loopback = ntohl(address->sin_addr.s_addr) >> IN_CLASSA_NSHIFT == IN_LOOPBACKNET;
    if (loopback && setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", strlen("reno")) != 0) {
        bench_fail("TCP_CONGESTION: %s", strerror(errno));
    }
    return fd;
}

static int listen_on(const struct bench_options *o)
{
    struct sockaddr_in address = address_of(o->host, o->ports[0]);
    int listener = socket_for(&address);
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) != 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1) != 0) {
        bench_fail("cannot listen on port %u: %s", o->ports[0], strerror(errno));
    }
    bench_ready();
    return listener;
}

static int accept_from(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        bench_fail("accept: %s", strerror(errno));
    }
    return fd;
}

static int accept_one(const struct bench_options *o)
{
    int listener = listen_on(o);
    int fd = accept_from(listener);
    close(listener);
    return fd;
}

static int connect_to(const struct bench_options *o, size_t i)
{
    struct sockaddr_in address = address_of(o->host, o->ports[i]);
    int fd = socket_for(&address);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        bench_fail("cannot connect to port %u: %s", o->ports[i], strerror(errno));
    }
    return fd;
}

static void write_all(int fd, struct iovec *parts, int count)
{
    while (count > 0) {
        ssize_t n = writev(fd, parts, count);
        if (n < 0 && errno != EINTR) {
            bench_fail("write: %s", strerror(errno));
        }
        size_t left = n < 0 ? 0 : (size_t)n;
        while (count > 0 && left >= parts->iov_len) {
            left -= parts->iov_len;
            parts++;
            count--;
        }
        if (count > 0) {
            parts->iov_base = (uint8_t *)parts->iov_base + left;
            parts->iov_len -= left;
        }
    }
}

static void put_header(uint8_t *out, size_t data_len)
{
    uint64_t marker = htobe64(MARKER);
    uint32_t type = htobe32(7), length = htobe32((uint32_t)(HEADER_BYTES + data_len));
    memcpy(out, &marker, 8);
    memcpy(out + 8, &type, 4);
    memcpy(out + 12, &length, 4);
}

/* ---- frames in ----------------------------------------------------------------------------------------------------- */

struct reader {
    int fd;
    uint8_t *bytes;
    size_t cap, head, tail;
};

static void reader_init(struct reader *r, int fd, size_t message_bytes)
{
    size_t frame = HEADER_BYTES + message_bytes;
    *r = (struct reader){.fd = fd, .cap = frame > LARGE_BYTES ? frame : RECEIVE_BYTES};
    r->bytes = bench_alloc(r->cap);
}

/* The data of the frame that starts at head, or NULL while it is not whole. */
static const uint8_t *next_frame(struct reader *r, size_t *data_len)
{
    uint64_t marker;
    uint32_t length;
    size_t have = r->tail - r->head;
    const uint8_t *at = r->bytes + r->head;
    if (have < HEADER_BYTES) {
        return NULL;
    }
    memcpy(&marker, at, 8);
    memcpy(&length, at + 12, 4);
    length = be32toh(length);
    if (be64toh(marker) != MARKER || length < HEADER_BYTES || length > r->cap) {
        bench_fail("not a frame");
    }
    if (have < length) {
        return NULL;
    }
    r->head += length;
    *data_len = length - HEADER_BYTES;
    return at + HEADER_BYTES;
}

/* Read what there is; on a socket that does not block that may be nothing. */
static void reader_fill(struct reader *r)
{
    size_t have = r->tail - r->head;
    if (r->head > 0) {
        memmove(r->bytes, r->bytes + r->head, have);
        r->head = 0;
        r->tail = have; /* 0 where frames are large: the buffer is one frame */
    }
    ssize_t n = recv(r->fd, r->bytes + r->tail, r->cap - r->tail, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        bench_fail("the connection ended: %s", n == 0 ? "closed" : strerror(errno));
    }
    r->tail += n > 0 ? (size_t)n : 0;
}

static const uint8_t *wait_frame(struct reader *r, size_t *data_len)
{
    const uint8_t *data;
    while ((data = next_frame(r, data_len)) == NULL) {
        reader_fill(r);
    }
    return data;
}

/* ---- one way and broadcast ----------------------------------------------------------------------------------------- */

/* Frames packed for one write to every socket. Threads share it under the lock, as they would in a program. */
struct packer {
    pthread_mutex_t lock;
    size_t message_bytes, len;
    int fds[BENCH_PORTS_MAX];
    size_t fd_count;
    uint8_t *pack;
    uint8_t *message; /* the application's own, for frames that are not packed or not built in place */
    bool copies;
};

static void flush(struct packer *p)
{
    for (size_t i = 0; i < p->fd_count && p->len > 0; i++) {
        write_all(p->fds[i], &(struct iovec){.iov_base = p->pack, .iov_len = p->len}, 1);
    }
    p->len = 0;
}

static void pack_one(struct packer *p, struct bench_stamp stamp)
{
    size_t frame = HEADER_BYTES + p->message_bytes;
    if (frame > PACK_BYTES) {
        uint8_t header[HEADER_BYTES];
        put_header(header, p->message_bytes);
        bench_stamp_write(p->message, p->message_bytes, stamp);
        for (size_t i = 0; i < p->fd_count; i++) {
            struct iovec parts[2] = {{.iov_base = header, .iov_len = HEADER_BYTES},
                                     {.iov_base = p->message, .iov_len = p->message_bytes}};
            write_all(p->fds[i], parts, 2);
        }
        return;
    }
    if (p->len + frame > PACK_BYTES) {
        flush(p);
    }
    uint8_t *at = p->pack + p->len;
    put_header(at, p->message_bytes);
    if (p->copies) {
        bench_stamp_write(p->message, p->message_bytes, stamp);
        memcpy(at + HEADER_BYTES, p->message, p->message_bytes);
    } else {
        bench_stamp_write(at + HEADER_BYTES, p->message_bytes, stamp);
    }
    p->len += frame;
}

static void send_packed(void *ctx, struct bench_stamp stamp)
{
    pack_one(ctx, stamp);
}

static void send_packed_locked(void *ctx, struct bench_stamp stamp)
{
    struct packer *p = ctx;
    pthread_mutex_lock(&p->lock);
    pack_one(p, stamp);
    pthread_mutex_unlock(&p->lock);
}

static void flood(const struct bench_options *o, bool copies)
{
    static struct packer p = {.lock = PTHREAD_MUTEX_INITIALIZER};
    void *ctxs[BENCH_STREAMS_MAX];
    p.message_bytes = o->bytes;
    p.copies = copies;
    p.pack = bench_alloc(PACK_BYTES);
    p.message = bench_alloc(o->bytes);
    for (p.fd_count = 0; p.fd_count < o->port_count; p.fd_count++) {
        p.fds[p.fd_count] = connect_to(o, p.fd_count);
    }
    for (size_t i = 0; i < BENCH_STREAMS_MAX; i++) {
        ctxs[i] = &p;
    }
    if (o->threads == 1) {
        bench_flood(o, 0, send_packed, &p);
    } else {
        bench_flood_threads(o, send_packed_locked, ctxs);
    }
    flush(&p);
}

static void flood_send(const struct bench_options *o)
{
    flood(o, false);
}

static void flood_send_copied(const struct bench_options *o)
{
    flood(o, true);
}

static void flood_receive(const struct bench_options *o)
{
    struct bench_meter meter;
    struct reader reader;
    size_t len = 0;
    const uint8_t *data;
    reader_init(&reader, accept_one(o), o->bytes);
    bench_meter_init(&meter, o);
    do {
        data = wait_frame(&reader, &len);
    } while (!bench_meter_take(&meter, data, len));
    bench_meter_report(&meter);
}

/* ---- round trips --------------------------------------------------------------------------------------------------- */

static void send_frame(int fd, uint8_t *frame, size_t data_len, struct bench_stamp stamp)
{
    put_header(frame, data_len);
    bench_stamp_write(frame + HEADER_BYTES, data_len, stamp);
    write_all(fd, &(struct iovec){.iov_base = frame, .iov_len = HEADER_BYTES + data_len}, 1);
}

/* An event loop: epoll_wait, then read what there is. Level-triggered and never busy, as cohort's loops. */
static void epoll_open(int fd, int *epoll)
{
    struct epoll_event event = {.events = EPOLLIN};
    *epoll = epoll_create1(EPOLL_CLOEXEC);
    if (*epoll < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0 || epoll_ctl(*epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        bench_fail("epoll: %s", strerror(errno));
    }
}

static const uint8_t *poll_frame(int epoll, struct reader *r, size_t *len)
{
    const uint8_t *data;
    struct epoll_event event;
    while ((data = next_frame(r, len)) == NULL) {
        if (epoll < 0 || epoll_wait(epoll, &event, 1, -1) == 1) {
            reader_fill(r);
        }
    }
    return data;
}

static void ping(const struct bench_options *o, bool by_epoll)
{
    struct bench_pinger pinger;
    struct reader reader;
    uint8_t *frame = bench_alloc(HEADER_BYTES + o->bytes);
    const uint8_t *data;
    size_t len = 0;
    int epoll = -1;
    reader_init(&reader, connect_to(o, 0), o->bytes);
    if (by_epoll) {
        epoll_open(reader.fd, &epoll);
    }
    bench_pinger_init(&pinger, o);
    do {
        send_frame(reader.fd, frame, o->bytes, bench_pinger_next(&pinger));
        data = poll_frame(epoll, &reader, &len);
    } while (!bench_pinger_take(&pinger, data, len));
    bench_pinger_report(&pinger);
}

static void pong(const struct bench_options *o, bool by_epoll)
{
    struct reader reader;
    uint8_t *frame = bench_alloc(HEADER_BYTES + o->bytes);
    size_t len = 0;
    int epoll = -1;
    reader_init(&reader, accept_one(o), o->bytes);
    if (by_epoll) {
        epoll_open(reader.fd, &epoll);
    }
    for (;;) {
        const uint8_t *data = poll_frame(epoll, &reader, &len);
        send_frame(reader.fd, frame, o->bytes, bench_stamp_read(data, len, o->bytes));
    }
}

static void ping_handlers(const struct bench_options *o)
{
    ping(o, true);
}

static void pong_handlers(const struct bench_options *o)
{
    pong(o, true);
}

static void ping_app(const struct bench_options *o)
{
    ping(o, false);
}

static void pong_app(const struct bench_options *o)
{
    pong(o, false);
}

/* ---- requests ------------------------------------------------------------------------------------------------------ */

/* Frames packed for the one connection of the end that asks or replies. */
static void pack_frame(struct packer *p, struct bench_stamp stamp)
{
    if (p->len + HEADER_BYTES + p->message_bytes > PACK_BYTES) {
        flush(p);
    }
    put_header(p->pack + p->len, p->message_bytes);
    bench_stamp_write(p->pack + p->len + HEADER_BYTES, p->message_bytes, stamp);
    p->len += HEADER_BYTES + p->message_bytes;
}

static void requests_open(const struct bench_options *o, int fd, struct packer *p, struct reader *r, int *epoll)
{
    *p = (struct packer){.message_bytes = o->bytes, .fds = {fd}, .fd_count = 1, .pack = bench_alloc(PACK_BYTES)};
    reader_init(r, fd, o->bytes);
    epoll_open(fd, epoll);
}

static void request_pipelined(const struct bench_options *o)
{
    static struct bench_caller caller;
    struct packer p;
    struct reader r;
    enum bench_then then = BENCH_SEND;
    int epoll = -1;
    requests_open(o, connect_to(o, 0), &p, &r, &epoll);
    bench_caller_init(&caller, o);
    for (uint32_t slot = 0; slot < o->depth; slot++) {
        pack_frame(&p, bench_caller_next(&caller, slot));
    }
    while (then != BENCH_END) {
        size_t len = 0;
        uint32_t slot = 0;
        flush(&p);
        const uint8_t *data = poll_frame(epoll, &r, &len);
        for (; data != NULL && then != BENCH_END; data = next_frame(&r, &len)) {
            then = bench_caller_take(&caller, data, len, &slot);
            if (then == BENCH_SEND) {
                pack_frame(&p, bench_caller_next(&caller, slot));
            }
        }
    }
    bench_caller_report(&caller);
}

static void reply_pipelined(const struct bench_options *o)
{
    static struct bench_replier replier;
    struct packer p;
    struct reader r;
    int epoll = -1;
    requests_open(o, accept_one(o), &p, &r, &epoll);
    bench_replier_init(&replier, o);
    for (;;) {
        size_t len = 0;
        flush(&p);
        for (const uint8_t *data = poll_frame(epoll, &r, &len); data != NULL; data = next_frame(&r, &len)) {
            pack_frame(&p, bench_replier_take(&replier, data, len));
        }
    }
}

/* ---- round trips beside a stream ------------------------------------------------------------------------------------ */

static void send_bulk(void *ctx, struct bench_stamp stamp)
{
    pack_one(ctx, stamp); /* larger than a pack: written at once */
}

static void ping_beside(const struct bench_options *o)
{
    static struct packer p;
    static struct bench_beside beside;
    struct reader reader;
    uint8_t *frame = bench_alloc(HEADER_BYTES + o->bytes);
    const uint8_t *data;
    size_t len = 0;
    reader_init(&reader, connect_to(o, 0), o->bytes);
    p = (struct packer){.message_bytes = BENCH_BULK_BYTES, .fd_count = 1, .message = bench_alloc(BENCH_BULK_BYTES)};
    p.fds[0] = connect_to(o, 0); /* the second that is accepted */
    bench_beside_init(&beside, o, send_bulk, &p);
    do {
        send_frame(reader.fd, frame, o->bytes, bench_beside_next(&beside));
        data = wait_frame(&reader, &len);
    } while (!bench_beside_take(&beside, data, len));
    bench_beside_report(&beside);
}

static struct bench_sink sink;

static void *take_bulk(void *arg)
{
    struct reader *reader = arg;
    for (;;) {
        size_t len = 0;
        const uint8_t *data = wait_frame(reader, &len);
        bench_sink_take(&sink, data, len);
    }
    return NULL;
}

static void pong_beside(const struct bench_options *o)
{
    static struct reader pings, bulk;
    pthread_t thread;
    uint8_t *frame = bench_alloc(HEADER_BYTES + o->bytes);
    bench_sink_init(&sink, o);
    int listener = listen_on(o);
    reader_init(&pings, accept_from(listener), o->bytes);
    reader_init(&bulk, accept_from(listener), BENCH_BULK_BYTES);
    if (pthread_create(&thread, NULL, take_bulk, &bulk) != 0) {
        bench_fail("cannot start a thread");
    }
    for (;;) {
        size_t len = 0;
        const uint8_t *data = wait_frame(&pings, &len);
        send_frame(pings.fd, frame, o->bytes, bench_sink_answer(&sink, data, len));
    }
}

int main(int argc, char **argv)
{
    static const struct bench_role roles[] = {
        {"flood-receive", flood_receive},
        {"flood-send", flood_send},
        {"flood-send-copied", flood_send_copied},
        {"broadcast-receive", flood_receive},
        {"broadcast-send", flood_send},
        {"ping-handlers", ping_handlers},
        {"pong-handlers", pong_handlers},
        {"ping-app", ping_app},
        {"pong-app", pong_app},
        {"request-pipelined", request_pipelined},
        {"reply-pipelined", reply_pipelined},
        {"request-wait", ping_app},
        {"reply-wait", pong_app},
        {"ping-beside", ping_beside},
        {"pong-beside", pong_beside},
        {NULL, NULL},
    };
    bench_main(argc, argv, roles);
}
