/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests in tests: what a result said, written down; handlers that reply in each way there is; a link broken under both ends.
 */
#ifndef COHORT_UNIT_NODE_ASKING_H
#define COHORT_UNIT_NODE_ASKING_H

#include "rig.h"

/* What became of one request. */
struct asked {
    _Atomic unsigned calls; /* counted last: what is below stands then */
    int status;
    char from[COHORT_ID_BYTES_MAX + 1], text[256], data[64];
    size_t data_len;
    cohort_request_id id;
};

static inline void on_result(cohort_node *node, const cohort_result *result, void *arg)
{
    struct asked *a = arg;
    a->status = result->status;
    (void)snprintf(a->from, sizeof a->from, "%s", result->from);
    (void)snprintf(a->text, sizeof a->text, "%s", result->text);
    a->data_len = result->data_len;
    memcpy(a->data, result->data == NULL ? "" : result->data, result->data_len < sizeof a->data ? result->data_len : sizeof a->data);
    atomic_fetch_add(&a->calls, 1);
}

static inline void expect_result(struct asked *a, int status)
{
    WAIT_FOR(atomic_load(&a->calls) > 0);
    assert_int_equal(atomic_load(&a->calls), 1);
    assert_int_equal(a->status, status);
}

static inline void ask(struct rig_node *n, unsigned to, const char *subject, const char *data, uint32_t timeout_ms, struct asked *a)
{
    assert_int_equal(cohort_request(n->node, address(to), subject, data, strlen(data), timeout_ms, on_result, a, &a->id), COHORT_OK);
}

/* What handlers saw and did. */
struct answerer {
    _Atomic unsigned handled, wrong;
    _Atomic uint32_t left_ms;
    cohort_call *kept[64];
    _Atomic unsigned kept_count;
};

static inline void reply_same(cohort_node *node, const cohort_message *message, void *arg)
{
    struct answerer *s = arg;
    atomic_store(&s->left_ms, cohort_call_time_left_ms(message->call));
    atomic_fetch_add(&s->wrong, cohort_reply(message->call, message->data, message->data_len) != COHORT_OK);
    atomic_fetch_add(&s->handled, 1);
}

static inline void keep_call(cohort_node *node, const cohort_message *message, void *arg)
{
    struct answerer *s = arg;
    cohort_call *kept = cohort_call_keep(message->call);
    atomic_fetch_add(&s->wrong, kept == NULL || cohort_call_keep(kept) != NULL || cohort_call_keep(message->call) != NULL);
    atomic_fetch_add(&s->wrong, cohort_reply(message->call, "x", 1) != COHORT_ESTATE); /* it is the kept one's now */
    s->kept[atomic_load(&s->kept_count)] = kept;
    atomic_fetch_add(&s->kept_count, 1);
    atomic_fetch_add(&s->handled, 1);
}

static inline void say_nothing(cohort_node *node, const cohort_message *message, void *arg)
{
    struct answerer *s = arg;
    atomic_fetch_add(&s->handled, 1);
}

static inline void handle(struct rig_node *n, const char *subject, cohort_message_fn fn, struct answerer *s)
{
    cohort_handle_id ignored;
    assert_int_equal(cohort_handle(n->node, subject, fn, s, NULL, &ignored), COHORT_OK);
}

/* Node i with room for the caller's limits and no handler of all. */
static inline void run_without_handlers(struct rig_node *n, unsigned i, const cohort_limits *limits)
{
    rig_begin(n);
    cohort_config config = rig_config(n, i);
    if (limits != NULL) {
        config.limits = *limits;
    }
    rig_open(n, &config);
    rig_start(n);
}

static inline cohort_limits default_limits(void)
{
    cohort_config config;
    COHORT_CONFIG_INIT(&config);
    return config.limits;
}

static inline void meet(struct rig_node *a, struct rig_node *b, unsigned b_address)
{
    unsigned before = atomic_load(&b->activated);
    assert_int_equal(cohort_node_add(a->node, address(b_address), address(b_address), PORT), COHORT_OK);
    WAIT_FOR(cohort_node_state(a->node, address(b_address)) == COHORT_ACTIVE && atomic_load(&b->activated) == before + 1);
}

/* Break every connection of this process: both ends of the links between its nodes. */
static inline unsigned break_links(void)
{
    unsigned broken = 0;
    for (int fd = 3; fd < 1024; fd++) {
        struct sockaddr_storage peer = {0};
        socklen_t len = sizeof peer;
        if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0 && peer.ss_family == AF_INET) {
            broken += shutdown(fd, SHUT_RDWR) == 0;
        }
    }
    return broken;
}

static inline uint64_t late_replies(struct rig_node *n)
{
    cohort_node_stats stats;
    cohort_node_stats_get(n->node, &stats);
    return stats.replies_late;
}

#endif
