/* SPDX-License-Identifier: Apache-2.0
 *
 * sender: what one link itself has to say, as bytes that wait to be written: handshake, RESUME, ACK, PING. Messages belong to the
 * session and wait in its lanes (outbound.h); only a legacy peer, with which there is none, gets its frames from here: one HELLO, no
 * frame it does not know, none over 32768 bytes.
 */
#ifndef COHORTI_CORE_SENDER_H
#define COHORTI_CORE_SENDER_H

#include "base/buffer.h"
#include "wire/control.h"
#include "wire/hello.h"

struct cohorti_sender_limits {
    size_t queue_bytes_max;
};

struct cohorti_sender {
    const cohort_allocator *alloc;
    struct cohorti_sender_limits limits;
    bool open; /* echoes, and a legacy peer's messages, are accepted */
    bool legacy;
    bool refused; /* a raw frame, for want of room: who sent it is to be told when there is */
    struct cohorti_buffer out;
    uint64_t frames_out;
    uint64_t bytes_out; /* written: consumed from out */
};

void cohorti_sender_init(struct cohorti_sender *s, const cohort_allocator *alloc, const struct cohorti_sender_limits *limits);
void cohorti_sender_deinit(struct cohorti_sender *s);

/* Handshake and control; each queues one frame. COHORT_EAGAIN or COHORT_ENOMEM: nothing was queued, the link is of no use. */
COHORT_NODISCARD int cohorti_sender_hello(struct cohorti_sender *s, const struct cohorti_hello *hello);
COHORT_NODISCARD int cohorti_sender_welcome(struct cohorti_sender *s, uint16_t version);
COHORT_NODISCARD int cohorti_sender_refuse(struct cohorti_sender *s, const struct cohorti_refuse *refuse);
COHORT_NODISCARD int cohorti_sender_leave(struct cohorti_sender *s);
COHORT_NODISCARD int cohorti_sender_resume(struct cohorti_sender *s, const struct cohorti_resume *resume);
COHORT_NODISCARD int cohorti_sender_ack(struct cohorti_sender *s, const struct cohorti_ack *ack);

/** The link is open. */
void cohorti_sender_open(struct cohorti_sender *s, bool legacy);

/** A frame of an application's type to a legacy peer. COHORT_EINACTIVE, COHORT_ETYPE, COHORT_ESIZE, COHORT_EAGAIN, COHORT_ENOMEM. */
COHORT_NODISCARD int cohorti_sender_raw(struct cohorti_sender *s, uint32_t type, const void *data, size_t len);
/** A raw frame was refused, and half of the queue is free again: once. */
bool cohorti_sender_take_room(struct cohorti_sender *s);
/** Ask for an echo: PING, to a legacy peer ECHO. COHORT_ESIZE over what a legacy node can take, whoever the peer is. */
COHORT_NODISCARD int cohorti_sender_ping(struct cohorti_sender *s, const void *data, size_t len);
/** Answer one: a PING by PONG, an ECHO by ECHO. */
COHORT_NODISCARD int cohorti_sender_pong(struct cohorti_sender *s, const void *data, size_t len);
COHORT_NODISCARD int cohorti_sender_echo(struct cohorti_sender *s, const void *data, size_t len);

/** `len` bytes of out were written. */
void cohorti_sender_written(struct cohorti_sender *s, size_t len);

#endif
