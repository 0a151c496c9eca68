#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docs/limits.md against the code: every field of cohort_limits has its row, and every row's key or constant exists with that value.

usage: test_limits.py SOURCE_ROOT
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(sys.argv[1])
ROW = re.compile(r"^\| `([\w.]+)` \| ([^|]+) \|(?: ([^|]+) \|)?", re.MULTILINE)


def number(text):
    """Value of an integer expression of C."""
    text = re.sub(r"\([\w ]+\)(?=\d)|(?<=[0-9A-Fa-f])[uUlL]+\b|/\*.*?\*/", "", text).strip()
    text = re.sub(r"U?INT\d+_C\((\w+)\)", r"\1", text)
    text = text.replace("UINT32_MAX", "4294967295").replace("UINT16_MAX", "65535")
    if not re.fullmatch(r"[\d\s*+()<>x-]+", text):
        raise ValueError("not a number: %r" % text)
    return eval(text)  # pylint: disable=eval-used


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def fields():
    body = re.search(r"typedef struct cohort_limits \{(.*?)\} cohort_limits;", read("include/cohort/cohort.h"), re.S).group(1)
    return re.findall(r"\buint\d+_t (\w+);", body)


def defaults():
    text = read("src/node/config.c")
    found = {"limits." + k: number(v) for k, v in re.findall(r"\.(\w+) = ([^,{}]+)[,}]", re.search(r"\.limits = \{(.*?\})", text, re.S).group(1))}
    found.update({"dial." + k: v for k, v in re.findall(r"\.(\w+) = ([^,{}]+)[,}]", re.search(r"\.dial = \{(.*?\})", text, re.S).group(1))})
    for key in ("loop_count", "look_us"):
        found[key] = number(re.search(r"\.%s = (\d+)" % key, text).group(1))
    return {k: number(v) if isinstance(v, str) and v.isdigit() else v for k, v in found.items()}


def ranges():
    rows = re.findall(r'\{"([\w.]+)", [^,]+, ([^,]+), ([^}]+)\}', read("src/node/config.c"))
    return {key: (low, high) for key, low, high in rows}


def constants():
    found = {}
    for path in sorted(ROOT.glob("src/**/*.[ch]")) + sorted(ROOT.glob("include/**/*.h")) + sorted(ROOT.glob("agent/*.[ch]")):
        for name, value in re.findall(r"^(?:#define |    )([A-Z][A-Z0-9_]+)(?: = | )([^/,\n]+)", path.read_text(encoding="utf-8"), re.M):
            found.setdefault(name, value)
    return found


def main():
    wrong = []
    rows = {m.group(1): m.groups()[1:] for m in ROW.finditer(read("docs/limits.md"))}
    have_default, have_range, have_constant = defaults(), ranges(), constants()
    for field in fields():
        if "limits." + field not in rows:
            wrong.append("cohort_limits.%s has no row" % field)
    for key, (value, span) in rows.items():
        if key.isupper():
            if key not in have_constant or number(have_constant[key]) != int(value):
                wrong.append("%s = %s: the code has %s" % (key, value, have_constant.get(key)))
            continue
        if have_default.get(key) != int(value):
            wrong.append("%s: default %s, the code has %s" % (key, value, have_default.get(key)))
        if key not in have_range:
            wrong.append("%s: config.c checks no such field" % key)
            continue
        low, high = span.split("..")
        code_low, code_high = have_range[key]
        if (number(code_low), number(code_high)) != (int(low), int(high)):
            wrong.append("%s: range %s, the code has %s..%s" % (key, span, code_low, code_high))
    if len(rows) < 30 or len(fields()) < 10:
        wrong.append("hardly anything was found: the test does not read its sources any more")
    for line in wrong:
        print("docs/limits.md: " + line)
    sys.exit(1 if wrong else 0)


main()
