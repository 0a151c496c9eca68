/* SPDX-License-Identifier: Apache-2.0
 *
 * base/map: against a plain array of flags, with and without memory, with every hash the same, and emptied from the front.
 */
#include "base/map.h"

#include "base/prng.h"
#include "support.h"

#include <string.h>

#define ITEMS 3000

struct item {
    struct cohorti_map_node node; /* first, so that a cast is enough here */
    uint64_t key;
    bool in;
};

static struct item items[ITEMS];

static struct item *find(const struct cohorti_map *map, uint64_t hash, uint64_t key)
{
    for (struct cohorti_map_node *node = cohorti_map_find(map, hash); node != NULL; node = cohorti_map_find_next(node, hash)) {
        struct item *item = (struct item *)node;
        if (item->key == key) {
            return item;
        }
    }
    return NULL;
}

/* hash_bits of the key's hash are used, so that 0 puts all in one chain and 4 makes many equal hashes. */
static uint64_t hash_of(uint64_t key, unsigned hash_bits)
{
    return hash_bits == 64 ? cohorti_hash_u64(key) : cohorti_hash_u64(key) & ((UINT64_C(1) << hash_bits) - 1);
}

static void random_use(struct unit_memory *m, unsigned hash_bits, size_t count, int steps)
{
    struct cohorti_map map;
    struct cohorti_prng p;
    size_t in = 0;
    memset(items, 0, sizeof(items));
    cohorti_prng_init(&p, hash_bits);
    cohorti_map_init(&map, &m->alloc);
    for (int step = 0; step < steps; step++) {
        uint64_t key = cohorti_prng_below(&p, count);
        uint64_t hash = hash_of(key, hash_bits);
        struct item *item = &items[key];
        assert_ptr_equal(find(&map, hash, key), item->in ? item : NULL);
        if (item->in) {
            cohorti_map_remove(&map, &item->node);
            in--;
        } else {
            item->key = key;
            cohorti_map_insert(&map, &item->node, hash);
            in++;
        }
        item->in = !item->in;
        assert_int_equal(map.count, in);
    }
    struct cohorti_map_node *node;
    while ((node = cohorti_map_any(&map)) != NULL) {
        struct item *item = (struct item *)node;
        assert_true(item->in);
        item->in = false;
        cohorti_map_remove(&map, node);
        in--;
    }
    assert_int_equal(in, 0);
    cohorti_map_deinit(&map);
    unit_memory_assert_empty(m);
}

static void good_hash(void **state)
{
    struct unit_memory m;
    unit_memory_init(&m);
    random_use(&m, 64, ITEMS, 50000);
    assert_true(m.calls > 5 && m.calls < 20);
}

static void equal_hashes(void **state)
{
    struct unit_memory m;
    unit_memory_init(&m);
    random_use(&m, 4, 200, 20000);
    random_use(&m, 0, 100, 20000);
}

/* Without memory to grow, everything is found all the same. */
static void no_memory(void **state)
{
    struct unit_memory m;
    unit_memory_init(&m);
    m.fail_at = 1;
    m.fail_from = true;
    random_use(&m, 64, 200, 20000);
    for (size_t n = 1; n < 6; n++) {
        unit_memory_init(&m);
        m.fail_at = n;
        random_use(&m, 64, 200, 5000);
    }
}

static void empty_map(void **state)
{
    struct unit_memory m;
    struct cohorti_map map;
    unit_memory_init(&m);
    cohorti_map_init(&map, &m.alloc);
    assert_null(cohorti_map_any(&map));
    assert_null(cohorti_map_find(&map, 0));
    cohorti_map_deinit(&map);
    assert_null(cohorti_map_find(&map, 0)); /* deinit leaves an empty map */
    assert_int_equal(m.calls, 0);
}

/* Hashes of bytes decide nothing that is seen outside, but replays compare runs: they may not differ from machine to machine. */
static void hashes_are_fixed(void **state)
{
    assert_true(cohorti_hash_u64(0) == UINT64_C(0xe220a8397b1dcdaf)); /* first output of splitmix64 seeded with 0 */
    if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__) {                  /* worked out apart from the code */
        assert_true(cohorti_hash_bytes("", 0) == UINT64_C(0xc3817c016ba4ff30));
        assert_true(cohorti_hash_bytes("a", 1) == UINT64_C(0x027ed41c0bfe482d));
        assert_true(cohorti_hash_bytes("foobar", 6) == UINT64_C(0xb1ba43db441d3200));
        assert_true(cohorti_hash_bytes("orders/new/eu", 13) == UINT64_C(0x7971803b43512f16));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_hash), cmocka_unit_test(equal_hashes),     cmocka_unit_test(no_memory),
        cmocka_unit_test(empty_map), cmocka_unit_test(hashes_are_fixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
