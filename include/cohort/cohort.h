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

typedef struct cohort_node cohort_node;

/** Version of the library that runs, "MAJOR.MINOR.PATCH". */
COHORT_API const char *cohort_version(void);

/* ---- configuration ------------------------------------------------------------------------------------------------- */

/** Who may become a member by greeting us. */
typedef enum cohort_admission {
    COHORT_ADMIT_DEFAULT = 0, /* LISTED when a definition is given, OPEN otherwise */
    COHORT_ADMIT_OPEN = 1,    /* whoever greets is added, as the 2014 system does; a removed member stays removed */
    COHORT_ADMIT_LISTED = 2,  /* members of the definition and of cohort_node_add() only */
} cohort_admission;

typedef enum cohort_dial_mode {
    COHORT_DIAL_BACKOFF = 0, /* at once, then jittered exponential back-off between delay_min_ms and delay_max_ms */
    COHORT_DIAL_SEED = 1,    /* the 2014 custodian: after 1 s, then every 5 s */
} cohort_dial_mode;

typedef struct cohort_dial_policy {
    cohort_dial_mode mode;
    uint32_t delay_min_ms;       /* default 100 */
    uint32_t delay_max_ms;       /* default 10 000 */
    uint32_t connect_timeout_ms; /* default 3 000: a connect unanswered for so long has failed */
} cohort_dial_policy;

typedef struct cohort_limits {
    uint32_t members_max;          /* default 1024, the local node included */
    uint32_t removed_max;          /* default 1024: removed ids remembered; beyond, the oldest is forgotten */
    uint32_t handshakes_max;       /* default 256: accepted connections that have not greeted; beyond, the oldest is closed */
    uint32_t handshake_timeout_ms; /* default 5 000: from connected to open */
    uint32_t legacy_links_max;     /* default 4: parallel links kept from one legacy peer */
    uint32_t message_bytes_max;    /* default 1 MiB: data of one message, sent or received */
    uint32_t peer_queue_bytes_max; /* default 8 MiB: bytes waiting to be written to one peer */
    uint32_t subjects_max;         /* default 4096: subject names in use on one link, each way */
    uint32_t echoes_max;           /* default 64: echoes outstanding to one peer */
    uint32_t handlers_max;         /* default 4096: message handlers and event listeners of one node */
} cohort_limits;

/**
 * How a node is to be. Fill with cohort_config_init(), then change what you need. All pointers are borrowed until
 * cohort_node_open() returns, except the contexts of allocator and log, which must outlive the node.
 */
typedef struct cohort_config {
    size_t size; /* sizeof(cohort_config) of the caller: set by cohort_config_init() */

    const char *id; /* NULL: the ip */
    const char *ip; /* NULL: that of the definition's node with this id, else COHORT_IP_DEFAULT. Listened on and told to peers. */
    uint16_t tcp_port;                   /* 0: the definition's, else COHORT_PORT_DEFAULT */
    const cohort_definition *definition; /* NULL: none. Its node with our id, if any, is ourselves */
    const char *cluster;                 /* NULL: the definition's. "": any cluster. Peers that name another one are refused */
    cohort_admission admission;
    uint64_t incarnation; /* 0: microseconds since 1970 at start. Must be higher at every start of the same id; < 2^53 */

    uint32_t loop_count; /* default 3: event loops that carry links, besides the one that keeps membership; 0: that one carries all */
    cohort_dial_policy dial;
    cohort_limits limits;

    const cohort_allocator *allocator; /* NULL: malloc */
    cohort_log_sink log;               /* write NULL: warnings and errors to stderr */
} cohort_config;

/** Fill with defaults. `size` is sizeof(cohort_config) as the caller sees it; use COHORT_CONFIG_INIT(&config). */
COHORT_API void cohort_config_init(cohort_config *config, size_t size);
#define COHORT_CONFIG_INIT(config) cohort_config_init((config), sizeof(*(config)))

/* ---- life ---------------------------------------------------------------------------------------------------------- */

/**
 * Make a node; nothing runs and no socket is opened yet.
 *
 * error   may be NULL.
 *
 *   COHORT_EINVAL   the configuration is wrong; error->text names the field and the value.
 *   COHORT_ENOMEM   out of memory.
 */
COHORT_API COHORT_NODISCARD int cohort_node_open(const cohort_config *config, cohort_node **out, cohort_error *error);

/**
 * Start the loops, listen, begin to dial. Returns when the node listens, or with the first error, after which nothing runs.
 *
 *   COHORT_EADDRINUSE  ip and port are taken.
 *   COHORT_EADDR       the ip is not one of this machine.
 *   COHORT_EIO         another operating system error; named in error->text.
 *   COHORT_ESTATE      started before.
 *   COHORT_ECALLBACK   called inside a callback of this node.
 */
COHORT_API COHORT_NODISCARD int cohort_node_start(cohort_node *node, cohort_error *error);

/**
 * Say goodbye to the peers, flush what is queued, close every link, end the loops, run every release callback, free the node.
 *
 * timeout_ms   how long to wait for peers to take what is queued; then links are cut.
 *
 *   COHORT_OK        all was flushed.
 *   COHORT_ETIMEDOUT not all was flushed. The node is gone all the same.
 *   COHORT_ECALLBACK called inside a callback of this node. Nothing happened.
 *
 * Thread: one only, and no other call on this node may be running or follow. NULL is allowed.
 */
COHORT_API int cohort_node_close(cohort_node *node, uint32_t timeout_ms);

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
 * starts at once. Inside a callback of the node it takes effect before it returns, the events follow later.
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

/* ---- callbacks ----------------------------------------------------------------------------------------------------- */

/** Names a registered handler or listener. 0 is none. */
typedef uint64_t cohort_handle_id;

/** Called once when the last call of the callback has returned and none will follow: the place to free `arg`. May be NULL. */
typedef void (*cohort_release_fn)(void *arg);

/** A change of membership. Per member, ACTIVATED and DEACTIVATED alternate, and ACTIVATED precedes the first
 * message. When we end a link ourselves (cohort_node_remove(), a peer that restarted), messages it had brought may follow DEACTIVATED for a
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

/** A message received, borrowed for the call. */
typedef struct cohort_message {
    const char *from;    /* id of the sender */
    const char *subject; /* its name; "#<type>" for a raw frame, type in decimal as a signed 32-bit number */
    uint32_t type;       /* TLV type of a raw frame; 0 for a named subject */
    bool raw;            /* a raw TLV frame */
    bool legacy;         /* from a legacy peer */
    const void *data;
    size_t data_len;
} cohort_message;

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

/**
 * Take back a listener or handler. A call of it may still be running on another thread: `release` tells when none is.
 *
 *   COHORT_EINVAL  no such handle.
 *   COHORT_ENOMEM  it is still registered: others of its subject are, and their list is copied without it.
 */
COHORT_API COHORT_NODISCARD int cohort_unhandle(cohort_node *node, cohort_handle_id id);

/* ---- messages ------------------------------------------------------------------------------------------------------ */

/**
 * Queue one message for a member and return at once. COHORT_OK means accepted: it will reach the peer's handlers in order with
 * the others sent to it, at most once; it is lost if the link breaks before it was delivered.
 *
 * subject   a name, or "#<type>" for a raw TLV frame.
 * data      borrowed, copied before return. 0 .. limits.message_bytes_max bytes; to a legacy peer at most 32 752.
 *
 *   COHORT_ENOPEER    not a member.
 *   COHORT_EINACTIVE  a member, but no link stands (or one is just replacing another). Retry later, or after ACTIVATED.
 *   COHORT_EAGAIN     limits.peer_queue_bytes_max bytes wait already. Nothing was queued; retry later.
 *   COHORT_ESIZE      larger than the limit. Permanent for this message.
 *   COHORT_ELEGACY    a named subject to a legacy peer: it knows raw types only.
 *   COHORT_ETYPE      the raw type belongs to the protocol (1, 2; 0x80000000 and above to a peer that is not legacy).
 *   COHORT_ELIMIT     limits.subjects_max names are in use on this link.
 *   COHORT_EINVAL     not a subject name, or the local node's id.
 *   COHORT_ENOMEM, COHORT_ECLOSED.
 *
 * Thread: any. Does not block and runs no callback.
 */
COHORT_API COHORT_NODISCARD int cohort_send(cohort_node *node, const char *id, const char *subject, const void *data,
                                            size_t data_len);

/** cohort_send() to each of `ids`. results[i], if results is not NULL, is what cohort_send() returned; the function returns the
 * number of COHORT_OK. */
COHORT_API size_t cohort_send_many(cohort_node *node, const char *const *ids, size_t id_count, const char *subject,
                                   const void *data, size_t data_len, int *results);

/**
 * cohort_send() to every member with a link except the local node. Left out are, for a named subject, legacy members, and members
 * whose link is just being replaced or has broken a moment ago.
 *
 * sent      may be NULL: the number of members for which it was queued.
 *
 * Returns COHORT_OK when it was queued for all of them, otherwise the first error met; the others got it all the same.
 */
COHORT_API COHORT_NODISCARD int cohort_broadcast(cohort_node *node, const char *subject, const void *data, size_t data_len,
                                                 size_t *sent);

/** Answer to an echo. status COHORT_OK: `rtt_ns` is the round-trip time. Else COHORT_ETIMEDOUT, or why the link ended. */
typedef void (*cohort_echo_fn)(cohort_node *node, const char *id, int status, uint64_t rtt_ns, void *arg);

/**
 * Ask a member for an echo (PING; to a legacy member an ECHO frame) and wait for it without blocking; fn is called exactly once if
 * COHORT_OK is returned, else never.
 * A legacy peer never answers.
 *
 * data   borrowed; 0 .. 32 752 bytes. With data_len 0 the library sends 16 bytes of its own.
 *
 *   COHORT_ENOPEER, COHORT_EINACTIVE, COHORT_EAGAIN, COHORT_ESIZE, COHORT_ENOMEM, COHORT_ECLOSED as cohort_send().
 *   COHORT_ELIMIT  limits.echoes_max are outstanding to this peer.
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

/** Counters of the link to a member that stands now; all zero when none stands. Times are monotonic nanoseconds. A link is never
 * closed because it is idle. */
typedef struct cohort_link_stats {
    uint64_t bytes_in, bytes_out;
    uint64_t frames_in, frames_out;
    uint64_t queued_bytes; /* waiting to be written */
    uint64_t open_ns;      /* how long it has stood */
    uint64_t idle_ns;      /* since the last byte received */
    cohort_rates rates;
} cohort_link_stats;

/** COHORT_ENOPEER if there is no such member. */
COHORT_API COHORT_NODISCARD int cohort_link_stats_get(cohort_node *node, const char *id, cohort_link_stats *out);

/** Totals of the node since it started. */
typedef struct cohort_node_stats {
    uint64_t links_open;         /* now */
    uint64_t handshakes_pending; /* now */
    uint64_t links_accepted, links_dialled, links_opened, links_closed;
    uint64_t bytes_in, bytes_out, frames_in, frames_out;
    uint64_t messages_unhandled; /* no handler took them */
    uint64_t bytes_dropped;      /* queued, never written: their link ended */
    uint64_t echoes_dropped;     /* not answered: the queue to the peer was full */
    uint64_t errors[64];         /* links ended, by reason: errors[-code] */
    cohort_rates rates;
} cohort_node_stats;

COHORT_API void cohort_node_stats_get(cohort_node *node, cohort_node_stats *out);

/* ---- log ----------------------------------------------------------------------------------------------------------- */

/** Records below `level` are not made from now on, whatever config.log said. Thread: any. */
COHORT_API void cohort_node_log_level_set(cohort_node *node, cohort_log_level level);

#ifdef __cplusplus
}
#endif
#endif
