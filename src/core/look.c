/* SPDX-License-Identifier: Apache-2.0
 *
 * After each look in vain twice as many times are passed over as after the one before.
 */
#include "core/look.h"

static uint32_t times_passed(const struct cohorti_look *look)
{
    return (UINT32_C(1) << look->vain) - 1;
}

void cohorti_look_init(struct cohorti_look *look)
{
    look->vain = COHORTI_LOOK_VAIN_FIRST;
    look->rest = times_passed(look);
}

uint64_t cohorti_look_begin(struct cohorti_look *look, uint64_t limit_ns)
{
    if (limit_ns == 0) {
        return 0;
    }
    if (look->rest > 0) {
        look->rest--;
        return 0;
    }
    return limit_ns;
}

void cohorti_look_ended(struct cohorti_look *look, uint64_t limit_ns, bool came, uint64_t took_ns)
{
    bool worth = came && took_ns <= limit_ns * COHORTI_LOOK_LATE;
    if (came && took_ns == 0) {
        return;
    }
    if (worth) {
        look->vain -= look->vain > 0 ? 1 : 0;
    } else {
        look->vain += look->vain < COHORTI_LOOK_VAIN_MAX ? 1 : 0;
        look->rest = times_passed(look);
    }
}
