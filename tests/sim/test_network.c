/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulated machine through the public API, as an application would use it: own handlers in a simulated cluster, and each
 * fault does what it says.
 */
#include <cohort/sim.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SECOND_NS UINT64_C(1000000000)

struct pair {
    cohort_sim *sim;
    cohort_node *node[2];
    unsigned received[2];
    int last_reason[2];
    unsigned received_in_stall;
};

static const char *const ips[] = {"10.0.0.1", "10.0.0.2"};
static const char *const ids[] = {"a", "b"};

static void on_message(cohort_node *node, const cohort_message *message, void *arg)
{
    struct pair *p = arg;
    int me = strcmp(message->from, "a") == 0;
    p->received[me]++;
    if (message->data_len == 4 && memcmp(message->data, "ping", 4) == 0) {
        assert_int_equal(cohort_send(node, message->from, "s", "pong", 4), COHORT_OK);
    }
    if (message->data_len == 4 && memcmp(message->data, "slow", 4) == 0) {
        cohort_sim_stall(p->sim, SECOND_NS);
    }
}

static void on_event(cohort_node *node, const cohort_event *event, void *arg)
{
    struct pair *p = arg;
    p->last_reason[node == p->node[1]] = event->reason;
}

static void start(struct pair *p, int i)
{
    cohort_config config;
    cohort_handle_id id;
    COHORT_CONFIG_INIT(&config);
    config.id = ids[i];
    config.ip = ips[i];
    config.loop_count = (uint32_t)i;
    config.log.level = COHORT_LOG_OFF;
    assert_int_equal(cohort_sim_node_open(p->sim, &config, &p->node[i], NULL), COHORT_OK);
    assert_int_equal(cohort_node_add(p->node[i], ids[!i], ips[!i], 9876), COHORT_OK);
    assert_int_equal(cohort_handle(p->node[i], "s", on_message, p, NULL, &id), COHORT_OK);
    assert_int_equal(cohort_listen(p->node[i], on_event, p, NULL, &id), COHORT_OK);
    assert_int_equal(cohort_node_start(p->node[i], NULL), COHORT_OK);
}

static bool both_active(void *arg)
{
    struct pair *p = arg;
    return cohort_node_state(p->node[0], "b") == COHORT_ACTIVE && cohort_node_state(p->node[1], "a") == COHORT_ACTIVE;
}

static bool none_active(void *arg)
{
    struct pair *p = arg;
    return cohort_node_state(p->node[0], "b") == COHORT_INACTIVE && cohort_node_state(p->node[1], "a") == COHORT_INACTIVE;
}

static void set_up(struct pair *p, uint64_t seed)
{
    cohort_sim_config config;
    COHORT_SIM_CONFIG_INIT(&config);
    config.seed = seed;
    memset(p, 0, sizeof *p);
    assert_int_equal(cohort_sim_open(&config, &p->sim), COHORT_OK);
    start(p, 0);
    start(p, 1);
    assert_true(cohort_sim_run_until(p->sim, both_active, p, 5 * SECOND_NS));
    cohort_sim_run(p->sim, SECOND_NS);
    assert_int_equal(cohort_sim_connections(p->sim, ips[0], ips[1]), 1);
}

static void tear_down(struct pair *p)
{
    (void)cohort_node_close(p->node[0], 1000);
    (void)cohort_node_close(p->node[1], 1000);
    cohort_sim_close(p->sim);
}

static void handlers_answer_each_other(void **state)
{
    struct pair p;
    set_up(&p, 1);
    assert_int_equal(cohort_send(p.node[0], "b", "s", "ping", 4), COHORT_OK);
    cohort_sim_run(p.sim, SECOND_NS / 100);
    assert_int_equal(p.received[1], 1);
    assert_int_equal(p.received[0], 1);
    tear_down(&p);
}

static void a_reset_is_seen_by_both_and_mended(void **state)
{
    struct pair p;
    set_up(&p, 2);
    assert_int_equal(cohort_sim_reset(p.sim, ips[0], ips[1]), 1);
    assert_true(cohort_sim_run_until(p.sim, none_active, &p, SECOND_NS));
    assert_int_equal(p.last_reason[0], COHORT_ERESET);
    assert_true(cohort_sim_run_until(p.sim, both_active, &p, SECOND_NS));
    tear_down(&p);
}

/* The kernel of a paused process answers; a dead host does not: TCP gives up after 30 s. */
static void a_pause_is_not_a_dead_host(void **state)
{
    struct pair p;
    set_up(&p, 3);
    cohort_sim_pause(p.sim, ips[1], 60 * SECOND_NS);
    cohort_sim_run(p.sim, 59 * SECOND_NS);
    assert_int_equal(cohort_node_state(p.node[0], "b"), COHORT_ACTIVE);
    cohort_sim_run(p.sim, 5 * SECOND_NS);
    cohort_sim_power_off(p.sim, ips[1], p.node[1]);
    uint64_t off_ns = cohort_sim_now_ns(p.sim);
    while (cohort_node_state(p.node[0], "b") == COHORT_ACTIVE) {
        cohort_sim_run(p.sim, SECOND_NS / 10);
        assert_true(cohort_sim_now_ns(p.sim) - off_ns < 45 * SECOND_NS);
    }
    assert_int_equal(p.last_reason[0], COHORT_EUNREACHABLE);
    assert_true(cohort_sim_now_ns(p.sim) - off_ns > 20 * SECOND_NS);
    cohort_sim_boot(p.sim, ips[1]);
    start(&p, 1);
    assert_true(cohort_sim_run_until(p.sim, both_active, &p, 15 * SECOND_NS));
    tear_down(&p);
}

static void a_killed_process_is_noticed_at_once(void **state)
{
    struct pair p;
    set_up(&p, 4);
    cohort_sim_kill(p.sim, p.node[1]);
    cohort_sim_run(p.sim, SECOND_NS / 100);
    assert_int_equal(cohort_node_state(p.node[0], "b"), COHORT_INACTIVE);
    start(&p, 1);
    assert_true(cohort_sim_run_until(p.sim, both_active, &p, SECOND_NS));
    tear_down(&p);
}

static void a_cut_in_one_direction_ends_the_link_at_both_ends(void **state)
{
    struct pair p;
    set_up(&p, 5);
    assert_int_equal(cohort_sim_cut(p.sim, ips[0], ips[1], true), COHORT_OK);
    cohort_sim_run(p.sim, 45 * SECOND_NS);
    assert_true(none_active(&p));
    cohort_sim_heal(p.sim);
    assert_true(cohort_sim_run_until(p.sim, both_active, &p, 40 * SECOND_NS));
    tear_down(&p);
}

static void a_listener_port_can_be_taken_only_once(void **state)
{
    struct pair p;
    cohort_config config;
    cohort_node *second = NULL;
    set_up(&p, 6);
    COHORT_CONFIG_INIT(&config);
    config.id = "c";
    config.ip = ips[0];
    assert_int_equal(cohort_sim_node_open(p.sim, &config, &second, NULL), COHORT_OK);
    assert_int_equal(cohort_node_start(second, NULL), COHORT_EADDRINUSE);
    assert_int_equal(cohort_node_close(second, 0), COHORT_OK);
    tear_down(&p);
}

static void speak_during_the_stall(void *arg)
{
    struct pair *p = arg;
    assert_int_equal(cohort_send(p->node[0], "b", "s", "more", 4), COHORT_OK);
}

static void look_during_the_stall(void *arg)
{
    struct pair *p = arg;
    p->received_in_stall = p->received[1];
    assert_int_equal(cohort_send(p->node[1], "a", "s", "here", 4), COHORT_OK); /* only the one loop of b stands still */
}

static void a_stalled_handler_holds_its_own_loop_only(void **state)
{
    struct pair p;
    set_up(&p, 7);
    uint64_t begin_ns = cohort_sim_now_ns(p.sim);
    assert_int_equal(cohort_send(p.node[0], "b", "s", "slow", 4), COHORT_OK);
    assert_int_equal(cohort_sim_after(p.sim, SECOND_NS / 4, speak_during_the_stall, &p), COHORT_OK);
    assert_int_equal(cohort_sim_after(p.sim, SECOND_NS / 2, look_during_the_stall, &p), COHORT_OK);
    cohort_sim_run(p.sim, SECOND_NS / 1000);
    assert_true(cohort_sim_now_ns(p.sim) - begin_ns >= SECOND_NS); /* it lasted as long as the handler */
    assert_int_equal(p.received_in_stall, 1);
    cohort_sim_run(p.sim, SECOND_NS / 100);
    assert_int_equal(p.received[1], 2);
    assert_int_equal(p.received[0], 1);
    tear_down(&p);
}

static void a_stranger_is_shown_the_door(void **state)
{
    const char *stranger_ip = "10.0.0.9";
    struct pair p;
    cohort_node_stats stats;
    set_up(&p, 8);
    assert_int_equal(cohort_sim_stranger(p.sim, stranger_ip, ips[0], 9876), COHORT_OK);
    cohort_sim_run(p.sim, SECOND_NS);
    cohort_node_stats_get(p.node[0], &stats);
    assert_int_equal(stats.handshakes_pending, 1);
    assert_int_equal(cohort_sim_connections(p.sim, ips[0], stranger_ip), 1);
    cohort_sim_run(p.sim, 6 * SECOND_NS); /* limits.handshake_timeout_ms and a little */
    cohort_node_stats_get(p.node[0], &stats);
    assert_int_equal(stats.handshakes_pending, 0);
    assert_int_equal(stats.links_open, 1);
    assert_int_equal(cohort_sim_connections(p.sim, ips[0], stranger_ip), 0);
    tear_down(&p);
}

/* A host with two names and two addresses, one of which nobody has: by turns, and then the one that connects. */
static void members_are_reached_by_name(void **state)
{
    struct pair p;
    cohort_config config;
    memset(&p, 0, sizeof p);
    cohort_sim_config sim;
    COHORT_SIM_CONFIG_INIT(&sim);
    assert_int_equal(cohort_sim_open(&sim, &p.sim), COHORT_OK);
    assert_int_equal(cohort_sim_name(p.sim, "b.example", "10.9.9.9"), COHORT_OK);
    assert_int_equal(cohort_sim_name(p.sim, "b.example", ips[1]), COHORT_OK);
    assert_int_equal(cohort_sim_name(p.sim, "not a name", ips[1]), COHORT_EINVAL);
    assert_int_equal(cohort_sim_name(p.sim, "b.example", "b.example"), COHORT_EINVAL);
    for (int i = 0; i < 2; i++) {
        COHORT_CONFIG_INIT(&config);
        config.id = ids[i];
        config.ip = ips[i];
        config.bind = i == 0 ? NULL : "0.0.0.0";
        config.log.level = COHORT_LOG_OFF;
        assert_int_equal(cohort_sim_node_open(p.sim, &config, &p.node[i], NULL), COHORT_OK);
        assert_int_equal(cohort_node_start(p.node[i], NULL), COHORT_OK);
    }
    assert_int_equal(cohort_node_add(p.node[0], "b", "b.example", 9876), COHORT_OK);
    assert_true(cohort_sim_run_until(p.sim, both_active, &p, 30 * SECOND_NS));
    uint64_t reset_ns = cohort_sim_now_ns(p.sim);
    assert_int_equal(cohort_sim_reset(p.sim, ips[0], ips[1]), 1);
    assert_true(cohort_sim_run_until(p.sim, none_active, &p, SECOND_NS));
    assert_true(cohort_sim_run_until(p.sim, both_active, &p, SECOND_NS)); /* not by way of the address that is dead */
    assert_true(cohort_sim_now_ns(p.sim) - reset_ns < SECOND_NS);
    assert_int_equal(cohort_sim_name(p.sim, "b.example", NULL), COHORT_OK);
    assert_int_equal(cohort_sim_reset(p.sim, ips[0], ips[1]), 1);
    assert_true(cohort_sim_run_until(p.sim, none_active, &p, SECOND_NS));
    assert_int_equal(cohort_node_remove(p.node[1], "a"), COHORT_OK); /* it does not dial either */
    cohort_sim_run(p.sim, 30 * SECOND_NS);
    cohort_node_stats stats;
    cohort_node_stats_get(p.node[0], &stats);
    assert_true(stats.errors[-COHORT_ENORESOLVE] > 3);
    assert_int_equal(cohort_node_state(p.node[0], "b"), COHORT_INACTIVE);
    cohort_sim_kill(p.sim, p.node[0]); /* perhaps while it looks up */
    p.node[0] = NULL;
    tear_down(&p);
}

/* An application that follows a file runs here too; its file is real, and is read but not followed. */
static void a_definition_file_is_read_and_not_followed(void **state)
{
    struct pair p;
    cohort_config config;
    cohort_sim_config sim;
    cohort_definition_status status;
    cohort_definition definition = {.node_count = 0};
    const cohort_definition_node b = {.id = "b", .ip = "10.0.0.2"};
    char path[] = "/tmp/cohort-sim-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(cohort_definition_add(&definition, &b, NULL), COHORT_OK);
    assert_int_equal(cohort_definition_write(path, &definition, NULL), COHORT_OK);
    COHORT_SIM_CONFIG_INIT(&sim);
    memset(&p, 0, sizeof p);
    assert_int_equal(cohort_sim_open(&sim, &p.sim), COHORT_OK);
    COHORT_CONFIG_INIT(&config);
    config.id = ids[0];
    config.ip = ips[0];
    config.definition_path = path;
    config.log.level = COHORT_LOG_OFF;
    assert_int_equal(cohort_sim_node_open(p.sim, &config, &p.node[0], NULL), COHORT_OK);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(cohort_definition_write(path, &definition, NULL), COHORT_OK);
    assert_int_equal(cohort_node_start(p.node[0], NULL), COHORT_OK);
    cohort_node_definition_status(p.node[0], &status);
    assert_false(status.followed);
    assert_int_equal(status.error.code, COHORT_OK);
    start(&p, 1);
    assert_true(cohort_sim_run_until(p.sim, both_active, &p, 5 * SECOND_NS));
    assert_int_equal(cohort_definition_remove(&definition, "b", NULL), COHORT_OK);
    assert_int_equal(cohort_node_apply_definition(p.node[0], &definition, NULL), COHORT_OK);
    assert_true(cohort_sim_run_until(p.sim, none_active, &p, SECOND_NS));
    assert_int_equal(unlink(path), 0);
    cohort_definition_free(&definition);
    tear_down(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handlers_answer_each_other),
        cmocka_unit_test(a_reset_is_seen_by_both_and_mended),
        cmocka_unit_test(a_pause_is_not_a_dead_host),
        cmocka_unit_test(a_killed_process_is_noticed_at_once),
        cmocka_unit_test(a_cut_in_one_direction_ends_the_link_at_both_ends),
        cmocka_unit_test(a_listener_port_can_be_taken_only_once),
        cmocka_unit_test(a_stalled_handler_holds_its_own_loop_only),
        cmocka_unit_test(a_stranger_is_shown_the_door),
        cmocka_unit_test(members_are_reached_by_name),
        cmocka_unit_test(a_definition_file_is_read_and_not_followed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
