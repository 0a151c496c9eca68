/* SPDX-License-Identifier: Apache-2.0
 *
 * chat ID CLUSTER.json: a line typed at one member is shown at all. Ends with the input (Ctrl-D).
 *
 *   cc chat.c $(pkg-config --cflags --libs cohort) -o chat
 */
#include <cohort/cohort.h>
#include <stdio.h>
#include <string.h>

#define LINE_BYTES 1024

static void on_event(cohort_node *node, const cohort_event *event, void *arg)
{
    switch (event->type) {
    case COHORT_MEMBER_ACTIVATED:
        printf("* %s is here\n", event->member.id);
        break;
    case COHORT_MEMBER_DEACTIVATED:
        printf("* %s is gone: %s\n", event->member.id, cohort_error_text(event->reason));
        break;
    default: /* ADDED and REMOVED: of the cluster, not of the room */
        break;
    }
}

/* A line comes from another machine: nothing in it may move our cursor. */
static void on_line(cohort_node *node, const cohort_message *message, void *arg)
{
    char line[LINE_BYTES];
    size_t len = message->data_len < sizeof line ? message->data_len : sizeof line;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = ((const unsigned char *)message->data)[i];
        line[i] = (char)(c < ' ' || c == 0x7f ? '?' : c);
    }
    printf("%s: %.*s\n", message->from, (int)len, line);
}

static void talk(cohort_node *node)
{
    char line[LINE_BYTES];
    while (fgets(line, sizeof line, stdin) != NULL) {
        size_t heard = 0, len = strcspn(line, "\n");
        int rc = len == 0 ? COHORT_OK : cohort_broadcast(node, "chat", line, len, &heard);
        if (rc != COHORT_OK) {
            printf("* not heard by all: %s\n", cohort_error_text(rc));
        } else if (len > 0 && heard == 0) {
            printf("* nobody hears you\n");
        }
    }
}

int main(int argc, char **argv)
{
    cohort_definition cluster = {0};
    cohort_config config;
    cohort_node *node = NULL;
    cohort_error error = {0};
    cohort_handle_id id;

    if (argc != 3) {
        fprintf(stderr, "usage: chat ID CLUSTER.json\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    COHORT_CONFIG_INIT(&config);
    config.id = argv[1];
    config.definition = &cluster;
    int rc = cohort_definition_read(argv[2], &cluster, &error);
    rc = rc ? rc : cohort_node_open(&config, &node, &error);
    rc = rc ? rc : cohort_listen(node, on_event, NULL, NULL, &id);
    rc = rc ? rc : cohort_handle(node, "chat", on_line, NULL, NULL, &id);
    rc = rc ? rc : cohort_node_start(node, &error);
    if (rc) {
        fprintf(stderr, "chat: %s\n", error.code ? error.text : cohort_error_text(rc));
    } else {
        talk(node);
    }
    cohort_node_close(node, 1000);
    cohort_definition_free(&cluster);
    return rc ? 1 : 0;
}
