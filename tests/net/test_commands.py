#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Commands of the operator against running agents: add, remove, stats with rates, config show; decode, which needs none; and what all of
them do where their input and output is not there."""
import json
import os
import signal
import socket
import subprocess

import harness
from harness import BIN, ECHO, HELLO, address, frame, hello, run, vector, wait_until

WELCOME, LEAVE, SUBJECT, PING = 0xC0000001, 0xC0000003, 0xC0000004, 0xC0000005


class MemberTest(harness.NetTest):
    def two_strangers(self):
        """Two agents, neither of which knows of the other."""
        agents = []
        for name in ("left", "right"):
            ip, port = address()
            agents.append(self.agent(node_id=name, ip=ip, port=port, cluster=self.definition([(name, ip, port)])).start())
        return agents

    def test_added_at_both_ends_they_meet(self):
        left, right = self.two_strangers()
        self.assertEqual(left.ok("add", "right", right.ip, "--port", str(right.port)), "added right at %s:%d\n" % right.address)
        member = json.loads(right.ok("add", "left", left.ip, "--port", str(left.port), "--json"))
        self.assertEqual((member["id"], member["ip"], member["tcpPort"]), ("left", left.ip, left.port))
        self.wait_meshed([left, right])
        left.ok("ping", "right", "-c", "1")

    def test_removed_member_is_gone_and_stays_away_until_added(self):
        a, b = self.cluster(2)
        self.assertEqual(a.ok("remove", b.id), "removed %s\n" % b.id)
        self.assertNotIn(b.id, a.members())
        b.wait_state(a.id, "INACTIVE")
        b.wait_log("EREMOVED")  # it dials again and is refused
        self.assertNotIn(b.id, a.members())
        a.ok("add", b.id, b.ip, "--port", str(b.port))
        self.wait_meshed([a, b])
        self.assertEqual(json.loads(a.ok("remove", b.id, "--json")), {"removed": b.id})

    def test_add_gives_another_address(self):
        a, b = self.cluster(2)
        ip, port = address()
        b.stop()
        a.ok("add", b.id, ip, "--port", str(port))
        self.assertEqual((a.members()[b.id]["ip"], a.members()[b.id]["tcpPort"]), (ip, port))

    def test_port_default(self):
        (a,) = self.cluster(1)
        ip, _ = address()
        a.ok("add", "silent", ip)
        self.assertEqual(a.members()["silent"]["tcpPort"], 9876)

    def test_refusals(self):
        (a,) = self.cluster(1)
        for args, part in ((("add", "b", "no host"), "EINVAL"), (("add", "a:b", "127.0.0.1"), "EINVAL"),
                           (("add", a.id, "127.0.0.1"), "itself"), (("remove", "nobody"), "ENOPEER"), (("remove", a.id), "itself")):
            result = a.cli(*args)
            self.assertEqual(result.status, 1, args)
            self.assertEqual(len(result.err.splitlines()), 1, result.err)
            self.assertIn(part, result.err)
            self.assertIn(args[1], result.err)
            self.assertEqual(set(a.members()), {a.id})

    def test_member_limit(self):
        ip, port = address()
        conf = self.write_config({"limits": {"members_max": 2}})
        a = self.agent(node_id="a", ip=ip, port=port, args=["--config", conf]).start()
        a.ok("add", "b", "127.0.0.1", "--port", "1")
        result = a.cli("add", "c", "127.0.0.1", "--port", "1")
        self.assertEqual(result.status, 1)
        self.assertIn("ELIMIT", result.err)


class BenchTest(harness.NetTest):
    """cohort bench between agents as they are."""

    def bench(self, agent, to, *args):
        return json.loads(agent.ok("bench", to, "--seconds", "1", "--json", *args))

    def test_both_figures(self):
        a, b = self.cluster(2)
        result = self.bench(a, b.id, "--bytes", "1000", "--lane", "normal", "--depth", "4")
        trips, messages = result["round_trip"], result["messages"]
        self.assertEqual((result["to"], trips["depth"], trips["lost"]), (b.id, 4, 0))
        times = [trips[key] for key in ("min_ns", "p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns")]
        self.assertEqual(times, sorted(times))
        self.assertGreater(times[0], 0)
        self.assertGreater(trips["count"], 10)
        self.assertLessEqual(trips["count"] * trips["min_ns"], 4 * 1e9 * 1.5)  # they did not take longer than there was time
        self.assertEqual((messages["lane"], messages["bytes_each"]), ("normal", 1000))
        self.assertGreaterEqual(messages["elapsed_ns"], 1e9)
        self.assertEqual(messages["bytes"], 1000 * messages["count"])
        self.assertAlmostEqual(messages["per_second"], messages["count"] * 1e9 / messages["elapsed_ns"], delta=2)
        stats = b.stats()  # what is said to be handled was
        self.assertEqual((stats["bench_messages"], stats["bench_bytes"]), (messages["count"], messages["bytes"]))
        self.assertEqual(a.stats()["bench_messages"], 0)
        self.assertEqual(a.stats()["queued_bytes"], 0)

    def test_as_text_and_unheard(self):
        a, b = self.cluster(2)
        listener = b.listen("*", count=1)
        text = a.ok("bench", b.id, "--seconds", "1", "--bytes", "100")
        self.assertRegex(text, r"^round trips +\d+, 1 at a time: p50 \d+\.\d us, .*\nmessages +\d+ of 100 bytes, lane bulk, .* MB/s\n$")
        a.ok("send", b.id, "news", "after it")
        self.assertEqual(listener.wait(), 0)
        self.assertIn("after it", listener.out)
        self.assertNotIn("cohort.bench", listener.out)

    def test_the_agent_itself(self):
        (a,) = self.cluster(1)
        self.assertGreater(self.bench(a, a.id)["messages"]["count"], 0)

    def test_who_cannot_be_measured(self):
        place = address()
        (a,) = self.cluster(1, extra=[("silent", *place)])
        for member, code in (("nobody", "ENOPEER"), ("silent", "EINACTIVE")):
            result = a.cli("bench", member)
            self.assertEqual(result.status, 1, member)
            self.assertIn(code, result.err)
            self.assertEqual(len(result.err.splitlines()), 1, result.err)
        small = self.agent(node_id="small", ip=address()[0], port=place[1],
                           args=["--config", self.write_config({"limits": {"message_bytes_max": 1024}})]).start()
        result = small.cli("bench", "small", "--bytes", "1025", "--seconds", "1")
        self.assertEqual((result.status, "ESIZE" in result.err), (1, True), result.err)
        self.assertEqual(a.cli("bench", a.id, "--bytes", "16777217").status, 2)
        for arguments in ({}, {"to": "silent", "ms": 0}, {"to": "silent", "ms": 60001}, {"to": "silent", "depth": 65},
                          {"to": "silent", "bytes": 0}, {"to": "silent", "bytes": 16777217}, {"to": "silent", "lane": "fast"}):
            self.assertEqual(a.http().ask("POST", "/v1/bench", **arguments)[0], 400, arguments)

    def begin(self, agent, to):
        running = self.process([BIN, "bench", "--control", agent.control, to.id, "--seconds", "60"], "bench")
        wait_until(lambda: to.stats()["frames_in"] > 100, what="it has begun")
        return running

    def test_a_member_that_dies_meanwhile(self):
        a, b = self.cluster(2)
        running = self.begin(a, b)
        self.assertIn("ELIMIT", a.cli("bench", b.id).err)  # one at a time
        b.kill9()
        self.assertEqual(running.wait(), 1)
        a.ok("members")

    def test_an_agent_that_ends_meanwhile(self):
        a, b = self.cluster(2)
        running = self.begin(a, b)
        a.stop()
        self.assertEqual(running.wait(), 1)
        b.ok("members")


class HttpTest(harness.NetTest):
    def test_methods_of_a_member(self):
        (a,) = self.cluster(1)
        http = a.http()
        status, member = http.ask("PUT", "/v1/members/b", ip="127.0.0.1", port=1)
        self.assertEqual((status, member["id"], member["tcpPort"], member["state"]), (200, "b", 1, "INACTIVE"))
        self.assertEqual(http.ask("GET", "/v1/members/b")[0], 200)
        for arguments in ({}, {"ip": "127.0.0.1", "port": 0}, {"ip": "127.0.0.1", "port": 65536}, {"ip": "127.0.0.1", "port": "x"}):
            self.assertEqual(http.ask("PUT", "/v1/members/b", **arguments)[0], 400, arguments)
        self.assertEqual(http.ask("DELETE", "/v1/members/b"), (200, {"removed": "b"}))
        self.assertEqual(http.ask("DELETE", "/v1/members/b")[0], 404)
        http.request("POST", "/v1/members/b")
        response = http.getresponse()
        response.read()
        self.assertEqual((response.status, response.getheader("Allow")), (405, "GET, PUT, DELETE"))

    def test_urls_that_could_mean_another_request(self):
        (a,) = self.cluster(1)
        http = a.http()
        escape = "has a % that begins no escape, or %00"
        for method, path, said in (("POST", "/v1/send?to=%s&to=%s&subject=news" % (a.id, a.id), "the argument to is there twice"),
                                   ("POST", "/v1/send?to=x&subject=news&%74o=y", "the argument %74o is there twice"),
                                   ("POST", "/v1/stream?to=x&subject=a&subject=b", "the argument subject is there twice"),
                                   ("POST", "/v1/send?to=x&subject=%zz", "the argument subject " + escape),
                                   ("POST", "/v1/send?to=x&subject=a%0", "the argument subject " + escape),
                                   ("POST", "/v1/send?to=x&subject=a%", "the argument subject " + escape),
                                   ("POST", "/v1/send?to=x%00y&subject=a", "the argument to " + escape),
                                   ("GET", "/v1/health?%zz" + "k" * 50, "the argument %zz" + "k" * 37 + "... " + escape),
                                   ("GET", "/v1/health?" + "&".join("k%d" % i for i in range(33)), "there are more than 32 arguments"),
                                   ("DELETE", "/v1/members/a%00b", "the path " + escape), ("GET", "/v1/members/%zz", "the path " + escape)):
            status, value = http.ask(method, path)
            self.assertEqual((status, value["error"]), (400, {"code": "EINVAL", "text": said}), path)
        for path in ("/v1/health?" + "&".join("k%d" % i for i in range(32)), "/v1/health?", "/v1/health?&&a=b=c&=&%26=1", "/v1/h%65alth",
                     "/v1/members/" + a.id.replace("n", "%6E")):
            self.assertEqual(http.ask("GET", path)[0], 200, path)

    def test_links(self):
        a, b, c = self.cluster(3)
        place = address()
        a.ok("add", "silent", place[0], "--port", str(place[1]))
        status, value = a.http().ask("GET", "/v1/links")
        self.assertEqual((status, value["local"]), (200, a.id))
        self.assertEqual([link["id"] for link in value["links"]], [b.id, c.id])  # not the one without a link
        for link in value["links"]:
            self.assertGreater(link["open_ns"], 0)
            self.assertIn("bytes_in_per_s", link)


class StatsTest(harness.NetTest):
    def test_rates_stand_beside_the_counters(self):
        a, b = self.cluster(2)
        text = a.ok("stats", b.id)
        self.assertRegex(text, r"(?m)^bytes_out +\d+ +\d+/s$")
        self.assertNotIn("_per_s", text)
        self.assertRegex(a.ok("stats"), r"(?m)^frames_in +\d+ +\d+/s$")
        for value in (json.loads(a.ok("stats", "--json")), json.loads(a.ok("stats", b.id, "--json"))):
            for name in ("bytes_in", "bytes_out", "frames_in", "frames_out"):
                self.assertGreaterEqual(value[name + "_per_s"], 0)

    def test_watch_shows_traffic_and_its_end(self):
        a, b = self.cluster(2)
        watch = self.process([BIN, "stats", "--watch=1", "--json", "--control", a.control], "watch")

        def rounds():
            return [json.loads(line) for line in watch.out.splitlines(True) if line.endswith("\n")]
        wait_until(lambda: len(rounds()) >= 1)
        a.ok("send", b.id, "load", "-", stdin="x" * 500000)

        def sums(value):
            return (value["node"]["bytes_out_per_s"], *[link["bytes_out_per_s"] for link in value["links"] if link["id"] == b.id])
        wait_until(lambda: any(min(sums(value)) > 200000 for value in rounds()), what="a rate that shows the message")
        wait_until(lambda: max(sums(rounds()[-1])) < 1000, what="a rate that has fallen again")

    def test_watch_table(self):
        a, b = self.cluster(2)
        out = a.ok("stats", "--watch", "-c", "1")
        self.assertIn("IN FRAMES/s", out)
        self.assertRegex(out, r"(?m)^\(node\) +\d+ ")
        self.assertRegex(out, r"(?m)^%s +\d+ " % b.id)
        self.assertNotIn("\x1b", out)  # no terminal
        only = json.loads(a.ok("stats", b.id, "-w", "-c", "1", "--json"))
        self.assertEqual([link["id"] for link in only["links"]], [b.id])
        self.assertNotIn("node", only)

    def test_watch_ends_with_the_agent(self):
        (a,) = self.cluster(1)
        watch = self.process([BIN, "stats", "--watch", "--control", a.control], "watch")
        wait_until(lambda: "(node)" in watch.out)
        a.stop()
        self.assertEqual(watch.wait(), 1)
        self.assertIn(a.control, watch.err)

    def test_failures(self):
        (a,) = self.cluster(1)
        self.assertEqual(a.cli("stats", "nobody", "--watch", "-c", "1").status, 1)
        for args in (("--watch=0",), ("--watch=x",), ("--watch", "2", "3")):
            self.assertEqual(run("stats", "--control", a.control, *args).status, 2, args)


class ConfigShowTest(harness.NetTest):
    def settings(self, agent):
        value = json.loads(agent.ok("config", "show", "--json"))
        return value["file"], {s["key"]: s for s in value["settings"]}

    def test_every_origin(self):
        ip, port = address()
        path = self.definition([("a", ip, port)])
        conf = self.write_config({"cluster": os.path.basename(path), "limits": {"echoes_max": 9}, "loops": 2})
        agent = self.agent(node_id="a", args=["--config", conf, "--loops", "1"], env={"COHORT_IP": "127.0.0.9"}).start()
        file, settings = self.settings(agent)
        self.assertEqual(file, conf)
        for key, value, origin in (("cluster", path, "file"), ("id", "a", "flag"), ("ip", ip, "definition"), ("port", port, "definition"),
                                   ("loops", 1, "flag"), ("limits.echoes_max", 9, "file"), ("limits.members_max", 1024, "default"),
                                   ("admission", "listed", "default"), ("control.mode", "0600", "default"),
                                   ("control.path", agent.control, "flag"), ("control.group", None, "default"),
                                   ("http.insecure", False, "default"), ("log.format", "json", "flag")):
            self.assertEqual((settings[key]["value"], settings[key]["from"]), (value, origin), key)
        text = agent.ok("config", "show")
        self.assertRegex(text, r"(?m)^limits\.echoes_max +9 +file$")
        self.assertRegex(text, r"(?m)^control\.group +- +default$")
        self.assertIn(conf, text)

    def test_environment(self):
        ip, _ = address()
        _, settings = self.settings(self.agent(env={"COHORT_IP": ip}).start())
        self.assertEqual((settings["ip"]["value"], settings["ip"]["from"]), (ip, "environment"))
        self.assertEqual((settings["id"]["value"], settings["id"]["from"]), (ip, "environment"))
        self.assertEqual((settings["admission"]["value"], settings["port"]["value"]), ("open", 9876))

    def test_usage(self):
        for args in (("config",), ("config", "nonsense"), ("config", "show", "more")):
            self.assertEqual(run(*args).status, 2, args)


class DescriptorTest(harness.NetTest):
    """Started without standard input, output or error."""

    def without(self, closed, *argv, stdin=""):
        """Run with `closed`, redirections of the shell."""
        done = subprocess.run(["/bin/sh", "-c", 'exec "$@" ' + closed, "sh", *argv], input=stdin, capture_output=True, text=True,
                              timeout=harness.BOUND_S, check=False)
        return done.returncode, done.stdout, done.stderr

    def test_agent(self):
        for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            agent = self.agent(**dict(zip(("ip", "port"), address())))
            argv = agent.argv()
            agent.argv = lambda argv=argv, closed=closed: ["/bin/sh", "-c", 'exec "$@" ' + closed, "sh", *argv]
            agent.start()
            agent.ok("ping", agent.id, "-c", "1")
            agent.stop()

    def test_output_that_nobody_takes_is_an_error(self):
        (a,) = self.cluster(1)
        replier = self.process([BIN, "listen", "--control", a.control, "--ready", "same", "--reply", "cat"], "replier")
        wait_until(lambda: "listening" in replier.err, what="the replier is ready")
        for args in (("members",), ("stats", "--json"), ("request", a.id, "same", "hi"), ("request", "--all", "same", "hi", "--json")):
            code, _, err = self.without(">&-", BIN, *args, "--control", a.control)
            self.assertEqual(code, 1, args)
            self.assertIn("cannot write", err)
        self.assertEqual(self.without(">&-", BIN, "send", a.id, "news", "hi", "--control", a.control), (0, "", ""))  # it has no output

    def test_input_that_nobody_gives_is_an_error(self):
        (a,) = self.cluster(1)
        for args in (("send", a.id, "news"), ("send-file", a.id, "files", "-")):
            code, out, err = self.without("<&-", BIN, *args, "--control", a.control)
            self.assertEqual((code, out), (1, ""), args)
            self.assertIn("Bad file descriptor", err)
        self.assertEqual(self.without("<&-", BIN, "send", a.id, "news", "hi", "--control", a.control), (0, "", ""))


class FullTest(harness.NetTest):
    """Standard output takes nothing: one complaint, with the reason."""

    def fails(self, *args, after=None, control=None):
        with open("/dev/full", "wb") as full:
            process = subprocess.Popen([BIN, *args, *(["--control", control] if control else [])], stdin=subprocess.DEVNULL, stdout=full,
                                       stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        if after:
            self.assertEqual(process.stderr.readline(), "listening\n")
            after()
        _, err = process.communicate(timeout=harness.BOUND_S)
        self.assertEqual((process.returncode, err), (1, "cohort %s: cannot write: No space left on device\n" % args[0]), args)

    def test_what_is_read_of_the_agent(self):
        (a,) = self.cluster(1)
        http = a.http()
        for i in range(200):  # more than the buffer of standard output
            self.assertEqual(http.ask("PUT", "/v1/members/m%d" % i, ip="127.0.0.1", port=1)[0], 200)
        for args in (("members",), ("members", "--json"), ("stats",), ("stats", "--json"), ("stats", "--watch", "-c", "3"), ("config", "show"),
                     ("config", "show", "--json"), ("ping", a.id), ("ping", a.id, "--json"), ("broadcast", "news", "x"),
                     ("broadcast", "news", "x", "--json"), ("remove", "m7"), ("remove", "m8", "--json")):
            self.fails(*args, control=a.control)

    def test_replies(self):
        a, b = self.cluster(2)
        replier = self.process([BIN, "listen", "--control", b.control, "--ready", "much", "--reply", "seq 100000"], "replier")
        wait_until(lambda: "listening" in replier.err, what="the replier is ready")
        for args in ((b.id, "much", "x"), (b.id, "much", "x", "--json"), ("--all", "much", "x"), ("--all", "much", "x", "--json")):
            self.fails("request", *args, control=a.control)

    def test_what_comes(self):
        (a,) = self.cluster(1)
        for args in ((), ("--json",)):
            for size in (1, 100000):
                self.fails("listen", "news", "--ready", *args, control=a.control, after=lambda: a.ok("send", a.id, "news", stdin="x" * size))
        self.fails("watch", control=a.control)

    def test_without_an_agent(self):
        path = os.path.join(self.dir, "capture")
        with open(path, "wb") as f:
            f.write(frame(7, b"x") * 1000)
        self.fails("decode", path)
        self.fails("decode", path, "--json")
        self.fails("sim", "--help")


class ComplaintTest(harness.NetTest):
    """One line, which names what is wrong and where."""

    def fails(self, agent, *args, said, stdin=None):
        result = agent.cli(*args, stdin=stdin)
        self.assertEqual((result.status, result.out, result.err), (1, "", "cohort %s: %s\n" % (args[0], said)))

    def test_standard_input(self):
        (a,) = self.cluster(1)
        directory = os.open("/", os.O_RDONLY)
        self.addCleanup(os.close, directory)
        done = subprocess.run([BIN, "send", "--control", a.control, a.id, "news", "-"], stdin=directory, capture_output=True, text=True,
                              timeout=harness.BOUND_S, check=False)
        self.assertEqual((done.returncode, done.stderr), (1, "cohort send: cannot read standard input: Is a directory\n"))

    def test_too_large(self):
        (a,) = self.cluster(1)
        said = "the data is larger than a message may be, 1048576 bytes; a stream may be larger: cohort send-file, POST /v1/stream (ESIZE)"
        self.fails(a, "send", a.id, "news", "-", stdin="x" * (1048576 + 1), said="%s: %s" % (a.id, said))
        self.fails(a, "broadcast", "news", "-", stdin="x" * (1048576 + 1), said=said)
        result = a.cli("send", a.id, "news", "-", stdin=bytes((64 << 20) + 1))
        self.assertEqual(result.status, 1)
        for part in ("standard input is larger than 64 MiB", "a message may have 1 MiB", "send-file"):
            self.assertIn(part, result.err)

    def test_operands(self):
        (a,) = self.cluster(1)
        self.fails(a, "send", "", "news", "x", said="'': no such member (ENOPEER)")
        name = "subject must be a name of 1 to 128 printable characters without space; a raw #TYPE carries messages only (EINVAL)"
        self.fails(a, "send-file", a.id, "#7", "/dev/null", said="%s: %s" % (a.id, name))
        self.fails(a, "request", a.id, "#7", "x", said="%s: %s" % (a.id, name))
        self.fails(a, "listen", "#7", "--save", self.dir, said=name)

    def test_what_is_no_agent(self):
        path = os.path.join(self.dir, "file")
        for why in ("No such file or directory", "it is not a socket"):
            result = run("members", "--control", path)
            self.assertEqual((result.status, result.err), (1, "cohort members: no agent at %s: %s\n" % (path, why)))
            with open(path, "wb"):
                pass
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)
            self.assertEqual(run("members", "--control", path).err, "cohort members: no agent at %s: Connection refused\n" % path)


class DecodeTest(harness.NetTest):
    def decode(self, data, *args):
        return run("decode", "-", *args, stdin=data)

    def frames(self, data):
        result = self.decode(data, "--json")
        self.assertEqual(result.status, 0, result)
        return [json.loads(line) for line in result.out.splitlines()]

    def test_recorded_session_of_2014(self):
        data = vector("tlv-all-frames.bin")
        path = os.path.join(self.dir, "capture")
        with open(path, "wb") as f:
            f.write(data)
        result = run("decode", path)
        self.assertEqual((result.status, result.err), (0, ""))
        lines = result.out.splitlines()
        self.assertIn("id=127.0.1.1  ip=127.0.1.1  port=9876", lines[0])
        self.assertIn('"ping"', lines[2])
        frames = self.frames(data)
        self.assertEqual([f["name"] for f in frames],
                         ["HELLO", "ECHO", "ECHO", "RAW -1", "RAW 2147483647", "ECHO", "ECHO", "ECHO"])
        end = 0
        for f, line in zip(frames, lines):
            self.assertEqual(f["offset"], end)
            self.assertTrue(line.strip().startswith("%d " % end), line)
            end += 16 + f["data_len"]
        self.assertEqual(end, len(data))

    def test_frames_of_cohort(self):
        data = (hello("a", "127.0.0.1", 9, ":cohort/1-1;inc=5;cluster=blue;new=thing") + frame(WELCOME, b"\0\1") +
                frame(SUBJECT, b"\0\0\0\0news") + frame(0x80000000, b"hi\xff") + frame(0x88000001, bytes(12)) + frame(PING, b"12") +
                frame(0xC0000002, b"\0\0\0\x33" + (7).to_bytes(8, "big") + b"too old") + frame(0xE0000063, b"?") +
                frame(0xC0010001, b"") + frame(7, b"raw") + frame(LEAVE))
        f = self.frames(data)
        self.assertEqual([x["name"] for x in f], ["HELLO", "WELCOME", "SUBJECT", "MESSAGE", "REQUEST", "PING", "REFUSE", "CONTROL 99",
                                                  "UNKNOWN", "RAW 7", "LEAVE"])
        self.assertEqual((f[0]["versions"], f[0]["inc"], f[0]["cluster"], f[0]["extra"]), ("1-1", "5", "blue", "new=thing"))
        self.assertEqual(f[1]["version"], 1)
        self.assertEqual((f[2]["number"], f[2]["subject"]), (0, "news"))
        self.assertEqual((f[3]["subject"], f[3]["data_hex"]), ("news", "6869ff"))
        self.assertNotIn("subject", f[4])  # its name was not captured
        self.assertEqual((f[6]["code"], f[6]["value"], f[6]["text"]), ("ESTALE", 7, "too old"))
        self.assertEqual((f[7]["type"], f[8]["type"]), ("0xe0000063", "0xc0010001"))
        self.assertEqual(f[9]["data"], "raw")

    def test_sessions_and_lanes(self):
        def u64(n):
            return n.to_bytes(8, "big")
        data = (hello("a", "127.0.0.1", 9, ":cohort/1-1;inc=5") +
                frame(0xC0000007, u64(77) + u64(88) + b"\0\3" + b"".join(u64(n) for n in (1, 2, 3, 4, 5, 6))) +
                frame(0xC0000008, b"\2" + u64(10) + u64(20)) +
                frame(SUBJECT, b"\x04\0\0\0bulky") + frame(SUBJECT, b"\0\0\0\0plain") +
                frame(0x84000000, b"in bulk") + frame(0x8A000000, u64(9) + b"\0\0\1\0why") +
                frame(0x92000000, u64(9) + b"because") + frame(0x9A000000, u64(9) + b"\0\0\0\x1fno") +
                frame(0xA0000000, b"\1" + (100000).to_bytes(7, "big") + u64(0) + b"piece") + frame(0xB8000000, b"withdrawn") +
                frame(0xA8000000, b"\0" + b"\xff" * 7 + b"\0\3" + (65280).to_bytes(6, "big") + b"more") +
                frame(0xB0000000, b"\7" + bytes(7) + b"\0\3" + bytes(6)))
        f = self.frames(data)
        self.assertEqual([x["name"] for x in f], ["HELLO", "RESUME", "ACK", "SUBJECT", "SUBJECT", "MESSAGE", "REQUEST", "REPLY",
                                                  "ERROR REPLY", "FIRST CHUNK", "VOID", "MIDDLE CHUNK", "LAST CHUNK"])
        self.assertEqual((f[1]["half"], f[1]["known"], f[1]["received[0]"], f[1]["limit[2]"]), (77, 88, 1, 6))
        self.assertEqual((f[2]["received[2]"], f[2]["limit[2]"]), (10, 20))
        self.assertEqual((f[5]["lane"], f[5]["subject"], f[5]["data"]), (2, "bulky", "in bulk"))
        self.assertEqual((f[6]["lane"], f[6]["call"], f[6]["left_ms"], f[6]["data"]), (1, 9, 256, "why"))
        self.assertEqual((f[7]["call"], f[7]["data"]), (9, "because"))
        self.assertEqual((f[8]["code"], f[8]["data"]), ("ENOHANDLER", "no"))
        self.assertEqual((f[9]["of"], f[9]["whole"], f[9]["begin"], f[9]["data"]), ("REQUEST", 100000, 0, "piece"))
        self.assertEqual((f[9]["subject"], f[9]["stream"]), ("plain", 0))
        self.assertEqual((f[11]["of"], f[11]["stream"], f[11]["begin"], f[11]["data"]), ("MESSAGE", 3, 65280, "more"))
        self.assertNotIn("whole", f[11])
        self.assertEqual((f[12]["of"], f[12]["stream"]), ("ABORT", 3))

    def test_another_hello_begins_anew(self):
        first = hello("a", "127.0.0.1", 9, ":cohort/1-1;inc=5") + frame(SUBJECT, b"\0\0\0\0old") + frame(0x80000000, b"1")
        f = self.frames(first + hello("b") + frame(0x80000000, b"2"))
        self.assertEqual((f[2]["name"], f[2]["subject"]), ("MESSAGE", "old"))
        self.assertEqual(f[4]["name"], "RAW -2147483648")  # after a HELLO of 2014 every type is the application's

    def test_malformed_data_is_shown(self):
        for data in (frame(HELLO, b""), frame(HELLO, b"nonsense"), frame(HELLO, b"a:b:99999"), frame(WELCOME, b"x"),
                     frame(0xC0000002, b"short"), frame(SUBJECT, b"\0\0"), frame(LEAVE, b"more"), frame(0xC0000007, b"short"),
                     frame(0xC0000008, b"\3" + bytes(16)), frame(0xC0000008, b""), frame(0x88000000, b"short"),
                     frame(0xA0000000, b"short")):
            (f,) = self.frames(data)
            self.assertTrue(f["malformed"], f)
            self.assertIn("malformed", self.decode(data).out)

    def test_terminal_is_safe(self):
        data = hello("a\x1b[2J", "127.0.0.1") + frame(7, b"\x1b[2J") + frame(SUBJECT, b"\0\0\0\0\x1b[2J")
        self.assertNotIn("\x1b", self.decode(data).out)

    def test_long_data_is_cut_unless_asked(self):
        data = frame(7, b"y" * 1000)
        self.assertIn('"...', self.decode(data).out)
        self.assertIn("y" * 1000, self.decode(data, "--whole").out)

    def fails(self, data, *parts):
        result = self.decode(data)
        self.assertEqual(result.status, 1, result)
        self.assertEqual(len(result.err.splitlines()), 1, result.err)
        for part in parts:
            self.assertIn(part, result.err)
        return result

    def test_errors_name_the_byte(self):
        good = frame(7, b"good")
        self.assertIn("good", self.fails(good + b"\xfe\xed\x00", "offset 22:", "0x00", "0xca", "EMARKER").out)
        self.fails(good + frame(7, b"", length=15), "offset 32:", "15", "ELENGTH")
        self.fails(good + frame(7, b"", length=0xFFFFFFFF), "offset 32:", "4294967295", "ELENGTH")
        self.fails(good + good[:18], "offset 20:", "18 of 20")
        self.fails(good + good[:5], "offset 20:", "5 of 16", "header")
        self.fails(b"GET / HTTP/1.1\r\n", "offset 0:", "EMARKER")

    def test_nothing(self):
        self.assertEqual(self.frames(b""), [])

    def test_no_file(self):
        result = run("decode", os.path.join(self.dir, "missing"))
        self.assertEqual(result.status, 1)
        self.assertIn("missing", result.err)
        self.assertEqual(run("decode", self.dir).status, 1)
        self.assertEqual(run("decode").status, 2)

    def test_live_stream(self):
        """Frames are printed as their bytes come."""
        process = subprocess.Popen([BIN, "decode", "-", "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(process.stdout.close)
        process.stdin.write(frame(ECHO, b"one")[:10])
        process.stdin.flush()
        process.stdin.write(frame(ECHO, b"one")[10:] + frame(ECHO, b"two"))
        process.stdin.flush()
        self.assertEqual(json.loads(process.stdout.readline())["data"], "one")
        self.assertEqual(json.loads(process.stdout.readline())["data"], "two")
        process.stdin.close()
        self.assertEqual(process.wait(harness.BOUND_S), 0)

    def test_reader_goes_away(self):
        process = subprocess.Popen([BIN, "decode", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        try:
            process.stdin.write(frame(7, b"x") * 10000)
            process.stdin.close()
        except BrokenPipeError:
            pass
        self.assertIn(process.wait(harness.BOUND_S), (1, -signal.SIGPIPE))
        process.stderr.close()


if __name__ == "__main__":
    harness.main()
