/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort send, cohort broadcast: one message out.
 */
#include "client.h"
#include "commands.h"
#include "input.h"
#include "output.h"

#include <stdio.h>
#include <stdlib.h>

int command_send(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "send",
        .operands = "ID SUBJECT [TEXT|-]",
        .summary = "Send a message to member ID. Without TEXT, or with -, the data is read from standard input to its end.",
        .notes = "SUBJECT is a name, or '#TYPE' for a raw frame of that type, which members of the 2014 system understand too.\n"
                 "Success means that the message is queued, not that it was handled.",
        .operands_min = 2,
        .operands_max = 3,
    };
    const char *control = NULL;
    int lane = -1;
    const struct option options[] = {
        {.name = "lane",
         .kind = OPTION_CHOICE,
         .value = "LANE",
         .target = &lane,
         .choices = lane_names,
         .help = "in which the agent sends this subject from now on"},
        OPTION_CONTROL(control),
        {.name = NULL},
    };
    const char *operands[OPERANDS_MAX];
    struct client client;
    struct input input = {.bytes = NULL};
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    code = client_open(&client, usage.command, control);
    if (code != EXIT_FINE) {
        return code;
    }
    client.about = operands[0];
    code = input_take(usage.command, operands[2], &input);
    if (code == EXIT_FINE) {
        char *url = client_url(&client, "/v1/send", NULL, "to", operands[0], "subject", operands[1], lane >= 0 ? "lane" : NULL,
                               lane >= 0 ? lane_names[lane] : NULL, NULL);
        code = client_post(&client, url, input.bytes, input.len, 0);
    }
    free(input.bytes);
    client_close(&client);
    return code;
}

static int print_queued(struct client *client, bool as_json)
{
    if (as_json) {
        return output_bytes(client->command, client->body, client->body_len);
    }
    json_t *root = client_json(client);
    if (root == NULL) {
        return EXIT_FAILED;
    }
    json_int_t queued = json_integer_value(json_object_get(root, "queued"));
    printf("queued for %" JSON_INTEGER_FORMAT " %s\n", queued, queued == 1 ? "member" : "members");
    json_decref(root);
    return EXIT_FINE;
}

int command_broadcast(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "broadcast",
        .operands = "SUBJECT [TEXT|-]",
        .summary = "Send a message to every active member, and say for how many it was queued. Without TEXT, or with -, the data\n"
                   "is read from standard input to its end.",
        .notes = "SUBJECT is a name, or '#TYPE' for a raw frame. A name does not go to members of the 2014 system.",
        .operands_min = 1,
        .operands_max = 2,
    };
    const char *control = NULL;
    bool as_json = false, local = false;
    const struct option options[] = {
        {.name = "local", .kind = OPTION_FLAG, .target = &local, .help = "to the agent itself, too"},
        OPTION_CONTROL(control),
        {.name = "json", .kind = OPTION_FLAG, .target = &as_json, .help = "print JSON"},
        {.name = NULL},
    };
    const char *operands[OPERANDS_MAX];
    struct client client;
    struct input input = {.bytes = NULL};
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    code = client_open(&client, usage.command, control);
    if (code != EXIT_FINE) {
        return code;
    }
    code = input_take(usage.command, operands[1], &input);
    if (code == EXIT_FINE) {
        char *url = client_url(&client, "/v1/broadcast", NULL, "subject", operands[0], local ? "local" : NULL, "1", NULL);
        code = client_post(&client, url, input.bytes, input.len, 0);
    }
    if (code == EXIT_FINE) {
        code = print_queued(&client, as_json);
    }
    free(input.bytes);
    client_close(&client);
    return code;
}
