/* SPDX-License-Identifier: Apache-2.0
 *
 * io/uv: waiting awake for bytes: until they come, something else is ready for the loop, or the time is over.
 */
#include "loop_rig.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT 9876

/* A connection whose one end is the loop's, the other a bare socket. */
static struct cohorti_socket *listener, *accepted;
static int status, peer;
static uint64_t for_ns, took_ns;
static size_t got;
static _Atomic bool begun;

static const char *host(void)
{
    static char text[16];
    (void)snprintf(text, sizeof text, "127.%d.%d.8", 64 + (getpid() >> 8) % 128, getpid() % 256);
    return text;
}

static void on_ready(void *ctx, unsigned events)
{
}

static void open_listener(struct rig *r)
{
    cohort_error error;
    status = r->ops->listen(r->loop, host(), PORT, on_ready, r, &listener, &error);
}

static void take_over(struct rig *r)
{
    while ((status = r->ops->accept(listener, &accepted)) == COHORT_EAGAIN) {
        sched_yield();
    }
    status = status == COHORT_OK ? r->ops->attach(accepted, r->loop, on_ready, r) : status;
}

static void open_pair(struct rig *r)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    rig_open(r);
    rig_do(r, open_listener);
    assert_int_equal(status, COHORT_OK);
    assert_int_equal(inet_pton(AF_INET, host(), &to.sin_addr), 1);
    peer = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(peer, (const struct sockaddr *)&to, sizeof to), 0);
    rig_do(r, take_over);
    assert_int_equal(status, COHORT_OK);
    atomic_store(&begun, false);
}

static void close_all(struct rig *r)
{
    r->ops->close(accepted);
    r->ops->close(listener);
}

static void close_pair(struct rig *r)
{
    rig_do(r, close_all);
    close(peer);
    rig_close(r);
}

static void look(struct rig *r)
{
    uint8_t bytes[8];
    const struct cohorti_room rooms[] = {{bytes, 1}, {bytes + 1, sizeof bytes - 1}};
    r->ops->watch(accepted, COHORTI_IO_READ);
    atomic_store(&begun, true);
    status = r->ops->recv_soon(accepted, rooms, 2, &got, for_ns, &took_ns);
}

/* The loop begins to look; what the test does meanwhile ends it. */
static void begin_to_look(struct rig *r, uint64_t ns)
{
    for_ns = ns;
    cohorti_waiter_init(&r->done);
    r->job = look;
    r->ops->loop_wake(r->loop);
    WAIT_FOR(r, atomic_load(&begun));
}

static void end_of_look(struct rig *r)
{
    assert_int_equal(r->ops->wait(r->io, &r->done, BOUND_NS), COHORT_OK);
    cohorti_waiter_deinit(&r->done);
}

static void what_is_there_is_taken_at_once(void **state)
{
    struct rig r;
    open_pair(&r);
    assert_int_equal(send(peer, "abc", 3, 0), 3);
    for_ns = BOUND_NS;
    rig_do(&r, look);
    assert_int_equal(status, COHORT_OK);
    assert_int_equal(got, 3);
    close_pair(&r);
}

static void what_comes_meanwhile_ends_it(void **state)
{
    struct rig r;
    open_pair(&r);
    begin_to_look(&r, 2 * BOUND_NS);
    assert_int_equal(send(peer, "abc", 3, 0), 3);
    end_of_look(&r);
    assert_int_equal(status, COHORT_OK);
    assert_int_equal(got, 3);
    close_pair(&r);
}

static void the_end_of_the_stream_ends_it(void **state)
{
    struct rig r;
    open_pair(&r);
    begin_to_look(&r, 2 * BOUND_NS);
    assert_int_equal(shutdown(peer, SHUT_WR), 0);
    end_of_look(&r);
    assert_int_equal(status, COHORT_EPEERCLOSED);
    close_pair(&r);
}

static void a_wake_up_ends_it(void **state)
{
    struct rig r;
    open_pair(&r);
    begin_to_look(&r, 2 * BOUND_NS);
    r.ops->loop_wake(r.loop);
    end_of_look(&r);
    assert_int_equal(status, COHORT_EAGAIN);
    assert_true(took_ns > 0 && took_ns < 2 * BOUND_NS);
    close_pair(&r);
}

static void another_socket_that_is_ready_ends_it(void **state)
{
    struct rig r;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    open_pair(&r);
    begin_to_look(&r, 2 * BOUND_NS);
    assert_int_equal(inet_pton(AF_INET, host(), &to.sin_addr), 1);
    int other = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(other, (const struct sockaddr *)&to, sizeof to), 0); /* the listener is readable */
    end_of_look(&r);
    assert_int_equal(status, COHORT_EAGAIN);
    assert_true(took_ns > 0 && took_ns < 2 * BOUND_NS);
    close(other);
    close_pair(&r);
}

static void it_lasts_as_long_as_it_may(void **state)
{
    struct rig r;
    open_pair(&r);
    for_ns = 3 * MS;
    rig_do(&r, look);
    assert_int_equal(status, COHORT_EAGAIN);
    assert_true(took_ns >= 3 * MS);
    close_pair(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_there_is_taken_at_once),       cmocka_unit_test(what_comes_meanwhile_ends_it),
        cmocka_unit_test(the_end_of_the_stream_ends_it),        cmocka_unit_test(a_wake_up_ends_it),
        cmocka_unit_test(another_socket_that_is_ready_ends_it), cmocka_unit_test(it_lasts_as_long_as_it_may),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
