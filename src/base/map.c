/* SPDX-License-Identifier: Apache-2.0
 *
 * Hash map of intrusive nodes: an array of chains, doubled when it holds more nodes than chains. The first "array" is one
 * chain inside the struct, so that init and insert cannot fail; for that reason a map must not be moved in memory.
 *
 * Invariants: bucket_count is a power of two; a node is in chain hash & (bucket_count - 1); chains below first_used are empty.
 *
 * The hash is not keyed. Peers choose some of our keys, so every table they fill is bounded by a limit of its own; at those
 * sizes the worst chain costs microseconds, and replays stay the same from run to run. The table never shrinks.
 */
#include "base/map.h"

#include "base/alloc.h"

#include <assert.h>
#include <string.h>

#define FIRST_BUCKETS ((size_t)8)

void cohorti_map_init(struct cohorti_map *m, const cohort_allocator *alloc)
{
    memset(m, 0, sizeof(*m));
    m->alloc = alloc;
    m->buckets = &m->inline_bucket;
    m->bucket_count = 1;
}

void cohorti_map_deinit(struct cohorti_map *m)
{
    if (m->buckets != &m->inline_bucket) {
        cohorti_release(m->alloc, m->buckets);
    }
    cohorti_map_init(m, m->alloc);
}

static size_t bucket_of(const struct cohorti_map *m, uint64_t hash)
{
    return (size_t)hash & (m->bucket_count - 1);
}

static void link_node(struct cohorti_map *m, struct cohorti_map_node *node)
{
    size_t i = bucket_of(m, node->hash);
    node->next = m->buckets[i];
    m->buckets[i] = node;
    if (i < m->first_used) {
        m->first_used = i;
    }
}

static void grow(struct cohorti_map *m)
{
    size_t old_count = m->bucket_count;
    size_t count = old_count < FIRST_BUCKETS ? FIRST_BUCKETS : old_count * 2;
    const size_t bucket_bytes = sizeof(*m->buckets); /* NOLINT(bugprone-sizeof-expression): buckets are pointers */
    if (count > SIZE_MAX / 2 / bucket_bytes) {
        return;
    }
    struct cohorti_map_node **buckets = cohorti_alloc_zero(m->alloc, count * bucket_bytes);
    if (buckets == NULL) {
        return; /* slower, not wrong */
    }
    struct cohorti_map_node **old = m->buckets;
    m->buckets = buckets;
    m->bucket_count = count;
    m->first_used = count;
    for (size_t i = 0; i < old_count; i++) {
        for (struct cohorti_map_node *node = old[i], *next; node != NULL; node = next) {
            next = node->next;
            link_node(m, node);
        }
    }
    if (old != &m->inline_bucket) {
        cohorti_release(m->alloc, old);
    }
}

void cohorti_map_insert(struct cohorti_map *m, struct cohorti_map_node *node, uint64_t hash)
{
    if (m->count >= m->bucket_count) {
        grow(m);
    }
    node->hash = hash;
    link_node(m, node);
    m->count++;
}

void cohorti_map_remove(struct cohorti_map *m, struct cohorti_map_node *node)
{
    struct cohorti_map_node **at = &m->buckets[bucket_of(m, node->hash)];
    while (*at != node) {
        assert(*at != NULL); /* not in this map */
        at = &(*at)->next;
    }
    *at = node->next;
    node->next = NULL;
    m->count--;
}

static struct cohorti_map_node *first_with(struct cohorti_map_node *node, uint64_t hash)
{
    while (node != NULL && node->hash != hash) {
        node = node->next;
    }
    return node;
}

struct cohorti_map_node *cohorti_map_find(const struct cohorti_map *m, uint64_t hash)
{
    return first_with(m->buckets[bucket_of(m, hash)], hash);
}

struct cohorti_map_node *cohorti_map_find_next(const struct cohorti_map_node *node, uint64_t hash)
{
    return first_with(node->next, hash);
}

struct cohorti_map_node *cohorti_map_any(struct cohorti_map *m)
{
    if (m->count == 0) {
        return NULL;
    }
    while (m->buckets[m->first_used] == NULL) {
        m->first_used++;
    }
    return m->buckets[m->first_used];
}

/* Eight bytes at a time, each mixed in by a multiplication and a shift that brings its high bits down; names are short and hashed for
 * every message, so a hash that takes a byte at a time shows. */
uint64_t cohorti_hash_bytes(const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ len;
    for (; len >= 8; at += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 32;
    }
    uint64_t rest = 0;
    memcpy(&rest, at, len);
    return cohorti_hash_u64(h ^ rest);
}

/* The finaliser of splitmix64: a bijection, so different numbers never have equal hashes. */
uint64_t cohorti_hash_u64(uint64_t v)
{
    v += UINT64_C(0x9e3779b97f4a7c15);
    v = (v ^ (v >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    v = (v ^ (v >> 27)) * UINT64_C(0x94d049bb133111eb);
    return v ^ (v >> 31);
}
