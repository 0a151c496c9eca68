/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration in effect; see effective.h.
 */
#include "effective.h"

#include <string.h>

void effective_init(struct effective *e, const char *file)
{
    memset(e, 0, sizeof(*e));
    e->file = file;
    pthread_mutex_init(&e->lock, NULL);
}

void effective_deinit(struct effective *e)
{
    settings_free(&e->running);
    settings_free(&e->wanted);
    pthread_mutex_destroy(&e->lock);
}

int effective_start(struct effective *e, const struct settings *s)
{
    pthread_mutex_lock(&e->lock);
    int status = settings_overlay(&e->running, s);
    status = status == COHORT_OK ? settings_overlay(&e->wanted, s) : status;
    pthread_mutex_unlock(&e->lock);
    return status;
}

static void value(struct writer *w, const char *key, const struct settings *s, enum setting_id id)
{
    const struct setting_value *v = &s->values[id];
    const struct setting *setting = &settings_table[id];
    char text[32];
    writer_key(w, key);
    if (!v->present) {
        w->comma = false;
        writer_text(w, "null");
        w->comma = true;
    } else if (v->text != NULL) {
        writer_string(w, v->text);
    } else if (setting->kind == SETTING_FLAG) {
        writer_bool(w, v->number != 0);
    } else if (setting->kind == SETTING_NUMBER) {
        writer_uint(w, v->number);
    } else {
        setting_print(s, id, text, sizeof(text));
        writer_string(w, text);
    }
}

void effective_document(struct effective *e, struct writer *w)
{
    pthread_mutex_lock(&e->lock);
    writer_begin(w, '{');
    writer_key(w, "file");
    if (e->file != NULL) {
        writer_string(w, e->file);
    } else {
        writer_text(w, "null");
        w->comma = true;
    }
    writer_key(w, "settings");
    writer_begin(w, '[');
    for (int i = 0; i < SETTING_COUNT; i++) {
        enum setting_id id = (enum setting_id)i;
        writer_begin(w, '{');
        writer_key_string(w, "key", settings_table[i].key);
        value(w, "value", &e->running, id);
        writer_key_string(w, "from", setting_origin_name(e->running.values[i].origin));
        writer_key_bool(w, "reload", settings_table[i].live);
        if (!settings_equal(&e->running, &e->wanted, id)) {
            value(w, "restart_for", &e->wanted, id);
        }
        writer_end(w, '}');
    }
    writer_end(w, ']');
    writer_end(w, '}');
    pthread_mutex_unlock(&e->lock);
}
