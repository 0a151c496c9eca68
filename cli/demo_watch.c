/* SPDX-License-Identifier: Apache-2.0
 *
 * Eyes and ears of a demonstration; see demo.h.
 *
 * One thread does it all: the listeners' streams hang in one curl multi handle, which is also what waits between two looks
 * at the agents, so that messages are printed the moment they arrive.
 */
#include "demo.h"

#include "table.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
    LOOK_INTERVAL_MS = 20
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

void demo_catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

bool demo_interrupted(void)
{
    return interrupted != 0;
}

uint64_t demo_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void pump(struct demo *demo, int wait_ms)
{
    int running, ready;
    curl_multi_poll(demo->multi, NULL, 0, wait_ms, &ready);
    curl_multi_perform(demo->multi, &running);
}

static bool all_run(struct demo *demo)
{
    for (int i = 0; i < demo->cluster.count; i++) {
        int status;
        if (demo_cluster_ended(&demo->cluster, i, &status)) {
            fprintf(stderr, "cohort demo: the agent %s ended by itself\n", demo->cluster.nodes[i].id);
            return false;
        }
    }
    return true;
}

bool demo_wait(struct demo *demo, bool (*seen)(struct demo *demo, const void *arg), const void *arg, const char *what)
{
    uint64_t start_ms = demo_now_ms();
    while (!seen(demo, arg)) {
        if (demo_interrupted()) {
            fprintf(stderr, "cohort demo: interrupted before this was seen: %s\n", what);
            return false;
        }
        if ((!demo->ending && !all_run(demo)) || demo_now_ms() - start_ms > DEMO_WAIT_MS) {
            fprintf(stderr, "cohort demo: NOT SEEN: %s\n", what);
            return false;
        }
        pump(demo, LOOK_INTERVAL_MS);
    }
    printf("  seen after %llu ms: %s\n", (unsigned long long)(demo_now_ms() - start_ms), what);
    fflush(stdout);
    return true;
}

json_t *demo_members(struct demo *demo, int index)
{
    struct client *client = &demo->clients[index];
    client->quiet = true;
    json_t *root = NULL;
    if (client_get(client, client_url(client, "/v1/members", NULL, NULL)) == EXIT_FINE) {
        root = client_json(client);
    }
    client->quiet = false;
    return root;
}

bool demo_member(struct demo *demo, int index, const char *id, bool *active, uint64_t *incarnation)
{
    json_t *root = demo_members(demo, index);
    json_t *members = json_object_get(root, "members");
    bool found = false;
    for (size_t i = 0; i < json_array_size(members); i++) {
        json_t *member = json_array_get(members, i);
        const char *name = json_string_value(json_object_get(member, "id"));
        const char *state = json_string_value(json_object_get(member, "state"));
        if (name != NULL && state != NULL && strcmp(name, id) == 0) {
            found = true;
            *active = strcmp(state, "ACTIVE") == 0;
            *incarnation = (uint64_t)json_integer_value(json_object_get(member, "incarnation"));
        }
    }
    json_decref(root);
    return found;
}

/* ---- ears ---- */

static void remember(struct ear *ear, const char *from, const char *text)
{
    printf("  %s received from %s: ", ear->demo->cluster.nodes[ear->index].id, from);
    print_visible(text, strlen(text), stdout);
    printf("\n");
    if (ear->heard_count < HEARD_MAX) {
        snprintf(ear->heard[ear->heard_count].from, sizeof(ear->heard[0].from), "%s", from);
        snprintf(ear->heard[ear->heard_count].text, sizeof(ear->heard[0].text), "%s", text);
        ear->heard_count++;
    }
}

static bool on_message(void *arg, const char *event, const char *data, size_t len)
{
    struct ear *ear = arg;
    json_t *item = strcmp(event, "message") == 0 ? json_loadb(data, len, 0, NULL) : NULL;
    const char *from = json_string_value(json_object_get(item, "from"));
    const char *text = json_string_value(json_object_get(item, "data"));
    if (from != NULL && text != NULL) {
        remember(ear, from, text);
    }
    json_decref(item);
    return true;
}

bool ear_open(struct demo *demo, int index, const char *subject)
{
    struct ear *ear = &demo->ears[index];
    memset(ear, 0, sizeof(*ear));
    ear->demo = demo;
    ear->index = index;
    if (client_open(&ear->client, "demo", demo->cluster.nodes[index].control) != EXIT_FINE) {
        return false;
    }
    ear->open = true;
    ear->stream = (struct client_stream){.on_event = on_message, .arg = ear};
    char *url = client_url(&ear->client, "/v1/messages", NULL, "subject", subject, NULL);
    return client_stream_prepare(&ear->client, url, &ear->stream) && curl_multi_add_handle(demo->multi, ear->client.curl) == CURLM_OK;
}

void ear_close(struct ear *ear)
{
    if (!ear->open) {
        return;
    }
    curl_multi_remove_handle(ear->demo->multi, ear->client.curl);
    client_stream_end(&ear->stream);
    client_close(&ear->client);
    ear->open = false;
}

bool ear_heard(const struct ear *ear, const char *from, const char *text)
{
    for (int i = 0; i < ear->heard_count; i++) {
        if (strcmp(ear->heard[i].from, from) == 0 && strcmp(ear->heard[i].text, text) == 0) {
            return true;
        }
    }
    return false;
}
