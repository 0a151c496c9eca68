/* SPDX-License-Identifier: Apache-2.0
 * Time, chance, trace, hosts and the paths between them. */
#include "io/sim/sim_world.h"

#include <stdio.h>
#include <string.h>

int sim_world_init(struct sim_world *w, const cohort_allocator *alloc, uint64_t seed, const struct sim_conditions *conditions)
{
    memset(w, 0, sizeof *w);
    w->alloc = alloc;
    w->now_ns = SIM_S;                                 /* not 0: a zero that means "never" would hide */
    w->wall_start_us = UINT64_C(1400000000) * 1000000; /* 2014 */
    w->conditions = *conditions;
    w->trace.hash = seed;
    w->endpoint_next = 1;
    cohorti_prng_init(&w->prng, seed);
    sim_queue_init(&w->events);
    cohorti_list_init(&w->spare_packets);
    cohorti_list_init(&w->hosts);
    cohorti_list_init(&w->names);
    cohorti_map_init(&w->hosts_by_ip, alloc);
    cohorti_map_init(&w->cuts, alloc);
    return COHORT_OK;
}

void sim_world_deinit(struct sim_world *w)
{
    for (uint64_t id = 1; id < w->endpoint_next; id++) {
        struct sim_endpoint *e = sim_endpoint_find(w, id);
        if (e != NULL) {
            sim_endpoint_free(e, COHORT_ERESET);
        }
    }
    struct sim_event *event;
    uint64_t at_ns = 0;
    while ((event = sim_queue_pop(&w->events, COHORTI_NEVER - 1, &at_ns)) != NULL) {
        sim_packet_discard(w, event); /* all others were cancelled by their owners */
    }
    sim_packets_free(w);
    sim_cut_clear(w);
    sim_name_forget(w, NULL);
    struct cohorti_list *host;
    while ((host = cohorti_list_pop(&w->hosts)) != NULL) {
        cohorti_release(w->alloc, COHORTI_CONTAINER(host, struct sim_host, of_world));
    }
    cohorti_map_deinit(&w->hosts_by_ip);
    cohorti_release(w->alloc, w->endpoints);
    cohorti_map_deinit(&w->cuts);
}

bool sim_world_step(struct sim_world *w, uint64_t until_ns)
{
    uint64_t now_ns = until_ns;
    struct sim_event *event = sim_queue_pop(&w->events, until_ns, &now_ns);
    w->now_ns = now_ns > w->now_ns ? now_ns : w->now_ns;
    if (event == NULL) {
        return false;
    }
    event->fire(event);
    return true;
}

void sim_event_set(struct sim_world *w, struct sim_event *event, uint64_t at_ns)
{
    sim_queue_set(&w->events, event, at_ns > w->now_ns ? at_ns : w->now_ns);
}

uint64_t sim_between(struct sim_world *w, uint64_t low, uint64_t high)
{
    return high <= low ? low : low + cohorti_prng_below(&w->prng, high - low + 1);
}

static uint64_t mix(uint64_t hash, uint64_t v)
{
    hash ^= v + UINT64_C(0x9e3779b97f4a7c15) + (hash << 6) + (hash >> 2);
    hash *= UINT64_C(0xff51afd7ed558ccd);
    return hash ^ (hash >> 32);
}

void sim_trace(struct sim_world *w, enum sim_trace_kind kind, uint64_t a, uint64_t b, uint64_t c)
{
    static const char *const names[] = {"?",     "connect", "accept", "refuse", "segment", "fin",
                                        "reset", "timeout", "close",  "loop",   "fault",   "note"};
    struct sim_trace *t = &w->trace;
    t->hash = mix(mix(mix(mix(mix(t->hash, w->now_ns), kind), a), b), c);
    t->events++;
    if (t->write != NULL && kind != SIM_TRACE_LOOP) {
        char line[128];
        snprintf(line, sizeof line, "%-8s %llu %llu %llu", names[kind], (unsigned long long)a, (unsigned long long)b,
                 (unsigned long long)c);
        t->write(t->ctx, w->now_ns, line);
    }
}

void sim_trace_text(struct sim_world *w, const char *text)
{
    w->trace.hash = mix(mix(w->trace.hash, w->now_ns), cohorti_hash_bytes(text, strlen(text)));
    w->trace.events++;
    if (w->trace.write != NULL) {
        w->trace.write(w->trace.ctx, w->now_ns, text);
    }
}

/* ---- hosts and paths ----------------------------------------------------------------------------------------------- */

struct sim_host *sim_host_find(const struct sim_world *w, const char *ip)
{
    uint64_t hash = cohorti_hash_bytes(ip, strlen(ip));
    struct cohorti_map_node *node = cohorti_map_find(&w->hosts_by_ip, hash);
    while (node != NULL && strcmp(((struct sim_host *)node)->ip, ip) != 0) {
        node = cohorti_map_find_next(node, hash);
    }
    return (struct sim_host *)node;
}

struct sim_host *sim_host_get(struct sim_world *w, const char *ip)
{
    struct sim_host *host = sim_host_find(w, ip);
    if (host == NULL && strlen(ip) < sizeof host->ip) {
        host = cohorti_alloc_zero(w->alloc, sizeof *host);
        if (host != NULL) {
            host->world = w;
            host->number = w->host_count++;
            host->up = true;
            memcpy(host->ip, ip, strlen(ip));
            cohorti_list_init(&host->listeners);
            cohorti_list_init(&host->endpoints);
            cohorti_list_append(&w->hosts, &host->of_world);
            cohorti_map_insert(&w->hosts_by_ip, &host->node, cohorti_hash_bytes(ip, strlen(ip)));
        }
    }
    return host;
}

static uint64_t pair_hash(uint32_t from, uint32_t to)
{
    return cohorti_hash_u64(((uint64_t)from << 32) | to);
}

static struct sim_cut *find_cut(const struct sim_world *w, uint32_t from, uint32_t to)
{
    struct cohorti_map_node *node = cohorti_map_find(&w->cuts, pair_hash(from, to));
    while (node != NULL && (((struct sim_cut *)node)->from != from || ((struct sim_cut *)node)->to != to)) {
        node = cohorti_map_find_next(node, pair_hash(from, to));
    }
    return (struct sim_cut *)node;
}

bool sim_path_open(const struct sim_world *w, const struct sim_host *from, const struct sim_host *to)
{
    if (!from->up || !to->up) {
        return false;
    }
    if (from->group != 0 && to->group != 0 && from->group != to->group) {
        return false;
    }
    return w->cuts.count == 0 || find_cut(w, from->number, to->number) == NULL;
}

int sim_cut_set(struct sim_world *w, const struct sim_host *from, const struct sim_host *to, bool cut)
{
    struct sim_cut *found = find_cut(w, from->number, to->number);
    if (!cut && found != NULL) {
        cohorti_map_remove(&w->cuts, &found->node);
        cohorti_release(w->alloc, found);
    }
    if (cut && found == NULL) {
        found = cohorti_alloc_zero(w->alloc, sizeof *found);
        if (found == NULL) {
            return COHORT_ENOMEM;
        }
        found->from = from->number;
        found->to = to->number;
        cohorti_map_insert(&w->cuts, &found->node, pair_hash(found->from, found->to));
    }
    return COHORT_OK;
}

void sim_cut_clear(struct sim_world *w)
{
    struct cohorti_map_node *node;
    while ((node = cohorti_map_any(&w->cuts)) != NULL) {
        cohorti_map_remove(&w->cuts, node);
        cohorti_release(w->alloc, (struct sim_cut *)node);
    }
    COHORTI_LIST_FOREACH (it, &w->hosts) {
        COHORTI_CONTAINER(it, struct sim_host, of_world)->group = 0;
    }
}

/* `peer` may be NULL: any. */
static struct sim_endpoint *first_of(const struct sim_host *host, const struct sim_host *peer)
{
    COHORTI_LIST_FOREACH (it, &host->endpoints) {
        struct sim_endpoint *e = COHORTI_CONTAINER(it, struct sim_endpoint, of_host);
        if (peer == NULL || e->peer_host == peer) {
            return e;
        }
    }
    return NULL;
}

void sim_host_crash(struct sim_host *host)
{
    struct sim_endpoint *e;
    sim_trace(host->world, SIM_TRACE_FAULT, host->number, 0, 0);
    while ((e = first_of(host, NULL)) != NULL) {
        sim_endpoint_free(e, COHORT_ERESET);
    }
}

uint32_t sim_reset_between(struct sim_world *w, const struct sim_host *a, const struct sim_host *b)
{
    uint32_t count = 0;
    struct sim_endpoint *e;
    sim_trace(w, SIM_TRACE_FAULT, a->number, b->number, 8);
    while ((e = first_of(a, b)) != NULL || (e = first_of(b, a)) != NULL) {
        count += e->host == a;
        sim_endpoint_free(e, COHORT_ERESET);
    }
    return count;
}

bool sim_hang(struct sim_world *w, const struct sim_host *a, const struct sim_host *b)
{
    struct sim_endpoint *youngest = NULL;
    sim_trace(w, SIM_TRACE_FAULT, a->number, b->number, 10);
    COHORTI_LIST_FOREACH (it, &a->endpoints) {
        struct sim_endpoint *e = COHORTI_CONTAINER(it, struct sim_endpoint, of_host);
        youngest = e->peer_host == b && e->state == SIM_ESTABLISHED ? e : youngest;
    }
    if (youngest == NULL) {
        return false;
    }
    struct sim_endpoint *other = sim_endpoint_find(w, youngest->peer_id);
    if (other != NULL) {
        other->adrift = true;
    }
    sim_endpoint_free(youngest, COHORT_ERESET);
    return true;
}

uint32_t sim_half_open(struct sim_world *w, const struct sim_host *a, const struct sim_host *b)
{
    uint32_t count = 0;
    struct sim_endpoint *e;
    sim_trace(w, SIM_TRACE_FAULT, a->number, b->number, 9);
    while ((e = first_of(a, b)) != NULL) {
        count++;
        sim_endpoint_free(e, COHORT_ERESET);
    }
    return count;
}
