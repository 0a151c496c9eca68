/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames explained; see decode.h. `malformed` says that the data is not what the type promises: then it is shown as bytes.
 */
#include "decode.h"

#include <stdlib.h>
#include <string.h>

#define CONTROL_OPTIONAL UINT32_C(0x20000000)
#define CONTROL_ZERO_BITS UINT32_C(0x1fff0000)
#define SUBJECT_NUMBER UINT32_C(0x01ffffff)
#define LANE_SHIFT 25
#define SESSION_LANES 3
#define RESUME_HEAD_BYTES 18
#define LANE_STATE_BYTES 16
#define ACK_BYTES (1 + LANE_STATE_BYTES)
#define CHUNK_HEADER_BYTES 16
#define CHUNK_WHOLE_UNKNOWN ((UINT64_C(1) << 56) - 1)
#define SUBJECTS_MAX UINT32_C(65536)

void decode_stream_free(struct decode_stream *stream)
{
    for (int lane = 0; lane < DECODE_LANES; lane++) {
        for (uint32_t i = 0; i < stream->lanes[lane].count; i++) {
            free(stream->lanes[lane].subjects[i]);
        }
        free(stream->lanes[lane].subjects);
    }
    *stream = (struct decode_stream){.legacy = false};
}

/* ---- pieces ---- */

static struct decode_field *add(struct decoded *out, const char *name)
{
    struct decode_field *field = &out->fields[out->field_count < DECODE_FIELDS_MAX ? out->field_count++ : DECODE_FIELDS_MAX - 1];
    *field = (struct decode_field){.name = name};
    return field;
}

static void add_number(struct decoded *out, const char *name, uint64_t number)
{
    struct decode_field *field = add(out, name);
    field->is_number = true;
    field->number = number;
}

static void add_text(struct decoded *out, const char *name, const void *text, size_t len)
{
    struct decode_field *field = add(out, name);
    field->text = text;
    field->text_len = len;
}

static uint64_t big_endian(const uint8_t *bytes, int count)
{
    uint64_t value = 0;
    for (int i = 0; i < count; i++) {
        value = value << 8 | bytes[i];
    }
    return value;
}

static void shown_as_bytes(struct decoded *out, const cohort_frame *frame)
{
    out->malformed = true;
    out->field_count = 0;
    out->data = frame->data;
    out->data_len = frame->data_len;
}

/* ---- HELLO ---- */

struct span {
    const char *at;
    size_t len;
};

/* Up to the separator, which is taken off; all of it when there is none. */
static struct span take(struct span *rest, char separator)
{
    struct span taken = *rest;
    const char *end = rest->len > 0 ? memchr(rest->at, separator, rest->len) : NULL;
    taken.len = end != NULL ? (size_t)(end - rest->at) : rest->len;
    size_t gone = taken.len + (end != NULL ? 1 : 0);
    *rest = (struct span){rest->at + gone, rest->len - gone};
    return taken;
}

static bool decimal(struct span s, uint64_t max, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] < '0' || s.at[i] > '9' || i >= 18) {
            return false;
        }
        *out = *out * 10 + (uint64_t)(s.at[i] - '0');
    }
    return s.len > 0 && *out <= max;
}

static void hello_extension(struct span rest, struct decoded *out)
{
    static const char *const known[] = {"inc", "cluster", "attempt", "addr", "caps"};
    struct span versions = take(&rest, ';');
    add_text(out, "versions", versions.at, versions.len);
    while (rest.len > 0) {
        struct span value = take(&rest, ';');
        struct span key = take(&value, '=');
        const char *name = "extra";
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
            if (strlen(known[i]) == key.len && memcmp(known[i], key.at, key.len) == 0) {
                name = known[i];
            }
        }
        if (strcmp(name, "extra") == 0) { /* the key belongs to what is shown */
            value = (struct span){key.at, (size_t)(value.at + value.len - key.at)};
        }
        add_text(out, name, value.at, value.len);
    }
}

/* id:ip:port, and for cohort :cohort/<min>-<max>;key=value;... */
static void hello(struct decode_stream *stream, const cohort_frame *frame, struct decoded *out)
{
    static const char mark[] = "cohort/";
    struct span rest = {(const char *)frame->data, frame->data_len};
    struct span id = take(&rest, ':');
    struct span ip = take(&rest, ':');
    struct span port = take(&rest, ':');
    uint64_t port_number;
    decode_stream_free(stream); /* another connection begins */
    stream->legacy = rest.len < sizeof(mark) - 1 || memcmp(rest.at, mark, sizeof(mark) - 1) != 0;
    if (id.len == 0 || ip.len == 0 || !decimal(port, 65535, &port_number)) {
        shown_as_bytes(out, frame);
        return;
    }
    add_text(out, "id", id.at, id.len);
    add_text(out, "ip", ip.at, ip.len);
    add_number(out, "port", port_number);
    if (!stream->legacy) {
        hello_extension((struct span){rest.at + sizeof(mark) - 1, rest.len - (sizeof(mark) - 1)}, out);
    } else if (rest.len > 0) {
        add_text(out, "extra", rest.at, rest.len);
    }
}

/* ---- control frames ---- */

static bool subject(struct decode_stream *stream, const cohort_frame *frame, struct decoded *out)
{
    uint32_t id = frame->data_len > 4 ? (uint32_t)big_endian(frame->data, 4) : UINT32_MAX;
    if (id >> LANE_SHIFT >= DECODE_LANES) {
        shown_as_bytes(out, frame);
        return true;
    }
    struct decode_names *names = &stream->lanes[id >> LANE_SHIFT];
    uint32_t number = id & SUBJECT_NUMBER;
    add_number(out, "lane", id >> LANE_SHIFT);
    add_number(out, "number", number);
    add_text(out, "subject", frame->data + 4, frame->data_len - 4);
    if (number != names->count || number >= SUBJECTS_MAX) { /* a capture that begins in the middle: its name is not known later */
        return true;
    }
    char **grown = realloc(names->subjects, (number + 1) * sizeof(*grown));
    char *name = calloc(1, frame->data_len - 4 + 1);
    if (grown == NULL || name == NULL) {
        names->subjects = grown != NULL ? grown : names->subjects;
        free(name);
        return false;
    }
    memcpy(name, frame->data + 4, frame->data_len - 4);
    grown[number] = name;
    names->subjects = grown;
    names->count++;
    return true;
}

static const char *const received_names[] = {"received[0]", "received[1]", "received[2]", "received[3]"};
static const char *const limit_names[] = {"limit[0]", "limit[1]", "limit[2]", "limit[3]"};

static void lane_state(const uint8_t *bytes, uint8_t lane, struct decoded *out)
{
    add_number(out, received_names[lane], big_endian(bytes, 8));
    add_number(out, limit_names[lane], big_endian(bytes + 8, 8));
}

static void resume(const cohort_frame *frame, struct decoded *out)
{
    const uint8_t *at = frame->data;
    if (frame->data_len != RESUME_HEAD_BYTES + LANE_STATE_BYTES * SESSION_LANES || big_endian(at + 16, 2) != SESSION_LANES) {
        shown_as_bytes(out, frame);
        return;
    }
    add_number(out, "half", big_endian(at, 8));
    add_number(out, "known", big_endian(at + 8, 8));
    for (uint8_t lane = 0; lane < SESSION_LANES; lane++) {
        lane_state(at + RESUME_HEAD_BYTES + (size_t)LANE_STATE_BYTES * lane, lane, out);
    }
}

static void ack(const cohort_frame *frame, struct decoded *out)
{
    if (frame->data_len == 0 || frame->data_len % ACK_BYTES != 0) {
        shown_as_bytes(out, frame);
        return;
    }
    for (size_t at = 0; at < frame->data_len; at += ACK_BYTES) {
        if (frame->data[at] >= SESSION_LANES) {
            shown_as_bytes(out, frame);
            return;
        }
        lane_state(frame->data + at + 1, frame->data[at], out);
    }
}

static void welcome(const cohort_frame *frame, struct decoded *out)
{
    if (frame->data_len < 2) {
        shown_as_bytes(out, frame);
        return;
    }
    add_number(out, "version", big_endian(frame->data, 2));
    out->data = frame->data + 2;
    out->data_len = frame->data_len - 2;
}

static void refuse(const cohort_frame *frame, struct decoded *out)
{
    if (frame->data_len < 12) {
        shown_as_bytes(out, frame);
        return;
    }
    uint64_t reason = big_endian(frame->data, 4);
    const char *name = reason < 1000 ? cohort_error_name(-(int)reason) : "UNKNOWN";
    add_number(out, "reason", reason);
    add_text(out, "code", name, strlen(name));
    add_number(out, "value", big_endian(frame->data + 4, 8));
    add_text(out, "text", frame->data + 12, frame->data_len - 12);
}

static bool control(struct decode_stream *stream, const cohort_frame *frame, struct decoded *out)
{
    static const char *const names[] = {"", "WELCOME", "REFUSE", "LEAVE", "SUBJECT", "PING", "PONG", "RESUME", "ACK"};
    uint32_t code = frame->type & 0xffff;
    bool known = (frame->type & (CONTROL_ZERO_BITS | CONTROL_OPTIONAL)) == 0 && code > 0 && code < sizeof(names) / sizeof(names[0]);
    if (!known) {
        snprintf(out->name, sizeof(out->name), (frame->type & CONTROL_ZERO_BITS) == 0 ? "CONTROL %u" : "UNKNOWN", code);
        return true;
    }
    snprintf(out->name, sizeof(out->name), "%s", names[code]);
    if (code != 5 && code != 6) {
        out->data_len = 0;
    }
    switch (code) {
    case 1:
        welcome(frame, out);
        return true;
    case 2:
        refuse(frame, out);
        return true;
    case 3:
        if (frame->data_len > 0) {
            shown_as_bytes(out, frame);
        }
        return true;
    case 4:
        return subject(stream, frame, out);
    case 7:
        resume(frame, out);
        return true;
    case 8:
        ack(frame, out);
        return true;
    default:
        return true;
    }
}

/* ---- the rest ---- */

enum kind {
    MESSAGE,
    REQUEST,
    REPLY,
    ERROR_REPLY,
    FIRST_CHUNK,
    MIDDLE_CHUNK,
    LAST_CHUNK,
    VOID,
};

static const char *const kind_names[] = {"MESSAGE",     "REQUEST",      "REPLY",      "ERROR REPLY",
                                         "FIRST CHUNK", "MIDDLE CHUNK", "LAST CHUNK", "VOID"};

/* What stands before the body; false: there is not enough of it. */
static bool body_header(enum kind kind, const cohort_frame *frame, struct decoded *out)
{
    const uint8_t *at = frame->data;
    size_t header = kind == MESSAGE || kind == VOID          ? 0
                    : kind == REPLY                          ? 8
                    : kind == REQUEST || kind == ERROR_REPLY ? 12
                                                             : CHUNK_HEADER_BYTES;
    if (frame->data_len < header) {
        return false;
    }
    if (kind == REQUEST || kind == REPLY || kind == ERROR_REPLY) {
        add_number(out, "call", big_endian(at, 8));
    }
    if (kind == REQUEST) {
        add_number(out, "left_ms", big_endian(at + 8, 4));
    } else if (kind == ERROR_REPLY) {
        uint64_t code = big_endian(at + 8, 4);
        const char *name = code < 1000 ? cohort_error_name(-(int)code) : "UNKNOWN";
        add_text(out, "code", name, strlen(name));
    } else if (kind >= FIRST_CHUNK && kind <= LAST_CHUNK) {
        const char *of = at[0] < FIRST_CHUNK ? kind_names[at[0]] : "UNKNOWN";
        bool aborts = at[0] == VOID;
        uint64_t whole = big_endian(at + 1, 7);
        add_text(out, "of", aborts ? "ABORT" : of, aborts ? strlen("ABORT") : strlen(of));
        add_number(out, "stream", big_endian(at + 8, 2));
        if (!aborts && whole != CHUNK_WHOLE_UNKNOWN) {
            add_number(out, "whole", whole);
        }
        if (!aborts) {
            add_number(out, "begin", big_endian(at + 10, 6));
        }
    }
    out->data = at + header;
    out->data_len = frame->data_len - header;
    return true;
}

static void of_subject(const struct decode_stream *stream, const cohort_frame *frame, struct decoded *out)
{
    enum kind kind = (enum kind)(frame->type >> 27 & 7);
    uint32_t lane = frame->type >> LANE_SHIFT & (DECODE_LANES - 1);
    uint32_t number = frame->type & SUBJECT_NUMBER;
    const struct decode_names *names = &stream->lanes[lane];
    snprintf(out->name, sizeof(out->name), "%s", kind_names[kind]);
    add_number(out, "lane", lane);
    if (kind != REPLY && kind != ERROR_REPLY) {
        add_number(out, "number", number);
        if (number < names->count) {
            add_text(out, "subject", names->subjects[number], strlen(names->subjects[number]));
        }
    }
    if (!body_header(kind, frame, out)) {
        shown_as_bytes(out, frame);
    }
}

bool decode_frame(struct decode_stream *stream, const cohort_frame *frame, struct decoded *out)
{
    *out = (struct decoded){.data = frame->data, .data_len = frame->data_len};
    if (frame->type == COHORT_TYPE_HELLO) {
        snprintf(out->name, sizeof(out->name), "HELLO");
        out->data_len = 0;
        hello(stream, frame, out);
        return true;
    }
    if (frame->type == COHORT_TYPE_ECHO) {
        snprintf(out->name, sizeof(out->name), "ECHO");
        return true;
    }
    if (stream->legacy || frame->type >> 31 == 0) {
        snprintf(out->name, sizeof(out->name), "RAW %d", (int)(int32_t)frame->type);
        return true;
    }
    if (frame->type >> 30 == 3) {
        return control(stream, frame, out);
    }
    of_subject(stream, frame, out);
    return true;
}
