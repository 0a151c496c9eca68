/* SPDX-License-Identifier: Apache-2.0
 *
 * Plays a scenario: starts the processes, carries out the actions, heals everything, waits for the cluster to be whole, asks every
 * node to reach every other, and ends it.
 */
#include "sim/run.h"
#include "sim/run_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* After the last fault a pair may need: the user timeout of a connection whose other end is gone (30 s), a handshake deadline
 * (5 s), the longest back-off (10 s), and as much for a second try. */
#define CONVERGE_NS (UINT64_C(60) * 1000 * MS)
/* A connection that a healed cut had silenced may still die of its user timeout: TCP does not try again before. */
#define AFTERMATH_NS (UINT64_C(35) * 1000 * MS)
/* What was sent while a link was down has to come through a slow one. */
#define DELIVERY_NS (UINT64_C(120) * 1000 * MS)
#define QUIET_NS (UINT64_C(8) * 1000 * MS)
#define PORT 9876
#define STRANGER_IP "10.1.0.1" /* of no node */

/* ---- processes ----------------------------------------------------------------------------------------------------- */

static int know_others(struct run *run, struct player *p)
{
    for (uint32_t i = 0; i < p->index && !run->scenario->listed; i++) {
        int status = cohort_node_add(p->node, run->players[i].id, run->players[i].ip, PORT);
        if (status != COHORT_OK) {
            return status;
        }
        p->views[i].member = true;
    }
    for (uint32_t i = 0; i < run->scenario->nodes && run->scenario->listed; i++) {
        p->views[i].member = i != p->index;
    }
    return COHORT_OK;
}

static int open_process(struct run *run, struct player *p)
{
    const struct scenario *s = run->scenario;
    cohort_config config;
    COHORT_CONFIG_INIT(&config);
    config.id = p->id;
    config.ip = p->ip;
    config.definition = s->listed ? &run->definition : NULL;
    config.loop_count = s->loops == 0 ? 0 : p->index % (s->loops + 1);
    config.dial.mode = s->seed_dial ? COHORT_DIAL_SEED : COHORT_DIAL_BACKOFF;
    config.allocator = &p->allocator;
    config.log.level = COHORT_LOG_OFF;
    config.limits.message_bytes_max = s->message_bytes_max > 128 * 1024 ? s->message_bytes_max : 128 * 1024;
    config.limits.peer_queue_bytes_max = p->queue_bytes_max = s->message_bytes_max > 128 * 1024 ? 2 * 1024 * 1024 : 512 * 1024;
    config.limits.window_bytes = p->window_bytes = s->queues ? 64 * 1024 : 256 * 1024;
    check_limits(p, &config.limits);
    int status = cohort_sim_node_open(run->sim, &config, &p->node, NULL);
    if (status != COHORT_OK) {
        p->node = NULL;
        return status;
    }
    cohort_member self;
    cohort_node_local(p->node, &self);
    p->incarnation_first = self.incarnation;
    check_incarnation(p);
    cohort_handle_id id = 0;
    status = know_others(run, p);
    status = status == COHORT_OK ? cohort_listen(p->node, check_event, p, NULL, &id) : status;
    for (size_t i = 0; i < 3 && status == COHORT_OK; i++) {
        status = cohort_handle(p->node, ledger_subjects[i], check_message, p, NULL, &id);
    }
    status = status == COHORT_OK ? cohort_on_undelivered(p->node, ledger_undelivered, p, NULL, &id) : status;
    status = status == COHORT_OK ? cohort_on_writable(p->node, ledger_writable, p, NULL, &id) : status;
    status = status == COHORT_OK ? ledger_prepare(run, p->node) : status;
    status = status == COHORT_OK ? emptier_prepare(p) : status;
    status = status == COHORT_OK ? asker_prepare(p) : status;
    return status == COHORT_OK ? cohort_node_start(p->node, NULL) : status;
}

/* A start that fails for want of memory leaves no process; the healing at the end starts it again. */
static void start(struct run *run, struct player *p)
{
    if (p->node != NULL) {
        return;
    }
    cohort_sim_boot(run->sim, p->ip);
    p->process++;
    p->echoes_out = 0;
    int status = open_process(run, p);
    if (status != COHORT_OK && status != COHORT_ENOMEM) {
        run_fail(run, "%s#%u does not start: %s", p->id, p->process, cohort_error_name(status));
    }
    if (status != COHORT_OK && p->node != NULL) {
        check_incarnation(p);
        (void)cohort_node_close(p->node, 0);
        p->node = NULL;
        p->queue = NULL;
    }
    if (p->node == NULL) {
        check_process_ended(p);
    }
}

static void stop(struct run *run, struct player *p, enum action_verb how)
{
    cohort_node *node = p->node;
    check_incarnation(p);
    if (node != NULL) {
        check_protocol(p);
    }
    asker_before_end(p);
    uint64_t begin_ns = cohort_sim_now_ns(run->sim);
    p->node = NULL;
    if (how == ACTION_OFF) {
        cohort_sim_power_off(run->sim, p->ip, node);
    } else if (node != NULL && how == ACTION_KILL) {
        cohort_sim_kill(run->sim, node);
    } else if (node != NULL) {
        (void)cohort_node_close(node, 1000); /* COHORT_ETIMEDOUT: a peer did not read; allowed */
        if (p->echoes_out != 0) {
            run_fail(run, "%s closed with %u echoes not completed", p->id, p->echoes_out);
        }
    }
    if (node != NULL) {
        asker_ended(p, how == ACTION_CLOSE);
        emptier_ended(p, how == ACTION_CLOSE, cohort_sim_now_ns(run->sim) - begin_ns);
        check_process_ended(p);
    }
}

/* ---- actions on a live process -------------------------------------------------------------------------------------- */

static void send_messages(struct run *run, struct player *p, struct player *to, int64_t count)
{
    uint32_t size_max = run->scenario->message_bytes_max;
    for (int64_t i = 0; i < count; i++) {
        ledger_send(run, p, to, LEDGER_HEAD_BYTES + cohort_sim_random(run->sim, size_max - LEDGER_HEAD_BYTES + 1));
    }
}

static void change_member(struct run *run, struct player *p, struct player *other, bool add)
{
    struct view *v = &p->views[other->index];
    bool was_removed = v->removed;
    v->removed_once = v->removed_once || !add;
    if (add) {
        v->removed = false; /* before the call: ADDED comes while it lasts. REMOVED sets it: until then the member may come and go */
    }
    int status = add ? cohort_node_add(p->node, other->id, other->ip, PORT) : cohort_node_remove(p->node, other->id);
    bool expected = status == COHORT_OK || status == COHORT_ENOMEM || (status == COHORT_ENOPEER && !add);
    if (!expected) {
        run_fail(run, "%s: %s %s: %s", p->id, add ? "add" : "remove", other->id, cohort_error_name(status));
    }
    if (status != COHORT_OK && add) {
        v->removed = was_removed;
    }
}

static void act_on_live(struct run *run, const struct action *action, struct player *a, struct player *b)
{
    switch (action->verb) {
    case ACTION_SEND:
        send_messages(run, a, b, action->v);
        break;
    case ACTION_FLOOD:
        ledger_flood(run, a, b, action->v);
        break;
    case ACTION_REQUEST:
        asker_ask(run, a, b, action->v);
        break;
    case ACTION_ECHO:
        a->echoes_out += cohort_echo(a->node, b->id, NULL, 0, 2000, check_echo, a) == COHORT_OK;
        break;
    case ACTION_ADD:
    case ACTION_REMOVE:
        change_member(run, a, b, action->verb == ACTION_ADD);
        break;
    case ACTION_ALLOC:
        a->fail_in = action->v;
        break;
    case ACTION_STALL:
        a->stall_ms = action->v;
        break;
    default:
        stop(run, a, action->verb);
        break;
    }
}

static void heal_network(struct run *run)
{
    cohort_sim_heal(run->sim);
    for (uint32_t i = 0; i < run->scenario->nodes; i++) {
        run->players[i].group = 0;
        for (uint32_t j = 0; j < run->scenario->nodes; j++) {
            run->players[i].cut[j] = false;
        }
    }
}

static void act(struct run *run, const struct action *action)
{
    struct player *a = &run->players[action->a];
    struct player *b = &run->players[action->b];
    switch (action->verb) {
    case ACTION_START:
        start(run, a);
        break;
    case ACTION_OFF:
        stop(run, a, ACTION_OFF);
        break;
    case ACTION_PAUSE:
        cohort_sim_pause(run->sim, a->ip, (uint64_t)action->v * MS);
        a->paused_until_ns = cohort_sim_now_ns(run->sim) + (uint64_t)action->v * MS;
        break;
    case ACTION_JUMP:
        cohort_sim_clock_jump(run->sim, a->ip, action->v * 1000);
        break;
    case ACTION_CUT:
    case ACTION_UNCUT:
        if (cohort_sim_cut(run->sim, a->ip, b->ip, action->verb == ACTION_CUT) != COHORT_OK) {
            run_fail(run, "the simulator has no memory");
        }
        a->cut[b->index] = action->verb == ACTION_CUT;
        break;
    case ACTION_GROUP:
        cohort_sim_group(run->sim, a->ip, (uint32_t)action->v);
        a->group = (uint32_t)action->v;
        break;
    case ACTION_HEAL:
        heal_network(run);
        break;
    case ACTION_RESET:
        (void)cohort_sim_reset(run->sim, a->ip, b->ip);
        break;
    case ACTION_STRANGER:
        if (cohort_sim_stranger(run->sim, STRANGER_IP, a->ip, PORT) != COHORT_OK) {
            run_fail(run, "the simulator has no memory");
        }
        break;
    case ACTION_DROP:
        (void)cohort_sim_half_open(run->sim, a->ip, b->ip);
        break;
    case ACTION_HANG:
        (void)cohort_sim_hang(run->sim, a->ip, b->ip);
        break;
    default:
        if (a->node != NULL &&
            !((action->verb == ACTION_SEND || action->verb == ACTION_FLOOD || action->verb == ACTION_REQUEST) && a == b)) {
            act_on_live(run, action, a, b);
        }
        break;
    }
}

/* A handler is on the stack: no process may end or wait. */
static bool may_act_in_handler(enum action_verb verb)
{
    switch (verb) {
    case ACTION_START:
    case ACTION_KILL:
    case ACTION_CLOSE:
    case ACTION_OFF:
    case ACTION_ADD:
    case ACTION_REMOVE:
        return false;
    default:
        return true;
    }
}

static uint64_t due_ns(const struct run *run)
{
    return run->begin_ns + run->scenario->actions[run->action_next].at_ms * MS;
}

static void act_next(struct run *run)
{
    const struct action *action = &run->scenario->actions[run->action_next++];
    for (uint32_t i = 0; i < run->scenario->nodes; i++) {
        asker_tick(&run->players[i], false);
    }
    act(run, action);
}

void run_stall(struct run *run, uint64_t duration_ns)
{
    uint64_t end_ns = cohort_sim_now_ns(run->sim) + duration_ns;
    for (uint64_t now_ns = end_ns - duration_ns; now_ns < end_ns; now_ns = cohort_sim_now_ns(run->sim)) {
        bool acts = run->action_next < run->scenario->action_count &&
                    may_act_in_handler(run->scenario->actions[run->action_next].verb) && due_ns(run) < end_ns;
        if (acts && due_ns(run) <= now_ns) {
            act_next(run);
        } else {
            cohort_sim_stall(run->sim, (acts ? due_ns(run) : end_ns) - now_ns);
        }
    }
}

/* ---- the course of a run -------------------------------------------------------------------------------------------- */

static bool all_received(void *arg)
{
    const struct run *run = arg;
    return run->final_received >= run->final_sent;
}

/* Everybody sends to everybody it takes for ACTIVE, and all of it must come. */
static void everybody_speaks(struct run *run, uint64_t within_ns)
{
    uint32_t nodes = run->scenario->nodes;
    run->settled = true;
    run->final_sent = 0;
    run->final_received = 0;
    for (uint32_t i = 0; i < nodes; i++) {
        for (uint32_t j = 0; j < nodes; j++) {
            struct player *p = &run->players[i];
            if (i != j && p->node != NULL && p->views[j].active) {
                send_messages(run, p, &run->players[j], 1);
                run->final_sent++;
            }
        }
    }
    if (!cohort_sim_run_until(run->sim, all_received, run, within_ns)) {
        run_fail(run, "of %u last messages %u were received", (unsigned)run->final_sent, (unsigned)run->final_received);
    }
    run->settled = false;
}

/* No new faults; those that last, last. Everybody must come to see them as they are. */
static void endure(struct run *run)
{
    run->views_changed = true;
    uint64_t limit_ns = run->scenario->converge_ms > 0 ? run->scenario->converge_ms * MS : CONVERGE_NS + AFTERMATH_NS;
    for (uint32_t i = 0; i < run->scenario->nodes; i++) {
        cohort_sim_pause(run->sim, run->players[i].ip, 0);
        run->players[i].paused_until_ns = 0;
        run->players[i].fail_in = 0;
        run->players[i].stall_ms = 0;
    }
    if (run->scenario->converge_ms > 0) {
        cohort_sim_run(run->sim, limit_ns); /* all of it: what stands at once may not have noticed yet */
        limit_ns = 0;
    }
    if (!cohort_sim_run_until(run->sim, check_faults_seen, run, limit_ns)) {
        run_fail(run, "n%u takes n%u for %s", run->wrong_i, run->wrong_j,
                 run->players[run->wrong_i].views[run->wrong_j].active ? "ACTIVE" : "INACTIVE");
    } else if (run->scenario->converge_ms > 0) {
        everybody_speaks(run, limit_ns + 1000 * MS);
    }
}

static void heal(struct run *run)
{
    heal_network(run);
    run->views_changed = true;
    for (uint32_t i = 0; i < run->scenario->nodes; i++) {
        start(run, &run->players[i]);
    }
    for (uint32_t i = 0; i < run->scenario->nodes; i++) {
        for (uint32_t j = 0; j < run->scenario->nodes; j++) {
            if (run->players[i].views[j].removed) {
                change_member(run, &run->players[i], &run->players[j], true);
            }
        }
    }
}

static void name_broken_pair(struct run *run)
{
    for (uint32_t i = 0; i < run->scenario->nodes; i++) {
        for (uint32_t j = 0; j < run->scenario->nodes; j++) {
            if (i != j && !run->players[i].views[j].active) {
                run_fail(run, "n%u does not reach n%u %u s after all faults ended", i, j, (unsigned)(CONVERGE_NS / (1000 * MS)));
            }
        }
    }
}

static void finish(struct run *run)
{
    uint64_t healed_ns = cohort_sim_now_ns(run->sim);
    if (!cohort_sim_run_until(run->sim, check_converged, run, CONVERGE_NS)) {
        name_broken_pair(run);
        return;
    }
    run->result->converged_ns = cohort_sim_now_ns(run->sim) - healed_ns;
    cohort_sim_run(run->sim, AFTERMATH_NS);
    if (!cohort_sim_run_until(run->sim, check_converged, run, CONVERGE_NS / 2)) {
        name_broken_pair(run);
        return;
    }
    cohort_sim_run(run->sim, QUIET_NS);
    check_quiet(run);
    everybody_speaks(run, DELIVERY_NS);
    (void)cohort_sim_run_until(run->sim, ledger_settled, run, DELIVERY_NS);
    ledger_judge(run);
    for (uint32_t i = 0; i < run->scenario->nodes; i++) {
        asker_tick(&run->players[i], true);
    }
    (void)cohort_sim_run_until(run->sim, asker_settled, run, DELIVERY_NS);
    asker_judge(run);
    if (!cohort_sim_run_until(run->sim, check_idle, run, QUIET_NS)) {
        run_fail(run, "n%u holds %" PRIu64 " bytes, and nothing waits there", run->wrong_i, run->players[run->wrong_i].bytes);
    }
}

static int prepare(struct run *run)
{
    uint32_t nodes = run->scenario->nodes;
    run->players = calloc(nodes, sizeof *run->players);
    run->definition.nodes = calloc(nodes, sizeof *run->definition.nodes);
    run->definition.node_count = nodes;
    if (run->players == NULL || run->definition.nodes == NULL) {
        return COHORT_ENOMEM;
    }
    for (uint32_t i = 0; i < nodes; i++) {
        struct player *p = &run->players[i];
        p->run = run;
        p->index = i;
        snprintf(p->id, sizeof p->id, "n%u", i);
        snprintf(p->ip, sizeof p->ip, "10.0.%u.%u", i / 250, i % 250 + 1);
        snprintf(run->definition.nodes[i].id, sizeof run->definition.nodes[i].id, "%s", p->id);
        snprintf(run->definition.nodes[i].ip, sizeof run->definition.nodes[i].ip, "%s", p->ip);
        run->definition.nodes[i].tcp_port = PORT;
        check_allocator(p);
        p->views = calloc(nodes, sizeof *p->views);
        p->cut = calloc(nodes, sizeof *p->cut);
        if (p->views == NULL || p->cut == NULL) {
            return COHORT_ENOMEM;
        }
    }
    return ledger_open(&run->ledger, nodes);
}

static void play(struct run *run)
{
    const struct scenario *s = run->scenario;
    run->begin_ns = cohort_sim_now_ns(run->sim);
    for (uint32_t i = 0; i < s->nodes; i++) {
        start(run, &run->players[i]);
    }
    while (run->action_next < s->action_count && run->result->passed) {
        uint64_t now_ns = cohort_sim_now_ns(run->sim);
        if (due_ns(run) <= now_ns) {
            act_next(run);
        } else {
            cohort_sim_run(run->sim, due_ns(run) - now_ns); /* handlers that stall may carry out some */
        }
    }
    if (run->result->passed) {
        endure(run);
    }
    heal(run);
    if (run->result->passed) {
        finish(run);
    }
    for (uint32_t i = 0; i < s->nodes; i++) {
        stop(run, &run->players[i], i % 3 == 2 ? ACTION_KILL : ACTION_CLOSE);
    }
    run->result->virtual_ns = cohort_sim_now_ns(run->sim) - run->begin_ns;
}

int run_scenario(const struct scenario *s, uint64_t seed, void (*trace)(void *ctx, uint64_t now_ns, const char *line),
                 void *trace_ctx, struct run_result *out)
{
    struct run run = {.scenario = s, .result = out};
    memset(out, 0, sizeof *out);
    out->passed = true;
    cohort_sim_config config;
    COHORT_SIM_CONFIG_INIT(&config);
    config.seed = seed;
    config.latency_min_ns = s->latency_min_us * 1000;
    config.latency_max_ns = s->latency_max_us * 1000;
    config.loss_ppm = s->loss_ppm;
    config.segment_bytes_max = s->segment_bytes;
    config.window_bytes = s->window_bytes;
    config.trace = trace;
    config.trace_ctx = trace_ctx;
    pool_init(&run.pool);
    int status = prepare(&run);
    if (status == COHORT_OK) {
        status = cohort_sim_open(&config, &run.sim);
    }
    if (status == COHORT_OK) {
        play(&run);
        out->hash = cohort_sim_hash(run.sim);
        out->events = cohort_sim_events(run.sim);
        cohort_sim_close(run.sim);
    }
    for (uint32_t i = 0; run.players != NULL && i < s->nodes; i++) {
        free(run.players[i].views);
        free(run.players[i].cut);
    }
    ledger_free(&run.ledger);
    asker_free(&run.asker);
    free(run.players);
    free(run.definition.nodes);
    pool_deinit(&run.pool);
    return status;
}
