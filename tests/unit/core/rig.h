/* SPDX-License-Identifier: Apache-2.0
 *
 * One cluster on virtual time, and what it wants as text: tests state what they tell it and compare the narrated effects.
 */
#ifndef COHORT_UNIT_CORE_RIG_H
#define COHORT_UNIT_CORE_RIG_H

#include "core/cluster_internal.h"

#include "support.h"

#include <stdio.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define RIG_INCARNATION 1000

struct rig {
    struct unit_memory memory;
    struct cohorti_cluster_config config;
    struct cohorti_cluster c;
    uint64_t now;
};

static inline struct cohorti_cluster_config rig_config(const char *id)
{
    struct cohorti_cluster_config config = {
        .ip = "127.0.0.9",
        .tcp_port = 9876,
        .incarnation = RIG_INCARNATION,
        .open_admission = true,
        .dial = {.mode = COHORT_DIAL_BACKOFF, .delay_min_ms = 100, .delay_max_ms = 10000, .connect_timeout_ms = 3000},
        .limits = {.members_max = 16,
                   .removed_max = 4,
                   .handshakes_max = 3,
                   .handshake_timeout_ms = 5000,
                   .legacy_links_max = 2,
                   .message_bytes_max = 65536,
                   .peer_queue_bytes_max = 65536,
                   .subjects_max = 8,
                   .echoes_max = 4,
                   .handlers_max = 8},
        .seed = 7,
    };
    (void)snprintf(config.id, sizeof config.id, "%s", id);
    return config;
}

static inline const char *code_name(int code)
{
    return cohort_error_name(code);
}

/* One effect in words, without a line end. */
static inline void effect_text(const struct cohorti_effect *fx, char *out, size_t cap)
{
    unsigned long long link = fx->link;
    switch (fx->type) {
    case COHORTI_EFFECT_DIAL:
        (void)snprintf(out, cap, "DIAL %llu %s:%u", link, fx->u.dial.host, fx->u.dial.port);
        break;
    case COHORTI_EFFECT_GREET:
        (void)snprintf(out, cap, "GREET %llu %u", link, fx->u.greet.attempt);
        break;
    case COHORTI_EFFECT_ADMIT:
        (void)snprintf(out, cap, "ADMIT %llu v%u", link, fx->u.admit.version);
        break;
    case COHORTI_EFFECT_OPEN:
        (void)snprintf(out, cap, "OPEN %llu %s%s", link, fx->u.open.id, fx->u.open.legacy ? " legacy" : "");
        break;
    case COHORTI_EFFECT_RECEIVE:
        (void)snprintf(out, cap, "RECEIVE %llu", link);
        break;
    case COHORTI_EFFECT_KEEP:
        (void)snprintf(out, cap, "KEEP %llu", link);
        break;
    case COHORTI_EFFECT_REFUSE:
        (void)snprintf(out, cap, "REFUSE %llu %s%s%.0llu%s%s", link, code_name(fx->code), fx->u.refuse.value == 0 ? "" : " ",
                       (unsigned long long)fx->u.refuse.value, fx->u.refuse.legacy ? " legacy" : "",
                       fx->u.refuse.text[0] == '\0' ? "" : " (text)");
        break;
    case COHORTI_EFFECT_LEAVE:
        (void)snprintf(out, cap, "LEAVE %llu", link);
        break;
    case COHORTI_EFFECT_CLOSE:
        (void)snprintf(out, cap, "CLOSE %llu %s", link, code_name(fx->code));
        break;
    case COHORTI_EFFECT_EVENT:
        (void)snprintf(out, cap, "%s %s%s%s", cohort_event_name(fx->u.event.type), fx->u.event.member.id,
                       fx->u.event.reason == 0 ? "" : " ", fx->u.event.reason == 0 ? "" : code_name(fx->u.event.reason));
        break;
    case COHORTI_EFFECT_UPDATE:
        (void)snprintf(out, cap, "UPDATE %s %s:%u inc=%llu%s", fx->u.event.member.id, fx->u.event.member.ip,
                       fx->u.event.member.tcp_port, (unsigned long long)fx->u.event.member.incarnation,
                       fx->u.event.member.legacy ? " legacy" : "");
        break;
    case COHORTI_EFFECT_NOTE:
        (void)snprintf(out, cap, "NOTE %s %s", fx->u.note.id, code_name(fx->code));
        break;
    default:
        fail_msg("effect %d", (int)fx->type);
    }
}

/* All effects that wait, as "A; B; C". */
static inline void rig_effects(struct rig *r, char *out, size_t cap)
{
    struct cohorti_effect fx;
    size_t len = 0;
    out[0] = '\0';
    while (cohorti_cluster_poll(&r->c, &fx)) {
        assert_true(len + 400 < cap);
        len += (size_t)snprintf(out + len, cap - len, "%s", len == 0 ? "" : "; ");
        effect_text(&fx, out + len, cap - len);
        len += strlen(out + len);
    }
}

#define rig_expect(rig, text)                  \
    do {                                       \
        char got_[8192];                       \
        rig_effects((rig), got_, sizeof got_); \
        assert_string_equal(got_, (text));     \
    } while (0)

static inline void rig_open(struct rig *r, const struct cohorti_cluster_config *config)
{
    unit_memory_init(&r->memory);
    r->config = *config;
    r->now = 1000 * SECOND;
    assert_int_equal(cohorti_cluster_init(&r->c, &r->memory.alloc, config), COHORT_OK);
    rig_expect(r, "");
}

/* "m" with open admission, started, no other member. */
static inline void rig_start(struct rig *r)
{
    struct cohorti_cluster_config config = rig_config("m");
    rig_open(r, &config);
    cohorti_cluster_start(&r->c, r->now);
}

static inline void rig_close(struct rig *r)
{
    cohorti_cluster_deinit(&r->c);
    unit_memory_assert_empty(&r->memory);
}

/* Step to a moment from now, firing what falls due at its own time. */
static inline void rig_pass(struct rig *r, uint64_t ns)
{
    uint64_t end = r->now + ns;
    while (cohorti_cluster_deadline(&r->c) <= end) {
        uint64_t deadline = cohorti_cluster_deadline(&r->c);
        r->now = deadline > r->now ? deadline : r->now;
        cohorti_cluster_on_timer(&r->c, r->now);
    }
    r->now = end;
}

static inline void rig_add(struct rig *r, const char *id)
{
    assert_int_equal(cohorti_cluster_add(&r->c, r->now, id, "127.0.0.2", 9000), COHORT_OK);
}

static inline uint64_t rig_accept(struct rig *r)
{
    uint64_t link = 0;
    assert_int_equal(cohorti_cluster_accepted(&r->c, r->now, &link), COHORT_OK);
    return link;
}

static inline struct cohorti_hello rig_hello(const char *id, uint64_t incarnation, uint32_t attempt)
{
    struct cohorti_hello hello = {.ip = "127.0.0.2",
                                  .tcp_port = 9000,
                                  .extended = true,
                                  .version_min = COHORTI_PROTOCOL_VERSION,
                                  .version_max = COHORTI_PROTOCOL_VERSION,
                                  .incarnation = incarnation,
                                  .attempt = attempt};
    (void)snprintf(hello.id, sizeof hello.id, "%s", id);
    return hello;
}

static inline struct cohorti_hello rig_legacy_hello(const char *id)
{
    struct cohorti_hello hello = {.ip = "127.0.0.2", .tcp_port = 9000};
    (void)snprintf(hello.id, sizeof hello.id, "%s", id);
    return hello;
}

static inline void rig_greeted(struct rig *r, uint64_t link, const char *id, uint64_t incarnation, uint32_t attempt)
{
    struct cohorti_hello hello = rig_hello(id, incarnation, attempt);
    cohorti_cluster_hello(&r->c, r->now, link, &hello);
}

static inline void rig_greeted_legacy(struct rig *r, uint64_t link, const char *id)
{
    struct cohorti_hello hello = rig_legacy_hello(id);
    cohorti_cluster_hello(&r->c, r->now, link, &hello);
}

static inline void rig_connected(struct rig *r, uint64_t link)
{
    cohorti_cluster_connected(&r->c, r->now, link);
}

static inline void rig_welcomed(struct rig *r, uint64_t link)
{
    cohorti_cluster_welcome(&r->c, r->now, link);
}

static inline void rig_closed(struct rig *r, uint64_t link, int code)
{
    cohorti_cluster_closed(&r->c, r->now, link, code);
}

static inline void rig_refused(struct rig *r, uint64_t link, int reason, uint64_t value)
{
    struct cohorti_refuse refuse = {.reason = reason, .value = value};
    cohorti_cluster_refused(&r->c, r->now, link, &refuse);
}

/* An open link that the peer dialled; effects are consumed. */
static inline uint64_t rig_open_link(struct rig *r, const char *id, uint64_t incarnation, uint32_t attempt)
{
    char ignored[8192];
    uint64_t link = rig_accept(r);
    rig_greeted(r, link, id, incarnation, attempt);
    rig_welcomed(r, link);
    rig_effects(r, ignored, sizeof ignored);
    assert_int_equal(cohorti_cluster_link_find(&r->c, link)->state, COHORTI_CLUSTER_LINK_OPEN);
    return link;
}

static inline cohort_member rig_member(const struct rig *r, const char *id)
{
    struct cohorti_member *m = cohorti_member_find(&r->c, id);
    assert_non_null(m);
    return m->public;
}

#endif
