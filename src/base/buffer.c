/* SPDX-License-Identifier: Apache-2.0
 *
 * A queue of bytes in one block.
 *
 *   bytes[0 .. head)      consumed, free
 *   bytes[head .. tail)   queued
 *   bytes[tail .. cap)    free
 *
 * Invariants: head <= tail <= cap; bytes is NULL exactly when cap is 0; an empty queue has head == tail == 0. Queued bytes are
 * moved to the front only when that costs no more than what was consumed since the last move, so a byte is moved O(1) times
 * however appends and consumes are mixed; the price is a block of at most twice the limit.
 *
 * It does not wrap around (a reader always sees one run of bytes) and is not thread safe.
 */
#include "base/buffer.h"

#include "base/alloc.h"

#include <assert.h>
#include <string.h>

#define KEEP_BYTES_MAX ((size_t)64 * 1024)
#define FIRST_BYTES ((size_t)256)

void cohorti_buffer_init(struct cohorti_buffer *b, const cohort_allocator *alloc, size_t limit)
{
    memset(b, 0, sizeof(*b));
    b->alloc = alloc;
    b->limit = limit;
}

void cohorti_buffer_deinit(struct cohorti_buffer *b)
{
    cohorti_release(b->alloc, b->bytes);
    b->bytes = NULL;
    b->head = b->tail = b->cap = 0;
}

static void move_to_front(struct cohorti_buffer *b)
{
    size_t queued = cohorti_buffer_len(b);
    if (queued > 0) {
        memmove(b->bytes, b->bytes + b->head, queued);
    }
    b->head = 0;
    b->tail = queued;
}

/* Capacity for `need` bytes, need <= limit: doubled, but no more than twice the limit, at which point moving is always cheap
 * enough (see reserve). */
static size_t grown_cap(const struct cohorti_buffer *b, size_t need)
{
    size_t cap = b->cap == 0 ? FIRST_BYTES : b->cap <= SIZE_MAX / 2 ? b->cap * 2 : SIZE_MAX;
    size_t most = b->limit <= SIZE_MAX / 2 ? b->limit * 2 : SIZE_MAX;
    if (cap > most) {
        cap = most;
    }
    return cap < need ? need : cap;
}

static bool grow(struct cohorti_buffer *b, size_t need)
{
    size_t queued = cohorti_buffer_len(b);
    size_t cap = grown_cap(b, need);
    /* A fresh block and not realloc: only what is queued is worth copying. */
    uint8_t *bytes = cohorti_alloc(b->alloc, cap);
    if (bytes == NULL) {
        return false;
    }
    if (queued > 0) {
        memcpy(bytes, b->bytes + b->head, queued);
    }
    cohorti_release(b->alloc, b->bytes);
    b->bytes = bytes;
    b->cap = cap;
    b->head = 0;
    b->tail = queued;
    return true;
}

int cohorti_buffer_reserve(struct cohorti_buffer *b, size_t len, uint8_t **out)
{
    size_t queued = cohorti_buffer_len(b);
    if (len > 0 && (queued > b->limit || len > b->limit - queued)) {
        return COHORT_EAGAIN;
    }
    if (len > b->cap - b->tail) {
        bool fits = len <= b->cap - queued;
        bool cheap = b->head >= queued;
        if (!(fits && cheap) && !grow(b, queued + len) && !fits) {
            return COHORT_ENOMEM;
        }
        if (len > b->cap - b->tail) { /* fits, and either cheap or there is no memory to grow into */
            move_to_front(b);
        }
    }
    *out = b->bytes == NULL ? NULL : b->bytes + b->tail;
    return COHORT_OK;
}

void cohorti_buffer_commit(struct cohorti_buffer *b, size_t len)
{
    assert(len <= b->cap - b->tail);
    b->tail += len;
}

int cohorti_buffer_append(struct cohorti_buffer *b, const void *bytes, size_t len)
{
    uint8_t *to;
    int rc = cohorti_buffer_reserve(b, len, &to);
    if (rc != COHORT_OK || len == 0) {
        return rc;
    }
    assert(to != NULL);
    memcpy(to, bytes, len);
    cohorti_buffer_commit(b, len);
    return COHORT_OK;
}

void cohorti_buffer_consume(struct cohorti_buffer *b, size_t len)
{
    assert(len <= cohorti_buffer_len(b));
    b->head += len;
    if (b->head < b->tail) {
        return;
    }
    b->head = b->tail = 0;
    if (b->cap > KEEP_BYTES_MAX) {
        cohorti_release(b->alloc, b->bytes);
        b->bytes = NULL;
        b->cap = 0;
    }
}
