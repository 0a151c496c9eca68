/* SPDX-License-Identifier: Apache-2.0
 *
 * Handlers that block their loop are named in the log: while they do, and when they return.
 *
 * When they return, by their loop. A batch of messages costs one look at the clock, a message none: only a batch as a whole is seen to have
 * taken too long, and with several messages in it, not which. So from then on, until a batch is quick again, each message is timed.
 *
 * While they do, by the control loop, if that is another one: it looks what the others are at, handler_ms after a batch began and as long as
 * it finds one under way; then not until the next one begins, so that hundreds of idle nodes do not wake to see nothing. A loop that is at
 * the same message as the last time is blocked by it.
 */
#include "node/node.h"

#include <inttypes.h>
#include <stdio.h>

#define NAME_BYTES (COHORT_SUBJECT_BYTES_MAX + 16)

static uint64_t limit_of(const struct cohort_node *node)
{
    return node->limits.handler_ms * COHORTI_NS_PER_MS;
}

void cohorti_watch_begin(struct conn *conn, uint64_t now_ns)
{
    struct watch *w = &conn->watch;
    atomic_store_explicit(&w->messages, 0, memory_order_relaxed);
    atomic_store_explicit(&w->begun_ns, now_ns, memory_order_release);
    w->worst_ns = 0;
}

/* The store before it, and what cohorti_watch_look() stores before it looks, are in one order: one of the two sees the other. */
static void want_looks(struct conn *conn)
{
    struct cohort_node *node = conn->owner;
    bool other_loop = conn->worker->runner != node->control.runner;
    if (other_loop && node->limits.handler_ms > 0 && !atomic_load(&node->watching) && !atomic_exchange(&node->watching, true)) {
        cohorti_worker_post(&node->control, &node->watch_mail);
    }
}

uint64_t cohorti_watch_message(struct conn *conn, const struct cohorti_inbound_subject *subject, uint32_t raw_type, bool raw)
{
    struct watch *w = &conn->watch;
    uint32_t before = atomic_load_explicit(&w->messages, memory_order_relaxed);
    atomic_store_explicit(&w->last_subject, subject, memory_order_relaxed);
    atomic_store_explicit(&w->last_type, raw_type, memory_order_relaxed);
    atomic_store_explicit(&w->last_raw, raw, memory_order_relaxed);
    if (before == 0) {
        atomic_store(&w->messages, 1);
        want_looks(conn);
    } else {
        atomic_store_explicit(&w->messages, before + 1, memory_order_release);
    }
    return w->measures ? cohorti_now(conn->owner) : 0;
}

static struct watched last_of(const struct watch *w)
{
    return (struct watched){.subject = atomic_load_explicit(&w->last_subject, memory_order_relaxed),
                            .raw_type = atomic_load_explicit(&w->last_type, memory_order_relaxed),
                            .raw = atomic_load_explicit(&w->last_raw, memory_order_relaxed)};
}

void cohorti_watch_measure(struct conn *conn, uint64_t begun_ns)
{
    struct watch *w = &conn->watch;
    uint64_t took_ns = cohorti_now(conn->owner) - begun_ns;
    if (took_ns >= w->worst_ns) {
        w->worst_ns = took_ns;
        w->worst = last_of(w);
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

static void report(struct conn *conn, uint32_t messages, uint64_t took_ns)
{
    const struct watch *w = &conn->watch;
    bool one = messages == 1 || (w->measures && w->worst_ns >= took_ns / 2);
    struct watched what = messages > 1 && w->measures ? w->worst : last_of(w);
    char name[NAME_BYTES];
    name_of(&what, name, sizeof name);
    if (one) {
        uint64_t ms = (messages == 1 ? took_ns : w->worst_ns) / COHORTI_NS_PER_MS;
        cohorti_log(conn->owner, COHORT_LOG_WARN, "handler", conn->peer->id, COHORT_OK,
                    "a handler %s blocked its loop for %" PRIu64 " ms", name, ms);
    } else {
        cohorti_log(conn->owner, COHORT_LOG_WARN, "handler", conn->peer->id, COHORT_OK,
                    "handlers of %" PRIu32 " messages blocked their loop for %" PRIu64 " ms, the %s one a handler %s", messages,
                    took_ns / COHORTI_NS_PER_MS, w->measures ? "slowest" : "last", name);
    }
}

/* One that was named while it ran was counted then. */
static void count_end(struct conn *conn, uint64_t begun_ns)
{
    struct watch *w = &conn->watch;
    cohorti_mutex_lock(&conn->peer->lock);
    bool named = w->named_ns == begun_ns;
    atomic_store_explicit(&w->begun_ns, 0, memory_order_release);
    cohorti_mutex_unlock(&conn->peer->lock);
    if (!named) {
        atomic_fetch_add(&conn->owner->counters.handlers_slow, 1);
    }
}

void cohorti_watch_end(struct conn *conn)
{
    struct watch *w = &conn->watch;
    uint64_t limit_ns = limit_of(conn->owner), begun_ns = atomic_load_explicit(&w->begun_ns, memory_order_relaxed);
    uint32_t messages = atomic_load_explicit(&w->messages, memory_order_relaxed);
    if (messages == 0 || begun_ns == 0 || limit_ns == 0) {
        return;
    }
    uint64_t took_ns = cohorti_now(conn->owner) - begun_ns;
    if (took_ns >= limit_ns) {
        count_end(conn, begun_ns);
        report(conn, messages, took_ns);
    } else {
        atomic_store_explicit(&w->begun_ns, 0, memory_order_release);
    }
    w->measures = took_ns >= limit_ns;
}

/* ---- from the control loop ----------------------------------------------------------------------------------------- */

/* The name of a subject lives until its batch is over, and ends under the lock: session.c. */
static void name_blocked(struct conn *conn, uint64_t begun_ns, uint32_t messages, uint64_t blocked_ns)
{
    struct watch *w = &conn->watch;
    char name[NAME_BYTES];
    cohorti_mutex_lock(&conn->peer->lock);
    bool still = atomic_load(&w->messages) == messages && atomic_load(&w->begun_ns) == begun_ns && w->named_ns != begun_ns;
    if (still) {
        struct watched what = last_of(w);
        name_of(&what, name, sizeof name);
        w->named_ns = begun_ns;
        atomic_fetch_add(&conn->owner->counters.handlers_slow, 1);
    }
    cohorti_mutex_unlock(&conn->peer->lock);
    if (still) {
        cohorti_log(conn->owner, COHORT_LOG_WARN, "handler", conn->peer->id, COHORT_OK,
                    "a handler %s has blocked its loop for %" PRIu64 " ms and has not returned", name,
                    blocked_ns / COHORTI_NS_PER_MS);
    }
}

/* Returns whether a batch is under way. */
static bool look_at(struct conn *conn, uint64_t now_ns)
{
    struct watch *w = &conn->watch;
    uint64_t begun_ns = atomic_load(&w->begun_ns);
    uint32_t messages = atomic_load(&w->messages);
    if (begun_ns == 0 || messages == 0) {
        return false;
    }
    if (begun_ns != w->seen.begun_ns || messages != w->seen.messages) {
        w->seen.begun_ns = begun_ns;
        w->seen.messages = messages;
        w->seen.at_ns = now_ns;
    } else if (now_ns - w->seen.at_ns >= limit_of(conn->owner)) {
        name_blocked(conn, begun_ns, messages, now_ns - (messages == 1 ? begun_ns : w->seen.at_ns));
    }
    return true;
}

static void set_timer(struct cohort_node *node, uint64_t now_ns)
{
    cohorti_timer_set(&node->control.timers, &node->watchdog, now_ns + limit_of(node));
}

void cohorti_watch_wanted(struct mail *mail)
{
    struct cohort_node *node = COHORTI_CONTAINER(mail, struct cohort_node, watch_mail);
    set_timer(node, cohorti_now(node));
}

void cohorti_watch_look(struct cohort_node *node, uint64_t now_ns)
{
    bool busy = false;
    atomic_store(&node->watching, false); /* a batch that begins from here on wants looks */
    COHORTI_LIST_FOREACH (it, &node->conn_list) {
        busy = look_at(COHORTI_CONTAINER(it, struct conn, of_node), now_ns) || busy;
    }
    if (busy && !atomic_exchange(&node->watching, true)) {
        set_timer(node, now_ns);
    }
}
