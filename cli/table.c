/* SPDX-License-Identifier: Apache-2.0
 *
 * Output for people; see table.h.
 */
#include "table.h"

#include <stdbool.h>
#include <string.h>

enum {
    COLUMNS = 6
};

struct row {
    const char *cells[COLUMNS];
    char address[300];
    char incarnation[32];
};

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "?";
}

static void fill_row(struct row *row, const json_t *member)
{
    const char *ip = text_of(member, "ip");
    json_int_t incarnation = json_integer_value(json_object_get(member, "incarnation"));
    bool is_v6 = strchr(ip, ':') != NULL;
    snprintf(row->address, sizeof(row->address), "%s%s%s:%" JSON_INTEGER_FORMAT, is_v6 ? "[" : "", ip, is_v6 ? "]" : "",
             json_integer_value(json_object_get(member, "tcpPort")));
    snprintf(row->incarnation, sizeof(row->incarnation), "%" JSON_INTEGER_FORMAT, incarnation);
    row->cells[0] = text_of(member, "id");
    row->cells[1] = row->address;
    row->cells[2] = text_of(member, "state");
    row->cells[3] = incarnation != 0 ? row->incarnation : "-";
    row->cells[4] = json_is_true(json_object_get(member, "local")) ? "local" : "";
    row->cells[5] = json_is_true(json_object_get(member, "legacy")) ? "legacy" : "";
}

static void measure(const struct row *row, int widths[COLUMNS])
{
    for (int i = 0; i < COLUMNS; i++) {
        int len = (int)strlen(row->cells[i]);
        widths[i] = len > widths[i] ? len : widths[i];
    }
}

static void print_row(const struct row *row, const int widths[COLUMNS], FILE *out)
{
    int last = COLUMNS - 1;
    while (last > 0 && row->cells[last][0] == '\0') {
        last--;
    }
    for (int i = 0; i < last; i++) {
        fprintf(out, "%-*s  ", widths[i], row->cells[i]);
    }
    fprintf(out, "%s\n", row->cells[last]);
}

void table_members(const json_t *root, FILE *out)
{
    const struct row heading = {.cells = {"ID", "ADDRESS", "STATE", "INCARNATION", "", ""}};
    const json_t *members = json_object_get(root, "members");
    int widths[COLUMNS] = {0};
    struct row row;
    measure(&heading, widths);
    for (size_t i = 0; i < json_array_size(members); i++) {
        fill_row(&row, json_array_get(members, i));
        measure(&row, widths);
    }
    print_row(&heading, widths, out);
    for (size_t i = 0; i < json_array_size(members); i++) {
        fill_row(&row, json_array_get(members, i));
        print_row(&row, widths, out);
    }
}

/* ---- traffic ---- */

enum {
    TRAFFIC_COLUMNS = 8
};

struct traffic_row {
    char cells[TRAFFIC_COLUMNS][72];
};

static void fill_traffic(struct traffic_row *row, const char *name, const json_t *counters)
{
    static const char *const keys[] = {"bytes_in_per_s", "bytes_out_per_s", "frames_in_per_s", "frames_out_per_s",
                                       "bytes_in",       "bytes_out",       "queued_bytes"};
    snprintf(row->cells[0], sizeof(row->cells[0]), "%s", name);
    for (int i = 1; i < TRAFFIC_COLUMNS; i++) {
        const json_t *value = json_object_get(counters, keys[i - 1]);
        snprintf(row->cells[i], sizeof(row->cells[i]), value != NULL ? "%" JSON_INTEGER_FORMAT : "-", json_integer_value(value));
    }
}

static void measure_traffic(const struct traffic_row *row, int widths[TRAFFIC_COLUMNS])
{
    for (int i = 0; i < TRAFFIC_COLUMNS; i++) {
        int len = (int)strlen(row->cells[i]);
        widths[i] = len > widths[i] ? len : widths[i];
    }
}

static void print_traffic(const struct traffic_row *row, const int widths[TRAFFIC_COLUMNS], FILE *out)
{
    fprintf(out, "%-*s", widths[0], row->cells[0]);
    for (int i = 1; i < TRAFFIC_COLUMNS; i++) {
        fprintf(out, "  %*s", widths[i], row->cells[i]);
    }
    fprintf(out, "\n");
}

void table_traffic(const json_t *root, FILE *out)
{
    const struct traffic_row heading = {
        .cells = {"LINK", "IN B/s", "OUT B/s", "IN FRAMES/s", "OUT FRAMES/s", "IN B", "OUT B", "QUEUED B"}};
    const json_t *node = json_object_get(root, "node");
    const json_t *links = json_object_get(root, "links");
    int widths[TRAFFIC_COLUMNS] = {0};
    struct traffic_row row;
    measure_traffic(&heading, widths);
    for (int pass = 0; pass < 2; pass++) { /* first how wide, then for good */
        if (pass == 1) {
            print_traffic(&heading, widths, out);
        }
        if (node != NULL) {
            fill_traffic(&row, "(node)", node);
            pass == 0 ? measure_traffic(&row, widths) : print_traffic(&row, widths, out);
        }
        for (size_t i = 0; i < json_array_size(links); i++) {
            const json_t *link = json_array_get(links, i);
            fill_traffic(&row, text_of(link, "id"), link);
            pass == 0 ? measure_traffic(&row, widths) : print_traffic(&row, widths, out);
        }
    }
}

void print_visible(const char *text, size_t len, FILE *out)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];
        unsigned char next = i + 1 < len ? (unsigned char)text[i + 1] : 0;
        bool c1 = byte == 0xc2 && next >= 0x80 && next < 0xa0; /* control characters of Latin-1: terminals obey them too */
        if (byte == '\n') {
            fputs("\\n", out);
        } else if (byte == '\t') {
            fputs("\\t", out);
        } else if (byte < 0x20 || byte == 0x7f || c1) {
            fprintf(out, "\\x%02x", c1 ? next : byte);
            i += c1 ? 1 : 0;
        } else {
            fputc(byte, out);
        }
    }
}
