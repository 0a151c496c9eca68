/* SPDX-License-Identifier: Apache-2.0
 *
 * pace: how much of the bulk lane may be under way while more urgent lanes are in use.
 *
 * What the system and the network hold cannot be overtaken any more. A stream in the bulk lane would fill them, up to its credit of
 * megabytes, and an urgent message would wait behind all of it. So while there are urgent messages the lane keeps only as much under way
 * as the path carries in one round trip, found as in Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue 14(5), 2016:
 * the rate of delivery times the time from writing to acknowledgement when nothing waits. While there are none it is not limited.
 */
#ifndef COHORTI_CORE_PACE_H
#define COHORTI_CORE_PACE_H

#include <cohort/types.h>

#define COHORTI_PACE_BYTES_MIN (UINT64_C(32) * 1024) /* always allowed */
#define COHORTI_PACE_TRIPS 15

struct cohorti_pace {
    uint64_t window; /* no frame is begun with so much under way; UINT64_MAX: no limit */

    uint64_t urgent_bytes; /* ever appended to more urgent lanes, when last looked at */
    uint64_t urgent_ns;    /* when that was last found to have changed */

    /* One write at a time is followed until it is acknowledged. */
    bool following;
    uint64_t end;        /* offset in the lane behind what was written */
    uint64_t acked;      /* when it was written */
    uint64_t written_ns; /* when */
    bool had_more;       /* not all was written: it was not the application that wrote no more */

    uint64_t rate;    /* bytes a second, of late; 0: not known */
    uint64_t trip_ns; /* from writing a frame to its acknowledgement, when nothing of ours is before it */
    bool emptying;    /* the window is at its least until some writes were followed under it: of these is trip_ns */
    uint32_t trips_ns[COHORTI_PACE_TRIPS];
    uint32_t trip_count; /* ever, of these */
    uint64_t empty_until_ns;
    uint64_t empty_due_ns, empty_every_ns;
};

/** Also for each new link: offsets may begin anew, what was written is written again, and perhaps it is another path. */
void cohorti_pace_init(struct cohorti_pace *pace);
/** The lane was written up to `sent` in a call that began at `begun_ns`, and is acknowledged up to `acked`. more: it held more than that. */
void cohorti_pace_written(struct cohorti_pace *pace, uint64_t begun_ns, uint64_t sent, uint64_t acked, bool more);
/** An acknowledgement came, after which the lane is acknowledged up to `acked`; `urgent_bytes` were ever appended to more urgent lanes. */
void cohorti_pace_acked(struct cohorti_pace *pace, uint64_t now_ns, uint64_t acked, uint64_t urgent_bytes);

#endif
