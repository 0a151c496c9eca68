/* SPDX-License-Identifier: Apache-2.0
 *
 * A loop that is held by a handler until all has been written to it, so that it finds that in one batch.
 */
#ifndef COHORT_UNIT_NODE_GATE_H
#define COHORT_UNIT_NODE_GATE_H

#include "sink.h"

#include <sys/ioctl.h>

#define WRITTEN_MAX 40000 /* sure to fit into the sockets of both ends */
#define UNREAD_MAX 8000   /* ... of one */

struct gate {
    _Atomic bool inside, open;
};

static inline void pass_gate(cohort_node *node, const cohort_message *message, void *arg)
{
    struct gate *g = arg;
    atomic_store(&g->inside, true);
    while (!atomic_load(&g->open)) {
        sched_yield();
    }
}

static struct gate gate;
static uint64_t written_before;

static inline uint64_t bytes_out(struct rig_node *n)
{
    cohort_link_stats stats;
    assert_int_equal(cohort_link_stats_get(n->node, address(1), &stats), COHORT_OK);
    return stats.bytes_out;
}

/* What has come to the sockets of this process. */
static inline uint64_t unread(void)
{
    uint64_t sum = 0;
    for (int fd = 3; fd < 1024; fd++) {
        struct sockaddr_storage peer = {0};
        socklen_t len = sizeof peer;
        int n = 0;
        if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0 && peer.ss_family == AF_INET && ioctl(fd, FIONREAD, &n) == 0) {
            sum += (unsigned)n;
        }
    }
    return sum;
}

static inline void handle_gate(struct rig_node *n)
{
    memset(&gate, 0, sizeof gate);
    handle_in(n, NULL, "gate", pass_gate, &gate, NULL);
}

/* Of two nodes, of which the second has the handler: what the first sends from here on, the other finds when release_loop() is called: at
 * once, if it is not much. */
static inline void hold_loop(struct rig_node *n)
{
    atomic_store(&gate.open, false);
    atomic_store(&gate.inside, false);
    assert_int_equal(send_number(&n[0], 1, "gate", 0, 4), COHORT_OK);
    WAIT_FOR(atomic_load(&gate.inside));
    written_before = bytes_out(&n[0]);
}

static inline void release_loop(struct rig_node *n, uint64_t bytes)
{
    WAIT_FOR(bytes_out(&n[0]) >= written_before + (bytes < WRITTEN_MAX ? bytes : WRITTEN_MAX));
    WAIT_FOR(unread() >= (bytes < UNREAD_MAX ? bytes : UNREAD_MAX));
    atomic_store(&gate.open, true);
    WAIT_FOR(unacknowledged(&n[0], 1) == 0);
}

#endif
