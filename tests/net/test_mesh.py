#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""cohort demo --nodes: a full mesh in one process. What it measures is not judged here, only what it must have seen."""
import json
import os
import resource
import subprocess
import unittest

from harness import BIN, BOUND_S, SANITIZED, SANITIZER

NODES = 8 if SANITIZED else 20


def demo(*args, **kwargs):
    p = subprocess.run([*kwargs.pop("prefix", []), BIN, "demo", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=4 * BOUND_S,
                       check=False, **kwargs)
    return p.returncode, p.stdout.decode(), p.stderr.decode()


class MeshTest(unittest.TestCase):
    def mesh(self, nodes, *args):
        status, out, err = demo("--nodes", str(nodes), "--json", "--idle", "0", *args)
        self.assertIsNone(SANITIZER.search(err), err)
        self.assertEqual((status, err), (0, ""))
        return json.loads(out)

    def test_full_mesh(self):
        for loops in ("1", "3"):
            value = self.mesh(NODES, "--loops", loops)
            self.assertIs(value["ok"], True)
            self.assertEqual(value["nodes"], NODES)
            self.assertEqual(value["loops"], int(loops))
            self.assertEqual(value["links"], NODES * (NODES - 1) // 2)
            self.assertEqual(value["messages"], NODES * (NODES - 1))
            self.assertGreaterEqual(value["dials"], value["links"] + value["crossed"])
            self.assertGreater(value["full_mesh_ms"], 0)
            self.assertGreater(value["bytes_per_link_end"], 0)

    def test_the_smallest(self):
        self.assertEqual(self.mesh(2)["links"], 1)

    def test_as_text(self):
        status, out, err = demo("--nodes", "3", "--idle", "1")
        self.assertEqual((status, err), (0, ""))
        for line in ("full mesh after", "a link end", "6 messages arrived", "Idle for 1 s"):
            self.assertIn(line, out)

    def test_too_few_descriptors_are_explained(self):
        # root could raise the hard limit: not without this capability
        prefix = ["setpriv", "--inh-caps=-sys_resource", "--bounding-set=-sys_resource"] if os.geteuid() == 0 else []
        status, out, err = demo("--nodes", "100", prefix=prefix,
                                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)))
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(err.count("\n"), 1)
        self.assertIn("100 nodes in one process need 10064 descriptors, this process may have 200", err)
        self.assertIn("at most 11 nodes", err)

    def test_the_limit_is_raised_as_far_as_it_may(self):
        status, out, err = demo("--nodes", "10", "--json", "--idle", "0",
                                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 1000)))
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(json.loads(out)["links"], 45)

    def test_wrong_usage(self):
        for args in (["--nodes", "1"], ["--nodes", "1001"], ["--nodes", "4", "--keep"], ["--nodes", "4", "--agents", "3"], ["--json"],
                     ["--agents", "21"], ["--nodes", "4", "--loops", "0"]):
            status, out, err = demo(*args)
            self.assertEqual((status, out), (2, ""), args)
            self.assertIn("cohort demo --help", err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
