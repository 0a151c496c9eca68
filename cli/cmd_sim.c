/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort sim: plays one scenario, or a swarm of random ones, and says whether every check held.
 */
#include "commands.h"
#include "options.h"

#include <cohort/sim.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    SCENARIO_FILE_BYTES_MAX = 1024 * 1024,
    SHORTEST_BYTES_MAX = 256 * 1024
};

struct sim_options {
    uint64_t nodes, seed, swarm;
    const char *scenario;
    bool trace, json;
};

static const struct usage usage = {
    .command = "sim",
    .operands = "",
    .summary = "Play a simulated cluster of real nodes in virtual time, and check it.",
    .notes = "NAME is one of calm, crash, power, partition, one-way, resets, half-open, dead-halves, reboot, pause, clock, churn,\n"
             "overtake, strangers, requests, flood, queues, remove, or random: what the seed gives. A FILE holds a scenario as "
             "docs/simulation.md\n"
             "describes it. Equal seeds give equal runs; the hash proves it.\n"
             "A swarm plays the random scenarios of the seeds from --seed on, each twice, and shortens the first that fails.",
};

static double seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void print_trace(void *ctx, uint64_t now_ns, const char *line)
{
    printf("%12.6f  %s\n", (double)now_ns / 1e9, line);
}

static void print_json(const cohort_sim_report *report, double took_s, const char *shortest)
{
    json_t *object =
        json_pack("{s:b, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f}", "passed", report->passed, "seed", (json_int_t)report->seed,
                  "runs", (json_int_t)report->runs, "events", (json_int_t)report->events, "messages", (json_int_t)report->messages,
                  "node_seconds", (double)report->node_ns / 1e9, "converged_seconds", (double)report->converged_ns / 1e9,
                  "wall_seconds", took_s, "node_seconds_per_second", (double)report->node_ns / 1e9 / took_s);
    char hash[17];
    snprintf(hash, sizeof(hash), "%016" PRIx64, report->hash);
    json_object_set_new(object, "hash", json_string(hash));
    if (!report->passed) {
        json_object_set_new(object, "failure", json_string(report->failure));
        json_object_set_new(object, "scenario", json_string(shortest));
    }
    json_dumpf(object, stdout, JSON_PRESERVE_ORDER);
    printf("\n");
    json_decref(object);
}

static void print_text(const cohort_sim_report *report, double took_s, const char *shortest)
{
    double node_s = (double)report->node_ns / 1e9;
    printf("%s: %" PRIu64 " run%s, %" PRIu64 " events, %" PRIu64 " messages, %.1f node-seconds in %.2f s (%.0f per second)\n",
           report->passed ? "passed" : "FAILED", report->runs, report->runs == 1 ? "" : "s", report->events, report->messages,
           node_s, took_s, node_s / took_s);
    printf("converged %.3f s after the faults ended%s\n", (double)report->converged_ns / 1e9,
           report->runs > 1 ? ", at the longest" : "");
    if (report->runs == 1) {
        printf("seed %" PRIu64 " hash %016" PRIx64 "\n", report->seed, report->hash);
    }
    if (!report->passed) {
        printf("seed %" PRIu64 ": %s\n", report->seed, report->failure);
    }
    if (!report->passed && shortest[0] != '\0') {
        printf("\nShortest scenario that still fails under this seed; save it and repeat it with\n"
               "cohort sim --seed %" PRIu64 " --scenario FILE --trace\n\n%s",
               report->seed, shortest);
    }
}

/* The text of a file; NULL and a complaint when it cannot be read. */
static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = file == NULL ? NULL : calloc(1, SCENARIO_FILE_BYTES_MAX + 1);
    size_t len = text == NULL ? 0 : fread(text, 1, SCENARIO_FILE_BYTES_MAX, file);
    bool failed = text == NULL || ferror(file) != 0 || len == SCENARIO_FILE_BYTES_MAX;
    if (failed) {
        fprintf(stderr, "cohort: '%s' is no scenario of ours and cannot be read as a file\n", path);
        free(text);
        text = NULL;
    }
    if (file != NULL) {
        fclose(file);
    }
    return text;
}

static bool is_known(const char *name)
{
    for (size_t i = 0; cohort_sim_scenario_name(i) != NULL; i++) {
        if (strcmp(cohort_sim_scenario_name(i), name) == 0) {
            return true;
        }
    }
    return strcmp(name, "random") == 0;
}

static int play_one(const struct sim_options *options, cohort_sim_report *report)
{
    cohort_error error = {.code = COHORT_OK};
    char *text = is_known(options->scenario) ? NULL : read_file(options->scenario);
    if (text == NULL && !is_known(options->scenario)) {
        return COHORT_EFILE;
    }
    int status = cohort_sim_play(text == NULL ? options->scenario : text, (uint32_t)options->nodes, options->seed,
                                 options->trace ? print_trace : NULL, NULL, report, &error);
    free(text);
    if (status != COHORT_OK) {
        fprintf(stderr, "cohort: %s\n", error.text[0] == '\0' ? cohort_error_text(status) : error.text);
    }
    return status;
}

static int play(const struct sim_options *options, char *shortest)
{
    cohort_sim_report report;
    double begin_s = seconds();
    int status = options->swarm > 0 ? cohort_sim_swarm(options->seed, options->swarm, &report, shortest, SHORTEST_BYTES_MAX)
                                    : play_one(options, &report);
    if (status != COHORT_OK) {
        return EXIT_FAILED;
    }
    double took_s = seconds() - begin_s;
    (options->json ? print_json : print_text)(&report, took_s, shortest);
    return report.passed ? EXIT_FINE : EXIT_FAILED;
}

int command_sim(int argc, char **argv)
{
    struct sim_options sim = {.seed = 1, .scenario = "calm"};
    const struct option options[] = {
        {.name = "nodes", .kind = OPTION_NUMBER, .value = "N", .target = &sim.nodes, .min = 1, .max = 1000, .help = "how many, default 3"},
        {.name = "seed", .kind = OPTION_NUMBER, .value = "S", .target = &sim.seed, .min = 0, .max = UINT64_MAX, .help = "default 1"},
        {.name = "scenario", .kind = OPTION_TEXT, .value = "NAME|FILE", .target = &sim.scenario, .help = "default calm"},
        {.name = "swarm", .kind = OPTION_NUMBER, .value = "COUNT", .target = &sim.swarm, .min = 1, .max = 1000000000, .help = "random runs"},
        {.name = "trace", .kind = OPTION_FLAG, .target = &sim.trace, .help = "print every event"},
        {.name = "json", .kind = OPTION_FLAG, .target = &sim.json, .help = "one JSON object"},
        {.name = NULL},
    };
    const char *operands[OPERANDS_MAX];
    int code = 0;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    char *shortest = calloc(1, SHORTEST_BYTES_MAX);
    if (shortest == NULL) {
        return EXIT_FAILED;
    }
    code = play(&sim, shortest);
    free(shortest);
    return code;
}
