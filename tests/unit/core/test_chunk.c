/* SPDX-License-Identifier: Apache-2.0
 *
 * core/chunk: each kind of chunk against its golden bytes, both ways. What may not be is tested with the half that reads it
 * (test_inbound.c, test_inbound_streams.c).
 */
#include "core/chunk.h"

#include "support.h"

#include <string.h>

#define FIRST COHORTI_KIND_CHUNK_FIRST
#define MIDDLE COHORTI_KIND_CHUNK_MIDDLE
#define LAST COHORTI_KIND_CHUNK_LAST

static void golden_bytes(void **state)
{
    static const struct {
        const char *path;
        enum cohorti_kind kind;
        unsigned lane;
        uint32_t number;
        struct cohorti_chunk chunk;
        const char *data;
    } cases[] = {
        {"cohort/chunk-first.hex", FIRST, 0, 5, {.first = true, .stream = 3, .total = 100000}, "hello"},
        {"cohort/chunk-middle.hex", MIDDLE, 2, 5, {.stream = 0xabcd, .total = COHORTI_TOTAL_UNKNOWN, .at = UINT64_C(1) << 40}, "more"},
        {"cohort/chunk-last.hex", LAST, 0, 5, {.last = true, .stream = 3, .total = 70000, .at = 70000}, ""},
        {"cohort/chunk-abort.hex", LAST, 2, 0, {.kind = COHORTI_KIND_VOID, .aborts = true, .stream = 3}, ""},
    };
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        struct unit_bytes file = unit_vector_hex(cases[i].path);
        uint8_t prefix[COHORTI_CHUNK_PREFIX_BYTES];
        struct cohorti_chunk got;
        cohort_frame frame;
        size_t consumed, needed;
        assert_int_equal(cohort_frame_decode(file.bytes, file.len, 4096, &frame, &consumed, &needed), COHORT_OK);
        assert_int_equal(frame.type, cohorti_type_subject(cases[i].kind, cases[i].lane, cases[i].number));
        assert_int_equal(cohorti_chunk_decode(&frame, &got), COHORT_OK);
        const struct cohorti_chunk *want = &cases[i].chunk;
        assert_true(got.kind == want->kind && got.first == want->first && got.last == want->last && got.aborts == want->aborts);
        assert_true(got.stream == want->stream && got.total == want->total && got.at == want->at);
        assert_int_equal(got.data_len, strlen(cases[i].data));
        assert_memory_equal(got.data, cases[i].data, got.data_len);
        cohorti_chunk_encode_prefix(prefix, want);
        assert_memory_equal(prefix, frame.data, sizeof prefix);
        unit_bytes_free(&file);
    }
}

static void the_widest_places(void **state)
{
    uint8_t prefix[COHORTI_CHUNK_PREFIX_BYTES + 1] = {0};
    struct cohorti_chunk got, chunk = {.stream = UINT16_MAX, .total = COHORTI_OFFSET_MAX + 2, .at = COHORTI_OFFSET_MAX};
    cohorti_chunk_encode_prefix(prefix, &chunk);
    const cohort_frame frame = {.type = cohorti_type_subject(MIDDLE, 0, 0), .data = prefix, .data_len = sizeof prefix};
    assert_int_equal(cohorti_chunk_decode(&frame, &got), COHORT_OK);
    assert_true(got.stream == UINT16_MAX && got.total == COHORTI_OFFSET_MAX + 2 && got.at == COHORTI_OFFSET_MAX && !got.first);
}

/* What a kind says of where a piece stands, its numbers must say as well. */
static void places_that_contradict_their_kind(void **state)
{
    static const struct {
        enum cohorti_kind kind;
        uint64_t total, at;
        size_t data_len;
        int status;
    } cases[] = {
        {FIRST, 100, 0, 4, COHORT_OK},          {FIRST, 100, 1, 4, COHORT_EPROTOCOL},   {FIRST, 100, 0, 0, COHORT_EPROTOCOL},
        {FIRST, 4, 0, 4, COHORT_EPROTOCOL},     {MIDDLE, 100, 1, 4, COHORT_OK},         {MIDDLE, 100, 0, 4, COHORT_EPROTOCOL},
        {MIDDLE, 100, 96, 4, COHORT_EPROTOCOL}, {LAST, 100, 96, 4, COHORT_OK},          {LAST, 100, 95, 4, COHORT_EPROTOCOL},
        {LAST, 100, 97, 4, COHORT_EPROTOCOL},   {MIDDLE, 100, 98, 4, COHORT_EPROTOCOL},
    };
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        uint8_t bytes[COHORTI_CHUNK_PREFIX_BYTES + 4] = {0};
        struct cohorti_chunk got;
        cohorti_chunk_encode_prefix(bytes, &(struct cohorti_chunk){.stream = 1, .total = cases[i].total, .at = cases[i].at});
        const cohort_frame frame = {.type = cohorti_type_subject(cases[i].kind, 0, 0),
                                    .data = bytes,
                                    .data_len = COHORTI_CHUNK_PREFIX_BYTES + cases[i].data_len};
        assert_int_equal(cohorti_chunk_decode(&frame, &got), cases[i].status);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_bytes),
        cmocka_unit_test(the_widest_places),
        cmocka_unit_test(places_that_contradict_their_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
