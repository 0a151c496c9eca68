/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort listen --reply; see replier.h.
 *
 * For each request a child of ours is forked, which runs the command, feeds it, reads what it says and replies through a connection of its
 * own: so the stream is read on while commands run, and a command that hangs holds up nothing but its place. The command is a process
 * group of its own and is killed when nobody waits for its reply any more.
 */
#include "replier.h"

#include "payload.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    REPLY_BYTES_MAX = 64 << 20, /* what the agent takes is less: it says so */
    READ_BYTES = 65536,
    LOOK_MS = 500,   /* at whether anybody waits */
    GRACE_MS = 1000, /* after its time, so that who asked says first that it is over */
};

struct work {
    pid_t pid;
    int in, out; /* of ours; -1: closed */
    struct input request, reply;
    size_t sent;
    bool too_much;
};

/* ---- one command; in the child ---- */

static void close_one(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

static void run_command(const char *command, const int in[2], const int out[2], const json_t *item)
{
    setpgid(0, 0);
    signal(SIGPIPE, SIG_DFL);
    setenv("COHORT_FROM", json_string_value(json_object_get(item, "from")), 1);
    setenv("COHORT_SUBJECT", json_string_value(json_object_get(item, "subject")), 1);
    if (dup2(in[0], STDIN_FILENO) >= 0 && dup2(out[1], STDOUT_FILENO) >= 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    }
    _exit(127);
}

static bool start(struct work *work, const char *command, const json_t *item)
{
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) != 0) {
        return false;
    }
    if (pipe2(out, O_CLOEXEC) != 0) {
        close(in[0]);
        close(in[1]);
        return false;
    }
    work->pid = fork();
    if (work->pid == 0) {
        run_command(command, in, out, item);
    }
    close(in[0]);
    close(out[1]);
    work->in = in[1];
    work->out = out[0];
    fcntl(work->in, F_SETFL, O_NONBLOCK);
    return work->pid > 0;
}

static void feed(struct work *work)
{
    ssize_t written = write(work->in, work->request.bytes + work->sent, work->request.len - work->sent);
    if (written > 0) {
        work->sent += (size_t)written;
    } else if (errno != EAGAIN && errno != EINTR) {
        close_one(&work->in); /* it does not want more */
    }
}

static void collect(struct work *work)
{
    char *grown = realloc(work->reply.bytes, work->reply.len + READ_BYTES);
    ssize_t got = -1;
    if (grown != NULL) {
        work->reply.bytes = grown;
        got = read(work->out, grown + work->reply.len, READ_BYTES);
    }
    if (got > 0) {
        work->reply.len += (size_t)got;
        work->too_much = work->reply.len > REPLY_BYTES_MAX;
    }
    if (got == 0 || (got < 0 && errno != EINTR) || work->too_much) {
        close_one(&work->out);
    }
}

static uint64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Until it has said all, its time is over, or our parent is gone and the request with it. */
static bool converse(struct work *work, uint64_t until_ms, pid_t parent)
{
    while (work->out >= 0) {
        if (work->sent == work->request.len) {
            close_one(&work->in);
        }
        uint64_t now_ms = clock_ms();
        if (now_ms >= until_ms || getppid() != parent) {
            return false;
        }
        uint64_t left_ms = until_ms - now_ms;
        struct pollfd fds[2] = {{.fd = work->out, .events = POLLIN}, {.fd = work->in, .events = POLLOUT}};
        int ready = poll(fds, work->in >= 0 ? 2 : 1, left_ms > LOOK_MS ? LOOK_MS : (int)left_ms);
        if (ready > 0 && fds[0].revents != 0) {
            collect(work);
        }
        if (ready > 0 && work->in >= 0 && fds[1].revents != 0) {
            feed(work);
        }
    }
    return !work->too_much;
}

/* Why it is an error, or NULL: then what it said is the reply. */
static const char *judge(int status, bool in_time, const struct work *work, char *text, size_t cap)
{
    if (work->too_much) {
        return "the command says too much";
    }
    if (!in_time) {
        return "the command took too long";
    }
    if (WIFSIGNALED(status)) {
        snprintf(text, cap, "the command was ended by signal %d", WTERMSIG(status));
        return text;
    }
    snprintf(text, cap, "the command ended with status %d", WEXITSTATUS(status));
    return WEXITSTATUS(status) != 0 ? text : NULL;
}

static int reply(const struct replier *replier, const json_t *item, const struct work *work, const char *error)
{
    struct client client;
    char number[24];
    snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(json_object_get(item, "request")));
    if (client_open(&client, replier->complain, replier->control) != EXIT_FINE) {
        return EXIT_FAILED;
    }
    client.about = json_string_value(json_object_get(item, "from"));
    char *url = client_url(&client, "/v1/reply", NULL, "request", number, error != NULL ? "error" : NULL, error, NULL);
    int code = client_post(&client, url, work->reply.bytes, error != NULL ? 0 : work->reply.len, 0);
    if (client.status == 413) { /* it is still owed */
        url = client_url(&client, "/v1/reply", NULL, "request", number, "error", "the reply is larger than the limit", NULL);
        (void)client_post(&client, url, NULL, 0, 0);
    }
    client_close(&client);
    return code;
}

static int answer(const struct replier *replier, const json_t *item, pid_t parent)
{
    struct work work = {.in = -1, .out = -1};
    const json_t *left = json_object_get(item, "time_left_ms");
    uint64_t until_ms = left != NULL ? clock_ms() + (uint64_t)json_integer_value(left) + GRACE_MS : UINT64_MAX;
    char text[64];
    int status = 0;
    close_range(STDERR_FILENO + 1, ~0U, 0); /* the stream is our parent's */
    signal(SIGPIPE, SIG_IGN);
    if (!payload_take(item, &work.request) || !start(&work, replier->command, item)) {
        return reply(replier, item, &work, "the command cannot be run");
    }
    bool in_time = converse(&work, until_ms, parent);
    close_one(&work.in);
    close_one(&work.out);
    if (!in_time) {
        kill(-work.pid, SIGKILL);
        kill(work.pid, SIGKILL); /* it may not have become a group yet */
    }
    while (waitpid(work.pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (getppid() != parent) {
        return EXIT_FAILED;
    }
    return reply(replier, item, &work, judge(status, in_time, &work, text, sizeof(text)));
}

/* ---- the stream ---- */

static void reap(struct replier *replier, int flags)
{
    pid_t ended = replier->running > 0 ? waitpid(-1, NULL, flags) : 0;
    if (ended > 0) {
        replier->running--;
    } else if (ended < 0 && errno == ECHILD) {
        replier->running = 0;
    }
}

static void take_request(struct replier *replier, const json_t *item)
{
    for (uint64_t i = replier->running; i > 0; i--) {
        reap(replier, WNOHANG);
    }
    while (replier->running >= replier->jobs) { /* more wait at the agent meanwhile */
        reap(replier, 0);
    }
    fflush(NULL);
    pid_t parent = getpid();
    pid_t child = fork();
    if (child == 0) {
        _exit(answer(replier, item, parent));
    }
    if (child > 0) {
        replier->running++;
        return;
    }
    struct work none = {.in = -1};
    (void)reply(replier, item, &none, "no process can be started");
}

static bool on_item(void *arg, const char *event, const char *data, size_t len)
{
    struct replier *replier = arg;
    json_t *item = json_loadb(data, len, JSON_ALLOW_NUL, NULL);
    bool is_request = strcmp(event, "request") == 0 && json_is_string(json_object_get(item, "from")) &&
                      json_is_string(json_object_get(item, "subject"));
    if (is_request) {
        take_request(replier, item);
    } else if (strcmp(event, "overflow") != 0) { /* those are refused by the agent */
        fprintf(stderr, "cohort %s: an event is not understood\n", replier->complain);
    }
    json_decref(item);
    return !is_request || replier->count == 0 || --replier->count > 0;
}

static void on_ready(void *arg)
{
    const struct replier *replier = arg;
    if (replier->ready) {
        fprintf(stderr, "listening\n");
    }
}

/* The last commands must have replied before the stream ends: what it owes is refused then. */
static bool on_item_to_the_end(void *arg, const char *event, const char *data, size_t len)
{
    struct replier *replier = arg;
    bool more = on_item(arg, event, data, len);
    while (!more && replier->running > 0) {
        reap(replier, 0);
    }
    return more;
}

int replier_run(struct replier *replier, struct client *client, const char *subject)
{
    struct client_stream stream = {.on_event = on_item_to_the_end, .on_ready = on_ready, .arg = replier};
    char *url = client_url(client, "/v1/messages", NULL, "subject", subject, "requests", "1", NULL);
    int code = client_stream_run(client, url, &stream);
    while (replier->running > 0) {
        reap(replier, 0);
    }
    return code;
}
