#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What decides may not reach the outside: no clock, socket, thread, malloc or stdio in base, wire and core.

usage: test_symbols.py NM ARCHIVE...

Lists the undefined symbols of the archives and fails on any that none of them defines and that is not in the list below. The
list holds what computes on memory it is given, and what compilers and sanitizers add by themselves.
"""
import re
import subprocess
import sys

ALLOWED = {"memcpy", "memmove", "memset", "memcmp", "memchr", "strlen", "strcmp", "strncmp", "strchr",
           "bcmp",  # what clang makes of a memcmp() that is only compared with 0
           "__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_", "__assert_fail"}
# Sanitizers and coverage; the fortified forms of the functions above; arithmetic that small processors leave to the compiler.
ALLOWED_PATTERNS = re.compile(r"__(asan|ubsan|tsan|msan|hwasan|lsan|sancov|sanitizer|gcov|llvm|profd?)_.*"
                              r"|__(mem(cpy|move|set))_chk|_?__(aeabi_|u?div|u?mod)\w*|__start_.*|__stop_.*")


def symbols(nm, archive, option):
    """[(object, symbol)] of an archive, thin or not."""
    out = subprocess.run([nm, "-P", option, archive], check=True, capture_output=True, text=True).stdout
    found, member = [], archive
    for line in out.splitlines():
        if line.endswith(":"):
            member = line[:-1]
        elif line:
            found.append((member, line.split()[0]))
    return found


def main():
    nm, archives = sys.argv[1], sys.argv[2:]
    if not archives:
        sys.exit("usage: test_symbols.py NM ARCHIVE...")
    defined = {symbol for archive in archives for _, symbol in symbols(nm, archive, "--defined-only")}
    if len(defined) < 20:
        sys.exit(f"only {len(defined)} symbols defined: these archives are not what they should be")
    bad = [(member, symbol) for archive in archives for member, symbol in symbols(nm, archive, "--undefined-only")
           if symbol not in defined and symbol not in ALLOWED and not ALLOWED_PATTERNS.fullmatch(symbol)]
    for member, symbol in bad:
        print(f"{member}: {symbol} is not for this layer")
    print(f"{len(archives)} archives, {len(defined)} symbols defined, {len(bad)} that reach outside")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
