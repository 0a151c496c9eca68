/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort demo --nodes N: N nodes in this process, on loops they share, each a member of the same definition and each with a link to
 * every other. Measured: how long until every node has told that all others are ACTIVE, the anonymous memory a link end takes, and
 * the processor time of the idle mesh. Then each broadcasts, and every message must arrive.
 */
#include "demo_mesh.h"

#include "demo.h"

#include <cohort/cohort.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    PORT_FIRST = 20000, /* below the ports that the system gives to outgoing connections */
    PORT_COUNT = 10000,
    PORT_ATTEMPTS_MAX = 50,
    DESCRIPTORS_BESIDE = 64, /* of the process itself, and the loops' */
    LOOK_INTERVAL_MS = 1,
    IDLE_SETTLE_MS = 300, /* what the last messages left to do is not idleness */
};

struct mesh {
    const struct mesh_options *options;
    unsigned count;
    cohort_definition definition;
    cohort_loops *loops;
    cohort_node **nodes;
    uint64_t links;
    _Atomic int64_t active; /* of count * (count - 1) */
    _Atomic uint64_t heard;
    uint64_t anonymous_before, descriptors;
    /* measured */
    double full_mesh_ms, broadcast_ms, idle_ms_per_s;
    uint64_t bytes_per_end;
    uint64_t dials, crossed; /* connections begun; accepted beyond one a pair */
};

static void say(const struct mesh *mesh, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(const struct mesh *mesh, const char *format, ...)
{
    if (!mesh->options->json) {
        va_list arguments;
        va_start(arguments, format);
        vprintf(format, arguments);
        va_end(arguments);
        fflush(stdout);
    }
}

static bool complain(const char *what, int status, const cohort_error *error)
{
    fprintf(stderr, "cohort demo: %s: %s\n", what, error != NULL && error->text[0] != '\0' ? error->text : cohort_error_text(status));
    return false;
}

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* ---- what the system gives and takes ---- */

/* Both ends of every link are ours. */
static uint64_t descriptors_of(uint64_t nodes)
{
    return nodes * (nodes - 1) + nodes + DESCRIPTORS_BESIDE;
}

static uint64_t nodes_within(uint64_t descriptors)
{
    uint64_t nodes = MESH_NODES_MAX;
    while (nodes > 0 && descriptors_of(nodes) > descriptors) {
        nodes--;
    }
    return nodes;
}

/* To what is needed, and if it may be as much again: while the mesh forms, pairs that dial each other hold two links for a moment. */
static bool raise_descriptor_limit(uint64_t needed, uint64_t nodes)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return complain("cannot read the limit of descriptors", COHORT_EIO, NULL);
    }
    const uint64_t wishes[] = {2 * needed, limit.rlim_max > needed ? limit.rlim_max : needed};
    for (size_t i = 0; limit.rlim_cur < 2 * needed && i < sizeof(wishes) / sizeof(wishes[0]); i++) {
        struct rlimit raised = {.rlim_cur = wishes[i], .rlim_max = limit.rlim_max > wishes[i] ? limit.rlim_max : wishes[i]};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            return true;
        }
    }
    if (limit.rlim_cur >= needed) {
        return true;
    }
    fprintf(stderr,
            "cohort demo: %" PRIu64 " nodes in one process need %" PRIu64 " descriptors, this process may have %" PRIu64
            ": raise the hard limit as root ('ulimit -Hn %" PRIu64 "', LimitNOFILE= of a service), or take at most %" PRIu64
            " nodes\n",
            nodes, needed, (uint64_t)limit.rlim_max, 2 * needed, nodes_within(limit.rlim_max));
    return false;
}

static uint64_t anonymous_bytes(void)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "Anonymous:", strlen("Anonymous:")) == 0) {
            kib = strtoull(line + strlen("Anonymous:"), NULL, 10);
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return kib * 1024;
}

static double processor_ms(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e3 +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e3;
}

static bool wait_for(bool (*seen)(const struct mesh *mesh), const struct mesh *mesh, const char *what)
{
    double until_ms = now_ms() + DEMO_WAIT_MS;
    while (!seen(mesh)) {
        if (demo_interrupted() || now_ms() > until_ms) {
            fprintf(stderr, "cohort demo: %s: %s\n", demo_interrupted() ? "interrupted before this was seen" : "NOT SEEN", what);
            return false;
        }
        poll(NULL, 0, LOOK_INTERVAL_MS);
    }
    return true;
}

/* ---- the nodes ---- */

static void on_event(cohort_node *node, const cohort_event *event, void *arg)
{
    struct mesh *mesh = arg;
    if (event->type == COHORT_MEMBER_ACTIVATED) {
        atomic_fetch_add(&mesh->active, 1);
    } else if (event->type == COHORT_MEMBER_DEACTIVATED) {
        atomic_fetch_sub(&mesh->active, 1);
    }
}

static void on_message(cohort_node *node, const cohort_message *message, void *arg)
{
    atomic_fetch_add(&((struct mesh *)arg)->heard, 1);
}

static void fill_definition(struct mesh *mesh, uint16_t port)
{
    for (unsigned i = 0; i < mesh->count; i++) {
        cohort_definition_node *node = &mesh->definition.nodes[i];
        node->tcp_port = port;
        snprintf(node->id, sizeof(node->id), "n%u", i + 1);
        snprintf(node->ip, sizeof(node->ip), "127.0.%u.%u", 2 + i / 250, 1 + i % 250);
    }
}

static int open_node(struct mesh *mesh, unsigned i, cohort_error *error)
{
    cohort_config config;
    cohort_handle_id id;
    COHORT_CONFIG_INIT(&config);
    config.id = mesh->definition.nodes[i].id;
    config.definition = &mesh->definition;
    config.loops = mesh->loops;
    config.limits.handshakes_max = 2 * MESH_NODES_MAX; /* all others may come at the same moment */
    int status = cohort_node_open(&config, &mesh->nodes[i], error);
    if (status == COHORT_OK) {
        status = cohort_listen(mesh->nodes[i], on_event, mesh, NULL, &id);
    }
    if (status == COHORT_OK) {
        status = cohort_handle(mesh->nodes[i], "demo.mesh", on_message, mesh, NULL, &id);
    }
    return status;
}

static void close_nodes(struct mesh *mesh)
{
    for (unsigned i = 0; i < mesh->count; i++) {
        cohort_node_close(mesh->nodes[i], 1000);
        mesh->nodes[i] = NULL;
    }
}

static int start_nodes(struct mesh *mesh, cohort_error *error)
{
    int status = COHORT_OK;
    for (unsigned i = 0; i < mesh->count && status == COHORT_OK; i++) {
        status = cohort_node_start(mesh->nodes[i], error);
    }
    return status;
}

/* On a port that is free at all addresses: where it is not, all begin again on the next. */
static bool start_all(struct mesh *mesh, double *started_ms)
{
    cohort_error error = {0};
    int status = COHORT_EADDRINUSE;
    for (unsigned attempt = 0; attempt < PORT_ATTEMPTS_MAX && status == COHORT_EADDRINUSE; attempt++) {
        close_nodes(mesh);
        atomic_store(&mesh->active, 0);
        fill_definition(mesh, (uint16_t)(PORT_FIRST + ((unsigned)getpid() * 7 + attempt) % PORT_COUNT));
        mesh->anonymous_before = anonymous_bytes();
        *started_ms = now_ms();
        status = COHORT_OK;
        for (unsigned i = 0; i < mesh->count && status == COHORT_OK; i++) {
            status = open_node(mesh, i, &error);
        }
        if (status == COHORT_OK) {
            status = start_nodes(mesh, &error);
        }
    }
    return status == COHORT_OK || complain("cannot start the nodes", status, &error);
}

/* ---- the acts ---- */

static bool all_active(const struct mesh *mesh)
{
    return atomic_load(&mesh->active) == (int64_t)(2 * mesh->links);
}

static void count_dials(struct mesh *mesh)
{
    uint64_t accepted = 0;
    for (unsigned i = 0; i < mesh->count; i++) {
        cohort_node_stats stats;
        cohort_node_stats_get(mesh->nodes[i], &stats);
        mesh->dials += stats.links_dialled;
        accepted += stats.links_accepted;
    }
    mesh->crossed = accepted > mesh->links ? accepted - mesh->links : 0;
}

/* The events said so; what can be asked says the same. */
static bool members_agree(const struct mesh *mesh)
{
    for (unsigned i = 0; i < mesh->count; i++) {
        cohort_node_stats stats;
        cohort_node_stats_get(mesh->nodes[i], &stats);
        if (stats.links_open != mesh->count - 1) {
            return false;
        }
        for (unsigned j = 0; j < mesh->count; j++) {
            if (i != j && cohort_node_state(mesh->nodes[i], mesh->definition.nodes[j].id) != COHORT_ACTIVE) {
                return false;
            }
        }
    }
    return true;
}

static bool act_meet(struct mesh *mesh)
{
    double started_ms = 0;
    say(mesh, "Starting %u nodes in this process on %" PRIu64 " shared loop%s; %" PRIu64 " links will be made.\n", mesh->count,
        mesh->options->loops, mesh->options->loops == 1 ? "" : "s", mesh->links);
    if (!start_all(mesh, &started_ms) || !wait_for(all_active, mesh, "every node tells that all others are ACTIVE")) {
        return false;
    }
    mesh->full_mesh_ms = now_ms() - started_ms;
    count_dials(mesh);
    say(mesh, "  full mesh after %.0f ms; %" PRIu64 " dials, %" PRIu64 " of which met one from the other end\n", mesh->full_mesh_ms,
        mesh->dials, mesh->crossed);
    if (!wait_for(members_agree, mesh, "every node has one link to each other and shows it ACTIVE")) {
        return false;
    }
    uint64_t anonymous = anonymous_bytes();
    mesh->bytes_per_end = anonymous > mesh->anonymous_before ? (anonymous - mesh->anonymous_before) / (2 * mesh->links) : 0;
    say(mesh, "  %" PRIu64 " bytes of anonymous memory a link end, nodes included\n", mesh->bytes_per_end);
    return true;
}

static bool all_heard(const struct mesh *mesh)
{
    return atomic_load(&mesh->heard) == 2 * mesh->links;
}

static bool act_talk(struct mesh *mesh)
{
    double started_ms = now_ms();
    for (unsigned i = 0; i < mesh->count; i++) {
        int status = cohort_broadcast(mesh->nodes[i], "demo.mesh", "good morning", 12, NULL);
        if (status != COHORT_OK) {
            return complain("a node cannot broadcast", status, NULL);
        }
    }
    if (!wait_for(all_heard, mesh, "every node has heard every other")) {
        return false;
    }
    mesh->broadcast_ms = now_ms() - started_ms;
    say(mesh, "Each node broadcasts: %" PRIu64 " messages arrived within %.0f ms\n", 2 * mesh->links, mesh->broadcast_ms);
    return true;
}

static bool act_idle(struct mesh *mesh)
{
    if (mesh->options->idle_s == 0) {
        return true;
    }
    poll(NULL, 0, IDLE_SETTLE_MS);
    double before_ms = processor_ms(), started_ms = now_ms();
    poll(NULL, 0, (int)mesh->options->idle_s * 1000); /* ends early on a signal */
    mesh->idle_ms_per_s = (processor_ms() - before_ms) / ((now_ms() - started_ms) / 1e3);
    say(mesh, "Idle for %" PRIu64 " s: %.2f ms of processor time a second\n", mesh->options->idle_s, mesh->idle_ms_per_s);
    return !demo_interrupted() && all_active(mesh);
}

static void print_json(const struct mesh *mesh, bool seen)
{
    json_t *object = json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:f, s:f}", "ok", seen, "nodes",
                               (json_int_t)mesh->count, "links", (json_int_t)mesh->links, "loops", (json_int_t)mesh->options->loops,
                               "descriptors", (json_int_t)mesh->descriptors, "messages", (json_int_t)atomic_load(&mesh->heard),
                               "dials", (json_int_t)mesh->dials, "crossed", (json_int_t)mesh->crossed, "full_mesh_ms",
                               mesh->full_mesh_ms, "bytes_per_link_end", (json_int_t)mesh->bytes_per_end, "broadcast_ms",
                               mesh->broadcast_ms, "idle_cpu_ms_per_s", mesh->idle_ms_per_s);
    json_dumpf(object, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(object);
}

static bool prepare(struct mesh *mesh)
{
    mesh->definition.nodes = calloc(mesh->count, sizeof(mesh->definition.nodes[0]));
    mesh->definition.node_count = mesh->count;
    mesh->nodes = calloc(mesh->count, sizeof(void *));
    int status = mesh->definition.nodes == NULL || mesh->nodes == NULL ? COHORT_ENOMEM : COHORT_OK;
    if (status == COHORT_OK) {
        status = cohort_loops_open((uint32_t)mesh->options->loops, NULL, &mesh->loops);
    }
    return status == COHORT_OK || complain("cannot open the loops", status, NULL);
}

bool demo_mesh(const struct mesh_options *options)
{
    struct mesh mesh = {.options = options, .count = (unsigned)options->nodes, .links = options->nodes * (options->nodes - 1) / 2};
    mesh.descriptors = descriptors_of(options->nodes);
    if (!raise_descriptor_limit(mesh.descriptors, options->nodes)) {
        return false;
    }
    bool seen = prepare(&mesh) && act_meet(&mesh) && act_talk(&mesh) && act_idle(&mesh);
    if (mesh.nodes != NULL) {
        close_nodes(&mesh);
    }
    cohort_loops_close(mesh.loops);
    free(mesh.definition.nodes);
    free(mesh.nodes);
    if (options->json) {
        print_json(&mesh, seen);
    }
    return seen;
}
