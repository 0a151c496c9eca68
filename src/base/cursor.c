/* SPDX-License-Identifier: Apache-2.0
 *
 * Big-endian reading and writing, one field at a time, inside fixed bounds. Invariants: at <= end; once failed, a reader gives
 * zeros and a writer writes nothing, and neither moves. No alignment is assumed and no struct is ever laid over the bytes.
 */
#include "base/cursor.h"

#include "base/big_endian.h"

#include <string.h>

/* Stands for "no bytes", so that a NULL of length 0 needs no arithmetic on NULL. */
static uint8_t nothing[1];

void cohorti_reader_init(struct cohorti_reader *r, const void *bytes, size_t len)
{
    const uint8_t *start = bytes == NULL ? nothing : bytes;
    r->at = start;
    r->end = start + (bytes == NULL ? 0 : len);
    r->failed = false;
}

const uint8_t *cohorti_read_bytes(struct cohorti_reader *r, size_t len)
{
    if (r->failed || len > (size_t)(r->end - r->at)) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *bytes = r->at;
    r->at += len;
    return bytes;
}

static uint64_t read_big_endian(struct cohorti_reader *r, size_t len)
{
    const uint8_t *bytes = cohorti_read_bytes(r, len);
    uint64_t v = 0;
    for (size_t i = 0; bytes != NULL && i < len; i++) {
        v = v << 8 | bytes[i];
    }
    return v;
}

uint8_t cohorti_read_u8(struct cohorti_reader *r)
{
    return (uint8_t)read_big_endian(r, 1);
}

uint16_t cohorti_read_u16(struct cohorti_reader *r)
{
    return (uint16_t)read_big_endian(r, 2);
}

uint32_t cohorti_read_u32(struct cohorti_reader *r)
{
    const uint8_t *bytes = cohorti_read_bytes(r, 4);
    return bytes == NULL ? 0 : cohorti_load_u32(bytes);
}

uint64_t cohorti_read_u64(struct cohorti_reader *r)
{
    const uint8_t *bytes = cohorti_read_bytes(r, 8);
    return bytes == NULL ? 0 : cohorti_load_u64(bytes);
}

size_t cohorti_reader_left(const struct cohorti_reader *r)
{
    return (size_t)(r->end - r->at);
}

void cohorti_writer_init(struct cohorti_writer *w, void *bytes, size_t cap)
{
    uint8_t *start = bytes == NULL ? nothing : bytes;
    w->start = start;
    w->at = start;
    w->end = start + (bytes == NULL ? 0 : cap);
    w->failed = false;
}

/* Room for `len` bytes, or NULL and failed. */
static uint8_t *write_room(struct cohorti_writer *w, size_t len)
{
    if (w->failed || len > (size_t)(w->end - w->at)) {
        w->failed = true;
        return NULL;
    }
    uint8_t *to = w->at;
    w->at += len;
    return to;
}

static void write_big_endian(struct cohorti_writer *w, uint64_t v, size_t len)
{
    uint8_t *to = write_room(w, len);
    if (to == NULL) {
        return;
    }
    for (size_t i = len; i > 0; i--) {
        to[i - 1] = (uint8_t)v;
        v >>= 8;
    }
}

void cohorti_write_u8(struct cohorti_writer *w, uint8_t v)
{
    write_big_endian(w, v, 1);
}

void cohorti_write_u16(struct cohorti_writer *w, uint16_t v)
{
    write_big_endian(w, v, 2);
}

void cohorti_write_u32(struct cohorti_writer *w, uint32_t v)
{
    uint8_t *to = write_room(w, 4);
    if (to != NULL) {
        cohorti_store_u32(to, v);
    }
}

void cohorti_write_u64(struct cohorti_writer *w, uint64_t v)
{
    uint8_t *to = write_room(w, 8);
    if (to != NULL) {
        cohorti_store_u64(to, v);
    }
}

void cohorti_write_bytes(struct cohorti_writer *w, const void *bytes, size_t len)
{
    uint8_t *to = write_room(w, len);
    if (to != NULL && len > 0) {
        memcpy(to, bytes, len);
    }
}

size_t cohorti_writer_len(const struct cohorti_writer *w)
{
    return (size_t)(w->at - w->start);
}
