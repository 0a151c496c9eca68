/* SPDX-License-Identifier: Apache-2.0
 *
 * node/requests and session: what becomes of requests when links break, and when the member or either node goes. Each ends exactly once.
 */
#include "machine.h"
#include "sink.h"

static void run_pair(struct rig_node *n)
{
    run_without_handlers(&n[1], 1, NULL);
    run_without_handlers(&n[0], 0, NULL);
    meet(&n[0], &n[1], 1);
}

/* ---- links break ---------------------------------------------------------------------------------------------------- */

static void a_reply_finds_its_way_over_the_next_link(void **state)
{
    static struct rig_node n[2];
    struct asked a = {0};
    struct answerer s = {0};
    run_pair(n);
    handle(&n[1], "later", keep_call, &s);
    ask(&n[0], 1, "later", "", 0, &a);
    WAIT_FOR(atomic_load(&s.kept_count) == 1);
    assert_true(break_links() > 0);
    WAIT_FOR(atomic_load(&n[0].deactivated) == 1 && atomic_load(&n[1].deactivated) == 1);
    assert_int_equal(cohort_reply(s.kept[0], "still", 5), COHORT_OK); /* whether the next link stands yet or not */
    expect_result(&a, COHORT_OK);
    assert_memory_equal(a.data, "still", 5);
    assert_int_equal(atomic_load(&s.handled), 1);
    assert_int_equal(late_replies(&n[0]), 0);
    rig_close_pair(n);
}

/* Broken wherever it stands, again and again: each request is handled once, and each reply comes once and belongs to it. */
static void links_break_under_a_stream_of_requests(void **state)
{
    static struct rig_node n[2];
    static struct asked asked[3000];
    struct answerer s = {0};
    memset(asked, 0, sizeof asked);
    run_pair(n);
    handle(&n[1], "same", reply_same, &s);
    for (unsigned i = 0; i < UNIT_COUNT(asked); i++) {
        char data[16];
        (void)snprintf(data, sizeof data, "%u", i);
        ask(&n[0], 1, "same", data, 0, &asked[i]);
        if (i % 150 == 149) {
            WAIT_FOR(atomic_load(&asked[i - 140].calls) > 0); /* a link stood, and more is under way on it */
            WAIT_FOR(break_links() > 0);
        }
    }
    for (unsigned i = 0; i < UNIT_COUNT(asked); i++) {
        char data[16];
        (void)snprintf(data, sizeof data, "%u", i);
        expect_result(&asked[i], COHORT_OK);
        assert_int_equal(asked[i].data_len, strlen(data));
        assert_memory_equal(asked[i].data, data, strlen(data));
    }
    assert_true(atomic_load(&n[0].deactivated) >= 5);
    assert_int_equal(atomic_load(&s.handled), UNIT_COUNT(asked));
    assert_int_equal(atomic_load(&s.wrong), 0);
    assert_int_equal(late_replies(&n[0]), 0);
    rig_close_pair(n);
}

/* ---- answers that are owed ------------------------------------------------------------------------------------------ */

static struct rig_node owing[2];

static void lose_memory(cohort_node *node, const cohort_message *message, void *arg)
{
    atomic_store(&owing[1].memory.fail_all, true);
    say_nothing(node, message, arg);
}

static void nothing_comes_of_it(struct asked *a)
{
    uint64_t begin = clock_ms();
    WAIT_FOR(clock_ms() - begin > QUIET_MS);
    assert_int_equal(atomic_load(&a->calls), 0);
}

/* No handler replied, and there is no memory to say so. The caller set no time: it hears of it when there is memory again. */
static void an_answer_is_owed_while_there_is_no_memory(void **state)
{
    struct rig_node *n = owing;
    struct asked lost = {0}, nobody = {0};
    struct answerer s = {0};
    run_pair(n);
    handle(&n[1], "lose", lose_memory, &s);
    ask(&n[0], 1, "lose", "", 0, &lost);
    WAIT_FOR(atomic_load(&s.handled) == 1);
    nothing_comes_of_it(&lost);
    atomic_store(&n[1].memory.fail_all, false);
    expect_result(&lost, COHORT_ENOREPLY);
    ask(&n[0], 1, "nobody", "", 0, &nobody); /* and after that as before */
    expect_result(&nobody, COHORT_ENOHANDLER);
    rig_close_pair(n);
}

static void the_same_for_a_handler_in_a_queue(void **state)
{
    struct rig_node *n = owing;
    struct asked lost = {0};
    struct answerer s = {0};
    run_pair(n);
    cohort_queue *queue = new_queue(&n[1], 0);
    handle_in(&n[1], queue, "queued", say_nothing, &s, NULL);
    ask(&n[0], 1, "queued", "", 0, &lost);
    WAIT_FOR(is_readable(queue) && unacknowledged(&n[0], 1) == 0);
    atomic_store(&n[1].memory.fail_all, true);
    assert_int_equal(cohort_queue_dispatch(queue, 1), 1);
    nothing_comes_of_it(&lost);
    atomic_store(&n[1].memory.fail_all, false);
    expect_result(&lost, COHORT_ENOREPLY);
    rig_close_pair(n);
}

static _Atomic bool pay_meanwhile; /* somebody else pays too while control writes what it pays */

static int send_and_pay(struct cohorti_socket *s, const struct cohorti_bytes *runs, size_t count, size_t *n)
{
    struct cohort_node *node = owing[1].node;
    if (real_ops->loop_is_current(node->control.loop) && atomic_exchange(&pay_meanwhile, false)) {
        struct peer *peer = cohorti_peer_find(node, address(0));
        cohorti_mutex_lock(&peer->lock); /* as the loop of the link does when an acknowledgement comes */
        cohorti_requests_pay(peer);
        cohorti_mutex_unlock(&peer->lock);
        cohorti_peer_unref(peer);
    }
    return real_ops->send(s, runs, count, n);
}

static void run_pair_on_machine(struct rig_node *n)
{
    rig_begin(&n[1]);
    cohort_config config = rig_config(&n[1], 1);
    rig_open(&n[1], &config);
    replace_machine(&n[1])->send = send_and_pay;
    rig_start(&n[1]);
    run_without_handlers(&n[0], 0, NULL);
    meet(&n[0], &n[1], 1);
}

static void what_is_owed_is_paid_once_whoever_pays_meanwhile(void **state)
{
    struct rig_node *n = owing;
    struct asked lost[2] = {0}, nobody = {0};
    struct answerer s = {0};
    run_pair_on_machine(n);
    cohort_queue *queue = new_queue(&n[1], 0);
    handle_in(&n[1], queue, "queued", say_nothing, &s, NULL);
    ask(&n[0], 1, "queued", "", 0, &lost[0]);
    ask(&n[0], 1, "queued", "", 0, &lost[1]);
    WAIT_FOR(is_readable(queue) && unacknowledged(&n[0], 1) == 0);
    atomic_store(&n[1].memory.fail_all, true);
    assert_int_equal(cohort_queue_dispatch(queue, 2), 2);
    nothing_comes_of_it(&lost[0]);
    atomic_store(&pay_meanwhile, true);
    atomic_store(&n[1].memory.fail_all, false);
    expect_result(&lost[0], COHORT_ENOREPLY);
    expect_result(&lost[1], COHORT_ENOREPLY);
    assert_false(atomic_load(&pay_meanwhile)); /* it was so */
    ask(&n[0], 1, "nobody", "", 0, &nobody);
    expect_result(&nobody, COHORT_ENOHANDLER);
    assert_int_equal(late_replies(&n[0]), 0);
    rig_close_pair(n);
}

/* What is owed to a member that goes ends with its session, there and here. */
static void what_is_owed_ends_with_the_session(void **state)
{
    struct rig_node *n = owing;
    struct asked a = {0};
    struct answerer s = {0};
    run_pair(n);
    handle(&n[1], "lose", lose_memory, &s);
    ask(&n[0], 1, "lose", "", 0, &a);
    WAIT_FOR(atomic_load(&s.handled) == 1);
    nothing_comes_of_it(&a);
    assert_int_equal(rig_close(&n[0]), COHORT_OK);
    assert_int_equal(atomic_load(&a.calls), 1);
    assert_int_equal(a.status, COHORT_ECLOSED);
    atomic_store(&n[1].memory.fail_all, false);
    assert_int_equal(rig_close(&n[1]), COHORT_OK); /* and nothing of it is left */
}

struct flood {
    _Atomic unsigned ended, wrong;
};

static void on_flood_result(cohort_node *node, const cohort_result *result, void *arg)
{
    struct flood *f = arg;
    bool expected = result->status == COHORT_OK || result->status == COHORT_ENOREPLY;
    atomic_fetch_add(&f->wrong, !expected);
    atomic_fetch_add(&f->ended, 1);
}

static void reply_much(cohort_node *node, const cohort_message *message, void *arg)
{
    uint8_t body[1000] = {0};
    int status = cohort_reply(message->call, body, sizeof body);
    atomic_fetch_add((_Atomic unsigned *)arg, status != COHORT_OK);
}

/* The lane back takes nothing, so all the room that replies have is used up, and that of the errors in their place. None is forgotten. */
static void answers_are_owed_while_there_is_no_room(void **state)
{
    static struct rig_node n[2];
    struct flood flood = {0};
    struct sink s = {0};
    _Atomic unsigned no_room = 0;
    cohort_handle_id ignored;
    cohort_limits limits = small_limits();
    run_limited(n, &limits);
    cohort_queue *queue = new_queue(&n[0], 0);
    handle_in(&n[0], queue, "plain", take_in_order, &s, NULL);
    assert_int_equal(cohort_handle(n[1].node, "much", reply_much, &no_room, NULL, &ignored), COHORT_OK);
    uint32_t next = fill_up(&n[1], 0, "plain", 0, 1000);
    unsigned asked = 0;
    for (; asked < 5000; asked++) {
        int status = COHORT_EAGAIN;
        WAIT_FOR((status = cohort_request(n[0].node, address(1), "much", "x", 1, 0, on_flood_result, &flood, NULL)) == COHORT_OK);
    }
    WAIT_FOR(unacknowledged(&n[0], 1) == 0);
    assert_true(atomic_load(&no_room) > 4000);
    assert_int_equal(atomic_load(&flood.ended), 0);
    WAIT_FOR((cohort_queue_dispatch(queue, SIZE_MAX), atomic_load(&flood.ended) == asked));
    WAIT_FOR((cohort_queue_dispatch(queue, SIZE_MAX), atomic_load(&s.handled) == next));
    assert_int_equal(atomic_load(&flood.wrong) + atomic_load(&s.wrong), 0);
    rig_close_pair(n);
    assert_int_equal(atomic_load(&flood.ended), asked);
}

/* ---- the member goes ------------------------------------------------------------------------------------------------ */

static void a_removed_member_answers_nobody(void **state)
{
    static struct rig_node n[2];
    struct asked a = {0}, b = {0};
    struct answerer s = {0};
    run_pair(n);
    handle(&n[1], "later", keep_call, &s);
    ask(&n[0], 1, "later", "", 0, &a);
    ask(&n[0], 1, "later", "", 20000, &b);
    WAIT_FOR(atomic_load(&s.kept_count) == 2);
    assert_int_equal(cohort_node_remove(n[0].node, address(1)), COHORT_OK);
    expect_result(&a, COHORT_EREMOVED);
    expect_result(&b, COHORT_EREMOVED);
    assert_int_equal(cohort_request(n[0].node, address(1), "later", NULL, 0, 0, on_result, &a, NULL), COHORT_ENOPEER);
    assert_int_equal(cohort_cancel(n[0].node, address(1), a.id), COHORT_EINVAL);
    assert_int_equal(cohort_reply(s.kept[0], "x", 1), COHORT_OK); /* for all it knows there will be a link again */
    assert_int_equal(cohort_node_remove(n[1].node, address(0)), COHORT_OK);
    assert_int_equal(cohort_reply(s.kept[1], "x", 1), COHORT_ENOPEER);
    assert_int_equal(atomic_load(&a.calls) + atomic_load(&b.calls), 2);
    rig_close_pair(n);
}

static void remove_who_is_silent(cohort_node *node, const cohort_result *result, void *arg)
{
    bool expected = result->status == COHORT_ETIMEDOUT && cohort_node_remove(node, result->from) == COHORT_OK;
    atomic_fetch_add((_Atomic unsigned *)arg, expected ? 1 : 1000);
}

/* On control, where that takes effect before the result has returned: nothing else holds the member then. */
static void a_member_that_never_came_is_removed_when_time_is_over(void **state)
{
    static struct rig_node n;
    struct asked waits = {0};
    _Atomic unsigned removed = 0;
    run_without_handlers(&n, 0, NULL);
    assert_int_equal(cohort_node_add(n.node, address(1), address(1), PORT), COHORT_OK);
    ask(&n, 1, "later", "", 20000, &waits);
    assert_int_equal(cohort_request(n.node, address(1), "later", NULL, 0, 20, remove_who_is_silent, &removed, NULL), COHORT_OK);
    expect_result(&waits, COHORT_EREMOVED);
    WAIT_FOR(atomic_load(&removed) > 0);
    assert_int_equal(atomic_load(&removed), 1);
    assert_int_equal(cohort_node_remove(n.node, address(1)), COHORT_ENOPEER); /* and control goes on */
    assert_int_equal(rig_close(&n), COHORT_OK);
}

/* The request waits in a queue that nobody empties while its process goes and another comes. */
static void lose_a_request_with_its_process(struct rig_node *n, struct answerer *s)
{
    cohort_queue *queue = NULL;
    cohort_handle_id ignored;
    assert_int_equal(cohort_queue_open(n[1].node, 0, &queue), COHORT_OK);
    assert_int_equal(cohort_handle_in(n[1].node, queue, "queued", reply_same, s, NULL, &ignored), COHORT_OK);
}

static void restart_answerer(struct rig_node *n, struct answerer *s)
{
    (void)rig_close(&n[1]);
    WAIT_FOR(cohort_node_state(n[0].node, address(1)) != COHORT_ACTIVE);
    rig_begin(&n[1]);
    cohort_config config = rig_config(&n[1], 1);
    rig_open(&n[1], &config);
    handle(&n[1], "queued", reply_same, s);
    rig_start(&n[1]);
}

static void wait_until_queued(struct rig_node *n)
{
    cohort_link_stats stats = {.queued_bytes = 1};
    while (stats.queued_bytes > 0) { /* acknowledged: it is in the handler's queue */
        assert_int_equal(cohort_link_stats_get(n->node, address(1), &stats), COHORT_OK);
        sched_yield();
    }
}

static void a_new_process_answers_nothing_that_was_asked_of_the_old(void **state)
{
    static struct rig_node n[2];
    struct asked taken = {0}, away = {0}, later = {0};
    struct answerer s = {0};
    run_pair(n);
    lose_a_request_with_its_process(n, &s);
    ask(&n[0], 1, "queued", "taken", 0, &taken);
    wait_until_queued(&n[0]);
    (void)rig_close(&n[1]);
    WAIT_FOR(cohort_node_state(n[0].node, address(1)) != COHORT_ACTIVE);
    ask(&n[0], 1, "queued", "away", 0, &away); /* of the session with the old one still */
    assert_int_equal(atomic_load(&taken.calls) + atomic_load(&away.calls), 0);
    rig_begin(&n[1]);
    cohort_config config = rig_config(&n[1], 1);
    rig_open(&n[1], &config);
    handle(&n[1], "queued", reply_same, &s);
    rig_start(&n[1]);
    expect_result(&taken, COHORT_ERESTARTED);
    expect_result(&away, COHORT_ERESTARTED);
    ask(&n[0], 1, "queued", "new", 20000, &later);
    expect_result(&later, COHORT_OK);
    assert_int_equal(atomic_load(&s.handled), 1);
    assert_int_equal(atomic_load(&taken.calls) + atomic_load(&away.calls), 2);
    rig_close_pair(n);
}

struct retrying {
    struct rig_node *n;
    _Atomic unsigned restarted, answered, wrong;
};

/* What an application does: ask again. */
static void on_result_retry(cohort_node *node, const cohort_result *result, void *arg)
{
    struct retrying *r = arg;
    if (result->status == COHORT_ERESTARTED) {
        atomic_fetch_add(&r->restarted, 1);
        atomic_fetch_add(&r->wrong,
                         cohort_request(node, result->from, "queued", "again", 5, 0, on_result_retry, r, NULL) != COHORT_OK);
    } else {
        atomic_fetch_add(&r->wrong, result->status != COHORT_OK);
        atomic_fetch_add(&r->answered, 1);
    }
}

static void asking_again_when_the_member_was_restarted_asks_once(void **state)
{
    static struct rig_node n[2];
    struct retrying r = {n, 0, 0, 0};
    struct answerer s = {0};
    run_pair(n);
    lose_a_request_with_its_process(n, &s);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(cohort_request(n[0].node, address(1), "queued", "x", 1, 0, on_result_retry, &r, NULL), COHORT_OK);
    }
    wait_until_queued(&n[0]);
    restart_answerer(n, &s);
    WAIT_FOR(atomic_load(&r.answered) == 3);
    assert_int_equal(atomic_load(&r.restarted), 3);
    assert_int_equal(atomic_load(&r.wrong), 0);
    WAIT_FOR(atomic_load(&s.handled) == 3);
    rig_close_pair(n);
}

static void who_asked_is_gone_when_the_reply_is_ready(void **state)
{
    static struct rig_node n[2];
    struct asked a = {0}, b = {0}, c = {0};
    struct answerer s = {0};
    run_pair(n);
    handle(&n[1], "later", keep_call, &s);
    ask(&n[0], 1, "later", "", 0, &a);
    ask(&n[0], 1, "later", "", 0, &b);
    WAIT_FOR(atomic_load(&s.kept_count) == 2);
    (void)rig_close(&n[0]);
    assert_int_equal(atomic_load(&a.calls), 1); /* before it was closed */
    assert_int_equal(a.status, COHORT_ECLOSED);
    assert_int_equal(b.status, COHORT_ECLOSED);
    run_without_handlers(&n[0], 0, NULL);
    meet(&n[0], &n[1], 1);
    ask(&n[0], 1, "later", "", 0, &c); /* of the new process: the session is its own by now */
    WAIT_FOR(atomic_load(&s.kept_count) == 3);
    assert_int_equal(cohort_reply(s.kept[0], "x", 1), COHORT_ENOPEER);
    assert_int_equal(cohort_reply_error(s.kept[1], COHORT_EHANDLER, "x"), COHORT_ENOPEER);
    assert_int_equal(cohort_reply(s.kept[2], "yours", 5), COHORT_OK);
    expect_result(&c, COHORT_OK);
    assert_memory_equal(c.data, "yours", 5);
    assert_int_equal(late_replies(&n[0]), 0);
    assert_int_equal(atomic_load(&a.calls) + atomic_load(&b.calls), 2);
    rig_close_pair(n);
}

/* ---- the own node is closed ----------------------------------------------------------------------------------------- */

static void on_result_ask_again(cohort_node *node, const cohort_result *result, void *arg)
{
    struct retrying *r = arg;
    atomic_fetch_add(&r->wrong, result->status != COHORT_ECLOSED);
    atomic_fetch_add(&r->wrong,
                     cohort_request(node, result->from, "later", NULL, 0, 0, on_result_ask_again, r, NULL) != COHORT_ECLOSED);
    atomic_fetch_add(&r->answered, 1);
}

static void closing_ends_all_that_wait(void **state)
{
    static struct rig_node n[2];
    struct retrying r = {n, 0, 0, 0};
    struct asked away = {0};
    struct answerer s = {0};
    run_pair(n);
    handle(&n[1], "later", keep_call, &s);
    assert_int_equal(cohort_node_add(n[0].node, address(6), address(6), PORT), COHORT_OK);
    ask(&n[0], 6, "later", "", 20000, &away); /* to somebody who never came */
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(cohort_request(n[0].node, address(1), "later", NULL, 0, i % 2 * 20000, on_result_ask_again, &r, NULL),
                         COHORT_OK);
    }
    WAIT_FOR(atomic_load(&s.kept_count) == 20);
    (void)rig_close(&n[0]);
    assert_int_equal(atomic_load(&r.answered), 20);
    assert_int_equal(atomic_load(&r.wrong), 0);
    assert_int_equal(atomic_load(&away.calls), 1);
    assert_int_equal(away.status, COHORT_ECLOSED);
    for (unsigned i = 0; i < 20; i++) { /* the process may come back, for all we know: it is kept, or refused */
        int status = cohort_reply(s.kept[i], "x", 1);
        assert_true(status == COHORT_OK || status == COHORT_ENOPEER);
    }
    (void)rig_close(&n[1]);
}

struct closing {
    struct rig_node *n;
    _Atomic bool done;
};

static void *close_it(void *arg)
{
    struct closing *c = arg;
    (void)cohort_node_close(c->n->node, 5000);
    atomic_store(&c->done, true);
    return NULL;
}

static void reply_until_closed(cohort_node *node, const cohort_message *message, void *arg)
{
    struct answerer *s = arg;
    cohort_call *call = cohort_call_keep(message->call);
    cohort_node_stats stats;
    atomic_fetch_add(&s->handled, 1);
    while (cohort_send(node, message->from, "s", NULL, 0) != COHORT_ECLOSED) { /* until the node is closing */
        cohort_node_stats_get(node, &stats);
    }
    atomic_fetch_add(&s->wrong, cohort_reply(call, "x", 1) != COHORT_ECLOSED); /* and the call is given back */
}

static void a_node_that_closes_replies_no_more(void **state)
{
    static struct rig_node n[2];
    struct asked a = {0};
    struct answerer s = {0};
    pthread_t thread;
    run_pair(n);
    handle(&n[1], "closing", reply_until_closed, &s);
    ask(&n[0], 1, "closing", "", 20000, &a);
    WAIT_FOR(atomic_load(&s.handled) == 1);
    struct closing c = {&n[1], false};
    assert_int_equal(pthread_create(&thread, NULL, close_it, &c), 0);
    pthread_join(thread, NULL);
    assert_true(atomic_load(&c.done));
    assert_int_equal(atomic_load(&n[1].memory.blocks), 0);
    assert_int_equal(atomic_load(&s.wrong), 0);
    assert_int_equal(cohort_cancel(n[0].node, address(1), a.id), COHORT_OK); /* it waits for a process to come */
    expect_result(&a, COHORT_ECANCELLED);
    (void)rig_close(&n[0]);
}

struct again {
    struct asked asked;
    int status; /* of asking once more when it had ended */
    int sent;
};

static void ask_again(cohort_node *node, const cohort_result *result, void *arg)
{
    struct again *a = arg;
    a->status = cohort_request(node, result->from, "s", "x", 1, 0, on_result, &a->asked, NULL);
    a->sent = cohort_send(node, result->from, "s", "x", 1);
    on_result(node, result, &a->asked);
}

/* What was asked before is told so, and what is asked then does not wait for a session that does not come. */
static void a_member_turns_out_to_be_of_2014(void **state)
{
    static struct rig_node n;
    struct again a = {.asked = {0}};
    rig_run(&n, 0);
    assert_int_equal(cohort_node_add(n.node, address(5), address(5), PORT), COHORT_OK);
    assert_int_equal(cohort_request(n.node, address(5), "s", "x", 1, 0, ask_again, &a, NULL), COHORT_OK);
    int fd = bare_connect(0, 5, 0);
    expect_result(&a.asked, COHORT_ELEGACY);
    assert_int_equal(a.status, COHORT_ELEGACY);
    assert_int_equal(a.sent, COHORT_ELEGACY);
    WAIT_FOR(atomic_load(&n.activated) == 1);
    close(fd);
    WAIT_FOR(atomic_load(&n.deactivated) == 1);
    assert_int_equal(rig_close(&n), COHORT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(an_answer_is_owed_while_there_is_no_memory),
        node_test(a_member_turns_out_to_be_of_2014),
        node_test(the_same_for_a_handler_in_a_queue),
        node_test(what_is_owed_is_paid_once_whoever_pays_meanwhile),
        node_test(what_is_owed_ends_with_the_session),
        node_test(answers_are_owed_while_there_is_no_room),
        node_test(a_reply_finds_its_way_over_the_next_link),
        node_test(links_break_under_a_stream_of_requests),
        node_test(a_removed_member_answers_nobody),
        node_test(a_member_that_never_came_is_removed_when_time_is_over),
        node_test(a_new_process_answers_nothing_that_was_asked_of_the_old),
        node_test(asking_again_when_the_member_was_restarted_asks_once),
        node_test(who_asked_is_gone_when_the_reply_is_ready),
        node_test(closing_ends_all_that_wait),
        node_test(a_node_that_closes_replies_no_more),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
