/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort bench: how fast the way to a member is, as the agent measured it.
 */
#include "client.h"
#include "commands.h"
#include "output.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SLACK_MS 45000 /* for the last echoes, and until all that was sent is handled */

static uint64_t number_of(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static void print_time(const json_t *object, const char *key, const char *label)
{
    uint64_t ns = number_of(object, key);
    printf("%s %" PRIu64 ".%" PRIu64 " us", label, ns / 1000, ns % 1000 / 100);
}

static void print_result(const json_t *root)
{
    const json_t *trips = json_object_get(root, "round_trip"), *messages = json_object_get(root, "messages");
    uint64_t lost = number_of(trips, "lost");
    printf("round trips  %" PRIu64 ", %" PRIu64 " at a time: ", number_of(trips, "count"), number_of(trips, "depth"));
    print_time(trips, "p50_ns", "p50");
    print_time(trips, "p90_ns", ", p90");
    print_time(trips, "p99_ns", ", p99");
    print_time(trips, "p999_ns", ", p99.9");
    print_time(trips, "max_ns", ", max");
    printf("; %" PRIu64 "/s\n", number_of(trips, "per_second"));
    if (lost > 0) {
        printf("             %" PRIu64 " did not come back\n", lost);
    }
    uint64_t rate = number_of(messages, "bytes_per_second");
    printf("messages     %" PRIu64 " of %" PRIu64 " bytes, lane %s, all handled after %.2f s: %" PRIu64 "/s, %.1f MB/s\n",
           number_of(messages, "count"), number_of(messages, "bytes_each"), json_string_value(json_object_get(messages, "lane")),
           (double)number_of(messages, "elapsed_ns") / 1e9, number_of(messages, "per_second"), (double)rate / 1e6);
}

struct bench {
    uint64_t bytes, seconds, depth;
    const char *lane;
    bool as_json;
};

static int run(struct client *client, const struct bench *bench)
{
    char bytes[24], ms[24], depth[24];
    snprintf(bytes, sizeof(bytes), "%" PRIu64, bench->bytes);
    snprintf(ms, sizeof(ms), "%" PRIu64, bench->seconds * 1000);
    snprintf(depth, sizeof(depth), "%" PRIu64, bench->depth);
    char *url = client_url(client, "/v1/bench", NULL, "to", client->about, "bytes", bytes, "ms", ms, "depth", depth, "lane",
                           bench->lane, NULL);
    int code = client_post(client, url, NULL, 0, (uint32_t)(2 * bench->seconds * 1000 + SLACK_MS));
    if (code != EXIT_FINE) {
        return code;
    }
    if (bench->as_json) {
        return output_bytes(client->command, client->body, client->body_len);
    }
    json_t *root = client_json(client);
    if (root == NULL) {
        return EXIT_FAILED;
    }
    print_result(root);
    json_decref(root);
    return EXIT_FINE;
}

int command_bench(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "bench",
        .operands = "ID",
        .summary =
            "Measure the way to member ID: first round trips of echoes, then how many messages it takes, sent as fast as it lets.",
        .notes = "The agent measures, not this command. Messages have the subject cohort.bench, which the agent of the member "
                 "counts and\n"
                 "drops; what they need of the link is taken from others. Exit code 1 if it cannot be measured.",
        .operands_min = 1,
        .operands_max = 1,
    };
    struct bench bench = {.bytes = 16384, .seconds = 2, .depth = 1};
    const char *control = NULL;
    int lane = 2;
    const struct option options[] = {
        {.name = "bytes",
         .kind = OPTION_NUMBER,
         .value = "N",
         .target = &bench.bytes,
         .min = 1,
         .max = 16777216,
         .help = "data of each message, default 16384"},
        {.name = "seconds",
         .kind = OPTION_NUMBER,
         .value = "N",
         .target = &bench.seconds,
         .min = 1,
         .max = 60,
         .help = "how long each of the two is measured, default 2"},
        {.name = "depth",
         .kind = OPTION_NUMBER,
         .value = "N",
         .target = &bench.depth,
         .min = 1,
         .max = 64,
         .help = "echoes under way at any time, default 1"},
        {.name = "lane",
         .kind = OPTION_CHOICE,
         .value = "LANE",
         .target = &lane,
         .choices = lane_names,
         .help = "of the messages, default bulk"},
        {.name = "json", .kind = OPTION_FLAG, .target = &bench.as_json, .help = "print JSON"},
        OPTION_CONTROL(control),
        {.name = NULL},
    };
    const char *operands[OPERANDS_MAX];
    struct client client;
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    bench.lane = lane_names[lane];
    code = client_open(&client, usage.command, control);
    if (code == EXIT_FINE) {
        client.about = operands[0];
        client.patience_ms = (uint32_t)(2 * bench.seconds * 1000);
        code = run(&client, &bench);
        client_close(&client);
    }
    return code;
}
