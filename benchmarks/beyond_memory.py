#!/usr/bin/env python3
"""A model larger than memory: pinned and streamed under a memory cgroup, beside the bound and mmap.

    benchmarks/beyond_memory.py --venturi build/release/venturi --model 7B.gguf --memory 1500M \\
        -c 512 --streams 1,8 [--peer 'llama.cpp=PATH/llama-bench'] --json beyond.json

A repetition is: a plan with the machine probed anew (memory, kernels, and the disk by reading this model
in the pattern that streaming uses), then a run for every number of streams, then, if asked for, the peer with mmap
under the same cap; page cache dropped before each. Printed are medians over the repetitions:

    pinned     weights in memory, and what the budget leaves after state and 256 MB
    read       bytes read from disk per token, and those of the weights not pinned
    speed      tokens a second; its share of max(compute, unpinned bytes / disk bandwidth)
    peak       the cgroup's, and the budget

Runs as root where v1 memory cgroups are; without one the cap is not enforced, and it says so.
The context of -c is shared out among the streams, so that all runs hold the same state.
With --resume and --seconds, in turns. Needs Python's standard library only.
"""
import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

SLACK = 64 << 20
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def parse_bytes(text):
    return int(float(text.rstrip("KMG")) * UNITS[text[len(text.rstrip("KMG")):]])


def drop_caches():
    try:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("1")
    except OSError:
        pass


class Cap:
    """A memory cgroup for one run; peak() after it."""

    def __init__(self, limit):
        self.path = Path(f"/sys/fs/cgroup/memory/beyond_memory_{os.getpid()}")
        try:
            self.path.mkdir()
            (self.path / "memory.limit_in_bytes").write_text(str(limit))
        except OSError as e:
            print(f"beyond_memory: no memory cgroup ({e}); the cap is not enforced", file=sys.stderr)
            self.path = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.path:
            self.path.rmdir()

    def run(self, command, timeout=None):
        def enter():
            if self.path:
                (self.path / "cgroup.procs").write_text(str(os.getpid()))

        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, preexec_fn=enter, timeout=timeout)
        if done.returncode != 0:
            sys.exit(f"beyond_memory: {shlex.join(map(str, command))} failed with {done.returncode}: {done.stderr[-800:]}")
        return json.loads(done.stdout)

    def peak(self):
        return int((self.path / "memory.max_usage_in_bytes").read_text()) if self.path else None


def plan(o, streams):
    done = subprocess.run([*shlex.split(o.venturi), "plan", "-m", o.model, "--memory", o.memory, "-c", str(o.context // streams), "-t", str(o.threads),
                           "--streams", str(streams), "--probe", "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"beyond_memory: plan failed: {done.stderr}")
    return json.loads(done.stdout)


def ours(o, streams):
    planned = plan(o, streams)
    chosen = planned["plans"][0]
    disk = [r["bytes_per_second"]["median"] for r in planned["profile"]["disk"]["rates"] if r["sequential"] and r["direct"]]
    drop_caches()
    with Cap(parse_bytes(o.memory) + SLACK) as cap:
        test = cap.run([*shlex.split(o.venturi), "bench", "-m", o.model, "--memory", o.memory, "-c", o.context // streams, "-t", o.threads,
                        "-p", 0, "-n", o.generate, "-r", 1, "--streams", streams, "--json"])[0]
        peak = cap.peak()
    streamed = sum(w["streamed_bytes"] for w in chosen["residency"]["weights"] if not w["name"].startswith("token_embd"))
    measured = test["measured"]
    # One read of what is not pinned serves all streams.
    disk_seconds = streamed / max(disk)
    machine = test["machine"]
    return {"streams": streams, "pinned": chosen["footprint"]["weights"], "state": chosen["footprint"]["state"], "streamed": streamed,
            "read": measured["disk_bytes_per_token"], "speed": measured["tokens_per_second"], "cgroup_peak": peak,
            "peak": measured["peak_memory_bytes"], "disk": max(disk), "memory": machine["read_bytes_per_second"],
            "bound": streams / disk_seconds, "predicted": test["predicted"]["tokens_per_second"]}


def theirs(o, command):
    drop_caches()
    with Cap(parse_bytes(o.memory) + SLACK) as cap:
        rows = cap.run([*shlex.split(command), "-m", o.model, "-t", o.threads, "-p", 0, "-n", o.peer_generate, "-r", 1, "-mmp", 1, "-o", "json"])
    return {"speed": rows[0]["avg_ts"]}


def repetition(o):
    kept = {"ours": [ours(o, s) for s in o.streams]}
    if o.peer:
        kept["peer"] = theirs(o, o.peer.partition("=")[2])
    return kept


def summarise(o, kept):
    budget = parse_bytes(o.memory)
    median = lambda values: statistics.median(list(values))
    rows = []
    for i, streams in enumerate(o.streams):
        runs = [k["ours"][i] for k in kept]
        speed = median(r["speed"] for r in runs)
        row = {"streams": streams, "repetitions": len(runs), "tokens_per_second": speed,
               "pinned_bytes": runs[0]["pinned"], "pinned_wanted": budget - runs[0]["state"] - (256 << 20),
               "read_over_unpinned": median(r["read"] * streams / r["streamed"] for r in runs),
               "share_of_disk_bound": median(r["speed"] / r["bound"] for r in runs),
               "measured_over_predicted": median(r["speed"] / r["predicted"] for r in runs),
               "disk_bytes_per_second": median(r["disk"] for r in runs),
               "peak_bytes": max(r["peak"] for r in runs), "cgroup_peak_bytes": max(r["cgroup_peak"] or 0 for r in runs),
               "budget": budget,
               "over_first": median(k["ours"][i]["speed"] / k["ours"][0]["speed"] for k in kept)}
        with_peer = [k for k in kept if "peer" in k]
        if with_peer and i == 0:
            row["over_peer"] = median(k["ours"][0]["speed"] / k["peer"]["speed"] for k in with_peer)
        rows.append(row)
    return rows


def markdown(rows):
    lines = [["streams", "tok/s", "share of the disk bound", "read / unpinned", "pinned, wanted (GB)", "peak, budget (GB)",
              "over one stream", "over the peer with mmap"]]
    lines.append(["---"] * len(lines[0]))
    for r in rows:
        lines.append([str(r["streams"]), f"{r['tokens_per_second']:.3f}", f"{100 * r['share_of_disk_bound']:.0f} %",
                      f"{r['read_over_unpinned']:.3f}", f"{r['pinned_bytes'] / 1e9:.3f}, {r['pinned_wanted'] / 1e9:.3f}",
                      f"{max(r['peak_bytes'], 0) / 1e9:.3f}, {r['budget'] / 1e9:.3f}", f"{r['over_first']:.2f}",
                      f"{r['over_peer']:.1f}" if "over_peer" in r else ""])
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venturi", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--memory", required=True)
    parser.add_argument("-c", "--context", type=int, default=512)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-n", "--generate", type=int, default=8)
    parser.add_argument("--streams", type=lambda s: [int(n) for n in s.split(",")], default=[1])
    parser.add_argument("--peer", metavar="NAME=COMMAND", help="takes llama-bench's flags")
    parser.add_argument("--peer-generate", type=int, default=2)
    parser.add_argument("-r", "--repetitions", type=int, default=7)
    parser.add_argument("--json", metavar="FILE", help="every number of every repetition, and the summary")
    parser.add_argument("--resume", action="store_true", help="go on with the repetitions in --json")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no repetition after this")
    o = parser.parse_args()
    kept = json.loads(Path(o.json).read_text())["kept"] if o.resume and o.json and Path(o.json).exists() else []
    end = time.monotonic() + o.seconds
    while len(kept) < o.repetitions and time.monotonic() < end:
        kept.append(repetition(o))
        print(f"beyond_memory: {json.dumps(kept[-1])}", file=sys.stderr)
        if o.json:
            beside = Path(o.json + ".new")
            beside.write_text(json.dumps({"kept": kept, "rows": summarise(o, kept)}, indent=1))
            beside.rename(o.json)
    if kept:
        print(markdown(summarise(o, kept)), end="")


if __name__ == "__main__":
    main()
