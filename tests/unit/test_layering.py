#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The arrows between the layers, as the #include lines draw them.

usage: test_layering.py SOURCE_ROOT

A file of src/<layer>/ may include headers of its own layer and of those below it; agent/, cli/ and examples/ only what is
installed, and cli/ the agent's too, both being one program. The compiler's include paths say much the same, but not of a relative path, and not in the words of the rule broken.
"""
import pathlib
import re
import sys

BELOW = {
    "base": set(),
    "wire": {"base"},
    "core": {"base", "wire"},
    "definition": {"base"},
    "channel": {"base"},
    "io": {"base"},
    "node": {"base", "wire", "core", "definition", "channel", "io"},
}
OUTSIDE = {"agent": ["agent"], "cli": ["cli", "agent"], "examples": ["examples"]}  # of src/ they see nothing
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def includes(path):
    """(line, written with quotes, name) of every #include."""
    text = path.read_text(encoding="utf-8")
    for match in INCLUDE.finditer(text):
        line = text.count("\n", 0, match.start(2)) + 1
        yield line, match.group(1) == '"', match.group(2)


def sources(directory):
    return sorted(p for p in directory.rglob("*") if p.suffix in (".c", ".h") and p.is_file())


def layer_defect(layer, name, quoted):
    top = name.split("/")[0]
    if not quoted:
        return f"<{name}> is ours and not installed" if top in BELOW else None
    if "/" not in name or name.startswith("."):
        return f'"{name}" does not name its layer'
    if top not in BELOW:
        return f'"{name}" is in no layer'
    if top != layer and top not in BELOW[layer]:
        return f'{layer} may not see "{name}"'
    return None


def outside_defect(seen, path, root, name, quoted):
    if not quoted:
        return f"<{name}> is not installed" if name.split("/")[0] in BELOW and (root / "src" / name).exists() else None
    found = [d / name for d in [path.parent] + [root / s for s in seen] if (d / name).exists()]
    if any(f.resolve().is_relative_to((root / s).resolve()) for f in found for s in seen):
        return None
    return f'"{name}" is neither its own nor <cohort/...>'


def main():
    root = pathlib.Path(sys.argv[1])
    bad, count = [], 0
    layers = sorted(p.name for p in (root / "src").iterdir() if p.is_dir())
    for layer in layers:
        if layer not in BELOW:
            bad.append(f"src/{layer}: a layer that this test does not know")
            continue
        for path in sources(root / "src" / layer):
            count += 1
            for line, quoted, name in includes(path):
                defect = layer_defect(layer, name, quoted)
                if defect:
                    bad.append(f"{path.relative_to(root)}:{line}: {defect}")
    for directory, seen in OUTSIDE.items():
        for path in sources(root / directory):
            count += 1
            for line, quoted, name in includes(path):
                defect = outside_defect(seen, path, root, name, quoted)
                if defect:
                    bad.append(f"{path.relative_to(root)}:{line}: {defect}")
    for path in sources(root / "include"):
        count += 1
        for line, quoted, name in includes(path):
            if quoted or name.split("/")[0] in BELOW:
                bad.append(f'{path.relative_to(root)}:{line}: "{name}" in an installed header')
    print("\n".join(bad + [f"{count} files, {len(bad)} includes against the arrows"]))
    if count < 20:
        sys.exit("hardly any files: this is not the source tree")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
