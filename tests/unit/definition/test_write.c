/* SPDX-License-Identifier: Apache-2.0
 *
 * write: whole or not at all, mode kept, links followed, nothing left behind.
 */
#include <cohort/definition.h>

#include "support.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[512];

static const char *path_in(const char *name)
{
    static char paths[4][600];
    static unsigned next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

static int remove_all(const char *path)
{
    char command[600];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", path);
    return system(command);
}

static int set_up(void **state)
{
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(directory, sizeof directory, "%s/cohort-write-XXXXXX", tmp != NULL ? tmp : "/tmp");
    return mkdtemp(directory) == NULL;
}

static int tear_down(void **state)
{
    return remove_all(directory);
}

static unsigned entries(const char *path)
{
    unsigned count = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    closedir(dir);
    return count;
}

static cohort_definition of_size(unsigned count)
{
    cohort_definition d = {0};
    for (unsigned i = 0; i < count; i++) {
        cohort_definition_node n = {.tcp_port = 1};
        (void)snprintf(n.id, sizeof n.id, "n%u", i);
        (void)snprintf(n.ip, sizeof n.ip, "10.0.0.%u", i + 1);
        assert_int_equal(cohort_definition_add(&d, &n, NULL), COHORT_OK);
    }
    return d;
}

static void writes(const char *path, unsigned count)
{
    cohort_definition d = of_size(count);
    cohort_error error;
    if (cohort_definition_write(path, &d, &error) != COHORT_OK) {
        fail_msg("%s", error.text);
    }
    cohort_definition_free(&d);
}

static void reads(const char *path, unsigned count)
{
    cohort_definition d;
    cohort_error error;
    if (cohort_definition_read(path, &d, &error) != COHORT_OK) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(d.node_count, count);
    cohort_definition_free(&d);
}

static mode_t mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static void a_new_file_has_the_mode_of_the_umask(void **state)
{
    const char *path = path_in("new.json");
    mode_t before = umask(0027);
    writes(path, 2);
    (void)umask(before);
    reads(path, 2);
    assert_int_equal(mode_of(path), 0640);
    assert_int_equal(entries(directory), 1);
    (void)unlink(path);
}

static void the_mode_of_a_file_is_kept(void **state)
{
    static const mode_t modes[] = {0600, 0644, 0666, 0400};
    const char *path = path_in("old.json");
    for (size_t i = 0; i < UNIT_COUNT(modes); i++) {
        writes(path, 1);
        assert_int_equal(chmod(path, modes[i]), 0);
        writes(path, 3);
        assert_int_equal(mode_of(path), modes[i]);
        (void)chmod(path, 0600);
        reads(path, 3);
        (void)unlink(path);
    }
}

static void a_relative_path(void **state)
{
    char before[4096];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(directory), 0);
    writes("here.json", 1);
    writes("here.json", 2);
    reads("here.json", 2);
    (void)unlink("here.json");
    assert_int_equal(entries("."), 0);
    assert_int_equal(chdir(before), 0);
}

/* Who keeps the file elsewhere and links to it finds it there afterwards. */
static void a_link_stays_and_its_file_is_written(void **state)
{
    const char *target_dir = path_in("elsewhere"), *link = path_in("link.json"), *target = path_in("elsewhere/real.json");
    assert_int_equal(mkdir(target_dir, 0700), 0);
    assert_int_equal(symlink("elsewhere/real.json", link), 0);
    writes(target, 1);
    writes(link, 2);
    struct stat st;
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    reads(target, 2);
    assert_int_equal(entries(target_dir), 1);
    (void)remove_all(target_dir);
    (void)unlink(link);
}

static void write_fails(const char *path, int code, const char *what)
{
    cohort_definition d = of_size(1);
    cohort_error error;
    char text[900];
    assert_int_equal(cohort_definition_write(path, &d, &error), code);
    (void)snprintf(text, sizeof text, "%s%s", path, what);
    assert_string_equal(error.text, text);
    assert_int_equal(cohort_definition_write(path, &d, NULL), code);
    cohort_definition_free(&d);
}

static void what_cannot_be_written_is_named(void **state)
{
    write_fails(path_in("missing/c.json"), COHORT_EFILE, ": cannot be written: No such file or directory");
    write_fails(directory, COHORT_EFILE, ": is a directory");
    write_fails("/dev/null", COHORT_EFILE, ": is not a regular file");
    write_fails("", COHORT_EFILE, ": cannot be written: No such file or directory");
    cohort_definition bad = of_size(1);
    cohort_error error;
    bad.nodes[0].tcp_port = 0;
    assert_int_equal(cohort_definition_write(path_in("c.json"), &bad, &error), COHORT_EDEFINITION);
    cohort_definition_free(&bad);
    assert_int_equal(entries(directory), 0);
}

/* The disk is full, as far as this process may tell: the old file is whole, and no half of a new one lies about. */
static void without_room_the_old_file_stays(void **state)
{
    const char *path = path_in("c.json");
    struct rlimit before, small = {.rlim_cur = 4096, .rlim_max = RLIM_INFINITY};
    cohort_definition d = of_size(200);
    cohort_error error;
    writes(path, 10);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int rc = cohort_definition_write(path, &d, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(rc, COHORT_EFILE);
    assert_non_null(strstr(error.text, "c.json: cannot be written: File too large"));
    reads(path, 10);
    assert_int_equal(entries(directory), 1);
    cohort_definition_free(&d);
    (void)unlink(path);
}

static _Atomic bool stop;

struct reading {
    const char *path;
    unsigned seen;
};

static void *read_on(void *arg)
{
    struct reading *r = arg;
    while (!atomic_load(&stop)) {
        cohort_definition d;
        cohort_error error = {.code = COHORT_OK};
        if (cohort_definition_read(r->path, &d, &error) != COHORT_OK || d.node_count == 0 || d.node_count > 200) {
            return strdup(error.text);
        }
        r->seen |= 1U << (d.node_count / 100);
        cohort_definition_free(&d);
    }
    return NULL;
}

/* A reader never sees less than a whole file, however often it is written. */
static void readers_see_whole_files_only(void **state)
{
    pthread_t reader;
    const char *path = path_in("busy.json");
    struct reading reading = {.path = path};
    writes(path, 1);
    assert_int_equal(pthread_create(&reader, NULL, read_on, &reading), 0);
    for (unsigned i = 0; i < 60; i++) {
        writes(path, i % 2 == 0 ? 200 : 1);
    }
    atomic_store(&stop, true);
    void *complaint = NULL;
    assert_int_equal(pthread_join(reader, &complaint), 0);
    if (complaint != NULL) {
        fail_msg("%s", (char *)complaint);
    }
    assert_true(reading.seen != 0);
    assert_int_equal(entries(directory), 1);
    (void)unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_file_has_the_mode_of_the_umask),
        cmocka_unit_test(the_mode_of_a_file_is_kept),
        cmocka_unit_test(a_relative_path),
        cmocka_unit_test(a_link_stays_and_its_file_is_written),
        cmocka_unit_test(what_cannot_be_written_is_named),
        cmocka_unit_test(without_room_the_old_file_stays),
        cmocka_unit_test(readers_see_whole_files_only),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
