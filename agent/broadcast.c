/* SPDX-License-Identifier: Apache-2.0 */
#include "broadcast.h"

#include <stdio.h>
#include <string.h>

static void on_sent(cohort_node *node, const char *id, int status, void *arg)
{
    (void)node;
    struct broadcast *b = arg;
    size_t len = strlen(b->whom);
    if (status == COHORT_OK) {
        b->sent++;
    } else if (b->missed++ < BROADCAST_NAMED_MAX) {
        snprintf(b->whom + len, sizeof(b->whom) - len, "%s%s", len > 0 ? ", " : "", id);
    }
}

int broadcast_to_all(struct broadcast *b, cohort_node *node)
{
    b->sent = b->missed = 0;
    b->whom[0] = '\0';
    int status = cohort_broadcast_each(node, b->subject, b->data, b->data_len, b->local, on_sent, b);
    size_t len = strlen(b->whom);
    if (b->missed > BROADCAST_NAMED_MAX) {
        snprintf(b->whom + len, sizeof(b->whom) - len, " and %zu more", b->missed - BROADCAST_NAMED_MAX);
    }
    return status;
}
