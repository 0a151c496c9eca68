/* SPDX-License-Identifier: Apache-2.0
 * Seeded integer pseudo-random numbers for jitter and simulation; never for secrets.
 * xoshiro256** 1.0 (Blackman, Vigna), state filled by splitmix64. */
#ifndef COHORTI_PRNG_H
#define COHORTI_PRNG_H

#include <stdint.h>

struct cohorti_prng {
    uint64_t s[4];
};

void cohorti_prng_init(struct cohorti_prng *p, uint64_t seed);
uint64_t cohorti_prng_next(struct cohorti_prng *p);
/** Uniform in [0, bound), without modulo bias; 0 when bound is 0. */
uint64_t cohorti_prng_below(struct cohorti_prng *p, uint64_t bound);

#endif
