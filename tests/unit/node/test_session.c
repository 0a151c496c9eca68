/* SPDX-License-Identifier: Apache-2.0
 *
 * node/session: what sending promises, seen from outside. A peer made of a bare socket says RESUME and ACK as it likes, so that what was
 * written and what was not is known to the byte; real nodes lose their connections, or are not there yet.
 */
#include "rig.h"

#include "wire/control.h"

#define FRAME(data_len) (COHORT_FRAME_HEADER_BYTES + (uint64_t)(data_len))
#define PEER 5 /* address of the bare peer */
#define HALF 100
#define MUCH (UINT64_C(1) << 40)
#define MESSAGE_TYPE(lane) cohorti_type_subject(COHORTI_KIND_MESSAGE, (lane), 0)

/* ---- what is told -------------------------------------------------------------------------------------------------- */

struct reports {
    _Atomic unsigned count, certainly_not, released;
    _Atomic int reason;
    char bodies[64][8]; /* beginning of each */
    bool maybe[64];
    cohort_lane lanes[64];
    _Atomic unsigned writable[COHORTI_LANE_COUNT];
};

static void on_undelivered(cohort_node *node, const cohort_undelivered *report, void *arg)
{
    struct reports *r = arg;
    unsigned i = atomic_load(&r->count);
    if (i < UNIT_COUNT(r->bodies)) {
        (void)snprintf(r->bodies[i], sizeof r->bodies[i], "%.*s", (int)(report->data_len < 7 ? report->data_len : 7),
                       report->data == NULL ? "?" : (const char *)report->data);
        r->maybe[i] = report->maybe_handled;
        r->lanes[i] = report->lane;
    }
    atomic_store(&r->reason, report->reason);
    atomic_fetch_add(&r->certainly_not, !report->maybe_handled);
    atomic_fetch_add(&r->count, 1);
}

static void on_writable(cohort_node *node, const char *id, cohort_lane lane, void *arg)
{
    struct reports *r = arg;
    atomic_fetch_add(&r->writable[lane], 1);
}

static void listen_to(struct rig_node *n, struct reports *r)
{
    cohort_handle_id ignored;
    memset(r, 0, sizeof *r);
    assert_int_equal(cohort_on_undelivered(n->node, on_undelivered, r, NULL, &ignored), COHORT_OK);
    assert_int_equal(cohort_on_writable(n->node, on_writable, r, NULL, &ignored), COHORT_OK);
}

static void expect_report(const struct reports *r, unsigned i, const char *body, bool maybe)
{
    assert_true(i < atomic_load(&r->count));
    assert_string_equal(r->bodies[i], body);
    assert_int_equal(r->maybe[i], maybe);
}

/* ---- a peer of a bare socket --------------------------------------------------------------------------------------- */

struct bare {
    int fd;
    uint64_t node_half;
    uint64_t read[COHORTI_LANE_COUNT]; /* bytes of frames of each lane, in all */
};

static uint8_t scratch[1 << 17];

/* Greet as another process of the same id for each incarnation, and say RESUME: `limit` for each lane. */
static void bare_resume(struct bare *b, unsigned incarnation, uint64_t half, uint64_t known, uint64_t limit)
{
    char hello[128];
    size_t len = 0;
    struct cohorti_resume resume = {.half = half, .known = known};
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    inet_pton(AF_INET, address(0), &sa.sin_addr);
    b->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(b->fd, (struct sockaddr *)&sa, sizeof sa), 0);
    (void)snprintf(hello, sizeof hello, "%s:%s:%u:cohort/1-1;inc=%u;attempt=1", address(PEER), address(PEER), PORT, incarnation);
    bare_frame(b->fd, COHORT_TYPE_HELLO, hello, strlen(hello));
    assert_int_equal(bare_next(b->fd, scratch, sizeof scratch, &len), COHORT_TYPE_HELLO);
    bare_frame(b->fd, cohorti_type_control(COHORTI_CONTROL_WELCOME), "\0\1", 2);
    assert_int_equal(bare_next(b->fd, scratch, sizeof scratch, &len), cohorti_type_control(COHORTI_CONTROL_WELCOME));
    for (unsigned i = 0; i < COHORTI_LANE_COUNT; i++) {
        resume.lanes[i].received = known == 0 ? 0 : b->read[i];
        resume.lanes[i].limit = resume.lanes[i].received + limit;
    }
    assert_int_equal(cohorti_resume_encode(&resume, scratch, sizeof scratch, &len), COHORT_OK);
    bare_frame(b->fd, cohorti_type_control(COHORTI_CONTROL_RESUME), scratch, len);
}

/* And hear what the node says to that. */
static void bare_join(struct bare *b, unsigned incarnation, uint64_t half, uint64_t known, uint64_t limit)
{
    struct cohorti_resume resume;
    size_t len = 0;
    bare_resume(b, incarnation, half, known, limit);
    assert_int_equal(bare_next(b->fd, scratch, sizeof scratch, &len), cohorti_type_control(COHORTI_CONTROL_RESUME));
    assert_int_equal(cohorti_resume_decode(scratch, len, &resume), COHORT_OK);
    b->node_half = resume.half;
}

/* The next frame of a lane, its data in `scratch` and terminated. 0 at the end of the stream. */
static uint32_t bare_lane_frame(struct bare *b, size_t *len)
{
    for (;;) {
        uint32_t type = bare_next(b->fd, scratch, sizeof scratch - 1, len);
        scratch[type == 0 ? 0 : *len] = '\0';
        if (type == cohorti_type_control(COHORTI_CONTROL_SUBJECT)) {
            b->read[scratch[0] >> 1] += FRAME(*len);
            return type;
        }
        if (type == 0 || cohorti_type_class(type) == COHORTI_TYPE_SUBJECT) {
            b->read[type == 0 ? 0 : cohorti_type_lane(type)] += type == 0 ? 0 : FRAME(*len);
            return type;
        }
    }
}

static void expect_frame(struct bare *b, uint32_t type, const char *data)
{
    size_t len = 0;
    assert_int_equal(bare_lane_frame(b, &len), type);
    assert_string_equal((const char *)scratch + (type == cohorti_type_control(COHORTI_CONTROL_SUBJECT) ? 4 : 0), data);
}

static void expect_name(struct bare *b, const char *name)
{
    expect_frame(b, cohorti_type_control(COHORTI_CONTROL_SUBJECT), name);
}

static void bare_ack(struct bare *b, unsigned lane, uint64_t received, uint64_t limit)
{
    uint8_t data[64];
    size_t len = 0;
    struct cohorti_ack ack = {.present = 1U << lane};
    ack.lanes[lane] = (struct cohorti_lane_mark){.received = received, .limit = limit};
    assert_int_equal(cohorti_ack_encode(&ack, data, sizeof data, &len), COHORT_OK);
    bare_frame(b->fd, cohorti_type_control(COHORTI_CONTROL_ACK), data, len);
}

static int say(struct rig_node *n, const char *subject, const char *text)
{
    return cohort_send(n->node, address(PEER), subject, text, strlen(text));
}

/* "one" was written, and no credit is left; "two" and "three" wait. */
static void one_written_two_waiting(struct rig_node *n, struct reports *r, struct bare *b)
{
    memset(b, 0, sizeof *b);
    rig_run(n, 0);
    listen_to(n, r);
    bare_join(b, 1, HALF, 0, 1);
    WAIT_FOR(atomic_load(&n->activated) == 1);
    assert_int_equal(say(n, "s", "one"), COHORT_OK);
    expect_name(b, "s");
    expect_frame(b, MESSAGE_TYPE(0), "one");
    assert_int_equal(say(n, "s", "two"), COHORT_OK);
    assert_int_equal(say(n, "s", "three"), COHORT_OK);
}

static void bare_leave(struct rig_node *n, struct bare *b, unsigned times)
{
    close(b->fd);
    WAIT_FOR(atomic_load(&n->deactivated) == times);
}

static void close_all(struct rig_node *n)
{
    (void)cohort_node_close(n->node, 0);
    assert_int_equal(atomic_load(&n->memory.blocks), 0);
    assert_int_equal(atomic_load(&n->wrong), 0);
}

/* ---- the peer goes on, or another comes ---------------------------------------------------------------------------- */

static void the_same_process_goes_on_where_it_stood(void **state)
{
    static struct rig_node n;
    static struct reports r;
    struct bare b;
    one_written_two_waiting(&n, &r, &b);
    bare_leave(&n, &b, 1);
    bare_join(&b, 1, HALF, b.node_half, MUCH);
    expect_frame(&b, MESSAGE_TYPE(0), "two");
    expect_frame(&b, MESSAGE_TYPE(0), "three");
    b.read[0] -= 2 * FRAME(0) + 3 + 5; /* they were lost with the link */
    bare_leave(&n, &b, 2);
    bare_join(&b, 1, HALF, b.node_half, MUCH);
    expect_frame(&b, MESSAGE_TYPE(0), "two");
    expect_frame(&b, MESSAGE_TYPE(0), "three");
    assert_int_equal(atomic_load(&r.count), 0);
    close(b.fd);
    close_all(&n);
}

static void another_process_gets_what_was_not_written_and_the_rest_is_told(void **state)
{
    static struct rig_node n;
    static struct reports r;
    struct bare b;
    one_written_two_waiting(&n, &r, &b);
    bare_leave(&n, &b, 1);
    assert_int_equal(say(&n, "t", "four"), COHORT_OK); /* and what comes while nobody is there */
    bare_join(&b, 2, HALF + 1, 0, MUCH);
    expect_name(&b, "s");
    expect_name(&b, "t");
    expect_frame(&b, MESSAGE_TYPE(0), "two");
    expect_frame(&b, MESSAGE_TYPE(0), "three");
    expect_frame(&b, MESSAGE_TYPE(0) | 1, "four");
    WAIT_FOR(atomic_load(&r.count) == 1);
    expect_report(&r, 0, "one", true);
    assert_int_equal(atomic_load(&r.reason), COHORT_ERESTARTED);
    close(b.fd);
    close_all(&n);
    assert_int_equal(atomic_load(&r.count), 4); /* nothing of it was acknowledged */
}

static void what_was_acknowledged_is_never_told(void **state)
{
    static struct rig_node n;
    static struct reports r;
    struct bare b;
    one_written_two_waiting(&n, &r, &b);
    bare_ack(&b, 0, b.read[0], MUCH);
    expect_frame(&b, MESSAGE_TYPE(0), "two"); /* so the acknowledgement has been read */
    expect_frame(&b, MESSAGE_TYPE(0), "three");
    bare_leave(&n, &b, 1);
    bare_join(&b, 2, HALF + 1, 0, MUCH);
    WAIT_FOR(atomic_load(&r.count) == 2);
    expect_report(&r, 0, "two", true);
    expect_report(&r, 1, "three", true);
    close(b.fd);
    close_all(&n);
    assert_int_equal(atomic_load(&r.count), 2);
}

static void a_member_removed_leaves_reports(void **state)
{
    static struct rig_node n;
    static struct reports r;
    struct bare b;
    one_written_two_waiting(&n, &r, &b);
    assert_int_equal(cohort_node_remove(n.node, address(PEER)), COHORT_OK);
    WAIT_FOR(atomic_load(&r.count) == 3);
    expect_report(&r, 0, "one", true);
    expect_report(&r, 1, "two", false);
    expect_report(&r, 2, "three", false);
    assert_int_equal(atomic_load(&r.reason), COHORT_EREMOVED);
    close(b.fd);
    close_all(&n);
    assert_int_equal(atomic_load(&r.count), 3);
}

static void a_node_closed_in_haste_says_so_and_leaves_reports(void **state)
{
    static struct rig_node n;
    static struct reports r;
    struct bare b;
    one_written_two_waiting(&n, &r, &b);
    assert_int_equal(cohort_node_close(n.node, 100), COHORT_ETIMEDOUT);
    assert_int_equal(atomic_load(&n.memory.blocks), 0);
    assert_int_equal(atomic_load(&r.count), 3);
    expect_report(&r, 0, "one", true);
    expect_report(&r, 1, "two", false);
    expect_report(&r, 2, "three", false);
    assert_int_equal(atomic_load(&r.reason), COHORT_ECLOSED);
    close(b.fd);
}

/* ---- back-pressure and lanes --------------------------------------------------------------------------------------- */

/* Read and acknowledge everything of the normal lane up to `until`. */
static void take_all(struct bare *b, uint64_t until)
{
    size_t len = 0;
    while (b->read[0] < until) {
        assert_int_not_equal(bare_lane_frame(b, &len), 0);
        bare_ack(b, 0, b->read[0], MUCH);
    }
}

static void a_full_lane_is_told_of_once_when_it_has_room(void **state)
{
    static struct rig_node n;
    static struct reports r;
    static uint8_t body[50000];
    struct bare b = {0};
    uint64_t total = FRAME(5);
    rig_run(&n, 0);
    listen_to(&n, &r);
    bare_join(&b, 1, HALF, 0, 0);
    WAIT_FOR(atomic_load(&n.activated) == 1);
    int status;
    while ((status = cohort_send(n.node, address(PEER), "s", body, sizeof body)) == COHORT_OK) {
        total += FRAME(sizeof body);
        assert_true(total < UINT64_C(9) << 20);
    }
    assert_int_equal(status, COHORT_EAGAIN);
    assert_true(total > UINT64_C(7) << 20);
    assert_int_equal(cohort_send(n.node, address(PEER), "s", body, sizeof body), COHORT_EAGAIN);
    assert_int_equal(atomic_load(&r.writable[0]), 0);
    bare_ack(&b, 0, 0, MUCH);
    take_all(&b, total);
    WAIT_FOR(atomic_load(&r.writable[0]) > 0);
    assert_int_equal(say(&n, "s", "end"), COHORT_OK);
    expect_frame(&b, MESSAGE_TYPE(0), "end");
    assert_int_equal(cohort_node_remove(n.node, address(PEER)), COHORT_OK); /* after all that it had to say */
    WAIT_FOR(atomic_load(&n.removed) == 1);
    assert_int_equal(atomic_load(&r.writable[0]), 1);
    assert_int_equal(atomic_load(&r.writable[1]) + atomic_load(&r.writable[2]), 0);
    close(b.fd);
    close_all(&n);
}

static void lane_of(struct rig_node *n, const char *subject, cohort_lane lane)
{
    cohort_subject_options options;
    COHORT_SUBJECT_OPTIONS_INIT(&options);
    options.lane = lane;
    assert_int_equal(cohort_subject_set(n->node, subject, &options), COHORT_OK);
}

/* Sent in the order bulk, normal, control, while nobody is there; written the other way round. */
static void urgent_subjects_overtake(void **state)
{
    static struct rig_node n;
    static struct reports r;
    struct bare b = {0};
    rig_run(&n, 0);
    listen_to(&n, &r);
    lane_of(&n, "slow", COHORT_LANE_BULK);
    lane_of(&n, "fast", COHORT_LANE_CONTROL);
    assert_int_equal(cohort_node_add(n.node, address(PEER), address(PEER), PORT), COHORT_OK);
    assert_int_equal(say(&n, "slow", "b"), COHORT_OK);
    assert_int_equal(say(&n, "some", "n"), COHORT_OK);
    assert_int_equal(say(&n, "fast", "c"), COHORT_OK);
    bare_join(&b, 1, HALF, 0, MUCH);
    expect_name(&b, "fast");
    expect_frame(&b, MESSAGE_TYPE(1), "c");
    expect_name(&b, "some");
    expect_frame(&b, MESSAGE_TYPE(0), "n");
    expect_name(&b, "slow");
    expect_frame(&b, MESSAGE_TYPE(2), "b");
    assert_int_equal(cohort_node_remove(n.node, address(PEER)), COHORT_OK);
    WAIT_FOR(atomic_load(&r.count) == 3);
    assert_int_equal(r.lanes[0], COHORT_LANE_CONTROL);
    assert_int_equal(r.lanes[1], COHORT_LANE_NORMAL);
    assert_int_equal(r.lanes[2], COHORT_LANE_BULK);
    close(b.fd);
    close_all(&n);
}

/* ---- a peer that lies ---------------------------------------------------------------------------------------------- */

static void a_mark_inside_a_frame_ends_nobody(void **state)
{
    static struct rig_node n;
    static struct reports r;
    struct bare b;
    one_written_two_waiting(&n, &r, &b);
    bare_ack(&b, 0, FRAME(5) + 3, MUCH);
    expect_frame(&b, MESSAGE_TYPE(0), "two");
    bare_leave(&n, &b, 1);
    bare_join(&b, 2, HALF + 1, 0, MUCH);
    WAIT_FOR(atomic_load(&r.count) >= 2);
    expect_report(&r, 0, "one", true);
    expect_report(&r, 1, "two", true);
    close(b.fd);
    close_all(&n);
}

static void a_peer_that_claims_too_much_begins_anew(void **state)
{
    static struct rig_node n;
    static struct reports r;
    struct bare b;
    size_t len = 0;
    one_written_two_waiting(&n, &r, &b);
    uint64_t before = b.node_half;
    bare_ack(&b, 0, b.read[0] + 1, MUCH);
    assert_int_equal(bare_lane_frame(&b, &len), 0);
    bare_leave(&n, &b, 1);
    assert_int_equal(atomic_load(&n.last_reason), COHORT_EPROTOCOL);
    WAIT_FOR(atomic_load(&r.count) == 3);
    expect_report(&r, 0, "one", true);
    expect_report(&r, 1, "two", false);
    assert_int_equal(atomic_load(&r.reason), COHORT_ERESTARTED);
    bare_join(&b, 1, HALF, before, MUCH); /* its marks are about a half that is gone */
    assert_true(b.node_half != before);
    memset(b.read, 0, sizeof b.read);
    assert_int_equal(say(&n, "s", "four"), COHORT_OK);
    expect_name(&b, "s");
    expect_frame(&b, MESSAGE_TYPE(0), "four");
    bare_leave(&n, &b, 2);
    b.read[0]++;
    bare_resume(&b, 1, HALF, b.node_half, MUCH);
    assert_int_equal(bare_lane_frame(&b, &len), 0);
    bare_leave(&n, &b, 3);
    WAIT_FOR(atomic_load(&r.count) == 4);
    close_all(&n);
}

/* Two processes have one id, in turn: the first comes back to what it thinks goes on. */
static void who_comes_back_after_another_process_begins_anew(void **state)
{
    static struct rig_node n;
    static struct reports r;
    struct bare first, second = {0};
    size_t len = 0;
    one_written_two_waiting(&n, &r, &first);
    bare_ack(&first, 0, first.read[0], MUCH);
    expect_frame(&first, MESSAGE_TYPE(0), "two");
    expect_frame(&first, MESSAGE_TYPE(0), "three");
    bare_leave(&n, &first, 1);
    bare_join(&second, 2, HALF + 1, 0, MUCH);
    WAIT_FOR(atomic_load(&r.count) == 2);
    assert_int_equal(say(&n, "s", "four"), COHORT_OK);
    expect_name(&second, "s");
    expect_frame(&second, MESSAGE_TYPE(0), "four");
    bare_leave(&n, &second, 2);
    bare_resume(&first, 3, HALF, first.node_half, MUCH);
    assert_int_equal(bare_lane_frame(&first, &len), 0);
    bare_leave(&n, &first, 3);
    WAIT_FOR(atomic_load(&r.count) == 3);
    expect_report(&r, 2, "four", true);
    bare_join(&first, 3, HALF, first.node_half, MUCH);
    memset(first.read, 0, sizeof first.read);
    assert_int_equal(say(&n, "s", "five"), COHORT_OK);
    expect_name(&first, "s");
    expect_frame(&first, MESSAGE_TYPE(0), "five");
    bare_ack(&first, 0, first.read[0], MUCH);
    bare_leave(&n, &first, 4);
    bare_join(&first, 3, HALF, first.node_half, MUCH); /* and goes on, from there on */
    assert_int_equal(say(&n, "s", "six"), COHORT_OK);
    expect_frame(&first, MESSAGE_TYPE(0), "six");
    assert_int_equal(atomic_load(&r.count), 3);
    close(first.fd);
    close_all(&n);
}

/* ---- real nodes ---------------------------------------------------------------------------------------------------- */

static void expect_in_order(struct rig_node *n, const cohort_message *message)
{
    uint32_t sequence;
    unsigned of = (unsigned char)message->subject[0] % 8; /* one lane has one subject: n, c, b or s */
    memcpy(&sequence, message->data, sizeof sequence);
    atomic_fetch_add(&n->wrong, n->next[of] != sequence);
    n->next[of] = sequence + 1;
}

static void a_member_that_is_not_there_yet_gets_it_when_it_comes(void **state)
{
    static struct rig_node n[2];
    static struct reports r;
    rig_run(&n[0], 0);
    listen_to(&n[0], &r);
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(cohort_send(n[0].node, address(1), "s", &i, sizeof i), COHORT_OK);
    }
    cohort_handle_id ignored;
    rig_begin(&n[1]);
    cohort_config config = rig_config(&n[1], 1);
    rig_open(&n[1], &config);
    n[1].on_message = expect_in_order;
    assert_int_equal(cohort_handle(n[1].node, NULL, rig_on_message, &n[1], rig_on_release, &ignored), COHORT_OK);
    rig_start(&n[1]);
    WAIT_FOR(atomic_load(&n[1].messages) == 1000);
    rig_close_pair(n);
    assert_int_equal(atomic_load(&r.count), 0);
}

/* Every connection of this process between two of its addresses is shut down, with what is in flight. */
static unsigned break_connections(void)
{
    unsigned count = 0;
    for (int fd = 3; fd < 1024; fd++) {
        struct sockaddr_in ours = {0}, theirs = {0};
        socklen_t ours_len = sizeof ours, theirs_len = sizeof theirs;
        if (getsockname(fd, (struct sockaddr *)&ours, &ours_len) == 0 && ours.sin_family == AF_INET &&
            getpeername(fd, (struct sockaddr *)&theirs, &theirs_len) == 0) {
            count += shutdown(fd, SHUT_RDWR) == 0;
        }
    }
    return count;
}

/* All that was accepted is known to be there; then closing has nothing to wait for, whether a link stands or not. */
static bool all_acknowledged(struct rig_node *n, const char *to)
{
    cohort_link_stats stats;
    return cohort_link_stats_get(n->node, to, &stats) == COHORT_OK && stats.queued_bytes == 0;
}

struct stream {
    struct rig_node *from;
    const char *to;
    _Atomic bool enough;
    _Atomic uint32_t sent; /* in each lane */
    pthread_t thread;
};

static void *send_in_all_lanes(void *arg)
{
    struct stream *s = arg;
    static const char *const subjects[] = {"normal", "control", "bulk"};
    uint8_t *body = calloc(1, 80000);
    for (uint32_t i = 0; !atomic_load(&s->enough); i++) {
        for (unsigned lane = 0; lane < COHORTI_LANE_COUNT; lane++) {
            int status;
            memcpy(body, &i, sizeof i);
            while ((status = cohort_send(s->from->node, s->to, subjects[lane], body, i % 50 == 0 ? 80000 : 8 + i % 300)) ==
                   COHORT_EAGAIN) {
                sched_yield();
            }
            atomic_fetch_add(&s->from->wrong, status != COHORT_OK);
        }
        atomic_store(&s->sent, i + 1);
    }
    free(body);
    return NULL;
}

static void connections_break_and_nothing_is_lost_or_repeated(void **state)
{
    static struct rig_node n[2];
    static struct reports r[2];
    struct stream streams[2] = {{.from = &n[0], .to = address(1)}, {.from = &n[1], .to = address(0)}};
    rig_pair(n);
    for (int i = 0; i < 2; i++) {
        listen_to(&n[i], &r[i]);
        n[i].on_message = expect_in_order;
        lane_of(&n[i], "control", COHORT_LANE_CONTROL);
        lane_of(&n[i], "bulk", COHORT_LANE_BULK);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&streams[i].thread, NULL, send_in_all_lanes, &streams[i]), 0);
    }
    for (int broken = 0; broken < 8; broken++) { /* each time after traffic over the new link */
        unsigned before = atomic_load(&n[1].messages);
        WAIT_FOR(atomic_load(&n[1].messages) >= before + 1000);
        WAIT_FOR(break_connections() > 0);
    }
    for (int i = 0; i < 2; i++) {
        atomic_store(&streams[i].enough, true);
        pthread_join(streams[i].thread, NULL);
    }
    for (int i = 0; i < 2; i++) {
        WAIT_FOR(atomic_load(&n[1 - i].messages) == COHORTI_LANE_COUNT * atomic_load(&streams[i].sent));
    }
    WAIT_FOR(all_acknowledged(&n[0], address(1)) && all_acknowledged(&n[1], address(0)));
    rig_close_pair(n);
    assert_int_equal(atomic_load(&r[0].count) + atomic_load(&r[1].count), 0);
}

static _Atomic uint64_t sum_seen;

static void add_up(struct rig_node *n, const cohort_message *message)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < message->data_len; i++) {
        sum = sum * 31 + ((const uint8_t *)message->data)[i];
    }
    atomic_store(&sum_seen, sum);
}

static void large_messages_arrive_whole(void **state)
{
    static const size_t sizes[] = {65551, 65552, 65553, 1 << 20, 16 << 20};
    static struct rig_node n[2];
    cohort_handle_id ignored;
    uint8_t *body = malloc((size_t)16 << 20);
    assert_non_null(body);
    for (int i = 1; i >= 0; i--) {
        rig_begin(&n[i]);
        cohort_config config = rig_config(&n[i], (unsigned)i);
        config.limits.message_bytes_max = 16 << 20;
        config.limits.peer_queue_bytes_max = 40 << 20;
        rig_open(&n[i], &config);
        n[i].on_message = add_up;
        assert_int_equal(cohort_handle(n[i].node, NULL, rig_on_message, &n[i], rig_on_release, &ignored), COHORT_OK);
        rig_start(&n[i]);
    }
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    for (size_t i = 0; i < UNIT_COUNT(sizes); i++) {
        uint64_t sum = 0;
        for (size_t at = 0; at < sizes[i]; at++) {
            body[at] = (uint8_t)(at * 7 + (at >> 11) + i);
            sum = sum * 31 + body[at];
        }
        assert_int_equal(cohort_send(n[0].node, address(1), "large", body, sizes[i]), COHORT_OK);
        WAIT_FOR(atomic_load(&n[1].messages) == i + 1);
        assert_true(atomic_load(&sum_seen) == sum);
    }
    assert_int_equal(cohort_send(n[0].node, address(1), "large", body, ((size_t)16 << 20) + 1), COHORT_ESIZE);
    free(body);
    rig_close_pair(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(the_same_process_goes_on_where_it_stood),
        node_test(another_process_gets_what_was_not_written_and_the_rest_is_told),
        node_test(what_was_acknowledged_is_never_told),
        node_test(a_member_removed_leaves_reports),
        node_test(a_node_closed_in_haste_says_so_and_leaves_reports),
        node_test(a_full_lane_is_told_of_once_when_it_has_room),
        node_test(urgent_subjects_overtake),
        node_test(a_mark_inside_a_frame_ends_nobody),
        node_test(a_peer_that_claims_too_much_begins_anew),
        node_test(who_comes_back_after_another_process_begins_anew),
        node_test(a_member_that_is_not_there_yet_gets_it_when_it_comes),
        node_test(connections_break_and_nothing_is_lost_or_repeated),
        node_test(large_messages_arrive_whole),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
