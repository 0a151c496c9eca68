#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every public header compiles alone, twice over, in strict C11 and in C++17."""
import os
import shutil
import subprocess
import tempfile
import unittest

SOURCE = os.environ.get("SOURCE_DIR") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
INCLUDE = os.path.join(SOURCE, "include")
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wundef", "-Werror"]
C = [os.environ.get("CC") or "cc", "-std=c11", *WARNINGS, "-Wstrict-prototypes", "-x", "c"]
CXX = [os.environ.get("CXX") or "c++", "-std=c++17", *WARNINGS, "-x", "c++"]


def headers():
    return sorted(os.path.join("cohort", name) for name in os.listdir(os.path.join(INCLUDE, "cohort")) if name.endswith(".h"))


class HeadersTest(unittest.TestCase):
    def compile(self, compiler, text):
        with tempfile.TemporaryDirectory() as directory:
            p = subprocess.run([*compiler, "-I", INCLUDE, "-c", "-o", os.path.join(directory, "x.o"), "-"], input=text.encode(),
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        self.assertEqual(p.returncode, 0, p.stdout.decode(errors="replace"))

    def each(self, compiler):
        self.assertTrue(headers())
        for header in headers():
            with self.subTest(header=header):
                self.compile(compiler, "#include <%s>\n#include <%s>\nint x(void);\nint x(void) { return 0; }\n" % (header, header))
        self.compile(compiler, "".join("#include <%s>\n" % h for h in reversed(headers())) + "extern int y;\n")

    def test_c11(self):
        self.each(C)

    @unittest.skipUnless(shutil.which(CXX[0]), "no C++ compiler")
    def test_cxx17(self):
        self.each(CXX)

    def test_readme_shows_the_example(self):
        """The README's code is examples/hello.c, without its first comment."""
        with open(os.path.join(SOURCE, "examples", "hello.c"), encoding="utf-8") as f:
            code = f.read().split("*/\n", 1)[1]
        with open(os.path.join(SOURCE, "README.md"), encoding="utf-8") as f:
            self.assertIn("```c\n" + code + "```\n", f.read())


if __name__ == "__main__":
    unittest.main(verbosity=2)
