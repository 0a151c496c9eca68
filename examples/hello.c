/* SPDX-License-Identifier: Apache-2.0
 * hello ID CLUSTER.json: be one node of a cluster, greet whoever appears, print what arrives, until standard input ends. */
#include <cohort/cohort.h>
#include <stdio.h>

static void on_event(cohort_node *node, const cohort_event *event, void *arg)
{
    printf("%s %s\n", event->member.id, cohort_event_name(event->type));
    if (event->type == COHORT_MEMBER_ACTIVATED && cohort_send(node, event->member.id, "greeting", "hello", 5) != COHORT_OK) {
        printf("%s is gone again\n", event->member.id);
    }
}

static void on_greeting(cohort_node *node, const cohort_message *message, void *arg)
{
    printf("%s says %.*s\n", message->from, (int)message->data_len, (const char *)message->data);
}

int main(int argc, char **argv)
{
    cohort_definition cluster = {0};
    cohort_config config;
    cohort_node *node = NULL;
    cohort_error error = {0};
    cohort_handle_id id;

    setvbuf(stdout, NULL, _IOLBF, 0);
    COHORT_CONFIG_INIT(&config);
    config.id = argc > 1 ? argv[1] : NULL;
    config.definition = &cluster;
    int rc = cohort_definition_read(argc > 2 ? argv[2] : "cluster.json", &cluster, &error);
    rc = rc ? rc : cohort_node_open(&config, &node, &error);
    rc = rc ? rc : cohort_listen(node, on_event, NULL, NULL, &id);
    rc = rc ? rc : cohort_handle(node, "greeting", on_greeting, NULL, NULL, &id);
    rc = rc ? rc : cohort_node_start(node, &error);
    if (rc) {
        fprintf(stderr, "hello: %s\n", error.code ? error.text : cohort_error_text(rc));
    }
    while (!rc && getchar() != EOF) {
    }
    cohort_node_close(node, 1000);
    cohort_definition_free(&cluster);
    return rc ? 1 : 0;
}
