/* SPDX-License-Identifier: Apache-2.0
 *
 * Objects instead of bytes: a codec for a subject, and sending and handling what it encodes and decodes.
 *
 * cohort knows no data format. A codec of yours stands between your objects and the bytes of a message: JSON, MessagePack,
 * Protocol Buffers, or plain structs written field by field. What goes over the wire is an ordinary message of the subject, so a
 * member without the codec can send and handle it as bytes. docs/codecs.md is the guide, examples/codec_msgpack.c a whole program.
 */
#ifndef COHORT_CODEC_H
#define COHORT_CODEC_H

#include <cohort/cohort.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Bytes under construction, in memory of the library that grows as needed up to the largest message. Given to an encoder for
 * the time of the call. */
typedef struct cohort_buffer cohort_buffer;

/**
 * Append a copy of `len` bytes.
 *
 *   COHORT_ESIZE   the message would be larger than limits.message_bytes_max (never below COHORT_FRAME_LEGACY_BYTES_MAX).
 *   COHORT_ENOMEM  out of memory.
 *
 * After a failure the buffer stays as it was, takes nothing more, and the send fails with that code: an encoder may ignore the
 * result and go on to its end.
 */
COHORT_API int cohort_buffer_append(cohort_buffer *buffer, const void *bytes, size_t len);

/** Append `len` bytes that are yours to write, at *room, before the next call on the buffer. Fails as cohort_buffer_append(), with
 * *room NULL. */
COHORT_API COHORT_NODISCARD int cohort_buffer_extend(cohort_buffer *buffer, size_t len, void **room);

/** Number of bytes so far. */
COHORT_API size_t cohort_buffer_len(const cohort_buffer *buffer);

/**
 * How objects of a subject become bytes and bytes become objects.
 *
 * The functions are called from any thread, several at once, with no lock held; they must not block, and may call any function of
 * the node that a message handler may. `subject` is there for a codec that serves several.
 */
typedef struct cohort_codec {
    /** Write `object` into `out`. COHORT_OK, or any other value to refuse: nothing is sent then. NULL: the subject is only received. */
    int (*encode)(void *ctx, const char *subject, const void *object, cohort_buffer *out);

    /**
     * Make an object of the message and set *object: any pointer, NULL too. COHORT_OK, or any other value when the bytes are
     * not what they should be; then nothing may be left allocated, and error->text, if set, says why in the log. They come from
     * another machine: check every length. NULL: the subject is only sent.
     */
    int (*decode)(void *ctx, const cohort_message *message, void **object, cohort_error *error);

    /** Free what `decode` made, once per object that no handler kept. NULL: there is nothing to free. */
    void (*release)(void *ctx, void *object);

    void *ctx;                     /* given to the functions above */
    cohort_release_fn ctx_release; /* called once with ctx, when the codec was replaced or the node closed and no call runs. NULL: none */
} cohort_codec;

/**
 * Set the codec of a subject, or replace it: messages whose handling has begun finish with the old one.
 *
 * subject   as in cohort_handle(). NULL: the codec of every subject that has none of its own.
 * codec     copied. NULL: take the codec away.
 *
 *   COHORT_EINVAL  not a subject name, a type that belongs to the protocol, or neither encode nor decode.
 *   COHORT_ELIMIT  limits.handlers_max subjects have codecs.
 *   COHORT_ENOMEM. After a failure the old codec stays, and ctx_release of the new one is not called.
 *
 * Thread: any, callbacks included.
 */
COHORT_API COHORT_NODISCARD int cohort_codec_set(cohort_node *node, const char *subject, const cohort_codec *codec);

/**
 * Encode `object` with the codec of the subject and cohort_send() the bytes.
 *
 * object   given to `encode` as it is, and not used after return.
 *
 *   COHORT_ECODEC  the codec refused the object. Nothing was sent.
 *   COHORT_ESTATE  the subject has no codec that encodes. Set one.
 *   COHORT_ESIZE   the encoded object is larger than a message may be.
 *   All that cohort_send() returns.
 *
 * Thread: any. Runs `encode` in the calling thread; else it does not block.
 */
COHORT_API COHORT_NODISCARD int cohort_send_object(cohort_node *node, const char *id, const char *subject, const void *object);

/** Encode once and cohort_broadcast() the bytes. Errors as cohort_send_object() and cohort_broadcast(). */
COHORT_API COHORT_NODISCARD int cohort_broadcast_object(cohort_node *node, const char *subject, const void *object, size_t *sent);

/**
 * Called with the object that the codec made of a message.
 *
 * object   *object is released when the handler returns. Set it to NULL to keep the object; it is then yours to free.
 */
typedef void (*cohort_object_fn)(cohort_node *node, const cohort_message *message, void **object, void *arg);

/**
 * Handle messages of a subject as objects. Otherwise as cohort_handle(): any number of handlers, each with an object of its own,
 * beside handlers that take the bytes; cohort_unhandle() takes it back.
 *
 * A message that cannot be decoded does not reach `fn`. It is counted in decode_failures of cohort_node_stats and logged as a
 * warning with sender, subject and reason (at most one line a second for each handler, with the number of those in between). Nothing else
 * happens: the link stays, other messages and other handlers go on.
 *
 *   COHORT_ESTATE  the subject has no codec that decodes: set it before (not asked of the NULL subject).
 *   COHORT_EINVAL, COHORT_ELIMIT, COHORT_ENOMEM as cohort_handle(): not registered, `release` is not called.
 */
COHORT_API COHORT_NODISCARD int cohort_handle_object(cohort_node *node, const char *subject, cohort_object_fn fn, void *arg,
                                                     cohort_release_fn release, cohort_handle_id *out);

#ifdef __cplusplus
}
#endif
#endif
