/* SPDX-License-Identifier: Apache-2.0
 *
 * See fake_http.h. The node's part answers with what the input chooses, among what cohort.h allows.
 */
#include "fake_http.h"

#include "measure.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct fake_world fake;

/* ---- libmicrohttpd ------------------------------------------------------------------------------------------------- */

struct MHD_Daemon *MHD_start_daemon(unsigned flags, uint16_t port, MHD_AcceptPolicyCallback accept, void *accept_arg,
                                    MHD_AccessHandlerCallback on_request, void *arg, ...)
{
    (void)flags, (void)port, (void)accept, (void)accept_arg;
    fake.daemon = (struct MHD_Daemon){.on_request = on_request, .on_request_arg = arg};
    va_list options;
    va_start(options, arg);
    for (int option = va_arg(options, int); option != MHD_OPTION_END; option = va_arg(options, int)) {
        if (option == MHD_OPTION_NOTIFY_COMPLETED) {
            fake.daemon.on_completed = va_arg(options, MHD_RequestCompletedCallback);
            fake.daemon.on_completed_arg = va_arg(options, void *);
        } else if (option == MHD_OPTION_URI_LOG_CALLBACK) {
            fake.daemon.on_url = va_arg(options, void *(*)(void *, const char *, struct MHD_Connection *));
            fake.daemon.on_url_arg = va_arg(options, void *);
        } else {
            FUZZ_CHECK(option == MHD_OPTION_LISTEN_SOCKET || option == MHD_OPTION_CONNECTION_LIMIT ||
                       option == MHD_OPTION_CONNECTION_TIMEOUT);
            (void)va_arg(options, int);
        }
    }
    va_end(options);
    return &fake.daemon;
}

MHD_socket MHD_quiesce_daemon(struct MHD_Daemon *daemon)
{
    (void)daemon;
    return MHD_INVALID_SOCKET;
}

void MHD_stop_daemon(struct MHD_Daemon *daemon)
{
    (void)daemon;
    FUZZ_CHECK(!fake.connection.suspended); /* the real one aborts */
    fake_complete();
}

enum MHD_Result MHD_lookup_connection_value_n(struct MHD_Connection *connection, enum MHD_ValueKind kind, const char *key,
                                              size_t key_len, const char **value, size_t *value_len)
{
    FUZZ_CHECK(kind == MHD_GET_ARGUMENT_KIND && strlen(key) == key_len);
    for (size_t i = 0; i < connection->argument_count; i++) {
        if (strcmp(connection->arguments[i].name, key) == 0) {
            *value = connection->arguments[i].value;
            *value_len = connection->arguments[i].value_len;
            return MHD_YES;
        }
    }
    return MHD_NO;
}

const char *MHD_lookup_connection_value(struct MHD_Connection *connection, enum MHD_ValueKind kind, const char *key)
{
    if (kind == MHD_HEADER_KIND) {
        return strcmp(key, MHD_HTTP_HEADER_EXPECT) == 0           ? connection->expect
               : strcmp(key, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0 ? connection->content_length
               : strcmp(key, MHD_HTTP_HEADER_HOST) == 0           ? connection->host
               : strcmp(key, MHD_HTTP_HEADER_ORIGIN) == 0         ? connection->origin
                                                                  : NULL;
    }
    const char *value = NULL;
    size_t len = 0;
    (void)MHD_lookup_connection_value_n(connection, kind, key, strlen(key), &value, &len);
    return value;
}

struct MHD_Response *MHD_create_response_from_buffer(size_t size, void *buffer, enum MHD_ResponseMemoryMode mode)
{
    FUZZ_CHECK(mode == MHD_RESPMEM_MUST_FREE && buffer != NULL);
    struct MHD_Response *response = calloc(1, sizeof(*response));
    FUZZ_CHECK(response != NULL);
    *response = (struct MHD_Response){.references = 1, .bytes = buffer, .len = size};
    return response;
}

struct MHD_Response *MHD_create_response_from_callback(uint64_t size, size_t block_size, MHD_ContentReaderCallback read, void *arg,
                                                       MHD_ContentReaderFreeCallback end)
{
    (void)size, (void)block_size;
    struct MHD_Response *response = calloc(1, sizeof(*response));
    FUZZ_CHECK(response != NULL);
    *response = (struct MHD_Response){.references = 1, .read = read, .end = end, .arg = arg};
    return response;
}

enum MHD_Result MHD_add_response_header(struct MHD_Response *response, const char *header, const char *content)
{
    FUZZ_CHECK(response->references > 0 && header[0] != '\0' && content[0] != '\0' && strpbrk(content, "\r\n") == NULL);
    return MHD_YES;
}

enum MHD_Result MHD_queue_response(struct MHD_Connection *connection, unsigned status, struct MHD_Response *response)
{
    FUZZ_CHECK(connection->response == NULL && !connection->suspended && status >= 200 && status <= 599);
    response->references++;
    connection->response = response;
    connection->status = status;
    return MHD_YES;
}

void MHD_destroy_response(struct MHD_Response *response)
{
    FUZZ_CHECK(response->references > 0);
    if (--response->references > 0) {
        return;
    }
    if (response->end != NULL) {
        response->end(response->arg);
    }
    free(response->bytes);
    free(response);
}

enum MHD_Result MHD_set_connection_option(struct MHD_Connection *connection, enum MHD_CONNECTION_OPTION option, ...)
{
    (void)connection;
    FUZZ_CHECK(option == MHD_CONNECTION_OPTION_TIMEOUT);
    return MHD_YES;
}

void MHD_suspend_connection(struct MHD_Connection *connection)
{
    FUZZ_CHECK(!connection->suspended);
    connection->suspended = true;
}

void MHD_resume_connection(struct MHD_Connection *connection)
{
    FUZZ_CHECK(connection->suspended);
    connection->suspended = false;
}

/* ---- the node ------------------------------------------------------------------------------------------------------ */

static const cohort_member members[] = {
    {.id = "a", .ip = "127.0.0.1", .tcp_port = 9876, .state = COHORT_ACTIVE, .local = true, .incarnation = 1},
    {.id = "b", .ip = "::1", .tcp_port = 9877, .state = COHORT_INACTIVE, .incarnation = INT64_MAX},
    {.id = "c", .ip = "127.0.0.3", .tcp_port = 65535, .state = COHORT_ACTIVE, .legacy = true},
};

static int choose_status(void)
{
    static const int codes[] = {COHORT_OK,      COHORT_OK,     COHORT_OK,    COHORT_EINVAL, COHORT_ENOPEER, COHORT_EINACTIVE,
                                COHORT_EAGAIN,  COHORT_ESIZE,  COHORT_ETYPE, COHORT_ELIMIT, COHORT_ENOMEM,  COHORT_ECLOSED,
                                COHORT_ELEGACY, COHORT_ERESET, COHORT_EIO,   -9999};
    return codes[fuzz_choice(fake.in) % (sizeof(codes) / sizeof(codes[0]))];
}

/* Read all of it, so that the sanitizer sees what is not there. */
static void read_bytes(const void *bytes, size_t len)
{
    uint8_t *copy = fuzz_copy(bytes, len);
    free(copy);
}

void cohort_node_members(cohort_node *node, cohort_member *out, size_t capacity, size_t *count)
{
    (void)node;
    *count = sizeof(members) / sizeof(members[0]) * (fuzz_choice(fake.in) % 16u + 1); /* more may have come meanwhile */
    for (size_t i = 0; i < *count && i < capacity; i++) {
        out[i] = members[i % 3];
    }
}

int cohort_node_member(cohort_node *node, const char *id, cohort_member *out)
{
    (void)node;
    *out = members[0];
    return strlen(id) > 1 ? COHORT_ENOPEER : choose_status();
}

int cohort_node_add(cohort_node *node, const char *id, const char *ip, uint16_t tcp_port)
{
    (void)node;
    FUZZ_CHECK(id[0] != '\0' && ip != NULL && tcp_port > 0);
    return choose_status();
}

int cohort_node_remove(cohort_node *node, const char *id)
{
    (void)node;
    FUZZ_CHECK(id[0] != '\0');
    return choose_status();
}

int cohort_link_stats_get(cohort_node *node, const char *id, cohort_link_stats *out)
{
    (void)node;
    *out = (cohort_link_stats){.bytes_in = INT64_MAX, .open_ns = 1, .idle_ns = 1, .rates = {.bytes_in_per_s = INT64_MAX}};
    return strlen(id) > 1 ? COHORT_ENOPEER : choose_status();
}

void cohort_node_stats_get(cohort_node *node, cohort_node_stats *out)
{
    (void)node;
    *out = (cohort_node_stats){.links_open = 1};
    for (size_t i = 0; i < sizeof(out->errors) / sizeof(out->errors[0]); i++) {
        out->errors[i] = cohort_error_scope_of(-(int)i) == COHORT_SCOPE_LINK ? fuzz_choice(fake.in) : 0;
    }
}

void cohort_node_definition_status(cohort_node *node, cohort_definition_status *out)
{
    (void)node;
    *out = (cohort_definition_status){.followed = true, .applied = INT64_MAX, .error = {.code = choose_status()}};
    for (size_t i = 0; i + 1 < sizeof(out->error.text) && i < fuzz_choice(fake.in); i++) {
        out->error.text[i] = (char)fuzz_choice(fake.in); /* a file's name may hold anything */
    }
}

int cohort_send(cohort_node *node, const char *id, const char *subject, const void *data, size_t data_len)
{
    (void)node;
    FUZZ_CHECK(id != NULL && subject != NULL && data_len <= fake.body_bytes_max && (data != NULL || data_len == 0));
    read_bytes(data, data_len);
    return choose_status();
}

int cohort_broadcast_each(cohort_node *node, const char *subject, const void *data, size_t data_len, bool to_local,
                          cohort_sent_fn fn, void *arg)
{
    static char id[COHORT_ID_BYTES_MAX + 1];
    int status = to_local ? COHORT_OK : choose_status(), first_error = COHORT_OK;
    memset(id, 'i', sizeof(id) - 1);
    for (uint8_t left = status == COHORT_OK ? fuzz_choice(fake.in) % 8 : 0; left > 0; left--) {
        status = cohort_send(node, id, subject, data, data_len);
        first_error = first_error == COHORT_OK ? status : first_error;
        fn(node, id, status, arg);
    }
    return first_error == COHORT_OK ? status : first_error;
}

/* It would have a thread; what its route makes of arguments is what is looked at. */
int measure_begin(struct measure *measure, cohort_node *node, const struct measure_ask *ask, struct measure_wait **out)
{
    (void)measure;
    (void)node;
    (void)out;
    FUZZ_CHECK(ask->to != NULL && ask->bytes > 0 && ask->ms > 0 && ask->ms <= 60000 && ask->depth > 0 && ask->depth <= 64 &&
               (unsigned)ask->lane < 3);
    return COHORT_ELIMIT;
}

bool measure_answered(struct measure_wait *wait, struct MHD_Connection *connection, int *status, struct writer **document)
{
    (void)wait;
    (void)connection;
    (void)document;
    *status = COHORT_ECLOSED;
    return true;
}

void measure_release(struct measure_wait *wait)
{
    (void)wait;
}

void measure_taken(struct measure *measure, struct measure_taken *out)
{
    (void)measure;
    *out = (struct measure_taken){0};
}

void measure_close(struct measure *measure)
{
    (void)measure;
}

void measure_drain(struct measure *measure, uint32_t timeout_ms)
{
    (void)measure;
    (void)timeout_ms;
}

int cohort_echo(cohort_node *node, const char *id, const void *data, size_t data_len, uint32_t timeout_ms, cohort_echo_fn fn,
                void *arg)
{
    (void)node;
    FUZZ_CHECK(id != NULL && data_len <= 32752 && timeout_ms > 0 && timeout_ms <= 60000 && fake.echo_fn == NULL);
    read_bytes(data, data_len);
    int status = choose_status();
    if (status == COHORT_OK) {
        fake.echo_fn = fn;
        fake.echo_arg = arg;
    }
    return status;
}

int cohort_request(cohort_node *node, const char *id, const char *subject, const void *data, size_t data_len, uint32_t timeout_ms,
                   cohort_result_fn fn, void *arg, cohort_request_id *out)
{
    (void)node;
    (void)out;
    FUZZ_CHECK(id != NULL && subject != NULL && timeout_ms > 0 && timeout_ms <= 600000 && fake.result_arg == NULL);
    read_bytes(data, data_len);
    int status = choose_status();
    if (status == COHORT_OK) {
        fake.result_fn = fn;
        fake.result_arg = arg;
    }
    return status;
}

int cohort_request_all(cohort_node *node, const char *subject, const void *data, size_t data_len, uint32_t timeout_ms,
                       cohort_results_fn fn, void *arg)
{
    int status = cohort_request(node, "*", subject, data, data_len, timeout_ms, NULL, arg, NULL);
    fake.results_fn = fn;
    if (status == COHORT_OK && fuzz_choice(fake.in) % 2 == 0) { /* nobody to ask: at once */
        fake.result_arg = NULL;
        fn(node, NULL, 0, arg);
    }
    return status;
}

int cohort_subject_set(cohort_node *node, const char *subject, const cohort_subject_options *options)
{
    (void)node;
    FUZZ_CHECK(subject != NULL && options->lane <= COHORT_LANE_BULK);
    return choose_status();
}

/* ---- completing ---------------------------------------------------------------------------------------------------- */

void fake_answer(int status, const void *data, size_t data_len)
{
    cohort_result results[2] = {{.from = "b", .status = status, .text = status == COHORT_OK ? "" : "\"why\"\x80"}};
    if (status == COHORT_OK) {
        results[0].data = data;
        results[0].data_len = data_len;
    }
    results[1] = (cohort_result){.from = "c", .status = COHORT_ERESTARTED, .text = ""};
    cohort_echo_fn echo_fn = fake.echo_fn;
    void *arg = fake.result_arg;
    fake.echo_fn = NULL;
    fake.result_arg = NULL;
    if (echo_fn != NULL) {
        echo_fn(NULL, "b", status, 12345, fake.echo_arg);
    } else if (arg != NULL && fake.result_fn != NULL) {
        fake.result_fn(NULL, &results[0], arg);
    } else if (arg != NULL) {
        fake.results_fn(NULL, results, 2, arg);
    }
}

/* ---- one run ------------------------------------------------------------------------------------------------------- */

void fake_init(struct fuzz_input *in, size_t body_bytes_max)
{
    memset(&fake, 0, sizeof(fake));
    fake.in = in;
    fake.body_bytes_max = body_bytes_max;
}

void fake_complete(void)
{
    if (fake.completed) {
        return;
    }
    fake.completed = true;
    if (fake.connection.response != NULL) {
        MHD_destroy_response(fake.connection.response);
        fake.connection.response = NULL;
    }
    fake.daemon.on_completed(fake.daemon.on_completed_arg, &fake.connection, &fake.slot, MHD_REQUEST_TERMINATED_COMPLETED_OK);
    FUZZ_CHECK(fake.slot == NULL);
}

void fake_deinit(void)
{
    for (size_t i = 0; i < fake.connection.argument_count; i++) {
        free(fake.connection.arguments[i].name);
        free(fake.connection.arguments[i].value);
    }
}
