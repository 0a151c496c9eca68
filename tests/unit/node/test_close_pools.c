/* SPDX-License-Identifier: Apache-2.0
 *
 * node/node: closing while handlers in pools still call: what they wait for ends, what they begin ends once, and what was not delivered is said.
 */
#include "machine.h"
#include "reading.h"

/* ---- what a pool waits for ------------------------------------------------------------------------------------------------- */

struct closing {
    cohort_node *node;
    _Atomic bool done;
    pthread_t thread;
};

static void *close_node(void *arg)
{
    struct closing *c = arg;
    (void)cohort_node_close(c->node, 200);
    atomic_store(&c->done, true);
    return NULL;
}

/* On a thread of its own, so that a node that cannot be closed is told of and not waited for. */
static void begin_close(struct closing *c, struct rig_node *n)
{
    c->node = n->node;
    atomic_store(&c->done, false);
    assert_int_equal(pthread_create(&c->thread, NULL, close_node, c), 0);
}

static void end_close(struct closing *c, struct rig_node *n)
{
    WAIT_FOR(atomic_load(&c->done));
    pthread_join(c->thread, NULL);
    assert_int_equal(atomic_load(&n->memory.blocks), 0);
}

static _Thread_local bool waits_here;

/* One call in a pool that waits, and what came of it. */
static struct waiting {
    int fd;
    _Atomic bool waits;
    _Atomic int said;
} waiting;

static int note_wait(struct cohorti_io *io, struct cohorti_waiter *w, uint64_t timeout_ns)
{
    if (waits_here) {
        atomic_store(&waiting.waits, true);
    }
    return real_ops->wait(io, w, timeout_ns);
}

/* 0 knows 1, and 5, which never comes; in a pool of it `fn` has come to wait. */
static void wait_in_a_pool(struct rig_node *n, cohort_message_fn fn)
{
    atomic_store(&waiting.waits, false);
    atomic_store(&waiting.said, 1);
    rig_begin(&n[0]);
    cohort_config config = rig_config(&n[0], 0);
    rig_open(&n[0], &config);
    replace_machine(&n[0])->wait = note_wait;
    rig_start(&n[0]);
    meet(&n[0], &n[1], 1);
    assert_int_equal(cohort_node_add(n[0].node, address(5), address(5), PORT), COHORT_OK);
    handle_in(&n[0], new_queue(&n[0], 1), "wait", fn, NULL, NULL);
    assert_int_equal(cohort_send(n[1].node, address(0), "wait", NULL, 0), COHORT_OK);
    WAIT_FOR(atomic_load(&waiting.waits));
}

static void wait_for_an_answer(cohort_node *node, const cohort_message *message, void *arg)
{
    cohort_answer answer;
    waits_here = true;
    atomic_store(&waiting.said, cohort_request_wait(node, message->from, "keep", NULL, 0, 0, &answer));
    cohort_answer_free(&answer);
}

static void closing_ends_a_request_a_pool_waits_for(void **state)
{
    static struct rig_node n[2];
    static struct answerer s;
    static struct closing c;
    run_without_handlers(&n[1], 1, NULL);
    handle(&n[1], "keep", keep_call, &s);
    wait_in_a_pool(n, wait_for_an_answer);
    WAIT_FOR(atomic_load(&s.kept_count) == 1);
    begin_close(&c, &n[0]);
    end_close(&c, &n[0]);
    assert_int_equal(atomic_load(&waiting.said), COHORT_ECLOSED);
    (void)!cohort_reply(s.kept[0], NULL, 0);
    (void)rig_close(&n[1]);
}

static void send_a_file(cohort_node *node, const cohort_message *message, void *arg)
{
    waits_here = true;
    atomic_store(&waiting.said, cohort_send_file(node, address(5), "f", waiting.fd, 0, NULL, NULL, NULL, NULL));
}

static void closing_ends_a_file_a_pool_sends(void **state)
{
    static struct rig_node n[2];
    static struct closing c;
    char path[] = "/tmp/cohort-close-XXXXXX";
    waiting.fd = mkstemp(path);
    assert_true(waiting.fd >= 0 && unlink(path) == 0);
    assert_int_equal(write(waiting.fd, "0123456789", 10), 10);
    assert_int_equal(lseek(waiting.fd, 0, SEEK_SET), 0);
    run_without_handlers(&n[1], 1, NULL);
    wait_in_a_pool(n, send_a_file);
    begin_close(&c, &n[0]);
    end_close(&c, &n[0]);
    assert_int_equal(atomic_load(&waiting.said), COHORT_ECLOSED);
    close(waiting.fd);
    (void)rig_close(&n[1]);
}

/* ---- a stream -------------------------------------------------------------------------------------------------------------- */

static struct opening {
    _Atomic bool inside, go_on;
    _Atomic int said;
    _Atomic unsigned results;
} opening;

static _Thread_local bool stops_here;

/* Whoever is to stop does it where it takes memory. */
static void *stopping_allocate(void *ctx, size_t size)
{
    if (stops_here) {
        stops_here = false;
        atomic_store(&opening.inside, true);
        while (!atomic_load(&opening.go_on)) {
            sched_yield();
        }
    }
    return counting_allocate(ctx, size);
}

static void count_result(cohort_node *node, const cohort_stream_result *result, void *arg)
{
    atomic_fetch_add(&opening.results, 1);
}

static void open_a_stream(cohort_node *node, const cohort_message *message, void *arg)
{
    cohort_stream *stream = NULL;
    stops_here = true;
    int status = cohort_stream_open(node, address(5), "t", COHORT_TOTAL_UNKNOWN, count_result, NULL, &stream);
    atomic_store(&opening.said, status);
    if (status == COHORT_OK) {
        cohort_stream_abort(stream);
    }
}

static void let_others_come_to_it(void)
{
    uint64_t until = clock_ms() + QUIET_MS;
    WAIT_FOR(clock_ms() >= until);
}

/* Who opens it and who closes the node come to the member's lock behind us: the second first, and once more. */
static void a_stream_is_opened_while_the_node_closes(void **state)
{
    for (unsigned round = 0; round < 3; round++) {
        static struct rig_node n;
        static struct closing c;
        memset(&opening, 0, sizeof opening);
        rig_begin(&n);
        cohort_config config = rig_config(&n, 0);
        n.memory.alloc.allocate = stopping_allocate;
        config.deliver_local = true;
        rig_open(&n, &config);
        rig_start(&n);
        assert_int_equal(cohort_node_add(n.node, address(5), address(5), PORT), COHORT_OK);
        handle_in(&n, new_queue(&n, 1), "open", open_a_stream, NULL, NULL);
        assert_int_equal(cohort_send(n.node, address(0), "open", NULL, 0), COHORT_OK);
        WAIT_FOR(atomic_load(&opening.inside));
        struct peer *peer = cohorti_peer_find(n.node, address(5));
        cohorti_mutex_lock(&peer->lock);
        begin_close(&c, &n);
        WAIT_FOR(atomic_load(&n.node->phase) == NODE_CLOSING);
        let_others_come_to_it();
        atomic_store(&opening.go_on, true);
        let_others_come_to_it();
        cohorti_peer_unref(peer); /* it lives as long as the node, which may be gone as soon as we let go of the lock */
        cohorti_mutex_unlock(&peer->lock);
        end_close(&c, &n);
        assert_int_equal(atomic_load(&opening.results), atomic_load(&opening.said) == COHORT_OK);
    }
}

static void note_status(cohort_node *node, const cohort_stream_result *result, void *arg)
{
    atomic_store((_Atomic int *)arg, result->status);
}

static void a_stream_that_is_not_delivered_is_not_ok(void **state)
{
    static struct rig_node n;
    cohort_stream *stream = NULL;
    _Atomic int ended = 1;
    size_t taken = 0;
    run_without_handlers(&n, 0, NULL);
    assert_int_equal(cohort_node_add(n.node, address(5), address(5), PORT), COHORT_OK);
    assert_int_equal(cohort_stream_open(n.node, address(5), "s", 10, note_status, &ended, &stream), COHORT_OK);
    assert_int_equal(cohort_stream_write(stream, "0123456789", 10, &taken), COHORT_OK);
    assert_int_equal(cohort_stream_finish(stream), COHORT_OK);
    assert_int_equal(rig_close(&n), COHORT_ETIMEDOUT);
    assert_int_equal(atomic_load(&ended), COHORT_ECLOSED);
}

/* ---- whatever a pool calls ------------------------------------------------------------------------------------------------- */

#define POOLS 4

static _Atomic unsigned calls_done;

/* ThreadSanitizer does not see libuv close descriptors, and takes a number that serves again for a race: one at a time then. */
static int turn_queue(cohort_node *node)
{
#ifdef __SANITIZE_THREAD__
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
#endif
    cohort_queue *queue = NULL;
    int status = cohort_queue_open(node, 1, &queue);
    status = status == COHORT_OK ? cohort_queue_close(queue) : status;
#ifdef __SANITIZE_THREAD__
    pthread_mutex_unlock(&lock);
#endif
    return status;
}

static void turn_queues(cohort_node *node, const cohort_message *message, void *arg)
{
    while (turn_queue(node) == COHORT_OK) {
        atomic_fetch_add(&calls_done, 1);
    }
}

static void run_pools(struct rig_node *n, cohort_message_fn fn, void *arg)
{
    atomic_store(&calls_done, 0);
    for (unsigned i = 0; i < POOLS; i++) {
        char subject[] = {'p', (char)('0' + i), '\0'};
        handle_in(n, new_queue(n, 1), subject, fn, arg, NULL);
    }
}

static void say_to_pool(struct rig_node *n, unsigned pool, unsigned what)
{
    char subject[] = {'p', (char)('0' + pool), '\0'};
    assert_int_equal(cohort_send(n->node, address(0), subject, &what, sizeof what), COHORT_OK);
}

static void a_pool_turns_queues_while_its_node_closes(void **state)
{
    for (unsigned round = 0; round < 40; round++) {
        static struct rig_node n;
        rig_begin(&n);
        cohort_config config = rig_config(&n, 0);
        config.deliver_local = true;
        config.loop_count = 0;
        rig_open(&n, &config);
        rig_start(&n);
        run_pools(&n, turn_queues, NULL);
        for (unsigned i = 0; i < POOLS; i++) {
            say_to_pool(&n, i, 0);
        }
        WAIT_FOR(atomic_load(&calls_done) >= round);
        (void)rig_close(&n);
    }
}

static void write_a_stream(cohort_node *node, bool aborts)
{
    static const char bytes[20000];
    cohort_stream *stream = NULL;
    size_t taken = 0;
    if (cohort_stream_open(node, address(1), "t", COHORT_TOTAL_UNKNOWN, NULL, NULL, &stream) == COHORT_OK) {
        (void)!cohort_stream_write(stream, bytes, sizeof bytes, &taken);
        int status = aborts ? COHORT_ENOMEM : cohort_stream_finish(stream);
        if (status == COHORT_ENOMEM) { /* still ours */
            cohort_stream_abort(stream);
        }
    }
}

static void call_one_of_all(cohort_node *node, const cohort_message *message, void *arg)
{
    static const char bytes[20000];
    unsigned what = number_of(message->data, message->data_len);
    cohort_answer answer;
    switch (what % 8) {
    case 0:
        (void)!cohort_request_wait(node, message->from, "keep", "x", 1, 20, &answer);
        cohort_answer_free(&answer);
        break;
    case 1:
        write_a_stream(node, what & 8);
        break;
    case 2:
#ifndef __SANITIZE_THREAD__ /* the same, with sockets of who dials */
        (void)turn_queue(node);
#endif
        break;
    case 3:
        (void)!cohort_node_add(node, "x", address(6), PORT);
        (void)!cohort_node_remove(node, "x");
        break;
    case 4:
        (void)!cohort_send(node, address(1), "block", bytes, sizeof bytes);
        break;
    case 5:
        (void)!cohort_send_ref(node, address(1), "s", bytes, sizeof bytes, NULL, NULL);
        break;
    case 6:
        (void)!cohort_broadcast(node, "s", bytes, sizeof bytes, NULL);
        break;
    default:
        (void)!cohort_echo(node, address(1), NULL, 0, 10, on_echo_back, arg);
        break;
    }
    atomic_fetch_add(&calls_done, 1);
}

static void a_pool_calls_everything_while_its_node_closes(void **state)
{
    static _Atomic unsigned echoes;
    cohort_limits limits = small_limits();
    for (unsigned round = 0; round < 16; round++) {
        static struct rig_node n[2];
        run_without_handlers(&n[1], 1, NULL); /* nobody answers */
        run_without_handlers(&n[0], 0, &limits);
        meet(&n[0], &n[1], 1);
        set_options(&n[0], "block", COHORT_LANE_BULK, COHORT_FULL_BLOCK, 50);
        run_pools(&n[0], call_one_of_all, &echoes);
        for (unsigned i = 0; i < 200; i++) {
            say_to_pool(&n[1], i % POOLS, i / POOLS * 7 + i + round);
        }
        WAIT_FOR(atomic_load(&calls_done) >= 6 * round);
        (void)rig_close(&n[0]);
        (void)rig_close(&n[1]);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        node_test(a_stream_that_is_not_delivered_is_not_ok),  node_test(a_stream_is_opened_while_the_node_closes),
        node_test(a_pool_turns_queues_while_its_node_closes), node_test(a_pool_calls_everything_while_its_node_closes),
        node_test(closing_ends_a_request_a_pool_waits_for),   node_test(closing_ends_a_file_a_pool_sends),
    };
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL); /* one by name, in a debugger */
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
