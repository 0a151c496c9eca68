/* SPDX-License-Identifier: Apache-2.0
 * A queue of bytes in one block of memory: appended at the tail, consumed at the head, grown up to a limit, given back when
 * empty and large. */
#ifndef COHORTI_BUFFER_H
#define COHORTI_BUFFER_H

#include <cohort/error.h>
#include <cohort/types.h>

struct cohorti_buffer {
    const cohort_allocator *alloc;
    uint8_t *bytes;
    size_t head, tail, cap;
    size_t limit; /* of queued bytes */
};

void cohorti_buffer_init(struct cohorti_buffer *b, const cohort_allocator *alloc, size_t limit);
void cohorti_buffer_deinit(struct cohorti_buffer *b);

static inline size_t cohorti_buffer_len(const struct cohorti_buffer *b)
{
    return b->tail - b->head;
}

/** The queued bytes; NULL may stand for none. */
static inline const uint8_t *cohorti_buffer_data(const struct cohorti_buffer *b)
{
    return b->bytes == NULL ? NULL : b->bytes + b->head;
}

/**
 * Make room for `len` bytes at the tail and return where they go in *out; they count once committed.
 * COHORT_EAGAIN: it would exceed the limit. COHORT_ENOMEM. Nothing changed in both cases. len may be 0 (*out may then be NULL).
 */
COHORT_NODISCARD int cohorti_buffer_reserve(struct cohorti_buffer *b, size_t len, uint8_t **out);
void cohorti_buffer_commit(struct cohorti_buffer *b, size_t len);
/** reserve, copy, commit. */
COHORT_NODISCARD int cohorti_buffer_append(struct cohorti_buffer *b, const void *bytes, size_t len);
/** Drop `len` bytes at the head; len <= cohorti_buffer_len(). An emptied block of more than 64 KiB is given back. */
void cohorti_buffer_consume(struct cohorti_buffer *b, size_t len);

#endif
