#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A model of the 2014 node: what it sends, byte for byte, and how it fails.

Measured on the real one (tests/vectors/legacy/README.md):

- It sends one HELLO on each connection, at accept and at connect, and nothing else by itself; it never answers an echo.
- It splits a HELLO on ':', takes three fields and ignores the rest. A second HELLO on a connection, or one it cannot parse,
  kills the I/O loop that serves the connection: its sockets stay open, unserved. There are three such loops.
- A frame over 32768 bytes jams its connection, and its loop spins.
- A wrong length closes the connection; a wrong marker closes it too, once the claimed length has arrived.
- Its custodian dials, first after 1 s and then every 5 s, each node of its definition without a stream. A stream that the
  peer closed stays in its map, so it does not dial that one again; `redials` models the release an hour later, which forgets
  the node when *any* connection with it closes.
- Two that start together dial each other at the same moment. `crosses` makes sure of that: it dials as soon as it is dialled,
  and serves nobody before.

What a gentle peer must not do is recorded in `sins`. `time_scale` shortens the custodian's times.

As a program, for the demonstration: legacy_peer.py IP[:PORT] [ID=IP:PORT ...]
"""
import ipaddress
import select
import selectors
import socket
import struct
import sys
import threading
import time

MARKER = 0xFEEDCAFECAFEFEED
HEADER = struct.Struct(">Qii")  # type and length are signed there
HELLO, ECHO = 1, 2
BUFFER = 32768
LOOPS = 3
DIAL_DELAY_S, DIAL_PERIOD_S = 1.0, 5.0
GRACE_S = 0.5  # for what may cross on the wire


def hello_bytes(node_id, ip, port):
    text = ("%s:%s:%d" % (node_id, ip, port)).encode()
    return HEADER.pack(MARKER, HELLO, HEADER.size + len(text)) + text


class Link:
    """One connection."""

    def __init__(self, sock, dialled, loop):
        self.sock = sock
        self.dialled = dialled      # by us
        self.loop = loop            # index of the I/O loop that serves it
        self.since = time.monotonic()
        self.buffer = b""
        self.received = b""         # all bytes ever
        self.frames = []            # (type, data)
        self.hello = None           # its fields
        self.hello_at = None
        self.peer_id = None
        self.jammed = False
        self.open = True
        self.closed_by_peer_at = None

    def __repr__(self):
        return "<%s link, peer %s, %s>" % ("dialled" if self.dialled else "accepted", self.peer_id, "open" if self.open else "closed")


class LegacyPeer:
    """Use: start(), look at links, state(), sins(); send(); stop()."""

    def __init__(self, ip, port=9876, node_id=None, nodes=(), time_scale=1.0, allow_types=(), redials=False, crosses=False,
                 on_message=None):
        self.ip, self.port = ip, port
        self.id = node_id or ip
        self.nodes = {n[0]: (n[1], n[2]) for n in nodes}  # id -> (ip, port); as its definition says, without itself
        self.nodes.pop(self.id, None)
        self.time_scale = time_scale
        self.allow_types = set(allow_types)  # frame types that the test asks the other side to send
        self.redials = redials
        self.crosses = crosses
        self.on_message = on_message
        self.links = []
        self.streams = {}           # node id -> link, as in its map
        self.dials = []             # (id, monotonic time)
        self.dead_loops = set()
        self._dialled = set()       # ids that a dial reached
        self._sins = []
        self._lock = threading.RLock()
        self._selector = selectors.DefaultSelector()
        self._wake_r, self._wake_w = socket.socketpair()
        self._stop = False
        self._thread = None
        self.error = None

    # -- life

    def start(self):
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((self.ip, self.port))
        self._listener.listen(64)
        self._selector.register(self._listener, selectors.EVENT_READ, "listener")
        self._selector.register(self._wake_r, selectors.EVENT_READ, "wake")
        self._next_dial = time.monotonic() + DIAL_DELAY_S * self.time_scale
        self._thread = threading.Thread(target=self._run, name="legacy " + self.id, daemon=True)
        self._thread.start()
        return self

    def stop(self):
        """End as a process does: all its sockets close."""
        if self._thread:
            self._stop = True
            self._wake_w.send(b"x")
            self._thread.join(10)
            self._thread = None
        with self._lock:
            for link in self.links:
                link.sock.close()
                link.open = False
        self._listener.close()
        self._wake_r.close()
        self._wake_w.close()
        if self.error:
            raise self.error

    # -- what it did and saw

    def open_links(self, peer_id=None):
        with self._lock:
            return [k for k in self.links if k.open and k.hello and (peer_id is None or k.peer_id == peer_id)]

    def state(self, peer_id):
        with self._lock:
            link = self.streams.get(peer_id)
            return "ACTIVE" if link and link.open and link.loop not in self.dead_loops and not link.jammed else "INACTIVE"

    def frames(self, kind=None, peer_id=None):
        """Data of the frames received, on all links; HELLO left out unless asked for."""
        with self._lock:
            return [data for link in self.links for (k, data) in link.frames
                    if (peer_id is None or link.peer_id == peer_id) and (k == kind if kind is not None else k != HELLO)]

    def sins(self):
        """What the other side did to it that it cannot bear. Ask before the other side shuts down."""
        with self._lock:
            now = time.monotonic()
            late = []
            for link in self.links:
                at = link.closed_by_peer_at
                if at is not None and link.peer_id and any(
                        k.open and k.peer_id == link.peer_id and k.hello_at < at for k in self.links if k is not link and k.hello_at):
                    if now - at > GRACE_S:
                        late.append("closed a duplicate link, %r" % link)
            return self._sins + late

    def send(self, kind, data=b"", peer_id=None):
        """Send a frame on the stream of a peer, or on every open link."""
        raw = HEADER.pack(MARKER, kind, HEADER.size + len(data)) + data
        with self._lock:
            links = [self.streams[peer_id]] if peer_id else self.open_links()
            assert links, "%s has no link" % self.id
            for link in links:
                link.sock.setblocking(True)
                link.sock.sendall(raw)
                link.sock.setblocking(False)

    # -- its loop

    def _sin(self, text):
        self._sins.append(text)

    def _run(self):
        try:
            while not self._stop:
                with self._lock:
                    crossing = self.crosses and any(node_id not in self._dialled for node_id in self.nodes)
                    if not crossing and time.monotonic() >= self._next_dial:
                        self._custodian()
                        self._next_dial += DIAL_PERIOD_S * self.time_scale
                    timeout = max(0.0, self._next_dial - time.monotonic())
                if crossing:
                    ready, _, _ = select.select([self._wake_r, self._listener], [], [])
                    if self._listener in ready:
                        with self._lock:
                            self._custodian()
                            self._next_dial = time.monotonic() + DIAL_PERIOD_S * self.time_scale
                    continue
                for key, _ in self._selector.select(timeout):
                    with self._lock:
                        if key.data == "listener":
                            sock, _ = self._listener.accept()
                            self._admit(sock, False, None)
                        elif isinstance(key.data, Link):
                            self._readable(key.data)
        except Exception as e:  # pylint: disable=broad-except
            if not self._stop:
                self.error = e

    def _custodian(self):
        for node_id, place in self.nodes.items():
            if node_id in self.streams:
                continue
            self.dials.append((node_id, time.monotonic()))
            sock = socket.socket()
            sock.settimeout(1)
            try:
                sock.connect(place)
            except OSError:
                sock.close()  # the real one loses an I/O loop here; ours is not to blame, so the model goes on
                continue
            self._dialled.add(node_id)
            self._admit(sock, True, node_id)

    def _admit(self, sock, dialled, node_id):
        alive = [sum(k.open and k.loop == i for k in self.links) for i in range(LOOPS)]
        link = Link(sock, dialled, alive.index(min(alive)))
        self.links.append(link)
        sock.setblocking(True)
        try:
            sock.sendall(hello_bytes(self.id, self.ip, self.port))
        except OSError:
            pass
        sock.setblocking(False)
        if not dialled:
            # Whose it is shows when its HELLO is in; what stood when it was made is known now.
            link.standing = {k.peer_id for k in self.links
                             if k.open and k.dialled and k.hello_at and link.since - k.hello_at > GRACE_S}
        self._selector.register(sock, selectors.EVENT_READ, link)

    def _readable(self, link):
        if link.loop in self.dead_loops or link.jammed:
            self._selector.unregister(link.sock)  # open, and unserved
            return
        try:
            piece = link.sock.recv(BUFFER)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._close(link)
            link.closed_by_peer_at = time.monotonic()
            return
        link.received += piece
        link.buffer += piece
        while self._frame(link):
            pass

    def _close(self, link):
        if not link.open:
            return
        self._selector.unregister(link.sock)
        link.sock.close()
        link.open = False
        if self.redials and link.peer_id in self.streams:
            del self.streams[link.peer_id]  # even when another connection to it stands: the later release's fault

    def _frame(self, link):
        """Take one frame from the buffer; False when there is none."""
        if not link.open or link.loop in self.dead_loops or len(link.buffer) < HEADER.size:
            return False
        marker, kind, length = HEADER.unpack_from(link.buffer)
        if length > BUFFER:
            self._sin("frame of %d bytes" % length)
            link.jammed = True
            return False
        if length < HEADER.size:
            self._sin("frame with length %d" % length)
            self._close(link)
            return False
        if len(link.buffer) < length:
            return False
        if marker != MARKER:
            self._sin("wrong marker %x" % (marker & 0xFFFFFFFFFFFFFFFF))
            self._close(link)
            return False
        data = link.buffer[HEADER.size:length]
        link.buffer = link.buffer[length:]
        link.frames.append((kind, data))
        if kind == HELLO:
            return self._hello(link, data)
        if not link.hello:
            self._sin("frame of type %d before HELLO" % kind)
        if kind < 0 and kind not in self.allow_types:
            self._sin("frame of type %d (%#x)" % (kind, kind & 0xFFFFFFFF))
        if self.on_message:
            self.on_message(link, kind, data)
        return True

    def _hello(self, link, data):
        if link.hello:
            self._sin("second HELLO on one link: %r" % data)
            self.dead_loops.add(link.loop)
            return False
        try:
            fields = data.decode("ascii").split(":")
            peer_id, ip, port = fields[0], str(ipaddress.IPv4Address(fields[1])), int(fields[2])
            if not peer_id or not 0 < port < 65536:
                raise ValueError(data)
        except (ValueError, IndexError):
            self._sin("HELLO it cannot parse: %r" % data)
            self.dead_loops.add(link.loop)
            return False
        link.hello = fields
        link.hello_at = time.monotonic()
        link.peer_id = peer_id
        if not link.dialled and peer_id in link.standing:
            self._sin("dialled by %s while a link from us to it stood" % peer_id)
        self.nodes.setdefault(peer_id, (ip, port))
        self.streams[peer_id] = link
        return True


def main(argv):
    def place(text):
        ip, _, port = text.partition(":")
        return ip, int(port or 9876)
    if len(argv) < 2 or argv[1] in ("-h", "--help"):
        print(__doc__.strip().splitlines()[-1])
        return 2
    ip, port = place(argv[1])
    nodes = [(text.partition("=")[0], *place(text.partition("=")[2])) for text in argv[2:]]

    def show(link, kind, data):
        print("%s sent type %d: %s" % (link.peer_id, kind, data[:60].decode("ascii", "replace")), flush=True)
    peer = LegacyPeer(ip, port, nodes=nodes, on_message=show).start()
    print("2014 node %s listens on port %d" % (ip, port), flush=True)
    try:
        while True:
            threading.Event().wait(3600)
    except KeyboardInterrupt:
        peer.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
