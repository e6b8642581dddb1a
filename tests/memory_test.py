"""The memory budget: what does not fit is streamed, or refused with what would, and what runs stays inside.

Peak resident memory must not pass the budget by more than 64 MB. It is read from the kernel's
account of the process and, where a memory cgroup can be made, enforced by it as well.
"""
import json
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import memory_cgroup
import support
from support import MODEL, SHARED, ProgramTest, venturi

SLACK = 64 << 20
GENERATOR = SHARED / "tools" / "make_gguf.py"


def write_model(path, shape, layers, kind):
    """A model of a real shape with random weights, by the generator of the shared tools."""
    for python in ("/usr/bin/python3", sys.executable):
        done = subprocess.run([python, GENERATOR, shape, path, "--layers", str(layers), "--type", kind],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if done.returncode == 0:
            return
    raise unittest.SkipTest(f"{GENERATOR}: {done.stderr.decode()[-200:]}")


class Activations(ProgramTest):
    def test_placements_are_ordered_and_tiles_save(self):
        found = json.loads(self.succeeds("inspect", "-m", MODEL, "--activations", "--json").out)["activations"]
        for row in found:
            self.assertTrue(row["proved"], row)
            self.assertLessEqual(row["live"], row["exact"], row)
            self.assertLessEqual(row["exact"], min(row["greedy"], row["first_fit"]), row)
        at_512 = {row["row_tile"]: row["first_fit"] for row in found if row["rows"] == 512}
        self.assertEqual(sorted(at_512), [0, 192])
        self.assertLess(at_512[192], at_512[0])


class Refusals(ProgramTest):
    def test_a_budget_below_the_smallest_windows_is_refused_and_the_one_named_works(self):
        message = self.fails(3, "run", "-m", MODEL, "--memory", "200k", "-p", "The", "-n", 4)
        named = re.search(r"--memory (\d+M)", message)
        self.assertTrue(named, message)
        self.succeeds("run", "-m", MODEL, "--memory", named.group(1), "-p", "The", "-n", 4)

    def test_a_context_beyond_the_budget_is_refused_and_the_one_named_works(self):
        flags = ["-m", MODEL, "--memory", "8M", "-p", "The", "-n", 4]
        message = self.fails(3, "run", *flags, "-c", 65536)
        named = re.search(r"-c (\d+)", message)
        self.assertTrue(named, message)
        largest = int(named.group(1))
        self.succeeds("run", *flags, "-c", largest)
        self.fails(3, "run", *flags, "-c", largest + 64)

    def test_a_context_beyond_the_budget_is_taken_when_state_may_spill(self):
        flags = ["-m", MODEL, "-p", "The", "-n", 4, "--temp", 0, "-c", 65536]
        with tempfile.TemporaryDirectory() as folder:
            self.assertIn("--spill", self.fails(3, "run", *flags, "--memory", "8M"))
            wanted = self.succeeds("run", *flags).out
            taken = self.succeeds("run", *flags, "--memory", "8M", "--spill", folder)
            self.assertEqual(taken.out, wanted)
            self.assertRegex(taken.err, r"goes to a file at .*, up to")
            self.assertEqual(list(Path(folder).iterdir()), [])
            self.succeeds("run", *flags, "--memory", "8M", "--spill", env={"TMPDIR": folder})
            self.succeeds("run", *flags, "--state-memory", "2M", env={"VENTURI_SPILL": folder})

    def test_state_memory_below_a_step_and_a_place_that_is_a_file_are_refused(self):
        run = ["run", "-m", MODEL, "-p", "The", "-n", 4, "-c", 65536]
        self.fails(3, *run, "--state-memory", "10k")
        self.assertIn("overwritten", self.fails(2, *run, "--state-memory", "2M", "--spill", MODEL))
        self.assertTrue(MODEL.exists())

    def test_a_full_disk_fails_the_run(self):
        if not Path("/dev/full").exists():
            self.skipTest("no /dev/full")
        # The prompt may have been printed before.
        outcome = venturi("run", "-m", MODEL, "-p", "It was the best of times. " * 400, "-n", 4, "-c", 8192,
                          "-b", 64, "--state-memory", "1M", "--spill", "/dev/full")
        self.assertEqual(outcome.code, 1)
        self.assertIn("No space left", outcome.err)
        self.assertIn("/dev/full", outcome.err)

    def test_a_free_context_is_chosen_to_fit(self):
        self.succeeds("run", "-m", MODEL, "--memory", "6M", "-p", "The", "-n", 4)

    def test_every_command_that_loads_a_model_obeys(self):
        for command in (["run", "-p", "a"], ["eval", "-p", "a " * 2000], ["bench", "-p", 16, "-n", 4]):
            with self.subTest(command=command):
                self.fails(3, *command, "-m", MODEL, "--memory", "200k")


@unittest.skipIf(support.OPTIONS.sanitized, "sanitizers take memory of their own")
class Resident(ProgramTest):
    """Runs a command with a budget, inside a cgroup of that budget and the allowed 64 MB."""

    def stays_inside(self, budget_mb, *arguments, out=None):
        limit = budget_mb * 1_000_000 + SLACK
        cgroup, self.no_cgroup = memory_cgroup.make(limit)
        try:
            outcome = venturi(*arguments, "--memory", f"{budget_mb}M", before_exec=cgroup.join if cgroup else None)
            self.assertEqual(outcome.code, 0, f"{arguments}: {outcome}")
            if out is not None:
                self.assertEqual(outcome.out, out, "the budget changed the answer")
            if cgroup and cgroup.peak() is not None:
                self.assertGreater(cgroup.peak(), 0, "the process was not in the cgroup")
        finally:
            if cgroup:
                cgroup.remove()
        self.assertLessEqual(outcome.peak_rss, limit,
                             f"{arguments}: {outcome.peak_rss / 1e6:.0f} MB resident, budget {budget_mb} MB")
        return outcome.peak_rss

    def tearDown(self):
        if self.no_cgroup:
            self.skipTest(f"the peak is within the budget, but no kernel held it there: {self.no_cgroup}")

    no_cgroup = ""

    def least_budget_mb(self, *arguments):
        message = self.fails(3, *arguments, "--memory", "200k")
        return int(re.search(r"--memory (\d+)M", message).group(1))

    def test_embedded_model(self):
        run = ["run", "-m", MODEL, "-p", "It was the best of times", "-n", 64, "--temp", 0]
        self.stays_inside(self.least_budget_mb(*run), *run)
        self.stays_inside(16, *run, "-c", 1024)
        self.stays_inside(24, "eval", "-m", MODEL, "-p", "It was the best of times. " * 400, "--ctx", 256)

    def test_spilled_state(self):
        with tempfile.TemporaryDirectory() as folder:
            run = ["run", "-m", MODEL, "-p", "It was the best of times. " * 600, "-n", 16, "--temp", 0, "-c", 16384, "-b", 64]
            wanted = self.succeeds(*run).out
            self.stays_inside(9, *run, "--spill", folder, out=wanted)

    def test_larger_models(self):
        if not GENERATOR.exists():
            self.skipTest(f"no {GENERATOR}")
        with tempfile.TemporaryDirectory() as folder:
            for shape, layers, kind in (("test-15m", 6, "f16"), ("qwen2.5-0.5b", 6, "q8_0")):
                model = Path(folder) / f"{shape}.gguf"
                write_model(model, shape, layers, kind)
                run = ["run", "-m", model, "-p", "It was the best of times", "-n", 8]
                size_mb = model.stat().st_size // 1_000_000
                wanted = self.succeeds(*run, "--temp", 0).out
                # From the least, where nearly all of it is streamed, up to one that holds it all.
                for budget in (self.least_budget_mb(*run), size_mb // 2, size_mb - 10, size_mb + 100):
                    with self.subTest(model=shape, budget_mb=budget):
                        peak = self.stays_inside(budget, *run, "--temp", 0, out=wanted)
                        # The budget is made use of.
                        self.assertGreater(peak, 0.75 * min(budget, size_mb) * 1e6)
                model.unlink()


class Cgroups(unittest.TestCase):
    def test_parents_of_version_2(self):
        mount = Path("/sys/fs/cgroup")
        self.assertEqual(memory_cgroup.v2_parents("12:cpu:/x\n0::/a.slice/b.scope\n", mount),
                         [mount / "a.slice/b.scope", mount / "a.slice", mount])
        self.assertEqual(memory_cgroup.v2_parents("0::/\n", mount), [mount])
        self.assertEqual(memory_cgroup.v2_parents("", mount), [mount])

    def test_files_of_version_2(self):
        """On folders that look like a hierarchy: what is written where, and what is told where there is no controller."""
        with tempfile.TemporaryDirectory() as folder:
            mount = Path(folder)
            for place, controllers, handed_on in ((mount, "cpu memory", "cpu memory"), (mount / "own", "cpu", "")):
                place.mkdir(exist_ok=True)
                (place / "cgroup.controllers").write_text(controllers)
                (place / "cgroup.subtree_control").write_text(handed_on)
            cgroup = memory_cgroup._make_v2(mount, "0::/own\n", "test", 1234)
            self.assertEqual(cgroup.folder, mount / "test")
            self.assertEqual((mount / "test/memory.max").read_text(), "1234")
            self.assertIsNone(cgroup.peak())
            (mount / "cgroup.controllers").write_text("cpu")
            with self.assertRaisesRegex(OSError, "no memory controller.*no memory controller"):
                memory_cgroup._make_v2(mount, "0::/own\n", "again", 1)


if __name__ == "__main__":
    support.main()
