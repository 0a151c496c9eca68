/* SPDX-License-Identifier: Apache-2.0
 *
 * Life and time of the cluster: init, start, timers, stop.
 */
#include "core/cluster_internal.h"

#include "base/alloc.h"
#include "base/text.h"

#include <string.h>

static size_t room_for(size_t links)
{
    return COHORTI_EFFECTS_PER_CALL + COHORTI_EFFECTS_PER_LINK * links;
}

int cohorti_cluster_make_room(struct cohorti_cluster *c, size_t links)
{
    return cohorti_effects_reserve(&c->effects, room_for(c->links.count + links));
}

/* Of a member: its ADDED or UPDATE; or DEACTIVATED and REMOVED. The ends of links are counted with the links. */
#define EFFECTS_PER_CHANGE 2

int cohorti_cluster_make_room_for_changes(struct cohorti_cluster *c, size_t changes)
{
    return cohorti_effects_reserve(&c->effects, room_for(c->links.count) + EFFECTS_PER_CHANGE * changes);
}

static int add_self(struct cohorti_cluster *c)
{
    int status = cohorti_member_new(c, 0, c->config.id, c->config.ip, c->config.tcp_port, &c->self);
    if (status != COHORT_OK) {
        return status;
    }
    c->self->configured = true;
    c->self->public.local = true;
    c->self->public.state = COHORT_ACTIVE;
    c->self->public.incarnation = c->config.incarnation;
    struct cohorti_effect added; /* the local node is there from the beginning: no event */
    (void)cohorti_effects_pop(&c->effects, &added);
    return COHORT_OK;
}

int cohorti_cluster_init(struct cohorti_cluster *c, const cohort_allocator *alloc, const struct cohorti_cluster_config *config)
{
    memset(c, 0, sizeof *c);
    c->alloc = alloc;
    c->config = *config;
    c->link_next = 1;
    cohorti_prng_init(&c->prng, config->seed);
    cohorti_timers_init(&c->timers);
    cohorti_effects_init(&c->effects, alloc);
    cohorti_map_init(&c->links, alloc);
    cohorti_list_init(&c->strangers);
    cohorti_list_init(&c->orphans);
    if (config->limits.removed_max > 0) {
        c->removed = cohorti_alloc_zero(alloc, config->limits.removed_max * sizeof c->removed[0]);
    }
    int status = c->removed == NULL && config->limits.removed_max > 0 ? COHORT_ENOMEM : COHORT_OK;
    if (status == COHORT_OK) {
        status = cohorti_cluster_make_room(c, 0);
    }
    if (status == COHORT_OK) {
        status = add_self(c);
    }
    if (status != COHORT_OK) {
        cohorti_cluster_deinit(c);
    }
    return status;
}

void cohorti_cluster_deinit(struct cohorti_cluster *c)
{
    struct cohorti_map_node *node;
    while ((node = cohorti_map_any(&c->links)) != NULL) {
        cohorti_cluster_link_free(c, (struct cohorti_cluster_link *)node);
    }
    for (size_t i = 0; i < c->member_count; i++) {
        cohorti_release(c->alloc, c->members[i]);
    }
    cohorti_release(c->alloc, c->members);
    cohorti_release(c->alloc, c->removed);
    cohorti_listing_free(c->alloc, &c->listing);
    cohorti_map_deinit(&c->links);
    cohorti_effects_deinit(&c->effects);
    memset(c, 0, sizeof *c);
}

/* What is due is dialled in this very step, not at the first timer: who starts after us finds that we have dialled already, and is
 * the only one of the two that dials. */
void cohorti_cluster_start(struct cohorti_cluster *c, uint64_t now_ns)
{
    c->started = true;
    c->started_ns = now_ns;
    for (size_t i = 0; i < c->member_count; i++) {
        struct cohorti_member *m = c->members[i];
        cohorti_dialler_init(&m->dialler, &c->config.dial, now_ns, now_ns);
        if (m != c->self && m->dialler.next_ns <= now_ns) {
            cohorti_cluster_dial(c, now_ns, m);
        } else {
            cohorti_cluster_schedule(c, now_ns, m);
        }
    }
}

/* Links are walked through the members and the strangers, in order of id and age, never in order of the hash table. */
void cohorti_cluster_stop(struct cohorti_cluster *c)
{
    c->stopping = true;
    for (size_t i = 0; i < c->member_count; i++) {
        cohorti_timer_cancel(&c->timers, &c->members[i]->dial_timer);
        COHORTI_LIST_FOREACH (it, &c->members[i]->links) {
            struct cohorti_cluster_link *link = COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_member);
            if (link->state == COHORTI_CLUSTER_LINK_OPEN) {
                link->state = COHORTI_CLUSTER_LINK_CLOSING;
                cohorti_effects_push(&c->effects, COHORTI_EFFECT_LEAVE, link->number)->code = COHORT_ECLOSED;
            } else {
                cohorti_cluster_link_close(c, link, COHORT_ECLOSED);
            }
        }
    }
    COHORTI_LIST_FOREACH_SAFE (it, &c->strangers) {
        cohorti_cluster_link_close(c, COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_strangers), COHORT_ECLOSED);
    }
}

void cohorti_cluster_greeting(const struct cohorti_cluster *c, uint32_t attempt, struct cohorti_hello *out)
{
    const cohort_member *self = &c->self->public;
    memset(out, 0, sizeof *out);
    cohorti_copy_string(out->id, sizeof out->id, self->id);
    cohorti_copy_string(out->ip, sizeof out->ip, self->ip);
    out->tcp_port = self->tcp_port;
    out->extended = true;
    out->version_min = COHORTI_PROTOCOL_VERSION;
    out->version_max = COHORTI_PROTOCOL_VERSION;
    out->incarnation = self->incarnation;
    cohorti_copy_string(out->cluster, sizeof out->cluster, c->config.cluster);
    out->attempt = attempt;
}

bool cohorti_cluster_is_idle(const struct cohorti_cluster *c)
{
    return c->stopping && c->links.count == 0;
}

bool cohorti_cluster_poll(struct cohorti_cluster *c, struct cohorti_effect *out)
{
    if (cohorti_effects_pop(&c->effects, out)) {
        return true;
    }
    cohorti_effects_shrink(&c->effects, room_for(c->links.count));
    return false;
}

uint64_t cohorti_cluster_deadline(const struct cohorti_cluster *c)
{
    return cohorti_timers_deadline(&c->timers);
}

void cohorti_cluster_on_timer(struct cohorti_cluster *c, uint64_t now_ns)
{
    struct cohorti_timer *timer;
    while ((timer = cohorti_timers_pop(&c->timers, now_ns)) != NULL) {
        if (timer->kind == COHORTI_TIMER_DIAL) {
            cohorti_cluster_dial_due(c, now_ns, COHORTI_CONTAINER(timer, struct cohorti_member, dial_timer));
        } else {
            struct cohorti_cluster_link *link = COHORTI_CONTAINER(timer, struct cohorti_cluster_link, timer);
            bool dialling = link->state == COHORTI_CLUSTER_LINK_DIALLING;
            cohorti_cluster_link_close(c, link, dialling ? COHORT_EUNREACHABLE : COHORT_EHANDSHAKE);
        }
    }
}
