/* SPDX-License-Identifier: Apache-2.0
 *
 * Each byte of a stream says its number and its place, so nothing the library says is taken on trust. A stream is read by one process,
 * whatever becomes of it; its result must have a cause: all was handled, we gave it up, the member's process or membership, or ours, ended.
 */
#include "sim/streamer.h"

#include "sim/run_internal.h"

#include <cohort/stream.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_BYTES 8
#define STREAM_BYTES_MAX 60000
#define PIECE_BYTES_MAX 9000
#define TICK_NS (40 * MS)

static const char subject[] = "sim/stream";

struct sent {
    struct run *run;
    uint64_t number;
    uint32_t from, process, to;
    cohort_stream *stream; /* NULL once given back, or its process is gone */
    uint64_t len, written;
    bool announced; /* its total was */
    bool finished, aborted;
    bool over; /* has its result */
    int status;
    struct {
        bool begun, ended, queued;
        uint32_t process;
        uint64_t len;
        int status;
    } read;
};

static uint8_t byte_at(uint64_t number, uint64_t at)
{
    return at < NUMBER_BYTES ? (uint8_t)(number >> (8 * at)) : (uint8_t)(number * 5 + at * 3 + (at >> 8));
}

/* ---- reading ------------------------------------------------------------------------------------------------------- */

/* The first piece says which it is: every stream has as many bytes as a number, and the first write has at least these. */
static struct sent *find(struct run *run, const cohort_piece *piece)
{
    const uint8_t *data = piece->data;
    uint64_t number = 0;
    for (size_t i = 0; i < NUMBER_BYTES && piece->data_len >= NUMBER_BYTES; i++) {
        number |= (uint64_t)data[i] << (8 * i);
    }
    bool known = piece->data_len >= NUMBER_BYTES && number < run->streamer.count;
    return known ? run->streamer.at[number] : NULL;
}

static bool is_written(const struct sent *s, const cohort_piece *piece)
{
    const uint8_t *data = piece->data;
    bool right = piece->offset == s->read.len && piece->offset + piece->data_len <= s->written;
    for (size_t i = 0; i < piece->data_len && right; i++) {
        right = data[i] == byte_at(s->number, piece->offset + i);
    }
    return right && (piece->end || piece->total == (s->announced ? s->len : COHORT_TOTAL_UNKNOWN));
}

/* Why a reader may be told that a stream ended early, or a sender that it is lost: the process or the membership of one of them did. */
static bool has_parted(const struct sent *s)
{
    const struct player *from = &s->run->players[s->from], *to = &s->run->players[s->to];
    bool removed = from->views[s->to].removed_once || to->views[s->from].removed_once;
    return removed || from->process != s->process || from->node == NULL || to->node == NULL || to->process > 1;
}

static bool is_true_end(const struct sent *s, const struct player *reader, int status)
{
    switch (status) {
    case COHORT_OK:
        return (s->finished || s->announced) && s->read.len == s->len;
    case COHORT_ECANCELLED:
        return s->aborted || s->run->players[s->from].process != s->process || s->run->players[s->from].node == NULL;
    case COHORT_ECLOSED:
        return reader->node == NULL;
    case COHORT_ERESTARTED:
    case COHORT_EREMOVED:
        return has_parted(s);
    default:
        return false;
    }
}

static void begin(struct player *p, struct sent *s, const cohort_piece *piece)
{
    struct player *from = check_player(p->run, piece->from);
    if (from == NULL || from->index != s->from || s->to != p->index || s->read.begun) {
        run_fail(p->run, "%s: stream %" PRIu64 " of %s begins, and that is not so", p->id, s->number, piece->from);
    }
    s->read.begun = true;
    s->read.process = p->process;
    s->read.queued = p->queue != NULL;
    *piece->state = s;
}

static void on_piece(cohort_node *node, const cohort_piece *piece, void *arg)
{
    struct player *p = arg;
    struct sent *s = piece->begin ? find(p->run, piece) : *piece->state;
    if (s == NULL || (piece->begin && *piece->state != NULL)) {
        run_fail(p->run, "%s: a piece of no stream, from %s", p->id, piece->from);
        return;
    }
    if (piece->begin) {
        begin(p, s, piece);
    }
    if (s->read.ended || s->read.process != p->process || !is_written(s, piece)) {
        run_fail(p->run, "%s: stream %" PRIu64 " of %s: a piece of %zu bytes at %" PRIu64 " that was not written like this", p->id,
                 s->number, piece->from, piece->data_len, piece->offset);
    }
    s->read.len += piece->data_len;
    s->read.ended = piece->end;
    s->read.status = piece->status;
    if (piece->end && !is_true_end(s, p, piece->status)) {
        run_fail(p->run, "%s: stream %" PRIu64 " of %s ended with %s after %" PRIu64 " bytes, and that is not so", p->id, s->number,
                 piece->from, cohort_error_name(piece->status), s->read.len);
    }
    emptier_linger(p);
}

int streamer_prepare(struct player *p)
{
    cohort_subject_options options;
    cohort_handle_id ignored = 0;
    if (!p->run->scenario->streams) {
        return COHORT_OK;
    }
    COHORT_SUBJECT_OPTIONS_INIT(&options);
    options.lane = COHORT_LANE_BULK;
    int status = cohort_subject_set(p->node, subject, &options);
    return status != COHORT_OK ? status : cohort_handle_stream(p->node, p->queue, subject, on_piece, p, NULL, &ignored);
}

/* ---- results ------------------------------------------------------------------------------------------------------- */

static bool is_true_result(const struct sent *s, int status)
{
    const struct player *from = &s->run->players[s->from];
    switch (status) {
    case COHORT_OK: /* handled; or handed to a queue, which is the process's affair */
        return s->finished && ((s->read.ended && s->read.status == COHORT_OK) || s->run->scenario->queues);
    case COHORT_ECANCELLED:
        return s->aborted;
    case COHORT_ECLOSED:
        return from->node == NULL;
    case COHORT_EREMOVED:
        return from->views[s->to].removed_once;
    case COHORT_ERESTARTED:
    case COHORT_ELEFT:
        return has_parted(s);
    default:
        return false;
    }
}

static void on_result(cohort_node *node, const cohort_stream_result *result, void *arg)
{
    struct sent *s = arg;
    const struct player *from = &s->run->players[s->from], *to = &s->run->players[s->to];
    if (s->over || from->process != s->process || strcmp(result->to, to->id) != 0 || result->bytes != s->written) {
        run_fail(s->run, "%s: stream %" PRIu64 " to %s has a result again, or for another one", from->id, s->number, result->to);
    }
    s->over = true;
    s->status = result->status;
    if (!is_true_result(s, result->status)) {
        run_fail(s->run, "%s: stream %" PRIu64 " to %s ended with %s, and that is not so", from->id, s->number, to->id,
                 cohort_error_name(result->status));
    }
}

/* ---- writing ------------------------------------------------------------------------------------------------------- */

static void give_up(struct sent *s)
{
    cohort_stream *stream = s->stream;
    s->stream = NULL;
    s->aborted = s->aborted || !s->over;
    cohort_stream_abort(stream);
}

static void finish(struct sent *s)
{
    s->finished = true; /* before: all of it may be acknowledged already */
    int status = cohort_stream_finish(s->stream);
    if (status == COHORT_ENOMEM) {
        s->finished = false;
        return;
    }
    s->stream = NULL;
    if (status != COHORT_OK && s->status != status && s->over) {
        run_fail(s->run, "stream %" PRIu64 " is told to have ended with %s and %s", s->number, cohort_error_name(s->status),
                 cohort_error_name(status));
    }
}

/* The first time as much as a number, at least. */
static void write_some(struct sent *s)
{
    uint8_t data[PIECE_BYTES_MAX];
    uint64_t least = s->written < NUMBER_BYTES ? NUMBER_BYTES - s->written : 1;
    uint64_t len = least + cohort_sim_random(s->run->sim, PIECE_BYTES_MAX - NUMBER_BYTES);
    len = len < s->len - s->written ? len : s->len - s->written;
    for (size_t i = 0; i < len; i++) {
        data[i] = byte_at(s->number, s->written + i);
    }
    size_t taken = 0;
    uint64_t before = s->written;
    s->written += len; /* it may be read before the call returns */
    bool whole = s->written == s->len && s->announced;
    int status = cohort_stream_write(s->stream, data, len, &taken);
    s->written = before + taken;
    if (status == COHORT_EAGAIN) {
        ledger_full(&s->run->players[s->from], &s->run->players[s->to], COHORT_LANE_BULK);
    }
    bool expected = status == COHORT_OK || status == COHORT_EAGAIN || status == COHORT_ENOMEM || s->over;
    if (!expected || taken > len || (status == COHORT_OK && taken != len)) {
        run_fail(s->run, "stream %" PRIu64 "%s: writing %" PRIu64 " bytes took %zu: %s", s->number, whole ? ", its last" : "", len,
                 taken, cohort_error_name(status));
    }
}

static bool is_open(const struct sent *s)
{
    const struct player *from = &s->run->players[s->from];
    return s->stream != NULL && from->node != NULL && from->process == s->process;
}

static void go_on(struct sent *s)
{
    uint64_t draw = cohort_sim_random(s->run->sim, 40);
    bool hurries = s->run->streamer.hurries;
    if (s->over || (draw == 0 && !hurries)) {
        give_up(s);
    } else if (s->written == s->len) {
        finish(s);
    } else if (draw < 25 || hurries) {
        write_some(s);
    }
}

static void tick(void *arg);

static void tick_later(struct run *run)
{
    run->streamer.ticks = cohort_sim_after(run->sim, 1 + cohort_sim_random(run->sim, TICK_NS), tick, run) == COHORT_OK;
    if (!run->streamer.ticks) {
        run_fail(run, "the simulator has no memory");
    }
}

static void tick(void *arg)
{
    struct run *run = arg;
    bool any = false;
    run->streamer.ticks = false;
    for (uint64_t i = 0; i < run->streamer.count; i++) {
        struct sent *s = run->streamer.at[i];
        bool runs = is_open(s) && cohort_sim_now_ns(run->sim) >= run->players[s->from].paused_until_ns;
        if (runs) {
            go_on(s);
        }
        any = any || is_open(s);
    }
    if (any) {
        tick_later(run);
    }
}

static struct sent *new_sent(struct run *run)
{
    struct streamer *all = &run->streamer;
    if (all->count == all->cap) {
        uint64_t cap = all->cap == 0 ? 64 : all->cap * 2;
        struct sent **grown = realloc(all->at, cap * sizeof(struct sent *));
        if (grown == NULL) {
            return NULL;
        }
        all->at = grown;
        all->cap = cap;
    }
    return all->at[all->count] = calloc(1, sizeof(struct sent));
}

void streamer_may_send(struct run *run, struct player *from, struct player *to)
{
    if (!run->scenario->streams || cohort_sim_random(run->sim, 2) == 0) {
        return;
    }
    struct sent *s = new_sent(run);
    if (s == NULL) {
        run_fail(run, "the simulator has no memory");
        return;
    }
    *s = (struct sent){.run = run, .number = run->streamer.count, .from = from->index, .process = from->process, .to = to->index};
    s->len = NUMBER_BYTES + cohort_sim_random(run->sim, STREAM_BYTES_MAX);
    s->announced = cohort_sim_random(run->sim, 2) == 0;
    int status =
        cohort_stream_open(from->node, to->id, subject, s->announced ? s->len : COHORT_TOTAL_UNKNOWN, on_result, s, &s->stream);
    if (status != COHORT_OK) {
        if (status != COHORT_ENOPEER && status != COHORT_ENOMEM && status != COHORT_ELIMIT) {
            run_fail(run, "%s: a stream to %s: %s", from->id, to->id, cohort_error_name(status));
        }
        free(s);
        return;
    }
    run->streamer.count++;
    if (!run->streamer.ticks) {
        tick_later(run);
    }
}

/* ---- the end ------------------------------------------------------------------------------------------------------- */

void streamer_ended(struct player *p, bool closed)
{
    for (uint64_t i = 0; i < p->run->streamer.count; i++) {
        struct sent *s = p->run->streamer.at[i];
        bool sent_it = s->from == p->index && s->process == p->process;
        bool read_it = s->to == p->index && s->read.begun && s->read.process == p->process;
        s->stream = sent_it ? NULL : s->stream; /* it went with the node */
        if (closed && sent_it && !s->over) {
            run_fail(p->run, "%s closed, and stream %" PRIu64 " has no result", p->id, s->number);
        }
        if (closed && read_it && !s->read.ended) {
            run_fail(p->run, "%s closed, and stream %" PRIu64 ", which it had begun to read, has no end", p->id, s->number);
        }
    }
}

static bool lacks_result(const struct run *run, const struct sent *s)
{
    const struct player *from = &run->players[s->from];
    return from->node != NULL && from->process == s->process && !s->over;
}

static bool lacks_end(const struct run *run, const struct sent *s)
{
    const struct player *to = &run->players[s->to];
    return to->node != NULL && s->read.begun && s->read.process == to->process && !s->read.ended;
}

/* Acknowledged by a process that lives, and yet never seen by its handler. */
static bool lacks_reader(const struct run *run, const struct sent *s)
{
    const struct player *to = &run->players[s->to];
    return s->over && s->status == COHORT_OK && !s->read.begun && to->node != NULL && to->process == 1;
}

bool streamer_settled(void *arg)
{
    struct run *run = arg;
    run->streamer.hurries = true;
    for (uint64_t i = 0; i < run->streamer.count; i++) {
        const struct sent *s = run->streamer.at[i];
        if (lacks_result(run, s) || lacks_end(run, s) || lacks_reader(run, s)) {
            return false;
        }
    }
    return true;
}

void streamer_judge(struct run *run)
{
    for (uint64_t i = 0; i < run->streamer.count; i++) {
        const struct sent *s = run->streamer.at[i];
        const char *what = lacks_result(run, s)   ? "has no result"
                           : lacks_end(run, s)    ? "was begun to be read and has no end"
                           : lacks_reader(run, s) ? "was acknowledged and never read"
                                                  : NULL;
        if (what != NULL) {
            run_fail(run, "stream %" PRIu64 " of n%u#%u to n%u %s: %" PRIu64 " of %" PRIu64 " bytes written, %" PRIu64 " read",
                     s->number, s->from, s->process, s->to, what, s->written, s->len, s->read.len);
            return;
        }
    }
}

void streamer_free(struct streamer *streamer)
{
    for (uint64_t i = 0; i < streamer->count; i++) {
        free(streamer->at[i]);
    }
    free(streamer->at);
}
