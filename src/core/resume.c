/* SPDX-License-Identifier: Apache-2.0
 *
 * What the peer says to the sending half: where it goes on (RESUME), what it has taken (ACK), goodbye; and what becomes of a lane
 * between readers.
 */
#include "core/outbound.h"

#include "core/log_frame.h"
#include "core/stream.h"

#include <assert.h>

bool cohorti_outbound_rest(struct cohorti_outbound *ob)
{
    bool keeps = false;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        keeps = cohorti_log_rest(&ob->lanes[i].log) || keeps;
    }
    return keeps;
}

bool cohorti_outbound_keeps(const struct cohorti_outbound *ob)
{
    bool keeps = false;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        keeps = keeps || cohorti_log_keeps(&ob->lanes[i].log);
    }
    return keeps;
}

void cohorti_outbound_link_ended(struct cohorti_outbound *ob)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        cohorti_log_drop_spares(&ob->lanes[i].log);
    }
    ob->resumed = false;
}

static bool goes_on(const struct cohorti_outbound *ob, const struct cohorti_resume *resume)
{
    return resume->known == ob->half && resume->half == ob->reader;
}

/* It read this half of ours, then another did and all began at 0 again: its marks are about a numbering that is gone, and it would take what we
 * write now for what follows them. (Two processes with one id, in turn.) */
static bool is_outdated(const struct cohorti_outbound *ob, const struct cohorti_resume *resume)
{
    bool took = false;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        took = took || resume->lanes[i].received > 0;
    }
    return took && resume->known == ob->half && resume->half != ob->reader;
}

static int check_marks(const struct cohorti_outbound *ob, const struct cohorti_resume *resume)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        const struct cohorti_outbound_lane *lane = &ob->lanes[i];
        if (resume->lanes[i].received < lane->log.acked || resume->lanes[i].received > lane->written_max) {
            return COHORT_EPROTOCOL;
        }
    }
    return COHORT_OK;
}

static void continue_at(struct cohorti_outbound *ob, const struct cohorti_resume *resume)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        struct cohorti_log *log = &ob->lanes[i].log;
        cohorti_log_rewind(log, resume->lanes[i].received);
        cohorti_log_ack(log, resume->lanes[i].received);
        ob->lanes[i].limit = resume->lanes[i].limit;
    }
}

/* The first frame that was not acknowledged whole. A peer may say a mark inside a frame; it is not believed that far. */
static uint64_t first_unacknowledged(const struct cohorti_log *log)
{
    uint64_t at = cohorti_log_begin(log);
    while (at < log->acked) {
        struct cohorti_log_frame frame;
        cohorti_log_frame_at(log, at, &frame);
        if (at + frame.len > log->acked) {
            break;
        }
        at += frame.len;
    }
    return at;
}

static void move_to_lost(struct cohorti_outbound *ob, struct cohorti_undelivered *lost)
{
    lost->alloc = ob->alloc;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        struct cohorti_outbound_lane *lane = &ob->lanes[i];
        lost->lanes[i].log = lane->log;
        lost->lanes[i].written_max = lane->written_max;
        lost->lanes[i].at = first_unacknowledged(&lane->log);
        lost->lanes[i].end = lane->log.appended;
        lost->lanes[i].epoch = lane->epoch;
        lost->lanes[i].expiries = lane->expiries;
        lost->lanes[i].expiry_count = lane->expiry_count;
        lane->expiries = NULL;
        lane->expiry_count = lane->expiry_cap = 0;
        lane->voids_end = 0;
        cohorti_log_init(&lane->log, ob->alloc, lane->log.block_bytes_max);
        lane->written_max = 0;
        lane->limit = 0;
        lane->aborts_due = 0; /* who read the beginning is gone */
    }
    ob->cut = -1;
}

/* For a reader that has taken nothing: from the beginning. If another may have, what it may have taken is lost to us. */
static void start_over(struct cohorti_outbound *ob, const struct cohorti_resume *resume, struct cohorti_undelivered *lost)
{
    bool untouched = true;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        untouched = untouched && ob->lanes[i].log.acked == 0;
    }
    if (!untouched || (ob->reader != 0 && ob->reader != resume->half)) {
        cohorti_streams_before_move(ob);
        move_to_lost(ob, lost);
        for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
            if (cohorti_outbound_announce_again(ob, i)) {
                cohorti_outbound_carry_over(ob, i, lost);
            }
        }
        cohorti_streams_after_move(ob);
    }
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        cohorti_log_rewind(&ob->lanes[i].log, 0);
        ob->lanes[i].written_max = 0;
        cohorti_expiry_look_again(&ob->lanes[i]);
        ob->lanes[i].limit = resume->lanes[i].limit - resume->lanes[i].received; /* its marks are about another log */
    }
    ob->reader = resume->half;
}

int cohorti_outbound_resume(struct cohorti_outbound *ob, const struct cohorti_resume *resume, struct cohorti_undelivered *lost)
{
    if (goes_on(ob, resume)) {
        int status = check_marks(ob, resume);
        if (status != COHORT_OK) {
            return status;
        }
        continue_at(ob, resume);
    } else if (is_outdated(ob, resume)) {
        return COHORT_EPROTOCOL;
    } else {
        start_over(ob, resume, lost);
    }
    ob->cut = -1;
    ob->resumed = true;
    cohorti_pace_init(&ob->pace);
    return COHORT_OK;
}

/* For either reason there may be room while there is none for the other: who is refused again is told again. */
unsigned cohorti_outbound_writable(struct cohorti_outbound *ob)
{
    unsigned writable = 0;
    cohorti_outbound_count(ob);
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        struct cohorti_outbound_lane *lane = &ob->lanes[i];
        size_t len = cohorti_log_len(&lane->log);
        bool drained = lane->full && len <= ob->limits.lane_bytes_max / 2;
        bool fed = lane->starved && (len <= COHORTI_QUOTA_RESERVE / 2 || cohorti_quota_has_room(&ob->share));
        if (drained || fed) {
            lane->full = lane->starved = false;
            writable |= 1U << i;
        }
    }
    return writable;
}

bool cohorti_outbound_ack_is_early(const struct cohorti_outbound *ob, const struct cohorti_ack *ack)
{
    bool early = false;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        bool beyond = (ack->present >> i & 1U) != 0 && ack->lanes[i].received > ob->lanes[i].log.sent;
        early = early || (beyond && ack->lanes[i].received <= ob->lanes[i].held_until);
    }
    return early;
}

int cohorti_outbound_ack(struct cohorti_outbound *ob, const struct cohorti_ack *ack)
{
    if (!ob->resumed) {
        return COHORT_EPROTOCOL;
    }
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        struct cohorti_outbound_lane *lane = &ob->lanes[i];
        const struct cohorti_lane_mark *mark = &ack->lanes[i];
        if ((ack->present >> i & 1U) == 0) {
            continue;
        }
        if (mark->received < lane->log.acked || mark->received > lane->log.sent) {
            return COHORT_EPROTOCOL;
        }
        cohorti_log_ack(&lane->log, mark->received);
        lane->limit = mark->limit > lane->limit ? mark->limit : lane->limit;
    }
    cohorti_streams_retry(ob);
    return COHORT_OK;
}

void cohorti_outbound_acked(struct cohorti_outbound *ob, uint64_t now_ns)
{
    uint64_t urgent = 0;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        urgent += i == COHORTI_LANE_BULK ? 0 : ob->lanes[i].log.appended;
    }
    cohorti_pace_acked(&ob->pace, now_ns, ob->lanes[COHORTI_LANE_BULK].log.acked, urgent);
}

void cohorti_outbound_left(struct cohorti_outbound *ob)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        struct cohorti_outbound_lane *lane = &ob->lanes[i];
        cohorti_log_rewind(&lane->log, lane->log.acked);
        lane->written_max = lane->log.acked;
        cohorti_expiry_look_again(lane);
    }
    cohorti_streams_left(ob);
    ob->cut = -1;
    ob->resumed = false;
}

void cohorti_outbound_end(struct cohorti_outbound *ob, uint64_t half, struct cohorti_undelivered *lost)
{
    assert(half != 0 && half != ob->half);
    cohorti_streams_end(ob);
    move_to_lost(ob, lost);
    ob->half = half;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        (void)cohorti_outbound_announce_again(ob, i); /* whoever reads next knows none of the names */
    }
    ob->reader = 0;
    ob->resumed = false;
}
