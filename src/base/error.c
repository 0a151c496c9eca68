/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts, names and scopes of the error table, and the names of the public enums: all that turns a number into words. Nothing
 * here formats or allocates; every string returned lives as long as the program.
 */
#include <cohort/error.h>
#include <cohort/types.h>

static const struct row {
    int code;
    cohort_error_scope scope;
    const char *name;
    const char *text;
} rows[] = {{COHORT_OK, COHORT_SCOPE_NONE, "OK", "ok"},
#define ERROR_ROW(name, value, scope, text) {(value), COHORT_SCOPE_##scope, #name, text},
            COHORT_ERROR_TABLE(ERROR_ROW)
#undef ERROR_ROW
};

static const struct row unknown = {0, COHORT_SCOPE_NONE, "UNKNOWN", "unknown error"};

/* From end to end: errors are not what a busy node spends its time on. */
static const struct row *find(int code)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].code == code) {
            return &rows[i];
        }
    }
    return &unknown;
}

const char *cohort_error_text(int code)
{
    return find(code)->text;
}

const char *cohort_error_name(int code)
{
    return find(code)->name;
}

cohort_error_scope cohort_error_scope_of(int code)
{
    return find(code)->scope;
}

const char *cohort_state_name(cohort_member_state state)
{
    switch (state) {
    case COHORT_INACTIVE:
        return "INACTIVE";
    case COHORT_ACTIVE:
        return "ACTIVE";
    }
    return "?";
}

const char *cohort_event_name(cohort_event_type type)
{
    switch (type) {
    case COHORT_MEMBER_ADDED:
        return "ADDED";
    case COHORT_MEMBER_REMOVED:
        return "REMOVED";
    case COHORT_MEMBER_ACTIVATED:
        return "ACTIVATED";
    case COHORT_MEMBER_DEACTIVATED:
        return "DEACTIVATED";
    }
    return "?";
}

const char *cohort_lane_name(cohort_lane lane)
{
    static const char *const names[] = {
        [COHORT_LANE_NORMAL] = "normal", [COHORT_LANE_CONTROL] = "control", [COHORT_LANE_BULK] = "bulk"};
    return (size_t)lane < sizeof names / sizeof names[0] ? names[lane] : "?";
}
