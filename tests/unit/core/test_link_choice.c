/* SPDX-License-Identifier: Apache-2.0
 *
 * core/link_choice: a strict total order of claims, so that both ends choose alike whatever they compare first.
 */
#include "core/link_choice.h"

#include "support.h"

#include <string.h>

static const struct cohorti_link_claim claims[] = {
    {0, "a"},          {0, "b"}, {1, "a"}, {1, "b"}, {1, "B"}, {2, "a"}, {2, "ab"}, {UINT32_MAX, "a"}, {UINT32_MAX, "127.0.0.1"},
    {7, "127.0.0.10"},
};

static void the_higher_attempt_wins(void **state)
{
    assert_true(cohorti_link_claim_better(&(struct cohorti_link_claim){2, "z"}, &(struct cohorti_link_claim){1, "a"}));
    assert_true(cohorti_link_claim_better(&(struct cohorti_link_claim){UINT32_MAX, "z"}, &(struct cohorti_link_claim){0, "a"}));
}

static void of_equal_attempts_the_lower_id_wins(void **state)
{
    assert_true(cohorti_link_claim_better(&(struct cohorti_link_claim){1, "a"}, &(struct cohorti_link_claim){1, "b"}));
    assert_true(cohorti_link_claim_better(&(struct cohorti_link_claim){1, "a"}, &(struct cohorti_link_claim){1, "aa"}));
    assert_true(
        cohorti_link_claim_better(&(struct cohorti_link_claim){1, "127.0.0.10"}, &(struct cohorti_link_claim){1, "127.0.0.9"}));
}

static void exactly_one_of_two_different_claims_is_better(void **state)
{
    for (size_t i = 0; i < UNIT_COUNT(claims); i++) {
        for (size_t j = 0; j < UNIT_COUNT(claims); j++) {
            bool forth = cohorti_link_claim_better(&claims[i], &claims[j]);
            bool back = cohorti_link_claim_better(&claims[j], &claims[i]);
            assert_int_equal(forth + back, i != j);
        }
    }
}

static void better_is_transitive(void **state)
{
    for (size_t i = 0; i < UNIT_COUNT(claims); i++) {
        for (size_t j = 0; j < UNIT_COUNT(claims); j++) {
            for (size_t k = 0; k < UNIT_COUNT(claims); k++) {
                if (cohorti_link_claim_better(&claims[i], &claims[j]) && cohorti_link_claim_better(&claims[j], &claims[k])) {
                    assert_true(cohorti_link_claim_better(&claims[i], &claims[k]));
                }
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_higher_attempt_wins),
        cmocka_unit_test(of_equal_attempts_the_lower_id_wins),
        cmocka_unit_test(exactly_one_of_two_different_claims_is_better),
        cmocka_unit_test(better_is_transitive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
