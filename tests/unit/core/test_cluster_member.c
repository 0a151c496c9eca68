/* SPDX-License-Identifier: Apache-2.0
 *
 * core/cluster_member: add, remove, tombstones, limits, order, and events that alternate.
 */
#include "rig.h"

static void members_stand_in_order_of_id(void **state)
{
    static const char *const added[] = {"z", "b", "n", "a", "m1", "B", "0"};
    static const char *const ordered[] = {"0", "B", "a", "b", "m", "m1", "n", "z"};
    struct rig r;
    cohort_member m;
    rig_start(&r);
    for (size_t i = 0; i < UNIT_COUNT(added); i++) {
        rig_add(&r, added[i]);
    }
    for (size_t i = 0; i < UNIT_COUNT(ordered); i++) {
        assert_true(cohorti_cluster_member_at(&r.c, i, &m));
        assert_string_equal(m.id, ordered[i]);
    }
    assert_false(cohorti_cluster_member_at(&r.c, UNIT_COUNT(ordered), &m));
    rig_close(&r);
}

static void add_rejects_what_cannot_be_a_member(void **state)
{
    static const struct {
        const char *id, *ip;
        uint16_t port;
    } bad[] = {{"", "127.0.0.2", 1}, {"a b", "127.0.0.2", 1}, {"a:b", "127.0.0.2", 1}, {"m", "127.0.0.2", 1},
               {"a", "", 1},         {"a", "127.0.0.256", 1}, {"a", "ho st", 1},       {"a", "127.0.0.2", 0},
               {"a", "::g", 1},      {"a", "127.0.0.2/32", 1}};
    struct rig r;
    char longest[COHORT_ID_BYTES_MAX + 2];
    rig_start(&r);
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        assert_int_equal(cohorti_cluster_add(&r.c, r.now, bad[i].id, bad[i].ip, bad[i].port), COHORT_EINVAL);
    }
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(cohorti_cluster_add(&r.c, r.now, longest, "127.0.0.2", 1), COHORT_EINVAL);
    longest[sizeof longest - 2] = '\0';
    assert_int_equal(cohorti_cluster_add(&r.c, r.now, longest, "::1", 1), COHORT_OK);
    rig_close(&r);
}

static void adding_again_changes_the_address_and_dials_there(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_add(&r, "a");
    rig_add(&r, "a");
    rig_pass(&r, 0);
    rig_expect(&r, "ADDED a; DIAL 1 127.0.0.2:9000");
    rig_closed(&r, 1, COHORT_EREFUSED);
    assert_true(cohorti_cluster_deadline(&r.c) > r.now);
    assert_int_equal(cohorti_cluster_add(&r.c, r.now, "a", "127.0.0.3", 9001), COHORT_OK);
    rig_pass(&r, 0);
    rig_expect(&r, "UPDATE a 127.0.0.3:9001 inc=0; DIAL 2 127.0.0.3:9001");
    rig_close(&r);
}

static void a_new_address_does_not_wait_for_a_dial_to_the_old_one(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_add(&r, "a");
    rig_pass(&r, 0);
    rig_expect(&r, "ADDED a; DIAL 1 127.0.0.2:9000");
    assert_int_equal(cohorti_cluster_add(&r.c, r.now, "a", "127.0.0.3", 9001), COHORT_OK);
    rig_expect(&r, "UPDATE a 127.0.0.3:9001 inc=0; CLOSE 1 EUNREACHABLE");
    rig_closed(&r, 1, COHORT_EUNREACHABLE);
    rig_pass(&r, r.c.config.dial.delay_min_ms * COHORTI_NS_PER_MS);
    rig_expect(&r, "DIAL 2 127.0.0.3:9001");
    rig_close(&r);
}

static void remove_closes_links_and_tells(void **state)
{
    struct rig r;
    rig_start(&r);
    uint64_t link = rig_open_link(&r, "a", 1, 1);
    assert_int_equal(cohorti_cluster_remove(&r.c, "a"), COHORT_OK);
    rig_expect(&r, "CLOSE 1 EREMOVED; DEACTIVATED a EREMOVED; REMOVED a EREMOVED");
    assert_null(cohorti_member_find(&r.c, "a"));
    assert_int_equal(cohorti_cluster_remove(&r.c, "a"), COHORT_ENOPEER);
    rig_closed(&r, link, COHORT_EREMOVED);
    rig_expect(&r, "");
    assert_int_equal(cohorti_cluster_deadline(&r.c), COHORTI_NEVER);
    assert_int_equal(cohorti_cluster_remove(&r.c, "m"), COHORT_EINVAL);
    assert_int_equal(cohorti_cluster_remove(&r.c, "nobody"), COHORT_ENOPEER);
    rig_close(&r);
}

static void remove_while_dialling_and_in_every_state_of_the_handshake(void **state)
{
    for (int steps = 0; steps < 4; steps++) {
        struct rig r;
        char ignored[8192];
        rig_start(&r);
        rig_add(&r, "a");
        rig_pass(&r, 0);
        if (steps > 0) {
            rig_connected(&r, 1);
        }
        if (steps > 1) {
            rig_greeted(&r, 1, "a", 1, 0);
        }
        if (steps > 2) {
            rig_welcomed(&r, 1);
        }
        rig_effects(&r, ignored, sizeof ignored);
        assert_int_equal(cohorti_cluster_remove(&r.c, "a"), COHORT_OK);
        rig_expect(&r, steps > 2 ? "CLOSE 1 EREMOVED; DEACTIVATED a EREMOVED; REMOVED a EREMOVED"
                                 : "CLOSE 1 EREMOVED; REMOVED a EREMOVED");
        rig_connected(&r, 1); /* what was under way when it was removed */
        cohorti_cluster_received(&r.c, 1);
        rig_greeted(&r, 1, "a", 1, 0);
        rig_welcomed(&r, 1);
        rig_refused(&r, 1, COHORT_ESTALE, 77);
        rig_pass(&r, 100 * SECOND);
        rig_closed(&r, 1, COHORT_EREMOVED);
        rig_expect(&r, "");
        assert_int_equal(r.c.links.count, 0);
        rig_close(&r);
    }
}

static void a_removed_member_stays_removed_until_it_is_added(void **state)
{
    struct rig r;
    rig_start(&r);
    rig_add(&r, "a");
    assert_int_equal(cohorti_cluster_remove(&r.c, "a"), COHORT_OK);
    rig_expect(&r, "ADDED a; REMOVED a EREMOVED");
    uint64_t link = rig_accept(&r);
    rig_greeted(&r, link, "a", 1, 1);
    rig_expect(&r, "GREET 1 0; REFUSE 1 EREMOVED");
    rig_closed(&r, link, COHORT_EREMOVED);
    rig_add(&r, "a");
    rig_expect(&r, "ADDED a");
    (void)rig_open_link(&r, "a", 1, 1);
    rig_close(&r);
}

static void tombstones_are_forgotten_oldest_first(void **state)
{
    struct rig r;
    char id[2] = "a", ignored[8192];
    rig_start(&r);
    for (id[0] = 'a'; id[0] <= 'f'; id[0]++) { /* six; four are remembered */
        rig_add(&r, id);
        assert_int_equal(cohorti_cluster_remove(&r.c, id), COHORT_OK);
        rig_effects(&r, ignored, sizeof ignored);
    }
    for (id[0] = 'a'; id[0] <= 'f'; id[0]++) {
        assert_int_equal(cohorti_member_removed_before(&r.c, id), id[0] >= 'c');
    }
    rig_add(&r, "d"); /* forgets that one, makes room */
    assert_false(cohorti_member_removed_before(&r.c, "d"));
    rig_add(&r, "g");
    assert_int_equal(cohorti_cluster_remove(&r.c, "g"), COHORT_OK);
    static const char *const remembered[] = {"c", "e", "f", "g"};
    for (size_t i = 0; i < UNIT_COUNT(remembered); i++) {
        assert_true(cohorti_member_removed_before(&r.c, remembered[i]));
    }
    assert_int_equal(r.c.removed_count, 4);
    rig_close(&r);
}

static void without_tombstones_a_greeting_brings_a_member_back(void **state)
{
    struct rig r;
    struct cohorti_cluster_config config = rig_config("m");
    config.limits.removed_max = 0;
    rig_open(&r, &config);
    cohorti_cluster_start(&r.c, r.now);
    rig_add(&r, "a");
    assert_int_equal(cohorti_cluster_remove(&r.c, "a"), COHORT_OK);
    rig_effects(&r, (char[8192]){0}, 8192);
    (void)rig_open_link(&r, "a", 1, 1);
    rig_close(&r);
}

static void members_are_limited_the_local_one_included(void **state)
{
    struct rig r;
    struct cohorti_cluster_config config = rig_config("m");
    config.limits.members_max = 3;
    rig_open(&r, &config);
    cohorti_cluster_start(&r.c, r.now);
    rig_add(&r, "a");
    rig_add(&r, "b");
    assert_int_equal(cohorti_cluster_add(&r.c, r.now, "c", "127.0.0.2", 1), COHORT_ELIMIT);
    assert_int_equal(cohorti_cluster_add(&r.c, r.now, "a", "127.0.0.3", 1), COHORT_OK); /* is there already */
    uint64_t link = rig_accept(&r);
    rig_greeted(&r, link, "c", 1, 1);
    rig_expect(&r, "ADDED a; ADDED b; UPDATE a 127.0.0.3:1 inc=0; GREET 1 0; REFUSE 1 ELIMIT");
    assert_int_equal(cohorti_cluster_remove(&r.c, "b"), COHORT_OK);
    assert_int_equal(cohorti_cluster_add(&r.c, r.now, "c", "127.0.0.2", 1), COHORT_OK);
    rig_close(&r);
}

static void greeting_adds_under_open_admission_and_takes_its_address(void **state)
{
    struct rig r;
    rig_start(&r);
    uint64_t link = rig_accept(&r);
    rig_greeted(&r, link, "a", 5, 1);
    rig_welcomed(&r, link);
    rig_expect(&r, "GREET 1 0; ADDED a; UPDATE a 127.0.0.2:9000 inc=5; ADMIT 1 v1; OPEN 1 a; ACTIVATED a; RECEIVE 1");
    rig_closed(&r, link, COHORT_ERESET);
    rig_expect(&r, "DEACTIVATED a ERESET");
    link = rig_accept(&r);
    struct cohorti_hello hello = rig_hello("a", 5, 2);
    (void)snprintf(hello.ip, sizeof hello.ip, "127.0.0.7");
    cohorti_cluster_hello(&r.c, r.now, link, &hello);
    rig_expect(&r, "GREET 2 0; UPDATE a 127.0.0.7:9000 inc=5; ADMIT 2 v1");
    rig_close(&r);
}

static void an_added_member_keeps_the_address_it_was_given(void **state)
{
    struct rig r;
    rig_start(&r);
    assert_int_equal(cohorti_cluster_add(&r.c, r.now, "a", "127.0.0.8", 7), COHORT_OK);
    uint64_t link = rig_accept(&r);
    rig_greeted(&r, link, "a", 5, 1);
    rig_expect(&r, "ADDED a; GREET 1 0; UPDATE a 127.0.0.8:7 inc=5; ADMIT 1 v1");
    rig_close(&r);
}

static void activated_and_deactivated_alternate(void **state)
{
    struct rig r;
    rig_start(&r);
    for (uint32_t attempt = 1; attempt < 20; attempt++) {
        char text[128];
        uint64_t link = rig_accept(&r);
        rig_greeted(&r, link, "a", 5, attempt);
        rig_effects(&r, (char[8192]){0}, 8192);
        rig_welcomed(&r, link);
        (void)snprintf(text, sizeof text, "OPEN %u a; ACTIVATED a; RECEIVE %u", (unsigned)link, (unsigned)link);
        rig_expect(&r, text);
        assert_int_equal(rig_member(&r, "a").state, COHORT_ACTIVE);
        rig_closed(&r, link, COHORT_EPEERCLOSED);
        rig_expect(&r, "DEACTIVATED a EPEERCLOSED");
        assert_int_equal(rig_member(&r, "a").state, COHORT_INACTIVE);
    }
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_stand_in_order_of_id),
        cmocka_unit_test(add_rejects_what_cannot_be_a_member),
        cmocka_unit_test(adding_again_changes_the_address_and_dials_there),
        cmocka_unit_test(a_new_address_does_not_wait_for_a_dial_to_the_old_one),
        cmocka_unit_test(remove_closes_links_and_tells),
        cmocka_unit_test(remove_while_dialling_and_in_every_state_of_the_handshake),
        cmocka_unit_test(a_removed_member_stays_removed_until_it_is_added),
        cmocka_unit_test(tombstones_are_forgotten_oldest_first),
        cmocka_unit_test(without_tombstones_a_greeting_brings_a_member_back),
        cmocka_unit_test(members_are_limited_the_local_one_included),
        cmocka_unit_test(greeting_adds_under_open_admission_and_takes_its_address),
        cmocka_unit_test(an_added_member_keeps_the_address_it_was_given),
        cmocka_unit_test(activated_and_deactivated_alternate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
