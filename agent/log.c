/* SPDX-License-Identifier: Apache-2.0
 *
 * Log lines; see log.h.
 *
 * Each line is made in memory of its own and leaves with one write(2), so that lines of several threads do not mix; the lock
 * is for the lines held back while the agent starts. A line that cannot be made for lack of memory is lost: logging must not bring the agent down.
 * Text may carry bytes that came from a peer: control characters never reach a terminal.
 */
#include "log.h"

#include <cohort/error.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    HELD_BYTES_MAX = 65536
};

static const char *level_name(cohort_log_level level)
{
    static const char *const names[] = {"DEBUG", "INFO", "WARN", "ERROR", "OFF"};
    return (unsigned)level < sizeof(names) / sizeof(names[0]) ? names[level] : "?";
}

static void time_text(uint64_t wall_us, char *out, size_t size)
{
    time_t seconds = (time_t)(wall_us / 1000000);
    struct tm parts;
    size_t len = 0;
    if (gmtime_r(&seconds, &parts) != NULL) {
        len = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &parts);
    }
    snprintf(out + len, size - len, ".%06uZ", (unsigned)(wall_us % 1000000));
}

static void visible(struct writer *w, const char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        writer_raw(w, byte < 0x20 || byte == 0x7f ? "?" : text, 1);
    }
}

static void line_text(struct writer *w, const char *when, const cohort_log_record *record)
{
    writer_format(w, "%s %-5s %-6s ", when, level_name(record->level), record->component);
    if (record->peer != NULL) {
        writer_text(w, "peer=");
        visible(w, record->peer);
        writer_text(w, " ");
    }
    visible(w, record->text);
    if (record->code != COHORT_OK) {
        writer_format(w, " [%s]", cohort_error_name(record->code));
    }
}

static void line_json(struct writer *w, const char *when, const cohort_log_record *record)
{
    writer_begin(w, '{');
    writer_key_string(w, "time", when);
    writer_key_string(w, "level", level_name(record->level));
    if (record->node != NULL) {
        writer_key_string(w, "node", record->node);
    }
    writer_key_string(w, "component", record->component);
    if (record->peer != NULL) {
        writer_key_string(w, "peer", record->peer);
    }
    if (record->code != COHORT_OK) {
        writer_key_string(w, "code", cohort_error_name(record->code));
    }
    writer_key_string(w, "text", record->text);
    writer_end(w, '}');
}

static void put(const struct writer *w)
{
    ssize_t ignored = write(STDERR_FILENO, w->bytes, w->len);
    (void)ignored;
}

static bool hold(struct agent_log *log, const struct writer *line)
{
    pthread_mutex_lock(&log->lock);
    bool holding = log->holding;
    if (holding && log->held.len + line->len <= HELD_BYTES_MAX) {
        writer_raw(&log->held, line->bytes, line->len);
    }
    pthread_mutex_unlock(&log->lock);
    return holding;
}

void log_init(struct agent_log *log, enum log_format format, cohort_log_level level)
{
    *log = (struct agent_log){.format = format, .holding = true, .held = WRITER_EMPTY};
    atomic_store(&log->level, (int)level);
    pthread_mutex_init(&log->lock, NULL);
}

void log_release(struct agent_log *log)
{
    pthread_mutex_lock(&log->lock);
    log->holding = false;
    if (log->held.len > 0 && !log->held.failed) {
        put(&log->held);
    }
    writer_free(&log->held);
    pthread_mutex_unlock(&log->lock);
}

void log_deinit(struct agent_log *log)
{
    writer_free(&log->held);
    pthread_mutex_destroy(&log->lock);
}

void log_write(void *ctx, const cohort_log_record *record)
{
    struct agent_log *log = ctx;
    if ((int)record->level < atomic_load_explicit(&log->level, memory_order_relaxed)) {
        return;
    }
    char when[48];
    time_text(record->wall_us, when, sizeof(when));
    struct writer w = WRITER_EMPTY;
    if (log->format == LOG_JSON) {
        line_json(&w, when, record);
    } else {
        line_text(&w, when, record);
    }
    writer_text(&w, "\n");
    if (!w.failed && !hold(log, &w)) {
        put(&w);
    }
    writer_free(&w);
}

void log_say(struct agent_log *log, cohort_log_level level, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    cohort_log_record record = {
        .level = level,
        .wall_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000,
        .node = log->node,
        .component = "agent",
        .text = text,
    };
    log_write(log, &record);
}
