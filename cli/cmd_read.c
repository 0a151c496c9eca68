/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort members, cohort stats: what the agent knows, as JSON or aligned for people.
 */
#include "client.h"
#include "commands.h"
#include "table.h"

#include <stdio.h>

static int print_body(const struct client *client)
{
    return fwrite(client->body, 1, client->body_len, stdout) == client->body_len ? EXIT_FINE : EXIT_FAILED;
}

static int print_members(struct client *client)
{
    json_t *root = client_json(client);
    if (root == NULL) {
        return EXIT_FAILED;
    }
    table_members(root, stdout);
    json_decref(root);
    return EXIT_FINE;
}

int command_members(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "members",
        .operands = "",
        .summary = "Print the members of the cluster as the agent sees them.",
        .notes =
            "--json prints {\"local\":ID,\"members\":[{\"id\",\"ip\",\"tcpPort\",\"state\",\"local\",\"legacy\",\"incarnation\"}]}",
    };
    const char *control = NULL;
    bool as_json = false;
    const struct option options[] = {
        OPTION_CONTROL(control),
        {.name = "json", .kind = OPTION_FLAG, .target = &as_json, .help = "print JSON"},
        {.name = NULL},
    };
    const char *operands[OPERANDS_MAX];
    struct client client;
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    code = client_open(&client, usage.command, control);
    if (code != EXIT_FINE) {
        return code;
    }
    code = client_get(&client, client_url(&client, "/v1/members", NULL, NULL));
    if (code == EXIT_FINE) {
        code = as_json ? print_body(&client) : print_members(&client);
    }
    client_close(&client);
    return code;
}

static void print_counters(json_t *object, const char *prefix)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        char label[96];
        snprintf(label, sizeof(label), "%s%s", prefix, name);
        if (json_is_object(value)) {
            print_counters(value, "errors.");
        } else if (json_is_string(value)) {
            printf("%-22s %s\n", label, json_string_value(value));
        } else {
            printf("%-22s %" JSON_INTEGER_FORMAT "\n", label, json_integer_value(value));
        }
    }
}

static int print_stats(struct client *client)
{
    json_t *root = client_json(client);
    if (root == NULL) {
        return EXIT_FAILED;
    }
    print_counters(root, "");
    json_decref(root);
    return EXIT_FINE;
}

int command_stats(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "stats",
        .operands = "[ID]",
        .summary = "Print the counters of the node, or of the link to member ID that stands now. Times are nanoseconds.",
        .operands_max = 1,
    };
    const char *control = NULL;
    bool as_json = false;
    const struct option options[] = {
        OPTION_CONTROL(control),
        {.name = "json", .kind = OPTION_FLAG, .target = &as_json, .help = "print JSON"},
        {.name = NULL},
    };
    const char *operands[OPERANDS_MAX];
    struct client client;
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    code = client_open(&client, usage.command, control);
    if (code != EXIT_FINE) {
        return code;
    }
    client.about = operands[0];
    code = client_get(&client, operands[0] != NULL ? client_url(&client, "/v1/stats/", operands[0], NULL)
                                                   : client_url(&client, "/v1/stats", NULL, NULL));
    if (code == EXIT_FINE) {
        code = as_json ? print_body(&client) : print_stats(&client);
    }
    client_close(&client);
    return code;
}
