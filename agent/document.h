/* SPDX-License-Identifier: Apache-2.0
 *
 * What the agent says of the node, as JSON: one function per document of docs/http.md.
 */
#ifndef COHORT_AGENT_DOCUMENT_H
#define COHORT_AGENT_DOCUMENT_H

#include "hub.h"
#include "writer.h"

#include <cohort/cohort.h>

/** One member. */
void document_member(struct writer *w, const cohort_member *member);

/** {"local":ID,"members":[...]} */
void document_members(struct writer *w, const char *local, const cohort_member *members, size_t count);

/** {"error":{"code","text"}}; `text` NULL: that of the table. */
void document_error(struct writer *w, const char *code, const char *text);

struct measure_taken;
void document_node_stats(struct writer *w, const cohort_node_stats *stats, const struct hub_stats *hub,
                         const struct measure_taken *bench);
/** `path` NULL: none was given. */
void document_definition(struct writer *w, const char *path, const cohort_definition_status *status);
void document_link_stats(struct writer *w, const char *id, const cohort_link_stats *stats);

/** Whole server-sent events. A `present` event is one member of the snapshot a stream begins with. */
void document_event(struct writer *w, const cohort_event *event);
void document_present(struct writer *w, const cohort_member *member);
void document_message(struct writer *w, const cohort_message *message);
/** A message event with the number to reply to it, and how much time is left, if there is a limit. */
void document_request(struct writer *w, const cohort_message *message, uint64_t request, uint32_t left_ms);
void document_undelivered(struct writer *w, const cohort_undelivered *report);

/** {"from","data"}, or {"from","error":{"code","text"}} */
void document_result(struct writer *w, const cohort_result *result);

#endif
