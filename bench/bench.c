/* SPDX-License-Identifier: Apache-2.0
 *
 * Command line, clock, message stamps, meters: see bench.h. Nothing here knows who carries the messages.
 */
#include "bench.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FLOOD_MARGIN_NS (150 * BENCH_NS_PER_MS) /* the receiver's window begins a little after ours */
#define STEPS_LOG2 8                            /* histogram: 256 steps per octave */
#define BUCKETS ((64 - STEPS_LOG2 + 1) << STEPS_LOG2)

static const char *program = "bench";
static const char *role_name = "?";

void bench_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    flockfile(stderr);
    fprintf(stderr, "%s %s: ", program, role_name);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    funlockfile(stderr);
    va_end(args);
    _exit(1);
}

uint64_t bench_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * BENCH_NS_PER_S + (uint64_t)ts.tv_nsec;
}

void bench_sleep_ns(uint64_t ns)
{
    struct timespec ts = {.tv_sec = (time_t)(ns / BENCH_NS_PER_S), .tv_nsec = (long)(ns % BENCH_NS_PER_S)};
    nanosleep(&ts, NULL);
}

static void say(const char *line)
{
    size_t len = strlen(line);
    if (write(STDOUT_FILENO, line, len) != (ssize_t)len) {
        bench_fail("cannot write to stdout");
    }
}

void bench_ready(void)
{
    say("ready\n");
}

/* Leaves threads and connections behind: nothing is measured any more. */
static void *exit_at_end_of_stdin(void *arg)
{
    char byte = 0;
    ssize_t n = 0;
    do {
        n = read(STDIN_FILENO, &byte, 1);
    } while (n > 0 || (n < 0 && errno == EINTR));
    _exit(0);
}

void *bench_alloc(size_t size)
{
    void *ptr = malloc(size);
    if (ptr == NULL) {
        bench_fail("out of memory");
    }
    memset(ptr, 0, size); /* touched, so that no page fault is left for the measurement */
    return ptr;
}

/* ---- command line -------------------------------------------------------------------------------------------------- */

static uint64_t number(const char *word, const char **end)
{
    char *stop = NULL;
    errno = 0;
    uint64_t value = strtoull(word, &stop, 10);
    if (stop == word || errno != 0) {
        bench_fail("not a number: %s", word);
    }
    *end = stop;
    return value;
}

static void parse_ports(struct bench_options *o, const char *list)
{
    const char *at = list;
    do {
        if (o->port_count == BENCH_PORTS_MAX) {
            bench_fail("more than %d ports", BENCH_PORTS_MAX);
        }
        o->ports[o->port_count++] = (uint16_t)number(at, &at);
    } while (*at++ == ',');
}

static void pin(uint64_t cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        bench_fail("cannot run on CPU %d: %s", (int)cpu, strerror(errno));
    }
}

static bool is_key(const char *word, size_t len, const char *key)
{
    return strlen(key) == len && memcmp(word, key, len) == 0;
}

static void parse_option(struct bench_options *o, const char *word)
{
    const char *value = strchr(word, '=');
    if (value == NULL) {
        bench_fail("not key=value: %s", word);
    }
    size_t len = (size_t)(value++ - word);
    if (is_key(word, len, "ports")) {
        parse_ports(o, value);
        return;
    }
    uint64_t n = number(value, &(const char *){NULL});
    if (is_key(word, len, "own")) {
        o->own_port = (uint16_t)n;
    } else if (is_key(word, len, "bytes")) {
        o->bytes = n;
    } else if (is_key(word, len, "warm_ms")) {
        o->warm_ns = n * BENCH_NS_PER_MS;
    } else if (is_key(word, len, "window_ms")) {
        o->window_ns = n * BENCH_NS_PER_MS;
    } else if (is_key(word, len, "threads")) {
        o->threads = (uint32_t)n;
    } else if (is_key(word, len, "peers")) {
        o->peers = (uint32_t)n;
    } else if (is_key(word, len, "cpu")) {
        pin(n);
    } else {
        bench_fail("unknown option: %s", word);
    }
}

void bench_main(int argc, char **argv, const struct bench_role *roles)
{
    static struct bench_options options = {.bytes = 64, .warm_ns = 100 * BENCH_NS_PER_MS, .window_ns = BENCH_NS_PER_S, .threads = 1};
    const struct bench_role *role = roles;
    program = strrchr(argv[0], '/') != NULL ? strrchr(argv[0], '/') + 1 : argv[0];
    role_name = argc > 1 ? argv[1] : "";
    while (role->name != NULL && strcmp(role->name, role_name) != 0) {
        role++;
    }
    if (role->name == NULL) {
        bench_fail("no such role; bench/run.py knows how to call us");
    }
    for (int i = 2; i < argc; i++) {
        parse_option(&options, argv[i]);
    }
    if (options.bytes < BENCH_MESSAGE_BYTES_MIN || options.threads < 1 || options.threads > BENCH_STREAMS_MAX ||
        options.port_count == 0) {
        bench_fail("bytes, threads or ports out of range");
    }
    signal(SIGPIPE, SIG_IGN);
    pthread_t watcher;
    if (pthread_create(&watcher, NULL, exit_at_end_of_stdin, NULL) != 0) {
        bench_fail("cannot start a thread");
    }
    role->run(&options);
    for (;;) {
        pause();
    }
}

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

void bench_flood(const struct bench_options *options, uint32_t stream, bench_send_fn send, void *ctx)
{
    uint64_t mask = options->bytes <= 1024 ? 63 : 0;
    uint64_t until_ns = bench_now_ns() + options->warm_ns + options->window_ns + FLOOD_MARGIN_NS;
    struct bench_stamp stamp = {.stream = stream};
    while ((stamp.seq & mask) != 0 || bench_now_ns() < until_ns) {
        send(ctx, stamp);
        stamp.seq++;
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
    m->options = options;
    m->clock_mask = options->bytes <= 1024 ? 63 : 0;
}

static void look_at_clock(struct bench_meter *m)
{
    uint64_t now_ns = bench_now_ns();
    if (m->first_ns == 0) {
        m->first_ns = now_ns;
    }
    if (m->begin_ns == 0 && now_ns >= m->first_ns + m->options->warm_ns) {
        m->begin_ns = now_ns;
        m->begin_count = m->count;
    } else if (m->begin_ns != 0 && m->end_ns == 0 && now_ns >= m->begin_ns + m->options->window_ns) {
        m->end_ns = now_ns;
        m->end_count = m->count;
    }
}

/* On a busy machine the stream may end before the window, when we were let run too late. Most of a window will do. */
static void end_early(struct bench_meter *m)
{
    uint64_t now_ns = bench_now_ns();
    if (m->end_ns == 0 && m->begin_ns != 0 && now_ns - m->begin_ns >= m->options->window_ns / 4 * 3) {
        m->end_ns = now_ns;
        m->end_count = m->count;
    }
}

bool bench_meter_take(struct bench_meter *m, const void *data, size_t len)
{
    struct bench_stamp stamp = bench_stamp_read(data, len, m->options->bytes);
    if (stamp.stream >= m->options->threads) {
        bench_fail("a message of stream %u", stamp.stream);
    }
    if (stamp.seq != m->expected[stamp.stream]) {
        bench_fail("stream %u: message %llu where %llu was due: lost, repeated or reordered", stamp.stream,
                   (unsigned long long)stamp.seq, (unsigned long long)m->expected[stamp.stream]);
    }
    m->expected[stamp.stream]++;
    if ((m->count++ & m->clock_mask) == 0) {
        look_at_clock(m);
    }
    m->streams_ended += stamp.last;
    if (m->streams_ended < m->options->threads) {
        return false;
    }
    end_early(m);
    return true;
}

void bench_meter_report(const struct bench_meter *m)
{
    char line[128];
    if (m->end_ns == 0) {
        bench_fail("the stream ended before the window: %llu messages", (unsigned long long)m->count);
    }
    double seconds = (double)(m->end_ns - m->begin_ns) / 1e9;
    snprintf(line, sizeof line, "result %.1f\n", (double)(m->end_count - m->begin_count) / seconds);
    say(line);
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
    if (stamp.seq != p->stamp.seq) {
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

void bench_pinger_report(const struct bench_pinger *p)
{
    char line[160];
    if (p->count == 0) {
        bench_fail("no answer within the window");
    }
    snprintf(line, sizeof line, "result %.3f p99=%.3f mean=%.3f\n", percentile_us(p, 500), percentile_us(p, 990),
             (double)p->sum_ns / (double)p->count / 1000);
    say(line);
}

/* ---- memory -------------------------------------------------------------------------------------------------------- */

uint64_t bench_anonymous_bytes(void)
{
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    char line[256];
    unsigned long long kib = 0;
    bool found = false;
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL) {
        found = sscanf(line, "Anonymous: %llu kB", &kib) == 1;
    }
    if (!found) {
        bench_fail("/proc/self/smaps_rollup does not tell anonymous memory");
    }
    fclose(file);
    return kib * 1024;
}

void bench_memory_report(uint64_t before_bytes, uint32_t peers)
{
    char line[160];
    uint64_t after_bytes = bench_anonymous_bytes();
    snprintf(line, sizeof line, "result %.0f before=%llu after=%llu\n",
             after_bytes > before_bytes ? (double)(after_bytes - before_bytes) / peers : 0.0, (unsigned long long)before_bytes,
             (unsigned long long)after_bytes);
    say(line);
}
