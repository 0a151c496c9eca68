/* SPDX-License-Identifier: Apache-2.0
 *
 * How links begin: when a member is dialled, and dialled or accepted up to our HELLO. What comes of it is in cluster_link.c.
 */
#include "core/cluster_internal.h"

#include "base/text.h"

#define LATE_NS (20 * COHORTI_NS_PER_MS)

/* A link that is there or on its way. */
static bool has_link(const struct cohorti_member *m)
{
    COHORTI_LIST_FOREACH (it, &m->links) {
        if (COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_member)->state != COHORTI_CLUSTER_LINK_CLOSING) {
            return true;
        }
    }
    return false;
}

void cohorti_cluster_schedule(struct cohorti_cluster *c, uint64_t now_ns, struct cohorti_member *m)
{
    if (!c->started || c->stopping || m == c->self || has_link(m)) {
        cohorti_timer_cancel(&c->timers, &m->dial_timer);
        return;
    }
    m->dial_timer.kind = COHORTI_TIMER_DIAL;
    cohorti_timer_set(&c->timers, &m->dial_timer, m->dialler.next_ns > now_ns ? m->dialler.next_ns : now_ns);
}

void cohorti_cluster_dial(struct cohorti_cluster *c, uint64_t now_ns, struct cohorti_member *m)
{
    struct cohorti_cluster_link *link = cohorti_cluster_link_new(c, COHORTI_CLUSTER_LINK_DIALLING);
    if (link == NULL) {
        cohorti_dialler_failed(&m->dialler, &c->config.dial, c->started_ns, now_ns, &c->prng);
        cohorti_cluster_schedule(c, now_ns, m);
        return;
    }
    link->dialled = true;
    m->attempt_max += m->attempt_max < UINT32_MAX;
    link->attempt = m->attempt_max;
    m->host_count = 0;
    cohorti_cluster_link_bind(link, m);
    cohorti_timer_set(&c->timers, &link->timer, now_ns + c->config.dial.connect_timeout_ms * COHORTI_NS_PER_MS);
    struct cohorti_effect *effect = cohorti_effects_push(&c->effects, COHORTI_EFFECT_DIAL, link->number);
    cohorti_copy_string(effect->u.dial.host, sizeof effect->u.dial.host, m->public.ip);
    cohorti_copy_string(effect->u.dial.id, sizeof effect->u.dial.id, m->public.id);
    effect->u.dial.port = m->public.tcp_port;
    effect->u.dial.turn = m->dial_turn;
}

/* A timer that comes late tells that the loop is behind with its work: what came since then, perhaps the peer's own HELLO, is not
 * read yet. So that is read first, and a dial that failed before waits a little more; once, since a loop may be late for ever. */
void cohorti_cluster_dial_due(struct cohorti_cluster *c, uint64_t now_ns, struct cohorti_member *m)
{
    bool late = now_ns - m->dialler.next_ns > LATE_NS && m->dialler.failures > 0 && c->config.dial.mode == COHORT_DIAL_BACKOFF;
    if (late && !m->put_off) {
        m->put_off = true;
        m->dialler.next_ns = now_ns + c->config.dial.delay_min_ms * COHORTI_NS_PER_MS;
        cohorti_cluster_schedule(c, now_ns, m);
        return;
    }
    m->put_off = false;
    cohorti_cluster_dial(c, now_ns, m);
}

static const struct cohorti_cluster_link *find_candidate(const struct cohorti_member *m)
{
    COHORTI_LIST_FOREACH (it, &m->links) {
        const struct cohorti_cluster_link *link = COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_member);
        if (cohorti_cluster_link_is_candidate(link)) {
            return link;
        }
    }
    return NULL;
}

static void begin_greeting(struct cohorti_cluster *c, uint64_t now_ns, struct cohorti_cluster_link *link)
{
    link->state = COHORTI_CLUSTER_LINK_GREETING;
    cohorti_timer_set(&c->timers, &link->timer, now_ns + c->config.limits.handshake_timeout_ms * COHORTI_NS_PER_MS);
    cohorti_effects_push(&c->effects, COHORTI_EFFECT_GREET, link->number)->u.greet.attempt = link->attempt;
}

int cohorti_cluster_accepted(struct cohorti_cluster *c, uint64_t now_ns, uint64_t *number)
{
    if (c->stopping) {
        return COHORT_ECLOSED;
    }
    struct cohorti_cluster_link *link = cohorti_cluster_link_new(c, COHORTI_CLUSTER_LINK_GREETING);
    if (link == NULL) {
        return COHORT_ENOMEM;
    }
    if (c->stranger_count >= c->config.limits.handshakes_max && !cohorti_list_empty(&c->strangers)) {
        struct cohorti_list *oldest = c->strangers.next;
        cohorti_cluster_link_close(c, COHORTI_CONTAINER(oldest, struct cohorti_cluster_link, of_strangers), COHORT_ELIMIT);
    }
    cohorti_list_append(&c->strangers, &link->of_strangers);
    c->stranger_count++;
    begin_greeting(c, now_ns, link);
    *number = link->number;
    return COHORT_OK;
}

void cohorti_cluster_resolved(struct cohorti_cluster *c, uint64_t number, uint32_t count)
{
    struct cohorti_cluster_link *link = cohorti_cluster_link_find(c, number);
    if (link != NULL && link->state == COHORTI_CLUSTER_LINK_DIALLING && link->member != NULL) {
        link->member->host_count = count;
    }
}

void cohorti_cluster_connected(struct cohorti_cluster *c, uint64_t now_ns, uint64_t number)
{
    struct cohorti_cluster_link *link = cohorti_cluster_link_find(c, number);
    if (link == NULL || link->state != COHORTI_CLUSTER_LINK_DIALLING) {
        return;
    }
    link->connected = true;
    if (find_candidate(link->member) != NULL) { /* too late: we have taken the peer's link */
        link->redundant = true;
        cohorti_cluster_link_close(c, link, COHORT_EDUPLICATE);
        return;
    }
    begin_greeting(c, now_ns, link);
}

const char *cohorti_cluster_dialled(const struct cohorti_cluster *c, uint64_t number)
{
    const struct cohorti_cluster_link *link = cohorti_cluster_link_find(c, number);
    return link != NULL && link->dialled && link->member != NULL ? link->member->public.id : NULL;
}

void cohorti_cluster_received(struct cohorti_cluster *c, uint64_t number)
{
    struct cohorti_cluster_link *link = cohorti_cluster_link_find(c, number);
    if (link != NULL && link->dialled && link->member != NULL) {
        cohorti_dialler_received(&link->member->dialler);
    }
}
