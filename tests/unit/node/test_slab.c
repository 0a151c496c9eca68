/* SPDX-License-Identifier: Apache-2.0
 *
 * node/slab: what was taken stays as it is until it is let go, by whom and in what order that may be; then its memory serves again.
 */
#include "node/slab.h"

#include "support.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct piece {
    uint8_t *at;
    size_t len;
    struct cohorti_slab *slab;
    uint8_t fill;
};

static struct piece take(struct cohorti_slabs *s, size_t len, unsigned number)
{
    struct piece p = {.len = len, .fill = (uint8_t)number};
    p.at = cohorti_slab_take(s, len, &p.slab);
    assert_non_null(p.at);
    assert_int_equal((uintptr_t)p.at % _Alignof(max_align_t), 0);
    memset(p.at, p.fill, len);
    return p;
}

static bool is_intact(const struct piece *p)
{
    bool intact = true;
    for (size_t i = 0; i < p->len; i++) {
        intact = intact && p->at[i] == p->fill;
    }
    return intact;
}

static void let_go(struct piece *p)
{
    assert_true(is_intact(p));
    cohorti_slab_release(p->slab, 1);
    p->at = NULL;
}

static void pieces_of_every_size_in_any_order(void **state)
{
    struct unit_memory memory;
    struct cohorti_slabs s;
    static struct piece pieces[400];
    memset(pieces, 0, sizeof pieces);
    unit_memory_init(&memory);
    cohorti_slabs_init(&s, &memory.alloc);
    srand(1);
    for (unsigned i = 0; i < 20000; i++) {
        struct piece *p = &pieces[(unsigned)rand() % UNIT_COUNT(pieces)];
        if (p->at != NULL) {
            let_go(p);
        }
        size_t len = (unsigned)rand() % 100 == 0 ? (unsigned)rand() % 200000 : (unsigned)rand() % 1000;
        *p = take(&s, len, i);
    }
    for (unsigned i = 0; i < UNIT_COUNT(pieces); i++) {
        if (pieces[i].at != NULL) {
            let_go(&pieces[i]);
        }
    }
    assert_true(s.spare_count <= COHORTI_SLAB_SPARES_MAX);
    cohorti_slabs_deinit(&s);
    unit_memory_assert_empty(&memory);
}

/* As many wait at any time as fit into a few slabs: after a while nothing is allocated any more. */
static void a_steady_stream_allocates_nothing(void **state)
{
    struct unit_memory memory;
    struct cohorti_slabs s;
    static struct piece waiting[1000];
    unit_memory_init(&memory);
    cohorti_slabs_init(&s, &memory.alloc);
    size_t calls = 0;
    for (unsigned i = 0; i < 100000; i++) {
        struct piece *p = &waiting[i % UNIT_COUNT(waiting)];
        if (i >= UNIT_COUNT(waiting)) {
            let_go(p);
        }
        *p = take(&s, 200, i);
        calls = i == 10000 ? memory.calls : calls;
    }
    assert_int_equal(memory.calls, calls);
    for (unsigned i = 0; i < UNIT_COUNT(waiting); i++) {
        let_go(&waiting[i]);
    }
    cohorti_slabs_deinit(&s);
    unit_memory_assert_empty(&memory);
}

/* Only the last one, and no further than its slab. What lies before and behind it stays as it is. */
static void what_was_taken_last_grows(void **state)
{
    struct unit_memory memory;
    struct cohorti_slabs s;
    unit_memory_init(&memory);
    cohorti_slabs_init(&s, &memory.alloc);
    for (unsigned round = 0; round < 3; round++) {
        struct piece before = take(&s, 24, 1), last = take(&s, 40, 2);
        assert_null(cohorti_slab_extend(&s, before.at + before.len, 8));
        struct piece large = take(&s, COHORTI_SLAB_BYTES, 4);
        assert_null(cohorti_slab_extend(&s, large.at + large.len, 8));
        size_t len = 40;
        void *at;
        while ((at = cohorti_slab_extend(&s, last.at + len, 8 + len % 64)) != NULL) {
            assert_ptr_equal(at, last.at + len);
            memset(at, last.fill, 8 + len % 64);
            len += 8 + len % 64;
        }
        last.len = len;
        assert_true(len > COHORTI_SLAB_BYTES - 600 && len < COHORTI_SLAB_BYTES);
        struct piece behind = take(&s, 100, 3);
        assert_null(cohorti_slab_extend(&s, last.at + last.len, 8));
        assert_non_null(at = cohorti_slab_extend(&s, behind.at + 104, 8));
        memset(at, 5, 8);
        struct piece next = take(&s, 1, 6);
        let_go(&before);
        let_go(&last);
        let_go(&behind);
        let_go(&next);
        let_go(&large);
    }
    cohorti_slabs_deinit(&s);
    unit_memory_assert_empty(&memory);
}

/* Large ones go at once; of the others a few are kept. */
static void what_waited_once_is_not_kept_for_ever(void **state)
{
    struct unit_memory memory;
    struct cohorti_slabs s;
    static struct piece pieces[40000];
    unit_memory_init(&memory);
    cohorti_slabs_init(&s, &memory.alloc);
    struct piece large = take(&s, 1 << 20, 1);
    for (unsigned i = 0; i < UNIT_COUNT(pieces); i++) {
        pieces[i] = take(&s, 200, i);
    }
    let_go(&large);
    for (unsigned i = 0; i < UNIT_COUNT(pieces); i++) {
        let_go(&pieces[i]);
    }
    assert_true(memory.bytes <= (COHORTI_SLAB_SPARES_MAX + 1) * (COHORTI_SLAB_BYTES + 100));
    cohorti_slabs_deinit(&s);
    unit_memory_assert_empty(&memory);
}

static void without_memory_nothing_changes(void **state)
{
    struct unit_memory memory;
    struct cohorti_slabs s;
    struct cohorti_slab *slab = NULL;
    unit_memory_init(&memory);
    cohorti_slabs_init(&s, &memory.alloc);
    memory.fail_at = 1;
    assert_null(cohorti_slab_take(&s, 100, &slab));
    struct piece small = take(&s, 100, 1);
    memory.fail_at = memory.calls + 1;
    assert_null(cohorti_slab_take(&s, 100000, &slab));
    struct piece more = take(&s, 100, 2); /* of the current one */
    let_go(&small);
    let_go(&more);
    cohorti_slabs_deinit(&s);
    unit_memory_assert_empty(&memory);
}

/* ---- another thread lets go ------------------------------------------------------------------------------------------ */

#define PASSED 200000U
#define RING 256U

static struct piece ring[RING];
static _Atomic unsigned made, gone, wrong;

static void *let_all_go(void *arg)
{
    for (unsigned i = 0; i < PASSED; i++) {
        while (atomic_load(&made) == i) {
            sched_yield();
        }
        struct piece p = ring[i % RING];
        atomic_fetch_add(&wrong, !is_intact(&p));
        cohorti_slab_release(p.slab, 1);
        atomic_store(&gone, i + 1);
    }
    return NULL;
}

static void another_thread_lets_go(void **state)
{
    struct cohorti_slabs s;
    pthread_t thread;
    extern const cohort_allocator cohorti_malloc;
    cohorti_slabs_init(&s, &cohorti_malloc);
    assert_int_equal(pthread_create(&thread, NULL, let_all_go, NULL), 0);
    for (unsigned i = 0; i < PASSED; i++) {
        while (i - atomic_load(&gone) == RING) {
            sched_yield();
        }
        ring[i % RING] = take(&s, 16 + i % 300, i);
        atomic_store(&made, i + 1);
    }
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&wrong), 0);
    cohorti_slabs_deinit(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_of_every_size_in_any_order), cmocka_unit_test(a_steady_stream_allocates_nothing),
        cmocka_unit_test(what_was_taken_last_grows),         cmocka_unit_test(what_waited_once_is_not_kept_for_ever),
        cmocka_unit_test(without_memory_nothing_changes),    cmocka_unit_test(another_thread_lets_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
