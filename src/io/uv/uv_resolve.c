/* SPDX-License-Identifier: Apache-2.0
 *
 * Host names to addresses, with getaddrinfo() on a thread of its own for each lookup.
 *
 * Rejected: uv_getaddrinfo(). getaddrinfo() cannot be interrupted, and libuv's request belongs to its loop: a node could not be
 * closed before a resolver that does not answer has given up, which takes it up to half a minute; and only two names at a time
 * are looked up by libuv's pool, so that two such names would hold up all others.
 *
 * A lookup has two owners, its thread and the loop's handle, and goes with the later. Cancelled, it is the thread's alone, even
 * when the loop, the node and its allocator are gone: hence malloc.
 */
#include "io/uv/uv_io.h"

#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOKUPS_MAX 64 /* threads in this process */

struct cohorti_lookup {
    uv_async_t answer;
    struct cohorti_mutex lock;
    unsigned owners; /* under lock */
    bool cancelled;  /* under lock: no answer is sent */
    cohorti_resolved_fn fn;
    void *ctx;
    char name[COHORT_HOST_BYTES_MAX + 1];
    int status;
    struct cohorti_addresses addresses;
    char why[128];
};

static _Atomic unsigned lookups;

static void leave(struct cohorti_lookup *lookup)
{
    cohorti_mutex_lock(&lookup->lock);
    bool last = --lookup->owners == 0;
    cohorti_mutex_unlock(&lookup->lock);
    if (last) {
        cohorti_mutex_deinit(&lookup->lock);
        free(lookup);
    }
}

static void take_addresses(struct cohorti_lookup *lookup, const struct addrinfo *found)
{
    struct cohorti_addresses *out = &lookup->addresses;
    for (; found != NULL && out->count < COHORTI_ADDRESSES_MAX; found = found->ai_next) {
        if (getnameinfo(found->ai_addr, found->ai_addrlen, out->at[out->count], sizeof out->at[0], NULL, 0, NI_NUMERICHOST) == 0) {
            out->count++;
        }
    }
}

static void *look_up(void *arg)
{
    struct cohorti_lookup *lookup = arg;
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int error = getaddrinfo(lookup->name, NULL, &hints, &found);
    if (error == 0) {
        take_addresses(lookup, found);
        freeaddrinfo(found);
    }
    lookup->status = lookup->addresses.count > 0 ? COHORT_OK : COHORT_ENORESOLVE;
    snprintf(lookup->why, sizeof lookup->why, "%s", error == 0 ? "no address" : gai_strerror(error));
    atomic_fetch_sub(&lookups, 1);
    cohorti_mutex_lock(&lookup->lock);
    if (!lookup->cancelled) {
        uv_async_send(&lookup->answer);
    }
    cohorti_mutex_unlock(&lookup->lock);
    leave(lookup);
    return NULL;
}

static void on_closed(uv_handle_t *handle)
{
    leave(handle->data);
}

static void close_answer(struct cohorti_lookup *lookup)
{
    cohorti_mutex_lock(&lookup->lock);
    lookup->cancelled = true;
    cohorti_mutex_unlock(&lookup->lock);
    uv_close((uv_handle_t *)&lookup->answer, on_closed);
}

static void on_answer(uv_async_t *handle)
{
    struct cohorti_lookup *lookup = handle->data;
    close_answer(lookup);
    lookup->fn(lookup->ctx, lookup->status, &lookup->addresses, lookup->why);
}

/* The application's signals are none of ours. */
static int start_thread(struct cohorti_lookup *lookup)
{
    pthread_t thread;
    pthread_attr_t attr;
    sigset_t all, before;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, &attr, look_up, lookup);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return error;
}

int cohorti_uv_resolve(struct cohorti_loop *loop, const char *name, cohorti_resolved_fn fn, void *ctx, struct cohorti_lookup **out)
{
    struct cohorti_lookup *lookup = calloc(1, sizeof *lookup);
    if (lookup == NULL || uv_async_init(&loop->uv, &lookup->answer, on_answer) != 0) {
        free(lookup);
        return COHORT_ENOMEM;
    }
    cohorti_mutex_init(&lookup->lock);
    lookup->owners = 2;
    lookup->answer.data = lookup;
    lookup->fn = fn;
    lookup->ctx = ctx;
    snprintf(lookup->name, sizeof lookup->name, "%s", name);
    if (atomic_fetch_add(&lookups, 1) >= LOOKUPS_MAX || start_thread(lookup) != 0) {
        atomic_fetch_sub(&lookups, 1);
        lookup->owners = 1;
        close_answer(lookup);
        return COHORT_ELIMIT;
    }
    *out = lookup;
    return COHORT_OK;
}

void cohorti_uv_resolve_cancel(struct cohorti_lookup *lookup)
{
    close_answer(lookup);
}
