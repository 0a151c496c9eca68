/* SPDX-License-Identifier: Apache-2.0
 *
 * Machines and loops: when a handler runs, and how a call waits in a world without threads.
 *
 * A loop runs as one event: timer, wake-up, then each ready socket once; what is ready again runs in the next event, a little
 * later. A handler that waits (a call to the control loop from a message handler) runs the world until it is answered; the loop it
 * stands on is busy meanwhile and runs nothing, as a blocked thread would.
 */
#include "io/sim/sim_world.h"

#include <assert.h>
#include <string.h>

#define CALLBACK_COST_NS 2000 /* between two runs of one loop */
#define TICK_NS 4000000       /* of the coarse clock */

static struct sim_machine *machine_of(struct cohorti_io *io)
{
    return COHORTI_CONTAINER(io, struct sim_machine, base);
}

static uint64_t now_ns(struct cohorti_io *io)
{
    return machine_of(io)->world->now_ns;
}

/* The end of the tick: never before now. */
static uint64_t coarse_ns(struct cohorti_io *io)
{
    return now_ns(io) / TICK_NS * TICK_NS + TICK_NS;
}

static uint64_t wall_us(struct cohorti_io *io)
{
    struct sim_machine *m = machine_of(io);
    return (uint64_t)((int64_t)(m->world->wall_start_us + m->world->now_ns / 1000) + m->host->wall_offset_us);
}

static int entropy(struct cohorti_io *io, void *out, size_t len)
{
    struct sim_world *w = machine_of(io)->world;
    uint8_t *at = out;
    while (len > 0) {
        uint64_t v = cohorti_prng_next(&w->prng);
        size_t n = len < sizeof v ? len : sizeof v;
        memcpy(at, &v, n);
        at += n;
        len -= n;
    }
    return COHORT_OK;
}

static void yield_thread(struct cohorti_io *io)
{
    assert(false); /* there is one thread: nobody is in the middle of anything */
}

static int wait_for(struct cohorti_io *io, struct cohorti_waiter *waiter, uint64_t timeout_ns)
{
    struct sim_world *w = machine_of(io)->world;
    struct cohorti_loop *standing_on = w->current;
    uint64_t until_ns = timeout_ns > COHORTI_NEVER - 1 - w->now_ns ? COHORTI_NEVER - 1 : w->now_ns + timeout_ns;
    bool more = true;
    while (!cohorti_waiter_done(waiter) && more) {
        w->current = NULL;
        more = w->events.count > 0 && sim_world_step(w, until_ns);
    }
    w->current = standing_on;
    return cohorti_waiter_done(waiter) ? COHORT_OK : COHORT_ETIMEDOUT;
}

/* ---- events: nobody polls in a simulation, the application looks --------------------------------------------------------- */

struct cohorti_event {
    const cohort_allocator *alloc;
};

static int event_new(struct cohorti_io *io, struct cohorti_event **out)
{
    const cohort_allocator *alloc = machine_of(io)->world->alloc;
    *out = cohorti_alloc(alloc, sizeof **out);
    if (*out == NULL) {
        return COHORT_ENOMEM;
    }
    (*out)->alloc = alloc;
    return COHORT_OK;
}

static void event_set(struct cohorti_event *event, bool set)
{
}

static int event_fd(const struct cohorti_event *event)
{
    return -1;
}

static void event_free(struct cohorti_event *event)
{
    cohorti_release(event->alloc, event);
}

/* ---- loops --------------------------------------------------------------------------------------------------------- */

static void on_run(struct sim_event *event);

static int loop_new(struct cohorti_io *io, const char *name, const struct cohorti_loop_handler *handler, void *ctx,
                    struct cohorti_loop **out)
{
    struct sim_machine *m = machine_of(io);
    struct cohorti_loop *loop = cohorti_alloc_zero(m->world->alloc, sizeof *loop);
    if (loop == NULL) {
        return COHORT_ENOMEM;
    }
    loop->machine = m;
    loop->handler = *handler;
    loop->ctx = ctx;
    loop->deadline_ns = COHORTI_NEVER;
    sim_event_init(&loop->run, on_run);
    cohorti_list_init(&loop->ready);
    cohorti_list_append(&m->loops, &loop->of_machine);
    *out = loop;
    return COHORT_OK;
}

void sim_loop_schedule(struct cohorti_loop *loop, uint64_t at_ns)
{
    struct sim_machine *m = loop->machine;
    if (!loop->started || m->dead || at_ns == COHORTI_NEVER) {
        return;
    }
    if (loop->busy) {
        loop->missed = true;
        return;
    }
    at_ns = at_ns > m->host->paused_until_ns ? at_ns : m->host->paused_until_ns;
    if (!sim_event_is_set(&loop->run) || at_ns < loop->run.at_ns) {
        sim_event_set(m->world, &loop->run, at_ns);
    }
}

static void run_ready(struct cohorti_loop *loop)
{
    struct cohorti_list batch;
    cohorti_list_init(&batch);
    struct cohorti_list *node;
    while ((node = cohorti_list_pop(&loop->ready)) != NULL) {
        cohorti_list_append(&batch, node);
    }
    while ((node = cohorti_list_pop(&batch)) != NULL) {
        struct cohorti_socket *s = COHORTI_CONTAINER(node, struct cohorti_socket, of_ready);
        unsigned events = sim_socket_events(s) & s->watched;
        if (events != 0) {
            cohorti_list_append(&loop->ready, node); /* level-triggered: looked at again, unless the handler takes it away */
            s->fn(s->ctx, events);
        }
    }
}

/* The next run: soon when something waits, else at the timer. */
static void schedule_next(struct cohorti_loop *loop)
{
    struct sim_world *w = loop->machine->world;
    bool soon = loop->wake || loop->missed || !cohorti_list_empty(&loop->ready);
    loop->missed = false;
    if (soon) {
        sim_loop_schedule(loop, w->now_ns + CALLBACK_COST_NS);
    } else if (loop->deadline_ns != COHORTI_NEVER) {
        uint64_t at_ns = loop->deadline_ns > w->now_ns ? loop->deadline_ns : w->now_ns + CALLBACK_COST_NS;
        sim_loop_schedule(loop, at_ns + sim_between(w, 0, w->conditions.lateness_max_ns));
    }
}

static void on_run(struct sim_event *event)
{
    struct cohorti_loop *loop = COHORTI_CONTAINER(event, struct cohorti_loop, run);
    struct sim_machine *m = loop->machine;
    struct sim_world *w = m->world;
    if (m->dead || !loop->started) {
        return;
    }
    if (w->now_ns < m->host->paused_until_ns || loop->busy) {
        sim_loop_schedule(loop, w->now_ns);
        return;
    }
    struct cohorti_loop *before = w->current;
    w->current = loop;
    loop->busy = true;
    sim_trace(w, SIM_TRACE_LOOP, m->host->number, loop->wake, loop->deadline_ns <= w->now_ns);
    if (loop->deadline_ns <= w->now_ns) {
        loop->deadline_ns = COHORTI_NEVER;
        loop->handler.on_timer(loop->ctx);
    }
    if (loop->wake && !m->dead) {
        loop->wake = false;
        loop->handler.on_wake(loop->ctx);
    }
    if (!m->dead) {
        run_ready(loop);
    }
    loop->busy = false;
    w->current = before;
    schedule_next(loop);
}

bool sim_loop_call(struct cohorti_loop *loop, void (*fn)(void *arg), void *arg)
{
    struct sim_machine *m = loop->machine;
    struct sim_world *w = m->world;
    if (m->dead || !loop->started || loop->busy || w->now_ns < m->host->paused_until_ns) {
        return false;
    }
    struct cohorti_loop *before = w->current;
    w->current = loop;
    loop->busy = true;
    fn(arg);
    loop->busy = false;
    w->current = before;
    schedule_next(loop);
    return true;
}

static int loop_start(struct cohorti_loop *loop)
{
    loop->started = true;
    sim_loop_schedule(loop, loop->machine->world->now_ns);
    return COHORT_OK;
}

static void loop_stop(struct cohorti_loop *loop)
{
    assert(!loop->busy);
    loop->started = false;
    sim_event_set(loop->machine->world, &loop->run, COHORTI_NEVER);
}

static void loop_free(struct cohorti_loop *loop)
{
    loop_stop(loop);
    cohorti_list_remove(&loop->of_machine);
    cohorti_release(loop->machine->world->alloc, loop);
}

static void loop_wake(struct cohorti_loop *loop)
{
    struct sim_world *w = loop->machine->world;
    loop->wake = true;
    sim_loop_schedule(loop, w->now_ns + sim_between(w, 500, w->conditions.lateness_max_ns));
}

static void loop_timer(struct cohorti_loop *loop, uint64_t deadline_ns)
{
    struct sim_world *w = loop->machine->world;
    loop->deadline_ns = deadline_ns;
    if (deadline_ns != COHORTI_NEVER && !loop->busy) {
        sim_loop_schedule(loop,
                          (deadline_ns > w->now_ns ? deadline_ns : w->now_ns) + sim_between(w, 0, w->conditions.lateness_max_ns));
    }
}

static bool loop_is_current(const struct cohorti_loop *loop)
{
    return loop->machine->world->current == loop;
}

/* Nothing comes while a callback runs. */
static int recv_soon(struct cohorti_socket *s, const struct cohorti_room *rooms, size_t count, size_t *n, uint64_t for_ns,
                     uint64_t *took_ns)
{
    int status = sim_recv(s, rooms, count, n);
    *took_ns = status == COHORT_EAGAIN ? for_ns : 0;
    return status;
}

/* ---- machines ------------------------------------------------------------------------------------------------------ */

static const struct cohorti_io_ops sim_ops = {
    .now_ns = now_ns,
    .coarse_ns = coarse_ns,
    .wall_us = wall_us,
    .entropy = entropy,
    .yield = yield_thread,
    .wait = wait_for,
    .event_new = event_new,
    .event_set = event_set,
    .event_fd = event_fd,
    .event_free = event_free,
    .loop_new = loop_new,
    .loop_start = loop_start,
    .loop_stop = loop_stop,
    .loop_free = loop_free,
    .loop_wake = loop_wake,
    .loop_timer = loop_timer,
    .loop_is_current = loop_is_current,
    .listen = sim_listen,
    .accept = sim_accept,
    .connect = sim_connect,
    .connect_result = sim_connect_result,
    .attach = sim_attach,
    .detach = sim_detach,
    .watch = sim_watch,
    .recv = sim_recv,
    .recv_soon = recv_soon,
    .send = sim_send,
    .shutdown = sim_shutdown,
    .close = sim_close,
    .peer_name = sim_peer_name,
    .resolve = sim_resolve,
    .resolve_cancel = sim_resolve_cancel,
    .watch_file = sim_watch_file,
    .unwatch_file = sim_unwatch_file,
};

struct sim_machine *sim_machine_new(struct sim_world *w, struct sim_host *host)
{
    struct sim_machine *m = cohorti_alloc_zero(w->alloc, sizeof *m);
    if (m != NULL) {
        m->base.ops = &sim_ops;
        m->world = w;
        m->host = host;
        cohorti_list_init(&m->loops);
        cohorti_list_init(&m->sockets);
    }
    return m;
}

void sim_machine_kill(struct sim_machine *m)
{
    m->dead = true;
    sim_trace(m->world, SIM_TRACE_FAULT, m->host->number, 1, 0);
    COHORTI_LIST_FOREACH (it, &m->sockets) {
        struct cohorti_socket *s = COHORTI_CONTAINER(it, struct cohorti_socket, of_machine);
        struct sim_endpoint *e = s->endpoint;
        s->endpoint = NULL;
        s->error = COHORT_ERESET;
        if (e != NULL) {
            sim_endpoint_close(e);
        }
        if (s->listening) {
            cohorti_list_remove(&s->of_host);
        }
        struct cohorti_list *waiting;
        while (s->listening && (waiting = cohorti_list_pop(&s->accepted)) != NULL) {
            s->accepted_count--;
            sim_endpoint_close(COHORTI_CONTAINER(waiting, struct sim_endpoint, of_accepted));
        }
    }
}

void sim_machine_free(struct sim_machine *m)
{
    assert(cohorti_list_empty(&m->sockets) && cohorti_list_empty(&m->loops));
    cohorti_release(m->world->alloc, m);
}
