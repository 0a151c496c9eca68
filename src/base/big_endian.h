/* SPDX-License-Identifier: Apache-2.0
 * Big-endian numbers at any address, unchecked. One load or store each: of shifts, which say the same, the compiler makes thirty
 * instructions where two numbers follow each other, and that once for every frame. */
#ifndef COHORTI_BIG_ENDIAN_H
#define COHORTI_BIG_ENDIAN_H

#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define COHORTI_TO_BIG_32(v) __builtin_bswap32(v)
#define COHORTI_TO_BIG_64(v) __builtin_bswap64(v)
#else
#define COHORTI_TO_BIG_32(v) (v)
#define COHORTI_TO_BIG_64(v) (v)
#endif

static inline uint32_t cohorti_load_u32(const uint8_t *at)
{
    uint32_t v;
    memcpy(&v, at, sizeof v);
    return COHORTI_TO_BIG_32(v);
}

static inline uint64_t cohorti_load_u64(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof v);
    return COHORTI_TO_BIG_64(v);
}

static inline void cohorti_store_u32(uint8_t *at, uint32_t v)
{
    v = COHORTI_TO_BIG_32(v);
    memcpy(at, &v, sizeof v);
}

static inline void cohorti_store_u64(uint8_t *at, uint64_t v)
{
    v = COHORTI_TO_BIG_64(v);
    memcpy(at, &v, sizeof v);
}

#endif
