/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort agent: reads the command line and runs the agent.
 */
#include "commands.h"
#include "options.h"

#include "agent.h"

static const struct usage usage = {
    .command = "agent",
    .operands = "",
    .summary = "Run a node of a cluster in the foreground, and serve it on a control socket, until SIGTERM or SIGINT.",
    .notes = "The ip is that of --ip, else $COHORT_IP, else 127.0.1.1. The id is the ip unless --id gives one. If the definition\n"
             "has a node with that id, its ip and port are used unless --ip or --port gives others.",
};

static const char *const levels[] = {"debug", "info", "warn", "error", "off", NULL};
static const char *const formats[] = {"text", "json", NULL};
static const char *const admissions[] = {"open", "listed", NULL};
static const char *const dials[] = {"backoff", "seed", NULL};

/* A choice is an index; where the enum of the library counts otherwise, this says so. */
_Static_assert(COHORT_LOG_DEBUG == 0 && COHORT_LOG_OFF == 4, "levels follow cohort_log_level");
_Static_assert(COHORT_DIAL_BACKOFF == 0 && COHORT_DIAL_SEED == 1, "dials follow cohort_dial_mode");
_Static_assert(COHORT_ADMIT_OPEN == 1 && COHORT_ADMIT_LISTED == 2, "admissions follow cohort_admission, less one");

int command_agent(int argc, char **argv)
{
    struct agent_options agent = {.loop_count = AGENT_LOOPS_DEFAULT};
    int level = COHORT_LOG_INFO, format = LOG_TEXT, admission = -1, dial = COHORT_DIAL_BACKOFF;
    uint64_t port = 0, loops = AGENT_LOOPS_DEFAULT;
    const struct option options[] = {
        {.name = "cluster", .kind = OPTION_TEXT, .value = "FILE", .target = &agent.cluster_path, .help = "cluster definition, JSON"},
        {.name = "no-watch", .kind = OPTION_FLAG, .target = &agent.no_watch, .help = "do not follow changes of the definition"},
        {.name = "id", .kind = OPTION_TEXT, .value = "ID", .target = &agent.id, .help = "who we are (default: the ip)"},
        {.name = "ip", .kind = OPTION_TEXT, .value = "IP", .target = &agent.ip, .help = "address or host name to tell peers"},
        {.name = "bind",
         .kind = OPTION_TEXT,
         .value = "IP",
         .target = &agent.bind,
         .help = "address to listen at (default: the ip, or the definition's)"},
        {.name = "port",
         .kind = OPTION_NUMBER,
         .value = "N",
         .target = &port,
         .min = 1,
         .max = 65535,
         .help = "TCP port (default: the definition's, else 9876)"},
        {.name = "control",
         .kind = OPTION_TEXT,
         .value = "PATH",
         .target = &agent.control_path,
         .help = "control socket (default: see cohort --help)"},
        {.name = "log-level",
         .kind = OPTION_CHOICE,
         .value = "LEVEL",
         .target = &level,
         .choices = levels,
         .help = "least level, default info"},
        {.name = "log-format",
         .kind = OPTION_CHOICE,
         .value = "FORMAT",
         .target = &format,
         .choices = formats,
         .help = "log lines on stderr, default text"},
        {.name = "admission",
         .kind = OPTION_CHOICE,
         .value = "WHO",
         .target = &admission,
         .choices = admissions,
         .help = "who may join, default listed with a definition, else open"},
        {.name = "dial",
         .kind = OPTION_CHOICE,
         .value = "HOW",
         .target = &dial,
         .choices = dials,
         .help = "pace of dialling, default backoff"},
        {.name = "loops",
         .kind = OPTION_NUMBER,
         .value = "N",
         .target = &loops,
         .min = 0,
         .max = 64,
         .help = "threads that carry links, besides the one for membership (default 3)"},
        {.name = NULL},
    };
    const char *operands[OPERANDS_MAX];
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    agent.tcp_port = (uint16_t)port;
    agent.loop_count = (uint32_t)loops;
    agent.log_level = (cohort_log_level)level;
    agent.log_format = (enum log_format)format;
    agent.admission = (cohort_admission)(admission + 1);
    agent.dial = (cohort_dial_mode)dial;
    return agent_run(&agent);
}
