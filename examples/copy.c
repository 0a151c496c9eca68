/* SPDX-License-Identifier: Apache-2.0
 *
 * copy ME CLUSTER.json [TO FILE]: without FILE, tells of each file that comes until its input ends (Ctrl-D); with it, sends FILE to member TO.
 *
 *   cc copy.c $(pkg-config --cflags --libs cohort) -o copy
 */
#define _POSIX_C_SOURCE 200809L

#include <cohort/cohort.h>
#include <cohort/stream.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static void on_piece(cohort_node *node, const cohort_piece *piece, void *arg)
{
    FILE **file = (FILE **)piece->state;
    if (piece->begin) {
        *file = tmpfile();
    }
    if (*file != NULL && piece->data_len > 0 && fwrite(piece->data, 1, piece->data_len, *file) != piece->data_len) {
        fclose(*file);
        *file = NULL;
    }
    if (piece->end) {
        printf("%s: %llu bytes of %s, %s\n", piece->from, (unsigned long long)piece->total, piece->subject,
               *file == NULL ? "not written" : cohort_error_text(piece->status));
        if (*file != NULL) {
            fclose(*file);
        }
    }
}

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "copy: %s: %s\n", what, why);
    return 1;
}

static int send_one(cohort_node *node, const char *to, const char *path)
{
    cohort_error error = {.code = COHORT_OK};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return fail(path, "cannot be opened");
    }
    int status = cohort_send_file(node, to, "copy", fd, 30000, NULL, NULL, NULL, &error);
    close(fd);
    return status == COHORT_OK ? 0 : fail(path, error.text);
}

static int receive(cohort_node *node)
{
    cohort_queue *queue = NULL;
    cohort_handle_id id;
    if (cohort_queue_open(node, 1, &queue) != COHORT_OK ||
        cohort_handle_stream(node, queue, "copy", on_piece, NULL, NULL, &id) != COHORT_OK) {
        return fail("queue", "out of memory");
    }
    printf("receiving\n");
    while (getchar() != EOF) {
    }
    return 0;
}

int main(int argc, char **argv)
{
    cohort_config config;
    cohort_node *node;
    cohort_error error;
    if (argc != 3 && argc != 5) {
        fprintf(stderr, "usage: copy ME CLUSTER.json [TO FILE]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    COHORT_CONFIG_INIT(&config);
    config.id = argv[1];
    config.definition_path = argv[2];
    if (cohort_node_open(&config, &node, &error) != COHORT_OK) {
        return fail(argv[2], error.text);
    }
    int code = cohort_node_start(node, &error) == COHORT_OK ? 0 : fail(argv[1], error.text);
    if (code == 0) {
        code = argc == 5 ? send_one(node, argv[3], argv[4]) : receive(node);
    }
    (void)cohort_node_close(node, 5000);
    return code;
}
