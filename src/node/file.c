/* SPDX-License-Identifier: Apache-2.0
 *
 * A file, or what a pipe gives, as one stream: read and written piece by piece on the calling thread, which then waits for the end.
 * A file is sent as it was found: one that becomes shorter or longer meanwhile is not sent as something it never was. So the last piece
 * is written only when the end of the file has been seen behind it.
 */
#include "node/stream.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES COHORTI_CHUNK_BYTES_MAX

struct file {
    struct cohort_node *node;
    cohort_stream *stream;
    int fd;
    uint64_t total, sent;
    uint64_t idle_ns; /* COHORTI_NEVER: no limit */
    uint8_t *piece;
    struct cohorti_waiter over;
    int status; /* of the stream, once it is over */
    cohort_error *error;
};

static void on_over(cohort_node *node, const cohort_stream_result *result, void *arg)
{
    struct file *f = arg;
    f->status = result->status;
    cohorti_waiter_signal(&f->over);
}

static int fail(struct file *f, const char *what)
{
    snprintf(f->error->text, sizeof f->error->text, "%s", what);
    return COHORT_EFILE;
}

/* Up to `len` bytes; *got 0 at the end. */
static int read_some(struct file *f, uint8_t *to, size_t len, size_t *got)
{
    ssize_t n;
    do {
        n = read(f->fd, to, len);
    } while (n < 0 && errno == EINTR);
    *got = n > 0 ? (size_t)n : 0;
    return n < 0 ? fail(f, strerror(errno)) : COHORT_OK;
}

/* The next piece; *got 0 at the end. */
static int read_piece(struct file *f, size_t *got)
{
    size_t len = f->total - f->sent < PIECE_BYTES ? (size_t)(f->total - f->sent) : PIECE_BYTES;
    *got = 0;
    int status = len == 0 ? COHORT_OK : read_some(f, f->piece, len, got);
    if (status != COHORT_OK || f->total == COHORT_TOTAL_UNKNOWN) {
        return status;
    }
    if (*got == 0 && len > 0) {
        return fail(f, "the file has become shorter");
    }
    if (f->sent + *got == f->total) {
        uint8_t more;
        size_t extra = 0;
        status = read_some(f, &more, 1, &extra);
        return extra > 0 ? fail(f, "the file has become longer") : status;
    }
    return COHORT_OK;
}

static int send_pieces(struct file *f, cohort_progress_fn progress, void *arg)
{
    size_t got = 0;
    do {
        int status = read_piece(f, &got);
        size_t taken = 0;
        if (status == COHORT_OK && got > 0) {
            status = cohorti_stream_write_waiting(f->stream, f->piece, got, f->idle_ns, &taken);
            f->sent += taken;
        }
        if (status == COHORT_OK && progress != NULL && progress(f->node, f->sent, f->total, arg) != 0) {
            status = COHORT_ECANCELLED;
        }
        if (status != COHORT_OK) {
            return status;
        }
    } while (got > 0);
    return COHORT_OK;
}

/* Until it is over, or nothing more was acknowledged for idle_ns. */
static int await_end(struct file *f)
{
    uint64_t acked = cohort_stream_acked(f->stream);
    int status = cohort_stream_end(f->stream);
    while (status == COHORT_OK && !cohorti_waiter_done(&f->over)) {
        uint64_t before = acked;
        status = f->node->io->ops->wait(f->node->io, &f->over, f->idle_ns);
        acked = cohort_stream_acked(f->stream);
        status = status == COHORT_ETIMEDOUT && acked != before ? COHORT_OK : status;
    }
    return status;
}

static int send_open(struct file *f, cohort_progress_fn progress, void *arg)
{
    int status = send_pieces(f, progress, arg);
    if (status == COHORT_OK) {
        status = await_end(f);
    }
    cohort_stream_abort(f->stream); /* gives it back; if it is not over, it is now */
    (void)f->node->io->ops->wait(f->node->io, &f->over, UINT64_MAX);
    return status != COHORT_OK ? status : f->status;
}

static uint64_t bytes_to_come(int fd)
{
    struct stat st;
    off_t at = lseek(fd, 0, SEEK_CUR);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || at < 0) {
        return COHORT_TOTAL_UNKNOWN;
    }
    return st.st_size > at ? (uint64_t)(st.st_size - at) : 0;
}

int cohort_send_file(cohort_node *node, const char *id, const char *subject, int fd, uint32_t idle_ms, cohort_progress_fn progress,
                     void *arg, uint64_t *sent, cohort_error *error)
{
    cohort_error ignored;
    struct file f = {.node = node, .fd = fd, .total = bytes_to_come(fd), .error = error == NULL ? &ignored : error};
    f.idle_ns = idle_ms == 0 ? COHORTI_NEVER : idle_ms * COHORTI_NS_PER_MS;
    f.error->text[0] = '\0';
    int status = COHORT_ECALLBACK;
    if (!cohorti_node_in_callback(node) && node->loops->threads) {
        f.piece = cohorti_alloc(&node->alloc, PIECE_BYTES);
        status = f.piece == NULL ? COHORT_ENOMEM : COHORT_OK;
    }
    if (status == COHORT_OK) {
        cohorti_waiter_init(&f.over);
        status = cohort_stream_open(node, id, subject, f.total, on_over, &f, &f.stream);
        if (status == COHORT_OK) {
            status = send_open(&f, progress, arg);
        }
        cohorti_waiter_deinit(&f.over);
    }
    cohorti_release(&node->alloc, f.piece);
    if (sent != NULL) {
        *sent = f.sent;
    }
    f.error->code = status;
    if (status != COHORT_OK && f.error->text[0] == '\0') {
        snprintf(f.error->text, sizeof f.error->text, "%s", cohort_error_text(status));
    }
    return status;
}
