/* SPDX-License-Identifier: Apache-2.0
 * Hash map with intrusive nodes. Inserting never fails: a table that cannot grow only gets slower. The caller compares keys. */
#ifndef COHORTI_MAP_H
#define COHORTI_MAP_H

#include <cohort/types.h>

struct cohorti_map_node {
    struct cohorti_map_node *next;
    uint64_t hash;
};

struct cohorti_map {
    const cohort_allocator *alloc;
    struct cohorti_map_node **buckets; /* power of two; starts at `inline_bucket` so that init cannot fail */
    size_t bucket_count;
    size_t count;
    size_t first_used; /* buckets below are empty; makes taking everything out linear */
    struct cohorti_map_node *inline_bucket;
};

/** A map must stay where it was initialised. */
void cohorti_map_init(struct cohorti_map *m, const cohort_allocator *alloc);
/** Frees the table, not the nodes. */
void cohorti_map_deinit(struct cohorti_map *m);
void cohorti_map_insert(struct cohorti_map *m, struct cohorti_map_node *node, uint64_t hash);
/** `node` must be in the map. */
void cohorti_map_remove(struct cohorti_map *m, struct cohorti_map_node *node);
/** First and next node with this hash, or NULL: the caller compares the key itself. */
struct cohorti_map_node *cohorti_map_find(const struct cohorti_map *m, uint64_t hash);
struct cohorti_map_node *cohorti_map_find_next(const struct cohorti_map_node *node, uint64_t hash);
/** Some node of the map, or NULL when empty: to take everything out at the end. */
struct cohorti_map_node *cohorti_map_any(struct cohorti_map *m);

uint64_t cohorti_hash_bytes(const void *bytes, size_t len);
uint64_t cohorti_hash_u64(uint64_t v);

#endif
