# SPDX-License-Identifier: Apache-2.0
"""Hosts that are network namespaces, joined by a bridge.

The test program runs itself again inside a fresh network namespace (as root, or as root of a user namespace): bridge, namespaces and
rules are in there, and the kernel removes all of it when the processes end, however they end. It calls enter() first; its test
cases derive from NetnsTest, which skips them, or with CI=true fails, where that is not possible.
"""
import itertools
import os
import re
import shutil
import subprocess
import sys
import unittest

import harness
from harness import PORT

INSIDE = "COHORT_IN_NAMESPACE"
WHY_NOT = None


# ---- getting in --------------------------------------------------------------------------------------------------------

def try_out(*argv):
    """Why the command fails; None when it works."""
    try:
        p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        return str(e)
    return None if p.returncode == 0 else "%s: %s" % (" ".join(argv), p.stderr.decode(errors="replace").strip() or p.returncode)


PROBE = ("ip link set lo up && ip link add br0 type bridge && ip link add v0 type veth peer name v1 && "
         "iptables -A INPUT -s 10.0.0.1 -j DROP && unshare -n true && ss -Htn >/dev/null")


def find_way():
    """(arguments of unshare, None) or (None, why there is none)."""
    for tool in ("unshare", "nsenter", "ip", "iptables", "ss"):
        if not shutil.which(tool):
            return None, "%s is not installed" % tool
    why = None
    for way in (["-n"], ["-Urn"]):
        why = try_out("unshare", *way, "sh", "-c", PROBE)
        if why is None:
            return way, None
    return None, why


def enter():
    """Run the main program again inside a namespace; sets WHY_NOT when that is not possible. Once inside, does nothing."""
    global WHY_NOT
    if os.environ.get(INSIDE):
        return
    os.environ.setdefault("XTABLES_LOCKFILE", "/dev/null" if os.geteuid() else "/run/xtables.lock")
    way, WHY_NOT = find_way()
    if way:
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", *way, sys.executable, *sys.argv])


# ---- hosts -------------------------------------------------------------------------------------------------------------

def sh(*argv):
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=harness.BOUND_S,
                       check=False)
    assert p.returncode == 0, "%s: %s" % (" ".join(argv), p.stdout.decode(errors="replace"))
    return p.stdout.decode(errors="replace")


class Host:
    """A network namespace with one interface on the bridge. It lives as long as a process that waits for its end of input."""

    numbers = itertools.count(1)

    def __init__(self, test):
        self.number = next(Host.numbers)
        self.ip = "10.77.0.%d" % self.number
        self.port = "port%d" % self.number
        self.keeper = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo in; read end"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        test.addCleanup(self.close)
        assert self.keeper.stdout.readline() == b"in\n"
        sh("ip", "link", "add", self.port, "type", "veth", "peer", "name", "eth0", "netns", str(self.keeper.pid))
        sh("ip", "link", "set", self.port, "master", "br0", "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "addr", "add", self.ip + "/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def close(self):
        self.keeper.communicate(timeout=harness.BOUND_S)

    def inside(self, *argv):
        return ["nsenter", "-t", str(self.keeper.pid), "-n", *argv]

    def run(self, *argv):
        return sh(*self.inside(*argv))

    # -- cuts

    def hears_nothing_of(self, other):
        self.run("iptables", "-A", "INPUT", "-s", other.ip, "-j", "DROP")

    def says_nothing_to(self, other):
        self.run("iptables", "-A", "OUTPUT", "-d", other.ip, "-j", "DROP")

    def apart_from(self, other):
        self.hears_nothing_of(other)
        self.says_nothing_to(other)

    def heal(self):
        self.run("iptables", "-F")

    def connections(self):
        """Addresses at the other end of its TCP connections, in order, whatever their state."""
        out = self.run("ss", "-Htan", "state", "connected", "exclude", "time-wait", "sport = :%d or dport = :%d" % (PORT, PORT))
        return sorted(re.findall(r"(10\.77\.0\.\d+):\d+\s*$", line)[0] for line in out.splitlines() if line.strip())


class NetnsTest(harness.NetTest):
    def setUp(self):
        super().setUp()
        if not os.environ.get(INSIDE):
            why = "no network namespaces here: %s" % WHY_NOT
            if os.environ.get("CI") == "true":
                self.fail(why)
            raise unittest.SkipTest(why)
        sh("ip", "link", "add", "br0", "type", "bridge")
        self.addCleanup(sh, "ip", "link", "del", "br0")
        sh("ip", "link", "set", "br0", "up")
