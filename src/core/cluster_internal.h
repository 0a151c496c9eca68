/* SPDX-License-Identifier: Apache-2.0
 * What the files of the cluster share: cluster.c (life, timers), cluster_member.c (members), cluster_apply.c (the definition they
 * come from), cluster_dial.c and cluster_link.c (links). */
#ifndef COHORTI_CORE_CLUSTER_INTERNAL_H
#define COHORTI_CORE_CLUSTER_INTERNAL_H

#include "core/cluster.h"

enum cohorti_cluster_timer {
    COHORTI_TIMER_LINK = 0,
    COHORTI_TIMER_DIAL = 1,
};

struct cohorti_member {
    cohort_member public; /* id, address, state, incarnation: what the world sees */
    bool configured;      /* by definition or add(): its address is ours to set, not its HELLO's */
    bool added;           /* by add(): a definition that does not list it any more does not remove it */
    uint32_t attempt_max; /* highest attempt seen or used with it: see link_choice.h */
    int lost_code;        /* why it will be INACTIVE once its last link is gone; COHORT_OK: it need not */
    struct cohorti_dialler dialler;
    uint32_t dial_turn;  /* dials that did not even connect: which of a name's addresses is next */
    uint32_t host_count; /* how many addresses its name had at the last dial; 0: it is an address, or has none */
    struct cohorti_timer dial_timer;
    bool put_off;              /* the next dial was, because its timer came late */
    struct cohorti_list links; /* all bound to it, or dialled for it; CLOSING ones too */
};

enum cohorti_cluster_link_state {
    COHORTI_CLUSTER_LINK_DIALLING,
    COHORTI_CLUSTER_LINK_GREETING,
    COHORTI_CLUSTER_LINK_HELD, /* greeted; not admitted while a dial of ours is under way that both ends prefer */
    COHORTI_CLUSTER_LINK_ADMITTED,
    COHORTI_CLUSTER_LINK_READY, /* welcomed both ways; waits for the OPEN link it replaces to be gone */
    COHORTI_CLUSTER_LINK_OPEN,
    COHORTI_CLUSTER_LINK_CLOSING,
};

struct cohorti_cluster_link {
    struct cohorti_map_node node;
    uint64_t number;
    enum cohorti_cluster_link_state state;
    bool dialled;
    bool connected;
    bool legacy;
    bool was_open;
    bool refused;   /* by either end, for a reason that stays: the dialler backs off */
    bool redundant; /* ended only because another link is there: no failure */
    bool replaces;  /* admitted, not welcomed yet, and dialled by the peer after it had let the open link go */
    uint32_t attempt;
    uint64_t incarnation;                    /* of the peer, as it greeted here */
    struct cohorti_member *member;           /* NULL for a stranger, and once the member is removed */
    char orphan_of[COHORT_ID_BYTES_MAX + 1]; /* then: its id */
    struct cohorti_list of_member;           /* member->links, then cluster->orphans */
    struct cohorti_list of_strangers;
    struct cohorti_timer timer; /* connect timeout, then handshake deadline */
};

/* cluster_member.c */
struct cohorti_member *cohorti_member_find(const struct cohorti_cluster *c, const char *id);
/* A new INACTIVE member, ADDED pushed. Effects must be reserved. COHORT_ENOMEM, COHORT_ELIMIT. */
COHORT_NODISCARD int cohorti_member_new(struct cohorti_cluster *c, uint64_t now_ns, const char *id, const char *ip,
                                        uint16_t tcp_port, struct cohorti_member **out);
/* The two halves of that: memory for a member, room in the table; and the member into the table, which cannot fail. */
struct cohorti_member *cohorti_member_make(struct cohorti_cluster *c, uint64_t now_ns, const char *id, const char *ip,
                                           uint16_t tcp_port);
COHORT_NODISCARD int cohorti_member_reserve(struct cohorti_cluster *c, size_t more);
void cohorti_member_insert(struct cohorti_cluster *c, struct cohorti_member *m);
/* Listed, by a definition or add(): its links are no stranger's any more. Effects must be reserved. */
void cohorti_member_configure(struct cohorti_cluster *c, struct cohorti_member *m);
/* Another address, with its UPDATE, and a dial there; false when it is the one it has. Effects must be reserved. */
bool cohorti_member_readdress(struct cohorti_cluster *c, uint64_t now_ns, struct cohorti_member *m, const char *ip,
                              uint16_t tcp_port);
/* Out of the table, links closed, events pushed, buried. Effects must be reserved. */
void cohorti_member_drop(struct cohorti_cluster *c, struct cohorti_member *m);
/* Forget that the id was removed. */
void cohorti_member_unbury(struct cohorti_cluster *c, const char *id);
bool cohorti_member_address_valid(const char *ip, uint16_t tcp_port);
bool cohorti_member_removed_before(const struct cohorti_cluster *c, const char *id);
void cohorti_member_event(struct cohorti_cluster *c, struct cohorti_member *m, cohort_event_type type, int reason);
void cohorti_member_update(struct cohorti_cluster *c, struct cohorti_member *m); /* publish without an event */
void cohorti_member_activate(struct cohorti_cluster *c, struct cohorti_member *m);
void cohorti_member_deactivate(struct cohorti_cluster *c, struct cohorti_member *m, int reason);

/* cluster.c */
/* Room for all that the next call can cause, with `links` more links than there are. */
COHORT_NODISCARD int cohorti_cluster_make_room(struct cohorti_cluster *c, size_t links);
/* The same, and room for so many changes of members in one call. */
COHORT_NODISCARD int cohorti_cluster_make_room_for_changes(struct cohorti_cluster *c, size_t changes);

/* cluster_apply.c */
void cohorti_listing_free(const cohort_allocator *alloc, struct cohorti_listing *listing);

/* cluster_link.c */
struct cohorti_cluster_link *cohorti_cluster_link_find(const struct cohorti_cluster *c, uint64_t number);
/* Room for its effects is made; NULL without memory. Bound to nobody. */
struct cohorti_cluster_link *cohorti_cluster_link_new(struct cohorti_cluster *c, enum cohorti_cluster_link_state state);
void cohorti_cluster_link_free(struct cohorti_cluster *c, struct cohorti_cluster_link *link);
/* To its member, once. */
void cohorti_cluster_link_bind(struct cohorti_cluster_link *link, struct cohorti_member *m);
/* Ask the shell to close it; harmless when that was asked before. */
void cohorti_cluster_link_close(struct cohorti_cluster *c, struct cohorti_cluster_link *link, int code);
/* Greeted, wanted, and not at its end. */
static inline bool cohorti_cluster_link_is_candidate(const struct cohorti_cluster_link *link)
{
    return link->state == COHORTI_CLUSTER_LINK_HELD || link->state == COHORTI_CLUSTER_LINK_ADMITTED ||
           link->state == COHORTI_CLUSTER_LINK_READY || link->state == COHORTI_CLUSTER_LINK_OPEN;
}

/* cluster_dial.c */
/* Dial now, or set the timer for it, or neither because a link stands or comes. */
void cohorti_cluster_schedule(struct cohorti_cluster *c, uint64_t now_ns, struct cohorti_member *m);
void cohorti_cluster_dial_due(struct cohorti_cluster *c, uint64_t now_ns, struct cohorti_member *m); /* its timer has fired */
void cohorti_cluster_dial(struct cohorti_cluster *c, uint64_t now_ns, struct cohorti_member *m);

#endif
