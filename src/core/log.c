/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks in a list, oldest first. A block grows with what is outstanding: an idle lane holds none or a small one, a busy one blocks
 * of block_bytes_max. Blocks that were acknowledged serve again, so a lane that fills and empties again and again allocates nothing. Those
 * that were not needed between two calls of rest() go, by and by: what is held is what was outstanding at the most a moment ago.
 * Rejected: to free them when the lane is empty, which a lane of small requests is at every acknowledgement. It knows nothing of frames
 * but that a reservation is never split. A block with a tail in a body is small, and is made and freed each time.
 */
#include "core/log.h"

#include "base/alloc.h"

#include <assert.h>
#include <string.h>

#define BLOCK_BYTES_MIN ((size_t)2 * 1024 - 64)
#define CACHE_LINE_BYTES ((size_t)64)

void cohorti_log_init(struct cohorti_log *log, const cohort_allocator *alloc, size_t block_bytes_max)
{
    memset(log, 0, sizeof *log);
    log->alloc = alloc;
    log->block_bytes_max = block_bytes_max;
}

static uint64_t end_of(const struct cohorti_block *block)
{
    return block->offset + block->len + block->tail_len;
}

/* ---- bodies -------------------------------------------------------------------------------------------------------- */

void cohorti_body_init(struct cohorti_body *body, const void *data, size_t len, void (*release)(struct cohorti_body *body))
{
    *body = (struct cohorti_body){.data = data, .len = len, .release = release};
    atomic_init(&body->refs, 1);
}

static void body_ref(struct cohorti_body *body)
{
    if (body != NULL) {
        atomic_fetch_add_explicit(&body->refs, 1, memory_order_relaxed);
    }
}

bool cohorti_body_unref(struct cohorti_body *body)
{
    return atomic_fetch_sub_explicit(&body->refs, 1, memory_order_acq_rel) == 1;
}

static void drop_tail(struct cohorti_log *log, struct cohorti_block *block)
{
    struct cohorti_body *body = block->body;
    block->body = NULL;
    block->tail = NULL;
    block->tail_len = 0;
    if (body != NULL && cohorti_body_unref(body)) {
        body->next = log->unreferenced;
        log->unreferenced = body;
    }
}

struct cohorti_body *cohorti_log_take_unreferenced(struct cohorti_log *log)
{
    struct cohorti_body *bodies = log->unreferenced;
    log->unreferenced = NULL;
    return bodies;
}

void cohorti_bodies_release(struct cohorti_body *bodies)
{
    while (bodies != NULL) {
        struct cohorti_body *next = bodies->next;
        bodies->release(bodies);
        bodies = next;
    }
}

/* ---- the end ------------------------------------------------------------------------------------------------------- */

static void free_list(struct cohorti_log *log, struct cohorti_block *block)
{
    while (block != NULL) {
        struct cohorti_block *next = block->next;
        drop_tail(log, block);
        cohorti_release(log->alloc, block);
        block = next;
    }
}

void cohorti_log_deinit(struct cohorti_log *log)
{
    free_list(log, log->first);
    free_list(log, log->spare);
    cohorti_bodies_release(cohorti_log_take_unreferenced(log));
    cohorti_log_init(log, log->alloc, log->block_bytes_max);
}

/* ---- appending ----------------------------------------------------------------------------------------------------- */

static size_t block_size(const struct cohorti_log *log, size_t need)
{
    size_t cap = cohorti_log_len(log);
    cap = cap < BLOCK_BYTES_MIN ? BLOCK_BYTES_MIN : cap > log->block_bytes_max ? log->block_bytes_max : cap;
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

static struct cohorti_block *alloc_block(const struct cohorti_log *log, size_t cap)
{
    struct cohorti_block *block = cohorti_alloc(log->alloc, sizeof *block + cap);
    if (block != NULL) {
        *block = (struct cohorti_block){.cap = cap};
    }
    return block;
}

static void append_block(struct cohorti_log *log, struct cohorti_block *block)
{
    block->next = NULL;
    block->len = 0;
    block->offset = log->appended;
    if (log->last == NULL) {
        log->first = block;
    } else {
        log->last->next = block;
    }
    log->last = block;
}

static struct cohorti_block *new_block(struct cohorti_log *log, size_t need)
{
    size_t cap = block_size(log, need);
    struct cohorti_block *block = take_spare(log);
    if (block != NULL && (block->cap < need || block->cap < cap / 2)) { /* else they would stay small: each is a run to write */
        cohorti_release(log->alloc, block);
        block = NULL;
    }
    return block != NULL ? block : alloc_block(log, cap);
}

int cohorti_log_reserve(struct cohorti_log *log, size_t len, uint8_t **out)
{
    struct cohorti_block *last = log->last;
    if (last == NULL || last->tail_len > 0 || len > last->cap - last->len) {
        last = new_block(log, len);
        if (last == NULL) {
            return COHORT_ENOMEM;
        }
        append_block(log, last);
    }
    *out = last->bytes + last->len;
    return COHORT_OK;
}

static void count(struct cohorti_log *log, size_t len)
{
    if (log->sending == NULL && len > 0) {
        log->sending = log->last; /* `sent` is at its end, or it is new */
    }
    log->appended += len;
}

/* Where the next small frame will be written is in no cache when much is under way. Who broadcasts writes to other logs meanwhile, and would wait for it
 * at the end, when the lock is given back. */
static void fetch_next(const struct cohorti_block *last)
{
    if (last->cap - last->len > 3 * CACHE_LINE_BYTES) {
        __builtin_prefetch(last->bytes + last->len + CACHE_LINE_BYTES, 1);
        __builtin_prefetch(last->bytes + last->len + 2 * CACHE_LINE_BYTES, 1);
    }
}

void cohorti_log_commit(struct cohorti_log *log, size_t len)
{
    struct cohorti_block *last = log->last;
    assert(len <= last->cap - last->len && last->tail_len == 0);
    last->len += len;
    count(log, len);
    fetch_next(last);
}

int cohorti_log_append_reference(struct cohorti_log *log, size_t head_len, struct cohorti_body *body, const uint8_t *tail,
                                 size_t tail_len, uint8_t **out)
{
    assert(head_len <= COHORTI_LOG_HEAD_BYTES_MAX && tail_len > 0);
    struct cohorti_block *block = alloc_block(log, COHORTI_LOG_HEAD_BYTES_MAX);
    if (block == NULL) {
        return COHORT_ENOMEM;
    }
    append_block(log, block);
    body_ref(body);
    block->len = head_len;
    block->body = body;
    block->tail = tail;
    block->tail_len = tail_len;
    count(log, head_len + tail_len);
    *out = block->bytes;
    return COHORT_OK;
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
        if (offset < end_of(block)) {
            drop_tail(log, block);
            block->len = (size_t)(offset - block->offset);
        }
        log->last = block;
    }
    log->appended = offset;
    if (log->sent == offset) {
        log->sending = NULL;
    }
}

void cohorti_log_compact(struct cohorti_log *log, uint64_t offset,
                         size_t (*keep)(void *ctx, uint8_t *bytes, size_t len, size_t tail_len), void *ctx)
{
    assert(offset >= log->sent && offset <= log->appended);
    uint64_t next = 0;
    bool moving = false; /* from the block that holds `offset` on */
    for (struct cohorti_block *block = log->first; block != NULL; block = block->next) {
        if (end_of(block) > offset || moving) {
            size_t begin = !moving && offset > block->offset ? (size_t)(offset - block->offset) : 0;
            block->offset = moving ? next : block->offset;
            moving = true;
            block->len = begin + keep(ctx, block->bytes + begin, block->len - begin, block->tail_len);
            if (block->len == 0) {
                drop_tail(log, block);
            }
            next = end_of(block);
        }
    }
    log->appended = moving ? next : log->appended;
    cohorti_log_rewind(log, log->sent);
}

/* ---- sending ------------------------------------------------------------------------------------------------------- */

size_t cohorti_log_peek(const struct cohorti_log *log, size_t skip, const uint8_t **out, bool *more)
{
    const struct cohorti_block *block = log->sending;
    uint64_t at = log->sent + skip;
    *more = false;
    while (block != NULL && at >= end_of(block)) {
        block = block->next;
    }
    if (block == NULL) {
        return 0;
    }
    size_t in_block = (size_t)(at - block->offset);
    if (in_block >= block->len) {
        *out = block->tail + (in_block - block->len);
        return block->len + block->tail_len - in_block;
    }
    *out = block->bytes + in_block;
    *more = block->tail_len > 0;
    return block->len - in_block;
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
    if (block->cap <= COHORTI_LOG_HEAD_BYTES_MAX || block->cap < block_size(log, 0) / 2) { /* it would not serve */
        drop_tail(log, block);
        cohorti_release(log->alloc, block);
        return;
    }
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
    if (log->last != NULL && log->last->tail_len > 0 && end_of(log->last) <= offset) {
        retire(log, log->last);
        log->first = log->last = log->sending = NULL;
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

/* A small block stays, so that a quiet exchange allocates nothing. Before the last there may be others: what was withdrawn leaves them empty. */
static void drop_large(struct cohorti_log *log)
{
    if (is_large_and_empty(log)) {
        free_list(log, log->first);
        log->first = log->last = log->sending = NULL;
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

struct cohorti_block *cohorti_log_block(const struct cohorti_log *log, struct cohorti_block *from, uint64_t offset)
{
    struct cohorti_block *block = from == NULL ? log->first : from;
    while (block != NULL && offset >= end_of(block)) {
        block = block->next;
    }
    return block;
}
