/* SPDX-License-Identifier: Apache-2.0
 * SHA-256 (FIPS 180-4), so that what was sent and what was saved can be compared with each other, and with sha256sum(1). */
#ifndef COHORT_CLI_SHA256_H
#define COHORT_CLI_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum {
    SHA256_TEXT_BYTES = 65
};

struct sha256 {
    uint32_t state[8];
    uint64_t len;
    uint8_t block[64];
};

void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *bytes, size_t len);
/** In hexadecimal. */
void sha256_text(struct sha256 *s, char out[SHA256_TEXT_BYTES]);

#endif
