/* SPDX-License-Identifier: Apache-2.0
 * A ring that grows only in reserve(). */
#include "core/effects.h"

#include "base/alloc.h"

#include <assert.h>
#include <string.h>

void cohorti_effects_init(struct cohorti_effects *e, const cohort_allocator *alloc)
{
    memset(e, 0, sizeof *e);
    e->alloc = alloc;
}

void cohorti_effects_deinit(struct cohorti_effects *e)
{
    cohorti_release(e->alloc, e->ring);
    memset(e, 0, sizeof *e);
}

int cohorti_effects_reserve(struct cohorti_effects *e, size_t more)
{
    if (e->count + more <= e->cap) {
        return COHORT_OK;
    }
    size_t cap = e->cap == 0 ? 64 : e->cap;
    while (cap < e->count + more) {
        cap *= 2;
    }
    struct cohorti_effect *ring = cohorti_alloc(e->alloc, cap * sizeof *ring);
    if (ring == NULL) {
        return COHORT_ENOMEM;
    }
    for (size_t i = 0; i < e->count; i++) {
        ring[i] = e->ring[(e->head + i) % e->cap];
    }
    cohorti_release(e->alloc, e->ring);
    e->ring = ring;
    e->cap = cap;
    e->head = 0;
    return COHORT_OK;
}

void cohorti_effects_shrink(struct cohorti_effects *e, size_t more)
{
    if (e->count > 0 || e->cap / 8 < more) {
        return;
    }
    struct cohorti_effects small;
    cohorti_effects_init(&small, e->alloc);
    if (cohorti_effects_reserve(&small, more) == COHORT_OK) {
        cohorti_release(e->alloc, e->ring);
        *e = small;
    }
}

struct cohorti_effect *cohorti_effects_push(struct cohorti_effects *e, enum cohorti_effect_type type, uint64_t link)
{
    assert(e->count < e->cap);
    struct cohorti_effect *effect = &e->ring[(e->head + e->count) % e->cap];
    e->count++;
    memset(effect, 0, sizeof *effect);
    effect->type = type;
    effect->link = link;
    return effect;
}

bool cohorti_effects_pop(struct cohorti_effects *e, struct cohorti_effect *out)
{
    if (e->count == 0) {
        return false;
    }
    *out = e->ring[e->head];
    e->count--;
    e->head = e->count == 0 ? 0 : (e->head + 1) % e->cap; /* an empty ring begins anew: its first slots are the warm ones */
    return true;
}
