/* SPDX-License-Identifier: Apache-2.0
 *
 * The receiving half of a session, given any frames. What is counted was fed; memory stays within limits; a frame that is refused
 * counts nothing, and when it was for lack of memory it is taken when it comes again; what is delivered are the bytes that came.
 *
 * The input is read from the front: a byte for the failing allocation, then operations.
 */
#include "fuzz.h"

#include "base/name.h"
#include "core/inbound.h"

#include <cohort/frame.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_BYTES_MAX 3000
#define SUBJECTS_MAX 5
#define WINDOW 5000
#define DATA_BYTES_MAX 4096

struct run {
    const uint8_t *at; /* the input */
    size_t left;
    struct fuzz_memory memory;
    struct cohorti_inbound in;
    uint64_t half;
    uint64_t fed[COHORTI_LANE_COUNT];   /* since the half began */
    uint64_t limit[COHORTI_LANE_COUNT]; /* as last told */
    uint64_t unconsumed[COHORTI_LANE_COUNT];
    uint8_t whole[COHORTI_LANE_COUNT][DATA_BYTES_MAX]; /* what a large message must be put together to */
    size_t whole_len[COHORTI_LANE_COUNT];
};

static uint8_t take(struct run *r)
{
    if (r->left == 0) {
        return 0;
    }
    r->left--;
    return *r->at++;
}

static size_t take_len(struct run *r)
{
    uint8_t b = take(r);
    return b < 224 ? b : (size_t)(b - 224) * 128;
}

static void put_u64(uint8_t *at, uint64_t v)
{
    for (int i = 7; i >= 0; i--, v >>= 8) {
        at[i] = (uint8_t)v;
    }
}

/* ---- one frame ----------------------------------------------------------------------------------------------------- */

struct counts {
    uint64_t received, waiting;
    size_t whole_len;
};

static void read_counts(const struct run *r, struct counts *out)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        const struct cohorti_inbound_lane *lane = &r->in.lanes[i];
        out[i] = (struct counts){lane->received, lane->waiting, lane->whole_len};
    }
}

static void check_counts(const struct run *r, const struct counts *before)
{
    struct counts now[COHORTI_LANE_COUNT];
    read_counts(r, now);
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        FUZZ_CHECK(now[i].received == before[i].received && now[i].waiting == before[i].waiting &&
                   now[i].whole_len == before[i].whole_len);
    }
}

static void check_delivery(const struct run *r, const cohort_frame *frame, const struct cohorti_delivery *d)
{
    size_t prefix_len = d->raw ? 0 : cohorti_kind_prefix_bytes(d->kind);
    FUZZ_CHECK(d->lane < COHORTI_LANE_COUNT && d->frame_bytes == COHORT_FRAME_HEADER_BYTES + frame->data_len);
    FUZZ_CHECK(r->in.lanes[d->lane].received < r->in.lanes[d->lane].told_limit + COHORTI_RUN_BYTES_MAX);
    if (d->nothing) {
        return;
    }
    FUZZ_CHECK(d->raw || d->body_len <= MESSAGE_BYTES_MAX);
    FUZZ_CHECK(d->subject == NULL || cohorti_subject_valid(d->subject->name, strlen(d->subject->name)));
    FUZZ_CHECK(d->raw || (d->subject != NULL) == (d->kind == COHORTI_KIND_MESSAGE || d->kind == COHORTI_KIND_REQUEST));
    if (d->whole) {
        size_t had = r->whole_len[d->lane], piece = frame->data_len - COHORTI_CHUNK_PREFIX_BYTES;
        FUZZ_CHECK(prefix_len + d->body_len == had + piece && d->body == d->prefix + prefix_len);
        FUZZ_CHECK(memcmp(d->prefix, r->whole[d->lane], had) == 0);
        FUZZ_CHECK(memcmp(d->prefix + had, frame->data + COHORTI_CHUNK_PREFIX_BYTES, piece) == 0);
    } else {
        FUZZ_CHECK(d->body == frame->data + prefix_len && d->body_len == frame->data_len - prefix_len);
    }
}

static void commit(struct run *r, const cohort_frame *frame, const struct cohorti_delivery *d, bool consumed)
{
    if (d->whole && d->nothing) {
        size_t piece = frame->data_len - COHORTI_CHUNK_PREFIX_BYTES;
        FUZZ_CHECK(r->whole_len[d->lane] + piece <= sizeof r->whole[0]);
        memcpy(r->whole[d->lane] + r->whole_len[d->lane], frame->data + COHORTI_CHUNK_PREFIX_BYTES, piece);
        r->whole_len[d->lane] += piece;
    } else if (d->whole) {
        r->whole_len[d->lane] = 0;
    }
    r->fed[d->lane] += d->frame_bytes;
    r->unconsumed[d->lane] += consumed ? 0 : d->credit_bytes;
    cohorti_inbound_commit(&r->in, d, consumed);
}

/* Once more when there was no memory, as over the next link. */
static int take_frame(struct run *r, const cohort_frame *frame, struct cohorti_delivery *d, const char **why)
{
    size_t failures = r->memory.failures;
    int status = cohorti_inbound_take(&r->in, frame, d, why);
    if (status == COHORT_ENOMEM) {
        FUZZ_CHECK(r->memory.failures > failures);
        status = cohorti_inbound_take(&r->in, frame, d, why);
        FUZZ_CHECK(status != COHORT_ENOMEM);
    }
    return status;
}

static void feed(struct run *r, uint32_t type, const uint8_t *data, size_t len)
{
    struct counts before[COHORTI_LANE_COUNT];
    struct cohorti_delivery d;
    const char *why = NULL;
    uint8_t how = take(r);
    uint8_t *copy = fuzz_copy(data, len);
    const cohort_frame frame = {.type = type, .data = copy, .data_len = len};
    read_counts(r, before);
    int status = take_frame(r, &frame, &d, &why);
    check_counts(r, before);                   /* nothing counts before commit */
    if (status == COHORT_OK && how % 4 == 3) { /* the link ended before it was delivered */
        status = take_frame(r, &frame, &d, &why);
        FUZZ_CHECK(status == COHORT_OK);
        check_counts(r, before);
    }
    if (status == COHORT_OK) {
        check_delivery(r, &frame, &d);
        commit(r, &frame, &d, d.nothing || how % 4 != 2);
    } else {
        FUZZ_CHECK(why != NULL && why[0] != '\0');
        FUZZ_CHECK(status == COHORT_EPROTOCOL || status == COHORT_ESIZE || status == COHORT_ELIMIT || status == COHORT_ELENGTH);
    }
    free(copy);
}

/* ---- operations ---------------------------------------------------------------------------------------------------- */

static void feed_name(struct run *r)
{
    uint8_t data[4 + 8] = {(uint8_t)(take(r) % 8), 0, 0, (uint8_t)(take(r) % 8)};
    size_t len = take(r) % 9u;
    for (size_t i = 0; i < len; i++) {
        data[4 + i] = (uint8_t)('a' + data[3] + (take(r) == 255));
    }
    feed(r, UINT32_C(0xc0000004), data, 4 + len);
}

static void feed_message(struct run *r)
{
    uint8_t data[DATA_BYTES_MAX];
    uint8_t what = take(r);
    size_t len = take_len(r);
    memset(data, take(r), len);
    feed(r, cohorti_type_subject((enum cohorti_kind)(what % 8), what / 8 % 4, what / 32), data, len);
}

/* Fields that fit what is being put together, unless the input says otherwise. */
static void feed_chunk(struct run *r)
{
    uint8_t data[DATA_BYTES_MAX];
    unsigned lane = take(r) % 3u;
    uint8_t twist = take(r);
    const struct cohorti_inbound_lane *l = &r->in.lanes[lane];
    bool begun = l->whole_len > 0;
    size_t total = begun ? l->whole_total : 2 + take_len(r), at = begun ? l->whole_len : 0;
    size_t rest = total > at ? total - at : 0, len = 1 + take_len(r);
    len = len < rest ? len : rest;
    unsigned kind = begun ? (unsigned)l->whole_kind : twist % 4u;
    uint32_t number = begun ? l->whole_number : 0;
    enum cohorti_kind chunk = at == 0             ? COHORTI_KIND_CHUNK_FIRST
                              : at + len == total ? COHORTI_KIND_CHUNK_LAST
                                                  : COHORTI_KIND_CHUNK_MIDDLE;
    if (twist > 200) {
        uint8_t by = take(r);
        total += twist % 5 == 0 ? by : 0;
        at += twist % 5 == 1 ? by : 0;
        kind += twist % 5 == 2 ? by : 0;
        number += twist % 5 == 3 ? by : 0;
        chunk = twist % 5 == 4 ? (enum cohorti_kind)(4 + by % 3) : chunk;
    }
    put_u64(data, (uint64_t)(kind & 255U) << 56 | total);
    put_u64(data + 8, at);
    memset(data + 16, (int)len, len);
    feed(r, cohorti_type_subject(chunk, lane, number), data, 16 + len);
}

static void feed_any(struct run *r)
{
    uint8_t data[DATA_BYTES_MAX];
    uint32_t type = 0;
    for (int i = 0; i < 4; i++) {
        type = type << 8 | take(r);
    }
    size_t len = take_len(r);
    len = len < r->left ? len : r->left;
    memcpy(data, r->at, len);
    r->at += len;
    r->left -= len;
    feed(r, type, data, len);
}

static void check_mark(struct run *r, unsigned lane, const struct cohorti_lane_mark *mark)
{
    FUZZ_CHECK(mark->received == r->fed[lane]);
    uint64_t credit = r->unconsumed[lane] < WINDOW ? WINDOW - r->unconsumed[lane] : 0;
    uint64_t limit = mark->received + credit;
    FUZZ_CHECK(mark->limit >= mark->received && mark->limit <= mark->received + WINDOW);
    FUZZ_CHECK(mark->limit == (limit > r->limit[lane] ? limit : r->limit[lane])); /* it never falls */
    r->limit[lane] = mark->limit;
}

static void call_ack(struct run *r)
{
    struct cohorti_ack ack;
    size_t untold = cohorti_inbound_untold(&r->in);
    bool any = cohorti_inbound_ack(&r->in, &ack);
    FUZZ_CHECK(any == (untold > 0) && any == (ack.present != 0));
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        if ((ack.present >> i & 1U) != 0) {
            check_mark(r, i, &ack.lanes[i]);
        }
    }
    FUZZ_CHECK(cohorti_inbound_untold(&r->in) == 0);
}

static void call_resume(struct run *r)
{
    struct cohorti_resume marks;
    cohorti_inbound_marks(&r->in, 9, &marks);
    FUZZ_CHECK(marks.half == 9 && marks.known == r->half);
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        check_mark(r, i, &marks.lanes[i]);
    }
    bool another = take(r) % 3 == 0;
    r->half += another;
    FUZZ_CHECK(cohorti_inbound_resume(&r->in, r->half) == another);
    if (another) {
        for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
            r->limit[i] -= r->fed[i]; /* how a new half reads our RESUME */
        }
        memset(r->fed, 0, sizeof r->fed);
        memset(r->whole_len, 0, sizeof r->whole_len);
        FUZZ_CHECK(r->memory.bytes == 0);
    }
}

static void call_consumed(struct run *r)
{
    unsigned lane = take(r) % 3u;
    size_t n = take_len(r);
    n = n < r->unconsumed[lane] ? n : (size_t)r->unconsumed[lane];
    cohorti_inbound_consumed(&r->in, lane, n);
    r->unconsumed[lane] -= n;
}

static void check(const struct run *r)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        const struct cohorti_inbound_lane *lane = &r->in.lanes[i];
        FUZZ_CHECK(lane->received == r->fed[i] && lane->waiting == r->unconsumed[i]);
        FUZZ_CHECK(lane->subject_count <= SUBJECTS_MAX && lane->whole_len == r->whole_len[i]);
        FUZZ_CHECK(lane->whole_len <= MESSAGE_BYTES_MAX + COHORTI_PREFIX_BYTES_MAX);
    }
    const size_t names = SUBJECTS_MAX * (sizeof(struct cohorti_inbound_subject) + COHORT_SUBJECT_BYTES_MAX + 1) + 8 * sizeof(void *);
    FUZZ_CHECK(r->memory.bytes <= COHORTI_LANE_COUNT * (names + MESSAGE_BYTES_MAX + COHORTI_PREFIX_BYTES_MAX));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct cohorti_inbound_limits limits = {
        .message_bytes_max = MESSAGE_BYTES_MAX, .subjects_max = SUBJECTS_MAX, .window_bytes = WINDOW};
    static struct run r;
    memset(&r, 0, sizeof r);
    r.at = data;
    r.left = len;
    fuzz_memory_init(&r.memory);
    r.memory.fail_in = take(&r);
    cohorti_inbound_init(&r.in, &r.memory.alloc, &limits);
    call_resume(&r);
    while (r.left > 0) {
        static void (*const operations[8])(struct run *) = {feed_name,  feed_name, feed_message, feed_message,
                                                            feed_chunk, feed_any,  call_ack,     call_resume};
        uint8_t op = take(&r);
        op == 255 ? call_consumed(&r) : operations[op % 8](&r);
        check(&r);
    }
    cohorti_inbound_deinit(&r.in);
    fuzz_memory_check_empty(&r.memory);
    return 0;
}
