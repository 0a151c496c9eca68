/* SPDX-License-Identifier: Apache-2.0
 *
 * Uploads; see upload.h and desk.h. Everything but the completion is on the HTTP thread of the connection. Any writable event wakes all
 * uploads, which are few: each tries again, and is suspended again if there is no room for it.
 */
#include "upload.h"

#include <cohort/stream.h>
#include <stdlib.h>
#include <time.h>

struct upload {
    struct desk_wait wait; /* first */
    cohort_stream *stream; /* NULL once given back */
    uint64_t bytes, acked;
    uint64_t moved_ms; /* when something was taken or acknowledged last */
    uint32_t idle_ms;
    bool all;   /* the body is over */
    int failed; /* why nothing more is written; COHORT_OK: it is */
    int result; /* what the completion said */
};

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void on_over(cohort_node *node, const cohort_stream_result *result, void *arg)
{
    (void)node;
    struct upload *upload = arg;
    upload->result = result->status;
    desk_complete(&upload->wait);
    if (desk_leave_completed(&upload->wait)) {
        free(upload);
    }
}

int upload_begin(struct desk *desk, cohort_node *node, const struct upload_plan *plan, struct upload **out)
{
    struct upload *upload = calloc(1, sizeof(*upload));
    if (upload == NULL) {
        return COHORT_ENOMEM;
    }
    int status = desk_enter(desk, &upload->wait);
    if (status != COHORT_OK) {
        free(upload);
        return status;
    }
    status = cohort_stream_open(node, plan->to, plan->subject, plan->total, on_over, upload, &upload->stream);
    if (status != COHORT_OK) {
        desk_leave_unasked(&upload->wait);
        free(upload);
        return status;
    }
    upload->moved_ms = now_ms();
    upload->idle_ms = plan->idle_ms;
    *out = upload;
    return COHORT_OK;
}

/* The completion is called before this returns, unless it was before. */
static void give_up(struct upload *upload, int why)
{
    cohort_stream *stream = upload->stream;
    upload->failed = why;
    upload->stream = NULL;
    cohort_stream_abort(stream);
}

/* Nothing has moved for longer than is allowed. */
static bool is_stuck(struct upload *upload)
{
    uint64_t acked = cohort_stream_acked(upload->stream), now = now_ms();
    upload->moved_ms = acked != upload->acked ? now : upload->moved_ms;
    upload->acked = acked;
    return now - upload->moved_ms >= upload->idle_ms;
}

/* There was no room for all of it. False: suspended until there is. */
static bool try_again(struct upload *upload, struct MHD_Connection *connection)
{
    if (is_stuck(upload)) {
        give_up(upload, COHORT_ETIMEDOUT);
        return true;
    }
    enum desk_state state = desk_look(&upload->wait, connection);
    if (state == DESK_CLOSED) {
        give_up(upload, COHORT_ECLOSED);
    }
    return state != DESK_WAITS; /* when the stream is over, writing says why */
}

void upload_take(struct upload *upload, struct MHD_Connection *connection, const void *bytes, size_t *len)
{
    while (*len > 0 && upload->failed == COHORT_OK) {
        size_t taken = 0;
        int status = cohort_stream_write(upload->stream, bytes, *len, &taken);
        upload->bytes += taken;
        bytes = (const char *)bytes + taken;
        *len -= taken;
        upload->moved_ms = taken > 0 ? now_ms() : upload->moved_ms;
        if (status == COHORT_EAGAIN && !try_again(upload, connection)) {
            return;
        }
        if (status != COHORT_OK && status != COHORT_EAGAIN) {
            give_up(upload, status);
        }
    }
    *len = 0;
}

bool upload_ended(struct upload *upload, struct MHD_Connection *connection, int *status, uint64_t *bytes)
{
    *bytes = upload->bytes;
    if (upload->failed == COHORT_OK && !upload->all) {
        int ended = cohort_stream_end(upload->stream);
        upload->all = true;
        if (ended == COHORT_ESIZE || ended == COHORT_ENOMEM) {
            give_up(upload, ended);
        }
    }
    enum desk_state state = DESK_WOKEN;
    while (state == DESK_WOKEN && upload->failed == COHORT_OK) {
        if (is_stuck(upload)) {
            give_up(upload, COHORT_ETIMEDOUT);
        } else {
            state = desk_look(&upload->wait, connection);
        }
    }
    *status = upload->failed != COHORT_OK ? upload->failed : state == DESK_CLOSED ? COHORT_ECLOSED : upload->result;
    return state != DESK_WAITS;
}

void upload_release(struct upload *upload)
{
    if (upload->stream != NULL) {
        give_up(upload, COHORT_ECANCELLED);
    }
    if (desk_leave_answered(&upload->wait)) {
        free(upload);
    }
}

void upload_on_writable(cohort_node *node, const char *id, cohort_lane lane, void *desk)
{
    (void)node;
    (void)id;
    (void)lane;
    desk_wake(desk);
}
