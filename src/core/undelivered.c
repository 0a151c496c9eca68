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
#include "core/log_frame.h"

#include <assert.h>
#include <cohort/frame.h>
#include <string.h>

static void next_frame(struct cohorti_undelivered *u, unsigned lane, struct cohorti_log_frame *frame)
{
    cohorti_log_frame_after(&u->lanes[lane].log, u->lanes[lane].block, u->lanes[lane].at, frame);
    u->lanes[lane].block = frame->block;
    u->lanes[lane].at += frame->len;
}

/* Data of the frame as it was before it was cut up: prefix, then body. */
static void split(struct cohorti_lost *out, const uint8_t *data, size_t len)
{
    size_t prefix_len = cohorti_kind_prefix_bytes(out->kind);
    out->prefix = prefix_len == 0 ? NULL : data;
    out->body = data + prefix_len;
    out->body_len = len - prefix_len;
}

/* A body that was referred to is there as long as any part of it. */
static void take_referenced(const uint8_t *prefix, const struct cohorti_log_frame *frame, struct cohorti_lost *out)
{
    out->prefix = cohorti_kind_prefix_bytes(out->kind) == 0 ? NULL : prefix;
    out->body = frame->body->data;
    out->body_len = frame->body->len;
}

static void decode(const struct cohorti_log_frame *frame, struct cohorti_chunk *chunk)
{
    int status = cohorti_chunk_decode(&frame->frame, chunk);
    assert(status == COHORT_OK);
    (void)status;
}

/* The message whose chunk `frame` is, up to its last. Its body is put together when its first chunk is there. */
static void take_chunks(struct cohorti_undelivered *u, unsigned lane, struct cohorti_log_frame *frame, struct cohorti_chunk *chunk,
                        struct cohorti_lost *out)
{
    out->kind = chunk->kind;
    out->body_len = (size_t)chunk->total - cohorti_kind_prefix_bytes(chunk->kind);
    if (frame->body != NULL) {
        take_referenced(chunk->first ? chunk->data : NULL, frame, out);
    } else if (chunk->first) {
        u->whole = cohorti_alloc(u->alloc, (size_t)chunk->total);
    }
    for (;;) {
        if (u->whole != NULL) {
            memcpy(u->whole + chunk->at, chunk->data, chunk->data_len);
        }
        if (chunk->last || u->lanes[lane].at >= u->lanes[lane].end) {
            break;
        }
        next_frame(u, lane, frame);
        decode(frame, chunk);
        assert(chunk->stream == 0);
    }
    if (u->whole != NULL && chunk->last) {
        split(out, u->whole, (size_t)chunk->total);
    }
}

/* A frame about a subject; false: no message is told of. */
static bool take_message(struct cohorti_undelivered *u, unsigned lane, struct cohorti_log_frame *frame, struct cohorti_lost *out)
{
    out->kind = (enum cohorti_kind)cohorti_type_kind(frame->frame.type);
    if (!cohorti_kind_is_chunk(out->kind)) {
        if (frame->body != NULL) {
            take_referenced(frame->frame.data, frame, out);
        } else {
            split(out, frame->frame.data, frame->frame.data_len);
        }
        return out->kind != COHORTI_KIND_VOID;
    }
    struct cohorti_chunk chunk;
    decode(frame, &chunk);
    if (chunk.stream != 0) {
        return false;
    }
    take_chunks(u, lane, frame, &chunk, out);
    return true;
}

static bool next_of_lane(struct cohorti_undelivered *u, unsigned lane, const struct cohorti_outbound *ob, struct cohorti_lost *out)
{
    while (u->lanes[lane].at < u->lanes[lane].end) {
        struct cohorti_log_frame f;
        next_frame(u, lane, &f);
        const cohort_frame frame = f.frame;
        memset(out, 0, sizeof *out);
        out->lane = lane;
        enum cohorti_type_class class = cohorti_type_class(frame.type);
        if (class == COHORTI_TYPE_RAW) {
            out->raw = true;
            out->raw_type = frame.type;
            out->body = frame.data;
            out->body_len = frame.data_len;
        } else if (class != COHORTI_TYPE_SUBJECT || !take_message(u, lane, &f, out)) {
            continue;
        } else if (u->lanes[lane].epoch == ob->lanes[lane].epoch) {
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
        cohorti_log_init(&u->lanes[i].log, alloc, cohorti_lane_block_bytes(i));
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
