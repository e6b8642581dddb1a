"""Feed-forwards read by neuron, through the program: prepare, what run says, budgets, and a prepare that is killed."""
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import support
from support import MODEL, SOURCE, ProgramTest, clean_environment

GENERATOR = SOURCE / "tools/sparse/make_relu.py"
RELU = SOURCE / "tests/data/models/llama-relu.gguf"
SLACK = 64 << 20


def write_model(path, *arguments):
    for python in ("/usr/bin/python3", sys.executable):
        done = subprocess.run([python, GENERATOR, path, *map(str, arguments)], capture_output=True, text=True)
        if done.returncode == 0:
            return
    raise unittest.SkipTest(f"{GENERATOR}: {done.stderr[-200:]}")


class Prepare(ProgramTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_a_model_without_a_relu_has_nothing_to_prepare(self):
        message = self.fails(1, "prepare", "-m", MODEL, "-o", self.folder / "side")
        self.assertIn("nothing to prepare", message)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_it_lies_beside_the_model_or_where_it_is_told(self):
        model = self.folder / "m.gguf"
        model.write_bytes(RELU.read_bytes())
        said = self.succeeds("prepare", "-m", model).out
        self.assertIn(str(model) + ".venturi", said)
        self.succeeds("prepare", "-m", model, "-o", self.folder / "other")
        self.assertEqual((self.folder / "other").read_bytes(), Path(str(model) + ".venturi").read_bytes())

    def test_one_of_another_model_is_refused_where_it_is_named(self):
        self.succeeds("prepare", "-m", RELU, "-o", self.folder / "side")
        other = SOURCE / "tests/data/models/llama-relu2-f16.gguf"
        message = self.fails(1, "run", "-m", other, "--memory", "200k", "--sidecar", self.folder / "side", "-p", "a", "-n", 2)
        self.assertIn("another model", message)

    def test_killed_it_leaves_the_old_one_or_the_new_one(self):
        model = self.folder / "m.gguf"
        write_model(model, "--dim", 512, "--ff", 4096, "--layers", 8, "--heads", 8, "--kv-heads", 8, "--vocab", 512)
        sidecar = Path(str(model) + ".venturi")
        begin = time.monotonic()
        self.succeeds("prepare", "-m", model, "-t", 1)
        seconds = time.monotonic() - begin
        whole = sidecar.read_bytes()
        sidecar.write_bytes(b"old")
        old = 0
        for i in range(10):
            process = subprocess.Popen([str(support.VENTURI), "prepare", "-m", str(model), "-t", "1"],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean_environment())
            time.sleep(seconds * i / 10)
            process.send_signal(signal.SIGKILL)
            process.wait()
            now = sidecar.read_bytes()
            self.assertIn(now, (b"old", whole))
            old += now == b"old"
        self.assertGreater(old, 0)


class Budget(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tempfile.TemporaryDirectory()
        cls.model = Path(cls.folder.name) / "m.gguf"
        write_model(cls.model, "--dim", 512, "--ff", 4096, "--layers", 8, "--heads", 8, "--kv-heads", 8, "--vocab", 512,
                    "--active", 0.1, "--spread", 0.6)
        cls.prepared = support.venturi("prepare", "-m", cls.model)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def run_ids(self, memory, *more):
        return self.succeeds("run", "-m", self.model, "--memory", memory, "-c", 64, "-b", 64, "-p", "The quick brown", "-n", 24,
                             "--ids", "--ignore-eos", *more)

    def test_the_same_tokens_whatever_the_budget_and_a_report(self):
        self.assertEqual(self.prepared.code, 0, self.prepared)
        resident = self.run_ids("1G")
        self.assertNotIn("sparse", resident.err)
        used = 0
        for memory in ("36M", "32M", "28M", "24M"):
            sparse = self.run_ids(memory)
            self.assertEqual(sparse.out, resident.out, memory)
            dense = self.run_ids(memory, "--no-sparse")
            self.assertEqual(dense.out, resident.out, memory)
            self.assertNotIn("sparse", dense.err)
            found = re.search(r"sparse feed-forward: ([\d.]+) % of neurons active, ([\d.]+) % read per token .*exact", sparse.err)
            if not found:
                continue
            used += 1
            self.assertLess(float(found[1]), 25)
            self.assertLess(float(found[2]), float(found[1]))
            if not support.OPTIONS.sanitized:
                self.assertLess(sparse.peak_rss, int(memory[:-1]) * 10**6 + SLACK)
        self.assertGreater(used, 1)

    def test_a_plan_says_so_and_runs(self):
        self.assertEqual(self.prepared.code, 0, self.prepared)
        flags = ["-m", self.model, "--memory", "28M", "-c", 64, "-b", 64]
        planned = self.json_of("plan", *flags, "--probe", "--active", 0.08, "--json")
        first = planned["plans"][0]
        self.assertTrue(first["options"]["sparse"])
        self.assertGreater(first["neurons"]["window_bytes"], 0)
        self.assertEqual(first["predicted"]["active_neurons"], 0.08)
        self.assertEqual({w["name"].split(".")[2] for w in first["residency"]["weights"] if w.get("by_neuron")}, {"ffn_up", "ffn_down"})
        # Reading all feed-forwards whole is another plan, and reads more.
        whole = [p for p in planned["plans"] if p["name"] == "whole feed-forwards"]
        self.assertGreater(whole[0]["predicted"]["disk_bytes_per_token"], first["predicted"]["disk_bytes_per_token"])
        table = self.succeeds("plan", *flags, "--probe").out
        self.assertIn("by neuron", table)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "plan.json"
            path.write_text(json.dumps(planned))
            text = ["-p", "The quick brown", "-n", 24, "--ids", "--ignore-eos"]
            run = self.succeeds("run", "-m", self.model, "--plan", path, *text)
        self.assertIn("sparse feed-forward", run.err)
        self.assertEqual(run.out, self.run_ids("1G").out)


if __name__ == "__main__":
    support.main()
