/* SPDX-License-Identifier: Apache-2.0
 *
 * Types shared by the public headers: member identity and state, the allocator, the log sink, and the hard bounds of names.
 */
#ifndef COHORT_TYPES_H
#define COHORT_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define COHORT_PORT_DEFAULT 9876      /* that of the 2014 system */
#define COHORT_IP_DEFAULT "127.0.1.1" /* also of 2014 */

#define COHORT_ID_BYTES_MAX 64       /* [A-Za-z0-9._-]{1,64} */
#define COHORT_CLUSTER_BYTES_MAX 64  /* same alphabet; empty: any cluster */
#define COHORT_HOST_BYTES_MAX 255    /* IPv4 or IPv6 text, or a host name */
#define COHORT_SUBJECT_BYTES_MAX 128 /* printable ASCII without space; not starting with '#' */

/** What a member is to us. */
typedef enum cohort_member_state {
    COHORT_INACTIVE = 0, /* known, no open link */
    COHORT_ACTIVE = 1,   /* an open link stands; the local node is always ACTIVE */
} cohort_member_state;

/**
 * An ordered stream inside the session with a member. It is a property of the subject. Each lane keeps its own order and its own
 * back-pressure; of what waits, CONTROL is written first, then NORMAL, then BULK.
 */
typedef enum cohort_lane {
    COHORT_LANE_NORMAL = 0, /* the default; raw TLV types travel here */
    COHORT_LANE_CONTROL = 1,
    COHORT_LANE_BULK = 2,
} cohort_lane;

/** One member of the cluster, by value: a snapshot that owns its strings. */
typedef struct cohort_member {
    char id[COHORT_ID_BYTES_MAX + 1];
    char ip[COHORT_HOST_BYTES_MAX + 1]; /* or a host name */
    uint16_t tcp_port;
    cohort_member_state state;
    bool local;           /* this node itself */
    bool legacy;          /* the link that stands, or stood last, spoke the 2014 protocol */
    uint64_t incarnation; /* highest seen of this id; 0 for legacy members and members never met */
} cohort_member;

/** What happened to a member. */
typedef enum cohort_event_type {
    COHORT_MEMBER_ADDED = 1,
    COHORT_MEMBER_REMOVED = 2,
    COHORT_MEMBER_ACTIVATED = 3,
    COHORT_MEMBER_DEACTIVATED = 4,
} cohort_event_type;

/** A change of membership. `reason` says why a member was deactivated (a LINK code of error.h), else COHORT_OK. */
typedef struct cohort_event {
    cohort_event_type type;
    cohort_member member; /* as it is after the change */
    int reason;
} cohort_event;

/** Name of a state ("ACTIVE") or an event ("ACTIVATED"); "?" for a value outside the enum. Thread: any. */
__attribute__((visibility("default"))) const char *cohort_state_name(cohort_member_state state);
__attribute__((visibility("default"))) const char *cohort_event_name(cohort_event_type type);
__attribute__((visibility("default"))) const char *cohort_lane_name(cohort_lane lane);

/**
 * Memory for the library. All three must be set; they are called from any thread.
 * `reallocate` follows realloc(3): ptr may be NULL, size is never 0, and on failure the old block stays valid.
 */
typedef struct cohort_allocator {
    void *(*allocate)(void *ctx, size_t size);
    void *(*reallocate)(void *ctx, void *ptr, size_t size);
    void (*release)(void *ctx, void *ptr);
    void *ctx;
} cohort_allocator;

/** How important a log line is. */
typedef enum cohort_log_level {
    COHORT_LOG_DEBUG = 0,
    COHORT_LOG_INFO = 1,
    COHORT_LOG_WARN = 2,
    COHORT_LOG_ERROR = 3,
    COHORT_LOG_OFF = 4,
} cohort_log_level;

/** One log line, borrowed for the call. `peer` is NULL where no peer is concerned; `code` is COHORT_OK where nothing failed. */
typedef struct cohort_log_record {
    cohort_log_level level;
    uint64_t wall_us;      /* microseconds since 1970 */
    const char *node;      /* id of the node that speaks */
    const char *component; /* "link", "dial", "member", "node", ... */
    const char *peer;
    int code;
    const char *text; /* one line, no newline */
} cohort_log_record;

/** Takes log lines; called from any thread, also several at once. Must not call into the node. */
typedef struct cohort_log_sink {
    void (*write)(void *ctx, const cohort_log_record *record);
    void *ctx;
    cohort_log_level level; /* records below are not made */
} cohort_log_sink;

#ifdef __cplusplus
}
#endif
#endif
