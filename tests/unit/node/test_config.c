/* SPDX-License-Identifier: Apache-2.0
 *
 * node/config: defaults, every field that can be wrong named in the error, structs of another size, who we are.
 */
#include "node/config.h"

#include "support.h"

#include <stdlib.h>
#include <string.h>

static int read_config(const cohort_config *given, struct cohorti_cluster_config *out, cohort_error *error)
{
    cohort_config whole;
    error->text[0] = '\0';
    return cohorti_config_read(given, &whole, out, error);
}

static void the_defaults_are_those_of_the_header(void **state)
{
    cohort_config config;
    struct cohorti_cluster_config out;
    cohort_error error;
    COHORT_CONFIG_INIT(&config);
    assert_int_equal(config.size, sizeof config);
    assert_int_equal(config.loop_count, 3);
    assert_int_equal(config.dial.delay_min_ms, 100);
    assert_int_equal(config.dial.delay_max_ms, 10000);
    assert_int_equal(config.dial.connect_timeout_ms, 3000);
    assert_int_equal(config.limits.members_max, 1024);
    assert_int_equal(config.limits.message_bytes_max, 1024 * 1024 * 1024);
    assert_int_equal(config.limits.peer_queue_bytes_max, 8 * 1024 * 1024);
    assert_int_equal(read_config(&config, &out, &error), COHORT_OK);
    assert_string_equal(out.id, COHORT_IP_DEFAULT);
    assert_string_equal(out.ip, COHORT_IP_DEFAULT);
    assert_int_equal(out.tcp_port, COHORT_PORT_DEFAULT);
    assert_true(out.open_admission);
}

#define WRONG(field, assignment)                                             \
    do {                                                                     \
        cohort_config config;                                                \
        struct cohorti_cluster_config out;                                   \
        cohort_error error;                                                  \
        COHORT_CONFIG_INIT(&config);                                         \
        assignment;                                                          \
        assert_int_equal(read_config(&config, &out, &error), COHORT_EINVAL); \
        assert_int_equal(error.code, COHORT_EINVAL);                         \
        if (strstr(error.text, "config." field) == NULL) {                   \
            fail_msg("\"%s\" does not name %s", error.text, field);          \
        }                                                                    \
    } while (0)

static void every_number_out_of_range_is_named(void **state)
{
    WRONG("limits.members_max", config.limits.members_max = 0);
    WRONG("limits.members_max", config.limits.members_max = 65537);
    WRONG("limits.removed_max", config.limits.removed_max = 65537);
    WRONG("limits.handshakes_max", config.limits.handshakes_max = 0);
    WRONG("limits.handshake_timeout_ms", config.limits.handshake_timeout_ms = 0);
    WRONG("limits.legacy_links_max", config.limits.legacy_links_max = 0);
    WRONG("limits.message_bytes_max", config.limits.message_bytes_max = 1023);
    WRONG("limits.message_bytes_max", config.limits.message_bytes_max = UINT32_MAX);
    WRONG("limits.peer_queue_bytes_max", config.limits.peer_queue_bytes_max = 65535);
    WRONG("limits.subjects_max", config.limits.subjects_max = 0);
    WRONG("limits.echoes_max", config.limits.echoes_max = 0);
    WRONG("limits.handlers_max", config.limits.handlers_max = 0);
    WRONG("loop_count", config.loop_count = 257);
    WRONG("dial.mode", config.dial.mode = 2);
    WRONG("dial.delay_min_ms", config.dial.delay_min_ms = 0);
    WRONG("dial.delay_max_ms", config.dial.delay_max_ms = config.dial.delay_min_ms - 1);
    WRONG("dial.connect_timeout_ms", config.dial.connect_timeout_ms = 0);
    WRONG("admission", config.admission = 3);
    WRONG("incarnation", config.incarnation = UINT64_C(1) << 53);
    WRONG("size", config.size = 0);
    WRONG("size", config.size = 8);
    WRONG("size", config.size = 1 << 20);
}

static void every_text_that_is_wrong_is_named(void **state)
{
    static const cohort_allocator no_release = {.allocate = NULL};
    WRONG("id", config.id = "");
    WRONG("id", config.id = "a b");
    WRONG("id", config.id = "0123456789012345678901234567890123456789012345678901234567890123x");
    WRONG("ip", config.ip = "no where"; config.id = "a");
    WRONG("ip", config.ip = "127.0.0.256"; config.id = "a");
    WRONG("ip", config.ip = "0.0.0.0"; config.id = "a");
    WRONG("ip", config.ip = "::"; config.id = "a");
    WRONG("bind", config.bind = "localhost");
    WRONG("bind", config.bind = "127.0.0.1:80");
    WRONG("ip", config.ip = "127.0.0.1/32"; config.id = "a");
    WRONG("ip", config.ip = "::1"); /* cannot serve as id */
    WRONG("cluster", config.cluster = "a b");
    WRONG("allocator", config.allocator = &no_release);
}

static void an_older_caller_hands_a_shorter_struct(void **state)
{
    cohort_config full;
    cohort_config *config = malloc(offsetof(cohort_config, dial)); /* no byte more, for the address sanitizer */
    struct cohorti_cluster_config out;
    cohort_error error;
    cohort_config whole;
    cohort_config_init(config, offsetof(cohort_config, dial));
    COHORT_CONFIG_INIT(&full);
    full.size = offsetof(cohort_config, dial);
    full.id = "old";
    full.loop_count = 1;
    memcpy((void *)config, &full, full.size);
    assert_int_equal(cohorti_config_read(config, &whole, &out, &error), COHORT_OK);
    assert_string_equal(out.id, "old");
    assert_int_equal(whole.loop_count, 1);
    assert_int_equal(whole.limits.echoes_max, 64);
    assert_int_equal(out.dial.delay_min_ms, 100);
    free(config);
}

static void a_newer_caller_hands_a_longer_struct(void **state)
{
    struct {
        cohort_config config;
        char later[256];
    } longer;
    struct cohorti_cluster_config out;
    cohort_error error;
    cohort_config_init(&longer.config, sizeof longer);
    assert_int_equal(longer.config.size, sizeof longer);
    assert_int_equal(longer.later[0], 0);
    longer.config.id = "new";
    assert_int_equal(read_config(&longer.config, &out, &error), COHORT_OK);
    assert_string_equal(out.id, "new");
}

static void the_definition_says_who_we_are(void **state)
{
    cohort_definition_node nodes[] = {{"a", "127.0.0.2", 9001, ""}, {"b", "127.0.0.3", 9002, ""}};
    cohort_definition definition = {.cluster = "blue", .nodes = nodes, .node_count = 2};
    struct cohorti_cluster_config out;
    cohort_config config;
    cohort_error error;
    COHORT_CONFIG_INIT(&config);
    config.definition = &definition;
    config.id = "b";
    assert_int_equal(read_config(&config, &out, &error), COHORT_OK);
    assert_string_equal(out.ip, "127.0.0.3");
    assert_int_equal(out.tcp_port, 9002);
    assert_string_equal(out.cluster, "blue");
    assert_false(out.open_admission);
    config.ip = "127.0.0.9";
    config.tcp_port = 7;
    config.cluster = "";
    config.admission = COHORT_ADMIT_OPEN;
    assert_int_equal(read_config(&config, &out, &error), COHORT_OK);
    assert_string_equal(out.ip, "127.0.0.9");
    assert_int_equal(out.tcp_port, 7);
    assert_string_equal(out.cluster, "");
    assert_true(out.open_admission);
    config.id = "c"; /* not there: ourselves, freshly */
    config.ip = NULL;
    config.tcp_port = 0;
    assert_int_equal(read_config(&config, &out, &error), COHORT_OK);
    assert_string_equal(out.ip, COHORT_IP_DEFAULT);
    assert_int_equal(out.tcp_port, COHORT_PORT_DEFAULT);
}

static void listens_on(const cohort_config *config, const char *bind)
{
    struct cohorti_cluster_config out;
    cohort_config whole;
    cohort_error error;
    assert_int_equal(cohorti_config_read(config, &whole, &out, &error), COHORT_OK);
    assert_string_equal(whole.bind, bind);
}

/* An address that overrides the definition's takes its bind along. */
static void what_is_listened_on(void **state)
{
    cohort_definition_node nodes[] = {{"a", "127.0.0.2", 9001, "0.0.0.0"}, {"b", "b.example", 9002, ""}};
    cohort_definition definition = {.nodes = nodes, .node_count = 2};
    cohort_config config;
    COHORT_CONFIG_INIT(&config);
    listens_on(&config, COHORT_IP_DEFAULT);
    config.definition = &definition;
    config.id = "b";
    listens_on(&config, ""); /* all addresses */
    config.id = "a";
    listens_on(&config, "0.0.0.0");
    config.bind = "127.0.0.7";
    listens_on(&config, "127.0.0.7");
    config.bind = NULL;
    config.ip = "127.0.0.9";
    listens_on(&config, "127.0.0.9");
    config.ip = "a.example";
    listens_on(&config, "");
    config.bind = "::";
    listens_on(&config, "::");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_defaults_are_those_of_the_header),
        cmocka_unit_test(every_number_out_of_range_is_named),
        cmocka_unit_test(every_text_that_is_wrong_is_named),
        cmocka_unit_test(an_older_caller_hands_a_shorter_struct),
        cmocka_unit_test(a_newer_caller_hands_a_longer_struct),
        cmocka_unit_test(the_definition_says_who_we_are),
        cmocka_unit_test(what_is_listened_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
