/* SPDX-License-Identifier: Apache-2.0
 * What may be an id, a cluster name, a subject, an address: one place for the rules that files, peers and callers obey. */
#ifndef COHORTI_NAME_H
#define COHORTI_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** [A-Za-z0-9._-]{1,64} */
bool cohorti_id_valid(const char *s, size_t len);
/** As an id, or empty. */
bool cohorti_cluster_valid(const char *s, size_t len);
/** 1..128 printable ASCII characters without space, not starting with '#'. */
bool cohorti_subject_valid(const char *s, size_t len);
/** "#<type>", type a decimal number in -2147483648 .. 4294967295 (negative and its unsigned form are the same type), without
 * leading zeros. */
bool cohorti_subject_raw(const char *s, size_t len, uint32_t *type);
/** Dotted quad, four decimal numbers 0..255 without leading zeros. */
bool cohorti_ipv4_valid(const char *s, size_t len);
/** Text of an IPv6 address as RFC 4291 2.2 writes it (with "::" and a dotted-quad tail), optionally with "%zone". */
bool cohorti_ipv6_valid(const char *s, size_t len);
/** Labels of 1..63 letters, digits, '-' and '_' that neither start nor end with '-', between dots; at most 253 bytes, and perhaps
 * a dot behind. The last label is no number (decimal, or hexadecimal with 0x), or a resolver would take it for an address. */
bool cohorti_hostname_valid(const char *s, size_t len);
/** IPv4, IPv6 or host name, of at most COHORT_HOST_BYTES_MAX bytes. */
bool cohorti_host_valid(const char *s, size_t len);

#endif
