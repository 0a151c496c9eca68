/* SPDX-License-Identifier: Apache-2.0
 *
 * The control socket; see control.h.
 *
 * PATH.lock, held with flock(2), decides who owns PATH. Without it two agents that start at once could both find a stale
 * socket, both remove it, and the later would remove the live socket of the earlier. The kernel drops the lock when its
 * holder dies, however it dies, so a left-over lock file blocks nobody. The lock file is removed while the lock is held;
 * whoever waits on the removed file finds that its name is gone and starts over.
 *
 * The socket is made with mode 0600, gets its group, then its mode, and only then listens: nobody gets in who may not.
 */
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LOCK_ATTEMPTS_MAX = 16,
    BACKLOG = 128
};

__attribute__((format(printf, 2, 3))) static bool refuse(char *why, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, CONTROL_WHY_MAX, format, arguments);
    va_end(arguments);
    return false;
}

static bool path_fits(const char *path, char *why)
{
    if (path[0] == '\0') {
        return refuse(why, "the control path is empty");
    }
    if (strlen(path) > CONTROL_PATH_MAX) {
        return refuse(why, "the control path has %zu bytes, a Unix socket takes at most %d: %s", strlen(path),
                      (int)CONTROL_PATH_MAX, path);
    }
    return true;
}

bool control_default_path(char out[CONTROL_PATH_MAX + 1], bool *shared, char *why)
{
    char text[4096];
    const char *given = getenv("COHORT_CONTROL");
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    *shared = false;
    if (given != NULL && given[0] != '\0') {
        snprintf(text, sizeof(text), "%s", given);
    } else if (runtime != NULL && runtime[0] != '\0') {
        snprintf(text, sizeof(text), "%s/cohort.sock", runtime);
    } else if (geteuid() == 0) {
        snprintf(text, sizeof(text), "/run/cohort.sock");
    } else {
        snprintf(text, sizeof(text), "/tmp/cohort-%lu.sock", (unsigned long)geteuid());
        *shared = true;
    }
    if (!path_fits(text, why)) {
        return false;
    }
    memcpy(out, text, strlen(text) + 1);
    return true;
}

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path) + 1);
    return address;
}

/* 1: locked. 0: the file was removed meanwhile, try again. -1: refused. */
static int lock_once(struct control *control, char *why)
{
    int fd = open(control->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        refuse(why, "cannot open %s: %s", control->lock_path, strerror(errno));
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) {
            refuse(why, "another agent is running at %s", control->path);
        } else {
            refuse(why, "cannot lock %s: %s", control->lock_path, strerror(errno));
        }
        close(fd);
        return -1;
    }
    struct stat held, named;
    if (fstat(fd, &held) != 0 || stat(control->lock_path, &named) != 0 || held.st_ino != named.st_ino || held.st_dev != named.st_dev) {
        close(fd);
        return 0;
    }
    control->lock_fd = fd;
    return 1;
}

static bool lock(struct control *control, char *why)
{
    for (int attempt = 0; attempt < LOCK_ATTEMPTS_MAX; attempt++) {
        int result = lock_once(control, why);
        if (result != 0) {
            return result > 0;
        }
    }
    return refuse(why, "%s keeps being replaced", control->lock_path);
}

/* We hold the lock, so no agent is behind a socket found here; but it may be the socket of some other program. */
static bool remove_stale(const char *path, char *why)
{
    struct stat found;
    if (lstat(path, &found) != 0) {
        return errno == ENOENT ? true : refuse(why, "cannot look at %s: %s", path, strerror(errno));
    }
    if (!S_ISSOCK(found.st_mode)) {
        return refuse(why, "%s exists and is not a socket", path);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return refuse(why, "cannot make a socket: %s", strerror(errno));
    }
    struct sockaddr_un address = address_of(path);
    int failed = connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : errno;
    close(fd);
    if (failed == 0 || failed == EAGAIN) {
        return refuse(why, "something else is listening at %s", path);
    }
    if (failed != ECONNREFUSED && failed != ENOENT) {
        return refuse(why, "cannot tell whether %s is in use: %s", path, strerror(failed));
    }
    if (unlink(path) != 0 && errno != ENOENT) {
        return refuse(why, "cannot remove the stale socket %s: %s", path, strerror(errno));
    }
    return true;
}

bool control_access_parse(struct control_access *access, mode_t mode, const char *group, char *why)
{
    *access = (struct control_access){.mode = mode, .group = (gid_t)-1};
    if (group == NULL) {
        return true;
    }
    size_t digits = strspn(group, "0123456789");
    if (digits > 0 && digits < 10 && group[digits] == '\0') {
        access->group = (gid_t)strtoul(group, NULL, 10);
        return true;
    }
    char buffer[65536];
    struct group entry, *found = NULL;
    int failed = getgrnam_r(group, &entry, buffer, sizeof(buffer), &found);
    if (found == NULL) {
        return refuse(why, "control group '%s': %s", group, failed != 0 ? strerror(failed) : "there is no such group");
    }
    access->group = found->gr_gid;
    return true;
}

bool control_set_access(const struct control *control, const struct control_access *access, char *why)
{
    /* Going from one group to another, the old mode must not open the socket to the new group for a moment. */
    if (access->group != (gid_t)-1 && chmod(control->path, 0600) != 0) {
        return refuse(why, "cannot set the mode of %s: %s", control->path, strerror(errno));
    }
    if (access->group != (gid_t)-1 && lchown(control->path, (uid_t)-1, access->group) != 0) {
        return refuse(why, "cannot give %s to group %lu: %s", control->path, (unsigned long)access->group, strerror(errno));
    }
    if (chmod(control->path, access->mode) != 0) {
        return refuse(why, "cannot set the mode of %s to %04o: %s", control->path, (unsigned)access->mode, strerror(errno));
    }
    return true;
}

static bool listen_at(struct control *control, const struct control_access *access, char *why)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return refuse(why, "cannot make a socket: %s", strerror(errno));
    }
    struct sockaddr_un address = address_of(control->path);
    mode_t before = umask(0177);
    int bound = bind(fd, (const struct sockaddr *)&address, sizeof(address));
    int failed = errno;
    umask(before);
    if (bound != 0) {
        close(fd);
        return refuse(why, "cannot listen at %s: %s", control->path, strerror(failed));
    }
    struct stat made;
    bool open_as_asked = control_set_access(control, access, why);
    if (!open_as_asked || listen(fd, BACKLOG) != 0 || lstat(control->path, &made) != 0) {
        failed = errno;
        unlink(control->path);
        close(fd);
        return open_as_asked ? refuse(why, "cannot listen at %s: %s", control->path, strerror(failed)) : false;
    }
    control->listen_fd = fd;
    control->device = made.st_dev;
    control->inode = made.st_ino;
    return true;
}

static void unlock(struct control *control)
{
    if (control->lock_fd < 0) {
        return;
    }
    unlink(control->lock_path);
    close(control->lock_fd);
    control->lock_fd = -1;
}

bool control_open(struct control *control, const char *path, const struct control_access *access, char *why)
{
    *control = (struct control){.lock_fd = -1, .listen_fd = -1};
    if (!path_fits(path, why)) {
        return false;
    }
    memcpy(control->path, path, strlen(path) + 1);
    snprintf(control->lock_path, sizeof(control->lock_path), "%s.lock", control->path);
    if (!lock(control, why)) {
        return false;
    }
    if (remove_stale(control->path, why) && listen_at(control, access, why)) {
        return true;
    }
    unlock(control);
    return false;
}

void control_unlink(struct control *control)
{
    struct stat found;
    if (control->inode == 0) {
        return;
    }
    if (lstat(control->path, &found) == 0 && found.st_dev == control->device && found.st_ino == control->inode) {
        unlink(control->path);
    }
    control->inode = 0; /* the number may be used again by a file that is not ours */
}

void control_close(struct control *control)
{
    control_unlink(control);
    if (control->listen_fd >= 0) {
        close(control->listen_fd);
    }
    control->listen_fd = -1;
    unlock(control);
}
