"""A memory cgroup for one process, of whichever version the machine offers."""
import os
from pathlib import Path


class MemoryCgroup:
    """Made with a limit in bytes; join() is called in the process that is to be held. OSError where it cannot be made."""

    def __init__(self, folder, limit, names):
        self.folder, self.names = folder, names
        folder.mkdir()
        try:
            for name in names["swap"]:  # what is swapped out would not count
                if (folder / name).exists():
                    (folder / name).write_text("0")
            (folder / names["limit"]).write_text(str(limit))
        except OSError:
            folder.rmdir()
            raise

    def join(self):
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def peak(self):
        """The most bytes that were ever in it; None where the kernel keeps no such number (v2 before Linux 5.19)."""
        path = self.folder / self.names["peak"]
        return int(path.read_text()) if path.exists() else None

    def remove(self):
        self.folder.rmdir()


V1 = {"limit": "memory.limit_in_bytes", "peak": "memory.max_usage_in_bytes", "swap": []}
V2 = {"limit": "memory.max", "peak": "memory.peak", "swap": ["memory.swap.max"]}


def v2_parents(own, mount):
    """Where a child may be made, best first: the process's own cgroup, then those above it up to the mount.

    `own` is the content of /proc/self/cgroup. The own one often has processes in it and may then not hand on
    controllers; the topmost may.
    """
    path = next((line[3:] for line in own.splitlines() if line.startswith("0::")), "/").strip("/")
    place = mount / path
    return [p for p in (place, *place.parents) if p == mount or mount in p.parents]


def _make_v2(mount, own, name, limit):
    problems = []
    for parent in v2_parents(own, mount):
        try:
            if "memory" not in (parent / "cgroup.controllers").read_text().split():
                raise OSError(f"{parent} has no memory controller")
            if "memory" not in (parent / "cgroup.subtree_control").read_text().split():
                (parent / "cgroup.subtree_control").write_text("+memory")
            return MemoryCgroup(parent / name, limit, V2)
        except OSError as error:
            problems.append(str(error))
    raise OSError("; ".join(problems))


def mounts():
    """Mount points of cgroups: (version, path), those of version 1 that hold memory only."""
    found = []
    for line in Path("/proc/mounts").read_text().splitlines():
        _, path, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found.append((2, Path(path)))
        elif kind == "cgroup" and "memory" in options.split(","):
            found.append((1, Path(path)))
    return found


def make(limit):
    """A fresh cgroup and no reason, or None and why there is none."""
    name, problems = f"venturi_test_{os.getpid()}", []
    for version, mount in mounts():
        try:
            if version == 1:
                return MemoryCgroup(mount / name, limit, V1), ""
            return _make_v2(mount, Path("/proc/self/cgroup").read_text(), name, limit), ""
        except OSError as error:
            problems.append(f"v{version}: {error}")
    return None, "; ".join(problems) or "no cgroup file system is mounted"
