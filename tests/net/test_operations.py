#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How an agent is configured, reloaded, reached and watched over: configuration file, SIGHUP, control socket, HTTP on TCP, sd_notify."""
import grp
import http.client
import json
import os
import re
import signal
import socket
import stat
import time

import harness
from harness import address, run, wait_until


class Base(harness.NetTest):
    def fails(self, agent, *parts):
        """The agent must end with status 1 and one line on stderr that contains `parts`."""
        agent.launch()
        agent.expect_clean = False
        self.assertEqual(agent.process.wait(), 1, agent.process.err)
        lines = agent.process.err.strip().splitlines()
        self.assertEqual(len(lines), 1, agent.process.err)
        for part in parts:
            self.assertIn(part, lines[0])
        return lines[0]

    def place(self):
        return dict(zip(("ip", "port"), address()))

    def settings(self, agent):
        return {s["key"]: s for s in json.loads(agent.ok("config", "show", "--json"))["settings"]}

    def rewrite(self, path, value):
        with open(path, "w", encoding="utf-8") as f:
            f.write(value if isinstance(value, str) else json.dumps(value))

    def reload(self, agent, ending="reloaded|nothing is changed"):
        """SIGHUP, and wait until that reload is over; its log lines."""
        before = len(agent.records())
        agent.send_signal(signal.SIGHUP)

        def over():
            lines = [r["text"] for r in agent.records()[before:] if r["component"] == "agent"]
            return lines if any(re.search("^(%s)|(%s)$" % (ending, ending), line) for line in lines) else None
        return wait_until(over, what="the reload is over")


class ConfigFileTest(Base):
    def test_everything_from_the_file(self):
        ip, port = address()
        control = os.path.join(self.dir, "from-file.sock")
        conf = self.write_config({"id": "me", "ip": ip, "port": port, "control": {"path": "from-file.sock"}, "loops": 0,
                                  "log": {"level": "debug", "format": "json"}, "dial": {"mode": "seed"}})
        agent = self.agent()
        agent.argv = lambda: [harness.BIN, "agent", "--config", conf]
        agent.control, agent.id = control, "me"
        agent.start()
        self.assertEqual(set(agent.members()), {"me"})
        settings = self.settings(agent)
        for key in ("id", "ip", "port", "control.path", "loops", "log.level", "log.format", "dial.mode"):
            self.assertEqual(settings[key]["from"], "file", key)

    def test_options_win(self):
        (ip, port), (other_ip, other_port) = address(), address()
        conf = self.write_config({"id": "file", "ip": other_ip, "port": other_port, "log": {"format": "text"}})
        agent = self.agent(node_id="flag", ip=ip, port=port, args=["--config", conf]).start()
        member = agent.members()["flag"]
        self.assertEqual((member["ip"], member["tcpPort"]), (ip, port))

    def test_limits_take_effect(self):
        conf = self.write_config({"limits": {"message_bytes_max": 2000}})
        agent = self.agent(**self.place(), args=["--config", conf]).start()
        status, answer = agent.http().ask("POST", "/v1/broadcast", body=b"x" * 2001, subject="s")
        self.assertEqual((status, answer["error"]["code"]), (413, "ESIZE"))
        self.assertEqual(agent.http().ask("POST", "/v1/broadcast", body=b"x" * 2000, subject="s")[0], 200)

    def test_large_messages_when_the_limit_allows(self):
        conf = self.write_config({"limits": {"message_bytes_max": 4 << 20, "peer_queue_bytes_max": 16 << 20}})
        places = [address() for _ in range(2)]
        path = self.definition([("a", *places[0]), ("b", *places[1])])
        a, b = [self.agent(node_id=i, ip=p[0], port=p[1], cluster=path, args=["--config", conf]).start() for i, p in zip("ab", places)]
        self.wait_meshed([a, b])
        listener = b.listen("large", count=1)
        a.ok("send", "b", "large", "-", stdin="\n" * (3 << 20))
        self.assertEqual(listener.wait(), 0)
        self.assertEqual(listener.out.count("\\n"), 3 << 20)

    def test_errors_have_their_place(self):
        for text, *parts in (
                ('{\n  "log": {"level": "loud"}\n}', ":2:20: log.level:", "'loud'", "debug, info, warn, error, off"),
                ('{"log": {"level": 3}}', ":1:19: log.level:", "must be a string, not a number"),
                ('{"port": "80"}', ":1:10: port:", "from 1 to 65535, not a string"),
                ('{"port": 0}', ":1:10: port:"), ('{"port": 1.5}', ":1:10: port:"), ('{"port": -1}', ":1:10: port:"),
                ('{"id": null}', ":1:8: id:", "not null"), ('{"id": ""}', "id: must not be empty"),
                ('{"http": {"insecure": "yes"}}', ":1:23: http.insecure:", "true or false, not a string"),
                ('{"control": {"mode": "0999"}}', "control.mode:", "0999"), ('{"control": {"mode": "0077"}}', "control.mode:"),
                ('{"control": {"mode": "0755"}}', "control.mode:"),
                ('{"control": "x"}', ":1:13: control:", "must be an object"),
                ('{\n "limits": {\n  "members_max": 1,\n  "nodes_max": 2}}', ":4:3: limits.nodes_max:", "no such key"),
                ('{"\u00e4\u00f6": 1, "port": true}', ":1:2:", "no such key"),
                ('{"id": "\u00e4\u00f6\u00fc", "port": true}', ":1:23: port:", "not true"),
                ('{"port": 1, "port": 2}', ":1:", "duplicate"), ('{"port": 1,}', ":1:12:"), ("[]", ":1:1:", "object"),
                ("", ":1:"), ('{"nested": {"a": [1, {"b": "}"}]}, "port": "x"}', ":1:2: nested:", "no such key"),
                ('{"limits": {"peer_queue_bytes_max": 65535}}', "limits.peer_queue_bytes_max", "65536"),
                ('{"dial": {"delay_min_ms": 500, "delay_max_ms": 400}}', "dial.delay_max_ms"),
                ('{"control": {"group": "no-such-group-here"}}', "no-such-group-here"),
                ('{"http": {"listen": "localhost:http"}}', "localhost:http")):
            with self.subTest(text=text):
                conf = self.write_config(text)
                line = self.fails(self.agent(**self.place(), args=["--config", conf]), *parts)
                if parts[0].startswith(":"):
                    self.assertIn(conf + parts[0], line)

    def test_files_that_are_none(self):
        fifo = os.path.join(self.dir, "fifo")
        os.mkfifo(fifo)
        large = self.write_config(" " * (1 << 20) + "{}")
        for path in (os.path.join(self.dir, "missing"), self.dir, fifo, large):
            self.fails(self.agent(**self.place(), args=["--config", path]), path)

    def test_usage(self):
        for args in (["--control-mode", "77"], ["--control-mode", "0x1"], ["--control-mode", "0700"], ["--http-insecure=yes"]):
            result = run("agent", *args)
            self.assertEqual(result.status, 2, args)
            self.assertEqual(result.out, "")


class ReloadTest(Base):
    def test_members_follow_the_definition(self):
        a, b, c = self.cluster(3)
        d = self.agent(node_id="n3", **self.place())
        rows = [(x.id, x.ip, x.port) for x in (a, b, d)]
        unharmed = self.same_link(a, b.id)
        self.definition(rows, name=os.path.basename(a.cluster))
        lines = self.reload(a)
        self.assertIn("reloaded", lines)
        self.assertEqual(set(a.members()), {"n0", "n1", "n3"})
        d.args += ["--cluster", a.cluster]
        d.start()
        a.wait_state("n3", "ACTIVE")
        unharmed()

    def test_moved_member(self):
        a, b = self.cluster(2)
        b.stop()
        b.ip, b.port = address()
        b.args = ["--id", b.id, "--cluster", b.cluster]
        self.definition([a, b], name=os.path.basename(a.cluster))
        self.reload(a)
        self.assertEqual(a.members()["n1"]["tcpPort"], b.port)
        b.start()
        self.wait_meshed([a, b])

    def test_members_added_by_hand_stay(self):
        (a,) = self.cluster(1)
        a.ok("add", "hand", "127.0.0.1", "--port", "1")
        self.reload(a)
        self.assertIn("hand", a.members())

    def test_members_removed_by_hand_stay_away(self):
        a, b = self.cluster(2)
        a.ok("remove", b.id)
        self.reload(a)  # the definition says nothing new about it
        self.assertNotIn(b.id, a.members())

    def test_broken_definition_changes_nothing(self):
        a, b = self.cluster(2)
        check = self.same_link(a, b.id)
        self.rewrite(a.cluster, '{"nodes": [')
        lines = self.reload(a)
        self.assertTrue(any(a.cluster + ":1:" in line and "nothing is changed" in line for line in lines), lines)
        os.unlink(a.cluster)
        lines = self.reload(a)
        self.assertTrue(any(a.cluster in line and "nothing is changed" in line for line in lines), lines)
        check()

    def test_live_and_not_live(self):
        ip, port = address()
        conf = self.write_config({})
        agent = self.agent(args=["--config", conf], ip=ip, port=port)
        agent.argv = lambda: [harness.BIN, "agent", "--config", conf, "--ip", ip, "--port", str(port), "--control", agent.control,
                              "--log-format", "json"]
        agent.start()
        self.assertEqual(os.stat(agent.control).st_mode & 0o7777, 0o600)
        self.rewrite(conf, {"log": {"level": "debug"}, "control": {"mode": "0640"}, "limits": {"echoes_max": 5}, "ip": "127.0.0.1"})
        lines = self.reload(agent)
        self.assertIn("reload: log.level 'debug', was 'info'", lines)
        self.assertIn("reload: control.mode '0640', was '0600'", lines)
        self.assertIn("reload: limits.echoes_max '5' needs a restart, '64' stays", lines)
        self.assertFalse([line for line in lines if "reload: ip" in line])  # the option wins, before and after
        self.assertEqual(os.stat(agent.control).st_mode & 0o7777, 0o640)
        settings = self.settings(agent)
        self.assertEqual((settings["log.level"]["value"], settings["log.level"]["from"]), ("debug", "file"))
        self.assertEqual((settings["limits.echoes_max"]["value"], settings["limits.echoes_max"]["restart_for"]), (64, 5))
        self.assertIn("a restart makes it 5", agent.ok("config", "show"))
        # The library, too, now says what it did not before.
        agent.ok("add", "silent", address()[0])
        wait_until(lambda: any(r["level"] == "DEBUG" for r in agent.records()), what="a debug line")
        # Back again: nothing waits for a restart.
        self.rewrite(conf, {})
        self.reload(agent)
        settings = self.settings(agent)
        self.assertNotIn("restart_for", settings["limits.echoes_max"])
        self.assertEqual((settings["log.level"]["value"], settings["log.level"]["from"]), ("info", "default"))
        self.assertEqual(os.stat(agent.control).st_mode & 0o7777, 0o600)

    def test_broken_file_changes_nothing(self):
        conf = self.write_config({"limits": {"echoes_max": 3}})
        agent = self.agent(**self.place(), args=["--config", conf]).start()
        before = self.settings(agent)
        for text in ('{"log": {"level": "debug"}, "port": "x"}', "{", '{"control": {"mode": "0640", "group": "no-such-group-here"}}',
                     '{"limits": {"message_bytes_max": 1073741825}}', '{"http": {"listen": "0.0.0.0:1"}}',
                     '{"cluster": "missing.json"}'):
            self.rewrite(conf, text)
            lines = self.reload(agent)
            self.assertTrue(any("nothing is changed" in line for line in lines), lines)
            self.assertEqual(self.settings(agent), before, text)
        self.assertEqual(os.stat(agent.control).st_mode & 0o7777, 0o600)

    def test_cluster_name_needs_a_restart(self):
        a, b = self.cluster(2, cluster="blue")
        check = self.same_link(a, b.id)
        self.definition([a, b], cluster="green", name=os.path.basename(a.cluster))
        self.assertTrue(any("reload: definition:" in line and "green" in line and "the members stay" in line for line in self.reload(a)))
        check()

    def test_own_address_needs_a_restart(self):
        ip, port = address()
        path = self.definition([("a", ip, port)])
        agent = self.agent(node_id="a", cluster=path).start()
        self.definition([("a", ip, port + 1)], name=os.path.basename(path))
        self.assertIn("reload: port '%d' needs a restart, '%d' stays" % (port + 1, port), self.reload(agent))
        self.assertEqual(agent.members()["a"]["tcpPort"], port)

    def test_a_definition_where_there_was_none(self):
        conf = self.write_config({})
        agent = self.agent(node_id="a", **self.place(), args=["--config", conf]).start()
        path = self.definition([("a", agent.ip, agent.port), ("b", *address())])
        self.rewrite(conf, {"cluster": os.path.basename(path)})
        lines = self.reload(agent)
        self.assertIn("reload: cluster '%s' needs a restart, '-' stays" % path, lines)
        self.assertIn("reload: admission 'listed' needs a restart, 'open' stays", lines)
        self.assertNotIn("b", agent.members())

    def test_many_reloads_under_load(self):
        a, b = self.cluster(2)
        listener = b.listen("n", count=200)
        http_ = a.http()
        for i in range(200):
            self.assertEqual(http_.ask("POST", "/v1/send", body=b"%d" % i, to=b.id, subject="n")[0], 200)
            if i % 10 == 0:
                a.send_signal(signal.SIGHUP)
        self.assertEqual(listener.wait(), 0)
        wait_until(lambda: "reloaded" in a.log)


class ControlSocketTest(Base):
    def test_mode_and_group(self):
        gid = next((g for g in [*os.getgroups(), os.getgid()] if g != os.getgid()), os.getgid())
        if os.geteuid() == 0:
            gid = grp.getgrnam("daemon").gr_gid
        agent = self.agent(**self.place(), args=["--control-mode", "0660", "--control-group", str(gid)]).start()
        found = os.stat(agent.control)
        self.assertEqual((found.st_mode & 0o7777, found.st_gid), (0o660, gid))
        self.assertTrue(stat.S_ISSOCK(found.st_mode))

    def test_group_by_name(self):
        name = grp.getgrgid(os.getgid()).gr_name
        agent = self.agent(**self.place(), args=["--control-group", name]).start()
        found = os.stat(agent.control)
        self.assertEqual((found.st_mode & 0o7777, found.st_gid), (0o600, os.getgid()))

    def test_never_open_to_others(self):
        """With a wide umask, nobody but the owner can be let in before the mode is what was asked for."""
        before = os.umask(0)
        try:
            agent = self.agent(**self.place(), args=["--control-mode", "0640"])
            agent.launch()
            modes = set()
            while not modes & {0o640}:
                try:
                    modes.add(os.stat(agent.control).st_mode & 0o777)
                except FileNotFoundError:
                    self.assertTrue(agent.process.running(), agent.process.err)
            self.assertLessEqual(modes, {0o600, 0o640})
        finally:
            os.umask(before)
        wait_until(agent._answers)

    def test_open_to_all_is_said(self):
        agent = self.agent(**self.place(), args=["--control-mode", "0666"]).start()
        agent.wait_log("everybody on this machine may use it")

    def test_a_live_one_is_refused(self):
        first = self.agent(**self.place()).start()
        second = self.agent(**self.place())
        second.control = first.control
        self.fails(second, "another agent is running at", first.control)
        self.assertEqual(set(first.members()), {first.id})

    def test_others_files_are_left_alone(self):
        agent = self.agent(**self.place())
        self.rewrite(agent.control, "mine")
        self.fails(agent, agent.control, "is not a socket")
        with open(agent.control, encoding="utf-8") as f:
            self.assertEqual(f.read(), "mine")
        os.unlink(agent.control)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(agent.control)
            other.listen()
            self.fails(agent, agent.control, "something else is listening")
            self.assertTrue(os.path.exists(agent.control))

    def test_stale_socket_with_another_mode_is_replaced(self):
        agent = self.agent(**self.place())
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(agent.control)
        os.chmod(agent.control, 0o777)
        agent.start()
        self.assertEqual(os.stat(agent.control).st_mode & 0o777, 0o600)


class TcpTest(Base):
    def ask(self, agent, place, path="/v1/health", method="GET", **headers):
        connection = http.client.HTTPConnection(*place, timeout=harness.BOUND_S)
        try:
            connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def test_both_doors_serve(self):
        agent = self.agent(node_id="a", **self.place())
        place = (agent.ip, agent.port + 1000)
        agent.args += ["--http", "%s:%d" % place]
        agent.start()
        self.assertEqual(self.ask(agent, place)[1]["id"], "a")
        self.assertEqual(agent.http().ask("GET", "/v1/health")[1]["id"], "a")
        agent.wait_log("http at %s:%d" % place)
        # A stream on the one sees what the other did.
        connection = http.client.HTTPConnection(*place, timeout=harness.BOUND_S)
        connection.request("GET", "/v1/events")
        stream = connection.getresponse()
        agent.ok("add", "b", "127.0.0.1", "--port", "1")
        self.assertIn(b"event: membership", stream.readline())
        self.assertIn(b'"ADDED"', stream.readline())
        stream.close()
        connection.close()

    def test_end_while_a_stream_is_open(self):
        agent = self.agent(node_id="a", **self.place())
        place = (agent.ip, agent.port + 1000)
        agent.args += ["--http", "%s:%d" % place]
        agent.start()
        connection = http.client.HTTPConnection(*place, timeout=harness.BOUND_S)
        connection.request("GET", "/v1/messages?subject=*")
        stream = connection.getresponse()
        agent.stop()
        stream.read()
        connection.close()

    def test_port_of_the_systems_choice(self):
        agent = self.agent(**self.place(), args=["--http", ":0"]).start()
        match = agent.wait_log(r"http at 127\.0\.0\.1:(\d+)")
        self.assertEqual(self.ask(agent, ("127.0.0.1", int(match.group(1))))[0], 200)

    def test_other_machines_need_a_word(self):
        for text in ("0.0.0.0:0", "[::]:0", "192.0.2.1:80"):
            self.fails(self.agent(**self.place(), args=["--http", text]), text, "--http-insecure")
        agent = self.agent(**self.place(), args=["--http", "0.0.0.0:0", "--http-insecure"]).start()
        match = agent.wait_log(r"http at 0\.0\.0\.0:(\d+): insecure")
        self.assertTrue(any(r["level"] == "WARN" and "insecure" in r["text"] for r in agent.records()))
        self.assertEqual(self.ask(agent, ("127.0.0.1", int(match.group(1))))[0], 200)

    def test_addresses_that_are_none(self):
        for text in ("127.0.0.1", "8080", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", "localhost:80", "::1:80", "[::1:80", "[]:1", ""):
            self.fails(self.agent(**self.place(), args=["--http", text]), "http:")

    def test_address_in_use(self):
        place = self.place()
        taken = address()
        with socket.create_server(taken):
            agent = self.agent(**place, args=["--http", "%s:%d" % taken])
            self.fails(agent, "%s:%d" % taken)
            self.assertFalse(os.path.exists(agent.control))

    def test_pages_from_elsewhere_are_refused(self):
        agent = self.agent(**self.place(), args=["--http", ":0"]).start()
        port = int(agent.wait_log(r"http at 127\.0\.0\.1:(\d+)").group(1))
        place = ("127.0.0.1", port)
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "https://127.0.0.1:%d" % port},
                        {"Origin": "http://127.0.0.1:%d" % (port + 1)}, {"Host": "evil.example"}, {"Host": "evil.example:%d" % port},
                        {"Host": "127.0.0.1.evil.example"}, {"Host": ""}):
            for method, path in (("GET", "/v1/members"), ("PUT", "/v1/members/x?ip=127.0.0.1"), ("POST", "/v1/send?to=a&subject=b")):
                status, answer = self.ask(agent, place, path, method, **headers)
                self.assertEqual((status, answer["error"]["code"]), (403, "EORIGIN"), headers)
        self.assertNotIn("x", agent.members())
        for headers in ({"Origin": "http://127.0.0.1:%d" % port}, {"Host": "localhost:%d" % port}, {"Host": "[::1]:%d" % port}):
            self.assertEqual(self.ask(agent, place, **headers)[0], 200, headers)

    def test_unix_socket_does_not_care(self):
        agent = self.agent(**self.place()).start()
        connection = agent.http()
        connection.request("GET", "/v1/health", headers={"Origin": "http://elsewhere"})
        response = connection.getresponse()
        response.read()
        self.assertEqual(response.status, 200)


class NotifyTest(Base):
    """sd_notify(3), with us as the service manager."""

    def manager(self, name):
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(manager.close)
        manager.bind(name)
        manager.settimeout(harness.BOUND_S)
        return manager

    def message(self, manager):
        return dict(line.split("=", 1) for line in manager.recv(4096).decode().splitlines())

    def life(self, name, environment):
        manager = self.manager(name)
        agent = self.agent(node_id="a", **self.place(), env={"NOTIFY_SOCKET": environment}).launch()
        ready = self.message(manager)
        self.assertEqual(ready["READY"], "1")
        self.assertIn("a is up at", ready["STATUS"])
        self.assertEqual(agent.ok("members", "--json")[:1], "{")  # ready means ready: no waiting
        now_us = time.monotonic_ns() // 1000
        agent.send_signal(signal.SIGHUP)
        reloading = self.message(manager)
        self.assertEqual(reloading["RELOADING"], "1")
        self.assertGreaterEqual(int(reloading["MONOTONIC_USEC"]), now_us)
        self.assertLessEqual(int(reloading["MONOTONIC_USEC"]), time.monotonic_ns() // 1000)
        self.assertEqual(self.message(manager)["READY"], "1")
        agent.send_signal(signal.SIGTERM)
        self.assertEqual(self.message(manager), {"STOPPING": "1"})
        agent.check_ended()

    def test_path(self):
        path = os.path.join(self.dir, "notify")
        self.life(path, path)

    def test_abstract_name(self):
        name = "cohort-test-%d-%d" % (os.getpid(), time.monotonic_ns())
        self.life("\0" + name, "@" + name)

    def test_failed_reload_is_ready_again(self):
        manager = self.manager(os.path.join(self.dir, "notify"))
        conf = self.write_config({})
        agent = self.agent(**self.place(), args=["--config", conf], env={"NOTIFY_SOCKET": os.path.join(self.dir, "notify")}).launch()
        self.message(manager)
        self.rewrite(conf, "{")
        agent.send_signal(signal.SIGHUP)
        self.assertEqual(self.message(manager)["RELOADING"], "1")
        after = self.message(manager)
        self.assertEqual(after["READY"], "1")
        self.assertIn("failed", after["STATUS"])

    def test_failed_start_says_nothing(self):
        manager = self.manager(os.path.join(self.dir, "notify"))
        self.fails(self.agent(ip="192.0.2.1", env={"NOTIFY_SOCKET": os.path.join(self.dir, "notify")}))
        manager.setblocking(False)
        self.assertRaises(BlockingIOError, manager.recv, 4096)

    def test_no_manager(self):
        for value in ("", "relative", os.path.join(self.dir, "nobody"), "/" + "x" * 200):
            agent = self.agent(**self.place(), env={"NOTIFY_SOCKET": value}).start()
            self.reload(agent)
            agent.stop()


if __name__ == "__main__":
    harness.main()
