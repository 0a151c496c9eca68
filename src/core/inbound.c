/* SPDX-License-Identifier: Apache-2.0
 *
 * Takes the frames of a session's lanes. It checks that a frame may stand where it does in its lane, puts chunks together, and counts.
 * It calls no handler and sends nothing.
 *
 * A piece of a large message changes nothing until it is committed: `whole` grows at commit, so a frame that is taken twice because
 * the first link ended between the two is taken the same way.
 */
#include "core/inbound.h"

#include "base/alloc.h"

#include <assert.h>
#include <string.h>

#define RAW_LANE 0U

void cohorti_inbound_init(struct cohorti_inbound *in, const cohort_allocator *alloc, const struct cohorti_inbound_limits *limits)
{
    memset(in, 0, sizeof *in);
    in->alloc = alloc;
    in->limits = *limits;
}

static void drop_whole(struct cohorti_inbound *in, struct cohorti_inbound_lane *lane)
{
    cohorti_release(in->alloc, lane->whole);
    lane->whole = NULL;
    lane->whole_total = lane->whole_len = 0;
}

static void reset(struct cohorti_inbound *in)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        struct cohorti_inbound_lane *lane = &in->lanes[i];
        for (uint32_t n = 0; n < lane->subject_count; n++) {
            cohorti_release(in->alloc, lane->subjects[n]);
        }
        cohorti_release(in->alloc, lane->subjects);
        drop_whole(in, lane);
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

static int begin_whole(struct cohorti_inbound *in, struct cohorti_inbound_lane *lane, const struct cohorti_chunk *chunk,
                       uint32_t number, const char **why)
{
    *why = "a large message begins inside another";
    if (lane->whole != NULL && lane->whole_len > 0) {
        return COHORT_EPROTOCOL;
    }
    *why = "large message over the limit";
    if (chunk->total > in->limits.message_bytes_max + COHORTI_PREFIX_BYTES_MAX) {
        return COHORT_ESIZE;
    }
    drop_whole(in, lane);
    lane->whole = cohorti_alloc(in->alloc, chunk->total);
    if (lane->whole == NULL) {
        return COHORT_ENOMEM;
    }
    lane->whole_total = chunk->total;
    lane->whole_kind = chunk->kind;
    lane->whole_number = number;
    return COHORT_OK;
}

static int take_chunk(struct cohorti_inbound *in, const cohort_frame *frame, struct cohorti_delivery *out, const char **why)
{
    struct cohorti_inbound_lane *lane = &in->lanes[out->lane];
    uint32_t number = cohorti_type_number(frame->type);
    struct cohorti_chunk chunk;
    *why = "malformed chunk";
    int status = cohorti_chunk_decode(frame, &chunk);
    if (status == COHORT_OK && chunk.at == 0) {
        status = begin_whole(in, lane, &chunk, number, why);
    }
    if (status != COHORT_OK) {
        return status;
    }
    *why = "chunk out of turn";
    if (lane->whole == NULL || chunk.at != lane->whole_len || chunk.total != lane->whole_total || chunk.kind != lane->whole_kind ||
        number != lane->whole_number) {
        return COHORT_EPROTOCOL;
    }
    memcpy(lane->whole + chunk.at, chunk.data, chunk.data_len);
    out->kind = chunk.kind;
    out->body = chunk.data;
    out->body_len = chunk.data_len;
    out->whole = true;
    if (chunk.at + chunk.data_len < chunk.total) {
        out->nothing = true;
        return COHORT_OK;
    }
    out->credit_bytes = chunk.total;
    return open_data(in, number, lane->whole, chunk.total, out, why);
}

/* What it may write past the limit, it began before: nothing, where it never had any. */
static bool has_credit(const struct cohorti_inbound_lane *lane)
{
    return lane->told_limit > 0 && lane->received < lane->told_limit + COHORTI_RUN_BYTES_MAX;
}

static int take(struct cohorti_inbound *in, const cohort_frame *frame, struct cohorti_delivery *out, const char **why)
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
            return take_chunk(in, frame, out, why);
        }
        *why = "a message inside a large one";
        if (in->lanes[out->lane].whole_len > 0) {
            return COHORT_EPROTOCOL;
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
    *why = "a raw frame inside a large message";
    if (in->lanes[RAW_LANE].whole_len > 0) {
        return COHORT_EPROTOCOL;
    }
    out->body = frame->data;
    out->body_len = frame->data_len;
    return COHORT_OK;
}

int cohorti_inbound_take(struct cohorti_inbound *in, const cohort_frame *frame, struct cohorti_delivery *out, const char **why)
{
    int status = take(in, frame, out, why);
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
    if (d->whole && d->nothing) {
        lane->whole_len += d->body_len;
    } else if (d->whole) {
        drop_whole(in, lane);
    }
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

bool cohorti_inbound_ack(struct cohorti_inbound *in, struct cohorti_ack *out)
{
    memset(out, 0, sizeof *out);
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        if (untold(in, &in->lanes[i]) > 0) {
            out->present |= 1U << i;
            out->lanes[i] = tell(in, &in->lanes[i]);
        }
    }
    return out->present != 0;
}
