/* SPDX-License-Identifier: Apache-2.0
 *
 * What unit tests share: cmocka with the headers it wants, an allocator that counts and fails when told, and the vectors.
 */
#ifndef COHORT_UNIT_SUPPORT_H
#define COHORT_UNIT_SUPPORT_H

#include <cohort/types.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/** An allocator on malloc that keeps count. Must stay where it was initialised. */
struct unit_memory {
    cohort_allocator alloc; /* what to hand to the code under test */
    size_t calls;           /* allocations and reallocations asked for so far, failed ones included */
    size_t largest;         /* bytes of the largest one asked for */
    size_t blocks;          /* live now */
    size_t bytes;           /* live now */
    size_t fail_at;         /* the call of this number fails (the first is 1); 0: none */
    bool fail_from;         /* and all after it */
};

void unit_memory_init(struct unit_memory *m);
/** Fail the test unless everything was given back. */
void unit_memory_assert_empty(const struct unit_memory *m);

/** Bytes on the heap, exactly as many as there are, so that the address sanitizer sees a read beyond them. */
struct unit_bytes {
    uint8_t *bytes;
    size_t len;
};

struct unit_bytes unit_bytes_copy(const void *bytes, size_t len);
void unit_bytes_free(struct unit_bytes *b);
/** A file below tests/vectors. The test fails when it cannot be read. Use through the macros: the directory comes from the build. */
struct unit_bytes unit_load_file(const char *dir, const char *path);
/** The same for hex text: lines starting with '#' are comments, white space is ignored. */
struct unit_bytes unit_load_hex_file(const char *dir, const char *path);

#define unit_vector(path) unit_load_file(VECTOR_DIR, (path))
#define unit_vector_hex(path) unit_load_hex_file(VECTOR_DIR, (path))

#define UNIT_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
