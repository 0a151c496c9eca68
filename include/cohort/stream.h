/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams: a message of any size that is sent and handled piece by piece, in the memory of a few pieces.
 *
 * To a handler registered with cohort_handle_stream() the pieces of a stream are given in order, as they come; to one of cohort_handle()
 * a stream is one message like any other, put together, up to limits.message_bytes_max. The other way round a stream handler gets messages
 * too, each as one piece, or in pieces when it is large. So who sends and who handles choose on their own.
 */
#ifndef COHORT_STREAM_H
#define COHORT_STREAM_H

#include <cohort/cohort.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The total of a stream whose end is not known when it begins. */
#define COHORT_TOTAL_UNKNOWN UINT64_MAX

/* ---- sending ------------------------------------------------------------------------------------------------------- */

/** A stream to one member that is being written. */
typedef struct cohort_stream cohort_stream;

/** How a stream ended. Borrowed for the call. */
typedef struct cohort_stream_result {
    const char *to;      /* id of the member */
    const char *subject; /* its name */
    /* COHORT_OK: the member acknowledged all of it, as it does a message. COHORT_ECANCELLED: it was aborted. Else it is lost: the member's process
     * was replaced (COHORT_ERESTARTED) or left (COHORT_ELEFT) when it had a part, or the session ended: COHORT_EREMOVED, COHORT_ELEGACY, COHORT_ESLOW,
     * COHORT_ECLOSED (this node was closed). Of a lost one that was written to its end, all may have been handled nevertheless. */
    int status;
    uint64_t bytes; /* how many were written to it */
} cohort_stream_result;

/** Takes the result of a stream; valid during the call. */
typedef void (*cohort_stream_fn)(cohort_node *node, const cohort_stream_result *result, void *arg);

/**
 * Open a stream to a member. Nothing is sent yet. The subject's lane and its policy when that is full (cohort_subject_set()) are read now;
 * a stream has no time to live. Other messages and streams of the lane go between its pieces.
 *
 * total  bytes to come; COHORT_TOTAL_UNKNOWN: cohort_stream_finish() says when it is all. At most 2^48 - 1.
 * fn     called exactly once if COHORT_OK is returned, else never. May be NULL.
 * out    to be given back with cohort_stream_finish() or cohort_stream_abort(), before cohort_node_close().
 *
 *   COHORT_ELIMIT  16 streams to this member are not over, in this lane. Retry when one is.
 *   COHORT_ESIZE   the total is too large.
 *   COHORT_ENOPEER, COHORT_ELEGACY, COHORT_EINVAL (a raw subject too), COHORT_ENOMEM, COHORT_ECLOSED as cohort_send().
 *
 * Thread: any. fn runs on a loop of the node, or in cohort_stream_finish(), cohort_stream_abort() or cohort_node_close().
 */
COHORT_API COHORT_NODISCARD int cohort_stream_open(cohort_node *node, const char *id, const char *subject, uint64_t total,
                                                   cohort_stream_fn fn, void *arg, cohort_stream **out);

/**
 * Write the next bytes.
 *
 * data   borrowed, copied before return.
 * taken  how many were accepted, whatever is returned; write the rest later.
 *
 *   COHORT_OK         all of them.
 *   COHORT_EAGAIN     fewer, or none: streams have filled three quarters of limits.peer_queue_bytes_max in this lane. cohort_on_writable() tells
 *                     once when half of it is free. With COHORT_FULL_BLOCK the call waits instead, as long as block_ms passes without
 *                     progress, then COHORT_ETIMEDOUT; COHORT_ECALLBACK inside a callback of the node. The other policies are as COHORT_FULL_FAIL.
 *   COHORT_ESIZE      more than was announced. Nothing was taken.
 *   COHORT_ELIMIT, COHORT_ENOMEM as cohort_send(); try again.
 *   else              the stream is lost, and fn is told the same. Give it back.
 *
 * Thread: any, one at a time for a stream.
 */
COHORT_API COHORT_NODISCARD int cohort_stream_write(cohort_stream *stream, const void *data, size_t len, size_t *taken);

/**
 * That was all: give the stream back; fn is called when the member has acknowledged it.
 *
 *   COHORT_ESIZE   less than was announced: write the rest, or abort it. The stream is still yours.
 *   COHORT_ENOMEM  the stream is still yours; try again.
 *   else           it is lost, and fn was told, or is just being told, the same. It is given back.
 *
 * Thread: as cohort_stream_write().
 */
COHORT_API COHORT_NODISCARD int cohort_stream_finish(cohort_stream *stream);

/**
 * The same, but it stays yours until cohort_stream_abort(), which ends it unless it is over: for who does not want to wait for ever, as
 * cohort_send_file() with its idle_ms. fn is called when the member has acknowledged it.
 *
 * Errors, thread: as cohort_stream_finish(), but it is given back in no case.
 */
COHORT_API COHORT_NODISCARD int cohort_stream_end(cohort_stream *stream);

/**
 * How many bytes of the stream's lane the member has acknowledged, of this and of all else in it, with their headers. Compared with what it was
 * a while ago it says whether anything moves: a member that is not connected, or handles nothing, leaves it as it is.
 *
 * Thread: any.
 */
COHORT_API uint64_t cohort_stream_acked(cohort_stream *stream);

/**
 * Give the stream up and back. Unless it was over before, fn is called with COHORT_ECANCELLED before this returns; the member's handlers, if they
 * have seen some of it, are told that it is aborted. A stream whose total was written may arrive whole all the same. What was written keeps its
 * room in the lane until the member has taken it. NULL is allowed.
 *
 * Thread: as cohort_stream_write().
 */
COHORT_API void cohort_stream_abort(cohort_stream *stream);

/** Told how far cohort_send_file() is: `bytes` of `total`, or of COHORT_TOTAL_UNKNOWN, were written. Not 0: abort. */
typedef int (*cohort_progress_fn)(cohort_node *node, uint64_t bytes, uint64_t total, void *arg);

/**
 * Send what can be read from a descriptor as one stream, and wait until the member has acknowledged it. Reading and waiting are done on
 * the calling thread: a file system that hangs holds up nobody else.
 *
 * fd        borrowed: a file, from where it stands to its end, or a pipe or socket that blocks.
 * idle_ms   give up when nothing was accepted or acknowledged for so long; 0: never. A member that is not connected accepts up to the limit of its lane.
 * progress  NULL, or called on this thread after each piece.
 * sent      may be NULL: how many bytes were written to the stream, whatever is returned.
 *
 *   COHORT_OK          the member acknowledged all of it.
 *   COHORT_EFILE       reading failed, or a file became shorter or longer meanwhile: the stream was aborted. error->text says which.
 *   COHORT_ETIMEDOUT   idle_ms passed: aborted. COHORT_ECANCELLED  progress said so.
 *   COHORT_ECALLBACK   inside a callback of this node, or the node has no threads.
 *   else               as cohort_stream_open(), or the stream was lost: as cohort_stream_result has it.
 *
 * error     may be NULL.
 */
COHORT_API COHORT_NODISCARD int cohort_send_file(cohort_node *node, const char *id, const char *subject, int fd, uint32_t idle_ms,
                                                 cohort_progress_fn progress, void *arg, uint64_t *sent, cohort_error *error);

/* ---- handling ------------------------------------------------------------------------------------------------------ */

/** A piece of a stream, borrowed for the call. */
typedef struct cohort_piece {
    const char *from;    /* id of the sender */
    const char *subject; /* its name */
    uint64_t offset;     /* where the piece begins */
    uint64_t total;      /* COHORT_TOTAL_UNKNOWN: not known yet. At the end what came, even of a stream that is not whole */
    const void *data;
    size_t data_len; /* 0 at the end of a stream that is not whole, and sometimes of one that is */
    bool begin;      /* the first piece of its stream */
    bool end;        /* the last call about it, and exactly one. A stream of one piece begins and ends in one call */
    /* At the end: COHORT_OK, all of it came. Else it ends early, and `data` is empty: COHORT_ECANCELLED its sender has given it up; COHORT_ERESTARTED
     * the sender's process was replaced; COHORT_EREMOVED, COHORT_ESLOW the session ended; COHORT_ECLOSED this node is being closed. */
    int status;
    void **state; /* the handler's own, for this stream: NULL at its beginning */
} cohort_piece;

/** Takes a piece; `piece` and all it points to are valid during the call. */
typedef void (*cohort_piece_fn)(cohort_node *node, const cohort_piece *piece, void *arg);

/**
 * Handle messages of a subject piece by piece. Pieces of one stream come in order, those of several streams, also of one sender, between each
 * other: `state` tells them apart. A handler of a subject and others of both kinds may stand side by side; requests are for cohort_handle() only.
 *
 * Back-pressure: in a queue, a piece that waits holds its part of limits.window_bytes, and a sender that has used it up in a lane writes no
 * more there. Without a queue the handler runs on the loop and must not block.
 *
 * A stream that has begun is given to the handlers its subject had then. cohort_unhandle() ends that without a further call, the end included:
 * `release` is the place to clean up.
 *
 * queue    NULL: on the loop of the sender's link. Else one of this node.
 * subject  a name, or NULL for all that no other handler takes.
 *
 *   COHORT_EINVAL  not a name, a raw type, or a queue of another node. COHORT_ELIMIT, COHORT_ENOMEM: not registered.
 */
COHORT_API COHORT_NODISCARD int cohort_handle_stream(cohort_node *node, cohort_queue *queue, const char *subject, cohort_piece_fn fn,
                                                     void *arg, cohort_release_fn release, cohort_handle_id *out);

#ifdef __cplusplus
}
#endif
#endif
