/* SPDX-License-Identifier: Apache-2.0
 * Copy on write: arrays are small and change rarely, dispatch is often. */
#include "node/registry.h"

#include "base/alloc.h"
#include "node/queue.h"

#include <string.h>

struct slot {
    struct cohorti_map_node node;
    struct cohorti_handlers *handlers; /* NULL when empty */
    char key[];
};

void cohorti_registry_init(struct cohorti_registry *r, const cohort_allocator *alloc, uint32_t max)
{
    memset(r, 0, sizeof *r);
    r->alloc = alloc;
    r->max = max;
    r->next_id = 1;
    cohorti_mutex_init(&r->lock);
    cohorti_map_init(&r->slots, alloc);
}

void cohorti_registry_unref(struct cohorti_registry *r, struct cohorti_handler *h, uint32_t count)
{
    if (atomic_fetch_sub(&h->refs, count) == count) {
        if (h->release != NULL) {
            h->release(h->arg);
        }
        cohorti_queue_count(h->queue, -1);
        cohorti_release(r->alloc, h);
    }
}

void cohorti_registry_put(struct cohorti_registry *r, struct cohorti_handlers *handlers)
{
    if (handlers != NULL && atomic_fetch_sub(&handlers->refs, 1) == 1) {
        for (size_t i = 0; i < handlers->count; i++) {
            cohorti_registry_unref(r, handlers->at[i], 1);
        }
        cohorti_release(r->alloc, handlers);
    }
}

void cohorti_registry_deinit(struct cohorti_registry *r)
{
    struct cohorti_map_node *node;
    while ((node = cohorti_map_any(&r->slots)) != NULL) {
        struct slot *slot = (struct slot *)node;
        cohorti_map_remove(&r->slots, node);
        cohorti_registry_put(r, slot->handlers);
        cohorti_release(r->alloc, slot);
    }
    cohorti_map_deinit(&r->slots);
    cohorti_mutex_deinit(&r->lock);
}

static struct slot *find_slot(struct cohorti_registry *r, const char *key)
{
    uint64_t hash = cohorti_hash_bytes(key, strlen(key));
    struct cohorti_map_node *node = cohorti_map_find(&r->slots, hash);
    while (node != NULL && strcmp(((struct slot *)node)->key, key) != 0) {
        node = cohorti_map_find_next(node, hash);
    }
    return (struct slot *)node;
}

/* An array like `old` (which may be NULL) with room for one more; every handler in it is referenced once more. */
static struct cohorti_handlers *copy(struct cohorti_registry *r, const struct cohorti_handlers *old,
                                     const struct cohorti_handler *without)
{
    size_t count = old == NULL ? 0 : old->count;
    struct cohorti_handlers *new = cohorti_alloc(r->alloc, sizeof *new + (count + 1) * sizeof(struct cohorti_handler *));
    if (new == NULL) {
        return NULL;
    }
    atomic_init(&new->refs, 1);
    new->count = 0;
    for (size_t i = 0; i < count; i++) {
        if (old->at[i] != without) {
            atomic_fetch_add(&old->at[i]->refs, 1);
            new->at[new->count++] = old->at[i];
        }
    }
    return new;
}

static struct slot *slot_for(struct cohorti_registry *r, const char *key)
{
    struct slot *slot = find_slot(r, key);
    if (slot == NULL) {
        size_t size = strlen(key) + 1;
        slot = cohorti_alloc_zero(r->alloc, sizeof *slot + size);
        if (slot != NULL) {
            memcpy(slot->key, key, size);
            cohorti_map_insert(&r->slots, &slot->node, cohorti_hash_bytes(key, size - 1));
        }
    }
    return slot;
}

static size_t queued_count(const struct slot *slot)
{
    size_t count = 0;
    for (size_t i = 0; slot != NULL && slot->handlers != NULL && i < slot->handlers->count; i++) {
        count += slot->handlers->at[i]->queue != NULL ? 1 : 0;
    }
    return count;
}

static int add_locked(struct cohorti_registry *r, const char *key, struct cohorti_handler *h, struct cohorti_handlers **old)
{
    if (r->count >= r->max || (h->queue != NULL && queued_count(find_slot(r, key)) >= COHORTI_HANDLERS_QUEUED_MAX)) {
        return COHORT_ELIMIT;
    }
    struct slot *slot = slot_for(r, key);
    struct cohorti_handlers *new = slot == NULL ? NULL : copy(r, slot->handlers, NULL);
    if (new == NULL) {
        return COHORT_ENOMEM;
    }
    h->id = r->next_id++;
    new->at[new->count++] = h; /* takes the reference it was made with */
    *old = slot->handlers;
    slot->handlers = new;
    r->count++;
    atomic_fetch_add(&r->generation, 1);
    return COHORT_OK;
}

int cohorti_registry_add(struct cohorti_registry *r, const char *key, const struct cohorti_handler *handler, cohort_handle_id *out)
{
    struct cohorti_handler *h = cohorti_alloc_zero(r->alloc, sizeof *h);
    if (h == NULL) {
        return COHORT_ENOMEM;
    }
    h->fn = handler->fn;
    h->arg = handler->arg;
    h->release = handler->release;
    h->queue = handler->queue;
    h->stream = handler->stream;
    cohorti_queue_count(h->queue, 1);
    atomic_init(&h->refs, 1);
    struct cohorti_handlers *old = NULL;
    cohorti_mutex_lock(&r->lock);
    int status = add_locked(r, key, h, &old);
    cohort_handle_id id = h->id;
    cohorti_mutex_unlock(&r->lock);
    cohorti_registry_put(r, old);
    if (status != COHORT_OK) {
        cohorti_queue_count(h->queue, -1);
        cohorti_release(r->alloc, h);
    } else if (out != NULL) {
        *out = id;
    }
    return status;
}

/* The slot and handler with this id. Walks all: removing is rare. */
static struct slot *find_handler(struct cohorti_registry *r, cohort_handle_id id, struct cohorti_handler **out)
{
    for (size_t b = 0; b < r->slots.bucket_count; b++) {
        for (struct cohorti_map_node *node = r->slots.buckets[b]; node != NULL; node = node->next) {
            struct slot *slot = (struct slot *)node;
            for (size_t i = 0; slot->handlers != NULL && i < slot->handlers->count; i++) {
                if (slot->handlers->at[i]->id == id) {
                    *out = slot->handlers->at[i];
                    return slot;
                }
            }
        }
    }
    return NULL;
}

int cohorti_registry_remove(struct cohorti_registry *r, cohort_handle_id id)
{
    struct cohorti_handler *h = NULL;
    struct cohorti_handlers *old = NULL;
    cohorti_mutex_lock(&r->lock);
    struct slot *slot = find_handler(r, id, &h);
    int status = slot == NULL ? COHORT_EINVAL : COHORT_OK;
    if (status == COHORT_OK) {
        struct cohorti_handlers *new = NULL;
        if (slot->handlers->count > 1) {
            new = copy(r, slot->handlers, h);
            status = new == NULL ? COHORT_ENOMEM : COHORT_OK;
        }
        if (status == COHORT_OK) {
            atomic_store(&h->removed, true);
            old = slot->handlers;
            slot->handlers = new;
            r->count--;
            atomic_fetch_add(&r->generation, 1);
            if (new == NULL) {
                cohorti_map_remove(&r->slots, &slot->node);
                cohorti_release(r->alloc, slot);
            }
        }
    }
    cohorti_mutex_unlock(&r->lock);
    cohorti_registry_put(r, old);
    return status;
}

struct cohorti_handlers *cohorti_registry_get(struct cohorti_registry *r, const char *key)
{
    cohorti_mutex_lock(&r->lock);
    struct slot *slot = find_slot(r, key);
    struct cohorti_handlers *handlers = slot == NULL ? NULL : slot->handlers;
    if (handlers != NULL) {
        atomic_fetch_add(&handlers->refs, 1);
    }
    cohorti_mutex_unlock(&r->lock);
    return handlers;
}
