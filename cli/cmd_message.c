/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort send, cohort broadcast: one message out.
 */
#include "client.h"
#include "commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INPUT_BYTES_MAX = 64 << 20,
    INPUT_STEP_BYTES = 65536
};

struct input {
    char *bytes;
    size_t len;
};

static int complain(const char *command, const char *text)
{
    fprintf(stderr, "cohort %s: %s\n", command, text);
    return EXIT_FAILED;
}

static int read_stdin(const char *command, struct input *input)
{
    size_t capacity = 0;
    for (;;) {
        if (capacity - input->len < INPUT_STEP_BYTES) {
            capacity = capacity * 2 + INPUT_STEP_BYTES;
            char *grown = realloc(input->bytes, capacity);
            if (grown == NULL) {
                return complain(command, "out of memory");
            }
            input->bytes = grown;
        }
        size_t got = fread(input->bytes + input->len, 1, INPUT_STEP_BYTES, stdin);
        input->len += got;
        if (input->len > INPUT_BYTES_MAX) {
            return complain(command, "standard input is larger than 64 MiB");
        }
        if (ferror(stdin)) {
            return complain(command, strerror(errno));
        }
        if (got == 0) {
            return EXIT_FINE;
        }
    }
}

/* TEXT, or standard input where it is "-" or absent. */
static int take_input(const char *command, const char *text, struct input *input)
{
    if (text == NULL || strcmp(text, "-") == 0) {
        return read_stdin(command, input);
    }
    input->bytes = strdup(text);
    input->len = strlen(text);
    return input->bytes != NULL ? EXIT_FINE : complain(command, "out of memory");
}

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
    const struct option options[] = {OPTION_CONTROL(control), {.name = NULL}};
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
    code = take_input(usage.command, operands[2], &input);
    if (code == EXIT_FINE) {
        char *url = client_url(&client, "/v1/send", NULL, "to", operands[0], "subject", operands[1], NULL);
        code = client_post(&client, url, input.bytes, input.len, 0);
    }
    free(input.bytes);
    client_close(&client);
    return code;
}

static int print_queued(struct client *client, bool as_json)
{
    if (as_json) {
        return fwrite(client->body, 1, client->body_len, stdout) == client->body_len ? EXIT_FINE : EXIT_FAILED;
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
    bool as_json = false;
    const struct option options[] = {
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
    code = take_input(usage.command, operands[1], &input);
    if (code == EXIT_FINE) {
        code = client_post(&client, client_url(&client, "/v1/broadcast", NULL, "subject", operands[0], NULL), input.bytes,
                           input.len, 0);
    }
    if (code == EXIT_FINE) {
        code = print_queued(&client, as_json);
    }
    free(input.bytes);
    client_close(&client);
    return code;
}
