/* SPDX-License-Identifier: Apache-2.0
 * Shared by run.c (playing) and check.c (checking). */
#ifndef COHORTI_SIM_RUN_INTERNAL_H
#define COHORTI_SIM_RUN_INTERNAL_H

#include "sim/asker.h"
#include "sim/emptier.h"
#include "sim/ledger.h"
#include "sim/pool.h"
#include "sim/run.h"

#define MS UINT64_C(1000000)

/* What one process knows of another node, as its listener and handlers were told. */
struct view {
    bool member, active;
    bool removed;             /* this process removed it */
    bool removed_once;        /* by any process of this node */
    bool link_is_new;         /* nothing received since ACTIVATED */
    bool may_finish;          /* INACTIVE because this process ended the link: a busy loop may still hand out what it had brought */
    bool handles;             /* a message of it, now */
    uint32_t process;         /* of the sender, of the last message */
    uint64_t incarnation;     /* as the last event showed it */
    uint64_t queued_bytes[3]; /* of its messages, in the queue of this process, in each lane */
    bool full[3];             /* that lane refused a message: it is to be told of room */
    bool full_again[3];       /* and then another: it may be told twice */
    uint32_t wants[3];        /* messages to be sent to it when there is room */
    uint64_t closed_door_ns;  /* when ACTIVATED was told though a send said INACTIVE; 0: never */
};

struct player {
    struct run *run;
    uint32_t index;
    char id[16];
    char ip[32];
    cohort_node *node; /* NULL while no process runs */
    uint32_t process;  /* counts starts */
    uint32_t group;    /* of the host, as the cuts below: they outlive the process */
    bool *cut;         /* what goes to that node is lost */
    struct view *views;
    cohort_allocator allocator;
    uint64_t blocks, bytes, bytes_max;
    int64_t fail_in; /* allocations until one fails; 0: none */
    uint32_t echoes_out;
    struct held *held;   /* calls of others that it has kept */
    cohort_queue *queue; /* of this process; NULL: it has none */
    bool queue_has_threads;
    bool empties;               /* it is to look into its queue */
    uint32_t window_bytes;      /* its limits.window_bytes */
    uint64_t queue_bytes_max;   /* its limits.peer_queue_bytes_max */
    uint64_t paused_until_ns;   /* of the host */
    int64_t stall_ms;           /* how long the next message handler takes */
    uint64_t incarnation_first; /* of this process */
    uint64_t incarnation_max;   /* that any process of it has had; see check_incarnation() */
};

struct run {
    const struct scenario *scenario;
    cohort_sim *sim;
    struct player *players;
    struct pool pool; /* of the memory of all processes */
    cohort_definition definition;
    struct run_result *result;
    uint64_t begin_ns;
    uint32_t action_next; /* all before are carried out */
    bool views_changed;   /* since they were judged; judging all pairs after every event would be quadratic in them */
    bool judged_well;
    uint32_t wrong_i, wrong_j; /* the pair last found wrong; equal: none */
    bool settled;              /* the last messages are counted */
    uint64_t final_sent, final_received;
    struct ledger ledger;
    struct asker asker;
};

/* run.c: in a handler; what the scenario wants meanwhile happens, but for what must wait for the handler */
void run_stall(struct run *run, uint64_t duration_ns);

/* check.c */
void run_fail(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
void check_event(cohort_node *node, const cohort_event *event, void *arg);
void check_message(cohort_node *node, const cohort_message *message, void *arg);
void check_echo(cohort_node *node, const char *id, int status, uint64_t rtt_ns, void *arg);
bool check_converged(void *arg);          /* every pair ACTIVE at both ends */
bool check_faults_seen(void *arg);        /* with the faults in place: ACTIVE where they can reach each other, INACTIVE where not */
void check_incarnation(struct player *p); /* it may have raised its own: to be called before anything is judged by it */
void check_protocol(struct player *p);    /* before its process ends */
void check_quiet(struct run *run);
void check_process_ended(struct player *p);
void check_allocator(struct player *p);                           /* fill in the counting allocator */
void check_limits(struct player *p, const cohort_limits *limits); /* how much it may take */
bool check_idle(void *arg);                                       /* nobody keeps memory for what is done; wrong_i does */
struct player *check_player(struct run *run, const char *id);

#endif
