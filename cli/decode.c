/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames explained; see decode.h. `malformed` says that the data is not what the type promises: then it is shown as bytes.
 */
#include "decode.h"

#include <stdlib.h>
#include <string.h>

#define CONTROL_OPTIONAL UINT32_C(0x20000000)
#define CONTROL_ZERO_BITS UINT32_C(0x1fff0000)
#define SUBJECT_NUMBER UINT32_C(0x07ffffff)
#define SUBJECTS_MAX UINT32_C(65536)

void decode_stream_free(struct decode_stream *stream)
{
    for (uint32_t i = 0; i < stream->subject_count; i++) {
        free(stream->subjects[i]);
    }
    free(stream->subjects);
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
    uint32_t number = frame->data_len > 4 ? (uint32_t)big_endian(frame->data, 4) : UINT32_MAX;
    if (number > SUBJECT_NUMBER) {
        shown_as_bytes(out, frame);
        return true;
    }
    add_number(out, "number", number);
    add_text(out, "subject", frame->data + 4, frame->data_len - 4);
    if (number != stream->subject_count ||
        number >= SUBJECTS_MAX) { /* a capture that begins in the middle: its name is not known later */
        return true;
    }
    char **grown = realloc(stream->subjects, (number + 1) * sizeof(*grown));
    char *name = calloc(1, frame->data_len - 4 + 1);
    if (grown == NULL || name == NULL) {
        stream->subjects = grown != NULL ? grown : stream->subjects;
        free(name);
        return false;
    }
    memcpy(name, frame->data + 4, frame->data_len - 4);
    grown[number] = name;
    stream->subjects = grown;
    stream->subject_count++;
    return true;
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
    static const char *const names[] = {"", "WELCOME", "REFUSE", "LEAVE", "SUBJECT", "PING", "PONG"};
    uint32_t code = frame->type & 0xffff;
    bool known = (frame->type & (CONTROL_ZERO_BITS | CONTROL_OPTIONAL)) == 0 && code > 0 && code < sizeof(names) / sizeof(names[0]);
    if (!known) {
        snprintf(out->name, sizeof(out->name), (frame->type & CONTROL_ZERO_BITS) == 0 ? "CONTROL %u" : "UNKNOWN", code);
        return true;
    }
    snprintf(out->name, sizeof(out->name), "%s", names[code]);
    if (code >= 1 && code <= 4) {
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
    default:
        return true;
    }
}

/* ---- the rest ---- */

static void of_subject(const struct decode_stream *stream, const cohort_frame *frame, struct decoded *out)
{
    static const char *const kinds[] = {"MESSAGE",     "REQUEST",      "REPLY",      "ERROR REPLY",
                                        "FIRST CHUNK", "MIDDLE CHUNK", "LAST CHUNK", "UNKNOWN"};
    uint32_t number = frame->type & SUBJECT_NUMBER;
    snprintf(out->name, sizeof(out->name), "%s", kinds[frame->type >> 27 & 7]);
    add_number(out, "number", number);
    if (number < stream->subject_count) {
        add_text(out, "subject", stream->subjects[number], strlen(stream->subjects[number]));
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
