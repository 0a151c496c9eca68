/* SPDX-License-Identifier: Apache-2.0
 *
 * asker: what became of every request. Exactly one result each, which is true: the reply that its handler gave, an error that has a
 * cause, or the end of its time and not before. Here is where that is judged.
 */
#ifndef COHORTI_SIM_ASKER_H
#define COHORTI_SIM_ASKER_H

#include <cohort/cohort.h>

struct run;
struct player;
struct question;
struct held;

struct asker {
    struct question **at; /* by number */
    uint64_t count, cap;
};

/** Handlers and lanes of what it asks; before the node starts. */
COHORT_NODISCARD int asker_prepare(struct player *p);
void asker_ask(struct run *run, struct player *from, struct player *to, int64_t count);
/** Reply to what a handler kept and whose time has come; all of it at the end. */
void asker_tick(struct player *p, bool all);
/** A process is about to end: what it kept is given back. It may be killed before a byte of that is written. */
void asker_before_end(struct player *p);
/** It has: a closed one has told the end of all it asked; a killed one tells nothing any more. */
void asker_ended(struct player *p, bool closed);
/** Everything that a living process asked has ended. */
bool asker_settled(void *run);
void asker_judge(struct run *run);
void asker_free(struct asker *asker);

#endif
