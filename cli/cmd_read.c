/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort members, cohort config show: what the agent knows, as JSON or aligned for people.
 */
#include "client.h"
#include "commands.h"
#include "output.h"
#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int print_body(const struct client *client)
{
    return output_bytes(client->command, client->body, client->body_len);
}

static int print_members(struct client *client)
{
    json_t *root = client_json(client);
    if (root == NULL) {
        return EXIT_FAILED;
    }
    table_members(root, stdout);
    int code = output_flush(client->command);
    json_decref(root);
    return code;
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

static void print_setting(const json_t *setting, FILE *out)
{
    char value[32];
    const json_t *v = json_object_get(setting, "value");
    const json_t *waits = json_object_get(setting, "restart_for");
    snprintf(value, sizeof(value), "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    const char *text = json_is_string(v) ? json_string_value(v) : json_is_integer(v) ? value : json_is_null(v) ? "-" : NULL;
    fprintf(out, "%-29s %-24s %s", json_string_value(json_object_get(setting, "key")),
            text != NULL      ? text
            : json_is_true(v) ? "true"
                              : "false",
            json_string_value(json_object_get(setting, "from")));
    char *wanted = waits != NULL ? json_dumps(waits, JSON_ENCODE_ANY) : NULL;
    fprintf(out, "%s%s\n", wanted != NULL ? "  a restart makes it " : "", wanted != NULL ? wanted : "");
    free(wanted);
}

static int print_config(struct client *client)
{
    json_t *root = client_json(client);
    if (root == NULL) {
        return EXIT_FAILED;
    }
    const char *file = json_string_value(json_object_get(root, "file"));
    printf("Configuration file: %s\n\n%-29s %-24s %s\n", file != NULL ? file : "none", "KEY", "VALUE", "FROM");
    size_t i;
    json_t *setting;
    json_array_foreach(json_object_get(root, "settings"), i, setting)
    {
        print_setting(setting, stdout);
    }
    int code = output_flush(client->command);
    json_decref(root);
    return code;
}

int command_config(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "config",
        .operands = "show",
        .summary =
            "Print the configuration the agent runs with, and where each value comes from: default, environment, definition, file\n"
            "or flag.",
        .notes = "Values that a reload found changed but only a restart can change are named as such.",
        .operands_min = 1,
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
    if (strcmp(operands[0], "show") != 0) {
        fprintf(stderr, "cohort config: '%s' is not 'show'\nTry 'cohort config --help'.\n", operands[0]);
        return EXIT_USAGE;
    }
    code = client_open(&client, usage.command, control);
    if (code != EXIT_FINE) {
        return code;
    }
    code = client_get(&client, client_url(&client, "/v1/config", NULL, NULL));
    if (code == EXIT_FINE) {
        code = as_json ? print_body(&client) : print_config(&client);
    }
    client_close(&client);
    return code;
}
