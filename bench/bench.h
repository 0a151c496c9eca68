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

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_PORTS_MAX 128
#define BENCH_STREAMS_MAX 8
#define BENCH_MESSAGE_BYTES_MIN 17
#define BENCH_NS_PER_S UINT64_C(1000000000)
#define BENCH_NS_PER_MS UINT64_C(1000000)

/* key=value words of the command line. */
struct bench_options {
    uint16_t ports[BENCH_PORTS_MAX]; /* ports=1,2,3: where the receivers listen (a receiver is given its own only) */
    size_t port_count;
    uint16_t own_port;  /* own=: where a sending cohort node listens; the others do not need it */
    size_t bytes;       /* bytes=: of data in a message */
    uint64_t warm_ns;   /* warm_ms=: from the first message to the begin of the window */
    uint64_t window_ns; /* window_ms= */
    uint32_t threads;   /* threads=: that send */
    uint32_t peers;     /* peers=: of the idle row */
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

/* Say to the driver that the other end may be started. */
void bench_ready(void);

void *bench_alloc(size_t size);

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

/* Counts what arrives and checks that nothing is lost, repeated, reordered or damaged. */
struct bench_meter {
    const struct bench_options *options;
    uint64_t expected[BENCH_STREAMS_MAX];
    uint32_t streams_ended;
    uint64_t count, clock_mask; /* the clock is read when (count & clock_mask) == 0 */
    uint64_t first_ns, begin_ns, begin_count, end_ns, end_count;
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

/* ---- memory -------------------------------------------------------------------------------------------------------- */

/* Anonymous resident bytes of this process. */
uint64_t bench_anonymous_bytes(void);
/* Print how much each of `peers` added to `before_bytes`. */
void bench_memory_report(uint64_t before_bytes, uint32_t peers);

#endif
