/* SPDX-License-Identifier: Apache-2.0
 *
 * slab: memory for what one thread makes in order and others let go soon after, in about that order: entries of queues. It is cut
 * from pieces of COHORTI_SLAB_BYTES; a piece serves again when the last of it was let go. So hundreds of small entries cost one
 * allocation, and they lie one behind the other, where whoever reads them expects them. What was taken last can grow.
 */
#ifndef COHORTI_SLAB_H
#define COHORTI_SLAB_H

#include "io/sync.h"

#include <cohort/types.h>
#include <stddef.h>
#include <stdint.h>

#define COHORTI_SLAB_BYTES ((size_t)64 * 1024 - 64)
#define COHORTI_SLAB_SPARES_MAX 64 /* kept by one loop: as much as the window of a member */
#define COHORTI_SLAB_STEP ((size_t)8)

/** The next multiple of `step`, a power of two. */
static inline size_t cohorti_round_up(size_t n, size_t step)
{
    return (n + step - 1) & ~(step - 1);
}

struct cohorti_slab;

struct cohorti_slabs {
    const cohort_allocator *alloc;
    struct cohorti_slab *current; /* cut from now, as the next two; of the one thread that takes */
    uint8_t *at, *end;            /* what is left of it */
    struct cohorti_mutex lock;
    struct cohorti_slab *spare; /* under lock */
    uint32_t spare_count;
};

void cohorti_slabs_init(struct cohorti_slabs *s, const cohort_allocator *alloc);
/** All was let go. */
void cohorti_slabs_deinit(struct cohorti_slabs *s);
/** `len` bytes, aligned for anything, and the slab to let go of them. NULL: no memory. One thread. */
void *cohorti_slab_take(struct cohorti_slabs *s, size_t len, struct cohorti_slab **slab);
/** `len` bytes more, a multiple of COHORTI_SLAB_STEP, of what was taken last and ends at `end`; NULL: it is not the last, or there is no room. */
static inline void *cohorti_slab_extend(struct cohorti_slabs *s, const void *end, size_t len)
{
    uint8_t *at = s->at;
    if (at != end || len > (size_t)(s->end - at)) {
        return NULL;
    }
    s->at = at + len;
    return at;
}
/** `count` of what was taken from this slab are not used any more. Any thread. */
void cohorti_slab_release(struct cohorti_slab *slab, uint32_t count);

#endif
