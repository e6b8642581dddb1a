"""The Makefile and the scripts: they parse, and the package script does no more than it must."""
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import support
from support import SOURCE

INSTALL = SOURCE / "scripts" / "install-deps.sh"

FAKE_DPKG_QUERY = """#!/bin/bash
for missing in $MISSING; do [[ ${@: -1} == "$missing" ]] && exit 1; done
echo installed
"""
# Knows packages once it has been updated, or from the start if LISTS is set; records its calls.
FAKE_APT = """#!/bin/bash
echo "$(basename $0) $*" >> "$CALLS"
case $(basename $0) in
  apt-cache) [[ $LISTS ]] || grep -q update "$CALLS" ;;
  apt-get) [[ " $* " != *" install "* || ! $STALE ]] || grep -q update "$CALLS" ;;
esac
"""
FAKE_SUDO = '#!/bin/bash\nexec "$@"\n'


class Scripts(unittest.TestCase):
    def test_scripts_are_executable_and_parse(self):
        scripts = sorted((SOURCE / "scripts").glob("*.sh")) + [SOURCE / ".ci" / "run"]
        self.assertGreaterEqual(len(scripts), 3)
        for script in scripts:
            with self.subTest(script=script.name):
                self.assertTrue(os.access(script, os.X_OK))
                done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
                self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_make_knows_its_targets(self):
        for target in ("help", "run", "test", "build", "soak", "bench", "fuzz", "clean", "format"):
            with self.subTest(target=target):
                subprocess.run(["make", "-n", "-C", SOURCE, target], check=True, capture_output=True)

    def test_the_ci_entry_runs_the_tests(self):
        self.assertIn("make test", (SOURCE / ".ci" / "run").read_text())
        self.assertIn("install-deps.sh --clients", (SOURCE / ".ci" / "run").read_text())


class InstallDeps(unittest.TestCase):
    def run_script(self, *arguments, **variables):
        """With stand-ins for dpkg-query, apt-get, apt-cache and sudo; returns the outcome and apt's calls."""
        with tempfile.TemporaryDirectory() as folder:
            tools = Path(folder) / "bin"
            tools.mkdir()
            for name, text in (("dpkg-query", FAKE_DPKG_QUERY), ("apt-get", FAKE_APT), ("apt-cache", FAKE_APT),
                               ("sudo", FAKE_SUDO)):
                (tools / name).write_text(text)
                (tools / name).chmod(0o755)
            calls = Path(folder) / "calls"
            calls.touch()
            path = f"{tools}:{os.environ['PATH']}:{variables.pop('PATH_END', '')}"
            environment = {**os.environ, "PATH": path, "CALLS": str(calls), **variables}
            done = subprocess.run([INSTALL, *arguments], capture_output=True, text=True, env=environment)
            return done, [c for c in calls.read_text().splitlines() if c.startswith("apt-get")]

    def test_with_everything_installed_it_asks_apt_nothing(self):
        done, calls = self.run_script()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(calls, [])

    def test_it_installs_only_what_is_missing_and_says_why(self):
        done, calls = self.run_script(MISSING="libpcre2-dev ccache", LISTS="1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(calls), 1, calls)
        self.assertTrue(calls[0].endswith("install -y --no-install-recommends ccache libpcre2-dev"), calls)
        self.assertRegex(done.stdout, r"libpcre2-dev +\w+ \w+")

    def test_it_updates_the_lists_when_they_are_absent_or_stale(self):
        for variables in ({}, {"LISTS": "1", "STALE": "1"}):
            with self.subTest(variables=variables):
                done, calls = self.run_script(MISSING="libpcre2-dev", **variables)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(sum("update" in call for call in calls), 1, calls)
                self.assertIn("install", calls[-1])

    def test_an_npm_from_elsewhere_is_enough(self):
        with tempfile.TemporaryDirectory() as folder:
            npm = Path(folder) / "npm"
            npm.symlink_to("/bin/true")
            done, calls = self.run_script("--clients", MISSING="npm", PATH_END=str(folder))
            self.assertEqual((done.returncode, calls), (0, []), done.stderr)

    def test_every_package_has_a_reason(self):
        done, calls = self.run_script("--list", "--soak")
        self.assertEqual(calls, [])
        rows = [line.split(None, 1) for line in done.stdout.splitlines()]
        self.assertGreater(len(rows), 15)
        for row in rows:
            with self.subTest(package=row[0]):
                self.assertGreater(len(row[1]), 8)

    def test_an_unknown_flag_is_refused(self):
        done, _ = self.run_script("--everything")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--soak", done.stderr)


if __name__ == "__main__":
    support.main()
