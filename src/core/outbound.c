/* SPDX-License-Identifier: Apache-2.0
 *
 * Appending, choosing what to write next, and what RESUME and ACK mean for what was written. What is lost with a session is told
 * in undelivered.c.
 *
 * Invariants: a lane's log holds whole frames; a name's SUBJECT frame stands before the first frame that uses it; `sent` and
 * `written_max` count from the beginning of what the present reader is given; chunks of one message follow one another.
 */
#include "core/outbound.h"

#include "base/alloc.h"
#include "core/chunk.h"

#include <assert.h>
#include <cohort/frame.h>
#include <string.h>

const unsigned cohorti_lane_order[COHORTI_LANE_COUNT] = {1, 0, 2}; /* control, normal, bulk */

#define RAW_LANE 0U
#define BULK_LANE 2U

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
        cohorti_log_init(&ob->lanes[i].log, alloc);
        cohorti_map_init(&ob->lanes[i].by_name, alloc);
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

size_t cohorti_outbound_unsent(const struct cohorti_outbound *ob)
{
    size_t len = 0;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        len += cohorti_log_unsent(&ob->lanes[i].log);
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

/* One frame of up to two pieces. */
static int append_frame(struct cohorti_outbound *ob, struct cohorti_outbound_lane *lane, uint32_t type, const void *head,
                        size_t head_len, const void *body, size_t body_len)
{
    uint8_t *at = NULL;
    size_t len = COHORT_FRAME_HEADER_BYTES + head_len + body_len;
    int status = cohorti_log_reserve(&lane->log, len, &at);
    if (status != COHORT_OK) {
        return status;
    }
    cohort_frame_encode_header(at, type, head_len + body_len);
    at += COHORT_FRAME_HEADER_BYTES;
    if (head_len > 0) {
        memcpy(at, head, head_len);
    }
    if (body_len > 0) {
        memcpy(at + head_len, body, body_len);
    }
    cohorti_log_commit(&lane->log, len);
    count_appended(ob, len);
    return COHORT_OK;
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
    return append_frame(ob, &ob->lanes[lane], cohorti_type_control(COHORTI_CONTROL_SUBJECT), data, len, NULL, 0);
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
static int subject_number(struct cohorti_outbound *ob, unsigned lane, const char *name, uint32_t *number)
{
    uint64_t hash = cohorti_hash_bytes(name, strlen(name));
    const struct cohorti_outbound_subject *known = find_subject(&ob->lanes[lane], name, hash);
    if (known != NULL) {
        *number = known->number;
        return COHORT_OK;
    }
    return new_subject(ob, lane, name, hash, number);
}

static int number_for(struct cohorti_outbound *ob, const struct cohorti_put *put, uint32_t *number)
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

static size_t chunk_count(size_t len)
{
    return len <= COHORTI_CHUNK_BYTES_MAX ? 1 : (len + COHORTI_CHUNK_BYTES_MAX - 1) / COHORTI_CHUNK_BYTES_MAX;
}

static bool over_watermark(const struct cohorti_outbound *ob, struct cohorti_outbound_lane *lane, size_t len, bool has_room)
{
    size_t queued = cohorti_log_len(&lane->log);
    size_t need = len + chunk_count(len) * (COHORT_FRAME_HEADER_BYTES + COHORTI_CHUNK_PREFIX_BYTES);
    size_t max = ob->limits.lane_bytes_max * (has_room ? 2U : 1U);
    bool full = queued > max || need > max - queued;
    if (!full && (has_room || !cohorti_quota_refuses(&ob->share, queued, need))) {
        return false;
    }
    lane->blocked = true;
    lane->starved = !full;
    return true;
}

static void encode_u64(uint8_t *at, uint64_t v)
{
    for (int i = 7; i >= 0; i--, v >>= 8) {
        at[i] = (uint8_t)v;
    }
}

/* The prefix of the kind is part of the data that is cut up: it goes with the first piece. */
static int append_chunks(struct cohorti_outbound *ob, const struct cohorti_put *put, uint32_t number)
{
    size_t total = put->prefix_len + put->body_len;
    const uint8_t *body = put->body;
    int status = COHORT_OK;
    for (size_t at = 0; at < total && status == COHORT_OK;) {
        uint8_t head[COHORTI_CHUNK_PREFIX_BYTES + COHORTI_PREFIX_BYTES_MAX];
        size_t head_len = COHORTI_CHUNK_PREFIX_BYTES;
        size_t piece = total - at > COHORTI_CHUNK_BYTES_MAX ? COHORTI_CHUNK_BYTES_MAX : total - at;
        enum cohorti_kind kind =
            at == 0 ? COHORTI_KIND_CHUNK_FIRST : (at + piece == total ? COHORTI_KIND_CHUNK_LAST : COHORTI_KIND_CHUNK_MIDDLE);
        encode_u64(head, (uint64_t)put->kind << 56 | total);
        encode_u64(head + 8, at);
        size_t of_body = piece;
        if (at == 0 && put->prefix_len > 0) {
            memcpy(head + head_len, put->prefix, put->prefix_len);
            head_len += put->prefix_len;
            of_body -= put->prefix_len;
        }
        status =
            append_frame(ob, &ob->lanes[put->lane], cohorti_type_subject(kind, put->lane, number), head, head_len, body, of_body);
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
    int status = number_for(ob, put, &number);
    if (status != COHORT_OK) {
        return status;
    }
    if (chunk_count(total) == 1) {
        return append_frame(ob, lane, cohorti_type_subject(put->kind, put->lane, number), put->prefix, put->prefix_len, put->body,
                            put->body_len);
    }
    uint64_t before = lane->log.appended;
    uint64_t frames_before = ob->frames;
    status = append_chunks(ob, put, number);
    if (status != COHORT_OK) {
        cohorti_log_truncate(&lane->log, before);
        ob->frames = frames_before;
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
        uint8_t *announcement = NULL;
        if (names != lane->subject_count) { /* a name comes first, and stays */
            size_t run = cohorti_log_at(&lane->log, before, &announcement);
            cohort_frame frame;
            size_t len = 0, needed = 0;
            int decoded = cohort_frame_decode(announcement, run, run, &frame, &len, &needed);
            assert(decoded == COHORT_OK);
            (void)decoded;
            before += len;
        }
        cohorti_expiry_add(lane, before, lane->log.appended, put->deadline_ns);
    }
    return status;
}

int cohorti_outbound_claim(struct cohorti_outbound *ob, const struct cohorti_put *put, uint8_t **body)
{
    struct cohorti_outbound_lane *lane = &ob->lanes[put->lane];
    uint32_t number = 0;
    if (put->body_len > ob->limits.message_bytes_max || chunk_count(put->body_len) > 1) {
        return COHORT_ESIZE;
    }
    if (over_watermark(ob, lane, put->body_len, false)) {
        return COHORT_EAGAIN;
    }
    int status = number_for(ob, put, &number);
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
    if (len > ob->limits.message_bytes_max) {
        return COHORT_ESIZE;
    }
    return over_watermark(ob, lane, len, false) ? COHORT_EAGAIN : append_frame(ob, lane, type, NULL, 0, data, len);
}

/* ---- writing ------------------------------------------------------------------------------------------------------- */

/* No frame is begun at or beyond it. */
static uint64_t write_limit(const struct cohorti_outbound *ob, unsigned lane)
{
    const struct cohorti_outbound_lane *l = &ob->lanes[lane];
    uint64_t room = l->limit > l->log.acked ? l->limit - l->log.acked : 0;
    return l->log.acked + (lane == BULK_LANE && ob->pace.window < room ? ob->pace.window : room);
}

/* Runs of one lane from `skip` on, while there is room and credit. A run may go beyond the credit: it is begun before it. */
static size_t gather_lane(const struct cohorti_outbound *ob, unsigned lane, size_t skip, struct cohorti_slice *out, size_t max,
                          size_t *bytes_left)
{
    const struct cohorti_log *log = &ob->lanes[lane].log;
    uint64_t limit = write_limit(ob, lane);
    size_t count = 0;
    while (count<max && * bytes_left> 0 && log->sent + skip < limit) {
        size_t len = cohorti_log_peek(log, skip, &out[count].bytes);
        if (len == 0) {
            break;
        }
        out[count].len = len;
        out[count].lane = lane;
        skip += len;
        *bytes_left -= len < *bytes_left ? len : *bytes_left;
        count++;
    }
    return count;
}

size_t cohorti_outbound_gather(const struct cohorti_outbound *ob, struct cohorti_slice *out, size_t max, size_t bytes_max)
{
    size_t count = 0, cut_len = 0;
    if (!ob->resumed || max == 0) {
        return 0;
    }
    if (ob->cut >= 0) { /* its credit was there when it was begun */
        cut_len = cohorti_log_peek(&ob->lanes[ob->cut].log, 0, &out[0].bytes);
        out[0].len = cut_len;
        out[0].lane = (unsigned)ob->cut;
        count = 1;
        bytes_max -= cut_len < bytes_max ? cut_len : bytes_max;
    }
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        unsigned lane = cohorti_lane_order[i];
        count += gather_lane(ob, lane, (int)lane == ob->cut ? cut_len : 0, out + count, max - count, &bytes_max);
    }
    return count;
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
        ob->cut = taken < slices[i].len ? (int)slices[i].lane : -1;
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

void cohorti_outbound_written(struct cohorti_outbound *ob, uint64_t now_ns)
{
    const struct cohorti_log *bulk = &ob->lanes[BULK_LANE].log;
    cohorti_pace_written(&ob->pace, now_ns, bulk->sent, bulk->acked);
}

/* ---- what the peer says -------------------------------------------------------------------------------------------- */

bool cohorti_outbound_rest(struct cohorti_outbound *ob)
{
    bool keeps = false;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        keeps = cohorti_log_rest(&ob->lanes[i].log) || keeps;
    }
    return keeps;
}

bool cohorti_outbound_keeps(const struct cohorti_outbound *ob)
{
    bool keeps = false;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        keeps = keeps || cohorti_log_keeps(&ob->lanes[i].log);
    }
    return keeps;
}

void cohorti_outbound_link_ended(struct cohorti_outbound *ob)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        cohorti_log_drop_spares(&ob->lanes[i].log);
    }
    ob->resumed = false;
}

static bool goes_on(const struct cohorti_outbound *ob, const struct cohorti_resume *resume)
{
    return resume->known == ob->half && resume->half == ob->reader;
}

static int check_marks(const struct cohorti_outbound *ob, const struct cohorti_resume *resume)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        const struct cohorti_outbound_lane *lane = &ob->lanes[i];
        if (resume->lanes[i].received < lane->log.acked || resume->lanes[i].received > lane->written_max) {
            return COHORT_EPROTOCOL;
        }
    }
    return COHORT_OK;
}

static void continue_at(struct cohorti_outbound *ob, const struct cohorti_resume *resume)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        struct cohorti_log *log = &ob->lanes[i].log;
        cohorti_log_rewind(log, resume->lanes[i].received);
        cohorti_log_ack(log, resume->lanes[i].received);
        ob->lanes[i].limit = resume->lanes[i].limit;
    }
}

static unsigned kind_of(const cohort_frame *frame)
{
    return cohorti_type_class(frame->type) == COHORTI_TYPE_SUBJECT ? cohorti_type_kind(frame->type) : COHORTI_KIND_MESSAGE;
}

/* Requests and replies are between two processes: with one of them they end. Names were announced again already. */
static bool is_for_anybody(const cohort_frame *frame)
{
    unsigned kind = kind_of(frame);
    struct cohorti_chunk chunk;
    if (cohorti_kind_is_chunk((enum cohorti_kind)kind) && cohorti_chunk_decode(frame, &chunk) == COHORT_OK) {
        kind = (unsigned)chunk.kind;
    }
    return kind == COHORTI_KIND_MESSAGE && frame->type != cohorti_type_control(COHORTI_CONTROL_SUBJECT);
}

/* What of the old log a new reader is still to get. Chunks whose first went to the old one are not. */
static void carry_over(struct cohorti_outbound *ob, unsigned index, struct cohorti_undelivered *lost)
{
    struct cohorti_outbound_lane *lane = &ob->lanes[index];
    struct cohorti_log *old = &lost->lanes[index].log;
    uint64_t at = lost->lanes[index].at, end = old->appended;
    bool kept_any = false;
    uint64_t announced = lane->log.appended;
    uint32_t expiry = 0;
    lost->lanes[index].end = end;
    while (at < end) {
        uint8_t *bytes = NULL;
        size_t run = cohorti_log_at(old, at, &bytes);
        cohort_frame frame = {0};
        size_t len = 0, needed = 0;
        int status = cohort_frame_decode(bytes, run, run, &frame, &len, &needed);
        assert(status == COHORT_OK && len > 0);
        (void)status;
        unsigned kind = kind_of(&frame);
        bool continues = kind == COHORTI_KIND_CHUNK_MIDDLE || kind == COHORTI_KIND_CHUNK_LAST;
        bool stays = at + len <= lost->lanes[index].written_max || (continues && !kept_any) || kind == COHORTI_KIND_VOID;
        if (!stays && !kept_any) {
            kept_any = true;
            lost->lanes[index].end = at;
        }
        while (expiry < lost->lanes[index].expiry_count && lost->lanes[index].expiries[expiry].offset < at) {
            expiry++;
        }
        if (!stays && is_for_anybody(&frame)) {
            uint64_t new_at = lane->log.appended;
            if (append_frame(ob, lane, frame.type, frame.data, frame.data_len, NULL, 0) != COHORT_OK) {
                lost->lanes[index].end = end; /* no memory: then all of it is told */
                cohorti_log_truncate(&lane->log, announced);
                lane->expiry_count = 0;
                return;
            }
            const struct cohorti_expiry *e = expiry < lost->lanes[index].expiry_count ? &lost->lanes[index].expiries[expiry] : NULL;
            if (e != NULL && e->offset == at && cohorti_expiry_reserve(ob, lane) == COHORT_OK) {
                cohorti_expiry_add(lane, new_at, new_at + (e->end - e->offset), e->deadline_ns);
            }
        }
        at += len;
    }
}

/* Without memory for the announcements the names are forgotten: they are announced when next used, and what is lost is told without
 * them. */
static bool announce_again(struct cohorti_outbound *ob, unsigned index)
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

/* The first frame that was not acknowledged whole. A peer may say a mark inside a frame; it is not believed that far. */
static uint64_t first_unacknowledged(const struct cohorti_log *log)
{
    uint64_t at = cohorti_log_begin(log);
    while (at < log->acked) {
        uint8_t *bytes = NULL;
        cohort_frame frame;
        size_t run = cohorti_log_at(log, at, &bytes), len = 0, needed = 0;
        int status = cohort_frame_decode(bytes, run, run, &frame, &len, &needed);
        assert(status == COHORT_OK && len > 0);
        (void)status;
        if (at + len > log->acked) {
            break;
        }
        at += len;
    }
    return at;
}

static void move_to_lost(struct cohorti_outbound *ob, struct cohorti_undelivered *lost)
{
    lost->alloc = ob->alloc;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        struct cohorti_outbound_lane *lane = &ob->lanes[i];
        lost->lanes[i].log = lane->log;
        lost->lanes[i].written_max = lane->written_max;
        lost->lanes[i].at = first_unacknowledged(&lane->log);
        lost->lanes[i].end = lane->log.appended;
        lost->lanes[i].expiries = lane->expiries;
        lost->lanes[i].expiry_count = lane->expiry_count;
        lane->expiries = NULL;
        lane->expiry_count = lane->expiry_cap = 0;
        cohorti_log_init(&lane->log, ob->alloc);
        lane->written_max = 0;
        lane->limit = 0;
    }
    ob->cut = -1;
}

/* For a reader that has taken nothing: from the beginning. If another may have, what it may have taken is lost to us. */
static void start_over(struct cohorti_outbound *ob, const struct cohorti_resume *resume, struct cohorti_undelivered *lost)
{
    bool untouched = true;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        untouched = untouched && ob->lanes[i].log.acked == 0;
    }
    if (!untouched || (ob->reader != 0 && ob->reader != resume->half)) {
        move_to_lost(ob, lost);
        for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
            if (announce_again(ob, i)) {
                carry_over(ob, i, lost);
            }
        }
    }
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        cohorti_log_rewind(&ob->lanes[i].log, 0);
        ob->lanes[i].written_max = 0;
        cohorti_expiry_look_again(&ob->lanes[i]);
        ob->lanes[i].limit = resume->lanes[i].limit - resume->lanes[i].received; /* its marks are about another log */
    }
    ob->reader = resume->half;
}

int cohorti_outbound_resume(struct cohorti_outbound *ob, const struct cohorti_resume *resume, struct cohorti_undelivered *lost)
{
    if (goes_on(ob, resume)) {
        int status = check_marks(ob, resume);
        if (status != COHORT_OK) {
            return status;
        }
        continue_at(ob, resume);
    } else {
        start_over(ob, resume, lost);
    }
    ob->cut = -1;
    ob->resumed = true;
    cohorti_pace_restart(&ob->pace);
    return COHORT_OK;
}

unsigned cohorti_outbound_writable(struct cohorti_outbound *ob)
{
    unsigned writable = 0;
    cohorti_outbound_count(ob);
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        struct cohorti_outbound_lane *lane = &ob->lanes[i];
        size_t len = cohorti_log_len(&lane->log);
        bool fed = !lane->starved || len <= COHORTI_QUOTA_RESERVE / 2 || cohorti_quota_has_room(&ob->share);
        if (lane->blocked && len <= ob->limits.lane_bytes_max / 2 && fed) {
            lane->blocked = lane->starved = false;
            writable |= 1U << i;
        }
    }
    return writable;
}

bool cohorti_outbound_ack_is_early(const struct cohorti_outbound *ob, const struct cohorti_ack *ack)
{
    bool early = false;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        bool beyond = (ack->present >> i & 1U) != 0 && ack->lanes[i].received > ob->lanes[i].log.sent;
        early = early || (beyond && ack->lanes[i].received <= ob->lanes[i].held_until);
    }
    return early;
}

int cohorti_outbound_ack(struct cohorti_outbound *ob, const struct cohorti_ack *ack)
{
    if (!ob->resumed) {
        return COHORT_EPROTOCOL;
    }
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        struct cohorti_outbound_lane *lane = &ob->lanes[i];
        const struct cohorti_lane_mark *mark = &ack->lanes[i];
        if ((ack->present >> i & 1U) == 0) {
            continue;
        }
        if (mark->received < lane->log.acked || mark->received > lane->log.sent) {
            return COHORT_EPROTOCOL;
        }
        cohorti_log_ack(&lane->log, mark->received);
        lane->limit = mark->limit > lane->limit ? mark->limit : lane->limit;
    }
    return COHORT_OK;
}

void cohorti_outbound_acked(struct cohorti_outbound *ob, uint64_t now_ns)
{
    uint64_t urgent = 0;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        urgent += i == BULK_LANE ? 0 : ob->lanes[i].log.appended;
    }
    cohorti_pace_acked(&ob->pace, now_ns, ob->lanes[BULK_LANE].log.acked, urgent);
}

void cohorti_outbound_left(struct cohorti_outbound *ob)
{
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        struct cohorti_outbound_lane *lane = &ob->lanes[i];
        cohorti_log_rewind(&lane->log, lane->log.acked);
        lane->written_max = lane->log.acked;
        cohorti_expiry_look_again(lane);
    }
    ob->cut = -1;
    ob->resumed = false;
}

void cohorti_outbound_end(struct cohorti_outbound *ob, uint64_t half, struct cohorti_undelivered *lost)
{
    assert(half != 0 && half != ob->half);
    move_to_lost(ob, lost);
    ob->half = half;
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        (void)announce_again(ob, i); /* whoever reads next knows none of the names */
    }
    ob->reader = 0;
    ob->resumed = false;
}
