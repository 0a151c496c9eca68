/* SPDX-License-Identifier: Apache-2.0
 *
 * Answers: JSON documents, and errors with the HTTP status that tells a client what to do.
 */
#include "request.h"

#include "document.h"

/* The status follows from what the caller can do: fix the request (4xx), try later (409, 429, 503), or look at the peer
 * (502, 504). */
static unsigned status_of(int code)
{
    switch (code) {
    case COHORT_EINVAL:
    case COHORT_ETYPE:
        return MHD_HTTP_BAD_REQUEST;
    case COHORT_ENOPEER:
        return MHD_HTTP_NOT_FOUND;
    case COHORT_EINACTIVE:
    case COHORT_ELEGACY:
    case COHORT_ESTATE:
        return MHD_HTTP_CONFLICT;
    case COHORT_ESIZE:
        return MHD_HTTP_CONTENT_TOO_LARGE;
    case COHORT_EAGAIN:
    case COHORT_ELIMIT:
        return MHD_HTTP_TOO_MANY_REQUESTS;
    case COHORT_ECLOSED:
    case COHORT_ENOMEM:
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    case COHORT_ETIMEDOUT:
        return MHD_HTTP_GATEWAY_TIMEOUT;
    default:
        return cohort_error_scope_of(code) == COHORT_SCOPE_LINK ? MHD_HTTP_BAD_GATEWAY : MHD_HTTP_INTERNAL_SERVER_ERROR;
    }
}

static enum MHD_Result answer(struct request *request, unsigned status, struct writer *document, const char *allow)
{
    writer_text(document, "\n");
    if (document->failed) {
        writer_free(document);
        return MHD_NO; /* no memory for an answer: the connection is closed */
    }
    struct MHD_Response *response = MHD_create_response_from_buffer(document->len, document->bytes, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        writer_free(document);
        return MHD_NO;
    }
    *document = WRITER_EMPTY;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (allow != NULL) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow);
    }
    enum MHD_Result result = MHD_queue_response(request->connection, status, response);
    MHD_destroy_response(response);
    return result;
}

enum MHD_Result answer_stream(struct MHD_Connection *connection, const char *content_type, size_t block_bytes,
                              MHD_ContentReaderCallback take, void *arg, MHD_ContentReaderFreeCallback end)
{
    struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, block_bytes, take, arg, end);
    if (response == NULL) {
        end(arg);
        return MHD_NO;
    }
    MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, 0U);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    enum MHD_Result result = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

enum MHD_Result answer_json(struct request *request, unsigned status, struct writer *document)
{
    return answer(request, status, document, NULL);
}

enum MHD_Result answer_error(struct request *request, int code, const char *text)
{
    struct writer w = WRITER_EMPTY;
    document_error(&w, cohort_error_name(code), text != NULL ? text : cohort_error_text(code));
    return answer(request, status_of(code), &w, NULL);
}

enum MHD_Result answer_failure(struct request *request, int code, const char *text)
{
    bool ours = code == COHORT_ETIMEDOUT || code == COHORT_ECLOSED || code == COHORT_ENOMEM || code == COHORT_ELIMIT;
    struct writer w = WRITER_EMPTY;
    document_error(&w, cohort_error_name(code), text);
    return answer(request, ours ? status_of(code) : MHD_HTTP_BAD_GATEWAY, &w, NULL);
}

enum MHD_Result answer_refusal(struct request *request, unsigned status, const char *code, const char *text, const char *allow)
{
    struct writer w = WRITER_EMPTY;
    document_error(&w, code, text);
    return answer(request, status, &w, allow);
}
