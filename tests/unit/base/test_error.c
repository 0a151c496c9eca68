/* SPDX-License-Identifier: Apache-2.0
 *
 * The error table and the names of the public enums. The numbers are on the wire (REFUSE) and in exit paths of others: those
 * asserted here may never change.
 */
#include <cohort/error.h>

#include "support.h"

#include <string.h>

#define ROW(name, value, scope, text) {#name, (value), COHORT_SCOPE_##scope, (text)},
static const struct row {
    const char *name;
    int value;
    cohort_error_scope scope;
    const char *text;
} rows[] = {COHORT_ERROR_TABLE(ROW)};

static void every_row_is_found(void **state)
{
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        assert_string_equal(cohort_error_name(rows[i].value), rows[i].name);
        assert_string_equal(cohort_error_text(rows[i].value), rows[i].text);
        assert_int_equal(cohort_error_scope_of(rows[i].value), rows[i].scope);
    }
}

static void rows_are_fit_for_use(void **state)
{
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        assert_true(rows[i].value < 0);
        assert_true(strlen(rows[i].text) > 0);
        assert_null(strchr(rows[i].text, '\n'));
        assert_int_not_equal(rows[i].scope, COHORT_SCOPE_NONE);
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(rows[i].value, rows[j].value);
            assert_string_not_equal(rows[i].text, rows[j].text);
        }
    }
}

static void ok_and_unknown(void **state)
{
    static const int unknown[] = {1, -9999, INT32_MIN, INT32_MAX};
    assert_string_equal(cohort_error_name(COHORT_OK), "OK");
    assert_string_equal(cohort_error_text(COHORT_OK), "ok");
    assert_int_equal(cohort_error_scope_of(COHORT_OK), COHORT_SCOPE_NONE);
    for (size_t i = 0; i < UNIT_COUNT(unknown); i++) {
        assert_string_equal(cohort_error_name(unknown[i]), "UNKNOWN");
        assert_string_equal(cohort_error_text(unknown[i]), "unknown error");
        assert_int_equal(cohort_error_scope_of(unknown[i]), COHORT_SCOPE_NONE);
    }
}

static void numbers_on_the_wire(void **state)
{
    assert_int_equal(COHORT_EOWNID, -46);
    assert_int_equal(COHORT_ECLUSTER, -47);
    assert_int_equal(COHORT_ENOTLISTED, -48);
    assert_int_equal(COHORT_EREMOVED, -49);
    assert_int_equal(COHORT_EIDENTITY, -50);
    assert_int_equal(COHORT_ESTALE, -51);
    assert_int_equal(COHORT_ESUPERSEDED, -52);
    assert_int_equal(COHORT_EDUPLICATE, -53);
    assert_int_equal(COHORT_EVERSION, -54);
}

static void enum_names(void **state)
{
    assert_string_equal(cohort_state_name(COHORT_INACTIVE), "INACTIVE");
    assert_string_equal(cohort_state_name(COHORT_ACTIVE), "ACTIVE");
    assert_string_equal(cohort_state_name((cohort_member_state)99), "?");
    assert_string_equal(cohort_event_name(COHORT_MEMBER_ADDED), "ADDED");
    assert_string_equal(cohort_event_name(COHORT_MEMBER_REMOVED), "REMOVED");
    assert_string_equal(cohort_event_name(COHORT_MEMBER_ACTIVATED), "ACTIVATED");
    assert_string_equal(cohort_event_name(COHORT_MEMBER_DEACTIVATED), "DEACTIVATED");
    assert_string_equal(cohort_event_name((cohort_event_type)99), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_found),  cmocka_unit_test(rows_are_fit_for_use), cmocka_unit_test(ok_and_unknown),
        cmocka_unit_test(numbers_on_the_wire), cmocka_unit_test(enum_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
