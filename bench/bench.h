/* SPDX-License-Identifier: Apache-2.0
 *
 * What the benchmark programs share, so that cohort and the peers to beat are measured by the same code.
 *
 * There is one program per implementation (cohort, raw, zmq, nng), and each plays several roles; bench/run.py starts two or
 * more of them for a row. The end that measures prints "result ..."; every program stays until its standard input ends, so that
 * nobody closes a connection under the other. Whatever goes wrong ends the program with a line on stderr and exit status 1.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_PORTS_MAX 128
#define BENCH_HOST_BYTES_MAX 63
#define BENCH_STREAMS_MAX 8
#define BENCH_DEPTH_MAX 1024
#define BENCH_BULK_BYTES ((size_t)1024 * 1024)
#define BENCH_MESSAGE_BYTES_MIN 17
#define BENCH_NS_PER_S UINT64_C(1000000000)
#define BENCH_NS_PER_MS UINT64_C(1000000)
#define BENCH_IDLE_NS (3 * BENCH_NS_PER_S)

/* key=value words of the command line. */
struct bench_options {
    uint16_t ports[BENCH_PORTS_MAX]; /* ports=1,2,3: where the receivers listen (a receiver is given its own only) */
    size_t port_count;
    uint16_t own_port; /* own=: one more, the same for all: where a sending cohort node listens; a second one of others that need two */
    char host[BENCH_HOST_BYTES_MAX + 1];     /* host=: address of the receivers */
    char own_host[BENCH_HOST_BYTES_MAX + 1]; /* own_host=: of the sender */
    size_t bytes;                            /* bytes=: of data in a message */
    uint64_t warm_ns;                        /* warm_ms=: from the first message to the begin of the window */
    uint64_t window_ns;                      /* window_ms= */
    uint32_t threads;                        /* threads=: that send */
    uint32_t depth;                          /* depth=: requests outstanding at any time */
    uint32_t peers;                          /* peers=: of the idle row */
};

struct bench_role {
    const char *name;
    void (*run)(const struct bench_options *options);
};

/* Parse the command line, pin the process to cpu= (all its threads inherit it) and run the role. The process exits when its
 * standard input ends, whatever it is doing; a role may return before. */
void bench_main(int argc, char **argv, const struct bench_role *roles) __attribute__((noreturn));

void bench_fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
uint64_t bench_now_ns(void);
void bench_sleep_ns(uint64_t ns);

/* A line for the driver. */
void bench_say(const char *line);
/* Say to the driver that the other end may be started. */
void bench_ready(void);

void *bench_alloc(size_t size);

/* ---- messages that are lent to a library --------------------------------------------------------------------------- */

#define BENCH_LENT_BYTES_MIN ((size_t)64 * 1024)
#define BENCH_POOL_BYTES ((size_t)4 * 1024 * 1024) /* enough to go on with while a receiver gathers acknowledgements up to 1 MiB */

struct bench_pool {
    pthread_mutex_t lock;
    pthread_cond_t given_back;
    struct bench_lent *free;
};

struct bench_lent {
    struct bench_lent *next;
    struct bench_pool *pool;
    uint8_t *bytes;
};

void bench_pool_init(struct bench_pool *pool, size_t message_bytes);
/* The one given back last; waits while there is none. */
struct bench_lent *bench_pool_take(struct bench_pool *pool);
/* Any thread. */
void bench_pool_give_back(void *lent);

/* How often this process has allocated memory so far. NULL where nobody counts: counting would slow down who allocates much. */
extern uint64_t (*bench_allocations)(void);

/* ---- messages ------------------------------------------------------------------------------------------------------ */

/* The first 16 bytes of every message; its last byte is the low byte of `seq` again. */
struct bench_stamp {
    uint64_t seq;
    uint32_t stream; /* one per sending thread */
    uint32_t last;   /* 1: the stream ends here */
};

void bench_stamp_write(void *message, size_t len, struct bench_stamp stamp);
/* Fails unless the message is as bench_stamp_write() made it. */
struct bench_stamp bench_stamp_read(const void *message, size_t len, size_t expected_len);

/* ---- one way ------------------------------------------------------------------------------------------------------- */

/* Send one message; fill it with bench_stamp_write(). Waits while there is no room. */
typedef void (*bench_send_fn)(void *ctx, struct bench_stamp stamp);

/* Send one stream as fast as it goes until warm-up, window and a margin are over, then its last message. */
void bench_flood(const struct bench_options *options, uint32_t stream, bench_send_fn send, void *ctx);

/* The same from options->threads threads at once, with ctxs[i] for stream i. Returns when all have ended. */
void bench_flood_threads(const struct bench_options *options, bench_send_fn send, void *const *ctxs);

/* What happened between the end of the warm-up and the end of the window. */
struct bench_window {
    const struct bench_options *options;
    uint64_t count, clock_mask; /* the clock is read when (count & clock_mask) == 0 */
    uint64_t first_ns, begin_ns, begin_count, begin_allocations, end_ns, end_count, end_allocations;
};

/* Counts what arrives and checks that nothing is lost, repeated, reordered or damaged. */
struct bench_meter {
    struct bench_window window;
    uint64_t expected[BENCH_STREAMS_MAX];
    uint32_t streams_ended;
};

void bench_meter_init(struct bench_meter *m, const struct bench_options *options);
/* True when the last stream has ended: then bench_meter_report(). */
bool bench_meter_take(struct bench_meter *m, const void *data, size_t len);
/* Print messages per second of the window. */
void bench_meter_report(const struct bench_meter *m);

/* ---- round trips --------------------------------------------------------------------------------------------------- */

/* One message to and fro, the next when it is back. Times go into a histogram with steps of 0.4 % or less. */
struct bench_pinger {
    const struct bench_options *options;
    struct bench_stamp stamp;
    uint64_t first_ns, sent_ns, count, sum_ns;
    uint32_t *buckets;
};

void bench_pinger_init(struct bench_pinger *p, const struct bench_options *options);
/* The next message to send; starts its time. */
struct bench_stamp bench_pinger_next(struct bench_pinger *p);
/* An answer came: check it, count it. True when the window is over: then bench_pinger_report(). */
bool bench_pinger_take(struct bench_pinger *p, const void *data, size_t len);
/* Print the median round trip in microseconds. */
void bench_pinger_report(const struct bench_pinger *p);

/* ---- requests ------------------------------------------------------------------------------------------------------ */

/* The end that asks: options->depth requests are under way at any time, one in each slot. Not locked. */
struct bench_caller {
    struct bench_window window;
    uint64_t seq[BENCH_DEPTH_MAX]; /* of the request under way in each slot */
    uint32_t slots_ended;
};

enum bench_then {
    BENCH_SEND, /* the next request of this slot */
    BENCH_REST, /* nothing: this slot has ended */
    BENCH_END,  /* all have: bench_caller_report() */
};

void bench_caller_init(struct bench_caller *c, const struct bench_options *options);
/* The next request of a slot, all of them at first; the slot is the stamp's stream. */
struct bench_stamp bench_caller_next(const struct bench_caller *c, uint32_t slot);
/* A reply came: check that its slot waits for it, count it. */
enum bench_then bench_caller_take(struct bench_caller *c, const void *data, size_t len, uint32_t *slot);
/* Print requests per second of the window. */
void bench_caller_report(const struct bench_caller *c);

/* The end that replies, with what it was sent. Not locked. */
struct bench_replier {
    struct bench_window window;
    uint64_t expected[BENCH_DEPTH_MAX];
    bool said;
};

void bench_replier_init(struct bench_replier *r, const struct bench_options *options);
/* Check a request: the next of its slot, once. */
struct bench_stamp bench_replier_take(struct bench_replier *r, const void *data, size_t len);

/* ---- round trips beside a stream ------------------------------------------------------------------------------------ */

/* Pings, first alone, then while a thread sends messages of BENCH_BULK_BYTES to the same peer as fast as it is let. Answers
 * tell how many of them have arrived; it is over when all have. */
struct bench_beside {
    struct bench_pinger pingers[3]; /* idle, beside the stream, and until the rest of it has arrived */
    unsigned phase;
    bench_send_fn send;
    void *send_ctx;
    uint64_t begin_ns, end_ns;
    uint32_t begin_taken, end_taken; /* messages of the stream, at begin_ns and end_ns */
    atomic_bool stop;
    _Atomic uint32_t total; /* messages sent; 0 until the last was */
};

/* `send` is called on a thread of its own, which starts when it is time. */
void bench_beside_init(struct bench_beside *b, const struct bench_options *options, bench_send_fn send, void *ctx);
struct bench_stamp bench_beside_next(struct bench_beside *b);
/* An answer came. True when all is over: then bench_beside_report(). */
bool bench_beside_take(struct bench_beside *b, const void *data, size_t len);
/* Print the median beside the stream, and the idle one, their ratio, and what the stream carried meanwhile. */
void bench_beside_report(const struct bench_beside *b);

/* The other end. The stream and the pings may come on two threads. */
struct bench_sink {
    struct bench_options bulk;
    struct bench_meter meter;
    _Atomic uint32_t taken;
    size_t ping_bytes;
};

void bench_sink_init(struct bench_sink *s, const struct bench_options *options);
void bench_sink_take(struct bench_sink *s, const void *data, size_t len);
/* What to answer to a ping. */
struct bench_stamp bench_sink_answer(const struct bench_sink *s, const void *data, size_t len);

/* ---- memory -------------------------------------------------------------------------------------------------------- */

/* Anonymous resident bytes of this process. */
uint64_t bench_anonymous_bytes(void);
/* Print how much each of `peers` added to `before_bytes`, and after BENCH_IDLE_NS the CPU time this process used in them. */
void bench_memory_report(uint64_t before_bytes, uint32_t peers);

#endif
