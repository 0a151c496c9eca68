/* SPDX-License-Identifier: Apache-2.0
 *
 * core/cluster: life, the dial schedule, deadlines, what we say in HELLO, stopping.
 */
#include "rig.h"

static void the_local_node_is_there_and_active(void **state)
{
    struct rig r;
    struct cohorti_cluster_config config = rig_config("m");
    cohort_member self;
    rig_open(&r, &config);
    assert_true(cohorti_cluster_member_at(&r.c, 0, &self));
    assert_false(cohorti_cluster_member_at(&r.c, 1, &self));
    assert_string_equal(self.id, "m");
    assert_string_equal(self.ip, "127.0.0.9");
    assert_int_equal(self.tcp_port, 9876);
    assert_true(self.local);
    assert_int_equal(self.state, COHORT_ACTIVE);
    assert_int_equal(self.incarnation, RIG_INCARNATION);
    rig_close(&r);
}

static void the_greeting_says_who_we_are(void **state)
{
    struct rig r;
    struct cohorti_cluster_config config = rig_config("m");
    struct cohorti_hello hello;
    (void)snprintf(config.cluster, sizeof config.cluster, "blue");
    rig_open(&r, &config);
    cohorti_cluster_greeting(&r.c, 5, &hello);
    assert_string_equal(hello.id, "m");
    assert_string_equal(hello.ip, "127.0.0.9");
    assert_int_equal(hello.tcp_port, 9876);
    assert_string_equal(hello.cluster, "blue");
    assert_true(hello.extended);
    assert_int_equal(hello.version_min, COHORTI_PROTOCOL_VERSION);
    assert_int_equal(hello.version_max, COHORTI_PROTOCOL_VERSION);
    assert_int_equal(hello.incarnation, RIG_INCARNATION);
    assert_int_equal(hello.attempt, 5);
    rig_close(&r);
}

static void nothing_is_dialled_before_start(void **state)
{
    struct rig r;
    struct cohorti_cluster_config config = rig_config("m");
    rig_open(&r, &config);
    rig_add(&r, "a");
    rig_pass(&r, 100 * SECOND);
    rig_expect(&r, "ADDED a");
    cohorti_cluster_start(&r.c, r.now); /* in this step, not at the next timer: see the function */
    rig_expect(&r, "DIAL 1 127.0.0.2:9000");
    rig_close(&r);
}

static void a_dial_that_fails_is_repeated_later_and_later(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_add(&r, "a");
    rig_expect(&r, "ADDED a");
    rig_pass(&r, 0);
    rig_expect(&r, "DIAL 1 127.0.0.2:9000");
    uint64_t most = 100 * MS;
    for (uint64_t link = 1; link < 20; link++) {
        char text[64];
        rig_closed(&r, link, COHORT_EUNREACHABLE);
        uint64_t wait = cohorti_cluster_deadline(&r.c) - r.now;
        assert_in_range(wait, most / 2, most);
        rig_pass(&r, wait);
        (void)snprintf(text, sizeof text, "DIAL %u 127.0.0.2:9000", (unsigned)link + 1);
        rig_expect(&r, text);
        most = most * 2 > 10 * SECOND ? 10 * SECOND : most * 2;
    }
    rig_close(&r);
}

/* Whoever starts there dials us at once, so there is no hurry: 800 ms, not 100. */
static void where_nobody_listens_the_next_dial_is_not_soon(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_add(&r, "a");
    rig_pass(&r, 0);
    rig_expect(&r, "ADDED a; DIAL 1 127.0.0.2:9000");
    rig_closed(&r, 1, COHORT_EREFUSED);
    assert_in_range(cohorti_cluster_deadline(&r.c) - r.now, 400 * MS, 800 * MS);
    rig_pass(&r, 800 * MS);
    rig_expect(&r, "DIAL 2 127.0.0.2:9000");
    rig_closed(&r, 2, COHORT_EREFUSED);
    assert_in_range(cohorti_cluster_deadline(&r.c) - r.now, 800 * MS, 1600 * MS);
    rig_close(&r);
}

static void timers_late_by(struct rig *r, uint64_t late_ns)
{
    r->now = cohorti_cluster_deadline(&r->c) + late_ns;
    cohorti_cluster_on_timer(&r->c, r->now);
}

/* What has come meanwhile is read first: it may be the peer's own HELLO. Once, and only what failed before. */
static void a_dial_whose_timer_is_late_waits_once_more(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_add(&r, "a");
    timers_late_by(&r, SECOND);
    rig_expect(&r, "ADDED a; DIAL 1 127.0.0.2:9000");
    rig_closed(&r, 1, COHORT_EREFUSED);
    timers_late_by(&r, 20 * MS); /* not late enough */
    rig_expect(&r, "DIAL 2 127.0.0.2:9000");
    rig_closed(&r, 2, COHORT_EREFUSED);
    timers_late_by(&r, 20 * MS + 1);
    rig_expect(&r, "");
    assert_int_equal(cohorti_cluster_deadline(&r.c), r.now + 100 * MS);
    timers_late_by(&r, SECOND); /* late again, perhaps for ever */
    rig_expect(&r, "DIAL 3 127.0.0.2:9000");
    rig_closed(&r, 3, COHORT_EREFUSED);
    timers_late_by(&r, SECOND);
    rig_expect(&r, "");
    rig_greeted(&r, rig_accept(&r), "a", 5, 1); /* here it is */
    rig_pass(&r, 4 * SECOND);
    rig_expect(&r, "GREET 4 0; UPDATE a 127.0.0.2:9000 inc=5; ADMIT 4 v1");
    rig_close(&r);
}

/* A connect proves only that a kernel is there; a byte proves that a process is. */
static void only_a_byte_resets_the_back_off(void **state)
{
    struct rig r;
    char ignored[8192];
    rig_start(&r);
    rig_add(&r, "a");
    for (uint64_t link = 1; link <= 10; link++) {
        rig_pass(&r, 10 * SECOND);
        rig_connected(&r, link);
        rig_closed(&r, link, COHORT_ERESET);
        rig_effects(&r, ignored, sizeof ignored);
    }
    assert_in_range(cohorti_cluster_deadline(&r.c) - r.now, 5 * SECOND, 10 * SECOND);
    rig_pass(&r, 10 * SECOND);
    rig_connected(&r, 11);
    cohorti_cluster_received(&r.c, 11);
    rig_closed(&r, 11, COHORT_ERESET);
    assert_in_range(cohorti_cluster_deadline(&r.c) - r.now, 50 * MS, 100 * MS);
    cohorti_cluster_received(&r.c, 11); /* a link that is gone */
    rig_close(&r);
}

/* The 2014 custodian: 1 s after start, then every 5 s, whoever was added when. */
static void the_seed_schedule(void **state)
{
    struct rig r;
    struct cohorti_cluster_config config = rig_config("m");
    config.dial.mode = COHORT_DIAL_SEED;
    rig_open(&r, &config);
    rig_add(&r, "a");
    uint64_t start = r.now;
    cohorti_cluster_start(&r.c, start);
    rig_pass(&r, SECOND - 1);
    rig_expect(&r, "ADDED a");
    rig_pass(&r, 1);
    rig_expect(&r, "DIAL 1 127.0.0.2:9000");
    rig_closed(&r, 1, COHORT_EREFUSED);
    rig_pass(&r, 2 * SECOND);
    rig_add(&r, "b"); /* waits for the same tick */
    rig_expect(&r, "ADDED b");
    assert_int_equal(cohorti_cluster_deadline(&r.c), start + 6 * SECOND);
    rig_pass(&r, 3 * SECOND - 1);
    rig_expect(&r, "");
    rig_pass(&r, 1);
    rig_expect(&r, "DIAL 2 127.0.0.2:9000; DIAL 3 127.0.0.2:9000");
    rig_closed(&r, 2, COHORT_EREFUSED);
    rig_closed(&r, 3, COHORT_EREFUSED);
    assert_int_equal(cohorti_cluster_deadline(&r.c), start + 11 * SECOND);
    rig_close(&r);
}

static void a_connect_without_answer_is_given_up(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_add(&r, "a");
    rig_pass(&r, 0);
    rig_expect(&r, "ADDED a; DIAL 1 127.0.0.2:9000");
    assert_string_equal(cohorti_cluster_dialled(&r.c, 1), "a");
    assert_null(cohorti_cluster_dialled(&r.c, 2));
    rig_pass(&r, 3 * SECOND - 1);
    rig_expect(&r, "");
    rig_pass(&r, 1);
    rig_expect(&r, "CLOSE 1 EUNREACHABLE");
    rig_connected(&r, 1); /* too late */
    assert_int_equal(cohorti_cluster_deadline(&r.c), COHORTI_NEVER);
    rig_closed(&r, 1, COHORT_EUNREACHABLE);
    rig_expect(&r, "");
    rig_pass(&r, 100 * MS);
    rig_expect(&r, "DIAL 2 127.0.0.2:9000");
    rig_close(&r);
}

static void a_handshake_has_a_deadline(void **state)
{
    struct rig r;
    rig_start(&r);
    uint64_t silent = rig_accept(&r);
    rig_expect(&r, "GREET 1 0");
    rig_pass(&r, SECOND);
    uint64_t halfway = rig_accept(&r);
    rig_greeted(&r, halfway, "a", 1, 1);
    rig_expect(&r, "GREET 2 0; ADDED a; UPDATE a 127.0.0.2:9000 inc=1; ADMIT 2 v1");
    rig_pass(&r, 4 * SECOND - 1);
    rig_expect(&r, "");
    rig_pass(&r, 1);
    rig_expect(&r, "CLOSE 1 EHANDSHAKE");
    rig_pass(&r, SECOND);
    rig_expect(&r, "CLOSE 2 EHANDSHAKE");
    rig_greeted(&r, silent, "b", 1, 1);
    rig_welcomed(&r, halfway);
    rig_expect(&r, "");
    rig_closed(&r, silent, COHORT_EHANDSHAKE);
    rig_closed(&r, halfway, COHORT_EHANDSHAKE);
    rig_pass(&r, 0);
    rig_expect(&r, "DIAL 3 127.0.0.2:9000");
    rig_connected(&r, 3);
    rig_expect(&r, "GREET 3 2");
    rig_pass(&r, 5 * SECOND);
    rig_expect(&r, "CLOSE 3 EHANDSHAKE");
    rig_close(&r);
}

static void an_open_link_has_no_deadline(void **state)
{
    struct rig r;
    rig_start(&r);
    (void)rig_open_link(&r, "a", 1, 1);
    assert_int_equal(cohorti_cluster_deadline(&r.c), COHORTI_NEVER);
    rig_close(&r);
}

static void too_many_strangers_evict_the_oldest(void **state)
{
    struct rig r;
    rig_start(&r);
    for (unsigned i = 0; i < 3; i++) {
        (void)rig_accept(&r);
    }
    rig_expect(&r, "GREET 1 0; GREET 2 0; GREET 3 0");
    rig_greeted(&r, 2, "a", 1, 1); /* not a stranger any more */
    rig_expect(&r, "ADDED a; UPDATE a 127.0.0.2:9000 inc=1; ADMIT 2 v1");
    (void)rig_accept(&r);
    rig_expect(&r, "GREET 4 0");
    (void)rig_accept(&r);
    rig_expect(&r, "CLOSE 1 ELIMIT; GREET 5 0");
    (void)rig_accept(&r); /* 1 is not gone yet, but counts no more */
    rig_expect(&r, "CLOSE 3 ELIMIT; GREET 6 0");
    rig_closed(&r, 1, COHORT_ELIMIT);
    rig_closed(&r, 3, COHORT_ELIMIT);
    (void)rig_accept(&r);
    rig_expect(&r, "CLOSE 4 ELIMIT; GREET 7 0");
    rig_close(&r);
}

static void stop_says_goodbye_and_closes_everything(void **state)
{
    struct rig r;
    uint64_t ignored = 0;
    rig_start(&r);
    uint64_t open = rig_open_link(&r, "a", 1, 1);
    rig_add(&r, "b");
    rig_pass(&r, 0);
    uint64_t stranger = rig_accept(&r);
    uint64_t admitted = rig_accept(&r);
    rig_greeted(&r, admitted, "c", 1, 1);
    rig_expect(&r, "ADDED b; DIAL 2 127.0.0.2:9000; GREET 3 0; GREET 4 0; ADDED c; UPDATE c 127.0.0.2:9000 inc=1; ADMIT 4 v1");
    assert_false(cohorti_cluster_is_idle(&r.c));
    cohorti_cluster_stop(&r.c);
    rig_expect(&r, "LEAVE 1; CLOSE 2 ECLOSED; CLOSE 4 ECLOSED; CLOSE 3 ECLOSED");
    assert_int_equal(cohorti_cluster_accepted(&r.c, r.now, &ignored), COHORT_ECLOSED);
    assert_int_equal(cohorti_cluster_add(&r.c, r.now, "d", "127.0.0.2", 9000), COHORT_ECLOSED);
    rig_connected(&r, 2);
    rig_greeted(&r, stranger, "x", 1, 1);
    rig_welcomed(&r, admitted);
    rig_expect(&r, "");
    rig_closed(&r, 2, COHORT_ECLOSED);
    rig_closed(&r, stranger, COHORT_ECLOSED);
    rig_closed(&r, admitted, COHORT_ECLOSED);
    assert_false(cohorti_cluster_is_idle(&r.c));
    rig_closed(&r, open, COHORT_ECLOSED);
    rig_expect(&r, "DEACTIVATED a ECLOSED");
    assert_true(cohorti_cluster_is_idle(&r.c));
    assert_int_equal(cohorti_cluster_deadline(&r.c), COHORTI_NEVER);
    rig_close(&r);
}

static void stop_before_start_is_idle_at_once(void **state)
{
    struct rig r;
    struct cohorti_cluster_config config = rig_config("m");
    rig_open(&r, &config);
    rig_add(&r, "a");
    cohorti_cluster_stop(&r.c);
    rig_expect(&r, "ADDED a");
    assert_true(cohorti_cluster_is_idle(&r.c));
    rig_close(&r);
}

static void reports_about_no_link_are_ignored(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_connected(&r, 99);
    rig_greeted(&r, 99, "a", 1, 1);
    rig_welcomed(&r, 99);
    rig_refused(&r, 99, COHORT_ESTALE, 5);
    rig_closed(&r, 99, COHORT_ERESET);
    uint64_t link = rig_accept(&r);
    rig_connected(&r, link); /* was not dialled */
    rig_welcomed(&r, link);  /* not admitted */
    rig_expect(&r, "GREET 1 0");
    rig_closed(&r, link, COHORT_ERESET);
    rig_closed(&r, link, COHORT_ERESET);
    rig_expect(&r, "");
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_local_node_is_there_and_active),
        cmocka_unit_test(the_greeting_says_who_we_are),
        cmocka_unit_test(nothing_is_dialled_before_start),
        cmocka_unit_test(a_dial_that_fails_is_repeated_later_and_later),
        cmocka_unit_test(where_nobody_listens_the_next_dial_is_not_soon),
        cmocka_unit_test(a_dial_whose_timer_is_late_waits_once_more),
        cmocka_unit_test(only_a_byte_resets_the_back_off),
        cmocka_unit_test(the_seed_schedule),
        cmocka_unit_test(a_connect_without_answer_is_given_up),
        cmocka_unit_test(a_handshake_has_a_deadline),
        cmocka_unit_test(an_open_link_has_no_deadline),
        cmocka_unit_test(too_many_strangers_evict_the_oldest),
        cmocka_unit_test(stop_says_goodbye_and_closes_everything),
        cmocka_unit_test(stop_before_start_is_idle_at_once),
        cmocka_unit_test(reports_about_no_link_are_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
