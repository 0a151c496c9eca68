/* SPDX-License-Identifier: Apache-2.0
 *
 * The type space once both ends greeted with the extension, and the control frames. docs/protocol.md is the normative text.
 *
 *   00, 01  raw TLV types of applications, except HELLO 1 and ECHO 2
 *   10      bits 29..27 kind, bits 26..25 lane, bits 24..0 number of a subject announced by SUBJECT in that lane
 *   11      bit 29 optional (skipped when unknown), bits 15..0 code of a control frame; the other bits zero
 */
#ifndef COHORTI_WIRE_CONTROL_H
#define COHORTI_WIRE_CONTROL_H

#include <assert.h>
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
    COHORTI_KIND_VOID = 7, /* a frame whose message was withdrawn before it was written: counted, not looked at */
};

/* What stands before the body in a frame of a kind. */
#define COHORTI_REQUEST_PREFIX_BYTES 12U /* u64 call | u32 time left in ms, 0: no deadline */
#define COHORTI_REPLY_PREFIX_BYTES 8U    /* u64 call */
#define COHORTI_ERROR_PREFIX_BYTES 12U   /* u64 call | u32 code of cohort/error.h, positive; then text */
#define COHORTI_CHUNK_PREFIX_BYTES 16U   /* u8 kind of the whole | u56 its data in all | u16 stream | u48 where this piece begins */
#define COHORTI_PREFIX_BYTES_MAX 16U

enum cohorti_control_code {
    COHORTI_CONTROL_WELCOME = 1,
    COHORTI_CONTROL_REFUSE = 2,
    COHORTI_CONTROL_LEAVE = 3,
    COHORTI_CONTROL_SUBJECT = 4,
    COHORTI_CONTROL_PING = 5, /* any data; answered by PONG with the same */
    COHORTI_CONTROL_PONG = 6,
    COHORTI_CONTROL_RESUME = 7,
    COHORTI_CONTROL_ACK = 8,
};

/* Lanes on the wire. Raw types, which cannot name one, travel in NORMAL. */
#define COHORTI_LANE_COUNT 3
#define COHORTI_LANE_WIRE_MAX 3U /* what two bits hold; 3 is reserved */

#define COHORTI_SUBJECT_NUMBER_MAX UINT32_C(0x01ffffff)
#define COHORTI_CONTROL_OPTIONAL UINT32_C(0x20000000)
#define COHORTI_REFUSE_TEXT_BYTES_MAX 256

/* Inline: each frame is taken apart with them, millions of times a second. */

#define COHORTI_TYPE_SUBJECT_BIT UINT32_C(0x80000000)
#define COHORTI_TYPE_CONTROL_BITS UINT32_C(0xc0000000)
#define COHORTI_TYPE_CONTROL_RESERVED UINT32_C(0x1fff0000)
#define COHORTI_TYPE_KIND_SHIFT 27
#define COHORTI_TYPE_KIND_MASK UINT32_C(7)
#define COHORTI_TYPE_LANE_SHIFT 25

static inline enum cohorti_type_class cohorti_type_class(uint32_t type)
{
    if ((type & COHORTI_TYPE_SUBJECT_BIT) == 0) {
        return COHORTI_TYPE_RAW;
    }
    return (type & COHORTI_TYPE_CONTROL_BITS) == COHORTI_TYPE_CONTROL_BITS ? COHORTI_TYPE_CONTROL : COHORTI_TYPE_SUBJECT;
}

static inline uint32_t cohorti_type_subject(enum cohorti_kind kind, unsigned lane, uint32_t number)
{
    assert((uint32_t)kind <= COHORTI_TYPE_KIND_MASK && lane <= COHORTI_LANE_WIRE_MAX && number <= COHORTI_SUBJECT_NUMBER_MAX);
    return COHORTI_TYPE_SUBJECT_BIT | (uint32_t)kind << COHORTI_TYPE_KIND_SHIFT | lane << COHORTI_TYPE_LANE_SHIFT | number;
}

static inline unsigned cohorti_type_kind(uint32_t type)
{
    return type >> COHORTI_TYPE_KIND_SHIFT & COHORTI_TYPE_KIND_MASK;
}

static inline unsigned cohorti_type_lane(uint32_t type)
{
    return type >> COHORTI_TYPE_LANE_SHIFT & COHORTI_LANE_WIRE_MAX;
}

static inline uint32_t cohorti_type_number(uint32_t type)
{
    return type & COHORTI_SUBJECT_NUMBER_MAX;
}

static inline uint32_t cohorti_type_control(enum cohorti_control_code code)
{
    return COHORTI_TYPE_CONTROL_BITS | (uint32_t)code;
}

/** Code of a control type; 0, which is none, when a bit that must be zero is not. */
static inline uint16_t cohorti_type_code(uint32_t type)
{
    return (type & COHORTI_TYPE_CONTROL_RESERVED) == 0 ? (uint16_t)type : 0;
}

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
/** SUBJECT: u32 lane << 25 | number, name, not terminated. Part of its lane; precedes the first frame that uses the number there.
 * Numbers count up from 0 in each lane. */
struct cohorti_subject {
    unsigned lane;
    uint32_t number;
    char name[COHORT_SUBJECT_BYTES_MAX + 1];
};

/** Where one lane stands, as its reader says: bytes it has taken since the lane began, and up to where it gives credit. */
struct cohorti_lane_mark {
    uint64_t received;
    uint64_t limit;
};

/** RESUME: u64 half | u64 known | u16 lanes | per lane u64 received, u64 limit; bytes after are ignored. The first frame of each end
 * on an open link, unnumbered. `half` names the sender's half of the session, `known` the half of the receiver that its marks are
 * about; 0 for none. Never 0 / 0. */
struct cohorti_resume {
    uint64_t half, known;
    struct cohorti_lane_mark lanes[COHORTI_LANE_COUNT];
};

/** ACK: for one or more lanes, u8 lane | u64 received | u64 limit. Unnumbered. */
struct cohorti_ack {
    unsigned present; /* bit per lane */
    struct cohorti_lane_mark lanes[COHORTI_LANE_COUNT];
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
COHORT_NODISCARD int cohorti_resume_encode(const struct cohorti_resume *in, uint8_t *out, size_t cap, size_t *len);
COHORT_NODISCARD int cohorti_resume_decode(const void *data, size_t len, struct cohorti_resume *out);
COHORT_NODISCARD int cohorti_ack_encode(const struct cohorti_ack *in, uint8_t *out, size_t cap, size_t *len);
COHORT_NODISCARD int cohorti_ack_decode(const void *data, size_t len, struct cohorti_ack *out);

#endif
