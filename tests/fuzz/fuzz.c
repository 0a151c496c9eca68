/* SPDX-License-Identifier: Apache-2.0
 *
 * Support of the fuzz targets. Each block of the counting allocator carries its size in front, behind room that keeps the
 * alignment of malloc. Not thread safe.
 */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX_BYTES 16 /* >= sizeof(size_t), a multiple of every alignment malloc gives */

void fuzz_fail(const char *file, int line, const char *condition)
{
    (void)fprintf(stderr, "%s:%d: not true: %s\n", file, line, condition);
    abort();
}

void fuzz_input_split(struct fuzz_input *in, const uint8_t *data, size_t len)
{
    *in = (struct fuzz_input){.stream = data};
    if (len == 0) {
        return;
    }
    size_t count = data[len - 1];
    in->choice_count = count < len - 1 ? count : len - 1;
    in->stream_len = len - 1 - in->choice_count;
    in->choices = data + in->stream_len;
}

uint8_t fuzz_choice(struct fuzz_input *in)
{
    return in->choice_next < in->choice_count ? in->choices[in->choice_next++] : 0;
}

bool fuzz_choices_left(const struct fuzz_input *in)
{
    return in->choice_next < in->choice_count;
}

uint8_t *fuzz_copy(const void *bytes, size_t len)
{
    uint8_t *copy = malloc(len == 0 ? 1 : len);
    FUZZ_CHECK(copy != NULL);
    if (len > 0) {
        memcpy(copy, bytes, len);
    }
    return copy;
}

char *fuzz_copy_string(const void *bytes, size_t len)
{
    char *copy = malloc(len + 1);
    FUZZ_CHECK(copy != NULL);
    if (len > 0) {
        memcpy(copy, bytes, len);
    }
    copy[len] = '\0';
    return copy;
}

static void *fuzz_allocate(void *ctx, size_t size)
{
    struct fuzz_memory *m = ctx;
    FUZZ_CHECK(size > 0);
    if (m->fail_in > 0 && --m->fail_in == 0) {
        m->failures++;
        return NULL;
    }
    char *block = malloc(PREFIX_BYTES + size);
    FUZZ_CHECK(block != NULL);
    memcpy(block, &size, sizeof(size));
    memset(block + PREFIX_BYTES, 0xa5, size); /* nobody may count on zeros */
    m->blocks++;
    m->bytes += size;
    if (m->bytes > m->bytes_peak) {
        m->bytes_peak = m->bytes;
    }
    return block + PREFIX_BYTES;
}

static void fuzz_release(void *ctx, void *ptr)
{
    struct fuzz_memory *m = ctx;
    size_t size;
    char *block = (char *)ptr - PREFIX_BYTES;
    memcpy(&size, block, sizeof(size));
    m->blocks--;
    m->bytes -= size;
    free(block);
}

static void *fuzz_reallocate(void *ctx, void *ptr, size_t size)
{
    size_t old_size;
    void *fresh = fuzz_allocate(ctx, size);
    if (fresh == NULL || ptr == NULL) {
        return fresh;
    }
    memcpy(&old_size, (char *)ptr - PREFIX_BYTES, sizeof(old_size));
    memcpy(fresh, ptr, old_size < size ? old_size : size);
    fuzz_release(ctx, ptr);
    return fresh;
}

void fuzz_memory_init(struct fuzz_memory *m)
{
    memset(m, 0, sizeof(*m));
    m->alloc = (cohort_allocator){fuzz_allocate, fuzz_reallocate, fuzz_release, m};
}

void fuzz_memory_check_empty(const struct fuzz_memory *m)
{
    FUZZ_CHECK(m->blocks == 0);
    FUZZ_CHECK(m->bytes == 0);
}
