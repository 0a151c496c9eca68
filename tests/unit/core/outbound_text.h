/* SPDX-License-Identifier: Apache-2.0
 *
 * What a sending half writes, narrated frame by frame.
 */
#ifndef COHORT_UNIT_CORE_OUTBOUND_TEXT_H
#define COHORT_UNIT_CORE_OUTBOUND_TEXT_H

#include "outbound_rig.h"

#include <stdio.h>

#define STREAM_BYTES ((size_t)4 << 20)

static uint8_t stream[STREAM_BYTES];
static char text[8192];

static inline void say_frame(const cohort_frame *f)
{
    static const char *const kinds[] = {"MESSAGE", "REQUEST", "REPLY", "ERROR", "FIRST", "MIDDLE", "LAST", "VOID"};
    struct cohorti_subject subject;
    size_t len = strlen(text);
    if (f->type == cohorti_type_control(COHORTI_CONTROL_SUBJECT)) {
        assert_int_equal(cohorti_subject_decode(f->data, f->data_len, &subject), COHORT_OK);
        len += (size_t)snprintf(text + len, sizeof text - len, "%u:%u=%s ", subject.lane, (unsigned)subject.number, subject.name);
    } else if (cohorti_type_class(f->type) == COHORTI_TYPE_RAW) {
        len += (size_t)snprintf(text + len, sizeof text - len, "RAW %d %zu ", (int)f->type, f->data_len);
    } else {
        len += (size_t)snprintf(text + len, sizeof text - len, "%s %u:%u %zu ", kinds[cohorti_type_kind(f->type)],
                                cohorti_type_lane(f->type), (unsigned)cohorti_type_number(f->type), f->data_len);
    }
    assert_true(len < sizeof text);
}

static inline const char *narrate(const uint8_t *bytes, size_t len)
{
    text[0] = '\0';
    for (const uint8_t *at = bytes; at < bytes + len;) {
        cohort_frame frame;
        at = rig_frame(at, (size_t)(bytes + len - at), &frame);
        say_frame(&frame);
    }
    return text;
}

/* All that it gives now. */
static inline const char *written(struct rig *r)
{
    return narrate(stream, rig_write(r, STREAM_BYTES, stream));
}

static inline void open_resumed(struct rig *r)
{
    rig_open(r);
    assert_int_equal(rig_resume(r, RIG_READER, 0, NULL), COHORT_OK);
}

#endif
