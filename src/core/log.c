/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks in a list, oldest first. A block grows with what is outstanding: an idle lane holds none or a small one, a busy one blocks
 * of BLOCK_BYTES_MAX. Blocks that were acknowledged serve again, so a lane that fills and empties again and again allocates nothing. Those
 * that were not needed between two calls of rest() go, by and by: what is held is what was outstanding at the most a moment ago.
 * Rejected: to free them when the lane is empty, which a lane of small requests is at every acknowledgement. It knows nothing of frames
 * but that a reservation is never split.
 */
#include "core/log.h"

#include "base/alloc.h"

#include <assert.h>
#include <string.h>

#define BLOCK_BYTES_MAX ((size_t)64 * 1024 - 64) /* with its head and malloc's, just within 64 KiB */
#define BLOCK_BYTES_MIN ((size_t)2 * 1024 - 64)

void cohorti_log_init(struct cohorti_log *log, const cohort_allocator *alloc)
{
    memset(log, 0, sizeof *log);
    log->alloc = alloc;
}

static void free_list(struct cohorti_log *log, struct cohorti_block *block)
{
    while (block != NULL) {
        struct cohorti_block *next = block->next;
        cohorti_release(log->alloc, block);
        block = next;
    }
}

void cohorti_log_deinit(struct cohorti_log *log)
{
    free_list(log, log->first);
    free_list(log, log->spare);
    cohorti_log_init(log, log->alloc);
}

/* ---- appending ----------------------------------------------------------------------------------------------------- */

static size_t block_size(const struct cohorti_log *log, size_t need)
{
    size_t cap = cohorti_log_len(log);
    cap = cap < BLOCK_BYTES_MIN ? BLOCK_BYTES_MIN : cap > BLOCK_BYTES_MAX ? BLOCK_BYTES_MAX : cap;
    return cap < need ? need : cap;
}

static struct cohorti_block *take_spare(struct cohorti_log *log)
{
    struct cohorti_block *block = log->spare;
    if (block != NULL) {
        log->spare = block->next;
        log->spare_count--;
        log->spare_min = log->spare_count < log->spare_min ? log->spare_count : log->spare_min;
    }
    return block;
}

static struct cohorti_block *new_block(struct cohorti_log *log, size_t need)
{
    size_t cap = block_size(log, need);
    struct cohorti_block *block = take_spare(log);
    if (block != NULL && (block->cap < need || block->cap < cap / 2)) { /* else they would stay small: each is a run to write */
        cohorti_release(log->alloc, block);
        block = NULL;
    }
    if (block == NULL) {
        block = cohorti_alloc(log->alloc, sizeof *block + cap);
        if (block == NULL) {
            return NULL;
        }
        block->cap = cap;
    }
    block->next = NULL;
    block->len = 0;
    block->offset = log->appended;
    return block;
}

int cohorti_log_reserve(struct cohorti_log *log, size_t len, uint8_t **out)
{
    struct cohorti_block *last = log->last;
    if (last == NULL || len > last->cap - last->len) {
        struct cohorti_block *block = new_block(log, len);
        if (block == NULL) {
            return COHORT_ENOMEM;
        }
        if (last == NULL) {
            log->first = block;
        } else {
            last->next = block;
        }
        log->last = last = block;
    }
    *out = last->bytes + last->len;
    return COHORT_OK;
}

void cohorti_log_commit(struct cohorti_log *log, size_t len)
{
    struct cohorti_block *last = log->last;
    assert(len <= last->cap - last->len);
    if (log->sending == NULL && len > 0) {
        log->sending = last; /* `sent` is at its end, or it is new */
    }
    last->len += len;
    log->appended += len;
}

static uint64_t end_of(const struct cohorti_block *block)
{
    return block->offset + block->len;
}

void cohorti_log_truncate(struct cohorti_log *log, uint64_t offset)
{
    assert(offset >= log->sent && offset <= log->appended);
    struct cohorti_block *block = log->first;
    while (block != NULL && block->next != NULL && end_of(block) < offset) {
        block = block->next;
    }
    if (block != NULL) {
        free_list(log, block->next);
        block->next = NULL;
        block->len = (size_t)(offset - block->offset);
        log->last = block;
    }
    log->appended = offset;
    if (log->sent == offset) {
        log->sending = NULL;
    }
}

void cohorti_log_compact(struct cohorti_log *log, uint64_t offset, size_t (*keep)(void *ctx, uint8_t *bytes, size_t len), void *ctx)
{
    assert(offset >= log->sent && offset <= log->appended);
    uint64_t next = 0;
    bool moving = false; /* from the block that holds `offset` on */
    for (struct cohorti_block *block = log->first; block != NULL; block = block->next) {
        if (end_of(block) > offset || moving) {
            size_t begin = !moving && offset > block->offset ? (size_t)(offset - block->offset) : 0;
            block->offset = moving ? next : block->offset;
            moving = true;
            block->len = begin + keep(ctx, block->bytes + begin, block->len - begin);
            next = end_of(block);
        }
    }
    log->appended = moving ? next : log->appended;
    cohorti_log_rewind(log, log->sent);
}

/* ---- sending ------------------------------------------------------------------------------------------------------- */

size_t cohorti_log_peek(const struct cohorti_log *log, size_t skip, const uint8_t **out)
{
    const struct cohorti_block *block = log->sending;
    uint64_t at = log->sent + skip;
    while (block != NULL && at >= end_of(block)) {
        block = block->next;
    }
    if (block == NULL) {
        return 0;
    }
    *out = block->bytes + (at - block->offset);
    return (size_t)(end_of(block) - at);
}

static void find_sending(struct cohorti_log *log)
{
    while (log->sending != NULL && log->sent >= end_of(log->sending)) {
        log->sending = log->sending->next;
    }
}

void cohorti_log_advance(struct cohorti_log *log, size_t len)
{
    assert(len <= cohorti_log_unsent(log));
    log->sent += len;
    find_sending(log);
}

void cohorti_log_rewind(struct cohorti_log *log, uint64_t offset)
{
    assert(offset >= log->acked && offset <= log->appended);
    log->sent = offset;
    log->sending = log->first;
    find_sending(log);
}

/* ---- acknowledged -------------------------------------------------------------------------------------------------- */

static void retire(struct cohorti_log *log, struct cohorti_block *block)
{
    block->next = log->spare;
    log->spare = block;
    log->spare_count++;
}

void cohorti_log_ack(struct cohorti_log *log, uint64_t offset)
{
    assert(offset >= log->acked && offset <= log->sent);
    log->acked = offset;
    while (log->first != log->last && end_of(log->first) <= offset) {
        struct cohorti_block *block = log->first;
        log->first = block->next;
        retire(log, block);
    }
    if (log->acked == log->appended && log->last != NULL) {
        log->last->len = 0;
        log->last->offset = log->appended;
        log->sending = NULL;
    }
}

/* ---- blocks that are kept ------------------------------------------------------------------------------------------- */

static bool is_large_and_empty(const struct cohorti_log *log)
{
    return log->acked == log->appended && log->last != NULL && log->last->cap > BLOCK_BYTES_MIN;
}

bool cohorti_log_keeps(const struct cohorti_log *log)
{
    return log->spare_count > 0 || is_large_and_empty(log);
}

/* A small block stays, so that a quiet exchange allocates nothing. */
static void drop_large(struct cohorti_log *log)
{
    if (is_large_and_empty(log)) {
        cohorti_release(log->alloc, log->last);
        log->first = log->last = NULL;
    }
}

/* While the lane is in use half of what it did not need goes: how many blocks it needs varies a little, as they are not all of a size. */
bool cohorti_log_rest(struct cohorti_log *log)
{
    bool quiet = log->rested == log->appended;
    for (uint32_t unneeded = quiet ? log->spare_min : log->spare_min / 2; unneeded > 0; unneeded--) {
        cohorti_release(log->alloc, take_spare(log));
    }
    if (quiet) {
        drop_large(log);
    }
    log->spare_min = log->spare_count;
    log->rested = log->appended;
    return cohorti_log_keeps(log);
}

void cohorti_log_drop_spares(struct cohorti_log *log)
{
    free_list(log, log->spare);
    log->spare = NULL;
    log->spare_count = log->spare_min = 0;
    drop_large(log);
}

size_t cohorti_log_at(const struct cohorti_log *log, uint64_t offset, uint8_t **out)
{
    struct cohorti_block *block = log->first;
    while (block != NULL && offset >= end_of(block)) {
        block = block->next;
    }
    if (block == NULL) {
        return 0;
    }
    *out = block->bytes + (offset - block->offset);
    return (size_t)(end_of(block) - offset);
}
