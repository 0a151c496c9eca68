/* SPDX-License-Identifier: Apache-2.0
 *
 * A full mesh of many nodes in this one process, and what it costs.
 */
#ifndef COHORT_CLI_DEMO_MESH_H
#define COHORT_CLI_DEMO_MESH_H

#include <stdbool.h>
#include <stdint.h>

enum {
    MESH_NODES_MIN = 2,
    MESH_NODES_MAX = 1000,
    MESH_LOOPS_MAX = 64,
    MESH_IDLE_MAX_S = 600
};

struct mesh_options {
    uint64_t nodes, loops, idle_s;
    bool json;
};

/** Play it. False: not all was seen; stderr says what. */
bool demo_mesh(const struct mesh_options *options);

#endif
