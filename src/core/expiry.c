/* SPDX-License-Identifier: Apache-2.0
 *
 * Time to live: messages that were not begun by their deadline are withdrawn.
 *
 * Their frames stay where they are, since offsets are counted, and are sent as void; but while no link writes, which is when most
 * messages expire, they are taken out and what is behind moves up; so are those that became void before, when their link has ended. Each lane remembers which of its messages have a deadline, in the order
 * of the log, until they are acknowledged: what was written to a reader that left without having taken it was not begun after all.
 */
#include "core/outbound.h"

#include "base/alloc.h"
#include "core/log_frame.h"
#include "core/stream.h"

#include <assert.h>
#include <cohort/frame.h>
#include <string.h>

#define NEVER UINT64_MAX
#define RETRY_NS \
    (UINT64_C(100) * 1000000) /* when it is being written, or there was no memory for the report, without which nothing is withdrawn */

/* A lane of a hundred thousand messages takes a millisecond to look through, with the peer's lock held, and may have one due each time: then it
 * rests for ten times as long as that took, about, and they are so much late. */
#define WORK_MIN 1024
#define WORK_NS 12
#define WORK_REST 10

/* So what is remembered is about what the log holds, not about all that was sent since the earliest deadline. */
static void forget_acknowledged(struct cohorti_outbound_lane *lane)
{
    uint32_t gone = 0;
    while (gone < lane->expiry_count && lane->expiries[gone].offset < lane->log.acked) {
        gone++;
    }
    if (gone > 0) {
        lane->expiry_count -= gone;
        memmove(lane->expiries, lane->expiries + gone, lane->expiry_count * sizeof *lane->expiries);
    }
}

int cohorti_expiry_reserve(struct cohorti_outbound *ob, struct cohorti_outbound_lane *lane)
{
    if (lane->expiry_count < lane->expiry_cap) {
        return COHORT_OK;
    }
    forget_acknowledged(lane);
    if (lane->expiry_count < lane->expiry_cap / 2) { /* else it would soon be full again, and this takes time */
        return COHORT_OK;
    }
    uint32_t cap = lane->expiry_cap == 0 ? 8 : lane->expiry_cap * 2;
    struct cohorti_expiry *grown = cohorti_realloc(ob->alloc, lane->expiries, cap * sizeof *grown);
    if (grown == NULL) {
        return lane->expiry_count < lane->expiry_cap ? COHORT_OK : COHORT_ENOMEM;
    }
    lane->expiries = grown;
    lane->expiry_cap = cap;
    return COHORT_OK;
}

void cohorti_expiry_add(struct cohorti_outbound_lane *lane, uint64_t offset, uint64_t end, uint64_t deadline_ns)
{
    assert(lane->expiry_count < lane->expiry_cap);
    lane->expires_ns = lane->expiry_count == 0 || deadline_ns < lane->expires_ns ? deadline_ns : lane->expires_ns;
    lane->expiries[lane->expiry_count++] = (struct cohorti_expiry){.offset = offset, .end = end, .deadline_ns = deadline_ns};
}

void cohorti_expiry_look_again(struct cohorti_outbound_lane *lane)
{
    lane->expires_ns = NEVER;
    for (uint32_t i = 0; i < lane->expiry_count; i++) {
        uint64_t deadline_ns = lane->expiries[i].deadline_ns;
        lane->expires_ns = deadline_ns < lane->expires_ns ? deadline_ns : lane->expires_ns;
    }
}

/* The end of what this reader was given some time: offsets before are counted. */
static uint64_t end_of_begun(const struct cohorti_outbound_lane *lane)
{
    return lane->written_max > lane->log.sent ? lane->written_max : lane->log.sent;
}

/* There are void frames that need not stay: they were not begun, and nobody writes. */
static bool voids_may_go(const struct cohorti_outbound *ob, const struct cohorti_outbound_lane *lane)
{
    return lane->voids_end > end_of_begun(lane) && !ob->resumed;
}

uint64_t cohorti_outbound_expires_ns(const struct cohorti_outbound *ob)
{
    uint64_t earliest = NEVER;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        const struct cohorti_outbound_lane *lane = &ob->lanes[i];
        bool voids = voids_may_go(ob, lane);
        if (voids || lane->expiry_count > 0) {
            uint64_t at_ns = voids ? 0 : lane->expires_ns;
            at_ns = at_ns < lane->rests_ns ? lane->rests_ns : at_ns;
            earliest = at_ns < earliest ? at_ns : earliest;
        }
    }
    return earliest;
}

/* The message's frames, copied for the report. *block: at or before the one where they begin, or NULL; it is that one afterwards. */
static bool copy_frames(const struct cohorti_outbound_lane *lane, const struct cohorti_expiry *expiry, struct cohorti_block **block,
                        struct cohorti_log *to)
{
    uint64_t before = to->appended;
    struct cohorti_log_frame frame = {.block = *block};
    for (uint64_t at = expiry->offset; at < expiry->end;) {
        cohorti_log_frame_after(&lane->log, frame.block, at, &frame);
        *block = at == expiry->offset ? frame.block : *block;
        if (cohorti_log_append_again(to, &frame) != COHORT_OK) {
            cohorti_log_truncate(to, before);
            return false;
        }
        at += frame.len;
    }
    return true;
}

/* What a frame refers to stays until it is acknowledged, or taken out: it is sent, as anything would do. */
static void make_void(struct cohorti_outbound_lane *lane, const struct cohorti_expiry *expiry, struct cohorti_block *block)
{
    struct cohorti_log_frame frame = {.block = block};
    for (uint64_t at = expiry->offset; at < expiry->end;) {
        cohorti_log_frame_after(&lane->log, frame.block, at, &frame);
        at += frame.len;
        cohort_frame_encode_header(frame.header, cohorti_type_subject(COHORTI_KIND_VOID, cohorti_type_lane(frame.frame.type), 0),
                                   frame.frame.data_len);
    }
    lane->voids_end = expiry->end > lane->voids_end ? expiry->end : lane->voids_end;
}

/* All but void frames stay; the remembered offsets move with what they are about. */
struct compaction {
    struct cohorti_outbound_lane *lane;
    struct cohorti_expiry *next, *end; /* not passed yet */
    uint64_t at, down;                 /* where we are in the old lane, and how much of it has gone */
    size_t frames;
};

static size_t keep_live(void *ctx, uint8_t *bytes, size_t len, size_t tail_len)
{
    struct compaction *c = ctx;
    size_t kept = 0;
    for (size_t from = 0; from < len;) {
        cohort_frame frame = {0};
        size_t frame_len = 0, needed = 0, run = len - from + tail_len;
        int status = cohort_frame_decode(bytes + from, run, run, &frame, &frame_len, &needed); /* looks at the header only */
        assert(status == COHORT_OK && frame_len > 0);
        (void)status;
        size_t own_len = frame_len - tail_len; /* with a tail, it is the only one */
        bool is_void = cohorti_type_class(frame.type) == COHORTI_TYPE_SUBJECT && cohorti_type_kind(frame.type) == COHORTI_KIND_VOID;
        if (c->next < c->end && c->next->offset == c->at) {
            c->next->offset -= c->down;
            c->next->end -= c->down;
            c->next++;
        }
        if (is_void) {
            c->down += frame_len;
        } else {
            memmove(bytes + kept, bytes + from, own_len);
            kept += own_len;
        }
        cohorti_streams_shift(c->lane, c->at, c->at + frame_len, c->down);
        c->at += frame_len;
        c->frames++;
        from += own_len;
    }
    return kept;
}

/* A link may have ended inside a frame: that stays whole. `next` is about the first message behind. Returns how many frames it looked at. */
static size_t take_voids_out(struct cohorti_outbound_lane *lane, struct cohorti_expiry *next)
{
    uint64_t begun = end_of_begun(lane), from = cohorti_log_frame_from(&lane->log, begun);
    struct compaction c = {.lane = lane, .next = next, .end = lane->expiries + lane->expiry_count, .at = from};
    cohorti_log_compact(&lane->log, from, keep_live, &c);
    lane->voids_end = begun;
    return c.frames;
}

static void expire_lane(struct cohorti_outbound *ob, struct cohorti_outbound_lane *lane, uint64_t now_ns, struct cohorti_log *copies)
{
    uint32_t kept = 0, kept_begun = 0;
    uint64_t earliest = NEVER, begun = end_of_begun(lane);
    size_t work = lane->expiry_count;
    struct cohorti_block *block = NULL;
    forget_acknowledged(lane);
    for (uint32_t i = 0; i < lane->expiry_count; i++) {
        struct cohorti_expiry e = lane->expiries[i];
        if (e.offset < begun) { /* it will be finished, unless the reader leaves */
            lane->expiries[kept++] = e;
            kept_begun++;
            continue;
        }
        bool held = e.offset < lane->held_until;
        if (e.deadline_ns <= now_ns && !held && copy_frames(lane, &e, &block, copies)) {
            make_void(lane, &e, block);
            continue;
        }
        uint64_t look_ns = e.deadline_ns <= now_ns ? now_ns + RETRY_NS : e.deadline_ns;
        earliest = look_ns < earliest ? look_ns : earliest;
        lane->expiries[kept++] = e;
    }
    lane->expiry_count = kept;
    lane->expires_ns = earliest;
    if (voids_may_go(ob, lane)) {
        work += take_voids_out(lane, lane->expiries + kept_begun);
    }
    lane->rests_ns = work < WORK_MIN ? 0 : now_ns + work * WORK_NS * WORK_REST;
}

void cohorti_outbound_expire(struct cohorti_outbound *ob, uint64_t now_ns, struct cohorti_undelivered *lost)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        struct cohorti_outbound_lane *lane = &ob->lanes[i];
        bool due = lane->expiry_count > 0 && lane->expires_ns <= now_ns;
        if (now_ns < lane->rests_ns || (!due && !voids_may_go(ob, lane))) {
            continue;
        }
        if (lost->alloc == NULL) {
            cohorti_undelivered_begin(lost, ob->alloc);
        }
        expire_lane(ob, lane, now_ns, &lost->lanes[i].log);
        lost->lanes[i].end = lost->lanes[i].log.appended;
        lost->lanes[i].epoch = lane->epoch;
    }
}
