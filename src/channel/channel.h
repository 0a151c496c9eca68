/* SPDX-License-Identifier: Apache-2.0
 *
 * channel: what stands between the bytes of a link and those of its socket. Plain hands both through untouched; an encrypting one
 * keeps its records here. No I/O: the shell moves the bytes.
 */
#ifndef COHORTI_CHANNEL_H
#define COHORTI_CHANNEL_H

#include "base/bytes.h"

#include <cohort/error.h>
#include <stdbool.h>

struct cohorti_channel;

struct cohorti_channel_ops {
    /* Bytes came from the socket. *plain are the link's bytes among them (perhaps none), valid until the next call. A LINK error:
     * the peer does not speak this channel. */
    int (*received)(struct cohorti_channel *ch, const uint8_t *wire, size_t len, const uint8_t **plain, size_t *plain_len);
    /* The link has `count` runs of bytes to send, one after the other. `wire` has room for as many: what to write to the socket now,
     * valid until written(). */
    int (*to_write)(struct cohorti_channel *ch, const struct cohorti_bytes *plain, size_t count, struct cohorti_bytes *wire,
                    size_t *wire_count);
    /* `n` of the bytes given last were written. Returns how many of the link's bytes that completes. */
    size_t (*written)(struct cohorti_channel *ch, size_t n);
    bool transparent; /* the socket's bytes are the link's: they may be read to where they belong, and received() not be told */
};

struct cohorti_channel {
    const struct cohorti_channel_ops *ops;
};

/** The channel that changes nothing. It has no state: one serves every link. */
extern struct cohorti_channel cohorti_channel_plain;

#endif
