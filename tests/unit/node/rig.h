/* SPDX-License-Identifier: Apache-2.0
 *
 * Real nodes on addresses of 127/8 that belong to this process, with what they told written down; a peer of 2014 made of a bare
 * socket; waiting for a condition with a bound. Callbacks only count: a test judges on its own thread.
 */
#ifndef COHORT_UNIT_NODE_RIG_H
#define COHORT_UNIT_NODE_RIG_H

#include <cohort/cohort.h>
#include <cohort/frame.h>

#include "support.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORT 9876
#define BOUND_MS 30000
#define NODES_MAX 4

/* ---- waiting ------------------------------------------------------------------------------------------------------- */

static inline uint64_t clock_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

#define WAIT_FOR(condition)                                                       \
    do {                                                                          \
        uint64_t until_ = clock_ms() + BOUND_MS;                                  \
        while (!(condition)) {                                                    \
            if (clock_ms() > until_) {                                            \
                fail_msg("%s:%d: waited for %s", __FILE__, __LINE__, #condition); \
            }                                                                     \
            sched_yield();                                                        \
        }                                                                         \
    } while (0)

/* ---- memory -------------------------------------------------------------------------------------------------------- */

struct counting {
    cohort_allocator alloc;
    _Atomic int64_t blocks;
    _Atomic uint64_t calls;
    uint64_t fail_at;           /* set before the node is opened */
    _Atomic uint64_t fail_next; /* the same while it runs: of `calls`; 0 none */
    _Atomic bool fail_all;      /* while set */
};

static inline bool counting_allows(struct counting *c)
{
    uint64_t call = atomic_fetch_add(&c->calls, 1) + 1;
    return call != c->fail_at && call != atomic_load(&c->fail_next) && !atomic_load(&c->fail_all);
}

static inline void *counting_allocate(void *ctx, size_t size)
{
    struct counting *c = ctx;
    if (!counting_allows(c)) {
        return NULL;
    }
    atomic_fetch_add(&c->blocks, 1);
    return malloc(size);
}

static inline void *counting_reallocate(void *ctx, void *ptr, size_t size)
{
    struct counting *c = ctx;
    if (!counting_allows(c)) {
        return NULL;
    }
    atomic_fetch_add(&c->blocks, ptr == NULL);
    return realloc(ptr, size);
}

static inline void counting_release(void *ctx, void *ptr)
{
    struct counting *c = ctx;
    atomic_fetch_sub(&c->blocks, 1);
    free(ptr);
}

static inline void counting_init(struct counting *c)
{
    memset(c, 0, sizeof *c);
    c->alloc = (cohort_allocator){counting_allocate, counting_reallocate, counting_release, c};
}

/* ---- addresses and descriptors ------------------------------------------------------------------------------------- */

static char addresses[16][16]; /* written by warm_up(), before any thread runs */

/* The i-th address of this process. */
static inline const char *address(unsigned i)
{
    return addresses[i];
}

static inline unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir) != NULL) {
        count++;
    }
    closedir(dir);
    return count;
}

static unsigned descriptors_before;

static inline int remember_descriptors(void **state)
{
    descriptors_before = open_descriptors();
    return 0;
}

static inline int check_descriptors(void **state)
{
    return open_descriptors() == descriptors_before ? 0 : -1;
}

#define node_test(fn) cmocka_unit_test_setup_teardown(fn, remember_descriptors, check_descriptors)

/* ---- nodes --------------------------------------------------------------------------------------------------------- */

struct told {
    char id[COHORT_ID_BYTES_MAX + 1];
    _Atomic bool active;
};

struct rig_node {
    cohort_node *node;
    struct counting memory;
    struct told told[16]; /* by ACTIVATED and DEACTIVATED */
    _Atomic unsigned added, removed, activated, deactivated;
    _Atomic int last_reason;
    _Atomic unsigned wrong; /* events that do not alternate, messages before ACTIVATED, messages out of order */
    _Atomic unsigned messages;
    _Atomic unsigned released;
    uint32_t next[8]; /* sequence expected of each sending thread */
    void (*_Atomic on_event)(struct rig_node *n, const cohort_event *event);
    void (*_Atomic on_message)(struct rig_node *n, const cohort_message *message);
};

static inline struct told *told_of(struct rig_node *n, const char *id)
{
    size_t i = 0;
    while (i + 1 < UNIT_COUNT(n->told) && n->told[i].id[0] != '\0' && strcmp(n->told[i].id, id) != 0) {
        i++;
    }
    return &n->told[i];
}

/* Ids are entered by the test before the node starts, so that reading them needs no lock. */
static inline void expect_id(struct rig_node *n, const char *id)
{
    struct told *t = told_of(n, id);
    (void)snprintf(t->id, sizeof t->id, "%.64s", id);
}

static inline void rig_on_event(cohort_node *node, const cohort_event *event, void *arg)
{
    struct rig_node *n = arg;
    struct told *t = told_of(n, event->member.id);
    switch (event->type) {
    case COHORT_MEMBER_ADDED:
        atomic_fetch_add(&n->added, 1);
        break;
    case COHORT_MEMBER_REMOVED:
        atomic_fetch_add(&n->removed, 1);
        break;
    case COHORT_MEMBER_ACTIVATED:
        atomic_fetch_add(&n->wrong, atomic_exchange(&t->active, true));
        atomic_fetch_add(&n->activated, 1);
        break;
    case COHORT_MEMBER_DEACTIVATED:
        atomic_fetch_add(&n->wrong, !atomic_exchange(&t->active, false));
        atomic_store(&n->last_reason, event->reason);
        atomic_fetch_add(&n->deactivated, 1);
        break;
    }
    void (*also)(struct rig_node * n, const cohort_event *event) = atomic_load(&n->on_event);
    if (also != NULL) {
        also(n, event);
    }
}

static inline void rig_on_message(cohort_node *node, const cohort_message *message, void *arg)
{
    struct rig_node *n = arg;
    atomic_fetch_add(&n->wrong, !atomic_load(&told_of(n, message->from)->active));
    void (*also)(struct rig_node * n, const cohort_message *message) = atomic_load(&n->on_message);
    if (also != NULL) {
        also(n, message);
    }
    atomic_fetch_add(&n->messages, 1);
}

static inline void rig_on_release(void *arg)
{
    struct rig_node *n = arg;
    atomic_fetch_add(&n->released, 1);
}

static inline void quiet(void *ctx, const cohort_log_record *record)
{
}

static inline cohort_config rig_config(struct rig_node *n, unsigned i)
{
    cohort_config config;
    COHORT_CONFIG_INIT(&config);
    config.ip = address(i);
    config.tcp_port = PORT;
    config.loop_count = 2;
    config.dial.delay_min_ms = 20;
    config.dial.delay_max_ms = 200;
    config.limits.message_bytes_max = 1024 * 1024; /* so that a test can send more */
    config.allocator = &n->memory.alloc;
    config.log.write = quiet;
    return config;
}

/* Opened, with a listener and a handler of everything; not started. */
static inline void rig_open(struct rig_node *n, const cohort_config *config)
{
    cohort_error error;
    cohort_handle_id ignored;
    if (cohort_node_open(config, &n->node, &error) != COHORT_OK) {
        fail_msg("open: %s", error.text);
    }
    assert_int_equal(cohort_listen(n->node, rig_on_event, n, rig_on_release, &ignored), COHORT_OK);
    for (unsigned i = 0; i < 8; i++) {
        if (strcmp(address(i), config->ip) != 0) {
            expect_id(n, address(i));
        }
    }
}

static inline void rig_start(struct rig_node *n)
{
    cohort_error error;
    if (cohort_node_start(n->node, &error) != COHORT_OK) {
        fail_msg("start: %s", error.text);
    }
}

static inline void rig_begin(struct rig_node *n)
{
    memset(n, 0, sizeof *n);
    counting_init(&n->memory);
}

/* Node i of this process, started, taking every message. */
static inline void rig_run(struct rig_node *n, unsigned i)
{
    cohort_handle_id ignored;
    cohort_config config;
    rig_begin(n);
    config = rig_config(n, i);
    rig_open(n, &config);
    assert_int_equal(cohort_handle(n->node, NULL, rig_on_message, n, rig_on_release, &ignored), COHORT_OK);
    rig_start(n);
}

static inline int rig_close(struct rig_node *n)
{
    int status = cohort_node_close(n->node, 5000);
    assert_int_equal(atomic_load(&n->memory.blocks), 0);
    assert_int_equal(atomic_load(&n->wrong), 0);
    return status;
}

/* Two nodes that have met; 0 dials 1. */
static inline void rig_pair(struct rig_node *n)
{
    rig_run(&n[1], 1);
    rig_run(&n[0], 0);
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].activated) == 1 && atomic_load(&n[1].activated) == 1);
}

static inline void rig_close_pair(struct rig_node *n)
{
    assert_int_equal(rig_close(&n[0]), COHORT_OK);
    assert_int_equal(rig_close(&n[1]), COHORT_OK);
}

/* libuv keeps a pair of descriptors of its own from its first loop on. */
static inline int warm_up(void **state)
{
    static struct rig_node n;
    unsigned pid = (unsigned)getpid();
    for (unsigned i = 0; i < UNIT_COUNT(addresses); i++) {
        (void)snprintf(addresses[i], sizeof addresses[i], "127.%u.%u.%u", 64 + (pid >> 8) % 128, pid % 256, 10 + i);
    }
    rig_begin(&n);
    cohort_config config = rig_config(&n, 0);
    rig_open(&n, &config);
    return rig_close(&n);
}

/* ---- a peer of 2014 ------------------------------------------------------------------------------------------------ */

static inline void bare_write(int fd, const void *bytes, size_t len)
{
    const char *at = bytes;
    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        assert_true(n > 0);
        at += n;
        len -= (size_t)n;
    }
}

/* False at the end of the stream; fails the test when nothing comes within the bound. */
static inline bool bare_read(int fd, void *out, size_t len)
{
    char *at = out;
    while (len > 0) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, BOUND_MS), 1);
        ssize_t n = recv(fd, at, len, 0);
        if (n <= 0) {
            return false;
        }
        at += n;
        len -= (size_t)n;
    }
    return true;
}

static inline void bare_frame(int fd, uint32_t type, const void *data, size_t len)
{
    uint8_t header[COHORT_FRAME_HEADER_BYTES];
    cohort_frame_encode_header(header, type, len);
    bare_write(fd, header, sizeof header);
    bare_write(fd, data, len);
}

/* Type of the next frame, its data in `out`; 0 at the end of the stream. */
static inline uint32_t bare_next(int fd, void *out, size_t cap, size_t *len)
{
    uint8_t header[COHORT_FRAME_HEADER_BYTES];
    if (!bare_read(fd, header, sizeof header)) {
        return 0;
    }
    *len = ((size_t)header[12] << 24 | (size_t)header[13] << 16 | (size_t)header[14] << 8 | header[15]) - sizeof header;
    assert_true(*len <= cap);
    assert_true(bare_read(fd, out, *len));
    return (uint32_t)header[8] << 24 | (uint32_t)header[9] << 16 | (uint32_t)header[10] << 8 | header[11];
}

/* Connect to node `to` as the legacy member `as`, greet, and take its HELLO. */
static inline int bare_connect(unsigned to, unsigned as, int receive_bytes)
{
    char hello[64], answer[2048];
    size_t len = 0;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (receive_bytes > 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    }
    inet_pton(AF_INET, address(to), &sa.sin_addr);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    (void)snprintf(hello, sizeof hello, "%s:%s:%u", address(as), address(as), PORT);
    bare_frame(fd, COHORT_TYPE_HELLO, hello, strlen(hello));
    assert_int_equal(bare_next(fd, answer, sizeof answer, &len), COHORT_TYPE_HELLO);
    return fd;
}

#endif
