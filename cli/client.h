/* SPDX-License-Identifier: Apache-2.0
 *
 * The client side of docs/http.md: requests to the agent over its control socket. All complaints go to stderr, one line
 * each; the functions return what the command should exit with.
 */
#ifndef COHORT_CLI_CLIENT_H
#define COHORT_CLI_CLIENT_H

#include "options.h"
#include "sse.h"

#include "control.h"

#include <curl/curl.h>
#include <jansson.h>

struct client {
    CURL *curl;
    const char *command; /* begins each complaint */
    const char *about;   /* NULL, or what the request is about: named when the agent refuses it */
    char path[CONTROL_PATH_MAX + 1];
    long status; /* of the last answer */
    char *body;  /* of the last answer, NUL-terminated */
    size_t body_len;
    bool body_too_large;
    bool quiet;           /* no complaints: for polling */
    uint32_t patience_ms; /* not 0: when nothing has moved for so long, the agent must say that it lives, or is given up */
    uint64_t moved_ms;    /* when something did */
    curl_off_t sent;      /* until then */
    bool hung;            /* it did not say so */
};

/** control NULL: the default path. EXIT_FINE, or EXIT_FAILED and nothing to close. */
int client_open(struct client *client, const char *command, const char *control);
void client_close(struct client *client);

/** Path and arguments, encoded: client_url(c, "/v1/send", NULL, "to", id, NULL). `rest`, if any, is appended as a path segment. */
__attribute__((sentinel)) char *client_url(struct client *client, const char *path, const char *rest, ...);

/** Takes the url, which may be NULL for lack of memory. EXIT_FINE when the agent answered with success. */
int client_get(struct client *client, char *url);
int client_put(struct client *client, char *url);
int client_delete(struct client *client, char *url);
int client_post(struct client *client, char *url, const void *data, size_t len, uint32_t timeout_ms);

/** A body that is read while it is sent. */
struct client_source {
    size_t (*read)(char *buffer, size_t size, size_t count, void *arg); /* CURL_READFUNC_ABORT: it has complained */
    void *arg;
    int64_t len; /* -1: its end says */
};

/** POST it. Takes as long as it takes; client->patience_ms says when to ask whether the agent still works on it. */
int client_upload(struct client *client, char *url, const struct client_source *source);

/** An answer that is taken as it comes. */
struct client_sink {
    bool (*take)(void *arg, const char *bytes, size_t len); /* false: enough */
    void (*on_ready)(void *arg);                            /* the answer has begun */
    void *arg;
    struct client *client;
    bool enough;
};

/** GET it, until `take` has enough (EXIT_FINE), or it breaks (EXIT_FAILED). */
int client_download(struct client *client, char *url, struct client_sink *sink);

/** Body of the last answer. NULL, with a complaint, if it is not the object expected. */
json_t *client_json(struct client *client);

/** A stream of server-sent events. */
struct client_stream {
    struct sse sse;
    bool (*on_event)(void *arg, const char *event, const char *data, size_t len); /* false: enough */
    void (*on_ready)(void *arg);                                                  /* NULL, or the stream stands */
    void *arg;
    struct client *client;
    bool ready;
    bool enough;
};

/** Read it until on_event has enough (EXIT_FINE), or it breaks (EXIT_FAILED). */
int client_stream_run(struct client *client, char *url, struct client_stream *stream);

/** Prepare for a curl multi handle instead: client->curl is then ready to be added. False: out of memory. */
bool client_stream_prepare(struct client *client, char *url, struct client_stream *stream);
void client_stream_end(struct client_stream *stream);

#endif
