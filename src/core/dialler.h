/* SPDX-License-Identifier: Apache-2.0
 *
 * dialler: when to dial one member again.
 *
 * BACKOFF  at once, then after delay_min_ms doubled for each failure up to delay_max_ms, less a random part of up to half.
 *          The first byte received from the peer resets the doubling: a connect alone proves only that a kernel is there.
 *          A peer that answers and then refuses us counts as a failure all the same.
 *          Where nobody listens the doubling begins three steps on. A node that starts dials everybody at once, so whoever
 *          is missing there comes by itself, and a dial of ours at that moment would only cross its own: when a hundred nodes
 *          start together, every pair of them held two links for a while, and the machine was busy with ending one of each.
 * SEED     the 2014 custodian: 1 s after the node started, then every 5 s, without jitter.
 */
#ifndef COHORTI_CORE_DIALLER_H
#define COHORTI_CORE_DIALLER_H

#include "base/prng.h"

#include <cohort/cohort.h>

#define COHORTI_NS_PER_MS UINT64_C(1000000)

struct cohorti_dialler {
    uint32_t failures;        /* since the last byte received */
    uint32_t failures_before; /* what `failures` was then */
    uint64_t next_ns;         /* when to dial */
};

/** The member has become known. started_ns: when the node started. */
void cohorti_dialler_init(struct cohorti_dialler *d, const cohort_dial_policy *policy, uint64_t started_ns, uint64_t now_ns);
/** A byte came over a link we dialled. */
void cohorti_dialler_received(struct cohorti_dialler *d);
/** A dial failed, or its link ended before it was open. */
void cohorti_dialler_failed(struct cohorti_dialler *d, const cohort_dial_policy *policy, uint64_t started_ns, uint64_t now_ns,
                            struct cohorti_prng *prng);
/** A dial failed, and its host name has addresses that were not tried since the last pause. */
void cohorti_dialler_next_address(struct cohorti_dialler *d, const cohort_dial_policy *policy, uint64_t started_ns, uint64_t now_ns);
/** The peer's machine says that nobody listens there. */
void cohorti_dialler_absent(struct cohorti_dialler *d, const cohort_dial_policy *policy, uint64_t started_ns, uint64_t now_ns,
                            struct cohorti_prng *prng);
/** The peer refused us, or we refused it: as a failure, and the byte that came is no reset. */
void cohorti_dialler_refused(struct cohorti_dialler *d, const cohort_dial_policy *policy, uint64_t started_ns, uint64_t now_ns,
                             struct cohorti_prng *prng);
/** A link that was open ended. Dials again soon, a little apart from everybody else who lost the same peer. */
void cohorti_dialler_lost(struct cohorti_dialler *d, const cohort_dial_policy *policy, uint64_t started_ns, uint64_t now_ns,
                          struct cohorti_prng *prng);

#endif
