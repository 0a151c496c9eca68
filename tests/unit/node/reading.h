/* SPDX-License-Identifier: Apache-2.0
 *
 * What tests of streams share: bytes that say where they belong, handlers that check each piece and count beginnings and ends, and results
 * written down.
 */
#ifndef COHORT_UNIT_NODE_READING_H
#define COHORT_UNIT_NODE_READING_H

#include "sink.h"

#include <cohort/stream.h>

#define READING_STREAMS_MAX 64

static inline uint8_t byte_at(uint64_t at)
{
    return (uint8_t)(at * 7 + (at >> 8) * 3 + (at >> 16));
}

static inline void fill_bytes(uint8_t *to, uint64_t at, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        to[i] = byte_at(at + i);
    }
}

static inline bool are_bytes(const uint8_t *bytes, uint64_t at, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != byte_at(at + i)) {
            return false;
        }
    }
    return true;
}

/* One stream as a handler sees it. */
struct seen {
    uint64_t len;
    _Atomic bool ended;
    int status;
};

/* A handler and all it has seen. */
struct reading {
    struct seen streams[READING_STREAMS_MAX];
    _Atomic unsigned begun, ended, wrong, released;
    _Atomic uint64_t bytes;
    _Atomic bool hold; /* its handler does not return while set */
};

static inline void read_piece(cohort_node *node, const cohort_piece *piece, void *arg)
{
    struct reading *r = arg;
    while (atomic_load(&r->hold)) {
        sched_yield();
    }
    if (piece->begin) {
        atomic_fetch_add(&r->wrong, *piece->state != NULL || piece->offset != 0);
        *piece->state = &r->streams[atomic_fetch_add(&r->begun, 1) % READING_STREAMS_MAX];
        *(struct seen *)*piece->state = (struct seen){0};
    }
    struct seen *s = *piece->state;
    bool right = s != NULL && !atomic_load(&s->ended) && piece->offset == s->len && are_bytes(piece->data, s->len, piece->data_len);
    right = right && (piece->total == COHORT_TOTAL_UNKNOWN || piece->offset + piece->data_len <= piece->total);
    right = right && (piece->end || piece->status == COHORT_OK) && (!piece->end || piece->total == s->len + piece->data_len);
    atomic_fetch_add(&r->wrong, !right);
    if (s != NULL) {
        s->len += piece->data_len;
        s->status = piece->status;
        atomic_fetch_add(&r->bytes, piece->data_len);
        atomic_store(&s->ended, piece->end);
    }
    atomic_fetch_add(&r->ended, piece->end);
}

static inline void on_reading_release(void *arg)
{
    struct reading *r = arg;
    atomic_fetch_add(&r->released, 1);
}

static inline cohort_handle_id read_in(struct rig_node *n, cohort_queue *queue, const char *subject, struct reading *r)
{
    cohort_handle_id id = 0;
    assert_int_equal(cohort_handle_stream(n->node, queue, subject, read_piece, r, on_reading_release, &id), COHORT_OK);
    return id;
}

/* What became of a stream that was sent. */
struct outcome {
    _Atomic unsigned calls; /* counted last */
    int status;
    uint64_t bytes;
};

static inline void on_outcome(cohort_node *node, const cohort_stream_result *result, void *arg)
{
    struct outcome *o = arg;
    o->status = strcmp(result->to, address(1)) == 0 ? result->status : COHORT_EIDENTITY;
    o->bytes = result->bytes;
    atomic_fetch_add(&o->calls, 1);
}

static inline void expect_outcome(struct outcome *o, int status)
{
    WAIT_FOR(atomic_load(&o->calls) > 0);
    assert_int_equal(atomic_load(&o->calls), 1);
    assert_int_equal(o->status, status);
}

static inline cohort_stream *open_to(struct rig_node *n, const char *subject, uint64_t total, struct outcome *o)
{
    cohort_stream *stream = NULL;
    *o = (struct outcome){0};
    assert_int_equal(cohort_stream_open(n->node, address(1), subject, total, on_outcome, o, &stream), COHORT_OK);
    return stream;
}

/* From `at` on, as much as there is room for; returns how much that was. */
static inline uint64_t write_some(cohort_stream *stream, uint64_t at, uint64_t end)
{
    static _Thread_local uint8_t piece[100000];
    uint64_t begin = at;
    int status = COHORT_OK;
    while (at < end && status == COHORT_OK) {
        size_t len = end - at < sizeof piece ? (size_t)(end - at) : sizeof piece, taken = 0;
        fill_bytes(piece, at, len);
        status = cohort_stream_write(stream, piece, len, &taken);
        assert_true(status == COHORT_EAGAIN || (status == COHORT_OK && taken == len));
        at += taken;
    }
    return at - begin;
}

#endif
