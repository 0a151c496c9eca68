/* SPDX-License-Identifier: Apache-2.0
 *
 * What fuzz targets share: an input read as bytes and choices, an allocator that counts and fails when told, and the check.
 *
 * A target is one LLVMFuzzerTestOneInput() in fuzz_<target>.c. It is linked with libFuzzer where that is, and with replay.c, which
 * runs it over files, everywhere else. It must behave the same for the same input: no clock, no entropy, no state kept between runs.
 */
#ifndef COHORT_FUZZ_H
#define COHORT_FUZZ_H

#include <cohort/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** What a target proves. Unlike assert() it is there in every build. */
#define FUZZ_CHECK(condition) ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition))
_Noreturn void fuzz_fail(const char *file, int line, const char *condition);

/**
 * An input is  stream | choices | number of choices (one byte). The choices stand at the end so that recorded bytes, with a zero
 * behind, are an input as they are, and so that changing the stream does not move them.
 */
struct fuzz_input {
    const uint8_t *stream;
    size_t stream_len;
    const uint8_t *choices;
    size_t choice_count;
    size_t choice_next;
};

void fuzz_input_split(struct fuzz_input *in, const uint8_t *data, size_t len);
/** The next choice; 0 once there are no more. */
uint8_t fuzz_choice(struct fuzz_input *in);
bool fuzz_choices_left(const struct fuzz_input *in);

/** Bytes on the heap, exactly as many as there are, so that a read beyond them is seen. Release with free(). */
uint8_t *fuzz_copy(const void *bytes, size_t len);
/** The same as a string: ends at the first NUL. */
char *fuzz_copy_string(const void *bytes, size_t len);

/** An allocator on malloc. Must stay where it was initialised. */
struct fuzz_memory {
    cohort_allocator alloc;
    size_t blocks, bytes; /* live now */
    size_t bytes_peak;
    size_t fail_in; /* the fail_in-th allocation from now fails, once; 0: none */
    size_t failures;
};

void fuzz_memory_init(struct fuzz_memory *m);
/** Everything was given back. */
void fuzz_memory_check_empty(const struct fuzz_memory *m);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#endif
