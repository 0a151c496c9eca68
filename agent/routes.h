/* SPDX-License-Identifier: Apache-2.0
 *
 * What routes.c and routes_messages.c share: arguments of a request, and the routes that the table in routes.c names.
 */
#ifndef COHORT_AGENT_ROUTES_H
#define COHORT_AGENT_ROUTES_H

#include "request.h"

/** NULL: absent, or one that cannot be text because a zero byte is in it. */
const char *route_argument(struct request *request, const char *name);
/** False: it is no number, or larger than max. */
bool route_number(struct request *request, const char *name, uint32_t fallback, uint32_t max, uint32_t *out);
/** To be freed. NULL: no memory. */
cohort_member *route_members_copy(cohort_node *node, size_t *count);

enum MHD_Result get_events(struct request *request);
enum MHD_Result get_messages(struct request *request);
enum MHD_Result post_send(struct request *request);
enum MHD_Result post_broadcast(struct request *request);
enum MHD_Result post_echo(struct request *request);
enum MHD_Result post_request(struct request *request);
enum MHD_Result post_reply(struct request *request);
enum MHD_Result post_stream(struct request *request);
enum MHD_Result get_streams(struct request *request);
enum MHD_Result post_bench(struct request *request);

#endif
