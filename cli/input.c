/* SPDX-License-Identifier: Apache-2.0
 *
 * The data of a message; see input.h.
 */
#include "input.h"

#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INPUT_BYTES_MAX = 64 << 20,
    INPUT_STEP_BYTES = 65536
};

static int complain(const char *command, const char *text)
{
    fprintf(stderr, "cohort %s: %s\n", command, text);
    return EXIT_FAILED;
}

static int read_stdin(const char *command, struct input *input)
{
    size_t capacity = 0;
    for (;;) {
        if (capacity - input->len < INPUT_STEP_BYTES) {
            capacity = capacity * 2 + INPUT_STEP_BYTES;
            char *grown = realloc(input->bytes, capacity);
            if (grown == NULL) {
                return complain(command, "out of memory");
            }
            input->bytes = grown;
        }
        size_t got = fread(input->bytes + input->len, 1, INPUT_STEP_BYTES, stdin);
        input->len += got;
        if (input->len > INPUT_BYTES_MAX) {
            return complain(command, "standard input is larger than 64 MiB, and a message may have 1 MiB, unless the agent sets "
                                     "limits.message_bytes_max; cohort send-file sends any size");
        }
        if (ferror(stdin)) {
            fprintf(stderr, "cohort %s: cannot read standard input: %s\n", command, strerror(errno));
            return EXIT_FAILED;
        }
        if (got == 0) {
            return EXIT_FINE;
        }
    }
}

int input_take(const char *command, const char *text, struct input *input)
{
    if (text == NULL || strcmp(text, "-") == 0) {
        return read_stdin(command, input);
    }
    input->bytes = strdup(text);
    input->len = strlen(text);
    return input->bytes != NULL ? EXIT_FINE : complain(command, "out of memory");
}
