/* SPDX-License-Identifier: Apache-2.0
 * Scenarios that come with the program, and random ones. */
#include "base/prng.h"
#include "sim/scenario.h"

#include <string.h>

static const struct {
    const char *name, *text;
} scenarios[] = {
    {"calm", "at 2000 send 0 1 100\nat 2000 send 1 0 100\n"},
    {"crash", "at 1000 send 0 1 50\nat 2000 kill 1\nat 4000 start 1\nat 8000 send 0 1 50\n"},
    {"power", "at 2000 off 1\nat 5000 send 0 1 10\nat 20000 start 1\n"},
    {"partition", "at 1000 group 0 1\nat 1000 group 1 2\nat 1000 group 2 2\nat 50000 heal\n"},
    {"one-way", "at 1000 cut 0 1\nat 2000 send 0 1 20\nat 2000 send 1 0 20\nat 45000 uncut 0 1\n"},
    {"resets",
     "at 1000 reset 0 1\nat 1001 send 0 1 10\nat 1100 reset 0 1\nat 1101 send 1 0 10\nat 1102 reset 0 2\nat 1300 reset 1 2\n"},
    {"half-open", "converge_ms 1000\nat 2000 drop 1 0\nat 4000 drop 0 1\nat 6000 drop 2 0\nat 6001 drop 0 1\nat 6500 drop 2 1\n"},
    {"dead-halves", "converge_ms 3000\nlatency_us 200000 200000\nat 8000 hang 0 1\nat 8970 hang 1 0\n"},
    {"reboot", "converge_ms 1000\nat 2000 off 1\nat 2500 start 1\nat 4000 off 0\nat 4500 start 0\n"},
    {"pause", "at 1000 pause 1 9000\nat 1500 send 0 1 1000\nat 3000 send 2 1 1000\n"},
    {"clock", "at 1000 jump 1 -100000\nat 1500 kill 1\nat 2000 start 1\n"},
    {"churn", "at 500 close 0\nat 900 start 0\nat 1000 kill 1\nat 1001 start 1\nat 1500 close 2\nat 1600 start 2\nat 1700 kill "
              "0\nat 1705 start 0\n"},
    {"overtake",
     "loops 2\nmessage_bytes 64\n"
     "at 1000 stall 2 150\nat 1000 send 0 2 20\nat 1003 drop 0 2\nat 1040 send 0 2 9\nat 1080 send 0 2 9\nat 1120 send 0 2 9\n"
     "at 2000 stall 2 150\nat 2000 send 1 2 20\nat 2003 drop 1 2\nat 2040 send 1 2 9\nat 2080 send 1 2 9\nat 2120 send 1 2 9\n"},
    {"strangers",
     "at 1000 stranger 0\nat 1000 stranger 1\nat 1500 stranger 0\nat 1600 kill 1\nat 1700 start 1\nat 1800 stranger 1\n"},
    {"requests", "loops 1\nat 1000 request 0 1 40\nat 1001 request 1 0 40\nat 1002 drop 0 1\nat 1500 request 2 1 20\nat 1501 kill "
                 "1\nat 1600 request 0 1 20\n"
                 "at 2000 start 1\nat 4000 request 0 2 30\nat 4001 reset 0 2\nat 4500 request 0 2 30\nat 4501 remove 0 2\nat 6000 "
                 "add 0 2\nat 7000 request 2 0 9\n"
                 "at 7001 close 2\nat 7500 start 2\n"},
    {"flood", "loops 1\nmessage_bytes 400000\nat 1000 flood 0 1 60\nat 1000 flood 1 0 30\nat 1010 request 0 1 9\nat 1020 drop 0 1\n"
              "at 1050 reset 0 1\nat 1060 kill 1\nat 1400 start 1\nat 3000 flood 0 2 60\nat 3020 pause 2 700\nat 3100 drop 2 0\n"},
    {"queues",
     "queues some\nloops 1\nmessage_bytes 4000\n"
     "at 1000 send 0 1 200\nat 1000 send 2 1 200\nat 1001 request 0 1 40\nat 1006 drop 0 1\nat 1007 close 1\nat 1500 start 1\n"
     "at 2000 send 1 0 200\nat 2000 send 2 0 200\nat 2001 request 1 0 40\nat 2007 close 0\nat 2500 start 0\n"
     "at 3000 send 0 2 200\nat 3000 send 1 2 200\nat 3001 request 1 2 40\nat 3007 close 2\nat 3500 start 2\n"
     "at 4000 send 2 1 200\nat 4001 send 1 0 200\nat 4005 reset 1 2\nat 4007 kill 1\nat 4010 kill 0\nat 4500 start 0\nat 4600 "
     "start 1\n"},
    {"remove", "at 1000 remove 0 1\nat 3000 remove 1 0\nat 6000 add 0 1\nat 7000 add 1 0\n"},
};

const char *scenario_text(const char *name)
{
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        if (strcmp(scenarios[i].name, name) == 0) {
            return scenarios[i].text;
        }
    }
    return NULL;
}

const char *scenario_name(size_t i)
{
    return i < sizeof scenarios / sizeof scenarios[0] ? scenarios[i].name : NULL;
}

#define FLOOD_BYTES_MAX (UINT64_C(12) * 1024 * 1024)
#define FLOOD_MESSAGES_MAX 400

/* ---- random -------------------------------------------------------------------------------------------------------- */

static uint64_t pick(struct cohorti_prng *p, uint64_t low, uint64_t high)
{
    return low + cohorti_prng_below(p, high - low + 1);
}

static void random_conditions(struct scenario *s, struct cohorti_prng *p)
{
    s->listed = pick(p, 0, 2) != 0;
    s->seed_dial = pick(p, 0, 9) == 0;
    s->loops = (uint32_t)pick(p, 0, 3);
    s->latency_min_us = pick(p, 1, 200);
    s->latency_max_us = s->latency_min_us + (pick(p, 0, 3) == 0 ? pick(p, 0, 200000) : pick(p, 0, 2000));
    s->loss_ppm = pick(p, 0, 2) == 0 ? (uint32_t)pick(p, 0, 100000) : 0;
    s->segment_bytes = pick(p, 0, 3) == 0 ? (uint32_t)pick(p, 1, 64) : (uint32_t)pick(p, 500, 9000);
    s->window_bytes = (uint32_t)pick(p, 4096, 131072);
    s->message_bytes_max = pick(p, 0, 3) == 0 ? (uint32_t)pick(p, 24, 128000) : (uint32_t)pick(p, 24, 500);
    if (s->segment_bytes < 500 && s->message_bytes_max > 2000) {
        s->message_bytes_max = 2000; /* what takes long in small pieces teaches nothing that this does not */
    }
    s->lanes = pick(p, 0, 2) != 0;
    s->ttl_ms = pick(p, 0, 3) == 0 ? (uint32_t)pick(p, 1, 5000) : 0;
}

/* Weights: how often each fault is drawn. A run draws from a random subset, so that some runs know one fault only. */
static const uint8_t weights[ACTION_COUNT] = {
    [ACTION_START] = 6, [ACTION_KILL] = 3,  [ACTION_CLOSE] = 2,  [ACTION_OFF] = 2,      [ACTION_PAUSE] = 3,
    [ACTION_JUMP] = 1,  [ACTION_CUT] = 3,   [ACTION_UNCUT] = 3,  [ACTION_GROUP] = 2,    [ACTION_HEAL] = 1,
    [ACTION_RESET] = 5, [ACTION_ADD] = 2,   [ACTION_REMOVE] = 1, [ACTION_DROP] = 4,     [ACTION_SEND] = 10,
    [ACTION_ECHO] = 3,  [ACTION_ALLOC] = 2, [ACTION_STALL] = 3,  [ACTION_STRANGER] = 1, [ACTION_REQUEST] = 8,
};

static enum action_verb random_verb(struct cohorti_prng *p, uint32_t enabled)
{
    for (;;) {
        uint32_t verb =
            (uint32_t)pick(p, 0, ACTION_REQUEST); /* those that came later are drawn later, so that seeds keep their meaning */
        if ((enabled >> verb & 1) != 0 && pick(p, 0, 9) < weights[verb]) {
            return (enum action_verb)verb;
        }
    }
}

static int64_t random_value(struct cohorti_prng *p, enum action_verb verb)
{
    switch (verb) {
    case ACTION_PAUSE:
        return (int64_t)(pick(p, 0, 3) == 0 ? pick(p, 1, 12000) : pick(p, 1, 800));
    case ACTION_STALL:
        return (int64_t)pick(p, 1, 200);
    case ACTION_JUMP:
        return (int64_t)pick(p, 0, 200000) - 100000;
    case ACTION_GROUP:
        return (int64_t)pick(p, 0, 2);
    case ACTION_SEND:
    case ACTION_REQUEST:
        return (int64_t)pick(p, 1, 40);
    case ACTION_ALLOC:
        return (int64_t)pick(p, 1, 60);
    default:
        return 0;
    }
}

/* Dials meet what hangs: two follow within two seconds. */
static int random_hanging(struct scenario *s, struct cohorti_prng *p, uint64_t duration_ms)
{
    int status = COHORT_OK;
    for (uint64_t count = pick(p, 0, 3) == 0 ? pick(p, 1, 6) : 0; count > 0 && status == COHORT_OK; count--) {
        uint32_t a = (uint32_t)pick(p, 0, s->nodes - 1);
        uint32_t b = (a + (uint32_t)pick(p, 1, s->nodes - 1)) % s->nodes;
        uint64_t at_ms = pick(p, 0, duration_ms);
        status = scenario_add(s, at_ms, ACTION_HANG, a, b, 0);
        if (status == COHORT_OK) {
            status = scenario_add(s, at_ms + pick(p, 0, 2000), ACTION_HANG, b, a, 0);
        }
    }
    return status;
}

/* Lanes that are full, and larger messages: where the network is good enough to deliver all that in the end. */
static int random_floods(struct scenario *s, struct cohorti_prng *p, uint64_t duration_ms)
{
    bool good = s->loss_ppm == 0 && s->segment_bytes >= 500 && s->latency_max_us < 3000;
    if (pick(p, 0, 2) != 0 || !good) {
        return COHORT_OK;
    }
    if (pick(p, 0, 2) == 0) {
        s->message_bytes_max = (uint32_t)pick(p, 65280, SCENARIO_MESSAGE_BYTES_MAX);
    }
    int status = COHORT_OK;
    for (uint64_t count = pick(p, 1, 3); count > 0 && status == COHORT_OK; count--) {
        uint32_t a = (uint32_t)pick(p, 0, s->nodes - 1);
        uint32_t b = (a + (uint32_t)pick(p, 1, s->nodes - 1)) % s->nodes;
        uint64_t most = FLOOD_BYTES_MAX / s->message_bytes_max;
        int64_t messages = (int64_t)pick(p, 1, most < FLOOD_MESSAGES_MAX ? most : FLOOD_MESSAGES_MAX);
        status = scenario_add(s, pick(p, 0, duration_ms), ACTION_FLOOD, a, b, messages);
    }
    return status;
}

int scenario_random(struct scenario *s, uint64_t seed)
{
    struct cohorti_prng p;
    cohorti_prng_init(&p, seed);
    scenario_init(s, "random", (uint32_t)(pick(&p, 0, 4) == 0 ? pick(&p, 6, 12) : pick(&p, 2, 5)));
    random_conditions(s, &p);
    uint32_t enabled = (uint32_t)cohorti_prng_next(&p) | 1U << ACTION_SEND | 1U << ACTION_START | 1U << ACTION_UNCUT;
    uint64_t duration_ms = pick(&p, 0, 2) == 0 ? pick(&p, 1000, 60000) : pick(&p, 200, 8000);
    uint64_t count = pick(&p, 3, 60);
    for (uint64_t i = 0; i < count; i++) {
        enum action_verb verb = random_verb(&p, enabled);
        uint32_t a = (uint32_t)pick(&p, 0, s->nodes - 1);
        uint32_t b = (a + (uint32_t)pick(&p, 1, s->nodes - 1)) % s->nodes;
        int status = scenario_add(s, pick(&p, 0, duration_ms), verb, a, b, random_value(&p, verb));
        if (status != COHORT_OK) {
            scenario_deinit(s);
            return status;
        }
    }
    s->queues = pick(&p, 0, 2) == 0;
    int status = random_hanging(s, &p, duration_ms);
    status = status == COHORT_OK ? random_floods(s, &p, duration_ms) : status;
    if (status != COHORT_OK) {
        scenario_deinit(s);
        return status;
    }
    scenario_sort(s);
    return COHORT_OK;
}
