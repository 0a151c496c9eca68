/* SPDX-License-Identifier: Apache-2.0
 *
 * Takes the frames of a session's lanes. It checks that a frame may stand where it does in its lane, puts chunks together, and counts.
 * It calls no handler and sends nothing.
 *
 * A piece of a large message changes nothing until it is committed: partial->len grows at commit, so a frame that is taken twice
 * because the first link ended between the two is taken the same way. Whether a message is put together, or given on piece by piece,
 * the shell says when its first chunk was taken; calls, and what belongs to no message of the application's, are put together.
 */
#include "core/inbound.h"

#include "base/alloc.h"

#include <assert.h>
#include <string.h>

#define RAW_LANE 0U
#define WHOLE_AT_ONCE_BYTES ((size_t)1024 * 1024)

void cohorti_inbound_init(struct cohorti_inbound *in, const cohort_allocator *alloc, const struct cohorti_inbound_limits *limits)
{
    memset(in, 0, sizeof *in);
    in->alloc = alloc;
    in->limits = *limits;
}

static void drop_partial(struct cohorti_inbound *in, struct cohorti_inbound_lane *lane, struct cohorti_partial *partial)
{
    struct cohorti_partial **at = &lane->partials;
    while (*at != partial) {
        at = &(*at)->next;
    }
    *at = partial->next;
    lane->partial_count--;
    assert(partial->reader == NULL);
    cohorti_release(in->alloc, partial->bytes);
    cohorti_release(in->alloc, partial);
}

static void reset(struct cohorti_inbound *in)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        struct cohorti_inbound_lane *lane = &in->lanes[i];
        for (uint32_t n = 0; n < lane->subject_count; n++) {
            cohorti_release(in->alloc, lane->subjects[n]);
        }
        cohorti_release(in->alloc, lane->subjects);
        while (lane->partials != NULL) {
            drop_partial(in, lane, lane->partials);
        }
        *lane = (struct cohorti_inbound_lane){.waiting = lane->waiting};
    }
}

void cohorti_inbound_deinit(struct cohorti_inbound *in)
{
    reset(in);
    in->peer_half = 0;
}

static struct cohorti_lane_mark mark_of(const struct cohorti_inbound *in, const struct cohorti_inbound_lane *lane)
{
    uint64_t credit = lane->waiting < in->limits.window_bytes ? in->limits.window_bytes - lane->waiting : 0;
    uint64_t limit = lane->received + credit;
    return (struct cohorti_lane_mark){.received = lane->received, .limit = limit > lane->told_limit ? limit : lane->told_limit};
}

static struct cohorti_lane_mark tell(const struct cohorti_inbound *in, struct cohorti_inbound_lane *lane)
{
    struct cohorti_lane_mark mark = mark_of(in, lane);
    lane->told_received = mark.received;
    lane->told_limit = mark.limit;
    return mark;
}

void cohorti_inbound_marks(struct cohorti_inbound *in, uint64_t half, struct cohorti_resume *out)
{
    out->half = half;
    out->known = in->peer_half;
    in->whole_untold = false;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        out->lanes[i] = tell(in, &in->lanes[i]);
    }
}

bool cohorti_inbound_resume(struct cohorti_inbound *in, uint64_t peer_half)
{
    if (peer_half == in->peer_half) {
        return false;
    }
    uint64_t credit[COHORTI_LANE_COUNT];
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        credit[i] = in->lanes[i].told_limit - in->lanes[i].told_received; /* how the peer reads our RESUME: from 0 */
    }
    reset(in);
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        in->lanes[i].told_limit = credit[i];
    }
    in->peer_half = peer_half;
    return true;
}

/* ---- names --------------------------------------------------------------------------------------------------------- */

static bool grow_subjects(struct cohorti_inbound *in, struct cohorti_inbound_lane *lane)
{
    if (lane->subject_count < lane->subject_cap) {
        return true;
    }
    uint32_t cap = lane->subject_cap == 0 ? 4 : lane->subject_cap * 2;
    void *grown = cohorti_realloc(in->alloc, lane->subjects, cap * sizeof(struct cohorti_inbound_subject *));
    if (grown == NULL) {
        return false;
    }
    lane->subjects = grown;
    lane->subject_cap = cap;
    return true;
}

/* Numbers count up from 0, so the table has no holes and a peer cannot make it larger than what it sent. A name announced again is
 * one that was carried over from an earlier session. */
static int learn_subject(struct cohorti_inbound *in, const cohort_frame *frame, struct cohorti_delivery *out, const char **why)
{
    struct cohorti_subject subject;
    *why = "malformed SUBJECT";
    int status = cohorti_subject_decode(frame->data, frame->data_len, &subject);
    if (status != COHORT_OK) {
        return status;
    }
    struct cohorti_inbound_lane *lane = &in->lanes[subject.lane];
    out->lane = subject.lane;
    out->nothing = true;
    if (subject.number < lane->subject_count) {
        *why = "SUBJECT gives a number another name";
        return strcmp(lane->subjects[subject.number]->name, subject.name) == 0 ? COHORT_OK : COHORT_EPROTOCOL;
    }
    *why = "SUBJECT out of turn";
    if (subject.number != lane->subject_count) {
        return COHORT_EPROTOCOL;
    }
    *why = "too many subject names";
    if (lane->subject_count >= in->limits.subjects_max) {
        return COHORT_ELIMIT;
    }
    size_t size = strlen(subject.name) + 1;
    struct cohorti_inbound_subject *known = cohorti_alloc(in->alloc, sizeof *known + size);
    if (known == NULL || !grow_subjects(in, lane)) {
        cohorti_release(in->alloc, known);
        return COHORT_ENOMEM;
    }
    known->cache = NULL;
    memcpy(known->name, subject.name, size);
    lane->subjects[lane->subject_count++] = known; /* learning it twice would do no harm */
    return COHORT_OK;
}

/* ---- messages ------------------------------------------------------------------------------------------------------ */

/* Data of one message, whole: prefix of its kind, then body. */
static int open_data(struct cohorti_inbound *in, uint32_t number, const uint8_t *data, size_t len, struct cohorti_delivery *out,
                     const char **why)
{
    size_t prefix_len = cohorti_kind_prefix_bytes(out->kind);
    bool named = out->kind == COHORTI_KIND_MESSAGE || out->kind == COHORTI_KIND_REQUEST;
    struct cohorti_inbound_lane *lane = &in->lanes[out->lane];
    *why = "message on a subject never announced";
    if (named && number >= lane->subject_count) {
        return COHORT_EPROTOCOL;
    }
    *why = "message shorter than its kind needs";
    if (len < prefix_len) {
        return COHORT_EPROTOCOL;
    }
    *why = "message larger than the limit";
    if (len - prefix_len > in->limits.message_bytes_max) {
        return COHORT_ESIZE;
    }
    out->subject = named ? lane->subjects[number] : NULL;
    out->prefix = data;
    out->body = data + prefix_len;
    out->body_len = len - prefix_len;
    return COHORT_OK;
}

/* ---- chunks -------------------------------------------------------------------------------------------------------- */

static struct cohorti_partial *find_partial(const struct cohorti_inbound_lane *lane, uint16_t stream)
{
    struct cohorti_partial *partial = lane->partials;
    while (partial != NULL && partial->stream != stream) {
        partial = partial->next;
    }
    return partial;
}

/* Its first chunk may have been taken before and not committed: then it begins anew. */
static int begin_partial(struct cohorti_inbound *in, struct cohorti_inbound_lane *lane, const struct cohorti_chunk *chunk,
                         uint32_t number, const char **why)
{
    struct cohorti_partial *partial = find_partial(lane, chunk->stream);
    *why = "a stream begins that has begun before";
    if (partial != NULL && partial->len > 0) {
        return COHORT_EPROTOCOL;
    }
    if (partial != NULL) {
        drop_partial(in, lane, partial);
    }
    *why = "message on a subject never announced";
    bool named = chunk->kind == COHORTI_KIND_MESSAGE || chunk->kind == COHORTI_KIND_REQUEST;
    if (named && number >= lane->subject_count) {
        return COHORT_EPROTOCOL;
    }
    *why = "too many streams at once";
    unsigned of_whole = find_partial(lane, 0) != NULL;
    if (chunk->stream != 0 && lane->partial_count - of_whole >= COHORTI_STREAMS_MAX) {
        return COHORT_EPROTOCOL;
    }
    partial = cohorti_alloc_zero(in->alloc, sizeof *partial);
    if (partial == NULL) {
        return COHORT_ENOMEM;
    }
    partial->stream = chunk->stream;
    partial->kind = chunk->kind;
    partial->number = number;
    partial->total = chunk->total;
    partial->next = lane->partials;
    lane->partials = partial;
    lane->partial_count++;
    return COHORT_OK;
}

/* A small one at once; else as much as has come, and as much again: who claims a large total and sends nothing costs nothing. */
static size_t room_wanted(const struct cohorti_chunk *chunk, size_t need, size_t max)
{
    if (chunk->total <= WHOLE_AT_ONCE_BYTES && chunk->total >= need) {
        return (size_t)chunk->total;
    }
    size_t most = chunk->total == COHORTI_TOTAL_UNKNOWN ? max : (size_t)chunk->total;
    size_t cap = need > most / 2 ? most : need * 2;
    return chunk->total != COHORTI_TOTAL_UNKNOWN && cap < WHOLE_AT_ONCE_BYTES ? WHOLE_AT_ONCE_BYTES : cap;
}

static int make_room(struct cohorti_inbound *in, struct cohorti_partial *partial, const struct cohorti_chunk *chunk)
{
    size_t max = in->limits.message_bytes_max + cohorti_kind_prefix_bytes(partial->kind);
    uint64_t need = chunk->at + chunk->data_len;
    if (need > max || (chunk->total != COHORTI_TOTAL_UNKNOWN && chunk->total > max)) {
        return COHORT_ESIZE;
    }
    size_t cap = room_wanted(chunk, (size_t)need, max);
    if (partial->cap >= need && partial->bytes != NULL) {
        return COHORT_OK;
    }
    uint8_t *bytes = cohorti_realloc(in->alloc, partial->bytes, cap == 0 ? 1 : cap);
    if (bytes == NULL) {
        return COHORT_ENOMEM;
    }
    partial->bytes = bytes;
    partial->cap = cap;
    return COHORT_OK;
}

static void put_piece(struct cohorti_partial *partial, const struct cohorti_chunk *chunk)
{
    if (chunk->data_len > 0 && chunk->data != partial->bytes + chunk->at) {
        memcpy(partial->bytes + chunk->at, chunk->data, chunk->data_len);
    }
}

/* Its last piece is there. Put together, it is all of it that waits in a queue. */
static int open_whole(struct cohorti_inbound *in, struct cohorti_delivery *d, const char **why)
{
    d->whole = true;
    d->credit_bytes = d->frame_bytes > d->chunk.total ? d->frame_bytes : (size_t)d->chunk.total;
    return open_data(in, d->partial->number, d->partial->bytes, (size_t)d->chunk.total, d, why);
}

int cohorti_inbound_collect(struct cohorti_inbound *in, struct cohorti_delivery *d)
{
    int status = make_room(in, d->partial, &d->chunk);
    if (status != COHORT_OK) {
        return status;
    }
    put_piece(d->partial, &d->chunk);
    const char *why;
    return d->chunk.last ? open_whole(in, d, &why) : COHORT_OK;
}

/* A piece that goes on with what was begun. */
static int add_piece(struct cohorti_inbound *in, struct cohorti_partial *partial, struct cohorti_delivery *out, const char **why)
{
    const struct cohorti_chunk *chunk = &out->chunk;
    if (partial->bytes != NULL) {
        *why = "no memory for a message in chunks";
        int status = make_room(in, partial, chunk);
        if (status == COHORT_ESIZE && chunk->stream == 0) {
            *why = "message larger than the limit";
            return status;
        }
        if (status == COHORT_ENOMEM) {
            return status;
        }
        if (status == COHORT_ESIZE) {
            cohorti_release(in->alloc, partial->bytes);
            partial->bytes = NULL;
            partial->too_large = true;
        } else {
            put_piece(partial, chunk);
        }
    }
    bool whole = chunk->last && partial->bytes != NULL;
    out->too_large = chunk->last && partial->too_large;
    out->nothing = partial->reader == NULL && !whole && !out->too_large;
    return whole ? open_whole(in, out, why) : COHORT_OK;
}

/* Its first chunk: a message's is for the shell to say what becomes of it; all else is put together. */
static int first_piece(struct cohorti_inbound *in, struct cohorti_inbound_lane *lane, uint32_t number, struct cohorti_delivery *out,
                       const char **why)
{
    int status = begin_partial(in, lane, &out->chunk, number, why);
    if (status != COHORT_OK) {
        return status;
    }
    out->partial = lane->partials;
    if (out->kind == COHORTI_KIND_MESSAGE) {
        out->subject = lane->subjects[number];
        return COHORT_OK;
    }
    *why = "large message over the limit";
    out->nothing = !out->chunk.last;
    status = cohorti_inbound_collect(in, out);
    if (status != COHORT_OK) {
        drop_partial(in, lane, out->partial);
    }
    return status;
}

static bool goes_on(const struct cohorti_partial *partial, const struct cohorti_chunk *chunk, uint32_t number)
{
    bool same_total = chunk->total == partial->total || (partial->total == COHORTI_TOTAL_UNKNOWN && chunk->last);
    return chunk->at == partial->len && same_total && chunk->kind == partial->kind && number == partial->number;
}

static int take_chunk(struct cohorti_inbound *in, const cohort_frame *frame, const uint8_t *placed, struct cohorti_delivery *out,
                      const char **why)
{
    struct cohorti_inbound_lane *lane = &in->lanes[out->lane];
    uint32_t number = cohorti_type_number(frame->type);
    *why = "malformed chunk";
    int status = cohorti_chunk_decode(frame, &out->chunk);
    if (status != COHORT_OK) {
        return status;
    }
    out->kind = out->chunk.kind;
    out->chunk.data = placed != NULL ? placed : out->chunk.data;
    if (out->chunk.first) {
        return first_piece(in, lane, number, out, why);
    }
    struct cohorti_partial *partial = find_partial(lane, out->chunk.stream);
    *why = "chunk out of turn";
    if (partial == NULL || partial->len == 0 || (!out->chunk.aborts && !goes_on(partial, &out->chunk, number))) {
        return COHORT_EPROTOCOL;
    }
    out->partial = partial;
    out->kind = partial->kind;
    out->subject = partial->kind == COHORTI_KIND_MESSAGE ? lane->subjects[partial->number] : NULL;
    if (out->chunk.aborts) {
        out->nothing = partial->reader == NULL;
        return COHORT_OK;
    }
    return add_piece(in, partial, out, why);
}

/* What it may write past the limit, it began before: nothing, where it never had any. */
static bool has_credit(const struct cohorti_inbound_lane *lane)
{
    return lane->told_limit > 0 && lane->received < lane->told_limit + COHORTI_RUN_BYTES_MAX;
}

static int take(struct cohorti_inbound *in, const cohort_frame *frame, const uint8_t *placed, struct cohorti_delivery *out,
                const char **why)
{
    memset(out, 0, sizeof *out);
    out->frame_bytes = out->credit_bytes = COHORT_FRAME_HEADER_BYTES + frame->data_len;
    enum cohorti_type_class class = cohorti_type_class(frame->type);
    if (class == COHORTI_TYPE_SUBJECT) {
        out->kind = (enum cohorti_kind)cohorti_type_kind(frame->type);
        out->lane = cohorti_type_lane(frame->type);
        *why = "a lane this version does not know";
        if (out->lane >= COHORTI_LANE_COUNT) {
            return COHORT_EPROTOCOL;
        }
        if (cohorti_kind_is_chunk(out->kind)) {
            return take_chunk(in, frame, placed, out, why);
        }
        out->nothing = out->kind == COHORTI_KIND_VOID;
        return out->nothing ? COHORT_OK : open_data(in, cohorti_type_number(frame->type), frame->data, frame->data_len, out, why);
    }
    if (class == COHORTI_TYPE_CONTROL) {
        return learn_subject(in, frame, out, why);
    }
    out->raw = true;
    out->raw_type = frame->type;
    out->lane = RAW_LANE;
    *why = "a raw frame larger than the limit";
    if (frame->data_len > in->limits.message_bytes_max && frame->data_len > COHORT_FRAME_LEGACY_BYTES_MAX) {
        return COHORT_ELENGTH;
    }
    out->body = frame->data;
    out->body_len = frame->data_len;
    return COHORT_OK;
}

uint8_t *cohorti_inbound_place(struct cohorti_inbound *in, const cohort_frame *front)
{
    struct cohorti_chunk chunk;
    unsigned lane = cohorti_type_lane(front->type);
    bool is_chunk = cohorti_type_class(front->type) == COHORTI_TYPE_SUBJECT && lane < COHORTI_LANE_COUNT &&
                    cohorti_kind_is_chunk((enum cohorti_kind)cohorti_type_kind(front->type));
    if (!is_chunk || cohorti_chunk_decode(front, &chunk) != COHORT_OK || chunk.first || chunk.aborts) {
        return NULL;
    }
    struct cohorti_partial *partial = find_partial(&in->lanes[lane], chunk.stream);
    bool belongs = partial != NULL && partial->len > 0 && partial->bytes != NULL &&
                   goes_on(partial, &chunk, cohorti_type_number(front->type)) && make_room(in, partial, &chunk) == COHORT_OK;
    return belongs ? partial->bytes + chunk.at : NULL;
}

int cohorti_inbound_take(struct cohorti_inbound *in, const cohort_frame *frame, struct cohorti_delivery *out, const char **why)
{
    return cohorti_inbound_take_placed(in, frame, NULL, out, why);
}

int cohorti_inbound_take_placed(struct cohorti_inbound *in, const cohort_frame *frame, const uint8_t *placed,
                                struct cohorti_delivery *out, const char **why)
{
    int status = take(in, frame, placed, out, why);
    if (status == COHORT_OK && !has_credit(&in->lanes[out->lane])) {
        *why = "a frame beyond the credit of its lane";
        return COHORT_EPROTOCOL;
    }
    return status;
}

void cohorti_inbound_commit(struct cohorti_inbound *in, const struct cohorti_delivery *d, bool consumed)
{
    struct cohorti_inbound_lane *lane = &in->lanes[d->lane];
    lane->received += d->frame_bytes;
    lane->waiting += consumed ? 0 : d->credit_bytes;
    if (d->partial != NULL && (d->chunk.last || d->chunk.aborts)) {
        drop_partial(in, lane, d->partial);
        in->whole_untold = true;
    } else if (d->partial != NULL) {
        d->partial->len += d->chunk.data_len;
    }
}

void *cohorti_inbound_take_reader(struct cohorti_inbound *in)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        for (struct cohorti_partial *partial = in->lanes[i].partials; partial != NULL; partial = partial->next) {
            if (partial->reader != NULL) {
                void *reader = partial->reader;
                partial->reader = NULL;
                return reader;
            }
        }
    }
    return NULL;
}

void cohorti_inbound_consumed(struct cohorti_inbound *in, unsigned lane, size_t bytes)
{
    assert(bytes <= in->lanes[lane].waiting);
    in->lanes[lane].waiting -= bytes;
}

/* ---- telling the peer ---------------------------------------------------------------------------------------------- */

static size_t untold(const struct cohorti_inbound *in, const struct cohorti_inbound_lane *lane)
{
    struct cohorti_lane_mark mark = mark_of(in, lane);
    uint64_t received = mark.received - lane->told_received;
    uint64_t credit = mark.limit - lane->told_limit;
    return (size_t)(received > credit ? received : credit);
}

size_t cohorti_inbound_untold(const struct cohorti_inbound *in)
{
    size_t most = 0;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        size_t n = untold(in, &in->lanes[i]);
        most = n > most ? n : most;
    }
    return most;
}

bool cohorti_inbound_is_awaited(const struct cohorti_inbound *in, size_t bulk_bytes)
{
    return in->whole_untold || untold(in, &in->lanes[COHORT_LANE_BULK]) >= bulk_bytes;
}

bool cohorti_inbound_ack(const struct cohorti_inbound *in, struct cohorti_ack *out)
{
    memset(out, 0, sizeof *out);
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        if (untold(in, &in->lanes[i]) > 0) {
            out->present |= 1U << i;
            out->lanes[i] = mark_of(in, &in->lanes[i]);
        }
    }
    return out->present != 0;
}

void cohorti_inbound_told(struct cohorti_inbound *in, const struct cohorti_ack *ack)
{
    in->whole_untold = false;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        if ((ack->present >> i & 1U) != 0) {
            in->lanes[i].told_received = ack->lanes[i].received;
            in->lanes[i].told_limit = ack->lanes[i].limit;
        }
    }
}
