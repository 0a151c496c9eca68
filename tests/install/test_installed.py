#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Install into a directory; then be somebody who has only that: pkg-config, the shared library, the static one, the example."""
import glob
import os
import re
import shutil
import unittest

from installed import SOURCE, STRICT, CC, Installed, Process, out


class InstalledTest(Installed):
    def test_files(self):
        for path in ("include/cohort/cohort.h", "include/cohort/definition.h", "include/cohort/error.h", "include/cohort/frame.h",
                     "include/cohort/types.h", "bin/cohort"):
            self.assertTrue(os.path.exists(os.path.join(self.prefix, path)), path)
        for name in ("libcohort.so", "libcohort.so.0", "libcohort.a", "libcohort-sim.so", "libcohort-sim.a"):
            self.assertTrue(os.path.exists(os.path.join(self.lib, name)), name)
        source = {os.path.basename(p) for p in glob.glob(os.path.join(SOURCE, "include", "cohort", "*.h"))}
        self.assertEqual({os.path.basename(p) for p in glob.glob(os.path.join(self.prefix, "include", "cohort", "*"))}, source)

    def test_no_internal_headers_or_paths(self):
        for path in glob.glob(self.root + "/**/*.h", recursive=True) + [self.pc]:
            with open(path, encoding="utf-8") as f:
                text = f.read()
            self.assertNotIn(SOURCE, text, path)
            self.assertNotIn("cohorti_", text, path)

    def test_version(self):
        with open(os.path.join(SOURCE, "VERSION"), encoding="utf-8") as f:
            version = f.read().strip()
        self.assertEqual(self.pkg_config("--modversion"), [version])

    def test_exported_symbols(self):
        symbols = [line.split()[-1].split("@")[0] for line in
                   out("nm", "-D", "--defined-only", os.path.join(self.lib, "libcohort.so")).splitlines() if " A " not in line]
        self.assertTrue(symbols)
        self.assertEqual([s for s in symbols if not s.startswith("cohort_")], [])

    def test_soname_and_symbol_version(self):
        """A program linked today asks for this soname and for symbols of this version, and finds both."""
        for name in ("libcohort", "libcohort-sim"):
            dynamic = out("readelf", "-dW", os.path.join(self.lib, name + ".so"))
            self.assertEqual(re.findall(r"SONAME.*\[(.*)\]", dynamic), [name + ".so.0"])
            self.assertNotRegex(dynamic, "RPATH|RUNPATH|TEXTREL")
            symbols = out("nm", "-D", "--defined-only", "--with-symbol-versions", os.path.join(self.lib, name + ".so"))
            versions = {line.split("@")[-1] for line in symbols.splitlines() if " A " not in line}
            self.assertEqual(versions, {"COHORT_0"}, name)

    def test_exported_symbols_are_the_declared_ones(self):
        """libcohort-sim is the whole library and what sim.h declares."""
        headers = glob.glob(os.path.join(self.prefix, "include", "cohort", "*.h"))
        for library, used in (("libcohort.so", [h for h in headers if not h.endswith("/sim.h")]), ("libcohort-sim.so", headers)):
            declared = set()
            for path in used:
                with open(path, encoding="utf-8") as f:
                    text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
                declared |= set(re.findall(r"(?:COHORT_API|visibility\(\"default\"\)\)\))[^;]*?\b(cohort_\w+)\(", text))
            exported = {line.split()[-1].split("@")[0] for line in
                        out("nm", "-D", "--defined-only", os.path.join(self.lib, library)).splitlines() if " A " not in line}
            self.assertEqual(declared - exported, set(), library + ": declared, not defined")
            self.assertEqual(exported - declared, set(), library + ": defined, not declared")

    def test_static_library_pollutes_nothing(self):
        """All that others could collide with starts with cohort."""
        symbols = [line.split() for line in out("nm", "--defined-only", "--extern-only",
                                                os.path.join(self.lib, "libcohort.a")).splitlines()]
        names = [s[2] for s in symbols if len(s) == 3]
        self.assertTrue(names)
        self.assertEqual([n for n in names if not re.match(r"cohorti?_", n)], [])

    def hello(self, name, *link):
        binary = os.path.join(self.root, name)
        out(CC, *STRICT, *self.pkg_config("--cflags"), os.path.join(SOURCE, "examples", "hello.c"), *link, "-o", binary)
        return binary

    def test_simulated_example(self):
        """An application with its own handlers in a simulated cluster, against the installed libcohort-sim."""
        binary = os.path.join(self.root, "simulated")
        out(CC, *STRICT, *self.pkg_config("--cflags", package="cohort-sim"), os.path.join(SOURCE, "examples", "simulated.c"),
            *self.pkg_config("--libs", package="cohort-sim"), "-o", binary)
        text = out(binary, env=dict(os.environ, LD_LIBRARY_PATH=self.lib))
        self.assertEqual(text.count("b answers 42"), 2)
        self.assertEqual(text, out(binary, env=dict(os.environ, LD_LIBRARY_PATH=self.lib)), "the same run twice")

    def talk(self, binary):
        """Two of it greet each other."""
        cluster = self.cluster("a", "b")
        with Process(self, binary, "a", cluster) as a, Process(self, binary, "b", cluster) as b:
            for node, other in ((a, "b"), (b, "a")):
                node.wait_for("%s ACTIVATED" % other)
                node.wait_for("%s says hello" % other)
            for node in (a, b):
                self.assertEqual(node.end(), 0)

    def test_example_with_the_shared_library(self):
        self.talk(self.hello("hello-shared", *self.pkg_config("--libs")))

    @unittest.skipUnless(shutil.which(os.environ.get("CXX") or "c++"), "no C++ compiler")
    def test_example_as_cxx(self):
        binary = os.path.join(self.root, "hello-cxx")
        out(os.environ.get("CXX") or "c++", "-std=c++17", "-Wall", "-Wpedantic", "-Werror", *self.pkg_config("--cflags"), "-x", "c++",
            os.path.join(SOURCE, "examples", "hello.c"), "-x", "none", *self.pkg_config("--libs"), "-o", binary)
        self.talk(binary)

    def test_example_with_the_static_library(self):
        libs = [lib if lib != "-lcohort" else "-l:libcohort.a" for lib in self.pkg_config("--static", "--libs")]
        binary = self.hello("hello-static", *libs)
        self.assertNotIn("libcohort", out("ldd", binary))
        self.talk(binary)

    def test_installed_binary_runs(self):
        env = dict(os.environ, LD_LIBRARY_PATH=self.lib)
        self.assertIn("agent", out(os.path.join(self.prefix, "bin", "cohort"), "--help", env=env))


if __name__ == "__main__":
    unittest.main(verbosity=2)
