/* SPDX-License-Identifier: Apache-2.0
 *
 * The checks of every run. They look through the public API only, as an application would, and at the network's own count of
 * connections.
 */
#include "base/text.h"
#include "sim/run_internal.h"

#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Memory of one process when nothing waits: its tables and the receive buffers of its loops, and of each peer a connection and a session.
 * Threads of a queue keep some entries. */
#define IDLE_BASE_BYTES (UINT64_C(640) * 1024)
#define IDLE_LOOP_BYTES (UINT64_C(288) * 1024)
#define IDLE_PEER_BYTES (UINT64_C(16) * 1024)
#define IDLE_QUEUE_BYTES (UINT64_C(3) * 1024 * 1024)
/* Then what docs/limits.md allows: blocks at worst half full; a message being put together in each lane; small messages in a queue,
 * which take some twenty times what they count. */
#define LANES UINT64_C(3)
#define BLOCKS_TIMES UINT64_C(2)
#define QUEUED_TIMES UINT64_C(20)
#define BUSY_BASE_BYTES (UINT64_C(1024) * 1024)

void run_fail(struct run *run, const char *format, ...)
{
    if (!run->result->passed) {
        return; /* the first is the cause */
    }
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    run->result->passed = false;
    snprintf(run->result->failure, sizeof run->result->failure, "at %.6f s: %s", (double)cohort_sim_now_ns(run->sim) / 1e9, text);
    cohort_sim_note(run->sim, run->result->failure);
}

struct player *check_player(struct run *run, const char *id)
{
    char *end = NULL;
    unsigned long index = id[0] == 'n' ? strtoul(id + 1, &end, 10) : ULONG_MAX;
    return index < run->scenario->nodes && *end == '\0' ? &run->players[index] : NULL;
}

/* ---- events -------------------------------------------------------------------------------------------------------- */

static void note_event(struct player *p, const cohort_event *event)
{
    char line[256];
    struct cohorti_text text; /* not snprintf: a thousand nodes tell of a million members */
    cohorti_text_init(&text, line, sizeof line);
    cohorti_text_add(&text, p->id);
    cohorti_text_add(&text, "#");
    cohorti_text_add_u64(&text, p->process);
    cohorti_text_add(&text, ": ");
    cohorti_text_add(&text, event->member.id);
    cohorti_text_add(&text, " ");
    cohorti_text_add(&text, cohort_event_name(event->type));
    cohorti_text_add(&text, " (");
    cohorti_text_add(&text, cohort_error_name(event->reason));
    cohorti_text_add(&text, ")");
    cohort_sim_note(p->run->sim, line);
}

/* A process that hears ACTIVATED reaches the member at once. If the link has ended meanwhile, DEACTIVATED follows in the same breath. */
static void try_the_door(struct player *p, cohort_node *node, struct player *other, struct view *v, bool activates)
{
    uint64_t now_ns = cohort_sim_now_ns(p->run->sim);
    if (v->closed_door_ns != 0 && now_ns - v->closed_door_ns > 10 * MS) {
        run_fail(p->run, "%s: %s was ACTIVATED and could not be reached", p->id, other->id);
    }
    v->closed_door_ns = 0;
    if (activates) {
        int status = cohort_echo(node, other->id, NULL, 0, 2000, check_echo, p);
        p->echoes_out += status == COHORT_OK;
        v->closed_door_ns = status == COHORT_EINACTIVE ? now_ns : 0;
    }
}

void check_incarnation(struct player *p)
{
    if (p->node != NULL) {
        cohort_member self;
        cohort_node_local(p->node, &self);
        p->incarnation_max = self.incarnation > p->incarnation_max ? self.incarnation : p->incarnation_max;
    }
}

/* All are nodes of cohort, and what the network does to their bytes TCP mends: nobody ever breaks the protocol. The dialler would hide it. */
void check_protocol(struct player *p)
{
    static const int broken[] = {COHORT_EMARKER,   COHORT_ELENGTH,  COHORT_EHELLO, COHORT_ENOHELLO,  COHORT_EHELLOTWICE,
                                 COHORT_EPROTOCOL, COHORT_EVERSION, COHORT_EOWNID, COHORT_EIDENTITY, COHORT_ECLUSTER};
    cohort_node_stats stats;
    cohort_node_stats_get(p->node, &stats);
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        if (stats.errors[-broken[i]] > 0) {
            run_fail(p->run, "%s ended %" PRIu64 " links with %s", p->id, stats.errors[-broken[i]], cohort_error_name(broken[i]));
        }
    }
}

/* What is shown of a member never falls, and was that of a process of it. */
static void judge_incarnation(struct player *p, struct player *other, struct view *v, const cohort_event *event)
{
    check_incarnation(other);
    uint64_t shown = event->member.incarnation;
    if (event->type != COHORT_MEMBER_ADDED && shown < v->incarnation) {
        run_fail(p->run, "%s: the incarnation of %s fell from %" PRIu64 " to %" PRIu64, p->id, other->id, v->incarnation, shown);
    }
    if (shown > other->incarnation_max) {
        run_fail(p->run, "%s: no process of %s had incarnation %" PRIu64, p->id, other->id, shown);
    }
    v->incarnation = shown;
}

void check_event(cohort_node *node, const cohort_event *event, void *arg)
{
    struct player *p = arg;
    struct player *other = check_player(p->run, event->member.id);
    note_event(p, event);
    if (other == NULL || other == p) {
        run_fail(p->run, "%s was told of %s", p->id, event->member.id);
        return;
    }
    struct view *v = &p->views[other->index];
    const char *name = cohort_event_name(event->type);
    bool adds = event->type == COHORT_MEMBER_ADDED;
    bool activates = event->type == COHORT_MEMBER_ACTIVATED;
    if (v->removed && event->type != COHORT_MEMBER_REMOVED && event->type != COHORT_MEMBER_DEACTIVATED) {
        run_fail(p->run, "%s: %s came back, which was removed", p->id, other->id);
    }
    if (adds ? v->member : !v->member) {
        run_fail(p->run, "%s: %s of %s, which %s a member", p->id, name, other->id, v->member ? "is" : "is not");
    }
    if (activates ? v->active : event->type == COHORT_MEMBER_DEACTIVATED ? !v->active : v->active) {
        run_fail(p->run, "%s: %s of %s, which is %s", p->id, name, other->id, v->active ? "ACTIVE" : "INACTIVE");
    }
    p->run->views_changed = true;
    judge_incarnation(p, other, v, event);
    try_the_door(p, node, other, v, activates);
    v->member = event->type != COHORT_MEMBER_REMOVED;
    v->removed = v->removed || !v->member;
    if (!v->member) { /* nobody is told of room for it any more */
        memset(v->full, 0, sizeof v->full);
        memset(v->wants, 0, sizeof v->wants);
    }
    v->active = activates;
    v->link_is_new = activates;
    if (activates || event->type == COHORT_MEMBER_DEACTIVATED) {
        v->may_finish = event->reason == COHORT_EREMOVED || event->reason == COHORT_ERESTARTED;
    }
    if (v->member && cohort_node_state(node, other->id) != (v->active ? COHORT_ACTIVE : COHORT_INACTIVE)) {
        run_fail(p->run, "%s: at %s of %s the state says otherwise", p->id, name, other->id);
    }
}

/* ---- messages ------------------------------------------------------------------------------------------------------ */

/* Once and in order is for the ledger; here, that it comes from a process whose coming was told. */
void check_message(cohort_node *node, const cohort_message *message, void *arg)
{
    struct player *p = arg;
    struct player *from = check_player(p->run, message->from);
    uint32_t process = 0;
    if (from == NULL) {
        run_fail(p->run, "%s: a message from %s, which is nobody", p->id, message->from);
        return;
    }
    if (!ledger_handled(p->run, p, from, message, &process)) {
        return;
    }
    struct view *v = &p->views[from->index];
    if (!v->active && !v->may_finish) {
        run_fail(p->run, "%s: a message from %s, which is INACTIVE", p->id, from->id);
    }
    if (process != v->process && v->process != 0 && !v->link_is_new) {
        run_fail(p->run, "%s: %s#%u speaks, and nobody said that #%u had gone", p->id, from->id, process, v->process);
    }
    if (process < v->process) {
        run_fail(p->run, "%s: %s#%u speaks after #%u", p->id, from->id, process, v->process);
    }
    if (v->handles) {
        run_fail(p->run, "%s: a message of %s while its handler still runs for another", p->id, from->id);
    }
    v->process = process;
    v->link_is_new = false;
    asker_tick(p, false);
    p->run->result->messages++;
    p->run->final_received += p->run->settled;
    int64_t stall_ms = p->stall_ms;
    p->stall_ms = 0;
    v->handles = true;
    if (stall_ms > 0) {
        run_stall(p->run, (uint64_t)stall_ms * MS);
    }
    v->handles = false;
}

void check_echo(cohort_node *node, const char *id, int status, uint64_t rtt_ns, void *arg)
{
    struct player *p = arg;
    if (p->echoes_out == 0) {
        run_fail(p->run, "%s: an echo completed twice", p->id);
        return;
    }
    p->echoes_out--;
}

/* ---- memory -------------------------------------------------------------------------------------------------------- */

static bool fails(struct player *p)
{
    return p->fail_in > 0 && --p->fail_in == 0;
}

static void count(struct player *p, uint64_t size)
{
    p->blocks++;
    p->bytes += size;
    if (p->bytes > p->bytes_max) {
        run_fail(p->run, "%s holds %" PRIu64 " bytes, and limits allow %" PRIu64, p->id, p->bytes, p->bytes_max);
    }
}

static uint64_t idle_bytes(const struct player *p)
{
    return IDLE_BASE_BYTES + IDLE_LOOP_BYTES * p->run->scenario->loops + IDLE_PEER_BYTES * p->run->scenario->nodes +
           (p->run->scenario->queues ? IDLE_QUEUE_BYTES : 0);
}

void check_limits(struct player *p, const cohort_limits *limits)
{
    uint64_t lane = BLOCKS_TIMES * limits->peer_queue_bytes_max + limits->message_bytes_max;
    if (p->run->scenario->queues) {
        lane += QUEUED_TIMES * (limits->window_bytes + 65536) + limits->message_bytes_max;
    }
    p->bytes_max = idle_bytes(p) + BUSY_BASE_BYTES + LANES * lane * p->run->scenario->nodes;
}

/* Nothing waits any more: what it took is given back. */
bool check_idle(void *arg)
{
    struct run *run = arg;
    for (uint32_t i = 0; i < run->scenario->nodes; i++) {
        if (run->players[i].bytes > idle_bytes(&run->players[i])) {
            run->wrong_i = i;
            return false;
        }
    }
    return true;
}

/* Before each block stands its size. */
static void *counted_allocate(void *ctx, size_t size)
{
    struct player *p = ctx;
    uint64_t *block = fails(p) ? NULL : pool_take(&p->run->pool, size + 16);
    if (block == NULL) {
        return NULL;
    }
    block[0] = size;
    count(p, size);
    return block + 2;
}

static void counted_release(void *ctx, void *ptr)
{
    struct player *p = ctx;
    uint64_t *block = (uint64_t *)ptr - 2;
    p->blocks--;
    p->bytes -= block[0];
    pool_give(&p->run->pool, block, block[0] + 16);
}

static void *counted_reallocate(void *ctx, void *ptr, size_t size)
{
    void *grown = counted_allocate(ctx, size);
    if (grown != NULL && ptr != NULL) {
        uint64_t old_size = ((uint64_t *)ptr - 2)[0];
        memcpy(grown, ptr, old_size < size ? old_size : size);
        counted_release(ctx, ptr);
    }
    return grown;
}

void check_allocator(struct player *p)
{
    p->allocator =
        (cohort_allocator){.allocate = counted_allocate, .reallocate = counted_reallocate, .release = counted_release, .ctx = p};
}

void check_process_ended(struct player *p)
{
    if (p->blocks != 0) {
        run_fail(p->run, "%s#%u left %" PRIu64 " blocks of memory, %" PRIu64 " bytes", p->id, p->process, p->blocks, p->bytes);
    }
    p->fail_in = 0;
    for (uint32_t i = 0; i < p->run->scenario->nodes; i++) {
        p->views[i] = (struct view){.removed_once = p->views[i].removed_once};
    }
    p->stall_ms = 0;
}

/* ---- the end ------------------------------------------------------------------------------------------------------- */

static bool is_active(const struct run *run, uint32_t i, uint32_t j)
{
    return run->players[i].node != NULL && run->players[i].views[j].active;
}

static bool can_reach(const struct player *a, const struct player *b)
{
    const struct view *from_a = &a->views[b->index];
    const struct view *from_b = &b->views[a->index];
    bool same_side = a->group == 0 || b->group == 0 || a->group == b->group;
    return b->node != NULL && same_side && !a->cut[b->index] && !b->cut[a->index] && !from_a->removed && !from_b->removed;
}

static bool is_seen_as_it_is(const struct run *run, uint32_t i, uint32_t j)
{
    const struct player *a = &run->players[i];
    return a->node == NULL || a->views[j].active == can_reach(a, &run->players[j]);
}

/* Every ordered pair is as it should be. Judged again only when some view has changed, and all of them only when the pair that was
 * found wrong last is right now. */
static bool judge(struct run *run, bool (*right)(const struct run *run, uint32_t i, uint32_t j))
{
    if (!run->views_changed) {
        return run->judged_well;
    }
    run->views_changed = false;
    run->judged_well = false;
    if (run->wrong_i != run->wrong_j && !right(run, run->wrong_i, run->wrong_j)) {
        return false;
    }
    for (uint32_t i = 0; i < run->scenario->nodes; i++) {
        for (uint32_t j = 0; j < run->scenario->nodes; j++) {
            if (i != j && !right(run, i, j)) {
                run->wrong_i = i;
                run->wrong_j = j;
                return false;
            }
        }
    }
    run->judged_well = true;
    return true;
}

bool check_converged(void *arg)
{
    return judge(arg, is_active);
}

bool check_faults_seen(void *arg)
{
    return judge(arg, is_seen_as_it_is);
}

/* A link stands to the process that runs, so what is shown is an incarnation of that process: the one it began with, or one it took
 * since, of which older links know nothing. */
static void check_shown_incarnations(struct run *run, struct player *p)
{
    for (uint32_t j = 0; j < run->scenario->nodes; j++) {
        struct player *other = &run->players[j];
        cohort_member shown, self;
        if (other == p) {
            continue;
        }
        cohort_node_local(other->node, &self);
        int status = cohort_node_member(p->node, other->id, &shown);
        if (status != COHORT_OK || shown.incarnation < other->incarnation_first || shown.incarnation > self.incarnation) {
            run_fail(run, "%s shows incarnation %" PRIu64 " of %s, whose process has %" PRIu64, p->id,
                     status == COHORT_OK ? shown.incarnation : 0, other->id, self.incarnation);
        }
    }
}

/* Nothing is on its way: what is there stays. */
void check_quiet(struct run *run)
{
    uint32_t nodes = run->scenario->nodes;
    for (uint32_t i = 0; i < nodes; i++) {
        struct player *p = &run->players[i];
        cohort_node_stats stats;
        cohort_node_stats_get(p->node, &stats);
        check_protocol(p);
        if (stats.links_open != nodes - 1 || stats.handshakes_pending != 0) {
            run_fail(run, "%s has %" PRIu64 " links and %" PRIu64 " handshakes with %u peers", p->id, stats.links_open,
                     stats.handshakes_pending, nodes - 1);
        }
        check_shown_incarnations(run, p);
        for (uint32_t j = 0; j < nodes; j++) {
            if (p->views[j].closed_door_ns != 0) {
                run_fail(run, "%s: n%u was ACTIVATED and could not be reached", p->id, j);
            }
        }
        for (uint32_t j = 0; j < nodes && nodes <= 32; j++) {
            uint32_t connections = i == j ? 1 : cohort_sim_connections(run->sim, p->ip, run->players[j].ip);
            if (connections != 1) {
                run_fail(run, "%s holds %u connections to %s", p->id, connections, run->players[j].id);
            }
        }
    }
}
