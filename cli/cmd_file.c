/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort send-file: a file, or standard input, as a stream to a member.
 */
#include "client.h"
#include "commands.h"
#include "digest.h"
#include "filename.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PROGRESS_NS 200000000

struct file {
    const char *path;
    int fd;
    char line[FILENAME_LINE_MAX]; /* goes first */
    size_t line_len, line_sent;
    int64_t total; /* of the file; -1: not known */
    uint64_t sent;
    struct sha256_ctx hash;
    bool shows; /* progress, at a terminal */
    uint64_t shown_ns;
};

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void show(struct file *f)
{
    uint64_t now = now_ns();
    if (!f->shows || now - f->shown_ns < PROGRESS_NS) {
        return;
    }
    f->shown_ns = now;
    if (f->total > 0) {
        fprintf(stderr, "\r%s: %3u%% %" PRIu64 " of %" PRId64 " bytes", f->path, (unsigned)(f->sent * 100 / (uint64_t)f->total),
                f->sent, f->total);
    } else {
        fprintf(stderr, "\r%s: %" PRIu64 " bytes", f->path, f->sent);
    }
}

static size_t give_up(const struct file *f, const char *why)
{
    fprintf(stderr, "%scohort send-file: %s: %s\n", f->shown_ns > 0 ? "\n" : "", f->path, why);
    return CURL_READFUNC_ABORT;
}

static ssize_t read_some(const struct file *f, char *to, size_t len)
{
    ssize_t n;
    do {
        n = read(f->fd, to, len);
    } while (n < 0 && errno == EINTR);
    return n;
}

/* The last byte of a file goes only when its end was seen behind it: one that changes is not sent as something it never was. */
static size_t on_read(char *buffer, size_t size, size_t count, void *arg)
{
    struct file *f = arg;
    char more;
    size_t room = size * count;
    if (f->line_sent < f->line_len) {
        size_t part = f->line_len - f->line_sent < room ? f->line_len - f->line_sent : room;
        memcpy(buffer, f->line + f->line_sent, part);
        f->line_sent += part;
        return part;
    }
    if (f->total >= 0 && (uint64_t)f->total - f->sent < room) {
        room = (size_t)((uint64_t)f->total - f->sent);
    }
    ssize_t n = room == 0 ? 0 : read_some(f, buffer, room);
    if (n < 0) {
        return give_up(f, strerror(errno));
    }
    f->sent += (uint64_t)n;
    sha256_update(&f->hash, (size_t)n, (const uint8_t *)buffer);
    if (f->total >= 0 && n == 0 && f->sent < (uint64_t)f->total) {
        return give_up(f, "the file has become shorter");
    }
    if (f->total >= 0 && n > 0 && f->sent == (uint64_t)f->total && read_some(f, &more, 1) != 0) {
        return give_up(f, "the file has become longer");
    }
    show(f);
    return (size_t)n;
}

/* How much of it there is to read, or -1: its end says. A size of 0 is said also of files whose bytes are made up when they are read. */
static int64_t total_of(int fd, const struct stat *st)
{
    off_t at = S_ISREG(st->st_mode) && st->st_size > 0 ? lseek(fd, 0, SEEK_CUR) : -1;
    return at < 0 ? -1 : st->st_size > at ? (int64_t)(st->st_size - at) : 0;
}

static bool open_file(struct file *f, const char *name)
{
    struct stat st;
    bool input = strcmp(f->path, "-") == 0;
    f->fd = input ? STDIN_FILENO : open(f->path, O_RDONLY | O_CLOEXEC);
    if (f->fd < 0 || fstat(f->fd, &st) != 0) {
        (void)give_up(f, strerror(errno));
        return false;
    }
    if (S_ISDIR(st.st_mode)) {
        (void)give_up(f, "is a directory");
        return false;
    }
    f->total = total_of(f->fd, &st);
    f->line_len = filename_line(name != NULL ? name : input ? "stdin" : f->path, f->line);
    if (f->line_len == 0) {
        (void)give_up(f, "not a name to save a file under; give one with --name");
        return false;
    }
    sha256_init(&f->hash);
    f->shows = isatty(STDERR_FILENO) == 1;
    return true;
}

static int send_file(struct file *f, struct client *client, char *url)
{
    const struct client_source source = {.read = on_read, .arg = f, .len = f->total < 0 ? -1 : f->total + (int64_t)f->line_len};
    int code = client_upload(client, url, &source);
    if (f->shown_ns > 0) {
        fprintf(stderr, "\n");
    }
    if (code == EXIT_FINE) {
        char text[DIGEST_TEXT_BYTES];
        digest_text(&f->hash, text);
        printf("%s %" PRIu64 " bytes sha256 %s\n", f->path, f->sent, text);
    }
    return code;
}

int command_send_file(int argc, char **argv)
{
    static const struct usage usage = {
        .command = "send-file",
        .operands = "ID SUBJECT FILE|-",
        .summary = "Send a file, or standard input, of any size to member ID, and print its size and SHA-256.",
        .notes =
            "Success means that the agent of ID has acknowledged all of it, not that it was saved: that is up to 'cohort listen\n"
            "SUBJECT --save DIR' there, which prints a line with the same SHA-256 once it is. Where nobody takes it, it is "
            "dropped.\n"
            "The file may be read while it is sent; one that becomes shorter or longer meanwhile is not sent.",
        .operands_min = 3,
        .operands_max = 3,
    };
    const char *control = NULL, *name = NULL;
    int lane = 2;
    uint64_t idle_s = 60;
    const struct option options[] = {
        {.name = "lane",
         .kind = OPTION_CHOICE,
         .value = "LANE",
         .target = &lane,
         .choices = lane_names,
         .help = "in which the agent sends this subject from now on, default bulk"},
        {.name = "name", .kind = OPTION_TEXT, .value = "NAME", .target = &name, .help = "to be saved under, default that of FILE"},
        {.name = "timeout",
         .kind = OPTION_NUMBER,
         .value = "S",
         .target = &idle_s,
         .min = 1,
         .max = 86400,
         .help = "give up when nothing is taken for S seconds, default 60"},
        OPTION_CONTROL(control),
        {.name = NULL},
    };
    const char *operands[OPERANDS_MAX];
    struct client client;
    char idle_ms[24];
    int code;
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    struct file file = {.path = operands[2], .fd = -1};
    if (!open_file(&file, name)) {
        return EXIT_FAILED;
    }
    snprintf(idle_ms, sizeof(idle_ms), "%" PRIu64, idle_s * 1000);
    code = client_open(&client, usage.command, control);
    if (code == EXIT_FINE) {
        client.about = operands[0];
        client.patience_ms = (uint32_t)(idle_s * 1000);
        code = send_file(&file, &client,
                         client_url(&client, "/v1/stream", NULL, "to", operands[0], "subject", operands[1], "idle_ms", idle_ms,
                                    "lane", lane_names[lane], NULL));
        client_close(&client);
    }
    close(file.fd);
    return code;
}
