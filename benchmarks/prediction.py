#!/usr/bin/env python3
"""How far predictions are from what is then measured.

    benchmarks/prediction.py --venturi build/release/venturi --model FILE.gguf --model OTHER.gguf \\
        --budget 30% --budget 60% --budget 130% --disk-cap 0 --disk-cap 600M --json out.json --markdown out.md

A case is a model, a budget (bytes, or a share of the file's size) and a cap of the disk (bytes a second;
0: none). For each, the profile is taken again and a plan made (`venturi plan --probe`), and then the plan's
test is measured by `venturi bench --plan`. The cap is set through the v1 blkio controller for this process
and its children, which needs root; where that is refused, capped cases are left out and said to be.

With --resume and --seconds a long table is measured in turns. Needs Python's standard library only.
"""
import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

UNITS = {"k": 1e3, "M": 1e6, "G": 1e9}
CONTROLLER = Path("/sys/fs/cgroup/blkio")


def parse_bytes(text):
    return int(float(text[:-1]) * UNITS[text[-1]]) if text[-1] in UNITS else int(text)


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(map(str, command))} failed with {done.returncode}: {done.stderr[-300:].strip()}")
    return json.loads(done.stdout)


class DiskCap:
    """This process and its children read no faster than so many bytes a second from the disk of a file."""

    def __init__(self, path, rate):
        self.group = None
        if rate:
            device = os.stat(path).st_dev
            self.rule = f"{os.major(device)}:{os.minor(device)} {rate}"
            self.group = CONTROLLER / f"venturi_prediction_{os.getpid()}"

    def __enter__(self):
        if self.group:
            self.group.mkdir()
            (self.group / "blkio.throttle.read_bps_device").write_text(self.rule)
            (self.group / "cgroup.procs").write_text(str(os.getpid()))

    def __exit__(self, *_):
        if self.group:
            (CONTROLLER / "cgroup.procs").write_text(str(os.getpid()))
            self.group.rmdir()


def measure(o, model, budget, cap, tokens, prompt):
    """A row: the prediction made beforehand and what came."""
    with DiskCap(model, cap), tempfile.TemporaryDirectory() as folder:
        common = ["-m", model, "--memory", budget, "-c", o.context, "-t", o.threads]
        routes = ["--routes", o.routes] if o.routes else []
        planned = run([*o.venturi, "plan", *common, *routes, "--probe", "--json"])
        path = Path(folder) / "plan.json"
        path.write_text(json.dumps(planned))
        first = planned["plans"][0]
        # As long as it takes to see the machine's usual speed.
        tokens = max(4, min(tokens, int(o.test_seconds * first["predicted"]["tokens_per_second"])))
        tests = run([*o.venturi, "bench", "-m", model, "--plan", path, "-p", prompt, "-n", tokens, "-r", 3, "--json", *routes])
    return [{"model": Path(model).stem, "budget": budget, "disk_cap": cap, "test": t["test"], "binds": first["binds"],
             "predicted": t["predicted"], "measured": t["measured"],
             "plan_tokens_per_second": first["predicted"]["tokens_per_second"] if t["test"].startswith("tg") else None,
             "noise": planned["profile"]["noise"]} for t in tests]


def off(row, name):
    predicted, measured = row["predicted"][name], row["measured"][name]
    return abs(predicted / measured - 1) if measured else float(predicted > 0)


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def summary(rows, prefix):
    rows = [r for r in rows if r["test"].startswith(prefix)]
    if not rows:
        return ""
    text = f"{len(rows)} plans, {'decode' if prefix == 'tg' else 'prefill'}: "
    for name, title in (("tokens_per_second", "tokens/s"), ("peak_memory_bytes", "peak memory"),
                        ("disk_bytes_per_token", "disk bytes a token")):
        errors = [off(r, name) for r in rows]
        text += f"{title} off by {statistics.median(errors):.1%} (median), {percentile(errors, 0.9):.1%} (90th percentile); "
    return text.rstrip("; ") + "\n"


def table(rows):
    lines = ["| model | budget MB | disk cap MB/s | test | binds | predicted tok/s | measured | off | predicted peak MB | measured | "
             "predicted disk MB a token | measured |", "|" + "---|" * 12]
    for r in rows:
        p, m = r["predicted"], r["measured"]
        lines.append(f"| {r['model']} | {r['budget'] / 1e6:.0f} | {r['disk_cap'] / 1e6:.0f} | {r['test']} | {r['binds']} | "
                     f"{p['tokens_per_second']:.3g} | {m['tokens_per_second']:.3g} | "
                     f"{p['tokens_per_second'] / m['tokens_per_second'] - 1:+.0%} | {p['peak_memory_bytes'] / 1e6:.0f} | "
                     f"{m['peak_memory_bytes'] / 1e6:.0f} | {p['disk_bytes_per_token'] / 1e6:.1f} | "
                     f"{m['disk_bytes_per_token'] / 1e6:.1f} |".replace("| 0 | tg", "| none | tg").replace("| 0 | pp", "| none | pp"))
    return "\n".join(lines) + "\n\n" + summary(rows, "tg") + summary(rows, "pp")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venturi", type=shlex.split, required=True, help="the program, with flags it always gets")
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--budget", action="append", required=True, help="bytes (1500M), or a share of the file (60%%)")
    parser.add_argument("--disk-cap", action="append", default=[], help="bytes a second; 0: none")
    parser.add_argument("-c", "--context", type=int, default=512)
    parser.add_argument("-t", "--threads", type=int, default=os.cpu_count())
    parser.add_argument("-p", "--prompt", type=int, default=0, help="tokens of a prefill test; 0: none")
    parser.add_argument("-n", "--generate", type=int, default=32, help="tokens of the decode test at most")
    parser.add_argument("--routes", help="of mixtures: a trace that says how they route, for the plan and for the run")
    parser.add_argument("--test-seconds", type=float, default=4, help="of one repetition of it")
    parser.add_argument("--json")
    parser.add_argument("--markdown")
    parser.add_argument("--resume", action="store_true", help="keep what --json has, measure what is missing")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no case after so long")
    o = parser.parse_args()
    begin = time.monotonic()
    rows = json.loads(Path(o.json).read_text()) if o.resume and o.json and Path(o.json).exists() else []
    for model in o.model:
        size = os.path.getsize(model)
        for budget in o.budget:
            wanted = int(size * float(budget[:-1]) / 100) if budget.endswith("%") else parse_bytes(budget)
            for cap in map(parse_bytes, o.disk_cap or ["0"]):
                if cap and wanted > size * 1.1:
                    continue  # nothing is read
                key = (Path(model).stem, wanted, cap)
                if any((r["model"], r["budget"], r["disk_cap"]) == key for r in rows):
                    continue
                if time.monotonic() - begin > o.seconds:
                    break
                try:
                    rows += measure(o, model, wanted, cap, o.generate, o.prompt)
                except (RuntimeError, OSError) as failure:
                    print(f"prediction: {key}: {failure}", file=sys.stderr)
                    continue
                if o.json:
                    Path(o.json).write_text(json.dumps(rows, indent=1))
                print(table(rows[-1:]).splitlines()[2], flush=True)
    print(table(rows))
    if o.markdown:
        Path(o.markdown).write_text(table(rows))


if __name__ == "__main__":
    main()
