#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The larger examples, compiled against an installation and run as the processes they are."""
import os
import re
import signal
import subprocess
import unittest
from contextlib import ExitStack

from installed import Installed, Process

PRIMES_BELOW_4000000 = 283146


class ExamplesTest(Installed):
    def processes(self, binary, ids, *more):
        """One process for each id, all members of one cluster; `more` are arguments of the first."""
        stack = self.enterContext(ExitStack()) if hasattr(self, "enterContext") else ExitStack()
        self.addCleanup(stack.close)
        cluster = self.cluster(*ids)
        return [stack.enter_context(Process(self, binary, i, cluster, *(more if i == ids[0] else ()))) for i in ids]

    def test_own_loop(self):
        """What one types the other prints; neither has a second thread."""
        a, b = self.processes(self.example("own_loop"), ("a", "b"))
        for me, my_id, other, other_id in ((a, "a", b, "b"), (b, "b", a, "a")):
            me.wait_for("%s ACTIVATED\n" % other_id)
            me.type("good morning")
            other.wait_for("%s says good morning\n" % my_id)
        for node in (a, b):
            self.assertEqual(len(os.listdir("/proc/%d/task" % node.p.pid)), 1)
        self.assertEqual([a.end(), b.end()], [0, 0])

    def test_chat(self):
        ids = ("ann", "bob", "cleo")
        chatters = self.processes(self.example("chat"), ids)
        for me, chatter in zip(ids, chatters):
            for other in set(ids) - {me}:
                chatter.wait_for("* %s is here" % other)
        ann, bob, cleo = chatters
        ann.type("good morning")
        bob.type("to you, too \x1b[2J")
        for chatter in (bob, cleo):
            chatter.wait_for("ann: good morning\n")
        ann.wait_for("bob: to you, too ?[2J\n")
        self.assertEqual(cleo.end(), 0)
        for chatter in (ann, bob):
            chatter.wait_for("* cleo is gone: the peer left the cluster")
        bob.p.kill()
        ann.wait_for("* bob is gone")
        ann.type("anyone?")
        ann.wait_for("* nobody hears you")
        self.assertEqual(ann.end(), 0)
        self.assertNotIn("good morning", ann.text(), "one's own lines are not repeated")

    def test_work_queue_survives_a_worker_killed(self):
        """A worker is stopped with a job in hand, then killed: another one does that job, and the sum is right."""
        ids = ("boss", "w1", "w2", "w3")
        boss, *workers = self.processes(self.example("work_queue"), ids, "200")
        victim = workers[0]
        victim.wait_for("job ")
        victim.p.send_signal(signal.SIGSTOP)
        boss.wait_until(lambda text: text.count(" done by ") == 199, "that all jobs but the stopped worker's are done")
        (held,) = set(re.findall(r"^job (\d+) to", boss.text(), re.M)) - set(re.findall(r"^job (\d+) done", boss.text(), re.M))
        self.assertIn("job %s to w1\n" % held, boss.text())
        self.assertIsNone(boss.p.poll())
        victim.p.kill()
        self.assertEqual(boss.wait(), 0, boss.text())
        self.assertIn("w1 is gone; job %s waits again\n" % held, boss.text())
        self.assertIn("200 jobs done, 1 given again, %d primes\n" % PRIMES_BELOW_4000000, boss.text())
        self.assertEqual([w.wait() for w in workers[1:]], [0, 0])

    def test_copy(self):
        path = os.path.join(self.root, "large")
        with open(path, "wb") as f:
            f.write(os.urandom(3000000))
        copy = self.example("copy")
        with Process(self, copy, "b", self.cluster("a", "b")) as reader:
            reader.wait_for("receiving\n")
            sender = subprocess.run([copy, "a", self.cluster("a", "b"), "b", path], capture_output=True, text=True,
                                    check=False, env=dict(os.environ, LD_LIBRARY_PATH=self.lib))
            self.assertEqual((sender.returncode, sender.stderr), (0, ""))
            reader.wait_for("a: 3000000 bytes of copy, ok\n")
            self.assertEqual(reader.end(), 0)

    def test_ask(self):
        """All questions at once; a slow one ends with its time, and keeps no other waiting for ever."""
        ask, cluster = self.example("ask"), self.cluster("b", "a")
        with Process(self, ask, "b", cluster), Process(self, ask, "a", cluster, "b") as asks:
            for line in ("10", "what", "100000", "3000000000", "7"):
                asks.type(line)
            self.assertEqual(asks.end(), 0)
            for said in ("b: 4\n", "b: that is no number\n", "b: 9592\n"):
                self.assertIn(said, asks.text())
            self.assertEqual(asks.text().count("b: timed out\n"), 2)

    def test_pump_waits_for_room(self):
        """A reader that stops holds up the sender, not more than its lane; then all comes, once and in order."""
        count = 5000000
        pump, cluster = self.example("pump"), self.cluster("b", "a")
        with Process(self, pump, "b", cluster) as reader:
            with Process(self, pump, "a", cluster, "b", str(count)) as sender:
                reader.wait_for("first 0\n")
                reader.p.send_signal(signal.SIGSTOP)
                sender.wait_for("b takes no more before number ")
                reader.p.send_signal(signal.SIGCONT)
                self.assertEqual(sender.wait(), 0)
                self.assertRegex(sender.text(), r"%d sent, [1-9]\d* waits, 0 maybe handled, 0 not handled\n" % count)
            self.assertEqual(reader.end(), 0)
            self.assertEqual(reader.text(), "first 0\n%d numbers, sum %d\n" % (count, count * (count - 1) // 2))

    def test_pump_is_told_what_a_reader_took_along(self):
        """One is killed with a part in hand; the next goes on, and each number is handled, or told."""
        count = 5000000
        pump, cluster = self.example("pump"), self.cluster("b", "a")
        with Process(self, pump, "a", cluster, "b", str(count)) as sender:
            with Process(self, pump, "b", cluster) as reader:
                reader.wait_for("first 0\n")
                reader.p.send_signal(signal.SIGSTOP)
                sender.wait_for("b takes no more before number ")
            with Process(self, pump, "b", cluster) as reader:
                self.assertEqual(sender.wait(), 0)
                self.assertEqual(reader.end(), 0)
                handled, total = map(int, re.search(r"(\d+) numbers, sum (\d+)\n", reader.text()).groups())
                first = int(re.match(r"first (\d+)\n", reader.text()).group(1))
            sent, told = re.search(r"(\d+) sent, [1-9]\d* waits, (\d+) maybe handled, 0 not handled\n", sender.text()).groups()
            self.assertEqual(int(sent), count)
            self.assertGreater(int(told), 0)
            self.assertEqual(first + handled, count, "the second took all from its first number on")
            self.assertEqual(total, sum(range(first, count)))
            self.assertLessEqual(int(told), first, "what the first had, and nothing else")

    @unittest.skipUnless(subprocess.run(["pkg-config", "--exists", "msgpack"], check=False).returncode == 0, "no libmsgpack-dev")
    def test_codec_msgpack(self):
        a, b = self.processes(self.example("codec_msgpack", "msgpack"), ("a", "b"))
        a.wait_for("b ACTIVATED")
        b.wait_for("a ACTIVATED")
        a.type("roof 21.5")
        b.wait_for("a: roof is 21.5\n")
        a.type("!")
        b.wait_for("codec a: reading: 7 bytes not decoded: not MessagePack\n")
        a.type("roof 22.5")
        b.wait_for("a: roof is 22.5\n")
        self.assertNotIn("DEACTIVATED", b.text(), "the link did not suffer")
        self.assertEqual([b.end(), a.end()], [0, 0])
        self.assertIn("1 could not be decoded\n", b.text())
        self.assertIn("0 could not be decoded\n", a.text())


if __name__ == "__main__":
    unittest.main(verbosity=2)
