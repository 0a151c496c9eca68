/* SPDX-License-Identifier: Apache-2.0
 *
 * link: the receiving side of one TCP connection, from its first byte to its last.
 *
 *   GREETING --HELLO--> GREETED --admit--> ADMITTED --WELCOME--> WELCOMED --open--> OPEN
 *                          |  a legacy peer sends no WELCOME: admit leads to WELCOMED at once
 *                          '--refuse, or any error--> CLOSED
 *
 * The first frame of an open link of a cohort peer is RESUME; the frames of lanes follow, and are taken by the inbound half of the
 * session, which outlives the link.
 *
 * In GREETED and WELCOMED the link waits for a decision that is not its own (is this peer admitted? is this the link to
 * keep?), so poll() gives nothing and the bytes behind are kept. It decides nothing about membership and writes nothing:
 * what it gives are events, what the other side of the connection sends is sender.h.
 */
#ifndef COHORTI_CORE_LINK_H
#define COHORTI_CORE_LINK_H

#include "core/inbound.h"
#include "wire/frame.h"
#include "wire/hello.h"

enum cohorti_link_state {
    COHORTI_LINK_GREETING,
    COHORTI_LINK_GREETED,
    COHORTI_LINK_ADMITTED,
    COHORTI_LINK_WELCOMED,
    COHORTI_LINK_OPEN,
    COHORTI_LINK_CLOSED,
};

enum cohorti_link_event_type {
    COHORTI_LINK_EVENT_HELLO,   /* link->peer is filled; waits for admit() or close() */
    COHORTI_LINK_EVENT_WELCOME, /* waits for open() or close() */
    COHORTI_LINK_EVENT_REFUSE,  /* the peer refused us: refuse; CLOSED */
    COHORTI_LINK_EVENT_LEAVE,   /* the peer says goodbye; CLOSED */
    COHORTI_LINK_EVENT_ECHO,    /* data: an answer to ours, or a question (echo.h) */
    COHORTI_LINK_EVENT_PING,    /* data: a question */
    COHORTI_LINK_EVENT_PONG,    /* data: an answer */
    COHORTI_LINK_EVENT_RAW,     /* raw_type, data: from a legacy peer */
    COHORTI_LINK_EVENT_RESUME,  /* link->resume: the session is to be joined to the link before the next poll() */
    COHORTI_LINK_EVENT_ACK,     /* link->ack */
    COHORTI_LINK_EVENT_TAKEN,   /* link->delivery: to be delivered, then committed to the inbound half */
    COHORTI_LINK_EVENT_FAILED,  /* code, and link->detail says what was met; CLOSED */
};

struct cohorti_link_event {
    enum cohorti_link_event_type type;
    uint32_t raw_type;
    const void *data; /* valid until the next poll() */
    size_t data_len;
    int code;
    struct cohorti_refuse refuse;
};

struct cohorti_link {
    const cohort_allocator *alloc;
    enum cohorti_link_state state;
    struct cohorti_frame_reader reader;
    struct cohorti_hello peer; /* from GREETED on */
    uint16_t version;          /* in force, from WELCOMED on; 0 with a legacy peer */

    struct cohorti_inbound *inbound; /* from OPEN on; NULL with a legacy peer */
    bool resumed;
    struct cohorti_resume resume; /* of the last event of that type */
    struct cohorti_ack ack;
    struct cohorti_delivery delivery;

    uint8_t *held; /* bytes that came while waiting for a decision */
    size_t held_len;
    uint8_t *feeding; /* the held bytes being read again */

    uint64_t bytes_in;
    char detail[256]; /* of the failure; one line */
};

void cohorti_link_init(struct cohorti_link *link, const cohort_allocator *alloc);
void cohorti_link_deinit(struct cohorti_link *link);

/** Hand over bytes received; then poll() until it gives nothing, before the bytes go away. */
void cohorti_link_feed(struct cohorti_link *link, const void *bytes, size_t len);

/** Where the bytes that come next may be read to, instead of being fed: to their place in a large frame, or in the message it is part of. False:
 * there is no such place. To be asked when poll() gave nothing. */
bool cohorti_link_sink(const struct cohorti_link *link, struct cohorti_room *out);
/** How much to feed at most, behind what is sunk, for there to be such a place soon. 0: as much as there is. */
size_t cohorti_link_front_missing(const struct cohorti_link *link);
/** `n` bytes were read there; then feed() what came behind them, which may be nothing. */
void cohorti_link_sunk(struct cohorti_link *link, size_t n);

/** Next event, or false: nothing more until more bytes or a decision come. Bytes not read yet are then kept by the link. */
bool cohorti_link_poll(struct cohorti_link *link, struct cohorti_link_event *event);

/** GREETED: the peer is admitted. poll() again afterwards. */
void cohorti_link_admit(struct cohorti_link *link);
/** WELCOMED: this is the link to use; `inbound` takes its lanes (not looked at with a legacy peer). poll() again afterwards. */
void cohorti_link_open(struct cohorti_link *link, struct cohorti_inbound *inbound);
/** Instead of all before: a link to ourselves, `id`, open from here on without a handshake. */
void cohorti_link_open_local(struct cohorti_link *link, const char *id, struct cohorti_inbound *inbound);
/** Any state: no more events. */
void cohorti_link_close(struct cohorti_link *link);

bool cohorti_link_is_open(const struct cohorti_link *link);
/* What may be read at once until then: bytes that come while a decision is awaited are kept, so they are taken in small pieces. */
#define COHORTI_HANDSHAKE_PIECE_BYTES 4096

#endif
