"""benchmarks/peers.py: its arithmetic with engines that answer known numbers, and ours for real."""
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import support
from support import MODEL, SOURCE, VENTURI

SCRIPT = SOURCE / "benchmarks" / "peers.py"

# Answers like venturi or llama-bench. Speeds grow with each call, so a median differs from a mean
# and ratios within a repetition differ from a ratio of medians.
ENGINE = r"""
import json, sys
from pathlib import Path
count = Path(sys.argv[0]).with_suffix('.count')
n = int(count.read_text()) if count.exists() else 0
count.write_text(str(n + 1))
speeds = {speeds}
speed = speeds[n % len(speeds)]
if 'probe' in sys.argv:
    count.write_text(str(n))
    print(json.dumps({{'read_bytes_per_second': {{'median': 3e10}}}}))
elif '--json' in sys.argv:
    print(json.dumps([{{'test': 'pp512', 'tokens_per_second': speed, 'bound_tokens_per_second': 200.0}}]))
else:
    print(json.dumps([{{'n_prompt': 512, 'n_gen': 0, 'avg_ts': speed}}]))
"""


class Peers(unittest.TestCase):
    def run_script(self, *arguments):
        done = subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True,
                              env=support.clean_environment())
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_medians_of_ratios(self):
        with tempfile.TemporaryDirectory() as folder:
            def engine(name, speeds):
                path = Path(folder) / f"{name}.py"
                path.write_text(ENGINE.format(speeds=speeds))
                return f"{sys.executable} {path}"

            report = Path(folder) / "peers.json"
            table = self.run_script("--venturi", engine("ours", [100, 120, 150]), "--peer",
                                    "slow=" + engine("slow", [50, 50, 50]), "--peer",
                                    "quick=" + engine("quick", [80, 40, 100]), "--model", "M=x.gguf", "-r", 3,
                                    "-n", 0, "--json", report)
            row = json.loads(report.read_text())["results"][0]["rows"][0]
        self.assertEqual(row["venturi"], 120)
        self.assertEqual(row["quick"], 80)
        self.assertEqual(row["slow"], 50)
        self.assertAlmostEqual(row["share_of_bound"], 0.6)
        # Ratios to the better of the two: 100/80, 120/50, 150/100.
        self.assertAlmostEqual(row["ratio_to_better_peer"], 1.5)
        self.assertAlmostEqual(row["ratio_low"], 1.25)
        self.assertAlmostEqual(row["ratio_high"], 2.4)
        self.assertIn("| M | pp512 | 120.0 | 60 % | 50.0 | 80.0 | 1.50 | 1.25 to 2.40 |", table)

    def test_unsteady_repetitions_are_thrown_away_but_not_for_ever(self):
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder) / "probe.py"
            # The second probe of every repetition reads half, or twice, of the first.
            probe.write_text(ENGINE.format(speeds=[100]).replace("count.write_text(str(n))", "pass")
                             .replace("3e10", "3e10 / (1 + n // 2 % 2)"))
            report = Path(folder) / "peers.json"
            self.run_script("--venturi", f"{sys.executable} {probe}", "--model", "M=x", "-r", 2, "--json", report)
            result = json.loads(report.read_text())["results"][0]
        self.assertEqual(len(result["repetitions"]), 2)
        self.assertEqual(result["thrown_away"], 2)

    def test_turns_add_up(self):
        with tempfile.TemporaryDirectory() as folder:
            engine = Path(folder) / "ours.py"
            engine.write_text(ENGINE.format(speeds=[100, 120, 150]))
            report = Path(folder) / "peers.json"
            counts = []
            for _ in range(4):
                # No time at all: one repetition, since the first is always made.
                self.run_script("--venturi", f"{sys.executable} {engine}", "--model", "M=x", "-r", 3, "--json", report,
                                "--resume", "--seconds", 0.001)
                results = json.loads(report.read_text())["results"]
                counts.append(len(results[0]["repetitions"]))
            row = results[0]["rows"][0]
        self.assertEqual(len(results), 1)
        self.assertEqual(counts, [1, 2, 3, 3])
        self.assertEqual(row["venturi"], 120)

    def test_our_own_program_answers_it(self):
        table = self.run_script("--venturi", VENTURI, "--model", f"tiny={MODEL}", "-p", 16, "-n", 4, "-r", 1,
                                "--steady", 1)
        self.assertIn("| tiny | pp16 |", table)
        self.assertIn("| tiny | tg4 |", table)


if __name__ == "__main__":
    support.main()
