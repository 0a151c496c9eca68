/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort definition: check, show and change the file of a cluster; ask the agent what it made of its own.
 *
 * A change is read, changed and written under a lock on the file's directory, so that two of these at once both take effect.
 * Complaints about a file begin with FILE:LINE:COLUMN, as editors like it.
 */
#include "client.h"
#include "commands.h"
#include "output.h"

#include <cohort/definition.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define CREATE_NOTE "With --create a file that is not there is made."

static int complain(const cohort_error *error)
{
    fprintf(stderr, "%s\n", error->text);
    return EXIT_FAILED;
}

/* ---- reading ------------------------------------------------------------------------------------------------------- */

static int check(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "definition check",
        .operands = "FILE",
        .summary = "Say whether FILE is a cluster definition, and if not, where and why not.",
        .operands_min = 1,
        .operands_max = 1,
    };
    const struct option options[] = {{.name = NULL}};
    const char *operands[OPERANDS_MAX];
    cohort_definition definition;
    cohort_error error;
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    if (cohort_definition_read(operands[0], &definition, &error) != COHORT_OK) {
        return complain(&error);
    }
    printf("%s: %zu node%s%s%s\n", operands[0], definition.node_count, definition.node_count == 1 ? "" : "s",
           definition.cluster[0] == '\0' ? "" : ", cluster ", definition.cluster);
    cohort_definition_free(&definition);
    return EXIT_FINE;
}

static int address_text(const cohort_definition_node *node, char *out, size_t cap)
{
    bool v6 = strchr(node->ip, ':') != NULL;
    return snprintf(out, cap, v6 ? "[%s]:%u" : "%s:%u", node->ip, (unsigned)node->tcp_port);
}

static int show_text(const cohort_definition *definition)
{
    int id_width = 2, address_width = 7;
    char address[COHORT_HOST_BYTES_MAX + 16];
    for (size_t i = 0; i < definition->node_count; i++) {
        int id_len = (int)strlen(definition->nodes[i].id), len = address_text(&definition->nodes[i], address, sizeof(address));
        id_width = id_len > id_width ? id_len : id_width;
        address_width = len > address_width ? len : address_width;
    }
    if (definition->cluster[0] != '\0') {
        printf("cluster %s\n", definition->cluster);
    }
    printf("%-*s  %-*s  BIND\n", id_width, "ID", address_width, "ADDRESS");
    for (size_t i = 0; i < definition->node_count; i++) {
        const cohort_definition_node *node = &definition->nodes[i];
        (void)address_text(node, address, sizeof(address));
        printf("%-*s  %-*s  %s\n", id_width, node->id, address_width, address, node->bind[0] == '\0' ? "-" : node->bind);
    }
    return EXIT_FINE;
}

static int show_json(const cohort_definition *definition)
{
    json_t *nodes = json_array();
    for (size_t i = 0; i < definition->node_count; i++) {
        const cohort_definition_node *node = &definition->nodes[i];
        json_array_append_new(nodes, json_pack("{s:s, s:s, s:i, s:s*}", "id", node->id, "ip", node->ip, "tcpPort",
                                               (int)node->tcp_port, "bind", node->bind[0] == '\0' ? NULL : node->bind));
    }
    json_t *root = json_pack("{s:s, s:o}", "cluster", definition->cluster, "nodes", nodes);
    bool printed = root != NULL && json_array_size(nodes) == definition->node_count && json_dumpf(root, stdout, JSON_COMPACT) == 0;
    json_decref(root);
    printf("\n");
    return output_flush("definition show") == EXIT_FINE && printed ? EXIT_FINE : EXIT_FAILED;
}

static int show(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "definition show",
        .operands = "FILE",
        .summary = "Print the nodes of a cluster definition, in the order of the file, defaults filled in.",
        .notes =
            "--json prints {\"cluster\":NAME,\"nodes\":[{\"id\",\"ip\",\"tcpPort\",\"bind\"}]}; bind only where a node has one.",
        .operands_min = 1,
        .operands_max = 1,
    };
    bool as_json = false;
    const struct option options[] = {
        {.name = "json", .kind = OPTION_FLAG, .target = &as_json, .help = "print JSON"},
        {.name = NULL},
    };
    const char *operands[OPERANDS_MAX];
    cohort_definition definition;
    cohort_error error;
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    if (cohort_definition_read(operands[0], &definition, &error) != COHORT_OK) {
        return complain(&error);
    }
    code = as_json ? show_json(&definition) : show_text(&definition);
    cohort_definition_free(&definition);
    return code;
}

/* ---- changing ------------------------------------------------------------------------------------------------------ */

/* Of the directory that holds the file, links followed. -1: it cannot be locked, and writing will say why. */
static int lock_directory(const char *path)
{
    char *real = realpath(path, NULL);
    char *directory = real != NULL ? real : strdup(path);
    char *slash = directory == NULL ? NULL : strrchr(directory, '/');
    if (slash != NULL) {
        slash[slash == directory] = '\0';
    }
    int fd = directory == NULL ? -1 : open(slash == NULL ? "." : directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(directory);
    while (fd >= 0 && flock(fd, LOCK_EX) != 0 && errno == EINTR) {
    }
    return fd;
}

struct change {
    const char *path;
    cohort_definition_node node;
    bool create;
    bool has_ip, has_bind; /* set: otherwise as it is */
    int (*apply)(cohort_definition *definition, struct change *change, cohort_error *error);
};

static int apply_add(cohort_definition *definition, struct change *change, cohort_error *error)
{
    return cohort_definition_add(definition, &change->node, error);
}

static int apply_set(cohort_definition *definition, struct change *change, cohort_error *error)
{
    const cohort_definition_node *there = cohort_definition_find(definition, change->node.id);
    if (there != NULL) {
        change->node.tcp_port = change->node.tcp_port != 0 ? change->node.tcp_port : there->tcp_port;
        memcpy(change->node.ip, change->has_ip ? change->node.ip : there->ip, sizeof(there->ip));
        memcpy(change->node.bind, change->has_bind ? change->node.bind : there->bind, sizeof(there->bind));
    }
    return there != NULL ? cohort_definition_set(definition, &change->node, error)
                         : cohort_definition_remove(definition, change->node.id, error); /* which says that there is none */
}

static int apply_remove(cohort_definition *definition, struct change *change, cohort_error *error)
{
    return cohort_definition_remove(definition, change->node.id, error);
}

static int change_file(struct change *change)
{
    cohort_definition definition = {.node_count = 0};
    cohort_error error = {.code = COHORT_OK};
    int lock = lock_directory(change->path);
    bool fresh = change->create && access(change->path, F_OK) != 0 && errno == ENOENT;
    int rc = fresh ? COHORT_OK : cohort_definition_read(change->path, &definition, &error);
    bool about_file = rc != COHORT_OK;
    if (rc == COHORT_OK) {
        rc = change->apply(&definition, change, &error);
    }
    if (rc == COHORT_OK) {
        rc = cohort_definition_write(change->path, &definition, &error);
        about_file = rc == COHORT_EFILE;
    }
    if (lock >= 0) {
        close(lock);
    }
    cohort_definition_free(&definition);
    if (rc != COHORT_OK && !about_file) {
        fprintf(stderr, "%s: ", change->path);
    }
    return rc == COHORT_OK ? EXIT_FINE : complain(&error);
}

/* What is too long for its field is no value of that field, and the library says so of what is left. */
static void copy(char *out, size_t cap, const char *text)
{
    snprintf(out, cap, "%s", text == NULL ? "" : text);
}

#define OPTION_PORT(variable, text)                                                                                        \
    {                                                                                                                      \
        .name = "port", .kind = OPTION_NUMBER, .value = "N", .target = &(variable), .min = 1, .max = 65535, .help = (text) \
    }

static bool fill(struct change *change, const char *const operands[OPERANDS_MAX], uint64_t port, const char *bind)
{
    change->path = operands[0];
    change->has_ip = operands[2] != NULL;
    change->has_bind = bind != NULL;
    change->node.tcp_port = (uint16_t)port;
    copy(change->node.id, sizeof(change->node.id), operands[1]);
    copy(change->node.ip, sizeof(change->node.ip), operands[2]);
    copy(change->node.bind, sizeof(change->node.bind), bind);
    if (strlen(operands[1]) <= COHORT_ID_BYTES_MAX && (operands[2] == NULL || strlen(operands[2]) <= COHORT_HOST_BYTES_MAX)) {
        return true;
    }
    fprintf(stderr, "%s: the id may have %d bytes, the ip %d\n", change->path, COHORT_ID_BYTES_MAX, COHORT_HOST_BYTES_MAX);
    return false;
}

static int add(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "definition add",
        .operands = "FILE ID IP",
        .summary = "Add a node at the end of a cluster definition. IP is an IPv4 or IPv6 address, or a host name.",
        .notes = CREATE_NOTE " Nodes that follow the file take the change at once.",
        .operands_min = 3,
        .operands_max = 3,
    };
    struct change change = {.apply = apply_add};
    const char *bind = NULL;
    uint64_t port = 0;
    const struct option options[] = {
        OPTION_PORT(port, "TCP port, default 9876"),
        {.name = "bind", .kind = OPTION_TEXT, .value = "IP", .target = &bind, .help = "what it listens on, if not its IP"},
        {.name = "create", .kind = OPTION_FLAG, .target = &change.create, .help = "make the file if there is none"},
        {.name = NULL},
    };
    const char *operands[OPERANDS_MAX];
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    return fill(&change, operands, port, bind) ? change_file(&change) : EXIT_FAILED;
}

static int set(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "definition set",
        .operands = "FILE ID [IP]",
        .summary = "Give a node of a cluster definition another address. What is not given stays.",
        .notes = "--bind '' takes the bind away. Nodes that follow the file take the change at once; the node itself when it is "
                 "restarted.",
        .operands_min = 2,
        .operands_max = 3,
    };
    struct change change = {.apply = apply_set};
    const char *bind = NULL;
    uint64_t port = 0;
    const struct option options[] = {
        OPTION_PORT(port, "TCP port"),
        {.name = "bind", .kind = OPTION_TEXT, .value = "IP", .target = &bind, .help = "what it listens on"},
        {.name = NULL},
    };
    const char *operands[OPERANDS_MAX];
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    return fill(&change, operands, port, bind) ? change_file(&change) : EXIT_FAILED;
}

static int remove_node(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "definition remove",
        .operands = "FILE ID",
        .summary = "Remove a node from a cluster definition. Nodes that follow the file take the change at once.",
        .operands_min = 2,
        .operands_max = 2,
    };
    struct change change = {.apply = apply_remove};
    const struct option options[] = {{.name = NULL}};
    const char *operands[OPERANDS_MAX];
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    return fill(&change, operands, 0, NULL) ? change_file(&change) : EXIT_FAILED;
}

/* ---- the agent's --------------------------------------------------------------------------------------------------- */

static int print_status(struct client *client)
{
    json_t *root = client_json(client);
    if (root == NULL) {
        return EXIT_FAILED;
    }
    const json_t *error = json_object_get(root, "error");
    const char *file = json_string_value(json_object_get(root, "file"));
    printf("file      %s\n", file == NULL ? "-" : file);
    printf("followed  %s\n", json_is_true(json_object_get(root, "followed")) ? "yes" : "no");
    printf("applied   %" JSON_INTEGER_FORMAT "\n", json_integer_value(json_object_get(root, "applied")));
    printf("failed    %" JSON_INTEGER_FORMAT "\n", json_integer_value(json_object_get(root, "failed")));
    const char *text = json_string_value(json_object_get(error, "text"));
    printf("state     %s%s\n", error == NULL ? "in use" : "not used: ", error == NULL ? "" : text == NULL ? "?" : text);
    json_decref(root);
    return EXIT_FINE;
}

static int status(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "definition status",
        .operands = "",
        .summary = "Print what the agent made of its cluster definition: whether it follows the file, and why it does not use it.",
        .notes = "--json prints {\"file\",\"followed\",\"applied\",\"failed\",\"error\":{\"code\",\"text\"}}, error only if there "
                 "is one.",
    };
    const char *control = NULL;
    bool as_json = false;
    const struct option options[] = {
        OPTION_CONTROL(control),
        {.name = "json", .kind = OPTION_FLAG, .target = &as_json, .help = "print JSON"},
        {.name = NULL},
    };
    const char *operands[OPERANDS_MAX];
    struct client client;
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    code = client_open(&client, usage.command, control);
    if (code != EXIT_FINE) {
        return code;
    }
    code = client_get(&client, client_url(&client, "/v1/definition", NULL, NULL));
    if (code == EXIT_FINE) {
        code = as_json ? output_bytes(usage.command, client.body, client.body_len) : print_status(&client);
    }
    client_close(&client);
    return code;
}

/* ---- which --------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name, *operands, *summary;
    int (*run)(int argc, char **argv);
} subcommands[] = {
    {"check", "FILE", "say whether it is one, and where not", check},
    {"show", "FILE", "print its nodes", show},
    {"add", "FILE ID IP", "add a node", add},
    {"set", "FILE ID [IP]", "give a node another address", set},
    {"remove", "FILE ID", "remove a node", remove_node},
    {"status", "", "what the agent made of its own", status},
};

enum {
    SUBCOMMAND_COUNT = sizeof(subcommands) / sizeof(subcommands[0])
};

static void print_usage(FILE *out)
{
    fprintf(out,
            "Usage: cohort definition SUBCOMMAND [OPTIONS] [OPERANDS]\n\nThe file that says who is in the cluster. Subcommands:\n");
    for (int i = 0; i < SUBCOMMAND_COUNT; i++) {
        fprintf(out, "  %-6s %-13s  %s\n", subcommands[i].name, subcommands[i].operands, subcommands[i].summary);
    }
    fprintf(out, "\n  -h, --help  print this and exit; 'cohort definition SUBCOMMAND --help' for one of them\n");
}

int command_definition(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_usage(stdout);
        return EXIT_FINE;
    }
    for (int i = 0; i < SUBCOMMAND_COUNT; i++) {
        if (strcmp(subcommands[i].name, argv[1]) == 0) {
            return subcommands[i].run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "cohort definition: unknown subcommand '%s'\nTry 'cohort definition --help'.\n", argv[1]);
    return EXIT_USAGE;
}
