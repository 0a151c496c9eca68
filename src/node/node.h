/* SPDX-License-Identifier: Apache-2.0
 *
 * The shell: the core's effects carried out on io, and the public API. Private to src/node.
 *
 * Threads and ownership.
 *   control  one loop: the cluster (membership, handshakes, dialling), the listener, every connection until it is open. Event
 *            listeners are called here.
 *   workers  carry the open connections: reading, message handlers, writing. With loop_count 0 control is the only worker.
 *   peer->lock  guards the sending side of the peer's connections: sender, echoes, and the socket against being closed under a
 *            writer. Any thread may send. A socket is closed by its loop, under this lock.
 *   mail     how one loop asks another: run in order on the receiving loop. Callbacks run with no lock held.
 */
#ifndef COHORTI_NODE_H
#define COHORTI_NODE_H

#include "base/alloc.h"
#include "base/list.h"
#include "base/map.h"
#include "base/timers.h"
#include "channel/channel.h"
#include "core/cluster.h"
#include "core/echo.h"
#include "core/link.h"
#include "core/sender.h"
#include "io/io.h"
#include "node/registry.h"

#include <cohort/cohort.h>
#include <stdatomic.h>

#define COHORTI_RECEIVE_BYTES ((size_t)256 * 1024) /* one read, per worker */
#define COHORTI_DRAIN_NS (UINT64_C(500) * 1000000) /* how long a peer has to read our last words once they are written */
#define COHORTI_BATCH_READS 16                     /* reads of one connection before the loop serves others */

/* ---- loops --------------------------------------------------------------------------------------------------------- */

struct mail {
    struct cohorti_list node;
    void (*run)(struct mail *mail);
    struct conn *conn; /* whose mail it is, with a reference while under way; NULL for a call */
};

struct worker {
    struct cohort_node *owner;
    struct cohorti_loop *loop;
    struct cohorti_timers timers; /* of connections, and the listener's pause; loop thread */
    uint8_t *receive;             /* COHORTI_RECEIVE_BYTES, shared by all connections of the loop */
    struct cohorti_mutex mail_lock;
    struct cohorti_list mail; /* under mail_lock */
    _Atomic uint32_t load;    /* open connections here */
};

int cohorti_worker_init(struct worker *w, struct cohort_node *owner, const char *name);
void cohorti_worker_deinit(struct worker *w);
/** Run `mail` on the worker's loop, after what was posted before. Any thread. */
void cohorti_worker_post(struct worker *w, struct mail *mail);
/** Forget the mail that waits: the process is dead. */
void cohorti_worker_abandon(struct worker *w);
/** At the end of every callback of the loop: mail, effects of the cluster, timer. */
void cohorti_worker_settle(struct worker *w);

/* ---- peers: what other threads see of members ----------------------------------------------------------------------- */

struct peer {
    struct cohorti_map_node node; /* in owner->peers, by id */
    struct cohort_node *owner;
    _Atomic uint32_t refs;
    char id[COHORT_ID_BYTES_MAX + 1]; /* does not change */
    cohort_member member;             /* published; under owner->peers_lock */
    struct cohorti_list spare;        /* in owner->spare_peers */
    struct cohorti_mutex lock;
    struct cohorti_list conns; /* open ones, the newest last: that one is sent to; under lock */
};

struct peer *cohorti_peer_new(struct cohort_node *node);
void cohorti_peer_unref(struct peer *peer);
/** With a reference, or NULL. Any thread. */
struct peer *cohorti_peer_find(struct cohort_node *node, const char *id);
/** With a reference each, in order of id; NULL without memory. Any thread. The array is the caller's. */
struct peer **cohorti_peer_all(struct cohort_node *node, size_t *count);
/** Publish what the cluster says; control loop. */
void cohorti_peer_publish(struct cohort_node *node, const cohort_member *member, bool removed);

/* ---- connections --------------------------------------------------------------------------------------------------- */

enum conn_phase {
    CONN_CONNECTING, /* control: waits for the connect */
    CONN_HANDSHAKE,  /* control: link core decides what may come */
    CONN_OPEN,       /* a worker */
    CONN_DRAINING,   /* the last bytes go out, then the peer's end of stream is awaited for a while; input is discarded */
    CONN_ENDED,
};

/* stats.c: what was counted at two earlier readings, for the rates. */
struct rate_window {
    uint64_t base_ns, mark_ns; /* base: the reading, or the beginning, that rates go back to; mark: the next one to go back to, or 0 */
    struct traffic {
        uint64_t bytes_in, bytes_out, frames_in, frames_out;
    } base, mark;
};

struct conn {
    struct cohorti_map_node node; /* in owner->conns, by number; control */
    struct cohorti_list of_node;  /* in owner->conn_list; control */
    struct cohort_node *owner;
    _Atomic uint32_t refs; /* control's, one for each mail under way */
    uint64_t number;       /* the cluster's name for it */

    struct worker *worker; /* whose loop reads it; changed by control before it is handed over */
    enum conn_phase phase; /* loop thread */
    struct cohorti_link link;
    struct cohorti_channel *channel;
    struct cohorti_timer timer;
    uint64_t drain_until_ns;
    int end_code; /* why it ends */
    bool got_bytes;
    bool drains_on_control; /* counted in owner->draining_count */

    struct peer *peer; /* from OPEN on; with a reference. Its lock guards the rest once set */
    struct cohorti_list of_peer;
    struct cohorti_socket *socket; /* NULL once closed */
    struct cohorti_sender sender;
    struct cohorti_echoes echoes;
    bool attached;     /* the worker watches it */
    bool flush_posted; /* flush_mail is under way */
    bool watching_write;
    uint64_t queued_ns;      /* when something was queued last by a thread that might write */
    uint64_t frames_counted; /* of sender.frames_out, in the totals */
    struct rate_window rates;

    struct mail attach_mail, close_mail, flush_mail, ended_mail;
    int close_code;
    bool close_posted, leave; /* with close_code: under the lock */

    _Atomic uint64_t bytes_in, frames_in, last_in_ns, opened_ns;
    char remote[64];
};

/* conn.c: life. Control loop unless it says otherwise. */
struct conn *cohorti_conn_new(struct cohort_node *node, uint64_t number, struct cohorti_socket *socket);
void cohorti_conn_ref(struct conn *conn);
void cohorti_conn_unref(struct conn *conn);
struct conn *cohorti_conn_find(struct cohort_node *node, uint64_t number);
/** Watch a new socket on the control loop: connecting, or accepted. On failure the connection has ended. */
void cohorti_conn_begin(struct conn *conn, bool connecting);
/** OPEN: choose a worker and accept messages to the peer; RECEIVE: hand it over. */
void cohorti_conn_open(struct conn *conn, struct peer *peer);
void cohorti_conn_hand_over(struct conn *conn);
/** Free it without a word to anybody: the process it lived in is dead. */
void cohorti_conn_abandon(struct conn *conn);
/** Close it wherever it is, now or by mail. leave: what is queued and LEAVE go out first. */
void cohorti_conn_close(struct conn *conn, int code, bool leave);
/** Its loop's thread: it is over. */
void cohorti_conn_end(struct conn *conn, int code);
/** Its loop's thread: write what is queued, wait for the peer to close, then end. */
void cohorti_conn_drain(struct conn *conn, int code);
void cohorti_conn_on_timer(struct conn *conn, uint64_t now_ns);
/** Its loop's thread, no lock held: tell who asked, and free it. */
void cohorti_conn_complete_echo(struct conn *conn, struct cohorti_echo *echo, int status, uint64_t rtt_ns);

/* conn_io.c: bytes. Its loop's thread. */
void cohorti_conn_on_event(void *ctx, unsigned events);
void cohorti_conn_pump(struct conn *conn); /* events the link has ready */
void cohorti_conn_flush(struct conn *conn);
/** Something was queued: see that it is written. Any thread, with the peer's lock held. */
void cohorti_conn_kick(struct conn *conn);
void cohorti_conn_watch(struct conn *conn); /* with the lock held */
void cohorti_conn_lock(struct conn *conn);
void cohorti_conn_unlock(struct conn *conn);

/* ---- the node ------------------------------------------------------------------------------------------------------ */

struct node_counters {
    _Atomic uint64_t links_accepted, links_dialled, links_opened, links_closed, links_open, handshakes;
    _Atomic uint64_t bytes_in, bytes_out, frames_in, frames_out;
    _Atomic uint64_t messages_unhandled, bytes_dropped, echoes_dropped;
    _Atomic uint64_t errors[64];
};

enum node_phase {
    NODE_OPEN,
    NODE_STARTED,
    NODE_CLOSING
};

struct cohort_node {
    cohort_allocator alloc;
    cohort_log_sink log;
    struct cohorti_io *io;
    bool owns_io;
    char id[COHORT_ID_BYTES_MAX + 1];
    cohort_limits limits;
    _Atomic int phase;
    struct cohorti_mutex life_lock; /* calls before the loops run */

    struct worker control;
    struct worker *workers;
    uint32_t worker_count;
    uint32_t workers_ready;

    /* control loop only */
    struct cohorti_cluster cluster;
    struct cohorti_map conns;
    struct cohorti_list conn_list;
    struct cohorti_list spare_peers;
    struct cohorti_socket *listener;
    struct cohorti_timer accept_pause;
    struct cohorti_timer close_deadline;
    bool settling;
    uint32_t draining_count;
    struct cohorti_waiter *closed_waiter;
    _Atomic bool close_cut; /* a link was cut with bytes queued */

    struct cohorti_mutex peers_lock;
    struct cohorti_map peers;
    size_t peer_count;

    struct cohorti_registry registry;
    struct node_counters counters;
    struct cohorti_mutex rates_lock;
    struct rate_window rates;
};

static inline uint64_t cohorti_now(const struct cohort_node *node)
{
    return node->io->ops->now_ns(node->io);
}

/* control.c: the control loop. */
void cohorti_control_effects(struct cohort_node *node); /* carry out what the cluster wants */
void cohorti_control_on_timer(struct cohort_node *node, struct cohorti_timer *timer, uint64_t now_ns);
void cohorti_control_conn_event(struct conn *conn, const struct cohorti_link_event *event); /* during the handshake */
void cohorti_control_conn_ended(struct conn *conn);
COHORT_NODISCARD int cohorti_control_listen(struct cohort_node *node, cohort_error *error);
/** `closed` is signalled when no link is left; after deadline_ns links are cut. */
void cohorti_control_begin_close(struct cohort_node *node, uint64_t deadline_ns, struct cohorti_waiter *closed);
void cohorti_control_check_idle(struct cohort_node *node);
COHORT_NODISCARD int cohorti_control_add(struct cohort_node *node, const char *id, const char *ip, uint16_t tcp_port);

/** Run fn on the control loop and wait for it; at once when we are on it or no loop runs. */
int cohorti_node_call(struct cohort_node *node, int (*fn)(struct cohort_node *node, void *arg), void *arg);
bool cohorti_node_in_callback(const struct cohort_node *node);

/** A node over another machine than the real one; `io` is borrowed. */
COHORT_NODISCARD int cohorti_node_open_on(struct cohorti_io *io, const cohort_config *config, cohort_node **out, cohort_error *error);

/** Free a node whose process is dead (its machine runs nothing any more): no peer and no handler hears of it. */
void cohorti_node_abandon(struct cohort_node *node);

/* log.c */
void cohorti_log(struct cohort_node *node, cohort_log_level level, const char *component, const char *peer, int code,
                 const char *format, ...) __attribute__((format(printf, 6, 7)));
void cohorti_log_default_sink(void *ctx, const cohort_log_record *record);
extern const cohort_allocator cohorti_malloc;

#endif
