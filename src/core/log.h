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
 */
#ifndef COHORTI_CORE_LOG_H
#define COHORTI_CORE_LOG_H

#include <cohort/error.h>
#include <cohort/types.h>

struct cohorti_block {
    struct cohorti_block *next;
    uint64_t offset; /* of bytes[0] in the lane */
    size_t len, cap;
    uint8_t bytes[];
};

struct cohorti_log {
    const cohort_allocator *alloc;
    struct cohorti_block *first, *last;     /* those of [acked .. appended) */
    struct cohorti_block *sending;          /* holds `sent`; NULL when nothing is left to send */
    struct cohorti_block *spare;            /* empty ones, to serve again while the lane is busy */
    uint32_t spare_count, spare_min;        /* how many, and the fewest since the last rest() */
    uint64_t acked, sent, appended, rested; /* rested: what `appended` was at the last rest() */
};

void cohorti_log_init(struct cohorti_log *log, const cohort_allocator *alloc);
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

/** Take back what was appended from `offset` on; sent <= offset <= appended. Nobody may be writing it. */
void cohorti_log_truncate(struct cohorti_log *log, uint64_t offset);

/** The run of unsent bytes that begins `skip` bytes after `sent`, up to the end of its block. 0 when there is none. */
size_t cohorti_log_peek(const struct cohorti_log *log, size_t skip, const uint8_t **out);
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
 * its length. Offsets behind move down. offset >= sent, at a frame; nobody may be writing. */
void cohorti_log_compact(struct cohorti_log *log, uint64_t offset, size_t (*keep)(void *ctx, uint8_t *bytes, size_t len), void *ctx);

/** Up to where bytes have ever been written on this log is for the owner to know; here, the run of bytes at `offset`, up to the end
 * of its block; acked <= offset <= appended. 0 at the end. The bytes may be changed if they were never written. */
size_t cohorti_log_at(const struct cohorti_log *log, uint64_t offset, uint8_t **out);

#endif
