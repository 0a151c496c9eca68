/* SPDX-License-Identifier: Apache-2.0
 *
 * outbound: the sending half of a session with one peer. It outlives links.
 *
 * Messages are encoded into the log of their lane at once and stay there until the peer acknowledges them. A link only moves the
 * writer along: RESUME says where the peer's other half, the reader, wants to go on. TCP delivers a prefix of what was written, so
 * going on where the reader stands repeats nothing and leaves nothing out.
 *
 *   reader none ──RESUME──> reader R ──RESUME of R──> goes on           any other reader: what R may have taken is reported
 *                                                                       as undelivered, what was never written goes to the new one
 *
 * Not thread-safe: whoever calls holds the peer's lock. It writes to no socket and decides nothing about links.
 */
#ifndef COHORTI_CORE_OUTBOUND_H
#define COHORTI_CORE_OUTBOUND_H

#include "base/list.h"
#include "base/map.h"
#include "core/log.h"
#include "core/pace.h"
#include "core/quota.h"
#include "wire/control.h"

struct cohorti_outbound_limits {
    size_t lane_bytes_max;       /* high watermark of one lane: appended and not acknowledged */
    size_t message_bytes_max;    /* body of one message */
    uint32_t subjects_max;       /* names in one lane */
    struct cohorti_quota *quota; /* of all halves of the node; NULL: none */
};

struct cohorti_outbound_subject;
struct cohorti_log_frame;

/* A message with a time to live that is not acknowledged. */
struct cohorti_expiry {
    uint64_t offset, end;
    uint64_t deadline_ns;
};

struct cohorti_outbound_lane {
    struct cohorti_log log;
    struct cohorti_expiry *expiries; /* in order of offset */
    uint32_t expiry_count, expiry_cap;
    uint64_t expires_ns; /* the earliest deadline among them, or earlier */
    uint64_t rests_ns;   /* they are not looked through before; 0: as soon as need be */
    uint64_t voids_end;  /* no void frame begins at or beyond; 0: there was none */

    uint64_t limit;              /* credit of the reader: no frame is begun at or beyond */
    uint64_t written_max;        /* highest `sent` ever with this reader */
    uint64_t held_until;         /* bytes before are being written just now, without the lock: they must not change. 0: none */
    bool full;                   /* somebody was told EAGAIN for the lane's watermark: a writable event is owed */
    bool starved;                /* ... for the quota */
    struct cohorti_list streams; /* of struct cohorti_stream: open, or not acknowledged whole */
    uint32_t stream_numbers;     /* a bit for each in use */
    uint32_t aborts_due;         /* a bit for each number whose abort there was no memory for */
    struct cohorti_map by_name;
    struct cohorti_outbound_subject **by_number;
    struct cohorti_outbound_subject *used_last; /* NULL, or what the next message is probably about too */
    uint32_t subject_count, subject_cap;
    uint32_t epoch; /* of the numbers: changes when names are forgotten; never 0 */
};

struct cohorti_outbound {
    const cohort_allocator *alloc;
    struct cohorti_outbound_limits limits;
    uint64_t half;            /* names this half; never 0 */
    uint64_t reader;          /* the peer's half that reads, or read last; 0: none yet */
    bool resumed;             /* RESUME came over the present link: lanes may be written */
    int cut;                  /* the lane whose block was written in part; -1: none */
    uint64_t frames;          /* appended */
    struct cohorti_pace pace; /* of the bulk lane */
    struct cohorti_quota_share share;
    struct cohorti_outbound_lane lanes[COHORTI_LANE_COUNT];
};

/** Most urgent first. */
extern const unsigned cohorti_lane_order[COHORTI_LANE_COUNT];
#define COHORTI_LANE_BULK 2U

/* A message whose body lies elsewhere and is smaller is copied: a block of its own, and a run in each write, would cost more. */
#define COHORTI_REFERENCE_BYTES_MIN ((size_t)4 * 1024)

void cohorti_outbound_init(struct cohorti_outbound *ob, const cohort_allocator *alloc, const struct cohorti_outbound_limits *limits,
                           uint64_t half);
void cohorti_outbound_deinit(struct cohorti_outbound *ob);

/* ---- appending ----------------------------------------------------------------------------------------------------- */

/** Remembers the number of a name in one lane, so that it need not be looked up again. All zero at first. */
struct cohorti_name_hint {
    uint32_t epoch, number;
};

struct cohorti_put {
    enum cohorti_kind kind; /* MESSAGE, REQUEST, REPLY or ERROR_REPLY */
    unsigned lane;
    const char *subject;   /* valid name; NULL for replies, which name their call */
    const uint8_t *prefix; /* what the kind puts before the body; at most COHORTI_PREFIX_BYTES_MAX */
    size_t prefix_len;
    const void *body;
    size_t body_len;
    struct cohorti_body *reference; /* what owns the body, which need not be copied then; NULL: it is borrowed */
    struct cohorti_name_hint *hint; /* may be NULL */
    uint64_t deadline_ns;           /* withdrawn when it was not begun by then; 0: never */
    bool has_room;                  /* it may go beyond the watermark, up to as much again: somebody waits for it */
};

/** Append whole or not at all. COHORT_EAGAIN: the lane is `full` or `starved`. COHORT_ESIZE, COHORT_ELIMIT, COHORT_ENOMEM. */
COHORT_NODISCARD int cohorti_outbound_put(struct cohorti_outbound *ob, const struct cohorti_put *put);
/**
 * Room for the body of one message (kind MESSAGE, no body in `put`) of put->body_len bytes, to be filled in place and then committed, or
 * left alone: nothing is appended until then. As put(); COHORT_ESIZE also when it would not fit into one frame.
 */
COHORT_NODISCARD int cohorti_outbound_claim(struct cohorti_outbound *ob, const struct cohorti_put *put, uint8_t **body);
/** Append what was claimed last with the first `len` bytes of its body; nothing may have been appended to the lane since. */
void cohorti_outbound_commit(struct cohorti_outbound *ob, const struct cohorti_put *put, uint8_t *body, size_t len);

/** A frame of an application's raw type, in the normal lane. COHORT_ETYPE, and as above. */
COHORT_NODISCARD int cohorti_outbound_put_raw(struct cohorti_outbound *ob, uint32_t type, const void *data, size_t len);

/* For stream.c and carry.c: one frame of up to two pieces; and the number of a name, announced if it is new. */
COHORT_NODISCARD int cohorti_outbound_append(struct cohorti_outbound *ob, unsigned lane, uint32_t type, const void *head,
                                             size_t head_len, const void *body, size_t body_len);
/* For resume.c: all names of a lane, to a reader that knows none. False: there was no memory, and they are forgotten. */
bool cohorti_outbound_announce_again(struct cohorti_outbound *ob, unsigned index);
COHORT_NODISCARD int cohorti_outbound_append_again(struct cohorti_outbound *ob, unsigned lane, const struct cohorti_log_frame *frame);
COHORT_NODISCARD int cohorti_outbound_number(struct cohorti_outbound *ob, const struct cohorti_put *put, uint32_t *number);

/** Name of the subject a frame was about; "" for replies. `out` has room for any. */
void cohorti_outbound_subject_name(const struct cohorti_outbound *ob, unsigned lane, uint32_t number, enum cohorti_kind kind,
                                   char *out);

/** Bodies that are not referred to any more, for cohorti_bodies_release() where no lock is held. Ask after each call that may let go of
 * something: resume(), ack(), end(), expire(). */
struct cohorti_body *cohorti_outbound_take_unreferenced(struct cohorti_outbound *ob);

/** Bytes appended and not acknowledged, all lanes. */
size_t cohorti_outbound_len(const struct cohorti_outbound *ob);

/** Of those, not written yet; in a lane whose last frame refers to its data only an eighth of them, as nobody has touched these. */
size_t cohorti_outbound_waiting(const struct cohorti_outbound *ob);

/* ---- writing ------------------------------------------------------------------------------------------------------- */

struct cohorti_slice {
    const uint8_t *bytes;
    size_t len;
    unsigned lane;
    bool more; /* the next slice is of the same block: nothing may come between */
};

/** What to write next, in order: at most `max` slices, no new one begun beyond bytes_max. 0 when there is nothing, no RESUME or no
 * credit. The bytes stay valid and unchanged until advance(), even while more is appended. */
size_t cohorti_outbound_gather(const struct cohorti_outbound *ob, struct cohorti_slice *out, size_t max, size_t bytes_max);
/** What was gathered is going to be written while the lock is not held: until advance() it must stay as it is. */
void cohorti_outbound_hold(struct cohorti_outbound *ob, const struct cohorti_slice *slices, size_t count);
/** `n` bytes of what was gathered were written. Nothing is held any more. */
void cohorti_outbound_advance(struct cohorti_outbound *ob, const struct cohorti_slice *slices, size_t count, size_t n);
/** A block was written in part: its rest must come before anything else on the link. */
static inline bool cohorti_outbound_is_cut(const struct cohorti_outbound *ob)
{
    return ob->cut >= 0;
}
/** After advance(), with the time when the call to the system that wrote it began. */
void cohorti_outbound_written(struct cohorti_outbound *ob, uint64_t begun_ns);
/** How many of the slices gathered are that rest. */
size_t cohorti_outbound_cut_count(const struct cohorti_outbound *ob, const struct cohorti_slice *slices, size_t count);
/** gather() would give something. */
bool cohorti_outbound_wants_write(const struct cohorti_outbound *ob);

/* ---- what the peer says -------------------------------------------------------------------------------------------- */

struct cohorti_undelivered;

/**
 * RESUME came. From here on lanes may be written to the link it came on.
 * `lost` takes what another reader may have taken; empty when the session goes on.
 * COHORT_EPROTOCOL: it claims more than was written; nothing changed.
 */
COHORT_NODISCARD int cohorti_outbound_resume(struct cohorti_outbound *ob, const struct cohorti_resume *resume,
                                             struct cohorti_undelivered *lost);
/** It acknowledges bytes that are held: they were written, and who wrote them has not said so yet. */
bool cohorti_outbound_ack_is_early(const struct cohorti_outbound *ob, const struct cohorti_ack *ack);
/** ACK came. COHORT_EPROTOCOL: it claims more than was sent. */
COHORT_NODISCARD int cohorti_outbound_ack(struct cohorti_outbound *ob, const struct cohorti_ack *ack);
/** After ack(), with the time. */
void cohorti_outbound_acked(struct cohorti_outbound *ob, uint64_t now_ns);
/** Tell the quota exactly what is held: in steps it is told anyway. */
void cohorti_outbound_count(struct cohorti_outbound *ob);
/** A bit for each lane that refused something and has room again; each is told once. Counts. */
unsigned cohorti_outbound_writable(struct cohorti_outbound *ob);
/** Called now and then while blocks are kept: of those that were not needed since the last call half go, all if the lane was
 * not in use. Whether any is kept. */
bool cohorti_outbound_rest(struct cohorti_outbound *ob);
bool cohorti_outbound_keeps(const struct cohorti_outbound *ob);
/** The link ended: nothing is written until the next RESUME, and no block is kept. */
void cohorti_outbound_link_ended(struct cohorti_outbound *ob);
/** The reader said goodbye: it has acknowledged all that it handled, so what is left was not. */
void cohorti_outbound_left(struct cohorti_outbound *ob);
/* For outbound.c: what of lost->lanes[index] another reader is still to get is appended anew, and no more to be told (carry.c). */
void cohorti_outbound_carry_over(struct cohorti_outbound *ob, unsigned index, struct cohorti_undelivered *lost);
/** The session ends for good: everything not acknowledged goes to `lost`. What is appended from now on is of another half, `half`. */
void cohorti_outbound_end(struct cohorti_outbound *ob, uint64_t half, struct cohorti_undelivered *lost);

/* ---- time to live (expiry.c) ---------------------------------------------------------------------------------------- */

/** Withdraw what was not begun in time: a copy goes to `lost`, the frames become void, and go away while no link writes. */
void cohorti_outbound_expire(struct cohorti_outbound *ob, uint64_t now_ns, struct cohorti_undelivered *lost);
/** When to call that; UINT64_MAX: never; 0: now, for void frames that may go since a link ended. Ask when one has. */
uint64_t cohorti_outbound_expires_ns(const struct cohorti_outbound *ob);
/* For outbound.c: room for one more, so that adding cannot fail; adding; and when everything is to be looked at again. */
COHORT_NODISCARD int cohorti_expiry_reserve(struct cohorti_outbound *ob, struct cohorti_outbound_lane *lane);
/* What was written is to be written anew. */
void cohorti_expiry_look_again(struct cohorti_outbound_lane *lane);
void cohorti_expiry_add(struct cohorti_outbound_lane *lane, uint64_t offset, uint64_t end, uint64_t deadline_ns);

/* ---- undelivered --------------------------------------------------------------------------------------------------- */

/** What was accepted and is not known to have been handled; lives apart from the session. */
struct cohorti_undelivered {
    const cohort_allocator *alloc;
    struct {
        struct cohorti_log log;
        uint64_t written_max;
        uint64_t at, end;            /* what is left to tell */
        struct cohorti_block *block; /* that of the frame told last; NULL: none was */
        uint32_t epoch;              /* of the names its numbers are of */
        struct cohorti_expiry *expiries;
        uint32_t expiry_count;
    } lanes[COHORTI_LANE_COUNT];
    uint8_t *whole; /* a body put together from chunks */
};

struct cohorti_lost {
    enum cohorti_kind kind;
    unsigned lane;
    bool raw;
    uint32_t raw_type;
    char subject[COHORT_SUBJECT_BYTES_MAX + 1]; /* "" for replies and raw frames */
    const uint8_t *prefix;                      /* NULL when its beginning is not held any more */
    const uint8_t *body;                        /* NULL when not all of it is held; valid until the next call */
    size_t body_len;
    bool maybe_handled; /* it was written to its end: the peer may have handled it */
};

static inline void cohorti_undelivered_init(struct cohorti_undelivered *u)
{
    *u = (struct cohorti_undelivered){0};
}
/** Empty, but to be told from. */
void cohorti_undelivered_begin(struct cohorti_undelivered *u, const cohort_allocator *alloc);
/** The next one, oldest first within its lane; false at the end. `ob` is where they came from: it knows the names. */
bool cohorti_undelivered_next(struct cohorti_undelivered *u, const struct cohorti_outbound *ob, struct cohorti_lost *out);
void cohorti_undelivered_deinit(struct cohorti_undelivered *u);

#endif
