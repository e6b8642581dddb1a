#!/usr/bin/env python3
"""Venturi beside other engines, on the same files, alternating, as ratios.

    benchmarks/peers.py --venturi build/release/venturi \\
        --peer llama.cpp=PATH/llama-bench --peer 'ik_llama.cpp=PATH/llama-bench -rtr 1' \\
        --model Q8_0=FILE.gguf --model Q4_0=FILE.gguf --json peers.json --markdown peers.md

A repetition is: probe, then one run of every engine, then probe; the order of the engines is turned
round from one repetition to the next. Every number printed is a median over the repetitions: of the
speeds, of ours divided by the better peer's in the same repetition, and of our share of our bound.
A repetition whose two probes of memory bandwidth differ by more than --steady is thrown away and
done again, at most once for each repetition asked for: something else was running.

With --resume and --seconds a long table is measured in turns, a few repetitions at a time.

A peer is a program that takes llama-bench's flags -m -t -p -n -r -o json. The machine should be idle.
Needs Python's standard library only.
"""
import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"peers: {shlex.join(map(str, command))} failed with {done.returncode}: {done.stderr[-500:]}")
    return json.loads(done.stdout)


class Venturi:
    name = "venturi"

    def __init__(self, binary):
        self.command = shlex.split(binary)

    def probe(self, threads):
        """Bytes per second that all threads read from memory."""
        return run([*self.command, "probe", "--no-disk", "--no-kernels", "-t", threads, "-r", 3, "--json"])["read_bytes_per_second"]["median"]

    def bench(self, model, threads, prompt, generate):
        """{test: (tokens per second, share of bound)}"""
        rows = run([*self.command, "bench", "-m", model, "-t", threads, "-p", prompt, "-n", generate, "-r", 1,
                    "--json"])
        return {r["test"]: (r["tokens_per_second"], r["tokens_per_second"] / r["bound_tokens_per_second"])
                for r in rows}


class Peer:
    def __init__(self, text):
        self.name, _, command = text.partition("=")
        self.command = shlex.split(command)
        if not self.name or not self.command:
            sys.exit(f"peers: '{text}' is not NAME=COMMAND")

    def bench(self, model, threads, prompt, generate):
        rows = run([*self.command, "-m", model, "-t", threads, "-p", prompt, "-n", generate, "-r", 1, "-o", "json"])
        return {(f"tg{r['n_gen']}" if r["n_gen"] else f"pp{r['n_prompt']}"): (r["avg_ts"], None) for r in rows}


def repetition(venturi, engines, model, o):
    """One speed of every engine, between two probes: (probes, {engine: {test: (speed, share)}})."""
    before = venturi.probe(o.threads)
    speeds = {engine.name: engine.bench(model, o.threads, o.prompt, o.generate) for engine in engines}
    return (before, venturi.probe(o.threads)), speeds


def measure(venturi, peers, model, o, log, kept, thrown_away):
    """Adds to `kept` until it has all repetitions or the time is up; returns it and how many were thrown away."""
    engines = [venturi, *peers]
    if (len(kept) + thrown_away) % 2:
        engines.reverse()
    while len(kept) < o.repetitions:
        begin = time.monotonic()
        probes, speeds = repetition(venturi, engines, model, o)
        engines.reverse()
        change = abs(probes[1] - probes[0]) / max(probes)
        steady = change <= o.steady or thrown_away >= o.repetitions
        log(f"  {'kept' if steady else 'thrown away'}: read {probes[0] / 1e9:.1f} and {probes[1] / 1e9:.1f} GB/s, "
            + ", ".join(f"{name} {test} {value[0]:.2f}" for name, tests in speeds.items()
                        for test, value in tests.items()))
        if steady:
            kept.append({"read_bytes_per_second": probes, "speeds": speeds})
        else:
            thrown_away += 1
        # As long again would run past the limit.
        if 2 * time.monotonic() - begin > o.end:
            break
    return kept, thrown_away


def summarise(kept, peers):
    """A row per test: medians of speeds, of ratios within a repetition, and of shares of the bound."""
    rows = []
    for test in kept[0]["speeds"]["venturi"]:
        ours = [k["speeds"]["venturi"][test] for k in kept]
        theirs = {p: [k["speeds"][p][test][0] for k in kept] for p in peers}
        row = {"test": test, "venturi": statistics.median(v for v, _ in ours),
               "share_of_bound": statistics.median(s for _, s in ours)}
        for p in peers:
            row[p] = statistics.median(theirs[p])
        if peers:
            ratios = [v / max(theirs[p][i] for p in peers) for i, (v, _) in enumerate(ours)]
            row["ratio_to_better_peer"] = statistics.median(ratios)
            row["ratio_low"], row["ratio_high"] = min(ratios), max(ratios)
        rows.append(row)
    return rows


def markdown(results, peers):
    head = ["model", "test", "venturi tok/s", "share of bound", *(f"{p} tok/s" for p in peers)]
    if peers:
        head += ["ratio to the better peer", "low to high"]
    lines = [head, ["---"] * len(head)]
    for result in results:
        for row in result.get("rows", []):
            cells = [result["model"], row["test"], f"{row['venturi']:.1f}", f"{100 * row['share_of_bound']:.0f} %"]
            cells += [f"{row[p]:.1f}" for p in peers]
            if peers:
                cells += [f"{row['ratio_to_better_peer']:.2f}", f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}"]
            lines.append(cells)
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venturi", required=True, help="our program")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND", help="repeatable")
    parser.add_argument("--model", action="append", required=True, metavar="LABEL=FILE", help="repeatable")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-p", "--prompt", type=int, default=512)
    parser.add_argument("-n", "--generate", type=int, default=64)
    parser.add_argument("-r", "--repetitions", type=int, default=7)
    parser.add_argument("--steady", type=float, default=0.15, help="largest share by which two probes may differ")
    parser.add_argument("--json", metavar="FILE", help="every number, of every repetition")
    parser.add_argument("--resume", action="store_true",
                        help="what the --json file already holds of a model counts; the file is rewritten")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no further repetition that would end later")
    parser.add_argument("--markdown", metavar="FILE", help="the table; it also goes to standard output")
    o = parser.parse_args()

    venturi, peers = Venturi(o.venturi), [Peer(text) for text in o.peer]
    names = [p.name for p in peers]
    o.end = time.monotonic() + o.seconds
    results, measured = [], False
    if o.resume and o.json and os.path.exists(o.json):
        with open(o.json) as f:
            results = json.load(f)["results"]
    for text in o.model:
        label, _, path = text.partition("=")
        if not path:
            sys.exit(f"peers: '{text}' is not LABEL=FILE")
        print(f"{label}:", file=sys.stderr)
        known = next((r for r in results if r["model"] == label), None)
        if not known:
            known = {"model": label, "thrown_away": 0, "repetitions": []}
            results.append(known)
        if measured and time.monotonic() >= o.end:
            continue
        measured = True
        kept, thrown_away = measure(venturi, peers, path, o, lambda line: print(line, file=sys.stderr),
                                    known["repetitions"], known["thrown_away"])
        known.update(rows=summarise(kept, names) if kept else [], thrown_away=thrown_away)
    table = markdown(results, names)
    print(table, end="")
    if o.markdown:
        with open(o.markdown, "w") as f:
            f.write(table)
    if o.json:
        with open(o.json, "w") as f:
            json.dump({"threads": o.threads, "prompt": o.prompt, "generate": o.generate, "results": results}, f,
                      indent=1)


if __name__ == "__main__":
    main()
