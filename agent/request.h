/* SPDX-License-Identifier: Apache-2.0
 *
 * One HTTP request: what its route needs to answer it.
 */
#ifndef COHORT_AGENT_REQUEST_H
#define COHORT_AGENT_REQUEST_H

#include "http.h"
#include "query.h"

struct request {
    bool begun;                /* its headers are there */
    char wrong[QUERY_WHY_MAX]; /* with its URL; "": nothing */
    const struct agent_service *service;
    struct MHD_Connection *connection;
    const char *rest; /* of the path, behind the route's; "" if none */
    struct writer body;
    size_t body_excess;             /* bytes beyond the limit, thrown away */
    struct echo_wait *echo;         /* while one is asked for */
    struct ask_wait *ask;           /* the same */
    struct measure_wait *measuring; /* while that runs */
    struct upload *upload;          /* the body goes there */
};

typedef enum MHD_Result (*route_fn)(struct request *request);

/** A path that ends in '/' takes one more segment: request->rest. */
struct route {
    const char *method;
    const char *path;
    route_fn answer;
};

enum {
    ROUTE_ALLOW_MAX = 64
};

/** Find the route. NULL: none; `allow` then lists the methods the path would take, "" if there is no such path. */
const struct route *route_find(const char *method, const char *path, const char **rest, char allow[ROUTE_ALLOW_MAX]);

/** A body that is sent on as it comes: the upload begins with the headers, or the request is answered. */
bool route_uploads(const char *method, const char *path);
enum MHD_Result route_upload(struct request *request);

/** Answer with what `take` gives until it says that it is over; `end` is called once in any case. A reader may be slow, or stopped for a while: its
 * backlog is for `take` to limit, its time is not limited. */
enum MHD_Result answer_stream(struct MHD_Connection *connection, const char *content_type, size_t block_bytes,
                              MHD_ContentReaderCallback take, void *arg, MHD_ContentReaderFreeCallback end);

/** Answer with a JSON document, which is consumed. */
enum MHD_Result answer_json(struct request *request, unsigned status, struct writer *document);

/** Answer with an error of cohort; `text` NULL: that of the table. */
enum MHD_Result answer_error(struct request *request, int code, const char *text);

/** The same, of what became of a request to a member: what that member said is no fault of ours. */
enum MHD_Result answer_failure(struct request *request, int code, const char *text);

/** Answer with an error that HTTP alone knows. `allow` NULL or the methods to name. */
enum MHD_Result answer_refusal(struct request *request, unsigned status, const char *code, const char *text, const char *allow);

#endif
