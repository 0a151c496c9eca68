/* SPDX-License-Identifier: Apache-2.0
 *
 * Queues of simulated processes, emptied at random moments by the application, or by threads whose handlers take a while now and then.
 */
#include "sim/emptier.h"

#include "sim/run_internal.h"

#define POOL_THREADS 3
#define ENDED_WELL_NS (500 * MS) /* closing that took no longer left the threads half of their time */

static void on_queued(cohort_node *node, const cohort_message *message, void *arg)
{
    struct player *p = arg;
    ledger_dequeued(p->run, p, message);
    emptier_linger(p);
}

void emptier_linger(struct player *p)
{
    if (p->queue != NULL && p->queue_has_threads && cohort_sim_random(p->run->sim, 50) == 0) {
        uint64_t max_ns = cohort_sim_random(p->run->sim, 8) == 0 ? 200 * MS : 3 * MS;
        run_stall(p->run, cohort_sim_random(p->run->sim, max_ns));
    }
}

static void empty(void *arg);

static void empty_later(struct player *p)
{
    uint64_t max_ns = cohort_sim_random(p->run->sim, 20) == 0 ? 3000 * MS : 100 * MS;
    p->empties = cohort_sim_after(p->run->sim, cohort_sim_random(p->run->sim, max_ns), empty, p) == COHORT_OK;
    if (!p->empties) {
        run_fail(p->run, "the simulator has no memory");
    }
}

/* One such call is under way for a player at most, whichever of its processes asked for it. */
static void empty(void *arg)
{
    struct player *p = arg;
    p->empties = false;
    if (p->node == NULL || p->queue == NULL || p->queue_has_threads) {
        return;
    }
    if (cohort_sim_now_ns(p->run->sim) >= p->paused_until_ns) {
        bool all = cohort_sim_random(p->run->sim, 2) == 0;
        (void)cohort_queue_dispatch(p->queue, all ? SIZE_MAX : cohort_sim_random(p->run->sim, 20));
    }
    empty_later(p);
}

int emptier_prepare(struct player *p)
{
    p->queue = NULL;
    uint64_t kind = p->run->scenario->queues ? cohort_sim_random(p->run->sim, 3) : 0;
    if (kind == 0) {
        return COHORT_OK;
    }
    p->queue_has_threads = kind == 2;
    int status = cohort_queue_open(p->node, p->queue_has_threads ? POOL_THREADS : 0, &p->queue);
    for (size_t lane = 0; lane < 3 && status == COHORT_OK; lane++) {
        cohort_handle_id ignored = 0;
        status = cohort_handle_in(p->node, p->queue, ledger_subjects[lane], on_queued, p, NULL, &ignored);
    }
    if (status == COHORT_OK && !p->queue_has_threads && !p->empties) {
        empty_later(p);
    }
    return status;
}

void emptier_ended(struct player *p, bool closed, uint64_t took_ns)
{
    if (p->queue != NULL && p->queue_has_threads && closed && took_ns < ENDED_WELL_NS) {
        ledger_check_emptied(p->run, p);
    }
    p->queue = NULL;
}
