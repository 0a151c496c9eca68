/* SPDX-License-Identifier: Apache-2.0
 *
 * A loop and the nodes it works for: its mailbox, its timers, and what happens at the end of each of its callbacks.
 *
 * The runner's heap holds one timer of each worker, the earliest of that worker's own heap: so a loop that serves a hundred nodes looks
 * at those that are due and at no other. Workers whose timers may have changed wait in `touched` until the callback ends.
 */
#include "node/node.h"

#include <string.h>

static bool is_control(const struct worker *w)
{
    return w == &w->owner->control;
}

void cohorti_worker_touch(struct worker *w)
{
    if (cohorti_list_empty(&w->touched)) {
        cohorti_list_append(&w->runner->touched, &w->touched);
    }
}

static void set_due(struct worker *w)
{
    uint64_t deadline = cohorti_timers_deadline(&w->timers);
    if (is_control(w)) {
        uint64_t cluster = cohorti_cluster_deadline(&w->owner->cluster);
        deadline = cluster < deadline ? cluster : deadline;
    }
    if (deadline != w->due.deadline_ns) {
        cohorti_timer_set(&w->runner->timers, &w->due, deadline);
    }
}

/* Of this thread, if it has one. */
static _Thread_local struct runner *of_thread;

struct runner *cohorti_runner_mine(void)
{
    return of_thread != NULL && of_thread->owner->io->ops->loop_is_current(of_thread->loop) ? of_thread : NULL;
}

struct mail *cohorti_runner_take(struct runner *r, void (*run)(struct mail *mail))
{
    struct mail *found = NULL;
    cohorti_mutex_lock(&r->mail_lock);
    for (struct cohorti_list *it = r->mail.next; it != &r->mail && found == NULL; it = it->next) {
        struct mail *mail = COHORTI_CONTAINER(it, struct mail, node);
        found = mail->run == run ? mail : NULL;
    }
    if (found != NULL) {
        cohorti_list_remove(&found->node);
    }
    cohorti_mutex_unlock(&r->mail_lock);
    return found;
}

static bool run_mail(struct runner *r)
{
    cohorti_mutex_lock(&r->mail_lock);
    struct cohorti_list *first = cohorti_list_pop(&r->mail);
    cohorti_mutex_unlock(&r->mail_lock);
    if (first == NULL) {
        return false;
    }
    struct mail *mail = COHORTI_CONTAINER(first, struct mail, node);
    cohorti_worker_touch(mail->to);
    mail->run(mail); /* the worker may be gone now: then it is no longer touched */
    return true;
}

static void settle(struct runner *r)
{
    do {
        struct cohorti_list *first;
        while ((first = cohorti_list_pop(&r->touched)) != NULL) {
            struct worker *w = COHORTI_CONTAINER(first, struct worker, touched);
            if (is_control(w)) {
                cohorti_control_effects(w->owner);
            }
            set_due(w);
        }
    } while (run_mail(r));
    uint64_t deadline = cohorti_timers_deadline(&r->timers);
    if (deadline != r->armed_ns) {
        r->armed_ns = deadline;
        r->owner->io->ops->loop_timer(r->loop, deadline);
    }
}

void cohorti_worker_settle(struct worker *w)
{
    cohorti_worker_touch(w);
    settle(w->runner);
}

bool cohorti_runner_begin_look(struct runner *r, const struct mail *but)
{
    if (!cohorti_list_empty(&r->touched)) {
        return false;
    }
    cohorti_mutex_lock(&r->mail_lock);
    const struct cohorti_list *first = r->mail.next;
    r->looks = first == &r->mail || (first == &but->node && first->next == &r->mail);
    bool looks = r->looks;
    cohorti_mutex_unlock(&r->mail_lock);
    return looks;
}

void cohorti_runner_end_look(struct runner *r)
{
    cohorti_mutex_lock(&r->mail_lock);
    r->looks = false;
    cohorti_mutex_unlock(&r->mail_lock);
}

static void on_wake(void *ctx)
{
    struct runner *r = ctx;
    of_thread = r->owner->threads ? r : NULL; /* before any of its nodes has something there: that comes by mail */
    cohorti_mutex_lock(&r->mail_lock);
    cohorti_list_move_all(&r->mail, &r->later);
    cohorti_mutex_unlock(&r->mail_lock);
    settle(r);
}

/* Of the control loop's own; all others are those of connections. */
static bool is_of_control(const struct cohort_node *node, const struct cohorti_timer *timer)
{
    return timer == &node->accept_pause || timer == &node->local_pause || timer == &node->close_deadline || timer == &node->watchdog;
}

static void run_timers(struct worker *w, uint64_t now_ns)
{
    struct cohort_node *node = w->owner;
    struct cohorti_timer *timer;
    while ((timer = cohorti_timers_pop(&w->timers, now_ns)) != NULL) {
        if (timer->kind == COHORTI_TIMER_CALLS) {
            cohorti_requests_on_timer(COHORTI_CONTAINER(timer, struct peer, calls_timer), now_ns);
        } else if (is_control(w) && is_of_control(node, timer)) {
            cohorti_control_on_timer(node, timer, now_ns);
        } else {
            cohorti_conn_on_timer(COHORTI_CONTAINER(timer, struct conn, timer), now_ns);
        }
    }
    if (is_control(w)) {
        cohorti_cluster_on_timer(&node->cluster, now_ns);
    }
}

static void on_timer(void *ctx)
{
    struct runner *r = ctx;
    uint64_t now_ns = r->owner->io->ops->now_ns(r->owner->io);
    struct cohorti_timer *timer;
    r->armed_ns = COHORTI_NEVER;
    while ((timer = cohorti_timers_pop(&r->timers, now_ns)) != NULL) {
        struct worker *w = COHORTI_CONTAINER(timer, struct worker, due);
        cohorti_worker_touch(w);
        run_timers(w, now_ns);
    }
    settle(r);
}

int cohorti_runner_init(struct runner *r, struct cohort_loops *owner, const char *name)
{
    static const struct cohorti_loop_handler handler = {.on_wake = on_wake, .on_timer = on_timer};
    memset(r, 0, sizeof *r);
    r->owner = owner;
    r->armed_ns = COHORTI_NEVER;
    r->receive = cohorti_alloc(&owner->alloc, COHORTI_RECEIVE_BYTES);
    if (r->receive == NULL) {
        return COHORT_ENOMEM;
    }
    int status = owner->io->ops->loop_new(owner->io, name, &handler, r, &r->loop);
    if (status != COHORT_OK) {
        cohorti_release(&owner->alloc, r->receive);
        return status;
    }
    cohorti_timers_init(&r->timers);
    cohorti_mutex_init(&r->mail_lock);
    cohorti_list_init(&r->mail);
    cohorti_list_init(&r->later);
    cohorti_list_init(&r->touched);
    cohorti_slabs_init(&r->slabs, &owner->alloc);
    cohorti_stages_init(&r->stages);
    return COHORT_OK;
}

void cohorti_runner_deinit(struct runner *r)
{
    of_thread = of_thread == r ? NULL : of_thread; /* in a simulation all loops are of one thread, and it goes on */
    r->owner->io->ops->loop_free(r->loop);
    cohorti_mutex_deinit(&r->mail_lock);
    cohorti_slabs_deinit(&r->slabs);
    cohorti_release(&r->owner->alloc, r->receive);
}

void cohorti_worker_init(struct worker *w, struct cohort_node *owner, struct runner *runner)
{
    memset(w, 0, sizeof *w);
    w->owner = owner;
    w->runner = runner;
    w->loop = runner->loop;
    w->receive = runner->receive;
    cohorti_timers_init(&w->timers);
    cohorti_timer_init(&w->due);
    cohorti_list_init(&w->touched);
}

void cohorti_worker_detach(struct worker *w)
{
    cohorti_timer_cancel(&w->runner->timers, &w->due);
    cohorti_list_remove(&w->touched);
}

static void take_mail_of(const struct worker *w, struct cohorti_list *from, struct cohorti_list *to)
{
    COHORTI_LIST_FOREACH_SAFE (it, from) {
        if (COHORTI_CONTAINER(it, struct mail, node)->to == w) {
            cohorti_list_remove(it);
            cohorti_list_append(to, it);
        }
    }
}

void cohorti_worker_abandon(struct worker *w)
{
    struct cohorti_list mine;
    cohorti_list_init(&mine);
    cohorti_mutex_lock(&w->runner->mail_lock);
    take_mail_of(w, &w->runner->mail, &mine);
    take_mail_of(w, &w->runner->later, &mine);
    cohorti_mutex_unlock(&w->runner->mail_lock);
    struct cohorti_list *node;
    while ((node = cohorti_list_pop(&mine)) != NULL) {
        struct mail *mail = COHORTI_CONTAINER(node, struct mail, node);
        struct peer *peer = mail->peer; /* the letter is part of what goes with the last reference */
        if (mail->conn != NULL) {
            cohorti_conn_unref(mail->conn);
        }
        cohorti_peer_unref(peer);
    }
}

void cohorti_worker_post(struct worker *w, struct mail *mail)
{
    struct runner *r = w->runner;
    mail->to = w;
    cohorti_mutex_lock(&r->mail_lock);
    bool first = r->looks || cohorti_list_empty(&r->mail);
    cohorti_list_append(&r->mail, &mail->node);
    cohorti_mutex_unlock(&r->mail_lock);
    /* On its own thread the loop settles at the end of the callback that runs now; otherwise the first mail wakes it. */
    const struct cohorti_io_ops *ops = r->owner->io->ops;
    if (first && !ops->loop_is_current(r->loop)) {
        ops->loop_wake(r->loop);
    }
}

void cohorti_worker_post_later(struct worker *w, struct mail *mail)
{
    struct runner *r = w->runner;
    mail->to = w;
    cohorti_mutex_lock(&r->mail_lock);
    cohorti_list_append(&r->later, &mail->node);
    cohorti_mutex_unlock(&r->mail_lock);
    r->owner->io->ops->loop_wake(r->loop);
}
