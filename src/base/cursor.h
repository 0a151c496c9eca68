/* SPDX-License-Identifier: Apache-2.0
 * Bounds-checked big-endian reading and writing. A cursor that ran out stays failed, so a whole layout is written or read
 * first and checked once. */
#ifndef COHORTI_CURSOR_H
#define COHORTI_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cohorti_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed; /* read past the end; every read since gave zero */
};

void cohorti_reader_init(struct cohorti_reader *r, const void *bytes, size_t len);
uint8_t cohorti_read_u8(struct cohorti_reader *r);
uint16_t cohorti_read_u16(struct cohorti_reader *r);
uint32_t cohorti_read_u32(struct cohorti_reader *r);
uint64_t cohorti_read_u64(struct cohorti_reader *r);
const uint8_t *cohorti_read_bytes(struct cohorti_reader *r, size_t len); /* NULL when fewer are left */
size_t cohorti_reader_left(const struct cohorti_reader *r);

struct cohorti_writer {
    uint8_t *start;
    uint8_t *at;
    uint8_t *end;
    bool failed; /* wrote past the end; nothing was written since */
};

void cohorti_writer_init(struct cohorti_writer *w, void *bytes, size_t cap);
void cohorti_write_u8(struct cohorti_writer *w, uint8_t v);
void cohorti_write_u16(struct cohorti_writer *w, uint16_t v);
void cohorti_write_u32(struct cohorti_writer *w, uint32_t v);
void cohorti_write_u64(struct cohorti_writer *w, uint64_t v);
void cohorti_write_bytes(struct cohorti_writer *w, const void *bytes, size_t len);
size_t cohorti_writer_len(const struct cohorti_writer *w);

#endif
