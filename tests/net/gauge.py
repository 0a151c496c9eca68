# SPDX-License-Identifier: Apache-2.0
"""What a process uses, read from /proc: memory, processor time, descriptors. Linux only."""
import os
import re
import time
from collections import Counter

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
TCP_LISTEN = "0A"
UNIX_CONNECTED = "03"

QUIET_WINDOW_S = 0.4
QUIET_SHARE_MAX = 0.2  # of one processor: a thread that spins takes at least half of one, even on a loaded machine


def memory_kib(pid):
    """Its own memory, without files mapped."""
    with open("/proc/%d/status" % pid, encoding="ascii") as f:
        return int(re.search(r"RssAnon:\s+(\d+) kB", f.read()).group(1))


def memory_peak_kib(pid):
    with open("/proc/%d/status" % pid, encoding="ascii") as f:
        return int(re.search(r"VmHWM:\s+(\d+) kB", f.read()).group(1))


def processor_s(pid):
    """User and system time of all its threads."""
    with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def wait_quiet(pid, timeout):
    """Wait for a window in which it hardly used the processor; fail when there is none. One that spins has none."""
    deadline = time.monotonic() + timeout
    while True:
        used, start = processor_s(pid), time.monotonic()
        time.sleep(QUIET_WINDOW_S)  # the measurement itself
        share = (processor_s(pid) - used) / (time.monotonic() - start)
        if share <= QUIET_SHARE_MAX:
            return
        if time.monotonic() > deadline:
            raise AssertionError("process %d spins: %d %% of a processor" % (pid, share * 100))


def _socket_states(pid, table, inode_column, state_column):
    """{inode: state} of the sockets in its network namespace."""
    states = {}
    try:
        with open("/proc/%d/net/%s" % (pid, table), encoding="ascii", errors="replace") as f:
            next(f)
            for line in f:
                columns = line.split()
                states[columns[inode_column]] = columns[state_column]
    except FileNotFoundError:
        pass  # no IPv6 here
    return states


class Descriptors:
    """Those of a process: TCP connections, connected Unix sockets, and the rest by kind."""

    def __init__(self, pid):
        targets = []
        folder = "/proc/%d/fd" % pid
        for name in os.listdir(folder):
            try:
                targets.append(os.readlink(os.path.join(folder, name)))
            except FileNotFoundError:
                pass  # closed meanwhile
        tcp = _socket_states(pid, "tcp", 9, 3)
        tcp.update(_socket_states(pid, "tcp6", 9, 3))
        unix = _socket_states(pid, "unix", 6, 5)
        self.connections = self.clients = 0
        self.rest = Counter()
        for target in targets:
            inode = target[8:-1] if target.startswith("socket:[") else None
            if inode in tcp and tcp[inode] != TCP_LISTEN:
                self.connections += 1
            elif unix.get(inode) == UNIX_CONNECTED:
                self.clients += 1
            elif inode and inode not in tcp and inode not in unix:
                # A connection that has just ended, or is not bound yet, is in no table.
                self.connections += 1
            else:
                self.rest[re.sub(r":\[?\d+\]?$", "", target)] += 1
