/* SPDX-License-Identifier: Apache-2.0
 *
 * What the paths do that are about messages: sending, asking, replying, streams, measuring; and events. As in routes.c they must not wait.
 */
#include "request.h"
#include "routes.h"

#include "broadcast.h"
#include "document.h"

#include <cohort/stream.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- messages ---- */

static enum MHD_Result answer_queued(struct request *request, size_t count)
{
    struct writer w = WRITER_EMPTY;
    writer_begin(&w, '{');
    writer_key_uint(&w, "queued", count);
    writer_end(&w, '}');
    return answer_json(request, MHD_HTTP_OK, &w);
}

/* Where raw types are none: requests and streams. */
static const char *const name_needed =
    "subject must be a name of 1 to 128 printable characters without space; a raw #TYPE carries messages only";

/* What cohort_send() means by it: the subject is all there is. */
static const char *explain(int status)
{
    switch (status) {
    case COHORT_EINVAL:
        return "subject must be a name of 1 to 128 printable characters without space, or #TYPE";
    case COHORT_ESIZE:
        return "larger than limits.message_bytes_max, or than the 32752 bytes that a member of 2014 can take";
    default:
        return NULL;
    }
}

/* False: there is no lane of this name. */
static bool lane_of(const char *name, cohort_lane *out)
{
    for (int lane = COHORT_LANE_NORMAL; lane <= COHORT_LANE_BULK; lane++) {
        if (strcmp(cohort_lane_name((cohort_lane)lane), name) == 0) {
            *out = (cohort_lane)lane;
            return true;
        }
    }
    return false;
}

/* The lane is the subject's: from here on all that is sent of it goes there. False: no such lane. */
static bool set_lane(struct request *request, const char *subject, int *status)
{
    const char *lane = route_argument(request, "lane");
    if (lane == NULL) {
        return true;
    }
    cohort_subject_options options;
    COHORT_SUBJECT_OPTIONS_INIT(&options);
    if (!lane_of(lane, &options.lane)) {
        return false;
    }
    *status = cohort_subject_set(request->service->node, subject, &options);
    return true;
}

enum MHD_Result post_send(struct request *request)
{
    const char *to = route_argument(request, "to");
    const char *subject = route_argument(request, "subject");
    if (to == NULL || subject == NULL) {
        return answer_error(request, COHORT_EINVAL, "the arguments to=ID and subject=SUBJECT are needed");
    }
    int status = COHORT_OK;
    if (!set_lane(request, subject, &status)) {
        return answer_error(request, COHORT_EINVAL, "lane must be normal, control or bulk");
    }
    if (status == COHORT_OK) {
        status = cohort_send(request->service->node, to, subject, request->body.bytes, request->body.len);
    }
    return status == COHORT_OK ? answer_queued(request, 1) : answer_error(request, status, explain(status));
}

bool route_uploads(const char *method, const char *path)
{
    return strcmp(method, MHD_HTTP_METHOD_POST) == 0 && strcmp(path, "/v1/stream") == 0;
}

/* Its length, if the client knows it. */
static uint64_t body_total(struct request *request)
{
    const char *length = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return length == NULL ? COHORT_TOTAL_UNKNOWN : strtoull(length, NULL, 10);
}

enum MHD_Result route_upload(struct request *request)
{
    struct upload_plan plan = {
        .to = route_argument(request, "to"), .subject = route_argument(request, "subject"), .total = body_total(request)};
    if (plan.to == NULL || plan.subject == NULL) {
        return answer_error(request, COHORT_EINVAL, "the arguments to=ID and subject=SUBJECT are needed");
    }
    if (!route_number(request, "idle_ms", UPLOAD_IDLE_MS_DEFAULT, UPLOAD_IDLE_MS_MAX, &plan.idle_ms) || plan.idle_ms == 0) {
        return answer_error(request, COHORT_EINVAL, "idle_ms must be a number from 1 to 86400000");
    }
    int status = COHORT_OK;
    if (!set_lane(request, plan.subject, &status)) {
        return answer_error(request, COHORT_EINVAL, "lane must be normal, control or bulk");
    }
    if (status == COHORT_OK) {
        status = upload_begin(request->service->uploads, request->service->node, &plan, &request->upload);
    }
    return status == COHORT_OK ? MHD_YES : answer_error(request, status, status == COHORT_EINVAL ? name_needed : explain(status));
}

enum MHD_Result post_stream(struct request *request)
{
    int status = COHORT_OK;
    uint64_t bytes = 0;
    if (!upload_ended(request->upload, request->connection, &status, &bytes)) {
        return MHD_YES; /* suspended */
    }
    if (status != COHORT_OK) {
        return answer_failure(request, status, cohort_error_text(status));
    }
    struct writer w = WRITER_EMPTY;
    writer_begin(&w, '{');
    writer_key_uint(&w, "bytes", bytes);
    writer_end(&w, '}');
    return answer_json(request, MHD_HTTP_OK, &w);
}

/* What is wrong with the message itself is said without names: it is the same for all of them. */
static enum MHD_Result answer_missed(struct request *request, const struct broadcast *b, int status)
{
    char text[BROADCAST_WHOM_MAX + 160];
    const char *why = explain(status) != NULL ? explain(status) : cohort_error_text(status);
    if (b->sent == 0 && (b->missed == 0 || explain(status) != NULL)) {
        return answer_error(request, status, why);
    }
    snprintf(text, sizeof(text), "queued for %zu %s, not for %s: %s", b->sent, b->sent == 1 ? "member" : "members", b->whom, why);
    return answer_error(request, status, text);
}

enum MHD_Result post_broadcast(struct request *request)
{
    const char *subject = route_argument(request, "subject");
    if (subject == NULL) {
        return answer_error(request, COHORT_EINVAL, "the argument subject=SUBJECT is needed");
    }
    uint32_t local;
    if (!route_number(request, "local", 0, 1, &local)) {
        return answer_error(request, COHORT_EINVAL, "local must be 0 or 1");
    }
    struct broadcast b = {.subject = subject, .data = request->body.bytes, .data_len = request->body.len, .local = local != 0};
    int status = broadcast_to_all(&b, request->service->node);
    return status == COHORT_OK ? answer_queued(request, b.sent) : answer_missed(request, &b, status);
}

enum MHD_Result post_echo(struct request *request)
{
    int status = COHORT_OK;
    uint64_t rtt_ns = 0;
    if (request->echo == NULL) {
        const char *to = route_argument(request, "to");
        uint32_t size, timeout_ms;
        if (to == NULL) {
            return answer_error(request, COHORT_EINVAL, "the argument to=ID is needed");
        }
        if (!route_number(request, "size", 0, ECHO_BYTES_MAX, &size)) {
            return answer_error(request, COHORT_EINVAL, "size must be a number from 0 to 32752");
        }
        if (!route_number(request, "timeout_ms", 1000, ECHO_TIMEOUT_MS_MAX, &timeout_ms) || timeout_ms == 0) {
            return answer_error(request, COHORT_EINVAL, "timeout_ms must be a number from 1 to 60000");
        }
        status = echo_begin(request->service->echoes, request->service->node, to, size, timeout_ms, &request->echo);
        if (status != COHORT_OK) {
            return answer_error(request, status, NULL);
        }
    }
    if (!echo_answered(request->echo, request->connection, &status, &rtt_ns)) {
        return MHD_YES; /* suspended */
    }
    if (status != COHORT_OK) {
        return answer_error(request, status, NULL);
    }
    struct writer w = WRITER_EMPTY;
    writer_begin(&w, '{');
    writer_key_uint(&w, "rtt_ns", rtt_ns);
    writer_end(&w, '}');
    return answer_json(request, MHD_HTTP_OK, &w);
}

/* *answered: what answering gave, when it could not be asked. */
static int begin_ask(struct request *request, enum MHD_Result *answered)
{
    struct ask ask = {.to = route_argument(request, "to"),
                      .subject = route_argument(request, "subject"),
                      .data = request->body.bytes,
                      .data_len = request->body.len};
    uint32_t all;
    if (ask.subject == NULL || !route_number(request, "all", 0, 1, &all) || (all != 0) == (ask.to != NULL)) {
        *answered = answer_error(request, COHORT_EINVAL, "the arguments subject=SUBJECT and either to=ID or all=1 are needed");
        return COHORT_EINVAL;
    }
    if (!route_number(request, "timeout_ms", ASK_TIMEOUT_MS_DEFAULT, ASK_TIMEOUT_MS_MAX, &ask.timeout_ms) || ask.timeout_ms == 0) {
        *answered = answer_error(request, COHORT_EINVAL, "timeout_ms must be a number from 1 to 600000");
        return COHORT_EINVAL;
    }
    int status = ask_begin(request->service->asks, request->service->node, &ask, &request->ask);
    if (status == COHORT_EINVAL) {
        *answered = answer_error(request, status, name_needed);
    } else if (status != COHORT_OK) {
        *answered = answer_error(request, status, NULL);
    }
    return status;
}

enum MHD_Result post_request(struct request *request)
{
    struct ask_result result;
    enum MHD_Result answered = MHD_NO;
    if (request->ask == NULL && begin_ask(request, &answered) != COHORT_OK) {
        return answered;
    }
    if (!ask_answered(request->ask, request->connection, &result)) {
        return MHD_YES; /* suspended */
    }
    return result.status == COHORT_OK ? answer_json(request, MHD_HTTP_OK, result.document)
                                      : answer_failure(request, result.status, result.text);
}

enum MHD_Result post_reply(struct request *request)
{
    const char *text = route_argument(request, "request");
    const char *error = route_argument(request, "error");
    char *end = NULL;
    uint64_t which = text != NULL ? strtoull(text, &end, 10) : 0;
    if (which == 0 || text[0] == '-' || *end != '\0') {
        return answer_error(request, COHORT_EINVAL, "the argument request=N is needed, as the request had it");
    }
    int status = hub_reply(request->service->hub, which, request->body.bytes, request->body.len, error);
    if (status == COHORT_ESTATE) {
        return answer_error(request, status, "no such request: it was replied to, or its stream has ended");
    }
    if (status != COHORT_OK) {
        return answer_error(request, status, status == COHORT_ENOPEER ? "who asked is gone" : NULL);
    }
    struct writer w = WRITER_EMPTY;
    writer_begin(&w, '{');
    writer_key_uint(&w, "replied", which);
    writer_end(&w, '}');
    return answer_json(request, MHD_HTTP_OK, &w);
}

/* ---- measuring ---- */

/* *answered: what answering gave, when it did not begin. */
static int begin_measuring(struct request *request, enum MHD_Result *answered)
{
    const char *lane = route_argument(request, "lane");
    struct measure_ask ask = {.to = route_argument(request, "to"), .lane = COHORT_LANE_BULK};
    uint32_t bytes;
    const char *wrong = NULL;
    if (ask.to == NULL) {
        wrong = "the argument to=ID is needed";
    } else if (!route_number(request, "ms", MEASURE_MS_DEFAULT, MEASURE_MS_MAX, &ask.ms) || ask.ms == 0) {
        wrong = "ms must be a number from 1 to 60000";
    } else if (!route_number(request, "depth", 1, MEASURE_DEPTH_MAX, &ask.depth) || ask.depth == 0) {
        wrong = "depth must be a number from 1 to 64";
    } else if (!route_number(request, "bytes", MEASURE_BYTES_DEFAULT, MEASURE_BYTES_MAX, &bytes) || bytes == 0) {
        wrong = "bytes must be a number from 1 to 16777216";
    } else if (lane != NULL && !lane_of(lane, &ask.lane)) {
        wrong = "lane must be normal, control or bulk";
    }
    if (wrong != NULL) {
        *answered = answer_error(request, COHORT_EINVAL, wrong);
        return COHORT_EINVAL;
    }
    ask.bytes = bytes;
    int status = measure_begin(request->service->measure, request->service->node, &ask, &request->measuring);
    if (status != COHORT_OK) {
        *answered = answer_error(request, status, status == COHORT_ELIMIT ? "another measurement is running" : NULL);
    }
    return status;
}

enum MHD_Result post_bench(struct request *request)
{
    int status = COHORT_OK;
    struct writer *document = NULL;
    enum MHD_Result answered = MHD_NO;
    if (request->measuring == NULL && begin_measuring(request, &answered) != COHORT_OK) {
        return answered;
    }
    if (!measure_answered(request->measuring, request->connection, &status, &document)) {
        return MHD_YES; /* suspended */
    }
    return status == COHORT_OK ? answer_json(request, MHD_HTTP_OK, document) : answer_error(request, status, NULL);
}

/* ---- streams ---- */

/* The stream collects already when the members are read, so no change can fall between. An event that happened before the
 * members were read may come again behind them: harmless, each carries the whole member. */
static int begin_with_members(struct stream *stream, cohort_node *node)
{
    size_t count = 0;
    cohort_member *members = route_members_copy(node, &count);
    if (members == NULL) {
        return COHORT_ENOMEM;
    }
    struct writer w = WRITER_EMPTY;
    for (size_t i = 0; i < count; i++) {
        document_present(&w, &members[i]);
    }
    free(members);
    int status = stream_prepend(stream, &w);
    writer_free(&w);
    return status;
}

enum MHD_Result get_events(struct request *request)
{
    uint32_t snapshot;
    if (!route_number(request, "snapshot", 0, 1, &snapshot)) {
        return answer_error(request, COHORT_EINVAL, "snapshot must be 0 or 1");
    }
    struct stream *stream;
    int status = stream_open(request->service->hub, STREAM_EVENTS, NULL, &stream);
    if (status != COHORT_OK) {
        return answer_error(request, status, status == COHORT_ELIMIT ? "too many streams are open" : NULL);
    }
    status = snapshot != 0 ? begin_with_members(stream, request->service->node) : COHORT_OK;
    if (status != COHORT_OK) {
        stream_abandon(stream);
        return answer_error(request, status, NULL);
    }
    return stream_answer(stream, request->connection);
}

enum MHD_Result get_messages(struct request *request)
{
    const char *subject = route_argument(request, "subject");
    struct stream_filter filter;
    if (subject == NULL || !stream_filter_parse(subject, &filter)) {
        return answer_error(request, COHORT_EINVAL, "subject must be a name, #TYPE of an application, or *");
    }
    uint32_t replies;
    if (!route_number(request, "requests", 0, 1, &replies)) {
        return answer_error(request, COHORT_EINVAL, "requests must be 0 or 1");
    }
    filter.replies = replies != 0;
    if (filter.replies && filter.raw) {
        return answer_error(request, COHORT_EINVAL, name_needed); /* none would ever come */
    }
    struct stream *stream;
    int status = stream_open(request->service->hub, STREAM_MESSAGES, &filter, &stream);
    if (status != COHORT_OK) {
        return answer_error(request, status, status == COHORT_ELIMIT ? "too many streams are open" : NULL);
    }
    return stream_answer(stream, request->connection);
}

enum MHD_Result get_streams(struct request *request)
{
    const char *subject = route_argument(request, "subject");
    if (subject == NULL) {
        return answer_error(request, COHORT_EINVAL, "the argument subject=SUBJECT is needed");
    }
    struct download *download = NULL;
    int status = download_open(request->service->downloads, request->service->node, subject, &download);
    if (status != COHORT_OK) {
        return answer_error(request, status, status == COHORT_EINVAL ? name_needed : NULL);
    }
    return download_answer(download, request->connection);
}
