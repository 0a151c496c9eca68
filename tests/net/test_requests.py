#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Requests between agents: cohort request and listen --reply, what HTTP says of each end, lanes, and what watch tells of lost messages."""
import base64
import json
import os
import subprocess
import threading

import harness
from harness import BIN, run, wait_until


class RequestTest(harness.NetTest):
    def replier(self, agent, subject, command, *args):
        """Start `cohort listen --reply`, and wait until it is subscribed."""
        process = self.process([BIN, "listen", "--control", agent.control, "--ready", subject, "--reply", command, *args], "replier")
        wait_until(lambda: "listening" in process.err or not process.running(), what="the replier is ready")
        self.assertIn("listening", process.err)
        return process

    def fails(self, agent, *args, code, stdin=None):
        result = agent.cli(*args, stdin=stdin)
        self.assertEqual(result.status, 1, result)
        self.assertEqual(result.out, "")
        self.assertEqual(len(result.err.splitlines()), 1, result)
        self.assertIn("(%s)" % code, result.err)
        return result.err

    def ask(self, agent, path, body=b"", **arguments):
        connection = agent.http()
        try:
            return connection.ask("POST", path, body, **arguments)
        finally:
            connection.close()

    def test_reply_of_a_command(self):
        a, b = self.cluster(2)
        self.replier(b, "upper", 'printf "%s %s: " "$COHORT_FROM" "$COHORT_SUBJECT"; tr a-z A-Z')
        self.assertEqual(a.ok("request", b.id, "upper", "hello"), "%s upper: HELLO" % a.id)
        self.assertEqual(a.ok("request", b.id, "upper", stdin="from stdin\n"), "%s upper: FROM STDIN\n" % a.id)
        value = json.loads(a.ok("request", b.id, "upper", "x", "--json"))
        self.assertEqual(value, {"from": b.id, "data": "%s upper: X" % a.id})

    def test_any_bytes_both_ways(self):
        a, b = self.cluster(2)
        self.replier(b, "same", "cat")
        data = bytes(range(256)) * 2000
        done = subprocess.run([BIN, "request", "--control", a.control, b.id, "same"], input=data, capture_output=True, check=False,
                              timeout=harness.BOUND_S)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(done.stdout, data)
        status, value = self.ask(a, "/v1/request", b"\xff\xfe", to=b.id, subject="same")
        self.assertEqual((status, value), (200, {"from": b.id, "data_base64": base64.b64encode(b"\xff\xfe").decode()}))

    def test_a_reply_is_over_when_its_output_is_closed(self):
        """By what the command has left behind, too."""
        a, b = self.cluster(2)
        gates = [os.path.join(self.dir, name) for name in ("late-gate", "free-gate")]
        for gate in gates:
            os.mkfifo(gate)
        self.replier(b, "late", "cat %s & echo first" % gates[0])
        self.replier(b, "free", "cat %s >/dev/null & echo first" % gates[1])
        self.assertEqual(a.ok("request", b.id, "free", "x"), "first\n")
        asking = self.process([BIN, "request", "--control", a.control, b.id, "late", "x", "--timeout", "100"], "asking")
        fds = [wait_until(lambda gate=gate: os.open(gate, os.O_WRONLY | os.O_NONBLOCK), what="a job in the background reads") for gate in gates]
        self.assertEqual(b.stats()["requests_open"], 1)
        self.assertTrue(asking.running())
        for fd in fds:
            os.write(fd, b"second\n")
            os.close(fd)
        self.assertEqual((asking.wait(), sorted(asking.out.split())), (0, ["first", "second"]))

    def test_how_a_request_fails(self):
        a, b = self.cluster(2)
        self.replier(b, "bad", "echo unseen; exit 3")
        self.replier(b, "killed", "kill -9 $$")
        slow = self.replier(b, "slow", "cat >/dev/null; sleep 1000")
        self.assertIn("ended with status 3", self.fails(a, "request", b.id, "bad", "x", code="EHANDLER"))
        self.assertIn("signal 9", self.fails(a, "request", b.id, "killed", "x", code="EHANDLER"))
        self.fails(a, "request", b.id, "nobody", "x", code="ENOHANDLER")
        self.fails(a, "request", b.id, "slow", "x", "--timeout", "1", code="ETIMEDOUT")
        self.fails(a, "request", "stranger", "bad", "x", code="ENOPEER")
        self.fails(a, "request", a.id, "bad", "x", code="ENOHANDLER")  # itself, as anybody
        self.fails(a, "request", b.id, "#7", "x", code="EINVAL")
        wait_until(lambda: b.stats()["requests_open"] == 0, what="the command is killed, and its reply given")
        self.assertTrue(slow.running())

    def test_a_replier_that_dies_owes_nothing(self):
        a, b = self.cluster(2)
        replier = self.replier(b, "slow", "cat >/dev/null; sleep 1000", "--jobs", "1")
        asking = self.process([BIN, "request", "--control", a.control, b.id, "slow", "x", "--timeout", "100"], "asking")
        wait_until(lambda: b.stats()["requests_open"] == 1, what="the request is there")
        waiting = self.process([BIN, "request", "--control", a.control, b.id, "slow", "x", "--timeout", "100"], "waiting")
        wait_until(lambda: b.stats()["requests_open"] == 2, what="the second waits")
        replier.kill()
        for process in (asking, waiting):
            self.assertEqual(process.wait(), 1)
            self.assertIn("ENOREPLY", process.err)
        self.fails(a, "request", b.id, "slow", "x", code="ENOHANDLER")

    def test_requests_at_once(self):
        """More than commands run at once; each reply is that of its request."""
        a, b = self.cluster(2)
        self.replier(b, "same", "cat", "--jobs", "2")
        replies = {}

        def one(i):
            replies[i] = a.ok("request", b.id, "same", "number %d" % i)

        threads = [threading.Thread(target=one, args=(i,)) for i in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(replies, {i: "number %d" % i for i in range(12)})

    def test_all_are_asked(self):
        a, b, c = self.cluster(3)
        self.assertEqual(a.cli("request", "--all", "who", "x").status, 1)  # nobody takes it
        self.replier(b, "who", "printf b")
        self.replier(c, "who", "printf 'c\\n\\377'")
        self.assertEqual(sorted(a.ok("request", "--all", "who", "x").splitlines()), sorted(["%s b" % b.id, "%s base64:Ywr/" % c.id]))
        results = json.loads(b.cli("request", "--all", "who", "x", "--json").out)["results"]
        self.assertEqual([r["from"] for r in results], sorted([a.id, c.id]))
        self.assertEqual({r["from"]: r.get("error", {}).get("code") for r in results}, {a.id: "ENOHANDLER", c.id: None})

    def test_count_ends_the_replier(self):
        a, b = self.cluster(2)
        replier = self.replier(b, "same", "cat", "-c", "2")
        self.assertEqual(a.ok("request", b.id, "same", "1"), "1")
        self.assertEqual(a.ok("request", b.id, "same", "2"), "2")
        self.assertEqual(replier.wait(), 0)

    def test_a_plain_listener_sees_no_requests(self):
        a, b = self.cluster(2)
        listener = b.listen("*", count=1)
        self.fails(a, "request", b.id, "news", "a question", code="ENOHANDLER")
        a.ok("send", b.id, "news", "a message")
        self.assertEqual(listener.wait(), 0)
        self.assertNotIn("question", listener.out)

    def test_http(self):
        a, b = self.cluster(2)
        for arguments in ({}, {"to": b.id}, {"subject": "s"}, {"to": b.id, "subject": "s", "all": 1},
                          {"to": b.id, "subject": "s", "timeout_ms": 0}, {"to": b.id, "subject": "s", "timeout_ms": 600001},
                          {"to": b.id, "subject": "a b"}, {"to": b.id, "subject": "s", "all": 2}):
            status, value = self.ask(a, "/v1/request", b"", **arguments)
            self.assertEqual((status, value["error"]["code"]), (400, "EINVAL"), arguments)
        status, value = self.ask(a, "/v1/request", b"", to=b.id, subject="nobody")
        self.assertEqual((status, value["error"]["code"]), (502, "ENOHANDLER"))
        for request in ("", "0", "-1", "x", "1x"):
            self.assertEqual(self.ask(a, "/v1/reply", b"", request=request)[0], 400)
        status, value = self.ask(a, "/v1/reply", b"", request=77)
        self.assertEqual((status, value["error"]["code"]), (409, "ESTATE"))

    def test_raw_types_carry_no_requests(self):
        (a,) = self.cluster(1)
        said = "subject must be a name of 1 to 128 printable characters without space; a raw #TYPE carries messages only"
        result = a.cli("listen", "#7", "--reply", "cat")
        self.assertEqual((result.status, result.err), (1, "cohort listen: %s (EINVAL)\n" % said))
        connection = a.http()
        status, value = connection.ask("GET", "/v1/messages", subject="#7", requests=1)
        connection.close()
        self.assertEqual((status, value["error"]), (400, {"code": "EINVAL", "text": said}))

    def test_an_agent_that_ends_answers_what_waits(self):
        a, b = self.cluster(2)
        self.replier(b, "slow", "cat >/dev/null; sleep 1000")
        asking = self.process([BIN, "request", "--control", a.control, b.id, "slow", "x", "--timeout", "100"], "asking")
        wait_until(lambda: b.stats()["requests_open"] == 1, what="the request is there")
        a.stop()
        self.assertEqual(asking.wait(), 1)
        self.assertIn("ECLOSED", asking.err)

    def test_lanes(self):
        a, b = self.cluster(2)
        listener = b.listen("news", count=3)
        for lane in ("normal", "control", "bulk"):
            a.ok("send", "--lane", lane, b.id, "news", "by " + lane)
        self.assertEqual(listener.wait(), 0)
        self.assertEqual({line.split()[-1] for line in listener.out.splitlines()}, {"normal", "control", "bulk"})
        self.assertEqual(a.cli("send", "--lane", "fast", b.id, "news", "x").status, 2)
        status, value = self.ask(a, "/v1/send", b"", to=b.id, subject="news", lane="fast")
        self.assertEqual((status, value["error"]["code"]), (400, "EINVAL"))

    def test_lost_messages_are_told(self):
        """b is away and is removed: what was accepted for it is told, with its data."""
        a, b = self.cluster(2)
        b.kill9()
        a.wait_state(b.id, "INACTIVE")
        watcher = self.process([BIN, "watch", "--control", a.control, "--ready"], "watch")
        wait_until(lambda: "listening" in watcher.err, what="watch is ready")
        events = self.process([BIN, "watch", "--control", a.control, "--ready", "--json"], "watch")
        wait_until(lambda: "listening" in events.err, what="watch is ready")
        a.ok("send", "--lane", "bulk", b.id, "news", "lost")
        a.ok("remove", b.id)
        line = "UNDELIVERED %s news 4 bytes (the member was removed)\n" % b.id
        wait_until(lambda: line in watcher.out, what="watch tells of it")
        wait_until(lambda: "maybe_handled" in events.out, what="watch --json tells of it")
        told = [json.loads(line) for line in events.out.splitlines() if "maybe_handled" in line]
        self.assertEqual(told, [{"to": b.id, "subject": "news", "lane": "bulk", "maybe_handled": False,
                                 "reason": {"code": "EREMOVED", "text": "the member was removed"}, "bytes": 4, "data": "lost"}])
        self.assertEqual(a.stats()["messages_undelivered"], 1)


class UsageTest(harness.NetTest):
    def test_usage_errors(self):
        for args in (["request"], ["request", "only-id"], ["request", "a", "b", "c", "d"], ["request", "--all"],
                     ["request", "--all", "s", "x", "y"], ["request", "a", "b", "--timeout", "0"], ["request", "a", "b", "--timeout", "601"],
                     ["listen", "s", "--reply"], ["listen", "s", "--jobs", "0"], ["listen", "s", "--jobs", "2"],
                     ["listen", "s", "--reply", "cat", "--save", "/tmp"], ["listen", "s", "--reply", "cat", "--json"],
                     ["listen", "s", "--save", "/tmp", "--json"]):
            result = run(*args)
            self.assertEqual(result.status, 2, result)
            self.assertEqual(result.out, "")

    def test_no_agent(self):
        result = run("request", "--control", os.path.join(self.dir, "none"), "a", "b", "c")
        self.assertEqual(result.status, 1)
        self.assertIn("no agent at", result.err)


if __name__ == "__main__":
    harness.main()
