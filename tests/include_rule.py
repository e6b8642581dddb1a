#!/usr/bin/env python3
"""Tidiness as a test: what no compiler checks.

  include_rule.py ROOT

A room under src/ includes only itself and rooms above it; no tracked file is larger than a person
would want; no text names a path of somebody's machine. First it checks itself: a tree with one of
each fault must be reported.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

# As in src/CMakeLists.txt and the architecture document, top to bottom.
ROOMS = """base simd tensor kernels codecs formats tokenizers grammar chat memory cache parallel ops models
planner scheduler engine server trainer compress loadtest analysis api cli""".split()
# Rooms that may not be included although they stand above.
FORBIDDEN = {"trainer": {"scheduler", "engine", "server"}}

MAX_FILE_BYTES = 8 << 20
MAX_SOURCE_LINES = 700
SOURCE = {".h", ".cc", ".inc", ".py", ".sh", ".cmake"}

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"/]+)/[^"]*"', re.MULTILINE)
# Spelt in pieces, so that this file passes.
MACHINE_PATH = re.compile(r"(?<![\w./}-])/(?:" + "|".join(["work", "tm" + "p", "ro" + "ot", "ho" + "me"]) + r")/[\w.]+")


def tracked_files(root):
    """Paths relative to root; without git, whatever lies there outside build folders."""
    git = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True)
    if git.returncode == 0 and git.stdout:
        return [f for f in git.stdout.decode().split("\0") if f and (root / f).is_file()]
    found = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [s for s in subfolders if s not in ("build", ".git", "__pycache__")]
        found += [str(pathlib.Path(folder, f).relative_to(root)) for f in files]
    return found


def include_faults(path, text):
    parts = path.split("/")
    if parts[0] != "src" or len(parts) < 3:
        return []
    room = parts[1]
    if room not in ROOMS:
        return [f"{path}: src/{room} is not a room of the design"]
    faults = []
    for match in INCLUDE.finditer(text):
        other = match.group(1)
        line = text[: match.start(1)].count("\n") + 1
        if other not in ROOMS:
            faults.append(f"{path}:{line}: includes {other}/, which is no room")
        elif ROOMS.index(other) > ROOMS.index(room) or other in FORBIDDEN.get(room, ()):
            faults.append(f"{path}:{line}: {room} may not include {other}, which stands below it")
    return faults


def faults_of(root):
    faults = []
    for path in sorted(tracked_files(root)):
        data = (root / path).read_bytes()
        if len(data) > MAX_FILE_BYTES:
            faults.append(f"{path}: {len(data)} bytes, at most {MAX_FILE_BYTES}")
        if b"\0" in data[:8192]:
            continue
        text = data.decode("utf-8", "replace")
        is_source = pathlib.Path(path).suffix in SOURCE
        if is_source and text.count("\n") > MAX_SOURCE_LINES:
            faults.append(f"{path}: {text.count(chr(10))} lines, at most {MAX_SOURCE_LINES}; split it")
        if is_source:
            faults += include_faults(path, text)
        for match in MACHINE_PATH.finditer(text):
            line = text[: match.start()].count("\n") + 1
            faults.append(f"{path}:{line}: names a path of one machine: {match.group(0)}")
    return faults


def check_self():
    slash = "/"
    tree = {
        "src/base/a.h": '#include "kernels/x/x.h"\n',
        "src/trainer/a.cc": '#include "engine/engine.h"\n',
        "src/cli/a.cc": '#include "attic/a.h"\n',
        "src/attic/a.cc": "",
        "src/ops/long.cc": "\n" * (MAX_SOURCE_LINES + 1),
        "docs/a.md": f"run {slash}tmp{slash}venturi\n",
        "models/a.bin": "x" * (MAX_FILE_BYTES + 1),
    }
    clean = {"src/cli/b.cc": '#include "base/file.h"\n#include <vector>\n', "docs/b.md": "see src/tmp/x and https://a/tmp/x\n"}
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for path, text in {**tree, **clean}.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        reported = {fault.split(":")[0] for fault in faults_of(root)}
    if reported != set(tree):
        sys.exit(f"include_rule.py does not see what it should: {reported ^ set(tree)}")


def main():
    check_self()
    faults = faults_of(pathlib.Path(sys.argv[1]).resolve())
    print("\n".join(faults) or "tidy")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
