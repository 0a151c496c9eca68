/* SPDX-License-Identifier: Apache-2.0
 *
 * Two nodes that dial each other at the same moment, 200 times, over real sockets: exactly one link each time, at both ends.
 *
 * Both live in this process, because only here can two cohort_node_add() be let go together: a round is a rendezvous of two threads,
 * each of which adds the other node to its own. Dialling starts at once. When both ends are quiet the link must be one, both
 * must have been told ACTIVATED once and DEACTIVATED never, and an echo must come back from both sides over it. Then both
 * remove each other, and the next round begins.
 *
 * How many rounds really crossed is counted (each end dialled, and accepted, before the round was decided): were there none, the
 * test would test nothing, and fails.
 */
#include <cohort/cohort.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 200
#define CROSSED_MIN 20
#define BOUND_MS 30000

struct end {
    const char *id;
    char ip[32];
    cohort_node *node;
    atomic_uint activated, deactivated, echoes;
    uint64_t accepted, dialled, opened; /* counters when the round began */
};

static struct end ends[2] = {{.id = "left"}, {.id = "right"}};
static pthread_barrier_t together;
static int round_now;

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void show(const struct end *e)
{
    cohort_node_stats s;
    cohort_node_stats_get(e->node, &s);
    fprintf(stderr,
            "%s: state of the other %d, links open %llu, pending %llu, accepted %llu, dialled %llu, opened %llu, closed %llu, "
            "activated %u, deactivated %u, echoes %u\n",
            e->id, (int)cohort_node_state(e->node, e == &ends[0] ? ends[1].id : ends[0].id), (unsigned long long)s.links_open,
            (unsigned long long)s.handshakes_pending, (unsigned long long)s.links_accepted, (unsigned long long)s.links_dialled,
            (unsigned long long)s.links_opened, (unsigned long long)s.links_closed, atomic_load(&e->activated),
            atomic_load(&e->deactivated), atomic_load(&e->echoes));
}

static void fail(const char *what)
{
    fprintf(stderr, "round %d: %s\n", round_now, what);
    show(&ends[0]);
    show(&ends[1]);
    exit(1);
}

static void require(bool good, const char *what)
{
    if (!good) {
        fail(what);
    }
}

/* Wait until it holds at both ends. */
static void wait_both(bool (*holds)(struct end *), const char *what)
{
    uint64_t deadline = now_ms() + BOUND_MS;
    while (!holds(&ends[0]) || !holds(&ends[1])) {
        require(now_ms() < deadline, what);
        usleep(200);
    }
}

static void on_event(cohort_node *node, const cohort_event *event, void *arg)
{
    (void)node;
    struct end *e = arg;
    if (event->type == COHORT_MEMBER_ACTIVATED) {
        atomic_fetch_add(&e->activated, 1);
    } else if (event->type == COHORT_MEMBER_DEACTIVATED) {
        atomic_fetch_add(&e->deactivated, 1);
    }
}

static void on_echo(cohort_node *node, const char *id, int status, uint64_t rtt_ns, void *arg)
{
    (void)node;
    (void)id;
    (void)rtt_ns;
    struct end *e = arg;
    if (status == COHORT_OK) {
        atomic_fetch_add(&e->echoes, 1);
    }
}

static struct end *other(const struct end *e)
{
    return e == &ends[0] ? &ends[1] : &ends[0];
}

static void start(struct end *e)
{
    cohort_config config;
    cohort_error error = {.code = COHORT_OK};
    cohort_handle_id handle;
    COHORT_CONFIG_INIT(&config);
    config.id = e->id;
    config.ip = e->ip;
    config.admission = COHORT_ADMIT_LISTED;
    config.limits.handshake_timeout_ms = 2 * BOUND_MS; /* two ends that wait for each other are not to be saved by the deadline */
    config.log.level = COHORT_LOG_OFF; /* who removed the other first refuses what the other still dials: no news here */
    if (cohort_node_open(&config, &e->node, &error) != COHORT_OK ||
        cohort_listen(e->node, on_event, e, NULL, &handle) != COHORT_OK || cohort_node_start(e->node, &error) != COHORT_OK) {
        fprintf(stderr, "cannot start %s at %s: %s\n", e->id, e->ip, error.text);
        exit(1);
    }
}

static void *add_other(void *arg)
{
    struct end *e = arg;
    pthread_barrier_wait(&together);
    require(cohort_node_add(e->node, other(e)->id, other(e)->ip, COHORT_PORT_DEFAULT) == COHORT_OK, "cannot add");
    return NULL;
}

static bool is_linked(struct end *e)
{
    cohort_node_stats s;
    cohort_node_stats_get(e->node, &s);
    return cohort_node_state(e->node, other(e)->id) == COHORT_ACTIVE && s.links_open == 1 && s.handshakes_pending == 0;
}

static bool is_alone(struct end *e)
{
    cohort_node_stats s;
    cohort_node_stats_get(e->node, &s);
    return s.links_open == 0 && s.handshakes_pending == 0;
}

static bool is_answered(struct end *e)
{
    return atomic_load(&e->echoes) == 1;
}

static void begin_round(struct end *e)
{
    cohort_node_stats s;
    cohort_node_stats_get(e->node, &s);
    e->accepted = s.links_accepted;
    e->dialled = s.links_dialled;
    e->opened = s.links_opened;
    atomic_store(&e->activated, 0);
    atomic_store(&e->deactivated, 0);
    atomic_store(&e->echoes, 0);
}

/* Gives whether it dialled and accepted. */
static bool check_end(struct end *e)
{
    cohort_node_stats s;
    cohort_node_stats_get(e->node, &s);
    require(s.links_open == 1, "the link did not stay");
    require(s.links_opened == e->opened + 1, "more than one link was open");
    require(atomic_load(&e->activated) == 1, "ACTIVATED was not told once");
    require(atomic_load(&e->deactivated) == 0, "DEACTIVATED was told");
    return s.links_dialled == e->dialled + 1 && s.links_accepted == e->accepted + 1;
}

static bool run_round(void)
{
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        begin_round(&ends[i]);
        require(pthread_create(&threads[i], NULL, add_other, &ends[i]) == 0, "no thread");
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    wait_both(is_linked, "not one link at both ends");
    for (int i = 0; i < 2; i++) {
        require(cohort_echo(ends[i].node, other(&ends[i])->id, NULL, 0, BOUND_MS, on_echo, &ends[i]) == COHORT_OK, "cannot ask");
    }
    wait_both(is_answered, "no answer");
    wait_both(is_linked, "a handshake is left over"); /* of a dial that was given up, and is only now accepted */
    bool crossed = check_end(&ends[0]);
    crossed = check_end(&ends[1]) && crossed;
    for (int i = 0; i < 2; i++) {
        require(cohort_node_remove(ends[i].node, other(&ends[i])->id) == COHORT_OK, "cannot remove");
    }
    wait_both(is_alone, "a link is left over");
    return crossed;
}

int main(void)
{
    alarm(280);
    unsigned block = (unsigned)getpid() % (252 * 254); /* addresses no other test uses */
    for (unsigned i = 0; i < 2; i++) {
        snprintf(ends[i].ip, sizeof ends[i].ip, "127.%u.%u.%u", 2 + block / 254, 1 + block % 254, 250 + i);
        start(&ends[i]);
    }
    pthread_barrier_init(&together, NULL, 2);
    int crossed = 0;
    for (round_now = 1; round_now <= ROUNDS; round_now++) {
        crossed += run_round();
    }
    pthread_barrier_destroy(&together);
    for (int i = 0; i < 2; i++) {
        require(cohort_node_close(ends[i].node, BOUND_MS) == COHORT_OK, "not closed in time");
    }
    printf("%d rounds, one link each; in %d of them the dials crossed\n", ROUNDS, crossed);
    if (crossed < CROSSED_MIN) {
        fprintf(stderr, "fewer than %d crossed: nothing was tested\n", CROSSED_MIN);
        return 1;
    }
    return 0;
}
