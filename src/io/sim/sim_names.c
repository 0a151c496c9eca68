/* SPDX-License-Identifier: Apache-2.0
 * Host names of the simulated world: a table, and lookups that take a moment. Names are the same for all hosts. */
#include "io/sim/sim_world.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define LOOKUP_NS_MIN (UINT64_C(200) * 1000)
#define LOOKUP_NS_MAX (20 * SIM_MS)

struct sim_name {
    struct cohorti_list of_world;
    char name[COHORT_HOST_BYTES_MAX + 1];
    char ip[COHORTI_ADDRESS_BYTES_MAX + 1];
};

struct cohorti_lookup {
    struct sim_event event;
    struct cohorti_loop *loop;
    cohorti_resolved_fn fn;
    void *ctx;
    char name[COHORT_HOST_BYTES_MAX + 1];
};

int sim_name_add(struct sim_world *w, const char *name, const char *ip)
{
    struct sim_name *n = cohorti_alloc_zero(w->alloc, sizeof *n);
    if (n == NULL) {
        return COHORT_ENOMEM;
    }
    snprintf(n->name, sizeof n->name, "%s", name);
    snprintf(n->ip, sizeof n->ip, "%s", ip);
    cohorti_list_append(&w->names, &n->of_world);
    return COHORT_OK;
}

void sim_name_forget(struct sim_world *w, const char *name)
{
    COHORTI_LIST_FOREACH_SAFE (it, &w->names) {
        struct sim_name *n = COHORTI_CONTAINER(it, struct sim_name, of_world);
        if (name == NULL || strcmp(n->name, name) == 0) {
            cohorti_list_remove(it);
            cohorti_release(w->alloc, n);
        }
    }
}

void sim_name_find(const struct sim_world *w, const char *name, struct cohorti_addresses *out)
{
    memset(out, 0, sizeof *out);
    COHORTI_LIST_FOREACH (it, &w->names) {
        const struct sim_name *n = COHORTI_CONTAINER(it, struct sim_name, of_world);
        if (strcmp(n->name, name) == 0 && out->count < COHORTI_ADDRESSES_MAX) {
            memcpy(out->at[out->count++], n->ip, sizeof n->ip);
        }
    }
}

static void answer(void *arg)
{
    struct cohorti_lookup *lookup = arg;
    struct cohorti_lookup copy = *lookup;
    struct sim_world *w = lookup->loop->machine->world;
    struct cohorti_addresses found;
    sim_name_find(w, copy.name, &found);
    cohorti_release(w->alloc, lookup);
    copy.fn(copy.ctx, found.count > 0 ? COHORT_OK : COHORT_ENORESOLVE, &found, "not in the table of names");
}

static void on_found(struct sim_event *event)
{
    struct cohorti_lookup *lookup = COHORTI_CONTAINER(event, struct cohorti_lookup, event);
    struct sim_world *w = lookup->loop->machine->world;
    if (!lookup->loop->machine->dead && !sim_loop_call(lookup->loop, answer, lookup)) {
        sim_event_set(w, event, w->now_ns + SIM_MS);
    }
}

int sim_resolve(struct cohorti_loop *loop, const char *name, cohorti_resolved_fn fn, void *ctx, struct cohorti_lookup **out)
{
    struct sim_world *w = loop->machine->world;
    struct cohorti_lookup *lookup = cohorti_alloc_zero(w->alloc, sizeof *lookup);
    if (lookup == NULL) {
        return COHORT_ENOMEM;
    }
    sim_event_init(&lookup->event, on_found);
    lookup->loop = loop;
    lookup->fn = fn;
    lookup->ctx = ctx;
    snprintf(lookup->name, sizeof lookup->name, "%s", name);
    sim_event_set(w, &lookup->event, w->now_ns + sim_between(w, LOOKUP_NS_MIN, LOOKUP_NS_MAX));
    *out = lookup;
    return COHORT_OK;
}

void sim_resolve_cancel(struct cohorti_lookup *lookup)
{
    struct sim_world *w = lookup->loop->machine->world;
    sim_event_set(w, &lookup->event, COHORTI_NEVER);
    cohorti_release(w->alloc, lookup);
}

/* There are no files in this world: an application gives definitions to cohort_node_apply_definition(). */
int sim_watch_file(struct cohorti_loop *loop, const char *path, uint32_t poll_ms, void (*fn)(void *ctx), void *ctx,
                   struct cohorti_file_watch **out)
{
    return COHORT_ENOTSUP;
}

void sim_unwatch_file(struct cohorti_file_watch *watch)
{
    assert(false);
    (void)watch;
}
