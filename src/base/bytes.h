/* SPDX-License-Identifier: Apache-2.0
 * A run of bytes that belongs to somebody else, and room for one. */
#ifndef COHORTI_BYTES_H
#define COHORTI_BYTES_H

#include <stddef.h>
#include <stdint.h>

struct cohorti_bytes {
    const uint8_t *at;
    size_t len;
};

struct cohorti_room {
    uint8_t *at;
    size_t len;
};

#endif
