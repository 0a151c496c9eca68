/* SPDX-License-Identifier: Apache-2.0
 *
 * Command lines by table: what a command takes, its --help, and every complaint about wrong use come from one description.
 */
#ifndef COHORT_CLI_OPTIONS_H
#define COHORT_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    EXIT_FINE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2
};

enum option_kind {
    OPTION_FLAG,   /* bool * */
    OPTION_TEXT,   /* const char ** */
    OPTION_NUMBER, /* uint64_t *, min .. max */
    OPTION_CHOICE, /* int *: index into choices */
    OPTION_MAYBE,  /* uint64_t *: a number given with '=', else min */
};

struct option {
    const char *name; /* without "--"; NULL ends a table */
    char letter;      /* 0: none */
    enum option_kind kind;
    const char *value; /* what --help calls it */
    const char *help;
    void *target;
    uint64_t min, max;
    const char *const *choices; /* ends with NULL */
};

struct usage {
    const char *command;  /* "send" */
    const char *operands; /* "ID SUBJECT [TEXT|-]" */
    const char *summary;
    const char *notes; /* NULL or lines for --help */
    int operands_min, operands_max;
};

enum {
    OPERANDS_MAX = 4
};

/**
 * Read a command line: argv[0] is the command, options and operands come in any order, "--" ends the options, a lone "-" is
 * an operand.
 *
 * operands   filled; the rest of the places is NULL.
 * exit_code  when false is returned: --help was printed (0), or a complaint with a hint (2).
 */
bool options_parse(const struct usage *usage, const struct option *options, int argc, char **argv,
                   const char *operands[OPERANDS_MAX], int *exit_code);

/** The same complaint about what the table cannot say, such as options that do not go together; EXIT_USAGE. */
int options_misuse(const struct usage *usage, const char *why);

/** Choices of an option that names a lane, in the order of cohort_lane. */
extern const char *const lane_names[];

/** The option every client command has. */
#define OPTION_CONTROL(variable)                                                        \
    {                                                                                   \
        .name = "control", .kind = OPTION_TEXT, .value = "PATH", .target = &(variable), \
        .help = "control socket of the agent (default: see cohort --help)"              \
    }

#endif
