/* SPDX-License-Identifier: Apache-2.0
 *
 * The processes of a demonstration: agents on loopback addresses of this machine, in a directory of their own.
 */
#ifndef COHORT_CLI_DEMO_CLUSTER_H
#define COHORT_CLI_DEMO_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    DEMO_NODES_MIN = 2,
    DEMO_NODES_MAX = 20,
    DEMO_PATH_MAX = 104
};

struct demo_process {
    char id[24];
    char ip[24];
    char control[DEMO_PATH_MAX];
    char log[DEMO_PATH_MAX];
    pid_t pid; /* 0: does not run */
};

struct demo_cluster {
    char dir[DEMO_PATH_MAX - 32];
    char definition[DEMO_PATH_MAX];
    uint16_t port;
    int count;
    struct demo_process nodes[DEMO_NODES_MAX];
};

/** Choose addresses, make the directory and the definition. False: said why on stderr; nothing is left behind. */
bool demo_cluster_open(struct demo_cluster *cluster, int count);

/** Run agent `index`. It dies with us, whatever ends us. */
bool demo_cluster_start(struct demo_cluster *cluster, int index);

/** SIGKILL, and wait for it. */
void demo_cluster_kill(struct demo_cluster *cluster, int index);

/** Has it ended? Then `status` is as waitpid(2) gives it. */
bool demo_cluster_ended(struct demo_cluster *cluster, int index, int *status);

/** Kill what still runs; remove the directory unless it is to be kept. */
void demo_cluster_close(struct demo_cluster *cluster, bool keep);

#endif
