/* SPDX-License-Identifier: Apache-2.0
 *
 * node/stream and node/incoming: pieces arrive in order wherever the handler runs, and each stream begins and ends once at both ends, however
 * it ends; a reader that does not read stops its sender with bounded memory; connections break under it.
 */
#include "reading.h"

#include "node/node.h"

#define MIB ((uint64_t)1024 * 1024)

/* All of it, with dispatching and waiting as needed. */
static void send_all(struct rig_node *n, cohort_queue *queue, const char *subject, uint64_t len, uint64_t total, struct outcome *o)
{
    cohort_stream *stream = open_to(n, subject, total, o);
    uint64_t at = 0;
    while (at < len) {
        uint64_t wrote = write_some(stream, at, len);
        at += wrote;
        if (wrote == 0) {
            (void)(queue != NULL && cohort_queue_dispatch(queue, 1) > 0);
            sched_yield();
        }
    }
    assert_int_equal(cohort_stream_finish(stream), COHORT_OK);
}

static void dispatch_until_over(cohort_queue *queue, struct outcome *o, struct reading *r, unsigned ended)
{
    WAIT_FOR(((void)(queue != NULL && cohort_queue_dispatch(queue, SIZE_MAX) > 0),
              atomic_load(&o->calls) > 0 && atomic_load(&r->ended) >= ended));
}

static void expect_read(struct reading *r, unsigned which, uint64_t len, int status)
{
    assert_int_equal(atomic_load(&r->wrong), 0);
    assert_true(atomic_load(&r->streams[which].ended));
    assert_int_equal(r->streams[which].status, status);
    assert_true(r->streams[which].len == len);
}

/* ---- arriving ------------------------------------------------------------------------------------------------------ */

/* On the loop, in a queue of ours, in a pool; of a known total and of one that is not. */
static void pieces_arrive_in_order(void **state)
{
    static const uint64_t sizes[] = {0, 1, 65551, 65552, 65553, 3000000};
    for (unsigned where = 0; where < 3; where++) {
        static struct rig_node n[2];
        static struct reading r;
        memset(&r, 0, sizeof r);
        cohort_limits limits = small_limits();
        limits.peer_queue_bytes_max = 256 * 1024;
        limits.window_bytes = 256 * 1024;
        run_limited(n, &limits);
        cohort_queue *queue = where == 0 ? NULL : new_queue(&n[1], where == 1 ? 0 : 2);
        read_in(&n[1], queue, "s", &r);
        unsigned count = 0;
        for (size_t i = 0; i < UNIT_COUNT(sizes); i++) {
            for (unsigned known = 0; known < 2; known++) {
                struct outcome o;
                send_all(&n[0], where == 1 ? queue : NULL, "s", sizes[i], known ? sizes[i] : COHORT_TOTAL_UNKNOWN, &o);
                dispatch_until_over(where == 1 ? queue : NULL, &o, &r, count + 1);
                expect_outcome(&o, COHORT_OK);
                assert_true(o.bytes == sizes[i]);
                expect_read(&r, count, sizes[i], COHORT_OK);
                count++;
                assert_int_equal(atomic_load(&r.begun), count);
                assert_int_equal(atomic_load(&r.ended), count);
            }
        }
        assert_int_equal(atomic_load(&r.released), 0);
        rig_close_pair(n);
        assert_int_equal(atomic_load(&r.released), 1);
        assert_int_equal(atomic_load(&r.ended), count);
    }
}

/* A message is a stream to who takes streams: of one piece, or of several when it is large. */
static void messages_come_as_pieces(void **state)
{
    static struct rig_node n[2];
    static struct reading here, queued;
    static uint8_t body[200000];
    cohort_limits limits = default_limits();
    memset(&here, 0, sizeof here);
    memset(&queued, 0, sizeof queued);
    run_limited(n, &limits);
    cohort_queue *queue = new_queue(&n[1], 1);
    read_in(&n[1], NULL, "s", &here);
    read_in(&n[1], queue, "s", &queued);
    fill_bytes(body, 0, sizeof body);
    static const size_t sizes[] = {0, 5, 65552, 65553, sizeof body};
    for (unsigned i = 0; i < UNIT_COUNT(sizes); i++) {
        assert_int_equal(cohort_send(n[0].node, address(1), "s", body, sizes[i]), COHORT_OK);
        WAIT_FOR(atomic_load(&here.ended) == i + 1 && atomic_load(&queued.ended) == i + 1);
        expect_read(&here, i, sizes[i], COHORT_OK);
        expect_read(&queued, i, sizes[i], COHORT_OK);
    }
    struct asked a = {0};
    ask(&n[0], 1, "s", "?", 20000, &a); /* requests are not for them */
    expect_result(&a, COHORT_ENOHANDLER);
    rig_close_pair(n);
}

/* What handlers of messages got. */
struct got {
    _Atomic unsigned count, wrong;
    _Atomic size_t len;
};

static void take_whole(cohort_node *node, const cohort_message *message, void *arg)
{
    struct got *g = arg;
    atomic_fetch_add(&g->wrong, !are_bytes(message->data, 0, message->data_len));
    atomic_store(&g->len, message->data_len);
    atomic_fetch_add(&g->count, 1);
}

/* A stream is one message to who takes messages; both kinds stand side by side, on the loop and in queues. */
static void streams_come_as_messages(void **state)
{
    static struct rig_node n[2];
    static struct reading r;
    struct got here = {0}, queued = {0};
    struct outcome o;
    cohort_limits limits = default_limits();
    memset(&r, 0, sizeof r);
    run_limited(n, &limits);
    cohort_queue *queue = new_queue(&n[1], 1);
    handle_in(&n[1], NULL, "s", take_whole, &here, NULL);
    handle_in(&n[1], queue, "s", take_whole, &queued, NULL);
    read_in(&n[1], queue, "s", &r);
    handle_in(&n[1], NULL, "only", take_whole, &here, NULL);
    static const uint64_t sizes[] = {0, 10, 300000};
    for (unsigned i = 0; i < UNIT_COUNT(sizes); i++) {
        for (unsigned known = 0; known < 2; known++) {
            unsigned seen = 2 * i + known;
            send_all(&n[0], NULL, "s", sizes[i], known ? sizes[i] : COHORT_TOTAL_UNKNOWN, &o);
            expect_outcome(&o, COHORT_OK);
            WAIT_FOR(atomic_load(&here.count) == 2 * seen + 1 && atomic_load(&queued.count) == seen + 1 &&
                     atomic_load(&r.ended) == seen + 1);
            assert_true(atomic_load(&here.len) == sizes[i] && atomic_load(&queued.len) == sizes[i]);
            expect_read(&r, seen, sizes[i], COHORT_OK);
            send_all(&n[0], NULL, "only", sizes[i], known ? sizes[i] : COHORT_TOTAL_UNKNOWN, &o);
            expect_outcome(&o, COHORT_OK);
            WAIT_FOR(atomic_load(&here.count) == 2 * seen + 2);
        }
    }
    assert_int_equal(atomic_load(&here.wrong) + atomic_load(&queued.wrong), 0);
    rig_close_pair(n);
}

/* Larger than a message may be: dropped for who takes messages, and the link stands; whole for who takes streams. */
static void larger_than_a_message(void **state)
{
    for (unsigned known = 0; known < 2; known++) {
        static struct rig_node n[2];
        static struct reading r;
        struct got g = {0};
        struct outcome o;
        cohort_limits limits = small_limits();
        memset(&r, 0, sizeof r);
        run_limited(n, &limits);
        handle_in(&n[1], NULL, "m", take_whole, &g, NULL);
        handle_in(&n[1], NULL, "both", take_whole, &g, NULL);
        read_in(&n[1], NULL, "both", &r);
        send_all(&n[0], NULL, "m", 100000, known ? 100000 : COHORT_TOTAL_UNKNOWN, &o);
        expect_outcome(&o, COHORT_OK);
        send_all(&n[0], NULL, "both", 100000, known ? 100000 : COHORT_TOTAL_UNKNOWN, &o);
        expect_outcome(&o, COHORT_OK);
        WAIT_FOR(atomic_load(&r.ended) == 1);
        expect_read(&r, 0, 100000, COHORT_OK);
        assert_int_equal(atomic_load(&g.count), 0);
        assert_true(totals(&n[1]).messages_dropped == 2 && totals(&n[1]).links_opened == 1);
        send_all(&n[0], NULL, "nobody", 100000, 100000, &o);
        expect_outcome(&o, COHORT_OK);
        assert_true(totals(&n[1]).messages_unhandled == 1);
        rig_close_pair(n);
    }
}

/* From us to us, the same way. */
static void to_ourselves(void **state)
{
    static struct rig_node n;
    static struct reading r;
    cohort_stream *stream = NULL;
    rig_begin(&n);
    cohort_config config = rig_config(&n, 0);
    config.deliver_local = true;
    memset(&r, 0, sizeof r);
    rig_open(&n, &config);
    read_in(&n, new_queue(&n, 1), "s", &r);
    rig_start(&n);
    assert_int_equal(cohort_stream_open(n.node, address(0), "s", 500000, NULL, NULL, &stream), COHORT_OK);
    assert_true(write_some(stream, 0, 500000) == 500000);
    assert_int_equal(cohort_stream_finish(stream), COHORT_OK);
    WAIT_FOR(atomic_load(&r.ended) == 1);
    expect_read(&r, 0, 500000, COHORT_OK);
    assert_int_equal(cohort_stream_open(n.node, address(0), "s", 500000, NULL, NULL, &stream), COHORT_OK);
    assert_true(write_some(stream, 0, 100000) == 100000);
    WAIT_FOR(atomic_load(&r.bytes) == 600000);
    assert_int_equal(rig_close(&n), COHORT_OK);
    assert_int_equal(atomic_load(&r.ended), 2);
    expect_read(&r, 1, 100000, COHORT_ECANCELLED);
}

/* ---- back-pressure ------------------------------------------------------------------------------------------------- */

static void count_writable(cohort_node *node, const char *id, cohort_lane lane, void *arg)
{
    atomic_fetch_add((_Atomic unsigned *)arg, lane == COHORT_LANE_BULK && strcmp(id, address(1)) == 0 ? 1 : 1000);
}

/* Nothing is read: the sender is stopped, with a lane and a window under way. Other lanes go on. Then it is read, and all of it comes. */
static void a_reader_that_does_not_read_stops_its_sender(void **state)
{
    static struct rig_node n[2];
    static struct reading r;
    struct outcome o;
    _Atomic unsigned writable = 0;
    cohort_handle_id ignored;
    cohort_limits limits = small_limits();
    memset(&r, 0, sizeof r);
    run_limited(n, &limits);
    set_options(&n[0], "s", COHORT_LANE_BULK, COHORT_FULL_FAIL, 0);
    cohort_queue *queue = new_queue(&n[1], 0);
    read_in(&n[1], queue, "s", &r);
    assert_int_equal(cohort_on_writable(n[0].node, count_writable, &writable, NULL, &ignored), COHORT_OK);
    cohort_stream *stream = open_to(&n[0], "s", 10 * MIB, &o);
    uint64_t at = 0;
    for (uint64_t since = clock_ms(); clock_ms() - since < QUIET_MS;) {
        uint64_t wrote = write_some(stream, at, 10 * MIB);
        since = wrote > 0 ? clock_ms() : since;
        at += wrote;
        sched_yield();
    }
    assert_true(at > SMALL_LANE && at <= SMALL_LANE + SMALL_LANE + RUN_BYTES);
    assert_true(unacknowledged(&n[0], 1) <= SMALL_LANE);
    round_trip(&n[0], 1);
    while (at < 10 * MIB) { /* an event for each refusal, and no more */
        unsigned before = atomic_load(&writable);
        uint64_t wrote = write_some(stream, at, 10 * MIB);
        at += wrote;
        if (at < 10 * MIB) {
            WAIT_FOR((cohort_queue_dispatch(queue, 1), atomic_load(&writable) > before));
            assert_int_equal(atomic_load(&writable), before + 1);
        }
    }
    assert_int_equal(cohort_stream_finish(stream), COHORT_OK);
    dispatch_until_over(queue, &o, &r, 1);
    expect_outcome(&o, COHORT_OK);
    expect_read(&r, 0, 10 * MIB, COHORT_OK);
    rig_close_pair(n);
}

static void a_write_that_blocks(void **state)
{
    static struct rig_node n[2];
    static struct reading r;
    struct outcome o;
    static uint8_t body[MIB];
    size_t taken = 0;
    cohort_limits limits = small_limits();
    memset(&r, 0, sizeof r);
    run_limited(n, &limits);
    set_options(&n[0], "s", COHORT_LANE_NORMAL, COHORT_FULL_BLOCK, 50);
    set_options(&n[0], "patient", COHORT_LANE_NORMAL, COHORT_FULL_BLOCK, BOUND_MS);
    cohort_queue *stuck = new_queue(&n[1], 0), *pool = new_queue(&n[1], 1);
    read_in(&n[1], stuck, "s", &r);
    fill_bytes(body, 0, sizeof body);
    cohort_stream *stream = open_to(&n[0], "s", sizeof body, &o);
    assert_int_equal(cohort_stream_write(stream, body, sizeof body, &taken), COHORT_ETIMEDOUT);
    assert_true(taken > 0 && taken < sizeof body);
    cohort_stream_abort(stream);
    expect_outcome(&o, COHORT_ECANCELLED);
    WAIT_FOR((cohort_queue_dispatch(stuck, SIZE_MAX), atomic_load(&r.ended) == 1));
    expect_read(&r, 0, taken, COHORT_ECANCELLED);
    read_in(&n[1], pool, "patient", &r);
    stream = open_to(&n[0], "patient", sizeof body, &o);
    assert_int_equal(cohort_stream_write(stream, body, sizeof body, &taken), COHORT_OK);
    assert_int_equal(cohort_stream_finish(stream), COHORT_OK);
    expect_outcome(&o, COHORT_OK);
    rig_close_pair(n);
    assert_int_equal(atomic_load(&r.ended), 2);
}

/* ---- connections break ---------------------------------------------------------------------------------------------- */

static void connections_break_under_a_stream(void **state)
{
    static struct rig_node n[2];
    static struct reading r;
    struct outcome o;
    cohort_limits limits = default_limits();
    const uint64_t len = 64 * MIB;
    memset(&r, 0, sizeof r);
    limits.peer_queue_bytes_max = 2 * 1024 * 1024;
    run_limited(n, &limits);
    read_in(&n[1], new_queue(&n[1], 1), "s", &r);
    cohort_stream *stream = open_to(&n[0], "s", len, &o);
    uint64_t at = 0, next_break = MIB;
    unsigned broken = 0;
    while (at < len) {
        at += write_some(stream, at, at + 256 * 1024 < len ? at + 256 * 1024 : len);
        if (atomic_load(&r.bytes) >= next_break && broken < 12) {
            broken += break_links() > 0;
            next_break = atomic_load(&r.bytes) + 4 * MIB;
        }
        sched_yield();
    }
    assert_int_equal(cohort_stream_finish(stream), COHORT_OK);
    expect_outcome(&o, COHORT_OK);
    WAIT_FOR(atomic_load(&r.ended) == 1);
    expect_read(&r, 0, len, COHORT_OK);
    assert_true(broken >= 3 && atomic_load(&r.begun) == 1 && o.bytes == len);
    WAIT_FOR(both_are_active(n));
    rig_close_pair(n);
}

/* ---- early ends ---------------------------------------------------------------------------------------------------- */

/* A stream of which the reader has seen a part; `queued`: in a pool. */
static cohort_stream *half_read(struct rig_node *n, struct reading *r, bool queued, struct outcome *o)
{
    cohort_limits limits = default_limits();
    memset(r, 0, sizeof *r);
    run_limited(n, &limits);
    read_in(&n[1], queued ? new_queue(&n[1], 1) : NULL, "s", r);
    cohort_stream *stream = open_to(n, "s", MIB, o);
    assert_true(write_some(stream, 0, 200000) == 200000);
    WAIT_FOR(atomic_load(&r->bytes) == 200000);
    return stream;
}

static void aborted(void **state)
{
    for (unsigned queued = 0; queued < 2; queued++) {
        static struct rig_node n[2];
        static struct reading r;
        struct outcome o, other;
        cohort_stream *stream = half_read(n, &r, queued == 1, &o);
        cohort_stream_abort(stream);
        assert_int_equal(atomic_load(&o.calls), 1); /* before it returns */
        expect_outcome(&o, COHORT_ECANCELLED);
        WAIT_FOR(atomic_load(&r.ended) == 1);
        expect_read(&r, 0, 200000, COHORT_ECANCELLED);
        cohort_stream_abort(open_to(&n[0], "s", 5, &other)); /* nothing of it was sent */
        expect_outcome(&other, COHORT_ECANCELLED);
        send_all(&n[0], NULL, "s", 10, 10, &other);
        expect_outcome(&other, COHORT_OK);
        WAIT_FOR(atomic_load(&r.ended) == 2);
        rig_close_pair(n);
        assert_int_equal(atomic_load(&r.begun), 2);
    }
}

static bool keeps_blocks(struct rig_node *n, unsigned to)
{
    struct peer *peer = cohorti_peer_find(n->node, address(to));
    cohorti_mutex_lock(&peer->lock);
    bool keeps = cohorti_outbound_keeps(&peer->outbound);
    cohorti_mutex_unlock(&peer->lock);
    cohorti_peer_unref(peer);
    return keeps;
}

/* Nothing is outstanding, and no block is left in which to say it: it is said when there is memory, though nothing else happens. */
static void aborted_without_memory(void **state)
{
    static struct rig_node n[2];
    static struct reading r;
    struct outcome o;
    cohort_stream *stream = half_read(n, &r, false, &o);
    WAIT_FOR(unacknowledged(&n[0], 1) == 0 && !keeps_blocks(&n[0], 1));
    atomic_store(&n[0].memory.fail_all, true);
    cohort_stream_abort(stream);
    expect_outcome(&o, COHORT_ECANCELLED);
    uint64_t begin = clock_ms();
    WAIT_FOR(clock_ms() - begin > QUIET_MS);
    assert_int_equal(atomic_load(&r.ended), 0);
    atomic_store(&n[0].memory.fail_all, false);
    WAIT_FOR(atomic_load(&r.ended) == 1);
    expect_read(&r, 0, 200000, COHORT_ECANCELLED);
    rig_close_pair(n);
}

static void the_sender_closes(void **state)
{
    for (unsigned queued = 0; queued < 2; queued++) {
        static struct rig_node n[2];
        static struct reading r;
        struct outcome o;
        cohort_stream *stream = half_read(n, &r, queued == 1, &o);
        (void)stream; /* forgotten: close frees it */
        assert_int_equal(rig_close(&n[0]), COHORT_OK);
        expect_outcome(&o, COHORT_ECLOSED);
        WAIT_FOR(atomic_load(&r.ended) == 1);
        expect_read(&r, 0, 200000, COHORT_ECANCELLED);
        assert_int_equal(rig_close(&n[1]), COHORT_OK);
        assert_int_equal(atomic_load(&r.ended), 1);
    }
}

static void the_reader_closes(void **state)
{
    for (unsigned queued = 0; queued < 2; queued++) {
        static struct rig_node n[2];
        static struct reading r;
        struct outcome o;
        size_t taken = 0;
        cohort_stream *stream = half_read(n, &r, queued == 1, &o);
        assert_int_equal(rig_close(&n[1]), COHORT_OK);
        assert_int_equal(atomic_load(&r.ended), 1);
        expect_read(&r, 0, 200000, COHORT_ECLOSED);
        expect_outcome(&o, COHORT_ELEFT);
        assert_int_equal(cohort_stream_write(stream, "x", 1, &taken), COHORT_ELEFT);
        assert_int_equal(cohort_stream_finish(stream), COHORT_ELEFT);
        assert_int_equal(rig_close(&n[0]), COHORT_OK);
        assert_int_equal(atomic_load(&o.calls), 1);
    }
}

static void another_process_reads(void **state)
{
    static struct rig_node n[2];
    static struct reading r, next;
    struct outcome o, later;
    cohort_stream *stream = half_read(n, &r, true, &o);
    assert_int_equal(rig_close(&n[1]), COHORT_OK);
    expect_outcome(&o, COHORT_ELEFT);
    cohort_stream_abort(stream);
    WAIT_FOR(cohort_node_state(n[0].node, address(1)) != COHORT_ACTIVE);
    stream = open_to(&n[0], "s", 300000, &later); /* for whoever comes */
    assert_true(write_some(stream, 0, 100000) == 100000);
    memset(&next, 0, sizeof next);
    cohort_limits limits = default_limits();
    run_without_handlers(&n[1], 1, &limits);
    read_in(&n[1], NULL, "s", &next);
    assert_true(write_some(stream, 100000, 300000) == 200000);
    assert_int_equal(cohort_stream_finish(stream), COHORT_OK);
    expect_outcome(&later, COHORT_OK);
    expect_read(&next, 0, 300000, COHORT_OK);
    rig_close_pair(n);
    assert_int_equal(atomic_load(&o.calls), 1);
}

static void a_member_is_removed(void **state)
{
    for (unsigned who = 0; who < 2; who++) {
        static struct rig_node n[2];
        static struct reading r;
        struct outcome o;
        size_t taken = 0;
        cohort_stream *stream = half_read(n, &r, who == 1, &o);
        assert_int_equal(cohort_node_remove(n[who].node, address(1 - who)), COHORT_OK);
        if (who == 0) {
            expect_outcome(&o, COHORT_EREMOVED);
            assert_int_equal(cohort_stream_write(stream, "x", 1, &taken), COHORT_EREMOVED);
        } else {
            WAIT_FOR(atomic_load(&r.ended) == 1);
            expect_read(&r, 0, 200000, COHORT_EREMOVED);
        }
        cohort_stream_abort(stream);
        close_whatever(n);
        assert_int_equal(atomic_load(&o.calls), 1);
        assert_int_equal(atomic_load(&r.ended), 1);
        assert_int_equal(atomic_load(&r.wrong), 0);
    }
}

static void remove_at_the_end(cohort_node *node, const cohort_piece *piece, void *arg)
{
    read_piece(node, piece, arg);
    if (piece->end) {
        assert_int_equal(cohort_node_remove(node, piece->from), COHORT_OK);
    }
}

/* The session ends because the member is slow, and who is told of it removes that member: on the loop that ends it, or on another. */
static void a_slow_member_is_removed_by_who_is_told(void **state)
{
    for (uint32_t loop_count = 0; loop_count < 2; loop_count++) {
        static struct rig_node n[2];
        static struct reading r;
        struct sink s = {0};
        struct outcome o;
        cohort_handle_id id;
        cohort_limits limits = small_limits();
        memset(&r, 0, sizeof r);
        rig_begin(&n[1]);
        cohort_config config = rig_config(&n[1], 1);
        config.limits = limits;
        config.loop_count = loop_count;
        rig_open(&n[1], &config);
        assert_int_equal(cohort_handle_stream(n[1].node, NULL, "in", remove_at_the_end, &r, NULL, &id), COHORT_OK);
        set_options(&n[1], "out", COHORT_LANE_NORMAL, COHORT_FULL_DISCONNECT, 0);
        rig_start(&n[1]);
        run_without_handlers(&n[0], 0, &limits);
        handle_in(&n[0], new_queue(&n[0], 0), "out", take_in_order, &s, NULL);
        meet(&n[0], &n[1], 1);
        cohort_stream *stream = open_to(n, "in", MIB, &o);
        assert_true(write_some(stream, 0, 20000) == 20000);
        WAIT_FOR(atomic_load(&r.bytes) == 20000);
        (void)fill(&n[1], 0, "out", 0, 4000);
        WAIT_FOR(atomic_load(&r.ended) == 1 && atomic_load(&n[1].removed) == 1);
        expect_read(&r, 0, 20000, COHORT_ESLOW);
        cohort_stream_abort(stream);
        close_whatever(n);
        assert_int_equal(atomic_load(&r.wrong), 0);
    }
}

/* No call follows, not even of the end; release says so. The sender does not notice. */
static void a_handler_is_taken_back(void **state)
{
    for (unsigned queued = 0; queued < 2; queued++) {
        static struct rig_node n[2];
        static struct reading r;
        struct outcome o;
        cohort_limits limits = default_limits();
        memset(&r, 0, sizeof r);
        run_limited(n, &limits);
        cohort_handle_id id = read_in(&n[1], queued == 1 ? new_queue(&n[1], 1) : NULL, "s", &r);
        cohort_stream *stream = open_to(n, "s", MIB, &o);
        assert_true(write_some(stream, 0, 200000) == 200000);
        WAIT_FOR(atomic_load(&r.bytes) == 200000);
        assert_int_equal(cohort_unhandle(n[1].node, id), COHORT_OK);
        assert_true(write_some(stream, 200000, MIB) == MIB - 200000);
        assert_int_equal(cohort_stream_finish(stream), COHORT_OK);
        expect_outcome(&o, COHORT_OK);
        WAIT_FOR(atomic_load(&r.released) == 1);
        assert_true(atomic_load(&r.bytes) == 200000 && atomic_load(&r.ended) == 0);
        rig_close_pair(n);
    }
}

/* ---- limits and arguments ------------------------------------------------------------------------------------------- */

static void what_is_refused(void **state)
{
    static struct rig_node n[2];
    struct outcome o[17];
    cohort_stream *streams[16], *one = NULL;
    cohort_handle_id id;
    size_t taken = 9;
    cohort_limits limits = default_limits();
    run_limited(n, &limits);
    assert_int_equal(cohort_stream_open(n[0].node, "nobody", "s", 1, NULL, NULL, &one), COHORT_ENOPEER);
    assert_int_equal(cohort_stream_open(n[0].node, address(0), "s", 1, NULL, NULL, &one), COHORT_EINVAL);
    assert_int_equal(cohort_stream_open(n[0].node, address(1), "#7", 1, NULL, NULL, &one), COHORT_EINVAL);
    assert_int_equal(cohort_stream_open(n[0].node, address(1), "a b", 1, NULL, NULL, &one), COHORT_EINVAL);
    assert_int_equal(cohort_stream_open(n[0].node, address(1), "s", UINT64_C(1) << 48, NULL, NULL, &one), COHORT_ESIZE);
    assert_int_equal(cohort_handle_stream(n[0].node, NULL, "#7", read_piece, NULL, NULL, &id), COHORT_EINVAL);
    assert_int_equal(cohort_handle_stream(n[0].node, NULL, "s", NULL, NULL, NULL, &id), COHORT_EINVAL);
    for (unsigned i = 0; i < 16; i++) {
        streams[i] = open_to(&n[0], "s", 4, &o[i]);
    }
    assert_int_equal(cohort_stream_open(n[0].node, address(1), "s", 4, NULL, NULL, &one), COHORT_ELIMIT);
    assert_int_equal(cohort_stream_write(streams[3], "12345", 5, &taken), COHORT_ESIZE);
    assert_int_equal(taken, 0);
    assert_int_equal(cohort_stream_finish(streams[3]), COHORT_ESIZE);
    assert_int_equal(cohort_stream_write(streams[3], NULL, 1, &taken), COHORT_EINVAL);
    assert_int_equal(cohort_stream_write(streams[3], "1234", 4, &taken), COHORT_OK);
    assert_int_equal(cohort_stream_finish(streams[3]), COHORT_OK);
    expect_outcome(&o[3], COHORT_OK);
    streams[3] = open_to(&n[0], "s", 4, &o[16]);
    for (unsigned i = 0; i < 16; i++) {
        cohort_stream_abort(streams[i]);
    }
    cohort_stream_abort(NULL);
    rig_close_pair(n);
}

/* Streams of 16 subjects at once, written in turns: each is read on its own. */
static void many_at_once(void **state)
{
    static struct rig_node n[2];
    static struct reading r;
    struct outcome o[16];
    cohort_stream *streams[16];
    uint64_t at[16] = {0};
    cohort_limits limits = default_limits();
    memset(&r, 0, sizeof r);
    run_limited(n, &limits);
    read_in(&n[1], new_queue(&n[1], 1), NULL, &r);
    for (unsigned i = 0; i < 16; i++) {
        char subject[16];
        snprintf(subject, sizeof subject, "s%u", i % 5);
        streams[i] = open_to(&n[0], subject, COHORT_TOTAL_UNKNOWN, &o[i]);
    }
    for (unsigned left = 16; left > 0;) {
        for (unsigned i = 0; i < 16; i++) {
            uint64_t end = 100000 * (i + 1);
            uint64_t wrote = at[i] > end ? 0 : write_some(streams[i], at[i], at[i] + 30000 < end ? at[i] + 30000 : end);
            at[i] += wrote;
            if (at[i] == end) {
                assert_int_equal(cohort_stream_finish(streams[i]), COHORT_OK);
                at[i]++;
                left--;
            }
        }
        sched_yield();
    }
    for (unsigned i = 0; i < 16; i++) {
        expect_outcome(&o[i], COHORT_OK);
    }
    WAIT_FOR(atomic_load(&r.ended) == 16);
    assert_int_equal(atomic_load(&r.wrong), 0);
    assert_true(atomic_load(&r.bytes) == 100000 * 16 * 17 / 2);
    rig_close_pair(n);
}

/* ---- without memory ------------------------------------------------------------------------------------------------- */

/* Whichever allocation of the reader fails: it is as if it had not. */
static void the_reader_runs_out_of_memory(void **state)
{
    for (uint64_t nth = 1; nth < 60; nth++) {
        static struct rig_node n[2];
        static struct reading here, queued;
        struct got g = {0};
        struct outcome o, gone;
        cohort_limits limits = default_limits();
        memset(&here, 0, sizeof here);
        memset(&queued, 0, sizeof queued);
        run_limited(n, &limits);
        cohort_queue *queue = new_queue(&n[1], 1);
        read_in(&n[1], NULL, "s", &here);
        read_in(&n[1], queue, "s", &queued);
        handle_in(&n[1], queue, "s", take_whole, &g, NULL);
        atomic_store(&n[1].memory.fail_next, atomic_load(&n[1].memory.calls) + nth);
        send_all(&n[0], NULL, "s", 300000, nth % 2 == 0 ? 300000 : COHORT_TOTAL_UNKNOWN, &o);
        cohort_stream *stream = open_to(&n[0], "s", MIB, &gone);
        assert_true(write_some(stream, 0, 100000) == 100000);
        WAIT_FOR(atomic_load(&queued.bytes) == 400000);
        cohort_stream_abort(stream);
        expect_outcome(&o, COHORT_OK);
        WAIT_FOR(atomic_load(&here.ended) == 2 && atomic_load(&queued.ended) == 2 && atomic_load(&g.count) == 1);
        expect_read(&here, 0, 300000, COHORT_OK);
        expect_read(&queued, 0, 300000, COHORT_OK);
        expect_read(&here, 1, 100000, COHORT_ECANCELLED);
        expect_read(&queued, 1, 100000, COHORT_ECANCELLED);
        close_whatever(n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(pieces_arrive_in_order),
        node_test(messages_come_as_pieces),
        node_test(streams_come_as_messages),
        node_test(larger_than_a_message),
        node_test(to_ourselves),
        node_test(a_reader_that_does_not_read_stops_its_sender),
        node_test(a_write_that_blocks),
        node_test(connections_break_under_a_stream),
        node_test(aborted),
        node_test(aborted_without_memory),
        node_test(the_sender_closes),
        node_test(the_reader_closes),
        node_test(another_process_reads),
        node_test(a_member_is_removed),
        node_test(a_slow_member_is_removed_by_who_is_told),
        node_test(a_handler_is_taken_back),
        node_test(what_is_refused),
        node_test(many_at_once),
        node_test(the_reader_runs_out_of_memory),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
