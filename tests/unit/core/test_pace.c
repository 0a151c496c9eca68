/* SPDX-License-Identifier: Apache-2.0
 *
 * core/pace over a modelled path: so many bytes a second, so long there and back, frames of 32 KiB, an acknowledgement for each.
 */
#include "core/pace.h"

#include "support.h"

#define MS UINT64_C(1000000)
#define S UINT64_C(1000000000)
#define FRAME UINT64_C(32768)
#define CREDIT (UINT64_C(16) * 1024 * 1024)
#define FLIGHT_MAX 512
#define WAKES 16

struct path {
    struct cohorti_pace pace;
    uint64_t rate, latency_ns; /* bytes a second; there and back */
    uint64_t wake_ns;          /* longer, but for one frame in WAKES: an end slept */
    uint32_t frames;
    uint64_t now_ns, sent, acked, urgent;
    uint64_t free_ns; /* the path has passed on all that was written */
    uint64_t last_acked_ns;
    struct {
        uint64_t end, acked_ns;
    } flight[FLIGHT_MAX];
    uint32_t first, count;
    uint64_t most; /* under way since last asked */
};

static void begin(struct path *p, uint64_t rate, uint64_t latency_ns)
{
    *p = (struct path){.rate = rate, .latency_ns = latency_ns, .now_ns = S, .free_ns = S};
    cohorti_pace_init(&p->pace);
}

static void write_frames(struct path *p)
{
    bool wrote = false;
    while (p->sent - p->acked < p->pace.window && p->sent - p->acked < CREDIT) {
        assert_true(p->count < FLIGHT_MAX);
        p->sent += FRAME;
        p->free_ns = (p->free_ns > p->now_ns ? p->free_ns : p->now_ns) + FRAME * S / p->rate;
        p->flight[(p->first + p->count) % FLIGHT_MAX].end = p->sent;
        uint64_t acked_ns = p->free_ns + p->latency_ns + (p->frames++ % WAKES == 0 ? 0 : p->wake_ns);
        acked_ns = acked_ns > p->last_acked_ns ? acked_ns : p->last_acked_ns;
        p->flight[(p->first + p->count) % FLIGHT_MAX].acked_ns = p->last_acked_ns = acked_ns;
        p->count++;
        wrote = true;
    }
    if (wrote) {
        cohorti_pace_written(&p->pace, p->now_ns, p->sent, p->acked, true);
    }
    p->most = p->sent - p->acked > p->most ? p->sent - p->acked : p->most;
}

/* A stream that never ends, for so long; with or without an urgent message now and then. Returns the bytes that arrived. */
static uint64_t stream(struct path *p, uint64_t for_ns, bool urgent)
{
    uint64_t until_ns = p->now_ns + for_ns, before = p->acked;
    p->most = 0;
    write_frames(p);
    while (p->count > 0 && p->flight[p->first].acked_ns <= until_ns) {
        p->now_ns = p->flight[p->first].acked_ns;
        p->acked = p->flight[p->first].end;
        p->first = (p->first + 1) % FLIGHT_MAX;
        p->count--;
        p->urgent += urgent ? 64 : 0;
        cohorti_pace_acked(&p->pace, p->now_ns, p->acked, p->urgent);
        write_frames(p);
    }
    p->now_ns = until_ns;
    return p->acked - before;
}

static void without_urgent_messages_there_is_no_limit(void **state)
{
    struct path p;
    (void)state;
    begin(&p, 125000000, MS / 5);
    assert_true(stream(&p, 10 * S, false) > 125000000 * UINT64_C(9));
    assert_int_equal(p.pace.window, UINT64_MAX);
    assert_int_equal(p.most, CREDIT);
}

/* What waits in the path delays an urgent message by `wait_ns` at most, and the path is used to `percent`. */
static void check_path(uint64_t rate, uint64_t latency_ns, uint64_t wait_ns, unsigned percent)
{
    struct path p;
    begin(&p, rate, latency_ns);
    stream(&p, 5 * S, false);
    stream(&p, 25 * S, true); /* what was under way goes out, and the path is learnt */
    uint64_t arrived = stream(&p, 20 * S, true);
    if (arrived < rate * 20 / 100 * percent) {
        fail_msg("%u%% of a path of %u bytes/s were used", (unsigned)(arrived * 100 / (rate * 20)), (unsigned)rate);
    }
    uint64_t carried = rate / 1000000 * (latency_ns / 1000);
    uint64_t waits = p.most > carried ? p.most - carried : 0;
    if (waits > wait_ns / 1000 * (rate / 1000000)) {
        fail_msg("%u bytes wait on a path of %u bytes/s that holds %u", (unsigned)waits, (unsigned)rate, (unsigned)carried);
    }
}

static void a_stream_leaves_the_path_to_urgent_messages(void **state)
{
    (void)state;
    check_path(2500000000, 50000, 50000, 95);    /* loopback */
    check_path(1250000000, 100000, 90000, 95);   /* 10 Gbit/s, one room */
    check_path(125000000, 200000, 700000, 95);   /* 1 Gbit/s */
    check_path(12500000, 100 * MS, 40 * MS, 93); /* 100 Mbit/s, another continent */
    check_path(125000000, 50 * MS, 20 * MS, 95); /* 1 Gbit/s, another country */
    check_path(1250000, 20 * MS, 150 * MS, 90);  /* 10 Mbit/s: a frame takes 52 ms */
}

static void a_path_that_becomes_faster_is_noticed(void **state)
{
    struct path p;
    (void)state;
    begin(&p, 12500000, 20 * MS);
    stream(&p, 10 * S, true);
    p.rate = 125000000;
    stream(&p, 2 * S, true);
    assert_true(stream(&p, 10 * S, true) > 125000000 * UINT64_C(8));
}

static void a_path_that_becomes_longer_is_noticed(void **state)
{
    struct path p;
    (void)state;
    begin(&p, 125000000, 5 * MS);
    stream(&p, 10 * S, true);
    p.latency_ns = 50 * MS;
    stream(&p, 15 * S, true);
    assert_true(stream(&p, 10 * S, true) > 125000000 * UINT64_C(8));
}

/* The shortest time that is ever seen is not what a frame takes: a window for that one would leave the path idle. */
static void ends_that_sleep_are_part_of_the_path(void **state)
{
    struct path p;
    (void)state;
    begin(&p, 1250000000, 20000);
    p.wake_ns = 80000;
    stream(&p, 5 * S, false);
    stream(&p, 10 * S, true);
    assert_true(stream(&p, 10 * S, true) > 1250000000 * UINT64_C(9));
    assert_true(p.most <= 8 * FRAME);
}

/* It is slow at first, as memory is touched for the first time. */
static void what_is_met_at_the_beginning_is_soon_forgotten(void **state)
{
    struct path p;
    (void)state;
    begin(&p, 1250000000, 2 * MS);
    stream(&p, 30 * MS, true);
    p.latency_ns = 50000;
    stream(&p, 150 * MS, true);
    stream(&p, 100 * MS, true);
    assert_true(p.most <= 6 * FRAME);
}

static void who_writes_little_does_not_make_the_path_slow(void **state)
{
    struct path p;
    (void)state;
    begin(&p, 1250000000, 100000);
    stream(&p, 5 * S, false);
    stream(&p, S, true);
    stream(&p, MS, true);
    uint64_t window = p.pace.window;
    for (int i = 0; i < 1000; i++) { /* a frame, all that there is, now and then */
        cohorti_pace_written(&p.pace, p.now_ns, p.sent + FRAME, p.acked, false);
        p.acked = p.sent += FRAME;
        p.now_ns += MS;
        cohorti_pace_acked(&p.pace, p.now_ns, p.acked, ++p.urgent);
    }
    p.count = 0;
    assert_true(p.pace.window >= window / 10 * 9 || p.pace.emptying);
}

/* What the first write under the least window meets, is over for the next; it says nothing of the path. */
static void one_write_that_took_long_is_not_the_path(void **state)
{
    struct path p;
    (void)state;
    begin(&p, 125000000, MS / 10);
    cohorti_pace_acked(&p.pace, p.now_ns, 0, 1); /* urgent before there is a stream */
    p.free_ns = p.now_ns + 4 * MS;
    p.urgent = 1;
    stream(&p, 20 * MS, true);
    stream(&p, S, true);
    assert_true(p.most <= 3 * FRAME);
}

static void the_limit_goes_a_second_after_the_last_urgent_message(void **state)
{
    struct path p;
    (void)state;
    begin(&p, 125000000, MS / 5);
    stream(&p, 5 * S, false);
    stream(&p, 5 * S, true);
    assert_true(p.pace.window < 1024 * 1024);
    stream(&p, S * 9 / 10, false);
    assert_true(p.pace.window < 1024 * 1024);
    stream(&p, S / 5, false);
    assert_int_equal(p.pace.window, UINT64_MAX);
}

static void another_link_begins_anew(void **state)
{
    struct path p;
    (void)state;
    begin(&p, 125000000, MS / 5);
    stream(&p, 5 * S, true);
    cohorti_pace_init(&p.pace);
    assert_int_equal(p.pace.window, UINT64_MAX);
    assert_false(p.pace.following);
    cohorti_pace_written(&p.pace, p.now_ns, 1000, 0, true); /* offsets are smaller than before */
    cohorti_pace_acked(&p.pace, p.now_ns + MS, 1000, p.urgent + 1);
    assert_true(p.pace.window >= COHORTI_PACE_BYTES_MIN);
    assert_true(p.pace.window < 1024 * 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_urgent_messages_there_is_no_limit),
        cmocka_unit_test(a_stream_leaves_the_path_to_urgent_messages),
        cmocka_unit_test(a_path_that_becomes_faster_is_noticed),
        cmocka_unit_test(a_path_that_becomes_longer_is_noticed),
        cmocka_unit_test(ends_that_sleep_are_part_of_the_path),
        cmocka_unit_test(what_is_met_at_the_beginning_is_soon_forgotten),
        cmocka_unit_test(who_writes_little_does_not_make_the_path_slow),
        cmocka_unit_test(one_write_that_took_long_is_not_the_path),
        cmocka_unit_test(the_limit_goes_a_second_after_the_last_urgent_message),
        cmocka_unit_test(another_link_begins_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
