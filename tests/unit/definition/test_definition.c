/* SPDX-License-Identifier: Apache-2.0
 *
 * definition: what is read, and for every defect the exact line a person will see.
 */
#include <cohort/definition.h>

#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int parse(const char *text, size_t len, cohort_definition *out, cohort_error *error)
{
    struct unit_bytes copy = unit_bytes_copy(text, len);
    int rc = cohort_definition_parse("c.json", (const char *)copy.bytes, len, out, error);
    unit_bytes_free(&copy);
    return rc;
}

static void parses(const char *text, cohort_definition *out)
{
    cohort_error error = {.code = 99, .text = "left over"};
    if (parse(text, strlen(text), out, &error) != COHORT_OK) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(error.code, COHORT_OK);
    assert_string_equal(error.text, "");
}

/* "c.json:1:20: $..." without the place, which each_defect_has_its_place() looks at. */
static const char *without_place(const char *line, char *out, size_t cap)
{
    unsigned row = 0, column = 0;
    int at = 0;
    if (strncmp(line, "c.json:", 7) == 0 && sscanf(line + 7, "%u:%u: $%n", &row, &column, &at) == 2 && at > 0) {
        (void)snprintf(out, cap, "c.json: %s", line + 7 + at - 1);
        return out;
    }
    return line;
}

/* A failure: its code, its line, and an `out` that nobody touched. */
static void fails(const char *text, int code, const char *message)
{
    cohort_definition out, before;
    cohort_error error;
    memset(&out, 0x5a, sizeof(out));
    before = out;
    int rc = parse(text, strlen(text), &out, &error);
    char placeless[sizeof(error.text)];
    const char *said = without_place(error.text, placeless, sizeof(placeless));
    if (rc != code || error.code != code || strcmp(said, message) != 0) {
        fail_msg("%s\n  gave %s \"%s\"\n  not  %s \"%s\"", text, cohort_error_name(rc), error.text, cohort_error_name(code), message);
    }
    assert_memory_equal(&out, &before, sizeof(out));
    assert_int_equal(parse(text, strlen(text), &out, NULL), code);
}

static void seed_file(void **state)
{
    cohort_definition d;
    parses("{ \"nodes\": [\n"
           "  { \"id\": \"127.0.1.1\", \"ip\": \"127.0.1.1\", \"tcpPort\": 9876 },\n"
           "  { \"id\": \"n2\", \"ip\": \"127.0.1.2\", \"tcpPort\": 65535 },\n"
           "  { \"id\": \"n3\", \"ip\": \"127.0.1.3\" } ] }\n",
           &d);
    assert_int_equal(d.node_count, 3);
    assert_string_equal(d.cluster, "");
    assert_string_equal(d.nodes[0].id, "127.0.1.1");
    assert_string_equal(d.nodes[0].ip, "127.0.1.1");
    assert_int_equal(d.nodes[0].tcp_port, 9876);
    assert_int_equal(d.nodes[1].tcp_port, 65535);
    assert_int_equal(d.nodes[2].tcp_port, COHORT_PORT_DEFAULT);
    assert_ptr_equal(cohort_definition_find(&d, "n2"), &d.nodes[1]);
    assert_null(cohort_definition_find(&d, "n"));
    cohort_definition_free(&d);
    assert_null(d.nodes);
    assert_int_equal(d.node_count, 0);
    cohort_definition_free(&d);
    assert_null(cohort_definition_find(&d, "n2"));
}

static void extensions_and_unknown_keys(void **state)
{
    cohort_definition d;
    parses("{\"cluster\":\"prod-1\",\"comment\":[1,{}],\"nodes\":[{\"id\":\"a\",\"ip\":\"::1\",\"rack\":null,\"name\":\"a\"}]}", &d);
    assert_string_equal(d.cluster, "prod-1");
    cohort_definition_free(&d);
    parses("{\"cluster\":\"\",\"nodes\":[]}", &d);
    assert_string_equal(d.cluster, "");
    assert_int_equal(d.node_count, 0);
    assert_null(cohort_definition_find(&d, "a"));
    cohort_definition_free(&d);
}

static void addresses_become_canonical(void **state)
{
    cohort_definition d;
    parses("{\"nodes\":[{\"id\":\"a\",\"ip\":\"2001:0DB8:0:0:0:0:0:6\"},{\"id\":\"b\",\"ip\":\"0::1\"},"
           "{\"id\":\"c\",\"ip\":\"::1\",\"tcpPort\":1},{\"id\":\"d\",\"ip\":\"255.255.255.254\"}]}",
           &d);
    assert_string_equal(d.nodes[0].ip, "2001:db8::6");
    assert_string_equal(d.nodes[1].ip, "::1");
    assert_string_equal(d.nodes[2].ip, "::1"); /* one address twice, but at another port */
    assert_string_equal(d.nodes[3].ip, "255.255.255.254");
    cohort_definition_free(&d);
}

static void syntax_errors_name_line_and_column(void **state)
{
    fails("{\"nodes\": [\n  {\"id\": \"a\", \"ip\": }\n]}", COHORT_ESYNTAX, "c.json:2:21: unexpected token near '}'");
    fails("{\"nodes\": [],}", COHORT_ESYNTAX, "c.json:1:14: string or '}' expected near '}'");
    fails("{\"nodes\": []} x", COHORT_ESYNTAX, "c.json:1:15: end of file expected near 'x'");
    fails("{\"nodes\": [], \"nodes\": []}", COHORT_ESYNTAX, "c.json:1:21: duplicate object key near '\"nodes\"'");
    fails("{\"nodes\":[{\"id\":\"a\",\n\"ip\":\"1.1.1.1\",\"id\":\"b\"}]}", COHORT_ESYNTAX,
          "c.json:2:19: duplicate object key near '\"id\"'");
    fails("", COHORT_ESYNTAX, "c.json:1:1: unexpected token near end of file");
    fails("{\"nodes\":[{\"id\":\"a\\u0000b\"}]}", COHORT_ESYNTAX, "c.json:1:26: a string may not contain \\u0000");
    fails("{\"nodes\":[{\"tcpPort\":99999999999999999999}]}", COHORT_ESYNTAX,
          "c.json:1:41: too big integer near '99999999999999999999'");
    fails("{\"a\nb\":1}", COHORT_ESYNTAX, "c.json:1:3: unexpected newline near '\"a'");
    fails("\xff", COHORT_ESYNTAX, "c.json:1:1: unable to decode byte 0xff");
    fails("not json", COHORT_ESYNTAX, "c.json:1:3: invalid token near 'not'");
}

static void root_and_nodes(void **state)
{
    fails("[]", COHORT_EDEFINITION, "c.json: $: [] is not an object");
    fails("5", COHORT_EDEFINITION, "c.json: $: 5 is not an object");
    fails("null", COHORT_EDEFINITION, "c.json: $: null is not an object");
    fails("{}", COHORT_EDEFINITION, "c.json: $.nodes: is missing");
    fails("{\"nodes\":{}}", COHORT_EDEFINITION, "c.json: $.nodes: {} is not an array");
    fails("{\"nodes\":null}", COHORT_EDEFINITION, "c.json: $.nodes: null is not an array");
    fails("{\"nodes\":[[]]}", COHORT_EDEFINITION, "c.json: $.nodes[0]: [] is not an object");
    fails("{\"nodes\":[{\"id\":\"a\",\"ip\":\"1.1.1.1\"},\"b\"]}", COHORT_EDEFINITION, "c.json: $.nodes[1]: \"b\" is not an object");
    fails("{\"nodes\":[],\"cluster\":1}", COHORT_EDEFINITION, "c.json: $.cluster: 1 is not a string");
    fails("{\"nodes\":[],\"cluster\":\"a b\"}", COHORT_EDEFINITION,
          "c.json: $.cluster: \"a b\" is not a cluster name (at most 64 letters, digits, '.', '_' or '-')");
}

/* One node whose body is `body`, after a good one, and the message after "c.json: $.nodes[1]". */
static void node_fails(const char *body, const char *message)
{
    char text[1024], whole[1024];
    (void)snprintf(text, sizeof(text), "{\"nodes\":[{\"id\":\"a\",\"ip\":\"10.0.0.1\"},{%s}]}", body);
    (void)snprintf(whole, sizeof(whole), "c.json: $.nodes[1]%s", message);
    fails(text, COHORT_EDEFINITION, whole);
}

static void ids(void **state)
{
    node_fails("\"ip\":\"10.0.0.2\"", ".id: is missing");
    node_fails("\"id\":7,\"ip\":\"10.0.0.2\"", ".id: 7 is not a string");
    node_fails("\"id\":null,\"ip\":\"10.0.0.2\"", ".id: null is not a string");
    node_fails("\"id\":\"\",\"ip\":\"10.0.0.2\"", ".id: \"\" is not an id (1 to 64 letters, digits, '.', '_' or '-')");
    node_fails("\"id\":\"a:b\",\"ip\":\"10.0.0.2\"", ".id: \"a:b\" is not an id (1 to 64 letters, digits, '.', '_' or '-')");
    node_fails("\"id\":\"\xc3\xa4\\n\",\"ip\":\"10.0.0.2\"",
               ".id: \"\\u00E4\\n\" is not an id (1 to 64 letters, digits, '.', '_' or '-')");
    node_fails("\"id\":\"a\",\"ip\":\"10.0.0.2\"", ".id: \"a\" is the id of $.nodes[0] too");
}

static void ips(void **state)
{
    node_fails("\"id\":\"b\"", ".ip: is missing");
    node_fails("\"id\":\"b\",\"ip\":[\"10.0.0.2\"]", ".ip: [\"10.0.0.2\"] is not a string");
    node_fails("\"id\":\"b\",\"ip\":\"300.1.1.1\"", ".ip: \"300.1.1.1\" is not an IPv4 or IPv6 address, nor a host name");
    node_fails("\"id\":\"b\",\"ip\":\"\"", ".ip: \"\" is not an IPv4 or IPv6 address, nor a host name");
    node_fails("\"id\":\"b\",\"ip\":\"a b\"", ".ip: \"a b\" is not an IPv4 or IPv6 address, nor a host name");
    node_fails("\"id\":\"b\",\"ip\":\"0x7f.1\"", ".ip: \"0x7f.1\" is not an IPv4 or IPv6 address, nor a host name");
    node_fails("\"id\":\"b\",\"ip\":\"-a.b\"", ".ip: \"-a.b\" is not an IPv4 or IPv6 address, nor a host name");
    node_fails("\"id\":\"b\",\"ip\":\"10.0.0.2/32\"", ".ip: \"10.0.0.2/32\" is not an IPv4 or IPv6 address, nor a host name");
    node_fails("\"id\":\"b\",\"ip\":\"fe80::1%eth0\"", ".ip: \"fe80::1%eth0\" is not an IPv4 or IPv6 address, nor a host name");
    node_fails("\"id\":\"b\",\"ip\":\"0.0.0.0\"", ".ip: \"0.0.0.0\" is not an address that others can connect to");
    node_fails("\"id\":\"b\",\"ip\":\"0::0\"", ".ip: \"0::0\" is not an address that others can connect to");
    node_fails("\"id\":\"b\",\"ip\":\"10.0.0.1\"", ": {\"id\":\"b\",\"ip\":\"10.0.0.1\"} has the address of $.nodes[0] too");
    fails("{\"nodes\":[{\"id\":\"a\",\"ip\":\"::1\",\"tcpPort\":5},{\"id\":\"b\",\"ip\":\"0:0::1\",\"tcpPort\":5}]}",
          COHORT_EDEFINITION, "c.json: $.nodes[1]: {\"id\":\"b\",\"ip\":\"0:0::1\",\"tcpPort\":5} has the address of $.nodes[0] too");
}

static void bind_addresses(void **state)
{
    cohort_definition d;
    parses("{\"nodes\":[{\"id\":\"a\",\"ip\":\"A.Example.org\",\"bind\":\"0.0.0.0\"},{\"id\":\"b\",\"ip\":\"10.0.0.2\",\"bind\":"
           "\"0:0::0\"},"
           "{\"id\":\"c\",\"ip\":\"my_host.\"}]}",
           &d);
    assert_string_equal(d.nodes[0].ip, "a.example.org");
    assert_string_equal(d.nodes[0].bind, "0.0.0.0");
    assert_string_equal(d.nodes[1].bind, "::");
    assert_string_equal(d.nodes[2].ip, "my_host.");
    assert_string_equal(d.nodes[2].bind, "");
    cohort_definition_free(&d);
    node_fails("\"id\":\"b\",\"ip\":\"h\",\"bind\":5", ".bind: 5 is not a string");
    node_fails("\"id\":\"b\",\"ip\":\"h\",\"bind\":\"h\"", ".bind: \"h\" is not an IPv4 or IPv6 address to listen on");
    node_fails("\"id\":\"b\",\"ip\":\"h\",\"bind\":\"\"", ".bind: \"\" is not an IPv4 or IPv6 address to listen on");
    fails("{\"nodes\":[{\"id\":\"a\",\"ip\":\"Host\"},{\"id\":\"b\",\"ip\":\"hOST\"}]}", COHORT_EDEFINITION,
          "c.json: $.nodes[1]: {\"id\":\"b\",\"ip\":\"hOST\"} has the address of $.nodes[0] too");
}

/* The line a person sees begins as a compiler's does. */
static void each_defect_has_its_place(void **state)
{
    static const struct {
        const char *text, *start;
    } defects[] = {
        {" \n []", "c.json:2:2: $: "},
        {"{\"a\": 1,\n  \"cluster\": 7}", "c.json:2:14: $.cluster: "},
        {"{\n \"nodes\": 3}", "c.json:2:11: $.nodes: "},
        {"\n{\"cluster\": \"\"}", "c.json:2:1: $.nodes: is missing"},
        {"{\"x\": [{\"nodes\": []}, \"\\\"]}\"],\n\"nodes\": [\n  {\"id\": \"a\", \"ip\": \"10.0.0.1\"},\n  {\"id\": \"\xc3\xa4\", "
         "\"ip\": 5}\n]}",
         "c.json:4:10: $.nodes[1].id: "},
        {"{\"nodes\": [\n  {\"id\": \"a\", \"n\": \"\xc3\xa4\", \"ip\": 5}]}", "c.json:2:31: $.nodes[0].ip: 5"},
        {"{\"nodes\": [\n  {\"id\": \"a\"}]}", "c.json:2:3: $.nodes[0].ip: is missing"},
        {"{\"nodes\": [\n  {\"id\": \"a\", \"ip\": \"h\"},\n  {\"id\": \"b\", \"ip\": \"h\"}]}", "c.json:3:3: $.nodes[1]: "},
    };
    for (size_t i = 0; i < UNIT_COUNT(defects); i++) {
        cohort_definition d;
        cohort_error error;
        assert_int_equal(parse(defects[i].text, strlen(defects[i].text), &d, &error), COHORT_EDEFINITION);
        if (strncmp(error.text, defects[i].start, strlen(defects[i].start)) != 0) {
            fail_msg("\"%s\" does not begin with \"%s\"", error.text, defects[i].start);
        }
    }
}

static void ports(void **state)
{
    static const struct {
        const char *value;
        const char *what;
    } bad[] = {
        {"0", "0 is not a port (1 to 65535)"},          {"-1", "-1 is not a port (1 to 65535)"},
        {"65536", "65536 is not a port (1 to 65535)"},  {"9223372036854775807", "9223372036854775807 is not a port (1 to 65535)"},
        {"9876.5", "9876.5 is not a whole number"},     {"9876.0", "9876.0 is not a whole number"},
        {"\"9876\"", "\"9876\" is not a whole number"}, {"true", "true is not a whole number"},
        {"null", "null is not a whole number"},         {"{}", "{} is not a whole number"},
    };
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        char body[200], message[200];
        (void)snprintf(body, sizeof(body), "\"id\":\"b\",\"ip\":\"10.0.0.2\",\"tcpPort\":%s", bad[i].value);
        (void)snprintf(message, sizeof(message), ".tcpPort: %s", bad[i].what);
        node_fails(body, message);
    }
}

/* Long values and long names are cut so that the reason is still there. */
static void long_values_and_names(void **state)
{
    char text[5000], name[3000], x[101];
    cohort_definition out;
    cohort_error error;
    memset(x, 'x', sizeof(x) - 1);
    x[sizeof(x) - 1] = '\0';
    (void)snprintf(text, sizeof(text), "{\"nodes\":[{\"id\":\"%s%s%s\",\"ip\":\"1.1.1.1\"}]}", x, x, x);
    memset(name, 'd', sizeof(name));
    memcpy(name + sizeof(name) - 9, "/end\nson", 9);
    assert_int_equal(cohort_definition_parse(name, text, strlen(text), &out, &error), COHORT_EDEFINITION);
    assert_memory_equal(error.text, "...ddd", 6);
    assert_non_null(strstr(error.text, "/end?son:1:17: $.nodes[0].id: \"xxx"));
    assert_non_null(strstr(error.text, "x... is not an id"));
    assert_true(strlen(error.text) < sizeof(error.text) - 1);
}

static void limits(void **state)
{
    cohort_error error;
    cohort_definition d;
    size_t cap = (size_t)COHORT_DEFINITION_BYTES_MAX + 1, len = 0;
    char *text = malloc(cap);
    for (int count = COHORT_DEFINITION_NODES_MAX; count <= COHORT_DEFINITION_NODES_MAX + 1; count++) {
        len = (size_t)snprintf(text, cap, "{\"nodes\":[");
        for (int i = 0; i < count; i++) {
            len += (size_t)snprintf(text + len, cap - len, "%s{\"id\":\"n%d\",\"ip\":\"10.0.%d.%d\"}", i == 0 ? "" : ",", i,
                                    i / 250, i % 250 + 1);
        }
        len += (size_t)snprintf(text + len, cap - len, "]}");
        if (count == COHORT_DEFINITION_NODES_MAX) {
            parses(text, &d);
            assert_int_equal(d.node_count, COHORT_DEFINITION_NODES_MAX);
            cohort_definition_free(&d);
        } else {
            fails(text, COHORT_ESIZE, "c.json: $.nodes: 1025 nodes, where at most 1024 may be");
        }
    }
    memset(text, ' ', cap);
    memcpy(text, "{\"nodes\":[]}", 12);
    assert_int_equal(cohort_definition_parse("c.json", text, cap - 1, &d, &error), COHORT_OK);
    cohort_definition_free(&d);
    assert_int_equal(cohort_definition_parse("c.json", text, cap, &d, &error), COHORT_ESIZE);
    assert_string_equal(error.text, "c.json: larger than a definition may be (1 MiB)");
    free(text);
}

static void deep_nesting_is_refused(void **state)
{
    enum {
        DEPTH = 100000
    };
    char *text = malloc(DEPTH);
    cohort_definition d;
    cohort_error error;
    memset(text, '[', DEPTH);
    assert_int_equal(parse(text, DEPTH, &d, &error), COHORT_ESYNTAX);
    free(text);
}

/* ---- files ---- */

static char directory[4096];

static int make_directory(void **state)
{
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(directory, sizeof(directory), "%s/cohort-definition-XXXXXX", tmp != NULL ? tmp : "/tmp");
    return mkdtemp(directory) == NULL;
}

static int remove_directory(void **state)
{
    return rmdir(directory);
}

static const char *path_in(const char *name)
{
    static char path[sizeof(directory) + 64];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

static const char *write_file(const char *name, const char *text, size_t len)
{
    const char *path = path_in(name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
    return path;
}

static void read_fails(const char *path, int code, const char *what)
{
    cohort_definition out, before;
    cohort_error error;
    char message[2 * sizeof(directory)];
    memset(&out, 0x5a, sizeof(out));
    before = out;
    assert_int_equal(cohort_definition_read(path, &out, &error), code);
    (void)snprintf(message, sizeof(message), "%s%s", path, what);
    assert_string_equal(error.text, message);
    assert_int_equal(error.code, code);
    assert_memory_equal(&out, &before, sizeof(out));
    assert_int_equal(cohort_definition_read(path, &out, NULL), code);
}

static void reads_a_file(void **state)
{
    const char *text = "{\"nodes\":[{\"id\":\"a\",\"ip\":\"10.0.0.1\"}]}";
    const char *path = write_file("good.json", text, strlen(text));
    cohort_definition d;
    assert_int_equal(cohort_definition_read(path, &d, NULL), COHORT_OK);
    assert_int_equal(d.node_count, 1);
    cohort_definition_free(&d);
    (void)unlink(path);
    path = write_file("bad.json", "{\"nodes\":[5]}", 13);
    read_fails(path, COHORT_EDEFINITION, ":1:11: $.nodes[0]: 5 is not an object");
    (void)unlink(path);
    path = write_file("bad.json", "{\n?", 3);
    read_fails(path, COHORT_ESYNTAX, ":2:1: string or '}' expected near '?'");
    (void)unlink(path);
}

static void not_a_readable_file(void **state)
{
    read_fails(path_in("missing.json"), COHORT_EFILE, ": cannot be opened: No such file or directory");
    read_fails(directory, COHORT_EFILE, ": is a directory");
    const char *path = path_in("pipe");
    assert_int_equal(mkfifo(path, 0600), 0);
    read_fails(path, COHORT_EFILE, ": is not a regular file");
    (void)unlink(path);
    read_fails("/dev/null", COHORT_EFILE, ": is not a regular file");
    if (geteuid() != 0) { /* root may read everything */
        path = write_file("secret.json", "{}", 2);
        assert_int_equal(chmod(path, 0), 0);
        read_fails(path, COHORT_EFILE, ": cannot be opened: Permission denied");
        (void)unlink(path);
    }
}

static void too_large_a_file(void **state)
{
    const char *path = write_file("large.json", "{", 1);
    assert_int_equal(truncate(path, (off_t)COHORT_DEFINITION_BYTES_MAX + 1), 0);
    read_fails(path, COHORT_ESIZE, ": larger than a definition may be (1 MiB)");
    assert_int_equal(truncate(path, (off_t)1 << 40), 0); /* sparse: must not be read whole to be refused */
    read_fails(path, COHORT_ESIZE, ": larger than a definition may be (1 MiB)");
    (void)unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seed_file),
        cmocka_unit_test(extensions_and_unknown_keys),
        cmocka_unit_test(addresses_become_canonical),
        cmocka_unit_test(syntax_errors_name_line_and_column),
        cmocka_unit_test(root_and_nodes),
        cmocka_unit_test(ids),
        cmocka_unit_test(ips),
        cmocka_unit_test(bind_addresses),
        cmocka_unit_test(each_defect_has_its_place),
        cmocka_unit_test(ports),
        cmocka_unit_test(long_values_and_names),
        cmocka_unit_test(limits),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(reads_a_file),
        cmocka_unit_test(not_a_readable_file),
        cmocka_unit_test(too_large_a_file),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
