/* SPDX-License-Identifier: Apache-2.0
 *
 * The cohort binary: picks the subcommand.
 */
#include "commands.h"
#include "options.h"
#include "output.h"

#include <cohort/cohort.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"agent", "run a node of a cluster", command_agent},
    {"members", "who is in the cluster", command_members},
    {"add", "add a member", command_add},
    {"remove", "remove a member", command_remove},
    {"ping", "measure round trips to a member", command_ping},
    {"bench", "measure latency and throughput to a member", command_bench},
    {"send", "send a message to a member", command_send},
    {"send-file", "send a file of any size to a member", command_send_file},
    {"broadcast", "send a message to every active member", command_broadcast},
    {"request", "ask a member, or all, and print the reply", command_request},
    {"listen", "print messages as they come", command_listen},
    {"watch", "print changes of membership as they happen", command_watch},
    {"stats", "counters and rates of the node and its links", command_stats},
    {"definition", "check, show and change the file of a cluster", command_definition},
    {"config", "the configuration of the agent, and where it comes from", command_config},
    {"decode", "print captured bytes, frame by frame", command_decode},
    {"demo", "start a small cluster on this machine and show it at work", command_demo},
    {"sim", "play simulated clusters and check them", command_sim},
};

enum {
    COMMAND_COUNT = sizeof(commands) / sizeof(commands[0])
};

static void print_usage(FILE *out)
{
    fprintf(out, "Usage: cohort COMMAND [OPTIONS] [OPERANDS]\n\nCommands:\n");
    for (int i = 0; i < COMMAND_COUNT; i++) {
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    }
    fprintf(out, "\n"
                 "  -h, --help     print this and exit; 'cohort COMMAND --help' for one command\n"
                 "      --version  print the version and exit\n"
                 "\n"
                 "Commands find the agent by its control socket: --control PATH, else $COHORT_CONTROL,\n"
                 "else $XDG_RUNTIME_DIR/cohort.sock, else /run/cohort.sock for root, else /tmp/cohort-UID.sock.\n"
                 "\n"
                 "Exit codes: 0 fine, 1 failed, 2 wrong usage.\n");
}

static int run(int argc, char **argv)
{
    const char *name = argv[1];
    static char option[] = "--help";
    char *asked[] = {argv[0], argc > 2 ? argv[2] : NULL, option, NULL};
    if (strcmp(name, "help") == 0 && asked[1] != NULL) { /* 'cohort help send' */
        argc = 3;
        argv = asked;
        name = argv[1];
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_usage(stdout);
        return EXIT_FINE;
    }
    if (strcmp(name, "--version") == 0) {
        printf("cohort %s\n", cohort_version());
        return EXIT_FINE;
    }
    for (int i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            int code = commands[i].run(argc - 1, argv + 1);
            int written = output_flush(name);
            return code == EXIT_FINE ? written : code;
        }
    }
    fprintf(stderr, "cohort: unknown %s '%s'\nTry 'cohort --help'.\n", name[0] == '-' ? "option" : "command", name);
    return EXIT_USAGE;
}

/* A standard descriptor that we were started without would be the number of the next file or socket, which then got our output, or was
 * taken by libuv for one that it must not close. What is written to standard output, or read from standard input, that nobody gave is an
 * error, not nothing: hence opened the wrong way round. False: there is no /dev/null. */
static bool fill_descriptors(void)
{
    static const int modes[] = {O_WRONLY, O_RDONLY, O_RDWR};
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", modes[fd]) != fd) { /* the lowest that is free: those below are there */
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    if (!fill_descriptors()) {
        return EXIT_FAILED; /* there may be nothing to say it to */
    }
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    if (curl_global_init(CURL_GLOBAL_NOTHING) != 0) {
        fprintf(stderr, "cohort: out of memory\n");
        return EXIT_FAILED;
    }
    int code = run(argc, argv);
    int written = output_flush(NULL);
    curl_global_cleanup();
    return code == EXIT_FINE ? written : code;
}
