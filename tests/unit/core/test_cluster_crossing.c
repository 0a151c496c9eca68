/* SPDX-License-Identifier: Apache-2.0
 *
 * core/cluster, two of them, under every order of events: dials that cross, connections that break or die silently, processes
 * that restart, also with a clock set back. Whatever happened, once it stops they settle on one link, the same at both ends.
 *
 * The shell is modelled as far as the order of its reports goes: bytes arrive in order within one connection and in any order
 * between connections; what a link may not read yet waits (core/link.h); a CLOSE takes effect some time later.
 *
 * Run with a seed as argument to replay it with its trace.
 */
#include "rig.h"

#include <stdlib.h>

#define WIRES_MAX 512
#define INBOX_MAX 16
#define SEEDS 20000
#define FAULT_STEPS 120
#define HEAL_STEPS_MAX 3000

enum message_type {
    HELLO,
    WELCOME,
    REFUSE,
    END
};

struct message {
    enum message_type type;
    union {
        struct cohorti_hello hello;
        struct cohorti_refuse refuse;
        int code;
    } u;
};

enum reading {
    GREETING,
    GREETED,
    ADMITTED,
    WELCOMED,
    RECEIVING,
    DISCARDING
};

/* One end of a connection: what the shell of that side knows of it. */
struct end {
    bool there; /* known to the cluster of its side, by number */
    bool open;
    bool got_bytes;
    bool close_asked;
    uint64_t number;
    enum reading reading;
    int code; /* with which it ends, when DISCARDING or asked to close */
    struct message *inbox;
    size_t head, count;
};

struct wire {
    bool to_accept, to_connect; /* not told to the acceptor, the dialler yet */
    bool silent;                /* nothing passes and nobody is told */
    int dialler;
    struct end end[2]; /* by side */
};

struct side {
    struct unit_memory memory;
    struct cohorti_cluster_config config;
    struct cohorti_cluster c;
    bool active;
    unsigned opened, deactivations;
    uint64_t highest; /* incarnation used */
};

struct world {
    struct cohorti_prng prng;
    uint64_t seed, now, steps;
    bool trace, lists_both;
    struct side side[2];
    struct wire wires[WIRES_MAX];
    size_t wire_count, first_live;
};

static const char *const ids[] = {"a", "b"};

#define CHECK(w, condition)                                                                                                  \
    do {                                                                                                                     \
        if (!(condition)) {                                                                                                  \
            fail_msg("seed %llu, step %llu: %s", (unsigned long long)(w)->seed, (unsigned long long)(w)->steps, #condition); \
        }                                                                                                                    \
    } while (0)

static uint64_t below(struct world *w, uint64_t bound)
{
    return cohorti_prng_below(&w->prng, bound);
}

/* ---- connections --------------------------------------------------------------------------------------------------- */

static void post(struct world *w, struct wire *wire, int to, const struct message *m)
{
    struct end *e = &wire->end[to];
    if (e->inbox == NULL) {
        e->inbox = calloc(INBOX_MAX, sizeof *e->inbox);
    }
    CHECK(w, e->inbox != NULL && e->count < INBOX_MAX);
    e->inbox[e->count++] = *m;
}

static struct wire *find_wire(struct world *w, int side, uint64_t number)
{
    for (size_t i = w->first_live; i < w->wire_count; i++) {
        if (w->wires[i].end[side].there && w->wires[i].end[side].number == number) {
            return &w->wires[i];
        }
    }
    return NULL;
}

/* The end is gone: its cluster hears it once, the other end sees the end of the stream. */
static void finish(struct world *w, struct wire *wire, int side, int code)
{
    struct end *e = &wire->end[side];
    if (w->trace) {
        (void)printf("  %s: link %u ended %s\n", ids[side], (unsigned)e->number, code_name(code));
    }
    e->there = e->open = false;
    wire->to_connect = wire->to_connect && side != wire->dialler;
    free(e->inbox);
    e->inbox = NULL;
    e->count = e->head = 0;
    post(w, wire, !side, &(struct message){.type = END, .u.code = COHORT_EPEERCLOSED});
    cohorti_cluster_closed(&w->side[side].c, w->now, e->number, code);
}

static void do_dial(struct world *w, int side, const struct cohorti_effect *fx)
{
    CHECK(w, w->wire_count < WIRES_MAX);
    struct wire *wire = &w->wires[w->wire_count++];
    *wire = (struct wire){.to_accept = true, .to_connect = true, .dialler = side};
    wire->end[side].there = true;
    wire->end[side].number = fx->link;
    CHECK(w, fx->u.dial.port == (side == 0 ? 9001 : 9000));
}

static void do_event(struct world *w, int side, const cohort_event *event)
{
    struct side *s = &w->side[side];
    if (event->type == COHORT_MEMBER_ACTIVATED) {
        bool any_open = false;
        for (size_t i = w->first_live; i < w->wire_count; i++) {
            any_open = any_open || w->wires[i].end[side].open;
        }
        CHECK(w, !s->active && any_open);
        s->active = true;
    } else if (event->type == COHORT_MEMBER_DEACTIVATED) {
        CHECK(w, s->active);
        s->active = false;
        s->deactivations++;
    }
}

/* A link opens only when no other is left that could still deliver. */
static void do_open(struct world *w, int side, struct end *e)
{
    for (size_t i = w->first_live; i < w->wire_count; i++) {
        CHECK(w, !w->wires[i].end[side].open);
    }
    e->open = true;
    w->side[side].opened++;
}

static void do_refuse(struct world *w, int side, struct wire *wire, const struct cohorti_effect *fx)
{
    struct message m = {.type = REFUSE, .u.refuse = {.reason = fx->code, .value = fx->u.refuse.value}};
    post(w, wire, !side, &m);
    post(w, wire, !side, &(struct message){.type = END, .u.code = COHORT_EPEERCLOSED});
    wire->end[side].reading = DISCARDING;
    wire->end[side].code = fx->code;
}

static void do_link_effect(struct world *w, int side, const struct cohorti_effect *fx)
{
    struct wire *wire = find_wire(w, side, fx->link);
    if (wire == NULL) {
        return;
    }
    struct end *e = &wire->end[side];
    struct message m = {.type = HELLO};
    switch (fx->type) {
    case COHORTI_EFFECT_GREET:
        cohorti_cluster_greeting(&w->side[side].c, fx->u.greet.attempt, &m.u.hello);
        post(w, wire, !side, &m);
        break;
    case COHORTI_EFFECT_ADMIT:
        e->reading = ADMITTED;
        m.type = WELCOME;
        post(w, wire, !side, &m);
        break;
    case COHORTI_EFFECT_OPEN:
        do_open(w, side, e);
        break;
    case COHORTI_EFFECT_RECEIVE:
        CHECK(w, w->side[side].active && e->open);
        e->reading = RECEIVING;
        break;
    case COHORTI_EFFECT_REFUSE:
        do_refuse(w, side, wire, fx);
        break;
    default:
        CHECK(w, fx->type == COHORTI_EFFECT_CLOSE);
        e->close_asked = true;
        e->code = fx->code;
        break;
    }
}

static void do_effects(struct world *w, int side)
{
    struct cohorti_effect fx;
    while (cohorti_cluster_poll(&w->side[side].c, &fx)) {
        if (w->trace) {
            char text[400];
            effect_text(&fx, text, sizeof text);
            (void)printf("  %s: %s\n", ids[side], text);
        }
        if (fx.type == COHORTI_EFFECT_DIAL) {
            do_dial(w, side, &fx);
        } else if (fx.type == COHORTI_EFFECT_EVENT) {
            do_event(w, side, &fx.u.event);
        } else if (fx.type != COHORTI_EFFECT_UPDATE && fx.type != COHORTI_EFFECT_NOTE) {
            do_link_effect(w, side, &fx);
        }
    }
}

/* ---- what may happen next ------------------------------------------------------------------------------------------ */

static bool readable(const struct wire *wire, int side)
{
    const struct end *e = &wire->end[side];
    bool waits = (e->reading == GREETED || e->reading == WELCOMED) && !e->close_asked;
    bool connected = side != wire->dialler || !wire->to_connect;
    return e->there && connected && !wire->silent && e->head < e->count && !waits;
}

static void read_one(struct world *w, struct wire *wire, int side)
{
    struct end *e = &wire->end[side];
    struct cohorti_cluster *c = &w->side[side].c;
    struct message m = e->inbox[e->head++];
    if (w->trace) {
        static const char *const names[] = {"HELLO", "WELCOME", "REFUSE", "END"};
        (void)printf("%s: link %u reads %s\n", ids[side], (unsigned)e->number, names[m.type]);
    }
    if (m.type == END) {
        finish(w, wire, side, e->reading == DISCARDING || e->close_asked ? e->code : m.u.code);
    } else if (e->reading == DISCARDING || e->close_asked) {
        return;
    } else if (m.type == HELLO) {
        CHECK(w, e->reading == GREETING);
        e->reading = GREETED;
        cohorti_cluster_received(c, e->number);
        cohorti_cluster_hello(c, w->now, e->number, &m.u.hello);
    } else if (m.type == WELCOME) {
        CHECK(w, e->reading == ADMITTED);
        e->reading = WELCOMED;
        cohorti_cluster_welcome(c, w->now, e->number);
    } else if (e->reading == RECEIVING) {
        finish(w, wire, side, COHORT_EREMOTE);
    } else {
        cohorti_cluster_refused(c, w->now, e->number, &m.u.refuse);
    }
}

enum action_type {
    READ,
    ACCEPT,
    CONNECT,
    CLOSE
};

struct action {
    enum action_type type;
    struct wire *wire;
    int side;
};

static size_t possible(struct world *w, struct action *out, size_t cap)
{
    size_t n = 0;
    while (w->first_live < w->wire_count && !w->wires[w->first_live].end[0].there && !w->wires[w->first_live].end[1].there &&
           !w->wires[w->first_live].to_accept) {
        w->first_live++;
    }
    for (size_t i = w->first_live; i < w->wire_count && n + 8 < cap; i++) {
        struct wire *wire = &w->wires[i];
        if (wire->to_accept && !wire->silent) {
            out[n++] = (struct action){ACCEPT, wire, !wire->dialler};
        }
        if (wire->to_connect && !wire->silent && wire->end[wire->dialler].there) {
            out[n++] = (struct action){CONNECT, wire, wire->dialler};
        }
        for (int side = 0; side < 2; side++) {
            if (readable(wire, side)) {
                out[n++] = (struct action){READ, wire, side};
            }
            if (wire->end[side].there && (wire->end[side].close_asked || wire->end[side].reading == DISCARDING)) {
                out[n++] = (struct action){CLOSE, wire, side};
            }
        }
    }
    return n;
}

static void act(struct world *w, const struct action *a)
{
    struct end *e = &a->wire->end[a->side];
    struct cohorti_cluster *c = &w->side[a->side].c;
    switch (a->type) {
    case READ:
        read_one(w, a->wire, a->side);
        break;
    case ACCEPT:
        a->wire->to_accept = false;
        assert_int_equal(cohorti_cluster_accepted(c, w->now, &e->number), COHORT_OK);
        e->there = true;
        if (w->trace) {
            (void)printf("%s: link %u accepted\n", ids[a->side], (unsigned)e->number);
        }
        break;
    case CONNECT:
        a->wire->to_connect = false;
        cohorti_cluster_connected(c, w->now, e->number);
        break;
    case CLOSE:
        finish(w, a->wire, a->side, e->code);
        break;
    }
    do_effects(w, a->side);
}

static bool pass_time(struct world *w)
{
    uint64_t a = cohorti_cluster_deadline(&w->side[0].c), b = cohorti_cluster_deadline(&w->side[1].c);
    uint64_t deadline = a < b ? a : b;
    if (deadline == COHORTI_NEVER) {
        return false;
    }
    w->now = deadline > w->now ? deadline : w->now;
    for (int side = 0; side < 2; side++) {
        cohorti_cluster_on_timer(&w->side[side].c, w->now);
        do_effects(w, side);
    }
    return true;
}

/* ---- faults -------------------------------------------------------------------------------------------------------- */

static void start_side(struct world *w, int side)
{
    struct side *s = &w->side[side];
    s->active = false;
    assert_int_equal(cohorti_cluster_init(&s->c, &s->memory.alloc, &s->config), COHORT_OK);
    if (side == 0 || w->lists_both) {
        assert_int_equal(cohorti_cluster_add(&s->c, w->now, ids[!side], "127.0.0.1", side == 0 ? 9001 : 9000), COHORT_OK);
    }
    cohorti_cluster_start(&s->c, w->now);
    do_effects(w, side);
}

static void stop_side(struct world *w, int side)
{
    struct side *s = &w->side[side];
    cohorti_cluster_deinit(&s->c);
    unit_memory_assert_empty(&s->memory);
    for (size_t i = w->first_live; i < w->wire_count; i++) {
        struct wire *wire = &w->wires[i];
        if (wire->end[side].there || wire->to_accept) {
            wire->end[side].there = wire->end[side].open = false;
            free(wire->end[side].inbox);
            wire->end[side].inbox = NULL;
            wire->end[side].head = wire->end[side].count = 0;
            wire->to_accept = wire->to_accept && wire->dialler != side;
            post(w, wire, !side, &(struct message){.type = END, .u.code = COHORT_ERESET});
        }
    }
}

static void restart(struct world *w, int side)
{
    struct side *s = &w->side[side];
    uint64_t last = s->c.self->public.incarnation;
    s->highest = last > s->highest ? last : s->highest;
    bool clock_set_back = below(w, 4) == 0;
    stop_side(w, side);
    s->config.incarnation = clock_set_back ? s->highest - 1 - below(w, 50) : s->highest + 1 + below(w, 50);
    s->config.seed = cohorti_prng_next(&w->prng);
    if (w->trace) {
        (void)printf("%s: restarts as %u\n", ids[side], (unsigned)s->config.incarnation);
    }
    start_side(w, side);
}

/* Each end that is there notices in its own time. */
static void break_wire(struct world *w, struct wire *wire)
{
    wire->silent = false;
    wire->to_accept = false;
    for (int side = 0; side < 2; side++) {
        struct end *e = &wire->end[side];
        if (e->there) {
            e->count = e->head;
            wire->to_connect = false;
            post(w, wire, side, &(struct message){.type = END, .u.code = COHORT_ERESET});
        }
    }
}

static void cause_fault(struct world *w)
{
    uint64_t kind = below(w, 10);
    if (kind == 0) {
        restart(w, (int)below(w, 2));
    } else if (w->wire_count > w->first_live) {
        struct wire *wire = &w->wires[w->first_live + below(w, w->wire_count - w->first_live)];
        if (kind < 3) {
            wire->silent = true;
        } else if (kind < 6) {
            break_wire(w, wire);
        } else if (wire->end[kind % 2].there) {
            finish(w, wire, (int)(kind % 2), COHORT_ERESET); /* one end only notices */
            do_effects(w, (int)(kind % 2));
        }
    }
}

/* ---- runs ---------------------------------------------------------------------------------------------------------- */

static void world_open(struct world *w, uint64_t seed, bool trace)
{
    memset(w, 0, sizeof *w);
    w->seed = seed;
    w->trace = trace;
    w->lists_both = seed % 4 != 0;
    w->now = 1000 * SECOND;
    cohorti_prng_init(&w->prng, seed);
    for (int side = 0; side < 2; side++) {
        struct side *s = &w->side[side];
        unit_memory_init(&s->memory);
        s->config = rig_config(ids[side]);
        s->config.tcp_port = side == 0 ? 9000 : 9001;
        s->config.limits.handshakes_max = 64;
        s->config.seed = cohorti_prng_next(&w->prng);
        (void)snprintf(s->config.ip, sizeof s->config.ip, "127.0.0.1");
    }
    start_side(w, 0);
    start_side(w, 1);
}

static void world_close(struct world *w)
{
    for (int side = 0; side < 2; side++) {
        stop_side(w, side);
    }
    for (size_t i = 0; i < w->wire_count; i++) {
        free(w->wires[i].end[0].inbox);
        free(w->wires[i].end[1].inbox);
    }
}

/* Let everything that is possible happen, in any order; time passes only when nothing else can. */
static void settle(struct world *w)
{
    struct action actions[64];
    for (uint64_t steps = 0;; steps++, w->steps++) {
        CHECK(w, steps < HEAL_STEPS_MAX); /* converges */
        size_t n = possible(w, actions, UNIT_COUNT(actions));
        if (n > 0) {
            act(w, &actions[below(w, n)]);
        } else if (!pass_time(w)) {
            return;
        }
    }
}

static void check_settled(struct world *w)
{
    size_t agreed = 0;
    for (size_t i = w->first_live; i < w->wire_count; i++) {
        struct wire *wire = &w->wires[i];
        CHECK(w, wire->end[0].there == wire->end[1].there); /* no end is left alone */
        CHECK(w, wire->end[0].open == wire->end[1].open && wire->end[0].open == wire->end[0].there);
        agreed += wire->end[0].open;
    }
    CHECK(w, agreed == 1);
    for (int side = 0; side < 2; side++) {
        const struct cohorti_member *peer = cohorti_member_find(&w->side[side].c, ids[!side]);
        CHECK(w, w->side[side].c.links.count == 1);
        CHECK(w, w->side[side].c.stranger_count == 0);
        CHECK(w, peer != NULL && peer->public.state == COHORT_ACTIVE && w->side[side].active);
        CHECK(w, peer->public.incarnation == w->side[!side].c.self->public.incarnation);
    }
}

static void run(uint64_t seed, bool trace)
{
    static struct world w;
    struct action actions[64];
    world_open(&w, seed, trace);
    for (uint64_t steps = 0; steps < FAULT_STEPS; steps++, w.steps++) {
        size_t n = possible(&w, actions, UNIT_COUNT(actions));
        uint64_t dice = below(&w, 40);
        if (dice == 0) {
            cause_fault(&w);
        } else if (dice < 5 || n == 0) {
            (void)pass_time(&w);
        } else {
            act(&w, &actions[below(&w, n)]);
        }
    }
    if (trace) {
        (void)printf("-- no more faults\n");
    }
    for (size_t i = w.first_live; i < w.wire_count; i++) {
        if (w.wires[i].silent) {
            break_wire(&w, &w.wires[i]); /* what died silently is found dead in the end */
        }
    }
    settle(&w);
    check_settled(&w);
    world_close(&w);
}

static void two_clusters_settle_on_one_link_whatever_happened(void **state)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        run(seed, false);
    }
}

/* Nothing fails: however the dials cross, one link opens and no other ever did, so that nothing sent on it is lost. */
static void dials_that_cross_disturb_nobody(void **state)
{
    uint64_t most_wires = 0, flaps = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        static struct world w;
        world_open(&w, seed, false);
        settle(&w);
        check_settled(&w);
        most_wires = w.wire_count > most_wires ? w.wire_count : most_wires;
        flaps += w.side[0].deactivations + w.side[1].deactivations;
        flaps += w.side[0].opened + w.side[1].opened - 2;
        world_close(&w);
    }
    assert_int_equal(flaps, 0);
    assert_true(most_wires <= 4);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_clusters_settle_on_one_link_whatever_happened),
        cmocka_unit_test(dials_that_cross_disturb_nobody),
    };
    if (argc > 1) {
        run(strtoull(argv[1], NULL, 10), true);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
