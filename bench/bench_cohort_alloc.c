/* SPDX-License-Identifier: Apache-2.0
 *
 * Counts what this process allocates, in the library, in what the library uses, and here: the C library's functions, taken over by
 * definitions of the program. Only the cohort program has this: nothing is counted where nothing is allocated, but a peer that
 * allocates for each message would pay for the counting.
 */
#include "bench_cohort.h"

#include <errno.h>
#include <stdlib.h>

#ifdef __GLIBC__

#define SEEN __attribute__((visibility("default")))

/* What the functions of the C library are called besides. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *ptr, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static _Atomic uint64_t allocations;

static void count(void)
{
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
}

SEEN void *malloc(size_t size)
{
    count();
    return __libc_malloc(size);
}

SEEN void *calloc(size_t n, size_t size)
{
    count();
    return __libc_calloc(n, size);
}

SEEN void *realloc(void *ptr, size_t size)
{
    count();
    return __libc_realloc(ptr, size);
}

SEEN void *aligned_alloc(size_t alignment, size_t size)
{
    count();
    return __libc_memalign(alignment, size);
}

SEEN int posix_memalign(void **out, size_t alignment, size_t size)
{
    count();
    *out = __libc_memalign(alignment, size);
    return *out == NULL ? ENOMEM : 0;
}

static uint64_t counted(void)
{
    return atomic_load_explicit(&allocations, memory_order_relaxed);
}

void bench_count_allocations(void)
{
    bench_allocations = counted;
}

#else

void bench_count_allocations(void)
{
}

#endif
