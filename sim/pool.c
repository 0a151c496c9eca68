/* SPDX-License-Identifier: Apache-2.0
 * A list of free blocks for each multiple of 16 bytes; no block changes its size, none is joined with another. */
#include "sim/pool.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK_FIRST_BYTES ((size_t)32 * 1024)
#define CHUNK_MAX_BYTES ((size_t)16 * 1024 * 1024)
#define HUGE_PAGE_BYTES ((size_t)2 * 1024 * 1024)

#if defined(__SANITIZE_ADDRESS__)
#define WATCHED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WATCHED 1
#endif
#endif
#ifndef WATCHED
#define WATCHED 0
#endif

struct pool_chunk {
    struct pool_chunk *next;
    uint64_t unused; /* blocks stay aligned to 16 */
};

void pool_init(struct pool *p)
{
    memset(p, 0, sizeof *p);
    p->chunk_bytes = CHUNK_FIRST_BYTES;
}

void pool_deinit(struct pool *p)
{
    while (p->chunks != NULL) {
        struct pool_chunk *chunk = p->chunks;
        p->chunks = chunk->next;
        free(chunk);
    }
}

static int more(struct pool *p)
{
    size_t size = p->chunk_bytes;
    struct pool_chunk *chunk = size < HUGE_PAGE_BYTES ? malloc(size) : aligned_alloc(HUGE_PAGE_BYTES, size);
    if (chunk == NULL) {
        return -1;
    }
#ifdef MADV_HUGEPAGE
    if (size >= HUGE_PAGE_BYTES) {
        (void)madvise(chunk, size, MADV_HUGEPAGE); /* only faster */
    }
#endif
    chunk->next = p->chunks;
    p->chunks = chunk;
    p->at = (char *)(chunk + 1);
    p->end = (char *)chunk + size;
    p->chunk_bytes = size < CHUNK_MAX_BYTES ? size * 2 : size;
    return 0;
}

static size_t rounded(size_t size)
{
    return (size + POOL_STEP - 1) / POOL_STEP * POOL_STEP;
}

void *pool_take(struct pool *p, size_t size)
{
    if (WATCHED || size > POOL_BLOCK_BYTES_MAX) {
        return malloc(size);
    }
    size = rounded(size);
    struct pool_free *block = p->free[size / POOL_STEP];
    if (block != NULL) {
        p->free[size / POOL_STEP] = block->next;
        return block;
    }
    if ((size_t)(p->end - p->at) < size && more(p) != 0) {
        return NULL;
    }
    p->at += size;
    return p->at - size;
}

void pool_give(struct pool *p, void *block, size_t size)
{
    if (WATCHED || size > POOL_BLOCK_BYTES_MAX) {
        free(block);
        return;
    }
    struct pool_free *freed = block;
    struct pool_free **head = &p->free[rounded(size) / POOL_STEP];
    freed->next = *head;
    *head = freed;
}
