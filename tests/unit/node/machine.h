/* SPDX-License-Identifier: Apache-2.0
 *
 * The real machine under one node, of which a test replaces what it wants.
 */
#ifndef COHORT_UNIT_NODE_MACHINE_H
#define COHORT_UNIT_NODE_MACHINE_H

#include "rig.h"

#include "io/io.h"
#include "node/node.h"

static const struct cohorti_io_ops *real_ops;

/* What a node that is opened and not started will run on: as the real one is, and to be changed now. */
static inline struct cohorti_io_ops *replace_machine(struct rig_node *n)
{
    static struct cohorti_io_ops ops;
    real_ops = n->node->io->ops;
    ops = *real_ops;
    n->node->io->ops = &ops;
    return &ops;
}

#endif
