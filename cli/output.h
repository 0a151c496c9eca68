/* SPDX-License-Identifier: Apache-2.0
 *
 * What commands print: whether it arrived, with the one complaint if not.
 */
#ifndef COHORT_CLI_OUTPUT_H
#define COHORT_CLI_OUTPUT_H

#include <stddef.h>

/**
 * Everything printed is out. EXIT_FINE, or EXIT_FAILED: then the first call has said so, as "cohort COMMAND: cannot write: REASON". Call it at
 * once behind printing more than a little: the reason is in errno until something else fails.
 *
 * command   NULL: of none.
 */
int output_flush(const char *command);

/** Print these bytes, and that. */
int output_bytes(const char *command, const void *bytes, size_t len);

#endif
