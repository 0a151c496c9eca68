# SPDX-License-Identifier: Apache-2.0
"""An agent with a healthy peer, to which a test then does its worst.

After each test the agent must be as well as before: the healthy link is the same one and answers in both directions, the agent
does not use the processor, and it holds no more memory than before (the harness counts its descriptors). What a test provokes
must be named in the log and counted under that name.
"""
import random
import re
import struct

import gauge
import harness
from harness import HELLO, RawPeer, address, frame, hello, wait_until

WELCOME, SUBJECT, PING, PONG = 0xC0000001, 0xC0000004, 0xC0000005, 0xC0000006
RESUME, ACK = 0xC0000007, 0xC0000008
CREDIT = 1 << 40  # more than any test sends
EXTENSION = ":cohort/1-1;inc=%d"
NAMES_AS_LOGGED = re.compile(r'"code":"(\w+)"')


class HostileCase(harness.NetTest):
    kept_mib = 4  # memory the agent may hold after the test more than before: allocators do not give all back
    agent_args = ()

    def setUp(self):
        super().setUp()
        self.bad = address()  # the id and place of who misbehaves; nobody listens there
        self.id = self.bad[0]
        self.start()
        self.unharmed = [self.same_link(self.a, self.b.id), self.same_link(self.b, self.a.id)]
        self.before_kib = gauge.memory_kib(self.a.pid)

    def start(self):
        """Only one of the agents knows who misbehaves, so that nobody else dials there."""
        places = [address(), address()]
        both = [("n%d" % i, *place) for i, place in enumerate(places)]
        for i, nodes in enumerate((both + [(self.id, *self.bad)], both)):
            self.agent(node_id="n%d" % i, ip=places[i][0], port=places[i][1], cluster=self.definition(nodes), args=self.agent_args,
                       env={"MALLOC_ARENA_MAX": "1"}).start()  # what one thread gave back, another takes: else it looks like growth
        self.a, self.b = self.agents
        self.wait_meshed(self.agents)

    def tearDown(self):
        try:
            if self.a.process.running():
                self.check_well()
            else:
                self.fail("the agent has died")
        finally:
            super().tearDown()

    def check_well(self):
        for check in self.unharmed:
            check()
        for raw in list(RawPeer.all):
            raw.close()
        gauge.wait_quiet(self.a.pid, harness.BOUND_S)
        if not harness.SANITIZED:
            wait_until(lambda: gauge.memory_kib(self.a.pid) - self.before_kib < self.kept_mib * 1024,
                       what="the agent holds less than %d MiB more than before" % self.kept_mib)
        for check in self.unharmed:
            check()

    def assert_peak_below(self, mib):
        """That it has never held so much, all told."""
        if not harness.SANITIZED:
            self.assertLess(gauge.memory_peak_kib(self.a.pid), mib * 1024)

    # -- who misbehaves

    def connect(self, source=None):
        raw = RawPeer(self.a.address, source)
        self.addCleanup(raw.close)
        return raw

    def greeted(self, node_id=None, source=None):
        """A legacy peer with an open link."""
        raw = self.connect(source)
        raw.send(hello(node_id or self.id, *self.bad))
        self.assertEqual(raw.read_frame()[0], HELLO)
        self.a.wait_state(node_id or self.id, "ACTIVE")
        return raw

    def cohort_greeted(self, incarnation=1, attempt=1, source=None):
        """A cohort peer with an open link, of a process of its own each time: it knows nothing of the agent's half of a session."""
        raw = self.connect(source)
        raw.send(hello(self.id, *self.bad, extension=EXTENSION % incarnation + ";attempt=%d" % attempt))
        self.assertEqual(raw.read_frame()[0], HELLO)
        self.assertEqual(raw.read_frame()[0], WELCOME)
        raw.send(frame(WELCOME, b"\0\1"))
        raw.send(frame(RESUME, struct.pack(">QQH", random.getrandbits(63) + 1, 0, 3) + struct.pack(">QQ", 0, CREDIT) * 3))
        self.a.wait_state(self.id, "ACTIVE")
        self.assertEqual(raw.read_frame()[0], RESUME)
        raw.ignored = (ACK,)
        return raw

    # -- what must come of it

    def logged(self, code):
        """How often the log names it; `code` may be a regular expression."""
        return sum(bool(re.fullmatch(code, name)) for name in NAMES_AS_LOGGED.findall(self.a.log))

    def counted(self, code):
        return sum(n for name, n in self.a.stats()["errors"].items() if re.fullmatch(code, name))

    def names(self, code, before, more=1):
        """The log and the counters name the error, `more` times more than `before`, which is (logged, counted)."""
        wait_until(lambda: self.logged(code) >= before[0] + more and self.counted(code) >= before[1] + more,
                   what="%s is logged and counted" % code)

    def named(self, code):
        return self.logged(code), self.counted(code)

    def rejected(self, data, code, greet=False):
        """Send it; the agent must close the connection and name the code."""
        before = self.named(code)
        raw = self.greeted() if greet else self.connect()
        try:
            raw.send(data)
        except ConnectionError:
            pass  # closed while we were still talking
        heard = raw.wait_closed()
        self.names(code, before)
        self.a.wait_state(self.id, "INACTIVE")
        return heard
