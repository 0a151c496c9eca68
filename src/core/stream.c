/* SPDX-License-Identifier: Apache-2.0
 *
 * Pieces of streams into the log of their lane, and what becomes of a stream when readers change.
 *
 * Invariants: the number of a stream is in use until it is acknowledged whole, lost, or its abort is appended, so of each number the
 * reader has one at most; `begin` and `end` are places in the present log. All frames of a stream are chunks, also when there is one
 * only, so that what is lost with a session can be told apart from messages.
 */
#include "core/stream.h"

#include <assert.h>
#include <string.h>

#define PIECE_HEAD_BYTES (COHORT_FRAME_HEADER_BYTES + COHORTI_CHUNK_PREFIX_BYTES)
#define PIECE_BYTES_MIN ((size_t)4096) /* less is not worth a frame, while something is outstanding that will make room */

int cohorti_stream_open(struct cohorti_outbound *ob, struct cohorti_stream *s, unsigned lane_index, const char *subject,
                        uint64_t total)
{
    struct cohorti_outbound_lane *lane = &ob->lanes[lane_index];
    uint16_t number = 1;
    while (number <= COHORTI_STREAMS_MAX && (lane->stream_numbers >> number & 1U) != 0) {
        number++;
    }
    if (number > COHORTI_STREAMS_MAX) {
        return COHORT_ELIMIT;
    }
    *s = (struct cohorti_stream){.lane = lane_index, .number = number, .total = total, .subject = subject};
    lane->stream_numbers |= 1U << number;
    cohorti_list_init(&s->node);
    cohorti_list_append(&lane->streams, &s->node);
    return COHORT_OK;
}

/* Not in the lane any more. */
static void take_out(struct cohorti_outbound_lane *lane, struct cohorti_stream *s)
{
    cohorti_list_remove(&s->node);
    lane->stream_numbers &= ~(1U << s->number);
}

static int append_piece(struct cohorti_outbound *ob, struct cohorti_stream *s, const void *data, size_t len, bool last)
{
    struct cohorti_outbound_lane *lane = &ob->lanes[s->lane];
    uint8_t prefix[COHORTI_CHUNK_PREFIX_BYTES];
    const struct cohorti_put put = {.lane = s->lane, .subject = s->subject, .hint = &s->hint};
    uint32_t number = 0;
    int status = cohorti_outbound_number(ob, &put, &number);
    if (status != COHORT_OK) {
        return status;
    }
    struct cohorti_chunk chunk = {.stream = s->number, .total = last ? s->len + len : s->total, .at = s->len};
    enum cohorti_kind kind = last ? COHORTI_KIND_CHUNK_LAST : s->begun ? COHORTI_KIND_CHUNK_MIDDLE : COHORTI_KIND_CHUNK_FIRST;
    uint64_t at = lane->log.appended;
    cohorti_chunk_encode_prefix(prefix, &chunk);
    status = cohorti_outbound_append(ob, s->lane, cohorti_type_subject(kind, s->lane, number), prefix, sizeof prefix, data, len);
    if (status == COHORT_OK) {
        s->begin = s->begun ? s->begin : at;
        s->begun = true;
        s->ended = last;
        s->end = lane->log.appended;
        s->len += len;
    }
    return status;
}

/* Bytes of data that the next piece may have, of `len` that wait. */
static size_t room_for(const struct cohorti_outbound *ob, unsigned lane_index, size_t len)
{
    const struct cohorti_outbound_lane *lane = &ob->lanes[lane_index];
    size_t piece_max = cohorti_lane_chunk_bytes(lane_index);
    size_t max = ob->limits.lane_bytes_max - ob->limits.lane_bytes_max / 4;
    size_t used = cohorti_log_len(&lane->log) + PIECE_HEAD_BYTES;
    size_t room = used < max ? max - used : 0;
    room = room < piece_max ? room : piece_max;
    if (room >= len) {
        return len;
    }
    return room < PIECE_BYTES_MIN && cohorti_log_len(&lane->log) > ob->limits.lane_bytes_max / 2 ? 0 : room;
}

int cohorti_stream_write(struct cohorti_outbound *ob, struct cohorti_stream *s, const void *data, size_t len, size_t *taken)
{
    struct cohorti_outbound_lane *lane = &ob->lanes[s->lane];
    const uint8_t *at = data;
    uint64_t most = s->total == COHORTI_TOTAL_UNKNOWN ? COHORTI_OFFSET_MAX : s->total;
    *taken = 0;
    if (s->lost) {
        return COHORT_ESTATE;
    }
    if (s->ended && len > 0) {
        return COHORT_ESIZE;
    }
    if (len > most - s->len) {
        return COHORT_ESIZE;
    }
    while (*taken < len) {
        size_t piece = room_for(ob, s->lane, len - *taken);
        bool starved = piece > 0 && cohorti_quota_refuses(&ob->share, cohorti_log_len(&lane->log), piece + PIECE_HEAD_BYTES);
        if (piece == 0 || starved) {
            lane->full = lane->full || !starved;
            lane->starved = lane->starved || starved;
            return COHORT_EAGAIN;
        }
        int status = append_piece(ob, s, at + *taken, piece, s->len + piece == s->total);
        if (status != COHORT_OK) {
            return status;
        }
        *taken += piece;
    }
    return COHORT_OK;
}

/* A last chunk without data is so small that it may go beyond the watermark. */
int cohorti_stream_finish(struct cohorti_outbound *ob, struct cohorti_stream *s)
{
    if (s->lost) {
        return COHORT_ESTATE;
    }
    if (s->total != COHORTI_TOTAL_UNKNOWN && s->len < s->total) {
        return COHORT_ESIZE;
    }
    int status = s->ended ? COHORT_OK : append_piece(ob, s, NULL, 0, true);
    s->finished = status == COHORT_OK;
    return status;
}

/* ---- giving up ------------------------------------------------------------------------------------------------------ */

static int append_abort(struct cohorti_outbound *ob, unsigned lane, uint16_t number)
{
    uint8_t prefix[COHORTI_CHUNK_PREFIX_BYTES];
    cohorti_chunk_encode_prefix(prefix, &(struct cohorti_chunk){.stream = number, .aborts = true});
    return cohorti_outbound_append(ob, lane, cohorti_type_subject(COHORTI_KIND_CHUNK_LAST, lane, 0), prefix, sizeof prefix, NULL, 0);
}

void cohorti_stream_abort(struct cohorti_outbound *ob, struct cohorti_stream *s)
{
    struct cohorti_outbound_lane *lane = &ob->lanes[s->lane];
    if (cohorti_list_empty(&s->node)) { /* lost before */
        return;
    }
    if (s->begun && !s->ended && append_abort(ob, s->lane, s->number) != COHORT_OK) {
        lane->aborts_due |= 1U << s->number;
        cohorti_list_remove(&s->node);
        return;
    }
    take_out(lane, s);
}

bool cohorti_streams_owe(const struct cohorti_outbound *ob)
{
    bool owe = false;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        owe = owe || ob->lanes[i].aborts_due != 0;
    }
    return owe;
}

void cohorti_streams_retry(struct cohorti_outbound *ob)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        struct cohorti_outbound_lane *lane = &ob->lanes[i];
        for (uint16_t number = 1; lane->aborts_due != 0 && number <= COHORTI_STREAMS_MAX; number++) {
            if ((lane->aborts_due >> number & 1U) != 0 && append_abort(ob, i, number) == COHORT_OK) {
                lane->aborts_due &= ~(1U << number);
                lane->stream_numbers &= ~(1U << number);
            }
        }
    }
}

/* ---- the end, and other readers -------------------------------------------------------------------------------------- */

#define STREAM_OF(it) COHORTI_CONTAINER(it, struct cohorti_stream, node)

static bool is_whole(const struct cohorti_outbound_lane *lane, const struct cohorti_stream *s)
{
    return s->whole || (s->ended && s->end <= lane->log.acked);
}

struct cohorti_stream *cohorti_stream_next_over(struct cohorti_outbound *ob)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        COHORTI_LIST_FOREACH (it, &ob->lanes[i].streams) {
            if (STREAM_OF(it)->lost || (STREAM_OF(it)->finished && is_whole(&ob->lanes[i], STREAM_OF(it)))) {
                take_out(&ob->lanes[i], STREAM_OF(it));
                return STREAM_OF(it);
            }
        }
    }
    return NULL;
}

/* In the present log. */
static bool has_place(const struct cohorti_stream *s)
{
    return s->begun && !s->whole;
}

struct cohorti_stream *cohorti_stream_at(struct cohorti_outbound_lane *lane, uint64_t at)
{
    COHORTI_LIST_FOREACH (it, &lane->streams) {
        if (has_place(STREAM_OF(it)) && STREAM_OF(it)->begin == at && !STREAM_OF(it)->moved) {
            return STREAM_OF(it);
        }
    }
    return NULL;
}

/* Of the log that is given up: what was acknowledged is so for good. */
static void note_whole(struct cohorti_outbound_lane *lane)
{
    COHORTI_LIST_FOREACH (it, &lane->streams) {
        STREAM_OF(it)->whole = is_whole(lane, STREAM_OF(it));
    }
}

void cohorti_streams_before_move(struct cohorti_outbound *ob)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        note_whole(&ob->lanes[i]);
        cohorti_stream_none_moved(&ob->lanes[i]);
    }
}

void cohorti_stream_none_moved(struct cohorti_outbound_lane *lane)
{
    COHORTI_LIST_FOREACH (it, &lane->streams) {
        STREAM_OF(it)->moved = false;
    }
}

void cohorti_stream_moved(struct cohorti_stream *s, bool first, uint64_t begin, uint64_t end)
{
    s->begin = first ? begin : s->begin;
    s->end = end;
    s->moved = true;
}

void cohorti_streams_shift(struct cohorti_outbound_lane *lane, uint64_t begin, uint64_t end, uint64_t down)
{
    COHORTI_LIST_FOREACH (it, &lane->streams) {
        struct cohorti_stream *s = STREAM_OF(it);
        if (has_place(s)) {
            s->begin -= s->begin == begin ? down : 0;
            s->end -= s->end == end ? down : 0;
        }
    }
}

static void free_numbers(struct cohorti_outbound_lane *lane)
{
    lane->stream_numbers = 0;
    COHORTI_LIST_FOREACH (it, &lane->streams) {
        lane->stream_numbers |= 1U << STREAM_OF(it)->number;
    }
}

void cohorti_streams_after_move(struct cohorti_outbound *ob)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        COHORTI_LIST_FOREACH (it, &ob->lanes[i].streams) {
            struct cohorti_stream *s = STREAM_OF(it);
            s->lost = s->lost || (s->begun && !s->moved && !s->whole);
        }
        free_numbers(&ob->lanes[i]); /* of those whose abort was due: their reader is gone */
    }
}

void cohorti_streams_left(struct cohorti_outbound *ob)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        COHORTI_LIST_FOREACH (it, &ob->lanes[i].streams) {
            struct cohorti_stream *s = STREAM_OF(it);
            s->lost = s->lost || (s->begun && s->begin < ob->lanes[i].log.acked && !is_whole(&ob->lanes[i], s));
        }
    }
}

void cohorti_streams_end(struct cohorti_outbound *ob)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        note_whole(&ob->lanes[i]);
        COHORTI_LIST_FOREACH (it, &ob->lanes[i].streams) {
            STREAM_OF(it)->lost = !STREAM_OF(it)->whole;
        }
        free_numbers(&ob->lanes[i]);
    }
}
