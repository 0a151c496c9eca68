/* SPDX-License-Identifier: Apache-2.0
 *
 * node/registry: order, limits, removal while a dispatch runs, release exactly once, memory that fails.
 */
#include "node/registry.h"

#include "support.h"

#include <string.h>

struct rig {
    struct unit_memory memory;
    struct cohorti_registry r;
    unsigned released[8];
};

static void rig_open(struct rig *r, uint32_t max)
{
    memset(r, 0, sizeof *r);
    unit_memory_init(&r->memory);
    cohorti_registry_init(&r->r, &r->memory.alloc, max);
}

static void rig_close(struct rig *r)
{
    cohorti_registry_deinit(&r->r);
    unit_memory_assert_empty(&r->memory);
}

static void count_release(void *arg)
{
    ++*(unsigned *)arg;
}

static int add(struct rig *r, const char *key, unsigned i, cohort_handle_id *id)
{
    return cohorti_registry_add(&r->r, key, &(struct cohorti_handler){.arg = &r->released[i], .release = count_release}, id);
}

static void handlers_of_a_key_come_in_order_of_registration(void **state)
{
    struct rig r;
    cohort_handle_id id;
    rig_open(&r, 8);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(add(&r, i == 2 ? "other" : "key", i, &id), COHORT_OK);
        assert_int_not_equal(id, 0);
    }
    struct cohorti_handlers *handlers = cohorti_registry_get(&r.r, "key");
    assert_int_equal(handlers->count, 3);
    assert_ptr_equal(handlers->at[0]->arg, &r.released[0]);
    assert_ptr_equal(handlers->at[1]->arg, &r.released[1]);
    assert_ptr_equal(handlers->at[2]->arg, &r.released[3]);
    cohorti_registry_put(&r.r, handlers);
    assert_null(cohorti_registry_get(&r.r, "none"));
    cohorti_registry_put(&r.r, NULL);
    rig_close(&r);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(r.released[i], 1);
    }
}

static void a_removed_handler_is_released_when_its_last_call_is_over(void **state)
{
    struct rig r;
    cohort_handle_id first, second;
    rig_open(&r, 8);
    assert_int_equal(add(&r, "key", 0, &first), COHORT_OK);
    assert_int_equal(add(&r, "key", 1, &second), COHORT_OK);
    struct cohorti_handlers *running = cohorti_registry_get(&r.r, "key");
    assert_int_equal(cohorti_registry_remove(&r.r, first), COHORT_OK);
    assert_true(atomic_load(&running->at[0]->removed));
    assert_int_equal(r.released[0], 0);
    assert_int_equal(cohorti_registry_remove(&r.r, first), COHORT_EINVAL);
    cohorti_registry_put(&r.r, running);
    assert_int_equal(r.released[0], 1);
    assert_int_equal(cohorti_registry_remove(&r.r, second), COHORT_OK);
    assert_int_equal(r.released[1], 1);
    assert_null(cohorti_registry_get(&r.r, "key"));
    assert_int_equal(cohorti_registry_remove(&r.r, 0), COHORT_EINVAL);
    assert_int_equal(cohorti_registry_remove(&r.r, 999), COHORT_EINVAL);
    rig_close(&r);
    assert_int_equal(r.released[0] + r.released[1], 2);
}

static void the_limit_counts_all_keys_and_removal_makes_room(void **state)
{
    struct rig r;
    cohort_handle_id id;
    rig_open(&r, 2);
    assert_int_equal(add(&r, "a", 0, &id), COHORT_OK);
    assert_int_equal(add(&r, "b", 1, NULL), COHORT_OK);
    assert_int_equal(add(&r, "c", 2, &(cohort_handle_id){0}), COHORT_ELIMIT);
    assert_int_equal(r.released[2], 0);
    assert_int_equal(cohorti_registry_remove(&r.r, id), COHORT_OK);
    assert_int_equal(add(&r, "c", 2, &id), COHORT_OK);
    rig_close(&r);
}

static void every_allocation_may_fail(void **state)
{
    bool failed = true;
    for (size_t n = 1; failed; n++) {
        struct rig r;
        cohort_handle_id id[6] = {0};
        rig_open(&r, 8);
        r.memory.fail_at = n;
        for (unsigned i = 0; i < 6; i++) {
            int status = add(&r, i % 2 == 0 ? "even" : "odd", i, &id[i]);
            assert_true(status == COHORT_OK || (status == COHORT_ENOMEM && id[i] == 0));
        }
        for (unsigned i = 0; i < 6; i++) {
            int status = cohorti_registry_remove(&r.r, id[i]);
            assert_true(status == COHORT_OK || status == COHORT_ENOMEM || id[i] == 0);
            assert_int_equal(r.released[i], status == COHORT_OK);
        }
        failed = r.memory.calls >= n;
        rig_close(&r);
        for (unsigned i = 0; i < 6; i++) {
            assert_int_equal(r.released[i], id[i] != 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handlers_of_a_key_come_in_order_of_registration),
        cmocka_unit_test(a_removed_handler_is_released_when_its_last_call_is_over),
        cmocka_unit_test(the_limit_counts_all_keys_and_removal_makes_room),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
