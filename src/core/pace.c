/* SPDX-License-Identifier: Apache-2.0
 *
 * A window is what the path carries in the time that a frame takes when nothing is before it, and a quarter more. So frames take a quarter
 * longer than that, which is what an urgent message may have to wait for; and a path that has become faster is noticed, since they take less, and
 * the window grows until they do not.
 *
 * That time is measured under the least window, which stands for a moment now and then: some round trips, or one or two on a long path. It
 * is what it is in the middle, wake-ups of both ends included: with a window for the shortest that was ever seen, a path would stand idle whose ends
 * need longer most of the time. It is measured again soon after the beginning, when memory and caches are cold.
 */
#include "core/pace.h"

#define URGENT_NS (UINT64_C(1000) * 1000000) /* after the last urgent message the window stays for so long */
#define EMPTY_NS UINT64_C(5000000) /* the window is at its least for so long after the first write that was followed under it */
#define EVERY_NS_MIN \
    (UINT64_C(50) * 1000000) /* how soon after it began it is at its least again: this, and then each time twice as much, */
#define EVERY_NS_MAX (UINT64_C(5000) * 1000000) /* up to this */
#define FRAME_BYTES (UINT64_C(64) * 1024)       /* of the largest, about */

void cohorti_pace_init(struct cohorti_pace *pace)
{
    *pace = (struct cohorti_pace){.window = UINT64_MAX};
}

void cohorti_pace_written(struct cohorti_pace *pace, uint64_t begun_ns, uint64_t sent, uint64_t acked, bool more)
{
    if (!pace->following && sent > acked) {
        pace->following = true;
        pace->had_more = more;
        pace->end = sent;
        pace->acked = acked;
        pace->written_ns = begun_ns;
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

/* A low rate says nothing of the path while it was not the window that limited it: the application had no more, or the window is at its least. */
static void add_rate(struct cohorti_pace *pace, uint64_t rate)
{
    bool full = pace->had_more && !pace->emptying;
    if (pace->rate == 0) {
        pace->rate = rate;
    } else if (full || rate > pace->rate) {
        pace->rate = pace->rate - pace->rate / 4 + rate / 4;
    }
}

/* The middle one of those kept, which are sorted for it. */
static uint64_t middle(struct cohorti_pace *pace)
{
    uint32_t count = (uint32_t)smaller(pace->trip_count, COHORTI_PACE_TRIPS), *at = pace->trips_ns;
    for (uint32_t i = 1; i < count; i++) {
        for (uint32_t j = i; j > 0 && at[j - 1] > at[j]; j--) {
            uint32_t longer = at[j - 1];
            at[j - 1] = at[j];
            at[j] = longer;
        }
    }
    return at[(count - 1) / 2];
}

static void sample(struct cohorti_pace *pace, uint64_t now_ns, uint64_t acked)
{
    uint64_t took_ns = larger(now_ns - pace->written_ns, 1000);
    uint64_t under_way = pace->end - pace->acked;
    bool alone = under_way <= COHORTI_PACE_BYTES_MIN + FRAME_BYTES;
    pace->following = false;
    add_rate(pace, (acked - pace->acked) * 1000 / (took_ns / 1000) * 1000); /* what was under way was delivered meanwhile */
    if (!pace->emptying || !alone) {
        return;
    }
    if (pace->trip_count == 0) {
        pace->empty_until_ns = now_ns + EMPTY_NS; /* from the first on: it may have met what is not there any more */
    }
    pace->trips_ns[pace->trip_count++ % COHORTI_PACE_TRIPS] = (uint32_t)smaller(took_ns, UINT32_MAX);
    if (now_ns >= pace->empty_until_ns) {
        pace->emptying = false;
        pace->trip_ns = middle(pace);
        pace->empty_due_ns = now_ns + pace->empty_every_ns;
        pace->empty_every_ns = smaller(pace->empty_every_ns * 2, EVERY_NS_MAX);
    }
}

static void empty(struct cohorti_pace *pace)
{
    pace->emptying = true;
    pace->trip_count = 0;
}

static uint64_t window(const struct cohorti_pace *pace)
{
    if (pace->emptying) {
        return COHORTI_PACE_BYTES_MIN;
    }
    uint64_t bytes = pace->rate / 1000 * (pace->trip_ns / 1000) / 1000;
    return larger(bytes + bytes / 4, COHORTI_PACE_BYTES_MIN);
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
        pace->empty_every_ns = EVERY_NS_MIN;
    }
    if (!was_limited || (!pace->emptying && now_ns >= pace->empty_due_ns)) {
        empty(pace);
    }
    pace->window = window(pace);
}
