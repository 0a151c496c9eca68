/* SPDX-License-Identifier: Apache-2.0
 *
 * A page for each (process of a sender, receiver), an entry for each message accepted. Numbers are given by the ledger, so nothing
 * the library says is taken on trust.
 *
 * Judged at once: a message is handled once at most, by any process of the receiver; when it is, all accepted before it in its lane
 * were handled or told as undelivered; what was told as certainly not handled never is, and nothing is told while both processes
 * live and neither removed the other. Judged at the end: nothing is forgotten.
 *
 * Where a process has queues, handled means handed to the process: then the message is acknowledged. It comes out of the queue once, in
 * order, unless the process ends before; with that it is lost, and nobody is told.
 */
#include "sim/ledger.h"

#include "sim/run_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BEYOND_CREDIT_BYTES 66560 /* docs/protocol.md, ACK */

const char *const ledger_subjects[3] = {"sim", "sim/control", "sim/bulk"};

struct entry {
    size_t size;
    uint8_t lane;
    bool handled, told, certainly_not;
    bool queued, dequeued;
    uint32_t handled_by; /* the process of the receiver */
};

struct ledger_page {
    struct ledger_page *next, *next_of_pair;
    uint32_t from, process, to;
    uint64_t count, cap;
    uint64_t out_bytes[3]; /* of each lane: neither handled nor told */
    uint64_t settled[3];   /* of each lane: all before are handled or told */
    uint64_t dequeued[3];  /* all before came out of the queue of their process, or never will */
    struct entry *entries;
};

static struct ledger_page *page_of(struct run *run, uint32_t from, uint32_t process, uint32_t to)
{
    uint32_t nodes = run->scenario->nodes;
    struct ledger_page *page = from < nodes && to < nodes ? run->ledger.of_pair[from * nodes + to] : NULL;
    while (page != NULL && page->process != process) {
        page = page->next_of_pair;
    }
    return page;
}

static struct entry *new_entry(struct run *run, struct player *from, struct player *to, struct ledger_page **out)
{
    struct ledger_page *page = page_of(run, from->index, from->process, to->index);
    if (page == NULL) {
        page = calloc(1, sizeof *page);
        if (page == NULL) {
            return NULL;
        }
        *page = (struct ledger_page){.next = run->ledger.pages, .from = from->index, .process = from->process, .to = to->index};
        run->ledger.pages = page;
        struct ledger_page **of_pair = &run->ledger.of_pair[from->index * run->scenario->nodes + to->index];
        page->next_of_pair = *of_pair;
        *of_pair = page;
    }
    if (page->count == page->cap) {
        uint64_t cap = page->cap == 0 ? 4 : page->cap * 2;
        struct entry *grown = realloc(page->entries, cap * sizeof *grown);
        if (grown == NULL) {
            return NULL;
        }
        page->entries = grown;
        page->cap = cap;
    }
    *out = page;
    memset(&page->entries[page->count], 0, sizeof page->entries[0]);
    return &page->entries[page->count];
}

int ledger_prepare(const struct run *run, cohort_node *node)
{
    cohort_subject_options options;
    COHORT_SUBJECT_OPTIONS_INIT(&options);
    int status = COHORT_OK;
    for (unsigned lane = 1; lane < 3 && status == COHORT_OK; lane++) {
        options.lane = (cohort_lane)lane;
        options.ttl_ms = lane == COHORT_LANE_BULK ? run->scenario->ttl_ms : 0;
        status = cohort_subject_set(node, ledger_subjects[lane], &options);
    }
    return status;
}

/* ---- sending ------------------------------------------------------------------------------------------------------- */

static void fill(uint8_t *data, size_t size, const struct ledger_page *page, uint64_t number, unsigned lane)
{
    const uint32_t head[4] = {page->from, page->process, page->to, lane};
    memset(data, (int)(number * 7 + lane), size);
    memcpy(data, head, sizeof head);
    memcpy(data + sizeof head, &number, sizeof number);
}

/* Returns what cohort_send() said. */
static int send_in(struct run *run, struct player *from, struct player *to, size_t size, unsigned lane)
{
    struct ledger_page *page = NULL;
    struct entry *entry = new_entry(run, from, to, &page);
    uint8_t *data = malloc(size);
    if (entry == NULL || data == NULL) {
        run_fail(run, "the simulator has no memory");
        free(data);
        return COHORT_ENOMEM;
    }
    fill(data, size, page, page->count, lane);
    bool lends = page->count % 2 == 1; /* the library gives it back; whoever reads it later reads what was freed */
    int status = lends ? cohort_send_ref(from->node, to->id, ledger_subjects[lane], data, size, free, data)
                       : cohort_send(from->node, to->id, ledger_subjects[lane], data, size);
    if (!lends || status != COHORT_OK) {
        free(data);
    }
    if (status == COHORT_OK) {
        entry->lane = (uint8_t)lane;
        entry->size = size;
        page->count++;
        page->out_bytes[lane] += size;
        /* Of the message being put together at the other end, the pieces are acknowledged. */
        if (page->out_bytes[lane] > from->queue_bytes_max + run->scenario->message_bytes_max) {
            run_fail(run, "%s: %" PRIu64 " bytes to %s were accepted in one lane and did not arrive yet", from->id,
                     page->out_bytes[lane], to->id);
        }
    } else if (status == COHORT_EAGAIN) {
        ledger_full(from, to, lane);
    } else if (status != COHORT_ENOPEER && status != COHORT_ENOMEM) {
        run_fail(run, "%s: send to %s: %s", from->id, to->id, cohort_error_name(status));
    }
    return status;
}

static unsigned draw_lane(struct run *run)
{
    return run->scenario->lanes ? (unsigned)cohort_sim_random(run->sim, 3) : 0;
}

void ledger_send(struct run *run, struct player *from, struct player *to, size_t size)
{
    (void)send_in(run, from, to, size, draw_lane(run));
}

/* ---- back-pressure -------------------------------------------------------------------------------------------------- */

static void send_wanted(struct run *run, struct player *from, struct player *to, unsigned lane)
{
    struct view *v = &from->views[to->index];
    uint32_t more = run->scenario->message_bytes_max - LEDGER_HEAD_BYTES + 1;
    while (v->wants[lane] > 0) {
        if (send_in(run, from, to, LEDGER_HEAD_BYTES + cohort_sim_random(run->sim, more), lane) == COHORT_EAGAIN) {
            return;
        }
        v->wants[lane]--; /* sent; or its member, or memory, is gone, and it with that */
    }
}

void ledger_flood(struct run *run, struct player *from, struct player *to, int64_t count)
{
    struct view *v = &from->views[to->index];
    for (int64_t i = 0; i < count; i++) {
        v->wants[draw_lane(run)]++;
    }
    for (unsigned lane = 0; lane < 3; lane++) {
        if (!v->full[lane]) {
            send_wanted(run, from, to, lane);
        }
    }
}

void ledger_full(struct player *from, const struct player *to, unsigned lane)
{
    struct view *v = &from->views[to->index];
    v->full_again[lane] = v->full_again[lane] || v->full[lane]; /* perhaps of room for the first it is being told just now */
    v->full[lane] = true;
}

void ledger_writable(cohort_node *node, const char *id, cohort_lane lane, void *arg)
{
    struct player *from = arg;
    struct player *to = check_player(from->run, id);
    struct view *v = to == NULL ? NULL : &from->views[to->index];
    if (v == NULL || (!v->full[lane] && !v->full_again[lane] && !v->removed_once)) {
        run_fail(from->run, "%s was told of room for %s, and nothing had been refused", from->id, id);
        return;
    }
    v->full_again[lane] = v->full_again[lane] && v->full[lane];
    v->full[lane] = false;
    if (from->node != NULL) {
        send_wanted(from->run, from, to, lane);
    }
}

/* Whoever was refused is told of room. */
static const struct player *find_waiting_for_room(const struct run *run)
{
    for (uint32_t i = 0; i < run->scenario->nodes; i++) {
        const struct player *p = &run->players[i];
        for (uint32_t j = 0; p->node != NULL && j < run->scenario->nodes; j++) {
            if (p->views[j].full[0] || p->views[j].full[1] || p->views[j].full[2]) {
                return p;
            }
        }
    }
    return NULL;
}

/* ---- what became of it --------------------------------------------------------------------------------------------- */

/* The page and entry a message or report is about; NULL when its bytes are not as they were sent. */
static struct entry *find(struct run *run, const uint8_t *data, size_t size, struct ledger_page **page, uint64_t *number)
{
    uint32_t head[4];
    if (size < LEDGER_HEAD_BYTES) {
        return NULL;
    }
    memcpy(head, data, sizeof head);
    memcpy(number, data + sizeof head, sizeof *number);
    *page = page_of(run, head[0], head[1], head[2]);
    if (*page == NULL || *number >= (*page)->count || head[3] != (*page)->entries[*number].lane) {
        return NULL;
    }
    for (size_t i = LEDGER_HEAD_BYTES; i < size; i++) {
        if (data[i] != (uint8_t)(*number * 7 + head[3])) {
            return NULL;
        }
    }
    return &(*page)->entries[*number];
}

static void check_order(struct run *run, struct ledger_page *page, uint64_t number, unsigned lane)
{
    uint64_t *at = &page->settled[lane];
    for (; *at < number; (*at)++) {
        const struct entry *before = &page->entries[*at];
        if (before->lane == lane && !before->handled && !before->told) {
            run_fail(run, "n%u handles message %" PRIu64 " of n%u#%u, and %" PRIu64 " of that lane is missing", page->to, number,
                     page->from, page->process, *at);
            return;
        }
    }
    for (uint64_t i = number + 1; i < page->count && i < *at; i++) {
        if (page->entries[i].lane == lane && page->entries[i].handled) {
            run_fail(run, "n%u handles message %" PRIu64 " of n%u#%u after %" PRIu64 " of that lane", page->to, number, page->from,
                     page->process, i);
            return;
        }
    }
}

/* What waits in a queue is bounded by the credit of its lane, and by what a peer may write beyond it. */
static void put_into_queue(struct run *run, struct player *by, const struct player *from, const struct entry *entry)
{
    struct view *v = &by->views[from->index];
    v->queued_bytes[entry->lane] += entry->size;
    uint64_t bound = by->window_bytes + BEYOND_CREDIT_BYTES + run->scenario->message_bytes_max;
    if (v->queued_bytes[entry->lane] > bound && !v->removed_once) { /* with the membership the count begins anew */
        run_fail(run, "%" PRIu64 " bytes of %s wait in a queue of %s, in one lane", v->queued_bytes[entry->lane], from->id, by->id);
    }
}

bool ledger_handled(struct run *run, struct player *by, struct player *from, const cohort_message *message, uint32_t *process)
{
    struct ledger_page *page = NULL;
    uint64_t number = 0;
    struct entry *entry = find(run, message->data, message->data_len, &page, &number);
    if (entry == NULL || page->from != from->index || page->to != by->index ||
        strcmp(message->subject, ledger_subjects[entry->lane]) != 0) {
        run_fail(run, "%s: a message nobody sent like this, from %s", by->id, message->from);
        return false;
    }
    *process = page->process;
    if (entry->handled) {
        run_fail(run, "%s handles message %" PRIu64 " of %s#%u twice", by->id, number, from->id, page->process);
    }
    if (entry->certainly_not) {
        run_fail(run, "%s handles message %" PRIu64 " of %s#%u, which was told as not handled", by->id, number, from->id,
                 page->process);
    }
    check_order(run, page, number, entry->lane);
    page->out_bytes[entry->lane] -= entry->handled || entry->told ? 0 : entry->size;
    entry->handled = true;
    entry->handled_by = by->process;
    entry->queued = by->queue != NULL;
    if (entry->queued) {
        put_into_queue(run, by, from, entry);
    }
    return true;
}

/* ---- queues --------------------------------------------------------------------------------------------------------- */

static bool waits(const struct entry *entry, const struct player *by)
{
    return entry->queued && !entry->dequeued && entry->handled_by == by->process;
}

void ledger_dequeued(struct run *run, struct player *by, const cohort_message *message)
{
    struct ledger_page *page = NULL;
    uint64_t number = 0;
    struct entry *entry = find(run, message->data, message->data_len, &page, &number);
    if (entry == NULL || page->to != by->index || strcmp(message->from, run->players[page->from].id) != 0 || !waits(entry, by) ||
        strcmp(message->subject, ledger_subjects[entry->lane]) != 0) {
        run_fail(run, "%s#%u: a message out of a queue that does not wait there, from %s", by->id, by->process, message->from);
        return;
    }
    uint64_t *at = &page->dequeued[entry->lane];
    for (; *at < number; (*at)++) {
        const struct entry *before = &page->entries[*at];
        if (before->lane == entry->lane && waits(before, by)) {
            run_fail(run, "%s: message %" PRIu64 " of n%u#%u comes out of a queue before %" PRIu64, by->id, number, page->from,
                     page->process, *at);
            return;
        }
    }
    entry->dequeued = true;
    by->views[page->from].queued_bytes[entry->lane] -= entry->size;
}

/* How many wait in the queue of this process; `first` describes one. */
static uint64_t waiting(const struct run *run, const struct player *by, const struct ledger_page **page, uint64_t *first)
{
    uint64_t count = 0;
    for (const struct ledger_page *it = run->ledger.pages; it != NULL && by->queue != NULL; it = it->next) {
        for (uint64_t i = 0; it->to == by->index && i < it->count; i++) {
            if (waits(&it->entries[i], by)) {
                *page = it;
                *first = i;
                count++;
            }
        }
    }
    return count;
}

void ledger_check_emptied(struct run *run, const struct player *by)
{
    const struct ledger_page *page = NULL;
    uint64_t first = 0;
    uint64_t count = waiting(run, by, &page, &first);
    if (count > 0) {
        run_fail(run, "%" PRIu64 " messages never came out of the queue of %s#%u, one is %" PRIu64 " of n%u#%u", count, by->id,
                 by->process, first, page->from, page->process);
    }
}

static bool may_be_lost(const struct run *run, const struct player *from, const struct player *to)
{
    const struct view *v = &from->views[to->index];
    return to->process > 1 || v->removed_once || to->views[from->index].removed_once || from->node == NULL;
}

/* A large message of which the first chunks were acknowledged: one that was handled, and the acknowledgement lost, or the oldest of its
 * lane that is open. Or one that expired, and there was no memory to put it together: those before it may be under way. */
static struct entry *find_without_body(struct run *run, const struct player *from, const struct player *to,
                                       const cohort_undelivered *report, struct ledger_page **page, uint64_t *number)
{
    *page = to == NULL ? NULL : page_of(run, from->index, from->process, to->index);
    for (uint64_t i = 0; *page != NULL && i < (*page)->count; i++) {
        struct entry *entry = &(*page)->entries[i];
        bool same_size = entry->size == report->data_len;
        if (entry->lane != report->lane || entry->told) {
            continue;
        }
        *number = i;
        if (entry->handled && report->maybe_handled && same_size) {
            return entry;
        }
        if (!entry->handled && (same_size || report->reason != COHORT_ETIMEDOUT)) {
            return same_size ? entry : NULL;
        }
    }
    return NULL;
}

void ledger_undelivered(cohort_node *node, const cohort_undelivered *report, void *arg)
{
    struct player *from = arg;
    struct run *run = from->run;
    struct player *to = check_player(run, report->to);
    struct ledger_page *page = NULL;
    uint64_t number = 0;
    struct entry *entry = report->data != NULL ? find(run, report->data, report->data_len, &page, &number)
                                               : find_without_body(run, from, to, report, &page, &number);
    if (entry == NULL || to == NULL || page->from != from->index || page->process != from->process || page->to != to->index) {
        run_fail(run, "%s was told of a message to %s that it never sent", from->id, report->to);
        return;
    }
    if (entry->told || (entry->handled && !report->maybe_handled)) {
        run_fail(run, "%s: message %" PRIu64 " to %s told as undelivered, %s", from->id, number, to->id,
                 entry->told ? "again" : "not handled, and it was");
    }
    bool expired = report->reason == COHORT_ETIMEDOUT && run->scenario->ttl_ms > 0 && report->lane == COHORT_LANE_BULK;
    if (expired && report->maybe_handled) {
        run_fail(run, "%s: message %" PRIu64 " to %s expired after it was written", from->id, number, to->id);
    }
    if (!expired && !may_be_lost(run, from, to)) {
        run_fail(run, "%s: message %" PRIu64 " to %s told as undelivered (%s), and both live", from->id, number, to->id,
                 cohort_error_name(report->reason));
    }
    run->final_received += run->settled; /* of the last ones, some may expire behind what waits */
    page->out_bytes[entry->lane] -= entry->handled || entry->told ? 0 : entry->size;
    entry->told = true;
    entry->certainly_not = !report->maybe_handled;
}

/* ---- the end ------------------------------------------------------------------------------------------------------- */

static uint64_t missing(const struct ledger_page *page, uint64_t *first)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < page->count; i++) {
        if (!page->entries[i].handled && !page->entries[i].told) {
            *first = count == 0 ? i : *first;
            count++;
        }
    }
    return count;
}

static bool is_alive(const struct run *run, const struct ledger_page *page)
{
    const struct player *from = &run->players[page->from];
    return from->node != NULL && from->process == page->process;
}

bool ledger_settled(void *arg)
{
    const struct run *run = arg;
    uint64_t first = 0;
    for (const struct ledger_page *page = run->ledger.pages; page != NULL; page = page->next) {
        if (is_alive(run, page) && missing(page, &first) > 0) {
            return false;
        }
    }
    const struct ledger_page *page = NULL;
    for (uint32_t i = 0; i < run->scenario->nodes && run->scenario->queues; i++) {
        if (run->players[i].node != NULL && waiting(run, &run->players[i], &page, &first) > 0) {
            return false;
        }
    }
    return find_waiting_for_room(run) == NULL;
}

void ledger_judge(struct run *run)
{
    const struct player *waits = find_waiting_for_room(run);
    if (waits != NULL) {
        run_fail(run, "%s was refused for want of room, and never told that there is some", waits->id);
    }
    for (uint32_t i = 0; i < run->scenario->nodes && run->scenario->queues; i++) {
        if (run->players[i].node != NULL) {
            ledger_check_emptied(run, &run->players[i]);
        }
    }
    for (const struct ledger_page *page = run->ledger.pages; page != NULL; page = page->next) {
        uint64_t first = 0;
        uint64_t count = is_alive(run, page) ? missing(page, &first) : 0;
        if (count > 0) {
            run_fail(run, "%" PRIu64 " messages of n%u#%u to n%u were neither handled nor told, %" PRIu64 " is the first", count,
                     page->from, page->process, page->to, first);
            return;
        }
    }
}

int ledger_open(struct ledger *ledger, uint32_t nodes)
{
    ledger->of_pair = calloc((size_t)nodes * nodes, sizeof(struct ledger_page *));
    return ledger->of_pair == NULL ? COHORT_ENOMEM : COHORT_OK;
}

void ledger_free(struct ledger *ledger)
{
    free(ledger->of_pair);
    while (ledger->pages != NULL) {
        struct ledger_page *page = ledger->pages;
        ledger->pages = page->next;
        free(page->entries);
        free(page);
    }
}
