/* SPDX-License-Identifier: Apache-2.0
 *
 * What `cohort decode` makes of captured bytes: frames of any type and data, one after another. Every field lies inside the frame or in
 * a name learnt before, and what is said adds up.
 */
#include "fuzz.h"

#include "decode.h"

#include <stdlib.h>
#include <string.h>

static uint8_t sum; /* so that reading is not optimised away */

static void read_all(const void *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        sum = (uint8_t)(sum + ((const uint8_t *)bytes)[i]);
    }
}

static void check(const cohort_frame *frame, const struct decoded *decoded)
{
    FUZZ_CHECK(decoded->name[0] != '\0' && decoded->field_count >= 0 && decoded->field_count <= DECODE_FIELDS_MAX);
    FUZZ_CHECK(decoded->data_len <= frame->data_len);
    FUZZ_CHECK(!decoded->malformed || (decoded->field_count == 0 && decoded->data_len == frame->data_len));
    read_all(decoded->data, decoded->data_len);
    for (int i = 0; i < decoded->field_count; i++) {
        FUZZ_CHECK(decoded->fields[i].name != NULL);
        read_all(decoded->fields[i].text, decoded->fields[i].text_len);
    }
}

/* The stream is  type (4 bytes), length (1), data  again and again. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct decode_stream stream = {.legacy = false};
    while (len >= 5) {
        size_t data_len = data[4] < len - 5 ? data[4] : len - 5;
        uint8_t *copy = fuzz_copy(data + 5, data_len);
        const cohort_frame frame = {.type = (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3],
                                    .data = copy,
                                    .data_len = data_len};
        struct decoded decoded;
        FUZZ_CHECK(decode_frame(&stream, &frame, &decoded));
        check(&frame, &decoded);
        free(copy);
        data += 5 + data_len;
        len -= 5 + data_len;
    }
    decode_stream_free(&stream);
    return 0;
}
