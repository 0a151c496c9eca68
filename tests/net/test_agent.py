#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Agents and the commands that use them: starting, finding each other, messages, death and return, wrong usage."""
import json
import os
import re
import signal
import socket
import subprocess

import harness
from harness import BIN, address, run, wait_until

COMMANDS = ("agent", "definition", "members", "ping", "send", "broadcast", "listen", "watch", "stats")


class StartTest(harness.NetTest):
    def local(self, agent):
        value = json.loads(agent.ok("members", "--json"))
        member = {m["id"]: m for m in value["members"]}[value["local"]]
        self.assertTrue(member["local"])
        self.assertEqual(member["state"], "ACTIVE")
        self.assertFalse(member["legacy"])
        return member

    def test_ip_from_the_environment_as_the_seed(self):
        """COHORT_IP gives the ip, the ip is the id, and the port is 9876."""
        ip, _ = address()
        member = self.local(self.agent(env={"COHORT_IP": ip}).start())
        self.assertEqual((member["id"], member["ip"], member["tcpPort"]), (ip, ip, 9876))

    def test_option_beats_environment(self):
        (ip, port), (other, _) = address(), address()
        member = self.local(self.agent(ip=ip, port=port, env={"COHORT_IP": other}).start())
        self.assertEqual((member["id"], member["ip"], member["tcpPort"]), (ip, ip, port))

    def test_id_finds_its_node_in_the_definition(self):
        ip, port = address()
        port += 500
        path = self.definition([("left", *address()), ("right", ip, port)])
        member = self.local(self.agent(node_id="right", cluster=path).start())
        self.assertEqual((member["id"], member["ip"], member["tcpPort"]), ("right", ip, port))

    def test_port_of_the_definition_may_be_left_out(self):
        ip, _ = address()
        path = self.definition([{"id": "a", "ip": ip}])
        self.assertEqual(self.local(self.agent(node_id="a", cluster=path).start())["tcpPort"], 9876)

    def test_id_not_in_the_definition(self):
        """As in 2014: a fresh self, and a word about what follows."""
        ip, port = address()
        path = self.definition([("other", *address())])
        agent = self.agent(node_id="me", ip=ip, port=port, cluster=path).start()
        self.assertEqual(self.local(agent)["id"], "me")
        self.assertEqual(set(agent.members()), {"me", "other"})
        self.assertEqual(agent.state("other"), "INACTIVE")
        agent.wait_log("me is not in %s: members that know only those in it refuse us" % re.escape(path))

    def fails(self, agent, *parts):
        """The agent must end with status 1 and one line on stderr that contains `parts`; no control socket stays."""
        agent.launch()
        agent.expect_clean = False
        self.assertEqual(agent.process.wait(), 1, agent.process.err)
        lines = agent.process.err.strip().splitlines()
        self.assertEqual(len(lines), 1, agent.process.err)
        for part in parts:
            self.assertIn(part, lines[0])
        self.assertEqual(agent.process.out, "")
        self.assertFalse(os.path.exists(agent.control))

    def test_port_in_use(self):
        ip, port = address()
        with socket.create_server((ip, port)):
            self.fails(self.agent(ip=ip, port=port), ip, str(port))

    def test_address_of_another_machine(self):
        self.fails(self.agent(ip="192.0.2.1", port=9876), "192.0.2.1")

    def test_no_definition_file(self):
        ip, port = address()
        path = os.path.join(self.dir, "missing.json")
        self.fails(self.agent(ip=ip, port=port, cluster=path), path)

    def test_definition_is_a_directory(self):
        ip, port = address()
        self.fails(self.agent(ip=ip, port=port, cluster=self.dir), self.dir)

    def test_definition_is_not_json(self):
        ip, port = address()
        path = os.path.join(self.dir, "bad.json")
        with open(path, "w", encoding="utf-8") as f:
            f.write('{"nodes": [\n  {"id": "a" "ip": "127.0.0.1"}\n]}\n')
        self.fails(self.agent(ip=ip, port=port, cluster=path), path + ":2:")

    def test_definition_with_a_bad_ip(self):
        ip, port = address()
        path = self.definition([("a", ip, port), ("b", "300.1.1.1", 9876)])
        self.fails(self.agent(node_id="a", cluster=path), path, "nodes[1].ip", "300.1.1.1")

    def test_control_socket_of_a_living_agent_is_not_taken(self):
        first = self.agent(**dict(zip(("ip", "port"), address()))).start()
        second = self.agent(**dict(zip(("ip", "port"), address())))
        second.control = first.control
        second.launch()
        second.expect_clean = False
        self.assertEqual(second.process.wait(), 1, second.process.err)
        self.assertEqual(set(first.members()), {first.id})

    def test_stale_control_socket_is_taken(self):
        agent = self.agent(**dict(zip(("ip", "port"), address()))).start()
        agent.kill9()
        self.assertTrue(os.path.exists(agent.control))
        agent.start()
        self.assertEqual(set(agent.members()), {agent.id})


class ClusterTest(harness.NetTest):
    def test_three_agents_become_active(self):
        agents = self.cluster(3)
        for agent in agents:
            members = agent.members()
            self.assertEqual(set(members), {"n0", "n1", "n2"})
            for other in agents:
                member = members[other.id]
                self.assertEqual((member["ip"], member["tcpPort"], member["state"]), (other.ip, other.port, "ACTIVE"))
                self.assertEqual(member["local"], other is agent)
                self.assertFalse(member["legacy"])
                self.assertGreater(member["incarnation"], 0)
        table = agents[0].ok("members")
        for other in agents:
            self.assertIn(other.id, table)
            self.assertIn(other.ip, table)

    def test_send_and_listen(self):
        a, b, _ = self.cluster(3)
        listener = b.listen("news.sport", count=2)
        a.ok("send", b.id, "news.sport", "one two")
        a.ok("send", b.id, "news.other", "not for it")
        a.ok("send", b.id, "news.sport", "-", stdin="from stdin")
        self.assertEqual(listener.wait(), 0)
        self.assertIn("one two", listener.out)
        self.assertIn("from stdin", listener.out)
        self.assertIn(a.id, listener.out)
        self.assertNotIn("not for it", listener.out)
        self.assertLess(listener.out.index("one two"), listener.out.index("from stdin"))

    def test_order_is_kept(self):
        a, b = self.cluster(2)
        listener = b.listen("count", count=30)
        for i in range(30):
            a.ok("send", b.id, "count", "<%d>" % i)
        self.assertEqual(listener.wait(), 0)
        places = [listener.out.index("<%d>" % i) for i in range(30)]
        self.assertEqual(places, sorted(places))

    def test_broadcast(self):
        agents = self.cluster(3)
        listeners = [agent.listen("all", count=1) for agent in agents[1:]]
        agents[0].ok("broadcast", "all", "to everyone")
        for listener in listeners:
            self.assertEqual(listener.wait(), 0)
            self.assertIn("to everyone", listener.out)

    def test_broadcast_names_whom_it_misses(self):
        agents = self.cluster(8, start=False)
        a, b, *stopped = agents
        a.args += ["--config", self.write_config({"limits": {"peer_queue_bytes_max": 65536, "message_bytes_max": 65536}})]
        for agent in agents:
            agent.start()
        self.wait_meshed(agents)
        heard = b.listen("all", count=1)
        for agent in stopped:
            agent.send_signal(signal.SIGSTOP)
            self.addCleanup(agent.send_signal, signal.SIGCONT)
            wait_until(lambda agent=agent: a.cli("send", agent.id, "fill", "-", stdin="x" * 40000).status == 1, what="its queue is full")
        result = a.cli("broadcast", "all", "-", stdin="y" * 40000)
        self.assertEqual((result.status, result.out), (1, ""))
        self.assertEqual(result.err, "cohort broadcast: queued for 1 member, not for n2, n3, n4, n5 and 2 more: "
                                     "the queue to this peer is full (EAGAIN)\n")
        self.assertEqual(heard.wait(), 0)  # the other gets it
        for agent in stopped[1:]:
            agent.send_signal(signal.SIGCONT)
            wait_until(lambda agent=agent: a.link(agent.id)["queued_bytes"] == 0, what="its queue is empty")
        self.assertIn("queued for 6 members, not for n2: the queue", a.cli("broadcast", "all", "-", stdin="y" * 40000).err)
        stopped[0].send_signal(signal.SIGCONT)
        self.assertIn("subject must be a name", a.cli("broadcast", "a b", "x").err)

    def test_broadcast_to_nobody(self):
        (a,) = self.cluster(1)
        self.assertEqual(a.ok("broadcast", "all", "x"), "queued for 0 members\n")
        self.assertEqual(a.ok("broadcast", "all", "x", "--local"), "queued for 1 member\n")
        self.assertIn("subject must be a name", a.cli("broadcast", "a b", "x").err)

    def test_what_is_sent_here_is_heard_here(self):
        a, b = self.cluster(2)
        here, there = a.listen("here", count=3), b.listen("here", count=1)
        a.ok("send", a.id, "here", "to myself")
        self.assertIn("1 member", a.ok("broadcast", "here", "to others"))
        self.assertIn("2 members", a.ok("broadcast", "here", "to all", "--local"))
        self.assertEqual(there.wait(), 0)
        a.ok("send", a.id, "here", "once more")
        self.assertEqual(here.wait(), 0)
        self.assertLess(here.out.index("to myself"), here.out.index("to all"))
        self.assertIn("once more", here.out)
        self.assertNotIn("to others", here.out)
        a.ok("ping", a.id, "-c", "1")
        self.assertEqual([link["id"] for link in a.http().ask("GET", "/v1/links")[1]["links"]], [b.id])

    def test_raw_types(self):
        a, b = self.cluster(2)
        listener = b.listen("#77", count=1)
        a.ok("send", b.id, "#77", "raw")
        self.assertEqual(listener.wait(), 0)
        self.assertIn("raw", listener.out)
        for subject in ("#1", "#2", "#-1"):  # of the protocol; between cohort nodes also those with the top bit
            self.assertEqual(a.cli("send", b.id, subject, "x").status, 1, subject)
        b.ok("ping", a.id)

    def test_large_message(self):
        a, b = self.cluster(2)
        listener = b.listen("large", count=1)
        text = "".join("%08d" % i for i in range(100000))
        a.ok("send", b.id, "large", "-", stdin=text)
        self.assertEqual(listener.wait(), 0)
        self.assertIn(text, listener.out)
        result = a.cli("send", b.id, "large", "-", stdin="x" * (1024 * 1024 + 1))
        self.assertEqual(result.status, 1)
        self.assertTrue(result.err.strip())
        b.ok("ping", a.id)

    def test_ping(self):
        a, b = self.cluster(2)
        out = a.ok("ping", b.id, "-c", "3")
        self.assertGreaterEqual(len(out.strip().splitlines()), 3)
        result = a.cli("ping", "nobody", "-c", "1")
        self.assertEqual(result.status, 1)
        self.assertIn("nobody", result.err)

    def test_stats(self):
        a, b = self.cluster(2)
        a.ok("ping", b.id, "-c", "1")
        link = a.link(b.id)
        for counter in ("bytes_in", "bytes_out", "frames_in", "frames_out", "open_ns"):
            self.assertGreater(link[counter], 0, counter)
        totals = {harness.snake(k): v for k, v in json.loads(a.ok("stats", "--json")).items()}
        self.assertEqual(totals["links_open"], 1)
        self.assertTrue(a.ok("stats").strip())
        self.assertEqual(a.cli("stats", "nobody").status, 1)

    def test_send_to_nobody(self):
        place = address()
        (a,) = self.cluster(1, extra=[("silent", *place)])
        result = a.cli("send", "nobody", "x", "y")
        self.assertEqual(result.status, 1)
        self.assertEqual(len(result.err.strip().splitlines()), 1, result.err)
        a.ok("send", "silent", "x", "kept until it comes")
        self.assertGreater(a.link("silent")["queued_bytes"], 0)

    def test_other_cluster_is_refused(self):
        (ip1, port1), (ip2, port2) = address(), address()
        nodes = [("a", ip1, port1), ("b", ip2, port2)]
        a = self.agent(node_id="a", cluster=self.definition(nodes, "blue")).start()
        b = self.agent(node_id="b", cluster=self.definition(nodes, "green")).start()
        b.wait_log("ECLUSTER|EREMOTE")
        a.wait_log("ECLUSTER|EREMOTE")
        self.assertEqual((a.state("b"), b.state("a")), ("INACTIVE", "INACTIVE"))


class DeathTest(harness.NetTest):
    def test_kill9_and_return(self):
        a, b, c = self.cluster(3)
        before = a.members()[c.id]["incarnation"]
        unharmed = [self.same_link(a, b.id), self.same_link(b, a.id)]
        c.kill9()
        a.wait_state(c.id, "INACTIVE")
        b.wait_state(c.id, "INACTIVE")
        a.ok("send", c.id, "x", "kept until it is back")
        self.assertGreater(a.link(c.id)["queued_bytes"], 0)
        for check in unharmed:
            check()
        c.start()
        self.wait_meshed([a, b, c])
        self.assertGreater(a.members()[c.id]["incarnation"], before)
        harness.wait_until(lambda: a.link(c.id)["queued_bytes"] == 0, what="what was kept is delivered to the new process")
        for check in unharmed:
            check()
        listener = c.listen("again", count=1)
        a.ok("send", c.id, "again", "welcome back")
        self.assertEqual(listener.wait(), 0)

    def test_listener_survives_the_death_of_a_peer(self):
        a, b, c = self.cluster(3)
        listener = b.listen("news", count=2)
        c.ok("send", b.id, "news", "first")
        wait_until(lambda: "first" in listener.out)
        c.kill9()
        b.wait_state(c.id, "INACTIVE")
        a.ok("send", b.id, "news", "second")
        self.assertEqual(listener.wait(), 0)

    def ended_by(self, number):
        a, b = self.cluster(2)
        b.stop(number)
        self.assertFalse(os.path.exists(b.control))
        # At once: the link's end is seen, not found out by a timer.
        a.wait_state(b.id, "INACTIVE", timeout=5)
        self.assertEqual(b.cli("members").status, 1)

    def test_sigterm(self):
        self.ended_by(signal.SIGTERM)

    def test_sigint(self):
        self.ended_by(signal.SIGINT)

    def test_sigterm_while_clients_listen(self):
        a, b = self.cluster(2)
        listener = b.listen("never")
        b.stop()
        self.assertNotEqual(listener.wait(), None)

    def test_watch(self):
        a, b = self.cluster(2)
        watch = self.process([BIN, "watch", "--json", "--control", a.control], "watch")

        def restart_shows():
            b.kill9()
            a.wait_state(b.id, "INACTIVE")
            b.start()
            a.wait_state(b.id, "ACTIVE")
            return "DEACTIVATED" in watch.out and watch.out.rstrip().count("ACTIVATED") > watch.out.count("DEACTIVATED")
        wait_until(restart_shows, what="watch shows a restart")
        for line in watch.out.splitlines():
            json.loads(line)

    def test_many_restarts(self):
        a, b = self.cluster(2)
        last = a.members()[b.id]["incarnation"]
        for _ in range(5):
            b.kill9()
            b.start()
            wait_until(lambda: a.state(b.id) == "ACTIVE" and a.members()[b.id]["incarnation"] > last)
            last = a.members()[b.id]["incarnation"]


class UsageTest(harness.NetTest):
    def test_help(self):
        result = run("--help")
        self.assertEqual(result.status, 0, result)
        for command in COMMANDS:
            self.assertIn(command, result.out)
            result2 = run(command, "--help")
            self.assertEqual(result2.status, 0, result2)
            self.assertIn(command, result2.out)
            result3 = run("help", command)
            self.assertEqual((result3.status, result3.out), (0, result2.out))
        self.assertEqual(run("help").out, result.out)
        self.assertEqual(run("help", "nosuch").status, 2)

    def test_version(self):
        result = run("--version")
        self.assertEqual(result.status, 0, result)
        self.assertRegex(result.out, r"\d+\.\d+\.\d+")

    def test_usage_errors(self):
        for args in (["nonsense"], ["members", "--nonsense"], ["stats", "-c", "3"], ["send"], ["send", "a"], ["ping"], ["ping", "a", "-c", "x"],
                     ["listen"], ["broadcast"], ["agent", "--port", "70000"], ["agent", "--port", "x"], ["agent", "extra"],
                     ["agent", "--log-format", "xml"], ["agent", "--log-level", "loud"], ["members", "extra"]):
            result = run(*args)
            self.assertEqual(result.status, 2, "%s: %r" % (args, result))
            self.assertTrue(result.err.strip(), args)
            self.assertEqual(result.out, "", args)

    def test_no_command(self):
        self.assertEqual(run().status, 2)

    def test_bad_id_is_a_usage_error(self):
        ip, port = address()
        for bad in ("a b", "x" * 65, "a:b"):
            result = run("agent", "--id", bad, "--ip", ip, "--port", str(port), "--control", os.path.join(self.dir, "c"))
            self.assertIn(result.status, (1, 2), result)
            self.assertTrue(result.err.strip())

    def test_no_agent(self):
        control = os.path.join(self.dir, "none")
        for args in (["members"], ["send", "a", "b", "c"], ["ping", "a"], ["listen", "x"], ["watch"], ["stats"]):
            result = run(*args, "--control", control)
            self.assertEqual(result.status, 1, "%s: %r" % (args, result))
            self.assertEqual(len(result.err.strip().splitlines()), 1, result.err)
            self.assertIn(control, result.err)

    def test_closed_output(self):
        """A reader that goes away, as `head` does, ends a command without noise."""
        agent = self.agent(**dict(zip(("ip", "port"), address()))).start()
        process = subprocess.Popen([BIN, "members", "--control", agent.control], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        self.assertNotIn(b"Sanitizer", process.stderr.read())
        process.wait(harness.BOUND_S)
        process.stderr.close()


if __name__ == "__main__":
    harness.main()
