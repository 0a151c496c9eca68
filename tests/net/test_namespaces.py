#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Networks that are cut and heal: agents in network namespaces of their own, joined by a bridge.

The test runs itself again inside a fresh network namespace (as root, or as root of a user namespace): bridge, namespaces and
rules are in there, and the kernel removes all of it when the processes end, however they end.

What is promised (docs/architecture.md): a dead path is found by keep-alive (10 s, then 4 probes 5 s apart) or, with data under
way, by TCP_USER_TIMEOUT (30 s); a lost member is dialled again after 10 s at most, each dial waiting 3 s for its answer.
All cuts run side by side, so that the time is that of one.
"""
import itertools
import os
import re
import shutil
import subprocess
import sys
import time
import unittest

import harness
from harness import PORT, Agent, wait_until

INSIDE = "COHORT_IN_NAMESPACE"
FOUND_S = 45.0   # 30 s, and some for a machine that is busy
HEALED_S = 25.0  # 10 s back-off, 3 s of a dial begun before, and as much again
SHORT_CUT_S = 8.0


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
    """Run this program again inside a namespace; returns why that is not possible."""
    os.environ.setdefault("XTABLES_LOCKFILE", "/dev/null" if os.geteuid() else "/run/xtables.lock")
    way, why = find_way()
    if way:
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", *way, sys.executable, os.path.abspath(__file__), *sys.argv[1:]])
    return why


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


class HostAgent(Agent):
    def __init__(self, test, host, **kwargs):
        self.host = host
        super().__init__(test, ip=host.ip, **kwargs)

    def argv(self):
        return self.host.inside(*super().argv())


# ---- the test ----------------------------------------------------------------------------------------------------------

class NamespaceTest(harness.NetTest):
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

    def trio(self, names):
        hosts = [Host(self) for _ in names]
        path = self.definition([(name, host.ip, PORT) for name, host in zip(names, hosts)])
        agents = [HostAgent(self, host, node_id=name, cluster=path) for name, host in zip(names, hosts)]
        self.agents += agents
        for agent in agents:
            agent.launch()
        for agent in agents:
            wait_until(agent._answers, what="agent %s answers" % agent.id)
        self.wait_meshed(agents)
        return agents

    def wait_directed(self, pairs, state, bound_s, meanwhile):
        """Wait until each (agent, peer id) shows `state`; {pair: seconds}. meanwhile() is called all the time."""
        start = time.monotonic()
        times = {}
        while len(times) < len(pairs):
            for agent, peer in pairs:
                if (agent.id, peer) not in times and agent.state(peer) == state:
                    times[agent.id, peer] = round(time.monotonic() - start, 1)
            meanwhile()
            waits = [(a.id, p) for a, p in pairs if (a.id, p) not in times]
            self.assertLess(time.monotonic() - start, bound_s, "not %s: %s; %s" % (state, waits, times))
            time.sleep(0.05)
        return times

    def test_cuts_and_healing(self):
        a, b, c = first = self.trio(["a", "b", "c"])
        d, e, f = second = self.trio(["d", "e", "f"])
        whole = [(a, c), (c, a), (d, e), (e, d)]
        unharmed = [self.same_link(x, y.id) for x, y in whole]
        cut = [(x, y.id) for p, q in ((a, b), (b, c), (d, f), (e, f)) for x, y in ((p, q), (q, p))]
        late = d.listen("late", count=1)
        start = time.monotonic()

        a.host.apart_from(b.host)          # both ways
        c.host.hears_nothing_of(b.host)    # one way: b still hears c
        sh("ip", "link", "set", f.host.port, "down")  # the cable of f
        d.host.apart_from(e.host)          # and a cut too short to be noticed, with a message on its way
        e.ok("send", "d", "late", "but not lost")
        mended = False
        busy = e.http()
        self.addCleanup(busy.close)

        def meanwhile():
            """e, unlike d, always has something to tell f."""
            nonlocal mended
            busy.ask("POST", "/v1/send", b"hello?", to="f", subject="x")
            for x, y in whole:
                self.assertEqual(x.state(y.id), "ACTIVE", "%s, that is not cut off, for %s" % (y.id, x.id))
            if not mended and time.monotonic() - start > SHORT_CUT_S:
                d.host.heal()
                mended = True
        found = self.wait_directed(cut, "INACTIVE", FOUND_S, meanwhile)
        print("found after", found)
        self.assertEqual(late.wait(), 0)
        self.assertIn("but not lost", late.out)
        for check in unharmed:
            check()

        for agent in first:
            agent.host.heal()
        sh("ip", "link", "set", f.host.port, "up")
        print("healed after", self.wait_directed(cut, "ACTIVE", HEALED_S, meanwhile))
        for check in unharmed:
            check()
        for trio in (first, second):
            self.check_one_connection_a_pair(trio)

    def check_one_connection_a_pair(self, agents):
        for agent in agents:
            others = sorted(x.ip for x in agents if x is not agent)
            wait_until(lambda h=agent.host, o=others: h.connections() == o, what="%s has one connection a peer" % agent.id)
            self.assertEqual(agent.stats()["links_open"], len(others))
            for other in agents:
                if other is not agent:
                    agent.ok("ping", other.id, "-c", "1", "--timeout", "10000")


WHY_NOT = None

if __name__ == "__main__":
    if not os.environ.get(INSIDE):
        WHY_NOT = enter()
    harness.main()
