/* SPDX-License-Identifier: Apache-2.0
 *
 * The inside of the hub, for hub.c (streams and what goes into them) and hub_requests.c (requests that streams are to reply to).
 */
#ifndef COHORT_AGENT_HUB_INTERNAL_H
#define COHORT_AGENT_HUB_INTERNAL_H

#include "hub.h"

#include <pthread.h>

/* One or more whole server-sent events, shared by all streams that want them. */
struct item {
    uint32_t references; /* under the hub's lock */
    size_t len;
    char bytes[];
};

struct entry {
    struct entry *next;
    struct item *item;
};

/* A request given to a stream, that we are to reply to. */
struct owed {
    struct owed *next;
    uint64_t number;
    cohort_call *call;
};

struct stream {
    struct stream *next, *previous;
    struct hub *hub;
    enum stream_kind kind;
    struct stream_filter filter;
    struct MHD_Connection *connection;
    bool suspended;
    struct owed *owed;
    struct entry *first, *last;
    size_t first_sent; /* bytes of the first item that are out already */
    size_t backlog_bytes;
    uint64_t dropped; /* since the last overflow event; nothing is taken in until there is room again */
};

struct hub {
    pthread_mutex_t lock;
    pthread_cond_t ended; /* a stream ended */
    struct hub_limits limits;
    struct stream *streams;
    uint32_t stream_count;
    bool closing;
    uint64_t request_number;
    struct owed *orphans; /* to be refused once there is room for it: see refuse() */
    struct hub_stats stats;
};

/* The lock is held for all of these. */

/** NULL: out of memory. */
struct item *item_new(const void *bytes, size_t len);
void item_release(struct item *item);
/** False: dropped, and the stream will say so. */
bool stream_push(struct stream *stream, struct item *item);
bool stream_wants(const struct stream *stream, enum stream_kind kind, const cohort_message *message);

/* It is not. */

/** Does any stream? Counts a message that none does. */
bool hub_wanted(struct hub *hub, enum stream_kind kind, const cohort_message *message);

void hub_on_request(struct hub *hub, const cohort_message *message);
/** Refuse what a stream that has ended was to reply to; takes the list. */
void hub_refuse(struct hub *hub, struct owed *list);
/** Try again to refuse what there was no room for. */
void hub_refuse_orphans(struct hub *hub);

#endif
