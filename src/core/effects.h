/* SPDX-License-Identifier: Apache-2.0
 *
 * effects: what the cluster wants done, in order. The shell takes them one at a time and does them.
 *
 * The queue never fails in the middle of a decision. The shell takes all there are after every call it makes, so what waits is what
 * one call caused: a few effects, and at most one end for each link. Room for that many is made when a link is made, and a link
 * that finds no room is not made. What the largest crowd needed is given back.
 */
#ifndef COHORTI_CORE_EFFECTS_H
#define COHORTI_CORE_EFFECTS_H

#include <cohort/error.h>
#include <cohort/types.h>

#define COHORTI_EFFECTS_PER_CALL 64 /* besides the ends of links */
#define COHORTI_EFFECTS_PER_LINK 2  /* its end, and that of its member's activity */

enum cohorti_effect_type {
    COHORTI_EFFECT_DIAL,    /* connect `link` to host:port, then report connected or closed */
    COHORTI_EFFECT_GREET,   /* send our HELLO on `link`, with `attempt` */
    COHORTI_EFFECT_ADMIT,   /* `link` is admitted: cohorti_link_admit(), and WELCOME with `version` unless legacy */
    COHORTI_EFFECT_OPEN,    /* `link` is open: accept messages to `id` for it. Nothing is received yet */
    COHORTI_EFFECT_RECEIVE, /* begin to deliver what `link` receives; follows OPEN and the event it caused */
    COHORTI_EFFECT_KEEP,    /* `link` is of a member that is listed now: its silence does not end it any more */
    COHORTI_EFFECT_REFUSE,  /* send REFUSE(code, value, text) on `link`, then close it; legacy: only close */
    COHORTI_EFFECT_LEAVE,   /* send what is queued and LEAVE on `link`, then close it */
    COHORTI_EFFECT_CLOSE,   /* close `link` because of `code` */
    COHORTI_EFFECT_EVENT,   /* tell the listeners: event */
    COHORTI_EFFECT_UPDATE,  /* event.member changed in a way that is no event: publish it */
    COHORTI_EFFECT_NOTE,    /* write to the log: code, text, about `id` */
};

struct cohorti_effect {
    enum cohorti_effect_type type;
    uint64_t link;
    int code;
    union {
        struct {
            char id[COHORT_ID_BYTES_MAX + 1];     /* whom: for the log */
            char host[COHORT_HOST_BYTES_MAX + 1]; /* numeric, or a name to resolve first */
            uint16_t port;
            uint32_t turn; /* of a name with N addresses, connect to number turn % N */
        } dial;
        struct {
            uint32_t attempt;
        } greet;
        struct {
            uint16_t version;
        } admit;
        struct {
            char id[COHORT_ID_BYTES_MAX + 1];
            bool legacy;
            uint64_t idle_ns; /* silence that ends the link; 0: none does */
        } open;
        struct {
            uint64_t value;
            bool legacy;
            char text[192];
        } refuse;
        struct {
            char id[COHORT_ID_BYTES_MAX + 1];
            char text[192];
        } note;
        cohort_event event;
    } u;
};

struct cohorti_effects {
    const cohort_allocator *alloc;
    struct cohorti_effect *ring;
    size_t cap, head, count;
};

void cohorti_effects_init(struct cohorti_effects *e, const cohort_allocator *alloc);
void cohorti_effects_deinit(struct cohorti_effects *e);
/** Make sure that `more` effects fit beside those waiting. COHORT_ENOMEM: unchanged. */
COHORT_NODISCARD int cohorti_effects_reserve(struct cohorti_effects *e, size_t more);
/** Nothing waits: keep room for `more`, and give back what is far beyond. */
void cohorti_effects_shrink(struct cohorti_effects *e, size_t more);
/** The next slot, with type and link set and the rest zero. Room must have been reserved. */
struct cohorti_effect *cohorti_effects_push(struct cohorti_effects *e, enum cohorti_effect_type type, uint64_t link);
bool cohorti_effects_pop(struct cohorti_effects *e, struct cohorti_effect *out);

#endif
