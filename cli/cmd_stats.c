/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort stats: counters and rates of the node and its links, once or again and again. The rates are the agent's: the average since the
 * last reading at least half a second ago, which in a watch is the one before.
 */
#include "client.h"
#include "commands.h"
#include "output.h"
#include "table.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct stats {
    struct client client;
    const char *id; /* NULL: the node and all its links */
    uint64_t watch_s, count;
    bool as_json;
};

static const char *const rate_suffix = "_per_s";

static bool is_rate(const char *name)
{
    size_t len = strlen(name), suffix = strlen(rate_suffix);
    return len > suffix && strcmp(name + len - suffix, rate_suffix) == 0;
}

/* One a line; a rate stands beside its counter. */
static void print_counters(json_t *object, const char *prefix)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        char label[96], rate_name[96];
        snprintf(label, sizeof(label), "%s%s", prefix, name);
        snprintf(rate_name, sizeof(rate_name), "%s%s", name, rate_suffix);
        const json_t *rate = json_object_get(object, rate_name);
        if (json_is_object(value)) {
            print_counters(value, "errors.");
        } else if (json_is_string(value)) {
            printf("%-22s %s\n", label, json_string_value(value));
        } else if (rate != NULL) {
            printf("%-22s %-20" JSON_INTEGER_FORMAT " %" JSON_INTEGER_FORMAT "/s\n", label, json_integer_value(value),
                   json_integer_value(rate));
        } else if (!is_rate(name)) {
            printf("%-22s %" JSON_INTEGER_FORMAT "\n", label, json_integer_value(value));
        }
    }
}

/* ---- once ---- */

static char *url_of(struct stats *stats)
{
    return stats->id != NULL ? client_url(&stats->client, "/v1/stats/", stats->id, NULL)
                             : client_url(&stats->client, "/v1/stats", NULL, NULL);
}

static json_t *ask(struct stats *stats, char *url)
{
    return client_get(&stats->client, url) == EXIT_FINE ? client_json(&stats->client) : NULL;
}

static int print_once(struct stats *stats)
{
    json_t *root = ask(stats, url_of(stats));
    if (root == NULL) {
        return EXIT_FAILED;
    }
    if (stats->as_json) {
        fwrite(stats->client.body, 1, stats->client.body_len, stdout);
    } else {
        print_counters(root, "");
    }
    int code = output_flush(stats->client.command);
    json_decref(root);
    return code;
}

/* ---- again and again ---- */

static void print_heading(void)
{
    time_t now = time(NULL);
    struct tm parts;
    char when[32] = "";
    if (localtime_r(&now, &parts) != NULL) {
        strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &parts);
    }
    if (isatty(STDOUT_FILENO) != 0) {
        printf("\x1b[H\x1b[J"); /* to the corner, and all behind it away: the table stays in place */
    }
    printf("%s\n", when);
}

/* Everything of a watch: {"node":...,"links":[...]}, or with an ID {"links":[that]}. NULL: complained. */
static json_t *gather(struct stats *stats)
{
    json_t *all = json_object();
    json_t *first = ask(stats, url_of(stats));
    if (first == NULL || stats->id != NULL) {
        json_object_set_new(all, "links", first != NULL ? json_pack("[o]", first) : NULL);
    } else {
        json_t *links = ask(stats, client_url(&stats->client, "/v1/links", NULL, NULL));
        json_object_set_new(all, "node", first);
        json_object_set(all, "links", json_object_get(links, "links"));
        json_decref(links);
    }
    if (json_object_get(all, "links") == NULL) {
        json_decref(all);
        return NULL;
    }
    return all;
}

static int print_round(struct stats *stats)
{
    json_t *all = gather(stats);
    if (all == NULL) {
        return EXIT_FAILED;
    }
    if (stats->as_json) {
        json_dumpf(all, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
        printf("\n");
    } else {
        print_heading();
        table_traffic(all, stdout);
        printf("\n");
    }
    int code = output_flush(stats->client.command);
    json_decref(all);
    return code;
}

static int print_rounds(struct stats *stats)
{
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (uint64_t round = 1;; round++) {
        int code = print_round(stats);
        if (code != EXIT_FINE || round == stats->count) {
            return code;
        }
        next.tv_sec += (time_t)stats->watch_s;
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL) != 0) {
        }
    }
}

int command_stats(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "stats",
        .operands = "[ID]",
        .summary =
            "Print the counters of the node, or of the link to member ID that stands now, with the rates of those that have one.\n"
            "Times are nanoseconds.",
        .notes = "A rate is the average since somebody asked for it before, at least half a second ago.",
        .operands_max = 1,
    };
    struct stats stats = {.watch_s = 0};
    const char *control = NULL;
    const struct option options[] = {
        {.name = "watch",
         .letter = 'w',
         .kind = OPTION_MAYBE,
         .value = "SECONDS",
         .target = &stats.watch_s,
         .min = 1,
         .max = 86400,
         .help = "print a table of the node and its links every SECONDS, default 1"},
        {.name = "count",
         .letter = 'c',
         .kind = OPTION_NUMBER,
         .value = "N",
         .target = &stats.count,
         .min = 1,
         .max = 1000000000,
         .help = "with --watch: end after N tables"},
        {.name = "json", .kind = OPTION_FLAG, .target = &stats.as_json, .help = "print JSON, with --watch one object a line"},
        OPTION_CONTROL(control),
        {.name = NULL},
    };
    const char *operands[OPERANDS_MAX];
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    if (stats.count > 0 && stats.watch_s == 0) {
        return options_misuse(&usage, "--count goes with --watch only");
    }
    code = client_open(&stats.client, usage.command, control);
    if (code != EXIT_FINE) {
        return code;
    }
    stats.id = operands[0];
    stats.client.about = operands[0];
    code = stats.watch_s > 0 ? print_rounds(&stats) : print_once(&stats);
    client_close(&stats.client);
    return code;
}
