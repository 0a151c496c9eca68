/* SPDX-License-Identifier: Apache-2.0
 *
 * What a shell and a listener may rely on, watched from outside the cluster: which effects may follow which, and which events. The
 * promises of core/cluster.h about its own state are checked beside it, by looking inside.
 */
#ifndef COHORT_FUZZ_CLUSTER_WATCH_H
#define COHORT_FUZZ_CLUSTER_WATCH_H

#include "core/cluster.h"

#define WATCH_LINKS_MAX 512
#define WATCH_MEMBERS_MAX 16

/** A connection, as the shell knows it. */
struct watch_link {
    uint64_t number;
    bool dialled;
    bool connected; /* or accepted */
    bool greeted;   /* we sent HELLO */
    bool helloed;   /* the peer's HELLO was given to the cluster */
    bool legacy;
    bool admitted;
    bool welcomed;
    bool refused;
    bool open;
    bool receiving;
    bool told_end;                    /* CLOSE, REFUSE or LEAVE was carried out */
    bool gone;                        /* closed() was reported */
    char id[COHORT_ID_BYTES_MAX + 1]; /* from OPEN on */
};

/** A member, as a listener knows it. */
struct watch_member {
    char id[COHORT_ID_BYTES_MAX + 1];
    bool present, active;
    uint64_t incarnation;
};

struct watch {
    struct watch_link links[WATCH_LINKS_MAX];
    size_t link_count;
    struct watch_member members[WATCH_MEMBERS_MAX];
    size_t member_count;
    uint64_t incarnation_start, incarnation_self;
    uint32_t legacy_links_max;
};

void watch_init(struct watch *w, const struct cohorti_cluster *c);
struct watch_link *watch_new_link(struct watch *w, uint64_t number);
struct watch_link *watch_find_link(struct watch *w, uint64_t number);
/** The links that were made and have not been reported closed. */
size_t watch_live_links(const struct watch *w);

/** An effect is carried out now. */
void watch_effect(struct watch *w, const struct cohorti_effect *fx);
/** The state of the cluster between two steps. `settled`: every effect was carried out. */
void watch_state(struct watch *w, const struct cohorti_cluster *c, bool settled);

#endif
