#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The documents: what they tell to type is typed, what they show is compiled, what they link to is there.

Each document is followed by a reader who has an empty directory and an installed cohort, in a network namespace of their own where that
is possible (documents use the default addresses). The API reference is made, and every declaration must have a comment.
"""
import fnmatch
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from doc_blocks import WHOLE, Shell, blocks, is_shell
from installed import CC, SOURCE, STRICT, Installed, out

DOCUMENTS = sorted(glob.glob(os.path.join(SOURCE, "docs", "*.md"))) + [os.path.join(SOURCE, "README.md")]
INSIDE = "COHORT_DOCS_IN_NAMESPACE"


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def enter_namespace():
    """Run this program again with a loopback of its own; stay where we are if that is not possible."""
    for way in (["-n"], ["-Urn"]):
        argv = ["unshare", *way, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        try:
            works = subprocess.run([*argv, "true"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   check=False).returncode == 0
        except OSError:
            works = False
        if works:
            os.environ[INSIDE] = "1"
            os.execvp(argv[0], [*argv, sys.executable, os.path.abspath(__file__), *sys.argv[1:]])


class BlocksTest(Installed):
    """One test for each document: see the end of this file."""

    def reader(self):
        directory = tempfile.mkdtemp(dir=self.root)
        env = {k: v for k, v in os.environ.items() if not k.startswith("COHORT") and k not in ("XDG_RUNTIME_DIR", "BASH_ENV")}
        env.update(PATH=os.path.join(self.prefix, "bin") + ":" + env["PATH"], LD_LIBRARY_PATH=self.lib, LC_ALL="C.UTF-8",
                   PKG_CONFIG_PATH=os.path.dirname(self.pc), PKG_CONFIG_SYSROOT_DIR=self.root, HOME=directory)
        shell = Shell(self, directory, env)
        self.addCleanup(shell.close)
        return directory, shell

    def is_in_the_tree(self, block, where):
        """The lines of the block, in this order and without others between, whatever their common indentation."""
        path = os.path.join(SOURCE, block.value)
        self.assertTrue(os.path.isfile(path), "%s: no %s" % (where, block.value))
        self.assertTrue(block.text in read(path), "%s: not, or no longer, in %s" % (where, block.value))
        name = os.path.splitext(os.path.basename(path))[0]
        tests = "".join(read(p) for p in glob.glob(os.path.join(SOURCE, "tests", "install", "test_*.py")))
        self.assertTrue(re.search(r'"%s(\.c)?"' % re.escape(name), tests), "%s: nothing compiles and runs %s" % (where, block.value))

    def compiles(self, block, where):
        p = subprocess.run([CC, *STRICT, *self.pkg_config("--cflags"), "-fsyntax-only", "-x", "c", "-"], input=block.text.encode(),
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        self.assertEqual(p.returncode, 0, "%s: %s" % (where, p.stdout.decode(errors="replace")))

    def follow(self, path):
        text = read(path)
        directory, shell = self.reader()
        found = blocks(text)
        files = []
        for i, block in enumerate(found):
            where = "%s:%d" % (os.path.relpath(path, SOURCE), block.line)
            if block.marker == "not run":
                self.assertGreater(len(block.value or ""), 9, where + ": give a reason")
            elif block.marker == "file":
                with open(os.path.join(directory, block.value), "w", encoding="utf-8") as f:
                    f.write(block.text)
                if block.language == "c":
                    self.compiles(block, where)
                    files.append((block.value, where))
            elif block.marker == "from":
                self.is_in_the_tree(block, where)
            elif is_shell(block):
                if WHOLE.search(text):
                    continue
                after = found[i + 1] if i + 1 < len(found) else None
                expected = after.text if after and after.marker == "output" else ""
                shell.type(block.text, expected, block.marker == "repeat", where)
            elif block.language == "c":
                self.fail(where + ": C that is no file to compile, from no example, and not marked as not run")
        typed = "\n".join(b.text for b in found if is_shell(b))
        for name, where in files:
            self.assertRegex(typed, r"cc .*\b" + re.escape(name), where + ": the program is never compiled")


for _path in DOCUMENTS:
    setattr(BlocksTest, "test_" + os.path.splitext(os.path.basename(_path))[0].lower() + ("_docs" if _path.endswith("docs/README.md") else ""),
            lambda self, path=_path: self.follow(path))


class DocumentsTest(unittest.TestCase):
    def test_links(self):
        for path in DOCUMENTS:
            text = re.sub(r"```.*?```", "", read(path), flags=re.S)
            for target in re.findall(r"\]\(([^)\s]+)\)", text):
                if re.match(r"[a-z]+:", target) or target.startswith("#"):
                    continue
                there = os.path.join(os.path.dirname(path), target.split("#")[0])
                self.assertTrue(os.path.exists(there), "%s links to %s" % (os.path.relpath(path, SOURCE), target))

    def test_index(self):
        index = read(os.path.join(SOURCE, "docs", "README.md"))
        for path in DOCUMENTS:
            name = os.path.basename(path)
            if name != "README.md":
                self.assertTrue("](%s)" % name in index, "docs/README.md does not list " + name)

    def test_every_header_declares_with_a_comment(self):
        """A group of declarations, set apart by empty lines, has a comment before its first function or type."""
        seen = 0
        for path in glob.glob(os.path.join(SOURCE, "include", "cohort", "*.h")):
            for group in re.split(r"\n\s*\n", re.sub(r"/\*(?!\*).*?\*/", "", read(path), flags=re.S)):
                first = re.search(r'^(COHORT_API |typedef |__attribute__\(\(visibility)', group, re.M)
                if first and not group.lstrip().startswith("#if"):
                    seen += 1
                    self.assertIn("/**", group[:first.start()], "%s: no comment before: %s" % (os.path.basename(path), group[first.start():][:70]))
        self.assertGreater(seen, 40)

    def test_every_function_is_in_the_table_of_threads(self):
        """docs/threads.md says of each function where it may be called; a name with a * stands for several."""
        table = [line for line in read(os.path.join(SOURCE, "docs", "threads.md")).split("\n") if line.startswith("| `")]
        names = re.findall(r"`(cohort_[a-z_*]+)`", "".join(line.split("|")[1] for line in table))
        functions = [f for path in glob.glob(os.path.join(SOURCE, "include", "cohort", "*.h"))
                     for f in re.findall(r"^(?:COHORT_API|__attribute__)[^;]*?\b(cohort_\w+)\(", read(path), re.M)]
        self.assertGreater(len(functions), 40)
        self.assertEqual([f for f in functions if not any(fnmatch.fnmatchcase(f, name) for name in names)], [])

    @unittest.skipUnless(shutil.which("doxygen"), "no doxygen")
    def test_api_reference(self):
        with tempfile.TemporaryDirectory() as directory:
            env = dict(os.environ, COHORT_VERSION=read(os.path.join(SOURCE, "VERSION")).strip(), COHORT_DOCS=directory)
            self.assertEqual(out("doxygen", "docs/Doxyfile", cwd=SOURCE, env=env), "")
            pages = "".join(read(p) for p in glob.glob(directory + "/html/*_8h.html"))
        declared = set()
        for path in glob.glob(os.path.join(SOURCE, "include", "cohort", "*.h")):
            declared |= set(re.findall(r"^COHORT_API [^;]*?\b(cohort_\w+)\(", read(path), re.M))
        self.assertGreater(len(declared), 40)
        self.assertEqual([name for name in sorted(declared) if ">%s</a>" % name not in pages], [])


if __name__ == "__main__":
    if not os.environ.get(INSIDE):
        enter_namespace()
    unittest.main(verbosity=2)
