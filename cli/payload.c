/* SPDX-License-Identifier: Apache-2.0
 *
 * The bytes of a message in JSON; see payload.h.
 */
#include "payload.h"

#include "table.h"

#include <stdlib.h>
#include <string.h>

static int sextet(char c)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c != '\0' ? strchr(alphabet, c) : NULL;
    return at != NULL ? (int)(at - alphabet) : -1;
}

static bool decode(const char *text, struct input *out)
{
    unsigned held = 0;
    int bits = 0;
    for (; *text != '\0' && *text != '='; text++) {
        int value = sextet(*text);
        if (value < 0) {
            return false;
        }
        held = (held << 6 | (unsigned)value) & 0xffff;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out->bytes[out->len++] = (char)(held >> bits & 0xff);
        }
    }
    return true;
}

bool payload_take(const json_t *item, struct input *out)
{
    const json_t *text = json_object_get(item, "data");
    const json_t *encoded = json_object_get(item, "data_base64");
    const json_t *from = text != NULL ? text : encoded;
    *out = (struct input){.bytes = json_is_string(from) ? malloc(json_string_length(from) + 1) : NULL};
    if (out->bytes == NULL) {
        return false;
    }
    if (text == NULL) {
        return decode(json_string_value(encoded), out);
    }
    out->len = json_string_length(text);
    memcpy(out->bytes, json_string_value(text), out->len);
    return true;
}

void payload_print(const json_t *item, FILE *out)
{
    const json_t *data = json_object_get(item, "data");
    const char *encoded = json_string_value(json_object_get(item, "data_base64"));
    if (data != NULL) {
        print_visible(json_string_value(data), json_string_length(data), out);
    } else {
        fprintf(out, "base64:%s", encoded != NULL ? encoded : "");
    }
}
