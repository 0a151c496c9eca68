/* SPDX-License-Identifier: Apache-2.0
 *
 * The decisions of a node, step by step: the input chooses what happens next (connections, greetings with chosen ids, incarnations
 * and attempts, welcomes, refusals, ends, jumps in time, members added and removed, definitions, failing allocations, stop), this file
 * plays the shell, and cluster_watch.c checks every promise after every step.
 *
 * The input is read from the front: eight bytes of configuration, then steps of one byte and its arguments. A shell carries effects
 * out at once, but a callback inside one of them may cause more; so an input may also choose to let effects wait.
 */
#include "cluster_watch.h"
#include "fuzz.h"

#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS UINT64_C(1000000)
#define STEPS_MAX 400
#define SELF "d"

struct bed {
    const uint8_t *at; /* the input */
    size_t left;
    struct fuzz_memory memory;
    struct cohorti_cluster cluster;
    struct watch watch;
    uint64_t now_ns;
    bool lazy; /* effects wait until they are asked for */
    bool started, stopped;
    uint8_t listed, moved; /* by the definition applied last: a bit for each id, and for its address */
    uint8_t added;         /* by a call, and not removed since */
};

static uint8_t take(struct bed *b)
{
    if (b->left == 0) {
        return 0;
    }
    b->left--;
    return *b->at++;
}

/* ---- the shell ----------------------------------------------------------------------------------------------------- */

/* With FUZZ_VERBOSE, what happens is told: to read a failure. */
static void narrate(const char *what, uint64_t link, const char *id, int code)
{
    static int verbose = -1;
    if (verbose < 0) {
        verbose = getenv("FUZZ_VERBOSE") != NULL;
    }
    if (verbose != 0) {
        (void)fprintf(stderr, "%s link %llu %s %s\n", what, (unsigned long long)link, id,
                      code == COHORT_OK ? "" : cohort_error_name(code));
    }
}

static bool carry_out_one(struct bed *b)
{
    static const char *const names[] = {"  DIAL", "  GREET",  "  ADMIT", "  OPEN", "  RECEIVE",
                                        "  KEEP", "  REFUSE", "  LEAVE", "  CLOSE"};
    struct cohorti_effect fx;
    if (!cohorti_cluster_poll(&b->cluster, &fx)) {
        return false;
    }
    if (fx.type <= COHORTI_EFFECT_CLOSE) {
        narrate(names[fx.type], fx.link, "", fx.code);
    } else if (fx.type == COHORTI_EFFECT_EVENT) {
        narrate("  EVENT", 0, fx.u.event.member.id, fx.u.event.reason);
    }
    watch_effect(&b->watch, &fx);
    return true;
}

static void carry_out_all(struct bed *b)
{
    while (carry_out_one(b)) {
    }
}

/* A connection the input names, out of those that are there. */
static struct watch_link *choose_link(struct bed *b)
{
    size_t live = watch_live_links(&b->watch);
    size_t nth = live == 0 ? 0 : take(b) % live;
    for (size_t i = 0; live > 0 && i < b->watch.link_count; i++) {
        if (!b->watch.links[i].gone && nth-- == 0) {
            return &b->watch.links[i];
        }
    }
    return NULL;
}

static void choose_id(struct bed *b, char *id)
{
    (void)snprintf(id, COHORT_ID_BYTES_MAX + 1, "%c", 'a' + take(b) % 8);
}

static void close_link(struct bed *b, struct watch_link *link, int code)
{
    narrate("closed", link->number, "", code);
    link->gone = true;
    cohorti_cluster_closed(&b->cluster, b->now_ns, link->number, code);
    cohorti_cluster_closed(&b->cluster, b->now_ns, link->number, code); /* a number that is gone means nothing */
}

/* ---- steps --------------------------------------------------------------------------------------------------------- */

static void step_accepted(struct bed *b)
{
    uint64_t number = 0;
    size_t failures = b->memory.failures;
    int status = cohorti_cluster_accepted(&b->cluster, b->now_ns, &number);
    if (status == COHORT_OK) {
        FUZZ_CHECK(!b->stopped);
        watch_new_link(&b->watch, number)->connected = true;
    } else {
        FUZZ_CHECK(b->stopped ? status == COHORT_ECLOSED : status == COHORT_ENOMEM && b->memory.failures > failures);
    }
}

static void step_connected(struct bed *b)
{
    struct watch_link *link = choose_link(b);
    if (link != NULL && link->dialled && !link->connected && !link->told_end) {
        link->connected = true;
        cohorti_cluster_connected(&b->cluster, b->now_ns, link->number);
    }
}

static void step_hello(struct bed *b)
{
    struct watch_link *link = choose_link(b);
    struct cohorti_hello hello = {.ip = "127.0.0.1"};
    uint8_t flags = take(b);
    choose_id(b, hello.id);
    hello.tcp_port = (uint16_t)(9876 + (flags & 1));
    hello.extended = (flags & 6) != 0;
    if (hello.extended) {
        hello.version_min = (flags & 0x78) == 8 ? 2 : 1;
        hello.version_max = (flags & 0x70) == 0x10 ? 3 : hello.version_min;
        hello.incarnation = take(b) % 4;
        hello.attempt = take(b) % 4;
        hello.attempt = hello.attempt == 3 ? UINT32_MAX : hello.attempt;
        (void)cohorti_copy_string(hello.cluster, sizeof(hello.cluster),
                                  (flags & 0xe0) == 0xe0 ? "x"
                                  : (flags & 0x80) != 0  ? "y"
                                                         : "");
    }
    if (link == NULL || !link->connected || !link->greeted || link->helloed || link->told_end) {
        return;
    }
    if (link->dialled) {
        cohorti_cluster_received(&b->cluster, link->number);
    }
    narrate(hello.extended ? "hello" : "legacy hello", link->number, hello.id, COHORT_OK);
    link->helloed = true;
    link->legacy = !hello.extended;
    cohorti_cluster_hello(&b->cluster, b->now_ns, link->number, &hello);
}

static void step_welcome(struct bed *b)
{
    struct watch_link *link = choose_link(b);
    if (link != NULL && link->admitted && !link->legacy && !link->welcomed && !link->refused && !link->told_end) {
        narrate("welcome", link->number, "", COHORT_OK);
        link->welcomed = true;
        cohorti_cluster_welcome(&b->cluster, b->now_ns, link->number);
    }
}

static void step_refused(struct bed *b)
{
    static const int reasons[] = {COHORT_ESTALE, COHORT_EDUPLICATE, COHORT_ESUPERSEDED, COHORT_EREMOVED, COHORT_EREMOTE};
    struct watch_link *link = choose_link(b);
    uint8_t how = take(b);
    uint64_t ours = b->watch.incarnation_self;
    const uint64_t values[] = {ours, ours + 5, 0, UINT64_MAX};
    struct cohorti_refuse refuse = {.reason = reasons[how % 5], .value = values[how / 5 % 4]};
    if (link != NULL && link->admitted && !link->legacy && !link->refused && !link->told_end) {
        narrate("refused", link->number, "", refuse.reason);
        link->refused = true;
        cohorti_cluster_refused(&b->cluster, b->now_ns, link->number, &refuse);
    }
}

static void step_closed(struct bed *b)
{
    static const int codes[] = {COHORT_EPEERCLOSED, COHORT_EREFUSED, COHORT_ELEFT, COHORT_EPROTOCOL};
    struct watch_link *link = choose_link(b);
    uint8_t how = take(b);
    if (link != NULL) {
        close_link(b, link, codes[how % 4]);
    }
}

static void step_time(struct bed *b)
{
    uint8_t how = take(b);
    uint64_t deadline = cohorti_cluster_deadline(&b->cluster);
    if (how % 2 == 0 && deadline != COHORTI_NEVER) {
        b->now_ns = deadline > b->now_ns ? deadline : b->now_ns;
    } else {
        b->now_ns += (uint64_t)how * how * NS_PER_MS;
    }
    narrate("time", 0, "", COHORT_OK);
    cohorti_cluster_on_timer(&b->cluster, b->now_ns);
    FUZZ_CHECK(cohorti_cluster_deadline(&b->cluster) > b->now_ns);
}

static bool is_member(const struct bed *b, const char *id)
{
    cohort_member member;
    for (size_t i = 0; cohorti_cluster_member_at(&b->cluster, i, &member); i++) {
        if (strcmp(member.id, id) == 0) {
            return true;
        }
    }
    return false;
}

static uint8_t bit_of(const char *id)
{
    return (uint8_t)(1 << (id[0] - 'a'));
}

/* Applied: what is new is a member, what is gone is none unless a call added it, and what was and is has not changed. */
static void check_applied(struct bed *b, uint8_t listed, uint8_t moved, uint8_t members_before)
{
    for (int i = 0; i < 8; i++) {
        const char id[2] = {(char)('a' + i), '\0'};
        uint8_t bit = bit_of(id);
        bool was = (b->listed & bit) != 0, is = (listed & bit) != 0, other = ((b->moved ^ moved) & bit) != 0;
        bool member_before = (members_before & bit) != 0;
        bool expected = is && (!was || other) ? true : was && !is ? member_before && (b->added & bit) != 0 : member_before;
        FUZZ_CHECK(is_member(b, id) == (expected || strcmp(id, SELF) == 0));
        if (!is_member(b, id)) {
            b->added &= (uint8_t)~bit;
        }
    }
    b->listed = listed;
    b->moved = moved;
}

static void step_apply(struct bed *b, uint8_t name)
{
    cohort_definition_node nodes[8] = {{.id = ""}};
    cohort_definition definition = {.nodes = nodes};
    struct cohorti_applied applied;
    uint8_t listed = take(b), moved = take(b) & listed, members_before = 0;
    (void)cohorti_copy_string(definition.cluster, sizeof(definition.cluster), name % 8 == 1 ? "x" : name % 8 == 2 ? "y" : "");
    for (int i = 7; i >= 0; i--) {
        cohort_definition_node *node = &nodes[definition.node_count];
        node->id[0] = (char)('a' + i);
        members_before |= is_member(b, node->id) ? bit_of(node->id) : 0;
        (void)cohorti_copy_string(node->ip, sizeof(node->ip), i % 2 == 0 ? "127.0.0.2" : "host.example");
        node->tcp_port = (uint16_t)(9000 + (moved >> i) % 2);
        definition.node_count += listed >> i & 1;
    }
    size_t before = b->cluster.member_count, effects = b->cluster.effects.count, failures = b->memory.failures;
    int status = cohorti_cluster_apply(&b->cluster, b->now_ns, &definition, &applied);
    narrate("apply", 0, "", status);
    if (status == COHORT_OK) {
        FUZZ_CHECK(!b->stopped && b->cluster.member_count == before + applied.added - applied.removed);
        check_applied(b, listed, moved, members_before);
        return;
    }
    FUZZ_CHECK(b->stopped ? status == COHORT_ECLOSED
                          : status == COHORT_ECLUSTER || status == COHORT_ELIMIT ||
                                (status == COHORT_ENOMEM && b->memory.failures > failures));
    FUZZ_CHECK(b->cluster.member_count == before && b->cluster.effects.count == effects);
}

static void step_add(struct bed *b)
{
    char id[COHORT_ID_BYTES_MAX + 1];
    uint8_t how = take(b);
    if (how >= 128) {
        step_apply(b, how);
        return;
    }
    choose_id(b, id);
    size_t before = b->cluster.member_count, failures = b->memory.failures;
    int status = cohorti_cluster_add(&b->cluster, b->now_ns, id, how % 3 == 0 ? "127.0.0.2" : "::1", (uint16_t)(9000 + how % 2));
    if (strcmp(id, SELF) == 0) {
        FUZZ_CHECK(status == COHORT_EINVAL);
    } else if (b->stopped) {
        FUZZ_CHECK(status == COHORT_ECLOSED);
    } else {
        FUZZ_CHECK(status == COHORT_OK || (status == COHORT_ENOMEM && b->memory.failures > failures) ||
                   (status == COHORT_ELIMIT && before == b->cluster.config.limits.members_max));
    }
    FUZZ_CHECK(status == COHORT_OK || b->cluster.member_count == before);
    b->added |= status == COHORT_OK ? bit_of(id) : 0;
}

static void step_remove(struct bed *b)
{
    char id[COHORT_ID_BYTES_MAX + 1];
    choose_id(b, id);
    bool was = is_member(b, id);
    size_t failures = b->memory.failures;
    narrate("remove", 0, id, COHORT_OK);
    int status = cohorti_cluster_remove(&b->cluster, id);
    if (strcmp(id, SELF) == 0) {
        FUZZ_CHECK(status == COHORT_EINVAL);
    } else if (!was) {
        FUZZ_CHECK(status == COHORT_ENOPEER);
    } else {
        FUZZ_CHECK(status == COHORT_OK || (status == COHORT_ENOMEM && b->memory.failures > failures));
        FUZZ_CHECK(is_member(b, id) == (status != COHORT_OK));
        b->added &= (uint8_t)(status == COHORT_OK ? ~bit_of(id) : 0xff);
    }
}

static void step_life(struct bed *b)
{
    uint8_t how = take(b);
    if (how < 16 && b->started && !b->stopped) {
        narrate("stop", 0, "", COHORT_OK);
        b->stopped = true;
        cohorti_cluster_stop(&b->cluster);
    } else if (!b->started && !b->stopped) {
        b->started = true;
        cohorti_cluster_start(&b->cluster, b->now_ns);
    }
}

static void step(struct bed *b)
{
    static void (*const steps[])(struct bed *) = {step_accepted, step_connected, step_hello,  step_hello,  step_welcome,
                                                  step_welcome,  step_refused,   step_closed, step_closed, step_time,
                                                  step_time,     step_add,       step_remove, step_life};
    uint8_t op = take(b);
    if (op % 16 < 14) {
        steps[op % 16](b);
    } else if (op % 16 == 14) {
        b->memory.fail_in = take(b) % 6;
    } else {
        (void)carry_out_one(b);
    }
    if (!b->lazy) {
        carry_out_all(b);
    }
    watch_state(&b->watch, &b->cluster, b->cluster.effects.count == 0);
}

/* ---- one run ------------------------------------------------------------------------------------------------------- */

static struct cohorti_cluster_config configure(struct bed *b)
{
    uint8_t how = take(b), limits = take(b);
    struct cohorti_cluster_config config = {
        .id = SELF,
        .ip = "127.0.0.1",
        .tcp_port = 9876,
        .incarnation = how / 32,
        .open_admission = (how & 1) == 0,
        .dial = {.mode = (how & 2) == 0 ? COHORT_DIAL_BACKOFF : COHORT_DIAL_SEED,
                 .delay_min_ms = 1 + take(b),
                 .delay_max_ms = 300,
                 .connect_timeout_ms = 1 + 10u * take(b)},
        .limits = {.members_max = 1 + limits % 8,
                   .removed_max = limits / 8 % 4,
                   .handshakes_max = 1 + limits / 32 % 4,
                   .handshake_timeout_ms = 1 + 10u * take(b),
                   .legacy_links_max = 1 + limits / 128,
                   .legacy_idle_ms = limits / 16 % 2},
        .seed = take(b),
    };
    (void)cohorti_copy_string(config.cluster, sizeof(config.cluster), (how & 4) == 0 ? "x" : "");
    b->lazy = (how & 8) != 0;
    return config;
}

/* Stop, let every link end, and see that nothing is left. */
static void end(struct bed *b)
{
    b->memory.fail_in = 0;
    if (!b->stopped) {
        cohorti_cluster_stop(&b->cluster);
    }
    carry_out_all(b);
    watch_state(&b->watch, &b->cluster, true);
    for (size_t i = 0; i < b->watch.link_count; i++) {
        if (!b->watch.links[i].gone) {
            FUZZ_CHECK(b->watch.links[i].told_end && !cohorti_cluster_is_idle(&b->cluster));
            close_link(b, &b->watch.links[i], COHORT_ECLOSED);
            carry_out_all(b);
            watch_state(&b->watch, &b->cluster, true);
        }
    }
    FUZZ_CHECK(cohorti_cluster_is_idle(&b->cluster) && cohorti_cluster_deadline(&b->cluster) == COHORTI_NEVER);
    for (size_t i = 0; i < b->watch.member_count; i++) {
        FUZZ_CHECK(!b->watch.members[i].active);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct bed bed;
    struct bed *b = &bed;
    memset(b, 0, sizeof(*b));
    b->at = data;
    b->left = len;
    b->now_ns = 1;
    fuzz_memory_init(&b->memory);
    struct cohorti_cluster_config config = configure(b);
    b->memory.fail_in = take(b);
    bool abandon = take(b) > 200; /* deinit with everything standing: nothing may leak */
    if (cohorti_cluster_init(&b->cluster, &b->memory.alloc, &config) != COHORT_OK) {
        FUZZ_CHECK(b->memory.failures > 0);
        fuzz_memory_check_empty(&b->memory);
        return 0;
    }
    watch_init(&b->watch, &b->cluster);
    for (int i = 0; i < STEPS_MAX && b->left > 0 && b->watch.link_count < WATCH_LINKS_MAX - 200; i++) {
        step(b);
    }
    if (!abandon) {
        end(b);
    }
    cohorti_cluster_deinit(&b->cluster);
    fuzz_memory_check_empty(&b->memory);
    return 0;
}
