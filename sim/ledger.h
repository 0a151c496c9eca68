/* SPDX-License-Identifier: Apache-2.0
 *
 * ledger: what became of every message that a send accepted. Exactly once, in order within its lane, or told as undelivered: here is
 * where that is judged.
 */
#ifndef COHORTI_SIM_LEDGER_H
#define COHORTI_SIM_LEDGER_H

#include <cohort/cohort.h>

#define LEDGER_HEAD_BYTES 24 /* of a message: the least it has */

struct run;
struct player;
struct ledger_page; /* one process of a sender, one receiver */

struct ledger {
    struct ledger_page *pages;
    struct ledger_page **of_pair; /* [from * nodes + to]: looked for with every message */
};

/** Send one message of `size` bytes in a lane the ledger chooses, and write down what the library said. */
void ledger_send(struct run *run, struct player *from, struct player *to, size_t size);
/** `count` messages of all sizes, in lanes drawn for each. Those that find their lane full follow when there is room. */
void ledger_flood(struct run *run, struct player *from, struct player *to, int64_t count);
/** The lane refused something with COHORT_EAGAIN: it is to be told of room, once. */
void ledger_full(struct player *from, const struct player *to, unsigned lane);
/** cohort_writable_fn; arg: the player that sends. */
void ledger_writable(cohort_node *node, const char *id, cohort_lane lane, void *arg);
/** A message arrived; `number` and the sender's process are taken from it. False when it is none of ours: the run has failed. */
bool ledger_handled(struct run *run, struct player *by, struct player *from, const cohort_message *message, uint32_t *process);
/** It came out of a queue of the process, into which it was put when it was handled. */
void ledger_dequeued(struct run *run, struct player *by, const cohort_message *message);
/** All that was put into the queue of this process came out. */
void ledger_check_emptied(struct run *run, const struct player *by);
/** cohort_undelivered_fn; arg: the player that sent. */
void ledger_undelivered(cohort_node *node, const cohort_undelivered *report, void *arg);
/** Every message of a process that lives was handled or told; those in queues of processes that live came out. */
bool ledger_settled(void *run);
void ledger_judge(struct run *run);
/** COHORT_ENOMEM. To be freed also then. */
COHORT_NODISCARD int ledger_open(struct ledger *ledger, uint32_t nodes);
void ledger_free(struct ledger *ledger);
/** The options of the subjects it sends. */
COHORT_NODISCARD int ledger_prepare(const struct run *run, cohort_node *node);

extern const char *const ledger_subjects[3];

#endif
