/* SPDX-License-Identifier: Apache-2.0
 *
 * core/sender: the bytes of each frame, what may be sent to whom, and that a call queues whole frames or nothing.
 */
#include "core/sender.h"

#include "support.h"

#include <cohort/frame.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARKER "\xfe\xed\xca\xfe\xca\xfe\xfe\xed"

struct rig {
    struct unit_memory memory;
    struct cohorti_sender s;
};

static const struct cohorti_sender_limits roomy = {.queue_bytes_max = 1 << 20};

static void rig_open(struct rig *r, const struct cohorti_sender_limits *limits)
{
    unit_memory_init(&r->memory);
    cohorti_sender_init(&r->s, &r->memory.alloc, limits);
}

static void rig_close(struct rig *r)
{
    cohorti_sender_deinit(&r->s);
    unit_memory_assert_empty(&r->memory);
}

static void expect_bytes(struct rig *r, const char *bytes, size_t len)
{
    assert_int_equal(cohorti_buffer_len(&r->s.out), len);
    assert_memory_equal(cohorti_buffer_data(&r->s.out), bytes, len);
    uint64_t before = r->s.bytes_out;
    cohorti_sender_written(&r->s, len);
    assert_int_equal(r->s.bytes_out, before + len);
    assert_int_equal(cohorti_buffer_len(&r->s.out), 0);
}
#define EXPECT_BYTES(rig, literal) expect_bytes((rig), (literal), sizeof(literal) - 1)

static int raw(struct rig *r, uint32_t type, const char *data)
{
    return cohorti_sender_raw(&r->s, type, data, strlen(data));
}

/* ---- bytes --------------------------------------------------------------------------------------------------------- */

static void frames_of_the_handshake(void **state)
{
    struct rig r;
    struct cohorti_hello hello = {.id = "m",
                                  .ip = "127.0.1.1",
                                  .tcp_port = 9876,
                                  .extended = true,
                                  .version_min = 1,
                                  .version_max = 1,
                                  .incarnation = 7,
                                  .attempt = 3};
    struct cohorti_refuse refuse = {.reason = COHORT_ESTALE, .value = 258, .text = "why"};
    rig_open(&r, &roomy);
    assert_int_equal(cohorti_sender_hello(&r.s, &hello), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\0\0\0\1\0\0\0\x3b"
                            "m:127.0.1.1:9876:cohort/1-1;inc=7;attempt=3");
    assert_int_equal(cohorti_sender_welcome(&r.s, 1), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\xc0\0\0\1\0\0\0\x12"
                            "\0\1");
    assert_int_equal(cohorti_sender_refuse(&r.s, &refuse), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\xc0\0\0\2\0\0\0\x1f"
                            "\0\0\0\x33\0\0\0\0\0\0\1\2why");
    assert_int_equal(cohorti_sender_leave(&r.s), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\xc0\0\0\3\0\0\0\x10");
    assert_int_equal(r.s.frames_out, 4);
    rig_close(&r);
}

/* The 40 bytes that a node of 2014 sends. */
static void a_legacy_hello_is_that_of_2014(void **state)
{
    struct rig r;
    struct cohorti_hello hello = {.id = "127.0.1.1", .ip = "127.0.1.1", .tcp_port = 9876};
    rig_open(&r, &roomy);
    assert_int_equal(cohorti_sender_hello(&r.s, &hello), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\0\0\0\1\0\0\0\x28"
                            "127.0.1.1:127.0.1.1:9876");
    rig_close(&r);
}

static void frames_of_an_open_link(void **state)
{
    struct rig r;
    const struct cohorti_resume resume = {.half = 1, .known = 2, .lanes = {{3, 4}, {5, 6}, {7, 8}}};
    const struct cohorti_ack ack = {.present = 2, .lanes = {{0, 0}, {9, 10}, {0, 0}}};
    rig_open(&r, &roomy);
    cohorti_sender_open(&r.s, false);
    assert_int_equal(cohorti_sender_resume(&r.s, &resume), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\xc0\0\0\7\0\0\0\x52"
                            "\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\2\0\3"
                            "\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0\5\0\0\0\0\0\0\0\6"
                            "\0\0\0\0\0\0\0\7\0\0\0\0\0\0\0\x8");
    assert_int_equal(cohorti_sender_ack(&r.s, &ack), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\xc0\0\0\x8\0\0\0\x21"
                            "\1\0\0\0\0\0\0\0\x9\0\0\0\0\0\0\0\xa");
    assert_int_equal(cohorti_sender_echo(&r.s, "ping", 4), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\0\0\0\2\0\0\0\x14"
                            "ping");
    assert_int_equal(cohorti_sender_ping(&r.s, "ping", 4), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\xc0\0\0\5\0\0\0\x14"
                            "ping");
    assert_int_equal(cohorti_sender_pong(&r.s, "ping", 4), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\xc0\0\0\6\0\0\0\x14"
                            "ping");
    rig_close(&r);
}

static void raw_frames_to_a_legacy_peer(void **state)
{
    struct rig r;
    rig_open(&r, &roomy);
    cohorti_sender_open(&r.s, true);
    assert_int_equal(raw(&r, 7, "raw"), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\0\0\0\7\0\0\0\x13"
                            "raw");
    assert_int_equal(raw(&r, INT32_MAX, ""), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\x7f\xff\xff\xff\0\0\0\x10");
    assert_int_equal(raw(&r, UINT32_MAX, ""), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\xff\xff\xff\xff\0\0\0\x10");
    assert_int_equal(r.s.frames_out, 3);
    rig_close(&r);
}

/* A 2014 node knows no PING: it is asked with ECHO. */
static void a_legacy_peer_is_asked_with_echo(void **state)
{
    struct rig r;
    rig_open(&r, &roomy);
    cohorti_sender_open(&r.s, true);
    assert_int_equal(cohorti_sender_ping(&r.s, "ping", 4), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\0\0\0\2\0\0\0\x14"
                            "ping");
    rig_close(&r);
}

/* ---- what may be sent ---------------------------------------------------------------------------------------------- */

static void nothing_but_the_handshake_before_open(void **state)
{
    struct rig r;
    rig_open(&r, &roomy);
    assert_int_equal(raw(&r, 7, "x"), COHORT_EINACTIVE);
    assert_int_equal(cohorti_sender_echo(&r.s, "x", 1), COHORT_EINACTIVE);
    assert_int_equal(cohorti_sender_ping(&r.s, "x", 1), COHORT_EINACTIVE);
    assert_int_equal(cohorti_buffer_len(&r.s.out), 0);
    rig_close(&r);
}

static void types_of_the_protocol_are_refused(void **state)
{
    struct rig r;
    rig_open(&r, &roomy);
    cohorti_sender_open(&r.s, true);
    assert_int_equal(raw(&r, COHORT_TYPE_HELLO, "x"), COHORT_ETYPE);
    assert_int_equal(raw(&r, COHORT_TYPE_ECHO, "x"), COHORT_ETYPE);
    assert_int_equal(cohorti_buffer_len(&r.s.out), 0);
    assert_int_equal(raw(&r, 0, "x"), COHORT_OK);
    assert_int_equal(raw(&r, UINT32_C(0x80000000), "x"), COHORT_OK); /* to a node of 2014 a type like any other */
    rig_close(&r);
}

static void sizes(void **state)
{
    static uint8_t data[COHORT_FRAME_LEGACY_BYTES_MAX];
    const size_t legacy_max = COHORT_FRAME_LEGACY_BYTES_MAX - COHORT_FRAME_HEADER_BYTES;
    struct rig r;
    rig_open(&r, &roomy);
    cohorti_sender_open(&r.s, true);
    assert_int_equal(cohorti_sender_raw(&r.s, 7, data, legacy_max + 1), COHORT_ESIZE);
    assert_int_equal(cohorti_sender_echo(&r.s, data, legacy_max + 1), COHORT_ESIZE);
    assert_int_equal(cohorti_buffer_len(&r.s.out), 0);
    assert_int_equal(cohorti_sender_raw(&r.s, 7, data, legacy_max), COHORT_OK);
    assert_int_equal(cohorti_buffer_len(&r.s.out), COHORT_FRAME_LEGACY_BYTES_MAX);
    assert_int_equal(cohorti_sender_echo(&r.s, data, legacy_max), COHORT_OK);
    rig_close(&r);
}

static void a_full_queue_queues_nothing(void **state)
{
    static uint8_t data[1000];
    struct rig r;
    rig_open(&r, &(struct cohorti_sender_limits){.queue_bytes_max = 1016});
    cohorti_sender_open(&r.s, true);
    assert_int_equal(cohorti_sender_raw(&r.s, 7, data, 1000), COHORT_OK);
    assert_int_equal(cohorti_sender_raw(&r.s, 7, data, 0), COHORT_EAGAIN);
    assert_int_equal(cohorti_sender_echo(&r.s, data, 0), COHORT_EAGAIN);
    assert_int_equal(cohorti_buffer_len(&r.s.out), 1016);
    assert_int_equal(r.s.frames_out, 1);
    cohorti_sender_written(&r.s, 16);
    assert_int_equal(cohorti_sender_raw(&r.s, 7, data, 0), COHORT_OK);
    rig_close(&r);
}

/* Only of what the application sends: nobody waits to send another answer to an echo. */
static void who_was_refused_is_told_once_that_there_is_room(void **state)
{
    struct rig r;
    char data[1000] = {0};
    rig_open(&r, &(struct cohorti_sender_limits){.queue_bytes_max = 10 * sizeof data});
    cohorti_sender_open(&r.s, true);
    for (unsigned round = 0; round < 2; round++) {
        int status = COHORT_OK;
        while ((status = cohorti_sender_echo(&r.s, data, sizeof data)) == COHORT_OK) {
        }
        assert_int_equal(status, COHORT_EAGAIN);
        assert_false(r.s.refused);
        assert_int_equal(cohorti_sender_raw(&r.s, 7, data, sizeof data), COHORT_EAGAIN);
        assert_int_equal(cohorti_sender_raw(&r.s, 7, data, sizeof data), COHORT_EAGAIN);
        cohorti_sender_written(&r.s, cohorti_buffer_len(&r.s.out) - 5 * sizeof data - 1);
        assert_false(cohorti_sender_take_room(&r.s));
        cohorti_sender_written(&r.s, 1);
        assert_true(cohorti_sender_take_room(&r.s));
        assert_false(cohorti_sender_take_room(&r.s));
    }
    rig_close(&r);
}

static void the_handshake_without_memory_queues_nothing(void **state)
{
    struct rig r;
    rig_open(&r, &roomy);
    r.memory.fail_at = 1;
    assert_int_equal(cohorti_sender_welcome(&r.s, 1), COHORT_ENOMEM);
    assert_int_equal(cohorti_buffer_len(&r.s.out), 0);
    assert_int_equal(r.s.frames_out, 0);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_of_the_handshake),
        cmocka_unit_test(a_legacy_hello_is_that_of_2014),
        cmocka_unit_test(frames_of_an_open_link),
        cmocka_unit_test(raw_frames_to_a_legacy_peer),
        cmocka_unit_test(a_legacy_peer_is_asked_with_echo),
        cmocka_unit_test(nothing_but_the_handshake_before_open),
        cmocka_unit_test(types_of_the_protocol_are_refused),
        cmocka_unit_test(sizes),
        cmocka_unit_test(a_full_queue_queues_nothing),
        cmocka_unit_test(who_was_refused_is_told_once_that_there_is_room),
        cmocka_unit_test(the_handshake_without_memory_queues_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
