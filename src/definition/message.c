/* SPDX-License-Identifier: Apache-2.0
 *
 * Error lines of the definition. File names and jansson's texts may hold anything; a message is one printable line.
 */
#include "definition/message.h"

#include <string.h>

#define NAME_SHOWN_BYTES_MAX 200 /* the end of a long path tells more than its start */

void cohorti_message_begin(struct cohorti_message *m, cohort_error *error, const char *name)
{
    m->error = error != NULL ? error : &m->ignored;
    cohorti_text_init(&m->text, m->error->text, sizeof(m->error->text));
    if (name == NULL) {
        return;
    }
    size_t len = strlen(name);
    if (len > NAME_SHOWN_BYTES_MAX) {
        cohorti_text_add(&m->text, "...");
        cohorti_text_add(&m->text, name + len - NAME_SHOWN_BYTES_MAX);
    } else {
        cohorti_text_add(&m->text, name);
    }
    cohorti_text_add(&m->text, ":");
}

int cohorti_message_end(struct cohorti_message *m, int code)
{
    for (char *at = m->error->text; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f) {
            *at = '?';
        }
    }
    m->error->code = code;
    return code;
}

int cohorti_message_file(cohort_error *error, const char *name, int code, const char *what, int saved_errno)
{
    struct cohorti_message m;
    char buffer[128];
    cohorti_message_begin(&m, error, name);
    cohorti_text_add(&m.text, name == NULL ? what : " ");
    if (name != NULL) {
        cohorti_text_add(&m.text, what);
    }
    if (saved_errno != 0) {
        cohorti_text_add(&m.text, ": ");
        cohorti_text_add(&m.text, strerror_r(saved_errno, buffer, sizeof(buffer)));
    }
    return cohorti_message_end(&m, code);
}
