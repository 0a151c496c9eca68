/* SPDX-License-Identifier: Apache-2.0
 *
 * The data of a message, from an operand or from standard input.
 */
#ifndef COHORT_CLI_INPUT_H
#define COHORT_CLI_INPUT_H

#include <stddef.h>

struct input {
    char *bytes; /* to be freed */
    size_t len;
};

/** TEXT, or standard input where it is "-" or NULL. EXIT_FINE, or EXIT_FAILED and a complaint that begins with `command`. */
int input_take(const char *command, const char *text, struct input *input);

#endif
