/* SPDX-License-Identifier: Apache-2.0
 *
 * log: the bytes of one lane that the peer has not acknowledged. It is batch buffer, back-pressure meter and retransmit store at once.
 *
 *   acked <= sent <= appended        offsets in the lane, counted from its beginning
 *   [acked .. sent)      written to a link, kept until the peer says that it took them
 *   [sent .. appended)   not written yet
 *
 * Bytes lie in blocks, each of whole frames, so the end of a block is a place where the writer may turn to another lane. Bytes once
 * appended do not move or change, and are there until they are acknowledged, so they may be written while more are appended.
 *
 * A block may end with bytes that lie elsewhere, in a body: one frame, its head in the block and the rest of its data there. A body is
 * referred to by any number of blocks, of any number of logs, and given back when the last of them is gone.
 */
#ifndef COHORTI_CORE_LOG_H
#define COHORTI_CORE_LOG_H

#include <cohort/error.h>
#include <cohort/types.h>
#include <stdatomic.h>

/** Bytes that a log refers to instead of copying them. */
struct cohorti_body {
    struct cohorti_body *next; /* among those that nobody refers to any more */
    atomic_size_t refs;
    const uint8_t *data;
    size_t len;
    void (*release)(struct cohorti_body *body); /* called once, by cohorti_bodies_release() */
};

struct cohorti_block {
    struct cohorti_block *next;
    uint64_t offset; /* of bytes[0] in the lane */
    size_t len, cap; /* of bytes[] */
    struct cohorti_body *body;
    const uint8_t *tail; /* what follows bytes[], in `body`; then bytes[] is the head of one frame, and nothing is added */
    size_t tail_len;
    uint8_t bytes[];
};

struct cohorti_log {
    const cohort_allocator *alloc;
    size_t block_bytes_max;
    struct cohorti_block *first, *last;     /* those of [acked .. appended) */
    struct cohorti_block *sending;          /* holds `sent`; NULL when nothing is left to send */
    struct cohorti_block *spare;            /* empty ones, to serve again while the lane is busy */
    uint32_t spare_count, spare_min;        /* how many, and the fewest since the last rest() */
    struct cohorti_body *unreferenced;      /* for the owner to release, where it holds no lock */
    uint64_t acked, sent, appended, rested; /* rested: what `appended` was at the last rest() */
};

/** Blocks are no larger, but for a reservation that is. */
void cohorti_log_init(struct cohorti_log *log, const cohort_allocator *alloc, size_t block_bytes_max);
/** Bodies that nobody refers to any more are released. */
void cohorti_log_deinit(struct cohorti_log *log);

static inline size_t cohorti_log_len(const struct cohorti_log *log)
{
    return (size_t)(log->appended - log->acked);
}

static inline size_t cohorti_log_unsent(const struct cohorti_log *log)
{
    return (size_t)(log->appended - log->sent);
}

/** Where what is held begins: with a block, so with a frame, even if the peer's mark `acked` lies inside one. */
static inline uint64_t cohorti_log_begin(const struct cohorti_log *log)
{
    return log->first == NULL ? log->appended : log->first->offset;
}

/** Room for `len` bytes, which are to be whole frames, in one piece. They count once committed. COHORT_ENOMEM. */
COHORT_NODISCARD int cohorti_log_reserve(struct cohorti_log *log, size_t len, uint8_t **out);
void cohorti_log_commit(struct cohorti_log *log, size_t len);

/** What a block that ends in a body holds itself, at most. */
#define COHORTI_LOG_HEAD_BYTES_MAX 64

/** One frame: `head_len` bytes to be filled in at *out, then `tail_len` > 0 bytes of `body`, which is referred to from here on. It counts at
 * once. COHORT_ENOMEM. */
COHORT_NODISCARD int cohorti_log_append_reference(struct cohorti_log *log, size_t head_len, struct cohorti_body *body,
                                                  const uint8_t *tail, size_t tail_len, uint8_t **out);

/** Take back what was appended from `offset` on; sent <= offset <= appended. Nobody may be writing it. */
void cohorti_log_truncate(struct cohorti_log *log, uint64_t offset);

/** The run of unsent bytes that begins `skip` bytes after `sent`. 0 when there is none. *more: the next run is of the same block. */
size_t cohorti_log_peek(const struct cohorti_log *log, size_t skip, const uint8_t **out, bool *more);
/** `len` bytes from `sent` on were written. */
void cohorti_log_advance(struct cohorti_log *log, size_t len);
/** The peer took everything before `offset`; acked <= offset <= sent. */
void cohorti_log_ack(struct cohorti_log *log, uint64_t offset);
/** Called now and then while blocks are kept, some time apart: of those that were not needed since the last call half go, all if nothing was
 * appended. Whether any is kept. */
bool cohorti_log_rest(struct cohorti_log *log);
/** Something is kept that a call of rest() may free. */
bool cohorti_log_keeps(const struct cohorti_log *log);
/** All go that hold nothing. */
void cohorti_log_drop_spares(struct cohorti_log *log);
/** Begin to send again at `offset`; acked <= offset <= appended. */
void cohorti_log_rewind(struct cohorti_log *log, uint64_t offset);

/** Block by block from `offset` on, keep of each what `keep` says: it is given the bytes of a block, moves what stays to their front and returns
 * its length; with a tail it may only keep the block whole or return 0. Offsets behind move down. offset >= sent, at a frame; nobody may
 * be writing. */
void cohorti_log_compact(struct cohorti_log *log, uint64_t offset,
                         size_t (*keep)(void *ctx, uint8_t *bytes, size_t len, size_t tail_len), void *ctx);

/** The block that holds the byte at `offset`; NULL at the end. acked <= offset <= appended. from: where to begin to look, a block at or before
 * it; NULL: at the front. */
struct cohorti_block *cohorti_log_block(const struct cohorti_log *log, struct cohorti_block *from, uint64_t offset);

/* ---- bodies -------------------------------------------------------------------------------------------------------- */

/** Referred to once, by the caller. */
void cohorti_body_init(struct cohorti_body *body, const void *data, size_t len, void (*release)(struct cohorti_body *body));
/** One reference less. True: it was the last; the caller releases it. */
COHORT_NODISCARD bool cohorti_body_unref(struct cohorti_body *body);
/** Bodies to which the log alone referred, and now does not: a list. */
struct cohorti_body *cohorti_log_take_unreferenced(struct cohorti_log *log);
/** Of a list. The owners are called: hold no lock. */
void cohorti_bodies_release(struct cohorti_body *bodies);

#endif
