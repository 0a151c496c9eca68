/* SPDX-License-Identifier: Apache-2.0
 *
 * libcohort: a node of a peer-to-peer cluster inside your process.
 *
 * Open a node, register handlers and listeners, start it; it connects to every other member of the cluster definition, tells
 * you who is there, and exchanges messages with them. Threads: the library runs its own event loops; every function here may
 * be called from any thread unless it says otherwise. Callbacks run on the loops with no lock held and must not block.
 */
#ifndef COHORT_COHORT_H
#define COHORT_COHORT_H

#include <cohort/definition.h>
#include <cohort/error.h>
#include <cohort/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A member of a cluster in this process; one process may have several. */
typedef struct cohort_node cohort_node;
typedef struct cohort_loops cohort_loops;

/** Version of the library that runs, "MAJOR.MINOR.PATCH". */
COHORT_API const char *cohort_version(void);

/* ---- configuration ------------------------------------------------------------------------------------------------- */

/** Who may become a member by greeting us. */
typedef enum cohort_admission {
    COHORT_ADMIT_DEFAULT = 0, /* LISTED when a definition is given, OPEN otherwise */
    COHORT_ADMIT_OPEN = 1,    /* whoever greets is added, as the 2014 system does; a removed member stays removed */
    COHORT_ADMIT_LISTED = 2,  /* members of the definition and of cohort_node_add() only */
} cohort_admission;

/** When a member that is not connected is dialled. */
typedef enum cohort_dial_mode {
    COHORT_DIAL_BACKOFF = 0, /* at once, then jittered exponential back-off between delay_min_ms and delay_max_ms */
    COHORT_DIAL_SEED = 1,    /* the 2014 custodian: after 1 s, then every 5 s */
} cohort_dial_mode;

/** How members are dialled. */
typedef struct cohort_dial_policy {
    cohort_dial_mode mode;
    uint32_t delay_min_ms;       /* default 100; where nobody listens the first pause is eight times that */
    uint32_t delay_max_ms;       /* default 10 000 */
    uint32_t connect_timeout_ms; /* default 3 000: a connect unanswered for so long has failed */
} cohort_dial_policy;

/** How much a node may hold; what happens at each limit is said where it is met. */
typedef struct cohort_limits {
    uint32_t members_max;          /* default 1024, the local node included */
    uint32_t removed_max;          /* default 1024: removed ids remembered; beyond, the oldest is forgotten */
    uint32_t handshakes_max;       /* default 256: accepted connections that have not greeted; beyond, the oldest is closed */
    uint32_t handshake_timeout_ms; /* default 5 000: from connected to open */
    uint32_t legacy_links_max;     /* default 4: parallel links kept from one legacy peer */
    uint32_t message_bytes_max;    /* default 1 GiB: data of one message, sent or received */
    uint32_t peer_queue_bytes_max; /* default 8 MiB: bytes accepted for one peer and not acknowledged by it, in each lane */
    uint32_t subjects_max;         /* default 4096: subject names in use with one peer, in each lane, each way */
    uint32_t echoes_max;           /* default 64: echoes outstanding to one peer */
    uint32_t handlers_max;         /* default 4096: message handlers and event listeners of one node */
    uint32_t window_bytes;         /* default 4 MiB: what a peer may send ahead of our handlers, in each lane */
    uint32_t requests_max;         /* default 65 536: requests to one peer that wait for a reply, and of one peer for ours */
    uint32_t legacy_idle_ms; /* default 0, never: a link of a legacy peer that nobody listed ends after so long without a byte from it */
    uint32_t handler_ms;           /* default 200: handlers that hold up their loop for so long are named in the log; 0: none are */
    uint64_t node_queue_bytes_max; /* default 256 MiB: bytes accepted and not acknowledged, of all peers and lanes together. Beyond it sends
                                      are COHORT_EAGAIN, except in a lane that holds less than 64 KiB, and replies */
} cohort_limits;

/** Whose threads run a node. */
typedef enum cohort_threads {
    COHORT_THREADS_OWN = 0,  /* the library's: one, and loop_count more */
    COHORT_THREADS_NONE = 1, /* the application's: the library starts none; see "Without threads" */
} cohort_threads;

/**
 * How a node is to be. Fill with cohort_config_init(), then change what you need. All pointers are borrowed until
 * cohort_node_open() returns, except the contexts of allocator and log, which must outlive the node.
 */
typedef struct cohort_config {
    size_t size; /* sizeof(cohort_config) of the caller: set by cohort_config_init() */

    const char *id; /* NULL: the ip */
    const char *ip; /* NULL: that of the definition's node with this id, else COHORT_IP_DEFAULT. An IPv4 or IPv6 address, or a host
                       name, told to peers; listened on unless `bind` says otherwise */
    uint16_t tcp_port;                   /* 0: the definition's, else COHORT_PORT_DEFAULT */
    const cohort_definition *definition; /* NULL: none. Its node with our id is ourselves; if it has none, members that know only this
                                            definition refuse us (COHORT_ENOTLISTED) */
    const char *cluster;                 /* NULL: the definition's. "": any cluster. Peers that name another one are refused */
    cohort_admission admission;
    uint64_t incarnation; /* 0: microseconds since 1970 at start. Must be higher at every start of the same id; < 2^53 */

    uint32_t loop_count; /* default 3: event loops that carry links, besides the one that keeps membership; 0: that one carries all */
    cohort_dial_policy dial;
    cohort_limits limits;

    const cohort_allocator *allocator; /* NULL: malloc */
    cohort_log_sink log;               /* write NULL: warnings and errors to stderr */

    cohort_threads threads; /* default COHORT_THREADS_OWN; NONE: loop_count does not matter */
    cohort_loops *loops; /* NULL: the node's own. Loops shared with other nodes; must outlive the node. loop_count does not matter */
    const char *bind; /* listened on: IPv4 or IPv6, "0.0.0.0" for all of IPv4, "::" for all addresses. NULL: with the definition's ip
                         its bind, else the ip; for a host name all addresses */
    const char *definition_path; /* NULL: none. Followed while the node runs, see cohort_node_apply_definition(). Also read when the
                                    node is opened, unless `definition` gives what it held. Relative to the working directory */
    bool deliver_local; /* default false: sending to our own id is COHORT_EINVAL. true: it reaches our own handlers, from a loop of the
                           node, never inside the call; else as to any other member */
    uint32_t look_us; /* default 50; 0 .. 1000. A loop whose handlers have answered a member waits awake for so long for what that
                         says next, or one that has read all there was of a fast stream for more of it, before it sleeps, as long
                         as most of these waits are worth it. 0: never */
} cohort_config;

/** Fill with defaults. `size` is sizeof(cohort_config) as the caller sees it; use COHORT_CONFIG_INIT(&config). */
COHORT_API void cohort_config_init(cohort_config *config, size_t size);
#define COHORT_CONFIG_INIT(config) cohort_config_init((config), sizeof(*(config)))

/* ---- life ---------------------------------------------------------------------------------------------------------- */

/**
 * Make a node; nothing runs and no socket is opened yet. Those of the descriptors 0, 1 and 2 that are closed are opened on /dev/null, so that
 * nothing of the node gets their place.
 *
 * error   may be NULL.
 *
 *   COHORT_EINVAL   the configuration is wrong; error->text names the field and the value.
 *   COHORT_ELIMIT   the definition has more nodes than limits.members_max.
 *   and with definition_path those of cohort_definition_read().
 *   COHORT_ENOMEM   out of memory.
 */
COHORT_API COHORT_NODISCARD int cohort_node_open(const cohort_config *config, cohort_node **out, cohort_error *error);

/**
 * Start the loops, listen, begin to dial. Returns when the node listens, or with the first error: then nothing runs, and the node can only
 * be closed; to try again open another. Handlers may be registered before or after: a message that comes before its handler is unhandled.
 * What is sent before is queued.
 *
 *   COHORT_EADDRINUSE  ip and port are taken.
 *   COHORT_EADDR       the ip is not one of this machine.
 *   COHORT_EIO         another operating system error; named in error->text.
 *   COHORT_ESTATE      it was called before, whatever it returned.
 *   COHORT_ECALLBACK   called inside a callback of this node, or of another on the same loops.
 *   COHORT_EBUSY       without threads: another thread is dispatching these loops now. Try again.
 */
COHORT_API COHORT_NODISCARD int cohort_node_start(cohort_node *node, cohort_error *error);

/**
 * Deliver what is queued, say goodbye to the peers, close every link, end the loops, run every release callback, free the node.
 *
 * timeout_ms   how long to wait for connected peers to acknowledge what is queued for them; then links are cut.
 *
 *   COHORT_OK        all was delivered.
 *   COHORT_ETIMEDOUT not all was; what was not, also for members without a link, was told to cohort_on_undelivered() listeners.
 *                    The node is gone all the same.
 *   COHORT_ECALLBACK called inside a callback of this node, or of another on the same loops. Nothing happened.
 *   COHORT_EBUSY     without threads: another thread is dispatching now. Nothing happened.
 *
 * Thread: one only, and no other call on this node may be running or follow. NULL is allowed.
 */
COHORT_API int cohort_node_close(cohort_node *node, uint32_t timeout_ms);

/* ---- loops that several nodes share -------------------------------------------------------------------------------- */

#define COHORT_LOOPS_MAX 256

/**
 * Loops for any number of nodes of this process (config.loops): membership and links of all of them are spread over the same threads and
 * receive buffers. Callbacks of one node keep their order; those of different nodes may run on one thread, and one that blocks holds up
 * all nodes there. Calls that may not be made inside a callback of the node may not be made inside one of the others either.
 *
 * count      threads, 1 .. COHORT_LOOPS_MAX; they run from here on. 0: none, see "Without threads".
 * allocator  NULL: malloc. Copied; its context must outlive the loops.
 *
 *   COHORT_EINVAL  too many, or the allocator lacks a function.
 *   COHORT_ENOMEM, COHORT_ELIMIT (out of descriptors), COHORT_EIO.
 */
COHORT_API COHORT_NODISCARD int cohort_loops_open(uint32_t count, const cohort_allocator *allocator, cohort_loops **out);

/**
 * End the threads and free the loops. NULL is allowed.
 *
 *   COHORT_ESTATE     nodes use them: close those first. Nothing happened.
 *   COHORT_ECALLBACK  called inside a callback that runs on them. Nothing happened.
 */
COHORT_API int cohort_loops_close(cohort_loops *loops);

/* ---- Without threads -----------------------------------------------------------------------------------------------
 *
 * With COHORT_THREADS_NONE, or on loops opened with a count of 0, the library starts no thread: the application waits until
 * cohort_node_fd() is readable or cohort_node_next_timeout_ms() have passed, and calls cohort_node_dispatch(). Every callback runs inside
 * cohort_node_dispatch(), or inside cohort_node_close(), which runs the loop itself until all is said. The thread that
 * starts the node, then whichever dispatches, is the node's thread. On it, between two dispatches, cohort_node_add() and
 * cohort_node_remove() take effect before they return; events, and what cohort_node_members() shows, follow in the next dispatch. Other
 * threads may send at any time; their cohort_node_add() and cohort_node_remove() wait for the next dispatch.
 * Nodes on the same loops are dispatched together, through any of them. Only what is changed before cohort_node_start() is told by who
 * changes it, as in a node with threads.
 */

/** A descriptor for poll(2), epoll(7) or select(2), readable (level-triggered) when there is something to dispatch. The library's: do not
 * read or close it. Valid until the node is closed. COHORT_ESTATE (negative): the node has threads. Thread: any. */
COHORT_API int cohort_node_fd(cohort_node *node);

/** How long to wait for the descriptor at most: milliseconds, rounded up; 0 there is something to do now; -1 no limit, or the node has threads.
 * Ask before each wait. Thread: the node's, outside callbacks. */
COHORT_API int cohort_node_next_timeout_ms(cohort_node *node);

/**
 * Do what is ready, without blocking: timers, bytes, callbacks.
 *
 *   COHORT_ESTATE     the node has threads, or is not started.
 *   COHORT_ECALLBACK  called inside a callback of this node, or of another on the same loops.
 *   COHORT_EBUSY      another thread is dispatching now. Nothing happened.
 */
COHORT_API COHORT_NODISCARD int cohort_node_dispatch(cohort_node *node);

/* ---- members ------------------------------------------------------------------------------------------------------- */

/** The local node. */
COHORT_API void cohort_node_local(cohort_node *node, cohort_member *out);

/**
 * Copy the members, the local node included, in order of id.
 *
 * out     room for `capacity` members; may be NULL when capacity is 0.
 * count   the number of members there are; more than capacity means that only the first were copied. 0: out of memory.
 */
COHORT_API void cohort_node_members(cohort_node *node, cohort_member *out, size_t capacity, size_t *count);

/** One member by id. COHORT_ENOPEER if there is none. */
COHORT_API COHORT_NODISCARD int cohort_node_member(cohort_node *node, const char *id, cohort_member *out);

/** State by id; COHORT_INACTIVE for an id that is no member. */
COHORT_API cohort_member_state cohort_node_state(cohort_node *node, const char *id);

/**
 * Add a member, or give a known one another address. Forgets that the id was removed. Fires ADDED for a new member; dialling
 * starts at once. Inside a listener of the node it takes effect before it returns, and its events follow when the listener has. Anywhere else
 * listeners may be told before it returns, on control: hold no lock that they take.
 *
 * ip   an IPv4 or IPv6 address, or a host name, which is resolved whenever the member is dialled.
 *
 *   COHORT_EINVAL  id, ip or port malformed, or the local node's id.
 *   COHORT_ELIMIT  limits.members_max reached.
 *   COHORT_ENOMEM, COHORT_ECLOSED.
 */
COHORT_API COHORT_NODISCARD int cohort_node_add(cohort_node *node, const char *id, const char *ip, uint16_t tcp_port);

/**
 * Remove a member and close its links. Fires DEACTIVATED if it was ACTIVE, then REMOVED. The id is remembered: a greeting does
 * not bring it back, cohort_node_add() does.
 *
 *   COHORT_ENOPEER  no such member.
 *   COHORT_EINVAL   the local node's id.
 *   COHORT_ENOMEM, COHORT_ECLOSED.
 */
COHORT_API COHORT_NODISCARD int cohort_node_remove(cohort_node *node, const char *id);

/**
 * Make the members those of another definition, all or none: nodes new in it are added, those with another address get that, those
 * no longer in it are removed. The new definition is compared with the one before, not with the members there are: a member added by
 * cohort_node_add() stays even if neither has it, and one removed by cohort_node_remove() stays removed until its entry changes. The node's own entry and the
 * name of the cluster are used after a restart: a change is logged. config.definition_path does this whenever the file changes.
 *
 * definition   borrowed for the call.
 * error        may be NULL.
 *
 *   COHORT_EINVAL    a node is malformed or there twice (in a definition that was read, none is).
 *   COHORT_ECLUSTER  it is the definition of another cluster: both names are not empty, and differ.
 *   COHORT_ELIMIT    limits.members_max.
 *   COHORT_ENOMEM, COHORT_ECLOSED. With all of these nothing has changed.
 *
 * Events follow as for cohort_node_add() and cohort_node_remove().
 */
COHORT_API COHORT_NODISCARD int cohort_node_apply_definition(cohort_node *node, const cohort_definition *definition,
                                                             cohort_error *error);

/** What became of config.definition_path. A file that cannot be used changes no members, and is tried again when it changes. */
typedef struct cohort_definition_status {
    bool followed;      /* changes of the file are seen */
    uint64_t applied;   /* how often the file changed the members, since the node was opened */
    uint64_t failed;    /* how often it was found unusable */
    cohort_error error; /* why the file as it was read last is not used, "FILE:LINE:COLUMN: ..."; code COHORT_OK: it is */
} cohort_definition_status;

/** Copy it. Thread: any. */
COHORT_API void cohort_node_definition_status(cohort_node *node, cohort_definition_status *out);

/* ---- callbacks ----------------------------------------------------------------------------------------------------- */

/** Names a registered handler or listener. 0 is none. */
typedef uint64_t cohort_handle_id;

/** Called once when the last call of the callback has returned and none will follow: the place to free `arg`. May be NULL. */
typedef void (*cohort_release_fn)(void *arg);

/** A change of membership. Per member, ACTIVATED and DEACTIVATED alternate, and ACTIVATED precedes the first
 * message of a process. When we end a link ourselves (cohort_node_remove(), a peer that restarted), messages it had brought may follow DEACTIVATED for a
 * moment: they are handled on another thread. */
typedef void (*cohort_event_fn)(cohort_node *node, const cohort_event *event, void *arg);

/**
 * Listen to membership events from now on, in the order they happen. Any number of listeners up to limits.handlers_max. The members
 * of the definition are there from the beginning: no ADDED tells of them; cohort_node_members() does.
 *
 *   COHORT_ELIMIT, COHORT_ENOMEM: not registered, `release` is not called.
 */
COHORT_API COHORT_NODISCARD int cohort_listen(cohort_node *node, cohort_event_fn fn, void *arg, cohort_release_fn release,
                                              cohort_handle_id *out);

/** A request received, to be replied to once: see cohort_reply(). */
typedef struct cohort_call cohort_call;

/** A message received, borrowed for the call. */
typedef struct cohort_message {
    const char *from;    /* id of the sender */
    const char *subject; /* its name; "#<type>" for a raw frame, type in decimal as a signed 32-bit number */
    uint32_t type;       /* TLV type of a raw frame; 0 for a named subject */
    bool raw;            /* a raw TLV frame */
    bool legacy;         /* from a legacy peer */
    const void *data;    /* at any address: memcpy() what needs alignment. Not terminated. May be NULL when data_len is 0 */
    size_t data_len;
    cohort_call *call; /* a request: what to reply to, borrowed like the rest unless kept. NULL: an ordinary message */
} cohort_message;

/** Takes a message; `message` and all it points to are valid during the call. */
typedef void (*cohort_message_fn)(cohort_node *node, const cohort_message *message, void *arg);

/**
 * Handle messages of a subject: a name of 1 .. COHORT_SUBJECT_BYTES_MAX printable ASCII characters without space; or "#<type>"
 * for the raw TLV frames of that type; or NULL for all messages that no other handler takes. Several handlers of one subject
 * all run, in order of registration.
 *
 *   COHORT_EINVAL  not a subject name, or a type that belongs to the protocol (1, 2).
 *   COHORT_ELIMIT, COHORT_ENOMEM: not registered, `release` is not called.
 */
COHORT_API COHORT_NODISCARD int cohort_handle(cohort_node *node, const char *subject, cohort_message_fn fn, void *arg,
                                              cohort_release_fn release, cohort_handle_id *out);

/** Where handlers run that must not hold up a loop: see cohort_handle_in(). */
typedef struct cohort_queue cohort_queue;

#define COHORT_QUEUE_THREADS_MAX 256

/**
 * Make a queue for handlers. With threads 0 the application runs them, with cohort_queue_dispatch(), when cohort_queue_fd() is
 * readable. Else so many threads of the library do; messages of one member and subject keep their order.
 *
 * A message that waits in a queue is acknowledged. Of each lane of each member at most limits.window_bytes and one more message wait; then that
 * member cannot send more in the lane until handlers have returned, even over another connection or as another process. A legacy peer
 * knows no such credit: what it sends beyond that is dropped (messages_dropped).
 *
 *   COHORT_EINVAL  more than COHORT_QUEUE_THREADS_MAX threads. COHORT_ENOMEM, COHORT_ELIMIT (descriptors), COHORT_ECLOSED.
 */
COHORT_API COHORT_NODISCARD int cohort_queue_open(cohort_node *node, uint32_t threads, cohort_queue **out);
/**
 * Free a queue whose handlers were taken back. What still waits for them is dropped, as cohort_queue_dispatch() would: counted in
 * messages_unhandled, requests answered with ENOREPLY. cohort_node_close() frees the queues that are left: the threads of a queue handle
 * what waits while its timeout_ms lasts; the rest, and what waits for the application's cohort_queue_dispatch(), is dropped, and the log
 * says how many.
 *
 *   COHORT_ESTATE     handlers are registered for it, or their release is still to come. COHORT_ECALLBACK  in one of its handlers.
 *   COHORT_ECLOSED    the node is being closed, and frees it.
 */
COHORT_API COHORT_NODISCARD int cohort_queue_close(cohort_queue *queue);
/** A descriptor that is readable (level-triggered) while something waits, and may be so once more after the last was taken: then
 * cohort_queue_dispatch() finds nothing. -1 for a queue with threads. Poll it; do nothing else with it. */
COHORT_API int cohort_queue_fd(const cohort_queue *queue);
/** Run up to `max` handlers of what waits, here and now; returns how many. 0 for a queue with threads. One thread at a time keeps order. */
COHORT_API size_t cohort_queue_dispatch(cohort_queue *queue, size_t max);

/**
 * cohort_handle(), with the handler run in a queue: fn may block. The message is a copy.
 * A request is replied to by the first of them; all other handlers of its subject, queued or not, see it with `call` NULL.
 *
 *   COHORT_EINVAL  as cohort_handle(), or a queue of another node.
 *   COHORT_ELIMIT  also when 16 handlers of this subject are in queues. COHORT_ENOMEM.
 */
COHORT_API COHORT_NODISCARD int cohort_handle_in(cohort_node *node, cohort_queue *queue, const char *subject, cohort_message_fn fn,
                                                 void *arg, cohort_release_fn release, cohort_handle_id *out);

/**
 * Take back a listener or handler. A call of it may still be running on another thread: `release` tells when none is.
 *
 *   COHORT_EINVAL  no such handle.
 *   COHORT_ENOMEM  it is still registered: others of its subject are, and their list is copied without it.
 */
COHORT_API COHORT_NODISCARD int cohort_unhandle(cohort_node *node, cohort_handle_id id);

/* ---- messages ------------------------------------------------------------------------------------------------------ */

/**
 * Queue one message for a member and return at once.
 *
 * COHORT_OK means accepted: the member's handlers get it exactly once, in order with all that was sent to it in the same lane, over
 * any number of broken links, as long as both processes live. Otherwise cohort_on_undelivered() tells of it. A member that is not
 * connected, or was never seen, gets it when it comes, whichever process of that id comes first.
 * Legacy members: at most once, and lost if the link breaks.
 *
 * subject   a name, or "#<type>" for a raw TLV frame.
 * data      borrowed, copied before return; NULL is allowed for none. 0 .. limits.message_bytes_max bytes; a raw frame at most COHORT_RAW_BYTES_MAX (cohort/frame.h), to a legacy
 *           peer 32 752.
 *
 *   COHORT_ENOPEER    not a member.
 *   COHORT_EINACTIVE  a legacy member without a link. Retry after ACTIVATED.
 *   COHORT_EAGAIN     limits.peer_queue_bytes_max bytes of this lane, or limits.node_queue_bytes_max of all, are not acknowledged.
 *                     Nothing was queued; retry when cohort_on_writable() tells.
 *   COHORT_ESIZE      larger than the limit. Permanent for this message.
 *   COHORT_ELEGACY    a named subject to a legacy peer: it knows raw types only.
 *   COHORT_ETYPE      the raw type belongs to the protocol (1, 2; 0x80000000 and above to a peer that is not legacy).
 *   COHORT_ELIMIT     limits.subjects_max names are in use with this peer.
 *   COHORT_EINVAL     not a subject name, or the local node's id without config.deliver_local.
 *   COHORT_ENOMEM, COHORT_ECLOSED.
 *
 * Thread: any. Does not block and runs no callback.
 */
COHORT_API COHORT_NODISCARD int cohort_send(cohort_node *node, const char *id, const char *subject, const void *data,
                                            size_t data_len);

/**
 * cohort_send() without the copy: the message is sent from the caller's memory.
 *
 * data      lent: it must stay there, unchanged, until `release` is called. Messages below 4 KiB and raw frames are copied all the same.
 * release   called with `arg` exactly once if COHORT_OK is returned, when the bytes are needed no more: the member has acknowledged the
 *           message, or cohort_on_undelivered() was told of it, or the policy of its subject dropped it; at the latest within
 *           cohort_node_close(). Never after an error: then the bytes are the caller's again. NULL: the bytes outlive the node.
 *
 *   As cohort_send(). Lent bytes count for limits.peer_queue_bytes_max as copied ones do.
 *
 * Thread: any. `release` may be called by this thread before this returns, by a loop of the node, or by who closes it, with no lock of the
 * library held: it may send, and must not block, nor call cohort_node_close().
 */
COHORT_API COHORT_NODISCARD int cohort_send_ref(cohort_node *node, const char *id, const char *subject, const void *data,
                                                size_t data_len, cohort_release_fn release, void *arg);

/** cohort_send() without the copy, from memory that the library takes over if COHORT_OK is returned, and else not. `data` was allocated
 * with config.allocator (NULL: malloc) and is freed with it. */
COHORT_API COHORT_NODISCARD int cohort_send_take(cohort_node *node, const char *id, const char *subject, void *data, size_t data_len);

/** A prepared way to send messages of one subject to one member: what cohort_send() looks up for each message, looked up once. */
typedef struct cohort_route cohort_route;

/**
 * Prepare a route. Options of the subject (cohort_subject_set()) are read now. It stays usable however often the member's links
 * break; once the member is removed it says COHORT_ENOPEER for good.
 *
 * out   to be closed with cohort_route_close(), before cohort_node_close().
 *
 *   COHORT_ENOPEER, COHORT_EINVAL, COHORT_ENOMEM, COHORT_ECLOSED as cohort_send().
 *
 * Thread: any; a route may be used by several threads at once, but for a claim.
 */
COHORT_API COHORT_NODISCARD int cohort_route_open(cohort_node *node, const char *id, const char *subject, cohort_route **out);
COHORT_API void cohort_route_close(cohort_route *route);
/** As cohort_send(). */
COHORT_API COHORT_NODISCARD int cohort_route_send(cohort_route *route, const void *data, size_t data_len);
/** As cohort_send_ref(). */
COHORT_API COHORT_NODISCARD int cohort_route_send_ref(cohort_route *route, const void *data, size_t data_len,
                                                      cohort_release_fn release, void *arg);
/**
 * Room for a message of up to data_len bytes where it will be sent from: build it in place, then commit or abort. In between nobody else
 * can send to this member, and nothing of it is written, so be short and call nothing of cohort's.
 *
 * data_len   at most 65 536 bytes, and limits.message_bytes_max.
 *
 *   As cohort_send() for a named subject, also when the lane is full: COHORT_FULL_BLOCK waits, COHORT_FULL_DISCONNECT parts with the
 *   member. Only COHORT_FULL_DROP means COHORT_EAGAIN here, uncounted: there is nothing yet to drop.
 *   Unless COHORT_OK is returned, there is nothing to commit or abort.
 */
COHORT_API COHORT_NODISCARD int cohort_route_claim(cohort_route *route, size_t data_len, void **data);
/** Send what was claimed, of which data_len bytes are used: no more than were claimed. Same thread. */
COHORT_API void cohort_route_commit(cohort_route *route, size_t data_len);
COHORT_API void cohort_route_abort(cohort_route *route);

/** cohort_send() to each of `ids`. results[i], if results is not NULL, is what cohort_send() returned; the function returns the
 * number of COHORT_OK. */
COHORT_API size_t cohort_send_many(cohort_node *node, const char *const *ids, size_t id_count, const char *subject,
                                   const void *data, size_t data_len, int *results);

/**
 * cohort_send() to every ACTIVE member except the local node. Left out are, for a named subject, legacy members; and who is removed meanwhile.
 *
 * sent      may be NULL: the number of members for which it was queued.
 *
 * Returns COHORT_OK when it was queued for all of them, or there was nobody; otherwise the first error met, of those of cohort_send(): it was queued
 * for the others all the same.
 *
 * Thread: any. Does not block, but for COHORT_FULL_BLOCK.
 */
COHORT_API COHORT_NODISCARD int cohort_broadcast(cohort_node *node, const char *subject, const void *data, size_t data_len,
                                                 size_t *sent);

/** The same, and to the local node, which needs no member to be there. COHORT_EINVAL without config.deliver_local. */
COHORT_API COHORT_NODISCARD int cohort_broadcast_all(cohort_node *node, const char *subject, const void *data, size_t data_len,
                                                     size_t *sent);

/** Takes what became of a broadcast at one member: COHORT_OK, or the error of cohort_send(). */
typedef void (*cohort_sent_fn)(cohort_node *node, const char *id, int status, void *arg);

/**
 * cohort_broadcast(), or with to_local cohort_broadcast_all(), and a result for each member it is for: `fn` is called for one after the other, in
 * order of id, by this thread before this returns, with no lock of the library held. Who is left out is not among them.
 *
 * fn   not NULL.
 */
COHORT_API COHORT_NODISCARD int cohort_broadcast_each(cohort_node *node, const char *subject, const void *data, size_t data_len,
                                                      bool to_local, cohort_sent_fn fn, void *arg);

/** cohort_broadcast() from the caller's memory: one copy of the bytes, the caller's, serves all members. `release` is called as with
 * cohort_send_ref(), when the last of them needs the bytes no more; but exactly once whatever is returned, before this returns if nobody
 * got it. */
COHORT_API COHORT_NODISCARD int cohort_broadcast_ref(cohort_node *node, const char *subject, const void *data, size_t data_len,
                                                     cohort_release_fn release, void *arg, size_t *sent);

/** What was accepted and is not known to have been handled. Borrowed for the call. */
typedef struct cohort_undelivered {
    const char *to;      /* id of the member */
    const char *subject; /* as in cohort_message; "" when memory was too short to keep it */
    uint32_t type;       /* of a raw frame */
    bool raw;
    cohort_lane lane;
    bool maybe_handled; /* it was written whole and not acknowledged: the member may have handled it, or not. Else it has not */
    int reason;         /* ERESTARTED, EREMOVED, ELEGACY, ESLOW, ETIMEDOUT (its time to live), or ECLOSED: this node was closed */
    const void *data; /* NULL when the beginning of a large message is not held any more, or there is no memory to put it together */
    size_t data_len;
} cohort_undelivered;

/** Takes a report; it and all it points to are valid during the call. */
typedef void (*cohort_undelivered_fn)(cohort_node *node, const cohort_undelivered *report, void *arg);

/**
 * Be told of each message that was accepted for a member and will not, or may not, have been handled by it: oldest first in each
 * lane. Without a listener a warning in the log tells how many there were.
 *
 *   COHORT_ELIMIT, COHORT_ENOMEM: not registered, `release` is not called.
 *
 * Called on a loop of the node, or by the thread that calls cohort_node_close(); there it may not call the node.
 */
COHORT_API COHORT_NODISCARD int cohort_on_undelivered(cohort_node *node, cohort_undelivered_fn fn, void *arg,
                                                      cohort_release_fn release, cohort_handle_id *out);

/** Told that `lane` to the member `id` has room again. */
typedef void (*cohort_writable_fn)(cohort_node *node, const char *id, cohort_lane lane, void *arg);

/**
 * Be told that a lane which refused a message with COHORT_EAGAIN has room again: once, however often it refused, when it is down to half of its limit.
 * If limits.node_queue_bytes_max was the reason: when the node is down to half of that, or this lane to less than 64 KiB.
 * A legacy member has the normal lane only: what its link has not written yet. If the link ends, wait for ACTIVATED. Also told of a member that
 * was removed meanwhile: the next send says COHORT_ENOPEER.
 *
 *   COHORT_ELIMIT, COHORT_ENOMEM: not registered, `release` is not called.
 *
 * Called on a loop of the node.
 */
COHORT_API COHORT_NODISCARD int cohort_on_writable(cohort_node *node, cohort_writable_fn fn, void *arg, cohort_release_fn release,
                                                   cohort_handle_id *out);

/** What a send does when the lane to a member is full. A request does the same, but for DROP: somebody waits for its end, so it is
 * COHORT_EAGAIN. */
typedef enum cohort_when_full {
    COHORT_FULL_FAIL = 0, /* COHORT_EAGAIN; cohort_on_writable() tells when there is room */
    COHORT_FULL_BLOCK = 1, /* waits up to block_ms, then COHORT_ETIMEDOUT; COHORT_ECALLBACK inside a callback that runs on a loop, and
                                   in a node without threads, where nobody else could make room */
    COHORT_FULL_DROP = 2,       /* COHORT_OK, and the message is gone: counted in messages_dropped */
    COHORT_FULL_DISCONNECT = 3, /* COHORT_EAGAIN, and the session with that slow member ends (ESLOW): what it holds is told as
                                   undelivered, and a new session begins when it dials or is dialled again. A member without a link is
                                   not slow but away, and one refused for limits.node_queue_bytes_max is not either: COHORT_EAGAIN, and what
                                   is queued for it is kept */
} cohort_when_full;

/** How messages of a subject are sent. */
typedef struct cohort_subject_options {
    size_t size; /* sizeof: set by cohort_subject_options_init() */
    cohort_lane lane;
    cohort_when_full when_full;
    uint32_t block_ms; /* default 1000. A request may wait so long for room; only then its own timeout_ms begins */
    /* Default 0: none. A message of which nothing was written after so long is withdrawn, and told as undelivered (ETIMEDOUT). Requests
     * have their own time; claims have none. */
    uint32_t ttl_ms;
} cohort_subject_options;

/** Fill with defaults; use COHORT_SUBJECT_OPTIONS_INIT(&options). Thread: any. */
COHORT_API void cohort_subject_options_init(cohort_subject_options *options, size_t size);
#define COHORT_SUBJECT_OPTIONS_INIT(options) cohort_subject_options_init((options), sizeof(*(options)))

/**
 * Say how this node sends messages of a named subject, from now on. What was sent before stays where it is, in its lane; so set it
 * before the first message, or order between the two is lost.
 *
 *   COHORT_EINVAL  not a subject name, no such lane, or no such policy.
 *   COHORT_ELIMIT  options for limits.subjects_max names are set. COHORT_ENOMEM.
 *
 * Thread: any.
 */
COHORT_API COHORT_NODISCARD int cohort_subject_set(cohort_node *node, const char *subject, const cohort_subject_options *options);

/* ---- requests ------------------------------------------------------------------------------------------------------ */

/** How a request ended. Borrowed for the call. */
typedef struct cohort_result {
    const char *from; /* id of the member asked */
    /* COHORT_OK: data is the reply. What the member's handler gave to cohort_reply_error(), or of its library: COHORT_ENOHANDLER,
     * COHORT_ENOREPLY, COHORT_ELIMIT (too many of ours wait there). Of ours: COHORT_ETIMEDOUT, COHORT_ECANCELLED, COHORT_ERESTARTED (the
     * member's process was replaced), COHORT_EREMOVED, COHORT_ELEGACY, COHORT_ECLOSED (this node was closed). Unless there is a reply,
     * or an error of the handler, the request may have been handled or not. */
    int status;
    const char *text; /* of an error from the member; else "" */
    const void *data;
    size_t data_len;
} cohort_result;

/** Takes the result of a request; valid during the call. */
typedef void (*cohort_result_fn)(cohort_node *node, const cohort_result *result, void *arg);

/** Names a request to a member that is under way. */
typedef uint64_t cohort_request_id;

/**
 * Send a request and return at once; fn is called exactly once if COHORT_OK is returned, else never: with the reply, an error, or
 * because the time is over. A reply that comes after that is dropped and counted.
 *
 * timeout_ms  from now, 1 .. 2^31, from 1 000 on up to 20 ms more; the member is told how much of it was left when the request was
 *             queued. 0: none; it then ends only by a reply, or with the session or the member.
 * out         may be NULL: for cohort_cancel().
 *
 *   As cohort_send() for a named subject; COHORT_EINVAL for a raw one; COHORT_ELEGACY to a legacy member.
 *   COHORT_ELIMIT  limits.requests_max wait for this member's replies.
 *
 * Thread: any. fn runs on a loop of the node, or in cohort_cancel() or cohort_node_close().
 */
COHORT_API COHORT_NODISCARD int cohort_request(cohort_node *node, const char *id, const char *subject, const void *data,
                                               size_t data_len, uint32_t timeout_ms, cohort_result_fn fn, void *arg,
                                               cohort_request_id *out);

/**
 * cohort_request() over a route: as it is in everything, but that nothing is looked up. cohort_cancel() wants the id of the member.
 *
 *   As cohort_request(); COHORT_ENOPEER for good once the member was removed.
 *
 * Thread: any, several at once; not between a claim and its commit.
 */
COHORT_API COHORT_NODISCARD int cohort_route_request(cohort_route *route, const void *data, size_t data_len, uint32_t timeout_ms,
                                                     cohort_result_fn fn, void *arg, cohort_request_id *out);

/** Give up a request: fn is called with COHORT_ECANCELLED before this returns. COHORT_EINVAL: it has ended, or is just ending. Thread: any. */
COHORT_API COHORT_NODISCARD int cohort_cancel(cohort_node *node, const char *id, cohort_request_id request);

/** A result that owns its memory. */
typedef struct cohort_answer {
    int status;
    char text[256];
    void *data;
    size_t data_len;
    cohort_allocator allocator; /* who owns data */
} cohort_answer;

/**
 * Send a request and wait for its end. Returns out->status, or why it was not sent.
 *
 * out   filled in either case; to be released with cohort_answer_free().
 *
 *   COHORT_ECALLBACK  inside a callback that runs on a loop, or the node has no threads: nobody could bring the reply. A handler in a
 *                     queue may wait.
 *   As cohort_request(), and as cohort_result has it.
 *
 * Thread: any, but as said.
 */
COHORT_API int cohort_request_wait(cohort_node *node, const char *id, const char *subject, const void *data, size_t data_len,
                                   uint32_t timeout_ms, cohort_answer *out);
COHORT_API void cohort_answer_free(cohort_answer *answer);

/** All results of cohort_request_all(), in order of id, borrowed for the call. */
typedef void (*cohort_results_fn)(cohort_node *node, const cohort_result *results, size_t count, void *arg);

/**
 * Ask every ACTIVE member but the local node and legacy ones, and collect what they say. fn is called exactly once if COHORT_OK is
 * returned, when the last has ended: at once, before this returns, when there is nobody to ask. A member to which it could not be sent is
 * among the results, with the reason.
 *
 *   COHORT_EINVAL, COHORT_ECLOSED, COHORT_ESIZE, COHORT_ENOMEM.
 *
 * Thread: any. fn runs as that of cohort_request().
 */
COHORT_API COHORT_NODISCARD int cohort_request_all(cohort_node *node, const char *subject, const void *data, size_t data_len,
                                                   uint32_t timeout_ms, cohort_results_fn fn, void *arg);

/**
 * Reply to a request, once: in its handler with message->call, or later and from any thread with a call that was kept. A kept call is
 * given back by this. The reply finds room beyond limits.peer_queue_bytes_max, up to as much again.
 *
 *   COHORT_ESTATE   it was replied to before.
 *   COHORT_ENOPEER  the member that asked is gone, or its process was replaced. The call is given back all the same.
 *   COHORT_EAGAIN   even that room is taken; COHORT_ENOMEM, COHORT_ESIZE: nothing was sent; reply again, or with an error. The call is kept.
 *   COHORT_ECLOSED
 *
 * Thread: with message->call that of the handler; with a kept call any, one at a time.
 */
COHORT_API COHORT_NODISCARD int cohort_reply(cohort_call *call, const void *data, size_t data_len);
/** The same with an error: `status` is a negative code of error.h, COHORT_EHANDLER for your own errors; text NULL or up to 255 bytes. */
COHORT_API COHORT_NODISCARD int cohort_reply_error(cohort_call *call, int status, const char *text);
/** Keep the call of a request beyond its handler, to reply later; from then on use what this returned, not message->call. It must be replied to
 * before cohort_node_close() returns. NULL: out of memory, or it was replied to or kept before. Thread: the handler's. */
COHORT_API cohort_call *cohort_call_keep(cohort_call *call);
/** What is left of the caller's time in milliseconds; UINT32_MAX when it set no limit. */
COHORT_API uint32_t cohort_call_time_left_ms(const cohort_call *call);

/* ---- echo ---------------------------------------------------------------------------------------------------------- */

/** Answer to an echo. status COHORT_OK: `rtt_ns` is the round-trip time. Else COHORT_ETIMEDOUT, or why the link ended. */
typedef void (*cohort_echo_fn)(cohort_node *node, const char *id, int status, uint64_t rtt_ns, void *arg);

/**
 * Ask a member for an echo (PING; to a legacy member an ECHO frame) and wait for it without blocking; fn is called exactly once if
 * COHORT_OK is returned, else never.
 * A legacy peer never answers.
 *
 * data        borrowed; 0 .. 32 752 bytes. With data_len 0 the library sends 16 bytes of its own.
 * timeout_ms  from now; 0 is over at once.
 *
 *   COHORT_ENOPEER, COHORT_EINACTIVE, COHORT_ESIZE, COHORT_ENOMEM, COHORT_ECLOSED as cohort_send().
 *   COHORT_EAGAIN  limits.peer_queue_bytes_max bytes of the link wait to be written. Try later: nothing tells when.
 *   COHORT_ELIMIT  limits.echoes_max are outstanding to this peer.
 *
 * Thread: any. fn runs on a loop of the node, or in cohort_node_close().
 */
COHORT_API COHORT_NODISCARD int cohort_echo(cohort_node *node, const char *id, const void *data, size_t data_len,
                                            uint32_t timeout_ms, cohort_echo_fn fn, void *arg);

/* ---- counters ------------------------------------------------------------------------------------------------------ */

/**
 * What went through per second, on the average of a window that ends now. The window begins at the latest reading of the same counters
 * (by any thread) that was at least half a second ago, else when the link opened, or the node was. So a reader that comes
 * every T seconds, T >= 1, gets the average of its last T seconds; further readers can shorten that, to half a second and no
 * less. A link younger than that counts as half a second old. Reading is all that moves the window: no timer runs for this.
 */
typedef struct cohort_rates {
    uint64_t bytes_in_per_s, bytes_out_per_s;
    uint64_t frames_in_per_s, frames_out_per_s;
} cohort_rates;

/** Counters of the link to a member that stands now; all zero but queued_bytes when none stands. Times are monotonic nanoseconds. */
typedef struct cohort_link_stats {
    uint64_t bytes_in, bytes_out;
    uint64_t frames_in, frames_out;
    uint64_t queued_bytes; /* accepted for it and not acknowledged, all lanes; also while no link stands */
    uint64_t open_ns;      /* how long it has stood */
    uint64_t idle_ns;      /* since the last byte received */
    cohort_rates rates;
} cohort_link_stats;

/** COHORT_ENOPEER if there is no such member. Thread: any. */
COHORT_API COHORT_NODISCARD int cohort_link_stats_get(cohort_node *node, const char *id, cohort_link_stats *out);

/** Totals of the node since it started. */
typedef struct cohort_node_stats {
    uint64_t links_open;         /* now */
    uint64_t handshakes_pending; /* now */
    uint64_t links_accepted, links_dialled, links_opened, links_closed;
    uint64_t bytes_in, bytes_out, frames_in, frames_out;
    uint64_t messages_unhandled;   /* no handler took them, or it was taken back before their turn in its queue */
    uint64_t messages_undelivered; /* told to cohort_on_undelivered() listeners, or only to the log */
    uint64_t messages_dropped; /* of subjects that are dropped when a lane is full; of legacy peers when a queue is; streams over
                                      limits.message_bytes_max for handlers of messages */
    uint64_t replies_late;     /* came when nobody waited for them any more */
    uint64_t bytes_dropped;    /* queued for legacy peers, never written: their link ended */
    uint64_t echoes_dropped;   /* not answered: the queue to the peer was full */
    uint64_t handlers_slow;    /* times that handlers held up their loop for limits.handler_ms or longer, or are doing so */
    uint64_t decode_failures;  /* messages a codec could not make an object of (cohort/codec.h) */
    uint64_t errors[128];      /* links ended, by reason: errors[-code] */
    cohort_rates rates;
    uint64_t queued_bytes; /* accepted for members and not acknowledged, to within 16 KiB for each */
} cohort_node_stats;

/** Copy the totals. Thread: any. */
COHORT_API void cohort_node_stats_get(cohort_node *node, cohort_node_stats *out);

/* ---- log ----------------------------------------------------------------------------------------------------------- */

/** Records below `level` are not made from now on, whatever config.log said. Thread: any. */
COHORT_API void cohort_node_log_level_set(cohort_node *node, cohort_log_level level);

#ifdef __cplusplus
}
#endif
#endif
