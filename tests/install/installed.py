# SPDX-License-Identifier: Apache-2.0
"""What the tests of this directory share: an installation in a directory of its own, and programs run against it."""
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile
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


class Process:
    """A program of the user's, with its output in a file. Ends with the block, whatever happens in it."""

    count = 0

    def __init__(self, test, *argv):
        Process.count += 1
        self.test = test
        self.name = "%s %s" % (os.path.basename(argv[0]), " ".join(argv[1:2]))
        self.log = os.path.join(test.root, "output-%d" % Process.count)
        with open(self.log, "wb") as f:
            self.p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=f, stderr=subprocess.STDOUT,
                                      env=dict(os.environ, LD_LIBRARY_PATH=test.lib))

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if not self.p.stdin.closed:
            try:
                self.p.stdin.close()
            except BrokenPipeError:
                pass
        self.p.kill()
        self.p.wait()

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def wait_until(self, condition, what):
        deadline = time.monotonic() + BOUND_S
        while not condition(self.text()):
            alive = self.p.poll() is None
            if not alive and condition(self.text()):
                return
            self.test.assertTrue(alive, "%s ended with %s before it said %s:\n%s" % (self.name, self.p.poll(), what, self.text()))
            self.test.assertLess(time.monotonic(), deadline, "%s never said %s:\n%s" % (self.name, what, self.text()))
            time.sleep(0.01)

    def wait_for(self, string, times=1):
        self.wait_until(lambda text: text.count(string) >= times, repr(string))

    def type(self, line):
        self.p.stdin.write(line.encode() + b"\n")
        self.p.stdin.flush()

    def wait(self):
        return self.p.wait(BOUND_S)

    def end(self):
        """End of its input; returns its exit status."""
        self.p.stdin.close()
        return self.wait()


class Installed(unittest.TestCase):
    root = prefix = lib = pc = env = None

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

    def example(self, name, *others):
        """Compiled as its first comment says, with `others` besides cohort from pkg-config."""
        binary = os.path.join(self.root, name)
        flags = [out("pkg-config", kind, *others).split() if others else [] for kind in ("--cflags", "--libs")]
        out(CC, *STRICT, *self.pkg_config("--cflags"), *flags[0], os.path.join(SOURCE, "examples", name + ".c"),
            *self.pkg_config("--libs"), *flags[1], "-o", binary)
        return binary

    def cluster(self, *ids):
        """A definition of these ids, on addresses of this process."""
        block = os.getpid() % (252 * 256 * 4)
        ips = ["127.%d.%d.%d" % (2 + block // 1024, block // 4 % 256, block % 4 * 64 + 1 + n) for n in range(len(ids))]
        path = os.path.join(self.root, "cluster-%s.json" % "-".join(ids))
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"nodes": [{"id": i, "ip": ip} for i, ip in zip(ids, ips)]}, f)
        return path
