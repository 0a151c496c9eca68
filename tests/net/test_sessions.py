#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Sessions on real sockets: exactly once and in order while links break, receivers are killed, stopped or slow, at full load.

The processes are traffic.c, each in a network namespace of its own (netns.py). What they accepted, handled and were told as
undelivered is in ledgers, by number of each message, which are compared here.

COHORT_TRAFFIC  the program
COHORT_LONG=1   two minutes of faults instead of 16 s, and more receivers killed
SEED=N          other faults, other messages
"""
import json
import mmap
import os
import random
import re
import select
import signal
import struct
import subprocess
import threading
import time

import gauge
import harness
import netns
from harness import wait_until
from netns import Host

TRAFFIC = os.environ.get("COHORT_TRAFFIC", "")
LONG = os.environ.get("COHORT_LONG") == "1"
SEED = int(os.environ.get("SEED", "1"))

FAULTS_S = 120 if LONG else 16
BREAKS_MIN = 60 if LONG else 5
KILLS = 20 if LONG else 5
SETTLE_S = 90.0  # until all is delivered when faults end: beyond TCP_USER_TIMEOUT (30 s), on a busy machine
MIB = 1 << 20
WARM_BYTES = MIB if harness.SANITIZED else 16 * MIB
LIVE_LEFT_MAX = MIB       # bytes the library may hold more than before
RSS_LEFT_MAX_KIB = 16384  # and the process, where threads have come and gone
LANES = ("normal", "control", "bulk")


# ---- the ledger of a process about one peer: see traffic.c -----------------------------------------------------------------

class Ledger:
    COUNTERS = ("accepted", "handled", "bytes", "duplicates", "reordered", "damaged", "certain", "maybe", "told_twice", "headless",
                "expected", "writables")
    WORDS, HEAD_BYTES = 16, 4096
    NUMBERS_MAX = 1 << 26
    BITMAPS = ("handled", "certain", "maybe")

    def __init__(self, path):
        with open(path, "rb") as f:
            self.map = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)

    def lane(self, lane):
        """Counters by name."""
        words = struct.unpack_from("=%dQ" % self.WORDS, self.map, lane * self.WORDS * 8)
        return dict(zip(self.COUNTERS, words))

    def total(self, name):
        return sum(self.lane(i)[name] for i in range(len(LANES)))

    def numbers(self, lane, which, count):
        """The set of numbers below `count`, as the bits of an integer."""
        size = self.NUMBERS_MAX // 8
        start = self.HEAD_BYTES + (lane * len(self.BITMAPS) + self.BITMAPS.index(which)) * size
        return int.from_bytes(self.map[start:start + (count + 7) // 8], "little") & below(count)


def below(count):
    return (1 << count) - 1


def size_of(numbers):
    return bin(numbers).count("1")


def first_of(numbers):
    return (numbers & -numbers).bit_length() - 1


# ---- the processes -----------------------------------------------------------------------------------------------------

class Node:
    """traffic.c in a host. Stands in the test's list of processes, so that it is ended and looked at after the test."""

    def __init__(self, test, host, node_id, peers, **options):
        self.test, self.host, self.id = test, host, node_id
        self.name = "%s-%d" % (node_id, test.next_number())
        self.ledgers = os.path.join(test.dir, self.name + ".ledger")
        self.err_path = os.path.join(test.dir, self.name + ".err")
        options.setdefault("seed", SEED)
        self.argv = host.inside(TRAFFIC, node_id, host.ip, self.ledgers, *("%s=%s" % o for o in options.items()),
                                *("peer=%s,%s" % p for p in peers))
        self.out = ""
        with open(self.err_path, "wb") as err:
            self.popen = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, bufsize=0)
        test.processes.append(self)
        test.addCleanup(self.popen.stdout.close)
        test.addCleanup(self.popen.stdin.close)
        self.expect("ready")
        self.about = {peer: Ledger("%s.%s" % (self.ledgers, peer)) for peer, _ in peers}

    @property
    def pid(self):
        return self.popen.pid

    @property
    def err(self):
        with open(self.err_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def read_line(self, timeout=SETTLE_S):
        deadline = time.monotonic() + timeout
        while "\n" not in self.out:
            ready, _, _ = select.select([self.popen.stdout], [], [], max(0, deadline - time.monotonic()))
            assert ready, "%s says nothing in %g s" % (self.name, timeout)
            piece = os.read(self.popen.stdout.fileno(), 65536)
            assert piece, "%s has ended: %s" % (self.name, harness.tail(self.err))
            self.out += piece.decode()
        line, _, self.out = self.out.partition("\n")
        return line

    def expect(self, line):
        got = self.read_line()
        assert got == line, "%s says %r, not %r" % (self.name, got, line)

    def tell(self, command, answer):
        self.popen.stdin.write(command.encode() + b"\n")
        self.expect(answer)

    def stats(self):
        self.popen.stdin.write(b"stats\n")
        return json.loads(self.read_line())

    def signal(self, number):
        self.popen.send_signal(number)

    def quit(self):
        """Close the node, which must deliver all and give back all of its memory."""
        self.tell("quit", "closed")
        assert self.popen.wait(harness.BOUND_S) == 0, self.err

    def running(self):
        return self.popen.poll() is None

    def kill(self):
        if self.running():
            self.popen.kill()
        self.popen.wait()

    def uses(self):
        """What it has, with nothing under way: (bytes of the library, KiB of the process, descriptors by kind)."""
        live = self.stats()["live"]
        return live, gauge.memory_kib(self.pid), gauge.Descriptors(self.pid).rest


# ---- faults ------------------------------------------------------------------------------------------------------------

class Faults:
    """Seeded faults between two nodes, of two actors at once: one does things to the network, one to connections and processes."""

    WAYS = ("drop", "one_way", "lossy", "cable", "reject")

    def __init__(self, seed, nodes):
        self.nodes = nodes
        self.seed = seed
        self.over = threading.Event()
        self.done = dict.fromkeys((*self.WAYS, "reset", "stop"), 0)
        self.deck = []
        self.error = None
        self.threads = [threading.Thread(target=self.act, args=(i, actor), daemon=True)
                        for i, actor in enumerate((self.network, self.connections))]

    def run(self, seconds, watch):
        """Do it for so long; watch() is called all the time. Ends with everything healed."""
        deadline = time.monotonic() + seconds
        for thread in self.threads:
            thread.start()
        try:
            while time.monotonic() < deadline and not self.error:
                watch()
                time.sleep(0.1)  # the duration of the faults
        finally:
            self.over.set()
            for thread in self.threads:
                thread.join(harness.BOUND_S)
        if self.error:
            raise self.error

    def act(self, number, actor):
        pick = random.Random(self.seed * 2 + number)
        try:
            while not self.over.is_set():
                actor(pick)
        except Exception as e:  # pylint: disable=broad-except
            self.error = e

    def network(self, pick):
        self.over.wait(pick.uniform(0.2, 1.5))
        node, other = pick.sample(self.nodes, 2)
        self.deck = self.deck or pick.sample(self.WAYS, len(self.WAYS))  # so that a short run has all of them
        way = self.deck.pop()
        seconds = pick.choice((pick.uniform(0.1, 0.6), pick.uniform(0.1, 3.0)))
        self.done[way] += 1
        if way == "cable":
            netns.sh("ip", "link", "set", node.host.port, "down")
            self.over.wait(seconds)
            netns.sh("ip", "link", "set", node.host.port, "up")
            return
        rules = {
            "drop": [("INPUT", "-s", other.host.ip, "-j", "DROP"), ("OUTPUT", "-d", other.host.ip, "-j", "DROP")],
            "one_way": [("INPUT", "-s", other.host.ip, "-j", "DROP")],
            "lossy": [("INPUT", "-s", other.host.ip, "-m", "statistic", "--mode", "random", "--probability", "0.2", "-j", "DROP")],
            "reject": [("INPUT", "-p", "tcp", "-s", other.host.ip, "-j", "REJECT", "--reject-with", "tcp-reset")],
        }[way]
        for rule in rules:
            node.host.run("iptables", "-A", *rule)
        self.over.wait(seconds)
        for rule in rules:
            node.host.run("iptables", "-D", *rule)

    def connections(self, pick):
        self.over.wait(min(2.0, pick.expovariate(3)))
        node, other = pick.sample(self.nodes, 2)
        if pick.random() < 0.12:
            self.done["stop"] += 1
            node.signal(signal.SIGSTOP)
            self.over.wait(pick.uniform(0.1, 3.0))
            node.signal(signal.SIGCONT)
        else:
            self.done["reset"] += 1
            node.host.run("ss", "-KHtn", "dst", other.host.ip)


# ---- the tests ---------------------------------------------------------------------------------------------------------

class SessionTest(netns.NetnsTest):
    needs_binary = False

    def setUp(self):
        super().setUp()
        if not os.access(TRAFFIC, os.X_OK):
            self.fail("COHORT_TRAFFIC=%r is not an executable" % TRAFFIC)

    def group(self, *ids, **options):
        """Nodes that know the first, and that the first knows. options: {id: {option: value}}"""
        hosts = {node_id: Host(self) for node_id in ids}
        first, *rest = ids
        peers = {first: [(i, hosts[i].ip) for i in rest], **{i: [(first, hosts[first].ip)] for i in rest}}
        nodes = [Node(self, hosts[i], i, peers[i], **options.get(i, {})) for i in ids]
        for node in nodes:
            self.wait_linked(node, len(peers[node.id]))
        return nodes

    @staticmethod
    def wait_linked(node, count):
        def linked():
            stats = node.stats()
            return (stats["links_open"], stats["handshakes_pending"]) == (count, 0)
        wait_until(linked, SETTLE_S, "%s has %d links" % (node.name, count))

    @staticmethod
    def wait_flowing(sender, receiver):
        """Each lane takes more: no thread waits for an event that has been lost."""
        ledger = sender.about[receiver.id]
        before = [ledger.lane(i)["accepted"] for i in range(len(LANES))]

        def flowing():
            stuck = [name for i, name in enumerate(LANES) if ledger.lane(i)["accepted"] == before[i]]
            assert not stuck, "stuck: %s" % stuck
            return True
        wait_until(flowing, SETTLE_S, "%s can send to %s" % (sender.name, receiver.name))

    def wait_delivered(self, sender, receiver):
        """All that was accepted is handled and acknowledged. What is missing is told by lane."""
        def state():
            out, back = sender.about[receiver.id], receiver.about[sender.id]
            return ["%s: accepted %d, handled %d" % (name, out.lane(i)["accepted"], back.lane(i)["handled"])
                    for i, name in enumerate(LANES) if out.lane(i)["accepted"] != back.lane(i)["handled"]]

        def delivered():
            missing = state()
            assert not missing, "%s to %s: %s" % (sender.name, receiver.name, missing)
            return sender.stats()["queued"][receiver.id] == 0
        wait_until(delivered, SETTLE_S, "what %s sent is handled" % sender.name)

    def check_exact(self, sender, receiver):
        """Each message accepted was handled, once, in order, undamaged; nothing was told as undelivered."""
        out, back = sender.about[receiver.id], receiver.about[sender.id]
        for i, name in enumerate(LANES):
            accepted = out.lane(i)["accepted"]
            figures = {key: back.lane(i)[key] for key in ("duplicates", "reordered", "damaged")}
            figures["undelivered"] = out.lane(i)["certain"] + out.lane(i)["maybe"]
            figures["lost"] = accepted - size_of(back.numbers(i, "handled", accepted))
            figures["invented"] = back.lane(i)["expected"] - accepted
            where = "%s to %s, %s" % (sender.name, receiver.name, name)
            print("%s: accepted %d, handled %d, %s" % (where, accepted, back.lane(i)["handled"], figures))
            self.assertGreater(accepted, 0, where)
            self.assertEqual(figures, dict.fromkeys(figures, 0), where)

    def check_uses(self, node, before):
        """It has as much memory, and the descriptors it had."""
        def as_before():
            live, rss_kib, rest = node.uses()
            self.assertEqual(rest, before[2], node.name)
            self.assertLessEqual(live, before[0] + LIVE_LEFT_MAX, "%s: bytes of the library" % node.name)
            if not harness.SANITIZED:
                self.assertLessEqual(rss_kib, before[1] + RSS_LEFT_MAX_KIB, "%s: KiB of memory" % node.name)
            self.assertEqual(gauge.Descriptors(node.pid).connections, node.stats()["links_open"], node.name)
            return live, rss_kib
        after = wait_until(as_before, what="%s is as it was" % node.name)
        print("%s: library %d -> %d bytes, process %d -> %d KiB" % (node.name, before[0], after[0], before[1], after[1]))

    def load(self, sender, receiver, on):
        sender.tell("%s %s" % ("send" if on else "stop", receiver.id), "sending" if on else "stopped")

    # -- 1: faults of all kinds

    def both_ways(self, a, b, on):
        self.load(a, b, on)
        self.load(b, a, on)

    def handled(self, a, b, name="handled"):
        return a.about[b.id].total(name) + b.about[a.id].total(name)

    def test_faults_at_full_load(self):
        a, b = self.group("a", "b")
        self.both_ways(a, b, True)  # for the first time without faults, so that what is kept for later has been allocated
        wait_until(lambda: min(x.about[y.id].total("bytes") for x, y in ((a, b), (b, a))) > WARM_BYTES, SETTLE_S, "traffic")
        self.both_ways(a, b, False)
        for x, y in ((a, b), (b, a)):
            self.wait_delivered(x, y)
        before = [x.uses() for x in (a, b)]
        opened = max(x.stats()["links_opened"] for x in (a, b))

        self.both_ways(a, b, True)
        faults = Faults(SEED, [a, b])
        start, messages, octets = time.monotonic(), self.handled(a, b), self.handled(a, b, "bytes")
        faults.run(FAULTS_S, lambda: self.assertTrue(a.running() and b.running(), a.err + b.err))
        seconds = time.monotonic() - start
        messages, octets = self.handled(a, b) - messages, self.handled(a, b, "bytes") - octets
        for x, y in ((a, b), (b, a)):
            self.wait_flowing(x, y)
        self.both_ways(a, b, False)
        healed = time.monotonic()
        for x, y in ((a, b), (b, a)):
            self.wait_delivered(x, y)
        healed = time.monotonic() - healed
        for x in (a, b):
            self.wait_linked(x, 1)
        broken = max(x.stats()["links_opened"] for x in (a, b)) - opened
        print("seed %d: %d messages, %.0f MiB in %.1f s under faults (%.0f messages/s, %.1f MiB/s), links broken %d times, all "
              "delivered %.1f s after; %s" % (SEED, messages, octets / MIB, seconds, messages / seconds, octets / MIB / seconds, broken,
                                              healed, faults.done))
        for x, y in ((a, b), (b, a)):
            self.check_exact(x, y)
            stats = x.stats()
            self.assertEqual((stats["unhandled"], stats["protocol_errors"]), (0, 0), x.name)
            self.assertGreater(x.about[y.id].total("writables"), 0, "the writable event never came")
        self.assertGreaterEqual(broken, BREAKS_MIN)
        for x, was in zip((a, b), before):
            self.check_uses(x, was)
        for x in (a, b):
            x.quit()

    # -- 2: receivers killed

    def test_receivers_killed_under_load(self):
        a, b = self.group("a", "b")
        pick = random.Random(SEED)
        runs = [b]
        self.load(a, b, True)
        while len(runs) <= KILLS or (not self.handled_and_told(a, runs) and len(runs) <= 4 * KILLS):
            some = pick.randrange(200, 4000)
            wait_until(lambda: runs[-1].about["a"].total("handled") > some, SETTLE_S, "%s handles" % runs[-1].name)
            time.sleep(pick.uniform(0, 0.3))  # so that it is killed in any state of the queue to it
            runs[-1].kill()
            time.sleep(pick.choice((0, pick.uniform(0, 0.5))))
            runs.append(Node(self, b.host, "b", [("a", a.host.ip)]))
        wait_until(lambda: runs[-1].about["a"].total("handled") > 200, SETTLE_S, "the last one handles")
        self.wait_flowing(a, b)
        self.load(a, b, False)
        wait_until(lambda: a.stats()["queued"]["b"] == 0, SETTLE_S, "all is acknowledged")
        print("seed %d: %d receivers killed" % (SEED, len(runs) - 1))
        for i in range(len(LANES)):
            self.check_all_known(a.about["b"], [run.about["a"] for run in runs], i)
        self.assertGreater(self.handled_and_told(a, runs), 0, "no process was killed between handling and acknowledging")
        a.quit()
        runs[-1].quit()

    @staticmethod
    def handled_and_told(sender, runs):
        """How many messages were both. There must be some, or nothing was tested."""
        out, count = sender.about["b"], 0
        for i in range(len(LANES)):
            accepted = out.lane(i)["accepted"]
            told = out.numbers(i, "maybe", accepted) | out.numbers(i, "certain", accepted)
            count += sum(size_of(told & run.about["a"].numbers(i, "handled", accepted)) for run in runs)
        return count

    def check_all_known(self, out, runs, lane):
        """Each message was handled by one process, or told as undelivered; only one that is told as maybe handled may be both."""
        told = out.lane(lane)
        accepted = told["accepted"]
        certain, maybe = (out.numbers(lane, which, accepted) for which in ("certain", "maybe"))
        handled = twice = 0
        for run in runs:
            numbers = run.numbers(lane, "handled", accepted)
            twice |= handled & numbers
            handled |= numbers
            figures = run.lane(lane)
            self.assertEqual((figures["duplicates"], figures["reordered"], figures["damaged"]), (0, 0, 0), LANES[lane])
        missing = below(accepted) & ~(handled | certain | maybe)
        print("%s: accepted %d, handled %d, undelivered: certainly %d, maybe %d (of them handled %d), without number %d" % (
            LANES[lane], accepted, size_of(handled), size_of(certain), size_of(maybe), size_of(maybe & handled), told["headless"]))
        self.assertEqual((told["damaged"], told["told_twice"]), (0, 0), LANES[lane])
        later = (maybe | certain) & runs[-1].numbers(lane, "handled", accepted)  # it was not killed
        for what, numbers in (("handled by two processes", twice), ("told as certainly not handled, and was", certain & handled),
                              ("told in both ways", certain & maybe), ("told, and then delivered to the last one", later)):
            self.assertEqual(size_of(numbers), 0, "%s: %s: first %d" % (LANES[lane], what, first_of(numbers)))
        # A large message whose beginning was acknowledged is told without its data, and so without its number.
        self.assertLessEqual(size_of(missing), told["headless"], "%s: neither handled nor told: first %d of %d" % (
            LANES[lane], first_of(missing), accepted))
        self.assertGreater(size_of(handled), 0)

    # -- 3: one slow, one dead, one healthy

    QUEUE, WINDOW = MIB, 256 << 10
    RATE_S = 2.0
    RATIO_MIN = 0.5

    def rate(self, sender, receiver):
        """Messages a second that the receiver handles, measured."""
        ledger = receiver.about[sender.id]
        count, start = ledger.total("handled"), time.monotonic()
        time.sleep(self.RATE_S)
        return (ledger.total("handled") - count) / (time.monotonic() - start)

    def compare(self, sender, healthy, slow, dead):
        """The healthy one's rate beside the two others, by its rate without them."""
        solo = self.rate(sender, healthy)
        dead.signal(signal.SIGSTOP)
        try:
            for other in (slow, dead):
                self.load(sender, other, True)
            out = sender.about[dead.id]
            last = [None]

            def full():
                last.append(out.total("accepted"))
                return last[-1] == last[-2] and last[-1] > 0 and sender.stats()["queued"][dead.id] > len(LANES) * self.QUEUE / 2
            wait_until(full, SETTLE_S, "what may wait for the dead one waits")
            slow_rate_start = slow.about[sender.id].total("handled")
            mixed = self.rate(sender, healthy)
            self.assertGreater(slow.about[sender.id].total("handled"), slow_rate_start, "the slow one is served too")
        finally:
            dead.signal(signal.SIGCONT)
        for other in (slow, dead):
            self.load(sender, other, False)
            self.wait_delivered(sender, other)
        again = self.rate(sender, healthy)
        print("healthy: %.0f messages/s alone, %.0f beside a slow and a dead one, %.0f alone again: ratio %.2f" % (
            solo, mixed, again, 2 * mixed / (solo + again)))
        return 2 * mixed / (solo + again)

    def test_a_slow_and_a_dead_one_beside_a_healthy_one(self):
        limits = {"queue": self.QUEUE, "window": self.WINDOW}
        sender, healthy, slow, dead = nodes = self.group("sender", "healthy", "slow", "dead", sender=limits, healthy=limits,
                                                         slow=dict(limits, handle_us=1000), dead=limits)
        before = [node.uses() for node in nodes]
        self.load(sender, healthy, True)
        wait_until(lambda: healthy.about["sender"].total("handled") > 1000, SETTLE_S, "traffic")
        ratios = []
        while not ratios or (ratios[-1] < self.RATIO_MIN and len(ratios) < 3):  # other programs on this machine take turns, too
            ratios.append(self.compare(sender, healthy, slow, dead))
        peak = sender.stats()["peak"]
        allowed = before[0][0] + 3 * len(LANES) * 2 * self.QUEUE  # in blocks, each at least half full: docs/limits.md
        print("sender: the library held %d bytes at most, %d before; the limits allow %d" % (peak, before[0][0], allowed))
        self.load(sender, healthy, False)
        for other in nodes[1:]:
            self.wait_delivered(sender, other)
            self.check_exact(sender, other)
        self.assertGreaterEqual(max(ratios), self.RATIO_MIN)
        self.assertLessEqual(peak, allowed)
        for node, was in zip(nodes, before):
            self.check_uses(node, was)
        for node in nodes:
            node.quit()


if __name__ == "__main__":
    netns.enter()
    harness.main()
