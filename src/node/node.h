/* SPDX-License-Identifier: Apache-2.0
 *
 * The shell: the core's effects carried out on io, and the public API. Private to src/node.
 *
 * Threads and ownership.
 *   runner   one loop and its thread. It may work for several nodes; a worker is what one node has on it.
 *   control  one worker: the cluster (membership, handshakes, dialling), the listener, every connection until it is open. Event
 *            listeners are called here.
 *   workers  carry the open connections: reading, message handlers, writing. With one loop control is the only worker.
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
#include "core/acking.h"
#include "core/calls.h"
#include "core/cluster.h"
#include "core/echo.h"
#include "core/link.h"
#include "core/look.h"
#include "core/outbound.h"
#include "core/sender.h"
#include "io/io.h"
#include "node/codec.h"
#include "node/queue.h"
#include "node/registry.h"
#include "node/slab.h"
#include "node/subjects.h"

#include <cohort/cohort.h>
#include <cohort/stream.h>
#include <stdatomic.h>

struct incoming; /* stream.h */

#define COHORTI_RECEIVE_BYTES ((size_t)256 * 1024) /* one read, per worker */
#define COHORTI_DRAIN_NS (UINT64_C(500) * 1000000) /* how long a peer has to read our last words once they are written */
#define COHORTI_REST_NS (UINT64_C(1000) * 1000000) /* memory of a lane that was not needed for so long goes */
#define COHORTI_PINS_MAX 8                         /* subjects whose handlers are remembered within one batch */
#define COHORTI_BATCH_READS 16                     /* reads of one connection before the loop serves others */

/* ---- loops --------------------------------------------------------------------------------------------------------- */

#define COHORTI_TIMER_CALLS 1 /* kind of the timers in a worker's heap that belong to peers; of all others 0 */

struct mail {
    struct cohorti_list node;
    struct worker *to;
    void (*run)(struct mail *mail);
    struct conn *conn; /* whose mail it is, with a reference while under way; NULL for a call or a peer's */
    struct peer *peer; /* the same for a peer's */
};

/* One loop and what belongs to its thread, whichever node it works for. */
struct runner {
    struct cohort_loops *owner;
    struct cohorti_loop *loop;
    uint8_t *receive;             /* COHORTI_RECEIVE_BYTES, shared by all connections of the loop */
    struct cohorti_timers timers; /* worker.due of each worker; loop thread */
    uint64_t armed_ns;            /* what the loop's timer is set to; loop thread */
    struct cohorti_list touched;  /* workers to look after before the callback ends; loop thread */
    struct cohorti_mutex mail_lock;
    struct cohorti_list mail;     /* under mail_lock */
    struct cohorti_list later;    /* for the next time it wakes; the same */
    _Atomic uint32_t load;        /* open connections here */
    struct cohorti_slabs slabs;   /* entries of queues made here; loop thread */
    struct cohorti_stages stages; /* ... that are not in their queues yet; loop thread */
    bool looks;                   /* it waits awake, and whatever is posted wakes it; under mail_lock */
};

/* The loops of one node, or of several (cohort_loops_open()). */
struct cohort_loops {
    cohort_allocator alloc;
    struct cohorti_io *io;
    bool owns_io;
    bool threads; /* false: one loop, run by whoever calls dispatch */
    bool shared;  /* made by the application; runs from open to close */
    _Atomic uint32_t node_count;
    _Atomic uint32_t control_next; /* whose turn it is to be a node's control */
    _Atomic bool driven;           /* without threads: some thread is inside */
    _Atomic uintptr_t driver;      /* ... this one, or it was the last */
    uint32_t count, ready;
    struct runner runners[];
};

/** `io` NULL: the real machine. Made, not started. COHORT_ENOMEM, COHORT_ELIMIT, COHORT_EIO. */
COHORT_NODISCARD int cohorti_loops_new(struct cohorti_io *io, const cohort_allocator *alloc, uint32_t count, bool shared,
                                       struct cohort_loops **out);
COHORT_NODISCARD int cohorti_loops_start(struct cohort_loops *loops); /* on failure some run: stop them */
void cohorti_loops_stop(struct cohort_loops *loops);
void cohorti_loops_free(struct cohort_loops *loops);
bool cohorti_loops_current(const struct cohort_loops *loops); /* on a thread of theirs: inside a callback */
/** Loops without threads: be their thread until cohorti_loops_leave(). COHORT_ECALLBACK inside already, COHORT_EBUSY another is. */
COHORT_NODISCARD int cohorti_loops_enter(struct cohort_loops *loops, struct cohorti_loop **before);
void cohorti_loops_leave(struct cohort_loops *loops, struct cohorti_loop *before);
bool cohorti_loops_mine(const struct cohort_loops *loops); /* without threads, and this thread was the last one inside */

/* What a node has on one loop. */
struct worker {
    struct cohort_node *owner;
    struct runner *runner;
    struct cohorti_loop *loop;    /* the runner's */
    uint8_t *receive;             /* the runner's */
    struct cohorti_timers timers; /* of connections, and the listener's pause; loop thread */
    struct cohorti_timer due;     /* in runner->timers: the earliest of ours */
    struct cohorti_list touched;  /* in runner->touched */
};

void cohorti_worker_init(struct worker *w, struct cohort_node *owner, struct runner *runner);
/** Nothing of the worker is left with its runner. Its loop's thread, or no loop runs. */
void cohorti_worker_detach(struct worker *w);
/** Run `mail` on the worker's loop, after what was posted before. Any thread. */
void cohorti_worker_post(struct worker *w, struct mail *mail);
/** The same, but the loop serves others first: who is on it and posts to itself again and again holds up nobody. */
void cohorti_worker_post_later(struct worker *w, struct mail *mail);
/** Forget the mail that waits: nobody will read it. No call may be under way. */
void cohorti_worker_abandon(struct worker *w);
/** Its timers, or its cluster, changed outside its own callbacks: look after it at the end of this one. Loop thread. */
void cohorti_worker_touch(struct worker *w);
/** At the end of every callback of the loop: mail, effects of the cluster, timer. */
void cohorti_worker_settle(struct worker *w);

/** That of this thread, inside a callback of a loop with threads; else NULL. */
struct runner *cohorti_runner_mine(void);
/** Its first mail with this function, taken out, or NULL. Its thread. */
struct mail *cohorti_runner_take(struct runner *r, void (*run)(struct mail *mail));
COHORT_NODISCARD int cohorti_runner_init(struct runner *r, struct cohort_loops *owner, const char *name);
void cohorti_runner_deinit(struct runner *r);
/** Before a callback waits awake: true if nothing else waits for the loop, mail of others than `but` above all; then end_look() follows, and
 * mail that is posted until then shows as a wake-up. Loop thread. */
bool cohorti_runner_begin_look(struct runner *r, const struct mail *but);
void cohorti_runner_end_look(struct runner *r);

/* ---- peers: what other threads see of members ----------------------------------------------------------------------- */

struct peer {
    struct cohorti_map_node node; /* in owner->peers, by id */
    struct cohort_node *owner;
    _Atomic uint32_t refs;
    char id[COHORT_ID_BYTES_MAX + 1]; /* does not change */
    cohort_member member;             /* published; under owner->peers_lock */
    struct cohorti_list spare;        /* in owner->spare_peers */
    struct cohorti_mutex lock;
    struct cohorti_list conns;    /* open ones, the newest last: that one is sent to; under lock */
    struct cohorti_list has_room; /* while writable events are collected: session.c */
    unsigned room_lanes;
    bool self;                                     /* the local node; does not change */
    bool legacy, removed;                          /* the last link was a legacy one; it is no member any more; under lock */
    bool ending;                                   /* who had its last link ends its session, or will; under lock */
    struct cohorti_outbound outbound;              /* under lock */
    struct cohorti_list waiting;                   /* threads that wait for room: full.c; under lock */
    struct cohorti_list streams_over;              /* streams of ours whose end is to be told: stream.c; under lock */
    struct cohorti_inbound inbound;                /* the loop of the open link; control while there is none */
    _Atomic uint64_t consumed[COHORTI_LANE_COUNT]; /* of messages in queues, handled since inbound was told */
    _Atomic bool has_consumed;
    _Atomic uint64_t consumed_told_ns; /* when the loop was last woken for it */
    _Atomic uint64_t waiting_bytes;    /* in queues, from a legacy peer, which has no credit */
    struct cohorti_calls calls;        /* ours, that wait; under lock */
    struct mail calls_mail;            /* to control: set calls_timer */
    bool calls_posted;                 /* it is under way; under lock */
    uint64_t calls_armed_ns;           /* what calls_timer is set to, or will be by the mail; under lock */
    struct cohorti_timer calls_timer;  /* control */
    _Atomic uint32_t calls_kept; /* its requests that wait for our reply, beyond the return of their handlers, and those owed */
    struct cohorti_list owed;    /* those whose answer found no memory or room; under lock */
    uint64_t owed_due_ns;        /* when it, or the end of aborted streams, is tried again; under lock */
    cohort_call *owed_room;      /* for the next of them; the loop of the open link */
};

struct peer *cohorti_peer_new(struct cohort_node *node);
void cohorti_peer_unref(struct peer *peer);
void cohorti_peer_unref_many(struct peer *peer, uint32_t count);
/** With a reference, or NULL. Any thread. */
struct peer *cohorti_peer_find(struct cohort_node *node, const char *id);
/** To send to, with a reference. COHORT_EINVAL: none, or ourselves when that is not to be; COHORT_ENOPEER. Any thread. */
COHORT_NODISCARD int cohorti_peer_to(struct cohort_node *node, const char *id, struct peer **out);
/** All peers in order of id, with a reference each: as they were when asked. NULL without memory. Any thread. */
struct peers {
    const cohort_allocator *alloc;
    _Atomic uint32_t refs;
    size_t count;
    struct peer *at[];
};
struct peers *cohorti_peers_get(struct cohort_node *node);
void cohorti_peers_put(struct peers *all); /* NULL is allowed */
/** Publish what the cluster says; control loop. A removed one's session ends with its last link. */
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

/* watchdog.c: what the loop is at for this connection; written by its thread, and what is atomic read by control as well. */
struct watched {
    const struct cohorti_inbound_subject *subject; /* NULL: a raw frame, or a reply */
    uint32_t raw_type;
    bool raw;
};
struct watch {
    _Atomic uint64_t begun_ns; /* the batch; 0: none is handled */
    _Atomic uint32_t messages; /* of it, begun */
    _Atomic(const struct cohorti_inbound_subject *) last_subject;
    _Atomic uint32_t last_type;
    _Atomic bool last_raw;
    bool measures; /* each message: the batch before took too long */
    uint64_t worst_ns;
    struct watched worst;
    uint64_t named_ns; /* begin of the last batch in which a handler was named while it ran; under the peer's lock */
    struct {
        uint64_t begun_ns, at_ns;
        uint32_t messages;
    } seen; /* at the last look; control */
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
    _Atomic uint64_t idle_ns; /* silence of the peer that ends it when open; 0: none does */
    int end_code;             /* why it ends */
    bool pumping;             /* its events are being handled */
    struct watch watch;
    struct cohorti_look look; /* waiting awake for what its answers bring, or for more of a stream */
    struct {
        size_t half;                         /* how much of the batch is left when half is handled; 0: it was */
        uint64_t since_ns;                   /* the last write, or the begin */
        uint32_t messages;                   /* handled while something waited to be written */
        uint32_t batches, most, most_before; /* messages of the largest one of the last batches, and of those before */
    } early;                                 /* writing in the middle of a batch */
    struct cohorti_inbound_subject *pinned[COHORTI_PINS_MAX]; /* names whose handlers were looked up in this batch; loop thread */
    uint32_t pinned_count, pinned_generation;
    bool got_bytes;
    bool ends_session; /* once its events are handled */
    bool tells_end;    /* the same of the news for control */
    bool disagrees;    /* about what was taken: the session ends with it, as it would with every link that follows */
    bool leaving;      /* what is queued goes out and is acknowledged, then LEAVE */
    struct cohorti_acking acking;
    uint64_t rest_due_ns;   /* when memory of the lanes that was not needed goes; COHORTI_NEVER: none is kept */
    bool drains_on_control; /* counted in owner->draining_count */

    struct peer *peer; /* from OPEN on; with a reference. Its lock guards the rest once set */
    struct cohorti_list of_peer;
    struct cohorti_socket *socket; /* NULL once closed */
    struct cohorti_sender sender;
    struct cohorti_echoes echoes;
    bool attached;              /* the worker watches it */
    _Atomic bool flush_posted;  /* flush_mail is under way; written under the lock */
    _Atomic bool looking;       /* its loop waits awake for it, and comes to flush_mail only afterwards; written by the loop */
    _Atomic bool credit_posted; /* the same of credit_mail */
    bool watching_write;
    bool socket_full;   /* the last write found it so */
    bool writing;       /* some thread is inside a write, without the lock; what is queued meanwhile, it writes too */
    bool flush_again;   /* the loop wanted to flush meanwhile */
    bool local;         /* to ourselves: local.c; does not change once it is open */
    uint64_t queued_ns; /* when something was queued last by a thread that might write */
    uint64_t bytes_out;
    uint64_t frames_before;  /* of the session, when the link opened */
    uint64_t frames_counted; /* of frames out, in the totals */
    struct rate_window rates;

    struct mail attach_mail, close_mail, flush_mail, credit_mail, ended_mail;
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
/** OPEN: it is the peer's link from now on; the reference is taken also on failure, after which it is to end. RECEIVE: hand it over. */
COHORT_NODISCARD int cohorti_conn_open(struct conn *conn, struct peer *peer);
void cohorti_conn_hand_over(struct conn *conn);
/** Whose loop carries the fewest links. */
struct worker *cohorti_conn_least_used(struct cohort_node *node);
/** Free it without a word to anybody: the process it lived in is dead. */
void cohorti_conn_abandon(struct conn *conn);
/** Close it wherever it is, now or by mail. leave: what is queued and LEAVE go out first. */
void cohorti_conn_close(struct conn *conn, int code, bool leave);
/** End it because of `code`, by mail to its loop. Any thread, with the peer's lock held. */
void cohorti_conn_post_close(struct conn *conn, int code);
/** See that its loop tells the peer of credit that was given back. Any thread, with the peer's lock held. */
void cohorti_conn_post_credit(struct conn *conn);
/** Its loop's thread: it is over. Control hears of it at once, or when its events are handled. */
void cohorti_conn_end(struct conn *conn, int code);
void cohorti_conn_tell_end(struct conn *conn);
/** Its loop's thread: write what is queued, wait for the peer to close, then end. */
void cohorti_conn_drain(struct conn *conn, int code);
void cohorti_conn_on_timer(struct conn *conn, uint64_t now_ns);
/** When its peer has been silent for too long; COHORTI_NEVER: it may be. Its loop's thread. */
uint64_t cohorti_conn_idle_deadline(const struct conn *conn);
/** Its loop's thread, no lock held: tell who asked, and free it. */
void cohorti_conn_complete_echo(struct conn *conn, struct cohorti_echo *echo, int status, uint64_t rtt_ns);

/** An open link, its loop's thread: it can go on no longer because of `code`; says so in the log. */
void cohorti_conn_fail(struct conn *conn, int code, const char *detail);

/* watchdog.c: a batch of events is handled; its loop's thread. What is told of lives until the batch ends. */
void cohorti_watch_begin(struct conn *conn, uint64_t now_ns);
/** A message begins; gives what measure() wants when its handlers have returned, or 0: no need. */
uint64_t cohorti_watch_message(struct conn *conn, const struct cohorti_inbound_subject *subject, uint32_t raw_type, bool raw);
void cohorti_watch_measure(struct conn *conn, uint64_t begun_ns);
void cohorti_watch_end(struct conn *conn);
/** Control: looks at the loops are wanted; it is the time for one. */
void cohorti_watch_wanted(struct mail *mail);
void cohorti_watch_look(struct cohort_node *node, uint64_t now_ns);

/* conn_io.c and conn_read.c: bytes. Its loop's thread. */
void cohorti_conn_on_event(void *ctx, unsigned events);
void cohorti_conn_pump(struct conn *conn); /* events the link has ready */
bool cohorti_conn_wants_read(const struct conn *conn);
void cohorti_conn_read(struct conn *conn); /* what has come, within limits */
/** What waits, in the middle of a batch or at its end. True: all of it is written. Loop thread. */
bool cohorti_conn_write_now(struct conn *conn);
void cohorti_conn_on_bytes(struct conn *conn, size_t sunk, const uint8_t *bytes, size_t len); /* sunk: where the link wanted them */
void cohorti_conn_set_timer(struct conn *conn, uint64_t echo_deadline_ns); /* to the earliest of what it waits for */
void cohorti_conn_count_frames(struct conn *conn);                         /* with the lock held */

/* deliver.c: messages to their handlers. Its loop's thread. */
/**
 * Call the handlers of a message, or queue it for them. `taken` is NULL from a legacy peer, which gets no credit. *consumed: nothing of it
 * waits in a queue. COHORT_ENOHANDLER; COHORT_ENOMEM: no handler has seen it.
 */
COHORT_NODISCARD int cohorti_conn_deliver(struct conn *conn, cohort_message *message, const struct cohorti_delivery *taken,
                                          bool *consumed);
/** The same of a piece of a stream that comes, and, when its last completes it for others, of the message; else `message` is NULL. */
COHORT_NODISCARD int cohorti_conn_deliver_piece(struct conn *conn, struct incoming *stream, const cohort_piece *piece,
                                                cohort_message *message, const struct cohorti_delivery *taken, bool *consumed);
/** Those of a name, or the default ones; NULL: none. Good for this batch, and until some handler changes. */
struct cohorti_handlers *cohorti_conn_handlers(struct conn *conn, struct cohorti_inbound_subject *subject);
/** Forget the handlers looked up in this batch. */
void cohorti_conn_unpin(struct conn *conn);

/* conn_io.c: writing. */
void cohorti_conn_flush(struct conn *conn);
/** Until no thread is inside a write. With the lock held, which is let go meanwhile. */
void cohorti_conn_wait_for_writer(struct conn *conn);
/** See that its loop acknowledges and flushes. Any thread, with the peer's lock held. */
void cohorti_conn_post_flush(struct conn *conn);
/** Something was queued as one of many things: its loop writes, with what else has gathered. As kick(). */
void cohorti_conn_kick_later(struct conn *conn);
/** Something was queued: see that it is written. Any thread, with the peer's lock held. */
void cohorti_conn_kick(struct conn *conn);
void cohorti_conn_watch(struct conn *conn); /* with the lock held */
void cohorti_conn_lock(struct conn *conn);
void cohorti_conn_unlock(struct conn *conn);

/* local.c: the link to ourselves. */
void cohorti_local_turn(struct conn *conn);         /* its loop's thread: read what was written */
void cohorti_local_begin(struct cohort_node *node); /* control, all three; if the configuration wants one and there is none */
void cohorti_local_ended(struct conn *conn);
void cohorti_local_close(struct cohort_node *node);
/** Its session is to end: what was taken counts as acknowledged. No link stands. */
void cohorti_local_settle(struct peer *self);

/** Frames queued on this link, its own and its session's; with the lock held. */
uint64_t cohorti_conn_frames_out(const struct conn *conn);

/* ---- sessions (session.c) ------------------------------------------------------------------------------------------- */

/** A new name for a half of a session; never 0. */
COHORT_NODISCARD int cohorti_session_half(struct cohort_node *node, uint64_t *out);
/** The link is open: queue RESUME. With the lock held, while no other link reads. */
COHORT_NODISCARD int cohorti_session_begin(struct conn *conn);
/** Events of an open link; its loop's thread, no lock held. COHORT_EPROTOCOL: the link is to end. */
COHORT_NODISCARD int cohorti_session_on_resume(struct conn *conn);
COHORT_NODISCARD int cohorti_session_on_ack(struct conn *conn);
/** Handlers are done with a message that had waited in a queue. Any thread, no lock held. */
void cohorti_session_consumed(struct peer *peer, unsigned lane, size_t bytes);
/** A batch was delivered: acknowledge it now, or set a time for it. may_gather: core/acking.h. Its loop's thread. */
void cohorti_session_acknowledge(struct conn *conn, bool may_gather);
/** The same, if so much is untold that it should not wait until all is read that is there. */
void cohorti_session_acknowledge_much(struct conn *conn);
/** Its lanes give back memory they have not needed lately, if it is time. Its loop's thread. */
void cohorti_session_rest(struct conn *conn, uint64_t now_ns);
/** Nothing of ours is left to deliver: acknowledge the last, say LEAVE, and end. Its loop's thread. */
void cohorti_session_leave(struct conn *conn);
/** Messages whose time is over are withdrawn, and told; control loop. */
void cohorti_session_expire(struct peer *peer, uint64_t now_ns);
/** Tell that these lanes, a bit for each, have room again. On a loop, no lock held. */
void cohorti_session_tell_writable(struct peer *peer, unsigned lanes);
/** The quota may have room: control is to tell all lanes that it refused. */
void cohorti_session_find_room(struct cohort_node *node);
void cohorti_session_room(struct mail *mail);
/** The link ended while its events were handled, and now they are: end the session if the member was removed, is slow, or disagrees. */
void cohorti_session_settle(struct conn *conn);
/** Everything not acknowledged is lost because of `reason`, and told; returns how many messages. No link writes; no lock held. */
uint64_t cohorti_session_end(struct peer *peer, int reason);
/** The same where the member may be removed meanwhile, by control or by who is told: peer->ending is set, so that nobody else ends the session. */
void cohorti_session_end_here(struct peer *peer, int reason);
/** Tell what was lost with a session; returns how many messages. No lock held. Frees `lost`. */
uint64_t cohorti_session_tell(struct peer *peer, struct cohorti_undelivered *lost, int reason);

/* ---- requests (requests.c) ------------------------------------------------------------------------------------------ */

/** A message to one peer, as the public calls have it, checked. */
struct outgoing {
    bool raw;
    uint32_t type;
    struct cohorti_put put;
    cohort_subject_options options; /* of a named subject */
};
/* What met a full lane and may be tried again. */
struct attempt {
    int (*make)(struct peer *peer, void *ctx); /* with the lock held */
    void *ctx;
    bool keeps_lock; /* once it has succeeded the lock stays held */
    bool can_drop;   /* there is something to drop: for nobody waits, and nothing is to be filled in */
};
/** The lane is full: do as the options say (full.c). No lock held. */
COHORT_NODISCARD int cohorti_full(struct peer *peer, const cohort_subject_options *options, const struct attempt *attempt);
COHORT_NODISCARD int cohorti_full_send(struct peer *peer, struct outgoing *m);
/** Try again whenever there may be room, until it says something other than EAGAIN, or COHORT_ETIMEDOUT. No lock held. */
COHORT_NODISCARD int cohorti_full_wait(struct peer *peer, const struct attempt *attempt, uint64_t deadline_ns);
/** Whoever waits for room tries again. With the lock held. */
void cohorti_full_wake(struct peer *peer);
/** The node closes: nobody waits for room any more. */
void cohorti_full_close(struct cohort_node *node);
/** cohort_send() and cohort_broadcast() of a message that was checked. */
COHORT_NODISCARD int cohorti_send(struct cohort_node *node, const char *id, struct outgoing *m);
struct broadcast {
    bool to_self;
    cohort_sent_fn fn; /* told of each it is for; NULL: nobody */
    void *arg;
    size_t sent; /* for how many it was queued */
};
COHORT_NODISCARD int cohorti_broadcast(struct cohort_node *node, struct outgoing *m, struct broadcast *b);

/* lend.c: who gets the bytes of a message back that were not copied, and how. */
struct loan {
    cohort_release_fn release; /* NULL: they outlive the node */
    void *arg;
    bool taken; /* arg is memory of the node's allocator, to be freed */
};
/** Have the message refer to its body, if that is worth it. COHORT_ENOMEM. To be ended when it was sent, or not. */
COHORT_NODISCARD int cohorti_lend(struct cohort_node *node, struct outgoing *m, const struct loan *loan);
/** accepted: give the bytes back once nobody needs them, which may be now; else they stay with the caller. No lock held. */
void cohorti_lend_end(struct cohort_node *node, const struct outgoing *m, const struct loan *loan, bool accepted);

/** Append a message to the peer's lane, or to a legacy peer's link, and see that it is written. With the lock held. */
COHORT_NODISCARD int cohorti_send_locked(struct peer *peer, const struct outgoing *m);
/** The link to send to a peer through, or NULL; and see that what was appended is written. With the lock held. */
struct conn *cohorti_current_conn(struct peer *peer);
void cohorti_kick(struct peer *peer);
COHORT_NODISCARD int cohorti_check_message(struct cohort_node *node, const char *subject, const void *data, size_t data_len,
                                           struct outgoing *out);

void cohorti_requests_init(struct peer *peer);
void cohorti_requests_deinit(struct peer *peer);
/** A request to be made: subject, lane and body in `put`. */
struct asking {
    struct cohorti_put put;
    uint32_t timeout_ms; /* 0: no deadline */
    cohort_result_fn fn;
    void *arg;
    uint64_t id; /* given to it when it was queued */
    uint8_t prefix[COHORTI_REQUEST_PREFIX_BYTES];
};
/** As cohort_request(). No lock held. */
COHORT_NODISCARD int cohorti_requests_ask(struct peer *peer, struct asking *asking, const cohort_subject_options *options,
                                          cohort_request_id *out);
/** A request came: hand it to the handlers of its subject, and see that it is answered. Its loop's thread. */
COHORT_NODISCARD int cohorti_requests_deliver(struct conn *conn, const struct cohorti_delivery *taken, bool *consumed);
/** Keep a call for a queued handler, which sets *taken when it keeps it itself; NULL without memory. And, unless it did: the handler has
 * returned, answer for it if it gave no reply. */
cohort_call *cohorti_call_queue(cohort_call *call, bool *taken);
void cohorti_call_unqueue(cohort_call *call);
/** It was never put into a queue: the request comes again, and nobody answers for it now. */
void cohorti_call_forget(cohort_call *call);
/** A reply, or an error in its place, came. Its loop's thread. */
void cohorti_requests_complete(struct conn *conn, const struct cohorti_delivery *taken);
/** Time for some of them is over; control loop. */
void cohorti_requests_on_timer(struct peer *peer, uint64_t now_ns);
/** The node starts: see to what was sent before. Control loop. */
void cohorti_requests_begin(struct cohort_node *node);
/** Something of the peer has this deadline. With the lock held. */
void cohorti_requests_want_timer(struct peer *peer, uint64_t deadline_ns);
/** None that waits and was made before end_id will be answered: calls.next_id when the session ended, under the same hold of the lock.
 * No lock held. */
void cohorti_requests_end(struct peer *peer, uint64_t end_id, int reason);
/** Something is owed to the peer for want of memory or room: it is tried again in a while. With the lock held. */
void cohorti_requests_owe(struct peer *peer);
/** There may be memory or room for what is owed. With the lock held. */
void cohorti_requests_pay(struct peer *peer);
/** It is no member any more; control loop. */
void cohorti_requests_forget_timer(struct peer *peer);

/* ---- the node ------------------------------------------------------------------------------------------------------ */

struct node_counters {
    _Atomic uint64_t links_accepted, links_dialled, links_opened, links_closed, links_open, handshakes;
    _Atomic uint64_t bytes_in, bytes_out, frames_in, frames_out;
    _Atomic uint64_t messages_unhandled, messages_undelivered, messages_dropped, replies_late, bytes_dropped, echoes_dropped;
    _Atomic uint64_t handlers_slow;
    _Atomic uint64_t errors[128];
};

enum node_phase {
    NODE_OPEN,
    NODE_STARTED,
    NODE_CLOSING
};

struct cohort_node {
    cohort_allocator alloc;
    cohort_log_sink log;
    struct cohort_loops *loops;
    struct cohorti_io *io; /* the loops' */
    char id[COHORT_ID_BYTES_MAX + 1];
    char bind[COHORT_HOST_BYTES_MAX + 1]; /* listened on; "": all addresses */
    bool owns_loops, deliver_local;
    char *definition_path; /* followed; NULL: none */
    cohort_limits limits;
    uint32_t look_us;
    struct cohorti_quota quota; /* of all peers */
    struct mail room_mail;      /* to control: whoever the quota refused is told */
    _Atomic bool room_posted;
    struct mail watch_mail; /* to control: set `watchdog` */
    _Atomic bool watching;  /* it is set, or will be by the mail */
    _Atomic int phase;
    struct cohorti_mutex life_lock; /* calls before the loops run */

    struct worker control;
    struct worker *workers;
    uint32_t worker_count;

    /* control loop only */
    struct cohorti_cluster cluster;
    struct cohorti_map conns;
    struct cohorti_list conn_list;
    struct cohorti_list spare_peers;
    struct cohorti_list name_dials; /* whose names are looked up: dial.c */
    struct cohorti_file_watch *file_watch;
    struct cohorti_socket *listener;
    struct cohorti_timer accept_pause;
    struct conn *local; /* to ourselves; NULL: none */
    struct cohorti_timer local_pause;
    struct cohorti_timer close_deadline;
    struct cohorti_timer watchdog; /* the next look at what the other loops are at */
    bool settling;
    _Atomic bool close_cut; /* something queued was lost with the node */
    uint32_t draining_count;
    struct cohorti_waiter *closed_waiter;

    struct cohorti_mutex peers_lock;
    struct cohorti_map peers;
    size_t peer_count;
    struct peers *all; /* NULL: to be made */

    struct cohorti_mutex definition_lock;
    cohort_definition_status definition_status; /* under definition_lock */

    struct cohorti_registry registry;
    struct cohorti_subjects subjects;
    struct cohorti_mutex streams_lock; /* before a peer's */
    struct cohorti_list streams;       /* of ours, each with a reference to its peer: stream.c; under streams_lock */
    struct cohorti_mutex queues_lock;
    struct cohorti_list queues; /* under queues_lock */
    struct cohorti_codecs codecs;
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

/* dial.c: DIAL. Control loop. */
void cohorti_dial(struct cohort_node *node, const struct cohorti_effect *fx);
/** End the lookup that stands for this link, and report the link closed; false when there is none. */
bool cohorti_dial_cancel(struct cohort_node *node, uint64_t link, int code);
/** End them all without a word. */
void cohorti_dial_abandon(struct cohort_node *node);

/* follow.c: definitions given to a running node. Control loop. */
COHORT_NODISCARD int cohorti_control_apply(struct cohort_node *node, const cohort_definition *definition,
                                           struct cohorti_applied *applied, cohort_error *error);
void cohorti_follow_begin(struct cohort_node *node);
void cohorti_follow_end(struct cohort_node *node);

/** call.c: run fn on the control loop and wait for it; at once when we are on it or no loop runs. */
int cohorti_node_call(struct cohort_node *node, int (*fn)(struct cohort_node *node, void *arg), void *arg);
/** The same for a change of members, which is possible before the loops run, and from callbacks, too. COHORT_ECLOSED: the node closes. */
int cohorti_node_change(struct cohort_node *node, int (*fn)(struct cohort_node *node, void *arg), void *arg);
bool cohorti_node_in_callback(const struct cohort_node *node);
/** Opened on loops that run for others, and not started: nothing of it may be theirs to do yet. */
bool cohorti_node_is_early(const struct cohort_node *node);
/** The code, and its text where nothing more exact stands. Returns status. */
int cohorti_explain(cohort_error *error, int status);
/** Wait for somebody else while the node's loops go on, whoever runs them. */
void cohorti_node_await(struct cohort_node *node, struct cohorti_waiter *waiter);

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
