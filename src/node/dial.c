/* SPDX-License-Identifier: Apache-2.0
 *
 * A dial of the cluster: at once when the address is numeric, else when its name is resolved.
 *
 * While a name is looked up, the cluster's link is dialling, with its time-out running; there is no connection yet, and the lookup
 * stands for it: a CLOSE of the link ends the lookup. One address is tried a dial, by turns; an address that answers is stayed with.
 * The core is told how many there are, and pauses after the last. Control loop only.
 */
#include "node/node.h"

#include "base/name.h"

#include <stdio.h>
#include <string.h>

struct name_dial {
    struct cohorti_list of_node;
    struct cohort_node *node;
    struct cohorti_lookup *lookup;
    struct cohorti_effect effect; /* DIAL */
};

static void fail(struct cohort_node *node, const struct cohorti_effect *fx, cohort_log_level level, int status, const char *why)
{
    cohorti_log(node, level, "dial", fx->u.dial.id, status, "cannot dial %s port %u: %s%s%s", fx->u.dial.host, fx->u.dial.port,
                cohort_error_text(status), why[0] == '\0' ? "" : ": ", why);
    cohorti_cluster_closed(&node->cluster, cohorti_now(node), fx->link, status);
}

static void connect_to(struct cohort_node *node, const struct cohorti_effect *fx, const char *address)
{
    struct cohorti_socket *socket = NULL;
    int status = node->io->ops->connect(node->io, address, fx->u.dial.port, &socket);
    struct conn *conn = status == COHORT_OK ? cohorti_conn_new(node, fx->link, socket) : NULL;
    if (conn == NULL) {
        if (status == COHORT_OK) {
            node->io->ops->close(socket);
            status = COHORT_ENOMEM;
        }
        fail(node, fx, COHORT_LOG_DEBUG, status, "");
        return;
    }
    bool v6 = strchr(address, ':') != NULL;
    snprintf(conn->remote, sizeof conn->remote, v6 ? "[%.45s]:%u" : "%.45s:%u", address, fx->u.dial.port);
    cohorti_conn_begin(conn, true);
}

/* A name that is wrong stays wrong, and is tried for ever: said ever more rarely, each time in the debug log. */
static void fail_to_resolve(struct cohort_node *node, const struct cohorti_effect *fx, const char *why)
{
    bool rarely = (fx->u.dial.turn & (fx->u.dial.turn - 1)) == 0;
    atomic_fetch_add(&node->counters.errors[-COHORT_ENORESOLVE], 1);
    fail(node, fx, rarely ? COHORT_LOG_WARN : COHORT_LOG_DEBUG, COHORT_ENORESOLVE, why);
}

static void forget(struct name_dial *dial)
{
    cohorti_list_remove(&dial->of_node);
    cohorti_release(&dial->node->alloc, dial);
}

static void on_resolved(void *ctx, int status, const struct cohorti_addresses *addresses, const char *why)
{
    struct name_dial *dial = ctx;
    struct cohort_node *node = dial->node;
    struct cohorti_effect fx = dial->effect;
    forget(dial);
    if (status == COHORT_OK) {
        const char *address = addresses->at[fx.u.dial.turn % addresses->count];
        cohorti_log(node, COHORT_LOG_DEBUG, "dial", fx.u.dial.id, COHORT_OK, "%s is %s (%zu of %zu)", fx.u.dial.host, address,
                    fx.u.dial.turn % addresses->count + 1, addresses->count);
        cohorti_cluster_resolved(&node->cluster, fx.link, (uint32_t)addresses->count);
        connect_to(node, &fx, address);
    } else {
        fail_to_resolve(node, &fx, why);
    }
    cohorti_worker_settle(&node->control);
}

void cohorti_dial(struct cohort_node *node, const struct cohorti_effect *fx)
{
    size_t len = strlen(fx->u.dial.host);
    atomic_fetch_add(&node->counters.links_dialled, 1);
    if (cohorti_ipv4_valid(fx->u.dial.host, len) || cohorti_ipv6_valid(fx->u.dial.host, len)) {
        connect_to(node, fx, fx->u.dial.host);
        return;
    }
    struct name_dial *dial = cohorti_alloc_zero(&node->alloc, sizeof *dial);
    if (dial == NULL) {
        fail(node, fx, COHORT_LOG_DEBUG, COHORT_ENOMEM, "");
        return;
    }
    dial->node = node;
    dial->effect = *fx;
    int status = node->io->ops->resolve(node->control.loop, fx->u.dial.host, on_resolved, dial, &dial->lookup);
    if (status != COHORT_OK) {
        cohorti_release(&node->alloc, dial);
        fail(node, fx, COHORT_LOG_DEBUG, status, "");
        return;
    }
    cohorti_list_append(&node->name_dials, &dial->of_node);
}

bool cohorti_dial_cancel(struct cohort_node *node, uint64_t link, int code)
{
    COHORTI_LIST_FOREACH (it, &node->name_dials) {
        struct name_dial *dial = COHORTI_CONTAINER(it, struct name_dial, of_node);
        if (dial->effect.link != link) {
            continue;
        }
        struct cohorti_effect fx = dial->effect;
        node->io->ops->resolve_cancel(dial->lookup);
        forget(dial);
        if (code == COHORT_EUNREACHABLE) { /* the time-out of dialling */
            fail_to_resolve(node, &fx, "no answer in time");
        } else {
            cohorti_cluster_closed(&node->cluster, cohorti_now(node), link, code);
        }
        return true;
    }
    return false;
}

void cohorti_dial_abandon(struct cohort_node *node)
{
    while (!cohorti_list_empty(&node->name_dials)) {
        struct name_dial *dial = COHORTI_CONTAINER(node->name_dials.next, struct name_dial, of_node);
        node->io->ops->resolve_cancel(dial->lookup);
        forget(dial);
    }
}
