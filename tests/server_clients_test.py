"""The official clients against venturi serve. Needs node and npm, which fetches them; skips and says so without."""
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import support
from server_test import Server

CLIENTS = support.SOURCE / "tests" / "clients"


def installed(folder):
    """The clients under `folder`, as the lock file names them; skips the test where that cannot be had."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise unittest.SkipTest("no node and npm (Debian: apt-get install nodejs npm)")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(CLIENTS / name, folder)
    done = subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise unittest.SkipTest(f"npm ci failed: {done.stderr[-300:]}")


class Clients(unittest.TestCase):
    def test_openai(self):
        with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile("w") as keys:
            installed(folder)
            shutil.copy(CLIENTS / "openai_client.mjs", folder)
            keys.write("the-key\n")
            keys.flush()
            server = Server("--streams", 4, "--api-key-file", keys.name)
            try:
                done = subprocess.run(["node", Path(folder) / "openai_client.mjs"], capture_output=True, text=True, timeout=120,
                                      env={**os.environ, "OPENAI_BASE_URL": f"http://127.0.0.1:{server.port}/v1", "OPENAI_API_KEY": "the-key"})
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertTrue(json.loads(done.stdout)["text"])
                # The aborted ones gave their places back.
                headers = {"Authorization": "Bearer the-key"}
                text = server.ask("GET", "/metrics", headers=headers)[1]
                self.assertRegex(text, r'venturi:requests_cancelled_total\{.*\} [12]\n')
            finally:
                self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    support.main()
