/* SPDX-License-Identifier: Apache-2.0
 *
 * What a link itself has to say against the receiving side: whatever sequence of calls the input makes, each that said COHORT_OK is read
 * by a link as exactly that, in order, and each that failed queued nothing. With a legacy peer the link reads as a 2014 node would
 * be read: raw frames within 32768 bytes. The messages of a session are those of fuzz_outbound.
 *
 * The input is read from the front: a byte of options, a byte for the failing allocation, then calls.
 */
#include "fuzz.h"

#include "core/link.h"
#include "core/sender.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECTED_MAX 512
#define MESSAGE_BYTES_MAX 40000
#define HALF 77 /* of the session, as RESUME names it */

struct expected {
    enum cohorti_link_event_type type;
    uint32_t raw_type;
    size_t len;
    uint8_t fill;
};

struct pair {
    const uint8_t *at; /* the input */
    size_t left;
    struct fuzz_memory memory, link_memory;
    struct cohorti_sender sender;
    struct cohorti_link link;
    struct cohorti_inbound inbound;
    bool legacy, opened, over;
    struct expected expected[EXPECTED_MAX];
    size_t first, count; /* expected[first .. count) */
};

static uint8_t data_block[MESSAGE_BYTES_MAX + 64];

static uint8_t take(struct pair *p)
{
    if (p->left == 0) {
        return 0;
    }
    p->left--;
    return *p->at++;
}

/* Sizes around the limits are worth more than those between. */
static size_t take_len(struct pair *p)
{
    static const size_t edges[] = {0, 1, 32751, 32752, 32753, MESSAGE_BYTES_MAX - 1, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX + 1};
    uint8_t b = take(p);
    return b < 248 ? b : edges[b - 248];
}

static void expect(struct pair *p, enum cohorti_link_event_type type, uint32_t raw_type, size_t len, uint8_t fill)
{
    FUZZ_CHECK(p->count < EXPECTED_MAX);
    p->expected[p->count++] = (struct expected){.type = type, .raw_type = raw_type, .len = len, .fill = fill};
}

static void check_event(struct pair *p, const struct cohorti_link_event *event)
{
    FUZZ_CHECK(p->first < p->count);
    const struct expected *e = &p->expected[p->first++];
    FUZZ_CHECK(event->type == e->type);
    if (e->type == COHORTI_LINK_EVENT_ECHO || e->type == COHORTI_LINK_EVENT_PING || e->type == COHORTI_LINK_EVENT_PONG ||
        e->type == COHORTI_LINK_EVENT_RAW) {
        FUZZ_CHECK(event->data_len == e->len && event->data_len <= COHORT_FRAME_LEGACY_BYTES_MAX - COHORT_FRAME_HEADER_BYTES);
        memset(data_block, e->fill, e->len);
        FUZZ_CHECK(e->len == 0 || memcmp(event->data, data_block, e->len) == 0);
    }
    if (e->type == COHORTI_LINK_EVENT_RAW) {
        FUZZ_CHECK(event->raw_type == e->raw_type);
    }
    if (e->type == COHORTI_LINK_EVENT_RESUME) {
        FUZZ_CHECK(p->link.resume.half == HALF && p->link.resume.lanes[2].limit == e->len);
    }
    if (e->type == COHORTI_LINK_EVENT_ACK) {
        FUZZ_CHECK(p->link.ack.present == e->fill && p->link.ack.lanes[0].received == ((e->fill & 1) != 0 ? e->len : 0));
    }
}

/* Move `len` bytes of what is queued across. */
static void transfer(struct pair *p, size_t len)
{
    struct cohorti_link_event event;
    size_t queued = cohorti_buffer_len(&p->sender.out);
    len = len < queued ? len : queued;
    uint8_t *piece = fuzz_copy(cohorti_buffer_data(&p->sender.out), len);
    cohorti_sender_written(&p->sender, len);
    FUZZ_CHECK(cohorti_buffer_len(&p->sender.out) == queued - len);
    cohorti_link_feed(&p->link, piece, len);
    for (bool again = true; again;) {
        while (cohorti_link_poll(&p->link, &event)) {
            check_event(p, &event);
        }
        again = p->link.state == COHORTI_LINK_GREETED || p->link.state == COHORTI_LINK_WELCOMED;
        if (p->link.state == COHORTI_LINK_GREETED) {
            cohorti_link_admit(&p->link);
        } else if (p->link.state == COHORTI_LINK_WELCOMED) {
            cohorti_link_open(&p->link, &p->inbound);
        }
    }
    free(piece);
}

static void call_hello(struct pair *p)
{
    struct cohorti_hello hello = {.id = "fuzz", .ip = "127.0.0.1", .tcp_port = 9876};
    if (!p->legacy) {
        hello.extended = true;
        hello.version_min = hello.version_max = COHORTI_PROTOCOL_VERSION;
        hello.incarnation = 7;
    }
    int status = cohorti_sender_hello(&p->sender, &hello);
    p->over = status != COHORT_OK;
    if (status == COHORT_OK) {
        expect(p, COHORTI_LINK_EVENT_HELLO, 0, 0, 0);
    }
    if (status == COHORT_OK && !p->legacy) {
        status = cohorti_sender_welcome(&p->sender, COHORTI_PROTOCOL_VERSION);
        p->over = status != COHORT_OK;
        if (status == COHORT_OK) {
            expect(p, COHORTI_LINK_EVENT_WELCOME, 0, 0, 0);
        }
    }
}

static void call_end(struct pair *p, bool refuse)
{
    const struct cohorti_refuse refusal = {.reason = COHORT_ESTALE, .value = 9, .text = "a reason"};
    int status = refuse ? cohorti_sender_refuse(&p->sender, &refusal) : cohorti_sender_leave(&p->sender);
    p->over = true;
    if (status == COHORT_OK) {
        expect(p, refuse ? COHORTI_LINK_EVENT_REFUSE : COHORTI_LINK_EVENT_LEAVE, 0, 0, 0);
    }
}

/* What the status must have been, apart from lack of room and memory. */
static void check_status(const struct pair *p, uint32_t type, size_t len, int status)
{
    if (status == COHORT_EAGAIN || status == COHORT_ENOMEM) {
        FUZZ_CHECK(p->opened && (status == COHORT_EAGAIN || p->memory.failures > 0));
        return;
    }
    FUZZ_CHECK((status == COHORT_EINACTIVE) == !p->opened);
    FUZZ_CHECK(status != COHORT_ETYPE || type == 1 || type == 2);
    FUZZ_CHECK(status != COHORT_OK || len <= COHORT_FRAME_LEGACY_BYTES_MAX - COHORT_FRAME_HEADER_BYTES);
}

static int send_one(struct pair *p, uint8_t what, uint32_t type, const uint8_t *data, size_t len, enum cohorti_link_event_type *event)
{
    switch (what % 4) {
    case 0:
        *event = COHORTI_LINK_EVENT_ECHO;
        return cohorti_sender_echo(&p->sender, data, len);
    case 1:
        *event = p->legacy ? COHORTI_LINK_EVENT_ECHO : COHORTI_LINK_EVENT_PING;
        return cohorti_sender_ping(&p->sender, data, len);
    case 2:
        *event = p->legacy ? COHORTI_LINK_EVENT_ECHO : COHORTI_LINK_EVENT_PONG;
        return p->legacy ? cohorti_sender_echo(&p->sender, data, len) : cohorti_sender_pong(&p->sender, data, len);
    default:
        *event = p->legacy ? COHORTI_LINK_EVENT_RAW : COHORTI_LINK_EVENT_ECHO;
        return p->legacy ? cohorti_sender_raw(&p->sender, type, data, len) : cohorti_sender_echo(&p->sender, data, len);
    }
}

static void call_send(struct pair *p, uint8_t what)
{
    uint32_t type = (uint32_t)take(p) << 24 | take(p) % 8u;
    size_t len = take_len(p);
    uint8_t fill = take(p);
    enum cohorti_link_event_type event = COHORTI_LINK_EVENT_ECHO;
    memset(data_block, fill, len);
    size_t before = cohorti_buffer_len(&p->sender.out);
    uint64_t frames = p->sender.frames_out;
    int status = send_one(p, what, type, data_block, len, &event);
    check_status(p, type, len, status);
    if (status == COHORT_OK) {
        FUZZ_CHECK(cohorti_buffer_len(&p->sender.out) == before + COHORT_FRAME_HEADER_BYTES + len &&
                   p->sender.frames_out == frames + 1);
        expect(p, event, type, len, fill);
    } else {
        FUZZ_CHECK(cohorti_buffer_len(&p->sender.out) == before && p->sender.frames_out == frames);
    }
    FUZZ_CHECK(cohorti_buffer_len(&p->sender.out) <= p->sender.limits.queue_bytes_max);
}

static void call_open(struct pair *p)
{
    cohorti_sender_open(&p->sender, p->legacy);
    p->opened = true;
    if (p->legacy) {
        return;
    }
    struct cohorti_resume resume = {.half = HALF};
    resume.lanes[2].limit = take_len(p);
    int status = cohorti_sender_resume(&p->sender, &resume);
    p->over = status != COHORT_OK;
    if (status == COHORT_OK) {
        expect(p, COHORTI_LINK_EVENT_RESUME, 0, resume.lanes[2].limit, 0);
    }
}

static void call_ack(struct pair *p)
{
    struct cohorti_ack ack = {.present = 1 + take(p) % 7u};
    size_t received = take_len(p);
    ack.lanes[0].received = ack.lanes[0].limit = received;
    if (cohorti_sender_ack(&p->sender, &ack) == COHORT_OK) {
        expect(p, COHORTI_LINK_EVENT_ACK, 0, received, (uint8_t)ack.present);
    }
}

static void call(struct pair *p)
{
    uint8_t op = take(p) % 16;
    if (op == 0) {
        p->memory.fail_in = take(p) % 8;
    } else if (op == 1 && !p->legacy) {
        call_end(p, p->left % 2 == 0);
    } else if (op == 2 && !p->opened) {
        call_open(p);
    } else if (op <= 5) {
        transfer(p, take_len(p));
    } else if (op == 6 && p->opened && !p->legacy) {
        call_ack(p);
    } else {
        call_send(p, op);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct pair pair;
    struct pair *p = &pair;
    *p = (struct pair){.at = data, .left = len};
    uint8_t options = take(p);
    const struct cohorti_sender_limits limits = {.queue_bytes_max = 2048 + (size_t)(options >> 1) * 1024};
    const struct cohorti_inbound_limits in_limits = {.message_bytes_max = 1024, .subjects_max = 1, .window_bytes = 65536};
    p->legacy = (options & 1) != 0;
    fuzz_memory_init(&p->memory);
    fuzz_memory_init(&p->link_memory);
    p->memory.fail_in = take(p);
    cohorti_sender_init(&p->sender, &p->memory.alloc, &limits);
    cohorti_link_init(&p->link, &p->link_memory.alloc);
    cohorti_inbound_init(&p->inbound, &p->link_memory.alloc, &in_limits);
    call_hello(p);
    while (p->left > 0 && !p->over && p->count < EXPECTED_MAX - 1) {
        call(p);
    }
    transfer(p, SIZE_MAX);
    FUZZ_CHECK(p->first == p->count); /* all that was accepted has arrived */
    cohorti_sender_deinit(&p->sender);
    cohorti_link_deinit(&p->link);
    cohorti_inbound_deinit(&p->inbound);
    fuzz_memory_check_empty(&p->memory);
    fuzz_memory_check_empty(&p->link_memory);
    return 0;
}
