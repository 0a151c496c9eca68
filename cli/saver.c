/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams into files; see saver.h. The records of docs/http.md come in pieces of any size: `state` says what is expected next.
 *
 * A file is written without a name (O_TMPFILE) and linked to its name when all of it is there, so that a stream that breaks, or a saver that
 * is killed, leaves nothing. Where the file system cannot do that, it has a hidden name meanwhile. A name that is taken is never
 * replaced: the file gets a number.
 */
#include "saver.h"

#include "digest.h"
#include "filename.h"
#include "output.h"

#include <cohort/types.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LINE_BYTES_MAX = 2048,
    NUMBERS_MAX = 10000
};

/* A stream that has begun. */
struct saved {
    struct saved *next;
    uint64_t number;
    char from[COHORT_ID_BYTES_MAX + 1];
    int fd;                            /* -1: it is only counted, since writing failed */
    char hidden[32];                   /* its name meanwhile; "": it has none */
    char name[FILENAME_BYTES_MAX + 1]; /* what it is to be saved as */
    char first[FILENAME_LINE_MAX];     /* its first bytes, until it is known whether they are a line with its name */
    size_t first_len;
    bool named;
    uint64_t len; /* of the file */
    struct sha256_ctx hash;
    char why[256]; /* why it is not written any more */
};

struct saving {
    const struct saver *options;
    int dir_fd;
    uint64_t left; /* files to come; 0: no end */
    struct saved *first;
    char line[LINE_BYTES_MAX];
    size_t line_len;
    json_t *record; /* whose data is coming; NULL: a line is */
    uint64_t data_left;
    bool failed; /* a file could not be written, or what the agent says is not understood */
    bool done;
};

/* ---- files ---- */

static void stop_writing(struct saved *s, const char *what)
{
    snprintf(s->why, sizeof(s->why), "%s: %s", what, strerror(errno));
    if (s->fd >= 0) {
        close(s->fd);
        s->fd = -1;
    }
}

static void open_hidden(struct saving *all, struct saved *s)
{
    static unsigned count;
    s->fd = openat(all->dir_fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
    if (s->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
        snprintf(s->hidden, sizeof(s->hidden), ".cohort-%ld-%u", (long)getpid(), count++);
        s->fd = openat(all->dir_fd, s->hidden, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    }
    if (s->fd < 0) {
        s->hidden[0] = '\0';
        stop_writing(s, all->options->directory);
    }
}

static void write_all(struct saved *s, const char *bytes, size_t len)
{
    s->len += len;
    sha256_update(&s->hash, len, (const uint8_t *)bytes);
    while (len > 0 && s->fd >= 0) {
        ssize_t n = write(s->fd, bytes, len);
        if (n < 0 && errno != EINTR) {
            stop_writing(s, "cannot write");
        } else if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        }
    }
}

static int link_as(const struct saving *all, const struct saved *s, const char *name)
{
    char self[40];
    snprintf(self, sizeof(self), "/proc/self/fd/%d", s->fd);
    return s->hidden[0] != '\0' ? linkat(all->dir_fd, s->hidden, all->dir_fd, name, 0)
                                : linkat(AT_FDCWD, self, all->dir_fd, name, AT_SYMLINK_FOLLOW);
}

/* `out` is the name it got. */
static bool give_name(const struct saving *all, struct saved *s, char *out, size_t size)
{
    int status = -1;
    errno = EEXIST;
    for (unsigned i = 0; status != 0 && errno == EEXIST && i < NUMBERS_MAX; i++) {
        snprintf(out, size, i == 0 ? "%s" : "%s.%u", s->name, i);
        status = link_as(all, s, out);
    }
    if (status != 0) {
        stop_writing(s, s->name);
    }
    return status == 0;
}

/* ---- streams ---- */

static struct saved *begin(struct saving *all, uint64_t number, const char *from)
{
    struct saved *s = calloc(1, sizeof(*s));
    if (s != NULL) {
        s->number = number;
        snprintf(s->from, sizeof(s->from), "%s", from);
        s->next = all->first;
        all->first = s;
        sha256_init(&s->hash);
        snprintf(s->name, sizeof(s->name), "stream");
        open_hidden(all, s);
    }
    return s;
}

static struct saved *find(const struct saving *all, uint64_t number)
{
    struct saved *s = all->first;
    while (s != NULL && s->number != number) {
        s = s->next;
    }
    return s;
}

static void forget(struct saving *all, struct saved *s)
{
    struct saved **at = &all->first;
    while (*at != NULL && *at != s) {
        at = &(*at)->next;
    }
    *at = s->next;
    if (s->hidden[0] != '\0') {
        (void)unlinkat(all->dir_fd, s->hidden, 0);
    }
    if (s->fd >= 0) {
        close(s->fd);
    }
    free(s);
}

/* Its name may stand in front. all: nothing more comes. */
static void look_for_name(struct saved *s, bool all)
{
    size_t line_len = 0;
    char name[FILENAME_BYTES_MAX + 1] = "";
    enum filename_found found = filename_find(s->first, s->first_len, all, &line_len, name);
    if (found == FILENAME_MORE) {
        return;
    }
    s->named = true;
    if (found == FILENAME_THERE && name[0] != '\0') {
        memcpy(s->name, name, sizeof(s->name));
    }
    write_all(s, s->first + line_len, s->first_len - line_len);
}

static void add(struct saved *s, const char *bytes, size_t len)
{
    if (!s->named) {
        size_t part = sizeof(s->first) - s->first_len < len ? sizeof(s->first) - s->first_len : len;
        memcpy(s->first + s->first_len, bytes, part);
        s->first_len += part;
        bytes += part;
        len -= part;
        look_for_name(s, s->first_len == sizeof(s->first));
    }
    if (s->named) {
        write_all(s, bytes, len);
    }
}

static void complain_broken(const struct saved *s, const char *why)
{
    fprintf(stderr, "cohort listen: %s: %s is not whole: %s\n", s->from, s->name, why);
}

static void finish(struct saving *all, struct saved *s, const char *status)
{
    char name[FILENAME_BYTES_MAX + 16], text[DIGEST_TEXT_BYTES];
    if (!s->named) {
        look_for_name(s, true);
    }
    if (strcmp(status, "OK") != 0) {
        complain_broken(s, status);
    } else if (s->fd < 0 || !give_name(all, s, name, sizeof(name))) {
        fprintf(stderr, "cohort listen: %s: %s is not saved: %s\n", s->from, s->name, s->why);
        all->failed = true;
    } else {
        digest_text(&s->hash, text);
        printf("%s %s %" PRIu64 " bytes sha256 %s\n", s->from, name, s->len, text);
        all->failed = output_flush("listen") != EXIT_FINE || all->failed;
        all->done = all->left > 0 && --all->left == 0;
    }
    forget(all, s);
}

/* ---- records ---- */

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "?";
}

static uint64_t number_of(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static void record_over(struct saving *all)
{
    json_t *record = all->record;
    struct saved *s = find(all, number_of(record, "stream"));
    all->record = NULL;
    if (s != NULL && json_is_true(json_object_get(record, "end"))) {
        finish(all, s, text_of(record, "status"));
    }
    json_decref(record);
}

/* False: it is not understood. */
static bool line_over(struct saving *all)
{
    size_t len = all->line_len;
    all->line_len = 0;
    if (len == 0) {
        return true; /* a sign of life */
    }
    all->record = json_loadb(all->line, len, 0, NULL);
    if (!json_is_object(all->record)) {
        return false;
    }
    all->data_left = number_of(all->record, "len");
    if (json_is_true(json_object_get(all->record, "begin")) &&
        begin(all, number_of(all->record, "stream"), text_of(all->record, "from")) == NULL) {
        return false;
    }
    if (all->data_left == 0) {
        record_over(all);
    }
    return true;
}

static bool take_byte_of_line(struct saving *all, char c)
{
    if (c == '\n') {
        return line_over(all);
    }
    if (all->line_len == sizeof(all->line)) {
        return false;
    }
    all->line[all->line_len++] = c;
    return true;
}

static bool take(void *arg, const char *bytes, size_t len)
{
    struct saving *all = arg;
    while (len > 0 && !all->done) {
        size_t part = 1;
        if (all->record == NULL) {
            if (!take_byte_of_line(all, *bytes)) {
                fprintf(stderr, "cohort listen: what the agent says is not understood\n");
                all->failed = all->done = true;
            }
        } else {
            part = all->data_left < len ? (size_t)all->data_left : len;
            struct saved *s = find(all, number_of(all->record, "stream"));
            if (s != NULL) {
                add(s, bytes, part);
            }
            all->data_left -= part;
            if (all->data_left == 0) {
                record_over(all);
            }
        }
        bytes += part;
        len -= part;
    }
    return !all->done;
}

static void on_ready(void *arg)
{
    const struct saving *all = arg;
    if (all->options->ready) {
        fprintf(stderr, "listening\n");
    }
}

int saver_run(struct saver *saver, struct client *client, const char *subject)
{
    struct saving all = {.options = saver, .left = saver->count};
    all.dir_fd = open(saver->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (all.dir_fd < 0) {
        fprintf(stderr, "cohort listen: %s: %s\n", saver->directory, strerror(errno));
        return EXIT_FAILED;
    }
    struct client_sink sink = {.take = take, .on_ready = on_ready, .arg = &all};
    int code = client_download(client, client_url(client, "/v1/streams", NULL, "subject", subject, NULL), &sink);
    while (all.first != NULL) {
        complain_broken(all.first, code == EXIT_FINE ? "others were enough" : "its end never came");
        forget(&all, all.first);
    }
    json_decref(all.record);
    close(all.dir_fd);
    return all.failed ? EXIT_FAILED : code;
}
