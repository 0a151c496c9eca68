/* SPDX-License-Identifier: Apache-2.0
 *
 * A loop that waits awake for what is said to its answers: when it does, that it serves others at once meanwhile, and when it never does.
 */
#include "asking.h"

#include "io/io.h"
#include "node/node.h"

#define ANSWERS 1000

/* The real machine, with its looks counted, and as long as the test wants them. */
static struct {
    const struct cohorti_io_ops *real;
    struct cohorti_io_ops ops;
    uint64_t longer_ns;                  /* 0: as asked */
    _Atomic unsigned begun, ended, left; /* left: for something else than bytes of the socket */
    _Atomic uint64_t for_ns;
} machine;

static int recv_soon(struct cohorti_socket *s, const struct cohorti_room *rooms, size_t count, size_t *n, uint64_t for_ns,
                     uint64_t *took_ns)
{
    atomic_store(&machine.for_ns, for_ns);
    atomic_fetch_add(&machine.begun, 1);
    int status = machine.real->recv_soon(s, rooms, count, n, machine.longer_ns == 0 ? for_ns : machine.longer_ns, took_ns);
    atomic_fetch_add(&machine.left, status == COHORT_EAGAIN);
    atomic_fetch_add(&machine.ended, 1);
    return status;
}

/* Node 1 answers, over the machine; node 0 asks. */
static void run_looking_pair(struct rig_node *n, struct answerer *s, cohort_config *config)
{
    memset(&machine, 0, sizeof machine);
    memset(s, 0, sizeof *s);
    run_without_handlers(&n[0], 0, NULL);
    rig_open(&n[1], config);
    machine.real = n[1].node->io->ops;
    machine.ops = *machine.real;
    machine.ops.recv_soon = recv_soon;
    n[1].node->io->ops = &machine.ops;
    handle(&n[1], "same", reply_same, s);
    rig_start(&n[1]);
}

static void close_looking_pair(struct rig_node *n, struct answerer *s)
{
    assert_int_equal(atomic_load(&s->wrong), 0);
    rig_close_pair(n);
}

static void ask_and_wait(struct rig_node *n, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        cohort_answer answer;
        assert_int_equal(cohort_request_wait(n->node, address(1), "same", "x", 1, 10000, &answer), COHORT_OK);
        cohort_answer_free(&answer);
    }
}

static void answers_are_followed_by_looks(void **state)
{
    static struct rig_node n[2];
    struct answerer s;
    rig_begin(&n[1]);
    cohort_config config = rig_config(&n[1], 1);
    config.look_us = 77;
    run_looking_pair(n, &s, &config);
    meet(&n[0], &n[1], 1);
    ask_and_wait(&n[0], ANSWERS);
    assert_true(atomic_load(&machine.begun) >= ANSWERS / 256);
    assert_int_equal(atomic_load(&machine.for_ns), 77000);
    close_looking_pair(n, &s);
}

static void without_time_for_it_none_does(void **state)
{
    static struct rig_node n[2];
    struct answerer s;
    rig_begin(&n[1]);
    cohort_config config = rig_config(&n[1], 1);
    config.look_us = 0;
    run_looking_pair(n, &s, &config);
    meet(&n[0], &n[1], 1);
    ask_and_wait(&n[0], ANSWERS);
    assert_int_equal(atomic_load(&machine.begun), 0);
    close_looking_pair(n, &s);
}

static void what_is_not_answered_is_not_followed_by_one(void **state)
{
    static struct rig_node n[2];
    struct answerer s;
    rig_begin(&n[1]);
    cohort_config config = rig_config(&n[1], 1);
    run_looking_pair(n, &s, &config);
    handle(&n[1], "silent", say_nothing, &s);
    meet(&n[0], &n[1], 1);
    for (unsigned i = 1; i <= ANSWERS; i++) {
        assert_int_equal(cohort_send(n[0].node, address(1), "silent", "x", 1), COHORT_OK);
        WAIT_FOR(atomic_load(&s.handled) == i);
    }
    assert_int_equal(atomic_load(&machine.begun), 0);
    close_looking_pair(n, &s);
}

static void the_application_s_thread_is_not_held_up(void **state)
{
    static struct rig_node n[2];
    struct answerer s;
    rig_begin(&n[1]);
    cohort_config config = rig_config(&n[1], 1);
    config.threads = COHORT_THREADS_NONE;
    run_looking_pair(n, &s, &config);
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    static struct asked asked[100];
    memset(asked, 0, sizeof asked);
    for (unsigned i = 0; i < UNIT_COUNT(asked); i++) {
        ask(&n[0], 1, "same", "x", 10000, &asked[i]);
        WAIT_FOR(cohort_node_dispatch(n[1].node) == COHORT_OK && atomic_load(&asked[i].calls) == 1);
        assert_int_equal(asked[i].status, COHORT_OK);
    }
    assert_int_equal(atomic_load(&machine.begun), 0);
    close_looking_pair(n, &s);
}

/* The loop is told although mail of its own waits there, for which it need not be. An acknowledgement of the peer ends a look too: then once more. */
static void what_is_posted_meanwhile_is_done_at_once(void **state)
{
    static struct rig_node n[2];
    struct answerer s;
    char id[16];
    rig_begin(&n[1]);
    cohort_config config = rig_config(&n[1], 1);
    config.loop_count = 0; /* members are changed on the loop that looks */
    run_looking_pair(n, &s, &config);
    machine.longer_ns = UINT64_C(20000000000);
    meet(&n[0], &n[1], 1);
    ask_and_wait(&n[0], 15);
    for (unsigned i = 0; i < 200 && atomic_load(&machine.left) == 0; i++) {
        unsigned before = atomic_load(&machine.begun);
        ask_and_wait(&n[0], 1);
        WAIT_FOR(atomic_load(&machine.begun) > before);
        (void)snprintf(id, sizeof id, "another-%u", i);
        assert_int_equal(cohort_node_add(n[1].node, id, address(5), PORT), COHORT_OK);
    }
    assert_int_equal(atomic_load(&machine.left), 1);
    machine.longer_ns = 1;
    close_looking_pair(n, &s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(answers_are_followed_by_looks),
        node_test(without_time_for_it_none_does),
        node_test(what_is_not_answered_is_not_followed_by_one),
        node_test(the_application_s_thread_is_not_held_up),
        node_test(what_is_posted_meanwhile_is_done_at_once),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
