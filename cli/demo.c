/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort demo: a small cluster of real agents on this machine, shown at work. Each act says what it does and then waits until
 * the agents themselves report it; the exit code is 0 only if all of it was seen.
 */
#include "demo.h"

#include "commands.h"
#include "demo_mesh.h"
#include "table.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char subject[] = "demo.news";

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("\n");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    fflush(stdout);
}

static bool show_members(struct demo *demo, int index)
{
    json_t *root = demo_members(demo, index);
    if (root == NULL) {
        fprintf(stderr, "cohort demo: %s does not answer\n", demo->cluster.nodes[index].id);
        return false;
    }
    printf("\nMembers as %s sees them:\n", demo->cluster.nodes[index].id);
    table_members(root, stdout);
    json_decref(root);
    return true;
}

static bool send_text(struct demo *demo, int from, const char *to, const char *text)
{
    struct client *client = &demo->clients[from];
    printf("  %s sends to %s: %s\n", demo->cluster.nodes[from].id, to != NULL ? to : "all", text);
    char *url = to != NULL ? client_url(client, "/v1/send", NULL, "to", to, "subject", subject, NULL)
                           : client_url(client, "/v1/broadcast", NULL, "subject", subject, NULL);
    return client_post(client, url, text, strlen(text), 0) == EXIT_FINE;
}

/* ---- what is waited for ---- */

static bool all_active(struct demo *demo, const void *arg)
{
    (void)arg;
    for (int i = 0; i < demo->cluster.count; i++) {
        for (int j = 0; j < demo->cluster.count; j++) {
            bool active;
            uint64_t incarnation;
            if (!demo_member(demo, i, demo->cluster.nodes[j].id, &active, &incarnation) || !active) {
                return false;
            }
        }
    }
    return true;
}

static bool all_listen(struct demo *demo, const void *arg)
{
    (void)arg;
    for (int i = 0; i < demo->cluster.count; i++) {
        if (!demo->ears[i].stream.ready) {
            return false;
        }
    }
    return true;
}

/* Everybody got the greeting of the one before, and the broadcast of the first, who does not hear himself. */
static bool all_heard(struct demo *demo, const void *broadcast)
{
    int count = demo->cluster.count;
    for (int i = 0; i < count; i++) {
        char text[64];
        snprintf(text, sizeof(text), "hello %s", demo->cluster.nodes[i].id);
        if (!ear_heard(&demo->ears[i], demo->cluster.nodes[(i + count - 1) % count].id, text)) {
            return false;
        }
        if (i > 0 && !ear_heard(&demo->ears[i], demo->cluster.nodes[0].id, broadcast)) {
            return false;
        }
    }
    return true;
}

static bool last_inactive(struct demo *demo, const void *arg)
{
    (void)arg;
    int last = demo->cluster.count - 1;
    for (int i = 0; i < last; i++) {
        bool active;
        uint64_t incarnation;
        if (!demo_member(demo, i, demo->cluster.nodes[last].id, &active, &incarnation) || active) {
            return false;
        }
    }
    return true;
}

static bool last_is_back(struct demo *demo, const void *incarnation_before)
{
    const uint64_t *before = incarnation_before;
    int last = demo->cluster.count - 1;
    for (int i = 0; i < last; i++) {
        bool active;
        uint64_t incarnation;
        if (!demo_member(demo, i, demo->cluster.nodes[last].id, &active, &incarnation) || !active || incarnation <= *before) {
            return false;
        }
    }
    return all_active(demo, NULL);
}

static bool last_heard(struct demo *demo, const void *text)
{
    return ear_heard(&demo->ears[demo->cluster.count - 1], demo->cluster.nodes[0].id, text);
}

/* ---- the acts ---- */

static bool act_start(struct demo *demo)
{
    struct demo_cluster *cluster = &demo->cluster;
    say("Starting %d agents, %s at %s:%u to %s at %s:%u. Definition and logs are in %s", cluster->count, cluster->nodes[0].id,
        cluster->nodes[0].ip, (unsigned)cluster->port, cluster->nodes[cluster->count - 1].id, cluster->nodes[cluster->count - 1].ip,
        (unsigned)cluster->port, cluster->dir);
    for (int i = 0; i < cluster->count; i++) {
        if (!demo_cluster_start(cluster, i) || client_open(&demo->clients[i], "demo", cluster->nodes[i].control) != EXIT_FINE) {
            return false;
        }
        demo->client_count = i + 1;
    }
    return demo_wait(demo, all_active, NULL, "every agent reports every member ACTIVE") && show_members(demo, 0);
}

static bool act_talk(struct demo *demo)
{
    static const char broadcast[] = "good morning, all";
    int count = demo->cluster.count;
    say("Listening to '%s' at every agent; each greets the next, then %s broadcasts.", subject, demo->cluster.nodes[0].id);
    for (int i = 0; i < count; i++) {
        if (!ear_open(demo, i, subject)) {
            return false;
        }
    }
    if (!demo_wait(demo, all_listen, NULL, "every listener is subscribed")) {
        return false;
    }
    for (int i = 0; i < count; i++) {
        const char *to = demo->cluster.nodes[(i + 1) % count].id;
        char text[64];
        snprintf(text, sizeof(text), "hello %s", to);
        if (!send_text(demo, i, to, text)) {
            return false;
        }
    }
    return send_text(demo, 0, NULL, broadcast) && demo_wait(demo, all_heard, broadcast, "every message arrived");
}

static bool act_die(struct demo *demo)
{
    int last = demo->cluster.count - 1;
    say("Killing %s with SIGKILL: it cannot say goodbye.", demo->cluster.nodes[last].id);
    demo_cluster_kill(&demo->cluster, last);
    ear_close(&demo->ears[last]);
    return demo_wait(demo, last_inactive, NULL, "every other agent reports it INACTIVE") && show_members(demo, 0);
}

static bool act_return(struct demo *demo, uint64_t incarnation_before)
{
    static const char text[] = "welcome back";
    int last = demo->cluster.count - 1;
    say("Starting %s again.", demo->cluster.nodes[last].id);
    if (!demo_cluster_start(&demo->cluster, last) ||
        !demo_wait(demo, last_is_back, &incarnation_before, "everywhere it is ACTIVE with a higher incarnation") ||
        !show_members(demo, 0) || !ear_open(demo, last, subject) || !demo_wait(demo, all_listen, NULL, "its listener is subscribed")) {
        return false;
    }
    return send_text(demo, 0, demo->cluster.nodes[last].id, text) && demo_wait(demo, last_heard, text, "it can be talked to");
}

static bool act_ping(struct demo *demo)
{
    struct client *client = &demo->clients[0];
    say("Round trips from %s:", demo->cluster.nodes[0].id);
    for (int i = 1; i < demo->cluster.count; i++) {
        const char *id = demo->cluster.nodes[i].id;
        char *url = client_url(client, "/v1/echo", NULL, "to", id, "timeout_ms", "5000", NULL);
        json_t *root = client_post(client, url, NULL, 0, 5000) == EXIT_FINE ? client_json(client) : NULL;
        if (root == NULL) {
            return false;
        }
        json_int_t rtt_ns = json_integer_value(json_object_get(root, "rtt_ns"));
        json_decref(root);
        printf("  echo from %s: %" PRId64 ".%" PRId64 " us\n", id, (int64_t)rtt_ns / 1000, (int64_t)rtt_ns % 1000 / 100);
    }
    return true;
}

static bool all_ended(struct demo *demo, const void *arg)
{
    (void)arg;
    for (int i = 0; i < demo->cluster.count; i++) {
        struct demo_process *node = &demo->cluster.nodes[i];
        int status;
        if (node->pid == 0) {
            continue;
        }
        if (!demo_cluster_ended(&demo->cluster, i, &status)) {
            return false;
        }
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            fprintf(stderr, "cohort demo: NOT SEEN: %s ends with exit code 0\n", node->id);
            demo->unclean = true;
        }
    }
    return true;
}

static bool act_end(struct demo *demo)
{
    demo->ending = true;
    say("Asking all agents to end.");
    for (int i = 0; i < demo->cluster.count; i++) {
        ear_close(&demo->ears[i]);
        kill(demo->cluster.nodes[i].pid, SIGTERM);
    }
    return demo_wait(demo, all_ended, NULL, "every agent ended") && !demo->unclean;
}

static bool play(struct demo *demo)
{
    int last = demo->cluster.count - 1;
    bool active;
    uint64_t incarnation = 0;
    if (!act_start(demo) || !act_talk(demo)) {
        return false;
    }
    if (!demo_member(demo, 0, demo->cluster.nodes[last].id, &active, &incarnation)) {
        fprintf(stderr, "cohort demo: %s does not answer\n", demo->cluster.nodes[0].id);
        return false;
    }
    return act_die(demo) && act_return(demo, incarnation) && act_ping(demo) && act_end(demo);
}

static bool play_agents(int count, bool keep)
{
    static struct demo demo;
    if (!demo_cluster_open(&demo.cluster, count)) {
        return false;
    }
    demo.multi = curl_multi_init();
    bool seen = demo.multi != NULL && play(&demo);
    for (int i = 0; i < demo.client_count; i++) {
        ear_close(&demo.ears[i]);
        client_close(&demo.clients[i]);
    }
    curl_multi_cleanup(demo.multi);
    if (keep) {
        printf("\nDefinition and logs are kept in %s\n", demo.cluster.dir);
    } else if (!seen) {
        fprintf(stderr, "cohort demo: --keep keeps the logs\n");
    }
    demo_cluster_close(&demo.cluster, keep);
    if (seen) {
        say("All of it was seen.");
    }
    return seen;
}

static uint64_t processors(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online < 1 ? 1 : online > MESH_LOOPS_MAX ? MESH_LOOPS_MAX : (uint64_t)online;
}

int command_demo(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "demo",
        .operands = "",
        .summary = "Start a cluster of agents on loopback addresses of this machine and show it at work: members find each other,\n"
                   "talk, one is killed and comes back. Nothing is left behind.\n"
                   "With --nodes: so many nodes in this one process instead, each with a link to every other, and what that costs.",
        .notes = "Exit code 0 only if all of it was really seen.",
    };
    uint64_t agents = 0;
    struct mesh_options mesh = {.loops = processors(), .idle_s = 3};
    bool keep = false;
    const struct option options[] = {
        {.name = "agents",
         .kind = OPTION_NUMBER,
         .value = "N",
         .target = &agents,
         .min = DEMO_NODES_MIN,
         .max = DEMO_NODES_MAX,
         .help = "how many agents, 2 to 20, default 3"},
        {.name = "keep", .kind = OPTION_FLAG, .target = &keep, .help = "keep the agents' directory with definition and logs"},
        {.name = "nodes",
         .kind = OPTION_NUMBER,
         .value = "N",
         .target = &mesh.nodes,
         .min = MESH_NODES_MIN,
         .max = MESH_NODES_MAX,
         .help = "nodes in this process, 2 to 1000"},
        {.name = "loops",
         .kind = OPTION_NUMBER,
         .value = "N",
         .target = &mesh.loops,
         .min = 1,
         .max = MESH_LOOPS_MAX,
         .help = "with --nodes: loops they share, 1 to 64, default: one for each processor"},
        {.name = "idle",
         .kind = OPTION_NUMBER,
         .value = "S",
         .target = &mesh.idle_s,
         .min = 0,
         .max = MESH_IDLE_MAX_S,
         .help = "with --nodes: seconds for which the idle mesh is measured, default 3"},
        {.name = "json", .kind = OPTION_FLAG, .target = &mesh.json, .help = "with --nodes: results as JSON"},
        {.name = NULL},
    };
    const char *operands[OPERANDS_MAX];
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    if (mesh.nodes != 0 ? agents != 0 || keep : mesh.json) {
        fprintf(stderr, "cohort demo: --agents and --keep do not go with --nodes, --json only with it\n"
                        "Try 'cohort demo --help'.\n");
        return EXIT_USAGE;
    }
    demo_catch_signals();
    bool seen = mesh.nodes != 0 ? demo_mesh(&mesh) : play_agents(agents == 0 ? 3 : (int)agents, keep);
    return seen ? EXIT_FINE : EXIT_FAILED;
}
