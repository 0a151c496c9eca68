/* SPDX-License-Identifier: Apache-2.0
 *
 * Support of the unit tests. Each block of the counting allocator carries its size in front, behind room that keeps the
 * alignment of malloc. Not thread safe.
 */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX_BYTES 16 /* >= sizeof(size_t), a multiple of every alignment malloc gives */

static bool may_allocate(struct unit_memory *m, size_t size)
{
    assert_true(size > 0);
    m->calls++;
    if (size > m->largest) {
        m->largest = size;
    }
    return m->fail_at == 0 || (m->fail_from ? m->calls < m->fail_at : m->calls != m->fail_at);
}

static void *unit_allocate(void *ctx, size_t size)
{
    struct unit_memory *m = ctx;
    if (!may_allocate(m, size)) {
        return NULL;
    }
    char *block = malloc(PREFIX_BYTES + size);
    assert_non_null(block);
    memcpy(block, &size, sizeof(size));
    memset(block + PREFIX_BYTES, 0xa5, size); /* nobody may count on zeros */
    m->blocks++;
    m->bytes += size;
    return block + PREFIX_BYTES;
}

static void unit_release(void *ctx, void *ptr)
{
    struct unit_memory *m = ctx;
    size_t size;
    char *block = (char *)ptr - PREFIX_BYTES;
    memcpy(&size, block, sizeof(size));
    m->blocks--;
    m->bytes -= size;
    free(block);
}

static void *unit_reallocate(void *ctx, void *ptr, size_t size)
{
    size_t old_size;
    void *fresh = unit_allocate(ctx, size);
    if (fresh == NULL || ptr == NULL) {
        return fresh;
    }
    memcpy(&old_size, (char *)ptr - PREFIX_BYTES, sizeof(old_size));
    memcpy(fresh, ptr, old_size < size ? old_size : size);
    unit_release(ctx, ptr);
    return fresh;
}

void unit_memory_init(struct unit_memory *m)
{
    memset(m, 0, sizeof(*m));
    m->alloc = (cohort_allocator){unit_allocate, unit_reallocate, unit_release, m};
}

void unit_memory_assert_empty(const struct unit_memory *m)
{
    assert_int_equal(m->blocks, 0);
    assert_int_equal(m->bytes, 0);
}

struct unit_bytes unit_bytes_copy(const void *bytes, size_t len)
{
    struct unit_bytes b = {malloc(len), len};
    assert_true(b.bytes != NULL || len == 0);
    if (len > 0) {
        memcpy(b.bytes, bytes, len);
    }
    return b;
}

void unit_bytes_free(struct unit_bytes *b)
{
    free(b->bytes);
    b->bytes = NULL;
    b->len = 0;
}

struct unit_bytes unit_load_file(const char *dir, const char *path)
{
    static char buffer[256 * 1024];
    char full[4096];
    (void)snprintf(full, sizeof(full), "%s/%s", dir, path);
    FILE *file = fopen(full, "rb");
    if (file == NULL) {
        fail_msg("cannot open %s", full);
    }
    size_t len = fread(buffer, 1, sizeof(buffer), file);
    assert_true(len < sizeof(buffer));
    (void)fclose(file);
    return unit_bytes_copy(buffer, len);
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

struct unit_bytes unit_load_hex_file(const char *dir, const char *path)
{
    struct unit_bytes text = unit_load_file(dir, path);
    struct unit_bytes out = {malloc(text.len / 2 + 1), 0};
    int high = -1;
    assert_non_null(out.bytes);
    for (size_t i = 0; i < text.len; i++) {
        char c = (char)text.bytes[i];
        if (c == '#' && (i == 0 || text.bytes[i - 1] == '\n')) {
            while (i < text.len && text.bytes[i] != '\n') {
                i++;
            }
            continue;
        }
        if (c == ' ' || c == '\n') {
            continue;
        }
        int value = hex_value(c);
        assert_true(value >= 0);
        if (high < 0) {
            high = value;
        } else {
            out.bytes[out.len++] = (uint8_t)(high << 4 | value);
            high = -1;
        }
    }
    assert_int_equal(high, -1);
    unit_bytes_free(&text);
    text = unit_bytes_copy(out.bytes, out.len);
    free(out.bytes);
    return text;
}
