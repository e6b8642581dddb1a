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
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        installed(cls.folder.name)
        cls.keys = tempfile.NamedTemporaryFile("w")
        cls.addClassCleanup(cls.keys.close)
        cls.keys.write("the-key\n")
        cls.keys.flush()

    def drive(self, script, environment, cancelled, **options):
        flags = options.pop("flags", ("--alias", "tiny"))
        server = Server("--streams", 4, *flags, "--api-key-file", self.keys.name, **{"context": 768, **options})
        try:
            shutil.copy(CLIENTS / script, self.folder.name)
            done = subprocess.run(["node", Path(self.folder.name) / script], capture_output=True, text=True, timeout=120,
                                  env={**os.environ, **{k: v.format(port=server.port) for k, v in environment.items()}})
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(json.loads(done.stdout)["text"])
            # What was aborted or stopped gives its place back.
            text = server.ask("GET", "/metrics", headers={"Authorization": "Bearer the-key"})[1]
            self.assertRegex(text, rf'venturi_requests_cancelled_total\{{.*\}} {cancelled}\n')
        finally:
            self.assertEqual(server.stop(), 0)

    def test_openai(self):
        self.drive("openai_client.mjs", {"OPENAI_BASE_URL": "http://127.0.0.1:{port}/v1", "OPENAI_API_KEY": "the-key"}, "[12]")

    def test_openai_embeddings(self):
        self.drive("openai_embeddings_client.mjs", {"OPENAI_BASE_URL": "http://127.0.0.1:{port}/v1", "OPENAI_API_KEY": "the-key"}, "0",
                   model=support.SOURCE / "tests/data/models/bert-mean.gguf", context=64)

    def test_openai_with_several_models(self):
        tiny = support.MODEL
        self.drive("openai_models_client.mjs", {"OPENAI_BASE_URL": "http://127.0.0.1:{port}/v1", "OPENAI_API_KEY": "the-key"}, "0",
                   model=f"one={tiny}", flags=("-m", f"two={tiny}"))

    def test_anthropic(self):
        self.drive("anthropic_client.mjs",
                   {"ANTHROPIC_BASE_URL": "http://127.0.0.1:{port}", "ANTHROPIC_API_KEY": "the-key", "MODEL_NAME": "tiny"}, "[123]")


if __name__ == "__main__":
    support.main()
