/* SPDX-License-Identifier: Apache-2.0
 *
 * node/follow and node/dial on real nodes: definitions given by a call and by a file that changes; members by host name.
 */
#include "rig.h"

static char directory[256];

static int set_up(void **state)
{
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(directory, sizeof directory, "%s/cohort-follow-XXXXXX", tmp != NULL ? tmp : "/tmp");
    return mkdtemp(directory) == NULL ? -1 : warm_up(state);
}

static int tear_down(void **state)
{
    char command[300];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

static const char *file(void)
{
    static char path[300];
    (void)snprintf(path, sizeof path, "%s/cluster.json", directory);
    return path;
}

/* Of the nodes with these numbers, ended by a negative one. */
static cohort_definition listing(const int *numbers)
{
    cohort_definition d = {.node_count = 0};
    for (; *numbers >= 0; numbers++) {
        cohort_definition_node n = {.tcp_port = PORT};
        (void)snprintf(n.id, sizeof n.id, "%s", address((unsigned)*numbers));
        (void)snprintf(n.ip, sizeof n.ip, "%s", address((unsigned)*numbers));
        assert_int_equal(cohort_definition_add(&d, &n, NULL), COHORT_OK);
    }
    return d;
}

#define LIST(...) listing((const int[]){__VA_ARGS__, -1})

static void write_file(cohort_definition d)
{
    assert_int_equal(cohort_definition_write(file(), &d, NULL), COHORT_OK);
    cohort_definition_free(&d);
}

static int apply(struct rig_node *n, cohort_definition d, cohort_error *error)
{
    int status = cohort_node_apply_definition(n->node, &d, error);
    cohort_definition_free(&d);
    return status;
}

static size_t members(struct rig_node *n)
{
    size_t count = 0;
    cohort_node_members(n->node, NULL, 0, &count);
    return count;
}

static cohort_definition_status status_of(struct rig_node *n)
{
    cohort_definition_status status;
    cohort_node_definition_status(n->node, &status);
    return status;
}

static void a_definition_is_applied_by_a_call(void **state)
{
    struct rig_node n[2];
    rig_run(&n[0], 0);
    rig_run(&n[1], 1);
    assert_int_equal(apply(&n[0], LIST(0, 1, 2), NULL), COHORT_OK);
    assert_int_equal(members(&n[0]), 3); /* published when it returns */
    WAIT_FOR(atomic_load(&n[0].activated) == 1 && atomic_load(&n[1].activated) == 1);
    assert_int_equal(atomic_load(&n[0].added), 2);
    assert_int_equal(apply(&n[0], LIST(2), NULL), COHORT_OK);
    assert_int_equal(members(&n[0]), 2);
    WAIT_FOR(atomic_load(&n[0].removed) == 1 && atomic_load(&n[0].deactivated) == 1);
    WAIT_FOR(atomic_load(&n[1].deactivated) == 1);
    assert_int_equal(apply(&n[0], LIST(1), NULL), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].activated) == 2);
    rig_close_pair(n);
}

static void what_is_refused_is_explained(void **state)
{
    struct rig_node n;
    cohort_error error;
    rig_begin(&n);
    cohort_config config = rig_config(&n, 0);
    config.limits.members_max = 2;
    config.cluster = "red";
    rig_open(&n, &config);
    for (int round = 0; round < 2; round++) { /* before start and after */
        assert_int_equal(apply(&n, LIST(1), &error), COHORT_OK);
        assert_string_equal(error.text, "");
        assert_int_equal(apply(&n, LIST(1, 2), &error), COHORT_ELIMIT);
        assert_string_equal(error.text, "with the 2 nodes of the definition there are more members than limits.members_max, 2");
        cohort_definition bad = LIST(1, 2);
        bad.nodes[1].ip[0] = '*';
        assert_int_equal(apply(&n, bad, &error), COHORT_EINVAL);
        assert_non_null(strstr(error.text, "node 1 of the definition, \"127."));
        if (round == 0) {
            rig_start(&n);
        }
    }
    cohort_definition blue = LIST(1), green = LIST(1);
    (void)snprintf(blue.cluster, sizeof blue.cluster, "blue");
    (void)snprintf(green.cluster, sizeof green.cluster, "green");
    assert_int_equal(apply(&n, blue, &error), COHORT_OK); /* the one before named none */
    assert_int_equal(apply(&n, green, &error), COHORT_ECLUSTER);
    assert_string_equal(error.text, "it is the definition of the cluster \"green\", not of \"blue\"");
    assert_int_equal(members(&n), 2);
    assert_int_equal(rig_close(&n), COHORT_OK);
}

static void apply_inside(struct rig_node *n, const cohort_event *event)
{
    if (event->type == COHORT_MEMBER_ADDED && strcmp(event->member.id, address(2)) == 0) {
        assert_int_equal(apply(n, LIST(3), NULL), COHORT_OK); /* takes away the one whose ADDED this is */
        assert_int_equal(apply(n, LIST(2, 3), NULL), COHORT_OK);
        atomic_store(&n->on_event, NULL);
    }
}

static void a_definition_is_applied_in_a_callback(void **state)
{
    struct rig_node n;
    rig_run(&n, 0);
    atomic_store(&n.on_event, apply_inside);
    assert_int_equal(apply(&n, LIST(2), NULL), COHORT_OK);
    assert_int_equal(members(&n), 3);
    assert_int_equal(atomic_load(&n.added), 3);
    assert_int_equal(atomic_load(&n.removed), 1);
    assert_int_equal(rig_close(&n), COHORT_OK);
}

static void run_following(struct rig_node *n, unsigned i)
{
    rig_begin(n);
    cohort_config config = rig_config(n, i);
    config.definition_path = file();
    config.id = address(i);
    config.ip = NULL;
    config.tcp_port = 0;
    cohort_error error;
    cohort_handle_id ignored;
    if (cohort_node_open(&config, &n->node, &error) != COHORT_OK) {
        fail_msg("%s", error.text);
    }
    for (unsigned k = 0; k < 4; k++) {
        expect_id(n, address(k));
    }
    assert_int_equal(cohort_listen(n->node, rig_on_event, n, NULL, &ignored), COHORT_OK);
    rig_start(n);
}

/* The status never speaks of members that are not there yet. */
static _Atomic uint64_t applied_when_added;

static void look_at_status(struct rig_node *n, const cohort_event *event)
{
    if (event->type == COHORT_MEMBER_ADDED) {
        atomic_store(&applied_when_added, status_of(n).applied + 1);
    }
}

static void a_file_is_followed(void **state)
{
    struct rig_node n[2];
    write_file(LIST(0, 1));
    run_following(&n[0], 0); /* also told by the file who it is */
    run_following(&n[1], 1);
    WAIT_FOR(atomic_load(&n[0].activated) == 1 && atomic_load(&n[1].activated) == 1);
    assert_true(status_of(&n[0]).followed);
    assert_int_equal(status_of(&n[0]).applied, 0);
    atomic_store(&n[0].on_event, look_at_status);
    write_file(LIST(0, 1, 2));
    WAIT_FOR(members(&n[0]) == 3 && members(&n[1]) == 3);
    WAIT_FOR(status_of(&n[0]).applied == 1);
    assert_int_equal(atomic_load(&applied_when_added), 1);
    write_file(LIST(0, 2));
    WAIT_FOR(members(&n[0]) == 2);
    WAIT_FOR(atomic_load(&n[0].deactivated) == 1 && atomic_load(&n[1].deactivated) == 1); /* else the other may see no absence */
    write_file(LIST(0, 1));
    WAIT_FOR(atomic_load(&n[0].activated) == 2 && atomic_load(&n[1].activated) == 2);
    rig_close_pair(n);
}

static void a_file_that_cannot_be_used_changes_nothing(void **state)
{
    struct rig_node n;
    write_file(LIST(0, 1));
    run_following(&n, 0);
    assert_int_equal(status_of(&n).error.code, COHORT_OK);
    FILE *f = fopen(file(), "w");
    (void)fputs("{\"nodes\": [\n  {\"id\": 7}]}", f);
    (void)fclose(f);
    WAIT_FOR(status_of(&n).error.code == COHORT_EDEFINITION);
    assert_non_null(strstr(status_of(&n).error.text, "cluster.json:2:10: $.nodes[0].id: 7 is not a string"));
    assert_true(status_of(&n).failed >= 1);
    assert_int_equal(unlink(file()), 0);
    WAIT_FOR(status_of(&n).error.code == COHORT_EFILE);
    assert_int_equal(members(&n), 2);
    write_file(LIST(0, 2, 1));
    WAIT_FOR(status_of(&n).error.code == COHORT_OK);
    assert_int_equal(members(&n), 3);
    assert_string_equal(status_of(&n).error.text, "");
    assert_int_equal(rig_close(&n), COHORT_OK);
}

static void a_file_that_is_not_there_is_an_error_of_opening(void **state)
{
    struct rig_node n;
    cohort_error error;
    rig_begin(&n);
    cohort_config config = rig_config(&n, 0);
    config.definition_path = "/nowhere/cluster.json";
    assert_int_equal(cohort_node_open(&config, &n.node, &error), COHORT_EFILE);
    assert_string_equal(error.text, "/nowhere/cluster.json: cannot be opened: No such file or directory");
    assert_int_equal(atomic_load(&n.memory.blocks), 0);
}

/* ---- by name ------------------------------------------------------------------------------------------------------- */

/* Ports on 127.0.0.1, where "localhost" is; the system gives them out. */
static uint16_t free_port(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof sa;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    (void)close(fd);
    return ntohs(sa.sin_port);
}

/* "localhost" may be ::1 first, where nobody listens: the second address is tried by the next dial. */
static void a_member_is_reached_by_name(void **state)
{
    struct rig_node n[2];
    uint16_t port = free_port();
    rig_begin(&n[1]);
    cohort_config config = rig_config(&n[1], 1);
    config.ip = "localhost";
    config.tcp_port = port;
    config.bind = "127.0.0.1";
    config.id = address(1);
    rig_open(&n[1], &config);
    rig_start(&n[1]);
    rig_run(&n[0], 0);
    assert_int_equal(cohort_node_add(n[0].node, address(1), "localhost", port), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].activated) == 1 && atomic_load(&n[1].activated) == 1);
    cohort_member self;
    cohort_node_local(n[1].node, &self);
    assert_string_equal(self.ip, "localhost");
    rig_close_pair(n);
}

/* A host name and no bind: all addresses, IPv4 too. The name reaches a peer through HELLO alone. */
static void a_node_with_a_name_listens_everywhere(void **state)
{
    struct rig_node n[2];
    cohort_member seen;
    uint16_t port = free_port();
    rig_begin(&n[1]);
    cohort_config config = rig_config(&n[1], 1);
    config.ip = "localhost";
    config.tcp_port = port;
    config.id = address(1);
    rig_open(&n[1], &config);
    rig_start(&n[1]);
    rig_run(&n[0], 0);
    assert_int_equal(cohort_node_add(n[1].node, address(0), address(0), PORT), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].activated) == 1 && atomic_load(&n[1].activated) == 1);
    assert_int_equal(cohort_node_member(n[0].node, address(1), &seen), COHORT_OK);
    assert_string_equal(seen.ip, "localhost");
    assert_int_equal(cohort_node_remove(n[1].node, address(0)), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].deactivated) == 1);
    assert_int_equal(cohort_node_add(n[1].node, address(0), address(9), PORT), COHORT_OK); /* now only the other can dial */
    WAIT_FOR(atomic_load(&n[0].activated) == 2);
    rig_close_pair(n);
}

static void a_name_that_cannot_be_resolved_is_counted_and_tried_again(void **state)
{
    struct rig_node n;
    cohort_node_stats stats;
    rig_begin(&n);
    cohort_config config = rig_config(&n, 0);
    config.dial.connect_timeout_ms = 200; /* a resolver without a network may take long to say so */
    rig_open(&n, &config);
    rig_start(&n);
    assert_int_equal(cohort_node_add(n.node, "a", "nowhere.invalid", PORT), COHORT_OK);
    do {
        cohort_node_stats_get(n.node, &stats);
        (void)sched_yield();
    } while (stats.errors[-COHORT_ENORESOLVE] < 2);
    assert_int_equal(stats.handshakes_pending, 0);
    assert_int_equal(cohort_node_add(n.node, "b", "nowhere2.invalid", PORT), COHORT_OK);
    assert_int_equal(cohort_node_remove(n.node, "b"), COHORT_OK); /* while it is looked up */
    uint64_t start_ms = clock_ms();
    assert_int_equal(rig_close(&n), COHORT_OK);
    assert_true(clock_ms() - start_ms < 3000); /* without waiting for the resolver */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(a_definition_is_applied_by_a_call),
        node_test(what_is_refused_is_explained),
        node_test(a_definition_is_applied_in_a_callback),
        node_test(a_file_is_followed),
        node_test(a_file_that_cannot_be_used_changes_nothing),
        node_test(a_file_that_is_not_there_is_an_error_of_opening),
        node_test(a_member_is_reached_by_name),
        node_test(a_node_with_a_name_listens_everywhere),
        cmocka_unit_test(a_name_that_cannot_be_resolved_is_counted_and_tried_again), /* its threads may outlast it, with a socket */
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
