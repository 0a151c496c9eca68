/* SPDX-License-Identifier: Apache-2.0
 *
 * core/sender: the bytes of each frame, what may be sent to whom, and that a call queues whole frames or nothing.
 */
#include "core/sender.h"

#include "core/link.h"
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARKER "\xfe\xed\xca\xfe\xca\xfe\xfe\xed"

struct rig {
    struct unit_memory memory;
    struct cohorti_sender s;
};

static const struct cohorti_sender_limits roomy = {.queue_bytes_max = 1 << 20, .message_bytes_max = 100000, .subjects_max = 3};

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

static int message(struct rig *r, const char *subject, const char *data)
{
    return cohorti_sender_message(&r->s, subject, data, strlen(data));
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

static void a_subject_is_announced_once_and_numbered(void **state)
{
    struct rig r;
    rig_open(&r, &roomy);
    cohorti_sender_open(&r.s, false);
    assert_int_equal(message(&r, "s", "one"), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\xc0\0\0\4\0\0\0\x15"
                            "\0\0\0\0s" MARKER "\x80\0\0\0\0\0\0\x13"
                            "one");
    assert_int_equal(message(&r, "s", ""), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\x80\0\0\0\0\0\0\x10");
    assert_int_equal(message(&r, "t", "x"), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\xc0\0\0\4\0\0\0\x15"
                            "\0\0\0\1t" MARKER "\x80\0\0\1\0\0\0\x11"
                            "x");
    assert_int_equal(message(&r, "s", "y"), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\x80\0\0\0\0\0\0\x11"
                            "y");
    assert_int_equal(r.s.frames_out, 6);
    rig_close(&r);
}

static void raw_frames_and_echoes(void **state)
{
    struct rig r;
    rig_open(&r, &roomy);
    cohorti_sender_open(&r.s, false);
    assert_int_equal(message(&r, "#7", "raw"), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\0\0\0\7\0\0\0\x13"
                            "raw");
    assert_int_equal(message(&r, "#2147483647", ""), COHORT_OK);
    EXPECT_BYTES(&r, MARKER "\x7f\xff\xff\xff\0\0\0\x10");
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
    assert_int_equal(message(&r, "s", "x"), COHORT_EINACTIVE);
    assert_int_equal(message(&r, "#7", "x"), COHORT_EINACTIVE);
    assert_int_equal(cohorti_sender_echo(&r.s, "x", 1), COHORT_EINACTIVE);
    assert_int_equal(cohorti_buffer_len(&r.s.out), 0);
    rig_close(&r);
}

static void types_of_the_protocol_are_refused(void **state)
{
    static const struct {
        const char *subject;
        int to_cohort, to_legacy;
    } cases[] = {
        {"#1", COHORT_ETYPE, COHORT_ETYPE},
        {"#2", COHORT_ETYPE, COHORT_ETYPE},
        {"#0", COHORT_OK, COHORT_OK},
        {"#3", COHORT_OK, COHORT_OK},
        {"#2147483647", COHORT_OK, COHORT_OK},
        {"#2147483648", COHORT_ETYPE, COHORT_OK},
        {"#-2147483648", COHORT_ETYPE, COHORT_OK},
        {"#-1", COHORT_ETYPE, COHORT_OK},
        {"#4294967295", COHORT_ETYPE, COHORT_OK},
        {"#-1073741823", COHORT_ETYPE, COHORT_OK},
        {"named", COHORT_OK, COHORT_ELEGACY},
    };
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        for (int legacy = 0; legacy < 2; legacy++) {
            struct rig r;
            rig_open(&r, &roomy);
            cohorti_sender_open(&r.s, legacy);
            int expected = legacy ? cases[i].to_legacy : cases[i].to_cohort;
            assert_int_equal(message(&r, cases[i].subject, "x"), expected);
            assert_int_equal(cohorti_buffer_len(&r.s.out) > 0, expected == COHORT_OK);
            rig_close(&r);
        }
    }
}

static void sizes(void **state)
{
    static uint8_t data[100001];
    const size_t legacy_max = COHORT_FRAME_LEGACY_BYTES_MAX - COHORT_FRAME_HEADER_BYTES;
    struct rig r;
    rig_open(&r, &roomy);
    cohorti_sender_open(&r.s, false);
    assert_int_equal(cohorti_sender_message(&r.s, "s", data, 100001), COHORT_ESIZE);
    assert_int_equal(cohorti_sender_message(&r.s, "#7", data, 100001), COHORT_ESIZE);
    assert_int_equal(cohorti_sender_echo(&r.s, data, legacy_max + 1), COHORT_ESIZE);
    assert_int_equal(cohorti_buffer_len(&r.s.out), 0);
    assert_int_equal(cohorti_sender_message(&r.s, "s", data, 100000), COHORT_OK);
    assert_int_equal(cohorti_sender_message(&r.s, "#7", data, 100000), COHORT_OK);
    assert_int_equal(cohorti_sender_echo(&r.s, data, legacy_max), COHORT_OK);
    rig_close(&r);
    rig_open(&r, &roomy);
    cohorti_sender_open(&r.s, true);
    assert_int_equal(cohorti_sender_message(&r.s, "#7", data, legacy_max + 1), COHORT_ESIZE);
    assert_int_equal(cohorti_buffer_len(&r.s.out), 0);
    assert_int_equal(cohorti_sender_message(&r.s, "#7", data, legacy_max), COHORT_OK);
    assert_int_equal(cohorti_buffer_len(&r.s.out), COHORT_FRAME_LEGACY_BYTES_MAX);
    rig_close(&r);
}

static void subjects_are_limited(void **state)
{
    struct rig r;
    rig_open(&r, &roomy);
    cohorti_sender_open(&r.s, false);
    assert_int_equal(message(&r, "a", "x"), COHORT_OK);
    assert_int_equal(message(&r, "b", "x"), COHORT_OK);
    assert_int_equal(message(&r, "c", "x"), COHORT_OK);
    size_t queued = cohorti_buffer_len(&r.s.out);
    assert_int_equal(message(&r, "d", "x"), COHORT_ELIMIT);
    assert_int_equal(cohorti_buffer_len(&r.s.out), queued);
    assert_int_equal(message(&r, "a", "x"), COHORT_OK);
    assert_int_equal(message(&r, "#7", "x"), COHORT_OK);
    rig_close(&r);
}

/* ---- what was queued is what is read ------------------------------------------------------------------------------- */

struct reader {
    struct unit_memory memory;
    struct cohorti_link link;
    char text[1 << 16];
    size_t len;
    bool failed;
};

static void reader_open(struct reader *to)
{
    unit_memory_init(&to->memory);
    cohorti_link_init(&to->link, &to->memory.alloc, &(struct cohorti_link_limits){.message_bytes_max = 100000, .subjects_max = 1000});
    to->len = 0;
    to->failed = false;
}

static void reader_close(struct reader *to)
{
    cohorti_link_deinit(&to->link);
    unit_memory_assert_empty(&to->memory);
}

/* Move up to `len` queued bytes to the reader. */
static void transfer(struct rig *r, struct reader *to, size_t len)
{
    struct cohorti_link_event e;
    size_t n = cohorti_buffer_len(&r->s.out);
    n = n < len ? n : len;
    struct unit_bytes piece = unit_bytes_copy(cohorti_buffer_data(&r->s.out), n);
    cohorti_link_feed(&to->link, piece.bytes, piece.len);
    cohorti_sender_written(&r->s, n);
    while (cohorti_link_poll(&to->link, &e)) {
        to->failed = to->failed || e.type == COHORTI_LINK_EVENT_FAILED;
        if (e.type == COHORTI_LINK_EVENT_MESSAGE) {
            to->len += (size_t)snprintf(to->text + to->len, sizeof to->text - to->len, "%s=%zu;", e.subject, e.data_len);
        }
        cohorti_link_admit(&to->link);
        cohorti_link_open(&to->link);
    }
    unit_bytes_free(&piece);
}

static void greet(struct rig *r)
{
    struct cohorti_hello hello = {
        .id = "m", .ip = "127.0.1.1", .tcp_port = 9876, .extended = true, .version_min = 1, .version_max = 1, .incarnation = 7};
    assert_int_equal(cohorti_sender_hello(&r->s, &hello), COHORT_OK);
    assert_int_equal(cohorti_sender_welcome(&r->s, 1), COHORT_OK);
    cohorti_sender_open(&r->s, false);
}

/* A small queue: EAGAIN comes at every place, between a subject and its message too, and what was accepted arrives. */
static void a_full_queue_queues_nothing(void **state)
{
    static const struct cohorti_sender_limits tight = {.queue_bytes_max = 2000, .message_bytes_max = 100000, .subjects_max = 1000};
    static struct reader to;
    static char expected[1 << 16], data[1500];
    struct rig r;
    size_t len = 0;
    unsigned refused = 0;
    rig_open(&r, &tight);
    reader_open(&to);
    greet(&r);
    for (unsigned i = 0; i < 2000; i++) {
        char subject[16];
        size_t size = (i * 7919) % sizeof data;
        (void)snprintf(subject, sizeof subject, "s%u", i % 97);
        size_t queued = cohorti_buffer_len(&r.s.out);
        int status = cohorti_sender_message(&r.s, subject, data, size);
        if (status == COHORT_OK) {
            len += (size_t)snprintf(expected + len, sizeof expected - len, "%s=%zu;", subject, size);
        } else {
            assert_int_equal(status, COHORT_EAGAIN);
            assert_int_equal(cohorti_buffer_len(&r.s.out), queued);
            refused++;
        }
        transfer(&r, &to, (i * 31) % 1200);
    }
    transfer(&r, &to, SIZE_MAX);
    assert_true(refused > 100);
    assert_false(to.failed);
    assert_string_equal(to.text, expected);
    reader_close(&to);
    rig_close(&r);
}

/* What the limit leaves room for is accepted whatever the size, raw and named. */
static void an_empty_queue_takes_a_message_of_any_allowed_size(void **state)
{
    static uint8_t data[2000];
    const struct cohorti_sender_limits exact = {.queue_bytes_max = 2000 + 16, .message_bytes_max = 2000, .subjects_max = 3};
    struct rig r;
    rig_open(&r, &exact);
    cohorti_sender_open(&r.s, false);
    assert_int_equal(cohorti_sender_message(&r.s, "#7", data, 2000), COHORT_OK);
    assert_int_equal(cohorti_sender_message(&r.s, "#7", data, 0), COHORT_EAGAIN);
    rig_close(&r);
}

static void every_allocation_may_fail_and_leaves_the_stream_intact(void **state)
{
    static struct reader to;
    size_t n = 0;
    bool failed = true;
    while (failed) {
        struct rig r;
        char expected[4096];
        size_t len = 0;
        rig_open(&r, &(struct cohorti_sender_limits){.queue_bytes_max = 1 << 20, .message_bytes_max = 100000, .subjects_max = 100});
        reader_open(&to);
        greet(&r);
        r.memory.fail_at = r.memory.calls + ++n;
        expected[0] = '\0';
        for (unsigned i = 0; i < 60; i++) {
            char subject[16], data[500] = {0};
            (void)snprintf(subject, sizeof subject, "s%u", i % 20);
            size_t queued = cohorti_buffer_len(&r.s.out);
            int status = cohorti_sender_message(&r.s, subject, data, sizeof data);
            if (status == COHORT_OK) {
                len += (size_t)snprintf(expected + len, sizeof expected - len, "%s=500;", subject);
            } else {
                assert_int_equal(status, COHORT_ENOMEM);
                assert_int_equal(cohorti_buffer_len(&r.s.out), queued);
            }
        }
        failed = r.memory.calls >= r.memory.fail_at;
        transfer(&r, &to, SIZE_MAX);
        assert_false(to.failed);
        assert_string_equal(to.text, expected);
        to.text[0] = '\0';
        reader_close(&to);
        rig_close(&r);
    }
    assert_true(n > 20);
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
        cmocka_unit_test(a_subject_is_announced_once_and_numbered),
        cmocka_unit_test(raw_frames_and_echoes),
        cmocka_unit_test(a_legacy_peer_is_asked_with_echo),
        cmocka_unit_test(nothing_but_the_handshake_before_open),
        cmocka_unit_test(types_of_the_protocol_are_refused),
        cmocka_unit_test(sizes),
        cmocka_unit_test(subjects_are_limited),
        cmocka_unit_test(a_full_queue_queues_nothing),
        cmocka_unit_test(an_empty_queue_takes_a_message_of_any_allowed_size),
        cmocka_unit_test(every_allocation_may_fail_and_leaves_the_stream_intact),
        cmocka_unit_test(the_handshake_without_memory_queues_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
