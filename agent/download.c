/* SPDX-License-Identifier: Apache-2.0
 *
 * Downloads; see download.h.
 *
 * The handler of a download runs on the HTTP thread only, inside cohort_queue_dispatch(), which take() calls. While nothing waits in
 * its queue the connection is suspended, and the queue's descriptor is watched by a thread of ours, once for each time: it
 * resumes the connection under the lock under which it was suspended.
 *
 * The queue of a download that has ended cannot be closed while somebody still holds its handler: then both are kept aside, and tried
 * again at each keep-alive. The node frees the queues that are left.
 */
#include "download.h"

#include "deadline.h"
#include "request.h"
#include "writer.h"

#include <cohort/stream.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    BLOCK_BYTES = 65536,
    EVENTS_MAX = 16
};

struct download {
    struct download *next, *previous; /* under the lock */
    struct downloads *all;
    cohort_node *node;
    cohort_queue *queue;
    cohort_handle_id handle;
    struct MHD_Connection *connection;
    bool suspended;         /* under the lock */
    bool keep_alive;        /* a line is due; under the lock */
    struct writer record;   /* what is being sent; HTTP thread */
    size_t sent;            /* of it */
    uintptr_t stream_count; /* numbers them */
};

struct downloads {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    struct download *first;
    struct download *leftovers; /* ended, and not free yet */
    uint32_t count, max;
    bool closing;
    int epoll_fd, stop_fd;
    pthread_t thread;
};

/* ---- waiting ---- */

/* The lock is held. */
static void resume(struct download *d)
{
    if (d->suspended) {
        d->suspended = false;
        MHD_resume_connection(d->connection);
    }
}

/* A download is freed only after it was taken out of the list, so what an event names is looked for there. */
static void wake_one(struct downloads *all, const void *which)
{
    pthread_mutex_lock(&all->lock);
    for (struct download *d = all->first; d != NULL; d = d->next) {
        if (d == which) {
            resume(d);
        }
    }
    pthread_mutex_unlock(&all->lock);
}

static void *watch(void *arg)
{
    struct downloads *all = arg;
    struct epoll_event events[EVENTS_MAX];
    for (;;) {
        int count = epoll_wait(all->epoll_fd, events, EVENTS_MAX, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == all) {
                return NULL;
            }
            wake_one(all, events[i].data.ptr);
        }
        if (count < 0 && errno != EINTR) {
            return NULL;
        }
    }
}

struct downloads *downloads_new(uint32_t max)
{
    struct downloads *all = calloc(1, sizeof(*all));
    if (all == NULL) {
        return NULL;
    }
    struct epoll_event stop = {.events = EPOLLIN, .data.ptr = all};
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&all->ended, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&all->lock, NULL);
    all->max = max;
    all->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    all->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (all->epoll_fd >= 0 && all->stop_fd >= 0 && epoll_ctl(all->epoll_fd, EPOLL_CTL_ADD, all->stop_fd, &stop) == 0 &&
        pthread_create(&all->thread, NULL, watch, all) == 0) {
        return all;
    }
    close(all->epoll_fd);
    close(all->stop_fd);
    pthread_cond_destroy(&all->ended);
    pthread_mutex_destroy(&all->lock);
    free(all);
    return NULL;
}

static void free_download(struct download *d)
{
    writer_free(&d->record);
    free(d);
}

void downloads_free(struct downloads *all)
{
    if (all == NULL) {
        return;
    }
    (void)eventfd_write(all->stop_fd, 1);
    pthread_join(all->thread, NULL);
    while (all->leftovers != NULL) { /* their queues went with the node */
        struct download *next = all->leftovers->next;
        free_download(all->leftovers);
        all->leftovers = next;
    }
    close(all->epoll_fd);
    close(all->stop_fd);
    pthread_cond_destroy(&all->ended);
    pthread_mutex_destroy(&all->lock);
    free(all);
}

/* Its pieces that wait are dropped, and their credit is given back. The lock is held. */
static bool is_gone(struct download *d)
{
    if (d->handle != 0 && cohort_unhandle(d->node, d->handle) == COHORT_OK) {
        d->handle = 0;
    }
    return d->handle == 0 && cohort_queue_close(d->queue) == COHORT_OK;
}

static void close_leftovers(struct downloads *all)
{
    for (struct download **at = &all->leftovers; *at != NULL;) {
        struct download *d = *at;
        if (is_gone(d)) {
            *at = d->next;
            free_download(d);
        } else {
            at = &d->next;
        }
    }
}

void downloads_keep_alive(struct downloads *all)
{
    pthread_mutex_lock(&all->lock);
    close_leftovers(all);
    for (struct download *d = all->first; d != NULL; d = d->next) {
        d->keep_alive = d->suspended;
        resume(d);
    }
    pthread_mutex_unlock(&all->lock);
}

void downloads_close(struct downloads *all)
{
    pthread_mutex_lock(&all->lock);
    all->closing = true;
    for (struct download *d = all->first; d != NULL; d = d->next) {
        resume(d);
    }
    pthread_mutex_unlock(&all->lock);
}

void downloads_drain(struct downloads *all, uint32_t timeout_ms)
{
    const struct timespec deadline = deadline_after(timeout_ms);
    pthread_mutex_lock(&all->lock);
    while (all->count > 0 && pthread_cond_timedwait(&all->ended, &all->lock, &deadline) != ETIMEDOUT) {
    }
    pthread_mutex_unlock(&all->lock);
}

/* ---- records ---- */

static void on_piece(cohort_node *node, const cohort_piece *piece, void *arg)
{
    (void)node;
    struct download *d = arg;
    struct writer *w = &d->record;
    if (piece->begin) {
        *piece->state = (void *)++d->stream_count; /* a number is all we keep of it */
    }
    writer_begin(w, '{');
    writer_key_uint(w, "stream", (uintptr_t)*piece->state);
    writer_key_string(w, "from", piece->from);
    writer_key_string(w, "subject", piece->subject);
    writer_key_uint(w, "offset", piece->offset);
    writer_key_uint(w, "len", piece->data_len);
    if (piece->total != COHORT_TOTAL_UNKNOWN) {
        writer_key_uint(w, "total", piece->total);
    }
    writer_key_bool(w, "begin", piece->begin);
    writer_key_bool(w, "end", piece->end);
    if (piece->end) {
        writer_key_string(w, "status", cohort_error_name(piece->status));
    }
    writer_end(w, '}');
    writer_raw(w, "\n", 1);
    writer_raw(w, piece->data, piece->data_len);
}

/* Nothing waits: the connection sleeps until something does. The lock is held. */
static void sleep_until_readable(struct download *d)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = d};
    d->suspended = true;
    MHD_suspend_connection(d->connection);
    (void)epoll_ctl(d->all->epoll_fd, EPOLL_CTL_MOD, cohort_queue_fd(d->queue), &event); /* added before */
}

static ssize_t take(void *arg, uint64_t position, char *out, size_t max)
{
    (void)position;
    struct download *d = arg;
    if (d->sent == d->record.len) {
        d->record.len = d->sent = 0;
        d->record.comma = false;
        (void)cohort_queue_dispatch(d->queue, 1);
    }
    if (d->record.failed) {
        return MHD_CONTENT_READER_END_WITH_ERROR; /* no memory for a piece: the client sees that the answer is cut */
    }
    size_t part = d->record.len - d->sent;
    part = part < max ? part : max;
    if (part > 0) {
        memcpy(out, d->record.bytes + d->sent, part);
        d->sent += part;
        return (ssize_t)part;
    }
    pthread_mutex_lock(&d->all->lock);
    ssize_t result = 0;
    if (d->all->closing) {
        result = MHD_CONTENT_READER_END_OF_STREAM;
    } else if (d->keep_alive) {
        out[0] = '\n';
        result = 1;
    } else {
        sleep_until_readable(d);
    }
    d->keep_alive = false;
    pthread_mutex_unlock(&d->all->lock);
    return result;
}

/* ---- life ---- */

static void enter(struct download *d)
{
    d->next = d->all->first;
    if (d->next != NULL) {
        d->next->previous = d;
    }
    d->all->first = d;
    d->all->count++;
}

static void leave(struct download *d)
{
    if (d->previous != NULL) {
        d->previous->next = d->next;
    } else {
        d->all->first = d->next;
    }
    if (d->next != NULL) {
        d->next->previous = d->previous;
    }
    d->all->count--;
    pthread_cond_signal(&d->all->ended);
}

static void end(void *arg)
{
    struct download *d = arg;
    struct downloads *all = d->all;
    (void)epoll_ctl(all->epoll_fd, EPOLL_CTL_DEL, cohort_queue_fd(d->queue), NULL);
    pthread_mutex_lock(&all->lock);
    leave(d);
    d->next = all->leftovers;
    all->leftovers = d;
    close_leftovers(all);
    pthread_mutex_unlock(&all->lock);
}

static int register_with(struct download *d, const char *subject)
{
    int status = cohort_queue_open(d->node, 0, &d->queue);
    if (status != COHORT_OK) {
        return status;
    }
    struct epoll_event event = {.events = EPOLLONESHOT, .data.ptr = d};
    status = epoll_ctl(d->all->epoll_fd, EPOLL_CTL_ADD, cohort_queue_fd(d->queue), &event) == 0 ? COHORT_OK : COHORT_ENOMEM;
    if (status == COHORT_OK) {
        status = cohort_handle_stream(d->node, d->queue, subject, on_piece, d, NULL, &d->handle);
    }
    if (status != COHORT_OK && cohort_queue_close(d->queue) != COHORT_OK) {
        status = COHORT_ECLOSED; /* the node closes, and frees it */
    }
    return status;
}

int download_open(struct downloads *all, cohort_node *node, const char *subject, struct download **out)
{
    struct download *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return COHORT_ENOMEM;
    }
    *d = (struct download){.all = all, .node = node};
    pthread_mutex_lock(&all->lock);
    int status = all->closing ? COHORT_ECLOSED : all->count >= all->max ? COHORT_ELIMIT : register_with(d, subject);
    if (status == COHORT_OK) {
        enter(d);
    }
    pthread_mutex_unlock(&all->lock);
    if (status != COHORT_OK) {
        free(d);
        return status;
    }
    *out = d;
    return COHORT_OK;
}

enum MHD_Result download_answer(struct download *d, struct MHD_Connection *connection)
{
    d->connection = connection;
    return answer_stream(connection, "application/octet-stream", BLOCK_BYTES, take, d, end);
}
