/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests of other members, given to streams that said they reply. Each goes to one stream, which owes the reply until hub_reply(); when
 * the stream ends first, the member is told ENOREPLY. Nothing of the node is called under the hub's lock.
 */
#include "hub_internal.h"

#include "document.h"

#include <stdint.h>
#include <stdlib.h>

static bool is_given_back(int status)
{
    return status == COHORT_OK || status == COHORT_ENOPEER || status == COHORT_ECLOSED;
}

/* Without room or memory even for that, it waits until there is. No lock is held; takes `owed`. */
static void refuse(struct hub *hub, struct owed *owed, int status)
{
    if (is_given_back(cohort_reply_error(owed->call, status, NULL))) {
        free(owed);
        return;
    }
    pthread_mutex_lock(&hub->lock);
    owed->next = hub->orphans;
    hub->orphans = owed;
    pthread_mutex_unlock(&hub->lock);
}

void hub_refuse(struct hub *hub, struct owed *list)
{
    while (list != NULL) {
        struct owed *next = list->next;
        refuse(hub, list, COHORT_ENOREPLY);
        list = next;
    }
}

void hub_refuse_orphans(struct hub *hub)
{
    pthread_mutex_lock(&hub->lock);
    struct owed *list = hub->orphans;
    hub->orphans = NULL;
    pthread_mutex_unlock(&hub->lock);
    hub_refuse(hub, list);
}

/* Of the streams that would reply, the one that has the fewest to reply to. The lock is held. */
static struct stream *choose(struct hub *hub, const cohort_message *message)
{
    struct stream *best = NULL;
    size_t fewest = SIZE_MAX;
    for (struct stream *stream = hub->streams; stream != NULL && !hub->closing; stream = stream->next) {
        size_t count = 0;
        for (const struct owed *it = stream->owed; it != NULL; it = it->next) {
            count++;
        }
        if (stream_wants(stream, STREAM_MESSAGES, message) && count < fewest) {
            best = stream;
            fewest = count;
        }
    }
    return best;
}

/* Give it to one stream. COHORT_ENOHANDLER, COHORT_ELIMIT, COHORT_ENOMEM: to none. */
static int give(struct hub *hub, const cohort_message *message, struct owed *owed, const struct writer *text)
{
    struct item *item = text->failed ? NULL : item_new(text->bytes, text->len);
    pthread_mutex_lock(&hub->lock);
    struct stream *stream = choose(hub, message);
    int status = stream == NULL ? COHORT_ENOHANDLER : item == NULL ? COHORT_ENOMEM : COHORT_OK;
    if (status == COHORT_OK && (hub->stats.requests_open >= hub->limits.requests_max || !stream_push(stream, item))) {
        status = COHORT_ELIMIT;
    }
    if (status == COHORT_OK) {
        owed->next = stream->owed;
        stream->owed = owed;
        hub->stats.requests_open++;
    }
    item_release(item);
    pthread_mutex_unlock(&hub->lock);
    return status;
}

void hub_on_request(struct hub *hub, const cohort_message *message)
{
    if (!hub_wanted(hub, STREAM_MESSAGES, message)) {
        (void)!cohort_reply_error(message->call, COHORT_ENOHANDLER, NULL); /* else the library answers, as far as it can */
        return;
    }
    struct owed *owed = calloc(1, sizeof(*owed));
    cohort_call *kept = owed != NULL ? cohort_call_keep(message->call) : NULL;
    if (kept == NULL) {
        free(owed);
        return; /* the library says ENOREPLY */
    }
    pthread_mutex_lock(&hub->lock);
    *owed = (struct owed){.number = ++hub->request_number, .call = kept};
    pthread_mutex_unlock(&hub->lock);
    struct writer w = WRITER_EMPTY;
    document_request(&w, message, owed->number, cohort_call_time_left_ms(kept));
    int status = give(hub, message, owed, &w);
    writer_free(&w);
    if (status != COHORT_OK) {
        refuse(hub, owed, status);
    }
}

/* Take it from whichever stream has it. The lock is held. */
static struct owed *take_owed(struct hub *hub, uint64_t number, struct stream **of)
{
    for (struct stream *stream = hub->streams; stream != NULL; stream = stream->next) {
        for (struct owed **at = &stream->owed; *at != NULL; at = &(*at)->next) {
            if ((*at)->number == number) {
                struct owed *owed = *at;
                *at = owed->next;
                *of = stream;
                return owed;
            }
        }
    }
    return NULL;
}

/* If its stream has ended meanwhile, nobody else will reply to it. The lock is held. */
static void give_back(struct hub *hub, struct owed *owed, const struct stream *of)
{
    struct stream *stream = hub->streams;
    while (stream != NULL && stream != of) {
        stream = stream->next;
    }
    struct owed **list = stream != NULL ? &stream->owed : &hub->orphans;
    hub->stats.requests_open -= stream == NULL;
    owed->next = *list;
    *list = owed;
}

int hub_reply(struct hub *hub, uint64_t request, const void *data, size_t len, const char *error)
{
    struct stream *of = NULL;
    pthread_mutex_lock(&hub->lock);
    struct owed *owed = take_owed(hub, request, &of);
    pthread_mutex_unlock(&hub->lock);
    if (owed == NULL) {
        return COHORT_ESTATE;
    }
    int status = error != NULL ? cohort_reply_error(owed->call, COHORT_EHANDLER, error) : cohort_reply(owed->call, data, len);
    bool done = is_given_back(status);
    pthread_mutex_lock(&hub->lock);
    if (done) {
        hub->stats.requests_open--;
    } else {
        give_back(hub, owed, of);
    }
    pthread_mutex_unlock(&hub->lock);
    if (done) {
        free(owed);
    }
    return status;
}
