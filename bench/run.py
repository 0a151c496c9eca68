#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Run the benchmarks: cohort beside the peers to beat, in turns, in the same minutes on the same machine.

    bench/run.py [--bin DIR] [--quick] [--rows REGEX] [--rounds N] [--window-ms N]
    bench/run.py --list
    bench/run.py --show FILE

For each row and round every implementation runs once, one after the other, and the order turns with the round. A row's ratio
is the median over the rounds of that round's ratio, so that a busy moment of the machine hurts all alike. A ratio above 1
is cohort ahead, whatever the unit. Each end is a process, pinned to one CPU with all its threads. Writes a JSON file under
bench/results and prints the table. Exits 1 when a run failed: a lost, reordered or damaged message is a failure. A row that needs a
network of its own is left out, and said to be, where none can be made.
"""
import argparse
import datetime
import json
import os
import platform
import re
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import namedtuple

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
IMPLS = ("cohort", "raw", "zmq", "nng")
PEERS = IMPLS[1:]
TIMEOUT_S = 30

# kind      rate: the receivers measure, more is better; calls: the sender measures, more is better; latency: the sender measures;
#           memory: the first receiver measures
# cpus      1: both ends on the first CPU; 2: the sender on the first, the receivers on the second
# role      the programs play role[0] (receivers) and role[1] (the one that dials)
# also      details that get a line of their own in the table: name -> unit
# against   of cohort itself, in other roles, to be compared with: name -> roles; a ratio to each gets a line of its own in the table
# limits    details that may not be larger, of the programs that tell them
# network   shaped: a link between two network namespaces, see Shaped; else loopback
Row = namedtuple("Row", "name unit kind cpus role options receivers impls also limits network against",
                 defaults=({}, 1, IMPLS, {}, {}, None, {}))
FLOOD = ("flood-receive", "flood-send")
HANDLERS = ("pong-handlers", "ping-handlers")
APP = ("pong-app", "ping-app")
WAIT = ("reply-wait", "request-wait")
BESIDE = ("pong-beside", "ping-beside")
BESIDE_ALSO = {"times_idle": "x", "any_moment_us": "us", "stream_mib_s": "MiB/s"}
STEADY = {"allocations_each": 0.001, "other_allocations_each": 0.001}  # of the end that measures, and of the other
SHAPED = "rate 1gbit burst 128kb limit 4mb"
ROWS = [
    Row("one-way-64", "msg/s", "rate", 2, FLOOD, limits=STEADY),
    Row("one-way-64-1cpu", "msg/s", "rate", 1, FLOOD),
    Row("one-way-64-copied", "msg/s", "rate", 2, ("flood-receive", "flood-send-copied")),
    Row("one-way-64-4-threads", "msg/s", "rate", 2, FLOOD, {"threads": 4}),
    Row("one-way-64-queued", "msg/s", "rate", 2, ("flood-receive-queued", "flood-send"), impls=("cohort",),
        limits=STEADY, against={"inline": FLOOD}),
    Row("one-way-64-pool", "msg/s", "rate", 2, ("flood-receive-pool", "flood-send"), impls=("cohort",),
        limits=STEADY, against={"inline": FLOOD}),
    Row("one-way-1024", "msg/s", "rate", 2, FLOOD, {"bytes": 1024}),
    Row("one-way-65536", "msg/s", "rate", 2, FLOOD, {"bytes": 65536}),
    Row("one-way-1048576", "msg/s", "rate", 2, FLOOD, {"bytes": 1048576}),
    Row("one-way-1048576-copied", "msg/s", "rate", 2, ("flood-receive", "flood-send-copied"), {"bytes": 1048576}),
    Row("round-trip-64-handlers-1cpu", "us", "latency", 1, HANDLERS),
    Row("round-trip-64-handlers-2cpu", "us", "latency", 2, HANDLERS),
    Row("round-trip-64-app-thread-1cpu", "us", "latency", 1, APP),
    Row("round-trip-64-app-thread-2cpu", "us", "latency", 2, APP),
    Row("request-pipelined-64", "req/s", "calls", 2, ("reply-pipelined", "request-pipelined"), {"depth": 64}, limits=STEADY),
    Row("request-wait-64-1cpu", "us", "latency", 1, WAIT),
    Row("request-wait-64-2cpu", "us", "latency", 2, WAIT),
    Row("round-trip-64-during-stream", "us", "latency", 2, BESIDE, impls=("cohort", "raw", "zmq"), also=BESIDE_ALSO),
    Row("round-trip-64-during-stream-1gbit", "us", "latency", 2, BESIDE, impls=("cohort", "raw", "zmq"), also=BESIDE_ALSO,
        network=SHAPED),
    Row("broadcast-64-8-peers", "msg/s", "rate", 2, ("broadcast-receive", "broadcast-send"), {}, 8),
    Row("idle-100-peers", "B/peer", "memory", 2, ("idle-hub", "idle-peers"), {"peers": 100, "window_ms": 300}, 1,
        ("cohort", "zmq", "nng"), also={"idle_cpu_ms": "ms"}),
]


class Failure(Exception):
    pass


# ---- one run ---------------------------------------------------------------------------------------------------------


class Program:
    """A benchmark program that was started; it stays until end() closes its standard input."""

    def __init__(self, argv):
        self.name = " ".join(os.path.basename(word) for word in argv)
        self.errors = tempfile.TemporaryFile()
        self.rest = b""
        self.also = {}  # what it said besides its result
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)

    def fail(self, why):
        self.errors.seek(0)
        text = self.errors.read().decode(errors="replace").strip()
        raise Failure("%s: %s%s" % (self.name, why, "\n    " + text if text else ""))

    def line(self, deadline):
        while b"\n" not in self.rest:
            if not select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                self.fail("no answer within %d s" % TIMEOUT_S)
            piece = os.read(self.process.stdout.fileno(), 4096)
            if not piece:
                self.fail("exited %s" % self.process.wait())
            self.rest += piece
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode()

    def end(self):
        self.process.stdin.close()
        try:
            status = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        if status != 0:
            self.fail("exited %d" % status)
        for line in (self.rest + self.process.stdout.read()).decode().splitlines():
            if line.startswith("also "):
                self.also.update(pairs(line.split()[1:]))

    def abandon(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.errors):
            file.close()


def free_ports(count):
    """Ports that nobody uses now. SO_REUSEADDR lets the program bind at once."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def pairs(words):
    return {key: float(value) for key, value in (word.split("=") for word in words)}


def parse_result(line, program):
    words = line.split()
    if len(words) < 2 or words[0] != "result":
        program.fail("said %r" % line)
    return float(words[1]), pairs(words[2:])


# ---- a network of its own --------------------------------------------------------------------------------------------


class Unshaped(Exception):
    """Why there is no shaped network here."""


class Shaped:
    """Two network namespaces joined by a veth pair, what leaves either limited by tc-tbf(8): as root, or as root of a user
    namespace. They live as long as the two programs that wait in them, and so are gone with us, however we end."""

    HOSTS = ("10.77.0.1", "10.77.0.2")  # of the sender, of the receivers

    def __init__(self, shape):
        self.waiting = []
        try:
            why = None
            for self.own_user, way in ((False, ["-n"]), (True, ["-Urn"])):
                why = self.hold(["unshare", *way])
                if why is None:
                    break
            if why is None:
                why = self.hold([*self.enter(0), "unshare", "-n"])
            if why is not None:
                raise Unshaped(why)
            for command in ("ip link add v0 type veth peer name v1", "ip link set v1 netns %d" % self.waiting[1].pid):
                self.run(0, command)
            for i, device in enumerate(("v0", "v1")):
                for command in ("ip link set lo up", "ip addr add %s/24 dev %s" % (self.HOSTS[i], device),
                                "ip link set %s up" % device, "tc qdisc add dev %s root tbf %s" % (device, shape)):
                    self.run(i, command)
        except Unshaped:
            self.close()
            raise

    def hold(self, argv):
        """Start a program that waits where argv leads; why that failed, or None."""
        try:
            process = subprocess.Popen([*argv, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except OSError as e:
            return "%s: %s" % (argv[0], e.strerror)
        try:
            process.stdin.write(b"there\n")
            process.stdin.flush()
            if process.stdout.readline() == b"there\n":
                self.waiting.append(process)
                return None
        except BrokenPipeError:
            pass
        return "%s: %s" % (" ".join(argv), process.communicate()[1].decode(errors="replace").strip() or process.returncode)

    def enter(self, i):
        """What to put before a command that is to run in one of the two."""
        user = ["-U", "--preserve-credentials"] if self.own_user else []
        return ["nsenter", "-t", str(self.waiting[i].pid), *user, "-n"]

    def run(self, i, command):
        try:
            p = subprocess.run([*self.enter(i), *command.split()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, timeout=TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as e:
            raise Unshaped(str(e)) from e
        if p.returncode != 0:
            raise Unshaped("%s: %s" % (command, p.stdout.decode(errors="replace").strip() or p.returncode))

    def close(self):
        for process in reversed(self.waiting):
            process.stdin.close()
            process.wait()
            process.stdout.close()
            process.stderr.close()


def run_once(impl, row, setup, network):
    """Value and details of one run."""
    *ports, own = free_ports(row.receivers + 1)
    options = {"warm_ms": setup.warm_ms, "window_ms": setup.window_ms, **row.options}
    if network:
        options.update(own_host=network.HOSTS[0], host=network.HOSTS[1])
    words = ["%s=%s" % pair for pair in options.items()]
    roles = row.against.get(impl, row.role)
    command = os.path.join(setup.bin, "bench-" + ("cohort" if impl in row.against else impl))
    deadline = time.monotonic() + TIMEOUT_S
    receivers, started = [], []

    def start(role, listed, cpu):
        where = network.enter(role == roles[0]) if network else []
        program = Program([*where, command, role, "cpu=%d" % cpu, "ports=" + ",".join(map(str, listed)), "own=%d" % own, *words])
        started.append(program)
        return program

    try:
        for port in ports:
            receivers.append(start(roles[0], [port], setup.cpus[row.cpus - 1]))
        for program in receivers:
            if program.line(deadline) != "ready":
                program.fail("is not ready")
        sender = start(roles[1], ports, setup.cpus[0])
        measuring = [sender] if row.kind in ("latency", "calls") else receivers
        results = [parse_result(p.line(deadline), p) for p in measuring]
        # Those that did not measure go first: one that did takes no notice of a connection that ends.
        for program in [p for p in started if p not in measuring] + measuring:
            program.end()
        details = dict(results[0][1])
        for program in started:
            details.update(program.also)
        return sum(value for value, _ in results), details
    finally:
        for program in started:
            program.abandon()


# ---- rows ------------------------------------------------------------------------------------------------------------


def busy_s():
    """Seconds that all CPUs together were busy since boot, and our children's part once they were waited for."""
    with open("/proc/stat", encoding="ascii") as f:
        t = [int(word) for word in f.readline().split()[1:]]
    ours = os.times()
    hertz = os.sysconf("SC_CLK_TCK")
    return (t[0] + t[1] + t[2] + t[5] + t[6]) / hertz, ours.user + ours.system + ours.children_user + ours.children_system


def ratio(row, ours, theirs):
    return (ours / theirs if theirs else None) if row.kind in ("rate", "calls") else (theirs / ours if ours else None)


def median(values):
    return statistics.median(values) if values else None


def medians(dictionaries):
    """Of dictionaries with the same keys."""
    return {key: median([d[key] for d in dictionaries if key in d]) for key in dict.fromkeys(k for d in dictionaries for k in d)}


def run_row(row, setup, failures, network):
    rounds = []  # per round: impl -> value
    impls = row.impls + tuple(row.against)
    details = {impl: [] for impl in impls}
    broken = set()
    busy, ours = busy_s()
    start = time.monotonic()
    for n in range(setup.rounds):
        values = {}
        for i in range(len(impls)):
            impl = impls[(i + n) % len(impls)]
            try:
                values[impl], detail = run_once(impl, row, setup, network)
                details[impl].append(detail)
                for key, most in row.limits.items():
                    if detail.get(key, 0) > most:  # the figure stands, but the run has failed
                        failures.append("%s, %s: %s is %g, more than %g" % (row.name, impl, key, detail[key], most))
                        print("\nFAILED " + failures[-1], file=sys.stderr, flush=True)
            except Failure as failure:
                failures.append("%s, %s: %s" % (row.name, impl, failure))
                print("\nFAILED " + failures[-1], file=sys.stderr, flush=True)
                broken.add(impl)
        rounds.append(values)
    busy_after, ours_after = busy_s()
    elapsed = time.monotonic() - start
    out = {"row": row.name, "unit": row.unit, "cpus": row.cpus, "rounds": setup.rounds}
    for impl in (*IMPLS, *row.against):
        good = [] if impl in broken else [v[impl] for v in rounds if impl in v]
        out[impl] = median(good)
    out["ratio"] = {}
    for peer in (*PEERS, *row.against):
        usable = not {"cohort", peer} & broken
        both = [ratio(row, v["cohort"], v[peer]) for v in rounds if usable and "cohort" in v and peer in v]
        out["ratio"][peer] = median([r for r in both if r is not None])
    out["against"] = list(row.against)
    out["details"] = {impl: medians(details[impl]) for impl in impls if impl not in broken}
    if any("p99" in d for d in out["details"].values()):
        out["p99"] = {impl: d.pop("p99") for impl, d in out["details"].items()}
    if row.also:
        out["also"] = row.also
    out["spread"] = {impl: spread([v[impl] for v in rounds if impl in v]) for impl in impls}
    out["others_busy_cpus"] = round(max(0.0, (busy_after - busy) - (ours_after - ours)) / elapsed, 3)
    return out


def spread(values):
    """Highest over lowest of the rounds: how far one run can be trusted."""
    return round(max(values) / min(values), 3) if values and min(values) > 0 else None


# ---- output ----------------------------------------------------------------------------------------------------------


def shown(value, unit):
    if value is None:
        return "-"
    if unit in ("msg/s", "req/s"):
        return "%.3g M" % (value / 1e6) if value >= 1e6 else "%.3g k" % (value / 1e3) if value >= 1e4 else "%.4g" % value
    return "%.0f" % value if value >= 1000 else "%.3g" % value


def cells(row):
    """The lines of a row: its figures, and those details that are to be shown."""
    return [[row["row"], row["unit"]] + [shown(row.get(impl), row["unit"]) for impl in IMPLS]
            + ["-" if row["ratio"].get(peer) is None else "%.2f" % row["ratio"][peer] for peer in PEERS]] + [
                ["- " + key, unit] + [shown(row["details"].get(impl, {}).get(key), unit) for impl in IMPLS] + [""] * len(PEERS)
                for key, unit in row.get("also", {}).items()] + [
                ["- of %s (%s)" % (name, shown(row.get(name), row["unit"])), "x",
                 "-" if row["ratio"].get(name) is None else "%.2f" % row["ratio"][name]] + [""] * (len(IMPLS) - 1 + len(PEERS))
                for name in row.get("against", [])]


def table(rows):
    head = ["row", "unit", *IMPLS, *("to " + peer for peer in PEERS)]
    lines = [head] + [line for row in rows for line in cells(row)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    def text(line):
        return "| " + " | ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))) + " |"
    rule = "|" + "|".join("-" * (w + 2) if i < 2 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([text(head), rule] + [text(line) for line in lines[1:]])


def first_match(path, pattern, default):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            match = re.search(pattern, f.read(), re.M)
    except OSError:
        match = None
    return match.group(1).strip() if match else default


def machine(setup):
    return {
        "cpu": first_match("/proc/cpuinfo", r"^model name\s*:\s*(.*)$", platform.machine()),
        "cpus": os.cpu_count(),
        "pinned_to": setup.cpus,
        "memory_kib": int(first_match("/proc/meminfo", r"^MemTotal:\s*(\d+)", "0")),
        "kernel": platform.release(),
        "system": first_match("/etc/os-release", r'^PRETTY_NAME="?([^"\n]*)', platform.system()),
    }


def commit():
    def git(*words):
        return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=False).stdout.strip()
    try:
        head = git("rev-parse", "--short=12", "HEAD") or "unknown"
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "src", "include", "bench")
    except OSError:
        return "unknown"
    return head + ("-dirty" if changed else "")


def write_results(results):
    directory = os.path.join(HERE, "results")
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, results["time"].replace(":", "").replace("-", "") + ".json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(results, f, indent=1)
        f.write("\n")
    return path


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.path.join(ROOT, "build-release", "bench"), help="where the benchmark programs are")
    parser.add_argument("--quick", action="store_true", help="one short round: for development, not for comparison")
    parser.add_argument("--rows", default="", metavar="REGEX", help="only the rows whose name contains a match")
    parser.add_argument("--rounds", type=int, help="default 5, quick 1")
    parser.add_argument("--window-ms", type=int, help="measured time of a run; default 1000, quick 250")
    parser.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("--show", metavar="FILE", help="print the table of a results file")
    setup = parser.parse_args()
    setup.rounds = setup.rounds or (1 if setup.quick else 5)
    setup.window_ms = setup.window_ms or (250 if setup.quick else 1000)
    setup.warm_ms = 100 if setup.quick else 200
    cpus = sorted(os.sched_getaffinity(0))
    setup.cpus = [cpus[0], cpus[1]] if len(cpus) > 1 else [cpus[0]]
    return setup


def main():
    setup = arguments()
    if setup.show:
        with open(setup.show, encoding="utf-8") as f:
            print(table(json.load(f)["rows"]))
        return 0
    rows = [row for row in ROWS if re.search(setup.rows, row.name)]
    if setup.list or not rows:
        print("\n".join(row.name for row in (rows or ROWS)))
        return 0 if rows else 2
    if len(setup.cpus) < 2:
        print("bench: one CPU only: rows that need two are left out", file=sys.stderr)
        rows = [row for row in rows if row.cpus == 1]
    failures = []
    results = {"machine": machine(setup), "commit": commit(), "quick": setup.quick,
               "time": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
               "window_ms": setup.window_ms, "warm_ms": setup.warm_ms, "rows": [], "left_out": {}}
    start = time.monotonic()
    for row in rows:
        print("bench: %-34s" % row.name, end="", flush=True)
        try:
            network = Shaped(row.network) if row.network else None
        except Unshaped as why:
            results["left_out"][row.name] = "needs network namespaces (root, or unshare -Urn) and tc: %s" % why
            print(" left out: " + results["left_out"][row.name], flush=True)
            continue
        try:
            out = run_row(row, setup, failures, network)
        finally:
            if network:
                network.close()
        results["rows"].append(out)
        print(" %s %s; others kept %.2f CPUs busy" % (shown(out["cohort"], row.unit), row.unit, out["others_busy_cpus"]), flush=True)
    results["failures"] = failures
    results["seconds"] = round(time.monotonic() - start, 1)
    path = write_results(results)
    print("\n%s\n\n%.0f s; a ratio above 1 is cohort ahead; written to %s" % (table(results["rows"]), results["seconds"],
                                                                         os.path.relpath(path)))
    for name, why in results["left_out"].items():
        print("left out: %s: %s" % (name, why), file=sys.stderr)
    if failures:
        print("%d runs FAILED, see above" % len(failures), file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
