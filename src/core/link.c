/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads frames, checks that each is allowed in the state the link is in, and gives events.
 *
 * Invariants: exactly one HELLO, and it is the first frame; between admit and open a cohort peer may send nothing but WELCOME,
 * REFUSE or LEAVE, and after that nothing else before RESUME; no allocation is larger than a frame within limits or a handshake piece.
 * It does not know who else is connected, does not write, and has no clock.
 */
#include "core/link.h"

#include "base/alloc.h"
#include "base/cursor.h"
#include "base/text.h"

#include <assert.h>
#include <string.h>

_Static_assert(COHORTI_FRAME_LEAD_BYTES == COHORTI_CHUNK_PREFIX_BYTES, "a chunk is placed when its prefix is there");

void cohorti_link_init(struct cohorti_link *link, const cohort_allocator *alloc)
{
    memset(link, 0, sizeof *link);
    link->alloc = alloc;
    link->state = COHORTI_LINK_GREETING;
    cohorti_frame_reader_init(&link->reader, alloc, COHORT_FRAME_HEADER_BYTES + COHORTI_HELLO_BYTES_MAX);
}

void cohorti_link_deinit(struct cohorti_link *link)
{
    cohorti_frame_reader_deinit(&link->reader);
    cohorti_release(link->alloc, link->held);
    cohorti_release(link->alloc, link->feeding);
    memset(link, 0, sizeof *link);
    link->state = COHORTI_LINK_CLOSED;
}

bool cohorti_link_is_open(const struct cohorti_link *link)
{
    return link->state == COHORTI_LINK_OPEN;
}

static bool waits_for_decision(const struct cohorti_link *link)
{
    return link->state == COHORTI_LINK_GREETED || link->state == COHORTI_LINK_WELCOMED;
}

/* A failed link has no more events than this one. `detail` may be written by the caller before. */
static bool fail(struct cohorti_link *link, struct cohorti_link_event *event, int code)
{
    link->state = COHORTI_LINK_CLOSED;
    event->type = COHORTI_LINK_EVENT_FAILED;
    event->code = code;
    return true;
}

static struct cohorti_text detail(struct cohorti_link *link)
{
    struct cohorti_text t;
    cohorti_text_init(&t, link->detail, sizeof link->detail);
    return t;
}

static bool fail_with_type(struct cohorti_link *link, struct cohorti_link_event *event, int code, const char *what, uint32_t type)
{
    struct cohorti_text t = detail(link);
    cohorti_text_add(&t, what);
    cohorti_text_add(&t, " (type ");
    cohorti_text_add_i64(&t, (int32_t)type);
    cohorti_text_add(&t, ")");
    return fail(link, event, code);
}

/* No frame: what came instead, or which length it had. */
static bool fail_with_frame(struct cohorti_link *link, struct cohorti_link_event *event, int code)
{
    const uint8_t *bytes = NULL;
    size_t len = cohorti_frame_reader_culprit(&link->reader, &bytes);
    struct cohorti_text t = detail(link);
    if (code == COHORT_EMARKER) {
        cohorti_text_add(&t, "it begins ");
        cohorti_text_add_quoted(&t, bytes, len, len);
    } else if (code == COHORT_ELENGTH && len == COHORT_FRAME_HEADER_BYTES) {
        struct cohorti_reader header;
        cohorti_reader_init(&header, bytes, len);
        (void)cohorti_read_u64(&header);
        uint32_t type = cohorti_read_u32(&header);
        uint32_t length = cohorti_read_u32(&header);
        cohorti_text_add_u64(&t, length);
        cohorti_text_add(&t, " (type ");
        cohorti_text_add_i64(&t, (int32_t)type);
        cohorti_text_add(&t, "), at most ");
        cohorti_text_add_u64(&t, link->reader.limit_bytes);
        cohorti_text_add(&t, " is possible here");
    }
    return fail(link, event, code);
}

void cohorti_link_feed(struct cohorti_link *link, const void *bytes, size_t len)
{
    link->bytes_in += len;
    if (link->state == COHORTI_LINK_CLOSED) {
        return;
    }
    assert(!waits_for_decision(link)); /* the caller stops reading while we wait */
    cohorti_frame_reader_feed(&link->reader, bytes, len);
}

/* What is missing of a small frame is copied sooner than asked for by itself. */
bool cohorti_link_sink(const struct cohorti_link *link, struct cohorti_room *out)
{
    bool large = link->reader.partial_need >= COHORTI_FRAME_SINK_BYTES;
    return link->state == COHORTI_LINK_OPEN && large && cohorti_frame_reader_sink(&link->reader, out);
}

size_t cohorti_link_front_missing(const struct cohorti_link *link)
{
    return cohorti_frame_reader_front_missing(&link->reader);
}

void cohorti_link_sunk(struct cohorti_link *link, size_t n)
{
    link->bytes_in += n;
    cohorti_frame_reader_sunk(&link->reader, n);
}

static uint8_t *place(void *ctx, const cohort_frame *front)
{
    return cohorti_inbound_place(ctx, front);
}

/* ---- frames of the handshake --------------------------------------------------------------------------------------- */

static bool on_hello(struct cohorti_link *link, const cohort_frame *frame, struct cohorti_link_event *event)
{
    if (frame->type != COHORT_TYPE_HELLO) {
        return fail_with_type(link, event, COHORT_ENOHELLO, "expected HELLO, got another frame", frame->type);
    }
    struct cohorti_text why = detail(link);
    int status = cohorti_hello_decode(frame->data, frame->data_len, &link->peer, &why);
    if (status != COHORT_OK) {
        return fail(link, event, status);
    }
    link->detail[0] = '\0';
    link->state = COHORTI_LINK_GREETED;
    event->type = COHORTI_LINK_EVENT_HELLO;
    return true;
}

static bool on_welcome(struct cohorti_link *link, const cohort_frame *frame, struct cohorti_link_event *event)
{
    struct cohorti_welcome welcome;
    int status = cohorti_welcome_decode(frame->data, frame->data_len, &welcome);
    if (status != COHORT_OK || link->state != COHORTI_LINK_ADMITTED) {
        return fail_with_type(link, event, COHORT_EPROTOCOL, "WELCOME malformed or out of place", frame->type);
    }
    if (welcome.version < link->peer.version_min || welcome.version > link->peer.version_max ||
        welcome.version > COHORTI_PROTOCOL_VERSION) {
        struct cohorti_text t = detail(link);
        cohorti_text_add(&t, "WELCOME with version ");
        cohorti_text_add_u64(&t, welcome.version);
        return fail(link, event, COHORT_EVERSION);
    }
    link->version = welcome.version;
    link->state = COHORTI_LINK_WELCOMED;
    event->type = COHORTI_LINK_EVENT_WELCOME;
    return true;
}

static bool on_refuse(struct cohorti_link *link, const cohort_frame *frame, struct cohorti_link_event *event)
{
    if (cohorti_refuse_decode(frame->data, frame->data_len, &event->refuse) != COHORT_OK) {
        return fail_with_type(link, event, COHORT_EPROTOCOL, "malformed REFUSE", frame->type);
    }
    link->state = COHORTI_LINK_CLOSED;
    event->type = COHORTI_LINK_EVENT_REFUSE;
    event->code = event->refuse.reason;
    return true;
}

/* ---- frames of an open link ---------------------------------------------------------------------------------------- */

static bool on_resume(struct cohorti_link *link, const cohort_frame *frame, struct cohorti_link_event *event)
{
    if (link->state != COHORTI_LINK_OPEN || link->resumed ||
        cohorti_resume_decode(frame->data, frame->data_len, &link->resume) != COHORT_OK) {
        return fail_with_type(link, event, COHORT_EPROTOCOL, "RESUME malformed or out of place", frame->type);
    }
    link->resumed = true;
    event->type = COHORTI_LINK_EVENT_RESUME;
    return true;
}

static bool on_ack(struct cohorti_link *link, const cohort_frame *frame, struct cohorti_link_event *event)
{
    if (!link->resumed || cohorti_ack_decode(frame->data, frame->data_len, &link->ack) != COHORT_OK) {
        return fail_with_type(link, event, COHORT_EPROTOCOL, "ACK malformed or out of place", frame->type);
    }
    event->type = COHORTI_LINK_EVENT_ACK;
    return true;
}

/* A frame of a lane. True when there is an event: there is something to deliver, or it cannot be taken. */
static bool on_lane(struct cohorti_link *link, const cohort_frame *frame, struct cohorti_link_event *event)
{
    const char *why = "";
    if (!link->resumed) {
        return fail_with_type(link, event, COHORT_EPROTOCOL, "a frame before RESUME", frame->type);
    }
    const uint8_t *placed = cohorti_frame_reader_placed(&link->reader);
    int status = cohorti_inbound_take_placed(link->inbound, frame, placed, &link->delivery, &why);
    if (status != COHORT_OK) {
        return fail_with_type(link, event, status, why, frame->type);
    }
    if (link->delivery.nothing) {
        cohorti_inbound_commit(link->inbound, &link->delivery, true);
        return false;
    }
    event->type = COHORTI_LINK_EVENT_TAKEN;
    return true;
}

static bool on_ping(struct cohorti_link *link, const cohort_frame *frame, struct cohorti_link_event *event)
{
    if (!link->resumed) {
        return fail_with_type(link, event, COHORT_EPROTOCOL, "a frame before RESUME", frame->type);
    }
    bool question = cohorti_type_code(frame->type) == COHORTI_CONTROL_PING;
    event->type = question ? COHORTI_LINK_EVENT_PING : COHORTI_LINK_EVENT_PONG;
    return true;
}

/* True when there is an event; false when the frame was taken silently. */
static bool on_control(struct cohorti_link *link, const cohort_frame *frame, struct cohorti_link_event *event)
{
    switch (cohorti_type_code(frame->type)) {
    case COHORTI_CONTROL_WELCOME:
        return on_welcome(link, frame, event);
    case COHORTI_CONTROL_REFUSE:
        return on_refuse(link, frame, event);
    case COHORTI_CONTROL_LEAVE:
        link->state = COHORTI_LINK_CLOSED;
        event->type = COHORTI_LINK_EVENT_LEAVE;
        event->code = COHORT_ELEFT;
        return true;
    case COHORTI_CONTROL_RESUME:
        return on_resume(link, frame, event);
    case COHORTI_CONTROL_ACK:
        return on_ack(link, frame, event);
    case COHORTI_CONTROL_SUBJECT:
        return on_lane(link, frame, event);
    case COHORTI_CONTROL_PING:
    case COHORTI_CONTROL_PONG:
        return on_ping(link, frame, event);
    default:
        if ((frame->type & COHORTI_CONTROL_OPTIONAL) != 0) {
            return false;
        }
        return fail_with_type(link, event, COHORT_EPROTOCOL, "unknown control frame", frame->type);
    }
}

/* True when there is an event. */
static bool on_frame(struct cohorti_link *link, const cohort_frame *frame, struct cohorti_link_event *event)
{
    if (link->state == COHORTI_LINK_GREETING) {
        return on_hello(link, frame, event);
    }
    if (frame->type == COHORT_TYPE_HELLO) {
        return fail_with_type(link, event, COHORT_EHELLOTWICE, "second HELLO", frame->type);
    }
    event->data = frame->data;
    event->data_len = frame->data_len;
    enum cohorti_type_class class = link->peer.extended ? cohorti_type_class(frame->type) : COHORTI_TYPE_RAW;
    if (class == COHORTI_TYPE_CONTROL) {
        return on_control(link, frame, event);
    }
    if (link->state != COHORTI_LINK_OPEN) {
        return fail_with_type(link, event, COHORT_EPROTOCOL, "a frame before WELCOME", frame->type);
    }
    if (frame->type == COHORT_TYPE_ECHO) {
        event->type = COHORTI_LINK_EVENT_ECHO;
        return true;
    }
    if (link->peer.extended) {
        return on_lane(link, frame, event);
    }
    event->type = COHORTI_LINK_EVENT_RAW;
    event->raw_type = frame->type;
    return true;
}

/* ---- waiting for a decision ---------------------------------------------------------------------------------------- */

/* The piece goes away when poll() gives nothing, so what is unread must be ours. Bounded: strangers are read in pieces of
 * COHORTI_HANDSHAKE_PIECE_BYTES. */
static bool hold(struct cohorti_link *link, struct cohorti_link_event *event)
{
    const uint8_t *unread = NULL;
    size_t len = cohorti_frame_reader_unread(&link->reader, &unread);
    if (len == 0 || link->held != NULL) {
        return false;
    }
    link->held = cohorti_alloc(link->alloc, len);
    if (link->held == NULL) {
        return fail(link, event, COHORT_ENOMEM);
    }
    memcpy(link->held, unread, len);
    link->held_len = len;
    cohorti_frame_reader_feed(&link->reader, NULL, 0);
    cohorti_release(link->alloc, link->feeding);
    link->feeding = NULL;
    return false;
}

static void feed_held(struct cohorti_link *link)
{
    if (link->held == NULL) {
        return;
    }
    cohorti_release(link->alloc, link->feeding);
    link->feeding = link->held;
    link->held = NULL;
    cohorti_frame_reader_feed(&link->reader, link->feeding, link->held_len);
}

bool cohorti_link_poll(struct cohorti_link *link, struct cohorti_link_event *event)
{
    for (;;) {
        memset(event, 0, offsetof(struct cohorti_link_event, refuse)); /* each turn: a frame taken silently left its data here */
        event->code = COHORT_OK;
        if (link->state == COHORTI_LINK_CLOSED) {
            return false;
        }
        if (waits_for_decision(link)) {
            return hold(link, event);
        }
        cohort_frame frame;
        int got = cohorti_frame_reader_next(&link->reader, &frame);
        if (got < 0) {
            return fail_with_frame(link, event, got);
        }
        if (got == 0) {
            cohorti_release(link->alloc, link->feeding);
            link->feeding = NULL;
            return false;
        }
        if (on_frame(link, &frame, event)) {
            return true;
        }
    }
}

/* ---- decisions ----------------------------------------------------------------------------------------------------- */

void cohorti_link_admit(struct cohorti_link *link)
{
    if (link->state != COHORTI_LINK_GREETED) {
        return;
    }
    if (!link->peer.extended) {
        link->state = COHORTI_LINK_WELCOMED;
        return;
    }
    link->reader.limit_bytes = COHORT_FRAME_HEADER_BYTES + COHORTI_CONTROL_BYTES_MAX;
    link->state = COHORTI_LINK_ADMITTED;
    feed_held(link);
}

/* A legacy peer cannot take more than 32768 bytes, but nothing says it cannot send them: one limit holds for both. */
void cohorti_link_open(struct cohorti_link *link, struct cohorti_inbound *inbound)
{
    if (link->state != COHORTI_LINK_WELCOMED) {
        return;
    }
    link->reader.limit_bytes = COHORTI_FRAME_BYTES_MAX;
    link->inbound = link->peer.extended ? inbound : NULL;
    link->reader.place = link->peer.extended ? place : NULL;
    link->reader.place_ctx = inbound;
    link->state = COHORTI_LINK_OPEN;
    feed_held(link);
}

void cohorti_link_open_local(struct cohorti_link *link, const char *id, struct cohorti_inbound *inbound)
{
    assert(link->state == COHORTI_LINK_GREETING);
    link->peer.extended = cohorti_copy_string(link->peer.id, sizeof link->peer.id, id);
    link->version = COHORTI_PROTOCOL_VERSION;
    link->state = COHORTI_LINK_WELCOMED;
    cohorti_link_open(link, inbound);
}

void cohorti_link_close(struct cohorti_link *link)
{
    link->state = COHORTI_LINK_CLOSED;
}
