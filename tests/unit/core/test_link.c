/* SPDX-License-Identifier: Apache-2.0
 *
 * core/link: a stream of frames narrated as events, in every segmentation, with the decisions a cluster would take; what is
 * refused in which state; limits; memory that fails.
 */
#include "core/link.h"

#include "base/cursor.h"
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WELCOME UINT32_C(0xc0000001)
#define REFUSE UINT32_C(0xc0000002)
#define LEAVE UINT32_C(0xc0000003)
#define PING UINT32_C(0xc0000005)
#define PONG UINT32_C(0xc0000006)
#define SUBJECT UINT32_C(0xc0000004)
#define RESUME UINT32_C(0xc0000007)
#define ACK UINT32_C(0xc0000008)
#define MESSAGE UINT32_C(0x80000000)

#define HELLO_A "a:127.0.0.2:9000:cohort/1-1;inc=5;attempt=1"
#define HELLO_OLD "a:127.0.0.2:9000"
#define V1 "\0\1"
#define MARK0 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define HALF_7 "\0\0\0\0\0\0\0\7\0\0\0\0\0\0\0\0\0\3" MARK0 MARK0 MARK0 /* its half 7, knows none of ours */
#define HALF_7_BYTES 66
#define ACK_0 "\0" MARK0
#define ACK_0_BYTES 17

struct frame {
    uint32_t type;
    const char *data;
    size_t len; /* 0: as far as the string goes */
};

#define GREET         \
    {                 \
        1, HELLO_A, 0 \
    }
#define WELCOMED       \
    {                  \
        WELCOME, V1, 2 \
    }
#define RESUMED                      \
    {                                \
        RESUME, HALF_7, HALF_7_BYTES \
    }

struct stream {
    uint8_t bytes[250000];
    size_t len;
};

#define MESSAGE_MAX ((size_t)100000)
static const struct cohorti_inbound_limits limits = {.message_bytes_max = MESSAGE_MAX, .subjects_max = 3, .window_bytes = 1 << 20};

static void put(struct stream *s, uint32_t type, const void *data, size_t len)
{
    assert_true(s->len + COHORT_FRAME_HEADER_BYTES + len <= sizeof s->bytes);
    cohort_frame_encode_header(s->bytes + s->len, type, len);
    if (len > 0) {
        memcpy(s->bytes + s->len + COHORT_FRAME_HEADER_BYTES, data, len);
    }
    s->len += COHORT_FRAME_HEADER_BYTES + len;
}

static void put_all(struct stream *s, const struct frame *frames, size_t count)
{
    s->len = 0;
    for (size_t i = 0; i < count; i++) {
        put(s, frames[i].type, frames[i].data, frames[i].len != 0 ? frames[i].len : strlen(frames[i].data));
    }
}

/* ---- narrating ----------------------------------------------------------------------------------------------------- */

struct rig {
    struct unit_memory memory;
    struct cohorti_link link;
    struct cohorti_inbound inbound;
    bool sinks;
    size_t sunk;
    char text[8192];
    size_t text_len;
};

static void rig_open(struct rig *r)
{
    unit_memory_init(&r->memory);
    cohorti_link_init(&r->link, &r->memory.alloc);
    cohorti_inbound_init(&r->inbound, &r->memory.alloc, &limits);
    struct cohorti_resume told;
    cohorti_inbound_marks(&r->inbound, 1, &told); /* gives credit */
    r->sinks = false;
    r->sunk = 0;
    r->text[0] = '\0';
    r->text_len = 0;
}

/* As in the shell: what RESUME says is told before the link opens, and is the peer's credit. */
static void rig_open_link(struct rig *r)
{
    struct cohorti_resume marks;
    cohorti_inbound_marks(&r->inbound, 1, &marks);
    cohorti_link_open(&r->link, &r->inbound);
}

static void rig_close(struct rig *r)
{
    cohorti_link_deinit(&r->link);
    cohorti_inbound_deinit(&r->inbound);
    unit_memory_assert_empty(&r->memory);
}

static void say(struct rig *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct rig *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    r->text_len += (size_t)snprintf(r->text + r->text_len, sizeof r->text - r->text_len, "%s", r->text_len == 0 ? "" : "; ");
    r->text_len += (size_t)vsnprintf(r->text + r->text_len, sizeof r->text - r->text_len, format, args);
    va_end(args);
    assert_true(r->text_len < sizeof r->text);
}

static unsigned sum_of(const uint8_t *data, size_t len)
{
    unsigned sum = 0;
    for (size_t i = 0; i < len; i++) {
        sum = sum * 31 + data[i];
    }
    return sum;
}

/* Delivered and counted, as the shell does. */
static void say_taken(struct rig *r)
{
    struct cohorti_delivery *d = &r->link.delivery;
    if (d->partial != NULL && d->chunk.first && d->kind == COHORTI_KIND_MESSAGE) {
        assert_int_equal(cohorti_inbound_collect(&r->inbound, d), COHORT_OK);
    }
    if (d->partial != NULL && !d->whole) {
        cohorti_inbound_commit(&r->inbound, d, true);
        return;
    }
    if (d->raw) {
        say(r, "RAW %d %zu", (int)d->raw_type, d->body_len);
    } else if (d->kind == COHORTI_KIND_MESSAGE) {
        say(r, "MESSAGE %s %zu/%x", d->subject->name, d->body_len, sum_of(d->body, d->body_len));
    } else {
        say(r, "KIND %u %s %zu", d->kind, d->subject == NULL ? "-" : d->subject->name, d->body_len);
    }
    cohorti_inbound_commit(&r->inbound, d, true);
}

static void say_event(struct rig *r, const struct cohorti_link_event *e)
{
    switch (e->type) {
    case COHORTI_LINK_EVENT_HELLO:
        say(r, "HELLO %s", r->link.peer.id);
        break;
    case COHORTI_LINK_EVENT_WELCOME:
        say(r, "WELCOME %u", r->link.version);
        break;
    case COHORTI_LINK_EVENT_REFUSE:
        say(r, "REFUSE %s %u %s", cohort_error_name(e->code), (unsigned)e->refuse.value, e->refuse.text);
        break;
    case COHORTI_LINK_EVENT_LEAVE:
        say(r, "LEAVE %s", cohort_error_name(e->code));
        break;
    case COHORTI_LINK_EVENT_ECHO:
        say(r, "ECHO %zu", e->data_len);
        break;
    case COHORTI_LINK_EVENT_PING:
        say(r, "PING %zu", e->data_len);
        break;
    case COHORTI_LINK_EVENT_PONG:
        say(r, "PONG %zu", e->data_len);
        break;
    case COHORTI_LINK_EVENT_RAW:
        say(r, "RAW %d %zu", (int)e->raw_type, e->data_len);
        break;
    case COHORTI_LINK_EVENT_TAKEN:
        say_taken(r);
        break;
    case COHORTI_LINK_EVENT_RESUME:
        say(r, "RESUME %u", (unsigned)r->link.resume.half);
        (void)cohorti_inbound_resume(&r->inbound, r->link.resume.half);
        break;
    case COHORTI_LINK_EVENT_ACK:
        say(r, "ACK %x", r->link.ack.present);
        break;
    case COHORTI_LINK_EVENT_FAILED:
        say(r, "FAILED %s", cohort_error_name(e->code));
        break;
    }
}

static void poll_all(struct rig *r)
{
    struct cohorti_link_event event;
    while (cohorti_link_poll(&r->link, &event)) {
        say_event(r, &event);
    }
}

/* Decide as a cluster does that wants this peer; after all that could be read was read. */
static void decide(struct rig *r)
{
    while (r->link.state == COHORTI_LINK_GREETED || r->link.state == COHORTI_LINK_WELCOMED) {
        if (r->link.state == COHORTI_LINK_GREETED) {
            cohorti_link_admit(&r->link);
        } else {
            rig_open_link(r);
        }
        poll_all(r);
    }
}

/* What may be read to where it belongs is; returns how much that was. */
static size_t sink(struct rig *r, const uint8_t *bytes, size_t len)
{
    struct cohorti_room room;
    size_t n = 0;
    if (r->sinks && cohorti_link_sink(&r->link, &room)) {
        n = len < room.len ? len : room.len;
        memcpy(room.at, bytes, n);
        cohorti_link_sunk(&r->link, n);
        r->sunk += n;
    }
    return n;
}

/* One piece, in memory of its own that is gone afterwards. */
static void feed(struct rig *r, const uint8_t *bytes, size_t len)
{
    size_t sunk = sink(r, bytes, len);
    bytes += sunk;
    len -= sunk;
    struct unit_bytes piece = unit_bytes_copy(bytes, len);
    cohorti_link_feed(&r->link, piece.bytes, piece.len);
    poll_all(r);
    unit_bytes_free(&piece);
    decide(r);
}

static void feed_in_pieces(struct rig *r, const struct stream *s, size_t piece)
{
    for (size_t at = 0; at < s->len; at += piece) {
        feed(r, s->bytes + at, s->len - at < piece ? s->len - at : piece);
    }
}

static void expect_stream(const struct stream *s, const char *text)
{
    static const size_t pieces[] = {1, 2, 3, 15, 16, 17, 64, 4096, SIZE_MAX / 2};
    for (size_t i = 0; i < 2 * UNIT_COUNT(pieces); i++) {
        struct rig r;
        rig_open(&r);
        r.sinks = i % 2 == 1;
        feed_in_pieces(&r, s, pieces[i / 2]);
        assert_string_equal(r.text, text);
        assert_int_equal(r.link.bytes_in, s->len);
        rig_close(&r);
    }
}

static void expect_frames(const struct frame *frames, size_t count, const char *text)
{
    static struct stream s;
    put_all(&s, frames, count);
    expect_stream(&s, text);
}

#define EXPECT(text, ...)                                    \
    do {                                                     \
        const struct frame frames_[] = {__VA_ARGS__};        \
        expect_frames(frames_, UNIT_COUNT(frames_), (text)); \
    } while (0)

/* ---- sessions ------------------------------------------------------------------------------------------------------ */

static const struct frame session[] = {
    GREET,
    WELCOMED,
    RESUMED,
    {SUBJECT, "\0\0\0\0first", 9},
    {ACK, ACK_0, ACK_0_BYTES},
    {MESSAGE, "one", 3},
    {MESSAGE, "", 0},
    {SUBJECT, "\0\0\0\1second", 10},
    {MESSAGE | 1, "xy", 2},
    {7, "raw", 3},
    {2, "echo", 4},
    {0xe0001234, "optional", 8},
    {MESSAGE, "z", 1},
    {LEAVE, "", 0},
};
#define SESSION_TEXT                                                                                                         \
    "HELLO a; WELCOME 1; RESUME 7; ACK 1; MESSAGE first 3/1ae66; MESSAGE first 0/0; MESSAGE second 2/f01; RAW 7 3; ECHO 4; " \
    "MESSAGE first 1/7a; "                                                                                                   \
    "LEAVE ELEFT"

static void a_session_reads_the_same_in_every_segmentation(void **state)
{
    static struct stream s;
    expect_frames(session, UNIT_COUNT(session), SESSION_TEXT);
    put_all(&s, session, UNIT_COUNT(session));
    for (size_t cut = 0; cut <= s.len; cut++) {
        struct rig r;
        rig_open(&r);
        feed(&r, s.bytes, cut);
        feed(&r, s.bytes + cut, s.len - cut);
        assert_string_equal(r.text, SESSION_TEXT);
        rig_close(&r);
    }
}

static void put_chunk(struct stream *s, enum cohorti_kind kind, uint16_t stream, size_t total, size_t at, size_t len)
{
    static uint8_t data[COHORTI_FRAME_BYTES_MAX];
    cohorti_chunk_encode_prefix(data, &(struct cohorti_chunk){.stream = stream, .total = total, .at = at});
    for (size_t i = 0; i < len; i++) {
        data[COHORTI_CHUNK_PREFIX_BYTES + i] = (uint8_t)((at + i) * 7 + (at + i) / 251);
    }
    put(s, cohorti_type_subject(kind, 0, 0), data, COHORTI_CHUNK_PREFIX_BYTES + len);
}

/* Messages in chunks, with others between, and a large frame: read to where they belong they are what they are when fed, wherever reads end. */
static void large_messages_are_read_to_their_place(void **state)
{
    static const struct frame opened[] = {GREET, WELCOMED, RESUMED, {SUBJECT, "\0\0\0\0large", 9}};
    static const size_t pieces[] = {COHORTI_FRAME_FRONT_BYTES - 1, 500, 4095, 4096, 20000, 70000};
    static uint8_t data[60000];
    static struct stream s;
    static char text[256];
    struct rig r;
    put_all(&s, opened, UNIT_COUNT(opened));
    put_chunk(&s, COHORTI_KIND_CHUNK_FIRST, 0, 40000, 0, 10000);
    put_chunk(&s, COHORTI_KIND_CHUNK_MIDDLE, 0, 40000, 10000, 20000);
    put_chunk(&s, COHORTI_KIND_CHUNK_FIRST, 3, 90000, 0, 45000);
    put(&s, MESSAGE, "between", 7);
    put_chunk(&s, COHORTI_KIND_CHUNK_LAST, 0, 40000, 30000, 10000);
    put(&s, MESSAGE, data, sizeof data);
    put_chunk(&s, COHORTI_KIND_CHUNK_LAST, 3, 90000, 45000, 45000);
    put(&s, LEAVE, "", 0);
    rig_open(&r);
    feed(&r, s.bytes, s.len);
    (void)snprintf(text, sizeof text, "%s", r.text);
    assert_non_null(strstr(text, "MESSAGE large 40000/"));
    assert_non_null(strstr(text, "MESSAGE large 90000/"));
    assert_non_null(strstr(text, "MESSAGE large 60000/"));
    rig_close(&r);
    expect_stream(&s, text);
    for (size_t i = 0; i < UNIT_COUNT(pieces); i++) {
        rig_open(&r);
        r.sinks = true;
        for (size_t at = 0; at < s.len;) { /* as the shell reads: a place, and the front of what is behind it */
            struct cohorti_room room;
            size_t front = cohorti_link_front_missing(&r.link);
            size_t len = front > 0 ? front : pieces[i];
            len += cohorti_link_sink(&r.link, &room) ? room.len : 0;
            len = len < s.len - at ? len : s.len - at;
            feed(&r, s.bytes + at, len);
            at += len;
        }
        assert_string_equal(r.text, text);
        assert_int_equal(r.link.bytes_in, s.len);
        assert_true(r.sunk > 0);
        rig_close(&r);
    }
}

/* However little is missing of a large frame: else it would be read 32 bytes at a time, as the front of the next is. */
static void the_last_bytes_of_a_large_frame_are_asked_for(void **state)
{
    static const struct frame opened[] = {GREET, WELCOMED, RESUMED, {SUBJECT, "\0\0\0\0large", 9}};
    static uint8_t data[60000];
    static struct stream s;
    struct rig r;
    put_all(&s, opened, UNIT_COUNT(opened));
    rig_open(&r);
    feed(&r, s.bytes, s.len);
    for (size_t missing = 1; missing < 1024; missing *= 2) {
        struct cohorti_room room = {0};
        size_t before = s.len;
        put(&s, MESSAGE, data, sizeof data);
        feed(&r, s.bytes + before, s.len - before - missing);
        assert_true(cohorti_link_sink(&r.link, &room));
        assert_int_equal(room.len, missing);
        feed(&r, s.bytes + s.len - missing, missing);
        s.len = before;
    }
    rig_close(&r);
}

/* What comes behind waits as long as the decision takes, and is then read in order. */
static void bytes_behind_a_decision_are_kept(void **state)
{
    static struct stream s;
    struct rig r;
    put_all(&s, session, UNIT_COUNT(session));
    rig_open(&r);
    struct unit_bytes piece = unit_bytes_copy(s.bytes, s.len);
    cohorti_link_feed(&r.link, piece.bytes, piece.len);
    poll_all(&r);
    unit_bytes_free(&piece);
    assert_string_equal(r.text, "HELLO a");
    poll_all(&r);
    rig_open_link(&r); /* not yet */
    poll_all(&r);
    assert_string_equal(r.text, "HELLO a");
    cohorti_link_admit(&r.link);
    poll_all(&r);
    assert_string_equal(r.text, "HELLO a; WELCOME 1");
    cohorti_link_admit(&r.link); /* was decided */
    poll_all(&r);
    assert_string_equal(r.text, "HELLO a; WELCOME 1");
    assert_false(cohorti_link_is_open(&r.link));
    rig_open_link(&r);
    assert_true(cohorti_link_is_open(&r.link));
    poll_all(&r);
    assert_string_equal(r.text, SESSION_TEXT);
    rig_close(&r);
}

static void a_decision_may_come_before_the_rest_was_polled(void **state)
{
    static struct stream s;
    struct rig r;
    struct cohorti_link_event event;
    put_all(&s, session, UNIT_COUNT(session));
    rig_open(&r);
    cohorti_link_feed(&r.link, s.bytes, s.len);
    while (cohorti_link_poll(&r.link, &event)) {
        say_event(&r, &event);
        cohorti_link_admit(&r.link);
        rig_open_link(&r);
    }
    assert_string_equal(r.text, SESSION_TEXT);
    rig_close(&r);
}

static void closing_while_bytes_are_kept_gives_them_back(void **state)
{
    static struct stream s;
    struct rig r;
    put_all(&s, session, UNIT_COUNT(session));
    for (int admit = 0; admit < 2; admit++) {
        rig_open(&r);
        cohorti_link_feed(&r.link, s.bytes, s.len);
        poll_all(&r);
        if (admit) {
            cohorti_link_admit(&r.link);
            poll_all(&r);
        }
        cohorti_link_close(&r.link);
        poll_all(&r);
        cohorti_link_feed(&r.link, s.bytes, s.len); /* counted, not read */
        poll_all(&r);
        assert_string_equal(r.text, admit ? "HELLO a; WELCOME 1" : "HELLO a");
        assert_int_equal(r.link.bytes_in, 2 * s.len);
        rig_close(&r);
    }
}

/* On a legacy link every type but 1 and 2 is the application's, whatever its top bits. */
static void a_legacy_session(void **state)
{
    EXPECT("HELLO a; RAW 0 1; RAW -1 1; RAW -2147483648 2; RAW -1073741823 2; RAW -536870912 0; RAW 2147483647 1; ECHO 2; RAW 3 0",
           {1, HELLO_OLD, 0}, {0, "0", 0}, {UINT32_MAX, "m", 0}, {MESSAGE, "ab", 0}, {WELCOME, V1, 2}, {0xe0000000, "", 0},
           {INT32_MAX, "x", 0}, {2, "ee", 0}, {3, "", 0});
    EXPECT("HELLO a; RAW 5 1; FAILED EHELLOTWICE", {1, HELLO_OLD, 0}, {5, "x", 0}, {1, HELLO_OLD, 0});
}

/* ---- what may not come --------------------------------------------------------------------------------------------- */

static void the_first_frame_is_a_hello_and_the_only_one(void **state)
{
    EXPECT("FAILED ENOHELLO", {2, "echo", 0});
    EXPECT("FAILED ENOHELLO", {7, "", 0}, GREET);
    EXPECT("FAILED ENOHELLO", WELCOMED);
    EXPECT("FAILED ENOHELLO", {LEAVE, "", 0});
    EXPECT("FAILED EHELLO", {1, "", 0});
    EXPECT("FAILED EHELLO", {1, "a:127.0.0.2", 0});
    EXPECT("FAILED EHELLO", {1, "a:127.0.0.2:9000:cohort/1-1", 0});
    EXPECT("HELLO a; FAILED EHELLOTWICE", GREET, GREET);
    EXPECT("HELLO a; WELCOME 1; FAILED EHELLOTWICE", GREET, WELCOMED, {1, HELLO_OLD, 0}, {7, "x", 0});
}

static void nothing_but_control_comes_before_welcome(void **state)
{
    EXPECT("HELLO a; FAILED EPROTOCOL", GREET, {7, "raw", 0}, WELCOMED);
    EXPECT("HELLO a; FAILED EPROTOCOL", GREET, {2, "echo", 0});
    EXPECT("HELLO a; FAILED EPROTOCOL", GREET, {MESSAGE, "m", 0});
    EXPECT("HELLO a; FAILED EPROTOCOL", GREET, {PING, "m", 0});
    EXPECT("HELLO a; WELCOME 1; RESUME 7; PING 1; PONG 0", GREET, WELCOMED, RESUMED, {PING, "m", 0}, {PONG, "", 0});
    EXPECT("HELLO a; FAILED EPROTOCOL", GREET, RESUMED);
    EXPECT("HELLO a; FAILED EPROTOCOL", GREET, {ACK, ACK_0, ACK_0_BYTES});
    EXPECT("HELLO a; FAILED EPROTOCOL", GREET, {SUBJECT, "\0\0\0\0s", 5});
    EXPECT("HELLO a; LEAVE ELEFT", GREET, {LEAVE, "", 0}, WELCOMED);
    EXPECT("HELLO a; WELCOME 1", GREET, {0xe0001234, "optional", 0}, WELCOMED);
    EXPECT("HELLO a; FAILED EPROTOCOL", GREET, {0xc0001234, "mandatory", 0});
}

static void nothing_but_resume_opens_the_lanes(void **state)
{
#define BEFORE "HELLO a; WELCOME 1; FAILED EPROTOCOL"
    EXPECT(BEFORE, GREET, WELCOMED, {7, "raw", 0}, RESUMED);
    EXPECT(BEFORE, GREET, WELCOMED, {SUBJECT, "\0\0\0\0s", 5});
    EXPECT(BEFORE, GREET, WELCOMED, {MESSAGE, "m", 0});
    EXPECT(BEFORE, GREET, WELCOMED, {PING, "m", 0});
    EXPECT(BEFORE, GREET, WELCOMED, {ACK, ACK_0, ACK_0_BYTES});
    EXPECT(BEFORE, GREET, WELCOMED, {RESUME, HALF_7, HALF_7_BYTES - 1});
    EXPECT("HELLO a; WELCOME 1; LEAVE ELEFT", GREET, WELCOMED, {LEAVE, "", 0}, RESUMED);
    EXPECT("HELLO a; WELCOME 1; RESUME 7; FAILED EPROTOCOL", GREET, WELCOMED, RESUMED, RESUMED);
    EXPECT("HELLO a; WELCOME 1; RESUME 7; FAILED EPROTOCOL", GREET, WELCOMED, RESUMED, {ACK, ACK_0, ACK_0_BYTES - 1});
    EXPECT("HELLO a; RAW -1073741817 66", {1, HELLO_OLD, 0}, RESUMED); /* to a node of 2014 it is a type like any other */
}

static void welcome_is_checked(void **state)
{
    EXPECT("HELLO a; FAILED EPROTOCOL", GREET, {WELCOME, "\1", 1});
    EXPECT("HELLO a; FAILED EPROTOCOL", GREET, {WELCOME, "", 0});
    EXPECT("HELLO a; FAILED EVERSION", GREET, {WELCOME, "\0\0", 2});
    EXPECT("HELLO a; FAILED EVERSION", GREET, {WELCOME, "\0\2", 2});
    EXPECT("HELLO a; FAILED EVERSION", {1, "a:127.0.0.2:9000:cohort/1-9;inc=5", 0}, {WELCOME, "\0\2", 2});
    EXPECT("HELLO a; WELCOME 1", {1, "a:127.0.0.2:9000:cohort/1-9;inc=5", 0}, {WELCOME, "\0\1later", 7});
    EXPECT("HELLO a; WELCOME 1; FAILED EPROTOCOL", GREET, WELCOMED, WELCOMED);
}

static void refuse_ends_the_link_in_any_state(void **state)
{
    EXPECT("HELLO a; REFUSE ESTALE 258 too old", GREET, {REFUSE, "\0\0\0\x33\0\0\0\0\0\0\1\2too old", 19}, WELCOMED);
    EXPECT("HELLO a; WELCOME 1; REFUSE EDUPLICATE 0 ", GREET, WELCOMED, {REFUSE, "\0\0\0\x35\0\0\0\0\0\0\0\0", 12}, RESUMED);
    EXPECT("HELLO a; FAILED EPROTOCOL", GREET, {REFUSE, "\0\0\0\x33", 4});
}

static void unknown_control_frames(void **state)
{
    EXPECT("HELLO a; WELCOME 1; RESUME 7; RAW 7 1", GREET, WELCOMED, RESUMED, {0xe000ffff, "skip", 0}, {0xe000000f, "", 0},
           {7, "x", 0});
    EXPECT("HELLO a; WELCOME 1; RESUME 7; FAILED EPROTOCOL", GREET, WELCOMED, RESUMED, {0xc000000f, "", 0}, {7, "x", 0});
    EXPECT("HELLO a; WELCOME 1; RESUME 7; FAILED EPROTOCOL", GREET, WELCOMED, RESUMED, {0xc0000000, "", 0});
    EXPECT("HELLO a; WELCOME 1; RESUME 7; FAILED EPROTOCOL", GREET, WELCOMED, RESUMED,
           {0xc1000004, "\0\0\0\0s", 5}); /* a bit that must be zero */
}

static void subjects_are_announced_in_order_within_limits(void **state)
{
#define OPENED GREET, WELCOMED, RESUMED
#define BROKEN "HELLO a; WELCOME 1; RESUME 7; FAILED "
    EXPECT(BROKEN "EPROTOCOL", OPENED, {MESSAGE, "never announced", 0});
    EXPECT(BROKEN "EPROTOCOL", OPENED, {SUBJECT, "\0\0\0\1s", 5});
    EXPECT(BROKEN "EPROTOCOL", OPENED, {SUBJECT, "\0\0\0\0s", 5}, {SUBJECT, "\0\0\0\0t", 5});
    EXPECT(BROKEN "EPROTOCOL", OPENED, {SUBJECT, "\0\0\0\0s", 5}, {SUBJECT, "\0\0\0\2t", 5});
    EXPECT(BROKEN "EPROTOCOL", OPENED, {SUBJECT, "\0\0\0\0", 4});
    EXPECT(BROKEN "EPROTOCOL", OPENED, {SUBJECT, "\0\0\0", 3});
    EXPECT(BROKEN "EPROTOCOL", OPENED, {SUBJECT, "\0\0\0\0#7", 6});
    EXPECT(BROKEN "EPROTOCOL", OPENED, {SUBJECT, "\0\0\0\0a b", 7});
    EXPECT(BROKEN "EPROTOCOL", OPENED, {SUBJECT, "\0\0\0\0a\0b", 7});
    EXPECT(BROKEN "ELIMIT", OPENED, {SUBJECT, "\0\0\0\0s", 5}, {SUBJECT, "\0\0\0\1s", 5}, {SUBJECT, "\0\0\0\2s", 5},
           {SUBJECT, "\0\0\0\3s", 5});
    EXPECT(BROKEN "EPROTOCOL", OPENED, {SUBJECT, "\0\0\0\0s", 5}, {MESSAGE | 1, "beyond", 0});
    EXPECT(BROKEN "EPROTOCOL", OPENED, {SUBJECT, "\0\0\0\0s", 5}, {MESSAGE | UINT32_C(1) << 27, "short", 0});
    EXPECT(BROKEN "EPROTOCOL", OPENED, {SUBJECT, "\0\0\0\0s", 5}, {MESSAGE | 3 << 25, "no lane", 0});
    EXPECT("HELLO a; WELCOME 1; RESUME 7; RAW 7 1", OPENED, {MESSAGE | UINT32_C(7) << 27, "withdrawn", 0}, {7, "x", 0});
}

static void the_failure_says_what_was_met(void **state)
{
    static struct stream s;
    struct rig r;
    const struct frame frames[] = {GREET, WELCOMED, RESUMED, {MESSAGE | 9, "x", 0}};
    put_all(&s, frames, UNIT_COUNT(frames));
    rig_open(&r);
    feed(&r, s.bytes, s.len);
    assert_string_equal(r.link.detail, "message on a subject never announced (type -2147483639)");
    rig_close(&r);
    put_all(&s, (const struct frame[]){{1, "a:nowhere:9000", 0}}, 1);
    rig_open(&r);
    feed(&r, s.bytes, s.len);
    assert_non_null(strstr(r.link.detail, "nowhere"));
    rig_close(&r);
}

static void bytes_that_are_no_frame(void **state)
{
    static struct stream s;
    memcpy(s.bytes, "GET / HTTP/1.1\r\n", s.len = 16);
    expect_stream(&s, "FAILED EMARKER");
    put_all(&s, (const struct frame[]){GREET, WELCOMED, RESUMED, {7, "x", 0}}, 4);
    memcpy(s.bytes + s.len, "\xfe\xed\xca\xfe\xca\xfe\xfe\xee", 8);
    s.len += 8;
    expect_stream(&s, "HELLO a; WELCOME 1; RESUME 7; RAW 7 1; FAILED EMARKER");
}

/* Who reads the log wants to know what it was. */
static void what_is_no_frame_is_shown(void **state)
{
    static const struct {
        const char *bytes, *detail;
        size_t len;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: x\r\n", "it begins \"GET / HTTP/1.1\\x0d\\x0a\"", 25},
        {"\xfe\xed\xff", "it begins \"\\xfe\\xed\\xff\"", 3},
        {"\xfe\xed\xca\xfe\xca\xfe\xfe\xed\xff\xff\xff\xff\0\0\0\x0f", "15 (type -1), at most 1040 is possible here", 16},
        {"\xfe\xed\xca\xfe\xca\xfe\xfe\xed\0\0\0\x01\x80\0\0\0more", "2147483648 (type 1), at most 1040 is possible here", 20},
    };
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        struct rig r;
        rig_open(&r);
        feed(&r, (const uint8_t *)cases[i].bytes, cases[i].len);
        assert_int_equal(r.link.state, COHORTI_LINK_CLOSED);
        assert_string_equal(r.link.detail, cases[i].detail);
        rig_close(&r);
    }
}

/* ---- limits -------------------------------------------------------------------------------------------------------- */

/* Only the header of the frame that is too long: it fails before its data come. */
static void expect_longest(const struct frame *before, size_t count, size_t data_len, bool fits)
{
    static struct stream s;
    struct rig r;
    put_all(&s, before, count);
    cohort_frame_encode_header(s.bytes + s.len, 7, data_len);
    s.len += COHORT_FRAME_HEADER_BYTES;
    rig_open(&r);
    feed(&r, s.bytes, s.len);
    if (fits) {
        assert_int_not_equal(r.link.state, COHORTI_LINK_CLOSED);
        assert_null(strstr(r.text, "FAILED"));
    } else {
        assert_int_equal(r.link.state, COHORTI_LINK_CLOSED);
        assert_non_null(strstr(r.text, "FAILED ELENGTH"));
        assert_true(r.memory.largest < 4096);
    }
    rig_close(&r);
}

static void each_state_has_its_own_limit(void **state)
{
    static const struct frame hello = GREET;
    static const struct frame opened[] = {GREET, WELCOMED, RESUMED};
    static const struct frame legacy = {1, HELLO_OLD, 0};
    const size_t largest = COHORTI_FRAME_BYTES_MAX - COHORT_FRAME_HEADER_BYTES;
    expect_longest(NULL, 0, COHORTI_HELLO_BYTES_MAX, true);
    expect_longest(NULL, 0, COHORTI_HELLO_BYTES_MAX + 1, false);
    expect_longest(&hello, 1, COHORTI_CONTROL_BYTES_MAX, true);
    expect_longest(&hello, 1, COHORTI_CONTROL_BYTES_MAX + 1, false);
    expect_longest(opened, 3, largest, true);
    expect_longest(opened, 3, largest + 1, false);
    expect_longest(&legacy, 1, largest, true);
    expect_longest(&legacy, 1, largest + 1, false);
}

static void a_long_hello_is_held_by_the_link_not_by_its_limit(void **state)
{
    char hello[COHORTI_HELLO_BYTES_MAX + 1];
    memset(hello, 'x', sizeof hello);
    memcpy(hello, "a:127.0.0.2:9000:", 17); /* a fourth field that is not ours: legacy */
    EXPECT("HELLO a; RAW 7 1", {1, hello, COHORTI_HELLO_BYTES_MAX}, {7, "x", 0});
    EXPECT("FAILED ELENGTH", {1, hello, COHORTI_HELLO_BYTES_MAX + 1});
}

/* ---- memory -------------------------------------------------------------------------------------------------------- */

static bool is_prefix_then_enomem(const char *text)
{
    const char *fails = strstr(text, "FAILED ENOMEM");
    size_t len = fails == NULL ? 0 : (size_t)(fails - text);
    return fails != NULL && fails[strlen("FAILED ENOMEM")] == '\0' && strncmp(text, SESSION_TEXT, len) == 0;
}

static void every_allocation_may_fail(void **state)
{
    static const size_t pieces[] = {1, 7, 40, SIZE_MAX / 2};
    static struct stream s;
    put_all(&s, session, UNIT_COUNT(session));
    for (size_t i = 0; i < UNIT_COUNT(pieces); i++) {
        size_t n = 0, failed;
        do {
            struct rig r;
            rig_open(&r);
            r.memory.fail_at = ++n;
            feed_in_pieces(&r, &s, pieces[i]);
            failed = r.memory.calls >= n;
            assert_true(failed ? is_prefix_then_enomem(r.text) : strcmp(r.text, SESSION_TEXT) == 0);
            rig_close(&r);
        } while (failed);
        assert_true(n > 3);
    }
}

static void an_idle_link_holds_only_its_subjects(void **state)
{
    static struct stream s;
    struct rig r;
    put_all(&s, session, UNIT_COUNT(session) - 1);
    rig_open(&r);
    feed_in_pieces(&r, &s, 100);
    struct cohorti_link_event event;
    assert_false(cohorti_link_poll(&r.link, &event));
    assert_int_equal(r.memory.blocks, 3); /* two names and the table */
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_reads_the_same_in_every_segmentation),
        cmocka_unit_test(large_messages_are_read_to_their_place),
        cmocka_unit_test(the_last_bytes_of_a_large_frame_are_asked_for),
        cmocka_unit_test(bytes_behind_a_decision_are_kept),
        cmocka_unit_test(a_decision_may_come_before_the_rest_was_polled),
        cmocka_unit_test(closing_while_bytes_are_kept_gives_them_back),
        cmocka_unit_test(a_legacy_session),
        cmocka_unit_test(the_first_frame_is_a_hello_and_the_only_one),
        cmocka_unit_test(nothing_but_control_comes_before_welcome),
        cmocka_unit_test(nothing_but_resume_opens_the_lanes),
        cmocka_unit_test(welcome_is_checked),
        cmocka_unit_test(refuse_ends_the_link_in_any_state),
        cmocka_unit_test(unknown_control_frames),
        cmocka_unit_test(subjects_are_announced_in_order_within_limits),
        cmocka_unit_test(the_failure_says_what_was_met),
        cmocka_unit_test(bytes_that_are_no_frame),
        cmocka_unit_test(what_is_no_frame_is_shown),
        cmocka_unit_test(each_state_has_its_own_limit),
        cmocka_unit_test(a_long_hello_is_held_by_the_link_not_by_its_limit),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(an_idle_link_holds_only_its_subjects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
