/* SPDX-License-Identifier: Apache-2.0
 *
 * What a frame means to a reader of captured bytes: docs/protocol.md, read leniently, so that whatever was captured is shown. The
 * library's own decoders refuse what is wrong, and are not public; this one shows it.
 */
#ifndef COHORT_CLI_DECODE_H
#define COHORT_CLI_DECODE_H

#include <cohort/frame.h>
#include <cohort/types.h>
#include <stdbool.h>
#include <stdio.h>

/** One direction of one connection, as far as it was read. */
enum {
    DECODE_LANES = 4 /* the fourth is reserved */
};

struct decode_stream {
    bool legacy; /* its HELLO has no extension: every type but HELLO and ECHO is the application's */
    struct decode_names {
        char **subjects;
        uint32_t count; /* announced so far, by number */
    } lanes[DECODE_LANES];
};

void decode_stream_free(struct decode_stream *stream);

/** A frame explained. Texts that begin in the frame end there; print them with print_visible(). */
struct decode_field {
    const char *name;
    bool is_number;
    uint64_t number;
    const char *text;
    size_t text_len;
};

enum {
    DECODE_FIELDS_MAX = 16
};

struct decoded {
    char name[48]; /* "HELLO", "MESSAGE", "RAW 7", "UNKNOWN" */
    bool malformed;
    struct decode_field fields[DECODE_FIELDS_MAX];
    int field_count;
    const uint8_t *data; /* what is left to show as bytes */
    size_t data_len;
};

/** Explain one frame; `stream` learns from it. False: out of memory. */
bool decode_frame(struct decode_stream *stream, const cohort_frame *frame, struct decoded *out);

#endif
