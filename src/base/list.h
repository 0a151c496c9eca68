/* SPDX-License-Identifier: Apache-2.0
 * Intrusive doubly linked list: a ring through a head. A node that is in no list points at itself. */
#ifndef COHORTI_LIST_H
#define COHORTI_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct cohorti_list {
    struct cohorti_list *next;
    struct cohorti_list *prev;
};

#define COHORTI_CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void cohorti_list_init(struct cohorti_list *l)
{
    l->next = l;
    l->prev = l;
}

static inline bool cohorti_list_empty(const struct cohorti_list *l)
{
    return l->next == l;
}

/** Put `node` last in the list of `head`. */
static inline void cohorti_list_append(struct cohorti_list *head, struct cohorti_list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

/** Put `node` first in the list of `head`. */
static inline void cohorti_list_prepend(struct cohorti_list *head, struct cohorti_list *node)
{
    cohorti_list_append(head->next, node);
}

/** Put all of `from` last in the list of `head`, in their order; `from` is empty then. */
static inline void cohorti_list_move_all(struct cohorti_list *head, struct cohorti_list *from)
{
    if (!cohorti_list_empty(from)) {
        from->next->prev = head->prev;
        from->prev->next = head;
        head->prev->next = from->next;
        head->prev = from->prev;
        cohorti_list_init(from);
    }
}

/** Take `node` out of its list; harmless when it is in none. */
static inline void cohorti_list_remove(struct cohorti_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    cohorti_list_init(node);
}

/** Take out and return the first node, or NULL. */
static inline struct cohorti_list *cohorti_list_pop(struct cohorti_list *head)
{
    struct cohorti_list *first = head->next;
    if (first == head) {
        return NULL;
    }
    cohorti_list_remove(first);
    return first;
}

/* NOLINTBEGIN(bugprone-macro-parentheses): `it` is declared here, a name in parentheses would not be */
#define COHORTI_LIST_FOREACH(it, head) for (struct cohorti_list *it = (head)->next; it != (head); it = it->next)
/* `it` may be removed inside the loop; no other node may be. */
#define COHORTI_LIST_FOREACH_SAFE(it, head) \
    for (struct cohorti_list *it = (head)->next, *it##_next = it->next; it != (head); it = it##_next, it##_next = it->next)
/* NOLINTEND(bugprone-macro-parentheses) */

#endif
