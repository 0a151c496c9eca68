/* SPDX-License-Identifier: Apache-2.0
 *
 * Life of a node and its members, as the public API has them.
 *
 * Before the loops run, calls step the cluster under life_lock; afterwards only the control loop does, and other threads ask it
 * and wait. Control never waits for anybody, so nobody can wait in a circle.
 */
#include "node/node.h"

#include "node/config.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

const char *cohort_version(void)
{
    return COHORTI_VERSION;
}

/* Calls before the loops run hold life_lock, and listeners are called under it; those that call back must not take it again. */
static _Thread_local const struct cohort_node *life_owner;

/* ---- open ---------------------------------------------------------------------------------------------------------- */

static void free_workers(struct cohort_node *node)
{
    for (uint32_t i = 0; i < node->workers_ready; i++) {
        cohorti_worker_deinit(&node->workers[i]);
    }
    cohorti_release(&node->alloc, node->workers);
    node->workers = NULL;
    node->workers_ready = 0;
}

static int make_workers(struct cohort_node *node)
{
    if (node->worker_count == 0) {
        return COHORT_OK;
    }
    node->workers = cohorti_alloc_zero(&node->alloc, node->worker_count * sizeof node->workers[0]);
    if (node->workers == NULL) {
        return COHORT_ENOMEM;
    }
    for (uint32_t i = 0; i < node->worker_count; i++) {
        char name[32];
        snprintf(name, sizeof name, "cohort-io-%u", i);
        int status = cohorti_worker_init(&node->workers[i], node, name);
        if (status != COHORT_OK) {
            free_workers(node);
            return status;
        }
        node->workers_ready++;
    }
    return COHORT_OK;
}

static int publish_self(struct cohort_node *node)
{
    struct peer *peer = cohorti_peer_new(node);
    if (peer == NULL) {
        return COHORT_ENOMEM;
    }
    cohort_member self;
    cohorti_list_append(&node->spare_peers, &peer->spare);
    (void)cohorti_cluster_member_at(&node->cluster, 0, &self);
    cohorti_peer_publish(node, &self, false);
    return COHORT_OK;
}

static int add_listed(struct cohort_node *node, const cohort_definition *definition, cohort_error *error)
{
    for (size_t i = 0; definition != NULL && i < definition->node_count; i++) {
        const cohort_definition_node *listed = &definition->nodes[i];
        if (strcmp(listed->id, node->id) == 0) {
            continue;
        }
        int status = cohorti_control_add(node, listed->id, listed->ip, listed->tcp_port);
        if (status != COHORT_OK) {
            error->code = status;
            snprintf(error->text, sizeof error->text, "cannot add %s of the definition: %s", listed->id, cohort_error_text(status));
            return status;
        }
    }
    cohorti_control_effects(node);
    return COHORT_OK;
}

static void init_node(struct cohort_node *node, const cohort_config *config, const struct cohorti_cluster_config *cluster)
{
    node->log = config->log;
    if (node->log.write == NULL) {
        node->log.write = cohorti_log_default_sink;
    }
    memcpy(node->id, cluster->id, sizeof node->id);
    node->limits = config->limits;
    node->worker_count = config->loop_count;
    cohorti_mutex_init(&node->life_lock);
    cohorti_mutex_init(&node->peers_lock);
    cohorti_mutex_init(&node->rates_lock);
    node->rates.base_ns = cohorti_now(node);
    cohorti_map_init(&node->conns, &node->alloc);
    cohorti_map_init(&node->peers, &node->alloc);
    cohorti_list_init(&node->conn_list);
    cohorti_list_init(&node->spare_peers);
    cohorti_timer_init(&node->accept_pause);
    cohorti_timer_init(&node->close_deadline);
    cohorti_registry_init(&node->registry, &node->alloc, config->limits.handlers_max);
}

static void free_peers(struct cohort_node *node)
{
    struct cohorti_map_node *it;
    while ((it = cohorti_map_any(&node->peers)) != NULL) {
        cohorti_map_remove(&node->peers, it);
        cohorti_peer_unref((struct peer *)it);
    }
    struct cohorti_list *spare;
    while ((spare = cohorti_list_pop(&node->spare_peers)) != NULL) {
        cohorti_peer_unref(COHORTI_CONTAINER(spare, struct peer, spare));
    }
}

/* After init_node(); the cluster and the loops are gone. */
static void free_node(struct cohort_node *node)
{
    cohorti_registry_deinit(&node->registry);
    free_peers(node);
    cohorti_map_deinit(&node->conns);
    cohorti_map_deinit(&node->peers);
    cohorti_mutex_deinit(&node->life_lock);
    cohorti_mutex_deinit(&node->peers_lock);
    cohorti_mutex_deinit(&node->rates_lock);
    if (node->owns_io) {
        cohorti_io_uv_free(node->io);
    }
    cohort_allocator alloc = node->alloc;
    cohorti_release(&alloc, node);
}

static int fill_from_machine(struct cohorti_io *io, struct cohorti_cluster_config *cluster)
{
    if (cluster->incarnation == 0) {
        cluster->incarnation = io->ops->wall_us(io);
    }
    return io->ops->entropy(io, &cluster->seed, sizeof cluster->seed);
}

static int open_node(struct cohort_node *node, const cohort_config *config, struct cohorti_cluster_config *cluster,
                     cohort_error *error)
{
    int status = fill_from_machine(node->io, cluster);
    if (status == COHORT_OK) {
        status = cohorti_cluster_init(&node->cluster, &node->alloc, cluster);
    }
    if (status != COHORT_OK) {
        return status;
    }
    status = cohorti_worker_init(&node->control, node, "cohort-control");
    if (status == COHORT_OK) {
        status = make_workers(node);
        if (status == COHORT_OK) {
            status = publish_self(node);
        }
        if (status == COHORT_OK) {
            status = add_listed(node, config->definition, error);
        }
        if (status == COHORT_OK) {
            return COHORT_OK;
        }
        free_workers(node);
        cohorti_worker_deinit(&node->control);
    }
    cohorti_cluster_deinit(&node->cluster);
    return status;
}

static int open_on(struct cohorti_io *io, bool owns_io, const cohort_config *config, const struct cohorti_cluster_config *checked,
                   const cohort_allocator *alloc, cohort_node **out, cohort_error *error)
{
    struct cohorti_cluster_config cluster = *checked;
    struct cohort_node *node = cohorti_alloc_zero(alloc, sizeof *node);
    if (node == NULL) {
        if (owns_io) {
            cohorti_io_uv_free(io);
        }
        return COHORT_ENOMEM;
    }
    node->alloc = *alloc;
    node->io = io;
    node->owns_io = owns_io;
    init_node(node, config, &cluster);
    int status = open_node(node, config, &cluster, error);
    if (status != COHORT_OK) {
        free_node(node);
        return status;
    }
    *out = node;
    return COHORT_OK;
}

static int explain(cohort_error *error, int status)
{
    error->code = status;
    if (status == COHORT_OK) {
        error->text[0] = '\0';
    } else if (error->text[0] == '\0') {
        snprintf(error->text, sizeof error->text, "%s", cohort_error_text(status));
    }
    return status;
}

int cohorti_node_open_on(struct cohorti_io *io, const cohort_config *config, cohort_node **out, cohort_error *error)
{
    cohort_error ignored;
    error = error == NULL ? &ignored : error;
    error->text[0] = '\0';
    cohort_config whole;
    struct cohorti_cluster_config cluster;
    int status = cohorti_config_read(config, &whole, &cluster, error);
    if (status != COHORT_OK) {
        return status;
    }
    const cohort_allocator *alloc = whole.allocator == NULL ? &cohorti_malloc : whole.allocator;
    bool owns_io = io == NULL;
    if (owns_io) {
        status = cohorti_io_uv_new(alloc, &io);
    }
    if (status == COHORT_OK) {
        status = open_on(io, owns_io, &whole, &cluster, alloc, out, error);
    }
    return explain(error, status);
}

int cohort_node_open(const cohort_config *config, cohort_node **out, cohort_error *error)
{
    return cohorti_node_open_on(NULL, config, out, error);
}

/* ---- start --------------------------------------------------------------------------------------------------------- */

static int start_cluster(struct cohort_node *node, void *arg)
{
    cohort_error *error = arg;
    int status = cohorti_control_listen(node, error);
    if (status == COHORT_OK) {
        cohorti_cluster_start(&node->cluster, cohorti_now(node));
    }
    return status;
}

static int start_loops(struct cohort_node *node)
{
    int status = node->io->ops->loop_start(node->control.loop);
    for (uint32_t i = 0; i < node->worker_count && status == COHORT_OK; i++) {
        status = node->io->ops->loop_start(node->workers[i].loop);
    }
    return status;
}

static void stop_loops(struct cohort_node *node)
{
    node->io->ops->loop_stop(node->control.loop);
    for (uint32_t i = 0; i < node->worker_count; i++) {
        node->io->ops->loop_stop(node->workers[i].loop);
    }
}

int cohort_node_start(cohort_node *node, cohort_error *error)
{
    cohort_error ignored;
    error = error == NULL ? &ignored : error;
    error->text[0] = '\0';
    if (cohorti_node_in_callback(node)) {
        return explain(error, COHORT_ECALLBACK);
    }
    cohorti_mutex_lock(&node->life_lock);
    int status = COHORT_ESTATE;
    if (atomic_load(&node->phase) == NODE_OPEN) {
        status = start_loops(node);
        if (status == COHORT_OK) {
            status = cohorti_node_call(node, start_cluster, error);
        }
        /* STARTED only now: who sees it may post to control and wait, and would wait for ever on loops that are stopped. */
        atomic_store(&node->phase, status == COHORT_OK ? NODE_STARTED : NODE_CLOSING);
        if (status != COHORT_OK) {
            stop_loops(node);
        }
    }
    cohorti_mutex_unlock(&node->life_lock);
    return explain(error, status);
}

/* ---- calls to the control loop ------------------------------------------------------------------------------------- */

struct call {
    struct mail mail;
    struct cohort_node *node;
    int (*fn)(struct cohort_node *node, void *arg);
    void *arg;
    int status;
    struct cohorti_waiter waiter;
};

static void run_call(struct mail *mail)
{
    struct call *call = COHORTI_CONTAINER(mail, struct call, mail);
    call->status = call->fn(call->node, call->arg);
    cohorti_control_effects(call->node); /* the caller sees what it did published */
    cohorti_waiter_signal(&call->waiter);
}

int cohorti_node_call(struct cohort_node *node, int (*fn)(struct cohort_node *node, void *arg), void *arg)
{
    if (node->io->ops->loop_is_current(node->control.loop)) {
        int status = fn(node, arg);
        cohorti_control_effects(node); /* nothing when we are inside an effect: they follow when it returns */
        return status;
    }
    struct call call = {.mail = {.run = run_call}, .node = node, .fn = fn, .arg = arg};
    cohorti_waiter_init(&call.waiter);
    cohorti_worker_post(&node->control, &call.mail);
    int status = node->io->ops->wait(node->io, &call.waiter, UINT64_MAX);
    cohorti_waiter_deinit(&call.waiter);
    return status == COHORT_OK ? call.status : status;
}

bool cohorti_node_in_callback(const struct cohort_node *node)
{
    bool inside = life_owner == node || node->io->ops->loop_is_current(node->control.loop);
    for (uint32_t i = 0; i < node->worker_count; i++) {
        inside = inside || node->io->ops->loop_is_current(node->workers[i].loop);
    }
    return inside;
}

/* ---- close --------------------------------------------------------------------------------------------------------- */

struct close_args {
    uint64_t deadline_ns;
    struct cohorti_waiter closed;
};

static int begin_close(struct cohort_node *node, void *arg)
{
    struct close_args *args = arg;
    cohorti_control_begin_close(node, args->deadline_ns, &args->closed);
    return COHORT_OK;
}

static int stop_running(struct cohort_node *node, uint32_t timeout_ms)
{
    struct close_args args = {.deadline_ns = cohorti_now(node) + timeout_ms * COHORTI_NS_PER_MS};
    cohorti_waiter_init(&args.closed);
    (void)cohorti_node_call(node, begin_close, &args);
    (void)node->io->ops->wait(node->io, &args.closed, UINT64_MAX); /* the deadline's timer ends every link */
    cohorti_waiter_deinit(&args.closed);
    stop_loops(node);
    return atomic_load(&node->close_cut) ? COHORT_ETIMEDOUT : COHORT_OK;
}

/* No loop runs. Mail that nobody read yet (a flush for a connection that ended meanwhile) still holds its connection. */
static void free_stopped(struct cohort_node *node)
{
    cohorti_worker_abandon(&node->control);
    for (uint32_t i = 0; i < node->workers_ready; i++) {
        cohorti_worker_abandon(&node->workers[i]);
    }
    free_workers(node);
    cohorti_worker_deinit(&node->control);
    cohorti_cluster_deinit(&node->cluster);
    free_node(node);
}

void cohorti_node_abandon(struct cohort_node *node)
{
    while (!cohorti_list_empty(&node->conn_list)) {
        cohorti_conn_abandon(COHORTI_CONTAINER(node->conn_list.next, struct conn, of_node));
    }
    if (node->listener != NULL) {
        node->io->ops->close(node->listener);
    }
    free_stopped(node);
}

int cohort_node_close(cohort_node *node, uint32_t timeout_ms)
{
    if (node == NULL) {
        return COHORT_OK;
    }
    if (cohorti_node_in_callback(node)) {
        return COHORT_ECALLBACK;
    }
    int status = COHORT_OK;
    if (atomic_load(&node->phase) == NODE_STARTED) {
        atomic_store(&node->phase, NODE_CLOSING);
        status = stop_running(node, timeout_ms);
    }
    free_stopped(node);
    return status;
}

/* ---- members ------------------------------------------------------------------------------------------------------- */

static void read_peer(struct peer *peer, cohort_member *out)
{
    cohorti_mutex_lock(&peer->owner->peers_lock);
    *out = peer->member;
    cohorti_mutex_unlock(&peer->owner->peers_lock);
}

int cohort_node_member(cohort_node *node, const char *id, cohort_member *out)
{
    struct peer *peer = cohorti_peer_find(node, id);
    if (peer == NULL) {
        return COHORT_ENOPEER;
    }
    read_peer(peer, out);
    cohorti_peer_unref(peer);
    return COHORT_OK;
}

void cohort_node_local(cohort_node *node, cohort_member *out)
{
    int status = cohort_node_member(node, node->id, out);
    assert(status == COHORT_OK);
    (void)status;
}

cohort_member_state cohort_node_state(cohort_node *node, const char *id)
{
    cohort_member member;
    return cohort_node_member(node, id, &member) == COHORT_OK ? member.state : COHORT_INACTIVE;
}

void cohort_node_members(cohort_node *node, cohort_member *out, size_t capacity, size_t *count)
{
    size_t n = 0;
    struct peer **all = cohorti_peer_all(node, &n);
    for (size_t i = 0; i < n; i++) {
        if (i < capacity) {
            read_peer(all[i], &out[i]);
        }
        cohorti_peer_unref(all[i]);
    }
    cohorti_release(&node->alloc, all);
    *count = n;
}

struct member_args {
    const char *id, *ip;
    uint16_t tcp_port;
};

static int call_add(struct cohort_node *node, void *arg)
{
    const struct member_args *args = arg;
    return cohorti_control_add(node, args->id, args->ip, args->tcp_port);
}

static int call_remove(struct cohort_node *node, void *arg)
{
    const struct member_args *args = arg;
    return cohorti_cluster_remove(&node->cluster, args->id);
}

static int change_members(struct cohort_node *node, int (*fn)(struct cohort_node *node, void *arg), struct member_args *args)
{
    if (life_owner == node) {
        return fn(node, args); /* inside a callback before start: the call under way carries out the effects */
    }
    bool on_control = node->io->ops->loop_is_current(node->control.loop); /* then start() may hold life_lock and wait for us */
    if (atomic_load(&node->phase) == NODE_OPEN && !on_control) {
        int status = COHORT_ECLOSED;
        cohorti_mutex_lock(&node->life_lock);
        bool still_open = atomic_load(&node->phase) == NODE_OPEN;
        if (still_open) {
            const struct cohort_node *outer = life_owner;
            life_owner = node;
            status = fn(node, args);
            cohorti_control_effects(node);
            life_owner = outer;
        }
        cohorti_mutex_unlock(&node->life_lock);
        if (still_open) {
            return status;
        }
    }
    return atomic_load(&node->phase) == NODE_CLOSING ? COHORT_ECLOSED : cohorti_node_call(node, fn, args);
}

int cohort_node_add(cohort_node *node, const char *id, const char *ip, uint16_t tcp_port)
{
    if (id == NULL || ip == NULL) {
        return COHORT_EINVAL;
    }
    struct member_args args = {.id = id, .ip = ip, .tcp_port = tcp_port};
    return change_members(node, call_add, &args);
}

int cohort_node_remove(cohort_node *node, const char *id)
{
    if (id == NULL) {
        return COHORT_EINVAL;
    }
    struct member_args args = {.id = id};
    return change_members(node, call_remove, &args);
}
