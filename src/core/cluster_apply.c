/* SPDX-License-Identifier: Apache-2.0
 *
 * The members a definition gives: compare it with the one before, and do what differs.
 *
 * Rejected: comparing it with the members. Then every touch of the file would undo what add() and remove() did at run time.
 *
 * Invariant: a definition is applied whole or not at all. Two walks over the differences: the first counts them, then all that
 * can fail is done (limits, memory for members and effects), then the second makes them and cannot fail.
 */
#include "core/cluster_internal.h"

#include "base/alloc.h"
#include "base/name.h"
#include "base/text.h"

#include <assert.h>
#include <string.h>

#define NOTES_MAX 2 /* our own entry, the cluster's name */

void cohorti_listing_free(const cohort_allocator *alloc, struct cohorti_listing *listing)
{
    cohorti_release(alloc, listing->nodes);
    cohorti_release(alloc, listing->order);
    memset(listing, 0, sizeof *listing);
}

/* ---- the new listing ----------------------------------------------------------------------------------------------- */

/* Where an id stands, or would stand, in order. */
static size_t place(const struct cohorti_listing *listing, size_t ordered, const char *id, bool *found)
{
    size_t low = 0, high = ordered;
    *found = false;
    while (low < high && !*found) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(listing->nodes[listing->order[middle]].id, id);
        *found = order == 0;
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool node_valid(const cohort_definition_node *node)
{
    return memchr(node->id, '\0', sizeof node->id) != NULL && memchr(node->ip, '\0', sizeof node->ip) != NULL &&
           memchr(node->bind, '\0', sizeof node->bind) != NULL && cohorti_id_valid(node->id, strlen(node->id)) &&
           cohorti_member_address_valid(node->ip, node->tcp_port);
}

static int sort(struct cohorti_listing *listing, size_t *culprit)
{
    for (size_t i = 0; i < listing->count; i++) {
        bool found = true;
        size_t at = node_valid(&listing->nodes[i]) ? place(listing, i, listing->nodes[i].id, &found) : 0;
        if (found) {
            *culprit = i;
            return COHORT_EINVAL;
        }
        memmove(&listing->order[at + 1], &listing->order[at], (i - at) * sizeof listing->order[0]);
        listing->order[at] = (uint32_t)i;
    }
    return COHORT_OK;
}

static int make_listing(const cohort_allocator *alloc, const cohort_definition *definition, struct cohorti_listing *out,
                        size_t *culprit)
{
    memset(out, 0, sizeof *out);
    out->known = true;
    out->count = definition->node_count;
    cohorti_copy_string(out->cluster, sizeof out->cluster, definition->cluster);
    if (out->count == 0) {
        return COHORT_OK;
    }
    out->nodes = cohorti_alloc(alloc, out->count * sizeof out->nodes[0]);
    out->order = cohorti_alloc(alloc, out->count * sizeof out->order[0]);
    int status = out->nodes == NULL || out->order == NULL ? COHORT_ENOMEM : COHORT_OK;
    if (status == COHORT_OK) {
        memcpy(out->nodes, definition->nodes, out->count * sizeof out->nodes[0]);
        status = sort(out, culprit);
    }
    if (status != COHORT_OK) {
        cohorti_listing_free(alloc, out);
    }
    return status;
}

/* ---- the differences ----------------------------------------------------------------------------------------------- */

struct application {
    struct cohorti_cluster *c;
    uint64_t now_ns;
    size_t additions, removals, changes; /* counted by the first walk */
    struct cohorti_member **fresh;       /* members made for the second, in the order it meets them */
    size_t fresh_made, fresh_used;
    bool failed;
    struct cohorti_applied *out;
};

/* A node that is listed now, was listed before, or both with a difference; NULL where it is not. */
typedef void (*visit_fn)(struct application *a, const cohort_definition_node *before, const cohort_definition_node *after);

static bool differs(const cohort_definition_node *a, const cohort_definition_node *b)
{
    return a->tcp_port != b->tcp_port || strcmp(a->ip, b->ip) != 0 || strcmp(a->bind, b->bind) != 0;
}

/* Both in order of id, so that equal definitions make equal effects whatever the order of their files. */
static void walk(struct application *a, const struct cohorti_listing *old, const struct cohorti_listing *new, visit_fn visit)
{
    size_t i = 0, j = 0;
    while (i < old->count || j < new->count) {
        const cohort_definition_node *before = i < old->count ? &old->nodes[old->order[i]] : NULL;
        const cohort_definition_node *after = j < new->count ? &new->nodes[new->order[j]] : NULL;
        int order = before == NULL ? 1 : after == NULL ? -1 : strcmp(before->id, after->id);
        i += order <= 0;
        j += order >= 0;
        if (order != 0) {
            visit(a, order < 0 ? before : NULL, order > 0 ? after : NULL);
        } else if (differs(before, after)) {
            visit(a, before, after);
        }
    }
}

static const char *id_of(const cohort_definition_node *before, const cohort_definition_node *after)
{
    assert(before != NULL || after != NULL);
    return before != NULL ? before->id : after->id;
}

static bool is_self(const struct application *a, const cohort_definition_node *before, const cohort_definition_node *after)
{
    return strcmp(id_of(before, after), a->c->self->public.id) == 0;
}

static void count(struct application *a, const cohort_definition_node *before, const cohort_definition_node *after)
{
    if (is_self(a, before, after)) {
        return;
    }
    const struct cohorti_member *m = cohorti_member_find(a->c, id_of(before, after));
    a->changes++;
    a->additions += after != NULL && m == NULL;
    a->removals += after == NULL && m != NULL && !m->added;
}

static void make(struct application *a, const cohort_definition_node *before, const cohort_definition_node *after)
{
    if (a->failed || after == NULL || is_self(a, before, after) || cohorti_member_find(a->c, after->id) != NULL) {
        return;
    }
    a->fresh[a->fresh_made] = cohorti_member_make(a->c, a->now_ns, after->id, after->ip, after->tcp_port);
    a->failed = a->fresh[a->fresh_made] == NULL;
    a->fresh_made += !a->failed;
}

static void note(struct cohorti_cluster *c, const char *text)
{
    struct cohorti_effect *effect = cohorti_effects_push(&c->effects, COHORTI_EFFECT_NOTE, 0);
    effect->code = COHORT_ESTATE;
    cohorti_copy_string(effect->u.note.id, sizeof effect->u.note.id, c->self->public.id);
    cohorti_copy_string(effect->u.note.text, sizeof effect->u.note.text, text);
}

/* Where we are was settled when we were opened, perhaps in other words than the definition's. */
static void note_self(struct application *a, const cohort_definition_node *before, const cohort_definition_node *after)
{
    const cohort_member *self = &a->c->self->public;
    bool as_we_are = before == NULL && strcmp(after->ip, self->ip) == 0 && after->tcp_port == self->tcp_port;
    if (!a->c->listing.known || as_we_are) {
        return;
    }
    note(a->c, after == NULL ? "the definition does not list this node any more: it runs on until it is stopped"
                             : "the definition gives this node another address: it is used after a restart");
}

static void commit(struct application *a, const cohort_definition_node *before, const cohort_definition_node *after)
{
    struct cohorti_cluster *c = a->c;
    if (is_self(a, before, after)) {
        note_self(a, before, after);
        return;
    }
    struct cohorti_member *m = cohorti_member_find(c, id_of(before, after));
    if (after == NULL) {
        if (m != NULL && !m->added) {
            cohorti_member_drop(c, m);
            a->out->removed++;
        }
        return;
    }
    if (m == NULL) {
        m = a->fresh[a->fresh_used++];
        cohorti_member_insert(c, m);
        a->out->added++;
    } else {
        a->out->changed += cohorti_member_readdress(c, a->now_ns, m, after->ip, after->tcp_port);
    }
    cohorti_member_configure(c, m);
    cohorti_member_unbury(c, after->id);
    cohorti_cluster_schedule(c, a->now_ns, m);
}

/* ---- applying ------------------------------------------------------------------------------------------------------ */

/* A file put in the wrong place must not make us leave one cluster for another. A name that comes or goes says "any", and is noted. */
static int check_cluster(const struct cohorti_cluster *c, const struct cohorti_listing *new)
{
    if (!c->listing.known && !c->started) {
        return COHORT_OK; /* when we are opened, the configuration may name another */
    }
    const char *ours = c->listing.known ? c->listing.cluster : c->config.cluster;
    bool other = ours[0] != '\0' && new->cluster[0] != '\0' && strcmp(ours, new->cluster) != 0;
    return other ? COHORT_ECLUSTER : COHORT_OK;
}

/* All that can fail. */
static int prepare(struct application *a, const struct cohorti_listing *new)
{
    struct cohorti_cluster *c = a->c;
    walk(a, &c->listing, new, count);
    if (c->member_count - a->removals + a->additions > c->config.limits.members_max) {
        return COHORT_ELIMIT;
    }
    if (cohorti_cluster_make_room_for_changes(c, a->changes + NOTES_MAX) != COHORT_OK ||
        cohorti_member_reserve(c, a->additions) != COHORT_OK) {
        return COHORT_ENOMEM;
    }
    if (a->additions == 0) {
        return COHORT_OK;
    }
    a->fresh = cohorti_alloc(c->alloc, a->additions * sizeof(struct cohorti_member *));
    if (a->fresh == NULL) {
        return COHORT_ENOMEM;
    }
    walk(a, &c->listing, new, make);
    return a->failed ? COHORT_ENOMEM : COHORT_OK;
}

int cohorti_cluster_apply(struct cohorti_cluster *c, uint64_t now_ns, const cohort_definition *definition, struct cohorti_applied *out)
{
    struct application a = {.c = c, .now_ns = now_ns, .out = out};
    struct cohorti_listing new;
    memset(out, 0, sizeof *out);
    if (c->stopping) {
        return COHORT_ECLOSED;
    }
    int status = make_listing(c->alloc, definition, &new, &out->culprit);
    if (status != COHORT_OK) {
        return status;
    }
    status = check_cluster(c, &new);
    if (status == COHORT_OK) {
        status = prepare(&a, &new);
    }
    if (status == COHORT_OK) {
        walk(&a, &c->listing, &new, commit);
        if (c->listing.known && strcmp(c->listing.cluster, new.cluster) != 0) {
            note(c, "the definition gives the cluster another name: it is used after a restart");
        }
        struct cohorti_listing old = c->listing;
        c->listing = new;
        new = old;
    }
    while (a.fresh_made > a.fresh_used) { /* on failure: none was used */
        cohorti_release(c->alloc, a.fresh[--a.fresh_made]);
    }
    cohorti_release(c->alloc, a.fresh);
    cohorti_listing_free(c->alloc, &new);
    return status;
}
