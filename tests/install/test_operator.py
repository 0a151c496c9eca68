#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What an operator has installed: manual pages that list what --help lists, completion that completes, a unit systemd accepts."""
import glob
import itertools
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

SOURCE = os.environ["SOURCE_DIR"]
BUILD = os.environ["BUILD_DIR"]
MESON = os.environ.get("MESON") or ("/usr/bin/meson" if os.access("/usr/bin/meson", os.X_OK) else "meson")
BOUND_S = 30


def out(*argv, **kwargs):
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **kwargs)
    text = p.stdout.decode(errors="replace")
    assert p.returncode == 0, "%s: status %d\n%s" % (" ".join(argv), p.returncode, text)
    return text


def wait_until(predicate, what):
    deadline = time.monotonic() + BOUND_S
    while True:
        value = predicate()
        if value:
            return value
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.mkdtemp(prefix="cohort-operator-")
        cls.addClassCleanup(shutil.rmtree, cls.root, True)
        out(MESON, "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", cls.root)
        (cls.binary,) = glob.glob(cls.root + "/**/bin/cohort", recursive=True)
        cls.prefix = os.path.dirname(os.path.dirname(cls.binary))
        libs = {os.path.dirname(p) for p in glob.glob(cls.root + "/**/libcohort*.so", recursive=True)}
        cls.env = dict(os.environ, LD_LIBRARY_PATH=":".join(sorted(libs)), LC_ALL="C.UTF-8",
                       PATH=os.path.dirname(cls.binary) + ":" + os.environ["PATH"])

    @classmethod
    def file(cls, *parts):
        path = os.path.join(cls.prefix, *parts)
        assert os.path.exists(path), path
        return path

    @classmethod
    def read(cls, *parts):
        with open(cls.file(*parts), encoding="utf-8") as f:
            return f.read()

    @classmethod
    def help(cls, *command):
        return out(cls.binary, *command, "--help", env=cls.env)

    @classmethod
    def commands(cls):
        block = cls.help().split("Commands:\n")[1].split("\n\n")[0]
        return [line.split()[0] for line in block.splitlines()]

    @classmethod
    def options(cls, command):
        return set(re.findall(r"(?m)^  (?:-., |    )(--[a-z-]+)", cls.help(command))) - {"--help"}

    @classmethod
    def start_agent(cls, *args):
        """An agent that knows a member with a name of its own; its control socket."""
        block = os.getpid() % (252 * 256 * 4)
        n = next(cls.numbers)
        ip = "127.%d.%d.%d" % (2 + block // 1024, block // 4 % 256, block % 4 * 64 + 1 + n)
        control = os.path.join(cls.root, "agent%d.sock" % n)
        agent = subprocess.Popen([cls.binary, "agent", "--ip", ip, "--control", control, *args], env=cls.env,
                                 stderr=subprocess.DEVNULL)
        cls.addClassCleanup(lambda: (agent.send_signal(signal.SIGTERM), agent.wait(BOUND_S)))
        wait_until(lambda: os.path.exists(control) or agent.poll() is not None, "the agent runs")
        return control

    numbers = itertools.count()


def roff_text(source):
    """A page without its font changes, and with plain hyphens."""
    return re.sub(r"\\f[BIRP]", "", source).replace("\\-", "-")


class ManualTest(Installed):
    def sections(self):
        """{command: text} of cohort.1"""
        parts = re.split(r"(?m)^\.SS cohort ([a-z-]+).*$", roff_text(self.read("share", "man", "man1", "cohort.1")).split(".SH ENVIRONMENT")[0])
        return dict(zip(parts[1::2], parts[2::2]))

    def page_options(self, text):
        """Options that have a paragraph of their own: the line after .TP."""
        heads = re.findall(r"(?m)^\.TP\n\.[A-Z]+ (.*)$", text)
        return set(re.findall(r"--[a-z-]+", " ".join(heads)))

    def test_commands_and_options_are_those_of_help(self):
        sections = self.sections()
        self.assertEqual(set(sections), set(self.commands()))
        for command in self.commands():
            if command == "agent":
                found = self.page_options(roff_text(self.read("share", "man", "man8", "cohort-agent.8")))
            else:
                found = self.page_options(sections[command])
            self.assertEqual(found, self.options(command), command)

    def test_operands_are_those_of_help(self):
        page = roff_text(self.read("share", "man", "man1", "cohort.1"))
        for command in self.commands():
            usage = re.match(r"Usage: cohort %s( SUBCOMMAND|) \[OPTIONS\](.*)" % command, self.help(command))
            self.assertIn(".SS cohort %s%s%s\n" % (command, *usage.groups()), page)

    def test_keys_of_the_configuration(self):
        control = self.start_agent()
        keys = [s["key"] for s in json.loads(out(self.binary, "config", "show", "--json", "--control", control, env=self.env))["settings"]]
        page = roff_text(self.read("share", "man", "man5", "cohort.conf.5"))
        self.assertEqual(re.findall(r"(?m)^\.TP\n\.B (\S+)$", page), keys)

    def test_documents_of_the_project(self):
        """docs/cli.md has every command and option."""
        with open(os.path.join(SOURCE, "docs", "cli.md"), encoding="utf-8") as f:
            text = f.read()
        for command in self.commands():
            match = re.search(r"(?ms)^## cohort %s\b(.*?)(?=^## |\Z)" % command, text)
            self.assertTrue(match, command)
            for option in self.options(command) - {"--control"}:
                letter = dict((b, a) for a, b in re.findall(r"(?m)^  (-.), (--[a-z-]+)", self.help(command))).get(option)
                self.assertRegex(match.group(1), r"%s\b%s" % (option, r"|(?<!-)%s\b" % letter if letter else ""), command)

    def test_every_error_of_a_link_is_explained(self):
        with open(os.path.join(SOURCE, "include", "cohort", "error.h"), encoding="utf-8") as f:
            names = re.findall(r"X\((E[A-Z]+), -\d+, LINK,", f.read())
        with open(os.path.join(SOURCE, "docs", "operations.md"), encoding="utf-8") as f:
            rows = " ".join(re.findall(r"(?m)^\| ([A-Z, ]+) \|", f.read()))
        self.assertTrue(names)
        self.assertEqual([n for n in names if not re.search(r"\b%s\b" % n, rows)], [])

    @unittest.skipUnless(shutil.which("groff"), "groff is not installed")
    def test_pages_are_good_roff(self):
        pages = glob.glob(os.path.join(self.prefix, "share", "man", "man*", "cohort*"))
        self.assertEqual(len(pages), 3)
        for page in pages:
            p = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-rLL=100n", page], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               check=False)
            self.assertEqual((p.returncode, p.stderr), (0, b""), page)
            self.assertIn(b"cohort", p.stdout)


class BashTest(Installed):
    def complete(self, *words):
        script = self.file("share", "bash-completion", "completions", "cohort")
        text = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _cohort; printf "%s\\n" "${COMPREPLY[@]}"'
        return set(out("bash", "-c", text, script, *words, env=self.env, cwd=self.root).split())

    def test_it_parses(self):
        self.assertEqual(out("bash", "-n", self.file("share", "bash-completion", "completions", "cohort")), "")

    def test_commands(self):
        self.assertEqual(self.complete("cohort", ""), set(self.commands()) | {"--help", "--version"})
        self.assertEqual(self.complete("cohort", "memb"), {"members"})

    def test_every_option_of_every_command(self):
        for command in self.commands():
            self.assertEqual(self.complete("cohort", command, "--"), self.options(command) | {"--help"}, command)

    def test_choices_and_subcommands(self):
        levels = {"debug", "info", "warn", "error", "off"}
        self.assertEqual(self.complete("cohort", "agent", "--log-level", ""), levels)
        self.assertEqual(self.complete("cohort", "agent", "--log-level", "="), levels)
        self.assertEqual(self.complete("cohort", "agent", "--log-level", "=", "de"), {"debug"})
        self.assertEqual(self.complete("cohort", "config", ""), {"show"})

    def test_files(self):
        with open(os.path.join(self.root, "capture.bin"), "wb"):
            pass
        self.assertEqual(self.complete("cohort", "decode", "capt"), {"capture.bin"})
        self.assertEqual(self.complete("cohort", "agent", "--config", "capt"), {"capture.bin"})

    def test_members_of_the_running_agent(self):
        control = self.start_agent("--id", "me")
        out(self.binary, "add", "you-there", "127.0.0.1", "--port", "1", "--control", control, env=self.env)
        for words in (["ping", "--control", control, ""], ["send", "--control", "=", control, ""],
                      ["ping", "-c", "3", "--size=2", "--control", control, ""]):
            self.assertEqual(self.complete("cohort", *words), {"me", "you-there"}, words)
        self.assertEqual(self.complete("cohort", "ping", "--control", control, "you"), {"you-there"})
        self.assertEqual(self.complete("cohort", "send", "--control", control, "me", ""), set())  # a subject: anything

    def test_no_agent(self):
        self.assertEqual(self.complete("cohort", "ping", "--control", os.path.join(self.root, "none"), ""), set())


@unittest.skipUnless(shutil.which("zsh"), "zsh is not installed")
class ZshTest(Installed):
    """At a terminal, as somebody uses it: what stands in the line after TAB."""

    def setUp(self):
        pid, self.terminal = pty.fork()
        if pid == 0:
            os.environ.update(self.env, TERM="dumb", ZDOTDIR=self.root)
            os.execvp("zsh", ["zsh", "-f", "-i"])
        self.addCleanup(lambda: (os.kill(pid, signal.SIGKILL), os.waitpid(pid, 0), os.close(self.terminal)))
        directory = os.path.dirname(self.file("share", "zsh", "site-functions", "_cohort"))
        self.type("unsetopt zle_bracketed_paste beep prompt_cr; PS1='> '; fpath=(%s $fpath); autoload -U compinit; compinit -u -D; "
                  "echo READY''NOW\n" % directory)
        self.read_until("READYNOW")

    def type(self, text):
        os.write(self.terminal, text.encode())

    def read_until(self, text):
        seen = ""
        deadline = time.monotonic() + BOUND_S
        while text not in seen:
            left = deadline - time.monotonic()
            self.assertGreater(left, 0, "no %r in %r" % (text, seen))
            if select.select([self.terminal], [], [], left)[0]:
                seen += os.read(self.terminal, 4096).decode(errors="replace")
        return seen

    def completes(self, typed, whole):
        """Typed and TAB, the line becomes `whole`."""
        self.type(typed + "\t")
        self.read_until(whole)
        self.type("\x15\x0b")  # the line away
        self.type("echo NE''XT\n")
        self.read_until("NEXT\r")

    def test_it_parses(self):
        self.assertEqual(out("zsh", "-n", self.file("share", "zsh", "site-functions", "_cohort")), "")

    def test_it_completes(self):
        control = self.start_agent("--id", "me")
        out(self.binary, "add", "you-there", "127.0.0.1", "--port", "1", "--control", control, env=self.env)
        for typed, whole in (("cohort membe", "cohort members "), ("cohort agent --log-le", "cohort agent --log-level"),
                             ("cohort agent --log-level de", "cohort agent --log-level debug "),
                             ("cohort agent --log-level=de", "cohort agent --log-level=debug "), ("cohort config ", "cohort config show "),
                             ("cohort stats --watch=2 --js", "cohort stats --watch=2 --json "),
                             ("cohort ping --control %s yo" % control, " you-there "),
                             ("cohort send --control=%s yo" % control, " you-there ")):
            self.completes(typed, whole)

    def test_lists_every_option(self):
        for command in self.commands():
            self.type("cohort %s --\t" % command)
            seen = self.read_until("--help")
            self.type("\x15\x0b")
            self.type("echo NE''XT\n")
            seen += self.read_until("NEXT\r")
            for option in self.options(command):
                self.assertIn(option, seen, command)


class ServiceTest(Installed):
    def unit(self):
        return self.read("lib", "systemd", "system", "cohort.service")

    def test_paths(self):
        real = self.prefix[len(self.root):]
        self.assertIn("ExecStart=%s/bin/cohort agent --config " % real, self.unit())
        self.assertIn("/cohort/cohort.conf", self.unit())
        self.assertNotIn("@", re.sub(r"@(system-service|privileged|resources|chown)", "", self.unit()))
        self.assertNotIn(SOURCE, self.unit())

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    def test_systemd_accepts_it(self):
        path = os.path.join(self.root, "cohort.service")
        with open(path, "w", encoding="utf-8") as f:  # where it is now, so that the binary is found
            f.write(self.unit().replace("ExecStart=" + self.prefix[len(self.root):], "ExecStart=" + self.prefix))
        p = subprocess.run(["systemd-analyze", "verify", "--man=no", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        complaints = [line for line in p.stdout.decode().splitlines() if "cohort.service" in line]
        self.assertEqual((p.returncode, complaints), (0, []), p.stdout.decode())

    def test_user(self):
        self.assertRegex(self.read("lib", "sysusers.d", "cohort.conf"), r"(?m)^u cohort ")
        self.assertIn("User=cohort\n", self.unit())

    def test_example_configuration_is_accepted(self):
        path = self.file("share", "doc", "cohort", "examples", "cohort.conf")
        group = out("id", "-g").strip()  # there is no group cohort here
        control = self.start_agent("--config", path, "--control-group", group)
        shown = json.loads(out(self.binary, "config", "show", "--json", "--control", control, env=self.env))
        settings = {s["key"]: s for s in shown["settings"]}
        self.assertEqual((settings["id"]["value"], settings["cluster"]["from"], settings["control.mode"]["value"]),
                         ("alpha", "file", "0660"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
