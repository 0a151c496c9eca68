/* SPDX-License-Identifier: Apache-2.0
 *
 * The type space between cohort nodes, and the data of control frames. Encoders are given what we made and assert
 * it; decoders are given what a peer made and reject it. Whether a frame may come at this moment, and whether its version or
 * number is one we want, is for the link to say.
 */
#include "wire/control.h"

#include "base/cursor.h"
#include "base/name.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

static int written(const struct cohorti_writer *w, size_t *len)
{
    if (w->failed) {
        return COHORT_ESIZE;
    }
    *len = cohorti_writer_len(w);
    return COHORT_OK;
}

int cohorti_welcome_encode(const struct cohorti_welcome *in, uint8_t *out, size_t cap, size_t *len)
{
    struct cohorti_writer w;
    cohorti_writer_init(&w, out, cap);
    cohorti_write_u16(&w, in->version);
    return written(&w, len);
}

int cohorti_welcome_decode(const void *data, size_t len, struct cohorti_welcome *out)
{
    struct cohorti_reader r;
    cohorti_reader_init(&r, data, len);
    out->version = cohorti_read_u16(&r);
    return r.failed ? COHORT_EPROTOCOL : COHORT_OK;
}

int cohorti_refuse_encode(const struct cohorti_refuse *in, uint8_t *out, size_t cap, size_t *len)
{
    struct cohorti_writer w;
    assert(in->reason < 0 && in->reason > INT_MIN);
    cohorti_writer_init(&w, out, cap);
    cohorti_write_u32(&w, (uint32_t)-in->reason);
    cohorti_write_u64(&w, in->value);
    cohorti_write_bytes(&w, in->text, strlen(in->text));
    return written(&w, len);
}

/* Error numbers are only ever added, so a newer peer may have one we lack. */
static int reason_from_wire(uint32_t number)
{
    if (number > INT_MAX || cohort_error_scope_of(-(int)number) == COHORT_SCOPE_NONE) {
        return COHORT_EREMOTE;
    }
    return -(int)number;
}

int cohorti_refuse_decode(const void *data, size_t len, struct cohorti_refuse *out)
{
    struct cohorti_reader r;
    cohorti_reader_init(&r, data, len);
    out->reason = reason_from_wire(cohorti_read_u32(&r));
    out->value = cohorti_read_u64(&r);
    if (r.failed) {
        return COHORT_EPROTOCOL;
    }
    size_t text_len = cohorti_reader_left(&r);
    if (text_len > COHORTI_REFUSE_TEXT_BYTES_MAX) {
        text_len = COHORTI_REFUSE_TEXT_BYTES_MAX;
    }
    const uint8_t *text = cohorti_read_bytes(&r, text_len);
    for (size_t i = 0; i < text_len; i++) {
        out->text[i] = (char)(text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?');
    }
    out->text[text_len] = '\0';
    return COHORT_OK;
}

int cohorti_subject_encode(const struct cohorti_subject *in, uint8_t *out, size_t cap, size_t *len)
{
    struct cohorti_writer w;
    assert(in->lane < COHORTI_LANE_COUNT && in->number <= COHORTI_SUBJECT_NUMBER_MAX);
    assert(cohorti_subject_valid(in->name, strlen(in->name)));
    cohorti_writer_init(&w, out, cap);
    cohorti_write_u32(&w, in->lane << COHORTI_TYPE_LANE_SHIFT | in->number);
    cohorti_write_bytes(&w, in->name, strlen(in->name));
    return written(&w, len);
}

int cohorti_subject_decode(const void *data, size_t len, struct cohorti_subject *out)
{
    struct cohorti_reader r;
    cohorti_reader_init(&r, data, len);
    uint32_t place = cohorti_read_u32(&r);
    out->lane = place >> COHORTI_TYPE_LANE_SHIFT;
    out->number = place & COHORTI_SUBJECT_NUMBER_MAX;
    size_t name_len = cohorti_reader_left(&r);
    const uint8_t *name = cohorti_read_bytes(&r, name_len);
    if (name == NULL || out->lane >= COHORTI_LANE_COUNT || !cohorti_subject_valid((const char *)name, name_len)) {
        return COHORT_EPROTOCOL;
    }
    memcpy(out->name, name, name_len);
    out->name[name_len] = '\0';
    return COHORT_OK;
}

static void write_mark(struct cohorti_writer *w, const struct cohorti_lane_mark *mark)
{
    cohorti_write_u64(w, mark->received);
    cohorti_write_u64(w, mark->limit);
}

static bool read_mark(struct cohorti_reader *r, struct cohorti_lane_mark *mark)
{
    mark->received = cohorti_read_u64(r);
    mark->limit = cohorti_read_u64(r);
    return !r->failed && mark->limit >= mark->received;
}

int cohorti_resume_encode(const struct cohorti_resume *in, uint8_t *out, size_t cap, size_t *len)
{
    struct cohorti_writer w;
    assert(in->half != 0);
    cohorti_writer_init(&w, out, cap);
    cohorti_write_u64(&w, in->half);
    cohorti_write_u64(&w, in->known);
    cohorti_write_u16(&w, COHORTI_LANE_COUNT);
    for (unsigned lane = 0; lane < COHORTI_LANE_COUNT; lane++) {
        write_mark(&w, &in->lanes[lane]);
    }
    return written(&w, len);
}

/* A peer with fewer lanes or more is none of this version; the count is there so that a later one can tell. */
int cohorti_resume_decode(const void *data, size_t len, struct cohorti_resume *out)
{
    struct cohorti_reader r;
    cohorti_reader_init(&r, data, len);
    out->half = cohorti_read_u64(&r);
    out->known = cohorti_read_u64(&r);
    if (cohorti_read_u16(&r) != COHORTI_LANE_COUNT || out->half == 0) {
        return COHORT_EPROTOCOL;
    }
    for (unsigned lane = 0; lane < COHORTI_LANE_COUNT; lane++) {
        if (!read_mark(&r, &out->lanes[lane])) {
            return COHORT_EPROTOCOL;
        }
    }
    return COHORT_OK;
}

int cohorti_ack_encode(const struct cohorti_ack *in, uint8_t *out, size_t cap, size_t *len)
{
    struct cohorti_writer w;
    assert(in->present != 0 && in->present < 1U << COHORTI_LANE_COUNT);
    cohorti_writer_init(&w, out, cap);
    for (unsigned lane = 0; lane < COHORTI_LANE_COUNT; lane++) {
        if ((in->present >> lane & 1U) != 0) {
            cohorti_write_u8(&w, (uint8_t)lane);
            write_mark(&w, &in->lanes[lane]);
        }
    }
    return written(&w, len);
}

int cohorti_ack_decode(const void *data, size_t len, struct cohorti_ack *out)
{
    struct cohorti_reader r;
    memset(out, 0, sizeof *out);
    cohorti_reader_init(&r, data, len);
    while (cohorti_reader_left(&r) > 0) {
        unsigned lane = cohorti_read_u8(&r);
        if (lane >= COHORTI_LANE_COUNT || (out->present >> lane & 1U) != 0 || !read_mark(&r, &out->lanes[lane])) {
            return COHORT_EPROTOCOL;
        }
        out->present |= 1U << lane;
    }
    return out->present == 0 ? COHORT_EPROTOCOL : COHORT_OK;
}
