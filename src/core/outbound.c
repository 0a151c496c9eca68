/* SPDX-License-Identifier: Apache-2.0
 *
 * Appending, and choosing what to write next. What the peer says to it is resume.c; what is lost with a session is told in undelivered.c.
 *
 * Invariants: a lane's log holds whole frames; a name's SUBJECT frame stands before the first frame that uses it; `sent` and
 * `written_max` count from the beginning of what the present reader is given; chunks of number 0 follow one another; those of a stream
 * (stream.c) come in order, with anything between them.
 */
#include "core/outbound.h"

#include "base/alloc.h"
#include "core/chunk.h"
#include "core/log_frame.h"
#include "core/stream.h"

#include <assert.h>
#include <cohort/frame.h>
#include <string.h>

const unsigned cohorti_lane_order[COHORTI_LANE_COUNT] = {1, 0, 2}; /* control, normal, bulk */

#define RAW_LANE 0U

struct cohorti_outbound_subject {
    struct cohorti_map_node node;
    uint32_t number;
    char name[];
};

void cohorti_outbound_init(struct cohorti_outbound *ob, const cohort_allocator *alloc, const struct cohorti_outbound_limits *limits,
                           uint64_t half)
{
    assert(half != 0);
    memset(ob, 0, sizeof *ob);
    ob->alloc = alloc;
    ob->limits = *limits;
    ob->half = half;
    ob->cut = -1;
    ob->share.of = limits->quota;
    cohorti_pace_init(&ob->pace);
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        cohorti_log_init(&ob->lanes[i].log, alloc, cohorti_lane_block_bytes(i));
        cohorti_map_init(&ob->lanes[i].by_name, alloc);
        cohorti_list_init(&ob->lanes[i].streams);
        ob->lanes[i].epoch = 1;
    }
}

static void forget_names(struct cohorti_outbound *ob, struct cohorti_outbound_lane *lane)
{
    for (uint32_t i = 0; i < lane->subject_count; i++) {
        cohorti_map_remove(&lane->by_name, &lane->by_number[i]->node);
        cohorti_release(ob->alloc, lane->by_number[i]);
    }
    lane->subject_count = 0;
    lane->used_last = NULL;
    lane->epoch++;
}

void cohorti_outbound_deinit(struct cohorti_outbound *ob)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        struct cohorti_outbound_lane *lane = &ob->lanes[i];
        forget_names(ob, lane);
        cohorti_release(ob->alloc, lane->by_number);
        cohorti_release(ob->alloc, lane->expiries);
        cohorti_map_deinit(&lane->by_name);
        cohorti_log_deinit(&lane->log);
    }
    cohorti_quota_count(&ob->share, 0);
}

size_t cohorti_outbound_len(const struct cohorti_outbound *ob)
{
    size_t len = 0;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        len += cohorti_log_len(&ob->lanes[i].log);
    }
    return len;
}

void cohorti_outbound_subject_name(const struct cohorti_outbound *ob, unsigned lane, uint32_t number, enum cohorti_kind kind,
                                   char *out)
{
    bool named = kind != COHORTI_KIND_REPLY && kind != COHORTI_KIND_ERROR_REPLY && number < ob->lanes[lane].subject_count;
    const char *name = named ? ob->lanes[lane].by_number[number]->name : "";
    memcpy(out, name, strlen(name) + 1);
}

struct cohorti_body *cohorti_outbound_take_unreferenced(struct cohorti_outbound *ob)
{
    struct cohorti_body *all = NULL;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        struct cohorti_body *of_lane = cohorti_log_take_unreferenced(&ob->lanes[i].log);
        while (of_lane != NULL) {
            struct cohorti_body *next = of_lane->next;
            of_lane->next = all;
            all = of_lane;
            of_lane = next;
        }
    }
    return all;
}

size_t cohorti_outbound_waiting(const struct cohorti_outbound *ob)
{
    size_t len = 0;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        const struct cohorti_log *log = &ob->lanes[i].log;
        bool lent = log->last != NULL && log->last->tail_len > 0;
        len += cohorti_log_unsent(log) / (lent ? 8 : 1);
    }
    return len;
}

void cohorti_outbound_count(struct cohorti_outbound *ob)
{
    cohorti_quota_count(&ob->share, cohorti_outbound_len(ob));
}

/* ---- appending ----------------------------------------------------------------------------------------------------- */

static void count_appended(struct cohorti_outbound *ob, size_t len)
{
    ob->frames++;
    ob->share.uncounted += len;
    if (ob->share.uncounted >= COHORTI_QUOTA_STEP) {
        cohorti_outbound_count(ob);
    }
}

/* One frame of up to two pieces, of which the second may be referred to. */
static int append_frame(struct cohorti_outbound *ob, struct cohorti_outbound_lane *lane, uint32_t type, const void *head,
                        size_t head_len, const void *body, size_t body_len, struct cohorti_body *reference)
{
    int status = cohorti_log_append_frame(&lane->log, type, head, head_len, body, body_len, body_len > 0 ? reference : NULL);
    if (status == COHORT_OK) {
        count_appended(ob, COHORT_FRAME_HEADER_BYTES + head_len + body_len);
    }
    return status;
}

int cohorti_outbound_append(struct cohorti_outbound *ob, unsigned lane, uint32_t type, const void *head, size_t head_len,
                            const void *body, size_t body_len)
{
    return append_frame(ob, &ob->lanes[lane], type, head, head_len, body, body_len, NULL);
}

int cohorti_outbound_append_again(struct cohorti_outbound *ob, unsigned lane, const struct cohorti_log_frame *frame)
{
    int status = cohorti_log_append_again(&ob->lanes[lane].log, frame);
    if (status == COHORT_OK) {
        count_appended(ob, frame->len);
    }
    return status;
}

static int append_announcement(struct cohorti_outbound *ob, unsigned lane, uint32_t number, const char *name)
{
    struct cohorti_subject wire = {.lane = lane, .number = number};
    uint8_t data[COHORTI_CONTROL_BYTES_MAX];
    size_t len = 0;
    memcpy(wire.name, name, strlen(name) + 1);
    int status = cohorti_subject_encode(&wire, data, sizeof data, &len);
    if (status != COHORT_OK) {
        return status;
    }
    return append_frame(ob, &ob->lanes[lane], cohorti_type_control(COHORTI_CONTROL_SUBJECT), data, len, NULL, 0, NULL);
}

/* Without memory for the announcements the names are forgotten: they are announced when next used, and what is lost is told without
 * them. */
bool cohorti_outbound_announce_again(struct cohorti_outbound *ob, unsigned index)
{
    struct cohorti_outbound_lane *lane = &ob->lanes[index];
    for (uint32_t i = 0; i < lane->subject_count; i++) {
        if (append_announcement(ob, index, i, lane->by_number[i]->name) != COHORT_OK) {
            cohorti_log_truncate(&lane->log, 0);
            forget_names(ob, lane);
            return false;
        }
    }
    return true;
}

static struct cohorti_outbound_subject *find_subject(const struct cohorti_outbound_lane *lane, const char *name, uint64_t hash)
{
    struct cohorti_map_node *node = cohorti_map_find(&lane->by_name, hash);
    while (node != NULL && strcmp(((struct cohorti_outbound_subject *)node)->name, name) != 0) {
        node = cohorti_map_find_next(node, hash);
    }
    return (struct cohorti_outbound_subject *)node;
}

static bool grow_numbers(struct cohorti_outbound *ob, struct cohorti_outbound_lane *lane)
{
    if (lane->subject_count < lane->subject_cap) {
        return true;
    }
    uint32_t cap = lane->subject_cap == 0 ? 4 : lane->subject_cap * 2;
    void *grown = cohorti_realloc(ob->alloc, lane->by_number, cap * sizeof(struct cohorti_outbound_subject *));
    if (grown == NULL) {
        return false;
    }
    lane->by_number = grown;
    lane->subject_cap = cap;
    return true;
}

static int new_subject(struct cohorti_outbound *ob, unsigned lane_index, const char *name, uint64_t hash, uint32_t *number)
{
    struct cohorti_outbound_lane *lane = &ob->lanes[lane_index];
    size_t size = strlen(name) + 1;
    if (lane->subject_count >= ob->limits.subjects_max) {
        return COHORT_ELIMIT;
    }
    struct cohorti_outbound_subject *subject = cohorti_alloc(ob->alloc, sizeof *subject + size);
    if (subject == NULL || !grow_numbers(ob, lane)) {
        cohorti_release(ob->alloc, subject);
        return COHORT_ENOMEM;
    }
    memcpy(subject->name, name, size);
    subject->number = lane->subject_count;
    int status = append_announcement(ob, lane_index, subject->number, name);
    if (status != COHORT_OK) {
        cohorti_release(ob->alloc, subject);
        return status;
    }
    cohorti_map_insert(&lane->by_name, &subject->node, hash);
    lane->by_number[lane->subject_count++] = subject;
    *number = subject->number;
    return COHORT_OK;
}

/* Number of a name, announced in the lane if it is new there. An announcement may stay without the message that caused it. */
static int subject_number(struct cohorti_outbound *ob, unsigned lane_index, const char *name, uint32_t *number)
{
    struct cohorti_outbound_lane *lane = &ob->lanes[lane_index];
    if (lane->used_last == NULL || strcmp(lane->used_last->name, name) != 0) {
        uint64_t hash = cohorti_hash_bytes(name, strlen(name));
        lane->used_last = find_subject(lane, name, hash);
        if (lane->used_last == NULL) {
            return new_subject(ob, lane_index, name, hash, number);
        }
    }
    *number = lane->used_last->number;
    return COHORT_OK;
}

int cohorti_outbound_number(struct cohorti_outbound *ob, const struct cohorti_put *put, uint32_t *number)
{
    struct cohorti_name_hint *hint = put->hint;
    if (put->subject == NULL) {
        return COHORT_OK;
    }
    if (hint != NULL && hint->epoch == ob->lanes[put->lane].epoch) {
        *number = hint->number;
        return COHORT_OK;
    }
    int status = subject_number(ob, put->lane, put->subject, number);
    if (status == COHORT_OK && hint != NULL) {
        *hint = (struct cohorti_name_hint){.epoch = ob->lanes[put->lane].epoch, .number = *number};
    }
    return status;
}

static size_t chunk_count(unsigned lane, size_t len)
{
    size_t piece = cohorti_lane_chunk_bytes(lane);
    return len <= COHORTI_CHUNK_BYTES_MAX ? 1 : (len + piece - 1) / piece;
}

/* Whatever its size, a message is taken when half is free: the writable event says so much, and one may be larger than the watermark. */
static bool over_watermark(const struct cohorti_outbound *ob, struct cohorti_outbound_lane *lane, size_t len, bool has_room)
{
    size_t queued = cohorti_log_len(&lane->log);
    size_t need = len + chunk_count((unsigned)(lane - ob->lanes), len) * (COHORT_FRAME_HEADER_BYTES + COHORTI_CHUNK_PREFIX_BYTES);
    size_t max = ob->limits.lane_bytes_max * (has_room ? 2U : 1U);
    bool full = queued > max / 2 && (queued > max || need > max - queued);
    if (!full && (has_room || !cohorti_quota_refuses(&ob->share, queued, need))) {
        return false;
    }
    lane->full = lane->full || full;
    lane->starved = lane->starved || !full;
    return true;
}

/* The prefix of the kind is part of the data that is cut up: it goes with the first piece. */
static int append_chunks(struct cohorti_outbound *ob, const struct cohorti_put *put, uint32_t number)
{
    size_t total = put->prefix_len + put->body_len, piece_max = cohorti_lane_chunk_bytes(put->lane);
    const uint8_t *body = put->body;
    int status = COHORT_OK;
    for (size_t at = 0; at < total && status == COHORT_OK;) {
        uint8_t head[COHORTI_CHUNK_PREFIX_BYTES + COHORTI_PREFIX_BYTES_MAX];
        size_t head_len = COHORTI_CHUNK_PREFIX_BYTES;
        size_t piece = total - at > piece_max ? piece_max : total - at;
        enum cohorti_kind kind =
            at == 0 ? COHORTI_KIND_CHUNK_FIRST : (at + piece == total ? COHORTI_KIND_CHUNK_LAST : COHORTI_KIND_CHUNK_MIDDLE);
        cohorti_chunk_encode_prefix(head, &(struct cohorti_chunk){.kind = put->kind, .total = total, .at = at});
        size_t of_body = piece;
        if (at == 0 && put->prefix_len > 0) {
            memcpy(head + head_len, put->prefix, put->prefix_len);
            head_len += put->prefix_len;
            of_body -= put->prefix_len;
        }
        status = append_frame(ob, &ob->lanes[put->lane], cohorti_type_subject(kind, put->lane, number), head, head_len, body,
                              of_body, put->reference);
        body += of_body;
        at += piece;
    }
    return status;
}

static int append_message(struct cohorti_outbound *ob, const struct cohorti_put *put)
{
    struct cohorti_outbound_lane *lane = &ob->lanes[put->lane];
    size_t total = put->prefix_len + put->body_len;
    uint32_t number = 0;
    assert(put->prefix_len <= COHORTI_PREFIX_BYTES_MAX);
    if (put->body_len > ob->limits.message_bytes_max) {
        return COHORT_ESIZE;
    }
    if (over_watermark(ob, lane, total, put->has_room)) {
        return COHORT_EAGAIN;
    }
    int status = cohorti_outbound_number(ob, put, &number);
    if (status != COHORT_OK) {
        return status;
    }
    if (chunk_count(put->lane, total) == 1) {
        return append_frame(ob, lane, cohorti_type_subject(put->kind, put->lane, number), put->prefix, put->prefix_len, put->body,
                            put->body_len, put->body_len < COHORTI_REFERENCE_BYTES_MIN ? NULL : put->reference);
    }
    uint64_t before = lane->log.appended;
    uint64_t frames_before = ob->frames;
    status = append_chunks(ob, put, number);
    if (status != COHORT_OK) {
        cohorti_log_truncate(&lane->log, before);
        ob->frames = frames_before;
        cohorti_outbound_count(ob);
    }
    return status;
}

int cohorti_outbound_put(struct cohorti_outbound *ob, const struct cohorti_put *put)
{
    struct cohorti_outbound_lane *lane = &ob->lanes[put->lane];
    if (put->deadline_ns == 0) {
        return append_message(ob, put);
    }
    int status = cohorti_expiry_reserve(ob, lane);
    if (status != COHORT_OK) {
        return status;
    }
    uint32_t names = lane->subject_count;
    uint64_t before = lane->log.appended;
    status = append_message(ob, put);
    if (status == COHORT_OK) {
        if (names != lane->subject_count) { /* a name comes first, and stays */
            struct cohorti_log_frame announcement;
            cohorti_log_frame_at(&lane->log, before, &announcement);
            before += announcement.len;
        }
        cohorti_expiry_add(lane, before, lane->log.appended, put->deadline_ns);
    }
    return status;
}

int cohorti_outbound_claim(struct cohorti_outbound *ob, const struct cohorti_put *put, uint8_t **body)
{
    struct cohorti_outbound_lane *lane = &ob->lanes[put->lane];
    uint32_t number = 0;
    if (put->body_len > ob->limits.message_bytes_max || put->body_len > COHORTI_CHUNK_BYTES_MAX - COHORTI_PREFIX_BYTES_MAX) {
        return COHORT_ESIZE;
    }
    if (over_watermark(ob, lane, put->body_len, false)) {
        return COHORT_EAGAIN;
    }
    int status = cohorti_outbound_number(ob, put, &number);
    if (status == COHORT_OK) {
        status = cohorti_log_reserve(&lane->log, COHORT_FRAME_HEADER_BYTES + put->body_len, body);
    }
    if (status == COHORT_OK) {
        *body += COHORT_FRAME_HEADER_BYTES;
    }
    return status;
}

void cohorti_outbound_commit(struct cohorti_outbound *ob, const struct cohorti_put *put, uint8_t *body, size_t len)
{
    cohort_frame_encode_header(body - COHORT_FRAME_HEADER_BYTES, cohorti_type_subject(put->kind, put->lane, put->hint->number), len);
    cohorti_log_commit(&ob->lanes[put->lane].log, COHORT_FRAME_HEADER_BYTES + len);
    count_appended(ob, COHORT_FRAME_HEADER_BYTES + len);
}

int cohorti_outbound_put_raw(struct cohorti_outbound *ob, uint32_t type, const void *data, size_t len)
{
    struct cohorti_outbound_lane *lane = &ob->lanes[RAW_LANE];
    if (type == COHORT_TYPE_HELLO || type == COHORT_TYPE_ECHO || cohorti_type_class(type) != COHORTI_TYPE_RAW) {
        return COHORT_ETYPE;
    }
    if (len > ob->limits.message_bytes_max || len > COHORT_RAW_BYTES_MAX) {
        return COHORT_ESIZE;
    }
    return over_watermark(ob, lane, len, false) ? COHORT_EAGAIN : append_frame(ob, lane, type, NULL, 0, data, len, NULL);
}

/* ---- writing ------------------------------------------------------------------------------------------------------- */

/* No frame is begun at or beyond it. */
static uint64_t write_limit(const struct cohorti_outbound *ob, unsigned lane)
{
    const struct cohorti_outbound_lane *l = &ob->lanes[lane];
    uint64_t room = l->limit > l->log.acked ? l->limit - l->log.acked : 0;
    return l->log.acked + (lane == COHORTI_LANE_BULK && ob->pace.window < room ? ob->pace.window : room);
}

/* Runs of one lane from `skip` on, while there is room and credit. A block may go beyond the credit: it is begun before it. */
static size_t gather_lane(const struct cohorti_outbound *ob, unsigned lane, size_t skip, struct cohorti_slice *out, size_t max,
                          size_t *bytes_left)
{
    const struct cohorti_log *log = &ob->lanes[lane].log;
    uint64_t limit = write_limit(ob, lane);
    size_t count = 0;
    bool within = false; /* a block */
    while (count < max && (within || (*bytes_left > 0 && log->sent + skip < limit))) {
        size_t len = cohorti_log_peek(log, skip, &out[count].bytes, &out[count].more);
        if (len == 0) {
            break;
        }
        out[count].len = len;
        out[count].lane = lane;
        skip += len;
        *bytes_left -= len < *bytes_left ? len : *bytes_left;
        within = out[count].more;
        count++;
    }
    return count;
}

/* The rest of the block that was written in part; its credit was there when it was begun. Returns its bytes. */
static size_t gather_cut(const struct cohorti_outbound *ob, struct cohorti_slice *out, size_t max, size_t *count)
{
    size_t len = 0;
    for (bool more = true; more && *count < max; (*count)++) {
        struct cohorti_slice *slice = &out[*count];
        slice->lane = (unsigned)ob->cut;
        slice->len = cohorti_log_peek(&ob->lanes[ob->cut].log, len, &slice->bytes, &slice->more);
        len += slice->len;
        more = slice->more;
    }
    return len;
}

size_t cohorti_outbound_gather(const struct cohorti_outbound *ob, struct cohorti_slice *out, size_t max, size_t bytes_max)
{
    size_t count = 0, cut_len = 0;
    if (!ob->resumed || max == 0) {
        return 0;
    }
    if (ob->cut >= 0) {
        cut_len = gather_cut(ob, out, max, &count);
        bytes_max -= cut_len < bytes_max ? cut_len : bytes_max;
    }
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        unsigned lane = cohorti_lane_order[i];
        if (count > 0 && out[count - 1].more) {
            break; /* no slice is left for the rest of that block: nothing else may follow */
        }
        count += gather_lane(ob, lane, (int)lane == ob->cut ? cut_len : 0, out + count, max - count, &bytes_max);
    }
    return count;
}

size_t cohorti_outbound_cut_count(const struct cohorti_outbound *ob, const struct cohorti_slice *slices, size_t count)
{
    size_t of_block = 0;
    while (ob->resumed && ob->cut >= 0 && of_block < count && (of_block == 0 || slices[of_block - 1].more)) {
        of_block++;
    }
    return of_block;
}

void cohorti_outbound_hold(struct cohorti_outbound *ob, const struct cohorti_slice *slices, size_t count)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        ob->lanes[i].held_until = ob->lanes[i].log.sent;
    }
    for (size_t i = 0; i < count; i++) {
        ob->lanes[slices[i].lane].held_until += slices[i].len;
    }
}

void cohorti_outbound_advance(struct cohorti_outbound *ob, const struct cohorti_slice *slices, size_t count, size_t n)
{
    for (size_t i = 0; i < count && n > 0; i++) {
        struct cohorti_outbound_lane *lane = &ob->lanes[slices[i].lane];
        size_t taken = n < slices[i].len ? n : slices[i].len;
        cohorti_log_advance(&lane->log, taken);
        if (lane->log.sent > lane->written_max) {
            lane->written_max = lane->log.sent;
        }
        ob->cut = taken < slices[i].len || slices[i].more ? (int)slices[i].lane : -1;
        n -= taken;
    }
    assert(n == 0);
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        ob->lanes[i].held_until = 0;
    }
}

bool cohorti_outbound_wants_write(const struct cohorti_outbound *ob)
{
    if (!ob->resumed) {
        return false;
    }
    bool wants = ob->cut >= 0;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        const struct cohorti_outbound_lane *lane = &ob->lanes[i];
        wants = wants || (lane->log.sent < lane->log.appended && lane->log.sent < write_limit(ob, i));
    }
    return wants;
}

void cohorti_outbound_written(struct cohorti_outbound *ob, uint64_t begun_ns)
{
    const struct cohorti_log *bulk = &ob->lanes[COHORTI_LANE_BULK].log;
    cohorti_pace_written(&ob->pace, begun_ns, bulk->sent, bulk->acked, bulk->appended > bulk->sent);
}
