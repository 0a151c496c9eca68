/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON documents; see document.h. Field names follow the cluster definition where it has them (id, ip, tcpPort) and the
 * counters of cohort.h otherwise.
 */
#include "document.h"

#include "measure.h"

void document_member(struct writer *w, const cohort_member *member)
{
    writer_begin(w, '{');
    writer_key_string(w, "id", member->id);
    writer_key_string(w, "ip", member->ip);
    writer_key_uint(w, "tcpPort", member->tcp_port);
    writer_key_string(w, "state", cohort_state_name(member->state));
    writer_key_bool(w, "local", member->local);
    writer_key_bool(w, "legacy", member->legacy);
    writer_key_uint(w, "incarnation", member->incarnation);
    writer_end(w, '}');
}

void document_members(struct writer *w, const char *local, const cohort_member *members, size_t count)
{
    writer_begin(w, '{');
    writer_key_string(w, "local", local);
    writer_key(w, "members");
    writer_begin(w, '[');
    for (size_t i = 0; i < count; i++) {
        document_member(w, &members[i]);
    }
    writer_end(w, ']');
    writer_end(w, '}');
}

static void code_and_text(struct writer *w, const char *code, const char *text)
{
    writer_begin(w, '{');
    writer_key_string(w, "code", code);
    writer_key_string(w, "text", text);
    writer_end(w, '}');
}

void document_error(struct writer *w, const char *code, const char *text)
{
    writer_begin(w, '{');
    writer_key(w, "error");
    code_and_text(w, code, text);
    writer_end(w, '}');
}

static void errors_by_name(struct writer *w, const cohort_node_stats *stats)
{
    writer_begin(w, '{');
    for (int i = 1; i < (int)(sizeof(stats->errors) / sizeof(stats->errors[0])); i++) {
        if (stats->errors[i] > 0) {
            writer_key_uint(w, cohort_error_name(-i), stats->errors[i]);
        }
    }
    writer_end(w, '}');
}

static void rates(struct writer *w, const cohort_rates *rates)
{
    writer_key_uint(w, "bytes_in_per_s", rates->bytes_in_per_s);
    writer_key_uint(w, "bytes_out_per_s", rates->bytes_out_per_s);
    writer_key_uint(w, "frames_in_per_s", rates->frames_in_per_s);
    writer_key_uint(w, "frames_out_per_s", rates->frames_out_per_s);
}

void document_node_stats(struct writer *w, const cohort_node_stats *stats, const struct hub_stats *hub,
                         const struct measure_taken *bench)
{
    writer_begin(w, '{');
    writer_key_uint(w, "links_open", stats->links_open);
    writer_key_uint(w, "handshakes_pending", stats->handshakes_pending);
    writer_key_uint(w, "links_accepted", stats->links_accepted);
    writer_key_uint(w, "links_dialled", stats->links_dialled);
    writer_key_uint(w, "links_opened", stats->links_opened);
    writer_key_uint(w, "links_closed", stats->links_closed);
    writer_key_uint(w, "bytes_in", stats->bytes_in);
    writer_key_uint(w, "bytes_out", stats->bytes_out);
    writer_key_uint(w, "frames_in", stats->frames_in);
    writer_key_uint(w, "frames_out", stats->frames_out);
    rates(w, &stats->rates);
    writer_key_uint(w, "messages_unhandled", stats->messages_unhandled);
    writer_key_uint(w, "messages_undelivered", stats->messages_undelivered);
    writer_key_uint(w, "messages_dropped", stats->messages_dropped);
    writer_key_uint(w, "replies_late", stats->replies_late);
    writer_key_uint(w, "bytes_dropped", stats->bytes_dropped);
    writer_key_uint(w, "echoes_dropped", stats->echoes_dropped);
    writer_key_uint(w, "handlers_slow", stats->handlers_slow);
    writer_key_uint(w, "queued_bytes", stats->queued_bytes);
    writer_key_uint(w, "decode_failures", stats->decode_failures);
    writer_key(w, "errors");
    errors_by_name(w, stats);
    writer_key_uint(w, "streams_open", hub->streams_open);
    writer_key_uint(w, "streams_opened", hub->streams_opened);
    writer_key_uint(w, "stream_items_dropped", hub->items_dropped);
    writer_key_uint(w, "messages_unheard", hub->messages_unheard);
    writer_key_uint(w, "requests_open", hub->requests_open);
    writer_key_uint(w, "bench_messages", bench->messages);
    writer_key_uint(w, "bench_bytes", bench->bytes);
    writer_end(w, '}');
}

void document_definition(struct writer *w, const char *path, const cohort_definition_status *status)
{
    writer_begin(w, '{');
    if (path != NULL) {
        writer_key_string(w, "file", path);
    }
    writer_key_bool(w, "followed", status->followed);
    writer_key_uint(w, "applied", status->applied);
    writer_key_uint(w, "failed", status->failed);
    if (status->error.code != COHORT_OK) {
        writer_key(w, "error");
        code_and_text(w, cohort_error_name(status->error.code), status->error.text);
    }
    writer_end(w, '}');
}

void document_link_stats(struct writer *w, const char *id, const cohort_link_stats *stats)
{
    writer_begin(w, '{');
    writer_key_string(w, "id", id);
    writer_key_uint(w, "bytes_in", stats->bytes_in);
    writer_key_uint(w, "bytes_out", stats->bytes_out);
    writer_key_uint(w, "frames_in", stats->frames_in);
    writer_key_uint(w, "frames_out", stats->frames_out);
    rates(w, &stats->rates);
    writer_key_uint(w, "queued_bytes", stats->queued_bytes);
    writer_key_uint(w, "open_ns", stats->open_ns);
    writer_key_uint(w, "idle_ns", stats->idle_ns);
    writer_end(w, '}');
}

static void membership(struct writer *w, const char *type, const cohort_member *member, int reason)
{
    writer_text(w, "event: membership\ndata: ");
    writer_begin(w, '{');
    writer_key_string(w, "type", type);
    writer_key(w, "member");
    document_member(w, member);
    if (reason != COHORT_OK) {
        writer_key(w, "reason");
        code_and_text(w, cohort_error_name(reason), cohort_error_text(reason));
    }
    writer_end(w, '}');
    writer_text(w, "\n\n");
    w->comma = false;
}

static void data_as_text(struct writer *w, const void *data, size_t len)
{
    if (utf8_valid(data, len)) {
        writer_key(w, "data");
        writer_string_n(w, data, len);
    } else {
        writer_key(w, "data_base64");
        writer_base64(w, data, len);
    }
}

void document_event(struct writer *w, const cohort_event *event)
{
    membership(w, cohort_event_name(event->type), &event->member, event->reason);
}

void document_present(struct writer *w, const cohort_member *member)
{
    membership(w, "PRESENT", member, COHORT_OK);
}

static void message_fields(struct writer *w, const cohort_message *message)
{
    writer_key_string(w, "from", message->from);
    writer_key_string(w, "subject", message->subject);
    data_as_text(w, message->data, message->data_len);
    writer_key_bool(w, "legacy", message->legacy);
}

static void begin_event(struct writer *w, const char *type)
{
    writer_text(w, "event: ");
    writer_text(w, type);
    writer_text(w, "\ndata: ");
    writer_begin(w, '{');
}

static void end_event(struct writer *w)
{
    writer_end(w, '}');
    writer_text(w, "\n\n");
    w->comma = false;
}

void document_message(struct writer *w, const cohort_message *message)
{
    begin_event(w, "message");
    message_fields(w, message);
    end_event(w);
}

void document_request(struct writer *w, const cohort_message *message, uint64_t request, uint32_t left_ms)
{
    begin_event(w, "request");
    writer_key_uint(w, "request", request);
    message_fields(w, message);
    if (left_ms != UINT32_MAX) {
        writer_key_uint(w, "time_left_ms", left_ms);
    }
    end_event(w);
}

void document_undelivered(struct writer *w, const cohort_undelivered *report)
{
    static const char *const lanes[] = {
        [COHORT_LANE_NORMAL] = "normal", [COHORT_LANE_CONTROL] = "control", [COHORT_LANE_BULK] = "bulk"};
    begin_event(w, "undelivered");
    writer_key_string(w, "to", report->to);
    writer_key_string(w, "subject", report->subject);
    writer_key_string(w, "lane", lanes[report->lane]);
    writer_key_bool(w, "maybe_handled", report->maybe_handled);
    writer_key(w, "reason");
    code_and_text(w, cohort_error_name(report->reason), cohort_error_text(report->reason));
    writer_key_uint(w, "bytes", report->data_len);
    if (report->data != NULL || report->data_len == 0) {
        data_as_text(w, report->data, report->data_len);
    }
    end_event(w);
}

void document_result(struct writer *w, const cohort_result *result)
{
    writer_begin(w, '{');
    writer_key_string(w, "from", result->from);
    if (result->status == COHORT_OK) {
        data_as_text(w, result->data, result->data_len);
    } else {
        writer_key(w, "error");
        code_and_text(w, cohort_error_name(result->status),
                      result->text[0] != '\0' ? result->text : cohort_error_text(result->status));
    }
    writer_end(w, '}');
}
