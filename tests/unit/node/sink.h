/* SPDX-License-Identifier: Apache-2.0
 *
 * What tests of queues and full lanes share: numbered messages, handlers that check their order, small limits, and looks at what waits.
 */
#ifndef COHORT_UNIT_NODE_SINK_H
#define COHORT_UNIT_NODE_SINK_H

#include "asking.h"

#define SMALL_LANE (64U * 1024) /* the smallest window and queue there can be */
#define RUN_BYTES (64U * 1024)  /* what may be written beyond a window: begun before it */
#define FRAME(len) ((len) + COHORT_FRAME_HEADER_BYTES)
#define QUIET_MS 60 /* nothing moves any more: several times what an acknowledgement may wait */

/* Where numbered messages arrive. One thread at a time, or see what a test does. */
struct sink {
    _Atomic unsigned handled, wrong, released;
    _Atomic uint32_t next;
    _Atomic bool hold; /* its handler does not return while set */
    _Atomic bool inside;
};

static inline uint32_t number_of(const void *data, size_t data_len)
{
    uint32_t number = UINT32_MAX;
    if (data_len >= sizeof number) {
        memcpy(&number, data, sizeof number);
    }
    return number;
}

/* Every byte behind the number is its lowest byte. */
static inline bool is_intact(const void *data, size_t data_len)
{
    const uint8_t *bytes = data;
    for (size_t i = sizeof(uint32_t); i < data_len; i++) {
        if (bytes[i] != (uint8_t)number_of(data, data_len)) {
            return false;
        }
    }
    return true;
}

static inline void take_in_order(cohort_node *node, const cohort_message *message, void *arg)
{
    struct sink *s = arg;
    atomic_store(&s->inside, true);
    while (atomic_load(&s->hold)) {
        sched_yield();
    }
    bool expected = number_of(message->data, message->data_len) == atomic_load(&s->next);
    atomic_fetch_add(&s->wrong, !expected || !is_intact(message->data, message->data_len));
    atomic_fetch_add(&s->next, 1);
    atomic_fetch_add(&s->handled, 1);
    atomic_store(&s->inside, false);
}

static inline void on_sink_release(void *arg)
{
    struct sink *s = arg;
    atomic_fetch_add(&s->released, 1);
}

static inline int send_number(struct rig_node *n, unsigned to, const char *subject, uint32_t number, size_t len)
{
    static _Thread_local uint8_t data[1024 * 1024];
    memset(data, (uint8_t)number, len);
    memcpy(data, &number, sizeof number);
    return cohort_send(n->node, address(to), subject, data, len);
}

/* Numbers from `first` on until a lane is full; returns the first that was not taken. */
static inline uint32_t fill(struct rig_node *n, unsigned to, const char *subject, uint32_t first, size_t len)
{
    int status = COHORT_OK;
    while ((status = send_number(n, to, subject, first, len)) == COHORT_OK) {
        first++;
    }
    assert_int_equal(status, COHORT_EAGAIN);
    return first;
}

/* The same until nothing moves any more either: the other end takes no more. */
static inline uint32_t fill_up(struct rig_node *n, unsigned to, const char *subject, uint32_t first, size_t len)
{
    uint64_t since = clock_ms();
    uint32_t begin = first;
    while (clock_ms() - since < QUIET_MS) {
        uint32_t next = fill(n, to, subject, first, len);
        assert_true(next - begin < 100000); /* it does stop */
        since = next == first ? since : clock_ms();
        first = next;
        sched_yield();
    }
    return first;
}

/* Accepted for the member and not acknowledged by it. */
static inline uint64_t unacknowledged(struct rig_node *n, unsigned to)
{
    cohort_link_stats stats;
    assert_int_equal(cohort_link_stats_get(n->node, address(to), &stats), COHORT_OK);
    return stats.queued_bytes;
}

static inline cohort_node_stats totals(struct rig_node *n)
{
    cohort_node_stats stats;
    cohort_node_stats_get(n->node, &stats);
    return stats;
}

static inline void on_echo_back(cohort_node *node, const char *id, int status, uint64_t rtt_ns, void *arg)
{
    atomic_fetch_add((_Atomic unsigned *)arg, status == COHORT_OK ? 1 : 1000);
}

/* A ping there and back. */
static inline void round_trip(struct rig_node *n, unsigned to)
{
    _Atomic unsigned back = 0;
    assert_int_equal(cohort_echo(n->node, address(to), NULL, 0, 20000, on_echo_back, &back), COHORT_OK);
    WAIT_FOR(atomic_load(&back) > 0);
    assert_int_equal(atomic_load(&back), 1);
}

static inline bool is_readable(const cohort_queue *queue)
{
    struct pollfd p = {.fd = cohort_queue_fd(queue), .events = POLLIN};
    int ready = poll(&p, 1, 0);
    assert_true(ready >= 0);
    return ready == 1;
}

static inline cohort_limits small_limits(void)
{
    cohort_limits limits = default_limits();
    limits.message_bytes_max = 32 * 1024;
    limits.window_bytes = SMALL_LANE;
    limits.peer_queue_bytes_max = SMALL_LANE;
    return limits;
}

static inline cohort_queue *new_queue(struct rig_node *n, uint32_t threads)
{
    cohort_queue *queue = NULL;
    assert_int_equal(cohort_queue_open(n->node, threads, &queue), COHORT_OK);
    return queue;
}

static inline cohort_handle_id handle_in(struct rig_node *n, cohort_queue *queue, const char *subject, cohort_message_fn fn,
                                         void *arg, cohort_release_fn release)
{
    cohort_handle_id id = 0;
    assert_int_equal(cohort_handle_in(n->node, queue, subject, fn, arg, release, &id), COHORT_OK);
    return id;
}

static inline void set_options(struct rig_node *n, const char *subject, cohort_lane lane, cohort_when_full when_full,
                               uint32_t block_ms)
{
    cohort_subject_options options;
    COHORT_SUBJECT_OPTIONS_INIT(&options);
    options.lane = lane;
    options.when_full = when_full;
    options.block_ms = block_ms;
    assert_int_equal(cohort_subject_set(n->node, subject, &options), COHORT_OK);
}

/* 0 and 1, which have met, with these limits; no handlers. */
static inline void run_limited(struct rig_node *n, const cohort_limits *limits)
{
    run_without_handlers(&n[1], 1, limits);
    run_without_handlers(&n[0], 0, limits);
    meet(&n[0], &n[1], 1);
}

static inline bool both_are_active(struct rig_node *n)
{
    return cohort_node_state(n[0].node, address(1)) == COHORT_ACTIVE && cohort_node_state(n[1].node, address(0)) == COHORT_ACTIVE;
}

/* Whatever waits on both sides may be lost with them. */
static inline void close_whatever(struct rig_node *n)
{
    for (unsigned i = 0; i < 2; i++) {
        int status = rig_close(&n[i]);
        assert_true(status == COHORT_OK || status == COHORT_ETIMEDOUT);
    }
}

#endif
