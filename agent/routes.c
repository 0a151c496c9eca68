/* SPDX-License-Identifier: Apache-2.0
 *
 * What each path of docs/http.md does; those about messages are in routes_messages.c. A route is called on the HTTP thread when the whole request is there, and again if
 * it suspended the connection. It must not wait.
 */
#include "request.h"
#include "routes.h"

#include "document.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- arguments ---- */

const char *route_argument(struct request *request, const char *name)
{
    const char *value = NULL;
    size_t len = 0;
    if (MHD_lookup_connection_value_n(request->connection, MHD_GET_ARGUMENT_KIND, name, strlen(name), &value, &len) != MHD_YES) {
        return NULL;
    }
    return value != NULL && strlen(value) == len ? value : NULL;
}

bool route_number(struct request *request, const char *name, uint32_t fallback, uint32_t max, uint32_t *out)
{
    const char *text = route_argument(request, name);
    if (text == NULL) {
        *out = fallback;
        return MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, name) == NULL;
    }
    size_t len = strspn(text, "0123456789");
    if (len == 0 || len > 9 || text[len] != '\0') {
        return false;
    }
    unsigned long value = strtoul(text, NULL, 10);
    *out = (uint32_t)value;
    return value <= max;
}

/* ---- members, health, counters ---- */

cohort_member *route_members_copy(cohort_node *node, size_t *count)
{
    cohort_member *members = NULL;
    size_t capacity = 0;
    cohort_node_members(node, NULL, 0, count);
    while (*count > capacity || members == NULL) { /* more may join between the two calls */
        free(members);
        capacity = *count + 16;
        members = calloc(capacity, sizeof(*members));
        if (members == NULL) {
            return NULL;
        }
        cohort_node_members(node, members, capacity, count);
    }
    return members;
}

static enum MHD_Result get_members(struct request *request)
{
    size_t count = 0;
    cohort_member *members = route_members_copy(request->service->node, &count);
    if (members == NULL) {
        return answer_error(request, COHORT_ENOMEM, NULL);
    }
    struct writer w = WRITER_EMPTY;
    document_members(&w, request->service->local_id, members, count);
    free(members);
    return answer_json(request, MHD_HTTP_OK, &w);
}

static enum MHD_Result get_member(struct request *request)
{
    cohort_member member;
    int status = cohort_node_member(request->service->node, request->rest, &member);
    if (status != COHORT_OK) {
        return answer_error(request, status, NULL);
    }
    struct writer w = WRITER_EMPTY;
    document_member(&w, &member);
    return answer_json(request, MHD_HTTP_OK, &w);
}

/* The node's control loop does it and we wait for that; it waits for nobody, so that this is short. */
static enum MHD_Result put_member(struct request *request)
{
    const char *ip = route_argument(request, "ip");
    uint32_t port;
    if (ip == NULL || !route_number(request, "port", COHORT_PORT_DEFAULT, 65535, &port) || port == 0) {
        return answer_error(request, COHORT_EINVAL, "the argument ip=IP is needed, and port=N may be 1 to 65535");
    }
    if (strcmp(request->rest, request->service->local_id) == 0) {
        return answer_error(request, COHORT_EINVAL, "this is the agent itself");
    }
    cohort_member member;
    int status = cohort_node_add(request->service->node, request->rest, ip, (uint16_t)port);
    if (status != COHORT_OK) {
        char text[COHORT_HOST_BYTES_MAX + 128];
        snprintf(text, sizeof text, "\"%.*s\" is not an IPv4 or IPv6 address, nor a host name; or the id is not [A-Za-z0-9._-]{1,64}",
                 COHORT_HOST_BYTES_MAX, ip);
        return answer_error(request, status, status == COHORT_EINVAL ? text : NULL);
    }
    status = cohort_node_member(request->service->node, request->rest, &member);
    if (status != COHORT_OK) { /* removed again meanwhile */
        return answer_error(request, status, NULL);
    }
    struct writer w = WRITER_EMPTY;
    document_member(&w, &member);
    return answer_json(request, MHD_HTTP_OK, &w);
}

static enum MHD_Result delete_member(struct request *request)
{
    int status = cohort_node_remove(request->service->node, request->rest);
    if (status != COHORT_OK) {
        return answer_error(request, status, status == COHORT_EINVAL ? "this is the agent itself" : NULL);
    }
    struct writer w = WRITER_EMPTY;
    writer_begin(&w, '{');
    writer_key_string(&w, "removed", request->rest);
    writer_end(&w, '}');
    return answer_json(request, MHD_HTTP_OK, &w);
}

static enum MHD_Result get_health(struct request *request)
{
    size_t count = 0;
    size_t active = 0;
    cohort_member *members = route_members_copy(request->service->node, &count);
    if (members == NULL) {
        return answer_error(request, COHORT_ENOMEM, NULL);
    }
    for (size_t i = 0; i < count; i++) {
        active += members[i].state != COHORT_INACTIVE;
    }
    free(members);
    struct writer w = WRITER_EMPTY;
    writer_begin(&w, '{');
    writer_key_string(&w, "status", "ok");
    writer_key_string(&w, "id", request->service->local_id);
    writer_key_string(&w, "version", cohort_version());
    writer_key_uint(&w, "members", count);
    writer_key_uint(&w, "active", active);
    writer_end(&w, '}');
    return answer_json(request, MHD_HTTP_OK, &w);
}

static enum MHD_Result get_stats(struct request *request)
{
    cohort_node_stats node_stats;
    struct hub_stats hub_stats;
    cohort_node_stats_get(request->service->node, &node_stats);
    hub_stats_get(request->service->hub, &hub_stats);
    struct writer w = WRITER_EMPTY;
    struct measure_taken taken;
    measure_taken(request->service->measure, &taken);
    document_node_stats(&w, &node_stats, &hub_stats, &taken);
    return answer_json(request, MHD_HTTP_OK, &w);
}

static enum MHD_Result get_link_stats(struct request *request)
{
    cohort_link_stats stats;
    int status = cohort_link_stats_get(request->service->node, request->rest, &stats);
    if (status != COHORT_OK) {
        return answer_error(request, status, NULL);
    }
    struct writer w = WRITER_EMPTY;
    document_link_stats(&w, request->rest, &stats);
    return answer_json(request, MHD_HTTP_OK, &w);
}

static enum MHD_Result get_definition(struct request *request)
{
    cohort_definition_status status;
    cohort_node_definition_status(request->service->node, &status);
    struct writer w = WRITER_EMPTY;
    document_definition(&w, request->service->definition_path, &status);
    return answer_json(request, MHD_HTTP_OK, &w);
}

static enum MHD_Result get_links(struct request *request)
{
    size_t count = 0;
    cohort_member *members = route_members_copy(request->service->node, &count);
    if (members == NULL) {
        return answer_error(request, COHORT_ENOMEM, NULL);
    }
    struct writer w = WRITER_EMPTY;
    writer_begin(&w, '{');
    writer_key_string(&w, "local", request->service->local_id);
    writer_key(&w, "links");
    writer_begin(&w, '[');
    for (size_t i = 0; i < count; i++) {
        cohort_link_stats stats;
        if (strcmp(members[i].id, request->service->local_id) == 0) {
            continue; /* how it delivers to itself is no link */
        }
        if (cohort_link_stats_get(request->service->node, members[i].id, &stats) == COHORT_OK && stats.open_ns > 0) {
            document_link_stats(&w, members[i].id, &stats);
        }
    }
    free(members);
    writer_end(&w, ']');
    writer_end(&w, '}');
    return answer_json(request, MHD_HTTP_OK, &w);
}

static enum MHD_Result get_config(struct request *request)
{
    struct writer w = WRITER_EMPTY;
    effective_document(request->service->effective, &w);
    return answer_json(request, MHD_HTTP_OK, &w);
}

/* ---- the table ---- */

static const struct route routes[] = {
    {"GET", "/v1/members", get_members},       {"GET", "/v1/members/", get_member},   {"PUT", "/v1/members/", put_member},
    {"DELETE", "/v1/members/", delete_member}, {"GET", "/v1/health", get_health},     {"GET", "/v1/stats", get_stats},
    {"GET", "/v1/stats/", get_link_stats},     {"GET", "/v1/links", get_links},       {"GET", "/v1/config", get_config},
    {"GET", "/v1/events", get_events},         {"GET", "/v1/messages", get_messages}, {"POST", "/v1/send", post_send},
    {"POST", "/v1/broadcast", post_broadcast}, {"POST", "/v1/echo", post_echo},       {"GET", "/v1/definition", get_definition},
    {"POST", "/v1/request", post_request},     {"POST", "/v1/reply", post_reply},     {"POST", "/v1/stream", post_stream},
    {"GET", "/v1/streams", get_streams},       {"POST", "/v1/bench", post_bench},
};

static bool path_matches(const struct route *route, const char *path, const char **rest)
{
    size_t len = strlen(route->path);
    *rest = "";
    if (route->path[len - 1] != '/') {
        return strcmp(route->path, path) == 0;
    }
    if (strncmp(route->path, path, len) != 0 || path[len] == '\0' || strchr(path + len, '/') != NULL) {
        return false;
    }
    *rest = path + len;
    return true;
}

const struct route *route_find(const char *method, const char *path, const char **rest, char allow[ROUTE_ALLOW_MAX])
{
    size_t len = 0;
    allow[0] = '\0';
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        if (!path_matches(&routes[i], path, rest)) {
            continue;
        }
        if (strcmp(routes[i].method, method) == 0) {
            return &routes[i];
        }
        len += (size_t)snprintf(allow + len, ROUTE_ALLOW_MAX - len, "%s%s", len > 0 ? ", " : "", routes[i].method);
    }
    return NULL;
}
