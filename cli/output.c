/* SPDX-License-Identifier: Apache-2.0
 *
 * Standard output; see output.h. A write that fails while stdio makes room in its buffer is remembered by ferror() alone: what was in the
 * buffer is thrown away, and a later fflush() has nothing to fail with.
 */
#include "output.h"

#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int output_flush(const char *command)
{
    static bool complained;
    int reason = errno;
    bool failed = ferror(stdout) != 0;
    if (fflush(stdout) != 0 && !failed) {
        failed = true;
        reason = errno;
    }
    if (failed && !complained) {
        complained = true;
        fprintf(stderr, "cohort%s%s: cannot write: %s\n", command != NULL ? " " : "", command != NULL ? command : "",
                reason != 0 ? strerror(reason) : "output was lost");
    }
    return failed ? EXIT_FAILED : EXIT_FINE;
}

int output_bytes(const char *command, const void *bytes, size_t len)
{
    (void)fwrite(bytes, 1, len, stdout); /* what it says, ferror() says too */
    return output_flush(command);
}
