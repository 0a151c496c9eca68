/* SPDX-License-Identifier: Apache-2.0
 *
 * Time to live over real nodes: the timer that withdraws, what is told, and what happens at each end of a session.
 */
#include "sink.h"

#define TTL_MS 30
#define LONG_MS 600000
#define MESSAGE_BYTES 1000

/* What was told as undelivered, in order. */
struct losses {
    _Atomic unsigned count, wrong;
    uint32_t next;
    int reason;
};

static void on_lost(cohort_node *node, const cohort_undelivered *lost, void *arg)
{
    struct losses *l = arg;
    bool expected = lost->reason == l->reason && !lost->maybe_handled && number_of(lost->data, lost->data_len) == l->next &&
                    strcmp(lost->to, address(1)) == 0 && is_intact(lost->data, lost->data_len);
    atomic_fetch_add(&l->wrong, !expected);
    l->next++;
    atomic_fetch_add(&l->count, 1);
}

static void listen_to(struct rig_node *n, struct losses *l, int reason)
{
    cohort_handle_id ignored;
    *l = (struct losses){.reason = reason};
    assert_int_equal(cohort_on_undelivered(n->node, on_lost, l, NULL, &ignored), COHORT_OK);
}

static void set_ttl(struct rig_node *n, const char *subject, uint32_t ttl_ms)
{
    cohort_subject_options options;
    COHORT_SUBJECT_OPTIONS_INIT(&options);
    options.ttl_ms = ttl_ms;
    assert_int_equal(cohort_subject_set(n->node, subject, &options), COHORT_OK);
}

static void say(struct rig_node *n, const char *subject, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        assert_int_equal(send_number(n, 1, subject, i, MESSAGE_BYTES), COHORT_OK);
    }
}

/* 0 knows 1, which is not there yet. */
static void run_alone(struct rig_node *n)
{
    run_without_handlers(&n[0], 0, NULL);
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
}

static void what_waits_for_a_member_that_is_away_expires(void **state)
{
    static struct rig_node n[2];
    struct losses lost;
    struct sink s = {0};
    run_alone(n);
    listen_to(&n[0], &lost, COHORT_ETIMEDOUT);
    set_ttl(&n[0], "brief", TTL_MS);
    set_ttl(&n[0], "long", LONG_MS);
    uint64_t begin = clock_ms();
    say(&n[0], "brief", 0, 10);
    say(&n[0], "long", 0, 3);
    say(&n[0], "brief", 10, 10);
    say(&n[0], "ever", 3, 3);
    WAIT_FOR(atomic_load(&lost.count) == 20);
    assert_true(clock_ms() - begin >= TTL_MS);
    assert_int_equal(unacknowledged(&n[0], 1) / FRAME(MESSAGE_BYTES), 6);
    assert_int_equal(totals(&n[0]).messages_undelivered, 20);
    run_without_handlers(&n[1], 1, NULL);
    handle_in(&n[1], NULL, NULL, take_in_order, &s, NULL);
    WAIT_FOR(unacknowledged(&n[0], 1) == 0);
    assert_int_equal(atomic_load(&s.handled), 6);
    assert_int_equal(atomic_load(&s.wrong) + atomic_load(&lost.wrong), 0);
    rig_close_pair(n);
}

static void what_waits_for_credit_expires(void **state)
{
    static struct rig_node n[2];
    struct losses lost;
    struct sink s = {0};
    cohort_limits limits = small_limits();
    limits.peer_queue_bytes_max = 1024 * 1024;
    run_limited(n, &limits);
    listen_to(&n[0], &lost, COHORT_ETIMEDOUT);
    cohort_queue *queue = new_queue(&n[1], 0);
    handle_in(&n[1], queue, "queued", take_in_order, &s, NULL);
    handle_in(&n[1], queue, "brief", take_in_order, &s, NULL);
    uint32_t next = 0;
    while (next < 3 * SMALL_LANE / MESSAGE_BYTES) { /* beyond all credit */
        say(&n[0], "queued", next++, 1);
    }
    set_ttl(&n[0], "brief", TTL_MS);
    say(&n[0], "brief", 0, 10);
    WAIT_FOR(atomic_load(&lost.count) == 10);
    assert_int_equal(atomic_load(&lost.wrong), 0);
    say(&n[0], "queued", next++, 1);
    WAIT_FOR((cohort_queue_dispatch(queue, 7), atomic_load(&s.next) == next && unacknowledged(&n[0], 1) == 0));
    assert_int_equal(atomic_load(&s.wrong), 0); /* what is void has no effect there */
    assert_int_equal(totals(&n[1]).messages_unhandled, 0);
    rig_close_pair(n);
}

/* What fits is written at once, and is handled however long that takes. */
static void what_was_written_does_not_expire(void **state)
{
    static struct rig_node n[2];
    struct losses lost;
    struct sink s = {0};
    run_limited(n, NULL);
    listen_to(&n[0], &lost, COHORT_ETIMEDOUT);
    set_ttl(&n[0], "brief", TTL_MS);
    atomic_store(&s.hold, true);
    handle_in(&n[1], NULL, "brief", take_in_order, &s, NULL);
    say(&n[0], "brief", 0, 1);
    WAIT_FOR(atomic_load(&s.inside));
    uint64_t begin = clock_ms();
    WAIT_FOR(clock_ms() - begin > 3 * TTL_MS);
    atomic_store(&s.hold, false);
    WAIT_FOR(atomic_load(&s.handled) == 1 && unacknowledged(&n[0], 1) == 0);
    assert_int_equal(atomic_load(&lost.count), 0);
    rig_close_pair(n);
}

/* Not written yet when the process of the member was replaced: it goes on to the new one, or its time ends. */
static void a_deadline_goes_along_to_the_next_process(void **state)
{
    static struct rig_node n[2];
    struct losses lost;
    struct sink s = {0};
    run_limited(n, NULL);
    set_ttl(&n[0], "long", LONG_MS);
    set_ttl(&n[0], "brief", 20 * TTL_MS);
    assert_int_equal(rig_close(&n[1]), COHORT_OK);
    WAIT_FOR(cohort_node_state(n[0].node, address(1)) == COHORT_INACTIVE);
    listen_to(&n[0], &lost, COHORT_ETIMEDOUT);
    say(&n[0], "brief", 0, 5);
    say(&n[0], "long", 0, 5);
    WAIT_FOR(atomic_load(&lost.count) == 5);
    run_without_handlers(&n[1], 1, NULL);
    handle_in(&n[1], NULL, NULL, take_in_order, &s, NULL);
    WAIT_FOR(atomic_load(&s.handled) == 5);
    assert_int_equal(atomic_load(&s.wrong) + atomic_load(&lost.wrong), 0);
    rig_close_pair(n);
}

static void removal_and_close_tell_what_still_had_time(void **state)
{
    static struct rig_node n[1];
    struct losses removed, closed;
    run_alone(n);
    set_ttl(&n[0], "long", LONG_MS);
    listen_to(&n[0], &removed, COHORT_EREMOVED);
    say(&n[0], "long", 0, 5);
    assert_int_equal(cohort_node_remove(n[0].node, address(1)), COHORT_OK);
    WAIT_FOR(atomic_load(&removed.count) == 5);
    assert_int_equal(atomic_load(&removed.wrong), 0);
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    removed.reason = COHORT_ECLOSED;
    removed.next = 0;
    listen_to(&n[0], &closed, COHORT_ECLOSED);
    say(&n[0], "long", 0, 5);
    assert_int_equal(rig_close(&n[0]), COHORT_ETIMEDOUT);
    assert_int_equal(atomic_load(&closed.count), 5);
    assert_int_equal(atomic_load(&closed.wrong) + atomic_load(&removed.wrong), 0);
}

/* What expires makes room: who was told EAGAIN hears of it. */
static void on_writable(cohort_node *node, const char *id, cohort_lane lane, void *arg)
{
    atomic_fetch_add((_Atomic unsigned *)arg, lane == COHORT_LANE_NORMAL ? 1 : 1000);
}

static void what_expires_makes_room(void **state)
{
    static struct rig_node n[1];
    _Atomic unsigned writable = 0;
    cohort_handle_id ignored;
    cohort_limits limits = small_limits();
    run_without_handlers(&n[0], 0, &limits);
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    assert_int_equal(cohort_on_writable(n[0].node, on_writable, &writable, NULL, &ignored), COHORT_OK);
    set_ttl(&n[0], "brief", 10 * TTL_MS);
    uint32_t next = fill(&n[0], 1, "brief", 0, MESSAGE_BYTES);
    assert_true(next >= SMALL_LANE / FRAME(MESSAGE_BYTES) - 1);
    WAIT_FOR(atomic_load(&writable) > 0);
    WAIT_FOR(totals(&n[0]).messages_undelivered == next);
    assert_int_equal(atomic_load(&writable), 1);
    assert_int_equal(send_number(&n[0], 1, "ever", 0, MESSAGE_BYTES), COHORT_OK);
    assert_int_equal(rig_close(&n[0]), COHORT_ETIMEDOUT);
}

struct removing {
    _Atomic unsigned expired, removed, wrong;
};

static void remove_who_did_not_come(cohort_node *node, const cohort_undelivered *lost, void *arg)
{
    struct removing *r = arg;
    if (lost->reason == COHORT_ETIMEDOUT) {
        atomic_fetch_add(&r->wrong, cohort_node_remove(node, lost->to) != COHORT_OK);
        atomic_fetch_add(&r->expired, 1);
    } else {
        atomic_fetch_add(&r->wrong, lost->reason != COHORT_EREMOVED || strcmp(lost->subject, "ever") != 0);
        atomic_fetch_add(&r->removed, 1);
    }
}

/* On control, where that takes effect before the listener has returned: nothing else holds the member then. */
static void a_member_may_be_removed_by_who_is_told(void **state)
{
    static struct rig_node n[1];
    struct removing r = {0};
    cohort_handle_id ignored;
    run_alone(n);
    assert_int_equal(cohort_on_undelivered(n[0].node, remove_who_did_not_come, &r, NULL, &ignored), COHORT_OK);
    set_ttl(&n[0], "brief", TTL_MS);
    say(&n[0], "ever", 0, 3);
    say(&n[0], "brief", 0, 1);
    WAIT_FOR(totals(&n[0]).messages_undelivered == 4);
    assert_int_equal(atomic_load(&r.expired), 1);
    assert_int_equal(atomic_load(&r.removed), 3);
    assert_int_equal(atomic_load(&r.wrong), 0);
    assert_int_equal(cohort_node_remove(n[0].node, address(1)), COHORT_ENOPEER); /* and control goes on */
    assert_int_equal(rig_close(&n[0]), COHORT_OK);
}

static void on_release(void *arg)
{
    atomic_fetch_add((_Atomic unsigned *)arg, 1);
}

/* What expired while a link stood without credit fills the lane until the link ends, also if the member stays away. Its bytes are given back
 * then, too. */
static void what_has_expired_makes_room_when_the_link_ends(void **state)
{
    static struct rig_node n[2];
    static const uint8_t body[8 * 1024];
    struct sink s = {0};
    _Atomic unsigned writable = 0, released = 0;
    unsigned lent = 0;
    int status = COHORT_OK;
    cohort_handle_id ignored;
    cohort_limits limits = small_limits();
    limits.peer_queue_bytes_max = 1024 * 1024;
    run_limited(n, &limits);
    cohort_queue *queue = new_queue(&n[1], 0);
    handle_in(&n[1], queue, "queued", take_in_order, &s, NULL);
    assert_int_equal(cohort_on_writable(n[0].node, on_writable, &writable, NULL, &ignored), COHORT_OK);
    say(&n[0], "queued", 0, 3 * SMALL_LANE / MESSAGE_BYTES); /* beyond all credit */
    set_ttl(&n[0], "brief", TTL_MS);
    while ((status = cohort_send_ref(n[0].node, address(1), "brief", body, sizeof body, on_release, &released)) == COHORT_OK) {
        lent++;
    }
    assert_int_equal(status, COHORT_EAGAIN);
    WAIT_FOR(totals(&n[0]).messages_undelivered == lent);
    assert_in_range(fill(&n[0], 1, "ever", 0, sizeof body), 0, lent / 4); /* what of the first was acknowledged meanwhile */
    assert_int_equal(atomic_load(&writable) + atomic_load(&released), 0);
    assert_int_equal(cohort_node_remove(n[1].node, address(0)), COHORT_OK);
    WAIT_FOR(atomic_load(&writable) > 0 && atomic_load(&released) == lent);
    assert_int_equal(atomic_load(&writable), 1);
    WAIT_FOR(cohort_node_state(n[0].node, address(1)) == COHORT_INACTIVE);
    assert_int_equal(send_number(&n[0], 1, "ever", 0, sizeof body), COHORT_OK);
    close_whatever(n);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        node_test(what_waits_for_a_member_that_is_away_expires),
        node_test(what_waits_for_credit_expires),
        node_test(what_was_written_does_not_expire),
        node_test(a_deadline_goes_along_to_the_next_process),
        node_test(removal_and_close_tell_what_still_had_time),
        node_test(what_expires_makes_room),
        node_test(a_member_may_be_removed_by_who_is_told),
        node_test(what_has_expired_makes_room_when_the_link_ends),
    };
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL); /* one by name, in a debugger */
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
