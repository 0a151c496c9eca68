/* SPDX-License-Identifier: Apache-2.0
 *
 * An application's own handlers in a simulated cluster: b answers a, the connection is reset, b answers again.
 *
 *   cc simulated.c $(pkg-config --cflags --libs cohort-sim) -o simulated
 */
#include <cohort/sim.h>
#include <stdio.h>

#define MS UINT64_C(1000000)

static int answers;

static void on_question(cohort_node *node, const cohort_message *message, void *arg)
{
    if (cohort_send(node, message->from, "answer", "42", 2) != COHORT_OK) {
        puts("b cannot answer");
    }
}

static void on_answer(cohort_node *node, const cohort_message *message, void *arg)
{
    cohort_sim *sim = arg;
    answers++;
    printf("%.3f ms: %s answers %.*s\n", (double)cohort_sim_now_ns(sim) / 1e6, message->from, (int)message->data_len,
           (const char *)message->data);
}

static cohort_node *start(cohort_sim *sim, const char *id, const char *ip, const char *subject, cohort_message_fn fn)
{
    cohort_config config;
    cohort_node *node = NULL;
    COHORT_CONFIG_INIT(&config);
    config.id = id;
    config.ip = ip;
    if (cohort_sim_node_open(sim, &config, &node, NULL) != COHORT_OK ||
        cohort_handle(node, subject, fn, sim, NULL, &(cohort_handle_id){0}) != COHORT_OK ||
        cohort_node_start(node, NULL) != COHORT_OK) {
        return NULL;
    }
    return node;
}

int main(void)
{
    cohort_sim_config config;
    cohort_sim *sim = NULL;
    COHORT_SIM_CONFIG_INIT(&config);
    config.seed = 2014;
    if (cohort_sim_open(&config, &sim) != COHORT_OK) {
        return 1;
    }
    cohort_node *a = start(sim, "a", "10.0.0.1", "answer", on_answer);
    cohort_node *b = start(sim, "b", "10.0.0.2", "question", on_question);
    if (a == NULL || b == NULL || cohort_node_add(a, "b", "10.0.0.2", COHORT_PORT_DEFAULT) != COHORT_OK) {
        return 1;
    }
    for (int i = 0; i < 2; i++) {
        cohort_sim_run(sim, 500 * MS);
        if (cohort_send(a, "b", "question", "?", 1) != COHORT_OK) {
            return 1;
        }
        cohort_sim_run(sim, 10 * MS);
        (void)cohort_sim_reset(sim, "10.0.0.1", "10.0.0.2");
    }
    (void)cohort_node_close(a, 1000);
    (void)cohort_node_close(b, 1000);
    printf("hash %016llx\n", (unsigned long long)cohort_sim_hash(sim));
    cohort_sim_close(sim);
    return answers == 2 ? 0 : 1;
}
