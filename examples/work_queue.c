/* SPDX-License-Identifier: Apache-2.0
 *
 * work_queue ID CLUSTER.json JOBS: hand out that many jobs to the other members, collect the results, tell them to stop.
 * work_queue ID CLUSTER.json: be a worker, until told to stop.
 *
 * A job is a number n; its result is how many primes lie in [20000 n, 20000 (n + 1)). Each worker has one job at a time. The job of a
 * worker that goes away is given to another one, so it may be done twice, and its result is counted once. Workers may come at any time.
 *
 *   cc work_queue.c $(pkg-config --cflags --libs cohort) -o work_queue
 */
#include <cohort/cohort.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOBS_MAX 100000
#define MEMBERS_MAX 64

/* The data of a message as text; false if it is too long. */
static bool text_of(const cohort_message *message, char *out, size_t cap)
{
    if (message->data_len >= cap) {
        return false;
    }
    memcpy(out, message->data, message->data_len);
    out[message->data_len] = '\0';
    return true;
}

/* ---- who hands out: with loop_count 0 every callback runs on one thread, and the table needs no lock -------------------- */

enum job_state {
    WAITING = 0,
    GIVEN,
    DONE
};

struct job {
    enum job_state state;
    char worker[COHORT_ID_BYTES_MAX + 1]; /* whom it was given to */
};

struct queue {
    struct job *jobs;
    unsigned job_count, done_count, again_count;
    unsigned long primes;
    sem_t finished;
};

static bool is_busy(const struct queue *q, const char *worker)
{
    for (unsigned i = 0; i < q->job_count; i++) {
        if (q->jobs[i].state == GIVEN && strcmp(q->jobs[i].worker, worker) == 0) {
            return true;
        }
    }
    return false;
}

static void give_next(cohort_node *node, struct queue *q, const char *worker)
{
    char text[32];
    unsigned i = 0;
    while (i < q->job_count && q->jobs[i].state != WAITING) {
        i++;
    }
    if (i == q->job_count) {
        return;
    }
    int len = snprintf(text, sizeof text, "%u", i);
    if (cohort_send(node, worker, "job", text, (size_t)len) == COHORT_OK) { /* else it goes on waiting */
        q->jobs[i].state = GIVEN;
        snprintf(q->jobs[i].worker, sizeof q->jobs[i].worker, "%s", worker);
        printf("job %u to %s\n", i, worker);
    }
}

static void hand_out(cohort_node *node, struct queue *q)
{
    static cohort_member members[MEMBERS_MAX];
    size_t count = 0;
    cohort_node_members(node, members, MEMBERS_MAX, &count);
    for (size_t i = 0; i < count && i < MEMBERS_MAX; i++) {
        if (!members[i].local && members[i].state == COHORT_ACTIVE && !is_busy(q, members[i].id)) {
            give_next(node, q, members[i].id);
        }
    }
}

static void on_member(cohort_node *node, const cohort_event *event, void *arg)
{
    struct queue *q = arg;
    for (unsigned i = 0; event->type == COHORT_MEMBER_DEACTIVATED && i < q->job_count; i++) {
        if (q->jobs[i].state == GIVEN && strcmp(q->jobs[i].worker, event->member.id) == 0) {
            q->jobs[i].state = WAITING;
            q->again_count++;
            printf("%s is gone; job %u waits again\n", event->member.id, i);
        }
    }
    hand_out(node, q);
}

static void on_result(cohort_node *node, const cohort_message *message, void *arg)
{
    struct queue *q = arg;
    char text[64];
    unsigned i = 0;
    unsigned long primes = 0;
    if (!text_of(message, text, sizeof text) || sscanf(text, "%u %lu", &i, &primes) != 2 || i >= q->job_count) {
        printf("%s sends what is no result\n", message->from);
        return;
    }
    if (q->jobs[i].state != DONE) {
        q->jobs[i].state = DONE;
        q->done_count++;
        q->primes += primes;
        printf("job %u done by %s\n", i, message->from);
        if (q->done_count == q->job_count) {
            sem_post(&q->finished);
        }
    }
    hand_out(node, q);
}

static int be_queue(cohort_node *node, unsigned job_count, cohort_error *error)
{
    struct queue q = {.jobs = calloc(job_count, sizeof(struct job)), .job_count = job_count};
    cohort_handle_id id;
    sem_init(&q.finished, 0, 0);
    int rc = q.jobs == NULL ? COHORT_ENOMEM : cohort_listen(node, on_member, &q, NULL, &id);
    rc = rc ? rc : cohort_handle(node, "result", on_result, &q, NULL, &id);
    rc = rc ? rc : cohort_node_start(node, error);
    if (rc == COHORT_OK) {
        while (sem_wait(&q.finished) != 0) {
        }
        printf("%u jobs done, %u given again, %lu primes\n", q.done_count, q.again_count, q.primes);
        rc = cohort_broadcast(node, "stop", NULL, 0, NULL);
    }
    cohort_node_close(node, 1000); /* after this no callback runs, and the queue may go */
    sem_destroy(&q.finished);
    free(q.jobs);
    return rc;
}

/* ---- who works: the handler only takes the job, for a handler must not block; the main thread does it ------------------ */

struct work {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool has_job, stop;
    unsigned job;
    char from[COHORT_ID_BYTES_MAX + 1];
};

static void on_job(cohort_node *node, const cohort_message *message, void *arg)
{
    struct work *w = arg;
    char text[32];
    unsigned job = 0;
    if (!text_of(message, text, sizeof text) || sscanf(text, "%u", &job) != 1 || job >= JOBS_MAX) {
        printf("%s sends what is no job\n", message->from);
        return;
    }
    pthread_mutex_lock(&w->lock);
    w->job = job; /* in place of one not begun: then we were away for a moment, and that one was given to another */
    w->has_job = true;
    snprintf(w->from, sizeof w->from, "%s", message->from);
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static void on_stop(cohort_node *node, const cohort_message *message, void *arg)
{
    struct work *w = arg;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

/* The next job; false when told to stop. */
static bool await_job(struct work *w, unsigned *job, char *from)
{
    pthread_mutex_lock(&w->lock);
    while (!w->has_job && !w->stop) {
        pthread_cond_wait(&w->changed, &w->lock);
    }
    bool go = !w->stop;
    w->has_job = false;
    *job = w->job;
    memcpy(from, w->from, sizeof w->from);
    pthread_mutex_unlock(&w->lock);
    return go;
}

static unsigned long primes_in(unsigned long from, unsigned long to)
{
    unsigned long count = 0;
    for (unsigned long n = from < 2 ? 2 : from; n < to; n++) {
        unsigned long d = 2;
        while (d * d <= n && n % d != 0) {
            d++;
        }
        count += d * d > n;
    }
    return count;
}

static int be_worker(cohort_node *node, cohort_error *error)
{
    struct work w = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    cohort_handle_id id;
    unsigned job = 0;
    char from[COHORT_ID_BYTES_MAX + 1], text[64];
    int rc = cohort_handle(node, "job", on_job, &w, NULL, &id);
    rc = rc ? rc : cohort_handle(node, "stop", on_stop, &w, NULL, &id);
    rc = rc ? rc : cohort_node_start(node, error);
    while (rc == COHORT_OK && await_job(&w, &job, from)) {
        printf("job %u\n", job);
        int len = snprintf(text, sizeof text, "%u %lu", job, primes_in(20000UL * job, 20000UL * (job + 1)));
        if (cohort_send(node, from, "result", text, (size_t)len) != COHORT_OK) {
            printf("%s is gone\n", from); /* and has given the job to another one, or will */
        }
    }
    cohort_node_close(node, 1000);
    return rc;
}

int main(int argc, char **argv)
{
    cohort_definition cluster = {0};
    cohort_config config;
    cohort_node *node = NULL;
    cohort_error error = {0};
    long job_count = argc == 4 ? strtol(argv[3], NULL, 10) : 0;

    if (argc < 3 || argc > 4 || (argc == 4 && (job_count < 1 || job_count > JOBS_MAX))) {
        fprintf(stderr, "usage: work_queue ID CLUSTER.json [JOBS]      1 to %d jobs\n", JOBS_MAX);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    COHORT_CONFIG_INIT(&config);
    config.id = argv[1];
    config.definition = &cluster;
    config.loop_count = 0;
    int rc = cohort_definition_read(argv[2], &cluster, &error);
    rc = rc ? rc : cohort_node_open(&config, &node, &error);
    if (rc == COHORT_OK) {
        rc = argc == 4 ? be_queue(node, (unsigned)job_count, &error) : be_worker(node, &error);
    }
    if (rc) {
        fprintf(stderr, "work_queue: %s\n", error.code ? error.text : cohort_error_text(rc));
    }
    cohort_definition_free(&cluster);
    return rc ? 1 : 0;
}
