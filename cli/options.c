/* SPDX-License-Identifier: Apache-2.0
 *
 * Command lines by table; see options.h.
 *
 * Why not getopt_long: it prints its own messages in its own form, keeps its state in globals, and knows neither ranges nor
 * choices, so that each command would check and complain for itself.
 */
#include "options.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const lane_names[] = {"normal", "control", "bulk", NULL};

__attribute__((format(printf, 2, 3))) static bool complain(const struct usage *usage, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    fprintf(stderr, "cohort %s: %s\nTry 'cohort %s --help'.\n", usage->command, text, usage->command);
    return false;
}

int options_misuse(const struct usage *usage, const char *why)
{
    (void)complain(usage, "%s", why);
    return EXIT_USAGE;
}

/* The shape is read by the completion scripts: two spaces, letter or blanks, --name, what its value is called, help, [choices]. */
static void print_option(const struct option *option)
{
    char left[96];
    int len = option->letter != 0 ? snprintf(left, sizeof(left), "-%c, --%s", option->letter, option->name)
                                  : snprintf(left, sizeof(left), "    --%s", option->name);
    if (option->kind == OPTION_MAYBE) {
        snprintf(left + len, sizeof(left) - (size_t)len, "[=%s]", option->value);
    } else if (option->kind != OPTION_FLAG) {
        snprintf(left + len, sizeof(left) - (size_t)len, " %s", option->value);
    }
    printf("  %-26s %s", left, option->help);
    for (int i = 0; option->choices != NULL && option->choices[i] != NULL; i++) {
        printf("%s%s", i == 0 ? " [" : "|", option->choices[i]);
    }
    printf("%s\n", option->choices != NULL ? "]" : "");
}

static void print_help(const struct usage *usage, const struct option *options)
{
    printf("Usage: cohort %s [OPTIONS]%s%s\n\n%s\n\nOptions:\n", usage->command, usage->operands[0] != '\0' ? " " : "",
           usage->operands, usage->summary);
    for (const struct option *option = options; option->name != NULL; option++) {
        print_option(option);
    }
    printf("  -h, --help                 print this and exit\n");
    if (usage->notes != NULL) {
        printf("\n%s\n", usage->notes);
    }
}

static bool set_number(const struct usage *usage, const struct option *option, const char *value)
{
    size_t len = strspn(value, "0123456789");
    uint64_t number = len > 0 && len < 19 && value[len] == '\0' ? strtoull(value, NULL, 10) : UINT64_MAX;
    if (number == UINT64_MAX || number < option->min || number > option->max) {
        return complain(usage, "--%s: '%s' is not a number from %llu to %llu", option->name, value, (unsigned long long)option->min,
                        (unsigned long long)option->max);
    }
    *(uint64_t *)option->target = number;
    return true;
}

static bool set_choice(const struct usage *usage, const struct option *option, const char *value)
{
    char all[128];
    size_t len = 0;
    for (int i = 0; option->choices[i] != NULL; i++) {
        if (strcmp(option->choices[i], value) == 0) {
            *(int *)option->target = i;
            return true;
        }
        if (len < sizeof(all)) {
            len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s", i == 0 ? "" : ", ", option->choices[i]);
        }
    }
    return complain(usage, "--%s: '%s' is none of %s", option->name, value, all);
}

static bool set_value(const struct usage *usage, const struct option *option, const char *value)
{
    switch (option->kind) {
    case OPTION_MAYBE:
        if (value == NULL) {
            *(uint64_t *)option->target = option->min;
            return true;
        }
        return set_number(usage, option, value);
    case OPTION_NUMBER:
        return set_number(usage, option, value);
    case OPTION_CHOICE:
        return set_choice(usage, option, value);
    case OPTION_TEXT:
        *(const char **)option->target = value;
        return true;
    case OPTION_FLAG:
        break;
    }
    *(bool *)option->target = true;
    return true;
}

static const struct option *find_long(const struct option *options, const char *name, size_t len)
{
    for (; options->name != NULL; options++) {
        if (strlen(options->name) == len && memcmp(options->name, name, len) == 0) {
            return options;
        }
    }
    return NULL;
}

static const struct option *find_short(const struct option *options, char letter)
{
    for (; options->name != NULL; options++) {
        if (options->letter != 0 && options->letter == letter) {
            return options;
        }
    }
    return NULL;
}

/* One option; `index` moves over the value if that is an argument of its own. */
static bool take_option(const struct usage *usage, const struct option *options, int argc, char **argv, int *index)
{
    const char *argument = argv[*index];
    bool is_long = argument[1] == '-';
    const char *name = argument + (is_long ? 2 : 1);
    size_t len = is_long ? strcspn(name, "=") : 1;
    const struct option *option = is_long ? find_long(options, name, len) : find_short(options, name[0]);
    if (option == NULL) {
        return complain(usage, "unknown option '%s'", argument);
    }
    const char *value = name[len] == '\0' ? NULL : name + len + (is_long ? 1 : 0);
    if (option->kind == OPTION_FLAG) {
        return value == NULL ? set_value(usage, option, NULL) : complain(usage, "--%s takes no value", option->name);
    }
    if (value == NULL && option->kind != OPTION_MAYBE) {
        if (*index + 1 >= argc) {
            return complain(usage, "--%s needs a value, %s", option->name, option->value);
        }
        value = argv[++*index];
    }
    return set_value(usage, option, value);
}

bool options_parse(const struct usage *usage, const struct option *options, int argc, char **argv,
                   const char *operands[OPERANDS_MAX], int *exit_code)
{
    int count = 0;
    bool only_operands = false;
    memset(operands, 0, OPERANDS_MAX * sizeof(operands[0]));
    *exit_code = EXIT_USAGE;
    for (int i = 1; i < argc; i++) {
        const char *argument = argv[i];
        bool is_operand = only_operands || argument[0] != '-' || argument[1] == '\0';
        if (is_operand && count == usage->operands_max) {
            return complain(usage, "unexpected operand '%s'", argument);
        }
        if (is_operand) {
            operands[count++] = argument;
        } else if (strcmp(argument, "--") == 0) {
            only_operands = true;
        } else if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
            print_help(usage, options);
            *exit_code = EXIT_FINE;
            return false;
        } else if (!take_option(usage, options, argc, argv, &i)) {
            return false;
        }
    }
    return count >= usage->operands_min ? true : complain(usage, "needs %s", usage->operands);
}
