/* SPDX-License-Identifier: Apache-2.0
 *
 * The promises of the cluster, one function each: of its effects (watch_effect) and of its state (watch_state).
 */
#include "cluster_watch.h"

#include "core/cluster_internal.h"
#include "fuzz.h"

#include <string.h>

#define YEAR_US (UINT64_C(366) * 86400 * 1000000)
#define RAISES_MAX 3

void watch_init(struct watch *w, const struct cohorti_cluster *c)
{
    memset(w, 0, sizeof(*w));
    w->incarnation_start = w->incarnation_self = c->config.incarnation;
    w->legacy_links_max = c->config.limits.legacy_links_max;
}

struct watch_link *watch_new_link(struct watch *w, uint64_t number)
{
    FUZZ_CHECK(number > 0 && watch_find_link(w, number) == NULL); /* numbers are never used again */
    FUZZ_CHECK(w->link_count < WATCH_LINKS_MAX);
    struct watch_link *link = &w->links[w->link_count++];
    *link = (struct watch_link){.number = number};
    return link;
}

struct watch_link *watch_find_link(struct watch *w, uint64_t number)
{
    for (size_t i = 0; i < w->link_count; i++) {
        if (w->links[i].number == number) {
            return &w->links[i];
        }
    }
    return NULL;
}

size_t watch_live_links(const struct watch *w)
{
    size_t live = 0;
    for (size_t i = 0; i < w->link_count; i++) {
        live += !w->links[i].gone;
    }
    return live;
}

static struct watch_member *find_member(struct watch *w, const char *id)
{
    for (size_t i = 0; i < w->member_count; i++) {
        if (strcmp(w->members[i].id, id) == 0) {
            return &w->members[i];
        }
    }
    FUZZ_CHECK(w->member_count < WATCH_MEMBERS_MAX);
    struct watch_member *m = &w->members[w->member_count++];
    *m = (struct watch_member){.present = false};
    memcpy(m->id, id, strlen(id) + 1);
    return m;
}

/* ---- effects ------------------------------------------------------------------------------------------------------- */

/* The open links of a member that are still there, this one left out. */
static uint32_t count_open(const struct watch *w, const struct watch_link *except, const char *id, bool legacy, bool ending_too)
{
    uint32_t count = 0;
    for (size_t i = 0; i < w->link_count; i++) {
        const struct watch_link *l = &w->links[i];
        count += l != except && l->open && !l->gone && l->legacy == legacy && (ending_too || !l->told_end) && strcmp(l->id, id) == 0;
    }
    return count;
}

static void on_open(struct watch *w, struct watch_link *link, const struct cohorti_effect *fx)
{
    FUZZ_CHECK(link->admitted && !link->open && !link->told_end);
    FUZZ_CHECK(link->legacy == fx->u.open.legacy && (link->legacy || link->welcomed));
    FUZZ_CHECK(find_member(w, fx->u.open.id)->present);
    memcpy(link->id, fx->u.open.id, sizeof(link->id));
    link->open = true;
    if (link->legacy) {
        FUZZ_CHECK(count_open(w, NULL, link->id, true, false) <= w->legacy_links_max);
    } else {
        FUZZ_CHECK(count_open(w, link, link->id, false, true) == 0); /* the old one is gone before the new one opens */
    }
}

static void on_link_effect(struct watch *w, struct watch_link *link, const struct cohorti_effect *fx)
{
    switch (fx->type) {
    case COHORTI_EFFECT_GREET:
        FUZZ_CHECK(link->connected && !link->greeted && !link->told_end);
        FUZZ_CHECK(link->dialled == (fx->u.greet.attempt > 0));
        link->greeted = true;
        break;
    case COHORTI_EFFECT_ADMIT:
        FUZZ_CHECK(link->helloed && link->greeted && !link->admitted && !link->told_end);
        FUZZ_CHECK((fx->u.admit.version == 0) == link->legacy);
        link->admitted = true;
        break;
    case COHORTI_EFFECT_OPEN:
        on_open(w, link, fx);
        break;
    case COHORTI_EFFECT_RECEIVE:
        FUZZ_CHECK(link->open && !link->receiving && !link->told_end);
        FUZZ_CHECK(find_member(w, link->id)->active); /* ACTIVATED precedes the first message */
        link->receiving = true;
        break;
    case COHORTI_EFFECT_KEEP:
        FUZZ_CHECK(link->open && link->legacy && !link->told_end);
        break;
    case COHORTI_EFFECT_REFUSE:
        FUZZ_CHECK(link->helloed && !link->open && link->legacy == fx->u.refuse.legacy && fx->code < 0);
        FUZZ_CHECK(!link->told_end);
        link->told_end = true;
        break;
    case COHORTI_EFFECT_LEAVE:
        FUZZ_CHECK(link->open && !link->told_end);
        link->told_end = true;
        break;
    default:
        FUZZ_CHECK(fx->type == COHORTI_EFFECT_CLOSE && !link->told_end && fx->code < 0);
        link->told_end = true;
        break;
    }
}

static void take_incarnation(struct watch *w, struct watch_member *m, const cohort_member *now)
{
    if (now->local) {
        FUZZ_CHECK(now->incarnation >= w->incarnation_self);
        FUZZ_CHECK(now->incarnation <= w->incarnation_start + RAISES_MAX * (YEAR_US + 1));
        w->incarnation_self = now->incarnation;
        return;
    }
    FUZZ_CHECK(now->incarnation >= m->incarnation);
    m->incarnation = now->incarnation;
}

static void on_event(struct watch *w, const cohort_event *event)
{
    struct watch_member *m = find_member(w, event->member.id);
    FUZZ_CHECK(!event->member.local);
    switch (event->type) {
    case COHORT_MEMBER_ADDED:
        FUZZ_CHECK(!m->present && event->member.state == COHORT_INACTIVE);
        m->present = true;
        m->incarnation = 0;
        break;
    case COHORT_MEMBER_REMOVED:
        FUZZ_CHECK(m->present && !m->active && event->member.state == COHORT_INACTIVE);
        m->present = false;
        for (size_t i = 0; i < w->link_count; i++) { /* its links are nobody's from here on: a member added later is another one */
            if (strcmp(w->links[i].id, m->id) == 0) {
                w->links[i].id[0] = '\0';
            }
        }
        break;
    case COHORT_MEMBER_ACTIVATED:
        FUZZ_CHECK(m->present && !m->active && event->member.state == COHORT_ACTIVE);
        m->active = true;
        break;
    case COHORT_MEMBER_DEACTIVATED:
        FUZZ_CHECK(m->present && m->active && event->member.state == COHORT_INACTIVE && event->reason < 0);
        m->active = false;
        break;
    }
    take_incarnation(w, m, &event->member);
}

void watch_effect(struct watch *w, const struct cohorti_effect *fx)
{
    struct watch_link *link = watch_find_link(w, fx->link);
    switch (fx->type) {
    case COHORTI_EFFECT_DIAL:
        FUZZ_CHECK(fx->u.dial.host[0] != '\0' && fx->u.dial.port != 0);
        watch_new_link(w, fx->link)->dialled = true;
        break;
    case COHORTI_EFFECT_EVENT:
        on_event(w, &fx->u.event);
        break;
    case COHORTI_EFFECT_UPDATE: {
        struct watch_member *m = find_member(w, fx->u.event.member.id);
        FUZZ_CHECK(m->present || fx->u.event.member.local);
        take_incarnation(w, m, &fx->u.event.member);
        break;
    }
    case COHORTI_EFFECT_NOTE:
        FUZZ_CHECK(fx->u.note.text[0] != '\0');
        break;
    default:
        FUZZ_CHECK(link != NULL);
        if (!link->gone) { /* it ended while this waited */
            on_link_effect(w, link, fx);
        }
        break;
    }
}

/* ---- state --------------------------------------------------------------------------------------------------------- */

static void check_link(struct watch *w, const struct cohorti_cluster_link *link, bool settled)
{
    bool ends = link->state == COHORTI_CLUSTER_LINK_CLOSING;
    bool waits = !ends && link->state != COHORTI_CLUSTER_LINK_OPEN;
    FUZZ_CHECK(cohorti_timer_is_set(&link->timer) == waits); /* nothing waits for ever */
    if (settled) {
        const struct watch_link *seen = watch_find_link(w, link->number);
        FUZZ_CHECK(seen != NULL && !seen->gone && seen->dialled == link->dialled);
        FUZZ_CHECK(seen->told_end == ends && (ends || seen->open == (link->state == COHORTI_CLUSTER_LINK_OPEN)));
    }
}

static void check_self(const struct cohorti_member *m)
{
    FUZZ_CHECK(m->public.local && m->public.state == COHORT_ACTIVE && cohorti_list_empty(&m->links));
    FUZZ_CHECK(!cohorti_timer_is_set(&m->dial_timer));
}

static bool is_candidate(const struct cohorti_cluster_link *link)
{
    return link->state == COHORTI_CLUSTER_LINK_ADMITTED || link->state == COHORTI_CLUSTER_LINK_READY ||
           link->state == COHORTI_CLUSTER_LINK_OPEN;
}

/* How many links of a member are in which state. */
struct census {
    uint32_t all, live, open, open_legacy, ready, was_open, was_open_cohort, successors;
};

static struct census take_census(struct watch *w, const struct cohorti_member *m, bool settled)
{
    struct census n = {.all = 0};
    COHORTI_LIST_FOREACH (it, &m->links) {
        const struct cohorti_cluster_link *link = COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_member);
        FUZZ_CHECK(link->member == m);
        FUZZ_CHECK(!is_candidate(link) || link->legacy || link->incarnation == m->public.incarnation);
        check_link(w, link, settled);
        n.all++;
        n.live += link->state != COHORTI_CLUSTER_LINK_CLOSING;
        n.open += link->state == COHORTI_CLUSTER_LINK_OPEN && !link->legacy;
        n.open_legacy += link->state == COHORTI_CLUSTER_LINK_OPEN && link->legacy;
        n.ready += link->state == COHORTI_CLUSTER_LINK_READY;
        n.was_open += link->was_open;
        n.successors += link->state == COHORTI_CLUSTER_LINK_ADMITTED || link->state == COHORTI_CLUSTER_LINK_CLOSING;
        n.was_open_cohort += link->was_open && !link->legacy;
    }
    return n;
}

/* Links of the same id from before it was removed and added again. */
static uint32_t count_lingering_orphans(const struct cohorti_cluster *c, const char *id)
{
    uint32_t count = 0;
    COHORTI_LIST_FOREACH (it, &c->orphans) {
        const struct cohorti_cluster_link *link = COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_member);
        count += link->was_open && !link->legacy && strcmp(link->orphan_of, id) == 0;
    }
    return count;
}

static uint32_t check_member(struct watch *w, const struct cohorti_cluster *c, const struct cohorti_member *m, bool settled)
{
    struct census n = take_census(w, m, settled);
    bool active = m->public.state == COHORT_ACTIVE;
    FUZZ_CHECK(n.open <= 1 && n.open_legacy <= c->config.limits.legacy_links_max);
    uint32_t old = n.was_open_cohort + count_lingering_orphans(c, m->public.id);
    FUZZ_CHECK(n.ready <= 1 && (n.ready == 0 || old > 0)); /* it waits for an old link and for nothing else */
    FUZZ_CHECK(active || n.open + n.open_legacy == 0);
    FUZZ_CHECK(!active || n.was_open + n.ready + n.successors > 0); /* what is being replaced stays ACTIVE meanwhile */
    bool dials = c->started && !c->stopping;
    FUZZ_CHECK(!cohorti_timer_is_set(&m->dial_timer) || (dials && n.live == 0));
    FUZZ_CHECK(!dials || n.all > 0 || cohorti_timer_is_set(&m->dial_timer));
    if (settled) {
        const struct watch_member *seen = find_member(w, m->public.id);
        FUZZ_CHECK(seen->present && seen->active == active && seen->incarnation == m->public.incarnation);
    }
    return n.all;
}

static uint32_t check_strangers(struct watch *w, const struct cohorti_cluster *c, bool settled)
{
    uint32_t count = 0;
    COHORTI_LIST_FOREACH (it, &c->strangers) {
        const struct cohorti_cluster_link *link = COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_strangers);
        FUZZ_CHECK(link->state == COHORTI_CLUSTER_LINK_GREETING && link->member == NULL && !link->dialled);
        check_link(w, link, settled);
        count++;
    }
    FUZZ_CHECK(count == c->stranger_count && count <= c->config.limits.handshakes_max);
    return count;
}

void watch_state(struct watch *w, const struct cohorti_cluster *c, bool settled)
{
    const cohort_limits *limits = &c->config.limits;
    size_t known = check_strangers(w, c, settled);
    FUZZ_CHECK(c->member_count >= 1 && c->member_count <= limits->members_max && c->removed_count <= limits->removed_max);
    for (size_t i = 0; i < c->member_count; i++) {
        const struct cohorti_member *m = c->members[i];
        FUZZ_CHECK(i == 0 || strcmp(c->members[i - 1]->public.id, m->public.id) < 0);
        if (m == c->self) {
            check_self(m);
        } else {
            known += check_member(w, c, m, settled);
        }
    }
    FUZZ_CHECK(known <= c->links.count); /* the rest are closing, and nobody's */
    if (settled) {
        FUZZ_CHECK(c->links.count == watch_live_links(w) && c->effects.count == 0);
        FUZZ_CHECK(w->incarnation_self == c->self->public.incarnation);
    }
    FUZZ_CHECK(c->raises <= RAISES_MAX);
}
