#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Networks that are cut and heal: agents in network namespaces of their own, joined by a bridge (netns.py).

What is promised (docs/architecture.md): a dead path is found by keep-alive (10 s, then 4 probes 5 s apart) or, with data under
way, by TCP_USER_TIMEOUT (30 s); a lost member is dialled again after 10 s at most, each dial waiting 3 s for its answer.
All cuts run side by side, so that the time is that of one.
"""
import time

import harness
import netns
from harness import PORT, Agent, wait_until
from netns import Host, sh

FOUND_S = 45.0   # 30 s, and some for a machine that is busy
HEALED_S = 25.0  # 10 s back-off, 3 s of a dial begun before, and as much again
SHORT_CUT_S = 8.0


class HostAgent(Agent):
    def __init__(self, test, host, **kwargs):
        self.host = host
        super().__init__(test, ip=host.ip, **kwargs)

    def argv(self):
        return self.host.inside(*super().argv())


# ---- the test ----------------------------------------------------------------------------------------------------------

class NamespaceTest(netns.NetnsTest):
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


if __name__ == "__main__":
    netns.enter()
    harness.main()
