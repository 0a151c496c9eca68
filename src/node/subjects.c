/* SPDX-License-Identifier: Apache-2.0
 * A table of names with options, written rarely; empty for most nodes, and then not locked. */
#include "node/subjects.h"

#include "base/alloc.h"

#include <string.h>

struct entry {
    struct cohorti_map_node node;
    cohort_subject_options options;
    char name[];
};

void cohorti_subjects_init(struct cohorti_subjects *s, const cohort_allocator *alloc, uint32_t max)
{
    s->alloc = alloc;
    s->max = max;
    atomic_init(&s->count, 0);
    cohorti_mutex_init(&s->lock);
    cohorti_map_init(&s->by_name, alloc);
}

void cohorti_subjects_deinit(struct cohorti_subjects *s)
{
    struct cohorti_map_node *node;
    while ((node = cohorti_map_any(&s->by_name)) != NULL) {
        cohorti_map_remove(&s->by_name, node);
        cohorti_release(s->alloc, (struct entry *)node);
    }
    cohorti_map_deinit(&s->by_name);
    cohorti_mutex_deinit(&s->lock);
}

static const cohort_subject_options defaults = {.size = sizeof defaults, .lane = COHORT_LANE_NORMAL, .block_ms = 1000};

void cohort_subject_options_init(cohort_subject_options *options, size_t size)
{
    memset(options, 0, size);
    memcpy(options, &defaults, size < sizeof defaults ? size : sizeof defaults);
    options->size = size;
}

static struct entry *find(struct cohorti_subjects *s, const char *name, uint64_t hash)
{
    struct cohorti_map_node *node = cohorti_map_find(&s->by_name, hash);
    while (node != NULL && strcmp(((struct entry *)node)->name, name) != 0) {
        node = cohorti_map_find_next(node, hash);
    }
    return (struct entry *)node;
}

static int set_locked(struct cohorti_subjects *s, const char *name, const cohort_subject_options *options)
{
    size_t size = strlen(name) + 1;
    uint64_t hash = cohorti_hash_bytes(name, size - 1);
    struct entry *entry = find(s, name, hash);
    if (entry == NULL) {
        if (atomic_load(&s->count) >= s->max) {
            return COHORT_ELIMIT;
        }
        entry = cohorti_alloc(s->alloc, sizeof *entry + size);
        if (entry == NULL) {
            return COHORT_ENOMEM;
        }
        memcpy(entry->name, name, size);
        cohorti_map_insert(&s->by_name, &entry->node, hash);
        atomic_fetch_add(&s->count, 1);
    }
    cohort_subject_options_init(&entry->options, sizeof entry->options);
    memcpy(&entry->options, options, options->size < sizeof *options ? options->size : sizeof *options);
    entry->options.size = sizeof entry->options;
    return COHORT_OK;
}

int cohorti_subjects_set(struct cohorti_subjects *s, const char *name, const cohort_subject_options *options)
{
    cohorti_mutex_lock(&s->lock);
    int status = set_locked(s, name, options);
    cohorti_mutex_unlock(&s->lock);
    return status;
}

void cohorti_subjects_get(struct cohorti_subjects *s, const char *name, cohort_subject_options *out)
{
    *out = defaults;
    if (atomic_load_explicit(&s->count, memory_order_acquire) == 0) {
        return;
    }
    cohorti_mutex_lock(&s->lock);
    const struct entry *entry = find(s, name, cohorti_hash_bytes(name, strlen(name)));
    if (entry != NULL) {
        *out = entry->options;
    }
    cohorti_mutex_unlock(&s->lock);
}
