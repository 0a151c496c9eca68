/* SPDX-License-Identifier: Apache-2.0
 *
 * core/cluster_link: which HELLO is refused and why, opening, superseding, restarts, incarnations, duplicates.
 */
#include "rig.h"

/* ---- refused ------------------------------------------------------------------------------------------------------- */

static void our_own_id_is_refused(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_greeted(&r, rig_accept(&r), "m", 1, 1);
    rig_expect(&r, "GREET 1 0; REFUSE 1 EOWNID (text)");
    rig_close(&r);
}

static void another_cluster_is_refused_an_unnamed_one_is_not(void **state)
{
    static const struct {
        const char *ours, *theirs;
        bool refused;
    } cases[] = {{"blue", "red", true}, {"blue", "blue", false}, {"blue", "", false}, {"", "red", false}, {"", "", false}};
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        struct rig r;
        struct cohorti_cluster_config config = rig_config("m");
        (void)snprintf(config.cluster, sizeof config.cluster, "%s", cases[i].ours);
        rig_open(&r, &config);
        cohorti_cluster_start(&r.c, r.now);
        struct cohorti_hello hello = rig_hello("a", 1, 1);
        (void)snprintf(hello.cluster, sizeof hello.cluster, "%s", cases[i].theirs);
        cohorti_cluster_hello(&r.c, r.now, rig_accept(&r), &hello);
        rig_expect(&r, cases[i].refused ? "GREET 1 0; REFUSE 1 ECLUSTER (text)"
                                        : "GREET 1 0; ADDED a; UPDATE a 127.0.0.2:9000 inc=1; ADMIT 1 v1");
        rig_close(&r);
    }
}

static void who_is_not_listed_is_refused(void **state)
{
    struct rig r;
    struct cohorti_cluster_config config = rig_config("m");
    config.open_admission = false;
    rig_open(&r, &config);
    cohorti_cluster_start(&r.c, r.now);
    rig_add(&r, "a");
    rig_greeted(&r, rig_accept(&r), "b", 1, 1);
    rig_expect(&r, "ADDED a; GREET 1 0; REFUSE 1 ENOTLISTED");
    rig_greeted(&r, rig_accept(&r), "a", 1, 1);
    rig_expect(&r, "GREET 2 0; UPDATE a 127.0.0.2:9000 inc=1; ADMIT 2 v1");
    rig_close(&r);
}

static void another_member_at_the_address_dialled_is_refused(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_add(&r, "a");
    rig_pass(&r, 0);
    rig_connected(&r, 1);
    cohorti_cluster_received(&r.c, 1);
    rig_greeted(&r, 1, "b", 1, 0);
    rig_expect(&r, "ADDED a; DIAL 1 127.0.0.2:9000; GREET 1 1; REFUSE 1 EIDENTITY (text)");
    assert_null(cohorti_member_find(&r.c, "b"));
    rig_close(&r);
}

static void versions_must_meet(void **state)
{
    static const struct {
        uint16_t min, max;
        bool refused;
    } cases[] = {{1, 1, false}, {1, 9, false}, {2, 9, true}};
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        struct rig r;
        rig_start(&r);
        struct cohorti_hello hello = rig_hello("a", 1, 1);
        hello.version_min = cases[i].min;
        hello.version_max = cases[i].max;
        cohorti_cluster_hello(&r.c, r.now, rig_accept(&r), &hello);
        rig_expect(&r, cases[i].refused ? "GREET 1 0; REFUSE 1 EVERSION (text)"
                                        : "GREET 1 0; ADDED a; UPDATE a 127.0.0.2:9000 inc=1; ADMIT 1 v1");
        rig_close(&r);
    }
}

/* A refusal that stays makes the dialler wait ever longer, although bytes came each time. */
static void refused_dials_back_off(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_add(&r, "a");
    for (uint64_t link = 1; link <= 10; link++) {
        rig_pass(&r, cohorti_cluster_deadline(&r.c) - r.now);
        rig_connected(&r, link);
        cohorti_cluster_received(&r.c, link);
        rig_refused(&r, link, COHORT_ENOTLISTED, 0);
        rig_closed(&r, link, COHORT_EREMOTE);
        rig_effects(&r, (char[8192]){0}, 8192);
    }
    assert_in_range(cohorti_cluster_deadline(&r.c) - r.now, 5 * SECOND, 10 * SECOND);
    rig_close(&r);
}

/* ---- incarnations -------------------------------------------------------------------------------------------------- */

static void a_lower_incarnation_is_refused_with_the_highest_seen(void **state)
{
    struct rig r;
    rig_start(&r);
    uint64_t link = rig_open_link(&r, "a", 50, 1);
    rig_greeted(&r, rig_accept(&r), "a", 49, 9);
    rig_expect(&r, "GREET 2 0; REFUSE 2 ESTALE 50");
    rig_closed(&r, link, COHORT_ERESET);
    rig_greeted(&r, rig_accept(&r), "a", 49, 9);
    rig_expect(&r, "DEACTIVATED a ERESET; GREET 3 0; REFUSE 3 ESTALE 50");
    rig_close(&r);
}

/* New process: DEACTIVATED at once, ACTIVATED only when the old link cannot deliver any more. */
static void a_restarted_peer_takes_over(void **state)
{
    struct rig r;
    rig_start(&r);
    uint64_t old = rig_open_link(&r, "a", 50, 8);
    uint64_t new = rig_accept(&r);
    rig_greeted(&r, new, "a", 51, 1); /* its attempts begin again */
    rig_expect(&r, "GREET 2 0; CLOSE 1 ERESTARTED; DEACTIVATED a ERESTARTED; UPDATE a 127.0.0.2:9000 inc=51; ADMIT 2 v1");
    rig_welcomed(&r, new);
    rig_expect(&r, "");
    assert_int_equal(rig_member(&r, "a").state, COHORT_INACTIVE);
    rig_closed(&r, old, COHORT_ERESTARTED);
    rig_expect(&r, "OPEN 2 a; ACTIVATED a; RECEIVE 2");
    rig_close(&r);
}

static void a_restarted_peer_ends_handshakes_of_the_old_process(void **state)
{
    struct rig r;
    rig_start(&r);
    uint64_t old = rig_accept(&r);
    rig_greeted(&r, old, "a", 50, 8);
    rig_effects(&r, (char[8192]){0}, 8192);
    uint64_t new = rig_accept(&r);
    rig_greeted(&r, new, "a", 51, 1);
    rig_welcomed(&r, new);
    rig_expect(&r, "GREET 2 0; CLOSE 1 ERESTARTED; UPDATE a 127.0.0.2:9000 inc=51; ADMIT 2 v1; OPEN 2 a; ACTIVATED a; RECEIVE 2");
    rig_welcomed(&r, old);
    rig_expect(&r, "");
    rig_close(&r);
}

static void dialled_for_the_first_time_and_told_it_is_stale(struct rig *r, uint64_t known)
{
    rig_start(r);
    rig_add(r, "a");
    rig_pass(r, 0);
    rig_connected(r, 1);
    rig_effects(r, (char[8192]){0}, 8192);
    rig_refused(r, 1, COHORT_ESTALE, known);
}

static void a_clock_set_back_raises_our_incarnation(void **state)
{
    struct rig r;
    struct cohorti_hello hello;
    dialled_for_the_first_time_and_told_it_is_stale(&r, RIG_INCARNATION + 77);
    rig_expect(&r, "NOTE a ESTALE; UPDATE m 127.0.0.9:9876 inc=1078; CLOSE 1 EREMOTE");
    cohorti_cluster_greeting(&r.c, 1, &hello);
    assert_int_equal(hello.incarnation, RIG_INCARNATION + 78);
    rig_close(&r);
}

static void the_same_incarnation_is_raised_too(void **state)
{
    struct rig r;
    dialled_for_the_first_time_and_told_it_is_stale(&r, RIG_INCARNATION);
    rig_expect(&r, "NOTE a ESTALE; UPDATE m 127.0.0.9:9876 inc=1001; CLOSE 1 EREMOTE");
    rig_close(&r);
}

/* Nobody can push us further ahead than a year, nor more than three times in a row. */
static void raising_has_bounds(void **state)
{
    struct rig r;
    dialled_for_the_first_time_and_told_it_is_stale(&r, RIG_INCARNATION + UINT64_C(366) * 86400 * 1000000);
    rig_expect(&r, "NOTE a ESTALE; CLOSE 1 EREMOTE");
    rig_close(&r);
    dialled_for_the_first_time_and_told_it_is_stale(&r, UINT64_MAX);
    rig_expect(&r, "NOTE a ESTALE; CLOSE 1 EREMOTE");
    rig_close(&r);
    dialled_for_the_first_time_and_told_it_is_stale(&r, RIG_INCARNATION + 10);
    for (uint64_t link = 2; link <= 4; link++) {
        rig_closed(&r, link - 1, COHORT_EREMOTE);
        rig_pass(&r, SECOND);
        rig_connected(&r, link);
        rig_effects(&r, (char[8192]){0}, 8192);
        rig_refused(&r, link, COHORT_ESTALE, RIG_INCARNATION + 10 * link);
    }
    rig_expect(&r, "NOTE a ESTALE; CLOSE 4 EREMOTE");
    assert_int_equal(r.c.self->public.incarnation, RIG_INCARNATION + 31);
    rig_close(&r);
}

static void refused_as_stale(struct rig *r, uint64_t link, uint64_t known)
{
    rig_closed(r, link - 1, COHORT_EREMOTE);
    rig_pass(r, 2 * SECOND); /* past the back-off, short of the connect timeout */
    rig_connected(r, link);
    rig_effects(r, (char[8192]){0}, 8192);
    rig_refused(r, link, COHORT_ESTALE, known);
}

/* Two processes with one id would take turns for ever. */
static void raising_again_takes_ten_minutes(void **state)
{
    struct rig r;
    dialled_for_the_first_time_and_told_it_is_stale(&r, RIG_INCARNATION + 10);
    for (uint64_t link = 2; link <= 5; link++) {
        refused_as_stale(&r, link, RIG_INCARNATION + 10 * link);
    }
    assert_int_equal(r.c.self->public.incarnation, RIG_INCARNATION + 31);
    rig_pass(&r, 600 * SECOND); /* link 5 is not gone yet: nothing is dialled */
    refused_as_stale(&r, 6, RIG_INCARNATION + 100);
    assert_int_equal(r.c.self->public.incarnation, RIG_INCARNATION + 101);
    rig_close(&r);
}

/* The last words of our previous process may be read after the new one has a link. */
static void a_peer_that_had_a_link_to_us_makes_us_raise_too(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_closed(&r, rig_open_link(&r, "a", 1, 1), COHORT_ERESET);
    rig_pass(&r, SECOND);
    rig_connected(&r, 2);
    rig_effects(&r, (char[8192]){0}, 8192);
    rig_refused(&r, 2, COHORT_ESTALE, RIG_INCARNATION + 1);
    rig_expect(&r, "NOTE a ESTALE; UPDATE m 127.0.0.9:9876 inc=1002; CLOSE 2 EREMOTE");
    rig_close(&r);
}

/* Both of two crossing links are refused with the number that we have already gone beyond: nothing to say. */
static void a_refusal_that_is_out_of_date_is_no_second_process(void **state)
{
    struct rig r;
    dialled_for_the_first_time_and_told_it_is_stale(&r, RIG_INCARNATION + 77);
    uint64_t other = rig_accept(&r);
    rig_greeted(&r, other, "a", 5, 3);
    rig_effects(&r, (char[8192]){0}, 8192);
    rig_refused(&r, other, COHORT_ESTALE, RIG_INCARNATION + 77);
    rig_expect(&r, "CLOSE 2 EREMOTE");
    assert_int_equal(r.c.raises, 1);
    rig_close(&r);
}

/* ---- one link ------------------------------------------------------------------------------------------------------ */

static void opening_follows_the_order_of_the_contract(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_add(&r, "a");
    rig_pass(&r, 0);
    rig_expect(&r, "ADDED a; DIAL 1 127.0.0.2:9000");
    rig_connected(&r, 1);
    rig_expect(&r, "GREET 1 1");
    rig_greeted(&r, 1, "a", 5, 0);
    rig_expect(&r, "UPDATE a 127.0.0.2:9000 inc=5; ADMIT 1 v1");
    assert_int_equal(rig_member(&r, "a").state, COHORT_INACTIVE);
    rig_greeted(&r, 1, "a", 5, 0); /* the link reads one HELLO only; told twice, it is ignored */
    rig_welcomed(&r, 1);
    rig_expect(&r, "OPEN 1 a; ACTIVATED a; RECEIVE 1");
    rig_welcomed(&r, 1);
    rig_expect(&r, "");
    rig_close(&r);
}

/* The peer lost the link and we have not noticed: no DEACTIVATED, and no two links deliver at once. */
static void a_redial_supersedes_without_deactivating(void **state)
{
    struct rig r;
    rig_start(&r);
    uint64_t old = rig_open_link(&r, "a", 5, 1);
    uint64_t new = rig_accept(&r);
    rig_greeted(&r, new, "a", 5, 2);
    rig_expect(&r, "GREET 2 0; ADMIT 2 v1"); /* the old one works until the new one does */
    rig_welcomed(&r, new);
    rig_expect(&r, "CLOSE 1 ESUPERSEDED");
    assert_int_equal(rig_member(&r, "a").state, COHORT_ACTIVE);
    rig_closed(&r, old, COHORT_ESUPERSEDED);
    rig_expect(&r, "OPEN 2 a; RECEIVE 2");
    assert_int_equal(rig_member(&r, "a").state, COHORT_ACTIVE);
    rig_closed(&r, new, COHORT_ERESET);
    rig_expect(&r, "DEACTIVATED a ERESET");
    rig_close(&r);
}

static void the_successor_dies_while_it_waits(void **state)
{
    struct rig r;
    rig_start(&r);
    uint64_t old = rig_open_link(&r, "a", 5, 1);
    uint64_t new = rig_accept(&r);
    rig_greeted(&r, new, "a", 5, 2);
    rig_welcomed(&r, new);
    rig_expect(&r, "GREET 2 0; ADMIT 2 v1; CLOSE 1 ESUPERSEDED");
    rig_closed(&r, new, COHORT_ERESET);
    rig_expect(&r, ""); /* messages of the old one may still come */
    rig_closed(&r, old, COHORT_ESUPERSEDED);
    rig_expect(&r, "DEACTIVATED a ERESET");
    rig_pass(&r, 100 * MS);
    rig_expect(&r, "DIAL 3 127.0.0.2:9000");
    rig_close(&r);
}

static void a_worse_link_is_refused(void **state)
{
    struct rig r;
    rig_start(&r);
    (void)rig_open_link(&r, "a", 5, 4);
    for (uint32_t attempt = 0; attempt <= 4; attempt++) {
        uint64_t link = rig_accept(&r);
        char text[64];
        rig_greeted(&r, link, "a", 5, attempt);
        (void)snprintf(text, sizeof text, "GREET %u 0; REFUSE %u EDUPLICATE", (unsigned)link, (unsigned)link);
        rig_expect(&r, text);
        rig_closed(&r, link, COHORT_EDUPLICATE);
        rig_expect(&r, "");
    }
    rig_close(&r);
}

/* Once welcomed, not once greeted: until then the peer may have opened the other. */
static void a_better_link_ends_handshakes_that_are_worse(void **state)
{
    struct rig r;
    rig_start(&r);
    uint64_t worse = rig_accept(&r);
    rig_greeted(&r, worse, "a", 5, 1);
    rig_effects(&r, (char[8192]){0}, 8192);
    uint64_t better = rig_accept(&r);
    rig_greeted(&r, better, "a", 5, 2);
    rig_expect(&r, "GREET 2 0; ADMIT 2 v1");
    rig_welcomed(&r, better);
    rig_expect(&r, "REFUSE 1 EDUPLICATE; OPEN 2 a; ACTIVATED a; RECEIVE 2");
    rig_welcomed(&r, worse);
    rig_expect(&r, "");
    rig_close(&r);
}

/* A peer that begins handshakes and finishes none holds a few connections, not as many as it likes. */
static void unfinished_handshakes_of_one_member_are_limited(void **state)
{
    struct rig r;
    rig_start(&r);
    for (uint32_t attempt = 1; attempt <= 8; attempt++) {
        rig_greeted(&r, rig_accept(&r), "a", 5, attempt);
    }
    rig_effects(&r, (char[8192]){0}, 8192);
    rig_greeted(&r, rig_accept(&r), "a", 5, 9);
    rig_expect(&r, "GREET 9 0; REFUSE 1 EDUPLICATE; ADMIT 9 v1");
    rig_closed(&r, 1, COHORT_EDUPLICATE);
    rig_greeted(&r, rig_accept(&r), "a", 5, 10);
    rig_expect(&r, "GREET 10 0; REFUSE 2 EDUPLICATE; ADMIT 10 v1");
    rig_close(&r);
}

/* The worse of two may open first, and then makes room without anybody being told. */
static void a_worse_link_serves_until_the_better_one_does(void **state)
{
    struct rig r;
    rig_start(&r);
    uint64_t worse = rig_accept(&r), better = rig_accept(&r);
    rig_greeted(&r, worse, "a", 5, 1);
    rig_greeted(&r, better, "a", 5, 2);
    rig_effects(&r, (char[8192]){0}, 8192);
    rig_welcomed(&r, worse);
    rig_expect(&r, "OPEN 1 a; ACTIVATED a; RECEIVE 1");
    rig_closed(&r, worse, COHORT_EREMOTE); /* the peer was quicker to end it */
    rig_expect(&r, "");
    assert_int_equal(rig_member(&r, "a").state, COHORT_ACTIVE);
    rig_welcomed(&r, better);
    rig_expect(&r, "OPEN 2 a; RECEIVE 2");
    rig_close(&r);
}

static void the_loss_is_told_when_the_successor_comes_to_nothing(void **state)
{
    struct rig r;
    rig_start(&r);
    uint64_t worse = rig_accept(&r), better = rig_accept(&r);
    rig_greeted(&r, worse, "a", 5, 1);
    rig_greeted(&r, better, "a", 5, 2);
    rig_welcomed(&r, worse);
    rig_closed(&r, worse, COHORT_ERESET);
    rig_effects(&r, (char[8192]){0}, 8192);
    rig_pass(&r, 5 * SECOND);
    rig_expect(&r, "CLOSE 2 EHANDSHAKE");
    rig_closed(&r, better, COHORT_EHANDSHAKE);
    rig_expect(&r, "DEACTIVATED a EHANDSHAKE");
    rig_close(&r);
}

/* Equal attempts are a true crossing: the link dialled by the lower id stays, at both ends. */
static void crossing_dials_keep_the_link_of_the_lower_id(void **state)
{
    static const struct {
        const char *peer, *greeted, *welcomed;
    } cases[] = {{"a", "GREET 2 0; ADMIT 2 v1", "REFUSE 1 EDUPLICATE; OPEN 2 a; ACTIVATED a; RECEIVE 2"},
                 {"z", "GREET 2 0; REFUSE 2 EDUPLICATE", "OPEN 1 z; ACTIVATED z; RECEIVE 1"}};
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        struct rig r;
        rig_start(&r);
        rig_add(&r, cases[i].peer);
        rig_pass(&r, 0);
        rig_connected(&r, 1);
        rig_greeted(&r, 1, cases[i].peer, 5, 0);
        rig_effects(&r, (char[8192]){0}, 8192);
        rig_greeted(&r, rig_accept(&r), cases[i].peer, 5, 1);
        rig_expect(&r, cases[i].greeted);
        rig_welcomed(&r, i == 0 ? 2 : 1);
        rig_expect(&r, cases[i].welcomed);
        rig_close(&r);
    }
}

/* Admitted too early, the worse of two crossing links could open first, and what was sent on it would end with it. */
static void a_link_is_held_while_our_better_dial_is_under_way(void **state)
{
    for (int comes_to_nothing = 0; comes_to_nothing < 2; comes_to_nothing++) {
        struct rig r;
        rig_start(&r);
        rig_add(&r, "z");
        rig_pass(&r, 0);
        rig_connected(&r, 1);
        uint64_t held = rig_accept(&r);
        rig_effects(&r, (char[8192]){0}, 8192);
        rig_greeted(&r, held, "z", 5, 1);
        rig_expect(&r, "UPDATE z 127.0.0.2:9000 inc=5");
        if (comes_to_nothing) {
            rig_closed(&r, 1, COHORT_ERESET);
            rig_expect(&r, "ADMIT 2 v1");
        } else {
            rig_greeted(&r, 1, "z", 5, 0);
            rig_expect(&r, "ADMIT 1 v1");
            rig_welcomed(&r, 1);
            rig_expect(&r, "REFUSE 2 EDUPLICATE; OPEN 1 z; ACTIVATED z; RECEIVE 1");
        }
        rig_close(&r);
    }
}

static void a_held_link_has_its_deadline(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_add(&r, "z");
    rig_pass(&r, 0);
    rig_connected(&r, 1);
    rig_greeted(&r, rig_accept(&r), "z", 5, 1);
    rig_effects(&r, (char[8192]){0}, 8192);
    rig_pass(&r, 5 * SECOND);
    rig_expect(&r, "CLOSE 1 EHANDSHAKE; CLOSE 2 EHANDSHAKE");
    rig_close(&r);
}

static void a_dial_that_connects_after_the_peers_link_was_taken_is_given_up(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_add(&r, "z");
    rig_pass(&r, 0);
    rig_greeted(&r, rig_accept(&r), "z", 5, 1);
    rig_effects(&r, (char[8192]){0}, 8192);
    rig_connected(&r, 1);
    rig_expect(&r, "CLOSE 1 EDUPLICATE");
    rig_welcomed(&r, 2);
    rig_expect(&r, "OPEN 2 z; ACTIVATED z; RECEIVE 2");
    rig_close(&r);
}

static void a_dial_under_way_is_given_up_when_another_link_opens(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_add(&r, "a");
    rig_pass(&r, 0);
    rig_expect(&r, "ADDED a; DIAL 1 127.0.0.2:9000");
    uint64_t link = rig_accept(&r);
    rig_greeted(&r, link, "a", 5, 1);
    rig_welcomed(&r, link);
    rig_expect(&r, "GREET 2 0; UPDATE a 127.0.0.2:9000 inc=5; ADMIT 2 v1; OPEN 2 a; ACTIVATED a; RECEIVE 2; CLOSE 1 EDUPLICATE");
    rig_closed(&r, 1, COHORT_EDUPLICATE);
    rig_expect(&r, "");
    assert_int_equal(cohorti_cluster_deadline(&r.c), COHORTI_NEVER);
    rig_close(&r);
}

/* Each dial carries one more than the highest number seen or used with the peer. */
static void attempts_are_a_clock_of_the_pair(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_closed(&r, rig_open_link(&r, "a", 5, 41), COHORT_ERESET);
    rig_pass(&r, SECOND);
    rig_connected(&r, 2);
    rig_expect(&r, "DEACTIVATED a ERESET; DIAL 2 127.0.0.2:9000; GREET 2 42");
    rig_closed(&r, 2, COHORT_ERESET);
    rig_pass(&r, SECOND);
    rig_connected(&r, 3);
    rig_expect(&r, "DIAL 3 127.0.0.2:9000; GREET 3 43");
    rig_close(&r);
}

static void refused_as_a_duplicate_is_no_failure(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_add(&r, "a");
    for (uint64_t link = 1; link <= 10; link++) {
        rig_pass(&r, 100 * MS);
        rig_connected(&r, link);
        rig_refused(&r, link, COHORT_EDUPLICATE, 0);
        rig_closed(&r, link, COHORT_EREMOTE);
        rig_effects(&r, (char[8192]){0}, 8192);
        assert_true(cohorti_cluster_deadline(&r.c) - r.now <= 100 * MS);
    }
    rig_close(&r);
}

/* The peer turns us away on a link that stands here: it is over, and nothing else is wrong. */
static void a_refusal_on_an_open_link_ends_it(void **state)
{
    struct rig r;
    rig_start(&r);
    uint64_t link = rig_open_link(&r, "a", 5, 1);
    rig_refused(&r, link, COHORT_EDUPLICATE, 0);
    rig_expect(&r, "CLOSE 1 EREMOTE");
    rig_closed(&r, link, COHORT_EREMOTE);
    rig_expect(&r, "DEACTIVATED a EREMOTE");
    assert_true(cohorti_cluster_deadline(&r.c) - r.now <= 100 * MS);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(our_own_id_is_refused),
        cmocka_unit_test(another_cluster_is_refused_an_unnamed_one_is_not),
        cmocka_unit_test(who_is_not_listed_is_refused),
        cmocka_unit_test(another_member_at_the_address_dialled_is_refused),
        cmocka_unit_test(versions_must_meet),
        cmocka_unit_test(refused_dials_back_off),
        cmocka_unit_test(a_lower_incarnation_is_refused_with_the_highest_seen),
        cmocka_unit_test(a_restarted_peer_takes_over),
        cmocka_unit_test(a_restarted_peer_ends_handshakes_of_the_old_process),
        cmocka_unit_test(a_clock_set_back_raises_our_incarnation),
        cmocka_unit_test(the_same_incarnation_is_raised_too),
        cmocka_unit_test(raising_has_bounds),
        cmocka_unit_test(raising_again_takes_ten_minutes),
        cmocka_unit_test(a_peer_that_had_a_link_to_us_makes_us_raise_too),
        cmocka_unit_test(a_refusal_that_is_out_of_date_is_no_second_process),
        cmocka_unit_test(opening_follows_the_order_of_the_contract),
        cmocka_unit_test(a_redial_supersedes_without_deactivating),
        cmocka_unit_test(the_successor_dies_while_it_waits),
        cmocka_unit_test(a_worse_link_is_refused),
        cmocka_unit_test(a_better_link_ends_handshakes_that_are_worse),
        cmocka_unit_test(unfinished_handshakes_of_one_member_are_limited),
        cmocka_unit_test(a_worse_link_serves_until_the_better_one_does),
        cmocka_unit_test(the_loss_is_told_when_the_successor_comes_to_nothing),
        cmocka_unit_test(crossing_dials_keep_the_link_of_the_lower_id),
        cmocka_unit_test(a_link_is_held_while_our_better_dial_is_under_way),
        cmocka_unit_test(a_held_link_has_its_deadline),
        cmocka_unit_test(a_dial_that_connects_after_the_peers_link_was_taken_is_given_up),
        cmocka_unit_test(a_dial_under_way_is_given_up_when_another_link_opens),
        cmocka_unit_test(attempts_are_a_clock_of_the_pair),
        cmocka_unit_test(refused_as_a_duplicate_is_no_failure),
        cmocka_unit_test(a_refusal_on_an_open_link_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
