/* SPDX-License-Identifier: Apache-2.0
 *
 * scenario: what happens in a run, as data: the conditions, and a list of timed actions. Written as text, so that a failing run of
 * the swarm can be kept, shortened and repeated. docs/simulation.md describes the text.
 */
#ifndef COHORTI_SIM_SCENARIO_H
#define COHORTI_SIM_SCENARIO_H

#include <cohort/sim.h>

#define SCENARIO_NODES_MAX 1000
#define SCENARIO_ACTIONS_MAX 4096
#define SCENARIO_MESSAGE_BYTES_MAX (1024 * 1024)

enum action_verb {
    ACTION_START,    /* a: boot the host if need be, start a new process */
    ACTION_KILL,     /* a */
    ACTION_CLOSE,    /* a: leaves politely */
    ACTION_OFF,      /* a: the power of its host goes */
    ACTION_PAUSE,    /* a, v ms */
    ACTION_JUMP,     /* a, v ms, may be negative: wall clock */
    ACTION_CUT,      /* a -> b is lost */
    ACTION_UNCUT,    /* a -> b */
    ACTION_GROUP,    /* a into group v */
    ACTION_HEAL,     /* all cuts and groups */
    ACTION_RESET,    /* connections between a and b */
    ACTION_DROP,     /* those of a to b are gone at a; b is not told */
    ACTION_ADD,      /* a adds b */
    ACTION_REMOVE,   /* a removes b */
    ACTION_SEND,     /* a to b, v messages */
    ACTION_ECHO,     /* a to b */
    ACTION_ALLOC,    /* the v-th next allocation of a fails */
    ACTION_STALL,    /* the next message handler of a takes v ms */
    ACTION_STRANGER, /* somebody connects to a and never greets */
    ACTION_REQUEST,  /* a asks b, v times */
    ACTION_FLOOD,    /* a to b, v messages, as fast as their lanes take them */
    ACTION_HANG,     /* the youngest of a to b is gone at a; b never hears of it */
    ACTION_COUNT,
};

struct action {
    uint64_t at_ms;
    enum action_verb verb;
    uint32_t a, b;
    int64_t v;
};

struct scenario {
    char name[64];
    uint32_t nodes;
    bool listed;    /* definition and listed admission; else every node is told the first and admission is open */
    bool seed_dial; /* the 2014 custodian */
    uint32_t loops; /* per node: 0..this, by index */
    uint64_t latency_min_us, latency_max_us;
    uint32_t loss_ppm;
    uint32_t segment_bytes;
    uint32_t window_bytes;
    uint32_t converge_ms;       /* 0, or how soon after the last action every pair must be ACTIVE */
    uint32_t message_bytes_max; /* of the messages sent: 24..this */
    bool lanes;                 /* messages go to all lanes */
    uint32_t ttl_ms;            /* of those in the bulk lane; 0: none */
    bool queues;                /* some processes handle them in queues */
    struct action *actions;     /* in order of time */
    uint32_t action_count, action_cap;
};

void scenario_init(struct scenario *s, const char *name, uint32_t nodes);
void scenario_deinit(struct scenario *s);
/** COHORT_ENOMEM, COHORT_ELIMIT. */
COHORT_NODISCARD int scenario_add(struct scenario *s, uint64_t at_ms, enum action_verb verb, uint32_t a, uint32_t b, int64_t v);
/** Actions in order of time, those of one time as they were added. */
void scenario_sort(struct scenario *s);
COHORT_NODISCARD int scenario_copy(struct scenario *to, const struct scenario *from);

/** Read the text; error names line and word. */
COHORT_NODISCARD int scenario_parse(struct scenario *s, const char *name, const char *text, cohort_error *error);
/** Write the text with the functions of stdio. */
void scenario_print(const struct scenario *s, void *file);

/** Text of a scenario that comes with the program, NULL if there is none; and the i-th name, NULL past the end. */
const char *scenario_text(const char *name);
const char *scenario_name(size_t i);

/** A random one. Everything follows from the seed. COHORT_ENOMEM. */
COHORT_NODISCARD int scenario_random(struct scenario *s, uint64_t seed);

#endif
