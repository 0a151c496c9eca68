/* SPDX-License-Identifier: Apache-2.0
 *
 * pool: memory for simulated clusters. A thousand nodes hold some ten million small blocks and visit them in no order, so that
 * finding pages costs more than the work: blocks are cut from few large pieces that may lie in huge pages, and are given back only
 * with the pool. Under AddressSanitizer every block is one of malloc, so that it is watched.
 */
#ifndef COHORTI_SIM_POOL_H
#define COHORTI_SIM_POOL_H

#include <stddef.h>

#define POOL_STEP 16
#define POOL_BLOCK_BYTES_MAX 2048 /* larger ones are malloc's */

struct pool_chunk;

struct pool {
    struct pool_chunk *chunks;
    char *at, *end;     /* what is not cut yet of the newest */
    size_t chunk_bytes; /* of the next */
    struct pool_free {
        struct pool_free *next;
    } * free[POOL_BLOCK_BYTES_MAX / POOL_STEP + 1];
};

void pool_init(struct pool *p);
/** Every block is gone with it. */
void pool_deinit(struct pool *p);
/** Aligned to 16; NULL without memory. size > 0. */
void *pool_take(struct pool *p, size_t size);
/** `size` as it was taken with. */
void pool_give(struct pool *p, void *block, size_t size);

#endif
