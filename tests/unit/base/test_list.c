/* SPDX-License-Identifier: Apache-2.0
 *
 * base/list: order, removal anywhere, and nodes that are in no list.
 */
#include "base/list.h"

#include "support.h"

struct item {
    int number;
    struct cohorti_list in_list;
};

static void make(struct cohorti_list *head, struct item *items, int count)
{
    cohorti_list_init(head);
    for (int i = 0; i < count; i++) {
        items[i].number = i;
        cohorti_list_init(&items[i].in_list);
        cohorti_list_append(head, &items[i].in_list);
    }
}

static int number_of(struct cohorti_list *node)
{
    return COHORTI_CONTAINER(node, struct item, in_list)->number;
}

static void first_in_first_out(void **state)
{
    struct cohorti_list head;
    struct item items[3];
    make(&head, items, 3);
    int expected = 0;
    COHORTI_LIST_FOREACH (it, &head) {
        assert_int_equal(number_of(it), expected++);
    }
    assert_int_equal(expected, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(number_of(cohorti_list_pop(&head)), i);
    }
    assert_null(cohorti_list_pop(&head));
    assert_true(cohorti_list_empty(&head));
}

static void removal_inside_a_loop(void **state)
{
    struct cohorti_list head;
    struct item items[5];
    make(&head, items, 5);
    COHORTI_LIST_FOREACH_SAFE (it, &head) {
        if (number_of(it) % 2 == 0) {
            cohorti_list_remove(it);
            cohorti_list_remove(it); /* harmless the second time */
            assert_true(cohorti_list_empty(it));
        }
    }
    assert_int_equal(number_of(cohorti_list_pop(&head)), 1);
    assert_int_equal(number_of(cohorti_list_pop(&head)), 3);
    assert_null(cohorti_list_pop(&head));
}

static void all_of_one_behind_another(void **state)
{
    struct cohorti_list a, b;
    struct item first[2], second[3];
    make(&a, first, 2);
    make(&b, second, 3);
    cohorti_list_move_all(&a, &b);
    assert_true(cohorti_list_empty(&b));
    cohorti_list_move_all(&a, &b); /* nothing */
    cohorti_list_move_all(&b, &a); /* to an empty one */
    assert_true(cohorti_list_empty(&a));
    static const int expected[] = {0, 1, 0, 1, 2};
    for (size_t i = 0; i < UNIT_COUNT(expected); i++) {
        assert_int_equal(number_of(cohorti_list_pop(&b)), expected[i]);
    }
    assert_true(cohorti_list_empty(&b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_in_first_out),
        cmocka_unit_test(removal_inside_a_loop),
        cmocka_unit_test(all_of_one_behind_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
