/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests over HTTP; see ask.h and desk.h. The document is made where the result comes, on a thread of the library, so that its bytes are
 * copied once.
 */
#include "ask.h"

#include "document.h"

#include <stdio.h>
#include <stdlib.h>

struct ask_wait {
    struct desk_wait wait; /* first */
    struct ask_result result;
    struct writer document;
};

static void free_wait(struct ask_wait *ask)
{
    writer_free(&ask->document);
    free(ask);
}

static void on_result(cohort_node *node, const cohort_result *result, void *arg)
{
    (void)node;
    struct ask_wait *ask = arg;
    ask->result.status = result->status;
    snprintf(ask->result.text, sizeof(ask->result.text), "%s",
             result->text[0] != '\0' ? result->text : cohort_error_text(result->status));
    if (result->status == COHORT_OK) {
        document_result(&ask->document, result);
    }
    desk_complete(&ask->wait);
    if (desk_leave_completed(&ask->wait)) {
        free_wait(ask);
    }
}

static void on_results(cohort_node *node, const cohort_result *results, size_t count, void *arg)
{
    (void)node;
    struct ask_wait *ask = arg;
    writer_begin(&ask->document, '{');
    writer_key(&ask->document, "results");
    writer_begin(&ask->document, '[');
    for (size_t i = 0; i < count; i++) {
        document_result(&ask->document, &results[i]);
    }
    writer_end(&ask->document, ']');
    writer_end(&ask->document, '}');
    desk_complete(&ask->wait);
    if (desk_leave_completed(&ask->wait)) {
        free_wait(ask);
    }
}

int ask_begin(struct desk *desk, cohort_node *node, const struct ask *ask, struct ask_wait **out)
{
    struct ask_wait *wait = calloc(1, sizeof(*wait));
    if (wait == NULL) {
        return COHORT_ENOMEM;
    }
    int status = desk_enter(desk, &wait->wait);
    if (status != COHORT_OK) {
        free(wait);
        return status;
    }
    status = ask->to != NULL
                 ? cohort_request(node, ask->to, ask->subject, ask->data, ask->data_len, ask->timeout_ms, on_result, wait, NULL)
                 : cohort_request_all(node, ask->subject, ask->data, ask->data_len, ask->timeout_ms, on_results, wait);
    if (status != COHORT_OK) {
        desk_leave_unasked(&wait->wait);
        free_wait(wait);
        return status;
    }
    *out = wait;
    return COHORT_OK;
}

bool ask_answered(struct ask_wait *wait, struct MHD_Connection *connection, struct ask_result *out)
{
    enum desk_state state = desk_look(&wait->wait, connection);
    if (state == DESK_COMPLETED) {
        *out = wait->result;
        out->document = &wait->document;
    } else if (state == DESK_CLOSED) {
        *out = (struct ask_result){.status = COHORT_ECLOSED};
        snprintf(out->text, sizeof(out->text), "%s", cohort_error_text(COHORT_ECLOSED));
    }
    return state != DESK_WAITS;
}

void ask_release(struct ask_wait *wait)
{
    if (desk_leave_answered(&wait->wait)) {
        free_wait(wait);
    }
}
