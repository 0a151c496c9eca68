/* SPDX-License-Identifier: Apache-2.0
 *
 * The desk; see desk.h. `suspended` is set and read under its lock together with `completed` and `closed`, so exactly one resume follows
 * each suspend. No call into the node is made under the lock.
 */
#include "desk.h"

#include "deadline.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct desk {
    pthread_mutex_t lock;
    struct desk_wait *waits;
    uint32_t wait_count;
    uint32_t waits_max;
    uint32_t unanswered; /* HTTP requests */
    pthread_cond_t answered;
    bool closing;
};

struct desk *desk_new(uint32_t waits_max)
{
    struct desk *desk = calloc(1, sizeof(*desk));
    if (desk == NULL) {
        return NULL;
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&desk->answered, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&desk->lock, NULL);
    desk->waits_max = waits_max;
    return desk;
}

void desk_free(struct desk *desk)
{
    if (desk == NULL) {
        return;
    }
    pthread_cond_destroy(&desk->answered);
    pthread_mutex_destroy(&desk->lock);
    free(desk);
}

/* The lock is held. */
static void resume(struct desk_wait *wait)
{
    if (wait->suspended) {
        wait->suspended = false;
        MHD_resume_connection(wait->connection);
    }
}

void desk_close(struct desk *desk)
{
    pthread_mutex_lock(&desk->lock);
    desk->closing = true;
    for (struct desk_wait *wait = desk->waits; wait != NULL; wait = wait->next) {
        wait->closed = !wait->completed;
        resume(wait);
    }
    pthread_mutex_unlock(&desk->lock);
}

void desk_drain(struct desk *desk, uint32_t timeout_ms)
{
    const struct timespec deadline = deadline_after(timeout_ms);
    pthread_mutex_lock(&desk->lock);
    while (desk->unanswered > 0 && pthread_cond_timedwait(&desk->answered, &desk->lock, &deadline) != ETIMEDOUT) {
    }
    pthread_mutex_unlock(&desk->lock);
}

int desk_enter(struct desk *desk, struct desk_wait *wait)
{
    pthread_mutex_lock(&desk->lock);
    int status = desk->closing ? COHORT_ECLOSED : desk->wait_count >= desk->waits_max ? COHORT_ELIMIT : COHORT_OK;
    if (status == COHORT_OK) {
        *wait = (struct desk_wait){.desk = desk, .holders = 2, .next = desk->waits};
        if (wait->next != NULL) {
            wait->next->previous = wait;
        }
        desk->waits = wait;
        desk->wait_count++;
        desk->unanswered++;
    }
    pthread_mutex_unlock(&desk->lock);
    return status;
}

void desk_complete(struct desk_wait *wait)
{
    pthread_mutex_lock(&wait->desk->lock);
    wait->completed = true;
    resume(wait);
    pthread_mutex_unlock(&wait->desk->lock);
}

void desk_wake(struct desk *desk)
{
    pthread_mutex_lock(&desk->lock);
    for (struct desk_wait *wait = desk->waits; wait != NULL; wait = wait->next) {
        wait->woken = true;
        resume(wait);
    }
    pthread_mutex_unlock(&desk->lock);
}

enum desk_state desk_look(struct desk_wait *wait, struct MHD_Connection *connection)
{
    struct desk *desk = wait->desk;
    pthread_mutex_lock(&desk->lock);
    wait->closed = wait->closed || (desk->closing && !wait->completed);
    enum desk_state state = wait->closed      ? DESK_CLOSED
                            : wait->completed ? DESK_COMPLETED
                            : wait->woken     ? DESK_WOKEN
                                              : DESK_WAITS; /* the first stands */
    wait->woken = false;
    if (state == DESK_WAITS) {
        wait->connection = connection;
        wait->suspended = true;
        MHD_suspend_connection(connection);
    }
    pthread_mutex_unlock(&desk->lock);
    return state;
}

/* True: it was the last. */
static bool leave(struct desk_wait *wait, int holders, bool answered)
{
    struct desk *desk = wait->desk;
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
    if (answered) {
        desk->unanswered--;
        pthread_cond_signal(&desk->answered);
    }
    pthread_mutex_unlock(&desk->lock);
    return last;
}

bool desk_leave_completed(struct desk_wait *wait)
{
    return leave(wait, 1, false);
}

bool desk_leave_answered(struct desk_wait *wait)
{
    return leave(wait, 1, true);
}

void desk_leave_unasked(struct desk_wait *wait)
{
    (void)leave(wait, 2, true);
}
