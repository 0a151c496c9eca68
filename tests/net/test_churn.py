#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Links that break all the time, and agents that are restarted one after another, under traffic. (Dials that cross: crossing.c.)

COHORT_LONG=1   a minute of broken links instead of 20 s
"""
import http.client
import itertools
import os
import random
import threading
import time

import harness
from harness import address, wait_until
from proxy import Proxy

CHURN_S = 60 if os.environ.get("COHORT_LONG") == "1" else 20
SEED = int(os.environ.get("SEED", "1"))
# Errors of a send that a link lost or not there yet explains.
EXPECTED = {"EINACTIVE", "EAGAIN", "ENOPEER", "ECLOSED"}


class Traffic(threading.Thread):
    """Sends from one agent to the others in turn, as fast as the agent takes it, until stopped."""

    def __init__(self, test, agent, others):
        super().__init__(daemon=True)
        self.agent, self.others = agent, others
        self.over = threading.Event()
        self.sent = dict.fromkeys(others, 0)
        self.failed = dict.fromkeys(others, 0)
        self.strange = []
        test.addCleanup(self.stop)
        self.start()

    def run(self):
        connection = self.agent.http()
        for n in itertools.count():
            if self.over.is_set():
                break
            peer = self.others[n % len(self.others)]
            try:
                status, answer = connection.ask("POST", "/v1/send", b"%d" % n * 100, to=peer, subject="churn")
            except (OSError, http.client.HTTPException, ValueError):  # the agent is being restarted
                connection.close()
                self.over.wait(0.02)
                continue
            if status == 200:
                self.sent[peer] += 1
            else:
                self.failed[peer] += 1
                if answer["error"]["code"] not in EXPECTED:
                    self.strange.append(answer)
                self.over.wait(0.002)
        connection.close()

    def stop(self):
        self.over.set()
        self.join(harness.BOUND_S)


class ChurnTest(harness.NetTest):
    def traffic(self, agents):
        return [Traffic(self, a, [b.id for b in agents if b is not a]) for a in agents]

    def check_traffic(self, traffics):
        for traffic in traffics:
            traffic.stop()
            self.assertEqual(traffic.strange, [])
            for peer, sent in traffic.sent.items():
                self.assertGreater(sent, 0, "nothing went from %s to %s" % (traffic.agent.id, peer))

    def check_meshed(self, agents):
        """All directed pairs ACTIVE, one link a pair at both ends, and an answer over each."""
        def settled():
            for agent in agents:
                states = {m["id"]: m["state"] for m in agent.members().values()}
                self.assertEqual(states, {a.id: "ACTIVE" for a in agents}, agent.id)
                stats = agent.stats()
                self.assertEqual((stats["links_open"], stats["handshakes_pending"]), (len(agents) - 1, 0), agent.id)
            return True
        wait_until(settled, what="one link a pair, all ACTIVE")
        for agent in agents:
            for other in agents:
                if other is not agent:
                    agent.ok("ping", other.id, "-c", "1", "--timeout", "10000")

    def behind_proxies(self, count):
        """Agents that know each other's proxies only: one proxy for each directed pair."""
        places = [address() for _ in range(count)]
        agents, proxies = [], []
        for i, place in enumerate(places):
            nodes = [("n%d" % i, *place)]
            for j, target in enumerate(places):
                if j != i:
                    proxy = Proxy(address(), target, SEED * 100 + i * 10 + j)
                    self.addCleanup(proxy.stop)
                    proxies.append(proxy)
                    nodes.append(("n%d" % j, *proxy.address))
            agents.append(self.agent(node_id="n%d" % i, ip=place[0], port=place[1], cluster=self.definition(nodes)))
        for agent in agents:
            agent.start()
        self.wait_meshed(agents)
        return agents, proxies

    def test_links_reset_at_random_under_traffic(self):
        agents, proxies = self.behind_proxies(3)
        watches = [self.process([harness.BIN, "watch", "--ready", "--json", "--control", a.control], "watch") for a in agents]
        for watch in watches:
            wait_until(lambda w=watch: "listening" in w.err, what="watch is ready")
        traffics = self.traffic(agents)
        pick = random.Random(SEED)
        deadline = time.monotonic() + CHURN_S
        while time.monotonic() < deadline:
            pick.choice(proxies).break_one()
            time.sleep(pick.random() * 0.1)  # the churn itself
        broken = sum(proxy.broken for proxy in proxies)
        self.assertGreater(broken, CHURN_S)
        for agent in agents:
            self.assertTrue(agent.process.running(), "agent %s has died" % agent.id)
        self.check_meshed(agents)
        wait_until(lambda: sum(p.open_pipes() for p in proxies) == 3, what="three connections for three pairs")
        self.check_traffic(traffics)
        for agent, watch in zip(agents, watches):
            self.check_alternate(watch.out)
            self.assertEqual(agent.stats()["errors"].get("EPROTOCOL", 0), 0)
        print("seed %d: %d connections broken, %d made, %d messages" % (
            SEED, broken, sum(p.made for p in proxies), sum(sum(t.sent.values()) for t in traffics)))

    def check_alternate(self, out):
        """ACTIVATED and DEACTIVATED of each member take turns."""
        last = {}
        for line in out.splitlines():
            event = harness.json.loads(line)
            peer, kind = event["member"]["id"], event["type"]
            if kind == "PRESENT":
                last[peer] = "ACTIVATED" if event["member"]["state"] == "ACTIVE" else "DEACTIVATED"
            elif kind in ("ACTIVATED", "DEACTIVATED"):
                self.assertNotEqual(last.get(peer), kind, "%s twice: %s" % (kind, peer))
                last[peer] = kind
        self.assertTrue(last)
        self.assertEqual({p for p, kind in last.items() if kind != "ACTIVATED"}, set())

    def test_rolling_restart_of_five(self):
        agents = self.cluster(5)
        before = {a.id: a.members()[a.id]["incarnation"] for a in agents}
        traffics = self.traffic(agents)
        for i, agent in enumerate(agents):
            rest = [a for a in agents if a is not agent]
            unharmed = [self.same_link(a, b.id) for a in rest for b in rest if a is not b]
            if i % 2:
                agent.kill9()
            else:
                agent.stop()
            for other in rest:
                other.wait_state(agent.id, "INACTIVE")
            agent.start()
            wait_until(lambda a=agent: all(m["state"] == "ACTIVE" for m in a.members().values()), what="%s is back" % agent.id)
            self.wait_meshed(agents)
            for check in unharmed:
                check()
        self.check_meshed(agents)
        self.check_traffic(traffics)
        for agent in agents:
            for other in agents:
                self.assertGreater(agent.members()[other.id]["incarnation"], before[other.id])


if __name__ == "__main__":
    harness.main()
