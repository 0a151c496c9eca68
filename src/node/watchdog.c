/* SPDX-License-Identifier: Apache-2.0
 *
 * Handlers that block their loop are named in the log, when they return at last.
 *
 * A batch of messages costs one look at the clock, a message none: only a batch as a whole is seen to have taken too long, and with
 * several messages in it, not which. So from then on, until a batch is quick again, each message is timed. A thread that looks after the
 * loops while they are blocked was rejected: it would have to wake, on machines with hundreds of idle nodes, to see nothing.
 */
#include "node/node.h"

#include <inttypes.h>
#include <stdio.h>

void cohorti_watch_begin(struct conn *conn, uint64_t now_ns)
{
    struct watch *w = &conn->watch;
    w->begun_ns = now_ns;
    w->messages = 0;
    w->worst_ns = 0;
}

uint64_t cohorti_watch_message(struct conn *conn, const struct cohorti_inbound_subject *subject, uint32_t raw_type, bool raw)
{
    struct watch *w = &conn->watch;
    w->messages++;
    w->last = (struct watched){.subject = subject, .raw_type = raw_type, .raw = raw};
    return w->measures ? cohorti_now(conn->owner) : 0;
}

void cohorti_watch_measure(struct conn *conn, uint64_t begun_ns)
{
    struct watch *w = &conn->watch;
    uint64_t took_ns = cohorti_now(conn->owner) - begun_ns;
    if (took_ns >= w->worst_ns) {
        w->worst_ns = took_ns;
        w->worst = w->last;
    }
}

static void name_of(const struct watched *what, char *out, size_t cap)
{
    if (what->raw) {
        snprintf(out, cap, "of #%d", (int)what->raw_type);
    } else if (what->subject != NULL) {
        snprintf(out, cap, "of %s", what->subject->name);
    } else {
        snprintf(out, cap, "of a result");
    }
}

static void report(struct conn *conn, uint64_t took_ns)
{
    const struct watch *w = &conn->watch;
    bool one = w->messages == 1 || (w->measures && w->worst_ns >= took_ns / 2);
    char name[COHORT_SUBJECT_BYTES_MAX + 16];
    name_of(w->messages > 1 && w->measures ? &w->worst : &w->last, name, sizeof name);
    atomic_fetch_add(&conn->owner->counters.handlers_slow, 1);
    if (one) {
        uint64_t ms = (w->messages == 1 ? took_ns : w->worst_ns) / COHORTI_NS_PER_MS;
        cohorti_log(conn->owner, COHORT_LOG_WARN, "handler", conn->peer->id, COHORT_OK,
                    "a handler %s blocked its loop for %" PRIu64 " ms", name, ms);
    } else {
        cohorti_log(conn->owner, COHORT_LOG_WARN, "handler", conn->peer->id, COHORT_OK,
                    "handlers of %" PRIu32 " messages blocked their loop for %" PRIu64 " ms, the %s one a handler %s", w->messages,
                    took_ns / COHORTI_NS_PER_MS, w->measures ? "slowest" : "last", name);
    }
}

void cohorti_watch_end(struct conn *conn)
{
    struct watch *w = &conn->watch;
    uint64_t limit_ns = conn->owner->limits.handler_ms * COHORTI_NS_PER_MS;
    if (w->messages == 0 || w->begun_ns == 0 || limit_ns == 0) {
        return;
    }
    uint64_t took_ns = cohorti_now(conn->owner) - w->begun_ns;
    if (took_ns >= limit_ns) {
        report(conn, took_ns);
    }
    w->measures = took_ns >= limit_ns;
    w->begun_ns = 0;
}
