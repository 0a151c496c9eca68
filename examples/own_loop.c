/* SPDX-License-Identifier: Apache-2.0
 *
 * A node without threads in an application's own loop: poll(2) on the keyboard and on the node. What is typed goes to all members.
 *
 *   cc own_loop.c $(pkg-config --cflags --libs cohort) -o own_loop
 *   ./own_loop a cluster.json
 */
#include <cohort/cohort.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

static void on_event(cohort_node *node, const cohort_event *event, void *arg)
{
    printf("%s %s\n", event->member.id, cohort_event_name(event->type));
}

static void on_line(cohort_node *node, const cohort_message *message, void *arg)
{
    printf("%s says %.*s", message->from, (int)message->data_len, (const char *)message->data);
}

/* False at the end of the input. */
static int say_what_is_typed(cohort_node *node)
{
    char line[512];
    ssize_t len = read(STDIN_FILENO, line, sizeof line);
    if (len > 0) {
        int status = cohort_broadcast(node, "line", line, (size_t)len, NULL);
        if (status != COHORT_OK) {
            fprintf(stderr, "own_loop: %s\n", cohort_error_text(status));
        }
    }
    return len > 0;
}

static int run(cohort_node *node)
{
    int status = COHORT_OK, typing = 1;
    while (status == COHORT_OK && typing) {
        struct pollfd fds[] = {{.fd = cohort_node_fd(node), .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
        if (poll(fds, 2, cohort_node_next_timeout_ms(node)) >= 0) {
            typing = fds[1].revents == 0 || say_what_is_typed(node);
        }
        status = cohort_node_dispatch(node); /* on_event() and on_line() run in here, and nowhere else */
    }
    return status;
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
    config.threads = COHORT_THREADS_NONE;
    int rc = cohort_definition_read(argc > 2 ? argv[2] : "cluster.json", &cluster, &error);
    rc = rc ? rc : cohort_node_open(&config, &node, &error);
    rc = rc ? rc : cohort_listen(node, on_event, NULL, NULL, &id);
    rc = rc ? rc : cohort_handle(node, "line", on_line, NULL, NULL, &id);
    rc = rc ? rc : cohort_node_start(node, &error);
    rc = rc ? rc : run(node);
    if (rc) {
        fprintf(stderr, "own_loop: %s\n", error.code ? error.text : cohort_error_text(rc));
    }
    cohort_node_close(node, 1000); /* says goodbye; runs the loop itself meanwhile */
    cohort_definition_free(&cluster);
    return rc ? 1 : 0;
}
