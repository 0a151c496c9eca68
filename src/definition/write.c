/* SPDX-License-Identifier: Apache-2.0
 *
 * Put the text of a definition in the place of a file, whole or not at all.
 *
 * The text goes to a new file in the same directory (a rename between file systems is a copy), is forced to disk, and takes the
 * old file's name; then the directory is forced to disk, for the rename is a change of it. The mode is set before the first
 * byte is there, so that nobody may read the new file who may not read the old.
 */
#include "definition/message.h"

#include <cohort/definition.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAMES_TRIED_MAX 100

struct writing {
    const char *path; /* as given: for messages */
    cohort_error *error;
    char target[PATH_MAX];    /* links followed */
    char temporary[PATH_MAX]; /* "" while there is none */
    bool replaces;
    struct stat old;
};

static int fail(const struct writing *w, const char *what, int saved_errno)
{
    return cohorti_message_file(w->error, w->path, COHORT_EFILE, what, saved_errno);
}

static int find_target(struct writing *w)
{
    char *real = realpath(w->path, NULL);
    int len = snprintf(w->target, sizeof(w->target), "%s", real != NULL ? real : w->path);
    int saved_errno = real != NULL ? 0 : errno;
    free(real);
    if (saved_errno != 0 && (saved_errno != ENOENT || w->path[0] == '\0')) {
        return fail(w, "cannot be written", saved_errno);
    }
    if (len < 0 || (size_t)len >= sizeof(w->target)) {
        return fail(w, "cannot be written", ENAMETOOLONG);
    }
    w->replaces = stat(w->target, &w->old) == 0;
    if (w->replaces && !S_ISREG(w->old.st_mode)) {
        return fail(w, S_ISDIR(w->old.st_mode) ? "is a directory" : "is not a regular file", 0);
    }
    return COHORT_OK;
}

/* A new file beside the target, hidden. No mkstemp(): its mode would have to be widened to what the umask says, which cannot be read
 * without changing it for all threads. */
static int open_temporary(struct writing *w)
{
    const char *slash = strrchr(w->target, '/');
    int directory_len = slash == NULL ? 0 : (int)(slash - w->target) + 1;
    for (unsigned i = 0; i < NAMES_TRIED_MAX; i++) {
        int len = snprintf(w->temporary, sizeof(w->temporary), "%.*s.%s.%ld-%u", directory_len, w->target,
                           w->target + directory_len, (long)getpid(), i);
        if (len < 0 || (size_t)len >= sizeof(w->temporary)) {
            errno = ENAMETOOLONG;
            break;
        }
        int fd = open(w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, w->replaces ? 0600 : 0666);
        if (fd >= 0) {
            return fd;
        }
        if (errno != EEXIST) {
            break;
        }
    }
    w->temporary[0] = '\0';
    return -1;
}

static bool write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t put = write(fd, text, len);
        if (put < 0 && errno != EINTR) {
            return false;
        }
        text += put > 0 ? put : 0;
        len -= put > 0 ? (size_t)put : 0;
    }
    return true;
}

/* The owner before the mode: chown() takes set-id bits away. Only root may give files away; others keep theirs. */
static bool keep_mode(const struct writing *w, int fd)
{
    if (!w->replaces) {
        return true;
    }
    int ignored = fchown(fd, w->old.st_uid, w->old.st_gid);
    (void)ignored;
    return fchmod(fd, w->old.st_mode & 07777) == 0;
}

static int write_temporary(struct writing *w, const char *text, size_t len)
{
    int fd = open_temporary(w);
    if (fd < 0) {
        return fail(w, "cannot be written", errno);
    }
    bool written = keep_mode(w, fd) && write_all(fd, text, len) && fsync(fd) == 0;
    int saved_errno = written ? 0 : errno;
    if (close(fd) != 0 && written) { /* where quotas and networks tell what they think of it */
        written = false;
        saved_errno = errno;
    }
    return written ? COHORT_OK : fail(w, "cannot be written", saved_errno);
}

static int sync_directory(struct writing *w)
{
    char *slash = strrchr(w->target, '/');
    if (slash != NULL) {
        slash[slash == w->target] = '\0';
    }
    int fd = open(slash == NULL ? "." : w->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL || errno == EROFS); /* some file systems cannot, and need not */
    int saved_errno = synced ? 0 : errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    return synced ? COHORT_OK : fail(w, "is written, but its directory cannot be synchronised", saved_errno);
}

int cohort_definition_write(const char *path, const cohort_definition *definition, cohort_error *error)
{
    struct writing w = {.path = path, .error = error};
    char *text = NULL;
    size_t len = 0;
    int rc = cohort_definition_format(definition, &text, &len, error);
    if (rc != COHORT_OK) {
        return rc;
    }
    rc = find_target(&w);
    if (rc == COHORT_OK) {
        rc = write_temporary(&w, text, len);
    }
    if (rc == COHORT_OK && rename(w.temporary, w.target) != 0) {
        rc = fail(&w, "cannot be replaced", errno);
    }
    if (rc != COHORT_OK && w.temporary[0] != '\0') {
        (void)unlink(w.temporary);
    }
    free(text);
    return rc == COHORT_OK ? sync_directory(&w) : rc;
}
