/* SPDX-License-Identifier: Apache-2.0
 *
 * A slab that is cut counts what was taken in a number of its own, which needs no atomic addition: `live` stands at BIAS less what was let
 * go meanwhile, and is put right when the slab is full and left. Whoever brings it to 0, the thread that leaves it or one that lets go,
 * is the last to use it.
 */
#include "node/slab.h"

#include "base/alloc.h"

#include <stdalign.h>
#include <stdatomic.h>

#define BIAS (UINT32_C(1) << 31)
#define LARGE_BYTES (COHORTI_SLAB_BYTES / 4) /* gets a slab of its own: the rest of the current one would be lost */

struct cohorti_slab {
    struct cohorti_slabs *of;
    struct cohorti_slab *next;
    _Atomic uint32_t live;
    uint32_t made;
    size_t cap;
    alignas(max_align_t) uint8_t bytes[];
};

void cohorti_slabs_init(struct cohorti_slabs *s, const cohort_allocator *alloc)
{
    *s = (struct cohorti_slabs){.alloc = alloc};
    cohorti_mutex_init(&s->lock);
}

static void recycle(struct cohorti_slab *slab)
{
    struct cohorti_slabs *s = slab->of;
    cohorti_mutex_lock(&s->lock);
    bool kept = slab->cap == COHORTI_SLAB_BYTES && s->spare_count < COHORTI_SLAB_SPARES_MAX;
    if (kept) {
        slab->next = s->spare;
        s->spare = slab;
        s->spare_count++;
    }
    cohorti_mutex_unlock(&s->lock);
    if (!kept) {
        cohorti_release(s->alloc, slab);
    }
}

void cohorti_slab_release(struct cohorti_slab *slab, uint32_t count)
{
    if (atomic_fetch_sub(&slab->live, count) == count) {
        recycle(slab);
    }
}

static void leave_current(struct cohorti_slabs *s)
{
    struct cohorti_slab *slab = s->current;
    s->current = NULL;
    s->at = s->end = NULL;
    if (slab != NULL) {
        cohorti_slab_release(slab, BIAS - slab->made);
    }
}

void cohorti_slabs_deinit(struct cohorti_slabs *s)
{
    leave_current(s);
    while (s->spare != NULL) {
        struct cohorti_slab *slab = s->spare;
        s->spare = slab->next;
        cohorti_release(s->alloc, slab);
    }
    cohorti_mutex_deinit(&s->lock);
}

static struct cohorti_slab *new_slab(struct cohorti_slabs *s, size_t cap)
{
    struct cohorti_slab *slab = NULL;
    if (cap == COHORTI_SLAB_BYTES) {
        cohorti_mutex_lock(&s->lock);
        slab = s->spare;
        if (slab != NULL) {
            s->spare = slab->next;
            s->spare_count--;
        }
        cohorti_mutex_unlock(&s->lock);
    }
    if (slab == NULL) {
        slab = cohorti_alloc(s->alloc, sizeof *slab + cap);
    }
    if (slab != NULL) {
        slab->of = s;
        slab->cap = cap;
        slab->made = 0;
        atomic_init(&slab->live, BIAS);
    }
    return slab;
}

static bool begin_next(struct cohorti_slabs *s)
{
    struct cohorti_slab *next = new_slab(s, COHORTI_SLAB_BYTES);
    if (next == NULL) {
        return false;
    }
    leave_current(s);
    s->current = next;
    s->at = next->bytes;
    s->end = next->bytes + next->cap;
    return true;
}

void *cohorti_slab_take(struct cohorti_slabs *s, size_t len, struct cohorti_slab **slab)
{
    size_t size = cohorti_round_up(len, COHORTI_SLAB_STEP);
    size_t skip = cohorti_round_up((uintptr_t)s->at, alignof(max_align_t)) - (uintptr_t)s->at;
    if (size > LARGE_BYTES) {
        *slab = new_slab(s, size);
        if (*slab == NULL) {
            return NULL;
        }
        atomic_store(&(*slab)->live, 1);
        return (*slab)->bytes;
    }
    if (s->current == NULL || skip + size > (size_t)(s->end - s->at)) {
        if (!begin_next(s)) {
            return NULL;
        }
        skip = 0;
    }
    uint8_t *at = s->at + skip;
    s->at = at + size;
    s->current->made++;
    *slab = s->current;
    return at;
}
