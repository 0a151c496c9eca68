#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The model of the 2014 node against the bytes recorded from the real one, and against each sin it must notice."""
import threading

import harness
from harness import RawPeer, frame, hello, vector, wait_until
from legacy_peer import LegacyPeer, hello_bytes


class ModelTest(harness.NetTest):
    needs_binary = False

    def peer(self, **kwargs):
        ip, port = harness.address()
        peer = LegacyPeer(ip, port, time_scale=0.02, **kwargs).start()
        self.addCleanup(peer.stop)
        return peer

    def raw(self, peer):
        raw = RawPeer((peer.ip, peer.port))
        self.addCleanup(raw.close)
        return raw

    def test_hello_is_the_recorded_one(self):
        for ip in ("127.0.1.1", "127.0.1.2"):
            direction = "dialer-to-acceptor" if ip == "127.0.1.1" else "acceptor-to-dialer"
            self.assertEqual(hello_bytes(ip, ip, 9876), vector("oneway-A127.0.1.1-dials-B127.0.1.2.%s.bin" % direction))

    def test_two_models_find_each_other(self):
        a_place, b_place = harness.address(), harness.address()
        a = LegacyPeer(*a_place, nodes=[(b_place[0], *b_place)], time_scale=0.02).start()
        b = LegacyPeer(*b_place, time_scale=0.02).start()
        self.addCleanup(b.stop)
        self.addCleanup(a.stop)
        wait_until(lambda: a.state(b.id) == "ACTIVE" and b.state(a.id) == "ACTIVE")
        self.assertEqual(a.open_links()[0].received, hello_bytes(b.id, b.ip, b.port))
        self.assertEqual(b.open_links()[0].received, hello_bytes(a.id, a.ip, a.port))
        self.assertEqual((a.sins(), b.sins()), ([], []))

    def test_mutual_keeps_both_connections(self):
        a_place, b_place = harness.address(), harness.address()
        a = LegacyPeer(*a_place, nodes=[(b_place[0], *b_place)], time_scale=0.02).start()
        b = LegacyPeer(*b_place, nodes=[(a_place[0], *a_place)], time_scale=0.02).start()
        self.addCleanup(b.stop)
        self.addCleanup(a.stop)
        wait_until(lambda: a.state(b.id) == "ACTIVE" and b.state(a.id) == "ACTIVE")
        self.assertEqual((a.sins(), b.sins()), ([], []))

    def test_fourth_field_is_ignored_and_echo_not_answered(self):
        peer = self.peer()
        raw = self.raw(peer)
        raw.send(hello("x", "127.0.0.9", extension=":cohort/1-1;inc=5"))
        raw.send(vector("tlv-echo-ping.bin"))
        raw.send(vector("tlv-type-maxint-48.bin"))
        wait_until(lambda: len(peer.frames()) == 2)
        self.assertEqual(raw.read_frame(), (1, ("%s:%s:%d" % (peer.id, peer.ip, peer.port)).encode()))
        raw.fin()
        self.assertEqual(raw.wait_closed(), b"")  # nothing but its HELLO
        self.assertEqual(peer.sins(), [])
        self.assertNotEqual(peer.state("x"), "ACTIVE")

    def sinner(self, *pieces, **kwargs):
        peer = self.peer(**kwargs)
        raw = self.raw(peer)
        for piece in pieces:
            raw.send(piece)
        wait_until(peer.sins)
        self.assertEqual(len(peer.sins()), 1, peer.sins())
        return peer

    def test_second_hello(self):
        peer = self.sinner(hello("127.0.0.9"), hello("127.0.0.9"), vector("tlv-echo-ping.bin"))
        self.assertIn("second HELLO", peer.sins()[0])
        self.assertEqual(peer.state("127.0.0.9"), "INACTIVE")

    def test_bad_hello(self):
        for data in (b"", b"127.0.0.9", b"127.0.0.9:127.0.0.9", b"x:fd00::1:9876", b"x:127.0.0.9:p"):
            self.assertIn("cannot parse", self.sinner(frame(1, data)).sins()[0])

    def test_oversized_frame_jams(self):
        peer = self.sinner(hello("127.0.0.9"), frame(7, bytes(32753)), frame(8))
        self.assertIn("32769", peer.sins()[0])
        self.assertEqual(peer.frames(8), [])

    def test_largest_frame_is_fine(self):
        peer = self.peer()
        raw = self.raw(peer)
        raw.send(hello("127.0.0.9") + vector("tlv-echo-max-32752.bin") + frame(8))
        wait_until(lambda: peer.frames(8) == [b""])
        self.assertEqual(peer.sins(), [])

    def test_control_frame(self):
        self.assertIn("0xc0000001", self.sinner(hello("127.0.0.9"), frame(0xC0000001, b"\0\1")).sins()[0])

    def test_asked_for_type(self):
        peer = self.peer(allow_types=[-1])
        raw = self.raw(peer)
        raw.send(hello("127.0.0.9") + vector("tlv-type-minus1.bin"))
        wait_until(lambda: len(peer.frames(-1)) == 1)
        self.assertEqual(peer.sins(), [])

    def dialled(self, **kwargs):
        """A model that has dialled a listener of ours; both greeted. (peer, its id for us, our end)"""
        place = harness.address()
        import socket
        listener = socket.create_server(place)
        self.addCleanup(listener.close)
        peer = self.peer(nodes=[(place[0], *place)], **kwargs)
        sock, _ = listener.accept()
        self.addCleanup(sock.close)
        sock.sendall(hello(place[0], place[0], place[1]))
        wait_until(lambda: peer.open_links(place[0]))
        return peer, place, sock

    def test_dialling_where_a_link_stands(self):
        peer, place, _ = self.dialled()
        self.assertEqual(peer.sins(), [])
        self.wait_older(peer, 0.6)
        raw = self.raw(peer)
        raw.send(hello(place[0], place[0], place[1]))
        self.assertIn("stood", wait_until(peer.sins)[0])

    def test_closing_a_duplicate(self):
        peer, place, first = self.dialled()
        second = self.raw(peer)
        second.send(hello(place[0], place[0], place[1]))
        wait_until(lambda: len(peer.open_links(place[0])) == 2)
        self.assertEqual(peer.sins(), [])
        first.close()
        self.assertIn("duplicate", wait_until(peer.sins)[0])

    def wait_older(self, peer, seconds):
        link = peer.open_links()[0]
        import time
        wait_until(lambda: time.monotonic() - link.hello_at > seconds)

    def test_custodian_times(self):
        place = harness.address()  # refuses
        peer = self.peer(nodes=[(place[0], *place)])
        wait_until(lambda: len(peer.dials) >= 3)
        times = [t for _, t in peer.dials]
        self.assertGreater(times[1] - times[0], 0.05)
        self.assertEqual(threading.active_count() > 1, True)


if __name__ == "__main__":
    harness.main()
