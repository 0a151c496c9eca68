/* SPDX-License-Identifier: Apache-2.0
 *
 * The sending half of a session, against a reader that is the real receiving half as long as the input lets it be honest, and against
 * marks that are made up. Whatever the order of calls: each message accepted is read whole and once by one reader, or told, or
 * both only where it was told that it may have been handled; each stream finished is done once, and then was read whole and once, or is
 * lost once. Once the peer has lied, only that nothing breaks.
 *
 * The input is read from the front: a byte for the failing allocation, then operations.
 */
#include "fuzz.h"

#include "core/inbound.h"
#include "core/outbound.h"
#include "core/stream.h"
#include "wire/frame.h"

#include <stdlib.h>
#include <string.h>

#define MESSAGES_MAX 256
#define MESSAGE_BYTES_MAX ((size_t)150000)
#define LANE_BYTES_MAX ((size_t)400000)
#define SUBJECTS_MAX 6

struct message {
    size_t len;
    unsigned lane;
    bool anybody; /* a message, not part of a call */
    unsigned delivered, told;
    bool told_certainly_not;
};

#define STREAMS_MAX 64

/* One that is sent; its bytes say which. */
struct sent_stream {
    struct cohorti_stream s;
    bool opened, held, finished, aborted; /* held: its owner has not finished or aborted it */
    unsigned done, lost, read;            /* how often; read: whole */
};

/* One that is being read. */
struct read_stream {
    size_t id, len;
    bool known; /* its id, from the first two bytes */
};

struct pair {
    const uint8_t *at; /* the input */
    size_t left;
    struct fuzz_memory memory, reader_memory;
    struct cohorti_outbound out;
    struct cohorti_inbound in;
    struct cohorti_frame_reader frames; /* of the present link */
    bool up, lied;
    uint64_t half, reader, now_ns;
    struct message messages[MESSAGES_MAX];
    size_t count, told_unnamed; /* without body: which, is not known */
    struct sent_stream streams[STREAMS_MAX];
    size_t stream_count;
    struct read_stream reading[COHORTI_LANE_COUNT][COHORTI_STREAMS_MAX + 1];
};

static const struct cohorti_outbound_limits out_limits = {
    .lane_bytes_max = LANE_BYTES_MAX, .message_bytes_max = MESSAGE_BYTES_MAX, .subjects_max = SUBJECTS_MAX};
static const struct cohorti_inbound_limits in_limits = {
    .message_bytes_max = MESSAGE_BYTES_MAX, .subjects_max = SUBJECTS_MAX, .window_bytes = 100000};

static uint8_t block[MESSAGE_BYTES_MAX + 16];

static uint8_t take(struct pair *p)
{
    if (p->left == 0) {
        return 0;
    }
    p->left--;
    return *p->at++;
}

/* At least 2, for the number of the message; sizes around those of chunks are worth more than those between. */
static size_t take_len(struct pair *p)
{
    static const size_t edges[] = {65551, 65552, 65553, 131104, 131105, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX + 1, 40000};
    uint8_t b = take(p);
    return b < 240 ? 2 + (size_t)b * 4 : edges[b % 8];
}

static uint64_t take_mark(struct pair *p, uint64_t most)
{
    uint64_t v = (uint64_t)take(p) << 8 | take(p);
    return v % 4 == 0 ? most - (most < v / 4 ? most : v / 4) : v % (most + 3);
}

/* ---- appending ----------------------------------------------------------------------------------------------------- */

static void check_put(struct pair *p, const struct message *m, bool raw, int status, uint64_t before)
{
    if (status == COHORT_OK) {
        FUZZ_CHECK(m->len <= MESSAGE_BYTES_MAX);
        p->messages[p->count++] = *m;
        return;
    }
    FUZZ_CHECK(status != COHORT_ENOMEM || p->memory.failures > 0);
    FUZZ_CHECK(status != COHORT_EAGAIN || p->out.lanes[m->lane].full);
    FUZZ_CHECK(status != COHORT_ESIZE || m->len > MESSAGE_BYTES_MAX || (raw && m->len > COHORT_RAW_BYTES_MAX));
    FUZZ_CHECK(status == COHORT_ENOMEM || p->out.lanes[m->lane].log.appended == before);
}

struct lent {
    struct cohorti_body body;
    uint8_t bytes[];
};

static size_t lent_count;

static void give_back(struct cohorti_body *body)
{
    lent_count--;
    free(body);
}

/* The body is lent: it goes with the last reference, and who reads it later reads freed memory. */
static int put_lent(struct pair *p, struct cohorti_put put)
{
    struct lent *lent = malloc(sizeof *lent + put.body_len);
    if (lent == NULL) {
        abort();
    }
    memcpy(lent->bytes, put.body, put.body_len);
    cohorti_body_init(&lent->body, lent->bytes, put.body_len, give_back);
    lent_count++;
    put.body = lent->bytes;
    put.reference = &lent->body;
    int status = cohorti_outbound_put(&p->out, &put);
    FUZZ_CHECK(status == COHORT_OK || atomic_load(&lent->body.refs) == 1);
    if (cohorti_body_unref(&lent->body)) {
        give_back(&lent->body);
    }
    return status;
}

static void call_put(struct pair *p, bool raw)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g"};
    uint8_t how = take(p);
    struct message m = {.lane = raw ? 0 : how % 3u, .len = take_len(p), .anybody = raw || how < 200};
    memset(block, (int)p->count, m.len);
    block[0] = (uint8_t)(p->count >> 8);
    block[1] = (uint8_t)p->count;
    const struct cohorti_put put = {.kind = m.anybody ? COHORTI_KIND_MESSAGE : COHORTI_KIND_REQUEST,
                                    .lane = m.lane,
                                    .subject = names[how / 3u % 7u],
                                    .prefix = (const uint8_t *)"123456789012",
                                    .prefix_len = m.anybody ? 0 : COHORTI_REQUEST_PREFIX_BYTES,
                                    .body = block,
                                    .body_len = m.len,
                                    .deadline_ns = how % 5 == 0 ? p->now_ns + 1 + how % 7 : 0};
    if (p->count == MESSAGES_MAX) {
        return;
    }
    uint64_t before = p->out.lanes[m.lane].log.appended;
    bool lends = how % 2 == 1;
    int status = raw     ? cohorti_outbound_put_raw(&p->out, 7, block, m.len)
                 : lends ? put_lent(p, put)
                         : cohorti_outbound_put(&p->out, &put);
    check_put(p, &m, raw, status, before);
}

static void call_claim(struct pair *p)
{
    struct cohorti_name_hint hint = {0};
    struct message m = {.lane = take(p) % 3u, .len = take_len(p), .anybody = true};
    const struct cohorti_put put = {.kind = COHORTI_KIND_MESSAGE, .lane = m.lane, .subject = "a", .hint = &hint, .body_len = m.len};
    bool used = take(p) % 2 == 0;
    uint8_t *body = NULL;
    if (p->count == MESSAGES_MAX || cohorti_outbound_claim(&p->out, &put, &body) != COHORT_OK) {
        return;
    }
    memset(body, (int)p->count, m.len);
    body[0] = (uint8_t)(p->count >> 8);
    body[1] = (uint8_t)p->count;
    if (used) {
        cohorti_outbound_commit(&p->out, &put, body, m.len);
        p->messages[p->count++] = m;
    }
}

/* ---- what becomes of messages -------------------------------------------------------------------------------------- */

static struct message *message_of(struct pair *p, const uint8_t *body, size_t len)
{
    FUZZ_CHECK(len >= 2);
    size_t number = (size_t)body[0] << 8 | body[1];
    FUZZ_CHECK(number < p->count && p->messages[number].len == len);
    for (size_t i = 2; i < len; i++) {
        FUZZ_CHECK(body[i] == (uint8_t)number);
    }
    return &p->messages[number];
}

static void hear(struct pair *p, struct cohorti_undelivered *lost)
{
    struct cohorti_lost one;
    while (cohorti_undelivered_next(lost, &p->out, &one)) {
        FUZZ_CHECK(one.lane < COHORTI_LANE_COUNT);
        if (one.body == NULL) {
            p->told_unnamed++;
            continue;
        }
        struct message *m = message_of(p, one.body, one.body_len);
        FUZZ_CHECK(m->lane == one.lane && m->told == 0);
        FUZZ_CHECK(p->lied || one.maybe_handled || m->delivered == 0);
        FUZZ_CHECK(m->anybody == (one.kind == COHORTI_KIND_MESSAGE));
        m->told++;
        m->told_certainly_not = !one.maybe_handled;
    }
    cohorti_undelivered_deinit(lost);
}

/* ---- streams ------------------------------------------------------------------------------------------------------- */

static uint8_t stream_byte(size_t id, uint64_t at)
{
    return at == 0 ? (uint8_t)(id >> 8) : at == 1 ? (uint8_t)id : (uint8_t)(id * 7 + at);
}

static void hear_streams(struct pair *p)
{
    struct cohorti_stream *s;
    while ((s = cohorti_stream_next_over(&p->out)) != NULL) {
        struct sent_stream *sent = COHORTI_CONTAINER(s, struct sent_stream, s);
        FUZZ_CHECK(sent->opened && !sent->aborted && sent->done + sent->lost == 0);
        s->lost ? sent->lost++ : sent->done++;
        FUZZ_CHECK(s->lost || (sent->finished && (p->lied || sent->s.len < 2 || sent->read == 1)));
    }
}

/* The first piece has at least two bytes, unless the stream has not. */
static void read_piece(struct pair *p, const struct cohorti_delivery *d)
{
    struct read_stream *r = &p->reading[d->lane][d->chunk.stream];
    if (d->chunk.first) {
        *r = (struct read_stream){.known = d->chunk.data_len >= 2};
        r->id = r->known ? (size_t)d->chunk.data[0] << 8 | d->chunk.data[1] : 0;
        d->partial->reader = r;
    }
    FUZZ_CHECK(d->partial->reader == r && (d->chunk.aborts || d->chunk.at == r->len));
    for (size_t i = 0; i < d->chunk.data_len && r->known; i++) {
        FUZZ_CHECK(d->chunk.data[i] == stream_byte(r->id, r->len + i));
    }
    r->len += d->chunk.data_len;
    if (r->known) {
        FUZZ_CHECK(r->id < p->stream_count && p->streams[r->id].s.len >= r->len);
        struct sent_stream *sent = &p->streams[r->id];
        FUZZ_CHECK(!d->chunk.aborts || sent->aborted);
        if (d->chunk.last) {
            FUZZ_CHECK(sent->s.ended && sent->s.len == r->len && sent->read == 0);
            sent->read++;
        }
    }
    if (d->chunk.last || d->chunk.aborts) {
        d->partial->reader = NULL;
    }
}

static void stream_open(struct pair *p, uint8_t how)
{
    struct sent_stream *sent = &p->streams[p->stream_count];
    if (p->stream_count == STREAMS_MAX) {
        return;
    }
    unsigned lane = how % 3u;
    uint64_t total = how / 3 % 2 == 0 ? COHORTI_TOTAL_UNKNOWN : (uint64_t)take_len(p) * (1 + take(p) % 4u);
    int status = cohorti_stream_open(&p->out, &sent->s, lane, how % 5 == 0 ? "a" : "b", total);
    FUZZ_CHECK(status == COHORT_OK || status == COHORT_ELIMIT);
    sent->opened = sent->held = status == COHORT_OK;
    p->stream_count += sent->opened;
}

static void stream_write(struct pair *p, struct sent_stream *sent)
{
    size_t len = take_len(p), taken = 0;
    for (size_t i = 0; i < len; i++) {
        block[i] = stream_byte((size_t)(sent - p->streams), sent->s.len + i);
    }
    uint64_t before = sent->s.len;
    int status = cohorti_stream_write(&p->out, &sent->s, block, len, &taken);
    FUZZ_CHECK(taken <= len && sent->s.len == before + taken && (status != COHORT_OK || taken == len));
    FUZZ_CHECK(status != COHORT_EAGAIN || (p->out.lanes[sent->s.lane].full && taken < len));
    FUZZ_CHECK(status != COHORT_ESTATE || sent->s.lost);
    FUZZ_CHECK(status != COHORT_ESIZE || (sent->s.total != COHORTI_TOTAL_UNKNOWN && taken == 0));
    FUZZ_CHECK(status != COHORT_ENOMEM || p->memory.failures > 0);
}

static void call_stream(struct pair *p)
{
    uint8_t how = take(p);
    if (how % 8 == 0 || p->stream_count == 0) {
        stream_open(p, take(p));
        return;
    }
    struct sent_stream *sent = &p->streams[p->stream_count - 1 - take(p) % p->stream_count];
    if (!sent->held) {
        return;
    }
    if (how % 8 < 5) {
        stream_write(p, sent);
    } else if (how % 8 < 7) {
        int status = cohorti_stream_finish(&p->out, &sent->s);
        FUZZ_CHECK(status != COHORT_ESTATE || sent->s.lost);
        sent->finished = status == COHORT_OK;
        sent->held = status != COHORT_OK;
        hear_streams(p);
    } else {
        cohorti_stream_abort(&p->out, &sent->s);
        sent->aborted = true;
        sent->held = false;
    }
}

static void deliver(struct pair *p, const cohort_frame *frame)
{
    struct cohorti_delivery d;
    const char *why = "";
    int status = cohorti_inbound_take(&p->in, frame, &d, &why);
    FUZZ_CHECK(status == COHORT_OK);
    bool message = d.partial != NULL && d.kind == COHORTI_KIND_MESSAGE;
    if (message && d.chunk.stream != 0) {
        read_piece(p, &d);
    } else if (message && d.chunk.first) {
        FUZZ_CHECK(cohorti_inbound_collect(&p->in, &d) == COHORT_OK);
    } else if (!d.nothing) {
        struct message *m = message_of(p, d.body, d.body_len);
        FUZZ_CHECK(m->lane == d.lane && m->delivered == 0 && !m->told_certainly_not);
        m->delivered++;
    }
    cohorti_inbound_commit(&p->in, &d, true);
}

/* ---- the link ------------------------------------------------------------------------------------------------------ */

static void down(struct pair *p)
{
    if (p->up) {
        cohorti_frame_reader_deinit(&p->frames);
        p->up = false;
    }
    cohorti_outbound_link_ended(&p->out);
}

static void join(struct pair *p, const struct cohorti_resume *resume)
{
    struct cohorti_undelivered lost;
    cohorti_undelivered_init(&lost);
    int status = cohorti_outbound_resume(&p->out, resume, &lost);
    FUZZ_CHECK(status == COHORT_OK || (p->lied && status == COHORT_EPROTOCOL));
    FUZZ_CHECK(status == COHORT_OK || lost.alloc == NULL);
    hear(p, &lost);
    hear_streams(p);
    FUZZ_CHECK(p->out.resumed == (status == COHORT_OK));
}

static void call_up(struct pair *p)
{
    struct cohorti_resume resume;
    down(p);
    cohorti_frame_reader_init(&p->frames, &p->reader_memory.alloc, 1 << 20);
    p->up = true;
    cohorti_inbound_marks(&p->in, p->reader, &resume);
    join(p, &resume);
    while (p->in.peer_half != p->half && cohorti_inbound_take_reader(&p->in) != NULL) {
    }
    (void)cohorti_inbound_resume(&p->in, p->half);
}

static void call_up_with_a_lie(struct pair *p)
{
    struct cohorti_resume resume = {.half = p->reader + take(p) % 2u, .known = take(p) % 4 == 0 ? 77 : p->half};
    down(p);
    p->lied = true;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        resume.lanes[i].received = take_mark(p, p->out.lanes[i].log.appended);
        resume.lanes[i].limit = resume.lanes[i].received + take_len(p);
    }
    join(p, &resume);
}

static void call_ack_with_a_lie(struct pair *p)
{
    struct cohorti_ack ack = {.present = 1 + take(p) % 7u};
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        ack.lanes[i].received = take_mark(p, p->out.lanes[i].log.sent);
        ack.lanes[i].limit = ack.lanes[i].received + take_len(p);
    }
    p->lied = true;
    int status = cohorti_outbound_ack(&p->out, &ack);
    FUZZ_CHECK(status == COHORT_OK || status == COHORT_EPROTOCOL);
    FUZZ_CHECK(status == COHORT_EPROTOCOL || p->out.resumed);
    hear_streams(p);
}

static void call_ack(struct pair *p)
{
    struct cohorti_ack ack;
    if (p->up && !p->lied && cohorti_inbound_ack(&p->in, &ack)) {
        cohorti_inbound_told(&p->in, &ack);
        FUZZ_CHECK(cohorti_outbound_ack(&p->out, &ack) == COHORT_OK);
        hear_streams(p);
        cohorti_outbound_acked(&p->out, p->now_ns);
    }
}

/* Up to so many bytes of what is gathered; `arrives`: or they are in flight when the link ends. */
static void call_write(struct pair *p, bool arrives)
{
    struct cohorti_slice slices[4];
    size_t max = 1 + (size_t)take(p) % 4, want = (size_t)take(p) * take(p) * 4 + take(p);
    size_t count = cohorti_outbound_gather(&p->out, slices, max, want + 1), len = 0;
    FUZZ_CHECK((count > 0) == cohorti_outbound_wants_write(&p->out));
    cohorti_outbound_hold(&p->out, slices, count);
    for (size_t i = 0; i < count && len < want; i++) {
        size_t n = slices[i].len < want - len ? slices[i].len : want - len;
        FUZZ_CHECK(slices[i].len > 0);
        len += n;
        cohort_frame frame;
        uint8_t *piece = fuzz_copy(slices[i].bytes, n);
        if (p->up && arrives && !p->lied) {
            cohorti_frame_reader_feed(&p->frames, piece, n);
            int got;
            while ((got = cohorti_frame_reader_next(&p->frames, &frame)) == 1) {
                deliver(p, &frame);
            }
            FUZZ_CHECK(got == 0);
        }
        free(piece);
    }
    cohorti_outbound_advance(&p->out, slices, count, len);
    cohorti_outbound_written(&p->out, p->now_ns);
    if (!arrives && count > 0) {
        down(p);
    }
}

static void call_another_reader(struct pair *p)
{
    down(p);
    while (cohorti_inbound_take_reader(&p->in) != NULL) {
    }
    cohorti_inbound_deinit(&p->in);
    cohorti_inbound_init(&p->in, &p->reader_memory.alloc, &in_limits);
    p->reader += 2;
}

static void call_end(struct pair *p)
{
    struct cohorti_undelivered lost;
    cohorti_undelivered_init(&lost);
    down(p);
    cohorti_outbound_end(&p->out, ++p->half, &lost);
    hear(p, &lost);
    hear_streams(p);
}

static void call_expire(struct pair *p)
{
    struct cohorti_undelivered lost;
    cohorti_undelivered_init(&lost);
    p->now_ns += take(p) % 8u;
    cohorti_outbound_expire(&p->out, p->now_ns, &lost);
    FUZZ_CHECK(cohorti_outbound_expires_ns(&p->out) > p->now_ns);
    hear(p, &lost);
}

/* Goodbye is said on a link that stands, after everything taken was acknowledged. */
static void call_left(struct pair *p)
{
    if (p->up && p->out.resumed) {
        call_ack(p);
        cohorti_outbound_left(&p->out);
        hear_streams(p);
        call_another_reader(p);
    }
}

/* ---- checks -------------------------------------------------------------------------------------------------------- */

static void check(struct pair *p)
{
    size_t len = 0, unsent = 0;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        const struct cohorti_outbound_lane *lane = &p->out.lanes[i];
        FUZZ_CHECK(lane->log.acked <= lane->log.sent && lane->log.sent <= lane->log.appended);
        FUZZ_CHECK(lane->written_max <= lane->log.appended && lane->written_max >= lane->log.acked);
        FUZZ_CHECK(lane->subject_count <= SUBJECTS_MAX && lane->held_until == 0);
        len += (size_t)(lane->log.appended - lane->log.acked);
        unsent += (size_t)(lane->log.appended - lane->log.sent);
    }
    FUZZ_CHECK(cohorti_outbound_len(&p->out) == len && cohorti_outbound_waiting(&p->out) <= unsent);
    FUZZ_CHECK(len <= COHORTI_LANE_COUNT * (LANE_BYTES_MAX + 8192));
    FUZZ_CHECK(p->memory.bytes <= 2 * COHORTI_LANE_COUNT * (LANE_BYTES_MAX + 20 * 65536));
}

static void check_accounts(struct pair *p)
{
    size_t missing = 0;
    for (size_t i = 0; i < p->count; i++) {
        const struct message *m = &p->messages[i];
        FUZZ_CHECK(m->told <= 1);
        FUZZ_CHECK(p->lied || m->delivered == 0 || !m->told_certainly_not);
        missing += m->anybody && m->delivered == 0 && m->told == 0;
    }
    FUZZ_CHECK(p->lied || missing <= p->told_unnamed);
    for (size_t i = 0; i < p->stream_count; i++) {
        const struct sent_stream *sent = &p->streams[i];
        FUZZ_CHECK(sent->done + sent->lost <= 1 && (!sent->finished || sent->done + sent->lost == 1));
        FUZZ_CHECK(sent->aborted || sent->finished || sent->lost == 1 || sent->s.whole); /* whole: its owner need only say so */
    }
}

static void step(struct pair *p)
{
    switch (take(p) % 16) {
    case 0:
    case 1:
    case 2:
        call_put(p, false);
        break;
    case 3:
        call_put(p, true);
        break;
    case 4:
        call_claim(p);
        break;
    case 5:
    case 6:
    case 7:
        call_write(p, true);
        break;
    case 8:
        call_write(p, false);
        break;
    case 9:
        call_ack(p);
        break;
    case 10:
        p->lied ? call_up_with_a_lie(p) : call_up(p);
        break;
    case 11:
        call_another_reader(p);
        break;
    case 12:
        call_expire(p);
        break;
    case 13:
        take(p) % 2 == 0 ? call_end(p) : call_left(p);
        break;
    case 14:
        take(p) % 2 == 0 ? call_up_with_a_lie(p) : call_ack_with_a_lie(p);
        break;
    default: {
        if (take(p) % 4 != 0) {
            call_stream(p);
            break;
        }
        unsigned writable = cohorti_outbound_writable(&p->out);
        FUZZ_CHECK(writable < 8 && cohorti_outbound_writable(&p->out) == 0);
        break;
    }
    }
    cohorti_bodies_release(cohorti_outbound_take_unreferenced(&p->out));
    check(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct pair p;
    memset(&p, 0, sizeof p);
    p.at = data;
    p.left = len;
    p.half = 1;
    p.reader = 1000;
    fuzz_memory_init(&p.memory);
    fuzz_memory_init(&p.reader_memory);
    p.memory.fail_in = take(&p);
    cohorti_outbound_init(&p.out, &p.memory.alloc, &out_limits, p.half);
    cohorti_inbound_init(&p.in, &p.reader_memory.alloc, &in_limits);
    while (p.left > 0) {
        step(&p);
    }
    call_end(&p);
    check_accounts(&p);
    while (cohorti_inbound_take_reader(&p.in) != NULL) {
    }
    cohorti_outbound_deinit(&p.out);
    cohorti_inbound_deinit(&p.in);
    FUZZ_CHECK(lent_count == 0);
    fuzz_memory_check_empty(&p.memory);
    fuzz_memory_check_empty(&p.reader_memory);
    return 0;
}
