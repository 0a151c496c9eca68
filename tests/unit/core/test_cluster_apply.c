/* SPDX-License-Identifier: Apache-2.0
 *
 * core/cluster_apply: definitions one after another, as a file that is edited gives them; beside it add() and remove(); limits;
 * every allocation that can fail.
 */
#include "rig.h"

#include <stdlib.h>

struct file {
    cohort_definition definition;
    cohort_definition_node nodes[64];
};

/* "a 10.0.0.1:1, b h:2 [::]"; the cluster's name first, up to '|'. */
static struct file file_of(const char *text)
{
    struct file f = {.definition = {.cluster = ""}};
    const char *bar = strchr(text, '|');
    if (bar != NULL) {
        (void)snprintf(f.definition.cluster, sizeof f.definition.cluster, "%.*s", (int)(bar - text), text);
        text = bar + 1;
    }
    while (*text != '\0') {
        cohort_definition_node *n = &f.nodes[f.definition.node_count++];
        unsigned port = 0;
        int used = 0;
        if (sscanf(text, " %64[^ ] %255[^:]:%u%n", n->id, n->ip, &port, &used) != 3) {
            fail_msg("not a file: %s", text);
        }
        n->tcp_port = (uint16_t)port;
        text += used;
        if (sscanf(text, " [%255[^]]]%n", n->bind, &used) == 1) {
            text += used;
        }
        text += *text == ',';
    }
    return f;
}

static int apply(struct rig *r, const char *text, struct cohorti_applied *out)
{
    struct file f = file_of(text);
    f.definition.nodes = f.nodes;
    return cohorti_cluster_apply(&r->c, r->now, &f.definition, out);
}

static void applies(struct rig *r, const char *text, const char *effects)
{
    struct cohorti_applied ignored;
    assert_int_equal(apply(r, text, &ignored), COHORT_OK);
    rig_expect(r, effects);
}

static void the_first_adds_all_but_ourselves(void **state)
{
    struct rig r;
    struct cohorti_applied done;
    rig_start(&r);
    assert_int_equal(apply(&r, "z 10.0.0.3:1, m 10.0.0.9:1, a 10.0.0.1:1", &done), COHORT_OK);
    assert_int_equal(done.added, 2);
    assert_int_equal(done.removed + done.changed, 0);
    rig_expect(&r, "ADDED a; ADDED z");
    rig_pass(&r, 0);
    rig_expect(&r, "DIAL 1 10.0.0.1:1; DIAL 2 10.0.0.3:1");
    assert_true(cohorti_cluster_has_member(&r.c, "a"));
    assert_false(cohorti_cluster_has_member(&r.c, "b"));
    rig_close(&r);
}

static void the_same_again_does_nothing(void **state)
{
    struct rig r;
    rig_start(&r);
    applies(&r, "a 10.0.0.1:1, b h.example:2 [::]", "ADDED a; ADDED b");
    applies(&r, "a 10.0.0.1:1, b h.example:2 [::]", "");
    applies(&r, "b h.example:2 [::], a 10.0.0.1:1", "");
    rig_close(&r);
}

static void members_come_go_and_move(void **state)
{
    struct rig r;
    struct cohorti_applied done;
    rig_start(&r);
    applies(&r, "a 10.0.0.1:1, b 10.0.0.2:1, c 10.0.0.3:1", "ADDED a; ADDED b; ADDED c");
    uint64_t link = rig_open_link(&r, "b", 5, 1);
    assert_int_equal(apply(&r, "a 10.0.0.1:2, c 10.0.0.3:1, d 10.0.0.4:1", &done), COHORT_OK);
    assert_int_equal(done.added, 1);
    assert_int_equal(done.removed, 1);
    assert_int_equal(done.changed, 1);
    rig_expect(&r, "UPDATE a 10.0.0.1:2 inc=0; CLOSE 1 EREMOVED; DEACTIVATED b EREMOVED; REMOVED b EREMOVED; ADDED d");
    rig_closed(&r, link, COHORT_EREMOVED);
    link = rig_accept(&r); /* greeting does not bring it back, being listed does */
    rig_greeted(&r, link, "b", 5, 2);
    rig_expect(&r, "GREET 2 0; REFUSE 2 EREMOVED");
    rig_closed(&r, link, COHORT_EREMOVED);
    applies(&r, "a 10.0.0.1:2, b 10.0.0.2:1", "ADDED b; REMOVED c EREMOVED; REMOVED d EREMOVED");
    (void)rig_open_link(&r, "b", 5, 3);
    applies(&r, "", "REMOVED a EREMOVED; CLOSE 3 EREMOVED; DEACTIVATED b EREMOVED; REMOVED b EREMOVED");
    assert_int_equal(r.c.member_count, 1);
    rig_close(&r);
}

static void another_address_leaves_the_link_and_ends_a_dial(void **state)
{
    struct rig r;
    rig_start(&r);
    applies(&r, "a 10.0.0.1:1, b 10.0.0.2:1", "ADDED a; ADDED b");
    uint64_t link = rig_open_link(&r, "b", 5, 1);
    rig_pass(&r, 0);
    rig_expect(&r, "DIAL 2 10.0.0.1:1");
    applies(&r, "a 10.0.0.7:1, b 10.0.0.8:1", "UPDATE a 10.0.0.7:1 inc=0; CLOSE 2 EUNREACHABLE; UPDATE b 10.0.0.8:1 inc=5");
    assert_int_equal(cohorti_cluster_link_find(&r.c, link)->state, COHORTI_CLUSTER_LINK_OPEN);
    rig_close(&r);
}

/* What was said at run time holds until the file says something new about that node. */
static void added_and_removed_at_run_time(void **state)
{
    struct rig r;
    rig_start(&r);
    applies(&r, "a 10.0.0.1:1, b 10.0.0.2:1", "ADDED a; ADDED b");
    rig_add(&r, "x");
    assert_int_equal(cohorti_cluster_remove(&r.c, "b"), COHORT_OK);
    assert_int_equal(cohorti_cluster_add(&r.c, r.now, "a", "10.9.9.9", 9), COHORT_OK);
    rig_expect(&r, "ADDED x; REMOVED b EREMOVED; UPDATE a 10.9.9.9:9 inc=0");
    applies(&r, "a 10.0.0.1:1, b 10.0.0.2:1, c 10.0.0.3:1", "ADDED c");
    applies(&r, "a 10.0.0.1:1, b 10.0.0.2:2, c 10.0.0.3:1", "ADDED b"); /* news of b */
    applies(&r, "c 10.0.0.3:1", "REMOVED b EREMOVED");                  /* a and x were added by a call */
    assert_true(cohorti_cluster_has_member(&r.c, "a"));
    applies(&r, "c 10.0.0.3:1, x 10.0.0.5:5", "UPDATE x 10.0.0.5:5 inc=0");
    applies(&r, "", "REMOVED c EREMOVED");
    assert_true(cohorti_cluster_has_member(&r.c, "x"));
    rig_close(&r);
}

static void one_that_greeted_and_is_listed_later_belongs_to_the_file(void **state)
{
    struct rig r;
    rig_start(&r);
    (void)rig_open_link(&r, "a", 5, 1);
    applies(&r, "a 10.0.0.1:1", "UPDATE a 10.0.0.1:1 inc=5");
    applies(&r, "", "CLOSE 1 EREMOVED; DEACTIVATED a EREMOVED; REMOVED a EREMOVED");
    rig_close(&r);
}

static void our_own_entry_is_noted(void **state)
{
    struct rig r;
    rig_start(&r);
    applies(&r, "m 10.0.0.1:1", ""); /* what we run with was settled at the start */
    applies(&r, "m 10.0.0.1:1", "");
    applies(&r, "m 10.0.0.1:2", "NOTE m ESTATE");
    applies(&r, "m 10.0.0.1:2 [::]", "NOTE m ESTATE");
    applies(&r, "a 10.0.0.2:2", "ADDED a; NOTE m ESTATE");
    applies(&r, "m 10.0.0.1:2", "REMOVED a EREMOVED; NOTE m ESTATE");
    applies(&r, "", "NOTE m ESTATE");
    char as_it_is[400];
    (void)snprintf(as_it_is, sizeof as_it_is, "m %s:%u", r.c.config.ip, r.c.config.tcp_port);
    applies(&r, as_it_is, "");
    rig_close(&r);
}

static void the_name_of_the_cluster(void **state)
{
    struct rig r;
    struct cohorti_applied done;
    struct cohorti_cluster_config config = rig_config("m");
    (void)snprintf(config.cluster, sizeof config.cluster, "red");
    rig_open(&r, &config);
    applies(&r, "blue|a 10.0.0.1:1", "ADDED a"); /* not started: the configuration overrides the file */
    cohorti_cluster_start(&r.c, r.now);
    rig_expect(&r, "DIAL 1 10.0.0.1:1");
    assert_int_equal(apply(&r, "red|", &done), COHORT_ECLUSTER);
    rig_expect(&r, "");
    applies(&r, "blue|", "CLOSE 1 EREMOVED; REMOVED a EREMOVED");
    applies(&r, "", "NOTE m ESTATE");
    applies(&r, "green|", "NOTE m ESTATE");
    assert_int_equal(apply(&r, "blue|a 10.0.0.1:1", &done), COHORT_ECLUSTER);
    rig_close(&r);
    rig_open(&r, &config);
    cohorti_cluster_start(&r.c, r.now);
    assert_int_equal(apply(&r, "blue|", &done), COHORT_ECLUSTER); /* the first comes while we run */
    applies(&r, "red|", "");
    rig_close(&r);
}

static void what_is_wrong_is_named_and_changes_nothing(void **state)
{
    static const char *const bad[] = {"a 10.0.0.1:1, b 10.0.0.256:1", "a 10.0.0.1:1, a 10.0.0.2:1", "c 10.0.0.3:1, b* h:1",
                                      "c 10.0.0.3:1, b h:0"};
    struct rig r;
    struct cohorti_applied done;
    rig_start(&r);
    applies(&r, "a 10.0.0.1:1", "ADDED a");
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        assert_int_equal(apply(&r, bad[i], &done), COHORT_EINVAL);
        assert_int_equal(done.culprit, 1);
        rig_expect(&r, "");
    }
    struct file endless = file_of("a 10.0.0.1:1");
    endless.definition.nodes = endless.nodes;
    memset(endless.nodes[0].bind, 'x', sizeof endless.nodes[0].bind);
    assert_int_equal(cohorti_cluster_apply(&r.c, r.now, &endless.definition, &done), COHORT_EINVAL);
    assert_int_equal(done.culprit, 0);
    applies(&r, "a 10.0.0.1:1", "");
    cohorti_cluster_stop(&r.c);
    assert_int_equal(apply(&r, "a 10.0.0.1:1", &done), COHORT_ECLOSED);
    rig_close(&r);
}

static void members_are_limited_as_they_are_in_the_end(void **state)
{
    struct rig r;
    struct cohorti_applied done;
    struct cohorti_cluster_config config = rig_config("m");
    config.limits.members_max = 4;
    rig_open(&r, &config);
    cohorti_cluster_start(&r.c, r.now);
    applies(&r, "x 10.0.0.1:1, y 10.0.0.2:1, z 10.0.0.3:1", "ADDED x; ADDED y; ADDED z");
    assert_int_equal(apply(&r, "w 10.0.0.4:1, x 10.0.0.1:1, y 10.0.0.2:1, z 10.0.0.3:1", &done), COHORT_ELIMIT);
    rig_expect(&r, "");
    applies(&r, "a 10.0.0.5:1, b 10.0.0.6:1, c 10.0.0.7:1",
            "ADDED a; ADDED b; ADDED c; REMOVED x EREMOVED; REMOVED y EREMOVED; REMOVED z EREMOVED");
    rig_close(&r);
}

/* A thousand come and a thousand go in one call: the queue of effects has room for them and is small again afterwards. */
static void a_whole_large_cluster_is_replaced(void **state)
{
    struct rig r;
    struct cohorti_applied done;
    struct cohorti_cluster_config config = rig_config("m");
    struct cohorti_effect fx;
    cohort_definition_node *nodes = calloc(COHORT_DEFINITION_NODES_MAX, sizeof *nodes);
    cohort_definition definition = {.nodes = nodes, .node_count = COHORT_DEFINITION_NODES_MAX};
    config.limits.members_max = 1100;
    rig_open(&r, &config);
    cohorti_cluster_start(&r.c, r.now);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < definition.node_count; i++) {
            (void)snprintf(nodes[i].id, sizeof nodes[i].id, "r%u-%u", round, i * 7919 % COHORT_DEFINITION_NODES_MAX);
            (void)snprintf(nodes[i].ip, sizeof nodes[i].ip, "10.%u.%u.%u", round, i / 256, i % 256);
            nodes[i].tcp_port = 1;
        }
        assert_int_equal(cohorti_cluster_apply(&r.c, r.now, &definition, &done), COHORT_OK);
        assert_int_equal(done.added, COHORT_DEFINITION_NODES_MAX);
        assert_int_equal(done.removed, round == 0 ? 0 : COHORT_DEFINITION_NODES_MAX);
        while (cohorti_cluster_poll(&r.c, &fx)) {
        }
        assert_int_equal(r.c.member_count, COHORT_DEFINITION_NODES_MAX + 1);
        for (size_t i = 1; i < r.c.member_count; i++) {
            assert_true(strcmp(r.c.members[i - 1]->public.id, r.c.members[i]->public.id) < 0);
        }
    }
    free(nodes);
    rig_close(&r);
}

static void without_memory_nothing_changes(void **state)
{
    for (uint64_t n = 1;; n++) {
        struct rig r;
        struct cohorti_applied done;
        rig_start(&r);
        applies(&r, "a 10.0.0.1:1, b 10.0.0.2:1", "ADDED a; ADDED b");
        r.memory.fail_at = r.memory.calls + n;
        int status = apply(
            &r, "b 10.0.0.9:1, c 10.0.0.3:1, d 10.0.0.4:1, e 10.0.0.5:1, f 10.0.0.6:1, g 10.0.0.7:1, h 10.0.0.8:1, i 10.0.0.9:1",
            &done);
        bool failed = r.memory.calls >= r.memory.fail_at;
        r.memory.fail_at = 0;
        if (!failed) {
            assert_int_equal(status, COHORT_OK);
            assert_true(n > 8);
            rig_close(&r);
            break;
        }
        assert_int_equal(status, COHORT_ENOMEM);
        rig_expect(&r, "");
        assert_true(cohorti_cluster_has_member(&r.c, "a"));
        assert_int_equal(r.c.member_count, 3);
        applies(&r, "a 10.0.0.1:1, b 10.0.0.2:1", "");
        rig_close(&r);
    }
}

/* A name may stand for several addresses: the shell takes them by turns, and stays with one that connects. */
static void the_turn_moves_on_when_a_dial_does_not_connect(void **state)
{
    struct rig r;
    struct cohorti_effect fx;
    rig_start(&r);
    applies(&r, "a h.example:1", "ADDED a");
    for (uint32_t turn = 0; turn < 4; turn++) {
        uint64_t due = cohorti_cluster_deadline(&r.c); /* the dial, and not its time-out */
        rig_pass(&r, due > r.now ? due - r.now : 0);
        assert_true(cohorti_cluster_poll(&r.c, &fx));
        assert_int_equal(fx.type, COHORTI_EFFECT_DIAL);
        assert_string_equal(fx.u.dial.host, "h.example");
        assert_string_equal(fx.u.dial.id, "a");
        assert_int_equal(fx.u.dial.turn, turn < 3 ? turn : 2);
        if (turn == 2) {
            rig_connected(&r, fx.link);
        }
        while (cohorti_cluster_poll(&r.c, &(struct cohorti_effect){.link = 0})) {
        }
        rig_closed(&r, fx.link, turn == 0 ? COHORT_ENORESOLVE : COHORT_EREFUSED);
    }
    rig_close(&r);
}

/* All addresses of a name without a pause, then one; from whichever was the turn. */
static void a_name_is_dialled_at_all_its_addresses_before_a_pause(void **state)
{
    struct rig r;
    struct cohorti_effect fx;
    rig_start(&r);
    applies(&r, "a h.example:1", "ADDED a");
    for (uint32_t turn = 0; turn < 7; turn++) {
        uint64_t due = cohorti_cluster_deadline(&r.c);
        bool pause = turn > 0 && turn % 3 == 0;
        assert_int_equal(due > r.now, pause);
        rig_pass(&r, due > r.now ? due - r.now : 0);
        assert_true(cohorti_cluster_poll(&r.c, &fx));
        assert_int_equal(fx.type, COHORTI_EFFECT_DIAL);
        assert_int_equal(fx.u.dial.turn, turn);
        cohorti_cluster_resolved(&r.c, fx.link, 3);
        cohorti_cluster_resolved(&r.c, fx.link + 1, 1); /* a link that is not there */
        rig_closed(&r, fx.link, turn % 2 == 0 ? COHORT_EREFUSED : COHORT_EUNREACHABLE);
    }
    rig_pass(&r, 0);
    assert_true(cohorti_cluster_poll(&r.c, &fx));
    rig_closed(&r, fx.link, COHORT_ENORESOLVE); /* the name is gone: no address is left to try */
    assert_true(cohorti_cluster_deadline(&r.c) > r.now);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_adds_all_but_ourselves),
        cmocka_unit_test(the_same_again_does_nothing),
        cmocka_unit_test(members_come_go_and_move),
        cmocka_unit_test(another_address_leaves_the_link_and_ends_a_dial),
        cmocka_unit_test(added_and_removed_at_run_time),
        cmocka_unit_test(one_that_greeted_and_is_listed_later_belongs_to_the_file),
        cmocka_unit_test(our_own_entry_is_noted),
        cmocka_unit_test(the_name_of_the_cluster),
        cmocka_unit_test(what_is_wrong_is_named_and_changes_nothing),
        cmocka_unit_test(members_are_limited_as_they_are_in_the_end),
        cmocka_unit_test(a_whole_large_cluster_is_replaced),
        cmocka_unit_test(without_memory_nothing_changes),
        cmocka_unit_test(the_turn_moves_on_when_a_dial_does_not_connect),
        cmocka_unit_test(a_name_is_dialled_at_all_its_addresses_before_a_pause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
