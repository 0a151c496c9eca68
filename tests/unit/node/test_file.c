/* SPDX-License-Identifier: Apache-2.0
 *
 * node/file: a file, or what a pipe gives, arrives as it is; one that changes meanwhile does not; and what ends it is said.
 */
#include "machine.h"
#include "reading.h"

#define FILE_BYTES 1000000

/* An open file of `len` bytes that nobody else can name. */
static int make_file(size_t len)
{
    char path[] = "/tmp/cohort-file-XXXXXX";
    static uint8_t bytes[2 * FILE_BYTES];
    int fd = mkstemp(path);
    assert_true(fd >= 0 && unlink(path) == 0);
    fill_bytes(bytes, 0, len);
    assert_int_equal(write(fd, bytes, len), len);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static void open_pair(struct rig_node *n, struct reading *r)
{
    cohort_limits limits = small_limits();
    limits.peer_queue_bytes_max = 256 * 1024;
    memset(r, 0, sizeof *r);
    run_limited(n, &limits);
    read_in(&n[1], new_queue(&n[1], 1), "f", r);
}

static int send_fd(struct rig_node *n, int fd, uint64_t *sent, cohort_error *error)
{
    return cohort_send_file(n->node, address(1), "f", fd, 0, NULL, NULL, sent, error);
}

static void files_arrive(void **state)
{
    static const size_t sizes[] = {0, 1, 65552, 65553, FILE_BYTES};
    static struct rig_node n[2];
    static struct reading r;
    open_pair(n, &r);
    for (unsigned i = 0; i < UNIT_COUNT(sizes); i++) {
        uint64_t sent = 0;
        cohort_error error;
        int fd = make_file(sizes[i]);
        assert_int_equal(send_fd(n, fd, &sent, &error), COHORT_OK);
        assert_true(sent == sizes[i] && error.code == COHORT_OK && error.text[0] == '\0');
        close(fd);
        WAIT_FOR(atomic_load(&r.ended) == i + 1);
        assert_true(r.streams[i].len == sizes[i] && r.streams[i].status == COHORT_OK);
    }
    assert_int_equal(atomic_load(&r.wrong), 0);
    rig_close_pair(n);
}

static void *feed(void *arg)
{
    static uint8_t bytes[FILE_BYTES];
    int fd = *(int *)arg;
    fill_bytes(bytes, 0, sizeof bytes);
    for (size_t at = 0; at < sizeof bytes;) {
        size_t len = sizeof bytes - at < 7777 ? sizeof bytes - at : 7777;
        ssize_t wrote = write(fd, bytes + at, len);
        if (wrote < 0) {
            break;
        }
        at += (size_t)wrote;
    }
    close(fd);
    return NULL;
}

static void a_pipe_until_its_end(void **state)
{
    static struct rig_node n[2];
    static struct reading r;
    int ends[2];
    uint64_t sent = 0;
    pthread_t feeder;
    open_pair(n, &r);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(pthread_create(&feeder, NULL, feed, &ends[1]), 0);
    assert_int_equal(send_fd(n, ends[0], &sent, NULL), COHORT_OK);
    pthread_join(feeder, NULL);
    close(ends[0]);
    WAIT_FOR(atomic_load(&r.ended) == 1);
    assert_true(sent == FILE_BYTES && r.streams[0].len == FILE_BYTES && atomic_load(&r.wrong) == 0);
    rig_close_pair(n);
}

/* At so many bytes the file becomes another length, or it is given up. */
struct meddler {
    int fd;
    uint64_t at, calls;
    off_t len; /* 0: give up */
};

static int meddle(cohort_node *node, uint64_t bytes, uint64_t total, void *arg)
{
    struct meddler *m = arg;
    bool now = m->calls++ == 0;
    if (now && m->len > 0) {
        assert_int_equal(ftruncate(m->fd, m->len), 0);
    }
    assert_true(total == FILE_BYTES && bytes <= total);
    return m->len == 0 && now;
}

static void a_file_that_changes_is_not_sent(void **state)
{
    static const struct {
        off_t len;
        int status;
        const char *text;
    } cases[] = {{500000, COHORT_EFILE, "the file has become shorter"},
                 {FILE_BYTES + 1, COHORT_EFILE, "the file has become longer"},
                 {0, COHORT_ECANCELLED, "cancelled"}};
    static struct rig_node n[2];
    static struct reading r;
    open_pair(n, &r);
    for (unsigned i = 0; i < UNIT_COUNT(cases); i++) {
        struct meddler m = {.fd = make_file(FILE_BYTES), .len = cases[i].len};
        cohort_error error;
        uint64_t sent = 0;
        assert_int_equal(cohort_send_file(n[0].node, address(1), "f", m.fd, 0, meddle, &m, &sent, &error), cases[i].status);
        assert_string_equal(error.text, cases[i].text);
        assert_true(error.code == cases[i].status && sent > 0 && sent < FILE_BYTES);
        close(m.fd);
        WAIT_FOR(atomic_load(&r.ended) == i + 1);
        assert_int_equal(r.streams[i].status, COHORT_ECANCELLED);
    }
    assert_int_equal(atomic_load(&r.wrong), 0);
    rig_close_pair(n);
}

static void what_cannot_be_read(void **state)
{
    static struct rig_node n[2];
    static struct reading r;
    cohort_error error;
    uint64_t sent = 9;
    open_pair(n, &r);
    assert_int_equal(send_fd(n, -1, &sent, &error), COHORT_EFILE);
    assert_string_equal(error.text, "Bad file descriptor");
    assert_true(sent == 0);
    int fd = make_file(10);
    assert_int_equal(cohort_send_file(n->node, "nobody", "f", fd, 0, NULL, NULL, &sent, &error), COHORT_ENOPEER);
    assert_string_equal(error.text, "no such member");
    close(fd);
    rig_close_pair(n);
    assert_int_equal(atomic_load(&r.begun), 0);
}

/* Not connected: so much is accepted as a lane may hold; then nothing moves. Then it comes, with nothing to read. */
static void nothing_moves(void **state)
{
    static struct rig_node n;
    cohort_limits limits = small_limits();
    cohort_error error;
    uint64_t sent = 0;
    run_without_handlers(&n, 0, &limits);
    assert_int_equal(cohort_node_add(n.node, address(1), address(1), PORT), COHORT_OK);
    static const size_t sizes[] = {10, FILE_BYTES};
    for (unsigned i = 0; i < UNIT_COUNT(sizes); i++) {
        int fd = make_file(sizes[i]);
        assert_int_equal(cohort_send_file(n.node, address(1), "f", fd, 30, NULL, NULL, &sent, &error), COHORT_ETIMEDOUT);
        assert_string_equal(error.text, "timed out");
        assert_true(sent > 0 && sent <= SMALL_LANE);
        close(fd);
    }
    (void)rig_close(&n);
}

static _Thread_local bool counts_here;
static unsigned timed_out; /* waits of the thread that counts */

static int count_timeouts(struct cohorti_io *io, struct cohorti_waiter *w, uint64_t timeout_ns)
{
    int status = real_ops->wait(io, w, timeout_ns);
    timed_out += counts_here && status == COHORT_ETIMEDOUT;
    return status;
}

/* What was acknowledged before it is nothing that moves. */
static void a_file_gives_up_after_idle_ms(void **state)
{
    static struct rig_node n[2];
    static struct sink s;
    int fd = make_file(10);
    run_without_handlers(&n[1], 1, NULL);
    handle_in(&n[1], NULL, "hold", take_in_order, &s, NULL);
    rig_begin(&n[0]);
    cohort_config config = rig_config(&n[0], 0);
    rig_open(&n[0], &config);
    replace_machine(&n[0])->wait = count_timeouts;
    rig_start(&n[0]);
    meet(&n[0], &n[1], 1);
    assert_int_equal(send_fd(n, fd, NULL, NULL), COHORT_OK);
    WAIT_FOR(unacknowledged(&n[0], 1) == 0);
    atomic_store(&s.hold, true);
    assert_int_equal(send_number(&n[0], 1, "hold", 0, 4), COHORT_OK);
    WAIT_FOR(atomic_load(&s.inside)); /* its loop stands: nothing is acknowledged */
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    counts_here = true;
    int status = cohort_send_file(n[0].node, address(1), "f", fd, 30, NULL, NULL, NULL, NULL);
    counts_here = false;
    atomic_store(&s.hold, false);
    close(fd);
    rig_close_pair(n);
    assert_int_equal(status, COHORT_ETIMEDOUT);
    assert_int_equal(timed_out, 1);
}

static _Atomic int said_inside;

static void try_inside(cohort_node *node, const cohort_message *message, void *arg)
{
    atomic_store(&said_inside, cohort_send_file(node, message->from, "f", 0, 0, NULL, NULL, NULL, NULL));
}

static void not_inside_a_callback(void **state)
{
    static struct rig_node n[2];
    static struct reading r;
    open_pair(n, &r);
    handle_in(&n[1], NULL, "go", try_inside, NULL, NULL);
    assert_int_equal(cohort_send(n[0].node, address(1), "go", "", 0), COHORT_OK);
    WAIT_FOR(atomic_load(&said_inside) != 0);
    assert_int_equal(atomic_load(&said_inside), COHORT_ECALLBACK);
    rig_close_pair(n);
}

/* The member goes away for good with half of it. */
static int close_reader(cohort_node *node, uint64_t bytes, uint64_t total, void *arg)
{
    struct rig_node *reader = arg;
    if (reader->node != NULL && bytes >= 500000) {
        (void)cohort_node_close(reader->node, 5000);
        reader->node = NULL;
    }
    return 0;
}

static void the_reader_goes_away(void **state)
{
    static struct rig_node n[2];
    static struct reading r;
    cohort_error error;
    int fd = make_file(FILE_BYTES);
    open_pair(n, &r);
    assert_int_equal(cohort_send_file(n[0].node, address(1), "f", fd, 0, close_reader, &n[1], NULL, &error), COHORT_ELEFT);
    assert_string_equal(error.text, "the peer left the cluster");
    close(fd);
    assert_true(atomic_load(&r.ended) == 1 && r.streams[0].status == COHORT_ECLOSED);
    (void)rig_close(&n[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(files_arrive),          node_test(a_pipe_until_its_end), node_test(a_file_that_changes_is_not_sent),
        node_test(what_cannot_be_read),   node_test(nothing_moves),        node_test(a_file_gives_up_after_idle_ms),
        node_test(not_inside_a_callback), node_test(the_reader_goes_away),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
