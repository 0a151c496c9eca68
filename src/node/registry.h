/* SPDX-License-Identifier: Apache-2.0
 *
 * registry: message handlers by subject, and event listeners.
 *
 * A dispatch takes a reference to an immutable array of handlers under a short lock and calls them with none held; adding and
 * removing replace the array. So a removed handler may still be running elsewhere: its `release` says when it is not.
 */
#ifndef COHORTI_REGISTRY_H
#define COHORTI_REGISTRY_H

#include "base/map.h"
#include "io/sync.h"

#include <cohort/cohort.h>
#include <cohort/stream.h>
#include <stdatomic.h>

struct cohorti_handler {
    _Atomic uint32_t refs;
    _Atomic bool removed;
    cohort_handle_id id;
    union {
        cohort_message_fn message;
        cohort_event_fn event;
        cohort_undelivered_fn undelivered;
        cohort_writable_fn writable;
        cohort_piece_fn piece;
    } fn;
    bool stream; /* fn.piece */
    void *arg;
    cohort_release_fn release;
    struct cohort_queue *queue; /* NULL: it runs on the loop */
};

#define COHORTI_HANDLERS_QUEUED_MAX 16 /* of one subject, that have queues */

struct cohorti_handlers { /* immutable once published */
    _Atomic uint32_t refs;
    size_t count;
    struct cohorti_handler *at[];
};

struct cohorti_registry {
    const cohort_allocator *alloc;
    struct cohorti_mutex lock;
    struct cohorti_map slots; /* of struct slot, by key */
    uint32_t count, max;
    cohort_handle_id next_id;
    _Atomic uint32_t generation; /* changes with every change: what was got before may be out of date */
};

/* Keys of the slots that are no subject: a subject holds no space. */
#define COHORTI_KEY_EVENTS " events"
#define COHORTI_KEY_DEFAULT " default"
#define COHORTI_KEY_UNDELIVERED " undelivered"
#define COHORTI_KEY_WRITABLE " writable"

void cohorti_registry_init(struct cohorti_registry *r, const cohort_allocator *alloc, uint32_t max);
/** Removes every handler: release callbacks run here. No dispatch may be running. */
void cohorti_registry_deinit(struct cohorti_registry *r);

/** `handler` holds fn, arg and release; the rest is filled in. COHORT_ELIMIT, COHORT_ENOMEM. */
COHORT_NODISCARD int cohorti_registry_add(struct cohorti_registry *r, const char *key, const struct cohorti_handler *handler,
                                          cohort_handle_id *out);
/** COHORT_EINVAL: no such id. */
COHORT_NODISCARD int cohorti_registry_remove(struct cohorti_registry *r, cohort_handle_id id);

/** The handlers of a key, referenced; NULL when there are none. */
struct cohorti_handlers *cohorti_registry_get(struct cohorti_registry *r, const char *key);
/** One reference to one handler less. */
void cohorti_registry_unref(struct cohorti_registry *r, struct cohorti_handler *h, uint32_t count);
void cohorti_registry_put(struct cohorti_registry *r, struct cohorti_handlers *handlers);

#endif
