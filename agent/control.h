/* SPDX-License-Identifier: Apache-2.0
 *
 * The control socket: where the agent is reached on this machine, and who may own that place.
 */
#ifndef COHORT_AGENT_CONTROL_H
#define COHORT_AGENT_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/un.h>

enum {
    CONTROL_PATH_MAX = sizeof(((struct sockaddr_un *)0)->sun_path) - 1,
    CONTROL_WHY_MAX = 512
};

/**
 * The path to use when none is given: $COHORT_CONTROL, else $XDG_RUNTIME_DIR/cohort.sock, else /run/cohort.sock for root,
 * else /tmp/cohort-UID.sock. Agent and clients ask the same function, so they meet without knowing an id.
 *
 * shared   set when the path lies in a directory where others may put files: a client must look who owns the socket.
 * why      CONTROL_WHY_MAX bytes; filled when false is returned.
 */
bool control_default_path(char out[CONTROL_PATH_MAX + 1], bool *shared, char *why);

/** Where the systemd unit puts it: commands look there when nothing is at their default place. */
#define CONTROL_SERVICE_PATH "/run/cohort/cohort.sock"

struct control {
    char path[CONTROL_PATH_MAX + 1];
    char lock_path[CONTROL_PATH_MAX + 8];
    int lock_fd;   /* holds the lock for as long as we live */
    int listen_fd; /* -1 once somebody else owns it */
    dev_t device;  /* of the socket file, to remove no other */
    ino_t inode;   /* 0: removed */
};

/** Who may use the socket. */
struct control_access {
    mode_t mode; /* 0600 and more */
    gid_t group; /* (gid_t)-1: that of the process */
};

/** `group`: NULL, a name or a number. */
bool control_access_parse(struct control_access *access, mode_t mode, const char *group, char *why);

/**
 * Take the place and listen there, open to those of `access` and at no time to others. A socket file nobody answers at is replaced. On failure nothing is left
 * behind and `why` (CONTROL_WHY_MAX bytes) says in one line what is wrong.
 */
bool control_open(struct control *control, const char *path, const struct control_access *access, char *why);

/** Change who may connect from now on. */
bool control_set_access(const struct control *control, const struct control_access *access, char *why);

/** Remove the socket file, if it still is ours, so that clients no longer find us. The lock stays. */
void control_unlink(struct control *control);

/** Give the place back. */
void control_close(struct control *control);

#endif
