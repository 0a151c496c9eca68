/* SPDX-License-Identifier: Apache-2.0
 *
 * codec_msgpack ID CLUSTER.json: members tell each other their readings as objects; MessagePack goes over the wire.
 *
 * Each line "SENSOR VALUE" of standard input is a reading for all others. "!" sends bytes that are no reading, to show that they
 * are counted and logged by who receives them, and that nothing else happens. Needs libmsgpack-dev:
 *
 *   cc codec_msgpack.c $(pkg-config --cflags --libs cohort msgpack) -o codec_msgpack
 */
#include <cohort/codec.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reading { /* on the wire: [sensor, value] */
    char sensor[32];
    double value;
};

/* What msgpack packs goes straight into the buffer of the library. */
static int write_packed(void *buffer, const char *bytes, size_t len)
{
    return cohort_buffer_append(buffer, bytes, len);
}

static int encode(void *ctx, const char *subject, const void *object, cohort_buffer *out)
{
    const struct reading *r = object;
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, write_packed);
    msgpack_pack_array(&packer, 2);
    msgpack_pack_str(&packer, strlen(r->sensor));
    msgpack_pack_str_body(&packer, r->sensor, strlen(r->sensor));
    msgpack_pack_double(&packer, r->value);
    return COHORT_OK; /* a write that failed is remembered by the buffer, and is what the send returns */
}

static bool is_number(const msgpack_object *o)
{
    return o->type == MSGPACK_OBJECT_FLOAT32 || o->type == MSGPACK_OBJECT_FLOAT64;
}

static int to_reading(const msgpack_object *root, struct reading *r, cohort_error *error)
{
    if (root->type != MSGPACK_OBJECT_ARRAY || root->via.array.size != 2) {
        snprintf(error->text, sizeof error->text, "not an array of two");
        return COHORT_EINVAL;
    }
    const msgpack_object *at = root->via.array.ptr;
    if (at[0].type != MSGPACK_OBJECT_STR || at[0].via.str.size >= sizeof r->sensor || !is_number(&at[1])) {
        snprintf(error->text, sizeof error->text, "not a short name and a number");
        return COHORT_EINVAL;
    }
    memcpy(r->sensor, at[0].via.str.ptr, at[0].via.str.size); /* the rest is zero */
    r->value = at[1].via.f64;
    return COHORT_OK;
}

static int decode(void *ctx, const cohort_message *message, void **object, cohort_error *error)
{
    struct reading *r = calloc(1, sizeof *r);
    msgpack_unpacked unpacked;
    size_t at = 0;
    int rc = r == NULL ? COHORT_ENOMEM : COHORT_EINVAL;
    msgpack_unpacked_init(&unpacked);
    if (r != NULL && msgpack_unpack_next(&unpacked, message->data, message->data_len, &at) == MSGPACK_UNPACK_SUCCESS &&
        at == message->data_len) {
        rc = to_reading(&unpacked.data, r, error);
    } else {
        snprintf(error->text, sizeof error->text, "%s", r == NULL ? "out of memory" : "not MessagePack");
    }
    msgpack_unpacked_destroy(&unpacked);
    if (rc == COHORT_OK) {
        *object = r;
    } else {
        free(r);
    }
    return rc;
}

static void release(void *ctx, void *object)
{
    free(object);
}

static void on_reading(cohort_node *node, const cohort_message *message, void **object, void *arg)
{
    const struct reading *r = *object;
    printf("%s: %s is %.1f\n", message->from, r->sensor, r->value);
}

static void on_event(cohort_node *node, const cohort_event *event, void *arg)
{
    printf("%s %s\n", event->member.id, cohort_event_name(event->type));
}

static void serve(cohort_node *node)
{
    char line[128];
    while (fgets(line, sizeof line, stdin) != NULL) {
        struct reading r = {0};
        int rc = COHORT_OK;
        if (line[0] == '!') {
            rc = cohort_broadcast(node, "reading", "rubbish", 7, NULL);
        } else if (sscanf(line, "%31s %lf", r.sensor, &r.value) == 2) {
            rc = cohort_broadcast_object(node, "reading", &r, NULL);
        } else {
            puts("usage: SENSOR VALUE");
        }
        if (rc != COHORT_OK) {
            printf("not sent: %s\n", cohort_error_text(rc));
        }
    }
}

int main(int argc, char **argv)
{
    static const cohort_codec codec = {.encode = encode, .decode = decode, .release = release};
    cohort_definition cluster = {0};
    cohort_config config;
    cohort_node *node = NULL;
    cohort_error error = {0};
    cohort_handle_id id;

    setvbuf(stdout, NULL, _IOLBF, 0);
    COHORT_CONFIG_INIT(&config);
    config.id = argc > 1 ? argv[1] : NULL;
    config.definition = &cluster;
    int rc = cohort_definition_read(argc > 2 ? argv[2] : "cluster.json", &cluster, &error);
    rc = rc ? rc : cohort_node_open(&config, &node, &error);
    rc = rc ? rc : cohort_codec_set(node, "reading", &codec);
    rc = rc ? rc : cohort_handle_object(node, "reading", on_reading, NULL, NULL, &id);
    rc = rc ? rc : cohort_listen(node, on_event, NULL, NULL, &id);
    rc = rc ? rc : cohort_node_start(node, &error);
    if (rc) {
        fprintf(stderr, "codec_msgpack: %s\n", error.code ? error.text : cohort_error_text(rc));
    } else {
        cohort_node_stats stats;
        serve(node);
        cohort_node_stats_get(node, &stats);
        printf("%llu could not be decoded\n", (unsigned long long)stats.decode_failures);
    }
    cohort_node_close(node, 1000);
    cohort_definition_free(&cluster);
    return rc ? 1 : 0;
}
