#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The Debian packages: built from a clean copy of the tree, judged by lintian, and installed into a Debian that has nothing else.

The clean Debian is made with debootstrap from $DEBIAN_MIRROR (http://deb.debian.org/debian), which takes root, a network and some
200 MB in the temporary directory; without them that test is skipped and says why, which with CI=true is a failure. What can be
learned without is tested on the unpacked packages in any case.
"""
import atexit
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.environ.get("SOURCE_DIR") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(SOURCE, "tests", "install"))
from doc_blocks import Shell, blocks, is_shell  # noqa: E402

MIRROR = os.environ.get("DEBIAN_MIRROR") or "http://deb.debian.org/debian"
SUITE = "bookworm"
PACKAGES = ("cohort", "libcohort0", "libcohort-sim0", "libcohort-dev")
COMMAND_BUDGET_S = 200

running = set()


class Command:
    """A command under way, in a session of its own, so that it can be ended with all its children."""

    def __init__(self, *argv, **kwargs):
        self.file = tempfile.TemporaryFile()
        self.p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.file, stderr=subprocess.STDOUT, start_new_session=True, **kwargs)
        running.add(self)

    def end(self):
        if self in running:
            running.discard(self)
            os.killpg(self.p.pid, signal.SIGKILL)
            self.p.wait()

    def wait(self):
        """(status, output)"""
        more = ""
        try:
            self.p.wait(COMMAND_BUDGET_S)
            running.discard(self)
        except subprocess.TimeoutExpired:
            self.end()
            more = "\n(took more than %d s)" % COMMAND_BUDGET_S
        with self.file:
            self.file.seek(0)
            return self.p.returncode, self.file.read().decode(errors="replace") + more


def end_all():
    for command in list(running):
        command.end()


def run(*argv, **kwargs):
    return Command(*argv, **kwargs).wait()


def out(*argv, **kwargs):
    status, text = run(*argv, **kwargs)
    assert status == 0, "%s: status %d\n%s" % (" ".join(argv), status, text[-6000:])
    return text


def version():
    with open(os.path.join(SOURCE, "VERSION"), encoding="utf-8") as f:
        return f.read().strip()


# Run in the clean Debian, without any network but its own loopback. Every wait has a bound.
SMOKE = r"""
set -eu
echo '{"nodes":[{"id":"a","ip":"127.0.1.1"},{"id":"b","ip":"127.0.1.2"}]}' > /tmp/cluster.json
pids=
cohort --version
for i in a b; do
    cohort agent --cluster /tmp/cluster.json --id $i --control /tmp/$i.sock 2>/tmp/$i.log &
    pids="$pids $!"
done
n=0
until cohort members --control /tmp/a.sock 2>/dev/null | grep -q '^b .* ACTIVE '; do
    n=$((n + 1))
    [ $n -lt 300 ] || { cat /tmp/*.log; exit 1; }
    sleep 0.1
done
cohort members --control /tmp/a.sock
cohort ping b -c 2 --control /tmp/a.sock
kill $pids
wait
cohort demo
"""


class PackageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = tempfile.mkdtemp(prefix="cohort-package-")
        atexit.register(shutil.rmtree, cls.work, True)
        atexit.register(end_all)  # before that
        cls.why_no_debian, cls.debootstrap = cls.begin_debian(os.path.join(cls.work, "root"))
        out(os.path.join(SOURCE, "scripts", "package"), os.path.join(cls.work, "out"),
            env=dict(os.environ, DEB_BUILD_OPTIONS="noautodbgsym", DEBFULLNAME="Whoever Builds", DEBEMAIL="builds@cohort.invalid"))
        cls.debs = {}
        for path in glob.glob(os.path.join(cls.work, "out", "*.deb")):
            name = os.path.basename(path).split("_")[0]
            cls.debs[name] = path

    @staticmethod
    def begin_debian(root):
        """Make a clean Debian while the packages are built: (why not, None) or (None, the command)."""
        for tool in ("debootstrap", "unshare", "chroot"):
            if not shutil.which(tool):
                return tool + " is not installed", None
        if os.geteuid() != 0:
            return "not root", None
        # Nobody needs this file system after a power failure. It mounts /proc there: in a namespace, so that nothing is left mounted
        # (and then walked by the removal of the directory) when it is ended half-way.
        return None, Command("unshare", "--mount", "debootstrap", "--variant=minbase", SUITE, root, MIRROR, env=dict(os.environ, DPKG_FORCE="unsafe-io"))

    def unpacked(self, *names):
        root = tempfile.mkdtemp(dir=self.work)
        for name in names:
            out("dpkg-deb", "--extract", self.debs[name], root)
        return root

    def test_packages_and_versions(self):
        self.assertEqual(set(self.debs), set(PACKAGES))
        for name, path in self.debs.items():
            self.assertEqual(out("dpkg-deb", "--field", path, "Version").strip(), version(), name + ": debian/changelog and VERSION")

    def test_maintainer(self):
        """Who builds them for others is named; the tree itself knows an address that is nobody's."""
        for name, path in self.debs.items():
            self.assertEqual(out("dpkg-deb", "--field", path, "Maintainer").strip(), "Whoever Builds <builds@cohort.invalid>", name)
        (changes,) = glob.glob(os.path.join(self.work, "out", "*.changes"))
        with open(changes, encoding="utf-8") as f:
            self.assertIn("\nChanged-By: Whoever Builds <builds@cohort.invalid>\n", f.read())

    def test_nothing_is_left_behind(self):
        """All that Meson installs is in exactly one package."""
        tree = os.path.join(self.work, "out", "cohort", "debian", "tmp")
        installed = {os.path.relpath(os.path.join(d, f), tree) for d, _, files in os.walk(tree) for f in files}
        self.assertIn("usr/bin/cohort", installed)
        packed = []
        for name in PACKAGES:
            root = self.unpacked(name)
            packed += [os.path.relpath(os.path.join(d, f), root) for d, _, files in os.walk(root) for f in files]
        plain = [re.sub(r"\.gz$", "", path) for path in packed]
        for path in sorted(installed):
            self.assertIn(path, plain, "in no package")
        self.assertEqual(sorted(p for p in set(packed) if packed.count(p) > 1), [])

    def test_dependencies(self):
        """The libraries a package needs, found by its binaries; of a program that links libcohort, this minor version."""
        depends = {name: out("dpkg-deb", "--field", path, "Depends") for name, path in self.debs.items()}
        for name, wanted in (("cohort", ("libc6", "libcurl4", "libjansson4", "libmicrohttpd12", "libnettle8", "libuv1")),
                             ("libcohort0", ("libc6", "libjansson4", "libuv1")), ("libcohort-dev", ("libcohort0 (= ", "libcohort-sim0 (= "))):
            for package in wanted:
                self.assertIn(package, depends[name], name)
        out("apt-get", "--simulate", "install", "--no-install-recommends", *self.debs.values())  # Debian has them, in these versions
        self.assertNotIn("libcohort", depends["cohort"], "the tool carries the library in itself")
        major, minor, _ = version().split(".")
        for name in ("libcohort0", "libcohort-sim0"):
            control = tempfile.mkdtemp(dir=self.work)
            out("dpkg-deb", "--control", self.debs[name], control)
            with open(os.path.join(control, "symbols"), encoding="utf-8") as f:
                symbols = f.read()
            self.assertIn("%s (<< %s.%d~)" % (name, major, int(minor) + 1), symbols)
            self.assertIn(" cohort_node_open@COHORT_0 ", symbols)

    def test_lintian(self):
        (changes,) = glob.glob(os.path.join(self.work, "out", "*.changes"))
        status, text = run("lintian", "--allow-root", "--fail-on", "error", "--tag-display-limit", "0", changes)
        print(text)
        self.assertEqual(status, 0, text)

    def test_unpacked(self):
        """The tool runs, and a program compiles, links and runs, from the files of the packages on this machine."""
        root = self.unpacked(*PACKAGES)
        self.assertIn(version(), out(os.path.join(root, "usr/bin/cohort"), "--version"))
        (pc,) = glob.glob(root + "/usr/lib/*/pkgconfig/cohort-sim.pc")
        lib = os.path.dirname(os.path.dirname(pc))
        env = dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(pc), PKG_CONFIG_SYSROOT_DIR=root, LD_LIBRARY_PATH=lib)
        flags = out("pkg-config", "--cflags", "--libs", "cohort-sim", env=env).split()
        example = os.path.join(root, "usr/share/doc/libcohort-dev/examples/simulated.c")
        out("cc", example, *flags, "-o", os.path.join(self.work, "simulated"), env=env)
        self.assertEqual(out(os.path.join(self.work, "simulated"), env=env).count("b answers 42"), 2)

    def test_make_install(self):
        """`make install PREFIX= DESTDIR=` from the same clean copy puts the same files under the prefix."""
        dest = os.path.join(self.work, "dest")
        tree = os.path.join(self.work, "out", "cohort")
        out("make", "-C", tree, "install", "PREFIX=/opt/cohort", "DESTDIR=" + dest)
        self.assertEqual(os.listdir(dest), ["opt"], "nothing outside the prefix")
        prefix = dest + "/opt/cohort"
        self.assertIn(version(), out(prefix + "/bin/cohort", "--version"))
        (pc,) = glob.glob(prefix + "/**/cohort.pc", recursive=True)
        with open(pc, encoding="utf-8") as f:
            self.assertIn("prefix=/opt/cohort\n", f.read())
        names = {os.path.basename(p) for p in glob.glob(os.path.dirname(os.path.dirname(pc)) + "/lib*")}
        self.assertLessEqual({"libcohort.so", "libcohort.so.0", "libcohort.so." + version(), "libcohort.a", "libcohort-sim.so.0"}, names)

    def test_with_a_clean_debian(self):
        """Installed with what the packages themselves ask for, and nothing else, agents find each other."""
        if self.why_no_debian:
            self.skipTest("no clean Debian: " + self.why_no_debian)
        root = os.path.join(self.work, "root")
        status, text = self.debootstrap.wait()
        if status != 0:
            self.skipTest("no clean Debian: debootstrap from %s: %s" % (MIRROR, " ".join(text.split()[-30:])))
        shutil.copy("/etc/resolv.conf", os.path.join(root, "etc", "resolv.conf"))
        env = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        env.update((k, v) for k, v in os.environ.items() if k.lower().endswith("_proxy"))
        self.agent_alone(root, env)
        self.quickstart(root, env)
        out("chroot", root, "dpkg", "--purge", *PACKAGES, env=env)
        left = [path for top in ("etc", "lib", "usr", "var/lib/dpkg/info") for path in glob.glob(root + "/" + top + "/**/*cohort*", recursive=True)]
        self.assertEqual(left, [], "left behind when purged")

    @staticmethod
    def argv_inside(root, script):
        """A shell with that script in that root, with no network but a loopback of its own."""
        inside = "/bin/ip link set lo up 2>/dev/null || ip link set lo up; mount -t proc proc %s/proc && exec chroot %s sh -c '%s'" % (
            root, root, script.replace("'", "'\\''"))
        return ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", inside]

    def agent_alone(self, root, env):
        """The package of the agent needs no other of ours, and what it needs comes with it."""
        shutil.copy(self.debs["cohort"], os.path.join(root, "tmp"))
        out("chroot", root, "apt-get", "install", "-q", "-y", "--no-install-recommends", "/tmp/" + os.path.basename(self.debs["cohort"]), env=env)
        self.assertIn(version(), out("chroot", root, "cohort", "--version", env=env))
        text = out(*self.argv_inside(root, SMOKE), env=env)
        self.assertRegex(text, r"(?m)^b +127\.0\.1\.2:9876 +ACTIVE ")
        self.assertIn("2 of 2 came back", text)

    def quickstart(self, root, env):
        """docs/quickstart.md, word by word: the installation from packages with the network, the rest without."""
        with open(os.path.join(SOURCE, "docs", "quickstart.md"), encoding="utf-8") as f:
            found = blocks(f.read())
        home = os.path.join(root, "root", "quickstart")
        os.makedirs(os.path.join(home, "build-package"))
        for path in self.debs.values():
            shutil.copy(path, os.path.join(home, "build-package"))
        with open(os.path.join(root, "etc", "apt", "apt.conf.d", "90yes"), "w", encoding="utf-8") as f:
            f.write('APT::Get::Assume-Yes "true";\nAPT::Install-Recommends "false";\n')
        installing = [block for block in found if "tests/package" in (block.value or "")]
        self.assertEqual(len(installing), 1)
        out("chroot", root, "sh", "-ec", "cd /root/quickstart\n" + installing[0].text, env=env)
        shell = Shell(self, home, dict(env, HOME="/root"), self.argv_inside(root, "cd /root/quickstart && exec bash --norc --noprofile"), root)
        self.addCleanup(shell.close)
        typed = 0
        for block, after in zip(found, found[1:] + [None]):
            if block.marker == "file":
                with open(os.path.join(home, block.value), "w", encoding="utf-8") as f:
                    f.write(block.text)
            elif is_shell(block) and block.marker != "not run":
                expected = after.text if after and after.marker == "output" else ""
                shell.type(block.text, expected, block.marker == "repeat", "quickstart.md:%d" % block.line)
                typed += 1
        shell.close()
        print("quickstart: %d blocks typed" % typed)
        self.assertGreater(typed, 10)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # out of time: leave nothing behind
    unittest.main(verbosity=2)
