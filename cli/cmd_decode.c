/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort decode: captured bytes of one direction of a connection, frame by frame. Reads what may have no end, holds one frame at a time.
 */
#include "commands.h"
#include "decode.h"
#include "options.h"
#include "output.h"
#include "table.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    READ_BYTES = 65536,
    SHOWN_BYTES = 64 /* of data, unless all is asked for */
};

#define FRAME_BYTES_MAX (((size_t)1 << 30) + COHORT_FRAME_HEADER_BYTES) /* of the largest message that can be configured */

struct decoding {
    const char *name; /* of the input */
    int in;
    int failed; /* errno of reading */
    bool as_json, whole;
    uint8_t *bytes;
    size_t len, capacity;
    uint64_t offset; /* of bytes[0] */
    struct decode_stream stream;
};

__attribute__((format(printf, 2, 3))) static int complain(const struct decoding *d, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)output_flush("decode");
    fprintf(stderr, "cohort decode: %s: ", d->name);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    return EXIT_FAILED;
}

/* ---- text ---- */

static bool printable(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] < 0x20 || bytes[i] > 0x7e) {
            return false;
        }
    }
    return true;
}

static void print_bytes(const struct decoding *d, const uint8_t *bytes, size_t len)
{
    size_t shown = d->whole || len <= SHOWN_BYTES ? len : SHOWN_BYTES;
    if (printable(bytes, len)) {
        printf("\"%.*s\"", (int)shown, (const char *)bytes);
    } else {
        printf("0x");
        for (size_t i = 0; i < shown; i++) {
            printf("%02x", bytes[i]);
        }
    }
    printf("%s", shown < len ? "..." : "");
}

static void print_text(const struct decoding *d, const cohort_frame *frame, const struct decoded *decoded)
{
    printf("%8" PRIu64 "  %-12s 0x%08" PRIx32 "  %7zu B", d->offset, decoded->name, frame->type, frame->data_len);
    for (int i = 0; i < decoded->field_count; i++) {
        const struct decode_field *field = &decoded->fields[i];
        printf("  %s=", field->name);
        if (field->is_number) {
            printf("%" PRIu64, field->number);
        } else {
            print_visible(field->text, field->text_len, stdout);
        }
    }
    printf("%s", decoded->malformed ? "  malformed" : "");
    if (decoded->data_len > 0) {
        printf("  ");
        print_bytes(d, decoded->data, decoded->data_len);
    }
    printf("\n");
}

/* ---- JSON ---- */

/* As text where it is UTF-8, else hexadecimal under another name. */
static bool set_bytes(json_t *object, const char *name, const void *bytes, size_t len)
{
    json_t *text = json_stringn(bytes, len);
    if (text != NULL) {
        return json_object_set_new(object, name, text) == 0;
    }
    char key[32];
    char *hex = malloc(len * 2 + 1);
    if (hex == NULL) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        snprintf(hex + 2 * i, 3, "%02x", ((const uint8_t *)bytes)[i]);
    }
    snprintf(key, sizeof(key), "%s_hex", name);
    bool done = json_object_set_new(object, key, json_string(hex)) == 0;
    free(hex);
    return done;
}

static bool print_json(const struct decoding *d, const cohort_frame *frame, const struct decoded *decoded)
{
    char type[16];
    snprintf(type, sizeof(type), "0x%08" PRIx32, frame->type);
    json_t *object = json_pack("{s:I, s:s, s:s, s:I}", "offset", (json_int_t)d->offset, "name", decoded->name, "type", type,
                               "data_len", (json_int_t)frame->data_len);
    bool done = object != NULL;
    for (int i = 0; done && i < decoded->field_count; i++) {
        const struct decode_field *field = &decoded->fields[i];
        done = field->is_number ? json_object_set_new(object, field->name, json_integer((json_int_t)field->number)) == 0
                                : set_bytes(object, field->name, field->text, field->text_len);
    }
    if (done && decoded->malformed) {
        done = json_object_set_new(object, "malformed", json_true()) == 0;
    }
    if (done && decoded->data_len > 0) {
        done = set_bytes(object, "data", decoded->data, decoded->data_len);
    }
    done = done && json_dumpf(object, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER) == 0 && putchar('\n') != EOF;
    json_decref(object);
    return done;
}

/* ---- reading ---- */

static bool room_for(struct decoding *d, size_t wanted)
{
    if (wanted <= d->capacity) {
        return true;
    }
    uint8_t *grown = realloc(d->bytes, wanted);
    if (grown == NULL) {
        return false;
    }
    d->bytes = grown;
    d->capacity = wanted;
    return true;
}

static void drop(struct decoding *d, size_t consumed)
{
    d->offset += consumed;
    d->len -= consumed;
    memmove(d->bytes, d->bytes + consumed, d->len);
}

/* The frame at `bytes` is none: say which byte of it says so. */
static int complain_frame(const struct decoding *d, const uint8_t *bytes, int status)
{
    const uint64_t marker = COHORT_FRAME_MARKER;
    unsigned at = 0;
    if (status == COHORT_ELENGTH) {
        uint32_t length = (uint32_t)bytes[12] << 24 | (uint32_t)bytes[13] << 16 | (uint32_t)bytes[14] << 8 | bytes[15];
        return complain(d, "offset %" PRIu64 ": %s: %" PRIu32 " (%s)", d->offset + 12, cohort_error_text(status), length,
                        cohort_error_name(status));
    }
    while (at < 7 && bytes[at] == (uint8_t)(marker >> (56 - 8 * at))) {
        at++;
    }
    return complain(d, "offset %" PRIu64 ": %s: 0x%02x where 0x%02x is due (%s)", d->offset + at, cohort_error_text(status),
                    bytes[at], (unsigned)(uint8_t)(marker >> (56 - 8 * at)), cohort_error_name(status));
}

/* All whole frames that are there. */
static int show_frames(struct decoding *d)
{
    size_t done = 0;
    for (;;) {
        cohort_frame frame;
        struct decoded decoded;
        size_t consumed, needed;
        int status = cohort_frame_decode(d->bytes + done, d->len - done, FRAME_BYTES_MAX, &frame, &consumed, &needed);
        if (status != COHORT_OK) {
            return complain_frame(d, d->bytes + done, status);
        }
        if (consumed == 0) {
            drop(d, done);
            d->offset -= done; /* counted frame by frame */
            return EXIT_FINE;
        }
        if (!decode_frame(&d->stream, &frame, &decoded)) {
            return complain(d, "out of memory");
        }
        if (!d->as_json) {
            print_text(d, &frame, &decoded);
        } else if (!print_json(d, &frame, &decoded)) {
            return output_flush("decode") == EXIT_FINE ? complain(d, "offset %" PRIu64 ": out of memory", d->offset) : EXIT_FAILED;
        }
        done += consumed;
        d->offset += consumed;
    }
}

static int end_of_input(const struct decoding *d)
{
    if (d->failed != 0) {
        return complain(d, "offset %" PRIu64 ": %s", d->offset + d->len, strerror(d->failed));
    }
    if (d->len == 0) {
        return EXIT_FINE;
    }
    cohort_frame frame;
    size_t consumed, needed = 0;
    int ignored = cohort_frame_decode(d->bytes, d->len, FRAME_BYTES_MAX, &frame, &consumed, &needed);
    (void)ignored;
    return complain(d, "offset %" PRIu64 ": the input ends inside a frame, after %zu of %zu bytes%s", d->offset, d->len, needed,
                    d->len < COHORT_FRAME_HEADER_BYTES ? " of its header" : "");
}

static int run(struct decoding *d)
{
    for (;;) {
        if (!room_for(d, d->len + READ_BYTES)) {
            return complain(d, "offset %" PRIu64 ": out of memory for a frame of so many bytes", d->offset);
        }
        ssize_t got = read(d->in, d->bytes + d->len, READ_BYTES); /* what is there: the input may be live */
        if (got <= 0) {
            d->failed = got < 0 ? errno : 0;
            return end_of_input(d);
        }
        d->len += (size_t)got;
        int code = show_frames(d);
        if (code != EXIT_FINE) {
            return code;
        }
        if (output_flush("decode") != EXIT_FINE) {
            return EXIT_FAILED;
        }
    }
}

int command_decode(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "decode",
        .operands = "FILE|-",
        .summary = "Print captured bytes, one direction of a connection as it went over the wire, frame by frame: offset, name, "
                   "type, bytes of\n"
                   "data, and what the data says.",
        .notes = "Several captures may follow one another, each beginning with its HELLO. Data is printed as text or hexadecimal.",
        .operands_min = 1,
        .operands_max = 1,
    };
    struct decoding d = {.in = STDIN_FILENO};
    const struct option options[] = {
        {.name = "json", .kind = OPTION_FLAG, .target = &d.as_json, .help = "print JSON, one object a frame"},
        {.name = "whole", .kind = OPTION_FLAG, .target = &d.whole, .help = "print all of the data, not its first 64 bytes"},
        {.name = NULL},
    };
    const char *operands[OPERANDS_MAX];
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    d.name = operands[0];
    if (strcmp(d.name, "-") != 0) {
        d.in = open(d.name, O_RDONLY | O_CLOEXEC);
        if (d.in < 0) {
            return complain(&d, "%s", strerror(errno));
        }
    }
    code = run(&d);
    if (d.in != STDIN_FILENO) {
        close(d.in);
    }
    free(d.bytes);
    decode_stream_free(&d.stream);
    return code;
}
