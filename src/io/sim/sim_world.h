/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulated world: virtual time, hosts, a network between them, and machines (processes) that implement io.h.
 *
 * One seed decides everything: latencies, segmentation, losses, lateness of loops, entropy. Nothing here reads a clock or depends
 * on addresses in memory, so the same seed and the same calls give the same run, event for event; trace.hash proves it.
 * Everything runs in the thread that calls step(): a simulated node has loops but no threads.
 *
 * Model of TCP: bytes in order; segments of random size; a lost segment shows as delay of all behind it; a path that is cut loses
 * what is under way, and the sender goes back and tries again with doubling timeouts until its user timeout ends the connection.
 * Windows, FIN, RST, half-closed and orphaned connections, SYN retries, accept queues are there; congestion control is not.
 */
#ifndef COHORTI_SIM_WORLD_H
#define COHORTI_SIM_WORLD_H

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/list.h"
#include "base/map.h"
#include "base/prng.h"
#include "io/io.h"
#include "io/sim/sim_queue.h"

#define SIM_MS UINT64_C(1000000)
#define SIM_S UINT64_C(1000000000)

/* ---- trace --------------------------------------------------------------------------------------------------------- */

enum sim_trace_kind {
    SIM_TRACE_CONNECT = 1,
    SIM_TRACE_ACCEPT,
    SIM_TRACE_REFUSE,
    SIM_TRACE_SEGMENT,
    SIM_TRACE_FIN,
    SIM_TRACE_RESET,
    SIM_TRACE_TIMEOUT,
    SIM_TRACE_CLOSE,
    SIM_TRACE_LOOP,
    SIM_TRACE_FAULT,
    SIM_TRACE_NOTE,
};

struct sim_trace {
    uint64_t hash;
    uint64_t events;
    void (*write)(void *ctx, uint64_t now_ns, const char *line); /* NULL: only the hash */
    void *ctx;
};

struct sim_conditions {
    uint64_t latency_min_ns, latency_max_ns; /* of one segment, one way */
    uint32_t loss_ppm;                       /* segments that come late as if sent again */
    uint32_t segment_bytes_max;              /* segments are 1..this long */
    uint64_t lateness_max_ns;                /* how late a loop may run */
    uint32_t window_bytes;                   /* receive and send buffers of a connection */
};

struct sim_world {
    const cohort_allocator *alloc;
    uint64_t now_ns;
    uint64_t wall_start_us;
    struct cohorti_prng prng;
    struct sim_queue events;
    struct cohorti_list spare_packets; /* as many as were ever under way at once, but kept for the next ones */
    struct sim_trace trace;
    struct sim_conditions conditions;
    struct cohorti_list hosts;
    struct cohorti_map hosts_by_ip;
    struct sim_endpoint **endpoints; /* by id, NULL once gone; ids are not used again */
    uint64_t endpoint_cap;
    struct cohorti_map cuts;   /* of struct sim_cut, by directed pair */
    struct cohorti_list names; /* host names: sim_names.c */
    uint32_t host_count;
    uint64_t endpoint_next;
    uint64_t listener_last;       /* number given to a listener */
    struct cohorti_loop *current; /* whose handler runs */
};

int sim_world_init(struct sim_world *w, const cohort_allocator *alloc, uint64_t seed, const struct sim_conditions *conditions);
/** All machines must be gone. */
void sim_world_deinit(struct sim_world *w);
/** Run the next event if it is due by `until_ns`; else advance to then and return false. */
bool sim_world_step(struct sim_world *w, uint64_t until_ns);
void sim_event_set(struct sim_world *w, struct sim_event *event, uint64_t at_ns);
uint64_t sim_between(struct sim_world *w, uint64_t low, uint64_t high);
void sim_trace(struct sim_world *w, enum sim_trace_kind kind, uint64_t a, uint64_t b, uint64_t c);
void sim_trace_text(struct sim_world *w, const char *text);

/* ---- hosts --------------------------------------------------------------------------------------------------------- */

struct sim_host {
    struct cohorti_map_node node; /* hosts_by_ip */
    struct cohorti_list of_world;
    struct sim_world *world;
    uint32_t number;
    char ip[64];
    bool up;                  /* the kernel answers */
    uint64_t paused_until_ns; /* its processes do not run */
    int64_t wall_offset_us;
    uint32_t group; /* hosts of different groups, both not 0, do not reach each other */
    struct cohorti_list listeners;
    struct cohorti_list endpoints; /* in order of id */
};

struct sim_cut {
    struct cohorti_map_node node;
    uint32_t from, to;
};

/** NULL when there is none. */
struct sim_host *sim_host_find(const struct sim_world *w, const char *ip);
/** Made when first named. NULL without memory. */
struct sim_host *sim_host_get(struct sim_world *w, const char *ip);
bool sim_path_open(const struct sim_world *w, const struct sim_host *from, const struct sim_host *to);
int sim_cut_set(struct sim_world *w, const struct sim_host *from, const struct sim_host *to, bool cut);
void sim_cut_clear(struct sim_world *w); /* groups and cuts */
/** The power goes: every connection of the host is gone, nobody is told. */
void sim_host_crash(struct sim_host *host);

/* ---- machines: one process on a host ------------------------------------------------------------------------------- */

struct sim_machine {
    struct cohorti_io base;
    struct sim_world *world;
    struct sim_host *host;
    bool dead; /* killed: its loops do not run, its sockets are closed */
    struct cohorti_list loops;
    struct cohorti_list sockets;
};

struct sim_machine *sim_machine_new(struct sim_world *w, struct sim_host *host);
/** kill -9: the kernel closes its sockets. The process's memory is still there, for its owner to free. */
void sim_machine_kill(struct sim_machine *m);
void sim_machine_free(struct sim_machine *m);

struct cohorti_loop {
    struct sim_machine *machine;
    struct cohorti_list of_machine;
    struct sim_event run;
    struct cohorti_loop_handler handler;
    void *ctx;
    uint64_t deadline_ns;
    bool started, wake, busy, missed;
    struct cohorti_list ready; /* sockets with something to tell */
};

void sim_loop_schedule(struct cohorti_loop *loop, uint64_t at_ns);
/** Run fn on the loop now; false when it cannot run now. */
bool sim_loop_call(struct cohorti_loop *loop, void (*fn)(void *arg), void *arg);

/* ---- names --------------------------------------------------------------------------------------------------------- */

/** One more address of a name. COHORT_ENOMEM. */
COHORT_NODISCARD int sim_name_add(struct sim_world *w, const char *name, const char *ip);
/** NULL: all names. */
void sim_name_forget(struct sim_world *w, const char *name);
void sim_name_find(const struct sim_world *w, const char *name, struct cohorti_addresses *out);
int sim_resolve(struct cohorti_loop *loop, const char *name, cohorti_resolved_fn fn, void *ctx, struct cohorti_lookup **out);
void sim_resolve_cancel(struct cohorti_lookup *lookup);
int sim_watch_file(struct cohorti_loop *loop, const char *path, uint32_t poll_ms, void (*fn)(void *ctx), void *ctx,
                   struct cohorti_file_watch **out);
void sim_unwatch_file(struct cohorti_file_watch *watch);

/* ---- sockets and endpoints ----------------------------------------------------------------------------------------- */

struct sim_endpoint;

struct cohorti_socket {
    struct sim_machine *machine;
    struct cohorti_list of_machine;
    struct cohorti_loop *loop; /* NULL: attached to nothing */
    struct cohorti_list of_ready;
    cohorti_socket_fn fn;
    void *ctx;
    unsigned watched;
    struct sim_endpoint *endpoint; /* a connection; NULL for a listener, and once the connection is gone */
    int error;                     /* why it is gone */
    char remote[64];
    /* listener */
    bool listening;
    uint64_t number; /* never given again, as its address may be */
    uint16_t port;
    struct cohorti_list of_host;
    struct cohorti_list accepted; /* endpoints */
    uint32_t accepted_count;
};

unsigned sim_socket_events(const struct cohorti_socket *s); /* what is ready, watched or not */
void sim_socket_notify(struct cohorti_socket *s);           /* something may be ready now */

/* The socket operations of io.h. */
int sim_listen(struct cohorti_loop *loop, const char *ip, uint16_t port, cohorti_socket_fn fn, void *ctx,
               struct cohorti_socket **out, cohort_error *error);
int sim_accept(struct cohorti_socket *listener, struct cohorti_socket **out);
int sim_connect(struct cohorti_io *io, const char *ip, uint16_t port, struct cohorti_socket **out);
int sim_connect_result(struct cohorti_socket *s);
int sim_attach(struct cohorti_socket *s, struct cohorti_loop *loop, cohorti_socket_fn fn, void *ctx);
void sim_detach(struct cohorti_socket *s);
void sim_watch(struct cohorti_socket *s, unsigned events);
int sim_recv(struct cohorti_socket *s, const struct cohorti_room *rooms, size_t count, size_t *n);
int sim_send(struct cohorti_socket *s, const struct cohorti_bytes *runs, size_t count, size_t *n);
void sim_shutdown(struct cohorti_socket *s);
void sim_close(struct cohorti_socket *s);
void sim_peer_name(struct cohorti_socket *s, char *out, size_t cap);

enum sim_endpoint_state {
    SIM_SYN_SENT,
    SIM_SYN_RECEIVED,
    SIM_ESTABLISHED
};

struct sim_endpoint {
    struct sim_world *world;
    uint64_t id, peer_id;
    struct sim_host *host, *peer_host;
    struct cohorti_list of_host;
    uint16_t port; /* the listener's, for both */
    enum sim_endpoint_state state;
    struct cohorti_socket *socket; /* NULL: an orphan, or not accepted yet */
    struct cohorti_socket *listener;
    uint64_t listener_number;
    struct cohorti_list of_accepted;
    /* sending: out holds [acked, written); a FIN counts as one more */
    struct cohorti_buffer out;
    uint64_t acked, sent, written, peer_window;
    bool fin_wanted, fin_acked;
    bool adrift;              /* its packets are lost on their way: a middlebox has forgotten the connection */
    uint64_t last_arrival_ns; /* nothing sent later arrives earlier */
    struct sim_event retry;   /* SYN or data again; keep-alive when nothing waits */
    uint64_t retry_at_ns;     /* when it is due; the event may stand earlier and then moves on: setting it for every ACK is dear */
    uint64_t retry_ns, silent_since_ns;
    /* receiving */
    struct cohorti_buffer in;
    uint64_t received;
    bool eof;
};

/** An empty buffer gives its block back: of a million connections few hold bytes at any time. */
static inline void sim_consume(struct cohorti_buffer *b, size_t len)
{
    cohorti_buffer_consume(b, len);
    if (cohorti_buffer_len(b) == 0) {
        cohorti_buffer_deinit(b);
    }
}

struct sim_endpoint *sim_endpoint_find(const struct sim_world *w, uint64_t id);
struct sim_endpoint *sim_endpoint_connect(struct cohorti_socket *s, struct sim_host *to, uint16_t port);
void sim_endpoint_transmit(struct sim_endpoint *e);
/** The application closed it: FIN, or RST where unread bytes wait. It may live on as an orphan. */
void sim_endpoint_close(struct sim_endpoint *e);
/** Gone without a word; its socket, if any, sees `error`. */
void sim_endpoint_free(struct sim_endpoint *e, int error);
void sim_endpoint_window(struct sim_endpoint *e); /* the application read: tell the peer there is room */
/** End every connection between two hosts; both ends see a reset. */
uint32_t sim_reset_between(struct sim_world *w, const struct sim_host *a, const struct sim_host *b);
/** End them at a only. */
uint32_t sim_half_open(struct sim_world *w, const struct sim_host *a, const struct sim_host *b);
/** End the youngest at a; what b's end sends is lost from now on. False when there is none. */
bool sim_hang(struct sim_world *w, const struct sim_host *a, const struct sim_host *b);
/** An event that fires no more: a packet under way. */
void sim_packet_discard(struct sim_world *w, struct sim_event *event);
void sim_packets_free(struct sim_world *w);
uint32_t sim_endpoint_count(const struct sim_host *a, const struct sim_host *b);

#endif
