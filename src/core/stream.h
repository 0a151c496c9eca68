/* SPDX-License-Identifier: Apache-2.0
 *
 * stream: data that is appended to a lane piece by piece, as it comes and as there is room; for its reader it is one message. Here is the
 * sending half: what a stream has appended, and when it was acknowledged whole, or lost.
 *
 *   OPEN ──finish──> FINISHED ──acknowledged──> done     │ any of them: what its reader had is gone with a session ──> lost
 *   OPEN ──abort──> gone: the reader is told, and what it had is void
 *
 * A stream that nothing of was written for a reader goes to the next one, as messages do. Whoever calls holds the peer's lock.
 */
#ifndef COHORTI_CORE_STREAM_H
#define COHORTI_CORE_STREAM_H

#include "core/chunk.h"
#include "core/outbound.h"

struct cohorti_stream {
    struct cohorti_list node; /* lane->streams, while it is neither done nor gone; else empty */
    unsigned lane;
    uint16_t number;     /* of its chunks */
    uint64_t total, len; /* to come, or COHORTI_TOTAL_UNKNOWN; and appended */
    uint64_t begin, end; /* in the lane: its first frame, and behind its last. Of one that was begun */
    bool begun, ended;   /* the first was appended; the last was */
    bool finished;       /* its owner has said that it is all */
    bool whole;          /* it was acknowledged, by a reader that is not the present one any more */
    bool lost;
    bool moved; /* while readers change: it goes to the next */
    const char *subject;
    struct cohorti_name_hint hint;
};

/** Begin one; nothing is appended. subject: the caller's, while the stream is open. COHORT_ELIMIT: COHORTI_STREAMS_MAX are, in the lane. */
COHORT_NODISCARD int cohorti_stream_open(struct cohorti_outbound *ob, struct cohorti_stream *s, unsigned lane, const char *subject,
                                         uint64_t total);
/**
 * Append what there is room for; *taken says how much.
 *
 *   COHORT_EAGAIN  not all of it: the lane is `full` or `starved`. Streams leave a quarter of the lane to messages.
 *   COHORT_ESIZE   more than was announced, or it was the end; nothing was taken. COHORT_ESTATE  it is lost.
 *   COHORT_ENOMEM, COHORT_ELIMIT (names).
 */
COHORT_NODISCARD int cohorti_stream_write(struct cohorti_outbound *ob, struct cohorti_stream *s, const void *data, size_t len,
                                          size_t *taken);
/** That was all. COHORT_ESIZE: less than was announced. COHORT_ESTATE: it is lost. COHORT_ENOMEM: try again. */
COHORT_NODISCARD int cohorti_stream_finish(struct cohorti_outbound *ob, struct cohorti_stream *s);
/** Give it up: the reader is told, unless it had all of it or nothing. Does not fail; the stream is the caller's again. Without memory the
 * reader is told later: cohorti_streams_owe(). */
void cohorti_stream_abort(struct cohorti_outbound *ob, struct cohorti_stream *s);
/** A reader is to be told of one that was given up. It is tried at each acknowledgement, but none may come: so whoever aborts tries again. */
bool cohorti_streams_owe(const struct cohorti_outbound *ob);
/** Tell the reader of what was given up, if there is memory now. */
void cohorti_streams_retry(struct cohorti_outbound *ob);

/** One that was acknowledged whole, or was lost (s->lost), taken out; NULL when there is none. To be asked after ack(), resume(), end(), left(). */
struct cohorti_stream *cohorti_stream_next_over(struct cohorti_outbound *ob);

/* ---- for outbound.c: readers change ---------------------------------------------------------------------------------- */

/** The one whose first frame is at `at`, or NULL. */
struct cohorti_stream *cohorti_stream_at(struct cohorti_outbound_lane *lane, uint64_t at);
void cohorti_streams_before_move(struct cohorti_outbound *ob);
/** A frame of it is in the new log now. */
void cohorti_stream_moved(struct cohorti_stream *s, bool first, uint64_t begin, uint64_t end);
void cohorti_stream_none_moved(struct cohorti_outbound_lane *lane);
/** The frame from `begin` to `end` in the lane goes `down` bytes down, over others that went. */
void cohorti_streams_shift(struct cohorti_outbound_lane *lane, uint64_t begin, uint64_t end, uint64_t down);
/** Those begun that did not move are lost. */
void cohorti_streams_after_move(struct cohorti_outbound *ob);
/** The reader has left: those of which it acknowledged a part are lost. */
void cohorti_streams_left(struct cohorti_outbound *ob);
/** All are lost. */
void cohorti_streams_end(struct cohorti_outbound *ob);

#endif
