"""Every way of serving, under bursts from `venturi loadtest`, beside clients that vanish, stop early and ask for
odd things: all that was sent is answered, nothing is left over, and the end is clean. With ThreadSanitizer
(scripts/soak.sh) this is where races show.

LOAD_SECONDS is how long each goes on."""
import contextlib
import json
import os
import random
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

import support
from server_test import PROMPT, Server
from serving_test import request_bytes, vanish

SECONDS = float(os.environ.get("LOAD_SECONDS", "3"))
MODELS = support.SOURCE / "tests" / "data" / "models"
LOOP = "the house and the road, the house and the road, the house and the"


def odd_request(draws):
    """(path, body) of something else than a plain completion."""
    kind = draws.randrange(7)
    if kind == 0:
        schema = {"type": "object", "properties": {"name": {"enum": ["Ann", "Bob"]}}, "required": ["name"], "additionalProperties": False}
        return "/v1/chat/completions", {"messages": [{"role": "user", "content": "Who?"}], "max_tokens": 30,
                                        "response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": schema}}}
    if kind == 1:
        return "/v1/completions", {"prompt": LOOP, "max_tokens": 20, "temperature": 0, "n": 3, "logprobs": 5}
    if kind == 2:
        return "/v1/completions", {"prompt": PROMPT, "max_tokens": 40, "stop": ["a", "e"]}
    if kind == 3:
        return "/v1/messages", {"messages": [{"role": "user", "content": LOOP}], "max_tokens": 12}
    if kind == 4:
        return "/api/generate", {"prompt": PROMPT, "options": {"num_predict": 8}}
    if kind == 5:
        return "/tokenize", {"content": LOOP}
    return "/v1/completions", {"prompt": [PROMPT, LOOP], "max_tokens": 4, "echo": True}


class Disturbance:
    """Threads that vanish, ask for odd things and look at the metrics, until told to end. What they find wrong is kept."""

    def __init__(self, server, paths):
        self.server, self.over, self.wrong, self.counts = server, threading.Event(), [], {}
        self.threads = [threading.Thread(target=self.repeat, args=(act, seed)) for seed, act in enumerate(paths)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def repeat(self, act, seed):
        draws = random.Random(seed)
        while not self.over.is_set():
            try:
                act(self, draws)
                self.counts[act.__name__] = self.counts.get(act.__name__, 0) + 1
            except Exception as e:  # to be told by the test, whatever it is
                self.wrong.append(f"{act.__name__}: {e!r}")
                return

    def go(self, draws):
        body = {"prompt": draws.choice([PROMPT, " ".join([LOOP] * 8)]), "max_tokens": 100, "ignore_eos": True, "stream": draws.random() < 0.7,
                "n": draws.choice([1, 1, 3])}
        vanish(self.server.port, request_bytes(body), draws)

    def ask(self, draws):
        path, body = odd_request(draws)
        status, answer, _ = self.server.ask("POST", path, body)
        assert status in (200, 429), (path, status, answer)

    def look(self, draws):
        for path in draws.choice([("/metrics",), ("/health", "/v1/models"), ("/",)]):
            assert self.server.ask("GET", path)[0] == 200, path
        time.sleep(0.01)

    def embed(self, draws):
        body = {"input": ["a b" * draws.randint(1, 5) for _ in range(draws.randint(1, 20))]}
        if draws.random() < 0.4:
            return vanish(self.server.port, request_bytes(body, path="/v1/embeddings"), draws)
        status, answer, _ = self.server.ask("POST", "/v1/embeddings", body)
        assert status in (200, 429) and (status == 429 or len(answer["data"]) == len(body["input"])), answer


class UnderLoad(unittest.TestCase):
    def loadtest(self, server, *flags, rate=30):
        """One report after another until the time is over."""
        deadline, answered = time.monotonic() + SECONDS, 0
        while True:
            command = ["loadtest", f"http://127.0.0.1:{server.port}", "--json", "--rate", rate, "-n", max(10, int(rate * min(SECONDS, 20) / 2)),
                       "--burst-shape", 0.3, "--prompt-max", 60, "--output-max", 24, "--seed", answered, *flags]
            outcome = support.venturi(*command)
            self.assertEqual(outcome.code, 0, outcome)
            report = json.loads(outcome.out)
            # The queue is long enough for what is sent, so nothing but a predicted wait may refuse.
            self.assertEqual(report["answered"] + report["errors"].get("http 429", 0), report["requests"], report["errors"])
            self.assertGreater(report["answered"], 0)
            answered += report["answered"]
            if time.monotonic() > deadline:
                return answered

    def under_load(self, *flags, load=(), model=support.MODEL, context=256, rate=30, disturbances=(Disturbance.go, Disturbance.ask, Disturbance.look)):
        server = Server("--streams", 8, *flags, model=model, context=context)
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: self.assertEqual(server.stop(), 0))
            with Disturbance(server, disturbances) as disturbance:
                self.loadtest(server, *load, rate=rate)
            self.assertEqual(disturbance.wrong, [])
            self.assertEqual(len(disturbance.counts), len(disturbances))
            self.assertTrue(server.settles(60))
            self.assertEqual(server.metric("vllm:kv_cache_usage_perc"), 0)
            measured = server.ask("GET", "/metrics")[1]
        return measured

    def test_plain(self):
        self.under_load()
        self.under_load(load=["--api", "chat", "--turns", 3, "--turn-gap", 0.1, "--history", 120])

    def test_state_that_gives_way(self):
        with tempfile.TemporaryDirectory() as folder:
            for flags in ([], ["--spill", folder]):
                with self.subTest(flags=flags):
                    measured = self.under_load("--state-memory", "600K", *flags, load=["--output-tokens", 60])
                    self.assertNotRegex(measured, r'(?m)^vllm:num_preemptions_total\{.*\} 0$')

    def test_guesses(self):
        for flags in (["--lookup"], ["--lookup", "--draft-model", support.MODEL]):
            with self.subTest(flags=flags):
                self.under_load(*flags)

    def test_weights_from_the_disk(self):
        self.under_load("--pin", "1M", rate=10)

    def test_experts_from_the_disk(self):
        self.under_load("--expert-slots", 6, model=MODELS / "qwen2moe-plain.gguf", context=1024, rate=10,
                        load=["--prompt-tokens", 10, "--output-tokens", 8], disturbances=(Disturbance.look,))

    def test_embeddings(self):
        server = Server("--streams", 4, model=MODELS / "bert-mean.gguf", context=64)
        try:
            with Disturbance(server, [Disturbance.embed] * 4 + [Disturbance.look]) as disturbance:
                time.sleep(SECONDS)
            self.assertEqual(disturbance.wrong, [])
            self.assertGreater(disturbance.counts.get("embed", 0), 4)
        finally:
            self.assertEqual(server.stop(), 0)

    def test_the_end_comes_amid_it(self):
        with tempfile.TemporaryDirectory() as folder:
            for wait in (0, 0.2, 30):
                with self.subTest(drain_seconds=wait):
                    server = Server("--streams", 4, "--lookup", "--state-memory", "600K", "--spill", folder, "--drain-seconds", wait)
                    loads = [subprocess.Popen([str(support.VENTURI), "loadtest", f"http://127.0.0.1:{server.port}", "--json", "--rate", "100", "-n", "60",
                                               "--prompt-tokens", "20", "--output-tokens", "30"], stdout=subprocess.DEVNULL,
                                              stderr=subprocess.DEVNULL, env=support.clean_environment()) for _ in range(2)]
                    time.sleep(1)
                    begin = time.monotonic()
                    self.assertEqual(server.stop(), 0)
                    self.assertLess(time.monotonic() - begin, wait + 15)
                    for load in loads:
                        self.assertIn(load.wait(60), (0, 1))  # 66 would be a sanitizer's


if __name__ == "__main__":
    support.main()
