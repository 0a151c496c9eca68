/* SPDX-License-Identifier: Apache-2.0
 *
 * io/uv/uv_resolve: names that are known and names that are not; lookups that are cancelled, also when the loop goes before the
 * resolver answers; the limit.
 */
#include "loop_rig.h"

#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>

#define LOOKUPS 200

static _Atomic bool held_up;

/* In the place of the C library's, which it calls when it is allowed to. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    void *symbol = dlsym(RTLD_NEXT, "getaddrinfo");
    memcpy(&real, &symbol, sizeof real);
    while (atomic_load(&held_up)) {
        (void)sched_yield();
    }
    return real(name, service, hints, found);
}

struct resolving {
    struct rig rig;
    const char *name;
    struct cohorti_lookup *lookups[LOOKUPS];
    unsigned begun;
    _Atomic unsigned answers;
    int status, begin_status;
    struct cohorti_addresses addresses;
    char why[128];
};

static void on_resolved(void *ctx, int status, const struct cohorti_addresses *addresses, const char *why)
{
    struct resolving *r = ctx;
    r->status = r->rig.ops->loop_is_current(r->rig.loop) ? status : 1;
    r->addresses = *addresses;
    (void)snprintf(r->why, sizeof r->why, "%s", why);
    atomic_fetch_add(&r->answers, 1);
}

static void begin(struct rig *rig)
{
    struct resolving *r = (struct resolving *)rig;
    r->begin_status = rig->ops->resolve(rig->loop, r->name, on_resolved, r, &r->lookups[r->begun]);
    r->begun += r->begin_status == COHORT_OK;
}

static void cancel_all(struct rig *rig)
{
    struct resolving *r = (struct resolving *)rig;
    while (r->begun > 0) {
        rig->ops->resolve_cancel(r->lookups[--r->begun]);
    }
}

static void set_up(struct resolving *r, const char *name)
{
    memset(r, 0, sizeof *r);
    rig_open(&r->rig);
    r->name = name;
}

/* "localhost" is in every hosts file. */
static void a_name_gives_its_addresses(void **state)
{
    struct resolving r;
    set_up(&r, "localhost");
    for (unsigned i = 1; i <= 20; i++) {
        rig_do(&r.rig, begin);
        assert_int_equal(r.begin_status, COHORT_OK);
        WAIT_FOR(&r.rig, atomic_load(&r.answers) == i);
        assert_int_equal(r.status, COHORT_OK);
        bool v4 = false;
        for (size_t k = 0; k < r.addresses.count; k++) {
            bool is_v4 = strcmp(r.addresses.at[k], "127.0.0.1") == 0;
            assert_true(is_v4 || strcmp(r.addresses.at[k], "::1") == 0);
            v4 = v4 || is_v4;
        }
        assert_true(v4);
    }
    rig_close(&r.rig);
}

/* A label of 64 letters is no name: the resolver says so without asking the network. */
static void a_name_that_is_none_is_said_to_be(void **state)
{
    struct resolving r;
    set_up(&r, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.example");
    rig_do(&r.rig, begin);
    assert_int_equal(r.begin_status, COHORT_OK);
    WAIT_FOR(&r.rig, atomic_load(&r.answers) == 1);
    assert_int_equal(r.status, COHORT_ENORESOLVE);
    assert_int_equal(r.addresses.count, 0);
    assert_true(strlen(r.why) > 0);
    rig_close(&r.rig);
}

static void begin_and_cancel(struct rig *rig)
{
    begin(rig);
    begin(rig);
    cancel_all(rig); /* in the callback that began them: none has answered */
}

/* Threads may still be at it when the loop and all its memory are gone. */
static void cancelled_lookups_do_not_answer(void **state)
{
    for (int i = 0; i < 50; i++) {
        struct resolving r;
        set_up(&r, "localhost");
        rig_do(&r.rig, begin_and_cancel);
        assert_int_equal(r.begin_status, COHORT_OK);
        rig_close(&r.rig);
        assert_int_equal(atomic_load(&r.answers), 0);
    }
}

static void begin_many(struct rig *rig)
{
    struct resolving *r = (struct resolving *)rig;
    do {
        begin(rig);
    } while (r->begin_status == COHORT_OK && r->begun < LOOKUPS);
}

/* A resolver that does not answer holds up neither the end of a loop nor, for ever, other names. */
static void lookups_are_limited(void **state)
{
    struct resolving r;
    set_up(&r, "localhost");
    atomic_store(&held_up, true);
    rig_do(&r.rig, begin_many);
    assert_int_equal(r.begin_status, COHORT_ELIMIT);
    assert_in_range(r.begun, 0, 64); /* some of the test before may still be at it */
    rig_do(&r.rig, cancel_all);
    rig_close(&r.rig);
    assert_int_equal(atomic_load(&r.answers), 0);
    atomic_store(&held_up, false);
    set_up(&r, "localhost");
    do {
        rig_do(&r.rig, begin);
    } while (r.begin_status != COHORT_OK);
    WAIT_FOR(&r.rig, atomic_load(&r.answers) == 1);
    rig_close(&r.rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_gives_its_addresses),
        cmocka_unit_test(a_name_that_is_none_is_said_to_be),
        cmocka_unit_test(cancelled_lookups_do_not_answer),
        cmocka_unit_test(lookups_are_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
