/* SPDX-License-Identifier: Apache-2.0
 * The codecs of a node, by subject. */
#ifndef COHORTI_NODE_CODEC_H
#define COHORTI_NODE_CODEC_H

#include "base/map.h"
#include "io/sync.h"

#include <cohort/types.h>
#include <stdatomic.h>

struct cohorti_codecs {
    const cohort_allocator *alloc;
    struct cohorti_mutex lock;
    struct cohorti_map entries; /* of struct entry, by key */
    uint32_t max;
    _Atomic uint64_t failures;
};

void cohorti_codecs_init(struct cohorti_codecs *c, const cohort_allocator *alloc, uint32_t max);
/** ctx_release callbacks run here. No call may be running. */
void cohorti_codecs_deinit(struct cohorti_codecs *c);

#endif
