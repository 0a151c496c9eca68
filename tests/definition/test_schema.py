#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema of the cluster definition and the reader in C say the same.

good/    both accept
bad/     both reject
beyond/  the reader rejects what a schema cannot express

and so for each value of the tables below in the place of one key of a good file.
"""
import glob
import json
import os
import subprocess
import tempfile
import unittest

import jsonschema

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.environ.get("COHORT_BIN", "")
SCHEMA = os.environ.get("SCHEMA") or os.path.join(HERE, "..", "..", "src", "definition", "cluster.schema.json")

# key: (good values, bad values)
WRONG_TYPES = [None, True, 5, 5.5, [], {}, ["a"]]
VALUES = {
    "cluster": (["", "a", "A.b_c-9", "x" * 64], ["a b", "x" * 65, "a/b", "\u00e4", "a\n", *WRONG_TYPES]),
    "id": (["a", "127.0.1.1", "A.b_c-9", "-", "x" * 64], ["", "a b", "a:b", "x" * 65, "\u00e4", "a\n", *WRONG_TYPES]),
    "ip": (["10.0.0.1", "255.255.255.255", "1.0.0.0", "0.0.0.1",
            "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::8", "1:2::7:8", "ABCD::ef01", "::1.2.3.4", "1:2:3:4:5:6:1.2.3.4",
            "1::1.2.3.4", "1:2:3:4:5::1.2.3.4", "1::2:3:4:5:1.2.3.4", "::2:3:4:5:6:1.2.3.4", "0:0:0:0:0:0:0:1", "fe80::1", "::ffff:10.0.0.1", "1:2:3::6:7:8",
            "a", "localhost", "host.example.org", "host.example.org.", "my_host", "1a", "a.1b", "xn--nxasmq6b.example", "x" * 63 + ".y",
            "1.2.3.a", "a--b", ".".join(["x" * 63] * 3 + ["y" * 61]), ".".join(["x" * 63] * 3 + ["y" * 61]) + ".", "Host", "::0.0.0.1"],
           ["", " ", "0.0.0.0", "::", "0::0", "0:0:0:0:0:0:0:0", "::0.0.0.0", "0000::", "300.1.1.1", "1.2.3", "127.1", "1", "01.2.3.4", "1.2.3.4.5", "10.0.0.1/32",
            "10.0.0.1:80", "0x7f.1", "a.0x1", "a.5", "a.5.", ":::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "12345::", "g::",
            "::1%eth0", "fe80::1%lo", "[::1]", "1:2:3:4:5:6:7:1.2.3.4", "1:2:3:4:5:6::1.2.3.4", "1.2.3.4::", "::1.2.3", "::01.2.3.4", ":1", "1:",
            "-a", "a-", "a.-b", "a-.b", "a..b", ".a", ".", "..", "a b", "a,b", "a/b", "\u00e4", "x" * 64, ".".join(["x" * 63] * 3 + ["y" * 62]), "a\n", "10.0.0.1\n",
            *WRONG_TYPES]),
    "tcpPort": ([1, 80, 9876, 65535], [0, -1, 65536, 10 ** 18, 9876.5, "9876", None, True, [], {}]),
    "bind": (["0.0.0.0", "::", "10.0.0.1", "::1", "0:0::0", "::ffff:0.0.0.0"], ["", "localhost", "host.example", "1.2.3", "10.0.0.1:80", "::1%lo", "::\n", *WRONG_TYPES]),
}


def place(key, value):
    node = {"id": "n", "ip": "192.0.2.1"}
    root = {"nodes": [node, {"id": "other", "ip": "192.0.2.2", "tcpPort": 77}]}
    (root if key == "cluster" else node)[key] = value
    return root


class SchemaTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with open(SCHEMA, encoding="utf-8") as f:
            cls.schema = json.load(f)
        cls.validator = jsonschema.Draft202012Validator(cls.schema)

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="cohort-schema-")
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "c.json")

    def reader(self, path):
        """(accepted, what it said)"""
        p = subprocess.run([BIN, "definition", "check", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, timeout=60)
        self.assertIn(p.returncode, (0, 1), p)
        return p.returncode == 0, (p.stdout + p.stderr).decode(errors="replace").strip()

    def check(self, path, schema_says, reader_says):
        with open(path, encoding="utf-8") as f:
            value = json.load(f)
        errors = [e.message for e in self.validator.iter_errors(value)]
        accepted, said = self.reader(path)
        self.assertEqual(not errors, schema_says, "schema, of %s: %s" % (path, errors))
        self.assertEqual(accepted, reader_says, "reader: %s" % said)
        if not accepted:
            self.assertRegex(said, r"\A%s:\d+:\d+: [^\n]+\Z" % path.replace(".", r"\."))

    def files(self, kind, *verdicts):
        paths = sorted(glob.glob(os.path.join(HERE, kind, "*.json")))
        self.assertGreaterEqual(len(paths), 5, kind)
        for path in paths:
            with self.subTest(path=os.path.basename(path)):
                self.check(path, *verdicts)

    def test_schema_is_one(self):
        jsonschema.Draft202012Validator.check_schema(self.schema)
        for example in self.schema["examples"]:
            self.validator.validate(example)

    def test_good(self):
        self.files("good", True, True)

    def test_bad(self):
        self.files("bad", False, False)

    def test_beyond(self):
        self.files("beyond", True, False)

    def test_values(self):
        for key, lists in VALUES.items():
            for good, values in zip((True, False), lists):
                for value in values:
                    with self.subTest(key=key, value=value):
                        with open(self.path, "w", encoding="utf-8") as f:
                            json.dump(place(key, value), f)
                        self.check(self.path, good, good)

    def test_number_of_nodes(self):
        for count in (1024, 1025):
            with open(self.path, "w", encoding="utf-8") as f:
                json.dump({"nodes": [{"id": "n%d" % i, "ip": "10.0.%d.%d" % (i // 250, i % 250 + 1)} for i in range(count)]}, f)
            self.check(self.path, count <= 1024, count <= 1024)

    def test_what_is_written_is_valid(self):
        """What `cohort definition add` and `set` write, starting from nothing."""
        def cohort(*args):
            subprocess.run([BIN, "definition", *args], check=True, timeout=60)
        cohort("add", self.path, "a", "10.0.0.1", "--create")
        cohort("add", self.path, "b", "0::1", "--port", "7", "--bind", "::")
        cohort("add", self.path, "c", "Host.Example")
        cohort("set", self.path, "a", "--port", "8")
        self.check(self.path, True, True)
        with open(self.path, encoding="utf-8") as f:
            self.assertEqual(json.load(f), {"nodes": [{"id": "a", "ip": "10.0.0.1", "tcpPort": 8},
                                                      {"id": "b", "ip": "::1", "tcpPort": 7, "bind": "::"},
                                                      {"id": "c", "ip": "host.example", "tcpPort": 9876}]})


if __name__ == "__main__":
    unittest.main(verbosity=2)
