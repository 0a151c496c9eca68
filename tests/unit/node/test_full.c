/* SPDX-License-Identifier: Apache-2.0
 *
 * node/full: what each policy does when a lane is full, and that the lane works again afterwards.
 */
#include "sink.h"

#define MESSAGE_BYTES 1000

/* 1 does not empty its queue, so the lane from 0 to it fills. */
struct stuck {
    struct rig_node n[2];
    cohort_queue *queue;
    struct sink sink;
    _Atomic unsigned writable;
    uint32_t next;
};

static void on_writable(cohort_node *node, const char *id, cohort_lane lane, void *arg)
{
    bool expected = lane == COHORT_LANE_NORMAL && strcmp(id, address(1)) == 0;
    atomic_fetch_add((_Atomic unsigned *)arg, expected ? 1 : 1000);
}

static void stick(struct stuck *s, cohort_when_full when_full, uint32_t block_ms)
{
    cohort_handle_id ignored;
    cohort_limits limits = small_limits();
    memset(s, 0, sizeof *s);
    run_limited(s->n, &limits);
    s->queue = new_queue(&s->n[1], 0);
    handle_in(&s->n[1], s->queue, NULL, take_in_order, &s->sink, NULL);
    assert_int_equal(cohort_on_writable(s->n[0].node, on_writable, &s->writable, NULL, &ignored), COHORT_OK);
    set_options(&s->n[0], "full", COHORT_LANE_NORMAL, when_full, block_ms);
    s->next = fill_up(&s->n[0], 1, "plain", 0, MESSAGE_BYTES);
}

static bool is_drained(struct stuck *s)
{
    (void)cohort_queue_dispatch(s->queue, SIZE_MAX);
    return atomic_load(&s->sink.next) == s->next && unacknowledged(&s->n[0], 1) == 0;
}

static void unstick(struct stuck *s)
{
    WAIT_FOR(is_drained(s));
    for (unsigned i = 0; i < 200; i++) {
        WAIT_FOR((cohort_queue_dispatch(s->queue, SIZE_MAX), send_number(&s->n[0], 1, "plain", s->next, MESSAGE_BYTES) == COHORT_OK));
        s->next++;
    }
    WAIT_FOR(is_drained(s));
    assert_int_equal(atomic_load(&s->sink.wrong), 0);
    rig_close_pair(s->n);
}

/* ---- fail ----------------------------------------------------------------------------------------------------------- */

static void fail_tells_writable_once(void **state)
{
    static struct stuck s;
    stick(&s, COHORT_FULL_FAIL, 0);
    unsigned before = atomic_load(&s.writable);
    assert_int_equal(send_number(&s.n[0], 1, "full", s.next, MESSAGE_BYTES), COHORT_EAGAIN);
    assert_int_equal(send_number(&s.n[0], 1, "full", s.next, MESSAGE_BYTES), COHORT_EAGAIN);
    WAIT_FOR(is_drained(&s));
    WAIT_FOR(atomic_load(&s.writable) == before + 1);
    round_trip(&s.n[0], 1);
    assert_int_equal(atomic_load(&s.writable), before + 1);
    assert_int_equal(send_number(&s.n[0], 1, "full", s.next++, MESSAGE_BYTES), COHORT_OK);
    unstick(&s);
}

/* ---- block ---------------------------------------------------------------------------------------------------------- */

struct sender {
    struct rig_node *n;
    cohort_route *route; /* NULL, or claim and commit over it */
    bool to_all;         /* a broadcast */
    struct asked *asked; /* NULL, or a request */
    uint32_t number;
    int status;
    uint64_t took_ms;
    _Atomic bool begun, done;
};

static int claim_number(cohort_route *route, uint32_t number)
{
    void *at = NULL;
    int status = cohort_route_claim(route, MESSAGE_BYTES, &at);
    if (status == COHORT_OK) {
        memset(at, (uint8_t)number, MESSAGE_BYTES);
        memcpy(at, &number, sizeof number);
        cohort_route_commit(route, MESSAGE_BYTES);
    }
    return status;
}

static int ask_number(struct rig_node *n, uint32_t number, struct asked *asked)
{
    uint8_t data[MESSAGE_BYTES];
    memset(data, (uint8_t)number, sizeof data);
    memcpy(data, &number, sizeof number);
    return cohort_request(n->node, address(1), "full", data, sizeof data, 0, on_result, asked, &asked->id);
}

static int broadcast_number(struct rig_node *n, uint32_t number)
{
    uint8_t data[MESSAGE_BYTES] = {0};
    size_t sent = 0;
    memcpy(data, &number, sizeof number);
    int status = cohort_broadcast(n->node, "full", data, sizeof data, &sent);
    return sent == 0 ? status : COHORT_ESTATE; /* to nobody */
}

static void *send_blocking(void *arg)
{
    struct sender *sender = arg;
    uint64_t begin = clock_ms();
    atomic_store(&sender->begun, true);
    sender->status = sender->to_all          ? broadcast_number(sender->n, sender->number)
                     : sender->route != NULL ? claim_number(sender->route, sender->number)
                     : sender->asked != NULL ? ask_number(sender->n, sender->number, sender->asked)
                                             : send_number(sender->n, 1, "full", sender->number, MESSAGE_BYTES);
    sender->took_ms = clock_ms() - begin;
    atomic_store(&sender->done, true);
    return NULL;
}

static pthread_t begin_as(struct sender *sender, const struct sender *how)
{
    pthread_t thread;
    *sender = *how;
    assert_int_equal(pthread_create(&thread, NULL, send_blocking, sender), 0);
    WAIT_FOR(atomic_load(&sender->begun));
    uint64_t begin = clock_ms();
    WAIT_FOR(clock_ms() - begin > 20); /* inside the wait by now, most likely */
    assert_false(atomic_load(&sender->done));
    return thread;
}

static pthread_t begin(struct stuck *s, struct sender *sender, cohort_route *route, struct asked *asked)
{
    return begin_as(sender, &(struct sender){.n = &s->n[0], .route = route, .asked = asked, .number = s->next});
}

static pthread_t begin_sending(struct stuck *s, struct sender *sender)
{
    return begin(s, sender, NULL, NULL);
}

static void block_waits_for_room(void **state)
{
    static struct stuck s;
    struct sender sender;
    stick(&s, COHORT_FULL_BLOCK, 60000);
    pthread_t thread = begin_sending(&s, &sender);
    s.next++;
    WAIT_FOR((is_drained(&s), atomic_load(&sender.done)));
    pthread_join(thread, NULL);
    assert_int_equal(sender.status, COHORT_OK);
    unstick(&s);
}

static cohort_route *full_route(struct stuck *s)
{
    cohort_route *route = NULL;
    assert_int_equal(cohort_route_open(s->n[0].node, address(1), "full", &route), COHORT_OK);
    return route;
}

static void a_claim_waits_for_room(void **state)
{
    static struct stuck s;
    struct sender sender;
    stick(&s, COHORT_FULL_BLOCK, 60000);
    cohort_route *route = full_route(&s);
    pthread_t thread = begin(&s, &sender, route, NULL);
    s.next++;
    WAIT_FOR((is_drained(&s), atomic_load(&sender.done)));
    pthread_join(thread, NULL);
    assert_int_equal(sender.status, COHORT_OK);
    cohort_route_close(route);
    unstick(&s);
}

/* And leaves nothing locked: others send afterwards. */
static void a_claim_ends_at_its_deadline(void **state)
{
    static struct stuck s;
    stick(&s, COHORT_FULL_BLOCK, 50);
    cohort_route *route = full_route(&s);
    uint64_t begin = clock_ms();
    assert_int_equal(claim_number(route, s.next), COHORT_ETIMEDOUT);
    assert_true(clock_ms() - begin >= 50);
    cohort_route_close(route);
    unstick(&s);
}

static void a_request_waits_for_room(void **state)
{
    static struct stuck s;
    struct sender sender;
    struct asked asked = {0};
    stick(&s, COHORT_FULL_BLOCK, 60000);
    pthread_t thread = begin(&s, &sender, NULL, &asked);
    s.next++;
    WAIT_FOR((is_drained(&s), atomic_load(&sender.done)));
    pthread_join(thread, NULL);
    assert_int_equal(sender.status, COHORT_OK);
    WAIT_FOR((cohort_queue_dispatch(s.queue, SIZE_MAX), atomic_load(&asked.calls) > 0));
    expect_result(&asked, COHORT_ENOREPLY);
    unstick(&s);
}

/* They all wait at once, longer than there is room for: each of them gets in, by and by. */
static void block_wakes_everybody(void **state)
{
    static struct stuck s;
    static struct sender senders[8];
    pthread_t threads[UNIT_COUNT(senders)];
    stick(&s, COHORT_FULL_BLOCK, 60000);
    set_options(&s.n[0], "full", COHORT_LANE_NORMAL, COHORT_FULL_BLOCK, 60000);
    unsigned handled = atomic_load(&s.sink.handled), done = 0;
    for (unsigned i = 0; i < UNIT_COUNT(senders); i++) {
        threads[i] = begin_sending(&s, &senders[i]);
    }
    while (done < UNIT_COUNT(senders)) {
        (void)cohort_queue_dispatch(s.queue, 1);
        done = 0;
        for (unsigned i = 0; i < UNIT_COUNT(senders); i++) {
            done += atomic_load(&senders[i].done);
        }
    }
    for (unsigned i = 0; i < UNIT_COUNT(senders); i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(senders[i].status, COHORT_OK);
    }
    WAIT_FOR((cohort_queue_dispatch(s.queue, SIZE_MAX), unacknowledged(&s.n[0], 1) == 0));
    WAIT_FOR((cohort_queue_dispatch(s.queue, SIZE_MAX), atomic_load(&s.sink.handled) - handled == s.next + UNIT_COUNT(senders)));
    assert_int_equal(atomic_load(&s.sink.wrong), UNIT_COUNT(senders) - 1); /* they all had one number */
    rig_close_pair(s.n);
}

static void block_ends_at_its_deadline(void **state)
{
    static struct stuck s;
    stick(&s, COHORT_FULL_BLOCK, 50);
    uint64_t begin = clock_ms();
    assert_int_equal(send_number(&s.n[0], 1, "full", s.next, MESSAGE_BYTES), COHORT_ETIMEDOUT);
    uint64_t took = clock_ms() - begin;
    assert_true(took >= 50 && took < BOUND_MS);
    unstick(&s);
}

static void block_ends_when_the_member_is_removed(void **state)
{
    static struct stuck s;
    struct sender sender;
    stick(&s, COHORT_FULL_BLOCK, 60000);
    pthread_t thread = begin_sending(&s, &sender);
    assert_int_equal(cohort_node_remove(s.n[0].node, address(1)), COHORT_OK);
    pthread_join(thread, NULL);
    assert_int_equal(sender.status, COHORT_ENOPEER);
    assert_true(sender.took_ms < 30000);
    close_whatever(s.n);
}

/* Who is a member no more is none that it should be queued for. */
static void a_broadcast_leaves_out_who_is_removed_meanwhile(void **state)
{
    static struct stuck s;
    struct sender sender;
    stick(&s, COHORT_FULL_BLOCK, 60000);
    pthread_t thread = begin_as(&sender, &(struct sender){.n = &s.n[0], .to_all = true, .number = s.next});
    assert_int_equal(cohort_node_remove(s.n[0].node, address(1)), COHORT_OK);
    pthread_join(thread, NULL);
    assert_int_equal(sender.status, COHORT_OK);
    assert_true(sender.took_ms < 30000);
    close_whatever(s.n);
}

static void send_from_a_handler(cohort_node *node, const cohort_message *message, void *arg)
{
    _Atomic int *status = arg;
    uint8_t body[MESSAGE_BYTES] = {0};
    atomic_store(status, cohort_send(node, message->from, "full", body, sizeof body));
}

static void block_is_an_error_in_a_handler(void **state)
{
    static struct stuck s;
    _Atomic int status = 1;
    stick(&s, COHORT_FULL_BLOCK, 60000);
    handle_in(&s.n[0], NULL, "go", send_from_a_handler, &status, NULL);
    assert_int_equal(cohort_send(s.n[1].node, address(0), "go", "x", 1), COHORT_OK);
    WAIT_FOR(atomic_load(&status) != 1);
    assert_int_equal(atomic_load(&status), COHORT_ECALLBACK);
    unstick(&s);
}

/* In a queue's thread a handler may wait; a node that closes does not wait for it. */
static void block_in_a_queue_ends_when_the_node_closes(void **state)
{
    static struct stuck s;
    _Atomic int status = 1;
    stick(&s, COHORT_FULL_BLOCK, 600000);
    cohort_queue *threads = new_queue(&s.n[0], 1);
    handle_in(&s.n[0], threads, "go", send_from_a_handler, &status, NULL);
    assert_int_equal(cohort_send(s.n[1].node, address(0), "go", "x", 1), COHORT_OK);
    uint64_t begin = clock_ms();
    WAIT_FOR(unacknowledged(&s.n[1], 0) == 0 && clock_ms() - begin > 20);
    assert_int_equal(cohort_node_close(s.n[0].node, 100), COHORT_ETIMEDOUT);
    assert_int_equal(atomic_load(&s.n[0].memory.blocks), 0);
    assert_true(clock_ms() - begin < 30000);
    assert_int_equal(atomic_load(&status), COHORT_ECLOSED);
    assert_int_equal(rig_close(&s.n[1]), COHORT_OK);
}

/* ---- drop ----------------------------------------------------------------------------------------------------------- */

static void drop_counts_what_is_gone(void **state)
{
    static struct stuck s;
    stick(&s, COHORT_FULL_DROP, 0);
    for (unsigned i = 0; i < 7; i++) {
        assert_int_equal(send_number(&s.n[0], 1, "full", 1000000, MESSAGE_BYTES), COHORT_OK);
    }
    assert_int_equal(totals(&s.n[0]).messages_dropped, 7);
    assert_int_equal(totals(&s.n[0]).messages_undelivered, 0);
    WAIT_FOR(is_drained(&s)); /* none of them arrives */
    assert_int_equal(send_number(&s.n[0], 1, "full", s.next++, MESSAGE_BYTES), COHORT_OK);
    unstick(&s);
}

/* For a request somebody waits, and of a claim there is nothing yet: neither can be dropped. */
static void what_cannot_be_dropped_is_refused(void **state)
{
    static struct stuck s;
    struct asked asked = {0};
    stick(&s, COHORT_FULL_DROP, 0);
    cohort_route *route = full_route(&s);
    assert_int_equal(claim_number(route, s.next), COHORT_EAGAIN);
    assert_int_equal(ask_number(&s.n[0], s.next, &asked), COHORT_EAGAIN);
    assert_int_equal(totals(&s.n[0]).messages_dropped, 0);
    cohort_route_close(route);
    unstick(&s);
    assert_int_equal(atomic_load(&asked.calls), 0);
}

/* ---- disconnect ------------------------------------------------------------------------------------------------------ */

struct slow_losses {
    _Atomic unsigned count, maybe, wrong;
};

static void on_slow_loss(cohort_node *node, const cohort_undelivered *lost, void *arg)
{
    struct slow_losses *l = arg;
    atomic_fetch_add(&l->wrong, lost->reason != COHORT_ESLOW || lost->data_len != MESSAGE_BYTES);
    atomic_fetch_add(&l->maybe, lost->maybe_handled);
    atomic_fetch_add(&l->count, 1);
}

static void disconnect_tells_all_and_works_again(void **state)
{
    static struct stuck s;
    struct slow_losses lost = {0};
    cohort_handle_id ignored;
    stick(&s, COHORT_FULL_DISCONNECT, 0);
    assert_int_equal(cohort_on_undelivered(s.n[0].node, on_slow_loss, &lost, NULL, &ignored), COHORT_OK);
    uint64_t queued = unacknowledged(&s.n[0], 1);
    assert_int_equal(send_number(&s.n[0], 1, "full", s.next, MESSAGE_BYTES), COHORT_EAGAIN);
    WAIT_FOR(totals(&s.n[0]).errors[-COHORT_ESLOW] == 1);
    WAIT_FOR(atomic_load(&s.n[0].activated) == 2 && atomic_load(&s.n[1].activated) == 2 && both_are_active(s.n));
    WAIT_FOR(atomic_load(&lost.count) == queued / FRAME(MESSAGE_BYTES));
    assert_int_equal(atomic_load(&lost.wrong), 0);
    unsigned told = atomic_load(&lost.count);
    assert_int_equal(cohort_queue_dispatch(s.queue, SIZE_MAX), s.next - told); /* what it has taken, it has */
    atomic_store(&s.sink.next, s.next);
    round_trip(&s.n[0], 1);
    assert_int_equal(send_number(&s.n[0], 1, "full", s.next++, MESSAGE_BYTES), COHORT_OK);
    unstick(&s);
    assert_int_equal(atomic_load(&lost.count), told);
}

static void a_claim_disconnects(void **state)
{
    static struct stuck s;
    stick(&s, COHORT_FULL_DISCONNECT, 0);
    cohort_route *route = full_route(&s);
    assert_int_equal(claim_number(route, s.next), COHORT_EAGAIN);
    WAIT_FOR(totals(&s.n[0]).errors[-COHORT_ESLOW] == 1);
    WAIT_FOR(atomic_load(&s.n[0].activated) == 2 && atomic_load(&s.n[1].activated) == 2 && both_are_active(s.n));
    (void)cohort_queue_dispatch(s.queue, SIZE_MAX);
    atomic_store(&s.sink.next, s.next);
    assert_int_equal(claim_number(route, s.next++), COHORT_OK);
    cohort_route_close(route);
    unstick(&s);
}

/* It is not slow: what is queued for it is kept, and the new message refused. */
static void who_is_away_is_not_parted_with(void **state)
{
    static struct rig_node n[2];
    struct sink s = {0};
    struct slow_losses lost = {0};
    cohort_handle_id ignored;
    cohort_limits limits = small_limits();
    run_without_handlers(&n[0], 0, &limits);
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    assert_int_equal(cohort_on_undelivered(n[0].node, on_slow_loss, &lost, NULL, &ignored), COHORT_OK);
    set_options(&n[0], "full", COHORT_LANE_NORMAL, COHORT_FULL_DISCONNECT, 0);
    uint32_t next = fill(&n[0], 1, "plain", 0, MESSAGE_BYTES);
    assert_int_equal(send_number(&n[0], 1, "full", next, MESSAGE_BYTES), COHORT_EAGAIN);
    rig_begin(&n[1]);
    cohort_config config = rig_config(&n[1], 1);
    rig_open(&n[1], &config);
    handle_in(&n[1], NULL, NULL, take_in_order, &s, NULL); /* before anything comes */
    rig_start(&n[1]);
    WAIT_FOR(unacknowledged(&n[0], 1) == 0);
    assert_int_equal(atomic_load(&s.handled), next);
    assert_int_equal(atomic_load(&s.wrong) + atomic_load(&lost.count), 0);
    assert_int_equal(totals(&n[0]).errors[-COHORT_ESLOW], 0);
    rig_close_pair(n);
}

/* ---- the whole node ------------------------------------------------------------------------------------------------- */

#define NODE_BYTES (512U * 1024)

/* 0 may hold little in all; 1 and 2 are away. */
struct crowded {
    struct rig_node n[3];
    struct sink sinks[3];
    _Atomic unsigned writable[3];
};

static void on_writable_of(cohort_node *node, const char *id, cohort_lane lane, void *arg)
{
    struct crowded *c = arg;
    for (unsigned i = 0; i < 3; i++) {
        atomic_fetch_add(&c->writable[i], strcmp(id, address(i)) == 0 ? 1 : 0);
    }
}

static void crowd(struct crowded *c)
{
    cohort_handle_id ignored;
    cohort_limits limits = default_limits();
    limits.message_bytes_max = 32 * 1024;
    limits.node_queue_bytes_max = NODE_BYTES;
    memset(c, 0, sizeof *c);
    run_without_handlers(&c->n[0], 0, &limits);
    assert_int_equal(cohort_on_writable(c->n[0].node, on_writable_of, c, NULL, &ignored), COHORT_OK);
    for (unsigned i = 1; i < 3; i++) {
        assert_int_equal(cohort_node_add(c->n[0].node, address(i), address(i), PORT), COHORT_OK);
    }
}

/* Handlers come first: what is sent is not to find the node without. */
static void let_come(struct crowded *c, unsigned i)
{
    rig_begin(&c->n[i]);
    cohort_config config = rig_config(&c->n[i], i);
    rig_open(&c->n[i], &config);
    cohort_handle_id ignored;
    assert_int_equal(cohort_handle(c->n[i].node, "plain", take_in_order, &c->sinks[i], NULL, &ignored), COHORT_OK);
    rig_start(&c->n[i]);
}

/* 1 has taken its part: 2, which was refused for it and is still away, is told once that there is room. */
static void a_full_node_tells_all_it_refused(void **state)
{
    static struct crowded c;
    crowd(&c);
    uint32_t first = fill(&c.n[0], 1, "plain", 0, MESSAGE_BYTES), second = fill(&c.n[0], 2, "plain", 0, MESSAGE_BYTES);
    assert_in_range(first * FRAME(MESSAGE_BYTES), NODE_BYTES - 2 * 16384, NODE_BYTES + 2 * 16384);
    assert_in_range(second * FRAME(MESSAGE_BYTES), 65536 - 100, 65536 + 2 * MESSAGE_BYTES);
    assert_true(totals(&c.n[0]).queued_bytes >= NODE_BYTES - 2 * 16384);
    assert_int_equal(atomic_load(&c.writable[1]) + atomic_load(&c.writable[2]), 0);
    let_come(&c, 1);
    WAIT_FOR(atomic_load(&c.writable[1]) == 1 && atomic_load(&c.writable[2]) == 1);
    WAIT_FOR(atomic_load(&c.sinks[1].handled) == first && unacknowledged(&c.n[0], 1) == 0);
    assert_true(fill(&c.n[0], 2, "plain", second, MESSAGE_BYTES) > second + 100);
    assert_int_equal(atomic_load(&c.writable[1]) + atomic_load(&c.writable[2]), 2);
    assert_int_equal(atomic_load(&c.sinks[1].wrong), 0);
    assert_int_equal(rig_close(&c.n[0]), COHORT_ETIMEDOUT); /* 2 never came */
    assert_int_equal(rig_close(&c.n[1]), COHORT_OK);
}

static void *send_to_the_second(void *arg)
{
    struct sender *sender = arg;
    atomic_store(&sender->begun, true);
    sender->status = send_number(sender->n, 2, "full", sender->number, MESSAGE_BYTES);
    atomic_store(&sender->done, true);
    return NULL;
}

static void who_waits_for_the_node_wakes(void **state)
{
    static struct crowded c;
    struct sender sender = {.n = &c.n[0]};
    pthread_t thread;
    crowd(&c);
    set_options(&c.n[0], "full", COHORT_LANE_NORMAL, COHORT_FULL_BLOCK, 60000);
    uint32_t first = fill(&c.n[0], 1, "plain", 0, MESSAGE_BYTES);
    (void)fill(&c.n[0], 2, "plain", 0, MESSAGE_BYTES);
    assert_int_equal(pthread_create(&thread, NULL, send_to_the_second, &sender), 0);
    uint64_t begin = clock_ms();
    WAIT_FOR(atomic_load(&sender.begun) && clock_ms() - begin > 20);
    assert_false(atomic_load(&sender.done));
    let_come(&c, 1);
    pthread_join(thread, NULL);
    assert_int_equal(sender.status, COHORT_OK);
    WAIT_FOR(atomic_load(&c.sinks[1].handled) == first);
    assert_int_equal(rig_close(&c.n[0]), COHORT_ETIMEDOUT);
    assert_int_equal(rig_close(&c.n[1]), COHORT_OK);
}

/* 1 is away and holds all there is: 2 is sent to all the same, each refusal followed by its event, and its requests are answered. */
static void one_that_is_away_does_not_stop_another(void **state)
{
    static struct crowded c;
    struct answerer s = {0};
    crowd(&c);
    (void)fill(&c.n[0], 1, "plain", 0, MESSAGE_BYTES);
    let_come(&c, 2);
    WAIT_FOR(cohort_node_state(c.n[0].node, address(2)) == COHORT_ACTIVE);
    handle(&c.n[0], "ask", reply_same, &s);
    uint32_t next = 0;
    unsigned refused = 0;
    while (next < 20000) {
        unsigned before = atomic_load(&c.writable[2]);
        int status = send_number(&c.n[0], 2, "plain", next, MESSAGE_BYTES);
        next += status == COHORT_OK;
        if (status != COHORT_OK) {
            assert_int_equal(status, COHORT_EAGAIN);
            WAIT_FOR(atomic_load(&c.writable[2]) != before);
            refused++;
        }
    }
    cohort_answer answer;
    assert_int_equal(cohort_request_wait(c.n[2].node, address(0), "ask", "x", 1, 20000, &answer), COHORT_OK);
    cohort_answer_free(&answer);
    WAIT_FOR(atomic_load(&c.sinks[2].handled) == next);
    assert_int_equal(atomic_load(&c.sinks[2].wrong), 0);
    assert_int_equal(atomic_load(&c.writable[2]), refused);
    assert_int_equal(atomic_load(&c.writable[1]), 0);
    assert_int_equal(rig_close(&c.n[0]), COHORT_ETIMEDOUT);
    assert_int_equal(rig_close(&c.n[2]), COHORT_OK);
}

/* It has not read for a while, but its lane would take more: others hold what the node may hold. */
static void who_is_refused_for_others_is_not_parted_with(void **state)
{
    static struct crowded c;
    struct sink s = {0};
    cohort_limits limits = small_limits();
    crowd(&c);
    (void)fill(&c.n[0], 1, "plain", 0, MESSAGE_BYTES);
    set_options(&c.n[0], "part", COHORT_LANE_NORMAL, COHORT_FULL_DISCONNECT, 0);
    run_without_handlers(&c.n[2], 2, &limits);
    cohort_queue *queue = new_queue(&c.n[2], 0);
    handle_in(&c.n[2], queue, "part", take_in_order, &s, NULL);
    WAIT_FOR(cohort_node_state(c.n[0].node, address(2)) == COHORT_ACTIVE);
    uint32_t next = fill_up(&c.n[0], 2, "part", 0, MESSAGE_BYTES);
    round_trip(&c.n[0], 2);
    assert_int_equal(totals(&c.n[0]).errors[-COHORT_ESLOW], 0);
    assert_int_equal(cohort_node_remove(c.n[0].node, address(1)), COHORT_OK);
    WAIT_FOR((cohort_queue_dispatch(queue, SIZE_MAX), atomic_load(&s.handled) == next));
    assert_int_equal(atomic_load(&s.wrong), 0);
    assert_int_equal(rig_close(&c.n[0]), COHORT_OK);
    assert_int_equal(rig_close(&c.n[2]), COHORT_OK);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        node_test(fail_tells_writable_once),
        node_test(block_waits_for_room),
        node_test(a_claim_waits_for_room),
        node_test(a_claim_ends_at_its_deadline),
        node_test(a_request_waits_for_room),
        node_test(block_wakes_everybody),
        node_test(block_ends_at_its_deadline),
        node_test(block_ends_when_the_member_is_removed),
        node_test(a_broadcast_leaves_out_who_is_removed_meanwhile),
        node_test(block_is_an_error_in_a_handler),
        node_test(block_in_a_queue_ends_when_the_node_closes),
        node_test(drop_counts_what_is_gone),
        node_test(what_cannot_be_dropped_is_refused),
        node_test(a_claim_disconnects),
        node_test(disconnect_tells_all_and_works_again),
        node_test(who_is_away_is_not_parted_with),
        node_test(a_full_node_tells_all_it_refused),
        node_test(who_waits_for_the_node_wakes),
        node_test(one_that_is_away_does_not_stop_another),
        node_test(who_is_refused_for_others_is_not_parted_with),
    };
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL); /* one by name, in a debugger */
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
