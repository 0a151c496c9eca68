/* SPDX-License-Identifier: Apache-2.0
 *
 * The hub and its streams; see hub.h.
 *
 * One lock covers the list of streams, their backlogs and `suspended`. It is held for list work and copying only: never
 * while JSON is made, never during a call into the node. MHD is called under it in one place each way, and must be: a
 * stream suspends its connection in the same critical section in which it found its backlog empty, and a producer resumes
 * it in the one in which it fills it, so no wake-up is lost and none hits a connection that is not suspended.
 *
 * Life of a stream: open (collects; no connection) -> answered (the HTTP thread reads it) -> ended by MHD's free callback,
 * which takes it off the list under the lock; producers reach streams by that list only, so none can hold a dead one.
 * MHD does not look at a suspended connection, so a reader that went away is noticed at the next item or keep-alive.
 */
#include "hub_internal.h"

#include "deadline.h"
#include "document.h"
#include "measure.h"
#include "request.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    READ_BLOCK_BYTES = 16384
};

struct hub *hub_new(const struct hub_limits *limits)
{
    struct hub *hub = calloc(1, sizeof(*hub));
    if (hub == NULL) {
        return NULL;
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&hub->ended, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&hub->lock, NULL);
    hub->limits = *limits;
    return hub;
}

void hub_free(struct hub *hub)
{
    if (hub == NULL) {
        return;
    }
    for (struct owed *owed = hub->orphans; owed != NULL;) { /* the node is gone, and their calls with it */
        struct owed *next = owed->next;
        free(owed);
        owed = next;
    }
    pthread_cond_destroy(&hub->ended);
    pthread_mutex_destroy(&hub->lock);
    free(hub);
}

/* ---- backlog; the lock is held ---- */

struct item *item_new(const void *bytes, size_t len)
{
    struct item *item = malloc(sizeof(*item) + len);
    if (item == NULL) {
        return NULL;
    }
    item->references = 1;
    item->len = len;
    memcpy(item->bytes, bytes, len);
    return item;
}

void item_release(struct item *item)
{
    if (item != NULL && --item->references == 0) {
        free(item);
    }
}

static void wake(struct stream *stream)
{
    if (!stream->suspended) {
        return;
    }
    stream->suspended = false;
    MHD_resume_connection(stream->connection);
}

static bool append(struct stream *stream, struct item *item)
{
    struct entry *entry = malloc(sizeof(*entry));
    if (entry == NULL) {
        return false;
    }
    *entry = (struct entry){.item = item};
    item->references++;
    if (stream->last != NULL) {
        stream->last->next = entry;
    } else {
        stream->first = entry;
    }
    stream->last = entry;
    stream->backlog_bytes += item->len;
    wake(stream);
    return true;
}

static void pop(struct stream *stream)
{
    struct entry *entry = stream->first;
    stream->first = entry->next;
    if (stream->first == NULL) {
        stream->last = NULL;
    }
    stream->backlog_bytes -= entry->item->len;
    stream->first_sent = 0;
    item_release(entry->item);
    free(entry);
}

/* Say in the stream how many items are missing here. */
static bool append_overflow(struct stream *stream)
{
    char text[96];
    int len = snprintf(text, sizeof(text), "event: overflow\ndata: {\"dropped\":%llu}\n\n", (unsigned long long)stream->dropped);
    struct item *item = item_new(text, (size_t)len);
    bool done = item != NULL && append(stream, item);
    item_release(item);
    if (done) {
        stream->dropped = 0;
    }
    return done;
}

static void drop(struct stream *stream)
{
    stream->dropped++;
    stream->hub->stats.items_dropped++;
    wake(stream); /* an idle reader is told at once */
}

/* Once something was dropped, drop until half the backlog is gone: one overflow event for a burst, not one for every other
 * item of it. */
bool stream_push(struct stream *stream, struct item *item)
{
    size_t limit = stream->hub->limits.backlog_bytes_max;
    size_t room = stream->backlog_bytes < limit ? limit - stream->backlog_bytes : 0;
    bool fits = item->len <= room && (stream->dropped == 0 || stream->backlog_bytes <= limit / 2);
    if (fits && stream->dropped > 0) {
        fits = append_overflow(stream);
    }
    if (fits && append(stream, item)) {
        return true;
    }
    drop(stream);
    return false;
}

static size_t take(struct stream *stream, char *out, size_t max)
{
    size_t len = 0;
    if (stream->first == NULL && stream->dropped > 0) {
        append_overflow(stream);
    }
    while (stream->first != NULL && len < max) {
        struct item *item = stream->first->item;
        size_t part = item->len - stream->first_sent;
        if (part > max - len) {
            part = max - len;
        }
        memcpy(out + len, item->bytes + stream->first_sent, part);
        len += part;
        stream->first_sent += part;
        if (stream->first_sent == item->len) {
            pop(stream);
        }
    }
    return len;
}

/* ---- producers: library threads ---- */

bool stream_wants(const struct stream *stream, enum stream_kind kind, const cohort_message *message)
{
    if (stream->kind != kind) {
        return false;
    }
    if (kind == STREAM_MESSAGES && stream->filter.replies != (message->call != NULL)) {
        return false;
    }
    if (kind == STREAM_EVENTS || stream->filter.all) {
        return true;
    }
    if (message->raw) {
        return stream->filter.raw && (uint32_t)stream->filter.type == message->type;
    }
    return !stream->filter.raw && strcmp(stream->filter.subject, message->subject) == 0;
}

bool hub_wanted(struct hub *hub, enum stream_kind kind, const cohort_message *message)
{
    bool found = false;
    pthread_mutex_lock(&hub->lock);
    for (struct stream *stream = hub->streams; stream != NULL && !found; stream = stream->next) {
        found = stream_wants(stream, kind, message);
    }
    if (!found && kind == STREAM_MESSAGES && message->call == NULL) {
        hub->stats.messages_unheard++;
    }
    pthread_mutex_unlock(&hub->lock);
    return found;
}

/* Items of one source come from one thread, in order; the lock is taken per item, so each stream sees that order. */
static void publish(struct hub *hub, enum stream_kind kind, const cohort_message *message, const struct writer *text)
{
    struct item *item = text->failed ? NULL : item_new(text->bytes, text->len);
    pthread_mutex_lock(&hub->lock);
    for (struct stream *stream = hub->streams; stream != NULL; stream = stream->next) {
        if (hub->closing || !stream_wants(stream, kind, message)) {
            continue;
        }
        if (item != NULL) {
            (void)stream_push(stream, item);
        } else {
            drop(stream);
        }
    }
    item_release(item);
    pthread_mutex_unlock(&hub->lock);
}

void hub_on_event(cohort_node *node, const cohort_event *event, void *arg)
{
    (void)node;
    struct hub *hub = arg;
    hub_refuse_orphans(hub); /* also while the node closes: then they are given back whatever else */
    if (!hub_wanted(hub, STREAM_EVENTS, NULL)) {
        return;
    }
    struct writer w = WRITER_EMPTY;
    document_event(&w, event);
    publish(hub, STREAM_EVENTS, NULL, &w);
    writer_free(&w);
}

void hub_on_undelivered(cohort_node *node, const cohort_undelivered *report, void *arg)
{
    (void)node;
    struct hub *hub = arg;
    if (strcmp(report->subject, MEASURE_SUBJECT) == 0 || !hub_wanted(hub, STREAM_EVENTS, NULL)) {
        return; /* what was sent to measure is no loss */
    }
    struct writer w = WRITER_EMPTY;
    document_undelivered(&w, report);
    publish(hub, STREAM_EVENTS, NULL, &w);
    writer_free(&w);
}

void hub_on_message(cohort_node *node, const cohort_message *message, void *arg)
{
    (void)node;
    struct hub *hub = arg;
    if (message->call != NULL) {
        hub_on_request(hub, message);
        return;
    }
    if (!hub_wanted(hub, STREAM_MESSAGES, message)) {
        return;
    }
    struct writer w = WRITER_EMPTY;
    if (message->data_len > hub->limits.backlog_bytes_max) {
        w.failed = true; /* it would fit nowhere as text */
    } else {
        document_message(&w, message);
    }
    publish(hub, STREAM_MESSAGES, message, &w);
    writer_free(&w);
}

void hub_keep_alive(struct hub *hub)
{
    static const char comment[] = ": keep-alive\n\n";
    hub_refuse_orphans(hub);
    pthread_mutex_lock(&hub->lock);
    struct item *item = item_new(comment, sizeof(comment) - 1);
    for (struct stream *stream = hub->streams; stream != NULL && item != NULL; stream = stream->next) {
        if (stream->suspended) {
            append(stream, item);
        }
    }
    item_release(item);
    pthread_mutex_unlock(&hub->lock);
}

void hub_close(struct hub *hub, uint32_t timeout_ms)
{
    const struct timespec deadline = deadline_after(timeout_ms);
    pthread_mutex_lock(&hub->lock);
    hub->closing = true;
    for (struct stream *stream = hub->streams; stream != NULL; stream = stream->next) {
        wake(stream);
    }
    while (hub->stream_count > 0) {
        if (pthread_cond_timedwait(&hub->ended, &hub->lock, &deadline) == ETIMEDOUT) {
            break;
        }
    }
    pthread_mutex_unlock(&hub->lock);
}

void hub_stats_get(struct hub *hub, struct hub_stats *out)
{
    pthread_mutex_lock(&hub->lock);
    *out = hub->stats;
    out->streams_open = hub->stream_count;
    pthread_mutex_unlock(&hub->lock);
}

/* ---- streams: the HTTP thread ---- */

int stream_open(struct hub *hub, enum stream_kind kind, const struct stream_filter *filter, struct stream **out)
{
    struct stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        return COHORT_ENOMEM;
    }
    stream->hub = hub;
    stream->kind = kind;
    if (filter != NULL) {
        stream->filter = *filter;
    }
    int status = COHORT_OK;
    pthread_mutex_lock(&hub->lock);
    if (hub->closing) {
        status = COHORT_ECLOSED;
    } else if (hub->stream_count >= hub->limits.streams_max) {
        status = COHORT_ELIMIT;
    } else {
        stream->next = hub->streams;
        if (stream->next != NULL) {
            stream->next->previous = stream;
        }
        hub->streams = stream;
        hub->stream_count++;
        hub->stats.streams_opened++;
    }
    pthread_mutex_unlock(&hub->lock);
    if (status != COHORT_OK) {
        free(stream);
        return status;
    }
    *out = stream;
    return COHORT_OK;
}

int stream_prepend(struct stream *stream, const struct writer *text)
{
    struct item *item = text->failed ? NULL : item_new(text->bytes, text->len);
    struct entry *entry = malloc(sizeof(*entry));
    if (item == NULL || entry == NULL) {
        free(item);
        free(entry);
        return COHORT_ENOMEM;
    }
    pthread_mutex_lock(&stream->hub->lock);
    *entry = (struct entry){.next = stream->first, .item = item};
    stream->first = entry;
    if (stream->last == NULL) {
        stream->last = entry;
    }
    stream->backlog_bytes += item->len;
    pthread_mutex_unlock(&stream->hub->lock);
    return COHORT_OK;
}

void stream_abandon(struct stream *stream)
{
    struct hub *hub = stream->hub;
    pthread_mutex_lock(&hub->lock);
    if (stream->previous != NULL) {
        stream->previous->next = stream->next;
    } else {
        hub->streams = stream->next;
    }
    if (stream->next != NULL) {
        stream->next->previous = stream->previous;
    }
    while (stream->first != NULL) {
        pop(stream);
    }
    struct owed *owed = stream->owed;
    for (const struct owed *it = owed; it != NULL; it = it->next) {
        hub->stats.requests_open--;
    }
    pthread_mutex_unlock(&hub->lock);
    hub_refuse(hub, owed); /* before the hub may be closed */
    pthread_mutex_lock(&hub->lock);
    hub->stream_count--;
    pthread_cond_signal(&hub->ended);
    pthread_mutex_unlock(&hub->lock);
    free(stream);
}

static ssize_t stream_read(void *arg, uint64_t position, char *out, size_t max)
{
    (void)position;
    struct stream *stream = arg;
    pthread_mutex_lock(&stream->hub->lock);
    ssize_t result = (ssize_t)take(stream, out, max);
    if (result == 0 && stream->hub->closing) {
        result = MHD_CONTENT_READER_END_OF_STREAM;
    } else if (result == 0) {
        stream->suspended = true;
        MHD_suspend_connection(stream->connection);
    }
    pthread_mutex_unlock(&stream->hub->lock);
    return result;
}

static void stream_end(void *arg)
{
    stream_abandon(arg);
}

enum MHD_Result stream_answer(struct stream *stream, struct MHD_Connection *connection)
{
    pthread_mutex_lock(&stream->hub->lock);
    stream->connection = connection;
    pthread_mutex_unlock(&stream->hub->lock);
    return answer_stream(connection, "text/event-stream", READ_BLOCK_BYTES, stream_read, stream, stream_end);
}
