/* SPDX-License-Identifier: Apache-2.0
 * The default allocator and log sink, and the one function through which the shell logs. */
#include "node/node.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void *malloc_allocate(void *ctx, size_t size)
{
    return malloc(size);
}

static void *malloc_reallocate(void *ctx, void *ptr, size_t size)
{
    return realloc(ptr, size);
}

static void malloc_release(void *ctx, void *ptr)
{
    free(ptr);
}

const cohort_allocator cohorti_malloc = {.allocate = malloc_allocate, .reallocate = malloc_reallocate, .release = malloc_release};

void cohorti_log_default_sink(void *ctx, const cohort_log_record *record)
{
    static const char *const levels[] = {"debug", "info", "warning", "error"};
    const char *peer = record->peer == NULL ? "" : record->peer;
    fprintf(stderr, "cohort %s: %s %s%s%s: %s\n", record->node, levels[record->level < 4 ? record->level : 3], record->component,
            peer[0] == '\0' ? "" : " ", peer, record->text);
}

void cohort_node_log_level_set(cohort_node *node, cohort_log_level level)
{
    __atomic_store_n(&node->log.level, level, __ATOMIC_RELAXED);
}

void cohorti_log(struct cohort_node *node, cohort_log_level level, const char *component, const char *peer, int code,
                 const char *format, ...)
{
    if (level < __atomic_load_n(&node->log.level, __ATOMIC_RELAXED) || node->log.write == NULL) {
        return;
    }
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    cohort_log_record record = {.level = level,
                                .wall_us = node->io->ops->wall_us(node->io),
                                .node = node->id,
                                .component = component,
                                .peer = peer,
                                .code = code,
                                .text = text};
    node->log.write(node->log.ctx, &record);
}
