#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Install into a directory; then be somebody who has only that: pkg-config, the shared library, the static one, the example."""
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
import unittest

SOURCE = os.environ["SOURCE_DIR"]
BUILD = os.environ["BUILD_DIR"]
CC = os.environ.get("CC") or "cc"
MESON = os.environ.get("MESON") or ("/usr/bin/meson" if os.access("/usr/bin/meson", os.X_OK) else "meson")
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wpedantic", "-Werror"]
BOUND_S = 30


def out(*argv, **kwargs):
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **kwargs)
    text = p.stdout.decode(errors="replace")
    assert p.returncode == 0, "%s: status %d\n%s" % (" ".join(argv), p.returncode, text)
    return text


class InstalledTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.mkdtemp(prefix="cohort-install-")
        cls.addClassCleanup(shutil.rmtree, cls.root, True)
        out(MESON, "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", cls.root)
        (cls.pc,) = glob.glob(cls.root + "/**/cohort.pc", recursive=True)
        with open(cls.pc, encoding="utf-8") as f:
            prefix = re.search(r"^prefix=(.*)$", f.read(), re.M).group(1)
        cls.prefix = cls.root + prefix
        cls.env = dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(cls.pc), LC_ALL="C")
        cls.lib = os.path.dirname(os.path.dirname(cls.pc))

    def pkg_config(self, *args, package="cohort"):
        return out("pkg-config", "--define-variable=prefix=" + self.prefix, *args, package, env=self.env).split()

    def test_files(self):
        for path in ("include/cohort/cohort.h", "include/cohort/definition.h", "include/cohort/error.h", "include/cohort/frame.h",
                     "include/cohort/types.h", "bin/cohort", "share/cohort/cluster.schema.json"):
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
                   out("nm", "-D", "--defined-only", os.path.join(self.lib, "libcohort.so")).splitlines()]
        self.assertTrue(symbols)
        self.assertEqual([s for s in symbols if not s.startswith("cohort_")], [])

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
                        out("nm", "-D", "--defined-only", os.path.join(self.lib, library)).splitlines()}
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

    def cluster(self):
        """Path of the definition of a and b, on addresses of this process."""
        block = os.getpid() % (252 * 256 * 4)
        ips = ["127.%d.%d.%d" % (2 + block // 1024, block // 4 % 256, block % 4 * 64 + 1 + n) for n in range(2)]
        path = os.path.join(self.root, "cluster.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"nodes": [{"id": i, "ip": ip} for i, ip in zip("ab", ips)]}, f)
        return path

    def test_own_loop_example(self):
        """What one types the other prints; neither has a second thread."""
        binary = os.path.join(self.root, "own_loop")
        out(CC, *STRICT, *self.pkg_config("--cflags"), os.path.join(SOURCE, "examples", "own_loop.c"), *self.pkg_config("--libs"),
            "-o", binary)
        path = self.cluster()
        env = dict(os.environ, LD_LIBRARY_PATH=self.lib)
        nodes = {i: subprocess.Popen([binary, i, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) for i in "ab"}
        watchdog = threading.Timer(BOUND_S, lambda: [node.kill() for node in nodes.values()])
        watchdog.start()
        try:
            for i, other in ("ab", "ba"):
                self.assertEqual(nodes[i].stdout.readline(), b"%s ACTIVATED\n" % other.encode())
            for i, other in ("ab", "ba"):
                nodes[i].stdin.write(b"good morning\n")
                nodes[i].stdin.flush()
                self.assertEqual(nodes[other].stdout.readline(), b"%s says good morning\n" % i.encode())
            for node in nodes.values():
                self.assertEqual(len(os.listdir("/proc/%d/task" % node.pid)), 1)
            for node in nodes.values():
                node.stdin.close()
                self.assertEqual(node.wait(BOUND_S), 0)
        finally:
            watchdog.cancel()
            for node in nodes.values():
                node.kill()
                node.wait()
                node.stdin.close()
                node.stdout.close()

    def talk(self, binary):
        """Two of it greet each other."""
        path = self.cluster()
        env = dict(os.environ, LD_LIBRARY_PATH=self.lib)
        logs = [os.path.join(self.root, "hello-" + i) for i in "ab"]
        nodes = []
        for i, log in zip("ab", logs):
            with open(log, "wb") as f:
                nodes.append(subprocess.Popen([binary, i, path], stdin=subprocess.PIPE, stdout=f, stderr=subprocess.STDOUT, env=env))
        try:
            for log, other in zip(logs, "ba"):
                deadline = time.monotonic() + BOUND_S
                while True:
                    with open(log, encoding="utf-8") as f:
                        text = f.read()
                    if "%s ACTIVATED" % other in text and "%s says hello" % other in text:
                        break
                    self.assertLess(time.monotonic(), deadline, text)
                    time.sleep(0.01)
            for node in nodes:
                node.stdin.close()
                self.assertEqual(node.wait(BOUND_S), 0)
        finally:
            for node in nodes:
                node.stdin.close()
                node.kill()
                node.wait()

    def test_example_with_the_shared_library(self):
        self.talk(self.hello("hello-shared", *self.pkg_config("--libs")))

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
