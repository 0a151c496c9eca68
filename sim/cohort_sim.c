/* SPDX-License-Identifier: Apache-2.0
 *
 * The public face of the simulated world: processes and hosts by address, time, faults.
 *
 * It adds one thing to io/sim: which machine a node runs on, so that the machine goes when the node goes.
 */
#include "base/list.h"
#include "base/name.h"
#include "io/sim/sim_world.h"
#include "node/node.h"
#include "sim/pool.h"

#include <cohort/sim.h>
#include <string.h>

struct process {
    struct cohorti_list of_sim;
    cohort_node *node; /* NULL once killed, and of a stranger */
    struct sim_machine *machine;
    struct cohorti_socket *stranger; /* all that a stranger has */
};

struct timer_call {
    struct sim_event event;
    struct cohort_sim *sim;
    struct cohorti_list of_sim;
    void (*fn)(void *arg);
    void *arg;
};

struct cohort_sim {
    struct sim_world world;
    struct pool pool; /* of the world's memory */
    cohort_allocator allocator;
    struct cohorti_list processes;
    struct cohorti_list calls;
};

void cohort_sim_config_init(cohort_sim_config *config, size_t size)
{
    const cohort_sim_config defaults = {.size = size,
                                        .seed = 1,
                                        .latency_min_ns = 50 * 1000,
                                        .latency_max_ns = 250 * 1000,
                                        .segment_bytes_max = 1448,
                                        .lateness_max_ns = 50 * 1000,
                                        .window_bytes = 256 * 1024};
    memset(config, 0, size);
    memcpy(config, &defaults, size < sizeof defaults ? size : sizeof defaults);
}

/* ---- memory: before each block stands its size ---------------------------------------------------------------------- */

static void *pool_allocate(void *ctx, size_t size)
{
    uint64_t *block = pool_take(ctx, size + 16);
    if (block == NULL) {
        return NULL;
    }
    block[0] = size;
    return block + 2;
}

static void pool_release(void *ctx, void *ptr)
{
    uint64_t *block = (uint64_t *)ptr - 2;
    pool_give(ctx, block, block[0] + 16);
}

static void *pool_reallocate(void *ctx, void *ptr, size_t size)
{
    void *grown = pool_allocate(ctx, size);
    if (grown != NULL && ptr != NULL) {
        uint64_t old_size = ((uint64_t *)ptr - 2)[0];
        memcpy(grown, ptr, old_size < size ? old_size : size);
        pool_release(ctx, ptr);
    }
    return grown;
}

/* ---- life ---------------------------------------------------------------------------------------------------------- */

int cohort_sim_open(const cohort_sim_config *config, cohort_sim **out)
{
    if (config->size != sizeof *config || config->latency_max_ns < config->latency_min_ns || config->segment_bytes_max == 0 ||
        config->window_bytes < 4096) {
        return COHORT_EINVAL;
    }
    struct cohort_sim *sim = cohorti_alloc_zero(&cohorti_malloc, sizeof *sim);
    if (sim == NULL) {
        return COHORT_ENOMEM;
    }
    const struct sim_conditions conditions = {.latency_min_ns = config->latency_min_ns,
                                              .latency_max_ns = config->latency_max_ns,
                                              .loss_ppm = config->loss_ppm,
                                              .segment_bytes_max = config->segment_bytes_max,
                                              .lateness_max_ns = config->lateness_max_ns,
                                              .window_bytes = config->window_bytes};
    pool_init(&sim->pool);
    sim->allocator =
        (cohort_allocator){.allocate = pool_allocate, .reallocate = pool_reallocate, .release = pool_release, .ctx = &sim->pool};
    sim_world_init(&sim->world, &sim->allocator, config->seed, &conditions);
    sim->world.trace.write = config->trace;
    sim->world.trace.ctx = config->trace_ctx;
    cohorti_list_init(&sim->processes);
    cohorti_list_init(&sim->calls);
    *out = sim;
    return COHORT_OK;
}

/* A node that its owner closed leaves its machine behind without loops: it goes now. */
static void reap(struct cohort_sim *sim)
{
    COHORTI_LIST_FOREACH_SAFE (it, &sim->processes) {
        struct process *p = COHORTI_CONTAINER(it, struct process, of_sim);
        if (cohorti_list_empty(&p->machine->loops) && p->stranger == NULL) {
            cohorti_list_remove(&p->of_sim);
            sim_machine_free(p->machine);
            cohorti_release(&cohorti_malloc, p);
        }
    }
}

void cohort_sim_close(cohort_sim *sim)
{
    if (sim == NULL) {
        return;
    }
    COHORTI_LIST_FOREACH (it, &sim->processes) {
        struct process *p = COHORTI_CONTAINER(it, struct process, of_sim);
        if (p->stranger != NULL) {
            sim_close(p->stranger);
            p->stranger = NULL;
        }
    }
    reap(sim);
    COHORTI_LIST_FOREACH_SAFE (it, &sim->calls) {
        struct timer_call *call = COHORTI_CONTAINER(it, struct timer_call, of_sim);
        sim_event_set(&sim->world, &call->event, COHORTI_NEVER);
        cohorti_release(&cohorti_malloc, call);
    }
    sim_world_deinit(&sim->world);
    pool_deinit(&sim->pool);
    cohorti_release(&cohorti_malloc, sim);
}

int cohort_sim_node_open(cohort_sim *sim, const cohort_config *config, cohort_node **out, cohort_error *error)
{
    reap(sim);
    const char *ip = config->ip == NULL ? COHORT_IP_DEFAULT : config->ip;
    struct cohorti_addresses addresses;
    sim_name_find(&sim->world, ip, &addresses);
    struct sim_host *host = sim_host_get(&sim->world, addresses.count > 0 ? addresses.at[0] : ip);
    struct process *p = cohorti_alloc_zero(&cohorti_malloc, sizeof *p);
    struct sim_machine *machine = host == NULL || p == NULL ? NULL : sim_machine_new(&sim->world, host);
    if (machine == NULL) {
        cohorti_release(&cohorti_malloc, p);
        return COHORT_ENOMEM;
    }
    p->machine = machine;
    int status = cohorti_node_open_on(&machine->base, config, &p->node, error);
    if (status != COHORT_OK) {
        sim_machine_free(machine);
        cohorti_release(&cohorti_malloc, p);
        return status;
    }
    cohorti_list_append(&sim->processes, &p->of_sim);
    *out = p->node;
    return COHORT_OK;
}

int cohort_sim_name(cohort_sim *sim, const char *name, const char *ip)
{
    if (!cohorti_hostname_valid(name, strlen(name)) ||
        (ip != NULL && !cohorti_ipv4_valid(ip, strlen(ip)) && !cohorti_ipv6_valid(ip, strlen(ip)))) {
        return COHORT_EINVAL;
    }
    if (ip != NULL) {
        return sim_name_add(&sim->world, name, ip);
    }
    sim_name_forget(&sim->world, name);
    return COHORT_OK;
}

/* ---- time ---------------------------------------------------------------------------------------------------------- */

uint64_t cohort_sim_now_ns(const cohort_sim *sim)
{
    return sim->world.now_ns;
}

void cohort_sim_run(cohort_sim *sim, uint64_t duration_ns)
{
    uint64_t until_ns = sim->world.now_ns + duration_ns;
    while (sim_world_step(&sim->world, until_ns)) {
    }
}

bool cohort_sim_run_until(cohort_sim *sim, bool (*done)(void *arg), void *arg, uint64_t timeout_ns)
{
    uint64_t until_ns = sim->world.now_ns + timeout_ns;
    while (!done(arg)) {
        if (!sim_world_step(&sim->world, until_ns)) {
            return done(arg);
        }
    }
    return true;
}

static void on_call(struct sim_event *event)
{
    struct timer_call *call = COHORTI_CONTAINER(event, struct timer_call, event);
    void (*fn)(void *arg) = call->fn;
    void *arg = call->arg;
    cohorti_list_remove(&call->of_sim);
    cohorti_release(&cohorti_malloc, call);
    fn(arg);
}

int cohort_sim_after(cohort_sim *sim, uint64_t delay_ns, void (*fn)(void *arg), void *arg)
{
    struct timer_call *call = cohorti_alloc_zero(&cohorti_malloc, sizeof *call);
    if (call == NULL) {
        return COHORT_ENOMEM;
    }
    call->sim = sim;
    call->fn = fn;
    call->arg = arg;
    sim_event_init(&call->event, on_call);
    cohorti_list_append(&sim->calls, &call->of_sim);
    sim_event_set(&sim->world, &call->event, sim->world.now_ns + delay_ns);
    return COHORT_OK;
}

uint64_t cohort_sim_hash(const cohort_sim *sim)
{
    return sim->world.trace.hash;
}

uint64_t cohort_sim_events(const cohort_sim *sim)
{
    return sim->world.trace.events;
}

void cohort_sim_note(cohort_sim *sim, const char *line)
{
    sim_trace_text(&sim->world, line);
}

uint64_t cohort_sim_random(cohort_sim *sim, uint64_t bound)
{
    return cohorti_prng_below(&sim->world.prng, bound);
}

/* ---- faults -------------------------------------------------------------------------------------------------------- */

void cohort_sim_kill(cohort_sim *sim, cohort_node *node)
{
    COHORTI_LIST_FOREACH (it, &sim->processes) {
        struct process *p = COHORTI_CONTAINER(it, struct process, of_sim);
        if (p->node == node) {
            sim_machine_kill(p->machine);
            cohorti_node_abandon(node);
            p->node = NULL;
            break;
        }
    }
    reap(sim);
}

void cohort_sim_power_off(cohort_sim *sim, const char *ip, cohort_node *node)
{
    struct sim_host *host = sim_host_get(&sim->world, ip);
    if (host != NULL) {
        host->up = false; /* before the process goes: its last packets do not leave */
        if (node != NULL) {
            cohort_sim_kill(sim, node);
        }
        sim_host_crash(host);
    }
}

void cohort_sim_boot(cohort_sim *sim, const char *ip)
{
    struct sim_host *host = sim_host_get(&sim->world, ip);
    if (host != NULL) {
        host->up = true;
    }
}

void cohort_sim_pause(cohort_sim *sim, const char *ip, uint64_t duration_ns)
{
    struct sim_host *host = sim_host_get(&sim->world, ip);
    if (host != NULL) {
        host->paused_until_ns = sim->world.now_ns + duration_ns;
        sim_trace(&sim->world, SIM_TRACE_FAULT, host->number, 2, duration_ns);
    }
}

void cohort_sim_clock_jump(cohort_sim *sim, const char *ip, int64_t delta_us)
{
    struct sim_host *host = sim_host_get(&sim->world, ip);
    if (host != NULL) {
        host->wall_offset_us += delta_us;
    }
}

int cohort_sim_cut(cohort_sim *sim, const char *from_ip, const char *to_ip, bool cut)
{
    struct sim_host *from = sim_host_get(&sim->world, from_ip);
    struct sim_host *to = sim_host_get(&sim->world, to_ip);
    if (from == NULL || to == NULL) {
        return COHORT_ENOMEM;
    }
    sim_trace(&sim->world, SIM_TRACE_FAULT, from->number, to->number, cut ? 4 : 5);
    return sim_cut_set(&sim->world, from, to, cut);
}

void cohort_sim_group(cohort_sim *sim, const char *ip, uint32_t group)
{
    struct sim_host *host = sim_host_get(&sim->world, ip);
    if (host != NULL) {
        host->group = group;
        sim_trace(&sim->world, SIM_TRACE_FAULT, host->number, group, 6);
    }
}

void cohort_sim_heal(cohort_sim *sim)
{
    sim_cut_clear(&sim->world);
    sim_trace(&sim->world, SIM_TRACE_FAULT, 0, 0, 7);
}

uint32_t cohort_sim_reset(cohort_sim *sim, const char *a_ip, const char *b_ip)
{
    struct sim_host *a = sim_host_get(&sim->world, a_ip);
    struct sim_host *b = sim_host_get(&sim->world, b_ip);
    return a == NULL || b == NULL ? 0 : sim_reset_between(&sim->world, a, b);
}

uint32_t cohort_sim_half_open(cohort_sim *sim, const char *a_ip, const char *b_ip)
{
    struct sim_host *a = sim_host_get(&sim->world, a_ip);
    struct sim_host *b = sim_host_get(&sim->world, b_ip);
    return a == NULL || b == NULL ? 0 : sim_half_open(&sim->world, a, b);
}

bool cohort_sim_hang(cohort_sim *sim, const char *a_ip, const char *b_ip)
{
    struct sim_host *a = sim_host_get(&sim->world, a_ip);
    struct sim_host *b = sim_host_get(&sim->world, b_ip);
    return a != NULL && b != NULL && sim_hang(&sim->world, a, b);
}

int cohort_sim_stranger(cohort_sim *sim, const char *from_ip, const char *to_ip, uint16_t port)
{
    struct sim_host *host = sim_host_get(&sim->world, from_ip);
    struct process *p = cohorti_alloc_zero(&cohorti_malloc, sizeof *p);
    struct sim_machine *machine = host == NULL || p == NULL ? NULL : sim_machine_new(&sim->world, host);
    if (machine == NULL) {
        cohorti_release(&cohorti_malloc, p);
        return COHORT_ENOMEM;
    }
    int status = sim_connect(&machine->base, to_ip, port, &p->stranger);
    if (status != COHORT_OK) {
        sim_machine_free(machine);
        cohorti_release(&cohorti_malloc, p);
        return status;
    }
    p->machine = machine;
    cohorti_list_append(&sim->processes, &p->of_sim);
    return COHORT_OK;
}

/* As a wait in a handler (sim_loop.c), of which nothing but time decides the end. */
void cohort_sim_stall(cohort_sim *sim, uint64_t duration_ns)
{
    struct cohorti_loop *standing_on = sim->world.current;
    sim->world.current = NULL;
    cohort_sim_run(sim, duration_ns);
    sim->world.current = standing_on;
}

uint32_t cohort_sim_connections(const cohort_sim *sim, const char *a_ip, const char *b_ip)
{
    const struct sim_host *a = sim_host_find(&sim->world, a_ip);
    const struct sim_host *b = sim_host_find(&sim->world, b_ip);
    return a == NULL || b == NULL ? 0 : sim_endpoint_count(a, b);
}
