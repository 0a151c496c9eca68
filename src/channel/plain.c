/* SPDX-License-Identifier: Apache-2.0
 * The identity: what the 2014 wire is. */
#include "channel/channel.h"

static int received(struct cohorti_channel *ch, const uint8_t *wire, size_t len, const uint8_t **plain, size_t *plain_len)
{
    *plain = wire;
    *plain_len = len;
    return COHORT_OK;
}

static int to_write(struct cohorti_channel *ch, const uint8_t *plain, size_t len, const uint8_t **wire, size_t *wire_len)
{
    *wire = plain;
    *wire_len = len;
    return COHORT_OK;
}

static size_t written(struct cohorti_channel *ch, size_t n)
{
    return n;
}

static const struct cohorti_channel_ops plain_ops = {.received = received, .to_write = to_write, .written = written};

struct cohorti_channel cohorti_channel_plain = {.ops = &plain_ops};
