/* SPDX-License-Identifier: Apache-2.0
 *
 * A file watched for change, by its directory: editors and atomic writers put another file in its place, which a watch on the file
 * itself would not see.
 *
 * Watched are the directory of the path and, when the path leads elsewhere through links, that of the file at their end. What the
 * system does not tell (a link in the middle that changes, network file systems, no watches left, a directory that was replaced)
 * is found by looking from time to time. Events are gathered for a moment, for one change makes several.
 *
 * It does not read the file.
 */
#include "io/uv/uv_io.h"

#include "base/list.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SETTLE_MS 100

struct directory {
    uv_fs_event_t event;
    bool watched;
    dev_t dev;
    ino_t ino;
    char file[NAME_MAX + 1]; /* whose events count for sure */
};

/* What changes when another content is read at the path. */
struct signature {
    bool there;
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec modified, changed;
};

struct cohorti_file_watch {
    const cohort_allocator *alloc;
    void (*fn)(void *ctx);
    void *ctx;
    struct directory directories[2]; /* of the path, and of the file it leads to */
    uv_timer_t settle, poll;
    unsigned handles; /* not closed yet */
    bool touched;
    struct signature last;
    char path[];
};

static struct signature look(const char *path)
{
    struct stat st;
    struct signature s;
    memset(&s, 0, sizeof s); /* compared as bytes */
    if (stat(path, &st) == 0) {
        s.there = true;
        s.dev = st.st_dev;
        s.ino = st.st_ino;
        s.size = st.st_size;
        s.modified = st.st_mtim;
        s.changed = st.st_ctim;
    }
    return s;
}

static bool same(const struct signature *a, const struct signature *b)
{
    return a->there == b->there && a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->modified.tv_sec == b->modified.tv_sec && a->modified.tv_nsec == b->modified.tv_nsec &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

static void on_look(uv_timer_t *timer);

/* ---- directories --------------------------------------------------------------------------------------------------- */

static void on_event(uv_fs_event_t *handle, const char *name, int events, int status)
{
    struct directory *d = COHORTI_CONTAINER(handle, struct directory, event);
    struct cohorti_file_watch *watch = handle->data;
    watch->touched = watch->touched || name == NULL || strcmp(name, d->file) == 0;
    if (!uv_is_active((uv_handle_t *)&watch->settle)) { /* not anew each time: a directory that is never quiet would hide all */
        uv_timer_start(&watch->settle, on_look, SETTLE_MS, 0);
    }
}

static void unwatch(struct directory *d)
{
    if (d->watched) {
        uv_fs_event_stop(&d->event);
        d->watched = false;
    }
}

/* path is cut into directory and file. */
static void watch_directory(struct directory *d, char *path)
{
    struct stat st;
    char *slash = strrchr(path, '/');
    const char *directory = slash == NULL ? "." : slash == path ? "/" : path;
    snprintf(d->file, sizeof d->file, "%s", slash == NULL ? path : slash + 1);
    if (slash != NULL) {
        *slash = '\0';
    }
    if (stat(directory, &st) != 0) {
        unwatch(d);
        return;
    }
    if (d->watched && d->dev == st.st_dev && d->ino == st.st_ino) {
        return;
    }
    unwatch(d);
    d->watched = uv_fs_event_start(&d->event, on_event, directory, 0) == 0;
    d->dev = st.st_dev;
    d->ino = st.st_ino;
}

/* Directories and links may be others than last time. */
static void watch_directories(struct cohorti_file_watch *watch)
{
    struct directory *of_path = &watch->directories[0], *of_file = &watch->directories[1];
    char path[PATH_MAX], real[PATH_MAX];
    snprintf(path, sizeof path, "%s", watch->path);
    watch_directory(of_path, path);
    if (realpath(watch->path, real) == NULL) {
        unwatch(of_file);
        return;
    }
    watch_directory(of_file, real);
    if (of_file->watched && of_path->watched && of_file->dev == of_path->dev && of_file->ino == of_path->ino &&
        strcmp(of_file->file, of_path->file) == 0) {
        unwatch(of_file);
    }
}

/* ---- looking ------------------------------------------------------------------------------------------------------- */

static void look_again(struct cohorti_file_watch *watch)
{
    watch_directories(watch); /* first: a change after the look below is told */
    struct signature now = look(watch->path);
    bool changed = watch->touched || !same(&now, &watch->last);
    watch->touched = false;
    watch->last = now;
    if (changed) {
        watch->fn(watch->ctx);
    }
}

static void on_look(uv_timer_t *timer)
{
    look_again(timer->data);
}

/* ---- life ---------------------------------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
    struct cohorti_file_watch *watch = handle->data;
    if (--watch->handles == 0) {
        cohorti_release(watch->alloc, watch);
    }
}

static void init_handle(struct cohorti_file_watch *watch, uv_handle_t *handle)
{
    handle->data = watch;
    watch->handles++;
}

int cohorti_uv_watch_file(struct cohorti_loop *loop, const char *path, uint32_t poll_ms, void (*fn)(void *ctx), void *ctx,
                          struct cohorti_file_watch **out)
{
    size_t len = strlen(path) + 1;
    struct cohorti_file_watch *watch = cohorti_alloc_zero(loop->io->alloc, sizeof *watch + len);
    if (watch == NULL) {
        return COHORT_ENOMEM;
    }
    memcpy(watch->path, path, len);
    watch->alloc = loop->io->alloc;
    watch->fn = fn;
    watch->ctx = ctx;
    for (int i = 0; i < 2; i++) {
        uv_fs_event_init(&loop->uv, &watch->directories[i].event); /* these three cannot fail */
        init_handle(watch, (uv_handle_t *)&watch->directories[i].event);
    }
    uv_timer_init(&loop->uv, &watch->settle);
    init_handle(watch, (uv_handle_t *)&watch->settle);
    uv_timer_init(&loop->uv, &watch->poll);
    init_handle(watch, (uv_handle_t *)&watch->poll);
    watch_directories(watch);
    watch->last = look(path);
    uv_timer_start(&watch->poll, on_look, poll_ms, poll_ms);
    *out = watch;
    return COHORT_OK;
}

void cohorti_uv_unwatch_file(struct cohorti_file_watch *watch)
{
    for (int i = 0; i < 2; i++) {
        uv_close((uv_handle_t *)&watch->directories[i].event, on_closed);
    }
    uv_close((uv_handle_t *)&watch->settle, on_closed);
    uv_close((uv_handle_t *)&watch->poll, on_closed);
}
