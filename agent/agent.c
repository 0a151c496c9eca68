/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's life: make the plan of what we are to be, take the control socket, open and start the node, serve, wait for a signal,
 * and take all of it down in the opposite order.
 *
 * The control socket comes before the node, so that a second agent at the same place fails before it touches the cluster.
 * The hub's handlers are registered before the node starts, so that no message is missed. HTTP stops before the node
 * closes, so that no request meets a closed node; the hub and the desks live until the node has made its last callback.
 * Signals are blocked before any thread exists and read from a descriptor; nothing runs in signal context.
 */
#include "agent.h"

#include "door.h"
#include "http.h"
#include "notify.h"
#include "reload.h"

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
    TICK_MS = 1000,
    KEEP_ALIVE_TICKS = 5,
    CONNECTIONS_MAX = 256,
    STREAMS_MAX = 64, /* with those below less than CONNECTIONS_MAX, so that a plain request always finds a connection */
    ECHOES_MAX = 64,
    ASKS_MAX = 64,
    UPLOADS_MAX = 32,
    DOWNLOADS_MAX = 16,
    BACKLOG_BYTES_MIN = 8 << 20,
    BODY_BYTES_MAX = 1 << 20, /* unless somebody wants more: it is held whole, and as text for each who listens */
    REQUESTS_MAX = 1024,      /* given to streams, not replied to */
    ESCAPED_BYTES = 8,        /* the largest message fits, escaped: a byte takes up to six */
};

struct agent {
    struct agent_log log;
    const struct agent_options *options;
    struct plan plan; /* what we started from */
    struct effective effective;
    struct notify notify;
    struct control control;
    bool control_held;
    struct door door;
    int signal_fd;
    struct hub *hub;
    struct desk *echoes, *asks, *uploads;
    struct downloads *downloads;
    struct measure *measure;
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

static bool configure(struct agent *agent)
{
    cohort_error error;
    if (!plan_make(&agent->plan, agent->options, &error)) {
        return fail("%s", error.text);
    }
    const struct settings *s = &agent->plan.settings;
    if (effective_start(&agent->effective, s) != COHORT_OK) {
        return fail("out of memory");
    }
    agent->log.format = (enum log_format)settings_number(s, SET_LOG_FORMAT);
    atomic_store(&agent->log.level, (int)settings_number(s, SET_LOG_LEVEL));
    agent->plan.config.log =
        (cohort_log_sink){.write = log_write, .ctx = &agent->log, .level = (cohort_log_level)settings_number(s, SET_LOG_LEVEL)};
    return true;
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

static bool take_control(struct agent *agent)
{
    char why[CONTROL_WHY_MAX];
    agent->control_held =
        control_open(&agent->control, settings_text(&agent->plan.settings, SET_CONTROL_PATH), &agent->plan.access, why);
    return agent->control_held ? true : fail("%s", why);
}

static bool take_door(struct agent *agent)
{
    char why[DOOR_WHY_MAX];
    const char *address = settings_text(&agent->plan.settings, SET_HTTP_LISTEN);
    bool insecure = settings_number(&agent->plan.settings, SET_HTTP_INSECURE) != 0;
    return address == NULL || door_open(&agent->door, address, insecure, why) ? true : fail("%s", why);
}

/* What one request may carry, and one item of a stream: less than what the node takes from others. */
static size_t body_max(const struct agent *agent)
{
    bool is_set = agent->plan.settings.values[SET_LIMITS_MESSAGE_BYTES_MAX].origin != ORIGIN_DEFAULT;
    return is_set ? agent->plan.config.limits.message_bytes_max : BODY_BYTES_MAX;
}

static bool open_node(struct agent *agent)
{
    size_t message_max = body_max(agent);
    const struct hub_limits limits = {
        .streams_max = STREAMS_MAX,
        .requests_max = REQUESTS_MAX,
        .backlog_bytes_max = message_max * ESCAPED_BYTES > BACKLOG_BYTES_MIN ? message_max * ESCAPED_BYTES : BACKLOG_BYTES_MIN,
    };
    cohort_error error = {.code = COHORT_OK};
    cohort_handle_id ignored;
    agent->hub = hub_new(&limits);
    agent->echoes = desk_new(ECHOES_MAX);
    agent->asks = desk_new(ASKS_MAX);
    agent->measure = measure_new();
    agent->uploads = desk_new(UPLOADS_MAX);
    agent->downloads = downloads_new(DOWNLOADS_MAX);
    if (agent->hub == NULL || agent->echoes == NULL || agent->asks == NULL || agent->uploads == NULL || agent->downloads == NULL ||
        agent->measure == NULL) {
        return fail("out of memory");
    }
    agent->plan.config.deliver_local = true; /* whoever listens here hears what is sent here */
    if (cohort_node_open(&agent->plan.config, &agent->node, &error) != COHORT_OK) {
        return fail("%s", error.text);
    }
    if (cohort_listen(agent->node, hub_on_event, agent->hub, NULL, &ignored) != COHORT_OK ||
        cohort_on_undelivered(agent->node, hub_on_undelivered, agent->hub, NULL, &ignored) != COHORT_OK ||
        cohort_on_writable(agent->node, upload_on_writable, agent->uploads, NULL, &ignored) != COHORT_OK ||
        cohort_handle(agent->node, NULL, hub_on_message, agent->hub, NULL, &ignored) != COHORT_OK ||
        measure_serve(agent->measure, agent->node) != COHORT_OK) {
        return fail("cannot register with the node");
    }
    cohort_node_local(agent->node, &agent->local);
    memcpy(agent->log.node, agent->local.id, sizeof(agent->log.node));
    if (cohort_node_start(agent->node, &error) != COHORT_OK) {
        return fail("cannot start %s at %s:%u: %s", agent->local.id, agent->local.ip, (unsigned)agent->local.tcp_port, error.text);
    }
    return true;
}

static void say_up(struct agent *agent)
{
    char text[384];
    const struct control_access *access = &agent->plan.access;
    snprintf(text, sizeof(text), "%s is up at %s:%u", agent->local.id, agent->local.ip, (unsigned)agent->local.tcp_port);
    log_say(&agent->log, COHORT_LOG_INFO, "%s, control %s", text, agent->control.path);
    const cohort_definition *definition = &agent->plan.definition;
    if (definition->node_count > 0 && cohort_definition_find(definition, agent->local.id) == NULL) {
        log_say(&agent->log, COHORT_LOG_WARN, "%s is not in %s: members that know only those in it refuse us", agent->local.id,
                settings_text(&agent->plan.settings, SET_CLUSTER));
    }
    if ((access->mode & 0006) != 0) {
        log_say(&agent->log, COHORT_LOG_WARN, "control %s has mode %04o: everybody on this machine may use it", agent->control.path,
                (unsigned)access->mode);
    }
    if (agent->door.text[0] != '\0') {
        log_say(&agent->log, agent->door.loopback ? COHORT_LOG_INFO : COHORT_LOG_WARN, "http at %s: %s", agent->door.text,
                agent->door.loopback ? "everybody on this machine may use it" : "insecure, everybody who reaches it may use it");
    }
    notify_ready(&agent->notify, text);
}

static bool serve(struct agent *agent)
{
    const struct agent_service service = {
        .node = agent->node,
        .local_id = agent->local.id,
        .definition_path = settings_text(&agent->plan.settings, SET_CLUSTER),
        .hub = agent->hub,
        .echoes = agent->echoes,
        .asks = agent->asks,
        .measure = agent->measure,
        .uploads = agent->uploads,
        .downloads = agent->downloads,
        .effective = &agent->effective,
        .body_bytes_max = body_max(agent),
    };
    const struct http_listener listeners[] = {
        {.fd = agent->control.listen_fd},
        {.fd = agent->door.listen_fd, .tcp = true, .loopback = agent->door.loopback},
    };
    agent->http = http_start(&service, listeners, agent->door.listen_fd >= 0 ? 2 : 1, CONNECTIONS_MAX);
    if (agent->http == NULL) {
        return fail("cannot start the HTTP server at %s", agent->control.path);
    }
    agent->control.listen_fd = -1;
    agent->door.listen_fd = -1;
    log_release(&agent->log);
    say_up(agent);
    return true;
}

static void reload(struct agent *agent)
{
    const struct reload reload = {
        .node = agent->node,
        .log = &agent->log,
        .control = &agent->control,
        .effective = &agent->effective,
    };
    struct plan plan;
    cohort_error error;
    notify_reloading(&agent->notify);
    log_say(&agent->log, COHORT_LOG_INFO, "SIGHUP: reloading");
    if (plan_make(&plan, agent->options, &error)) {
        reload_apply(&reload, &plan);
        log_say(&agent->log, COHORT_LOG_INFO, "reloaded");
        notify_ready(&agent->notify, "reloaded");
    } else {
        log_say(&agent->log, COHORT_LOG_ERROR, "reload: %s; nothing is changed", error.text);
        notify_ready(&agent->notify, "the last reload failed: see the log");
    }
}

/* The name of the signal that ends us. */
static const char *wait_for_signal(struct agent *agent)
{
    struct signalfd_siginfo signal_info;
    for (unsigned ticks = 0;;) {
        struct pollfd poll_fd = {.fd = agent->signal_fd, .events = POLLIN};
        if (poll(&poll_fd, 1, TICK_MS) == 0) {
            desk_wake(agent->uploads); /* one that has waited too long gives up */
            if (++ticks % KEEP_ALIVE_TICKS == 0) {
                hub_keep_alive(agent->hub);
                downloads_keep_alive(agent->downloads);
            }
        } else if (read(agent->signal_fd, &signal_info, sizeof(signal_info)) != (ssize_t)sizeof(signal_info)) {
            continue;
        } else if (signal_info.ssi_signo == SIGHUP) {
            reload(agent);
        } else {
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
    measure_join(agent->measure);
    if (agent->node != NULL && cohort_node_close(agent->node, CLOSE_TIMEOUT_MS) == COHORT_ETIMEDOUT) {
        log_say(&agent->log, COHORT_LOG_WARN, "not all that was queued could be sent");
    }
    hub_free(agent->hub);
    desk_free(agent->echoes);
    desk_free(agent->asks);
    measure_free(agent->measure);
    desk_free(agent->uploads);
    downloads_free(agent->downloads);
    if (agent->control_held) {
        control_close(&agent->control);
    }
    if (agent->door.listen_fd >= 0) {
        close(agent->door.listen_fd);
    }
    if (agent->signal_fd >= 0) {
        close(agent->signal_fd);
    }
    effective_deinit(&agent->effective);
    plan_free(&agent->plan);
    log_deinit(&agent->log);
}

int agent_run(const struct agent_options *options)
{
    struct agent agent = {.options = options, .signal_fd = -1, .door = {.listen_fd = -1}};
    log_init(&agent.log, LOG_TEXT, COHORT_LOG_INFO);
    effective_init(&agent.effective, options->config_path);
    notify_init(&agent.notify);
    bool up = configure(&agent) && take_signals(&agent) && take_control(&agent) && take_door(&agent) && open_node(&agent) &&
              serve(&agent);
    if (up) {
        const char *name = wait_for_signal(&agent);
        notify_stopping(&agent.notify);
        log_say(&agent.log, COHORT_LOG_INFO, "SIG%s: closing", name != NULL ? name : "?");
    }
    close_all(&agent);
    return up ? 0 : 1;
}
