/* SPDX-License-Identifier: Apache-2.0
 *
 * core/expiry: what was not begun in time is withdrawn, exactly that, and told with its body; what is behind it arrives in order; and what
 * is remembered of deadlines is about what waits, not about all that was ever sent.
 */
#include "outbound_text.h"

#include "base/prng.h"
#include "core/stream.h"

#define NORMAL 0

static int put_until(struct rig *r, const char *subject, size_t len, int fill, uint64_t deadline_ns)
{
    uint8_t *body = malloc(len + 1);
    assert_non_null(body);
    memset(body, fill, len + 1);
    const struct cohorti_put put = {
        .kind = COHORTI_KIND_MESSAGE, .lane = NORMAL, .subject = subject, .body = body, .body_len = len, .deadline_ns = deadline_ns};
    int status = rig_put_either(r, &put);
    free(body);
    return status;
}

static void expire(struct rig *r, uint64_t now_ns)
{
    cohorti_undelivered_deinit(&r->lost);
    cohorti_outbound_expire(&r->out, now_ns, &r->lost);
}

/* The next that was withdrawn is `len` times `fill`. */
static void expect_lost(struct rig *r, const char *subject, size_t len, int fill)
{
    struct cohorti_lost lost;
    assert_true(cohorti_undelivered_next(&r->lost, &r->out, &lost));
    assert_string_equal(lost.subject, subject);
    assert_int_equal(lost.kind, COHORTI_KIND_MESSAGE);
    assert_false(lost.maybe_handled);
    assert_int_equal(lost.body_len, len);
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(lost.body[i], fill);
    }
}

static void expect_no_more_lost(struct rig *r)
{
    struct cohorti_lost lost;
    assert_false(cohorti_undelivered_next(&r->lost, &r->out, &lost));
}

static void while_no_link_writes_nothing_stays(void **state)
{
    struct rig r;
    rig_open(&r);
    assert_int_equal(put_until(&r, "a", 10, 'x', 50), COHORT_OK);
    assert_int_equal(put_until(&r, "b", 20, 'y', 70), COHORT_OK);
    assert_int_equal(rig_put(&r, NORMAL, "a", 30, 'z'), COHORT_OK);
    assert_int_equal(put_until(&r, "a", 200000, 'w', 60), COHORT_OK);
    assert_int_equal(put_until(&r, "b", 40, 'v', 90), COHORT_OK);
    assert_int_equal(cohorti_outbound_expires_ns(&r.out), 50);
    expire(&r, 49);
    expect_no_more_lost(&r);
    expire(&r, 60);
    expect_lost(&r, "a", 10, 'x');
    expect_lost(&r, "a", 200000, 'w');
    expect_no_more_lost(&r);
    assert_int_equal(cohorti_outbound_expires_ns(&r.out), 70);
    expire(&r, 70);
    expect_lost(&r, "b", 20, 'y');
    expect_no_more_lost(&r);
    assert_int_equal(cohorti_outbound_expires_ns(&r.out), 90); /* it moved with its message */
    assert_int_equal(rig_resume(&r, RIG_READER, 0, NULL), COHORT_OK);
    assert_string_equal(written(&r), "0:0=a 0:1=b MESSAGE 0:0 30 MESSAGE 0:1 40 ");
    expire(&r, 100);
    expect_no_more_lost(&r); /* it was begun */
    rig_close(&r);
}

static void while_a_link_stands_frames_become_void(void **state)
{
    struct rig r;
    open_resumed(&r);
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        r.out.lanes[i].limit = 0; /* no credit */
    }
    assert_int_equal(put_until(&r, "a", 10, 'x', 50), COHORT_OK);
    assert_int_equal(put_until(&r, "a", 70000, 'y', 50), COHORT_OK);
    assert_int_equal(put_until(&r, "a", 30, 'z', 80), COHORT_OK);
    assert_string_equal(written(&r), "");
    uint64_t appended = r.out.lanes[NORMAL].log.appended;
    expire(&r, 50);
    expect_lost(&r, "a", 10, 'x');
    expect_lost(&r, "a", 70000, 'y');
    expect_no_more_lost(&r);
    assert_int_equal(r.out.lanes[NORMAL].log.appended, appended); /* offsets are counted */
    r.out.lanes[NORMAL].limit = RIG_WINDOW;
    assert_string_equal(written(&r), "0:0=a VOID 0:0 10 VOID 0:0 65568 VOID 0:0 4464 MESSAGE 0:0 30 ");
    rig_close(&r);
}

/* What became void while a link stood goes with it, though nothing more expires: from where a frame begins that was not begun. */
static void when_a_link_has_ended_nothing_stays_void(void **state)
{
    for (size_t begun = 0; begun < 2; begun++) {
        struct rig r;
        struct cohorti_stream s;
        open_resumed(&r);
        assert_int_equal(rig_put(&r, NORMAL, "a", 1000, 'a'), COHORT_OK);
        uint64_t first = r.out.lanes[NORMAL].log.appended;
        (void)rig_write(&r, first - 10 * begun, NULL);
        assert_int_equal(cohorti_stream_open(&r.out, &s, NORMAL, "b", UINT64_MAX), COHORT_OK);
        assert_int_equal(put_until(&r, "a", 10, 'x', 50), COHORT_OK);
        assert_int_equal(put_until(&r, "a", 70000, 'y', 50), COHORT_OK);
        assert_int_equal(put_until(&r, "a", 20, 'z', 90), COHORT_OK);
        expire(&r, 60);
        expect_lost(&r, "a", 10, 'x');
        expect_lost(&r, "a", 70000, 'y');
        assert_int_equal(cohorti_outbound_expires_ns(&r.out), 90);
        cohorti_outbound_link_ended(&r.out);
        assert_int_equal(cohorti_outbound_expires_ns(&r.out), 0); /* whatever streams are open */
        expire(&r, 61);
        expect_no_more_lost(&r);
        cohorti_undelivered_deinit(&r.lost);
        rig_give_all_back(&r);
        assert_int_equal(rig_lent, 0);
        assert_int_equal(r.out.lanes[NORMAL].log.appended, first + FRAME(20));
        assert_int_equal(cohorti_outbound_expires_ns(&r.out), 90); /* its deadline moved with it */
        expire(&r, 90);
        expect_lost(&r, "a", 20, 'z');
        assert_int_equal(r.out.lanes[NORMAL].log.appended, first);
        assert_int_equal(rig_resume(&r, RIG_READER, RIG_HALF, NULL), COHORT_OK);
        assert_string_equal(written(&r), "0:0=a MESSAGE 0:0 1000 ");
        rig_close(&r);
    }
}

/* Void frames were written to it, and it has not taken them. */
static void what_a_leaver_did_not_take_does_not_stay_void(void **state)
{
    struct rig r;
    open_resumed(&r);
    assert_int_equal(put_until(&r, "a", 10, 'x', 50), COHORT_OK);
    expire(&r, 50);
    assert_string_equal(written(&r), "0:0=a VOID 0:0 10 ");
    uint64_t end = r.out.lanes[NORMAL].log.appended;
    cohorti_outbound_link_ended(&r.out);
    assert_int_equal(cohorti_outbound_expires_ns(&r.out), UINT64_MAX);
    cohorti_outbound_left(&r.out);
    assert_int_equal(cohorti_outbound_expires_ns(&r.out), 0);
    expire(&r, 60);
    assert_int_equal(r.out.lanes[NORMAL].log.appended, end - FRAME(10));
    assert_int_equal(cohorti_outbound_expires_ns(&r.out), UINT64_MAX);
    rig_close(&r);
}

static void what_is_begun_is_finished(void **state)
{
    struct rig r;
    open_resumed(&r);
    assert_int_equal(rig_put(&r, NORMAL, "a", 10, 'a'), COHORT_OK);
    (void)written(&r);
    assert_int_equal(put_until(&r, "a", 100, 'x', 50), COHORT_OK);
    assert_int_equal(put_until(&r, "a", 100, 'y', 50), COHORT_OK);
    assert_int_equal(rig_write(&r, 1, stream), 1);
    expire(&r, 60);
    expect_lost(&r, "a", 100, 'y');
    expect_no_more_lost(&r);
    assert_int_equal(rig_write(&r, STREAM_BYTES, stream + 1), 2 * FRAME(100) - 1);
    assert_string_equal(narrate(stream, 2 * FRAME(100)), "MESSAGE 0:0 100 VOID 0:0 100 ");
    rig_close(&r);
}

static void what_is_being_written_just_now_waits(void **state)
{
    struct rig r;
    struct cohorti_slice slice;
    open_resumed(&r);
    assert_int_equal(put_until(&r, "a", 100, 'x', 50), COHORT_OK);
    assert_int_equal(cohorti_outbound_gather(&r.out, &slice, 1, SIZE_MAX), 1);
    cohorti_outbound_hold(&r.out, &slice, 1);
    expire(&r, 60);
    expect_no_more_lost(&r);
    assert_true(cohorti_outbound_expires_ns(&r.out) > 60 && cohorti_outbound_expires_ns(&r.out) < UINT64_MAX);
    cohorti_outbound_advance(&r.out, &slice, 1, 0); /* the socket took nothing */
    expire(&r, cohorti_outbound_expires_ns(&r.out));
    expect_lost(&r, "a", 100, 'x');
    rig_close(&r);
}

/* A reader that left has acknowledged all it handled: what was written to it, and more, was not begun. */
static void what_a_leaver_did_not_take_keeps_its_deadline(void **state)
{
    struct rig r;
    open_resumed(&r);
    assert_int_equal(put_until(&r, "a", 10, 'w', 80), COHORT_OK);
    assert_int_equal(put_until(&r, "a", 20, 'x', 80), COHORT_OK);
    uint64_t taken = r.out.lanes[NORMAL].log.appended - FRAME(20);
    (void)written(&r);
    assert_int_equal(put_until(&r, "a", 30, 'y', 90), COHORT_OK);
    assert_int_equal(put_until(&r, "a", 5, 'v', 45), COHORT_OK);
    assert_int_equal(rig_ack(&r, NORMAL, taken), COHORT_OK);
    expire(&r, 50); /* all are looked at */
    expect_lost(&r, "a", 5, 'v');
    expect_no_more_lost(&r);
    assert_int_equal(cohorti_outbound_expires_ns(&r.out), 90);
    cohorti_outbound_left(&r.out);
    assert_int_equal(cohorti_outbound_expires_ns(&r.out), 0); /* what is void may go */
    expire(&r, 51);
    expect_no_more_lost(&r);
    assert_int_equal(cohorti_outbound_expires_ns(&r.out), 80);
    expire(&r, 85);
    expect_lost(&r, "a", 20, 'x');
    expect_no_more_lost(&r);
    assert_int_equal(cohorti_outbound_expires_ns(&r.out), 90);
    assert_int_equal(rig_resume(&r, RIG_READER + 1, 0, NULL), COHORT_OK);
    assert_string_equal(written(&r), "0:0=a MESSAGE 0:0 30 ");
    rig_close(&r);
}

static void what_goes_to_the_next_reader_keeps_its_deadline(void **state)
{
    struct rig r;
    open_resumed(&r);
    assert_int_equal(put_until(&r, "a", 10, 'w', 80), COHORT_OK);
    (void)written(&r);
    cohorti_outbound_link_ended(&r.out);
    assert_int_equal(put_until(&r, "a", 20, 'x', 90), COHORT_OK);
    assert_int_equal(put_until(&r, "a", 150000, 'y', 85), COHORT_OK);
    assert_int_equal(rig_put(&r, NORMAL, "a", 40, 'z'), COHORT_OK);
    assert_int_equal(rig_resume(&r, RIG_READER + 1, 0, NULL), COHORT_OK);
    assert_int_equal(cohorti_outbound_expires_ns(&r.out), 85);
    cohorti_outbound_link_ended(&r.out);
    expire(&r, 85);
    expect_lost(&r, "a", 150000, 'y');
    expect_no_more_lost(&r);
    assert_int_equal(cohorti_outbound_expires_ns(&r.out), 90);
    expire(&r, 90);
    expect_lost(&r, "a", 20, 'x');
    expect_no_more_lost(&r);
    assert_int_equal(rig_resume(&r, RIG_READER + 1, RIG_HALF, NULL), COHORT_OK);
    assert_string_equal(written(&r), "0:0=a MESSAGE 0:0 40 ");
    rig_close(&r);
}

/* A link may end inside a frame: what is behind moves up to its end, not into its middle. */
static void a_frame_cut_by_the_end_of_a_link_stays_whole(void **state)
{
    struct rig r;
    open_resumed(&r);
    assert_int_equal(rig_put(&r, NORMAL, "a", 1000, 'a'), COHORT_OK);
    assert_int_equal(put_until(&r, "a", 10, 'x', 50), COHORT_OK);
    assert_int_equal(rig_put(&r, NORMAL, "a", 20, 'b'), COHORT_OK);
    (void)rig_write(&r, 200, NULL);
    cohorti_outbound_link_ended(&r.out);
    expire(&r, 60);
    expect_lost(&r, "a", 10, 'x');
    assert_int_equal(rig_resume(&r, RIG_READER, RIG_HALF, NULL), COHORT_OK);
    assert_string_equal(written(&r), "0:0=a MESSAGE 0:0 1000 MESSAGE 0:0 20 ");
    rig_close(&r);
}

/* Years of messages with an hour to live each, acknowledged at once. */
static void deadlines_of_what_was_acknowledged_take_no_memory(void **state)
{
    struct rig r;
    open_resumed(&r);
    for (unsigned i = 0; i < 100000; i++) {
        assert_int_equal(put_until(&r, "a", 10, 'x', UINT64_C(3600) * 1000000000 + i), COHORT_OK);
        if (i % 10 == 9) {
            (void)rig_write(&r, STREAM_BYTES, NULL);
            assert_int_equal(rig_ack(&r, NORMAL, r.out.lanes[NORMAL].log.appended), COHORT_OK);
        }
    }
    assert_true(r.out.lanes[NORMAL].expiry_cap <= 64);
    assert_true(r.memory.bytes < 20000);
    rig_close(&r);
}

static void without_memory_nothing_is_withdrawn_and_nothing_lost(void **state)
{
    for (size_t fail = 1; fail < 12; fail++) {
        struct rig r;
        rig_open(&r);
        unsigned accepted = 0, told = 0;
        r.memory.fail_at = fail;
        for (unsigned i = 0; i < 20; i++) {
            accepted += put_until(&r, "a", 5000, 'x', 50) == COHORT_OK;
        }
        assert_true(accepted >= 19);
        for (uint64_t now = 50; cohorti_outbound_expires_ns(&r.out) != UINT64_MAX; now += 100000000) {
            r.memory.fail_at = now == 50 ? r.memory.calls + fail : 0;
            expire(&r, now);
            struct cohorti_lost lost;
            while (cohorti_undelivered_next(&r.lost, &r.out, &lost)) {
                assert_int_equal(lost.body_len, 5000);
                told++;
            }
        }
        assert_int_equal(told, accepted);
        rig_close(&r);
    }
}

/* ---- against a list -------------------------------------------------------------------------------------------------- */

#define STEPS 400
#define NAME UINT32_MAX

/* What lies in the lane, in order. */
struct item {
    uint32_t number; /* of a message, or NAME */
    uint64_t bytes;
    uint64_t deadline_ns; /* 0: none */
    bool withdrawn;
};

struct model {
    struct rig rig;
    struct cohorti_prng prng;
    uint64_t now_ns;
    struct item items[STEPS + 1];
    unsigned count;
    bool withdrawn[STEPS];
    uint32_t accepted;
    uint8_t *read; /* what the reader got, over all links */
    uint64_t read_len, acked, begun;
};

static uint64_t below(struct model *m, uint64_t bound)
{
    return cohorti_prng_below(&m->prng, bound);
}

static const struct cohorti_outbound_lane *lane_of(const struct model *m)
{
    return &m->rig.out.lanes[NORMAL];
}

static void model_put(struct model *m)
{
    size_t len = sizeof m->accepted + below(m, below(m, 10) == 0 ? 150000 : 300);
    uint8_t *body = calloc(1, len);
    assert_non_null(body);
    memcpy(body, &m->accepted, sizeof m->accepted);
    struct cohorti_put put = {.kind = COHORTI_KIND_MESSAGE, .lane = NORMAL, .subject = "a", .body = body, .body_len = len};
    put.deadline_ns = below(m, 3) == 0 ? 0 : m->now_ns + 1 + below(m, 30);
    uint64_t before = lane_of(m)->log.appended;
    uint32_t names = lane_of(m)->subject_count;
    int status = rig_put_either(&m->rig, &put);
    free(body);
    if (status != COHORT_OK) {
        assert_int_equal(status, COHORT_EAGAIN);
        return;
    }
    if (names != lane_of(m)->subject_count) {
        size_t chunks = (len + COHORTI_CHUNK_BYTES_MAX - 1) / COHORTI_CHUNK_BYTES_MAX;
        uint64_t message = FRAME(0) * chunks + len + (chunks > 1 ? chunks * COHORTI_CHUNK_PREFIX_BYTES : 0);
        uint64_t name = lane_of(m)->log.appended - before - message;
        m->items[m->count++] = (struct item){.number = NAME, .bytes = name};
        before += name;
    }
    m->items[m->count++] =
        (struct item){.number = m->accepted++, .bytes = lane_of(m)->log.appended - before, .deadline_ns = put.deadline_ns};
}

/* Of one that was withdrawn and is void: the frames that were begun. */
static uint64_t begun_of(const struct item *item, uint64_t begun)
{
    uint64_t frame = FRAME(cohorti_lane_chunk_bytes(NORMAL) + COHORTI_CHUNK_PREFIX_BYTES);
    uint64_t frames = (begun + frame - 1) / frame * frame;
    return frames < item->bytes ? frames : item->bytes;
}

/* Those that were withdrawn stay where they are while a link stands; then all of their frames go that were not begun. */
static void model_compact(struct model *m, uint64_t before)
{
    uint64_t at = 0, gone = 0;
    unsigned kept = 0;
    if (m->rig.out.resumed) {
        assert_int_equal(lane_of(m)->log.appended, before);
        return;
    }
    for (unsigned i = 0; i < m->count; i++) {
        struct item item = m->items[i];
        uint64_t bytes = item.bytes;
        item.bytes = item.withdrawn ? begun_of(&item, m->begun > at ? m->begun - at : 0) : bytes;
        at += bytes;
        gone += bytes - item.bytes;
        m->items[kept] = item;
        kept += item.bytes > 0;
    }
    m->count = kept;
    assert_int_equal(before - gone, lane_of(m)->log.appended);
}

/* All that is due and was not begun, and nothing else, in order. */
static void model_expire(struct model *m)
{
    struct cohorti_lost lost;
    uint64_t at = 0, before = lane_of(m)->log.appended;
    expire(&m->rig, m->now_ns);
    for (unsigned i = 0; i < m->count; at += m->items[i++].bytes) {
        struct item *item = &m->items[i];
        uint32_t number = 0;
        if (at >= m->begun && item->deadline_ns != 0 && item->deadline_ns <= m->now_ns && !item->withdrawn) {
            assert_true(cohorti_undelivered_next(&m->rig.lost, &m->rig.out, &lost));
            memcpy(&number, lost.body, sizeof number);
            assert_int_equal(number, item->number);
            assert_false(lost.maybe_handled);
            item->withdrawn = m->withdrawn[number] = true;
        }
    }
    expect_no_more_lost(&m->rig);
    model_compact(m, before);
}

static void model_write(struct model *m)
{
    size_t len = below(m, 3) == 0 ? below(m, 200000) : below(m, 600);
    uint8_t *grown = realloc(m->read, m->read_len + len + 1);
    assert_non_null(grown);
    m->read = grown;
    m->read_len += rig_write(&m->rig, len, m->read + m->read_len);
    m->begun = m->read_len > m->begun ? m->read_len : m->begun;
}

/* What was under way is lost with the link. */
static void model_break(struct model *m)
{
    if (m->rig.out.resumed) {
        m->read_len -= below(m, 2) == 0 ? 0 : below(m, m->read_len - m->acked + 1);
        cohorti_outbound_link_ended(&m->rig.out);
    }
}

static void model_resume(struct model *m)
{
    uint64_t received[COHORTI_LANE_COUNT] = {m->read_len};
    if (!m->rig.out.resumed) {
        assert_int_equal(rig_resume(&m->rig, RIG_READER, m->rig.out.reader == 0 ? 0 : RIG_HALF, received), COHORT_OK);
        m->acked = m->read_len;
    }
}

static void model_step(struct model *m)
{
    switch (below(m, 8)) {
    case 0:
    case 1:
        model_put(m);
        break;
    case 2:
    case 3:
        model_write(m);
        break;
    case 4:
        model_break(m);
        break;
    case 5:
        model_resume(m);
        break;
    case 6:
        m->now_ns += below(m, 10);
        model_expire(m);
        break;
    default:
        if (m->rig.out.resumed) {
            assert_int_equal(rig_ack(&m->rig, NORMAL, m->read_len), COHORT_OK);
            m->acked = m->read_len;
        }
        break;
    }
}

/* Each message is in the stream, once and in order, or was withdrawn. */
static void check_read(const struct model *m)
{
    uint32_t next = 0;
    for (const uint8_t *at = m->read, *end = at + m->read_len; at < end;) {
        cohort_frame frame;
        struct cohorti_chunk chunk;
        uint32_t number = 0;
        at = rig_frame(at, (size_t)(end - at), &frame);
        bool named = cohorti_type_class(frame.type) == COHORTI_TYPE_SUBJECT;
        enum cohorti_kind kind = named ? (enum cohorti_kind)cohorti_type_kind(frame.type) : COHORTI_KIND_VOID;
        if (kind == COHORTI_KIND_CHUNK_FIRST) {
            assert_int_equal(cohorti_chunk_decode(&frame, &chunk), COHORT_OK);
            memcpy(&number, chunk.data, sizeof number);
        } else if (kind == COHORTI_KIND_MESSAGE) {
            memcpy(&number, frame.data, sizeof number);
        } else {
            continue;
        }
        while (next < number) {
            assert_true(m->withdrawn[next++]);
        }
        assert_int_equal(next, number);
        assert_false(m->withdrawn[next++]);
    }
    while (next < m->accepted) {
        assert_true(m->withdrawn[next++]);
    }
}

static void model_run(uint64_t seed)
{
    static struct model m;
    memset(&m, 0, sizeof m);
    cohorti_prng_init(&m.prng, seed);
    rig_open(&m.rig);
    for (unsigned i = 0; i < STEPS; i++) {
        model_step(&m);
    }
    model_break(&m);
    model_resume(&m);
    while (cohorti_outbound_waiting(&m.rig.out) > 0) {
        model_write(&m);
    }
    if (m.read != NULL) {
        check_read(&m);
    }
    free(m.read);
    rig_close(&m.rig);
}

static void at_random_as_a_list_has_it(void **state)
{
    for (uint64_t seed = 1; seed <= 500; seed++) {
        model_run(seed);
    }
}

static void a_deadline_is_not_lost_for_want_of_memory(void **state)
{
    bool failed = true;
    for (size_t n = 1; failed; n++) {
        struct rig r;
        struct cohorti_lost lost;
        rig_open(&r);
        assert_int_equal(put_until(&r, "a", 10, 'x', 50), COHORT_OK);
        r.out.reader = RIG_READER; /* one that has taken nothing */
        r.memory.fail_at = r.memory.calls + n;
        assert_int_equal(rig_resume(&r, RIG_READER + 1, 0, NULL), COHORT_OK);
        failed = r.memory.calls >= r.memory.fail_at;
        r.memory.fail_at = 0;
        bool told = cohorti_undelivered_next(&r.lost, &r.out, &lost);
        assert_true(told || cohorti_outbound_expires_ns(&r.out) == 50);
        rig_close(&r);
    }
}

/* One is due at a time, and looking through all of them takes as long as until the next is. */
static void a_long_lane_is_not_looked_through_all_the_time(void **state)
{
    enum {
        COUNT = 5000
    };
    struct rig r;
    rig_open(&r);
    for (uint64_t i = 0; i < COUNT; i++) {
        assert_int_equal(put_until(&r, "a", 10, 'x', 1000 + i), COHORT_OK);
    }
    expire(&r, 1000);
    expect_lost(&r, "a", 10, 'x');
    expect_no_more_lost(&r);
    uint64_t next_ns = cohorti_outbound_expires_ns(&r.out);
    assert_in_range(next_ns, 1000 + 100 * COUNT, 1000 + 500 * COUNT);
    expire(&r, next_ns - 1);
    expect_no_more_lost(&r);
    expire(&r, next_ns);
    for (unsigned i = 1; i < COUNT; i++) {
        expect_lost(&r, "a", 10, 'x');
    }
    expect_no_more_lost(&r);
    assert_int_equal(cohorti_outbound_len(&r.out), FRAME(5)); /* the name */
    assert_int_equal(cohorti_outbound_expires_ns(&r.out), UINT64_MAX);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(while_no_link_writes_nothing_stays),
        cmocka_unit_test(while_a_link_stands_frames_become_void),
        cmocka_unit_test(when_a_link_has_ended_nothing_stays_void),
        cmocka_unit_test(what_a_leaver_did_not_take_does_not_stay_void),
        cmocka_unit_test(what_is_begun_is_finished),
        cmocka_unit_test(what_is_being_written_just_now_waits),
        cmocka_unit_test(what_a_leaver_did_not_take_keeps_its_deadline),
        cmocka_unit_test(what_goes_to_the_next_reader_keeps_its_deadline),
        cmocka_unit_test(a_frame_cut_by_the_end_of_a_link_stays_whole),
        cmocka_unit_test(deadlines_of_what_was_acknowledged_take_no_memory),
        cmocka_unit_test(without_memory_nothing_is_withdrawn_and_nothing_lost),
        cmocka_unit_test(at_random_as_a_list_has_it),
        cmocka_unit_test(a_deadline_is_not_lost_for_want_of_memory),
        cmocka_unit_test(a_long_lane_is_not_looked_through_all_the_time),
    };
    return RIG_RUN_TWICE(tests);
}
