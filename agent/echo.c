/* SPDX-License-Identifier: Apache-2.0
 *
 * Echoes over HTTP; see echo.h.
 *
 * A wait has two holders: the HTTP request, and the completion the library owes us. It goes when both are done, in either
 * order: at shutdown the request ends first, and after a quick answer the completion is first. `suspended` is set and read
 * under the desk's lock together with `done`, so exactly one resume follows each suspend. No call into the node is made
 * under the lock.
 */
#include "echo.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct echo_wait {
    struct echo_wait *next, *previous; /* among the waits of the desk */
    struct echo_desk *desk;
    struct MHD_Connection *connection; /* valid while suspended */
    int holders;
    bool suspended;
    bool done;
    int status;
    uint64_t rtt_ns;
};

struct echo_desk {
    pthread_mutex_t lock;
    struct echo_wait *waits;
    uint32_t wait_count;
    uint32_t waits_max;
    bool closing;
};

struct echo_desk *echo_desk_new(uint32_t waits_max)
{
    struct echo_desk *desk = calloc(1, sizeof(*desk));
    if (desk == NULL) {
        return NULL;
    }
    pthread_mutex_init(&desk->lock, NULL);
    desk->waits_max = waits_max;
    return desk;
}

void echo_desk_free(struct echo_desk *desk)
{
    if (desk == NULL) {
        return;
    }
    pthread_mutex_destroy(&desk->lock);
    free(desk);
}

/* The first result stands. The lock is held. */
static void finish(struct echo_wait *wait, int status, uint64_t rtt_ns)
{
    if (wait->done) {
        return;
    }
    wait->done = true;
    wait->status = status;
    wait->rtt_ns = rtt_ns;
    if (wait->suspended) {
        wait->suspended = false;
        MHD_resume_connection(wait->connection);
    }
}

void echo_desk_close(struct echo_desk *desk)
{
    pthread_mutex_lock(&desk->lock);
    desk->closing = true;
    for (struct echo_wait *wait = desk->waits; wait != NULL; wait = wait->next) {
        finish(wait, COHORT_ECLOSED, 0);
    }
    pthread_mutex_unlock(&desk->lock);
}

/* NULL, with the reason in `status`, if there may not be one more. */
static struct echo_wait *wait_new(struct echo_desk *desk, int *status)
{
    struct echo_wait *wait = calloc(1, sizeof(*wait));
    if (wait == NULL) {
        *status = COHORT_ENOMEM;
        return NULL;
    }
    *wait = (struct echo_wait){.desk = desk, .holders = 2};
    pthread_mutex_lock(&desk->lock);
    *status = desk->closing ? COHORT_ECLOSED : desk->wait_count >= desk->waits_max ? COHORT_ELIMIT : COHORT_OK;
    if (*status == COHORT_OK) {
        wait->next = desk->waits;
        if (wait->next != NULL) {
            wait->next->previous = wait;
        }
        desk->waits = wait;
        desk->wait_count++;
    }
    pthread_mutex_unlock(&desk->lock);
    if (*status != COHORT_OK) {
        free(wait);
        return NULL;
    }
    return wait;
}

static void let_go(struct echo_wait *wait, int holders)
{
    struct echo_desk *desk = wait->desk;
    pthread_mutex_lock(&desk->lock);
    wait->holders -= holders;
    bool last = wait->holders == 0;
    if (last) {
        if (wait->previous != NULL) {
            wait->previous->next = wait->next;
        } else {
            desk->waits = wait->next;
        }
        if (wait->next != NULL) {
            wait->next->previous = wait->previous;
        }
        desk->wait_count--;
    }
    pthread_mutex_unlock(&desk->lock);
    if (last) {
        free(wait);
    }
}

static void on_echo(cohort_node *node, const char *id, int status, uint64_t rtt_ns, void *arg)
{
    (void)node;
    (void)id;
    struct echo_wait *wait = arg;
    pthread_mutex_lock(&wait->desk->lock);
    finish(wait, status, rtt_ns);
    pthread_mutex_unlock(&wait->desk->lock);
    let_go(wait, 1);
}

/* A node tells an answer from an echo of its peer by the data: two agents that echo each other must not send the same. */
static bool fill(unsigned char *data, size_t size)
{
    size_t random_len = size < 16 ? size : 16;
    memset(data, 0, size);
    return random_len == 0 || getrandom(data, random_len, 0) == (ssize_t)random_len;
}

int echo_begin(struct echo_desk *desk, cohort_node *node, const char *id, size_t size, uint32_t timeout_ms, struct echo_wait **out)
{
    unsigned char data[ECHO_BYTES_MAX];
    if (!fill(data, size)) {
        return COHORT_EIO;
    }
    int status;
    struct echo_wait *wait = wait_new(desk, &status);
    if (wait == NULL) {
        return status;
    }
    status = cohort_echo(node, id, size > 0 ? data : NULL, size, timeout_ms, on_echo, wait);
    if (status != COHORT_OK) {
        let_go(wait, 2);
        return status;
    }
    *out = wait;
    return COHORT_OK;
}

bool echo_answered(struct echo_wait *wait, struct MHD_Connection *connection, int *status, uint64_t *rtt_ns)
{
    struct echo_desk *desk = wait->desk;
    pthread_mutex_lock(&desk->lock);
    if (desk->closing) {
        finish(wait, COHORT_ECLOSED, 0);
    }
    bool done = wait->done;
    if (done) {
        *status = wait->status;
        *rtt_ns = wait->rtt_ns;
    } else {
        wait->connection = connection;
        wait->suspended = true;
        MHD_suspend_connection(connection);
    }
    pthread_mutex_unlock(&desk->lock);
    return done;
}

void echo_release(struct echo_wait *wait)
{
    let_go(wait, 1);
}
