#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What killed the 2014 node, and more, said to a live agent that has a healthy peer.

Each time the connection is closed in time, the error is logged and counted, and the agent is well (hostile_case.py). Those
who come in crowds, or misbehave slowly, are in test_hostile_many.py.
"""
import json
import re
import socket
import time

import harness
from harness import RawPeer, address, frame, hello, vector, wait_until
from hostile_case import EXTENSION, HostileCase

INT_MIN = 0x80000000


class HostileTest(HostileCase):
    # -- HELLO

    def test_second_hello(self):
        self.rejected(hello(self.id, *self.bad), "EHELLOTWICE", greet=True)

    def test_second_hello_in_the_same_write(self):
        self.rejected(hello(self.id, *self.bad) * 2, "EHELLOTWICE")

    def test_malformed_hello(self):
        for data in (b"", b"nocolon", b":", b"::", b":::", b"%s" % self.id.encode(), b"x:127.0.0.1", b"x:127.0.0.1:",
                     b"x:127.0.0.1:port", b"x:127.0.0.1:0", b"x:127.0.0.1:65536", b"x:127.0.0.1:-1", b"x:127.0.0.1:+80",
                     b"x:127.0.0.1/32:9876", b"x:300.0.0.1:9876", b"x:127.1:9876", b"x:fd00::1:9876", b":127.0.0.1:9876",
                     b"x y:127.0.0.1:9876", b"x\0:127.0.0.1:9876", b"\xff\xfe:127.0.0.1:9876", b"x" * 65 + b":127.0.0.1:9876",
                     b"x:127.0.0.1:9876 ", b"x:127.0.0.1:99999999999999999999"):
            with self.subTest(data=data):
                self.rejected(frame(1, data), "EHELLO")

    def test_malformed_extension(self):
        for text in (":cohort/", ":cohort/x", ":cohort/1", ":cohort/2-1;inc=5", ":cohort/1-1;inc=x", ":cohort/1-1;inc=-1",
                     ":cohort/1-1;inc=5;inc=6", ":cohort/1-1;inc=99999999999999999999999", ":cohort/1-1;inc=5;cluster=a b"):
            with self.subTest(text=text):
                self.rejected(hello(self.id, *self.bad, extension=text), "EHELLO|EVERSION")

    def test_version_of_the_future(self):
        self.rejected(hello(self.id, *self.bad, extension=":cohort/900-901;inc=5"), "EVERSION")

    def test_huge_hello(self):
        self.rejected(frame(1, b"x" * 30000), "EHELLO|ELENGTH")

    def test_first_frame_is_not_hello(self):
        self.rejected(vector("tlv-echo-ping.bin"), "ENOHELLO")
        self.rejected(frame(0xC0000001, b"\0\1"), "ENOHELLO")

    def test_own_id(self):
        self.rejected(hello(self.a.id, *self.a.address), "EOWNID")
        self.rejected(hello(self.a.id, *self.a.address, extension=EXTENSION % 7), "EOWNID")

    def test_other_cluster(self):
        (ip, port), place = address(), address()
        path = self.definition([("c", ip, port), ("d", *place)], "blue")
        c = self.agent(node_id="c", ip=ip, port=port, cluster=path).start()
        raw = RawPeer(c.address)
        self.addCleanup(raw.close)
        raw.send(hello("d", *place, extension=EXTENSION % 7 + ";cluster=green"))
        raw.wait_closed()
        c.wait_log("ECLUSTER")
        self.assertEqual(c.state("d"), "INACTIVE")

    def test_not_listed(self):
        self.rejected(hello("127.99.99.99"), "ENOTLISTED")
        self.assertNotIn("127.99.99.99", self.a.members())

    def test_older_incarnation(self):
        before = self.a.members()[self.b.id]["incarnation"]
        self.rejected(hello(self.b.id, *self.b.address, extension=EXTENSION % 1), "ESTALE")
        self.assertEqual(self.a.members()[self.b.id]["incarnation"], before)

    # -- frames

    def test_wrong_marker(self):
        for greet in (False, True):
            self.rejected(frame(2, b"x", marker=0xFEEDCAFECAFEFEEE), "EMARKER", greet)
            self.rejected(b"\0" * 16, "EMARKER", greet)
            self.rejected(b"\xfe\xed\xca\xff", "EMARKER", greet)  # decided before the header is whole

    def test_http(self):
        self.rejected(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "EMARKER")

    def test_tls(self):
        self.rejected(bytes.fromhex("160301020001000001fc0303"), "EMARKER")

    def test_lengths(self):
        for greet in (False, True):
            for length in (0, 15, -1, INT_MIN, 0x7FFFFFFF, 1 << 30):
                with self.subTest(greet=greet, length=length):
                    self.rejected(frame(7, b"", length=length), "ELENGTH", greet)

    def test_no_memory_for_a_claim(self):
        """The 2014 node allocated 2 GiB for INT_MIN."""
        for _ in range(5):
            self.rejected(frame(7, b"", length=INT_MIN), "ELENGTH", True)
            self.rejected(frame(7, b"", length=0x7FFFFFFF), "ELENGTH", True)
        self.assert_peak_below(64)

    def test_frame_over_the_limit(self):
        self.rejected(frame(7, b"z" * (1024 * 1024 + 1)), "ELENGTH", greet=True)

    def test_frame_the_seed_could_not_take(self):
        listener = self.a.listen("#7", count=1)
        raw = self.greeted()
        raw.send(frame(7, b"z" * 32753))
        self.assertEqual(listener.wait(), 0)
        raw.send(vector("tlv-echo-ping.bin"))
        self.assertEqual(frame(*raw.read_frame()), vector("tlv-echo-ping.bin"))

    def test_good_frames_before_a_bad_one_are_not_lost(self):
        listener = self.a.listen("#7", count=2)
        self.rejected(hello(self.id, *self.bad) + frame(7, b"one") + frame(7, b"two") + frame(7, b"", length=3), "ELENGTH")
        self.assertEqual(listener.wait(), 0)
        self.assertIn("one", listener.out)
        self.assertIn("two", listener.out)

    # -- connections

    def test_fin(self):
        raw = self.greeted()
        raw.fin()
        raw.wait_closed()
        self.a.wait_state(self.id, "INACTIVE")
        self.a.wait_log("EPEERCLOSED")

    def test_rst(self):
        self.greeted().rst()
        self.a.wait_state(self.id, "INACTIVE")
        self.a.wait_log("ERESET")

    def test_connects_again_after_fin_and_rst(self):
        """The 2014 node kept a stale entry and never dialled again."""
        with socket.create_server(self.bad) as listener:
            listener.settimeout(harness.BOUND_S)
            for end in ("fin", "rst", "fin"):
                sock, _ = listener.accept()
                raw = RawPeer.of(sock)
                raw.send(hello(self.id, *self.bad))
                self.assertEqual(raw.read_frame()[0], harness.HELLO)
                self.a.wait_state(self.id, "ACTIVE")
                if end == "fin":
                    raw.close()
                else:
                    raw.rst()
                self.a.wait_state(self.id, "INACTIVE")

    def test_fin_in_the_middle_of_a_frame(self):
        raw = self.greeted()
        raw.send(frame(7, b"half of it")[:20])
        raw.fin()
        raw.wait_closed()
        self.a.wait_state(self.id, "INACTIVE")

    def test_many_that_connect_and_go(self):
        for i in range(200):
            raw = RawPeer(self.a.address)
            if i % 3 == 0:
                raw.send(hello(self.id, *self.bad))
            if i % 2:
                raw.rst()
            else:
                raw.close()
        self.a.wait_state(self.id, "INACTIVE")

    def test_configured_peer_that_refuses(self):
        """It has refused since the start: the agent goes on dialling, and says whom it dialled where, and why it fails."""
        self.a.wait_log(r'"peer":"%s","code":"EREFUSED","text":"link \d+ %s:%d ended: connection refused"'
                        % (re.escape(self.id), re.escape(self.bad[0]), self.bad[1]))
        self.assertEqual(self.a.state(self.id), "INACTIVE")
        with socket.create_server(self.bad) as listener:
            listener.settimeout(harness.BOUND_S)
            sock, _ = listener.accept()  # it still dials
            sock.close()

    def test_client_that_never_greets(self):
        raw = self.connect()
        raw.wait_closed()
        self.a.wait_log("EHANDSHAKE")

    def test_half_a_hello(self):
        raw = self.connect()
        raw.send(hello(self.id, *self.bad)[:-1])
        raw.wait_closed()
        self.a.wait_log("EHANDSHAKE")

    def test_configured_peer_that_never_greets(self):
        """The 2014 node made one more connection every 5 s, for ever."""
        with socket.create_server(self.bad) as listener:
            listener.settimeout(harness.BOUND_S)
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(harness.BOUND_S)
                while sock.recv(4096):  # its HELLO, then the end
                    pass
            self.a.wait_log("EHANDSHAKE")
            self.assertEqual(self.a.state(self.id), "INACTIVE")

    def test_configured_peer_with_another_id(self):
        """The 2014 node made one more connection every 5 s, for ever. Ours has one at a time, and goes slower and slower."""
        with socket.create_server(self.bad) as listener:
            listener.settimeout(harness.BOUND_S)
            before = self.named("EIDENTITY")
            at = []
            for _ in range(5):
                sock, _ = listener.accept()
                at.append(time.monotonic())
                raw = RawPeer.of(sock)
                raw.send(hello("somebody-else", *self.bad))
                raw.wait_closed()
            self.names("EIDENTITY", before, 5)
            # The delay doubles from 100 ms, less up to half of it: 50, 100, 200, 400 ms at the least.
            self.assertGreater(at[4] - at[0], 0.75)
            self.assertEqual(self.a.state(self.id), "INACTIVE")
            self.assertNotIn("somebody-else", self.a.members())

    def test_more_silent_clients_than_handshakes_allowed(self):
        raws = [self.connect() for _ in range(300)]  # limits.handshakes_max is 256: the oldest goes
        raws[0].wait_closed(4)  # before its own time is up
        self.greeted()

    # -- and, because the 2014 node was slow in this way too

    def test_an_answer_waits_for_no_timer(self):
        """It waited up to 50 ms for its selector, or 44 ms for a delayed acknowledgement."""
        out = json.loads(self.a.ok("ping", self.b.id, "-c", "50", "--json"))
        self.assertEqual(out["received"], 50)
        self.assertLess(sorted(out["rtt_ns"])[25], 20e6)


if __name__ == "__main__":
    harness.main()
