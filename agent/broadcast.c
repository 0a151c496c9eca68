/* SPDX-License-Identifier: Apache-2.0
 *
 * Broadcasts; see broadcast.h. Each member is sent to by itself. One whose link ends between the look at the members and that gets it when it is
 * back, as a message that was queued a moment before would be.
 */
#include "broadcast.h"

#include <stdio.h>
#include <string.h>

/* Of the 2014 system, for a name, or gone meanwhile: the message is not for them. */
static bool is_left_out(int status)
{
    return status == COHORT_EINACTIVE || status == COHORT_ELEGACY || status == COHORT_ENOPEER;
}

static void miss(struct broadcast *b, const char *id)
{
    size_t len = strlen(b->whom);
    if (b->missed++ < BROADCAST_NAMED_MAX) {
        snprintf(b->whom + len, sizeof(b->whom) - len, "%s%s", len > 0 ? ", " : "", id);
    }
}

static void count_rest(struct broadcast *b)
{
    size_t len = strlen(b->whom);
    if (b->missed > BROADCAST_NAMED_MAX) {
        snprintf(b->whom + len, sizeof(b->whom) - len, " and %zu more", b->missed - BROADCAST_NAMED_MAX);
    }
}

static bool is_meant(const struct broadcast *b, const cohort_member *member)
{
    return strcmp(member->id, b->local_id) == 0 ? b->local : member->state != COHORT_INACTIVE;
}

int broadcast_to(struct broadcast *b, cohort_node *node, const cohort_member *members, size_t count)
{
    int first_error = COHORT_OK;
    size_t meant = 0;
    b->sent = b->missed = 0;
    b->whom[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        if (!is_meant(b, &members[i])) {
            continue;
        }
        meant++;
        int status = cohort_send(node, members[i].id, b->subject, b->data, b->data_len);
        b->sent += status == COHORT_OK;
        if (status != COHORT_OK && !is_left_out(status)) {
            first_error = first_error == COHORT_OK ? status : first_error;
            miss(b, members[i].id);
        }
    }
    count_rest(b);
    /* Nobody is there: what is wrong with subject or data is told all the same. */
    return meant > 0 ? first_error : cohort_broadcast(node, b->subject, b->data, b->data_len, &b->sent);
}
