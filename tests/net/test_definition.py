#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The definition file under running agents: every way in which it is changed, and what they make of it; host names; bind."""
import json
import os
import socket

import harness
from harness import address, run, wait_until


class FollowTest(harness.NetTest):
    """Three agents follow one file; a fourth is there to join."""

    def setUp(self):
        super().setUp()
        self.places = [address() for _ in range(4)]
        self.ids = ["n%d" % i for i in range(4)]
        self.path = os.path.join(self.dir, "cluster.json")
        self.write(0, 1, 2)

    def value(self, *numbers):
        return {"nodes": [{"id": self.ids[i], "ip": self.places[i][0], "tcpPort": self.places[i][1]} for i in numbers]}

    def write(self, *numbers, path=None):
        """In place, as `>` in a shell does."""
        with open(path or self.path, "w", encoding="utf-8") as f:
            json.dump(self.value(*numbers), f, indent=2)

    def three(self, path=None, args=()):
        agents = [self.agent(node_id=self.ids[i], ip=self.places[i][0], port=self.places[i][1], cluster=path or self.path, args=args)
                  for i in range(3)]
        for agent in agents:
            agent.start()
        self.wait_meshed(agents)
        return agents

    def fourth(self):
        return self.agent(node_id=self.ids[3], ip=self.places[3][0], port=self.places[3][1], cluster=self.path)

    def knows(self, agents, *ids):
        for agent in agents:
            wait_until(lambda a=agent: set(a.members()) == set(ids), what="%s knows %s" % (agent.id, ids))

    def status(self, agent):
        return json.loads(self.say_status(agent, "--json"))

    def say_status(self, agent, *args):
        result = run("definition", "status", "--control", agent.control, *args)
        self.assertEqual(result.status, 0, result)
        return result.out

    def changed(self, *args):
        result = run("definition", *args)
        self.assertEqual((result.status, result.out, result.err), (0, "", ""), args)

    def test_a_member_is_added_and_another_removed(self):
        agents = self.three()
        unharmed = [self.same_link(agents[0], "n1"), self.same_link(agents[1], "n2")]
        watch = self.process([harness.BIN, "watch", "--json", "--ready", "--control", agents[0].control], "watch")
        wait_until(lambda: watch.out.count("PRESENT") == 3)
        self.changed("add", self.path, "n3", self.places[3][0], "--port", str(self.places[3][1]))
        self.knows(agents, *self.ids)
        self.assertEqual(agents[0].state("n3"), "INACTIVE")
        fourth = self.fourth().start()
        self.wait_meshed([*agents, fourth])
        for check in unharmed:
            check()
        self.changed("remove", self.path, "n2")
        self.knows([agents[0], agents[1], fourth], "n0", "n1", "n3")
        self.knows([agents[2]], *self.ids[:2], "n2", "n3")  # it is not listed, and knows itself all the same
        agents[2].wait_log("does not list this node any more")
        unharmed[0]()
        self.assertEqual(agents[0].cli("send", "n2", "x", "y").status, 1)
        self.changed("add", self.path, "n2", self.places[2][0], "--port", str(self.places[2][1]))
        self.wait_meshed([*agents, fourth])
        kinds = [json.loads(line) for line in watch.out.splitlines()]
        self.assertEqual([(k["type"], k["member"]["id"]) for k in kinds if k["type"] in ("ADDED", "REMOVED")],
                         [("ADDED", "n3"), ("REMOVED", "n2"), ("ADDED", "n2")])
        status = self.status(agents[0])
        self.assertEqual((status["file"], status["followed"], status["applied"], status["failed"]), (self.path, True, 3, 0))
        self.assertNotIn("error", status)

    def test_replaced_by_rename(self):
        """As editors and configuration management do: a new file takes the name, again and again."""
        agents = self.three()
        for numbers in ((0, 1, 2, 3), (0, 1), (0, 1, 2)):
            new = os.path.join(self.dir, ".new")
            self.write(*numbers, path=new)
            os.rename(new, self.path)
            self.knows(agents[:2], *(self.ids[i] for i in numbers))
        self.wait_meshed(agents)

    def test_moved_away_and_written_anew(self):
        """As editors do that keep the old one as a backup."""
        agents = self.three()
        os.rename(self.path, self.path + "~")
        self.write(0, 1, 2, 3)
        self.knows(agents, *self.ids)

    def test_symbolic_link(self):
        """Written through the link, replaced at the end of the link, and the link itself replaced, as in a mounted volume."""
        volume = os.path.join(self.dir, "volume")
        for name in ("1", "2"):
            os.makedirs(os.path.join(volume, name))
        os.rename(self.path, os.path.join(volume, "1", "cluster.json"))
        os.symlink("1", os.path.join(volume, "now"))
        os.symlink(os.path.join("volume", "now", "cluster.json"), self.path)
        agents = self.three()
        self.changed("add", self.path, "n3", self.places[3][0], "--port", str(self.places[3][1]))
        self.assertTrue(os.path.islink(self.path))
        self.assertEqual(os.listdir(os.path.join(volume, "1")), ["cluster.json"])
        self.knows(agents, *self.ids)
        self.write(0, 1, path=os.path.join(volume, "2", "cluster.json"))
        os.symlink("2", os.path.join(volume, "next"))
        os.rename(os.path.join(volume, "next"), os.path.join(volume, "now"))
        self.knows(agents[:2], "n0", "n1")

    def test_a_broken_file_changes_nothing_and_is_reported(self):
        agents = self.three()
        unharmed = [self.same_link(agents[0], "n1"), self.same_link(agents[0], "n2")]
        with open(self.path, "w", encoding="utf-8") as f:
            f.write('{"nodes": [\n  {"id": "n0", "ip": "127.0.0.300"}\n]}\n')
        place = "%s:2:22: $.nodes[0].ip: \"127.0.0.300\"" % self.path
        for agent in agents:
            wait_until(lambda a=agent: "error" in self.status(a), what="%s reports" % agent.id)
            status = self.status(agent)
            self.assertEqual(status["error"]["code"], "EDEFINITION")
            self.assertIn(place, status["error"]["text"])
            self.assertGreaterEqual(status["failed"], 1)
            record = [r for r in agent.records() if r.get("component") == "definition" and r["level"] == "ERROR"][-1]
            self.assertIn(place, record["text"])
            self.assertEqual(record["code"], "EDEFINITION")
            self.assertIn(place, self.say_status(agent))
        self.knows(agents, "n0", "n1", "n2")
        os.unlink(self.path)
        wait_until(lambda: self.status(agents[0])["error"]["code"] == "EFILE")
        for check in unharmed:
            check()
        self.write(0, 1, 2, 3)
        self.knows(agents, *self.ids)
        for agent in agents:
            wait_until(lambda a=agent: "error" not in self.status(a), what="%s is content again" % agent.id)

    def test_the_definition_of_another_cluster_is_not_applied(self):
        value = self.value(0, 1, 2)
        value["cluster"] = "blue"
        with open(self.path, "w", encoding="utf-8") as f:
            json.dump(value, f)
        agents = self.three()
        value["cluster"] = "green"
        del value["nodes"][2]
        with open(self.path, "w", encoding="utf-8") as f:
            json.dump(value, f)
        wait_until(lambda: self.status(agents[0]).get("error", {}).get("code") == "ECLUSTER")
        self.knows(agents, "n0", "n1", "n2")

    def test_another_address(self):
        """A member that moves is dialled at its new place; its own change waits for the restart, and is said."""
        agents = self.three()
        ip, port = address()
        self.changed("set", self.path, "n2", ip, "--port", str(port))
        wait_until(lambda: agents[0].members()["n2"]["ip"] == ip)
        self.assertEqual(agents[0].state("n2"), "ACTIVE")
        agents[2].wait_log("another address: it is used after a restart")
        agents[2].stop()
        agents[2].args = ["--cluster", self.path, "--id", "n2"]
        agents[2].start()
        self.wait_meshed(agents)
        self.assertEqual(agents[2].members()["n2"]["ip"], ip)

    def test_no_watch(self):
        watching, *others = self.three(args=["--no-watch"])
        self.assertEqual(self.status(watching)["followed"], False)
        follower = self.fourth()
        self.write(0, 1, 2, 3)
        follower.start()
        wait_until(lambda: follower.state("n0") is not None)
        self.changed("remove", self.path, "n2")
        self.knows([follower], "n0", "n1", "n3")  # it has been seen by whoever looks
        self.knows([watching, *others], "n0", "n1", "n2")


class AddressTest(harness.NetTest):
    def free_port(self):
        with socket.create_server(("127.0.0.1", 0)) as s:
            return s.getsockname()[1]

    def test_host_name_and_bind(self):
        """localhost may be ::1 first, where nobody listens."""
        port, (ip, _) = self.free_port(), address()
        path = self.definition([{"id": "a", "ip": "localhost", "tcpPort": port, "bind": "127.0.0.1"}, {"id": "b", "ip": ip}])
        a, b = self.agent(node_id="a", cluster=path), self.agent(node_id="b", cluster=path)
        a.start()
        b.start()
        self.wait_meshed([a, b])
        self.assertEqual(b.members()["a"]["ip"], "localhost")
        self.assertRefused(ip, port)

    def assertRefused(self, ip, port):
        with self.assertRaises(OSError):
            socket.create_connection((ip, port), timeout=5).close()

    def listens(self, ip, port):
        socket.create_connection((ip, port), timeout=5).close()
        return True

    def test_bind_to_all_addresses(self):
        for bind, other in (("0.0.0.0", None), ("::", "::1")):
            with self.subTest(bind=bind):
                port, (ip, _), (second, _) = self.free_port(), address(), address()
                agent = self.agent(node_id="a", ip=ip, port=port, args=["--bind", bind]).start()
                self.assertEqual(agent.members()["a"]["ip"], ip)
                for to in (ip, second, *([other] if other and os.path.exists("/proc/net/if_inet6") else [])):
                    self.assertTrue(self.listens(to, port), to)
                agent.stop()

    def test_bind_that_is_not_here(self):
        ip, port = address()
        agent = self.agent(node_id="a", ip=ip, port=port, args=["--bind", "192.0.2.1"])
        agent.launch()
        agent.expect_clean = False
        self.assertEqual(agent.process.wait(), 1)
        self.assertIn("192.0.2.1", agent.process.err)

    def test_a_name_that_cannot_be_resolved(self):
        ip, port = address()
        path = self.definition([("a", ip, port), {"id": "b", "ip": "nowhere.invalid"}])
        agent = self.agent(node_id="a", cluster=path).start()
        wait_until(lambda: agent.errors("ENORESOLVE") >= 1)
        agent.wait_log("cannot dial nowhere.invalid port 9876: the host name cannot be resolved")
        agent.stop()  # at once, and with status 0


class CommandTest(harness.NetTest):
    def test_exit_codes(self):
        path = os.path.join(self.dir, "c.json")
        for status, args in ((1, ["check", path]), (1, ["show", path]), (1, ["add", path, "a", "10.0.0.1"]), (0, ["add", path, "a", "10.0.0.1", "--create"]),
                             (0, ["check", path]), (0, ["show", path]), (1, ["add", path, "a", "10.0.0.2"]), (1, ["add", path, "b", "10.0.0.1"]),
                             (1, ["add", path, "b", "300.1.1.1"]), (1, ["add", path, "b b", "10.0.0.2"]), (1, ["add", path, "b" * 65, "10.0.0.2"]),
                             (1, ["set", path, "b", "10.0.0.2"]), (0, ["set", path, "a", "--bind", "::"]), (1, ["remove", path, "b"]),
                             (2, []), (2, ["nonsense"]), (2, ["add", path, "a"]), (2, ["add", path, "a", "b", "--port", "0"]), (2, ["check"]),
                             (2, ["check", path, path]), (2, ["show", path, "--nonsense"]), (0, ["--help"]), (0, ["remove", path, "a"])):
            result = run("definition", *args)
            self.assertEqual(result.status, status, "%s: %r" % (args, result))
            if status == 1:
                self.assertTrue(result.err.startswith(path) and result.err.count("\n") == 1, result)
                self.assertEqual(result.out, "")

    def test_show(self):
        path = self.definition([("a", "10.0.0.1", 9876), {"id": "b", "ip": "::1", "bind": "::"}], cluster="blue")
        self.assertEqual(run("definition", "show", path).out,
                         "cluster blue\nID  ADDRESS        BIND\na   10.0.0.1:9876  -\nb   [::1]:9876     ::\n")
        self.assertEqual(json.loads(run("definition", "show", path, "--json").out),
                         {"cluster": "blue", "nodes": [{"id": "a", "ip": "10.0.0.1", "tcpPort": 9876},
                                                       {"id": "b", "ip": "::1", "tcpPort": 9876, "bind": "::"}]})
        self.assertEqual(run("definition", "check", path).out, "%s: 2 nodes, cluster blue\n" % path)

    def test_many_change_it_at_once(self):
        path = self.definition([])
        processes = [self.process([harness.BIN, "definition", "add", path, "n%d" % i, "10.0.0.%d" % (i + 1)], "add") for i in range(20)]
        for process in processes:
            self.assertEqual(process.wait(), 0, process.err)
        nodes = json.loads(run("definition", "show", path, "--json").out)["nodes"]
        self.assertEqual({n["id"] for n in nodes}, {"n%d" % i for i in range(20)})


if __name__ == "__main__":
    harness.main()
