/* SPDX-License-Identifier: Apache-2.0
 * One error line in the making: "FILE: what", cut where it is too long so that the reason is still there. */
#ifndef COHORTI_DEFINITION_MESSAGE_H
#define COHORTI_DEFINITION_MESSAGE_H

#include "base/text.h"

#include <cohort/error.h>

struct cohorti_message {
    struct cohorti_text text;
    cohort_error *error;
    cohort_error ignored; /* written when the caller wants no text */
};

/** error may be NULL; name too: then the line begins with what follows. */
void cohorti_message_begin(struct cohorti_message *m, cohort_error *error, const char *name);
/** Returns code. */
int cohorti_message_end(struct cohorti_message *m, int code);
/** "NAME: what", and what errno says unless it is 0. */
int cohorti_message_file(cohort_error *error, const char *name, int code, const char *what, int saved_errno);

#endif
