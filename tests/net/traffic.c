/* SPDX-License-Identifier: Apache-2.0
 *
 * One process under full load, on the public API only: it sends numbered messages to its peers in all three lanes, checks those it
 * gets, and keeps a ledger of both. What is done to the processes meanwhile, and what must come out, is in test_sessions.py.
 *
 *   traffic ID IP LEDGERS [seed=N] [queue=BYTES] [window=BYTES] [handle_us=N] [peer=ID,IP ...]
 *
 * Commands are lines on standard input, each answered by one line: send ID, stop ID, stats, quit.
 *
 * A message is { u64 number, u64 digest, body }, of 16 B .. 300 KiB. Numbers count up from 0 in each lane to each peer, and one is used
 * up only by COHORT_OK. The digest covers lane, number, length and body.
 *
 * The ledger, one file LEDGERS.PEER for each peer, is shared memory in a file, so that nothing has to be flushed and that of a process
 * killed by SIGKILL tells what it had handled. A page of counters (struct account for each lane) comes first, then for each lane
 * three bitmaps by number: handled; told as undelivered, certainly not handled; told as undelivered, maybe handled.
 *
 * The lanes are sent to in different ways: normal by cohort_send() that blocks, control by a route that blocks, half of it built in
 * place (a claim does not block, but is told of room by the writable event), bulk by cohort_send() and the writable event.
 */
#include <cohort/cohort.h>

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LANES 3
#define PEERS_MAX 4
#define HEADER_BYTES 16
#define MESSAGE_BYTES_MAX (300u << 10)
#define CLAIM_BYTES_MAX 65536
#define NUMBERS_MAX (1u << 26) /* of one lane: ten minutes at 100 000 messages a second */
#define LEDGER_HEAD_BYTES 4096
#define BLOCK_MS 200
#define CLOSE_MS 10000

enum bitmap {
    HANDLED,
    CERTAIN,
    MAYBE,
    BITMAPS
};

struct account { /* read by test_sessions.py: 16 words, in this order */
    _Atomic uint64_t accepted, handled, bytes, duplicates, reordered, damaged, certain, maybe, told_twice, headless;
    _Atomic uint64_t expected; /* one above the highest number handled */
    _Atomic uint64_t writables;
    uint64_t spare[4];
};

struct ledger {
    struct account lanes[LANES];
};

struct peer;

/* One lane to one peer, and the thread that fills it. */
struct flow {
    struct peer *peer;
    unsigned lane;
    uint64_t random;
    pthread_t thread;
    pthread_mutex_t lock; /* guards writables, and the wait for it */
    pthread_cond_t changed;
    uint64_t writables;
    atomic_bool stop;
    unsigned char buffer[MESSAGE_BYTES_MAX];
};

struct peer {
    char id[COHORT_ID_BYTES_MAX + 1];
    char ip[64];
    struct ledger *ledger;
    bool sending;
    struct flow flows[LANES];
};

static const char *const subjects[LANES] = {"traffic/normal", "traffic/control", "traffic/bulk"};
static unsigned lane_numbers[LANES] = {0, 1, 2}; /* what handlers are given */

static cohort_node *node;
static struct peer peers[PEERS_MAX];
static unsigned peer_count;
static unsigned handle_us;
static unsigned char pool[2 * MESSAGE_BYTES_MAX]; /* bodies are pieces of it */
static _Atomic int64_t live_bytes, peak_bytes;    /* of the library */

static void die(const char *what, const char *detail)
{
    fprintf(stderr, "traffic: %s: %s\n", what, detail);
    exit(2);
}

static void require(int status, const char *what)
{
    if (status != COHORT_OK) {
        die(what, cohort_error_name(status));
    }
}

/* ---- memory of the library, counted -------------------------------------------------------------------------------- */

static void count_bytes(int64_t bytes)
{
    int64_t now = atomic_fetch_add(&live_bytes, bytes) + bytes;
    int64_t peak = atomic_load(&peak_bytes);
    while (now > peak && !atomic_compare_exchange_weak(&peak_bytes, &peak, now)) {
    }
}

static void *allocate(void *ctx, size_t size)
{
    (void)ctx;
    void *ptr = malloc(size);
    count_bytes((int64_t)malloc_usable_size(ptr));
    return ptr;
}

static void *reallocate(void *ctx, void *ptr, size_t size)
{
    (void)ctx;
    int64_t before = (int64_t)malloc_usable_size(ptr);
    void *grown = realloc(ptr, size);
    if (grown) {
        count_bytes((int64_t)malloc_usable_size(grown) - before);
    }
    return grown;
}

static void release(void *ctx, void *ptr)
{
    (void)ctx;
    count_bytes(-(int64_t)malloc_usable_size(ptr));
    free(ptr);
}

/* ---- messages ------------------------------------------------------------------------------------------------------ */

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static uint64_t digest(unsigned lane, uint64_t number, const unsigned char *body, size_t len)
{
    uint64_t h = mix(mix(lane + 1, number), len);
    while (len > 0) {
        uint64_t word = 0;
        size_t piece = len < sizeof word ? len : sizeof word;
        memcpy(&word, body, piece);
        h = mix(h, word);
        body += piece;
        len -= piece;
    }
    return h;
}

static void build(unsigned char *out, unsigned lane, uint64_t number, size_t len, uint64_t random)
{
    memcpy(out + HEADER_BYTES, pool + random % MESSAGE_BYTES_MAX, len - HEADER_BYTES);
    uint64_t sum = digest(lane, number, out + HEADER_BYTES, len - HEADER_BYTES);
    memcpy(out, &number, sizeof number);
    memcpy(out + sizeof number, &sum, sizeof sum);
}

static bool is_whole(unsigned lane, const void *data, size_t len, uint64_t *number)
{
    uint64_t sum;
    if (len < HEADER_BYTES) {
        return false;
    }
    memcpy(number, data, sizeof *number);
    memcpy(&sum, (const unsigned char *)data + sizeof *number, sizeof sum);
    return *number < NUMBERS_MAX && sum == digest(lane, *number, (const unsigned char *)data + HEADER_BYTES, len - HEADER_BYTES);
}

/* Mostly small: the mean is about 4 KiB. One in a hundred travels in chunks. */
static size_t random_length(uint64_t *random)
{
    static const struct {
        unsigned percent, min, max;
    } classes[] = {{80, HEADER_BYTES, 512}, {95, 512, 8192}, {99, 8192, CLAIM_BYTES_MAX}, {100, CLAIM_BYTES_MAX, MESSAGE_BYTES_MAX}};
    unsigned dice = (unsigned)(next_random(random) % 100), i = 0;
    while (dice >= classes[i].percent) {
        i++;
    }
    return classes[i].min + next_random(random) % (classes[i].max - classes[i].min + 1);
}

/* ---- ledger -------------------------------------------------------------------------------------------------------- */

/* Whether it was marked before. */
static bool mark(struct ledger *ledger, unsigned lane, enum bitmap which, uint64_t number)
{
    size_t bytes = NUMBERS_MAX / 8;
    _Atomic unsigned char *bits =
        (_Atomic unsigned char *)((unsigned char *)ledger + LEDGER_HEAD_BYTES + ((size_t)lane * BITMAPS + which) * bytes);
    unsigned char bit = (unsigned char)(1u << number % 8);
    return atomic_fetch_or(&bits[number / 8], bit) & bit;
}

static struct ledger *open_ledger(const char *prefix, const char *peer)
{
    char path[512];
    size_t size = LEDGER_HEAD_BYTES + (size_t)LANES * BITMAPS * (NUMBERS_MAX / 8);
    snprintf(path, sizeof path, "%s.%s", prefix, peer);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0) {
        die(path, strerror(errno));
    }
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        die(path, strerror(errno));
    }
    close(fd);
    return at;
}

static struct peer *find_peer(const char *id)
{
    for (unsigned i = 0; i < peer_count; i++) {
        if (strcmp(peers[i].id, id) == 0) {
            return &peers[i];
        }
    }
    die("not a peer", id);
    return NULL;
}

/* ---- callbacks ----------------------------------------------------------------------------------------------------- */

static void on_message(cohort_node *n, const cohort_message *message, void *arg)
{
    (void)n;
    unsigned lane = *(const unsigned *)arg;
    struct ledger *ledger = find_peer(message->from)->ledger;
    struct account *account = &ledger->lanes[lane];
    uint64_t number;
    if (!is_whole(lane, message->data, message->data_len, &number)) {
        atomic_fetch_add(&account->damaged, 1);
        return;
    }
    if (mark(ledger, lane, HANDLED, number)) {
        atomic_fetch_add(&account->duplicates, 1);
    } else if (number < atomic_load(&account->expected)) {
        atomic_fetch_add(&account->reordered, 1);
    }
    if (number >= atomic_load(&account->expected)) {
        atomic_store(&account->expected, number + 1);
    }
    atomic_fetch_add(&account->bytes, message->data_len);
    atomic_fetch_add(&account->handled, 1);
    if (handle_us > 0) {
        usleep(handle_us);
    }
}

static void on_undelivered(cohort_node *n, const cohort_undelivered *report, void *arg)
{
    (void)n;
    (void)arg;
    unsigned lane = (unsigned)report->lane;
    struct ledger *ledger = find_peer(report->to)->ledger;
    struct account *account = &ledger->lanes[lane];
    uint64_t number;
    atomic_fetch_add(report->maybe_handled ? &account->maybe : &account->certain, 1);
    if (!report->data) {
        atomic_fetch_add(&account->headless, 1); /* the beginning of a large message was acknowledged, so its number is gone */
    } else if (!is_whole(lane, report->data, report->data_len, &number)) {
        atomic_fetch_add(&account->damaged, 1);
    } else if (mark(ledger, lane, report->maybe_handled ? MAYBE : CERTAIN, number)) {
        atomic_fetch_add(&account->told_twice, 1);
    }
}

static void on_writable(cohort_node *n, const char *id, cohort_lane lane, void *arg)
{
    (void)n;
    (void)arg;
    struct flow *flow = &find_peer(id)->flows[lane];
    pthread_mutex_lock(&flow->lock);
    flow->writables++;
    pthread_cond_signal(&flow->changed);
    pthread_mutex_unlock(&flow->lock);
    atomic_fetch_add(&flow->peer->ledger->lanes[lane].writables, 1);
}

/* ---- sending ------------------------------------------------------------------------------------------------------- */

static uint64_t writables(struct flow *flow)
{
    pthread_mutex_lock(&flow->lock);
    uint64_t count = flow->writables;
    pthread_mutex_unlock(&flow->lock);
    return count;
}

/* Without a time limit: if the event does not come, nothing more is accepted in this lane, and the test says so. */
static void wait_writable(struct flow *flow, uint64_t seen)
{
    pthread_mutex_lock(&flow->lock);
    while (flow->writables == seen && !atomic_load(&flow->stop)) {
        pthread_cond_wait(&flow->changed, &flow->lock);
    }
    pthread_mutex_unlock(&flow->lock);
}

static int send_in_place(cohort_route *route, const struct flow *flow, uint64_t number, size_t len, uint64_t random)
{
    void *room;
    int status = cohort_route_claim(route, len, &room);
    if (status == COHORT_OK) {
        build(room, flow->lane, number, len, random);
        cohort_route_commit(route, len);
    }
    return status;
}

static int send_one(struct flow *flow, cohort_route *route, uint64_t number, size_t len, uint64_t random)
{
    if (route && len <= CLAIM_BYTES_MAX && random & 1u << 20) {
        return send_in_place(route, flow, number, len, random);
    }
    build(flow->buffer, flow->lane, number, len, random);
    return route ? cohort_route_send(route, flow->buffer, len)
                 : cohort_send(node, flow->peer->id, subjects[flow->lane], flow->buffer, len);
}

static void *fill_lane(void *arg)
{
    struct flow *flow = arg;
    struct account *account = &flow->peer->ledger->lanes[flow->lane];
    cohort_route *route = NULL;
    if (flow->lane == COHORT_LANE_CONTROL) {
        require(cohort_route_open(node, flow->peer->id, subjects[flow->lane], &route), "route");
    }
    for (uint64_t number = atomic_load(&account->accepted); !atomic_load(&flow->stop) && number < NUMBERS_MAX; number++) {
        size_t len = random_length(&flow->random);
        uint64_t random = next_random(&flow->random);
        for (;;) {
            uint64_t seen = writables(flow);
            int status = send_one(flow, route, number, len, random);
            if (status == COHORT_OK) {
                atomic_store(&account->accepted, number + 1);
                break;
            }
            if (status != COHORT_EAGAIN && status != COHORT_ETIMEDOUT) {
                require(status, "send");
            }
            if (atomic_load(&flow->stop)) {
                break;
            }
            if (status == COHORT_EAGAIN) {
                wait_writable(flow, seen);
            }
        }
    }
    cohort_route_close(route);
    return NULL;
}

static void start_sending(struct peer *peer)
{
    for (unsigned lane = 0; lane < LANES && !peer->sending; lane++) {
        atomic_store(&peer->flows[lane].stop, false);
        if (pthread_create(&peer->flows[lane].thread, NULL, fill_lane, &peer->flows[lane]) != 0) {
            die("thread", strerror(errno));
        }
    }
    peer->sending = true;
}

static void stop_sending(struct peer *peer)
{
    for (unsigned lane = 0; lane < LANES && peer->sending; lane++) {
        struct flow *flow = &peer->flows[lane];
        pthread_mutex_lock(&flow->lock);
        atomic_store(&flow->stop, true);
        pthread_cond_signal(&flow->changed);
        pthread_mutex_unlock(&flow->lock);
    }
    for (unsigned lane = 0; lane < LANES && peer->sending; lane++) {
        pthread_join(peer->flows[lane].thread, NULL);
    }
    peer->sending = false;
}

/* ---- the process --------------------------------------------------------------------------------------------------- */

static void add_peer(const char *prefix, char *value, uint64_t seed)
{
    char *ip = strchr(value, ',');
    if (!ip || peer_count == PEERS_MAX) {
        die("peer", value);
    }
    *ip++ = '\0';
    struct peer *peer = &peers[peer_count++];
    snprintf(peer->id, sizeof peer->id, "%s", value);
    snprintf(peer->ip, sizeof peer->ip, "%s", ip);
    peer->ledger = open_ledger(prefix, peer->id);
    for (unsigned lane = 0; lane < LANES; lane++) {
        struct flow *flow = &peer->flows[lane];
        flow->peer = peer;
        flow->lane = lane;
        flow->random = mix(mix(seed, peer_count), lane) | 1;
        pthread_mutex_init(&flow->lock, NULL);
        pthread_cond_init(&flow->changed, NULL);
    }
}

static void configure(cohort_config *config, int argc, char **argv)
{
    uint64_t seed = 1;
    config->id = argv[1];
    config->ip = argv[2];
    config->admission = COHORT_ADMIT_LISTED;
    config->dial.delay_max_ms = 500; /* a test of some seconds is to see many links */
    config->dial.connect_timeout_ms = 1000;
    for (int i = 4; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (!value) {
            die("option", argv[i]);
        }
        *value++ = '\0';
        if (strcmp(argv[i], "seed") == 0) {
            seed = strtoull(value, NULL, 10);
        } else if (strcmp(argv[i], "queue") == 0) {
            config->limits.peer_queue_bytes_max = (uint32_t)strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "window") == 0) {
            config->limits.window_bytes = (uint32_t)strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "handle_us") == 0) {
            handle_us = (unsigned)strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "peer") == 0) {
            add_peer(argv[3], value, seed);
        } else {
            die("option", argv[i]);
        }
    }
    config->limits.message_bytes_max = MESSAGE_BYTES_MAX;
    uint64_t fill = mix(seed, 77) | 1;
    for (size_t i = 0; i < sizeof pool; i++) {
        pool[i] = (unsigned char)(next_random(&fill) >> 32);
    }
}

static void prepare(void)
{
    cohort_handle_id handle;
    for (unsigned lane = 0; lane < LANES; lane++) {
        cohort_subject_options options;
        COHORT_SUBJECT_OPTIONS_INIT(&options);
        options.lane = (cohort_lane)lane;
        options.when_full = lane == COHORT_LANE_BULK ? COHORT_FULL_FAIL : COHORT_FULL_BLOCK;
        options.block_ms = BLOCK_MS;
        require(cohort_subject_set(node, subjects[lane], &options), "subject");
        require(cohort_handle(node, subjects[lane], on_message, &lane_numbers[lane], NULL, &handle), "handle");
    }
    require(cohort_on_undelivered(node, on_undelivered, NULL, NULL, &handle), "undelivered");
    require(cohort_on_writable(node, on_writable, NULL, NULL, &handle), "writable");
}

static void print_stats(void)
{
    cohort_node_stats s;
    cohort_node_stats_get(node, &s);
    malloc_trim(0); /* what the process then has is used, not kept by malloc */
    printf("{\"links_open\": %llu, \"handshakes_pending\": %llu, \"links_opened\": %llu, \"unhandled\": %llu, "
           "\"protocol_errors\": %llu, \"live\": %lld, \"peak\": %lld, \"queued\": {",
           (unsigned long long)s.links_open, (unsigned long long)s.handshakes_pending, (unsigned long long)s.links_opened,
           (unsigned long long)s.messages_unhandled, (unsigned long long)s.errors[-COHORT_EPROTOCOL],
           (long long)atomic_load(&live_bytes), (long long)atomic_load(&peak_bytes));
    for (unsigned i = 0; i < peer_count; i++) {
        cohort_link_stats link;
        require(cohort_link_stats_get(node, peers[i].id, &link), "link stats");
        printf("%s\"%s\": %llu", i > 0 ? ", " : "", peers[i].id, (unsigned long long)link.queued_bytes);
    }
    puts("}}");
}

/* Whether to go on. */
static bool obey(char *line)
{
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, "send ", 5) == 0) {
        start_sending(find_peer(line + 5));
        puts("sending");
    } else if (strncmp(line, "stop ", 5) == 0) {
        stop_sending(find_peer(line + 5));
        puts("stopped");
    } else if (strcmp(line, "stats") == 0) {
        print_stats();
    } else if (strcmp(line, "quit") == 0) {
        return false;
    } else {
        die("command", line);
    }
    return true;
}

int main(int argc, char **argv)
{
    static const cohort_allocator allocator = {allocate, reallocate, release, NULL};
    cohort_config config;
    cohort_error error = {.code = COHORT_OK};
    char line[256];
    if (argc < 4) {
        die("usage", "traffic ID IP LEDGERS [OPTION=VALUE ...]");
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    COHORT_CONFIG_INIT(&config);
    configure(&config, argc, argv);
    config.allocator = &allocator;
    if (cohort_node_open(&config, &node, &error) != COHORT_OK) {
        die("open", error.text);
    }
    prepare();
    if (cohort_node_start(node, &error) != COHORT_OK) {
        die("start", error.text);
    }
    for (unsigned i = 0; i < peer_count; i++) {
        require(cohort_node_add(node, peers[i].id, peers[i].ip, COHORT_PORT_DEFAULT), "add");
    }
    puts("ready");
    while (fgets(line, sizeof line, stdin) && obey(line)) {
    }
    for (unsigned i = 0; i < peer_count; i++) {
        stop_sending(&peers[i]);
    }
    int status = cohort_node_close(node, CLOSE_MS);
    if (status == COHORT_OK && atomic_load(&live_bytes) != 0) {
        fprintf(stderr, "traffic: %lld bytes are left\n", (long long)atomic_load(&live_bytes));
        return 3;
    }
    puts(status == COHORT_OK ? "closed" : cohort_error_name(status));
    return 0;
}
