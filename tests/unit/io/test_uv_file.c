/* SPDX-License-Identifier: Apache-2.0
 *
 * io/uv/uv_file: every way in which people and programs change a file is told, soon; what is no change is told once at most.
 */
#include "loop_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define RARELY_MS 600000 /* no help from looking: the system must tell */

struct watched {
    struct rig rig;
    char directory[256];
    const char *path;
    uint32_t poll_ms;
    struct cohorti_file_watch *watch;
    _Atomic unsigned told;
    bool unwatch_when_told;
    int status;
};

static const char *in(struct watched *w, const char *name)
{
    static char paths[8][600];
    static unsigned next;
    char *path = paths[next++ % 8];
    (void)snprintf(path, sizeof paths[0], "%s/%s", w->directory, name);
    return path;
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void on_change(void *ctx)
{
    struct watched *w = ctx;
    if (w->unwatch_when_told) {
        w->rig.ops->unwatch_file(w->watch);
        w->watch = NULL;
    }
    atomic_fetch_add(&w->told, 1);
}

static void begin(struct rig *r)
{
    struct watched *w = (struct watched *)r;
    w->status = r->ops->watch_file(r->loop, w->path, w->poll_ms, on_change, w, &w->watch);
}

static void end(struct rig *r)
{
    struct watched *w = (struct watched *)r;
    if (w->watch != NULL) {
        r->ops->unwatch_file(w->watch);
    }
}

static void set_up(struct watched *w)
{
    const char *tmp = getenv("TMPDIR");
    memset(w, 0, sizeof *w);
    (void)snprintf(w->directory, sizeof w->directory, "%s/cohort-watch-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(w->directory));
    rig_open(&w->rig);
}

static void watch(struct watched *w, const char *path, uint32_t poll_ms)
{
    w->path = path;
    w->poll_ms = poll_ms;
    rig_do(&w->rig, begin);
    assert_int_equal(w->status, COHORT_OK);
}

static void tear_down(struct watched *w)
{
    char command[300];
    rig_do(&w->rig, end);
    rig_close(&w->rig);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", w->directory);
    assert_int_equal(system(command), 0);
}

#define TOLD(w, change)                                         \
    do {                                                        \
        unsigned before_ = atomic_load(&(w)->told);             \
        change;                                                 \
        WAIT_FOR(&(w)->rig, atomic_load(&(w)->told) > before_); \
    } while (0)

static void a_file_is_written_replaced_removed_and_made(void **state)
{
    struct watched w;
    set_up(&w);
    const char *path = strdup(in(&w, "c.json"));
    write_text(path, "1");
    watch(&w, path, RARELY_MS);
    TOLD(&w, write_text(path, "2"));
    for (int i = 0; i < 5; i++) { /* the watch must not stay with the file that was */
        write_text(in(&w, "new"), "3");
        TOLD(&w, assert_int_equal(rename(in(&w, "new"), path), 0));
    }
    TOLD(&w, assert_int_equal(unlink(path), 0));
    TOLD(&w, write_text(path, "4"));
    TOLD(&w, assert_int_equal(rename(path, in(&w, "old")), 0)); /* as editors do: away, then new */
    TOLD(&w, write_text(path, "5"));
    tear_down(&w);
    free((void *)(uintptr_t)path);
}

static void a_link_leads_to_another_directory(void **state)
{
    struct watched w;
    set_up(&w);
    const char *path = strdup(in(&w, "here/c.json"));
    assert_int_equal(mkdir(in(&w, "here"), 0700), 0);
    assert_int_equal(mkdir(in(&w, "there"), 0700), 0);
    assert_int_equal(mkdir(in(&w, "elsewhere"), 0700), 0);
    write_text(in(&w, "there/real"), "1");
    write_text(in(&w, "elsewhere/real"), "2");
    assert_int_equal(symlink("../there/real", path), 0);
    watch(&w, path, RARELY_MS);
    TOLD(&w, write_text(in(&w, "there/real"), "3"));
    write_text(in(&w, "there/new"), "4");
    TOLD(&w, assert_int_equal(rename(in(&w, "there/new"), in(&w, "there/real")), 0));
    assert_int_equal(symlink("../elsewhere/real", in(&w, "here/next")), 0);
    TOLD(&w, assert_int_equal(rename(in(&w, "here/next"), path), 0));
    TOLD(&w, write_text(in(&w, "elsewhere/real"), "5")); /* the new directory is watched now */
    tear_down(&w);
    free((void *)(uintptr_t)path);
}

/* A link in the middle, a directory that was replaced: the system tells nothing, looking finds it. */
static void what_the_system_does_not_tell_is_found(void **state)
{
    struct watched w;
    set_up(&w);
    const char *path = strdup(in(&w, "here/c.json"));
    for (int i = 0; i < 3; i++) {
        static const char *const names[] = {"here", "one", "two"};
        assert_int_equal(mkdir(in(&w, names[i]), 0700), 0);
        write_text(in(&w, i == 1 ? "one/real" : i == 2 ? "two/real" : "unused"), i == 1 ? "1" : "two");
    }
    assert_int_equal(symlink("one", in(&w, "middle")), 0);
    assert_int_equal(symlink("../middle/real", path), 0);
    watch(&w, path, 20);
    assert_int_equal(symlink("two", in(&w, "next")), 0);
    TOLD(&w, assert_int_equal(rename(in(&w, "next"), in(&w, "middle")), 0));
    TOLD(&w, assert_int_equal(rename(in(&w, "here"), in(&w, "gone")), 0));
    assert_int_equal(mkdir(in(&w, "here"), 0700), 0);
    TOLD(&w, write_text(path, "3"));
    TOLD(&w, write_text(path, "four"));
    tear_down(&w);
    free((void *)(uintptr_t)path);
}

static void others_in_the_directory_are_no_news(void **state)
{
    struct watched w;
    set_up(&w);
    const char *path = strdup(in(&w, "c.json"));
    write_text(path, "1");
    watch(&w, path, RARELY_MS);
    for (int i = 0; i < 50; i++) {
        write_text(in(&w, "other"), "x");
        write_text(in(&w, "c.json.swp"), "x");
    }
    TOLD(&w, write_text(path, "2")); /* told after those, were they told */
    assert_int_equal(atomic_load(&w.told), 1);
    tear_down(&w);
    free((void *)(uintptr_t)path);
}

/* Written in many pieces, told a few times: not at each of them. */
static void changes_close_together_are_told_once(void **state)
{
    struct watched w;
    set_up(&w);
    const char *path = strdup(in(&w, "c.json"));
    watch(&w, path, RARELY_MS);
    uint64_t start = w.rig.ops->now_ns(w.rig.io);
    TOLD(
        &w, for (int i = 0; i < 300; i++) { write_text(path, "1"); });
    uint64_t took_ms = (w.rig.ops->now_ns(w.rig.io) - start) / MS;
    assert_true(atomic_load(&w.told) <= 1 + took_ms / 100);
    tear_down(&w);
    free((void *)(uintptr_t)path);
}

static void the_watch_may_end_when_it_tells(void **state)
{
    struct watched w;
    set_up(&w);
    const char *path = strdup(in(&w, "c.json"));
    w.unwatch_when_told = true;
    watch(&w, path, RARELY_MS);
    TOLD(&w, write_text(path, "1"));
    write_text(path, "2");
    tear_down(&w);
    assert_int_equal(atomic_load(&w.told), 1);
    free((void *)(uintptr_t)path);
}

static void a_directory_that_is_not_there_yet(void **state)
{
    struct watched w;
    set_up(&w);
    const char *path = strdup(in(&w, "later/c.json"));
    watch(&w, path, 20);
    assert_int_equal(mkdir(in(&w, "later"), 0700), 0);
    TOLD(&w, write_text(path, "1"));
    tear_down(&w);
    free((void *)(uintptr_t)path);
}

static void begin_without_memory(struct rig *r)
{
    r->memory.fail_at = r->memory.calls + 1;
    begin(r);
}

static void without_memory_nothing_is_watched(void **state)
{
    struct watched w;
    set_up(&w);
    w.path = w.directory;
    rig_do(&w.rig, begin_without_memory);
    assert_int_equal(w.status, COHORT_ENOMEM);
    tear_down(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_written_replaced_removed_and_made), cmocka_unit_test(a_link_leads_to_another_directory),
        cmocka_unit_test(what_the_system_does_not_tell_is_found),      cmocka_unit_test(others_in_the_directory_are_no_news),
        cmocka_unit_test(changes_close_together_are_told_once),        cmocka_unit_test(the_watch_may_end_when_it_tells),
        cmocka_unit_test(a_directory_that_is_not_there_yet),           cmocka_unit_test(without_memory_nothing_is_watched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
