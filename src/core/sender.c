/* SPDX-License-Identifier: Apache-2.0
 *
 * Encodes frames into the outgoing bytes of one connection. A call queues whole frames or nothing, so a failed one leaves the
 * stream intact. Not thread-safe: whoever may call holds the peer's lock. It does not write to sockets and does not decide
 * when to: the shell drains `out`.
 */
#include "core/sender.h"

#include <cohort/frame.h>
#include <string.h>

void cohorti_sender_init(struct cohorti_sender *s, const cohort_allocator *alloc, const struct cohorti_sender_limits *limits)
{
    memset(s, 0, sizeof *s);
    s->alloc = alloc;
    s->limits = *limits;
    cohorti_buffer_init(&s->out, alloc, limits->queue_bytes_max);
}

void cohorti_sender_deinit(struct cohorti_sender *s)
{
    cohorti_buffer_deinit(&s->out);
    s->open = false;
}

static int put_frame(struct cohorti_sender *s, uint32_t type, const void *data, size_t len)
{
    uint8_t *at = NULL;
    int status = cohorti_buffer_reserve(&s->out, COHORT_FRAME_HEADER_BYTES + len, &at);
    if (status != COHORT_OK) {
        return status;
    }
    cohort_frame_encode_header(at, type, len);
    if (len > 0) {
        memcpy(at + COHORT_FRAME_HEADER_BYTES, data, len);
    }
    cohorti_buffer_commit(&s->out, COHORT_FRAME_HEADER_BYTES + len);
    s->frames_out++;
    return COHORT_OK;
}

int cohorti_sender_hello(struct cohorti_sender *s, const struct cohorti_hello *hello)
{
    uint8_t data[COHORTI_HELLO_BYTES_MAX];
    size_t len = 0;
    int status = cohorti_hello_encode(hello, data, sizeof data, &len);
    return status != COHORT_OK ? status : put_frame(s, COHORT_TYPE_HELLO, data, len);
}

int cohorti_sender_welcome(struct cohorti_sender *s, uint16_t version)
{
    uint8_t data[COHORTI_CONTROL_BYTES_MAX];
    size_t len = 0;
    int status = cohorti_welcome_encode(&(struct cohorti_welcome){.version = version}, data, sizeof data, &len);
    return status != COHORT_OK ? status : put_frame(s, cohorti_type_control(COHORTI_CONTROL_WELCOME), data, len);
}

int cohorti_sender_refuse(struct cohorti_sender *s, const struct cohorti_refuse *refuse)
{
    uint8_t data[COHORTI_CONTROL_BYTES_MAX];
    size_t len = 0;
    int status = cohorti_refuse_encode(refuse, data, sizeof data, &len);
    return status != COHORT_OK ? status : put_frame(s, cohorti_type_control(COHORTI_CONTROL_REFUSE), data, len);
}

int cohorti_sender_leave(struct cohorti_sender *s)
{
    return put_frame(s, cohorti_type_control(COHORTI_CONTROL_LEAVE), NULL, 0);
}

void cohorti_sender_open(struct cohorti_sender *s, bool legacy)
{
    s->open = true;
    s->legacy = legacy;
}

/* ---- an open link -------------------------------------------------------------------------------------------------- */

int cohorti_sender_resume(struct cohorti_sender *s, const struct cohorti_resume *resume)
{
    uint8_t data[COHORTI_CONTROL_BYTES_MAX];
    size_t len = 0;
    int status = cohorti_resume_encode(resume, data, sizeof data, &len);
    return status != COHORT_OK ? status : put_frame(s, cohorti_type_control(COHORTI_CONTROL_RESUME), data, len);
}

int cohorti_sender_ack(struct cohorti_sender *s, const struct cohorti_ack *ack)
{
    uint8_t data[COHORTI_CONTROL_BYTES_MAX];
    size_t len = 0;
    int status = cohorti_ack_encode(ack, data, sizeof data, &len);
    return status != COHORT_OK ? status : put_frame(s, cohorti_type_control(COHORTI_CONTROL_ACK), data, len);
}

int cohorti_sender_raw(struct cohorti_sender *s, uint32_t type, const void *data, size_t len)
{
    if (!s->open) {
        return COHORT_EINACTIVE;
    }
    if (type == COHORT_TYPE_HELLO || type == COHORT_TYPE_ECHO) {
        return COHORT_ETYPE;
    }
    if (len > COHORT_FRAME_LEGACY_BYTES_MAX - COHORT_FRAME_HEADER_BYTES) {
        return COHORT_ESIZE;
    }
    int status = put_frame(s, type, data, len);
    s->refused = s->refused || status == COHORT_EAGAIN;
    return status;
}

bool cohorti_sender_take_room(struct cohorti_sender *s)
{
    bool has_room = s->refused && cohorti_buffer_len(&s->out) <= s->limits.queue_bytes_max / 2;
    s->refused = s->refused && !has_room;
    return has_room;
}

static int put_echo(struct cohorti_sender *s, uint32_t type, const void *data, size_t len)
{
    if (!s->open) {
        return COHORT_EINACTIVE;
    }
    if (len > COHORT_FRAME_LEGACY_BYTES_MAX - COHORT_FRAME_HEADER_BYTES) {
        return COHORT_ESIZE;
    }
    return put_frame(s, type, data, len);
}

int cohorti_sender_ping(struct cohorti_sender *s, const void *data, size_t len)
{
    return put_echo(s, s->legacy ? COHORT_TYPE_ECHO : cohorti_type_control(COHORTI_CONTROL_PING), data, len);
}

int cohorti_sender_pong(struct cohorti_sender *s, const void *data, size_t len)
{
    return put_echo(s, cohorti_type_control(COHORTI_CONTROL_PONG), data, len);
}

int cohorti_sender_echo(struct cohorti_sender *s, const void *data, size_t len)
{
    return put_echo(s, COHORT_TYPE_ECHO, data, len);
}

void cohorti_sender_written(struct cohorti_sender *s, size_t len)
{
    cohorti_buffer_consume(&s->out, len);
    s->bytes_out += len;
}
