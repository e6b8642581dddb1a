#!/usr/bin/env python3
"""A mixture with memory for some of its experts: our policy beside demand-LRU, alternating.

    benchmarks/experts.py --venturi build/release/venturi --model olmoe-shape.gguf \\
        --routes benchmarks/routes/olmoe-shape.routes --slots 256 [-n 64] [-r 7] --json experts.json

The model is one of the trace's shape (tools/routes/make_mixture.py). A repetition runs both arms, in turned order each
time: `--experts forecast`, and `--experts lru --no-guesses`, the same engine that reads what is missing when it is
missing. Each run decodes -n tokens from an empty cache and then -n more, of which the speed is taken; experts read are
of both. Printed are medians and ranges over the repetitions, of the ratio within each; the misses of LRU, LFU and the
offline optimum are counted by bench on the same routes. With --resume and --seconds, in turns: a repetition that does
not end in time is not counted. Needs Python's standard library only.
"""
import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ARMS = {"forecast": ["--experts", "forecast"], "lru": ["--experts", "lru", "--no-guesses"]}


def run(o, arm):
    command = [o.venturi, "bench", "-m", o.model, "--routes", o.routes, "-t", str(o.threads), "-p", "0", "-n", str(o.n),
               "-r", "1", "--streams", str(o.streams), "--expert-slots", str(o.slots), "--json", *ARMS[arm]]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    test = json.loads(done.stdout)[0]
    experts = test["experts"]
    return {"tokens_per_second": test["tokens_per_second"], "reads": experts["misses"] + experts["guesses"],
            "guesses": experts["guesses"], "guesses_used": experts["guesses_used"],
            "bytes_per_token": experts["disk_bytes_per_token"], "of": experts["of"],
            "simulated": {name: s["misses"] for name, s in experts["simulated"].items()}}


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def report(o, repetitions):
    first = repetitions[0]["forecast"]
    counted, ours = first["simulated"], statistics.median(r["forecast"]["reads"] for r in repetitions)
    speed = {arm: [r[arm]["tokens_per_second"] for r in repetitions] for arm in ARMS}
    ratios = [a / b for a, b in zip(speed["forecast"], speed["lru"])]
    lines = [f"{o.slots} of {first['of']} experts held, {o.streams} stream(s), {o.n} + {o.n} tokens, {len(repetitions)} repetitions", "",
             "| | experts read | of the better of LRU and LFU | tok/s |", "|---|---|---|---|"]
    better = min(counted["lru"], counted["lfu"])
    rows = [("forecast, as run", ours, spread(speed["forecast"])),
            ("LRU on demand, as run", statistics.median(r["lru"]["reads"] for r in repetitions), spread(speed["lru"])),
            ("LFU, counted", counted["lfu"], ""), ("offline optimum, counted", counted["optimum"], "")]
    lines += [f"| {name} | {reads:.0f} | {100 * reads / better:.1f} % | {rate} |" for name, reads, rate in rows]
    lines += ["", f"tokens a second over demand-LRU: {spread(ratios)}"]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("venturi", "model", "routes"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--slots", type=int, required=True)
    for flags, value in ((("-n",), 64), (("-r", "--repetitions"), 7), (("-t", "--threads"), 2), (("--streams",), 1)):
        parser.add_argument(*flags, type=int, default=value)
    parser.add_argument("--json")
    parser.add_argument("--resume", action="store_true", help="go on with what --json has")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no repetition that may not end by then")
    o = parser.parse_args()
    repetitions, begin, longest = [], time.monotonic(), 0
    if o.resume and o.json and Path(o.json).exists():
        repetitions = json.loads(Path(o.json).read_text())
    while len(repetitions) < o.repetitions and time.monotonic() - begin + longest < o.seconds:
        started = time.monotonic()
        order = list(ARMS) if len(repetitions) % 2 == 0 else list(reversed(ARMS))
        repetitions.append({arm: run(o, arm) for arm in order})
        longest = max(longest, time.monotonic() - started)
        if o.json:
            Path(o.json).write_text(json.dumps(repetitions, indent=1))
    if repetitions:
        print(report(o, repetitions))


if __name__ == "__main__":
    main()
