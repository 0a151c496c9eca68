/* SPDX-License-Identifier: Apache-2.0
 *
 * Encodes frames into the outgoing bytes of one connection. A call queues whole frames or nothing, so a failed one leaves the
 * stream intact. Not thread-safe: whoever may call holds the peer's lock. It does not write to sockets and does not decide
 * when to: the shell drains `out`.
 */
#include "core/sender.h"

#include "base/alloc.h"
#include "base/name.h"

#include <cohort/frame.h>
#include <string.h>

struct sender_subject {
    struct cohorti_map_node node;
    uint32_t number;
    char name[];
};

void cohorti_sender_init(struct cohorti_sender *s, const cohort_allocator *alloc, const struct cohorti_sender_limits *limits)
{
    memset(s, 0, sizeof *s);
    s->alloc = alloc;
    s->limits = *limits;
    cohorti_buffer_init(&s->out, alloc, limits->queue_bytes_max);
    cohorti_map_init(&s->subjects, alloc);
}

void cohorti_sender_deinit(struct cohorti_sender *s)
{
    struct cohorti_map_node *node;
    while ((node = cohorti_map_any(&s->subjects)) != NULL) {
        cohorti_map_remove(&s->subjects, node);
        cohorti_release(s->alloc, (struct sender_subject *)node);
    }
    cohorti_map_deinit(&s->subjects);
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

/* ---- messages ------------------------------------------------------------------------------------------------------ */

static struct sender_subject *find_subject(const struct cohorti_sender *s, const char *name, uint64_t hash)
{
    struct cohorti_map_node *node = cohorti_map_find(&s->subjects, hash);
    while (node != NULL && strcmp(((struct sender_subject *)node)->name, name) != 0) {
        node = cohorti_map_find_next(node, hash);
    }
    return (struct sender_subject *)node;
}

/* Announce a name that this link has not seen. The announcement and the message that needs it are queued together or not at
 * all: a reserve for both comes first. */
static int announce_subject(struct cohorti_sender *s, const char *name, uint64_t hash, struct sender_subject **out)
{
    if (s->subject_count >= s->limits.subjects_max) {
        return COHORT_ELIMIT;
    }
    size_t size = strlen(name) + 1;
    struct sender_subject *subject = cohorti_alloc(s->alloc, sizeof *subject + size);
    if (subject == NULL) {
        return COHORT_ENOMEM;
    }
    memcpy(subject->name, name, size);
    subject->number = s->subject_count;

    struct cohorti_subject wire = {.number = subject->number};
    memcpy(wire.name, name, size);
    uint8_t data[COHORTI_CONTROL_BYTES_MAX];
    size_t len = 0;
    int status = cohorti_subject_encode(&wire, data, sizeof data, &len);
    if (status == COHORT_OK) {
        status = put_frame(s, cohorti_type_control(COHORTI_CONTROL_SUBJECT), data, len);
    }
    if (status != COHORT_OK) {
        cohorti_release(s->alloc, subject);
        return status;
    }
    s->subject_count++;
    cohorti_map_insert(&s->subjects, &subject->node, hash);
    *out = subject;
    return COHORT_OK;
}

static int send_named(struct cohorti_sender *s, const char *name, const void *data, size_t len)
{
    if (s->legacy) {
        return COHORT_ELEGACY;
    }
    if (len > s->limits.message_bytes_max) {
        return COHORT_ESIZE;
    }
    uint8_t *room = NULL;
    int status = cohorti_buffer_reserve(&s->out, len + (size_t)2 * COHORT_FRAME_HEADER_BYTES + COHORTI_CONTROL_BYTES_MAX, &room);
    if (status != COHORT_OK) {
        return status;
    }
    uint64_t hash = cohorti_hash_bytes(name, strlen(name));
    struct sender_subject *subject = find_subject(s, name, hash);
    if (subject == NULL) {
        status = announce_subject(s, name, hash, &subject);
        if (status != COHORT_OK) {
            return status;
        }
    }
    return put_frame(s, cohorti_type_subject(COHORTI_KIND_MESSAGE, subject->number), data, len);
}

static int send_raw(struct cohorti_sender *s, uint32_t type, const void *data, size_t len)
{
    if (type == COHORT_TYPE_HELLO || type == COHORT_TYPE_ECHO) {
        return COHORT_ETYPE;
    }
    if (!s->legacy && cohorti_type_class(type) != COHORTI_TYPE_RAW) {
        return COHORT_ETYPE;
    }
    size_t max = s->legacy ? COHORT_FRAME_LEGACY_BYTES_MAX - COHORT_FRAME_HEADER_BYTES : s->limits.message_bytes_max;
    return len > max ? COHORT_ESIZE : put_frame(s, type, data, len);
}

int cohorti_sender_message(struct cohorti_sender *s, const char *subject, const void *data, size_t len)
{
    if (!s->open) {
        return COHORT_EINACTIVE;
    }
    uint32_t type = 0;
    if (cohorti_subject_raw(subject, strlen(subject), &type)) {
        return send_raw(s, type, data, len);
    }
    return send_named(s, subject, data, len);
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
