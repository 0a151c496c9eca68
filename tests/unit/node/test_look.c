/* SPDX-License-Identifier: Apache-2.0
 *
 * A loop that waits awake for what is said to its answers, or for more of a stream: when it does, that it serves others at once meanwhile, and
 * when it never does.
 */
#include "gate.h"
#include "machine.h"

#define ANSWERS 1000
#define TRIES 200
#define LOOK_BOUND_MS 100

/* The real machine, with its looks counted, and as long as the test wants them. */
static struct {
    _Atomic uint64_t longer_ns;   /* 0: as asked */
    _Atomic unsigned begun, left; /* left: for something else than bytes of the socket */
    _Atomic bool inside;
    _Atomic uint64_t for_ns;
    _Atomic size_t untold; /* the most that was taken and not acknowledged when one began */
} machine;

static struct rig_node pair[2];
static struct answerer answerer;

static int recv_soon(struct cohorti_socket *s, const struct cohorti_room *rooms, size_t count, size_t *n, uint64_t for_ns,
                     uint64_t *took_ns)
{
    atomic_store(&machine.for_ns, for_ns);
    struct peer *peer = cohorti_peer_find(pair[1].node, address(0));
    size_t untold = cohorti_inbound_untold(&peer->inbound); /* we are on its loop */
    cohorti_peer_unref(peer);
    atomic_store(&machine.untold, untold > machine.untold ? untold : machine.untold);
    atomic_fetch_add(&machine.begun, 1);
    uint64_t longer_ns = atomic_load(&machine.longer_ns);
    atomic_store(&machine.inside, true);
    int status = real_ops->recv_soon(s, rooms, count, n, longer_ns == 0 ? for_ns : longer_ns, took_ns);
    atomic_store(&machine.inside, false);
    *took_ns = longer_ns == 0 ? *took_ns : 1; /* what comes late for want of a processor would make the next looks rarer */
    atomic_fetch_add(&machine.left, status == COHORT_EAGAIN);
    return status;
}

/* Node 1 answers, over the machine; node 0 asks. */
static cohort_config looking_config(void)
{
    rig_begin(&pair[1]);
    return rig_config(&pair[1], 1);
}

static void run_looking_pair(const cohort_config *config)
{
    memset(&machine, 0, sizeof machine);
    memset(&answerer, 0, sizeof answerer);
    run_without_handlers(&pair[0], 0, NULL);
    rig_open(&pair[1], config);
    replace_machine(&pair[1])->recv_soon = recv_soon;
    handle(&pair[1], "same", reply_same, &answerer);
    handle(&pair[1], "silent", say_nothing, &answerer);
    rig_start(&pair[1]);
}

static void close_looking_pair(void)
{
    assert_int_equal(atomic_load(&answerer.wrong), 0);
    atomic_store(&machine.longer_ns, 1);
    rig_close_pair(pair);
}

static void ask_and_wait(unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        cohort_answer answer;
        assert_int_equal(cohort_request_wait(pair[0].node, address(1), "same", "x", 1, 10000, &answer), COHORT_OK);
        cohort_answer_free(&answer);
    }
}

/* Answers until it would look after the next one, and then as good as for ever. */
static void look_for_long(void)
{
    atomic_store(&machine.longer_ns, UINT64_C(20000000000));
    meet(&pair[0], &pair[1], 1);
    ask_and_wait(15);
}

/* Whether it looks after the answer that was just had. Not always: a loop that got no processor for a while has other things to do then. */
static bool looks_since(unsigned begun)
{
    uint64_t until = clock_ms() + LOOK_BOUND_MS;
    while (atomic_load(&machine.begun) == begun && clock_ms() <= until) {
        sched_yield();
    }
    return atomic_load(&machine.begun) > begun;
}

static void answers_are_followed_by_looks(void **state)
{
    cohort_config config = looking_config();
    config.look_us = 77;
    run_looking_pair(&config);
    meet(&pair[0], &pair[1], 1);
    ask_and_wait(ANSWERS);
    assert_true(atomic_load(&machine.begun) >= ANSWERS / 256);
    assert_int_equal(atomic_load(&machine.for_ns), 77000);
    close_looking_pair();
}

static void without_time_for_it_none_does(void **state)
{
    cohort_config config = looking_config();
    config.look_us = 0;
    run_looking_pair(&config);
    meet(&pair[0], &pair[1], 1);
    ask_and_wait(ANSWERS);
    assert_int_equal(atomic_load(&machine.begun), 0);
    close_looking_pair();
}

static void what_is_not_answered_is_not_followed_by_one(void **state)
{
    cohort_config config = looking_config();
    run_looking_pair(&config);
    meet(&pair[0], &pair[1], 1);
    for (unsigned i = 1; i <= ANSWERS; i++) {
        assert_int_equal(cohort_send(pair[0].node, address(1), "silent", "x", 1), COHORT_OK);
        WAIT_FOR(atomic_load(&answerer.handled) == i);
    }
    assert_int_equal(atomic_load(&machine.begun), 0);
    close_looking_pair();
}

/* Read faster than it comes; how long there was nothing is for the machine to say. */
static void a_stream_is_waited_for(void **state)
{
    static const uint8_t much[256 * 1024];
    cohort_config config = looking_config();
    run_looking_pair(&config);
    meet(&pair[0], &pair[1], 1);
    for (unsigned i = 1; i <= ANSWERS; i++) {
        assert_int_equal(cohort_send(pair[0].node, address(1), "silent", much, sizeof much), COHORT_OK);
        WAIT_FOR(atomic_load(&answerer.handled) == i);
    }
    assert_true(atomic_load(&machine.begun) > 0);
    close_looking_pair();
}

static void the_application_s_thread_is_not_held_up(void **state)
{
    cohort_config config = looking_config();
    config.threads = COHORT_THREADS_NONE;
    run_looking_pair(&config);
    assert_int_equal(cohort_node_add(pair[0].node, address(1), address(1), PORT), COHORT_OK);
    static struct asked asked[100];
    memset(asked, 0, sizeof asked);
    for (unsigned i = 0; i < UNIT_COUNT(asked); i++) {
        ask(&pair[0], 1, "same", "x", 10000, &asked[i]);
        WAIT_FOR(cohort_node_dispatch(pair[1].node) == COHORT_OK && atomic_load(&asked[i].calls) == 1);
        assert_int_equal(asked[i].status, COHORT_OK);
    }
    assert_int_equal(atomic_load(&machine.begun), 0);
    close_looking_pair();
}

/* The loop is told although mail of its own waits there, for which it need not be. An acknowledgement of the peer ends a look too: then once more. */
static void what_is_posted_meanwhile_is_done_at_once(void **state)
{
    char id[16];
    cohort_config config = looking_config();
    config.loop_count = 0; /* members are changed on the loop that looks */
    run_looking_pair(&config);
    look_for_long();
    for (unsigned i = 0; i < TRIES && atomic_load(&machine.left) == 0; i++) {
        unsigned begun = atomic_load(&machine.begun);
        ask_and_wait(1);
        if (looks_since(begun)) {
            (void)snprintf(id, sizeof id, "another-%u", i);
            assert_int_equal(cohort_node_add(pair[1].node, id, address(5), PORT), COHORT_OK);
        }
    }
    assert_int_equal(atomic_load(&machine.left), 1);
    close_looking_pair();
}

/* Not only what others post: a message of the application's own, to the member that is waited for. */
static void what_is_sent_meanwhile_goes_out_at_once(void **state)
{
    static struct answerer other;
    memset(&other, 0, sizeof other);
    bool looks = false;
    cohort_config config = looking_config();
    run_looking_pair(&config);
    handle(&pair[0], "aside", say_nothing, &other);
    look_for_long();
    for (unsigned i = 0; i < TRIES && !looks; i++) {
        ask_and_wait(1);
        usleep(QUIET_MS * 1000); /* the peer has acknowledged the answer, which ends a look too */
        looks = atomic_load(&machine.inside);
    }
    assert_true(looks);
    assert_int_equal(cohort_send(pair[1].node, address(0), "aside", "x", 1), COHORT_OK);
    uint64_t until = clock_ms() + 5000;
    while (atomic_load(&other.handled) == 0 && clock_ms() <= until) {
        sched_yield();
    }
    assert_int_equal(atomic_load(&other.handled), 1); /* and not when the look is over */
    close_looking_pair();
}

/* What was read last of a stream ended the link: nobody looks then, and the loop is not taken to be looking for ever after. */
static void a_stream_that_ends_the_link_is_not_waited_for(void **state)
{
    static const uint8_t much[48 * 1024]; /* in one frame, which the system keeps whole while the loop is held */
    cohort_config config = looking_config();
    config.limits.message_bytes_max = sizeof much - 1;
    run_looking_pair(&config);
    handle_gate(&pair[1]);
    meet(&pair[0], &pair[1], 1);
    hold_loop(pair);
    struct peer *peer = cohorti_peer_find(pair[1].node, address(0));
    cohorti_current_conn(peer)->look = (struct cohorti_look){0}; /* its loop is held: it would look after the next read */
    cohorti_peer_unref(peer);
    assert_int_equal(cohort_send(pair[0].node, address(1), "silent", much, sizeof much), COHORT_OK);
    WAIT_FOR(unread() >= sizeof much);
    atomic_store(&gate.open, true);
    WAIT_FOR(atomic_load(&pair[1].deactivated) > 0); /* COHORT_ESIZE */
    usleep(QUIET_MS * 1000);
    for (unsigned i = 0; i < pair[1].node->worker_count; i++) {
        struct runner *r = pair[1].node->workers[i].runner;
        cohorti_mutex_lock(&r->mail_lock);
        bool looks = r->looks;
        cohorti_mutex_unlock(&r->mail_lock);
        assert_false(looks);
    }
    assert_int_equal(cohort_node_remove(pair[0].node, address(1)), COHORT_OK);
    close_looking_pair();
}

/* Much else came with the question. The peer learns that it was taken before the look, which may be one of many in a row. */
static void what_was_read_is_acknowledged_before_a_look(void **state)
{
    static uint8_t much[COHORTI_ACK_BYTES + 1000];
    bool looked = false;
    cohort_config config = looking_config();
    run_looking_pair(&config);
    handle_gate(&pair[1]);
    look_for_long();
    for (unsigned i = 0; i < TRIES && !looked; i++) {
        struct asked asked = {0};
        hold_loop(pair);
        unsigned begun = atomic_load(&machine.begun);
        assert_int_equal(cohort_send(pair[0].node, address(1), "silent", much, sizeof much), COHORT_OK);
        ask(&pair[0], 1, "same", "x", 10000, &asked);
        release_loop(pair, FRAME(sizeof much) + FRAME(1));
        expect_result(&asked, COHORT_OK);
        looked = looks_since(begun);
    }
    assert_true(looked);
    assert_true(atomic_load(&machine.untold) < COHORTI_ACK_BYTES);
    close_looking_pair();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(answers_are_followed_by_looks),
        node_test(without_time_for_it_none_does),
        node_test(what_is_not_answered_is_not_followed_by_one),
        node_test(a_stream_is_waited_for),
        node_test(the_application_s_thread_is_not_held_up),
        node_test(what_is_posted_meanwhile_is_done_at_once),
        node_test(what_is_sent_meanwhile_goes_out_at_once),
        node_test(a_stream_that_ends_the_link_is_not_waited_for),
        node_test(what_was_read_is_acknowledged_before_a_look),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
