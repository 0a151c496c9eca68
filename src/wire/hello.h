/* SPDX-License-Identifier: Apache-2.0
 *
 * HELLO: "id:ip:port", and for cohort peers a fourth field that the 2014 parser ignores,
 * ":cohort/<min>-<max>;inc=<u64>;cluster=<name>;attempt=<u32>;addr=<host>;caps=<hex u64>". See docs/protocol.md.
 */
#ifndef COHORTI_WIRE_HELLO_H
#define COHORTI_WIRE_HELLO_H

#include "base/text.h"

#include <cohort/error.h>
#include <cohort/types.h>

#define COHORTI_HELLO_BYTES_MAX 1024                      /* data of a HELLO frame, both ways */
#define COHORTI_INCARNATION_MAX ((UINT64_C(1) << 53) - 1) /* what a JSON number carries exactly */
#define COHORTI_IPV4_PLACEHOLDER "0.0.0.0"                /* second field when the address is not IPv4; addr= carries it */

struct cohorti_hello {
    char id[COHORT_ID_BYTES_MAX + 1];
    char ip[COHORT_HOST_BYTES_MAX + 1]; /* of addr= where given, else the second field. Decoded from a peer: never the placeholder
                                           with an addr= beside it */
    uint16_t tcp_port;

    bool extended; /* false: a legacy peer; all below is zero */
    uint16_t version_min, version_max;
    uint64_t incarnation;
    char cluster[COHORT_CLUSTER_BYTES_MAX + 1];
    uint32_t attempt; /* the dialler's number for this link; 0 from the acceptor */
    uint64_t caps;
};

/**
 * Write the data of a HELLO (without frame header). An ip that is not IPv4 is written as the placeholder with addr=.
 * Keys whose value is empty or zero are left out, except inc. COHORT_ESIZE when cap is too small; COHORT_EADDR when a legacy
 * HELLO would need addr=.
 */
COHORT_NODISCARD int cohorti_hello_encode(const struct cohorti_hello *hello, uint8_t *out, size_t cap, size_t *len);

/**
 * Read the data of a HELLO. Three fields, or a fourth that does not start with "cohort/": legacy. Unknown keys of the
 * extension are skipped; a known key twice is an error, and so is a missing inc. The second field must be IPv4, with or without
 * extension; port 1..65535; "127.0.1.1/32" is not an ip.
 * COHORT_EHELLO: `why`, unless NULL, says what is wrong and shows the offending value; *out is not to be used.
 */
COHORT_NODISCARD int cohorti_hello_decode(const void *data, size_t len, struct cohorti_hello *out, struct cohorti_text *why);

#endif
