/* SPDX-License-Identifier: Apache-2.0
 *
 * node/messages, conn_io, conn_read and stats: sending, order, every error code, raw and legacy, broadcast, echo, back-pressure, counters.
 */
#include "rig.h"

struct numbered {
    uint32_t sender, sequence;
};

static void expect_in_order(struct rig_node *n, const cohort_message *message)
{
    struct numbered m;
    if (message->data_len < sizeof m || strcmp(message->subject, "numbered") != 0) {
        return;
    }
    memcpy(&m, message->data, sizeof m);
    atomic_fetch_add(&n->wrong, n->next[m.sender] != m.sequence);
    n->next[m.sender] = m.sequence + 1;
}

struct sender {
    struct rig_node *n;
    const char *to;
    uint32_t number, count;
    size_t bytes;
    pthread_t thread;
};

static void *send_numbered(void *arg)
{
    struct sender *s = arg;
    uint8_t data[4096] = {0};
    for (uint32_t i = 0; i < s->count; i++) {
        struct numbered m = {s->number, i};
        memcpy(data, &m, sizeof m);
        int status;
        while ((status = cohort_send(s->n->node, s->to, "numbered", data, s->bytes)) == COHORT_EAGAIN) {
            sched_yield();
        }
        atomic_fetch_add(&s->n->wrong, status != COHORT_OK);
    }
    return NULL;
}

static void each_threads_messages_arrive_in_order(void **state)
{
    static struct rig_node n[2];
    struct sender senders[4];
    rig_pair(n);
    n[1].on_message = expect_in_order;
    for (uint32_t i = 0; i < 4; i++) {
        senders[i] = (struct sender){&n[0], address(1), i, 5000, 8 + 1000 * i, 0};
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_numbered, &senders[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(senders[i].thread, NULL);
    }
    WAIT_FOR(atomic_load(&n[1].messages) == 20000);
    rig_close_pair(n);
}

static void closing_delivers_what_was_accepted(void **state)
{
    static struct rig_node n[2];
    struct sender s = {&n[0], address(1), 0, 3000, 1000, 0};
    rig_pair(n);
    n[1].on_message = expect_in_order;
    (void)send_numbered(&s);
    assert_int_equal(rig_close(&n[0]), COHORT_OK);
    WAIT_FOR(atomic_load(&n[1].messages) == 3000);
    assert_int_equal(rig_close(&n[1]), COHORT_OK);
}

static void errors_of_send(void **state)
{
    static struct rig_node n[2];
    static uint8_t data[1024 * 1024 + 1];
    rig_pair(n);
    cohort_node *node = n[0].node;
    const char *to = address(1);
    assert_int_equal(cohort_node_add(node, "away", address(6), PORT), COHORT_OK);
    assert_int_equal(cohort_send(node, NULL, "s", "x", 1), COHORT_EINVAL);
    assert_int_equal(cohort_send(node, to, NULL, "x", 1), COHORT_EINVAL);
    assert_int_equal(cohort_send(node, to, "", "x", 1), COHORT_EINVAL);
    assert_int_equal(cohort_send(node, to, "a b", "x", 1), COHORT_EINVAL);
    assert_int_equal(cohort_send(node, to, "#x", "x", 1), COHORT_EINVAL);
    assert_int_equal(cohort_send(node, to, "s", NULL, 1), COHORT_EINVAL);
    assert_int_equal(cohort_send(node, address(0), "s", "x", 1), COHORT_EINVAL);
    assert_int_equal(cohort_send(node, "nobody", "s", "x", 1), COHORT_ENOPEER);
    assert_int_equal(cohort_send(node, "away", "s", "x", 1), COHORT_OK); /* kept until it comes, or is no member any more */
    assert_int_equal(cohort_node_remove(node, "away"), COHORT_OK);
    assert_int_equal(cohort_send(node, "away", "s", "x", 1), COHORT_ENOPEER);
    assert_int_equal(cohort_send(node, to, "s", data, sizeof data), COHORT_ESIZE);
    assert_int_equal(cohort_send(node, to, "#7", data, sizeof data), COHORT_ESIZE);
    assert_int_equal(cohort_send(node, to, "#1", "x", 1), COHORT_ETYPE);
    assert_int_equal(cohort_send(node, to, "#2", "x", 1), COHORT_ETYPE);
    assert_int_equal(cohort_send(node, to, "#-1", "x", 1), COHORT_ETYPE);
    assert_int_equal(cohort_broadcast(node, "s", NULL, 1, NULL), COHORT_EINVAL);
    assert_int_equal(cohort_broadcast(node, "a b", "x", 1, NULL), COHORT_EINVAL);
    assert_int_equal(cohort_send(node, to, "s", NULL, 0), COHORT_OK);
    assert_int_equal(cohort_send(node, to, "s", data, sizeof data - 1), COHORT_OK);
    WAIT_FOR(atomic_load(&n[1].messages) == 2);
    rig_close_pair(n);
}

static void subjects_are_limited(void **state)
{
    static struct rig_node n[2];
    rig_run(&n[1], 1);
    rig_begin(&n[0]);
    cohort_config config = rig_config(&n[0], 0);
    config.limits.subjects_max = 2;
    rig_open(&n[0], &config);
    rig_start(&n[0]);
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].activated) == 1);
    assert_int_equal(cohort_send(n[0].node, address(1), "a", "x", 1), COHORT_OK);
    assert_int_equal(cohort_send(n[0].node, address(1), "b", "x", 1), COHORT_OK);
    assert_int_equal(cohort_send(n[0].node, address(1), "c", "x", 1), COHORT_ELIMIT);
    assert_int_equal(cohort_send(n[0].node, address(1), "a", "x", 1), COHORT_OK);
    rig_close_pair(n);
}

static void raw_frames_and_a_legacy_peer(void **state)
{
    static struct rig_node n;
    char data[COHORT_FRAME_LEGACY_BYTES_MAX];
    size_t len = 0, sent = 9;
    rig_run(&n, 0);
    int fd = bare_connect(0, 5, 0);
    WAIT_FOR(atomic_load(&n.activated) == 1);
    memset(data, 7, sizeof data);
    assert_int_equal(cohort_send(n.node, address(5), "named", "x", 1), COHORT_ELEGACY);
    assert_int_equal(cohort_send(n.node, address(5), "#7", data, 32753), COHORT_ESIZE);
    assert_int_equal(cohort_broadcast(n.node, "named", "x", 1, &sent), COHORT_OK);
    assert_int_equal(sent, 0);
    assert_int_equal(cohort_send(n.node, address(5), "#-1", "minus", 5), COHORT_OK);
    assert_int_equal(bare_next(fd, data, sizeof data, &len), UINT32_MAX);
    assert_memory_equal(data, "minus", 5);
    assert_int_equal(cohort_broadcast(n.node, "#7", data, 32752, &sent), COHORT_OK);
    assert_int_equal(sent, 1);
    assert_int_equal(bare_next(fd, data, sizeof data, &len), 7);
    assert_int_equal(len, 32752);
    bare_frame(fd, UINT32_MAX, "raw", 3);
    WAIT_FOR(atomic_load(&n.messages) == 1);
    bare_frame(fd, COHORT_TYPE_ECHO, "are you there", 13);
    assert_int_equal(bare_next(fd, data, sizeof data, &len), COHORT_TYPE_ECHO);
    assert_int_equal(len, 13);
    close(fd);
    WAIT_FOR(atomic_load(&n.deactivated) == 1);
    assert_int_equal(rig_close(&n), COHORT_OK);
}

static void on_sent(cohort_node *node, const char *id, int status, void *arg)
{
    char *told = arg;
    size_t len = strlen(told);
    (void)snprintf(told + len, 200 - len, "%s %s; ", id, cohort_error_name(status));
}

/* One of them knows all the names it may. */
static void a_broadcast_says_what_became_of_it_at_each(void **state)
{
    static struct rig_node n[3];
    char told[200] = "", expected[200];
    rig_run(&n[1], 1);
    rig_run(&n[2], 2);
    rig_begin(&n[0]);
    cohort_config config = rig_config(&n[0], 0);
    config.limits.subjects_max = 1;
    rig_open(&n[0], &config);
    rig_start(&n[0]);
    assert_int_equal(cohort_broadcast_each(n[0].node, "s", "x", 1, false, NULL, NULL), COHORT_EINVAL);
    assert_int_equal(cohort_broadcast_each(n[0].node, "s", "x", 1, true, on_sent, told), COHORT_EINVAL); /* no config.deliver_local */
    assert_int_equal(cohort_broadcast_each(n[0].node, "s", "x", 1, false, on_sent, told), COHORT_OK);    /* nobody is there */
    assert_string_equal(told, "");
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    assert_int_equal(cohort_node_add(n[0].node, address(2), address(2), PORT), COHORT_OK);
    assert_int_equal(cohort_node_add(n[0].node, "away", address(6), PORT), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].activated) == 2);
    assert_int_equal(cohort_send(n[0].node, address(2), "other", "x", 1), COHORT_OK);
    assert_int_equal(cohort_broadcast_each(n[0].node, "s", "x", 1, false, on_sent, told), COHORT_ELIMIT);
    (void)snprintf(expected, sizeof expected, "%s OK; %s ELIMIT; ", address(1), address(2));
    assert_string_equal(told, expected);
    WAIT_FOR(atomic_load(&n[1].messages) == 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rig_close(&n[i]), COHORT_OK);
    }
}

static void a_broadcast_reaches_every_active_member(void **state)
{
    static struct rig_node n[3];
    size_t sent = 0;
    int results[4];
    const char *const to[] = {address(1), "nobody", address(2), address(0)};
    rig_run(&n[1], 1);
    rig_run(&n[2], 2);
    rig_run(&n[0], 0);
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    assert_int_equal(cohort_node_add(n[0].node, address(2), address(2), PORT), COHORT_OK);
    assert_int_equal(cohort_node_add(n[0].node, "away", address(6), PORT), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].activated) == 2);
    assert_int_equal(cohort_broadcast(n[0].node, "s", "x", 1, &sent), COHORT_OK);
    assert_int_equal(sent, 2);
    assert_int_equal(cohort_send_many(n[0].node, to, 4, "s", "x", 1, results), 2);
    assert_int_equal(results[0], COHORT_OK);
    assert_int_equal(results[1], COHORT_ENOPEER);
    assert_int_equal(results[2], COHORT_OK);
    assert_int_equal(results[3], COHORT_EINVAL);
    assert_int_equal(cohort_send_many(n[0].node, to, 1, "s", "x", 1, NULL), 1);
    WAIT_FOR(atomic_load(&n[1].messages) == 3 && atomic_load(&n[2].messages) == 2);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rig_close(&n[i]), COHORT_OK);
    }
}

/* ---- echo ---------------------------------------------------------------------------------------------------------- */

struct echoed {
    _Atomic unsigned calls;
    _Atomic int status;
    _Atomic uint64_t rtt_ns;
};

static void on_echo(cohort_node *node, const char *id, int status, uint64_t rtt_ns, void *arg)
{
    struct echoed *e = arg;
    atomic_store(&e->status, status);
    atomic_store(&e->rtt_ns, rtt_ns);
    atomic_fetch_add(&e->calls, 1);
}

static void echoes_are_answered(void **state)
{
    static struct rig_node n[2];
    static uint8_t data[32753];
    struct echoed e = {0};
    rig_pair(n);
    cohort_node *node = n[0].node;
    assert_int_equal(cohort_echo(node, address(1), NULL, 0, 10000, on_echo, &e), COHORT_OK);
    WAIT_FOR(atomic_load(&e.calls) == 1);
    assert_int_equal(atomic_load(&e.status), COHORT_OK);
    assert_true(atomic_load(&e.rtt_ns) > 0);
    assert_int_equal(cohort_echo(node, address(1), data, 32752, 10000, on_echo, &e), COHORT_OK);
    WAIT_FOR(atomic_load(&e.calls) == 2);
    assert_int_equal(cohort_echo(node, NULL, "x", 1, 1000, on_echo, &e), COHORT_EINVAL);
    assert_int_equal(cohort_echo(node, address(1), "x", 1, 1000, NULL, &e), COHORT_EINVAL);
    assert_int_equal(cohort_echo(node, address(1), NULL, 1, 1000, on_echo, &e), COHORT_EINVAL);
    assert_int_equal(cohort_echo(node, address(0), "x", 1, 1000, on_echo, &e), COHORT_EINVAL);
    assert_int_equal(cohort_echo(node, "nobody", "x", 1, 1000, on_echo, &e), COHORT_ENOPEER);
    assert_int_equal(cohort_echo(node, address(1), data, 32753, 1000, on_echo, &e), COHORT_ESIZE);
    assert_int_equal(cohort_node_add(node, "away", address(6), PORT), COHORT_OK);
    assert_int_equal(cohort_echo(node, "away", "x", 1, 1000, on_echo, &e), COHORT_EINACTIVE);
    rig_close_pair(n);
    assert_int_equal(atomic_load(&e.calls), 2);
}

static void an_echo_without_answer_ends_once(void **state)
{
    static struct rig_node n;
    struct echoed timed_out = {0}, broken = {0}, over = {0};
    rig_begin(&n);
    cohort_config config = rig_config(&n, 0);
    config.limits.echoes_max = 2;
    rig_open(&n, &config);
    rig_start(&n);
    int fd = bare_connect(0, 5, 0); /* never answers */
    WAIT_FOR(atomic_load(&n.activated) == 1);
    uint64_t start = clock_ms();
    assert_int_equal(cohort_echo(n.node, address(5), "a", 1, 50, on_echo, &timed_out), COHORT_OK);
    assert_int_equal(cohort_echo(n.node, address(5), "b", 1, 60000, on_echo, &broken), COHORT_OK);
    assert_int_equal(cohort_echo(n.node, address(5), "c", 1, 60000, on_echo, &over), COHORT_ELIMIT);
    WAIT_FOR(atomic_load(&timed_out.calls) == 1);
    assert_true(clock_ms() - start >= 50);
    assert_int_equal(atomic_load(&timed_out.status), COHORT_ETIMEDOUT);
    close(fd);
    WAIT_FOR(atomic_load(&broken.calls) == 1);
    assert_int_not_equal(atomic_load(&broken.status), COHORT_OK);
    assert_int_equal(rig_close(&n), COHORT_OK);
    assert_int_equal(atomic_load(&timed_out.calls) + atomic_load(&broken.calls) + atomic_load(&over.calls), 2);
}

/* ---- back-pressure ------------------------------------------------------------------------------------------------- */

/* Queue raw frames to a peer that does not read, until the queue is full. */
static unsigned fill(struct rig_node *n, const char *to)
{
    static uint8_t data[30000];
    unsigned sent = 0;
    int status;
    while ((status = cohort_send(n->node, to, "#7", data, sizeof data)) == COHORT_OK) {
        sent++;
        assert_true(sent < 100000);
    }
    assert_int_equal(status, COHORT_EAGAIN);
    return sent;
}

static void a_peer_that_does_not_read_disturbs_nobody(void **state)
{
    static struct rig_node n[2];
    struct echoed e = {0};
    cohort_link_stats stats;
    struct sender s = {&n[0], address(1), 0, 5000, 1000, 0};
    rig_pair(n);
    n[1].on_message = expect_in_order;
    int fd = bare_connect(0, 5, 4096);
    WAIT_FOR(atomic_load(&n[0].activated) == 2);
    unsigned accepted = fill(&n[0], address(5));
    assert_int_equal(cohort_link_stats_get(n[0].node, address(5), &stats), COHORT_OK);
    assert_true(stats.queued_bytes > 7 * 1024 * 1024);
    (void)send_numbered(&s);
    WAIT_FOR(atomic_load(&n[1].messages) == 5000);
    assert_int_equal(cohort_echo(n[0].node, address(1), NULL, 0, 10000, on_echo, &e), COHORT_OK);
    WAIT_FOR(atomic_load(&e.calls) == 1);
    assert_int_equal(atomic_load(&e.status), COHORT_OK);
    for (unsigned i = 0; i < accepted; i++) { /* nothing accepted is lost */
        static uint8_t data[40000];
        size_t len = 0;
        assert_int_equal(bare_next(fd, data, sizeof data, &len), 7);
        assert_int_equal(len, 30000);
    }
    assert_int_equal(cohort_send(n[0].node, address(5), "#7", "x", 1), COHORT_OK);
    close(fd);
    rig_close_pair(n);
}

static void on_room(cohort_node *node, const char *id, cohort_lane lane, void *arg)
{
    bool expected = lane == COHORT_LANE_NORMAL && strcmp(id, address(5)) == 0;
    atomic_fetch_add((_Atomic unsigned *)arg, expected ? 1 : 1000);
}

static void read_raw(int fd, unsigned count)
{
    static uint8_t data[40000];
    size_t len = 0;
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(bare_next(fd, data, sizeof data, &len), 7);
    }
}

static int run_with_a_legacy_peer(struct rig_node *n, _Atomic unsigned *room)
{
    cohort_handle_id ignored;
    rig_run(n, 0);
    assert_int_equal(cohort_on_writable(n->node, on_room, room, NULL, &ignored), COHORT_OK);
    int fd = bare_connect(0, 5, 4096);
    WAIT_FOR(atomic_load(&n->activated) == 1);
    return fd;
}

static void a_legacy_peer_that_reads_again_is_told_writable_once(void **state)
{
    static struct rig_node n;
    _Atomic unsigned room = 0;
    int fd = run_with_a_legacy_peer(&n, &room);
    for (unsigned round = 0; round < 2; round++) {
        unsigned accepted = fill(&n, address(5));
        accepted += fill(&n, address(5)); /* refused again; what the system took meanwhile made room for some */
        assert_int_equal(atomic_load(&room), round);
        read_raw(fd, accepted);
        WAIT_FOR(atomic_load(&room) > round);
        assert_int_equal(cohort_send(n.node, address(5), "#7", "x", 1), COHORT_OK);
        read_raw(fd, 1);
        assert_int_equal(atomic_load(&room), round + 1);
    }
    (void)fill(&n, address(5));
    close(fd);
    WAIT_FOR(atomic_load(&n.deactivated) == 1);
    assert_int_equal(rig_close(&n), COHORT_OK);
    assert_int_equal(atomic_load(&room), 2); /* whoever waits hears that it is gone */
}

/* The newest link is sent to: another may have room where that one had none. */
static void another_link_of_a_legacy_peer_has_room(void **state)
{
    static struct rig_node n;
    _Atomic unsigned room = 0;
    int first = run_with_a_legacy_peer(&n, &room);
    (void)fill(&n, address(5));
    assert_int_equal(atomic_load(&room), 0);
    int second = bare_connect(0, 5, 4096);
    WAIT_FOR(atomic_load(&room) == 1);
    assert_int_equal(cohort_send(n.node, address(5), "#7", "x", 1), COHORT_OK);
    read_raw(second, 1);
    close(first);
    (void)fill(&n, address(5));
    int third = bare_connect(0, 5, 4096);
    WAIT_FOR(atomic_load(&room) == 2);
    close(second);
    int fourth = bare_connect(0, 5, 4096);
    cohort_node_stats stats;
    do {
        cohort_node_stats_get(n.node, &stats);
    } while (stats.links_open != 2 || stats.links_opened != 4);
    (void)fill(&n, address(5));
    assert_int_equal(atomic_load(&room), 2);
    close(fourth);
    WAIT_FOR(atomic_load(&room) == 3);
    assert_int_equal(cohort_send(n.node, address(5), "#7", "x", 1), COHORT_OK);
    read_raw(third, 1);
    assert_int_equal(atomic_load(&n.deactivated), 0);
    close(third);
    (void)rig_close(&n);
    assert_int_equal(atomic_load(&room), 3);
}

/* The echo waits behind a queue that does not move: its time runs all the same. */
static void an_echo_to_a_peer_that_does_not_read_times_out(void **state)
{
    static struct rig_node n;
    static uint8_t data[30000];
    cohort_link_stats stats, later;
    struct echoed e = {0};
    rig_run(&n, 0);
    int fd = bare_connect(0, 5, 4096);
    WAIT_FOR(atomic_load(&n.activated) == 1);
    do { /* until the kernel takes no more */
        assert_int_equal(cohort_send(n.node, address(5), "#7", data, sizeof data), COHORT_OK);
        assert_int_equal(cohort_link_stats_get(n.node, address(5), &stats), COHORT_OK);
    } while (stats.queued_bytes < 1024 * 1024);
    do { /* and the loop waits for room */
        later = stats;
        sched_yield();
        assert_int_equal(cohort_link_stats_get(n.node, address(5), &stats), COHORT_OK);
    } while (stats.idle_ns < 500000000 || stats.queued_bytes != later.queued_bytes);
    assert_int_equal(cohort_echo(n.node, address(5), NULL, 0, 50, on_echo, &e), COHORT_OK);
    WAIT_FOR(atomic_load(&e.calls) == 1);
    assert_int_equal(atomic_load(&e.status), COHORT_ETIMEDOUT);
    close(fd);
    (void)rig_close(&n);
}

/* ---- counters ------------------------------------------------------------------------------------------------------ */

static void counters_count(void **state)
{
    static struct rig_node n[2];
    cohort_node_stats a, b;
    cohort_link_stats link;
    rig_pair(n);
    do { /* HELLO, WELCOME and RESUME */
        cohort_node_stats_get(n[1].node, &b);
        cohort_node_stats_get(n[0].node, &a);
    } while (b.frames_in < 3 || a.bytes_out < b.bytes_in);
    assert_int_equal(a.frames_out, 3);
    assert_int_equal(a.links_open, 1);
    assert_int_equal(a.links_opened, 1);
    assert_int_equal(a.handshakes_pending, 0);
    assert_true(a.links_dialled >= 1);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(cohort_send(n[0].node, address(1), "s", "0123456789", 10), COHORT_OK);
    }
    WAIT_FOR(atomic_load(&n[1].messages) == 10);
    do { /* a byte is counted when it was written: that may be after it was read */
        cohort_node_stats_get(n[0].node, &b);
    } while (b.bytes_out - a.bytes_out < 10 * 26 + 21);
    assert_int_equal(b.frames_out - a.frames_out, 11); /* with SUBJECT */
    assert_int_equal(b.bytes_out - a.bytes_out, 10 * 26 + 21);
    do {
        cohort_node_stats_get(n[1].node, &a);
    } while (a.frames_in < b.frames_out);
    assert_int_equal(a.bytes_in, b.bytes_out);
    assert_int_equal(a.frames_in, b.frames_out);
    do { /* what was handled is acknowledged a moment later */
        assert_int_equal(cohort_link_stats_get(n[0].node, address(1), &link), COHORT_OK);
    } while (link.queued_bytes > 0);
    assert_int_equal(link.frames_out, b.frames_out);
    assert_int_equal(link.bytes_out, b.bytes_out);
    assert_true(link.open_ns > 0);
    assert_int_equal(cohort_link_stats_get(n[0].node, "nobody", &link), COHORT_ENOPEER);
    assert_int_equal(cohort_send(n[1].node, address(0), "s", "x", 1), COHORT_OK);
    rig_close_pair(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(each_threads_messages_arrive_in_order),
        node_test(closing_delivers_what_was_accepted),
        node_test(errors_of_send),
        node_test(subjects_are_limited),
        node_test(raw_frames_and_a_legacy_peer),
        node_test(a_broadcast_reaches_every_active_member),
        node_test(a_broadcast_says_what_became_of_it_at_each),
        node_test(echoes_are_answered),
        node_test(an_echo_without_answer_ends_once),
        node_test(a_peer_that_does_not_read_disturbs_nobody),
        node_test(a_legacy_peer_that_reads_again_is_told_writable_once),
        node_test(another_link_of_a_legacy_peer_has_room),
        node_test(an_echo_to_a_peer_that_does_not_read_times_out),
        node_test(counters_count),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
