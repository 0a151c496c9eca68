/* SPDX-License-Identifier: Apache-2.0
 *
 * One sending half with a reader that is only numbers: what tests of the outbound half and of what it leaves behind share. Their tests run
 * twice: with bodies that are copied, and with bodies that are lent.
 */
#ifndef COHORT_UNIT_CORE_OUTBOUND_RIG_H
#define COHORT_UNIT_CORE_OUTBOUND_RIG_H

#include "core/chunk.h"
#include "core/outbound.h"

#include "support.h"

#include <cohort/frame.h>
#include <stdlib.h>
#include <string.h>

#define RIG_HALF 1
#define RIG_READER 100
#define RIG_WINDOW (UINT64_C(1) << 30)

struct rig {
    struct unit_memory memory;
    struct cohorti_outbound out;
    struct cohorti_undelivered lost;
};

static const struct cohorti_outbound_limits rig_limits = {.lane_bytes_max = 4 << 20, .message_bytes_max = 1 << 20, .subjects_max = 4};

static bool rig_lends;
static unsigned rig_lent; /* bodies not given back */

struct rig_lent {
    struct cohorti_body body;
    uint8_t bytes[];
};

static inline void rig_give_back(struct cohorti_body *body)
{
    assert_int_equal(atomic_load(&body->refs), 0);
    assert_true(rig_lent > 0);
    rig_lent--;
    free(body);
}

static inline void rig_open(struct rig *r)
{
    memset(r, 0, sizeof *r);
    unit_memory_init(&r->memory);
    cohorti_outbound_init(&r->out, &r->memory.alloc, &rig_limits, RIG_HALF);
    cohorti_undelivered_init(&r->lost);
}

static inline void rig_close(struct rig *r)
{
    cohorti_undelivered_deinit(&r->lost);
    cohorti_outbound_deinit(&r->out);
    unit_memory_assert_empty(&r->memory);
    assert_int_equal(rig_lent, 0);
}

/** Put a message with a body that may be lent: a copy of put->body. It is given back by whoever refers to it last, who may be we. */
static inline int rig_put_lent(struct rig *r, struct cohorti_put put)
{
    struct rig_lent *lent = malloc(sizeof *lent + put.body_len + 1);
    assert_non_null(lent);
    if (put.body_len > 0) {
        memcpy(lent->bytes, put.body, put.body_len);
    }
    cohorti_body_init(&lent->body, lent->bytes, put.body_len, rig_give_back);
    rig_lent++;
    put.body = lent->bytes;
    put.reference = &lent->body;
    int status = cohorti_outbound_put(&r->out, &put);
    assert_true(status == COHORT_OK || atomic_load(&lent->body.refs) == 1); /* an error leaves it with the caller */
    if (cohorti_body_unref(&lent->body)) {
        rig_give_back(&lent->body);
    }
    return status;
}

static inline int rig_put_either(struct rig *r, const struct cohorti_put *put)
{
    return rig_lends ? rig_put_lent(r, *put) : cohorti_outbound_put(&r->out, put);
}

/** What nobody refers to any more goes now: the sanitizer sees who reads it later. */
static inline void rig_give_all_back(struct rig *r)
{
    cohorti_bodies_release(cohorti_outbound_take_unreferenced(&r->out));
}

/** A message whose body is `len` times `fill`. */
static inline int rig_put(struct rig *r, unsigned lane, const char *subject, size_t len, int fill)
{
    uint8_t *body = malloc(len + 1);
    assert_non_null(body);
    memset(body, fill, len + 1);
    const struct cohorti_put put = {.kind = COHORTI_KIND_MESSAGE, .lane = lane, .subject = subject, .body = body, .body_len = len};
    int status = rig_put_either(r, &put);
    free(body);
    return status;
}

/** RESUME of a reader that took `received` of each lane, as it says, of our half `known`. */
static inline int rig_resume(struct rig *r, uint64_t reader, uint64_t known, const uint64_t received[COHORTI_LANE_COUNT])
{
    struct cohorti_resume resume = {.half = reader, .known = known};
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        resume.lanes[i].received = received == NULL ? 0 : received[i];
        resume.lanes[i].limit = resume.lanes[i].received + RIG_WINDOW;
    }
    cohorti_undelivered_deinit(&r->lost);
    int status = cohorti_outbound_resume(&r->out, &resume, &r->lost);
    rig_give_all_back(r);
    return status;
}

static inline int rig_ack(struct rig *r, unsigned lane, uint64_t received)
{
    struct cohorti_ack ack = {.present = 1U << lane};
    ack.lanes[lane] = (struct cohorti_lane_mark){.received = received, .limit = received + RIG_WINDOW};
    int status = cohorti_outbound_ack(&r->out, &ack);
    rig_give_all_back(r);
    return status;
}

/** Write up to `len` bytes, a slice at a time; copy them to `to` when that is not NULL. Returns how many there were. */
static inline size_t rig_write(struct rig *r, size_t len, uint8_t *to)
{
    size_t done = 0;
    struct cohorti_slice slice;
    while (done < len && cohorti_outbound_gather(&r->out, &slice, 1, SIZE_MAX) > 0) {
        size_t n = slice.len < len - done ? slice.len : len - done;
        if (to != NULL) {
            memcpy(to + done, slice.bytes, n);
        }
        cohorti_outbound_advance(&r->out, &slice, 1, n);
        done += n;
    }
    return done;
}

/** The frame at `at`; returns what is behind it. */
static inline const uint8_t *rig_frame(const uint8_t *at, size_t left, cohort_frame *frame)
{
    size_t len = 0, needed = 0;
    assert_int_equal(cohort_frame_decode(at, left, left, frame, &len, &needed), COHORT_OK);
    assert_true(len > 0);
    return at + len;
}

static inline int *rig_failed(void)
{
    static int failed;
    return &failed;
}

/** Run the tests with copies, then with bodies that are lent. A sum of two calls may be evaluated in any order. */
#define RIG_RUN_TWICE(tests)                                                                     \
    (*rig_failed() = cmocka_run_group_tests_name("copied", tests, NULL, NULL), rig_lends = true, \
     *rig_failed() + cmocka_run_group_tests_name("lent", tests, NULL, NULL))

#define FRAME(data_len) (COHORT_FRAME_HEADER_BYTES + (uint64_t)(data_len))

#endif
