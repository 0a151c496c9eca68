/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration file: JSON objects of settings; see settings.h and cohort.conf(5).
 *
 * jansson reads it and says where it is not JSON; but its values know no places, and a wrong value deserves its line as well.
 * So the text, which is JSON by then, is walked once more here, and each value is given to jansson by itself. The walk relies on the
 * text being valid and checks nothing of that again.
 */
#include "settings.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FILE_BYTES_MAX = 1 << 20,
    KEY_PATH_MAX = 128,
};

struct walk {
    struct settings *settings;
    const char *path; /* of the file */
    const char *text, *at, *end;
    cohort_error *error;
};

/* ---- complaints ---- */

__attribute__((format(printf, 3, 4))) static int fail(cohort_error *error, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    error->code = code;
    vsnprintf(error->text, sizeof(error->text), format, arguments);
    va_end(arguments);
    for (char *c = error->text; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = '?';
        }
    }
    return code;
}

/* Lines and columns count from 1, columns in characters, as jansson counts them. */
static int fail_at(struct walk *w, const char *place, const char *key, const char *format, ...) __attribute__((format(printf, 4, 5)));

static int fail_at(struct walk *w, const char *place, const char *key, const char *format, ...)
{
    char why[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof(why), format, arguments);
    va_end(arguments);
    int line = 1, column = 1;
    for (const char *c = w->text; c < place; c++) {
        if (*c == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)*c & 0xc0) != 0x80) {
            column++;
        }
    }
    return fail(w->error, COHORT_EINVAL, "%s:%d:%d: %s%s%s", w->path, line, column, key, key[0] != '\0' ? ": " : "", why);
}

/* ---- the walk ---- */

static void skip_space(struct walk *w)
{
    while (w->at < w->end && strchr(" \t\r\n", *w->at) != NULL) {
        w->at++;
    }
}

static void skip_string(struct walk *w)
{
    for (w->at++; *w->at != '"'; w->at++) {
        w->at += *w->at == '\\' ? 1 : 0;
    }
    w->at++;
}

static void skip_value(struct walk *w)
{
    int depth = 0;
    do {
        if (*w->at == '"') {
            skip_string(w);
        } else {
            depth += *w->at == '{' || *w->at == '[' ? 1 : *w->at == '}' || *w->at == ']' ? -1 : 0;
            w->at++;
        }
    } while (w->at < w->end && (depth > 0 || strchr(",}] \t\r\n", *w->at) == NULL));
}

static bool is_section(const char *key)
{
    size_t len = strlen(key);
    for (int i = 0; i < SETTING_COUNT; i++) {
        if (strncmp(settings_table[i].key, key, len) == 0 && settings_table[i].key[len] == '.') {
            return true;
        }
    }
    return false;
}

static const char *type_name(const json_t *value)
{
    static const char *const names[] = {"an object", "an array", "a string", "a number", "a number", "true", "false", "null"};
    return names[json_typeof(value)];
}

/* Paths of the file begin where the file is, wherever the agent was started. */
static int set_path(struct walk *w, enum setting_id id, const char *value)
{
    const char *slash = strrchr(w->path, '/');
    char *whole = NULL;
    if (value[0] == '/' || slash == NULL) {
        return settings_set_text(w->settings, id, ORIGIN_FILE, value);
    }
    if (asprintf(&whole, "%.*s/%s", (int)(slash - w->path), w->path, value) < 0) {
        return COHORT_ENOMEM;
    }
    int status = settings_set_text(w->settings, id, ORIGIN_FILE, whole);
    free(whole);
    return status;
}

static int set_choice(struct walk *w, const char *place, enum setting_id id, const char *text)
{
    const struct setting *setting = &settings_table[id];
    char all[128] = "";
    for (size_t i = 0, len = 0; setting->choices[i] != NULL; i++) {
        if (strcmp(setting->choices[i], text) == 0) {
            settings_set_number(w->settings, id, ORIGIN_FILE, i);
            return COHORT_OK;
        }
        len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s", i == 0 ? "" : ", ", setting->choices[i]);
    }
    return fail_at(w, place, setting->key, "'%.64s' is none of %s", text, all);
}

static int set_string(struct walk *w, const char *place, enum setting_id id, const char *text)
{
    const struct setting *setting = &settings_table[id];
    uint64_t mode;
    if (text[0] == '\0') {
        return fail_at(w, place, setting->key, "must not be empty");
    }
    switch (setting->kind) {
    case SETTING_CHOICE:
        return set_choice(w, place, id, text);
    case SETTING_MODE:
        if (!setting_mode_parse(text, &mode)) {
            return fail_at(w, place, setting->key, "'%.64s' is not permissions like 0660", text);
        }
        settings_set_number(w->settings, id, ORIGIN_FILE, mode);
        return COHORT_OK;
    case SETTING_PATH:
        return set_path(w, id, text);
    default:
        return settings_set_text(w->settings, id, ORIGIN_FILE, text);
    }
}

static int set_value(struct walk *w, const char *place, enum setting_id id, const json_t *value)
{
    const struct setting *setting = &settings_table[id];
    if (setting->kind == SETTING_FLAG) {
        if (!json_is_boolean(value)) {
            return fail_at(w, place, setting->key, "must be true or false, not %s", type_name(value));
        }
        settings_set_number(w->settings, id, ORIGIN_FILE, json_is_true(value));
        return COHORT_OK;
    }
    if (setting->kind != SETTING_NUMBER) {
        return json_is_string(value) ? set_string(w, place, id, json_string_value(value))
                                     : fail_at(w, place, setting->key, "must be a string, not %s", type_name(value));
    }
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 0 || (uint64_t)number < setting->min || (uint64_t)number > setting->max) {
        return fail_at(w, place, setting->key, "must be a whole number from %llu to %llu%s%s", (unsigned long long)setting->min,
                       (unsigned long long)setting->max, json_is_number(value) ? "" : ", not ",
                       json_is_number(value) ? "" : type_name(value));
    }
    settings_set_number(w->settings, id, ORIGIN_FILE, (uint64_t)number);
    return COHORT_OK;
}

static int walk_object(struct walk *w, const char *section);

/* One "key": value. */
static int walk_member(struct walk *w, const char *section)
{
    char key[KEY_PATH_MAX];
    const char *key_at = w->at;
    skip_string(w);
    json_t *name = json_loadb(key_at, (size_t)(w->at - key_at), JSON_DECODE_ANY, NULL);
    bool fits = snprintf(key, sizeof(key), "%s%s%s", section, section[0] != '\0' ? "." : "",
                         name != NULL ? json_string_value(name) : "") < KEY_PATH_MAX;
    json_decref(name);
    skip_space(w);
    w->at++; /* the colon */
    skip_space(w);
    const char *value_at = w->at;
    if (fits && section[0] == '\0' && is_section(key)) {
        return *w->at == '{' ? walk_object(w, key) : fail_at(w, value_at, key, "must be an object");
    }
    skip_value(w);
    for (int i = 0; i < SETTING_COUNT; i++) {
        if (fits && strcmp(settings_table[i].key, key) == 0) {
            json_t *value = json_loadb(value_at, (size_t)(w->at - value_at), JSON_DECODE_ANY, NULL);
            int status = value != NULL ? set_value(w, value_at, (enum setting_id)i, value) : COHORT_ENOMEM;
            json_decref(value);
            return status == COHORT_ENOMEM ? fail(w->error, status, "%s: out of memory", w->path) : status;
        }
    }
    return fail_at(w, key_at, key, "there is no such key");
}

static int walk_object(struct walk *w, const char *section)
{
    w->at++;
    for (skip_space(w); *w->at != '}'; skip_space(w)) {
        int status = walk_member(w, section);
        if (status != COHORT_OK) {
            return status;
        }
        skip_space(w);
        w->at += *w->at == ',' ? 1 : 0;
    }
    w->at++;
    return COHORT_OK;
}

/* ---- files ---- */

int settings_parse(struct settings *s, const char *path, const char *text, size_t len, cohort_error *error)
{
    json_error_t where;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
    bool is_object = json_is_object(root);
    json_decref(root);
    if (root == NULL) {
        return fail(error, COHORT_ESYNTAX, "%s:%d:%d: %s", path, where.line > 0 ? where.line : 1,
                    where.column > 0 ? where.column : 1, where.text);
    }
    struct walk w = {.settings = s, .path = path, .text = text, .at = text, .end = text + len, .error = error};
    skip_space(&w);
    return is_object ? walk_object(&w, "") : fail_at(&w, w.at, "", "must be an object");
}

/* NULL, with `why`, unless it is a regular file: a FIFO would keep us waiting. */
static FILE *open_regular(const char *path, const char **why)
{
    struct stat found;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    FILE *file = NULL;
    if (fd >= 0 && fstat(fd, &found) == 0 && !S_ISREG(found.st_mode)) {
        *why = "not a regular file";
    } else {
        file = fd >= 0 ? fdopen(fd, "rb") : NULL;
        *why = strerror(errno);
    }
    if (fd >= 0 && file == NULL) {
        close(fd);
    }
    return file;
}

int settings_read_file(struct settings *s, const char *path, cohort_error *error)
{
    const char *why;
    FILE *file = open_regular(path, &why);
    if (file == NULL) {
        return fail(error, COHORT_EFILE, "%s: %s", path, why);
    }
    char *text = malloc(FILE_BYTES_MAX + 1);
    size_t len = text != NULL ? fread(text, 1, FILE_BYTES_MAX + 1, file) : 0;
    bool failed = ferror(file) != 0;
    int status;
    if (text == NULL) {
        status = fail(error, COHORT_ENOMEM, "%s: out of memory", path);
    } else if (failed) {
        status = fail(error, COHORT_EFILE, "%s: %s", path, strerror(errno));
    } else if (len > FILE_BYTES_MAX) {
        status = fail(error, COHORT_ESIZE, "%s: larger than %d bytes", path, (int)FILE_BYTES_MAX);
    } else {
        status = settings_parse(s, path, text, len, error);
    }
    fclose(file);
    free(text);
    return status;
}
