/* SPDX-License-Identifier: Apache-2.0
 *
 * The receiving side of a connection, fed whatever a peer may send in whatever pieces, with decisions and failing allocations chosen
 * by the input. Events come in an order that the states allow and none after CLOSED; memory stays within the limits; nothing
 * points into a piece after poll() gave nothing; and the events do not depend on the pieces.
 */
#include "fuzz.h"

#include "base/name.h"
#include "core/link.h"

#include <stdlib.h>
#include <string.h>

#define SUBJECTS_MAX 10 /* the table starts with 8 */
#define MESSAGE_BYTES_MAX 40000

/* What was seen of one run. */
struct run {
    struct cohorti_link link;
    struct cohorti_inbound inbound;
    struct fuzz_memory memory;
    bool sinks;
    uint8_t decisions; /* two bits each: 0 and 1 go on, 2 go on after a poll in between, 3 close */
    bool admitted, welcomed, opened, resumed, ended;
    uint64_t digest; /* of all events */
    size_t piece_bytes_max;
};

static void digest(struct run *run, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i < len; i++) {
        run->digest = (run->digest ^ at[i]) * UINT64_C(0x100000001b3);
    }
}

static void digest_event(struct run *run, const struct cohorti_link_event *event)
{
    digest(run, &event->type, sizeof(event->type));
    digest(run, &event->code, sizeof(event->code));
    digest(run, &event->raw_type, sizeof(event->raw_type));
    digest(run, event->data, event->data_len);
    if (event->type == COHORTI_LINK_EVENT_TAKEN) {
        const struct cohorti_delivery *d = &run->link.delivery;
        digest(run, &d->kind, sizeof(d->kind));
        digest(run, &d->lane, sizeof(d->lane));
        digest(run, &d->raw_type, sizeof(d->raw_type));
        digest(run, d->body, d->body_len);
        digest(run, d->subject == NULL ? "" : d->subject->name, d->subject == NULL ? 0 : strlen(d->subject->name));
    }
    if (event->type == COHORTI_LINK_EVENT_REFUSE) {
        digest(run, &event->refuse.value, sizeof(event->refuse.value));
        digest(run, event->refuse.text, strlen(event->refuse.text));
    }
    if (event->code != COHORT_EMARKER) { /* of which it shows as much as has come */
        digest(run, run->link.detail, strlen(run->link.detail));
    }
}

static void check_memory(const struct run *run)
{
    size_t names = 0, whole = 0;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        FUZZ_CHECK(run->inbound.lanes[i].subject_count <= SUBJECTS_MAX);
        names += SUBJECTS_MAX * (COHORT_SUBJECT_BYTES_MAX + 1 + sizeof(struct cohorti_inbound_subject)) + (8 + 16) * sizeof(void *);
        whole += MESSAGE_BYTES_MAX + COHORTI_PREFIX_BYTES_MAX;
    }
    FUZZ_CHECK(run->memory.bytes_peak <= (size_t)64 * 1024 + whole + names + 2 * run->piece_bytes_max);
}

static bool is_final(const struct cohorti_link_event *event)
{
    return event->type == COHORTI_LINK_EVENT_FAILED || event->type == COHORTI_LINK_EVENT_REFUSE ||
           event->type == COHORTI_LINK_EVENT_LEAVE;
}

static void check_event(struct run *run, const struct cohorti_link_event *event)
{
    FUZZ_CHECK(!run->ended);
    switch (event->type) {
    case COHORTI_LINK_EVENT_HELLO:
        FUZZ_CHECK(!run->admitted && run->link.state == COHORTI_LINK_GREETED);
        FUZZ_CHECK(cohorti_id_valid(run->link.peer.id, strlen(run->link.peer.id)));
        break;
    case COHORTI_LINK_EVENT_WELCOME:
        FUZZ_CHECK(run->admitted && !run->welcomed && run->link.peer.extended && run->link.state == COHORTI_LINK_WELCOMED);
        FUZZ_CHECK(run->link.version >= 1 && run->link.version <= COHORTI_PROTOCOL_VERSION);
        run->welcomed = true;
        break;
    case COHORTI_LINK_EVENT_REFUSE:
    case COHORTI_LINK_EVENT_LEAVE:
        FUZZ_CHECK(run->admitted && run->link.peer.extended);
        break;
    case COHORTI_LINK_EVENT_FAILED:
        FUZZ_CHECK(event->code < 0 && cohort_error_scope_of(event->code) != COHORT_SCOPE_NONE);
        FUZZ_CHECK(event->code != COHORT_ENOMEM || run->memory.failures > 0);
        break;
    case COHORTI_LINK_EVENT_RESUME:
        FUZZ_CHECK(run->opened && !run->resumed && run->link.peer.extended);
        run->resumed = true;
        (void)cohorti_inbound_resume(&run->inbound, run->link.resume.half);
        break;
    case COHORTI_LINK_EVENT_ACK:
        FUZZ_CHECK(run->resumed && run->link.ack.present != 0);
        break;
    case COHORTI_LINK_EVENT_TAKEN: {
        const struct cohorti_delivery *d = &run->link.delivery;
        FUZZ_CHECK(run->resumed && !d->nothing && d->lane < COHORTI_LANE_COUNT);
        FUZZ_CHECK(d->raw || d->body_len <= MESSAGE_BYTES_MAX);
        FUZZ_CHECK(d->subject == NULL || cohorti_subject_valid(d->subject->name, strlen(d->subject->name)));
        break;
    }
    default: /* what only an open link gives */
        FUZZ_CHECK(run->opened && event->data_len <= 65536);
        FUZZ_CHECK(event->raw_type != COHORT_TYPE_HELLO);
        break;
    }
    FUZZ_CHECK(is_final(event) == (run->link.state == COHORTI_LINK_CLOSED));
    run->ended = is_final(event);
}

/* Decide what the link waits for. False: closed. */
static bool decide(struct run *run)
{
    struct cohorti_link_event nothing;
    uint8_t decision = run->decisions & 3;
    run->decisions >>= 2;
    if (decision == 3) {
        cohorti_link_close(&run->link);
        FUZZ_CHECK(!cohorti_link_poll(&run->link, &nothing));
        return false;
    }
    if (decision == 2 && cohorti_link_poll(&run->link, &nothing)) {
        FUZZ_CHECK(nothing.type == COHORTI_LINK_EVENT_FAILED && nothing.code == COHORT_ENOMEM);
        return false;
    }
    if (run->link.state == COHORTI_LINK_GREETED) {
        cohorti_link_admit(&run->link);
        run->admitted = true;
        FUZZ_CHECK(run->link.state == (run->link.peer.extended ? COHORTI_LINK_ADMITTED : COHORTI_LINK_WELCOMED));
    } else {
        struct cohorti_resume marks;
        cohorti_inbound_marks(&run->inbound, 1, &marks); /* as in the shell: the peer's credit */
        cohorti_link_open(&run->link, &run->inbound);
        run->opened = true;
        FUZZ_CHECK(cohorti_link_is_open(&run->link));
    }
    return true;
}

static bool waits(const struct run *run)
{
    return run->link.state == COHORTI_LINK_GREETED || run->link.state == COHORTI_LINK_WELCOMED;
}

/* False once the link is closed. The piece is gone after each poll() that gave nothing, before the decision, as in the shell. */
static bool feed(struct run *run, const uint8_t *bytes, size_t len)
{
    struct cohorti_link_event event;
    struct cohorti_room room;
    if (run->sinks && cohorti_link_sink(&run->link, &room)) { /* into the very memory: the sanitizer knows its bounds */
        size_t n = len < room.len ? len : room.len;
        memcpy(room.at, bytes, n);
        cohorti_link_sunk(&run->link, n);
        bytes += n;
        len -= n;
    }
    uint8_t *piece = fuzz_copy(bytes, len);
    cohorti_link_feed(&run->link, piece, len);
    do {
        while (cohorti_link_poll(&run->link, &event)) {
            check_event(run, &event);
            digest_event(run, &event);
            if (event.type == COHORTI_LINK_EVENT_TAKEN) {
                cohorti_inbound_commit(&run->inbound, &run->link.delivery, true);
            }
            check_memory(run);
        }
        free(piece);
        piece = NULL;
    } while (waits(run) && decide(run));
    free(piece);
    if (run->link.state == COHORTI_LINK_CLOSED) {
        FUZZ_CHECK(!cohorti_link_poll(&run->link, &event));
        cohorti_link_feed(&run->link, bytes, len);
        FUZZ_CHECK(!cohorti_link_poll(&run->link, &event));
        return false;
    }
    return true;
}

/* In pieces of the input's choice, or of `fixed` bytes when that is not 0. */
static void whole(struct run *run, struct fuzz_input *in, uint8_t decisions, size_t fixed, size_t fail_in)
{
    const struct cohorti_inbound_limits limits = {
        .message_bytes_max = MESSAGE_BYTES_MAX, .subjects_max = SUBJECTS_MAX, .window_bytes = 65536};
    memset(run, 0, sizeof(*run));
    run->decisions = decisions;
    run->sinks = fixed == 0;
    run->piece_bytes_max = COHORTI_HANDSHAKE_PIECE_BYTES;
    run->digest = UINT64_C(0xcbf29ce484222325);
    fuzz_memory_init(&run->memory);
    run->memory.fail_in = fail_in;
    cohorti_link_init(&run->link, &run->memory.alloc);
    cohorti_inbound_init(&run->inbound, &run->memory.alloc, &limits);
    bool alive = true;
    for (size_t at = 0; alive && at < in->stream_len;) {
        size_t left = in->stream_len - at;
        size_t want = fixed != 0 ? fixed : fuzz_choices_left(in) ? fuzz_choice(in) : COHORTI_HANDSHAKE_PIECE_BYTES;
        size_t len = want < left ? want : left;
        alive = feed(run, in->stream + at, len);
        at += len;
        FUZZ_CHECK(!alive || run->link.bytes_in == at);
    }
    check_memory(run);
    cohorti_link_deinit(&run->link);
    cohorti_inbound_deinit(&run->inbound);
    fuzz_memory_check_empty(&run->memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct run chosen, plain;
    struct fuzz_input in;
    fuzz_input_split(&in, data, len);
    uint8_t decisions = fuzz_choice(&in);
    uint8_t fail_in = fuzz_choice(&in);
    whole(&chosen, &in, decisions, 0, fail_in);
    if (chosen.memory.failures == 0) {
        whole(&plain, &in, decisions, COHORTI_HANDSHAKE_PIECE_BYTES, 0);
        FUZZ_CHECK(plain.digest == chosen.digest);
    }
    return 0;
}
