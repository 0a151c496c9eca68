/* SPDX-License-Identifier: Apache-2.0
 *
 * look: whether a loop that has just said something waits awake for what is answered, and how long, before it sleeps.
 *
 * To sleep and be woken costs about as much as waiting awake for as long, so who waits awake no longer than that pays at most twice what
 * who knew the future would (competitive spinning). Who has waited in vain waits awake less often: each time in vain halves how often,
 * each time it was worth while doubles it. So a loop waits awake while more than half of the times are worth it, and one that
 * nobody answers at once does so once in 256 times.
 *
 * No clock and no system here: the shell says what came of it.
 */
#ifndef COHORTI_CORE_LOOK_H
#define COHORTI_CORE_LOOK_H

#include <stdbool.h>
#include <stdint.h>

#define COHORTI_LOOK_VAIN_MAX 8   /* once in 2^8 times */
#define COHORTI_LOOK_VAIN_FIRST 4 /* who says little is not waited for at all */
#define COHORTI_LOOK_LATE 10      /* limits: what comes so late comes from a processor that others had, and is in vain */

struct cohorti_look {
    uint32_t vain; /* so many more of late were in vain than not, at most COHORTI_LOOK_VAIN_MAX */
    uint32_t rest; /* times to pass over */
};

void cohorti_look_init(struct cohorti_look *look);
/** How long to look now: `limit_ns`, or 0: not at all. */
uint64_t cohorti_look_begin(struct cohorti_look *look, uint64_t limit_ns);
/** It was done, and something came after `took_ns`, or nothing did. 0: it was there at once, which says nothing of what waiting is worth. */
void cohorti_look_ended(struct cohorti_look *look, uint64_t limit_ns, bool came, uint64_t took_ns);

#endif
