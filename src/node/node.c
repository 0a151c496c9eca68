/* SPDX-License-Identifier: Apache-2.0
 *
 * Life of a node, as the public API has it.
 *
 * Before the loops run, calls step the cluster under life_lock; afterwards only the control loop does, and other threads ask it
 * and wait: call.c.
 */
#include "node/node.h"
#include "node/stream.h"

#include "node/config.h"

#include <stdio.h>
#include <string.h>

const char *cohort_version(void)
{
    return COHORTI_VERSION;
}

/* Calls before the loops run hold life_lock, and listeners are called under it; those that call back must not take it again. */
static _Thread_local const struct cohort_node *life_owner;

/* ---- open ---------------------------------------------------------------------------------------------------------- */

/* On loops of its own a node has one for control and loop_count for links. On shared ones control goes to each in turn, and links to
 * all. A single loop carries both. */
static int make_workers(struct cohort_node *node)
{
    struct cohort_loops *loops = node->loops;
    uint32_t control = loops->shared ? atomic_fetch_add(&loops->control_next, 1) % loops->count : 0;
    uint32_t first = loops->shared ? 0 : 1;
    uint32_t count = loops->count == 1 ? 0 : loops->count - first;
    cohorti_worker_init(&node->control, node, &loops->runners[control]);
    if (count == 0) {
        return COHORT_OK;
    }
    node->workers = cohorti_alloc_zero(&node->alloc, count * sizeof node->workers[0]);
    if (node->workers == NULL) {
        return COHORT_ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        cohorti_worker_init(&node->workers[i], node, &loops->runners[first + i]);
    }
    node->worker_count = count;
    return COHORT_OK;
}

static int publish_self(struct cohort_node *node)
{
    struct peer *peer = cohorti_peer_new(node);
    if (peer == NULL) {
        return COHORT_ENOMEM;
    }
    cohort_member self;
    peer->self = true;
    cohorti_list_append(&node->spare_peers, &peer->spare);
    (void)cohorti_cluster_member_at(&node->cluster, 0, &self);
    cohorti_peer_publish(node, &self, false);
    return COHORT_OK;
}

static int add_listed(struct cohort_node *node, const cohort_definition *definition, cohort_error *error)
{
    struct cohorti_applied ignored;
    int status = definition == NULL ? COHORT_OK : cohorti_control_apply(node, definition, &ignored, error);
    cohorti_control_effects(node);
    return status;
}

static void init_node(struct cohort_node *node, const cohort_config *config, const struct cohorti_cluster_config *cluster)
{
    node->log = config->log;
    if (node->log.write == NULL) {
        node->log.write = cohorti_log_default_sink;
    }
    memcpy(node->id, cluster->id, sizeof node->id);
    snprintf(node->bind, sizeof node->bind, "%s", config->bind);
    node->limits = config->limits;
    node->look_us = config->look_us;
    node->deliver_local = config->deliver_local;
    node->quota.max = config->limits.node_queue_bytes_max;
    node->room_mail.run = cohorti_session_room;
    node->watch_mail.run = cohorti_watch_wanted;
    cohorti_mutex_init(&node->life_lock);
    cohorti_mutex_init(&node->peers_lock);
    cohorti_mutex_init(&node->streams_lock);
    cohorti_list_init(&node->streams);
    cohorti_mutex_init(&node->queues_lock);
    cohorti_list_init(&node->queues);
    cohorti_mutex_init(&node->definition_lock);
    cohorti_mutex_init(&node->rates_lock);
    node->rates.base_ns = cohorti_now(node);
    cohorti_map_init(&node->conns, &node->alloc);
    cohorti_map_init(&node->peers, &node->alloc);
    cohorti_list_init(&node->conn_list);
    cohorti_list_init(&node->spare_peers);
    cohorti_list_init(&node->name_dials);
    cohorti_timer_init(&node->accept_pause);
    cohorti_timer_init(&node->local_pause);
    cohorti_timer_init(&node->close_deadline);
    cohorti_timer_init(&node->watchdog);
    cohorti_registry_init(&node->registry, &node->alloc, config->limits.handlers_max);
    cohorti_subjects_init(&node->subjects, &node->alloc, config->limits.subjects_max);
    cohorti_codecs_init(&node->codecs, &node->alloc, config->limits.handlers_max);
}

static void free_peers(struct cohort_node *node)
{
    cohorti_peers_put(node->all);
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

/* Of a process that is dead: sessions that ended have told theirs. What they hold of queues goes before these. */
static void forget_incoming(struct cohort_node *node)
{
    for (size_t b = 0; b < node->peers.bucket_count; b++) {
        for (struct cohorti_map_node *it = node->peers.buckets[b]; it != NULL; it = it->next) {
            cohorti_incoming_forget_all((struct peer *)it);
        }
    }
}

/* After init_node(); the cluster and the loops are gone. */
static void free_node(struct cohort_node *node)
{
    forget_incoming(node);
    cohorti_queues_end(node);
    cohorti_streams_forget(node); /* not before: a handler that is told of an end there may still have one */
    cohorti_mutex_deinit(&node->streams_lock);
    cohorti_registry_deinit(&node->registry); /* its handlers name their queues */
    cohorti_queues_free(node);
    cohorti_mutex_deinit(&node->queues_lock);
    cohorti_subjects_deinit(&node->subjects);
    cohorti_codecs_deinit(&node->codecs);
    free_peers(node);
    cohorti_map_deinit(&node->conns);
    cohorti_map_deinit(&node->peers);
    cohorti_mutex_deinit(&node->life_lock);
    cohorti_mutex_deinit(&node->peers_lock);
    cohorti_mutex_deinit(&node->definition_lock);
    cohorti_mutex_deinit(&node->rates_lock);
    cohorti_release(&node->alloc, node->definition_path);
    atomic_fetch_sub(&node->loops->node_count, 1);
    if (node->owns_loops) {
        cohorti_loops_free(node->loops);
    }
    cohorti_release(&node->alloc, node->workers);
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

static int copy_path(struct cohort_node *node, const char *path)
{
    if (path == NULL) {
        return COHORT_OK;
    }
    size_t size = strlen(path) + 1;
    node->definition_path = cohorti_alloc(&node->alloc, size);
    if (node->definition_path == NULL) {
        return COHORT_ENOMEM;
    }
    memcpy(node->definition_path, path, size);
    return COHORT_OK;
}

static int open_node(struct cohort_node *node, const cohort_config *config, struct cohorti_cluster_config *cluster,
                     cohort_error *error)
{
    int status = copy_path(node, config->definition_path);
    if (status == COHORT_OK) {
        status = fill_from_machine(node->io, cluster);
    }
    if (status == COHORT_OK) {
        status = cohorti_cluster_init(&node->cluster, &node->alloc, cluster);
    }
    if (status != COHORT_OK) {
        return status;
    }
    status = make_workers(node);
    if (status == COHORT_OK) {
        status = publish_self(node);
    }
    if (status == COHORT_OK) {
        status = add_listed(node, config->definition, error);
    }
    if (status != COHORT_OK) {
        cohorti_cluster_deinit(&node->cluster);
    }
    return status;
}

/* Takes the loops when they are the node's own, also on failure. */
static int open_on(struct cohort_loops *loops, const cohort_config *config, const struct cohorti_cluster_config *checked,
                   const cohort_allocator *alloc, cohort_node **out, cohort_error *error)
{
    struct cohorti_cluster_config cluster = *checked;
    struct cohort_node *node = cohorti_alloc_zero(alloc, sizeof *node);
    if (node == NULL) {
        if (!loops->shared) {
            cohorti_loops_free(loops);
        }
        return COHORT_ENOMEM;
    }
    node->alloc = *alloc;
    node->loops = loops;
    node->owns_loops = !loops->shared;
    node->io = loops->io;
    atomic_fetch_add(&loops->node_count, 1);
    init_node(node, config, &cluster);
    int status = open_node(node, config, &cluster, error);
    if (status != COHORT_OK) {
        free_node(node);
        return status;
    }
    *out = node;
    return COHORT_OK;
}

int cohorti_explain(cohort_error *error, int status)
{
    error->code = status;
    if (status == COHORT_OK) {
        error->text[0] = '\0';
    } else if (error->text[0] == '\0') {
        snprintf(error->text, sizeof error->text, "%s", cohort_error_text(status));
    }
    return status;
}

static int open_given(struct cohorti_io *io, const cohort_config *config, cohort_node **out, cohort_error *error)
{
    cohort_config whole;
    struct cohorti_cluster_config cluster;
    int status = cohorti_config_read(config, &whole, &cluster, error);
    if (status == COHORT_OK && io != NULL && (whole.loops != NULL || whole.threads != COHORT_THREADS_OWN)) {
        status = COHORT_EINVAL;
        snprintf(error->text, sizeof error->text, "config.%s: a simulated node runs on the simulation's loops",
                 whole.loops != NULL ? "loops" : "threads");
    }
    if (status != COHORT_OK) {
        return cohorti_explain(error, status);
    }
    const cohort_allocator *alloc = whole.allocator == NULL ? &cohorti_malloc : whole.allocator;
    struct cohort_loops *loops = whole.loops;
    if (loops == NULL) {
        status = cohorti_loops_new(io, alloc, whole.threads == COHORT_THREADS_NONE ? 0 : 1 + whole.loop_count, false, &loops);
    }
    if (status == COHORT_OK) {
        status = open_on(loops, &whole, &cluster, alloc, out, error);
    }
    return status;
}

int cohorti_node_open_on(struct cohorti_io *io, const cohort_config *config, cohort_node **out, cohort_error *error)
{
    cohort_error ignored;
    error = error == NULL ? &ignored : error;
    error->text[0] = '\0';
    cohort_config given;
    cohort_definition definition = {.node_count = 0};
    int status = cohorti_config_widen(config, &given, error);
    if (status == COHORT_OK && given.definition == NULL && given.definition_path != NULL) {
        status = cohort_definition_read(given.definition_path, &definition, error);
        given.definition = &definition;
    }
    if (status == COHORT_OK) {
        status = open_given(io, &given, out, error);
    }
    cohort_definition_free(&definition);
    return cohorti_explain(error, status);
}

int cohort_node_open(const cohort_config *config, cohort_node **out, cohort_error *error)
{
    return cohorti_node_open_on(NULL, config, out, error);
}

/* ---- start --------------------------------------------------------------------------------------------------------- */

bool cohorti_node_is_early(const struct cohort_node *node)
{
    return node->loops->shared && atomic_load(&node->phase) == NODE_OPEN;
}

static int start_cluster(struct cohort_node *node, void *arg)
{
    cohort_error *error = arg;
    int status = cohorti_control_listen(node, error);
    if (status == COHORT_OK) {
        cohorti_cluster_start(&node->cluster, cohorti_now(node));
        cohorti_follow_begin(node);
        cohorti_local_begin(node);
        cohorti_requests_begin(node);
        cohorti_session_find_room(node);
    }
    return status;
}

/* Who sees STARTED may post to control and wait, for ever on loops that were stopped since the start failed. So on loops of our own
 * STARTED comes last, and calls beside a start wait for life_lock. */
static int start_on_own(struct cohort_node *node, cohort_error *error)
{
    int status = cohorti_loops_start(node->loops);
    if (status == COHORT_OK) {
        status = cohorti_node_call(node, start_cluster, error);
    }
    atomic_store(&node->phase, status == COHORT_OK ? NODE_STARTED : NODE_CLOSING);
    if (status != COHORT_OK) {
        cohorti_loops_stop(node->loops);
    }
    return status;
}

/* Loops that go on whatever becomes of the start serve every call: STARTED comes first. Nor may life_lock be held while we wait for
 * them: a callback of another node there may be waiting for it. */
static int start_on_running(struct cohort_node *node, cohort_error *error)
{
    int status = cohorti_node_call(node, start_cluster, error);
    if (status != COHORT_OK) {
        atomic_store(&node->phase, NODE_CLOSING);
    }
    return status;
}

/* The caller's thread is the loop's from now on. */
static int adopt_loop(struct cohort_loops *loops)
{
    struct cohorti_loop *before = NULL;
    int status = cohorti_loops_enter(loops, &before);
    if (status == COHORT_OK) {
        cohorti_loops_leave(loops, before);
    }
    return status;
}

int cohort_node_start(cohort_node *node, cohort_error *error)
{
    cohort_error ignored;
    error = error == NULL ? &ignored : error;
    error->text[0] = '\0';
    if (cohorti_node_in_callback(node)) {
        return cohorti_explain(error, COHORT_ECALLBACK);
    }
    bool own = !node->loops->shared && node->loops->threads;
    cohorti_mutex_lock(&node->life_lock);
    int status = atomic_load(&node->phase) == NODE_OPEN ? COHORT_OK : COHORT_ESTATE;
    if (status == COHORT_OK && !node->loops->threads) {
        status = adopt_loop(node->loops);
    }
    if (status == COHORT_OK && own) {
        status = start_on_own(node, error);
    } else if (status == COHORT_OK) {
        atomic_store(&node->phase, NODE_STARTED);
    }
    cohorti_mutex_unlock(&node->life_lock);
    if (status == COHORT_OK && !own) {
        status = start_on_running(node, error);
    }
    return cohorti_explain(error, status);
}

/* ---- changes ------------------------------------------------------------------------------------------------------- */

bool cohorti_node_in_callback(const struct cohort_node *node)
{
    return life_owner == node || cohorti_loops_current(node->loops);
}

int cohorti_node_change(struct cohort_node *node, int (*fn)(struct cohort_node *node, void *arg), void *arg)
{
    if (life_owner == node) {
        return fn(node, arg); /* inside a callback before start: the call under way carries out the effects */
    }
    /* on loops of our own start() may hold life_lock and wait for us */
    bool on_control = node->owns_loops && node->io->ops->loop_is_current(node->control.loop);
    if (atomic_load(&node->phase) == NODE_OPEN && !on_control) {
        int status = COHORT_ECLOSED;
        cohorti_mutex_lock(&node->life_lock);
        bool still_open = atomic_load(&node->phase) == NODE_OPEN;
        if (still_open) {
            const struct cohort_node *outer = life_owner;
            life_owner = node;
            status = fn(node, arg);
            cohorti_control_effects(node);
            life_owner = outer;
        }
        cohorti_mutex_unlock(&node->life_lock);
        if (still_open) {
            return status;
        }
    }
    return atomic_load(&node->phase) == NODE_CLOSING ? COHORT_ECLOSED : cohorti_node_call(node, fn, arg);
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

struct goodbye {
    struct mail mail;
    struct cohorti_waiter waiter;
};

static void run_goodbye(struct mail *mail)
{
    cohorti_worker_detach(mail->to);
    cohorti_waiter_signal(&COHORTI_CONTAINER(mail, struct goodbye, mail)->waiter);
}

/* The loops go on without us. Control first: mail it passes on must reach the others before their last. */
static void leave_running(struct cohort_node *node)
{
    for (uint32_t i = 0; i <= node->worker_count; i++) {
        struct goodbye goodbye = {.mail = {.run = run_goodbye}};
        cohorti_waiter_init(&goodbye.waiter);
        cohorti_worker_post(i == 0 ? &node->control : &node->workers[i - 1], &goodbye.mail);
        (void)node->io->ops->wait(node->io, &goodbye.waiter, UINT64_MAX);
        cohorti_waiter_deinit(&goodbye.waiter);
    }
}

/* Without threads it is we who run the loop until nothing of the node is left; the deadline is a timer of it. */
static void drive_until(struct cohort_node *node, struct cohorti_waiter *closed)
{
    node->io->ops->loop_wake(node->control.loop); /* for what the call before left to do */
    while (!cohorti_waiter_done(closed)) {
        node->io->ops->loop_turn(node->control.loop, true);
    }
}

void cohorti_node_await(struct cohort_node *node, struct cohorti_waiter *waiter)
{
    if (node->loops->threads) {
        (void)node->io->ops->wait(node->io, waiter, UINT64_MAX);
    } else {
        drive_until(node, waiter);
    }
}

/* No link is left, and what is in the sessions will not be delivered. On control, or when no loop runs. */
static int end_sessions(struct cohort_node *node, void *arg)
{
    uint64_t lost = 0;
    for (size_t b = 0; b < node->peers.bucket_count; b++) {
        for (struct cohorti_map_node *it = node->peers.buckets[b]; it != NULL; it = it->next) {
            lost += cohorti_session_end((struct peer *)it, COHORT_ECLOSED);
        }
    }
    return lost > 0 ? COHORT_ETIMEDOUT : COHORT_OK;
}

static int stop_running(struct cohort_node *node, uint32_t timeout_ms)
{
    struct close_args args = {.deadline_ns = cohorti_now(node) + timeout_ms * COHORTI_NS_PER_MS};
    atomic_store(&node->phase, NODE_CLOSING);
    cohorti_full_close(node);
    cohorti_streams_close(node);
    cohorti_waiter_init(&args.closed);
    (void)cohorti_node_call(node, begin_close, &args);
    cohorti_node_await(node, &args.closed); /* the deadline's timer ends every link */
    cohorti_waiter_deinit(&args.closed);
    cohorti_incoming_close(node);
    int status = cohorti_node_call(node, end_sessions, NULL); /* handlers in queues may wait for what ends now */
    cohorti_queues_finish(node, args.deadline_ns);
    return status;
}

/* Mail that nobody read yet (a flush for a connection that ended meanwhile) still holds its connection. */
static void detach_workers(struct cohort_node *node)
{
    cohorti_worker_abandon(&node->control);
    cohorti_worker_detach(&node->control);
    for (uint32_t i = 0; i < node->worker_count; i++) {
        cohorti_worker_abandon(&node->workers[i]);
        cohorti_worker_detach(&node->workers[i]);
    }
}

static void free_stopped(struct cohort_node *node)
{
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
    cohorti_mutex_deinit(&node->definition_lock);
    cohorti_release(&node->alloc, node->definition_path);
    detach_workers(node);
    free_stopped(node);
}

int cohort_node_close(cohort_node *node, uint32_t timeout_ms)
{
    if (node == NULL) {
        return COHORT_OK;
    }
    if (cohorti_node_in_callback(node) || cohorti_queue_in_handler(node)) {
        return COHORT_ECALLBACK;
    }
    struct cohort_loops *loops = node->loops;
    struct cohorti_loop *before = NULL;
    int status = loops->threads ? COHORT_OK : cohorti_loops_enter(loops, &before);
    if (status != COHORT_OK) {
        return status;
    }
    bool ever_ran = atomic_load(&node->phase) != NODE_OPEN;
    if (atomic_load(&node->phase) == NODE_STARTED) {
        status = stop_running(node, timeout_ms);
    }
    if (!loops->shared) {
        cohorti_loops_stop(loops);
    } else if (loops->threads && ever_ran) {
        leave_running(node);
    }
    detach_workers(node);
    if (!loops->threads) {
        cohorti_loops_leave(loops, before);
    }
    atomic_store(&node->phase, NODE_CLOSING);
    int undelivered = end_sessions(node, NULL); /* what threads of queues said meanwhile, or all of it in a node that never ran */
    undelivered = atomic_load(&node->close_cut) ? COHORT_ETIMEDOUT : undelivered;
    status = status == COHORT_OK ? undelivered : status;
    free_stopped(node);
    return status;
}
