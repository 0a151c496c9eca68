/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's configuration file: any bytes. What is accepted is within the ranges of the table; what is not is told in one printable line
 * that names the file. The walk over the text relies on jansson having accepted it: a disagreement of the two shows as a bad read.
 */
#include "fuzz.h"

#include "settings.h"

#include <stdlib.h>
#include <string.h>

static void check_value(const struct settings *s, enum setting_id id)
{
    const struct setting *setting = &settings_table[id];
    const struct setting_value *value = &s->values[id];
    char text[64];
    setting_print(s, id, text, sizeof(text));
    FUZZ_CHECK(text[0] != '\0');
    if (!value->present || value->origin != ORIGIN_FILE) {
        return;
    }
    switch (setting->kind) {
    case SETTING_NUMBER:
        FUZZ_CHECK(value->number >= setting->min && value->number <= setting->max);
        return;
    case SETTING_FLAG:
        FUZZ_CHECK(value->number <= 1);
        return;
    case SETTING_MODE:
        FUZZ_CHECK((value->number & 0600) == 0600 && value->number <= 0666);
        return;
    case SETTING_CHOICE:
        for (uint64_t i = 0; i <= value->number; i++) {
            FUZZ_CHECK(setting->choices[i] != NULL);
        }
        return;
    case SETTING_TEXT:
    case SETTING_PATH:
        FUZZ_CHECK(value->text != NULL && value->text[0] != '\0');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const char name[] = "dir/agent.conf";
    struct settings settings;
    cohort_error error = {.code = COHORT_OK};
    uint8_t *text = fuzz_copy(data, len);
    settings_init(&settings);
    int status = settings_parse(&settings, name, (const char *)text, len, &error);
    FUZZ_CHECK(status == COHORT_OK || status == COHORT_ESYNTAX || status == COHORT_EINVAL);
    FUZZ_CHECK(error.code == status);
    if (status == COHORT_OK) {
        for (int i = 0; i < SETTING_COUNT; i++) {
            check_value(&settings, (enum setting_id)i);
        }
    } else {
        FUZZ_CHECK(strncmp(error.text, name, sizeof(name) - 1) == 0 && error.text[sizeof(name) - 1] == ':');
        for (const char *c = error.text; *c != '\0'; c++) {
            FUZZ_CHECK((unsigned char)*c >= 0x20 && *c != 0x7f);
        }
    }
    settings_free(&settings);
    free(text);
    return 0;
}
