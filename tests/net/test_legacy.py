#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A cohort agent among nodes of 2014: recorded bytes from a plain client, and a model of the node that dials and is dialled."""
import ipaddress
import time

import harness
from harness import ECHO, HELLO, RawPeer, address, frame, hello, vector, wait_until
from legacy_peer import GRACE_S, LegacyPeer

RECORDED_HELLO = "oneway-A127.0.1.1-dials-B127.0.1.2.acceptor-to-dialer.bin"


class RecordedBytesTest(harness.NetTest):
    """A plain client that says what the real node said."""

    def setUp(self):
        super().setUp()
        # Listed as in its HELLO. The agents' own dials to it are refused, unless somebody runs a node there by hand.
        self.a, self.b = self.cluster(2, extra=[("127.0.1.2", "127.0.1.2", 9876)])

    def connect(self):
        raw = RawPeer(self.a.address)
        self.addCleanup(raw.close)
        return raw

    def greet(self):
        raw = self.connect()
        raw.send(vector(RECORDED_HELLO))
        kind, data = raw.read_frame()
        self.assertEqual(kind, HELLO)
        self.a.wait_state("127.0.1.2", "ACTIVE")
        return raw

    def test_our_hello(self):
        raw = self.connect()
        kind, data = raw.read_frame()  # unprompted: we have not said anything
        self.assertEqual(kind, HELLO)
        self.assertLessEqual(16 + len(data), harness.LEGACY_FRAME_MAX)
        fields = data.decode("ascii").split(":")
        self.assertEqual(fields[0], self.a.id)
        self.assertEqual(str(ipaddress.IPv4Address(fields[1])), self.a.ip)
        self.assertEqual(int(fields[2]), self.a.port)
        self.assertTrue(fields[3].startswith("cohort/"), fields)

    def test_member_comes_and_goes(self):
        unharmed = [self.same_link(self.a, self.b.id), self.same_link(self.b, self.a.id)]
        raw = self.greet()
        member = self.a.members()["127.0.1.2"]
        self.assertTrue(member["legacy"])
        self.assertEqual((member["ip"], member["tcpPort"], member["state"]), ("127.0.1.2", 9876, "ACTIVE"))
        raw.close()
        self.a.wait_state("127.0.1.2", "INACTIVE")
        raw = self.greet()
        raw.rst()
        self.a.wait_state("127.0.1.2", "INACTIVE")
        for check in unharmed:
            check()

    def test_nothing_but_hello_is_sent(self):
        """No WELCOME, no heartbeat, no subject: it would not know them."""
        raw = self.greet()
        self.b.ok("broadcast", "named", "hi")
        self.a.ok("broadcast", "named", "hi")
        self.assertEqual(self.a.cli("send", "127.0.1.2", "named", "hi").status, 1)
        raw.fin()
        self.assertEqual(raw.wait_closed(), b"")

    def test_echo_vectors(self):
        raw = self.greet()
        for name in ("tlv-echo-empty.bin", "tlv-echo-ping.bin", "tlv-echo-1024.bin", "tlv-echo-16384.bin", "tlv-echo-max-32752.bin"):
            raw.send(vector(name))
            kind, data = raw.read_frame()
            self.assertEqual(frame(kind, data), vector(name), name)
        session = vector("tlv-session-20x48.ping-to-pong.bin")
        raw.send(session)
        answer = b"".join(frame(*raw.read_frame()) for _ in range(20))
        self.assertEqual(answer, session)

    def test_one_byte_at_a_time(self):
        raw = self.connect()
        for byte in vector(RECORDED_HELLO) + vector("tlv-echo-ping.bin"):
            raw.send(bytes([byte]))
        self.assertEqual(raw.read_frame()[0], HELLO)
        self.assertEqual(frame(*raw.read_frame()), vector("tlv-echo-ping.bin"))

    def test_all_in_one_write(self):
        listener = self.a.listen("#2147483647", count=1)
        raw = self.connect()
        frames = vector("tlv-all-frames.bin")
        first = len(vector("tlv-hello-127.0.1.1.bin"))
        raw.send(vector(RECORDED_HELLO) + frames[first:])
        self.assertEqual(raw.read_frame()[0], HELLO)
        for name in ("tlv-echo-empty.bin", "tlv-echo-ping.bin", "tlv-echo-1024.bin", "tlv-echo-16384.bin", "tlv-echo-max-32752.bin"):
            self.assertEqual(frame(*raw.read_frame()), vector(name), name)
        self.assertEqual(listener.wait(), 0)

    def test_raw_types_received(self):
        minus, largest = self.a.listen("#-1", count=1), self.a.listen("#2147483647", count=1)
        raw = self.greet()
        raw.send(vector("tlv-type-minus1.bin") + vector("tlv-type-maxint-48.bin"))
        self.assertEqual(minus.wait(), 0)
        self.assertEqual(largest.wait(), 0)
        self.assertIn("127.0.1.2", minus.out)
        self.assertIn("127.0.1.2", largest.out)

    def test_raw_types_sent(self):
        raw = self.greet()
        for subject, kind in (("#-1", 0xFFFFFFFF), ("#2147483647", 0x7FFFFFFF), ("#3", 3), ("#0", 0)):
            self.a.ok("send", "127.0.1.2", subject, "to %d" % kind)
            self.assertEqual(raw.read_frame(), (kind, b"to %d" % kind))

    def test_no_frame_over_its_buffer(self):
        raw = self.greet()
        self.a.ok("send", "127.0.1.2", "#3", "-", stdin="x" * 32752)
        self.assertEqual(raw.read_frame(), (3, b"x" * 32752))
        self.assertEqual(self.a.cli("send", "127.0.1.2", "#3", "-", stdin="x" * 32753).status, 1)
        self.a.ok("send", "127.0.1.2", "#3", "after")
        self.assertEqual(raw.read_frame(), (3, b"after"))

    def test_a_frame_over_its_buffer_from_it_is_fine(self):
        listener = self.a.listen("#5", count=1)
        raw = self.greet()
        raw.send(frame(5, b"y" * 40000))
        self.assertEqual(listener.wait(), 0)
        self.assertIn("y" * 40000, listener.out)

    def test_parallel_links_stay(self):
        """Two connections from one 2014 node are normal; closing the older one would take it down."""
        first, second = self.greet(), self.greet()
        for raw in (first, second):
            raw.send(vector("tlv-echo-ping.bin"))
            self.assertEqual(frame(*raw.read_frame()), vector("tlv-echo-ping.bin"))
        second.close()
        first.send(vector("tlv-echo-ping.bin"))
        self.assertEqual(frame(*first.read_frame()), vector("tlv-echo-ping.bin"))
        self.assertEqual(self.a.state("127.0.1.2"), "ACTIVE")
        first.close()
        self.a.wait_state("127.0.1.2", "INACTIVE")


class ModelTest(harness.NetTest):
    """A node that behaves as the 2014 one, with its own definition and custodian."""

    def legacy(self, place, **kwargs):
        peer = LegacyPeer(*place, **{"time_scale": 0.05, **kwargs})
        self.addCleanup(peer.stop)
        return peer

    def no_sins(self, peer, seconds=2 * GRACE_S):
        """For some time. An absence cannot be waited for; this one is bounded by the model's grace."""
        deadline = time.monotonic() + seconds
        wait_until(lambda: peer.sins() or time.monotonic() > deadline)
        self.assertEqual(peer.sins(), [])
        self.assertEqual(peer.dead_loops, set())

    def both_active(self, agent, peer):
        agent.wait_state(peer.id, "ACTIVE")
        wait_until(lambda: peer.state(agent.id) == "ACTIVE", what="the 2014 node sees %s" % agent.id)
        self.assertTrue(agent.members()[peer.id]["legacy"])

    def test_we_dial(self):
        place = address()
        peer = self.legacy(place).start()
        (a,) = self.cluster(1, extra=[(place[0], *place)], with_ids=False)
        self.both_active(a, peer)
        self.assertEqual([k.dialled for k in peer.open_links(a.id)], [False])
        self.no_sins(peer)
        self.assertEqual(len(peer.open_links(a.id)), 1)

    def test_it_dials(self):
        """Its own address is known to us, and refuses: it listens elsewhere. It alone makes the link."""
        mine, listed, place = address(), address(), address()
        path = self.definition([(mine[0], *mine), (place[0], *listed)])
        a = self.agent(node_id=mine[0], ip=mine[0], port=mine[1], cluster=path).start()
        peer = self.legacy(place, nodes=[(a.id, *mine)]).start()
        self.both_active(a, peer)
        self.assertEqual([k.dialled for k in peer.open_links(a.id)], [True])
        self.no_sins(peer)

    def test_it_dials_and_we_leave_it_at_that(self):
        """Our dials were refused, then it came up and dialled us. We could dial it now, but a link from it stands."""
        mine, place = address(), address()
        path = self.definition([(mine[0], *mine), (place[0], *place)])
        a = self.agent(node_id=mine[0], ip=mine[0], port=mine[1], cluster=path).start()
        wait_until(lambda: a.log.count("EREFUSED") >= 2)
        peer = self.legacy(place, nodes=[(mine[0], *mine)], time_scale=0.01).start()
        self.both_active(a, peer)
        self.no_sins(peer, 4)  # many times the delay our dialler had reached

    def test_mutual(self):
        """All dial each other at the same moment. Both links of a pair stay, and messages pass both ways."""
        places = [address() for _ in range(3)]
        me = address()
        path = self.definition([(me[0], *me)] + [(p[0], *p) for p in places])
        peers = [self.legacy(p, nodes=[(me[0], *me)], time_scale=0.4, crosses=True).start() for p in places]
        a = self.agent(node_id=me[0], ip=me[0], port=me[1], cluster=path).start()
        for peer in peers:
            self.both_active(a, peer)
            wait_until(lambda p=peer: len(p.open_links(a.id)) == 2, what="both links stand")
        listener = a.listen("#9", count=3)
        for peer in peers:
            peer.send(9, b"from %s" % peer.id.encode(), peer_id=a.id)
            a.ok("send", peer.id, "#8", "to it")
            wait_until(lambda p=peer: p.frames(8) == [b"to it"])
        self.assertEqual(listener.wait(), 0)
        for peer in peers:
            self.no_sins(peer)
            self.assertEqual(len(peer.open_links(a.id)), 2)
            self.assertIn(peer.id, listener.out)

    def test_release_of_an_hour_later(self):
        """It forgets the node when any of two connections closes: closing one would cost it the other."""
        me, place = address(), address()
        path = self.definition([(me[0], *me), (place[0], *place)])
        peer = self.legacy(place, nodes=[(me[0], *me)], redials=True, time_scale=0.4, crosses=True).start()
        a = self.agent(node_id=me[0], ip=me[0], port=me[1], cluster=path).start()
        self.both_active(a, peer)
        wait_until(lambda: len(peer.open_links(a.id)) == 2, what="both links stand")
        self.no_sins(peer)
        self.both_active(a, peer)

    def test_id_differs_from_the_definition(self):
        """The definition names the node at that address otherwise: it is not taken for the other, and is not hammered."""
        place = address()
        peer = self.legacy(place, node_id="its-own-name").start()
        a, b = self.cluster(2, extra=[("listed-name", *place)])
        unharmed = self.same_link(a, b.id)
        a.wait_log("EIDENTITY|ENOTLISTED")
        self.no_sins(peer)
        self.assertEqual(a.state("listed-name"), "INACTIVE")
        self.assertLess(len(peer.links), 100)
        unharmed()

    def test_hello_of_an_unlisted_node(self):
        a, _ = self.cluster(2)
        raw = RawPeer(a.address)
        self.addCleanup(raw.close)
        raw.send(hello("127.9.9.9"))
        raw.wait_closed()
        a.wait_log("ENOTLISTED")
        self.assertNotIn("127.9.9.9", a.members())

    def test_open_admission_takes_whoever_greets(self):
        """Without a definition, as the 2014 node that knew nobody."""
        ip, port = address()
        a = self.agent(ip=ip, port=port).start()
        raw = RawPeer(a.address)
        self.addCleanup(raw.close)
        raw.send(vector(RECORDED_HELLO))
        a.wait_state("127.0.1.2", "ACTIVE")
        self.assertTrue(a.members()["127.0.1.2"]["legacy"])
        raw.close()
        a.wait_state("127.0.1.2", "INACTIVE")

    def test_restart_of_the_2014_node(self):
        place = address()
        (a,) = self.cluster(1, extra=[(place[0], *place)], with_ids=False)
        peer = self.legacy(place).start()
        self.both_active(a, peer)
        peer.stop()
        a.wait_state(place[0], "INACTIVE")
        again = self.legacy(place).start()
        self.both_active(a, again)
        self.no_sins(again)

    def test_restart_of_ours(self):
        """It does not redial, its stale stream stays in its map; so we must."""
        me, place = address(), address()
        path = self.definition([(me[0], *me), (place[0], *place)])
        peer = self.legacy(place, nodes=[(me[0], *me)]).start()
        a = self.agent(node_id=me[0], ip=me[0], port=me[1], cluster=path).start()
        self.both_active(a, peer)
        a.kill9()
        wait_until(lambda: not peer.open_links())
        a.start()
        self.both_active(a, peer)
        self.no_sins(peer)

    def test_ping_is_not_answered(self):
        place = address()
        peer = self.legacy(place).start()
        (a,) = self.cluster(1, extra=[(place[0], *place)], with_ids=False)
        self.both_active(a, peer)
        self.assertEqual(a.cli("ping", peer.id, "-c", "1").status, 1)
        self.assertGreaterEqual(len(peer.frames(ECHO)), 1)
        self.no_sins(peer)


if __name__ == "__main__":
    harness.main()
