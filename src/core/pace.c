/* SPDX-License-Identifier: Apache-2.0
 *
 * A window of the lane is what the path carries in the shortest time, and a quarter more, so that a path that has become faster is noticed: it
 * delivers more in the same time. The queue that this quarter makes would, by and by, be taken for the path; so now and then the
 * window falls to its least for a moment: some round trips, or one or two on a long path.
 */
#include "core/pace.h"

#define URGENT_NS (UINT64_C(1000) * 1000000) /* after the last urgent message the window stays for so long */
#define TRIP_NS (UINT64_C(5000) * 1000000)
#define RATE_SAMPLES 8
#define FRAME_BYTES (UINT64_C(64) * 1024) /* of the largest, about */
#define EMPTY_NS UINT64_C(5000000) /* the window is at its least for so long after the first write that was followed under it */
#define QUEUE_NS UINT64_C(50000)   /* may be added to the shortest time: the ends are not always at work */
#define NS_PER_S UINT64_C(1000000000)

void cohorti_pace_init(struct cohorti_pace *pace)
{
    *pace = (struct cohorti_pace){.window = UINT64_MAX, .trip_ns = {UINT64_MAX, UINT64_MAX}};
}

void cohorti_pace_written(struct cohorti_pace *pace, uint64_t now_ns, uint64_t sent, uint64_t acked)
{
    if (!pace->following && sent > acked) {
        pace->following = true;
        pace->end = sent;
        pace->acked = acked;
        pace->written_ns = now_ns;
    }
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void sample(struct cohorti_pace *pace, uint64_t now_ns, uint64_t acked)
{
    uint64_t took_ns = larger(now_ns - pace->written_ns, 1000);
    uint64_t rate = (acked - pace->acked) * 1000 / (took_ns / 1000) * 1000; /* what was under way was delivered meanwhile */
    bool alone = pace->end - pace->acked <= COHORTI_PACE_BYTES_MIN + FRAME_BYTES;
    pace->following = false;
    if (pace->rate_samples++ == RATE_SAMPLES) {
        pace->rate_samples = 1;
        pace->rate[1] = pace->rate[0];
        pace->rate[0] = 0;
    }
    pace->rate[0] = larger(pace->rate[0], rate);
    if (pace->emptying && alone && pace->trip_ns[0] == UINT64_MAX) {
        pace->empty_until_ns = now_ns + EMPTY_NS; /* from the first on: it may have met what is not there any more */
    }
    if (!pace->emptying || alone) {
        pace->trip_ns[0] = smaller(pace->trip_ns[0], took_ns);
        pace->emptying = pace->emptying && now_ns < pace->empty_until_ns;
    }
}

/* Measure the shortest time anew, without what we have under way ourselves. */
static void empty(struct cohorti_pace *pace, uint64_t now_ns)
{
    pace->emptying = true;
    pace->trip_ns[1] = pace->trip_ns[0];
    pace->trip_ns[0] = UINT64_MAX;
    pace->trip_since_ns = now_ns;
}

static uint64_t window(const struct cohorti_pace *pace)
{
    uint64_t trip_ns = smaller(pace->trip_ns[0], pace->trip_ns[1]);
    uint64_t rate = larger(pace->rate[0], pace->rate[1]);
    if (pace->emptying || trip_ns == UINT64_MAX) {
        return COHORTI_PACE_BYTES_MIN;
    }
    uint64_t bytes = rate / 1000 * ((trip_ns + QUEUE_NS) / 1000) / 1000;
    bytes += bytes / 4;
    return larger(bytes, COHORTI_PACE_BYTES_MIN);
}

void cohorti_pace_acked(struct cohorti_pace *pace, uint64_t now_ns, uint64_t acked, uint64_t urgent_bytes)
{
    bool was_limited = pace->window != UINT64_MAX;
    if (urgent_bytes != pace->urgent_bytes) {
        pace->urgent_bytes = urgent_bytes;
        pace->urgent_ns = now_ns;
    }
    if (pace->following && acked >= pace->end) {
        sample(pace, now_ns, acked);
    }
    if (now_ns - pace->urgent_ns >= URGENT_NS) {
        pace->window = UINT64_MAX;
        return;
    }
    if (!was_limited) {
        pace->trip_ns[0] = UINT64_MAX; /* what was measured includes all that was under way */
    }
    if (!was_limited || now_ns - pace->trip_since_ns >= TRIP_NS) {
        empty(pace, now_ns);
    }
    pace->window = window(pace);
}
