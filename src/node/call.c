/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls to the control loop: run there, while the caller waits. A callback may be the caller, on a loop that is control of another node; so while
 * a loop waits it serves the calls that come to it, and nobody waits in a circle.
 */
#include "node/node.h"

#define SERVE_NS (UINT64_C(1) * 1000000) /* longer than a call takes whose loop does not wait for us */

struct call {
    struct mail mail;
    struct cohort_node *node;
    int (*fn)(struct cohort_node *node, void *arg);
    void *arg;
    int status;
    struct cohorti_waiter waiter;
};

static void run_call(struct mail *mail)
{
    struct call *call = COHORTI_CONTAINER(mail, struct call, mail);
    call->status = call->fn(call->node, call->arg);
    cohorti_control_effects(call->node); /* the caller sees what it did published */
    cohorti_waiter_signal(&call->waiter);
}

/* No listener runs in here: what follows from a call is carried out when ours has returned. */
static void serve(struct runner *r)
{
    struct mail *mail;
    while ((mail = cohorti_runner_take(r, run_call)) != NULL) {
        struct call *call = COHORTI_CONTAINER(mail, struct call, mail);
        cohorti_worker_touch(mail->to);
        call->status = call->fn(call->node, call->arg);
        cohorti_waiter_signal(&call->waiter);
    }
}

static int await_call(struct cohort_node *node, struct call *call)
{
    const struct cohorti_io_ops *ops = node->io->ops;
    struct runner *r = cohorti_runner_mine();
    if (r == NULL) {
        return ops->wait(node->io, &call->waiter, UINT64_MAX);
    }
    int status = ops->wait(node->io, &call->waiter, SERVE_NS);
    while (status == COHORT_ETIMEDOUT) {
        serve(r);
        status = ops->wait(node->io, &call->waiter, SERVE_NS);
    }
    return status;
}

/* Without threads, between two dispatches, on the thread that dispatches: as if inside, but no callback runs; the next dispatch
 * carries out what follows. */
static bool call_between(struct cohort_node *node, int (*fn)(struct cohort_node *node, void *arg), void *arg, int *status)
{
    struct cohorti_loop *before = NULL;
    if (!cohorti_loops_mine(node->loops) || cohorti_loops_enter(node->loops, &before) != COHORT_OK) {
        return false;
    }
    *status = fn(node, arg);
    cohorti_worker_touch(&node->control);
    cohorti_loops_leave(node->loops, before);
    node->io->ops->loop_wake(node->control.loop);
    return true;
}

int cohorti_node_call(struct cohort_node *node, int (*fn)(struct cohort_node *node, void *arg), void *arg)
{
    int status = COHORT_OK;
    if (node->io->ops->loop_is_current(node->control.loop)) {
        status = fn(node, arg);
        cohorti_control_effects(node);        /* nothing when we are inside an effect: they follow when it returns */
        cohorti_worker_touch(&node->control); /* the callback we are in may be another node's */
        return status;
    }
    if (call_between(node, fn, arg, &status)) {
        return status;
    }
    struct call call = {.mail = {.run = run_call}, .node = node, .fn = fn, .arg = arg};
    cohorti_waiter_init(&call.waiter);
    cohorti_worker_post(&node->control, &call.mail);
    status = await_call(node, &call);
    cohorti_waiter_deinit(&call.waiter);
    return status == COHORT_OK ? call.status : status;
}
