/* SPDX-License-Identifier: Apache-2.0
 * How this node sends the subjects that are not sent in the ordinary way. */
#ifndef COHORTI_SUBJECTS_H
#define COHORTI_SUBJECTS_H

#include "base/map.h"
#include "io/sync.h"

#include <cohort/cohort.h>
#include <stdatomic.h>

struct cohorti_subjects {
    const cohort_allocator *alloc;
    struct cohorti_mutex lock;
    struct cohorti_map by_name;
    _Atomic uint32_t count; /* 0 for most nodes: then nobody locks */
    uint32_t max;
};

void cohorti_subjects_init(struct cohorti_subjects *s, const cohort_allocator *alloc, uint32_t max);
void cohorti_subjects_deinit(struct cohorti_subjects *s);
/** COHORT_ELIMIT, COHORT_ENOMEM. The name is valid. */
COHORT_NODISCARD int cohorti_subjects_set(struct cohorti_subjects *s, const char *name, const cohort_subject_options *options);
/** What was set, or the defaults. Any thread. */
void cohorti_subjects_get(struct cohorti_subjects *s, const char *name, cohort_subject_options *out);

#endif
