/* SPDX-License-Identifier: Apache-2.0
 * The allocator every layer is handed: cohort_allocator with the argument order of malloc. No default lives here. */
#ifndef COHORTI_ALLOC_H
#define COHORTI_ALLOC_H

#include <cohort/types.h>

static inline void *cohorti_alloc(const cohort_allocator *a, size_t size)
{
    return a->allocate(a->ctx, size);
}

static inline void *cohorti_realloc(const cohort_allocator *a, void *ptr, size_t size)
{
    return a->reallocate(a->ctx, ptr, size);
}

static inline void cohorti_release(const cohort_allocator *a, void *ptr)
{
    if (ptr != NULL) {
        a->release(a->ctx, ptr);
    }
}

/** `size` zeroed bytes, or NULL. */
void *cohorti_alloc_zero(const cohort_allocator *a, size_t size);

#endif
