/* SPDX-License-Identifier: Apache-2.0
 * The socket operations of io.h on simulated endpoints. A send or receive may take less than it is offered, by chance. */
#include "io/sim/sim_world.h"

#include <stdio.h>
#include <string.h>

static struct cohorti_socket *socket_new(struct sim_machine *m)
{
    struct cohorti_socket *s = cohorti_alloc_zero(m->world->alloc, sizeof *s);
    if (s != NULL) {
        s->machine = m;
        cohorti_list_init(&s->of_ready);
        cohorti_list_init(&s->of_host);
        cohorti_list_init(&s->accepted);
        cohorti_list_append(&m->sockets, &s->of_machine);
    }
    return s;
}

unsigned sim_socket_events(const struct cohorti_socket *s)
{
    if (s->listening) {
        return s->accepted_count > 0 ? COHORTI_IO_READ : 0;
    }
    const struct sim_endpoint *e = s->endpoint;
    if (e == NULL) {
        return COHORTI_IO_READ | COHORTI_IO_WRITE;
    }
    if (e->state != SIM_ESTABLISHED) {
        return 0;
    }
    unsigned events = cohorti_buffer_len(&e->in) > 0 || e->eof ? COHORTI_IO_READ : 0;
    return events | (cohorti_buffer_len(&e->out) < e->out.limit ? COHORTI_IO_WRITE : 0);
}

void sim_socket_notify(struct cohorti_socket *s)
{
    struct sim_world *w = s->machine->world;
    if (s->loop != NULL && cohorti_list_empty(&s->of_ready) && (sim_socket_events(s) & s->watched) != 0) {
        cohorti_list_append(&s->loop->ready, &s->of_ready);
        sim_loop_schedule(s->loop, w->now_ns + sim_between(w, 0, w->conditions.lateness_max_ns));
    }
}

/* ---- listen, accept, connect --------------------------------------------------------------------------------------- */

int sim_attach(struct cohorti_socket *s, struct cohorti_loop *loop, cohorti_socket_fn fn, void *ctx)
{
    s->loop = loop;
    s->fn = fn;
    s->ctx = ctx;
    s->watched = 0;
    return COHORT_OK;
}

void sim_watch(struct cohorti_socket *s, unsigned events)
{
    s->watched = events;
    sim_socket_notify(s);
}

int sim_listen(struct cohorti_loop *loop, const char *ip, uint16_t port, cohorti_socket_fn fn, void *ctx,
               struct cohorti_socket **out, cohort_error *error)
{
    struct sim_host *host = loop->machine->host;
    bool any = strcmp(ip, "0.0.0.0") == 0 || strcmp(ip, "::") == 0;
    int status = any || strcmp(host->ip, ip) == 0 ? COHORT_OK : COHORT_EADDR;
    COHORTI_LIST_FOREACH (it, &host->listeners) {
        status = COHORTI_CONTAINER(it, struct cohorti_socket, of_host)->port == port ? COHORT_EADDRINUSE : status;
    }
    struct cohorti_socket *s = status == COHORT_OK ? socket_new(loop->machine) : NULL;
    if (s == NULL) {
        error->code = status == COHORT_OK ? COHORT_ENOMEM : status;
        snprintf(error->text, sizeof error->text, "cannot listen on %s port %u: %s", ip, port, cohort_error_text(error->code));
        return error->code;
    }
    s->listening = true;
    s->port = port;
    s->number = ++host->world->listener_last;
    cohorti_list_append(&host->listeners, &s->of_host);
    (void)sim_attach(s, loop, fn, ctx);
    sim_watch(s, COHORTI_IO_READ);
    *out = s;
    return COHORT_OK;
}

int sim_accept(struct cohorti_socket *listener, struct cohorti_socket **out)
{
    if (listener->accepted_count == 0) {
        return COHORT_EAGAIN;
    }
    struct cohorti_socket *s = socket_new(listener->machine);
    if (s == NULL) {
        return COHORT_ENOMEM;
    }
    listener->accepted_count--;
    s->endpoint = COHORTI_CONTAINER(cohorti_list_pop(&listener->accepted), struct sim_endpoint, of_accepted);
    s->endpoint->socket = s;
    snprintf(s->remote, sizeof s->remote, "%.40s:#%llu", s->endpoint->peer_host->ip, (unsigned long long)s->endpoint->id);
    *out = s;
    return COHORT_OK;
}

int sim_connect(struct cohorti_io *io, const char *ip, uint16_t port, struct cohorti_socket **out)
{
    struct sim_machine *m = COHORTI_CONTAINER(io, struct sim_machine, base);
    struct sim_host *host = sim_host_get(m->world, ip);
    struct cohorti_socket *s = host == NULL ? NULL : socket_new(m);
    if (s == NULL) {
        return COHORT_ENOMEM;
    }
    snprintf(s->remote, sizeof s->remote, "%s:%u", ip, port);
    s->endpoint = sim_endpoint_connect(s, host, port);
    if (s->endpoint == NULL) {
        cohorti_list_remove(&s->of_machine);
        cohorti_release(m->world->alloc, s);
        return COHORT_ENOMEM;
    }
    *out = s;
    return COHORT_OK;
}

int sim_connect_result(struct cohorti_socket *s)
{
    if (s->endpoint == NULL) {
        return s->error;
    }
    return s->endpoint->state == SIM_ESTABLISHED ? COHORT_OK : COHORT_EAGAIN;
}

void sim_detach(struct cohorti_socket *s)
{
    cohorti_list_remove(&s->of_ready);
    s->loop = NULL;
    s->watched = 0;
}

/* ---- bytes --------------------------------------------------------------------------------------------------------- */

static size_t some_of(struct cohorti_socket *s, size_t len)
{
    struct sim_world *w = s->machine->world;
    bool whole = cohorti_prng_below(&w->prng, 4) != 0;
    return whole ? len : (size_t)sim_between(w, 1, len);
}

int sim_recv(struct cohorti_socket *s, const struct cohorti_room *rooms, size_t count, size_t *n)
{
    struct sim_endpoint *e = s->endpoint;
    if (e == NULL) {
        return s->error;
    }
    size_t there = cohorti_buffer_len(&e->in);
    if (there == 0) {
        return e->eof ? COHORT_EPEERCLOSED : COHORT_EAGAIN;
    }
    size_t len = 0;
    for (size_t i = 0; i < count; i++) {
        len += rooms[i].len;
    }
    size_t take = some_of(s, there < len ? there : len);
    bool was_full = there == e->in.limit;
    size_t copied = 0;
    for (size_t i = 0; i < count && copied < take; i++) {
        size_t part = rooms[i].len < take - copied ? rooms[i].len : take - copied;
        memcpy(rooms[i].at, cohorti_buffer_data(&e->in) + copied, part);
        copied += part;
    }
    sim_consume(&e->in, take);
    if (was_full) {
        sim_endpoint_window(e);
    }
    *n = take;
    return COHORT_OK;
}

int sim_send(struct cohorti_socket *s, const struct cohorti_bytes *runs, size_t count, size_t *n)
{
    struct sim_endpoint *e = s->endpoint;
    if (e == NULL) {
        return s->error;
    }
    if (e->fin_wanted) {
        return COHORT_ERESET;
    }
    size_t space = e->out.limit - cohorti_buffer_len(&e->out);
    if (e->state != SIM_ESTABLISHED || space == 0) {
        return COHORT_EAGAIN;
    }
    size_t len = 0, put = 0;
    for (size_t i = 0; i < count; i++) {
        len += runs[i].len;
    }
    size_t wanted = some_of(s, len < space ? len : space);
    for (size_t i = 0; i < count && put < wanted; i++) {
        size_t some = runs[i].len < wanted - put ? runs[i].len : wanted - put;
        if (cohorti_buffer_append(&e->out, runs[i].at, some) != COHORT_OK) {
            break;
        }
        put += some;
    }
    if (put == 0) {
        return COHORT_EAGAIN;
    }
    e->written += put;
    *n = put;
    sim_endpoint_transmit(e);
    return COHORT_OK;
}

void sim_shutdown(struct cohorti_socket *s)
{
    if (s->endpoint != NULL && !s->endpoint->fin_wanted) {
        s->endpoint->fin_wanted = true;
        sim_endpoint_transmit(s->endpoint);
    }
}

void sim_close(struct cohorti_socket *s)
{
    sim_detach(s);
    if (s->listening && !s->machine->dead) {
        cohorti_list_remove(&s->of_host);
        struct cohorti_list *waiting;
        while ((waiting = cohorti_list_pop(&s->accepted)) != NULL) {
            sim_endpoint_close(COHORTI_CONTAINER(waiting, struct sim_endpoint, of_accepted));
        }
    } else if (s->endpoint != NULL) {
        sim_endpoint_close(s->endpoint);
    }
    cohorti_list_remove(&s->of_machine);
    cohorti_release(s->machine->world->alloc, s);
}

void sim_peer_name(struct cohorti_socket *s, char *out, size_t cap)
{
    snprintf(out, cap, "%s", s->remote);
}
