/* SPDX-License-Identifier: Apache-2.0
 *
 * wire/control: the type space, and each control frame against its golden bytes, at every capacity and every length.
 */
#include "wire/control.h"

#include "base/prng.h"
#include "support.h"

#include <cohort/frame.h>
#include <stdlib.h>
#include <string.h>

typedef int encode_fn(const void *in, uint8_t *out, size_t cap, size_t *len);

static int encode_welcome(const void *in, uint8_t *out, size_t cap, size_t *len)
{
    return cohorti_welcome_encode(in, out, cap, len);
}

static int encode_refuse(const void *in, uint8_t *out, size_t cap, size_t *len)
{
    return cohorti_refuse_encode(in, out, cap, len);
}

static int encode_subject(const void *in, uint8_t *out, size_t cap, size_t *len)
{
    return cohorti_subject_encode(in, out, cap, len);
}

/* The file holds one frame of `type` whose data is what `encode` makes of `in`. Returns the file; *frame points into it. */
static struct unit_bytes golden(const char *path, uint32_t type, encode_fn *encode, const void *in, cohort_frame *frame)
{
    struct unit_bytes file = unit_vector_hex(path);
    size_t consumed, needed;
    uint8_t header[COHORT_FRAME_HEADER_BYTES];
    assert_int_equal(cohort_frame_decode(file.bytes, file.len, 4096, frame, &consumed, &needed), COHORT_OK);
    assert_int_equal(consumed, file.len);
    assert_int_equal(frame->type, type);
    cohort_frame_encode_header(header, type, frame->data_len);
    assert_memory_equal(header, file.bytes, sizeof(header));
    for (size_t cap = 0; encode != NULL && cap <= frame->data_len; cap++) {
        uint8_t *out = malloc(cap + 1); /* + 1: not 0 */
        size_t len = 777;
        int rc = encode(in, out + 1, cap, &len);
        assert_int_equal(rc, cap < frame->data_len ? COHORT_ESIZE : COHORT_OK);
        if (rc == COHORT_OK) {
            assert_int_equal(len, frame->data_len);
            assert_memory_equal(out + 1, frame->data, len);
        }
        free(out);
    }
    return file;
}

static void type_space(void **state)
{
    assert_int_equal(cohorti_type_class(0), COHORTI_TYPE_RAW);
    assert_int_equal(cohorti_type_class(2), COHORTI_TYPE_RAW);
    assert_int_equal(cohorti_type_class(0x7fffffff), COHORTI_TYPE_RAW);
    assert_int_equal(cohorti_type_class(0x80000000), COHORTI_TYPE_SUBJECT);
    assert_int_equal(cohorti_type_class(0xbfffffff), COHORTI_TYPE_SUBJECT);
    assert_int_equal(cohorti_type_class(0xc0000000), COHORTI_TYPE_CONTROL);
    assert_int_equal(cohorti_type_class(0xffffffff), COHORTI_TYPE_CONTROL);
    for (unsigned kind = COHORTI_KIND_MESSAGE; kind <= COHORTI_KIND_VOID; kind++) {
        static const uint32_t numbers[] = {0, 1, 0x1234567, COHORTI_SUBJECT_NUMBER_MAX};
        for (size_t i = 0; i < UNIT_COUNT(numbers); i++) {
            for (unsigned lane = 0; lane <= COHORTI_LANE_WIRE_MAX; lane++) {
                uint32_t type = cohorti_type_subject((enum cohorti_kind)kind, lane, numbers[i]);
                assert_int_equal(cohorti_type_class(type), COHORTI_TYPE_SUBJECT);
                assert_int_equal(cohorti_type_kind(type), kind);
                assert_int_equal(cohorti_type_lane(type), lane);
                assert_int_equal(cohorti_type_number(type), numbers[i]);
            }
        }
    }
}

static void control_codes(void **state)
{
    assert_int_equal(cohorti_type_control(COHORTI_CONTROL_WELCOME), 0xc0000001);
    assert_int_equal(cohorti_type_control(COHORTI_CONTROL_SUBJECT), 0xc0000004);
    assert_int_equal(cohorti_type_code(0xc0000001), COHORTI_CONTROL_WELCOME);
    assert_int_equal(cohorti_type_code(0xc000ffff), 0xffff);
    assert_int_equal(cohorti_type_code(0xc0000001 | COHORTI_CONTROL_OPTIONAL), COHORTI_CONTROL_WELCOME);
    for (uint32_t bit = UINT32_C(1) << 16; bit <= UINT32_C(1) << 28; bit <<= 1) {
        assert_int_equal(cohorti_type_code(0xc0000001 | bit), 0); /* reserved bits must be zero */
    }
}

static void welcome(void **state)
{
    struct cohorti_welcome w = {1}, back;
    cohort_frame frame;
    struct unit_bytes file = golden("cohort/welcome.hex", 0xc0000001, encode_welcome, &w, &frame);
    assert_int_equal(cohorti_welcome_decode(frame.data, frame.data_len, &back), COHORT_OK);
    assert_int_equal(back.version, 1);
    assert_int_equal(cohorti_welcome_decode(frame.data, 1, &back), COHORT_EPROTOCOL);
    assert_int_equal(cohorti_welcome_decode(frame.data, 0, &back), COHORT_EPROTOCOL);
    assert_int_equal(cohorti_welcome_decode(NULL, 0, &back), COHORT_EPROTOCOL);
    assert_int_equal(cohorti_welcome_decode("\x12\x34later", 7, &back), COHORT_OK); /* what follows belongs to later versions */
    assert_int_equal(back.version, 0x1234);
    unit_bytes_free(&file);
}

static void refuse(void **state)
{
    struct cohorti_refuse r = {COHORT_ESTALE, UINT64_C(0x0102030405060708), "a higher incarnation of n1 is known"}, back;
    cohort_frame frame;
    struct unit_bytes file = golden("cohort/refuse.hex", 0xc0000002, encode_refuse, &r, &frame);
    assert_int_equal(cohorti_refuse_decode(frame.data, frame.data_len, &back), COHORT_OK);
    assert_int_equal(back.reason, r.reason);
    assert_true(back.value == r.value);
    assert_string_equal(back.text, r.text);
    for (size_t len = 0; len <= frame.data_len; len++) {
        struct unit_bytes prefix = unit_bytes_copy(frame.data, len);
        assert_int_equal(cohorti_refuse_decode(prefix.bytes, len, &back), len < 12 ? COHORT_EPROTOCOL : COHORT_OK);
        unit_bytes_free(&prefix);
    }
    unit_bytes_free(&file);
}

static void refuse_from_a_hostile_peer(void **state)
{
    static const uint8_t numbers[][4] = {
        {0, 0, 0, 0}, {0, 0, 1, 0}, {0x7f, 0xff, 0xff, 0xff}, {0x80, 0, 0, 0}, {0xff, 0xff, 0xff, 0xd2}};
    uint8_t data[12 + 400] = {0};
    struct cohorti_refuse back;
    for (size_t i = 0; i < UNIT_COUNT(numbers); i++) {
        memcpy(data, numbers[i], 4);
        assert_int_equal(cohorti_refuse_decode(data, 12, &back), COHORT_OK);
        assert_int_equal(back.reason, COHORT_EREMOTE);
        assert_string_equal(back.text, "");
    }
    memcpy(data + 12, "a\n\0\xff\x7f~ ", 7);
    assert_int_equal(cohorti_refuse_decode(data, 19, &back), COHORT_OK);
    assert_string_equal(back.text, "a????~ ");
    memset(data + 12, 'x', 400);
    assert_int_equal(cohorti_refuse_decode(data, sizeof(data), &back), COHORT_OK);
    assert_int_equal(strlen(back.text), COHORTI_REFUSE_TEXT_BYTES_MAX);
}

static void leave_and_messages(void **state)
{
    cohort_frame frame;
    struct unit_bytes file = golden("cohort/leave.hex", cohorti_type_control(COHORTI_CONTROL_LEAVE), NULL, NULL, &frame);
    assert_int_equal(frame.data_len, 0);
    unit_bytes_free(&file);
    file = golden("cohort/message.hex", cohorti_type_subject(COHORTI_KIND_MESSAGE, 0, 5), NULL, NULL, &frame);
    assert_memory_equal(frame.data, "hello", 5);
    unit_bytes_free(&file);
    file =
        golden("cohort/request.hex", cohorti_type_subject(COHORTI_KIND_REQUEST, 3, COHORTI_SUBJECT_NUMBER_MAX), NULL, NULL, &frame);
    unit_bytes_free(&file);
}

static void subject(void **state)
{
    struct cohorti_subject s = {0, 5, "orders/new"}, back;
    cohort_frame frame;
    struct unit_bytes file = golden("cohort/subject.hex", 0xc0000004, encode_subject, &s, &frame);
    assert_int_equal(cohorti_subject_decode(frame.data, frame.data_len, &back), COHORT_OK);
    assert_int_equal(back.lane, 0);
    assert_int_equal(back.number, 5);
    assert_string_equal(back.name, "orders/new");
    for (size_t len = 0; len <= frame.data_len; len++) {
        struct unit_bytes prefix = unit_bytes_copy(frame.data, len);
        assert_int_equal(cohorti_subject_decode(prefix.bytes, len, &back), len < 5 ? COHORT_EPROTOCOL : COHORT_OK);
        unit_bytes_free(&prefix);
    }
    unit_bytes_free(&file);
}

static void malformed_subjects(void **state)
{
    struct cohorti_subject back;
    uint8_t data[4 + COHORT_SUBJECT_BYTES_MAX + 1] = {0x05, 0xff, 0xff, 0xff};
    memset(data + 4, 'n', COHORT_SUBJECT_BYTES_MAX + 1);
    assert_int_equal(cohorti_subject_decode(data, sizeof(data) - 1, &back), COHORT_OK);
    assert_int_equal(strlen(back.name), COHORT_SUBJECT_BYTES_MAX);
    assert_int_equal(back.lane, 2);
    assert_int_equal(back.number, COHORTI_SUBJECT_NUMBER_MAX);
    assert_int_equal(cohorti_subject_decode(data, sizeof(data), &back), COHORT_EPROTOCOL);
    assert_int_equal(cohorti_subject_decode("\x06\0\0\0n", 5, &back), COHORT_EPROTOCOL); /* lane 3 */
    assert_int_equal(cohorti_subject_decode("\x08\0\0\0n", 5, &back), COHORT_EPROTOCOL);
    assert_int_equal(cohorti_subject_decode("\0\0\0\0#1", 6, &back), COHORT_EPROTOCOL);
    assert_int_equal(cohorti_subject_decode("\0\0\0\0a b", 7, &back), COHORT_EPROTOCOL);
    assert_int_equal(cohorti_subject_decode("\0\0\0\0a\0", 6, &back), COHORT_EPROTOCOL);
    assert_int_equal(cohorti_subject_decode(NULL, 0, &back), COHORT_EPROTOCOL);
}

static int encode_resume(const void *in, uint8_t *out, size_t cap, size_t *len)
{
    return cohorti_resume_encode(in, out, cap, len);
}

static int encode_ack(const void *in, uint8_t *out, size_t cap, size_t *len)
{
    return cohorti_ack_encode(in, out, cap, len);
}

static void resume(void **state)
{
    const struct cohorti_resume r = {.half = UINT64_C(0x0102030405060708),
                                     .known = UINT64_C(0x1112131415161718),
                                     .lanes = {{5, 5}, {0, 0x400000}, {UINT64_C(0x100000000), UINT64_MAX}}};
    struct cohorti_resume back;
    cohort_frame frame;
    struct unit_bytes file = golden("cohort/resume.hex", 0xc0000007, encode_resume, &r, &frame);
    assert_int_equal(cohorti_resume_decode(frame.data, frame.data_len, &back), COHORT_OK);
    assert_true(back.half == r.half && back.known == r.known);
    for (size_t i = 0; i < COHORTI_LANE_COUNT; i++) {
        assert_true(back.lanes[i].received == r.lanes[i].received && back.lanes[i].limit == r.lanes[i].limit);
    }
    for (size_t len = 0; len < frame.data_len; len++) {
        struct unit_bytes prefix = unit_bytes_copy(frame.data, len);
        assert_int_equal(cohorti_resume_decode(prefix.bytes, len, &back), COHORT_EPROTOCOL);
        unit_bytes_free(&prefix);
    }
    uint8_t data[128];
    memcpy(data, frame.data, frame.data_len);
    assert_int_equal(cohorti_resume_decode(data, frame.data_len + 1, &back), COHORT_OK); /* bytes after belong to later versions */
    data[17] = 4;                                                                        /* lanes */
    assert_int_equal(cohorti_resume_decode(data, frame.data_len, &back), COHORT_EPROTOCOL);
    data[17] = 3;
    data[25] = 6; /* received 6, limit 5 */
    assert_int_equal(cohorti_resume_decode(data, frame.data_len, &back), COHORT_EPROTOCOL);
    data[25] = 5;
    memset(data, 0, 8); /* no half */
    assert_int_equal(cohorti_resume_decode(data, frame.data_len, &back), COHORT_EPROTOCOL);
    unit_bytes_free(&file);
}

static void ack(void **state)
{
    const struct cohorti_ack a = {.present = 5, .lanes = {{7, 9}, {0, 0}, {UINT64_C(0x0102030405060708), UINT64_MAX}}};
    struct cohorti_ack back;
    cohort_frame frame;
    struct unit_bytes file = golden("cohort/ack.hex", 0xc0000008, encode_ack, &a, &frame);
    assert_int_equal(cohorti_ack_decode(frame.data, frame.data_len, &back), COHORT_OK);
    assert_int_equal(back.present, 5);
    assert_true(back.lanes[0].received == 7 && back.lanes[0].limit == 9);
    assert_true(back.lanes[2].received == a.lanes[2].received && back.lanes[2].limit == UINT64_MAX);
    for (size_t len = 0; len < frame.data_len; len++) {
        struct unit_bytes prefix = unit_bytes_copy(frame.data, len);
        assert_int_equal(cohorti_ack_decode(prefix.bytes, len, &back), len == 17 ? COHORT_OK : COHORT_EPROTOCOL);
        unit_bytes_free(&prefix);
    }
    uint8_t data[34];
    memcpy(data, frame.data, sizeof data);
    data[17] = 0; /* lane 0 twice */
    assert_int_equal(cohorti_ack_decode(data, sizeof data, &back), COHORT_EPROTOCOL);
    data[17] = 3; /* no lane */
    assert_int_equal(cohorti_ack_decode(data, sizeof data, &back), COHORT_EPROTOCOL);
    data[17] = 1;
    data[8] = 10; /* received 10, limit 9 */
    assert_int_equal(cohorti_ack_decode(data, sizeof data, &back), COHORT_EPROTOCOL);
    unit_bytes_free(&file);
}

static void a_subject_of_another_lane(void **state)
{
    struct cohorti_subject s = {2, 1, "files"}, back;
    cohort_frame frame;
    struct unit_bytes file = golden("cohort/subject-bulk.hex", 0xc0000004, encode_subject, &s, &frame);
    assert_int_equal(cohorti_subject_decode(frame.data, frame.data_len, &back), COHORT_OK);
    assert_int_equal(back.lane, 2);
    assert_int_equal(back.number, 1);
    unit_bytes_free(&file);
}

/* Every control frame fits in the room that CONTROL_BYTES_MAX promises. */
static void largest_frames_fit(void **state)
{
    uint8_t out[COHORTI_CONTROL_BYTES_MAX];
    size_t len;
    struct cohorti_refuse r = {COHORT_ESTALE, UINT64_MAX, ""};
    struct cohorti_subject s = {2, COHORTI_SUBJECT_NUMBER_MAX, ""};
    const struct cohorti_resume resume = {.half = 1};
    const struct cohorti_ack ack = {.present = 7};
    memset(r.text, 't', sizeof(r.text) - 1);
    memset(s.name, 's', sizeof(s.name) - 1);
    assert_int_equal(cohorti_refuse_encode(&r, out, sizeof(out), &len), COHORT_OK);
    assert_int_equal(cohorti_subject_encode(&s, out, sizeof(out), &len), COHORT_OK);
    assert_int_equal(cohorti_resume_encode(&resume, out, sizeof(out), &len), COHORT_OK);
    assert_int_equal(cohorti_ack_encode(&ack, out, sizeof(out), &len), COHORT_OK);
}

static void random_bytes(void **state)
{
    struct cohorti_prng p;
    cohorti_prng_init(&p, 77);
    for (int round = 0; round < 20000; round++) {
        uint8_t data[300];
        size_t len = (size_t)cohorti_prng_below(&p, sizeof(data));
        for (size_t i = 0; i < len; i++) {
            data[i] = (uint8_t)cohorti_prng_next(&p);
        }
        struct unit_bytes copy = unit_bytes_copy(data, len);
        struct cohorti_welcome w;
        struct cohorti_refuse r;
        struct cohorti_subject s;
        assert_int_equal(cohorti_welcome_decode(copy.bytes, len, &w), len < 2 ? COHORT_EPROTOCOL : COHORT_OK);
        assert_int_equal(cohorti_refuse_decode(copy.bytes, len, &r), len < 12 ? COHORT_EPROTOCOL : COHORT_OK);
        int rc = cohorti_subject_decode(copy.bytes, len, &s);
        assert_true(rc == COHORT_OK || rc == COHORT_EPROTOCOL);
        struct cohorti_resume resumed;
        struct cohorti_ack acked;
        rc = cohorti_resume_decode(copy.bytes, len, &resumed);
        assert_true(rc == COHORT_OK || rc == COHORT_EPROTOCOL);
        rc = cohorti_ack_decode(copy.bytes, len, &acked);
        assert_true(rc == COHORT_OK || rc == COHORT_EPROTOCOL);
        unit_bytes_free(&copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(type_space),
        cmocka_unit_test(control_codes),
        cmocka_unit_test(welcome),
        cmocka_unit_test(refuse),
        cmocka_unit_test(refuse_from_a_hostile_peer),
        cmocka_unit_test(leave_and_messages),
        cmocka_unit_test(subject),
        cmocka_unit_test(malformed_subjects),
        cmocka_unit_test(a_subject_of_another_lane),
        cmocka_unit_test(resume),
        cmocka_unit_test(ack),
        cmocka_unit_test(largest_frames_fit),
        cmocka_unit_test(random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
