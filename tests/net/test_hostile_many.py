#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Those who come in crowds, take their time, do not read, or do not stop, before an agent that has a healthy peer.

Limits meant here: members_max 1024, handshakes_max 256, handshake_timeout_ms 5000, legacy_links_max 4, peer_queue_bytes_max 8 MiB,
subjects_max 4096. The agent is well afterwards: hostile_case.py.
"""
import json
import resource
import select
import socket
import struct
import threading
import time
import unittest

import gauge
import harness
from harness import ECHO, HEADER, HELLO, RawPeer, address, frame, hello, wait_until
from hostile_case import ACK, CREDIT, EXTENSION, PING, SUBJECT, HostileCase

QUEUE_BYTES_MAX = 8 << 20
HANDSHAKES_MAX, HANDSHAKE_S = 256, 5.0
SILENT = 5000
AGENT_DESCRIPTORS = 1024  # all an agent gets here: what it may use is bounded by its own limits, not by the system's


class Background(threading.Thread):
    """Calls step() until stopped, or until it fails as a connection does."""

    def __init__(self, test, step):
        super().__init__(daemon=True)
        self.step = step
        self.over = threading.Event()
        self.count = 0
        self.error = None
        self.start()
        test.addCleanup(self.stop)

    def run(self):
        try:
            while not self.over.is_set():
                self.step()
                self.count += 1
        except OSError as e:
            self.error = e

    def stop(self):
        self.over.set()
        self.join(harness.BOUND_S)


class SlowTest(HostileCase):
    def trickle(self, raw, data):
        """One byte a second; how long the agent had patience."""
        start = time.monotonic()
        for byte in data:
            try:
                raw.send(bytes([byte]))
            except OSError:
                break
            if select.select([raw.sock], [], [], 1.0)[0]:
                try:
                    raw._fill(1)
                except harness.Closed:
                    break
        else:
            self.fail("the agent heard all of it")
        return time.monotonic() - start

    def test_hello_one_byte_a_second(self):
        """And WELCOME. A deadline that each byte moves would never come."""
        before = self.named("EHANDSHAKE")
        greeting, greeted = self.connect(), self.connect()
        greeted.send(hello(self.id, *self.bad, extension=EXTENSION % 1))
        self.assertEqual(greeted.read_frame()[0], HELLO)
        self.assertEqual(greeted.read_frame()[0], 0xC0000001)
        times = [None, None]

        def talk(i, raw, data):
            times[i] = self.trickle(raw, data)
        threads = [threading.Thread(target=talk, args=(0, greeting, hello(self.id, *self.bad))),
                   threading.Thread(target=talk, args=(1, greeted, frame(0xC0000001, b"\0\1")))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for seconds in times:
            self.assertIsNotNone(seconds, "the agent heard all of it")
            self.assertLess(seconds, 2 * HANDSHAKE_S)
        self.names("EHANDSHAKE", before, 2)
        self.assertEqual(self.a.state(self.id), "INACTIVE")


class NoReaderTest(HostileCase):
    """What waits for a peer is bounded, whoever asked for it, and it is given back when the peer goes."""
    kept_mib = 20  # all of it is given back (malloc_trim() leaves nothing), but the allocator may keep the room of a queue, 8 MiB, twice

    def send_until_refused(self, http, data):
        for sent in range(4000):
            status, answer = http.ask("POST", "/v1/send", data, to=self.id, subject="#7")
            if status != 200:
                self.assertEqual(answer["error"]["code"], "EAGAIN")
                self.assertGreaterEqual(sent, QUEUE_BYTES_MAX // 32768 - 1)
                return sent
        return self.fail("no limit to what is queued")

    def check_queue(self, raw, acknowledge=lambda frames_bytes: None):
        http = self.a.http()
        self.addCleanup(http.close)
        data = b"w" * 32752
        sent = self.send_until_refused(http, data)
        self.assert_peak_below(64)
        self.a.ok("ping", self.b.id, "-c", "1")  # one slow peer does not slow another
        self.assertEqual(self.a.state(self.id), "ACTIVE")
        for _ in range(sent):
            self.assertEqual(raw.read_frame(), (7, data))
        acknowledge(sent * 32768)
        status, answer = http.ask("POST", "/v1/send", b"again", to=self.id, subject="#7")
        self.assertEqual(status, 200, answer)
        self.assertEqual(raw.read_frame(), (7, b"again"))

    def test_legacy_peer_that_does_not_read(self):
        """The 2014 node's buffer grew to 1.8 GB in a second."""
        self.check_queue(self.greeted())

    def test_cohort_peer_that_does_not_read(self):
        """What it read it must acknowledge, too: until then it waits in the session."""
        raw = self.cohort_greeted()

        def acknowledge(frames_bytes):
            self.assertGreaterEqual(self.a.link(self.id)["queued_bytes"], QUEUE_BYTES_MAX - 32768)
            raw.send(frame(ACK, struct.pack(">BQQ", 0, frames_bytes, CREDIT)))
            wait_until(lambda: self.a.link(self.id)["queued_bytes"] == 0)

        self.check_queue(raw, acknowledge)

    def check_questions(self, raw, kind):
        """It asks and asks, and does not read the answers: those beyond the queue are dropped, and counted."""
        question = frame(kind, b"?" * 32752) * 4
        asking = Background(self, lambda: raw.send(question))
        wait_until(lambda: self.a.stats()["echoes_dropped"] > 100, what="answers are dropped")
        self.a.ok("ping", self.b.id, "-c", "5", "--timeout", "10000")
        asking.over.set()
        self.assertLessEqual(self.a.link(self.id)["queued_bytes"], QUEUE_BYTES_MAX)
        self.assert_peak_below(64)
        asking.join(harness.BOUND_S)
        self.assertIsNone(asking.error)
        raw.close()
        self.a.wait_state(self.id, "INACTIVE")

    def test_legacy_peer_that_asks_and_does_not_read(self):
        self.check_questions(self.greeted(), ECHO)

    def test_cohort_peer_that_asks_and_does_not_read(self):
        self.check_questions(self.cohort_greeted(), PING)


class FloodTest(HostileCase):
    kept_mib = 24  # the allocator may keep the room of a backlog, 8 MiB twice over; two floods are 80 MiB

    def flood(self, raw, data, count):
        """While it lasts the healthy link answers. Returns the number of writes of `data`."""
        flooding = Background(self, lambda: raw.send(data))
        self.a.ok("ping", self.b.id, "-c", "20", "--timeout", "10000")
        self.b.ok("ping", self.a.id, "-c", "20", "--timeout", "10000")
        wait_until(lambda: flooding.count >= count or flooding.error, what="%d writes" % count)
        flooding.stop()
        self.assertIsNone(flooding.error)
        self.assertEqual(self.a.state(self.id), "ACTIVE")
        self.assert_peak_below(96)
        return flooding.count

    def check_flood(self, greet):
        self.flood_once(greet())
        self.flood_once(greet())

    def flood_once(self, raw):
        small = frame(7, b"flood") * 3000
        writes = self.flood(raw, small, 300)
        # Somebody subscribes and does not read: the flood is dropped for it, and counted.
        reader = socket.socket(socket.AF_UNIX)
        self.addCleanup(reader.close)
        reader.connect(self.a.control)
        reader.sendall(b"GET /v1/messages?subject=* HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: self.a.stats()["streams_open"] == 1)
        dropped = self.a.stats()["stream_items_dropped"]
        self.flood(raw, frame(7, b"flood" * 1000) * 20, 200)
        wait_until(lambda: self.a.stats()["stream_items_dropped"] > dropped, what="items are dropped for the slow reader")
        wait_until(lambda: self.a.link(self.id)["frames_in"] >= 3000 * writes, what="all of it is read")
        reader.close()
        raw.close()
        self.a.wait_state(self.id, "INACTIVE")
        wait_until(lambda: self.a.stats()["streams_open"] == 0, what="the stream ends with its reader")

    def test_legacy_peer_that_floods(self):
        self.check_flood(self.greeted)

    def test_cohort_peer_that_floods(self):
        self.check_flood(self.cohort_greeted)

    def test_more_subjects_than_allowed(self):
        before = self.named("ELIMIT")
        raw = self.cohort_greeted()
        raw.send(b"".join(frame(SUBJECT, struct.pack(">I", i) + b"s%0126d" % i) for i in range(4096)))
        raw.send(frame(PING, b"still there?"))
        self.assertEqual(raw.read_frame()[1], b"still there?")
        raw.send(frame(SUBJECT, struct.pack(">I", 4096) + b"one-too-many"))
        raw.wait_closed()
        self.names("ELIMIT", before)
        self.a.wait_state(self.id, "INACTIVE")


class SameIdTest(HostileCase):
    def setUp(self):
        super().setUp()
        self.here, self.there = address()[0], address()[0]

    def ask(self, raw, kind=ECHO):
        raw.send(frame(kind, b"are you there?"))
        self.assertEqual(raw.read_frame()[1], b"are you there?")

    def test_legacy_from_two_addresses(self):
        """Both links stand, as a 2014 node needs it; beyond four the newest goes."""
        raws = [self.greeted(source=source) for source in (self.here, self.there, self.here, self.there)]
        before = self.named("EDUPLICATE")
        fifth = self.connect(self.there)
        fifth.send(hello(self.id, *self.bad))
        fifth.wait_closed()
        self.names("EDUPLICATE", before)
        for raw in raws:
            self.ask(raw)
        self.assertEqual(self.a.stats()["links_open"], 5)  # and the healthy one
        self.a.ok("send", self.id, "#7", "to the newest")
        self.assertEqual(raws[3].read_frame(), (7, b"to the newest"))

    def test_cohort_from_two_addresses(self):
        """One link stands at any time: that with the higher attempt, or incarnation."""
        first = self.cohort_greeted(incarnation=10, attempt=5, source=self.here)
        for incarnation, attempt, code in ((10, 5, "EDUPLICATE"), (10, 4, "EDUPLICATE"), (9, 9, "ESTALE")):
            before = self.named(code)
            raw = self.connect(self.there)
            raw.send(hello(self.id, *self.bad, extension=EXTENSION % incarnation + ";attempt=%d" % attempt))
            raw.wait_closed()
            self.names(code, before)
            self.ask(first)
        before = self.named("ESUPERSEDED")
        second = self.cohort_greeted(incarnation=10, attempt=6, source=self.there)
        first.wait_closed()
        self.names("ESUPERSEDED", before)
        self.ask(second)
        before = self.named("ERESTARTED")
        third = self.cohort_greeted(incarnation=11, attempt=0, source=self.here)
        second.wait_closed()
        self.names("ERESTARTED", before)
        self.ask(third)
        self.assertEqual(self.a.stats()["links_open"], 2)
        self.assertEqual(self.a.members()[self.id]["incarnation"], 11)

    def test_two_that_take_turns(self):
        """Each with a higher incarnation than the other's: one link at a time, and nobody else notices."""
        last = None
        for i in range(1, 41):
            raw = self.cohort_greeted(incarnation=i, source=(self.here, self.there)[i % 2])
            if last:
                last.wait_closed()
            last = raw
        self.ask(last)
        self.assertEqual(self.a.stats()["links_open"], 2)


class ManyIdsTest(HostileCase):
    agent_args = ("--admission", "open")
    kept_mib = 24  # a thousand members, each with a dialler of its own

    def test_many_identities_from_one_address(self):
        """members_max is 1024. Those that came first stay, the rest are refused, and the agent goes on."""
        before = self.named("ELIMIT")
        free = 1024 - len(self.a.members())
        refused = 0
        for i in range(free + 50):
            raw = RawPeer(self.a.address)
            raw.send(hello("ghost-%d" % i, *self.bad))
            raw.read_frame()
            if i >= free:
                raw.wait_closed()
                refused += 1
            raw.close()
        self.assertEqual(refused, 50)
        self.names("ELIMIT", before, 50)
        members = self.a.members()
        self.assertEqual(len(members), 1024)
        self.assertEqual(members[self.b.id]["state"], "ACTIVE")
        self.a.wait_state("ghost-0", "INACTIVE")
        self.greeted("ghost-1").close()  # a member is a member


class SilentTest(HostileCase):
    def start(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < SILENT + 500:
            raise unittest.SkipTest("needs %d descriptors, the hard limit is %d" % (SILENT + 500, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        place = address()
        # The agents get few descriptors, we many.
        resource.setrlimit(resource.RLIMIT_NOFILE, (AGENT_DESCRIPTORS, hard))
        self.a, self.b, self.c = self.cluster(3, extra=[(self.id, *self.bad), ("late", *place)])
        self.late = self.agent(node_id="late", ip=place[0], port=place[1], cluster=self.a.cluster)
        resource.setrlimit(resource.RLIMIT_NOFILE, (SILENT + 500, hard))

    def open_silent(self):
        sock = socket.socket()
        sock.connect(self.a.address)
        return sock

    def join_late(self):
        """A new member gets in; every state of the others is ACTIVE all the time. Gives the most descriptors seen."""
        most = 0
        self.late.start()

        def meshed():
            nonlocal most
            most = max(most, gauge.Descriptors(self.a.pid).connections)
            members = self.a.members()
            self.assertEqual([members[i]["state"] for i in (self.b.id, self.c.id)], ["ACTIVE", "ACTIVE"])
            return members["late"]["state"] == "ACTIVE" and self.late.state(self.a.id) == "ACTIVE"
        wait_until(meshed, what="the new member is in")
        return most

    def test_five_thousand_silent_connections(self):
        before = self.a.stats()["errors"]
        watch = self.process([harness.BIN, "watch", "--ready", "--json", "--control", self.a.control], "watch")
        wait_until(lambda: "listening" in watch.err or watch.out)
        socks = []
        try:
            for _ in range(SILENT):
                socks.append(self.open_silent())
            most = self.join_late()
            # As it is open for 5 s at most: none of them has said or closed anything, and all are gone.
            deadline = time.monotonic() + harness.BOUND_S
            for sock in socks:
                sock.settimeout(max(0.1, deadline - time.monotonic()))
                try:
                    while sock.recv(4096):  # its HELLO
                        pass
                except ConnectionResetError:
                    pass
        finally:
            for sock in socks:
                sock.close()
        self.assertLessEqual(most, HANDSHAKES_MAX + 64)
        wait_until(lambda: self.a.stats()["handshakes_pending"] == 0, what="all are reclaimed")
        after = self.a.stats()["errors"]
        ended = {name: after[name] - before.get(name, 0) for name in ("ELIMIT", "EHANDSHAKE")}
        # On a slow machine the new member's own connection may have been the oldest a few times.
        self.assertGreaterEqual(sum(ended.values()), SILENT, after)
        self.assertLess(sum(ended.values()), SILENT + 50, after)
        self.assertGreaterEqual(ended["ELIMIT"], SILENT // 2)
        self.assertGreater(self.logged("ELIMIT"), 0)
        self.assertNotIn("DEACTIVATED", watch.out)

    def test_a_new_member_gets_in_while_silent_ones_keep_coming(self):
        """The oldest is closed to make room, so who greets at once has 256 more to wait for, not 5 seconds."""
        socks = []

        def come():
            socks.append(self.open_silent())
            if len(socks) > 1000:
                socks.pop(0).close()
        coming = Background(self, come)
        wait_until(lambda: coming.count > 500)
        self.join_late()
        coming.stop()
        self.assertIsNone(coming.error)
        for sock in socks:
            sock.close()
        self.assertGreater(self.counted("ELIMIT"), 100)


if __name__ == "__main__":
    harness.main()
