/* SPDX-License-Identifier: Apache-2.0
 *
 * acking: when the peer is told what was received.
 *
 * Each ACK is a write here, and wakes the peer's loop, which may have to share its processor with the thread that sends. A reader that keeps
 * up has read all every 100 KB, and would say so each time. So it gathers: it says nothing for a moment, as more will have come by then; and
 * where more did not come, since the peer has no more or waits for just this, it gathers ever less (core/look.h).
 * Not gathered is what the peer probably waits for: the bulk lane, whose pace is measured by it; and the end of a message in chunks, however
 * short, as its buffer may have been lent.
 *
 * No clock and no link here.
 */
#ifndef COHORTI_CORE_ACKING_H
#define COHORTI_CORE_ACKING_H

#include "core/inbound.h"
#include "core/look.h"

#define COHORTI_ACK_BYTES ((size_t)32 * 1024)         /* untold: it is time to say it, or to gather */
#define COHORTI_ACK_MUCH_BYTES ((size_t)1024 * 1024)  /* it is said whatever is there to be read, and is worth having gathered */
#define COHORTI_ACK_NS (UINT64_C(5) * 1000000)        /* less than COHORTI_ACK_BYTES waits so long for more */
#define COHORTI_ACK_GATHER_NS (UINT64_C(1) * 1000000) /* and more than that so long */

struct cohorti_acking {
    size_t much;       /* COHORTI_ACK_MUCH_BYTES, or a quarter of the window */
    uint64_t due_ns;   /* what is untold is to be said by then; COHORTI_NEVER: nothing waits to be said */
    uint64_t since_ns; /* it gathers since; 0: it does not */
    struct cohorti_look worth;
};

void cohorti_acking_init(struct cohorti_acking *a, size_t window_bytes);

/** So much is untold that it is not put off until all is read that is there. */
bool cohorti_acking_is_much(const struct cohorti_acking *a, const struct cohorti_inbound *in);
/** Whether to say now what is untold; if not, due_ns may have changed. may_gather: nothing is to be written that it could go with. */
bool cohorti_acking_is_due(struct cohorti_acking *a, const struct cohorti_inbound *in, bool may_gather, uint64_t now_ns);
/** It was said; or could not be, and is to be tried again. */
void cohorti_acking_said(struct cohorti_acking *a, bool said, uint64_t now_ns);

#endif
