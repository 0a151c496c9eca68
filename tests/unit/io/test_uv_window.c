/* SPDX-License-Identifier: Apache-2.0
 *
 * The receive window of a connection of io/uv: fixed where large messages come over loopback, and nowhere else.
 */
#include "io/uv/uv_io.h"

#include "support.h"

#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#define WINDOW (352 * 1024)
#define CHUNK ((size_t)64 * 1024)
#define BUFFER ((size_t)256 * 1024)

static int receive_buffer(int fd)
{
    int bytes = 0;
    socklen_t len = sizeof bytes;
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, &len), 0);
    return bytes;
}

static bool give_receive_buffer(int fd, int bytes)
{
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
    return receive_buffer(fd) == 2 * bytes;
}

static bool system_allows(int bytes)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    bool allowed = give_receive_buffer(fd, bytes);
    close(fd);
    return allowed;
}

static void connect_loopback(const char *host, struct cohorti_socket ends[2])
{
    struct sockaddr_storage address;
    socklen_t len;
    assert_int_equal(cohorti_uv_address(host, 0, &address, &len), COHORT_OK);
    int listener = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    memset(ends, 0, 2 * sizeof *ends);
    ends[0].fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(ends[0].fd, (struct sockaddr *)&address, len), 0);
    ends[1].fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(ends[1].fd >= 0);
    close(listener);
}

static void close_both(struct cohorti_socket ends[2])
{
    close(ends[0].fd);
    close(ends[1].fd);
}

/* As a connection does: what is missing of a chunk of a large message to its place, and what comes behind it, if `place` is not 0. */
static void receive(struct cohorti_socket *s, size_t place)
{
    static uint8_t to[BUFFER], behind[BUFFER];
    size_t n = 0;
    const struct cohorti_room rooms[] = {{to, place}, {behind, sizeof behind}};
    assert_int_equal(place > 0 ? cohorti_uv_recv(s, rooms, 2, &n) : cohorti_uv_recv(s, rooms + 1, 1, &n), COHORT_EAGAIN);
}

static void expect_window_for_large_messages(const char *host)
{
    struct cohorti_socket ends[2];
    connect_loopback(host, ends);
    int found = receive_buffer(ends[1].fd), of_sender = receive_buffer(ends[0].fd);
    assert_in_range(found, 1, 2 * WINDOW - 1);
    receive(&ends[1], 0);
    receive(&ends[1], CHUNK / 4);
    assert_int_equal(receive_buffer(ends[1].fd), found); /* of small ones, and of the end of one */
    receive(&ends[1], CHUNK);
    assert_int_equal(receive_buffer(ends[1].fd), system_allows(WINDOW) ? 2 * WINDOW : found);
    assert_int_equal(receive_buffer(ends[0].fd), of_sender);
    close_both(ends);
}

static void large_messages_on_loopback_get_a_window(void **state)
{
    expect_window_for_large_messages("127.0.0.1");
    expect_window_for_large_messages("127.0.0.2");
}

static void a_larger_window_stays(void **state)
{
    struct cohorti_socket ends[2];
    connect_loopback("127.0.0.1", ends);
    give_receive_buffer(ends[1].fd, 2 * WINDOW);
    int larger = receive_buffer(ends[1].fd);
    receive(&ends[1], CHUNK);
    assert_int_equal(receive_buffer(ends[1].fd), larger);
    close_both(ends);
}

static void what_does_not_come_over_loopback_is_left_to_the_system(void **state)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    struct cohorti_socket ends[2] = {{.fd = fds[0]}, {.fd = fds[1]}};
    int found = receive_buffer(fds[1]);
    receive(&ends[1], CHUNK);
    assert_int_equal(receive_buffer(fds[1]), found);
    close_both(ends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_messages_on_loopback_get_a_window),
        cmocka_unit_test(a_larger_window_stays),
        cmocka_unit_test(what_does_not_come_over_loopback_is_left_to_the_system),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
