/* SPDX-License-Identifier: Apache-2.0
 *
 * Command line, clock, memory: see bench.h. Nothing here knows who carries the messages.
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

static const char *program = "bench";
static const char *role_name = "?";

uint64_t (*bench_allocations)(void) = NULL;

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

void bench_say(const char *line)
{
    size_t len = strlen(line);
    if (write(STDOUT_FILENO, line, len) != (ssize_t)len) {
        bench_fail("cannot write to stdout");
    }
}

void bench_ready(void)
{
    bench_say("ready\n");
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

static void parse_host(char *out, const char *value)
{
    if (strlen(value) > BENCH_HOST_BYTES_MAX) {
        bench_fail("not an address: %s", value);
    }
    snprintf(out, BENCH_HOST_BYTES_MAX + 1, "%s", value);
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
    if (is_key(word, len, "host")) {
        parse_host(o->host, value);
        return;
    }
    if (is_key(word, len, "own_host")) {
        parse_host(o->own_host, value);
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
    } else if (is_key(word, len, "depth")) {
        o->depth = (uint32_t)n;
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
    static struct bench_options options = {.bytes = 64,
                                           .warm_ns = 100 * BENCH_NS_PER_MS,
                                           .window_ns = BENCH_NS_PER_S,
                                           .threads = 1,
                                           .depth = 1,
                                           .host = "127.0.0.1",
                                           .own_host = "127.0.0.1"};
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
        options.depth < 1 || options.depth > BENCH_DEPTH_MAX || options.port_count == 0) {
        bench_fail("bytes, threads, depth or ports out of range");
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

static uint64_t cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * BENCH_NS_PER_S + (uint64_t)ts.tv_nsec;
}

void bench_memory_report(uint64_t before_bytes, uint32_t peers)
{
    char line[160];
    uint64_t after_bytes = bench_anonymous_bytes(), used_ns = cpu_ns();
    bench_sleep_ns(BENCH_IDLE_NS);
    used_ns = cpu_ns() - used_ns;
    snprintf(line, sizeof line, "result %.0f before=%llu after=%llu idle_cpu_ms=%.3f\n",
             after_bytes > before_bytes ? (double)(after_bytes - before_bytes) / peers : 0.0, (unsigned long long)before_bytes,
             (unsigned long long)after_bytes, (double)used_ns / 1e6);
    bench_say(line);
}

/* ---- messages that are lent ---------------------------------------------------------------------------------------- */

void bench_pool_init(struct bench_pool *pool, size_t message_bytes)
{
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->given_back, NULL);
    for (size_t i = 0; i < 2 || i < BENCH_POOL_BYTES / message_bytes; i++) {
        struct bench_lent *lent = bench_alloc(sizeof *lent);
        *lent = (struct bench_lent){.next = pool->free, .pool = pool, .bytes = bench_alloc(message_bytes)};
        pool->free = lent;
    }
}

struct bench_lent *bench_pool_take(struct bench_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (pool->free == NULL) {
        pthread_cond_wait(&pool->given_back, &pool->lock);
    }
    struct bench_lent *lent = pool->free;
    pool->free = lent->next;
    pthread_mutex_unlock(&pool->lock);
    return lent;
}

void bench_pool_give_back(void *arg)
{
    struct bench_lent *lent = arg;
    struct bench_pool *pool = lent->pool;
    pthread_mutex_lock(&pool->lock);
    bool was_empty = pool->free == NULL;
    lent->next = pool->free;
    pool->free = lent;
    pthread_mutex_unlock(&pool->lock);
    if (was_empty) {
        pthread_cond_signal(&pool->given_back);
    }
}
