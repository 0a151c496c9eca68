/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of members, its tombstones, and the events about it.
 *
 * Members are kept in order of id, so that listing and iterating do not depend on memory layout. Every change of a member
 * that others can see goes out as an EVENT or an UPDATE effect. It decides nothing about links except that a removed member's
 * are closed.
 */
#include "core/cluster_internal.h"

#include "base/alloc.h"
#include "base/name.h"
#include "base/text.h"

#include <string.h>

/* ---- table --------------------------------------------------------------------------------------------------------- */

/* Index of the member with this id, or where it would stand. */
static size_t position(const struct cohorti_cluster *c, const char *id, bool *found)
{
    size_t low = 0, high = c->member_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(c->members[middle]->public.id, id);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *found = false;
    return low;
}

struct cohorti_member *cohorti_member_find(const struct cohorti_cluster *c, const char *id)
{
    bool found = false;
    size_t i = position(c, id, &found);
    return found ? c->members[i] : NULL;
}

bool cohorti_cluster_member_at(const struct cohorti_cluster *c, size_t i, cohort_member *out)
{
    if (i >= c->member_count) {
        return false;
    }
    *out = c->members[i]->public;
    return true;
}

bool cohorti_cluster_has_member(const struct cohorti_cluster *c, const char *id)
{
    return cohorti_member_find(c, id) != NULL;
}

int cohorti_member_reserve(struct cohorti_cluster *c, size_t more)
{
    size_t cap = c->member_cap == 0 ? 8 : c->member_cap;
    while (cap < c->member_count + more) {
        cap *= 2;
    }
    if (cap == c->member_cap) {
        return COHORT_OK;
    }
    struct cohorti_member **grown = cohorti_realloc(c->alloc, c->members, cap * sizeof(struct cohorti_member *));
    if (grown == NULL) {
        return COHORT_ENOMEM;
    }
    c->members = grown;
    c->member_cap = cap;
    return COHORT_OK;
}

struct cohorti_member *cohorti_member_make(struct cohorti_cluster *c, uint64_t now_ns, const char *id, const char *ip,
                                           uint16_t tcp_port)
{
    struct cohorti_member *m = cohorti_alloc_zero(c->alloc, sizeof *m);
    if (m != NULL) {
        cohorti_copy_string(m->public.id, sizeof m->public.id, id);
        cohorti_copy_string(m->public.ip, sizeof m->public.ip, ip);
        m->public.tcp_port = tcp_port;
        m->public.state = COHORT_INACTIVE;
        cohorti_list_init(&m->links);
        cohorti_timer_init(&m->dial_timer);
        cohorti_dialler_init(&m->dialler, &c->config.dial, c->started_ns, now_ns);
    }
    return m;
}

void cohorti_member_insert(struct cohorti_cluster *c, struct cohorti_member *m)
{
    bool found = false;
    size_t at = position(c, m->public.id, &found);
    memmove(&c->members[at + 1], &c->members[at], (c->member_count - at) * sizeof(struct cohorti_member *));
    c->members[at] = m;
    c->member_count++;
    cohorti_member_event(c, m, COHORT_MEMBER_ADDED, COHORT_OK);
}

int cohorti_member_new(struct cohorti_cluster *c, uint64_t now_ns, const char *id, const char *ip, uint16_t tcp_port,
                       struct cohorti_member **out)
{
    if (c->member_count >= c->config.limits.members_max) {
        return COHORT_ELIMIT;
    }
    int status = cohorti_member_reserve(c, 1);
    struct cohorti_member *m = status == COHORT_OK ? cohorti_member_make(c, now_ns, id, ip, tcp_port) : NULL;
    if (m == NULL) {
        return COHORT_ENOMEM;
    }
    cohorti_member_insert(c, m);
    *out = m;
    return COHORT_OK;
}

/* ---- events -------------------------------------------------------------------------------------------------------- */

void cohorti_member_event(struct cohorti_cluster *c, struct cohorti_member *m, cohort_event_type type, int reason)
{
    struct cohorti_effect *effect = cohorti_effects_push(&c->effects, COHORTI_EFFECT_EVENT, 0);
    effect->u.event = (cohort_event){.type = type, .member = m->public, .reason = reason};
}

void cohorti_member_update(struct cohorti_cluster *c, struct cohorti_member *m)
{
    struct cohorti_effect *effect = cohorti_effects_push(&c->effects, COHORTI_EFFECT_UPDATE, 0);
    effect->u.event.member = m->public;
}

void cohorti_member_activate(struct cohorti_cluster *c, struct cohorti_member *m)
{
    if (m->public.state != COHORT_ACTIVE) {
        m->public.state = COHORT_ACTIVE;
        cohorti_member_event(c, m, COHORT_MEMBER_ACTIVATED, COHORT_OK);
    }
}

void cohorti_member_deactivate(struct cohorti_cluster *c, struct cohorti_member *m, int reason)
{
    if (m->public.state == COHORT_ACTIVE) {
        m->public.state = COHORT_INACTIVE;
        cohorti_member_event(c, m, COHORT_MEMBER_DEACTIVATED, reason);
    }
}

/* ---- tombstones ---------------------------------------------------------------------------------------------------- */

static uint32_t tombstone(const struct cohorti_cluster *c, const char *id)
{
    uint32_t i = 0;
    while (i < c->removed_count && strcmp(c->removed[i], id) != 0) {
        i++;
    }
    return i;
}

bool cohorti_member_removed_before(const struct cohorti_cluster *c, const char *id)
{
    return tombstone(c, id) < c->removed_count;
}

static void bury(struct cohorti_cluster *c, const char *id)
{
    if (c->config.limits.removed_max == 0) {
        return;
    }
    uint32_t at = c->removed_count;
    if (c->removed_count < c->config.limits.removed_max) {
        c->removed_count++;
    } else {
        at = c->removed_next;
        c->removed_next = (c->removed_next + 1) % c->config.limits.removed_max;
    }
    cohorti_copy_string(c->removed[at], sizeof c->removed[at], id);
}

void cohorti_member_unbury(struct cohorti_cluster *c, const char *id)
{
    uint32_t at = tombstone(c, id);
    if (at < c->removed_count) {
        c->removed_count--;
        memmove(c->removed[at], c->removed[c->removed_count], sizeof c->removed[at]);
        c->removed_next = 0; /* the order of age is lost with the gap; only which one is forgotten first depends on it */
    }
}

/* ---- add and remove ------------------------------------------------------------------------------------------------ */

bool cohorti_member_address_valid(const char *ip, uint16_t tcp_port)
{
    return tcp_port != 0 && cohorti_host_valid(ip, strlen(ip));
}

/* To the former address nobody may ever answer: the next dial does not wait for that. */
static void give_up_dials(struct cohorti_cluster *c, const struct cohorti_member *m)
{
    COHORTI_LIST_FOREACH (it, &m->links) {
        struct cohorti_cluster_link *link = COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_member);
        if (link->state == COHORTI_CLUSTER_LINK_DIALLING) {
            link->redundant = true;
            cohorti_cluster_link_close(c, link, COHORT_EUNREACHABLE);
        }
    }
}

bool cohorti_member_readdress(struct cohorti_cluster *c, uint64_t now_ns, struct cohorti_member *m, const char *ip, uint16_t tcp_port)
{
    if (strcmp(m->public.ip, ip) == 0 && m->public.tcp_port == tcp_port) {
        return false;
    }
    cohorti_copy_string(m->public.ip, sizeof m->public.ip, ip);
    m->public.tcp_port = tcp_port;
    cohorti_member_update(c, m);
    cohorti_dialler_init(&m->dialler, &c->config.dial, c->started_ns, now_ns);
    give_up_dials(c, m);
    return true;
}

void cohorti_member_configure(struct cohorti_cluster *c, struct cohorti_member *m)
{
    if (m->configured) {
        return;
    }
    m->configured = true;
    COHORTI_LIST_FOREACH (it, &m->links) {
        const struct cohorti_cluster_link *link = COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_member);
        if (link->state == COHORTI_CLUSTER_LINK_OPEN && link->legacy && c->config.limits.legacy_idle_ms > 0) {
            cohorti_effects_push(&c->effects, COHORTI_EFFECT_KEEP, link->number);
        }
    }
}

int cohorti_cluster_add(struct cohorti_cluster *c, uint64_t now_ns, const char *id, const char *ip, uint16_t tcp_port)
{
    if (!cohorti_id_valid(id, strlen(id)) || !cohorti_member_address_valid(ip, tcp_port) || strcmp(id, c->self->public.id) == 0) {
        return COHORT_EINVAL;
    }
    if (c->stopping) {
        return COHORT_ECLOSED;
    }
    if (cohorti_cluster_make_room(c, 0) != COHORT_OK) {
        return COHORT_ENOMEM;
    }
    struct cohorti_member *m = cohorti_member_find(c, id);
    if (m == NULL) {
        int status = cohorti_member_new(c, now_ns, id, ip, tcp_port, &m);
        if (status != COHORT_OK) {
            return status;
        }
    } else {
        (void)cohorti_member_readdress(c, now_ns, m, ip, tcp_port);
    }
    cohorti_member_configure(c, m);
    m->added = true;
    cohorti_member_unbury(c, id);
    cohorti_cluster_schedule(c, now_ns, m);
    return COHORT_OK;
}

void cohorti_member_drop(struct cohorti_cluster *c, struct cohorti_member *m)
{
    bool found = false;
    size_t at = position(c, m->public.id, &found);
    struct cohorti_list *node;
    while ((node = cohorti_list_pop(&m->links)) != NULL) {
        struct cohorti_cluster_link *link = COHORTI_CONTAINER(node, struct cohorti_cluster_link, of_member);
        cohorti_cluster_link_close(c, link, COHORT_EREMOVED);
        link->member = NULL;
        cohorti_copy_string(link->orphan_of, sizeof link->orphan_of, m->public.id);
        cohorti_list_append(&c->orphans, node);
    }
    cohorti_timer_cancel(&c->timers, &m->dial_timer);
    cohorti_member_deactivate(c, m, COHORT_EREMOVED);
    cohorti_member_event(c, m, COHORT_MEMBER_REMOVED, COHORT_EREMOVED);
    bury(c, m->public.id);
    memmove(&c->members[at], &c->members[at + 1], (c->member_count - at - 1) * sizeof(struct cohorti_member *));
    c->member_count--;
    cohorti_release(c->alloc, m);
}

int cohorti_cluster_remove(struct cohorti_cluster *c, const char *id)
{
    struct cohorti_member *m = cohorti_member_find(c, id);
    if (m == NULL) {
        return COHORT_ENOPEER;
    }
    if (m == c->self) {
        return COHORT_EINVAL;
    }
    if (cohorti_cluster_make_room(c, 0) != COHORT_OK) {
        return COHORT_ENOMEM;
    }
    cohorti_member_drop(c, m);
    return COHORT_OK;
}
