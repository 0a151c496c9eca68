/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort add, cohort remove: change who is a member, at the agent that is asked. Others learn of it in their own ways.
 */
#include "client.h"
#include "commands.h"

#include <stdio.h>

/* Print the answer, or one line that says it. */
static int print_answer(struct client *client, bool as_json, bool added)
{
    json_t *root = client_json(client);
    if (root == NULL) {
        return EXIT_FAILED;
    }
    if (as_json) {
        fwrite(client->body, 1, client->body_len, stdout);
    } else if (added) {
        printf("added %s at %s:%" JSON_INTEGER_FORMAT "\n", client->about, json_string_value(json_object_get(root, "ip")),
               json_integer_value(json_object_get(root, "tcpPort")));
    } else {
        printf("removed %s\n", client->about);
    }
    json_decref(root);
    return EXIT_FINE;
}

int command_add(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "add",
        .operands = "ID IP",
        .summary = "Add member ID at address IP, or give a member another address. The agent dials it at once.",
        .notes = "This is not written to the cluster definition, and other members are not told: do it at each of them.",
        .operands_min = 2,
        .operands_max = 2,
    };
    const char *control = NULL;
    bool as_json = false;
    uint64_t port = 9876;
    const struct option options[] = {
        {.name = "port", .kind = OPTION_NUMBER, .value = "N", .target = &port, .min = 1, .max = 65535, .help = "TCP port, default 9876"},
        {.name = "json", .kind = OPTION_FLAG, .target = &as_json, .help = "print the member as JSON"},
        OPTION_CONTROL(control),
        {.name = NULL},
    };
    const char *operands[OPERANDS_MAX];
    struct client client;
    char port_text[24];
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    code = client_open(&client, usage.command, control);
    if (code != EXIT_FINE) {
        return code;
    }
    client.about = operands[0];
    snprintf(port_text, sizeof(port_text), "%llu", (unsigned long long)port);
    code = client_put(&client, client_url(&client, "/v1/members/", operands[0], "ip", operands[1], "port", port_text, NULL));
    if (code == EXIT_FINE) {
        code = print_answer(&client, as_json, true);
    }
    client_close(&client);
    return code;
}

int command_remove(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "remove",
        .operands = "ID",
        .summary = "Remove member ID and close its links. Its greetings are refused until it is added again.",
        .notes = "A reload adds it again if the cluster definition still lists it. Other members are not told.",
        .operands_min = 1,
        .operands_max = 1,
    };
    const char *control = NULL;
    bool as_json = false;
    const struct option options[] = {
        {.name = "json", .kind = OPTION_FLAG, .target = &as_json, .help = "print JSON"},
        OPTION_CONTROL(control),
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
    code = client_delete(&client, client_url(&client, "/v1/members/", operands[0], NULL));
    if (code == EXIT_FINE) {
        code = print_answer(&client, as_json, false);
    }
    client_close(&client);
    return code;
}
