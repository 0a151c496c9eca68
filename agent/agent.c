/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's life: settle who we are, take the control socket, open and start the node, serve, wait for a signal, and take
 * all of it down in the opposite order.
 *
 * The control socket comes before the node, so that a second agent at the same place fails before it touches the cluster.
 * The hub's handlers are registered before the node starts, so that no message is missed. HTTP stops before the node
 * closes, so that no request meets a closed node; the hub and the echo desk live until the node has made its last callback.
 * Signals are blocked before any thread exists and read from a descriptor; nothing runs in signal context.
 */
#include "agent.h"

#include "control.h"
#include "http.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
    CLOSE_TIMEOUT_MS = 3000,   /* for peers to take what is queued */
    STREAMS_TIMEOUT_MS = 1000, /* for readers of streams to take theirs */
    KEEP_ALIVE_MS = 5000,
    CONNECTIONS_MAX = 256,
    STREAMS_MAX = 64, /* with the echoes below CONNECTIONS_MAX, so that a plain request always finds a connection */
    ECHOES_MAX = 64,
    BACKLOG_BYTES_MAX = 8 << 20, /* the largest message fits, escaped */
};

struct agent {
    struct agent_log log;
    cohort_definition definition;
    cohort_config config;
    struct control control;
    bool control_held;
    int signal_fd;
    struct hub *hub;
    struct echo_desk *echoes;
    cohort_node *node;
    struct http *http;
    cohort_member local;
};

__attribute__((format(printf, 1, 2))) static bool fail(const char *format, ...)
{
    char text[CONTROL_WHY_MAX + 256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    fprintf(stderr, "cohort agent: %s\n", text);
    return false;
}

/* As the seed settled it: the ip names us unless an id is given; a definition's node with our id lends us its address. */
static bool settle_identity(struct agent *agent, const struct agent_options *options)
{
    cohort_error error;
    if (options->cluster_path != NULL) {
        if (cohort_definition_read(options->cluster_path, &agent->definition, &error) != COHORT_OK) {
            return fail("%s", error.text);
        }
        agent->config.definition = &agent->definition;
        agent->config.definition_path = options->no_watch ? NULL : options->cluster_path;
    }
    const char *env_ip = getenv("COHORT_IP");
    const char *own_ip = env_ip != NULL && env_ip[0] != '\0' ? env_ip : COHORT_IP_DEFAULT;
    if (options->ip != NULL) {
        own_ip = options->ip;
    }
    const char *id = options->id != NULL ? options->id : own_ip;
    const cohort_definition_node *self = cohort_definition_find(&agent->definition, id);
    agent->config.id = id;
    agent->config.ip = options->ip != NULL || self == NULL ? own_ip : NULL;
    agent->config.bind = options->bind;
    agent->config.tcp_port = options->tcp_port;
    return true;
}

static void configure(struct agent *agent, const struct agent_options *options)
{
    COHORT_CONFIG_INIT(&agent->config);
    log_init(&agent->log, options->log_format, options->log_level);
    agent->config.admission = options->admission;
    agent->config.dial.mode = options->dial;
    if (options->loop_count != AGENT_LOOPS_DEFAULT) {
        agent->config.loop_count = options->loop_count;
    }
    agent->config.log = (cohort_log_sink){.write = log_write, .ctx = &agent->log, .level = options->log_level};
}

static bool take_signals(struct agent *agent)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) {
        return fail("cannot block signals: %s", strerror(errno));
    }
    agent->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return agent->signal_fd >= 0 ? true : fail("cannot read signals: %s", strerror(errno));
}

static bool take_control(struct agent *agent, const char *path)
{
    char default_path[CONTROL_PATH_MAX + 1];
    char why[CONTROL_WHY_MAX];
    bool shared;
    if (path == NULL) {
        if (!control_default_path(default_path, &shared, why)) {
            return fail("%s", why);
        }
        path = default_path;
    }
    agent->control_held = control_open(&agent->control, path, why);
    return agent->control_held ? true : fail("%s", why);
}

static bool open_node(struct agent *agent)
{
    const struct hub_limits limits = {.streams_max = STREAMS_MAX, .backlog_bytes_max = BACKLOG_BYTES_MAX};
    cohort_error error = {.code = COHORT_OK};
    cohort_handle_id ignored;
    agent->hub = hub_new(&limits);
    agent->echoes = echo_desk_new(ECHOES_MAX);
    if (agent->hub == NULL || agent->echoes == NULL) {
        return fail("out of memory");
    }
    if (cohort_node_open(&agent->config, &agent->node, &error) != COHORT_OK) {
        return fail("%s", error.text);
    }
    if (cohort_listen(agent->node, hub_on_event, agent->hub, NULL, &ignored) != COHORT_OK ||
        cohort_handle(agent->node, NULL, hub_on_message, agent->hub, NULL, &ignored) != COHORT_OK) {
        return fail("cannot register with the node");
    }
    cohort_node_local(agent->node, &agent->local);
    memcpy(agent->log.node, agent->local.id, sizeof(agent->log.node));
    if (cohort_node_start(agent->node, &error) != COHORT_OK) {
        return fail("cannot start %s at %s:%u: %s", agent->local.id, agent->local.ip, (unsigned)agent->local.tcp_port, error.text);
    }
    return true;
}

static bool serve(struct agent *agent, const struct agent_options *options)
{
    const struct agent_service service = {
        .node = agent->node,
        .local_id = agent->local.id,
        .definition_path = options->cluster_path,
        .hub = agent->hub,
        .echoes = agent->echoes,
        .body_bytes_max = agent->config.limits.message_bytes_max,
    };
    agent->http = http_start(&service, agent->control.listen_fd, CONNECTIONS_MAX);
    if (agent->http == NULL) {
        return fail("cannot start the HTTP server at %s", agent->control.path);
    }
    agent->control.listen_fd = -1;
    log_release(&agent->log);
    log_say(&agent->log, COHORT_LOG_INFO, "%s is up at %s:%u, control %s", agent->local.id, agent->local.ip,
            (unsigned)agent->local.tcp_port, agent->control.path);
    return true;
}

/* The name of the signal that ends us. */
static const char *wait_for_signal(struct agent *agent)
{
    struct signalfd_siginfo signal_info;
    for (;;) {
        struct pollfd poll_fd = {.fd = agent->signal_fd, .events = POLLIN};
        if (poll(&poll_fd, 1, KEEP_ALIVE_MS) == 0) {
            hub_keep_alive(agent->hub);
        } else if (read(agent->signal_fd, &signal_info, sizeof(signal_info)) == (ssize_t)sizeof(signal_info)) {
            return sigabbrev_np((int)signal_info.ssi_signo);
        }
    }
}

static void close_all(struct agent *agent)
{
    if (agent->control_held) {
        control_unlink(&agent->control);
    }
    http_stop(agent->http, STREAMS_TIMEOUT_MS);
    if (agent->node != NULL && cohort_node_close(agent->node, CLOSE_TIMEOUT_MS) == COHORT_ETIMEDOUT) {
        log_say(&agent->log, COHORT_LOG_WARN, "not all that was queued could be sent");
    }
    hub_free(agent->hub);
    echo_desk_free(agent->echoes);
    if (agent->control_held) {
        control_close(&agent->control);
    }
    if (agent->signal_fd >= 0) {
        close(agent->signal_fd);
    }
    cohort_definition_free(&agent->definition);
    log_deinit(&agent->log);
}

int agent_run(const struct agent_options *options)
{
    struct agent agent = {.signal_fd = -1};
    configure(&agent, options);
    bool up = settle_identity(&agent, options) && take_signals(&agent) && take_control(&agent, options->control_path) &&
              open_node(&agent) && serve(&agent, options);
    if (up) {
        const char *name = wait_for_signal(&agent);
        log_say(&agent.log, COHORT_LOG_INFO, "SIG%s: closing", name != NULL ? name : "?");
    }
    close_all(&agent);
    return up ? 0 : 1;
}
