/* SPDX-License-Identifier: Apache-2.0
 *
 * core/log: against one array that holds all bytes ever appended, with blocks of every size, and with memory that fails.
 */
#include "core/log.h"

#include "base/prng.h"
#include "support.h"

#include <stdlib.h>
#include <string.h>

#define MODEL_BYTES ((size_t)8 * 1024 * 1024)

static unsigned lent_count; /* bodies that were not given back */

struct rig {
    struct unit_memory memory;
    struct cohorti_log log;
    struct cohorti_prng prng;
    bool lends;     /* some of what is appended is referred to */
    uint8_t *model; /* byte i of the lane */
    uint64_t acked, sent, appended;
};

static void rig_open(struct rig *r, uint64_t seed)
{
    memset(r, 0, sizeof *r);
    unit_memory_init(&r->memory);
    cohorti_log_init(&r->log, &r->memory.alloc, 65 * 1024 - 64);
    cohorti_prng_init(&r->prng, seed);
    r->model = malloc(MODEL_BYTES);
    assert_non_null(r->model);
}

static void rig_close(struct rig *r)
{
    cohorti_log_deinit(&r->log);
    free(r->model);
    unit_memory_assert_empty(&r->memory);
    assert_int_equal(lent_count, 0);
}

static uint64_t below(struct rig *r, uint64_t bound)
{
    return cohorti_prng_below(&r->prng, bound);
}

/* ---- what is referred to -------------------------------------------------------------------------------------------- */

struct lent {
    struct cohorti_body body;
    uint8_t *bytes;
};

static void give_back(struct cohorti_body *body)
{
    struct lent *lent = (struct lent *)body;
    assert_int_equal(atomic_load(&body->refs), 0);
    assert_true(lent_count > 0);
    lent_count--;
    free(lent->bytes);
    free(lent);
}

static struct cohorti_body *lend(const uint8_t *bytes, size_t len)
{
    struct lent *lent = malloc(sizeof *lent);
    assert_non_null(lent);
    lent->bytes = malloc(len); /* a copy, so that the sanitizer sees who reads it too late */
    assert_non_null(lent->bytes);
    memcpy(lent->bytes, bytes, len);
    cohorti_body_init(&lent->body, lent->bytes, len, give_back);
    lent_count++;
    return &lent->body;
}

/* The reference of whoever lent it. */
static void let_go(struct cohorti_body *body)
{
    if (cohorti_body_unref(body)) {
        body->next = NULL;
        cohorti_bodies_release(body);
    }
}

static void fill(struct rig *r, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        r->model[r->appended + i] = (uint8_t)cohorti_prng_next(&r->prng);
    }
}

static bool append_reference(struct rig *r, size_t len)
{
    uint8_t *at = NULL;
    size_t head = 1 + (size_t)below(r, len - 1 < COHORTI_LOG_HEAD_BYTES_MAX ? len - 1 : COHORTI_LOG_HEAD_BYTES_MAX);
    fill(r, len);
    struct cohorti_body *body = lend(r->model + r->appended + head, len - head);
    int status = cohorti_log_append_reference(&r->log, head, body, body->data, len - head, &at);
    if (status == COHORT_OK) {
        memcpy(at, r->model + r->appended, head);
        r->appended += len;
    } else {
        assert_int_equal(status, COHORT_ENOMEM);
        assert_int_equal(atomic_load(&body->refs), 1);
    }
    let_go(body);
    return status == COHORT_OK;
}

static bool append_copy(struct rig *r, size_t len)
{
    uint8_t *at = NULL;
    int status = cohorti_log_reserve(&r->log, len, &at);
    if (status != COHORT_OK) {
        assert_int_equal(status, COHORT_ENOMEM);
        return false;
    }
    fill(r, len);
    memcpy(at, r->model + r->appended, len);
    cohorti_log_commit(&r->log, len);
    r->appended += len;
    return true;
}

static bool append(struct rig *r, size_t len)
{
    return r->lends && len > 1 && below(r, 20) == 0 ? append_reference(r, len) : append_copy(r, len);
}

static size_t peek(const struct cohorti_log *log, size_t skip, const uint8_t **out)
{
    bool more = false;
    size_t len = cohorti_log_peek(log, skip, out, &more);
    const struct cohorti_block *block = len == 0 ? NULL : cohorti_log_block(log, NULL, log->sent + skip);
    if (block != NULL) { /* a run goes to the end of its block, or to the tail, which is told */
        uint64_t end = log->sent + skip + len;
        assert_true(more ? end == block->offset + block->len && block->tail_len > 0
                         : end == block->offset + block->len + block->tail_len);
    }
    return len;
}

/* The run at `offset`. */
static size_t run_at(const struct cohorti_log *log, uint64_t offset, const uint8_t **out)
{
    const struct cohorti_block *block = cohorti_log_block(log, NULL, offset);
    if (block == NULL) {
        return 0;
    }
    size_t at = (size_t)(offset - block->offset);
    bool own = at < block->len;
    *out = own ? block->bytes + at : block->tail + (at - block->len);
    return own ? block->len - at : block->len + block->tail_len - at;
}

/* Runs from `skip` on are what the model holds, each to the end of a reservation or more, and all together everything unsent. */
static void check_peek(struct rig *r)
{
    size_t skip = 0;
    const uint8_t *at = NULL;
    for (size_t len; (len = peek(&r->log, skip, &at)) > 0; skip += len) {
        assert_memory_equal(at, r->model + r->sent + skip, len);
    }
    assert_int_equal(skip, r->appended - r->sent);
}

static void check_held(struct rig *r)
{
    const uint8_t *at = NULL;
    uint64_t from = r->acked;
    for (size_t len; (len = run_at(&r->log, from, &at)) > 0; from += len) {
        assert_memory_equal(at, r->model + from, len);
    }
    assert_true(from == r->appended);
    assert_true(r->log.acked == r->acked && r->log.sent == r->sent && r->log.appended == r->appended);
    assert_int_equal(cohorti_log_len(&r->log), r->appended - r->acked);
    assert_int_equal(cohorti_log_unsent(&r->log), r->appended - r->sent);
}

static size_t some_size(struct rig *r)
{
    static const size_t edges[] = {16, 17, 1984, 1985, 66496, 66497, 65536, 100000};
    return below(r, 8) == 0 ? edges[below(r, UNIT_COUNT(edges))] : 16 + below(r, 600);
}

static void step(struct rig *r)
{
    cohorti_bodies_release(cohorti_log_take_unreferenced(&r->log)); /* what is read from here on is not theirs */
    switch (below(r, 8)) {
    case 0:
    case 1:
    case 2:
        (void)append(r, some_size(r));
        break;
    case 3:
    case 4: {
        size_t len = below(r, r->appended - r->sent + 1);
        cohorti_log_advance(&r->log, len);
        r->sent += len;
        break;
    }
    case 5:
        r->acked += below(r, 4) == 0 ? r->sent - r->acked : below(r, r->sent - r->acked + 1);
        cohorti_log_ack(&r->log, r->acked);
        if (below(r, 4) == 0) {
            (void)cohorti_log_rest(&r->log);
        } else if (below(r, 8) == 0) {
            cohorti_log_drop_spares(&r->log);
        }
        break;
    case 6:
        r->sent = r->acked + below(r, r->appended - r->acked + 1);
        cohorti_log_rewind(&r->log, r->sent);
        break;
    default: {
        uint64_t before = r->appended;
        if (append(r, some_size(r)) && append(r, some_size(r))) {
            cohorti_log_truncate(&r->log, before);
            r->appended = before;
        }
        break;
    }
    }
}

static void random_use(uint64_t seed, size_t fail_each)
{
    struct rig r;
    rig_open(&r, seed);
    r.lends = seed % 2 == 0;
    for (int i = 0; i < 4000 && r.appended < MODEL_BYTES - 300000; i++) {
        r.memory.fail_at = fail_each > 0 && below(&r, fail_each) == 0 ? r.memory.calls + 1 : 0;
        step(&r);
        check_held(&r);
        check_peek(&r);
    }
    cohorti_log_advance(&r.log, (size_t)(r.appended - r.sent));
    cohorti_log_ack(&r.log, r.appended);
    cohorti_bodies_release(cohorti_log_take_unreferenced(&r.log));
    assert_int_equal(lent_count, 0);
    for (int i = 0; i < 3 && cohorti_log_rest(&r.log); i++) {
    }
    assert_false(cohorti_log_keeps(&r.log));
    assert_true(r.memory.blocks <= 1); /* idle: a small block at most */
    rig_close(&r);
}

static void against_a_plain_array(void **state)
{
    for (uint64_t seed = 1; seed <= 12; seed++) {
        random_use(seed, 0);
    }
}

static void with_memory_that_fails(void **state)
{
    for (uint64_t seed = 100; seed <= 110; seed++) {
        random_use(seed, 3);
    }
}

/* A reservation lies in one piece, however full the block before it is. */
static void a_reservation_is_never_split(void **state)
{
    struct rig r;
    const uint8_t *at = NULL;
    rig_open(&r, 1);
    for (size_t len = 16; len < 70000; len = len * 3 / 2) {
        assert_true(append(&r, len));
        uint64_t begin = r.appended - len;
        const uint8_t *held = NULL;
        assert_true(run_at(&r.log, begin, &held) >= len);
    }
    size_t skip = 0;
    for (size_t len; (len = peek(&r.log, skip, &at)) > 0;) {
        skip += len;
    }
    assert_int_equal(skip, r.appended);
    rig_close(&r);
}

/* A quiet exchange, and a busy one after its first blocks, allocate nothing. */
static void a_steady_state_allocates_nothing(void **state)
{
    struct rig r;
    rig_open(&r, 1);
    for (int i = 0; i < 1000; i++) {
        assert_true(append(&r, 80));
        cohorti_log_advance(&r.log, 80);
        r.sent = r.acked = r.appended;
        cohorti_log_ack(&r.log, r.acked);
        if (i == 0) {
            r.memory.calls = 0;
        }
    }
    assert_int_equal(r.memory.calls, 0);
    for (int i = 0; i < 90000; i++) { /* 400 KiB behind */
        assert_true(append(&r, 80));
        cohorti_log_advance(&r.log, 80);
        r.sent = r.appended;
        if (r.sent - r.acked > 400000) {
            r.acked += 100000;
            cohorti_log_ack(&r.log, r.acked);
        }
        if (i == 60000) {
            r.memory.calls = 0;
        }
    }
    assert_int_equal(r.memory.calls, 0);
    rig_close(&r);
}

/* A lane that fills to its limit, waits until half is gone and fills again, or has a few small frames outstanding at any time. */
static void blocks_serve_again(void **state)
{
    static const struct {
        size_t frame, high, low;
    } cases[] = {{80, 2 * 1024 * 1024, 1024 * 1024}, {65000, 2 * 1024 * 1024, 1024 * 1024}, {100, 6400, 3200}, {100, 3000, 200}};
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        struct rig r;
        rig_open(&r, i);
        for (uint64_t warm = 4 * 1024 * 1024; r.appended < MODEL_BYTES - 65000;) {
            assert_true(append(&r, cases[i].frame));
            cohorti_log_advance(&r.log, cases[i].frame);
            r.sent = r.appended;
            if (r.sent - r.acked > cases[i].high) {
                r.acked = r.sent - cases[i].low;
                cohorti_log_ack(&r.log, r.acked);
            }
            if (r.appended < warm) {
                r.memory.calls = 0;
            }
        }
        assert_int_equal(r.memory.calls, 0);
        rig_close(&r);
    }
}

/* Bursts of any size, all acknowledged before the next: what served the one serves the next. */
static void a_burst_after_another_allocates_nothing(void **state)
{
    static const size_t bursts[] = {20, 100, 900, 3000};
    for (size_t i = 0; i < UNIT_COUNT(bursts); i++) {
        struct rig r;
        rig_open(&r, i);
        for (int burst = 0; burst < 24; burst++) {
            for (size_t n = 0; n < bursts[i]; n++) {
                assert_true(append(&r, 92));
            }
            cohorti_log_advance(&r.log, (size_t)(r.appended - r.sent));
            r.sent = r.acked = r.appended;
            cohorti_log_ack(&r.log, r.acked);
            (void)cohorti_log_rest(&r.log);
            r.memory.calls = burst < 12 ? 0 : r.memory.calls; /* until small blocks have been replaced */
        }
        assert_int_equal(r.memory.calls, 0);
        rig_close(&r);
    }
}

/* What was needed at the fullest is kept at first; then half of what is not needed goes each time; at rest all of it. */
static void unneeded_blocks_go(void **state)
{
    struct rig r;
    rig_open(&r, 1);
    while (r.appended < 4 * 1024 * 1024) {
        assert_true(append(&r, 1000));
    }
    cohorti_log_advance(&r.log, (size_t)r.appended);
    r.sent = r.acked = r.appended;
    size_t most = r.memory.blocks;
    cohorti_log_ack(&r.log, r.acked);
    assert_int_equal(r.memory.blocks, most);
    assert_true(cohorti_log_keeps(&r.log));
    assert_true(cohorti_log_rest(&r.log)); /* they were needed since the call before */
    assert_int_equal(r.memory.blocks, most);
    for (size_t i = 0, before = most; i < 10; i++, before = r.memory.blocks) {
        assert_true(append(&r, 800));
        cohorti_log_advance(&r.log, 800);
        r.sent = r.acked = r.appended;
        cohorti_log_ack(&r.log, r.acked);
        assert_true(cohorti_log_rest(&r.log));
        assert_in_range(r.memory.blocks, before / 2, before / 2 + 2);
    }
    assert_true(r.memory.blocks <= 3);
    (void)cohorti_log_rest(&r.log);
    assert_false(cohorti_log_rest(&r.log));
    assert_true(r.memory.blocks <= 1);
    check_held(&r);
    assert_true(append(&r, 80));
    check_held(&r);
    rig_close(&r);
}

static void dropping_spares_leaves_what_is_held(void **state)
{
    struct rig r;
    rig_open(&r, 1);
    for (int i = 0; i < 1000; i++) {
        assert_true(append(&r, 1000));
    }
    cohorti_log_advance(&r.log, 900000);
    r.sent = 900000;
    r.acked = 800000;
    cohorti_log_ack(&r.log, r.acked);
    size_t before = r.memory.blocks;
    cohorti_log_drop_spares(&r.log);
    assert_in_range(before - r.memory.blocks, 10, 20);
    assert_false(cohorti_log_keeps(&r.log));
    check_held(&r);
    check_peek(&r);
    rig_close(&r);
}

static size_t drop_even(void *ctx, uint8_t *bytes, size_t len, size_t tail_len)
{
    size_t kept = 0;
    (void)ctx;
    if (tail_len > 0) {
        return bytes[0] % 2 == 1 ? len : 0;
    }
    for (size_t at = 0; at < len; at += 100) {
        if (bytes[at] % 2 == 1) {
            memmove(bytes + kept, bytes + at, 100);
            kept += 100;
        }
    }
    return kept;
}

/* From the beginning, the first block to nothing: what is behind begins where it began. */
static void compacting_may_empty_the_first_block(void **state)
{
    struct rig r;
    uint8_t *at = NULL;
    rig_open(&r, 1);
    for (unsigned i = 0; i < 3000; i++) {
        assert_int_equal(cohorti_log_reserve(&r.log, 100, &at), COHORT_OK);
        memset(at, r.log.first == NULL || r.log.first == r.log.last ? 2 : 3, 100);
        cohorti_log_commit(&r.log, 100);
    }
    uint64_t first = r.log.first->len;
    assert_true(r.log.first != r.log.last);
    cohorti_log_compact(&r.log, 0, drop_even, NULL);
    assert_true(r.log.appended < 300000 && r.log.appended >= 300000 - first);
    assert_int_equal(cohorti_log_unsent(&r.log), r.log.appended);
    uint64_t seen = 0;
    const uint8_t *run = NULL;
    for (size_t len; (len = peek(&r.log, 0, &run)) > 0; seen += len) {
        assert_int_equal(run[0], 3);
        assert_int_equal(run[len - 1], 3);
        cohorti_log_advance(&r.log, len);
    }
    assert_int_equal(seen, r.log.appended);
    rig_close(&r);
}

static void compacting_moves_what_is_behind(void **state)
{
    struct rig r;
    rig_open(&r, 1);
    for (unsigned i = 0; i < 3000; i++) {
        uint8_t *at = NULL, bytes[100];
        memset(bytes, (int)(i % 251), 100);
        if (i % 7 == 3) {
            struct cohorti_body *body = lend(bytes, 60);
            assert_int_equal(cohorti_log_append_reference(&r.log, 40, body, body->data, 60, &at), COHORT_OK);
            memcpy(at, bytes, 40);
            let_go(body);
            continue;
        }
        assert_int_equal(cohorti_log_reserve(&r.log, 100, &at), COHORT_OK);
        memcpy(at, bytes, 100);
        cohorti_log_commit(&r.log, 100);
    }
    cohorti_log_advance(&r.log, 1500);
    unsigned lent = lent_count;
    cohorti_log_compact(&r.log, 1500, drop_even, NULL);
    cohorti_bodies_release(cohorti_log_take_unreferenced(&r.log));
    assert_true(lent_count > 0 && lent_count < lent); /* those taken out are given back */
    uint64_t offset = 0;
    for (unsigned i = 0; i < 3000; i++) {
        const uint8_t *at = NULL;
        if (i < 15 || (i % 251) % 2 == 1) {
            assert_true(run_at(&r.log, offset, &at) >= (i % 7 == 3 ? 40 : 100));
            assert_int_equal(at[0], i % 251);
            assert_true(run_at(&r.log, offset + 99, &at) >= 1);
            assert_int_equal(at[0], i % 251);
            offset += 100;
        }
    }
    assert_true(r.log.appended == offset && r.log.sent == 1500);
    const uint8_t *run = NULL;
    size_t skip = 0;
    for (size_t len; (len = peek(&r.log, skip, &run)) > 0;) {
        skip += len;
    }
    assert_int_equal(skip, offset - 1500);
    rig_close(&r);
}

/* Shared by logs, given back once, when the last block that needs it is gone; whatever takes it away. */
static void a_body_is_given_back_once(void **state)
{
    static const uint8_t bytes[1000];
    for (int how = 0; how < 4; how++) {
        struct rig r, other;
        uint8_t *at = NULL;
        rig_open(&r, 1);
        rig_open(&other, 1);
        struct cohorti_body *body = lend(bytes, sizeof bytes);
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(cohorti_log_append_reference(&r.log, 16, body, body->data + i * 250, 250, &at), COHORT_OK);
        }
        assert_int_equal(cohorti_log_append_reference(&other.log, 16, body, body->data, 1000, &at), COHORT_OK);
        let_go(body);
        cohorti_log_advance(&r.log, (size_t)r.log.appended);
        cohorti_log_ack(&r.log, r.log.appended - 1);
        cohorti_log_advance(&other.log, (size_t)other.log.appended);
        cohorti_log_ack(&other.log, other.log.appended);
        assert_null(cohorti_log_take_unreferenced(&other.log));
        assert_int_equal(atomic_load(&body->refs), 1);
        if (how == 0) {
            cohorti_log_ack(&r.log, r.log.appended);
        } else if (how == 1) {
            cohorti_log_compact(&r.log, r.log.appended, drop_even, NULL);
        } else if (how == 2) {
            cohorti_log_deinit(&r.log);
            assert_int_equal(lent_count, 0);
        }
        struct cohorti_body *released = cohorti_log_take_unreferenced(&r.log);
        assert_int_equal(lent_count, how == 2 ? 0 : 1);
        assert_true((released != NULL) == (how == 0)); /* else it is held, until the log goes */
        cohorti_bodies_release(released);
        rig_close(&r);
        rig_close(&other);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_a_plain_array),
        cmocka_unit_test(with_memory_that_fails),
        cmocka_unit_test(a_reservation_is_never_split),
        cmocka_unit_test(a_steady_state_allocates_nothing),
        cmocka_unit_test(blocks_serve_again),
        cmocka_unit_test(a_burst_after_another_allocates_nothing),
        cmocka_unit_test(unneeded_blocks_go),
        cmocka_unit_test(dropping_spares_leaves_what_is_held),
        cmocka_unit_test(compacting_moves_what_is_behind),
        cmocka_unit_test(a_body_is_given_back_once),
        cmocka_unit_test(compacting_may_empty_the_first_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
