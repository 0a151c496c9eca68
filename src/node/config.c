/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration: defaults, reading a struct of another size, and from cohort_config to what the core wants.
 *
 * A caller compiled against an older header hands a shorter struct: what it does not have keeps its default.
 */
#include "node/config.h"

#include "base/name.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#define CONFIG_SIZE_MIN offsetof(cohort_config, loop_count) /* the first release had at least this */

void cohort_config_init(cohort_config *config, size_t size)
{
    const cohort_config defaults = {
        .size = size,
        .loop_count = 3,
        .dial = {.mode = COHORT_DIAL_BACKOFF, .delay_min_ms = 100, .delay_max_ms = 10000, .connect_timeout_ms = 3000},
        .limits = {.members_max = 1024,
                   .removed_max = 1024,
                   .handshakes_max = 256,
                   .handshake_timeout_ms = 5000,
                   .legacy_links_max = 4,
                   .message_bytes_max = 1024 * 1024 * 1024,
                   .peer_queue_bytes_max = 8 * 1024 * 1024,
                   .subjects_max = 4096,
                   .echoes_max = 64,
                   .handlers_max = 4096,
                   .window_bytes = 4 * 1024 * 1024,
                   .requests_max = 65536,
                   .legacy_idle_ms = 0,
                   .handler_ms = 200,
                   .node_queue_bytes_max = UINT64_C(256) * 1024 * 1024},
        .log = {.level = COHORT_LOG_WARN},
        .look_us = 50,
    };
    memset(config, 0, size);
    memcpy(config, &defaults, size < sizeof defaults ? size : sizeof defaults);
}

static int invalid(cohort_error *error, const char *field, const char *value, const char *rule)
{
    error->code = COHORT_EINVAL;
    char shown[128];
    struct cohorti_text t;
    cohorti_text_init(&t, shown, sizeof shown);
    cohorti_text_add_quoted(&t, value, strlen(value), 64);
    snprintf(error->text, sizeof error->text, "config.%s: %s %s", field, shown, rule);
    return COHORT_EINVAL;
}

static int out_of_range(cohort_error *error, const char *field, unsigned long value, unsigned long low, unsigned long high)
{
    error->code = COHORT_EINVAL;
    snprintf(error->text, sizeof error->text, "config.%s: %lu is not in %lu..%lu", field, value, low, high);
    return COHORT_EINVAL;
}

static int check_limits(const cohort_config *config, cohort_error *error)
{
    const cohort_limits *l = &config->limits;
    const struct {
        const char *field;
        unsigned long value, low, high;
    } ranges[] = {
        {"limits.members_max", l->members_max, 1, 65536},
        {"limits.removed_max", l->removed_max, 0, 65536},
        {"limits.handshakes_max", l->handshakes_max, 1, 1000000},
        {"limits.handshake_timeout_ms", l->handshake_timeout_ms, 1, 3600000},
        {"limits.legacy_links_max", l->legacy_links_max, 1, 1024},
        {"limits.message_bytes_max", l->message_bytes_max, 1024, 1024UL * 1024 * 1024},
        {"limits.peer_queue_bytes_max", l->peer_queue_bytes_max, 64UL * 1024, 4095UL * 1024 * 1024},
        {"limits.node_queue_bytes_max", l->node_queue_bytes_max, 64UL * 1024, 1024UL * 1024 * 1024 * 1024},
        {"limits.subjects_max", l->subjects_max, 1, 1000000},
        {"limits.echoes_max", l->echoes_max, 1, 65536},
        {"limits.handlers_max", l->handlers_max, 1, 1000000},
        {"limits.requests_max", l->requests_max, 1, 1000000},
        {"limits.window_bytes", l->window_bytes, 64UL * 1024, 1024UL * 1024 * 1024},
        {"limits.legacy_idle_ms", l->legacy_idle_ms, 0, UINT32_MAX},
        {"limits.handler_ms", l->handler_ms, 0, 3600000},
        {"loop_count", config->loop_count, 0, 256},
        {"look_us", config->look_us, 0, 1000},
        {"dial.mode", config->dial.mode, COHORT_DIAL_BACKOFF, COHORT_DIAL_SEED},
        {"dial.delay_min_ms", config->dial.delay_min_ms, 1, 3600000},
        {"dial.delay_max_ms", config->dial.delay_max_ms, config->dial.delay_min_ms, 3600000},
        {"dial.connect_timeout_ms", config->dial.connect_timeout_ms, 1, 3600000},
        {"threads", config->threads, COHORT_THREADS_OWN, COHORT_THREADS_NONE},
        {"admission", config->admission, COHORT_ADMIT_DEFAULT, COHORT_ADMIT_LISTED},
        {"incarnation", config->incarnation, 0, (1UL << 53) - 1},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        if (ranges[i].value < ranges[i].low || ranges[i].value > ranges[i].high) {
            return out_of_range(error, ranges[i].field, ranges[i].value, ranges[i].low, ranges[i].high);
        }
    }
    return COHORT_OK;
}

/* An address of the definition that was overridden takes its bind along. */
static int fill_bind(cohort_config *config, const char *listed, const struct cohorti_cluster_config *self, cohort_error *error)
{
    size_t ip_len = strlen(self->ip);
    bool numeric = cohorti_ipv4_valid(self->ip, ip_len) || cohorti_ipv6_valid(self->ip, ip_len);
    if (config->bind == NULL || config->bind[0] == '\0') {
        config->bind = listed[0] != '\0' ? listed : numeric ? self->ip : "";
    }
    size_t len = strlen(config->bind);
    bool valid = cohorti_ipv4_valid(config->bind, len) || cohorti_ipv6_valid(config->bind, len);
    return len == 0 || (valid && len <= COHORT_HOST_BYTES_MAX)
               ? COHORT_OK
               : invalid(error, "bind", config->bind, "is not an IPv4 or IPv6 address");
}

/* The local node: what is given, else the definition's node of our id, else the seed's defaults. */
static int fill_self(cohort_config *config, struct cohorti_cluster_config *out, cohort_error *error)
{
    const char *given_ip = config->ip != NULL ? config->ip : COHORT_IP_DEFAULT;
    const char *id = config->id != NULL ? config->id : given_ip;
    if (!cohorti_id_valid(id, strlen(id))) {
        bool from_ip = config->id == NULL;
        return invalid(error, from_ip ? "ip" : "id", id,
                       from_ip ? "cannot serve as id: give an id of its own" : "is not [A-Za-z0-9._-]{1,64}");
    }
    const cohort_definition_node *listed = config->definition == NULL ? NULL : cohort_definition_find(config->definition, id);
    const char *ip = config->ip == NULL && listed != NULL ? listed->ip : given_ip;
    uint16_t port = config->tcp_port != 0 ? config->tcp_port : listed != NULL ? listed->tcp_port : COHORT_PORT_DEFAULT;
    if (!cohorti_host_valid(ip, strlen(ip))) {
        return invalid(error, "ip", ip, "is not an IPv4 or IPv6 address, nor a host name");
    }
    if (strcmp(ip, "0.0.0.0") == 0 || strcmp(ip, "::") == 0) {
        return invalid(error, "ip", ip, "is not an address that others can connect to: give it as bind");
    }
    if (!cohorti_copy_string(out->id, sizeof out->id, id) || !cohorti_copy_string(out->ip, sizeof out->ip, ip)) {
        return invalid(error, "ip", ip, "is too long");
    }
    out->tcp_port = port;
    return fill_bind(config, config->ip == NULL && listed != NULL ? listed->bind : "", out, error);
}

int cohorti_config_widen(const cohort_config *given, cohort_config *whole, cohort_error *error)
{
    if (given->size < CONFIG_SIZE_MIN || given->size > 65536) {
        return out_of_range(error, "size", given->size, CONFIG_SIZE_MIN, 65536);
    }
    cohort_config_init(whole, sizeof *whole);
    memcpy(whole, given, given->size < sizeof *whole ? given->size : sizeof *whole);
    whole->size = sizeof *whole;
    return COHORT_OK;
}

int cohorti_config_read(const cohort_config *given, cohort_config *whole, struct cohorti_cluster_config *out, cohort_error *error)
{
    memset(out, 0, sizeof *out);
    int status = cohorti_config_widen(given, whole, error);
    if (status == COHORT_OK) {
        status = check_limits(whole, error);
    }
    if (status == COHORT_OK) {
        status = fill_self(whole, out, error);
    }
    if (status != COHORT_OK) {
        return status;
    }
    const char *cluster = whole->cluster != NULL ? whole->cluster : whole->definition != NULL ? whole->definition->cluster : "";
    if (!cohorti_cluster_valid(cluster, strlen(cluster)) || !cohorti_copy_string(out->cluster, sizeof out->cluster, cluster)) {
        return invalid(error, "cluster", cluster, "is not [A-Za-z0-9._-]{0,64}");
    }
    if (whole->loops != NULL && whole->threads != COHORT_THREADS_OWN) {
        return invalid(error, "threads", "NONE",
                       "and config.loops exclude each other: whether loops have threads is said when they are opened");
    }
    const cohort_allocator *a = whole->allocator;
    if (a != NULL && (a->allocate == NULL || a->reallocate == NULL || a->release == NULL)) {
        return invalid(error, "allocator", "", "lacks a function");
    }
    bool listed = whole->admission == COHORT_ADMIT_LISTED || (whole->admission == COHORT_ADMIT_DEFAULT && whole->definition != NULL);
    out->open_admission = !listed;
    out->incarnation = whole->incarnation;
    out->dial = whole->dial;
    out->limits = whole->limits;
    return COHORT_OK;
}
