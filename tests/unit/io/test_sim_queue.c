/* SPDX-License-Identifier: Apache-2.0
 *
 * io/sim/sim_queue: against a plain array searched from end to end, over steps of every size up to the end of time.
 */
#include "io/sim/sim_queue.h"

#include "base/prng.h"
#include "support.h"

#include <stdlib.h>

#define MODEL 300

struct model {
    struct sim_queue *queue;
    struct sim_event events[MODEL];
    uint64_t at_ns[MODEL]; /* COHORTI_NEVER: not set */
    uint64_t order[MODEL]; /* of setting */
    uint64_t order_next;
    uint64_t now_ns;
};

static void never_fires(struct sim_event *event)
{
    fail();
}

static struct model *model_new(void)
{
    struct model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->queue = malloc(sizeof *m->queue);
    assert_non_null(m->queue);
    sim_queue_init(m->queue);
    for (size_t i = 0; i < MODEL; i++) {
        sim_event_init(&m->events[i], never_fires);
        m->at_ns[i] = COHORTI_NEVER;
    }
    return m;
}

static void model_free(struct model *m)
{
    free(m->queue);
    free(m);
}

static void model_set(struct model *m, size_t i, uint64_t at_ns)
{
    sim_queue_set(m->queue, &m->events[i], at_ns);
    m->at_ns[i] = at_ns;
    m->order[i] = m->order_next++;
    assert_int_equal(sim_event_is_set(&m->events[i]), at_ns != COHORTI_NEVER);
}

static size_t model_first(const struct model *m)
{
    size_t first = MODEL;
    for (size_t i = 0; i < MODEL; i++) {
        bool earlier =
            first == MODEL || m->at_ns[i] < m->at_ns[first] || (m->at_ns[i] == m->at_ns[first] && m->order[i] < m->order[first]);
        if (m->at_ns[i] != COHORTI_NEVER && earlier) {
            first = i;
        }
    }
    return first;
}

/* Pop all that is due; time is `until_ns` then. Gives how many there were. */
static size_t model_advance(struct model *m, uint64_t until_ns)
{
    size_t popped = 0;
    for (;;) {
        size_t first = model_first(m);
        uint64_t at_ns = 0;
        struct sim_event *event = sim_queue_pop(m->queue, until_ns, &at_ns);
        if (first == MODEL || m->at_ns[first] > until_ns) {
            assert_null(event);
            m->now_ns = until_ns;
            return popped;
        }
        assert_ptr_equal(event, &m->events[first]);
        assert_true(at_ns == m->at_ns[first]);
        assert_false(sim_event_is_set(event));
        m->at_ns[first] = COHORTI_NEVER;
        m->now_ns = at_ns;
        popped++;
    }
}

static void agrees_with_a_plain_array(void **state)
{
    struct model *m = model_new();
    struct cohorti_prng prng;
    size_t popped = 0;
    cohorti_prng_init(&prng, 1);
    for (int round = 0; round < 20000; round++) {
        size_t i = (size_t)cohorti_prng_below(&prng, MODEL);
        uint64_t ahead_ns = cohorti_prng_next(&prng) >> (20 + cohorti_prng_below(&prng, 44));
        switch (cohorti_prng_below(&prng, 8)) {
        case 0:
            model_set(m, i, COHORTI_NEVER);
            break;
        case 1:
            popped += model_advance(m, m->now_ns + (ahead_ns >> 4));
            break;
        case 2: /* the very time of another one */
            model_set(m, i, m->at_ns[(i + 1) % MODEL]);
            break;
        default:
            model_set(m, i, m->now_ns + ahead_ns);
            break;
        }
    }
    assert_true(popped > 1000);
    model_advance(m, COHORTI_NEVER - 1);
    assert_true(m->queue->count == 0);
    model_free(m);
}

/* What stood far ahead and moved down comes before what was set later for the same time. */
static void equal_times_in_order_of_setting_from_near_and_far(void **state)
{
    struct model *m = model_new();
    const uint64_t at_ns = UINT64_C(10000000000);
    model_set(m, 0, at_ns);
    model_set(m, 1, at_ns);
    assert_int_equal(model_advance(m, at_ns - 5000), 0);
    model_set(m, 2, at_ns);
    assert_int_equal(model_advance(m, at_ns - 1), 0);
    model_set(m, 3, at_ns);
    model_set(m, 0, at_ns); /* moved to where it was: now the last */
    assert_int_equal(model_advance(m, at_ns), 4);
    model_free(m);
}

/* Looking for what is due must not bar the time between now and the next event. */
static void an_event_may_be_set_before_the_next_one(void **state)
{
    struct model *m = model_new();
    model_set(m, 0, UINT64_C(1) << 40);
    assert_int_equal(model_advance(m, 10), 0);
    model_set(m, 1, 10);
    model_set(m, 2, 4096);
    assert_int_equal(model_advance(m, 4095), 1);
    assert_int_equal(model_advance(m, UINT64_C(1) << 40), 2);
    model_free(m);
}

static void the_end_of_time(void **state)
{
    struct model *m = model_new();
    model_set(m, 0, COHORTI_NEVER - 1);
    model_set(m, 1, 0);
    assert_int_equal(model_advance(m, COHORTI_NEVER - 2), 1);
    assert_int_equal(model_advance(m, COHORTI_NEVER - 1), 1);
    model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_a_plain_array),
        cmocka_unit_test(equal_times_in_order_of_setting_from_near_and_far),
        cmocka_unit_test(an_event_may_be_set_before_the_next_one),
        cmocka_unit_test(the_end_of_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
