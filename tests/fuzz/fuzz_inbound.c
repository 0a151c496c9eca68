/* SPDX-License-Identifier: Apache-2.0
 *
 * The receiving half of a session, given any frames. What is counted was fed; memory stays within limits; a frame that is refused
 * counts nothing, and when it was for lack of memory it is taken when it comes again; what is delivered are the bytes that came, put
 * together or piece by piece as the input says when a stream begins; each that is read ends once.
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
#define STREAM_NUMBERS 18 /* one more than may be used at once */

/* What a stream was begun as, and what has come of it. */
struct stream {
    bool open, read, collected;
    uint64_t total, len;
    uint8_t bytes[DATA_BYTES_MAX]; /* of what is put together */
};

struct run {
    const uint8_t *at; /* the input */
    size_t left;
    struct fuzz_memory memory;
    struct cohorti_inbound in;
    uint64_t half;
    uint64_t fed[COHORTI_LANE_COUNT];   /* since the half began */
    uint64_t limit[COHORTI_LANE_COUNT]; /* as last told */
    uint64_t unconsumed[COHORTI_LANE_COUNT];
    struct stream streams[COHORTI_LANE_COUNT][STREAM_NUMBERS];
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

/* ---- one frame ----------------------------------------------------------------------------------------------------- */

struct counts {
    uint64_t received, waiting, pieces;
};

static void read_counts(const struct run *r, struct counts *out)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        const struct cohorti_inbound_lane *lane = &r->in.lanes[i];
        out[i] = (struct counts){.received = lane->received, .waiting = lane->waiting};
        for (const struct cohorti_partial *p = lane->partials; p != NULL; p = p->next) {
            out[i].pieces += p->len;
        }
    }
}

static void check_counts(const struct run *r, const struct counts *before)
{
    struct counts now[COHORTI_LANE_COUNT];
    read_counts(r, now);
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        FUZZ_CHECK(now[i].received == before[i].received && now[i].waiting == before[i].waiting && now[i].pieces == before[i].pieces);
    }
}

static struct stream *stream_of(struct run *r, const struct cohorti_delivery *d)
{
    return &r->streams[d->lane][d->chunk.stream % STREAM_NUMBERS];
}

/* A chunk fits what came before of its stream; what is put together are the bytes that came. */
static void check_chunk(struct run *r, const struct cohorti_delivery *d)
{
    const struct stream *s = stream_of(r, d);
    FUZZ_CHECK(d->partial != NULL && s->open == !d->chunk.first);
    FUZZ_CHECK(d->chunk.aborts || (d->chunk.at == s->len && d->partial->len == s->len));
    if (d->whole) {
        size_t prefix_len = cohorti_kind_prefix_bytes(d->kind), had = (size_t)s->len;
        FUZZ_CHECK(s->collected && d->chunk.last && d->body_len <= MESSAGE_BYTES_MAX);
        FUZZ_CHECK(prefix_len + d->body_len == had + d->chunk.data_len && d->body == d->prefix + prefix_len);
        FUZZ_CHECK(memcmp(d->prefix, s->bytes, had) == 0);
        FUZZ_CHECK(d->chunk.data_len == 0 || memcmp(d->prefix + had, d->chunk.data, d->chunk.data_len) == 0);
    } else if (d->chunk.last && s->collected) {
        FUZZ_CHECK(d->too_large && s->len + d->chunk.data_len > MESSAGE_BYTES_MAX);
    }
    FUZZ_CHECK(d->nothing == (!s->read && !d->whole && !d->too_large));
    FUZZ_CHECK(!s->read || d->partial->reader == s);
}

static void check_delivery(struct run *r, const cohort_frame *frame, const struct cohorti_delivery *d)
{
    size_t prefix_len = d->raw ? 0 : cohorti_kind_prefix_bytes(d->kind);
    FUZZ_CHECK(d->lane < COHORTI_LANE_COUNT && d->frame_bytes == COHORT_FRAME_HEADER_BYTES + frame->data_len);
    FUZZ_CHECK(r->in.lanes[d->lane].received < r->in.lanes[d->lane].told_limit + COHORTI_RUN_BYTES_MAX);
    if (d->partial != NULL) {
        check_chunk(r, d);
    }
    if (d->nothing) {
        return;
    }
    FUZZ_CHECK(d->raw || d->body_len <= MESSAGE_BYTES_MAX);
    FUZZ_CHECK(d->subject == NULL || cohorti_subject_valid(d->subject->name, strlen(d->subject->name)));
    FUZZ_CHECK(d->raw || (d->subject != NULL) == (d->kind == COHORTI_KIND_MESSAGE || d->kind == COHORTI_KIND_REQUEST));
    FUZZ_CHECK(d->partial != NULL || (d->body == frame->data + prefix_len && d->body_len == frame->data_len - prefix_len));
}

static void commit_chunk(struct run *r, const struct cohorti_delivery *d)
{
    struct stream *s = stream_of(r, d);
    if (s->collected && s->len + d->chunk.data_len <= sizeof s->bytes && d->chunk.data_len > 0) {
        memcpy(s->bytes + s->len, d->chunk.data, d->chunk.data_len);
    }
    s->len += d->chunk.data_len;
    s->open = !d->chunk.last && !d->chunk.aborts;
    if (!s->open) {
        d->partial->reader = NULL;
    }
}

static void commit(struct run *r, const struct cohorti_delivery *d, bool consumed)
{
    if (d->partial != NULL) {
        commit_chunk(r, d);
    }
    r->fed[d->lane] += d->frame_bytes;
    r->unconsumed[d->lane] += consumed ? 0 : d->credit_bytes;
    cohorti_inbound_commit(&r->in, d, consumed);
}

/* The first chunk of a message: put together, given on, both, or neither. */
static int begin_stream(struct run *r, struct cohorti_delivery *d, uint8_t how)
{
    struct stream *s = stream_of(r, d);
    FUZZ_CHECK(!s->open);
    *s = (struct stream){.read = how / 4 % 2 != 0, .collected = how / 8 % 2 == 0, .total = d->chunk.total};
    if (s->collected) {
        int status = cohorti_inbound_collect(&r->in, d);
        if (status == COHORT_ESIZE) {
            FUZZ_CHECK(d->chunk.total == COHORTI_TOTAL_UNKNOWN ? d->chunk.data_len > MESSAGE_BYTES_MAX
                                                               : d->chunk.total > MESSAGE_BYTES_MAX);
            s->collected = false;
        } else if (status != COHORT_OK) {
            return status;
        }
    }
    d->partial->reader = s->read ? s : NULL;
    d->nothing = !s->read && !d->whole;
    return COHORT_OK;
}

static int take_once(struct run *r, const cohort_frame *frame, struct cohorti_delivery *d, const char **why, uint8_t how)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) { /* of a first chunk taken before, and not committed */
        for (struct cohorti_partial *p = r->in.lanes[i].partials; p != NULL; p = p->next) {
            p->reader = p->len == 0 ? NULL : p->reader;
        }
    }
    int status = cohorti_inbound_take(&r->in, frame, d, why);
    if (status == COHORT_OK && d->chunk.first && d->kind == COHORTI_KIND_MESSAGE) {
        status = begin_stream(r, d, how);
        *why = "memory";
    } else if (status == COHORT_OK && d->chunk.first) {
        *stream_of(r, d) = (struct stream){.collected = true, .total = d->chunk.total};
    }
    return status;
}

/* Once more when there was no memory, as over the next link. */
static int take_frame(struct run *r, const cohort_frame *frame, struct cohorti_delivery *d, const char **why, uint8_t how)
{
    size_t failures = r->memory.failures;
    int status = take_once(r, frame, d, why, how);
    if (status == COHORT_ENOMEM) {
        FUZZ_CHECK(r->memory.failures > failures);
        status = take_once(r, frame, d, why, how);
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
    int status = take_frame(r, &frame, &d, &why, how);
    check_counts(r, before);                   /* nothing counts before commit */
    if (status == COHORT_OK && how % 4 == 3) { /* the link ended before it was delivered */
        status = take_frame(r, &frame, &d, &why, how);
        FUZZ_CHECK(status == COHORT_OK);
        check_counts(r, before);
    }
    if (status == COHORT_OK) {
        check_delivery(r, &frame, &d);
        commit(r, &d, d.nothing || how % 4 != 2);
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

static const struct cohorti_partial *begun(const struct run *r, unsigned lane, unsigned stream)
{
    const struct cohorti_partial *p = r->in.lanes[lane].partials;
    while (p != NULL && (p->stream != stream || p->len == 0)) {
        p = p->next;
    }
    return p;
}

/* A number up to one too many, and mostly one of few. */
static unsigned take_stream(struct run *r)
{
    uint8_t b = take(r);
    return b < 128 ? b % 3u : b % STREAM_NUMBERS;
}

/* Fields that fit what has come of the stream, unless the input says otherwise. */
static void feed_chunk(struct run *r)
{
    uint8_t data[DATA_BYTES_MAX];
    unsigned lane = take(r) % 3u, stream = take_stream(r);
    uint8_t twist = take(r);
    const struct cohorti_partial *p = begun(r, lane, stream);
    struct cohorti_chunk c = {.stream = (uint16_t)stream, .aborts = twist > 200 && twist % 8 == 6 && stream != 0};
    c.total = p != NULL ? p->total : twist % 4 == 1 ? COHORTI_TOTAL_UNKNOWN : 2 + (uint64_t)take_len(r);
    c.at = p != NULL ? p->len : 0;
    size_t len = take_len(r);
    len = len + 16 > sizeof data ? sizeof data - 16 : len;
    len = c.total - c.at < len ? (size_t)(c.total - c.at) : len;
    c.kind = p != NULL ? p->kind : twist > 100 && twist < 200 ? (enum cohorti_kind)(twist % 4u) : COHORTI_KIND_MESSAGE;
    uint32_t number = p != NULL ? p->number : 0;
    if (c.total == COHORTI_TOTAL_UNKNOWN && twist % 4 == 3) { /* enough of it */
        c.total = c.at + len;
    }
    enum cohorti_kind kind = c.at + len == c.total || c.aborts ? COHORTI_KIND_CHUNK_LAST
                             : c.at == 0                       ? COHORTI_KIND_CHUNK_FIRST
                                                               : COHORTI_KIND_CHUNK_MIDDLE;
    if (twist > 200) {
        uint8_t by = take(r);
        c.total += twist % 8 == 0 ? by : 0;
        c.at += twist % 8 == 1 ? by : 0;
        c.kind = twist % 8 == 2 ? (enum cohorti_kind)((unsigned)c.kind + by) : c.kind;
        number += twist % 8 == 3 ? by : 0;
        kind = twist % 8 == 4 ? (enum cohorti_kind)(4 + by % 3) : kind;
    }
    cohorti_chunk_encode_prefix(data, &c);
    memset(data + 16, (int)len, len);
    feed(r, cohorti_type_subject(kind, lane, number), data, 16 + (c.aborts ? 0 : len));
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
    FUZZ_CHECK(any == (untold > 0) && any == (ack.present != 0) && cohorti_inbound_untold(&r->in) == untold);
    if (take(r) % 4 == 0) {
        return; /* there was no memory to say it */
    }
    cohorti_inbound_told(&r->in, &ack);
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
    for (void *reader; another && (reader = cohorti_inbound_take_reader(&r->in)) != NULL;) {
        struct stream *s = reader;
        FUZZ_CHECK(s->read);
        s->read = false;
    }
    FUZZ_CHECK(cohorti_inbound_resume(&r->in, r->half) == another);
    if (another) {
        for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
            r->limit[i] -= r->fed[i]; /* how a new half reads our RESUME */
        }
        memset(r->fed, 0, sizeof r->fed);
        memset(r->streams, 0, sizeof r->streams);
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

static void check_partials(const struct run *r, unsigned lane)
{
    unsigned count = 0, of_streams = 0;
    for (const struct cohorti_partial *p = r->in.lanes[lane].partials; p != NULL; p = p->next) {
        FUZZ_CHECK(p->bytes == NULL || p->cap <= MESSAGE_BYTES_MAX + COHORTI_PREFIX_BYTES_MAX);
        FUZZ_CHECK(p->stream >= STREAM_NUMBERS || p->len == 0 || p->len == r->streams[lane][p->stream].len);
        of_streams += p->stream != 0;
        count++;
    }
    FUZZ_CHECK(count == r->in.lanes[lane].partial_count && of_streams <= COHORTI_STREAMS_MAX);
}

static void check(const struct run *r)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        const struct cohorti_inbound_lane *lane = &r->in.lanes[i];
        FUZZ_CHECK(lane->received == r->fed[i] && lane->waiting == r->unconsumed[i]);
        FUZZ_CHECK(lane->subject_count <= SUBJECTS_MAX);
        check_partials(r, i);
    }
    const size_t names = SUBJECTS_MAX * (sizeof(struct cohorti_inbound_subject) + COHORT_SUBJECT_BYTES_MAX + 1) + 8 * sizeof(void *);
    const size_t partial = sizeof(struct cohorti_partial) + MESSAGE_BYTES_MAX + COHORTI_PREFIX_BYTES_MAX;
    FUZZ_CHECK(r->memory.bytes <= COHORTI_LANE_COUNT * (names + (COHORTI_STREAMS_MAX + 1) * partial));
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
    while (cohorti_inbound_take_reader(&r.in) != NULL) {
    }
    cohorti_inbound_deinit(&r.in);
    fuzz_memory_check_empty(&r.memory);
    return 0;
}
