/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts, names and scopes of the error table, and the names of the public enums: all that turns a number into words. Nothing
 * here formats or allocates; every string returned lives as long as the program.
 */
#include <cohort/error.h>
#include <cohort/types.h>

const char *cohort_error_text(int code)
{
    switch (code) {
    case COHORT_OK:
        return "ok";
#define ERROR_TEXT(name, value, scope, text) \
    case (value):                            \
        return (text);
        COHORT_ERROR_TABLE(ERROR_TEXT)
#undef ERROR_TEXT
    default:
        return "unknown error";
    }
}

const char *cohort_error_name(int code)
{
    switch (code) {
    case COHORT_OK:
        return "OK";
#define ERROR_NAME(name, value, scope, text) \
    case (value):                            \
        return #name;
        COHORT_ERROR_TABLE(ERROR_NAME)
#undef ERROR_NAME
    default:
        return "UNKNOWN";
    }
}

cohort_error_scope cohort_error_scope_of(int code)
{
    switch (code) {
#define ERROR_SCOPE(name, value, scope, text) \
    case (value):                             \
        return COHORT_SCOPE_##scope;
        COHORT_ERROR_TABLE(ERROR_SCOPE)
#undef ERROR_SCOPE
    default:
        return COHORT_SCOPE_NONE;
    }
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
