/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort ping: echo round trips, one after another, as the agent measured them.
 */
#include "client.h"
#include "commands.h"
#include "output.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ping {
    const char *id;
    uint64_t count, size, timeout_ms;
    bool as_json;
    uint64_t *rtt_ns; /* of those that came back */
    uint64_t received;
};

static void print_us(FILE *out, uint64_t ns)
{
    fprintf(out, "%" PRIu64 ".%" PRIu64 " us", ns / 1000, ns % 1000 / 100);
}

static int one(struct client *client, struct ping *ping, uint64_t number)
{
    char size[24], timeout[24];
    snprintf(size, sizeof(size), "%" PRIu64, ping->size);
    snprintf(timeout, sizeof(timeout), "%" PRIu64, ping->timeout_ms);
    char *url = client_url(client, "/v1/echo", NULL, "to", ping->id, "size", size, "timeout_ms", timeout, NULL);
    int code = client_post(client, url, NULL, 0, (uint32_t)ping->timeout_ms);
    json_t *root = code == EXIT_FINE ? client_json(client) : NULL;
    if (root == NULL) {
        return EXIT_FAILED;
    }
    uint64_t rtt_ns = (uint64_t)json_integer_value(json_object_get(root, "rtt_ns"));
    json_decref(root);
    ping->rtt_ns[ping->received++] = rtt_ns;
    if (!ping->as_json) {
        printf("echo %" PRIu64 " from %s: ", number, ping->id);
        print_us(stdout, rtt_ns);
        printf("\n");
        return output_flush(client->command);
    }
    return EXIT_FINE;
}

static void print_summary(const struct ping *ping)
{
    uint64_t min = UINT64_MAX, max = 0, sum = 0;
    for (uint64_t i = 0; i < ping->received; i++) {
        min = ping->rtt_ns[i] < min ? ping->rtt_ns[i] : min;
        max = ping->rtt_ns[i] > max ? ping->rtt_ns[i] : max;
        sum += ping->rtt_ns[i];
    }
    uint64_t avg = ping->received > 0 ? sum / ping->received : 0;
    if (ping->as_json) {
        printf("{\"id\":\"%s\",\"sent\":%" PRIu64 ",\"received\":%" PRIu64 ",\"rtt_ns\":[", ping->id, ping->count, ping->received);
        for (uint64_t i = 0; i < ping->received; i++) {
            printf("%s%" PRIu64, i == 0 ? "" : ",", ping->rtt_ns[i]);
        }
        printf("]");
        if (ping->received > 0) {
            printf(",\"min_ns\":%" PRIu64 ",\"avg_ns\":%" PRIu64 ",\"max_ns\":%" PRIu64, min, avg, max);
        }
        printf("}\n");
        return;
    }
    printf("%" PRIu64 " of %" PRIu64 " came back", ping->received, ping->count);
    if (ping->received > 0) {
        printf(", min ");
        print_us(stdout, min);
        printf(", avg ");
        print_us(stdout, avg);
        printf(", max ");
        print_us(stdout, max);
    }
    printf("\n");
}

static int run(struct ping *ping, const char *command, const char *control)
{
    struct client client;
    int code = client_open(&client, command, control);
    if (code != EXIT_FINE) {
        return code;
    }
    client.about = ping->id;
    ping->rtt_ns = calloc(ping->count, sizeof(*ping->rtt_ns));
    if (ping->rtt_ns == NULL) {
        fprintf(stderr, "cohort %s: out of memory\n", command);
        client_close(&client);
        return EXIT_FAILED;
    }
    bool reached = true; /* without an agent, or for an id that is no member, each further attempt would only say so again */
    for (uint64_t i = 1; i <= ping->count && reached; i++) {
        if (one(&client, ping, i) != EXIT_FINE) {
            code = EXIT_FAILED;
            reached = client.status / 100 == 5 || client.status == 409 || client.status == 429;
        }
    }
    if (reached) {
        print_summary(ping);
    }
    free(ping->rtt_ns);
    client_close(&client);
    return code;
}

int command_ping(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "ping",
        .operands = "ID",
        .summary = "Send echoes to member ID, one after another, and print how long each took to come back.",
        .notes = "Exit code 1 if any did not come back. Members of the 2014 system never answer.",
        .operands_min = 1,
        .operands_max = 1,
    };
    struct ping ping = {.count = 4, .timeout_ms = 1000};
    const char *control = NULL;
    const struct option options[] = {
        {.name = "count",
         .letter = 'c',
         .kind = OPTION_NUMBER,
         .value = "N",
         .target = &ping.count,
         .min = 1,
         .max = 1000000,
         .help = "how many, default 4"},
        {.name = "size",
         .kind = OPTION_NUMBER,
         .value = "BYTES",
         .target = &ping.size,
         .min = 0,
         .max = 32752,
         .help = "data of each echo, default 0: 16 bytes of the library"},
        {.name = "timeout",
         .kind = OPTION_NUMBER,
         .value = "MS",
         .target = &ping.timeout_ms,
         .min = 1,
         .max = 60000,
         .help = "how long to wait for each, default 1000"},
        {.name = "json", .kind = OPTION_FLAG, .target = &ping.as_json, .help = "print one JSON object at the end"},
        OPTION_CONTROL(control),
        {.name = NULL},
    };
    const char *operands[OPERANDS_MAX];
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    ping.id = operands[0];
    return run(&ping, usage.command, control);
}
