/* SPDX-License-Identifier: Apache-2.0
 *
 * Links: greeted, admitted or refused, opened, replaced, gone. How they begin is in cluster_dial.c.
 *
 * The checks on a HELLO stand in one list, check_hello(): the first that fails is the reason the peer is told.
 * A legacy peer is treated gently: it is told nothing it cannot read, duplicates of it are kept, and while a link of it stands
 * it is not dialled.
 */
#include "core/cluster_internal.h"
#include "core/link_choice.h"

#include "base/alloc.h"
#include "base/text.h"

#include <assert.h>
#include <string.h>

#define INCARNATION_RAISE_MAX (UINT64_C(366) * 86400 * 1000000) /* a year: no peer can push us further ahead */
#define INCARNATION_RAISES_MAX 3
#define HANDSHAKES_PER_MEMBER_MAX 8
#define INCARNATION_RAISE_REFILL_NS (UINT64_C(600) * 1000 * COHORTI_NS_PER_MS)

/* ---- the table of links -------------------------------------------------------------------------------------------- */

struct cohorti_cluster_link *cohorti_cluster_link_find(const struct cohorti_cluster *c, uint64_t number)
{
    struct cohorti_map_node *node = cohorti_map_find(&c->links, cohorti_hash_u64(number));
    while (node != NULL && ((struct cohorti_cluster_link *)node)->number != number) {
        node = cohorti_map_find_next(node, cohorti_hash_u64(number));
    }
    return (struct cohorti_cluster_link *)node;
}

struct cohorti_cluster_link *cohorti_cluster_link_new(struct cohorti_cluster *c, enum cohorti_cluster_link_state state)
{
    if (cohorti_cluster_make_room(c, 1) != COHORT_OK) {
        return NULL;
    }
    struct cohorti_cluster_link *link = cohorti_alloc_zero(c->alloc, sizeof *link);
    if (link == NULL) {
        return NULL;
    }
    link->number = c->link_next++;
    link->state = state;
    cohorti_list_init(&link->of_member);
    cohorti_list_init(&link->of_strangers);
    cohorti_timer_init(&link->timer);
    cohorti_map_insert(&c->links, &link->node, cohorti_hash_u64(link->number));
    return link;
}

static void leave_strangers(struct cohorti_cluster *c, struct cohorti_cluster_link *link)
{
    if (!cohorti_list_empty(&link->of_strangers)) {
        cohorti_list_remove(&link->of_strangers);
        c->stranger_count--;
    }
}

void cohorti_cluster_link_bind(struct cohorti_cluster_link *link, struct cohorti_member *m)
{
    if (link->member == NULL) {
        link->member = m;
        cohorti_list_append(&m->links, &link->of_member);
    }
}

void cohorti_cluster_link_free(struct cohorti_cluster *c, struct cohorti_cluster_link *link)
{
    leave_strangers(c, link);
    cohorti_list_remove(&link->of_member);
    cohorti_timer_cancel(&c->timers, &link->timer);
    cohorti_map_remove(&c->links, &link->node);
    cohorti_release(c->alloc, link);
}

/* It is no candidate any more, from here on: the shell's closed() may take a while. */
static bool begin_closing(struct cohorti_cluster *c, struct cohorti_cluster_link *link)
{
    if (link->state == COHORTI_CLUSTER_LINK_CLOSING) {
        return false;
    }
    link->state = COHORTI_CLUSTER_LINK_CLOSING;
    leave_strangers(c, link);
    cohorti_timer_cancel(&c->timers, &link->timer);
    return true;
}

void cohorti_cluster_link_close(struct cohorti_cluster *c, struct cohorti_cluster_link *link, int code)
{
    if (begin_closing(c, link)) {
        cohorti_effects_push(&c->effects, COHORTI_EFFECT_CLOSE, link->number)->code = code;
    }
}

/* Tell the peer why, then close. */
static void refuse(struct cohorti_cluster *c, struct cohorti_cluster_link *link, int code, uint64_t value, const char *text)
{
    if (!begin_closing(c, link)) {
        return;
    }
    if (code == COHORT_EDUPLICATE || code == COHORT_ESUPERSEDED) {
        link->redundant = true;
    } else {
        link->refused = true;
    }
    struct cohorti_effect *effect = cohorti_effects_push(&c->effects, COHORTI_EFFECT_REFUSE, link->number);
    effect->code = code;
    effect->u.refuse.value = value;
    effect->u.refuse.legacy = link->legacy;
    cohorti_copy_string(effect->u.refuse.text, sizeof effect->u.refuse.text, text);
}

/* ---- the peer's HELLO ---------------------------------------------------------------------------------------------- */

static int check_identity(const struct cohorti_cluster *c, const struct cohorti_cluster_link *link,
                          const struct cohorti_hello *hello, struct cohorti_text *why)
{
    if (strcmp(hello->id, c->self->public.id) == 0) {
        cohorti_text_add(why, "id ");
        cohorti_text_add(why, hello->id);
        return COHORT_EOWNID;
    }
    if (hello->cluster[0] != '\0' && c->config.cluster[0] != '\0' && strcmp(hello->cluster, c->config.cluster) != 0) {
        cohorti_text_add(why, "cluster \"");
        cohorti_text_add(why, hello->cluster);
        cohorti_text_add(why, "\", ours is \"");
        cohorti_text_add(why, c->config.cluster);
        cohorti_text_add(why, "\"");
        return COHORT_ECLUSTER;
    }
    if (link->dialled && strcmp(link->member->public.id, hello->id) != 0) {
        cohorti_text_add(why, "dialled ");
        cohorti_text_add(why, link->member->public.id);
        cohorti_text_add(why, ", found ");
        cohorti_text_add(why, hello->id);
        return COHORT_EIDENTITY;
    }
    if (hello->extended && (hello->version_min > COHORTI_PROTOCOL_VERSION || hello->version_max < COHORTI_PROTOCOL_VERSION)) {
        cohorti_text_add(why, "versions ");
        cohorti_text_add_u64(why, hello->version_min);
        cohorti_text_add(why, "-");
        cohorti_text_add_u64(why, hello->version_max);
        return COHORT_EVERSION;
    }
    return COHORT_OK;
}

static int check_membership(const struct cohorti_cluster *c, const struct cohorti_hello *hello)
{
    if (cohorti_member_removed_before(c, hello->id)) {
        return COHORT_EREMOVED;
    }
    if (cohorti_member_find(c, hello->id) == NULL) {
        if (!c->config.open_admission) {
            return COHORT_ENOTLISTED;
        }
        if (c->member_count >= c->config.limits.members_max) {
            return COHORT_ELIMIT;
        }
    }
    return COHORT_OK;
}

/* Links welcomed both ways: READY ones too, which only wait for an old link to go. */
static uint32_t count_standing(const struct cohorti_member *m, bool legacy)
{
    uint32_t count = 0;
    COHORTI_LIST_FOREACH (it, &m->links) {
        struct cohorti_cluster_link *link = COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_member);
        bool stands = link->state == COHORTI_CLUSTER_LINK_OPEN || link->state == COHORTI_CLUSTER_LINK_READY;
        count += stands && link->legacy == legacy;
    }
    return count;
}

/* A legacy HELLO has no incarnation, so it proves nothing against a cohort link that stands. */
static int check_incarnation(const struct cohorti_cluster *c, const struct cohorti_member *m, const struct cohorti_hello *hello)
{
    if (m == NULL) {
        return COHORT_OK;
    }
    if (!hello->extended) {
        bool too_many = count_standing(m, true) >= c->config.limits.legacy_links_max;
        return too_many || count_standing(m, false) > 0 ? COHORT_EDUPLICATE : COHORT_OK;
    }
    return hello->incarnation < m->public.incarnation ? COHORT_ESTALE : COHORT_OK;
}

static struct cohorti_link_claim claim(const struct cohorti_cluster *c, const struct cohorti_cluster_link *link)
{
    return (struct cohorti_link_claim){.attempt = link->attempt,
                                       .dialler_id = link->dialled ? c->self->public.id : link->member->public.id};
}

/* The peer is a new process: whatever stood to the old one is over. */
static void end_old_incarnation(struct cohorti_cluster *c, struct cohorti_member *m, const struct cohorti_cluster_link *except)
{
    COHORTI_LIST_FOREACH (it, &m->links) {
        struct cohorti_cluster_link *link = COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_member);
        if (link != except && cohorti_cluster_link_is_candidate(link)) {
            cohorti_cluster_link_close(c, link, COHORT_ERESTARTED);
        }
    }
    cohorti_member_deactivate(c, m, COHORT_ERESTARTED);
}

static bool better_exists(const struct cohorti_cluster *c, const struct cohorti_cluster_link *link)
{
    struct cohorti_link_claim ours = claim(c, link);
    COHORTI_LIST_FOREACH (it, &link->member->links) {
        const struct cohorti_cluster_link *other = COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_member);
        if (other != link && cohorti_cluster_link_is_candidate(other)) {
            struct cohorti_link_claim theirs = claim(c, other);
            if (!cohorti_link_claim_better(&ours, &theirs)) {
                return true;
            }
        }
    }
    return false;
}

/* Two dials cross, and ours is the one to stay: if both were admitted, the worse might open first, and what was sent on it would
 * be lost with it. So the worse waits until ours is welcomed, which ends it, or has come to nothing. */
static bool better_under_way(const struct cohorti_cluster *c, const struct cohorti_cluster_link *link)
{
    struct cohorti_link_claim ours = claim(c, link);
    COHORTI_LIST_FOREACH (it, &link->member->links) {
        const struct cohorti_cluster_link *other = COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_member);
        bool greeting = other->state == COHORTI_CLUSTER_LINK_GREETING;
        if (other != link && (greeting || cohorti_cluster_link_is_candidate(other))) {
            struct cohorti_link_claim theirs = claim(c, other);
            if (cohorti_link_claim_better(&theirs, &ours)) {
                return true;
            }
        }
    }
    return false;
}

static void learn(struct cohorti_cluster *c, struct cohorti_member *m, const struct cohorti_cluster_link *link,
                  const struct cohorti_hello *hello)
{
    bool changed = false;
    if (hello->extended && hello->incarnation > m->public.incarnation) {
        end_old_incarnation(c, m, link);
        m->public.incarnation = hello->incarnation;
        changed = true;
    }
    if (!m->configured && (strcmp(m->public.ip, hello->ip) != 0 || m->public.tcp_port != hello->tcp_port)) {
        cohorti_copy_string(m->public.ip, sizeof m->public.ip, hello->ip);
        m->public.tcp_port = hello->tcp_port;
        changed = true;
    }
    if (link->attempt > m->attempt_max) {
        m->attempt_max = link->attempt;
    }
    if (changed) {
        cohorti_member_update(c, m);
    }
}

static void open_link(struct cohorti_cluster *c, struct cohorti_cluster_link *link)
{
    struct cohorti_member *m = link->member;
    link->state = COHORTI_CLUSTER_LINK_OPEN;
    link->was_open = true;
    cohorti_timer_cancel(&c->timers, &link->timer);
    cohorti_timer_cancel(&c->timers, &m->dial_timer);
    struct cohorti_effect *effect = cohorti_effects_push(&c->effects, COHORTI_EFFECT_OPEN, link->number);
    cohorti_copy_string(effect->u.open.id, sizeof effect->u.open.id, m->public.id);
    effect->u.open.legacy = link->legacy;
    bool stranger = link->legacy && !m->configured; /* a member only because it greeted */
    effect->u.open.idle_ns = stranger ? c->config.limits.legacy_idle_ms * COHORTI_NS_PER_MS : 0;
    bool replaces_other_kind = m->public.state == COHORT_ACTIVE && m->public.legacy != link->legacy;
    m->public.legacy = link->legacy;
    if (replaces_other_kind) {
        cohorti_member_update(c, m); /* otherwise the event below tells */
    }
    m->lost_code = COHORT_OK;
    cohorti_member_activate(c, m);
    cohorti_effects_push(&c->effects, COHORTI_EFFECT_RECEIVE, link->number);

    COHORTI_LIST_FOREACH (it, &m->links) /* a dial of ours that has not even connected is not needed any more */
    {
        struct cohorti_cluster_link *other = COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_member);
        if (other->state == COHORTI_CLUSTER_LINK_DIALLING) {
            other->redundant = true;
            cohorti_cluster_link_close(c, other, COHORT_EDUPLICATE);
        }
    }
}

/* The open link of which the peer has let go, since it dialled `link` with a higher number; or NULL. */
static struct cohorti_cluster_link *find_forsaken(const struct cohorti_member *m, const struct cohorti_cluster_link *link)
{
    COHORTI_LIST_FOREACH (it, &m->links) {
        struct cohorti_cluster_link *open = COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_member);
        if (open->state == COHORTI_CLUSTER_LINK_OPEN && !open->legacy && !link->dialled && link->attempt > open->attempt) {
            return open;
        }
    }
    return NULL;
}

static void admit(struct cohorti_cluster *c, uint64_t now_ns, struct cohorti_cluster_link *link)
{
    struct cohorti_effect *effect = cohorti_effects_push(&c->effects, COHORTI_EFFECT_ADMIT, link->number);
    effect->u.admit.version = link->legacy ? 0 : COHORTI_PROTOCOL_VERSION;
    if (link->legacy) {
        open_link(c, link);
    } else {
        link->state = COHORTI_CLUSTER_LINK_ADMITTED;
        link->replaces = find_forsaken(link->member, link) != NULL;
    }
}

/* COHORT_OK when the link may go on as one of *member, which is made if need be. */
static int check_hello(struct cohorti_cluster *c, uint64_t now_ns, struct cohorti_cluster_link *link,
                       const struct cohorti_hello *hello, struct cohorti_member **member, struct cohorti_text *why)
{
    int status = check_identity(c, link, hello, why);
    if (status == COHORT_OK) {
        status = check_membership(c, hello);
    }
    *member = cohorti_member_find(c, hello->id);
    if (status == COHORT_OK) {
        status = check_incarnation(c, *member, hello);
    }
    if (status == COHORT_OK && *member == NULL) {
        status = cohorti_member_new(c, now_ns, hello->id, hello->ip, hello->tcp_port, member);
    }
    return status;
}

/* A peer dials only when it holds no link, so of many that it began and never finished all but the last few are dead to it. Kept
 * until their deadline, they would let one greeted peer hold as many connections as it likes. */
static void limit_handshakes(struct cohorti_cluster *c, const struct cohorti_cluster_link *link)
{
    uint32_t unopened = 0;
    struct cohorti_cluster_link *oldest = NULL;
    COHORTI_LIST_FOREACH (it, &link->member->links) {
        struct cohorti_cluster_link *other = COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_member);
        bool waits = other->state == COHORTI_CLUSTER_LINK_ADMITTED || other->state == COHORTI_CLUSTER_LINK_HELD;
        if (other != link && waits && !other->dialled) {
            oldest = oldest == NULL ? other : oldest;
            unopened++;
        }
    }
    if (unopened >= HANDSHAKES_PER_MEMBER_MAX) {
        refuse(c, oldest, COHORT_EDUPLICATE, 0, "");
    }
}

void cohorti_cluster_hello(struct cohorti_cluster *c, uint64_t now_ns, uint64_t number, const struct cohorti_hello *hello)
{
    struct cohorti_cluster_link *link = cohorti_cluster_link_find(c, number);
    if (link == NULL || link->state != COHORTI_CLUSTER_LINK_GREETING) {
        return;
    }
    leave_strangers(c, link);
    link->legacy = !hello->extended;
    if (!link->dialled) {
        link->attempt = hello->attempt;
    }
    char text[192];
    struct cohorti_text why;
    cohorti_text_init(&why, text, sizeof text);
    struct cohorti_member *m = NULL;
    int status = check_hello(c, now_ns, link, hello, &m, &why);
    if (status != COHORT_OK) {
        refuse(c, link, status, status == COHORT_ESTALE ? m->public.incarnation : 0, text);
        return;
    }
    cohorti_cluster_link_bind(link, m);
    link->incarnation = hello->incarnation;
    learn(c, m, link, hello);
    if (!link->legacy && better_exists(c, link)) {
        refuse(c, link, COHORT_EDUPLICATE, 0, "");
        return;
    }
    limit_handshakes(c, link);
    if (!link->legacy && better_under_way(c, link)) {
        link->state = COHORTI_CLUSTER_LINK_HELD;
    } else {
        admit(c, now_ns, link);
    }
    cohorti_cluster_schedule(c, now_ns, m); /* a link is on its way: no dial meanwhile */
}

/* ---- both welcomed ------------------------------------------------------------------------------------------------- */

static struct cohorti_cluster_link *find_in_state(const struct cohorti_member *m, enum cohorti_cluster_link_state state)
{
    COHORTI_LIST_FOREACH (it, &m->links) {
        struct cohorti_cluster_link *link = COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_member);
        if (link->state == state) {
            return link;
        }
    }
    return NULL;
}

/* Links of this member that were open and are not gone: while one is left, messages of it may still be on their way to
 * handlers, and a new link must not overtake them. */
static bool lingers(const struct cohorti_cluster_link *link)
{
    return link->was_open && !link->legacy;
}

static bool old_link_lingers(const struct cohorti_cluster *c, const struct cohorti_member *m)
{
    COHORTI_LIST_FOREACH (it, &m->links) {
        if (lingers(COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_member))) {
            return true;
        }
    }
    COHORTI_LIST_FOREACH (it, &c->orphans) {
        const struct cohorti_cluster_link *link = COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_member);
        if (lingers(link) && strcmp(link->orphan_of, m->public.id) == 0) {
            return true;
        }
    }
    return false;
}

/* `link` works in both directions: what it is better than goes. Not earlier: the peer may have opened one of those already, and
 * would tell its listeners of a loss; now that it has welcomed us here, it knows that something better comes. */
static void end_worse(struct cohorti_cluster *c, const struct cohorti_cluster_link *link)
{
    struct cohorti_link_claim ours = claim(c, link);
    COHORTI_LIST_FOREACH (it, &link->member->links) {
        struct cohorti_cluster_link *other = COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_member);
        if (other == link || !cohorti_cluster_link_is_candidate(other)) {
            continue;
        }
        struct cohorti_link_claim theirs = claim(c, other);
        if (other->state == COHORTI_CLUSTER_LINK_OPEN) {
            other->redundant = true;
            cohorti_cluster_link_close(c, other, COHORT_ESUPERSEDED);
        } else if (cohorti_link_claim_better(&ours, &theirs)) {
            refuse(c, other, COHORT_EDUPLICATE, 0, "");
        }
    }
}

void cohorti_cluster_welcome(struct cohorti_cluster *c, uint64_t now_ns, uint64_t number)
{
    struct cohorti_cluster_link *link = cohorti_cluster_link_find(c, number);
    if (link == NULL || link->state != COHORTI_CLUSTER_LINK_ADMITTED) {
        return;
    }
    end_worse(c, link);
    link->replaces = false;
    link->state = COHORTI_CLUSTER_LINK_READY;
    if (!old_link_lingers(c, link->member)) {
        open_link(c, link);
    }
}

/* ---- the end of a link --------------------------------------------------------------------------------------------- */

/* A peer knows a higher incarnation of our id: our clock was set back between two starts, or the last words of our previous
 * process were read late. Take a higher one. It may also be that another process runs with our id, and then the two would take turns
 * for ever: so only a few times, and rarely after that. (Not "never once a link stood": late words come to standing links too.) */
static bool may_raise(struct cohorti_cluster *c, uint64_t now_ns)
{
    while (c->raises > 0 && now_ns - c->raised_ns >= INCARNATION_RAISE_REFILL_NS) {
        c->raises--;
        c->raised_ns += INCARNATION_RAISE_REFILL_NS;
    }
    if (c->raises >= INCARNATION_RAISES_MAX) {
        return false;
    }
    c->raised_ns = c->raises == 0 ? now_ns : c->raised_ns;
    c->raises++;
    return true;
}

static void raise_incarnation(struct cohorti_cluster *c, uint64_t now_ns, const struct cohorti_cluster_link *link, uint64_t known)
{
    uint64_t ours = c->self->public.incarnation;
    if (known < ours) {
        return; /* said of a HELLO from before we raised: crossing links are refused both */
    }
    bool plausible = known - ours < INCARNATION_RAISE_MAX && known < COHORTI_INCARNATION_MAX;
    struct cohorti_effect *note = cohorti_effects_push(&c->effects, COHORTI_EFFECT_NOTE, 0);
    note->code = COHORT_ESTALE;
    cohorti_copy_string(note->u.note.id, sizeof note->u.note.id, link->member == NULL ? "" : link->member->public.id);
    struct cohorti_text text;
    cohorti_text_init(&text, note->u.note.text, sizeof note->u.note.text);
    if (!plausible || !may_raise(c, now_ns)) {
        cohorti_text_add(&text, "does another process run with our id? it knows incarnation ");
        cohorti_text_add_u64(&text, known);
        return;
    }
    c->self->public.incarnation = known + 1;
    cohorti_member_update(c, c->self);
    cohorti_text_add(&text, "a higher incarnation of ours is known: raised to ");
    cohorti_text_add_u64(&text, known + 1);
}

void cohorti_cluster_refused(struct cohorti_cluster *c, uint64_t now_ns, uint64_t number, const struct cohorti_refuse *refused)
{
    struct cohorti_cluster_link *link = cohorti_cluster_link_find(c, number);
    if (link == NULL || link->state == COHORTI_CLUSTER_LINK_CLOSING) {
        return;
    }
    if (refused->reason == COHORT_EDUPLICATE || refused->reason == COHORT_ESUPERSEDED) {
        link->redundant = true;
    } else {
        link->refused = true;
    }
    if (refused->reason == COHORT_ESTALE) {
        raise_incarnation(c, now_ns, link, refused->value);
    }
    cohorti_cluster_link_close(c, link, COHORT_EREMOTE);
}

/* What the end of this link means for the next dial. */
static void tell_dialler(struct cohorti_cluster *c, uint64_t now_ns, struct cohorti_member *m,
                         const struct cohorti_cluster_link *link, int code)
{
    const cohort_dial_policy *policy = &c->config.dial;
    bool in_vain = link->was_open && code == COHORT_EPROTOCOL; /* the next one may end as this one did */
    if (link->refused || in_vain) {
        cohorti_dialler_refused(&m->dialler, policy, c->started_ns, now_ns, &c->prng);
    } else if (link->was_open || link->redundant) {
        cohorti_dialler_lost(&m->dialler, policy, c->started_ns, now_ns, &c->prng);
    } else if (link->dialled && !link->connected) {
        m->dial_turn++;
        if (m->host_count > 1 && m->dial_turn % m->host_count != 0) {
            cohorti_dialler_next_address(&m->dialler, policy, c->started_ns, now_ns);
        } else if (code == COHORT_EREFUSED) {
            cohorti_dialler_absent(&m->dialler, policy, c->started_ns, now_ns, &c->prng);
        } else {
            cohorti_dialler_failed(&m->dialler, policy, c->started_ns, now_ns, &c->prng);
        }
    } else if (link->dialled) {
        cohorti_dialler_failed(&m->dialler, policy, c->started_ns, now_ns, &c->prng);
    }
}

static void admit_held(struct cohorti_cluster *c, uint64_t now_ns, struct cohorti_member *m)
{
    COHORTI_LIST_FOREACH (it, &m->links) {
        struct cohorti_cluster_link *link = COHORTI_CONTAINER(it, struct cohorti_cluster_link, of_member);
        if (link->state == COHORTI_CLUSTER_LINK_HELD && !better_under_way(c, link)) {
            admit(c, now_ns, link);
        }
    }
}

/* `link` was to replace an open one, and ended before. If it ended at our end only, the peer may have opened it and hold its dead half, as
 * we hold that of the old one: both would take the other for ACTIVE and neither would dial, until TCP finds out, if ever. So the old one
 * goes too. (It may be alive, if the numbers of the peer were ahead by dials in vain, and we read the last one late: then it costs a dial.) */
static void end_forsaken(struct cohorti_cluster *c, const struct cohorti_member *m, const struct cohorti_cluster_link *link)
{
    bool another_comes = find_in_state(m, COHORTI_CLUSTER_LINK_ADMITTED) != NULL;
    struct cohorti_cluster_link *open = find_forsaken(m, link);
    if (link->replaces && !link->redundant && !another_comes && !c->stopping && open != NULL) {
        cohorti_cluster_link_close(c, open, COHORT_EPEERCLOSED);
    }
}

/* No link to it is open, and none is on its way. It is told when the last is gone that may still bring messages. */
static void lose(struct cohorti_cluster *c, struct cohorti_member *m, int code)
{
    if (m->public.state == COHORT_ACTIVE) {
        m->lost_code = m->lost_code == COHORT_OK ? code : m->lost_code;
        if (!old_link_lingers(c, m)) {
            cohorti_member_deactivate(c, m, m->lost_code);
        }
    }
}

void cohorti_cluster_closed(struct cohorti_cluster *c, uint64_t now_ns, uint64_t number, int code)
{
    struct cohorti_cluster_link *link = cohorti_cluster_link_find(c, number);
    if (link == NULL) {
        return;
    }
    begin_closing(c, link);
    bool orphan = link->orphan_of[0] != '\0'; /* its member was removed, and perhaps added again */
    struct cohorti_member *m = orphan ? cohorti_member_find(c, link->orphan_of) : link->member;
    cohorti_list_remove(&link->of_member);
    if (m != NULL && find_in_state(m, COHORTI_CLUSTER_LINK_OPEN) == NULL) {
        struct cohorti_cluster_link *ready = find_in_state(m, COHORTI_CLUSTER_LINK_READY);
        if (ready != NULL && !old_link_lingers(c, m)) {
            open_link(c, ready);
        } else if (ready == NULL && find_in_state(m, COHORTI_CLUSTER_LINK_ADMITTED) == NULL) {
            lose(c, m, code);
        }
    }
    if (m != NULL) {
        admit_held(c, now_ns, m);
        if (!orphan) {
            end_forsaken(c, m, link);
            tell_dialler(c, now_ns, m, link, code);
        }
        cohorti_cluster_schedule(c, now_ns, m);
    }
    cohorti_cluster_link_free(c, link);
}
