/* SPDX-License-Identifier: Apache-2.0
 *
 * core/cluster_link with peers of 2014: told nothing they cannot read, several links kept, not dialled while one stands.
 */
#include "rig.h"

static uint64_t legacy_link(struct rig *r, const char *id)
{
    uint64_t link = rig_accept(r);
    rig_greeted_legacy(r, link, id);
    rig_effects(r, (char[8192]){0}, 8192);
    assert_int_equal(cohorti_cluster_link_find(&r->c, link)->state, COHORTI_CLUSTER_LINK_OPEN);
    return link;
}

static void a_legacy_hello_opens_at_once(void **state)
{
    struct rig r;
    rig_start(&r);
    uint64_t link = rig_accept(&r);
    rig_greeted_legacy(&r, link, "a");
    rig_expect(&r, "GREET 1 0; ADDED a; ADMIT 1 v0; OPEN 1 a legacy; ACTIVATED a; RECEIVE 1");
    assert_true(rig_member(&r, "a").legacy);
    assert_int_equal(cohorti_cluster_deadline(&r.c), COHORTI_NEVER);
    rig_close(&r);
}

static void a_dialled_legacy_peer_opens_too(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_add(&r, "a");
    rig_pass(&r, 0);
    rig_connected(&r, 1);
    rig_greeted_legacy(&r, 1, "a");
    rig_expect(&r, "ADDED a; DIAL 1 127.0.0.2:9000; GREET 1 1; ADMIT 1 v0; OPEN 1 a legacy; "
                   "ACTIVATED a; RECEIVE 1");
    rig_close(&r);
}

static void several_links_are_kept_and_a_member_lasts_as_long_as_one(void **state)
{
    struct rig r;
    rig_start(&r);
    uint64_t first = legacy_link(&r, "a");
    uint64_t second = rig_accept(&r);
    rig_greeted_legacy(&r, second, "a");
    rig_expect(&r, "GREET 2 0; ADMIT 2 v0; OPEN 2 a legacy; RECEIVE 2");
    rig_closed(&r, second, COHORT_EPEERCLOSED);
    rig_expect(&r, "");
    assert_int_equal(rig_member(&r, "a").state, COHORT_ACTIVE);
    assert_int_equal(cohorti_cluster_deadline(&r.c), COHORTI_NEVER); /* not dialled while one stands */
    rig_closed(&r, first, COHORT_EPEERCLOSED);
    rig_expect(&r, "DEACTIVATED a EPEERCLOSED");
    rig_pass(&r, 100 * MS);
    rig_expect(&r, "DIAL 3 127.0.0.2:9000");
    rig_close(&r);
}

/* With a limit for its silence the links of a stranger learn that it is listed now: those that are open, once. */
static void a_stranger_that_is_listed_may_be_silent(void **state)
{
    struct rig r;
    struct cohorti_cluster_config config = rig_config("m");
    config.limits.legacy_idle_ms = 5000;
    rig_open(&r, &config);
    cohorti_cluster_start(&r.c, r.now);
    (void)legacy_link(&r, "a");
    uint64_t second = legacy_link(&r, "a");
    rig_closed(&r, second, COHORT_EPEERCLOSED);
    uint64_t third = legacy_link(&r, "a");
    rig_add(&r, "a");
    assert_int_equal(third, 3);
    rig_expect(&r, "KEEP 1; KEEP 3");
    rig_add(&r, "a");
    rig_expect(&r, "");
    rig_close(&r);
    rig_start(&r); /* without the limit there is nothing to tell */
    (void)legacy_link(&r, "a");
    rig_add(&r, "a");
    rig_expect(&r, "");
    rig_close(&r);
}

static void too_many_links_of_a_legacy_peer_are_refused_without_words(void **state)
{
    struct rig r;
    rig_start(&r);
    (void)legacy_link(&r, "a");
    uint64_t second = legacy_link(&r, "a");
    uint64_t third = rig_accept(&r);
    rig_greeted_legacy(&r, third, "a");
    rig_expect(&r, "GREET 3 0; REFUSE 3 EDUPLICATE legacy");
    rig_closed(&r, second, COHORT_EPEERCLOSED);
    (void)legacy_link(&r, "a");
    rig_close(&r);
}

/* Two dials that cross with a legacy peer: both stay, neither end can tell the other. */
static void crossing_with_a_legacy_peer_keeps_both(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_add(&r, "a");
    rig_pass(&r, 0);
    rig_connected(&r, 1);
    uint64_t accepted = rig_accept(&r);
    rig_greeted_legacy(&r, accepted, "a");
    rig_effects(&r, (char[8192]){0}, 8192);
    rig_greeted_legacy(&r, 1, "a");
    rig_expect(&r, "ADMIT 1 v0; OPEN 1 a legacy; RECEIVE 1");
    rig_close(&r);
}

static void a_cohort_link_that_stands_refuses_a_legacy_hello(void **state)
{
    struct rig r;
    rig_start(&r);
    (void)rig_open_link(&r, "a", 5, 1);
    rig_greeted_legacy(&r, rig_accept(&r), "a");
    rig_expect(&r, "GREET 2 0; REFUSE 2 EDUPLICATE legacy");
    assert_false(rig_member(&r, "a").legacy);
    rig_close(&r);
}

static void an_upgraded_peer_ends_its_legacy_links(void **state)
{
    struct rig r;
    rig_start(&r);
    (void)legacy_link(&r, "a");
    (void)legacy_link(&r, "a");
    uint64_t new = rig_accept(&r);
    rig_greeted(&r, new, "a", 5, 1);
    rig_expect(&r, "GREET 3 0; CLOSE 1 ERESTARTED; CLOSE 2 ERESTARTED; DEACTIVATED a ERESTARTED; UPDATE a 127.0.0.2:9000 inc=5 "
                   "legacy; ADMIT 3 v1");
    rig_closed(&r, 1, COHORT_ERESTARTED);
    rig_closed(&r, 2, COHORT_ERESTARTED);
    rig_expect(&r, "");
    rig_welcomed(&r, new);
    rig_expect(&r, "OPEN 3 a; ACTIVATED a; RECEIVE 3");
    assert_false(rig_member(&r, "a").legacy);
    rig_close(&r);
}

/* A cohort link takes the place of every legacy link, not only of one. */
static void a_cohort_link_of_a_known_incarnation_supersedes_all_legacy_links(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_closed(&r, rig_open_link(&r, "a", 5, 1), COHORT_ERESET);
    rig_effects(&r, (char[8192]){0}, 8192);
    (void)legacy_link(&r, "a");
    (void)legacy_link(&r, "a");
    uint64_t new = rig_accept(&r);
    rig_greeted(&r, new, "a", 5, 9);
    rig_welcomed(&r, new);
    char effects[8192];
    rig_effects(&r, effects, sizeof effects);
    assert_non_null(strstr(effects, "CLOSE 2 ESUPERSEDED"));
    assert_non_null(strstr(effects, "CLOSE 3 ESUPERSEDED"));
    rig_closed(&r, 2, COHORT_ESUPERSEDED);
    rig_closed(&r, 3, COHORT_ESUPERSEDED);
    assert_int_equal(cohorti_cluster_link_find(&r.c, new)->state, COHORTI_CLUSTER_LINK_OPEN);
    assert_int_equal(rig_member(&r, "a").state, COHORT_ACTIVE);
    rig_close(&r);
}

/* `legacy` tells of the link that stands, not of one that only greeted. */
static void a_cohort_hello_that_comes_to_nothing_changes_no_legacy_member(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_closed(&r, rig_open_link(&r, "a", 5, 1), COHORT_ERESET);
    uint64_t standing = legacy_link(&r, "a");
    uint64_t new = rig_accept(&r);
    rig_greeted(&r, new, "a", 5, 9);
    rig_closed(&r, new, COHORT_ERESET);
    assert_true(rig_member(&r, "a").legacy);
    assert_int_equal(rig_member(&r, "a").state, COHORT_ACTIVE);
    rig_effects(&r, (char[8192]){0}, 8192);
    new = rig_accept(&r);
    rig_greeted(&r, new, "a", 5, 9);
    rig_welcomed(&r, new);
    rig_expect(&r, "GREET 4 0; ADMIT 4 v1; CLOSE 2 ESUPERSEDED; OPEN 4 a; UPDATE a 127.0.0.2:9000 inc=5; RECEIVE 4");
    rig_closed(&r, standing, COHORT_ESUPERSEDED);
    assert_false(rig_member(&r, "a").legacy);
    rig_close(&r);
}

static void refusals_of_legacy_peers_are_marked(void **state)
{
    struct rig r;
    struct cohorti_cluster_config config = rig_config("m");
    config.open_admission = false;
    rig_open(&r, &config);
    cohorti_cluster_start(&r.c, r.now);
    rig_greeted_legacy(&r, rig_accept(&r), "m");
    rig_greeted_legacy(&r, rig_accept(&r), "a");
    rig_expect(&r, "GREET 1 0; REFUSE 1 EOWNID legacy (text); GREET 2 0; REFUSE 2 ENOTLISTED legacy");
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_legacy_hello_opens_at_once),
        cmocka_unit_test(a_dialled_legacy_peer_opens_too),
        cmocka_unit_test(a_stranger_that_is_listed_may_be_silent),
        cmocka_unit_test(several_links_are_kept_and_a_member_lasts_as_long_as_one),
        cmocka_unit_test(too_many_links_of_a_legacy_peer_are_refused_without_words),
        cmocka_unit_test(crossing_with_a_legacy_peer_keeps_both),
        cmocka_unit_test(a_cohort_link_that_stands_refuses_a_legacy_hello),
        cmocka_unit_test(an_upgraded_peer_ends_its_legacy_links),
        cmocka_unit_test(a_cohort_link_of_a_known_incarnation_supersedes_all_legacy_links),
        cmocka_unit_test(a_cohort_hello_that_comes_to_nothing_changes_no_legacy_member),
        cmocka_unit_test(refusals_of_legacy_peers_are_marked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
