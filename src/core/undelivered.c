/* SPDX-License-Identifier: Apache-2.0
 *
 * What a session that ended leaves behind, message by message: walks the frames that were not acknowledged.
 *
 * The peer may have acknowledged the first chunks of a large message and not the last: then its beginning is not held any more, and
 * it is told without its body. Frames that announce a name, and those withdrawn before, are nobody's message; pieces of a stream are its
 * sender's affair (stream.c).
 */
#include "core/outbound.h"

#include "base/alloc.h"
#include "core/chunk.h"

#include <assert.h>
#include <cohort/frame.h>
#include <string.h>

static void next_frame(struct cohorti_undelivered *u, unsigned lane, cohort_frame *frame)
{
    uint8_t *bytes = NULL;
    size_t run = cohorti_log_at(&u->lanes[lane].log, u->lanes[lane].at, &bytes);
    size_t len = 0, needed = 0;
    int status = cohort_frame_decode(bytes, run, run, frame, &len, &needed);
    assert(status == COHORT_OK && len > 0); /* the log holds whole frames, and we began with one */
    (void)status;
    u->lanes[lane].at += len;
}

/* Data of the frame as it was before it was cut up: prefix, then body. */
static void split(struct cohorti_lost *out, const uint8_t *data, size_t len)
{
    size_t prefix_len = cohorti_kind_prefix_bytes(out->kind);
    out->prefix = prefix_len == 0 ? NULL : data;
    out->body = data + prefix_len;
    out->body_len = len - prefix_len;
}

/* The message whose chunk `frame` is, up to its last. Its body is put together when its first chunk is there. */
static void take_chunks(struct cohorti_undelivered *u, unsigned lane, struct cohorti_chunk *chunk, struct cohorti_lost *out)
{
    out->kind = chunk->kind;
    out->body_len = (size_t)chunk->total - cohorti_kind_prefix_bytes(chunk->kind);
    if (chunk->first) {
        u->whole = cohorti_alloc(u->alloc, (size_t)chunk->total);
    }
    for (;;) {
        if (u->whole != NULL) {
            memcpy(u->whole + chunk->at, chunk->data, chunk->data_len);
        }
        if (chunk->last || u->lanes[lane].at >= u->lanes[lane].end) {
            break;
        }
        cohort_frame frame;
        next_frame(u, lane, &frame);
        int status = cohorti_chunk_decode(&frame, chunk);
        assert(status == COHORT_OK && chunk->stream == 0);
        (void)status;
    }
    if (u->whole != NULL && chunk->last) {
        split(out, u->whole, (size_t)chunk->total);
    }
}

/* A frame about a subject; false: no message is told of. */
static bool take_message(struct cohorti_undelivered *u, unsigned lane, const cohort_frame *frame, struct cohorti_lost *out)
{
    out->kind = (enum cohorti_kind)cohorti_type_kind(frame->type);
    if (!cohorti_kind_is_chunk(out->kind)) {
        split(out, frame->data, frame->data_len);
        return out->kind != COHORTI_KIND_VOID;
    }
    struct cohorti_chunk chunk;
    int status = cohorti_chunk_decode(frame, &chunk);
    assert(status == COHORT_OK);
    (void)status;
    if (chunk.stream != 0) {
        return false;
    }
    take_chunks(u, lane, &chunk, out);
    return true;
}

static bool next_of_lane(struct cohorti_undelivered *u, unsigned lane, const struct cohorti_outbound *ob, struct cohorti_lost *out)
{
    while (u->lanes[lane].at < u->lanes[lane].end) {
        cohort_frame frame;
        next_frame(u, lane, &frame);
        memset(out, 0, sizeof *out);
        out->lane = lane;
        enum cohorti_type_class class = cohorti_type_class(frame.type);
        if (class == COHORTI_TYPE_RAW) {
            out->raw = true;
            out->raw_type = frame.type;
            out->body = frame.data;
            out->body_len = frame.data_len;
        } else if (class != COHORTI_TYPE_SUBJECT || !take_message(u, lane, &frame, out)) {
            continue;
        } else {
            cohorti_outbound_subject_name(ob, lane, cohorti_type_number(frame.type), out->kind, out->subject);
        }
        out->maybe_handled = u->lanes[lane].at <= u->lanes[lane].written_max;
        return true;
    }
    return false;
}

void cohorti_undelivered_begin(struct cohorti_undelivered *u, const cohort_allocator *alloc)
{
    cohorti_undelivered_init(u);
    u->alloc = alloc;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        cohorti_log_init(&u->lanes[i].log, alloc);
    }
}

bool cohorti_undelivered_next(struct cohorti_undelivered *u, const struct cohorti_outbound *ob, struct cohorti_lost *out)
{
    if (u->alloc == NULL) {
        return false;
    }
    cohorti_release(u->alloc, u->whole);
    u->whole = NULL;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        if (next_of_lane(u, cohorti_lane_order[i], ob, out)) {
            return true;
        }
    }
    return false;
}

void cohorti_undelivered_deinit(struct cohorti_undelivered *u)
{
    if (u->alloc == NULL) {
        return;
    }
    cohorti_release(u->alloc, u->whole);
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        cohorti_log_deinit(&u->lanes[i].log);
        cohorti_release(u->alloc, u->lanes[i].expiries);
    }
    cohorti_undelivered_init(u);
}
