/* SPDX-License-Identifier: Apache-2.0
 *
 * cluster: who is a member, and which link to each of them stands. The decisions of one node, without I/O.
 *
 * Events go in (each with `now_ns`), effects come out of cohorti_cluster_poll(). A link is named by a number the cluster gives
 * out; the shell reports its end exactly once with cohorti_cluster_closed(), whoever wanted it, and the number is gone then.
 *
 * A link, as the cluster sees it:
 *
 *   DIALLING --connected--> GREETING --hello--> ADMITTED --welcome--> READY --old link gone--> OPEN
 *      accepted: starts in GREETING     legacy: straight to OPEN         any --> CLOSING --closed--> gone
 *      HELD between GREETING and ADMITTED, while a dial of ours is under way that both ends prefer
 *
 * Invariants: a cohort member has at most one OPEN link; a member is ACTIVE while a link of it is OPEN, and for the moment in
 * which an ADMITTED or READY one takes the place of one that was (the local node always); per member ACTIVATED and DEACTIVATED
 * alternate; a link is bound to one member once; the highest incarnation seen of a member never falls.
 */
#ifndef COHORTI_CORE_CLUSTER_H
#define COHORTI_CORE_CLUSTER_H

#include "base/list.h"
#include "base/map.h"
#include "base/prng.h"
#include "base/timers.h"
#include "core/dialler.h"
#include "core/effects.h"
#include "wire/control.h"
#include "wire/hello.h"

#include <cohort/cohort.h>

struct cohorti_cluster_config {
    char id[COHORT_ID_BYTES_MAX + 1];
    char ip[COHORT_HOST_BYTES_MAX + 1];
    uint16_t tcp_port;
    char cluster[COHORT_CLUSTER_BYTES_MAX + 1];
    uint64_t incarnation;
    bool open_admission; /* else listed */
    cohort_dial_policy dial;
    cohort_limits limits;
    uint64_t seed; /* of the jitter */
};

struct cohorti_member; /* core/cluster_internal.h */

/* The definition that was applied last: what the next one is compared with. */
struct cohorti_listing {
    char cluster[COHORT_CLUSTER_BYTES_MAX + 1];
    cohort_definition_node *nodes; /* in file order */
    uint32_t *order;               /* indices of nodes, in order of id */
    size_t count;
    bool known; /* there was one */
};

struct cohorti_cluster {
    const cohort_allocator *alloc;
    struct cohorti_cluster_config config;
    struct cohorti_prng prng;
    struct cohorti_timers timers;
    struct cohorti_effects effects;
    uint64_t started_ns;
    bool started, stopping;

    struct cohorti_member **members; /* in order of id; members[i] may be the local node */
    size_t member_count, member_cap;
    struct cohorti_member *self;
    struct cohorti_listing listing;

    char (*removed)[COHORT_ID_BYTES_MAX + 1]; /* tombstones: a ring, the oldest forgotten first */
    uint32_t removed_count, removed_next;

    struct cohorti_map links; /* of struct cohorti_cluster_link, by number */
    uint64_t link_next;
    struct cohorti_list strangers; /* accepted links that have not greeted, oldest first */
    uint32_t stranger_count;
    struct cohorti_list orphans; /* links of removed members, closing */
    uint32_t raises;             /* how often of late we took a higher incarnation because a peer knew one */
    uint64_t raised_ns;
};

/** config is copied; the allocator is borrowed. COHORT_ENOMEM: nothing to undo. */
COHORT_NODISCARD int cohorti_cluster_init(struct cohorti_cluster *c, const cohort_allocator *alloc,
                                          const struct cohorti_cluster_config *config);
void cohorti_cluster_deinit(struct cohorti_cluster *c);

/* ---- life ---- */

/** Members known so far are dialled from now on. */
void cohorti_cluster_start(struct cohorti_cluster *c, uint64_t now_ns);
/** Every link is told goodbye and closed; nothing is dialled or admitted any more. */
void cohorti_cluster_stop(struct cohorti_cluster *c);
/** True when stopped and no link is left. */
bool cohorti_cluster_is_idle(const struct cohorti_cluster *c);

bool cohorti_cluster_poll(struct cohorti_cluster *c, struct cohorti_effect *out);
/** When on_timer() wants to be called; COHORTI_NEVER. */
uint64_t cohorti_cluster_deadline(const struct cohorti_cluster *c);
void cohorti_cluster_on_timer(struct cohorti_cluster *c, uint64_t now_ns);

/* ---- members ---- */

/** As cohort_node_add(); a member that is added explicitly keeps its address whatever it says in HELLO. */
COHORT_NODISCARD int cohorti_cluster_add(struct cohorti_cluster *c, uint64_t now_ns, const char *id, const char *ip,
                                         uint16_t tcp_port);
/** As cohort_node_remove(). */
COHORT_NODISCARD int cohorti_cluster_remove(struct cohorti_cluster *c, const char *id);
/** What a definition changed, or which of its nodes is wrong. */
struct cohorti_applied {
    uint32_t added, removed, changed; /* members */
    size_t culprit;                   /* with COHORT_EINVAL: index of the node */
};

/**
 * Make the members those of a definition: all of it, or nothing. Only what differs from the definition applied before is done: a
 * node it did not list is added, one with another address gets that, one it lists no more is removed unless cluster_add()
 * added it too. So what add() and remove() did at run time holds until the file says something new about that node.
 * What cannot change while we run (our own entry, the cluster's name) is told in a NOTE.
 *
 *   COHORT_EINVAL    a node is malformed or stands twice: out->culprit.
 *   COHORT_ECLUSTER  it is the definition of another cluster.
 *   COHORT_ELIMIT    limits.members_max.
 *   COHORT_ENOMEM, COHORT_ECLOSED.
 */
COHORT_NODISCARD int cohorti_cluster_apply(struct cohorti_cluster *c, uint64_t now_ns, const cohort_definition *definition,
                                           struct cohorti_applied *out);
bool cohorti_cluster_has_member(const struct cohorti_cluster *c, const char *id);
/** What we say in HELLO on a link with this attempt number. */
void cohorti_cluster_greeting(const struct cohorti_cluster *c, uint32_t attempt, struct cohorti_hello *out);
/** The i-th member in order of id; false past the end. */
bool cohorti_cluster_member_at(const struct cohorti_cluster *c, size_t i, cohort_member *out);

/* ---- links ---- */

/** A connection was accepted. *link names it; a GREET for it follows. COHORT_ENOMEM, COHORT_ECLOSED: close it, no link was made. */
COHORT_NODISCARD int cohorti_cluster_accepted(struct cohorti_cluster *c, uint64_t now_ns, uint64_t *link);
/** A DIAL is to a host name, which has so many addresses: when one does not connect, the next is dialled at once, then a pause. */
void cohorti_cluster_resolved(struct cohorti_cluster *c, uint64_t link, uint32_t count);
/** A DIAL succeeded. */
void cohorti_cluster_connected(struct cohorti_cluster *c, uint64_t now_ns, uint64_t link);
/** The id of the member that was dialled for it; NULL: it was accepted, or is gone, or its member is. */
const char *cohorti_cluster_dialled(const struct cohorti_cluster *c, uint64_t link);
/** The first byte came. Only needed for dialled links. */
void cohorti_cluster_received(struct cohorti_cluster *c, uint64_t link);
void cohorti_cluster_hello(struct cohorti_cluster *c, uint64_t now_ns, uint64_t link, const struct cohorti_hello *hello);
void cohorti_cluster_welcome(struct cohorti_cluster *c, uint64_t now_ns, uint64_t link);
/** The peer refused us on this link; a CLOSE follows. */
void cohorti_cluster_refused(struct cohorti_cluster *c, uint64_t now_ns, uint64_t link, const struct cohorti_refuse *refuse);
/** The link has ended and is gone, because of `code`: also a dial that failed, and a CLOSE that was done. */
void cohorti_cluster_closed(struct cohorti_cluster *c, uint64_t now_ns, uint64_t link, int code);

#endif
