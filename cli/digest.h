/* SPDX-License-Identifier: Apache-2.0
 *
 * SHA-256 as text, so that what was sent and what was saved can be compared with each other, and with sha256sum(1). The hash is nettle's.
 */
#ifndef COHORT_CLI_DIGEST_H
#define COHORT_CLI_DIGEST_H

#include <nettle/base16.h>
#include <nettle/sha2.h>

enum {
    DIGEST_TEXT_BYTES = BASE16_ENCODE_LENGTH(SHA256_DIGEST_SIZE) + 1
};

/** In hexadecimal. */
static inline void digest_text(struct sha256_ctx *hash, char out[DIGEST_TEXT_BYTES])
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_digest(hash, sizeof digest, digest);
    base16_encode_update(out, sizeof digest, digest);
    out[DIGEST_TEXT_BYTES - 1] = '\0';
}

#endif
