/* SPDX-License-Identifier: Apache-2.0
 *
 * streamer: streams between simulated processes, written in pieces at random moments, finished or given up. Exactly one result at the sender
 * and one end at each reader that has seen a beginning, and both are true; the pieces are those that were written, in order.
 */
#ifndef COHORTI_SIM_STREAMER_H
#define COHORTI_SIM_STREAMER_H

#include <cohort/cohort.h>

struct run;
struct player;
struct sent;

struct streamer {
    struct sent **at; /* by number */
    uint64_t count, cap;
    bool ticks;   /* a tick is under way */
    bool hurries; /* the faults are over: what is open is written to its end */
};

/** The handler of streams, in the queue of the process if it has one; before the node starts. */
COHORT_NODISCARD int streamer_prepare(struct player *p);
/** In scenarios with streams: now and then one from `from` to `to`. */
void streamer_may_send(struct run *run, struct player *from, struct player *to);
/** A process has ended: a closed one has told the end of all it sent and all it had begun to read. */
void streamer_ended(struct player *p, bool closed);
/** Everything a living process sent has its result, and every living one that began to read has seen the end. Hurries. */
bool streamer_settled(void *run);
void streamer_judge(struct run *run);
void streamer_free(struct streamer *streamer);

#endif
