"""Routing of mixtures, through the program: `inspect --routing`, trace files, `bench --routes`."""
import json
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import support
from support import MODEL, SOURCE, ProgramTest

MIXTURE = SOURCE / "tests/data/models/qwen3moe-plain.gguf"  # 2 layers of 4 experts, 2 used
TRACE = SOURCE / "benchmarks/routes/olmoe-shape.routes"
GENERATOR = SOURCE / "tools/routes/make_trace.py"
TEXT = "It was a bright cold day in April, and the clocks were striking thirteen. " * 4


def plain_srp(path, window):
    """SRP of all layers, from its definition."""
    lines = Path(path).read_text().splitlines()
    layers, experts, _ = map(int, re.match(r"venturi-routes 1 layers=(\d+) experts=(\d+) top_k=(\d+)$", lines[0]).groups())
    tokens = [line.split(" ") for line in lines[1:]]
    counts = []
    for layer in range(layers):
        for start in range(len(tokens) - window + 1):
            run = "".join(token[layer] for token in tokens[start:start + window])
            counts += [run.count(c) for c in set(run)]
    best = 0
    for a in range(1, window + 1):
        tp = sum(f for f in counts if f >= a)
        fp = sum(window - f for f in counts if f >= a)
        fn = sum(f for f in counts if f < a)
        best = max(best, 2 * tp / (2 * tp + fp + fn))
    return best


class Inspect(ProgramTest):
    def test_routes_of_a_model_are_measured_and_saved(self):
        with tempfile.TemporaryDirectory() as folder:
            trace = Path(folder) / "x.routes"
            flags = ("--routing", "-m", MIXTURE, "-p", TEXT, "--json")
            report = json.loads(self.succeeds("inspect", *flags, "--save-routes", trace).out)
            self.assertEqual((report["layers"], report["experts"], report["experts_used"]), (2, 4, 2))
            self.assertEqual(len(trace.read_text().splitlines()), report["tokens"] + 1)
            again = json.loads(self.succeeds("inspect", "--routes", trace, "--json").out)
            self.assertEqual(again["segment_routing"], report["segment_routing"])
            self.assertGreater(report["expert_bytes"], 0)
            score = next(s for s in report["segment_routing"] if s["window"] == 16)
            self.assertAlmostEqual(score["srp"], plain_srp(trace, 16), places=9)
            # Batches, threads and layout do not change a route.
            other = json.loads(self.succeeds("inspect", *flags, "-b", 7, "-t", 1, "--no-repack").out)
            self.assertEqual(other, report)

    def test_what_does_not_route_is_refused(self):
        self.assertIn("no mixture", self.fails(1, "inspect", "--routing", "-m", MODEL, "-p", "x"))
        self.assertIn("line 1", self.fails(1, "inspect", "--routes", MODEL))
        self.fails(2, "inspect", "-m", MIXTURE, "-p", "text without --routing")


class CommittedTrace(ProgramTest):
    def test_is_what_its_generator_writes(self):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "again.routes"
            arguments = (TRACE.parent / "olmoe-shape.arguments").read_text().split()
            subprocess.run([sys.executable, GENERATOR, out, *arguments], check=True)
            self.assertEqual(out.read_text(), TRACE.read_text())

    def test_is_as_consistent_as_published_models(self):
        report = json.loads(self.succeeds("inspect", "--routes", TRACE, "--json").out)
        srp = {s["window"]: s for s in report["segment_routing"]}
        self.assertTrue(0.45 < srp[16]["srp"] < 0.6)
        self.assertLess(TRACE.stat().st_size, 300_000)
        # Shares of the optimum's hits with a cache per layer: tools/routes/README.md has the figures.
        for rho, lru, lfu, sch in ((1, 56.5, 61.9, 81.0), (2, 67.0, 70.9, 90.6), (3, 75.3, 78.4, 96.2)):
            hits = next(c for c in report["caches"] if c["rho"] == rho)["per_layer"]
            share = {p: 100 * hits[p]["hit_rate"] / hits["optimum"]["hit_rate"] for p in ("lru", "lfu", "sch")}
            for policy, published in (("lru", lru), ("lfu", lfu), ("sch", sch)):
                self.assertLess(abs(share[policy] - published), 8, (rho, policy, share))
        # The bar in bytes: what is ours reads no more than the better of the two, however they are cut.
        quarter = next(c for c in report["caches"] if c["rho"] == 2)
        classic = min(quarter[cut][p]["misses"] for cut in ("pooled", "per_layer") for p in ("lru", "lfu"))
        self.assertLessEqual(quarter["pooled"]["forecast"]["misses"], classic)


class Bench(ProgramTest):
    def test_a_mixture_routes_by_a_trace(self):
        with tempfile.TemporaryDirectory() as folder:
            trace = Path(folder) / "x.routes"
            trace.write_text("venturi-routes 1 layers=2 experts=4 top_k=2\nAB CD\nBA DC\n")
            flags = ("bench", "-m", MIXTURE, "-p", 5, "-n", 4, "-r", 1, "--streams", 2, "--json", "--routes")
            tests = json.loads(self.succeeds(*flags, trace).out)
            self.assertEqual([t["test"] for t in tests], ["pp5", "tg4x2"])
            self.assertIn("2 of 4, 2 used", self.fails(2, *flags, TRACE))


if __name__ == "__main__":
    support.main()
