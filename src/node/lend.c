/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages from memory that is not copied: lent by the application until `release`, or taken over.
 *
 * A `lent` is the body that logs refer to (core/log.h), with what gives the bytes back. The sending call holds a reference of its own, so
 * that nothing is given back before it knows whether the message was accepted: an error leaves the bytes with the caller.
 */
#include "node/node.h"

struct lent {
    struct cohorti_body body;
    struct cohort_node *node;
    struct loan loan;
};

static void settle(struct cohort_node *node, const struct loan *loan)
{
    if (loan->taken) {
        cohorti_release(&node->alloc, loan->arg);
    } else if (loan->release != NULL) {
        loan->release(loan->arg);
    }
}

static void give_back(struct cohorti_body *body)
{
    struct lent *lent = COHORTI_CONTAINER(body, struct lent, body);
    struct cohort_node *node = lent->node;
    struct loan loan = lent->loan;
    cohorti_release(&node->alloc, lent);
    settle(node, &loan);
}

int cohorti_lend(struct cohort_node *node, struct outgoing *m, const struct loan *loan)
{
    if (m->raw || m->put.body_len < COHORTI_REFERENCE_BYTES_MIN) {
        return COHORT_OK;
    }
    struct lent *lent = cohorti_alloc(&node->alloc, sizeof *lent);
    if (lent == NULL) {
        return COHORT_ENOMEM;
    }
    cohorti_body_init(&lent->body, m->put.body, m->put.body_len, give_back);
    lent->node = node;
    lent->loan = *loan;
    m->put.reference = &lent->body;
    return COHORT_OK;
}

void cohorti_lend_end(struct cohort_node *node, const struct outgoing *m, const struct loan *loan, bool accepted)
{
    struct cohorti_body *body = m->put.reference;
    if (body == NULL) {
        if (accepted) {
            settle(node, loan);
        }
        return;
    }
    if (!accepted) {
        COHORTI_CONTAINER(body, struct lent, body)->loan = (struct loan){0};
    }
    if (cohorti_body_unref(body)) {
        give_back(body);
    }
}

static int send_lent(cohort_node *node, const char *id, const char *subject, const void *data, size_t data_len,
                     const struct loan *loan)
{
    struct outgoing message;
    int status = cohorti_check_message(node, subject, data, data_len, &message);
    if (status == COHORT_OK) {
        status = cohorti_lend(node, &message, loan);
    }
    if (status == COHORT_OK) {
        status = cohorti_send(node, id, &message);
        cohorti_lend_end(node, &message, loan, status == COHORT_OK);
    }
    return status;
}

int cohort_send_ref(cohort_node *node, const char *id, const char *subject, const void *data, size_t data_len,
                    cohort_release_fn release, void *arg)
{
    return send_lent(node, id, subject, data, data_len, &(struct loan){.release = release, .arg = arg});
}

int cohort_send_take(cohort_node *node, const char *id, const char *subject, void *data, size_t data_len)
{
    return send_lent(node, id, subject, data, data_len, &(struct loan){.arg = data, .taken = true});
}

int cohort_broadcast_ref(cohort_node *node, const char *subject, const void *data, size_t data_len, cohort_release_fn release,
                         void *arg, size_t *sent)
{
    const struct loan loan = {.release = release, .arg = arg};
    struct outgoing message = {0};
    struct broadcast b = {.to_self = false};
    int status = cohorti_check_message(node, subject, data, data_len, &message);
    if (status == COHORT_OK) {
        status = cohorti_lend(node, &message, &loan);
    }
    if (status == COHORT_OK) {
        status = cohorti_broadcast(node, &message, &b);
    }
    cohorti_lend_end(node, &message, &loan, true);
    if (sent != NULL) {
        *sent = b.sent;
    }
    return status;
}
