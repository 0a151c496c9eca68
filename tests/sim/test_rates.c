/* SPDX-License-Identifier: Apache-2.0
 *
 * Rates beside the counters: the window is what cohort_rates promises, to the nanosecond, because time is virtual.
 */
#include <cohort/sim.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define SECOND_NS UINT64_C(1000000000)
#define FRAME_BYTES (16 + 100)
#define ACK_BYTES (16 + 17)
#define ACKS_MAX 3

static struct {
    cohort_sim *sim;
    cohort_node *node[2];
    cohort_definition definition;
} world;

static bool meet(void *arg)
{
    (void)arg;
    return cohort_node_state(world.node[0], "b") == COHORT_ACTIVE && cohort_node_state(world.node[1], "a") == COHORT_ACTIVE;
}

static int begin(void **state)
{
    static const char text[] = "{\"nodes\":[{\"id\":\"a\",\"ip\":\"10.0.0.1\"},{\"id\":\"b\",\"ip\":\"10.0.0.2\"}]}";
    cohort_sim_config sim_config;
    (void)state;
    COHORT_SIM_CONFIG_INIT(&sim_config);
    sim_config.seed = 7;
    assert_int_equal(cohort_sim_open(&sim_config, &world.sim), COHORT_OK);
    assert_int_equal(cohort_definition_parse("test", text, strlen(text), &world.definition, NULL), COHORT_OK);
    for (int i = 0; i < 2; i++) {
        cohort_config config;
        COHORT_CONFIG_INIT(&config);
        config.id = i == 0 ? "a" : "b";
        config.ip = i == 0 ? "10.0.0.1" : "10.0.0.2";
        config.definition = &world.definition;
        config.log.level = COHORT_LOG_OFF;
        assert_int_equal(cohort_sim_node_open(world.sim, &config, &world.node[i], NULL), COHORT_OK);
        assert_int_equal(cohort_node_start(world.node[i], NULL), COHORT_OK);
    }
    assert_true(cohort_sim_run_until(world.sim, meet, NULL, 60 * SECOND_NS));
    return 0;
}

static int end(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        (void)cohort_node_close(world.node[i], 1000);
    }
    cohort_sim_close(world.sim);
    cohort_definition_free(&world.definition);
    return 0;
}

/* `count` frames of FRAME_BYTES each from a to b, and the time it takes, which is duration_ns in all. */
static void send_frames(int count, uint64_t duration_ns)
{
    static const char data[100];
    uint64_t until_ns = cohort_sim_now_ns(world.sim) + duration_ns;
    for (int i = 0; i < count; i++) {
        assert_int_equal(cohort_send(world.node[0], "b", "#7", data, sizeof data), COHORT_OK);
    }
    cohort_sim_run(world.sim, until_ns - cohort_sim_now_ns(world.sim));
}

static cohort_rates link_rates(int from, const char *to)
{
    cohort_link_stats stats;
    assert_int_equal(cohort_link_stats_get(world.node[from], to, &stats), COHORT_OK);
    return stats.rates;
}

static cohort_rates node_rates(int which)
{
    cohort_node_stats stats;
    cohort_node_stats_get(world.node[which], &stats);
    return stats.rates;
}

/* Where nothing is sent there are acknowledgements, few for frames that come together. */
static void assert_rate(uint64_t frames, uint64_t bytes, uint64_t want)
{
    if (want == 0) {
        assert_in_range(frames, 0, ACKS_MAX);
        assert_in_range(bytes, 0, ACKS_MAX * ACK_BYTES);
    } else {
        assert_int_equal(frames, want);
        assert_int_equal(bytes, want * FRAME_BYTES);
    }
}

static void assert_rates(cohort_rates r, uint64_t frames_in, uint64_t frames_out)
{
    assert_rate(r.frames_in_per_s, r.bytes_in_per_s, frames_in);
    assert_rate(r.frames_out_per_s, r.bytes_out_per_s, frames_out);
}

static void settle(void)
{
    cohort_sim_run(world.sim, 10 * SECOND_NS);
    (void)link_rates(0, "b");
    (void)link_rates(1, "a");
    (void)node_rates(0);
}

static void a_reader_each_second_gets_that_second(void **state)
{
    (void)state;
    settle();
    send_frames(50, SECOND_NS);
    assert_rates(link_rates(0, "b"), 0, 50);
    assert_rates(link_rates(1, "a"), 50, 0);
    assert_rates(node_rates(0), 0, 50);
    send_frames(20, SECOND_NS);
    assert_rates(link_rates(0, "b"), 0, 20);
    assert_rates(node_rates(0), 0, 20);
    send_frames(0, SECOND_NS);
    assert_rates(link_rates(0, "b"), 0, 0);
    assert_rates(node_rates(0), 0, 0);
}

static void a_long_pause_is_averaged(void **state)
{
    (void)state;
    settle();
    send_frames(100, 10 * SECOND_NS);
    assert_rates(link_rates(0, "b"), 0, 10);
}

static void readers_in_a_hurry_do_not_shorten_the_window_below_half_a_second(void **state)
{
    (void)state;
    settle();
    send_frames(40, SECOND_NS / 4);
    cohort_rates first = link_rates(0, "b"); /* 40 frames, in the 10 s before settle() read and the quarter of a second since */
    assert_true(first.frames_out_per_s >= 3 && first.frames_out_per_s <= 4);
    cohort_rates again = link_rates(0, "b");
    assert_memory_equal(&first, &again, sizeof first); /* the same moment, the same answer */
    cohort_sim_run(world.sim, SECOND_NS / 4);
    assert_rates(link_rates(0, "b"), 0, 80); /* half a second since settle() */
}

static void a_young_link_counts_as_half_a_second(void **state)
{
    (void)state;
    cohort_link_stats stats;
    assert_int_equal(cohort_link_stats_get(world.node[0], "b", &stats), COHORT_OK);
    assert_true(stats.open_ns < SECOND_NS / 2);
    assert_int_equal(stats.rates.bytes_out_per_s, 2 * stats.bytes_out);
    assert_int_equal(stats.rates.frames_in_per_s, 2 * stats.frames_in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_reader_each_second_gets_that_second, begin, end),
        cmocka_unit_test_setup_teardown(a_long_pause_is_averaged, begin, end),
        cmocka_unit_test_setup_teardown(readers_in_a_hurry_do_not_shorten_the_window_below_half_a_second, begin, end),
        cmocka_unit_test_setup_teardown(a_young_link_counts_as_half_a_second, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
