#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Files between agents: cohort send-file and listen --save, over connections that break, to readers that stop, with names that are hostile."""
import hashlib
import os
import signal
import socket
import subprocess
import threading
import time

import harness
from harness import BIN, address, wait_until
from proxy import Proxy

MIB = 1 << 20
LARGE = (32 if harness.SANITIZED else 256) * MIB
SLOW_S = 240
HELD_MIB_MAX = 40  # what an agent grows by at most: a lane of 8 MiB at one end, a window of 4 MiB at the other, and what goes with it


def peak_kib(pid):
    with open("/proc/%d/status" % pid, encoding="ascii") as f:
        return int(next(line for line in f if line.startswith("VmHWM")).split()[1])


class FileTest(harness.NetTest):
    def file(self, name, size, seed=b"x"):
        """A file whose blocks all differ, and its SHA-256."""
        path = os.path.join(self.dir, name)
        block = hashlib.shake_128(seed).digest(MIB)
        digest = hashlib.sha256()
        with open(path, "wb") as f:
            for i in range(0, size, MIB):
                part = (i.to_bytes(8, "big") + block[8:])[:size - i]
                digest.update(part)
                f.write(part)
        return path, digest.hexdigest()

    def saver(self, agent, subject, *args):
        out = os.path.join(self.dir, "saved%d" % self.next_number())
        os.mkdir(out)
        process = self.process([BIN, "listen", "--control", agent.control, "--ready", subject, "--save", out, *args], "saver")
        wait_until(lambda: "listening" in process.err or not process.running(), what="the saver is ready")
        self.assertIn("listening", process.err)
        return process, out

    def send(self, agent, *args, stdin=None):
        return subprocess.Popen([BIN, "send-file", "--control", agent.control, *args], stdin=stdin or subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ended(self, sender, timeout=SLOW_S):
        out, err = sender.communicate(timeout=timeout)
        return sender.returncode, out, err

    def read(self, *parts):
        with open(os.path.join(*parts), "rb") as f:
            return f.read()

    def post(self, agent, to, subject, body, length=None):
        """A client of our own: sends the head and this much of a body, and gives the socket."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(agent.control)
        head = "POST /v1/stream?to=%s&subject=%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (to, subject, length or len(body))
        sock.sendall(head.encode() + body)
        return sock

    def test_large_file_over_connections_that_break(self):
        places = [address() for _ in range(2)]
        proxies = []
        for i in range(2):
            proxy = Proxy(address(), places[i], i)
            proxies.append(proxy)
            self.addCleanup(proxy.stop)
        agents = []
        for i in range(2):
            path = self.definition([("n%d" % k, *(places[k] if k == i else proxies[k].address)) for k in range(2)])
            agents.append(self.agent(node_id="n%d" % i, ip=places[i][0], port=places[i][1], cluster=path).start())
        a, b = agents
        self.wait_meshed(agents)
        path, digest = self.file("large.bin", LARGE)
        saver, out = self.saver(b, "files", "-c", "1")
        before = [peak_kib(x.pid) for x in agents]
        sender = self.send(a, b.id, "files", path)
        start, last = b.stats()["bytes_in"], 0
        while sender.poll() is None:
            got = b.stats()["bytes_in"] - start
            if got - last > LARGE // 16:
                last = got
                for proxy in proxies:
                    proxy.break_one()
            time.sleep(0.02)  # between two looks
        self.assertEqual(self.ended(sender), (0, "%s %d bytes sha256 %s\n" % (path, LARGE, digest), ""))
        self.assertEqual(saver.wait(SLOW_S), 0)
        self.assertEqual(saver.out, "n0 large.bin %d bytes sha256 %s\n" % (LARGE, digest))
        self.assertEqual(os.listdir(out), ["large.bin"])
        self.assertEqual(self.read(out, "large.bin"), self.read(path))
        self.assertGreaterEqual(sum(proxy.broken for proxy in proxies), 2)  # it depends on how often we look
        if not harness.SANITIZED:
            for agent, kib in zip(agents, before):
                self.assertLess(peak_kib(agent.pid) - kib, HELD_MIB_MAX * 1024)

    def test_sizes_and_sources(self):
        a, b = self.cluster(2)
        saver, out = self.saver(b, "files", "-c", "5")
        for size in (0, 1, 65281):
            path, digest = self.file("f%d" % size, size)
            self.assertEqual(self.ended(self.send(a, b.id, "files", path))[0], 0)
            line = "f%d %d bytes sha256 %s\n" % (size, size, digest)
            wait_until(lambda: line in saver.out, what="the saver says " + line)
        with subprocess.Popen(["seq", "300000"], stdout=subprocess.PIPE) as source:
            code, said, err = self.ended(self.send(a, b.id, "files", "-", "--name", "numbers", stdin=source.stdout))
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(self.ended(self.send(a, b.id, "files", path, "--lane", "normal"))[0], 0)
        self.assertEqual(saver.wait(), 0)
        self.assertEqual(sorted(os.listdir(out)), ["f0", "f1", "f65281", "f65281.1", "numbers"])
        self.assertEqual(self.read(out, "f65281.1"), self.read(path))
        self.assertEqual(said, "- %d bytes sha256 %s\n" % (os.path.getsize(out + "/numbers"), hashlib.sha256(self.read(out, "numbers")).hexdigest()))

    def test_a_file_that_says_it_is_empty(self):
        """What is read of it is sent, by its name and from standard input."""
        a, b = self.cluster(2)
        saver, out = self.saver(b, "files", "-c", "2")
        path = "/proc/version"
        content = self.read(path)
        said = "%d bytes sha256 %s\n" % (len(content), hashlib.sha256(content).hexdigest())
        self.assertEqual((os.path.getsize(path), len(content) > 0), (0, True))
        self.assertEqual(self.ended(self.send(a, b.id, "files", path)), (0, "%s %s" % (path, said), ""))
        with open(path, "rb") as f:
            self.assertEqual(self.ended(self.send(a, b.id, "files", "-", stdin=f)), (0, "- " + said, ""))
        self.assertEqual(saver.wait(), 0)
        self.assertEqual((self.read(out, "version"), self.read(out, "stdin")), (content, content))

    def test_success_is_not_that_it_was_saved(self):
        """As --help says: nobody takes it, or the saver may have no room for it."""
        a, b = self.cluster(2)
        path, digest = self.file("f", 1000)
        sent = (0, "%s 1000 bytes sha256 %s\n" % (path, digest), "")
        self.assertEqual(self.ended(self.send(a, b.id, "files", path)), sent)
        saver, out = self.saver(b, "files")
        os.rmdir(out)
        self.assertEqual(self.ended(self.send(a, b.id, "files", path)), sent)
        wait_until(lambda: "n0: f is not saved: " in saver.err, what="the saver says so")
        self.assertIn("not that it was saved", harness.run("send-file", "--help").out)

    def test_hostile_names_and_none(self):
        a, b = self.cluster(2)
        saver, out = self.saver(b, "files", "-c", "7")
        bodies = [b"cohort-file ../../evil\nA", b"cohort-file .hidden\nB", b"cohort-file a\x01b\nC", b"cohort-file \nD", b"no name\nE",
                  b"cohort-file " + b"n" * 300 + b"\nF", b"cohort-file x"]
        kept = [b"A", b"B", b"C", b"D", b"no name\nE", bodies[5], b"cohort-file x"]
        for body in bodies:
            with self.post(a, b.id, "files", body) as sock:
                self.assertIn(b"200 OK", sock.recv(4096))
        self.assertEqual(saver.wait(), 0)
        names = ["stream"] + ["stream.%d" % i for i in range(1, 7)]
        self.assertEqual(sorted(os.listdir(out)), names)
        self.assertEqual([self.read(out, name) for name in names], kept)
        self.assertNotIn("evil", os.listdir(os.path.dirname(out)))

    def test_what_is_not_whole_leaves_nothing(self):
        a, b = self.cluster(2)
        saver, out = self.saver(b, "files")
        with self.post(a, b.id, "files", b"cohort-file part\n" + b"x" * 200000, length=10 * MIB):
            wait_until(lambda: b.stats()["bytes_in"] > 150000, what="a part is there")
        wait_until(lambda: "n0: part is not whole: ECANCELLED" in saver.err, what="the saver is told")
        self.assertEqual(os.listdir(out), [])
        self.assertEqual(self.ended(self.send(a, b.id, "files", self.file("next", 10)[0]))[0], 0)
        wait_until(lambda: os.listdir(out) == ["next"], what="the next one is saved")
        with self.post(a, b.id, "files", b"cohort-file part\n" + b"x" * 200000, length=10 * MIB):
            size = b.stats()["bytes_in"]
            wait_until(lambda: b.stats()["bytes_in"] > size + 150000 or b.stats()["bytes_in"] > 350000, what="a part is there")
            saver.kill()
        self.assertEqual(os.listdir(out), ["next"])

    def test_an_agent_that_dies_within_files(self):
        """Which are lost is said, also of those that nobody will end any more."""
        a, b = self.cluster(2)
        saver, out = self.saver(b, "files")
        begun = [self.post(a, b.id, "files", b"cohort-file part%d\n" % i + b"x" * 100000, length=10 * MIB) for i in range(2)]
        for sock in begun:
            self.addCleanup(sock.close)
        wait_until(lambda: b.stats()["bytes_in"] > 180000, what="parts are there")
        self.assertEqual(self.ended(self.send(a, b.id, "files", self.file("whole", 10)[0]))[0], 0)
        wait_until(lambda: "n0 whole" in saver.out, what="the saver has read so far")
        b.kill9()
        self.assertEqual(saver.wait(), 1)
        self.assertEqual(sorted(saver.err.splitlines()), sorted(
            ["listening", "cohort listen: the agent at %s closed the stream" % b.control,
             "cohort listen: n0: part0 is not whole: its end never came", "cohort listen: n0: part1 is not whole: its end never came"]))
        self.assertEqual(os.listdir(out), ["whole"])
        for sock in begun:
            sock.close()

    def test_enough_files(self):
        a, b = self.cluster(2)
        saver, _ = self.saver(b, "files", "-c", "1")
        with self.post(a, b.id, "files", b"cohort-file part\n" + b"x" * 100000, length=10 * MIB):
            wait_until(lambda: b.stats()["bytes_in"] > 90000, what="a part is there")
            self.assertEqual(self.ended(self.send(a, b.id, "files", self.file("whole", 10)[0]))[0], 0)
            self.assertEqual(saver.wait(), 0)
        self.assertEqual(saver.err, "listening\ncohort listen: n0: part is not whole: others were enough\n")

    def test_a_reader_that_stops(self):
        """It holds up who sends to it, and nobody else."""
        a, b = self.cluster(2)
        saver, out = self.saver(b, "files", "-c", "1")
        other, other_out = self.saver(b, "others", "-c", "1")
        path, digest = self.file("large.bin", 48 * MIB)
        saver.popen.send_signal(signal.SIGSTOP)
        before = [peak_kib(x.pid) for x in (a, b)]
        sender = self.send(a, b.id, "files", path)
        self.addCleanup(sender.kill)
        wait_until(lambda: a.stats()["queued_bytes"] > 2 * MIB, what="the lane fills")
        code, _, err = self.ended(self.send(a, b.id, "files", path, "--timeout", "1"))
        self.assertEqual((code, err), (1, "cohort send-file: %s: timed out (ETIMEDOUT)\n" % b.id))
        self.assertEqual(self.ended(self.send(a, b.id, "others", self.file("small", 1000)[0], "--lane", "normal"))[0], 0)
        self.assertEqual(other.wait(), 0)
        self.assertEqual(os.listdir(other_out), ["small"])
        self.assertIsNone(sender.poll())
        saver.popen.send_signal(signal.SIGCONT)
        self.assertEqual(self.ended(sender)[0], 0)
        self.assertEqual(saver.wait(SLOW_S), 0)
        self.assertIn(digest, saver.out)
        self.assertEqual(os.listdir(out), ["large.bin"])
        if not harness.SANITIZED:
            for agent, kib in zip((a, b), before):
                self.assertLess(peak_kib(agent.pid) - kib, HELD_MIB_MAX * 1024)

    def test_the_member_is_replaced(self):
        a, b = self.cluster(2)
        saver, _ = self.saver(b, "files")
        path, _ = self.file("large.bin", 64 * MIB)
        saver.popen.send_signal(signal.SIGSTOP)
        sender = self.send(a, b.id, "files", path)
        wait_until(lambda: a.stats()["queued_bytes"] > MIB, what="a part is under way")
        b.kill9()
        b.start()
        code, out, err = self.ended(sender)
        self.assertEqual((code, out), (1, ""))
        self.assertEqual(err, "cohort send-file: %s: the peer was restarted (ERESTARTED)\n" % b.id)

    def test_the_member_is_down(self):
        """It ends although the lane has room for all of it, and although its length is not known before."""
        a, b = self.cluster(2)
        path, _ = self.file("small", 1000)
        b.kill9()
        wait_until(lambda: a.state(b.id) == "INACTIVE", what="it is down")
        for args in ((path,), ("-",)):
            with open(path, "rb") as f:
                code, out, err = self.ended(self.send(a, b.id, "files", *args, "--timeout", "1", stdin=f))
            self.assertEqual((code, out, err), (1, "", "cohort send-file: %s: timed out (ETIMEDOUT)\n" % b.id))

    def test_the_agent_hangs(self):
        """It is given up when nothing moves and it does not say that it lives; bench, which waits for it too, does the same."""
        a, b = self.cluster(2)
        path, _ = self.file("large.bin", 16 * MIB)
        saver, _ = self.saver(b, "files")
        saver.popen.send_signal(signal.SIGSTOP)
        sender = self.send(a, b.id, "files", path, "--timeout", "5")
        wait_until(lambda: a.stats()["queued_bytes"] > MIB, what="a part is under way")
        bench = self.process([BIN, "bench", "--control", a.control, b.id, "--seconds", "2"], "bench")
        wait_until(lambda: b.stats()["frames_in"] > 1000, what="bench has begun")
        a.send_signal(signal.SIGSTOP)
        self.addCleanup(a.send_signal, signal.SIGCONT)
        said = "the agent at %s does not answer\n" % a.control
        self.assertEqual(self.ended(sender, harness.BOUND_S), (1, "", "cohort send-file: " + said))
        self.assertEqual((bench.wait(), bench.err), (1, "cohort bench: " + said))
        a.send_signal(signal.SIGCONT)

    def test_an_agent_that_takes_nothing_but_lives(self):
        """How long a member may be slow is for the agent to say."""
        control = os.path.join(self.dir, "slow")
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(control)
        listener.listen()
        listener.settimeout(harness.BOUND_S)
        path, digest = self.file("large.bin", 4 * MIB)
        sender = subprocess.Popen([BIN, "send-file", "--control", control, "b", "files", path, "--timeout", "1"], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True)
        self.addCleanup(sender.kill)
        upload = listener.accept()[0]
        self.addCleanup(upload.close)
        for _ in range(2):
            with listener.accept()[0] as asks:
                self.assertIn(b"GET /v1/health", asks.recv(4096))
                asks.sendall(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")  # any answer will do
        got = b""
        while len(got) < 4 * MIB or not got.endswith(self.read(path)):
            got += upload.recv(MIB)
        upload.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.ended(sender), (0, "%s %d bytes sha256 %s\n" % (path, 4 * MIB, digest), ""))

    def test_what_cannot_be_sent_or_saved(self):
        a, b = self.cluster(2)
        for args, expected in (((b.id, "files", "/nowhere"), "/nowhere: No such file or directory"),
                               ((b.id, "files", "/tmp"), "/tmp: is a directory"),
                               ((b.id, "files", "/dev/null", "--name", "a/"), "/dev/null: not a name to save a file under"),
                               (("nobody", "files", "/dev/null"), "nobody: no such member (ENOPEER)"),
                               ((b.id, "#7", "/dev/null"), "subject must be a name")):
            code, out, err = self.ended(self.send(a, *args))
            self.assertEqual((code, out), (1, ""), err)
            self.assertIn(expected, err)
            self.assertEqual(len(err.splitlines()), 1)
        result = b.cli("listen", "files", "--save", "/nowhere")
        self.assertEqual((result.status, result.err), (1, "cohort listen: /nowhere: No such file or directory\n"))
        savers = [self.saver(b, "s%d" % i)[0] for i in range(16)]
        result = b.cli("listen", "more", "--save", self.dir)
        self.assertEqual(result.status, 1)
        self.assertIn("(ELIMIT)", result.err)
        savers[0].kill()
        wait_until(lambda: self.saver_fits(b), what="there is room for another")

    def saver_fits(self, agent):
        process = self.process([BIN, "listen", "--control", agent.control, "--ready", "more", "--save", self.dir], "again")
        wait_until(lambda: "listening" in process.err or not process.running())
        return process.running()

    def test_many_at_once(self):
        a, b = self.cluster(2)
        saver, out = self.saver(b, "files", "-c", "8")
        paths = [self.file("f%d" % i, 3 * MIB + i, b"%d" % i)[0] for i in range(8)]
        senders = [self.send(a, b.id, "files", path) for path in paths]
        for sender in senders:
            self.assertEqual(self.ended(sender)[0], 0)
        self.assertEqual(saver.wait(), 0)
        for path in paths:
            self.assertEqual(self.read(out, os.path.basename(path)), self.read(path))
        self.assertEqual(threading.active_count(), 1)


if __name__ == "__main__":
    harness.main()
