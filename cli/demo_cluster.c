/* SPDX-License-Identifier: Apache-2.0
 *
 * The processes of a demonstration; see demo_cluster.h.
 */
#include "demo_cluster.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Below the ports that the system gives to outgoing connections. */
enum {
    PORT_FIRST = 20000,
    PORT_COUNT = 10000,
    PORT_ATTEMPTS_MAX = 200
};

static bool complain(const char *what, const char *name)
{
    fprintf(stderr, "cohort demo: %s %s: %s\n", what, name, strerror(errno));
    return false;
}

static int listen_at(const char *ip, uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)); /* as a node does: old connections do not matter */
    inet_pton(AF_INET, ip, &address.sin_addr);
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 1) == 0) {
        return fd;
    }
    close(fd);
    return -1;
}

static bool port_is_free(const struct demo_cluster *cluster, uint16_t port)
{
    int fds[DEMO_NODES_MAX];
    int open = 0;
    while (open < cluster->count && (fds[open] = listen_at(cluster->nodes[open].ip, port)) >= 0) {
        open++;
    }
    bool all = open == cluster->count;
    while (open > 0) {
        close(fds[--open]);
    }
    return all;
}

static bool choose_port(struct demo_cluster *cluster)
{
    unsigned first = (unsigned)getpid() * 7;
    for (unsigned attempt = 0; attempt < PORT_ATTEMPTS_MAX; attempt++) {
        cluster->port = (uint16_t)(PORT_FIRST + (first + attempt) % PORT_COUNT);
        if (port_is_free(cluster, cluster->port)) {
            return true;
        }
    }
    fprintf(stderr, "cohort demo: no port is free on 127.0.1.1 and the addresses after it\n");
    return false;
}

static bool make_directory(struct demo_cluster *cluster)
{
    const char *parent = getenv("TMPDIR");
    if (parent == NULL || parent[0] != '/' || strlen(parent) > sizeof(cluster->dir) - 24) {
        parent = "/tmp"; /* the path of a Unix socket must be short */
    }
    snprintf(cluster->dir, sizeof(cluster->dir), "%s/cohort-demo-XXXXXX", parent);
    if (mkdtemp(cluster->dir) == NULL) {
        complain("cannot make a directory in", parent);
        cluster->dir[0] = '\0';
        return false;
    }
    snprintf(cluster->definition, sizeof(cluster->definition), "%s/cluster.json", cluster->dir);
    for (int i = 0; i < cluster->count; i++) {
        struct demo_process *node = &cluster->nodes[i];
        snprintf(node->control, sizeof(node->control), "%s/%s.sock", cluster->dir, node->id);
        snprintf(node->log, sizeof(node->log), "%s/%s.log", cluster->dir, node->id);
    }
    return true;
}

static bool write_definition(const struct demo_cluster *cluster)
{
    json_t *nodes = json_array();
    for (int i = 0; i < cluster->count; i++) {
        const struct demo_process *node = &cluster->nodes[i];
        json_array_append_new(nodes, json_pack("{s:s, s:s, s:i}", "id", node->id, "ip", node->ip, "tcpPort", (int)cluster->port));
    }
    json_t *root = json_pack("{s:o}", "nodes", nodes);
    bool written = root != NULL && json_dump_file(root, cluster->definition, JSON_INDENT(2)) == 0;
    json_decref(root);
    return written ? true : complain("cannot write", cluster->definition);
}

bool demo_cluster_open(struct demo_cluster *cluster, int count)
{
    *cluster = (struct demo_cluster){.count = count};
    for (int i = 0; i < count; i++) {
        snprintf(cluster->nodes[i].id, sizeof(cluster->nodes[i].id), "node-%d", i + 1);
        snprintf(cluster->nodes[i].ip, sizeof(cluster->nodes[i].ip), "127.0.1.%d", i + 1);
    }
    if (choose_port(cluster) && make_directory(cluster) && write_definition(cluster)) {
        return true;
    }
    demo_cluster_close(cluster, false);
    return false;
}

/* In the child: only calls that are safe after fork. */
static void become_agent(const struct demo_cluster *cluster, const struct demo_process *node, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1); /* it died before we asked to die with it */
    }
    int null_fd = open("/dev/null", O_RDONLY);
    int log_fd = open(node->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (null_fd < 0 || log_fd < 0 || dup2(null_fd, 0) < 0 || dup2(log_fd, 1) < 0 || dup2(log_fd, 2) < 0) {
        _exit(1);
    }
    close_range(3, ~0U, 0); /* curl's connections are not for the agent */
    execl("/proc/self/exe", "cohort", "agent", "--cluster", cluster->definition, "--id", node->id, "--control", node->control,
          (char *)NULL);
    _exit(1);
}

bool demo_cluster_start(struct demo_cluster *cluster, int index)
{
    struct demo_process *node = &cluster->nodes[index];
    pid_t parent = getpid();
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        return complain("cannot start", node->id);
    }
    if (pid == 0) {
        become_agent(cluster, node, parent);
    }
    node->pid = pid;
    return true;
}

void demo_cluster_kill(struct demo_cluster *cluster, int index)
{
    struct demo_process *node = &cluster->nodes[index];
    if (node->pid == 0) {
        return;
    }
    kill(node->pid, SIGKILL);
    while (waitpid(node->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    node->pid = 0;
}

bool demo_cluster_ended(struct demo_cluster *cluster, int index, int *status)
{
    struct demo_process *node = &cluster->nodes[index];
    if (node->pid == 0 || waitpid(node->pid, status, WNOHANG) != node->pid) {
        return false;
    }
    node->pid = 0;
    return true;
}

static void remove_directory(const char *dir)
{
    DIR *entries = opendir(dir);
    if (entries == NULL) {
        return;
    }
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        unlinkat(dirfd(entries), entry->d_name, 0); /* "." and ".." refuse */
    }
    closedir(entries);
    if (rmdir(dir) != 0) {
        complain("cannot remove", dir);
    }
}

void demo_cluster_close(struct demo_cluster *cluster, bool keep)
{
    for (int i = 0; i < cluster->count; i++) {
        demo_cluster_kill(cluster, i);
    }
    if (cluster->dir[0] != '\0' && !keep) {
        remove_directory(cluster->dir);
    }
    cluster->dir[0] = '\0';
}
