/* SPDX-License-Identifier: Apache-2.0
 *
 * See measure.h. What the library calls back on its loops, `trips` and `mark`, is under a lock of its own, which is not held during a call
 * into the node.
 */
#include "measure.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define ECHO_TIMEOUT_MS 1000
#define MARK_TIMEOUT_MS 30000
#define BLOCK_MS 100         /* how long a send waits for room before it looks whether it is to go on */
#define STEPS UINT64_C(64)   /* of the histogram within a power of two: 1.6 % */
#define BUCKETS (59 * STEPS) /* all that 64 bits can say */

struct measure {
    struct desk *desk;
    atomic_bool stop;
    _Atomic uint64_t messages, bytes; /* taken */
    pthread_t thread;
    bool has_thread; /* to be joined; HTTP thread */
};

struct measure_wait {
    struct desk_wait wait; /* first */
    struct measure *measure;
    cohort_node *node;
    struct measure_ask ask;
    char to[COHORT_ID_BYTES_MAX + 1];
    int status;
    struct writer document;
};

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* It can be measured now. */
static int check_member(cohort_node *node, const char *id)
{
    cohort_member member;
    int status = cohort_node_member(node, id, &member);
    if (status == COHORT_OK && member.legacy) {
        status = COHORT_ELEGACY;
    }
    return status == COHORT_OK && member.state != COHORT_ACTIVE ? COHORT_EINACTIVE : status;
}

/* ---- round trips --------------------------------------------------------------------------------------------------- */

struct trips {
    struct measure_wait *of;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    uint64_t begin_ns, deadline_ns, end_ns;
    uint64_t nonce, sequence;
    uint32_t under_way;
    int failed; /* of the last that could not be sent or did not come back */
    uint64_t count, lost, min_ns, max_ns;
    uint32_t buckets[BUCKETS];
};

static size_t bucket_of(uint64_t ns)
{
    if (ns < STEPS) {
        return ns;
    }
    unsigned power = 63 - (unsigned)__builtin_clzll(ns); /* 6 .. 63 */
    size_t bucket = (size_t)(power - 5) * STEPS + (size_t)(ns >> (power - 6)) % STEPS;
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

/* The highest time of a bucket. */
static uint64_t time_of(size_t bucket)
{
    if (bucket < STEPS) {
        return bucket;
    }
    unsigned power = (unsigned)(bucket / STEPS) + 5;
    return ((uint64_t)(STEPS + bucket % STEPS + 1) << (power - 6)) - 1;
}

/* No more than so many of a thousand took longer. */
static uint64_t percentile(const struct trips *t, uint64_t per_mille)
{
    uint64_t rank = (t->count * per_mille + 999) / 1000, seen = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        seen += t->buckets[i];
        if (seen >= rank && seen > 0) {
            return time_of(i) < t->max_ns ? time_of(i) : t->max_ns;
        }
    }
    return t->max_ns;
}

static void on_echo(cohort_node *node, const char *id, int status, uint64_t rtt_ns, void *arg);

/* Whether it is under way. */
static bool send_echo(struct trips *t)
{
    pthread_mutex_lock(&t->lock);
    uint64_t data[2] = {t->nonce, t->sequence++};
    t->under_way++;
    pthread_mutex_unlock(&t->lock);
    int status = cohort_echo(t->of->node, t->of->to, data, sizeof(data), ECHO_TIMEOUT_MS, on_echo, t);
    if (status == COHORT_OK) {
        return true;
    }
    pthread_mutex_lock(&t->lock);
    t->failed = status;
    t->under_way--;
    pthread_cond_signal(&t->ended);
    pthread_mutex_unlock(&t->lock);
    return false;
}

static void on_echo(cohort_node *node, const char *id, int status, uint64_t rtt_ns, void *arg)
{
    (void)node;
    (void)id;
    struct trips *t = arg;
    uint64_t at_ns = now_ns();
    bool again = status == COHORT_OK && at_ns < t->deadline_ns && !atomic_load(&t->of->measure->stop);
    pthread_mutex_lock(&t->lock);
    if (status == COHORT_OK) {
        t->count++;
        t->min_ns = rtt_ns < t->min_ns ? rtt_ns : t->min_ns;
        t->max_ns = rtt_ns > t->max_ns ? rtt_ns : t->max_ns;
        t->buckets[bucket_of(rtt_ns)]++;
        t->end_ns = at_ns;
    } else {
        t->lost++;
        t->failed = status;
    }
    pthread_mutex_unlock(&t->lock);
    if (again) {
        (void)send_echo(t); /* before this one is over: `t` lives as long as one is under way */
    }
    pthread_mutex_lock(&t->lock);
    t->under_way--;
    pthread_cond_signal(&t->ended);
    pthread_mutex_unlock(&t->lock);
}

static int measure_trips(struct measure_wait *wait, struct trips *t)
{
    *t = (struct trips){.of = wait, .lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER, .min_ns = UINT64_MAX};
    if (getrandom(&t->nonce, sizeof(t->nonce), 0) != (ssize_t)sizeof(t->nonce)) {
        return COHORT_EIO;
    }
    t->begin_ns = now_ns();
    t->deadline_ns = t->begin_ns + wait->ask.ms * NS_PER_MS;
    for (uint32_t i = 0; i < wait->ask.depth && send_echo(t); i++) {
    }
    pthread_mutex_lock(&t->lock);
    while (t->under_way > 0) {
        pthread_cond_wait(&t->ended, &t->lock);
    }
    int status = t->count > 0 ? COHORT_OK : t->failed;
    pthread_mutex_unlock(&t->lock);
    return status == COHORT_OK ? check_member(wait->node, wait->to) : status; /* it may have gone meanwhile */
}

/* ---- messages ------------------------------------------------------------------------------------------------------ */

struct stream {
    uint64_t messages, elapsed_ns;
};

struct mark {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done;
    int status;
    uint64_t at_ns;
};

static void on_mark(cohort_node *node, const cohort_result *result, void *arg)
{
    (void)node;
    struct mark *mark = arg;
    pthread_mutex_lock(&mark->lock);
    mark->status = result->status;
    mark->at_ns = now_ns();
    mark->done = true;
    pthread_cond_signal(&mark->ended);
    pthread_mutex_unlock(&mark->lock);
}

/* What the member's end says of a request, it says in its turn: all before it were handled. */
static bool was_handled(int status)
{
    return status == COHORT_OK || status == COHORT_ENOHANDLER || status == COHORT_ENOREPLY || status == COHORT_EHANDLER ||
           status == COHORT_ELIMIT;
}

static void pause_for(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t ns)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t nsec = (uint64_t)until.tv_nsec + ns;
    until.tv_sec += (time_t)(nsec / NS_PER_S);
    until.tv_nsec = (long)(nsec % NS_PER_S);
    pthread_cond_clockwait(cond, lock, CLOCK_MONOTONIC, &until);
}

/* The agent does not end, and the member is there. */
static int goes_on(const struct measure_wait *wait)
{
    return atomic_load(&wait->measure->stop) ? COHORT_ECLOSED : check_member(wait->node, wait->to);
}

static int await_mark(struct measure_wait *wait, struct mark *mark)
{
    cohort_request_id id = 0;
    uint64_t deadline_ns = now_ns() + MARK_TIMEOUT_MS * NS_PER_MS;
    int status, given_up = COHORT_ECLOSED;
    do { /* the lane is full: BLOCK_MS each time */
        status = cohort_request(wait->node, wait->to, MEASURE_SUBJECT, NULL, 0, MARK_TIMEOUT_MS, on_mark, mark, &id);
    } while (status == COHORT_ETIMEDOUT && now_ns() < deadline_ns && goes_on(wait) == COHORT_OK);
    if (status != COHORT_OK) {
        return status;
    }
    pthread_mutex_lock(&mark->lock);
    while (!mark->done) {
        pause_for(&mark->ended, &mark->lock, BLOCK_MS * NS_PER_MS);
        int gone = mark->done ? COHORT_OK : goes_on(wait);
        if (gone != COHORT_OK) {
            given_up = gone;
            pthread_mutex_unlock(&mark->lock);
            int cancelled = cohort_cancel(wait->node, wait->to, id);
            (void)cancelled; /* else it is just ending */
            pthread_mutex_lock(&mark->lock);
        }
    }
    status = mark->status;
    pthread_mutex_unlock(&mark->lock);
    return was_handled(status) ? COHORT_OK : status == COHORT_ECANCELLED ? given_up : status;
}

static int flood(struct measure_wait *wait, cohort_route *route, const void *data, uint64_t deadline_ns, uint64_t *messages)
{
    int status = COHORT_OK;
    while (now_ns() < deadline_ns && !atomic_load(&wait->measure->stop)) {
        status = cohort_route_send(route, data, wait->ask.bytes);
        int gone = status == COHORT_ETIMEDOUT ? goes_on(wait) : status;
        if (gone != COHORT_OK) {
            return gone;
        }
        *messages += status == COHORT_OK;
    }
    return COHORT_OK;
}

static int measure_stream(struct measure_wait *wait, struct stream *out)
{
    struct mark mark = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
    cohort_subject_options options;
    cohort_route *route = NULL;
    COHORT_SUBJECT_OPTIONS_INIT(&options);
    options.lane = wait->ask.lane;
    options.when_full = COHORT_FULL_BLOCK;
    options.block_ms = BLOCK_MS;
    void *data = calloc(1, wait->ask.bytes + 1);
    int status = data == NULL ? COHORT_ENOMEM : cohort_subject_set(wait->node, MEASURE_SUBJECT, &options);
    if (status == COHORT_OK) {
        status = cohort_route_open(wait->node, wait->to, MEASURE_SUBJECT, &route);
    }
    uint64_t begin_ns = now_ns();
    if (status == COHORT_OK) {
        status = flood(wait, route, data, begin_ns + wait->ask.ms * NS_PER_MS, &out->messages);
    }
    if (status == COHORT_OK) {
        status = await_mark(wait, &mark);
    }
    out->elapsed_ns = mark.at_ns - begin_ns;
    cohort_route_close(route);
    free(data);
    return status;
}

/* ---- what came of it ------------------------------------------------------------------------------------------------ */

static uint64_t per_second(uint64_t count, uint64_t ns)
{
    return ns == 0 ? 0 : (uint64_t)((double)count * 1e9 / (double)ns);
}

static void write_document(struct writer *w, const struct measure_wait *wait, const struct trips *t, const struct stream *s)
{
    uint64_t bytes = s->messages * wait->ask.bytes;
    writer_begin(w, '{');
    writer_key_string(w, "to", wait->to);
    writer_key(w, "round_trip");
    writer_begin(w, '{');
    writer_key_uint(w, "depth", wait->ask.depth);
    writer_key_uint(w, "count", t->count);
    writer_key_uint(w, "lost", t->lost);
    writer_key_uint(w, "per_second", per_second(t->count, t->end_ns - t->begin_ns));
    writer_key_uint(w, "min_ns", t->min_ns);
    writer_key_uint(w, "p50_ns", percentile(t, 500));
    writer_key_uint(w, "p90_ns", percentile(t, 900));
    writer_key_uint(w, "p99_ns", percentile(t, 990));
    writer_key_uint(w, "p999_ns", percentile(t, 999));
    writer_key_uint(w, "max_ns", t->max_ns);
    writer_end(w, '}');
    writer_key(w, "messages");
    writer_begin(w, '{');
    writer_key_string(w, "lane", cohort_lane_name(wait->ask.lane));
    writer_key_uint(w, "bytes_each", wait->ask.bytes);
    writer_key_uint(w, "count", s->messages);
    writer_key_uint(w, "bytes", bytes);
    writer_key_uint(w, "elapsed_ns", s->elapsed_ns);
    writer_key_uint(w, "per_second", per_second(s->messages, s->elapsed_ns));
    writer_key_uint(w, "bytes_per_second", per_second(bytes, s->elapsed_ns));
    writer_end(w, '}');
    writer_end(w, '}');
}

static void free_wait(struct measure_wait *wait)
{
    writer_free(&wait->document);
    free(wait);
}

static void *run(void *arg)
{
    struct measure_wait *wait = arg;
    struct trips *trips = malloc(sizeof(*trips));
    struct stream stream = {.messages = 0};
    wait->status = trips == NULL ? COHORT_ENOMEM : measure_trips(wait, trips);
    if (wait->status == COHORT_OK) {
        wait->status = measure_stream(wait, &stream);
    }
    if (wait->status == COHORT_OK) {
        write_document(&wait->document, wait, trips, &stream);
    }
    free(trips);
    desk_complete(&wait->wait);
    if (desk_leave_completed(&wait->wait)) {
        free_wait(wait);
    }
    return NULL;
}

/* ---- the agent's ---------------------------------------------------------------------------------------------------- */

struct measure *measure_new(void)
{
    struct measure *measure = calloc(1, sizeof(*measure));
    if (measure != NULL && (measure->desk = desk_new(1)) == NULL) {
        free(measure);
        return NULL;
    }
    return measure;
}

static void on_message(cohort_node *node, const cohort_message *message, void *arg)
{
    (void)node;
    struct measure *measure = arg;
    if (message->call != NULL) {
        int replied = cohort_reply(message->call, NULL, 0);
        (void)replied; /* else the library answers in our place */
        return;
    }
    atomic_fetch_add_explicit(&measure->messages, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&measure->bytes, message->data_len, memory_order_relaxed);
}

int measure_serve(struct measure *measure, cohort_node *node)
{
    cohort_handle_id ignored;
    return cohort_handle(node, MEASURE_SUBJECT, on_message, measure, NULL, &ignored);
}

void measure_taken(struct measure *measure, struct measure_taken *out)
{
    out->messages = atomic_load(&measure->messages);
    out->bytes = atomic_load(&measure->bytes);
}

void measure_close(struct measure *measure)
{
    atomic_store(&measure->stop, true);
    desk_close(measure->desk);
}

void measure_drain(struct measure *measure, uint32_t timeout_ms)
{
    desk_drain(measure->desk, timeout_ms);
}

void measure_join(struct measure *measure)
{
    if (measure != NULL && measure->has_thread) {
        atomic_store(&measure->stop, true);
        pthread_join(measure->thread, NULL);
        measure->has_thread = false;
    }
}

void measure_free(struct measure *measure)
{
    if (measure != NULL) {
        desk_free(measure->desk);
        free(measure);
    }
}

int measure_begin(struct measure *measure, cohort_node *node, const struct measure_ask *ask, struct measure_wait **out)
{
    int status = check_member(node, ask->to);
    struct measure_wait *wait = status == COHORT_OK ? calloc(1, sizeof(*wait)) : NULL;
    if (wait == NULL) {
        return status == COHORT_OK ? COHORT_ENOMEM : status;
    }
    status = desk_enter(measure->desk, &wait->wait);
    if (status != COHORT_OK) {
        free(wait);
        return status;
    }
    wait->measure = measure;
    wait->node = node;
    wait->ask = *ask;
    snprintf(wait->to, sizeof(wait->to), "%s", ask->to); /* a member's id, so it fits */
    wait->ask.to = wait->to;
    if (measure->has_thread) { /* it has left the desk */
        pthread_join(measure->thread, NULL);
    }
    measure->has_thread = pthread_create(&measure->thread, NULL, run, wait) == 0;
    if (!measure->has_thread) {
        desk_leave_unasked(&wait->wait);
        free_wait(wait);
        return COHORT_ENOMEM;
    }
    *out = wait;
    return COHORT_OK;
}

bool measure_answered(struct measure_wait *wait, struct MHD_Connection *connection, int *status, struct writer **document)
{
    enum desk_state state = desk_look(&wait->wait, connection);
    if (state == DESK_COMPLETED) {
        *status = wait->status;
        *document = &wait->document;
    } else if (state == DESK_CLOSED) {
        *status = COHORT_ECLOSED;
    }
    return state != DESK_WAITS;
}

void measure_release(struct measure_wait *wait)
{
    if (desk_leave_answered(&wait->wait)) {
        free_wait(wait);
    }
}
