/* SPDX-License-Identifier: Apache-2.0
 *
 * The hub: what the node reports goes in, on library threads; server-sent event streams take it out, on the HTTP thread.
 *
 * A stream exists from stream_open() on and collects from then on. stream_answer() hands it to its HTTP connection, which
 * ends it. Every stream has a backlog of its own with a limit: beyond it items are dropped for that stream alone, counted,
 * and an `overflow` event stands in the stream where they are missing.
 */
#ifndef COHORT_AGENT_HUB_H
#define COHORT_AGENT_HUB_H

#include "writer.h"

#include <cohort/cohort.h>
#include <microhttpd.h>

struct hub;
struct stream;

struct hub_limits {
    uint32_t streams_max;     /* open at once */
    size_t backlog_bytes_max; /* waiting for one stream */
    uint32_t requests_max;    /* given to streams and not replied to, at once */
};

struct hub_stats {
    uint64_t streams_open;     /* now */
    uint64_t streams_opened;   /* ever */
    uint64_t items_dropped;    /* beyond a stream's backlog */
    uint64_t messages_unheard; /* messages that arrived while no stream asked for them */
    uint64_t requests_open;    /* now: given to a stream, and not replied to */
};

enum stream_kind {
    STREAM_EVENTS,
    STREAM_MESSAGES
};

/** Which messages a stream wants. */
struct stream_filter {
    bool all;
    bool raw; /* raw frames of `type`; else `subject` */
    int32_t type;
    char subject[COHORT_SUBJECT_BYTES_MAX + 1];
    bool replies; /* requests of it, to reply to them; else messages that are none */
};

/** Read "*", a subject name or "#TYPE". False if it is none of them. */
bool stream_filter_parse(const char *text, struct stream_filter *out);

/** NULL: out of memory. */
struct hub *hub_new(const struct hub_limits *limits);

/** No callback of the node and no stream may be left. */
void hub_free(struct hub *hub);

/** Callbacks for the node, with the hub as argument. Thread: any. */
void hub_on_event(cohort_node *node, const cohort_event *event, void *hub);
void hub_on_message(cohort_node *node, const cohort_message *message, void *hub);
void hub_on_undelivered(cohort_node *node, const cohort_undelivered *report, void *hub);

/**
 * Reply to a request that was given to a stream: with data, or, if `error` is not NULL, with that text and EHANDLER.
 *
 *   COHORT_ESTATE   no such request: it was replied to, or its stream has ended.
 *   COHORT_EAGAIN, COHORT_ENOMEM, COHORT_ESIZE: nothing was sent; it is still to be replied to.
 *   As cohort_reply().
 */
COHORT_NODISCARD int hub_reply(struct hub *hub, uint64_t request, const void *data, size_t len, const char *error);

/** Let every idle stream send a comment, which also finds the streams whose reader is gone. */
void hub_keep_alive(struct hub *hub);

/** No stream opens any more; those that are open end when their backlog is sent. Wait so long for that. */
void hub_close(struct hub *hub, uint32_t timeout_ms);

void hub_stats_get(struct hub *hub, struct hub_stats *out);

/**
 * A new stream that collects from now on. `filter` is for messages only. COHORT_ELIMIT, COHORT_ENOMEM, COHORT_ECLOSED:
 * there is none.
 */
COHORT_NODISCARD int stream_open(struct hub *hub, enum stream_kind kind, const struct stream_filter *filter, struct stream **out);

/** Put `text`, whole server-sent events, before everything collected. COHORT_ENOMEM: nothing changed. */
COHORT_NODISCARD int stream_prepend(struct stream *stream, const struct writer *text);

/** Give up a stream that was not handed to a connection. */
void stream_abandon(struct stream *stream);

/** Answer `connection` with the stream, which belongs to the connection from here on, also when MHD_NO is returned. */
enum MHD_Result stream_answer(struct stream *stream, struct MHD_Connection *connection);

#endif
