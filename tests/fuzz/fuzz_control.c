/* SPDX-License-Identifier: Apache-2.0
 *
 * WELCOME, REFUSE and SUBJECT: what decodes encodes again and decodes to the same, and is safe to print. The first byte chooses the
 * frame; the rest is its data. The type space is checked with the first four bytes.
 */
#include "fuzz.h"

#include "base/name.h"
#include "wire/control.h"

#include <stdlib.h>
#include <string.h>

static void check_welcome(const uint8_t *data, size_t len)
{
    struct cohorti_welcome welcome, again;
    uint8_t wire[COHORTI_CONTROL_BYTES_MAX];
    size_t wire_len = 0;
    int status = cohorti_welcome_decode(data, len, &welcome);
    FUZZ_CHECK(status == COHORT_OK || status == COHORT_EPROTOCOL);
    if (status == COHORT_OK) {
        FUZZ_CHECK(cohorti_welcome_encode(&welcome, wire, sizeof(wire), &wire_len) == COHORT_OK);
        FUZZ_CHECK(wire_len <= len && memcmp(wire, data, wire_len) == 0);
        FUZZ_CHECK(cohorti_welcome_decode(wire, wire_len, &again) == COHORT_OK && again.version == welcome.version);
        FUZZ_CHECK(cohorti_welcome_encode(&welcome, wire, wire_len - 1, &wire_len) == COHORT_ESIZE);
    }
}

static void check_refuse(const uint8_t *data, size_t len)
{
    struct cohorti_refuse refuse, again;
    uint8_t wire[COHORTI_CONTROL_BYTES_MAX];
    size_t wire_len = 0;
    int status = cohorti_refuse_decode(data, len, &refuse);
    FUZZ_CHECK(status == COHORT_OK || status == COHORT_EPROTOCOL);
    if (status != COHORT_OK) {
        return;
    }
    FUZZ_CHECK(refuse.reason < 0 && strcmp(cohort_error_name(refuse.reason), "UNKNOWN") != 0);
    FUZZ_CHECK(memchr(refuse.text, '\0', sizeof(refuse.text)) != NULL);
    for (const char *c = refuse.text; *c != '\0'; c++) {
        FUZZ_CHECK(*c >= 0x20 && *c < 0x7f);
    }
    FUZZ_CHECK(cohorti_refuse_encode(&refuse, wire, sizeof(wire), &wire_len) == COHORT_OK);
    FUZZ_CHECK(cohorti_refuse_decode(wire, wire_len, &again) == COHORT_OK);
    FUZZ_CHECK(again.reason == refuse.reason && again.value == refuse.value && strcmp(again.text, refuse.text) == 0);
    FUZZ_CHECK(cohorti_refuse_encode(&refuse, wire, wire_len - 1, &wire_len) == COHORT_ESIZE);
}

static void check_subject(const uint8_t *data, size_t len)
{
    struct cohorti_subject subject;
    uint8_t wire[COHORTI_CONTROL_BYTES_MAX];
    size_t wire_len = 0;
    int status = cohorti_subject_decode(data, len, &subject);
    FUZZ_CHECK(status == COHORT_OK || status == COHORT_EPROTOCOL);
    if (status == COHORT_OK) {
        FUZZ_CHECK(cohorti_subject_valid(subject.name, strlen(subject.name)));
        FUZZ_CHECK(subject.number <= COHORTI_SUBJECT_NUMBER_MAX);
        FUZZ_CHECK(cohorti_subject_encode(&subject, wire, sizeof(wire), &wire_len) == COHORT_OK);
        FUZZ_CHECK(wire_len == len && memcmp(wire, data, len) == 0);
        FUZZ_CHECK(cohorti_subject_encode(&subject, wire, wire_len - 1, &wire_len) == COHORT_ESIZE);
    }
}

static void check_resume(const uint8_t *data, size_t len)
{
    struct cohorti_resume resume;
    uint8_t wire[COHORTI_CONTROL_BYTES_MAX];
    size_t wire_len = 0;
    if (cohorti_resume_decode(data, len, &resume) == COHORT_OK) {
        FUZZ_CHECK(cohorti_resume_encode(&resume, wire, sizeof(wire), &wire_len) == COHORT_OK);
        FUZZ_CHECK(wire_len <= len && memcmp(wire, data, wire_len) == 0);
    }
}

static void check_ack(const uint8_t *data, size_t len)
{
    struct cohorti_ack ack, back;
    uint8_t wire[COHORTI_CONTROL_BYTES_MAX];
    size_t wire_len = 0;
    if (cohorti_ack_decode(data, len, &ack) == COHORT_OK) { /* lanes may have come in any order */
        FUZZ_CHECK(cohorti_ack_encode(&ack, wire, sizeof(wire), &wire_len) == COHORT_OK && wire_len == len);
        FUZZ_CHECK(cohorti_ack_decode(wire, wire_len, &back) == COHORT_OK && memcmp(&ack, &back, sizeof(ack)) == 0);
    }
}

static void check_type(uint32_t type)
{
    switch (cohorti_type_class(type)) {
    case COHORTI_TYPE_RAW:
        FUZZ_CHECK(type < UINT32_C(0x80000000));
        break;
    case COHORTI_TYPE_SUBJECT:
        FUZZ_CHECK(cohorti_type_subject((enum cohorti_kind)cohorti_type_kind(type), cohorti_type_lane(type),
                                        cohorti_type_number(type)) == type);
        break;
    case COHORTI_TYPE_CONTROL: {
        uint32_t code = cohorti_type_code(type);
        FUZZ_CHECK(code == 0 || (cohorti_type_control((enum cohorti_control_code)code) | (type & COHORTI_CONTROL_OPTIONAL)) == type);
        break;
    }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0) {
        return 0;
    }
    uint8_t *copy = fuzz_copy(data + 1, len - 1);
    if (len > 4) {
        check_type((uint32_t)copy[0] << 24 | (uint32_t)copy[1] << 16 | (uint32_t)copy[2] << 8 | copy[3]);
    }
    switch (data[0] % 5) {
    case 0:
        check_welcome(copy, len - 1);
        break;
    case 1:
        check_refuse(copy, len - 1);
        break;
    case 2:
        check_subject(copy, len - 1);
        break;
    case 3:
        check_resume(copy, len - 1);
        break;
    default:
        check_ack(copy, len - 1);
        break;
    }
    free(copy);
    return 0;
}
