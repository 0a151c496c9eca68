/* SPDX-License-Identifier: Apache-2.0
 *
 * Message stamps and what is measured with them: see bench.h. Nothing here knows who carries the messages.
 */
#include "bench.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define FLOOD_MARGIN_NS (150 * BENCH_NS_PER_MS) /* the receiver's window begins a little after ours */
#define STEPS_LOG2 8                            /* histogram: 256 steps per octave */
#define BUCKETS ((64 - STEPS_LOG2 + 1) << STEPS_LOG2)

/* ---- messages ------------------------------------------------------------------------------------------------------ */

void bench_stamp_write(void *message, size_t len, struct bench_stamp stamp)
{
    memcpy(message, &stamp, sizeof stamp);
    ((uint8_t *)message)[len - 1] = (uint8_t)stamp.seq;
}

struct bench_stamp bench_stamp_read(const void *message, size_t len, size_t expected_len)
{
    struct bench_stamp stamp;
    if (len != expected_len) {
        bench_fail("a message of %zu bytes, not %zu", len, expected_len);
    }
    memcpy(&stamp, message, sizeof stamp);
    if (((const uint8_t *)message)[len - 1] != (uint8_t)stamp.seq) {
        bench_fail("message %llu is damaged", (unsigned long long)stamp.seq);
    }
    return stamp;
}

/* ---- one way ------------------------------------------------------------------------------------------------------- */

static uint64_t allocations(void)
{
    return bench_allocations == NULL ? 0 : bench_allocations();
}

static void window_init(struct bench_window *w, const struct bench_options *options)
{
    *w = (struct bench_window){.options = options, .clock_mask = options->bytes <= 1024 ? 63 : 0};
}

static void look_at_clock(struct bench_window *w)
{
    uint64_t now_ns = bench_now_ns();
    if (w->first_ns == 0) {
        w->first_ns = now_ns;
    }
    if (w->begin_ns == 0 && now_ns >= w->first_ns + w->options->warm_ns) {
        w->begin_ns = now_ns;
        w->begin_count = w->count;
        w->begin_allocations = allocations();
    } else if (w->begin_ns != 0 && w->end_ns == 0 && now_ns >= w->begin_ns + w->options->window_ns) {
        w->end_ns = now_ns;
        w->end_count = w->count;
        w->end_allocations = allocations();
    }
}

static inline void window_count(struct bench_window *w)
{
    if ((w->count++ & w->clock_mask) == 0) {
        look_at_clock(w);
    }
}

/* On a busy machine the stream may end before the window, when we were let run too late. Most of a window will do. */
static void end_early(struct bench_window *w)
{
    uint64_t now_ns = bench_now_ns();
    if (w->end_ns == 0 && w->begin_ns != 0 && now_ns - w->begin_ns >= w->options->window_ns / 4 * 3) {
        w->end_ns = now_ns;
        w->end_count = w->count;
        w->end_allocations = allocations();
    }
}

static double allocations_each(const struct bench_window *w)
{
    uint64_t count = w->end_count - w->begin_count;
    return count == 0 ? 0 : (double)(w->end_allocations - w->begin_allocations) / (double)count;
}

static void window_report(const struct bench_window *w)
{
    char line[160], more[64] = "";
    if (w->end_ns == 0) {
        bench_fail("the stream ended before the window: %llu messages", (unsigned long long)w->count);
    }
    if (bench_allocations != NULL) {
        snprintf(more, sizeof more, " allocations_each=%.6f", allocations_each(w));
    }
    double seconds = (double)(w->end_ns - w->begin_ns) / 1e9;
    snprintf(line, sizeof line, "result %.1f%s\n", (double)(w->end_count - w->begin_count) / seconds, more);
    bench_say(line);
}

/* What the end that does not measure has to add. */
static void say_allocations(const struct bench_window *w)
{
    char line[64];
    if (bench_allocations != NULL && w->end_ns != 0) {
        snprintf(line, sizeof line, "also other_allocations_each=%.6f\n", allocations_each(w));
        bench_say(line);
    }
}

void bench_flood(const struct bench_options *options, uint32_t stream, bench_send_fn send, void *ctx)
{
    struct bench_window window;
    window_init(&window, options);
    uint64_t until_ns = bench_now_ns() + options->warm_ns + options->window_ns + FLOOD_MARGIN_NS;
    struct bench_stamp stamp = {.stream = stream};
    while ((stamp.seq & window.clock_mask) != 0 || bench_now_ns() < until_ns) {
        send(ctx, stamp);
        stamp.seq++;
        window_count(&window);
    }
    end_early(&window);
    if (options->threads == 1) {
        say_allocations(&window); /* before the last message, with which the other end may end us */
    }
    stamp.last = 1;
    send(ctx, stamp);
}

struct flood_thread {
    pthread_t thread;
    const struct bench_options *options;
    uint32_t stream;
    bench_send_fn send;
    void *ctx;
};

static void *flood_main(void *arg)
{
    struct flood_thread *t = arg;
    bench_flood(t->options, t->stream, t->send, t->ctx);
    return NULL;
}

void bench_flood_threads(const struct bench_options *options, bench_send_fn send, void *const *ctxs)
{
    struct flood_thread threads[BENCH_STREAMS_MAX];
    for (uint32_t i = 0; i < options->threads; i++) {
        threads[i] = (struct flood_thread){.options = options, .stream = i, .send = send, .ctx = ctxs[i]};
        if (pthread_create(&threads[i].thread, NULL, flood_main, &threads[i]) != 0) {
            bench_fail("cannot start a thread");
        }
    }
    for (uint32_t i = 0; i < options->threads; i++) {
        pthread_join(threads[i].thread, NULL);
    }
}

void bench_meter_init(struct bench_meter *m, const struct bench_options *options)
{
    memset(m, 0, sizeof *m);
    window_init(&m->window, options);
}

bool bench_meter_take(struct bench_meter *m, const void *data, size_t len)
{
    const struct bench_options *options = m->window.options;
    struct bench_stamp stamp = bench_stamp_read(data, len, options->bytes);
    if (stamp.stream >= options->threads) {
        bench_fail("a message of stream %u", stamp.stream);
    }
    if (stamp.seq != m->expected[stamp.stream]) {
        bench_fail("stream %u: message %llu where %llu was due: lost, repeated or reordered", stamp.stream,
                   (unsigned long long)stamp.seq, (unsigned long long)m->expected[stamp.stream]);
    }
    m->expected[stamp.stream]++;
    window_count(&m->window);
    m->streams_ended += stamp.last;
    if (m->streams_ended < options->threads) {
        return false;
    }
    end_early(&m->window);
    return true;
}

void bench_meter_report(const struct bench_meter *m)
{
    window_report(&m->window);
}

/* ---- round trips --------------------------------------------------------------------------------------------------- */

void bench_pinger_init(struct bench_pinger *p, const struct bench_options *options)
{
    memset(p, 0, sizeof *p);
    p->options = options;
    p->buckets = bench_alloc(BUCKETS * sizeof *p->buckets);
}

struct bench_stamp bench_pinger_next(struct bench_pinger *p)
{
    p->sent_ns = bench_now_ns();
    if (p->first_ns == 0) {
        p->first_ns = p->sent_ns;
    }
    return p->stamp;
}

/* Below 512 ns each has a bucket of its own; above, the highest 9 bits name the bucket. */
static size_t bucket_of(uint64_t ns)
{
    unsigned shift = ns < (2U << STEPS_LOG2) ? 0 : 63U - STEPS_LOG2 - (unsigned)__builtin_clzll(ns);
    return ((size_t)shift << STEPS_LOG2) + (size_t)(ns >> shift);
}

static double bucket_us(size_t bucket)
{
    size_t shift = bucket < (2U << STEPS_LOG2) ? 0 : (bucket >> STEPS_LOG2) - 1;
    uint64_t low = (uint64_t)(bucket - (shift << STEPS_LOG2)) << shift;
    return ((double)low + (double)((UINT64_C(1) << shift) - 1) / 2) / 1000;
}

bool bench_pinger_take(struct bench_pinger *p, const void *data, size_t len)
{
    uint64_t now_ns = bench_now_ns();
    struct bench_stamp stamp = bench_stamp_read(data, len, p->options->bytes);
    if (stamp.seq != p->stamp.seq || stamp.stream != p->stamp.stream) {
        bench_fail("answer %llu where %llu was due", (unsigned long long)stamp.seq, (unsigned long long)p->stamp.seq);
    }
    p->stamp.seq++;
    if (now_ns >= p->first_ns + p->options->warm_ns) {
        p->buckets[bucket_of(now_ns - p->sent_ns)]++;
        p->sum_ns += now_ns - p->sent_ns;
        p->count++;
    }
    return now_ns >= p->first_ns + p->options->warm_ns + p->options->window_ns;
}

static double percentile_us(const struct bench_pinger *p, uint64_t per_mille)
{
    uint64_t rank = p->count * per_mille / 1000, seen = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        seen += p->buckets[i];
        if (seen > rank) {
            return bucket_us(i);
        }
    }
    return 0;
}

/* The same of moments instead of round trips: one that took long was under way at more of them. */
static double percentile_of_time_us(const struct bench_pinger *p, uint64_t per_mille)
{
    double all_us = 0, seen_us = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        all_us += p->buckets[i] * bucket_us(i);
    }
    for (size_t i = 0; i < BUCKETS; i++) {
        seen_us += p->buckets[i] * bucket_us(i);
        if (seen_us * 1000 > all_us * (double)per_mille) {
            return bucket_us(i);
        }
    }
    return 0;
}

void bench_pinger_report(const struct bench_pinger *p)
{
    char line[160];
    if (p->count == 0) {
        bench_fail("no answer within the window");
    }
    snprintf(line, sizeof line, "result %.3f p99=%.3f mean=%.3f\n", percentile_us(p, 500), percentile_us(p, 990),
             (double)p->sum_ns / (double)p->count / 1000);
    bench_say(line);
}

/* ---- requests ------------------------------------------------------------------------------------------------------ */

void bench_caller_init(struct bench_caller *c, const struct bench_options *options)
{
    memset(c, 0, sizeof *c);
    window_init(&c->window, options);
}

struct bench_stamp bench_caller_next(const struct bench_caller *c, uint32_t slot)
{
    uint64_t seq = c->seq[slot];
    /* The first ones may be sent by another thread than the one that takes replies: they do not look at the window. */
    return (struct bench_stamp){.seq = seq, .stream = slot, .last = seq > 0 && c->window.end_ns != 0};
}

enum bench_then bench_caller_take(struct bench_caller *c, const void *data, size_t len, uint32_t *slot)
{
    const struct bench_options *options = c->window.options;
    struct bench_stamp stamp = bench_stamp_read(data, len, options->bytes);
    if (stamp.stream >= options->depth || stamp.seq != c->seq[stamp.stream]) {
        bench_fail("slot %u: reply %llu where %llu was due", stamp.stream, (unsigned long long)stamp.seq,
                   (unsigned long long)(stamp.stream < options->depth ? c->seq[stamp.stream] : 0));
    }
    c->seq[stamp.stream]++;
    *slot = stamp.stream;
    window_count(&c->window);
    if (!stamp.last) {
        return BENCH_SEND;
    }
    return ++c->slots_ended < options->depth ? BENCH_REST : BENCH_END;
}

void bench_caller_report(const struct bench_caller *c)
{
    window_report(&c->window);
}

void bench_replier_init(struct bench_replier *r, const struct bench_options *options)
{
    memset(r, 0, sizeof *r);
    window_init(&r->window, options);
}

struct bench_stamp bench_replier_take(struct bench_replier *r, const void *data, size_t len)
{
    struct bench_stamp stamp = bench_stamp_read(data, len, r->window.options->bytes);
    if (stamp.stream >= BENCH_DEPTH_MAX || stamp.seq != r->expected[stamp.stream]) {
        bench_fail("slot %u: request %llu is not due: lost, repeated or reordered", stamp.stream, (unsigned long long)stamp.seq);
    }
    r->expected[stamp.stream]++;
    window_count(&r->window);
    if (stamp.last && !r->said) {
        r->said = true;
        end_early(&r->window);
        say_allocations(&r->window);
    }
    return stamp;
}

/* ---- round trips beside a stream ------------------------------------------------------------------------------------ */

enum {
    ALONE,
    BESIDE,
    REST
};

void bench_beside_init(struct bench_beside *b, const struct bench_options *options, bench_send_fn send, void *ctx)
{
    memset(b, 0, sizeof *b);
    b->send = send;
    b->send_ctx = ctx;
    for (uint32_t i = ALONE; i <= REST; i++) {
        bench_pinger_init(&b->pingers[i], options);
        b->pingers[i].stamp.stream = i;
    }
}

static void *stream_main(void *arg)
{
    struct bench_beside *b = arg;
    struct bench_stamp stamp = {0};
    while (stamp.last == 0) {
        stamp.last = atomic_load(&b->stop);
        b->send(b->send_ctx, stamp);
        stamp.seq++;
    }
    atomic_store(&b->total, (uint32_t)stamp.seq);
    return NULL;
}

struct bench_stamp bench_beside_next(struct bench_beside *b)
{
    return bench_pinger_next(&b->pingers[b->phase]);
}

bool bench_beside_take(struct bench_beside *b, const void *data, size_t len)
{
    struct bench_pinger *p = &b->pingers[b->phase];
    uint32_t taken = bench_stamp_read(data, len, p->options->bytes).last;
    bool over = bench_pinger_take(p, data, len);
    if (b->phase == BESIDE && p->count > 0) {
        b->end_ns = bench_now_ns();
        b->end_taken = taken;
    }
    if (b->phase == BESIDE && p->count == 1) {
        b->begin_ns = b->end_ns;
        b->begin_taken = taken;
    }
    if (b->phase == ALONE && over) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, stream_main, b) != 0) {
            bench_fail("cannot start a thread");
        }
        pthread_detach(thread);
        b->phase = BESIDE;
    } else if (b->phase == BESIDE && over) {
        atomic_store(&b->stop, true);
        b->phase = REST;
    }
    uint32_t total = atomic_load(&b->total);
    return b->phase == REST && total > 0 && taken == total;
}

void bench_beside_report(const struct bench_beside *b)
{
    char line[256];
    const struct bench_pinger *alone = &b->pingers[ALONE], *beside = &b->pingers[BESIDE];
    if (alone->count == 0 || beside->count == 0 || b->end_taken == b->begin_taken) {
        bench_fail("%llu round trips alone, %llu beside %u messages: nothing to tell", (unsigned long long)alone->count,
                   (unsigned long long)beside->count, b->end_taken - b->begin_taken);
    }
    double idle_us = percentile_us(alone, 500), us = percentile_us(beside, 500);
    double mib = (double)(b->end_taken - b->begin_taken) * (double)BENCH_BULK_BYTES / (1024 * 1024);
    int len = snprintf(line, sizeof line, "result %.3f p99=%.3f any_moment_us=%.3f ", us, percentile_us(beside, 990),
                       percentile_of_time_us(beside, 500));
    snprintf(line + len, sizeof line - (size_t)len, "idle_us=%.3f times_idle=%.3f stream_mib_s=%.1f round_trips=%llu\n", idle_us,
             us / idle_us, mib / ((double)(b->end_ns - b->begin_ns) / 1e9), (unsigned long long)beside->count);
    bench_say(line);
}

void bench_sink_init(struct bench_sink *s, const struct bench_options *options)
{
    memset(s, 0, sizeof *s);
    s->ping_bytes = options->bytes;
    s->bulk = *options;
    s->bulk.bytes = BENCH_BULK_BYTES;
    bench_meter_init(&s->meter, &s->bulk);
}

void bench_sink_take(struct bench_sink *s, const void *data, size_t len)
{
    (void)bench_meter_take(&s->meter, data, len);
    atomic_fetch_add(&s->taken, 1);
}

struct bench_stamp bench_sink_answer(const struct bench_sink *s, const void *data, size_t len)
{
    struct bench_stamp stamp = bench_stamp_read(data, len, s->ping_bytes);
    stamp.last = atomic_load(&s->taken);
    return stamp;
}
