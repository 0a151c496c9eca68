#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What Doxygen reads instead of a public header: the same lines, with the plain words of our comments in its markup.

usage: docs/doxygen-filter.py HEADER

Headers are written to be read as they are, so they hold no markup. Here the comment at the top becomes that of the file; a comment
after a declaration becomes that of the member; a line "  COHORT_X  text" or "  name   text" becomes an item; and what
Doxygen would take for a command, a tag or a link is escaped. Lines keep their numbers, so warnings name the right ones.
"""
import re
import sys

ERRORS = re.compile(r"^\s*\*   (COHORT_\w+(?:, COHORT_\w+)*)( +|\.$|$)")
PARAMETER = re.compile(r"^( \* )([a-z_]+(?:\[\])?)(   +)(?=\S)")
TRAILING = re.compile(r"([;,}]\s*)/\* (.*?) ?\*/\s*$")
MACRO = re.compile(r"^(#define \w+(?:\([^)]*\))? +\S.*?)\s+/\* (.*?) \*/\s*$")


def escape(text):
    return re.sub(r"[\\<>@#&%]", lambda m: "\\" + m.group(0), text)


def comment_line(line):
    line = escape(line)
    line = ERRORS.sub(lambda m: " * - %s%s" % (m.group(1), ": " if m.group(2).startswith(" ") else m.group(2)), line)
    return PARAMETER.sub(lambda m: " * - **%s** " % m.group(2), line)


def marked_up(lines):
    inside = False
    first = True
    for line in lines:
        if first and line.startswith("/* SPDX"):
            line = "/** @file"
            inside, first = True, False
        elif not inside and re.match(r"^\s*/\*\*( |$)", line):
            start, rest = line.split("/**", 1)
            ends = "*/" in rest
            line = start + "/**" + escape(rest)
            inside = not ends
        elif inside:
            if "*/" in line:
                inside = False
            line = comment_line(line)
        elif MACRO.match(line):
            line = MACRO.sub(lambda m: "%s /**< %s */" % (m.group(1), escape(m.group(2))), line)
        elif TRAILING.search(line) and not line.lstrip().startswith("X("):
            line = TRAILING.sub(lambda m: "%s/**< %s */" % (m.group(1), escape(m.group(2))), line)
        yield line


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        print("\n".join(marked_up(f.read().split("\n"))), end="")


if __name__ == "__main__":
    main()
