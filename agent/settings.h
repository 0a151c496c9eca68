/* SPDX-License-Identifier: Apache-2.0
 *
 * What can be set of an agent: one table, from which come the options of `cohort agent`, the keys of its configuration file, the
 * ranges both are checked against, and what `cohort config show` prints. A new setting is one row.
 */
#ifndef COHORT_AGENT_SETTINGS_H
#define COHORT_AGENT_SETTINGS_H

#include <cohort/cohort.h>

enum setting_kind {
    SETTING_TEXT,
    SETTING_PATH, /* in the file: relative to the directory of the file */
    SETTING_NUMBER,
    SETTING_CHOICE, /* its number is an index into choices */
    SETTING_FLAG,
    SETTING_MODE, /* permissions: octal text, its number the bits */
};

enum setting_id {
    SET_CLUSTER,
    SET_NO_WATCH,
    SET_ID,
    SET_IP,
    SET_BIND,
    SET_PORT,
    SET_CONTROL_PATH,
    SET_CONTROL_MODE,
    SET_CONTROL_GROUP,
    SET_HTTP_LISTEN,
    SET_HTTP_INSECURE,
    SET_LOG_LEVEL,
    SET_LOG_FORMAT,
    SET_ADMISSION,
    SET_LOOPS,
    SET_LOOK_US,
    SET_DIAL_MODE,
    SET_DIAL_DELAY_MIN_MS,
    SET_DIAL_DELAY_MAX_MS,
    SET_DIAL_CONNECT_TIMEOUT_MS,
    SET_LIMITS_MEMBERS_MAX,
    SET_LIMITS_REMOVED_MAX,
    SET_LIMITS_HANDSHAKES_MAX,
    SET_LIMITS_HANDSHAKE_TIMEOUT_MS,
    SET_LIMITS_LEGACY_LINKS_MAX,
    SET_LIMITS_MESSAGE_BYTES_MAX,
    SET_LIMITS_PEER_QUEUE_BYTES_MAX,
    SET_LIMITS_NODE_QUEUE_BYTES_MAX,
    SET_LIMITS_SUBJECTS_MAX,
    SET_LIMITS_ECHOES_MAX,
    SET_LIMITS_HANDLERS_MAX,
    SET_LIMITS_WINDOW_BYTES,
    SET_LIMITS_REQUESTS_MAX,
    SET_LIMITS_LEGACY_IDLE_MS,
    SET_LIMITS_HANDLER_MS,
    SETTING_COUNT
};

struct setting {
    const char *key;   /* path in the file, "log.level" */
    const char *flag;  /* option of `cohort agent`, without "--"; NULL: in the file only */
    const char *value; /* what --help calls the value */
    const char *help;
    uint64_t min, max;
    const char *const *choices; /* ends with NULL */
    enum setting_kind kind;
    bool live; /* a reload changes it; else a restart does */
};

extern const struct setting settings_table[SETTING_COUNT];

/** Where a value comes from. A higher one wins, except that the definition gives address and port to the id found in it. */
enum setting_origin {
    ORIGIN_DEFAULT,
    ORIGIN_ENVIRONMENT,
    ORIGIN_DEFINITION,
    ORIGIN_FILE,
    ORIGIN_FLAG,
};

/** "default", "environment", "definition", "file", "flag" */
const char *setting_origin_name(enum setting_origin origin);

struct setting_value {
    bool present; /* false: nothing is set, and there is no default */
    enum setting_origin origin;
    uint64_t number;
    char *text; /* owned; NULL for numbers, choices, flags */
};

/** Values by setting_id. All zero is a valid, empty set. */
struct settings {
    struct setting_value values[SETTING_COUNT];
};

void settings_free(struct settings *s);

/** The defaults. COHORT_ENOMEM never happens here: no default is a text. */
void settings_init(struct settings *s);

/** Set one value, text copied. COHORT_ENOMEM: unchanged. */
COHORT_NODISCARD int settings_set_text(struct settings *s, enum setting_id id, enum setting_origin origin, const char *text);
void settings_set_number(struct settings *s, enum setting_id id, enum setting_origin origin, uint64_t number);

/** Put the values that `over` has over those of `s`. */
COHORT_NODISCARD int settings_overlay(struct settings *s, const struct settings *over);

/** NULL when not set. */
const char *settings_text(const struct settings *s, enum setting_id id);
uint64_t settings_number(const struct settings *s, enum setting_id id);
bool settings_equal(const struct settings *a, const struct settings *b, enum setting_id id);

/** Permissions as octal digits: the owner may read and write, and nobody execute. */
bool setting_mode_parse(const char *text, uint64_t *out);

/** A value as people read it; "-" when not set. */
void setting_print(const struct settings *s, enum setting_id id, char *out, size_t cap);

/**
 * Read a configuration file over `s`. On failure error->text is one line, "FILE:LINE:COLUMN: log.level: ...", and `s` may have been
 * changed in part.
 *
 *   COHORT_EFILE    cannot be opened or read, or is not a regular file.
 *   COHORT_ESIZE    larger than 1 MiB.
 *   COHORT_ESYNTAX  not JSON, or a key twice.
 *   COHORT_EINVAL   an unknown key, or a value of the wrong type or out of range.
 *   COHORT_ENOMEM
 */
COHORT_NODISCARD int settings_read_file(struct settings *s, const char *path, cohort_error *error);

/** The same from memory; `path` names it in messages, and its directory is where paths begin. */
COHORT_NODISCARD int settings_parse(struct settings *s, const char *path, const char *text, size_t len, cohort_error *error);

/**
 * Fill in what follows from the rest: who we are (as the seed settled it: the ip names us unless an id is given; a definition's node with
 * our id lends us its address), who may join, and the default control path. `definition` has no nodes when there is none.
 * COHORT_EINVAL: error says why there is no control path. COHORT_ENOMEM.
 */
COHORT_NODISCARD int settings_resolve(struct settings *s, const cohort_definition *definition, cohort_error *error);

/** What the library is to be told, after settings_resolve(). Borrows from `s` and `definition`; the log is left to the caller. */
void settings_to_config(const struct settings *s, const cohort_definition *definition, cohort_config *config);

#endif
