/* SPDX-License-Identifier: Apache-2.0
 *
 * core/dialler: both policies, the bounds of the jitter, what resets the back-off and what does not.
 */
#include "core/dialler.h"

#include "support.h"

#define MS COHORTI_NS_PER_MS
#define START (UINT64_C(5000) * MS)
#define NOW (UINT64_C(60000) * MS)

static const cohort_dial_policy backoff = {
    .mode = COHORT_DIAL_BACKOFF, .delay_min_ms = 100, .delay_max_ms = 3000, .connect_timeout_ms = 1};
static const cohort_dial_policy seed = {.mode = COHORT_DIAL_SEED, .delay_min_ms = 100, .delay_max_ms = 3000, .connect_timeout_ms = 1};

static void a_new_member_is_dialled_at_once(void **state)
{
    struct cohorti_dialler d;
    cohorti_dialler_init(&d, &backoff, START, NOW);
    assert_int_equal(d.next_ns, NOW);
}

/* 100, 200, 400 ... up to 3000 ms, each less up to half of itself; over many seeds both ends of the range are used. */
static void delays_double_within_the_bounds_of_the_jitter(void **state)
{
    static const uint64_t most_ms[] = {100, 200, 400, 800, 1600, 3000, 3000, 3000};
    uint64_t least_seen[UNIT_COUNT(most_ms)], most_seen[UNIT_COUNT(most_ms)] = {0};
    for (uint64_t s = 0; s < 2000; s++) {
        struct cohorti_dialler d;
        struct cohorti_prng prng;
        cohorti_prng_init(&prng, s);
        cohorti_dialler_init(&d, &backoff, START, NOW);
        for (size_t i = 0; i < UNIT_COUNT(most_ms); i++) {
            cohorti_dialler_failed(&d, &backoff, START, NOW, &prng);
            uint64_t delay = d.next_ns - NOW;
            assert_in_range(delay, most_ms[i] * MS / 2, most_ms[i] * MS);
            least_seen[i] = s == 0 || delay < least_seen[i] ? delay : least_seen[i];
            most_seen[i] = delay > most_seen[i] ? delay : most_seen[i];
        }
    }
    for (size_t i = 0; i < UNIT_COUNT(most_ms); i++) {
        assert_true(least_seen[i] < most_ms[i] * MS * 51 / 100);
        assert_true(most_seen[i] > most_ms[i] * MS * 99 / 100);
    }
}

static void failures_never_overflow(void **state)
{
    struct cohorti_dialler d;
    struct cohorti_prng prng;
    const cohort_dial_policy widest = {.mode = COHORT_DIAL_BACKOFF, .delay_min_ms = 1, .delay_max_ms = UINT32_MAX};
    cohorti_prng_init(&prng, 1);
    cohorti_dialler_init(&d, &widest, START, NOW);
    d.failures = UINT32_MAX - 1;
    for (int i = 0; i < 3; i++) {
        cohorti_dialler_failed(&d, &widest, START, NOW, &prng);
        assert_in_range(d.next_ns - NOW, UINT32_MAX * MS / 2, UINT32_MAX * MS);
    }
    assert_int_equal(d.failures, UINT32_MAX);
}

static void fail_times(struct cohorti_dialler *d, struct cohorti_prng *prng, int times)
{
    for (int i = 0; i < times; i++) {
        cohorti_dialler_failed(d, &backoff, START, NOW, prng);
    }
}

static void a_byte_resets_the_doubling(void **state)
{
    struct cohorti_dialler d;
    struct cohorti_prng prng;
    cohorti_prng_init(&prng, 1);
    cohorti_dialler_init(&d, &backoff, START, NOW);
    fail_times(&d, &prng, 10);
    cohorti_dialler_received(&d);
    fail_times(&d, &prng, 1);
    assert_in_range(d.next_ns - NOW, 50 * MS, 100 * MS);
}

/* Three steps on, once; from there as after any failure. A longest delay that is shorter holds. */
static void where_nobody_listens_the_doubling_begins_later(void **state)
{
    static const uint64_t most_ms[] = {800, 1600, 3000, 3000};
    static const cohort_dial_policy hasty = {.mode = COHORT_DIAL_BACKOFF, .delay_min_ms = 20, .delay_max_ms = 50};
    struct cohorti_dialler d;
    struct cohorti_prng prng;
    cohorti_prng_init(&prng, 1);
    cohorti_dialler_init(&d, &backoff, START, NOW);
    for (size_t i = 0; i < UNIT_COUNT(most_ms); i++) {
        cohorti_dialler_absent(&d, &backoff, START, NOW, &prng);
        assert_in_range(d.next_ns - NOW, most_ms[i] * MS / 2, most_ms[i] * MS);
    }
    cohorti_dialler_received(&d);
    cohorti_dialler_failed(&d, &backoff, START, NOW, &prng);
    assert_in_range(d.next_ns - NOW, 50 * MS, 100 * MS);
    cohorti_dialler_init(&d, &hasty, START, NOW);
    cohorti_dialler_absent(&d, &hasty, START, NOW, &prng);
    assert_in_range(d.next_ns - NOW, 25 * MS, 50 * MS);
    cohorti_dialler_absent(&d, &seed, START, NOW, &prng);
    assert_int_equal(d.next_ns, START + 56000 * MS);
}

static void a_refusal_is_a_failure_whatever_bytes_came(void **state)
{
    struct cohorti_dialler d;
    struct cohorti_prng prng;
    cohorti_prng_init(&prng, 1);
    cohorti_dialler_init(&d, &backoff, START, NOW);
    for (uint32_t i = 1; i <= 8; i++) {
        cohorti_dialler_received(&d);
        cohorti_dialler_refused(&d, &backoff, START, NOW, &prng);
        assert_int_equal(d.failures, i);
    }
    assert_in_range(d.next_ns - NOW, 1500 * MS, 3000 * MS);
}

static void a_lost_link_is_redialled_soon_but_not_all_at_once(void **state)
{
    uint64_t most = 0;
    for (uint64_t s = 0; s < 1000; s++) {
        struct cohorti_dialler d;
        struct cohorti_prng prng;
        cohorti_prng_init(&prng, s);
        cohorti_dialler_init(&d, &backoff, START, NOW);
        fail_times(&d, &prng, 10);
        cohorti_dialler_lost(&d, &backoff, START, NOW, &prng);
        assert_in_range(d.next_ns, NOW, NOW + 100 * MS);
        most = d.next_ns - NOW > most ? d.next_ns - NOW : most;
        fail_times(&d, &prng, 1); /* and the doubling begins anew */
        assert_in_range(d.next_ns - NOW, 50 * MS, 100 * MS);
    }
    assert_true(most > 90 * MS);
}

/* Ticks at 1, 6, 11 s ... after the start, strictly after now, whatever happened. */
static void the_seed_knows_only_its_ticks(void **state)
{
    static const struct {
        uint64_t now_ms, next_ms;
    } cases[] = {{0, 1000},    {999, 1000},   {1000, 6000},     {1001, 6000},
                 {5999, 6000}, {6000, 11000}, {601000, 606000}, {605999, 606000}};
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        struct cohorti_dialler d;
        struct cohorti_prng prng;
        uint64_t now = START + cases[i].now_ms * MS, next = START + cases[i].next_ms * MS;
        cohorti_prng_init(&prng, i);
        cohorti_dialler_init(&d, &seed, START, now);
        assert_int_equal(d.next_ns, next);
        cohorti_dialler_failed(&d, &seed, START, now, &prng);
        assert_int_equal(d.next_ns, next);
        cohorti_dialler_refused(&d, &seed, START, now, &prng);
        assert_int_equal(d.next_ns, next);
        cohorti_dialler_lost(&d, &seed, START, now, &prng);
        assert_int_equal(d.next_ns, next);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_member_is_dialled_at_once),
        cmocka_unit_test(delays_double_within_the_bounds_of_the_jitter),
        cmocka_unit_test(failures_never_overflow),
        cmocka_unit_test(a_byte_resets_the_doubling),
        cmocka_unit_test(where_nobody_listens_the_doubling_begins_later),
        cmocka_unit_test(a_refusal_is_a_failure_whatever_bytes_came),
        cmocka_unit_test(a_lost_link_is_redialled_soon_but_not_all_at_once),
        cmocka_unit_test(the_seed_knows_only_its_ticks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
