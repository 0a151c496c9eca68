# SPDX-License-Identifier: Apache-2.0
"""The code blocks of a Markdown document, and a shell that types them.

A block is fenced with ``` or indented by four spaces. A line of its own before it, seen by no reader of the rendered page, may say:

    <!-- file: NAME -->        the block is the file NAME in the reader's directory
    <!-- from: PATH -->        the block is in that file of the tree, line by line, which is compiled and run by another test
    <!-- repeat -->            commands to repeat until they succeed and print what the next block says
    <!-- output -->            what the commands before print: these lines in this order, "..." for anything
    <!-- not run: REASON -->   why it is not

A document whose commands are all not run says so once, near its top: <!-- commands not run: REASON -->.
"""
import os
import re
import signal
import subprocess
import time
from collections import namedtuple

BOUND_S = 30
MARKER = re.compile(r"^<!-- (file|from|repeat|output|not run)(?:: (.+?))? -->$")
WHOLE = re.compile(r"^<!-- commands not run: (.{10,}) -->$", re.M)
COMMAND = re.compile(r"^(\$ |cohort |make\b|cc |c\+\+ |curl |\./|scripts/|build[/-]|bench/|tests/|meson |ninja |apt|dpkg |sudo |pkg-config |systemctl )")

Block = namedtuple("Block", "line language text marker value")


def blocks(text):
    """Every block, in order."""
    lines = text.split("\n")
    found, i, marker = [], 0, (None, None)
    in_list = False
    while i < len(lines):
        line = lines[i]
        start = i
        if line.startswith("```"):
            i += 1
            while i < len(lines) and not lines[i].startswith("```"):
                i += 1
            found.append(Block(start + 1, line[3:].strip(), "\n".join(lines[start + 1:i]) + "\n", *marker))
            marker = (None, None)
        elif line.startswith("    ") and not in_list and (i == 0 or lines[i - 1].strip() == "" or MARKER.match(lines[i - 1])):
            while i < len(lines) and (lines[i].startswith("    ") or lines[i].strip() == ""):
                i += 1
            found.append(Block(start + 1, "indented", "\n".join(l[4:] for l in lines[start:i]).rstrip("\n") + "\n", *marker))
            marker = (None, None)
            i -= 1
        elif MARKER.match(line):
            marker = MARKER.match(line).groups()
        elif line.strip():
            marker = (None, None)
            in_list = bool(re.match(r"^ *([-*]|\d+\.) ", line)) or (in_list and line.startswith(" "))
        i += 1
    return found


def is_shell(block):
    """Commands, whatever they are labelled as."""
    if block.language in ("sh", "bash", "shell", "console"):
        return True
    return block.language in ("indented", "", "text") and block.marker not in ("output", "file") and any(
        COMMAND.match(line) for line in block.text.split("\n"))


class Shell:
    """A bash in a directory, as somebody types into it; input of the commands themselves is empty.

    argv may start it in another root directory: then `root` is its path from here, and `directory` is below it."""

    def __init__(self, test, directory, env, argv=("bash", "--norc", "--noprofile"), root=""):
        self.test = test
        self.root = root
        self.base = directory + ".shell"
        os.mkdir(self.base)
        self.log = os.path.join(self.base, "log")
        self.count = 0
        with open(self.log, "wb") as f:
            self.p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=f, stderr=subprocess.STDOUT, cwd=directory, env=env,
                                      start_new_session=True)

    def close(self):
        if self.p.poll() is not None:
            return
        try:
            self.p.stdin.write(b"kill $(jobs -p) 2>/dev/null; wait; exit\n")
            self.p.stdin.close()
            self.p.wait(BOUND_S)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            pass
        try:
            os.killpg(self.p.pid, signal.SIGKILL)  # our own session: whatever the document left running
        except ProcessLookupError:
            pass
        self.p.wait()

    def output(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def run(self, text):
        """True if every command succeeded."""
        self.count += 1
        script = os.path.join(self.base, "%d.sh" % self.count)
        done = script + ".done"
        with open(script, "w", encoding="utf-8") as f:
            f.write(text)
        there, seen = script[len(self.root):], done[len(self.root):]
        self.p.stdin.write(("failed=0; trap failed=1 ERR; . %s </dev/null; trap - ERR; echo $failed >%s.new; mv %s.new %s\n"
                            % (there, seen, seen, seen)).encode())
        self.p.stdin.flush()
        deadline = time.monotonic() + BOUND_S
        while not os.path.exists(done):
            self.test.assertIsNone(self.p.poll(), "the shell ended:\n" + self.output())
            self.test.assertLess(time.monotonic(), deadline, "does not end:\n" + text + self.output())
            time.sleep(0.01)
        with open(done, encoding="utf-8") as f:
            return f.read().strip() == "0"

    @staticmethod
    def missing(expected, output):
        """The first line expected that is not there, in order; None when all are."""
        have = iter(output.split("\n"))
        for line in filter(str.strip, expected.split("\n")):
            pattern = ".*".join(re.sub(r"(\\? )+", " +", re.escape(part)) for part in line.rstrip().split("..."))
            if not any(re.fullmatch(pattern, got.rstrip()) for got in have):
                return line
        return None

    def type(self, text, expected, repeat, where):
        """Run commands; they must succeed, and print what is expected, for which they may need some time."""
        deadline = time.monotonic() + BOUND_S
        start = len(self.output())
        ok = self.run(text)
        while True:
            lacking = self.missing(expected, self.output()[start:])
            if ok and lacking is None:
                return
            if not ok and not repeat:
                self.test.fail("%s: a command failed:\n%s\n%s" % (where, text, self.output()[start:]))
            self.test.assertLess(time.monotonic(), deadline, "%s: %s\n%s\n%s" % (
                where, "fails" if not ok else "never printed: %r" % lacking, text, self.output()[start:]))
            time.sleep(0.05)
            if repeat:
                start = len(self.output())
                ok = self.run(text)
