/* SPDX-License-Identifier: Apache-2.0
 * Scenarios as data: building, copying, and their text. */
#include "sim/scenario.h"

#include "sim/ledger.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Verb, and which operands follow it: 'a' and 'b' nodes, 'v' a number. */
static const struct {
    const char *word, *operands;
} verbs[ACTION_COUNT] = {
    [ACTION_START] = {"start", "a"},       [ACTION_KILL] = {"kill", "a"},         [ACTION_CLOSE] = {"close", "a"},
    [ACTION_OFF] = {"off", "a"},           [ACTION_PAUSE] = {"pause", "av"},      [ACTION_JUMP] = {"jump", "av"},
    [ACTION_CUT] = {"cut", "ab"},          [ACTION_UNCUT] = {"uncut", "ab"},      [ACTION_GROUP] = {"group", "av"},
    [ACTION_HEAL] = {"heal", ""},          [ACTION_RESET] = {"reset", "ab"},      [ACTION_ADD] = {"add", "ab"},
    [ACTION_REMOVE] = {"remove", "ab"},    [ACTION_DROP] = {"drop", "ab"},        [ACTION_SEND] = {"send", "abv"},
    [ACTION_ECHO] = {"echo", "ab"},        [ACTION_ALLOC] = {"alloc", "av"},      [ACTION_STALL] = {"stall", "av"},
    [ACTION_STRANGER] = {"stranger", "a"}, [ACTION_REQUEST] = {"request", "abv"}, [ACTION_HANG] = {"hang", "ab"},
    [ACTION_FLOOD] = {"flood", "abv"},
};

void scenario_init(struct scenario *s, const char *name, uint32_t nodes)
{
    memset(s, 0, sizeof *s);
    snprintf(s->name, sizeof s->name, "%s", name);
    s->nodes = nodes;
    s->listed = true;
    s->latency_min_us = 50;
    s->latency_max_us = 250;
    s->segment_bytes = 1448;
    s->window_bytes = 65536;
    s->message_bytes_max = 256;
    s->lanes = true;
}

void scenario_deinit(struct scenario *s)
{
    free(s->actions);
    memset(s, 0, sizeof *s);
}

int scenario_add(struct scenario *s, uint64_t at_ms, enum action_verb verb, uint32_t a, uint32_t b, int64_t v)
{
    if (s->action_count >= SCENARIO_ACTIONS_MAX) {
        return COHORT_ELIMIT;
    }
    if (s->action_count == s->action_cap) {
        uint32_t cap = s->action_cap == 0 ? 32 : s->action_cap * 2;
        struct action *grown = realloc(s->actions, cap * sizeof *grown);
        if (grown == NULL) {
            return COHORT_ENOMEM;
        }
        s->actions = grown;
        s->action_cap = cap;
    }
    s->actions[s->action_count++] = (struct action){.at_ms = at_ms, .verb = verb, .a = a, .b = b, .v = v};
    return COHORT_OK;
}

void scenario_sort(struct scenario *s)
{
    for (uint32_t i = 1; i < s->action_count; i++) { /* insertion: short, and keeps equal times in order */
        struct action moved = s->actions[i];
        uint32_t at = i;
        while (at > 0 && s->actions[at - 1].at_ms > moved.at_ms) {
            s->actions[at] = s->actions[at - 1];
            at--;
        }
        s->actions[at] = moved;
    }
}

int scenario_copy(struct scenario *to, const struct scenario *from)
{
    *to = *from;
    to->action_cap = from->action_count;
    to->actions = malloc((from->action_count + 1) * sizeof *to->actions);
    if (to->actions == NULL) {
        memset(to, 0, sizeof *to);
        return COHORT_ENOMEM;
    }
    if (from->action_count > 0) {
        memcpy(to->actions, from->actions, from->action_count * sizeof *to->actions);
    }
    return COHORT_OK;
}

/* ---- text ---------------------------------------------------------------------------------------------------------- */

void scenario_print(const struct scenario *s, void *file)
{
    FILE *out = file;
    fprintf(out, "nodes %u\nadmission %s\ndial %s\nloops %u\n", s->nodes, s->listed ? "listed" : "open",
            s->seed_dial ? "seed" : "backoff", s->loops);
    fprintf(out, "latency_us %" PRIu64 " %" PRIu64 "\nloss_ppm %u\nsegment_bytes %u\nwindow_bytes %u\nmessage_bytes %u\n",
            s->latency_min_us, s->latency_max_us, s->loss_ppm, s->segment_bytes, s->window_bytes, s->message_bytes_max);
    fprintf(out, "lanes %s\n", s->lanes ? "all" : "normal");
    if (s->ttl_ms > 0) {
        fprintf(out, "ttl_ms %u\n", s->ttl_ms);
    }
    if (s->queues) {
        fprintf(out, "queues some\n");
    }
    if (s->converge_ms > 0) {
        fprintf(out, "converge_ms %u\n", s->converge_ms);
    }
    for (uint32_t i = 0; i < s->action_count; i++) {
        const struct action *action = &s->actions[i];
        fprintf(out, "at %" PRIu64 " %s", action->at_ms, verbs[action->verb].word);
        for (const char *p = verbs[action->verb].operands; *p != '\0'; p++) {
            fprintf(out, " %" PRId64, *p == 'a' ? (int64_t)action->a : *p == 'b' ? (int64_t)action->b : action->v);
        }
        fprintf(out, "\n");
    }
}

static int bad_line(cohort_error *error, const char *name, unsigned line, const char *what)
{
    error->code = COHORT_ESYNTAX;
    snprintf(error->text, sizeof error->text, "%s:%u: %s", name, line, what);
    return COHORT_ESYNTAX;
}

static bool parse_option(struct scenario *s, const char *text)
{
    char word[32];
    return sscanf(text, "nodes %u", &s->nodes) == 1 || sscanf(text, "loops %u", &s->loops) == 1 ||
           sscanf(text, "latency_us %" SCNu64 " %" SCNu64, &s->latency_min_us, &s->latency_max_us) == 2 ||
           sscanf(text, "loss_ppm %u", &s->loss_ppm) == 1 || sscanf(text, "segment_bytes %u", &s->segment_bytes) == 1 ||
           sscanf(text, "window_bytes %u", &s->window_bytes) == 1 || sscanf(text, "message_bytes %u", &s->message_bytes_max) == 1 ||
           sscanf(text, "converge_ms %u", &s->converge_ms) == 1 || sscanf(text, "ttl_ms %u", &s->ttl_ms) == 1 ||
           (sscanf(text, "admission %31s", word) == 1 && (s->listed = strcmp(word, "listed") == 0, true)) ||
           (sscanf(text, "queues %31s", word) == 1 && (s->queues = strcmp(word, "some") == 0, true)) ||
           (sscanf(text, "lanes %31s", word) == 1 && (s->lanes = strcmp(word, "all") == 0, true)) ||
           (sscanf(text, "dial %31s", word) == 1 && (s->seed_dial = strcmp(word, "seed") == 0, true));
}

static int parse_action(struct scenario *s, const char *text)
{
    char word[32];
    uint64_t at_ms = 0;
    int used = 0;
    if (sscanf(text, "at %" SCNu64 " %31s%n", &at_ms, word, &used) != 2) {
        return COHORT_ESYNTAX;
    }
    for (int verb = 0; verb < ACTION_COUNT; verb++) {
        if (strcmp(verbs[verb].word, word) != 0) {
            continue;
        }
        int64_t values[3] = {0};
        const char *at = text + used;
        const char *operands = verbs[verb].operands;
        for (size_t i = 0; operands[i] != '\0'; i++) {
            int more = 0;
            int64_t v = 0;
            if (sscanf(at, "%" SCNd64 "%n", &v, &more) != 1 || (operands[i] != 'v' && (v < 0 || v >= s->nodes))) {
                return COHORT_ESYNTAX;
            }
            values[operands[i] == 'a' ? 0 : operands[i] == 'b' ? 1 : 2] = v;
            at += more;
        }
        return scenario_add(s, at_ms, (enum action_verb)verb, (uint32_t)values[0], (uint32_t)values[1], values[2]);
    }
    return COHORT_ESYNTAX;
}

static bool valid(const struct scenario *s)
{
    return s->nodes >= 1 && s->nodes <= SCENARIO_NODES_MAX && s->loops <= 8 && s->latency_min_us <= s->latency_max_us &&
           s->segment_bytes > 0 && s->window_bytes >= 4096 && s->message_bytes_max >= LEDGER_HEAD_BYTES &&
           s->message_bytes_max <= SCENARIO_MESSAGE_BYTES_MAX && s->loss_ppm <= 500000;
}

int scenario_parse(struct scenario *s, const char *name, const char *text, cohort_error *error)
{
    scenario_init(s, name, s->nodes == 0 ? 3 : s->nodes);
    unsigned number = 0;
    for (const char *at = text; *at != '\0';) {
        char line[256];
        size_t len = strcspn(at, "\n");
        number++;
        snprintf(line, sizeof line, "%.*s", (int)(len < sizeof line ? len : sizeof line - 1), at);
        at += len + (at[len] == '\n');
        line[strcspn(line, "#\r")] = '\0';
        if (line[strspn(line, " \t")] == '\0') {
            continue;
        }
        int status = strncmp(line, "at ", 3) == 0 ? parse_action(s, line) : parse_option(s, line) ? COHORT_OK : COHORT_ESYNTAX;
        if (status != COHORT_OK || !valid(s)) {
            scenario_deinit(s);
            return bad_line(error, name, number,
                            status == COHORT_ENOMEM ? "out of memory" : "not an option or action, or out of range");
        }
    }
    scenario_sort(s);
    return COHORT_OK;
}
