/* SPDX-License-Identifier: Apache-2.0
 *
 * ask ME CLUSTER.json TO: for each number of the input, ask member TO how many primes lie below it. It has two seconds to answer.
 * ask ME CLUSTER.json: answer, until the input ends (Ctrl-D).
 *
 * A handler must not hold up its loop, and counting takes a while: so it keeps the call, and a thread of ours replies later. One that nobody waits
 * for any more is not counted. (A handler in a queue, cohort_handle_in(), would need no thread; here it is done by hand.)
 *
 *   cc ask.c $(pkg-config --cflags --libs cohort) -o ask
 */
#include <cohort/cohort.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALLS_MAX 64
#define TEXT_MAX 32
#define ASK_MS 2000

/* The data of a message, which is not terminated, as a number; false if it is none. */
static bool number_of(const void *data, size_t data_len, unsigned long *out)
{
    char text[TEXT_MAX], *end;
    if (data_len == 0 || data_len >= sizeof text) {
        return false;
    }
    memcpy(text, data, data_len);
    text[data_len] = '\0';
    *out = strtoul(text, &end, 10);
    return *end == '\0';
}

/* ---- who answers ---------------------------------------------------------------------------------------------------- */

struct todo {
    cohort_call *call;
    unsigned long below;
};

struct desk {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct todo todo[CALLS_MAX]; /* a ring: first, first + 1, ... */
    unsigned first, count;
    bool closing;
};

static bool put(struct desk *d, const struct todo *item)
{
    pthread_mutex_lock(&d->lock);
    bool fits = d->count < CALLS_MAX && !d->closing;
    if (fits) {
        d->todo[(d->first + d->count++) % CALLS_MAX] = *item;
        pthread_cond_signal(&d->changed);
    }
    pthread_mutex_unlock(&d->lock);
    return fits;
}

/* False: nothing is left, and nothing more comes. */
static bool take(struct desk *d, struct todo *item)
{
    pthread_mutex_lock(&d->lock);
    while (d->count == 0 && !d->closing) {
        pthread_cond_wait(&d->changed, &d->lock);
    }
    bool some = d->count > 0;
    if (some) {
        *item = d->todo[d->first];
        d->first = (d->first + 1) % CALLS_MAX;
        d->count--;
    }
    pthread_mutex_unlock(&d->lock);
    return some;
}

static void refuse(cohort_call *call, int why, const char *text)
{
    if (cohort_reply_error(call, why, text) != COHORT_OK) {
        printf("who asked is gone, or has no room: %s\n", text);
    }
}

/* On a loop: short. A request whose handler does nothing is answered with an error by the library. */
static void on_question(cohort_node *node, const cohort_message *message, void *arg)
{
    struct desk *d = arg;
    struct todo item = {.call = NULL};
    if (message->call == NULL) {
        return; /* sent, not asked */
    }
    if (!number_of(message->data, message->data_len, &item.below)) {
        refuse(message->call, COHORT_EHANDLER, "that is no number");
        return;
    }
    item.call = cohort_call_keep(message->call);
    if (item.call != NULL && !put(d, &item)) {
        refuse(item.call, COHORT_ELIMIT, "too many questions at once"); /* that gives the call back */
    }
}

static unsigned long primes_below(unsigned long end)
{
    unsigned long count = end > 2 ? 1 : 0;
    for (unsigned long n = 3; n < end; n += 2) {
        unsigned long d = 3;
        while (d * d <= n && n % d != 0) {
            d += 2;
        }
        count += d * d > n ? 1 : 0;
    }
    return count;
}

static void *answer_all(void *arg)
{
    struct desk *d = arg;
    struct todo item;
    while (take(d, &item)) {
        char text[TEXT_MAX];
        int len = cohort_call_time_left_ms(item.call) == 0 ? 0 : snprintf(text, sizeof text, "%lu", primes_below(item.below));
        int status =
            len == 0 ? cohort_reply_error(item.call, COHORT_EHANDLER, "too late") : cohort_reply(item.call, text, (size_t)len);
        printf("%lu: %s\n", item.below, len == 0 ? "too late" : cohort_error_text(status));
    }
    return NULL;
}

static int answer(cohort_node *node, cohort_error *error)
{
    static struct desk d = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    cohort_handle_id id;
    pthread_t thread;
    if (pthread_create(&thread, NULL, answer_all, &d) != 0) {
        return COHORT_ENOMEM;
    }
    int status = cohort_handle(node, "primes", on_question, &d, NULL, &id);
    status = status ? status : cohort_node_start(node, error);
    while (status == COHORT_OK && getchar() != EOF) {
    }
    pthread_mutex_lock(&d.lock);
    d.closing = true;
    pthread_cond_signal(&d.changed);
    pthread_mutex_unlock(&d.lock);
    pthread_join(thread, NULL); /* it has replied to all it had: calls are given back before the node is closed */
    return status;
}

/* ---- who asks ------------------------------------------------------------------------------------------------------- */

struct asked {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned open; /* questions */
};

/* Once for each question, whatever becomes of it. */
static void on_answer(cohort_node *node, const cohort_result *result, void *arg)
{
    struct asked *a = arg;
    if (result->status == COHORT_OK) {
        printf("%s: %.*s\n", result->from, (int)result->data_len, (const char *)result->data);
    } else {
        printf("%s: %s\n", result->from, result->text[0] != '\0' ? result->text : cohort_error_text(result->status));
    }
    pthread_mutex_lock(&a->lock);
    a->open--;
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
}

/* Any number of questions are under way at once; cohort_request_wait() would ask one after the other. */
static int ask(cohort_node *node, const char *to, cohort_error *error)
{
    static struct asked a = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    char line[TEXT_MAX];
    int status = cohort_node_start(node, error);
    while (status == COHORT_OK && fgets(line, sizeof line, stdin) != NULL) {
        pthread_mutex_lock(&a.lock);
        a.open++;
        pthread_mutex_unlock(&a.lock);
        int asked = cohort_request(node, to, "primes", line, strcspn(line, "\n"), ASK_MS, on_answer, &a, NULL);
        if (asked != COHORT_OK) { /* then on_answer() is not called */
            printf("not asked: %s\n", cohort_error_text(asked));
            pthread_mutex_lock(&a.lock);
            a.open--;
            pthread_mutex_unlock(&a.lock);
        }
    }
    pthread_mutex_lock(&a.lock);
    while (a.open > 0) {
        pthread_cond_wait(&a.changed, &a.lock);
    }
    pthread_mutex_unlock(&a.lock);
    return status;
}

int main(int argc, char **argv)
{
    cohort_config config;
    cohort_node *node = NULL;
    cohort_error error = {.code = COHORT_OK};
    if (argc != 3 && argc != 4) {
        fprintf(stderr, "usage: ask ME CLUSTER.json [TO]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    COHORT_CONFIG_INIT(&config);
    config.id = argv[1];
    config.definition_path = argv[2];
    int status = cohort_node_open(&config, &node, &error);
    if (status == COHORT_OK) {
        status = argc == 4 ? ask(node, argv[3], &error) : answer(node, &error);
    }
    cohort_node_close(node, 1000);
    if (status != COHORT_OK) {
        fprintf(stderr, "ask: %s\n", error.code != COHORT_OK ? error.text : cohort_error_text(status));
    }
    return status == COHORT_OK ? 0 : 1;
}
