/* SPDX-License-Identifier: Apache-2.0
 *
 * Codecs: objects to messages and back, on top of cohort_send(), cohort_broadcast() and cohort_handle().
 *
 * A codec is found under a short lock and used with none held, referenced meanwhile; replacing it takes it out of the table, and the
 * last user releases its context. What was decoded is released by the codec that decoded it.
 * Nothing here knows of links: what a session promises for a message, it promises for an object.
 */
#include "node/codec.h"

#include "base/buffer.h"
#include "base/name.h"
#include "node/node.h"

#include <cohort/codec.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LOG_PAUSE_NS (UINT64_C(1000) * 1000000) /* a peer that sends rubbish must not fill the disk */
#define KEY_BYTES (COHORT_SUBJECT_BYTES_MAX + 1)

struct cohort_buffer {
    struct cohorti_buffer bytes;
    int failed; /* the first failure: what the send returns */
};

struct entry {
    struct cohorti_map_node node;
    _Atomic uint32_t refs;
    cohort_codec codec;
    char key[KEY_BYTES];
};

/* A handler of objects, as the message handler that it is. */
struct binding {
    const cohort_allocator *alloc;
    cohort_object_fn fn;
    void *arg;
    cohort_release_fn release;
    uint64_t logged_ns, unlogged; /* under the lock of the table */
};

/* ---- the table ----------------------------------------------------------------------------------------------------- */

void cohorti_codecs_init(struct cohorti_codecs *c, const cohort_allocator *alloc, uint32_t max)
{
    memset(c, 0, sizeof *c);
    c->alloc = alloc;
    c->max = max;
    cohorti_mutex_init(&c->lock);
    cohorti_map_init(&c->entries, alloc);
}

static void entry_unref(struct cohorti_codecs *c, struct entry *e)
{
    if (e != NULL && atomic_fetch_sub(&e->refs, 1) == 1) {
        if (e->codec.ctx_release != NULL) {
            e->codec.ctx_release(e->codec.ctx);
        }
        cohorti_release(c->alloc, e);
    }
}

void cohorti_codecs_deinit(struct cohorti_codecs *c)
{
    struct cohorti_map_node *node;
    while ((node = cohorti_map_any(&c->entries)) != NULL) {
        cohorti_map_remove(&c->entries, node);
        entry_unref(c, (struct entry *)node);
    }
    cohorti_map_deinit(&c->entries);
    cohorti_mutex_deinit(&c->lock);
}

/* With the lock. */
static struct entry *find(struct cohorti_codecs *c, const char *key)
{
    uint64_t hash = cohorti_hash_bytes(key, strlen(key));
    struct cohorti_map_node *node = cohorti_map_find(&c->entries, hash);
    while (node != NULL && strcmp(((struct entry *)node)->key, key) != 0) {
        node = cohorti_map_find_next(node, hash);
    }
    return (struct entry *)node;
}

/* The codec of a subject, else that of all others, with a reference; NULL when there is none. */
static struct entry *codec_of(struct cohorti_codecs *c, const char *key)
{
    cohorti_mutex_lock(&c->lock);
    struct entry *e = find(c, key);
    if (e == NULL) {
        e = find(c, COHORTI_KEY_DEFAULT);
    }
    if (e != NULL) {
        atomic_fetch_add(&e->refs, 1);
    }
    cohorti_mutex_unlock(&c->lock);
    return e;
}

/* The one spelling of a subject: "#4294967295" is "#-1", as messages have it. */
static int key_of(const char *subject, char key[KEY_BYTES])
{
    uint32_t type = 0;
    if (subject == NULL) {
        snprintf(key, KEY_BYTES, "%s", COHORTI_KEY_DEFAULT);
    } else if (cohorti_subject_raw(subject, strlen(subject), &type)) {
        if (type == COHORT_TYPE_HELLO || type == COHORT_TYPE_ECHO) {
            return COHORT_EINVAL;
        }
        snprintf(key, KEY_BYTES, "#%d", (int)type);
    } else if (cohorti_subject_valid(subject, strlen(subject))) {
        snprintf(key, KEY_BYTES, "%s", subject);
    } else {
        return COHORT_EINVAL;
    }
    return COHORT_OK;
}

/* Put `e` (NULL: nothing) in the place of what is there; *old is the caller's to unref. */
static int replace(struct cohorti_codecs *c, const char *key, struct entry *e, struct entry **old)
{
    int status = COHORT_OK;
    cohorti_mutex_lock(&c->lock);
    *old = find(c, key);
    if (e != NULL && *old == NULL && c->entries.count >= c->max) {
        status = COHORT_ELIMIT;
    } else {
        if (*old != NULL) {
            cohorti_map_remove(&c->entries, &(*old)->node);
        }
        if (e != NULL) {
            cohorti_map_insert(&c->entries, &e->node, cohorti_hash_bytes(key, strlen(key)));
        }
    }
    cohorti_mutex_unlock(&c->lock);
    return status;
}

int cohort_codec_set(cohort_node *node, const char *subject, const cohort_codec *codec)
{
    char key[KEY_BYTES];
    if (key_of(subject, key) != COHORT_OK || (codec != NULL && codec->encode == NULL && codec->decode == NULL)) {
        return COHORT_EINVAL;
    }
    struct entry *e = NULL, *old = NULL;
    if (codec != NULL) {
        e = cohorti_alloc_zero(&node->alloc, sizeof *e);
        if (e == NULL) {
            return COHORT_ENOMEM;
        }
        atomic_init(&e->refs, 1);
        e->codec = *codec;
        memcpy(e->key, key, sizeof e->key);
    }
    int status = replace(&node->codecs, key, e, &old);
    if (status != COHORT_OK) {
        cohorti_release(&node->alloc, e);
        return status;
    }
    entry_unref(&node->codecs, old);
    return COHORT_OK;
}

/* ---- encoding ------------------------------------------------------------------------------------------------------ */

int cohort_buffer_extend(cohort_buffer *buffer, size_t len, void **room)
{
    uint8_t *at = NULL;
    *room = NULL;
    if (buffer->failed != COHORT_OK) {
        return buffer->failed;
    }
    int status = cohorti_buffer_reserve(&buffer->bytes, len, &at);
    if (status != COHORT_OK) {
        buffer->failed = status == COHORT_EAGAIN ? COHORT_ESIZE : status;
        return buffer->failed;
    }
    cohorti_buffer_commit(&buffer->bytes, len);
    *room = at;
    return COHORT_OK;
}

int cohort_buffer_append(cohort_buffer *buffer, const void *bytes, size_t len)
{
    void *room = NULL;
    int status = cohort_buffer_extend(buffer, len, &room);
    if (status == COHORT_OK && len > 0) {
        memcpy(room, bytes, len);
    }
    return status;
}

size_t cohort_buffer_len(const cohort_buffer *buffer)
{
    return cohorti_buffer_len(&buffer->bytes);
}

static int encode(cohort_node *node, const char *subject, const void *object, cohort_buffer *out)
{
    char key[KEY_BYTES];
    if (subject == NULL || key_of(subject, key) != COHORT_OK) {
        return COHORT_EINVAL;
    }
    struct entry *e = codec_of(&node->codecs, key);
    int status = COHORT_ESTATE;
    if (e != NULL && e->codec.encode != NULL) {
        status = e->codec.encode(e->codec.ctx, key, object, out) == COHORT_OK ? COHORT_OK : COHORT_ECODEC;
        if (out->failed != COHORT_OK) {
            status = out->failed;
        }
    }
    entry_unref(&node->codecs, e);
    return status;
}

static void buffer_init(cohort_buffer *buffer, const cohort_node *node)
{
    size_t limit = node->limits.message_bytes_max;
    cohorti_buffer_init(&buffer->bytes, &node->alloc, limit > COHORT_FRAME_LEGACY_BYTES_MAX ? limit : COHORT_FRAME_LEGACY_BYTES_MAX);
    buffer->failed = COHORT_OK;
}

int cohort_send_object(cohort_node *node, const char *id, const char *subject, const void *object)
{
    cohort_buffer buffer;
    buffer_init(&buffer, node);
    int status = encode(node, subject, object, &buffer);
    if (status == COHORT_OK) {
        status = cohort_send(node, id, subject, cohorti_buffer_data(&buffer.bytes), cohorti_buffer_len(&buffer.bytes));
    }
    cohorti_buffer_deinit(&buffer.bytes);
    return status;
}

int cohort_broadcast_object(cohort_node *node, const char *subject, const void *object, size_t *sent)
{
    cohort_buffer buffer;
    if (sent != NULL) {
        *sent = 0;
    }
    buffer_init(&buffer, node);
    int status = encode(node, subject, object, &buffer);
    if (status == COHORT_OK) {
        status = cohort_broadcast(node, subject, cohorti_buffer_data(&buffer.bytes), cohorti_buffer_len(&buffer.bytes), sent);
    }
    cohorti_buffer_deinit(&buffer.bytes);
    return status;
}

/* ---- decoding ------------------------------------------------------------------------------------------------------ */

/* Whether to log a failure now; *unlogged are those since the last line. */
static bool may_log(cohort_node *node, struct binding *b, uint64_t *unlogged)
{
    uint64_t now_ns = cohorti_now(node);
    cohorti_mutex_lock(&node->codecs.lock);
    bool now = b->logged_ns == 0 || now_ns - b->logged_ns >= LOG_PAUSE_NS;
    *unlogged = b->unlogged;
    b->unlogged = now ? 0 : b->unlogged + 1;
    b->logged_ns = now ? now_ns : b->logged_ns;
    cohorti_mutex_unlock(&node->codecs.lock);
    return now;
}

static void failed(cohort_node *node, struct binding *b, const cohort_message *message, cohort_error *error)
{
    uint64_t unlogged = 0;
    atomic_fetch_add(&node->codecs.failures, 1);
    if (!may_log(node, b, &unlogged)) {
        return;
    }
    char more[64] = "";
    if (unlogged > 0) {
        snprintf(more, sizeof more, " (and %" PRIu64 " others since the last line)", unlogged);
    }
    error->text[sizeof error->text - 1] = '\0';
    for (char *c = error->text; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f) {
            *c = '?'; /* one line, whatever the codec quoted of the peer's bytes */
        }
    }
    cohorti_log(node, COHORT_LOG_WARN, "codec", message->from, COHORT_ECODEC, "%s: %zu bytes not decoded: %s%s", message->subject,
                message->data_len, error->text[0] == '\0' ? "refused by the codec" : error->text, more);
}

static void on_message(cohort_node *node, const cohort_message *message, void *arg)
{
    struct binding *b = arg;
    cohort_error error = {0};
    void *object = NULL;
    struct entry *e = codec_of(&node->codecs, message->subject);
    if (e == NULL || e->codec.decode == NULL) {
        snprintf(error.text, sizeof error.text, "the subject has no codec");
        failed(node, b, message, &error);
    } else if (e->codec.decode(e->codec.ctx, message, &object, &error) != COHORT_OK) {
        failed(node, b, message, &error);
    } else {
        b->fn(node, message, &object, b->arg);
        if (object != NULL && e->codec.release != NULL) {
            e->codec.release(e->codec.ctx, object);
        }
    }
    entry_unref(&node->codecs, e);
}

static void release_binding(void *arg)
{
    struct binding *b = arg;
    if (b->release != NULL) {
        b->release(b->arg);
    }
    cohorti_release(b->alloc, b);
}

static bool has_decoder(cohort_node *node, const char *key)
{
    struct entry *e = codec_of(&node->codecs, key);
    bool has = e != NULL && e->codec.decode != NULL;
    entry_unref(&node->codecs, e);
    return has;
}

int cohort_handle_object(cohort_node *node, const char *subject, cohort_object_fn fn, void *arg, cohort_release_fn release,
                         cohort_handle_id *out)
{
    char key[KEY_BYTES];
    if (fn == NULL || key_of(subject, key) != COHORT_OK) {
        return COHORT_EINVAL;
    }
    if (subject != NULL && !has_decoder(node, key)) {
        return COHORT_ESTATE;
    }
    struct binding *b = cohorti_alloc_zero(&node->alloc, sizeof *b);
    if (b == NULL) {
        return COHORT_ENOMEM;
    }
    *b = (struct binding){.alloc = &node->alloc, .fn = fn, .arg = arg, .release = release};
    int status = cohort_handle(node, subject, on_message, b, release_binding, out);
    if (status != COHORT_OK) {
        cohorti_release(&node->alloc, b);
    }
    return status;
}
