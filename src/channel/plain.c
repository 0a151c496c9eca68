/* SPDX-License-Identifier: Apache-2.0
 * The identity: what the 2014 wire is. */
#include "channel/channel.h"

#include <string.h>

static int received(struct cohorti_channel *ch, const uint8_t *wire, size_t len, const uint8_t **plain, size_t *plain_len)
{
    *plain = wire;
    *plain_len = len;
    return COHORT_OK;
}

static int to_write(struct cohorti_channel *ch, const struct cohorti_bytes *plain, size_t count, struct cohorti_bytes *wire,
                    size_t *wire_count)
{
    memcpy(wire, plain, count * sizeof *wire);
    *wire_count = count;
    return COHORT_OK;
}

static size_t written(struct cohorti_channel *ch, size_t n)
{
    return n;
}

static const struct cohorti_channel_ops plain_ops = {
    .received = received, .to_write = to_write, .written = written, .transparent = true};

struct cohorti_channel cohorti_channel_plain = {.ops = &plain_ops};
