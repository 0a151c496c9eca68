/* SPDX-License-Identifier: Apache-2.0
 *
 * quota: what all lanes of a node may hold together, counted in one number that every thread adds to.
 *
 * It is told of each outbound half in steps of COHORTI_QUOTA_STEP, and exactly whenever something of it was acknowledged: one
 * atomic addition for some hundred messages instead of one for each.
 *
 * A lane that holds no more than COHORTI_QUOTA_RESERVE is never refused. So members that are slow or away, and use the quota up, slow
 * the others but do not stop them; and whoever was refused holds something, whose acknowledgement will tell that there is room.
 */
#ifndef COHORTI_CORE_QUOTA_H
#define COHORTI_CORE_QUOTA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COHORTI_QUOTA_STEP ((size_t)16 * 1024)
#define COHORTI_QUOTA_RESERVE ((size_t)64 * 1024)

struct cohorti_quota {
    uint64_t max;
    _Atomic uint64_t used;
    _Atomic bool refused; /* somebody, since it was last asked whether there is room */
};

/* What one outbound half has of it. Under the lock of that half. */
struct cohorti_quota_share {
    struct cohorti_quota *of; /* NULL: nothing bounds it */
    uint64_t counted;
    size_t uncounted; /* appended since */
};

/** It holds `len` bytes now. */
static inline void cohorti_quota_count(struct cohorti_quota_share *share, uint64_t len)
{
    if (share->of != NULL && len != share->counted) {
        atomic_fetch_add(&share->of->used, len - share->counted); /* wraps for less */
        share->counted = len;
    }
    share->uncounted = 0;
}

/** Is there room for a lane that was refused? If not, as when what it holds itself was counted only now, it is told later. */
static inline bool cohorti_quota_has_room(const struct cohorti_quota_share *share)
{
    struct cohorti_quota *quota = share->of;
    if (quota == NULL || atomic_load(&quota->used) <= quota->max / 2) {
        return true;
    }
    atomic_store(&quota->refused, true);
    return atomic_load(&quota->used) <= quota->max / 2; /* again, as in refuses() */
}

/** Are `need` bytes more, for a lane that holds `held`, too much? Who is refused is told when there is room. */
static inline bool cohorti_quota_refuses(const struct cohorti_quota_share *share, uint64_t held, uint64_t need)
{
    struct cohorti_quota *quota = share->of;
    if (quota == NULL || held <= COHORTI_QUOTA_RESERVE ||
        atomic_load_explicit(&quota->used, memory_order_relaxed) + need <= quota->max) {
        return false;
    }
    atomic_store(&quota->refused, true);
    return atomic_load(&quota->used) + need > quota->max; /* again: who made room before saw nobody refused */
}

/** There is room, and somebody was refused since the last time: once. Ask after count(). */
static inline bool cohorti_quota_take_room(struct cohorti_quota *quota)
{
    return atomic_load(&quota->refused) && atomic_load(&quota->used) <= quota->max / 2 && atomic_exchange(&quota->refused, false);
}

#endif
