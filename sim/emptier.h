/* SPDX-License-Identifier: Apache-2.0
 *
 * emptier: an application whose handlers are in queues. A message is handed to the process when its handler on the loop sees it (the
 * ledger judges that as of any other), and is to come out of the queue once, in order, while that process lives.
 */
#ifndef COHORTI_SIM_EMPTIER_H
#define COHORTI_SIM_EMPTIER_H

#include <cohort/cohort.h>

struct player;

/** Some processes have no queue, some one that they look into now and then, some one with threads; before the node starts. */
COHORT_NODISCARD int emptier_prepare(struct player *p);
/** In a handler: some, of those that run on the threads of a queue, take a while. */
void emptier_linger(struct player *p);
/** The process has ended after `took_ns`; `closed` politely: what its threads had to do is done, if there was time. */
void emptier_ended(struct player *p, bool closed, uint64_t took_ns);

#endif
