/* SPDX-License-Identifier: Apache-2.0
 *
 * A question for each request that was accepted; its number and its length stand in its bytes, so nothing the library says is taken on trust. What
 * the handler does is drawn when it is called: it replies, refuses, says nothing, or keeps the call and replies when something else
 * happens to its process later.
 *
 * The result must be what the handler did, or have a cause: time that is over, our own cancel, our own close, a member that was removed
 * or whose process was replaced. A question is handled once at most, whatever becomes of it.
 */
#include "sim/asker.h"

#include "sim/run_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HELD_MAX 64                       /* calls kept by one process: what they are replied with always has room */
#define LATE_NS (UINT64_C(1) * 1000 * MS) /* how long after its time a request may end, beyond what its process was held up for */
#define REPLY_BYTES_MAX 200

static const char *const subjects[3] = {"sim/ask", "sim/ask/control", "sim/ask/bulk"};

enum deed {
    DEED_NOT_HANDLED,
    DEED_REPLIED,
    DEED_REFUSED,
    DEED_SILENT,
    DEED_KEPT,
};

static const char *const deeds[] = {"it was not handled", "it was replied to", "it was refused", "its handler said nothing",
                                    "its handler kept it"};

struct question {
    struct run *run;
    uint64_t number;
    uint32_t from, process, to;
    uint8_t lane;
    uint64_t deadline_ns; /* UINT64_MAX: none */
    enum deed deed;
    bool stumbled; /* a reply was not taken, for want of memory or room */
    size_t reply_len;
    bool ended, cancels;
    bool again; /* asked in the callback of one that ended with ERESTARTED */
    uint64_t asked_ns;
    int status;
};

struct held {
    struct held *next;
    cohort_call *call;
    struct question *question;
    uint64_t due_ns;
    bool refuse;
};

/* ---- answering ----------------------------------------------------------------------------------------------------- */

static void fill_reply(const struct question *q, uint8_t *data, size_t len)
{
    memset(data, (int)(q->number * 11 + 5), len);
    memcpy(data, &q->number, sizeof q->number);
}

static int give_reply(struct run *run, struct question *q, cohort_call *call, bool refuse)
{
    if (refuse) {
        char text[32];
        snprintf(text, sizeof text, "no %" PRIu64, q->number);
        return cohort_reply_error(call, COHORT_EHANDLER, text);
    }
    uint8_t data[REPLY_BYTES_MAX];
    q->reply_len = sizeof q->number + cohort_sim_random(run->sim, sizeof data - sizeof q->number + 1);
    fill_reply(q, data, q->reply_len);
    return cohort_reply(call, data, q->reply_len);
}

static void hold(struct player *p, struct question *q, cohort_call *call)
{
    struct held *held = calloc(1, sizeof *held);
    uint32_t count = 0;
    for (const struct held *it = p->held; it != NULL; it = it->next) {
        count++;
    }
    bool may_hold = held != NULL && count < HELD_MAX && p->node != NULL; /* not while it closes: it must be given back before */
    cohort_call *kept = may_hold ? cohort_call_keep(call) : NULL;
    if (kept == NULL) { /* or no memory: the library answers for us */
        free(held);
        q->deed = DEED_SILENT;
        return;
    }
    uint64_t now_ns = cohort_sim_now_ns(p->run->sim);
    *held = (struct held){.next = p->held, .call = kept, .question = q, .refuse = cohort_sim_random(p->run->sim, 4) == 0};
    held->due_ns = now_ns + cohort_sim_random(p->run->sim, 3000) * MS;
    p->held = held;
    q->deed = DEED_KEPT;
}

void asker_tick(struct player *p, bool all)
{
    uint64_t now_ns = p->held == NULL ? 0 : cohort_sim_now_ns(p->run->sim);
    for (struct held **at = &p->held; *at != NULL;) {
        struct held *held = *at;
        if (!all && held->due_ns > now_ns) {
            at = &held->next;
            continue;
        }
        int status = COHORT_ENOMEM;
        for (int i = 0; i < 3 && status == COHORT_ENOMEM; i++) { /* an allocation fails once */
            status = give_reply(p->run, held->question, held->call, held->refuse);
        }
        if (status != COHORT_OK && status != COHORT_ENOPEER) {
            run_fail(p->run, "%s: a reply that was promised room: %s", p->id, cohort_error_name(status));
        }
        held->question->deed = status != COHORT_OK ? DEED_KEPT : held->refuse ? DEED_REFUSED : DEED_REPLIED;
        *at = held->next;
        free(held);
    }
}

static struct question *find(struct run *run, const uint8_t *data, size_t len)
{
    uint64_t number = UINT64_MAX;
    memcpy(&number, data, len < LEDGER_HEAD_BYTES ? 0 : sizeof number);
    struct question *q = number < run->asker.count ? run->asker.at[number] : NULL;
    uint64_t size = 0;
    memcpy(&size, data + sizeof number, q == NULL ? 0 : sizeof size);
    for (size_t i = LEDGER_HEAD_BYTES; q != NULL && i < len; i++) {
        q = data[i] == (uint8_t)(number * 3) ? q : NULL;
    }
    return size == len ? q : NULL;
}

static void on_question(cohort_node *node, const cohort_message *message, void *arg)
{
    struct player *p = arg;
    struct run *run = p->run;
    struct player *from = check_player(run, message->from);
    struct question *q = find(run, message->data, message->data_len);
    asker_tick(p, false);
    if (q == NULL || from == NULL || message->call == NULL || q->from != from->index || q->to != p->index ||
        strcmp(message->subject, subjects[q->lane]) != 0) {
        run_fail(run, "%s: a request nobody made like this, from %s", p->id, message->from);
        return;
    }
    if (q->deed != DEED_NOT_HANDLED) {
        run_fail(run, "%s handles request %" PRIu64 " of %s#%u twice", p->id, q->number, from->id, q->process);
    }
    if (!p->views[from->index].active && !p->views[from->index].may_finish && p->queue == NULL) {
        run_fail(run, "%s: a request of %s, which is INACTIVE", p->id, from->id);
    }
    uint32_t left_ms = cohort_call_time_left_ms(message->call);
    if ((left_ms == UINT32_MAX) != (q->deadline_ns == UINT64_MAX)) {
        run_fail(run, "%s: request %" PRIu64 " has %u ms left", p->id, q->number, left_ms);
    }
    uint64_t draw = cohort_sim_random(run->sim, 20);
    if (draw < 10) {
        q->deed = draw < 3 ? DEED_REFUSED : DEED_REPLIED; /* before: the result may come at once */
        int status = give_reply(run, q, message->call, draw < 3);
        q->stumbled = status == COHORT_ENOMEM || status == COHORT_EAGAIN;
        if (status == COHORT_EAGAIN) {
            ledger_full(p, from, q->lane);
        }
        if (status != COHORT_OK && status != COHORT_ENOPEER && status != COHORT_ECLOSED && !q->stumbled) {
            run_fail(run, "%s: reply to %s: %s", p->id, from->id, cohort_error_name(status));
        }
    } else if (draw < 13) {
        q->deed = DEED_SILENT;
    } else {
        hold(p, q, message->call);
    }
    emptier_linger(p);
}

/* ---- results ------------------------------------------------------------------------------------------------------- */

/* How long its loops may have stood still altogether. */
static uint64_t held_up_ns(const struct run *run, uint32_t index)
{
    uint64_t sum_ms = 0;
    for (uint32_t i = 0; i < run->scenario->action_count; i++) {
        const struct action *action = &run->scenario->actions[i];
        bool holds = action->verb == ACTION_PAUSE || action->verb == ACTION_STALL;
        sum_ms += holds && action->a == index ? (uint64_t)action->v : 0;
    }
    return sum_ms * MS;
}

/* Ended as its time was over: then, not before, and soon. */
static bool is_in_time(const struct question *q)
{
    uint64_t now_ns = cohort_sim_now_ns(q->run->sim);
    return q->deadline_ns != UINT64_MAX && now_ns >= q->deadline_ns;
}

static bool is_reply(const struct question *q, const cohort_result *result)
{
    uint8_t expected[REPLY_BYTES_MAX];
    if (q->deed != DEED_REPLIED || result->data_len != q->reply_len) {
        return false;
    }
    fill_reply(q, expected, q->reply_len);
    return memcmp(result->data, expected, q->reply_len) == 0;
}

static bool is_refusal(const struct question *q, const cohort_result *result)
{
    char text[32];
    snprintf(text, sizeof text, "no %" PRIu64, q->number);
    return q->deed == DEED_REFUSED && strcmp(result->text, text) == 0;
}

static bool is_true(const struct question *q, const cohort_result *result)
{
    const struct player *from = &q->run->players[q->from];
    const struct player *to = &q->run->players[q->to];
    bool removed = from->views[q->to].removed_once;
    switch (result->status) {
    case COHORT_OK:
        return is_reply(q, result);
    case COHORT_EHANDLER:
        return is_refusal(q, result);
    case COHORT_ENOREPLY:
        return q->deed == DEED_SILENT || q->stumbled;
    case COHORT_ETIMEDOUT:
        return is_in_time(q);
    case COHORT_ECANCELLED:
        return q->cancels;
    case COHORT_ECLOSED:
        return from->node == NULL;
    case COHORT_ERESTARTED:
        if (q->again && cohort_sim_now_ns(q->run->sim) == q->asked_ns) {
            return false; /* that was of the new process already */
        }
        return to->process > 1 || removed || to->views[q->from].removed_once;
    case COHORT_EREMOVED:
        return removed;
    default:
        return false;
    }
}

static void ask_one(struct run *run, struct player *from, struct player *to, bool again);

static void on_result(cohort_node *node, const cohort_result *result, void *arg)
{
    struct question *q = arg;
    struct run *run = q->run;
    struct player *from = &run->players[q->from];
    struct player *to = &run->players[q->to];
    if (q->ended) {
        run_fail(run, "%s: request %" PRIu64 " to %s ended with %s after it had ended with %s", from->id, q->number, to->id,
                 cohort_error_name(result->status), cohort_error_name(q->status));
    }
    if (from->process != q->process) {
        run_fail(run, "%s: request %" PRIu64 " of a process that is gone ended", from->id, q->number);
    }
    q->ended = true;
    q->status = result->status;
    if (strcmp(result->from, to->id) != 0 || !is_true(q, result)) {
        run_fail(run, "%s: request %" PRIu64 " to %s ended with %s, and that is not so", from->id, q->number, result->from,
                 cohort_error_name(result->status));
    }
    uint64_t now_ns = cohort_sim_now_ns(run->sim);
    if (q->deadline_ns != UINT64_MAX && now_ns > q->deadline_ns && now_ns - q->deadline_ns > LATE_NS + held_up_ns(run, q->from)) {
        run_fail(run, "%s: request %" PRIu64 " to %s ended %" PRIu64 " ms after its time", from->id, q->number, to->id,
                 (now_ns - q->deadline_ns) / MS);
    }
    if (result->status == COHORT_ERESTARTED && from->node != NULL && cohort_sim_random(run->sim, 2) == 0) {
        ask_one(run, from, to, true); /* as an application would */
    }
}

/* ---- asking -------------------------------------------------------------------------------------------------------- */

static struct question *new_question(struct run *run)
{
    struct asker *asker = &run->asker;
    if (asker->count == asker->cap) {
        uint64_t cap = asker->cap == 0 ? 64 : asker->cap * 2;
        struct question **grown = realloc(asker->at, cap * sizeof(struct question *));
        if (grown == NULL) {
            return NULL;
        }
        asker->at = grown;
        asker->cap = cap;
    }
    struct question *q = calloc(1, sizeof *q);
    asker->at[asker->count] = q;
    return q;
}

static uint32_t random_timeout_ms(struct run *run)
{
    uint64_t draw = cohort_sim_random(run->sim, 3);
    return draw == 0 ? 0 : 1 + (uint32_t)cohort_sim_random(run->sim, draw == 1 ? 20 : 5000);
}

/* By name, or over a route, which is all the same. */
static int send_question(struct question *q, const char *to, const void *data, size_t len, uint32_t timeout_ms, cohort_request_id *id)
{
    cohort_node *node = q->run->players[q->from].node;
    if (cohort_sim_random(q->run->sim, 2) == 0) {
        return cohort_request(node, to, subjects[q->lane], data, len, timeout_ms, on_result, q, id);
    }
    cohort_route *route = NULL;
    int status = cohort_route_open(node, to, subjects[q->lane], &route);
    if (status == COHORT_OK) {
        status = cohort_route_request(route, data, len, timeout_ms, on_result, q, id);
        cohort_route_close(route);
    }
    return status;
}

static void ask_one(struct run *run, struct player *from, struct player *to, bool again)
{
    struct question *q = new_question(run);
    uint64_t size = LEDGER_HEAD_BYTES + cohort_sim_random(run->sim, run->scenario->message_bytes_max - LEDGER_HEAD_BYTES + 1);
    uint8_t *data = malloc(size);
    cohort_request_id id = 0;
    if (q == NULL || data == NULL) {
        run_fail(run, "the simulator has no memory");
        free(q);
        free(data);
        return;
    }
    uint32_t timeout_ms = random_timeout_ms(run);
    uint64_t now_ns = cohort_sim_now_ns(run->sim);
    *q = (struct question){.run = run, .number = run->asker.count, .from = from->index, .process = from->process, .to = to->index};
    q->again = again;
    q->asked_ns = now_ns;
    q->lane = run->scenario->lanes ? (uint8_t)cohort_sim_random(run->sim, 3) : 0;
    q->deadline_ns = timeout_ms == 0 ? UINT64_MAX : now_ns + timeout_ms * MS;
    memset(data, (int)(q->number * 3), size);
    memcpy(data, &q->number, sizeof q->number);
    memcpy(data + sizeof q->number, &size, sizeof size);
    int status = send_question(q, to->id, data, size, timeout_ms, &id);
    free(data);
    if (status != COHORT_OK) {
        if (status == COHORT_EAGAIN) {
            ledger_full(from, to, q->lane);
        } else if (status != COHORT_ENOPEER && status != COHORT_ENOMEM) {
            run_fail(run, "%s: request to %s: %s", from->id, to->id, cohort_error_name(status));
        }
        free(q);
        return;
    }
    run->asker.count++;
    if (cohort_sim_random(run->sim, 12) == 0) {
        q->cancels = true;
        if (cohort_cancel(from->node, to->id, id) != COHORT_OK || !q->ended || q->status != COHORT_ECANCELLED) {
            run_fail(run, "%s: request %" PRIu64 " to %s cannot be cancelled", from->id, q->number, to->id);
        }
    }
}

void asker_ask(struct run *run, struct player *from, struct player *to, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        ask_one(run, from, to, false);
    }
}

int asker_prepare(struct player *p)
{
    cohort_subject_options options;
    cohort_handle_id ignored = 0;
    COHORT_SUBJECT_OPTIONS_INIT(&options);
    int status = COHORT_OK;
    for (unsigned lane = 0; lane < 3 && status == COHORT_OK; lane++) {
        options.lane = (cohort_lane)lane;
        status = lane == 0 ? COHORT_OK : cohort_subject_set(p->node, subjects[lane], &options);
        if (status == COHORT_OK) {
            status = p->queue == NULL ? cohort_handle(p->node, subjects[lane], on_question, p, NULL, &ignored)
                                      : cohort_handle_in(p->node, p->queue, subjects[lane], on_question, p, NULL, &ignored);
        }
    }
    return status;
}

/* ---- the end ------------------------------------------------------------------------------------------------------- */

void asker_before_end(struct player *p)
{
    asker_tick(p, true);
}

void asker_ended(struct player *p, bool closed)
{
    struct run *run = p->run;
    for (uint64_t i = 0; i < run->asker.count; i++) {
        const struct question *q = run->asker.at[i];
        if (closed && q->from == p->index && q->process == p->process && !q->ended) {
            run_fail(run, "%s closed, and request %" PRIu64 " has not ended", p->id, q->number);
        }
    }
}

/* Of a process that lives. */
static bool is_open(const struct run *run, const struct question *q)
{
    const struct player *from = &run->players[q->from];
    return !q->ended && from->node != NULL && from->process == q->process;
}

bool asker_settled(void *arg)
{
    const struct run *run = arg;
    for (uint64_t i = 0; i < run->asker.count; i++) {
        if (is_open(run, run->asker.at[i])) {
            return false;
        }
    }
    return true;
}

/* Only what had ended before its reply can have come late. */
static void judge_late_replies(struct run *run, const struct player *p)
{
    cohort_node_stats stats;
    uint64_t may_be_late = 0;
    for (uint64_t i = 0; i < run->asker.count; i++) {
        const struct question *q = run->asker.at[i];
        bool early = q->status == COHORT_ETIMEDOUT || q->status == COHORT_ECANCELLED || q->status == COHORT_ERESTARTED ||
                     q->status == COHORT_EREMOVED;
        may_be_late += q->from == p->index && q->process == p->process && q->ended && early;
    }
    cohort_node_stats_get(p->node, &stats);
    if (stats.replies_late > may_be_late) {
        run_fail(run, "%s: %" PRIu64 " replies came late, of at most %" PRIu64 " that could", p->id, stats.replies_late, may_be_late);
    }
}

void asker_judge(struct run *run)
{
    for (uint64_t i = 0; i < run->asker.count; i++) {
        const struct question *q = run->asker.at[i];
        if (is_open(run, q)) {
            run_fail(run, "request %" PRIu64 " of n%u#%u to n%u has not ended: %s%s", q->number, q->from, q->process, q->to,
                     deeds[q->deed], q->stumbled ? ", or tried to" : "");
            return;
        }
    }
    for (uint32_t i = 0; i < run->scenario->nodes && run->asker.count > 0; i++) {
        judge_late_replies(run, &run->players[i]);
    }
}

void asker_free(struct asker *asker)
{
    for (uint64_t i = 0; i < asker->count; i++) {
        free(asker->at[i]);
    }
    free(asker->at);
}
