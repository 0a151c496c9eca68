/* SPDX-License-Identifier: Apache-2.0
 * The rule alone, so that it can be read, tested and mutated alone. */
#include "core/link_choice.h"

#include <string.h>

bool cohorti_link_claim_better(const struct cohorti_link_claim *a, const struct cohorti_link_claim *b)
{
    if (a->attempt != b->attempt) {
        return a->attempt > b->attempt;
    }
    return strcmp(a->dialler_id, b->dialler_id) < 0;
}
