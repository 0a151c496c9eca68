/* SPDX-License-Identifier: Apache-2.0
 *
 * The type space once both ends greeted with the extension, and the control frames. docs/protocol.md is the normative text.
 *
 *   00, 01  raw TLV types of applications, except HELLO 1 and ECHO 2
 *   10      bits 29..27 kind, bits 26..0 number of a subject announced by SUBJECT on this link
 *   11      bit 29 optional (skipped when unknown), bits 15..0 code of a control frame; the other bits zero
 */
#ifndef COHORTI_WIRE_CONTROL_H
#define COHORTI_WIRE_CONTROL_H

#include <cohort/error.h>
#include <cohort/types.h>

#define COHORTI_PROTOCOL_VERSION 1

enum cohorti_type_class {
    COHORTI_TYPE_RAW,
    COHORTI_TYPE_SUBJECT,
    COHORTI_TYPE_CONTROL,
};

enum cohorti_kind {
    COHORTI_KIND_MESSAGE = 0,
    COHORTI_KIND_REQUEST = 1,
    COHORTI_KIND_REPLY = 2,
    COHORTI_KIND_ERROR_REPLY = 3,
    COHORTI_KIND_CHUNK_FIRST = 4,
    COHORTI_KIND_CHUNK_MIDDLE = 5,
    COHORTI_KIND_CHUNK_LAST = 6,
};

enum cohorti_control_code {
    COHORTI_CONTROL_WELCOME = 1,
    COHORTI_CONTROL_REFUSE = 2,
    COHORTI_CONTROL_LEAVE = 3,
    COHORTI_CONTROL_SUBJECT = 4,
    COHORTI_CONTROL_PING = 5, /* any data; answered by PONG with the same */
    COHORTI_CONTROL_PONG = 6,
};

#define COHORTI_SUBJECT_NUMBER_MAX UINT32_C(0x07ffffff)
#define COHORTI_CONTROL_OPTIONAL UINT32_C(0x20000000)
#define COHORTI_REFUSE_TEXT_BYTES_MAX 256

enum cohorti_type_class cohorti_type_class(uint32_t type);
uint32_t cohorti_type_subject(enum cohorti_kind kind, uint32_t number);
unsigned cohorti_type_kind(uint32_t type);
uint32_t cohorti_type_number(uint32_t type);
uint32_t cohorti_type_control(enum cohorti_control_code code);
/** Code of a control type; 0, which is none, when a bit that must be zero is not. */
uint16_t cohorti_type_code(uint32_t type);

/** WELCOME: u16 version. Sent by each end once it admitted the other's HELLO; bytes after are ignored. */
struct cohorti_welcome {
    uint16_t version;
};
/** REFUSE: u32 reason (a positive cohort error number) | u64 value | text, not terminated. Sent instead of WELCOME, then closed. */
struct cohorti_refuse {
    int reason;                                   /* COHORT_E...; a number we do not know comes out as COHORT_EREMOTE */
    uint64_t value;                               /* for ESTALE: the highest incarnation seen */
    char text[COHORTI_REFUSE_TEXT_BYTES_MAX + 1]; /* from the peer: printable ASCII only, the rest replaced by '?', cut to fit */
};
/** SUBJECT: u32 number | name, not terminated. Precedes the first frame that uses the number. Numbers count up from 0. */
struct cohorti_subject {
    uint32_t number;
    char name[COHORT_SUBJECT_BYTES_MAX + 1];
};

#define COHORTI_CONTROL_BYTES_MAX 512 /* data of any control frame above */

/* Encoders write the data of the frame, without header. COHORT_ESIZE when cap is too small.
 * Decoders: COHORT_EPROTOCOL when it is not one; *out is then not to be used. */
COHORT_NODISCARD int cohorti_welcome_encode(const struct cohorti_welcome *in, uint8_t *out, size_t cap, size_t *len);
COHORT_NODISCARD int cohorti_welcome_decode(const void *data, size_t len, struct cohorti_welcome *out);
COHORT_NODISCARD int cohorti_refuse_encode(const struct cohorti_refuse *in, uint8_t *out, size_t cap, size_t *len);
COHORT_NODISCARD int cohorti_refuse_decode(const void *data, size_t len, struct cohorti_refuse *out);
COHORT_NODISCARD int cohorti_subject_encode(const struct cohorti_subject *in, uint8_t *out, size_t cap, size_t *len);
COHORT_NODISCARD int cohorti_subject_decode(const void *data, size_t len, struct cohorti_subject *out);

#endif
