/* SPDX-License-Identifier: Apache-2.0
 *
 * place: where values stand, in texts that parse and, without going beyond the end, in any.
 */
#include "definition/place.h"

#include "support.h"

#include <stdio.h>
#include <string.h>

static struct cohorti_place find(const char *text, size_t len, size_t index, const char *key)
{
    struct unit_bytes copy = unit_bytes_copy(text, len); /* no byte more, for the address sanitizer */
    struct cohorti_place place = cohorti_place_find((const char *)copy.bytes, len, index, key);
    unit_bytes_free(&copy);
    return place;
}

static void stands(const char *text, size_t index, const char *key, size_t line, size_t column)
{
    struct cohorti_place place = find(text, strlen(text), index, key);
    if (place.line != line || place.column != column) {
        fail_msg("%s: %zu:%zu, not %zu:%zu", text, place.line, place.column, line, column);
    }
}

static void values_are_found(void **state)
{
    static const char text[] = "{\n"
                               "  \"other\": {\"nodes\": [1, {}], \"cluster\": \"no\"},\n"
                               "  \"cluster\" : \"x\",\n"
                               "  \"nodes\": [\n"
                               "    {\"ip\": \"a\\\"}]\", \"id\": \"a\"},\n"
                               "    true ,-1.5e3, {\"deep\": [[{\"id\": 1}]], \"\xc3\xa4\": null, \"id\":7}\n"
                               "  ]\n"
                               "}";
    stands(text, SIZE_MAX, NULL, 1, 1);
    stands(text, SIZE_MAX, "cluster", 3, 15);
    stands(text, SIZE_MAX, "nodes", 4, 12);
    stands(text, 0, NULL, 5, 5);
    stands(text, 0, "id", 5, 27);
    stands(text, 1, NULL, 6, 5);
    stands(text, 2, NULL, 6, 11);
    stands(text, 3, NULL, 6, 19);
    stands(text, 3, "id", 6, 59);
    stands(" \t\r\n 5", SIZE_MAX, NULL, 2, 2);
    stands("{}", SIZE_MAX, "a", 1, 1);
}

static void what_is_not_there_has_the_place_of_its_holder(void **state)
{
    stands("{\n\"nodes\": [\n{\"id\": 1}]}", 0, "ip", 3, 1);
    stands("{\n\"nodes\": [\n{\"id\": 1}]}", 1, "ip", 2, 10);
    stands("\n{\"a\": {\"nodes\": 5}}", SIZE_MAX, "nodes", 2, 1);
    stands("[\n1]", 0, "id", 1, 1);
    stands("{\"no\\u0064es\": [\n1]}", 0, NULL, 1, 1); /* escapes are not undone */
}

static void any_text_ends_the_walk(void **state)
{
    static const char text[] =
        "{\"x\": [\"\\\"\", {\"nodes\": 1}], \"nodes\": [{\"id\": \"a\", \"ip\": [1, 2, {\"b\": \"c\"}]}, \"d\"]}";
    for (size_t len = 0; len < sizeof text; len++) {
        for (size_t cut = 0; cut < 4; cut++) {
            char broken[sizeof text];
            memcpy(broken, text, sizeof text);
            if (cut > 0 && len > cut) {
                broken[len - cut] = "\\\"[}"[cut];
            }
            struct cohorti_place place = find(broken, len, cut, "ip");
            assert_true(place.line >= 1 && place.column >= 1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_found),
        cmocka_unit_test(what_is_not_there_has_the_place_of_its_holder),
        cmocka_unit_test(any_text_ends_the_walk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
