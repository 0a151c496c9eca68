# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that breaks connections: reset at both ends, or at one end while the other is left hanging for ever: its keep-alive is answered."""
import random
import selectors
import socket
import struct
import threading

PIECE = 65536


class Pipe:
    def __init__(self, client, server):
        self.ends = [client, server]  # None when closed by us

    def other(self, sock):
        return self.ends[1] if self.ends[0] is sock else self.ends[0]


class Proxy:
    """Forwards connections to `target`, in a thread of its own."""

    def __init__(self, address, target, seed):
        self.address, self.target = address, target
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.pipes = set()
        self.made = self.broken = 0
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(address, backlog=64)
        self.selector.register(self.listener, selectors.EVENT_READ, None)
        self.over = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def stop(self):
        self.over = True
        self.thread.join(10)
        with self.lock:
            for pipe in list(self.pipes):
                self._end(pipe)
        self.listener.close()
        self.selector.close()

    def open_pipes(self):
        """Those that still carry bytes between two living ends."""
        with self.lock:
            return sum(None not in pipe.ends for pipe in self.pipes)

    def break_one(self):
        """Break a connection in one of three ways; False when there is none."""
        with self.lock:
            whole = [pipe for pipe in self.pipes if None not in pipe.ends]
            if not whole:
                return False
            pipe = self.random.choice(whole)
            way = self.random.randrange(3)
            if way == 0:
                self._reset(pipe, 0)
                self._reset(pipe, 1)
            else:  # the other end hears nothing more, until it is told of a better link
                self._reset(pipe, way - 1)
            self.broken += 1
            if pipe.ends == [None, None]:
                self.pipes.discard(pipe)
            return True

    # -- its thread; the lock is held below, but while waiting

    def _run(self):
        while not self.over:
            events = self.selector.select(0.05)
            with self.lock:
                for key, _ in events:
                    if key.fileobj is self.listener:
                        self._accept()
                    elif key.fileobj in key.data.ends:  # not broken meanwhile
                        self._forward(key.data, key.fileobj)

    def _accept(self):
        client, _ = self.listener.accept()
        server = socket.socket()
        try:
            server.connect(self.target)
        except OSError:
            server.close()
            client.close()
            return
        pipe = Pipe(client, server)
        self.pipes.add(pipe)
        self.made += 1
        for sock in pipe.ends:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.selector.register(sock, selectors.EVENT_READ, pipe)

    def _forward(self, pipe, sock):
        other = pipe.other(sock)
        try:
            piece = sock.recv(PIECE)
            if piece and other is not None:
                other.sendall(piece)
        except OSError:
            piece = b""
        if not piece:
            self._end(pipe)

    def _close(self, pipe, i):
        sock, pipe.ends[i] = pipe.ends[i], None
        if sock is not None:
            self.selector.unregister(sock)
            sock.close()

    def _reset(self, pipe, i):
        if pipe.ends[i] is not None:
            pipe.ends[i].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._close(pipe, i)

    def _end(self, pipe):
        self._close(pipe, 0)
        self._close(pipe, 1)
        self.pipes.discard(pipe)
