/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort request: ask a member, or all of them, and print what they reply.
 */
#include "client.h"
#include "commands.h"
#include "input.h"
#include "output.h"
#include "payload.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct question {
    const char *command, *to, *subject;
    uint64_t timeout_s;
    bool as_json;
};

static int print_body(const struct client *client)
{
    return output_bytes(client->command, client->body, client->body_len);
}

/* The reply as it is, with nothing added. */
static int print_reply(struct client *client, const struct question *question)
{
    struct input reply;
    json_t *root = client_json(client);
    if (root == NULL) {
        return EXIT_FAILED;
    }
    int code = EXIT_FAILED;
    if (payload_take(root, &reply)) {
        code = output_bytes(question->command, reply.bytes, reply.len);
    } else {
        fprintf(stderr, "cohort %s: the reply is not understood\n", question->command);
    }
    free(reply.bytes);
    json_decref(root);
    return code;
}

/* A line for each reply; complaints for the others. */
static int print_results(struct client *client, const struct question *question)
{
    json_t *root = client_json(client);
    if (root == NULL) {
        return EXIT_FAILED;
    }
    const json_t *results = json_object_get(root, "results");
    int code = EXIT_FINE;
    for (size_t i = 0; i < json_array_size(results); i++) {
        const json_t *result = json_array_get(results, i);
        const json_t *error = json_object_get(result, "error");
        const char *from = json_string_value(json_object_get(result, "from"));
        if (error == NULL) {
            printf("%s ", from);
            payload_print(result, stdout);
            printf("\n");
            code = output_flush(question->command) == EXIT_FINE ? code : EXIT_FAILED;
            continue;
        }
        const char *text = json_string_value(json_object_get(error, "text"));
        fprintf(stderr, "cohort %s: %s: %s (%s)\n", question->command, from, text, json_string_value(json_object_get(error, "code")));
        code = EXIT_FAILED;
    }
    json_decref(root);
    return code;
}

/* With --json all of it was printed; an error in it is one all the same. */
static int judge_results(struct client *client)
{
    json_t *root = client_json(client);
    const json_t *results = json_object_get(root, "results");
    int code = root != NULL ? EXIT_FINE : EXIT_FAILED;
    for (size_t i = 0; i < json_array_size(results); i++) {
        code = json_object_get(json_array_get(results, i), "error") != NULL ? EXIT_FAILED : code;
    }
    json_decref(root);
    return code;
}

static int ask(const struct question *question, const char *control, const char *text)
{
    struct client client;
    struct input input = {.bytes = NULL};
    char timeout[24];
    int code = client_open(&client, question->command, control);
    if (code != EXIT_FINE) {
        return code;
    }
    client.about = question->to;
    code = input_take(question->command, text, &input);
    if (code == EXIT_FINE) {
        uint64_t timeout_ms = question->timeout_s * 1000;
        snprintf(timeout, sizeof(timeout), "%" PRIu64, timeout_ms);
        char *url = client_url(&client, "/v1/request", NULL, question->to != NULL ? "to" : "all",
                               question->to != NULL ? question->to : "1", "subject", question->subject, "timeout_ms", timeout, NULL);
        code = client_post(&client, url, input.bytes, input.len, (uint32_t)timeout_ms);
    }
    free(input.bytes);
    if (code == EXIT_FINE && question->as_json) {
        code = print_body(&client);
        code = code == EXIT_FINE && question->to == NULL ? judge_results(&client) : code;
    } else if (code == EXIT_FINE) {
        code = question->to != NULL ? print_reply(&client, question) : print_results(&client, question);
    }
    client_close(&client);
    return code;
}

int command_request(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "request",
        .operands = "[ID] SUBJECT [TEXT|-]",
        .summary =
            "Ask member ID, wait for its reply, and print that as it is. Without TEXT, or with -, the data is read from standard\n"
            "input to its end.",
        .notes = "With --all there is no ID: every active member is asked, and each reply is a line, ID TEXT. Exit code 1 if any "
                 "did not\n"
                 "reply. Members of the 2014 system know no requests.",
        .operands_min = 1,
        .operands_max = 3,
    };
    struct question question = {.command = usage.command, .timeout_s = 5};
    const char *control = NULL;
    bool all = false;
    const struct option options[] = {
        {.name = "all", .kind = OPTION_FLAG, .target = &all, .help = "ask every active member"},
        {.name = "timeout",
         .kind = OPTION_NUMBER,
         .value = "S",
         .target = &question.timeout_s,
         .min = 1,
         .max = 600,
         .help = "seconds to wait for the reply, default 5"},
        {.name = "json", .kind = OPTION_FLAG, .target = &question.as_json, .help = "print JSON"},
        OPTION_CONTROL(control),
        {.name = NULL},
    };
    const char *operands[OPERANDS_MAX];
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    if (all ? operands[2] != NULL : operands[1] == NULL) {
        return options_misuse(&usage, all ? "with --all there is no ID, so at most SUBJECT and TEXT" : "ID and SUBJECT are needed");
    }
    question.to = all ? NULL : operands[0];
    question.subject = operands[all ? 0 : 1];
    return ask(&question, control, operands[all ? 1 : 2]);
}
