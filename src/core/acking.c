/* SPDX-License-Identifier: Apache-2.0 */
#include "core/acking.h"

#include "base/timers.h"

void cohorti_acking_init(struct cohorti_acking *a, size_t window_bytes)
{
    size_t part = window_bytes / 4;
    *a = (struct cohorti_acking){.much = part < COHORTI_ACK_MUCH_BYTES ? part : COHORTI_ACK_MUCH_BYTES, .due_ns = COHORTI_NEVER};
    cohorti_look_init(&a->worth);
}

bool cohorti_acking_is_much(const struct cohorti_acking *a, const struct cohorti_inbound *in)
{
    return cohorti_inbound_untold(in) >= a->much;
}

static void set_due(struct cohorti_acking *a, uint64_t due_ns)
{
    a->due_ns = due_ns < a->due_ns ? due_ns : a->due_ns;
}

/* Not judged: one that ends early, since what was untold before it was due. */
static void gathered(struct cohorti_acking *a, bool much, uint64_t now_ns)
{
    uint64_t took_ns = now_ns > a->since_ns ? now_ns - a->since_ns : 1;
    if (a->since_ns != 0 && (much || took_ns >= COHORTI_ACK_GATHER_NS)) {
        cohorti_look_ended(&a->worth, COHORTI_ACK_GATHER_NS, much, took_ns);
    }
}

/* Begins to, or goes on. */
static bool gathers(struct cohorti_acking *a, uint64_t now_ns)
{
    if (a->since_ns == 0 && cohorti_look_begin(&a->worth, COHORTI_ACK_GATHER_NS) > 0) {
        a->since_ns = now_ns;
        set_due(a, now_ns + COHORTI_ACK_GATHER_NS);
    }
    return a->since_ns != 0;
}

bool cohorti_acking_is_due(struct cohorti_acking *a, const struct cohorti_inbound *in, bool may_gather, uint64_t now_ns)
{
    size_t untold = cohorti_inbound_untold(in);
    if (untold == 0) {
        return false;
    }
    if (untold >= a->much || now_ns >= a->due_ns) {
        gathered(a, untold >= a->much, now_ns);
        return true;
    }
    if (cohorti_inbound_is_awaited(in, COHORTI_ACK_BYTES)) {
        return true;
    }
    if (untold < COHORTI_ACK_BYTES) {
        set_due(a, now_ns + COHORTI_ACK_NS);
        return false;
    }
    return !may_gather || !gathers(a, now_ns);
}

void cohorti_acking_said(struct cohorti_acking *a, bool said, uint64_t now_ns)
{
    a->since_ns = 0;
    a->due_ns = said ? COHORTI_NEVER : now_ns + COHORTI_ACK_NS;
}
