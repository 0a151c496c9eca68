/* SPDX-License-Identifier: Apache-2.0
 *
 * When another reader comes: what of the old log of a lane goes over to it, frame by frame. What its reader had is told, or was a
 * stream's and is lost with it; what was withdrawn stays behind.
 */
#include "core/outbound.h"

#include "core/chunk.h"
#include "core/log_frame.h"
#include "core/stream.h"

#include <assert.h>
#include <cohort/frame.h>

static unsigned kind_of(const cohort_frame *frame)
{
    return cohorti_type_class(frame->type) == COHORTI_TYPE_SUBJECT ? cohorti_type_kind(frame->type) : COHORTI_KIND_MESSAGE;
}

/* Requests and replies are between two processes: with one of them they end. Names were announced again already. */
static bool is_for_anybody(const cohort_frame *frame)
{
    return kind_of(frame) == COHORTI_KIND_MESSAGE && frame->type != cohorti_type_control(COHORTI_CONTROL_SUBJECT);
}

/* The walk over an old log, for what of it a new reader is still to get. */
struct carrying {
    struct cohorti_outbound *ob;
    struct cohorti_outbound_lane *lane;
    unsigned index; /* of the lane */
    const struct cohorti_expiry *expiries;
    uint32_t expiry, expiry_count; /* the next that may begin */
    uint64_t written_max;
    bool whole_goes;                                         /* the message of number 0 whose chunks are passed */
    struct cohorti_stream *streams[COHORTI_STREAMS_MAX + 1]; /* those that go, by number */
};

enum goes {
    STAYS, /* the reader before had it, or it is void */
    ENDS,  /* it is of use to no other reader, and is told otherwise */
    GOES,
};

/* What was never written whole goes, but for calls, and for chunks whose first was written: the reader before had that. */
static enum goes goes_over(struct carrying *c, const cohort_frame *frame, uint64_t at, size_t len)
{
    struct cohorti_chunk chunk;
    bool written = at + len <= c->written_max;
    if (!cohorti_kind_is_chunk((enum cohorti_kind)kind_of(frame))) {
        return written || kind_of(frame) == COHORTI_KIND_VOID ? STAYS : is_for_anybody(frame) ? GOES : ENDS;
    }
    int status = cohorti_chunk_decode(frame, &chunk);
    assert(status == COHORT_OK);
    (void)status;
    if (chunk.stream != 0) {
        if (chunk.first) {
            c->streams[chunk.stream] = written ? NULL : cohorti_stream_at(c->lane, at);
        }
        return !chunk.aborts && c->streams[chunk.stream] != NULL ? GOES : STAYS;
    }
    c->whole_goes = chunk.first ? !written : c->whole_goes;
    return !c->whole_goes ? STAYS : chunk.kind == COHORTI_KIND_MESSAGE ? GOES : ENDS;
}

static bool carry_frame(struct carrying *c, const struct cohorti_log_frame *f, uint64_t at)
{
    const cohort_frame *frame = &f->frame;
    uint64_t new_at = c->lane->log.appended;
    struct cohorti_chunk chunk;
    if (cohorti_outbound_append_again(c->ob, c->index, f) != COHORT_OK) {
        return false;
    }
    if (cohorti_kind_is_chunk((enum cohorti_kind)kind_of(frame)) && cohorti_chunk_decode(frame, &chunk) == COHORT_OK &&
        chunk.stream != 0) {
        cohorti_stream_moved(c->streams[chunk.stream], chunk.first, new_at, c->lane->log.appended);
    }
    while (c->expiry < c->expiry_count && c->expiries[c->expiry].offset < at) {
        c->expiry++;
    }
    const struct cohorti_expiry *e = c->expiry < c->expiry_count ? &c->expiries[c->expiry] : NULL;
    if (e != NULL && e->offset == at) {
        if (cohorti_expiry_reserve(c->ob, c->lane) != COHORT_OK) {
            return false;
        }
        cohorti_expiry_add(c->lane, new_at, new_at + (e->end - e->offset), e->deadline_ns);
    }
    return true;
}

void cohorti_outbound_carry_over(struct cohorti_outbound *ob, unsigned index, struct cohorti_undelivered *lost)
{
    struct cohorti_outbound_lane *lane = &ob->lanes[index];
    struct cohorti_log *old = &lost->lanes[index].log;
    uint64_t at = lost->lanes[index].at, end = old->appended, announced = lane->log.appended;
    struct carrying c = {.ob = ob,
                         .lane = lane,
                         .index = index,
                         .expiries = lost->lanes[index].expiries,
                         .expiry_count = lost->lanes[index].expiry_count,
                         .written_max = lost->lanes[index].written_max};
    struct cohorti_log_frame frame = {0};
    lost->lanes[index].end = end;
    while (at < end) {
        cohorti_log_frame_after(old, frame.block, at, &frame);
        enum goes goes = goes_over(&c, &frame.frame, at, frame.len);
        if (goes == GOES && !carry_frame(&c, &frame, at)) {
            lost->lanes[index].end = end; /* no memory: then all of it is told */
            cohorti_log_truncate(&lane->log, announced);
            lane->expiry_count = 0;
            cohorti_stream_none_moved(lane);
            return;
        }
        if (goes != STAYS && lost->lanes[index].end == end) {
            lost->lanes[index].end = at;
        }
        at += frame.len;
    }
}
