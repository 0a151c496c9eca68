/* SPDX-License-Identifier: Apache-2.0
 *
 * Of two live links between the same two incarnations, which one to keep.
 *
 * Both ends must choose the same link, or the pair flaps for ever. So the rule reads only facts that both hold: who dialled,
 * and the dialler's attempt number from its HELLO. Link age is not such a fact: the two ends see links open in different
 * orders. The higher attempt wins, and of equal ones the link dialled by the lower id.
 *
 * Attempt numbers are a Lamport clock of the pair: a node dials with one more than the highest number it has seen or used with
 * that peer, and dials only when it holds no link to it. So a link with a higher number was dialled by an end that knew the
 * other link and no longer had it: the other is dead, though we may not have noticed. Equal numbers are true crossings.
 */
#ifndef COHORTI_CORE_LINK_CHOICE_H
#define COHORTI_CORE_LINK_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

struct cohorti_link_claim {
    uint32_t attempt;
    const char *dialler_id;
};

/** True when `a` is to be kept and `b` to go. False for equal claims: the link that stands stays. */
bool cohorti_link_claim_better(const struct cohorti_link_claim *a, const struct cohorti_link_claim *b);

#endif
