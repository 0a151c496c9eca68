/* SPDX-License-Identifier: Apache-2.0
 *
 * What the roles of the cohort program share: nodes that are ready, waiting for room.
 */
#ifndef BENCH_BENCH_COHORT_H
#define BENCH_BENCH_COHORT_H

#include "bench.h"

#include <cohort/cohort.h>

#define SUBJECT "bench"     /* in the normal lane */
#define SUBJECT_PING "ping" /* in the control lane */
#define SUBJECT_BULK "bulk" /* in the bulk lane */

#define BENCH_REQUEST_BYTES_MAX 64 /* of requests and pings, which are built on the stack */

void bench_check(int status, const char *what);

/* A node with the end's handler of SUBJECT, which may be NULL. The sender has every receiver as a member, ACTIVE. */
cohort_node *bench_receiver_start(const struct bench_options *o, cohort_message_fn fn, void *arg);
/* The same, and say that we are ready. */
cohort_node *bench_receiver_open(const struct bench_options *o, cohort_message_fn fn, void *arg);
cohort_node *bench_sender_open(const struct bench_options *o, cohort_message_fn fn, void *arg);
void bench_receiver_id(const struct bench_options *o, size_t i, char out[32]);

/* From now on a link that ends is no failure. */
void bench_may_end(void);

/* Send by `try` until it says something else than COHORT_EAGAIN, waiting for the writable event in between. */
int bench_send_waiting(int (*try)(void *ctx, struct bench_stamp stamp), void *ctx, struct bench_stamp stamp);
/* Before the first. */
void bench_wait_writable(cohort_node *node);

/* bench_cohort_requests.c */
void bench_request_pipelined(const struct bench_options *o);
void bench_request_wait(const struct bench_options *o);
void bench_reply(const struct bench_options *o);
void bench_ping_beside(const struct bench_options *o);
void bench_pong_beside(const struct bench_options *o);

/* bench_cohort_alloc.c: count all allocations of the process from now on, if that is possible here. */
void bench_count_allocations(void);

#endif
