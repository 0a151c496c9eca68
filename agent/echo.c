/* SPDX-License-Identifier: Apache-2.0
 *
 * Echoes over HTTP; see echo.h and desk.h.
 */
#include "echo.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct echo_wait {
    struct desk_wait wait; /* first */
    int status;
    uint64_t rtt_ns;
};

static void free_wait(struct echo_wait *echo)
{
    free(echo);
}

static void on_echo(cohort_node *node, const char *id, int status, uint64_t rtt_ns, void *arg)
{
    (void)node;
    (void)id;
    struct echo_wait *echo = arg;
    echo->status = status;
    echo->rtt_ns = rtt_ns;
    desk_complete(&echo->wait);
    if (desk_leave_completed(&echo->wait)) {
        free_wait(echo);
    }
}

/* A node tells an answer from an echo of its peer by the data: two agents that echo each other must not send the same. */
static bool fill(unsigned char *data, size_t size)
{
    size_t random_len = size < 16 ? size : 16;
    memset(data, 0, size);
    return random_len == 0 || getrandom(data, random_len, 0) == (ssize_t)random_len;
}

int echo_begin(struct desk *desk, cohort_node *node, const char *id, size_t size, uint32_t timeout_ms, struct echo_wait **out)
{
    unsigned char data[ECHO_BYTES_MAX];
    if (!fill(data, size)) {
        return COHORT_EIO;
    }
    struct echo_wait *echo = calloc(1, sizeof(*echo));
    if (echo == NULL) {
        return COHORT_ENOMEM;
    }
    int status = desk_enter(desk, &echo->wait);
    if (status != COHORT_OK) {
        free(echo);
        return status;
    }
    status = cohort_echo(node, id, size > 0 ? data : NULL, size, timeout_ms, on_echo, echo);
    if (status != COHORT_OK) {
        desk_leave_unasked(&echo->wait);
        free_wait(echo);
        return status;
    }
    *out = echo;
    return COHORT_OK;
}

bool echo_answered(struct echo_wait *echo, struct MHD_Connection *connection, int *status, uint64_t *rtt_ns)
{
    enum desk_state state = desk_look(&echo->wait, connection);
    if (state == DESK_COMPLETED) {
        *status = echo->status;
        *rtt_ns = echo->rtt_ns;
    } else if (state == DESK_CLOSED) {
        *status = COHORT_ECLOSED;
    }
    return state != DESK_WAITS;
}

void echo_release(struct echo_wait *echo)
{
    if (desk_leave_answered(&echo->wait)) {
        free_wait(echo);
    }
}
