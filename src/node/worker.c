/* SPDX-License-Identifier: Apache-2.0
 *
 * A loop of the node: its mailbox, its timers, and what happens at the end of each of its callbacks.
 */
#include "node/node.h"

#include <string.h>

static void set_timer(struct worker *w)
{
    uint64_t deadline = cohorti_timers_deadline(&w->timers);
    struct cohort_node *node = w->owner;
    if (w == &node->control) {
        uint64_t cluster = cohorti_cluster_deadline(&node->cluster);
        deadline = cluster < deadline ? cluster : deadline;
    }
    node->io->ops->loop_timer(w->loop, deadline);
}

static bool run_mail(struct worker *w)
{
    cohorti_mutex_lock(&w->mail_lock);
    struct cohorti_list *first = cohorti_list_pop(&w->mail);
    cohorti_mutex_unlock(&w->mail_lock);
    if (first == NULL) {
        return false;
    }
    struct mail *mail = COHORTI_CONTAINER(first, struct mail, node);
    mail->run(mail);
    if (w == &w->owner->control) {
        cohorti_control_effects(w->owner);
    }
    return true;
}

void cohorti_worker_settle(struct worker *w)
{
    if (w == &w->owner->control) {
        cohorti_control_effects(w->owner);
    }
    while (run_mail(w)) {
    }
    set_timer(w);
}

static void on_wake(void *ctx)
{
    cohorti_worker_settle(ctx);
}

static void on_timer(void *ctx)
{
    struct worker *w = ctx;
    struct cohort_node *node = w->owner;
    uint64_t now_ns = cohorti_now(node);
    struct cohorti_timer *timer;
    while ((timer = cohorti_timers_pop(&w->timers, now_ns)) != NULL) {
        if (w == &node->control && (timer == &node->accept_pause || timer == &node->close_deadline)) {
            cohorti_control_on_timer(node, timer, now_ns);
        } else {
            cohorti_conn_on_timer(COHORTI_CONTAINER(timer, struct conn, timer), now_ns);
        }
    }
    if (w == &node->control) {
        cohorti_cluster_on_timer(&node->cluster, now_ns);
    }
    cohorti_worker_settle(w);
}

int cohorti_worker_init(struct worker *w, struct cohort_node *owner, const char *name)
{
    static const struct cohorti_loop_handler handler = {.on_wake = on_wake, .on_timer = on_timer};
    memset(w, 0, sizeof *w);
    w->owner = owner;
    w->receive = cohorti_alloc(&owner->alloc, COHORTI_RECEIVE_BYTES);
    if (w->receive == NULL) {
        return COHORT_ENOMEM;
    }
    int status = owner->io->ops->loop_new(owner->io, name, &handler, w, &w->loop);
    if (status != COHORT_OK) {
        cohorti_release(&owner->alloc, w->receive);
        return status;
    }
    cohorti_timers_init(&w->timers);
    cohorti_mutex_init(&w->mail_lock);
    cohorti_list_init(&w->mail);
    return COHORT_OK;
}

void cohorti_worker_abandon(struct worker *w)
{
    struct cohorti_list *node;
    while ((node = cohorti_list_pop(&w->mail)) != NULL) {
        struct mail *mail = COHORTI_CONTAINER(node, struct mail, node);
        if (mail->conn != NULL) {
            cohorti_conn_unref(mail->conn);
        }
    }
}

void cohorti_worker_deinit(struct worker *w)
{
    w->owner->io->ops->loop_free(w->loop);
    cohorti_mutex_deinit(&w->mail_lock);
    cohorti_release(&w->owner->alloc, w->receive);
}

void cohorti_worker_post(struct worker *w, struct mail *mail)
{
    cohorti_mutex_lock(&w->mail_lock);
    bool first = cohorti_list_empty(&w->mail);
    cohorti_list_append(&w->mail, &mail->node);
    cohorti_mutex_unlock(&w->mail_lock);
    /* On its own thread the loop settles at the end of the callback that runs now; otherwise the first mail wakes it. */
    if (first && !w->owner->io->ops->loop_is_current(w->loop)) {
        w->owner->io->ops->loop_wake(w->loop);
    }
}
