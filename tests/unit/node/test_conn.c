/* SPDX-License-Identifier: Apache-2.0
 *
 * node/conn: a connection is watched by the loop it belongs to and by no other, also around the moment it is handed over.
 */
#include "rig.h"

#include "node/node.h"

/* The real machine, with its sockets' loops written down and every watch() held against them. */
static struct {
    struct cohorti_io_ops ops;
    const struct cohorti_io_ops *real;
    pthread_mutex_t lock;
    struct {
        const struct cohorti_socket *socket;
        const struct cohorti_loop *loop;
    } of[16];
    _Atomic unsigned attached, foreign;
} machine = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int attach(struct cohorti_socket *s, struct cohorti_loop *loop, cohorti_socket_fn fn, void *ctx)
{
    int status = machine.real->attach(s, loop, fn, ctx);
    pthread_mutex_lock(&machine.lock);
    size_t i = 0;
    while (i + 1 < UNIT_COUNT(machine.of) && machine.of[i].socket != NULL && machine.of[i].socket != s) {
        i++;
    }
    machine.of[i].socket = s;
    machine.of[i].loop = loop;
    pthread_mutex_unlock(&machine.lock);
    atomic_fetch_add(&machine.attached, 1);
    return status;
}

static void watch(struct cohorti_socket *s, unsigned events)
{
    pthread_mutex_lock(&machine.lock);
    for (size_t i = 0; i < UNIT_COUNT(machine.of); i++) {
        if (machine.of[i].socket == s) {
            atomic_fetch_add(&machine.foreign, !machine.real->loop_is_current(machine.of[i].loop));
        }
    }
    pthread_mutex_unlock(&machine.lock);
    machine.real->watch(s, events);
}

static void on_echo(cohort_node *node, const char *id, int status, uint64_t rtt_ns, void *arg)
{
    _Atomic int *answered = arg;
    atomic_store(answered, status == COHORT_OK ? 1 : -1);
}

static _Atomic int answered;

/* The flush of what is queued here is asked of control, which hands the connection over before it reads its mail. To be sure that
 * the worker has taken it by then, the next event is kept waiting. */
static void send_at_once(struct rig_node *n, const cohort_event *event)
{
    if (event->type == COHORT_MEMBER_ACTIVATED) {
        int status = cohort_echo(n->node, event->member.id, NULL, 0, BOUND_MS, on_echo, &answered);
        atomic_fetch_add(&n->wrong, status != COHORT_OK);
        status = cohort_node_add(n->node, "another", address(5), PORT);
        atomic_fetch_add(&n->wrong, status != COHORT_OK);
    } else if (event->type == COHORT_MEMBER_ADDED && strcmp(event->member.id, "another") == 0) {
        uint64_t until = clock_ms() + BOUND_MS;
        while (atomic_load(&machine.attached) < 2 && clock_ms() < until) {
            sched_yield();
        }
    }
}

static void what_a_listener_sends_is_written_by_the_loop_that_took_over(void **state)
{
    static struct rig_node n[2];
    struct cohorti_io *io = NULL;
    cohort_error error;
    cohort_handle_id ignored;
    rig_run(&n[1], 1);

    rig_begin(&n[0]);
    assert_int_equal(cohorti_io_uv_new(&n[0].memory.alloc, &io), COHORT_OK);
    machine.real = io->ops;
    machine.ops = *io->ops;
    machine.ops.attach = attach;
    machine.ops.watch = watch;
    io->ops = &machine.ops;
    cohort_config config = rig_config(&n[0], 0);
    assert_int_equal(cohorti_node_open_on(io, &config, &n[0].node, &error), COHORT_OK);
    expect_id(&n[0], address(1));
    n[0].on_event = send_at_once;
    assert_int_equal(cohort_listen(n[0].node, rig_on_event, &n[0], rig_on_release, &ignored), COHORT_OK);
    rig_start(&n[0]);
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);

    WAIT_FOR(atomic_load(&answered) != 0);
    assert_int_equal(atomic_load(&answered), 1);
    assert_int_equal(cohort_node_close(n[0].node, 5000), COHORT_OK);
    assert_int_equal(atomic_load(&machine.foreign), 0);
    assert_int_equal(atomic_load(&n[0].wrong), 0);
    cohorti_io_uv_free(io);
    assert_int_equal(rig_close(&n[1]), COHORT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(what_a_listener_sends_is_written_by_the_loop_that_took_over),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
