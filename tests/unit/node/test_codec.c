/* SPDX-License-Identifier: Apache-2.0
 *
 * node/codec: objects across a link, what a codec refuses, replacing one under way, who releases what, and every error.
 */
#include "rig.h"

#include <cohort/codec.h>

/* The object: a number. On the wire: 8 bytes, little-endian of this machine; anything else does not decode. */
struct number {
    uint64_t value;
};

struct numbers { /* the codec's context */
    _Atomic int64_t alive;
    _Atomic unsigned contexts_released;
    const char *why; /* what a refusal says; NULL: nothing */
};

static int number_encode(void *ctx, const char *subject, const void *object, cohort_buffer *out)
{
    const struct number *n = object;
    return n == NULL ? -1 : cohort_buffer_append(out, &n->value, sizeof n->value);
}

static int number_decode(void *ctx, const cohort_message *message, void **object, cohort_error *error)
{
    struct numbers *c = ctx;
    if (message->data_len != sizeof(struct number)) {
        if (c->why != NULL) {
            (void)snprintf(error->text, sizeof error->text, "%s", c->why);
        }
        return -77;
    }
    struct number *n = malloc(sizeof *n);
    memcpy(n, message->data, sizeof *n);
    atomic_fetch_add(&c->alive, 1);
    *object = n;
    return COHORT_OK;
}

static void number_release(void *ctx, void *object)
{
    struct numbers *c = ctx;
    atomic_fetch_sub(&c->alive, 1);
    free(object);
}

static void numbers_ctx_release(void *ctx)
{
    struct numbers *c = ctx;
    atomic_fetch_add(&c->contexts_released, 1);
}

static cohort_codec numbers_codec(struct numbers *c)
{
    return (cohort_codec){number_encode, number_decode, number_release, c, numbers_ctx_release};
}

struct taken { /* by a handler of objects */
    _Atomic unsigned count, released;
    _Atomic uint64_t sum;
    struct number *_Atomic kept; /* the last one, with keep */
    bool keep;
};

static void take(cohort_node *node, const cohort_message *message, void **object, void *arg)
{
    struct taken *t = arg;
    atomic_fetch_add(&t->sum, ((struct number *)*object)->value);
    if (t->keep) {
        atomic_store(&t->kept, *object);
        *object = NULL;
    }
    atomic_fetch_add(&t->count, 1);
}

static void taken_release(void *arg)
{
    struct taken *t = arg;
    atomic_fetch_add(&t->released, 1);
}

static cohort_handle_id handle(struct rig_node *n, const char *subject, struct taken *t)
{
    cohort_handle_id id = 0;
    assert_int_equal(cohort_handle_object(n->node, subject, take, t, taken_release, &id), COHORT_OK);
    assert_int_not_equal(id, 0);
    return id;
}

static uint64_t failures(const struct rig_node *n)
{
    cohort_node_stats stats;
    cohort_node_stats_get(n->node, &stats);
    return stats.decode_failures;
}

/* ---- tests --------------------------------------------------------------------------------------------------------- */

static void objects_arrive_and_are_released(void **state)
{
    static struct rig_node n[2];
    struct numbers ours = {0}, theirs = {0};
    struct taken t = {0}, kept = {.keep = true};
    cohort_codec send = numbers_codec(&ours), receive = numbers_codec(&theirs);
    size_t sent = 0;
    rig_pair(n);
    assert_int_equal(cohort_codec_set(n[0].node, "n", &send), COHORT_OK);
    assert_int_equal(cohort_codec_set(n[1].node, "n", &receive), COHORT_OK);
    (void)handle(&n[1], "n", &t);
    cohort_handle_id second = handle(&n[1], "n", &kept); /* gets an object of its own */
    for (uint64_t i = 1; i <= 100; i++) {
        assert_int_equal(cohort_send_object(n[0].node, address(1), "n", &(struct number){i}), COHORT_OK);
        WAIT_FOR(atomic_load(&kept.count) == i);
        assert_int_equal(atomic_load(&kept.kept)->value, i);
        number_release(&theirs, atomic_load(&kept.kept));
    }
    assert_int_equal(cohort_unhandle(n[1].node, second), COHORT_OK);
    WAIT_FOR(atomic_load(&kept.released) == 1);
    assert_int_equal(cohort_broadcast_object(n[0].node, "n", &(struct number){1000}, &sent), COHORT_OK);
    assert_int_equal(sent, 1);
    WAIT_FOR(atomic_load(&t.count) == 101);
    assert_int_equal(atomic_load(&t.sum), 5050 + 1000);
    assert_int_equal(failures(&n[1]), 0);
    rig_close_pair(n);
    assert_int_equal(atomic_load(&theirs.alive), 0);
    assert_int_equal(atomic_load(&theirs.contexts_released), 1);
    assert_int_equal(atomic_load(&ours.contexts_released), 1);
    assert_int_equal(atomic_load(&t.released), 1);
    assert_int_equal(atomic_load(&kept.count), 100);
}

struct logged {
    _Atomic unsigned lines;
    char peer[COHORT_ID_BYTES_MAX + 1], text[512];
    cohort_log_level level;
};

static void write_down(void *ctx, const cohort_log_record *record)
{
    struct logged *l = ctx;
    if (strcmp(record->component, "codec") != 0) {
        return;
    }
    if (atomic_load(&l->lines) == 0) {
        (void)snprintf(l->peer, sizeof l->peer, "%s", record->peer);
        (void)snprintf(l->text, sizeof l->text, "%s", record->text);
        l->level = record->level;
    }
    atomic_fetch_add(&l->lines, 1);
}

/* A node 1 that logs into `l`, met by node 0. */
static void pair_with_log(struct rig_node *n, struct logged *l)
{
    rig_begin(&n[1]);
    cohort_config config = rig_config(&n[1], 1);
    config.log = (cohort_log_sink){.write = write_down, .ctx = l, .level = COHORT_LOG_DEBUG};
    rig_open(&n[1], &config);
    rig_start(&n[1]);
    rig_run(&n[0], 0);
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].activated) == 1 && atomic_load(&n[1].activated) == 1);
}

static void what_does_not_decode_is_counted_and_logged_and_costs_nothing_else(void **state)
{
    static struct rig_node n[2];
    static struct logged l;
    struct numbers ours = {0}, theirs = {.why = "8 bytes expected\nnot 3"};
    struct taken t = {0};
    cohort_handle_id ignored;
    cohort_codec send = numbers_codec(&ours), receive = numbers_codec(&theirs);
    pair_with_log(n, &l);
    assert_int_equal(cohort_codec_set(n[0].node, "n", &send), COHORT_OK);
    assert_int_equal(cohort_codec_set(n[1].node, "n", &receive), COHORT_OK);
    (void)handle(&n[1], "n", &t);
    assert_int_equal(cohort_handle(n[1].node, "n", rig_on_message, &n[1], rig_on_release, &ignored), COHORT_OK);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(cohort_send(n[0].node, address(1), "n", "bad", 3), COHORT_OK);
        assert_int_equal(cohort_send_object(n[0].node, address(1), "n", &(struct number){1}), COHORT_OK);
    }
    WAIT_FOR(atomic_load(&t.count) == 50);
    WAIT_FOR(atomic_load(&n[1].messages) == 100); /* the handler of bytes got them all */
    assert_int_equal(failures(&n[1]), 50);
    assert_int_equal(failures(&n[0]), 0);
    assert_int_equal(atomic_load(&n[1].deactivated), 0);
    assert_string_equal(l.peer, address(0));
    assert_string_equal(l.text, "n: 3 bytes not decoded: 8 bytes expected?not 3");
    assert_int_equal(l.level, COHORT_LOG_WARN);
    assert_in_range(atomic_load(&l.lines), 1, 40); /* one a second, however many there are */
    rig_close_pair(n);
    assert_int_equal(atomic_load(&theirs.alive), 0);
}

static void a_codec_taken_away_is_missed_by_its_handlers(void **state)
{
    static struct rig_node n[2];
    static struct logged l;
    struct numbers theirs = {0};
    struct taken t = {0};
    cohort_codec codec = numbers_codec(&theirs);
    pair_with_log(n, &l);
    assert_int_equal(cohort_codec_set(n[1].node, "n", &codec), COHORT_OK);
    (void)handle(&n[1], "n", &t);
    assert_int_equal(cohort_codec_set(n[1].node, "n", NULL), COHORT_OK);
    assert_int_equal(atomic_load(&theirs.contexts_released), 1);
    assert_int_equal(cohort_codec_set(n[1].node, "n", NULL), COHORT_OK); /* nothing to take away */
    assert_int_equal(cohort_send(n[0].node, address(1), "n", "12345678", 8), COHORT_OK);
    WAIT_FOR(failures(&n[1]) == 1);
    WAIT_FOR(atomic_load(&l.lines) == 1);
    assert_string_equal(l.text, "n: 8 bytes not decoded: the subject has no codec");
    assert_int_equal(atomic_load(&t.count), 0);
    rig_close_pair(n);
}

static int refuse_decode(void *ctx, const cohort_message *message, void **object, cohort_error *error)
{
    return -1;
}

static void one_codec_for_every_subject_without_its_own(void **state)
{
    static struct rig_node n[2];
    struct numbers c = {0};
    struct taken t = {0}, raw = {0}, all = {0};
    cohort_codec codec = numbers_codec(&c), own = {.decode = refuse_decode};
    rig_pair(n);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(cohort_codec_set(n[i].node, NULL, &codec), COHORT_OK);
    }
    assert_int_equal(cohort_codec_set(n[1].node, "own", &own), COHORT_OK);
    (void)handle(&n[1], "own", &t);
    (void)handle(&n[1], "#2147483647", &raw);
    (void)handle(&n[1], NULL, &all);
    assert_int_equal(cohort_send_object(n[0].node, address(1), "own", &(struct number){1}), COHORT_OK);
    assert_int_equal(cohort_send_object(n[0].node, address(1), "#02147483647", &(struct number){2}), COHORT_EINVAL);
    assert_int_equal(cohort_send_object(n[0].node, address(1), "#2147483647", &(struct number){2}), COHORT_OK);
    WAIT_FOR(failures(&n[1]) == 1 && atomic_load(&raw.count) == 1);
    assert_int_equal(atomic_load(&t.count), 0);
    assert_int_equal(cohort_send_object(n[0].node, address(1), "else", &(struct number){3}), COHORT_OK);
    WAIT_FOR(atomic_load(&all.sum) >= 3);
    rig_close_pair(n);
    assert_int_equal(atomic_load(&c.alive), 0);
    assert_int_equal(atomic_load(&c.contexts_released), 2);
}

/* "#4294967295" is "#-1", for a codec as for a handler; and a node of 2014 needs to know nothing of codecs. */
static void raw_types_of_a_legacy_peer(void **state)
{
    static struct rig_node n;
    struct numbers c = {0};
    struct taken t = {0};
    struct number seven = {7}, eight = {0};
    cohort_codec codec = numbers_codec(&c);
    size_t len = 0;
    rig_run(&n, 0);
    assert_int_equal(cohort_codec_set(n.node, "#4294967295", &codec), COHORT_OK);
    (void)handle(&n, "#-1", &t);
    int fd = bare_connect(0, 5, 0);
    bare_frame(fd, UINT32_MAX, &seven, sizeof seven);
    WAIT_FOR(atomic_load(&t.count) == 1);
    assert_int_equal(atomic_load(&t.sum), 7);
    assert_int_equal(cohort_send_object(n.node, address(5), "#-1", &(struct number){8}), COHORT_OK);
    assert_int_equal(bare_next(fd, &eight, sizeof eight, &len), UINT32_MAX);
    assert_int_equal(eight.value, 8);
    assert_int_equal(cohort_codec_set(n.node, "#-1", NULL), COHORT_OK);
    assert_int_equal(cohort_send_object(n.node, address(5), "#4294967295", &seven), COHORT_ESTATE);
    close(fd);
    WAIT_FOR(atomic_load(&n.deactivated) == 1);
    assert_int_equal(rig_close(&n), COHORT_OK);
    assert_int_equal(atomic_load(&c.alive), 0);
}

static void errors(void **state)
{
    static struct rig_node n[2];
    struct numbers c = {0};
    struct taken t = {0};
    struct number one = {1};
    cohort_codec codec = numbers_codec(&c), neither = {.ctx_release = numbers_ctx_release, .ctx = &c},
                 only_encode = {.encode = number_encode}, only_decode = {.decode = refuse_decode};
    cohort_handle_id id = 0;
    size_t sent = 9;
    rig_pair(n);
    cohort_node *node = n[0].node;
    const char *to = address(1);
    assert_int_equal(cohort_codec_set(node, "a b", &codec), COHORT_EINVAL);
    assert_int_equal(cohort_codec_set(node, "", NULL), COHORT_EINVAL);
    assert_int_equal(cohort_codec_set(node, "#1", &codec), COHORT_EINVAL);
    assert_int_equal(cohort_codec_set(node, "n", &neither), COHORT_EINVAL);
    assert_int_equal(cohort_send_object(node, to, "n", &one), COHORT_ESTATE);
    assert_int_equal(cohort_handle_object(node, "n", take, &t, taken_release, &id), COHORT_ESTATE);
    assert_int_equal(cohort_codec_set(node, "n", &only_encode), COHORT_OK);
    assert_int_equal(cohort_handle_object(node, "n", take, &t, taken_release, &id), COHORT_ESTATE);
    assert_int_equal(cohort_codec_set(node, "n", &only_decode), COHORT_OK);
    assert_int_equal(cohort_send_object(node, to, "n", &one), COHORT_ESTATE);
    assert_int_equal(cohort_broadcast_object(node, "n", &one, &sent), COHORT_ESTATE);
    assert_int_equal(sent, 0);
    assert_int_equal(cohort_codec_set(node, "n", &codec), COHORT_OK);
    assert_int_equal(cohort_handle_object(node, "n", NULL, &t, taken_release, &id), COHORT_EINVAL);
    assert_int_equal(cohort_handle_object(node, "a b", take, &t, taken_release, &id), COHORT_EINVAL);
    assert_int_equal(cohort_send_object(node, to, "n", NULL), COHORT_ECODEC); /* what this encoder refuses */
    assert_int_equal(cohort_send_object(node, to, NULL, &one), COHORT_EINVAL);
    assert_int_equal(cohort_send_object(node, to, "a b", &one), COHORT_EINVAL);
    assert_int_equal(cohort_send_object(node, "nobody", "n", &one), COHORT_ENOPEER);
    assert_int_equal(atomic_load(&n[1].messages), 0);
    rig_close_pair(n);
    assert_int_equal(atomic_load(&t.released), 0);
    assert_int_equal(atomic_load(&c.contexts_released), 1);
}

static void codecs_are_limited(void **state)
{
    static struct rig_node n;
    struct numbers c = {0};
    cohort_codec codec = numbers_codec(&c);
    rig_begin(&n);
    cohort_config config = rig_config(&n, 0);
    config.limits.handlers_max = 2;
    rig_open(&n, &config);
    assert_int_equal(cohort_codec_set(n.node, "a", &codec), COHORT_OK);
    assert_int_equal(cohort_codec_set(n.node, "b", &codec), COHORT_OK);
    assert_int_equal(cohort_codec_set(n.node, "c", &codec), COHORT_ELIMIT);
    assert_int_equal(atomic_load(&c.contexts_released), 0);
    assert_int_equal(cohort_codec_set(n.node, "a", &codec), COHORT_OK); /* in place of the old one */
    assert_int_equal(atomic_load(&c.contexts_released), 1);
    (void)rig_close(&n);
    assert_int_equal(atomic_load(&c.contexts_released), 3);
}

/* ---- the buffer ---------------------------------------------------------------------------------------------------- */

#define LIMIT (64 * 1024)

/* object: how many bytes to write, in pieces, one of them by extend; ignores every failure. */
static int careless_encode(void *ctx, const char *subject, const void *object, cohort_buffer *out)
{
    static const char piece[1000] = {7};
    size_t len = *(const size_t *)object;
    void *room = &room;
    size_t first = len < 10 ? len : 10;
    int status = cohort_buffer_extend(out, first, &room);
    if (status == COHORT_OK && first > 0) {
        memset(room, 7, first);
    }
    for (size_t at = first; at < len; at += sizeof piece) {
        (void)cohort_buffer_append(out, piece, len - at < sizeof piece ? len - at : sizeof piece);
    }
    if (cohort_buffer_len(out) != len) { /* it fails, and then takes nothing more, however small */
        status = cohort_buffer_append(out, piece, 1);
        assert_true(status == COHORT_ESIZE || status == COHORT_ENOMEM);
        assert_int_equal(cohort_buffer_extend(out, 1, &room), status);
        assert_null(room);
    }
    return COHORT_OK;
}

static int huge_encode(void *ctx, const char *subject, const void *object, cohort_buffer *out)
{
    void *room = NULL;
    return cohort_buffer_append(out, "x", 1) + cohort_buffer_extend(out, SIZE_MAX, &room);
}

static void a_buffer_grows_up_to_the_largest_message(void **state)
{
    static struct rig_node n[2];
    cohort_codec codec = {.encode = careless_encode}, huge = {.encode = huge_encode};
    static const size_t fit[] = {0, 1, 10, 4096, LIMIT};
    rig_run(&n[1], 1);
    rig_begin(&n[0]);
    cohort_config config = rig_config(&n[0], 0);
    config.limits.message_bytes_max = LIMIT;
    rig_open(&n[0], &config);
    rig_start(&n[0]);
    assert_int_equal(cohort_codec_set(n[0].node, "s", &codec), COHORT_OK);
    assert_int_equal(cohort_node_add(n[0].node, address(1), address(1), PORT), COHORT_OK);
    WAIT_FOR(atomic_load(&n[0].activated) == 1);
    for (size_t i = 0; i < UNIT_COUNT(fit); i++) {
        assert_int_equal(cohort_send_object(n[0].node, address(1), "s", &fit[i]), COHORT_OK);
    }
    assert_int_equal(cohort_send_object(n[0].node, address(1), "s", &(size_t){LIMIT + 1}), COHORT_ESIZE);
    assert_int_equal(cohort_send_object(n[0].node, address(1), "s", &(size_t){100 * LIMIT}), COHORT_ESIZE);
    assert_int_equal(cohort_codec_set(n[0].node, "huge", &huge), COHORT_OK);
    assert_int_equal(cohort_send_object(n[0].node, address(1), "huge", NULL), COHORT_ESIZE);
    WAIT_FOR(atomic_load(&n[1].messages) == UNIT_COUNT(fit));
    rig_close_pair(n);
}

/* ---- many threads -------------------------------------------------------------------------------------------------- */

struct flood {
    struct rig_node *n;
    unsigned count;
    pthread_t thread;
};

static void *send_ones(void *arg)
{
    struct flood *f = arg;
    for (unsigned i = 0; i < f->count; i++) {
        int status;
        while ((status = cohort_send_object(f->n->node, address(1), "n", &(struct number){1})) == COHORT_EAGAIN) {
            sched_yield();
        }
        atomic_fetch_add(&f->n->wrong, status != COHORT_OK);
    }
    return NULL;
}

static void a_codec_is_replaced_under_traffic(void **state)
{
    static struct rig_node n[2];
    struct numbers c[2] = {{0}, {0}};
    struct taken t = {0};
    struct flood f[2] = {{&n[0], 5000, 0}, {&n[0], 5000, 0}};
    cohort_codec codec[2] = {numbers_codec(&c[0]), numbers_codec(&c[1])};
    rig_pair(n);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(cohort_codec_set(n[i].node, "n", &codec[0]), COHORT_OK);
    }
    (void)handle(&n[1], "n", &t);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&f[i].thread, NULL, send_ones, &f[i]), 0);
    }
    unsigned replaced = 0;
    while (atomic_load(&t.count) < 10000) {
        for (int i = 0; i < 2; i++) {
            assert_int_equal(cohort_codec_set(n[i].node, "n", &codec[++replaced % 2]), COHORT_OK);
        }
        sched_yield();
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(f[i].thread, NULL);
    }
    assert_int_equal(atomic_load(&t.sum), 10000);
    assert_int_equal(failures(&n[1]), 0);
    rig_close_pair(n);
    assert_int_equal(atomic_load(&c[0].alive) + atomic_load(&c[1].alive), 0);
    assert_int_equal(atomic_load(&c[0].contexts_released) + atomic_load(&c[1].contexts_released), replaced + 2);
}

/* ---- memory -------------------------------------------------------------------------------------------------------- */

static void each_allocation_may_fail(void **state)
{
    for (uint64_t i = 1;; i++) {
        static struct rig_node n;
        struct numbers c = {0};
        struct taken t = {0};
        cohort_codec codec = numbers_codec(&c);
        cohort_handle_id id = 0;
        rig_begin(&n);
        cohort_config config = rig_config(&n, 0);
        rig_open(&n, &config);
        n.memory.fail_at = atomic_load(&n.memory.calls) + i;
        int set = cohort_codec_set(n.node, "n", &codec);
        int handled = cohort_handle_object(n.node, "n", take, &t, taken_release, &id);
        int sent = cohort_send_object(n.node, "nobody", "n", &(struct number){1});
        bool none_failed = atomic_load(&n.memory.calls) < n.memory.fail_at;
        assert_true(set == COHORT_OK || (set == COHORT_ENOMEM && handled == COHORT_ESTATE && sent == COHORT_ESTATE));
        assert_true(handled == COHORT_OK || handled == COHORT_ENOMEM || set != COHORT_OK);
        assert_true(sent == COHORT_ENOPEER || sent == COHORT_ENOMEM || set != COHORT_OK);
        (void)rig_close(&n);
        assert_int_equal(atomic_load(&c.contexts_released), set == COHORT_OK);
        assert_int_equal(atomic_load(&t.released), handled == COHORT_OK);
        if (none_failed) {
            assert_true(i > 4 && set == COHORT_OK && handled == COHORT_OK && sent == COHORT_ENOPEER);
            return;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        node_test(objects_arrive_and_are_released),
        node_test(what_does_not_decode_is_counted_and_logged_and_costs_nothing_else),
        node_test(a_codec_taken_away_is_missed_by_its_handlers),
        node_test(one_codec_for_every_subject_without_its_own),
        node_test(raw_types_of_a_legacy_peer),
        node_test(errors),
        node_test(codecs_are_limited),
        node_test(a_buffer_grows_up_to_the_largest_message),
        node_test(a_codec_is_replaced_under_traffic),
        node_test(each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
