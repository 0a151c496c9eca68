# SPDX-License-Identifier: Apache-2.0
"""Agents as real processes on loopback addresses of their own, and what tests ask of them.

A test case derives from NetTest. Whatever it starts is stopped after it, with checks: an agent ends with status 0 on SIGTERM,
and no sanitizer has complained, and it has no descriptor but those it started with and one for each link. There are no sleeps for synchronisation: wait_until() polls a condition, with a bound.

COHORT_BIN   the cohort binary
VECTOR_DIR   tests/vectors/legacy
"""
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse
import weakref

import gauge

BIN = os.environ.get("COHORT_BIN", "")
VECTOR_DIR = os.environ.get("VECTOR_DIR") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "vectors", "legacy")

SANITIZED = os.environ.get("SANITIZE", "none") != "none"  # memory in use says nothing then

BOUND_S = float(os.environ.get("BOUND_S", 30))  # for whatever should be quick: long enough for a sanitizer build on a loaded machine
PORT = 9876
MARKER = 0xFEEDCAFECAFEFEED
HEADER = struct.Struct(">QII")
HELLO, ECHO = 1, 2
LEGACY_FRAME_MAX = 32768

SANITIZER = re.compile(r"ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:|SUMMARY: \w+Sanitizer")


# ---- addresses ---------------------------------------------------------------------------------------------------------

# Linux answers on all of 127/8. A test process gets a block of 62 addresses by its pid, so that tests that run side by side
# do not meet; 127.0 and 127.1, where people start nodes by hand, are left out.
_block = os.getpid() % (252 * 256 * 4)
_numbers = itertools.count()


def address():
    """An address no other test uses, and a port: (ip, port)."""
    n = next(_numbers)
    ip = "127.%d.%d.%d" % (2 + _block // 1024, _block // 4 % 256, _block % 4 * 64 + 1 + n % 62)
    return ip, PORT + n // 62


# ---- waiting -----------------------------------------------------------------------------------------------------------

def wait_until(predicate, timeout=BOUND_S, what=None):
    """Poll every 10 ms until predicate() is true, and return its value; fail after `timeout` seconds.

    An AssertionError or OSError inside counts as not yet."""
    deadline = time.monotonic() + timeout
    error = None
    while True:
        try:
            value = predicate()
            if value:
                return value
            error = None
        except (AssertionError, OSError) as e:
            error = e
        if time.monotonic() > deadline:
            text = "not within %g s: %s" % (timeout, what or getattr(predicate, "__doc__", None) or "condition")
            raise AssertionError(text + (" (%s)" % error if error else "")) from None
        time.sleep(0.01)


# ---- frames ------------------------------------------------------------------------------------------------------------

def frame(kind, data=b"", length=None, marker=MARKER):
    """A TLV frame; `length` lies about its length."""
    if length is None:
        length = HEADER.size + len(data)
    return HEADER.pack(marker, kind & 0xFFFFFFFF, length & 0xFFFFFFFF) + data


def hello(node_id, ip=None, port=PORT, extension=""):
    return frame(HELLO, ("%s:%s:%d%s" % (node_id, ip or node_id, port, extension)).encode())


def vector(name):
    with open(os.path.join(VECTOR_DIR, name), "rb") as f:
        return f.read()


class Closed(AssertionError):
    """The other end closed the connection."""


class RawPeer:
    """A TCP client that says what it is told to, byte for byte."""

    all = weakref.WeakSet()  # closed at the end of a test, before descriptors are counted

    def __init__(self, address_, source=None):
        self._take(socket.create_connection(address_, timeout=BOUND_S, source_address=(source, 0) if source else None))

    @classmethod
    def of(cls, sock):
        """On a connection accepted."""
        raw = cls.__new__(cls)
        raw._take(sock)
        return raw

    def _take(self, sock):
        RawPeer.all.add(self)
        self.sock = sock
        self.sock.settimeout(BOUND_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def send(self, data):
        self.sock.sendall(data)

    ignored = ()  # types that read_frame() passes over

    def read_frame(self, timeout=BOUND_S):
        """The next frame: (type, data). Raises Closed at the end."""
        while True:
            if len(self.buffer) >= HEADER.size:
                marker, kind, length = HEADER.unpack_from(self.buffer)
                assert marker == MARKER, "marker %x" % marker
                assert HEADER.size <= length <= 2 << 20, "length %d" % length
                if len(self.buffer) >= length:
                    data = self.buffer[HEADER.size:length]
                    self.buffer = self.buffer[length:]
                    if kind in self.ignored:
                        continue
                    return kind, data
            self._fill(timeout)

    def _fill(self, timeout):
        self.sock.settimeout(timeout)
        try:
            piece = self.sock.recv(65536)
        except socket.timeout:
            raise AssertionError("nothing received in %g s" % timeout) from None
        except ConnectionError as e:
            raise Closed(str(e)) from None
        if not piece:
            raise Closed("end of stream")
        self.buffer += piece

    def wait_closed(self, timeout=BOUND_S):
        """Read until the other end closes; fail if it does not. Gives the frames' bytes that came before."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError("the connection is still open after %g s" % timeout)
            try:
                self._fill(left)
            except Closed:
                return self.buffer

    def fin(self):
        self.sock.shutdown(socket.SHUT_WR)

    def rst(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()


# ---- processes ---------------------------------------------------------------------------------------------------------

class Result:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def __repr__(self):
        return "status %s\nstdout: %s\nstderr: %s" % (self.status, self.out, self.err)


class Process:
    """A command that runs beside the test, its output in files."""

    def __init__(self, argv, directory, name, env=None):
        self.argv = argv
        self.name = name
        self.out_path = os.path.join(directory, name + ".out")
        self.err_path = os.path.join(directory, name + ".err")
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env)

    @staticmethod
    def _read(path):
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()

    @property
    def out(self):
        return self._read(self.out_path)

    @property
    def err(self):
        return self._read(self.err_path)

    def wait(self, timeout=BOUND_S):
        """Its exit status; fails if it does not end in time."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError("%s has not ended in %g s: %s" % (self.name, timeout, " ".join(self.argv))) from None

    def running(self):
        return self.popen.poll() is None

    def kill(self):
        if self.running():
            self.popen.kill()
        self.popen.wait()


class Agent:
    """One `cohort agent`. May be started again after stop() or kill9()."""

    def __init__(self, test, node_id=None, ip=None, port=None, cluster=None, args=(), env=None):
        self.test = test
        self.args = list(args)
        self.cluster = cluster  # path of its definition
        if cluster:
            self.args += ["--cluster", cluster]
        if node_id:
            self.args += ["--id", node_id]
        if ip:
            self.args += ["--ip", ip]
        if port:
            self.args += ["--port", str(port)]
        self.id = node_id or ip
        self.ip = ip
        self.port = port or PORT
        self.env = env
        self.starts = 0
        self.number = test.next_number()
        self.control = os.path.join(test.dir, "c%d" % self.number)
        self.process = None
        self.logs = []
        self.expect_clean = True
        self.descriptors = None  # those it has by itself, by kind

    @property
    def pid(self):
        return self.process.popen.pid

    @property
    def address(self):
        return self.ip, self.port

    def argv(self):
        return [BIN, "agent", *self.args, "--control", self.control, "--log-level", "debug", "--log-format", "json"]

    def launch(self):
        self.starts += 1
        name = "agent%d-%d" % (self.number, self.starts)
        env = dict(os.environ)
        env.pop("COHORT_IP", None)
        env.update(self.env or {})
        self.process = Process(self.argv(), self.test.dir, name, env)
        self.logs.append(self.process)
        self.expect_clean = True
        return self

    def start(self):
        """Start it and wait until it answers."""
        self.launch()
        wait_until(self._answers, what="agent %s answers" % self.id)
        return self

    def _answers(self):
        if not self.process.running():
            raise RuntimeError("agent %s ended with status %s: %s" % (self.id, self.process.popen.returncode, self.process.err))
        if not os.path.exists(self.control) or self.cli("members", "--json").status != 0:
            return False
        self.descriptors = gauge.Descriptors(self.pid).rest
        return True

    def check_descriptors(self):
        """It has no descriptor but those it started with, one for each link and one for each stream."""
        http = self.http()
        try:
            stats = http.ask("GET", "/v1/stats")[1]
        finally:
            http.close()
        now = gauge.Descriptors(self.pid)
        found = (now.connections, now.clients, dict(now.rest))
        allowed = (stats["links_open"] + stats["handshakes_pending"], stats["streams_open"], dict(self.descriptors))
        assert found == allowed, "agent %s: TCP, Unix and other descriptors %s, expected %s" % (self.id, found, allowed)
        return True

    def send_signal(self, number):
        self.process.popen.send_signal(number)

    def stop(self, number=signal.SIGTERM):
        self.send_signal(number)
        self.check_ended()

    def check_ended(self):
        status = self.process.wait()
        assert status == 0, "agent %s ended with status %s\n%s" % (self.id, status, tail(self.process.err))

    def kill9(self):
        self.process.kill()
        self.expect_clean = False

    # -- the command line

    def cli(self, *args, stdin=None, timeout=BOUND_S):
        return run(args[0], "--control", self.control, *args[1:], stdin=stdin, timeout=timeout)

    def ok(self, *args, stdin=None):
        """Run a command that must succeed; its standard output."""
        result = self.cli(*args, stdin=stdin)
        assert result.status == 0, "cohort %s: %r" % (" ".join(args), result)
        return result.out

    def members(self):
        """{id: member}"""
        return {m["id"]: m for m in json.loads(self.ok("members", "--json"))["members"]}

    def state(self, node_id):
        member = self.members().get(node_id)
        return member["state"] if member else None

    def wait_state(self, node_id, state, timeout=BOUND_S):
        wait_until(lambda: self.state(node_id) == state, timeout, "%s sees %s as %s" % (self.id, node_id, state))

    def link(self, node_id):
        """Counters of the link to a member, as the names of cohort_link_stats."""
        stats = json.loads(self.ok("stats", node_id, "--json"))
        return {snake(k): v for k, v in stats.items()}

    def stats(self):
        """Counters of the node; those of "errors" by name."""
        return json.loads(self.ok("stats", "--json"))

    def errors(self, name):
        return self.stats()["errors"].get(name, 0)

    def listen(self, subject, count=None):
        """Start `cohort listen`, and wait until it is subscribed."""
        argv = [BIN, "listen", "--control", self.control, "--ready", subject]
        if count:
            argv += ["-c", str(count)]
        process = self.test.process(argv, "listen")
        wait_until(lambda: "listening" in process.err or not process.running(), what="listen is ready")
        assert "listening" in process.err, "listen ended with %s: %s" % (process.popen.poll(), process.err)
        return process

    # -- HTTP, for what would take too many processes

    def http(self):
        """A connection to the control socket; close it."""
        return UnixConnection(self.control)

    # -- the log

    @property
    def log(self):
        return "".join(p.err + p.out for p in self.logs)

    def records(self):
        """The log lines, as dictionaries."""
        records = []
        for line in self.log.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                records.append(record)
        return records

    def wait_log(self, pattern, timeout=BOUND_S):
        """Wait for a log line that matches; its match."""
        return wait_until(lambda: re.search(pattern, self.log), timeout, "%s logs %s" % (self.id, pattern))


class UnixConnection(http.client.HTTPConnection):
    all = weakref.WeakSet()  # as RawPeer.all

    def __init__(self, path):
        UnixConnection.all.add(self)
        super().__init__("localhost", timeout=BOUND_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def ask(self, method, path, body=None, **arguments):
        """(status, value of the JSON answer)"""
        if arguments:
            path += "?" + urllib.parse.urlencode(arguments)
        self.request(method, path, body)
        response = self.getresponse()
        return response.status, json.loads(response.read())


def snake(name):
    return re.sub(r"([a-z0-9])([A-Z])", lambda m: m.group(1) + "_" + m.group(2).lower(), name)


def run(*args, stdin=None, timeout=BOUND_S, env=None):
    """Run `cohort ARGS` to its end."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        p = subprocess.run([BIN, *args], input=data if data is not None else b"", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           timeout=timeout, check=False, env=env)
    except subprocess.TimeoutExpired:
        raise AssertionError("cohort %s has not ended in %g s" % (" ".join(args), timeout)) from None
    result = Result(p.returncode, p.stdout.decode(errors="replace"), p.stderr.decode(errors="replace"))
    if SANITIZER.search(result.err):
        raise AssertionError("sanitizer report of cohort %s\n%s" % (" ".join(args), result.err))
    return result


def tail(text, lines=60):
    return "\n".join(text.splitlines()[-lines:])


class NetTest(unittest.TestCase):
    needs_binary = True

    def setUp(self):
        if self.needs_binary and not os.access(BIN, os.X_OK):
            self.fail("COHORT_BIN=%r is not an executable" % BIN)
        self.dir = tempfile.mkdtemp(prefix="cohort-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.agents = []
        self.processes = []
        self._numbers = itertools.count()

    def next_number(self):
        return next(self._numbers)

    # Run as the first clean-up: the checks of it belong to the test.
    def tearDown(self):
        errors = []
        for process in self.processes:
            process.kill()
            if SANITIZER.search(process.err):
                errors.append("sanitizer report of %s" % process.name)
        errors += self._descriptor_errors()
        for agent in self.agents:
            if agent.process and agent.process.running():
                agent.send_signal(signal.SIGTERM)
        for agent in self.agents:
            try:
                if agent.process and agent.expect_clean:
                    agent.check_ended()
            except AssertionError as e:
                errors.append(str(e))
            if agent.process:
                agent.process.kill()
            report = SANITIZER.search(agent.log)
            if report:
                errors.append("sanitizer report of agent %s:\n%s" % (agent.id, agent.log[report.start():][:8000]))
        result = self._outcome.result
        failed = any(test is self or getattr(test, "test_case", None) is self for test, _ in result.errors + result.failures)
        if failed or errors:
            for agent in self.agents:
                print("---- log of agent %s (%s:%d)\n%s" % (agent.id, agent.ip, agent.port, tail(agent.log)), file=sys.stderr)
            for process in self.processes:
                print("---- %s\n%s%s" % (" ".join(process.argv), tail(process.out), tail(process.err)), file=sys.stderr)
        if errors:
            self.fail("\n".join(errors))

    def _descriptor_errors(self):
        for connection in [*RawPeer.all, *UnixConnection.all]:
            connection.close()
        errors = []
        for agent in self.agents:
            if agent.process and agent.process.running() and agent.descriptors is not None and agent.expect_clean:
                try:
                    wait_until(agent.check_descriptors, what="no descriptor is left over")
                except (AssertionError, OSError, ValueError) as e:
                    errors.append(str(e))
        return errors

    # -- making things

    def definition(self, nodes, cluster=None, name=None):
        """Write a cluster definition; nodes are dictionaries, or agents, or (id, ip, port)."""
        path = os.path.join(self.dir, name or "cluster%d.json" % self.next_number())
        rows = []
        for node in nodes:
            if isinstance(node, dict):
                rows.append(node)
            else:
                node_id, ip, port = (node.id, node.ip, node.port) if hasattr(node, "ip") else node
                rows.append({"id": node_id, "ip": ip, "tcpPort": port})
        value = {"nodes": rows}
        if cluster is not None:
            value["cluster"] = cluster
        with open(path, "w", encoding="utf-8") as f:
            json.dump(value, f, indent=2)
        return path

    def write_config(self, value, name=None):
        """Write a configuration file: a value as JSON, or text as it is."""
        path = os.path.join(self.dir, name or "agent%d.conf" % self.next_number())
        with open(path, "w", encoding="utf-8") as f:
            f.write(value if isinstance(value, str) else json.dumps(value, indent=2))
        return path

    def agent(self, **kwargs):
        agent = Agent(self, **kwargs)
        self.agents.append(agent)
        return agent

    def process(self, argv, name, env=None):
        process = Process(argv, self.dir, "%s%d" % (name, self.next_number()), env)
        self.processes.append(process)
        return process

    def cluster(self, count, extra=(), start=True, cluster=None, with_ids=True):
        """`count` agents that know each other and the `extra` nodes, all started."""
        places = [address() for _ in range(count)]
        ids = ["n%d" % i if with_ids else place[0] for i, place in enumerate(places)]
        path = self.definition([(i, ip, port) for i, (ip, port) in zip(ids, places)] + list(extra), cluster)
        agents = [self.agent(node_id=i, ip=ip, port=port, cluster=path) for i, (ip, port) in zip(ids, places)]
        if start:
            for agent in agents:
                agent.launch()
            for agent in agents:
                wait_until(agent._answers, what="agent %s answers" % agent.id)
            self.wait_meshed(agents)
        return agents

    def wait_meshed(self, agents):
        for a in agents:
            wait_until(lambda a=a: all(a.members().get(b.id, {}).get("state") == "ACTIVE" for b in agents),
                       what="%s sees all as ACTIVE" % a.id)

    def same_link(self, agent, peer_id):
        """Returns a function that fails unless the link that stands now still stands and carries frames."""
        before = agent.link(peer_id)
        start = time.monotonic_ns()
        self.assertGreater(before["open_ns"], 0, "no link to %s" % peer_id)

        def check():
            agent.ok("ping", peer_id, "-c", "1")
            elapsed_ns = time.monotonic_ns() - start
            after = agent.link(peer_id)
            self.assertGreaterEqual(after["open_ns"], before["open_ns"] + elapsed_ns, "another link to %s" % peer_id)
            self.assertGreater(after["frames_out"], before["frames_out"])
            self.assertGreater(after["bytes_in"], before["bytes_in"])
        return check


def main():
    unittest.main(verbosity=2)
