/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort listen, cohort watch: what happens, printed as it happens, each item on a line of its own and flushed at once.
 */
#include "client.h"
#include "commands.h"
#include "output.h"
#include "payload.h"
#include "replier.h"
#include "saver.h"

#include <stdio.h>
#include <string.h>

#define JOBS_DEFAULT 4

struct follow {
    const char *command;
    uint64_t count; /* 0: no end */
    bool as_json;
    bool ready;
    bool write_failed;
    void (*print)(const json_t *item);
};

/* A line is out, and counts or not. False: enough. */
static bool line_done(struct follow *follow, bool counts)
{
    if (output_flush(follow->command) != EXIT_FINE) {
        follow->write_failed = true;
        return false;
    }
    return !counts || follow->count == 0 || --follow->count > 0;
}

static void print_dropped(const struct follow *follow, const json_t *item)
{
    fprintf(stderr, "cohort %s: %" JSON_INTEGER_FORMAT " were dropped here: we read too slowly\n", follow->command,
            json_integer_value(json_object_get(item, "dropped")));
}

static bool on_item(void *arg, const char *event, const char *data, size_t len)
{
    struct follow *follow = arg;
    json_t *item = json_loadb(data, len, JSON_ALLOW_NUL, NULL);
    bool more = true;
    if (!json_is_object(item)) {
        fprintf(stderr, "cohort %s: an event is not understood\n", follow->command);
    } else if (strcmp(event, "overflow") == 0) {
        print_dropped(follow, item);
    } else {
        const char *type = json_string_value(json_object_get(item, "type"));
        if (follow->as_json) {
            fwrite(data, 1, len, stdout);
            fputc('\n', stdout);
        } else {
            follow->print(item);
        }
        more = line_done(follow, type == NULL || strcmp(type, "PRESENT") != 0);
    }
    json_decref(item);
    return more;
}

static void on_ready(void *arg)
{
    const struct follow *follow = arg;
    if (follow->ready) {
        fprintf(stderr, "listening\n");
    }
}

static int follow_stream(struct follow *follow, struct client *client, char *url)
{
    struct client_stream stream = {.on_event = on_item, .on_ready = on_ready, .arg = follow};
    int code = client_stream_run(client, url, &stream);
    return follow->write_failed ? EXIT_FAILED : code;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "?";
}

static void print_message(const json_t *item)
{
    printf("%s %s ", text_of(item, "from"), text_of(item, "subject"));
    payload_print(item, stdout);
    printf("\n");
}

/* What watch says of a message that was accepted and may never have arrived. */
static void print_undelivered(const json_t *item)
{
    printf("UNDELIVERED %s %s %" JSON_INTEGER_FORMAT " bytes%s (%s)\n", text_of(item, "to"), text_of(item, "subject"),
           json_integer_value(json_object_get(item, "bytes")),
           json_is_true(json_object_get(item, "maybe_handled")) ? ", may have been handled" : "",
           text_of(json_object_get(item, "reason"), "text"));
}

static void print_change(const json_t *item)
{
    if (json_object_get(item, "to") != NULL) {
        print_undelivered(item);
        return;
    }
    const json_t *member = json_object_get(item, "member");
    const json_t *reason = json_object_get(item, "reason");
    printf("%-11s %s %s:%" JSON_INTEGER_FORMAT " %s", text_of(item, "type"), text_of(member, "id"), text_of(member, "ip"),
           json_integer_value(json_object_get(member, "tcpPort")), text_of(member, "state"));
    if (json_is_true(json_object_get(member, "local"))) {
        printf(" local");
    }
    if (json_is_true(json_object_get(member, "legacy"))) {
        printf(" legacy");
    }
    if (reason != NULL) {
        printf(" (%s)", text_of(reason, "text"));
    }
    printf("\n");
}

/* What listens has one way to say what came. */
static const char *listen_misuse(const struct replier *replier, const struct saver *saver, bool as_json)
{
    if (replier->command != NULL && saver->directory != NULL) {
        return "--reply and --save exclude each other";
    }
    if (as_json && (replier->command != NULL || saver->directory != NULL)) {
        return "--json does not go with --reply or --save";
    }
    return replier->jobs > 0 && replier->command == NULL ? "--jobs goes with --reply only" : NULL;
}

int command_listen(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "listen",
        .operands = "SUBJECT",
        .summary =
            "Print messages of SUBJECT as they come: FROM SUBJECT TEXT, one a line. SUBJECT is a name, '#TYPE' for raw frames\n"
            "of a type, or '*' for all messages.",
        .notes =
            "Control characters are printed as \\n, \\t or \\xNN, and data that is not UTF-8 as base64:...; --json prints the\n"
            "objects of docs/http.md, one a line. With --reply, requests are taken instead: CMD is run by the shell for each, "
            "with\n"
            "the data as its standard input and COHORT_FROM and COHORT_SUBJECT set; what it prints is the reply, and an exit "
            "status\n"
            "other than 0 an error. With --save, streams are taken, as 'cohort send-file' sends them: each becomes a file in DIR.",
        .operands_min = 1,
        .operands_max = 1,
    };
    struct follow follow = {.command = usage.command, .print = print_message};
    struct replier replier = {.complain = usage.command};
    struct saver saver = {.directory = NULL};
    const char *control = NULL;
    const struct option options[] = {
        {.name = "count",
         .letter = 'c',
         .kind = OPTION_NUMBER,
         .value = "N",
         .target = &follow.count,
         .min = 1,
         .max = 1000000000,
         .help = "end after N messages, requests, or files"},
        {.name = "ready", .kind = OPTION_FLAG, .target = &follow.ready, .help = "print 'listening' to stderr once subscribed"},
        {.name = "json", .kind = OPTION_FLAG, .target = &follow.as_json, .help = "print JSON, one object a line"},
        {.name = "reply", .kind = OPTION_TEXT, .value = "CMD", .target = &replier.command, .help = "run it for each request"},
        {.name = "jobs",
         .kind = OPTION_NUMBER,
         .value = "N",
         .target = &replier.jobs,
         .min = 1,
         .max = 256,
         .help = "commands at once, default 4"},
        {.name = "save", .kind = OPTION_TEXT, .value = "DIR", .target = &saver.directory, .help = "save each file sent to it there"},
        OPTION_CONTROL(control),
        {.name = NULL},
    };
    const char *operands[OPERANDS_MAX];
    struct client client;
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    const char *misuse = listen_misuse(&replier, &saver, follow.as_json);
    if (misuse != NULL) {
        return options_misuse(&usage, misuse);
    }
    code = client_open(&client, usage.command, control);
    if (code == EXIT_FINE && replier.command != NULL) {
        replier.control = control;
        replier.jobs = replier.jobs > 0 ? replier.jobs : JOBS_DEFAULT;
        replier.count = follow.count;
        replier.ready = follow.ready;
        code = replier_run(&replier, &client, operands[0]);
        client_close(&client);
    } else if (code == EXIT_FINE && saver.directory != NULL) {
        saver.count = follow.count;
        saver.ready = follow.ready;
        code = saver_run(&saver, &client, operands[0]);
        client_close(&client);
    } else if (code == EXIT_FINE) {
        code = follow_stream(&follow, &client, client_url(&client, "/v1/messages", NULL, "subject", operands[0], NULL));
        client_close(&client);
    }
    return code;
}

int command_watch(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "watch",
        .operands = "",
        .summary = "Print the members that are there (PRESENT), then changes of membership as they happen.",
        .notes = "--json prints the objects of docs/http.md, one a line. -c does not count the PRESENT lines.",
    };
    struct follow follow = {.command = usage.command, .print = print_change};
    const char *control = NULL;
    const struct option options[] = {
        {.name = "count",
         .letter = 'c',
         .kind = OPTION_NUMBER,
         .value = "N",
         .target = &follow.count,
         .min = 1,
         .max = 1000000000,
         .help = "end after N changes"},
        {.name = "ready", .kind = OPTION_FLAG, .target = &follow.ready, .help = "print 'listening' to stderr once subscribed"},
        {.name = "json", .kind = OPTION_FLAG, .target = &follow.as_json, .help = "print JSON, one object a line"},
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
    if (code == EXIT_FINE) {
        code = follow_stream(&follow, &client, client_url(&client, "/v1/events", NULL, "snapshot", "1", NULL));
        client_close(&client);
    }
    return code;
}
