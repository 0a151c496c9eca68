/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of settings, and sets of their values; see settings.h.
 *
 * The ranges are those of the library, which checks again, and also what depends on two values. They are repeated here so that a file
 * is told its line.
 */
#include "settings.h"

#include "control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const levels[] = {"debug", "info", "warn", "error", "off", NULL};
static const char *const formats[] = {"text", "json", NULL};
static const char *const admissions[] = {"open", "listed", NULL};
static const char *const dials[] = {"backoff", "seed", NULL};

/* A choice is an index; where the enum of the library counts otherwise, this says so. */
_Static_assert(COHORT_LOG_DEBUG == 0 && COHORT_LOG_OFF == 4, "levels follow cohort_log_level");
_Static_assert(COHORT_DIAL_BACKOFF == 0 && COHORT_DIAL_SEED == 1, "dials follow cohort_dial_mode");
_Static_assert(COHORT_ADMIT_OPEN == 1 && COHORT_ADMIT_LISTED == 2, "admissions follow cohort_admission, less one");

#define HOUR_MS 3600000

/* key, option, what the value is called, help, then what the kind needs. Order of setting_id. */
#define TEXT(key_, flag_, value_, help_) .key = (key_), .flag = (flag_), .kind = SETTING_TEXT, .value = (value_), .help = (help_)
#define FILE_PATH(key_, flag_, value_, help_) \
    .key = (key_), .flag = (flag_), .kind = SETTING_PATH, .value = (value_), .help = (help_)
#define NUMBER(key_, flag_, min_, max_, help_) \
    .key = (key_), .flag = (flag_), .kind = SETTING_NUMBER, .value = "N", .min = (min_), .max = (max_), .help = (help_)
#define CHOICE(key_, flag_, value_, choices_, help_) \
    .key = (key_), .flag = (flag_), .kind = SETTING_CHOICE, .value = (value_), .choices = (choices_), .help = (help_)

const struct setting settings_table[SETTING_COUNT] = {
    [SET_CLUSTER] = {FILE_PATH("cluster", "cluster", "FILE", "cluster definition, JSON; its changes are followed")},
    [SET_NO_WATCH] = {.key = "no_watch",
                      .flag = "no-watch",
                      .kind = SETTING_FLAG,
                      .help = "do not follow changes of the definition: only a reload reads it again"},
    [SET_ID] = {TEXT("id", "id", "ID", "who we are (default: the ip)")},
    [SET_IP] = {TEXT("ip", "ip", "IP", "address or host name to tell peers")},
    [SET_BIND] = {TEXT("bind", "bind", "IP", "address to listen at (default: the definition's, else the ip)")},
    [SET_PORT] = {NUMBER("port", "port", 1, 65535, "TCP port (default: the definition's, else 9876)")},
    [SET_CONTROL_PATH] = {FILE_PATH("control.path", "control", "PATH", "control socket (default: see cohort --help)")},
    [SET_CONTROL_MODE] = {.key = "control.mode",
                          .flag = "control-mode",
                          .kind = SETTING_MODE,
                          .value = "MODE",
                          .help = "permissions of the control socket, octal, default 0600",
                          .live = true},
    [SET_CONTROL_GROUP] = {TEXT("control.group", "control-group", "GROUP", "group of the control socket, a name or a number"),
                           .live = true},
    [SET_HTTP_LISTEN] = {TEXT("http.listen", "http", "ADDR:PORT", "serve HTTP there too, without authentication (default: nowhere)")},
    [SET_HTTP_INSECURE] = {.key = "http.insecure",
                           .flag = "http-insecure",
                           .kind = SETTING_FLAG,
                           .help = "allow --http at an address that other machines reach"},
    [SET_LOG_LEVEL] = {CHOICE("log.level", "log-level", "LEVEL", levels, "least level, default info"), .live = true},
    [SET_LOG_FORMAT] = {CHOICE("log.format", "log-format", "FORMAT", formats, "log lines on stderr, default text")},
    [SET_ADMISSION] = {CHOICE("admission", "admission", "WHO", admissions,
                              "who may join, default listed with a definition, else open")},
    [SET_LOOPS] = {NUMBER("loops", "loops", 0, 64, "threads that carry links, besides the one for membership (default 3)")},
    [SET_LOOK_US] = {NUMBER("look_us", NULL, 0, 1000, "microseconds that a thread waits awake for more (default 50); 0: never")},
    [SET_DIAL_MODE] = {CHOICE("dial.mode", "dial", "HOW", dials, "pace of dialling, default backoff")},
    [SET_DIAL_DELAY_MIN_MS] = {NUMBER("dial.delay_min_ms", NULL, 1, HOUR_MS, "first pause of a back-off")},
    [SET_DIAL_DELAY_MAX_MS] = {NUMBER("dial.delay_max_ms", NULL, 1, HOUR_MS, "longest pause of a back-off")},
    [SET_DIAL_CONNECT_TIMEOUT_MS] = {NUMBER("dial.connect_timeout_ms", NULL, 1, HOUR_MS,
                                            "a connect unanswered for so long has failed")},
    [SET_LIMITS_MEMBERS_MAX] = {NUMBER("limits.members_max", NULL, 1, 65536, "members, the local node included")},
    [SET_LIMITS_REMOVED_MAX] = {NUMBER("limits.removed_max", NULL, 0, 65536, "removed ids remembered")},
    [SET_LIMITS_HANDSHAKES_MAX] = {NUMBER("limits.handshakes_max", NULL, 1, 1000000, "accepted connections that have not greeted")},
    [SET_LIMITS_HANDSHAKE_TIMEOUT_MS] = {NUMBER("limits.handshake_timeout_ms", NULL, 1, HOUR_MS, "from connected to open")},
    [SET_LIMITS_LEGACY_LINKS_MAX] = {NUMBER("limits.legacy_links_max", NULL, 1, 1024,
                                            "parallel links kept from one member of the 2014 system")},
    [SET_LIMITS_MESSAGE_BYTES_MAX] = {NUMBER("limits.message_bytes_max", NULL, 1024, UINT64_C(1) << 30, "data of one message")},
    [SET_LIMITS_PEER_QUEUE_BYTES_MAX] = {NUMBER("limits.peer_queue_bytes_max", NULL, 65536, UINT64_C(4095) << 20,
                                                "bytes accepted for one peer and not acknowledged, in each lane")},
    [SET_LIMITS_NODE_QUEUE_BYTES_MAX] = {NUMBER("limits.node_queue_bytes_max", NULL, 65536, UINT64_C(1) << 40,
                                                "bytes accepted for all peers together and not acknowledged")},
    [SET_LIMITS_SUBJECTS_MAX] = {NUMBER("limits.subjects_max", NULL, 1, 1000000,
                                        "subject names in use with one peer, in each lane, each way")},
    [SET_LIMITS_ECHOES_MAX] = {NUMBER("limits.echoes_max", NULL, 1, 65536, "echoes outstanding to one peer")},
    [SET_LIMITS_HANDLERS_MAX] = {NUMBER("limits.handlers_max", NULL, 2, 1000000, "message handlers and event listeners")},
    [SET_LIMITS_WINDOW_BYTES] = {NUMBER("limits.window_bytes", NULL, 65536, UINT64_C(1) << 30,
                                        "bytes that a peer may send ahead of what we have handled, in each lane")},
    [SET_LIMITS_REQUESTS_MAX] = {NUMBER("limits.requests_max", NULL, 1, 1000000,
                                        "requests to one peer that wait for a reply, and of one peer for ours")},
    [SET_LIMITS_LEGACY_IDLE_MS] = {NUMBER("limits.legacy_idle_ms", NULL, 0, UINT32_MAX,
                                          "silence that ends the link of an unlisted peer of the 2014 system; 0: never")},
    [SET_LIMITS_HANDLER_MS] = {NUMBER("limits.handler_ms", NULL, 0, HOUR_MS,
                                      "handlers that hold up their loop for so long are named in the log; 0: none are")},
};

const char *setting_origin_name(enum setting_origin origin)
{
    static const char *const names[] = {"default", "environment", "definition", "file", "flag"};
    return names[origin];
}

/* ---- sets of values ---- */

void settings_free(struct settings *s)
{
    for (int i = 0; i < SETTING_COUNT; i++) {
        free(s->values[i].text);
    }
    memset(s, 0, sizeof(*s));
}

void settings_set_number(struct settings *s, enum setting_id id, enum setting_origin origin, uint64_t number)
{
    s->values[id] = (struct setting_value){.present = true, .origin = origin, .number = number};
}

int settings_set_text(struct settings *s, enum setting_id id, enum setting_origin origin, const char *text)
{
    char *copy = strdup(text);
    if (copy == NULL) {
        return COHORT_ENOMEM;
    }
    free(s->values[id].text);
    s->values[id] = (struct setting_value){.present = true, .origin = origin, .text = copy};
    return COHORT_OK;
}

void settings_init(struct settings *s)
{
    cohort_config c;
    memset(s, 0, sizeof(*s));
    COHORT_CONFIG_INIT(&c);
    const struct {
        enum setting_id id;
        uint64_t number;
    } defaults[] = {
        {SET_CONTROL_MODE, 0600},
        {SET_NO_WATCH, 0},
        {SET_HTTP_INSECURE, 0},
        {SET_LOG_LEVEL, COHORT_LOG_INFO},
        {SET_LOG_FORMAT, 0},
        {SET_LOOPS, c.loop_count},
        {SET_LOOK_US, c.look_us},
        {SET_DIAL_MODE, c.dial.mode},
        {SET_DIAL_DELAY_MIN_MS, c.dial.delay_min_ms},
        {SET_DIAL_DELAY_MAX_MS, c.dial.delay_max_ms},
        {SET_DIAL_CONNECT_TIMEOUT_MS, c.dial.connect_timeout_ms},
        {SET_LIMITS_MEMBERS_MAX, c.limits.members_max},
        {SET_LIMITS_REMOVED_MAX, c.limits.removed_max},
        {SET_LIMITS_HANDSHAKES_MAX, c.limits.handshakes_max},
        {SET_LIMITS_HANDSHAKE_TIMEOUT_MS, c.limits.handshake_timeout_ms},
        {SET_LIMITS_LEGACY_LINKS_MAX, c.limits.legacy_links_max},
        {SET_LIMITS_MESSAGE_BYTES_MAX, c.limits.message_bytes_max},
        {SET_LIMITS_PEER_QUEUE_BYTES_MAX, c.limits.peer_queue_bytes_max},
        {SET_LIMITS_NODE_QUEUE_BYTES_MAX, c.limits.node_queue_bytes_max},
        {SET_LIMITS_SUBJECTS_MAX, c.limits.subjects_max},
        {SET_LIMITS_ECHOES_MAX, c.limits.echoes_max},
        {SET_LIMITS_HANDLERS_MAX, c.limits.handlers_max},
        {SET_LIMITS_WINDOW_BYTES, c.limits.window_bytes},
        {SET_LIMITS_REQUESTS_MAX, c.limits.requests_max},
        {SET_LIMITS_LEGACY_IDLE_MS, c.limits.legacy_idle_ms},
        {SET_LIMITS_HANDLER_MS, c.limits.handler_ms},
    };
    for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++) {
        settings_set_number(s, defaults[i].id, ORIGIN_DEFAULT, defaults[i].number);
    }
}

int settings_overlay(struct settings *s, const struct settings *over)
{
    for (int i = 0; i < SETTING_COUNT; i++) {
        const struct setting_value *value = &over->values[i];
        if (value->present && value->text == NULL) {
            settings_set_number(s, (enum setting_id)i, value->origin, value->number);
        } else if (value->present && settings_set_text(s, (enum setting_id)i, value->origin, value->text) != COHORT_OK) {
            return COHORT_ENOMEM;
        }
    }
    return COHORT_OK;
}

const char *settings_text(const struct settings *s, enum setting_id id)
{
    return s->values[id].text;
}

uint64_t settings_number(const struct settings *s, enum setting_id id)
{
    return s->values[id].number;
}

bool settings_equal(const struct settings *a, const struct settings *b, enum setting_id id)
{
    const struct setting_value *x = &a->values[id], *y = &b->values[id];
    if (x->present != y->present || x->number != y->number || (x->text == NULL) != (y->text == NULL)) {
        return false;
    }
    return x->text == NULL || strcmp(x->text, y->text) == 0;
}

bool setting_mode_parse(const char *text, uint64_t *out)
{
    size_t len = strspn(text, "01234567");
    if (len < 3 || len > 4 || text[len] != '\0') {
        return false;
    }
    *out = strtoull(text, NULL, 8);
    return (*out & 0600) == 0600 && (*out & ~(uint64_t)0666) == 0;
}

void setting_print(const struct settings *s, enum setting_id id, char *out, size_t cap)
{
    const struct setting_value *value = &s->values[id];
    const struct setting *setting = &settings_table[id];
    if (!value->present) {
        snprintf(out, cap, "-");
    } else if (value->text != NULL) {
        snprintf(out, cap, "%s", value->text);
    } else if (setting->kind == SETTING_CHOICE) {
        snprintf(out, cap, "%s", setting->choices[value->number]);
    } else if (setting->kind == SETTING_FLAG) {
        snprintf(out, cap, "%s", value->number != 0 ? "true" : "false");
    } else {
        snprintf(out, cap, setting->kind == SETTING_MODE ? "%04llo" : "%llu", (unsigned long long)value->number);
    }
}

/* ---- what follows from the rest ---- */

static int resolve_identity(struct settings *s, const cohort_definition *definition)
{
    const char *environment = getenv("COHORT_IP");
    bool from_environment = environment != NULL && environment[0] != '\0';
    bool given = s->values[SET_IP].present;
    const char *own_ip = given ? settings_text(s, SET_IP) : from_environment ? environment : COHORT_IP_DEFAULT;
    enum setting_origin own_origin = given ? s->values[SET_IP].origin : from_environment ? ORIGIN_ENVIRONMENT : ORIGIN_DEFAULT;
    int status = COHORT_OK;
    if (!s->values[SET_ID].present) {
        status = settings_set_text(s, SET_ID, own_origin, own_ip);
    }
    const cohort_definition_node *self = status == COHORT_OK ? cohort_definition_find(definition, settings_text(s, SET_ID)) : NULL;
    if (status == COHORT_OK && !given) {
        status = self != NULL ? settings_set_text(s, SET_IP, ORIGIN_DEFINITION, self->ip)
                              : settings_set_text(s, SET_IP, own_origin, own_ip);
    }
    if (status == COHORT_OK && !given && !s->values[SET_BIND].present && self != NULL && self->bind[0] != '\0') {
        status = settings_set_text(s, SET_BIND, ORIGIN_DEFINITION, self->bind);
    }
    if (!s->values[SET_PORT].present) {
        settings_set_number(s, SET_PORT, self != NULL ? ORIGIN_DEFINITION : ORIGIN_DEFAULT,
                            self != NULL ? self->tcp_port : COHORT_PORT_DEFAULT);
    }
    return status;
}

int settings_resolve(struct settings *s, const cohort_definition *definition, cohort_error *error)
{
    int status = resolve_identity(s, definition);
    if (!s->values[SET_ADMISSION].present) {
        cohort_admission admission = settings_text(s, SET_CLUSTER) != NULL ? COHORT_ADMIT_LISTED : COHORT_ADMIT_OPEN;
        settings_set_number(s, SET_ADMISSION, ORIGIN_DEFAULT, admission - 1);
    }
    if (status == COHORT_OK && !s->values[SET_CONTROL_PATH].present) {
        char path[CONTROL_PATH_MAX + 1], why[CONTROL_WHY_MAX];
        bool shared;
        const char *environment = getenv("COHORT_CONTROL");
        if (!control_default_path(path, &shared, why)) {
            *error = (cohort_error){.code = COHORT_EINVAL};
            snprintf(error->text, sizeof(error->text), "%.500s", why);
            return COHORT_EINVAL;
        }
        status = settings_set_text(s, SET_CONTROL_PATH,
                                   environment != NULL && environment[0] != '\0' ? ORIGIN_ENVIRONMENT : ORIGIN_DEFAULT, path);
    }
    if (status != COHORT_OK) {
        *error = (cohort_error){.code = status, .text = "out of memory"};
    }
    return status;
}

void settings_to_config(const struct settings *s, const cohort_definition *definition, cohort_config *config)
{
    COHORT_CONFIG_INIT(config);
    config->definition = settings_text(s, SET_CLUSTER) != NULL ? definition : NULL;
    config->definition_path = settings_number(s, SET_NO_WATCH) != 0 ? NULL : settings_text(s, SET_CLUSTER);
    config->id = settings_text(s, SET_ID);
    config->ip = settings_text(s, SET_IP);
    config->bind = settings_text(s, SET_BIND);
    config->tcp_port = (uint16_t)settings_number(s, SET_PORT);
    config->admission = (cohort_admission)(settings_number(s, SET_ADMISSION) + 1);
    config->loop_count = (uint32_t)settings_number(s, SET_LOOPS);
    config->dial.mode = (cohort_dial_mode)settings_number(s, SET_DIAL_MODE);
    config->dial.delay_min_ms = (uint32_t)settings_number(s, SET_DIAL_DELAY_MIN_MS);
    config->dial.delay_max_ms = (uint32_t)settings_number(s, SET_DIAL_DELAY_MAX_MS);
    config->dial.connect_timeout_ms = (uint32_t)settings_number(s, SET_DIAL_CONNECT_TIMEOUT_MS);
    config->look_us = (uint32_t)settings_number(s, SET_LOOK_US);
    config->limits.members_max = (uint32_t)settings_number(s, SET_LIMITS_MEMBERS_MAX);
    config->limits.removed_max = (uint32_t)settings_number(s, SET_LIMITS_REMOVED_MAX);
    config->limits.handshakes_max = (uint32_t)settings_number(s, SET_LIMITS_HANDSHAKES_MAX);
    config->limits.handshake_timeout_ms = (uint32_t)settings_number(s, SET_LIMITS_HANDSHAKE_TIMEOUT_MS);
    config->limits.legacy_links_max = (uint32_t)settings_number(s, SET_LIMITS_LEGACY_LINKS_MAX);
    config->limits.message_bytes_max = (uint32_t)settings_number(s, SET_LIMITS_MESSAGE_BYTES_MAX);
    config->limits.peer_queue_bytes_max = (uint32_t)settings_number(s, SET_LIMITS_PEER_QUEUE_BYTES_MAX);
    config->limits.node_queue_bytes_max = settings_number(s, SET_LIMITS_NODE_QUEUE_BYTES_MAX);
    config->limits.subjects_max = (uint32_t)settings_number(s, SET_LIMITS_SUBJECTS_MAX);
    config->limits.echoes_max = (uint32_t)settings_number(s, SET_LIMITS_ECHOES_MAX);
    config->limits.handlers_max = (uint32_t)settings_number(s, SET_LIMITS_HANDLERS_MAX);
    config->limits.window_bytes = (uint32_t)settings_number(s, SET_LIMITS_WINDOW_BYTES);
    config->limits.requests_max = (uint32_t)settings_number(s, SET_LIMITS_REQUESTS_MAX);
    config->limits.legacy_idle_ms = (uint32_t)settings_number(s, SET_LIMITS_LEGACY_IDLE_MS);
    config->limits.handler_ms = (uint32_t)settings_number(s, SET_LIMITS_HANDLER_MS);
}
