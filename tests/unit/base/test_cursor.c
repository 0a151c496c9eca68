/* SPDX-License-Identifier: Apache-2.0
 *
 * base/cursor: byte order, bounds at every length, and failure that stays.
 */
#include "base/cursor.h"

#include "support.h"

#include <string.h>

static const uint8_t layout[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09,
                                 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 'a',  'b',  'c'};

static void reads_big_endian(void **state)
{
    struct cohorti_reader r;
    cohorti_reader_init(&r, layout, sizeof(layout));
    assert_int_equal(cohorti_read_u8(&r), 0x01);
    assert_int_equal(cohorti_read_u16(&r), 0x0203);
    assert_int_equal(cohorti_read_u32(&r), 0x04050607);
    assert_true(cohorti_read_u64(&r) == UINT64_C(0x08090a0b0c0d0e0f));
    assert_int_equal(cohorti_reader_left(&r), 3);
    assert_memory_equal(cohorti_read_bytes(&r, 3), "abc", 3);
    assert_non_null(cohorti_read_bytes(&r, 0));
    assert_false(r.failed);
    assert_int_equal(cohorti_read_u8(&r), 0);
    assert_true(r.failed);
    assert_null(cohorti_read_bytes(&r, 0)); /* sticky */
}

static void writes_big_endian(void **state)
{
    struct cohorti_writer w;
    uint8_t out[sizeof(layout)];
    cohorti_writer_init(&w, out, sizeof(out));
    cohorti_write_u8(&w, 0x01);
    cohorti_write_u16(&w, 0x0203);
    cohorti_write_u32(&w, 0x04050607);
    cohorti_write_u64(&w, UINT64_C(0x08090a0b0c0d0e0f));
    cohorti_write_bytes(&w, "abc", 3);
    cohorti_write_bytes(&w, NULL, 0);
    assert_false(w.failed);
    assert_int_equal(cohorti_writer_len(&w), sizeof(layout));
    assert_memory_equal(out, layout, sizeof(layout));
    cohorti_write_u8(&w, 1);
    assert_true(w.failed);
    assert_int_equal(cohorti_writer_len(&w), sizeof(layout));
}

/* Every shorter input fails somewhere, gives zeros from there on, and is not read beyond (exact heap copies). */
static void short_input_fails_and_stays_failed(void **state)
{
    for (size_t len = 0; len < sizeof(layout); len++) {
        struct unit_bytes copy = unit_bytes_copy(layout, len);
        struct cohorti_reader r;
        cohorti_reader_init(&r, copy.bytes, copy.len);
        (void)cohorti_read_u8(&r);
        (void)cohorti_read_u16(&r);
        (void)cohorti_read_u32(&r);
        (void)cohorti_read_u64(&r);
        (void)cohorti_read_bytes(&r, 3);
        assert_true(r.failed);
        size_t left = cohorti_reader_left(&r);
        assert_int_equal(cohorti_read_u8(&r), 0);
        assert_int_equal(cohorti_reader_left(&r), left);
        unit_bytes_free(&copy);
    }
}

static void short_output_fails_and_stays_failed(void **state)
{
    for (size_t cap = 0; cap < 7; cap++) {
        struct unit_bytes out = unit_bytes_copy("\xee\xee\xee\xee\xee\xee\xee", cap);
        struct cohorti_writer w;
        cohorti_writer_init(&w, out.bytes, cap);
        cohorti_write_u32(&w, 0x01020304);
        cohorti_write_bytes(&w, "abc", 3);
        assert_int_equal(w.failed, cap < 7);
        assert_int_equal(cohorti_writer_len(&w), cap < 4 ? 0 : 4);
        cohorti_write_u8(&w, 9); /* would fit, but what it belongs to is lost */
        for (size_t i = cohorti_writer_len(&w); i < cap; i++) {
            assert_int_equal(out.bytes[i], 0xee);
        }
        unit_bytes_free(&out);
    }
}

static void no_bytes_at_all(void **state)
{
    struct cohorti_reader r;
    struct cohorti_writer w;
    cohorti_reader_init(&r, NULL, 0);
    assert_int_equal(cohorti_reader_left(&r), 0);
    assert_int_equal(cohorti_read_u64(&r), 0);
    assert_true(r.failed);
    cohorti_reader_init(&r, layout, 4);
    assert_null(cohorti_read_bytes(&r, SIZE_MAX));
    cohorti_writer_init(&w, NULL, 0);
    cohorti_write_u8(&w, 1);
    assert_true(w.failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_big_endian),
        cmocka_unit_test(writes_big_endian),
        cmocka_unit_test(short_input_fails_and_stays_failed),
        cmocka_unit_test(short_output_fails_and_stays_failed),
        cmocka_unit_test(no_bytes_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
