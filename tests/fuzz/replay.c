/* SPDX-License-Identifier: Apache-2.0
 *
 * replay FILE-OR-DIRECTORY...: run a fuzz target over recorded inputs, in builds without libFuzzer. A directory that is not there
 * counts as empty. The name of an input is printed before it runs when FUZZ_VERBOSE is set, and the number of inputs at the end.
 */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_BYTES_MAX (4u << 20)

static size_t inputs;

static bool run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return false;
    }
    uint8_t *whole = malloc(INPUT_BYTES_MAX);
    FUZZ_CHECK(whole != NULL);
    size_t len = fread(whole, 1, INPUT_BYTES_MAX, file);
    (void)fclose(file);
    if (getenv("FUZZ_VERBOSE") != NULL) {
        (void)fprintf(stderr, "%s\n", path);
    }
    uint8_t *exact = fuzz_copy(whole, len);
    free(whole);
    (void)LLVMFuzzerTestOneInput(exact, len);
    free(exact);
    inputs++;
    return true;
}

static bool run(const char *path)
{
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, NULL, alphasort);
    if (count < 0) {
        return errno == ENOTDIR ? run_file(path) : errno == ENOENT;
    }
    bool ok = true;
    for (int i = 0; i < count; i++) {
        char name[4096];
        if (entries[i]->d_name[0] != '.') {
            (void)snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
            ok = run(name) && ok;
        }
        free(entries[i]);
    }
    free(entries);
    return ok;
}

int main(int argc, char **argv)
{
    bool ok = true;
    for (int i = 1; i < argc; i++) {
        ok = run(argv[i]) && ok;
    }
    printf("%zu inputs\n", inputs);
    return ok && inputs > 0 ? 0 : 1;
}
