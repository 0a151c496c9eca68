/* SPDX-License-Identifier: Apache-2.0
 *
 * core/outbound, inbound and undelivered together: two ends of a session, joined by a link that is broken where it hurts. Every
 * message that was accepted is delivered once and in order within its lane, or told as undelivered, and nothing is told untruthfully.
 */
#include "core/inbound.h"
#include "core/outbound.h"

#include "base/cursor.h"
#include "base/prng.h"
#include "support.h"
#include "wire/frame.h"

#include <stdlib.h>
#include <string.h>

#define MESSAGES_MAX 600
#ifdef __SANITIZE_THREAD__ /* has nothing to see in one thread, and is slow */
#define SEEDS 100
#else
#define SEEDS 1500
#endif
#define HEAD_BYTES ((size_t)8) /* u32 number, u32 seed of the rest */

struct message {
    unsigned lane;
    size_t len;
    unsigned delivered, told;
    bool told_certainly_not;
};

/* One process: what it sends, and what it took of the other. */
struct end {
    struct unit_memory memory;
    struct cohorti_outbound out;
    struct cohorti_inbound in;
    struct message sent[MESSAGES_MAX];
    uint32_t count;
    uint32_t next[COHORTI_LANE_COUNT]; /* of the other's messages, in this process */
};

struct pair {
    struct end a, b;
    struct cohorti_prng prng;
    uint64_t half;
    struct cohorti_frame_reader to_b, to_a; /* of the present link */
    bool up;
    struct unit_memory wire;
};

static const struct cohorti_outbound_limits out_limits = {.lane_bytes_max = 1 << 20, .message_bytes_max = 400000, .subjects_max = 20};
static const struct cohorti_inbound_limits in_limits = {.message_bytes_max = 400000, .subjects_max = 20, .window_bytes = 1 << 18};

static void end_open(struct pair *p, struct end *e)
{
    memset(e, 0, sizeof *e);
    unit_memory_init(&e->memory);
    cohorti_outbound_init(&e->out, &e->memory.alloc, &out_limits, ++p->half);
    cohorti_inbound_init(&e->in, &e->memory.alloc, &in_limits);
}

static void end_close(struct end *e)
{
    cohorti_outbound_deinit(&e->out);
    cohorti_inbound_deinit(&e->in);
    unit_memory_assert_empty(&e->memory);
}

static void pair_open(struct pair *p, uint64_t seed)
{
    p->half = 0;
    p->up = false;
    cohorti_prng_init(&p->prng, seed);
    unit_memory_init(&p->wire);
    end_open(p, &p->a);
    end_open(p, &p->b);
}

static void link_down(struct pair *p)
{
    if (p->up) {
        cohorti_frame_reader_deinit(&p->to_b);
        cohorti_frame_reader_deinit(&p->to_a);
        cohorti_outbound_link_ended(&p->a.out);
        cohorti_outbound_link_ended(&p->b.out);
        p->up = false;
    }
}

static void pair_close(struct pair *p)
{
    link_down(p);
    end_close(&p->a);
    end_close(&p->b);
    unit_memory_assert_empty(&p->wire);
}

/* ---- messages ------------------------------------------------------------------------------------------------------ */

static void fill(uint8_t *body, size_t len, uint32_t number)
{
    struct cohorti_writer w;
    cohorti_writer_init(&w, body, HEAD_BYTES);
    cohorti_write_u32(&w, number);
    cohorti_write_u32(&w, (uint32_t)len);
    for (size_t i = HEAD_BYTES; i < len; i++) {
        body[i] = (uint8_t)(number * 31 + i);
    }
}

static bool is_as_sent(const uint8_t *body, size_t len, uint32_t number)
{
    for (size_t i = HEAD_BYTES; i < len; i++) {
        if (body[i] != (uint8_t)(number * 31 + i)) {
            return false;
        }
    }
    return true;
}

static int say_until(struct end *e, unsigned lane, const char *subject, size_t len, uint64_t deadline_ns)
{
    assert_true(len >= HEAD_BYTES && e->count < MESSAGES_MAX);
    uint8_t *body = malloc(len);
    assert_non_null(body);
    fill(body, len, e->count);
    const struct cohorti_put put = {
        .kind = COHORTI_KIND_MESSAGE, .lane = lane, .subject = subject, .body = body, .body_len = len, .deadline_ns = deadline_ns};
    uint64_t before = e->out.lanes[lane].log.appended;
    int status = cohorti_outbound_put(&e->out, &put);
    if (status == COHORT_OK) {
        e->sent[e->count++] = (struct message){.lane = lane, .len = len};
    } else if (status == COHORT_EAGAIN) {
        assert_true(e->out.lanes[lane].log.appended == before);
    }
    free(body);
    return status;
}

static int say(struct end *e, unsigned lane, const char *subject, size_t len)
{
    return say_until(e, lane, subject, len, 0);
}

static void deliver(struct end *from, struct end *to, const struct cohorti_delivery *d)
{
    struct cohorti_reader r;
    cohorti_reader_init(&r, d->body, d->body_len);
    uint32_t number = cohorti_read_u32(&r);
    uint32_t len = cohorti_read_u32(&r);
    assert_false(r.failed);
    assert_true(number < from->count && len == d->body_len);
    struct message *m = &from->sent[number];
    assert_int_equal(m->len, len);
    assert_int_equal(m->lane, d->lane);
    assert_true(is_as_sent(d->body, len, number));
    assert_int_equal(m->delivered, 0);
    assert_false(m->told_certainly_not);
    for (uint32_t i = to->next[d->lane]; i < number; i++) { /* all before it in its lane were delivered, or told */
        assert_true(from->sent[i].lane != d->lane || from->sent[i].delivered > 0 || from->sent[i].told > 0);
    }
    assert_true(number >= to->next[d->lane]);
    to->next[d->lane] = number + 1;
    m->delivered++;
}

static void hear_reports(struct end *e, struct cohorti_undelivered *lost)
{
    struct cohorti_lost one;
    while (cohorti_undelivered_next(lost, &e->out, &one)) {
        assert_int_equal(one.kind, COHORTI_KIND_MESSAGE);
        uint32_t number = 0;
        if (one.body != NULL) {
            struct cohorti_reader r;
            cohorti_reader_init(&r, one.body, one.body_len);
            number = cohorti_read_u32(&r);
            assert_true(number < e->count && is_as_sent(one.body, one.body_len, number));
        } else { /* its beginning was acknowledged: the oldest of its lane that is neither told nor acknowledged whole */
            while (number < e->count &&
                   (e->sent[number].lane != one.lane || e->sent[number].told > 0 || e->sent[number].len != one.body_len ||
                    (e->sent[number].delivered > 0) != one.maybe_handled)) {
                number++;
            }
            assert_true(number < e->count);
        }
        struct message *m = &e->sent[number];
        assert_int_equal(m->lane, one.lane);
        assert_int_equal(m->len, one.body_len);
        assert_int_equal(m->told, 0);
        assert_true(one.maybe_handled || m->delivered == 0);
        m->told++;
        m->told_certainly_not = !one.maybe_handled;
    }
    cohorti_undelivered_deinit(lost);
}

/* ---- the link ------------------------------------------------------------------------------------------------------ */

static void join(struct end *e, const struct cohorti_resume *resume)
{
    struct cohorti_undelivered lost;
    cohorti_undelivered_init(&lost);
    if (cohorti_inbound_resume(&e->in, resume->half)) {
        memset(e->next, 0, sizeof e->next);
    }
    assert_int_equal(cohorti_outbound_resume(&e->out, resume, &lost), COHORT_OK);
    hear_reports(e, &lost);
}

static void link_up(struct pair *p)
{
    struct cohorti_resume of_a, of_b;
    link_down(p);
    cohorti_frame_reader_init(&p->to_b, &p->wire.alloc, 1 << 20);
    cohorti_frame_reader_init(&p->to_a, &p->wire.alloc, 1 << 20);
    cohorti_inbound_marks(&p->a.in, p->a.out.half, &of_a);
    cohorti_inbound_marks(&p->b.in, p->b.out.half, &of_b);
    join(&p->a, &of_b);
    join(&p->b, &of_a);
    p->up = true;
}

/* Up to `len` bytes go across; what a segment holds arrives unless `lost`. Returns how many were written. */
static size_t transfer(struct pair *p, bool from_a, size_t len, bool arrives)
{
    struct end *from = from_a ? &p->a : &p->b, *to = from_a ? &p->b : &p->a;
    struct cohorti_frame_reader *reader = from_a ? &p->to_b : &p->to_a;
    struct cohorti_slice slices[8];
    size_t written = 0;
    for (size_t count; written < len && (count = cohorti_outbound_gather(&from->out, slices, 8, 1 << 16)) > 0;) {
        size_t taken = slices[0].len < len - written ? slices[0].len : len - written;
        struct unit_bytes piece = unit_bytes_copy(slices[0].bytes, taken);
        cohorti_outbound_hold(&from->out, slices, 1);
        cohorti_outbound_advance(&from->out, slices, 1, taken);
        written += taken;
        cohort_frame frame;
        struct cohorti_delivery d;
        const char *why = "";
        cohorti_frame_reader_feed(reader, piece.bytes, piece.len);
        while (arrives && cohorti_frame_reader_next(reader, &frame) == 1) {
            int status = cohorti_inbound_take(&to->in, &frame, &d, &why);
            if (status != COHORT_OK) {
                fail_msg("%s: %s", cohort_error_name(status), why);
            }
            if (d.chunk.first && d.kind == COHORTI_KIND_MESSAGE) {
                assert_int_equal(cohorti_inbound_collect(&to->in, &d), COHORT_OK);
            } else if (!d.nothing) {
                deliver(from, to, &d);
            }
            cohorti_inbound_commit(&to->in, &d, true);
        }
        unit_bytes_free(&piece);
    }
    return written;
}

static void acknowledge(struct pair *p, bool to_a)
{
    struct end *from = to_a ? &p->b : &p->a, *to = to_a ? &p->a : &p->b;
    struct cohorti_ack ack;
    if (cohorti_inbound_ack(&from->in, &ack)) {
        cohorti_inbound_told(&from->in, &ack);
        assert_int_equal(cohorti_outbound_ack(&to->out, &ack), COHORT_OK);
    }
}

static void finish(struct pair *p)
{
    link_up(p);
    for (int i = 0; i < 100; i++) {
        (void)transfer(p, true, SIZE_MAX, true);
        (void)transfer(p, false, SIZE_MAX, true);
        acknowledge(p, true);
        acknowledge(p, false);
    }
    assert_int_equal(cohorti_outbound_len(&p->a.out), 0);
    assert_int_equal(cohorti_outbound_len(&p->b.out), 0);
}

static void check_all_accounted(const struct end *e)
{
    for (uint32_t i = 0; i < e->count; i++) {
        if (e->sent[i].delivered == 0 && e->sent[i].told == 0) {
            fail_msg("message %u of lane %u was neither delivered nor told", i, e->sent[i].lane);
        }
    }
}

static void check_all_delivered(const struct end *e)
{
    for (uint32_t i = 0; i < e->count; i++) {
        assert_int_equal(e->sent[i].delivered, 1);
        assert_int_equal(e->sent[i].told, 0);
    }
}

/* ---- broken at every byte ------------------------------------------------------------------------------------------ */

static struct pair pair;

/* Names and messages in all lanes, both ways. */
static void script(struct pair *p)
{
    for (unsigned lane = 0; lane < COHORTI_LANE_COUNT; lane++) {
        assert_int_equal(say(&p->a, lane, "s", 8), COHORT_OK);
        assert_int_equal(say(&p->a, lane, "t", 30), COHORT_OK);
        assert_int_equal(say(&p->b, lane, "s", 9), COHORT_OK);
        assert_int_equal(say(&p->a, lane, "s", 11), COHORT_OK);
    }
}

static void broken_after(size_t at, bool from_a, bool acknowledged)
{
    pair_open(&pair, 1);
    script(&pair);
    link_up(&pair);
    (void)transfer(&pair, from_a, at, true);
    if (acknowledged) {
        acknowledge(&pair, from_a);
    }
    (void)transfer(&pair, from_a, 50, false); /* written, and lost with the link */
    finish(&pair);
    check_all_delivered(&pair.a);
    check_all_delivered(&pair.b);
    pair_close(&pair);
}

static void a_link_may_break_after_every_byte(void **state)
{
    for (int way = 0; way < 4; way++) {
        for (size_t at = 0; at < 700; at++) {
            broken_after(at, (way & 1) != 0, (way & 2) != 0);
        }
    }
}

/* Large messages: at and around every end of a chunk, and here and there between. */
static void a_link_may_break_inside_large_messages(void **state)
{
    for (unsigned lane = 0; lane < COHORTI_LANE_COUNT; lane++) {
        for (size_t at = 0; at < 300000; at += at % 65328 < 60 ? 1 : 3777) {
            pair_open(&pair, 1);
            assert_int_equal(say(&pair.a, lane, "large", 200000), COHORT_OK);
            assert_int_equal(say(&pair.a, lane, "large", 65553), COHORT_OK);
            assert_int_equal(say(&pair.a, (lane + 1) % 3, "small", 10), COHORT_OK);
            link_up(&pair);
            (void)transfer(&pair, true, at, true);
            if (at % 2 == 0) {
                acknowledge(&pair, true);
            }
            finish(&pair);
            check_all_delivered(&pair.a);
            pair_close(&pair);
        }
    }
}

/* ---- at random ----------------------------------------------------------------------------------------------------- */

static uint64_t below(struct pair *p, uint64_t bound)
{
    return cohorti_prng_below(&p->prng, bound);
}

/* The other process is replaced: what was accepted there is lost with it, and is not judged. */
static void restart(struct pair *p, struct end *e)
{
    link_down(p);
    end_close(e);
    end_open(p, e);
}

static void random_say(struct pair *p, struct end *e, uint64_t now_ns, bool expiring)
{
    static const char *const subjects[] = {"a", "b", "c", "d"};
    static const size_t edges[] = {65551, 65552, 65553, 131104, 131105, 300000};
    size_t len = below(p, 12) == 0 ? edges[below(p, UNIT_COUNT(edges))] : HEAD_BYTES + below(p, 400);
    if (e->count < MESSAGES_MAX) {
        uint64_t deadline_ns = expiring && below(p, 2) == 0 ? now_ns + 1 + below(p, 40) : 0;
        int status = say_until(e, (unsigned)below(p, 3), subjects[below(p, 4)], len, deadline_ns);
        assert_true(status == COHORT_OK || status == COHORT_EAGAIN);
    }
}

static void random_step(struct pair *p, uint64_t now_ns, bool restarts, bool expiring)
{
    struct end *e = below(p, 2) == 0 ? &p->a : &p->b;
    switch (below(p, 12)) {
    case 0:
    case 1:
    case 2:
    case 3:
        random_say(p, e, now_ns, expiring);
        break;
    case 4:
    case 5:
    case 6:
        if (p->up) {
            (void)transfer(p, e == &p->a, below(p, 4) == 0 ? 200000 : below(p, 2000), true);
        }
        break;
    case 7:
    case 8:
        if (p->up) {
            acknowledge(p, e == &p->a);
        }
        break;
    case 9:
        if (p->up) {
            (void)transfer(p, e == &p->a, below(p, 3000), false);
        }
        link_down(p);
        break;
    case 10:
        link_up(p);
        break;
    default:
        if (restarts && below(p, 4) == 0) {
            restart(p, &p->b);
        } else if (expiring) {
            struct cohorti_undelivered lost;
            cohorti_undelivered_init(&lost);
            cohorti_outbound_expire(&e->out, now_ns, &lost);
            hear_reports(e, &lost);
        }
        break;
    }
}

static void random_sessions(uint64_t seeds, bool restarts, bool expiring)
{
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        pair_open(&pair, seed);
        for (uint64_t step = 1; step < 120; step++) {
            random_step(&pair, step, restarts, expiring);
        }
        finish(&pair);
        check_all_accounted(&pair.a);
        check_all_accounted(&pair.b);
        if (!restarts && !expiring) {
            check_all_delivered(&pair.a);
            check_all_delivered(&pair.b);
        }
        pair_close(&pair);
    }
}

static void links_break_at_random(void **state)
{
    random_sessions(SEEDS, false, false);
}

static void processes_are_replaced_at_random(void **state)
{
    random_sessions(SEEDS, true, false);
}

static void messages_expire_at_random(void **state)
{
    random_sessions(SEEDS, false, true);
}

static void everything_at_random(void **state)
{
    random_sessions(SEEDS, true, true);
}

/* ---- a new reader -------------------------------------------------------------------------------------------------- */

static void what_was_written_is_told_and_the_rest_goes_on(void **state)
{
    pair_open(&pair, 1);
    link_up(&pair);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(say(&pair.a, 0, "s", 20), COHORT_OK);
    }
    (void)transfer(&pair, true, 33 + 2 * 36, true); /* SUBJECT and two of them; neither is acknowledged */
    link_down(&pair);
    assert_int_equal(say(&pair.a, 0, "s", 20), COHORT_OK);
    restart(&pair, &pair.b);
    finish(&pair);
    assert_int_equal(pair.a.sent[0].told + pair.a.sent[1].told, 2);
    assert_false(pair.a.sent[0].told_certainly_not);
    for (int i = 2; i < 5; i++) {
        assert_int_equal(pair.a.sent[i].told, 0);
        assert_int_equal(pair.a.sent[i].delivered, 1);
    }
    pair_close(&pair);
}

/* Who says goodbye has acknowledged all that it handled: the rest is as if never written. */
static void what_a_leaver_did_not_take_goes_to_the_next(void **state)
{
    pair_open(&pair, 1);
    link_up(&pair);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(say(&pair.a, 0, "s", 20), COHORT_OK);
    }
    (void)transfer(&pair, true, 33 + 36, true);
    acknowledge(&pair, true);
    (void)transfer(&pair, true, 2 * 36, false);
    cohorti_outbound_left(&pair.a.out);
    restart(&pair, &pair.b);
    finish(&pair);
    check_all_delivered(&pair.a);
    pair_close(&pair);
}

static void the_end_tells_everything(void **state)
{
    struct cohorti_undelivered lost;
    pair_open(&pair, 1);
    for (unsigned lane = 0; lane < COHORTI_LANE_COUNT; lane++) {
        assert_int_equal(say(&pair.a, lane, "s", 100000), COHORT_OK);
        assert_int_equal(say(&pair.a, lane, "t", 10), COHORT_OK);
    }
    cohorti_undelivered_init(&lost);
    cohorti_outbound_end(&pair.a.out, 99, &lost);
    hear_reports(&pair.a, &lost);
    for (uint32_t i = 0; i < pair.a.count; i++) {
        assert_int_equal(pair.a.sent[i].told, 1);
        assert_true(pair.a.sent[i].told_certainly_not);
    }
    assert_int_equal(say(&pair.a, 0, "s", 10), COHORT_OK); /* it goes on as another half */
    finish(&pair);
    assert_int_equal(pair.a.sent[6].delivered, 1);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_link_may_break_after_every_byte),
        cmocka_unit_test(a_link_may_break_inside_large_messages),
        cmocka_unit_test(links_break_at_random),
        cmocka_unit_test(processes_are_replaced_at_random),
        cmocka_unit_test(messages_expire_at_random),
        cmocka_unit_test(everything_at_random),
        cmocka_unit_test(what_was_written_is_told_and_the_rest_goes_on),
        cmocka_unit_test(what_a_leaver_did_not_take_goes_to_the_next),
        cmocka_unit_test(the_end_tells_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
