/* SPDX-License-Identifier: Apache-2.0
 *
 * xoshiro256** 1.0 with its state filled by splitmix64, both in the public domain (Blackman, Vigna, prng.di.unimi.it). Integers
 * only, so that a seed gives the same numbers on every machine. Predictable by design: never for secrets.
 */
#include "base/prng.h"

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void cohorti_prng_init(struct cohorti_prng *p, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        p->s[i] = splitmix64(&seed);
    }
}

static uint64_t rotate_left(uint64_t v, int bits)
{
    return v << bits | v >> (64 - bits);
}

uint64_t cohorti_prng_next(struct cohorti_prng *p)
{
    uint64_t *s = p->s;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t cohorti_prng_below(struct cohorti_prng *p, uint64_t bound)
{
    if (bound == 0) {
        return 0;
    }
    /* 2^64 mod bound numbers at the bottom would be one too many for some remainders; draw again on those. */
    uint64_t excess = (UINT64_C(0) - bound) % bound;
    uint64_t v;
    do {
        v = cohorti_prng_next(p);
    } while (v < excess);
    return v % bound;
}
