/* SPDX-License-Identifier: Apache-2.0
 *
 * node/lend: messages sent from the application's memory arrive as copied ones do, and the bytes are given back exactly once: not after
 * an error, not before they are acknowledged or told, whatever becomes of the member and the node.
 */
#include "asking.h"

#define LARGE ((size_t)300000)
#define SMALL ((size_t)100)

struct lending {
    uint8_t *bytes;
    size_t len;
    _Atomic unsigned released;
};

/* What is given back is made unreadable: who reads it later delivers something else. */
static void on_given_back(void *arg)
{
    struct lending *l = arg;
    memset(l->bytes, 0, l->len);
    atomic_fetch_add(&l->released, 1);
}

static void lending_init(struct lending *l, size_t len)
{
    *l = (struct lending){.bytes = malloc(len), .len = len};
    assert_non_null(l->bytes);
    for (size_t i = 0; i < len; i++) {
        l->bytes[i] = (uint8_t)(1 + i % 251);
    }
}

static void lending_end(struct lending *l, unsigned released)
{
    assert_int_equal(atomic_load(&l->released), released);
    free(l->bytes);
}

static bool is_as_lent(const void *data, size_t len)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != (uint8_t)(1 + i % 251)) {
            return false;
        }
    }
    return true;
}

static void check_bytes(struct rig_node *n, const cohort_message *message)
{
    atomic_fetch_add(&n->wrong, !is_as_lent(message->data, message->data_len));
}

struct reports {
    _Atomic unsigned count, wrong;
    struct lending *lending; /* may not have been given back when it is told */
};

static void on_undelivered(cohort_node *node, const cohort_undelivered *report, void *arg)
{
    struct reports *r = arg;
    bool right = report->data != NULL && is_as_lent(report->data, report->data_len) && atomic_load(&r->lending->released) == 0;
    atomic_fetch_add(&r->wrong, !right);
    atomic_fetch_add(&r->count, 1);
}

static int send_lent(struct rig_node *n, unsigned to, const char *subject, struct lending *l)
{
    return cohort_send_ref(n->node, address(to), subject, l->bytes, l->len, on_given_back, l);
}

static void arrives_and_is_given_back(void **state)
{
    static const size_t sizes[] = {0, SMALL, 4095, 4096, 65536, 65553, LARGE, 1 << 20};
    static struct rig_node n[2];
    rig_pair(n);
    n[1].on_message = check_bytes;
    cohort_route *route = NULL;
    assert_int_equal(cohort_route_open(n[0].node, address(1), "r", &route), COHORT_OK);
    for (unsigned i = 0; i < 2 * UNIT_COUNT(sizes); i++) {
        struct lending l;
        lending_init(&l, sizes[i / 2]);
        int status = i % 2 == 0 ? send_lent(&n[0], 1, "s", &l) : cohort_route_send_ref(route, l.bytes, l.len, on_given_back, &l);
        assert_int_equal(status, COHORT_OK);
        WAIT_FOR(atomic_load(&n[1].messages) == i + 1 && atomic_load(&l.released) > 0);
        lending_end(&l, 1);
    }
    cohort_route_close(route);
    rig_close_pair(n);
}

static void taken_memory_is_freed_by_the_library(void **state)
{
    static struct rig_node n[2];
    rig_pair(n);
    n[1].on_message = check_bytes;
    for (unsigned i = 0; i < 20; i++) {
        struct lending l;
        lending_init(&l, i % 2 == 0 ? LARGE : SMALL);
        uint8_t *own = n[0].memory.alloc.allocate(n[0].memory.alloc.ctx, l.len);
        memcpy(own, l.bytes, l.len);
        assert_int_equal(cohort_send_take(n[0].node, "nobody", "s", own, l.len), COHORT_ENOPEER); /* it is ours still */
        assert_int_equal(cohort_send_take(n[0].node, address(1), "s", own, l.len), COHORT_OK);
        lending_end(&l, 0);
    }
    WAIT_FOR(atomic_load(&n[1].messages) == 20);
    rig_close_pair(n); /* nothing is left, nothing was freed twice */
}

static void an_error_leaves_the_bytes_with_the_caller(void **state)
{
    static struct rig_node n[2];
    struct lending l;
    cohort_limits limits;
    rig_pair(n);
    lending_init(&l, LARGE);
    cohort_config config = rig_config(&n[0], 0);
    limits = config.limits;
    assert_int_equal(send_lent(&n[0], 2, "s", &l), COHORT_ENOPEER);
    assert_int_equal(send_lent(&n[0], 1, "not a name", &l), COHORT_EINVAL);
    assert_int_equal(send_lent(&n[0], 0, "s", &l), COHORT_EINVAL);
    assert_int_equal(send_lent(&n[0], 1, "#7", &l), COHORT_ESIZE); /* raw frames are not cut up */
    assert_int_equal(cohort_send_ref(n[0].node, address(1), "s", l.bytes, (size_t)limits.message_bytes_max + 1, on_given_back, &l),
                     COHORT_ESIZE);
    for (uint64_t i = 1; i < 8; i++) { /* each allocation there is, until one send needs no more */
        atomic_store(&n[0].memory.fail_next, atomic_load(&n[0].memory.calls) + i);
        int status = send_lent(&n[0], 1, "s", &l);
        atomic_store(&n[0].memory.fail_next, 0);
        if (status == COHORT_OK) {
            WAIT_FOR(atomic_load(&l.released) == 1);
            break;
        }
        assert_int_equal(status, COHORT_ENOMEM);
        assert_int_equal(atomic_load(&l.released), 0);
    }
    WAIT_FOR(atomic_load(&n[1].messages) == 1);
    lending_end(&l, 1);
    rig_close_pair(n);
}

/* A member that never comes: removed, the node closed, its time over. */
static void what_is_told_is_given_back_afterwards(void **state)
{
    for (int how = 0; how < 3; how++) {
        static struct rig_node n;
        static struct reports r;
        struct lending l;
        cohort_handle_id ignored;
        cohort_subject_options options;
        rig_run(&n, 0);
        lending_init(&l, LARGE);
        memset(&r, 0, sizeof r);
        r.lending = &l;
        assert_int_equal(cohort_on_undelivered(n.node, on_undelivered, &r, NULL, &ignored), COHORT_OK);
        assert_int_equal(cohort_node_add(n.node, address(1), address(1), PORT), COHORT_OK);
        COHORT_SUBJECT_OPTIONS_INIT(&options);
        options.ttl_ms = how == 2 ? 30 : 0;
        assert_int_equal(cohort_subject_set(n.node, "s", &options), COHORT_OK);
        assert_int_equal(send_lent(&n, 1, "s", &l), COHORT_OK);
        if (how == 0) {
            assert_int_equal(atomic_load(&l.released), 0);
            assert_int_equal(cohort_node_remove(n.node, address(1)), COHORT_OK);
        }
        if (how != 1) {
            WAIT_FOR(atomic_load(&l.released) == 1);
            assert_int_equal(atomic_load(&r.count), 1);
        }
        assert_int_equal(rig_close(&n), how == 1 ? COHORT_ETIMEDOUT : COHORT_OK);
        assert_int_equal(atomic_load(&r.count), 1);
        assert_int_equal(atomic_load(&r.wrong), 0);
        lending_end(&l, 1);
    }
}

/* One copy for all, given back when the last has it; and when there is nobody. */
static void a_broadcast_is_given_back_once(void **state)
{
    static struct rig_node n[3];
    size_t sent = 9;
    for (int i = 2; i >= 0; i--) {
        rig_run(&n[i], (unsigned)i);
        n[i].on_message = check_bytes;
    }
    for (unsigned round = 0; round < 3; round++) {
        struct lending l;
        lending_init(&l, round == 2 ? SMALL : LARGE);
        if (round == 1) {
            for (unsigned i = 1; i < 3; i++) {
                assert_int_equal(cohort_node_add(n[0].node, address(i), address(i), PORT), COHORT_OK);
                WAIT_FOR(atomic_load(&n[0].activated) == i && atomic_load(&n[i].activated) == 1);
            }
        }
        assert_int_equal(cohort_broadcast_ref(n[0].node, "s", l.bytes, l.len, on_given_back, &l, &sent), COHORT_OK);
        assert_int_equal(sent, round == 0 ? 0 : 2);
        WAIT_FOR(atomic_load(&l.released) == 1 && atomic_load(&n[1].messages) == round && atomic_load(&n[2].messages) == round);
        lending_end(&l, 1);
    }
    struct lending l;
    lending_init(&l, LARGE);
    assert_int_equal(cohort_broadcast_ref(n[0].node, "not a name", l.bytes, l.len, on_given_back, &l, &sent), COHORT_EINVAL);
    lending_end(&l, 1); /* always, since some may have it */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rig_close(&n[i]), COHORT_OK);
    }
}

/* A message larger than the watermark is taken by a lane that is half empty; the next one is not, until it has gone. */
static void a_message_may_be_larger_than_its_lane(void **state)
{
    static struct rig_node n[2];
    cohort_handle_id ignored;
    struct lending l[3];
    for (int i = 1; i >= 0; i--) {
        rig_begin(&n[i]);
        cohort_config config = rig_config(&n[i], (unsigned)i);
        config.limits.message_bytes_max = 4 << 20;
        config.limits.peer_queue_bytes_max = 64 * 1024;
        config.limits.window_bytes = 64 * 1024;
        rig_open(&n[i], &config);
        n[i].on_message = check_bytes;
        assert_int_equal(cohort_handle(n[i].node, NULL, rig_on_message, &n[i], rig_on_release, &ignored), COHORT_OK);
        rig_start(&n[i]);
    }
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].activated) == 1);
    for (unsigned i = 0; i < 3; i++) {
        int status = COHORT_OK;
        lending_init(&l[i], (size_t)4 << 20);
        WAIT_FOR((status = send_lent(&n[0], 1, "s", &l[i])) != COHORT_EAGAIN);
        assert_int_equal(status, COHORT_OK);
    }
    WAIT_FOR(atomic_load(&n[1].messages) == 3 && atomic_load(&l[2].released) == 1);
    for (unsigned i = 0; i < 3; i++) {
        lending_end(&l[i], 1);
    }
    rig_close_pair(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(arrives_and_is_given_back),
        node_test(taken_memory_is_freed_by_the_library),
        node_test(an_error_leaves_the_bytes_with_the_caller),
        node_test(what_is_told_is_given_back_afterwards),
        node_test(a_broadcast_is_given_back_once),
        node_test(a_message_may_be_larger_than_its_lane),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
