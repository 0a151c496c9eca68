/* SPDX-License-Identifier: Apache-2.0
 *
 * core/cluster without memory: a scenario through every kind of step, each of its allocations failing in turn. Nothing leaks,
 * events still alternate, and what failed can be done again.
 */
#include "rig.h"

struct scenario {
    struct rig rig;
    int active; /* of each peer, by the letter of its id */
    unsigned dialled;
    uint64_t dial;
};

static void watch(struct scenario *s)
{
    struct cohorti_effect fx;
    while (cohorti_cluster_poll(&s->rig.c, &fx)) {
        if (fx.type == COHORTI_EFFECT_DIAL) {
            s->dial = fx.link;
            s->dialled++;
        }
        if (fx.type == COHORTI_EFFECT_EVENT) {
            int bit = 1 << (fx.u.event.member.id[0] - 'a');
            bool up = fx.u.event.type == COHORT_MEMBER_ACTIVATED, down = fx.u.event.type == COHORT_MEMBER_DEACTIVATED;
            assert_true(!up || (s->active & bit) == 0);
            assert_true(!down || (s->active & bit) != 0);
            s->active = up ? s->active | bit : down ? s->active & ~bit : s->active;
        }
    }
}

static bool accept_one(struct scenario *s, uint64_t *link)
{
    int status = cohorti_cluster_accepted(&s->rig.c, s->rig.now, link);
    assert_true(status == COHORT_OK || status == COHORT_ENOMEM);
    return status == COHORT_OK;
}

static void meet(struct scenario *s, const char *id, uint64_t incarnation, uint32_t attempt)
{
    uint64_t link = 0;
    if (!accept_one(s, &link)) {
        return;
    }
    rig_greeted(&s->rig, link, id, incarnation, attempt);
    watch(s);
    rig_welcomed(&s->rig, link);
    watch(s);
}

static void close_all(struct scenario *s)
{
    for (uint64_t link = 1; link < s->rig.c.link_next; link++) {
        rig_closed(&s->rig, link, COHORT_ERESET);
        watch(s);
    }
    assert_int_equal(s->rig.c.links.count, 0);
    assert_int_equal(s->active, 0);
}

/* True when the n-th allocation was reached. */
static bool play(size_t n)
{
    struct scenario s = {.dialled = 0};
    struct rig *r = &s.rig;
    struct cohorti_cluster_config config = rig_config("m");
    config.limits.removed_max = 2;
    unit_memory_init(&r->memory);
    r->memory.fail_at = n;
    r->now = 1000 * SECOND;
    if (cohorti_cluster_init(&r->c, &r->memory.alloc, &config) != COHORT_OK) {
        unit_memory_assert_empty(&r->memory);
        return true;
    }
    char id[2] = "a";
    for (; id[0] <= 'l'; id[0]++) {
        if (cohorti_cluster_add(&r->c, r->now, id, "127.0.0.2", 9000) != COHORT_OK) {
            assert_int_equal(cohorti_cluster_add(&r->c, r->now, id, "127.0.0.2", 9000), COHORT_OK);
        }
    }
    cohorti_cluster_start(&r->c, r->now);
    watch(&s);
    rig_pass(r, 200 * MS); /* a dial without memory is tried again */
    watch(&s);
    assert_true(s.dialled >= 12);
    rig_connected(r, s.dial);
    rig_greeted(r, s.dial, "l", 1, 0);
    rig_welcomed(r, s.dial);
    watch(&s);
    meet(&s, "a", 1, 3);          /* better than our dial */
    meet(&s, "a", 2, 1);          /* restarted */
    meet(&s, "a", 1, 9);          /* stale */
    meet(&s, "n", 1, 1);          /* new */
    for (int i = 0; i < 5; i++) { /* more strangers than allowed */
        uint64_t ignored;
        (void)accept_one(&s, &ignored);
    }
    watch(&s);
    if (cohorti_cluster_remove(&r->c, "a") == COHORT_ENOMEM) {
        assert_int_equal(cohorti_cluster_remove(&r->c, "a"), COHORT_OK);
    }
    watch(&s);
    rig_pass(r, 20 * SECOND);
    watch(&s);
    cohorti_cluster_stop(&r->c);
    watch(&s);
    close_all(&s);
    assert_true(cohorti_cluster_is_idle(&r->c));
    bool reached = r->memory.calls >= n;
    rig_close(r);
    return reached;
}

static void every_allocation_may_fail(void **state)
{
    size_t n = 1;
    while (play(n)) {
        n++;
    }
    assert_true(n > 30);
}

static void all_memory_may_end_at_any_moment(void **state)
{
    for (size_t n = 1; n < 60; n++) {
        struct scenario s = {.dialled = 0};
        struct rig *r = &s.rig;
        rig_start(r);
        r->memory.fail_at = r->memory.calls + n;
        r->memory.fail_from = true;
        char id[2] = "a";
        for (; id[0] <= 'g'; id[0]++) {
            (void)!cohorti_cluster_add(&r->c, r->now, id, "127.0.0.2", 9000);
        }
        watch(&s);
        for (uint32_t i = 1; i < 10; i++) {
            rig_pass(r, SECOND);
            watch(&s);
            meet(&s, "a", i / 3 + 1, i);
        }
        cohorti_cluster_stop(&r->c);
        watch(&s);
        close_all(&s);
        rig_close(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(all_memory_may_end_at_any_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
