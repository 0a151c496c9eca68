/* SPDX-License-Identifier: Apache-2.0
 *
 * Error codes of libcohort: one table, from which the enum, the names, the texts and the scopes are made.
 *
 * Every function that can fail returns an `int`: COHORT_OK (0) or one of the negative codes below. The scope says what is
 * lost and what to do: CALL, this call did nothing, fix the argument; RETRY, the same call may succeed later; LINK, one
 * connection to one peer ended, the dialler makes another; NODE, the node cannot go on.
 */
#ifndef COHORT_ERROR_H
#define COHORT_ERROR_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, value, scope, text) */
#define COHORT_ERROR_TABLE(X)                                                    \
    X(EINVAL, -1, CALL, "invalid argument")                                      \
    X(ENOMEM, -2, RETRY, "out of memory")                                        \
    X(EAGAIN, -3, RETRY, "the queue to this peer is full")                       \
    X(ENOPEER, -4, CALL, "no such member")                                       \
    X(EINACTIVE, -5, RETRY, "the member is not connected")                       \
    X(ESIZE, -6, CALL, "larger than the limit")                                  \
    X(ECLOSED, -7, NODE, "the node is closed")                                   \
    X(ETIMEDOUT, -8, RETRY, "timed out")                                         \
    X(ELEGACY, -9, CALL, "a legacy peer cannot receive this")                    \
    X(ETYPE, -10, CALL, "this frame type does not belong to applications")       \
    X(EEXIST, -11, CALL, "exists already")                                       \
    X(EADDRINUSE, -12, NODE, "address already in use")                           \
    X(EADDR, -13, CALL, "not a usable address")                                  \
    X(EIO, -14, NODE, "operating system error")                                  \
    X(ECALLBACK, -15, CALL, "not allowed inside a callback")                     \
    X(ELIMIT, -16, RETRY, "a configured limit is reached")                       \
    X(EFILE, -17, CALL, "file cannot be read or written")                        \
    X(ESYNTAX, -18, CALL, "syntax error")                                        \
    X(EDEFINITION, -19, CALL, "invalid cluster definition")                      \
    X(ESTATE, -20, CALL, "not possible in this state")                           \
    X(EBUSY, -21, RETRY, "another thread is inside")                             \
    X(ECODEC, -25, CALL, "the codec refuses it")                                 \
    X(EHANDLER, -30, CALL, "the handler answered with an error")                 \
    X(ENOHANDLER, -31, CALL, "no handler takes this request")                    \
    X(ENOREPLY, -32, CALL, "the handler returned without a reply")               \
    X(ECANCELLED, -33, CALL, "cancelled")                                        \
    X(ENOTSUP, -37, CALL, "not possible on this machine")                        \
    X(ENORESOLVE, -38, LINK, "the host name cannot be resolved")                 \
    X(ESLOW, -39, LINK, "the peer is too slow for what is sent to it")           \
    X(EMARKER, -40, LINK, "bytes received are not a TLV frame (wrong marker)")   \
    X(ELENGTH, -41, LINK, "frame length out of range")                           \
    X(EHELLO, -42, LINK, "malformed HELLO")                                      \
    X(ENOHELLO, -43, LINK, "the first frame is not a HELLO")                     \
    X(EHELLOTWICE, -44, LINK, "a second HELLO on one link")                      \
    X(EHANDSHAKE, -45, LINK, "handshake not finished in time")                   \
    X(EOWNID, -46, LINK, "the peer has our own id")                              \
    X(ECLUSTER, -47, LINK, "the peer belongs to another cluster")                \
    X(ENOTLISTED, -48, LINK, "the peer is not listed in the cluster definition") \
    X(EREMOVED, -49, LINK, "the member was removed")                             \
    X(EIDENTITY, -50, LINK, "another member answers at this address")            \
    X(ESTALE, -51, LINK, "a higher incarnation of this id is known")             \
    X(ESUPERSEDED, -52, LINK, "another link to this peer took its place")        \
    X(EDUPLICATE, -53, LINK, "a better link to this peer exists")                \
    X(EVERSION, -54, LINK, "no protocol version in common")                      \
    X(EPROTOCOL, -55, LINK, "protocol violation")                                \
    X(EREFUSED, -56, LINK, "connection refused")                                 \
    X(EREMOTE, -57, LINK, "the peer refused this link")                          \
    X(EPEERCLOSED, -58, LINK, "the peer closed the connection")                  \
    X(ERESET, -59, LINK, "the connection was reset")                             \
    X(EUNREACHABLE, -60, LINK, "the peer cannot be reached")                     \
    X(ELEFT, -61, LINK, "the peer left the cluster")                             \
    X(ERESTARTED, -62, LINK, "the peer was restarted")                           \
    X(EIDLE, -63, LINK, "an unlisted legacy peer was silent for too long")

/** The codes, made of the table: COHORT_EINVAL and so on. */
typedef enum cohort_status {
    COHORT_OK = 0,
#define COHORT_ERROR_ENUM(name, value, scope, text) COHORT_##name = (value),
    COHORT_ERROR_TABLE(COHORT_ERROR_ENUM)
#undef COHORT_ERROR_ENUM
} cohort_status;

/** What a code says is lost: see the top of this file. */
typedef enum cohort_error_scope {
    COHORT_SCOPE_NONE = 0,
    COHORT_SCOPE_CALL,
    COHORT_SCOPE_RETRY,
    COHORT_SCOPE_LINK,
    COHORT_SCOPE_NODE,
} cohort_error_scope;

/** Room for what went wrong, owned by the caller. `text` is always NUL-terminated, one line, empty when code is COHORT_OK. */
typedef struct cohort_error {
    int code;
    char text[512];
} cohort_error;

#if defined(__GNUC__)
#define COHORT_API __attribute__((visibility("default")))
#define COHORT_NODISCARD __attribute__((warn_unused_result))
#else
#define COHORT_API
#define COHORT_NODISCARD
#endif

/** Short text of a code, e.g. "no such member". Never NULL: "unknown error" for a code not in the table. Thread: any. */
COHORT_API const char *cohort_error_text(int code);

/** Symbolic name of a code, e.g. "ENOPEER"; "OK" for 0, "UNKNOWN" otherwise. Thread: any. */
COHORT_API const char *cohort_error_name(int code);

/** Scope of a code; COHORT_SCOPE_NONE for COHORT_OK and unknown codes. Thread: any. */
COHORT_API cohort_error_scope cohort_error_scope_of(int code);

#ifdef __cplusplus
}
#endif
#endif
