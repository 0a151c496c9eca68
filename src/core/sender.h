/* SPDX-License-Identifier: Apache-2.0
 *
 * sender: the sending side of one connection: what may be sent to this peer, and the bytes that wait to be written.
 * It keeps what a legacy peer needs: one HELLO, no frame it does not know, none over 32768 bytes.
 */
#ifndef COHORTI_CORE_SENDER_H
#define COHORTI_CORE_SENDER_H

#include "base/buffer.h"
#include "base/map.h"
#include "wire/control.h"
#include "wire/hello.h"

struct cohorti_sender_limits {
    size_t queue_bytes_max;
    size_t message_bytes_max;
    uint32_t subjects_max;
};

struct cohorti_sender {
    const cohort_allocator *alloc;
    struct cohorti_sender_limits limits;
    bool open; /* messages are accepted */
    bool legacy;
    struct cohorti_buffer out;
    struct cohorti_map subjects; /* of struct sender_subject, by name */
    uint32_t subject_count;
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

/** From now on messages are accepted. */
void cohorti_sender_open(struct cohorti_sender *s, bool legacy);

/** A message on a valid subject name or "#<type>". Codes as cohort_send() documents them. */
COHORT_NODISCARD int cohorti_sender_message(struct cohorti_sender *s, const char *subject, const void *data, size_t len);
/** Ask for an echo: PING, to a legacy peer ECHO. COHORT_ESIZE over what a legacy node can take, whoever the peer is. */
COHORT_NODISCARD int cohorti_sender_ping(struct cohorti_sender *s, const void *data, size_t len);
/** Answer one: a PING by PONG, an ECHO by ECHO. */
COHORT_NODISCARD int cohorti_sender_pong(struct cohorti_sender *s, const void *data, size_t len);
COHORT_NODISCARD int cohorti_sender_echo(struct cohorti_sender *s, const void *data, size_t len);

/** `len` bytes of out were written. */
void cohorti_sender_written(struct cohorti_sender *s, size_t len);

#endif
