/* SPDX-License-Identifier: Apache-2.0
 *
 * Everything at once: threads that send in every way there is, links that break, members that come and go, memory that runs out. Each callback
 * that is promised once comes once, each refusal is followed by its event, and nothing is left. How long it takes follows from the work, and what
 * happens to whom from a sequence of numbers; the rest is up to the machine.
 */
#include "reading.h"

static uint32_t next_number(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

/* ---- each callback comes once ---------------------------------------------------------------------------------------------- */

#define SENDERS 4
#define STEPS 24 /* of who breaks things, spread over the work */

struct promised {
    _Atomic uint64_t made, kept;
};

static struct chaos {
    struct rig_node n[2];
    struct promised lent, answers, streams, echoes;
    _Atomic unsigned wrong, done;
    unsigned each; /* calls of each thread */
    bool changes;
    _Atomic uint32_t fails_one_in; /* 0: none */
} chaos;

/* A callback that comes twice frees it twice, one that never comes leaves it: the sanitizers tell where. */
struct mark {
    struct promised *of;
    char bytes[50000];
};

static struct mark *promise(struct promised *of)
{
    struct mark *mark = calloc(1, sizeof *mark);
    assert_non_null(mark);
    mark->of = of;
    atomic_fetch_add(&of->made, 1);
    return mark;
}

static void keep_promise(void *arg)
{
    struct mark *mark = arg;
    atomic_fetch_add(&mark->of->kept, 1);
    free(mark);
}

static void not_promised(int status, struct mark *mark)
{
    if (status != COHORT_OK) {
        atomic_fetch_sub(&mark->of->made, 1);
        free(mark);
    }
}

static void on_chaos_result(cohort_node *node, const cohort_result *result, void *arg)
{
    keep_promise(arg);
}

static void on_chaos_stream(cohort_node *node, const cohort_stream_result *result, void *arg)
{
    keep_promise(arg);
}

static void on_chaos_echo(cohort_node *node, const char *id, int status, uint64_t rtt_ns, void *arg)
{
    keep_promise(arg);
}

/* At once, kept, or not at all. Only in a queue may it be tried until there is room: on a loop it is this loop that makes it. */
static void reply_somehow(cohort_node *node, const cohort_message *message, void *arg)
{
    if (message->call != NULL && message->data_len % 3 == 0 && arg != NULL) {
        cohort_call *kept = cohort_call_keep(message->call);
        int status = kept == NULL ? COHORT_OK : cohort_reply(kept, message->data, message->data_len);
        while (status == COHORT_EAGAIN || status == COHORT_ENOMEM) {
            status = cohort_reply_error(kept, COHORT_EHANDLER, NULL);
        }
    } else if (message->call != NULL && message->data_len % 3 == 1) {
        (void)!cohort_reply(message->call, message->data, message->data_len);
    }
}

/* What a stream has as its state is there from its beginning to its end. */
static void read_chaos(cohort_node *node, const cohort_piece *piece, void *arg)
{
    atomic_fetch_add(&chaos.wrong, piece->begin != (*piece->state == NULL));
    if (piece->begin) {
        *piece->state = malloc(1);
    }
    if (piece->end) {
        free(*piece->state);
        *piece->state = NULL;
    }
}

static void take_back(cohort_node *node, cohort_handle_id id)
{
    int status = COHORT_ENOMEM;
    while (status == COHORT_ENOMEM) {
        status = cohort_unhandle(node, id);
    }
    atomic_fetch_add(&chaos.wrong, status != COHORT_OK);
}

/* Members change, and handlers come and go, inside handlers. */
static void change_something(cohort_node *node, const cohort_message *message, void *arg)
{
    uint32_t what = number_of(message->data, message->data_len);
    cohort_handle_id id = 0;
    if (what % 4 == 0) {
        (void)!cohort_node_remove(node, message->from);
        (void)!cohort_node_add(node, message->from, message->from, PORT);
    } else if (what % 4 == 1 && cohort_handle_stream(node, NULL, "st", read_chaos, NULL, NULL, &id) == COHORT_OK) {
        if (what % 8 == 1) {
            take_back(node, id);
        }
    } else if (what % 4 > 1 && cohort_handle(node, "a", reply_somehow, NULL, NULL, &id) == COHORT_OK) {
        take_back(node, id);
    }
}

static const char chaos_bytes[70000];

static void lend(cohort_node *node, const char *to, uint32_t what)
{
    struct mark *mark = promise(&chaos.lent);
    if (to != NULL) {
        not_promised(cohort_send_ref(node, to, what & 1 ? "a" : "block", mark->bytes, sizeof mark->bytes, keep_promise, mark), mark);
    } else { /* called whatever is returned */
        (void)!cohort_broadcast_ref(node, what & 1 ? "a" : "part", mark->bytes, sizeof mark->bytes, keep_promise, mark, NULL);
    }
}

static void use_route(cohort_node *node, const char *to, uint32_t what)
{
    cohort_route *route = NULL;
    void *data = NULL;
    if (cohort_route_open(node, to, "a", &route) != COHORT_OK) {
        return;
    }
    if (cohort_route_claim(route, 1000, &data) == COHORT_OK) {
        memset(data, 0, 1000);
        if (what & 1) {
            cohort_route_commit(route, 500);
        } else {
            cohort_route_abort(route);
        }
    }
    cohort_route_close(route);
}

static void send_stream(cohort_node *node, const char *to, uint32_t what)
{
    cohort_stream *stream = NULL;
    struct mark *mark = promise(&chaos.streams);
    uint64_t total = what % 3 == 0 ? 60000 : COHORT_TOTAL_UNKNOWN;
    int status = cohort_stream_open(node, to, what % 2 ? "st" : "stq", total, on_chaos_stream, mark, &stream);
    not_promised(status, mark);
    if (status != COHORT_OK) {
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        size_t taken = 0;
        (void)!cohort_stream_write(stream, chaos_bytes, 30000, &taken);
    }
    status = what % 5 == 0 ? COHORT_ENOMEM : cohort_stream_finish(stream);
    if (status == COHORT_ENOMEM || status == COHORT_ESIZE) { /* still ours */
        cohort_stream_abort(stream);
    }
}

static void request(cohort_node *node, const char *to, uint32_t what)
{
    struct mark *mark = promise(&chaos.answers);
    const char *subject = what & 1 ? "r" : "rq";
    not_promised(cohort_request(node, to, subject, chaos_bytes, what % 3000, 1 + what % 30, on_chaos_result, mark, NULL), mark);
}

static void echo(cohort_node *node, const char *to)
{
    struct mark *mark = promise(&chaos.echoes);
    not_promised(cohort_echo(node, to, NULL, 0, 20, on_chaos_echo, mark), mark);
}

static void call_something(cohort_node *node, const char *to, uint32_t kind, uint32_t what)
{
    switch (kind % 9) {
    case 0:
        (void)!cohort_send(node, to, what & 1 ? "a" : "q", chaos_bytes, what % sizeof chaos_bytes);
        break;
    case 1:
        lend(node, to, what);
        break;
    case 2:
        use_route(node, to, what);
        break;
    case 3:
        send_stream(node, to, what);
        break;
    case 4:
        echo(node, to);
        break;
    case 5:
        (void)!cohort_send(node, to, "ttl", chaos_bytes, 3000);
        break;
    case 6:
        lend(node, NULL, what);
        break;
    default:
        request(node, to, what);
        break;
    }
}

static void *chaos_send(void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg, from = me % 2;
    uint32_t seed = me * 7919;
    cohort_node *node = chaos.n[from].node;
    for (unsigned i = 0; i < chaos.each; i++) {
        uint32_t to = next_number(&seed) % 4 == 0 ? from : 1 - from, kind = next_number(&seed);
        call_something(node, address(to), kind, next_number(&seed));
        if (i % 16 == 0) { /* not faster than what is sent is taken */
            cohort_answer answer;
            (void)!cohort_request_wait(node, address(1 - from), "r", "x", 1, 20, &answer);
            cohort_answer_free(&answer);
        }
        if (i % 32 == 0 && chaos.changes) {
            uint32_t what = i / 32;
            (void)!cohort_send(node, address(1 - from), what % 3 ? "change" : "changeq", &what, sizeof what);
        }
        atomic_fetch_add(&chaos.done, 1);
    }
    return NULL;
}

static bool fails_now(void)
{
    static _Thread_local uint32_t seed = 12345;
    uint32_t one_in = atomic_load(&chaos.fails_one_in);
    return one_in > 0 && next_number(&seed) % one_in == 0;
}

static void *rarely_allocate(void *ctx, size_t size)
{
    return fails_now() ? NULL : counting_allocate(ctx, size);
}

static void *rarely_reallocate(void *ctx, void *ptr, size_t size)
{
    return fails_now() ? NULL : counting_reallocate(ctx, ptr, size);
}

static void handle_everything(struct rig_node *n)
{
    cohort_queue *one = new_queue(n, 1), *two = new_queue(n, 2);
    cohort_subject_options options;
    cohort_handle_id id;
    handle_in(n, NULL, "r", reply_somehow, NULL, NULL);
    handle_in(n, one, "rq", reply_somehow, one, NULL);
    handle_in(n, two, "q", reply_somehow, two, NULL);
    handle_in(n, two, "a", reply_somehow, two, NULL);
    handle_in(n, NULL, "a", reply_somehow, NULL, NULL);
    handle_in(n, one, "stq", reply_somehow, one, NULL);
    handle_in(n, NULL, "change", change_something, NULL, NULL);
    handle_in(n, one, "changeq", change_something, NULL, NULL);
    assert_int_equal(cohort_handle_stream(n->node, NULL, "st", read_chaos, NULL, NULL, &id), COHORT_OK);
    assert_int_equal(cohort_handle_stream(n->node, two, "stq", read_chaos, NULL, NULL, &id), COHORT_OK);
    set_options(n, "block", COHORT_LANE_BULK, COHORT_FULL_BLOCK, 20);
    set_options(n, "part", COHORT_LANE_CONTROL, COHORT_FULL_DISCONNECT, 0);
    COHORT_SUBJECT_OPTIONS_INIT(&options);
    options.ttl_ms = 5;
    options.when_full = COHORT_FULL_DROP;
    assert_int_equal(cohort_subject_set(n->node, "ttl", &options), COHORT_OK);
}

static void run_chaotic(struct rig_node *n, unsigned i, cohort_loops *loops, uint32_t loop_count)
{
    rig_begin(n);
    cohort_config config = rig_config(n, i);
    n->memory.alloc.allocate = rarely_allocate;
    n->memory.alloc.reallocate = rarely_reallocate;
    config.loops = loops;
    config.loop_count = loop_count;
    config.deliver_local = true;
    config.limits.peer_queue_bytes_max = 512 * 1024;
    config.limits.node_queue_bytes_max = 1024 * 1024;
    config.limits.window_bytes = 256 * 1024;
    config.limits.requests_max = 300;
    rig_open(n, &config);
    rig_start(n);
    handle_everything(n);
}

/* While the threads work: links break, and members are away for one step. */
static void break_things(struct chaos *c)
{
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned i = step / 6 % 2;
        WAIT_FOR(atomic_load(&c->done) >= step * c->each * SENDERS / STEPS);
        if (step % 3 == 2) {
            (void)break_links();
        }
        if (step % 6 == 3) {
            (void)!cohort_node_remove(c->n[i].node, address(1 - i));
        } else if (step % 6 == 4) {
            while (cohort_node_add(c->n[i].node, address(1 - i), address(1 - i), PORT) == COHORT_ENOMEM) {
                sched_yield();
            }
        }
    }
}

static void expect_kept(struct promised *p)
{
    assert_true(atomic_load(&p->made) > 0);
    assert_int_equal(atomic_load(&p->made), atomic_load(&p->kept));
}

static void run_chaos(uint32_t shared_loops, uint32_t loop_count, bool changes, uint32_t fails_one_in, unsigned each)
{
    struct chaos *c = &chaos;
    cohort_loops *loops = NULL;
    pthread_t threads[SENDERS];
    memset(c, 0, sizeof *c);
    c->changes = changes;
    c->each = each;
    if (shared_loops > 0) {
        assert_int_equal(cohort_loops_open(shared_loops, NULL, &loops), COHORT_OK);
    }
    run_chaotic(&c->n[0], 0, loops, loop_count);
    run_chaotic(&c->n[1], 1, loops, loop_count);
    meet(&c->n[0], &c->n[1], 1);
    atomic_store(&c->fails_one_in, fails_one_in);
    for (unsigned i = 0; i < SENDERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, chaos_send, (void *)(uintptr_t)i), 0);
    }
    break_things(c);
    for (unsigned i = 0; i < SENDERS; i++) {
        pthread_join(threads[i], NULL);
    }
    for (unsigned i = 0; i < 2; i++) {
        (void)cohort_node_close(c->n[i].node, 1000);
        assert_int_equal(atomic_load(&c->n[i].memory.blocks), 0);
        assert_int_equal(atomic_load(&c->n[i].wrong), 0);
    }
    assert_int_equal(cohort_loops_close(loops), COHORT_OK);
    expect_kept(&c->lent);
    expect_kept(&c->answers);
    expect_kept(&c->streams);
    expect_kept(&c->echoes);
    assert_int_equal(atomic_load(&c->wrong), 0);
}

static void everything_at_once(void **state)
{
    run_chaos(0, 2, false, 0, 6000);
}

static void everything_at_once_on_shared_loops(void **state)
{
    run_chaos(2, 0, false, 0, 6000);
}

static void everything_at_once_and_changes(void **state)
{
    run_chaos(0, 2, true, 0, 6000);
}

static void everything_at_once_and_changes_on_one_loop(void **state)
{
    run_chaos(0, 0, true, 0, 6000);
}

static void everything_at_once_with_little_memory(void **state)
{
    run_chaos(0, 2, false, 100, 3000);
    run_chaos(0, 2, true, 1000, 3000);
}

/* ---- each refusal is followed by an event ---------------------------------------------------------------------------------- */

#define PUMPS 6
#define PUMPED 4000 /* calls of each thread */

static struct pump {
    struct rig_node n[3];
    _Atomic unsigned room[3][3][3]; /* events of a node, for a member, in a lane */
    _Atomic unsigned refused, lost, done;
} pump;

static void on_room(cohort_node *node, const char *id, cohort_lane lane, void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg;
    for (unsigned to = 0; to < 3; to++) {
        if (strcmp(id, address(to)) == 0) {
            atomic_fetch_add(&pump.room[me][to][lane], 1);
        }
    }
}

static void on_pump_result(cohort_node *node, const cohort_result *result, void *arg)
{
}

/* What it was told: of a stream, of its first piece. */
static int pump_one(cohort_node *node, const char *to, const char *subject, uint32_t kind, size_t len)
{
    static const char bytes[100000];
    cohort_stream *stream = NULL;
    size_t taken = 0;
    int status = COHORT_OK;
    switch (kind % 4) {
    case 0:
        return cohort_send(node, to, subject, bytes, len);
    case 1:
        return cohort_send_ref(node, to, subject, bytes, len, NULL, NULL);
    case 2:
        return cohort_request(node, to, subject, bytes, len, 3000, on_pump_result, NULL, NULL);
    default:
        if (cohort_stream_open(node, to, subject, COHORT_TOTAL_UNKNOWN, NULL, NULL, &stream) == COHORT_OK) {
            status = cohort_stream_write(stream, bytes, len, &taken);
            cohort_stream_abort(stream);
        }
        return status;
    }
}

static void *pump_all(void *arg)
{
    static const char *const subjects[] = {"l0", "l1", "l2"};
    unsigned me = (unsigned)(uintptr_t)arg, from = me % 3;
    uint32_t seed = me * 104729 + 1;
    for (unsigned i = 0; i < PUMPED && atomic_load(&pump.lost) == 0; i++) {
        uint32_t to = next_number(&seed) % 3, lane = next_number(&seed) % 3, kind = next_number(&seed), size = next_number(&seed);
        _Atomic unsigned *room = &pump.room[from][to][lane];
        unsigned before = atomic_load(room);
        int status = pump_one(pump.n[from].node, address(to), subjects[lane], kind, size % 16 == 0 ? 100000 : size % 5000);
        uint64_t until = clock_ms() + BOUND_MS / 3;
        while (status == COHORT_EAGAIN && atomic_load(room) == before && clock_ms() < until) {
            sched_yield();
        }
        atomic_fetch_add(&pump.refused, status == COHORT_EAGAIN);
        atomic_fetch_add(&pump.lost, status == COHORT_EAGAIN && atomic_load(room) == before);
        atomic_fetch_add(&pump.done, 1);
    }
    return NULL;
}

static void run_pump(struct rig_node *n, unsigned i)
{
    cohort_handle_id id;
    rig_begin(n);
    cohort_config config = rig_config(n, i);
    config.deliver_local = true;
    config.limits.peer_queue_bytes_max = 256 * 1024;
    config.limits.node_queue_bytes_max = 512 * 1024;
    config.limits.window_bytes = 64 * 1024;
    rig_open(n, &config);
    assert_int_equal(cohort_on_writable(n->node, on_room, (void *)(uintptr_t)i, NULL, &id), COHORT_OK);
    rig_start(n);
    cohort_queue *pool = new_queue(n, 2);
    handle_in(n, pool, "l0", reply_somehow, pool, NULL);
    handle_in(n, pool, "l1", reply_somehow, pool, NULL);
    handle_in(n, NULL, "l2", reply_somehow, NULL, NULL);
    set_options(n, "l0", (cohort_lane)0, COHORT_FULL_FAIL, 0);
    set_options(n, "l1", (cohort_lane)1, COHORT_FULL_DISCONNECT, 0);
    set_options(n, "l2", (cohort_lane)2, COHORT_FULL_FAIL, 0);
}

static void each_refusal_is_followed_by_an_event(void **state)
{
    pthread_t threads[PUMPS];
    memset(&pump, 0, sizeof pump);
    for (unsigned i = 0; i < 3; i++) {
        run_pump(&pump.n[i], i);
    }
    meet(&pump.n[0], &pump.n[1], 1);
    meet(&pump.n[0], &pump.n[2], 2);
    meet(&pump.n[1], &pump.n[2], 2);
    for (unsigned i = 0; i < PUMPS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, pump_all, (void *)(uintptr_t)i), 0);
    }
    for (unsigned i = 1; i < 4; i++) {
        WAIT_FOR(atomic_load(&pump.done) >= i * PUMPS * PUMPED / 4 || atomic_load(&pump.lost) > 0);
        (void)break_links();
    }
    for (unsigned i = 0; i < PUMPS; i++) {
        pthread_join(threads[i], NULL);
    }
    for (unsigned i = 0; i < 3; i++) {
        (void)rig_close(&pump.n[i]);
    }
    assert_int_equal(atomic_load(&pump.lost), 0);
    assert_true(atomic_load(&pump.refused) > 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        node_test(everything_at_once),
        node_test(everything_at_once_on_shared_loops),
        node_test(everything_at_once_and_changes),
        node_test(everything_at_once_and_changes_on_one_loop),
        node_test(everything_at_once_with_little_memory),
        node_test(each_refusal_is_followed_by_an_event),
    };
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL); /* one by name, in a debugger */
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
