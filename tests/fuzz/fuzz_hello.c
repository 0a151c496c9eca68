/* SPDX-License-Identifier: Apache-2.0
 *
 * HELLO: what decodes is valid in every field, encodes again, and decodes to the same; what does not is explained in one line of
 * printable text, and the explanation never changes the verdict.
 */
#include "fuzz.h"

#include "base/name.h"
#include "wire/hello.h"

#include <cohort/frame.h>
#include <stdlib.h>
#include <string.h>

static void check_fields(const struct cohorti_hello *hello)
{
    FUZZ_CHECK(cohorti_id_valid(hello->id, strlen(hello->id)));
    FUZZ_CHECK(hello->tcp_port != 0 && hello->ip[0] != '\0');
    FUZZ_CHECK(cohorti_cluster_valid(hello->cluster, strlen(hello->cluster)));
    if (hello->extended) {
        FUZZ_CHECK(hello->version_min >= 1 && hello->version_min <= hello->version_max);
    } else {
        FUZZ_CHECK(cohorti_ipv4_valid(hello->ip, strlen(hello->ip)));
        FUZZ_CHECK(hello->incarnation == 0 && hello->attempt == 0 && hello->caps == 0 && hello->cluster[0] == '\0');
        FUZZ_CHECK(hello->version_min == 0 && hello->version_max == 0);
    }
}

static void check_round_trip(const struct cohorti_hello *hello)
{
    uint8_t wire[COHORTI_HELLO_BYTES_MAX], short_wire[COHORTI_HELLO_BYTES_MAX];
    size_t len = 0, short_len = 0;
    struct cohorti_hello again;
    FUZZ_CHECK(cohorti_hello_encode(hello, wire, sizeof(wire), &len) == COHORT_OK);
    FUZZ_CHECK(len > 0 && len <= sizeof(wire));
    FUZZ_CHECK(cohorti_hello_decode(wire, len, &again, NULL) == COHORT_OK);
    FUZZ_CHECK(strcmp(again.id, hello->id) == 0 && strcmp(again.ip, hello->ip) == 0 && strcmp(again.cluster, hello->cluster) == 0);
    FUZZ_CHECK(again.tcp_port == hello->tcp_port && again.extended == hello->extended && again.attempt == hello->attempt);
    FUZZ_CHECK(again.version_min == hello->version_min && again.version_max == hello->version_max);
    FUZZ_CHECK(again.incarnation == hello->incarnation && again.caps == hello->caps);
    FUZZ_CHECK(cohorti_hello_encode(hello, short_wire, len - 1, &short_len) == COHORT_ESIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct cohorti_hello hello, quiet;
    char why_text[256];
    struct cohorti_text why;
    cohorti_text_init(&why, why_text, len > 0 ? 1 + data[len - 1] % sizeof(why_text) : sizeof(why_text));
    uint8_t *copy = fuzz_copy(data, len);
    int status = cohorti_hello_decode(copy, len, &hello, &why);
    FUZZ_CHECK(cohorti_hello_decode(copy, len, &quiet, NULL) == status);
    free(copy);
    if (status == COHORT_OK) {
        check_fields(&hello);
        check_round_trip(&hello);
        return 0;
    }
    FUZZ_CHECK(status == COHORT_EHELLO && (why.len > 0 || why.cap == 1));
    for (size_t i = 0; i < why.len; i++) {
        FUZZ_CHECK(why_text[i] >= 0x20 && why_text[i] < 0x7f);
    }
    return 0;
}
