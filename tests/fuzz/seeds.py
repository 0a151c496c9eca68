#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Write the first inputs of each fuzz target, made from the recorded vectors, into DIR/<target>/.

    tests/fuzz/seeds.py DIR

The corpus was grown from these; they are needed again only when an input format changes (docs/testing.md).
"""
import os
import struct
import sys

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VECTORS = os.path.join(TESTS, "vectors")


def frame(kind, data=b""):
    return struct.pack(">QII", 0xFEEDCAFECAFEFEED, kind, len(data) + 16) + data


def with_choices(stream, *choices):
    return stream + bytes(choices) + bytes([len(choices)])


def recorded():
    for base, _, names in sorted(os.walk(VECTORS)):
        for name in sorted(names):
            path = os.path.join(base, name)
            with open(path, "rb") as f:
                data = f.read()
            if name.endswith(".bin"):
                yield data
            elif name.endswith(".hex"):
                lines = [line for line in data.decode().splitlines() if not line.startswith("#")]
                yield bytes.fromhex("".join("".join(lines).split()))


def control(code, data=b""):
    return frame(0xC0000000 | code, data)


HELLO = frame(1, b"fuzz:127.0.0.1:9876:cohort/1-1;inc=1;cluster=x;attempt=1")
WELCOME = control(1, struct.pack(">H", 1))
SUBJECT = control(4, struct.pack(">I", 0) + b"news")
REFUSE = control(2, struct.pack(">IQ", 51, 9) + b"why not")
TALK = HELLO + WELCOME + SUBJECT + frame(0x80000000, b"text") + frame(2, b"echo") + frame(7, b"raw") + control(3)
RESUME = control(7, struct.pack(">QQH", 7, 0, 3) + bytes(48))


def chunk(kind, total, at, data):
    return frame(0x80000000 | kind << 27, struct.pack(">QQ", total, at) + data)


LARGE = HELLO + WELCOME + RESUME + SUBJECT + chunk(4, 3700, 0, bytes(1300)) + chunk(5, 3700, 1300, bytes(1200)) + chunk(6, 3700, 2500, bytes(1200))


def seeds():
    vectors = list(recorded())
    many = b"".join(control(4, struct.pack(">I", n) + b"s%d" % n) for n in range(12))
    streams = vectors + [TALK, HELLO + WELCOME + many, HELLO + REFUSE, HELLO + WELCOME + frame(0xE0001234) + frame(7, bytes(3000)), HELLO + HELLO, LARGE]
    for stream in streams:
        yield "frame", with_choices(stream)
        yield "frame", with_choices(stream, 0, 0, *([7] * 40))
        yield "link", with_choices(stream)
        yield "link", with_choices(stream, 2, 0, *([1] * 90))
        yield "link", with_choices(stream, 0, 2, 100, 3, 30)
    for vector in vectors:
        if vector[8:12] == b"\0\0\0\1":
            yield "hello", vector[16:int.from_bytes(vector[12:16], "big")]
        elif vector[8] >= 0xC0:
            for which in range(3):
                yield "control", bytes([which]) + vector[16:]
    yield "hello", b"a:1.2.3.4:1:cohort/1-65535;inc=18446744073709551615;addr=fe80::1%eth0;caps=ffffffffffffffff;x=y"
    yield "definition", b'{"nodes":[{"id":"a","ip":"127.0.1.1","tcpPort":9876},{"id":"b","ip":"::1"}],"cluster":"x"}'
    yield "definition", b'{"nodes":[{"id":"a","ip":"127.0.1.1"},{"id":"a","ip":"127.0.1.1","tcpPort":70000}]}'
    for text in (b'{"cluster":"c","id":"a","ip":"::1","port":1,"control":{"path":"/p","mode":"0660","group":"g"},"http":{"listen":":0",'
                 b'"insecure":true},"log":{"level":"debug","format":"json"},"admission":"open","loops":0,"dial":{"mode":"seed","delay_min_ms":1}}',
                 b' {"limits": {"members_max": 1, "echoes_max": 2.0}}', b'{"log": {"level": "loud"}}', b'{"x\\"y\u00e4": [{"a": "}"}], "id": 1}',
                 b'{"log": null}', b'{"port": -1}', b'{"http": {"insecure": "x"}}', b'[]', b'"x"', b'{"id":""}', b'{"control":{"mode":"7"}}'):
        yield "settings", text
    frames = [(1, b"a:b:9:cohort/1-1;inc=1;cluster=c;x=y"), (0xC0000004, bytes(4) + b"news"), (0x80000000, b"hi"), (0xC0000001, b"\0\1"),
              (0xC0000002, bytes(12) + b"no"), (0xC0000003, b""), (0xC0000005, b"p"), (0xE0000009, b""), (0xFFFFFFFF, b"?"), (1, b"a:b:9")]
    encoded = [kind.to_bytes(4, "big") + bytes([len(data)]) + data for kind, data in frames]
    yield "decode", b"".join(encoded)
    for one in encoded:
        yield "decode", one
    for legacy in (0, 1):
        yield "sender", bytes([60 + legacy, 0, 2, 8, 1, 5, 65, 8, 1, 251, 66, 6, 9, 67, 9, 40, 0, 1, 9, 9, 4, 255, 8, 20, 3, 3, 1])
    up, ack, again, replaced, ended = bytes([10]), bytes([9]), bytes([8, 0, 9, 9, 9]), bytes([11]), bytes([13, 0])
    put = lambda how, size: bytes([0, how, size])
    write = bytes([5, 3, 255, 255, 0])
    some = put(0, 9) + put(1, 5) + put(2, 30) + bytes([3, 0, 8]) + bytes([4, 1, 7, 0]) + put(201, 4)
    large = put(0, 245) + put(1, 241) + put(1, 244)
    yield "outbound", bytes(1) + up + some + write * 3 + ack + some + bytes([8, 0, 3, 9, 9]) + up + write * 4 + ack
    yield "outbound", bytes(1) + some + up + write + replaced + up + write * 3 + ack + large + again + replaced + up + write * 6 + ack * 2
    yield "outbound", bytes(1) + large + up + write + ack + write + again + up + write + ended + some + up + write * 2 + bytes([13, 1]) + up + write
    yield "outbound", bytes(1) + (put(0, 5) + put(5, 6) + put(10, 7)) * 4 + bytes([12, 7]) + up + write + bytes([12, 7]) + write
    yield "outbound", bytes(1) + up + large + write * 2 + bytes([14, 1, 7, 0, 99, 9, 0, 50, 9, 1, 1, 9]) + ended
    yield "outbound", bytes(1) + up + some + write + bytes([14, 0, 0, 1, 0, 40, 9, 0, 50, 9, 1, 1, 9]) + replaced + up + bytes([15, 0]) + (put(0, 247) * 12) + bytes([15, 0])
    yield "outbound", bytes([9]) + up + some + write + ack + large + write * 2 + replaced + up + write
    begin = lambda how, total=0: bytes([15, 1, 0, how] + [total, 1] * (how // 3 % 2))
    more = lambda which, size: bytes([15, 1, 1, which, size])
    finish, abort = lambda which: bytes([15, 1, 5, which]), lambda which: bytes([15, 1, 7, which])
    yield "outbound", bytes(1) + up + begin(0) + begin(3, 9) + more(1, 40) + put(0, 9) + more(0, 9) + more(1, 244) + write * 3 + ack + finish(1) + finish(0) + write + ack
    yield "outbound", bytes(1) + begin(0) + more(0, 244) * 4 + up + write + again + up + write * 2 + ack + more(0, 241) + finish(0) + write * 3 + ack
    yield "outbound", bytes(1) + up + begin(0) + more(0, 244) + write * 2 + begin(0) + more(0, 5) + finish(0) + put(0, 3) + replaced + up + write * 2 + ack + begin(1) + more(0, 9) + finish(0) + write + ack
    yield "outbound", bytes(1) + up + begin(0) + more(0, 244) + begin(0) + more(0, 3) + write + abort(1) + abort(0) + write * 2 + ack + begin(0) + finish(0) + write + ack
    yield "outbound", bytes([7]) + up + (begin(2) + more(0, 9)) * 18 + write + ended + (begin(2) + more(0, 9) + finish(0)) * 9 + replaced + up + write * 2 + ack
    name = lambda lane, number: bytes([0, lane * 2, number, 3, 0, 0, 0, 0])
    message = lambda kind, lane, number, size, how=0: bytes([2, kind + lane * 8 + number * 32, size, 7, how])
    piece = lambda lane, twist, size, how=0, stream=0: bytes([4, lane, stream, twist, size] + [9] * (twist > 200) + [how])
    first = lambda lane, total, size, how=0, stream=0: bytes([4, lane, stream, 0, total, size, how])
    endless = lambda lane, stream, size, how: bytes([4, lane, stream, 1, size, how])
    yield "inbound", bytes(1) + name(0, 0) + name(0, 1) + name(1, 0) + message(0, 0, 1, 20) + message(1, 1, 0, 40, 2) + message(7, 2, 0, 3) + bytes([6, 255, 1, 9, 6])
    yield "inbound", bytes(1) + name(0, 0) + first(0, 250, 200, 3) + piece(0, 0, 100) + piece(0, 0, 240) + bytes([7, 1]) + piece(0, 0, 255) * 4 + message(0, 0, 0, 1) + bytes([7, 0])
    yield "inbound", bytes(1) + name(0, 0) + b"".join(first(0, 200, 90) + piece(0, 201 + n, 50) + bytes([9, 40, 0]) for n in range(5))
    yield "inbound", bytes([4]) + name(0, 0) * 2 + name(1, 0) + first(1, 255, 90) + (message(0, 0, 0, 255, 2) * 9) + bytes([6])
    for how in (0, 4, 8, 12, 7, 6):
        yield "inbound", bytes(1) + name(0, 0) + first(0, 250, 200, how, 1) + endless(0, 2, 99, how) + piece(0, 0, 100, 0, 1) + message(0, 0, 0, 9) + piece(0, 3, 7, how, 2) + piece(0, 206, 0, how, 1)
    yield "inbound", bytes(1) + name(0, 0) + b"".join(first(0, 240, 9, 4, 128 + n) for n in range(18)) + bytes([7, 0])
    yield "inbound", bytes(1) + name(0, 0) + endless(0, 1, 255, 0) + piece(0, 0, 255, 0, 1) * 3 + piece(0, 3, 0, 0, 1)
    yield "inbound", bytes(1) + bytes([5, 0, 0, 0, 7, 4, 1, 2, 3, 4, 0, 5, 0xC0, 0, 0, 4, 6, 0, 0, 0, 0, 97, 98, 0, 5, 0x80, 0, 0, 0, 1, 1, 0])
    start = bytes([13, 255])
    config = bytes([0, 0xFF, 10, 20, 30, 1, 0, 0])
    add = bytes([11, 0, 0])  # "a"
    tick = bytes([9, 0])
    dialled = start + add + tick + bytes([1, 0]) + bytes([2, 0, 2, 0, 1, 1]) + bytes([4, 0])
    accepted = bytes([0]) + bytes([2, 0, 2, 1, 2, 1]) + bytes([4, 0])
    legacy = bytes([0]) + bytes([2, 0, 0, 2])
    yield "cluster", config + dialled + tick + bytes([7, 0, 0])
    yield "cluster", config + start + accepted + bytes([0, 2, 1, 2, 1, 3, 1, 4, 1, 7, 0, 0, 7, 0, 1])
    yield "cluster", config + start + legacy + legacy + legacy + bytes([12, 2, 13, 0])
    for line in (b"GET /v1/members", b"GET /v1/members/a", b"GET /v1/health", b"GET /v1/definition", b"GET /v1/stats", b"GET /v1/stats/b",
                 b"GET /v1/events?snapshot=1", b"GET /v1/messages?subject=*", b"GET /v1/messages?subject=%237",
                 b"POST /v1/send?to=b&subject=news", b"POST /v1/broadcast?subject=%23-5", b"POST /v1/echo?to=b&size=32752&timeout_ms=5",
                 b"POST /v1/request?to=b&subject=s", b"POST /v1/request?all=1&subject=s&timeout_ms=9", b"POST /v1/send?to=b&subject=s&lane=bulk",
                 b"HEAD /v1/nothing", b"PUT /v1/send", b"PUT /v1/members/b?ip=127.0.0.1&port=1", b"DELETE /v1/members/b",
                 b"GET /v1/links", b"GET /v1/config"):
        yield "http", with_choices(line + b"\nb\xc3\xb6dy\xff\"\\", 0)
        yield "http", with_choices(line + b"\nbody " * 90, 0, 50, 0, 0, 2, 0, 3, 0, 4, 7, 7, 0, 2, 0, 0)


def main(directory):
    for number, (target, data) in enumerate(seeds()):
        os.makedirs(os.path.join(directory, target), exist_ok=True)
        with open(os.path.join(directory, target, "seed-%03d" % number), "wb") as f:
            f.write(data)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
