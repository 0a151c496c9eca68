/* SPDX-License-Identifier: Apache-2.0
 *
 * libcohort-sim: whole clusters in one thread and virtual time.
 *
 * The nodes are real ones: the public API, the core, your own handlers. Only the machine below them is simulated: clock, entropy,
 * loops, network. One seed decides everything that chance decides, so the same program with the same seed gives the same run, event
 * for event; cohort_sim_hash() proves it. Link with libcohort-sim instead of libcohort: it holds the whole library.
 *
 * Everything happens inside the calls that let time pass (cohort_sim_run(), cohort_sim_run_until(), and calls on a node that wait:
 * start, close, add, remove). One thread only. Nothing in a handler may block or read a real clock.
 */
#ifndef COHORT_SIM_H
#define COHORT_SIM_H

#include <cohort/cohort.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A simulated world: its hosts, its network, its time. */
typedef struct cohort_sim cohort_sim;

/** The network and the hosts. Times in nanoseconds of virtual time. */
typedef struct cohort_sim_config {
    size_t size; /* sizeof: set by cohort_sim_config_init() */
    uint64_t seed;
    uint64_t latency_min_ns, latency_max_ns; /* one segment, one way. Default 50 us .. 250 us */
    uint32_t loss_ppm;                       /* segments in a million that come late as if sent again. Default 0 */
    uint32_t segment_bytes_max;              /* segments have 1 to this many bytes. Default 1448 */
    uint64_t lateness_max_ns;                /* how late a loop may run. Default 50 us */
    uint32_t window_bytes;                   /* buffer of a connection, each way, each end. Default 256 KiB */
    void (*trace)(void *ctx, uint64_t now_ns, const char *line); /* NULL: none. Slow */
    void *trace_ctx;
} cohort_sim_config;

/** Fill with defaults; use COHORT_SIM_CONFIG_INIT(&config). */
COHORT_API void cohort_sim_config_init(cohort_sim_config *config, size_t size);
#define COHORT_SIM_CONFIG_INIT(config) cohort_sim_config_init((config), sizeof(*(config)))

/** COHORT_EINVAL, COHORT_ENOMEM. */
COHORT_API COHORT_NODISCARD int cohort_sim_open(const cohort_sim_config *config, cohort_sim **out);
/** Every node must have been closed or killed. NULL is allowed. */
COHORT_API void cohort_sim_close(cohort_sim *sim);

/**
 * cohort_node_open() on the simulated host whose address is config->ip (or the first address of that name), a process of its own. The
 * node is then used as any other: start, send, close. The host is made when first named and survives its processes. There are no files:
 * config->definition_path is read once, from the real machine, and not followed.
 */
COHORT_API COHORT_NODISCARD int cohort_sim_node_open(cohort_sim *sim, const cohort_config *config, cohort_node **out,
                                                     cohort_error *error);

/** A host name has this address too, up to 16; ip NULL: the name is forgotten. COHORT_EINVAL: neither name nor ip; COHORT_ENOMEM. */
COHORT_API COHORT_NODISCARD int cohort_sim_name(cohort_sim *sim, const char *name, const char *ip);

/* ---- time ---------------------------------------------------------------------------------------------------------- */

/** Virtual time since the world was made, in nanoseconds. */
COHORT_API uint64_t cohort_sim_now_ns(const cohort_sim *sim);
/** Let time pass. */
COHORT_API void cohort_sim_run(cohort_sim *sim, uint64_t duration_ns);
/** Until `done` says true, looked at after every event; false when timeout_ns passed first. */
COHORT_API bool cohort_sim_run_until(cohort_sim *sim, bool (*done)(void *arg), void *arg, uint64_t timeout_ns);
/** Call fn once, delay_ns from now, outside any node. COHORT_ENOMEM. */
COHORT_API COHORT_NODISCARD int cohort_sim_after(cohort_sim *sim, uint64_t delay_ns, void (*fn)(void *arg), void *arg);

/** Hash of every event so far, and their number. Equal runs have equal hashes. */
COHORT_API uint64_t cohort_sim_hash(const cohort_sim *sim);
COHORT_API uint64_t cohort_sim_events(const cohort_sim *sim);
/** Put a line of yours into trace and hash. */
COHORT_API void cohort_sim_note(cohort_sim *sim, const char *line);
/** A number in [0, bound) from the seed. */
COHORT_API uint64_t cohort_sim_random(cohort_sim *sim, uint64_t bound);

/* ---- faults: by address of the host --------------------------------------------------------------------------------- */

/** kill -9: the process ends, its host closes its connections. `node` is freed; none of its handlers is called. */
COHORT_API void cohort_sim_kill(cohort_sim *sim, cohort_node *node);
/** The power of the host goes, and with it its process `node` (may be NULL). Nobody is told. cohort_sim_boot() brings the host back. */
COHORT_API void cohort_sim_power_off(cohort_sim *sim, const char *ip, cohort_node *node);
COHORT_API void cohort_sim_boot(cohort_sim *sim, const char *ip);
/** The processes of the host do not run for so long (SIGSTOP, starvation); its kernel answers. */
COHORT_API void cohort_sim_pause(cohort_sim *sim, const char *ip, uint64_t duration_ns);
/** The wall clock of the host jumps. */
COHORT_API void cohort_sim_clock_jump(cohort_sim *sim, const char *ip, int64_t delta_us);
/** What goes from one host to the other is lost, or not any more. COHORT_ENOMEM. */
COHORT_API COHORT_NODISCARD int cohort_sim_cut(cohort_sim *sim, const char *from_ip, const char *to_ip, bool cut);
/** Hosts of different groups do not reach each other. 0: in no group, reaches all. */
COHORT_API void cohort_sim_group(cohort_sim *sim, const char *ip, uint32_t group);
/** End all cuts and groups. */
COHORT_API void cohort_sim_heal(cohort_sim *sim);
/** Reset every connection between two hosts: both ends see it. Returns how many. */
COHORT_API uint32_t cohort_sim_reset(cohort_sim *sim, const char *a_ip, const char *b_ip);

/** The connections of host a to host b are gone at a's end (which sees a reset); b is not told: half-open. Returns how many. */
COHORT_API uint32_t cohort_sim_half_open(cohort_sim *sim, const char *a_ip, const char *b_ip);

/**
 * The youngest connection of host a to host b is gone at a's end (which sees a reset), and a middlebox has forgotten it: what b's end sends
 * is lost, so nobody tells it; its own time-outs do, after half a minute. False when there is none.
 */
COHORT_API bool cohort_sim_hang(cohort_sim *sim, const char *a_ip, const char *b_ip);

/**
 * A connection from host `from_ip` to a listener that never says a word and never closes; it stands until the other end closes it, or
 * the simulation ends. COHORT_ENOMEM.
 */
COHORT_API COHORT_NODISCARD int cohort_sim_stranger(cohort_sim *sim, const char *from_ip, const char *to_ip, uint16_t port);

/**
 * Called from a handler: its thread is busy for so long, with a lock, a disk, or itself. Its loop runs nothing meanwhile; all other
 * loops do, so their handlers are called before this returns.
 */
COHORT_API void cohort_sim_stall(cohort_sim *sim, uint64_t duration_ns);

/** Established connections with an end at process level on host a, whose other end is on host b. */
COHORT_API uint32_t cohort_sim_connections(const cohort_sim *sim, const char *a_ip, const char *b_ip);

/* ---- scenarios: runs that check themselves (docs/simulation.md) ------------------------------------------------------ */

/** How a run, or a swarm of them, ended. */
typedef struct cohort_sim_report {
    bool passed;
    char failure[512]; /* the first check that failed; "" when passed */
    uint64_t seed;     /* of the run, of the swarm's failed run, or of its last */
    uint64_t runs;     /* different seeds played; a swarm plays each twice */
    uint64_t hash;     /* of the run, or of the swarm's failed one */
    uint64_t events, messages;
    uint64_t node_ns;      /* virtual nanoseconds times nodes */
    uint64_t converged_ns; /* after all faults ended until every pair was ACTIVE; the longest of a swarm */
} cohort_sim_report;

/** Name of the i-th scenario that comes with the library; NULL past the end. */
COHORT_API const char *cohort_sim_scenario_name(size_t i);

/**
 * Play one scenario and check it: safety while it lasts, then all faults are healed, then liveness.
 *
 * scenario   a name that comes with the library, "random" for the one the seed gives, or else the text of one.
 * nodes      0: what the scenario says, else 3. A text that says "nodes" wins.
 * trace      may be NULL.
 *
 *   COHORT_OK       it was played; report->passed says how it ended.
 *   COHORT_ESYNTAX  the text is wrong; error (may be NULL) names line and word.
 *   COHORT_EINVAL   more than 1000 nodes.
 *   COHORT_ENOMEM.
 */
COHORT_API COHORT_NODISCARD int cohort_sim_play(const char *scenario, uint32_t nodes, uint64_t seed,
                                                void (*trace)(void *ctx, uint64_t now_ns, const char *line), void *trace_ctx,
                                                cohort_sim_report *report, cohort_error *error);

/**
 * Play the random scenarios of `count` seeds, each twice: the hashes must agree. Stops at the first failure and shortens it.
 *
 * shortest   NULL, or room for the text of the shortest scenario that still fails under that seed.
 */
COHORT_API COHORT_NODISCARD int cohort_sim_swarm(uint64_t first_seed, uint64_t count, cohort_sim_report *report, char *shortest,
                                                 size_t shortest_cap);

#ifdef __cplusplus
}
#endif
#endif
