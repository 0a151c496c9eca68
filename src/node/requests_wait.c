/* SPDX-License-Identifier: Apache-2.0
 * Requests waited for: by a thread, and by all members at once. Built on cohort_request() alone. */
#include "node/node.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

/* ---- a thread waits ------------------------------------------------------------------------------------------------- */

struct waiting {
    cohort_answer *out;
    struct cohorti_waiter waiter;
};

static void *copy_of(const cohort_allocator *alloc, const void *data, size_t len)
{
    void *copy = len == 0 ? NULL : cohorti_alloc(alloc, len);
    if (copy != NULL) {
        memcpy(copy, data, len);
    }
    return copy;
}

static void on_result(cohort_node *node, const cohort_result *result, void *arg)
{
    struct waiting *waiting = arg;
    cohort_answer *out = waiting->out;
    out->status = result->status;
    (void)cohorti_copy_string(out->text, sizeof out->text, result->text);
    out->data = copy_of(&node->alloc, result->data, result->data_len);
    out->data_len = out->data == NULL ? 0 : result->data_len;
    if (out->data == NULL && result->data_len > 0) {
        out->status = COHORT_ENOMEM;
    }
    cohorti_waiter_signal(&waiting->waiter);
}

int cohort_request_wait(cohort_node *node, const char *id, const char *subject, const void *data, size_t data_len,
                        uint32_t timeout_ms, cohort_answer *out)
{
    memset(out, 0, sizeof *out);
    out->allocator = node->alloc;
    if (cohorti_node_in_callback(node) || !node->loops->threads) {
        out->status = COHORT_ECALLBACK;
        return out->status;
    }
    struct waiting waiting = {.out = out};
    cohorti_waiter_init(&waiting.waiter);
    int status = cohort_request(node, id, subject, data, data_len, timeout_ms, on_result, &waiting, NULL);
    if (status == COHORT_OK) { /* then *out is the result's, which may be there already */
        (void)node->io->ops->wait(node->io, &waiting.waiter, UINT64_MAX); /* the request ends, whatever happens */
    } else {
        out->status = status;
    }
    cohorti_waiter_deinit(&waiting.waiter);
    return out->status;
}

void cohort_answer_free(cohort_answer *answer)
{
    if (answer->data != NULL) {
        cohorti_release(&answer->allocator, answer->data);
    }
    answer->data = NULL;
    answer->data_len = 0;
}

/* ---- all are asked -------------------------------------------------------------------------------------------------- */

struct gathered {
    struct gathering *of;
    cohort_result result; /* owns data; text points below */
    char id[COHORT_ID_BYTES_MAX + 1];
    char text[256];
};

struct gathering {
    struct cohort_node *node;
    cohort_results_fn fn;
    void *arg;
    _Atomic size_t open; /* that have not ended, and one while we ask */
    size_t count;
    cohort_result *results; /* of the same block, behind at[] */
    struct gathered at[];
};

static void ended(struct gathering *g)
{
    if (atomic_fetch_sub(&g->open, 1) != 1) {
        return;
    }
    struct cohort_node *node = g->node;
    for (size_t i = 0; i < g->count; i++) {
        g->results[i] = g->at[i].result;
    }
    g->fn(node, g->results, g->count, g->arg);
    for (size_t i = 0; i < g->count; i++) {
        cohorti_release(&node->alloc, (void *)(uintptr_t)g->at[i].result.data);
    }
    cohorti_release(&node->alloc, g);
}

static void on_gathered(cohort_node *node, const cohort_result *result, void *arg)
{
    struct gathered *one = arg;
    (void)cohorti_copy_string(one->text, sizeof one->text, result->text);
    one->result.status = result->status;
    one->result.data = copy_of(&node->alloc, result->data, result->data_len);
    one->result.data_len = one->result.data == NULL ? 0 : result->data_len;
    if (one->result.data == NULL && result->data_len > 0) {
        one->result.status = COHORT_ENOMEM;
    }
    ended(one->of);
}

static void ask_one(struct gathering *g, const char *id, const char *subject, const void *data, size_t data_len, uint32_t timeout_ms)
{
    struct gathered *one = &g->at[g->count++];
    *one = (struct gathered){.of = g};
    (void)cohorti_copy_string(one->id, sizeof one->id, id);
    one->result.from = one->id;
    one->result.text = one->text;
    atomic_fetch_add(&g->open, 1);
    int status = cohort_request(g->node, id, subject, data, data_len, timeout_ms, on_gathered, one, NULL);
    if (status != COHORT_OK) {
        one->result.status = status;
        atomic_fetch_sub(&g->open, 1);
    }
}

int cohort_request_all(cohort_node *node, const char *subject, const void *data, size_t data_len, uint32_t timeout_ms,
                       cohort_results_fn fn, void *arg)
{
    struct outgoing checked;
    int status = cohorti_check_message(node, subject, data, data_len, &checked);
    if (status != COHORT_OK || fn == NULL || checked.raw) {
        return status != COHORT_OK ? status : COHORT_EINVAL;
    }
    struct peers *all = cohorti_peers_get(node);
    size_t count = all == NULL ? 0 : all->count;
    struct gathering *g =
        all == NULL ? NULL : cohorti_alloc(&node->alloc, sizeof *g + count * (sizeof g->at[0] + sizeof(cohort_result)));
    if (g != NULL) {
        *g = (struct gathering){.node = node, .fn = fn, .arg = arg};
        g->results = (cohort_result *)(void *)&g->at[count];
        atomic_init(&g->open, 1);
    }
    for (size_t i = 0; all != NULL && i < count; i++) {
        cohort_member member;
        bool asked = g != NULL && strcmp(all->at[i]->id, node->id) != 0 &&
                     cohort_node_member(node, all->at[i]->id, &member) == COHORT_OK && member.state == COHORT_ACTIVE &&
                     !member.legacy;
        if (asked) {
            ask_one(g, all->at[i]->id, subject, data, data_len, timeout_ms);
        }
    }
    cohorti_peers_put(all);
    if (g == NULL) {
        return COHORT_ENOMEM;
    }
    ended(g);
    return COHORT_OK;
}
