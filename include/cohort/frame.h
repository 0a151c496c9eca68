/* SPDX-License-Identifier: Apache-2.0
 *
 * The frame on the wire, for tools that read or write captured bytes: the 2014 system's TLV,
 *   u64be marker | u32be type | u32be length (these 16 bytes included) | data.
 */
#ifndef COHORT_FRAME_H
#define COHORT_FRAME_H

#include <cohort/error.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define COHORT_FRAME_MARKER UINT64_C(0xfeedcafecafefeed)
#define COHORT_FRAME_HEADER_BYTES 16
#define COHORT_FRAME_LEGACY_BYTES_MAX 32768 /* the largest a 2014 node can take, header included */
#define COHORT_RAW_BYTES_MAX 65536          /* data of a raw frame between nodes that are not of 2014 */

#define COHORT_TYPE_HELLO UINT32_C(1)
#define COHORT_TYPE_ECHO UINT32_C(2)

/** One frame found in bytes of the caller. */
typedef struct cohort_frame {
    uint32_t type;
    const uint8_t *data; /* borrowed from the input */
    size_t data_len;
} cohort_frame;

/**
 * Look at the frame that starts at `bytes`.
 *
 * limit_bytes   largest frame to accept, header included; at least 16.
 * frame         filled when a whole frame is there.
 * consumed      with a whole frame: its bytes. Without: 0.
 * needed        bytes of the whole frame once the header is known, else 16; so a reader knows how much to hold.
 *
 *   COHORT_OK       a whole frame, or a prefix that may become one (consumed 0).
 *   COHORT_EMARKER  the bytes there contradict the marker: checked from the first byte on. The stream is lost.
 *   COHORT_ELENGTH  the length is below 16 or above limit_bytes: checked as soon as it is there. The stream is lost.
 *
 * Thread: any. Allocates nothing.
 */
COHORT_API COHORT_NODISCARD int cohort_frame_decode(const uint8_t *bytes, size_t len, size_t limit_bytes, cohort_frame *frame,
                                                    size_t *consumed, size_t *needed);

/** Write the 16 header bytes of a frame with `data_len` bytes of data. data_len <= UINT32_MAX - 16. */
COHORT_API void cohort_frame_encode_header(uint8_t out[COHORT_FRAME_HEADER_BYTES], uint32_t type, size_t data_len);

#ifdef __cplusplus
}
#endif
#endif
