/* SPDX-License-Identifier: Apache-2.0
 *
 * pump ME CLUSTER.json TO COUNT: send the numbers from 0 to COUNT - 1 to member TO, as fast as it takes them.
 * pump ME CLUSTER.json: add up the numbers that come, until the input ends (Ctrl-D).
 *
 * Who sends faster than the other end handles is refused (COHORT_EAGAIN) once a lane is full, and told when it has room again. The other end may be
 * away, or end and come again: what it was sent and has not acknowledged then is told, one by one.
 *
 *   cc pump.c $(pkg-config --cflags --libs cohort) -o pump
 */
#include <cohort/cohort.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- who sends ------------------------------------------------------------------------------------------------------ */

struct pump {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool has_room;
    uint64_t waits, maybe_handled, not_handled;
};

static void on_room(cohort_node *node, const char *id, cohort_lane lane, void *arg)
{
    struct pump *p = arg;
    pthread_mutex_lock(&p->lock);
    p->has_room = true;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

/* Each has its bytes with it, and could be written to a file, or sent again. */
static void on_undelivered(cohort_node *node, const cohort_undelivered *report, void *arg)
{
    struct pump *p = arg;
    pthread_mutex_lock(&p->lock);
    p->maybe_handled += report->maybe_handled ? 1 : 0;
    p->not_handled += report->maybe_handled ? 0 : 1;
    pthread_mutex_unlock(&p->lock);
}

/* Waits as often as the lane is full: each refusal is followed by one call of on_room(). */
static int send_number(cohort_node *node, struct pump *p, const char *to, uint64_t number)
{
    int status;
    while ((status = cohort_send(node, to, "number", &number, sizeof number)) == COHORT_EAGAIN) {
        if (p->waits++ == 0) {
            printf("%s takes no more before number %" PRIu64 "; waiting for room\n", to, number);
        }
        pthread_mutex_lock(&p->lock);
        while (!p->has_room) {
            pthread_cond_wait(&p->changed, &p->lock);
        }
        p->has_room = false;
        pthread_mutex_unlock(&p->lock);
    }
    return status;
}

static int pump(cohort_node *node, const char *to, uint64_t count, cohort_error *error)
{
    static struct pump p = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    cohort_handle_id id;
    int status = cohort_on_writable(node, on_room, &p, NULL, &id);
    status = status ? status : cohort_on_undelivered(node, on_undelivered, &p, NULL, &id);
    status = status ? status : cohort_node_start(node, error);
    uint64_t sent = 0;
    while (status == COHORT_OK && sent < count) {
        status = send_number(node, &p, to, sent);
        sent += status == COHORT_OK ? 1 : 0;
    }
    int closed = cohort_node_close(node, 10000); /* what is not acknowledged by then is told as well */
    printf("%" PRIu64 " sent, %" PRIu64 " waits, %" PRIu64 " maybe handled, %" PRIu64 " not handled\n", sent, p.waits,
           p.maybe_handled, p.not_handled);
    return status ? status : closed;
}

/* ---- who adds up ---------------------------------------------------------------------------------------------------- */

struct sum {
    uint64_t count, last, sum; /* by the one thread that handles the lane; read when the node is closed */
};

static void on_number(cohort_node *node, const cohort_message *message, void *arg)
{
    struct sum *s = arg;
    uint64_t number;
    if (message->data_len != sizeof number) {
        printf("%s sends what is no number\n", message->from);
        return;
    }
    memcpy(&number, message->data, sizeof number); /* it may lie at any address */
    if (s->count > 0 && number != s->last + 1) {
        printf("%" PRIu64 " after %" PRIu64 "\n", number, s->last); /* never, but where a process ended in between */
    }
    if (s->count++ == 0) {
        printf("first %" PRIu64 "\n", number);
    }
    s->last = number;
    s->sum += number;
}

static int add_up(cohort_node *node, cohort_error *error)
{
    static struct sum s;
    cohort_handle_id id;
    int status = cohort_handle(node, "number", on_number, &s, NULL, &id);
    status = status ? status : cohort_node_start(node, error);
    while (status == COHORT_OK && getchar() != EOF) {
    }
    cohort_node_close(node, 1000);
    printf("%" PRIu64 " numbers, sum %" PRIu64 "\n", s.count, s.sum);
    return status;
}

int main(int argc, char **argv)
{
    cohort_config config;
    cohort_node *node = NULL;
    cohort_error error = {.code = COHORT_OK};
    if (argc != 3 && argc != 5) {
        fprintf(stderr, "usage: pump ME CLUSTER.json [TO COUNT]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    COHORT_CONFIG_INIT(&config);
    config.id = argv[1];
    config.definition_path = argv[2];
    int status = cohort_node_open(&config, &node, &error);
    if (status == COHORT_OK) {
        status = argc == 5 ? pump(node, argv[3], strtoull(argv[4], NULL, 10), &error) : add_up(node, &error);
    }
    if (status != COHORT_OK) {
        fprintf(stderr, "pump: %s\n", error.code != COHORT_OK ? error.text : cohort_error_text(status));
    }
    return status == COHORT_OK ? 0 : 1;
}
