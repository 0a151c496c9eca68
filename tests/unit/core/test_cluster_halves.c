/* SPDX-License-Identifier: Apache-2.0
 *
 * core/cluster_link: dead halves. A link that was to replace an open one ends before it could, perhaps at our end only: the peer had let
 * go of the old one when it dialled, so that goes too, and somebody dials.
 */
#include "rig.h"

/* An open link of "a", and a newer one of it that was admitted. */
static void open_and_redialled(struct rig *r, uint64_t *old, uint64_t *new, uint32_t attempt)
{
    rig_start(r);
    *old = rig_open_link(r, "a", 5, 4);
    *new = rig_accept(r);
    rig_greeted(r, *new, "a", 5, attempt);
    rig_expect(r, "GREET 2 0; ADMIT 2 v1");
}

static void the_open_link_goes_with_the_one_that_was_to_replace_it(void **state)
{
    struct rig r;
    uint64_t old, new;
    open_and_redialled(&r, &old, &new, 5);
    rig_closed(&r, new, COHORT_ERESET);
    rig_expect(&r, "CLOSE 1 EPEERCLOSED");
    rig_closed(&r, old, COHORT_EPEERCLOSED);
    rig_expect(&r, "DEACTIVATED a EPEERCLOSED");
    rig_pass(&r, 100 * MS);
    rig_expect(&r, "DIAL 3 127.0.0.2:9000");
    rig_connected(&r, 3);
    rig_expect(&r, "GREET 3 6"); /* better than what the peer may still hold */
    rig_close(&r);
}

static void a_handshake_that_is_never_finished_ends_it_too(void **state)
{
    struct rig r;
    uint64_t old, new;
    open_and_redialled(&r, &old, &new, 5);
    rig_pass(&r, 6 * SECOND);
    rig_expect(&r, "CLOSE 2 EHANDSHAKE");
    rig_closed(&r, new, COHORT_EHANDSHAKE);
    rig_expect(&r, "CLOSE 1 EPEERCLOSED");
    rig_close(&r);
}

/* The last of them decides: while one is under way, it may still replace the open link without a gap. */
static void not_while_another_one_comes(void **state)
{
    struct rig r;
    uint64_t old, new;
    open_and_redialled(&r, &old, &new, 5);
    uint64_t newer = rig_accept(&r);
    rig_greeted(&r, newer, "a", 5, 6);
    rig_expect(&r, "GREET 3 0; ADMIT 3 v1");
    rig_closed(&r, new, COHORT_ERESET);
    rig_expect(&r, "");
    rig_closed(&r, newer, COHORT_ERESET);
    rig_expect(&r, "CLOSE 1 EPEERCLOSED");
    rig_closed(&r, old, COHORT_EPEERCLOSED);
    rig_expect(&r, "DEACTIVATED a EPEERCLOSED");
    rig_close(&r);
}

/* With an equal number it was dialled while the other dial was under way: it says nothing of the link that stands. */
static void a_crossing_dial_ends_nothing(void **state)
{
    struct rig r;
    char ignored[8192];
    rig_start(&r);
    rig_add(&r, "a");
    rig_pass(&r, 0);
    rig_connected(&r, 1);
    rig_greeted(&r, 1, "a", 5, 0);
    rig_welcomed(&r, 1);
    rig_effects(&r, ignored, sizeof ignored);
    uint64_t new = rig_accept(&r);
    rig_greeted(&r, new, "a", 5, 1);
    rig_expect(&r, "GREET 2 0; ADMIT 2 v1"); /* of "a" and "m" the lower id dialled it */
    rig_closed(&r, new, COHORT_ERESET);
    rig_expect(&r, "");
    assert_int_equal(rig_member(&r, "a").state, COHORT_ACTIVE);
    rig_close(&r);
}

/* The peer itself holds a better link to us, which is on its way. */
static void not_when_the_peer_refused_it_as_a_duplicate(void **state)
{
    struct rig r;
    uint64_t old, new;
    open_and_redialled(&r, &old, &new, 5);
    rig_refused(&r, new, COHORT_EDUPLICATE, 0);
    rig_closed(&r, new, COHORT_EREMOTE);
    rig_expect(&r, "CLOSE 2 EREMOTE");
    assert_int_equal(rig_member(&r, "a").state, COHORT_ACTIVE);
    rig_close(&r);
}

/* It says goodbye over the old link, if that still carries anything. */
static void not_while_the_node_closes(void **state)
{
    struct rig r;
    uint64_t old, new;
    open_and_redialled(&r, &old, &new, 5);
    cohorti_cluster_stop(&r.c);
    char ignored[8192];
    rig_effects(&r, ignored, sizeof ignored);
    rig_closed(&r, new, COHORT_ELEFT);
    rig_expect(&r, "");
    rig_closed(&r, old, COHORT_ELEFT);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_open_link_goes_with_the_one_that_was_to_replace_it),
        cmocka_unit_test(a_handshake_that_is_never_finished_ends_it_too),
        cmocka_unit_test(not_while_another_one_comes),
        cmocka_unit_test(a_crossing_dial_ends_nothing),
        cmocka_unit_test(not_when_the_peer_refused_it_as_a_duplicate),
        cmocka_unit_test(not_while_the_node_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
