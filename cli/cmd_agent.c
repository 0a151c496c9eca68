/* SPDX-License-Identifier: Apache-2.0
 *
 * cohort agent: its options are the rows of the table of settings that have one; reads the command line and runs the agent.
 */
#include "commands.h"
#include "options.h"

#include "agent.h"

#include <stdio.h>
#include <string.h>

static const struct usage usage = {
    .command = "agent",
    .operands = "",
    .summary =
        "Run a node of a cluster in the foreground, and serve it on a control socket, until SIGTERM or SIGINT. SIGHUP reads the\n"
        "configuration file and the cluster definition again.",
    .notes = "The ip is that of --ip, else $COHORT_IP, else 127.0.1.1. The id is the ip unless --id gives one. If the definition\n"
             "has a node with that id, its ip and port are used unless --ip or --port gives others. An option wins over the\n"
             "configuration file, which wins over the environment; see cohort-agent(8) and cohort.conf(5).",
};

/* What the command line said of each setting; untouched values are these. */
struct answers {
    const char *config_path;
    const char *texts[SETTING_COUNT];
    uint64_t numbers[SETTING_COUNT];
    int choices[SETTING_COUNT];
    bool flags[SETTING_COUNT];
};

static struct option option_of(enum setting_id id, struct answers *answers)
{
    const struct setting *setting = &settings_table[id];
    struct option option = {.name = setting->flag,
                            .value = setting->value,
                            .help = setting->help,
                            .min = setting->min,
                            .max = setting->max,
                            .choices = setting->choices};
    switch (setting->kind) {
    case SETTING_NUMBER:
        option.kind = OPTION_NUMBER;
        option.target = &answers->numbers[id];
        break;
    case SETTING_CHOICE:
        option.kind = OPTION_CHOICE;
        option.target = &answers->choices[id];
        break;
    case SETTING_FLAG:
        option.kind = OPTION_FLAG;
        option.target = &answers->flags[id];
        break;
    case SETTING_TEXT:
    case SETTING_PATH:
    case SETTING_MODE:
        option.kind = OPTION_TEXT;
        option.target = &answers->texts[id];
        break;
    }
    return option;
}

static void fill_options(struct option options[SETTING_COUNT + 2], struct answers *answers)
{
    int count = 0;
    memset(answers, 0, sizeof(*answers));
    options[count++] = (struct option){.name = "config",
                                       .kind = OPTION_TEXT,
                                       .value = "FILE",
                                       .target = &answers->config_path,
                                       .help = "configuration file, JSON; see cohort.conf(5)"};
    for (int i = 0; i < SETTING_COUNT; i++) {
        answers->numbers[i] = UINT64_MAX;
        answers->choices[i] = -1;
        if (settings_table[i].flag != NULL) {
            options[count++] = option_of((enum setting_id)i, answers);
        }
    }
    options[count] = (struct option){.name = NULL};
}

/* EXIT_FINE, or what to exit with. */
static int take_text(struct settings *given, enum setting_id id, const char *text)
{
    uint64_t mode;
    if (settings_table[id].kind == SETTING_MODE) {
        if (!setting_mode_parse(text, &mode)) {
            fprintf(stderr, "cohort agent: --%s: '%s' is not permissions like 0660\nTry 'cohort agent --help'.\n",
                    settings_table[id].flag, text);
            return EXIT_USAGE;
        }
        settings_set_number(given, id, ORIGIN_FLAG, mode);
        return EXIT_FINE;
    }
    if (settings_set_text(given, id, ORIGIN_FLAG, text) != COHORT_OK) {
        fprintf(stderr, "cohort agent: out of memory\n");
        return EXIT_FAILED;
    }
    return EXIT_FINE;
}

static int take_answers(struct settings *given, const struct answers *answers)
{
    int code = EXIT_FINE;
    for (int i = 0; i < SETTING_COUNT && code == EXIT_FINE; i++) {
        enum setting_id id = (enum setting_id)i;
        if (answers->texts[i] != NULL) {
            code = take_text(given, id, answers->texts[i]);
        } else if (answers->numbers[i] != UINT64_MAX) {
            settings_set_number(given, id, ORIGIN_FLAG, answers->numbers[i]);
        } else if (answers->choices[i] >= 0) {
            settings_set_number(given, id, ORIGIN_FLAG, (uint64_t)answers->choices[i]);
        } else if (answers->flags[i]) {
            settings_set_number(given, id, ORIGIN_FLAG, 1);
        }
    }
    return code;
}

int command_agent(int argc, char **argv)
{
    struct answers answers;
    struct option options[SETTING_COUNT + 2];
    const char *operands[OPERANDS_MAX];
    int code;
    fill_options(options, &answers);
    if (!options_parse(&usage, options, argc, argv, operands, &code)) {
        return code;
    }
    struct agent_options agent = {.config_path = answers.config_path};
    code = take_answers(&agent.given, &answers);
    if (code == EXIT_FINE) {
        code = agent_run(&agent);
    }
    settings_free(&agent.given);
    return code;
}
