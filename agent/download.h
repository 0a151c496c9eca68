/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams from members to an HTTP client (GET /v1/streams): pieces wait in a queue of the node, and the HTTP thread takes one out when
 * the client has read the one before. So a client that reads slowly holds up its senders and nobody else, and the agent holds one piece.
 *
 * What the client gets are records, a line of JSON and behind it so many bytes as its `len` says; docs/http.md has them.
 */
#ifndef COHORT_AGENT_DOWNLOAD_H
#define COHORT_AGENT_DOWNLOAD_H

#include <cohort/cohort.h>
#include <microhttpd.h>

struct downloads;
struct download;

/** max: open at once. NULL: out of memory, threads or descriptors. */
struct downloads *downloads_new(uint32_t max);
/** After the node is closed. */
void downloads_free(struct downloads *all);
/** None opens any more, and those that are end. */
void downloads_close(struct downloads *all);
/** Wait until they have, but no longer than this. */
void downloads_drain(struct downloads *all, uint32_t timeout_ms);
/** Idle ones send a line, which also finds the clients that are gone. */
void downloads_keep_alive(struct downloads *all);

/** Takes the streams of a subject from now on. COHORT_ELIMIT, COHORT_ECLOSED, and as cohort_handle_stream(). */
COHORT_NODISCARD int download_open(struct downloads *all, cohort_node *node, const char *subject, struct download **out);
/** Answer with it; it belongs to the connection from here on, also when MHD_NO is returned. */
enum MHD_Result download_answer(struct download *download, struct MHD_Connection *connection);

#endif
