/* SPDX-License-Identifier: Apache-2.0
 *
 * The eyes and ears of a demonstration: what its agents report, and waiting for it with a bound.
 */
#ifndef COHORT_CLI_DEMO_H
#define COHORT_CLI_DEMO_H

#include "client.h"
#include "demo_cluster.h"

#include <cohort/types.h>

enum {
    DEMO_WAIT_MS = 30000,
    HEARD_MAX = 64
};

struct demo;

/** A listener at one agent; remembers what it heard. */
struct ear {
    struct demo *demo;
    int index;
    bool open;
    struct client client;
    struct client_stream stream;
    int heard_count;
    struct {
        char from[COHORT_ID_BYTES_MAX + 1];
        char text[64];
    } heard[HEARD_MAX];
};

struct demo {
    struct demo_cluster cluster;
    struct client clients[DEMO_NODES_MAX];
    int client_count;
    struct ear ears[DEMO_NODES_MAX];
    CURLM *multi;
    bool ending;  /* agents may end now */
    bool unclean; /* one ended with another exit code than 0 */
};

/** Set when a signal asks us to end. */
bool demo_interrupted(void);
void demo_catch_signals(void);

uint64_t demo_now_ms(void);

/**
 * Ask again and again until `seen` says yes. False, after DEMO_WAIT_MS, on a signal, or when an agent that should run has
 * ended; then `what` is named on stderr as not seen.
 */
bool demo_wait(struct demo *demo, bool (*seen)(struct demo *demo, const void *arg), const void *arg, const char *what);

/** Members as agent `index` sees them; NULL if it does not answer. */
json_t *demo_members(struct demo *demo, int index);

/** How agent `index` sees member `id`. False: it does not. */
bool demo_member(struct demo *demo, int index, const char *id, bool *active, uint64_t *incarnation);

bool ear_open(struct demo *demo, int index, const char *subject);
void ear_close(struct ear *ear);
bool ear_heard(const struct ear *ear, const char *from, const char *text);

#endif
